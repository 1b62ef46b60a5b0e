//! A whole server of the link and its devices, and between them a network that does what the input says: a program of
//! steps, two octets each and what a step has more.
//!
//! Whatever it does, each message is handed up once, whole and in order; nothing grows past its bound; an address that was
//! never proven gets no more than it sent; and once the network is honest again, every device is served.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use hailpost::{
    link::{
        Client, ClientConfig, ClientEvent, ClientOutput, Closing, Credential, Path, Server, ServerConfig,
        ServerInput, ServerOutput, ServerSecrets, Session, TicketRoot, public_key,
    },
    rng::Seeded,
    time::Time,
    wire::link::{MAX_DATAGRAM, Refusal},
};

const UNIX: u64 = 1_700_000_000;
const PRIVATE: [u8; 32] = [11; 32];
const NEXT_PRIVATE: [u8; 32] = [12; 32];
const DEVICES: usize = 2;
/// Datagrams under way, and remembered to be replayed.
const WAY: usize = 256;
const PAST: usize = 64;
/// Octets of messages that one input may send: what is looked for needs no more.
const BUDGET: usize = 600_000;

struct Datagram {
    /// To the server, or to a device by its number.
    to: Option<usize>,
    from: SocketAddr,
    octets: Vec<u8>,
}

struct Device {
    client: Client,
    address: SocketAddr,
    is_open: bool,
    /// Sessions that came up, as the device counts them.
    life: u32,
    /// Messages sent and acknowledged in this life.
    sent: u32,
    acked: u32,
    /// The server's session that this life hears, and the next number there.
    hears: Option<(u32, u32)>,
    heard_of: Vec<u32>,
    epoch: u32,
    refuses: bool,
}

/// A session as the server counts them.
struct Life {
    session: Session,
    device: usize,
    /// Messages sent and acknowledged, and the octets that are not.
    sent: u32,
    acked: u32,
    waiting: VecDeque<usize>,
    /// The device's life that this session hears, and the next number there.
    hears: Option<(u32, u32)>,
}

struct World {
    now: Time,
    server: Server,
    config: ServerConfig,
    secrets: ServerSecrets,
    devices: Vec<Device>,
    way: VecDeque<Datagram>,
    past: VecDeque<Datagram>,
    lookups: VecDeque<(u64, [u8; 16])>,
    port_sleeps: bool,
    /// By the server's count of sessions, in all its lives.
    lives: BTreeMap<u32, Life>,
    next_life: u32,
    /// By device and its life, how many messages the server handed up.
    handed: BTreeMap<(usize, u32), u32>,
    /// Octets from and to the stranger's address, and whether a session was there.
    came: usize,
    went: usize,
    stranger_is_someone: bool,
    restarts: u64,
    budget: usize,
    honest: bool,
}

fn address(device: usize, port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, device as u8 + 1], 4000 + port))
}

fn stranger() -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 7], 7))
}

/// A message says what it is: who sent it in which life, the how-manieth, and how long it is.
fn letter(of: u8, life: u32, number: u32, length: usize) -> Vec<u8> {
    let mut octets = [&[of][..], &life.to_be_bytes(), &number.to_be_bytes()].concat();
    octets.extend_from_slice(&(length as u32).to_be_bytes());
    octets.extend((octets.len()..length).map(|at| (at as u8).wrapping_mul(31) ^ number as u8));
    octets
}

fn read_letter(octets: &[u8]) -> (u8, u32, u32) {
    let number = |at: usize| u32::from_be_bytes(octets[at..at + 4].try_into().expect("four octets"));
    let (of, life, count) = (octets[0], number(1), number(5));
    assert_eq!(octets, letter(of, life, count, number(9) as usize), "a message came damaged");
    (of, life, count)
}

