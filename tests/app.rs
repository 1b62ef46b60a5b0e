//! Applications and their office, part against part, over streams that break at any octet: every request has one end, the hub
//! takes a message once, order holds, nothing is shown twice in a life.
//!
//! `HAILPOST_SEEDS=10000 cargo test --test app` for a long run; a failing seed prints how to see it again.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use hailpost::{
    io::Conn,
    post::{
        app::{self, App, AppConfig, AppEvent, AppOutput},
        apps::{Apps, AppsConfig, AppsOutput},
        hub::{Hub, HubConfig, HubOutput, Open, Rights},
    },
    rng::{Entropy, Seeded},
    status::{Fault, Status},
    store::{Batch, Memory, Op, Store, Table},
    time::Time,
    wire::{
        app::{Address, Kind, Message, State, To, Verb},
        post::Sequence,
    },
};

/// Seeds of an ordinary run.
const SEEDS: u64 = 300;
const UNIX: u64 = 1_700_000_000;
const NAMES: [&str; 2] = ["news", "shop"];

/// What is done wrong on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Defect {
    /// A hub that restarts knows no ids.
    ForgetIds,
    /// An application that restarts thinks that it is the same life.
    ForgetLife,
    /// A break of the stream loses octets, and the stream goes on.
    LoseOctets,
}

/// An octet stream between an application and the office.
struct Line {
    theirs: Conn,
    ours: Conn,
    up: VecDeque<u8>,
    down: VecDeque<u8>,
    /// The office closes once all is carried.
    ending: bool,
}

struct Peer {
    app: App,
    name: &'static str,
    secret: String,
    wanted: Option<Conn>,
    line: Option<Line>,
    /// Shown, and not confirmed.
    reading: Vec<Sequence>,
    sent: u64,
    /// Given to the application's side and not answered.
    asked: BTreeSet<(String, &'static str)>,
    /// By id, what is sent, and whether it is kept.
    letters: BTreeMap<String, Message>,
    accepted: BTreeSet<String>,
    withdrawn: BTreeSet<String>,
    /// Whether they were withdrawn, nobody can say.
    doubtful: BTreeSet<String>,
    /// Bodies shown in this life.
    shown: BTreeSet<String>,
    ever: BTreeSet<String>,
    /// By sender, the last number shown first.
    order: BTreeMap<String, u64>,
}

struct World {
    rng: Seeded,
    now: Time,
    defect: Option<Defect>,
    /// Some messages are not to be kept. In such a world the hub does not crash: of what is kept nowhere neither id nor number
    /// outlasts it.
    drops: bool,
    hub: Hub,
    apps: Apps,
    store: Memory,
    peers: Vec<Peer>,
    next_conn: u32,
    /// Connections that the office does not know to be gone.
    orphans: Vec<Conn>,
    crashes: u64,
    lives: u64,
    breaks: u64,
    answers: u64,
    shows: u64,
    resaid: u64,
}

fn open_hub(store: &Memory, now: Time, seed: u64) -> Hub {
    let config = HubConfig { window: 8, max_cached: 2, ..HubConfig::default() };
    let unix = UNIX + now.as_micros() / 1_000_000;
    Hub::open(config, Open { now, unix, rng: Box::new(Seeded::new(seed)) }, store)
        .expect("memory never fails")
}

fn open_app(name: &str, secret: &str, now: Time, seed: u64) -> App {
    let config = AppConfig { window: 6, window_octets: 600, ..AppConfig::default() };
    let (name, secret) = (name.to_owned(), secret.to_owned());
    App::new(config, app::Open { now, name, secret, rng: Box::new(Seeded::new(seed)) }).expect("it can be")
}

fn text(message: &Message) -> String {
    String::from_utf8(message.body.clone()).expect("ours")
}

fn verb(verb: Verb) -> &'static str {
    match verb {
        Verb::Send => "send",
        Verb::Query => "query",
        _ => "cancel",
    }
}

