//! Lets a plan happen.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use hailpost::{
    io::Transport,
    node::{AppNode, DeviceNode, Event, EventKind, Field, Node, OfficeNode},
    rng::{Entropy, Seeded},
    time::Time,
    wire::app::{Address, Kind, Message, To},
};

use super::{
    Roles,
    balanced::Given,
    brokers,
    defects::Defect,
    house::{House, PORT},
    judge::{Judge, Letter},
    plan::{DEVICES, Step, TROUBLE, USERS, What, Who},
};
use crate::sim::{Conditions, Crash, HostId, Trace};

/// How long after the trouble all must be well: pauses between tries have grown to ten minutes by then, and which of three brokers
/// lets a device in it finds by trying.
const SETTLE: Duration = Duration::from_secs(2000);
/// In how long all get a message that is given when all is well.
const PROMPT: Duration = Duration::from_secs(60);
/// Messages do not grow old in a run, although clocks are wrong by ten days.
const TTL: u32 = 25 * 86_400;

#[derive(Default)]
struct Phone {
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
    house: House,
    roles: Roles,
    rng: Seeded,
    /// Messages of the application that are not answered, with who gets them.
    asked: BTreeMap<String, (Letter, Vec<usize>)>,
    written: u64,
    phones: Vec<Phone>,
    judge: Judge,
    given: Given,
}

/// What happens by itself after a step.
enum Later {
    Boot(Who),
    Heal(Vec<(HostId, HostId)>),
    StoreWorks(usize),
    /// A broker that drains stops, and is back after so long.
    Stop(usize, u32),
}

pub fn run(
    seed: u64,
    defect: Option<Defect>,
    roles: Roles,
    steps: &[Step],
    trace: &Trace,
) -> Result<(), String> {
    let mut run = Run::new(seed, defect, roles, trace.clone())?;
    run.play(steps)?;
    match roles {
        Roles::Whole | Roles::Rooms => Ok(()),
        Roles::Apart | Roles::Balanced => run.one_leaves(),
    }
}

impl Run {
    fn new(seed: u64, defect: Option<Defect>, roles: Roles, trace: Trace) -> Result<Run, String> {
        let mut house = House::new(seed, defect, roles, trace)?;
        let rng = Seeded::new(house.world.rng().next_u64());
        let phones = (0..DEVICES).map(|_| Phone::default()).collect();
        let (asked, written, judge, given) = (BTreeMap::new(), 0, Judge::default(), Given::new(&house));
        Ok(Run { house, roles, rng, asked, written, phones, judge, given })
    }

    fn play(&mut self, steps: &[Step]) -> Result<(), String> {
        self.house.boot_all();
        let begun = self.house.world.now();
        let mut later: BTreeMap<(u32, usize), Later> = BTreeMap::new();
        let mut steps = steps.iter().peekable();
        let mut order = 0;
        loop {
            let step = steps.peek().map(|step| step.at);
            let due = later.keys().next().map(|(at, _)| *at);
            let Some(at) = step.into_iter().chain(due).min() else { break };
            self.run_until(begun + Duration::from_millis(at.into()))?;
            let follows = if due.is_some_and(|due| due <= at) {
                let (_, what) = later.pop_first().expect("it was there");
                self.after(what)
            } else {
                self.act(&steps.next().expect("it is the next").what)?
            };
            if let Some((lasts, what)) = follows {
                order += 1;
                later.insert((at + lasts, order), what);
            }
        }
        // All is healed, and everybody deals with everything.
        self.run_until(begun + Duration::from_millis(TROUBLE.into()))?;
        self.house.world.conditions(Conditions::CALM);
        self.house.boot_all();
        if self.roles == Roles::Balanced {
            self.leave_some();
        }
        let end = self.house.world.now() + SETTLE;
        while self.house.world.now() < end {
            for at in 0..DEVICES {
                self.confirm(at, true)?;
            }
            if self.is_well() {
                break;
            }
            let next = self.house.world.now() + Duration::from_secs(10);
            self.run_until(next)?;
        }
        self.settled()?;
        self.whereabouts()?;
        self.everybody_writes()
    }

    /// All is well, so what is given now comes soon: who is said to be online is where it is said to be.
    fn everybody_writes(&mut self) -> Result<(), String> {
        self.send(&[0, 1, 2], 10)?;
        for device in 0..DEVICES {
            self.put(device, &[0, 1, 2], 10)?;
        }
        let end = self.house.world.now() + PROMPT;
        while self.house.world.now() < end && !self.is_well() {
            let next = self.house.world.now() + Duration::from_secs(2);
            self.run_until(next)?;
            for at in 0..DEVICES {
                self.confirm(at, true)?;
            }
        }
        self.settled()
    }

