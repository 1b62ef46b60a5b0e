//! What a broken or hostile peer may send: each has its counter, and the others notice nothing.

use super::*;
use crate::{
    desk::{self, Desk},
    outpost::{self, Outpost},
};
use hailpost::{
    gateway::{BackendConfig, GatewayState},
    io::Conn,
    node::EventKind,
    rng::{Entropy, Seeded},
    wire::gateway::{Kind, Rule},
};

const V4: Family = Family::V4;

/// A back end with a good gateway, and one that will be bad.
fn good_and_bad() -> (Desk, Conn, Conn) {
    let mut desk = Desk::new(desk::config(V4));
    let (good, bad) = (desk.member(1, None, 5), desk.member(2, None, 5));
    (desk, good, bad)
}

/// The good gateway is served as ever.
fn unharmed(desk: &mut Desk, good: Conn) {
    desk.raw(good);
    desk.say(good, 0, &Body::Heartbeat);
    assert_eq!(desk.heard(good), [(HEARTBEAT | ANSWER, 0)]);
}

/// One of each request that a gateway sends, and of what a back end sends.
fn all_messages() -> Vec<Vec<u8>> {
    let encoder = encoder(V4);
    let rules = [Rule { app: AppId(22), pattern: b"^SSH" }];
    vec![
        encoder.message(1, &Body::Result(record(V4, 1, 7))),
        encoder.words(1, Kind::Features, AppId(7), &[1, 2, 3]),
        encoder.message(0, &Body::Heartbeat),
        encoder.result_sync(1, 1, [record(V4, 1, 7)].into_iter()),
        encoder.rule_sync(1, 1, rules.into_iter()).0,
        encoder.words(1, Kind::Parameters, AppId(7), &[1]),
        encoder.message(1, &Body::ResultAnswer),
        encoder.message(1, &Body::ResultSyncAnswer { serial: 1, reserved: 0 }),
        encoder.message(1, &Body::RegisterAnswer(Outcome::OK)),
    ]
}

#[test]
fn a_body_over_the_limit_ends_the_link_with_a_reason() {
    let (mut desk, good, bad) = good_and_bad();
    let mut long = encoder(V4).message(1, &Body::Heartbeat);
    long[12..16].copy_from_slice(&65_536u32.to_be_bytes());
    desk.octets(bad, &long);
    let gone = desk.events.iter().find(|event| event.kind() == EventKind::GatewayGone).unwrap();
    let text = gone.text(hailpost::node::Field::Text).unwrap();
    assert!(text.contains("octet 12") && text.contains("65536"), "{text}");
    assert_eq!((desk.hung_up(), desk.counters().malformed), (vec![bad], 1));
    unharmed(&mut desk, good);

    let mut outpost = Outpost::registered(outpost::config(V4), true);
    outpost.octets(&long);
    assert_eq!((outpost.state(), outpost.counters().malformed), (GatewayState::Down, 1));
    assert_eq!(outpost.told(EventKind::Down), 1);
}

#[test]
fn a_message_that_cannot_be_read_is_passed_over_and_the_next_is_read() {
    let mut bad_ones = Vec::new();
    // A body where there must be none; records that do not fit their count; a result that is neither 0 nor 1.
    let with_body = |mut octets: Vec<u8>, body: &[u8]| {
        octets[12..16].copy_from_slice(&(body.len() as u32).to_be_bytes());
        octets.extend_from_slice(body);
        octets
    };
    bad_ones.push(with_body(encoder(V4).message(1, &Body::Heartbeat), &[0; 4]));
    bad_ones.push(with_body(encoder(V4).message(1, &Body::ResultAnswer), &[1, 2, 3]));
    let mut report = encoder(V4).message(1, &Body::Result(record(V4, 1, 7)));
    report.truncate(39);
    report[15] = 19;
    bad_ones.push(report);
    let mut sync = encoder(V4).result_sync(1, 1, [record(V4, 1, 7)].into_iter());
    sync[23] = 2;
    bad_ones.push(sync.clone());
    sync[22..24].copy_from_slice(&61u16.to_be_bytes());
    bad_ones.push(sync);
    let mut outcome = encoder(V4).message(1, &Body::DeregisterAnswer(Outcome::OK));
    outcome[21] = 2;
    bad_ones.push(outcome);
    let (mut rules, _) = encoder(V4).rule_sync(1, 1, [Rule { app: AppId(1), pattern: b"abc" }].into_iter());
    *rules.last_mut().unwrap() = b'd';
    bad_ones.push(rules);

    let (mut desk, good, bad) = good_and_bad();
    for (at, octets) in bad_ones.iter().enumerate() {
        desk.octets(bad, octets);
        assert_eq!((desk.counters().malformed, desk.heard(bad)), (at as u64 + 1, vec![]));
        unharmed(&mut desk, bad);
    }
    unharmed(&mut desk, good);
    assert_eq!(desk.hung_up(), []);

    let mut outpost = Outpost::registered(outpost::config(V4), true);
    for (at, octets) in bad_ones.iter().enumerate() {
        outpost.octets(octets);
        assert_eq!(outpost.counters().malformed, at as u64 + 1);
    }
    outpost.say(1, &Body::Result(record(V4, 1, 7)));
    assert_eq!(outpost.heard(), [(RESULT | ANSWER, 1)], "the link still works");
}

