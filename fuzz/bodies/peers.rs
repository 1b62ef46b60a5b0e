//! Peers with good keys that say what they like: a device that tells the server any frame under the keys of its session, and a
//! server that does so to a device. Beside them another device and the same server speak as they should.
//!
//! Whatever is said, nobody but who says it is worse off: the other device stays where it is and is served, what is handed up
//! came, nothing is busy for ever, nothing grows past its bound, and who says nothing wrong any more is served again.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use hailpost::{
    link::{
        Client, ClientConfig, ClientEvent, ClientOutput, Closing, Credential, Path, Server, ServerConfig,
        ServerInput, ServerOutput, ServerSecrets, Session, TicketRoot, public_key,
    },
    rng::Seeded,
    time::Time,
    wire::link::{MAX_DATAGRAM, MAX_MESSAGE, Refusal},
};

const UNIX: u64 = 1_700_000_000;
const PRIVATE: [u8; 32] = [11; 32];
/// The device that says what it likes, the one that the server says so to, and the honest one.
const LIAR: usize = 0;
const VICTIM: usize = 1;
const HONEST: usize = 2;
/// What one input may have said.
const STEPS: usize = 400;

struct Device {
    client: Client,
    address: SocketAddr,
    session: Option<Session>,
    /// Messages and octets that the server was handed up, and what it was sent.
    handed: usize,
    octets: usize,
    sent: usize,
    acked: usize,
}

struct World {
    now: Time,
    server: Server,
    config: ServerConfig,
    devices: Vec<Device>,
    lookups: VecDeque<(u64, [u8; 16])>,
    /// Octets that came from the liar.
    came: usize,
    budget: usize,
}

impl World {
    fn new(options: u8) -> World {
        let small = options & 1 != 0;
        let config = ServerConfig {
            max_sessions: 8,
            max_candidates: 6,
            max_lookups: 4,
            max_queued: if small { 300_000 } else { 1 << 20 },
            max_held: if small { 800 } else { 2000 },
            intervals: (10, 60),
            ..ServerConfig::default()
        };
        let tickets = TicketRoot { day: UNIX / 86_400, key: [14; 32] };
        let secrets = ServerSecrets { private: PRIVATE, next_private: None, reset: [13; 32], tickets };
        let server = Server::new(config.clone(), secrets, Time::ZERO, UNIX, Seeded::new(1));
        let device = |at: usize| {
            let rekeys = options & 2 != 0 && at != HONEST;
            let config = ClientConfig {
                interval: 20,
                rekey_after: Duration::from_secs(if rekeys { 15 } else { 86_400 }),
                ..ClientConfig::new(public_key(&PRIVATE), [at as u8 + 1; 16], [at as u8 + 101; 32])
            };
            Device {
                client: Client::new(config, Seeded::new(100 + at as u64)),
                address: SocketAddr::from(([192, 0, 2, at as u8 + 1], 4000)),
                session: None,
                handed: 0,
                octets: 0,
                sent: 0,
                acked: 0,
            }
        };
        let devices = (0..3).map(device).collect();
        let lookups = VecDeque::new();
        World { now: Time::ZERO, server, config, devices, lookups, came: 0, budget: 400_000 }
    }

    fn step(&mut self, step: [u8; 8]) {
        let [what, ahead, kind, message, index, count, length, fill] = step;
        let ahead = if ahead < 128 { 0 } else { 1 << (ahead % 16) };
        let plain = plain([kind, message, index, count, length, fill]);
        match what % 16 {
            0..6 => {
                if let Some(octets) = self.devices[LIAR].client.forge(ahead, &plain) {
                    // From where it is, or from one of two other places.
                    let port = 4000 + u16::from(what / 16 % 4).saturating_sub(1);
                    let from = SocketAddr::new(self.devices[LIAR].address.ip(), port);
                    self.came += octets.len();
                    let input = ServerInput::Datagram { from: Path::Datagram(from), octets: &octets };
                    self.server.handle(self.now, input);
                }
            }
            6 => {
                let nonce = [message; 16];
                if let Some(octets) = self.devices[LIAR].client.forge_rekey(ahead, nonce) {
                    self.came += octets.len();
                    let from = Path::Datagram(self.devices[LIAR].address);
                    self.server.handle(self.now, ServerInput::Datagram { from, octets: &octets });
                }
            }
            7..11 => {
                let Some(session) = self.devices[VICTIM].session else { return };
                if let Some(octets) = self.server.forge(session, ahead, &plain) {
                    self.devices[VICTIM].client.handle(self.now, &octets);
                }
            }
            11 => self.send(usize::from(kind) % 3, usize::from(length) * usize::from(count) * 2),
            12 => {
                let device = &mut self.devices[usize::from(kind) % 3];
                let length = usize::from(length) * usize::from(count) * 2;
                if length <= self.budget && device.client.send(self.now, vec![fill; length]).is_ok() {
                    self.budget -= length;
                    device.sent += 1;
                }
            }
            13 => self.pass(Duration::from_millis(u64::from(ahead as u8) + u64::from(kind) * 4)),
            14 => self.pass(Duration::from_secs((kind % 32).into())),
            _ => self.devices[LIAR].client.network_changed(self.now),
        }
        self.settle();
    }

