//! A run, and what must hold in it.

use std::{collections::HashMap, time::Duration};

use hailpost::{
    link::{ClientEvent, Credential, Path, ServerConfig, ServerOutput, Session},
    rng::{Entropy, Seeded},
    wire::link::Hello,
};

use super::{
    DEVICES, Step,
    defects::{Defect, Planted},
    pair::{CALM, Conditions, Pair},
};
use crate::sim::Trace;

/// What one end sent in one session, and how much of it the other has.
#[derive(Default)]
struct Stream {
    sent: Vec<Vec<u8>>,
    acked: usize,
}

pub struct Run<'a> {
    pair: Pair,
    trace: &'a Trace,
    rng: Seeded,
    /// By device: the session at its own end, which lasts from one `Up` to the next.
    up: Vec<Stream>,
    /// Streams towards devices, by session of this life of the server.
    down: HashMap<Session, Stream>,
    /// The server's session of each device, in this life of the server.
    current: Vec<Option<Session>>,
    /// Events that were judged.
    seen_server: usize,
    seen_device: Vec<usize>,
    /// What arrived in each session of this life of the server.
    arrived: HashMap<Session, Vec<Vec<u8>>>,
    /// All that each device, and the server to each device, ever sent.
    all_up: Vec<Vec<Vec<u8>>>,
    all_down: Vec<Vec<Vec<u8>>>,
    thief: Path,
    number: u32,
}

