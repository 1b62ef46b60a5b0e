//! Hosts, their lives, and the turns of their nodes.

use std::{
    any::Any,
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hailpost::{
    io::{Conn, Input, KeyId, Output, Peer, Service, Transport},
    node::{Event, Node},
    rng::{Entropy, Seeded},
    status::{Fault, Status},
    time::Time,
};

use super::{
    Trace,
    disk::Spindle,
    net::{Arrival, Conditions, End, Link, Net, Route, Socket},
};

/// A host of the world.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct HostId(pub usize);

/// What a node is booted with.
pub struct Boot {
    /// The host's own clock, which starts anew with each life.
    pub now: Time,
    /// The wall clock, in seconds since 1970.
    pub unix: u64,
    /// Randomness of this life.
    pub rng: Seeded,
    /// The time of its disk.
    pub disk: Spindle,
}

/// How a host goes down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crash {
    /// The process dies: its peers are told that their streams are reset.
    Process,
    /// Nobody is told anything.
    Power,
}

/// Where in a turn a crash strikes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CrashPoint {
    /// Inputs were taken, nothing was sent or stored.
    BeforeOutputs,
    /// What needs no store was sent, nothing was stored.
    BeforeFlush,
    /// All was stored, and nobody told.
    AfterFlush,
}

/// More turns than this in one second of virtual time are a busy loop.
const MAX_TURNS: u32 = 2000;
/// More deadlines than this at one point in time are a busy loop.
const MAX_DEADLINES: u32 = 50;
/// More commits than this in one turn are a busy loop.
const MAX_FLUSHES: u32 = 50;
/// Unix time at the world's origin.
const EPOCH: u64 = 1_700_000_000;

struct Host {
    name: String,
    ip: IpAddr,
    boot: Box<dyn FnMut(Boot) -> Box<dyn Node>>,
    node: Option<Box<dyn Node>>,
    listens: Vec<(Transport, u16, Service)>,
    /// By way.
    routes: BTreeMap<usize, Route>,
    life: u32,
    booted: Time,
    /// Seconds by which its wall clock is wrong.
    skew: i64,
    next_conn: u32,
    next_port: u16,
    sockets: BTreeMap<Conn, Socket>,
    deadline: Option<Time>,
    disk: Spindle,
    disk_due: Option<Time>,
    crash: Option<(CrashPoint, Crash)>,
    events: Vec<(u32, Event)>,
    second: u64,
    turns: u32,
    last_deadline: Time,
    deadlines: u32,
}

enum Arrived {
    Accepted(Conn, Peer),
    Connected(Conn, Peer),
    Received(Conn, Option<SocketAddr>, Vec<u8>),
    Closed(Conn, Option<Fault>),
    Deadline,
    /// The disk may have news; nobody tells the node.
    Disk,
}

/// The world.
pub struct World {
    now: Time,
    rng: Seeded,
    net: Net,
    hosts: Vec<Host>,
    trace: Trace,
    describe: fn(&[u8]) -> String,
    problem: Option<String>,
    turns: u64,
}

impl World {
    /// An empty world, whose every chance follows from `seed`.
    pub fn new(seed: u64, trace: Trace) -> World {
        let mut rng = Seeded::new(seed);
        let net = Net::new(Seeded::new(rng.next_u64()));
        let describe = |octets: &[u8]| format!("{} octets", octets.len());
        World { now: Time::ZERO, rng, net, hosts: Vec::new(), trace, describe, problem: None, turns: 0 }
    }

    /// How messages are written in the trace; those without a text are left out.
    pub fn describe_by(&mut self, describe: fn(&[u8]) -> String) {
        self.describe = describe;
    }

    /// Adds a host, which is down until [`World::boot`]. `boot` makes its node, once for each life.
    pub fn add(
        &mut self,
        name: &str,
        ip: IpAddr,
        boot: impl FnMut(Boot) -> Box<dyn Node> + 'static,
    ) -> HostId {
        self.hosts.push(Host {
            name: name.to_owned(),
            ip,
            boot: Box::new(boot),
            node: None,
            listens: Vec::new(),
            routes: BTreeMap::new(),
            life: 0,
            booted: Time::ZERO,
            skew: 0,
            next_conn: 0,
            next_port: 40_000,
            sockets: BTreeMap::new(),
            deadline: None,
            disk: Spindle::default(),
            disk_due: None,
            crash: None,
            events: Vec::new(),
            second: 0,
            turns: 0,
            last_deadline: Time::ZERO,
            deadlines: 0,
        });
        HostId(self.hosts.len() - 1)
    }

