//! Gateways on `hail://`, over real UDP on loopback: what becomes of them when the back end restarts, when their address changes
//! under way, and when their credential is taken back.

use std::{
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use hailpost::{
    config::Config,
    gateway::{Backend, Enrolment, GatewayState},
    io::KeyId,
    net::{
        Loop, NodeId, credential_line, open_backend, open_gateway,
        url::{Host, LinkKey, Scheme, Url},
    },
    node::{BackendNode, Event, EventKind, Field, GatewayNode},
    time::Time,
    wire::{AppId, gateway::Record},
};

/// A back end and its gateways, each on a loop of its own, turned in one thread.
struct House {
    backend: Option<(Loop, NodeId)>,
    address: SocketAddr,
    dir: tempfile::TempDir,
    gateways: Vec<(Loop, NodeId)>,
    /// What each gateway told, and the back end last.
    seen: Vec<Vec<Event>>,
    relay: Option<Relay>,
}

impl House {
    fn new() -> House {
        let dir = tempfile::tempdir().unwrap();
        let address = ([127, 0, 0, 1], 0).into();
        let mut house =
            House { backend: None, address, dir, gateways: Vec::new(), seen: vec![Vec::new()], relay: None };
        house.open_backend();
        house
    }

    fn open_backend(&mut self) {
        let mut config = Config::new();
        config.set("listen", &format!("hail://{}", self.address)).unwrap();
        config.set("store", self.dir.path().join("backend.db").to_str().unwrap()).unwrap();
        config.set("agreement", "1").unwrap();
        let mut net = Loop::new().unwrap();
        let (id, addresses) = open_backend(&mut net, &config).unwrap();
        self.address = addresses[0];
        self.backend = Some((net, id));
    }

    fn node<R>(&mut self, call: impl FnOnce(&mut BackendNode) -> R) -> R {
        let (net, id) = self.backend.as_mut().unwrap();
        net.with(*id, |node: &mut BackendNode, _| call(node)).unwrap()
    }

    fn backend<R>(&mut self, call: impl FnOnce(&mut Backend, Time) -> R) -> R {
        let (net, id) = self.backend.as_mut().unwrap();
        net.with(*id, |node: &mut BackendNode, now| call(node.backend_mut(), now)).unwrap()
    }

    /// The line that a gateway is enrolled with, and its key.
    fn enrol(&mut self, name: &str) -> (String, KeyId) {
        let enrolment = Enrolment { name: name.into(), group: "home".into(), trusted: false, barred: false };
        let (credential, ticket) = self.node(|node| node.enrol_link(enrolment)).unwrap();
        let own = self.seen.len() - 1;
        let durable = self.until(own, EventKind::Durable);
        assert_eq!(durable.u64(Field::Ticket), Some(ticket));
        let key = self.node(|node| node.link_key()).unwrap();
        let at = self.relay.as_ref().map_or(self.address, |relay| relay.address);
        let url = Url {
            scheme: Scheme::Hail,
            host: Host::Address(at.ip()),
            port: at.port(),
            pins: Vec::new(),
            key: Some(LinkKey(key)),
        };
        (credential_line(&url, &credential.session_id, &credential.secret), credential.key)
    }

    fn gateway(&mut self, line: &str) -> usize {
        let mut net = Loop::new().unwrap();
        let mut config = Config::new();
        config.set("credential", line).unwrap();
        config.set("rules", "none").unwrap();
        config.set("heartbeat_ms", "500").unwrap();
        config.set("backoff_ms", "200").unwrap();
        let id = open_gateway(&mut net, &config).unwrap();
        self.gateways.push((net, id));
        self.seen.insert(self.gateways.len() - 1, Vec::new());
        self.gateways.len() - 1
    }

    fn turn(&mut self) {
        let backend = self.seen.len() - 1;
        if let Some((net, _)) = &mut self.backend {
            net.wait(Some(Duration::from_millis(1))).unwrap();
            self.seen[backend].extend(std::iter::from_fn(|| net.next_event()).map(|(_, event)| event));
        }
        for (at, (net, _)) in self.gateways.iter_mut().enumerate() {
            net.wait(Some(Duration::from_millis(1))).unwrap();
            self.seen[at].extend(std::iter::from_fn(|| net.next_event()).map(|(_, event)| event));
        }
        if let Some(relay) = &mut self.relay {
            relay.pass();
        }
    }

    /// Turns all until that one has told of such an event; what it told before is forgotten.
    fn until(&mut self, at: usize, kind: EventKind) -> Event {
        let begun = Instant::now();
        loop {
            if let Some(found) = self.seen[at].iter().position(|event| event.kind() == kind) {
                return self.seen[at].drain(..=found).next_back().unwrap();
            }
            assert!(
                begun.elapsed() < Duration::from_secs(40),
                "{at} never told of {kind:?}: {:?}",
                self.seen
            );
            self.turn();
        }
    }

    fn report(&mut self, at: usize, app: u32) {
        let (net, id) = &mut self.gateways[at];
        net.with(*id, |node: &mut GatewayNode, now| node.gateway_mut().report(now, record(app)))
            .unwrap()
            .unwrap();
    }

    fn look<R>(&self, at: usize, call: impl FnOnce(&GatewayNode) -> R) -> R {
        let (net, id) = &self.gateways[at];
        call(net.get(*id).unwrap())
    }
}

fn record(app: u32) -> Record {
    Record {
        app: AppId(app),
        local: "192.168.1.2:40000".parse().unwrap(),
        remote: "203.0.113.9:443".parse().unwrap(),
        protocol: 1,
        reserved1: 0,
        reserved2: 0,
        reserved3: 0,
    }
}

/// A NAT in front of the back end: what comes in goes on from an address of its own.
struct Relay {
    address: SocketAddr,
    inside: UdpSocket,
    outside: UdpSocket,
    backend: SocketAddr,
    gateway: Option<SocketAddr>,
}

impl Relay {
    fn new(backend: SocketAddr) -> Relay {
        let inside = Relay::socket();
        let address = inside.local_addr().unwrap();
        Relay { address, inside, outside: Relay::socket(), backend, gateway: None }
    }

    fn socket() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    /// It forgets who talks to whom: what comes next goes on from another address.
    fn forget(&mut self) {
        self.outside = Relay::socket();
    }

    fn pass(&mut self) {
        let mut octets = [0; 2048];
        while let Ok((len, from)) = self.inside.recv_from(&mut octets) {
            self.gateway = Some(from);
            self.outside.send_to(&octets[..len], self.backend).unwrap();
        }
        while let Ok((len, _)) = self.outside.recv_from(&mut octets) {
            self.inside.send_to(&octets[..len], self.gateway.unwrap()).unwrap();
        }
    }
}

#[test]
fn what_one_gateway_reports_another_is_told_and_only_one_of_both_signs_of_life_is_sent() {
    let mut house = House::new();
    let (attic, key) = house.enrol("attic");
    let (cellar, _) = house.enrol("cellar");
    let (attic, cellar) = (house.gateway(&attic), house.gateway(&cellar));
    house.until(attic, EventKind::Synced);
    house.until(cellar, EventKind::Synced);
    house.report(attic, 7);
    let told = house.until(cellar, EventKind::Result);
    assert_eq!((told.u64(Field::App), told.text(Field::LocalAddress)), (Some(7), Some("::")));
    let words: Vec<u32> = (0..256).collect();
    house.backend(|backend, _| backend.set_parameters("home", AppId(7), words)).unwrap();
    let told = house.until(cellar, EventKind::Parameters);
    assert_eq!(told.bytes(Field::Words).map(<[u8]>::len), Some(1024), "it is longer than a datagram");
    let known: Vec<_> = house.backend(|backend, _| backend.gateways().collect());
    assert!(known.iter().any(|info| info.name == "attic" && info.key == Some(key)), "{known:?}");
    // The protocol's heartbeats come more often than the link wants its own.
    let begun = Instant::now();
    while house.look(attic, |node| node.gateway().counters().heartbeats) < 4 {
        assert!(begun.elapsed() < Duration::from_secs(40), "it does not beat");
        house.turn();
    }
    // The one that shows after the login that the gateway has the keys.
    assert_eq!(house.look(attic, |node| node.link_counters().unwrap().heartbeats), 1);
}

#[test]
fn after_a_restart_of_the_back_end_gateways_come_back_by_themselves_without_a_handshake() {
    let mut house = House::new();
    let (line, _) = house.enrol("attic");
    let gateway = house.gateway(&line);
    house.until(gateway, EventKind::Synced);
    house.report(gateway, 7);
    house.until(gateway, EventKind::Acknowledged);
    house.backend = None;
    // It is back before the gateway has missed it: the first heartbeat is answered by a reset.
    house.open_backend();
    house.until(gateway, EventKind::Down);
    house.until(gateway, EventKind::Synced);
    let count = |house: &House| {
        house.look(gateway, |node| {
            let counters = node.link_counters().unwrap();
            (counters.resets, counters.resumed, counters.handshakes)
        })
    };
    assert_eq!(count(&house), (1, 1, 1));
    let results = house.backend(|backend, _| backend.results("home").count());
    assert_eq!(results, 1, "what was acknowledged is there");
    // Gone for longer than the gateway waits.
    house.backend = None;
    let down = house.until(gateway, EventKind::Down);
    assert!(down.text(Field::Text).is_some());
    house.open_backend();
    house.until(gateway, EventKind::Synced);
    assert_eq!(count(&house).2, 1, "its ticket is good still");
}

#[test]
fn a_gateway_behind_a_nat_that_forgets_it_stays_registered() {
    let mut house = House::new();
    house.relay = Some(Relay::new(house.address));
    let (line, _) = house.enrol("attic");
    let gateway = house.gateway(&line);
    house.until(gateway, EventKind::Synced);
    house.relay.as_mut().unwrap().forget();
    house.report(gateway, 7);
    house.until(gateway, EventKind::Acknowledged);
    // And its own network may be another.
    let (net, _) = &mut house.gateways[gateway];
    net.network_changed();
    house.report(gateway, 8);
    house.until(gateway, EventKind::Acknowledged);
    assert_eq!(house.look(gateway, |node| node.gateway().counters().registrations), 1);
    assert_eq!(house.look(gateway, |node| node.link_counters().unwrap().sessions), 1);
    // The second time only the NAT saw it.
    let moved = house.node(|node| node.link_counters().find(|(name, ..)| *name == "moved").unwrap().2);
    assert_eq!(moved, 1);
}

#[test]
fn a_gateway_is_barred_allowed_and_revoked_as_on_any_transport() {
    let mut house = House::new();
    let (line, key) = house.enrol("attic");
    let gateway = house.gateway(&line);
    house.until(gateway, EventKind::Synced);
    house.backend(|backend, now| backend.deregister(now, key)).unwrap();
    let told = house.until(gateway, EventKind::Deregistered);
    assert_eq!(told.u64(Field::ByBackend), Some(1));
    let join = |house: &mut House| {
        let (net, id) = &mut house.gateways[gateway];
        net.with(*id, |node: &mut GatewayNode, now| node.gateway_mut().join(now)).unwrap();
    };
    join(&mut house);
    assert_eq!(house.until(gateway, EventKind::Refused).u64(Field::Reason), Some(8));
    house.backend(|backend, _| backend.allow(key)).unwrap();
    let own = house.seen.len() - 1;
    house.until(own, EventKind::Durable);
    join(&mut house);
    house.until(gateway, EventKind::Synced);
    // Revoked it is out at once, its ticket is of no use, and neither is its credential in another life.
    house.backend(|backend, _| backend.revoke(key)).unwrap();
    house.until(gateway, EventKind::Down);
    assert_eq!(house.until(gateway, EventKind::Refused).u64(Field::Reason), Some(1));
    let again = house.gateway(&line);
    assert_eq!(house.until(again, EventKind::Refused).u64(Field::Reason), Some(1));
    assert_eq!(house.look(again, |node| node.link_counters().unwrap().sessions), 0);
    assert_eq!(house.look(again, |node| node.gateway().state()), GatewayState::Down);
}

#[test]
fn a_new_login_of_a_credential_takes_the_place_of_the_old() {
    let mut house = House::new();
    let (line, key) = house.enrol("attic");
    let old = house.gateway(&line);
    house.until(old, EventKind::Synced);
    let new = house.gateway(&line);
    house.until(old, EventKind::Down);
    house.until(new, EventKind::Registered);
    let here = house.backend(|backend, _| backend.gateways().filter(|info| info.key == Some(key)).count());
    assert!(here <= 1);
}

#[test]
fn a_server_of_another_key_and_options_that_do_not_fit_are_told() {
    let mut house = House::new();
    let (line, _) = house.enrol("attic");
    let (url, credential) = line.split_once(' ').unwrap();
    let mut wrong: Url = url.parse().unwrap();
    wrong.key = Some(LinkKey([9; 32]));
    let gateway = house.gateway(&format!("{wrong} {credential}"));
    let told = house.until(gateway, EventKind::Down);
    assert!(told.text(Field::Text).unwrap().contains("another key"), "{told:?}");
    let opened = |options: &[(&str, &str)]| {
        let mut config = Config::new();
        options.iter().for_each(|(name, value)| config.set(name, value).unwrap());
        open_gateway(&mut Loop::new().unwrap(), &config).map(drop).unwrap_err().detail
    };
    let token = hailpost::gateway::Token([1; 16]).to_string();
    for (options, named) in [
        (&[("backend", url)][..], "credential_file: "),
        (&[("backend", url), ("credential", credential), ("enrol_token", &token)], "backend: a token"),
        (&[("backend", "tcp://127.0.0.1:1"), ("credential", credential)], "backend: a credential"),
        (&[("credential", credential)], "backend: say where"),
        (&[("credential", "short")], "credential: "),
    ] {
        let fault = opened(options);
        assert!(fault.starts_with(named), "{fault}");
    }
}
