//! Lets a plan happen.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hailpost::{
    io::{Service, Transport},
    link::ClientConfig,
    node::{AppNode, DeviceNode, DeviceNodeConfig, Event, EventKind, Field, Node, OfficeConfig, OfficeNode},
    post::{
        Inbox,
        app::{self, AppConfig},
        brokers::BrokersConfig,
        device::DeviceConfig,
        hub::{HubConfig, Rights},
    },
    rng::{Entropy, Seeded},
    status::{Fault, Status},
    store::{Batch, Fetch, Fetched, Memory, Store, Table},
    time::Time,
    wire::app::{Address, Kind, Message, To},
};

use super::{
    brokers::{self, BROKERS, INNER},
    defects::Defect,
    judge::{Judge, Letter},
    plan::{DEVICES, Step, TROUBLE, USERS, What},
};
use crate::sim::{Conditions, Crash, HostId, Trace, World};

/// How long after the trouble all must be well, in milliseconds: pauses between tries have grown to minutes by then.
const SETTLE: u32 = 900_000;
/// Where devices come in.
pub const PORT: u16 = 7700;
const APPS: u16 = 7701;
/// Messages do not grow old in a run, although clocks are wrong by ten days.
const TTL: u32 = 25 * 86_400;

struct Phone {
    host: HostId,
    user: usize,
    given: u64,
    /// What numbers of its own are called by the judge, and who gets them.
    names: BTreeMap<u64, (Letter, Vec<usize>)>,
    /// Shown in this life, and not confirmed by its owner.
    reading: Vec<(u64, Letter)>,
    /// Confirmed by its owner, and not known to be durable.
    confirming: BTreeMap<u64, Letter>,
    life: u32,
    up: bool,
}

struct Run {
    world: World,
    rng: Seeded,
    office: HostId,
    /// Those apart from the hub; none when it holds all sessions itself.
    brokers: Vec<HostId>,
    app: HostId,
    /// Messages of the application that are not answered, with who gets them.
    asked: BTreeMap<String, (Letter, Vec<usize>)>,
    written: u64,
    phones: Vec<Phone>,
    judge: Judge,
    store_fails: Arc<AtomicBool>,
}

/// What happens by itself after a step.
enum Later {
    BootOffice,
    BootDevice(usize),
    BootApp,
    Heal(usize),
    StoreWorks,
    BootBroker(usize),
    HealBroker(usize),
}

pub fn run(
    seed: u64,
    defect: Option<Defect>,
    apart: bool,
    steps: &[Step],
    trace: &Trace,
) -> Result<(), String> {
    let mut run = Run::new(seed, defect, apart, trace.clone())?;
    run.play(steps)?;
    if apart { run.one_leaves() } else { Ok(()) }
}

