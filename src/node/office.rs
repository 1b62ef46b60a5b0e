//! An office: devices on the link, applications on their connections, the hub between them, and its store.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use super::{
    Event, EventKind, Field, Node,
    durable::{Committed, Durable},
};
use crate::{
    counters::counters,
    io::{Conn, Input, Output, Peer, Service, Transport},
    link::{
        Closing, Credential, Deframer, Path, Server, ServerConfig, ServerInput, ServerOutput, ServerSecrets,
        Session, TicketRoot, Why, framed,
    },
    post::{
        Inbox, Seat, SessionId,
        apps::{Apps, AppsConfig, AppsOutput},
        hub::{self, Enrolled, Hub, HubConfig, HubEvent, HubOutput, Rights, Vouched},
    },
    rng::Entropy,
    status::{Fault, Status},
    store::{Op, Store, Table},
    time::Time,
    wire::{link::Refusal, post::Frame},
};

/// What an office has to keep of the link.
const LINK: Table = Table::rows("link");
const PRIVATE: &[u8] = b"private";
const RESET: &[u8] = b"reset";
const TICKETS: &[u8] = b"tickets";
/// How long a stream may be there without a session on it.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long frames wait that the link had no room for, before they are tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// How an office behaves.
#[derive(Clone, Debug)]
pub struct OfficeConfig {
    /// The link.
    pub link: ServerConfig,
    /// The hub.
    pub hub: HubConfig,
    /// Applications' connections.
    pub apps: AppsConfig,
    /// Streams of devices, at the most.
    pub max_streams: usize,
    /// Octets that wait, of all sessions, because the link has no room for them.
    pub max_held: usize,
    /// Whether the application is told of each device that comes and goes.
    pub announce: bool,
}

impl Default for OfficeConfig {
    fn default() -> OfficeConfig {
        OfficeConfig {
            link: ServerConfig::default(),
            hub: HubConfig::default(),
            apps: AppsConfig::default(),
            max_streams: 65_536,
            max_held: 64 << 20,
            announce: false,
        }
    }
}

counters! {
    /// What an office counted besides its parts.
    pub struct OfficeCounters {
        bad_frames: "messages of devices that are no frames",
        streams_full: "streams closed because there were too many",
        streams_impatient: "streams closed because no session was on them for too long",
        streams_broken: "streams closed because what came on them is no datagram",
        held: "frames that waited because the link had no room for them",
        held_full: "sessions closed because too much waited for them",
    }
}

/// Octets on a stream, as datagrams.
struct Stream {
    deframer: Deframer,
    /// When it is closed unless a session comes up on it.
    due: Option<Time>,
}

/// An office.
pub struct OfficeNode {
    config: OfficeConfig,
    server: Server,
    hub: Hub,
    apps: Apps,
    store: Durable,
    outputs: VecDeque<Output<Event>>,
    events: VecDeque<Event>,
    /// Where datagrams go out: IPv4 and IPv6.
    sockets: [Option<Conn>; 2],
    streams: BTreeMap<Conn, Stream>,
    /// Frames that the link has no room for, in order.
    held: HashMap<Session, VecDeque<Vec<u8>>>,
    held_octets: usize,
    held_due: Option<Time>,
    counters: OfficeCounters,
}

impl OfficeNode {
    /// An office on what its store holds at this time, which is this Unix second too: keys of the link, accounts, messages.
    /// Keys that are not there are drawn.
    pub fn open(
        config: OfficeConfig,
        (now, unix): (Time, u64),
        mut rng: impl Entropy + Clone + Send + 'static,
        store: Box<dyn Store>,
    ) -> Result<OfficeNode, Fault> {
        let (secrets, ops) = secrets(&*store, unix, &mut rng)?;
        let open = hub::Open { now, unix, rng: Box::new(rng.clone()) };
        let mut hub = Hub::open(config.hub, open, &*store)?;
        if !ops.is_empty() {
            hub.also_store(ops);
        }
        Ok(OfficeNode {
            server: Server::new(config.link.clone(), secrets, now, unix, rng),
            hub,
            apps: Apps::new(config.apps),
            store: Durable::new(store),
            outputs: VecDeque::new(),
            events: VecDeque::new(),
            sockets: [None; 2],
            streams: BTreeMap::new(),
            held: HashMap::new(),
            held_octets: 0,
            held_due: None,
            counters: OfficeCounters::default(),
            config,
        })
    }