    /// Of the brokers some die for good and some drain for good, and one at least is as it should be; now and then a
    /// device reaches that one only.
    fn leave_some(&mut self) {
        let brokers = self.house.brokers.clone();
        let good = self.rng.below(brokers.len() as u32) as usize;
        for (at, broker) in brokers.into_iter().enumerate().filter(|(at, _)| *at != good) {
            match self.rng.below(3) {
                0 => self.house.world.crash(broker, Crash::Power),
                1 => self.drain(at),
                _ => {}
            }
        }
        if self.rng.below(3) == 0 {
            let device = Who::Device(self.rng.below(DEVICES as u32) as usize);
            let others = (0..self.house.brokers.len()).filter(|at| *at != good).map(Who::Broker);
            let pairs = others.map(|other| (self.house.host(device), self.house.host(other)));
            self.cut(pairs.collect());
        }
    }

    fn drain(&mut self, broker: usize) {
        brokers::drain(&mut self.house.world, self.house.brokers[broker]);
        self.given.drained(&self.house, broker);
    }

    /// Sessions at the hub's own link and at brokers.
    fn sessions(&self) -> usize {
        let House { world, offices, brokers, .. } = &self.house;
        let of_office =
            |host: &HostId| world.node_as::<OfficeNode>(*host).map_or(0, |office| office.server().len());
        let sessions = |host: &HostId| brokers::node(world, *host).map_or(0, |node| node.server().len());
        offices.iter().map(of_office).sum::<usize>() + brokers.iter().map(sessions).sum::<usize>()
    }

    /// Devices that the hubs take for online.
    fn online(&self) -> usize {
        let House { world, offices, homes, .. } = &self.house;
        let is_online = |(room, inbox): &&(usize, _)| {
            world
                .node_as::<OfficeNode>(offices[*room])
                .is_some_and(|office| office.hub().seat(*inbox).is_some())
        };
        homes.iter().filter(is_online).count()
    }

    /// What a user is called in a room.
    fn user(&self, user: usize, here: usize) -> String {
        self.roles.called(USERS[user].0, self.roles.home(user), here)
    }

    /// All is well, and then a device dies, and its broker with it, which is back before anybody noticed.
    fn one_leaves(&mut self) -> Result<(), String> {
        let device = self.rng.below(DEVICES as u32) as usize;
        self.house.world.crash(self.house.devices[device], Crash::Power);
        for broker in self.house.brokers.clone() {
            if self.house.world.is_up(broker) && self.rng.below(2) == 0 {
                self.house.world.crash(broker, Crash::Process);
                self.house.world.boot(broker);
            }
        }
        self.given.note(&self.house, false);
        for _ in 0..20 {
            let next = self.house.world.now() + Duration::from_secs(10);
            self.run_until(next)?;
        }
        let count = self.online();
        if count != DEVICES - 1 {
            return Err(format!("device {device} died, and the hub has {count} devices online"));
        }
        match self.given.astray(&self.house)[..] {
            [] => Ok(()),
            [only] if only == device => Ok(()),
            ref astray => Err(format!("device {device} died, and devices {astray:?} are at no broker")),
        }
    }

    /// Whether nothing is left to do.
    fn is_well(&self) -> bool {
        let quiet = |(phone, host): (&Phone, &HostId)| {
            let node = self.house.world.node_as::<DeviceNode>(*host);
            node.is_some_and(|node| node.is_up() && node.waiting() == 0)
                && phone.reading.is_empty()
                && phone.confirming.is_empty()
        };
        let is_empty = |host: &HostId| {
            let office = self.house.world.node_as::<OfficeNode>(*host);
            office.is_some_and(|office| office.hub().waiting_count() == 0 && is_linked(office))
        };
        let app = self.house.world.node_as::<AppNode>(self.house.app);
        self.online() == DEVICES
            && self.house.offices.iter().all(is_empty)
            && self.sessions() == DEVICES
            && app.is_some_and(|app| app.is_up() && app.pending() == 0)
            && self.phones.iter().zip(&self.house.devices).all(quiet)
            && self.given.astray(&self.house).is_empty()
            && self.judge.last_word().is_ok()
    }

