//! Both ends of the gateway protocol over real sockets on loopback, each on a loop of its own.

use std::time::{Duration, Instant};

use hailpost::{
    gateway::{BackendConfig, Gateway, GatewayConfig, Open},
    io::Service,
    net::{ClientSecurity, Listen, ListenTransport, Loop, NodeId, Remote, ServerSecurity, resolver::Target},
    node::{BackendNode, Event, EventKind, Field, GatewayNode},
    rng::Seeded,
    store::Memory,
    wire::{AppId, gateway::Record},
};

/// Both loops, turned in one thread.
struct Both {
    backend: (Loop, NodeId),
    gateways: Vec<(Loop, NodeId)>,
    seen: Vec<Vec<Event>>,
}

impl Both {
    fn new(datagrams: bool, gateways: usize) -> Both {
        let mut net = Loop::new().unwrap();
        let config =
            BackendConfig { agreement: 1, open_group: Some("home".into()), ..BackendConfig::default() };
        let open = Open { now: net.now(), unix: 1_700_000_000, rng: Seeded::new(1) };
        let node = BackendNode::open(config, open, Box::new(Memory::default()), None).unwrap();
        let id = net.add(Box::new(node), Vec::new());
        let transport = match datagrams {
            true => ListenTransport::Datagram,
            false => ListenTransport::Stream(ServerSecurity::Plain),
        };
        let address = net
            .listen(
                id,
                Listen {
                    address: "127.0.0.1:0".parse().unwrap(),
                    transport,
                    networks: None,
                    services: vec![Service::Gateway],
                },
            )
            .unwrap();
        let gateways = (0..gateways)
            .map(|seed| {
                let mut own = Loop::new().unwrap();
                let gateway = Gateway::new(GatewayConfig::default(), own.now(), Seeded::new(seed as u64));
                let target = Target::parse(&format!("localhost:{}", address.port()), 7700).unwrap();
                let remote = match datagrams {
                    true => Remote::Datagram { target, service: Service::Gateway },
                    false => {
                        Remote::Stream { target, security: ClientSecurity::Plain, service: Service::Gateway }
                    }
                };
                let id = own.add(Box::new(GatewayNode::new(gateway, None)), vec![remote]);
                (own, id)
            })
            .collect();
        let seen = vec![Vec::new(); 8];
        Both { backend: (net, id), gateways, seen }
    }

    /// Turns both until gateway `at` has told of such an event.
    fn until(&mut self, at: usize, kind: EventKind) -> Event {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) {
            if let Some(found) = self.seen[at].iter().position(|event| event.kind() == kind) {
                return self.seen[at].remove(found);
            }
            self.backend.0.wait(Some(Duration::from_millis(1))).unwrap();
            while self.backend.0.next_event().is_some() {}
            for (index, (net, _)) in self.gateways.iter_mut().enumerate() {
                net.wait(Some(Duration::from_millis(1))).unwrap();
                self.seen[index].extend(std::iter::from_fn(|| net.next_event()).map(|(_, event)| event));
            }
        }
        panic!("gateway {at} never told of {kind:?}");
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

#[test]
fn a_result_travels_from_one_gateway_to_another() {
    for datagrams in [false, true] {
        let mut both = Both::new(datagrams, 2);
        both.until(0, EventKind::Synced);
        both.until(1, EventKind::Synced);
        let (net, id) = &mut both.gateways[0];
        net.with(*id, |node: &mut GatewayNode, now| node.gateway_mut().report(now, record(7)))
            .unwrap()
            .unwrap();
        let told = both.until(1, EventKind::Result);
        assert_eq!(told.u64(Field::App), Some(7));
        assert_eq!(told.text(Field::RemoteAddress), Some("203.0.113.9"));
        assert_eq!(told.text(Field::LocalAddress), Some("::"), "the local end stays at home");
        let (net, id) = &mut both.backend;
        net.with(*id, |node: &mut BackendNode, _| {
            node.backend_mut().set_rule(None, AppId(22), b"^SSH-2\\.0-").unwrap()
        })
        .unwrap();
        let told = both.until(1, EventKind::Rules);
        assert_eq!(told.u64(Field::Count), Some(1));
    }
}

#[test]
fn a_stranger_is_refused_where_no_group_is_open() {
    let mut net = Loop::new().unwrap();
    let open = Open { now: net.now(), unix: 1_700_000_000, rng: Seeded::new(1) };
    let node = BackendNode::open(BackendConfig::default(), open, Box::new(Memory::default()), None).unwrap();
    assert!(node.backend().enrolments().next().is_none());
    let id = net.add(Box::new(node), Vec::new());
    let transport = ListenTransport::Stream(ServerSecurity::Plain);
    let address = net
        .listen(
            id,
            Listen {
                address: "127.0.0.1:0".parse().unwrap(),
                transport,
                networks: None,
                services: vec![Service::Gateway],
            },
        )
        .unwrap();
    let gateway = Gateway::new(GatewayConfig::default(), net.now(), Seeded::new(2));
    let target = Target::parse(&address.to_string(), 7700).unwrap();
    let remote = Remote::Stream { target, security: ClientSecurity::Plain, service: Service::Gateway };
    let own = net.add(Box::new(GatewayNode::new(gateway, None)), vec![remote]);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        net.wait(Some(Duration::from_millis(5))).unwrap();
        while let Some((source, event)) = net.next_event() {
            if source == own && event.kind() == EventKind::Refused {
                assert_eq!(event.text(Field::Text), Some("not authorised"));
                return;
            }
        }
    }
    panic!("the gateway was not refused");
}

