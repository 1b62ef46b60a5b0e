//! The rules file that ships: what it must know, what it must not claim, what it costs.
#![cfg(feature = "recognize")]

mod captures;
mod flows;
mod foreign;
mod names;
mod protocols;
mod quic;

use std::{collections::BTreeSet, sync::Arc};

use flows::{Case, Flow, Random, feed, home, home_and_more, recognise};
use hailpost::recognize::{Config, Recognizer, RuleSet, RulesFile, Stage};

fn cases() -> Vec<Case> {
    [names::cases(), protocols::cases(), foreign::cases()].into_iter().flatten().collect()
}

fn compiled(rules: &RulesFile) -> Arc<RuleSet> {
    let plain: Vec<_> = rules.rules.iter().map(|named| named.rule.clone()).collect();
    Arc::new(RuleSet::compile(&plain, Default::default()).expect("it compiled before"))
}

fn wrong(rules: &RulesFile, cases: &[Case]) -> Vec<String> {
    let set = compiled(rules);
    let mut wrong = Vec::new();
    for (at, case) in cases.iter().enumerate() {
        let got = recognise(rules, &set, &case.flow);
        if got.as_deref() != case.want {
            let first = &case.flow.payloads[0].1;
            let shown = String::from_utf8_lossy(&first[..first.len().min(48)]).into_owned();
            wrong.push(format!(
                "case {at}: want {:?}, got {got:?}: port {} {shown:?}",
                case.want, case.flow.ports[1]
            ));
        }
    }
    wrong
}

