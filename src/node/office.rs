//! An office: devices on the link, applications on their connections, the hub between them, and its store.

mod accounts;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path as FilePath,
};

use super::{
    Event, EventKind, Field, Node,
    backup::Backup,
    durable::{Committed, Durable},
    link_keys::{self, Found},
    links::{Linked, Links, OfficeCounters},
};
use crate::{
    io::{Conn, Input, Output, Peer, Service, Transport},
    link::{Closing, Credential, Server, ServerConfig, Session, Why},
    post::{
        HERE, Inbox, Seat, SessionId,
        apps::{Apps, AppsConfig, AppsOutput},
        brokers::{BrokerInfo, Brokers, BrokersConfig, BrokersOutput},
        hub::{self, Enrolled, Hub, HubConfig, HubEvent, HubOutput, List, Listed, Rights, Vouched},
        rooms::{OtherRoom, RoomInfo, Rooms, RoomsOutput},
    },
    rng::Entropy,
    status::{Fault, Status},
    store::{Copied, Store},
    time::Time,
    wire::{link::Refusal, post::Frame},
};

/// Sessions that are ended in one turn when the office closes.
const EVICTED: usize = 2048;
/// Pages of lists that nobody fetched.
const MAX_LISTED: usize = 64;

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
    /// Octets that wait, of all sessions, because the link has no room for them. A session that wants more than an eighth of what is
    /// left is closed.
    pub max_held: usize,
    /// Brokers apart from this process.
    pub brokers: BrokersConfig,
    /// What this office is called among several; empty where there is one.
    pub room: String,
    /// The others: each is the way of its number.
    pub rooms: Vec<OtherRoom>,
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
            room: String::new(),
            rooms: Vec::new(),
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
    rooms: Rooms,
    store: Durable,
    outputs: VecDeque<Output<Event>>,
    events: VecDeque<Event>,
    backup: Option<Backup>,
    /// It is about to stop: sessions are ended.
    leaving: bool,
    /// By ticket, until they are fetched.
    listed: BTreeMap<u64, Listed>,
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
        let Found { secrets, ops, is_copy } = link_keys::found(&*store, unix, &mut rng)?;
        let open = hub::Open { now, unix, rng: Box::new(rng.clone()) };
        let mut hub = Hub::open(config.hub, open, &*store)?;
        if is_copy {
            hub.begin_anew();
        }
        if !ops.is_empty() {
            hub.also_store(ops);
        }
        let rooms = Rooms::new(&config.room, config.rooms, now, Box::new(rng.clone()), &mut hub);
        let server = Server::new(config.link, secrets, now, unix, rng);
        Ok(OfficeNode {
            announce: config.announce,
            links: Links::new(server, config.max_streams, config.max_held),
            hub,
            apps: Apps::new(config.apps),
            brokers: Brokers::new(BrokersConfig { announce: config.announce, ..config.brokers }),
            rooms,
            store: Durable::new(store),
            outputs: VecDeque::new(),
            events: VecDeque::new(),
            backup: None,
            leaving: false,
            listed: BTreeMap::new(),
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

    /// Other rooms.
    pub const fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    /// Other rooms, as people see them.
    pub fn room_list(&self) -> Vec<RoomInfo> {
        self.rooms.list(&self.hub)
    }

    /// Puts in force what can be changed while it serves: how many sessions, connections and messages may wait, and what is
    /// announced. Bounds of the link other than that of its sessions stay.
    pub fn reconfigure(&mut self, config: OfficeConfig) {
        self.links.server.set_max_sessions(config.link.max_sessions);
        self.hub.reconfigure(config.hub);
        self.apps.reconfigure(config.apps);
        self.announce = config.announce;
    }

    /// The office is about to stop: nobody new is let in, and who is there is sent away in portions, to come back later or go
    /// elsewhere.
    pub fn leave(&mut self) {
        self.links.server.drain(true);
        self.leaving = true;
    }

    /// Copies the store into a new file while it serves (OM-03), a piece a turn: all that is acknowledged now, and nothing that
    /// comes later than the copy begins. The event `durable` with this ticket says that the file is whole and on the disk,
    /// `failed` why there is none. An office can be opened on the copy: tickets that its original gave out are void there.
    ///
    /// # Errors
    /// [`Status::State`] while a copy is under way.
    pub fn backup(&mut self, to: &FilePath) -> Result<u64, Fault> {
        if self.backup.is_some() {
            return Err(Fault::new(Status::State, "a backup is under way: wait for its end"));
        }
        let mark = self.hub.also_store(vec![link_keys::mark_copy()]);
        let ticket = self.hub.request();
        self.backup = Some(Backup::new(to, ticket, mark));
        Ok(ticket)
    }

    /// How far the copy under way is.
    pub fn backup_progress(&self) -> Option<Copied> {
        self.backup.as_ref().map(Backup::copied)
    }

    fn end_backup(&mut self, result: Result<(), Fault>) {
        let Some(backup) = self.backup.take() else { return };
        self.store.store.backup_cancel();
        backup.end(result, &mut self.events);
    }

    /// Works on a copy. Whether there is more to do.
    fn turn_backup(&mut self, committed: &Committed) -> bool {
        let Some(backup) = &mut self.backup else { return false };
        let store = &mut *self.store.store;
        let marked = match committed {
            Committed::Failed => {
                let detail = "the store fails, so the backup was given up";
                Err(Fault::new(Status::Store, detail))
            }
            Committed::Through(through) => backup.stored(*through, store),
            Committed::Nothing => Ok(false),
        };
        let stepped = match marked {
            Ok(true) => Ok(false),
            Ok(false) => backup.step(store),
            Err(ref fault) => Err(fault.clone()),
        };
        if !matches!(marked, Ok(false)) {
            self.hub.also_store(vec![link_keys::unmark_copy()]);
        }
        match stepped {
            Ok(false) => return self.backup.as_ref().is_some_and(Backup::is_copying),
            Ok(true) => self.end_backup(Ok(())),
            Err(fault) => self.end_backup(Err(fault)),
        }
        true
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
            (Transport::Stream, Service::Inner) if self.rooms.is_listed(peer.key) => {
                self.rooms.accepted(now, conn, peer.key);
            }
            (Transport::Stream, Service::Inner) => self.brokers.accepted(now, conn, peer.key),
            (Transport::Stream, _) => self.outputs.push_back(Output::Close { conn }),
        }
    }

    fn received(&mut self, now: Time, conn: Conn, octets: &[u8]) {
        if self.links.has(conn) {
            return self.links.received(now, conn, octets);
        }
        if self.rooms.has(conn) {
            return self.rooms.received(now, conn, octets, &mut self.hub);
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
        self.rooms.handle_deadline(now, &mut self.hub);
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
                self.hub.also_store(vec![link_keys::put_tickets(&root)]);
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

    /// Does what the side of other rooms wants.
    fn roomed(&mut self, output: RoomsOutput) {
        let mut warn = |text| {
            self.events.push_back(Event::new(EventKind::Warning).with_text(Field::Text, text));
        };
        match output {
            RoomsOutput::Connect(conn, way) => self.outputs.push_back(Output::Connect { conn, way }),
            RoomsOutput::Send(conn, octets) => {
                self.outputs.push_back(Output::Send { conn, to: None, octets });
            }
            RoomsOutput::Close(conn) => self.outputs.push_back(Output::Close { conn }),
            RoomsOutput::Up(_) => {}
            RoomsOutput::Down(name) => {
                warn(format!("the link to the room {name} is lost; it is tried again"))
            }
            RoomsOutput::Refused(name, why) => warn(format!("the room {name} does not take this one: {why}")),
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
            HubOutput::Relay { seat, relayed } => self.rooms.relay(seat, relayed),
            HubOutput::Taken { seat, sequence, code } => self.rooms.taken(seat, sequence, code),
            HubOutput::AskRoom { room, seat, ticket, users } => {
                self.rooms.ask(now, (room, seat), ticket, users, &mut self.hub);
            }
            HubOutput::ToldRoom { seat, correlation, users } => {
                self.rooms.presence(seat, correlation, users);
            }
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
            HubOutput::Revoked { inbox, epoch, .. } => {
                self.links.server.revoke(now, inbox.0.into(), epoch);
                self.brokers.revoked(inbox, epoch);
            }
            HubOutput::Listed { ticket, listed } => {
                self.listed.insert(ticket, listed);
                if self.listed.len() > MAX_LISTED {
                    self.listed.pop_first();
                }
                self.events.push_back(Event::new(EventKind::Durable).with_u64(Field::Ticket, ticket));
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
                if self.rooms.has(conn) {
                    self.rooms.closed(now, conn, &mut self.hub);
                } else if self.brokers.has(conn) {
                    self.brokers.closed(now, conn);
                } else if !self.links.closed(conn) {
                    self.apps.closed(now, conn, &mut self.hub);
                }
            }
            Input::Deadline => self.expire(now),
            Input::Clock { unix } => {
                self.links.server.set_unix(now, unix);
                self.hub.set_unix(now, unix);
            }
            Input::Connected { conn, .. } => self.rooms.connected(now, conn),
            // Its store is its own.
            Input::Stored { .. } | Input::NetworkChanged => {}
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
            if let Some(output) = self.rooms.poll_output(now) {
                self.roomed(output);
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
        let committed = self.store.commit(now, &mut self.events);
        if let Committed::Through(through) = committed {
            self.hub.stored(now, through);
        }
        let evicted = if self.leaving { self.links.server.evict(now, EVICTED) } else { 0 };
        self.turn_backup(&committed) || evicted > 0 || !matches!(committed, Committed::Nothing)
    }

    fn deadline(&self) -> Option<Time> {
        let parts = [self.links.deadline(), self.hub.deadline(), self.apps.deadline()];
        parts
            .into_iter()
            .chain([self.brokers.deadline(), self.rooms.deadline(), self.store.deadline()])
            .flatten()
            .min()
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
        Why::Closed(Closing::Drained) => "the office is about to stop",
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
