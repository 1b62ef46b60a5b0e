//! Enrolment by a one-time token, at both ends.

use hailpost::{
    gateway::{BackendConfig, Enrolment, GatewayConfig, GatewayState, Grant, Token},
    io::{Conn, Transport},
    node::EventKind,
    status::Status,
    store::Memory,
};

use super::{script::desk::Desk, script::outpost::Outpost, *};

const V6: Family = Family::V6;
const TOKEN: Token = Token([7; 16]);
const ENROL: u16 = 0x41;
/// The desk's clock begins here.
const UNIX: u64 = 1_700_000_000;

fn desk() -> Desk {
    Desk::new(BackendConfig { open_group: None, ..desk::config(V6) })
}

fn grant() -> Grant {
    let expires = UNIX + 60;
    Grant { name: "kitchen".into(), group: "home".into(), trusted: true, replaces: false, expires }
}

fn issue(desk: &mut Desk, token: Token, grant: Grant) {
    let now = desk.now;
    desk.backend().issue_token(now, &token, grant).unwrap();
    desk.drain();
}

/// Somebody shows a token; what it hears.
fn show(desk: &mut Desk, number: u32, key: Option<KeyId>, token: Token) -> (Conn, Vec<Outcome>) {
    let conn = desk.connect(number, key);
    desk.say(conn, 9, &Body::Enrol { token: token.0 });
    let heard = desk.raw(conn);
    (conn, heard.iter().map(|octets| outcome(octets)).collect())
}

fn outcome(octets: &[u8]) -> Outcome {
    let message = decode(V6, octets).unwrap();
    let Body::EnrolAnswer(outcome) = message.body else { panic!("{message:?}") };
    assert_eq!(message.header.tag, 9);
    outcome
}

fn refused(reason: Reason) -> Vec<Outcome> {
    vec![Outcome::refused(reason)]
}

#[test]
fn a_token_enrols_one_key_once_and_the_registration_follows_on_the_same_connection() {
    let mut desk = desk();
    issue(&mut desk, TOKEN, grant());
    let (conn, heard) = show(&mut desk, 1, Some(key(1)), TOKEN);
    assert_eq!(heard, [Outcome::OK]);
    desk.say(conn, 5, &Body::Register);
    assert_eq!(desk.heard(conn)[0], (REGISTER | ANSWER, 5));
    let known = desk.backend().enrolments().map(|(key, known)| (*key, known.clone())).collect::<Vec<_>>();
    let wanted = Enrolment { name: "kitchen".into(), group: "home".into(), trusted: true, barred: false };
    assert_eq!(known, [(key(1), wanted)]);
    // Used twice: by another, and by the same.
    for octet in [2, 1] {
        let (conn, heard) = show(&mut desk, 10 + u32::from(octet), Some(key(octet)), TOKEN);
        assert_eq!(heard, refused(Reason::TOKEN));
        assert_eq!(desk.hung_up(), [conn]);
    }
    let counters = desk.counters();
    assert_eq!((counters.enrolled, counters.tokens_wrong, counters.refused), (1, 2, 2));
    assert_eq!(desk.backend().gateways().count(), 1, "the one that is in stays in");
}

#[test]
fn nobody_hears_of_it_before_the_disk_has_it_and_a_token_is_spent_all_the_same() {
    let store = Memory::default();
    let mut desk = Desk::on(BackendConfig { open_group: None, ..desk::config(V6) }, Box::new(store), None);
    issue(&mut desk, TOKEN, grant());
    desk.commits = false;
    let (first, heard) = show(&mut desk, 1, Some(key(1)), TOKEN);
    assert_eq!(heard, []);
    desk.say(first, 9, &Body::Enrol { token: TOKEN.0 });
    assert_eq!((desk.heard(first), desk.counters().repeated), (vec![], 1));
    let (_, heard) = show(&mut desk, 2, Some(key(2)), TOKEN);
    assert_eq!(heard, refused(Reason::TOKEN));
    desk.commits = true;
    desk.drain();
    assert_eq!(desk.raw(first).iter().map(|octets| outcome(octets)).collect::<Vec<_>>(), [Outcome::OK]);
}

#[test]
fn a_token_expires_and_a_wrong_one_enrols_nobody() {
    let mut desk = desk();
    issue(&mut desk, TOKEN, grant());
    let (_, heard) = show(&mut desk, 1, Some(key(1)), Token([8; 16]));
    assert_eq!(heard, refused(Reason::TOKEN));
    desk.pass(Duration::from_secs(60));
    let now = desk.now;
    assert_eq!(desk.backend().grants(now).count(), 0);
    let (_, heard) = show(&mut desk, 2, Some(key(1)), TOKEN);
    assert_eq!(heard, refused(Reason::TOKEN));
    assert_eq!(desk.backend().enrolments().count(), 0);
    let late = desk.backend().issue_token(now, &TOKEN, grant()).unwrap_err();
    assert_eq!(late.status, Status::Invalid);
}

