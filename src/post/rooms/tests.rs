//! Rooms with hubs on stores in memory, and links that come and go.

use super::*;
use crate::{
    post::hub::{HubConfig, HubEvent, HubOutput, Open, Rights, Sender},
    rng::Seeded,
    store::{Memory, Store},
    wire::{
        app::{Address, Kind, Message as Letter, State, To},
        inner::Deframer,
        post::{Delivery, Frame},
    },
};

const UNIX: u64 = 1_700_000_000;
const STORED: (u16, Option<State>) = (200, Some(State::Stored));
const QUEUED: (u16, Option<State>) = (200, Some(State::Queued));

fn key(room: usize) -> KeyId {
    KeyId([room as u8 + 1; 32])
}

struct Office {
    name: &'static str,
    config: HubConfig,
    hub: Hub,
    rooms: Rooms,
    store: Memory,
    /// The store takes nothing.
    stuck: bool,
    answers: Vec<(u16, Option<State>)>,
    frames: Vec<(Inbox, Frame)>,
    whereabouts: Vec<Vec<Presence>>,
    warnings: Vec<String>,
    faults: usize,
}

fn open(
    at: usize,
    names: &[&'static str],
    config: HubConfig,
    store: &Memory,
    now: Time,
    life: u64,
) -> (Hub, Rooms) {
    let unix = UNIX + now.as_micros() / 1_000_000;
    let seeded = |salt: u64| Box::new(Seeded::new(at as u64 * 100 + life * 1000 + salt));
    let mut hub = Hub::open(config, Open { now, unix, rng: seeded(1) }, store).unwrap();
    let others = (0..names.len()).filter(|other| *other != at);
    let others = others.map(|other| OtherRoom { name: names[other].to_owned(), keys: vec![key(other)] });
    let rooms = Rooms::new(names[at], others.collect(), now, seeded(2), &mut hub);
    (hub, rooms)
}

/// Rooms that know each other.
struct Town {
    names: Vec<&'static str>,
    offices: Vec<Office>,
    now: Time,
    /// Connections: who made each and by which name, and who took it.
    conns: BTreeMap<u32, ((usize, Conn), usize)>,
    next_conn: u32,
    /// These two do not reach each other.
    cut: Option<(usize, usize)>,
    life: u64,
}

impl Town {
    fn new(names: &[&'static str], config: HubConfig) -> Town {
        let offices = (0..names.len())
            .map(|at| {
                let store = Memory::default();
                let (hub, rooms) = open(at, names, config, &store, Time::ZERO, 0);
                Office {
                    name: names[at],
                    config,
                    hub,
                    rooms,
                    store,
                    stuck: false,
                    answers: Vec::new(),
                    frames: Vec::new(),
                    whereabouts: Vec::new(),
                    warnings: Vec::new(),
                    faults: 0,
                }
            })
            .collect();
        let (names, now, conns) = (names.to_vec(), Time::ZERO, BTreeMap::new());
        let mut town = Town { names, offices, now, conns, next_conn: 0, cut: None, life: 0 };
        town.settle();
        town
    }

    fn pair() -> Town {
        Town::new(&["south", "north"], HubConfig::default())
    }

    /// What an office has at hand is done. Whether there was something.
    fn turn(&mut self, at: usize) -> bool {
        let mut went = false;
        loop {
            let office = &mut self.offices[at];
            if let Some(output) = office.hub.poll_output(self.now) {
                office.hubbed(self.now, output);
            } else if let Some(output) = office.rooms.poll_output(self.now) {
                self.roomed(at, output);
            } else if let Some(fetched) = office.store.answer() {
                office.hub.fetched(self.now, fetched);
            } else if office.store.is_dirty() && !office.stuck {
                let through = office.store.commit().unwrap();
                office.hub.stored(self.now, through);
            } else {
                return went;
            }
            went = true;
        }
    }

    fn roomed(&mut self, at: usize, output: RoomsOutput) {
        match output {
            RoomsOutput::Connect(conn, way) => {
                let to = (0..self.offices.len()).filter(|other| *other != at).nth(way).unwrap();
                let is_cut =
                    self.cut.is_some_and(|(one, other)| [(one, other), (other, one)].contains(&(at, to)));
                if is_cut {
                    let Office { rooms, hub, .. } = &mut self.offices[at];
                    return rooms.closed(self.now, conn, hub);
                }
                self.next_conn += 1;
                self.conns.insert(self.next_conn, ((at, conn), to));
                self.offices[to].rooms.accepted(self.now, Conn(self.next_conn), Some(key(at)));
                self.offices[at].rooms.connected(self.now, conn);
            }
            RoomsOutput::Send(conn, octets) => {
                let Some((_, (to, conn))) = self.other_end(at, conn) else { return };
                let Office { rooms, hub, .. } = &mut self.offices[to];
                rooms.received(self.now, conn, &octets, hub);
            }
            RoomsOutput::Close(conn) => {
                let Some((number, (to, conn))) = self.other_end(at, conn) else { return };
                self.conns.remove(&number);
                let Office { rooms, hub, .. } = &mut self.offices[to];
                rooms.closed(self.now, conn, hub);
            }
            RoomsOutput::Refused(_, why) => self.offices[at].warnings.push(why),
            RoomsOutput::Up(_) | RoomsOutput::Down(_) => {}
        }
    }

    fn other_end(&self, at: usize, conn: Conn) -> Option<(u32, (usize, Conn))> {
        self.conns.iter().find_map(|(number, (from, to))| {
            let taken = (*to, Conn(*number));
            if *from == (at, conn) {
                Some((*number, taken))
            } else {
                (taken == (at, conn)).then_some((*number, *from))
            }
        })
    }

    fn settle(&mut self) {
        for turn in 0.. {
            assert!(turn < 10_000, "they are never done");
            if (0..self.offices.len()).filter(|at| self.turn(*at)).count() == 0 {
                return;
            }
        }
    }

    fn wait(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        loop {
            let due = self.offices.iter().flat_map(|one| [one.rooms.deadline(), one.hub.deadline()]);
            let due = due.flatten().min().filter(|due| *due <= end);
            self.now = due.unwrap_or(end).max(self.now);
            for Office { rooms, hub, .. } in &mut self.offices {
                rooms.handle_deadline(self.now, hub);
                hub.handle_deadline(self.now);
            }
            self.settle();
            if due.is_none() {
                return;
            }
        }
    }

    /// All connections of an office break.
    fn break_links(&mut self, at: usize) {
        let broken: Vec<u32> = self
            .conns
            .iter()
            .filter(|(_, ((from, _), to))| *from == at || *to == at)
            .map(|(number, _)| *number)
            .collect();
        for number in broken {
            let ((from, conn), to) = self.conns.remove(&number).unwrap();
            for (end, conn) in [(from, conn), (to, Conn(number))] {
                let Office { rooms, hub, .. } = &mut self.offices[end];
                rooms.closed(self.now, conn, hub);
            }
        }
    }

    /// The process dies, and another starts on what is durable.
    fn crash(&mut self, at: usize) {
        self.life += 1;
        self.break_links(at);
        let office = &mut self.offices[at];
        office.store = office.store.clone();
        let (hub, rooms) = open(at, &self.names, office.config, &office.store, self.now, self.life);
        (office.hub, office.rooms) = (hub, rooms);
        self.settle();
    }

    fn user(&mut self, at: usize, name: &str) -> Inbox {
        let office = &mut self.offices[at];
        office.hub.add_user(name).unwrap();
        office.hub.add_device(name, [1; 16], 0).unwrap();
        self.settle();
        let mut inbox = None;
        let find = &mut |key: &[u8], value: &[u8]| {
            if super::super::rows::read_owner(value) == Some(name) {
                inbox = super::super::rows::read_u32(key).map(Inbox);
            }
        };
        self.offices[at].store.load(super::super::rows::INBOX, find).unwrap();
        inbox.unwrap()
    }

    fn app(&mut self, at: usize, name: &str) -> Sender {
        let rights = Rights { send: true, broadcast: true, query: true };
        self.offices[at].hub.add_app(name, rights).unwrap();
        self.settle();
        Sender::App { name: name.into(), rights, seat: Seat::here(900) }
    }

    fn send(&mut self, at: usize, sender: &Sender, letter: Letter) -> (u16, Option<State>) {
        self.offices[at].hub.take(self.now, sender, letter);
        self.settle();
        self.offices[at].answers.pop().unwrap()
    }

    fn online(&mut self, at: usize, inbox: Inbox) {
        self.offices[at].hub.online(self.now, inbox, Seat::here(inbox.0 + 1000));
        self.settle();
    }

    /// What was handed to this inbox since the last look.
    fn handed(&mut self, at: usize, inbox: Inbox) -> Vec<Delivery> {
        let frames = std::mem::take(&mut self.offices[at].frames);
        let mine = frames.into_iter().filter_map(|(to, frame)| match frame {
            Frame::Deliver(delivery) if to == inbox => Some(delivery),
            _ => None,
        });
        mine.collect()
    }

    fn bodies(&mut self, at: usize, inbox: Inbox) -> Vec<String> {
        self.handed(at, inbox).into_iter().map(|one| String::from_utf8(one.body).unwrap()).collect()
    }

    fn waiting(&self) -> Vec<usize> {
        self.offices.iter().map(|office| office.hub.waiting_count()).collect()
    }

    fn query(&mut self, at: usize, users: &[&str]) -> Vec<Presence> {
        let rights = Rights { query: true, ..Rights::default() };
        let users = users.iter().map(|user| (*user).to_owned()).collect();
        self.offices[at].hub.query(Seat::here(900), rights, "q".into(), users);
        self.settle();
        self.offices[at].whereabouts.pop().unwrap_or_default()
    }
}

impl Office {
    fn hubbed(&mut self, now: Time, output: HubOutput) {
        match output {
            HubOutput::Store(batch) => self.store.submit(batch),
            HubOutput::Fetch(fetch) => self.store.ask(fetch),
            HubOutput::Send { inbox, frame, .. } => self.frames.push((inbox, frame)),
            HubOutput::Answered { answer, .. } => self.answers.push((answer.code, answer.state)),
            HubOutput::Whereabouts { users, .. } => self.whereabouts.push(users),
            HubOutput::Relay { seat, relayed } => self.rooms.relay(seat, relayed),
            HubOutput::Taken { seat, sequence, code } => self.rooms.taken(seat, sequence, code),
            HubOutput::AskRoom { room, seat, ticket, users } => {
                self.rooms.ask(now, (room, seat), ticket, users, &mut self.hub);
            }
            HubOutput::ToldRoom { seat, correlation, users } => self.rooms.presence(seat, correlation, users),
            HubOutput::Event(HubEvent::Done { result: Err(_), .. }) => self.faults += 1,
            _ => {}
        }
    }
}

fn letter(id: u32, to: &[&str]) -> Letter {
    let named: Vec<Address> = to.iter().map(|one| one.parse().unwrap()).collect();
    let kind = if named.len() == 1 { Kind::One } else { Kind::Directed };
    let body = format!("body {id}").into_bytes();
    Letter { id: id.to_string(), kind, store: true, ttl: 3600, ..Letter::new(To::Named(named), body) }
}

fn everybody(id: u32, period: Option<(u64, u64)>) -> Letter {
    Letter { to: To::All, kind: Kind::Broadcast, period, ..letter(id, &["user:x"]) }
}

#[test]
fn a_message_for_another_room_is_acknowledged_handed_over_once_and_gone_here_when_it_is_durable_there() {
    let mut town = Town::pair();
    let (news, anna) = (town.app(0, "news"), town.user(1, "anna"));
    town.offices[1].stuck = true;
    assert_eq!(town.send(0, &news, letter(1, &["user:anna@north"])), QUEUED);
    assert_eq!(town.waiting(), [1, 1], "it is kept here until it is durable there");
    town.offices[1].stuck = false;
    town.settle();
    assert_eq!(town.waiting(), [0, 1]);
    town.online(1, anna);
    let came = town.handed(1, anna);
    assert_eq!((came.len(), &came[0].from), (1, &Address::App("news@south".into())));
    assert_eq!((came[0].sent, &came[0].body[..]), (UNIX, &b"body 1"[..]));
    let (now, hub) = (town.now, &mut town.offices[1].hub);
    hub.confirm(now, anna, &[came[0].sequence]);
    town.settle();
    assert_eq!(town.waiting(), [0, 0]);
    // The same id again is the same message, and nothing comes of it.
    assert_eq!(town.send(0, &news, letter(1, &["user:anna@north"])), QUEUED);
    assert_eq!(town.bodies(1, anna), [""; 0]);
}

#[test]
fn one_answers_the_other_across_rooms_and_a_list_is_split_by_room() {
    let mut town = Town::new(&["south", "north", "east"], HubConfig::default());
    let (south, north, east) = (town.app(0, "news"), town.app(1, "news"), town.user(2, "carl"));
    let (ben, anna) = (town.user(0, "ben"), town.user(1, "anna"));
    for (at, inbox) in [(0, ben), (1, anna), (2, east)] {
        town.online(at, inbox);
    }
    let all = ["user:ben", "user:anna@north", "user:carl@east", "user:ben@south", "app:news@north"];
    assert_eq!(town.send(0, &south, letter(1, &all)), QUEUED);
    assert_eq!(town.offices[0].store_rows(), 1, "the body is kept once");
    for (at, inbox) in [(0, ben), (1, anna), (2, east)] {
        assert_eq!(town.bodies(at, inbox), ["body 1"], "{at}");
    }
    // The application of the same name in the other room has it too, and answers.
    assert_eq!(town.waiting(), [1, 2, 1]);
    assert_eq!(town.send(1, &north, letter(2, &["app:news@south"])), QUEUED);
    assert_eq!(town.waiting(), [2, 2, 1]);
}

impl Office {
    fn store_rows(&self) -> usize {
        let mut count = 0;
        self.store.load(super::super::rows::MESSAGE, &mut |_, _| count += 1).unwrap();
        count
    }
}

#[test]
fn whatever_dies_or_breaks_in_between_a_message_comes_once_and_in_order() {
    for seed in 0..200 {
        let mut rng = Seeded::new(seed);
        let mut town = Town::pair();
        let (news, anna) = (town.app(0, "news"), town.user(1, "anna"));
        let mut sent = 0;
        for _ in 0..40 {
            match rng.below(8) {
                0 => town.crash(0),
                1 => town.crash(1),
                2 => {
                    town.break_links(0);
                    town.settle();
                }
                3 => town.offices[1].stuck = rng.below(2) == 0,
                4 => town.wait(rng.below(40).into()),
                _ => {
                    sent += 1;
                    assert_eq!(town.send(0, &news, letter(sent, &["user:anna@north"])).0, 200);
                }
            }
        }
        town.offices[1].stuck = false;
        town.wait(120);
        assert_eq!(town.waiting(), [0, sent as usize], "seed {seed}");
        town.online(1, anna);
        let mut came = Vec::new();
        while let handed @ [_, ..] = &town.handed(1, anna)[..] {
            came.extend(handed.iter().map(|one| String::from_utf8(one.body.clone()).unwrap()));
            let sequences: Vec<Sequence> = handed.iter().map(|one| one.sequence).collect();
            let now = town.now;
            town.offices[1].hub.confirm(now, anna, &sequences);
            town.settle();
        }
        let expected: Vec<String> = (1..=sent).map(|id| format!("body {id}")).collect();
        assert_eq!(came, expected, "seed {seed}");
    }
}

#[test]
fn without_the_link_a_message_waits_until_it_is_stale_and_what_is_not_kept_is_dropped() {
    let mut town = Town::pair();
    let (news, anna) = (town.app(0, "news"), town.user(1, "anna"));
    town.online(1, anna);
    let passing = |id| Letter { store: false, ..letter(id, &["user:anna@north"]) };
    assert_eq!(town.send(0, &news, passing(1)), (200, Some(State::Routed)));
    assert_eq!(town.bodies(1, anna), ["body 1"]);
    let now = town.now;
    town.offices[1].hub.offline(now, anna, Seat::here(anna.0 + 1000));
    town.cut = Some((0, 1));
    town.break_links(0);
    town.settle();
    assert_eq!(town.send(0, &news, passing(2)), (200, Some(State::Dropped)));
    assert_eq!(town.send(0, &news, Letter { ttl: 7200, ..letter(3, &["user:anna@north"]) }), STORED);
    assert_eq!(town.send(0, &news, letter(4, &["user:anna@north"])), STORED);
    town.wait(3700);
    assert_eq!((town.waiting(), town.offices[0].hub.counters().expired), (vec![1, 0], 1));
    town.cut = None;
    town.wait(60);
    assert_eq!(town.waiting(), [0, 1]);
    // The end is that of the first room, not so many seconds from when it came.
    town.wait(3500);
    assert_eq!(town.waiting(), [0, 0]);
}

#[test]
fn broadcasts_reach_every_room_once_and_go_no_further() {
    let mut town = Town::new(&["south", "north", "east"], HubConfig::default());
    let (news, anna, carl) = (town.app(0, "news"), town.user(1, "anna"), town.user(2, "carl"));
    town.online(1, anna);
    assert_eq!(town.send(0, &news, everybody(1, None)), (200, Some(State::Routed)));
    assert_eq!((town.bodies(1, anna), town.bodies(2, carl)), (vec!["body 1".to_owned()], vec![]));
    // One with a life period is told to who comes during it, in every room.
    town.cut = Some((0, 2));
    town.break_links(2);
    town.settle();
    assert_eq!(town.send(0, &news, everybody(2, Some((UNIX, UNIX + 600)))), STORED);
    assert_eq!(town.waiting(), [1, 0, 0]);
    town.cut = None;
    town.wait(60);
    assert_eq!(town.waiting(), [0, 0, 0]);
    town.crash(2);
    town.online(2, carl);
    assert_eq!(
        (town.bodies(1, anna), town.bodies(2, carl)),
        (vec!["body 2".to_owned()], vec!["body 2".to_owned()])
    );
    let counted: Vec<u64> = town.offices.iter().map(|one| one.hub.counters().relayed).collect();
    assert_eq!(counted[1..], [0, 0]);
}

#[test]
fn a_room_that_cannot_take_now_is_tried_again_and_nothing_overtakes() {
    let mut town = Town::new(&["south", "north"], HubConfig { max_stored: 3, ..HubConfig::default() });
    let (news, anna) = (town.app(0, "news"), town.user(1, "anna"));
    for id in 1..=3 {
        assert_eq!(town.send(0, &news, letter(id, &["user:anna@north"])).0, 200);
    }
    assert_eq!(town.waiting(), [0, 3]);
    for id in 4..=6 {
        assert_eq!(town.send(0, &news, letter(id, &["user:anna@north"])).0, 200);
    }
    assert_eq!(town.waiting(), [3, 3]);
    assert!(town.offices[1].rooms.counters().held_off > 0);
    town.online(1, anna);
    for _ in 0..10 {
        let handed = town.handed(1, anna);
        let bodies: Vec<&[u8]> = handed.iter().map(|one| &one.body[..]).collect();
        assert!(bodies.is_sorted(), "{bodies:?}");
        let (now, sequences) = (town.now, handed.iter().map(|one| one.sequence).collect::<Vec<_>>());
        town.offices[1].hub.confirm(now, anna, &sequences);
        town.settle();
        town.wait(40);
    }
    assert_eq!(town.waiting(), [0, 0]);
}

#[test]
fn what_waits_for_a_room_is_bounded_and_who_sends_there_is_told() {
    let config = HubConfig { max_room_messages: 2, max_room_octets: 1000, ..HubConfig::default() };
    let mut town = Town::new(&["south", "north"], config);
    let (news, _) = (town.app(0, "news"), town.user(0, "ben"));
    town.cut = Some((0, 1));
    town.break_links(0);
    town.settle();
    let long = Letter { body: vec![7; 1000], ..letter(9, &["user:anna@north"]) };
    assert_eq!(town.send(0, &news, long), (507, None));
    for (id, code) in [(1, 200), (2, 200), (3, 507)] {
        assert_eq!(town.send(0, &news, letter(id, &["user:ben", "user:anna@north"])).0, code);
    }
    assert_eq!(town.offices[0].hub.counters().room_full, 2);
    // Others are not worse off, and the room misses nothing of what was acknowledged.
    assert_eq!(town.send(0, &news, letter(4, &["user:ben"])).0, 200);
    assert_eq!(town.waiting(), [5, 0]);
}

#[test]
fn nobody_there_is_dropped_there_and_counted_and_a_name_of_a_room_is_given_to_nobody() {
    let mut town = Town::pair();
    let news = town.app(0, "news");
    assert_eq!(town.send(0, &news, letter(1, &["user:nobody@north"])), QUEUED);
    assert_eq!((town.waiting(), town.offices[1].hub.counters().strangers), (vec![0, 0], 1));
    assert_eq!(town.send(0, &news, letter(2, &["user:anna@west"])), (404, None), "no room, so a name as any");
    let hub = &mut town.offices[0].hub;
    for name in ["anna@north", "ben@south"] {
        assert!(hub.add_user(name).is_err() && hub.add_app(name, Rights::default()).is_err());
    }
    assert!(hub.add_user("carl@example.org").is_ok());
    // Neither somebody who was called so before, nor who would have no name there, writes to other rooms.
    let as_if = |name: &str| {
        let rights = Rights { send: true, broadcast: true, query: true };
        Sender::App { name: name.into(), rights, seat: Seat::here(900) }
    };
    let to_anna = || letter(3, &["user:anna@north"]);
    assert_eq!(town.send(0, &as_if("anna@north"), to_anna()), (403, None));
    assert_eq!(town.send(0, &as_if(&"x".repeat(59)), to_anna()), (403, None));
    assert_eq!(town.send(0, &as_if(&"x".repeat(58)), to_anna()), QUEUED);
    // Who follows an application is known where it is.
    let ben = town.user(0, "ben");
    let (now, seat) = (town.now, Seat::here(ben.0 + 1000));
    let follow = Frame::Subscribe { request: 7, app: "news@north".into(), on: true };
    town.offices[0].hub.frame(now, ben, seat, follow);
    town.settle();
    assert!(town.offices[0].frames.contains(&(ben, Frame::Answer { request: 7, code: 403 })));
}

/// One that died is not waited for with the pauses that had grown while it was away.
#[test]
fn a_room_that_comes_is_connected_to_at_once() {
    let mut town = Town::pair();
    town.cut = Some((0, 1));
    town.break_links(0);
    town.wait(300);
    town.cut = None;
    town.crash(1);
    let up: Vec<bool> = town
        .offices
        .iter()
        .flat_map(|one| one.rooms.list(&one.hub))
        .map(|room| room.is_up && room.is_here)
        .collect();
    assert_eq!(up, [true, true]);
}

#[test]
fn where_users_of_other_rooms_are_is_asked_there() {
    let mut town = Town::new(&["south", "north", "east"], HubConfig::default());
    let (ben, anna) = (town.user(0, "ben"), town.user(1, "anna"));
    town.online(1, anna);
    town.online(0, ben);
    let names = ["anna@north", "ben", "ben@south", "carl@east", "nobody@north"];
    let online = |found: &[Presence]| -> Vec<(String, bool, u64)> {
        found.iter().map(|one| (one.user.clone(), one.online, one.since)).collect()
    };
    let is = |online: [bool; 5]| -> Vec<(String, bool, u64)> {
        let since = online.map(|online| if online { UNIX } else { 0 });
        (0..5).map(|at| (names[at].to_owned(), online[at], since[at])).collect()
    };
    let found = town.query(0, &names);
    assert_eq!(online(&found), is([true, true, true, false, false]));
    // One that does not answer holds up nobody but who asks about its users.
    town.offices[1].stuck = true;
    town.cut = Some((0, 1));
    town.break_links(1);
    town.settle();
    let found = town.query(0, &names);
    assert_eq!(online(&found), is([false, true, true, false, false]), "nobody knows");
    assert_eq!(town.offices[0].rooms.counters().unanswered, 0, "it was not asked");
}

/// The link is there, and nothing comes on it.
#[test]
fn a_question_that_is_not_answered_is_given_up_and_questions_are_bounded() {
    let mut town = Town::pair();
    let (now, conns) = (town.now, std::mem::take(&mut town.conns));
    assert_eq!(town.query(0, &["anna@north"]), []);
    assert_eq!(town.query(0, &["ben"]).len(), 1, "others are not held up");
    for _ in 0..outward::MAX_ASKED {
        town.query(0, &["anna@north"]);
    }
    assert_eq!(town.offices[0].rooms.counters().unanswered, 1, "one more than may wait");
    let Office { rooms, hub, .. } = &mut town.offices[0];
    rooms.handle_deadline(now + Duration::from_secs(3), hub);
    assert_eq!(rooms.counters().unanswered, 1 + outward::MAX_ASKED as u64);
    town.settle();
    assert_eq!(town.offices[0].whereabouts.len(), outward::MAX_ASKED);
    drop(conns);
}

/// A connection to the room north as anybody with the key of south could make it.
struct Stranger {
    deframer: Deframer,
    conn: Conn,
}

impl Stranger {
    fn new(town: &mut Town, conn: u32) -> Stranger {
        town.offices[1].rooms.accepted(town.now, Conn(conn), Some(key(0)));
        Stranger { deframer: Deframer::default(), conn: Conn(conn) }
    }

    /// What it is answered, and whether the connection is closed.
    fn say(&mut self, town: &mut Town, messages: &[Message]) -> (Vec<Message>, bool) {
        let now = town.now;
        for message in messages {
            let Office { rooms, hub, .. } = &mut town.offices[1];
            rooms.received(now, self.conn, &message.encode(3), hub);
        }
        let (mut said, mut closed) = (Vec::new(), false);
        let office = &mut town.offices[1];
        loop {
            if let Some(output) = office.hub.poll_output(now) {
                office.hubbed(now, output);
            } else if let Some(output) = office.rooms.poll_output(now) {
                match output {
                    RoomsOutput::Send(conn, octets) if conn == self.conn => {
                        let frame = self.deframer.next(&mut &octets[..]).unwrap().unwrap();
                        said.push(Message::decode(&frame).unwrap());
                    }
                    RoomsOutput::Close(conn) if conn == self.conn => closed = true,
                    _ => {}
                }
            } else if let Some(fetched) = office.store.answer() {
                office.hub.fetched(now, fetched);
            } else if office.store.is_dirty() && !office.stuck {
                let through = office.store.commit().unwrap();
                office.hub.stored(now, through);
            } else {
                said.retain(|message| !matches!(message, Message::Beat { .. }));
                return (said, closed);
            }
        }
    }
}

fn join(room: &str, other: &str) -> Message {
    Message::Join { room: room.into(), other: other.into(), epoch: 7 }
}

fn replicate(sequence: u64, from: &str) -> Message {
    Message::Replicate(Box::new(Relayed {
        sequence,
        sent: u32::MAX,
        until: UNIX as u32 + 60,
        kept: true,
        period: None,
        from: from.parse().unwrap(),
        to: vec!["user:anna".parse().unwrap(), "user:carl@east".parse().unwrap()],
        content_type: "text/plain".into(),
        body: b"hi".to_vec(),
    }))
}

#[test]
fn a_room_speaks_for_its_own_users_only_and_for_nobody_before_it_said_which_it_is() {
    let mut town = Town::new(&["south", "north", "east"], HubConfig::default());
    let anna = town.user(1, "anna");
    town.online(1, anna);
    for first in
        [replicate(1, "user:ben"), join("east", "north"), join("south", "west"), Message::Query(vec![])]
    {
        let (said, closed) = Stranger::new(&mut town, 100).say(&mut town, &[first]);
        assert!(closed && matches!(said[..], [Message::Refused { code: 421, .. }]), "{said:?}");
    }
    let mut stranger = Stranger::new(&mut town, 101);
    assert_eq!(stranger.say(&mut town, &[join("south", "north")]), (vec![Message::Joined], false));
    assert_eq!(town.offices[1].rooms.counters().replaced, 1, "it takes the place of the one before");
    // Whatever it says it is, it is so in its own room, and what it says goes no further.
    let (said, _) =
        stranger.say(&mut town, &[replicate(1, "user:carl@east"), replicate(1, "user:carl@east")]);
    assert_eq!(said, [Message::Ack(vec![1, 1])]);
    let came = town.handed(1, anna);
    assert_eq!((came.len(), &came[0].from), (1, &Address::User("carl@east@south".into())));
    assert!(came[0].sent <= UNIX, "nothing was sent in the time to come");
    assert_eq!(town.offices[1].hub.counters().relayed, 0);
    // A name that is none here is refused for good; what is stale is let go.
    let long = format!("user:{}", "x".repeat(60));
    assert_eq!(stranger.say(&mut town, &[replicate(2, &long)]).0, [Message::Ack(vec![2])]);
    town.now += Duration::from_secs(61);
    assert_eq!(stranger.say(&mut town, &[replicate(3, "user:ben")]).0, [Message::Ack(vec![3])]);
    assert_eq!(town.handed(1, anna), []);
    let (said, closed) = stranger.say(&mut town, &[Message::Enlisted { broker: 1 }]);
    assert_eq!((said, closed, town.offices[1].rooms.counters().unexpected), (vec![], false, 1));
}

#[test]
fn every_bound_of_connections_is_reached() {
    let mut town = Town::pair();
    town.user(1, "anna");
    // One that is joined is there.
    for conn in 100..103 {
        Stranger::new(&mut town, conn);
    }
    let (said, closed) = Stranger::new(&mut town, 103).say(&mut town, &[]);
    assert!(closed && matches!(said[..], [Message::Refused { code: 507, .. }]));
    town.wait(11);
    let counters = *town.offices[1].rooms.counters();
    assert_eq!((counters.connections_full, counters.impatient), (1, 3));
    let mut stranger = Stranger::new(&mut town, 104);
    stranger.say(&mut town, &[join("south", "north")]);
    town.offices[1].stuck = true;
    let many: Vec<Message> = (0..MAX_UNANSWERED as u64 + 1).map(|at| replicate(at, "user:ben")).collect();
    let (_, closed) = stranger.say(&mut town, &many);
    assert_eq!((closed, town.offices[1].rooms.counters().pushy), (true, 1));
    let mut stranger = Stranger::new(&mut town, 105);
    let mut bent = join("south", "north").encode(0);
    bent[30] ^= 1;
    let Office { rooms, hub, .. } = &mut town.offices[1];
    rooms.received(town.now, stranger.conn, &bent, hub);
    assert!(stranger.say(&mut town, &[]).1 && town.offices[1].rooms.counters().broken == 1);
    // Nothing is held of who is gone, and a key that is nobody's is nobody's.
    let conns = town.offices[1].rooms.inward.len();
    assert!(conns <= 1);
    town.offices[1].rooms.accepted(town.now, Conn(200), Some(key(9)));
    assert_eq!(town.offices[1].rooms.inward.len(), conns);
    assert!(!town.offices[1].rooms.is_listed(None) && !town.offices[1].rooms.has(Conn(200)));
    assert_eq!(town.offices[1].name, "north");
}

#[test]
fn a_name_of_a_room_is_short_and_has_no_room_in_it() {
    assert!(is_room_name("north") && is_room_name(&"x".repeat(31)));
    for wrong in ["", "a@b", "a,b", "a:b", "a b", "*", &"x".repeat(32)] {
        assert!(!is_room_name(wrong), "{wrong:?}");
    }
}