impl World {
    fn new(options: u8) -> World {
        let tickets = TicketRoot { day: UNIX / 86_400, key: [14; 32] };
        let next_private = (options & 1 != 0).then_some(NEXT_PRIVATE);
        let secrets = ServerSecrets { private: PRIVATE, next_private, reset: [13; 32], tickets };
        let small = options & 2 != 0;
        let config = ServerConfig {
            max_sessions: if small { 3 } else { 16 },
            max_candidates: if small { 2 } else { 8 },
            max_lookups: 4,
            hellos_without_cookie: if options & 4 != 0 { 0 } else { 4 },
            resumes_without_cookie: if options & 4 != 0 { 0 } else { 4 },
            resets: 8,
            max_queued: if small { 40_000 } else { 400_000 },
            // One session alone holds 768 at the most: the other one is still to be served.
            max_held: if small { 800 } else { 2000 },
            max_asleep: 2,
            intervals: (10, if options & 32 != 0 { 1800 } else { 60 }),
        };
        let server = Server::new(config.clone(), secrets.clone(), Time::ZERO, UNIX, Seeded::new(1));
        let devices = (0..DEVICES).map(|at| {
            let config = ClientConfig {
                interval: 20,
                longest: 300,
                rekey_after: Duration::from_secs(if options & 8 != 0 { 15 } else { 86_400 }),
                ..ClientConfig::new(public_key(&PRIVATE), [at as u8 + 1; 16], [at as u8 + 101; 32])
            };
            Device {
                client: Client::new(config, Seeded::new(100 + at as u64)),
                address: address(at, 0),
                is_open: false,
                life: 0,
                sent: 0,
                acked: 0,
                hears: None,
                heard_of: Vec::new(),
                epoch: 0,
                refuses: false,
            }
        });
        World {
            now: Time::ZERO,
            server,
            config,
            secrets,
            devices: devices.collect(),
            way: VecDeque::new(),
            past: VecDeque::new(),
            lookups: VecDeque::new(),
            port_sleeps: false,
            lives: BTreeMap::new(),
            next_life: 1,
            handed: BTreeMap::new(),
            came: 0,
            went: 0,
            stranger_is_someone: false,
            restarts: 0,
            budget: BUDGET,
            honest: false,
        }
    }

    fn step(&mut self, what: u8, how: u8, rest: &mut &[u8]) {
        let device = usize::from(how) % DEVICES;
        match what % 28 {
            0 => self.send_up(device, SIZES[usize::from(how) / 2 % SIZES.len()]),
            1 => self.send_down(device, SIZES[usize::from(how) / 2 % SIZES.len()]),
            2..=4 => {
                if let Some(datagram) = self.take(how) {
                    self.deliver(datagram);
                }
            }
            5 | 6 => self.deliver_all(),
            7 => {
                self.way.make_contiguous().reverse();
                self.deliver_all();
            }
            8 => drop(self.take(how)),
            9 => {
                if let Some(datagram) = self.peek(how) {
                    self.carry(datagram.to, datagram.from, datagram.octets);
                }
            }
            10 => {
                let change = take(rest, 2);
                if let (Some(datagram), [at, by]) = (self.peek_mut(how), change) {
                    let at = usize::from(*at) % datagram.octets.len().max(1);
                    datagram.octets.iter_mut().skip(at).take(1).for_each(|octet| *octet ^= *by | 1);
                }
            }
            11 => {
                let [length] = take(rest, 1) else { return };
                if let Some(datagram) = self.peek_mut(how) {
                    datagram.octets.resize(usize::from(*length) * 3, 0);
                }
            }
            12 => self.pass(Duration::from_millis(u64::from(how) * 10)),
            13 => self.pass(Duration::from_secs(how.into())),
            14 | 15 => {
                for _ in 0..=how % 8 {
                    self.run_to_deadline();
                }
            }
            16 => self.restart(),
            17 => {
                self.devices[device].epoch += 1;
                self.server.revoke(self.now, device as u64 + 1, self.devices[device].epoch);
            }
            18 => {
                if how & 4 != 0 {
                    self.devices[device].address = address(device, (how / 8).into());
                }
                self.devices[device].client.network_changed(self.now);
            }
            19 => {
                let octets = take(rest, how.into()).to_vec();
                self.deliver(Datagram { to: None, from: stranger(), octets });
            }
            20 => {
                let octets = take(rest, how.into()).to_vec();
                self.deliver(Datagram { to: Some(device), from: stranger(), octets });
            }
            // What came before comes again: as it was, from elsewhere, or to the other device.
            21 | 22 => {
                let Some(old) = self.past.get(usize::from(how) % self.past.len().max(1)) else { return };
                let from = if what % 28 == 21 { old.from } else { stranger() };
                let to = match (old.to, what % 28) {
                    (Some(to), 22) => Some((to + 1) % DEVICES),
                    (to, _) => to,
                };
                self.deliver(Datagram { to, from, octets: old.octets.clone() });
            }
            23 => match self.devices[device].is_open {
                true => {
                    self.devices[device].is_open = false;
                    self.devices[device].client.close(self.now);
                }
                false => {
                    self.devices[device].is_open = true;
                    self.devices[device].client.open(self.now);
                }
            },
            24 => match how / 2 % 4 {
                0 => self.server.drain(how & 8 != 0),
                1 => {
                    let last = self.lives.values().rfind(|life| life.device == device);
                    if let Some(session) = last.map(|life| life.session) {
                        self.server.close(self.now, session, Closing::Drained);
                        self.lives.retain(|_, life| life.session != session);
                    }
                }
                2 => self.devices[device].refuses ^= true,
                _ => self.server.set_unix(self.now, UNIX + u64::from(how) * 10_000),
            },
            25 => self.port_sleeps ^= true,
            26 => self.answer_lookups(),
            // As an honest network would, for a while.
            _ => self.live(Duration::from_secs((how % 32).into())),
        }
        self.settle();
    }