impl Run {
    fn new(seed: u64, defect: Option<Defect>, apart: bool, trace: Trace) -> Result<Run, String> {
        let mut world = World::new(seed, trace);
        let memory = Memory::default();
        let store_fails = Arc::new(AtomicBool::new(false));
        let (of_office, fails, mut life) = (memory, store_fails.clone(), 0);
        let office = world.add("office", [10, 0, 0, 1].into(), move |boot| {
            life += 1;
            let store = match defect {
                Some(defect) => defect.office_store(&of_office, life),
                None => Box::new(of_office.clone()),
            };
            let store = Box::new(Flaky { inner: store, fails: fails.clone() });
            let hub = HubConfig { window: 4, max_cached: 2, max_messages: 100_000, ..HubConfig::default() };
            let keys = (0..BROKERS).map(brokers::key).filter(|_| apart).collect();
            let brokers = BrokersConfig { keys, ..BrokersConfig::default() };
            let config = OfficeConfig { hub, brokers, ..OfficeConfig::default() };
            let node = OfficeNode::open(config, (boot.now, boot.unix), boot.rng, store);
            Box::new(node.expect("memory never fails at an opening"))
        });
        world.listen_for(office, Transport::Datagram, PORT, Service::Link);
        world.listen_for(office, Transport::Stream, APPS, Service::App);
        world.listen_for(office, Transport::Stream, INNER, Service::Inner);
        world.boot(office);
        // Before anything breaks: users, then their devices.
        let of_office = |world: &mut World, act: &mut dyn FnMut(&mut OfficeNode)| {
            world.with(office, |node, _| act(office_of(node)));
            world.run_for(Duration::from_millis(10));
        };
        for (user, _) in USERS {
            of_office(&mut world, &mut |node| {
                node.add_user(user).expect("the name is good");
            });
        }
        let mut secret = String::new();
        of_office(&mut world, &mut |node| {
            let rights = Rights { send: true, broadcast: true, query: true };
            secret = node.add_app("news", rights).expect("the name is good").0;
        });
        let app = world.add("news", [10, 0, 2, 1].into(), move |boot| {
            let (name, secret) = ("news".to_owned(), secret.clone());
            let open = app::Open { now: boot.now, name, secret, rng: Box::new(boot.rng) };
            Box::new(AppNode::new(AppConfig::default(), open, 1).expect("the name is good"))
        });
        world.route(app, office, Transport::Stream, APPS, None);
        let server_key = world.node_as::<OfficeNode>(office).expect("it is up").server_key();
        let brokers = if apart { brokers::add(&mut world, office, defect) } else { Vec::new() };
        let mut phones = Vec::new();
        let owners = USERS.iter().enumerate().flat_map(|(user, (_, count))| (0..*count).map(move |_| user));
        for (at, user) in owners.enumerate() {
            let mut enrolled = None;
            of_office(&mut world, &mut |node| {
                enrolled =
                    Some(node.add_device(USERS[user].0, [at as u8; 16], 0).expect("the user is there"));
            });
            let enrolled = enrolled.ok_or("the office is down")?;
            let memory = Memory::default();
            let link = ClientConfig {
                server_key,
                next_key: None,
                session_id: enrolled.session.0,
                secret: enrolled.secret,
                interval: 30,
                resumption: None,
                rekey_after: Duration::from_secs(86_400),
            };
            let name = format!("device {at} ({})", USERS[user].0);
            let ip = [10, 0, 1, at as u8 + 1].into();
            let host = world.add(&name, ip, move |boot| {
                let store = match defect {
                    Some(defect) => defect.device_store(&memory),
                    None => Box::new(memory.clone()),
                };
                let post = DeviceConfig { window: 3, ..DeviceConfig::default() };
                let config = DeviceNodeConfig { link: link.clone(), post, ways: 1, balancer: None };
                let node = DeviceNode::open(config, (boot.now, boot.unix), boot.rng, store);
                Box::new(node.expect("memory never fails"))
            });
            let home = brokers.get(at % (BROKERS + 1)).copied().unwrap_or(office);
            world.route(host, home, Transport::Datagram, PORT, None);
            phones.push(Phone {
                host,
                user,
                given: 0,
                names: BTreeMap::new(),
                reading: Vec::new(),
                confirming: BTreeMap::new(),
                life: 0,
                up: false,
            });
        }
        assert_eq!(phones.len(), DEVICES);
        let rng = Seeded::new(world.rng().next_u64());
        let (asked, written) = (BTreeMap::new(), 0);
        let judge = Judge::default();
        Ok(Run { world, rng, office, brokers, app, asked, written, phones, judge, store_fails })
    }