/// A back end and a gateway as their options say, over TLS with pinned keys.
#[test]
fn an_enrolled_gateway_registers_over_tls_and_a_stranger_is_refused() {
    use hailpost::{
        config::Config,
        gateway::Enrolment,
        net::{open_backend, open_gateway, tls::Identity},
    };
    let (server, friend, stranger) = (
        Identity::generate("backend").unwrap(),
        Identity::generate("friend").unwrap(),
        Identity::generate("stranger").unwrap(),
    );
    let mut net = Loop::new().unwrap();
    let mut config = Config::new();
    config.set("listen", "tls://127.0.0.1:0").unwrap();
    config.set_bytes("identity_pem", server.to_pem().as_bytes()).unwrap();
    let (backend, addresses) = open_backend(&mut net, &config).unwrap();
    net.with(backend, |node: &mut BackendNode, _| {
        let enrolment =
            Enrolment { name: "friend".into(), group: "home".into(), trusted: false, barred: false };
        node.backend_mut().enrol(friend.key_id(), enrolment)
    })
    .unwrap()
    .unwrap();
    let open = |net: &mut Loop, identity: &Identity, pin: &dyn std::fmt::Display| {
        let mut config = Config::new();
        let url = format!("tls://127.0.0.1:{}?pin={pin}", addresses[0].port());
        config.set("backend", &url).unwrap();
        config.set_bytes("identity_pem", identity.to_pem().as_bytes()).unwrap();
        open_gateway(net, &config).unwrap()
    };
    let right = open(&mut net, &friend, &server.key_id());
    let wrong = open(&mut net, &stranger, &server.key_id());
    let misled = open(&mut net, &friend, &stranger.key_id());
    let (mut registered, mut refused, mut identity) = (false, false, false);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) && !(registered && refused && identity) {
        net.wait(Some(Duration::from_millis(5))).unwrap();
        while let Some((source, event)) = net.next_event() {
            match event.kind() {
                EventKind::Synced if source == right => registered = true,
                EventKind::Refused if source == wrong => refused = true,
                EventKind::Down if source == misled => {
                    let text = event.text(Field::Text).unwrap();
                    assert!(text.contains(&server.key_id().to_string()), "{text}");
                    identity = true;
                }
                _ => {}
            }
        }
    }
    assert!(registered && refused && identity, "{registered} {refused} {identity}");
}

