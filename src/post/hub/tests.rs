//! The hub on a store in memory, with receivers that remember what they were handed.

use super::*;
use crate::{rng::Seeded, store::Memory};

const UNIX: u64 = 1_700_000_000;

struct Desk {
    hub: Hub,
    store: Memory,
    config: HubConfig,
    now: Time,
    /// The store takes nothing.
    stuck: bool,
    frames: Vec<(Inbox, Frame)>,
    answers: Vec<(String, u16, Option<State>)>,
    whereabouts: Vec<Vec<Whereabouts>>,
    events: Vec<HubEvent>,
    credentials: Vec<Option<Credential>>,
    revoked: Vec<Inbox>,
}

fn open(config: HubConfig, store: &Memory, now: Time) -> Hub {
    let unix = UNIX + now.as_micros() / 1_000_000;
    Hub::open(config, Open { now, unix, rng: Box::new(Seeded::new(unix)) }, store).unwrap()
}

impl Desk {
    fn new(config: HubConfig) -> Desk {
        let store = Memory::default();
        Desk {
            hub: open(config, &store, Time::ZERO),
            store,
            config,
            now: Time::ZERO,
            stuck: false,
            frames: Vec::new(),
            answers: Vec::new(),
            whereabouts: Vec::new(),
            events: Vec::new(),
            credentials: Vec::new(),
            revoked: Vec::new(),
        }
    }

    /// The process dies, and another starts on what is durable.
    fn crash(&mut self) {
        self.store = self.store.clone();
        self.hub = open(self.config, &self.store, self.now);
        self.settle();
    }

    fn settle(&mut self) {
        let mut outputs = 0;
        loop {
            while let Some(output) = self.hub.poll_output(self.now) {
                outputs += 1;
                assert!(outputs < 100_000, "the hub is never done");
                match output {
                    HubOutput::Store(batch) => self.store.submit(batch),
                    HubOutput::Fetch(fetch) => self.store.ask(fetch),
                    HubOutput::Send { inbox, frame, .. } => self.frames.push((inbox, frame)),
                    HubOutput::Answered { id, answer, .. } => {
                        self.answers.push((id, answer.code, answer.state));
                    }
                    HubOutput::Whereabouts { users, .. } => self.whereabouts.push(users),
                    HubOutput::Authenticated { credential, .. } => self.credentials.push(credential),
                    HubOutput::Revoked { inbox, .. } => self.revoked.push(inbox),
                    HubOutput::Event(event) => self.events.push(event),
                }
                while let Some(fetched) = self.store.answer() {
                    self.hub.fetched(self.now, fetched);
                }
            }
            if self.stuck || !self.store.is_dirty() {
                return;
            }
            let through = self.store.commit().unwrap();
            self.hub.stored(self.now, through);
        }
    }

    fn wait(&mut self, seconds: u64) {
        let until = self.now + Duration::from_secs(seconds);
        while let Some(due) = self.hub.deadline().filter(|due| *due <= until) {
            self.now = due;
            self.hub.handle_deadline(self.now);
            self.settle();
        }
        self.now = until;
        self.settle();
    }

    fn user(&mut self, name: &str, devices: usize) -> Vec<Inbox> {
        self.hub.add_user(name).unwrap();
        let mut inboxes = Vec::new();
        for device in 0..devices {
            let enrolled = self.hub.add_device(name, [device as u8; 16], 0).unwrap();
            self.settle();
            self.hub.authenticate(1, enrolled.session);
            self.settle();
            let credential = self.credentials.pop().unwrap().unwrap();
            assert!(credential.secret == enrolled.secret && credential.user == name);
            inboxes.push(credential.inbox);
        }
        self.settle();
        inboxes
    }

    fn app(&mut self, name: &str) -> Sender {
        let rights = Rights { send: true, broadcast: true, query: true };
        let (secret, _) = self.hub.add_app(name, rights).unwrap();
        self.settle();
        let (_, rights) = self.hub.admit(name, &secret).unwrap();
        assert_eq!(self.hub.admit(name, "another"), None);
        Sender::App { name: name.into(), rights, seat: Seat(900) }
    }

    fn send(&mut self, sender: &Sender, message: Message) -> (u16, Option<State>) {
        self.hub.take(self.now, sender, message);
        self.settle();
        let (_, code, state) = self.answers.pop().unwrap();
        (code, state)
    }

    fn online(&mut self, inbox: Inbox) {
        self.hub.online(self.now, inbox, Seat(inbox.0 + 1000));
        self.settle();
    }

    fn offline(&mut self, inbox: Inbox) {
        self.hub.offline(self.now, inbox, Seat(inbox.0 + 1000));
        self.settle();
    }