    /// Lets a host listen for gateways, from its next boot on.
    pub fn listen(&mut self, host: HostId, transport: Transport, port: u16) {
        self.listen_for(host, transport, port, Service::Gateway);
    }

    /// The same for another service.
    pub fn listen_for(&mut self, host: HostId, transport: Transport, port: u16, service: Service) {
        self.hosts[host.0].listens.push((transport, port, service));
    }

    /// Says where a host's connections go, and what key it proves there.
    pub fn route(&mut self, host: HostId, to: HostId, transport: Transport, port: u16, key: Option<KeyId>) {
        self.route_way(host, 0, to, transport, port, key);
    }

    /// The same for one of several ways.
    pub fn route_way(
        &mut self,
        host: HostId,
        way: usize,
        to: HostId,
        transport: Transport,
        port: u16,
        key: Option<KeyId>,
    ) {
        self.hosts[host.0].routes.insert(way, Route { host: to, port, transport, key });
    }

    /// The time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Turns of all nodes so far.
    pub fn turns(&self) -> u64 {
        self.turns
    }

    /// The world's own source of chance, for scenarios.
    pub fn rng(&mut self) -> &mut Seeded {
        &mut self.rng
    }

    /// Changes how the network behaves.
    pub fn conditions(&mut self, conditions: Conditions) {
        self.trace.note(self.now, || format!("network: {conditions:?}"));
        self.net.conditions = conditions;
    }

    /// Lets nothing pass between two hosts: datagrams are lost, streams wait.
    pub fn partition(&mut self, a: HostId, b: HostId) {
        self.trace
            .note(self.now, || format!("{} and {} are cut off", self.hosts[a.0].name, self.hosts[b.0].name));
        self.net.partition(a, b);
    }

    /// Ends a partition.
    pub fn heal(&mut self, a: HostId, b: HostId) {
        self.net.heal(self.now, a, b);
    }

    /// Whether nothing passes between two hosts.
    pub fn is_cut(&self, a: HostId, b: HostId) -> bool {
        self.net.are_cut(a, b)
    }

    /// Breaks every stream of a host; what was on its way in them is lost, be it in the middle of a message.
    pub fn break_streams(&mut self, host: HostId) {
        self.trace.note(self.now, || format!("streams of {} break", self.hosts[host.0].name));
        let links: Vec<usize> = self.links_of(host);
        for link in links {
            self.net.links[link].broken = true;
            for end in 0..2 {
                let fault = Some(Fault::from(Status::Closed));
                self.net.send(self.now, Arrival::Fin { link, end, fault });
            }
        }
    }

    /// Whether a host is up.
    pub fn is_up(&self, host: HostId) -> bool {
        self.hosts[host.0].node.is_some()
    }

    /// Boots a host that is down.
    pub fn boot(&mut self, host: HostId) {
        if self.is_up(host) {
            return;
        }
        let now = self.now;
        let rng = Seeded::new(self.rng.next_u64());
        self.trace.note(now, || format!("{} boots", self.hosts[host.0].name));
        let at = &mut self.hosts[host.0];
        at.life += 1;
        at.booted = now;
        at.disk = Spindle::default();
        at.disk.turn(now);
        let unix = (EPOCH + now.as_micros() / 1_000_000).saturating_add_signed(at.skew);
        let local = at.local(now);
        at.node = Some((at.boot)(Boot { now: local, unix, rng, disk: at.disk.clone() }));
        let mut arrived = Vec::new();
        for at_port in at.listens.clone() {
            if let (Transport::Datagram, port, service) = at_port {
                let conn = at.next_conn();
                let local = SocketAddr::new(at.ip, port);
                let remote = SocketAddr::new(at.ip, 0);
                at.sockets.insert(conn, Socket::Listening { local });
                let peer = Peer { transport: Transport::Datagram, local, remote, key: None, service };
                arrived.push(Arrived::Accepted(conn, peer));
            }
        }
        self.turn(host, arrived);
    }

