//! The virtual network: what is on its way, how long it takes, and what becomes of it.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap},
    net::SocketAddr,
    time::Duration,
};

use hailpost::{
    io::{Conn, KeyId, Transport},
    rng::{Entropy, Seeded},
    status::Fault,
    time::Time,
};

use super::HostId;

/// How the network treats what it carries. Chances are of a thousand, and but for delays concern datagrams only.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// Shortest way, in milliseconds.
    pub delay: u32,
    /// What is added to it at random, at the most.
    pub jitter: u32,
    /// Not delivered.
    pub loss: u32,
    /// Delivered twice.
    pub duplicate: u32,
    /// Bits flipped, cut short or grown.
    pub corrupt: u32,
    /// Two seconds late at the most, so after what was sent later.
    pub late: u32,
}

impl Conditions {
    /// Nothing is lost, all is quick.
    pub const CALM: Conditions =
        Conditions { delay: 2, jitter: 8, loss: 0, duplicate: 0, corrupt: 0, late: 0 };
}

/// One end of a stream.
#[derive(Debug)]
pub(super) struct End {
    pub host: HostId,
    /// Which life of the host opened it.
    pub life: u32,
    pub conn: Conn,
    pub address: SocketAddr,
    /// What it proves to the other end.
    pub key: Option<KeyId>,
    pub open: bool,
    /// When the last that was sent to it arrives: a stream stays in order.
    last: Time,
}

impl End {
    pub fn new(host: HostId, life: u32, conn: Conn, address: SocketAddr, key: Option<KeyId>) -> End {
        End { host, life, conn, address, key, open: true, last: Time::ZERO }
    }
}

/// A stream; end 0 asked for it.
#[derive(Debug)]
pub(super) struct Link {
    pub ends: [End; 2],
    pub broken: bool,
}

/// What arrives somewhere.
#[derive(Clone, Debug)]
pub(super) enum Arrival {
    /// A wish for a stream, at end 1 of the link.
    Syn(usize),
    /// Its answer, at end 0.
    Established(usize),
    Octets {
        link: usize,
        end: usize,
        octets: Vec<u8>,
    },
    /// The stream's end, or with a fault its break.
    Fin {
        link: usize,
        end: usize,
        fault: Option<Fault>,
    },
    Datagram {
        at: HostId,
        sender: HostId,
        from: SocketAddr,
        to: SocketAddr,
        octets: Vec<u8>,
    },
    /// A socket of the host failed.
    Failed {
        at: HostId,
        life: u32,
        conn: Conn,
        fault: Fault,
    },
}

struct Entry {
    due: Time,
    order: u64,
    arrival: Arrival,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.order == other.order
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> std::cmp::Ordering {
        (self.due, self.order).cmp(&(other.due, other.order))
    }
}

/// The network.
pub(super) struct Net {
    pub conditions: Conditions,
    pub links: Vec<Link>,
    rng: Seeded,
    on_the_way: BinaryHeap<Reverse<Entry>>,
    order: u64,
    partitions: BTreeSet<(HostId, HostId)>,
    held: Vec<Entry>,
}

impl Net {
    pub fn new(rng: Seeded) -> Net {
        Net {
            conditions: Conditions::CALM,
            links: Vec::new(),
            rng,
            on_the_way: BinaryHeap::new(),
            order: 0,
            partitions: BTreeSet::new(),
            held: Vec::new(),
        }
    }

    /// When the next thing arrives.
    pub fn next(&self) -> Option<Time> {
        self.on_the_way.peek().map(|Reverse(entry)| entry.due)
    }

    /// What arrives now, if `wanted` wants it. A datagram that cannot pass is lost; a stream keeps what it carries
    /// and tries again once it can.
    pub fn pop(&mut self, now: Time, wanted: impl Fn(HostId) -> bool) -> Option<Arrival> {
        loop {
            let Reverse(entry) = self.on_the_way.peek()?;
            if entry.due > now || !wanted(self.place(&entry.arrival)) {
                return None;
            }
            let Reverse(entry) = self.on_the_way.pop()?;
            if !self.is_cut(&entry.arrival) {
                return Some(entry.arrival);
            }
            if !matches!(entry.arrival, Arrival::Datagram { .. }) {
                self.held.push(entry);
            }
        }
    }

    /// Where it arrives.
    pub fn place(&self, arrival: &Arrival) -> HostId {
        match arrival {
            Arrival::Syn(link) => self.links[*link].ends[1].host,
            Arrival::Established(link) => self.links[*link].ends[0].host,
            Arrival::Octets { link, end, .. } | Arrival::Fin { link, end, .. } => {
                self.links[*link].ends[*end].host
            }
            Arrival::Datagram { at, .. } | Arrival::Failed { at, .. } => *at,
        }
    }