    fn play(&mut self, steps: &[Step]) -> Result<(), String> {
        self.brokers.clone().into_iter().for_each(|broker| self.world.boot(broker));
        (0..DEVICES).for_each(|at| self.world.boot(self.phones[at].host));
        self.world.boot(self.app);
        let begun = self.world.now();
        let mut later: BTreeMap<(u32, usize), Later> = BTreeMap::new();
        let mut steps = steps.iter().peekable();
        let mut order = 0;
        loop {
            let step = steps.peek().map(|step| step.at);
            let due = later.keys().next().map(|(at, _)| *at);
            let Some(at) = step.into_iter().chain(due).min() else { break };
            self.run_until(begun + Duration::from_millis(at.into()))?;
            if due.is_some_and(|due| due <= at) {
                let (_, what) = later.pop_first().expect("it was there");
                self.after(&what);
            } else if let Some(step) = steps.next() {
                order += 1;
                if let Some((lasts, what)) = self.act(&step.what)? {
                    later.insert((at + lasts, order), what);
                }
            }
        }
        // All is healed, and everybody deals with everything.
        self.run_until(begun + Duration::from_millis(TROUBLE.into()))?;
        self.world.conditions(Conditions::CALM);
        for at in 0..DEVICES {
            self.world.boot(self.phones[at].host);
            self.confirm(at, true)?;
        }
        self.world.boot(self.office);
        self.brokers.clone().into_iter().for_each(|broker| self.world.boot(broker));
        self.world.boot(self.app);
        let end = begun + Duration::from_millis((TROUBLE + SETTLE).into());
        while self.world.now() < end {
            let next = self.world.now() + Duration::from_secs(10);
            self.run_until(next)?;
            for at in 0..DEVICES {
                self.confirm(at, true)?;
            }
            if self.is_well() {
                break;
            }
        }
        self.settled()?;
        self.whereabouts()
    }

    /// Sessions at the hub's own link and at brokers.
    fn sessions(&self) -> usize {
        let own = self.world.node_as::<OfficeNode>(self.office).map_or(0, |office| office.server().len());
        let sessions =
            |host: &HostId| brokers::node(&self.world, *host).map_or(0, |node| node.server().len());
        own + self.brokers.iter().map(sessions).sum::<usize>()
    }

    /// All is well, and then a device dies, and its broker with it, which is back before anybody noticed.
    fn one_leaves(&mut self) -> Result<(), String> {
        let device = self.rng.below(DEVICES as u32) as usize;
        self.world.crash(self.phones[device].host, Crash::Power);
        for broker in self.brokers.clone() {
            if self.rng.below(2) == 0 {
                self.world.crash(broker, Crash::Process);
                self.world.boot(broker);
            }
        }
        let end = self.world.now() + Duration::from_secs(200);
        self.run_until(end)?;
        let office = self.world.node_as::<OfficeNode>(self.office).ok_or("the office is down")?;
        match online(office) {
            count if count == DEVICES - 1 => Ok(()),
            count => Err(format!("device {device} died, and the hub has {count} devices online")),
        }
    }

    /// Whether nothing is left to do.
    fn is_well(&self) -> bool {
        let quiet = |phone: &Phone| {
            let node = self.world.node_as::<DeviceNode>(phone.host);
            node.is_some_and(|node| node.is_up() && node.waiting() == 0)
                && phone.reading.is_empty()
                && phone.confirming.is_empty()
        };
        let office = self.world.node_as::<OfficeNode>(self.office);
        let app = self.world.node_as::<AppNode>(self.app);
        office.is_some_and(|office| online(office) == DEVICES)
            && self.sessions() == DEVICES
            && app.is_some_and(|app| app.is_up() && app.pending() == 0)
            && self.phones.iter().all(quiet)
            && self.judge.last_word().is_ok()
    }

    fn settled(&self) -> Result<(), String> {
        for (at, phone) in self.phones.iter().enumerate() {
            let node = self.world.node_as::<DeviceNode>(phone.host).ok_or("a device is down")?;
            if !node.is_up() {
                return Err(format!("device {at} is not logged in"));
            }
            if node.waiting() > 0 {
                return Err(format!("device {at} still has {} messages to give", node.waiting()));
            }
        }
        let office = self.world.node_as::<OfficeNode>(self.office).ok_or("the office is down")?;
        if self.sessions() != DEVICES {
            return Err(format!("the office has {} sessions of {DEVICES} devices", self.sessions()));
        }
        if online(office) != DEVICES {
            return Err(format!("the hub has {} of {DEVICES} devices online", online(office)));
        }
        if !self.asked.is_empty() {
            return Err(format!("the application was never told what became of {:?}", self.asked.keys()));
        }
        self.judge.last_word()
    }

