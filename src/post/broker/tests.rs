use super::*;
use crate::{rng::Seeded, wire::inner::Sitting};

const HUB: Conn = Conn(Conn::OURS);

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

struct Desk {
    broker: Broker,
    /// The hub's end of the connection.
    hub: Line,
    now: Time,
    /// What the hub was told, and what the node was.
    told: Vec<(u64, Message)>,
    outputs: Vec<BrokerOutput>,
}

impl Desk {
    fn new(config: BrokerConfig) -> Desk {
        let broker = Broker::new(config, at(0), Seeded::new(1));
        let mut desk = Desk { broker, hub: Line::new(at(0)), now: at(0), told: vec![], outputs: vec![] };
        desk.deadline();
        desk
    }

    fn deadline(&mut self) {
        self.broker.handle_deadline(self.now);
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            if let Some(output) = self.broker.poll_output(self.now) {
                match output {
                    BrokerOutput::Send(_, octets) => {
                        let mut octets = &octets[..];
                        while let Some(message) = self.hub.next(self.now, &mut octets) {
                            self.told.push(message.expect("a broker says what can be read"));
                        }
                    }
                    other => self.outputs.push(other),
                }
            } else if let Some(octets) = self.hub.poll(self.now)
                && let Some(conn) = self.broker.conn()
            {
                self.broker.received(self.now, conn, &octets);
            } else {
                return;
            }
        }
    }

    /// The connection is there, and the hub says yes.
    fn register(&mut self, private: u8) {
        let conn = self.broker.conn().expect("it connects");
        self.hub = Line::new(self.now);
        self.broker.connected(self.now, conn);
        self.settle();
        self.say(&Message::Registered(Box::new(Registered {
            broker: 1,
            private: [private; 32],
            next_private: None,
            reset: [2; 32],
            ticket_day: 1,
            ticket_key: [3; 32],
            unix: 1_700_000_000,
        })));
    }

    fn say(&mut self, message: &Message) {
        self.hub.send(message, 0);
        self.settle();
    }

    fn lose(&mut self) {
        let conn = self.broker.conn().expect("it is connected");
        self.broker.closed(self.now, conn, None);
        self.settle();
    }

    /// The hub is back after a while.
    fn come_back(&mut self, private: u8) {
        self.now += Duration::from_secs(2);
        self.deadline();
        self.told.clear();
        self.outputs.clear();
        self.register(private);
    }

    fn digest(&self) -> Vec<Sitting> {
        let digests = self.told.iter().filter_map(|(_, message)| match message {
            Message::Digest { sitting, .. } => Some(sitting.clone()),
            _ => None,
        });
        digests.flatten().collect()
    }

    fn evicted(&self) -> Vec<(Session, Inbox, Closing)> {
        let evicted = self.outputs.iter().filter_map(|output| match output {
            BrokerOutput::Evict(session, inbox, why) => Some((*session, *inbox, *why)),
            _ => None,
        });
        evicted.collect()
    }
}

const PUT: &[u8] = &[3, 1];
const CONFIRM: &[u8] = &[2];
const PUT_ANSWER: &[u8] = &[4];

#[test]
fn a_broker_registers_and_then_tells_who_comes_goes_and_speaks() {
    let mut desk = Desk::new(BrokerConfig::default());
    assert!(matches!(desk.outputs[..], [BrokerOutput::Connect(HUB)]));
    desk.register(1);
    assert!(matches!(&desk.told[0].1, Message::Register { name, .. } if name == "broker"));
    assert_eq!(desk.told[1].1, Message::Digest { sitting: vec![], last: true });
    assert!(matches!(&desk.outputs[1], BrokerOutput::Identity(_, true)));
    desk.now = at(9);
    let (session, inbox) = (Session(0x0100_0002), Inbox(7));
    desk.broker.up(desk.now, session, inbox, true);
    desk.broker.said(session, inbox, PUT.to_vec());
    desk.broker.gone(session, inbox, Why::Silent);
    desk.broker.gone(session, inbox, Why::Silent);
    desk.settle();
    let sitting = Sitting { inbox: 7, seat: 0x0100_0002, since: 1_700_000_009 };
    let expected = [
        Message::Online { sitting, resumed: true },
        Message::Up { inbox: 7, seat: 0x0100_0002, octets: PUT.to_vec() },
        Message::Offline { inbox: 7, seat: 0x0100_0002, why: 16 },
    ];
    assert_eq!(desk.told.drain(2..).map(|(_, message)| message).collect::<Vec<_>>(), expected);
}

