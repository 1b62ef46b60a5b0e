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
    let mut pair = Pair::with(4, 30, ServerConfig { max_candidates: 20, ..roomy() });
    pair.devices.truncate(1);
    pair.up();
    for at in 0..30u8 {
        let mut config = pair.client_config(at.into());
        config.interval = 30;
        let mut client = hailpost::link::Client::new(config, Seeded::new(at.into()));
        client.open(pair.now);
        let Some(hailpost::link::ClientOutput::Send(octets)) = client.poll_output(pair.now) else { panic!() };
        pair.deliver(address(at.into()), &octets);
        pair.run(5);
    }
    assert_eq!((pair.server.len(), pair.server.counters().candidates_full), (21, 10));
    pair.run(11_000);
    assert_eq!((pair.server.len(), pair.server.counters().candidates_expired), (1, 20));
    assert!(pair.devices[0].client.is_up());
}

#[test]
fn candidates_of_one_device_take_no_room_from_others() {
    let mut pair = Pair::with(4, 2, ServerConfig { max_candidates: 20, ..roomy() });
    pair.devices[0].client.open(pair.now);
    pair.run(1000);
    let octets = pair.devices[0].sent.iter().find(|sent| sent.len() == 256).unwrap().clone();
    for number in 0..1000 {
        pair.deliver(address(number), &octets);
        pair.run(5);
    }
    let counters = *pair.server.counters();
    assert_eq!((pair.server.len(), counters.candidates_displaced, counters.candidates_full), (5, 996, 0));
    pair.up();
}

#[test]
fn lookups_that_are_answered_leave_nothing_behind() {
    let mut pair = Pair::with(4, 0, roomy());
    let mut rng = Seeded::new(1);
    for number in 0..100 {
        let octets = hello(&mut rng, [9; 16]);
        pair.deliver(address(number), &octets);
        pair.run(5);
    }
    assert_eq!(pair.server.counters().refused, 100);
    assert_eq!(pair.server.deadline(), None, "nothing is waited for");
}

#[test]
fn two_servers_do_not_answer_each_other_without_end() {
    let mut pair = Pair::with(6, 0, roomy());
    for number in 1..50u32 {
        let mut octets = number.to_be_bytes().to_vec();
        octets.resize(16, 0);
        let mut answers = 0;
        // What a server of its kind would answer to the answer.
        while pair.answers.len() == answers {
            pair.deliver(address(number), &octets);
            answers += 1;
            assert!(answers < 100, "a loop");
        }
        pair.answers.clear();
    }
    // One of another version refuses what it does not know, in its own version.
    let refusal = [0, 0, 0, 0, 4, 2, 0, 4, 1, 2, 3, 4, 5, 6, 7, 8];
    pair.deliver(address(1), &refusal);
    assert!(pair.answers.is_empty());
    for kind in [1, 5] {
        let mut octets = vec![0; 256];
        octets[4..6].copy_from_slice(&[kind, 2]);
        pair.deliver(address(1), &octets);
        assert!(matches!(
            Datagram::decode(&pair.answers.pop().unwrap().1),
            Ok(Datagram::Refuse { reason: Refusal::Version, .. })
        ));
    }
}

#[test]
fn an_address_that_cannot_be_answered_is_none() {
    let mut pair = Pair::with(6, 0, roomy());
    let octets = hello(&mut Seeded::new(1), [9; 16]);
    pair.deliver(Path::Datagram("[100::7]:0".parse().unwrap()), &octets);
    pair.run(100);
    assert_eq!((pair.answers.len(), pair.server.counters().malformed), (0, 1), "it is no stream's");
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
        octets.extend_from_slice(&[0; 28]);
        pair.deliver(address(number), &octets);
    }
    let counters = *pair.server.counters();
    assert_eq!((counters.resets, counters.resets_withheld, counters.unknown_ids), (10, 90, 100));
    let mut pair = Pair::with(6, 0, roomy());
    for number in 1..=1000u32 {
        let mut octets = number.to_be_bytes().to_vec();
        octets.extend_from_slice(&[0; 12]);
        pair.deliver(address(number), &octets);
    }
    assert!(
        (700..800).contains(&pair.server.counters().resets),
        "a heartbeat is answered three times in four"
    );
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

/// Devices that begin messages and never end them: as many as would have taken all there is, if each took all it may.
#[test]
fn some_who_take_all_they_can_leave_room_for_others() {
    let config = ServerConfig { max_held: 4000, max_queued: 2_000_000, ..roomy() };
    let mut pair = Pair::with(11, 41, config);
    pair.up();
    for at in 0..40 {
        // The first piece of each message is lost.
        let before = pair.devices[at].sent.len();
        pair.cut = true;
        for _ in 0..3 {
            pair.send_up(at, &[5; 100 * PIECE]);
        }
        pair.cut = false;
        let sent = pair.devices[at].sent[before..].to_vec();
        let from = Path::Datagram(pair.devices[at].address);
        for octets in &sent[1..] {
            pair.deliver(from, octets);
        }
    }
    let session = pair.session(40);
    pair.send_up(40, &[7; 5 * PIECE]);
    pair.run(2000);
    assert_eq!(pair.messages(session), [vec![7; 5 * PIECE]]);

    // Devices that acknowledge nothing.
    pair.cut = true;
    for at in 0..40 {
        let session = pair.session(at);
        while pair.server.send(pair.now, session, vec![1; 10_000]).is_ok() {}
    }
    assert!(pair.server.counters().full_of_all > 0, "the bound is reached");
    pair.cut = false;
    pair.send_down(40, &[8; 5000]);
    pair.run(1000);
    assert_eq!(pair.devices[40].messages(), [vec![8; 5000]]);
}

#[test]
fn one_address_takes_no_lookups_and_candidates_from_others() {
    let mut pair = Pair::with(12, 1, ServerConfig { max_lookups: 90, max_candidates: 30, ..roomy() });
    let mut rng = Seeded::new(1);
    let of_one = |port: u16| Path::Datagram(([10, 9, 9, 9], port).into());
    pair.port = None;
    for port in 1..1000 {
        let octets = hello(&mut rng, [9; 16]);
        pair.deliver(of_one(port), &octets);
    }
    assert_eq!(pair.server.counters().lookups_full, 999 - 30, "a third");
    for number in 0..20 {
        let octets = hello(&mut rng, [9; 16]);
        pair.deliver(address(number), &octets);
    }
    assert_eq!(pair.server.counters().lookups_full, 999 - 30);
    pair.run(11_000);

    // Candidates who prove nothing, each another device.
    let mut pair = Pair::with(12, 100, ServerConfig { max_candidates: 30, ..roomy() });
    for at in 0..99u16 {
        let mut client = hailpost::link::Client::new(pair.client_config(at.into()), Seeded::new(at.into()));
        client.open(pair.now);
        let Some(hailpost::link::ClientOutput::Send(octets)) = client.poll_output(pair.now) else { panic!() };
        pair.deliver(of_one(at + 1), &octets);
        pair.run(5);
    }
    assert_eq!((pair.server.len(), pair.server.counters().candidates_full), (10, 89));
    pair.devices[99].client.open(pair.now);
    pair.run(1000);
    assert!(pair.devices[99].client.is_up());
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
    assert_eq!(
        pair.server.counters().pieces_refused as usize,
        sent.len() - 1 - 2,
        "half of them at the most"
    );
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
