//! A device: its session with the office, its outbox and inbox, and their store.

mod beside;
mod finder;
mod kept;
mod sleep;
mod texts;

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
};

use self::{
    beside::Beside,
    finder::{Broker, Finder},
    kept::{BROKER, LINK, NEXT_KEY, SERVER_KEY, TICKET_ROW, recall, row_key},
    texts::{fault, refused},
};
use super::{
    Event, EventKind, Field, Node,
    durable::{Committed, Durable},
};
use crate::{
    io::{Conn, Input, Output, Peer, Transport},
    link::{
        Client, ClientConfig, ClientCounters, ClientEvent, ClientOutput, Closing, Deframer, Silences, Why,
        framed,
    },
    post::device::{Device, DeviceConfig, DeviceCounters, DeviceEvent, DeviceOutput, Open},
    rng::Entropy,
    status::{Fault, Status},
    store::{Op, Store},
    time::Time,
    wire::{
        app::To,
        balance::RttClass,
        link::Refusal,
        post::{Frame, Sequence},
    },
};

/// Tries to log in on one way to the office that nothing answers, before the next way is taken.
const TRIES: u32 = 3;
/// Datagrams that wait for a connection; past it the oldest is lost, as any datagram may be.
const MAX_UNSENT: usize = 64;
/// Octets of frames that wait because the link has no room for them; past it nothing is asked of the office. What the outbox
/// and the inbox say is bounded by their windows.
const MAX_HELD: usize = 1 << 20;

/// How a device behaves.
#[derive(Clone)]
pub struct DeviceNodeConfig {
    /// The link: what the device was given at enrolment.
    pub link: ClientConfig,
    /// The outbox.
    pub post: DeviceConfig,
    /// Ways to the office, the better first: datagrams, and then TLS where those do not get through. Those to a balancer
    /// come before those to an office itself.
    pub ways: usize,
    /// The balancer, if the device has one. Where there is no other way, the link's `server_key` is what names the enrolment.
    pub balancer: Option<BalancerKey>,
}

/// The balancer of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BalancerKey {
    /// Its static public key.
    pub key: [u8; 32],
    /// How many of the ways lead to it: the first ones.
    pub ways: usize,
}

/// A device.
pub struct DeviceNode {
    client: Client,
    device: Device,
    store: Durable,
    events: VecDeque<Event>,
    outputs: VecDeque<Output<Event>>,
    ways: usize,
    /// The way in use.
    way: usize,
    /// Tries to log in since something came on it.
    unanswered: u32,
    conn: Option<Line>,
    next_conn: u32,
    /// What waits for the connection.
    unsent: VecDeque<Vec<u8>>,
    /// Frames that the link has no room for, in order.
    held: VecDeque<Vec<u8>>,
    held_octets: usize,
    /// Which enrolment this is.
    enrolment: [u8; 48],
    /// Set where a balancer says where to log in.
    finder: Option<Finder>,
    /// The key of the office on ways without a balancer.
    office_key: [u8; 32],
    /// When the last hello or resume went out.
    asked_at: Time,
    /// What is known of the network, and which that is, by the device's address there.
    silences: Silences,
    network: Option<IpAddr>,
    beside: Beside,
    /// A balancer was being asked when the device was suspended.
    asks_on_waking: bool,
}

/// Where datagrams of the link go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Target {
    Way(usize),
    Broker(SocketAddr),
}

/// The connection to the office.
struct Line {
    conn: Conn,
    /// Set once it is there.
    transport: Option<Transport>,
    /// The other end, by then.
    remote: Option<SocketAddr>,
    deframer: Deframer,
}

