//! One captured frame taken apart: link layer, IPv4 or IPv6, TCP or UDP. Borrowed slices, no copies, no allocation.
//!
//! Sources: IEEE 802.1Q and 802.1ad (stacked tags), RFC 2516 (PPPoE), the LINKTYPE registry of tcpdump.org, RFC 791,
//! RFC 8200, RFC 9293, RFC 768. Lengths on the wire come from the IP header, so a frame that was captured short still
//! says how long it was.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The most VLAN tags in front of a packet.
const MAX_TAGS: usize = 8;
/// The most IPv6 extension headers in front of a payload.
const MAX_EXTENSIONS: usize = 16;

/// TCP's protocol number.
pub const TCP: u8 = 6;
/// UDP's protocol number.
pub const UDP: u8 = 17;

/// A link layer, by its number in the LINKTYPE registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkType(pub u32);

impl LinkType {
    /// BSD loopback: the address family in the host's order.
    pub const NULL: LinkType = LinkType(0);
    /// Ethernet.
    pub const ETHERNET: LinkType = LinkType(1);
    /// An IP packet and nothing before it.
    pub const RAW: LinkType = LinkType(101);
    /// OpenBSD loopback: the address family in network order.
    pub const LOOP: LinkType = LinkType(108);
    /// Linux cooked capture.
    pub const LINUX_SLL: LinkType = LinkType(113);
    /// An IPv4 packet.
    pub const IPV4: LinkType = LinkType(228);
    /// An IPv6 packet.
    pub const IPV6: LinkType = LinkType(229);
    /// Linux cooked capture, version 2.
    pub const LINUX_SLL2: LinkType = LinkType(276);
}

/// Why a frame was not taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// The frame ends inside a header.
    #[error("the frame ends inside its {layer} header")]
    Short {
        /// The layer whose header is not whole.
        layer: &'static str,
    },
    /// A header contradicts itself.
    #[error("malformed {layer} header: {what}")]
    Malformed {
        /// The layer.
        layer: &'static str,
        /// What is wrong.
        what: &'static str,
    },
    /// A link type that is not known here.
    #[error("link type {0} is not supported")]
    LinkType(u32),
    /// Something other than IP: ARP, a spanning tree, ...
    #[error("not an IP packet (ethertype {0:#06x})")]
    NotIp(u16),
}

/// An IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it goes.
    pub destination: IpAddr,
    /// The protocol after all extension headers, an IANA number.
    pub protocol: u8,
    /// Length of the whole IP packet on the wire, in octets.
    pub ip_len: u32,
    /// Length on the wire of what follows the IP headers, in octets.
    pub payload_len: u32,
    /// What was captured of it.
    pub payload: &'a [u8],
    /// Set when this is one fragment of a packet.
    pub fragment: Option<Fragment>,
}

/// A packet's place in the one that it is a fragment of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// The identification that all fragments of one packet share.
    pub id: u32,
    /// Octets before this fragment.
    pub offset: u32,
    /// Whether more follow.
    pub more: bool,
}

/// The transport layer of a packet, or of one put together from fragments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// `None` for UDP.
    pub tcp: Option<TcpHeader>,
    /// Payload length on the wire, in octets.
    pub payload_len: u32,
    /// What was captured of the payload.
    pub payload: &'a [u8],
}

/// What a flow needs of a TCP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpHeader {
    /// Sequence number.
    pub sequence: u32,
    /// SYN.
    pub syn: bool,
    /// ACK.
    pub ack: bool,
    /// FIN.
    pub fin: bool,
    /// RST.
    pub rst: bool,
}

