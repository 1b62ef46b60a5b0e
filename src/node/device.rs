//! A device: its session with the office, its outbox and inbox, and their store.

mod finder;

use std::{collections::VecDeque, net::SocketAddr};

use self::finder::{Broker, Finder};
use super::{
    Event, EventKind, Field, Node,
    durable::{Committed, Durable},
};
use crate::{
    io::{Conn, Input, Output, Transport},
    link::{
        Client, ClientConfig, ClientCounters, ClientEvent, ClientOutput, Closing, Deframer, Resumption, Why,
        framed,
    },
    post::device::{Device, DeviceConfig, DeviceCounters, DeviceEvent, DeviceOutput, Open},
    rng::Entropy,
    status::{Fault, Status},
    store::{Op, Store, Table},
    time::Time,
    wire::{
        app::To,
        balance::RttClass,
        link::{Refusal, TICKET},
        post::{Frame, Sequence},
    },
};

/// What a device has to keep of the link, by name, session id and the server key that the device was given: what was kept for
/// another enrolment is nothing to this one.
const LINK: Table = Table::rows("link");
const TICKET_ROW: &[u8] = b"ticket";
const SERVER_KEY: &[u8] = b"server_key";
const NEXT_KEY: &[u8] = b"next_key";
/// The last broker that a balancer gave: resumes go there directly.
const BROKER: &[u8] = b"broker";
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
        let broker = recall(&*store, &enrolment, &mut config.link)?;
        let office_key = config.link.server_key;
        let finder = config.balancer.map(|known| Finder::new(known.key, known.ways, broker, rng.clone()));
        if let Some(Broker { key, .. }) = broker.filter(|_| finder.is_some()) {
            config.link.server_key = key;
        }
        let open = Open { now, unix, rng: Box::new(rng.clone()) };
        let device = Device::open(config.post, open, &*store)?;
        let mut node = DeviceNode {
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
            self.conn = Some(Line { conn, transport: None, deframer: Deframer::default() });
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

    fn connected(&mut self, conn: Conn, transport: Transport) {
        let Some(line) = self.conn.as_mut().filter(|line| line.conn == conn) else { return };
        line.transport = Some(transport);
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

    fn row(&self, name: &[u8], value: Vec<u8>) -> Op {
        Op::Put { table: LINK, key: row_key(name, &self.enrolment), value }
    }

    fn remember(&mut self, ops: Vec<Op>) -> Option<Event> {
        self.device.also_store(ops);
        None
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
            Input::Connected { conn, peer } => self.connected(conn, peer.transport),
            Input::Received { conn, octets, .. } => self.received(now, conn, octets),
            Input::Closed { conn, .. } => {
                // The link finds out by itself, and connects again when it has something to say.
                if self.conn.as_ref().is_some_and(|line| line.conn == conn) {
                    self.conn = None;
                    self.unsent.clear();
                }
            }
            Input::Clock { unix } => self.device.set_unix(now, unix),
            Input::NetworkChanged => {
                self.hang_up();
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
                self.device.handle_deadline(now);
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
        let asking = self.finder.as_ref().and_then(Finder::deadline);
        let parts = [self.client.deadline(), self.device.deadline(Time::ZERO), self.store.deadline(), asking];
        parts.into_iter().flatten().min()
    }
}

/// Takes what an earlier life kept of the link. Answers with the last broker.
fn recall(
    store: &dyn Store,
    enrolment: &[u8; 48],
    config: &mut ClientConfig,
) -> Result<Option<Broker>, Fault> {
    let (mut damaged, mut broker) = (false, None);
    store.load(LINK, &mut |key, value| match key.strip_suffix(enrolment).unwrap_or_default() {
        TICKET_ROW => match value.split_at_checked(TICKET) {
            Some((ticket, secret)) if secret.len() == 32 => {
                let ticket = ticket.try_into().expect("it was cut there");
                let secret = secret.try_into().expect("it was counted");
                config.resumption = Some(Resumption { ticket, secret });
            }
            _ => damaged = true,
        },
        SERVER_KEY => match value.try_into() {
            Ok(key) => config.server_key = key,
            Err(_) => damaged = true,
        },
        NEXT_KEY => match value.try_into() {
            Ok(key) => config.next_key = Some(key),
            Err(_) => damaged = true,
        },
        BROKER => {
            broker = Broker::recall(value);
            damaged |= broker.is_none();
        }
        _ => {}
    })?;
    match damaged {
        true => Err(Fault::new(Status::StoreCorrupt, "what was kept of the link cannot be read")),
        false => Ok(broker),
    }
}

fn row_key(name: &[u8], enrolment: &[u8; 48]) -> Vec<u8> {
    [name, enrolment].concat()
}

fn fault(why: Why) -> Fault {
    let (status, detail) = match why {
        Why::Closed(Closing::Revoked) => {
            (Status::Refused, "the credential was revoked: enrol the device again")
        }
        Why::Closed(Closing::Replaced) | Why::Replaced => {
            (Status::Closed, "the device logged in elsewhere with the same credential")
        }
        Why::Closed(Closing::Drained) => (Status::Closed, "the office is about to stop"),
        Why::Closed(_) => (Status::Closed, "the office closed the session"),
        Why::Silent => (Status::Timeout, "nothing came from the office any more"),
        Why::Unreachable | Why::Stalled => (Status::Timeout, "the office acknowledged nothing any more"),
        Why::Reset => (Status::Closed, "the office does not have the session any more"),
        Why::Rekey => (Status::Closed, "new keys could not be agreed"),
    };
    Fault::new(status, detail)
}

fn refused(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Unknown => "the credential is not known, revoked or over: enrol the device again",
        Refusal::Full => "the office takes no more sessions now",
        Refusal::OtherKey => "the office has another key than this device was given",
        Refusal::Version => "the office speaks another version of the link",
        Refusal::Ticket | Refusal::Other(_) => "the office says no",
    }
}
