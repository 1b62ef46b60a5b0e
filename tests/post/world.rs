//! A hub, applications, and devices on links that break, on a clock of their own.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use hailpost::{
    post::{
        Inbox, Seat,
        device::{self, Device, DeviceConfig, DeviceEvent, DeviceOutput},
        hub::{self, Hub, HubConfig, HubOutput, Rights, Sender},
    },
    rng::{Entropy, Seeded},
    store::{Memory, Store},
    time::Time,
    wire::{
        app::{Address, Kind, Message, State, To},
        post::{Frame, Sequence},
    },
};

use crate::judge::{Judge, Letter};

const UNIX: u64 = 1_700_000_000;
const USERS: [&str; 3] = ["anna", "ben", "carl"];
/// No message expires in a run: what is owed is owed to the end.
const TTL: u32 = 86_400;

/// What is done wrong on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Defect {
    /// The hub is told that all is durable before it is.
    AcknowledgeEarly,
    /// A restarted hub finds its log empty.
    DropOnRestart,
    /// A device that restarts has forgotten what it confirmed.
    ForgetConfirmed,
    /// A device is told that its confirmation is durable before it is.
    ConfirmEarly,
    /// A frame is delivered twice by the link.
    Double,
    /// Two frames change places on the link.
    Swap,
    /// A confirmation reaches the hub for a message next to the one that was meant.
    ConfirmAnother,
}

impl Defect {
    pub const ALL: [Defect; 7] = [
        Defect::AcknowledgeEarly,
        Defect::DropOnRestart,
        Defect::ForgetConfirmed,
        Defect::ConfirmEarly,
        Defect::Double,
        Defect::Swap,
        Defect::ConfirmAnother,
    ];
}

struct Phone {
    inbox: Inbox,
    user: &'static str,
    node: Device,
    store: Memory,
    /// The session, while there is one.
    seat: Option<Seat>,
    up: VecDeque<Frame>,
    down: VecDeque<Frame>,
    /// Shown, and not confirmed by its owner.
    reading: Vec<(Sequence, Letter)>,
    /// Confirmed by its owner, and not durable.
    confirming: BTreeMap<Sequence, Letter>,
    sent: u64,
    /// What numbers of ours are called by the judge.
    names: BTreeMap<u64, (Letter, Vec<u32>)>,
}

pub struct World {
    rng: Seeded,
    now: Time,
    defect: Option<Defect>,
    hub: Hub,
    store: Memory,
    app: Sender,
    app_sent: u64,
    /// By id, the inboxes of who gets it.
    asked: BTreeMap<u64, Vec<u32>>,
    phones: Vec<Phone>,
    next_seat: u32,
    pub judge: Judge,
}

fn open_hub(store: &Memory, now: Time, seed: u64) -> Hub {
    let config = HubConfig { window: 4, max_cached: 2, max_messages: 100_000, ..HubConfig::default() };
    let unix = UNIX + now.as_micros() / 1_000_000;
    Hub::open(config, hub::Open { now, unix, rng: Box::new(Seeded::new(seed)) }, store)
        .expect("memory never fails")
}

fn open_device(store: &Memory, now: Time, seed: u64) -> Device {
    let unix = UNIX + now.as_micros() / 1_000_000;
    let config = DeviceConfig { window: 3, ..DeviceConfig::default() };
    let open = device::Open { now, unix, rng: Box::new(Seeded::new(seed)) };
    Device::open(config, open, store).expect("memory never fails")
}

impl World {
    pub fn new(seed: u64, defect: Option<Defect>) -> World {
        let store = Memory::default();
        let mut rng = Seeded::new(seed);
        let hub = open_hub(&store, Time::ZERO, rng.next_u64());
        let rights = Rights { send: true, broadcast: true, query: true };
        let app = Sender::App { name: "news".into(), rights, seat: Seat::here(1) };
        let mut world = World {
            rng,
            now: Time::ZERO,
            defect,
            hub,
            store,
            app,
            app_sent: 0,
            asked: BTreeMap::new(),
            phones: Vec::new(),
            next_seat: 1000,
            judge: Judge::default(),
        };
        world.hub.add_app("news", rights).expect("it is new");
        for (number, user) in USERS.into_iter().enumerate() {
            world.hub.add_user(user).expect("the name is good");
            for device in 0..=number % 2 {
                let enrolled = world.hub.add_device(user, [device as u8; 16], 0).expect("the user is there");
                // Before anything breaks.
                let mut inbox = None;
                world.quiet(&mut inbox);
                world.hub.authenticate(1, enrolled.session);
                world.quiet(&mut inbox);
                let store = Memory::default();
                let node = open_device(&store, Time::ZERO, world.rng.next_u64());
                world.phones.push(Phone {
                    inbox: inbox.expect("it was enrolled"),
                    user,
                    node,
                    store,
                    seat: None,
                    up: VecDeque::new(),
                    down: VecDeque::new(),
                    reading: Vec::new(),
                    confirming: BTreeMap::new(),
                    sent: 0,
                    names: BTreeMap::new(),
                });
            }
        }
        world
    }

