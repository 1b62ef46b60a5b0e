//! Every bound is reached: it has a counter, and nothing that was promised is lost.

use super::*;
use crate::{
    desk::{self, Desk},
    outpost::{self, Outpost},
};
use hailpost::{
    gateway::{BackendConfig, GatewayConfig},
    io::{Input, Transport},
    node::EventKind,
    status::Status,
    store::{Memory, Store, Table},
    wire::gateway::{Kind, Rule},
};

const V4: Family = Family::V4;

fn rows(store: &Memory, table: &'static str) -> usize {
    let mut count = 0;
    store.load(Table::rows(table), &mut |_, _| count += 1).unwrap();
    count
}

#[test]
fn max_results_of_a_group_lets_the_oldest_go() {
    let store = Memory::default();
    let config = BackendConfig { max_results: 10, ..desk::config(V4) };
    let mut desk = Desk::on(config, Box::new(store.clone()), None);
    let gateway = desk.member(1, None, 5);
    for end in 0..25u16 {
        desk.say(gateway, end + 1, &Body::Result(record(V4, end.into(), 7)));
    }
    assert_eq!(desk.heard(gateway).len(), 25, "each is acknowledged");
    let held: Vec<_> =
        desk.backend().results("home").map(|(key, _)| key.remote.ip().to_canonical()).collect();
    let newest: Vec<_> = (15..25).map(|end| record(V4, end, 7).remote.ip()).collect();
    assert_eq!(held, newest);
    assert_eq!((desk.counters().results_evicted, rows(&store, "vote")), (15, 10));
}

#[test]
fn max_results_per_gateway_takes_a_gateways_own_oldest_and_nobody_elses() {
    let store = Memory::default();
    let config = BackendConfig { max_results_per_gateway: 4, ..desk::config(V4) };
    let mut desk = Desk::on(config, Box::new(store.clone()), None);
    let (modest, greedy) = (desk.member(1, None, 5), desk.member(2, None, 5));
    desk.say(modest, 1, &Body::Result(record(V4, 1000, 7)));
    for end in 0..50u16 {
        desk.say(greedy, end + 1, &Body::Result(record(V4, end.into(), 7)));
    }
    let held: Vec<_> =
        desk.backend().results("home").map(|(key, _)| key.remote.ip().to_canonical()).collect();
    assert!(held.contains(&record(V4, 1000, 7).remote.ip()));
    assert_eq!((held.len(), desk.counters().results_evicted, rows(&store, "vote")), (5, 46, 5));
}

#[test]
fn a_gateway_holds_no_more_results_than_it_has_room_for() {
    let config = GatewayConfig { max_results: 10, ..outpost::config(V4) };
    let mut outpost = Outpost::registered(config, true);
    let records: Vec<Record> = (0..25).map(|end| record(V4, end, 7)).collect();
    outpost.octets(&encoder(V4).result_sync(1, 1, records.iter().copied()));
    assert_eq!(outpost.node.gateway().results().count(), 10);
    assert_eq!(outpost.counters().results_evicted, 15);
}

#[test]
fn patterns_past_their_memory_are_left_out_and_counted() {
    let config = GatewayConfig { max_rule_octets: 10, ..outpost::config(V4) };
    let mut outpost = Outpost::registered(config, true);
    let rules = [&b"12345"[..], b"123456", b"67890"].map(|pattern| Rule { app: AppId(7), pattern });
    outpost.octets(&encoder(V4).rule_sync(1, 1, rules.into_iter()).0);
    assert_eq!(outpost.heard(), [(RULE_SYNC | ANSWER, 1)]);
    let held: Vec<_> = outpost.node.gateway().rules().map(|(_, pattern)| pattern).collect();
    assert_eq!((held, outpost.counters().rules_left_out), (vec![&b"12345"[..], b"67890"], 1));
}

#[test]
fn a_full_queue_of_reports_refuses_and_then_says_writable() {
    for echoes in [true, false] {
        let config = GatewayConfig { max_reports: 3, ..outpost::config(V4) };
        let mut outpost = Outpost::registered(config, echoes);
        (0..3).for_each(|end| outpost.report(end, 7));
        let now = outpost.now;
        let refused = outpost.gateway().report(now, record(V4, 9, 7)).unwrap_err();
        assert_eq!(refused.status, Status::Full);
        assert_eq!(outpost.told(EventKind::Writable), 0);
        let (_, tag) = outpost.heard()[0];
        outpost.say(tag, &Body::ResultAnswer);
        assert_eq!((outpost.told(EventKind::Writable), outpost.node.gateway().pending()), (1, 2));
        outpost.report(9, 7);
    }
    // A plain back end that never answers makes room too.
    let config = GatewayConfig { max_reports: 1, ..outpost::plain(V4) };
    let mut outpost = Outpost::registered(config, false);
    outpost.report(1, 7);
    let now = outpost.now;
    outpost.gateway().report(now, record(V4, 2, 7)).unwrap_err();
    outpost.pass_beating(Duration::from_secs(15));
    assert_eq!((outpost.told(EventKind::ReportDropped), outpost.told(EventKind::Writable)), (1, 1));
}

