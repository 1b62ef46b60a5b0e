//! How long a device is silent: the interval that a network allows, found, kept to, told to the server, left again.

use std::time::Duration;

use hailpost::link::{ClientConfig, ClientEvent, ServerConfig, ServerOutput, Silences};

use crate::pair::{CALM, Conditions, Nat, Pair};

const HOUR: u64 = 3_600_000;

/// A device that looks for an interval up to `longest`, behind something that forgets.
fn behind(seed: u64, nat: Nat, longest: u16) -> Pair {
    let mut pair = with(seed, longest, ServerConfig::default());
    pair.devices[0].nat = Some(nat);
    pair.up();
    pair
}

fn with(seed: u64, longest: u16, server: ServerConfig) -> Pair {
    let mut pair = Pair::with(seed, 1, server);
    let config = ClientConfig { longest, ..pair.client_config(0) };
    pair.devices.clear();
    pair.add_client(config);
    pair
}

fn interval(pair: &Pair) -> u64 {
    pair.devices[0].client.counters().interval
}

/// How long a message to the device takes, which was silent for as long as it is.
fn delay(pair: &mut Pair) -> Duration {
    let (before, begun) = (pair.devices[0].messages().len(), pair.now);
    pair.send_down(0, b"are you there");
    while pair.devices[0].messages().len() == before {
        pair.run(100);
        assert!(pair.now.since(begun) < Duration::from_secs(3600), "it never comes");
    }
    pair.now.since(begun)
}

#[test]
fn the_interval_comes_close_to_what_the_network_forgets_after() {
    for forgets in [20, 45, 100, 180, 600] {
        for (keeps_port, inward) in [(false, false), (true, false), (true, true)] {
            let nat = Nat { keeps_port, inward, ..Nat::after(forgets) };
            let mut pair = behind(1, nat, 1800);
            pair.run(6 * HOUR);
            let found = interval(&pair);
            assert!(found < forgets && found * 4 >= forgets * 3 - 12, "{found} of {forgets}");
            assert_eq!(pair.devices[0].client.counters().lost, 0);
            // Whenever it is asked, it is there.
            for ms in [7000, 23_000, 99_000] {
                pair.run(ms);
                assert!(delay(&mut pair) <= Duration::from_millis(500));
            }
        }
    }
}

#[test]
fn heartbeats_are_fewer_by_what_was_gained() {
    let mut still = behind(1, Nat::after(100_000), 30);
    let mut found = behind(1, Nat::after(100_000), 300);
    found.run(HOUR);
    still.run(HOUR);
    let sent = |pair: &Pair| pair.came.values().sum::<usize>();
    let before = [sent(&still), sent(&found)];
    [&mut still, &mut found].into_iter().for_each(|pair| pair.run(4 * HOUR));
    let [still, found] = [sent(&still) - before[0], sent(&found) - before[1]];
    assert!(still >= 16 * 460 && found * 8 <= still, "{found} octets of {still}");
}

#[test]
fn the_server_waits_three_intervals_in_use_and_no_longer() {
    let mut pair = behind(1, Nat::after(100_000), 300);
    pair.run(HOUR);
    assert_eq!(interval(&pair), 300);
    pair.cut = true;
    let gone = |pair: &Pair| pair.count(|event| matches!(event, ServerOutput::Gone { .. }));
    pair.run(550_000);
    assert_eq!(gone(&pair), 0, "it is believed to be there");
    pair.run(370_000);
    assert_eq!(gone(&pair), 1);
}

#[test]
fn what_the_server_is_told_is_heeded_only_when_it_is_the_newest() {
    let mut pair = with(1, 300, ServerConfig::default());
    pair.up();
    pair.run(HOUR);
    let old: Vec<Vec<u8>> = pair.devices[0].sent.clone();
    pair.devices[0].client.network_changed(pair.now);
    pair.settle();
    pair.run(1000);
    assert_eq!(interval(&pair), 30, "another network, of which nothing is known");
    for octets in &old {
        let from = hailpost::link::Path::Datagram(pair.devices[0].address);
        pair.deliver(from, octets);
    }
    pair.cut = true;
    pair.run(130_000);
    assert_eq!(pair.count(|event| matches!(event, ServerOutput::Gone { .. })), 1);
}