    /// Takes a host down now.
    pub fn crash(&mut self, host: HostId, how: Crash) {
        if self.hosts[host.0].node.take().is_none() {
            return;
        }
        self.trace.note(self.now, || format!("{} goes down ({how:?})", self.hosts[host.0].name));
        if how == Crash::Process {
            for link in self.links_of(host) {
                let end = usize::from(self.net.links[link].ends[0].host == host);
                let fault = Some(Fault::from(Status::Closed));
                self.net.send(self.now, Arrival::Fin { link, end, fault });
            }
        }
        let at = &mut self.hosts[host.0];
        at.sockets.clear();
        at.deadline = None;
        at.disk_due = None;
        at.crash = None;
    }

    /// Takes a host down in its next turn, at that point of it.
    pub fn crash_at(&mut self, host: HostId, point: CrashPoint, how: Crash) {
        self.hosts[host.0].crash = Some((point, how));
    }

    /// Calls off what [`World::crash_at`] asked for, if it has not happened.
    pub fn spare(&mut self, host: HostId) {
        self.hosts[host.0].crash = None;
    }

    /// Does something to a node, as its application would, and takes a turn. `None` if the host is down.
    pub fn with<R>(&mut self, host: HostId, act: impl FnOnce(&mut dyn Node, Time) -> R) -> Option<R> {
        let now = self.hosts[host.0].local(self.now);
        self.hosts[host.0].disk.turn(self.now);
        let node = self.hosts[host.0].node.as_deref_mut()?;
        let result = act(node, now);
        self.turn(host, Vec::new());
        Some(result)
    }

    /// Sets a host's wall clock, to be wrong by so many seconds from now on.
    pub fn set_clock(&mut self, host: HostId, skew: i64) {
        self.hosts[host.0].skew = skew;
        let unix = (EPOCH + self.now.as_micros() / 1_000_000).saturating_add_signed(skew);
        self.with(host, |node, now| node.handle(now, Input::Clock { unix }));
    }

    /// Looks at a node. `None` if the host is down.
    pub fn node(&self, host: HostId) -> Option<&dyn Node> {
        self.hosts[host.0].node.as_deref()
    }

    /// Looks at a node of a known type. `None` if the host is down or its node is of another type.
    pub fn node_as<N: Node>(&self, host: HostId) -> Option<&N> {
        let node: &dyn Any = self.node(host)?;
        node.downcast_ref()
    }

    /// The events of a host since they were last taken, each with the life that it belongs to.
    pub fn take_events(&mut self, host: HostId) -> Vec<(u32, Event)> {
        std::mem::take(&mut self.hosts[host.0].events)
    }

    /// Which life a host is in: 1 after its first boot.
    pub fn life(&self, host: HostId) -> u32 {
        self.hosts[host.0].life
    }

    /// Lets time run.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// Lets time run up to a point, or until something is wrong with the world.
    pub fn run_until(&mut self, end: Time) {
        while self.problem.is_none()
            && let Some(next) = self.next()
            && next <= end
        {
            self.now = self.now.max(next);
            self.step();
        }
        self.now = self.now.max(end);
    }

