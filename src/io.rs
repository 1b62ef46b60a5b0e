//! What a part and whoever drives it say to each other. The driver, the simulator, fuzzers and benchmarks all speak
//! this, so a part cannot tell which of them it lives in.
//!
//! The one rule of a turn: after every input, pull outputs until there is none, then ask for the deadline.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use crate::{status::Fault, store::Batch};

/// A socket of ours, for as long as it is open: a stream, a connected datagram socket, or a listening datagram
/// socket whose peers differ by address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Conn(pub u32);

impl Conn {
    /// Set in the names that a part gives (for [`Output::Connect`], [`Output::Reach`]); clear in those that the driver gives.
    pub const OURS: u32 = 1 << 31;
}

/// How octets travel on a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// In order and whole, without boundaries: TCP, TLS.
    Stream,
    /// With boundaries, and possibly lost, doubled or out of order: UDP.
    Datagram,
}

/// What is spoken on a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Service {
    /// The gateway protocol: the publication's octets.
    Gateway,
    /// The secure link: datagrams, or on a stream each with its length before it.
    Link,
    /// The text form that applications of the post office speak.
    App,
    /// The binary links between the roles of a post office.
    Inner,
    /// HTTP: health and metrics for monitors, and questions to an authentication server.
    Http,
}

impl Service {
    /// Its name in TLS (RFC 7301; DECISIONS 3).
    pub const fn alpn(self) -> &'static str {
        match self {
            Service::Gateway => "hail-gw/1",
            Service::Link => "hail-link/1",
            Service::App => "hail-app/1",
            Service::Inner => "hail-in/1",
            Service::Http => "http/1.1",
        }
    }

    /// What a name in TLS stands for, if it is one of ours.
    pub fn from_alpn(name: &str) -> Option<Service> {
        [Service::Gateway, Service::Link, Service::App, Service::Inner, Service::Http]
            .into_iter()
            .find(|service| service.alpn() == name)
    }
}

/// A key's name: SHA-256 over its SubjectPublicKeyInfo. Who holds the key has proven so before a part sees this.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 32]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl std::str::FromStr for KeyId {
    type Err = Fault;

    fn from_str(text: &str) -> Result<KeyId, Fault> {
        let mut key = [0; 32];
        let digits = text.as_bytes();
        let fault = || Fault::new(crate::status::Status::Invalid, "a key id is 64 hexadecimal digits");
        if digits.len() != 64 {
            return Err(fault());
        }
        for (octet, pair) in key.iter_mut().zip(digits.chunks(2)) {
            let digit = |at: u8| char::from(at).to_digit(16).ok_or_else(fault);
            *octet = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        Ok(KeyId(key))
    }
}

/// Who is at the other end, as far as the transport knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Stream or datagrams.
    pub transport: Transport,
    /// Our address on this connection.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
    /// The key that the peer proved to hold; `None` on a transport that proves nothing.
    pub key: Option<KeyId>,
    /// What is spoken: as agreed by ALPN under TLS, else what the listener or the remote is for.
    pub service: Service,
}

/// Whom an address stands for where strangers have a share each: itself, or for IPv6 its network of 64 bits, which one host
/// has to itself.
pub(crate) fn holder(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::from((v6.to_bits() & !u128::from(u64::MAX)).to_be_bytes()),
        v4 => v4,
    }
}

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// A peer connected to one of our listeners, or a datagram listener was opened.
    Accepted {
        /// Named by the driver.
        conn: Conn,
        /// For a datagram listener `remote` is unspecified.
        peer: Peer,
    },
    /// What [`Output::Connect`] or [`Output::Reach`] asked for is there.
    Connected {
        /// As the part named it.
        conn: Conn,
        /// Who answered.
        peer: Peer,
    },
    /// Octets came.
    Received {
        /// On which socket.
        conn: Conn,
        /// From whom, on a listening datagram socket.
        from: Option<SocketAddr>,
        /// A piece of a stream, or one datagram.
        octets: &'a [u8],
    },
    /// The connection is gone, or never came to be. Not said after the part itself closed it.
    Closed {
        /// Which.
        conn: Conn,
        /// Why; `None` when the peer ended it in order.
        fault: Option<Fault>,
    },
    /// Every batch up to this ticket is durable.
    Stored {
        /// The last ticket that is.
        through: u64,
    },
    /// The network is another, or back: what waits for a pause need not.
    NetworkChanged,
    /// The wall clock was set: it is this Unix second now.
    Clock {
        /// Seconds since 1970.
        unix: u64,
    },
    /// The deadline has come.
    Deadline,
}

/// What a part wants done.
#[derive(Debug)]
pub enum Output<E> {
    /// Open a connection to a configured peer, under this name.
    Connect {
        /// Has [`Conn::OURS`] set.
        conn: Conn,
        /// Which of the node's remotes, from 0: a device has `hail://` and then `tls://`. One that is not there is
        /// answered by [`Input::Closed`].
        way: usize,
    },
    /// Open a connection to an address that the part was given by a peer whom it trusts, for datagrams of the link, under this
    /// name.
    Reach {
        /// Has [`Conn::OURS`] set.
        conn: Conn,
        /// Where.
        to: SocketAddr,
    },
    /// Send octets: the next of a stream, or one datagram.
    Send {
        /// On which socket.
        conn: Conn,
        /// To whom, on a listening datagram socket.
        to: Option<SocketAddr>,
        /// What.
        octets: Vec<u8>,
    },
    /// Send what is queued, then close.
    Close {
        /// Which.
        conn: Conn,
    },
    /// Make this durable, then say [`Input::Stored`].
    Store(Batch),
    /// Tell the application.
    Event(E),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_known_by_its_name_in_tls() {
        for service in [Service::Gateway, Service::Link, Service::App, Service::Inner, Service::Http] {
            assert_eq!(Service::from_alpn(service.alpn()), Some(service));
        }
        assert_eq!(Service::from_alpn("h2"), None);
    }

    #[test]
    fn a_host_has_one_share_whatever_address_it_takes() {
        let of = |text: &str| holder(text.parse().expect("an address"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    }
}