#[test]
fn when_the_hub_is_back_it_is_told_who_is_there_and_who_was_not_answered_is_sent_away() {
    let mut desk = Desk::new(BrokerConfig::default());
    desk.register(1);
    for number in 1..=4 {
        desk.broker.up(desk.now, Session(number), Inbox(number), false);
    }
    desk.broker.said(Session(1), Inbox(1), PUT.to_vec());
    desk.broker.said(Session(2), Inbox(2), PUT.to_vec());
    desk.settle();
    desk.say(&Message::Down { inbox: 2, seat: 2, octets: PUT_ANSWER.to_vec() });
    desk.lose();
    desk.broker.said(Session(3), Inbox(3), PUT.to_vec());
    desk.broker.said(Session(4), Inbox(4), CONFIRM.to_vec());
    desk.come_back(1);
    assert_eq!(desk.broker.counters().unsaid, 2);
    let full = |number| (Session(number), Inbox(number), Closing::Full);
    assert_eq!(desk.evicted(), [full(1), full(3)]);
    let seats: Vec<u32> = desk.digest().iter().map(|sitting| sitting.seat).collect();
    assert_eq!(seats, [2, 4]);
    assert!(matches!(&desk.outputs[0], BrokerOutput::Identity(_, false)));
}

#[test]
fn sessions_with_another_office_are_not_told_to_this_one() {
    let mut desk = Desk::new(BrokerConfig::default());
    desk.register(1);
    desk.broker.up(desk.now, Session(1), Inbox(1), false);
    desk.lose();
    desk.come_back(2);
    assert!(matches!(&desk.outputs[0], BrokerOutput::Identity(_, true)));
    assert_eq!((desk.digest(), desk.broker.sitters.all().count()), (vec![], 0));
}

