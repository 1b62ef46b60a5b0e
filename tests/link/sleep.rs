//! Devices whose platforms sleep: nothing is due and nothing is sent, and on waking nothing is lost.

use std::time::Duration;

use hailpost::link::{ClientEvent, Path, ServerConfig, ServerOutput, Why};

use crate::pair::{CALM, Nat, Pair, ROUGH};

const HOUR: u64 = 3_600_000;

fn suspended(pair: &Pair, device: usize) -> Vec<bool> {
    let told = |(_, event): &(_, ClientEvent)| match event {
        ClientEvent::Suspended { told } => Some(*told),
        _ => None,
    };
    pair.devices[device].events.iter().filter_map(told).collect()
}

/// Suspends a device and lets it fall asleep.
fn suspend(pair: &mut Pair, device: usize, seconds: u32) {
    let now = pair.now;
    assert!(pair.devices[device].client.suspend(now, seconds));
    pair.settle();
    while pair.devices[device].client.deadline().is_some() {
        pair.run(100);
        assert!(pair.now.since(now) <= Duration::from_secs(8), "it falls asleep in time");
    }
    assert!(pair.devices[device].client.is_asleep());
}

fn resume(pair: &mut Pair, device: usize) {
    let now = pair.now;
    pair.devices[device].client.resume(now);
    pair.settle();
}

fn gone(pair: &Pair) -> Vec<Why> {
    let why = |(_, event): &(_, ServerOutput)| match event {
        ServerOutput::Gone { why, .. } => Some(*why),
        _ => None,
    };
    pair.events.iter().filter_map(why).collect()
}

#[test]
fn a_device_that_sleeps_is_left_alone_and_gets_what_waited_when_it_wakes() {
    let mut pair = Pair::new(1, 1);
    pair.up();
    suspend(&mut pair, 0, 0);
    assert_eq!(suspended(&pair, 0), [true]);
    let (came, went) = (pair.came.clone(), pair.went.clone());
    for at in 0..14u8 {
        pair.run(HOUR);
        pair.send_down(0, &[at; 700]);
    }
    assert_eq!((&pair.came, &pair.went), (&came, &went), "nobody says anything");
    assert_eq!(pair.server.active(), 1);
    resume(&mut pair, 0);
    pair.run(1000);
    let expected: Vec<Vec<u8>> = (0..14).map(|at| vec![at; 700]).collect();
    assert_eq!(pair.devices[0].messages(), expected);
    assert_eq!((gone(&pair), pair.devices[0].client.counters().lost), (vec![], 0));
    pair.run(10_000);
    assert_eq!(pair.server.active(), 0, "and nothing is left of it");
    pair.run(100_000);
    assert_eq!(gone(&pair), [], "it beats as before");
}

#[test]
fn what_is_under_way_when_it_falls_asleep_arrives_once_and_in_order() {
    for seed in 0..50 {
        let mut pair = Pair::new(seed, 1);
        pair.up();
        pair.conditions = ROUGH;
        for at in 0..40u8 {
            pair.send_up(0, &[at; 900]);
            pair.send_down(0, &[at; 900]);
        }
        pair.run(seed * 20);
        suspend(&mut pair, 0, 3600);
        pair.send_down(0, b"later");
        pair.devices[0].client.send(pair.now, b"later".to_vec()).unwrap();
        pair.run(HOUR / 2);
        resume(&mut pair, 0);
        pair.conditions = CALM;
        pair.run(60_000);
        let mut expected: Vec<Vec<u8>> = (0..40).map(|at| vec![at; 900]).collect();
        expected.push(b"later".to_vec());
        if pair.sessions(0).len() == 1 {
            assert_eq!(pair.devices[0].messages(), expected);
            assert_eq!(pair.messages(pair.session(0)), expected);
        } else {
            // It was not told in this weather, and given up.
            assert_eq!(suspended(&pair, 0), [false], "seed {seed}");
        }
    }
}