    fn take(&mut self, which: u8) -> Option<Datagram> {
        self.way.remove(usize::from(which) % self.way.len().max(1))
    }

    fn peek_mut(&mut self, which: u8) -> Option<&mut Datagram> {
        let count = self.way.len().max(1);
        self.way.get_mut(usize::from(which) % count)
    }

    fn peek(&mut self, which: u8) -> Option<Datagram> {
        let Datagram { to, from, octets } = self.peek_mut(which)?;
        Some(Datagram { to: *to, from: *from, octets: octets.clone() })
    }

    fn send_up(&mut self, at: usize, length: usize) {
        let device = &mut self.devices[at];
        if length > self.budget {
            return;
        }
        let octets = letter(at as u8, device.life, device.sent, length);
        if let Ok(number) = device.client.send(self.now, octets) {
            assert_eq!(number, device.sent, "messages are numbered from 0");
            device.sent += 1;
            self.budget -= length;
        }
    }

    fn send_down(&mut self, at: usize, length: usize) {
        let Some((number, life)) = self.lives.iter_mut().rfind(|(_, life)| life.device == at) else { return };
        if length > self.budget {
            return;
        }
        let octets = letter(at as u8, *number, life.sent, length);
        if let Ok(number) = self.server.send(self.now, life.session, octets) {
            assert_eq!(number, life.sent, "messages are numbered from 0");
            life.sent += 1;
            life.waiting.push_back(length);
            self.budget -= length;
        }
    }

    fn deliver_all(&mut self) {
        for _ in 0..self.way.len() {
            let Some(datagram) = self.way.pop_front() else { return };
            self.deliver(datagram);
        }
    }

    fn deliver(&mut self, datagram: Datagram) {
        let Datagram { to, from, octets } = &datagram;
        match to {
            None => {
                self.came += if *from == stranger() { octets.len() } else { 0 };
                let path = Path::Datagram(*from);
                self.server.handle(self.now, ServerInput::Datagram { from: path, octets });
            }
            Some(at) => self.devices[*at].client.handle(self.now, octets),
        }
        if !self.honest {
            self.past.push_back(datagram);
            if self.past.len() > PAST {
                self.past.pop_front();
            }
        }
        self.settle();
    }

    fn carry(&mut self, to: Option<usize>, from: SocketAddr, octets: Vec<u8>) {
        assert!(octets.len() <= MAX_DATAGRAM || !self.honest, "a datagram of {}", octets.len());
        self.way.push_back(Datagram { to, from, octets });
        if self.way.len() > WAY && !self.honest {
            self.way.pop_front();
        }
    }

    fn next(&self) -> Option<Time> {
        let devices = self.devices.iter().filter_map(|device| device.client.deadline());
        devices.chain(self.server.deadline()).min()
    }

