//! An office and devices on real sockets, as a configuration says.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use hailpost::{
    config::Config,
    net::{
        Loop, NodeId, OfficeAddresses, open_backend, open_device, open_gateway, open_office,
        open_office_beside, tls::Identity, url::LinkKey,
    },
    node::{DeviceNode, Event, EventKind, Field, OfficeNode},
    post::hub::Rights,
    status::Status,
    wire::app::{Address, To},
};

struct House {
    net: Loop,
    office: NodeId,
    addresses: OfficeAddresses,
    events: Vec<(NodeId, Event)>,
}

fn config(options: &[(&str, &str)]) -> Config {
    let mut config = Config::new();
    for (name, value) in options {
        config.set(name, value).unwrap();
    }
    config
}

impl House {
    fn new(options: &[(&str, &str)]) -> House {
        let mut options = options.to_vec();
        options.extend([("listen_devices", "hail://127.0.0.1:0"), ("listen_apps", "tcp://127.0.0.1:0")]);
        let mut net = Loop::new().unwrap();
        let (office, addresses) = open_office(&mut net, &config(&options)).unwrap();
        House { net, office, addresses, events: Vec::new() }
    }

    /// Turns the loop until a node tells of this.
    fn until(&mut self, node: NodeId, kind: EventKind) -> Event {
        let begun = Instant::now();
        loop {
            let is_it = |(from, event): &(NodeId, Event)| *from == node && event.kind() == kind;
            if let Some(at) = self.events.iter().position(is_it) {
                return self.events.remove(at).1;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{kind:?} never came: {:?}", self.events);
            self.net.wait(Some(Duration::from_millis(100))).unwrap();
            self.events.extend(std::iter::from_fn(|| self.net.next_event()));
        }
    }

    /// Turns the loop until this is said to who typed.
    fn until_said(&mut self, typed: &mut TcpStream, text: &str) {
        typed.set_nonblocking(true).unwrap();
        let (begun, mut said) = (Instant::now(), Vec::new());
        while !String::from_utf8_lossy(&said).contains(text) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{text:?} was never said: {said:?}");
            self.net.wait(Some(Duration::from_millis(10))).unwrap();
            let mut piece = [0; 512];
            let count = typed.read(&mut piece).unwrap_or_default();
            said.extend_from_slice(&piece[..count]);
        }
    }

    fn office<R>(&mut self, call: impl FnOnce(&mut OfficeNode) -> R) -> R {
        self.net.with(self.office, |node: &mut OfficeNode, _| call(node)).unwrap()
    }

    /// The line that a device of a user is enrolled with.
    fn enrol(&mut self, user: &str) -> String {
        let enrolled = self.office(|office| office.add_device(user, [1; 16], 0)).unwrap();
        self.until(self.office, EventKind::Durable);
        let key = LinkKey(self.office(|office| office.server_key()));
        let url = format!("hail://{}?key={}", self.addresses.devices[0], text(&key.0));
        format!("{url} {}", text(&[&enrolled.session.0[..], &enrolled.secret].concat()))
    }

    fn device(&mut self, line: &str, options: &[(&str, &str)]) -> NodeId {
        let mut options = options.to_vec();
        options.push(("credential", line));
        let device = open_device(&mut self.net, &config(&options)).unwrap();
        self.until(device, EventKind::LoggedIn);
        // The office knows of it only now.
        self.until(device, EventKind::Welcome);
        device
    }

    fn put(&mut self, device: NodeId, to: &str, body: &str) -> u64 {
        let to = To::Named(vec![Address::User(to.to_owned())]);
        let put = |node: &mut DeviceNode, now| node.put(now, to, true, 3600, "text/plain", body.into());
        self.net.with(device, put).unwrap().unwrap()
    }
}

fn text(octets: &[u8]) -> String {
    use base64::{display::Base64Display, engine::general_purpose::URL_SAFE_NO_PAD};
    Base64Display::new(octets, &URL_SAFE_NO_PAD).to_string()
}