    /// The key that devices must know the office by.
    pub fn server_key(&self) -> [u8; 32] {
        self.server.public_keys()[0].expect("a server has a key")
    }

    /// The link's end.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The hub.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Applications' connections.
    pub fn apps(&self) -> &Apps {
        &self.apps
    }

    /// What was counted.
    pub const fn counters(&self) -> &OfficeCounters {
        &self.counters
    }

    /// A new user. The event `durable` with this ticket says that it is done, `failed` that it is not.
    pub fn add_user(&mut self, name: &str) -> Result<u64, Fault> {
        self.hub.add_user(name)
    }

    /// A new device of a user; what is to be handed to it counts once its ticket is durable. Expires in Unix seconds, 0 for
    /// never.
    pub fn add_device(&mut self, user: &str, device: [u8; 16], expires: u64) -> Result<Enrolled, Fault> {
        self.hub.add_device(user, device, expires)
    }

    /// A device's credential holds no more. Answers with a ticket as [`OfficeNode::add_user`].
    pub fn revoke_device(&mut self, session: SessionId) -> u64 {
        self.hub.revoke_device(session)
    }

    /// Answers the event `authenticate`: this credential holds, and this is whose it is.
    ///
    /// # Errors
    /// [`Status::Invalid`] when the user's name is none.
    pub fn admit(&mut self, ticket: u64, vouched: Vouched) -> Result<(), Fault> {
        self.hub.vouch(ticket, vouched)
    }

    /// Answers the event `authenticate`: this credential holds not.
    pub fn turn_away(&mut self, ticket: u64) {
        self.hub.turn_away(ticket);
    }

    /// A new application; its secret counts once the ticket is durable.
    pub fn add_app(&mut self, name: &str, rights: Rights) -> Result<(String, u64), Fault> {
        self.hub.add_app(name, rights)
    }

    /// Whether devices are told to log in elsewhere, and new ones are refused.
    pub fn drain(&mut self, draining: bool) {
        self.server.drain(draining);
    }

    fn accepted(&mut self, now: Time, conn: Conn, peer: &Peer) {
        match (peer.transport, peer.service) {
            (Transport::Datagram, _) => self.sockets[usize::from(peer.local.is_ipv6())] = Some(conn),
            (Transport::Stream, Service::App) => self.apps.accepted(now, conn),
            (Transport::Stream, Service::Link) if self.streams.len() < self.config.max_streams => {
                let stream = Stream { deframer: Deframer::default(), due: Some(now + PATIENCE) };
                self.streams.insert(conn, stream);
            }
            (Transport::Stream, _) => {
                self.counters.streams_full += 1;
                self.outputs.push_back(Output::Close { conn });
            }
        }
    }

    fn received(&mut self, now: Time, conn: Conn, mut octets: &[u8]) {
        if !self.streams.contains_key(&conn) {
            return self.apps.received(now, conn, octets, &mut self.hub);
        }
        let from = Path::Stream(conn.0.into());
        while let Some(stream) = self.streams.get_mut(&conn) {
            match stream.deframer.next(&mut octets) {
                None => return,
                Some(Ok(datagram)) => {
                    self.server.handle(now, ServerInput::Datagram { from, octets: &datagram });
                }
                Some(Err(_)) => {
                    self.counters.streams_broken += 1;
                    self.close_stream(conn);
                }
            }
        }
    }