impl DeviceNode {
    /// A device on what its store holds at this time, which is this Unix second too. It logs in at once.
    pub fn open(
        mut config: DeviceNodeConfig,
        (now, unix): (Time, u64),
        rng: impl Entropy + Clone + Send + 'static,
        store: Box<dyn Store>,
    ) -> Result<DeviceNode, Fault> {
        let enrolment = [&config.link.session_id[..], &config.link.server_key].concat();
        let enrolment: [u8; 48] = enrolment.try_into().expect("sixteen octets and thirty-two");
        let kept::Kept { broker, network } = recall(&*store, &enrolment, &mut config.link)?;
        let office_key = config.link.server_key;
        let finder = config.balancer.map(|known| Finder::new(known.key, known.ways, broker, rng.clone()));
        if let Some(Broker { key, .. }) = broker.filter(|_| finder.is_some()) {
            config.link.server_key = key;
        }
        let open = Open { now, unix, rng: Box::new(rng.clone()) };
        let device = Device::open(config.post, open, &*store)?;
        let mut node = DeviceNode {
            silences: config.link.silences,
            network,
            beside: Beside::default(),
            asks_on_waking: false,
            client: Client::new(config.link, rng),
            device,
            store: Durable::new(store),
            events: VecDeque::new(),
            outputs: VecDeque::new(),
            ways: config.ways.max(1),
            way: 0,
            unanswered: 0,
            conn: None,
            next_conn: 0,
            unsent: VecDeque::new(),
            held: VecDeque::new(),
            held_octets: 0,
            enrolment,
            finder,
            office_key,
            asked_at: now,
        };
        node.begin(now);
        Ok(node)
    }