#[test]
fn what_one_device_writes_another_reads_also_after_it_was_away() {
    let dir = tempfile::tempdir().unwrap();
    let (store, outbox) = (dir.path().join("office.db"), dir.path().join("anna.db"));
    let mut house = House::new(&[("store", store.to_str().unwrap())]);
    for user in ["anna", "ben"] {
        house.office(|office| office.add_user(user)).unwrap();
        house.until(house.office, EventKind::Durable);
    }
    let (anna, ben) = (house.enrol("anna"), house.enrol("ben"));
    let stored = [("store", outbox.to_str().unwrap())];
    let annas = house.device(&anna, &stored);
    let bens = house.device(&ben, &[]);
    house.put(bens, "anna", "hello");
    let message = house.until(annas, EventKind::Message);
    assert_eq!(message.text(Field::Sender), Some("user:ben"));
    assert_eq!(message.bytes(Field::Body), Some(&b"hello"[..]));
    let confirm = |node: &mut DeviceNode, _| node.confirm(message.u64(Field::Sequence).unwrap());
    house.net.with(annas, confirm).unwrap().unwrap();
    house.until(annas, EventKind::Confirmed);

    // While she is away something comes, longer than a datagram; and she writes something.
    house.net.remove(annas);
    let long = "long ".repeat(1000);
    house.put(bens, "anna", &long);
    house.until(bens, EventKind::Accepted);
    house.until(bens, EventKind::Accepted);
    let annas = house.device(&anna, &stored);
    let message = house.until(annas, EventKind::Message);
    assert_eq!(message.bytes(Field::Body), Some(long.as_bytes()));
    assert_eq!(message.u64(Field::Redelivered), Some(0));
    house.put(annas, "ben", "and you");
    assert_eq!(house.until(bens, EventKind::Message).bytes(Field::Body), Some(&b"and you"[..]));
}

#[test]
fn a_device_that_is_suspended_has_nothing_due_and_gets_what_waited() {
    let mut house = House::new(&[]);
    for user in ["anna", "ben"] {
        house.office(|office| office.add_user(user)).unwrap();
        house.until(house.office, EventKind::Durable);
    }
    let (anna, ben) = (house.enrol("anna"), house.enrol("ben"));
    let annas = house.device(&anna, &[]);
    // The phone is another machine, with a loop of its own.
    let mut phone = Loop::new().unwrap();
    let bens = open_device(&mut phone, &config(&[("credential", &ben)])).unwrap();
    let both = |house: &mut House, phone: &mut Loop, kind: EventKind| {
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < Duration::from_secs(60), "{kind:?} never came");
            phone.wait(Some(Duration::from_millis(10))).unwrap();
            while let Some((_, event)) = phone.next_event() {
                if event.kind() == kind {
                    return event;
                }
            }
            house.net.wait(Some(Duration::from_millis(10))).unwrap();
            house.events.extend(std::iter::from_fn(|| house.net.next_event()));
        }
    };
    both(&mut house, &mut phone, EventKind::Welcome);
    phone.with(bens, |node: &mut DeviceNode, now| node.suspend(now, 3600)).unwrap().unwrap();
    let again = phone.with(bens, |node: &mut DeviceNode, now| node.suspend(now, 3600)).unwrap();
    assert_eq!(again.unwrap_err().status, Status::State);
    assert_eq!(both(&mut house, &mut phone, EventKind::Suspended).u64(Field::Told), Some(1));
    phone.wait(Some(Duration::ZERO)).unwrap();
    assert_eq!(phone.timeout(), None, "the machine may sleep");

    house.put(annas, "ben", "are you awake");
    // The office has it, and for it the device is there.
    assert_eq!(house.until(annas, EventKind::Accepted).text(Field::State), Some("queued"));
    let put = phone.with(bens, |node: &mut DeviceNode, now| {
        let to = To::Named(vec![Address::User("anna".to_owned())]);
        node.put(now, to, true, 3600, "text/plain", b"no".to_vec())
    });
    assert!(put.unwrap().is_ok());
    both(&mut house, &mut phone, EventKind::Stored);
    phone.wait(Some(Duration::ZERO)).unwrap();
    assert_eq!(phone.timeout(), None, "what is put is made durable, and waits");
    let sent = |phone: &mut Loop| {
        phone.with(bens, |node: &mut DeviceNode, _| node.link_counters().heartbeats).unwrap()
    };
    let before = sent(&mut phone);
    assert!(std::iter::from_fn(|| phone.next_event()).next().is_none());

    phone.with(bens, |node: &mut DeviceNode, now| node.resume(now)).unwrap();
    let message = both(&mut house, &mut phone, EventKind::Message);
    assert_eq!(message.bytes(Field::Body), Some(&b"are you awake"[..]));
    assert_eq!(sent(&mut phone), before + 1, "it spoke at once");
    both(&mut house, &mut phone, EventKind::Accepted);
    assert_eq!(house.until(annas, EventKind::Message).bytes(Field::Body), Some(&b"no"[..]));
}