impl<'a> Packet<'a> {
    /// Takes a frame apart down to the IP payload.
    ///
    /// # Errors
    /// [`PacketError`]; frames that are not IP are an error too, and an everyday one.
    pub fn parse(link_type: LinkType, frame: &'a [u8]) -> Result<Packet<'a>, PacketError> {
        match link_type {
            LinkType::ETHERNET => {
                let body = frame.get(14..).ok_or(PacketError::Short { layer: "Ethernet" })?;
                by_ethertype(be16(frame, 12), body)
            }
            LinkType::LINUX_SLL => {
                let body = frame.get(16..).ok_or(PacketError::Short { layer: "cooked" })?;
                by_ethertype(be16(frame, 14), body)
            }
            LinkType::LINUX_SLL2 => {
                let body = frame.get(20..).ok_or(PacketError::Short { layer: "cooked" })?;
                by_ethertype(be16(frame, 0), body)
            }
            // The family is in the order of whoever captured; the version nibble says the same without it.
            LinkType::NULL | LinkType::LOOP => {
                ip(frame.get(4..).ok_or(PacketError::Short { layer: "loopback" })?)
            }
            // 12 and 14 are what raw IP is called where DLT numbers were written into files.
            LinkType::RAW | LinkType::IPV4 | LinkType::IPV6 | LinkType(12 | 14) => ip(frame),
            LinkType(other) => Err(PacketError::LinkType(other)),
        }
    }

    /// The transport layer of a packet that is whole or the first fragment; `None` for later fragments and for
    /// protocols other than TCP and UDP.
    ///
    /// # Errors
    /// [`PacketError::Short`] or [`PacketError::Malformed`].
    pub fn segment(&self) -> Result<Option<Segment<'a>>, PacketError> {
        match self.fragment {
            Some(Fragment { offset: 1.., .. }) => Ok(None),
            _ => Segment::parse(self.protocol, self.payload, self.payload_len),
        }
    }
}

impl<'a> Segment<'a> {
    /// Takes the payload of an IP packet apart; `None` for protocols other than TCP and UDP.
    ///
    /// # Errors
    /// [`PacketError::Short`] or [`PacketError::Malformed`].
    pub fn parse(protocol: u8, payload: &'a [u8], wire_len: u32) -> Result<Option<Segment<'a>>, PacketError> {
        match protocol {
            TCP => {
                let head = payload.get(..20).ok_or(PacketError::Short { layer: "TCP" })?;
                let header_len = usize::from(head[12] >> 4) * 4;
                if header_len < 20 || header_len as u32 > wire_len {
                    return Err(PacketError::Malformed { layer: "TCP", what: "the data offset" });
                }
                let flags = head[13];
                Ok(Some(Segment {
                    source: be16(head, 0),
                    destination: be16(head, 2),
                    tcp: Some(TcpHeader {
                        sequence: be32(head, 4),
                        syn: flags & 2 != 0,
                        ack: flags & 16 != 0,
                        fin: flags & 1 != 0,
                        rst: flags & 4 != 0,
                    }),
                    payload_len: wire_len - header_len as u32,
                    payload: payload.get(header_len..).unwrap_or_default(),
                }))
            }
            UDP => {
                let head = payload.get(..8).ok_or(PacketError::Short { layer: "UDP" })?;
                // A length of 0 is a jumbogram, or a capture before the card filled it in.
                let length = match u32::from(be16(head, 4)) {
                    0 => wire_len,
                    length @ 8.. => length.min(wire_len),
                    _ => return Err(PacketError::Malformed { layer: "UDP", what: "the length" }),
                };
                let payload = &payload[8..];
                Ok(Some(Segment {
                    source: be16(head, 0),
                    destination: be16(head, 2),
                    tcp: None,
                    payload_len: length - 8,
                    payload: &payload[..payload.len().min(length as usize - 8)],
                }))
            }
            _ => Ok(None),
        }
    }
}

fn by_ethertype<'a>(mut kind: u16, mut body: &'a [u8]) -> Result<Packet<'a>, PacketError> {
    for _ in 0..=MAX_TAGS {
        match kind {
            0x0800 | 0x86dd => return ip(body),
            // 802.1Q, 802.1ad and what came before it.
            0x8100 | 0x88a8 | 0x9100 | 0x9200 => {
                kind = be16(body.get(..4).ok_or(PacketError::Short { layer: "VLAN" })?, 2);
                body = &body[4..];
            }
            // PPPoE session: version, code, session, length, then the PPP protocol.
            0x8864 => {
                let head = body.get(..8).ok_or(PacketError::Short { layer: "PPPoE" })?;
                return match be16(head, 6) {
                    0x0021 | 0x0057 => ip(&body[8..]),
                    other => Err(PacketError::NotIp(other)),
                };
            }
            // 802.3 with LLC and SNAP.
            0..=1500 if body.starts_with(&[0xaa, 0xaa, 3, 0, 0, 0]) && body.len() >= 8 => {
                kind = be16(body, 6);
                body = &body[8..];
            }
            other => return Err(PacketError::NotIp(other)),
        }
    }
    Err(PacketError::Malformed { layer: "VLAN", what: "too many tags" })
}