#[test]
fn a_server_with_a_bound_of_its_own_is_kept_to() {
    let mut pair = with(1, 1800, ServerConfig { intervals: (10, 60), ..ServerConfig::default() });
    pair.up();
    pair.run(2 * HOUR);
    assert_eq!((interval(&pair), pair.devices[0].client.counters().tries), (30, 0));
}

#[test]
fn a_network_that_forgets_sooner_than_before_is_noticed() {
    for keeps_port in [false, true] {
        let mut pair = behind(1, Nat { keeps_port, ..Nat::after(200) }, 300);
        pair.run(3 * HOUR);
        assert!(interval(&pair) >= 150);
        pair.devices[0].nat = Some(Nat { keeps_port, used: pair.now, ..Nat::after(50) });
        // One that gives the same port again is seen by the next try of what is in use, after eight heartbeats.
        pair.run(HOUR);
        let found = interval(&pair);
        assert!((30..50).contains(&found), "{found}");
        assert!(delay(&mut pair) <= Duration::from_millis(500));
    }
}

#[test]
fn what_was_found_is_told_once_and_taken_up_again() {
    let mut pair = behind(1, Nat::after(110), 300);
    pair.run(3 * HOUR);
    let told = |pair: &Pair| -> Vec<Silences> {
        let silences = |(_, event): &(_, ClientEvent)| match event {
            ClientEvent::Silences(silences) => Some(*silences),
            _ => None,
        };
        pair.devices[0].events.iter().filter_map(silences).collect()
    };
    let all = told(&pair);
    assert!(all.windows(2).all(|two| two[0] != two[1]), "only what is new is told");
    let last = *all.last().unwrap();
    assert!(last.lasted < 110 && last.failed > 110, "{last:?}");
    let before = interval(&pair);
    let mut again = with(2, 300, ServerConfig::default());
    again.devices[0].nat = Some(Nat::after(110));
    again.devices[0].client.set_silences(again.now, last);
    again.up();
    again.run(60_000);
    assert_eq!(interval(&again), before);
    assert_eq!(again.devices[0].client.counters().tries, 0);
}

#[test]
fn where_only_one_port_is_there_nothing_is_tried() {
    let mut pair = with(1, 300, ServerConfig::default());
    pair.up();
    pair.devices[0].client.only_port();
    pair.run(HOUR);
    assert_eq!((interval(&pair), pair.devices[0].client.counters().tries), (30, 0));
}

#[test]
fn on_a_metered_network_nothing_is_tried_and_what_was_found_is_kept_to() {
    let mut pair = behind(1, Nat::after(200), 300);
    pair.devices[0].client.set_metered(true);
    pair.run(HOUR);
    assert_eq!((interval(&pair), pair.devices[0].client.counters().tries), (30, 0));
    pair.devices[0].client.set_metered(false);
    pair.run(3 * HOUR);
    let (found, tries) = (interval(&pair), pair.devices[0].client.counters().tries);
    assert!((150..200).contains(&found));
    // In the middle of a try, too.
    pair.run(found * 8500);
    pair.devices[0].client.set_metered(true);
    let before = pair.devices[0].client.counters().tries;
    assert!(before >= tries);
    pair.run(3 * HOUR);
    assert_eq!((interval(&pair), pair.devices[0].client.counters().tries), (found, before));
    pair.devices[0].client.network_changed(pair.now);
    pair.settle();
    pair.run(HOUR);
    assert_eq!(
        (interval(&pair), pair.devices[0].client.counters().tries),
        (30, before),
        "another, metered too"
    );
}

#[test]
fn on_a_metered_network_less_is_sent_in_vain() {
    let sent = |metered: bool| {
        let mut pair = with(1, 30, ServerConfig::default());
        pair.up();
        pair.devices[0].client.set_metered(metered);
        // Now and then the network takes a moment longer.
        for at in 0..30u8 {
            pair.conditions = Conditions { delay: if at % 5 == 4 { 300 } else { 10 }, ..CALM };
            pair.send_up(0, &[at; 400]);
            pair.run(700);
        }
        assert_eq!(pair.messages(pair.session(0)).len(), 30);
        pair.devices[0].client.counters().resent
    };
    let (eager, frugal) = (sent(false), sent(true));
    assert!(frugal == 0 && eager > 0, "{frugal} and {eager}");
}