    fn settled(&self) -> Result<(), String> {
        for (at, host) in self.house.devices.iter().enumerate() {
            let node = self.house.world.node_as::<DeviceNode>(*host).ok_or("a device is down")?;
            if !node.is_up() {
                return Err(format!("device {at} is not logged in"));
            }
            if node.waiting() > 0 {
                return Err(format!("device {at} still has {} messages to give", node.waiting()));
            }
        }
        if self.sessions() != DEVICES {
            return Err(format!("the office has {} sessions of {DEVICES} devices", self.sessions()));
        }
        if self.online() != DEVICES {
            return Err(format!("the hub has {} of {DEVICES} devices online", self.online()));
        }
        for host in &self.house.offices {
            let office = self.house.world.node_as::<OfficeNode>(*host).ok_or("an office is down")?;
            let kept = office.hub().waiting_count();
            if kept > 0 {
                return Err(format!("all is confirmed, and the hub still keeps {kept} messages"));
            }
            if !is_linked(office) {
                return Err(format!("rooms do not reach each other: {:?}", office.room_list()));
            }
        }
        let astray = self.given.astray(&self.house);
        if !astray.is_empty() {
            return Err(format!("devices {astray:?} are at no broker that lives and does not drain"));
        }
        if !self.asked.is_empty() {
            return Err(format!("the application was never told what became of {:?}", self.asked.keys()));
        }
        self.judge.last_word()
    }

    /// Presence tells of everybody what is so, once all is quiet; who moves to another broker just then is there soon after.
    fn whereabouts(&mut self) -> Result<(), String> {
        let first = self.presence();
        self.run_until(self.house.world.now() + Duration::from_secs(10))?;
        first.or_else(|_| self.presence())
    }

    fn presence(&mut self) -> Result<(), String> {
        let names: Vec<String> = (0..USERS.len()).map(|user| self.user(user, 0)).collect();
        self.house.world.with(self.house.app, |node, _| app_of(node).query(&names).map(drop));
        let next = self.house.world.now() + Duration::from_secs(5);
        self.house.world.run_until(next);
        let events = self.house.world.take_events(self.house.app);
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
        let named = users.iter().map(|user| Address::User(self.user(*user, 0))).collect();
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
        if let Some(sent) = self.house.world.with(self.house.app, |node, _| app_of(node).send(message)) {
            let id = sent.map_err(|fault| format!("the application takes no message: {fault}"))?;
            self.written += 1;
            self.asked.insert(id, (letter, users.to_vec()));
        }
        self.listen()
    }

    fn act(&mut self, what: &What) -> Result<Option<(u32, Later)>, String> {
        let now = self.house.world.now();
        match what {
            What::Put { device, users, octets } => self.put(*device, users, *octets)?,
            What::Confirm { device, all } => self.confirm(*device, *all)?,
            What::Crash { who, point, how, down } => {
                let host = self.house.host(*who);
                self.house.world.crash_at(host, *point, *how);
                // If nothing comes in, it goes down all the same.
                self.run_until(now + Duration::from_millis(50))?;
                self.house.world.spare(host);
                self.house.world.crash(host, *how);
                if *who == Who::App {
                    // It keeps nothing: what was not answered may have been taken, or not.
                    self.asked.clear();
                }
                return Ok(Some((*down + 50, Later::Boot(*who))));
            }
            What::Send { users, octets } => self.send(users, *octets)?,
            What::Break { who } => self.house.world.break_streams(self.house.host(*who)),
            What::Cut { between: (one, other), lasts } => {
                let pair = (self.house.host(*one), self.house.host(*other));
                return Ok(Some((*lasts, self.cut(vec![pair]))));
            }
            What::Silence { who, lasts } => {
                let host = self.house.host(*who);
                let others = self.house.all().into_iter().filter(|other| *other != host);
                return Ok(Some((*lasts, self.cut(others.map(|other| (host, other)).collect()))));
            }
            What::NetworkChanged { device } => {
                let host = self.house.devices[*device];
                self.house
                    .world
                    .with(host, |node, now| node.handle(now, hailpost::io::Input::NetworkChanged));
            }
            What::Clock { who, days } => {
                self.house.world.set_clock(self.house.host(*who), days * 86_400);
            }
            What::StoreFails { who, lasts } => {
                let room = usize::from(*who == Who::Other);
                self.house.store_fails[room].store(true, Ordering::Relaxed);
                return Ok(Some((*lasts, Later::StoreWorks(room))));
            }
            What::Network(conditions) => self.house.world.conditions(*conditions),
            What::Upgrade { broker, drains, down } => {
                self.drain(*broker);
                return Ok(Some((*drains, Later::Stop(*broker, *down))));
            }
            What::MoveDevice { device, to } => {
                let host = self.house.devices[*device];
                let home = self.house.brokers.get(*to).copied().unwrap_or(self.house.office);
                self.house.world.route(host, home, Transport::Datagram, PORT, None);
                self.house
                    .world
                    .with(host, |node, now| node.handle(now, hailpost::io::Input::NetworkChanged));
            }
        }
        self.listen()?;
        Ok(None)
    }

