//! What the publication leaves open, as it was resolved: SPEC 5.6, R-01 to R-22, with DECISIONS 6 over it. One test each;
//! the table in `docs/gateway-protocol.md` names them.

use super::*;
use crate::{
    desk::{self, Desk},
    outpost::{self, Outpost},
};
use hailpost::{
    gateway::{BackendConfig, GatewayConfig, ResultKey},
    io::{Conn, Input, Peer, Service, Transport},
    node::EventKind,
    status::Status,
    wire::gateway::{DecodeError, Kind, MAX_PATTERN, Malformed, Rule, message_len},
};

const V4: Family = Family::V4;
const V6: Family = Family::V6;

fn rules(count: usize, len: usize) -> Vec<Vec<u8>> {
    (0..count).map(|at| format!("{at:0len$}").into_bytes()).collect()
}

#[test]
fn r01_numbers_are_big_endian_and_the_protocol_is_the_high_nibble() {
    let record = Record {
        protocol: 2,
        reserved1: 1,
        reserved2: 0x34,
        reserved3: 0x5678,
        ..record(V4, 9, 0x0102_0304)
    };
    let octets = encoder(V4).message(0x0506, &Body::Result(record));
    assert_eq!(octets[12..24], [0, 0, 0, 20, 0, 5, 5, 6, 1, 2, 3, 4]);
    assert_eq!(octets[32..40], [0x9c, 0x40, 0x01, 0xbb, 0x21, 0x34, 0x56, 0x78]);
}

#[test]
fn r02_message_ids_are_those_of_the_table() {
    for (at, kind) in Kind::ALL.into_iter().take(8).enumerate() {
        let id = at as u16 + 1;
        assert_eq!((kind.request_id(), kind.answer_id()), (id, id | 0x8000));
        assert_eq!(Kind::from_id(id | 0x8000), Some((kind, true)));
    }
    for id in [0, 9, 0x0100, 0x7fff, 0x8000, 0x8009, 0xffff] {
        assert_eq!(Kind::from_id(id), None);
    }
}

#[test]
fn r03_the_family_is_agreed_outside_and_another_width_is_not_read() {
    for (family, other) in [(V4, V6), (V6, V4)] {
        let mut desk = Desk::new(desk::config(family));
        let good = desk.member(1, None, 5);
        let odd = desk.connect(2, None);
        desk.octets(odd, &encoder(other).message(5, &Body::Register));
        desk.pass(Duration::from_secs(5));
        desk.say(good, 0, &Body::Heartbeat);
        assert_eq!(desk.heard(odd), [], "it is no registration here");
        desk.pass(Duration::from_secs(6));
        assert_eq!(desk.hung_up(), [odd]);
        desk.say(good, 0, &Body::Heartbeat);
        assert_eq!(desk.heard(good).len(), 2);
    }
}

#[test]
fn r04_an_ipv4_flow_is_mapped_on_ipv6_and_an_ipv6_flow_is_not_reported_on_ipv4() {
    let mut outpost = Outpost::registered(outpost::config(V6), true);
    let flow = record(V4, 1, 7);
    let now = outpost.now;
    outpost.gateway().report(now, flow).unwrap();
    outpost.drain();
    let sent = outpost.raw();
    let Body::Result(sent) = decode(V6, &sent[0]).unwrap().body else { panic!() };
    assert_eq!(sent.remote, "[::ffff:203.0.113.1]:443".parse().unwrap());

    let mut outpost = Outpost::registered(outpost::config(V4), true);
    let flow = Record { remote: "[2001:db8::1]:443".parse().unwrap(), ..flow };
    let now = outpost.now;
    assert_eq!(outpost.gateway().report(now, flow).unwrap_err().status, Status::Unsupported);
    assert_eq!(outpost.counters().unreportable, 1);
}

