use super::*;
use crate::{
    rng::Seeded,
    wire::app::{Address, Kind, To, answer, deliver, whereabouts},
};

/// An application's side, whose office is the test.
struct Side {
    app: App,
    now: Time,
    conn: Option<Conn>,
    said: String,
    events: Vec<AppEvent>,
    closed: usize,
}

fn open(rng: u64) -> Open {
    Open { now: Time::ZERO, name: "news".into(), secret: "s3cret".into(), rng: Box::new(Seeded::new(rng)) }
}

impl Side {
    fn new(config: AppConfig) -> Side {
        let app = App::new(config, open(1)).unwrap();
        Side { app, now: Time::ZERO, conn: None, said: String::new(), events: Vec::new(), closed: 0 }
    }

    fn up(config: AppConfig) -> Side {
        let mut side = Side::new(config);
        side.login();
        assert_eq!(side.events(), [AppEvent::Up]);
        side
    }

    fn login(&mut self) {
        self.due();
        self.app.connected(self.now, self.conn.expect("it connects"));
        assert_eq!(self.said(), "AUTH news s3cret\r\n");
        self.hear(&answer(200, &[]));
    }

    fn break_off(&mut self) {
        let conn = self.conn.take().expect("there is one");
        self.app.closed(self.now, conn, None);
        assert!(matches!(self.events()[..], [AppEvent::Down(_)]));
    }

    /// Its deadline comes.
    fn due(&mut self) {
        self.now = self.now.max(self.app.deadline().expect("something is due"));
        self.app.handle_deadline(self.now);
        self.settle();
    }

    fn hear(&mut self, octets: &[u8]) {
        if let Some(conn) = self.conn {
            self.app.received(self.now, conn, octets);
        }
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(output) = self.app.poll_output() {
            match output {
                AppOutput::Connect { conn } => self.conn = Some(conn),
                AppOutput::Send { octets, .. } => self.said.push_str(std::str::from_utf8(&octets).unwrap()),
                AppOutput::Close { .. } => {
                    self.closed += 1;
                    self.conn = None;
                }
                AppOutput::Event(event) => self.events.push(event),
            }
        }
    }

    fn said(&mut self) -> String {
        self.settle();
        std::mem::take(&mut self.said)
    }

    fn events(&mut self) -> Vec<AppEvent> {
        self.settle();
        std::mem::take(&mut self.events)
    }

    fn send(&mut self, id: &str) -> Result<String, Fault> {
        self.app.send(to_anna(id))
    }
}

fn to_anna(id: &str) -> Message {
    let to = To::Named(vec![Address::User("anna".into())]);
    Message { id: id.into(), ..Message::new(to, b"hello".to_vec()) }
}

fn text(id: &str) -> String {
    String::from_utf8(app::send(&to_anna(id))).unwrap()
}

fn answered(id: &str, verb: Verb, code: u16, state: Option<State>) -> AppEvent {
    let reason = if code == 200 { "OK" } else { "Conflict" };
    AppEvent::Answered { id: id.into(), verb, code, state, reason: reason.into() }
}

fn message(sequence: u64) -> Delivery {
    Delivery {
        sequence: Sequence(sequence),
        redelivered: false,
        from: Address::User("anna".into()),
        sent: 5,
        content_type: "text/plain".into(),
        body: b"hi".to_vec(),
    }
}

#[test]
fn a_message_is_said_until_it_is_answered_and_answered_once() {
    let mut side = Side::new(AppConfig::default());
    assert_eq!(side.send("17").unwrap(), "17", "before there is a connection");
    side.login();
    assert_eq!(side.events(), [AppEvent::Up]);
    assert_eq!(side.said(), text("17"));
    assert_eq!(side.send("18").unwrap(), "18");
    assert_eq!(side.said(), text("18"));
    side.hear(&answer(200, &[("Id", "18"), ("State", "queued")]));
    assert_eq!(side.events(), [answered("18", Verb::Send, 200, Some(State::Queued))]);
    side.break_off();
    assert_eq!(side.app.pending(), 1);
    side.login();
    assert_eq!(side.said(), text("17"), "only what is not answered");
    let said = answer(200, &[("Id", "17"), ("State", "stored")]);
    side.hear(&[said.clone(), said].concat());
    assert_eq!(side.events(), [AppEvent::Up, answered("17", Verb::Send, 200, Some(State::Stored))]);
    let counters = side.app.counters();
    assert_eq!((counters.said, counters.said_again, counters.unexpected), (3, 1, 1));
    assert_eq!((side.app.pending(), side.app.octets), (0, 0));
}

