//! Getting a session: handshake, cookie, refusal, resume, restart, keys that change.

use std::time::Duration;

use hailpost::{
    link::{ClientEvent, Path, ServerConfig, ServerOutput, Why, public_key},
    wire::link::{self, Datagram, Refusal},
};

use crate::pair::{NEXT_PRIVATE, Pair, ROUGH, UNIX};

#[test]
fn a_device_logs_in_and_messages_go_both_ways() {
    let mut pair = Pair::new(1, 1);
    pair.up();
    assert_eq!(pair.send_up(0, b"good evening"), 0);
    assert_eq!(pair.send_down(0, &[7; 5000]), 0);
    pair.run(500);
    assert_eq!(pair.messages(pair.session(0)), [b"good evening"]);
    assert_eq!(pair.devices[0].messages(), [[7; 5000]]);
    assert_eq!(pair.devices[0].count(|event| *event == ClientEvent::Acked(0)), 1);
    assert_eq!(pair.count(|event| matches!(event, ServerOutput::Acked { message: 0, .. })), 1);
    pair.run(5000);
    assert_eq!(pair.server.active(), 0, "nothing is kept while nothing is under way");
    assert_eq!((pair.server.counters().handshakes, pair.server.counters().unopened), (1, 0));
    pair.send_up(0, b"after a pause");
    pair.run(500);
    assert_eq!(pair.messages(pair.session(0)).len(), 2);
}

#[test]
fn it_logs_in_over_a_bad_network_with_one_session_in_the_end() {
    for seed in 0..30 {
        let mut pair = Pair::new(seed, 3);
        pair.conditions = ROUGH;
        for device in &mut pair.devices {
            device.client.open(pair.now);
        }
        pair.run(120_000);
        for at in 0..3 {
            assert!(pair.devices[at].client.is_up(), "seed {seed}: {:?}", pair.devices[at].client.counters());
        }
        assert_eq!(pair.server.len(), 3, "seed {seed}");
    }
}

#[test]
fn who_is_unknown_or_has_another_secret_is_not_let_in() {
    let mut pair = Pair::new(2, 2);
    let id = pair.devices[0].session_id;
    pair.credentials.remove(&id);
    let id = pair.devices[1].session_id;
    pair.credentials.get_mut(&id).unwrap().secret = [0; 32];
    for device in &mut pair.devices {
        device.client.open(pair.now);
    }
    pair.run(120_000);
    assert_eq!(pair.server.len(), 0);
    let refused = ClientEvent::Refused(Refusal::Unknown);
    let times: Vec<_> =
        pair.devices[0].events.iter().filter(|(_, event)| *event == refused).map(|(at, _)| *at).collect();
    assert!((4..20).contains(&times.len()), "{}", times.len());
    let gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.last() > gaps.first(), "later and later: {gaps:?}");
    assert_eq!(
        pair.devices[1].count(|event| matches!(event, ClientEvent::Refused(_))),
        0,
        "who does not open gets nothing"
    );
    assert!(pair.server.counters().bad_hellos > 0);
}

#[test]
fn a_credential_that_is_over_or_revoked_is_unknown() {
    let mut pair = Pair::new(3, 2);
    let id = pair.devices[0].session_id;
    pair.credentials.get_mut(&id).unwrap().expiry = pair.unix;
    pair.server.revoke(pair.now, 2, 1);
    for device in &mut pair.devices {
        device.client.open(pair.now);
    }
    pair.run(5000);
    assert_eq!((pair.server.len(), pair.server.counters().handshakes), (0, 0));
}

#[test]
fn under_load_a_cookie_is_asked_before_any_lookup() {
    let mut pair = Pair::with(4, 1, ServerConfig { hellos_without_cookie: 0, ..ServerConfig::default() });
    pair.up();
    let counters = *pair.server.counters();
    assert_eq!((counters.cookies, counters.bad_cookies, counters.handshakes), (1, 0, 1));
    assert_eq!(pair.devices[0].client.counters().cookies, 1);
}