    /// What was handed to this inbox since the last look.
    fn handed(&mut self, inbox: Inbox) -> Vec<Delivery> {
        let (mine, others) = std::mem::take(&mut self.frames).into_iter().partition(|(to, _)| *to == inbox);
        self.frames = others;
        let frames: Vec<(Inbox, Frame)> = mine;
        frames
            .into_iter()
            .filter_map(|(_, frame)| match frame {
                Frame::Deliver(delivery) => Some(delivery),
                _ => None,
            })
            .collect()
    }

    fn bodies(&mut self, inbox: Inbox) -> Vec<String> {
        self.handed(inbox).into_iter().map(|one| String::from_utf8(one.body).unwrap()).collect()
    }

    fn confirm(&mut self, inbox: Inbox, deliveries: &[Delivery]) {
        let sequences: Vec<Sequence> = deliveries.iter().map(|one| one.sequence).collect();
        self.hub.confirm(self.now, inbox, &sequences);
        self.settle();
    }

    fn rows(&self, table: Table) -> usize {
        let mut count = 0;
        self.store.load(table, &mut |_, _| count += 1).unwrap();
        count
    }

    /// Rows of queues and messages.
    fn kept(&self) -> (usize, usize) {
        (self.rows(rows::QUEUE), self.rows(rows::MESSAGE))
    }
}

fn to(users: &[&str]) -> To {
    To::Named(users.iter().map(|name| Address::User((*name).into())).collect())
}

fn message(id: &str, to: To, body: &str) -> Message {
    let kind = match &to {
        To::Named(named) if named.len() == 1 => Kind::One,
        _ => Kind::Directed,
    };
    Message {
        id: id.into(),
        from: None,
        to,
        kind,
        store: true,
        ttl: 3600,
        period: None,
        content_type: "text/plain".into(),
        body: body.as_bytes().to_vec(),
    }
}

const STORED: (u16, Option<State>) = (200, Some(State::Stored));
const QUEUED: (u16, Option<State>) = (200, Some(State::Queued));

/// OM-01, OM-03, OM-06, OM-07.
#[test]
fn what_is_kept_for_who_is_away_is_handed_over_at_login_and_leaves_when_confirmed() {
    let mut desk = Desk::new(HubConfig::default());
    let anna = desk.user("anna", 1)[0];
    let news = desk.app("news");
    assert_eq!(desk.send(&news, message("1", to(&["anna"]), "first")), STORED);
    assert_eq!(desk.send(&news, message("2", to(&["anna"]), "second")), STORED);
    desk.online(anna);
    let handed = desk.handed(anna);
    assert_eq!(handed.iter().map(|one| &one.body[..]).collect::<Vec<_>>(), [&b"first"[..], b"second"]);
    assert!(handed.iter().all(|one| !one.redelivered && one.from == Address::App("news".into())));
    assert_eq!(desk.kept(), (2, 2));
    desk.confirm(anna, &handed);
    assert_eq!(desk.kept(), (0, 0));
    desk.offline(anna);
    desk.online(anna);
    assert_eq!(desk.handed(anna), []);
}

/// OM-01: the answer waits for the disk, and so does the receiver.
#[test]
fn nothing_is_acknowledged_or_handed_over_before_it_is_durable() {
    let mut desk = Desk::new(HubConfig::default());
    let anna = desk.user("anna", 1)[0];
    let news = desk.app("news");
    desk.online(anna);
    desk.stuck = true;
    desk.hub.take(desk.now, &news, message("1", to(&["anna"]), "hello"));
    desk.settle();
    assert!(desk.answers.is_empty() && desk.handed(anna).is_empty());
    desk.stuck = false;
    desk.settle();
    assert_eq!(desk.answers.pop(), Some(("1".into(), 200, Some(State::Queued))));
    assert_eq!(desk.bodies(anna), ["hello"]);
}

#[test]
fn a_crash_loses_nothing_that_was_acknowledged_and_shows_again_only_what_was_not_confirmed() {
    let mut desk = Desk::new(HubConfig::default());
    let anna = desk.user("anna", 1)[0];
    let news = desk.app("news");
    for number in 0..5 {
        desk.send(&news, message(&number.to_string(), to(&["anna"]), &number.to_string()));
    }
    desk.online(anna);
    let handed = desk.handed(anna);
    desk.confirm(anna, &handed[..2]);
    desk.crash();
    assert_eq!(desk.hub.online_count(), 0);
    desk.online(anna);
    assert_eq!(desk.bodies(anna), ["2", "3", "4"]);
    let news = desk.app("weather");
    desk.send(&news, message("1", to(&["anna"]), "later"));
    let later = desk.handed(anna);
    assert!(later[0].sequence > handed[4].sequence, "numbers are never used again");
}