    /// Gives a message: it is kept in the outbox over restarts, and goes out once there is a way. Answers with its number;
    /// the event `stored` says that it is durable. A time to live is in seconds.
    ///
    /// # Errors
    /// [`Status::Full`] when the outbox is; the event `writable` follows. [`Status::Invalid`] when the message cannot be.
    pub fn put(
        &mut self,
        now: Time,
        to: To,
        keep: bool,
        ttl: u32,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<u64, Fault> {
        self.device.put(now, to, keep, ttl, content_type, body)
    }

    /// Makes durable at once what was put and confirmed, for who cannot wait for a turn. The events that say so come in the
    /// next one.
    pub fn commit(&mut self, now: Time) {
        while let Some(output) = self.device.poll_output() {
            self.device_wants(now, output);
        }
        self.flush(now);
    }

    /// A message is dealt with: the event `confirmed` says that it is never shown again.
    ///
    /// # Errors
    /// [`Status::NotFound`] for one that is not shown.
    pub fn confirm(&mut self, sequence: u64) -> Result<(), Fault> {
        self.device.confirm(Sequence(sequence))
    }

    /// Follows an application, or no more. Answers with the number of the event `answer`.
    ///
    /// # Errors
    /// [`Status::State`] while the device is not logged in, [`Status::Full`] when too much waits to be said,
    /// [`Status::Invalid`] for what cannot be a name.
    pub fn subscribe(&mut self, app: &str, on: bool) -> Result<u64, Fault> {
        self.room()?;
        self.device.subscribe(app, on)
    }

    /// Has messages kept while none of the user's devices is there, or not. Answers and fails as
    /// [`DeviceNode::subscribe`].
    pub fn keep(&mut self, keep: bool) -> Result<u64, Fault> {
        self.room()?;
        self.device.keep(keep)
    }

    /// Asks where users are: an event `presence` for each answers. Answers and fails as [`DeviceNode::subscribe`].
    pub fn query(&mut self, users: Vec<String>) -> Result<u64, Fault> {
        self.room()?;
        self.device.query(users)
    }

    /// Says goodbye, and stays away: what waits in the outbox waits for the next life.
    pub fn close(&mut self, now: Time) {
        self.stop_asking();
        self.asks_on_waking = false;
        self.client.close(now);
        self.device.down();
        self.drop_held();
    }

    /// Whether there is a session.
    pub fn is_up(&self) -> bool {
        self.client.is_up()
    }

    /// Messages in the outbox.
    pub fn waiting(&self) -> usize {
        self.device.waiting()
    }

    /// Whether a message is durable here, or has had its end since.
    pub fn is_stored(&self, number: u64) -> bool {
        self.device.is_stored(number)
    }

    /// What the link counted.
    pub fn link_counters(&self) -> &ClientCounters {
        self.client.counters()
    }

    /// What outbox and inbox counted.
    pub const fn counters(&self) -> &DeviceCounters {
        self.device.counters()
    }

    fn room(&self) -> Result<(), Fault> {
        match self.held_octets < MAX_HELD {
            true => Ok(()),
            false => {
                Err(Fault::new(Status::Full, "too much waits for the office: ask again when it has answered"))
            }
        }
    }

    /// Sends a datagram of the link, over a connection that is made when there is none.
    fn transmit(&mut self, now: Time, octets: Vec<u8>) -> Option<Output<Event>> {
        if !self.client.is_up() {
            self.unanswered += 1;
            self.asked_at = now;
            if self.unanswered > TRIES && self.is_sent() {
                let fault = Fault::new(Status::Timeout, "the broker does not answer: another is asked for");
                self.events.push_back(Event::new(EventKind::Down).with_fault(fault));
                self.fail_over(now);
                return None;
            }
            if self.unanswered > TRIES && self.ways > 1 {
                let before = self.way;
                self.take_way(now, (before + 1) % self.ways);
                // Its client has begun anew there, with datagrams of its own.
                if self.finder.is_some() {
                    return None;
                }
            }
        }
        self.send_on(octets)
    }

    /// Sends over the connection to where the device logs in, which is made when there is none.
    fn send_on(&mut self, octets: Vec<u8>) -> Option<Output<Event>> {
        let Some(Line { conn, transport, .. }) = &self.conn else {
            let conn = self.new_conn();
            self.conn = Some(Line { conn, transport: None, remote: None, deframer: Deframer::default() });
            self.wait(octets);
            return Some(match self.target() {
                Target::Way(way) => Output::Connect { conn, way },
                Target::Broker(to) => Output::Reach { conn, to },
            });
        };
        let octets = match transport {
            Some(Transport::Datagram) => octets,
            Some(Transport::Stream) => framed(&octets),
            None => {
                self.wait(octets);
                return None;
            }
        };
        Some(Output::Send { conn: *conn, to: None, octets })
    }

    fn new_conn(&mut self) -> Conn {
        let conn = Conn(Conn::OURS | self.next_conn);
        self.next_conn = (self.next_conn + 1) & !Conn::OURS;
        conn
    }

    fn wait(&mut self, octets: Vec<u8>) {
        if self.unsent.len() == MAX_UNSENT {
            self.unsent.pop_front();
        }
        self.unsent.push_back(octets);
    }

    fn hang_up(&mut self) {
        if let Some(Line { conn, .. }) = self.conn.take() {
            self.outputs.push_back(Output::Close { conn });
        }
        self.unsent.clear();
    }

    fn connected(&mut self, now: Time, conn: Conn, peer: &Peer) {
        if self.beside_connected(conn) {
            return;
        }
        let Some(line) = self.conn.as_mut().filter(|line| line.conn == conn) else { return };
        (line.transport, line.remote) = (Some(peer.transport), Some(peer.remote));
        self.is_on(now, peer.local.ip());
        for octets in std::mem::take(&mut self.unsent) {
            let output = self.send_on(octets);
            self.outputs.extend(output);
        }
    }

    fn received(&mut self, now: Time, conn: Conn, mut octets: &[u8]) {
        while let Some(line) = self.conn.as_mut().filter(|line| line.conn == conn) {
            self.unanswered = 0;
            if line.transport == Some(Transport::Datagram) {
                return self.client.handle(now, octets);
            }
            match line.deframer.next(&mut octets) {
                None => return,
                Some(Ok(datagram)) => self.client.handle(now, &datagram),
                Some(Err(_)) => self.hang_up(),
            }
        }
    }

    fn linked(&mut self, now: Time, event: ClientEvent) -> Option<Event> {
        Some(match event {
            ClientEvent::Up { resumed, .. } => {
                self.found(RttClass::of(now.since(self.asked_at)));
                self.device.up(now);
                Event::new(EventKind::LoggedIn).with_u64(Field::Resumed, resumed.into())
            }
            ClientEvent::Message(octets) => {
                // What this version does not know was meant for a later one.
                if let Some(frame) = Frame::decode(&octets) {
                    self.device.frame(now, frame);
                }
                return None;
            }
            ClientEvent::Acked(_) => return None,
            ClientEvent::Writable => {
                self.send_held(now);
                return None;
            }
            ClientEvent::Down(why) => {
                self.device.down();
                self.drop_held();
                self.stays(matches!(why, Why::Closed(Closing::Revoked | Closing::Replaced)));
                Event::new(EventKind::Down).with_fault(fault(why))
            }
            // A full login follows by itself, and tells how that ends.
            ClientEvent::Refused(Refusal::Ticket) => return None,
            ClientEvent::Refused(refusal) => {
                self.stays(matches!(refusal, Refusal::Unknown | Refusal::Version));
                let event = Event::new(EventKind::Refused).with_u64(Field::Reason, refusal.number().into());
                event.with_text(Field::Text, refused(refusal))
            }
            ClientEvent::Waiting(pause) => {
                self.hang_up();
                if self.is_sent() && !self.finder.as_ref().is_some_and(|finder| finder.stays) {
                    self.fail_over(now);
                    let detail = "the broker does not let this device in: another is asked for";
                    return Some(Event::new(EventKind::Down).with_fault(Fault::new(Status::Timeout, detail)));
                }
                let detail =
                    format!("the office does not answer: tried again in {} s", pause.as_secs().max(1));
                Event::new(EventKind::Down).with_fault(Fault::new(Status::Timeout, detail))
            }
            ClientEvent::Draining => {
                self.ask_beside(now);
                Event::new(EventKind::Draining)
            }
            ClientEvent::Resumption(resumption) => {
                let value = [&resumption.ticket[..], &resumption.secret].concat();
                return self.remember(vec![self.row(TICKET_ROW, value)]);
            }
            ClientEvent::Suspended { told } => {
                Event::new(EventKind::Suspended).with_u64(Field::Told, told.into())
            }
            ClientEvent::Silences(silences) => {
                self.learnt(silences);
                return None;
            }
            ClientEvent::NextKey(key) => return self.remember(vec![self.row(NEXT_KEY, key.to_vec())]),
            ClientEvent::KeyChanged(key) => {
                if self.is_sent() {
                    let finder = self.finder.as_mut()?;
                    let broker = finder.broker.as_mut()?;
                    broker.key = key;
                    let row = broker.keep();
                    return self.remember(vec![self.row(BROKER, row)]);
                }
                self.office_key = key;
                let next = Op::Delete { table: LINK, key: row_key(NEXT_KEY, &self.enrolment) };
                return self.remember(vec![self.row(SERVER_KEY, key.to_vec()), next]);
            }
        })
    }

    /// Whether another broker would say the same.
    fn stays(&mut self, stays: bool) {
        if let Some(finder) = &mut self.finder {
            finder.stays = stays;
        }
    }

    /// Sends a frame; what finds no room waits, behind what waits already.
    fn send(&mut self, now: Time, octets: Vec<u8>) {
        if self.held.is_empty() {
            match self.client.send(now, octets.clone()) {
                Err(fault) if fault.status == Status::Full => {}
                // Without a session it is said again in the next one.
                _ => return,
            }
        }
        self.held_octets += octets.len();
        self.held.push_back(octets);
    }

    fn send_held(&mut self, now: Time) {
        while let Some(octets) = self.held.pop_front() {
            match self.client.send(now, octets.clone()) {
                Err(fault) if fault.status == Status::Full => return self.held.push_front(octets),
                _ => self.held_octets -= octets.len(),
            }
        }
    }

    fn drop_held(&mut self) {
        self.held.clear();
        self.held_octets = 0;
    }

    fn device_wants(&mut self, now: Time, output: DeviceOutput) {
        match output {
            DeviceOutput::Store(batch) => self.store.submit(batch),
            DeviceOutput::Send(frame) => self.send(now, frame.encode()),
            DeviceOutput::Event(event) => self.posted(event),
        }
    }

    fn posted(&mut self, event: DeviceEvent) {
        let new = Event::new;
        let numbered = |kind, number| Event::new(kind).with_u64(Field::Number, number);
        self.events.push_back(match event {
            DeviceEvent::Stored { number } => numbered(EventKind::Stored, number),
            DeviceEvent::Accepted { number, state } => {
                numbered(EventKind::Accepted, number).with_text(Field::State, state.text())
            }
            DeviceEvent::Refused { number, code } => {
                numbered(EventKind::Rejected, number).with_u64(Field::Code, code.into())
            }
            DeviceEvent::Expired { number } => numbered(EventKind::Expired, number),
            DeviceEvent::Message(one) => new(EventKind::Message).with_delivery(one),
            DeviceEvent::Confirmed { sequence } => {
                new(EventKind::Confirmed).with_u64(Field::Sequence, sequence.0)
            }
            DeviceEvent::Welcome { missed, waiting } => new(EventKind::Welcome)
                .with_u64(Field::Waiting, waiting.into())
                .with_u64(Field::Missed, missed.into()),
            DeviceEvent::Answer { request, code } => {
                new(EventKind::Answer).with_u64(Field::Request, request).with_u64(Field::Code, code.into())
            }
            DeviceEvent::Presence { request, users } => {
                let of =
                    |user| new(EventKind::Presence).with_u64(Field::Request, request).with_presence(user);
                return self.events.extend(users.into_iter().map(of));
            }
            DeviceEvent::Writable => new(EventKind::Writable),
        });
    }
}

impl Node for DeviceNode {
    fn handle(&mut self, now: Time, input: Input<'_>) {
        if self.of_balancer(now, &input) {
            return;
        }
        match input {
            Input::Connected { conn, peer } => self.connected(now, conn, &peer),
            Input::Received { conn, octets, .. } => self.received(now, conn, octets),
            Input::Closed { conn, .. } => {
                self.beside_closed(conn);
                // The link finds out by itself, and connects again when it has something to say.
                if self.conn.as_ref().is_some_and(|line| line.conn == conn) {
                    self.conn = None;
                    self.unsent.clear();
                }
            }
            Input::Clock { unix } => self.device.set_unix(now, unix),
            Input::NetworkChanged => {
                self.hang_up();
                self.forget_network();
                // A session that is up at the office itself goes on there.
                if self.finder.is_some() && !self.is_sent() && !self.client.is_up() {
                    self.take_way(now, 0);
                } else if self.finder.is_none() {
                    self.way = 0;
                }
                self.unanswered = 0;
                self.finder_network_changed(now);
                self.client.network_changed(now);
            }
            Input::Deadline => {
                self.client.deadline_passed(now);
                self.finder_due(now);
                if !self.client.is_asleep() {
                    self.device.handle_deadline(now);
                }
            }
            // Nobody connects to a device, and its store is its own.
            Input::Accepted { .. } | Input::Stored { .. } => {}
        }
    }

