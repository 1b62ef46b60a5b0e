//! Which server is asked, how, and how often.

use std::{io::ErrorKind, time::Duration};

use hailpost::net::resolver::{Config, Failure, MAX_LOOKUPS, MAX_SOCKETS, Reason, Transport};

use crate::bench::*;

#[test]
fn the_servers_are_tried_in_turn_and_in_rounds() {
    let mut bench = Bench::new(&format!("{TWO}options no-aaaa\n"));
    let id = bench.lookup("host.example");
    let mut asked = Vec::new();
    while !bench.done.contains_key(&id) {
        let query = bench.open[0].clone();
        let wait = bench.tick();
        asked.push((query.server.to_string(), wait.as_millis(), query.edns));
    }
    let (one, two) = ("192.0.2.53:53".to_string(), "[2001:db8::53]:53".to_string());
    // The second round shares the doubled time among the servers, and does without EDNS.
    let plan = [(one.clone(), 2000, true), (two.clone(), 2000, true), (one, 2000, false), (two, 2000, false)];
    assert_eq!(asked, plan);
    assert_eq!(bench.reason(id), Reason::Failed(Failure::Timeout));
    assert_eq!((bench.counters().timeouts, bench.counters().retries), (4, 3));
    let error = bench.done[&id].0.as_ref().unwrap_err();
    assert!(error.is_temporary());
    let text = "host.example: no name server answered; check the network and the name servers configured";
    assert_eq!(error.to_string(), text);
}

#[test]
fn one_lost_datagram_costs_one_timeout() {
    let mut bench = Bench::new(TWO);
    let id = bench.lookup("host.example");
    let lost = bench.query("host.example", A);
    let query = bench.query("host.example", AAAA);
    bench.send(&query, &answer(ZONE, &query));
    // IPv6 alone is nothing to stop at.
    assert!(!bench.done.contains_key(&id));
    assert_eq!(bench.tick(), Duration::from_secs(2));
    let again = bench.query("host.example", A);
    assert_ne!((again.socket, again.server), (lost.socket, lost.server));
    // The answer to the first comes late, to a socket that is closed.
    bench.datagram(&lost, &lost.reply().with("host.example", A, 60, "203.0.113.66").octets());
    assert_eq!(bench.counters().strays, 1);
    bench.serve(ZONE);
    assert_eq!(bench.found(id).len(), 3);
}

#[test]
fn a_server_that_did_not_answer_is_asked_last_for_a_while() {
    let mut bench = Bench::new(TWO);
    bench.lookup("v4.example");
    bench.tick();
    bench.serve(ZONE);
    bench.lookup("other.example");
    assert!(bench.open.iter().all(|q| q.server.is_ipv6()));
    bench.serve(ZONE);
    bench.pass(Duration::from_secs(30));
    bench.lookup("third.example");
    assert!(bench.open.iter().all(|q| q.server.is_ipv4()));
}

#[test]
fn rotation_spreads_the_questions() {
    let mut bench = Bench::new(&format!("{TWO}options rotate no-aaaa\n"));
    let mut first = Vec::new();
    for name in ["a.example", "b.example", "c.example"] {
        bench.lookup(name);
        first.push(bench.open[0].server.is_ipv4());
        bench.serve(ZONE);
    }
    assert_eq!(first, [true, false, true]);
}

#[test]
fn each_failure_moves_on_and_the_most_telling_is_reported() {
    let refused = |q: &Query| q.reply().rcode(5);
    let failed = |q: &Query| q.reply().rcode(2);
    for (replies, failure) in [
        ([Some(&failed as &dyn Fn(&Query) -> Reply), Some(&refused)], Failure::ServerFailure { rcode: 2 }),
        ([Some(&refused), None], Failure::Refused),
        ([None, Some(&refused)], Failure::Refused),
        ([None, None], Failure::Unreachable(ErrorKind::ConnectionRefused)),
    ] {
        let mut bench = Bench::new(&format!("{TWO}options no-aaaa\n"));
        let id = bench.lookup("host.example");
        for reply in replies {
            let query = bench.open[0].clone();
            match reply {
                Some(reply) => bench.send(&query, &reply(&query)),
                None => bench.fail(&query, ErrorKind::ConnectionRefused),
            }
        }
        // No second round for servers that have spoken.
        assert_eq!((bench.sent, bench.reason(id)), (2, Reason::Failed(failure)));
    }
}

#[test]
fn one_good_server_is_enough() {
    let mut bench = Bench::new(&format!("{TWO}options no-aaaa\n"));
    let id = bench.lookup("v4.example");
    let query = bench.open[0].clone();
    bench.send(&query, &query.reply().rcode(2));
    bench.serve(ZONE);
    assert_eq!(bench.found(id), ["198.51.100.4:7700"]);
}

#[test]
fn a_referral_is_no_answer() {
    let mut bench = Bench::new("nameserver 192.0.2.53\noptions no-aaaa\n");
    let id = bench.lookup("host.example");
    let query = bench.open[0].clone();
    bench.send(&query, &Reply { flags: 0x8100, ..query.reply() });
    assert_eq!(bench.reason(id), Reason::Failed(Failure::NotRecursive));
}