#[test]
fn a_thousand_sessions_are_back_after_a_restart_within_two_seconds_and_without_diffie_hellman() {
    let mut pair = Pair::with(5, 0, ServerConfig { hellos_without_cookie: 5000, ..ServerConfig::default() });
    for at in 0..1000u32 {
        let mut config = pair.client_config(0);
        config.session_id = [0; 16];
        config.session_id[..4].copy_from_slice(&at.to_be_bytes());
        config.interval = 10;
        let credential = hailpost::link::Credential {
            secret: config.secret,
            principal: at.into(),
            expiry: pair.unix * 2,
            epoch: 0,
        };
        pair.credentials.insert(config.session_id, credential);
        let index = pair.add_client(config);
        pair.devices[index].address = ([10, 0, (at >> 8) as u8, at as u8], 5).into();
    }
    pair.up();
    assert_eq!(pair.server.len(), 1000);
    pair.restart();
    // Each says something, as it would at its next heartbeat.
    let from = pair.now;
    for at in 0..1000 {
        pair.send_up(at, b"still there?");
    }
    pair.run(2000);
    let back = pair
        .devices
        .iter()
        .filter(|device| {
            device
                .events
                .iter()
                .any(|(at, event)| *at >= from && matches!(event, ClientEvent::Up { resumed: true, .. }))
        })
        .count();
    let counters = pair.server.counters();
    assert_eq!((back, counters.sessions, counters.resumed, counters.handshakes), (1000, 1000, 1000, 0));
    assert!(pair.devices.iter().all(|device| device.client.counters().handshakes == 1));
}

#[test]
fn a_heartbeat_after_a_restart_is_answered_by_a_reset() {
    let mut pair = Pair::new(6, 1);
    pair.up();
    pair.restart();
    pair.run(31_000);
    assert_eq!(pair.devices[0].count(|event| *event == ClientEvent::Down(Why::Reset)), 1);
    assert_eq!(pair.server.counters().resumed, 1);
    assert!(pair.devices[0].client.is_up());
}

#[test]
fn a_ticket_that_is_over_revoked_or_of_another_server_leads_to_a_handshake() {
    type Spoil = fn(&mut Pair);
    let ways: [Spoil; 3] = [
        |pair| pair.secrets.tickets.key = [0; 32],
        |pair| pair.unix += 8 * 86_400,
        |pair| {
            let id = pair.devices[0].session_id;
            pair.credentials.get_mut(&id).unwrap().epoch = 1;
        },
    ];
    for (at, spoil) in ways.into_iter().enumerate() {
        let mut pair = Pair::new(7, 1);
        pair.up();
        spoil(&mut pair);
        pair.restart();
        if at == 2 {
            pair.server.revoke(pair.now, 1, 1);
        }
        pair.send_up(0, b"hello?");
        pair.run(5000);
        let counters = *pair.server.counters();
        assert!(pair.devices[0].client.is_up());
        assert_eq!((counters.bad_tickets, counters.resumed, counters.handshakes), (1, 0, 1), "way {at}");
    }
}

