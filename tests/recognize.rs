//! Recognition as a whole, over its public face: frames in, verdicts out.
#![cfg(feature = "recognize")]

use std::{
    collections::HashMap,
    fs,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use hailpost::{
    recognize::{
        AppId, Config, FiveTuple, FlowFeatures, FlowModel, How, Limits, Recognizer, Rule, RuleFault, RuleSet,
        RulesFile, Stage, Transport, Verdict,
    },
    time::Time,
    wire::{capture::CaptureReader, packet::LinkType},
};

const NETFLIX: AppId = AppId(1);
const TLS: AppId = AppId(2);
const SSH: AppId = AppId(3);
const DNS: AppId = AppId(4);
const RTP: AppId = AppId(5);
const DEEP: AppId = AppId(6);
const MEMO: AppId = AppId(7);

fn rule(app: AppId, text: &str) -> Rule {
    Rule { app, text: text.to_owned() }
}

fn rules() -> Arc<RuleSet> {
    let rules = [
        rule(TLS, r"(?#tcp prio=2)^\x16\x03[\x00-\x04]"),
        rule(NETFLIX, r"(?#name)(^|\.)netflix\.com$"),
        rule(SSH, r"^SSH-2\.0-"),
        rule(DNS, r"(?#udp port=53)^..[\x00-\x07]"),
        rule(RTP, r"(?#udp prio=1 times=3 len=12-400)^\x80[\x00-\x22\x60-\x7f]"),
        rule(DEEP, r"(?#tcp)needle-[0-9]{4}"),
        rule(MEMO, r"(?#udp)^memo[^$]*end$"),
    ];
    Arc::new(RuleSet::compile(&rules, Limits::default()).expect("the rules are good"))
}

/// A connection from 10.0.0.1 to 10.0.0.2 as frames.
#[derive(Clone, Copy)]
struct Ends {
    client: [u8; 4],
    ports: [u16; 2],
}

const ENDS: Ends = Ends { client: [10, 0, 0, 1], ports: [40_000, 443] };
const SERVER: [u8; 4] = [10, 0, 0, 2];

impl Ends {
    fn ip(self, from_client: bool, protocol: u8, flags_offset: u16, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0];
        out.extend((20 + payload.len() as u16).to_be_bytes());
        out.extend([0, 77]);
        out.extend(flags_offset.to_be_bytes());
        out.extend([64, protocol, 0, 0]);
        let ends = if from_client { [self.client, SERVER] } else { [SERVER, self.client] };
        out.extend(ends.concat());
        out.extend(payload);
        out
    }

    fn transport(self, from_client: bool) -> Vec<u8> {
        let [a, b] = self.ports.map(u16::to_be_bytes);
        if from_client { [a, b].concat() } else { [b, a].concat() }
    }

    fn tcp(self, from_client: bool, sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut segment = self.transport(from_client);
        segment.extend(sequence.to_be_bytes());
        segment.extend([0, 0, 0, 0, 0x50, flags, 1, 0, 0, 0, 0, 0]);
        segment.extend(payload);
        self.ip(from_client, 6, 0, &segment)
    }

    fn udp(self, from_client: bool, payload: &[u8]) -> Vec<u8> {
        self.ip(from_client, 17, 0, &self.datagram(from_client, payload))
    }

    fn datagram(self, from_client: bool, payload: &[u8]) -> Vec<u8> {
        let mut datagram = self.transport(from_client);
        datagram.extend((8 + payload.len() as u16).to_be_bytes());
        datagram.extend([0, 0]);
        datagram.extend(payload);
        datagram
    }
}

const SYN: u8 = 2;
const ACK: u8 = 16;
const FIN: u8 = 17;

struct Run {
    recognizer: Recognizer,
    now: Time,
    verdicts: Vec<Verdict>,
}

impl Run {
    fn new(config: Config) -> Run {
        Run { recognizer: Recognizer::new(rules(), config), now: Time::from_micros(1), verdicts: Vec::new() }
    }

    fn feed(&mut self, frame: &[u8]) {
        self.now += Duration::from_millis(1);
        let _ = self.recognizer.feed(self.now, LinkType::ETHERNET, frame);
        self.poll();
    }

    fn poll(&mut self) {
        while let Some(verdict) = self.recognizer.poll_verdict() {
            self.verdicts.push(verdict);
        }
    }

