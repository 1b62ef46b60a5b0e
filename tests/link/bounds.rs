//! Each bound of the server, reached.

use hailpost::{
    link::{Path, ServerConfig, ServerOutput},
    rng::{Entropy, Seeded},
    status::Status,
    wire::link::{Datagram, Hello, PIECE, Refusal},
};

use crate::pair::Pair;

fn hello(rng: &mut Seeded, session_id: [u8; 16]) -> Vec<u8> {
    let mut noise = [0; 52];
    rng.fill(&mut noise);
    let key = hailpost::link::public_key(&crate::pair::PRIVATE);
    Hello { server_key: [key[0], key[1]], session_id, cookie: [0; 16], noise: &noise }.encode()
}

fn address(number: u32) -> Path {
    let [a, b, c, d] = (0x0a00_0000 + number).to_be_bytes();
    Path::Datagram(([a, b, c, d], 7).into())
}

fn roomy() -> ServerConfig {
    ServerConfig { hellos_without_cookie: u32::MAX, ..ServerConfig::default() }
}

#[test]
fn a_flood_of_hellos_from_many_addresses_gets_cookies_and_no_lookups() {
    let mut pair = Pair::new(1, 1);
    pair.port = None;
    let mut rng = Seeded::new(1);
    for number in 0..10_000 {
        let octets = hello(&mut rng, [9; 16]);
        pair.deliver(address(number), &octets);
    }
    let counters = *pair.server.counters();
    assert_eq!((counters.cookies, counters.lookups_full), (9_500, 0));
    assert!(pair.went.iter().all(|(path, went)| went <= &pair.came[path]), "no answer is longer");
    pair.run(30_000);
    assert_eq!(pair.server.counters().lookups_expired, 500);
    pair.port = Some(std::time::Duration::ZERO);
    pair.up();
}

#[test]
fn a_device_gets_through_a_flood() {
    let mut pair = Pair::new(2, 1);
    let mut rng = Seeded::new(1);
    for number in 0..3000 {
        if number == 800 {
            pair.devices[0].client.open(pair.now);
        }
        let octets = hello(&mut rng, [9; 16]);
        pair.deliver(address(number), &octets);
        pair.run(1);
    }
    assert!(pair.devices[0].client.is_up());
    assert_eq!(pair.devices[0].client.counters().cookies, 1);
}

#[test]
fn lookups_have_a_bound_and_an_end() {
    let mut pair = Pair::with(3, 0, ServerConfig { max_lookups: 100, ..roomy() });
    pair.port = None;
    let mut rng = Seeded::new(1);
    for number in 0..150 {
        let octets = hello(&mut rng, [9; 16]);
        pair.deliver(address(number), &octets);
    }
    assert_eq!(pair.server.counters().lookups_full, 50);
    pair.run(11_000);
    assert_eq!(pair.server.counters().lookups_expired, 100);
    pair.server.authenticated(pair.now, 3, Err(Refusal::Unknown));
    assert_eq!(pair.server.counters().refused, 0, "an answer that comes too late is dropped");
}

#[test]
fn candidates_have_a_bound_and_an_end_and_harm_no_session() {
    let mut pair = Pair::with(4, 1, ServerConfig { max_candidates: 20, ..roomy() });
    pair.up();
    let octets = pair.devices[0].sent.iter().find(|sent| sent.len() == 256).unwrap().clone();
    for number in 0..30 {
        pair.deliver(address(number), &octets);
        pair.run(5);
    }
    assert_eq!((pair.server.len(), pair.server.counters().candidates_full), (21, 10));
    pair.run(11_000);
    assert_eq!((pair.server.len(), pair.server.counters().candidates_expired), (1, 20));
    assert!(pair.devices[0].client.is_up());
}

#[test]
fn sessions_have_a_bound() {
    let mut pair = Pair::with(5, 3, ServerConfig { max_sessions: 2, ..roomy() });
    for device in &mut pair.devices {
        device.client.open(pair.now);
    }
    pair.run(500);
    assert_eq!(pair.devices.iter().filter(|device| device.client.is_up()).count(), 2);
    assert!(pair.server.counters().sessions_full >= 1);
    let full = |octets: &[u8]| {
        matches!(Datagram::decode(octets), Ok(Datagram::Refuse { reason: Refusal::Full, .. }))
    };
    assert!(pair.answers.iter().any(|(_, octets)| full(octets)));
}

#[test]
fn resets_have_a_bound_and_are_no_longer_than_what_they_answer() {
    let mut pair = Pair::with(6, 0, ServerConfig { resets: 10, ..roomy() });
    for number in 1..=100u32 {
        let mut octets = number.to_be_bytes().to_vec();
        octets.extend_from_slice(&[0; 12]);
        pair.deliver(address(number), &octets);
    }
    let counters = *pair.server.counters();
    assert_eq!((counters.resets, counters.resets_withheld, counters.unknown_ids), (10, 90, 100));
    assert!(pair.answers.iter().all(|(_, octets)| octets.len() == 16));
}

#[test]
fn what_waits_in_all_sessions_has_a_bound() {
    let mut pair = Pair::with(7, 2, ServerConfig { max_queued: 10_000, ..roomy() });
    pair.up();
    pair.cut = true;
    pair.send_down(0, &[1; 9000]);
    let session = pair.session(1);
    let fault = pair.server.send(pair.now, session, vec![1; 2000]).unwrap_err();
    assert_eq!((fault.status, pair.server.counters().full), (Status::Full, 1));
    pair.cut = false;
    pair.run(3000);
    pair.send_down(1, &[1; 2000]);
    pair.run(3000);
    assert_eq!(pair.devices[1].messages().len(), 1);
}

#[test]
fn a_session_says_when_it_is_writable_again() {
    let mut pair = Pair::new(8, 1);
    pair.up();
    let session = pair.session(0);
    while pair.server.send(pair.now, session, vec![0; 4000]).is_ok() {}
    while pair.devices[0].client.send(pair.now, vec![0; 4000]).is_ok() {}
    assert_eq!((pair.server.counters().full, pair.devices[0].client.counters().full), (1, 1));
    pair.run(10_000);
    assert_eq!(pair.count(|event| *event == ServerOutput::Writable { session }), 1);
    assert_eq!(pair.devices[0].count(|event| *event == hailpost::link::ClientEvent::Writable), 1);
}

#[test]
fn pieces_that_wait_in_all_sessions_have_a_bound() {
    let mut pair = Pair::with(9, 1, ServerConfig { max_held: 4, ..roomy() });
    pair.up();
    // The first of many pieces is lost again and again, so that the others would have to wait.
    let before = pair.devices[0].sent.len();
    pair.cut = true;
    pair.send_up(0, &[5; 9 * PIECE]);
    pair.cut = false;
    let sent = pair.devices[0].sent[before..].to_vec();
    let from = Path::Datagram(pair.devices[0].address);
    for octets in &sent[1..] {
        pair.deliver(from, octets);
    }
    assert_eq!(pair.server.counters().pieces_refused as usize, sent.len() - 1 - 4);
}

#[test]
fn revocations_have_a_bound_and_past_it_all_older_tickets_are_worthless() {
    let mut pair = Pair::new(10, 1);
    pair.up();
    for principal in 100..100 + 65_537 {
        pair.server.revoke(pair.now, principal, 1);
    }
    assert_eq!(pair.server.counters().revoked_full, 1);
    pair.restart_sessions();
    pair.run(2000);
    assert!(pair.devices[0].client.is_up());
    assert_eq!((pair.server.counters().bad_tickets, pair.server.counters().handshakes), (1, 2));
}