#[test]
fn every_case() {
    let cases = cases();
    let unknown = cases.iter().filter(|case| case.want.is_none()).count();
    println!("{} cases, {unknown} of them must stay unknown", cases.len());
    assert!(cases.len() >= 150 && unknown >= 60);
    let wrong = wrong(&home(), &cases);
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// A datagram may come twice.
#[test]
fn every_datagram_twice() {
    let mut cases: Vec<Case> = cases().into_iter().filter(|case| case.want.is_some()).collect();
    for case in &mut cases {
        let twice = |(from, octets): &(bool, Vec<u8>)| [(*from, octets.clone()), (*from, octets.clone())];
        if !case.flow.tcp {
            case.flow.payloads = case.flow.payloads.iter().flat_map(twice).collect();
        }
    }
    let wrong = wrong(&home(), &cases);
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Streams are matched whatever the segments they come in.
#[test]
fn every_stream_in_small_segments() {
    let mut cases: Vec<Case> = cases().into_iter().filter(|case| case.flow.tcp).collect();
    for case in &mut cases {
        let cut = |(from, octets): &(bool, Vec<u8>)| -> Vec<(bool, Vec<u8>)> {
            octets.chunks((octets.len() / 4).max(1)).map(|piece| (*from, piece.to_vec())).collect()
        };
        // More than four of them would be past the packets that are looked at.
        if case.flow.payloads.len() <= 4 {
            case.flow.payloads = case.flow.payloads.iter().flat_map(cut).collect();
        }
    }
    let wrong = wrong(&home(), &cases);
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn labelled_captures() {
    let rules = home();
    let Some(figures) = captures::figures(&rules, &compiled(&rules)) else {
        return;
    };
    println!("{figures:?}");
    assert!(figures.right * 100 >= figures.flows * 95);
    assert!(figures.decided_right * 100 >= figures.decided * 97);
    assert!(figures.claimed * 100 <= figures.other * 5);
}

#[test]
fn applications_and_their_cases() {
    let rules = home();
    let names: BTreeSet<&str> = rules.names().map(|(_, name)| name).collect();
    println!("{} applications, {} rules", names.len(), rules.rules.len());
    assert!(names.len() >= 50);
    let cases = cases();
    let shown: BTreeSet<&str> = cases.iter().filter_map(|case| case.want).collect();
    assert_eq!(names.difference(&shown).collect::<Vec<_>>(), Vec::<&&str>::new(), "without a case");
    let more = home_and_more();
    println!("with more.toml: {} applications, {} rules", more.names().count(), more.rules.len());
    assert!(more.names().count() > names.len() + 30);
}

/// Names in more.toml refine what home.toml says; they do not take anything away from it.
#[test]
fn more_rules_only_add() {
    let rules = home_and_more();
    let finer: BTreeSet<&str> = rules.names().filter(|(app, _)| app.0 >= 100).map(|(_, name)| name).collect();
    let set = compiled(&rules);
    for case in cases() {
        let got = recognise(&rules, &set, &case.flow);
        let finer = got.as_deref().is_some_and(|name| finer.contains(name));
        assert!(got.as_deref() == case.want || finer, "want {:?}, got {got:?}", case.want);
    }
}

/// Octets that mean nothing, on any ports and on those that rules ask for.
#[test]
fn noise_is_not_claimed() {
    const FLOWS: u32 = 100_000;
    let rules = home();
    let set = compiled(&rules);
    let mut random = Random(7);
    let mut recognizer = Recognizer::new(Arc::clone(&set), Config::default());
    let mut claimed: Vec<String> = Vec::new();
    for number in 1..=FLOWS {
        let tcp = random.below(2) == 0;
        let port = match random.below(4) {
            0 => PORTS[random.below(PORTS.len() as u64) as usize],
            _ => 1024 + random.below(64_000) as u16,
        };
        let payloads = (0..1 + random.below(8))
            .map(|_| {
                let length = match random.below(3) {
                    0 => 1 + random.below(64),
                    1 => 1 + random.below(400),
                    _ => 1 + random.below(1400),
                };
                (random.below(2) == 0, (0..length).map(|_| random.next() as u8).collect())
            })
            .collect();
        let flow = Flow { tcp, ports: [1024 + random.below(64_000) as u16, port], payloads };
        feed(&mut recognizer, &flow, number);
        if number == FLOWS {
            recognizer.finish();
        }
        while let Some(verdict) = recognizer.poll_verdict() {
            if let (Stage::Ended, Some(app)) = (verdict.stage, verdict.app) {
                let name = rules.name(app).expect("every application has a name");
                claimed.push(format!("{name} {}", verdict.flow.responder.port()));
            }
        }
    }
    println!("{} of {FLOWS} flows of noise claimed: {claimed:?}", claimed.len());
    assert!(claimed.len() * 1000 < FLOWS as usize);
}

const PORTS: [u16; 24] = [
    21, 22, 25, 53, 67, 80, 123, 137, 138, 139, 443, 445, 500, 1194, 1883, 1900, 3389, 3478, 5060, 5222,
    5353, 5355, 5683, 8801,
];

/// What the rules take in memory, compiled and after everything here was looked at.
#[test]
fn memory() {
    let rules = home();
    let set = compiled(&rules);
    let config = Config { max_flows: 256, ..Config::default() };
    let mut recognizer = Recognizer::new(Arc::clone(&set), config);
    let mut random = Random(3);
    let cases = cases();
    for number in 1..=20_000 {
        let case = &cases[random.below(cases.len() as u64) as usize];
        let mut flow = Flow { payloads: case.flow.payloads.clone(), ..case.flow };
        // Most octets as they are, some changed.
        for (_, payload) in &mut flow.payloads {
            for octet in payload.iter_mut() {
                if random.below(64) == 0 {
                    *octet = random.next() as u8;
                }
            }
        }
        feed(&mut recognizer, &flow, number);
        while recognizer.poll_verdict().is_some() {}
    }
    let memory = recognizer.memory();
    let counters = recognizer.counters();
    println!(
        "compiled: {} KiB; automaton: {} KiB of {} KiB, renewed {} times, {} runs cut",
        memory.rules / 1024,
        memory.automaton / 1024,
        hailpost::recognize::Limits::default().automaton_memory / 1024,
        counters.automaton_renewed,
        counters.automaton_lost,
    );
    assert_eq!(counters.automaton_lost, 0);
    assert!(memory.rules <= 1 << 20);
}
