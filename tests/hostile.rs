//! Valid conversations, mutated: whole nodes at both ends, on streams and on datagrams. Nothing panics, what is kept is
//! bounded, the store can be read again, and others are served as ever.
//!
//! `HAILPOST_CASES=1000000 cargo test --test hostile` for a long run. Everything follows from a case's number.

#[path = "gateway/script/mod.rs"]
mod script;

use std::{net::SocketAddr, time::Duration};

use hailpost::{
    gateway::{BackendConfig, Enrolment, GatewayConfig, GatewayState, ResultKey},
    io::{Conn, Input, Transport},
    node::{EventKind, Recognition},
    recognize,
    rng::{Entropy, Seeded},
    store::{Memory, Store, Table},
    wire::gateway::{Kind, Rule, seal},
};
use script::{desk::Desk, outpost::Outpost, *};

/// Cases of one life of a node, so that damage can add up.
const LIFE: u64 = 250;

fn cases() -> u64 {
    std::env::var("HAILPOST_CASES").map_or(20_000, |text| text.parse().expect("HAILPOST_CASES is a number"))
}

/// Says which case it was when something panics.
struct Case(&'static str, u64);

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}: case {} fails", self.0, self.1);
        }
    }
}

#[test]
fn mutated_conversations_with_a_back_end() {
    let (mut malformed, mut reports, mut registrations, mut foreign) = (0, 0, 0, 0);
    for life in 0..cases() / 2 / LIFE {
        let family = if life % 2 == 0 { Family::V4 } else { Family::V6 };
        let store = Memory::default();
        for reopened in 0..2 {
            let mut town = Town::new(family, store.clone());
            for case in 0..LIFE / 2 {
                let number = life * LIFE + reopened * LIFE / 2 + case;
                let _case = Case("back end", number);
                town.attack(number);
                town.judge(case % 25 == 0);
            }
            let counters = town.desk.counters();
            malformed += counters.malformed;
            reports += counters.reports;
            registrations += counters.registrations;
            foreign += counters.foreign;
        }
    }
    println!("{registrations} registrations, {reports} reports, {malformed} malformed, {foreign} foreign");
    assert!(
        [registrations, reports, malformed, foreign].iter().all(|count| *count > 0),
        "the attacks get nowhere"
    );
}

#[test]
fn mutated_conversations_with_a_gateway() {
    let (mut malformed, mut registrations, mut learnt) = (0, 0, 0);
    for life in 0..cases() / 2 / LIFE {
        let mut house = House::new(if life % 2 == 0 { Family::V4 } else { Family::V6 });
        for number in life * LIFE..(life + 1) * LIFE {
            let _case = Case("gateway", number);
            house.attack(number);
            learnt += house.judge();
        }
        malformed += house.outpost.counters().malformed;
        registrations += house.outpost.counters().registrations;
    }
    println!("{registrations} registrations, {learnt} results held after an attack, {malformed} malformed");
    assert!(registrations > 0 && learnt > 0 && malformed > 0, "the attacks get nowhere");
}

/// A back end with two good gateways, and attackers before it.
struct Town {
    desk: Desk,
    store: Memory,
    good: [Conn; 2],
    next: u32,
}

const MAX_GATEWAYS: usize = 40;
const MAX_RESULTS: usize = 60;
const MAX_FEATURES: usize = 100;

impl Town {
    fn new(family: Family, store: Memory) -> Town {
        let config = BackendConfig {
            family,
            max_gateways: MAX_GATEWAYS,
            max_results: MAX_RESULTS,
            max_results_per_gateway: 40,
            max_features: MAX_FEATURES,
            max_feature_apps_per_gateway: 8,
            max_features_per_gateway: 4,
            open_group: Some("open".into()),
            agreement: 1,
            ..BackendConfig::default()
        };
        let mut desk = Desk::on(config, Box::new(store.clone()), Some(1));
        for (octet, group) in [(1, "home"), (2, "home"), (9, "den")] {
            let enrolment = Enrolment { name: "g".into(), group: group.into(), trusted: true, barred: false };
            desk.backend().enrol(key(octet), enrolment).expect("the names are short");
        }
        desk.drain();
        desk.backend().set_rule(None, AppId(22), b"^SSH").expect("it can travel");
        desk.backend().set_parameters("open", AppId(7), vec![1, 2, 3]).expect("they can travel");
        desk.drain();
        let good = [1, 2].map(|octet| desk.member(octet.into(), Some(key(octet)), 5));
        desk.say(good[0], 1, &Body::Result(record(family, 1, 7)));
        desk.answer_all(good[1]);
        Town { desk, store, good, next: 10 }
    }