    fn finish(&mut self) -> Vec<Verdict> {
        self.recognizer.finish();
        self.poll();
        std::mem::take(&mut self.verdicts)
    }

    /// What flows were in the end.
    fn apps(&mut self) -> Vec<Option<AppId>> {
        let ended = |verdict: &Verdict| verdict.stage == Stage::Ended;
        self.finish().into_iter().filter(ended).map(|verdict| verdict.app).collect()
    }
}

fn client_hello(name: &str, padding: usize) -> Vec<u8> {
    let mut extensions = vec![0, 21];
    extensions.extend((padding as u16).to_be_bytes());
    extensions.extend(vec![0; padding]);
    let name_len = name.len() as u16;
    extensions.extend([0, 0]);
    extensions.extend((name_len + 5).to_be_bytes());
    extensions.extend((name_len + 3).to_be_bytes());
    extensions.push(0);
    extensions.extend(name_len.to_be_bytes());
    extensions.extend(name.as_bytes());
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let mut out = vec![1, 0];
    out.extend((body.len() as u16).to_be_bytes());
    out.extend(body);
    out
}

fn records(message: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in message.chunks(size) {
        out.extend([22, 3, 1]);
        out.extend((piece.len() as u16).to_be_bytes());
        out.extend(piece);
    }
    out
}

/// Numbers that are the same in every run.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }
}

#[test]
fn a_provisional_verdict_is_refined() {
    let mut run = Run::new(Config::default());
    let stream = records(&client_hello("www.NETFLIX.com", 900), 4096);
    run.feed(&ENDS.tcp(true, 9, SYN, b""));
    run.feed(&ENDS.tcp(false, 99, SYN | ACK, b""));
    run.feed(&ENDS.tcp(true, 10, ACK, &stream[..600]));
    let early = run.verdicts.pop().expect("a verdict");
    assert_eq!((early.app, early.how, early.stage), (Some(TLS), How::Rule, Stage::Early));
    assert_eq!(early.flow.initiator.to_string(), "10.0.0.1:40000");
    run.feed(&ENDS.tcp(true, 610, ACK, &stream[600..]));
    let settled = run.verdicts.pop().expect("a verdict");
    assert_eq!((settled.app, settled.stage, settled.rule), (Some(NETFLIX), Stage::Settled, Some(1)));
    run.feed(&ENDS.tcp(true, 5000, ACK, b"SSH-2.0-"));
    let verdicts = run.finish();
    assert_eq!(verdicts.len(), 1);
    assert_eq!((verdicts[0].stage, verdicts[0].app, verdicts[0].packets), (Stage::Ended, Some(NETFLIX), 5));
    assert_eq!(run.recognizer.open_flows(), 0);
}

#[test]
fn streams_in_any_order_with_repeats_are_one_stream() {
    let mut seeded = Seeded(42);
    for round in 0..400 {
        let hello = client_hello("a.netflix.com", seeded.below(3000));
        let stream = records(&hello, 200 + seeded.below(2000));
        let start = u32::MAX - seeded.below(3000) as u32;
        let mut segments = Vec::new();
        let mut at = 0;
        while at < stream.len() {
            let end = (at + 200 + seeded.below(1200)).min(stream.len());
            let early = at.saturating_sub(seeded.below(150));
            segments.push((early, &stream[early..end]));
            if seeded.below(3) == 0 {
                segments.push((at, &stream[at..end]));
            }
            at = end;
        }
        for _ in 0..segments.len() {
            let (a, b) = (seeded.below(segments.len()), seeded.below(segments.len()));
            if a.abs_diff(b) < 4 {
                segments.swap(a, b);
            }
        }
        let mut run = Run::new(Config::default());
        run.feed(&ENDS.tcp(true, start, SYN, b""));
        for (at, octets) in &segments {
            run.feed(&ENDS.tcp(true, start.wrapping_add(1 + *at as u32), ACK, octets));
        }
        assert_eq!(run.apps(), [Some(NETFLIX)], "round {round}");
        assert!(run.recognizer.memory().pool < 64 << 10);
    }
}

