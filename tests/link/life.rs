//! The life of a session: heartbeats, silence, resets, other addresses, other keys, the end.

use std::time::Duration;

use hailpost::{
    link::{ClientEvent, Closing, Path, ServerOutput, Why},
    status::Status,
};

use crate::pair::{CALM, Pair, ROUGH};

#[test]
fn a_sign_of_life_costs_sixteen_octets_each_way() {
    let mut pair = Pair::new(1, 1);
    pair.up();
    pair.run(1000);
    let (sent, answers) = (pair.devices[0].sent.len(), pair.answers.len());
    pair.run(300_000);
    let sent = &pair.devices[0].sent[sent..];
    let answers = &pair.answers[answers..];
    assert_eq!((sent.len(), answers.len()), (10, 10));
    assert!(sent.iter().all(|octets| octets.len() == 16));
    assert!(answers.iter().all(|(_, octets)| octets.len() == 16));
}

#[test]
fn a_silent_device_is_given_up_after_three_intervals_and_a_silent_server_after_seven_seconds() {
    let mut pair = Pair::new(2, 1);
    pair.up();
    pair.cut = true;
    let cut = pair.now;
    pair.run(200_000);
    let (gone, event) = pair.events.last().unwrap();
    assert!(matches!(event, ServerOutput::Gone { why: Why::Silent, .. }));
    let after = gone.since(cut).as_secs();
    assert!((85..=95).contains(&after), "{after}");
    let down = ClientEvent::Down(Why::Silent);
    let (lost, _) = pair.devices[0].events.iter().find(|(_, event)| *event == down).unwrap();
    assert!(lost.since(cut).as_secs() <= 38, "{:?}", lost.since(cut));
    pair.cut = false;
    let now = pair.now;
    pair.devices[0].client.network_changed(now);
    pair.run(2000);
    assert!(pair.devices[0].client.is_up());
    assert_eq!(pair.server.counters().handshakes, 1, "it came back by its ticket");
}

#[test]
fn a_server_that_says_nothing_is_asked_by_ticket_and_only_seldom_by_a_handshake() {
    let mut pair = Pair::new(14, 1);
    pair.up();
    pair.cut = true;
    let hellos = |pair: &Pair| pair.devices[0].client.counters().handshakes - 1;
    // Three rounds of four resumes, and the pauses between them.
    pair.run(80_000);
    assert_eq!(hellos(&pair), 0);
    assert!(pair.devices[0].client.counters().asked > 8);
    // A ticket that is never answered is suspected in the end.
    pair.run(60_000);
    assert_eq!(hellos(&pair), 1);
}

#[test]
fn a_forged_reset_is_nothing() {
    let mut pair = Pair::new(3, 1);
    pair.up();
    let id: [u8; 4] = pair.devices[0].sent.last().unwrap()[..4].try_into().unwrap();
    for guess in 0..1000u32 {
        let mut reset = id.to_vec();
        reset.extend_from_slice(&[guess as u8; 12]);
        pair.devices[0].client.handle(pair.now, &reset);
    }
    pair.run(100_000);
    assert_eq!(pair.devices[0].client.counters().resets, 0);
    assert_eq!(pair.devices[0].client.counters().sessions, 1);
}

#[test]
fn data_from_another_address_moves_the_session_once_it_answers_from_there() {
    let mut pair = Pair::new(4, 1);
    pair.up();
    let session = pair.session(0);
    pair.rebind(0);
    let there = Path::Datagram(pair.devices[0].address);
    pair.send_up(0, b"from elsewhere");
    pair.run(15);
    assert_ne!(pair.server.path(session), Some(there), "not before it is proven");
    pair.run(100);
    assert_eq!(pair.server.path(session), Some(there));
    pair.send_down(0, b"found you");
    pair.run(500);
    assert_eq!(pair.devices[0].messages(), [b"found you"]);
    assert_eq!((pair.sessions(0).len(), pair.server.counters().moved), (1, 1), "no new login");
}

