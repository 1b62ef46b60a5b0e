//! Datagrams: addresses that prove themselves, epochs and trailers, and no answer larger than what came.

use super::*;
use crate::{
    desk::{self, Desk},
    outpost::{self, Outpost},
};
use hailpost::{
    gateway::{BackendConfig, GatewayState},
    io::Transport,
    node::EventKind,
    wire::gateway::{seal, unseal},
};

const V4: Family = Family::V4;

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 1, 0, last], 5000))
}

#[test]
fn a_register_draws_no_more_than_its_own_size_until_its_address_has_answered() {
    let mut desk = Desk::new(desk::config(V4));
    let from = address(1);
    let register = encoder(V4).message(5, &Body::Register);
    assert_eq!(register.len(), 20);
    for _ in 0..10 {
        desk.datagram(from, &register);
        let answers = desk.datagrams(from);
        assert_eq!(answers.iter().map(Vec::len).collect::<Vec<_>>(), [20]);
    }
    desk.pass(Duration::from_secs(60));
    assert_eq!(desk.datagrams(from).len(), 0, "and nothing later");
    assert_eq!((desk.counters().probes, desk.backend().gateways().count()), (10, 0));
}

#[test]
fn nothing_that_a_stranger_sends_draws_more_than_came() {
    let mut desk = Desk::new(desk::config(V4));
    let encoder = encoder(V4);
    let bodies = [
        encoder.message(0, &Body::Register),
        encoder.message(0, &Body::Heartbeat),
        encoder.message(0, &Body::HeartbeatAnswer),
        encoder.message(0, &Body::Deregister),
        encoder.message(0, &Body::Result(record(V4, 1, 7))),
        encoder.result_sync(0, 1, [].into_iter()),
        vec![0; 20],
        vec![0xff; 1500],
        vec![],
    ];
    for (at, octets) in bodies.iter().enumerate() {
        let from = address(at as u8);
        desk.datagram(from, octets);
        desk.pass(Duration::from_secs(30));
        let drawn: usize = desk.datagrams(from).iter().map(Vec::len).sum();
        assert!(drawn <= octets.len(), "message {at}: {} octets drew {drawn}", octets.len());
    }
    assert_eq!(desk.counters().foreign, 8);
}

#[test]
fn only_the_right_answer_to_the_probe_proves_an_address() {
    let mut desk = Desk::new(desk::config(V4));
    let (from, other) = (address(1), address(2));
    let register = encoder(V4).message(5, &Body::Register);
    desk.datagram(from, &register);
    let probe = desk.datagrams(from);
    let (HEARTBEAT, cookie) = said(V4, &probe[0]) else { panic!() };
    let answer = |tag| encoder(V4).message(tag, &Body::HeartbeatAnswer);
    desk.datagram(from, &answer(cookie ^ 1));
    desk.datagram(other, &answer(cookie));
    for at in [from, other] {
        desk.datagram(at, &register);
        assert_eq!(said(V4, &desk.datagrams(at)[0]).0, HEARTBEAT, "probed again");
    }
    desk.datagram(from, &answer(cookie));
    desk.datagram(from, &register);
    assert_eq!(said(V4, &desk.datagrams(from)[0]), (REGISTER | ANSWER, 5));
    // The proof holds for one registration, and not for ever.
    desk.datagram(other, &register);
    let (_, cookie) = said(V4, &desk.datagrams(other)[0]);
    desk.datagram(other, &answer(cookie));
    desk.pass(Duration::from_secs(31));
    desk.datagram(other, &register);
    assert_eq!(said(V4, &desk.datagrams(other)[0]).0, HEARTBEAT);
}

#[test]
fn proven_addresses_are_remembered_so_many_and_the_first_is_forgotten() {
    let mut desk = Desk::new(desk::config(V4));
    let register = encoder(V4).message(5, &Body::Register);
    let from = |number: u16| SocketAddr::from(([10, 2, 0, 1], number));
    let prove = |desk: &mut Desk, number| {
        desk.datagram(from(number), &register);
        let (_, cookie) = said(V4, &desk.datagrams(from(number))[0]);
        desk.datagram(from(number), &encoder(V4).message(cookie, &Body::HeartbeatAnswer));
    };
    for number in 1..=4096 {
        prove(&mut desk, number);
    }
    assert_eq!(desk.counters().proofs_evicted, 0);
    prove(&mut desk, 4097);
    assert_eq!(desk.counters().proofs_evicted, 1);
    desk.datagram(from(1), &register);
    assert_eq!(said(V4, &desk.datagrams(from(1))[0]).0, HEARTBEAT, "probed again");
    desk.datagram(from(2), &register);
    assert_eq!(said(V4, &desk.datagrams(from(2))[0]).0, REGISTER | ANSWER);
}

#[test]
fn without_the_probe_a_register_is_answered_at_once() {
    let config = BackendConfig { probe_addresses: false, ..desk::config(V4) };
    let mut desk = Desk::new(config);
    desk.datagram(address(1), &encoder(V4).message(5, &Body::Register));
    assert_eq!(said(V4, &desk.datagrams(address(1))[0]), (REGISTER | ANSWER, 5));
}