#[test]
fn r05_on_a_stream_the_body_length_frames_and_one_over_the_limit_is_refused_before_it_is_read() {
    let mut header = encoder(V4).message(0, &Body::Heartbeat);
    header[12..16].copy_from_slice(&65_535u32.to_be_bytes());
    assert_eq!(message_len(V4, &header), Ok(Some(20 + 65_535)));
    header[12..16].copy_from_slice(&65_536u32.to_be_bytes());
    let error = DecodeError { offset: 12, what: Malformed::BodyTooLong(65_536) };
    assert_eq!(message_len(V4, &header), Err(error));
    // On datagrams one message a datagram: two in one are no message.
    let mut desk = Desk::new(desk::config(V4));
    let from = SocketAddr::from(([10, 1, 0, 1], 5000));
    desk.datagram_member(from, 0);
    let beat = encoder(V4).message(0, &Body::Heartbeat);
    desk.datagram(from, &[beat.clone(), beat].concat());
    assert_eq!((desk.datagrams(from).len(), desk.counters().malformed), (0, 1));
}

#[test]
fn r06_who_it_is_follows_from_the_key_and_never_from_a_header() {
    // Two keys behind the same header addresses are two gateways; one key from two places is one.
    let mut desk = Desk::new(BackendConfig { open_group: None, ..desk::config(V4) });
    for octet in 1..=2 {
        desk.enrol(octet, "home", false);
        desk.member(octet.into(), Some(key(octet)), 5);
    }
    assert_eq!(desk.backend().gateways().count(), 2);
    desk.member(3, Some(key(1)), 6);
    assert_eq!((desk.backend().gateways().count(), desk.hung_up()), (2, vec![Conn(1)]));
    // The reason "already registered" is not given any more.
    assert_eq!(desk.counters().refused, 0);
}

#[test]
fn r07_r08_the_protocol_field_has_four_bits_and_travels_as_it_is() {
    for protocol in 0..16 {
        let record = Record { protocol, ..record(V4, 1, 7) };
        let octets = encoder(V4).message(0, &Body::Result(record));
        assert_eq!((octets.len(), octets[36]), (40, protocol << 4));
        assert_eq!(decode(V4, &octets).unwrap().body, Body::Result(record));
        // It is part of what a result is about.
        let mut outpost = Outpost::registered(outpost::config(V4), true);
        outpost.octets(&encoder(V4).message(1, &Body::Result(record)));
        let known = |protocol| outpost.node.gateway().result(&ResultKey::new(record.remote, protocol));
        assert_eq!((known(protocol), known((protocol + 1) % 16)), (Some(AppId(7)), None));
    }
}

#[test]
fn r09_a_pattern_has_at_most_1023_octets() {
    let mut desk = Desk::new(desk::config(V4));
    let gateway = desk.member(1, None, 5);
    assert_eq!(MAX_PATTERN, 1023);
    desk.backend().set_rule(None, AppId(1), &[b'a'; 1023]).unwrap();
    assert!(desk.backend().set_rule(None, AppId(1), &[b'a'; 1024]).is_err());
    desk.drain();
    assert_eq!(desk.raw(gateway)[0].len(), 1052);
}

#[test]
fn r10_rules_are_split_greedily_in_order_and_never_cut() {
    let mut desk = Desk::new(desk::config(V4));
    let patterns = rules(40, 100);
    for pattern in &patterns {
        desk.backend().set_rule(None, AppId(1), pattern).unwrap();
    }
    desk.drain();
    let gateway = desk.connect(1, None);
    desk.say(gateway, 5, &Body::Register);
    let mut told = Vec::new();
    for octets in desk.answer_all(gateway) {
        if let Body::RuleSync { rules, .. } = decode(V4, &octets).unwrap().body {
            assert!(octets.len() <= 1500);
            assert!(rules.is_empty() || rules.len() == 13 || told.len() + rules.len() == 40, "greedy");
            told.extend(rules.iter().map(|rule| rule.pattern.to_vec()));
        }
    }
    assert_eq!(told, patterns);
}