#[test]
fn unknown_ids_are_counted_and_ignored_however_many_come() {
    let (mut desk, good, bad) = good_and_bad();
    let mut outpost = Outpost::registered(outpost::config(V4), true);
    for id in [0x0000u16, 0x0009, 0x0100, 0x7fff, 0x8000, 0x8009, 0xffff] {
        let mut octets = encoder(V4).message(1, &Body::Result(record(V4, 1, 7)));
        octets[16..18].copy_from_slice(&id.to_be_bytes());
        desk.octets(bad, &octets);
        outpost.octets(&octets);
    }
    assert_eq!((desk.counters().unknown_ids, outpost.counters().unknown_ids), (7, 7));
    assert_eq!((desk.hung_up(), outpost.state()), (vec![], GatewayState::Active));
    unharmed(&mut desk, bad);
    unharmed(&mut desk, good);
}

#[test]
fn a_stream_cut_at_every_octet_ends_only_its_own_link() {
    for message in all_messages() {
        for cut in 0..message.len() {
            let (mut desk, good, bad) = good_and_bad();
            desk.octets(bad, &message[..cut]);
            desk.turn(hailpost::io::Input::Closed { conn: bad, fault: None });
            assert_eq!(desk.told(EventKind::GatewayGone), 1);
            unharmed(&mut desk, good);
            assert_eq!(desk.counters().reports + desk.counters().features, 0, "cut at {cut}");
        }
    }
}

#[test]
fn a_datagram_cut_at_every_octet_is_passed_over() {
    for message in all_messages() {
        let mut desk = Desk::new(desk::config(V4));
        let from = SocketAddr::from(([10, 1, 0, 1], 5000));
        desk.datagram_member(from, 0);
        for cut in 0..message.len() {
            desk.datagram(from, &message[..cut]);
            assert_eq!(desk.counters().malformed, cut as u64 + 1);
        }
        assert_eq!(desk.datagrams(from).len(), 0);
        desk.say_from(from, 0, &Body::Heartbeat);
        assert_eq!(desk.datagrams(from).len(), 1, "its association still works");
    }
}

#[test]
fn one_octet_at_a_time_is_read_like_any_other_stream() {
    let mut desk = Desk::new(desk::config(V4));
    let slow = desk.connect(1, None);
    let messages = [
        encoder(V4).message(5, &Body::Register),
        encoder(V4).message(1, &Body::Result(record(V4, 1, 7))),
        encoder(V4).message(0, &Body::Heartbeat),
    ];
    for octet in messages.concat() {
        desk.octets(slow, &[octet]);
    }
    let ids: Vec<u16> = desk.heard(slow).into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, [REGISTER | ANSWER, RESULT_SYNC, RULE_SYNC, RESULT | ANSWER, HEARTBEAT | ANSWER]);
    assert_eq!(desk.counters().malformed, 0);
}

#[test]
fn a_message_that_never_completes_ends_its_link_after_the_patience() {
    // A message that began while the peer was idle, or right behind a whole one: its own beginning counts.
    for behind in [false, true] {
        let config = BackendConfig { patience: Duration::from_secs(4), ..desk::config(V4) };
        let mut desk = Desk::new(config);
        let (good, bad) = (desk.member(1, None, 5), desk.member(2, None, 5));
        let beat = encoder(V4).message(0, &Body::Heartbeat);
        desk.octets(bad, &beat[..10]);
        for _ in 0..3 {
            desk.pass(SECOND);
            desk.say(good, 0, &Body::Heartbeat);
        }
        if behind {
            desk.octets(bad, &[&beat[10..], &beat[..10]].concat());
        }
        let wait = if behind { 4 } else { 1 };
        for second in 1..=wait {
            assert_eq!(desk.hung_up(), [], "second {second} of {wait}");
            desk.pass(SECOND);
            desk.say(good, 0, &Body::Heartbeat);
            if second < wait {
                desk.octets(bad, &[0]);
            }
        }
        assert_eq!((desk.hung_up(), desk.counters().silent), (vec![bad], 1));
        unharmed(&mut desk, good);
    }
}

#[test]
fn who_never_registers_is_closed_after_the_patience() {
    let mut desk = Desk::new(desk::config(V4));
    let good = desk.member(1, None, 5);
    let silent = desk.connect(2, None);
    let chatty = desk.connect(3, None);
    for _ in 0..10 {
        desk.say(chatty, 0, &Body::Heartbeat);
        desk.say(good, 0, &Body::Heartbeat);
        desk.pass(SECOND);
    }
    assert_eq!((desk.hung_up(), desk.counters().silent), (vec![silent, chatty], 2));
    unharmed(&mut desk, good);
}