/// DECISIONS 4: what waited in the queue of events goes with the device, its durable outcomes come again.
#[test]
fn an_outcome_that_nobody_pulled_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = dir.path().join("anna.db");
    let stored = [("store", outbox.to_str().unwrap())];
    let mut house = House::new(&[]);
    house.office(|office| office.add_user("anna")).unwrap();
    house.until(house.office, EventKind::Durable);
    let line = house.enrol("anna");
    let anna = house.device(&line, &stored);
    let number = house.put(anna, "anna", "hello");
    let is_told = |net: &Loop| net.events().any(|(_, event)| event.kind() == EventKind::Accepted);
    let begun = Instant::now();
    while !is_told(&house.net) {
        assert!(begun.elapsed() < Duration::from_secs(60), "it was never accepted");
        house.net.wait(Some(Duration::from_millis(10))).unwrap();
    }
    // Time enough to write down what was told, if it were.
    (0..5).for_each(|_| house.net.step().unwrap());
    house.net.remove(anna);
    let anna = house.device(&line, &stored);
    assert_eq!(house.until(anna, EventKind::Accepted).u64(Field::Number), Some(number));
    house.net.step().unwrap();
    house.net.remove(anna);
    let anna = house.device(&line, &stored);
    (0..5).for_each(|_| house.net.wait(Some(Duration::from_millis(20))).unwrap());
    assert!(!is_told(&house.net), "it was told");
    assert!(house.net.get::<DeviceNode>(anna).unwrap().is_up());
}

#[test]
fn an_application_that_a_person_types_reaches_a_device() {
    let mut house = House::new(&[]);
    house.office(|office| office.add_user("anna")).unwrap();
    let rights = Rights { send: true, broadcast: false, query: true };
    let (secret, _) = house.office(|office| office.add_app("news", rights)).unwrap();
    house.until(house.office, EventKind::Durable);
    house.until(house.office, EventKind::Durable);
    let anna = house.enrol("anna");
    let annas = house.device(&anna, &[]);
    let mut typed = TcpStream::connect(house.addresses.apps[0]).unwrap();
    let lines = format!("AUTH news {secret}\nSEND HP/1\nId 1\nTo user:anna\nContent-Length 2\n\nhi");
    typed.write_all(lines.as_bytes()).unwrap();
    let message = house.until(annas, EventKind::Message);
    assert_eq!(message.text(Field::Sender), Some("app:news"));
    house.until_said(&mut typed, "State routed");
    typed.write_all(b"QUERY HP/1\nId 2\nTo user:anna\n\n").unwrap();
    house.until_said(&mut typed, "Presence user:anna online ");
}

#[test]
fn a_device_whose_datagrams_do_not_get_through_logs_in_over_tls() {
    let identity = Identity::generate("office").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("identity.pem");
    identity.write_private(&file).unwrap();
    let mut net = Loop::new().unwrap();
    let options = [
        ("listen_devices", "hail://127.0.0.1:0, tls://127.0.0.1:0"),
        ("listen_apps", ""),
        ("identity_file", file.to_str().unwrap()),
    ];
    let (office, addresses) = open_office(&mut net, &config(&options)).unwrap();
    let mut house = House { net, office, addresses, events: Vec::new() };
    house.office(|office| office.add_user("anna")).unwrap();
    house.until(house.office, EventKind::Durable);
    let line = house.enrol("anna");
    let (url, credential) = line.split_once(' ').unwrap();
    // A port where nobody answers: three tries, and then the other way.
    let deaf = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (_, key) = url.split_once('?').unwrap();
    let ways = format!("hail://{deaf}?{key}, tls://{}?pin={}", house.addresses.devices[1], identity.key_id());
    let anna = house.device(credential, &[("office", &ways)]);
    let put = house.put(anna, "anna", "to myself");
    assert_eq!(house.until(anna, EventKind::Accepted).u64(Field::Number), Some(put));
    assert_eq!(house.until(anna, EventKind::Message).bytes(Field::Body), Some(&b"to myself"[..]));
}