#[test]
fn who_sleeps_for_too_long_is_given_up_and_comes_back_by_ticket() {
    let mut pair = Pair::new(1, 1);
    pair.up();
    suspend(&mut pair, 0, 1000);
    pair.run(HOUR / 2 + 80_000);
    assert_eq!(gone(&pair), [], "half an hour, and three intervals");
    pair.run(20_000);
    assert_eq!(gone(&pair), [Why::Silent]);
    pair.run(HOUR);
    resume(&mut pair, 0);
    pair.run(2000);
    assert!(pair.devices[0].client.is_up());
    assert_eq!(pair.server.counters().resumed, 1);
    assert_eq!(pair.devices[0].client.counters().handshakes, 1);
}

#[test]
fn a_server_that_does_not_answer_is_not_waited_for() {
    let mut pair = Pair::new(1, 2);
    pair.up();
    pair.cut = true;
    suspend(&mut pair, 0, 3600);
    assert_eq!(suspended(&pair, 0), [false]);
    // One that has no session, or is getting one, sleeps at once.
    let now = pair.now;
    pair.devices[1].client.close(now);
    pair.devices[1].client.open(now);
    assert!(pair.devices[1].client.suspend(now, 60));
    assert!(!pair.devices[1].client.suspend(now, 60), "once");
    assert_eq!(pair.devices[1].client.deadline(), None);
    pair.settle();
    assert_eq!(suspended(&pair, 1), [false]);
    pair.run(HOUR);
    pair.cut = false;
    for device in [0, 1] {
        resume(&mut pair, device);
    }
    pair.run(2000);
    assert!(pair.devices.iter().all(|device| device.client.is_up()));
}

#[test]
fn a_closed_device_stays_closed_whether_it_sleeps_or_not() {
    let mut pair = Pair::new(1, 2);
    pair.up();
    let now = pair.now;
    pair.devices[0].client.close(now);
    assert!(pair.devices[0].client.suspend(now, 0));
    assert!(pair.devices[1].client.suspend(now, 0));
    pair.devices[1].client.close(now);
    pair.settle();
    assert_eq!((suspended(&pair, 0), suspended(&pair, 1)), (vec![false], vec![false]));
    for device in [0, 1] {
        resume(&mut pair, device);
        assert_eq!(pair.devices[device].client.deadline(), None);
        pair.devices[device].client.open(pair.now);
    }
    pair.settle();
    pair.run(1000);
    assert!(pair.devices.iter().all(|device| device.client.is_up()));
}

#[test]
fn an_end_that_comes_while_it_sleeps_is_seen_and_answered_on_waking() {
    let mut pair = Pair::new(1, 2);
    pair.up();
    for device in [0, 1] {
        suspend(&mut pair, device, 0);
    }
    pair.server.revoke(pair.now, 1, 1);
    pair.settle();
    pair.restart();
    pair.run(HOUR);
    assert!(!pair.devices[0].client.is_up());
    assert_eq!(pair.next_of_devices(), None, "it waits for the platform");
    for device in [0, 1] {
        resume(&mut pair, device);
    }
    pair.run(3000);
    assert!(pair.devices.iter().all(|device| device.client.is_up()));
    assert_eq!(pair.devices[1].client.counters().resets, 1, "of the restart it hears on waking");
}

#[test]
fn it_wakes_behind_another_address_and_past_the_time_for_other_keys() {
    let mut pair = Pair::new(1, 1);
    pair.up();
    pair.devices[0].nat = Some(Nat::after(30));
    for _ in 0..3 {
        suspend(&mut pair, 0, 0);
        pair.run(10 * HOUR);
        pair.devices[0].client.network_changed(pair.now);
        pair.settle();
        assert_eq!(pair.next_of_devices(), None);
        pair.send_down(0, b"good morning");
        resume(&mut pair, 0);
        pair.run(5000);
    }
    assert_eq!(pair.devices[0].messages().len(), 3);
    assert_eq!(pair.devices[0].client.counters().lost, 0);
    assert_eq!(pair.devices[0].client.counters().rekeys, 1);
    assert_eq!(pair.server.counters().moved, 3);
}

