//! Both ends of the link, `hail://`: an authenticated, encrypted conversation in datagrams that hands up each message once,
//! whole and in order, without sockets or clock.
//!
//! [`Client`] is a device's end: one session, kept up. [`Server`] is the other: as many sessions as there is memory, 148
//! octets for each that is idle. What travels is in `docs/link-protocol.md`; a driver carries datagrams over UDP, or over TLS
//! with their length before them.
#![forbid(unsafe_code)]

mod cookie;
mod handshake;
mod keys;
mod reliable;
mod ticket;
mod window;

pub use handshake::public_key;
pub use ticket::TicketRoot;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Where datagrams come from and go to, at the server.
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
    }
}
