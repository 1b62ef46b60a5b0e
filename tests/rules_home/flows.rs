//! Flows written by hand, and what the shipped rules make of them.

use std::{fs, path::Path, sync::Arc, time::Duration};

use hailpost::{
    recognize::{Config, Limits, Recognizer, RulesFile, Stage},
    time::Time,
    wire::packet::LinkType,
};

/// Payloads of one flow in the order they are sent.
#[derive(Debug)]
pub struct Flow {
    pub tcp: bool,
    /// Of the initiator, of the responder.
    pub ports: [u16; 2],
    /// Whether the initiator sent it, and what.
    pub payloads: Vec<(bool, Vec<u8>)>,
}

/// A flow and the application it is, or `None` when it must stay unknown.
pub struct Case {
    pub want: Option<&'static str>,
    pub flow: Flow,
}

/// `tcp!("ssh", 22, >b"SSH-2.0-x\r\n", <b"SSH-1.99-y\n")`: `>` is sent by who began the flow, `<` by the other.
/// `"-"` is for what must stay unknown.
#[macro_export]
macro_rules! tcp {
    ($want:literal, $port:expr, $($from:tt $octets:expr),+ $(,)?) => {
        $crate::flows::case(true, $want, $port, vec![$((stringify!($from), $octets.to_vec())),+])
    };
}

/// As [`tcp!`], each payload a datagram.
#[macro_export]
macro_rules! udp {
    ($want:literal, $port:expr, $($from:tt $octets:expr),+ $(,)?) => {
        $crate::flows::case(false, $want, $port, vec![$((stringify!($from), $octets.to_vec())),+])
    };
}

pub fn case(tcp: bool, want: &'static str, port: u16, payloads: Vec<(&str, Vec<u8>)>) -> Case {
    // Protocols whose both ends use the same port say so by using it twice.
    let same = !tcp && matches!(port, 68 | 123 | 137 | 138 | 5353 | 17500 | 57621);
    let ports = [if same { port } else { 45_678 }, if port == 68 { 67 } else { port }];
    let payloads = payloads.into_iter().map(|(from, octets)| (from == ">", octets)).collect();
    Case { want: (want != "-").then_some(want), flow: Flow { tcp, ports, payloads } }
}

/// The rules file that ships.
pub fn home() -> RulesFile {
    parse(&read("home.toml"))
}

/// The same with what may be appended to it.
pub fn home_and_more() -> RulesFile {
    parse(&[read("home.toml"), read("more.toml")].concat())
}

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("rules").join(name)).expect("it ships")
}

fn parse(text: &str) -> RulesFile {
    RulesFile::parse(text, Limits::default()).expect("it is within the default limits")
}

/// What `rules` call a flow.
pub fn recognise(rules: &RulesFile, set: &Arc<hailpost::recognize::RuleSet>, flow: &Flow) -> Option<String> {
    let mut recognizer = Recognizer::new(Arc::clone(set), Config::default());
    feed(&mut recognizer, flow, 1);
    recognizer.finish();
    let mut app = None;
    while let Some(verdict) = recognizer.poll_verdict() {
        if verdict.stage == Stage::Ended {
            app = verdict.app;
        }
    }
    app.map(|app| rules.name(app).expect("every application has a name").to_owned())
}

/// Feeds a flow whose ends are told apart from others by `number`.
pub fn feed(recognizer: &mut Recognizer, flow: &Flow, number: u32) {
    let ends = [[10, 0, 0, 0], [172, 16, 0, 0]].map(|base: [u8; 4]| u32::from_be_bytes(base) + number);
    let mut sequences = [1000u32, 5000];
    let mut now = Time::from_micros(1_000_000);
    let mut send = |from: bool, flags: u8, payload: &[u8]| {
        let (source, other) = if from { (0, 1) } else { (1, 0) };
        let mut segment = [flow.ports[source].to_be_bytes(), flow.ports[other].to_be_bytes()].concat();
        if flow.tcp {
            segment.extend(sequences[source].to_be_bytes());
            segment.extend(sequences[other].to_be_bytes());
            segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
            sequences[source] += payload.len() as u32 + u32::from(flags & 2 != 0);
        } else {
            segment.extend((8 + payload.len() as u16).to_be_bytes());
            segment.extend([0, 0]);
        }
        segment.extend(payload);
        let mut packet = vec![0x45, 0];
        packet.extend((20 + segment.len() as u16).to_be_bytes());
        packet.extend([0, 1, 0x40, 0, 64, if flow.tcp { 6 } else { 17 }, 0, 0]);
        packet.extend(ends[source].to_be_bytes());
        packet.extend(ends[other].to_be_bytes());
        packet.extend(segment);
        now += Duration::from_millis(1);
        recognizer.feed(now, LinkType::RAW, &packet).expect("the packet is well formed");
    };
    if flow.tcp {
        send(true, 2, b"");
        send(false, 18, b"");
    }
    for (from, payload) in &flow.payloads {
        send(*from, 16, payload);
    }
}

