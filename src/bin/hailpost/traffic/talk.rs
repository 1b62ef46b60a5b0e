//! One conversation over TCP or UDP, frame by frame.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use hailpost::time::Time;

use super::Pcap;

/// A conversation. Every call adds a frame and lets a little time pass.
pub struct Talk<'p> {
    pcap: &'p mut Pcap,
    now: Time,
    tcp: bool,
    ends: [SocketAddrV4; 2],
    sequence: [u32; 2],
    ident: u16,
}

const SYN: u8 = 2;
const FIN: u8 = 1;
const PSH: u8 = 8;
const ACK: u8 = 16;
/// From a frame to the answer that needs no thought.
const HOP: Duration = Duration::from_millis(8);

impl<'p> Talk<'p> {
    /// Datagrams.
    pub fn udp(pcap: &'p mut Pcap, now: Time, client: SocketAddrV4, server: SocketAddrV4) -> Talk<'p> {
        Talk { pcap, now, tcp: false, ends: [client, server], sequence: [0; 2], ident: client.port() }
    }

    /// A stream, with its handshake.
    pub fn tcp(pcap: &'p mut Pcap, now: Time, client: SocketAddrV4, server: SocketAddrV4) -> Talk<'p> {
        let sequence = [(client.port(), 77_777u32), (server.port(), 3_333_333)]
            .map(|(port, by)| by.wrapping_mul(port.into()));
        let mut talk = Talk { pcap, now, tcp: true, ends: [client, server], sequence, ident: client.port() };
        talk.segment(0, SYN, &[]);
        talk.segment(1, SYN | ACK, &[]);
        talk.segment(0, ACK, &[]);
        talk
    }

    /// Time passes.
    pub fn wait(&mut self, pause: Duration) -> &mut Talk<'p> {
        self.now += pause;
        self
    }

    /// The client says something.
    pub fn client(&mut self, payload: &[u8]) -> &mut Talk<'p> {
        self.say(0, payload)
    }

    /// The server says something.
    pub fn server(&mut self, payload: &[u8]) -> &mut Talk<'p> {
        self.say(1, payload)
    }

    /// The stream ends, from the client's side first.
    pub fn close(&mut self) {
        self.segment(0, FIN | ACK, &[]);
        self.segment(1, FIN | ACK, &[]);
        self.segment(0, ACK, &[]);
    }

    fn say(&mut self, from: usize, payload: &[u8]) -> &mut Talk<'p> {
        match self.tcp {
            true => payload.chunks(1400).for_each(|piece| self.segment(from, PSH | ACK, piece)),
            false => {
                let mut datagram = ports(self.ends[from], self.ends[1 - from]);
                datagram.extend((8 + payload.len() as u16).to_be_bytes());
                datagram.extend([0, 0]);
                datagram.extend(payload);
                self.packet(from, 17, datagram);
            }
        }
        self
    }

    fn segment(&mut self, from: usize, flags: u8, payload: &[u8]) {
        let mut segment = ports(self.ends[from], self.ends[1 - from]);
        segment.extend(self.sequence[from].to_be_bytes());
        segment.extend(if flags & ACK != 0 { self.sequence[1 - from] } else { 0 }.to_be_bytes());
        segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        segment.extend(payload);
        let used = payload.len() as u32 + u32::from(flags & (SYN | FIN) != 0);
        self.sequence[from] = self.sequence[from].wrapping_add(used);
        self.packet(from, 6, segment);
    }

    fn packet(&mut self, from: usize, protocol: u8, mut segment: Vec<u8>) {
        let (source, destination) = (*self.ends[from].ip(), *self.ends[1 - from].ip());
        let at = if protocol == 6 { 16 } else { 6 };
        let sum = transport_sum(source, destination, protocol, &segment);
        segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        let mut header = vec![0x45, 0];
        header.extend((20 + segment.len() as u16).to_be_bytes());
        self.ident = self.ident.wrapping_add(1);
        header.extend(self.ident.to_be_bytes());
        header.extend([0x40, 0, 64, protocol, 0, 0]);
        header.extend(source.octets());
        header.extend(destination.octets());
        let sum = !folded(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        let sides = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
        let frame = [&sides[1 - from][..], &sides[from], &[8, 0], &header, &segment].concat();
        self.pcap.push(self.now, frame);
        self.now += HOP;
    }
}

fn ports(source: SocketAddrV4, destination: SocketAddrV4) -> Vec<u8> {
    [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat()
}

fn transport_sum(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, segment: &[u8]) -> u16 {
    let len = (segment.len() as u16).to_be_bytes();
    let pseudo =
        [&source.octets()[..], &destination.octets(), &[0, protocol, len[0], len[1]], segment].concat();
    match !folded(&pseudo) {
        // Zero says that there is none (RFC 768).
        0 => 0xffff,
        sum => sum,
    }
}

/// The Internet checksum's sum (RFC 1071).
fn folded(octets: &[u8]) -> u16 {
    let mut sum: u32 =
        octets.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