#[test]
fn an_idle_device_behind_a_nat_that_forgot_it_is_found_again_without_a_login() {
    let mut pair = Pair::new(5, 1);
    pair.up();
    pair.rebind(0);
    pair.run(40_000);
    assert_eq!(pair.server.path(pair.session(0)), Some(Path::Datagram(pair.devices[0].address)));
    assert_eq!((pair.sessions(0).len(), pair.devices[0].client.counters().lost), (1, 0));
    pair.rebind(0);
    pair.devices[0].client.network_changed(pair.now);
    pair.run(100);
    assert_eq!(pair.server.path(pair.session(0)), Some(Path::Datagram(pair.devices[0].address)));
}

#[test]
fn a_heartbeat_moves_nothing_and_a_copied_datagram_does_not_either() {
    let mut pair = Pair::new(6, 1);
    pair.up();
    let session = pair.session(0);
    let home = pair.server.path(session);
    let thief = Path::Datagram("198.51.100.9:9".parse().unwrap());
    // What the device sends now arrives from the thief first, and only from there.
    for kind in 0..2 {
        let before = pair.devices[0].sent.len();
        pair.cut = true;
        match kind {
            0 => pair.run(31_000),
            _ => drop(pair.send_up(0, &[1; 2000])),
        }
        pair.cut = false;
        for octets in pair.devices[0].sent.split_off(before) {
            pair.deliver(thief, &octets);
        }
        pair.run(500);
        assert_eq!(pair.server.path(session), home);
    }
    let (came, went) = (pair.came[&thief], pair.went.get(&thief).copied().unwrap_or(0));
    assert!(went > 0 && went <= 3 * came, "{went} for {came}");
    pair.run(5000);
    assert_eq!((pair.server.path(session), pair.server.counters().moved), (home, 0));
    assert_eq!(pair.messages(session), [[1; 2000]], "and what was in them counts");
}

#[test]
fn keys_change_under_traffic_and_nothing_is_lost() {
    for seed in 0..20 {
        let mut pair = Pair::new(seed, 0);
        let mut config = pair.client_config(0);
        config.rekey_after = Duration::from_secs(5);
        let credential = hailpost::link::Credential {
            secret: config.secret,
            principal: 1,
            expiry: pair.unix * 2,
            epoch: 0,
        };
        pair.credentials.insert(config.session_id, credential);
        pair.add_client(config);
        pair.up();
        pair.conditions = if seed == 0 { CALM } else { ROUGH };
        let (mut up, mut down) = (Vec::new(), Vec::new());
        for round in 0..40u32 {
            let octets = vec![round as u8; 100 + 50 * round as usize];
            if pair.devices[0].client.send(pair.now, octets.clone()).is_ok() {
                up.push(octets.clone());
            }
            let session = pair.session(0);
            if pair.server.send(pair.now, session, octets.clone()).is_ok() {
                down.push(octets);
            }
            pair.settle();
            pair.run(500);
        }
        pair.conditions = CALM;
        pair.run(30_000);
        let lost = pair.devices[0].client.counters().lost;
        if lost == 0 {
            assert_eq!(pair.messages(pair.session(0)), up, "seed {seed}");
            assert_eq!(pair.devices[0].messages(), down, "seed {seed}");
            assert!(pair.server.counters().rekeys >= 3, "seed {seed}");
        }
        assert!(seed != 0 || lost == 0);
    }
}

#[test]
fn a_rekey_that_is_refused_leads_to_a_handshake() {
    let mut pair = Pair::new(8, 0);
    let mut config = pair.client_config(0);
    config.rekey_after = Duration::from_secs(20);
    let secret = config.secret;
    let credential = hailpost::link::Credential { secret, principal: 1, expiry: pair.unix + 10, epoch: 0 };
    pair.credentials.insert(config.session_id, credential);
    pair.add_client(config);
    pair.up();
    let id = pair.devices[0].session_id;
    pair.credentials.get_mut(&id).unwrap().expiry = pair.unix * 2;
    pair.run(30_000);
    assert_eq!(pair.devices[0].count(|event| *event == ClientEvent::Down(Why::Rekey)), 1);
    assert!(pair.devices[0].client.is_up());
    assert_eq!((pair.server.counters().bad_rekeys, pair.server.counters().handshakes), (1, 2));
}

