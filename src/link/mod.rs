//! Both ends of the link, `hail://`: an authenticated, encrypted conversation in datagrams that hands up each message once,
//! whole and in order, without sockets or clock.
//!
//! [`Client`] is a device's end: one session, kept up. [`Server`] is the other: as many sessions as there is memory, 148
//! octets for each that is idle. What travels is in `docs/link-protocol.md`; a driver carries datagrams over UDP, or over TLS
//! with their length before them.
#![forbid(unsafe_code)]

mod backoff;
mod balance;
mod client;
mod cookie;
mod framing;
mod handshake;
mod keys;
mod primitives;
mod reliable;
mod server;
pub(crate) mod share;
mod ticket;
mod window;

#[cfg(feature = "device")]
pub(crate) use backoff::Backoff;
pub use balance::{
    Answerer, AnswererConfig, AnswererCounters, Asker, AskerCounters, AskerEvent, AskerOutput,
};
pub use client::{
    Client, ClientConfig, ClientCounters, Event as ClientEvent, Output as ClientOutput, Resumption, Silences,
};
pub use framing::{Deframer, NoDatagram, framed};
pub use handshake::public_key;
pub use server::{
    Credential, Input as ServerInput, Output as ServerOutput, Server, ServerConfig, ServerCounters,
    ServerSecrets, Session,
};
pub use ticket::TicketRoot;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Where datagrams come from and go to, at the server. An IPv4 address in its IPv6 form comes back as IPv4, and of an IPv6
/// address the scope is not kept, so link-local addresses cannot be answered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Path {
    /// An address, on the datagram socket.
    Datagram(SocketAddr),
    /// A stream, by a number that the driver gave and gives to no other.
    Stream(u64),
}

impl Path {
    /// As a session keeps it: an address and a port, IPv4 in its IPv6 form, a stream in the discard prefix (RFC 6666).
    fn octets(self) -> ([u8; 16], u16) {
        match self {
            Path::Datagram(address) => match address.ip() {
                IpAddr::V4(ip) => (ip.to_ipv6_mapped().octets(), address.port()),
                IpAddr::V6(ip) => (ip.octets(), address.port()),
            },
            Path::Stream(number) => {
                let mut octets = [0; 16];
                octets[0] = 1;
                octets[8..].copy_from_slice(&number.to_be_bytes());
                (octets, 0)
            }
        }
    }

    fn of((octets, port): ([u8; 16], u16)) -> Path {
        if octets[..8] == [1, 0, 0, 0, 0, 0, 0, 0] && port == 0 {
            let number = octets[8..].try_into().expect("half of sixteen octets");
            return Path::Stream(u64::from_be_bytes(number));
        }
        Path::Datagram(SocketAddr::new(Ipv6Addr::from(octets).to_canonical(), port))
    }
}

/// Why an end closes a session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Closing {
    /// It has done what it came for.
    Done,
    /// The credential is revoked.
    Revoked,
    /// A newer session of the same device took its place.
    Replaced,
    /// The server drains: log in elsewhere.
    Drained,
    /// The server has no room.
    Full,
    /// A reason that this version does not know.
    Other(u16),
}

impl Closing {
    pub(crate) const fn number(self) -> u16 {
        match self {
            Closing::Done => 0,
            Closing::Revoked => 1,
            Closing::Replaced => 2,
            Closing::Drained => 3,
            Closing::Full => 4,
            Closing::Other(number) => number,
        }
    }

    pub(crate) const fn of(number: u16) -> Closing {
        match number {
            0 => Closing::Done,
            1 => Closing::Revoked,
            2 => Closing::Replaced,
            3 => Closing::Drained,
            4 => Closing::Full,
            other => Closing::Other(other),
        }
    }

    /// Reads a close frame's data.
    fn read(data: &[u8]) -> Closing {
        data.first_chunk().map_or(Closing::Done, |reason| Closing::of(u16::from_be_bytes(*reason)))
    }
}

/// Why a session is over.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Why {
    /// The peer closed it, or at a server a revocation did.
    Closed(Closing),
    /// Nothing came for too long.
    Silent,
    /// Nothing was acknowledged for too long.
    Unreachable,
    /// The peer began messages and did not end them.
    Stalled,
    /// A newer session of the same principal took its place.
    Replaced,
    /// The server does not have it any more.
    Reset,
    /// New keys could not be agreed.
    Rekey,
}

impl From<reliable::Failure> for Why {
    fn from(failure: reliable::Failure) -> Why {
        match failure {
            reliable::Failure::Unreachable => Why::Unreachable,
            reliable::Failure::Stalled => Why::Stalled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_kept_in_eighteen_octets() {
        for path in [
            Path::Datagram("192.0.2.1:7".parse().unwrap()),
            Path::Datagram("[2001:db8::1]:65535".parse().unwrap()),
            Path::Datagram("[100::7]:1".parse().unwrap()),
            Path::Stream(0),
            Path::Stream(u64::MAX),
        ] {
            assert_eq!(Path::of(path.octets()), path);
        }
        let mapped = Path::Datagram("[::ffff:192.0.2.1]:7".parse().unwrap());
        assert_eq!(Path::of(mapped.octets()), Path::Datagram("192.0.2.1:7".parse().unwrap()));
    }
}