    /// Presence tells of everybody what is so, once all is quiet.
    fn whereabouts(&mut self) -> Result<(), String> {
        let names: Vec<String> = USERS.iter().map(|(name, _)| (*name).to_owned()).collect();
        self.world.with(self.app, |node, _| app_of(node).query(&names).map(drop));
        let next = self.world.now() + Duration::from_secs(5);
        self.world.run_until(next);
        let events = self.world.take_events(self.app);
        let online = events
            .iter()
            .filter(|(_, event)| event.kind() == EventKind::Presence && event.u64(Field::Online) == Some(1));
        match online.count() {
            3 => Ok(()),
            count => Err(format!("presence says that {count} of 3 users are there: {events:?}")),
        }
    }

    fn send(&mut self, users: &[usize], octets: u32) -> Result<(), String> {
        let letter = ("app:news".to_owned(), self.written);
        let mut body = format!("app {} ", self.written).into_bytes();
        body.resize(body.len() + octets as usize, b'.');
        let named = users.iter().map(|user| Address::User(USERS[*user].0.to_owned())).collect();
        let message = Message {
            id: String::new(),
            from: None,
            to: To::Named(named),
            kind: if users.len() > 1 { Kind::Directed } else { Kind::One },
            store: true,
            ttl: TTL,
            period: None,
            content_type: "text/plain".to_owned(),
            body,
        };
        if let Some(sent) = self.world.with(self.app, |node, _| app_of(node).send(message)) {
            let id = sent.map_err(|fault| format!("the application takes no message: {fault}"))?;
            self.written += 1;
            self.asked.insert(id, (letter, users.to_vec()));
        }
        self.listen()
    }

    fn act(&mut self, what: &What) -> Result<Option<(u32, Later)>, String> {
        let now = self.world.now();
        match what {
            What::Put { device, users, octets } => self.put(*device, users, *octets)?,
            What::Confirm { device, all } => self.confirm(*device, *all)?,
            What::CrashOffice { point, how, down } => {
                self.world.crash_at(self.office, *point, *how);
                // If nothing comes in, it goes down all the same.
                self.run_until(now + Duration::from_millis(50))?;
                self.world.crash(self.office, *how);
                return Ok(Some((*down + 50, Later::BootOffice)));
            }
            What::CrashDevice { device, point, how, down } => {
                let host = self.phones[*device].host;
                self.world.crash_at(host, *point, *how);
                self.run_until(now + Duration::from_millis(50))?;
                self.world.crash(host, *how);
                return Ok(Some((*down + 50, Later::BootDevice(*device))));
            }
            What::Send { users, octets } => self.send(users, *octets)?,
            What::BreakApp => self.world.break_streams(self.app),
            What::CrashApp { down } => {
                // It keeps nothing: what was not answered may have been taken, or not.
                self.world.crash(self.app, Crash::Process);
                self.asked.clear();
                return Ok(Some((*down, Later::BootApp)));
            }
            What::Partition { device, lasts } => {
                for holder in self.holders() {
                    self.world.partition(self.phones[*device].host, holder);
                }
                return Ok(Some((*lasts, Later::Heal(*device))));
            }
            What::NetworkChanged { device } => {
                let host = self.phones[*device].host;
                self.world.with(host, |node, now| node.handle(now, hailpost::io::Input::NetworkChanged));
            }
            What::Clock { device, days } => {
                let host = device.map_or(self.office, |device| self.phones[device].host);
                self.world.set_clock(host, days * 86_400);
            }
            What::StoreFails { lasts } => {
                self.store_fails.store(true, Ordering::Relaxed);
                return Ok(Some((*lasts, Later::StoreWorks)));
            }
            What::Network(conditions) => self.world.conditions(*conditions),
            What::CrashBroker { broker, point, how, down } => {
                let host = self.brokers[*broker];
                self.world.crash_at(host, *point, *how);
                self.run_until(now + Duration::from_millis(50))?;
                self.world.crash(host, *how);
                return Ok(Some((*down + 50, Later::BootBroker(*broker))));
            }
            What::CutBroker { broker, lasts } => {
                self.world.partition(self.brokers[*broker], self.office);
                return Ok(Some((*lasts, Later::HealBroker(*broker))));
            }
            What::BreakBroker { broker } => self.world.break_streams(self.brokers[*broker]),
            What::MoveDevice { device, to } => {
                let host = self.phones[*device].host;
                let home = self.brokers.get(*to).copied().unwrap_or(self.office);
                self.world.route(host, home, Transport::Datagram, PORT, None);
                self.world.with(host, |node, now| node.handle(now, hailpost::io::Input::NetworkChanged));
            }
        }
        self.listen()?;
        Ok(None)
    }

