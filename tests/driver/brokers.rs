//! A hub and brokers apart from it, on real sockets and TLS, as a configuration says.

use std::time::{Duration, Instant};

use hailpost::{
    config::Config,
    net::{
        Loop, NodeId, OfficeAddresses, Part, enrolment_line, office_url, open_device, open_office,
        tls::Identity, url::Host,
    },
    node::{BrokerNode, DeviceNode, Event, EventKind, Field, OfficeNode},
    status::Status,
    wire::app::{Address, To},
};

fn config(options: &[(&str, &str)]) -> Config {
    let mut config = Config::new();
    for (name, value) in options {
        config.set(name, value).unwrap();
    }
    config
}

/// A process, as far as this one can tell: dropped, its sockets are gone and its files are as they were.
struct Process {
    net: Loop,
    node: NodeId,
    addresses: OfficeAddresses,
}

impl Process {
    fn open(options: &[(&str, &str)]) -> Process {
        let mut net = Loop::new().unwrap();
        let (node, addresses) = open_office(&mut net, &config(options)).unwrap();
        Process { net, node, addresses }
    }
}

struct House {
    dir: tempfile::TempDir,
    hub: Option<Process>,
    brokers: Vec<Process>,
    /// Where the hub listens for brokers, once it is known.
    inner: String,
    keys: String,
    devices: Loop,
    events: Vec<(NodeId, Event)>,
}

impl House {
    /// A hub, and brokers, which are not started.
    fn new(brokers: usize) -> House {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let identity = Identity::generate(name).unwrap();
            identity.write_private(&dir.path().join(name)).unwrap();
            identity.key_id().to_string()
        };
        let pin = make("hub");
        let keys: Vec<String> = (0..brokers).map(|at| make(&format!("broker{at}"))).collect();
        let (devices, events) = (Loop::new().unwrap(), Vec::new());
        let (inner, keys) = ("tls://127.0.0.1:0".to_owned(), keys.join(", "));
        let mut house = House { dir, hub: None, brokers: Vec::new(), inner, keys, devices, events };
        house.start_hub();
        let address = house.hub.as_ref().unwrap().addresses.inner[0];
        house.inner = format!("tls://{address}");
        for at in 0..brokers {
            let (hub, file) = (format!("{}?pin={pin}", house.inner), house.file(&format!("broker{at}")));
            house.brokers.push(Process::open(&[
                ("roles", "broker"),
                ("hub", &hub),
                ("identity_file", &file),
                ("listen_devices", "hail://127.0.0.1:0"),
            ]));
        }
        house
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn start_hub(&mut self) {
        let (store, file) = (self.file("office.db"), self.file("hub"));
        self.hub = Some(Process::open(&[
            ("roles", "hub"),
            ("listen_inner", &self.inner),
            ("listen_apps", ""),
            ("brokers", &self.keys),
            ("identity_file", &file),
            ("store", &store),
        ]));
    }

    fn turn(&mut self) {
        let short = Some(Duration::from_millis(1));
        for process in self.hub.iter_mut().chain(&mut self.brokers) {
            process.net.wait(short).unwrap();
            while process.net.next_event().is_some() {}
        }
        self.devices.wait(short).unwrap();
        self.events.extend(std::iter::from_fn(|| self.devices.next_event()));
    }

    fn until(&mut self, what: &str, is_it: impl Fn(&House) -> bool) {
        let begun = Instant::now();
        while !is_it(self) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{what}: {:?}", self.events);
            self.turn();
        }
    }

    /// Turns until a device tells of this.
    fn until_told(&mut self, device: NodeId, kind: EventKind) -> Event {
        let is_it = move |(from, event): &(NodeId, Event)| *from == device && event.kind() == kind;
        self.until(&format!("{kind:?} never came"), |house| house.events.iter().any(is_it));
        let at = self.events.iter().position(is_it).unwrap();
        self.events.remove(at).1
    }

    fn broker(&self, at: usize) -> &BrokerNode {
        self.brokers[at].net.get(self.brokers[at].node).unwrap()
    }

    fn hub(&self) -> &OfficeNode {
        let hub = self.hub.as_ref().unwrap();
        hub.net.get(hub.node).unwrap()
    }

    fn change<R>(&mut self, call: impl FnOnce(&mut OfficeNode) -> R) -> R {
        let hub = self.hub.as_mut().unwrap();
        hub.net.with(hub.node, |node: &mut OfficeNode, _| call(node)).unwrap()
    }

    /// A user with a device that logs in at a broker.
    fn device(&mut self, user: &str, broker: usize) -> NodeId {
        self.change(|office| office.add_user(user)).unwrap();
        self.turn();
        let enrolled = self.change(|office| office.add_device(user, [1; 16], 0)).unwrap();
        let (address, key) = (self.brokers[broker].addresses.devices[0], self.hub().server_key());
        let url = office_url(Host::Address(address.ip()), address.port(), key);
        let line = enrolment_line(&url, &enrolled);
        // A hello that comes before the broker knows who it is has no answer, and is said again.
        let device = open_device(&mut self.devices, &config(&[("credential", &line)])).unwrap();
        self.until_told(device, EventKind::LoggedIn);
        self.until_told(device, EventKind::Welcome);
        device
    }

    fn put(&mut self, device: NodeId, to: &str, body: &str) -> u64 {
        let to = To::Named(vec![Address::User(to.to_owned())]);
        let put = |node: &mut DeviceNode, now| node.put(now, to, true, 3600, "text/plain", body.into());
        self.devices.with(device, put).unwrap().unwrap()
    }

    /// Until this message comes, which is confirmed.
    fn read(&mut self, device: NodeId, body: &str) {
        let message = self.until_told(device, EventKind::Message);
        assert_eq!(message.bytes(Field::Body), Some(body.as_bytes()));
        let confirm = |node: &mut DeviceNode, _| node.confirm(message.u64(Field::Sequence).unwrap());
        self.devices.with(device, confirm).unwrap().unwrap();
    }
}

