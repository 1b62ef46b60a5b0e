//! One run: what happens, and what must hold.

use std::time::Duration;

use hailpost::{
    link::{ClientConfig, Credential, Path, ServerConfig, ServerOutput, Session},
    rng::{Entropy, Seeded},
};

use super::{
    super::link::pair::{CALM, Conditions, Nat, Pair},
    DEVICES, Defect, LONGEST, Step,
    defects::Astray,
    forgets,
};
use crate::sim::Trace;

/// How long a message may take to a device that has found its interval, in milliseconds.
const SOON: u64 = 2000;

pub struct Run<'a> {
    pair: Pair,
    trace: &'a Trace,
    rng: Seeded,
    number: u32,
    seen: usize,
    /// The session that the server has of each device.
    current: Vec<Option<Session>>,
}

impl<'a> Run<'a> {
    pub fn new(seed: u64, defect: Option<Defect>, trace: &'a Trace) -> Run<'a> {
        let mut rng = Seeded::new(seed ^ 78);
        let mut pair = Pair::with(seed, 0, ServerConfig::default());
        for at in 0..DEVICES as usize {
            let mut config = ClientConfig { longest: LONGEST, ..pair.client_config(at) };
            config.rekey_after = Duration::from_secs(3000 + 1000 * at as u64);
            let credential = Credential {
                secret: config.secret,
                principal: at as u64 + 1,
                expiry: pair.unix * 2,
                epoch: 0,
            };
            pair.credentials.insert(config.session_id, credential);
            pair.add_client(config);
            pair.devices[at].nat = Some(network(&mut rng));
        }
        match defect {
            Some(Defect::TriedFromTheSamePort) => pair.one_port = true,
            Some(Defect::AnsweredWhereAsked) => pair.tamper = Box::new(Astray::default()),
            None => {}
        }
        for device in &mut pair.devices {
            device.client.open(pair.now);
        }
        let current = vec![None; DEVICES as usize];
        let mut run = Run { pair, trace, rng, number: 0, seen: 0, current };
        run.pass(1000);
        run
    }

    pub fn step(&mut self, step: &Step) -> Result<(), String> {
        self.trace.note(self.pair.now, || format!("{step:?}"));
        let now = self.pair.now;
        match *step {
            Step::Wait(seconds) => self.pass(u64::from(seconds) * 1000),
            Step::Down(device) => drop(self.send_down(device as usize)),
            Step::Up(device) => {
                let octets = self.content();
                let _ = self.pair.devices[device as usize].client.send(now, octets);
            }
            Step::Weather(how) => {
                self.pair.conditions =
                    Conditions { jitter: 20 * how, loss: 40 * how, duplicate: 20 * how, ..CALM };
            }
            Step::Cut(seconds) => {
                self.pair.cut = true;
                self.pass(u64::from(seconds) * 1000);
                self.pair.cut = false;
            }
            Step::Forget(device) => {
                if self.pair.devices[device as usize].nat.is_some_and(|nat| !nat.keeps_port) {
                    self.pair.rebind(device as usize);
                }
            }
            Step::Sooner(device, forgets) => {
                if let Some(nat) = &mut self.pair.devices[device as usize].nat {
                    nat.forgets = u64::from(forgets) * 1000;
                }
            }
            Step::Other(device, forgets) => {
                let mut nat = network(&mut self.rng);
                (nat.forgets, nat.used) = (u64::from(forgets) * 1000, now);
                self.pair.rebind(device as usize);
                let device = &mut self.pair.devices[device as usize];
                device.nat = Some(nat);
                device.client.network_changed(now);
            }
            Step::Restart => {
                self.look();
                self.pair.restart();
                self.current.fill(None);
            }
        }
        self.pass(1);
        Ok(())
    }

    /// The weather clears: each device finds its interval, and is reached whenever something is for it.
    pub fn settle(&mut self) -> Result<(), String> {
        self.pair.conditions = CALM;
        let now = self.pair.now;
        // A bad day on which much seemed to fail is believed for a day. Here it is another network of the same kind.
        for at in 0..DEVICES as usize {
            self.pair.devices[at].client.network_changed(now);
        }
        self.pass(20_000);
        let lost: Vec<u64> = self.pair.devices.iter().map(|device| device.client.counters().lost).collect();
        self.pass(5 * 3_600_000);
        for at in 0..DEVICES as usize {
            let device = &self.pair.devices[at];
            if device.client.counters().lost != lost[at] {
                return Err(format!("device {at} lost its session for being silent"));
            }
            let forgets = device.nat.map_or(0, |nat| nat.forgets / 1000);
            let interval = device.client.counters().interval;
            if interval >= forgets {
                return Err(format!("device {at} is silent for {interval} s, and forgotten after {forgets}"));
            }
            let could = forgets.min(LONGEST.into());
            if (interval + 4) * 4 < could * 3 {
                return Err(format!("device {at} beats every {interval} s where {could} would do"));
            }
        }
        for _ in 0..3 {
            let pause = self.rng.below(400_000);
            self.pass(pause.into());
            for at in 0..DEVICES as usize {
                let octets = self.send_down(at).ok_or_else(|| format!("device {at} has no session"))?;
                self.pass(SOON);
                if !self.pair.devices[at].messages().contains(&octets) {
                    return Err(format!("device {at} is not reached"));
                }
            }
        }
        self.amplification()
    }

    fn pass(&mut self, ms: u64) {
        self.pair.run(ms);
        self.look();
    }

    fn look(&mut self) {
        for (_, event) in &self.pair.events[self.seen..] {
            match event {
                ServerOutput::SessionUp { session, principal, .. } => {
                    self.current[*principal as usize - 1] = Some(*session);
                }
                ServerOutput::Gone { session, .. } => {
                    self.current.iter_mut().for_each(|current| {
                        current.take_if(|current| current == session);
                    });
                }
                _ => {}
            }
        }
        self.seen = self.pair.events.len();
    }

    fn content(&mut self) -> Vec<u8> {
        self.number += 1;
        let mut octets = self.number.to_be_bytes().to_vec();
        octets.resize(4 + self.rng.below(2000) as usize, self.number as u8);
        octets
    }

    fn send_down(&mut self, at: usize) -> Option<Vec<u8>> {
        let octets = self.content();
        let sent = self.pair.server.send(self.pair.now, self.current[at]?, octets.clone());
        sent.is_ok().then_some(octets)
    }

    /// Who is no device gets no more than three times what came from there.
    fn amplification(&self) -> Result<(), String> {
        let is_device = |path: &Path| matches!(path, Path::Datagram(to) if to.port() < 0x8000);
        let all = self.pair.went.iter().filter(|(path, _)| !is_device(path));
        for (path, went) in all {
            let came = self.pair.came.get(path).copied().unwrap_or(0);
            if *went > 3 * came {
                return Err(format!("{path:?} got {went} octets for {came}"));
            }
        }
        Ok(())
    }
}

fn network(rng: &mut Seeded) -> Nat {
    let (keeps_port, inward) = (rng.below(2) == 0, rng.below(2) == 0);
    Nat { keeps_port, inward, ..Nat::after(forgets(rng).into()) }
}
