//! The repeated parts of bodies: records, rules, words.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{AppId, Family};

/// One identification result: whose flow belongs to which application (CN103259713A figure 10).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Record {
    /// The application.
    pub app: AppId,
    /// The end inside the gateway's network.
    pub local: SocketAddr,
    /// The end outside.
    pub remote: SocketAddr,
    /// 0 any, 1 TCP, 2 UDP, 3 ICMP, 4 SCTP, 5 ICMPv6, 6 UDP-Lite, 7 DCCP, 15 other (SPEC R-07). Four bits.
    pub protocol: u8,
    /// Four bits; bit 0 may say "verified by the user" (SPEC R-16).
    pub reserved1: u8,
    /// May hold a confidence, 0-255.
    pub reserved2: u8,
    /// May hold a DSCP.
    pub reserved3: u16,
}

impl Record {
    pub(super) fn read(family: Family, octets: &[u8]) -> Record {
        let width = family.address_len();
        let ports = 4 + 2 * width;
        let bits = octets[ports + 4];
        Record {
            app: AppId(u32_at(octets, 0)),
            local: SocketAddr::new(address_at(family, octets, 4), u16_at(octets, ports)),
            remote: SocketAddr::new(address_at(family, octets, 4 + width), u16_at(octets, ports + 2)),
            protocol: bits >> 4,
            reserved1: bits & 0x0f,
            reserved2: octets[ports + 5],
            reserved3: u16_at(octets, ports + 6),
        }
    }

    /// Appends the record; the caller made sure that both addresses fit the family.
    pub(super) fn write(&self, family: Family, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.app.0.to_be_bytes());
        push_address(family, self.local.ip(), out);
        push_address(family, self.remote.ip(), out);
        out.extend_from_slice(&self.local.port().to_be_bytes());
        out.extend_from_slice(&self.remote.port().to_be_bytes());
        out.extend_from_slice(&[self.protocol << 4 | self.reserved1 & 0x0f, self.reserved2]);
        out.extend_from_slice(&self.reserved3.to_be_bytes());
    }
}

/// One identification rule: an application and the pattern that betrays it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Rule<'a> {
    /// The application.
    pub app: AppId,
    /// Octet regex, at most 1023 octets without NUL. Empty: every rule of `app` is withdrawn (SPEC R-14).
    pub pattern: &'a [u8],
}

/// The records of a result sync.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Records<'a> {
    pub(super) family: Family,
    pub(super) octets: &'a [u8],
}

impl<'a> Records<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.octets.len() / self.family.record_len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// In the order of the message.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Record> + 'a {
        let family = self.family;
        self.octets.chunks_exact(family.record_len()).map(move |octets| Record::read(family, octets))
    }
}

/// The rules of a rule sync. Their framing was checked when the message was decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules<'a> {
    pub(super) count: u16,
    pub(super) octets: &'a [u8],
}

impl<'a> Rules<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// In the order of the message.
    pub fn iter(&self) -> impl Iterator<Item = Rule<'a>> + 'a {
        let mut rest = self.octets;
        std::iter::from_fn(move || {
            let pattern = rest.get(4..)?;
            let len = pattern.iter().position(|&octet| octet == 0)?;
            let app = AppId(u32_at(rest, 0));
            rest = rest.get(4 + (len + 1).next_multiple_of(4)..).unwrap_or_default();
            Some(Rule { app, pattern: &pattern[..len] })
        })
    }
}

/// The 32-bit words of features or parameters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Words<'a> {
    pub(super) octets: &'a [u8],
}

impl<'a> Words<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.octets.len() / 4
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// In order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u32> + 'a {
        self.octets.chunks_exact(4).map(|word| u32_at(word, 0))
    }
}

pub(super) fn u16_at(octets: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([octets[at], octets[at + 1]])
}

pub(super) fn u32_at(octets: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])
}

pub(super) fn address_at(family: Family, octets: &[u8], at: usize) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(u32_at(octets, at))),
        Family::V6 => {
            let mut address = [0; 16];
            address.copy_from_slice(&octets[at..at + 16]);
            IpAddr::V6(Ipv6Addr::from(address))
        }
    }
}

pub(super) fn push_address(family: Family, address: IpAddr, out: &mut Vec<u8>) {
    match (family, family.fit(address).unwrap_or_else(|| family.unspecified())) {
        (Family::V4, IpAddr::V4(v4)) => out.extend_from_slice(&v4.octets()),
        (Family::V6, IpAddr::V6(v6)) => out.extend_from_slice(&v6.octets()),
        _ => unreachable!("fit() answers in the family it was asked for"),
    }
}