impl World {
    fn new(seed: u64, defect: Option<Defect>) -> World {
        let (store, mut rng) = (Memory::default(), Seeded::new(seed));
        let hub = open_hub(&store, Time::ZERO, rng.next_u64());
        let mut world = World {
            now: Time::ZERO,
            defect,
            drops: rng.below(2) == 0,
            rng,
            hub,
            apps: Apps::new(AppsConfig::default()),
            store,
            peers: Vec::new(),
            next_conn: 0,
            orphans: Vec::new(),
            crashes: 0,
            lives: 0,
            breaks: 0,
            answers: 0,
            shows: 0,
            resaid: 0,
        };
        for name in NAMES {
            let rights = Rights { send: true, broadcast: true, query: true };
            let (secret, _) = world.hub.add_app(name, rights).expect("it is new");
            let seed = world.rng.next_u64();
            world.peers.push(Peer {
                app: open_app(name, &secret, Time::ZERO, seed),
                name,
                secret,
                wanted: None,
                line: None,
                reading: Vec::new(),
                sent: 0,
                asked: BTreeSet::new(),
                letters: BTreeMap::new(),
                accepted: BTreeSet::new(),
                withdrawn: BTreeSet::new(),
                doubtful: BTreeSet::new(),
                shown: BTreeSet::new(),
                ever: BTreeSet::new(),
                order: BTreeMap::new(),
            });
        }
        world.commit();
        world
    }

    fn live(&mut self) -> Result<(), String> {
        self.settle()?;
        for _ in 0..200 + self.rng.below(400) {
            self.now += Duration::from_millis(self.rng.below(600).into());
            let at = self.rng.below(NAMES.len() as u32) as usize;
            match self.rng.below(200) {
                0..40 => self.send(at)?,
                40..44 => self.query(at)?,
                44..50 => self.cancel(at)?,
                50..70 => self.read(at),
                70..90 => self.commit(),
                90..96 => self.break_line(at),
                96..100 => self.learn(),
                100..120 => self.connect(at),
                120 => self.crash(),
                121 => self.die(at),
                122 => self.peers[at].app.network_changed(self.now),
                _ => self.carry(at),
            }
            self.deadlines();
            self.settle()?;
        }
        Ok(())
    }

    /// Everything works, until all is answered and confirmed.
    fn heal(&mut self) -> Result<(), String> {
        for _ in 0..3000 {
            self.now += Duration::from_millis(500);
            self.learn();
            for at in 0..NAMES.len() {
                self.connect(at);
                for _ in 0..8 {
                    self.carry(at);
                    self.settle()?;
                }
                let peer = &mut self.peers[at];
                for sequence in peer.reading.drain(..) {
                    peer.app.confirm(sequence).map_err(|fault| fault.to_string())?;
                }
            }
            self.commit();
            self.deadlines();
            self.settle()?;
            let quiet = |peer: &Peer| {
                let line = peer.line.as_ref().is_some_and(|line| line.up.is_empty() && line.down.is_empty());
                line && peer.app.is_up() && peer.app.pending() == 0 && peer.reading.is_empty()
            };
            if self.peers.iter().all(quiet) && !self.store.is_dirty() {
                return self.last_word();
            }
        }
        Err("it does not come to rest".to_owned())
    }

    fn last_word(&self) -> Result<(), String> {
        let mut taken = 0;
        for peer in &self.peers {
            if let Some(asked) = peer.asked.first() {
                return Err(format!("{asked:?} of {} has no end", peer.name));
            }
            taken += peer.accepted.len() as u64;
            for id in &peer.accepted {
                let message = &peer.letters[id];
                let To::Named(named) = &message.to else { continue };
                for receiver in &self.peers {
                    let is_for = named.contains(&Address::App(receiver.name.to_owned()));
                    let was_shown = receiver.ever.contains(&text(message));
                    let withdrawn = peer.withdrawn.contains(id) || peer.doubtful.contains(id);
                    if is_for && message.store && !withdrawn && !was_shown {
                        return Err(format!("{id} was accepted, and {} never shown it", receiver.name));
                    }
                }
            }
        }
        let messages = self.hub.counters().messages;
        if self.crashes == 0 && self.lives == 0 && messages != taken {
            return Err(format!("the hub took {messages} messages, and {taken} were sent"));
        }
        Ok(())
    }