    fn attack(&mut self, number: u64) {
        let mut rng = Seeded::new(number);
        let rng = &mut rng;
        let family = self.desk.family;
        self.next += 1;
        let tag = if rng.below(4) == 0 { 0 } else { rng.next_u16() };
        let mut messages = Vec::new();
        let is_datagram = rng.below(2) == 0;
        let register = encoder(family).message(tag, &Body::Register);
        if is_datagram {
            let from = SocketAddr::from(([10, 9, rng.below(2) as u8, rng.below(20) as u8], 5000));
            let mut epoch = None;
            if rng.below(4) > 0 {
                epoch = self.register_from(from, &register, tag);
            } else {
                messages.push(register);
            }
            talk_of_a_gateway(rng, family, &mut messages);
            mutate(rng, family, &mut messages);
            for mut octets in messages {
                if let Some(epoch) = epoch.filter(|_| rng.below(4) > 0) {
                    seal(epoch, &mut octets);
                }
                self.desk.datagram(from, &octets);
            }
        } else {
            let key = if rng.below(3) == 0 { Some(key(9)) } else { None };
            let conn = self.desk.connect(self.next, key);
            messages.push(register);
            talk_of_a_gateway(rng, family, &mut messages);
            let whole = if rng.below(4) > 0 { messages.remove(0) } else { Vec::new() };
            mutate(rng, family, &mut messages);
            messages.insert(0, whole);
            for piece in pieces(rng, messages.concat()) {
                self.desk.octets(conn, &piece);
            }
            if rng.below(2) == 0 && !self.desk.hung_up().contains(&conn) {
                self.desk.turn(Input::Closed { conn, fault: None });
            }
        }
        for _ in 0..rng.below(4) {
            self.desk.pass(SECOND);
            for good in self.good {
                self.desk.say(good, 0, &Body::Heartbeat);
            }
        }
    }

    /// Registers an address that answers its probe; the epoch, if one was agreed.
    fn register_from(&mut self, from: SocketAddr, register: &[u8], tag: u16) -> Option<u32> {
        let family = self.desk.family;
        self.desk.datagram(from, register);
        let answers = self.desk.datagrams(from);
        if let Some(message) = answers.first().and_then(|octets| decode(family, octets).ok())
            && let Body::Heartbeat = message.body
        {
            self.desk.datagram(from, &encoder(family).message(message.header.tag, &Body::HeartbeatAnswer));
            self.desk.datagram(from, register);
        }
        let answers = self.desk.datagrams(from);
        answers.iter().find_map(|octets| match decode(family, octets).ok()?.body {
            Body::RegisterAnswer(outcome) if tag != 0 => {
                Some(u32::from(tag) << 16 | u32::from(outcome.reason.0))
            }
            _ => None,
        })
    }