    fn after(&mut self, what: &Later) {
        match what {
            Later::BootOffice => self.world.boot(self.office),
            Later::BootApp => self.world.boot(self.app),
            Later::BootDevice(device) => self.world.boot(self.phones[*device].host),
            Later::Heal(device) => {
                for holder in self.holders() {
                    self.world.heal(self.phones[*device].host, holder);
                }
            }
            Later::BootBroker(broker) => self.world.boot(self.brokers[*broker]),
            Later::HealBroker(broker) => self.world.heal(self.brokers[*broker], self.office),
            Later::StoreWorks => self.store_fails.store(false, Ordering::Relaxed),
        }
    }

    /// Who holds sessions.
    fn holders(&self) -> Vec<HostId> {
        self.brokers.iter().copied().chain([self.office]).collect()
    }

    fn put(&mut self, device: usize, users: &[usize], octets: u32) -> Result<(), String> {
        let phone = &mut self.phones[device];
        let letter = (format!("user:{}/{device}", USERS[phone.user].0), phone.given);
        let mut body = format!("{device} {} ", phone.given).into_bytes();
        body.resize(body.len() + octets as usize, b'.');
        let to = To::Named(users.iter().map(|user| Address::User(USERS[*user].0.to_owned())).collect());
        let put = self.world.with(phone.host, |node, now| {
            let node = device_of(node);
            // What it says of it comes in this very turn, and must find the name.
            node.put(now, to, true, TTL, "text/plain", body)
        });
        if let Some(number) = put {
            let number = number.map_err(|fault| format!("device {device} takes no message: {fault}"))?;
            self.phones[device].given += 1;
            self.phones[device].names.insert(number, (letter, users.to_vec()));
        }
        self.listen()
    }

    fn confirm(&mut self, device: usize, all: bool) -> Result<(), String> {
        self.listen()?;
        let reading = std::mem::take(&mut self.phones[device].reading);
        let host = self.phones[device].host;
        for (sequence, letter) in reading {
            if !all && self.rng.below(2) == 0 {
                self.phones[device].reading.push((sequence, letter));
                continue;
            }
            self.phones[device].confirming.insert(sequence, letter);
            let done = self.world.with(host, |node, _| device_of(node).confirm(sequence));
            if let Some(Err(fault)) = done {
                return Err(format!("device {device} cannot confirm {sequence}: {fault}"));
            }
        }
        self.listen()
    }

    fn run_until(&mut self, end: Time) -> Result<(), String> {
        self.world.run_until(end);
        if let Some(problem) = self.world.problem() {
            return Err(problem.to_owned());
        }
        self.listen()
    }

    /// Takes what the devices said.
    fn listen(&mut self) -> Result<(), String> {
        for host in self.holders() {
            self.world.take_events(host);
        }
        let life = self.world.life(self.app);
        for (_, event) in self.world.take_events(self.app).into_iter().filter(|(of, _)| *of == life) {
            if event.kind() == EventKind::Answered
                && let Some((letter, users)) = self.asked.remove(event.text(Field::Id).unwrap_or_default())
            {
                if event.u64(Field::Code) != Some(200) {
                    return Err(format!("the application is told {event:?}"));
                }
                self.owe(letter, &users);
            }
        }
        for at in 0..DEVICES {
            for (life, event) in self.world.take_events(self.phones[at].host) {
                self.began(at, life);
                self.heard(at, &event)?;
            }
            let life = self.world.life(self.phones[at].host);
            self.began(at, life);
        }
        Ok(())
    }

    /// The office said that it keeps this for all devices of these users.
    fn owe(&mut self, letter: Letter, users: &[usize]) {
        let is_receiver = |phone: &Phone| users.contains(&phone.user);
        let inboxes = self.phones.iter().enumerate().filter(|(_, phone)| is_receiver(phone));
        let inboxes: Vec<u32> = inboxes.map(|(at, _)| at as u32).collect();
        self.judge.acknowledged(letter, &inboxes);
    }