    fn send(&mut self, at: usize) -> Result<(), String> {
        let (again, own, kept) =
            (self.rng.below(10) == 0, self.rng.below(3) == 0, !self.drops || self.rng.below(8) > 0);
        let size = self.rng.below(100) as usize;
        let receivers = match self.rng.below(4) {
            0 => vec![NAMES[0], NAMES[1]],
            1 => vec![NAMES[at]],
            _ => vec![NAMES[1 - at]],
        };
        let peer = &mut self.peers[at];
        let known = peer.accepted.last().filter(|id| again && !peer.withdrawn.contains(*id));
        let message = match known {
            // As who does not remember the answer.
            Some(id) => peer.letters[id].clone(),
            None => {
                peer.sent += 1;
                let to = receivers.iter().map(|name| Address::App((*name).to_owned())).collect();
                let body = format!("{} {} {}", peer.name, peer.sent, "x".repeat(size)).into_bytes();
                Message {
                    id: if own { format!("own{:04}", peer.sent) } else { String::new() },
                    kind: if receivers.len() == 1 { Kind::One } else { Kind::Directed },
                    store: kept,
                    ..Message::new(To::Named(to), body)
                }
            }
        };
        match peer.app.send(message.clone()) {
            Ok(id) => {
                peer.asked.insert((id.clone(), "send"));
                peer.letters.insert(id.clone(), Message { id, ..message });
                Ok(())
            }
            Err(Fault { status: Status::State, .. }) if !message.id.is_empty() => Ok(()),
            Err(fault) => Err(fault.to_string()),
        }
    }

    fn query(&mut self, at: usize) -> Result<(), String> {
        let peer = &mut self.peers[at];
        let id = peer.app.query(&["anna".to_owned()]).map_err(|fault| fault.to_string())?;
        peer.asked.insert((id, "query"));
        Ok(())
    }

    fn cancel(&mut self, at: usize) -> Result<(), String> {
        let peer = &mut self.peers[at];
        // Of one that goes to several, some may have it while others never will.
        let mut alone = peer.letters.iter().filter(|(_, message)| message.kind == Kind::One);
        let Some((id, _)) = alone.next_back() else { return Ok(()) };
        match peer.app.cancel(id) {
            Ok(()) => drop(peer.asked.insert((id.clone(), "cancel"))),
            Err(Fault { status: Status::State, .. }) => {}
            Err(fault) => return Err(fault.to_string()),
        }
        Ok(())
    }

    fn read(&mut self, at: usize) {
        let peer = &mut self.peers[at];
        let count = self.rng.below(peer.reading.len() as u32 + 1) as usize;
        for sequence in peer.reading.drain(..count) {
            peer.app.confirm(sequence).expect("it is shown");
        }
    }

    fn connect(&mut self, at: usize) {
        let peer = &mut self.peers[at];
        let Some(theirs) = peer.wanted.take() else { return };
        if self.rng.below(8) == 0 {
            let fault = Fault::new(Status::Connect, "nobody there");
            return peer.app.closed(self.now, theirs, Some(fault));
        }
        self.next_conn += 1;
        let ours = Conn(self.next_conn);
        peer.line = Some(Line { theirs, ours, up: VecDeque::new(), down: VecDeque::new(), ending: false });
        peer.app.connected(self.now, theirs);
        self.apps.accepted(self.now, ours);
    }

    /// A while of octets, in either direction, cut anywhere.
    fn carry(&mut self, at: usize) {
        let upwards = self.rng.below(2) == 0;
        let most = 1 + self.rng.below(300) as usize;
        let peer = &mut self.peers[at];
        let Some(line) = &mut peer.line else { return };
        if upwards {
            let count = line.up.len().min(most);
            let piece: Vec<u8> = line.up.drain(..count).collect();
            if self.defect == Some(Defect::LoseOctets) && self.rng.below(50) == 0 {
                return;
            }
            return self.apps.received(self.now, line.ours, &piece, &mut self.hub);
        }
        let count = line.down.len().min(most);
        let piece: Vec<u8> = line.down.drain(..count).collect();
        let ended = line.ending && line.down.is_empty();
        let theirs = line.theirs;
        peer.app.received(self.now, theirs, &piece);
        if ended {
            peer.line = None;
            peer.app.closed(self.now, theirs, None);
        }
    }

    /// Both ends lose what is under way; the office learns of it later.
    fn break_line(&mut self, at: usize) {
        let peer = &mut self.peers[at];
        if let Some(line) = peer.line.take() {
            self.breaks += 1;
            self.orphans.push(line.ours);
            peer.app.closed(self.now, line.theirs, Some(Fault::new(Status::Io, "reset")));
        }
    }

    fn learn(&mut self) {
        for conn in std::mem::take(&mut self.orphans) {
            self.apps.closed(self.now, conn, &mut self.hub);
        }
    }