#[test]
fn a_digest_goes_in_portions() {
    let mut desk = Desk::new(BrokerConfig::default());
    desk.register(1);
    let count = MAX_SITTING as u32 * 2 + 1;
    (1..=count).for_each(|number| desk.broker.up(desk.now, Session(number), Inbox(number), true));
    desk.settle();
    desk.lose();
    desk.come_back(1);
    let lasts = desk.told.iter().filter_map(|(_, message)| match message {
        Message::Digest { last, .. } => Some(*last),
        _ => None,
    });
    assert_eq!(lasts.collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(desk.digest().len() as u32, count);
}

#[test]
fn what_is_for_who_is_gone_is_told_and_what_is_for_another_session_is_not_said() {
    let mut desk = Desk::new(BrokerConfig::default());
    desk.register(1);
    desk.broker.up(desk.now, Session(0x0200_0001), Inbox(1), false);
    for (inbox, seat) in [(1, 0x0100_0001), (2, 0x0200_0001), (1, 9_000_000), (1, 0x0200_0001)] {
        desk.say(&Message::Down { inbox, seat, octets: vec![1] });
    }
    let failed = desk.told.iter().filter(|(_, message)| matches!(message, Message::Failed { .. })).count();
    let said = desk.outputs.iter().filter(|output| matches!(output, BrokerOutput::Down(..))).count();
    assert_eq!((failed, said, desk.broker.counters().down_gone), (3, 1, 3));
    desk.say(&Message::Evict { inbox: 1, seat: 0x0100_0001, why: 2 });
    assert_eq!(desk.evicted(), []);
    desk.say(&Message::Evict { inbox: 1, seat: 0x0200_0001, why: 2 });
    assert_eq!(desk.evicted(), [(Session(0x0200_0001), Inbox(1), Closing::Replaced)]);
}

#[test]
fn a_lookup_waits_for_a_hub_that_comes_back_soon() {
    let mut desk = Desk::new(BrokerConfig { max_lookups: 2, ..BrokerConfig::default() });
    desk.broker.lookup(desk.now, 5, SessionId([5; 16]));
    desk.broker.lookup(desk.now, 6, SessionId([6; 16]));
    desk.broker.lookup(desk.now, 7, SessionId([7; 16]));
    assert_eq!(desk.broker.counters().lookups_dropped, 1);
    desk.register(1);
    let asked = |desk: &Desk| desk.told.iter().filter(|(_, it)| matches!(it, Message::Lookup { .. })).count();
    assert_eq!(asked(&desk), 2);
    desk.hub.send(&Message::Found(None), 5);
    desk.hub.send(&Message::Found(None), 5);
    desk.settle();
    let found = desk.outputs.iter().filter(|output| matches!(output, BrokerOutput::Found(5, None))).count();
    assert_eq!(found, 1);
    desk.lose();
    desk.now += LOOKUP;
    desk.come_back(1);
    assert_eq!(asked(&desk), 0, "the device has given up");
}

#[test]
fn revocations_that_come_before_the_yes_hold_after_it() {
    let mut desk = Desk::new(BrokerConfig::default());
    desk.broker.connected(desk.now, HUB);
    desk.hub.send(&Message::Revoked(vec![(1, 2)]), 0);
    desk.settle();
    desk.outputs.clear();
    desk.register(1);
    let at = |wanted: fn(&BrokerOutput) -> bool| desk.outputs.iter().position(wanted).expect("it is there");
    let identity = at(|output| matches!(output, BrokerOutput::Identity(..)));
    assert!(identity < at(|output| matches!(output, BrokerOutput::Revoke(Inbox(1), 2))));
}

#[test]
fn pauses_grow_and_a_network_that_is_back_ends_them() {
    let mut desk = Desk::new(BrokerConfig::default());
    let mut longest = Duration::ZERO;
    for _ in 0..12 {
        desk.lose();
        let due = desk.broker.deadline().expect("it tries again");
        longest = longest.max(due.since(desk.now));
        desk.now = due;
        desk.deadline();
    }
    assert!((LONGEST_PAUSE / 2..=LONGEST_PAUSE).contains(&longest), "{longest:?}");
    desk.lose();
    desk.broker.network_changed(desk.now);
    assert_eq!(desk.broker.deadline(), Some(desk.now));
}

#[test]
fn a_hub_that_says_nothing_or_nonsense_is_left() {
    let mut desk = Desk::new(BrokerConfig::default());
    desk.broker.connected(desk.now, HUB);
    desk.now += PATIENCE;
    desk.deadline();
    assert!(matches!(desk.outputs.last(), Some(BrokerOutput::Event(BrokerEvent::Down(_)))));
    desk.come_back(1);
    let conn = desk.broker.conn().expect("it is connected");
    desk.broker.received(desk.now, conn, &[0; 8]);
    desk.settle();
    assert_eq!((desk.broker.counters().broken, desk.broker.counters().lost), (1, 1));
    assert!(desk.outputs.iter().any(|output| matches!(output, BrokerOutput::Close(at) if *at == conn)));
    desk.come_back(1);
    desk.say(&Message::Refused { code: 409, text: "another".into() });
    assert!(!desk.broker.is_registered());
    assert_eq!(desk.broker.counters().refused, 1);
}

#[test]
fn who_speaks_while_the_hub_takes_nothing_is_sent_away_once_there_is_no_room() {
    let mut desk = Desk::new(BrokerConfig::default());
    desk.register(1);
    desk.broker.up(desk.now, Session(1), Inbox(1), false);
    desk.settle();
    let mut said = 0;
    while desk.broker.counters().unsaid == 0 {
        desk.broker.said(Session(1), Inbox(1), vec![2; 100_000]);
        said += 1;
        assert!(said < 1000, "it has a bound");
    }
    let evicted = std::iter::from_fn(|| desk.broker.poll_output(desk.now));
    let evicted = evicted.filter(|output| matches!(output, BrokerOutput::Evict(_, _, Closing::Full)));
    assert_eq!(evicted.count(), 1);
}

#[test]
fn a_hub_that_takes_it_and_lets_go_is_not_asked_again_and_again_at_once() {
    let mut desk = Desk::new(BrokerConfig::default());
    let mut pauses = Vec::new();
    for _ in 0..10 {
        desk.register(1);
        // As of two brokers with one key, each of which takes the other's place.
        desk.say(&Message::Refused { code: 409, text: "another".into() });
        let due = desk.broker.deadline().expect("it tries again");
        pauses.push(due.since(desk.now));
        desk.now = due;
        desk.deadline();
    }
    assert!(pauses[9] >= LONGEST_PAUSE / 2, "{pauses:?}");
    // One that stayed is.
    desk.register(1);
    for _ in 0..6 {
        desk.now += Duration::from_secs(5);
        desk.settle();
        desk.deadline();
    }
    desk.lose();
    assert!(desk.broker.deadline().expect("it tries again").since(desk.now) <= FIRST_PAUSE);
}

#[test]
fn a_hub_s_revocations_and_clock_have_bounds() {
    let mut desk = Desk::new(BrokerConfig::default());
    desk.broker.connected(desk.now, HUB);
    let revoked = Message::Revoked(vec![(1, 2); crate::wire::inner::MAX_REVOKED]).encode(0);
    for _ in 0..MAX_REVOKED / crate::wire::inner::MAX_REVOKED + 1 {
        desk.broker.received(desk.now, HUB, &revoked);
    }
    assert!(desk.broker.revoked.is_empty() && desk.broker.conn().is_none());
    desk.settle();
    desk.come_back(1);
    desk.broker.clock.1 = u64::MAX;
    desk.broker.up(at(100), Session(1), Inbox(1), false);
    assert_eq!(desk.broker.sitters.all().next().map(|sitting| sitting.since), Some(u32::MAX));
}
