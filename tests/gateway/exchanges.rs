//! Each exchange of SPEC 5.1, at both ends.

use super::*;
use crate::{
    desk::{self, Desk},
    outpost::{self, Outpost},
};
use hailpost::{
    gateway::{GatewayState, ResultKey},
    io::Transport,
    node::{EventKind, Field, Recognition},
    recognize,
    wire::gateway::{Kind, Rule},
};

const V4: Family = Family::V4;

#[test]
fn s301_the_back_end_admits_whom_it_knows_and_refuses_a_stranger_with_the_reason() {
    let mut desk = Desk::new(BackendConfigClosed::config());
    desk.enrol(1, "home", false);
    let friend = desk.connect(1, Some(key(1)));
    desk.say(friend, 5, &Body::Register);
    assert_eq!(desk.heard(friend)[0], (REGISTER | ANSWER, 5));
    assert_eq!(desk.told(EventKind::GatewayRegistered), 1);
    for (number, key) in [(2, Some(key(2))), (3, None)] {
        let stranger = desk.connect(number, key);
        desk.say(stranger, 6, &Body::Register);
        let answers = desk.raw(stranger);
        let message = decode(V4, &answers[0]).unwrap();
        assert_eq!(message.body, Body::RegisterAnswer(Outcome::refused(Reason::NOT_AUTHORISED)));
        assert_eq!((answers.len(), desk.hung_up()), (1, vec![stranger]), "and learns nothing");
    }
    assert_eq!((desk.counters().refused, desk.told(EventKind::GatewayRefused)), (2, 2));
}

/// A back end that admits only enrolled keys.
struct BackendConfigClosed;

impl BackendConfigClosed {
    fn config() -> hailpost::gateway::BackendConfig {
        hailpost::gateway::BackendConfig { open_group: None, ..desk::config(V4) }
    }
}

#[test]
fn s301_the_gateway_registers_and_takes_a_refusal() {
    for (reason, pause) in [
        (Reason::NOT_AUTHORISED, 60),
        (Reason::FAMILY, 60),
        (Reason::BARRED, 3600),
        (Reason::TRY_LATER, 1),
        (Reason(0xffff), 1),
    ] {
        let mut outpost = Outpost::new(outpost::config(V4), Transport::Stream);
        outpost.connect();
        let (id, tag) = outpost.heard()[0];
        assert_eq!((id, outpost.state()), (REGISTER, GatewayState::Registering));
        outpost.say(tag, &Body::RegisterAnswer(Outcome::refused(reason)));
        assert_eq!(outpost.state(), GatewayState::Down);
        let event = outpost.events.iter().find(|event| event.kind() == EventKind::Refused).unwrap();
        assert_eq!(event.u64(Field::Reason), Some(reason.0.into()));
        assert_eq!(event.text(Field::Text), Some(reason.text()));
        let wait = outpost.node.gateway().deadline().unwrap().since(outpost.now).as_secs_f64();
        let expected = f64::from(pause);
        assert!((0.74 * expected..=expected).contains(&wait), "{reason:?}: {wait}");
    }
}

#[test]
fn s303_heartbeats_come_on_a_settable_timer_and_are_answered() {
    let mut outpost = Outpost::registered(outpost::config(V4), true);
    outpost.pass(Duration::from_millis(2999));
    assert_eq!(outpost.raw().len(), 0);
    outpost.pass(Duration::from_millis(1));
    let beats = outpost.raw();
    assert_eq!((beats.len(), said(V4, &beats[0]).0, beats[0].len()), (1, HEARTBEAT, 20));
    outpost.say(0, &Body::HeartbeatAnswer);
    outpost.gateway().set_heartbeat(SECOND);
    // The change holds from the next heartbeat on.
    outpost.pass_beating(Duration::from_secs(10));
    assert_eq!(outpost.counters().heartbeats, 1 + 8);

    let mut desk = Desk::new(desk::config(V4));
    let gateway = desk.member(1, None, 5);
    desk.say(gateway, 0, &Body::Heartbeat);
    assert_eq!(desk.heard(gateway), [(HEARTBEAT | ANSWER, 0)]);
}

#[test]
fn s303_three_heartbeats_missed_at_either_end_end_the_link() {
    let mut desk = Desk::new(desk::config(V4));
    let (silent, lively) = (desk.member(1, None, 5), desk.member(2, None, 5));
    for _ in 0..8 {
        desk.pass(SECOND);
        desk.say(lively, 0, &Body::Heartbeat);
    }
    assert_eq!(desk.hung_up(), []);
    desk.pass(SECOND);
    assert_eq!((desk.hung_up(), desk.told(EventKind::GatewayGone)), (vec![silent], 1));

    let mut outpost = Outpost::registered(outpost::config(V4), true);
    outpost.pass(Duration::from_secs(11));
    assert_eq!((outpost.counters().heartbeats, outpost.state()), (3, GatewayState::Active));
    outpost.pass(SECOND);
    assert_eq!((outpost.state(), outpost.told(EventKind::Down)), (GatewayState::Down, 1));
    // And it comes back by itself, after a second or a little less.
    outpost.pass(SECOND);
    assert_eq!(outpost.state(), GatewayState::Connecting);
}