#[test]
fn what_was_handed_over_and_not_confirmed_comes_again_and_says_so() {
    let mut desk = Desk::new(HubConfig::default());
    let anna = desk.user("anna", 1)[0];
    let news = desk.app("news");
    desk.send(&news, message("1", to(&["anna"]), "hello"));
    desk.online(anna);
    assert!(!desk.handed(anna)[0].redelivered);
    desk.offline(anna);
    desk.online(anna);
    assert!(desk.handed(anna)[0].redelivered);
}

/// OM-04, OM-05: the sender's choice, and the user's.
#[test]
fn what_is_not_to_be_kept_is_passed_on_or_dropped() {
    let mut desk = Desk::new(HubConfig::default());
    let anna = desk.user("anna", 1)[0];
    let news = desk.app("news");
    let passing = |id: &str| Message { store: false, ..message(id, to(&["anna"]), id) };
    assert_eq!(desk.send(&news, passing("1")), (200, Some(State::Dropped)));
    desk.online(anna);
    assert_eq!(desk.send(&news, passing("2")), (200, Some(State::Routed)));
    assert_eq!(desk.bodies(anna), ["2"]);
    assert_eq!(desk.kept(), (0, 0));
    let frame = Frame::Setting { request: 5, keep: false };
    desk.hub.frame(desk.now, anna, Seat(anna.0 + 1000), frame);
    desk.settle();
    assert!(desk.frames.contains(&(anna, Frame::Answer { request: 5, code: 200 })));
    desk.offline(anna);
    assert_eq!(desk.send(&news, message("3", to(&["anna"]), "3")), (200, Some(State::Dropped)));
    desk.crash();
    assert_eq!(desk.send(&news, message("4", to(&["anna"]), "4")), (200, Some(State::Dropped)));
}

/// OM-08.
#[test]
fn what_has_expired_is_not_handed_over_and_leaves() {
    let mut desk = Desk::new(HubConfig::default());
    let anna = desk.user("anna", 1)[0];
    desk.user("ben", 1);
    let news = desk.app("news");
    let brief = |id: &str, to: To| Message { ttl: 30, ..message(id, to, id) };
    desk.send(&news, brief("1", to(&["anna"])));
    desk.send(&news, brief("2", to(&["anna", "ben"])));
    desk.send(&news, message("3", to(&["anna"]), "3"));
    desk.now += Duration::from_secs(31);
    desk.online(anna);
    assert_eq!(desk.bodies(anna), ["3"], "before the sweep");
    desk.offline(anna);
    desk.wait(130);
    assert_eq!(desk.rows(rows::MESSAGE), 1, "the shared one too");
    desk.online(anna);
    assert_eq!(desk.bodies(anna), ["3"]);
    assert_eq!(desk.hub.counters().expired, 3);
}

/// OM-09, OM-10, O-04: each device of each user gets its own, and the body goes with the last.
#[test]
fn a_message_for_several_is_kept_once_until_all_have_it() {
    let mut desk = Desk::new(HubConfig::default());
    let anna = desk.user("anna", 2);
    let ben = desk.user("ben", 1)[0];
    let news = desk.app("news");
    assert_eq!(desk.send(&news, message("1", to(&["anna", "ben", "nobody"]), "hi")), STORED);
    assert_eq!(desk.kept(), (3, 1));
    for (inbox, left) in [(anna[0], (2, 1)), (ben, (1, 1)), (anna[1], (0, 0))] {
        desk.online(inbox);
        let handed = desk.handed(inbox);
        assert_eq!(handed.len(), 1);
        desk.confirm(inbox, &handed);
        assert_eq!(desk.kept(), left);
        if inbox == ben {
            desk.crash();
        }
    }
}

#[test]
fn an_id_is_taken_once() {
    let mut desk = Desk::new(HubConfig::default());
    let anna = desk.user("anna", 1)[0];
    let (news, weather) = (desk.app("news"), desk.app("weather"));
    assert_eq!(desk.send(&news, message("1", to(&["anna"]), "hello")), STORED);
    assert_eq!(desk.send(&news, message("1", to(&["anna"]), "hello")), QUEUED);
    assert_eq!(desk.send(&news, message("1", to(&["anna"]), "other")), (409, None));
    assert_eq!(desk.send(&weather, message("1", to(&["anna"]), "other")), STORED);
    desk.crash();
    assert_eq!(desk.send(&news, message("1", to(&["anna"]), "hello")), QUEUED);
    desk.online(anna);
    let handed = desk.handed(anna);
    assert_eq!(handed.len(), 2);
    desk.confirm(anna, &handed);
    assert_eq!(
        desk.send(&news, message("1", to(&["anna"]), "hello")),
        QUEUED,
        "when it is long delivered, too"
    );
    assert_eq!(desk.bodies(anna), [""; 0]);
    // While the first is on its way to the disk.
    desk.stuck = true;
    for body in ["hello", "hello", "other"] {
        desk.hub.take(desk.now, &news, message("2", to(&["anna"]), body));
    }
    desk.settle();
    assert_eq!(desk.answers.pop(), Some(("2".into(), 409, None)));
    assert!(desk.answers.is_empty());
    desk.stuck = false;
    desk.settle();
    assert_eq!(desk.answers.len(), 2);
    assert_eq!(desk.bodies(anna), ["hello"]);
    desk.wait(3600 + 86_400 + 120);
    assert_eq!(desk.rows(rows::KNOWN), 0, "forgotten in the end");
}