#[test]
fn whoever_proves_no_key_is_barred_or_is_a_datagram_gets_nothing_and_the_token_stays_good() {
    let mut desk = desk();
    issue(&mut desk, TOKEN, grant());
    assert_eq!(show(&mut desk, 1, None, TOKEN).1, refused(Reason::NOT_AUTHORISED));
    let bad = desk.enrol(3, "home", false);
    let now = desk.now;
    desk.backend().deregister(now, bad).unwrap();
    desk.drain();
    assert_eq!(show(&mut desk, 2, Some(bad), TOKEN).1, refused(Reason::BARRED));
    let from = SocketAddr::from(([10, 1, 0, 1], 5000));
    desk.datagram(from, &encoder(V6).message(9, &Body::Enrol { token: TOKEN.0 }));
    assert_eq!(desk.datagrams(from).len(), 0);
    assert_eq!(show(&mut desk, 4, Some(key(4)), TOKEN).1, [Outcome::OK]);
}

#[test]
fn a_replaced_key_is_out_and_a_name_is_not_taken_from_anyone_unasked() {
    let mut desk = desk();
    issue(&mut desk, TOKEN, grant());
    show(&mut desk, 1, Some(key(1)), TOKEN);
    let old = desk.member(2, Some(key(1)), 5);
    let (now, next) = (desk.now, Token([9; 16]));
    let fault = desk.backend().issue_token(now, &next, grant()).unwrap_err();
    assert_eq!(fault.status, Status::State);
    issue(&mut desk, next, Grant { replaces: true, ..grant() });
    desk.hung_up();
    let (conn, heard) = show(&mut desk, 3, Some(key(2)), next);
    assert_eq!(heard, [Outcome::OK]);
    assert_eq!((desk.hung_up(), desk.told(EventKind::GatewayDeregistered)), (vec![old], 1));
    desk.say(conn, 5, &Body::Register);
    assert_eq!(desk.heard(conn)[0].0, REGISTER | ANSWER);
    let again = desk.connect(4, Some(key(1)));
    desk.say(again, 5, &Body::Register);
    let answer = desk.raw(again);
    let refused = Body::RegisterAnswer(Outcome::refused(Reason::NOT_AUTHORISED));
    assert_eq!(decode(V6, &answer[0]).unwrap().body, refused);

    // The name is taken between a token and its use: it is not worth it any more.
    let hall = Grant { name: "gateway 5".into(), ..grant() };
    issue(&mut desk, TOKEN, hall);
    desk.enrol(5, "home", false);
    assert_eq!(show(&mut desk, 5, Some(key(6)), TOKEN).1, super::enrolment::refused(Reason::TOKEN));
}

#[test]
fn guesses_from_one_address_are_bounded_and_others_are_not_kept_out() {
    let mut desk = desk();
    issue(&mut desk, TOKEN, grant());
    for guess in 0..5 {
        assert_eq!(show(&mut desk, 1, Some(key(1)), Token([100 + guess; 16])).1, refused(Reason::TOKEN));
    }
    assert_eq!(show(&mut desk, 1, Some(key(1)), TOKEN).1, refused(Reason::TRY_LATER));
    assert_eq!((desk.counters().tokens_wrong, desk.counters().tokens_unseen), (5, 1));
    assert_eq!(show(&mut desk, 2, Some(key(2)), TOKEN).1, [Outcome::OK], "from elsewhere");
    desk.pass(Duration::from_secs(61));
    assert_eq!(show(&mut desk, 1, Some(key(1)), TOKEN).1, refused(Reason::TOKEN), "looked at again");
}

#[test]
fn addresses_that_guess_are_remembered_so_many_and_the_first_is_forgotten() {
    let mut desk = desk();
    issue(&mut desk, TOKEN, grant());
    let wrong = Token([8; 16]);
    for _ in 0..5 {
        assert_eq!(show(&mut desk, 0, Some(key(1)), wrong).1, refused(Reason::TOKEN));
    }
    for number in 1..4096 {
        show(&mut desk, number, Some(key(1)), wrong);
    }
    assert_eq!(show(&mut desk, 0, Some(key(1)), TOKEN).1, refused(Reason::TRY_LATER), "4,096 are remembered");
    assert_eq!(desk.counters().guessers_evicted, 0);
    show(&mut desk, 4096, Some(key(1)), wrong);
    assert_eq!(desk.counters().guessers_evicted, 1);
    assert_eq!(show(&mut desk, 0, Some(key(1)), TOKEN).1, [Outcome::OK], "the first is no more");
    // Those whose minute is over make room without a word.
    desk.pass(Duration::from_secs(61));
    show(&mut desk, 4097, Some(key(1)), wrong);
    assert_eq!((desk.counters().guessers_evicted, desk.counters().tokens_wrong), (1, 5 + 4095 + 2));
}