#[test]
fn a_pattern_that_floats_is_found_across_segments() {
    for cut in 1..10 {
        let mut run = Run::new(Config::default());
        let text = b"....needle-1234";
        run.feed(&ENDS.tcp(true, 0, ACK, &text[..cut]));
        run.feed(&ENDS.tcp(false, 0, ACK, b"needle"));
        run.feed(&ENDS.tcp(true, cut as u32, ACK, &text[cut..]));
        assert_eq!(run.apps(), [Some(DEEP)]);
    }
    let mut run = Run::new(Config::default());
    run.feed(&ENDS.tcp(true, 0, ACK, b"need"));
    run.feed(&ENDS.tcp(false, 0, ACK, b"le-1234"));
    assert_eq!(run.apps(), [None]);
}

#[test]
fn a_gap_that_never_fills_does_not_stop_a_direction() {
    let mut run = Run::new(Config::default());
    run.feed(&ENDS.tcp(true, 0, SYN, b""));
    for at in 1..=8u32 {
        run.feed(&ENDS.tcp(true, 1 + at * 100, ACK, &[b'.'; 100]));
    }
    run.feed(&ENDS.tcp(true, 901, ACK, b"needle-0000"));
    assert_eq!(run.apps(), [Some(DEEP)]);
    // What stands after the gap is not the stream's start.
    let mut run = Run::new(Config::default());
    run.feed(&ENDS.tcp(true, 0, SYN, b""));
    for at in 1..=9u32 {
        run.feed(&ENDS.tcp(true, 1 + at * 8, ACK, b"SSH-2.0-"));
    }
    assert_eq!(run.apps(), [None]);
}

#[test]
fn who_answers_is_the_responder() {
    let mut run = Run::new(Config::default());
    run.feed(&ENDS.tcp(false, 5, SYN | ACK, b""));
    run.feed(&ENDS.tcp(false, 6, ACK, b"SSH-2.0-x\r\n"));
    let settled = run.verdicts.pop().expect("a verdict");
    assert_eq!(settled.flow.initiator.to_string(), "10.0.0.1:40000");
    assert_eq!(settled.app, Some(SSH));
}

#[test]
fn a_port_used_again_is_another_flow() {
    let mut run = Run::new(Config::default());
    run.feed(&ENDS.tcp(true, 0, SYN, b""));
    run.feed(&ENDS.tcp(true, 1, FIN, b"SSH-2.0-x"));
    run.feed(&ENDS.tcp(false, 1, FIN, b""));
    run.feed(&ENDS.tcp(true, 11, ACK, b""));
    run.feed(&ENDS.tcp(true, 5000, SYN, b""));
    run.feed(&ENDS.tcp(true, 5001, ACK, b"other"));
    assert_eq!(run.apps(), [Some(SSH), None]);
    assert_eq!(run.recognizer.counters().flows, 2);
}

#[test]
fn datagrams_conditions_and_counting() {
    let dns = Ends { ports: [5000, 53], ..ENDS };
    let mut run = Run::new(Config::default());
    run.feed(&dns.udp(true, b"\x12\x34\x01\x00"));
    assert_eq!(run.apps(), [Some(DNS)]);

    let mut run = Run::new(Config::default());
    run.feed(&ENDS.udp(true, b"\x12\x34\x01\x00"));
    for _ in 0..2 {
        run.feed(&ENDS.udp(true, b"\x80\x60 twelve octets"));
    }
    run.feed(&ENDS.udp(false, b"\x80\x60 short"));
    assert!(run.verdicts.is_empty());
    run.feed(&ENDS.udp(false, b"\x80\x60 twelve octets"));
    assert_eq!(
        run.verdicts.last().map(|verdict| (verdict.app, verdict.stage)),
        Some((Some(RTP), Stage::Early))
    );
    assert_eq!(run.apps(), [Some(RTP)]);

    let mut run = Run::new(Config::default());
    run.feed(&ENDS.udp(true, b"memo ... end ..."));
    assert_eq!(run.apps(), [None]);
    let mut run = Run::new(Config::default());
    run.feed(&ENDS.udp(true, b"memo ... end"));
    assert_eq!(run.apps(), [Some(MEMO)]);
}

