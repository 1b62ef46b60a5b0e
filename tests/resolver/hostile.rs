//! Servers, and those who pose as them, that break the rules.

use std::{collections::BTreeSet, io::ErrorKind};

use hailpost::{
    net::resolver::{
        Config, Failure, Kind, MAX_ADDRESSES, MAX_RESULT, MAX_STRAYS, MAX_TARGETS, Reason, Transport,
    },
    rng::{Entropy, Seeded},
    wire::dns::Malformed,
};

use crate::bench::*;

#[test]
fn eight_aliases_are_followed_and_no_ninth() {
    for (aliases, within) in [(8, true), (9, true), (8, false), (9, false)] {
        let mut bench = Bench::new("nameserver 192.0.2.53\noptions no-aaaa\n");
        let id = bench.lookup("c0.example");
        let name = |i: usize| format!("c{i}.example");
        if within {
            let query = bench.query("c0.example", A);
            let reply = (0..aliases).fold(query.reply(), |r, i| r.with(&name(i), CNAME, 9, &name(i + 1)));
            bench.send(&query, &reply.with(&name(aliases), A, 9, "198.51.100.1"));
        } else {
            // One at a time.
            while let Some(query) = bench.open.first().cloned() {
                let i: usize = query.name[1..query.name.find('.').unwrap()].parse().unwrap();
                let reply = match i < aliases {
                    true => query.reply().with(&name(i), CNAME, 9, &name(i + 1)),
                    false => query.reply().with(&name(i), A, 9, "198.51.100.1"),
                };
                bench.send(&query, &reply);
            }
        }
        let circle = Err(Reason::Failed(Failure::TooManyAliases));
        let expected = if aliases == 8 { Ok(vec!["198.51.100.1:7700".into()]) } else { circle };
        assert_eq!(bench.result(id), expected, "{aliases} {within}");
    }
}

#[test]
fn aliases_in_a_circle_end() {
    let circle: Zone = &[("a.example", CNAME, "b.example"), ("b.example", CNAME, "a.example")];
    let mut bench = Bench::new(CONF);
    let id = bench.lookup("a.example");
    bench.serve(circle);
    assert_eq!(bench.reason(id), Reason::Failed(Failure::TooManyAliases));
    assert_eq!(bench.counters().lookups_too_long, 1);
    // The same with every answer naming one alias only.
    let mut bench = Bench::new("nameserver 192.0.2.53\noptions no-aaaa\n");
    let id = bench.lookup("a.example");
    while let Some(query) = bench.open.first().cloned() {
        let other = if query.is("a.example", A) { "b.example" } else { "a.example" };
        bench.send(&query, &query.reply().with(&query.name, CNAME, 60, other));
    }
    assert_eq!(bench.reason(id), Reason::Failed(Failure::TooManyAliases));
}

#[test]
fn a_lookup_that_leads_through_too_many_names_ends() {
    let mut bench = Bench::new(CONF);
    let id = bench.lookup_kind("example", &srv("_x._tcp"));
    let query = bench.query("_x._tcp.example", SRV);
    let reply = (0..8)
        .fold(query.reply(), |r, i| r.with("_x._tcp.example", SRV, 60, &format!("{i} 0 99 h{i}.example")));
    bench.send(&query, &reply);
    while let Some(query) = bench.open.first().cloned() {
        bench.send(&query, &query.reply().with(&query.name, CNAME, 60, &format!("x{}", query.name)));
    }
    assert_eq!(bench.reason(id), Reason::TooManyQueries);
    assert_eq!(bench.counters().lookups_too_long, 1);
}