/// The wall clock jumps forwards and back: sessions stay, a ticket of days to come is none, and a login is a login.
#[test]
fn a_clock_that_jumps_ends_no_session_and_leaves_no_ticket_for_ever() {
    for forward in [3u64, 400] {
        let mut pair = Pair::new(7, 1);
        pair.up();
        let true_unix = |pair: &Pair| UNIX + pair.now.as_micros() / 1_000_000;
        let ahead = true_unix(&pair) + forward * 86_400;
        pair.server.set_unix(pair.now, ahead);
        // A ticket of that time.
        pair.devices[0].client.close(pair.now);
        pair.run(1000);
        pair.devices[0].client.open(pair.now);
        pair.run(120_000);
        assert!(pair.devices[0].client.is_up());
        let sessions = pair.server.counters().sessions;
        let back = true_unix(&pair);
        pair.server.set_unix(pair.now, back);
        pair.run(120_000);
        pair.send_up(0, b"still there");
        pair.run(1000);
        assert_eq!(pair.server.counters().sessions, sessions, "the session went on");
        let (bad, handshakes) = (pair.server.counters().bad_tickets, pair.server.counters().handshakes);
        pair.devices[0].client.close(pair.now);
        pair.run(1000);
        pair.devices[0].client.open(pair.now);
        pair.run(5000);
        assert!(pair.devices[0].client.is_up());
        let counters = pair.server.counters();
        assert_eq!((counters.bad_tickets, counters.handshakes), (bad + 1, handshakes + 1));
        // And from now on tickets are good again.
        let resumed = counters.resumed;
        pair.devices[0].client.close(pair.now);
        pair.run(1000);
        pair.devices[0].client.open(pair.now);
        pair.run(5000);
        assert_eq!(pair.server.counters().resumed, resumed + 1);
    }
}

#[test]
fn a_revocation_ends_the_session_and_the_tickets() {
    let mut pair = Pair::new(8, 1);
    pair.up();
    let id = pair.devices[0].session_id;
    pair.credentials.remove(&id);
    pair.server.revoke(pair.now, 1, 1);
    pair.run(60_000);
    assert!(!pair.devices[0].client.is_up());
    assert_eq!(pair.server.len(), 0);
    assert!(pair.server.counters().bad_tickets >= 1);
}

#[test]
fn a_replayed_hello_or_resume_changes_nothing() {
    let mut pair = Pair::new(9, 1);
    pair.up();
    let hello = pair.devices[0].sent.iter().find(|sent| sent.len() == 256).unwrap().clone();
    pair.restart();
    pair.send_up(0, b"x");
    pair.run(2000);
    let resume = pair.devices[0].sent.iter().rev().find(|sent| sent.len() == 256).unwrap().clone();
    assert!(matches!(Datagram::decode(&resume), Ok(Datagram::Resume(_))));
    let (session, path) = (pair.session(0), pair.server.path(pair.session(0)));
    let elsewhere = Path::Datagram("198.51.100.1:1".parse().unwrap());
    for _ in 0..5 {
        for octets in [&hello, &resume] {
            pair.deliver(elsewhere, octets);
            pair.run(100);
        }
    }
    assert_eq!(pair.server.len(), 3, "two candidates, each once");
    assert!(pair.went[&elsewhere] <= pair.came[&elsewhere]);
    pair.run(11_000);
    assert_eq!((pair.server.len(), pair.server.counters().candidates_expired), (1, 2));
    assert_eq!((pair.session(0), pair.server.path(session)), (session, path));
    pair.send_up(0, b"still here");
    pair.run(500);
    assert_eq!(pair.messages(session), [b"still here"]);
}

#[test]
fn a_lost_accept_is_sent_again_without_another_handshake() {
    let mut pair = Pair::new(10, 1);
    pair.devices[0].client.open(pair.now);
    pair.run(5);
    let hello = pair.devices[0].sent[0].clone();
    let from = Path::Datagram(pair.devices[0].address);
    pair.run(20);
    pair.deliver(from, &hello);
    pair.deliver(from, &hello);
    assert_eq!((pair.server.counters().handshakes, pair.server.counters().repeated), (1, 2));
}

#[test]
fn server_keys_change_without_a_device_noticing() {
    let mut pair = Pair::new(11, 1);
    pair.secrets.next_private = Some(NEXT_PRIVATE);
    pair.restart();
    pair.up();
    let next = public_key(&NEXT_PRIVATE);
    assert_eq!(pair.devices[0].count(|event| *event == ClientEvent::NextKey(next)), 1);
    // The old key is gone, and the tickets with it.
    pair.secrets.private = NEXT_PRIVATE;
    pair.secrets.next_private = None;
    pair.secrets.tickets.key = [0; 32];
    pair.restart();
    pair.send_up(0, b"?");
    pair.run(10_000);
    assert!(pair.devices[0].client.is_up());
    assert_eq!(pair.devices[0].count(|event| *event == ClientEvent::KeyChanged(next)), 1);
    assert_eq!(pair.devices[0].count(|event| *event == ClientEvent::Refused(Refusal::OtherKey)), 1);
}

