//! A server and devices on a virtual clock and a network that loses, delays, doubles, damages and cuts.
#![allow(dead_code, reason = "each test binary uses its part of the toolbox")]

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    time::Duration,
};

use hailpost::{
    link::{
        Client, ClientConfig, ClientEvent, ClientOutput, Credential, Path, Server, ServerConfig, ServerInput,
        ServerOutput, ServerSecrets, Session, TicketRoot, public_key,
    },
    rng::{Entropy, Seeded},
    time::Time,
    wire::link::Refusal,
};

pub const UNIX: u64 = 1_700_000_000;
pub const PRIVATE: [u8; 32] = [11; 32];
pub const NEXT_PRIVATE: [u8; 32] = [12; 32];

/// Chances are of a thousand; times in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    pub delay: u32,
    pub jitter: u32,
    pub loss: u32,
    pub duplicate: u32,
    pub corrupt: u32,
}

pub const CALM: Conditions = Conditions { delay: 10, jitter: 4, loss: 0, duplicate: 0, corrupt: 0 };
pub const ROUGH: Conditions = Conditions { delay: 5, jitter: 80, loss: 150, duplicate: 50, corrupt: 50 };

/// Wraps what the server does, for planted defects.
pub trait Tamper {
    /// A datagram on its way in: what the server gets is what is left.
    fn received(&mut self, _from: Path, _octets: &[u8]) {}
    /// An output on its way out, and what goes out in its place.
    fn output(&mut self, output: ServerOutput) -> Vec<ServerOutput> {
        vec![output]
    }
}

pub struct Honest;

impl Tamper for Honest {}

/// What is between a device and the server, and forgets.
#[derive(Clone, Copy, Debug)]
pub struct Nat {
    /// After so many milliseconds in which nothing went out.
    pub forgets: u64,
    /// Whether who comes again has the same port.
    pub keeps_port: bool,
    /// Whether what comes in counts too.
    pub inward: bool,
    /// When something last counted.
    pub used: Time,
}

impl Nat {
    pub fn after(seconds: u64) -> Nat {
        Nat { forgets: seconds * 1000, keeps_port: false, inward: false, used: Time::ZERO }
    }

    fn knows(&self, now: Time) -> bool {
        now.since(self.used) <= Duration::from_millis(self.forgets)
    }
}

pub struct Device {
    pub client: Client,
    pub address: SocketAddr,
    pub nat: Option<Nat>,
    /// A defect: its platform sleeps, and it was told nothing.
    pub frozen: bool,
    pub session_id: [u8; 16],
    pub events: Vec<(Time, ClientEvent)>,
    /// All datagrams that it sent lately.
    pub sent: Vec<Vec<u8>>,
}

impl Device {
    pub fn count(&self, is: impl Fn(&ClientEvent) -> bool) -> usize {
        self.events.iter().filter(|(_, event)| is(event)).count()
    }

    pub fn messages(&self) -> Vec<Vec<u8>> {
        let message = |(_, event): &(Time, ClientEvent)| match event {
            ClientEvent::Message(octets) => Some(octets.clone()),
            _ => None,
        };
        self.events.iter().filter_map(message).collect()
    }
}

enum Place {
    Server(Path),
    Device(SocketAddr),
}

pub struct Pair {
    pub now: Time,
    pub unix: u64,
    pub server: Server,
    pub config: ServerConfig,
    pub secrets: ServerSecrets,
    pub devices: Vec<Device>,
    pub credentials: HashMap<[u8; 16], Credential>,
    pub conditions: Conditions,
    /// How long the authentication port takes; `None`: it never answers.
    pub port: Option<Duration>,
    pub events: Vec<(Time, ServerOutput)>,
    /// Octets from and to each address, as the server saw them.
    pub came: HashMap<Path, usize>,
    pub went: HashMap<Path, usize>,
    /// What the server sent, lately.
    pub answers: Vec<(Path, Vec<u8>)>,
    pub tamper: Box<dyn Tamper>,
    pub rng: Seeded,
    pub cut: bool,
    /// A defect: what is for another port goes out of the same.
    pub one_port: bool,
    turns: (u64, u32),
    order: u64,
    way: BTreeMap<(Time, u64), (Place, Vec<u8>)>,
    lookups: BTreeMap<(Time, u64), [u8; 16]>,
}

