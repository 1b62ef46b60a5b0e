//! What lookups come to when servers are honest.

use std::time::Duration;

use hailpost::net::resolver::{
    Config, Failure, Kind, MAX_CACHED, MAX_LOOKUPS, MAX_SERVICES, MAX_TTL, Reason, Target, Transport,
};

use crate::bench::*;

#[test]
fn both_families_are_asked_at_once_and_take_turns() {
    let mut bench = Bench::new(CONF);
    let id = bench.lookup("host.example:80");
    assert_eq!(bench.open.len(), 2);
    assert!(bench.open.iter().all(|q| q.transport == Transport::Udp && q.edns));
    assert_eq!(bench.query("host.example", A).server.to_string(), "192.0.2.53:53");
    assert_ne!(bench.open[0].socket, bench.open[1].socket);
    bench.serve(ZONE);
    assert_eq!(bench.found(id), ["[2001:db8::1]:80", "198.51.100.1:80", "198.51.100.2:80"]);
    assert_eq!((bench.ttl(id), bench.resolver.deadline()), (60, None));
}

#[test]
fn what_needs_no_server() {
    let mut bench = Bench::with_hosts(CONF, "198.51.100.77 gw.home gw\n0.0.0.0 blocked.example\n");
    for (target, found) in [
        ("192.0.2.1", Ok(&["192.0.2.1:7700"][..])),
        ("[fe80::1%4]:9", Ok(&["[fe80::1%4]:9"])),
        ("localhost", Ok(&["[::1]:7700", "127.0.0.1:7700"])),
        ("www.LocalHost.:80", Ok(&["[::1]:80", "127.0.0.1:80"])),
        ("GW", Ok(&["198.51.100.77:7700"])),
        ("gw.home:1", Ok(&["198.51.100.77:1"])),
        ("blocked.example", Err(Reason::NoAddress)),
        ("a.invalid", Err(Reason::NoSuchName)),
        ("a.onion", Err(Reason::NoSuchName)),
    ] {
        for kind in [Kind::Address, srv("_hail._udp")] {
            let id = bench.lookup_kind(target, &kind);
            let found = found.map(|l| l.iter().map(|a| a.to_string()).collect());
            assert_eq!(bench.result(id), found, "{target}");
            let ttl = if found.is_ok() { MAX_TTL } else { Duration::ZERO };
            assert_eq!(bench.done[&id].1, ttl);
        }
    }
    assert_eq!(bench.sent, 0);
}

#[test]
fn errors_say_which_name_and_what() {
    let mut bench = Bench::new(CONF);
    let missing = bench.lookup("missing.example");
    let empty = bench.lookup("empty.example");
    bench.serve(ZONE);
    let text = |id| bench.done[&id].0.as_ref().unwrap_err().to_string();
    assert_eq!(text(missing), "missing.example: no such name");
    assert_eq!(text(empty), "empty.example: the name exists but has no usable address");
    assert!(!bench.done[&missing].0.as_ref().unwrap_err().is_temporary());
}

#[test]
fn aliases_shorten_the_life_of_an_answer() {
    let mut bench = Bench::new(CONF);
    let id = bench.lookup("alias.example");
    bench.serve(ZONE);
    assert_eq!((bench.found(id), bench.ttl(id)), (vec!["198.51.100.4:7700".into()], 30));
}

#[test]
fn an_alias_that_the_server_did_not_follow_is_followed() {
    let mut bench = Bench::new("nameserver 192.0.2.53\noptions no-aaaa\n");
    let id = bench.lookup("a.example");
    let query = bench.query("a.example", A);
    bench.send(&query, &query.reply().with("a.example", CNAME, 5, "v4.example"));
    assert_eq!(bench.open.len(), 1);
    bench.serve(ZONE);
    assert_eq!((bench.found(id), bench.ttl(id)), (vec!["198.51.100.4:7700".into()], 5));
}