impl<'a> Run<'a> {
    pub fn new(seed: u64, defect: Option<Defect>, trace: &'a Trace) -> Run<'a> {
        let config = ServerConfig {
            hellos_without_cookie: 20,
            resumes_without_cookie: 20,
            max_held: 400,
            ..ServerConfig::default()
        };
        let mut pair = Pair::with(seed, 0, config);
        for at in 0..DEVICES as usize {
            let mut config = pair.client_config(at);
            config.rekey_after = Duration::from_secs(20 + 10 * at as u64);
            let credential = Credential {
                secret: config.secret,
                principal: at as u64 + 1,
                expiry: pair.unix * 2,
                epoch: 0,
            };
            pair.credentials.insert(config.session_id, credential);
            pair.add_client(config);
        }
        if let Some(defect) = defect {
            pair.tamper = Box::new(Planted::new(defect));
        }
        for device in &mut pair.devices {
            device.client.open(pair.now);
        }
        let devices = DEVICES as usize;
        let mut run = Run {
            pair,
            trace,
            rng: Seeded::new(seed ^ 77),
            up: (0..devices).map(|_| Stream::default()).collect(),
            down: HashMap::new(),
            current: vec![None; devices],
            seen_server: 0,
            seen_device: vec![0; devices],
            arrived: HashMap::new(),
            all_up: vec![Vec::new(); devices],
            all_down: vec![Vec::new(); devices],
            thief: Path::Datagram("198.51.100.66:66".parse().expect("an address")),
            number: 0,
        };
        run.pair.run(500);
        run
    }

    pub fn step(&mut self, step: &Step) -> Result<(), String> {
        self.trace.note(self.pair.now, || format!("{step:?}"));
        match *step {
            Step::Wait(ms) => self.pass(ms.into())?,
            Step::Up(device, length) => self.send_up(device as usize, length)?,
            Step::Down(device, length) => self.send_down(device as usize, length)?,
            Step::Weather(how) => {
                self.pair.conditions = Conditions {
                    delay: 5,
                    jitter: 20 * how,
                    loss: 60 * how,
                    duplicate: 20 * how,
                    corrupt: 20 * how,
                };
            }
            Step::Cut(ms) => {
                self.pair.cut = true;
                self.pass(ms.into())?;
                self.pair.cut = false;
            }
            Step::Rebind(device) => self.pair.rebind(device as usize),
            Step::Roam(device) => {
                self.pair.rebind(device as usize);
                let now = self.pair.now;
                self.pair.devices[device as usize].client.network_changed(now);
            }
            Step::Restart => {
                self.look()?;
                self.pair.restart();
                self.arrived.clear();
                self.down.clear();
                self.current.fill(None);
            }
            Step::Replay(device, from_home) => {
                let device = &self.pair.devices[device as usize];
                let from = if from_home { Path::Datagram(device.address) } else { self.thief };
                let (sent, to) = (device.sent.clone(), device.address);
                for octets in sent.iter().rev().take(30) {
                    self.pair.deliver(from, octets);
                }
                // What was sent to the thief is not passed on: who relays both ways is the path itself.
                let to_it =
                    |(path, octets): &(Path, Vec<u8>)| (*path == Path::Datagram(to)).then(|| octets.clone());
                let answers: Vec<Vec<u8>> = self.pair.answers.iter().filter_map(to_it).collect();
                let now = self.pair.now;
                for octets in answers.iter().rev().take(30) {
                    if let Some(device) = self.pair.devices.iter_mut().find(|device| device.address == to) {
                        device.client.handle(now, octets);
                    }
                }
                self.pair.settle();
            }
            Step::Steal(device) => {
                let device = device as usize;
                let before = self.pair.devices[device].sent.len();
                self.pair.cut = true;
                self.send_up(device, 600)?;
                self.pass(300)?;
                self.pair.cut = false;
                let sent = &self.pair.devices[device].sent;
                let stolen = sent[before.min(sent.len())..].to_vec();
                for octets in stolen {
                    self.pair.deliver(self.thief, &octets);
                }
            }
            Step::ForgeReset(device) => {
                let device = &mut self.pair.devices[device as usize];
                let Some(last) = device.sent.last() else { return Ok(()) };
                let mut octets = last[..4].to_vec();
                octets.resize(16, 0);
                self.rng.fill(&mut octets[4..]);
                let before = device.client.counters().resets;
                device.client.handle(self.pair.now, &octets);
                if device.client.counters().resets != before {
                    return Err("a forged reset is believed".to_owned());
                }
            }
            Step::Flood(count) => {
                for at in 0..count {
                    let mut noise = [0; 52];
                    self.rng.fill(&mut noise);
                    let session_id = self.pair.devices[(at % DEVICES) as usize].session_id;
                    let key = hailpost::link::public_key(&super::pair::PRIVATE);
                    let hello =
                        Hello { server_key: [key[0], key[1]], session_id, cookie: [0; 16], noise: &noise };
                    let from = Path::Datagram(([203, 0, 113, at as u8], 1).into());
                    self.pair.deliver(from, &hello.encode());
                }
            }
            Step::Reopen(device) => {
                let now = self.pair.now;
                let client = &mut self.pair.devices[device as usize].client;
                client.close(now);
                client.open(now);
            }
        }
        self.pass(1)
    }

    /// The weather clears: all must come right.
    pub fn settle(&mut self) -> Result<(), String> {
        self.pair.conditions = CALM;
        let now = self.pair.now;
        for device in &mut self.pair.devices {
            device.client.network_changed(now);
        }
        self.pass(130_000)?;
        for at in 0..DEVICES as usize {
            self.send_up(at, 900)?;
            self.send_down(at, 900)?;
        }
        self.pass(20_000)?;
        for at in 0..DEVICES as usize {
            let device = &self.pair.devices[at];
            if !device.client.is_up() {
                return Err(format!("device {at} is not up: {:?}", device.client.counters()));
            }
            let (sent, acked) = (self.up[at].sent.len(), self.up[at].acked);
            if sent != acked || sent == 0 {
                return Err(format!("device {at} sent {sent}, acknowledged are {acked}"));
            }
            let session = self.current[at].ok_or("the server has no session of a device")?;
            let path = self.pair.server.path(session);
            if path != Some(Path::Datagram(device.address)) {
                return Err(format!("device {at} is looked for at {path:?}"));
            }
            let stream = self.down.get(&session).ok_or("nothing was sent down")?;
            if stream.sent.len() != stream.acked {
                return Err(format!("{} of {} reached device {at}", stream.acked, stream.sent.len()));
            }
        }
        match self.pair.server.len() == DEVICES as usize {
            true => Ok(()),
            false => Err(format!("{} sessions are left", self.pair.server.len())),
        }
    }

    fn pass(&mut self, ms: u64) -> Result<(), String> {
        self.pair.run(ms);
        self.look()
    }

    fn content(&mut self, length: u32) -> Vec<u8> {
        self.number += 1;
        let mut octets = self.number.to_be_bytes().to_vec();
        octets.resize(4 + length as usize, self.number as u8);
        octets
    }

    fn send_up(&mut self, at: usize, length: u32) -> Result<(), String> {
        self.look()?;
        let octets = self.content(length);
        let now = self.pair.now;
        if let Ok(number) = self.pair.devices[at].client.send(now, octets.clone()) {
            let stream = &mut self.up[at];
            if number as usize != stream.sent.len() {
                return Err(format!("device {at} numbers {number} after {}", stream.sent.len()));
            }
            stream.sent.push(octets.clone());
            self.all_up[at].push(octets);
        }
        self.pair.settle();
        self.look()
    }

    fn send_down(&mut self, at: usize, length: u32) -> Result<(), String> {
        self.look()?;
        let Some(session) = self.current[at] else { return Ok(()) };
        let octets = self.content(length);
        let now = self.pair.now;
        if self.pair.server.send(now, session, octets.clone()).is_ok() {
            self.down.entry(session).or_default().sent.push(octets.clone());
            self.all_down[at].push(octets);
        }
        self.pair.settle();
        self.look()
    }

    /// Judges what happened since the last look.
    fn look(&mut self) -> Result<(), String> {
        // Arrivals first: what is acknowledged must have arrived, at whichever end is read first.
        let events: Vec<ServerOutput> =
            self.pair.events[self.seen_server..].iter().map(|(_, event)| event.clone()).collect();
        self.seen_server = self.pair.events.len();
        let now = self.pair.now;
        for event in &events {
            match event {
                ServerOutput::SessionUp { session, principal, .. } => {
                    self.trace.note(now, || format!("server: {principal} is up"));
                    self.arrived.insert(*session, Vec::new());
                    self.down.insert(*session, Stream::default());
                    self.current[*principal as usize - 1] = Some(*session);
                }
                ServerOutput::Gone { session, .. } => {
                    self.current.iter_mut().for_each(|current| {
                        current.take_if(|current| current == session);
                    });
                }
                ServerOutput::Message { session, octets, .. } => {
                    let before = self.arrived.entry(*session).or_default();
                    let at = self.all_up.iter().position(|all| all.contains(octets));
                    let all = at.map(|at| &self.all_up[at]).ok_or("a message that nobody sent arrived")?;
                    if before.contains(octets) {
                        return Err("the server hands a message up twice".to_owned());
                    }
                    before.push(octets.clone());
                    if !is_run(all, before) {
                        return Err("the server hands up out of order".to_owned());
                    }
                }
                _ => {}
            }
        }
        for at in 0..self.pair.devices.len() {
            let device = &self.pair.devices[at];
            let events: Vec<ClientEvent> =
                device.events[self.seen_device[at]..].iter().map(|(_, event)| event.clone()).collect();
            self.seen_device[at] = device.events.len();
            for event in events {
                match event {
                    ClientEvent::Up { .. } => {
                        self.trace.note(now, || format!("device {at}: up"));
                        self.up[at] = Stream::default();
                    }
                    ClientEvent::Message(octets) => {
                        let all = &self.all_down[at];
                        if !all.contains(&octets) {
                            return Err(format!("device {at} got what was not sent to it"));
                        }
                        let got = self.pair.devices[at].messages();
                        if got.iter().filter(|other| **other == octets).count() > 1 {
                            return Err(format!("device {at} got a message twice"));
                        }
                    }
                    ClientEvent::Acked(number) => {
                        let stream = &mut self.up[at];
                        let octets =
                            stream.sent.get(number as usize).ok_or("what was not sent is acknowledged")?;
                        if number as usize != stream.acked {
                            return Err("acknowledged out of order".to_owned());
                        }
                        stream.acked += 1;
                        let arrived = self.pair.events.iter().any(
                            |(_, event)| matches!(event, ServerOutput::Message { octets: other, .. } if other == octets),
                        );
                        if !arrived {
                            return Err("acknowledged by the server before it had it".to_owned());
                        }
                    }
                    _ => {}
                }
            }
        }
        for event in &events {
            if let ServerOutput::Acked { session, message } = event {
                let Some(stream) = self.down.get_mut(session) else { continue };
                let octets = stream.sent.get(*message as usize).ok_or("what was not sent is acknowledged")?;
                stream.acked += 1;
                if !self.pair.devices.iter().any(|device| device.messages().contains(octets)) {
                    return Err("acknowledged before a device had it".to_owned());
                }
            }
        }
        self.amplification()
    }

    /// Who is no device gets no more than three times what came from there.
    fn amplification(&self) -> Result<(), String> {
        for (path, went) in &self.pair.went {
            let came = self.pair.came.get(path).copied().unwrap_or(0);
            let is_device = matches!(path, Path::Datagram(to) if to.ip().to_string().starts_with("192.0.2."));
            if !is_device && *went > 3 * came {
                return Err(format!("{path:?} got {went} octets for {came}"));
            }
        }
        let mut paths = self.current.iter().flatten().map(|session| self.pair.server.path(*session));
        match paths.any(|path| path == Some(self.thief)) {
            true => Err("a session moved to a thief".to_owned()),
            false => Ok(()),
        }
    }
}

/// Whether `part` is a run without gaps of `all`.
fn is_run(all: &[Vec<u8>], part: &[Vec<u8>]) -> bool {
    let first = part.first().and_then(|first| all.iter().position(|other| other == first));
    first.is_some_and(|first| all[first..].starts_with(part))
}