#[test]
fn over_tcp_another_answer_is_an_error_and_length_nothing_too() {
    for octets in [&b"\0\0"[..], b"\0\x01x", b"\0\x02\xff\xff", &[&[0, 12][..], &[0; 12]].concat()] {
        let mut bench = Bench::new("nameserver 192.0.2.53\noptions no-aaaa use-vc\n");
        let id = bench.lookup("host.example");
        let tcp = bench.open[0].clone();
        assert_eq!(tcp.transport, Transport::Tcp);
        bench.stream(&tcp, octets);
        assert_eq!(bench.reason(id), Reason::Failed(Failure::WrongAnswer), "{octets:?}");
    }
    // The largest message there can be, and more after it.
    let mut bench = Bench::new("nameserver 192.0.2.53\noptions no-aaaa use-vc\n");
    let id = bench.lookup("host.example");
    let tcp = bench.open[0].clone();
    let mut octets = [&[0xff, 0xff][..], &answer(ZONE, &tcp).octets()].concat();
    octets.resize(200_000, 0);
    bench.stream(&tcp, &octets);
    assert_eq!(bench.found(id).len(), 2);
}

#[test]
fn forged_answers_are_not_believed() {
    let mut bench = Bench::new("nameserver 192.0.2.53\noptions no-aaaa\n");
    let id = bench.lookup("host.example");
    let query = bench.open[0].clone();
    let evil = query.reply().with("host.example", A, 60, "203.0.113.66");
    let forgeries = [
        Reply { id: query.id ^ 1, ..evil.clone() },
        Reply { flags: 0x0100, ..evil.clone() },
        Reply { flags: 0xa980, ..evil.clone() },
        Reply { question: Some(("evil.example".into(), A)), ..evil.clone() },
        Reply { question: Some((query.name.clone(), AAAA)), ..evil.clone() },
        Reply { question: None, ..evil.clone() },
        Reply { question: None, ..query.reply().rcode(3) },
    ];
    for forgery in &forgeries {
        bench.send(&query, forgery);
        assert_eq!(bench.open.len(), 1, "still waiting for the answer");
    }
    for from in ["192.0.2.54:53", "192.0.2.53:54", "[2001:db8::53]:53"] {
        bench.resolver.handle_datagram(bench.now, query.socket, from.parse().unwrap(), &evil.octets());
        bench.drain();
    }
    let mut chaos = evil.octets();
    let class = 12 + wire_name(&query.name).len() + 3;
    chaos[class] = 3;
    bench.datagram(&query, &chaos);
    assert_eq!(bench.counters().strays, forgeries.len() as u64 + 4);
    bench.serve(ZONE);
    assert_eq!(bench.found(id), ["198.51.100.1:7700", "198.51.100.2:7700"]);
}

#[test]
fn records_of_other_names_are_not_believed() {
    let mut bench = Bench::new("nameserver 192.0.2.53\noptions no-aaaa\n");
    let id = bench.lookup("host.example");
    let query = bench.open[0].clone();
    let mut reply = query.reply().with("evil.example", A, 60, "203.0.113.66").denied(10);
    reply.sections[2].push(record("host.example", A, 60, "203.0.113.66"));
    bench.send(&query, &reply);
    assert_eq!(bench.reason(id), Reason::NoAddress);
    bench.lookup("evil.example");
    assert_eq!(bench.open.len(), 1, "it was not cached either");
}

#[test]
fn a_flood_of_guesses_moves_the_question_to_tcp() {
    let mut bench = Bench::new("nameserver 192.0.2.53\noptions no-aaaa\n");
    let id = bench.lookup("host.example");
    let query = bench.open[0].clone();
    let evil = query.reply().with("host.example", A, 60, "203.0.113.66");
    for i in 0..=MAX_STRAYS as u16 {
        assert_eq!(bench.open[0].transport, Transport::Udp);
        bench.send(&query, &Reply { id: query.id.wrapping_add(i + 1), ..evil.clone() });
    }
    assert_eq!((bench.open[0].transport, bench.counters().guessed), (Transport::Tcp, 1));
    // A right guess is too late now.
    bench.datagram(&query, &evil.octets());
    bench.serve(ZONE);
    assert_eq!(bench.found(id).len(), 2);
}

#[test]
fn ids_sockets_and_case_differ_from_query_to_query() {
    let (mut ids, mut sockets, mut cases) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut bench = Bench::new("nameserver 192.0.2.53\noptions no-aaaa\n");
    for _ in 0..300 {
        let id = bench.lookup("a-rather-long-name.example");
        let query = bench.open[0].clone();
        ids.insert(query.id);
        sockets.insert(query.socket);
        cases.insert(query.name.clone());
        bench.resolver.cancel(bench.now, id);
        bench.drain();
    }
    assert!(ids.len() > 290 && sockets.len() == 300 && cases.len() > 290);
}