#[test]
fn ids_that_are_made_are_of_this_life() {
    let mut side = Side::new(AppConfig::default());
    let (one, two) = (side.send("").unwrap(), side.send("").unwrap());
    assert_ne!(one, two);
    assert_eq!(one.split_once('-').unwrap().0, two.split_once('-').unwrap().0);
    let mut other = App::new(AppConfig::default(), open(2)).unwrap();
    assert_ne!(other.send(to_anna("")).unwrap(), one);
}

#[test]
fn what_cannot_be_is_refused_here() {
    let mut side = Side::up(AppConfig::default());
    let status = |result: Result<String, Fault>| result.unwrap_err().status;
    assert_eq!(status(side.send("a b")), Status::Invalid);
    let broadcast = Message { kind: Kind::Broadcast, ..to_anna("1") };
    assert_eq!(status(side.app.send(broadcast)), Status::Invalid);
    assert_eq!(status(side.app.query(&[])), Status::Invalid);
    assert_eq!(status(side.app.query(&["a b".into()])), Status::Invalid);
    assert_eq!(side.app.cancel("").unwrap_err().status, Status::Invalid);
    assert_eq!(side.app.confirm(Sequence(1)).unwrap_err().status, Status::NotFound);
    side.send("1").unwrap();
    assert_eq!(status(side.send("1")), Status::State, "until it is answered");
    assert_eq!(side.said(), text("1"));
    for (name, secret) in [("a b", "x"), ("", "x"), ("news", ""), ("news", "x\r\nPING HP/1"), ("news", "x y")]
    {
        let open = Open { name: name.into(), secret: secret.into(), ..open(1) };
        assert_eq!(App::new(AppConfig::default(), open).err().unwrap().status, Status::Config);
    }
}

/// An answer names an id and nothing else, so of one id one thing is under way.
#[test]
fn requests_of_one_id_wait_for_each_other() {
    let mut side = Side::up(AppConfig::default());
    side.hear(&deliver(&message(17)));
    assert_eq!(side.events(), [AppEvent::Message(message(17))]);
    side.send("17").unwrap();
    side.app.cancel("17").unwrap();
    assert_eq!(side.app.cancel("17").unwrap_err().status, Status::State);
    side.app.confirm(Sequence(17)).unwrap();
    assert_eq!(side.said(), text("17"));
    side.hear(&answer(200, &[("Id", "17"), ("State", "queued")]));
    assert_eq!(side.events(), [answered("17", Verb::Send, 200, Some(State::Queued))]);
    assert_eq!(side.said(), "CONFIRM HP/1\r\nId 17\r\n\r\n");
    side.hear(&answer(200, &[("Id", "17")]));
    assert_eq!(side.said(), "CANCEL HP/1\r\nId 17\r\n\r\n");
    side.hear(&answer(409, &[("Id", "17")]));
    assert_eq!(side.events(), [answered("17", Verb::Cancel, 409, None)]);
    assert_eq!(side.app.pending(), 0);
}

#[test]
fn where_users_are_is_told_one_by_one() {
    let mut side = Side::up(AppConfig::default());
    let id = side.app.query(&["anna".into(), "ben".into()]).unwrap();
    assert_eq!(side.said(), format!("QUERY HP/1\r\nId {id}\r\nTo user:anna,user:ben\r\n\r\n"));
    let anna = Presence { user: "anna".into(), online: true, since: 7 };
    let ben = Presence { user: "ben".into(), online: false, since: 0 };
    let lines = [whereabouts(&anna), whereabouts(&ben)];
    side.hear(&answer(200, &[("Id", &id), ("Presence", &lines[0]), ("Presence", &lines[1])]));
    let there = |presence| AppEvent::Presence { id: id.clone(), presence };
    assert_eq!(side.events(), [there(anna), there(ben), answered(&id, Verb::Query, 200, None)]);
}

#[test]
fn a_message_is_shown_once_in_a_life_and_confirmed_until_the_office_has_heard() {
    let mut side = Side::up(AppConfig::default());
    side.hear(&[deliver(&message(1)), deliver(&message(2)), deliver(&message(3))].concat());
    assert_eq!(side.events(), [1, 2, 3].map(|number| AppEvent::Message(message(number))));
    assert_eq!(side.said(), "", "confirmed when it is dealt with, not when it comes");
    side.app.confirm(Sequence(1)).unwrap();
    side.app.confirm(Sequence(2)).unwrap();
    assert_eq!(side.app.confirm(Sequence(2)).unwrap_err().status, Status::NotFound);
    let (one, two) = (app::confirm(1), app::confirm(2));
    let text = |octets: &[&[u8]]| String::from_utf8(octets.concat()).unwrap();
    assert_eq!(side.said(), text(&[&one, &two]));
    side.hear(&answer(200, &[("Id", "1")]));
    side.break_off();
    side.login();
    assert_eq!(side.said(), text(&[&two]), "what the office may not have heard");
    // It had handed over before it heard; and it lost what it had heard of the first.
    side.hear(&[1, 2, 3, 4].map(|number| deliver(&message(number))).concat());
    assert_eq!(side.events(), [AppEvent::Up, AppEvent::Message(message(4))]);
    assert_eq!(side.said(), text(&[&one]));
    side.hear(&[answer(200, &[("Id", "1")]), answer(200, &[("Id", "2")])].concat());
    assert_eq!(side.app.pending(), 0);
    let counters = side.app.counters();
    assert_eq!((counters.shown, counters.again, counters.confirmed, counters.confirmed_again), (4, 3, 2, 2));
}

