//! What applications say. The reader: whole and in any pieces it reads the same. Then a hub with connections of its own: any
//! text, in any pieces, between what applications say in earnest.

use std::{collections::BTreeMap, time::Duration};

use hailpost::{
    io::Conn,
    post::{
        apps::{Apps, AppsConfig, AppsOutput},
        hub::{Hub, HubConfig, HubOutput, Open, Rights},
    },
    rng::Seeded,
    store::{Memory, Store},
    time::Time,
    wire::app::{Reader, Request, is_id, is_name},
};

const CONNECTIONS: u32 = 5;
const APPS: [&str; 3] = ["news", "shop", "bank"];

/// Reads in pieces whose lengths come from `cuts`; all at once where there is none.
fn read(octets: &[u8], cuts: &[u8]) -> Vec<Request> {
    let (mut reader, mut found) = (Reader::default(), Vec::new());
    let mut cuts = cuts.iter().cycle();
    let mut rest = octets;
    while !rest.is_empty() {
        let length = cuts.next().map_or(rest.len(), |cut| usize::from(*cut) + 1).min(rest.len());
        let (mut piece, tail) = rest.split_at(length);
        rest = tail;
        while let Some(request) = reader.next(&mut piece) {
            found.push(request);
        }
    }
    found
}

fn check(request: &Request) {
    match request {
        Request::Auth { app, secret } => assert!(is_name(app) && !secret.contains(' ')),
        Request::Send(message) => {
            assert!(is_id(&message.id) && message.body.len() <= 65_536);
            assert!(message.content_type.len() <= 128 && message.ttl <= 30 * 86_400);
        }
        Request::Query { users, .. } => assert!(users.len() <= 1000),
        Request::Cancel { id } | Request::Confirm { id } => assert!(is_id(id)),
        Request::Ping { id } | Request::Wrong { id, .. } => assert!(id.as_deref().is_none_or(is_id)),
    }
}

#[derive(Default)]
struct Line {
    is_open: bool,
    /// All that was said, read as the hub should: so many requests there are at the most.
    reader: Reader,
    requests: usize,
    answers: usize,
    /// What came and is not cut into answers yet.
    came: Vec<u8>,
    /// The last message's id.
    message: String,
}

struct Office {
    now: Time,
    hub: Hub,
    apps: Apps,
    store: Memory,
    is_slow: bool,
    secrets: Vec<String>,
    lines: BTreeMap<Conn, Line>,
    opened: u32,
    config: AppsConfig,
    next_id: u32,
}

impl Office {
    fn new(options: u8) -> Office {
        let store = Memory::default();
        let open = Open { now: Time::ZERO, unix: 1_700_000_000, rng: Box::new(Seeded::new(1)) };
        let small = HubConfig {
            max_messages: 6,
            max_octets: 4096,
            window: 2,
            max_pending: 4,
            max_known: 8,
            max_broadcasts: 2,
            max_cached: 3,
            ..HubConfig::default()
        };
        let config = if options & 1 != 0 { small } else { HubConfig::default() };
        let mut hub = Hub::open(config, open, &store).expect("an empty store opens");
        let rights = |at: usize| Rights { send: true, broadcast: at == 0, query: at < 2 };
        let app = |(at, name): (usize, &&str)| hub.add_app(name, rights(at)).expect("the name is good").0;
        let secrets = APPS.iter().enumerate().map(app).collect();
        for name in ["anna", "ben"] {
            hub.add_user(name).expect("the name is good");
        }
        let patience = Duration::from_secs(30);
        let config = AppsConfig { max_connections: 4, max_unanswered: 8, patience };
        let mut office = Office {
            now: Time::ZERO,
            hub,
            apps: Apps::new(config),
            store,
            is_slow: false,
            secrets,
            lines: BTreeMap::new(),
            opened: 0,
            config,
            next_id: 0,
        };
        office.settle();
        office.hub.add_device("anna", [1; 16], 0).expect("anna is there");
        office.settle();
        office
    }

    fn connect(&mut self) {
        self.opened += 1;
        let conn = Conn(self.opened);
        self.lines.insert(conn, Line { is_open: true, ..Line::default() });
        // The one too many is told so, without having asked.
        if self.lines.values().filter(|line| line.is_open).count() > self.config.max_connections {
            self.line(conn).requests += 1;
        }
        self.apps.accepted(self.now, conn);
        self.settle();
    }

    fn conn(&self, which: u8) -> Option<Conn> {
        let open: Vec<Conn> =
            self.lines.iter().filter(|(_, line)| line.is_open).map(|(conn, _)| *conn).collect();
        open.get(usize::from(which) % open.len().max(1)).copied()
    }

    fn line(&mut self, conn: Conn) -> &mut Line {
        self.lines.get_mut(&conn).expect("it was opened")
    }

    fn say(&mut self, conn: Conn, octets: &[u8]) {
        let line = self.line(conn);
        let mut piece = octets;
        while let Some(request) = line.reader.next(&mut piece) {
            check(&request);
            line.requests += 1;
        }
        self.apps.received(self.now, conn, octets, &mut self.hub);
        self.settle();
    }