#[test]
fn ids_remembered_are_bounded() {
    let mut desk = Desk::new(HubConfig { max_known: 3, ..HubConfig::default() });
    desk.user("anna", 1);
    let news = desk.app("news");
    for id in 0..5 {
        desk.send(&news, message(&id.to_string(), to(&["anna"]), "x"));
    }
    assert_eq!((desk.rows(rows::KNOWN), desk.hub.counters().known_evicted), (3, 2));
}

#[test]
fn who_may_not_and_what_cannot_be_is_refused_by_a_code() {
    let mut desk = Desk::new(HubConfig::default());
    desk.user("anna", 1);
    let news = desk.app("news");
    assert_eq!(desk.send(&news, message("1", to(&["nobody"]), "x")), (404, None));
    assert_eq!(desk.send(&news, message("1", to(&["anna"]), "x")), STORED, "a refused id is not taken");
    let claimed = Message { from: Some(Address::App("bank".into())), ..message("2", to(&["anna"]), "x") };
    assert_eq!(desk.send(&news, claimed), (403, None));
    let Sender::App { name, seat, .. } = news.clone() else { panic!() };
    let mute = Sender::App { name, seat, rights: Rights::default() };
    assert_eq!(desk.send(&mute, message("3", to(&["anna"]), "x")), (403, None));
    let everybody = Message { kind: Kind::Broadcast, ..message("4", To::All, "x") };
    let limited =
        Sender::App { name: "news".into(), seat, rights: Rights { send: true, ..Rights::default() } };
    assert_eq!(desk.send(&limited, everybody), (403, None));
    desk.hub.query(seat, Rights::default(), "q".into(), vec!["anna".into()]);
    desk.settle();
    assert_eq!(desk.answers.pop(), Some(("q".into(), 403, None)));
}

#[test]
fn too_much_at_once_is_refused_and_nothing_is_lost() {
    let mut desk = Desk::new(HubConfig { max_pending: 2, ..HubConfig::default() });
    desk.user("anna", 1);
    let news = desk.app("news");
    desk.stuck = true;
    for id in ["1", "2", "3"] {
        desk.hub.take(desk.now, &news, message(id, to(&["anna"]), id));
    }
    desk.settle();
    assert_eq!(desk.answers, [("3".into(), 507, None)]);
    desk.stuck = false;
    desk.settle();
    assert_eq!(desk.answers.len(), 3);
    assert_eq!((desk.kept(), desk.hub.counters().pending_full), ((2, 2), 1));
}

/// DECISIONS.md 5: past its quota a device is stale; its next login is told, the user's other devices notice nothing.
#[test]
fn a_device_past_its_quota_is_emptied_and_told() {
    let config = HubConfig { max_messages: 300, ..HubConfig::default() };
    let mut desk = Desk::new(config);
    let anna = desk.user("anna", 2);
    let news = desk.app("news");
    desk.online(anna[0]);
    for id in 0..310 {
        desk.send(&news, message(&id.to_string(), to(&["anna"]), "x"));
        let handed = desk.handed(anna[0]);
        assert_eq!(handed.len(), 1);
        desk.confirm(anna[0], &handed);
        if id == 305 {
            desk.crash();
            desk.online(anna[0]);
        }
    }
    assert_eq!(desk.kept(), (0, 0));
    assert!(desk.events.contains(&HubEvent::Stale { inbox: anna[1], missed: 301 }));
    desk.online(anna[1]);
    let welcome = desk.frames.iter().find_map(|(inbox, frame)| match frame {
        Frame::Welcome { missed, waiting } if *inbox == anna[1] => Some((*missed, *waiting)),
        _ => None,
    });
    // What came between the last writing of the count and the crash is not in it.
    assert_eq!(welcome, Some((305, 0)));
    assert_eq!(desk.send(&news, message("again", to(&["anna"]), "again")), QUEUED);
    assert_eq!(desk.bodies(anna[1]), ["again"]);
}

#[test]
fn octets_have_a_quota_too() {
    let mut desk = Desk::new(HubConfig { max_octets: 1000, ..HubConfig::default() });
    desk.user("anna", 1);
    let news = desk.app("news");
    let body = "x".repeat(500);
    assert_eq!(desk.send(&news, message("1", to(&["anna"]), &body)), STORED);
    assert_eq!(desk.send(&news, message("2", to(&["anna"]), &body)).1, Some(State::Dropped));
    assert_eq!(desk.hub.counters().stale_devices, 1);
}