    fn cut(&mut self, pairs: Vec<(HostId, HostId)>) -> Later {
        pairs.iter().for_each(|(one, other)| self.house.world.partition(*one, *other));
        Later::Heal(pairs)
    }

    fn after(&mut self, what: Later) -> Option<(u32, Later)> {
        match what {
            Later::Boot(who) => self.house.world.boot(self.house.host(who)),
            Later::Heal(pairs) => {
                // What was on its way meanwhile arrives now.
                self.given.note(&self.house, true);
                pairs.into_iter().for_each(|(one, other)| self.house.world.heal(one, other));
            }
            Later::StoreWorks(room) => self.house.store_fails[room].store(false, Ordering::Relaxed),
            Later::Stop(broker, down) => {
                self.house.world.crash(self.house.brokers[broker], Crash::Process);
                return Some((down, Later::Boot(Who::Broker(broker))));
            }
        }
        self.given.note(&self.house, false);
        None
    }

    fn put(&mut self, device: usize, users: &[usize], octets: u32) -> Result<(), String> {
        let (here, phone) = (self.house.homes[device].0, &self.phones[device]);
        let letter = (format!("user:{}/{device}", USERS[self.house.owners[device]].0), phone.given);
        let mut body = format!("{device} {} ", phone.given).into_bytes();
        body.resize(body.len() + octets as usize, b'.');
        let to = To::Named(users.iter().map(|user| Address::User(self.user(*user, here))).collect());
        let put = self.house.world.with(self.house.devices[device], |node, now| {
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
        let host = self.house.devices[device];
        for (sequence, letter) in reading {
            if !all && self.rng.below(2) == 0 {
                self.phones[device].reading.push((sequence, letter));
                continue;
            }
            self.phones[device].confirming.insert(sequence, letter);
            let done = self.house.world.with(host, |node, _| device_of(node).confirm(sequence));
            if let Some(Err(fault)) = done {
                return Err(format!("device {device} cannot confirm {sequence}: {fault}"));
            }
        }
        self.listen()
    }

    fn run_until(&mut self, end: Time) -> Result<(), String> {
        self.house.world.run_until(end);
        if let Some(problem) = self.house.world.problem() {
            return Err(problem.to_owned());
        }
        self.listen()
    }

    /// Takes what the devices said.
    fn listen(&mut self) -> Result<(), String> {
        self.given.judge(&self.house)?;
        let House { brokers, offices, balancer, .. } = &self.house;
        for host in brokers.iter().chain(offices).chain(balancer).copied().collect::<Vec<_>>() {
            self.house.world.take_events(host);
        }
        let life = self.house.world.life(self.house.app);
        for (_, event) in
            self.house.world.take_events(self.house.app).into_iter().filter(|(of, _)| *of == life)
        {
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
            for (life, event) in self.house.world.take_events(self.house.devices[at]) {
                self.began(at, life);
                self.heard(at, &event)?;
            }
            let life = self.house.world.life(self.house.devices[at]);
            self.began(at, life);
        }
        Ok(())
    }

    /// The office said that it keeps this for all devices of these users.
    fn owe(&mut self, letter: Letter, users: &[usize]) {
        let inboxes = self.house.owners.iter().enumerate().filter(|(_, owner)| users.contains(owner));
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
                let here = self.house.homes[at].0;
                let (sender, name) = match from.parse::<usize>() {
                    Ok(device) => {
                        let owner = self.house.owners[device];
                        let name = format!("user:{}/{device}", USERS[owner].0);
                        (format!("user:{}", self.user(owner, here)), name)
                    }
                    Err(_) => (self.roles.called("app:news", 0, here), "app:news".to_owned()),
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

/// Whether all other rooms are there.
fn is_linked(office: &OfficeNode) -> bool {
    office.room_list().iter().all(|room| room.is_up && room.is_here)
}

fn app_of(node: &mut dyn Node) -> &mut AppNode {
    let any: &mut dyn std::any::Any = node;
    any.downcast_mut().expect("the application is an application")
}

fn device_of(node: &mut dyn Node) -> &mut DeviceNode {
    let any: &mut dyn std::any::Any = node;
    any.downcast_mut().expect("a device is a device")
}