#[test]
fn a_server_without_edns_is_asked_without() {
    for rcode in [1, 4] {
        let mut bench = Bench::new(CONF);
        let id = bench.lookup("host.example");
        for kind in [A, AAAA] {
            let query = bench.query("host.example", kind);
            // As old servers do, without even the question.
            bench.send(&query, &Reply { question: None, ..query.reply().rcode(rcode) });
        }
        assert!(bench.open.iter().all(|q| !q.edns));
        bench.serve(ZONE);
        assert_eq!(bench.found(id).len(), 3);
        assert_eq!(bench.counters().edns_refused, 2);
        // It is remembered; and without EDNS to blame, the refusal is an error.
        let id = bench.lookup("other.example");
        assert!(bench.open.iter().all(|q| !q.edns));
        for kind in [A, AAAA] {
            let query = bench.query("other.example", kind);
            bench.send(&query, &query.reply().rcode(rcode));
        }
        assert_eq!(bench.reason(id), Reason::Failed(Failure::ServerFailure { rcode }));
    }
}

#[test]
fn a_truncated_answer_is_fetched_over_tcp_in_pieces() {
    let mut bench = Bench::new("nameserver 192.0.2.53\noptions no-aaaa\n");
    let id = bench.lookup("host.example");
    let udp = bench.open[0].clone();
    // Cut in the middle of a record, and its records are not used.
    let mut cut = Reply { flags: 0x8380, ..udp.reply() }.with("host.example", A, 60, "203.0.113.66").octets();
    cut.truncate(cut.len() - 3);
    bench.datagram(&udp, &cut);
    let tcp = bench.open[0].clone();
    assert_eq!((tcp.transport, bench.counters().truncated), (Transport::Tcp, 1));
    assert_ne!(tcp.socket, udp.socket);
    let octets = answer(ZONE, &tcp).octets();
    let framed = [&(octets.len() as u16).to_be_bytes(), octets.as_slice()].concat();
    for octet in &framed {
        assert!(!bench.done.contains_key(&id));
        bench.stream(&tcp, &[*octet]);
    }
    assert_eq!(bench.found(id), ["198.51.100.1:7700", "198.51.100.2:7700"]);
}

#[test]
fn tcp_that_fails_moves_on() {
    let mut bench = Bench::new(&format!("{TWO}options no-aaaa\n"));
    let id = bench.lookup("host.example");
    let udp = bench.open[0].clone();
    bench.send(&udp, &Reply { flags: 0x8380, ..udp.reply() });
    let tcp = bench.open[0].clone();
    bench.stream(&tcp, &[0, 40, 1, 2, 3]);
    bench.fail(&tcp, ErrorKind::UnexpectedEof);
    let next = bench.open[0].clone();
    assert_eq!((next.transport, next.server.is_ipv6()), (Transport::Udp, true));
    bench.serve(ZONE);
    assert_eq!(bench.found(id).len(), 2);
}

#[test]
fn sockets_reach_their_bound_and_the_rest_wait() {
    let mut bench = Bench::new(CONF);
    let ids: Vec<_> = (0..MAX_LOOKUPS).map(|i| bench.lookup(&format!("h{i}.example"))).collect();
    assert_eq!((bench.open.len(), bench.counters().queued), (MAX_SOCKETS, MAX_LOOKUPS as u64));
    // Of those that wait some are cancelled.
    bench.resolver.cancel(bench.now, ids[MAX_LOOKUPS - 1]);
    bench.resolver.cancel(bench.now, ids[0]);
    bench.drain();
    assert_eq!(bench.open.len(), MAX_SOCKETS);
    bench.serve(&[]);
    assert_eq!(bench.done.len(), MAX_LOOKUPS - 2);
    assert_eq!(bench.sent, 2 * (MAX_LOOKUPS - 1));
}

#[test]
fn a_new_configuration_asks_anew_and_forgets() {
    let mut bench = Bench::new(CONF);
    bench.lookup("v4.example");
    bench.serve(ZONE);
    let id = bench.lookup("host.example");
    let before = bench.open.clone();
    // The same again changes nothing.
    bench.resolver.set_config(bench.now, Config::parse(CONF, ""));
    bench.drain();
    assert_eq!((bench.sent, bench.resolver.load().2), (4, 2));
    bench.resolver.set_config(bench.now, Config::parse("nameserver 192.0.2.99\n", ""));
    bench.drain();
    assert_eq!((bench.open.len(), bench.sent, bench.resolver.load().2), (2, 6, 0));
    assert!(bench.open.iter().all(|q| q.server.to_string() == "192.0.2.99:53"));
    let evil = before[0].reply().with("host.example", A, 60, "203.0.113.66");
    bench.datagram(&before[0], &evil.octets());
    bench.serve(ZONE);
    assert_eq!(bench.found(id).len(), 3);
    bench.resolver.network_changed(bench.now);
    assert_eq!(bench.resolver.load().2, 0);
}

#[test]
fn a_dual_stack_socket_reports_its_peer_as_mapped() {
    let mut bench = Bench::new("nameserver 192.0.2.53\noptions no-aaaa\n");
    let id = bench.lookup("v4.example");
    let query = bench.open[0].clone();
    let reply = answer(ZONE, &query).octets();
    let from = "[::ffff:192.0.2.53]:53".parse().unwrap();
    bench.resolver.handle_datagram(bench.now, query.socket, from, &reply);
    bench.drain();
    assert_eq!(bench.found(id), ["198.51.100.4:7700"]);
}
