//! Two rooms on real sockets and TLS, as a configuration says.

use std::time::{Duration, Instant};

use hailpost::{
    config::Config,
    net::{
        Loop, NodeId, OfficeAddresses, enrolment_line, office_url, open_device, open_office, tls::Identity,
        url::Host,
    },
    node::{DeviceNode, Event, EventKind, Field, OfficeNode},
    wire::app::{Address, To},
};

const NAMES: [&str; 2] = ["south", "north"];

fn config(options: &[(&str, &str)]) -> Config {
    let mut config = Config::new();
    for (name, value) in options {
        config.set(name, value).unwrap();
    }
    config
}

/// An office in a process, as far as this one can tell: dropped, its sockets are gone and its files are as they were.
struct Process {
    net: Loop,
    node: NodeId,
    addresses: OfficeAddresses,
}

struct Town {
    dir: tempfile::TempDir,
    offices: [Option<Process>; 2],
    /// Where each listens for the other, and for devices.
    ports: [[u16; 2]; 2],
    pins: [String; 2],
    devices: Loop,
    events: Vec<(NodeId, Event)>,
}

impl Town {
    fn new() -> Town {
        let dir = tempfile::tempdir().unwrap();
        let pins = NAMES.map(|name| {
            let identity = Identity::generate(name).unwrap();
            identity.write_private(&dir.path().join(name)).unwrap();
            identity.key_id().to_string()
        });
        // Each must know where the other will be, so the ports are drawn before.
        let port = |_| {
            let stream = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let datagram = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            [stream.local_addr().unwrap().port(), datagram.local_addr().unwrap().port()]
        };
        let (devices, events) = (Loop::new().unwrap(), Vec::new());
        let ports = [0, 1].map(port);
        let mut town = Town { dir, offices: [None, None], ports, pins, devices, events };
        (0..2).for_each(|at| town.start(at));
        town
    }

    fn start(&mut self, at: usize) {
        let file = |name: &str| self.dir.path().join(name).to_str().unwrap().to_owned();
        let (other, [inner, devices]) = (1 - at, self.ports[at]);
        let (pin, there) = (&self.pins[other], self.ports[other][0]);
        let mut net = Loop::new().unwrap();
        let options = config(&[
            ("room", NAMES[at]),
            ("rooms", &format!("{}=tls://127.0.0.1:{there}?pin={pin}", NAMES[other])),
            ("listen_inner", &format!("tls://127.0.0.1:{inner}")),
            ("listen_devices", &format!("hail://127.0.0.1:{devices}")),
            ("listen_apps", ""),
            ("identity_file", &file(NAMES[at])),
            ("store", &file(&format!("{}.db", NAMES[at]))),
        ]);
        let (node, addresses) = open_office(&mut net, &options).unwrap();
        self.offices[at] = Some(Process { net, node, addresses });
    }

    fn turn(&mut self) {
        let short = Some(Duration::from_millis(1));
        for process in self.offices.iter_mut().flatten() {
            process.net.wait(short).unwrap();
            while process.net.next_event().is_some() {}
        }
        self.devices.wait(short).unwrap();
        self.events.extend(std::iter::from_fn(|| self.devices.next_event()));
    }

    fn until(&mut self, what: &str, is_it: impl Fn(&Town) -> bool) {
        let begun = Instant::now();
        while !is_it(self) {
            assert!(begun.elapsed() < Duration::from_secs(90), "{what}: {:?}", self.events);
            self.turn();
        }
    }

    /// Turns until a device tells of this.
    fn until_told(&mut self, device: NodeId, kind: EventKind) -> Event {
        let is_it = move |(from, event): &(NodeId, Event)| *from == device && event.kind() == kind;
        self.until(&format!("{kind:?} never came"), |town| town.events.iter().any(is_it));
        let at = self.events.iter().position(is_it).unwrap();
        self.events.remove(at).1
    }

    fn office(&self, at: usize) -> &OfficeNode {
        let process = self.offices[at].as_ref().unwrap();
        process.net.get(process.node).unwrap()
    }

    fn is_up(&self) -> bool {
        (0..2).all(|at| self.office(at).room_list().iter().all(|room| room.is_up && room.is_here))
    }

    fn change<R>(&mut self, at: usize, call: impl FnOnce(&mut OfficeNode) -> R) -> R {
        let process = self.offices[at].as_mut().unwrap();
        process.net.with(process.node, |node: &mut OfficeNode, _| call(node)).unwrap()
    }