fn ip(packet: &[u8]) -> Result<Packet<'_>, PacketError> {
    match packet.first().map(|octet| octet >> 4) {
        Some(4) => ipv4(packet),
        Some(6) => ipv6(packet),
        Some(_) => Err(PacketError::Malformed { layer: "IP", what: "the version is neither 4 nor 6" }),
        None => Err(PacketError::Short { layer: "IP" }),
    }
}

fn ipv4(packet: &[u8]) -> Result<Packet<'_>, PacketError> {
    let head: &[u8; 20] = packet.first_chunk().ok_or(PacketError::Short { layer: "IPv4" })?;
    let header_len = usize::from(head[0] & 15) * 4;
    // A total length of 0 is a segment that the card had yet to cut.
    let ip_len = match u32::from(be16(head, 2)) {
        0 => packet.len() as u32,
        length => length,
    };
    if header_len < 20 || ip_len < header_len as u32 {
        return Err(PacketError::Malformed { layer: "IPv4", what: "the lengths" });
    }
    let field = be16(head, 6);
    let (offset, more) = (u32::from(field & 0x1fff) * 8, field & 0x2000 != 0);
    let payload = packet.get(header_len..).ok_or(PacketError::Short { layer: "IPv4" })?;
    let payload_len = ip_len - header_len as u32;
    let address =
        |at: usize| IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(&head[at..at + 4]).expect("four octets")));
    Ok(Packet {
        source: address(12),
        destination: address(16),
        protocol: head[9],
        ip_len,
        payload_len,
        payload: &payload[..payload.len().min(payload_len as usize)],
        fragment: (offset > 0 || more).then(|| Fragment { id: u32::from(be16(head, 4)), offset, more }),
    })
}

fn ipv6(packet: &[u8]) -> Result<Packet<'_>, PacketError> {
    let head: &[u8; 40] = packet.first_chunk().ok_or(PacketError::Short { layer: "IPv6" })?;
    let captured = &packet[40..];
    // A payload length of 0 is a jumbogram, or a segment that the card had yet to cut.
    let mut payload_len = match u32::from(be16(head, 4)) {
        0 => captured.len() as u32,
        length => length,
    };
    let ip_len = payload_len + 40;
    let mut payload = &captured[..captured.len().min(payload_len as usize)];
    let mut protocol = head[6];
    let mut fragment = None;
    for _ in 0..MAX_EXTENSIONS {
        let extension_len = match protocol {
            // Hop-by-hop, routing, destination options, mobility, HIP, shim6.
            0 | 43 | 60 | 135 | 139 | 140 => payload.get(1).map(|units| usize::from(*units) * 8 + 8),
            44 => Some(8),
            51 => payload.get(1).map(|units| usize::from(*units) * 4 + 8),
            _ => break,
        };
        let extension = extension_len.and_then(|len| payload.split_at_checked(len));
        let (extension, rest) = extension.ok_or(PacketError::Short { layer: "IPv6 extension" })?;
        if protocol == 44 {
            let field = be16(extension, 2);
            let (offset, more) = (u32::from(field & 0xfff8), field & 1 != 0);
            // An atomic fragment (RFC 6946) is a whole packet.
            if offset > 0 || more {
                fragment = Some(Fragment { id: be32(extension, 4), offset, more });
            }
        }
        protocol = extension[0];
        payload_len -= extension.len() as u32;
        payload = rest;
        if matches!(fragment, Some(Fragment { offset: 1.., .. })) {
            break;
        }
    }
    let address = |at: usize| {
        IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(&head[at..at + 16]).expect("sixteen octets")))
    };
    Ok(Packet {
        source: address(8),
        destination: address(24),
        protocol,
        ip_len,
        payload_len,
        payload,
        fragment,
    })
}

fn be16(octets: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([octets[at], octets[at + 1]])
}