    fn sender(&self, arrival: &Arrival) -> HostId {
        match arrival {
            Arrival::Syn(link) => self.links[*link].ends[0].host,
            Arrival::Established(link) => self.links[*link].ends[1].host,
            Arrival::Octets { link, end, .. } | Arrival::Fin { link, end, .. } => {
                self.links[*link].ends[1 - end].host
            }
            Arrival::Datagram { sender, .. } => *sender,
            Arrival::Failed { at, .. } => *at,
        }
    }

    pub fn partition(&mut self, a: HostId, b: HostId) {
        self.partitions.insert((a.min(b), a.max(b)));
    }

    pub fn heal(&mut self, now: Time, a: HostId, b: HostId) {
        if self.partitions.remove(&(a.min(b), a.max(b))) {
            for entry in std::mem::take(&mut self.held) {
                match self.is_cut(&entry.arrival) {
                    true => self.held.push(entry),
                    // Under its old order number it stays before what was sent after it.
                    false => self.on_the_way.push(Reverse(Entry { due: now, ..entry })),
                }
            }
        }
    }

    fn is_cut(&self, arrival: &Arrival) -> bool {
        self.are_cut(self.place(arrival), self.sender(arrival))
    }

    pub fn are_cut(&self, a: HostId, b: HostId) -> bool {
        self.partitions.contains(&(a.min(b), a.max(b)))
    }

    /// Puts something on its way.
    pub fn send(&mut self, now: Time, arrival: Arrival) {
        match arrival {
            Arrival::Datagram { .. } => self.send_datagram(now, arrival),
            Arrival::Octets { link, end, octets } => {
                // Streams have no boundaries: now and then a piece arrives before the rest.
                if octets.len() > 1 && self.rng.below(8) == 0 {
                    let at = 1 + self.rng.below(octets.len() as u32 - 1) as usize;
                    let (first, rest) = octets.split_at(at);
                    self.send_in_order(now, link, end, Arrival::Octets { link, end, octets: first.to_vec() });
                    self.send_in_order(now, link, end, Arrival::Octets { link, end, octets: rest.to_vec() });
                } else {
                    self.send_in_order(now, link, end, Arrival::Octets { link, end, octets });
                }
            }
            Arrival::Syn(link) => self.send_in_order(now, link, 1, arrival),
            Arrival::Established(link) => self.send_in_order(now, link, 0, arrival),
            Arrival::Fin { link, end, .. } => self.send_in_order(now, link, end, arrival),
            Arrival::Failed { .. } => {
                let due = now + self.delay();
                self.push(due, arrival);
            }
        }
    }

    fn send_in_order(&mut self, now: Time, link: usize, end: usize, arrival: Arrival) {
        let due = (now + self.delay()).max(self.links[link].ends[end].last);
        self.links[link].ends[end].last = due;
        self.push(due, arrival);
    }

    fn send_datagram(&mut self, now: Time, arrival: Arrival) {
        let Conditions { loss, duplicate, corrupt, late, .. } = self.conditions;
        if self.chance(loss) {
            return;
        }
        let copies = 1 + u32::from(self.chance(duplicate));
        for _ in 0..copies {
            let mut arrival = arrival.clone();
            if self.chance(corrupt)
                && let Arrival::Datagram { octets, .. } = &mut arrival
            {
                self.corrupt(octets);
            }
            let mut due = now + self.delay();
            if self.chance(late) {
                due += Duration::from_millis(self.rng.below(2000).into());
            }
            self.push(due, arrival);
        }
    }

    fn corrupt(&mut self, octets: &mut Vec<u8>) {
        let len = octets.len() as u32;
        match self.rng.below(8) {
            0 => octets.truncate(self.rng.below(len) as usize),
            1 => octets.push(self.rng.below(256) as u8),
            flips => {
                for _ in 0..flips.min(3) {
                    let bit = self.rng.below(len * 8);
                    octets[bit as usize / 8] ^= 1 << (bit % 8);
                }
            }
        }
    }

    fn delay(&mut self) -> Duration {
        let jitter = self.rng.below(self.conditions.jitter + 1);
        Duration::from_millis((self.conditions.delay + jitter).into())
    }

    fn chance(&mut self, of_thousand: u32) -> bool {
        of_thousand > 0 && self.rng.below(1000) < of_thousand
    }

    fn push(&mut self, due: Time, arrival: Arrival) {
        self.order += 1;
        self.on_the_way.push(Reverse(Entry { due, order: self.order, arrival }));
    }
}

/// What a socket of a host is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Socket {
    Stream {
        link: usize,
        end: usize,
    },
    /// A datagram socket of our own, towards one peer.
    Connected {
        local: SocketAddr,
        remote: SocketAddr,
    },
    Listening {
        local: SocketAddr,
    },
}

/// Where a host's connections go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub host: HostId,
    pub port: u16,
    pub transport: Transport,
    pub key: Option<KeyId>,
}