    /// What no world may show: a node that turns without end.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Adds to the trace.
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        self.trace.note(self.now, line);
    }

    fn next(&self) -> Option<Time> {
        let deadlines = self.hosts.iter().filter_map(Host::due);
        deadlines.chain(self.net.next()).min()
    }

    /// One host takes a turn with all that arrives for it at this point in time.
    fn step(&mut self) {
        let now = self.now;
        let mut arrived = Vec::new();
        let host = match self.net.pop(now, |_| true) {
            Some(arrival) => {
                let host = self.net.place(&arrival);
                self.arrive(arrival, &mut arrived);
                while let Some(arrival) = self.net.pop(now, |place| place == host) {
                    self.arrive(arrival, &mut arrived);
                }
                host
            }
            None => {
                let due = |host: &Host| host.due().is_some_and(|due| due <= now);
                let Some(host) = self.hosts.iter().position(due) else { return };
                HostId(host)
            }
        };
        let at = &mut self.hosts[host.0];
        if at.deadline.is_some_and(|due| due <= now) {
            arrived.push(Arrived::Deadline);
            at.deadlines = if at.last_deadline == now { at.deadlines + 1 } else { 0 };
            at.last_deadline = now;
            if at.deadlines > MAX_DEADLINES {
                self.problem = Some(format!("{}: its deadline does not move", at.name));
            }
        }
        if at.disk_due.take_if(|due| *due <= now).is_some() {
            arrived.push(Arrived::Disk);
        }
        if !arrived.is_empty() {
            self.turn(host, arrived);
        }
    }

    /// Turns what arrives into what the node is told, if it is there to be told.
    fn arrive(&mut self, arrival: Arrival, arrived: &mut Vec<Arrived>) {
        match arrival {
            Arrival::Syn(link) => self.syn(link, arrived),
            Arrival::Established(link) => {
                let [client, server] = &self.net.links[link].ends;
                if self.is_live(client) {
                    let service = self.hosts[server.host.0].service(server.address.port());
                    let peer = Peer {
                        transport: Transport::Stream,
                        local: client.address,
                        remote: server.address,
                        key: server.key,
                        service: service.unwrap_or(Service::Gateway),
                    };
                    arrived.push(Arrived::Connected(client.conn, peer));
                }
            }
            Arrival::Octets { link, end, octets } => {
                let (to, broken) = (&self.net.links[link].ends[end], self.net.links[link].broken);
                if self.is_live(to) {
                    if !broken {
                        arrived.push(Arrived::Received(to.conn, None, octets));
                    }
                } else if self.is_up(to.host) && to.life != self.hosts[to.host.0].life {
                    // A host that lost its power does not know the stream any more.
                    let fault = Some(Fault::from(Status::Closed));
                    self.net.send(self.now, Arrival::Fin { link, end: 1 - end, fault });
                }
            }
            Arrival::Fin { link, end, fault } => {
                let to = &mut self.net.links[link].ends[end];
                let (host, life, conn) = (to.host, to.life, to.conn);
                if std::mem::replace(&mut to.open, false)
                    && self.is_up(host)
                    && self.hosts[host.0].life == life
                {
                    self.hosts[host.0].sockets.remove(&conn);
                    arrived.push(Arrived::Closed(conn, fault));
                }
            }
            Arrival::Datagram { at, sender, from, to, octets } => {
                let socket = self.hosts[at.0].sockets.iter().find(|(_, socket)| match socket {
                    Socket::Connected { local, remote } => *local == to && *remote == from,
                    Socket::Listening { local } => *local == to,
                    Socket::Stream { .. } => false,
                });
                match socket {
                    Some((conn, Socket::Listening { .. })) => {
                        arrived.push(Arrived::Received(*conn, Some(from), octets));
                    }
                    Some((conn, _)) => arrived.push(Arrived::Received(*conn, None, octets)),
                    None => self.unreachable(sender, from, to),
                }
            }
            Arrival::Failed { at, life, conn, fault } => {
                let host = &mut self.hosts[at.0];
                if host.node.is_some() && host.life == life && host.sockets.remove(&conn).is_some() {
                    arrived.push(Arrived::Closed(conn, Some(fault)));
                }
            }
        }
    }

    fn syn(&mut self, link: usize, arrived: &mut Vec<Arrived>) {
        let now = self.now;
        let [client, server] = &mut self.net.links[link].ends;
        let host = &mut self.hosts[server.host.0];
        let service = host.service(server.address.port());
        let Some(service) = service.filter(|_| host.node.is_some()) else {
            let fault = Some(Fault::from(Status::Connect));
            return self.net.send(now, Arrival::Fin { link, end: 0, fault });
        };
        server.life = host.life;
        server.conn = host.next_conn();
        server.open = true;
        host.sockets.insert(server.conn, Socket::Stream { link, end: 1 });
        let peer = Peer {
            transport: Transport::Stream,
            local: server.address,
            remote: client.address,
            key: client.key,
            service,
        };
        arrived.push(Arrived::Accepted(server.conn, peer));
        self.net.send(now, Arrival::Established(link));
    }

    /// Half of the time a sender learns that nobody listens for its datagrams.
    fn unreachable(&mut self, sender: HostId, from: SocketAddr, to: SocketAddr) {
        let host = &self.hosts[sender.0];
        let socket = host.sockets.iter().find(|(_, socket)| {
            matches!(socket, Socket::Connected { local, remote } if *local == from && *remote == to)
        });
        if let Some((&conn, _)) = socket
            && self.rng.below(2) == 0
        {
            let fault = Fault::from(Status::Connect);
            let life = host.life;
            self.net.send(self.now, Arrival::Failed { at: sender, life, conn, fault });
        }
    }

    fn is_live(&self, end: &End) -> bool {
        let host = &self.hosts[end.host.0];
        end.open && host.node.is_some() && host.life == end.life
    }

    fn links_of(&self, host: HostId) -> Vec<usize> {
        let sockets = self.hosts[host.0].sockets.values();
        sockets
            .filter_map(|socket| match socket {
                Socket::Stream { link, .. } => Some(*link),
                _ => None,
            })
            .collect()
    }

    /// A turn: inputs, outputs, flush, outputs, deadline.
    fn turn(&mut self, host: HostId, arrived: Vec<Arrived>) {
        let now = self.now;
        let at = &mut self.hosts[host.0];
        let local = at.local(now);
        let Some(mut node) = at.node.take() else { return };
        at.disk.turn(now);
        self.turns += 1;
        at.turns = if at.second == now.as_micros() / 1_000_000 { at.turns + 1 } else { 0 };
        at.second = now.as_micros() / 1_000_000;
        if at.turns > MAX_TURNS {
            self.problem = Some(format!("{}: more than {MAX_TURNS} turns in a second", at.name));
        }
        let crash = at.crash.take_if(|_| !arrived.is_empty());
        for input in &arrived {
            let name = &at.name;
            self.trace.note(now, || line(name, '<', &input.describe(self.describe)));
            if let Some(input) = input.as_input() {
                node.handle(local, input);
            }
        }
        let first = drain(&mut *node, local);
        let mut outputs = Vec::new();
        match crash {
            Some((CrashPoint::BeforeOutputs, _)) => {}
            Some((CrashPoint::BeforeFlush, _)) => outputs = first,
            Some((CrashPoint::AfterFlush, _)) => {
                node.flush(local);
            }
            None => {
                outputs = first;
                // What follows from what is durable may want something durable again.
                let mut flushes = 0;
                while node.flush(local) {
                    outputs.extend(drain(&mut *node, local));
                    flushes += 1;
                    if flushes > MAX_FLUSHES {
                        self.problem = Some(format!("{}: it never has enough of its store", at.name));
                        break;
                    }
                }
            }
        }
        let at = &mut self.hosts[host.0];
        at.deadline = node.deadline().map(|due| at.world(due));
        at.disk_due = at.disk.due().or(at.disk_due);
        at.node = Some(node);
        outputs.into_iter().for_each(|output| self.perform(host, output));
        if let Some((_, how)) = crash {
            self.crash(host, how);
        }
    }

    fn perform(&mut self, host: HostId, output: Output<Event>) {
        let now = self.now;
        let name = &self.hosts[host.0].name;
        match output {
            Output::Connect { conn, way } => {
                self.trace.note(now, || format!("{name} > connect {conn:?} by way {way}"));
                self.connect(host, conn, way);
            }
            Output::Reach { conn, to } => {
                self.trace.note(now, || format!("{name} > reach {to} {conn:?}"));
                self.reach(host, conn, to);
            }
            Output::Send { conn, to, octets } => {
                self.trace.note(now, || line(name, '>', &(self.describe)(&octets)));
                match (self.hosts[host.0].sockets.get(&conn), to) {
                    (Some(&Socket::Stream { link, end }), _) => {
                        self.net.send(now, Arrival::Octets { link, end: 1 - end, octets });
                    }
                    (Some(&Socket::Connected { local, remote }), _) => {
                        self.send_datagram(host, local, remote, octets);
                    }
                    (Some(&Socket::Listening { local }), Some(to)) => {
                        self.send_datagram(host, local, to, octets);
                    }
                    _ => {}
                }
            }
            Output::Close { conn } => {
                self.trace.note(now, || format!("{name} > close {conn:?}"));
                if let Some(Socket::Stream { link, end }) = self.hosts[host.0].sockets.remove(&conn) {
                    self.net.links[link].ends[end].open = false;
                    self.net.send(now, Arrival::Fin { link, end: 1 - end, fault: None });
                }
            }
            Output::Event(event) => {
                self.trace.note(now, || format!("{name} ! {:?} {:?}", event.kind(), event.fields()));
                let at = &mut self.hosts[host.0];
                if let Some(node) = &mut at.node {
                    node.taken(&event);
                }
                at.events.push((at.life, event));
            }
            Output::Store(_) => self.problem = Some(format!("{name}: a node has its store inside")),
        }
    }

    fn connect(&mut self, host: HostId, conn: Conn, way: usize) {
        let now = self.now;
        let at = &mut self.hosts[host.0];
        let life = at.life;
        let Some(route) = at.routes.get(&way).copied() else {
            let fault = Fault::from(Status::Resolve);
            return self.net.send(now, Arrival::Failed { at: host, life, conn, fault });
        };
        let remote = SocketAddr::new(self.hosts[route.host.0].ip, route.port);
        if route.transport == Transport::Datagram {
            return self.reach(host, conn, remote);
        }
        let local = self.hosts[host.0].next_local();
        let link = self.net.links.len();
        self.hosts[host.0].sockets.insert(conn, Socket::Stream { link, end: 0 });
        let mut server = End::new(route.host, 0, Conn(0), remote, None);
        server.open = false;
        let client = End::new(host, life, conn, local, route.key);
        self.net.links.push(Link { ends: [client, server], broken: false });
        self.net.send(now, Arrival::Syn(link));
    }

    /// Datagrams to an address.
    fn reach(&mut self, host: HostId, conn: Conn, remote: SocketAddr) {
        let at = &mut self.hosts[host.0];
        let local = at.next_local();
        at.sockets.insert(conn, Socket::Connected { local, remote });
        let transport = Transport::Datagram;
        let peer = Peer { transport, local, remote, key: None, service: Service::Gateway };
        self.turn(host, vec![Arrived::Connected(conn, peer)]);
    }

    fn send_datagram(&mut self, sender: HostId, from: SocketAddr, to: SocketAddr, octets: Vec<u8>) {
        if let Some(at) = self.hosts.iter().position(|host| host.ip == to.ip()) {
            self.net.send(self.now, Arrival::Datagram { at: HostId(at), sender, from, to, octets });
        }
    }
}