#[test]
fn reports_past_what_may_wait_for_the_disk_wait_at_the_gateway() {
    let config = BackendConfig { max_pending: 5, ..desk::config(V4) };
    let mut desk = Desk::new(config);
    let (gateway, other) = (desk.member(1, None, 5), desk.member(2, None, 5));
    desk.commits = false;
    for tag in 1..=8 {
        desk.say(gateway, tag, &Body::Result(record(V4, tag.into(), 7)));
    }
    assert_eq!((desk.backend().pending(), desk.counters().overloaded), (5, 3));
    desk.say(other, 0, &Body::Heartbeat);
    assert_eq!(desk.heard(other), [(HEARTBEAT | ANSWER, 0)], "others are served");
    desk.commits = true;
    desk.drain();
    assert_eq!(desk.heard(gateway).len(), 5);
    // What was passed over comes again, in order, and is taken then.
    for tag in 6..=8 {
        desk.say(gateway, tag, &Body::Result(record(V4, tag.into(), 7)));
    }
    assert_eq!(desk.heard(gateway), [6, 7, 8].map(|tag| (RESULT | ANSWER, tag)));
    assert_eq!(desk.backend().results("home").count(), 8);
}

#[test]
fn a_gateway_that_floods_a_slow_disk_keeps_no_other_out() {
    for tag in [5, 0] {
        let config = BackendConfig { max_pending: 100, ..desk::config(V4) };
        let mut desk = Desk::new(config);
        let (greedy, modest) = (desk.member(1, None, tag), desk.member(2, None, 5));
        desk.commits = false;
        for at in 1..=500u16 {
            desk.say(greedy, if tag == 0 { 0 } else { at }, &Body::Result(record(V4, at.into(), 7)));
        }
        assert_eq!((desk.backend().pending(), desk.counters().overloaded), (64, 436));
        desk.say(modest, 1, &Body::Result(record(V4, 1000, 7)));
        desk.commits = true;
        desk.drain();
        assert!(desk.heard(modest).contains(&(RESULT | ANSWER, 1)));
        let acknowledged = desk.heard(greedy).iter().filter(|(id, _)| *id == RESULT | ANSWER).count();
        assert_eq!(acknowledged, 64);
        assert_eq!(desk.backend().results("home").count(), 65);
    }
}

#[test]
fn connections_past_the_table_are_closed_and_those_within_are_served() {
    let config = BackendConfig { max_gateways: 3, probe_addresses: false, ..desk::config(V4) };
    let mut desk = Desk::new(config);
    let gateway = desk.member(1, None, 5);
    let datagrams = SocketAddr::from(([10, 1, 0, 1], 5000));
    desk.datagram_member(datagrams, 5);
    let third = desk.connect(2, None);
    let turned_away = desk.connect(3, None);
    assert_eq!(desk.hung_up(), [turned_away]);
    desk.datagram(SocketAddr::from(([10, 1, 0, 2], 5000)), &encoder(V4).message(5, &Body::Register));
    assert_eq!(desk.datagrams(SocketAddr::from(([10, 1, 0, 2], 5000))).len(), 0);
    assert_eq!((desk.counters().turned_away, desk.counters().connections), (2, 4));
    desk.say(gateway, 0, &Body::Heartbeat);
    assert_eq!(desk.heard(gateway), [(HEARTBEAT | ANSWER, 0)]);
    // Room that is given back can be had again.
    desk.turn(hailpost::io::Input::Closed { conn: third, fault: None });
    desk.member(4, None, 5);
}

#[test]
fn proven_addresses_that_never_register_are_bounded() {
    let mut desk = Desk::new(desk::config(V4));
    let address = |at: u16| SocketAddr::from(([10, 2, (at >> 8) as u8, at as u8], 5000));
    let register = encoder(V4).message(5, &Body::Register);
    for at in 0..5000 {
        desk.datagram(address(at), &register);
        let (_, cookie) = said(V4, &desk.datagrams(address(at))[0]);
        desk.datagram(address(at), &encoder(V4).message(cookie, &Body::HeartbeatAnswer));
    }
    let admitted = |desk: &mut Desk, at: u16| {
        desk.datagram(address(at), &register);
        said(V4, &desk.datagrams(address(at))[0]).0 == (REGISTER | ANSWER)
    };
    assert!(!admitted(&mut desk, 0) && !admitted(&mut desk, 903), "the oldest 904 proofs are gone");
    assert!(admitted(&mut desk, 904) && admitted(&mut desk, 4999));
}