    fn close_stream(&mut self, conn: Conn) {
        self.streams.remove(&conn);
        self.outputs.push_back(Output::Close { conn });
    }

    fn expire(&mut self, now: Time) {
        self.server.handle(now, ServerInput::Deadline);
        if self.hub.deadline().is_some_and(|due| due <= now) {
            self.hub.handle_deadline(now);
        }
        self.apps.handle_deadline(now, &mut self.hub);
        let is_over = |(_, stream): &(&Conn, &Stream)| stream.due.is_some_and(|due| due <= now);
        let over: Vec<Conn> = self.streams.iter().filter(is_over).map(|(conn, _)| *conn).collect();
        for conn in over {
            self.counters.streams_impatient += 1;
            self.close_stream(conn);
        }
        if self.held_due.is_some_and(|due| due <= now) {
            self.held_due = None;
            let waiting: Vec<Session> = self.held.keys().copied().collect();
            waiting.into_iter().for_each(|session| self.send_held(now, session));
        }
    }

    /// Does what the link's end wants.
    fn linked(&mut self, now: Time, output: ServerOutput) -> Option<Output<Event>> {
        match output {
            ServerOutput::Send { to: Path::Datagram(to), octets } => {
                let of_family = self.sockets[usize::from(to.is_ipv6())];
                // A socket for IPv6 sends to IPv4 too.
                let conn = of_family.or(self.sockets[1])?;
                return Some(Output::Send { conn, to: Some(to), octets });
            }
            ServerOutput::Send { to: Path::Stream(number), octets } => {
                let conn = Conn(number as u32);
                let octets = self.streams.contains_key(&conn).then(|| framed(&octets))?;
                return Some(Output::Send { conn, to: None, octets });
            }
            ServerOutput::Lookup { ticket, session_id } => {
                self.hub.authenticate(ticket, SessionId(session_id));
            }
            ServerOutput::SessionUp { session, principal, resumed } => {
                let inbox = inbox(principal);
                self.keep_stream(session, None);
                self.hub.online(now, inbox, seat(session));
                if self.config.announce {
                    let event = Event::new(EventKind::DeviceOnline).with_u64(Field::Inbox, inbox.0.into());
                    self.events.push_back(event.with_u64(Field::Resumed, resumed.into()));
                }
            }
            ServerOutput::Message { session, principal, octets } => match Frame::decode(&octets) {
                Some(frame) => self.hub.frame(now, inbox(principal), seat(session), frame),
                None => self.counters.bad_frames += 1,
            },
            ServerOutput::Gone { session, principal, why } => {
                self.gone(now, session, inbox(principal));
                if self.config.announce {
                    let event = Event::new(EventKind::DeviceOffline).with_u64(Field::Inbox, principal);
                    self.events.push_back(event.with_text(Field::Text, reason(why)));
                }
            }
            ServerOutput::Writable { session } => self.send_held(now, session),
            ServerOutput::Acked { .. } => {}
            ServerOutput::TicketRoot(root) => self.hub.also_store(vec![put_tickets(&root)]),
        }
        None
    }