#[test]
fn a_window_is_under_way_and_the_rest_waits_in_order() {
    let mut desk = Desk::new(HubConfig { window: 4, ..HubConfig::default() });
    let anna = desk.user("anna", 1)[0];
    let news = desk.app("news");
    desk.online(anna);
    let mut expected = Vec::new();
    for id in 0..50 {
        desk.send(&news, message(&id.to_string(), to(&["anna"]), &id.to_string()));
        expected.push(id.to_string());
    }
    let mut got = Vec::new();
    loop {
        let handed = desk.handed(anna);
        if handed.is_empty() {
            break;
        }
        assert!(handed.len() <= 4);
        got.extend(handed.iter().map(|one| String::from_utf8(one.body.clone()).unwrap()));
        desk.confirm(anna, &handed);
    }
    assert_eq!(got, expected);
    assert_eq!(desk.kept(), (0, 0));
}

#[test]
fn a_confirmation_after_a_new_login_counts_and_of_what_never_was_does_not() {
    let mut desk = Desk::new(HubConfig { window: 2, ..HubConfig::default() });
    let inboxes = [desk.user("anna", 1)[0], desk.user("ben", 1)[0]];
    let news = desk.app("news");
    for id in 0..4 {
        desk.send(&news, message(&id.to_string(), to(&["anna"]), &id.to_string()));
    }
    desk.online(inboxes[0]);
    let first = desk.handed(inboxes[0]);
    desk.confirm(inboxes[0], &first);
    let second = desk.handed(inboxes[0]);
    desk.offline(inboxes[0]);
    desk.confirm(inboxes[0], &second);
    assert_eq!(desk.kept(), (0, 0), "late, and counts");
    desk.send(&news, message("5", to(&["anna"]), "5"));
    desk.online(inboxes[1]);
    desk.hub.confirm(desk.now, inboxes[1], &[Sequence(first[0].sequence.0), Sequence(999), Sequence(5)]);
    desk.settle();
    assert_eq!(desk.kept(), (1, 1), "nobody removes what is another's");
}

/// OM-09, OM-11: everybody who is there, each once, and nobody later.
#[test]
fn a_broadcast_reaches_who_is_there() {
    let mut desk = Desk::new(HubConfig::default());
    let (anna, ben) = (desk.user("anna", 1)[0], desk.user("ben", 1)[0]);
    let news = desk.app("news");
    desk.online(anna);
    let everybody = Message { kind: Kind::Broadcast, ..message("1", To::All, "hear") };
    assert_eq!(desk.send(&news, everybody), (200, Some(State::Routed)));
    assert_eq!(desk.bodies(anna), ["hear"]);
    desk.online(ben);
    assert_eq!(desk.bodies(ben), [""; 0]);
}

/// OM-10, O-05.
#[test]
fn a_broadcast_with_a_life_period_reaches_each_once_during_it_and_is_gone_at_its_end() {
    let mut desk = Desk::new(HubConfig::default());
    let (anna, ben) = (desk.user("anna", 1)[0], desk.user("ben", 1)[0]);
    let (carl, dora) = (desk.user("carl", 1)[0], desk.user("dora", 1)[0]);
    let news = desk.app("news");
    let lives = |id: &str, from: u64, until: u64| Message {
        kind: Kind::Broadcast,
        period: Some((UNIX + from, UNIX + until)),
        ..message(id, To::All, id)
    };
    desk.online(anna);
    assert_eq!(desk.send(&news, lives("now", 0, 1000)), STORED);
    let handed = desk.handed(anna);
    assert_eq!(handed.len(), 1);
    desk.confirm(anna, &handed);
    desk.online(ben);
    let handed = desk.handed(ben);
    assert_eq!(handed.len(), 1);
    desk.crash();
    desk.online(anna);
    desk.online(ben);
    assert_eq!(desk.bodies(anna), [""; 0], "confirmed before the crash");
    assert_eq!(desk.bodies(ben), ["now"], "not confirmed");
    assert_eq!(desk.send(&news, lives("later", 305, 500)), STORED);
    assert_eq!(desk.bodies(anna), [""; 0], "its time has not come");
    desk.wait(310);
    // Between the beginning and the moment at which everybody is told.
    desk.offline(ben);
    desk.online(ben);
    let handed = desk.handed(ben);
    assert_eq!(handed.len(), 2);
    desk.confirm(ben, &handed);
    desk.wait(60);
    assert_eq!(desk.bodies(anna), ["later"]);
    assert_eq!(desk.bodies(ben), [""; 0], "told at the login, and confirmed");
    desk.online(carl);
    assert_eq!(desk.bodies(carl), ["now", "later"]);
    desk.wait(1000);
    desk.online(dora);
    assert_eq!(desk.bodies(dora), [""; 0]);
    assert_eq!((desk.rows(rows::BROADCAST), desk.rows(rows::SEEN)), (0, 0));
}