#[test]
fn nobody_else_wakes_a_session() {
    let mut pair = Pair::new(1, 1);
    pair.up();
    pair.send_up(0, b"before");
    pair.run(1000);
    suspend(&mut pair, 0, 0);
    pair.send_down(0, b"secret");
    let went = pair.went.clone();
    for octets in pair.devices[0].sent.clone() {
        let from = Path::Datagram(pair.devices[0].address);
        if octets[..4] != [0; 4] {
            pair.deliver(from, &octets);
        }
    }
    pair.run(HOUR);
    assert_eq!(pair.went, went);
}

#[test]
fn resumed_before_it_slept_it_goes_on() {
    let mut pair = Pair::new(1, 1);
    pair.up();
    for _ in 0..10 {
        assert!(pair.devices[0].client.suspend(pair.now, 0));
        resume(&mut pair, 0);
    }
    pair.send_down(0, b"here");
    pair.run(1000);
    assert_eq!(pair.devices[0].messages(), [b"here"]);
    assert_eq!(suspended(&pair, 0), [false; 0]);
    pair.run(HOUR);
    assert_eq!(gone(&pair), []);
}

#[test]
fn what_waits_for_sleepers_has_a_bound() {
    let mut pair = Pair::with(1, 6, ServerConfig { max_asleep: 4, ..ServerConfig::default() });
    pair.up();
    for device in 0..6 {
        suspend(&mut pair, device, 0);
    }
    for device in 0..6 {
        let session = pair.session(device);
        let sent = pair.server.send(pair.now, session, b"later".to_vec());
        assert_eq!(sent.is_ok(), device < 4);
    }
    pair.settle();
    assert_eq!((gone(&pair).len(), pair.server.counters().asleep_full), (2, 2));
    (0..6).for_each(|device| resume(&mut pair, device));
    pair.run(3000);
    assert!(pair.devices.iter().all(|device| device.client.is_up()));
    assert_eq!(pair.devices.iter().map(|device| device.messages().len()).sum::<usize>(), 4);
    // With all awake there is room again.
    suspend(&mut pair, 5, 0);
    pair.send_down(5, b"later");
}

#[test]
fn what_waits_for_one_sleeper_and_the_octets_for_all_have_bounds_too() {
    let mut pair = Pair::with(1, 5, ServerConfig { max_queued: 1 << 20, ..ServerConfig::default() });
    pair.up();
    (0..5).for_each(|device| suspend(&mut pair, device, 0));
    let fill = |pair: &mut Pair, device: usize, (most, octets): (usize, usize)| {
        let session = pair.session(device);
        let sent =
            (0..most).take_while(|_| pair.server.send(pair.now, session, vec![1; octets]).is_ok()).count();
        (sent, pair.server.counters().asleep_full)
    };
    assert_eq!(fill(&mut pair, 0, (1000, 10)), (256, 1), "as many as may be under way");
    let (sent, given_up) = fill(&mut pair, 1, (1000, 10_000));
    assert!(sent < 14 && given_up == 2, "an eighth of what is left for all");
    assert_eq!(fill(&mut pair, 2, (10, 10_000)), (10, 2));
    assert_eq!(fill(&mut pair, 3, (10, 10_000)), (10, 2));
    assert_eq!(fill(&mut pair, 4, (10, 10_000)), (6, 3), "all that sleep have a quarter");
    pair.settle();
    assert_eq!(gone(&pair), [Why::Silent; 3]);
    // Who is awake has the rest.
    resume(&mut pair, 3);
    pair.run(10_000);
    assert_eq!(pair.devices[3].messages().len(), 10);
    assert_eq!(fill(&mut pair, 3, (5, 10_000)), (5, 3));
}
