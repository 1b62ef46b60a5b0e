//! Timeouts, resends, tags, and peers without tags.

use super::*;
use crate::{
    desk::{self, Desk},
    outpost::{self, Outpost},
};
use hailpost::{gateway::GatewayState, node::EventKind, wire::gateway::Kind};

const V4: Family = Family::V4;

#[test]
fn a_gateway_resends_identical_octets_and_gives_the_link_up_after_three_sends() {
    let mut outpost = Outpost::registered(outpost::config(V4), true);
    outpost.report(1, 7);
    let first = outpost.raw();
    assert_eq!(outpost.pass_beating(Duration::from_millis(4999)), Vec::<Vec<u8>>::new());
    assert_eq!(outpost.pass_beating(Duration::from_millis(1)), first);
    assert_eq!(outpost.pass_beating(Duration::from_secs(5)), first);
    assert_eq!(outpost.state(), GatewayState::Active);
    outpost.pass_beating(Duration::from_secs(5));
    assert_eq!(outpost.told(EventKind::Down), 1);
    assert_eq!(outpost.told(EventKind::ReportDropped), 0, "between Hailpost ends a report is kept");
    let counters = outpost.counters();
    assert_eq!((counters.resent, counters.unanswered), (2, 1));
}

#[test]
fn a_report_outlives_the_link_and_has_one_end() {
    let mut outpost = Outpost::registered(outpost::config(V4), true);
    outpost.report(1, 7);
    let conn = outpost.conn.take().unwrap();
    outpost.turn(hailpost::io::Input::Closed { conn, fault: None });
    outpost.pass(Duration::from_secs(2));
    outpost.raw();
    outpost.connect();
    outpost.accept(true);
    // The registration was answered, so the report went out again.
    outpost.say(1, &Body::ResultAnswer);
    outpost.say(1, &Body::ResultAnswer);
    assert_eq!((outpost.told(EventKind::Acknowledged), outpost.node.gateway().pending()), (1, 0));
    assert_eq!(outpost.counters().unexpected, 1);
}

#[test]
fn a_back_end_resends_identical_octets_and_ends_a_link_that_does_not_answer() {
    let mut desk = Desk::new(desk::config(V4));
    let gateway = desk.connect(1, None);
    desk.say(gateway, 5, &Body::Register);
    let first = desk.raw(gateway)[1].clone();
    assert_eq!(said(V4, &first), (RESULT_SYNC, 1));
    let mut resent = Vec::new();
    for _ in 0..15 {
        desk.say(gateway, 0, &Body::Heartbeat);
        desk.pass(SECOND);
        resent.extend(desk.raw(gateway).into_iter().filter(|octets| said(V4, octets).0 == RESULT_SYNC));
    }
    assert_eq!(resent, [&first[..], &first]);
    let counters = desk.counters();
    assert_eq!((counters.resent, counters.unanswered), (4, 1), "the rule sync was not answered either");
    assert_eq!((desk.hung_up(), desk.told(EventKind::GatewayGone)), (vec![gateway], 1));
}

#[test]
fn a_window_of_reports_is_under_way_between_hailpost_ends_and_one_towards_others() {
    for (echoes, window) in [(true, 8), (false, 1)] {
        let mut outpost = Outpost::registered(outpost::config(V4), echoes);
        (0..20).for_each(|end| outpost.report(end, 7));
        let tags: Vec<u16> = outpost.heard().into_iter().map(|(_, tag)| tag).collect();
        match echoes {
            true => assert_eq!(tags, (1..=window).collect::<Vec<u16>>()),
            false => assert_eq!(tags, [0]),
        }
        // One answer lets the next one go.
        outpost.say(tags[0], &Body::ResultAnswer);
        assert_eq!(outpost.heard().len(), 1);
        let now = outpost.now;
        outpost.gateway().report_features(now, AppId(7), vec![1]).unwrap();
        outpost.drain();
        assert_eq!(outpost.heard()[0].0, FEATURES, "kinds do not wait for each other");
    }
}

#[test]
fn a_gateway_that_is_told_to_offers_no_tag() {
    let mut outpost = Outpost::new(outpost::plain(V4), hailpost::io::Transport::Stream);
    outpost.connect();
    assert_eq!(outpost.heard(), [(REGISTER, 0)]);
    outpost.say(0, &Body::RegisterAnswer(Outcome::OK));
    outpost.report(1, 7);
    assert_eq!(outpost.heard(), [(RESULT, 0)]);
}

#[test]
fn an_echo_of_a_tag_that_was_not_offered_is_passed_over() {
    let mut outpost = Outpost::new(outpost::config(V4), hailpost::io::Transport::Stream);
    outpost.connect();
    let (_, tag) = outpost.heard()[0];
    outpost.say(tag ^ 1, &Body::RegisterAnswer(Outcome::OK));
    assert_eq!((outpost.state(), outpost.counters().unexpected), (GatewayState::Registering, 1));
    outpost.say(tag, &Body::RegisterAnswer(Outcome::OK));
    assert_eq!(outpost.state(), GatewayState::Active);
}