#[test]
fn a_silent_office_is_asked_and_given_up() {
    let config = AppConfig::default();
    let mut side = Side::up(config);
    side.due();
    assert_eq!((side.now.since(Time::ZERO), &*side.said()), (config.keepalive, "PING HP/1\r\n\r\n"));
    side.hear(&answer(200, &[]));
    side.due();
    assert_eq!((side.now.since(Time::ZERO), &*side.said()), (config.keepalive * 2, "PING HP/1\r\n\r\n"));
    side.due();
    assert_eq!(side.now.since(Time::ZERO), config.keepalive * 2 + config.timeout);
    assert!(matches!(&side.events()[..], [AppEvent::Down(fault)] if fault.status == Status::Timeout));
    assert_eq!((side.closed, side.app.counters().pings), (1, 2));
    // The same of a connection that is not made, and of a login that is not answered.
    side.due();
    assert!(side.conn.is_some());
    side.due();
    assert!(matches!(&side.events()[..], [AppEvent::Down(fault)] if fault.status == Status::Timeout));
    side.due();
    side.app.connected(side.now, side.conn.unwrap());
    side.due();
    assert!(matches!(&side.events()[..], [AppEvent::Down(fault)] if fault.status == Status::Timeout));
    assert_eq!(side.closed, 3);
}

#[test]
fn pauses_grow_and_end_when_the_network_changes() {
    let config = AppConfig::default();
    let mut side = Side::new(config);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        side.due();
        side.break_off();
        pauses.push(side.app.deadline().unwrap().since(side.now));
    }
    for (failures, pause) in pauses.iter().enumerate() {
        let longest = (config.backoff * (1 << failures)).min(config.backoff_max);
        assert!(*pause > longest * 3 / 4 - Duration::from_millis(1) && *pause <= longest, "{pauses:?}");
    }
    side.app.network_changed(side.now);
    assert_eq!(side.app.deadline(), Some(side.now));
    side.login();
    side.app.network_changed(side.now);
    side.due();
    assert_eq!(side.said(), "PING HP/1\r\n\r\n");
    side.app.network_changed(side.now);
    assert_eq!(side.app.deadline(), Some(side.now + config.timeout), "asked once");
}

#[test]
fn a_refused_login_is_told_and_tried_late() {
    let mut side = Side::new(AppConfig::default());
    side.send("1").unwrap();
    side.due();
    side.app.connected(side.now, side.conn.unwrap());
    side.said();
    side.hear(&answer(401, &[("Reason", "no such application")]));
    assert_eq!(side.events(), [AppEvent::Refused { reason: "no such application".into() }]);
    assert_eq!(side.app.deadline(), Some(side.now + AppConfig::default().refused_retry));
    assert_eq!((side.closed, side.said().as_str()), (1, ""));
    side.login();
    assert_eq!(side.said(), text("1"));
    // Too many connections is no judgement of the secret.
    side.events();
    side.break_off();
    side.due();
    side.app.connected(side.now, side.conn.unwrap());
    side.hear(&answer(429, &[("Reason", "too many connections")]));
    assert!(matches!(&side.events()[..], [AppEvent::Down(fault)] if fault.status == Status::Refused));
}

#[test]
fn an_office_that_cannot_be_read_is_left() {
    for noise in [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &answer(400, &[("Reason", "what?")])] {
        let mut side = Side::up(AppConfig::default());
        side.send("1").unwrap();
        side.hear(noise);
        assert!(matches!(&side.events()[..], [AppEvent::Down(_)]));
        assert_eq!(side.closed, 1);
        side.said();
        side.login();
        assert_eq!(side.said(), text("1"));
    }
    let mut side = Side::new(AppConfig::default());
    side.due();
    side.app.connected(side.now, side.conn.unwrap());
    side.hear(&deliver(&message(1)));
    assert!(matches!(&side.events()[..], [AppEvent::Down(fault)] if fault.status == Status::Malformed));
}