#[test]
fn r11_sixty_results_a_message_but_33_on_ipv6_datagrams() {
    for (family, datagram, most) in [(V4, false, 60), (V6, false, 60), (V4, true, 60), (V6, true, 33)] {
        let config = BackendConfig { probe_addresses: false, ..desk::config(family) };
        let mut desk = Desk::new(config);
        let reporter = desk.member(1, None, 5);
        for end in 0..70u16 {
            desk.say(reporter, end + 1, &Body::Result(record(family, end.into(), 7)));
        }
        let sync = if datagram {
            let from = SocketAddr::from(([10, 1, 0, 1], 5000));
            desk.datagram(from, &encoder(family).message(0, &Body::Register));
            desk.datagrams(from)[1].clone()
        } else {
            let gateway = desk.connect(2, None);
            desk.say(gateway, 0, &Body::Register);
            desk.raw(gateway)[1].clone()
        };
        let Body::ResultSync { records, .. } = decode(family, &sync).unwrap().body else { panic!() };
        assert_eq!(records.len(), most, "{family:?}");
        assert!(!datagram || sync.len() <= 1500);
    }
}

#[test]
fn r12_serials_count_from_one_for_each_kind_and_go_around_to_zero() {
    let mut desk = Desk::new(desk::config(V4));
    desk.backend().set_rule(None, AppId(1), b"x").unwrap();
    desk.drain();
    let gateway = desk.connect(1, None);
    desk.say(gateway, 5, &Body::Register);
    let serials: Vec<(u16, u16)> = desk
        .answer_all(gateway)
        .iter()
        .filter_map(|octets| match decode(V4, octets).unwrap().body {
            Body::ResultSync { serial, .. } => Some((RESULT_SYNC, serial)),
            Body::RuleSync { serial, .. } => Some((RULE_SYNC, serial)),
            _ => None,
        })
        .collect();
    assert_eq!(serials, [(RESULT_SYNC, 1), (RULE_SYNC, 1), (RULE_SYNC, 2)]);
    // A plain gateway takes 0 after 65535 for new.
    let mut outpost = Outpost::registered(outpost::plain(V4), false);
    for (serial, app) in [(65_534, 1), (65_535, 2), (0, 3), (65_535, 9)] {
        outpost.octets(&encoder(V4).result_sync(0, serial, [record(V4, 1, app)].into_iter()));
    }
    assert_eq!(outpost.node.gateway().results().next().unwrap().1, AppId(3));
}

#[test]
fn r13_no_results_are_one_message_with_count_zero_and_between_hailpost_ends_it_ends_each_sync() {
    for tag in [0, 5] {
        let mut desk = Desk::new(desk::config(V4));
        let gateway = desk.connect(1, None);
        desk.say(gateway, tag, &Body::Register);
        let all = desk.answer_all(gateway);
        let order: Vec<u16> = all.iter().map(|octets| said(V4, octets).0).collect();
        assert_eq!(order, [REGISTER | ANSWER, RESULT_SYNC, RULE_SYNC]);
        assert!(all[1..].iter().all(|octets| octets.len() == 24));
    }
    // Each message takes effect at once; the marker drops what was not told again.
    let mut outpost = Outpost::registered(outpost::config(V4), true);
    let (one, two) = (record(V4, 1, 7), record(V4, 2, 7));
    outpost.octets(&encoder(V4).result_sync(1, 1, [one, two].into_iter()));
    let rules = [b"old", b"new"].map(|pattern| Rule { app: AppId(7), pattern });
    outpost.octets(&encoder(V4).rule_sync(1, 1, rules.into_iter()).0);
    let conn = outpost.conn.take().unwrap();
    outpost.turn(Input::Closed { conn, fault: None });
    outpost.pass(Duration::from_secs(2));
    outpost.raw();
    outpost.connect();
    outpost.accept(true);
    outpost.octets(&encoder(V4).result_sync(1, 1, [two].into_iter()));
    outpost.octets(&encoder(V4).rule_sync(1, 1, rules[1..].iter().copied()).0);
    assert_eq!(outpost.node.gateway().results().count(), 2, "what is old stays until the marker");
    outpost.octets(&encoder(V4).result_sync(2, 2, [].into_iter()));
    outpost.octets(&encoder(V4).rule_sync(2, 2, [].into_iter()).0);
    assert_eq!(outpost.node.gateway().results().map(|(key, _)| key.remote.port()).collect::<Vec<_>>(), [443]);
    assert_eq!(outpost.node.gateway().rules().collect::<Vec<_>>(), [(AppId(7), &b"new"[..])]);
}

