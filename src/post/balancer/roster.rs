//! Which brokers there are, how they are, and which is the best for who asks.

use std::{
    collections::{BTreeMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    time::Duration,
};

use super::{BalancerCounters, BalancerEvent};
use crate::{
    io::KeyId,
    time::Time,
    wire::balance::{Answer, MAX_SEEN, Question, RttClass},
};

/// Reports that may fail to come before a broker is out.
const MISSED: u32 = 3;
/// What the link costs by class of its round trip, in points of which a load of 100 has 200. What is not known lies between near
/// and far, so that a near broker is kept and a far one left.
const PENALTIES: [u32; 6] = [20, 0, 10, 30, 60, 100];
/// What keeps a broker that failed this device from being given while there is any other, by how far down the device tells of
/// it. More lies between two than load and link make, so that of brokers that all failed the one left longest ago is next: one
/// that is well, but out of this device's reach, must not keep it from the others for ever.
const FAILED: [u32; MAX_SEEN] = [1600, 1200, 800, 400];
/// The same of one that is full.
const FULL: u32 = 1000;
/// The same of one that has no address of the family that the device asks from.
const OTHER_FAMILY: u32 = 10_000;

/// How brokers are judged.
#[derive(Clone, Copy, Debug)]
pub struct RosterConfig {
    /// Brokers at the most.
    pub max_brokers: usize,
    /// From one report to the next; after three that did not come a broker is out.
    pub report_every: Duration,
    /// After how many seconds a device is to ask again when there is no broker.
    pub pause: u32,
}

impl Default for RosterConfig {
    fn default() -> RosterConfig {
        RosterConfig { max_brokers: 256, report_every: Duration::from_secs(10), pause: 10 }
    }
}

/// What a broker says of itself when it comes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listing {
    /// For people; a key with another name is another broker.
    pub name: String,
    /// Where devices find it.
    pub address: SocketAddr,
    /// Its static public key on the link.
    pub link_key: [u8; 32],
    /// Sessions that it can hold.
    pub most: u32,
}

/// How a broker is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Load {
    /// Of a hundred.
    pub load: u8,
    /// Sessions that are there.
    pub sessions: u32,
    /// It wants no new ones.
    pub draining: bool,
}

/// Why a broker is given to nobody any more.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Out {
    /// Its reports did not come.
    Silent,
    /// It drains.
    Draining,
    /// Its connection was lost.
    Closed,
}

/// There are too many brokers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// What a broker is: its key, and its name.
type Who = (KeyId, String);

struct Broker {
    line: u64,
    number: u32,
    listing: Listing,
    load: Load,
    /// Given since that was told.
    given: u32,
    /// Until when the next report has to come; `None` while it is out for want of one.
    due: Option<Time>,
}

impl Broker {
    fn is_in(&self) -> bool {
        self.due.is_some() && !self.load.draining
    }

    fn score(&self, from: SocketAddr, question: &Question) -> u32 {
        let Listing { address, most, .. } = self.listing;
        // Between two reports many may ask: who was sent there counts, or all would be.
        let coming = u64::from(self.given) * 100 / u64::from(most.max(1));
        let load = (u64::from(self.load.load) + coming).min(100) as u32;
        let is_full = u64::from(self.load.sessions) + u64::from(self.given) >= u64::from(most);
        let seen = question.seen.iter().position(|seen| seen.address == address);
        let class = seen.map_or(RttClass::UNKNOWN, |at| question.seen[at].class);
        let link = PENALTIES.get(usize::from(class.0)).copied().unwrap_or(PENALTIES[0]);
        let failed = seen.filter(|at| question.seen[*at].failed);
        let failed = failed.map_or(0, |at| FAILED.get(at).copied().unwrap_or(FAILED[MAX_SEEN - 1]));
        let full = if is_full { FULL } else { 0 };
        let is_other = address.is_ipv4() != from.ip().to_canonical().is_ipv4();
        load * 2 + link + failed + full + if is_other { OTHER_FAMILY } else { 0 }
    }
}

pub(super) struct Roster {
    config: RosterConfig,
    brokers: BTreeMap<Who, Broker>,
    by_line: BTreeMap<u64, Who>,
    next_number: u32,
    seed: u64,
    pub events: VecDeque<BalancerEvent>,
    pub counters: BalancerCounters,
}

impl Roster {
    pub fn new(config: RosterConfig, seed: u64) -> Roster {
        Roster {
            config,
            brokers: BTreeMap::new(),
            by_line: BTreeMap::new(),
            next_number: 1,
            seed,
            events: VecDeque::new(),
            counters: BalancerCounters::default(),
        }
    }

