//! A post office that is restarted under a thousand devices, all on real sockets: how long until they are back.
//!
//! `cargo bench --bench restart`; `HAILPOST_DEVICES` says how many. Each device speaks once after the restart, is told by a reset that its
//! session is gone, and resumes by its ticket.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use hailpost::{
    config::Config,
    net::{Loop, NodeId, enrolment_line, office_url, open_device, open_office, url::Host},
    node::{DeviceNode, EventKind, Field, OfficeNode},
};

fn config(options: &[(&str, &str)]) -> Config {
    let mut config = Config::new();
    for (name, value) in options {
        config.set(name, value).expect("the options are good");
    }
    config
}

fn office(net: &mut Loop, store: &str, listen: &str) -> (NodeId, std::net::SocketAddr) {
    let options = [("listen_devices", listen), ("listen_apps", ""), ("store", store)];
    let (node, addresses) = open_office(net, &config(&options)).expect("the office opens");
    (node, addresses.devices[0])
}

/// Turns a loop until so many events of a kind came; answers with the fields asked for.
fn until(net: &mut Loop, kind: EventKind, count: usize, field: Option<Field>) -> Vec<u64> {
    let (mut seen, begun) = (Vec::new(), Instant::now());
    while seen.len() < count {
        net.wait(Some(Duration::from_millis(100))).expect("the loop turns");
        while let Some((_, event)) = net.next_event() {
            if event.kind() == kind {
                seen.push(field.and_then(|field| event.u64(field)).unwrap_or_default());
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(300), "{} of {count} {kind:?}", seen.len());
    }
    seen
}

fn main() {
    let count: usize = env::var("HAILPOST_DEVICES").map_or(1000, |text| text.parse().expect("a number"));
    let dir = tempfile::tempdir().expect("a directory for the store");
    let store = dir.path().join("office.db").to_str().expect("a plain path").to_owned();
    let mut net = Loop::new().expect("a loop");
    let (node, address) = office(&mut net, &store, "hail://127.0.0.1:0");
    let mut lines = Vec::new();
    for number in 0..count {
        // A user has at most 16 devices.
        let user = format!("user{}", number / 16);
        if number % 16 == 0 {
            net.with(node, |office: &mut OfficeNode, _| office.add_user(&user)).unwrap().unwrap();
            until(&mut net, EventKind::Durable, 1, None);
        }
        let enrolled = net.with(node, |office: &mut OfficeNode, _| office.add_device(&user, [0; 16], 0));
        let key = net.get::<OfficeNode>(node).unwrap().server_key();
        let url = office_url(Host::Address(address.ip()), address.port(), key);
        lines.push(enrolment_line(&url, &enrolled.unwrap().unwrap()));
        until(&mut net, EventKind::Durable, 1, None);
    }
    // From here on the office has a thread of its own, as it has a process of its own elsewhere.
    let (restart, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let waker = net.waker();
    let of_office = (restart.clone(), over.clone());
    let listen = format!("hail://{address}");
    let serving = thread::spawn(move || {
        let mut node = node;
        while !of_office.1.load(Ordering::Relaxed) {
            net.wait(Some(Duration::from_millis(100))).expect("the loop turns");
            if of_office.0.swap(false, Ordering::Relaxed) {
                net.remove(node);
                node = office(&mut net, &store, &listen).0;
            }
        }
        *net.get::<OfficeNode>(node).expect("it serves").server().counters()
    });
    let mut devices = Loop::new().expect("a loop");
    let begun = Instant::now();
    let nodes: Vec<NodeId> = lines
        .iter()
        .map(|line| open_device(&mut devices, &config(&[("credential", line)])).expect("a device"))
        .collect();
    until(&mut devices, EventKind::Welcome, count, None);
    println!("{count} devices logged in, a full handshake each: {:.2} s", begun.elapsed().as_secs_f64());

    restart.store(true, Ordering::Relaxed);
    waker.wake().expect("the office wakes");
    thread::sleep(Duration::from_millis(500));
    let begun = Instant::now();
    for node in nodes {
        let asked = devices.with(node, |device: &mut DeviceNode, _| device.query(vec!["user0".to_owned()]));
        asked.expect("it is there").expect("it is logged in");
    }
    let resumed = until(&mut devices, EventKind::LoggedIn, count, Some(Field::Resumed));
    let seconds = begun.elapsed().as_secs_f64();
    over.store(true, Ordering::Relaxed);
    let counters = serving.join().expect("the office ends");
    let by_ticket = resumed.iter().filter(|resumed| **resumed == 1).count();
    println!("after a restart all spoke: {by_ticket} of {count} back by ticket in {seconds:.2} s (bar 2 s)");
    println!(
        "at the office: {} resets sent, {} sessions by ticket, {} handshakes computed",
        counters.resets, counters.resumed, counters.handshakes
    );
}