#[test]
fn a_search_list_is_tried_by_dots() {
    let conf = format!("{CONF}search lab.example corp.example\noptions ndots:1 no-aaaa\n");
    let asked = |target: &str| {
        let mut bench = Bench::new(&conf);
        let id = bench.lookup(target);
        let mut asked = Vec::new();
        while let Some(query) = bench.open.first().cloned() {
            asked.push(query.name.to_ascii_lowercase());
            bench.send(&query, &answer(ZONE, &query));
        }
        (asked, bench.result(id))
    };
    let names = |list: &[&str]| list.iter().map(|n| n.to_string()).collect::<Vec<_>>();
    assert_eq!(
        asked("nas"),
        (names(&["nas.lab.example", "nas.corp.example"]), Ok(names(&["198.51.100.9:7700"])))
    );
    assert_eq!(asked("v4.example"), (names(&["v4.example"]), Ok(names(&["198.51.100.4:7700"]))));
    assert_eq!(
        asked("no.example"),
        (
            names(&["no.example", "no.example.lab.example", "no.example.corp.example"]),
            Err(Reason::NoSuchName)
        )
    );
    assert_eq!(asked("no"), (names(&["no.lab.example", "no.corp.example", "no"]), Err(Reason::NoSuchName)));
    assert_eq!(asked("no."), (names(&["no"]), Err(Reason::NoSuchName)));
    // A name that exists without an address is told from one that does not exist.
    assert_eq!(asked("empty.example").1, Err(Reason::NoAddress));
}

#[test]
fn a_suffix_that_fails_is_passed_over_but_silence_is_not() {
    let conf = format!("{CONF}search lab.example\noptions ndots:3 no-aaaa\n");
    let mut bench = Bench::new(&conf);
    let id = bench.lookup("v4.example");
    let query = bench.query("v4.example.lab.example", A);
    bench.send(&query, &query.reply().rcode(2));
    bench.serve(ZONE);
    assert_eq!(bench.found(id), ["198.51.100.4:7700"]);

    let mut bench = Bench::new(&conf);
    let id = bench.lookup("v4.example");
    while !bench.done.contains_key(&id) {
        bench.tick();
    }
    assert_eq!(bench.reason(id), Reason::Failed(Failure::Timeout));
    assert_eq!(bench.sent, 2);

    // Nothing found, but one candidate could not be asked: that is no "no such name".
    let mut bench = Bench::new(&conf);
    let id = bench.lookup("no.example");
    let query = bench.query("no.example.lab.example", A);
    bench.send(&query, &query.reply().rcode(2));
    bench.serve(ZONE);
    assert_eq!(bench.reason(id), Reason::Failed(Failure::ServerFailure { rcode: 2 }));
}

#[test]
fn a_service_by_priority_with_its_ports() {
    let mut bench = Bench::new(CONF);
    let id = bench.lookup_kind("example", &srv("_hail._udp"));
    assert_eq!(bench.open.len(), 1);
    bench.serve(ZONE);
    let expected = ["[2001:db8::1]:7701", "198.51.100.1:7701", "198.51.100.2:7701", "198.51.100.7:7702"];
    assert_eq!(bench.found(id), expected);
    let id = bench.lookup_kind("example", &srv("_no._udp"));
    bench.serve(ZONE);
    assert_eq!(bench.reason(id), Reason::NotOffered);
    // Without service records the host itself, at the target's port.
    let id = bench.lookup_kind("example:5222", &srv("_other._tcp"));
    bench.serve(ZONE);
    assert_eq!(bench.found(id), ["198.51.100.80:5222"]);
}

#[test]
fn addresses_that_come_along_with_a_service_are_used_and_others_are_not() {
    let mut bench = Bench::new(CONF);
    let id = bench.lookup_kind("example", &srv("_x._tcp"));
    let query = bench.query("_x._tcp.example", SRV);
    let mut reply = query.reply().with("_x._tcp.example", SRV, 60, "0 0 99 host.example");
    // More of what was not asked for than is kept of what was.
    reply.sections[2] = vec![record("evil.example", A, 60, "203.0.113.66"); 2 * MAX_SERVICES];
    reply.sections[2].push(record("host.example", A, 60, "203.0.113.1"));
    bench.send(&query, &reply);
    // Only the family that did not come along is asked for.
    assert_eq!(bench.open.len(), 1);
    let query = bench.query("host.example", AAAA);
    bench.send(&query, &query.reply().denied(10));
    assert_eq!(bench.found(id), ["203.0.113.1:99"]);
    // Nothing of it entered the cache.
    for name in ["host.example", "evil.example"] {
        bench.lookup(name);
        bench.query(name, A);
        bench.serve(ZONE);
    }
}

