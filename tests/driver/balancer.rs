//! A balancer, a broker that reports to it and devices that ask it, on real sockets, as a configuration says.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use hailpost::{
    config::Config,
    io::{Conn, Input, Output, Service},
    net::{
        ClientSecurity, Loop, NodeId, OfficeAddresses, Remote, open_device, open_office, reload_balancer,
        resolver::Target,
        tls::{Identity, ServerTrust, client_config},
    },
    node::{BalancerNode, BrokerNode, DeviceNode, Event, EventKind, Field, Node, OfficeNode},
    post::balancer::{Load, Uplink, UplinkConfig, UplinkOutput},
    rng::Seeded,
    time::Time,
};

fn config(options: &[(&str, &str)]) -> Config {
    let mut config = Config::new();
    for (name, value) in options {
        config.set(name, value).unwrap();
    }
    config
}

fn text(octets: &[u8]) -> String {
    use base64::{display::Base64Display, engine::general_purpose::URL_SAFE_NO_PAD};
    Base64Display::new(octets, &URL_SAFE_NO_PAD).to_string()
}

/// A broker's uplink on a connection of its own; the sessions are an office's.
struct Reporter {
    uplink: Uplink,
    conn: Option<Conn>,
    next: u32,
    told: VecDeque<UplinkOutput>,
}

impl Node for Reporter {
    fn handle(&mut self, now: Time, input: Input<'_>) {
        match input {
            Input::Connected { .. } => self.uplink.connected(now),
            Input::Received { octets, .. } => self.uplink.received(now, octets),
            Input::Closed { .. } => {
                self.conn = None;
                self.uplink.closed(now);
            }
            Input::Deadline => self.uplink.handle_deadline(now),
            _ => {}
        }
    }

    fn poll_output(&mut self, now: Time) -> Option<Output<Event>> {
        loop {
            match self.uplink.poll_output(now)? {
                UplinkOutput::Connect => {
                    self.next += 1;
                    let conn = Conn(Conn::OURS | self.next);
                    self.conn = Some(conn);
                    return Some(Output::Connect { conn, way: 0 });
                }
                UplinkOutput::Send(octets) => {
                    return Some(Output::Send { conn: self.conn?, to: None, octets });
                }
                UplinkOutput::Close => {
                    if let Some(conn) = self.conn.take() {
                        return Some(Output::Close { conn });
                    }
                }
                other => self.told.push_back(other),
            }
        }
    }

    fn flush(&mut self, _: Time) -> bool {
        false
    }

    fn deadline(&self) -> Option<Time> {
        self.uplink.deadline()
    }
}

struct House {
    net: Loop,
    balancer: NodeId,
    addresses: OfficeAddresses,
    identity: Identity,
    events: Vec<(NodeId, Event)>,
}

impl House {
    fn new(broker: &Identity, store: &str) -> House {
        let identity = Identity::generate("balancer").unwrap();
        let mut config = config(&[
            ("roles", "balancer"),
            ("listen_devices", "hail+ask://127.0.0.1:0"),
            ("listen_inner", "tls://127.0.0.1:0"),
            ("brokers", &broker.key_id().to_string()),
            ("store", store),
        ]);
        config.set_bytes("identity_pem", identity.to_pem().as_bytes()).unwrap();
        let mut net = Loop::new().unwrap();
        let (balancer, addresses) = open_office(&mut net, &config).unwrap();
        House { net, balancer, addresses, identity, events: Vec::new() }
    }

    fn until(&mut self, what: &str, is_so: impl Fn(&House) -> bool) {
        let begun = Instant::now();
        while !is_so(self) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{what}: {:?}", self.events);
            self.net.wait(Some(Duration::from_millis(50))).unwrap();
            self.events.extend(std::iter::from_fn(|| self.net.next_event()));
        }
    }

    fn until_event(&mut self, node: NodeId, kind: EventKind) -> Event {
        let is_it = |(from, event): &(NodeId, Event)| *from == node && event.kind() == kind;
        self.until(&format!("{kind:?}"), |house| house.events.iter().any(is_it));
        let at = self.events.iter().position(is_it).unwrap();
        self.events.remove(at).1
    }

    /// A broker that reports, proving this key.
    fn reporter(&mut self, identity: &Identity, uplink: UplinkConfig) -> NodeId {
        let trust = ServerTrust::Pin(vec![self.identity.key_id()]);
        let tls = client_config(Some(identity), trust, &[Service::Inner.alpn()]).unwrap();
        let target = Target::parse(&self.addresses.inner[0].to_string(), 7702).unwrap();
        let security = ClientSecurity::Tls { config: tls, server_name: "balancer".into() };
        let remote = Remote::Stream { target, security, service: Service::Inner };
        let uplink = Uplink::new(uplink, self.net.now(), Seeded::new(1));
        let node = Reporter { uplink, conn: None, next: 0, told: VecDeque::new() };
        self.net.add(Box::new(node), vec![remote])
    }
}

