//! Open flows: who talks to whom, and what recognition keeps about it.

use std::{
    fmt,
    hash::Hasher,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use foldhash::{SharedSeed, quality::FoldHasher};
use hashbrown::HashTable;

use super::{AppId, automaton::StateId, condition::Side, features::FlowFeatures};
use crate::{
    time::Time,
    wire::packet::{TCP, UDP},
};

/// Who talks to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FiveTuple {
    /// TCP (6) or UDP (17).
    pub protocol: u8,
    /// Who sent the first packet, or received a lone SYN+ACK.
    pub initiator: SocketAddr,
    /// The other end.
    pub responder: SocketAddr,
}

/// Addresses as sixteen octets each, IPv4 mapped, initiator first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) addresses: [[u8; 16]; 2],
    pub(crate) ports: [u16; 2],
    pub(crate) tcp: bool,
}

impl Key {
    pub(crate) fn new(tcp: bool, source: (IpAddr, u16), destination: (IpAddr, u16)) -> Key {
        Key { addresses: [octets(source.0), octets(destination.0)], ports: [source.1, destination.1], tcp }
    }

    /// The same flow seen from the other end.
    pub(crate) fn turned(&self) -> Key {
        let ([a, b], [p, q]) = (self.addresses, self.ports);
        Key { addresses: [b, a], ports: [q, p], tcp: self.tcp }
    }

    /// The same for both directions.
    fn hash(&self, seed: &Seed) -> u64 {
        let end = |end: usize| (u128::from_ne_bytes(self.addresses[end]), self.ports[end]);
        let (a, b) = (end(0), end(1));
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        let mut hasher = FoldHasher::with_seed(seed.own, &seed.shared);
        hasher.write_u128(low.0);
        hasher.write_u128(high.0);
        hasher.write_u64(u64::from(low.1) << 32 | u64::from(high.1) << 8 | u64::from(self.tcp));
        hasher.finish()
    }

    pub(crate) fn five_tuple(&self) -> FiveTuple {
        let [initiator, responder] =
            [0, 1].map(|end| SocketAddr::new(address(self.addresses[end]), self.ports[end]));
        FiveTuple { protocol: if self.tcp { TCP } else { UDP }, initiator, responder }
    }
}

pub(crate) fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn address(octets: [u8; 16]) -> IpAddr {
    let v6 = Ipv6Addr::from(octets);
    v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
}

/// How far recognition has come with a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its octets are looked at.
    Looking,
    /// No rule has claimed it; the model waits for more packets.
    Waiting,
    /// Nothing changes any more.
    Settled,
}

/// One direction of a flow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Direction {
    /// The next octet of the TCP stream.
    pub(crate) next: u32,
    pub(crate) anchored: StateId,
    pub(crate) floating: StateId,
    /// Octets of the stream looked at.
    pub(crate) seen: u16,
    /// `next` is known.
    pub(crate) synced: bool,
    /// Nothing more is looked at.
    pub(crate) closed: bool,
    /// A FIN was seen.
    pub(crate) finished: bool,
    /// What the stream's first octets are.
    pub(crate) dialect: Dialect,
}

/// What may be read from a stream beyond its octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// TLS records with a ClientHello in them.
    TlsClient,
    /// TLS records with a server's certificates in them.
    TlsServer,
    /// An HTTP request head.
    Http,
    /// DNS with its length in front.
    Dns,
    /// Nothing of these, or read to its end.
    Done,
}

pub(crate) const NO_RULE: u16 = u16::MAX;
const NO_FLOW: u32 = u32::MAX;
/// Rules of one flow that are counted towards their `times`.
pub(crate) const COUNTED: usize = 3;

/// Everything kept about one open flow. The first cache line has what every packet needs, the second what looking
/// needs, the rest is the features'.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub(crate) struct Flow {
    pub(crate) key: Key,
    pub(crate) phase: Phase,
    pub(crate) closed: bool,
    pub(crate) profiled: bool,
    pub(crate) packets: u32,
    pub(crate) octets: u64,
    pub(crate) last: Time,
    /// The best rule so far, by rank.
    pub(crate) best: u16,
    /// Payload packets so far.
    pub(crate) payloads: u8,
    /// Attempts at opening QUIC packets, bounded since they cost time.
    pub(crate) openings: u8,
    pub(crate) directions: [Direction; 2],
    newer: u32,
    older: u32,
    pub(crate) counted: [(u16, u8); COUNTED],
    /// Something of it waits in the pool.
    pub(crate) pooled: bool,
    /// The verdict that was given out, if any.
    pub(crate) given: Given,
    pub(crate) features: FlowFeatures,
    pub(crate) first: Time,
    pub(crate) shared: Option<AppId>,
    pub(crate) model: Option<AppId>,
    /// The application of the latest verdict given out.
    pub(crate) told: Option<AppId>,
    /// What a rule of an earlier set said.
    pub(crate) ruled: Option<AppId>,
}

/// What the caller was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Given {
    Nothing,
    Rule(u16),
    Shared,
}