#[test]
fn only_eight_hosts_of_a_service_are_looked_up() {
    let mut bench = Bench::new("nameserver 192.0.2.53\noptions no-aaaa\n");
    let id = bench.lookup_kind("example", &srv("_x._tcp"));
    let query = bench.query("_x._tcp.example", SRV);
    let reply = (0..300)
        .fold(query.reply(), |r, i| r.with("_x._tcp.example", SRV, 60, &format!("{i} 0 99 h{i}.example")));
    bench.send(&query, &Reply { flags: 0x8380, ..query.reply() });
    let query = bench.query("_x._tcp.example", SRV);
    bench.send(&query, &Reply { id: query.id, question: Some((query.name.clone(), SRV)), ..reply });
    assert_eq!(bench.open.len(), 8);
    bench.serve(&[("h3.example", A, "198.51.100.3")]);
    assert_eq!(bench.found(id), ["198.51.100.3:99"]);
}

#[test]
fn an_answer_is_kept_for_its_time_and_not_longer() {
    let mut bench = Bench::new(CONF);
    bench.lookup("v4.example");
    bench.serve(ZONE);
    let sent = bench.sent;
    // The denial of an IPv6 address lives ten seconds, the address sixty.
    bench.pass(Duration::from_millis(9_999));
    let id = bench.lookup("V4.example");
    assert_eq!((bench.found(id).len(), bench.ttl(id), bench.sent), (1, 50, sent));
    assert_eq!(bench.counters().cache_hits, 2);
    bench.pass(Duration::from_millis(1));
    bench.lookup("v4.example");
    assert_eq!(bench.sent, sent + 1);
    bench.serve(ZONE);
    bench.pass(Duration::from_secs(50));
    bench.lookup("v4.example");
    bench.query("v4.example", A);
}

#[test]
fn lifetimes_are_held_within_bounds() {
    for (ttl, denial, kept, denied) in [(0, 0, 1, 1), (86_400, 86_400, 3600, 300), (u32::MAX, u32::MAX, 1, 1)]
    {
        let mut bench = Bench::new("nameserver 192.0.2.53\noptions no-aaaa\n");
        let good = bench.lookup("good.example");
        let query = bench.open[0].clone();
        bench.send(&query, &query.reply().with("good.example", A, ttl, "198.51.100.1"));
        assert_eq!(bench.ttl(good), kept);
        bench.lookup("bad.example");
        let query = bench.open[0].clone();
        bench.send(&query, &query.reply().rcode(3).denied(denial));
        let (sent, one) = (bench.sent, Duration::from_micros(1));
        bench.pass(Duration::from_secs(denied) - one);
        let id = bench.lookup("bad.example");
        assert_eq!((bench.reason(id), bench.sent), (Reason::NoSuchName, sent));
        bench.pass(one);
        bench.lookup("bad.example");
        assert_eq!(bench.sent, sent + 1);
    }
}

#[test]
fn failures_are_not_kept() {
    let mut bench = Bench::new("nameserver 192.0.2.53\noptions no-aaaa\n");
    for _ in 0..2 {
        let id = bench.lookup("v4.example");
        let query = bench.open[0].clone();
        bench.send(&query, &query.reply().rcode(2));
        assert_eq!(bench.reason(id), Reason::Failed(Failure::ServerFailure { rcode: 2 }));
    }
    assert_eq!(bench.sent, 2);
}

#[test]
fn the_cache_reaches_its_bound() {
    let mut bench = Bench::new("nameserver 192.0.2.53\noptions no-aaaa\n");
    for i in 0..=MAX_CACHED {
        bench.lookup(&format!("h{i}.example"));
        bench.serve(&[]);
        bench.done.clear();
    }
    assert_eq!((bench.resolver.load().2, bench.counters().cache_evictions), (MAX_CACHED, 1));
}

#[test]
fn late_ipv6_is_not_waited_for() {
    let mut bench = Bench::new(CONF);
    let id = bench.lookup("host.example");
    let query = bench.query("host.example", A);
    bench.send(&query, &answer(ZONE, &query));
    assert_eq!(bench.tick(), Duration::from_millis(300));
    assert_eq!(bench.found(id), ["198.51.100.1:7700", "198.51.100.2:7700"]);
    assert_eq!((bench.counters().ipv6_late, bench.open.len()), (1, 0));
    // From the cache too there is no waiting beyond that.
    let id = bench.lookup("host.example");
    assert_eq!(bench.tick(), Duration::from_millis(300));
    assert_eq!(bench.found(id).len(), 2);
}

