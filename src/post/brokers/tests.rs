use super::*;
use crate::{
    post::hub::{HubConfig, HubOutput, Open},
    rng::Seeded,
    store::{Memory, Store},
    wire::{app::Address, post::Sequence},
};

const LEFT: KeyId = KeyId([1; 32]);
const RIGHT: KeyId = KeyId([2; 32]);

struct Desk {
    hub: Hub,
    brokers: Brokers,
    store: Memory,
    now: Time,
    lines: BTreeMap<Conn, Line>,
    told: Vec<(Conn, Message)>,
    closed: Vec<Conn>,
    others: Vec<BrokersOutput>,
}

impl Desk {
    fn new(config: BrokersConfig) -> Desk {
        let store = Memory::default();
        let open = Open { now: Time::ZERO, unix: 1_700_000_000, rng: Box::new(Seeded::new(1)) };
        let hub = Hub::open(HubConfig::default(), open, &store).unwrap();
        let brokers = Brokers::new(BrokersConfig { keys: vec![LEFT, RIGHT], announce: true, ..config });
        let now = Time::ZERO;
        let (lines, told, closed, others) = (BTreeMap::new(), vec![], vec![], vec![]);
        Desk { hub, brokers, store, now, lines, told, closed, others }
    }

    /// A user with as many devices: their inboxes.
    fn user(&mut self, name: &str, devices: u8) -> (Vec<u32>, Vec<SessionId>) {
        self.hub.add_user(name).unwrap();
        let first = (1..).find(|inbox| !self.hub.is_inbox(Inbox(*inbox))).unwrap();
        let sessions = (0..devices).map(|device| {
            let session = self.hub.add_device(name, [device; 16], 0).unwrap().session;
            self.settle();
            session
        });
        let sessions = sessions.collect();
        ((first..first + u32::from(devices)).collect(), sessions)
    }

    fn connect(&mut self, conn: u32, key: KeyId) -> Conn {
        let conn = Conn(conn);
        self.lines.insert(conn, Line::new(self.now));
        self.brokers.accepted(self.now, conn, Some(key));
        self.settle();
        conn
    }

    fn register(&mut self, conn: u32, key: KeyId, epoch: u64) -> Conn {
        let conn = self.connect(conn, key);
        self.say(conn, &Message::Register { name: format!("{key:?}"), epoch, most: 9 });
        conn
    }

    fn say(&mut self, conn: Conn, message: &Message) {
        self.say_with(conn, message, 0);
    }

    fn say_with(&mut self, conn: Conn, message: &Message, correlation: u64) {
        self.lines.get_mut(&conn).expect("it is connected").send(message, correlation);
        self.settle();
    }

    fn online(&mut self, conn: Conn, inbox: u32, seat: u32) {
        self.say(conn, &Message::Online { sitting: sitting(inbox, seat, 0), resumed: false });
    }

    fn digest(&mut self, conn: Conn, sitting: Vec<Sitting>) {
        self.say(conn, &Message::Digest { sitting, last: true });
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.brokers.handle_deadline(self.now, &mut self.hub);
        self.settle();
    }

    fn lose(&mut self, conn: Conn) {
        self.lines.remove(&conn);
        self.brokers.closed(self.now, conn);
        self.settle();
    }

    fn is_online(&self, inbox: u32) -> bool {
        self.hub.seat(Inbox(inbox)).is_some()
    }

    fn told(&mut self, conn: Conn) -> Vec<Message> {
        let (told, others) = std::mem::take(&mut self.told).into_iter().partition(|(to, _)| *to == conn);
        self.told = others;
        told.into_iter().map(|(_, message): (Conn, Message)| message).collect()
    }

    /// What was said to devices at a broker.
    fn frames(&mut self, conn: Conn) -> Vec<(u32, Frame)> {
        let down = |message| match message {
            Message::Down { inbox, octets, .. } => Some((inbox, Frame::decode(&octets).unwrap())),
            _ => None,
        };
        self.told(conn).into_iter().filter_map(down).collect()
    }