impl Flow {
    fn new(key: Key, now: Time) -> Flow {
        let direction = Direction {
            next: 0,
            anchored: StateId::START,
            floating: StateId::START,
            seen: 0,
            synced: false,
            closed: false,
            finished: false,
            dialect: Dialect::Done,
        };
        Flow {
            key,
            first: now,
            last: now,
            octets: 0,
            packets: 0,
            directions: [direction; 2],
            best: NO_RULE,
            counted: [(NO_RULE, 0); COUNTED],
            payloads: 0,
            phase: Phase::Looking,
            given: Given::Nothing,
            shared: None,
            model: None,
            told: None,
            ruled: None,
            closed: false,
            openings: 0,
            profiled: false,
            pooled: false,
            features: FlowFeatures::new(key.tcp, key.ports[0], key.ports[1]),
            newer: NO_FLOW,
            older: NO_FLOW,
        }
    }

    /// Forgets what depends on the rules.
    pub(crate) fn restart(&mut self) {
        self.best = NO_RULE;
        self.given = Given::Nothing;
        self.counted = [(NO_RULE, 0); COUNTED];
        for direction in &mut self.directions {
            if direction.seen > 0 {
                direction.anchored = StateId::DEAD;
            }
            direction.floating = StateId::START;
        }
    }
}

const CHUNK: usize = 64;

/// A list through the flows of one transport.
#[derive(Debug, Clone, Copy)]
struct Order {
    newest: u32,
    oldest: u32,
}

/// What makes the table's order unpredictable.
struct Seed {
    own: u64,
    shared: SharedSeed,
}

impl Seed {
    /// Any number will do. Foldhash multiplies with what it is seeded with, so zeros and regular bits are spread first.
    fn new(seed: u64) -> Seed {
        Seed { own: spread(seed), shared: SharedSeed::from_u64(spread(!seed)) }
    }
}

/// The output function of SplitMix64.
fn spread(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed")
    }
}

/// The open flows, TCP and UDP each in the order they were heard of.
#[derive(Debug)]
pub(crate) struct FlowTable {
    index: HashTable<u32>,
    chunks: Vec<Box<[Flow]>>,
    free: Vec<u32>,
    used: usize,
    /// UDP, then TCP.
    orders: [Order; 2],
    seed: Seed,
}

