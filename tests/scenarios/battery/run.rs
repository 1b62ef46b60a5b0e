//! One run: what happens, and what must hold.

use std::time::Duration;

use hailpost::{
    link::{ClientConfig, ClientEvent, Credential, Path, ServerConfig, ServerOutput, Session},
    rng::{Entropy, Seeded},
    time::Time,
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
    defect: Option<Defect>,
    /// The session that the server has of each device.
    current: Vec<Option<Session>>,
    /// What the server took for a device, in which session, in order.
    owed: Vec<Vec<(Option<Session>, Vec<u8>)>>,
    /// Since when a device sleeps, and what had gone to it soon after.
    asleep: Vec<Option<(Time, Option<usize>)>>,
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
            Some(Defect::AsleepUntold | Defect::ForgottenAsleep) | None => {}
        }
        for device in &mut pair.devices {
            device.client.open(pair.now);
        }
        let current = vec![None; DEVICES as usize];
        let (owed, asleep) = (vec![Vec::new(); DEVICES as usize], vec![None; DEVICES as usize]);
        let mut run = Run { pair, trace, rng, number: 0, seen: 0, defect, current, owed, asleep };
        run.pair.run(1000);
        run.look();
        run
    }

    pub fn step(&mut self, step: &Step) -> Result<(), String> {
        self.trace.note(self.pair.now, || format!("{step:?}"));
        let now = self.pair.now;
        match *step {
            Step::Wait(seconds) => self.pass(u64::from(seconds) * 1000)?,
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
                self.pass(u64::from(seconds) * 1000)?;
                self.pair.cut = false;
            }
            Step::Forget(device) => {
                if self.pair.devices[device as usize].nat.is_some_and(|nat| !nat.keeps_port) {
                    self.asleep[device as usize].as_mut().map(|(_, before)| before.take());
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
                let at = device as usize;
                self.asleep[at].as_mut().map(|(_, before)| before.take());
                self.pair.devices[at].nat = Some(nat);
                self.pair.devices[at].client.network_changed(now);
            }
            Step::Suspend(device, seconds) => {
                let at = device as usize;
                let device = &mut self.pair.devices[at];
                match self.defect {
                    Some(Defect::AsleepUntold) => device.frozen = true,
                    _ => drop(device.client.suspend(now, seconds)),
                }
                // It sleeps eight seconds later, whatever the network does.
                self.pass(8000)?;
                if self.is_told(at) {
                    self.asleep[at].get_or_insert((self.pair.now, None));
                }
            }
            Step::Resume(device) => self.resume(device as usize),
            Step::Restart => {
                self.look();
                self.pair.restart();
                self.current.fill(None);
                // Its sessions may have the names of those that were.
                self.owed.iter_mut().flatten().for_each(|(session, _)| *session = None);
            }
        }
        self.pass(1)
    }

    /// Whether the server has to know that a device sleeps: one that it did not answer sleeps all the same.
    fn is_told(&self, at: usize) -> bool {
        let device = &self.pair.devices[at];
        let told = |(_, event): &(Time, ClientEvent)| match event {
            ClientEvent::Suspended { told } => Some(*told),
            _ => None,
        };
        device.frozen || device.events.iter().rev().find_map(told) == Some(true)
    }

    fn resume(&mut self, at: usize) {
        self.asleep[at] = None;
        let device = &mut self.pair.devices[at];
        device.frozen = false;
        device.client.resume(self.pair.now);
        self.pair.settle();
    }

    /// The weather clears: each device finds its interval, and is reached whenever something is for it.
    pub fn settle(&mut self) -> Result<(), String> {
        self.pair.conditions = CALM;
        let now = self.pair.now;
        // A bad day on which much seemed to fail is believed for a day. Here it is another network of the same kind.
        for at in 0..DEVICES as usize {
            self.resume(at);
            self.pair.devices[at].client.network_changed(now);
        }
        // What was sent into a cut may still be given up.
        self.pass(150_000)?;
        let lost: Vec<u64> = self.pair.devices.iter().map(|device| device.client.counters().lost).collect();
        self.pass(5 * 3_600_000)?;
        for (at, lost) in lost.into_iter().enumerate() {
            let device = &self.pair.devices[at];
            if device.client.counters().lost != lost {
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
            self.pass(pause.into())?;
            for at in 0..DEVICES as usize {
                let octets = self.send_down(at).ok_or_else(|| format!("device {at} has no session"))?;
                self.pass(SOON)?;
                if !self.pair.devices[at].messages().contains(&octets) {
                    return Err(format!("device {at} is not reached"));
                }
            }
        }
        self.complete()?;
        self.amplification()
    }

    fn pass(&mut self, ms: u64) -> Result<(), String> {
        self.pair.run(ms);
        self.look();
        for (device, asleep) in self.pair.devices.iter().zip(&mut self.asleep) {
            let Some((since, before)) = asleep else { continue };
            if !device.frozen && device.client.deadline().is_some() {
                return Err("something is due of a device that sleeps".to_owned());
            }
            // What was under way when it fell asleep is over by then.
            if self.pair.now.since(*since) > Duration::from_secs(20) {
                let went = self.pair.went.get(&Path::Datagram(device.address)).copied().unwrap_or(0);
                if *before.get_or_insert(went) != went {
                    return Err("something goes to a device that sleeps".to_owned());
                }
            }
        }
        Ok(())
    }

    /// What a device got is what it was sent, once and in order; and of the session that it still has, all of it.
    fn complete(&self) -> Result<(), String> {
        for (at, owed) in self.owed.iter().enumerate() {
            let got = self.pair.devices[at].messages();
            let mut rest = owed.iter();
            if !got.iter().all(|octets| rest.any(|(_, sent)| sent == octets)) {
                return Err(format!("device {at} got something twice, or out of order"));
            }
            let current =
                owed.iter().filter(|(session, _)| session.is_some() && *session == self.current[at]);
            let missing = current.filter(|(_, sent)| !got.contains(sent)).count();
            if missing > 0 {
                return Err(format!("{missing} messages of its session did not come to device {at}"));
            }
        }
        Ok(())
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
        let (now, session) = (self.pair.now, self.current[at]?);
        let is_forgotten = self.defect == Some(Defect::ForgottenAsleep) && self.asleep[at].is_some();
        if !is_forgotten && self.pair.server.send(now, session, octets.clone()).is_err() {
            return None;
        }
        self.owed[at].push((Some(session), octets.clone()));
        self.pair.settle();
        Some(octets)
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