#[test]
fn before_registration_only_short_messages_are_read() {
    for len in [65u32, 1000, 65_535] {
        for whole in [false, true] {
            let mut desk = Desk::new(desk::config(V4));
            let good = desk.member(1, None, 5);
            let stranger = desk.connect(2, None);
            let mut octets = encoder(V4).message(1, &Body::Register);
            octets[12..16].copy_from_slice(&len.to_be_bytes());
            if whole {
                octets.resize(20 + len as usize, 0);
            }
            desk.octets(stranger, &octets);
            assert_eq!((desk.hung_up(), desk.counters().strangers_too_long), (vec![stranger], 1));
            unharmed(&mut desk, good);
        }
    }
    // What comes too early, and is short, is counted; the stranger may still register.
    let mut desk = Desk::new(desk::config(V4));
    let early = desk.connect(1, None);
    desk.say(early, 1, &Body::Result(record(V4, 1, 7)));
    desk.say(early, 5, &Body::Register);
    assert_eq!((desk.heard(early)[0], desk.counters().unexpected), ((REGISTER | ANSWER, 5), 1));
    // Right behind its registration a gateway may say long things.
    let long = encoder(V4).words(1, Kind::Features, AppId(7), &[0; 256]);
    let fast = desk.connect(2, None);
    desk.octets(fast, &[encoder(V4).message(5, &Body::Register), long].concat());
    assert!(desk.heard(fast).contains(&(FEATURES | ANSWER, 1)));
}

#[test]
fn flipped_bits_do_no_harm_to_others_on_either_transport() {
    let mut rng = Seeded::new(11);
    let from = SocketAddr::from(([10, 1, 0, 1], 5000));
    for message in all_messages() {
        for bit in 0..message.len() * 8 {
            let mut octets = message.clone();
            octets[bit / 8] ^= 1 << (bit % 8);
            if rng.below(4) == 0 {
                octets[rng.below(message.len() as u32) as usize] ^= 0x40;
            }
            let (mut desk, good, bad) = good_and_bad();
            desk.datagram_member(from, 5);
            desk.octets(bad, &octets);
            desk.datagram(from, &octets);
            assert_eq!(desk.counters().foreign, u64::from(said_id(&octets) != Some(REGISTER | ANSWER)));
            unharmed(&mut desk, good);
            let mut outpost = Outpost::registered(outpost::config(V4), true);
            outpost.octets(&octets);
        }
    }
}

/// Bare registers and their answers are read on datagrams; all else must be sealed.
fn said_id(octets: &[u8]) -> Option<u16> {
    decode(V4, octets).ok().map(|message| match message.body.id() {
        REGISTER => REGISTER | ANSWER,
        id => id,
    })
}

#[test]
fn what_is_replayed_or_comes_out_of_order_is_not_applied_twice() {
    let (mut desk, good, bad) = good_and_bad();
    let reports: Vec<Vec<u8>> = (1..=6)
        .map(|tag| encoder(V4).message(tag, &Body::Result(record(V4, 1, 6 + u32::from(tag)))))
        .collect();
    for octets in [&reports[0], &reports[1], &reports[0], &reports[4], &reports[2], &reports[1]] {
        desk.octets(bad, octets);
    }
    let answers: Vec<Said> = desk.heard(bad).into_iter().filter(|(id, _)| id & ANSWER != 0).collect();
    assert_eq!(answers, [1, 2, 1, 3, 2].map(|tag| (RESULT | ANSWER, tag)));
    assert_eq!((desk.counters().reports, desk.counters().repeated), (3, 2));
    let held: Vec<_> = desk.backend().results("home").map(|(_, app)| app).collect();
    assert_eq!(held, [AppId(9)], "the last that was taken holds");
    unharmed(&mut desk, good);
}

#[test]
fn ten_thousand_connections_are_bounded_and_the_good_peer_is_served() {
    let config = BackendConfig { max_gateways: 1000, ..desk::config(V4) };
    let mut desk = Desk::new(config);
    let good = desk.member(0, None, 5);
    for number in 1..=10_000 {
        let conn = desk.connect(number, None);
        // Each holds as much as a stranger may.
        let mut octets = encoder(V4).message(1, &Body::Result(record(V4, 1, 7)));
        octets.truncate(39);
        desk.octets(conn, &octets);
    }
    assert_eq!((desk.counters().turned_away, desk.hung_up().len()), (9001, 9001));
    unharmed(&mut desk, good);
    for _ in 0..10 {
        desk.say(good, 0, &Body::Heartbeat);
        desk.pass(SECOND);
    }
    assert_eq!((desk.counters().silent, desk.hung_up().len()), (999, 999));
    unharmed(&mut desk, good);
    desk.member(20_000, None, 5);
}

#[test]
fn a_back_end_that_sends_rubbish_is_left_and_tried_again() {
    let mut rng = Seeded::new(5);
    for _ in 0..200 {
        let mut outpost = Outpost::registered(outpost::config(V4), true);
        let mut octets = vec![0; 200];
        rng.fill(&mut octets);
        outpost.octets(&octets);
        assert_eq!(outpost.state(), GatewayState::Down, "a random length is over the limit nearly always");
        outpost.pass(Duration::from_secs(2));
        outpost.connect();
        outpost.raw().clear();
        assert_eq!(outpost.state(), GatewayState::Registering);
    }
}
