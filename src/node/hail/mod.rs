//! Sessions of the link, `hail://`, in the place of connections: a part that speaks over streams speaks over them unchanged.
//!
//! [`Dialled`] is the one session of who connects, [`Sessions`] are those of who listens. A node hands either what the driver
//! says and what its part wants, and takes from it what is for the driver ([`Said::Output`]) and for the part ([`Said::Input`]).
//! To the part a session is a stream ([`Transport::Stream`]) whose peer has proved a key; each message of the link is the
//! next piece of it.
//!
//! [`Transport::Stream`]: crate::io::Transport::Stream

#[cfg(feature = "backend")]
mod accepted;
mod dialled;
#[cfg(all(test, feature = "backend"))]
mod tests;

#[cfg(feature = "backend")]
pub use accepted::LinkCredential;
#[cfg(feature = "backend")]
pub(super) use accepted::Sessions;
pub(super) use dialled::{Dialled, Unknown};

use super::Event;
use crate::{
    io::{Conn, Input, Output, Peer},
    link::{Closing, Why},
    status::{Fault, Status},
};

/// What a session has to say.
pub(super) enum Said<Own> {
    /// To the driver.
    Output(Output<Event>),
    /// To the part.
    Input(Heard),
    /// To the node, what only this end has.
    Own(Own),
}

/// An [`Input`] that holds its octets.
pub(super) enum Heard {
    #[cfg(feature = "backend")]
    Accepted(Conn, Peer),
    Connected(Conn, Peer),
    Received(Conn, Vec<u8>),
    Closed(Conn, Fault),
    NetworkChanged,
}

impl Heard {
    /// As a part takes it.
    pub fn input(&self) -> Input<'_> {
        match self {
            #[cfg(feature = "backend")]
            Heard::Accepted(conn, peer) => Input::Accepted { conn: *conn, peer: *peer },
            Heard::Connected(conn, peer) => Input::Connected { conn: *conn, peer: *peer },
            Heard::Received(conn, octets) => Input::Received { conn: *conn, from: None, octets },
            Heard::Closed(conn, fault) => Input::Closed { conn: *conn, fault: Some(fault.clone()) },
            Heard::NetworkChanged => Input::NetworkChanged,
        }
    }
}

/// Why a session is over, as either end says it.
fn fault(why: Why) -> Fault {
    let (status, detail) = match why {
        Why::Closed(Closing::Replaced) | Why::Replaced => {
            (Status::Closed, "another session of the same credential took its place")
        }
        Why::Closed(Closing::Full) => (Status::Full, "too much waited in the session"),
        Why::Closed(_) => (Status::Closed, "the session was closed by the other end"),
        Why::Silent => (Status::Timeout, "nothing came in the session any more"),
        Why::Unreachable | Why::Stalled => (Status::Timeout, "the session acknowledged nothing any more"),
        Why::Reset => (Status::Closed, "the other end does not have the session any more"),
        Why::Rekey => (Status::Closed, "new keys could not be agreed"),
    };
    Fault::new(status, detail)
}
