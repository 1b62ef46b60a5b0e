//! `/metrics` in Prometheus' text format: docs/running.md has the names.

use std::fmt::Write;

use super::desk::Desk;

/// All that is counted and held now.
pub fn text(desk: &Desk) -> String {
    let mut text = String::new();
    let mut gauge = |name: &str, help: &str, value: u64| {
        let _ = writeln!(
            text,
            "# HELP hailpost_{name} {help}\n# TYPE hailpost_{name} gauge\nhailpost_{name} {value}"
        );
    };
    let (mut gateways, mut results, mut groups) = (0, 0, 0);
    for group in desk.backend().groups().skip(1) {
        groups += 1;
        gateways += group.gateways as u64;
        results += group.results as u64;
    }
    gauge("up", "the back end serves", 1);
    gauge("uptime_seconds", "since it began", desk.uptime());
    gauge("groups", "groups known", groups);
    gauge("gateways", "gateways registered now", gateways);
    gauge("enrolments", "gateways enrolled", desk.backend().enrolments().count() as u64);
    gauge("results", "results told to gateways, of all groups", results);
    gauge("waiting", "changes and reports that wait for the disk", desk.pending() as u64);
    if let Some(post) = desk.post() {
        let office = post.node(&desk.net);
        gauge("sessions", "devices logged in now", office.server().len() as u64);
        let brokers = office.broker_list().iter().filter(|broker| broker.is_up).count();
        gauge("brokers", "brokers apart that are connected", brokers as u64);
        let rooms = office.room_list();
        gauge(
            "rooms",
            "other rooms that take what is for them",
            rooms.iter().filter(|room| room.is_up).count() as u64,
        );
        gauge(
            "rooms_waiting",
            "messages that wait for other rooms",
            rooms.iter().map(|room| u64::from(room.waiting)).sum(),
        );
        gauge("active_sessions", "of these, with something under way", office.server().active() as u64);
    }
    let mut count = |part: &str, list: &mut dyn Iterator<Item = (&'static str, &'static str, u64)>| {
        for (name, help, value) in list {
            let name = format!("hailpost_{part}_{name}_total");
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}");
        }
    };
    let streams = desk.net.stream_counters();
    count("backend", &mut desk.backend().counters().list());
    count("backend_link", &mut desk.node().link_counters());
    count("driver", &mut desk.net.counters().list());
    count("tls", &mut streams.tls.list());
    if let Some(post) = desk.post() {
        let office = post.node(&desk.net);
        count("link", &mut office.server().counters().list());
        count("hub", &mut office.hub().counters().list());
        count("apps", &mut office.apps().counters().list());
        count("brokers", &mut office.brokers().counters().list());
        count("rooms", &mut office.rooms().counters().list());
        count("office", &mut office.counters().list());
    }
    count(
        "streams",
        &mut [
            ("octets_in", "octets that bare streams took in", streams.octets_in),
            ("octets_out", "octets that bare streams took out", streams.octets_out),
        ]
        .into_iter(),
    );
    text
}