fn be32(octets: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp4(payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0x45, 0];
        out.extend((28 + payload.len() as u16).to_be_bytes());
        out.extend([0, 7, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        out.extend([0x13, 0x88, 0, 53]);
        out.extend((8 + payload.len() as u16).to_be_bytes());
        out.extend([0, 0]);
        out.extend_from_slice(payload);
        out
    }

    fn check(link_type: LinkType, before: &[u8]) {
        let frame = [before, &udp4(b"query"), &[0; 9]].concat();
        let packet = Packet::parse(link_type, &frame).expect("parses");
        assert_eq!(packet.source.to_string(), "10.0.0.1");
        assert_eq!(packet.ip_len, 33);
        let segment = packet.segment().expect("parses").expect("UDP");
        assert_eq!((segment.source, segment.destination, segment.payload), (5000, 53, &b"query"[..]));
        for length in 0..before.len() + 28 {
            let short = Packet::parse(link_type, &frame[..length]).and_then(|packet| packet.segment());
            assert!(short.is_err(), "{length}");
        }
    }

    #[test]
    fn every_link_layer() {
        let mac = [2; 12];
        check(LinkType::ETHERNET, &[&mac[..], &[8, 0]].concat());
        check(LinkType::ETHERNET, &[&mac[..], &[0x88, 0xa8, 0, 1, 0x81, 0, 0, 2, 8, 0]].concat());
        let pppoe = [0x88, 0x64, 0x11, 0, 0, 1, 0, 35, 0, 0x21];
        check(LinkType::ETHERNET, &[&mac[..], &[0x81, 0, 0, 9], &pppoe].concat());
        check(LinkType::ETHERNET, &[&mac[..], &[0, 41, 0xaa, 0xaa, 3, 0, 0, 0, 8, 0]].concat());
        check(LinkType::LINUX_SLL, &[&[0; 14][..], &[8, 0]].concat());
        check(LinkType::LINUX_SLL2, &[&[8, 0][..], &[0; 18]].concat());
        check(LinkType::NULL, &[2, 0, 0, 0]);
        check(LinkType::LOOP, &[0, 0, 0, 2]);
        check(LinkType::RAW, &[]);
        check(LinkType::IPV4, &[]);
    }

    #[test]
    fn ipv6_extension_headers_and_fragments() {
        let inner = &udp4(b"hello!")[20..];
        let hop = [44, 0, 1, 4, 0, 0, 0, 0];
        let fragment = [17, 0, 0, 1, 0, 0, 0, 9];
        let mut frame = vec![0x60, 0, 0, 0, 0, 16 + inner.len() as u8, 0, 64];
        frame.extend([0xfe; 16]);
        frame.extend([0xfd; 16]);
        frame.extend([&hop[..], &fragment, inner].concat());
        let packet = Packet::parse(LinkType::RAW, &frame).expect("parses");
        assert_eq!(packet.protocol, UDP);
        assert_eq!(packet.fragment, Some(Fragment { id: 9, offset: 0, more: true }));
        assert_eq!(packet.segment().expect("parses").expect("UDP").payload, b"hello!");
        frame[40 + 8 + 3] = 16;
        let packet = Packet::parse(LinkType::IPV6, &frame).expect("parses");
        assert_eq!(packet.fragment, Some(Fragment { id: 9, offset: 16, more: false }));
        assert_eq!(packet.segment(), Ok(None));
    }

    #[test]
    fn tcp_flags_options_and_snapped_payload() {
        let mut frame = vec![0x45, 0, 0, 64, 0, 0, 0x40, 0, 64, 6, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        frame.extend([0x1f, 0x90, 0, 80, 0, 0, 1, 0, 0, 0, 0, 0, 0x60, 0x12, 0, 0, 0, 0, 0, 0]);
        frame.extend([1, 1, 1, 1]);
        frame.extend(b"GET ");
        let segment = Packet::parse(LinkType::RAW, &frame).and_then(|packet| packet.segment());
        let segment = segment.expect("parses").expect("TCP");
        assert_eq!((segment.payload_len, segment.payload), (20, &b"GET "[..]));
        let tcp = segment.tcp.expect("TCP");
        assert_eq!((tcp.sequence, tcp.syn, tcp.ack, tcp.fin, tcp.rst), (256, true, true, false, false));
    }

    #[test]
    fn headers_that_lie_are_errors() {
        let good = udp4(b"x");
        for (at, value) in [(0, 0x44), (0, 0x35), (3, 10), (25, 3)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert!(Packet::parse(LinkType::RAW, &bad).and_then(|packet| packet.segment()).is_err(), "{at}");
        }
        assert_eq!(Packet::parse(LinkType(999), &good), Err(PacketError::LinkType(999)));
        let tags = [&[0; 12][..], &[0x81, 0, 0, 1].repeat(12), &[8, 0]].concat();
        assert!(matches!(Packet::parse(LinkType::ETHERNET, &tags), Err(PacketError::Malformed { .. })));
    }
}