#[test]
fn r14_an_empty_pattern_withdraws_an_applications_rules_and_results_age_out() {
    let mut outpost = Outpost::registered(outpost::plain(V4), false);
    let rules = [(7, &b"a"[..]), (7, b"b"), (8, b"c"), (7, b"")];
    let rules = rules.map(|(app, pattern)| Rule { app: AppId(app), pattern });
    outpost.octets(&encoder(V4).rule_sync(0, 1, rules.into_iter()).0);
    assert_eq!(outpost.node.gateway().rules().collect::<Vec<_>>(), [(AppId(8), &b"c"[..])]);
    outpost.octets(&encoder(V4).result_sync(0, 1, [record(V4, 1, 7)].into_iter()));
    outpost.raw();
    outpost.pass_beating(Duration::from_secs(24 * 3600 - 10));
    assert_eq!(outpost.node.gateway().results().count(), 1);
    outpost.pass_beating(Duration::from_secs(20));
    assert_eq!(outpost.node.gateway().results().count(), 0);
    assert_eq!(outpost.counters().results_expired, 1);

    // The back end's side: removing one pattern withdraws the application and tells again what stays.
    let mut desk = Desk::new(desk::config(V4));
    for pattern in [&b"a"[..], b"b"] {
        desk.backend().set_rule(None, AppId(7), pattern).unwrap();
    }
    desk.drain();
    let gateway = desk.member(1, None, 5);
    desk.backend().remove_rule(None, AppId(7), Some(b"a")).unwrap();
    desk.drain();
    let told = desk.raw(gateway);
    let Body::RuleSync { rules, .. } = decode(V4, &told[0]).unwrap().body else { panic!() };
    assert_eq!(rules.iter().map(|rule| rule.pattern).collect::<Vec<_>>(), [&b""[..], b"b"]);
    desk.say(gateway, 1, &Body::Result(record(V4, 1, 7)));
    for _ in 0..(24 * 3600 + 120) / 8 {
        desk.pass(Duration::from_secs(8));
        desk.say(gateway, 0, &Body::Heartbeat);
    }
    assert_eq!((desk.backend().results("home").count(), desk.counters().results_expired), (0, 1));
}

#[test]
fn r15_a_tag_is_echoed_and_a_zero_echo_turns_tags_off() {
    let mut desk = Desk::new(desk::config(V4));
    for tag in [0, 1, 5, 65_535] {
        let gateway = desk.connect(u32::from(tag) + 1, None);
        desk.say(gateway, tag, &Body::Register);
        let heard = desk.heard(gateway);
        assert_eq!(heard[0], (REGISTER | ANSWER, tag));
        let next = if tag == 0 { 0 } else { 1 };
        assert_eq!(heard[1], (RESULT_SYNC, next));
    }
    let mut outpost = Outpost::registered(outpost::config(V4), false);
    outpost.report(1, 7);
    outpost.report(2, 7);
    assert_eq!(outpost.heard(), [(RESULT, 0)]);
}

#[test]
fn r16_reserved_bits_are_sent_as_zero_and_ignored() {
    let mut desk = Desk::new(desk::config(V4));
    let (one, other) = (desk.member(1, None, 5), desk.member(2, None, 5));
    let marked = Record { reserved1: 0xf, reserved2: 0xff, reserved3: 0xffff, ..record(V4, 1, 7) };
    desk.say(one, 1, &Body::Result(marked));
    let told = desk.raw(other);
    assert_eq!(told[0][37..40], [0, 0, 0]);
    assert_eq!(told[0][36] & 0x0f, 0);
    assert_eq!(desk.heard(one), [(RESULT | ANSWER, 1)]);
}

#[test]
fn r17_words_are_opaque_and_at_most_256() {
    let words: Vec<u32> = (0..256).map(|at| at * 0x0101_0101).collect();
    let octets = encoder(V4).words(1, Kind::Features, AppId(7), &words);
    let mut desk = Desk::new(desk::config(V4));
    let gateway = desk.member(1, None, 5);
    desk.octets(gateway, &octets);
    assert_eq!(desk.heard(gateway), [(FEATURES | ANSWER, 1)]);
    let mut more = octets;
    more[12..16].copy_from_slice(&1032u32.to_be_bytes());
    more.extend_from_slice(&[0; 4]);
    desk.octets(gateway, &more);
    assert_eq!((desk.heard(gateway), desk.counters().malformed), (vec![], 1));
}