    fn poll_output(&mut self, now: Time) -> Option<Output<Event>> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            if let Some(event) = self.events.pop_front() {
                return Some(Output::Event(event));
            }
            if let Some(output) = self.client.poll_output(now) {
                let output = match output {
                    ClientOutput::Send(octets) => self.transmit(now, octets),
                    ClientOutput::SendBeside(octets) => self.send_beside(octets),
                    ClientOutput::Event(event) => self.linked(now, event).map(Output::Event),
                };
                match output {
                    Some(output) => return Some(output),
                    None => continue,
                }
            }
            if self.poll_finder(now) {
                continue;
            }
            let output = self.device.poll_output()?;
            self.device_wants(now, output);
        }
    }

    fn taken(&mut self, event: &Event) -> bool {
        let is_end = matches!(event.kind(), EventKind::Accepted | EventKind::Rejected | EventKind::Expired);
        let number = event.u64(Field::Number).filter(|_| is_end);
        number.map(|number| self.device.told(number)).is_some()
    }

    fn flush(&mut self, now: Time) -> bool {
        match self.store.commit(now, &mut self.events) {
            Committed::Nothing => return false,
            Committed::Failed => {}
            Committed::Through(through) => self.device.stored(now, through),
        }
        true
    }

    fn deadline(&self) -> Option<Time> {
        // What is put and confirmed is made durable whether the platform sleeps or not.
        if self.client.is_asleep() {
            return self.store.deadline();
        }
        let asking = self.finder.as_ref().and_then(Finder::deadline);
        let parts = [self.client.deadline(), self.device.deadline(Time::ZERO), self.store.deadline(), asking];
        parts.into_iter().flatten().min()
    }
}