    fn send(&mut self, at: usize, length: usize) {
        let Some(session) = self.devices[at].session else { return };
        if length <= self.budget && self.server.send(self.now, session, vec![7; length]).is_ok() {
            self.budget -= length;
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        for turn in 0.. {
            assert!(turn < 20_000, "no time passes");
            let clients = self.devices.iter().filter_map(|device| device.client.deadline());
            let next = clients.chain(self.server.deadline()).min().filter(|next| *next <= end);
            self.now = next.map_or(end, |next| next.max(self.now));
            self.due();
            if next.is_none() {
                return;
            }
        }
    }

    /// Does what is due, after which nothing may be.
    fn due(&mut self) {
        let now = self.now;
        if self.server.deadline().is_some_and(|due| due <= now) {
            self.server.handle(now, ServerInput::Deadline);
            self.settle();
            assert!(self.server.deadline().is_none_or(|due| due > now), "the server is never done");
        }
        for at in 0..self.devices.len() {
            if self.devices[at].client.deadline().is_some_and(|due| due <= now) {
                self.devices[at].client.deadline_passed(now);
                self.settle();
                let due = self.devices[at].client.deadline();
                assert!(due.is_none_or(|due| due > now), "a device is never done");
            }
        }
    }

    fn settle(&mut self) {
        let mut quiet = false;
        for turn in 0.. {
            if std::mem::replace(&mut quiet, true) {
                break;
            }
            assert!(turn < 2000, "they never stop talking");
            let mut outputs = 0;
            while let Some(output) = self.server.poll_output(self.now) {
                outputs += 1;
                assert!(outputs < 5000, "outputs without end");
                quiet = false;
                self.served(output);
            }
            for at in 0..self.devices.len() {
                quiet &= !self.client_outputs(at);
            }
            while let Some((ticket, id)) = self.lookups.pop_front() {
                quiet = false;
                let known = usize::from(id[0]).checked_sub(1).filter(|at| *at < 3 && id == [id[0]; 16]);
                let answer = known.map(|at| Credential {
                    secret: [at as u8 + 101; 32],
                    principal: at as u64 + 1,
                    expiry: UNIX * 2,
                    epoch: 0,
                });
                self.server.authenticated(self.now, ticket, answer.ok_or(Refusal::Unknown));
            }
        }
        let (len, active) = (self.server.len(), self.server.active());
        assert!(len <= self.config.max_sessions as usize && active <= len, "{active} of {len} sessions");
        let handed = self.devices[LIAR].octets;
        assert!(handed <= self.came, "{handed} octets were handed up of {}", self.came);
    }

    fn served(&mut self, output: ServerOutput) {
        match output {
            ServerOutput::Send { to, octets } => {
                assert!(octets.len() <= MAX_DATAGRAM);
                let at = self.devices.iter().position(|device| to == Path::Datagram(device.address));
                if let Some(at) = at {
                    self.devices[at].client.handle(self.now, &octets);
                }
            }
            ServerOutput::Lookup { ticket, session_id } => self.lookups.push_back((ticket, session_id)),
            ServerOutput::SessionUp { session, principal, .. } => {
                let device = &mut self.devices[principal as usize - 1];
                assert!(device.session.is_none(), "two sessions of one device");
                device.session = Some(session);
            }
            ServerOutput::Message { session, principal, octets } => {
                let device = &mut self.devices[principal as usize - 1];
                assert_eq!(device.session, Some(session), "a message of a session that is over");
                assert!(octets.len() <= MAX_MESSAGE);
                device.handed += 1;
                device.octets += octets.len();
            }
            ServerOutput::Gone { session, principal, .. } => {
                let at = principal as usize - 1;
                assert_ne!(at, HONEST, "the honest device lost its session");
                assert_eq!(self.devices[at].session.take(), Some(session));
            }
            ServerOutput::Acked { .. } | ServerOutput::Writable { .. } | ServerOutput::TicketRoot(_) => {}
        }
    }

    /// Whether there was something.
    fn client_outputs(&mut self, at: usize) -> bool {
        let mut outputs = 0;
        while let Some(output) = self.devices[at].client.poll_output(self.now) {
            outputs += 1;
            assert!(outputs < 5000, "outputs without end");
            match output {
                ClientOutput::Send(octets) => {
                    assert!(octets.len() <= MAX_DATAGRAM);
                    self.came += if at == LIAR { octets.len() } else { 0 };
                    let from = Path::Datagram(self.devices[at].address);
                    self.server.handle(self.now, ServerInput::Datagram { from, octets: &octets });
                }
                ClientOutput::Event(ClientEvent::Message(octets)) => assert!(octets.len() <= MAX_MESSAGE),
                ClientOutput::Event(ClientEvent::Acked(_)) => self.devices[at].acked += 1,
                ClientOutput::Event(ClientEvent::Down(_)) => {
                    assert_ne!(at, HONEST, "the honest device lost its session");
                    self.devices[at].sent = self.devices[at].acked;
                }
                ClientOutput::SendBeside(_) | ClientOutput::Event(_) => {}
            }
        }
        outputs > 0
    }

    /// Nobody says anything wrong any more.
    fn heal(&mut self) {
        let honest = &self.devices[HONEST];
        assert!(honest.client.is_up() && honest.session.is_some());
        self.pass(Duration::from_secs(2));
        let honest = &self.devices[HONEST];
        assert_eq!((honest.handed, honest.acked), (honest.sent, honest.sent), "the honest device waits");
        for at in [LIAR, VICTIM] {
            if let Some(session) = self.devices[at].session.take() {
                self.server.close(self.now, session, Closing::Done);
            }
        }
        self.settle();
        self.pass(Duration::from_secs(1300));
        for at in [LIAR, VICTIM] {
            assert!(self.devices[at].client.is_up(), "device {at} is not let in again");
            let before = self.devices[at].handed;
            self.devices[at].client.send(self.now, vec![1; 3000]).expect("a session begins with room");
            self.settle();
            self.pass(Duration::from_secs(3));
            assert!(self.devices[at].handed > before, "device {at} is not heard");
        }
    }
}

/// A frame, or what is none.
fn plain([kind, message, index, count, length, fill]: [u8; 6]) -> Vec<u8> {
    // Two octets are a heartbeat.
    if kind >= 240 {
        return vec![message, index];
    }
    if kind >= 230 {
        return vec![fill; usize::from(length) % 490];
    }
    // Numbers near the first and near the last.
    let near = |octet: u8, last: u32| match octet {
        0..=199 => u32::from(octet) % (last.min(199) + 1),
        200..=227 => 1 << (octet - 200).min(31),
        _ => last - u32::from(255 - octet),
    };
    let mut out = vec![kind % 11, 0];
    out.extend(near(message, u32::MAX).to_be_bytes());
    let count = match count {
        0..=250 => u16::from(count),
        _ => 256 + u16::from(count - 251),
    };
    out.extend(u16::from(index).to_be_bytes());
    out.extend(count.to_be_bytes());
    if kind % 11 == 2 {
        // An acknowledgement: highest, delay, and runs.
        out.extend(u64::from(near(message, 1000)).to_be_bytes());
        out.extend([0, fill]);
        for run in 0..u16::from(length) % 34 {
            out.extend((1 + run * u16::from(index) % 7).to_be_bytes());
            out.extend((run * u16::from(fill) % 5).to_be_bytes());
        }
    } else {
        let length = if length < 128 { usize::from(length) } else { 480 + usize::from(length == 255) };
        out.resize(out.len() + length.min(480), fill);
    }
    out
}

/// Runs one input.
pub fn run(octets: &[u8]) {
    let Some((options, rest)) = octets.split_first() else { return };
    let mut world = World::new(*options);
    for at in 0..3 {
        world.devices[at].client.open(world.now);
    }
    world.settle();
    world.pass(Duration::from_millis(50));
    for step in rest.as_chunks::<8>().0.iter().take(STEPS) {
        world.step(*step);
    }
    world.heal();
}