    /// Lets the hub finish.
    fn quiet(&mut self, inbox: &mut Option<Inbox>) {
        loop {
            while let Some(output) = self.hub.poll_output(self.now) {
                match output {
                    HubOutput::Store(batch) => self.store.submit(batch),
                    HubOutput::Fetch(fetch) => self.store.ask(fetch),
                    HubOutput::Authenticated { credential, .. } => {
                        *inbox = credential.map(|credential| credential.inbox);
                    }
                    _ => {}
                }
            }
            if let Some(fetched) = self.store.answer() {
                self.hub.fetched(self.now, fetched);
            } else if self.store.is_dirty() {
                let through = self.store.commit().expect("memory never fails");
                self.hub.stored(self.now, through);
            } else {
                return;
            }
        }
    }

    /// A while of an ordinary bad day.
    pub fn live(&mut self) -> Result<(), String> {
        let steps = 150 + self.rng.below(250);
        for _ in 0..steps {
            self.now += Duration::from_millis(self.rng.below(2000).into());
            self.step()?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), String> {
        let at = self.rng.below(self.phones.len() as u32) as usize;
        match self.rng.below(100) {
            0..12 => self.app_sends(),
            12..20 => self.phone_sends(at),
            20..32 => self.connect(at),
            32..36 => self.disconnect(at),
            36..38 => self.crash_hub(),
            38..40 => self.crash_phone(at),
            40..55 => self.read(at),
            55..65 => {
                let commit = self.defect == Some(Defect::AcknowledgeEarly) && self.store.is_dirty();
                match commit {
                    // It says so, and forgets.
                    true => self.hub.stored(self.now, u64::MAX),
                    false => {
                        let through = self.store.commit().expect("memory never fails");
                        self.hub.stored(self.now, through);
                    }
                }
            }
            65..75 => self.commit_phone(at),
            75..77 => {
                self.now += Duration::from_secs(60);
                self.hub.handle_deadline(self.now);
            }
            _ => self.carry(at),
        }
        self.drain()
    }

    /// Everything works again, and what is under way arrives.
    pub fn heal(&mut self) -> Result<(), String> {
        let defect = self.defect.take();
        for at in 0..self.phones.len() {
            self.disconnect(at);
        }
        self.crash_hub();
        for _ in 0..2000 {
            self.now += Duration::from_millis(500);
            self.hub.handle_deadline(self.now);
            for at in 0..self.phones.len() {
                self.connect(at);
                while self.phones[at].up.len() + self.phones[at].down.len() > 0 {
                    self.carry(at);
                    self.drain()?;
                }
                self.phones[at].node.handle_deadline(self.now);
                self.read(at);
                self.commit_phone(at);
                self.drain()?;
            }
            let through = self.store.commit().expect("memory never fails");
            self.hub.stored(self.now, through);
            self.drain()?;
            let quiet = |phone: &Phone| {
                phone.up.is_empty()
                    && phone.down.is_empty()
                    && phone.reading.is_empty()
                    && phone.confirming.is_empty()
                    && phone.node.waiting() == 0
                    && !phone.store.is_dirty()
            };
            if self.phones.iter().all(quiet) && !self.store.is_dirty() {
                self.defect = defect;
                return Ok(());
            }
        }
        Err("it does not come to rest".to_owned())
    }

    fn inboxes(&self, user: &str) -> Vec<u32> {
        self.phones.iter().filter(|phone| phone.user == user).map(|phone| phone.inbox.0).collect()
    }

    fn app_sends(&mut self) {
        let mut named: Vec<&str> = Vec::new();
        for _ in 0..1 + self.rng.below(2) {
            let user = USERS[self.rng.below(USERS.len() as u32) as usize];
            if !named.contains(&user) {
                named.push(user);
            }
        }
        // Sometimes the same once more, as a sender does that was not answered.
        if self.rng.below(5) > 0 || self.app_sent == 0 {
            self.app_sent += 1;
            let inboxes = named.iter().flat_map(|user| self.inboxes(user)).collect();
            self.asked.insert(self.app_sent, inboxes);
        } else {
            let again = &self.asked[&self.app_sent];
            named = USERS.into_iter().filter(|user| again.contains(&self.inboxes(user)[0])).collect();
        }
        let id = self.app_sent;
        let message = Message {
            id: id.to_string(),
            from: None,
            kind: if named.len() == 1 { Kind::One } else { Kind::Directed },
            to: To::Named(named.iter().map(|name| Address::User((*name).into())).collect()),
            store: true,
            ttl: TTL,
            period: None,
            content_type: "text/plain".into(),
            body: format!("news {id}").into_bytes(),
        };
        // An order of names of its own would make it another message.
        let To::Named(mut named) = message.to else { return };
        named.sort();
        let message = Message { to: To::Named(named), ..message };
        self.hub.take(self.now, &self.app.clone(), message);
    }

    fn phone_sends(&mut self, at: usize) {
        let user = USERS[self.rng.below(USERS.len() as u32) as usize];
        let inboxes = self.inboxes(user);
        let phone = &mut self.phones[at];
        phone.sent += 1;
        let sender = format!("phone{}", phone.inbox.0);
        let body = format!("{sender} {}", phone.sent).into_bytes();
        let to = To::Named(vec![Address::User(user.into())]);
        let number = phone.node.put(self.now, to, true, TTL, "text/plain", body).expect("there is room");
        phone.names.insert(number, ((sender, phone.sent), inboxes));
    }

    fn connect(&mut self, at: usize) {
        if self.phones[at].seat.is_some() {
            return;
        }
        self.next_seat += 1;
        let seat = Seat::here(self.next_seat);
        self.phones[at].seat = Some(seat);
        self.hub.online(self.now, self.phones[at].inbox, seat);
        self.phones[at].node.up(self.now);
    }

    fn disconnect(&mut self, at: usize) {
        let phone = &mut self.phones[at];
        if let Some(seat) = phone.seat.take() {
            self.judge.breaks += 1;
            phone.up.clear();
            phone.down.clear();
            phone.node.down();
            self.hub.offline(self.now, phone.inbox, seat);
        }
    }

    fn crash_hub(&mut self) {
        self.judge.hub_crashes += 1;
        self.store = self.store.clone();
        if self.defect == Some(Defect::DropOnRestart) {
            let mut keys = Vec::new();
            let queue = hailpost::store::Table::log("message");
            self.store.load(queue, &mut |key, _| keys.push(key.to_vec())).expect("memory never fails");
            let ops = keys.into_iter().map(|key| hailpost::store::Op::Delete { table: queue, key }).collect();
            self.store.submit(hailpost::store::Batch { ticket: 1, ops });
            self.store.commit().expect("memory never fails");
        }
        self.hub = open_hub(&self.store, self.now, self.rng.next_u64());
        for at in 0..self.phones.len() {
            let phone = &mut self.phones[at];
            if phone.seat.take().is_some() {
                phone.up.clear();
                phone.down.clear();
                phone.node.down();
            }
        }
    }

    fn crash_phone(&mut self, at: usize) {
        self.disconnect(at);
        let seed = self.rng.next_u64();
        let phone = &mut self.phones[at];
        self.judge.device_died(phone.inbox.0);
        phone.store = phone.store.clone();
        if self.defect == Some(Defect::ForgetConfirmed) {
            let all = hailpost::store::Op::DeleteRange {
                table: hailpost::store::Table::log("confirmed"),
                from: vec![0; 8],
                to: vec![0x7f; 8],
            };
            phone.store.submit(hailpost::store::Batch { ticket: 1, ops: vec![all] });
            phone.store.commit().expect("memory never fails");
        }
        phone.node = open_device(&phone.store, self.now, seed);
        phone.reading.clear();
        phone.confirming.clear();
    }

    /// The owner reads some of what is shown.
    fn read(&mut self, at: usize) {
        let phone = &mut self.phones[at];
        let count = self.rng.below(phone.reading.len() as u32 + 1) as usize;
        for (sequence, letter) in phone.reading.drain(..count) {
            phone.node.confirm(sequence).expect("it is shown");
            phone.confirming.insert(sequence, letter);
        }
        if self.defect == Some(Defect::ConfirmEarly) && count > 0 {
            phone.node.stored(self.now, u64::MAX);
        }
    }

    fn commit_phone(&mut self, at: usize) {
        let phone = &mut self.phones[at];
        let through = phone.store.commit().expect("memory never fails");
        phone.node.stored(self.now, through);
    }

    /// The link carries the next of what is under way.
    fn carry(&mut self, at: usize) {
        let phone = &mut self.phones[at];
        let Some(seat) = phone.seat else { return };
        if self.rng.below(2) == 0 {
            let queue = &mut phone.up;
            if self.defect == Some(Defect::Swap) && queue.len() > 1 {
                queue.swap(0, 1);
            }
            if let Some(mut frame) = queue.pop_front() {
                if self.defect == Some(Defect::ConfirmAnother)
                    && let Frame::Confirm(sequences) = &mut frame
                {
                    sequences.iter_mut().for_each(|sequence| sequence.0 += 1);
                }
                let inbox = phone.inbox;
                self.hub.frame(self.now, inbox, seat, frame);
            }
        } else if let Some(frame) = phone.down.pop_front() {
            if self.defect == Some(Defect::Double)
                && let Frame::Deliver(delivery) = &frame
            {
                // As an office would that numbered one message twice.
                let mut double = delivery.clone();
                double.sequence.0 += 1 << 40;
                phone.node.frame(self.now, Frame::Deliver(double));
            }
            phone.node.frame(self.now, frame);
        }
    }

    /// Everybody says what is to be said.
    fn drain(&mut self) -> Result<(), String> {
        loop {
            let mut quiet = true;
            while let Some(output) = self.hub.poll_output(self.now) {
                quiet = false;
                self.hub_output(output);
            }
            while let Some(fetched) = self.store.answer() {
                quiet = false;
                self.hub.fetched(self.now, fetched);
            }
            for at in 0..self.phones.len() {
                while let Some(output) = self.phones[at].node.poll_output() {
                    quiet = false;
                    self.phone_output(at, output)?;
                }
            }
            if quiet {
                return Ok(());
            }
        }
    }

    fn hub_output(&mut self, output: HubOutput) {
        match output {
            HubOutput::Store(batch) => self.store.submit(batch),
            HubOutput::Fetch(fetch) => self.store.ask(fetch),
            HubOutput::Send { seat, inbox, frame } => {
                let phone =
                    self.phones.iter_mut().find(|phone| phone.inbox == inbox && phone.seat == Some(seat));
                if let Some(phone) = phone {
                    phone.down.push_back(frame);
                }
            }
            HubOutput::Answered { id, answer, .. }
                if answer.code == 200 && matches!(answer.state, Some(State::Stored | State::Queued)) =>
            {
                let id: u64 = id.parse().expect("ours");
                self.judge.acknowledged(("news".into(), id), &self.asked[&id]);
            }
            _ => {}
        }
    }

    fn phone_output(&mut self, at: usize, output: DeviceOutput) -> Result<(), String> {
        let phone = &mut self.phones[at];
        let inbox = phone.inbox.0;
        match output {
            DeviceOutput::Store(batch) => phone.store.submit(batch),
            DeviceOutput::Send(frame) => phone.up.push_back(frame),
            DeviceOutput::Event(event) => match event {
                DeviceEvent::Stored { number } => {
                    self.judge.stored(inbox, number);
                    // From here on it is owed.
                    let (letter, inboxes) = phone.names[&number].clone();
                    self.judge.acknowledged(letter, &inboxes);
                }
                DeviceEvent::Accepted { number, .. } => {
                    phone.node.told(number);
                    self.judge.ended(inbox, number)?;
                }
                DeviceEvent::Refused { number, code } => {
                    return Err(format!("put {number} was refused with {code}"));
                }
                DeviceEvent::Message(one) => {
                    let text = String::from_utf8(one.body).expect("ours");
                    let (sender, number) = text.split_once(' ').expect("ours");
                    let letter = (sender.to_owned(), number.parse().expect("ours"));
                    phone.reading.push((one.sequence, letter.clone()));
                    self.judge.shown(inbox, letter, one.redelivered)?;
                }
                DeviceEvent::Confirmed { sequence } => {
                    if let Some(letter) = phone.confirming.remove(&sequence) {
                        self.judge.confirmed(inbox, letter);
                    }
                }
                _ => {}
            },
        }
        Ok(())
    }
}