#[test]
fn a_gateway_that_reports_features_of_ever_new_applications_keeps_the_newest() {
    let store = Memory::default();
    let config =
        BackendConfig { max_feature_apps_per_gateway: 8, max_features_per_gateway: 2, ..desk::config(V4) };
    let mut desk = Desk::on(config, Box::new(store.clone()), None);
    let (modest, greedy) = (desk.member(1, None, 5), desk.member(2, None, 5));
    let features = |tag: u16, app: u32| encoder(V4).words(tag, Kind::Features, AppId(app), &[app]);
    desk.octets(modest, &features(1, 7));
    for at in 0..400u16 {
        desk.octets(greedy, &features(at + 1, u32::from(at) / 4));
    }
    assert_eq!(desk.heard(greedy).len(), 400, "each is acknowledged, and was durable");
    assert_eq!(rows(&store, "feature"), 8 * 2 + 1);
    assert_eq!(desk.counters().features_evicted, 92 * 2);
    let mut apps = Vec::new();
    hailpost::gateway::Backend::load_features(&store, |_, app, _, _, _| apps.push(app.0)).unwrap();
    apps.dedup();
    assert_eq!(apps, [7, 92, 93, 94, 95, 96, 97, 98, 99]);
}

#[test]
fn the_features_of_a_whole_group_are_bounded() {
    let store = Memory::default();
    let config = BackendConfig { max_features: 20, ..desk::config(V4) };
    let mut desk = Desk::on(config, Box::new(store.clone()), None);
    for number in 0..50 {
        let gateway = desk.member(number, None, 5);
        desk.octets(gateway, &encoder(V4).words(1, Kind::Features, AppId(7), &[1]));
        assert!(desk.heard(gateway).contains(&(FEATURES | ANSWER, 1)));
    }
    assert_eq!((rows(&store, "feature"), desk.counters().features_evicted), (20, 30));
}

#[test]
fn what_the_operator_asks_for_is_checked_before_anything_changes() {
    let store = Memory::default();
    let mut desk = Desk::on(desk::config(V4), Box::new(store.clone()), None);
    let backend = desk.backend();
    let long = "g".repeat(65);
    for pattern in [&b""[..], &[b'x'; 1024], b"a\0b"] {
        assert_eq!(backend.set_rule(None, AppId(1), pattern).unwrap_err().status, Status::Pattern);
    }
    backend.set_rule(None, AppId(1), &[b'x'; 1023]).unwrap();
    assert_eq!(backend.set_rule(Some(&long), AppId(1), b"x").unwrap_err().status, Status::Invalid);
    assert_eq!(backend.remove_rule(None, AppId(9), None).unwrap_err().status, Status::NotFound);
    assert_eq!(backend.set_parameters("home", AppId(1), vec![]).unwrap_err().status, Status::Words);
    assert_eq!(backend.set_parameters("home", AppId(1), vec![0; 257]).unwrap_err().status, Status::Words);
    assert_eq!(backend.set_parameters("", AppId(1), vec![0]).unwrap_err().status, Status::Invalid);
    let lineage = vec![0; (1 << 19) + 1];
    assert_eq!(backend.set_model("home", AppId(1), vec![0], &lineage).unwrap_err().status, Status::Invalid);
    assert_eq!(backend.revoke(key(1)).unwrap_err().status, Status::NotFound);
    assert_eq!(backend.allow(key(1)).unwrap_err().status, Status::NotFound);
    desk.drain();
    assert_eq!((rows(&store, "rule"), rows(&store, "model"), rows(&store, "gateway")), (1, 0, 0));

    let mut outpost = Outpost::registered(outpost::config(V4), true);
    let now = outpost.now;
    let refused = outpost.gateway().report_features(now, AppId(7), vec![0; 257]).unwrap_err();
    assert_eq!(refused.status, Status::Words);
}

#[test]
fn features_that_leave_the_store_leave_the_trainer() {
    use hailpost::{node::feature_set, recognize::model::report_to_words};
    let config = BackendConfig { max_feature_apps_per_gateway: 1, ..desk::config(V4) };
    let mut desk = Desk::on(config, Box::new(hailpost::store::Memory::default()), Some(1));
    let gateway = desk.member(1, None, 5);
    for (tag, app) in [(1, 7), (2, 7), (3, 8)] {
        let words = report_to_words(feature_set(), 0, &vec![0.5; feature_set().len()]).unwrap();
        let octets = encoder(V4).words(tag, hailpost::wire::gateway::Kind::Features, AppId(app), &words);
        desk.octets(gateway, &octets);
    }
    assert_eq!(desk.counters().features_evicted, 2);
    let samples = desk.node.samples("home", AppId(8)).unwrap();
    assert_eq!(samples.iter().map(|sample| sample.app).collect::<Vec<_>>(), [AppId(8)]);
}

#[test]
fn a_first_pause_of_any_length_is_bounded_by_the_longest() {
    let config = GatewayConfig { backoff: Duration::from_millis(u64::MAX), ..outpost::config(V4) };
    let mut outpost = Outpost::new(config, Transport::Stream);
    for _ in 0..20 {
        outpost.connect();
        let conn = outpost.conn.expect("it is connected");
        outpost.turn(Input::Closed { conn, fault: None });
        assert_eq!(outpost.told(EventKind::Down), 1);
        outpost.pass(Duration::from_secs(60));
    }
}
