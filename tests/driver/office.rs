//! An office and devices on real sockets, as a configuration says.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use hailpost::{
    config::Config,
    net::{Loop, NodeId, OfficeAddresses, open_device, open_office, url::LinkKey},
    node::{DeviceNode, Event, EventKind, Field, OfficeNode},
    post::hub::Rights,
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
    let identity = hailpost::net::tls::Identity::generate("office").unwrap();
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