    fn judge(&mut self, thoroughly: bool) {
        let family = self.desk.family;
        let others: usize = self.good.iter().map(|good| self.desk.answer_all(*good).len()).sum();
        assert!(others <= 2 * 6, "the good are told {others} things, beats and a few rules");
        let drawn = self.desk.sent_octets();
        assert!(drawn < 1 << 20, "{drawn} octets were sent for one conversation");
        for good in self.good {
            self.desk.say(good, 0, &Body::Heartbeat);
            assert_eq!(self.desk.heard(good), [(HEARTBEAT | ANSWER, 0)]);
        }
        assert_eq!(self.desk.told(EventKind::GatewayGone) / (MAX_GATEWAYS + 1), 0);
        self.desk.events.clear();
        self.desk.hung_up();
        let backend = self.desk.backend();
        let key = record(family, 1, 7);
        let home: Vec<_> = backend.results("home").collect();
        assert_eq!(home, [(ResultKey::new(key.remote, 1), AppId(7))], "nothing crosses groups");
        assert!(backend.gateways().count() <= MAX_GATEWAYS && backend.pending() == 0);
        assert!(["open", "den"].iter().all(|group| backend.results(group).count() <= MAX_RESULTS));
        if thoroughly {
            let count = |table| {
                let mut count = 0;
                self.store.load(Table::rows(table), &mut |_, _| count += 1).expect("memory never fails");
                count
            };
            assert!(count("vote") <= 3 * 8 * MAX_RESULTS && count("feature") <= 3 * MAX_FEATURES);
            assert_eq!((count("gateway"), count("rule")), (3, 1));
        }
    }
}

/// A gateway that recognises by what it is told, and a back end that means it ill, or well.
struct House {
    outpost: Outpost,
    reported: usize,
    ended: usize,
    ends: u32,
}

const MAX_RULE_OCTETS: usize = 2000;

impl House {
    fn new(family: Family) -> House {
        let config = GatewayConfig {
            family,
            max_results: MAX_RESULTS,
            max_rule_octets: MAX_RULE_OCTETS,
            max_reports: 16,
            backoff_max: Duration::from_secs(4),
            barred_retry: Duration::from_secs(20),
            ..GatewayConfig::default()
        };
        let limits = recognize::Config { max_flows: 16, ..recognize::Config::default() };
        let recognition = Recognition::new(None, recognize::Limits::default(), limits, Vec::new())
            .expect("there are no rules");
        let outpost = Outpost::with(config, Transport::Stream, Some(recognition));
        House { outpost, reported: 0, ended: 0, ends: 0 }
    }

    fn attack(&mut self, number: u64) {
        let mut rng = Seeded::new(number ^ 0x6a7e);
        let rng = &mut rng;
        let family = self.outpost.family;
        self.outpost.transport = if rng.below(2) == 0 { Transport::Datagram } else { Transport::Stream };
        self.until_it_connects();
        for _ in 0..rng.below(4) {
            self.ends += 1;
            let (now, record) = (self.outpost.now, record(family, 5000 + self.ends, 7));
            self.reported += usize::from(self.outpost.gateway().report(now, record).is_ok());
        }
        let register = self.outpost.raw();
        let (REGISTER, tag) = said(family, &register[0]) else { panic!("it does not register first") };
        let mut messages = vec![encoder(family).message(
            if rng.below(3) == 0 { 0 } else { tag },
            &Body::RegisterAnswer(Outcome { result: 0, reason: Reason(9) }),
        )];
        talk_of_a_back_end(rng, family, &mut messages);
        let is_valid = rng.below(4) > 0;
        let answer = messages.remove(0);
        if is_valid {
            self.outpost.octets(&answer);
        } else {
            messages.insert(0, answer);
        }
        mutate(rng, family, &mut messages);
        if self.outpost.transport == Transport::Stream {
            messages = pieces(rng, messages.concat());
        }
        for mut octets in messages {
            if self.outpost.conn.is_none() {
                break;
            }
            if self.outpost.transport == Transport::Datagram && rng.below(4) > 0 {
                seal(u32::from(tag) << 16 | 9, &mut octets);
            }
            self.outpost.octets(&octets);
            if rng.below(8) == 0 {
                self.outpost.pass(SECOND);
            }
        }
    }