#[test]
fn r18_an_application_may_have_several_rules_in_order_of_receipt() {
    let mut outpost = Outpost::registered(outpost::config(V4), true);
    let rules = [(7, &b"b"[..]), (8, b"c"), (7, b"a"), (7, b"b")];
    let rules = rules.map(|(app, pattern)| Rule { app: AppId(app), pattern });
    outpost.octets(&encoder(V4).rule_sync(1, 1, rules.into_iter()).0);
    let held: Vec<_> = outpost.node.gateway().rules().collect();
    assert_eq!(held, [(AppId(7), &b"b"[..]), (AppId(8), b"c"), (AppId(7), b"a")]);
    // Rules that come together are put in force together, a moment later.
    outpost.pass(Duration::from_millis(100));
    assert_eq!(outpost.told(EventKind::Rules), 1);
}

#[test]
fn r19_a_key_must_be_enrolled_and_without_one_a_group_must_be_open() {
    for (open, key_of, reason) in [
        (None, None, Some(Reason::NOT_AUTHORISED)),
        (Some("home"), None, None),
        (Some("home"), Some(9), Some(Reason::NOT_AUTHORISED)),
        (None, Some(1), None),
    ] {
        let config = BackendConfig { open_group: open.map(str::to_owned), ..desk::config(V4) };
        let mut desk = Desk::new(config);
        desk.enrol(1, "home", false);
        let conn = desk.connect(1, key_of.map(key));
        desk.say(conn, 0, &Body::Register);
        let answers = desk.raw(conn);
        let wanted = reason.map_or(Outcome::OK, Outcome::refused);
        assert_eq!(decode(V4, &answers[0]).unwrap().body, Body::RegisterAnswer(wanted));
    }
}

#[test]
fn r20_the_gateway_answers_the_back_ends_deregister() {
    let mut outpost = Outpost::registered(outpost::plain(V4), false);
    outpost.say(0, &Body::Deregister);
    let sent = outpost.raw();
    assert_eq!(decode(V4, &sent[0]).unwrap().body, Body::DeregisterAnswer(Outcome::OK));
}

#[test]
fn r21_the_reporter_is_not_told_and_an_identical_report_is_acknowledged_and_not_passed_on() {
    let mut desk = Desk::new(desk::config(V4));
    let (one, other) = (desk.member(1, None, 5), desk.member(2, None, 5));
    for tag in 1..=2 {
        desk.say(one, tag, &Body::Result(record(V4, 1, 7)));
    }
    assert_eq!(desk.heard(one), [(RESULT | ANSWER, 1), (RESULT | ANSWER, 2)]);
    assert_eq!(desk.answer_all(other).len(), 1);
    // What differs is news at once; the same again is passed on after the renewal time, so that it does not age out.
    desk.say(one, 3, &Body::Result(record(V4, 1, 8)));
    assert_eq!(desk.answer_all(other).len(), 1);
    desk.answer_all(one);
    for _ in 0..3608 / 8 {
        desk.pass(Duration::from_secs(8));
        [one, other].into_iter().for_each(|gateway| desk.say(gateway, 0, &Body::Heartbeat));
    }
    desk.raw(other);
    desk.say(one, 4, &Body::Result(record(V4, 1, 8)));
    assert_eq!(desk.answer_all(other).len(), 1);
}

#[test]
fn r22_unknown_ids_are_counted_and_ignored_and_only_framing_ends_a_link() {
    let mut desk = Desk::new(desk::config(V4));
    let gateway = desk.member(1, None, 5);
    let mut unknown = encoder(V4).message(0, &Body::Heartbeat);
    unknown[16..18].copy_from_slice(&0x0100u16.to_be_bytes());
    for _ in 0..100 {
        desk.octets(gateway, &unknown);
    }
    desk.say(gateway, 0, &Body::Heartbeat);
    assert_eq!((desk.heard(gateway), desk.counters().unknown_ids), (vec![(HEARTBEAT | ANSWER, 0)], 100));
    unknown[12] = 1;
    desk.octets(gateway, &unknown);
    assert_eq!(desk.hung_up(), [gateway]);
}