impl Host {
    /// A life's clock starts at a second, so that nothing takes it for the world's.
    const ORIGIN: u64 = 1_000_000;

    /// What is spoken on a port where streams come in.
    fn service(&self, port: u16) -> Option<Service> {
        let at_port = |at: &&(Transport, u16, Service)| at.0 == Transport::Stream && at.1 == port;
        self.listens.iter().find(at_port).map(|at| at.2)
    }

    /// When it wants a turn.
    fn due(&self) -> Option<Time> {
        [self.deadline, self.disk_due].into_iter().flatten().min()
    }

    fn local(&self, now: Time) -> Time {
        Time::from_micros(now.as_micros() - self.booted.as_micros() + Self::ORIGIN)
    }

    /// Timers have whole milliseconds and are never early.
    fn world(&self, local: Time) -> Time {
        let micros = (local.as_micros() + self.booted.as_micros()).saturating_sub(Self::ORIGIN);
        Time::from_micros(micros.div_ceil(1000) * 1000)
    }

    fn next_local(&mut self) -> SocketAddr {
        self.next_port = self.next_port.wrapping_add(1).max(40_000);
        SocketAddr::new(self.ip, self.next_port)
    }

    fn next_conn(&mut self) -> Conn {
        self.next_conn += 1;
        Conn(self.next_conn)
    }
}