impl Pair {
    pub fn new(seed: u64, devices: usize) -> Pair {
        Pair::with(seed, devices, ServerConfig::default())
    }

    pub fn with(seed: u64, devices: usize, config: ServerConfig) -> Pair {
        let mut rng = Seeded::new(seed);
        let tickets = TicketRoot { day: UNIX / 86_400, key: [14; 32] };
        let secrets = ServerSecrets { private: PRIVATE, next_private: None, reset: [13; 32], tickets };
        let server =
            Server::new(config.clone(), secrets.clone(), Time::ZERO, UNIX, Seeded::new(rng.next_u64()));
        let mut pair = Pair {
            now: Time::ZERO,
            unix: UNIX,
            server,
            config,
            secrets,
            devices: Vec::new(),
            credentials: HashMap::new(),
            conditions: CALM,
            port: Some(Duration::from_millis(3)),
            events: Vec::new(),
            came: HashMap::new(),
            went: HashMap::new(),
            answers: Vec::new(),
            tamper: Box::new(Honest),
            rng,
            cut: false,
            one_port: false,
            turns: (0, 0),
            order: 0,
            way: BTreeMap::new(),
            lookups: BTreeMap::new(),
        };
        (0..devices).for_each(|at| pair.add(at));
        pair
    }

    fn add(&mut self, at: usize) {
        let session_id = [at as u8 + 1; 16];
        let secret = [at as u8 + 101; 32];
        let config = self.client_config(at);
        let credential = Credential { secret, principal: at as u64 + 1, expiry: UNIX * 2, epoch: 0 };
        self.credentials.insert(session_id, credential);
        self.add_client(config);
    }

    /// Adds a device with a configuration of its own.
    pub fn add_client(&mut self, config: ClientConfig) -> usize {
        let at = self.devices.len();
        let session_id = config.session_id;
        let client = Client::new(config, Seeded::new(self.rng.next_u64()));
        let address = SocketAddr::from(([192, 0, 2, (at as u8).wrapping_add(1)], 4000));
        let (events, sent) = (Vec::new(), Vec::new());
        self.devices.push(Device { client, address, nat: None, frozen: false, session_id, events, sent });
        at
    }

    /// The configuration that [`Pair::new`] gives a device.
    pub fn client_config(&self, at: usize) -> ClientConfig {
        ClientConfig::new(public_key(&PRIVATE), [at as u8 + 1; 16], [at as u8 + 101; 32])
    }

    /// Opens every device, and lets time run until all are up.
    pub fn up(&mut self) -> &mut Pair {
        for at in 0..self.devices.len() {
            let now = self.now;
            self.devices[at].client.open(now);
        }
        self.settle();
        self.run(1000);
        assert!(self.devices.iter().all(|device| device.client.is_up()));
        self
    }

    /// Lets so many milliseconds pass.
    pub fn run(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        self.run_to(end);
    }