    /// Does what the hub wants.
    fn hubbed(&mut self, now: Time, output: HubOutput) {
        match output {
            HubOutput::Store(batch) => self.store.submit(batch),
            HubOutput::Fetch(fetch) => self.store.store.ask(fetch),
            HubOutput::Send { seat, inbox, frame } => match self.apps.seat_of(inbox) {
                Some(_) => self.apps.frame(seat, &frame),
                None => self.send(now, Session(seat.0 - 1), inbox, frame.encode()),
            },
            HubOutput::Answered { seat, id, answer } => self.apps.answered(seat, &id, &answer),
            HubOutput::Whereabouts { seat, id, users } => self.apps.whereabouts(seat, &id, &users),
            HubOutput::Authenticated { ticket, credential } => {
                let answer = credential.map(|credential| Credential {
                    secret: credential.secret,
                    principal: credential.inbox.0.into(),
                    expiry: if credential.expires == 0 { u64::MAX } else { credential.expires },
                    epoch: credential.epoch,
                });
                self.server.authenticated(now, ticket, answer.ok_or(Refusal::Unknown));
            }
            HubOutput::Revoked { inbox, .. } => self.server.revoke(now, inbox.0.into(), u32::MAX),
            HubOutput::Event(event) => self.events.push_back(match event {
                HubEvent::Done { ticket, result: Ok(()) } => {
                    Event::new(EventKind::Durable).with_u64(Field::Ticket, ticket)
                }
                HubEvent::Done { ticket, result: Err(fault) } => {
                    Event::new(EventKind::Failed).with_u64(Field::Ticket, ticket).with_fault(fault)
                }
                HubEvent::Authenticate { ticket, session } => Event::new(EventKind::Authenticate)
                    .with_u64(Field::Ticket, ticket)
                    .with_bytes(Field::Session, session.0.to_vec()),
                HubEvent::Stale { inbox, missed } => Event::new(EventKind::Stale)
                    .with_u64(Field::Inbox, inbox.0.into())
                    .with_u64(Field::Missed, missed.into()),
            }),
        }
    }

    /// Sends on a session; what finds no room waits, behind what waits already.
    fn send(&mut self, now: Time, session: Session, inbox: Inbox, octets: Vec<u8>) {
        if !self.held.contains_key(&session) {
            match self.server.send(now, session, octets.clone()) {
                Err(fault) if fault.status == Status::Full => {}
                // A session that is over has its messages delivered in the next one.
                _ => return,
            }
        }
        self.counters.held += 1;
        if self.held_octets + octets.len() > self.config.max_held {
            self.counters.held_full += 1;
            self.server.close(now, session, Closing::Full);
            return self.gone(now, session, inbox);
        }
        self.held_octets += octets.len();
        self.held.entry(session).or_default().push_back(octets);
        self.held_due = self.held_due.or(Some(now + AGAIN));
    }

    fn send_held(&mut self, now: Time, session: Session) {
        let Some(mut waiting) = self.held.remove(&session) else { return };
        while let Some(octets) = waiting.pop_front() {
            match self.server.send(now, session, octets.clone()) {
                Err(fault) if fault.status == Status::Full => {
                    waiting.push_front(octets);
                    self.held.insert(session, waiting);
                    self.held_due = self.held_due.or(Some(now + AGAIN));
                    return;
                }
                _ => self.held_octets -= octets.len(),
            }
        }
    }

    fn gone(&mut self, now: Time, session: Session, inbox: Inbox) {
        let waiting = self.held.remove(&session).unwrap_or_default();
        self.held_octets -= waiting.iter().map(Vec::len).sum::<usize>();
        self.keep_stream(session, Some(now + PATIENCE));
        self.hub.offline(now, inbox, seat(session));
    }

    /// The stream of a session, if it has one, is closed at this time.
    fn keep_stream(&mut self, session: Session, due: Option<Time>) {
        if let Some(Path::Stream(number)) = self.server.path(session)
            && let Some(stream) = self.streams.get_mut(&Conn(number as u32))
        {
            stream.due = due;
        }
    }
}

impl Node for OfficeNode {
    fn handle(&mut self, now: Time, input: Input<'_>) {
        match input {
            Input::Accepted { conn, peer } => self.accepted(now, conn, &peer),
            Input::Received { from: Some(from), octets, .. } => {
                self.server.handle(now, ServerInput::Datagram { from: Path::Datagram(from), octets });
            }
            Input::Received { conn, octets, .. } => self.received(now, conn, octets),
            Input::Closed { conn, .. } => {
                if self.streams.remove(&conn).is_none() {
                    self.apps.closed(now, conn, &mut self.hub);
                }
            }
            Input::Deadline => self.expire(now),
            // An office connects to nobody, and its store is its own.
            Input::Connected { .. } | Input::Stored { .. } | Input::NetworkChanged => {}
        }
    }

