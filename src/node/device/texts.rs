//! What a device tells its application of a session that is over, or that it did not get.

use crate::{
    link::{Closing, Why},
    status::{Fault, Status},
    wire::link::Refusal,
};

pub(super) fn fault(why: Why) -> Fault {
    let (status, detail) = match why {
        Why::Closed(Closing::Revoked) => {
            (Status::Refused, "the credential was revoked: enrol the device again")
        }
        Why::Closed(Closing::Replaced) | Why::Replaced => {
            (Status::Closed, "the device logged in elsewhere with the same credential")
        }
        Why::Closed(Closing::Drained) => (Status::Closed, "the office is about to stop"),
        Why::Closed(_) => (Status::Closed, "the office closed the session"),
        Why::Silent => (Status::Timeout, "nothing came from the office any more"),
        Why::Unreachable | Why::Stalled => (Status::Timeout, "the office acknowledged nothing any more"),
        Why::Reset => (Status::Closed, "the office does not have the session any more"),
        Why::Rekey => (Status::Closed, "new keys could not be agreed"),
    };
    Fault::new(status, detail)
}

pub(super) fn refused(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Unknown => "the credential is not known, revoked or over: enrol the device again",
        Refusal::Full => "the office takes no more sessions now",
        Refusal::OtherKey => "the office has another key than this device was given",
        Refusal::Version => "the office speaks another version of the link",
        Refusal::Ticket | Refusal::Other(_) => "the office says no",
    }
}