#[test]
fn devices_at_two_brokers_write_to_each_other_while_the_hub_is_killed_and_back() {
    let mut house = House::new(2);
    let hub = &house.hub.as_ref().unwrap().addresses;
    assert_eq!((hub.part, hub.devices.len(), hub.inner.len()), (Part::Hub, 0, 1));
    house.until("no broker was taken", |house| (0..2).all(|at| house.broker(at).is_registered()));
    assert_eq!(house.broker(0).server_key(), Some(house.hub().server_key()));
    let (anna, ben) = (house.device("anna", 0), house.device("ben", 1));
    house.put(anna, "ben", "hello");
    house.read(ben, "hello");
    let long = "long ".repeat(13_000);
    house.put(ben, "anna", &long);
    house.read(anna, &long);
    let info = house.hub().broker_list();
    assert_eq!(info.iter().map(|one| (one.is_up, one.sessions)).collect::<Vec<_>>(), [(true, 1); 2]);

    house.hub = None;
    house.until("the hub is not missed", |house| (0..2).all(|at| !house.broker(at).is_registered()));
    let number = house.put(anna, "ben", "are you there?");
    (0..20).for_each(|_| house.turn());
    assert!(house.devices.get::<DeviceNode>(anna).unwrap().is_up(), "a device notices nothing");
    house.start_hub();
    // Who was not answered is sent away, comes back by its ticket, and says it again.
    house.read(ben, "are you there?");
    while house.until_told(anna, EventKind::Accepted).u64(Field::Number) != Some(number) {}
    house.until_told(anna, EventKind::LoggedIn);
    assert_eq!(house.broker(0).server().counters().handshakes, 1, "without Diffie-Hellman");
    assert_eq!(house.broker(0).broker_counters().sent_away, 1);
    // Ben was not sent away, for he had said nothing.
    assert_eq!(house.broker(1).server().counters().sessions, 1);
    house.put(ben, "anna", "yes");
    house.read(anna, "yes");
}

#[test]
fn a_broker_that_the_hub_does_not_list_is_nobody_s() {
    let mut house = House::new(1);
    house.until("the broker was not taken", |house| house.broker(0).is_registered());
    house.hub = None;
    house.keys = "00".repeat(32);
    house.start_hub();
    house.until("it is not refused", |house| house.broker(0).broker_counters().refused > 0);
    assert!(!house.broker(0).is_registered());
    assert_eq!(house.hub().broker_list(), []);
}

#[test]
fn what_a_broker_cannot_be_opened_with_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("broker");
    Identity::generate("broker").unwrap().write_private(&file).unwrap();
    let hub = format!("tls://127.0.0.1:7702?pin={}", "00".repeat(32));
    let good = [("roles", "broker"), ("hub", &hub), ("identity_file", file.to_str().unwrap())];
    for (option, wrong) in [
        ("roles", "king"),
        ("hub", ""),
        ("hub", "tcp://127.0.0.1:7702"),
        ("hub", "tls://127.0.0.1:7702"),
        ("identity_file", ""),
        ("listen_apps", "tcp://127.0.0.1:0"),
        ("listen_devices", "tcp://127.0.0.1:0"),
    ] {
        let mut config = config(&good);
        config.set("listen_devices", "hail://127.0.0.1:0").unwrap();
        config.set(option, wrong).unwrap();
        let fault = open_office(&mut Loop::new().unwrap(), &config).expect_err("it is wrong");
        assert_eq!(fault.status, Status::Config, "{option} = {wrong}");
        assert!(fault.detail.starts_with(option), "{option} = {wrong}: {fault}");
    }
    for (option, wrong) in [("brokers", "00"), ("listen_inner", "tcp://127.0.0.1:0")] {
        let config = config(&[("roles", "hub"), ("identity_file", good[2].1), (option, wrong)]);
        let fault = open_office(&mut Loop::new().unwrap(), &config).expect_err("it is wrong");
        assert!(fault.detail.starts_with(option), "{fault}");
    }
}