/// A ClientHello that names a server, in a TLS record; without a name when it is empty.
pub fn client_hello(name: &str) -> Vec<u8> {
    record(22, &hello(name))
}

/// A ClientHello message.
pub fn hello(name: &str) -> Vec<u8> {
    let mut extensions = vec![0, 10, 0, 4, 0, 2, 0, 29];
    if !name.is_empty() {
        let length = name.len() as u16;
        extensions.extend([0, 0]);
        extensions.extend((length + 5).to_be_bytes());
        extensions.extend((length + 3).to_be_bytes());
        extensions.push(0);
        extensions.extend(length.to_be_bytes());
        extensions.extend(name.as_bytes());
    }
    let mut body = vec![3, 3];
    body.extend([0x5a; 32]);
    body.extend([0, 0, 4, 0x13, 1, 0xc0, 0x2f, 1, 0]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    message(1, &body)
}

/// A server's answer in TLS 1.2 with a certificate whose subject is `name`.
pub fn certificate(name: &str) -> Vec<u8> {
    let mut server_hello = vec![3, 3];
    server_hello.extend([0x66; 32]);
    server_hello.extend([0, 0xc0, 0x2f, 0]);
    // Not all of X.509: an issuer and a subject, each a common name, between other octets.
    let mut der = vec![0x30, 0x82, 3, 0, 0x30, 0x82, 2, 0, 0xa0, 3, 2, 1, 2];
    for common_name in ["Some CA of example.com", name] {
        der.extend([0x31, 0x20, 0x30, 0x1e, 6, 3, 0x55, 4, 3, 0x0c, common_name.len() as u8]);
        der.extend(common_name.as_bytes());
        der.extend([0x30, 0x59]);
    }
    der.extend([0x41; 200]);
    let length = der.len() as u32;
    let mut body = (length + 3).to_be_bytes()[1..].to_vec();
    body.extend(&length.to_be_bytes()[1..]);
    body.extend(der);
    [record(22, &message(2, &server_hello)), record(22, &message(11, &body))].concat()
}

/// A TLS record.
pub fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, 3, 1];
    out.extend((body.len() as u16).to_be_bytes());
    out.extend(body);
    out
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend(&(body.len() as u32).to_be_bytes()[1..]);
    out.extend(body);
    out
}

/// A STUN message (RFC 8489 §5) with its cookie.
pub fn stun(kind: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    stun_with(kind, *b"\x21\x12\xa4\x42TransactionI", attributes)
}

/// A STUN message with any transaction id, for RFC 3489.
pub fn stun_with(kind: u16, id: [u8; 16], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in attributes {
        body.extend(name.to_be_bytes());
        body.extend((value.len() as u16).to_be_bytes());
        body.extend(*value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let mut out = kind.to_be_bytes().to_vec();
    out.extend((body.len() as u16).to_be_bytes());
    out.extend(id);
    out.extend(body);
    out
}

/// A DNS message with one question.
pub fn dns(flags: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut out = vec![0x12, 0x34];
    out.extend(flags.to_be_bytes());
    out.extend([0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    out.push(0);
    out.extend(kind.to_be_bytes());
    out.extend([0, 1]);
    out
}

/// Octets after their length as two octets.
pub fn framed(octets: &[u8]) -> Vec<u8> {
    [&(octets.len() as u16).to_be_bytes(), octets].concat()
}

/// `count` octets that look like nothing, the same for each seed.
pub fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut random = Random(seed);
    (0..count).map(|_| random.next() as u8).collect()
}

/// Numbers that are the same in every run (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