#[test]
fn broadcasts_that_live_are_bounded() {
    let mut desk = Desk::new(HubConfig { max_broadcasts: 1, ..HubConfig::default() });
    let news = desk.app("news");
    let lives = |id: &str| Message {
        kind: Kind::Broadcast,
        period: Some((UNIX, UNIX + 100)),
        ..message(id, To::All, id)
    };
    assert_eq!(desk.send(&news, lives("1")), STORED);
    assert_eq!(desk.send(&news, lives("2")), (507, None));
}

/// A broadcast does not make the queue jump over what waits in it.
#[test]
fn a_broadcast_while_a_queue_waits_hides_nothing_of_it() {
    let mut desk = Desk::new(HubConfig { window: 2, ..HubConfig::default() });
    let anna = desk.user("anna", 1)[0];
    let news = desk.app("news");
    for id in 0..6 {
        desk.send(&news, message(&id.to_string(), to(&["anna"]), &id.to_string()));
    }
    desk.online(anna);
    let lives =
        Message { kind: Kind::Broadcast, period: Some((UNIX, UNIX + 100)), ..message("b", To::All, "b") };
    desk.send(&news, lives);
    let mut got = Vec::new();
    loop {
        let handed = desk.handed(anna);
        if handed.is_empty() {
            break;
        }
        got.extend(handed.iter().map(|one| String::from_utf8(one.body.clone()).unwrap()));
        desk.confirm(anna, &handed);
    }
    got.sort();
    assert_eq!(got, ["0", "1", "2", "3", "4", "5", "b"]);
}

/// OM-09: to those who subscribed, however many pages of them there are.
#[test]
fn subscribers_get_what_an_application_sends_to_them() {
    let mut desk = Desk::new(HubConfig::default());
    let news = desk.app("news");
    let count = 1203;
    for number in 0..count {
        let name = format!("user{number:05}");
        let inbox = desk.user(&name, 1)[0];
        let seat = Seat(inbox.0 + 1000);
        let frame = Frame::Subscribe { request: 1, app: "news".into(), on: true };
        desk.hub.frame(desk.now, inbox, seat, frame);
    }
    desk.settle();
    let followers = Message { kind: Kind::Directed, ..message("1", To::All, "hi") };
    assert_eq!(desk.send(&news, followers), STORED);
    assert_eq!(desk.kept(), (count, 1));
    let frame = Frame::Subscribe { request: 2, app: "nothing".into(), on: true };
    let somebody = desk.user("somebody", 1)[0];
    desk.hub.frame(desk.now, somebody, Seat(1002), frame);
    desk.settle();
    assert!(desk.frames.iter().any(|(_, frame)| *frame == Frame::Answer { request: 2, code: 404 }));
}

/// Devices write to users, and to applications.
#[test]
fn a_device_sends_to_a_user_and_to_an_application_once() {
    let mut desk = Desk::new(HubConfig::default());
    let (anna, ben) = (desk.user("anna", 1)[0], desk.user("ben", 1)[0]);
    desk.app("shop");
    desk.online(anna);
    let put = |number: u64, to: Address| {
        Frame::Put(crate::wire::post::Put {
            number,
            to: To::Named(vec![to]),
            kind: Kind::One,
            store: true,
            ttl: 60,
            content_type: "text/plain".into(),
            body: b"hi".to_vec(),
        })
    };
    for _ in 0..2 {
        let frame = put(1, Address::User("ben".into()));
        desk.hub.frame(desk.now, anna, Seat(anna.0 + 1000), frame);
        desk.settle();
    }
    let frame = put(2, Address::App("shop".into()));
    desk.hub.frame(desk.now, anna, Seat(anna.0 + 1000), frame);
    desk.settle();
    let answers = desk.frames.iter().filter_map(|(_, frame)| match frame {
        Frame::PutAnswer { number, code, .. } => Some((*number, *code)),
        _ => None,
    });
    assert_eq!(answers.collect::<Vec<_>>(), [(1, 200), (1, 200), (2, 200)]);
    desk.online(ben);
    let handed = desk.handed(ben);
    assert_eq!(handed.len(), 1);
    assert_eq!(handed[0].from, Address::User("anna".into()));
    assert_eq!(desk.kept(), (2, 2));
}