#[test]
fn s305_s307_results_then_rules_then_parameters_are_told_at_registration() {
    for tag in [0, 5] {
        let mut desk = Desk::new(desk::config(V4));
        let reporter = desk.member(1, None, 9);
        for end in 0..61 {
            desk.say(reporter, end as u16 + 1, &Body::Result(record(V4, end, 7)));
        }
        desk.backend().set_rule(None, AppId(22), b"^SSH").unwrap();
        desk.backend().set_parameters("home", AppId(7), vec![1, 2]).unwrap();
        desk.drain();
        let gateway = desk.connect(2, None);
        desk.say(gateway, tag, &Body::Register);
        let all = desk.answer_all(gateway);
        let order: Vec<u16> = all.iter().map(|octets| said(V4, octets).0).collect();
        let counts: Vec<usize> = all
            .iter()
            .filter_map(|octets| match decode(V4, octets).unwrap().body {
                Body::ResultSync { records, .. } => Some(records.len()),
                Body::RuleSync { rules, .. } => Some(rules.len()),
                _ => None,
            })
            .collect();
        match tag {
            0 => {
                assert_eq!(order, [REGISTER | ANSWER, RESULT_SYNC, RESULT_SYNC, RULE_SYNC, PARAMETERS]);
                assert_eq!(counts, [60, 1, 1], "no marker towards a plain gateway that was told something");
            }
            _ => {
                let mut sorted = order.clone();
                sorted.dedup();
                assert_eq!(sorted, [REGISTER | ANSWER, RESULT_SYNC, RULE_SYNC, PARAMETERS]);
                assert_eq!(counts, [60, 1, 0, 1, 0], "a count of zero ends each sync");
            }
        }
        assert_eq!(desk.told(EventKind::GatewaySynced), 2);
    }
}