    fn poll_output(&mut self, now: Time) -> Option<Output<Event>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(Output::Event(event));
            }
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            if let Some(output) = self.server.poll_output(now) {
                match self.linked(now, output) {
                    Some(output) => return Some(output),
                    None => continue,
                }
            }
            if let Some(output) = self.hub.poll_output(now) {
                self.hubbed(now, output);
                continue;
            }
            self.outputs.extend(self.apps.outputs().into_iter().map(|output| match output {
                AppsOutput::Send { conn, octets } => Output::Send { conn, to: None, octets },
                AppsOutput::Close { conn } => Output::Close { conn },
            }));
            if !self.outputs.is_empty() {
                continue;
            }
            self.hub.fetched(now, self.store.store.answer()?);
        }
    }

    fn flush(&mut self, now: Time) -> bool {
        match self.store.commit(now, &mut self.events) {
            Committed::Nothing => return false,
            Committed::Failed => {}
            Committed::Through(through) => self.hub.stored(now, through),
        }
        true
    }

    fn deadline(&self) -> Option<Time> {
        let streams = self.streams.values().filter_map(|stream| stream.due).min();
        let parts = [self.server.deadline(), self.hub.deadline(), self.apps.deadline()];
        let own = [self.store.deadline(), self.held_due, streams];
        parts.into_iter().chain(own).flatten().min()
    }
}

/// A device's queue names it on the link.
fn inbox(principal: u64) -> Inbox {
    Inbox(principal as u32)
}

/// Where a session sits.
fn seat(session: Session) -> Seat {
    Seat(session.0 + 1)
}

fn reason(why: Why) -> &'static str {
    match why {
        Why::Closed(Closing::Done) => "it said goodbye",
        Why::Closed(Closing::Revoked) => "its credential was revoked",
        Why::Closed(_) => "the session was closed",
        Why::Silent => "nothing came from it any more",
        Why::Unreachable => "it acknowledged nothing any more",
        Why::Stalled => "it began messages and did not end them",
        Why::Replaced => "it logged in again",
        Why::Reset | Why::Rekey => "the session was lost",
    }
}

/// The secrets of the link that the store holds, and what is to be stored of those that it did not.
fn secrets(store: &dyn Store, unix: u64, rng: &mut dyn Entropy) -> Result<(ServerSecrets, Vec<Op>), Fault> {
    let mut kept: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    store.load(LINK, &mut |key, value| drop(kept.insert(key.to_vec(), value.to_vec())))?;
    let corrupt = || Fault::new(Status::StoreCorrupt, "a key of the link cannot be read");
    let mut ops = Vec::new();
    let mut key = |name: &[u8]| match kept.get(name) {
        Some(octets) => octets.as_slice().try_into().map_err(|_| corrupt()),
        None => {
            let mut key = [0; 32];
            rng.fill(&mut key);
            ops.push(Op::Put { table: LINK, key: name.to_vec(), value: key.to_vec() });
            Ok(key)
        }
    };
    let (private, reset) = (key(PRIVATE)?, key(RESET)?);
    let tickets = match kept.get(TICKETS) {
        Some(octets) => {
            let (day, key) = octets.split_at_checked(8).ok_or_else(corrupt)?;
            let day = u64::from_be_bytes(day.try_into().map_err(|_| corrupt())?);
            TicketRoot { day, key: key.try_into().map_err(|_| corrupt())? }
        }
        None => {
            let mut key = [0; 32];
            rng.fill(&mut key);
            let root = TicketRoot { day: unix / 86_400, key };
            ops.push(put_tickets(&root));
            root
        }
    };
    Ok((ServerSecrets { private, next_private: None, reset, tickets }, ops))
}

fn put_tickets(root: &TicketRoot) -> Op {
    let value = [&root.day.to_be_bytes()[..], &root.key].concat();
    Op::Put { table: LINK, key: TICKETS.to_vec(), value }
}
