//! An office: devices on the link, applications on their connections, the hub between them, and its store.

use std::collections::{BTreeMap, VecDeque};

use super::{
    Event, EventKind, Field, Node,
    durable::{Committed, Durable},
    links::{Linked, Links, OfficeCounters},
};
use crate::{
    io::{Conn, Input, Output, Peer, Service, Transport},
    link::{Closing, Credential, Server, ServerConfig, ServerSecrets, Session, TicketRoot, Why},
    post::{
        HERE, Inbox, Seat, SessionId,
        apps::{Apps, AppsConfig, AppsOutput},
        brokers::{BrokerInfo, Brokers, BrokersConfig, BrokersOutput},
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
    /// Brokers apart from this process.
    pub brokers: BrokersConfig,
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
            brokers: BrokersConfig::default(),
            announce: false,
        }
    }
}

/// An office.
pub struct OfficeNode {
    announce: bool,
    links: Links,
    hub: Hub,
    apps: Apps,
    brokers: Brokers,
    store: Durable,
    outputs: VecDeque<Output<Event>>,
    events: VecDeque<Event>,
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
        let server = Server::new(config.link, secrets, now, unix, rng);
        Ok(OfficeNode {
            announce: config.announce,
            links: Links::new(server, config.max_streams, config.max_held),
            hub,
            apps: Apps::new(config.apps),
            brokers: Brokers::new(BrokersConfig { announce: config.announce, ..config.brokers }),
            store: Durable::new(store),
            outputs: VecDeque::new(),
            events: VecDeque::new(),
        })
    }

    /// The key that devices must know the office by.
    pub fn server_key(&self) -> [u8; 32] {
        self.links.server.public_keys()[0].expect("a server has a key")
    }

    /// The link's end.
    pub fn server(&self) -> &Server {
        &self.links.server
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
        &self.links.counters
    }

    /// Brokers apart from this process.
    pub fn brokers(&self) -> &Brokers {
        &self.brokers
    }

    /// The brokers that were ever there, as people see them.
    pub fn broker_list(&self) -> Vec<BrokerInfo> {
        self.brokers.list(&self.hub)
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
        self.links.server.drain(draining);
    }

    fn accepted(&mut self, now: Time, conn: Conn, peer: &Peer) {
        match (peer.transport, peer.service) {
            (Transport::Datagram, _) | (Transport::Stream, Service::Link) => {
                self.links.accepted(now, conn, peer);
            }
            (Transport::Stream, Service::App) => self.apps.accepted(now, conn),
            (Transport::Stream, Service::Inner) => self.brokers.accepted(now, conn, peer.key),
            (Transport::Stream, _) => self.outputs.push_back(Output::Close { conn }),
        }
    }

    fn received(&mut self, now: Time, conn: Conn, octets: &[u8]) {
        if self.links.has(conn) {
            return self.links.received(now, conn, octets);
        }
        if self.brokers.has(conn) {
            let secrets = || self.links.server.secrets();
            return self.brokers.received(now, conn, octets, &mut self.hub, &secrets);
        }
        self.apps.received(now, conn, octets, &mut self.hub);
    }

    fn expire(&mut self, now: Time) {
        self.links.expire(now);
        if self.hub.deadline().is_some_and(|due| due <= now) {
            self.hub.handle_deadline(now);
        }
        self.apps.handle_deadline(now, &mut self.hub);
        self.brokers.handle_deadline(now, &mut self.hub);
    }

    /// Does what the link's end wants.
    fn linked(&mut self, now: Time, linked: Linked) -> Option<Output<Event>> {
        match linked {
            Linked::Output(output) => return Some(output),
            Linked::Lookup { ticket, session_id } => self.hub.authenticate(ticket, SessionId(session_id)),
            Linked::Up { session, principal, resumed } => {
                let inbox = inbox(principal);
                if let Some(before) = self.hub.seat(inbox).filter(|before| before.broker != HERE) {
                    self.brokers.evict(inbox, before, Closing::Replaced);
                }
                self.hub.online(now, inbox, seat(session));
                self.came(inbox, resumed);
            }
            Linked::Message { session, principal, octets } => match Frame::decode(&octets) {
                Some(frame) => self.hub.frame(now, inbox(principal), seat(session), frame),
                None => self.links.counters.bad_frames += 1,
            },
            Linked::Gone { session, principal, why } => {
                self.hub.offline(now, inbox(principal), seat(session));
                self.went(inbox(principal), reason(why));
            }
            Linked::TicketRoot(root) => {
                self.hub.also_store(vec![put_tickets(&root)]);
                self.brokers.ticket_root(&root);
            }
        }
        None
    }

    /// Does what the brokers' side wants.
    fn brokered(&mut self, now: Time, output: BrokersOutput) {
        match output {
            BrokersOutput::Send(conn, octets) => {
                self.outputs.push_back(Output::Send { conn, to: None, octets });
            }
            BrokersOutput::Close(conn) => self.outputs.push_back(Output::Close { conn }),
            BrokersOutput::EvictHere(inbox, seat) => {
                // A broker's word may be wrong: an application's seat is no session.
                if self.links.server.principal(Session(seat.place)) == Some(inbox.0.into()) {
                    self.links.close(now, Session(seat.place), Closing::Replaced);
                    self.went(inbox, reason(Why::Replaced));
                }
            }
            BrokersOutput::Online(inbox, resumed) => self.came(inbox, resumed),
            BrokersOutput::Offline(inbox, why) => self.went(inbox, reason_of(why)),
            BrokersOutput::Up(_) | BrokersOutput::Down(_) => {}
        }
    }

    fn came(&mut self, inbox: Inbox, resumed: bool) {
        if self.announce {
            let event = Event::new(EventKind::DeviceOnline).with_u64(Field::Inbox, inbox.0.into());
            self.events.push_back(event.with_u64(Field::Resumed, resumed.into()));
        }
    }

    fn went(&mut self, inbox: Inbox, why: &'static str) {
        if self.announce {
            let event = Event::new(EventKind::DeviceOffline).with_u64(Field::Inbox, inbox.0.into());
            self.events.push_back(event.with_text(Field::Text, why));
        }
    }

    /// Does what the hub wants.
    fn hubbed(&mut self, now: Time, output: HubOutput) {
        match output {
            HubOutput::Store(batch) => self.store.submit(batch),
            HubOutput::Fetch(fetch) => self.store.store.ask(fetch),
            HubOutput::Send { seat, inbox, frame } if seat.broker != HERE => {
                self.brokers.frame(now, seat, inbox, &frame, &mut self.hub);
            }
            HubOutput::Send { seat, inbox, frame } => match self.apps.seat_of(inbox) {
                Some(_) => self.apps.frame(seat, &frame),
                None => self.links.send(now, Session(seat.place), inbox.0.into(), frame.encode()),
            },
            HubOutput::Answered { seat, id, answer } => self.apps.answered(seat, &id, &answer),
            HubOutput::Whereabouts { seat, id, users } => self.apps.whereabouts(seat, &id, &users),
            HubOutput::Authenticated { ticket, credential } => {
                if self.brokers.authenticated(ticket, credential.as_ref()) {
                    return;
                }
                let answer = credential.map(|credential| Credential {
                    secret: credential.secret,
                    principal: credential.inbox.0.into(),
                    expiry: if credential.expires == 0 { u64::MAX } else { credential.expires },
                    epoch: credential.epoch,
                });
                self.links.server.authenticated(now, ticket, answer.ok_or(Refusal::Unknown));
            }
            HubOutput::Revoked { inbox, .. } => {
                self.links.server.revoke(now, inbox.0.into(), u32::MAX);
                self.brokers.revoked(inbox);
            }
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
}

impl Node for OfficeNode {
    fn handle(&mut self, now: Time, input: Input<'_>) {
        match input {
            Input::Accepted { conn, peer } => self.accepted(now, conn, &peer),
            Input::Received { from: Some(from), octets, .. } => {
                self.links.datagram(now, from, octets);
            }
            Input::Received { conn, octets, .. } => self.received(now, conn, octets),
            Input::Closed { conn, .. } => {
                if self.brokers.has(conn) {
                    self.brokers.closed(now, conn);
                } else if !self.links.closed(conn) {
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
            if let Some(linked) = self.links.poll(now) {
                match self.linked(now, linked) {
                    Some(output) => return Some(output),
                    None => continue,
                }
            }
            if let Some(output) = self.hub.poll_output(now) {
                self.hubbed(now, output);
                continue;
            }
            if let Some(output) = self.brokers.poll_output(now) {
                self.brokered(now, output);
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
        let parts = [self.links.deadline(), self.hub.deadline(), self.apps.deadline()];
        parts.into_iter().chain([self.brokers.deadline(), self.store.deadline()]).flatten().min()
    }
}

/// A device's queue names it on the link.
fn inbox(principal: u64) -> Inbox {
    Inbox(principal as u32)
}

/// Where a session sits.
fn seat(session: Session) -> Seat {
    Seat::here(session.0)
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

/// A reason as a broker says it (docs/inner-links.md).
fn reason_of(why: u16) -> &'static str {
    reason(match why {
        16 => Why::Silent,
        17 => Why::Unreachable,
        18 => Why::Stalled,
        19 => Why::Reset,
        2 => Why::Replaced,
        closing => Why::Closed(Closing::of(closing)),
    })
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