/// A back end on a loop, open to everyone on loopback, for raw clients.
fn open_backend_for(limits: impl FnOnce(&mut hailpost::net::Limits)) -> (Loop, NodeId, std::net::SocketAddr) {
    let mut net = Loop::new().unwrap();
    limits(net.limits_mut());
    let config = BackendConfig {
        open_group: Some("home".into()),
        patience: Duration::from_millis(300),
        family: hailpost::wire::gateway::Family::V4,
        ..BackendConfig::default()
    };
    let open = Open { now: net.now(), unix: 1_700_000_000, rng: Seeded::new(1) };
    let node = BackendNode::open(config, open, Box::new(Memory::default()), None).unwrap();
    let id = net.add(Box::new(node), Vec::new());
    let transport = ListenTransport::Stream(ServerSecurity::Plain);
    let networks = Some(vec![hailpost::config::Network::parse("127.0.0.1").unwrap()]);
    let address = net
        .listen(
            id,
            Listen {
                address: "0.0.0.0:0".parse().unwrap(),
                transport,
                networks,
                services: vec![Service::Gateway],
            },
        )
        .unwrap();
    (net, id, address)
}

/// Turns the loop until `done`, or fails.
fn turn_until(net: &mut Loop, mut done: impl FnMut(&mut Loop) -> bool) {
    let start = Instant::now();
    while !done(net) {
        assert!(start.elapsed() < Duration::from_secs(20), "never came");
        net.wait(Some(Duration::from_millis(5))).unwrap();
        while net.next_event().is_some() {}
    }
}

/// A register message on IPv4, as it stands on the wire.
const REGISTER: [u8; 20] = [127, 0, 0, 1, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
const HEARTBEAT: [u8; 20] = [127, 0, 0, 1, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0];

#[test]
fn an_address_gets_no_more_connections_than_its_share() {
    let (mut net, _, address) = open_backend_for(|limits| limits.per_address = 3);
    let target = std::net::SocketAddr::from(([127, 0, 0, 1], address.port()));
    let held: Vec<_> = (0..10).map(|_| std::net::TcpStream::connect(target).unwrap()).collect();
    turn_until(&mut net, |net| net.counters().too_many == 7);
    assert_eq!(net.counters().accepted, 3);
    drop(held);
    // What is given back can be had again.
    turn_until(&mut net, |net| {
        let more = std::net::TcpStream::connect(target).unwrap();
        more.set_nodelay(true).unwrap();
        net.counters().accepted > 3
    });
}

#[test]
fn a_network_that_may_not_come_in_is_turned_away() {
    let (mut net, _, address) = open_backend_for(|_| {});
    let socket = socket2_bind("127.0.0.2:0");
    let target = std::net::SocketAddr::from(([127, 0, 0, 1], address.port()));
    socket.connect(&target.into()).unwrap();
    turn_until(&mut net, |net| net.counters().unwelcome == 1);
    assert_eq!(net.counters().accepted, 0);
}

fn socket2_bind(address: &str) -> socket2::Socket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&address.parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    socket
}

#[test]
fn silence_and_a_trickle_are_ended_while_a_good_peer_is_served() {
    use std::io::{Read, Write};
    let (mut net, id, address) = open_backend_for(|_| {});
    let target = std::net::SocketAddr::from(([127, 0, 0, 1], address.port()));
    let mut good = std::net::TcpStream::connect(target).unwrap();
    good.write_all(&REGISTER).unwrap();
    let mut silent = std::net::TcpStream::connect(target).unwrap();
    let mut trickle = std::net::TcpStream::connect(target).unwrap();
    for stream in [&silent, &trickle, &good] {
        stream.set_nonblocking(true).unwrap();
    }
    let mut long = REGISTER;
    long[14] = 0xff;
    trickle.write_all(&[REGISTER, long].concat()).unwrap();
    let mut answered = 0;
    turn_until(&mut net, |net| {
        // One octet of a long body, now and then.
        let _ = trickle.write(&[0]);
        let _ = good.write(&HEARTBEAT);
        let mut scratch = [0; 4096];
        answered += good.read(&mut scratch).unwrap_or(0);
        let node: &BackendNode = net.get(id).unwrap();
        node.backend().counters().silent == 2
    });
    let mut scratch = [0; 64];
    assert_eq!(silent.read(&mut scratch).unwrap(), 0, "closed, with nothing said");
    // After the answers that it did not read.
    turn_until(&mut net, |_| match trickle.read(&mut scratch) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    });
    let before = answered;
    turn_until(&mut net, |_| {
        let _ = good.write(&HEARTBEAT);
        let mut scratch = [0; 4096];
        answered += good.read(&mut scratch).unwrap_or(0);
        answered > before + 200
    });
}