    fn settle(&mut self) {
        for turns in 0.. {
            assert!(turns < 100_000, "the hub is never done");
            for output in self.apps.outputs() {
                match output {
                    AppsOutput::Send { conn, octets } => self.hear(conn, &octets),
                    AppsOutput::Close { conn } => self.line(conn).is_open = false,
                }
            }
            if let Some(output) = self.hub.poll_output(self.now) {
                match output {
                    HubOutput::Store(batch) => self.store.submit(batch),
                    HubOutput::Fetch(fetch) => self.store.ask(fetch),
                    HubOutput::Send { seat, frame, .. } => self.apps.frame(seat, &frame),
                    HubOutput::Answered { seat, id, answer } => self.apps.answered(seat, &id, &answer),
                    HubOutput::Whereabouts { seat, id, users } => self.apps.whereabouts(seat, &id, &users),
                    _ => {}
                }
            } else if self.is_slow {
                return;
            } else if let Some(fetched) = self.store.answer() {
                self.hub.fetched(self.now, fetched);
            } else if self.store.is_dirty() {
                let through = self.store.commit().expect("memory never fails");
                self.hub.stored(self.now, through);
            } else {
                return;
            }
        }
    }

    /// Cuts what came into answers and messages.
    fn hear(&mut self, conn: Conn, octets: &[u8]) {
        let line = self.line(conn);
        assert!(line.is_open, "said to a connection that is closed");
        line.came.extend_from_slice(octets);
        while let Some(end) = line.came.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = std::str::from_utf8(&line.came[..end]).expect("what we write is text").to_owned();
            let header = |name: &str| {
                head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned))
            };
            let mut length = 0;
            if head.starts_with("MESSAGE HP/1\r\n") {
                length = header("Content-Length").expect("a length").parse().expect("a number");
                line.message = header("Id").expect("an id");
            } else {
                assert!(head.starts_with("HP/1 "), "{head:?}");
                line.answers += 1;
            }
            assert!(line.came.len() >= end + 4 + length, "a message in pieces");
            line.came.drain(..end + 4 + length);
        }
        assert!(line.came.is_empty(), "an answer without an end");
        assert!(line.answers <= line.requests, "{} answers to {}", line.answers, line.requests);
    }

    fn step(&mut self, what: u8, how: u8, rest: &mut &[u8]) {
        let Some(conn) = self.conn(how) else { return self.connect() };
        let to = ["user:anna", "app:news", "app:shop", "*", "user:anna,app:bank", "user:nobody"];
        let to = to[usize::from(how) / 8 % to.len()];
        match what % 16 {
            0 => self.connect(),
            1 => {
                let at = usize::from(how / 8) % APPS.len();
                let line = format!("AUTH {} {}\r\n", APPS[at], self.secrets[at]);
                self.say(conn, line.as_bytes());
            }
            2 | 3 => {
                self.next_id += u32::from(how & 4 == 0);
                let kind = ["one", "directed", "broadcast"][usize::from(how) % 3];
                let keep = if what % 16 == 2 { "Offline store\r\n" } else { "" };
                let period = if how & 64 != 0 { "Period 1600000000 1800000000\r\n" } else { "" };
                let id = self.next_id;
                let text = format!(
                    "SEND HP/1\r\nId {id}\r\nTo {to}\r\nKind {kind}\r\n{keep}{period}Content-Length 5\r\n\r\nhello"
                );
                self.say(conn, text.as_bytes());
            }
            4 => self.say(conn, format!("QUERY HP/1\r\nId q\r\nTo {to}\r\n\r\n").as_bytes()),
            5 => {
                let id = u32::from(how / 8);
                self.say(conn, format!("CANCEL HP/1\r\nId {id}\r\n\r\n").as_bytes());
            }
            6 => {
                let id = self.line(conn).message.clone();
                self.say(conn, format!("CONFIRM HP/1\r\nId {id}\r\n\r\n").as_bytes());
            }
            7 => self.say(conn, b"PING HP/1\r\n\r\n"),
            8..=11 => {
                let octets = take(rest, how.into());
                self.say(conn, octets);
            }
            12 => {
                self.line(conn).is_open = false;
                self.apps.closed(self.now, conn, &mut self.hub);
                self.settle();
            }
            13 => {
                self.now += Duration::from_secs(u64::from(how) * 4);
                if self.apps.deadline().is_some_and(|due| due <= self.now) {
                    self.apps.handle_deadline(self.now, &mut self.hub);
                }
                assert!(self.apps.deadline().is_none_or(|due| due > self.now), "never done");
                if self.hub.deadline().is_some_and(|due| due <= self.now) {
                    self.hub.handle_deadline(self.now);
                }
                self.settle();
            }
            14 => {
                self.is_slow ^= true;
                self.settle();
            }
            _ => {
                // The same as 2, not ended.
                self.say(conn, b"SEND HP/1\r\nId 7\r\nTo app:news\r\nContent-Length 40\r\n\r\n");
            }
        }
    }
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, left) = rest.split_at(count.min(rest.len()));
    *rest = left;
    taken
}

/// Runs one input.
pub fn run(octets: &[u8]) {
    let Some((options, mut rest)) = octets.split_first() else { return };
    if options & 2 != 0 {
        let cuts = take(&mut rest, 4);
        let whole = read(rest, &[]);
        whole.iter().for_each(check);
        assert_eq!(whole, read(rest, cuts));
        assert_eq!(whole, read(rest, &[0]));
        return;
    }
    let mut office = Office::new(*options);
    (0..CONNECTIONS - 2).for_each(|_| office.connect());
    let mut steps = 0;
    while let [what, how, tail @ ..] = rest {
        rest = tail;
        office.step(*what, *how, &mut rest);
        steps += 1;
        if steps >= 400 {
            break;
        }
    }
    office.is_slow = false;
    office.settle();
    for line in office.lines.values().filter(|line| line.is_open) {
        assert_eq!(line.answers, line.requests, "a request without an answer");
    }
}