#[test]
fn closed_it_stays_away() {
    let mut side = Side::up(AppConfig::default());
    side.send("1").unwrap();
    side.app.close();
    assert_eq!((side.said().as_str(), side.closed), (text("1").as_str(), 1));
    assert_eq!(side.app.deadline(), None);
    assert_eq!(side.send("2").unwrap_err().status, Status::State);
    side.app.network_changed(side.now);
    assert_eq!(side.app.deadline(), None);
    let mut side = Side::new(AppConfig::default());
    side.due();
    side.app.close();
    side.settle();
    assert_eq!((side.closed, side.app.deadline()), (1, None), "while it was being made");
}

#[test]
fn every_bound_is_reached() {
    let full = |side: &mut Side, id: &str| side.send(id).unwrap_err().status == Status::Full;
    let taken = |id: &str| answer(200, &[("Id", id), ("State", "queued")]);

    let mut side = Side::up(AppConfig { max_pending: 3, window: 2, ..AppConfig::default() });
    (1..=3).for_each(|id| drop(side.send(&id.to_string()).unwrap()));
    assert!(full(&mut side, "4"));
    assert_eq!(side.app.query(&["anna".into()]).unwrap_err().status, Status::Full);
    assert_eq!(side.said(), text("1") + &text("2"), "the window");
    side.hear(&taken("2"));
    let writable = [answered("2", Verb::Send, 200, Some(State::Queued)), AppEvent::Writable];
    assert_eq!(side.events(), writable);
    assert_eq!(side.said(), text("3"));
    side.hear(&taken("1"));
    assert_eq!(side.events().len(), 1, "writable is told to who was told that it is full");
    assert_eq!(side.app.counters().full, 2);

    let size = text("1").len();
    let mut side =
        Side::up(AppConfig { max_octets: 3 * size, window_octets: size + 1, ..AppConfig::default() });
    (1..=3).for_each(|id| drop(side.send(&id.to_string()).unwrap()));
    assert!(full(&mut side, "4"));
    assert_eq!(side.said(), text("1") + &text("2"), "the window's octets");

    let mut side = Side::up(AppConfig { max_open: 2, ..AppConfig::default() });
    side.hear(&[1, 2, 3, 1].map(|number| deliver(&message(number))).concat());
    assert_eq!(side.events().len(), 4);
    assert_eq!((side.app.open.len(), side.app.counters().forgotten), (2, 2));

    // An office that hands over and never hears.
    let mut side = Side::up(AppConfig { window: 10, ..AppConfig::default() });
    for number in 0..2 * REMEMBERED as u64 {
        side.hear(&deliver(&message(number)));
        side.app.confirm(Sequence(number)).unwrap();
    }
    assert_eq!(side.said().matches("CONFIRM").count(), 10);
    let held = [side.app.confirmed.len(), side.app.confirming.len()];
    assert_eq!(held, [REMEMBERED; 2]);
    assert!(side.app.unsaid.len() <= REMEMBERED);
}

/// What an office may say at any time ends in order or in a fault, and leaves nothing behind.
#[test]
fn an_office_that_says_anything_at_all_breaks_nothing() {
    let mut rng = Seeded::new(9);
    let mut side = Side::new(AppConfig { max_pending: 50, max_open: 20, window: 8, ..AppConfig::default() });
    for _ in 0..20_000 {
        let number = u64::from(rng.below(12));
        let id = number.to_string();
        match rng.below(12) {
            0 => drop(side.send(&id)),
            1 => drop(side.app.cancel(&id)),
            2 => drop(side.app.query(&["anna".into()])),
            3 => drop(side.app.confirm(Sequence(number))),
            4 => side.hear(&deliver(&message(number))),
            5 => side.hear(&answer([200, 404, 429, 507][rng.below(4) as usize], &[("Id", &id)])),
            6 => side.hear(&answer([200, 200, 200, 401][rng.below(4) as usize], &[])),
            7 if rng.below(8) == 0 => side.hear(b"nonsense\r\n\r\n"),
            8 => drop(side.conn.map(|conn| side.app.connected(side.now, conn))),
            9 if rng.below(4) == 0 => drop(side.conn.map(|conn| side.app.closed(side.now, conn, None))),
            10 => side.app.network_changed(side.now),
            _ => side.due(),
        }
        side.settle();
        let app = &side.app;
        let octets: usize = app.asked.values().map(|asked| asked.octets.len()).sum();
        assert_eq!(app.octets, octets);
        assert_eq!(app.named.len() + app.cancelled.len(), app.asked.len());
        assert!(app.asked.len() <= 50 && app.open.len() <= 20 && app.unsaid.is_subset(&app.confirming));
    }
    assert!(side.app.counters().logins > 100, "{:?}", side.app.counters());
}