    fn settle(&mut self) {
        let tickets = TicketRoot { day: 1, key: [4; 32] };
        let secrets = ServerSecrets { private: [1; 32], next_private: None, reset: [3; 32], tickets };
        loop {
            if let Some(output) = self.hub.poll_output(self.now) {
                match output {
                    HubOutput::Store(batch) => self.store.submit(batch),
                    HubOutput::Fetch(fetch) => self.store.ask(fetch),
                    HubOutput::Send { seat, inbox, frame } if seat.broker != HERE => {
                        self.brokers.frame(self.now, seat, inbox, &frame, &mut self.hub);
                    }
                    HubOutput::Authenticated { ticket, credential } => {
                        assert!(self.brokers.authenticated(ticket, credential.as_ref()));
                    }
                    HubOutput::Revoked { inbox, epoch, .. } => self.brokers.revoked(inbox, epoch),
                    _ => {}
                }
            } else if let Some(fetched) = self.store.answer() {
                self.hub.fetched(self.now, fetched);
            } else if self.store.is_dirty() {
                let through = self.store.commit().unwrap();
                self.hub.stored(self.now, through);
            } else if let Some(output) = self.brokers.poll_output(self.now) {
                match output {
                    BrokersOutput::Send(conn, octets) => {
                        let Some(line) = self.lines.get_mut(&conn) else { continue };
                        let mut octets = &octets[..];
                        while let Some(message) = line.next(self.now, &mut octets) {
                            self.told.push((conn, message.expect("a hub says what can be read").1));
                        }
                    }
                    BrokersOutput::Close(conn) => {
                        self.lines.remove(&conn);
                        self.closed.push(conn);
                    }
                    other => self.others.push(other),
                }
            } else {
                let mut lines = self.lines.iter_mut();
                let said = lines.find_map(|(conn, line)| Some((*conn, line.poll(self.now)?)));
                let Some((conn, octets)) = said else { return };
                let secrets = || secrets.clone();
                self.brokers.received(self.now, conn, &octets, &mut self.hub, &secrets);
            }
        }
    }
}

fn sitting(inbox: u32, seat: u32, since: u32) -> Sitting {
    Sitting { inbox, seat, since: 1_700_000_000 + since }
}

fn put(number: u64, to: &str) -> Vec<u8> {
    Frame::Put(crate::wire::post::Put {
        number,
        to: crate::wire::app::To::Named(vec![Address::User(to.into())]),
        kind: crate::wire::app::Kind::One,
        store: true,
        ttl: 60,
        content_type: "text/plain".into(),
        body: b"hello".to_vec(),
    })
    .encode()
}

#[test]
fn a_listed_broker_is_given_the_office_s_secrets_and_its_lookups_are_answered() {
    let mut desk = Desk::new(BrokersConfig::default());
    let (inboxes, sessions) = desk.user("anna", 2);
    desk.hub.revoke_device(sessions[1]);
    desk.settle();
    let left = desk.register(1, LEFT, 1);
    let told = desk.told(left);
    assert_eq!(told[0], Message::Revoked(vec![(inboxes[1], u32::MAX)]));
    let Message::Registered(registered) = &told[1] else { panic!("{told:?}") };
    assert_eq!((registered.private, registered.reset, registered.unix), ([1; 32], [3; 32], 1_700_000_000));
    desk.say_with(left, &Message::Lookup { session_id: sessions[0].0 }, 77);
    desk.say_with(left, &Message::Lookup { session_id: [9; 16] }, 78);
    let told = desk.told(left);
    assert!(matches!(&told[0], Message::Found(Some(found)) if found.inbox == inboxes[0]));
    assert_eq!(told[1], Message::Found(None));
    desk.hub.revoke_device(sessions[0]);
    desk.settle();
    assert_eq!(desk.told(left), [Message::Revoked(vec![(inboxes[0], u32::MAX)])]);
    desk.brokers.ticket_root(&TicketRoot { day: 2, key: [5; 32] });
    desk.settle();
    assert_eq!(desk.told(left), [Message::TicketRoot { day: 2, key: Secret([5; 32]) }]);
}