impl Arrived {
    fn as_input(&self) -> Option<Input<'_>> {
        Some(match self {
            Arrived::Accepted(conn, peer) => Input::Accepted { conn: *conn, peer: *peer },
            Arrived::Connected(conn, peer) => Input::Connected { conn: *conn, peer: *peer },
            Arrived::Received(conn, from, octets) => Input::Received { conn: *conn, from: *from, octets },
            Arrived::Closed(conn, fault) => Input::Closed { conn: *conn, fault: fault.clone() },
            Arrived::Deadline => Input::Deadline,
            Arrived::Disk => return None,
        })
    }

    fn describe(&self, octets_by: fn(&[u8]) -> String) -> String {
        match self {
            Arrived::Accepted(conn, peer) => format!("accepted {conn:?} from {}", peer.remote),
            Arrived::Connected(conn, _) => format!("connected {conn:?}"),
            Arrived::Received(_, _, octets) => octets_by(octets),
            Arrived::Closed(conn, fault) => format!("closed {conn:?} {:?}", fault.as_ref().map(|f| f.status)),
            Arrived::Deadline | Arrived::Disk => String::new(),
        }
    }
}

fn drain(node: &mut dyn Node, now: Time) -> Vec<Output<Event>> {
    std::iter::from_fn(|| node.poll_output(now)).collect()
}

fn line(name: &str, direction: char, what: &str) -> String {
    if what.is_empty() { String::new() } else { format!("{name} {direction} {what}") }
}