#[test]
fn fragments_are_put_together() {
    let text = [b"memo".to_vec(), vec![b'.'; 2000], b"end".to_vec()].concat();
    let datagram = ENDS.datagram(true, &text);
    let pieces: Vec<Vec<u8>> = datagram
        .chunks(800)
        .enumerate()
        .map(|(at, piece)| {
            let more = if (at + 1) * 800 < datagram.len() { 0x2000 } else { 0 };
            ENDS.ip(true, 17, more | (at as u16 * 100), piece)
        })
        .collect();
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        let mut run = Run::new(Config { udp_window: 4096, ..Config::default() });
        for at in order {
            run.feed(&pieces[at]);
        }
        let verdicts = run.finish();
        let ended = verdicts.last().expect("a verdict");
        assert_eq!((ended.app, ended.packets, ended.octets), (Some(MEMO), 3, 60 + 8 + 2007));
    }
    // A lone first fragment is looked at when nothing more comes.
    let mut run = Run::new(Config::default());
    let first = Ends { ports: [5000, 53], ..ENDS }.datagram(true, &[1; 1000]);
    run.feed(&ENDS.ip(true, 17, 0x2000, &first));
    assert!(run.verdicts.is_empty());
    assert_eq!(run.apps(), [Some(DNS)]);
    assert_eq!(run.recognizer.counters().fragments_incomplete, 1);
}

#[test]
fn flows_are_bounded_and_the_silent_leave_first() {
    let mut run = Run::new(Config { max_flows: 10, ..Config::default() });
    for port in 0..50 {
        run.feed(&Ends { ports: [port, 1], ..ENDS }.udp(true, b"x"));
        run.now += Duration::from_secs(2);
        assert!(run.recognizer.open_flows() <= 10);
    }
    assert_eq!(run.recognizer.counters().evicted, 40);
    let ends: Vec<u16> = run.verdicts.iter().map(|verdict| verdict.flow.initiator.port()).collect();
    assert_eq!(ends, (0..40).collect::<Vec<u16>>());
    run.recognizer.expire(run.now + Duration::from_secs(1000));
    assert_eq!(run.recognizer.open_flows(), 0);
}

#[test]
fn silence_ends_a_flow() {
    let mut run = Run::new(Config { idle: Duration::from_secs(30), ..Config::default() });
    run.feed(&ENDS.udp(true, b"x"));
    assert_eq!(run.recognizer.deadline(), Some(run.now + Duration::from_secs(30)));
    run.now += Duration::from_secs(31);
    run.feed(&Ends { ports: [1, 1], ..ENDS }.udp(true, b"x"));
    assert_eq!(run.verdicts.len(), 1);
    assert_eq!((run.verdicts[0].stage, run.verdicts[0].how), (Stage::Ended, How::None));
}

#[test]
fn a_connection_outlives_silence_but_not_its_end() {
    let mut run = Run::new(Config::default());
    run.feed(&ENDS.udp(true, b"x"));
    run.feed(&ENDS.tcp(true, 0, ACK, b"x"));
    run.recognizer.expire(run.now + Duration::from_secs(600));
    assert_eq!(run.recognizer.open_flows(), 1);
    run.now += Duration::from_secs(600);
    // A reset ends it, unless its ends go on.
    run.feed(&ENDS.tcp(true, 1, 4, b""));
    run.feed(&ENDS.tcp(false, 1, ACK, b"goes on"));
    run.recognizer.expire(run.now + Duration::from_secs(6));
    assert_eq!(run.recognizer.open_flows(), 1);
    run.feed(&ENDS.tcp(true, 1, 4, b""));
    run.recognizer.expire(run.now + Duration::from_secs(6));
    assert_eq!(run.recognizer.open_flows(), 0);
}

#[test]
fn verdicts_that_nobody_polls_are_bounded() {
    let mut recognizer = Recognizer::new(rules(), Config { max_verdicts: 5, ..Config::default() });
    for port in 0..20 {
        let frame = Ends { ports: [port, 9], ..ENDS }.tcp(true, 0, ACK, b"SSH-2.0-");
        recognizer.feed(Time::ZERO, LinkType::ETHERNET, &frame).expect("a good frame");
    }
    assert_eq!(recognizer.counters().verdicts_dropped, 15);
    recognizer.finish();
    let ended = std::iter::from_fn(|| recognizer.poll_verdict());
    assert_eq!(ended.filter(|verdict| verdict.stage == Stage::Ended).count(), 20);
}