    pub fn run_to(&mut self, end: Time) {
        self.settle();
        while let Some(next) = self.next().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.turn();
        }
        self.now = end;
    }

    fn next(&self) -> Option<Time> {
        let way = self.way.first_key_value().map(|((due, _), _)| *due);
        let lookup = self.lookups.first_key_value().map(|((due, _), _)| *due);
        [way, lookup, self.next_of_devices(), self.server.deadline()].into_iter().flatten().min()
    }

    /// When a device has something due.
    pub fn next_of_devices(&self) -> Option<Time> {
        let awake = self.devices.iter().filter(|device| !device.frozen);
        awake.filter_map(|device| device.client.deadline()).min()
    }

    fn turn(&mut self) {
        let second = self.now.as_micros() / 1_000_000;
        self.turns = if self.turns.0 == second { (second, self.turns.1 + 1) } else { (second, 0) };
        assert!(self.turns.1 < 50_000, "a busy loop");
        let now = self.now;
        while let Some(entry) = self.way.first_entry().filter(|entry| entry.key().0 <= now) {
            match entry.remove() {
                (Place::Server(from), octets) => self.deliver(from, &octets),
                (Place::Device(to), octets) => {
                    if let Some(device) =
                        self.devices.iter_mut().find(|device| device.address == to && !device.frozen)
                        && device.nat.is_none_or(|nat| nat.knows(now))
                    {
                        if let Some(nat) = device.nat.as_mut().filter(|nat| nat.inward) {
                            nat.used = now;
                        }
                        device.client.handle(now, &octets);
                    }
                }
            }
            self.settle();
        }
        while let Some(entry) = self.lookups.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((_, ticket), id) = entry.remove_entry();
            let answer = self.credentials.get(&id).copied().ok_or(Refusal::Unknown);
            self.server.authenticated(now, ticket, answer);
            self.settle();
        }
        if self.server.deadline().is_some_and(|due| due <= now) {
            self.server.handle(now, ServerInput::Deadline);
        }
        for device in &mut self.devices {
            if !device.frozen && device.client.deadline().is_some_and(|due| due <= now) {
                device.client.deadline_passed(now);
            }
        }
        self.settle();
    }

    /// Hands the server a datagram at once.
    pub fn deliver(&mut self, from: Path, octets: &[u8]) {
        *self.came.entry(from).or_default() += octets.len();
        self.tamper.received(from, octets);
        self.server.handle(self.now, ServerInput::Datagram { from, octets });
        self.settle();
    }

    /// Pulls all outputs.
    pub fn settle(&mut self) {
        let now = self.now;
        while let Some(output) = self.server.poll_output(now) {
            for output in self.tamper.output(output) {
                match output {
                    ServerOutput::Send { to, octets } => {
                        *self.went.entry(to).or_default() += octets.len();
                        assert!(octets.len() <= 512);
                        if self.answers.len() > 4000 {
                            self.answers.drain(..2000);
                        }
                        self.answers.push((to, octets.clone()));
                        if let Path::Datagram(to) = to {
                            self.carry(Place::Device(to), octets);
                        }
                    }
                    ServerOutput::Lookup { ticket, session_id } => {
                        if let Some(port) = self.port {
                            self.lookups.insert((now + port, ticket), session_id);
                        }
                    }
                    other => self.events.push((now, other)),
                }
            }
        }
        for at in 0..self.devices.len() {
            while let Some(output) = self.devices[at].client.poll_output(now) {
                match output {
                    ClientOutput::Send(octets) => {
                        assert!(octets.len() <= 512);
                        self.through_nat(at);
                        let device = &mut self.devices[at];
                        if device.sent.len() > 1000 {
                            device.sent.drain(..500);
                        }
                        device.sent.push(octets.clone());
                        let from = Path::Datagram(device.address);
                        self.carry(Place::Server(from), octets);
                    }
                    // Of this port the NAT knows nothing yet, and of the other it learns nothing by it.
                    ClientOutput::SendBeside(octets) => {
                        let mut from = self.devices[at].address;
                        match self.one_port {
                            true => self.through_nat(at),
                            false => from.set_port(from.port() ^ 0x8000),
                        }
                        self.carry(Place::Server(Path::Datagram(from)), octets);
                    }
                    ClientOutput::Event(event) => self.devices[at].events.push((now, event)),
                }
            }
        }
    }

    /// A device sends: what is between knows it, perhaps anew.
    fn through_nat(&mut self, at: usize) {
        let now = self.now;
        let Some(nat) = &mut self.devices[at].nat else { return };
        let is_forgotten = !nat.knows(now) && !nat.keeps_port;
        nat.used = now;
        if is_forgotten {
            self.rebind(at);
        }
    }

    fn carry(&mut self, to: Place, octets: Vec<u8>) {
        let Conditions { delay, jitter, loss, duplicate, corrupt } = self.conditions;
        let mut chance = |of: u32| of > 0 && self.rng.below(1000) < of;
        if self.cut || chance(loss) {
            return;
        }
        let copies = 1 + u32::from(chance(duplicate));
        for _ in 0..copies {
            let mut octets = octets.clone();
            if corrupt > 0 && self.rng.below(1000) < corrupt {
                match self.rng.below(4) {
                    0 => octets.truncate(self.rng.below(octets.len() as u32) as usize),
                    1 => octets.push(0),
                    _ => {
                        let bit = self.rng.below(octets.len() as u32 * 8) as usize;
                        octets[bit / 8] ^= 1 << (bit % 8);
                    }
                }
            }
            let late = delay + self.rng.below(jitter + 1);
            self.order += 1;
            let due = self.now + Duration::from_millis(late.into());
            let place = match &to {
                Place::Server(path) => Place::Server(*path),
                Place::Device(address) => Place::Device(*address),
            };
            self.way.insert((due, self.order), (place, octets));
        }
    }

    /// The server's process ends and begins again; its secrets are on disk.
    pub fn restart(&mut self) {
        for (_, event) in &self.events {
            if let ServerOutput::TicketRoot(root) = event {
                self.secrets.tickets = *root;
            }
        }
        let seed = self.rng.next_u64();
        let unix = self.unix + self.now.since(Time::ZERO).as_secs();
        self.server =
            Server::new(self.config.clone(), self.secrets.clone(), self.now, unix, Seeded::new(seed));
        self.lookups.clear();
    }

    /// The devices lose their sessions, and ask for others.
    pub fn restart_sessions(&mut self) {
        for at in 0..self.devices.len() {
            let session = self.session(at);
            self.server.close(self.now, session, hailpost::link::Closing::Done);
        }
        self.settle();
        self.run(1000);
        for device in &mut self.devices {
            device.client.network_changed(self.now);
        }
        self.settle();
    }

    /// The device gets another address, as behind a NAT that forgot it.
    pub fn rebind(&mut self, device: usize) {
        let address = &mut self.devices[device].address;
        address.set_port(address.port() + 1);
    }

    pub fn session(&self, device: usize) -> Session {
        self.sessions(device).pop().expect("it was up once")
    }

    pub fn sessions(&self, device: usize) -> Vec<Session> {
        let id = self.credentials[&self.devices[device].session_id].principal;
        let up = |(_, event): &(Time, ServerOutput)| match event {
            ServerOutput::SessionUp { session, principal, .. } if *principal == id => Some(*session),
            _ => None,
        };
        self.events.iter().filter_map(up).collect()
    }

    pub fn messages(&self, of: Session) -> Vec<Vec<u8>> {
        let message = |(_, event): &(Time, ServerOutput)| match event {
            ServerOutput::Message { session, octets, .. } if *session == of => Some(octets.clone()),
            _ => None,
        };
        self.events.iter().filter_map(message).collect()
    }

    pub fn count(&self, is: impl Fn(&ServerOutput) -> bool) -> usize {
        self.events.iter().filter(|(_, event)| is(event)).count()
    }

    pub fn send_up(&mut self, device: usize, octets: &[u8]) -> u32 {
        let number = self.devices[device].client.send(self.now, octets.to_vec()).unwrap();
        self.settle();
        number
    }

    pub fn send_down(&mut self, device: usize, octets: &[u8]) -> u32 {
        let session = self.session(device);
        let number = self.server.send(self.now, session, octets.to_vec()).unwrap();
        self.settle();
        number
    }
}