/// OM-15.
#[test]
fn presence_is_told_to_who_may_ask() {
    let mut desk = Desk::new(HubConfig::default());
    let anna = desk.user("anna", 2);
    let Sender::App { rights, seat, .. } = desk.app("news") else { panic!() };
    let names = || vec!["anna".to_owned(), "nobody".to_owned()];
    desk.hub.query(seat, rights, "1".into(), names());
    desk.settle();
    let none = Whereabouts { user: "nobody".into(), online: false, since: 0 };
    let away = Whereabouts { user: "anna".into(), online: false, since: 0 };
    assert_eq!(desk.whereabouts.pop().unwrap(), [away, none.clone()]);
    desk.online(anna[1]);
    desk.wait(10);
    desk.online(anna[0]);
    desk.offline(anna[0]);
    desk.hub.query(seat, rights, "2".into(), names());
    desk.settle();
    let there = Whereabouts { user: "anna".into(), online: true, since: UNIX };
    assert_eq!(desk.whereabouts.pop().unwrap(), [there, none]);
}

#[test]
fn a_revoked_credential_is_none_and_who_sits_on_it_goes() {
    let mut desk = Desk::new(HubConfig::default());
    desk.user("anna", 0);
    let enrolled = desk.hub.add_device("anna", [1; 16], UNIX + 100).unwrap();
    desk.settle();
    desk.hub.authenticate(1, enrolled.session);
    desk.settle();
    let inbox = desk.credentials.pop().unwrap().unwrap().inbox;
    desk.online(inbox);
    desk.hub.revoke_device(enrolled.session);
    desk.settle();
    assert_eq!(desk.revoked, [inbox]);
    desk.hub.authenticate(2, enrolled.session);
    desk.settle();
    assert_eq!(desk.credentials.pop(), Some(None));
    desk.crash();
    assert_eq!(desk.revoked, [inbox, inbox], "said again at a start");
    let brief = desk.hub.add_device("anna", [2; 16], UNIX + 100).unwrap();
    desk.settle();
    desk.wait(100);
    desk.hub.authenticate(3, brief.session);
    desk.settle();
    assert_eq!(desk.credentials.pop(), Some(None), "expired");
    desk.wait(8 * 86_400);
    assert_eq!(desk.rows(rows::REVOKED), 0);
}

#[test]
fn operators_are_told_what_cannot_be() {
    let mut desk = Desk::new(HubConfig { max_devices: 2, ..HubConfig::default() });
    desk.user("anna", 2);
    assert!(desk.hub.add_user("no spaces").is_err());
    desk.hub.add_user("anna").unwrap();
    desk.hub.add_device("anna", [9; 16], 0).unwrap();
    desk.hub.add_device("nobody", [9; 16], 0).unwrap();
    desk.hub.revoke_device(SessionId([9; 16]));
    desk.events.clear();
    desk.settle();
    let refused: Vec<Status> = desk
        .events
        .iter()
        .filter_map(|event| match event {
            HubEvent::Done { result: Err(fault), .. } => Some(fault.status),
            _ => None,
        })
        .collect();
    assert_eq!(refused, [Status::State, Status::Full, Status::NotFound, Status::NotFound]);
    // Two in one turn, before either is durable.
    desk.events.clear();
    desk.hub.add_user("carl").unwrap();
    desk.hub.add_user("carl").unwrap();
    desk.hub.add_device("carl", [1; 16], 0).unwrap();
    desk.settle();
    let results: Vec<bool> = desk
        .events
        .iter()
        .filter_map(|event| match event {
            HubEvent::Done { result, .. } => Some(result.is_ok()),
            _ => None,
        })
        .collect();
    assert_eq!(results.iter().filter(|ok| **ok).count(), 2, "{results:?}");
}

#[test]
fn a_frame_of_nobody_is_refused_and_those_that_wait_are_bounded() {
    let mut desk = Desk::new(HubConfig { max_pending: 2, ..HubConfig::default() });
    let anna = desk.user("anna", 1)[0];
    let setting = |request| Frame::Setting { request, keep: true };
    desk.hub.frame(desk.now, Inbox(999), Seat(1), setting(1));
    desk.settle();
    assert_eq!(desk.frames.pop(), Some((Inbox(999), Frame::Answer { request: 1, code: 507 })));
    for request in 2..=4 {
        desk.hub.frame(desk.now, anna, Seat(1), setting(request));
    }
    desk.settle();
    desk.frames.sort_by_key(|(_, frame)| match frame {
        Frame::Answer { request, .. } => *request,
        _ => 0,
    });
    let codes = desk.frames.iter().filter_map(|(_, frame)| match frame {
        Frame::Answer { code, .. } => Some(*code),
        _ => None,
    });
    assert_eq!(codes.collect::<Vec<_>>(), [200, 200, 507]);
    assert_eq!(desk.hub.counters().frames_refused, 2);
}