impl FlowTable {
    pub(crate) fn new(seed: u64) -> FlowTable {
        FlowTable {
            index: HashTable::new(),
            chunks: Vec::new(),
            free: Vec::new(),
            used: 0,
            orders: [Order { newest: NO_FLOW, oldest: NO_FLOW }; 2],
            seed: Seed::new(seed),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// The flow and the side that `key`'s first address is on.
    pub(crate) fn find(&self, key: &Key) -> Option<(u32, Side)> {
        let turned = key.turned();
        let at = *self.index.find(key.hash(&self.seed), |at| {
            let known = &self.flow(*at).key;
            known == key || *known == turned
        })?;
        Some((at, if self.flow(at).key == *key { Side::Initiator } else { Side::Responder }))
    }

    /// Adds a flow that is not there yet.
    pub(crate) fn insert(&mut self, key: Key, now: Time) -> u32 {
        let flow = Flow::new(key, now);
        let at = match self.free.pop() {
            Some(at) => {
                *self.flow_mut(at) = flow;
                at
            }
            None => {
                if self.used == self.chunks.len() * CHUNK {
                    self.chunks.push(vec![flow.clone(); CHUNK].into_boxed_slice());
                }
                self.used += 1;
                let at = (self.used - 1) as u32;
                *self.flow_mut(at) = flow;
                at
            }
        };
        let (chunks, seed) = (&self.chunks, &self.seed);
        self.index.insert_unique(key.hash(seed), at, |at| slot(chunks, *at).key.hash(seed));
        self.link(at);
        at
    }

    pub(crate) fn remove(&mut self, at: u32) {
        let hash = self.flow(at).key.hash(&self.seed);
        if let Ok(entry) = self.index.find_entry(hash, |known| *known == at) {
            entry.remove();
        }
        self.unlink(at);
        self.free.push(at);
    }

    /// Notes that a packet came at `now`. The order is kept to the second, which spares most packets the work.
    pub(crate) fn touch(&mut self, at: u32, now: Time) {
        let flow = self.flow_mut(at);
        let moved = flow.last.as_micros() >> 20 != now.as_micros() >> 20;
        flow.last = flow.last.max(now);
        if moved && self.order(at).newest != at {
            self.unlink(at);
            self.link(at);
        }
    }

    /// Puts a flow first in the order of leaving.
    pub(crate) fn retire(&mut self, at: u32) {
        self.unlink(at);
        let oldest = self.order(at).oldest;
        let flow = self.flow_mut(at);
        flow.older = NO_FLOW;
        flow.newer = oldest;
        match oldest {
            NO_FLOW => self.order(at).newest = at,
            oldest => self.flow_mut(oldest).older = at,
        }
        self.order(at).oldest = at;
    }

    /// The flow of a transport that was silent longest, or is closed.
    pub(crate) fn oldest_of(&self, tcp: bool) -> Option<u32> {
        let oldest = self.orders[usize::from(tcp)].oldest;
        (oldest != NO_FLOW).then_some(oldest)
    }

    /// The flow to end when there is no room: a closed one, or the one that was silent longest.
    pub(crate) fn oldest(&self) -> Option<u32> {
        let both = [true, false].into_iter().filter_map(|tcp| self.oldest_of(tcp));
        both.min_by_key(|at| (!self.flow(*at).closed, self.flow(*at).last))
    }

    pub(crate) fn flow(&self, at: u32) -> &Flow {
        slot(&self.chunks, at)
    }

    pub(crate) fn flow_mut(&mut self, at: u32) -> &mut Flow {
        &mut self.chunks[at as usize / CHUNK][at as usize % CHUNK]
    }

    /// Every open flow.
    pub(crate) fn for_each(&mut self, mut act: impl FnMut(&mut Flow)) {
        for order in self.orders {
            let mut at = order.newest;
            while at != NO_FLOW {
                let flow = self.flow_mut(at);
                act(flow);
                at = flow.older;
            }
        }
    }

    /// Octets of memory, everything counted.
    pub(crate) fn memory(&self) -> usize {
        size_of::<FlowTable>()
            + self.index.allocation_size()
            + self.chunks.capacity() * size_of::<Box<[Flow]>>()
            + self.chunks.len() * CHUNK * size_of::<Flow>()
            + self.free.capacity() * 4
    }

    fn order(&mut self, at: u32) -> &mut Order {
        let tcp = self.flow(at).key.tcp;
        &mut self.orders[usize::from(tcp)]
    }

    fn link(&mut self, at: u32) {
        let newest = self.order(at).newest;
        let flow = self.flow_mut(at);
        flow.newer = NO_FLOW;
        flow.older = newest;
        match newest {
            NO_FLOW => self.order(at).oldest = at,
            newest => self.flow_mut(newest).newer = at,
        }
        self.order(at).newest = at;
    }

    fn unlink(&mut self, at: u32) {
        let (newer, older) = (self.flow(at).newer, self.flow(at).older);
        match newer {
            NO_FLOW => self.order(at).newest = older,
            newer => self.flow_mut(newer).older = older,
        }
        match older {
            NO_FLOW => self.order(at).oldest = newer,
            older => self.flow_mut(older).newer = newer,
        }
    }
}

fn slot(chunks: &[Box<[Flow]>], at: u32) -> &Flow {
    &chunks[at as usize / CHUNK][at as usize % CHUNK]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn key(port: u16) -> Key {
        Key::new(true, ("10.0.0.1".parse().expect("address"), port), ("::1".parse().expect("address"), 443))
    }

    #[test]
    fn both_directions_are_one_flow() {
        let mut table = FlowTable::new(7);
        let at = table.insert(key(1), Time::ZERO);
        assert_eq!(table.find(&key(1)), Some((at, Side::Initiator)));
        assert_eq!(table.find(&key(1).turned()), Some((at, Side::Responder)));
        assert_eq!(table.find(&key(2)), None);
        let tuple = table.flow(at).key.five_tuple();
        assert_eq!(tuple.initiator.to_string(), "10.0.0.1:1");
        assert_eq!(tuple.responder.to_string(), "[::1]:443");
    }

    #[test]
    fn hashes_are_spread_whatever_the_seed() {
        for seed in [0, 1, 0x9e37_79b9_7f4a_7c15, u64::MAX] {
            let seed = Seed::new(seed);
            let mut low = HashSet::new();
            let mut all = HashSet::new();
            for host in 0..64u8 {
                for port in 0..256 {
                    let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 1, host]));
                    let hash = Key::new(true, (a, 40_000 + port), (b, 443)).hash(&seed);
                    low.insert(hash % 16_384);
                    all.insert(hash);
                }
            }
            assert_eq!(all.len(), 16_384, "{seed:?}");
            // Of as many numbers drawn at random, 1 - 1/e are different.
            assert!(low.len() > 9_800, "{}", low.len());
        }
    }

    #[test]
    fn order_and_reuse() {
        let second = |seconds: u64| Time::from_micros(seconds << 20);
        let mut table = FlowTable::new(7);
        let all: Vec<u32> = (0..200).map(|port| table.insert(key(port), second(0))).collect();
        assert_eq!(table.oldest(), Some(all[0]));
        table.touch(all[0], second(1));
        assert_eq!(table.oldest(), Some(all[1]));
        let before = table.memory();
        for at in &all {
            table.remove(*at);
        }
        assert_eq!((table.len(), table.oldest()), (0, None));
        for port in 0..200 {
            table.insert(key(port), second(2));
        }
        assert!(table.memory() <= before + 1024);
        let mut count = 0;
        table.for_each(|_| count += 1);
        assert_eq!(count, 200);
    }

    #[test]
    fn a_flow_is_small() {
        assert!(size_of::<Flow>() <= 256, "{}", size_of::<Flow>());
    }
}