    fn began(&mut self, at: usize, life: u32) {
        let phone = &mut self.phones[at];
        if std::mem::replace(&mut phone.life, life) != life && life > 1 {
            phone.reading.clear();
            phone.confirming.clear();
            phone.up = false;
            self.judge.device_died(at as u32);
        }
    }

    fn heard(&mut self, at: usize, event: &Event) -> Result<(), String> {
        let number = |field| event.u64(field).ok_or_else(|| format!("{event:?} has no {field:?}"));
        let phone = &mut self.phones[at];
        match event.kind() {
            EventKind::LoggedIn => phone.up = true,
            EventKind::Down => phone.up = false,
            EventKind::Message => {
                let body = event.bytes(Field::Body).ok_or("no body")?;
                let text = String::from_utf8_lossy(body);
                let mut words = text.split(' ');
                let (from, given) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
                let given = given.parse().map_err(|_| format!("another body: {text:?}"))?;
                let (sender, name) = match from.parse::<usize>() {
                    Ok(device) => {
                        let owner = USERS[self.phones[device].user].0;
                        (format!("user:{owner}"), format!("user:{owner}/{device}"))
                    }
                    Err(_) => ("app:news".to_owned(), "app:news".to_owned()),
                };
                if event.text(Field::Sender) != Some(&sender) {
                    return Err(format!("a message of {sender} comes from {:?}", event.text(Field::Sender)));
                }
                let letter = (name, given);
                let redelivered = number(Field::Redelivered)? != 0;
                self.judge.shown(at as u32, letter.clone(), redelivered)?;
                self.phones[at].reading.push((number(Field::Sequence)?, letter));
            }
            EventKind::Confirmed => {
                if let Some(letter) = phone.confirming.remove(&number(Field::Sequence)?) {
                    self.judge.confirmed(at as u32, letter);
                }
            }
            EventKind::Stored => self.judge.stored(at as u32, number(Field::Number)?),
            EventKind::Accepted => {
                let number = number(Field::Number)?;
                self.judge.ended(at as u32, number)?;
                let (letter, users) = phone.names.get(&number).cloned().ok_or("an end of nothing")?;
                self.owe(letter, &users);
            }
            EventKind::Rejected | EventKind::Expired => {
                return Err(format!("device {at} is told {:?}", event));
            }
            _ => {}
        }
        Ok(())
    }
}

/// A disk that fails while it is told to.
struct Flaky {
    inner: Box<dyn Store>,
    fails: Arc<AtomicBool>,
}

impl Store for Flaky {
    fn submit(&mut self, batch: Batch) {
        self.inner.submit(batch);
    }

    fn commit(&mut self) -> Result<u64, Fault> {
        match self.fails.load(Ordering::Relaxed) {
            true => Err(Fault::new(Status::Store, "the disk is full")),
            false => self.inner.commit(),
        }
    }

    fn is_dirty(&self) -> bool {
        self.inner.is_dirty()
    }

    fn ask(&mut self, fetch: Fetch) {
        self.inner.ask(fetch);
    }

    fn answer(&mut self) -> Option<Fetched> {
        self.inner.answer()
    }

    fn load(&self, table: Table, row: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Fault> {
        self.inner.load(table, row)
    }
}

/// Devices that the hub takes for online. The application was there first, and has the first inbox.
fn online(office: &OfficeNode) -> usize {
    (0..DEVICES).filter(|at| office.hub().seat(Inbox(*at as u32 + 2)).is_some()).count()
}

fn office_of(node: &mut dyn Node) -> &mut OfficeNode {
    let any: &mut dyn std::any::Any = node;
    any.downcast_mut().expect("the office is an office")
}

fn app_of(node: &mut dyn Node) -> &mut AppNode {
    let any: &mut dyn std::any::Any = node;
    any.downcast_mut().expect("the application is an application")
}

fn device_of(node: &mut dyn Node) -> &mut DeviceNode {
    let any: &mut dyn std::any::Any = node;
    any.downcast_mut().expect("a device is a device")
}