#[test]
fn tags_that_were_never_admitted_are_not_acknowledged() {
    let mut desk = Desk::new(desk::config(V4));
    let gateway = desk.member(1, None, 5);
    for tag in 1..=3 {
        desk.say(gateway, tag, &Body::Result(record(V4, tag.into(), 7)));
    }
    assert_eq!(desk.heard(gateway), [(RESULT | ANSWER, 1), (RESULT | ANSWER, 2), (RESULT | ANSWER, 3)]);
    for tag in [0, 5, 11, 40_000, 65_535] {
        desk.say(gateway, tag, &Body::Result(record(V4, 99, 7)));
        assert_eq!(desk.heard(gateway), [], "{tag} was acknowledged, and nothing is stored");
    }
    assert_eq!((desk.counters().unexpected, desk.counters().reports), (5, 3));
    // A repetition is answered again, and not applied again.
    desk.say(gateway, 2, &Body::Result(record(V4, 99, 7)));
    assert_eq!(desk.heard(gateway), [(RESULT | ANSWER, 2)]);
    assert_eq!((desk.counters().repeated, desk.counters().reports), (1, 3));
    assert_eq!(desk.backend().results("home").count(), 3);

    let mut outpost = Outpost::registered(outpost::config(V4), true);
    outpost.say(1, &Body::Result(record(V4, 1, 7)));
    for tag in [0, 3, 40_000] {
        outpost.say(tag, &Body::Result(record(V4, 2, 7)));
    }
    outpost.say(1, &Body::Result(record(V4, 3, 7)));
    assert_eq!(outpost.heard(), [(RESULT | ANSWER, 1), (RESULT | ANSWER, 1)]);
    assert_eq!(outpost.node.gateway().results().count(), 1);
}

#[test]
fn what_waits_for_the_disk_is_answered_once_however_often_it_is_asked() {
    for tag in [0, 1] {
        let mut desk = Desk::new(desk::config(V4));
        let gateway = desk.member(1, None, if tag == 0 { 0 } else { 5 });
        desk.commits = false;
        for _ in 0..3 {
            desk.say(gateway, tag, &Body::Result(record(V4, 1, 7)));
        }
        desk.commits = true;
        desk.drain();
        assert_eq!(desk.heard(gateway), [(RESULT | ANSWER, tag)]);
        assert_eq!((desk.counters().reports, desk.counters().repeated), (1, 2));
    }
}

#[test]
fn a_tag_that_waits_for_the_disk_is_not_acknowledged_by_saying_something_else_under_it() {
    let mut desk = Desk::new(desk::config(V4));
    let gateway = desk.member(1, None, 5);
    desk.commits = false;
    desk.say(gateway, 1, &Body::Result(record(V4, 1, 7)));
    desk.say(gateway, 1, &Body::Result(record(V4, 2, 8)));
    assert_eq!(desk.heard(gateway), []);
    desk.commits = true;
    desk.drain();
    assert_eq!(desk.heard(gateway), [(RESULT | ANSWER, 1)]);
}

#[test]
fn a_registration_whose_answer_was_lost_is_answered_alike_and_changes_nothing() {
    let mut desk = Desk::new(desk::config(V4));
    let gateway = desk.connect(1, None);
    desk.say(gateway, 5, &Body::Register);
    let first = desk.raw(gateway)[0].clone();
    desk.say(gateway, 5, &Body::Register);
    assert_eq!(desk.raw(gateway), [first]);
    assert_eq!((desk.counters().registrations, desk.counters().repeated), (1, 1));
}

#[test]
fn a_plain_back_end_that_never_answers_features_still_gets_results() {
    let mut outpost = Outpost::registered(outpost::plain(V4), false);
    let now = outpost.now;
    outpost.gateway().report_features(now, AppId(7), vec![1]).unwrap();
    outpost.drain();
    for end in 0..5 {
        outpost.report(end, 7);
        assert!(outpost.heard().contains(&(RESULT, 0)));
        outpost.say(0, &Body::ResultAnswer);
    }
    let sent = outpost.pass_beating(Duration::from_secs(15));
    assert_eq!(sent.len(), 2, "the features twice more");
    assert_eq!(outpost.state(), GatewayState::Active, "the link stays");
    assert_eq!((outpost.told(EventKind::FeaturesDropped), outpost.told(EventKind::Acknowledged)), (1, 5));
    assert_eq!((outpost.counters().reports_dropped, outpost.node.gateway().pending()), (1, 0));
}