#[test]
fn a_newer_login_of_the_same_device_replaces_the_older() {
    let mut pair = Pair::new(12, 1);
    pair.up();
    let first = pair.session(0);
    let twin = pair.client_config(0);
    let twin = pair.add_client(twin);
    pair.devices[twin].client.open(pair.now);
    pair.run(500);
    assert_eq!(pair.server.len(), 1);
    let order: Vec<_> = pair.events.iter().map(|(_, event)| event.clone()).collect();
    assert!(matches!(order[1], ServerOutput::Gone { session, why: Why::Replaced, .. } if session == first));
    assert!(matches!(order[2], ServerOutput::SessionUp { .. }));
    assert_eq!(pair.devices[0].count(|event| matches!(event, ClientEvent::Down(Why::Closed(_)))), 1);
}

#[test]
fn who_passes_an_accept_on_does_not_get_the_session() {
    let mut pair = Pair::new(13, 1);
    let thief = Path::Datagram("198.51.100.1:1".parse().unwrap());
    pair.cut = true;
    pair.devices[0].client.open(pair.now);
    pair.run(10);
    let hello = pair.devices[0].sent[0].clone();
    pair.deliver(thief, &hello);
    pair.run(10);
    pair.cut = false;
    let (to, accept) = pair.answers.last().unwrap().clone();
    assert_eq!(to, thief);
    let now = pair.now;
    pair.devices[0].client.handle(now, &accept);
    pair.run(500);
    assert_eq!((pair.server.counters().sessions, pair.server.counters().proven_elsewhere), (0, 1));
    pair.run(20_000);
    assert_eq!(pair.server.path(pair.session(0)), Some(Path::Datagram(pair.devices[0].address)));
}

#[test]
fn an_address_may_be_written_in_either_family() {
    let mut pair = Pair::new(14, 1);
    pair.port = Some(Duration::ZERO);
    pair.cut = true;
    pair.devices[0].client.open(pair.now);
    pair.settle();
    let mapped = Path::Datagram("[::ffff:192.0.2.1]:4000".parse().unwrap());
    for _ in 0..3 {
        for octets in std::mem::take(&mut pair.devices[0].sent) {
            pair.deliver(mapped, &octets);
        }
        pair.run(10);
        for (_, octets) in std::mem::take(&mut pair.answers) {
            let now = pair.now;
            pair.devices[0].client.handle(now, &octets);
        }
        pair.settle();
    }
    let home = Path::Datagram(pair.devices[0].address);
    assert_eq!(pair.server.path(pair.session(0)), Some(home));
}

#[test]
fn a_device_that_moves_while_it_logs_in_takes_another_cookie() {
    let config = ServerConfig { hellos_without_cookie: 0, ..ServerConfig::default() };
    let mut pair = Pair::with(31, 1, config);
    pair.devices[0].client.open(pair.now);
    while pair.devices[0].client.counters().cookies == 0 {
        pair.run(1);
    }
    pair.rebind(0);
    pair.devices[0].client.network_changed(pair.now);
    pair.settle();
    pair.run(500);
    assert!(pair.devices[0].client.is_up());
}

#[test]
fn who_only_listens_does_not_make_a_device_give_up() {
    let mut pair = Pair::new(32, 1);
    pair.devices[0].client.open(pair.now);
    pair.settle();
    let echo = pair.devices[0].sent[0][42..50].try_into().unwrap();
    for octets in [link::refuse(Refusal::Unknown, echo), link::cookie(echo, [9; 16])] {
        pair.devices[0].client.handle(pair.now, &octets);
    }
    pair.settle();
    pair.run(500);
    assert!(pair.devices[0].client.is_up(), "the server's own answer is still heard");
}