    /// What an attack left behind is bounded, and a good back end finds a gateway that works. Answers how many results
    /// the attack left.
    fn judge(&mut self) -> usize {
        let family = self.outpost.family;
        let gateway = self.outpost.node.gateway();
        let left = gateway.results().count();
        assert!(left <= MAX_RESULTS);
        assert!(gateway.rules().map(|(_, pattern)| pattern.len()).sum::<usize>() <= MAX_RULE_OCTETS);
        assert!(self.outpost.raw().concat().len() < 1 << 18);
        self.count_ends();
        if let Some(conn) = self.outpost.conn.take() {
            self.outpost.turn(Input::Closed { conn, fault: None });
        }
        self.outpost.transport = Transport::Stream;
        self.until_it_connects();
        for _ in 0..20 {
            for octets in self.outpost.raw() {
                let message = decode(family, &octets).expect("it says what can be read");
                if let Some(body) = answer(&message) {
                    self.outpost.say(message.header.tag, &body);
                }
            }
        }
        self.outpost.octets(&encoder(family).result_sync(1, 1, [record(family, 1, 7)].into_iter()));
        self.outpost.octets(&encoder(family).result_sync(2, 2, [].into_iter()));
        self.outpost.octets(&encoder(family).rule_sync(1, 1, [].into_iter()).0);
        assert_eq!((self.outpost.state(), self.outpost.told(EventKind::Synced)), (GatewayState::Active, 1));
        self.count_ends();
        assert_eq!((self.outpost.node.gateway().pending(), self.reported), (0, self.ended));
        assert_eq!(
            self.outpost.node.gateway().rules().count(),
            0,
            "what a back end does not tell again is gone"
        );
        let conn = self.outpost.conn.take().expect("it is active");
        self.outpost.turn(Input::Closed { conn, fault: None });
        left
    }

    /// Each report that was taken ends once, or waits.
    fn count_ends(&mut self) {
        self.ended +=
            self.outpost.told(EventKind::Acknowledged) + self.outpost.told(EventKind::ReportDropped);
        assert_eq!(self.reported, self.ended + self.outpost.node.gateway().pending());
        self.outpost.events.clear();
    }

    fn until_it_connects(&mut self) {
        for _ in 0..100 {
            if self.outpost.wanted.is_some() {
                self.outpost.raw();
                return self.outpost.connect();
            }
            self.outpost.pass(SECOND);
        }
        panic!("it does not try again");
    }
}

/// What a gateway may say, with the tags that are due.
fn talk_of_a_gateway(rng: &mut Seeded, family: Family, messages: &mut Vec<Vec<u8>>) {
    let encoder = encoder(family);
    let (mut results, mut features) = (0, 0);
    for _ in 0..rng.below(16) {
        messages.push(match rng.below(12) {
            0 => encoder.message(0, &Body::Heartbeat),
            1 => encoder.message(1, &Body::ResultSyncAnswer { serial: 1, reserved: 0 }),
            2 => encoder.message(1, &Body::RuleSyncAnswer { serial: 1, reserved: 0 }),
            3 => encoder.message(1, &Body::ParametersAnswer),
            4 => encoder.message(1, &Body::ResultAnswer),
            5 | 6 => {
                features += 1;
                let words: Vec<u32> = (0..rng.below(257)).map(|_| rng.next_u64() as u32).collect();
                encoder.words(features, Kind::Features, AppId(rng.below(50)), &words)
            }
            7 if rng.below(4) == 0 => encoder.message(1, &Body::Deregister),
            8 if rng.below(2) == 0 => encoder.message(rng.next_u16(), &Body::Register),
            9 if rng.below(4) == 0 => {
                encoder.message(rng.next_u16(), &Body::Enrol { token: [rng.below(2) as u8; 16] })
            }
            _ => {
                results += 1;
                let record =
                    Record { protocol: rng.below(16) as u8, ..record(family, rng.below(300), rng.below(5)) };
                encoder.message(results, &Body::Result(record))
            }
        });
    }
}