/// A machine that is on both has devices come in over both, on one socket.
#[test]
fn a_device_reaches_an_office_that_listens_on_every_address() {
    let mut net = Loop::new().unwrap();
    let options = [("listen_devices", "hail://[::]:0"), ("listen_apps", "")];
    let (office, mut addresses) = open_office(&mut net, &config(&options)).unwrap();
    let port = addresses.devices[0].port();
    addresses.devices = vec![([127, 0, 0, 1], port).into()];
    let mut house = House { net, office, addresses, events: Vec::new() };
    for (user, address) in [("anna", format!("127.0.0.1:{port}")), ("ben", format!("[::1]:{port}"))] {
        house.office(|office| office.add_user(user)).unwrap();
        house.until(house.office, EventKind::Durable);
        house.addresses.devices[0] = address.parse().unwrap();
        let line = house.enrol(user);
        house.device(&line, &[]);
    }
    assert_eq!(house.office(|office| office.server().counters().handshakes), 2);
}

/// Gateways, devices and applications on one port, of two nodes.
#[test]
fn an_office_takes_part_in_the_listener_of_a_back_end() {
    let dir = tempfile::tempdir().unwrap();
    let files = ["both", "gateway"].map(|name| {
        let file = dir.path().join(name);
        let identity = Identity::generate(name).unwrap();
        identity.write_private(&file).unwrap();
        (file.to_str().unwrap().to_owned(), identity.key_id())
    });
    let [(both, pin), (key, _)] = files;
    let mut net = Loop::new().unwrap();
    let options = [("listen", "tls://127.0.0.1:0"), ("identity_file", &both)];
    let (backend, listening) = open_backend(&mut net, &config(&options)).unwrap();
    let (tls, pinned) = (format!("tls://{}", listening[0]), format!("tls://{}?pin={pin}", listening[0]));
    let devices = format!("hail://127.0.0.1:0,{tls}");
    let options = [("listen_devices", devices.as_str()), ("listen_apps", &tls), ("identity_file", &both)];
    let (office, addresses) = open_office_beside(&mut net, &config(&options), backend).unwrap();
    assert_eq!((addresses.devices[1], &addresses.apps), (listening[0], &listening));
    let mut house = House { net, office, addresses, events: Vec::new() };
    // Twice: the second office has nothing of the first, whose devices lost their streams.
    for life in 0..2 {
        house.office(|office| office.add_user("anna")).unwrap();
        house.until(house.office, EventKind::Durable);
        let line = house.enrol("anna");
        let (hail, credential) = line.split_once(' ').unwrap();
        let ways = format!("{pinned}, {hail}");
        let anna = house.device(credential, &[("office", &ways)]);
        house.put(anna, "anna", "to myself");
        assert_eq!(house.until(anna, EventKind::Message).bytes(Field::Body), Some(&b"to myself"[..]));
        // A gateway is the back end's.
        let options = config(&[("backend", &pinned), ("identity_file", &key)]);
        let gateway = open_gateway(&mut house.net, &options).unwrap();
        house.until(backend, EventKind::GatewayRefused);
        house.until(gateway, EventKind::Refused);
        house.net.remove(gateway);
        house.net.remove(anna);
        if life == 0 {
            house.net.remove(house.office);
            let options = [
                ("listen_devices", devices.as_str()),
                ("listen_apps", tls.as_str()),
                ("identity_file", &both),
            ];
            let opened = open_office_beside(&mut house.net, &config(&options), backend).unwrap();
            (house.office, house.addresses) = opened;
        }
    }
}

#[test]
fn devices_and_applications_of_an_office_share_an_address() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("identity.pem");
    let identity = Identity::generate("office").unwrap();
    identity.write_private(&file).unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let tls = format!("tls://{free}");
    let options = [
        ("listen_devices", tls.as_str()),
        ("listen_apps", tls.as_str()),
        ("identity_file", file.to_str().unwrap()),
    ];
    let mut net = Loop::new().unwrap();
    let (_, addresses) = open_office(&mut net, &config(&options)).unwrap();
    assert_eq!((addresses.devices, addresses.apps), (vec![free], vec![free]));
}

/// Messages as an application gives them, over TCP.
struct Typed {
    stream: TcpStream,
    said: Vec<u8>,
    sent: u64,
}

impl Typed {
    fn new(house: &mut House, name: &str) -> Typed {
        let (secret, _) =
            house.office(|office| office.add_app(name, Rights { send: true, ..Rights::default() })).unwrap();
        house.until(house.office, EventKind::Durable);
        let mut stream = TcpStream::connect(house.addresses.apps[0]).unwrap();
        stream.write_all(format!("AUTH {name} {secret}\n").as_bytes()).unwrap();
        stream.set_nonblocking(true).unwrap();
        Typed { stream, said: Vec::new(), sent: 0 }
    }

