//! A back end that starts again on what its store holds, in memory and in SQLite; and what is told before it is
//! durable: nothing.

use super::*;
use crate::desk::{self, Desk};
use hailpost::{
    gateway::{BackendConfig, Enrolment},
    node::EventKind,
    recognize::model::Header,
    store::{Memory, Sqlite, Store, Table},
    wire::gateway::Kind,
};

const V4: Family = Family::V4;

/// The same store, opened anew: what was not committed is not there.
enum Disk {
    Memory(Memory),
    File(tempfile::TempDir),
}

impl Disk {
    fn all() -> [Disk; 2] {
        [Disk::Memory(Memory::default()), Disk::File(tempfile::tempdir().unwrap())]
    }

    fn open(&self) -> Box<dyn Store> {
        match self {
            Disk::Memory(rows) => Box::new(rows.clone()),
            Disk::File(dir) => Box::new(Sqlite::open(&dir.path().join("backend.db")).unwrap()),
        }
    }
}

fn closed() -> BackendConfig {
    BackendConfig { open_group: None, agreement: 2, ..desk::config(V4) }
}

fn told(desk: &mut Desk, number: u32, octet: u8) -> Vec<Vec<u8>> {
    let conn = desk.connect(number, Some(key(octet)));
    desk.say(conn, 5, &Body::Register);
    desk.answer_all(conn)
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart_and_is_told_again() {
    for disk in Disk::all() {
        let mut desk = Desk::on(closed(), disk.open(), None);
        for octet in 1..=3 {
            desk.enrol(octet, "home", octet == 3);
        }
        desk.enrol(4, "away", false);
        for octet in 1..=2 {
            let gateway = desk.member(octet.into(), Some(key(octet)), 5);
            desk.say(gateway, 1, &Body::Result(record(V4, 1, 7)));
            desk.octets(gateway, &encoder(V4).words(1, Kind::Features, AppId(7), &[octet.into()]));
            assert!(desk.heard(gateway).contains(&(FEATURES | ANSWER, 1)));
        }
        desk.backend().set_rule(None, AppId(22), b"^SSH").unwrap();
        desk.backend().set_rule(Some("home"), AppId(22), b"^ssh").unwrap();
        desk.backend().set_parameters("home", AppId(7), vec![1, 2, 3]).unwrap();
        let now = desk.now;
        desk.backend().deregister(now, key(2)).unwrap();
        desk.drain();
        // What is not committed when the power goes is as if it had never been.
        desk.commits = false;
        desk.backend().set_rule(None, AppId(99), b"lost").unwrap();
        desk.drain();
        drop(desk);

        let mut desk = Desk::on(closed(), disk.open(), None);
        assert_eq!(desk.backend().enrolments().count(), 4);
        let all = told(&mut desk, 3, 3);
        let mut seen = (0, Vec::new(), Vec::new());
        for octets in &all {
            match decode(V4, octets).unwrap().body {
                Body::ResultSync { records, .. } => seen.0 += records.len(),
                Body::RuleSync { rules, .. } => seen.1.extend(rules.iter().map(|rule| rule.pattern.to_vec())),
                Body::Parameters { words, .. } => seen.2.extend(words.iter()),
                _ => {}
            }
        }
        assert_eq!(seen, (1, vec![b"^SSH".to_vec(), b"^ssh".to_vec()], vec![1, 2, 3]));
        let barred = told(&mut desk, 2, 2);
        assert_eq!(
            decode(V4, &barred[0]).unwrap().body,
            Body::RegisterAnswer(Outcome::refused(Reason::BARRED))
        );
        let foreign = told(&mut desk, 4, 4);
        let records = foreign.iter().map(|octets| match decode(V4, octets).unwrap().body {
            Body::ResultSync { records, .. } => records.len(),
            _ => 0,
        });
        assert_eq!(records.sum::<usize>(), 0, "nothing crosses groups");
    }
}

#[test]
fn rules_and_parameters_reach_gateways_only_once_they_are_durable() {
    let mut desk = Desk::new(desk::config(V4));
    let gateway = desk.member(1, None, 5);
    desk.backend().set_rule(None, AppId(1), b"kept").unwrap();
    desk.drain();
    desk.answer_all(gateway);
    desk.commits = false;
    desk.backend().set_rule(None, AppId(7), b"new").unwrap();
    desk.backend().remove_rule(None, AppId(1), None).unwrap();
    desk.backend().set_parameters("home", AppId(7), vec![1]).unwrap();
    desk.drain();
    assert_eq!(desk.heard(gateway), []);
    let rules = |desk: &mut Desk| desk.backend().rules("home").map(|(app, _)| app.0).collect::<Vec<_>>();
    assert_eq!((rules(&mut desk), desk.backend().parameters("home", AppId(7))), (vec![1], None));
    // One that registers now is told what is durable.
    let late = desk.connect(2, None);
    desk.say(late, 5, &Body::Register);
    let synced: Vec<Vec<u8>> = desk
        .answer_all(late)
        .iter()
        .filter_map(|octets| match decode(V4, octets).unwrap().body {
            Body::RuleSync { rules, .. } => {
                Some(rules.iter().map(|rule| rule.pattern.to_vec()).collect::<Vec<_>>())
            }
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(synced, [b"kept".to_vec()]);
    // The operator's own order is checked against what was asked, not against what is durable.
    desk.backend().remove_rule(None, AppId(7), Some(b"new")).unwrap();
    desk.backend().set_rule(None, AppId(8), b"last").unwrap();
    desk.commits = true;
    desk.drain();
    for gateway in [gateway, late] {
        let heard: Vec<u16> = desk.heard(gateway).iter().map(|(id, _)| *id).collect();
        assert!(heard.contains(&RULE_SYNC) && heard.contains(&PARAMETERS), "{heard:?}");
    }
    assert_eq!((rules(&mut desk), desk.told(EventKind::Durable)), (vec![8], 6));
}

#[test]
fn an_enrolment_holds_once_it_is_durable_and_a_revocation_at_once() {
    let mut desk = Desk::new(closed());
    let enrolment =
        |group: &str| Enrolment { name: "g".into(), group: group.into(), trusted: false, barred: false };
    desk.commits = false;
    desk.backend().enrol(key(1), enrolment("home")).unwrap();
    let early = told(&mut desk, 1, 1);
    assert_eq!((early.len(), desk.backend().gateways().count()), (0, 0), "it waits for the disk");
    desk.commits = true;
    desk.drain();
    assert_eq!(desk.backend().gateways().count(), 1);
    let gateway = desk.member(2, Some(key(1)), 5);
    desk.hung_up();
    // The disk is full: whom the operator wants out is out all the same.
    desk.commits = false;
    desk.backend().revoke(key(1)).unwrap();
    desk.drain();
    assert_eq!((desk.hung_up(), desk.told(EventKind::GatewayDeregistered)), (vec![gateway], 1));
    let refused = told(&mut desk, 3, 1);
    assert_eq!(said(V4, &refused[0]), (REGISTER | ANSWER, 5));
    assert_eq!(desk.backend().gateways().count(), 0);
    // Enrolled again, then barred, while both wait: out.
    desk.backend().enrol(key(1), enrolment("home")).unwrap();
    let now = desk.now;
    desk.backend().deregister(now, key(1)).unwrap();
    desk.commits = true;
    desk.drain();
    let barred = told(&mut desk, 4, 1);
    assert_eq!(decode(V4, &barred[0]).unwrap().body, Body::RegisterAnswer(Outcome::refused(Reason::BARRED)));
}

#[test]
fn a_gateway_that_moves_to_another_group_registers_afresh() {
    let mut desk = Desk::new(closed());
    desk.enrol(1, "home", false);
    let gateway = desk.member(1, Some(key(1)), 5);
    desk.commits = false;
    let enrolment = Enrolment { name: "g".into(), group: "away".into(), trusted: false, barred: false };
    desk.backend().enrol(key(1), enrolment).unwrap();
    desk.drain();
    assert_eq!(desk.hung_up(), [], "until it is durable it stays where it is");
    desk.commits = true;
    desk.drain();
    assert_eq!(desk.hung_up(), [gateway]);
    desk.member(2, Some(key(1)), 6);
    assert_eq!(desk.backend().gateways().next().unwrap().group, "away");
}

#[test]
fn a_full_ring_of_features_goes_on_where_it_was() {
    for disk in Disk::all() {
        let config = || BackendConfig { max_features_per_gateway: 3, ..desk::config(V4) };
        for round in 0..2u16 {
            let mut desk = Desk::on(config(), disk.open(), None);
            let gateway = desk.member(1, None, 5);
            for at in 1..=2 {
                let words = [u32::from(round * 2 + at)];
                desk.pass(SECOND);
                desk.octets(gateway, &encoder(V4).words(at, Kind::Features, AppId(7), &words));
            }
        }
        let mut words = Vec::new();
        hailpost::gateway::Backend::load_features(&*disk.open(), |_, _, _, _, kept| words.extend(kept))
            .unwrap();
        words.sort_unstable();
        assert_eq!(words, [2, 3, 4], "the oldest went");
    }
}

/// A model that looks at one feature with one unit; its last word tells it from others.
fn words(number: u8) -> Vec<u32> {
    let header = Header { feature_set: hailpost::node::feature_set().version(), form: 1, revision: 0 };
    let (shape, bounds) = ([1.0, 1.0, 0.0, 0.0], [0.5, 1.0]);
    let (centre_and_scale, unit) = ([0.0, 1.0], [1.0, 0.0, 1.0]);
    let numbers =
        shape.into_iter().chain(bounds).chain(centre_and_scale).chain(unit).chain([f32::from(number)]);
    [header.to_word()].into_iter().chain(numbers.map(f32::to_bits)).collect()
}

#[test]
fn earlier_parameters_are_there_to_go_back_to_after_a_restart() {
    for disk in Disk::all() {
        let mut desk = Desk::on(desk::config(V4), disk.open(), Some(1));
        for number in 1..=3 {
            desk.node.set_parameters("home", AppId(7), words(number)).unwrap();
        }
        desk.drain();
        let last = |desk: &mut Desk| {
            let held = desk.backend().parameters("home", AppId(7)).unwrap();
            f32::from_bits(*held.last().unwrap())
        };
        assert_eq!(last(&mut desk), 3.0);
        drop(desk);
        let mut desk = Desk::on(desk::config(V4), disk.open(), Some(2));
        let gateway = desk.member(1, None, 5);
        assert_eq!(last(&mut desk), 3.0);
        for number in [2.0, 1.0] {
            desk.node.roll_back("home", AppId(7)).unwrap();
            desk.drain();
            let told = desk.answer_all(gateway);
            assert_eq!((told.len(), said(V4, &told[0]).0, last(&mut desk)), (1, PARAMETERS, number));
        }
        desk.node.roll_back("home", AppId(7)).unwrap_err();
        drop(desk);
        let mut desk = Desk::on(desk::config(V4), disk.open(), Some(3));
        assert_eq!(last(&mut desk), 1.0, "gone back for good");
        assert!(
            desk.node.models("home").any(|model| model.app == AppId(7) && model.is_held),
            "and training does not undo it"
        );
    }
}

#[test]
fn one_row_an_application_and_one_seed_however_often_it_starts() {
    let rows = Memory::default();
    let mut seeds = Vec::new();
    for seed in 1..=6 {
        let mut desk = Desk::on(desk::config(V4), Box::new(rows.clone()), Some(seed));
        desk.node.set_parameters("home", AppId(7), words(seed as u8)).unwrap();
        desk.node.set_parameters("home", AppId(8), vec![seed as u32]).unwrap();
        desk.drain();
        rows.load(Table::rows("setting"), &mut |_, value| seeds.push(value.to_vec())).unwrap();
    }
    let mut models = 0;
    rows.load(Table::rows("model"), &mut |_, _| models += 1).unwrap();
    assert_eq!(models, 2);
    seeds.dedup();
    assert_eq!(seeds, [1u64.to_be_bytes().to_vec()]);
}

#[test]
fn who_is_barred_while_the_enrolment_waits_for_the_disk_stays_out() {
    use hailpost::node::Node;
    let enrolment = Enrolment { name: "g".into(), group: "home".into(), trusted: false, barred: false };
    for revoked in [false, true] {
        let mut desk = Desk::new(closed());
        desk.commits = false;
        desk.backend().enrol(key(1), enrolment.clone()).unwrap();
        desk.drain();
        let now = desk.now;
        let reason = if revoked {
            desk.backend().revoke(key(1)).unwrap();
            Reason::NOT_AUTHORISED
        } else {
            desk.backend().deregister(now, key(1)).unwrap();
            Reason::BARRED
        };
        // The store has the enrolment now, and was not yet asked for the other.
        assert!(desk.node.flush(now));
        let answers = told(&mut desk, 1, 1);
        let refusal = Body::RegisterAnswer(Outcome::refused(reason));
        assert_eq!(decode(V4, &answers[0]).unwrap().body, refusal);
    }
}