#[test]
fn who_never_reads_gets_no_more_answers_and_holds_nobody_up() {
    use std::io::{Read, Write};
    let (mut net, id, address) = open_backend_for(|_| {});
    let target = std::net::SocketAddr::from(([127, 0, 0, 1], address.port()));
    let mut greedy = std::net::TcpStream::connect(target).unwrap();
    greedy.set_nonblocking(true).unwrap();
    let mut good = std::net::TcpStream::connect(target).unwrap();
    good.write_all(&REGISTER).unwrap();
    good.set_nonblocking(true).unwrap();
    let _ = greedy.write(&REGISTER);
    let many: Vec<u8> = HEARTBEAT.iter().copied().cycle().take(20 * 4096).collect();
    // It asks and asks until nothing more is taken from it.
    let mut refused = 0;
    turn_until(&mut net, |net| {
        refused = if greedy.write(&many).is_ok() { 0 } else { refused + 1 };
        let node: &BackendNode = net.get(id).unwrap();
        assert!(node.backend().counters().messages < 10_000_000, "its answers are kept without bound");
        refused > 50
    });
    let mut answered = 0;
    turn_until(&mut net, |_| {
        let _ = good.write(&HEARTBEAT);
        let mut scratch = [0; 4096];
        answered += good.read(&mut scratch).unwrap_or(0);
        answered > 200
    });
}

/// What is answered in a step is kept until it ends.
#[test]
fn a_step_takes_in_a_bounded_number_of_octets() {
    use std::io::Write;
    let (mut net, id, address) = open_backend_for(|_| {});
    let target = std::net::SocketAddr::from(([127, 0, 0, 1], address.port()));
    let mut flood: Vec<_> = (0..100).map(|_| std::net::TcpStream::connect(target).unwrap()).collect();
    for stream in &mut flood {
        stream.write_all(&REGISTER).unwrap();
        stream.set_nonblocking(true).unwrap();
    }
    let messages = |net: &Loop| net.get::<BackendNode>(id).unwrap().backend().counters().messages;
    turn_until(&mut net, |net| messages(net) == 100);
    let many: Vec<u8> = HEARTBEAT.iter().copied().cycle().take(20 * 4096).collect();
    for stream in &mut flood {
        while stream.write(&many).is_ok() {}
    }
    // The kernel says who has octets in one step; they are read in it and in those after it.
    let most = ((1 << 20) + 128 * 1024) / 20;
    let mut before = messages(&net);
    let mut steps = 0;
    while messages(&net) < 100 + 3 * most || steps < 3 {
        assert!(steps < 10_000, "it reads no more");
        net.step().unwrap();
        while net.next_event().is_some() {}
        let now = messages(&net);
        assert!(now - before <= most, "{} messages in one step", now - before);
        (before, steps) = (now, steps + 1);
    }
}

#[test]
fn a_network_change_ends_the_pause() {
    let mut net = Loop::new().unwrap();
    // Nobody listens there: the first attempt fails, and the pause is long.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let config = GatewayConfig {
        backoff: Duration::from_secs(3600),
        backoff_max: Duration::from_secs(3600),
        ..GatewayConfig::default()
    };
    let gateway = Gateway::new(config, net.now(), Seeded::new(2));
    let target = Target::parse(&address.to_string(), 7700).unwrap();
    let remote = Remote::Stream { target, security: ClientSecurity::Plain, service: Service::Gateway };
    let id = net.add(Box::new(GatewayNode::new(gateway, None)), vec![remote]);
    let mut downs = 0;
    let start = Instant::now();
    while downs < 2 {
        assert!(start.elapsed() < Duration::from_secs(20), "never came");
        net.wait(Some(Duration::from_millis(5))).unwrap();
        while let Some((source, event)) = net.next_event() {
            assert_eq!(source, id);
            if event.kind() == EventKind::Down {
                downs += 1;
                net.network_changed();
            }
        }
    }
}