    fn send(&mut self, to: &str, body: &str) {
        self.sent += 1;
        let text = format!(
            "SEND HP/1\nId {}\nTo user:{to}\nOffline store\nContent-Length {}\n\n{body}",
            self.sent,
            body.len()
        );
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// How many are acknowledged.
    fn acknowledged(&mut self) -> u64 {
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = self.stream.read(&mut piece) {
            self.said.extend_from_slice(&piece[..count]);
        }
        String::from_utf8_lossy(&self.said).matches("State stored").count() as u64
    }
}

/// OM-03.
#[test]
fn a_backup_made_while_messages_are_taken_is_an_office_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let store = path("office.db");
    let mut house = House::new(&[("store", store.to_str().unwrap()), ("max_waiting", "100000")]);
    house.office(|office| office.add_user("anna")).unwrap();
    house.until(house.office, EventKind::Durable);
    let line = house.enrol("anna");
    let mut news = Typed::new(&mut house, "news");
    let filler = "x".repeat(60_000);
    let give = |house: &mut House, news: &mut Typed, count: u64| {
        for _ in 0..count {
            let body = format!("{} {filler}", news.sent + 1);
            news.send("anna", &body);
            while news.acknowledged() < news.sent {
                house.net.wait(Some(Duration::from_millis(100))).unwrap();
                house.events.extend(std::iter::from_fn(|| house.net.next_event()));
            }
        }
    };
    give(&mut house, &mut news, 250);
    let copy = path("copy.db");
    let ticket = house.office(|office| office.backup(&copy)).unwrap();
    let second = house.office(|office| office.backup(&path("second.db"))).unwrap_err();
    assert_eq!(second.status, hailpost::status::Status::State);
    while house.office(|office| office.backup_progress()).is_none_or(|copied| copied.of == 0) {
        house.net.step().unwrap();
    }
    give(&mut house, &mut news, 1);
    assert!(house.office(|office| office.backup_progress()).is_some(), "it goes on");
    assert!(!copy.exists() && path("copy.db.part").exists());
    assert_eq!(house.until(house.office, EventKind::Durable).u64(Field::Ticket), Some(ticket));
    assert!(!path("copy.db.part").exists());
    give(&mut house, &mut news, 5);

    // What cannot be written is told, and everyone is served.
    for bad in [copy.clone(), path("none/copy.db")] {
        let ticket = house.office(|office| office.backup(&bad)).unwrap();
        let failed = house.until(house.office, EventKind::Failed);
        assert_eq!(failed.u64(Field::Ticket), Some(ticket));
        assert!(failed.text(Field::Text).unwrap().contains("copy.db"), "{failed:?}");
    }
    give(&mut house, &mut news, 1);
    let device = house.device(&line, &[]);
    assert_eq!(house.until(device, EventKind::Message).text(Field::Sender), Some("app:news"));
    let key = house.office(|office| office.server_key());
    let sequence = |house: &mut House, device: NodeId, number: u64| loop {
        let message = house.until(device, EventKind::Message);
        let body = String::from_utf8(message.bytes(Field::Body).unwrap().to_vec()).unwrap();
        let sequence = message.u64(Field::Sequence).unwrap();
        let confirm = |node: &mut DeviceNode, _| node.confirm(sequence);
        house.net.with(device, confirm).unwrap().unwrap();
        if body.starts_with(&format!("{number} ")) {
            return sequence;
        }
    };
    let newest = sequence(&mut house, device, 257);
    drop(house);

    // The copy: another office, with the same key and accounts, and what was acknowledged when it was begun.
    let mut house = House::new(&[("store", copy.to_str().unwrap())]);
    assert_eq!(house.office(|office| office.server_key()), key);
    let waiting = house.office(|office| office.hub().waiting_count());
    assert_eq!(waiting, 250);
    let port = house.addresses.devices[0].port();
    let line = line.replacen(line.split(['?', ':']).nth(2).unwrap(), &port.to_string(), 1);
    let device = house.device(&line, &[]);
    let last = sequence(&mut house, device, 250);
    let mut more = Typed::new(&mut house, "more");
    more.send("anna", "1000 anew");
    let anew = sequence(&mut house, device, 1000);
    assert!(last < newest && newest < anew, "a number that was given after the copy is not given again");
}