    fn crash(&mut self) {
        self.crashes += 1;
        (0..NAMES.len()).for_each(|at| self.break_line(at));
        self.orphans.clear();
        self.store = self.store.clone();
        if self.defect == Some(Defect::ForgetIds) {
            let all = Op::DeleteRange { table: Table::log("known"), from: vec![0; 8], to: vec![0x7f; 8] };
            self.store.submit(Batch { ticket: 1, ops: vec![all] });
            self.store.commit().expect("memory never fails");
        }
        self.hub = open_hub(&self.store, self.now, self.rng.next_u64());
        self.apps = Apps::new(AppsConfig::default());
    }

    /// An application dies, and comes again without memory. What was not answered is nobody's any more.
    fn die(&mut self, at: usize) {
        self.lives += 1;
        self.break_line(at);
        let seed = self.rng.next_u64();
        let peer = &mut self.peers[at];
        peer.app = open_app(peer.name, &peer.secret, self.now, seed);
        peer.wanted = None;
        peer.reading.clear();
        for (id, verb) in std::mem::take(&mut peer.asked) {
            if verb != "query" {
                peer.doubtful.insert(id);
            }
        }
        if self.defect != Some(Defect::ForgetLife) {
            peer.shown.clear();
        }
    }

    fn commit(&mut self) {
        // What the hub still has to say goes first, as in a turn.
        self.office();
        let through = self.store.commit().expect("memory never fails");
        self.hub.stored(self.now, through);
    }

    fn deadlines(&mut self) {
        for peer in &mut self.peers {
            if peer.app.deadline().is_some_and(|due| due <= self.now) {
                peer.app.handle_deadline(self.now);
            }
        }
        if self.hub.deadline().is_some_and(|due| due <= self.now) {
            self.hub.handle_deadline(self.now);
        }
        self.apps.handle_deadline(self.now, &mut self.hub);
    }

    fn settle(&mut self) -> Result<(), String> {
        self.office();
        for at in 0..NAMES.len() {
            while let Some(output) = self.peers[at].app.poll_output() {
                self.said(at, output)?;
            }
        }
        Ok(())
    }

    /// The office says and asks all that it wants.
    fn office(&mut self) {
        loop {
            for output in self.apps.outputs() {
                let (AppsOutput::Send { conn, .. } | AppsOutput::Close { conn }) = &output;
                let mut lines = self.peers.iter_mut().filter_map(|peer| peer.line.as_mut());
                let Some(line) = lines.find(|line| line.ours == *conn) else { continue };
                match output {
                    AppsOutput::Send { octets, .. } => line.down.extend(octets),
                    AppsOutput::Close { .. } => line.ending = true,
                }
            }
            if let Some(output) = self.hub.poll_output(self.now) {
                match output {
                    HubOutput::Store(batch) => self.store.submit(batch),
                    HubOutput::Fetch(fetch) => self.store.ask(fetch),
                    HubOutput::Send { seat, frame, .. } => self.apps.frame(seat, &frame),
                    HubOutput::Answered { seat, id, answer } => self.apps.answered(seat, &id, &answer),
                    HubOutput::Whereabouts { seat, id, users } => self.apps.whereabouts(seat, &id, &users),
                    _ => {}
                }
            } else if let Some(fetched) = self.store.answer() {
                self.hub.fetched(self.now, fetched);
            } else {
                return;
            }
        }
    }

    fn said(&mut self, at: usize, output: AppOutput) -> Result<(), String> {
        let peer = &mut self.peers[at];
        match output {
            AppOutput::Connect { conn } => peer.wanted = Some(conn),
            AppOutput::Send { conn, octets } => {
                if let Some(line) = peer.line.as_mut().filter(|line| line.theirs == conn) {
                    line.up.extend(octets);
                }
            }
            AppOutput::Close { conn } => {
                if peer.wanted == Some(conn) {
                    peer.wanted = None;
                }
                if let Some(line) = peer.line.take_if(|line| line.theirs == conn) {
                    self.orphans.push(line.ours);
                }
            }
            AppOutput::Event(event) => self.happened(at, event)?,
        }
        Ok(())
    }