    pub fn enlist(&mut self, line: u64, key: KeyId, listing: Listing) -> Result<u32, Full> {
        // Whatever it said on this connection before holds no more.
        self.forget(line, None);
        let who = (key, listing.name.clone());
        let older = self.brokers.get(&who).map(|broker| (broker.line, broker.number));
        if older.is_none() && self.brokers.len() >= self.config.max_brokers {
            self.counters.full += 1;
            return Err(Full);
        }
        if let Some((older, _)) = older {
            self.counters.displaced += 1;
            self.forget(older, None);
            self.events.push_back(BalancerEvent::Displaced { line: older });
        }
        let number = older.map_or(self.next_number, |(_, number)| number);
        self.next_number = self.next_number.wrapping_add(u32::from(older.is_none())).max(1);
        let load = Load { load: 100, sessions: 0, draining: false };
        self.counters.enlisted += 1;
        self.by_line.insert(line, who.clone());
        self.brokers.insert(who, Broker { line, number, listing, load, given: 0, due: None });
        Ok(number)
    }

    pub fn report(&mut self, now: Time, line: u64, load: Load) {
        let Some(broker) = self.by_line.get(&line).and_then(|who| self.brokers.get_mut(who)) else {
            self.counters.strange += 1;
            return;
        };
        self.counters.reports += 1;
        let was_in = broker.is_in();
        broker.load = Load { load: load.load.min(100), ..load };
        broker.given = 0;
        broker.due = Some(now + self.config.report_every * MISSED);
        let name = broker.listing.name.clone();
        match (was_in, broker.is_in()) {
            (false, true) => {
                let address = broker.listing.address;
                self.events.push_back(BalancerEvent::In { name, address });
            }
            (true, false) => {
                self.counters.drained += 1;
                self.events.push_back(BalancerEvent::Out { name, why: Out::Draining });
            }
            _ => {}
        }
    }

    pub fn closed(&mut self, line: u64) {
        self.forget(line, Some(Out::Closed));
    }

    /// The best broker for who asks from there: the lowest score, ties by a hash of both.
    pub fn choose(&mut self, from: SocketAddr, question: &Question) -> Answer {
        let seed = self.seed;
        let tie = |broker: &Broker| {
            let mut hasher = DefaultHasher::new();
            (seed, from.ip().to_canonical(), broker.listing.address).hash(&mut hasher);
            hasher.finish()
        };
        let there = self.brokers.values_mut().filter(|broker| broker.is_in());
        match there.min_by_key(|broker| (broker.score(from, question), tie(broker))) {
            Some(best) => {
                best.given = best.given.saturating_add(1);
                Answer::Broker { address: best.listing.address, key: best.listing.link_key }
            }
            None => Answer::None { pause: self.config.pause },
        }
    }

    pub fn deadline(&self) -> Option<Time> {
        self.brokers.values().filter_map(|broker| broker.due).min()
    }

    pub fn handle_deadline(&mut self, now: Time) {
        for broker in self.brokers.values_mut().filter(|broker| broker.due.is_some_and(|due| due <= now)) {
            let was_in = broker.is_in();
            broker.due = None;
            self.counters.silent += 1;
            if was_in {
                let name = broker.listing.name.clone();
                self.events.push_back(BalancerEvent::Out { name, why: Out::Silent });
            }
        }
    }

    /// All, and those that are given out.
    pub fn count(&self) -> (usize, usize) {
        (self.brokers.len(), self.brokers.values().filter(|broker| broker.is_in()).count())
    }

    fn forget(&mut self, line: u64, why: Option<Out>) {
        let Some(who) = self.by_line.remove(&line) else { return };
        let Some(broker) = self.brokers.remove(&who) else { return };
        if let Some(why) = why {
            self.counters.closed += 1;
            if broker.is_in() {
                self.events.push_back(BalancerEvent::Out { name: who.1, why });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::balance::Seen;

    const EVERY: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn address(number: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, number], 7700))
    }

    fn from(number: u16) -> SocketAddr {
        let [high, low] = number.to_be_bytes();
        SocketAddr::from(([198, 51, high, low], 5000))
    }

    fn listing(number: u8, most: u32) -> Listing {
        Listing { name: format!("b{number}"), address: address(number), link_key: [number; 32], most }
    }

    fn load(load: u8) -> Load {
        Load { load, sessions: 0, draining: false }
    }

    /// Brokers 1 to so many, each with 1000 places and without load, on lines 1 and so on.
    fn roster(count: u8) -> Roster {
        let mut roster = Roster::new(RosterConfig::default(), 7);
        for number in 1..=count {
            roster.enlist(number.into(), KeyId([number; 32]), listing(number, 1000)).unwrap();
            roster.report(at(0), number.into(), load(0));
        }
        roster
    }