#[test]
fn the_gateway_answers_the_probe_and_registers_again_at_once() {
    let mut outpost = Outpost::new(outpost::config(V4), Transport::Datagram);
    outpost.connect();
    let (REGISTER, tag) = outpost.heard()[0] else { panic!() };
    outpost.say(77, &Body::Heartbeat);
    assert_eq!(
        outpost.raw().iter().map(|octets| said(V4, octets)).collect::<Vec<_>>(),
        [(HEARTBEAT | ANSWER, 77), (REGISTER, tag)]
    );
}

#[test]
fn a_lost_register_is_sent_again_and_given_up_after_three_sends() {
    let mut outpost = Outpost::new(outpost::config(V4), Transport::Datagram);
    outpost.connect();
    let first = outpost.raw();
    outpost.pass(Duration::from_secs(10));
    assert_eq!(outpost.raw(), [first.clone(), first].concat());
    outpost.pass(Duration::from_secs(5));
    assert_eq!((outpost.told(EventKind::Down), outpost.state()), (1, GatewayState::Down));
}

#[test]
fn between_hailpost_ends_each_datagram_is_sealed_with_the_epoch() {
    let mut desk = Desk::new(desk::config(V4));
    let from = address(1);
    desk.datagram_member(from, 5);
    desk.say_from(from, 1, &Body::Result(record(V4, 1, 7)));
    let heard = desk.heard_from(from);
    assert_eq!(said(V4, &heard[0]), (RESULT | ANSWER, 1));
    // Bare, under another epoch, or with a bit flipped: nobody's.
    let bare = encoder(V4).message(2, &Body::Result(record(V4, 2, 7)));
    let mut stale = bare.clone();
    seal(0x0005_0000, &mut stale);
    desk.datagram(from, &bare);
    desk.datagram(from, &stale);
    assert_eq!((desk.datagrams(from).len(), desk.counters().foreign), (0, 2));
    assert_eq!(desk.backend().results("home").count(), 1);

    let mut outpost = Outpost::new(outpost::config(V4), Transport::Datagram);
    outpost.connect();
    let (_, tag) = outpost.heard()[0];
    outpost.say(tag, &Body::RegisterAnswer(Outcome { result: 0, reason: Reason(9) }));
    outpost.report(1, 7);
    let sent = outpost.raw();
    let epoch = u32::from(tag) << 16 | 9;
    assert_eq!(said(V4, unseal(epoch, &sent[0]).expect("sealed")), (RESULT, 1));
    outpost.say(1, &Body::ResultAnswer);
    assert_eq!((outpost.told(EventKind::Acknowledged), outpost.counters().foreign), (0, 1));
    let mut answer = encoder(V4).message(1, &Body::ResultAnswer);
    seal(epoch, &mut answer);
    outpost.octets(&answer);
    assert_eq!(outpost.told(EventKind::Acknowledged), 1);
}

#[test]
fn a_plain_gateway_on_datagrams_gets_the_publications_bare_octets() {
    let mut desk = Desk::new(desk::config(V4));
    desk.datagram_member(address(1), 0);
    desk.say_from(address(1), 0, &Body::Heartbeat);
    assert_eq!(
        desk.datagrams(address(1)),
        [encoder_back(&desk, address(1)).message(0, &Body::HeartbeatAnswer)]
    );
}

/// What the back end's headers say to a datagram peer.
fn encoder_back(desk: &Desk, peer: SocketAddr) -> Encoder {
    Encoder { family: desk.family, source: "192.0.2.1:7700".parse().unwrap(), destination: peer }
}

#[test]
fn one_request_of_a_kind_is_under_way_on_datagrams_and_reordered_ones_do_no_harm() {
    let mut desk = Desk::new(desk::config(V4));
    let (from, other) = (address(1), address(2));
    desk.datagram_member(from, 5);
    desk.datagram_member(other, 5);
    for (tag, end) in [(2, 2), (1, 1), (2, 2), (1, 1)] {
        desk.say_from(from, tag, &Body::Result(record(V4, end, 7)));
    }
    let answers: Vec<_> = desk.heard_from(from).iter().map(|octets| said(V4, octets)).collect();
    assert_eq!(answers, [1, 2, 1].map(|tag| (RESULT | ANSWER, tag)), "the early one waits for its turn");
    assert_eq!(desk.backend().results("home").count(), 2);
    let told: Vec<_> = desk.heard_from(other).iter().map(|octets| said(V4, octets)).collect();
    assert_eq!(told, [(RESULT, 1)], "one after the other");
    desk.say_from(other, 1, &Body::ResultAnswer);
    assert_eq!(said(V4, &desk.heard_from(other)[0]), (RESULT, 2));
}

#[test]
fn a_silent_datagram_gateway_is_gone_and_the_listener_stays() {
    let mut desk = Desk::new(desk::config(V4));
    desk.datagram_member(address(1), 5);
    desk.pass(Duration::from_secs(10));
    assert_eq!((desk.told(EventKind::GatewayGone), desk.hung_up()), (1, vec![]));
    desk.datagram_member(address(1), 6);
}