    /// A user of a room, with a device that logs in.
    fn device(&mut self, at: usize, user: &str) -> NodeId {
        self.change(at, |office| office.add_user(user)).unwrap();
        self.turn();
        let enrolled = self.change(at, |office| office.add_device(user, [1; 16], 0)).unwrap();
        let address = self.offices[at].as_ref().unwrap().addresses.devices[0];
        let url = office_url(Host::Address(address.ip()), address.port(), self.office(at).server_key());
        let line = enrolment_line(&url, &enrolled);
        let device = open_device(&mut self.devices, &config(&[("credential", &line)])).unwrap();
        self.until_told(device, EventKind::LoggedIn);
        self.until_told(device, EventKind::Welcome);
        device
    }

    fn put(&mut self, device: NodeId, to: &str, body: &str) {
        let to = To::Named(vec![Address::User(to.to_owned())]);
        let put = |node: &mut DeviceNode, now| node.put(now, to, true, 3600, "text/plain", body.into());
        let number = self.devices.with(device, put).unwrap().unwrap();
        while self.until_told(device, EventKind::Accepted).u64(Field::Number) != Some(number) {}
    }

    /// Until this message of this sender comes, which is confirmed.
    fn read(&mut self, device: NodeId, sender: &str, body: &str) {
        let message = self.until_told(device, EventKind::Message);
        assert_eq!(message.text(Field::Sender), Some(sender));
        assert_eq!(message.bytes(Field::Body), Some(body.as_bytes()));
        let confirm = |node: &mut DeviceNode, _| node.confirm(message.u64(Field::Sequence).unwrap());
        self.devices.with(device, confirm).unwrap().unwrap();
    }
}

#[test]
fn devices_in_two_rooms_write_to_each_other_while_one_of_the_offices_is_killed_and_back() {
    let mut town = Town::new();
    town.until("the rooms do not find each other", Town::is_up);
    let (ben, anna) = (town.device(0, "ben"), town.device(1, "anna"));
    town.put(ben, "anna@north", "hello");
    town.read(anna, "user:ben@south", "hello");
    let long = "long ".repeat(13_000);
    town.put(anna, "ben@south", &long);
    town.read(ben, "user:anna@north", &long);
    let is_kept = |town: &Town| (0..2).any(|at| town.office(at).hub().waiting_count() > 0);
    town.until("something is kept", |town| !is_kept(town));

    let query =
        |node: &mut DeviceNode, _| node.query(["anna@north", "nobody@north"].map(str::to_owned).to_vec());
    town.devices.with(ben, query).unwrap().unwrap();
    for (user, online) in [("anna@north", 1), ("nobody@north", 0)] {
        let presence = town.until_told(ben, EventKind::Presence);
        assert_eq!((presence.text(Field::User), presence.u64(Field::Online)), (Some(user), Some(online)));
    }

    town.offices[1] = None;
    town.until("it is not missed", |town| !town.office(0).room_list()[0].is_up);
    // It is acknowledged here, kept here, and goes on when the other room is back.
    town.put(ben, "anna@north", "are you there?");
    assert_eq!(town.office(0).room_list()[0].waiting, 1);
    town.devices.with(ben, query).unwrap().unwrap();
    let presence = town.until_told(ben, EventKind::Presence);
    assert_eq!((presence.u64(Field::Online), presence.u64(Field::Since)), (Some(0), Some(0)), "nobody knows");
    town.start(1);
    town.read(anna, "user:ben@south", "are you there?");
    town.put(anna, "ben@south", "yes");
    town.read(ben, "user:anna@north", "yes");
    town.until("something is kept", |town| !is_kept(town));
    assert!(town.office(0).rooms().counters().lost > 0);
}

#[test]
fn a_room_that_shows_another_key_is_not_let_in_and_what_is_for_it_waits() {
    let mut town = Town::new();
    town.until("the rooms do not find each other", Town::is_up);
    let ben = town.device(0, "ben");
    town.offices[1] = None;
    Identity::generate("another").unwrap().write_private(&town.dir.path().join("another")).unwrap();
    std::fs::rename(town.dir.path().join("another"), town.dir.path().join("north")).unwrap();
    town.start(1);
    town.put(ben, "anna@north", "hello");
    town.until("nobody is refused", |town| {
        town.office(0).brokers().counters().unlisted > 0 && town.office(1).rooms().counters().lost > 0
    });
    assert!(!town.office(0).room_list()[0].is_here && !town.office(1).room_list()[0].is_up);
    assert_eq!(town.office(0).room_list()[0].waiting, 1);
}