#[test]
fn a_device_asks_the_balancer_once_and_goes_back_to_its_broker_directly() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let key = Identity::generate("broker").unwrap();
    let mut house = House::new(&key, &path("balancer.db"));
    let balancer_key = house.net.get::<BalancerNode>(house.balancer).unwrap().server_key();

    let office = config(&[("listen_devices", "hail://127.0.0.1:0"), ("listen_apps", "")]);
    let (office, at) = open_office(&mut house.net, &office).unwrap();
    let (address, link_key) = (at.devices[0], house.net.get::<OfficeNode>(office).unwrap().server_key());
    house.net.with(office, |node: &mut OfficeNode, _| node.add_user("anna")).unwrap().unwrap();
    house.until_event(office, EventKind::Durable);
    let enrol = |node: &mut OfficeNode, _| node.add_device("anna", [1; 16], 0);
    let enrolled = house.net.with(office, enrol).unwrap().unwrap();
    house.until_event(office, EventKind::Durable);

    // A stranger's key is refused; the broker's own is listed.
    let of = |name: &str| UplinkConfig {
        name: name.into(),
        epoch: 1,
        address,
        link_key,
        most: 10,
        report_every: Duration::from_secs(10),
    };
    let stranger = house.reporter(&Identity::generate("stranger").unwrap(), of("stranger"));
    house.until("the stranger is refused", |house| {
        let told = &house.net.get::<Reporter>(stranger).unwrap().told;
        told.iter().any(|output| matches!(output, UplinkOutput::Refused { code: 401, .. }))
    });
    house.net.remove(stranger);
    let broker = house.reporter(&key, of("b1"));
    let up = house.until_event(house.balancer, EventKind::BrokerUp);
    assert_eq!(up.text(Field::Name), Some("b1"));

    let url = format!("hail+ask://{}?key={}", house.addresses.devices[0], text(&balancer_key));
    let credential = text(&[&enrolled.session.0[..], &enrolled.secret].concat());
    let device = config(&[("credential", &format!("{url} {credential}")), ("store", &path("device.db"))]);
    let first = open_device(&mut house.net, &device).unwrap();
    let login = house.until_event(first, EventKind::LoggedIn);
    assert_eq!(login.u64(Field::Resumed), Some(0));
    assert_eq!(house.net.get::<DeviceNode>(first).unwrap().broker(), Some(address));
    house.until_event(first, EventKind::Welcome);

    // In its next life it does not ask: nobody would answer.
    house.net.remove(first);
    let given =
        |house: &House| house.net.get::<BalancerNode>(house.balancer).unwrap().balancer().asks().given;
    assert_eq!(given(&house), 1);
    let again = open_device(&mut house.net, &device).unwrap();
    let login = house.until_event(again, EventKind::LoggedIn);
    assert_eq!((login.u64(Field::Resumed), given(&house)), (Some(1), 1));

    // The broker drains, so nobody new is sent there; then its key is listed no more.
    let drain =
        |node: &mut Reporter, now| node.uplink.set_load(now, Load { load: 1, sessions: 1, draining: true });
    house.net.with(broker, drain).unwrap();
    house.until_event(house.balancer, EventKind::BrokerDown);
    reload_balancer(&mut house.net, house.balancer, &config(&[])).unwrap();
    house.until("it is let go", |house| !house.net.get::<Reporter>(broker).unwrap().uplink.is_enlisted());
}

/// A process, as far as this one can tell.
struct Process {
    net: Loop,
    node: NodeId,
    addresses: OfficeAddresses,
    events: Vec<Event>,
}

impl Process {
    fn open(options: &[(&str, &str)]) -> Process {
        let mut net = Loop::new().unwrap();
        let (node, addresses) = open_office(&mut net, &config(options)).unwrap();
        Process { net, node, addresses, events: Vec::new() }
    }