#[test]
fn hints_stand_below_rules_and_expire() {
    let remote = IpAddr::from(SERVER);
    let hint = |run: &mut Run, seconds| {
        let expires = Time::ZERO + Duration::from_secs(seconds);
        run.recognizer.set_hint(remote, 443, Transport::Tcp, MEMO, expires);
    };
    let mut run = Run::new(Config::default());
    hint(&mut run, 100);
    run.feed(&ENDS.tcp(true, 0, SYN, b""));
    let early = run.verdicts.pop().expect("a verdict");
    assert_eq!((early.app, early.how, early.stage), (Some(MEMO), How::Shared, Stage::Early));
    run.feed(&ENDS.tcp(true, 1, ACK, b"SSH-2.0-"));
    assert_eq!(run.verdicts.pop().map(|verdict| verdict.how), Some(How::Rule));

    let mut run = Run::new(Config::default());
    hint(&mut run, 100);
    run.feed(&ENDS.udp(true, b"x"));
    run.now = Time::ZERO + Duration::from_secs(100);
    run.feed(&ENDS.tcp(true, 0, SYN, b""));
    assert_eq!(run.apps(), [None, None]);

    let mut run = Run::new(Config { max_hints: 1, ..Config::default() });
    hint(&mut run, 100);
    run.recognizer.set_hint(remote, 80, Transport::Tcp, MEMO, Time::MAX);
    assert_eq!(run.recognizer.counters().hints_refused, 1);
    run.feed(&ENDS.tcp(true, 0, SYN, b""));
    let verdict = run.finish().pop().expect("a verdict");
    assert_eq!((verdict.app, verdict.how), (Some(MEMO), How::Shared));
    assert!(run.recognizer.remove_hint(remote, 443, Transport::Tcp));
    assert!(!run.recognizer.remove_hint(remote, 443, Transport::Tcp));
}

#[derive(Debug)]
struct Always(AppId, Arc<AtomicU32>);

impl FlowModel for Always {
    fn judge(&self, features: &FlowFeatures) -> Option<AppId> {
        self.1.fetch_add(1, Ordering::Relaxed);
        (features.packets() > 1).then_some(self.0)
    }
}