#[test]
fn a_family_that_fails_does_not_spoil_the_other() {
    for (good, bad) in [(A, AAAA), (AAAA, A)] {
        let mut bench = Bench::new(CONF);
        let id = bench.lookup("host.example");
        let query = bench.query("host.example", bad);
        bench.send(&query, &query.reply().rcode(2));
        let query = bench.query("host.example", good);
        bench.send(&query, &answer(ZONE, &query));
        assert!(!bench.found(id).is_empty());
    }
    // Broken servers deny the whole name for want of an IPv6 address (RFC 4074 §4.2).
    let mut bench = Bench::new(CONF);
    let id = bench.lookup("v4.example");
    let query = bench.query("v4.example", AAAA);
    bench.send(&query, &query.reply().rcode(3).denied(9));
    bench.serve(ZONE);
    assert_eq!(bench.found(id), ["198.51.100.4:7700"]);
}

#[test]
fn a_lookup_ends_at_its_limit() {
    let mut config = Config::parse(&format!("{TWO}options timeout:30 attempts:5"), "");
    config.limit = Duration::from_secs(45);
    let mut bench = Bench::with(config, 1);
    let id = bench.lookup("host.example");
    let start = bench.now;
    while !bench.done.contains_key(&id) {
        bench.tick();
    }
    assert_eq!((bench.reason(id), bench.now.since(start)), (Reason::Timeout, Duration::from_secs(45)));
    assert_eq!((bench.open.len(), bench.counters().lookups_expired), (0, 1));
}

#[test]
fn equal_questions_are_asked_once() {
    let mut bench = Bench::new(CONF);
    let one = bench.lookup("host.example:1");
    let two = bench.lookup("HOST.example:2");
    assert_eq!(bench.sent, 2);
    // Cancelling one leaves the other its queries.
    let three = bench.lookup("host.example:3");
    bench.resolver.cancel(bench.now, three);
    bench.drain();
    assert_eq!(bench.open.len(), 2);
    bench.serve(ZONE);
    assert_eq!((bench.found(one).len(), bench.found(two).len()), (3, 3));
    assert!(bench.found(two)[0].ends_with(":2") && !bench.done.contains_key(&three));
}

#[test]
fn a_cancelled_lookup_closes_its_sockets_and_never_ends() {
    let mut bench = Bench::new(CONF);
    let id = bench.lookup("host.example");
    bench.resolver.cancel(bench.now, id);
    bench.drain();
    assert_eq!((bench.open.len(), bench.resolver.deadline()), (0, None));
    // Before its outputs are pulled there is nothing to be seen of it at all.
    for target in ["host.example", "192.0.2.1"] {
        let target = Target::parse(target, 1).unwrap();
        let id = bench.resolver.lookup(bench.now, &target, &Kind::Address).unwrap();
        bench.resolver.cancel(bench.now, id);
        bench.resolver.cancel(bench.now, id);
        assert_eq!(bench.resolver.poll_output(), None);
    }
    assert!(bench.done.is_empty());
}

#[test]
fn lookups_reach_their_bound() {
    let mut bench = Bench::new(CONF);
    let target = |i: usize| Target::parse(&format!("h{i}.example"), 1).unwrap();
    let literal = Target::parse("192.0.2.1", 1).unwrap();
    for i in 0..MAX_LOOKUPS / 2 {
        bench.resolver.lookup(bench.now, &target(i), &Kind::Address).unwrap();
        // One that has ended counts until it is pulled.
        bench.resolver.lookup(bench.now, &literal, &Kind::Address).unwrap();
    }
    let error = bench.resolver.lookup(bench.now, &target(99), &Kind::Address).unwrap_err();
    assert_eq!(error.reason, Reason::TooManyLookups);
    assert_eq!(error.to_string(), "h99.example: too many lookups under way; try again when one has ended");
    assert_eq!(bench.counters().lookups_refused, 1);
    bench.drain();
    assert!(bench.resolver.lookup(bench.now, &target(99), &Kind::Address).is_ok());
}