    fn turn(&mut self) {
        self.net.wait(Some(Duration::from_millis(1))).unwrap();
        self.events.extend(std::iter::from_fn(|| self.net.next_event()).map(|(_, event)| event));
    }
}

fn turn_until(
    devices: &mut Loop,
    all: &mut [Process],
    what: &str,
    is_so: &mut dyn FnMut(&mut Loop, &[Process]) -> bool,
) {
    let begun = Instant::now();
    while !is_so(devices, all) {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}: {:?}", all[1].events);
        all.iter_mut().for_each(Process::turn);
        devices.wait(Some(Duration::from_millis(1))).unwrap();
    }
}

/// Hub, two brokers and a balancer, each with keys of its own: a device is let in where it was sent, and when its broker drains it
/// goes to the other one, by its ticket.
#[test]
fn roles_apart_let_a_device_in_and_move_it_when_its_broker_drains() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let pin = |name: &str| {
        let identity = Identity::generate(name).unwrap();
        identity.write_private(std::path::Path::new(&file(name))).unwrap();
        identity.key_id().to_string()
    };
    let (hub_pin, balancer_pin) = (pin("hub"), pin("balancer"));
    let keys = [pin("b0"), pin("b1")].join(",");
    let common = [("listen_inner", "tls://127.0.0.1:0"), ("brokers", &keys)];
    let mut own = common.to_vec();
    let hub_file = file("hub");
    own.extend([("roles", "hub"), ("listen_apps", ""), ("identity_file", &hub_file)]);
    let mut hub = Process::open(&own);
    let mut own = common.to_vec();
    let balancer_file = file("balancer");
    own.extend([("roles", "balancer"), ("listen_devices", "hail+ask://127.0.0.1:0")]);
    own.push(("identity_file", &balancer_file));
    let balancer = Process::open(&own);
    let hub_url = format!("tls://{}?pin={hub_pin}", hub.addresses.inner[0]);
    let balancer_url = format!("tls://{}?pin={balancer_pin}", balancer.addresses.inner[0]);
    let brokers = ["b0", "b1"].map(|name| {
        Process::open(&[
            ("roles", "broker"),
            ("broker_name", name),
            ("hub", &hub_url),
            ("balancer", &balancer_url),
            ("identity_file", &file(name)),
            ("listen_devices", "hail://127.0.0.1:0"),
        ])
    });

    hub.net.with(hub.node, |node: &mut OfficeNode, _| node.add_user("anna")).unwrap().unwrap();
    hub.turn();
    let enrol = |node: &mut OfficeNode, _| node.add_device("anna", [1; 16], 0);
    let enrolled = hub.net.with(hub.node, enrol).unwrap().unwrap();
    let key = balancer.net.get::<BalancerNode>(balancer.node).unwrap().server_key();
    let url = format!("hail+ask://{}?key={}", balancer.addresses.devices[0], text(&key));
    let credential = text(&[&enrolled.session.0[..], &enrolled.secret].concat());
    let mut all = [hub, balancer].into_iter().chain(brokers).collect::<Vec<_>>();
    let mut devices = Loop::new().unwrap();
    turn_until(&mut devices, &mut all, "both brokers are given out", &mut |_, all| {
        let up = all[1].events.iter().filter(|event| event.kind() == EventKind::BrokerUp);
        up.count() == 2
    });
    let device = config(&[("credential", &format!("{url} {credential}")), ("keepalive_s", "10")]);
    let device = open_device(&mut devices, &device).unwrap();
    let mut welcome = |devices: &mut Loop, _: &[Process]| {
        std::iter::from_fn(|| devices.next_event()).any(|(_, event)| event.kind() == EventKind::Welcome)
    };
    turn_until(&mut devices, &mut all, "the hub has the device", &mut welcome);
    let first = devices.get::<DeviceNode>(device).unwrap().broker().unwrap();

    // Where it is drains; the next sign of life says so.
    let mut drained = false;
    for process in &mut all[2..] {
        if process.addresses.devices[0] == first {
            process.net.with(process.node, |node: &mut BrokerNode, _| node.drain(true)).unwrap();
            drained = true;
        }
    }
    assert!(drained);
    devices.network_changed();
    turn_until(&mut devices, &mut all, "the hub has the device at the other broker", &mut welcome);
    let node = devices.get::<DeviceNode>(device).unwrap();
    assert_ne!(node.broker(), Some(first));
    assert_eq!(node.link_counters().handshakes, 1, "its ticket is good at any broker");
}