#[test]
fn the_model_judges_what_nothing_else_claims_once() {
    let asked = Arc::new(AtomicU32::new(0));
    let mut run = Run::new(Config { profile: true, ..Config::default() });
    run.recognizer.set_model(Some(Box::new(Always(MEMO, Arc::clone(&asked)))));
    for _ in 0..30 {
        run.feed(&ENDS.udp(true, b"no rule knows this"));
    }
    let stages: Vec<_> = run.finish().iter().map(|verdict| (verdict.how, verdict.stage)).collect();
    let model = [Stage::Settled, Stage::Profiled, Stage::Ended].map(|stage| (How::Model, stage));
    assert_eq!(stages, model);
    assert_eq!(asked.load(Ordering::Relaxed), 1);

    run.feed(&ENDS.tcp(true, 0, ACK, b"SSH-2.0-"));
    run.feed(&Ends { ports: [7, 7], ..ENDS }.udp(true, b"too short"));
    assert_eq!(run.apps(), [Some(SSH), None]);
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[test]
fn new_rules_keep_old_verdicts() {
    let mut run = Run::new(Config::default());
    let other = Ends { ports: [7, 7], ..ENDS };
    run.feed(&ENDS.tcp(true, 0, ACK, b"SSH-2.0-"));
    run.feed(&other.tcp(true, 0, ACK, b"begin "));
    let rules = [rule(DEEP, "later"), rule(MEMO, "^later")];
    run.recognizer.set_rules(Arc::new(RuleSet::compile(&rules, Limits::default()).expect("good rules")));
    run.feed(&other.tcp(true, 6, ACK, b"later"));
    assert_eq!(run.apps(), [Some(SSH), Some(DEEP)]);
}

#[test]
fn rules_at_fault_are_named() {
    let compile = |texts: &[&str], limits: Limits| {
        let rules: Vec<Rule> = texts.iter().zip(10..).map(|(text, app)| rule(AppId(app), text)).collect();
        RuleSet::compile(&rules, limits).expect_err("a rule is at fault")
    };
    let limits = Limits::default();
    let long = "x".repeat(1024);
    type Expected = fn(&RuleFault) -> bool;
    let cases: [(&str, Expected); 9] = [
        (&long, |fault| *fault == RuleFault::TooLong),
        ("(?#icmp)x", |fault| matches!(fault, RuleFault::Condition(_))),
        ("a(b", |fault| matches!(fault, RuleFault::Syntax(_))),
        ("x(?#udp)", |fault| matches!(fault, RuleFault::Syntax(_))),
        (r"(?P<a>x)\1", |fault| matches!(fault, RuleFault::Syntax(_))),
        (r"\bword", |fault| *fault == RuleFault::LookAround),
        ("(?m)^word", |fault| *fault == RuleFault::LookAround),
        ("(?#udp)x*", |fault| *fault == RuleFault::Empty),
        ("((a{200}){200}){200}", |fault| *fault == RuleFault::TooLarge),
    ];
    for (text, expected) in cases {
        let error = compile(&["good", text, "fine"], limits);
        assert_eq!((error.index, error.app), (1, AppId(11)));
        assert!(expected(&error.fault), "{text}: {error}");
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
    }
    let bad_and_good = ["good", "a(b", "^fine", "\\bword"].map(|text| rule(AppId(7), text));
    let (set, errors) = RuleSet::compile_valid(&bad_and_good, limits);
    assert_eq!((set.len(), errors.len(), errors[0].index, errors[1].index), (2, 2, 1, 3));
    let error = compile(&["a", "b", "c"], Limits { rules: 2, ..limits });
    assert_eq!((error.index, error.fault), (2, RuleFault::TooMany));
    let error = compile(&["a", "b{500}", "c{900}"], Limits { memory: 40 << 10, ..limits });
    assert_eq!((error.index, error.fault), (2, RuleFault::SetTooLarge));
}

#[test]
fn automata_stay_within_their_bound_and_flows_keep_their_place() {
    // Each of these needs a state for every set of places where its first octet stood.
    let texts: Vec<String> = (b'a'..=b'j').map(|octet| format!("(?#tcp){}.{{12}}Z", octet as char)).collect();
    let mut all: Vec<Rule> = texts.iter().map(|text| rule(MEMO, text)).collect();
    all.push(rule(SSH, "^S{300}H"));
    let limits = Limits { automaton_memory: 256 << 10, ..Limits::default() };
    let set = Arc::new(RuleSet::compile(&all, limits).expect("the rules are good"));
    let mut recognizer = Recognizer::new(set, Config { max_packets: 255, ..Config::default() });
    let mut seeded = Seeded(7);
    let feed = |recognizer: &mut Recognizer, port, sequence, octets: &[u8]| {
        let frame = Ends { ports: [port, 22], ..ENDS }.tcp(true, sequence, ACK, octets);
        recognizer.feed(Time::ZERO, LinkType::ETHERNET, &frame).expect("a good frame");
    };
    for port in 0..20u16 {
        feed(&mut recognizer, port, 0, &[b'S'; 150]);
    }
    for round in 0..60u32 {
        for port in 100..130u16 {
            let noise: Vec<u8> = (0..40).map(|_| b'a' + seeded.below(10) as u8).collect();
            feed(&mut recognizer, port, round * 40, &noise);
        }
        assert!(recognizer.memory().automaton <= 256 << 10);
    }
    let counters = recognizer.counters();
    assert!(counters.automaton_renewed > 3, "{counters:?}");
    for port in 0..20u16 {
        feed(&mut recognizer, port, 150, &[[b'S'; 150].as_slice(), b"H"].concat());
    }
    let settled: Vec<Verdict> = std::iter::from_fn(|| recognizer.poll_verdict()).collect();
    assert_eq!(settled.iter().filter(|verdict| verdict.app == Some(SSH)).count(), 20);
}

#[test]
fn an_open_flow_costs_at_most_512_octets() {
    let config = Config::default();
    let mut recognizer = Recognizer::new(rules(), config);
    let hello = records(&client_hello("x.example", 3000), 4096);
    let mut worst = 0;
    for flow in 0..20_000u32 {
        let ends = Ends { client: [10, 1, (flow >> 8) as u8, flow as u8], ports: [flow as u16, 443] };
        for (sequence, octets) in [(0, &hello[..1000]), (2000, &hello[2000..]), (1500, &hello[1500..1600])] {
            let frame = ends.tcp(true, sequence, ACK, octets);
            recognizer.feed(Time::ZERO, LinkType::ETHERNET, &frame).expect("a good frame");
        }
        while recognizer.poll_verdict().is_some() {}
        if flow >= 1000 {
            let memory = recognizer.memory();
            worst = worst.max((memory.flows + memory.pool) / recognizer.open_flows());
        }
    }
    assert!(recognizer.counters().pool_dropped > 0, "the pool's bound was reached");
    assert!(worst <= 512, "{worst} octets");
}

#[test]
fn damaged_frames_never_panic() {
    let hello = records(&client_hello("www.netflix.com", 200), 4096);
    let mut frames = vec![
        ENDS.tcp(true, 0, SYN, b""),
        ENDS.tcp(true, 1, ACK, &hello),
        ENDS.tcp(false, 1, ACK, b"HTTP/1.1 200 OK\r\n"),
        ENDS.udp(true, b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07netflix\x03com\x00"),
        ENDS.ip(true, 17, 0x2000, &ENDS.datagram(true, &[1; 64])),
        ENDS.ip(true, 17, 9, &[2; 64]),
    ];
    if let Some(captures) = captures() {
        for entry in fs::read_dir(captures.join("pcap")).expect("the captures are there").flatten() {
            let octets = fs::read(entry.path()).expect("it is readable");
            let mut reader = CaptureReader::new(&octets[..]).expect("a capture");
            for _ in 0..60 {
                match reader.next_record().expect("a whole capture") {
                    Some(record) => frames.push(record.frame.to_vec()),
                    None => break,
                }
            }
        }
    }
    let mut seeded = Seeded(99);
    let mut run = Run::new(Config { max_flows: 500, ..Config::default() });
    let links = [1, 1, 1, 1, 0, 101, 113, 276, 228, 999].map(LinkType);
    for round in 0..150_000 {
        let mut frame = frames[seeded.below(frames.len())].clone();
        for _ in 0..seeded.below(4) {
            let at = seeded.below(frame.len());
            frame[at] ^= 1 << seeded.below(8);
        }
        if seeded.below(4) == 0 {
            frame.truncate(seeded.below(frame.len() + 1));
        }
        if seeded.below(50) == 0 {
            frame.iter_mut().for_each(|octet| *octet = seeded.below(256) as u8);
        }
        let time = Time::from_micros(seeded.below(1 << 40) as u64);
        let _ = run.recognizer.feed(time, links[seeded.below(links.len())], &frame);
        if round % 3 == 0 {
            run.poll();
            run.verdicts.clear();
        }
    }
    run.finish();
    let counters = run.recognizer.counters();
    assert!(counters.malformed > 1000 && counters.flows > 1000, "{counters:?}");
    assert_eq!(run.recognizer.open_flows(), 0);
    let memory = run.recognizer.memory();
    assert!(memory.pool < 256 << 10, "{memory:?}");
}

/// Where labelled captures are, if they are.
fn captures() -> Option<PathBuf> {
    let shared = std::env::var_os("HAILPOST_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared")), PathBuf::from);
    let captures = shared.join("captures");
    let there = captures.join("labels.tsv").exists();
    if !there {
        eprintln!("SKIPPED: no labelled captures at {}", captures.display());
    }
    there.then_some(captures)
}