#[test]
fn tokens_are_bounded_and_one_for_the_same_name_withdraws_the_other() {
    let mut desk = desk();
    let number = |number: u16| {
        let mut token = [0; 16];
        token[..2].copy_from_slice(&number.to_be_bytes());
        (Token(token), Grant { name: format!("g{number}"), ..grant() })
    };
    for at in 0..1024 {
        let (token, grant) = number(at);
        issue(&mut desk, token, grant);
    }
    let (token, one_more) = number(1024);
    let now = desk.now;
    assert_eq!(desk.backend().issue_token(now, &token, one_more.clone()).unwrap_err().status, Status::Full);
    issue(&mut desk, TOKEN, number(3).1);
    assert_eq!(show(&mut desk, 1, Some(key(1)), number(3).0).1, refused(Reason::TOKEN));
    assert_eq!(show(&mut desk, 2, Some(key(1)), TOKEN).1, [Outcome::OK]);
    issue(&mut desk, token, one_more);
    desk.pass(Duration::from_secs(60));
    let fresh = Grant { expires: UNIX + 200, ..number(2000).1 };
    issue(&mut desk, number(2000).0, fresh);
    let now = desk.now;
    assert_eq!(desk.backend().grants(now).count(), 1, "those that expired make room");
}

#[test]
fn a_gateway_shows_its_token_when_its_key_is_not_known_once_and_only_to_who_has_a_key() {
    let config = || GatewayConfig { token: Some(TOKEN), ..outpost::config(V6) };
    let mut outpost = Outpost::new(config(), Transport::Stream);
    outpost.connect();
    outpost.heard();
    outpost.say(0, &Body::RegisterAnswer(Outcome::refused(Reason::NOT_AUTHORISED)));
    assert_eq!(outpost.told(EventKind::Refused), 1, "the back end proved nothing");

    let mut outpost = Outpost::new(config(), Transport::Stream);
    outpost.peer_key = Some(key(99));
    outpost.connect();
    assert_eq!(outpost.heard()[0].0, REGISTER, "it may be enrolled already");
    outpost.say(0, &Body::RegisterAnswer(Outcome::refused(Reason::NOT_AUTHORISED)));
    outpost.turn(hailpost::io::Input::Deadline);
    outpost.connect();
    assert_eq!(outpost.told(EventKind::Refused), 0);
    let (id, tag) = outpost.heard()[0];
    assert_eq!(id, ENROL);
    // What does not answer the token does nothing.
    outpost.say(tag, &Body::RegisterAnswer(Outcome::OK));
    assert_eq!(outpost.state(), GatewayState::Registering);
    outpost.say(tag, &Body::EnrolAnswer(Outcome::OK));
    outpost.accept(true);
    assert!(outpost.gateway().config().token.is_none());

    // One that is no good is not shown again.
    let mut outpost = Outpost::new(config(), Transport::Stream);
    outpost.peer_key = Some(key(99));
    for (wanted, answer) in [
        (REGISTER, Body::RegisterAnswer(Outcome::refused(Reason::NOT_AUTHORISED))),
        (ENROL, Body::EnrolAnswer(Outcome::refused(Reason::TOKEN))),
        (REGISTER, Body::RegisterAnswer(Outcome::refused(Reason::NOT_AUTHORISED))),
    ] {
        outpost.pass(Duration::from_secs(60));
        outpost.connect();
        assert_eq!(outpost.heard()[0].0, wanted);
        outpost.say(0, &answer);
    }
    assert_eq!(outpost.told(EventKind::Refused), 2);
    assert!(outpost.gateway().config().token.is_none());
}

#[test]
fn a_back_end_that_does_not_know_the_message_is_tried_again_by_registering() {
    let mut outpost =
        Outpost::new(GatewayConfig { token: Some(TOKEN), ..outpost::config(V6) }, Transport::Stream);
    outpost.peer_key = Some(key(99));
    outpost.connect();
    outpost.heard();
    outpost.say(0, &Body::RegisterAnswer(Outcome::refused(Reason::NOT_AUTHORISED)));
    outpost.turn(hailpost::io::Input::Deadline);
    outpost.connect();
    assert_eq!(outpost.heard()[0].0, ENROL);
    outpost.pass(Duration::from_secs(20));
    assert_eq!(outpost.told(EventKind::Down), 1);
    outpost.connect();
    assert_eq!(outpost.heard()[0].0, REGISTER);
}