#[test]
fn a_message_goes_from_a_device_at_one_broker_to_a_device_at_another() {
    let mut desk = Desk::new(BrokersConfig::default());
    let (anna, ben) = (desk.user("anna", 1).0[0], desk.user("ben", 1).0[0]);
    let (left, right) = (desk.register(1, LEFT, 1), desk.register(2, RIGHT, 1));
    desk.online(left, anna, 1);
    desk.online(right, ben, 1);
    assert_eq!(desk.others.len(), 4, "two brokers and two devices: {:?}", desk.others);
    desk.say(left, &Message::Up { inbox: anna, seat: 1, octets: put(1, "ben") });
    assert!(desk.frames(left).iter().any(|(to, frame)| {
        *to == anna && matches!(frame, Frame::PutAnswer { number: 1, code: 200, .. })
    }));
    let frames = desk.frames(right);
    let Some((_, Frame::Deliver(delivery))) = frames.last() else { panic!("{frames:?}") };
    assert_eq!((&delivery.body[..], delivery.redelivered), (&b"hello"[..], false));
    let octets = Frame::Confirm(vec![delivery.sequence]).encode();
    desk.say(right, &Message::Up { inbox: ben, seat: 1, octets });
    assert_eq!(desk.hub.waiting_count(), 0);
    let info = desk.brokers.list(&desk.hub);
    assert_eq!(info.iter().map(|one| (one.is_up, one.sessions)).collect::<Vec<_>>(), [(true, 1); 2]);
}

#[test]
fn a_broker_that_is_back_tells_who_is_there_and_they_are_handed_again_what_they_did_not_confirm() {
    let mut desk = Desk::new(BrokersConfig::default());
    let inboxes = desk.user("anna", 2).0;
    let left = desk.register(1, LEFT, 1);
    desk.digest(left, vec![]);
    inboxes.iter().for_each(|inbox| desk.online(left, *inbox, *inbox));
    desk.say(left, &Message::Up { inbox: inboxes[0], seat: inboxes[0], octets: put(1, "anna") });
    let deliveries = |desk: &mut Desk, conn| {
        let frames = desk.frames(conn);
        frames.iter().filter(|(_, frame)| matches!(frame, Frame::Deliver(_))).count()
    };
    assert_eq!(deliveries(&mut desk, left), 2);
    desk.lose(left);
    desk.pass(4);
    assert!(desk.is_online(inboxes[0]) && desk.is_online(inboxes[1]), "it may come back");
    let left = desk.register(2, LEFT, 1);
    desk.digest(left, vec![sitting(inboxes[0], inboxes[0], 0)]);
    assert!(desk.is_online(inboxes[0]) && !desk.is_online(inboxes[1]));
    assert_eq!((deliveries(&mut desk, left), desk.brokers.counters().swept), (1, 1));
    desk.pass(4);
    assert!(desk.is_online(inboxes[0]), "what was to end its grace does not any more");
}

#[test]
fn who_sat_at_a_broker_that_does_not_come_back_or_begins_anew_is_offline() {
    let mut desk = Desk::new(BrokersConfig::default());
    let inboxes = desk.user("anna", 2).0;
    let left = desk.register(1, LEFT, 1);
    desk.online(left, inboxes[0], 1);
    desk.lose(left);
    desk.pass(4);
    assert!(desk.is_online(inboxes[0]));
    desk.pass(1);
    assert!(!desk.is_online(inboxes[0]));
    let left = desk.register(2, LEFT, 1);
    desk.online(left, inboxes[1], 1);
    desk.lose(left);
    desk.register(3, LEFT, 2);
    assert!(!desk.is_online(inboxes[1]), "another epoch, so at once");
}