    fn chosen(roster: &mut Roster, who: u16, seen: &[Seen]) -> Option<u8> {
        let question = Question { features: 0, seen: seen.to_vec() };
        match roster.choose(from(who), &question) {
            Answer::Broker { address, key } => {
                let SocketAddr::V4(v4) = address else { return Some(key[0]) };
                assert_eq!(key, [v4.ip().octets()[3]; 32], "address and key are of one broker");
                Some(key[0])
            }
            Answer::None { pause } => {
                assert_eq!(pause, 10);
                None
            }
        }
    }

    fn saw(number: u8, class: u8, failed: bool) -> Seen {
        Seen { address: address(number), class: RttClass(class), failed }
    }

    #[test]
    fn the_lowest_load_wins_and_the_link_counts() {
        let mut roster = roster(2);
        roster.report(at(1), 1, load(30));
        roster.report(at(1), 2, load(10));
        assert_eq!(chosen(&mut roster, 1, &[]), Some(2));
        // 2 × 30 + 0 against 2 × 10 + 60: the near one ties with nobody.
        assert_eq!(chosen(&mut roster, 1, &[saw(1, 1, false), saw(2, 4, false)]), Some(1));
        assert_eq!(chosen(&mut roster, 1, &[saw(1, 1, false), saw(2, 2, false)]), Some(2));
        assert_eq!(chosen(&mut roster, 1, &[saw(1, 1, false), saw(2, 77, false)]), Some(2), "as unknown");
        // One that failed this device comes last, for this device.
        assert_eq!(chosen(&mut roster, 1, &[saw(2, 1, true)]), Some(1));
        assert_eq!(chosen(&mut roster, 2, &[]), Some(2));
    }

    /// A broker may be well and yet out of a device's reach.
    #[test]
    fn of_brokers_that_all_failed_a_device_the_one_left_longest_ago_is_given() {
        let mut roster = roster(3);
        roster.report(at(1), 1, load(90));
        roster.report(at(1), 2, load(40));
        let mut seen = Vec::new();
        let mut given = Vec::new();
        for _ in 0..7 {
            let broker = chosen(&mut roster, 1, &seen).unwrap();
            given.push(broker);
            seen.retain(|seen: &Seen| seen.address != address(broker));
            seen.insert(0, saw(broker, 1, true));
        }
        assert_eq!(given, [3, 2, 1, 3, 2, 1, 3]);
        // Not even then one that cannot be reached at all.
        let six = Listing { address: "[2001:db8::1]:7700".parse().unwrap(), ..listing(4, 1000) };
        roster.enlist(4, KeyId([4; 32]), six).unwrap();
        roster.report(at(1), 4, load(0));
        assert_eq!(chosen(&mut roster, 1, &seen), Some(2));
    }

    #[test]
    fn ties_are_spread_by_hash_and_one_who_asks_again_gets_the_same() {
        let mut counts = [0; 5];
        for who in 0..400 {
            // Of each its own, so that nobody's choice weighs on another's.
            let mut roster = roster(4);
            let first = chosen(&mut roster, who, &[]).unwrap();
            assert_eq!(chosen(&mut roster, who, &[]), Some(first));
            counts[usize::from(first)] += 1;
        }
        assert!(counts[1..].iter().all(|count| (60..=140).contains(count)), "{counts:?}");
    }

    #[test]
    fn many_who_ask_between_two_reports_are_spread() {
        let mut roster = roster(2);
        roster.report(at(1), 1, load(20));
        let mut counts = [0; 3];
        for who in 0..1000 {
            counts[usize::from(chosen(&mut roster, who, &[]).unwrap())] += 1;
        }
        assert!((350..450).contains(&counts[1]), "20 of 100 are there already: {counts:?}");
        // What is full is given when everything is.
        roster.report(at(2), 1, Load { load: 0, sessions: 1000, draining: false });
        roster.report(at(2), 2, load(99));
        assert_eq!(chosen(&mut roster, 1, &[]), Some(2));
        roster.report(at(2), 2, Load { load: 99, sessions: 1000, draining: false });
        assert_eq!(chosen(&mut roster, 1, &[]), Some(1));
    }

    #[test]
    fn a_broker_that_falls_silent_is_taken_out_and_its_users_are_given_another() {
        let mut roster = roster(2);
        roster.events.clear();
        roster.report(at(0), 2, load(50));
        for round in 1..=3 {
            roster.report(at(round * 10), 2, load(50));
        }
        roster.handle_deadline(at(29));
        assert_eq!(chosen(&mut roster, 1, &[]), Some(1), "two reports may be missed");
        assert_eq!(roster.deadline(), Some(at(30)));
        roster.handle_deadline(at(30));
        let out = BalancerEvent::Out { name: "b1".into(), why: Out::Silent };
        assert_eq!(roster.events.pop_front(), Some(out));
        assert_eq!(chosen(&mut roster, 1, &[]), Some(2));
        assert_eq!((roster.count(), roster.counters.silent), ((2, 1), 1));
        // It is heard again, so it is in again.
        roster.report(at(31), 1, load(0));
        assert!(matches!(roster.events.pop_front(), Some(BalancerEvent::In { .. })));
        assert_eq!(chosen(&mut roster, 1, &[]), Some(1));
        assert_eq!(RosterConfig::default().report_every, EVERY);
    }