#[test]
fn an_answer_in_another_case_is_asked_for_again() {
    let mut bench = Bench::new("nameserver 192.0.2.53\noptions no-aaaa\n");
    let id = bench.lookup("v4.example");
    let query = bench.open[0].clone();
    let folded = |query: &Query| {
        let question = Some((query.name.to_ascii_lowercase(), A));
        Reply { question, ..query.reply() }.with("v4.example", A, 60, "198.51.100.4")
    };
    assert_ne!(query.name, "v4.example");
    bench.send(&query, &folded(&query));
    let again = bench.open[0].clone();
    assert_ne!((again.id, again.socket), (query.id, query.socket));
    assert_eq!((again.name.as_str(), again.transport), ("v4.example", Transport::Udp));
    bench.send(&again, &folded(&again));
    assert_eq!(bench.found(id), ["198.51.100.4:7700"]);
    assert_eq!(bench.counters().case_folded, 1);
    // A name that was given in capitals is fine in any case by then.
    let id = bench.lookup("V4X.example");
    let query = bench.open[0].clone();
    bench.send(&query, &folded(&query).with("v4x.example", A, 60, "198.51.100.5"));
    assert_eq!(bench.found(id), ["198.51.100.5:7700"]);
}

#[test]
fn a_malformed_answer_is_named_with_its_octet() {
    let mut bench = Bench::new("nameserver 192.0.2.53\noptions no-aaaa\n");
    let good = {
        bench.lookup("v4.example");
        let query = bench.open[0].clone();
        answer(ZONE, &query).octets()
    };
    for cut in 2..good.len() {
        let mut bench = Bench::new("nameserver 192.0.2.53\noptions no-aaaa\n");
        let id = bench.lookup("v4.example");
        let query = bench.open[0].clone();
        bench.datagram(&query, &answer(ZONE, &query).octets()[..cut]);
        let error = bench.done[&id].0.as_ref().unwrap_err();
        match error.reason {
            Reason::Failed(Failure::Malformed(e)) => {
                assert_eq!((e.offset, e.what), (cut, Malformed::Truncated));
                let text = format!("octet {cut}: the message ends inside a field");
                assert_eq!(
                    error.to_string(),
                    format!("v4.example: the name server's answer is malformed: {text}")
                );
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(bench.counters().malformed, 1);
    }
    // Shorter than an id it is nobody's answer.
    let query = bench.open[0].clone();
    bench.datagram(&query, &[]);
    bench.datagram(&query, &[1]);
    assert_eq!((bench.counters().strays, bench.open.len()), (2, 1));
}

#[test]
fn addresses_that_mean_nothing_elsewhere_are_left_out() {
    let zone: Zone = &[
        ("bad.example", A, "0.0.0.0"),
        ("bad.example", AAAA, "::"),
        ("bad.example", A, "255.255.255.255"),
        ("bad.example", A, "224.0.0.1"),
        ("bad.example", AAAA, "ff02::1"),
        ("bad.example", AAAA, "::ffff:0.0.0.0"),
    ];
    let mut bench = Bench::new(CONF);
    let id = bench.lookup("bad.example");
    bench.serve(zone);
    assert_eq!(bench.reason(id), Reason::NoAddress);
}

#[test]
fn more_addresses_and_services_than_are_kept_are_left_out_and_counted() {
    let address = |i: usize| format!("198.51.100.{i}");
    let mut bench = Bench::new("nameserver 192.0.2.53\noptions no-aaaa use-vc\n");
    let id = bench.lookup("many.example");
    let query = bench.open[0].clone();
    let reply = (0..20).fold(query.reply(), |r, i| r.with("many.example", A, 60, &address(i)));
    bench.send(&query, &reply);
    assert_eq!((bench.found(id).len(), bench.counters().left_out), (MAX_ADDRESSES, 4));

    // 70 instances, of which 64 are kept and 8 looked up, each with 16 addresses, of which 32 are given.
    let before = bench.counters().left_out;
    let id = bench.lookup_kind("example", &srv("_x._tcp"));
    let query = bench.open[0].clone();
    let reply = (0..70).rev().fold(query.reply(), |r, i| {
        r.with("_x._tcp.example", SRV, 60, &format!("{i} 0 {} h{i}.example", i + 1))
    });
    bench.send(&query, &reply);
    assert_eq!(bench.open.len(), MAX_TARGETS);
    while let Some(query) = bench.open.first().cloned() {
        let reply = (0..16).fold(query.reply(), |r, i| r.with(&query.name, A, 60, &address(i)));
        bench.send(&query, &reply);
    }
    let found = bench.found(id);
    assert_eq!(
        (found.len(), found[0].as_str(), found[31].as_str()),
        (MAX_RESULT, "198.51.100.0:1", "198.51.100.15:2")
    );
    assert_eq!(bench.counters().left_out - before, 6 + 56 + 96);
}

/// Whatever servers and network do, every lookup ends by its limit, sockets are closed, and nothing panics.
#[test]
fn five_hundred_seeds_of_servers_gone_wrong() {
    let names = ["host", "host.example", "alias.example", "example", "nas", "empty.example", "no.such"];
    let (mut found, mut failed) = (0, 0);
    for seed in 0..500 {
        let mut rng = Seeded::new(seed);
        let conf = format!("{TWO}search example corp.example\noptions timeout:1\n");
        let mut bench = Bench::with(Config::parse(&conf, ""), seed);
        let mut ids = Vec::new();
        let mut steps = 0;
        let mut recent: Vec<Query> = Vec::new();
        while ids.len() < 12 || ids.iter().any(|id| !bench.done.contains_key(id)) {
            steps += 1;
            assert!(steps < 20_000, "seed {seed} hangs");
            if ids.len() < 12 && rng.below(3) == 0 {
                let kind = if rng.below(4) == 0 { srv("_hail._udp") } else { Kind::Address };
                ids.push(bench.lookup_kind(names[rng.below(7) as usize], &kind));
                continue;
            }
            if bench.open.is_empty() || rng.below(12) == 0 {
                if bench.resolver.deadline().is_some() {
                    bench.tick();
                }
                continue;
            }
            recent.extend(bench.open.iter().cloned());
            recent.drain(..recent.len().saturating_sub(40));
            // Of the recent ones some are closed by now.
            let among = if rng.below(4) == 0 { &recent } else { &bench.open };
            let query = among[rng.below(among.len() as u32) as usize].clone();
            let reply = answer(ZONE, &query);
            match rng.below(10) {
                0..4 => bench.send(&query, &reply),
                4 => bench.send(&query, &query.reply().rcode(rng.below(16) as u16)),
                5 => bench.send(&query, &Reply { flags: 0x8380, ..reply }),
                6 => bench.fail(&query, ErrorKind::ConnectionReset),
                7 => bench.send(&query, &Reply { id: rng.next_u16(), ..reply }),
                8 => {
                    let mut octets = reply.octets();
                    for _ in 0..3 {
                        let at = rng.below(octets.len() as u32) as usize;
                        octets[at] = rng.next_u16() as u8;
                    }
                    match rng.below(2) {
                        0 => bench.datagram(&query, &octets),
                        _ => bench.stream(&query, &octets),
                    }
                }
                _ => {
                    let conf = if rng.below(2) == 0 { &conf } else { CONF };
                    bench.resolver.set_config(bench.now, Config::parse(conf, ""));
                    bench.drain();
                }
            }
        }
        assert_eq!((bench.open.len(), bench.resolver.deadline()), (0, None), "seed {seed}");
        found += bench.done.values().filter(|(r, _)| r.is_ok()).count();
        failed += bench.done.values().filter(|(r, _)| r.is_err()).count();
    }
    assert!(found > 1500 && failed > 500, "{found} found, {failed} failed");
}