#[test]
fn each_end_can_close_and_the_other_knows() {
    let mut pair = Pair::new(9, 2);
    pair.up();
    let sessions = [pair.session(0), pair.session(1)];
    pair.devices[0].client.close(pair.now);
    pair.server.close(pair.now, sessions[1], Closing::Drained);
    pair.settle();
    pair.run(100);
    let done = Why::Closed(Closing::Done);
    let is_gone = |event: &ServerOutput| matches!(event, ServerOutput::Gone { session, why, .. } if *session == sessions[0] && *why == done);
    assert_eq!(pair.count(is_gone), 1);
    assert_eq!(pair.count(|event| matches!(event, ServerOutput::Gone { .. })), 1);
    let down = ClientEvent::Down(Why::Closed(Closing::Drained));
    assert_eq!(pair.devices[1].count(|event| *event == down), 1);
    let fault = pair.server.send(pair.now, sessions[0], vec![]).unwrap_err();
    assert_eq!(fault.status, Status::NotFound);
    let fault = pair.devices[0].client.send(pair.now, vec![]).unwrap_err();
    assert_eq!(fault.status, Status::State);
    pair.run(10_000);
    assert!(!pair.devices[0].client.is_up() && pair.devices[1].client.is_up());
}

#[test]
fn a_server_that_drains_says_so() {
    let mut pair = Pair::new(10, 2);
    pair.devices[0].client.open(pair.now);
    pair.run(500);
    pair.server.drain(true);
    pair.devices[1].client.open(pair.now);
    pair.run(70_000);
    assert_eq!(pair.devices[0].count(|event| *event == ClientEvent::Draining), 1);
    assert!(pair.devices[0].client.is_up() && !pair.devices[1].client.is_up());
}

#[test]
fn a_peer_that_never_acknowledges_is_given_up() {
    let mut pair = Pair::new(11, 1);
    pair.up();
    pair.send_down(0, b"anybody?");
    pair.cut = true;
    let home = Path::Datagram(pair.devices[0].address);
    let (mut sent, mut answers) = (pair.devices[0].sent.len(), pair.answers.len());
    for _ in 0..300 {
        pair.run(1000);
        // Heartbeats come through, and nothing else.
        for octets in pair.devices[0].sent.split_off(sent) {
            if octets.len() == 16 {
                pair.deliver(home, &octets);
            }
        }
        sent = pair.devices[0].sent.len();
        for (_, octets) in pair.answers.split_off(answers) {
            if octets.len() == 16 {
                let now = pair.now;
                pair.devices[0].client.handle(now, &octets);
            }
        }
        answers = pair.answers.len();
    }
    let gone = |event: &ServerOutput| matches!(event, ServerOutput::Gone { why: Why::Unreachable, .. });
    assert_eq!((pair.count(gone), pair.server.counters().unreachable), (1, 1));
}

#[test]
fn a_session_can_be_on_a_stream() {
    let mut pair = Pair::new(12, 1);
    let stream = Path::Stream(77);
    pair.devices[0].client.open(pair.now);
    let now = pair.now;
    let mut up = false;
    for _ in 0..20 {
        while let Some(output) = pair.devices[0].client.poll_output(now) {
            if let hailpost::link::ClientOutput::Send(octets) = output {
                pair.deliver(stream, &octets);
            }
        }
        pair.port = Some(Duration::ZERO);
        pair.run(10);
        for (to, octets) in std::mem::take(&mut pair.answers) {
            assert_eq!(to, stream);
            let now = pair.now;
            pair.devices[0].client.handle(now, &octets);
        }
        up |= pair.devices[0].client.is_up();
    }
    assert!(up && pair.server.path(pair.session(0)) == Some(stream));
}

#[test]
fn what_was_lost_on_the_old_way_goes_out_again_as_soon_as_the_session_moved() {
    let mut pair = Pair::new(1, 1);
    pair.up();
    pair.cut = true;
    pair.send_down(0, b"where are you");
    pair.run(20_000);
    pair.cut = false;
    pair.rebind(0);
    pair.devices[0].client.network_changed(pair.now);
    pair.settle();
    pair.run(500);
    assert_eq!(pair.devices[0].messages(), [b"where are you"]);
}