#[test]
fn isolation_a_hint_reaches_others_once_two_agree_or_one_is_trusted() {
    let config = BackendConfig { agreement: 2, open_group: None, ..desk::config(V4) };
    let mut desk = Desk::new(config);
    for octet in 1..=5 {
        desk.enrol(octet, if octet == 5 { "away" } else { "home" }, octet == 4);
    }
    let gateways: Vec<Conn> = (1..=5).map(|octet| desk.member(octet, Some(key(octet as u8)), 5)).collect();
    let heard = |desk: &mut Desk| {
        let mut heard = Vec::new();
        for gateway in &gateways {
            let all = desk.answer_all(*gateway);
            heard.push(all.iter().filter(|octets| said(V4, octets).0 == RESULT).count());
        }
        heard
    };
    // One says so, however often.
    desk.say(gateways[0], 1, &Body::Result(record(V4, 1, 7)));
    desk.say(gateways[0], 2, &Body::Result(record(V4, 1, 7)));
    assert_eq!(heard(&mut desk), [0, 0, 0, 0, 0]);
    // A second one agrees.
    desk.say(gateways[1], 1, &Body::Result(record(V4, 1, 7)));
    let told = heard(&mut desk);
    assert_eq!((told[2], told[3], told[4]), (1, 1, 0));
    // One that is trusted is enough.
    desk.say(gateways[3], 1, &Body::Result(record(V4, 2, 9)));
    assert_eq!(heard(&mut desk)[..3], [1, 1, 1]);
    // The other group's word counts there only.
    desk.say(gateways[4], 1, &Body::Result(record(V4, 1, 66)));
    assert_eq!(heard(&mut desk), [0, 0, 0, 0, 0]);
}

#[test]
fn a_result_that_the_gateways_no_longer_agree_on_is_taken_back_with_application_0() {
    let mut desk = Desk::new(BackendConfig { agreement: 2, ..desk::config(V4) });
    let gateways: Vec<Conn> = (1..=3).map(|number| desk.member(number, None, 5)).collect();
    for gateway in &gateways[..2] {
        desk.say(*gateway, 1, &Body::Result(record(V4, 1, 7)));
    }
    desk.answer_all(gateways[2]);
    desk.say(gateways[0], 2, &Body::Result(record(V4, 1, 8)));
    let told = desk.answer_all(gateways[2]);
    let Body::Result(told) = decode(V4, &told[0]).unwrap().body else { panic!() };
    assert_eq!((told.app, told.remote), (AppId(0), record(V4, 1, 7).remote));
    let mut outpost = Outpost::registered(outpost::config(V4), true);
    outpost.say(1, &Body::Result(record(V4, 1, 7)));
    outpost.say(2, &Body::Result(record(V4, 1, 0)));
    assert_eq!((outpost.node.gateway().results().count(), outpost.told(EventKind::Result)), (0, 2));
}

/// Both ends' settings are options, not constants.
#[test]
fn timers_follow_their_options() {
    let config = GatewayConfig {
        heartbeat: SECOND,
        timeout: SECOND,
        sends: 2,
        extensions: false,
        ..outpost::config(V4)
    };
    let mut outpost = Outpost::registered(config, false);
    outpost.report(1, 7);
    assert_eq!(outpost.pass_beating(Duration::from_millis(1500)).len(), 2);
    outpost.pass_beating(SECOND);
    assert_eq!(outpost.told(EventKind::ReportDropped), 1);
    assert_eq!(outpost.counters().heartbeats, 2);

    let config = BackendConfig { heartbeat: SECOND, ..desk::config(V4) };
    let mut desk = Desk::new(config);
    let gateway = desk.member(1, None, 5);
    desk.pass(Duration::from_secs(3));
    assert_eq!(desk.hung_up(), [gateway]);
    let address = "192.0.2.1:7700".parse().unwrap();
    let peer = Peer {
        transport: Transport::Stream,
        local: address,
        remote: address,
        key: None,
        service: Service::Gateway,
    };
    desk.turn(Input::Accepted { conn: Conn(9), peer });
    desk.pass(Duration::from_secs(10));
    assert_eq!(desk.hung_up(), [Conn(9)]);
}