#[test]
fn a_newer_session_elsewhere_ends_the_older_and_a_late_digest_does_not() {
    let mut desk = Desk::new(BrokersConfig::default());
    let anna = desk.user("anna", 1).0[0];
    let (left, right) = (desk.register(1, LEFT, 1), desk.register(2, RIGHT, 1));
    desk.hub.online(desk.now, Inbox(anna), Seat::here(5));
    desk.online(left, anna, 1);
    assert!(desk.others.contains(&BrokersOutput::EvictHere(Inbox(anna), Seat::here(5))));
    desk.pass(10);
    desk.say(right, &Message::Online { sitting: sitting(anna, 2, 10), resumed: true });
    let evicted = |seat| Message::Evict { inbox: anna, seat, why: 2 };
    assert!(desk.told(left).contains(&evicted(1)));
    assert_eq!(desk.hub.seat(Inbox(anna)), Some(Seat { broker: 2, place: 2 }));
    desk.digest(left, vec![sitting(anna, 1, 0)]);
    assert!(desk.told(left).contains(&evicted(1)));
    assert_eq!(desk.hub.seat(Inbox(anna)), Some(Seat { broker: 2, place: 2 }));
    assert_eq!(desk.brokers.counters().outdated, 1);
    // One that is newer than what the hub knows is right.
    desk.pass(10);
    desk.digest(left, vec![sitting(anna, 3, 20)]);
    assert!(desk.told(right).contains(&evicted(2)));
}

#[test]
fn who_is_not_listed_comes_twice_or_says_nothing_is_sent_away() {
    let mut desk = Desk::new(BrokersConfig { max_connections: 2, ..BrokersConfig::default() });
    let stranger = desk.connect(1, KeyId([9; 32]));
    assert!(matches!(desk.told(stranger)[..], [Message::Refused { code: 401, .. }]));
    desk.brokers.accepted(desk.now, Conn(2), None);
    assert_eq!(desk.brokers.counters().unlisted, 2);
    let first = desk.register(3, LEFT, 1);
    let second = desk.register(4, LEFT, 1);
    assert!(matches!(desk.told(first)[..], [Message::Registered(_), Message::Refused { code: 409, .. }]));
    assert!(matches!(desk.told(second)[..], [Message::Registered(_)]));
    desk.connect(5, RIGHT);
    let many = desk.connect(6, RIGHT);
    assert!(matches!(desk.told(many)[..], [Message::Refused { code: 507, .. }]));
    desk.now += Duration::from_secs(15);
    desk.brokers.handle_deadline(desk.now, &mut desk.hub);
    desk.lines.clear();
    desk.settle();
    assert!(desk.closed.contains(&Conn(5)) && desk.closed.contains(&second));
    assert_eq!(desk.brokers.counters().silent, 2);
}

#[test]
fn what_a_broker_cannot_say_is_counted_or_ends_its_connection() {
    let mut desk = Desk::new(BrokersConfig { max_lookups: 0, ..BrokersConfig::default() });
    let anna = desk.user("anna", 1).0[0];
    let left = desk.connect(1, LEFT);
    desk.online(left, anna, 1);
    assert_eq!(desk.brokers.counters().unexpected, 1, "before it registered");
    let left = desk.register(2, LEFT, 1);
    desk.say(left, &Message::Found(None));
    desk.online(left, u32::MAX, 1);
    desk.digest(left, vec![sitting(u32::MAX, 1, 0)]);
    desk.say(left, &Message::Up { inbox: anna, seat: 1, octets: vec![] });
    desk.online(left, anna, 1);
    desk.say(left, &Message::Up { inbox: anna, seat: 1, octets: vec![] });
    desk.say(left, &Message::Lookup { session_id: [1; 16] });
    desk.say(left, &Message::Failed { inbox: anna, seat: 1 });
    let counters = *desk.brokers.counters();
    assert_eq!((counters.unexpected, counters.strays, counters.bad_frames), (2, 3, 1));
    assert_eq!((counters.lookups_full, counters.failed, desk.is_online(anna)), (1, 1, false));
    let tickets = TicketRoot { day: 1, key: [4; 32] };
    let secrets = || ServerSecrets { private: [1; 32], next_private: None, reset: [3; 32], tickets };
    desk.brokers.received(desk.now, left, &[0; 8], &mut desk.hub, &secrets);
    desk.settle();
    assert_eq!((desk.brokers.counters().broken, desk.closed.last()), (1, Some(&left)));
}