#[test]
fn s305_s307_the_gateway_learns_results_and_rules_and_acknowledges_their_serials() {
    let mut outpost = Outpost::registered(outpost::config(V4), true);
    let records = [record(V4, 1, 7), record(V4, 2, 8)];
    outpost.octets(&encoder(V4).result_sync(1, 1, records.into_iter()));
    outpost.octets(&encoder(V4).result_sync(2, 2, [].into_iter()));
    let rules = [Rule { app: AppId(22), pattern: b"^SSH" }, Rule { app: AppId(7), pattern: b"x" }];
    outpost.octets(&encoder(V4).rule_sync(1, 1, rules.into_iter()).0);
    assert_eq!(outpost.told(EventKind::Synced), 0);
    outpost.octets(&encoder(V4).rule_sync(2, 2, [].into_iter()).0);
    let serials: Vec<(u16, u16)> = outpost
        .raw()
        .iter()
        .map(|octets| match decode(V4, octets).unwrap().body {
            Body::ResultSyncAnswer { serial, reserved: 0 } => (RESULT_SYNC, serial),
            Body::RuleSyncAnswer { serial, reserved: 0 } => (RULE_SYNC, serial),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(serials, [(RESULT_SYNC, 1), (RESULT_SYNC, 2), (RULE_SYNC, 1), (RULE_SYNC, 2)]);
    assert_eq!((outpost.told(EventKind::Synced), outpost.told(EventKind::Result)), (1, 2));
    let key = ResultKey::new(records[0].remote, 1);
    assert_eq!(outpost.node.gateway().result(&key), Some(AppId(7)));
    let held: Vec<_> = outpost.node.gateway().rules().collect();
    assert_eq!(held, [(AppId(22), &b"^SSH"[..]), (AppId(7), b"x")]);
}

#[test]
fn s309_s311_a_report_is_acknowledged_once_durable_and_told_to_every_other() {
    let mut desk = Desk::new(desk::config(V4));
    let gateways: Vec<_> = (1..=3).map(|number| desk.member(number, None, 5)).collect();
    desk.commits = false;
    desk.say(gateways[0], 1, &Body::Result(record(V4, 1, 7)));
    assert!(gateways.iter().all(|gateway| desk.heard(*gateway).is_empty()), "nothing before it is durable");
    desk.commits = true;
    desk.drain();
    assert_eq!(desk.heard(gateways[0]), [(RESULT | ANSWER, 1)], "acknowledged, and not told to the reporter");
    for other in &gateways[1..] {
        let told = desk.raw(*other);
        let Body::Result(told) = decode(V4, &told[0]).unwrap().body else { panic!() };
        assert_eq!((told.app, told.remote), (AppId(7), record(V4, 1, 7).remote));
        assert!(told.local.ip().is_unspecified() && told.local.port() == 0, "the local end stays at home");
    }
    assert_eq!(desk.told(EventKind::Identified), 1);
}

#[test]
fn s309_s311_the_gateway_reports_and_takes_in_what_others_reported() {
    let mut outpost = Outpost::registered(outpost::config(V4), true);
    outpost.report(1, 7);
    assert_eq!(outpost.heard(), [(RESULT, 1)]);
    outpost.say(1, &Body::ResultAnswer);
    assert_eq!((outpost.told(EventKind::Acknowledged), outpost.node.gateway().pending()), (1, 0));
    outpost.say(1, &Body::Result(record(V4, 2, 8)));
    assert_eq!(outpost.heard(), [(RESULT | ANSWER, 1)]);
    assert_eq!(outpost.told(EventKind::Result), 1);
}

#[test]
fn s313_features_are_acknowledged_once_durable() {
    let mut desk = Desk::new(desk::config(V4));
    let gateway = desk.member(1, None, 5);
    desk.commits = false;
    desk.octets(gateway, &encoder(V4).words(1, Kind::Features, AppId(7), &[1, 2, 3]));
    assert_eq!(desk.heard(gateway), []);
    desk.commits = true;
    desk.drain();
    assert_eq!(desk.heard(gateway), [(FEATURES | ANSWER, 1)]);
    let event = desk.events.iter().find(|event| event.kind() == EventKind::Features).unwrap();
    assert_eq!(event.bytes(Field::Words), Some(&[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3][..]));

    let mut outpost = Outpost::registered(outpost::config(V4), true);
    let now = outpost.now;
    outpost.gateway().report_features(now, AppId(7), vec![1, 2, 3]).unwrap();
    outpost.drain();
    assert_eq!(outpost.raw(), [encoder_of(&outpost).words(1, Kind::Features, AppId(7), &[1, 2, 3])]);
    outpost.say(1, &Body::FeaturesAnswer);
    assert_eq!(outpost.told(EventKind::FeaturesAcknowledged), 1);
}

/// What the gateway's headers say.
fn encoder_of(outpost: &Outpost) -> Encoder {
    Encoder {
        family: outpost.family,
        source: "10.0.0.9:40000".parse().unwrap(),
        destination: "192.0.2.1:7700".parse().unwrap(),
    }
}

#[test]
fn s315_parameters_are_told_to_all_registered_gateways_of_the_group() {
    let mut desk = Desk::new(desk::config(V4));
    desk.enrol(9, "away", false);
    let gateways = [desk.member(1, None, 5), desk.member(2, None, 0)];
    let foreign = desk.member(3, Some(key(9)), 5);
    desk.backend().set_parameters("home", AppId(7), vec![0xdead_beef]).unwrap();
    desk.drain();
    for gateway in gateways {
        let told = desk.raw(gateway);
        let Body::Parameters { app, words } = decode(V4, &told[0]).unwrap().body else { panic!() };
        assert_eq!((app, words.iter().collect::<Vec<_>>()), (AppId(7), vec![0xdead_beef]));
    }
    assert_eq!(desk.heard(foreign), [], "nothing crosses groups");

    let mut outpost = Outpost::registered(outpost::config(V4), true);
    outpost.octets(&encoder(V4).words(1, Kind::Parameters, AppId(7), &[0xdead_beef]));
    assert_eq!(outpost.heard(), [(PARAMETERS | ANSWER, 1)]);
    assert_eq!(outpost.told(EventKind::Parameters), 1);
}

#[test]
fn s317_a_gateway_leaves_in_order() {
    let mut desk = Desk::new(desk::config(V4));
    let gateway = desk.member(1, None, 5);
    desk.say(gateway, 1, &Body::Deregister);
    let answers = desk.raw(gateway);
    assert_eq!(decode(V4, &answers[0]).unwrap().body, Body::DeregisterAnswer(Outcome::OK));
    assert_eq!((desk.hung_up(), desk.told(EventKind::GatewayDeregistered)), (vec![gateway], 1));
    // Before registration there is nothing to end.
    let stranger = desk.connect(2, None);
    desk.say(stranger, 4, &Body::Deregister);
    let answers = desk.raw(stranger);
    let outcome = Outcome::refused(Reason::NOT_REGISTERED);
    assert_eq!(decode(V4, &answers[0]).unwrap().body, Body::DeregisterAnswer(outcome));

    let mut outpost = Outpost::registered(outpost::config(V4), true);
    let now = outpost.now;
    outpost.gateway().leave(now);
    outpost.drain();
    assert_eq!((outpost.heard(), outpost.state()), (vec![(DEREGISTER, 1)], GatewayState::Leaving));
    outpost.say(1, &Body::DeregisterAnswer(Outcome::OK));
    assert_eq!((outpost.state(), outpost.told(EventKind::Deregistered)), (GatewayState::Down, 1));
    assert_eq!((outpost.conn, outpost.node.gateway().deadline()), (None, None), "it stays away");
    outpost.gateway().join(now);
    outpost.pass(SECOND);
    assert_eq!(outpost.state(), GatewayState::Connecting);
}

#[test]
fn s319_the_back_end_takes_a_chosen_gateway_off_and_bars_it_until_it_is_allowed() {
    let mut desk = Desk::new(BackendConfigClosed::config());
    let (chosen, other) = (desk.enrol(1, "home", false), desk.enrol(2, "home", false));
    let (gateway, beside) = (desk.member(1, Some(chosen), 5), desk.member(2, Some(other), 5));
    let now = desk.now;
    desk.backend().deregister(now, chosen).unwrap();
    desk.drain();
    assert_eq!(desk.heard(gateway), [(DEREGISTER, 1)]);
    desk.say(gateway, 1, &Body::DeregisterAnswer(Outcome::OK));
    assert_eq!((desk.hung_up(), desk.heard(beside)), (vec![gateway], vec![]));
    let event = desk.events.iter().find(|event| event.kind() == EventKind::GatewayDeregistered).unwrap();
    assert_eq!(event.u64(Field::ByBackend), Some(1));
    let again = desk.connect(3, Some(chosen));
    desk.say(again, 6, &Body::Register);
    let answers = desk.raw(again);
    let refusal = Body::RegisterAnswer(Outcome::refused(Reason::BARRED));
    assert_eq!(decode(V4, &answers[0]).unwrap().body, refusal);
    desk.backend().allow(chosen).unwrap();
    desk.drain();
    desk.member(4, Some(chosen), 7);

    let mut outpost = Outpost::registered(outpost::config(V4), true);
    outpost.say(1, &Body::Deregister);
    assert_eq!(outpost.heard(), [(DEREGISTER | ANSWER, 1)]);
    assert_eq!((outpost.state(), outpost.told(EventKind::Deregistered)), (GatewayState::Down, 1));
    let wait = outpost.node.gateway().deadline().unwrap().since(outpost.now);
    assert_eq!(wait, Duration::from_secs(3600), "it tries hourly");
}

#[test]
fn s319_a_gateway_that_does_not_answer_is_taken_off_all_the_same() {
    let mut desk = Desk::new(desk::config(V4));
    let gateway = desk.member(1, None, 5);
    let (now, id) = (desk.now, desk.backend().gateways().next().unwrap().id);
    desk.backend().disconnect(now, id).unwrap();
    desk.drain();
    let first = desk.raw(gateway);
    for _ in 0..15 {
        desk.say(gateway, 0, &Body::Heartbeat);
        desk.pass(SECOND);
    }
    let beats = (HEARTBEAT | ANSWER, 0);
    let resent: Vec<_> = desk.raw(gateway).into_iter().filter(|octets| said(V4, octets) != beats).collect();
    assert_eq!(resent, [&first[0][..], &first[0]]);
    assert_eq!((desk.hung_up(), desk.told(EventKind::GatewayDeregistered)), (vec![gateway], 1));
}

#[test]
fn rules_that_come_one_after_the_other_are_put_in_force_together() {
    let recognition =
        Recognition::new(None, recognize::Limits::default(), recognize::Config::default(), Vec::new())
            .unwrap();
    let mut outpost = Outpost::with(outpost::config(V4), Transport::Stream, Some(recognition));
    outpost.connect();
    outpost.accept(true);
    for serial in 1..=5 {
        let pattern = format!("^{serial}");
        let rule = Rule { app: AppId(serial.into()), pattern: pattern.as_bytes() };
        outpost.octets(&encoder(V4).rule_sync(serial, serial, [rule].into_iter()).0);
        outpost.pass(Duration::from_millis(10));
    }
    assert_eq!(outpost.told(EventKind::Rules), 0);
    outpost.pass(Duration::from_millis(100));
    assert_eq!(outpost.events.last().and_then(|event| event.u64(Field::Count)), Some(5));
    assert_eq!(outpost.told(EventKind::Rules), 1);
}