#[test]
fn a_report_that_a_plain_back_end_never_acknowledges_ends_with_an_event() {
    let mut outpost = Outpost::registered(outpost::plain(V4), false);
    outpost.report(1, 7);
    outpost.report(2, 7);
    outpost.raw();
    outpost.pass_beating(Duration::from_secs(15));
    assert_eq!((outpost.told(EventKind::ReportDropped), outpost.told(EventKind::Acknowledged)), (1, 0));
    // Its answer may come late, and is not taken for the next one's.
    outpost.say(0, &Body::ResultAnswer);
    assert_eq!((outpost.told(EventKind::Acknowledged), outpost.counters().repeated), (0, 1));
    let sent = outpost.pass_beating(Duration::from_secs(5));
    assert_eq!(said(V4, &sent[0]), (RESULT, 0), "then the next one goes");
    outpost.say(0, &Body::ResultAnswer);
    assert_eq!((outpost.told(EventKind::ReportDropped), outpost.told(EventKind::Acknowledged)), (0, 1));
    assert_eq!(outpost.node.gateway().pending(), 0);
}

#[test]
fn late_answers_of_a_plain_back_end_do_not_acknowledge_the_next_report() {
    let mut outpost = Outpost::registered(outpost::plain(V4), false);
    outpost.report(1, 7);
    outpost.report(2, 8);
    outpost.pass_beating(Duration::from_secs(5));
    outpost.raw();
    outpost.say(0, &Body::ResultAnswer);
    assert_eq!(outpost.heard(), [], "the answer to the second send may still come");
    outpost.say(0, &Body::ResultAnswer);
    assert_eq!(outpost.heard(), [(RESULT, 0)]);
    assert_eq!(outpost.told(EventKind::Acknowledged), 1);
}

#[test]
fn a_plain_gateway_that_does_not_know_a_kind_is_told_the_others() {
    let mut desk = Desk::new(desk::config(V4));
    let gateway = desk.member(1, None, 0);
    desk.backend().set_parameters("home", AppId(7), vec![1]).unwrap();
    desk.drain();
    assert_eq!(desk.heard(gateway), [(PARAMETERS, 0)]);
    for _ in 0..16 {
        desk.say(gateway, 0, &Body::Heartbeat);
        desk.pass(SECOND);
    }
    desk.raw(gateway);
    assert_eq!((desk.hung_up(), desk.counters().unanswered), (vec![], 1));
    desk.backend().set_rule(None, AppId(7), b"x").unwrap();
    desk.drain();
    assert_eq!(desk.heard(gateway), [(RULE_SYNC, 0)]);
}

#[test]
fn a_repeated_sync_of_a_plain_back_end_is_answered_and_not_applied_again() {
    let mut outpost = Outpost::registered(outpost::plain(V4), false);
    let sync = |serial, app| encoder(V4).result_sync(0, serial, [record(V4, 1, app)].into_iter());
    for (serial, app) in [(1, 7), (2, 8), (1, 7)] {
        outpost.octets(&sync(serial, app));
    }
    assert_eq!(outpost.heard().len(), 3);
    let held: Vec<_> = outpost.node.gateway().results().map(|(_, app)| app).collect();
    assert_eq!((held, outpost.counters().repeated), (vec![AppId(8)], 1));
}

#[test]
fn what_does_not_fit_the_direction_is_counted_and_not_answered() {
    let mut desk = Desk::new(desk::config(V4));
    let gateway = desk.member(1, None, 5);
    desk.octets(gateway, &encoder(V4).result_sync(1, 1, [record(V4, 1, 7)].into_iter()));
    desk.octets(gateway, &encoder(V4).words(1, Kind::Parameters, AppId(7), &[1]));
    desk.say(gateway, 77, &Body::ResultAnswer);
    assert_eq!((desk.heard(gateway), desk.counters().unexpected), (vec![], 3));
    // Before registration only register and deregister are answered (SPEC 5.5).
    let stranger = desk.connect(2, None);
    desk.say(stranger, 0, &Body::Heartbeat);
    desk.say(stranger, 1, &Body::Result(record(V4, 1, 7)));
    assert_eq!((desk.heard(stranger), desk.counters().unexpected), (vec![], 5));
    desk.say(stranger, 5, &Body::Register);
    assert_eq!(desk.heard(stranger)[0], (REGISTER | ANSWER, 5), "and it can still register");

    let mut outpost = Outpost::registered(outpost::config(V4), true);
    outpost.octets(&encoder(V4).words(1, Kind::Features, AppId(7), &[1]));
    outpost.say(0, &Body::Register);
    outpost.say(0, &Body::Heartbeat);
    assert_eq!((outpost.heard(), outpost.counters().unexpected), (vec![], 3));
}

#[test]
fn a_new_login_of_a_key_replaces_the_old_and_closes_its_stream() {
    let mut desk = Desk::new(desk::config(V4));
    let id = desk.enrol(1, "home", false);
    let old = desk.member(1, Some(id), 5);
    let new = desk.member(2, Some(id), 6);
    assert_eq!((desk.hung_up(), desk.told(EventKind::GatewayGone)), (vec![old], 1));
    assert_eq!(desk.backend().gateways().count(), 1);
    desk.say(new, 1, &Body::Result(record(V4, 1, 7)));
    assert_eq!(desk.heard(new), [(RESULT | ANSWER, 1)]);
    desk.say(old, 1, &Body::Result(record(V4, 2, 7)));
    assert_eq!(desk.heard(old), [], "nobody listens there any more");
}