#[test]
fn a_broker_that_takes_nothing_loses_those_for_whom_there_is_no_room_and_nothing_of_theirs() {
    let mut desk = Desk::new(BrokersConfig::default());
    let anna = desk.user("anna", 1).0[0];
    let left = desk.register(1, LEFT, 1);
    desk.online(left, anna, 1);
    let delivery = crate::wire::post::Delivery {
        sequence: Sequence(1),
        redelivered: false,
        from: Address::User("ben".into()),
        sent: 0,
        content_type: "text/plain".into(),
        body: vec![0; 60_000],
    };
    let (seat, frame) = (Seat { broker: 1, place: 1 }, Frame::Deliver(delivery));
    let mut said = 0;
    while desk.is_online(anna) {
        desk.brokers.frame(desk.now, seat, Inbox(anna), &frame, &mut desk.hub);
        said += 1;
        assert!(said < 1000, "it has a bound");
    }
    assert_eq!((desk.brokers.counters().full, desk.brokers.counters().evicted), (1, 1));
    desk.lose(left);
    desk.brokers.frame(desk.now, seat, Inbox(anna), &frame, &mut desk.hub);
    assert_eq!(desk.brokers.counters().unsent, 1);
}

#[test]
fn lookups_that_nobody_answers_do_not_keep_a_broker_from_asking_others() {
    let mut desk = Desk::new(BrokersConfig { max_lookups: 3, ..BrokersConfig::default() });
    let open = Open { now: Time::ZERO, unix: 1_700_000_000, rng: Box::new(Seeded::new(1)) };
    // Whose credentials others keep, who may not answer.
    let asking = HubConfig { asks: true, ..HubConfig::default() };
    desk.hub = Hub::open(asking, open, &desk.store).unwrap();
    let sessions = desk.user("anna", 1).1;
    let left = desk.register(1, LEFT, 1);
    (0..5).for_each(|id| desk.say(left, &Message::Lookup { session_id: [id; 16] }));
    assert_eq!(desk.brokers.counters().lookups_full, 2);
    desk.pass(10);
    desk.told(left);
    desk.say(left, &Message::Lookup { session_id: sessions[0].0 });
    assert!(matches!(desk.told(left)[..], [Message::Found(Some(_))]));
    assert_eq!((desk.brokers.counters().lookups_expired, desk.brokers.lookups.len()), (3, 0));
}

#[test]
fn one_broker_s_connections_take_no_other_s_room() {
    let mut desk = Desk::new(BrokersConfig { max_connections: 8, ..BrokersConfig::default() });
    for conn in 1..=20 {
        desk.connect(conn, LEFT);
    }
    assert_eq!(desk.brokers.counters().connections_full, 16);
    let right = desk.register(30, RIGHT, 1);
    assert!(matches!(desk.told(right)[..], [Message::Registered(_)]));
    // Beats alone keep none of them, only who registers stays.
    for _ in 0..2 {
        desk.pass(5);
    }
    assert_eq!(desk.brokers.counters().impatient, 4);
    assert!(desk.brokers.has(right) && desk.brokers.links.len() == 1);
}

#[test]
fn who_means_a_balancer_is_told_that_this_is_none() {
    let mut desk = Desk::new(BrokersConfig::default());
    let left = desk.connect(1, LEFT);
    let (name, address) = ("left".to_owned(), "192.0.2.1:7700".to_owned());
    desk.say(left, &Message::Enlist { name, epoch: 1, address, link_key: [1; 32], most: 1 });
    assert!(
        matches!(&desk.told(left)[..], [Message::Refused { code: 421, text }] if text.contains("balancer"))
    );
    assert_eq!((desk.closed.last(), desk.brokers.counters().misdirected), (Some(&left), 1));
}