    fn run_to_deadline(&mut self) {
        if let Some(next) = self.next() {
            self.now = self.now.max(next);
            self.due();
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.due();
    }

    /// Does what is due, after which nothing may be: else a driver would turn without end.
    fn due(&mut self) {
        let now = self.now;
        if self.server.deadline().is_some_and(|due| due <= now) {
            self.server.handle(now, ServerInput::Deadline);
            self.settle();
            assert!(self.server.deadline().is_none_or(|due| due > now), "the server is never done");
        }
        for at in 0..DEVICES {
            if self.devices[at].client.deadline().is_some_and(|due| due <= now) {
                self.devices[at].client.deadline_passed(now);
                self.settle();
                let due = self.devices[at].client.deadline();
                assert!(due.is_none_or(|due| due > now), "a device is never done");
            }
        }
    }

    fn restart(&mut self) {
        self.restarts += 1;
        let unix = UNIX + self.now.as_micros() / 1_000_000;
        let rng = Seeded::new(1000 + self.restarts);
        self.server = Server::new(self.config.clone(), self.secrets.clone(), self.now, unix, rng);
        self.lives.clear();
        self.lookups.clear();
        // What it had seen of a stranger's address is forgotten; what was revoked is said again.
        for at in 0..DEVICES {
            self.server.revoke(self.now, at as u64 + 1, self.devices[at].epoch);
        }
    }

    fn answer_lookups(&mut self) {
        while let Some((ticket, id)) = self.lookups.pop_front() {
            let known = usize::from(id[0]).checked_sub(1).filter(|at| *at < DEVICES && id == [id[0]; 16]);
            let answer = known.filter(|at| !self.devices[*at].refuses).map(|at| Credential {
                secret: [at as u8 + 101; 32],
                principal: at as u64 + 1,
                expiry: UNIX * 2,
                epoch: self.devices[at].epoch,
            });
            self.server.authenticated(self.now, ticket, answer.ok_or(Refusal::Unknown));
        }
    }

    fn settle(&mut self) {
        for _ in 0..8 {
            self.server_outputs();
            if self.lookups.is_empty() || self.port_sleeps {
                break;
            }
            self.answer_lookups();
        }
        for at in 0..DEVICES {
            self.device_outputs(at);
        }
        let (len, active) = (self.server.len(), self.server.active());
        assert!(len <= self.config.max_sessions as usize && active <= len, "{active} of {len} sessions");
        assert!(self.lives.len() <= len, "sessions went without a word");
        let waiting: usize = self.lives.values().flat_map(|life| &life.waiting).sum();
        assert!(waiting <= self.config.max_queued, "{waiting} octets wait");
        let stranger = Some(Path::Datagram(stranger()));
        self.stranger_is_someone |=
            self.lives.values().any(|life| self.server.path(life.session) == stranger);
        // Three times what led to it is what a challenge may be; everything else is no longer than its request.
        assert!(self.stranger_is_someone || self.went <= 3 * self.came, "{} for {}", self.went, self.came);
    }

    fn server_outputs(&mut self) {
        let mut outputs = 0;
        while let Some(output) = self.server.poll_output(self.now) {
            outputs += 1;
            assert!(outputs < 10_000, "outputs without end");
            match output {
                ServerOutput::Send { to, octets } => {
                    assert!(octets.len() <= MAX_DATAGRAM);
                    let Path::Datagram(to) = to else { panic!("there is no stream") };
                    match self.devices.iter().position(|device| device.address == to) {
                        Some(at) => self.carry(Some(at), to, octets),
                        None if to == stranger() => {
                            self.went += octets.len();
                            // Who passes on what it hears can pass on the answers.
                            self.carry(Some(0), to, octets);
                        }
                        None => {}
                    }
                }
                ServerOutput::Lookup { ticket, session_id } => self.lookups.push_back((ticket, session_id)),
                ServerOutput::SessionUp { session, principal, .. } => {
                    let device = principal as usize - 1;
                    assert!(self.lives.values().all(|life| life.device != device), "two of one principal");
                    let (sent, acked, waiting) = (0, 0, VecDeque::new());
                    let life = Life { session, device, sent, acked, waiting, hears: None };
                    self.lives.insert(self.next_life, life);
                    self.next_life += 1;
                }
                ServerOutput::Message { session, octets, .. } => {
                    let life = self.life(session);
                    let (device, of, number) = read_letter(&octets);
                    assert_eq!(usize::from(device), life.device, "another device's message");
                    let (hears, next) = life.hears.unwrap_or((of, 0));
                    assert_eq!((of, number), (hears, next), "out of order, or twice");
                    life.hears = Some((hears, next + 1));
                    // Over all lives of the server too.
                    let handed = self.handed.entry((device.into(), of)).or_default();
                    assert_eq!(*handed, number, "handed up again");
                    *handed += 1;
                }
                ServerOutput::Acked { session, message } => {
                    let life = self.life(session);
                    assert!(message == life.acked && message < life.sent, "acknowledged out of order");
                    life.acked += 1;
                    life.waiting.pop_front();
                    let (device, number) = (life.device, self.number(session));
                    let hears = self.devices[device].hears.filter(|(of, _)| *of == number);
                    let gone = self.devices[device].heard_of.contains(&number);
                    assert!(gone || hears.is_some_and(|(_, next)| next > message), "acknowledged, not heard");
                }
                ServerOutput::Gone { session, .. } => {
                    let number = self.number(session);
                    self.lives.remove(&number);
                }
                ServerOutput::TicketRoot(root) => self.secrets.tickets = root,
                ServerOutput::Writable { session } => drop(self.number(session)),
            }
        }
    }

    fn number(&self, session: Session) -> u32 {
        *self.lives.iter().find(|(_, life)| life.session == session).expect("of a session that there is").0
    }

    fn life(&mut self, session: Session) -> &mut Life {
        self.lives.values_mut().find(|life| life.session == session).expect("of a session that there is")
    }

    fn device_outputs(&mut self, at: usize) {
        let mut outputs = 0;
        while let Some(output) = self.devices[at].client.poll_output(self.now) {
            outputs += 1;
            assert!(outputs < 10_000, "outputs without end");
            let device = &mut self.devices[at];
            match output {
                ClientOutput::Send(octets) => {
                    assert!(octets.len() <= MAX_DATAGRAM);
                    let from = device.address;
                    self.carry(None, from, octets);
                }
                // Nothing comes to the other port, and what goes out of it moves nothing.
                ClientOutput::SendBeside(octets) => {
                    let mut from = device.address;
                    from.set_port(from.port() ^ 0x8000);
                    self.carry(None, from, octets);
                }
                ClientOutput::Event(ClientEvent::Up { .. }) => {
                    device.life += 1;
                    (device.sent, device.acked) = (0, 0);
                    device.heard_of.extend(device.hears.take().map(|(of, _)| of));
                }
                ClientOutput::Event(ClientEvent::Message(octets)) => {
                    let (to, of, number) = read_letter(&octets);
                    assert_eq!(usize::from(to), at, "a message for another device");
                    assert!(!device.heard_of.contains(&of), "a message of a session that is over");
                    let (hears, next) = device.hears.unwrap_or((of, 0));
                    assert_eq!((of, number), (hears, next), "out of order, or twice");
                    device.hears = Some((hears, next + 1));
                }
                ClientOutput::Event(ClientEvent::Acked(number)) => {
                    assert!(number == device.acked && number < device.sent, "acknowledged out of order");
                    device.acked += 1;
                    let handed = self.handed.get(&(at, device.life));
                    assert!(handed.is_some_and(|handed| *handed > number), "acknowledged, not handed up");
                }
                ClientOutput::Event(_) => {}
            }
        }
    }

    /// An honest network, 10 ms from end to end.
    fn live(&mut self, time: Duration) {
        let end = self.now + time;
        self.honest = true;
        let mut turns = 0;
        while self.now < end {
            turns += 1;
            assert!(turns < 100_000, "no time passes");
            self.settle();
            let next = if self.way.is_empty() { self.next() } else { None };
            let soon = self.now + Duration::from_millis(10);
            self.now = next.map_or(soon, |next| next.max(soon)).min(end);
            self.deliver_all();
            self.due();
        }
        self.honest = false;
    }

    /// Every fault ends: whoever wants a session has one soon, and messages arrive both ways.
    fn heal(&mut self) {
        self.server.drain(false);
        self.server.set_unix(self.now, UNIX + self.now.as_micros() / 1_000_000);
        self.port_sleeps = false;
        self.way.clear();
        for at in 0..DEVICES {
            self.devices[at].refuses = false;
            self.devices[at].is_open = true;
            self.devices[at].client.open(self.now);
            self.devices[at].client.network_changed(self.now);
        }
        self.live(Duration::from_secs(180));
        self.budget = 10_000;
        for at in 0..DEVICES {
            assert!(self.devices[at].client.is_up(), "device {at} is not served");
            self.send_up(at, 1000);
            self.send_down(at, 1000);
        }
        self.live(Duration::from_secs(30));
        for at in 0..DEVICES {
            let life = self.lives.values().find(|life| life.device == at).expect("it is up");
            let device = &self.devices[at];
            assert!(device.sent > 0 && device.acked == device.sent, "device {at}'s message waits");
            assert!(life.sent > 0 && life.acked == life.sent, "device {at} hears nothing");
        }
    }
}

/// Lengths of messages: of one piece, at its edge, of some, and of many.
const SIZES: [usize; 8] = [13, 20, 479, 480, 481, 3000, 20_000, 122_880];

fn take<'a>(rest: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, left) = rest.split_at(count.min(rest.len()));
    *rest = left;
    taken
}

/// Runs one input.
pub fn run(octets: &[u8]) {
    let Some((options, mut rest)) = octets.split_first() else { return };
    let mut world = World::new(*options);
    for at in 0..DEVICES {
        world.devices[at].is_open = true;
        world.devices[at].client.open(world.now);
    }
    world.settle();
    if options & 16 == 0 {
        world.live(Duration::from_millis(500));
    }
    let mut steps = 0;
    while let [what, how, tail @ ..] = rest {
        rest = tail;
        world.step(*what, *how, &mut rest);
        steps += 1;
        if steps >= 300 {
            break;
        }
    }
    world.heal();
}