    fn happened(&mut self, at: usize, event: AppEvent) -> Result<(), String> {
        let peer = &mut self.peers[at];
        match event {
            AppEvent::Answered { id, verb: of, code, state, reason } => {
                self.answers += 1;
                if !peer.asked.remove(&(id.clone(), verb(of))) {
                    return Err(format!("{id} of {} has two ends", peer.name));
                }
                match (of, code) {
                    (Verb::Send, 200) if state.is_some() => {
                        self.resaid += u64::from(state == Some(State::Queued));
                        peer.accepted.insert(id);
                    }
                    (Verb::Query, 200) => {}
                    // It may have been shown: who had it when a connection broke has not confirmed it.
                    (Verb::Cancel, 200) => drop(peer.withdrawn.insert(id)),
                    // Perhaps an earlier one that was not answered has withdrawn it.
                    (Verb::Cancel, 404) => drop(peer.doubtful.insert(id)),
                    (Verb::Cancel, 409) => {}
                    _ => return Err(format!("{} of {id} was answered {code} {reason}", verb(of))),
                }
            }
            AppEvent::Message(one) => {
                self.shows += 1;
                let body = String::from_utf8(one.body).map_err(|error| error.to_string())?;
                let mut words = body.splitn(3, ' ');
                let (sender, number) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
                if one.from.to_string() != format!("app:{sender}") || one.sent < UNIX {
                    return Err(format!("{body:?} came from {} at {}", one.from, one.sent));
                }
                let number: u64 = number.parse().map_err(|_| body.clone())?;
                peer.reading.push(one.sequence);
                let (is_first, is_again) = (peer.ever.insert(body.clone()), !peer.shown.insert(body.clone()));
                let sender = sender.to_owned();
                let from = self.peers.iter().find(|peer| peer.name == sender);
                let mut sent = from.into_iter().flat_map(|peer| peer.letters.values());
                let is_kept = sent.any(|message| message.store && text(message) == body);
                // What is kept nowhere is taken anew by an office that died, if it is said again.
                if is_again && is_kept {
                    return Err(format!("{} was shown {body:?} twice in a life", NAMES[at]));
                }
                // What is kept nowhere does not wait for the disk, and may overtake.
                if is_first && is_kept {
                    let last = self.peers[at].order.insert(sender, number).unwrap_or(0);
                    if number < last {
                        return Err(format!("{} was shown {body:?} after {last}", NAMES[at]));
                    }
                }
            }
            AppEvent::Refused { reason } => return Err(format!("{} was refused: {reason}", peer.name)),
            AppEvent::Down(fault) if fault.status == Status::Malformed || fault.status == Status::Refused => {
                return Err(fault.to_string());
            }
            AppEvent::Up | AppEvent::Down(_) | AppEvent::Presence { .. } | AppEvent::Writable => {}
        }
        Ok(())
    }
}

fn run(seed: u64, defect: Option<Defect>) -> Result<World, String> {
    let mut world = World::new(seed, defect);
    world.live()?;
    world.heal()?;
    Ok(world)
}

#[test]
fn every_request_has_one_end_and_every_message_is_taken_and_shown_once() {
    let from_env = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seeds = match from_env("HAILPOST_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..from_env("HAILPOST_SEEDS").unwrap_or(SEEDS),
    };
    let begun = std::time::Instant::now();
    let (mut totals, mut said_again) = ([0; 5], 0);
    for seed in seeds.clone() {
        let world = run(seed, None).unwrap_or_else(|why| {
            panic!("{why}\nagain: HAILPOST_SEED={seed} cargo test --test app -- --nocapture every")
        });
        let of_seed = [world.answers, world.shows, world.breaks, world.crashes, world.lives];
        totals.iter_mut().zip(of_seed).for_each(|(total, count)| *total += count);
        said_again += world.peers.iter().map(|peer| peer.app.counters().said_again).sum::<u64>();
    }
    println!(
        "{} seeds in {:?}: answers, shows, breaks, crashes, lives: {totals:?}; said again: {said_again}",
        seeds.end - seeds.start,
        begun.elapsed()
    );
    if seeds.end - seeds.start >= SEEDS {
        assert!(totals.iter().all(|total| *total > 100) && said_again > 1000, "too little happened");
    }
}

#[test]
fn every_planted_defect_is_caught() {
    for defect in [Defect::ForgetIds, Defect::ForgetLife, Defect::LoseOctets] {
        let caught = (0..SEEDS).find_map(|seed| run(seed, Some(defect)).err().map(|why| (seed, why)));
        let (seed, why) = caught.unwrap_or_else(|| panic!("{defect:?} is not caught"));
        println!("{defect:?}: seed {seed}: {why}");
    }
}