#[test]
fn a_message_is_withdrawn_from_whoever_was_not_handed_it() {
    let mut desk = Desk::new(HubConfig::default());
    let (anna, ben) = (desk.user("anna", 1)[0], desk.user("ben", 1)[0]);
    let news = desk.app("news");
    let cancel = |desk: &mut Desk, id: &str| {
        desk.hub.cancel(desk.now, &news, id);
        desk.settle();
        desk.answers.pop().unwrap().1
    };
    assert_eq!(cancel(&mut desk, "1"), 404);
    let news = desk.app("weather");
    let cancel = |desk: &mut Desk, id: &str| {
        desk.hub.cancel(desk.now, &news, id);
        desk.settle();
        desk.answers.pop().unwrap().1
    };
    desk.send(&news, message("1", to(&["anna"]), "1"));
    assert_eq!(cancel(&mut desk, "1"), 200);
    assert_eq!(desk.kept(), (0, 0));
    assert_eq!(cancel(&mut desk, "1"), 404, "it is gone");
    desk.online(anna);
    desk.send(&news, message("2", to(&["anna"]), "2"));
    assert_eq!(cancel(&mut desk, "2"), 409, "it was handed over");
    desk.send(&news, message("3", to(&["anna", "ben"]), "3"));
    assert_eq!(cancel(&mut desk, "3"), 409, "one has it");
    desk.online(ben);
    assert_eq!(desk.bodies(ben), [""; 0], "and the other does not get it any more");
    let handed = desk.handed(anna);
    desk.confirm(anna, &handed);
    assert_eq!(desk.kept(), (0, 0));
}

/// What the simulation found: the second word on a shared message took it from the others.
#[test]
fn a_confirmation_said_twice_counts_once() {
    let mut desk = Desk::new(HubConfig::default());
    let (anna, ben) = (desk.user("anna", 1)[0], desk.user("ben", 1)[0]);
    let news = desk.app("news");
    desk.send(&news, message("1", to(&["anna", "ben"]), "hi"));
    desk.online(anna);
    let sequence = desk.handed(anna)[0].sequence;
    desk.stuck = true;
    desk.hub.confirm(desk.now, anna, &[sequence, sequence]);
    desk.settle();
    desk.offline(anna);
    desk.hub.confirm(desk.now, anna, &[sequence]);
    desk.settle();
    desk.stuck = false;
    desk.settle();
    assert_eq!(desk.kept(), (1, 1));
    desk.online(ben);
    assert_eq!(desk.bodies(ben), ["hi"]);
}

#[test]
fn what_is_leaving_does_not_hide_what_comes_after_it() {
    let mut desk = Desk::new(HubConfig { window: 2, ..HubConfig::default() });
    let anna = desk.user("anna", 1)[0];
    let news = desk.app("news");
    for id in ["1", "2", "3", "4"] {
        desk.send(&news, message(id, to(&["anna"]), id));
    }
    desk.online(anna);
    let first = desk.handed(anna);
    desk.stuck = true;
    desk.confirm(anna, &first);
    desk.handed(anna);
    desk.offline(anna);
    desk.online(anna);
    assert_eq!(desk.bodies(anna), ["3", "4"], "a disk that is late is not asked without end");
}

#[test]
fn a_message_may_have_more_receivers_than_users_are_remembered() {
    let mut desk = Desk::new(HubConfig { max_cached: 2, ..HubConfig::default() });
    let names: Vec<String> = (0..9).map(|number| format!("user{number}")).collect();
    let inboxes: Vec<Inbox> = names.iter().map(|name| desk.user(name, 1)[0]).collect();
    let news = desk.app("news");
    let named: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(desk.send(&news, message("1", to(&named), "all")), STORED);
    for inbox in inboxes {
        desk.online(inbox);
        assert_eq!(desk.bodies(inbox), ["all"]);
    }
    let Sender::App { rights, seat, .. } = news else { panic!() };
    // The second waits behind the first, which makes the hub forget what the second knew already.
    desk.stuck = true;
    desk.hub.query(seat, rights, "q".into(), names.clone());
    desk.hub.query(seat, rights, "r".into(), names[8..].to_vec());
    desk.stuck = false;
    desk.settle();
    let counts: Vec<usize> = desk.whereabouts.iter().map(Vec::len).collect();
    assert_eq!(counts, [9, 1]);
}

#[test]
fn a_message_repeated_while_it_waits_is_answered_as_often() {
    let mut desk = Desk::new(HubConfig::default());
    desk.user("anna", 1);
    let news = desk.app("news");
    desk.stuck = true;
    for _ in 0..20 {
        desk.hub.take(desk.now, &news, message("1", to(&["anna"]), "x"));
    }
    desk.stuck = false;
    desk.settle();
    let with = |code: u16| desk.answers.iter().filter(|(_, given, _)| *given == code).count();
    assert_eq!((with(200), with(429)), (16, 4));
}