#[test]
fn labelled_flows_are_told_apart_with_their_initiator() {
    let Some(captures) = captures() else {
        return;
    };
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/rules.toml"));
    let file = RulesFile::parse(&text.expect("it is readable"), Limits::default()).expect("good rules");
    let set = Arc::new(file.set);
    let labels = fs::read_to_string(captures.join("labels.tsv")).expect("it is readable");
    let mut flows: HashMap<String, Vec<FiveTuple>> = HashMap::new();
    let (mut all, mut found) = (0, 0);
    for line in labels.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let end = |at: usize| {
            SocketAddr::new(fields[at].parse().expect("an address"), fields[at + 1].parse().expect("a port"))
        };
        let protocol = if fields[1] == "TCP" { 6 } else { 17 };
        let want = FiveTuple { protocol, initiator: end(2), responder: end(4) };
        let known = flows.entry(fields[0].to_owned()).or_insert_with(|| {
            let octets = fs::read(captures.join("pcap").join(fields[0])).expect("it is readable");
            let mut reader = CaptureReader::new(&octets[..]).expect("a capture");
            let mut recognizer = Recognizer::new(Arc::clone(&set), Config::default());
            while let Some(record) = reader.next_record().expect("a whole capture") {
                let _ = recognizer.feed(record.time, record.link_type, record.frame);
            }
            recognizer.finish();
            std::iter::from_fn(|| recognizer.poll_verdict()).map(|verdict| verdict.flow).collect()
        });
        all += 1;
        found += usize::from(known.contains(&want));
    }
    assert!(found * 100 >= all * 99, "{found} of {all}");
}