/// What a back end may say.
fn talk_of_a_back_end(rng: &mut Seeded, family: Family, messages: &mut Vec<Vec<u8>>) {
    const PATTERNS: [&[u8]; 8] =
        [b"^SSH", b"(a|aa)+$", b"x{1000}", b"[", b"(?i)^GET ", b"((a*)*)*b", b"\\x00\\xff", b""];
    let encoder = encoder(family);
    let mut tags = [0u16; 9];
    for _ in 0..rng.below(16) {
        let mut due = |kind: Kind| {
            let tag = &mut tags[usize::from(kind.request_id())];
            *tag += 1;
            *tag
        };
        messages.push(match rng.below(12) {
            0 => encoder.message(0, &Body::HeartbeatAnswer),
            1..4 => {
                let tag = due(Kind::ResultSync);
                let count = rng.below(61);
                let records: Vec<Record> =
                    (0..count).map(|_| record(family, rng.below(300), rng.below(5))).collect();
                encoder.result_sync(tag, tag, records.into_iter())
            }
            4..6 => {
                let tag = due(Kind::RuleSync);
                let count = rng.below(6);
                let rules: Vec<Rule<'_>> = (0..count)
                    .map(|_| Rule { app: AppId(rng.below(4)), pattern: PATTERNS[rng.below(8) as usize] })
                    .collect();
                encoder.rule_sync(tag, tag, rules.into_iter()).0
            }
            6 => {
                let words: Vec<u32> = (0..rng.below(257)).map(|_| rng.next_u64() as u32).collect();
                encoder.words(due(Kind::Parameters), Kind::Parameters, AppId(rng.below(50)), &words)
            }
            7 if rng.below(4) == 0 => encoder.message(due(Kind::Deregister), &Body::Deregister),
            8 => encoder.message(1 + rng.below(4) as u16, &Body::ResultAnswer),
            9 => encoder.message(rng.next_u16(), &Body::Heartbeat),
            _ => encoder
                .message(due(Kind::Result), &Body::Result(record(family, rng.below(300), rng.below(5)))),
        });
    }
}

/// A few changes, at random places.
fn mutate(rng: &mut Seeded, family: Family, messages: &mut Vec<Vec<u8>>) {
    const LENGTHS: [u32; 8] = [0, 1, 4, 20, 44, 65_535, 65_536, u32::MAX];
    let length_at = family.header_len() - 8;
    for _ in 0..rng.below(5) {
        if messages.is_empty() {
            return;
        }
        let count = messages.len() as u32;
        let (at, other) = (rng.below(count) as usize, rng.below(count) as usize);
        let len = messages[at].len() as u32;
        let mut put = |offset: usize, octets: &[u8]| {
            if let Some(place) = messages[at].get_mut(offset..offset + octets.len()) {
                place.copy_from_slice(octets);
            }
        };
        match rng.below(13) {
            0 => put(length_at, &LENGTHS[rng.below(8) as usize].to_be_bytes()),
            1 => put(length_at + 4, &(rng.below(12) as u16 | (rng.below(2) as u16) << 15).to_be_bytes()),
            2 => put(length_at + 6, &[0u16, 1, 2, 9, 40_000, 65_535][rng.below(6) as usize].to_be_bytes()),
            3 => put(family.header_len(), &rng.next_u64().to_be_bytes()),
            4 => messages[at].truncate(rng.below(len + 1) as usize),
            5 => messages[at].extend((0..rng.below(80)).map(|octet| octet as u8)),
            6 => {
                let copy = messages[at].clone();
                messages.insert(other, copy);
            }
            7 => messages.swap(at, other),
            8 => drop(messages.remove(at)),
            9 => {
                let half = messages[other].len() / 2;
                let tail = messages[other].split_off(half);
                messages[at].extend(tail);
            }
            10 => {
                let mut noise = vec![0; rng.below(100) as usize];
                rng.fill(&mut noise);
                messages.insert(at, noise);
            }
            _ => {
                for _ in 0..=rng.below(8) {
                    let bit = rng.below((len * 8).max(1)) as usize;
                    if let Some(octet) = messages[at].get_mut(bit / 8) {
                        *octet ^= 1 << (bit % 8);
                    }
                }
            }
        }
    }
}

/// A stream in pieces: whole, or small ones.
fn pieces(rng: &mut Seeded, octets: Vec<u8>) -> Vec<Vec<u8>> {
    let size = [1, 7, 50, 1000, usize::MAX][rng.below(5) as usize];
    octets.chunks(size.min(octets.len().max(1))).map(<[u8]>::to_vec).collect()
}