    #[test]
    fn draining_gives_no_new_ones() {
        let mut roster = roster(2);
        roster.report(at(1), 2, load(90));
        assert_eq!(chosen(&mut roster, 1, &[]), Some(1));
        roster.events.clear();
        roster.report(at(2), 1, Load { load: 0, sessions: 5, draining: true });
        let out = BalancerEvent::Out { name: "b1".into(), why: Out::Draining };
        assert_eq!(roster.events.pop_front(), Some(out));
        assert_eq!(chosen(&mut roster, 1, &[saw(1, 1, false)]), Some(2));
        assert_eq!(chosen(&mut roster, 1, &[saw(2, 1, true)]), Some(2), "even when the other failed");
        roster.report(at(3), 1, load(0));
        assert_eq!(chosen(&mut roster, 1, &[]), Some(1), "it drains no more");
        assert_eq!(roster.counters.drained, 1);
    }

    #[test]
    fn a_broker_counts_from_its_first_report_to_its_end() {
        let mut roster = Roster::new(RosterConfig::default(), 7);
        assert_eq!(chosen(&mut roster, 1, &[]), None);
        let number = roster.enlist(1, KeyId([1; 32]), listing(1, 10)).unwrap();
        assert_eq!(chosen(&mut roster, 1, &[]), None);
        roster.report(at(0), 1, load(0));
        assert_eq!(chosen(&mut roster, 1, &[]), Some(1));
        // It is back on another connection before the old one's end was noticed.
        roster.events.clear();
        assert_eq!(roster.enlist(2, KeyId([1; 32]), listing(1, 10)), Ok(number));
        assert_eq!(roster.events.pop_front(), Some(BalancerEvent::Displaced { line: 1 }));
        roster.report(at(1), 1, load(0));
        assert_eq!((chosen(&mut roster, 1, &[]), roster.counters.strange), (None, 1));
        roster.report(at(1), 2, load(0));
        roster.closed(1);
        assert_eq!(chosen(&mut roster, 1, &[]), Some(1));
        roster.events.clear();
        roster.closed(2);
        let out = BalancerEvent::Out { name: "b1".into(), why: Out::Closed };
        assert_eq!(roster.events.pop_front(), Some(out));
        assert_eq!((chosen(&mut roster, 1, &[]), roster.count()), (None, (0, 0)));
        assert_eq!((roster.counters.closed, roster.counters.displaced), (1, 1));
    }

    #[test]
    fn there_are_only_so_many_and_another_key_takes_nobodys_place() {
        let config = RosterConfig { max_brokers: 2, ..RosterConfig::default() };
        let mut roster = Roster::new(config, 7);
        assert_eq!(roster.enlist(1, KeyId([1; 32]), listing(1, 10)), Ok(1));
        assert_eq!(roster.enlist(2, KeyId([2; 32]), listing(1, 10)), Ok(2), "the same name, another key");
        assert_eq!(roster.enlist(3, KeyId([3; 32]), listing(3, 10)), Err(Full));
        assert_eq!(
            roster.enlist(3, KeyId([1; 32]), listing(1, 10)),
            Ok(1),
            "one that is there may come again"
        );
        assert_eq!((roster.counters.full, roster.count().0), (1, 2));
        // On one connection there is one broker.
        assert_eq!(roster.enlist(3, KeyId([1; 32]), listing(4, 10)), Ok(3));
        assert_eq!(roster.count().0, 2);
    }

    #[test]
    fn who_asks_over_ipv4_is_given_a_broker_that_has_it() {
        let mut roster = roster(1);
        let v6 = Listing { address: "[2001:db8::2]:7700".parse().unwrap(), ..listing(2, 10) };
        roster.enlist(2, KeyId([2; 32]), v6).unwrap();
        roster.report(at(0), 1, load(90));
        roster.report(at(0), 2, load(0));
        assert_eq!(chosen(&mut roster, 1, &[]), Some(1));
        let mapped = "[::ffff:198.51.100.1]:1".parse().unwrap();
        let Answer::Broker { key, .. } = roster.choose(mapped, &Question::default()) else { panic!() };
        assert_eq!(key[0], 1);
        let v6 = "[2001:db8::9]:1".parse().unwrap();
        let Answer::Broker { key, .. } = roster.choose(v6, &Question::default()) else { panic!() };
        assert_eq!(key[0], 2);
    }
}
