//! The back end: admits gateways, keeps what they report, and brings every gateway of a group to the same state.
//!
//! What a gateway has to be told is a cursor into its group's [`Replica`](super::replica::Replica)s, never a queue of
//! its own: ten thousand slow gateways cost ten thousand cursors.
//!
//! A report is applied, acknowledged and passed on only after the store said that it is durable.

mod group;
mod peer;
mod rows;
mod state;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{
    ResultKey,
    association::{Novelty, Opened, Patience, epoch},
    replica::Replica,
};
use crate::{
    counters::counters,
    io::{Conn, Input, KeyId, Output, Peer as Remote, Transport},
    rng::{Entropy, Seeded},
    status::{Fault, Status},
    store::{Batch, Op},
    time::Time,
    wire::{
        AppId,
        gateway::{Body, Encoder, Family, Kind, Malformed, Message, Outcome, Reason, Record, decode},
    },
};
use group::{Group, ResultPolicy, RuleBook, Vote};
use peer::{Cargo, Peer, Session};
pub use state::Open;

/// How a back end behaves.
#[derive(Clone, Debug)]
pub struct BackendConfig {
    /// Width of addresses (SPEC R-03).
    pub family: Family,
    /// The pause between heartbeats that gateways keep; three of them in silence and a gateway is gone.
    pub heartbeat: Duration,
    /// How long a request waits for its answer before it is sent again.
    pub timeout: Duration,
    /// Sends of one request in all.
    pub sends: u8,
    /// How long a connection may stay without a registration, or a message without its end.
    pub patience: Duration,
    /// Gateways that must agree before their result is told to others; one trusted gateway is enough.
    pub agreement: usize,
    /// How long a report holds without being repeated (SPEC R-14).
    pub result_ttl: Duration,
    /// How long an identical report is acknowledged without being written or told again (SPEC R-21).
    pub result_renew: Duration,
    /// Remote ends that a group knows at the most; past it the oldest goes.
    pub max_results: usize,
    /// Remote ends that one gateway has a word on; past it its oldest goes.
    pub max_results_per_gateway: usize,
    /// Feature reports kept of one gateway for one application.
    pub max_features_per_gateway: u16,
    /// Connections and gateways at the most.
    pub max_gateways: usize,
    /// Reports that wait for the disk at the most; past it they wait at the gateway.
    pub max_pending: usize,
    /// The group of gateways on a transport that proves nothing; `None` refuses them.
    pub open_group: Option<String>,
    /// Probe a datagram's source address before answering it at length.
    pub probe_addresses: bool,
}

impl Default for BackendConfig {
    fn default() -> Self {
        BackendConfig {
            family: Family::V6,
            heartbeat: Duration::from_secs(3),
            timeout: Duration::from_secs(5),
            sends: 3,
            patience: Duration::from_secs(10),
            agreement: 2,
            result_ttl: Duration::from_secs(24 * 3600),
            result_renew: Duration::from_secs(3600),
            max_results: 100_000,
            max_results_per_gateway: 10_000,
            max_features_per_gateway: 64,
            max_gateways: 20_000,
            max_pending: 65_536,
            open_group: None,
            probe_addresses: true,
        }
    }
}

/// An enrolled gateway (DECISIONS 1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Enrolment {
    /// What people call it; at most 255 octets.
    pub name: String,
    /// Whom it shares with; at most 64 octets, not empty.
    pub group: String,
    /// Its word alone is enough.
    pub trusted: bool,
    /// Taken off by the operator.
    pub barred: bool,
}

/// A gateway that is registered now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GatewayInfo {
    /// Names this registration; never used again.
    pub id: u64,
    /// Its name, or for one that proved nothing its address.
    pub name: String,
    /// Its group.
    pub group: String,
    /// Its key, if it proved one.
    pub key: Option<KeyId>,
}

/// What a group holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupInfo {
    /// Its name; empty for what all groups share.
    pub name: String,
    /// Gateways registered now.
    pub gateways: usize,
    /// Results that are told to its gateways.
    pub results: usize,
    /// Rules of its own.
    pub rules: usize,
    /// Applications with trained parameters.
    pub models: usize,
}

/// What the application is told.
#[derive(Clone, PartialEq, Debug)]
pub enum BackendEvent {
    /// A gateway registered.
    Registered(GatewayInfo),
    /// A gateway has acknowledged all that its group held when it registered.
    Synced(GatewayInfo),
    /// Somebody was refused.
    Refused {
        /// The key it proved.
        key: Option<KeyId>,
        /// What it was told.
        reason: Reason,
    },
    /// A gateway is gone without a word.
    Gone(GatewayInfo, Fault),
    /// A gateway left, or was taken off.
    Deregistered {
        /// Which.
        gateway: GatewayInfo,
        /// Taken off by the operator.
        by_backend: bool,
    },
    /// A gateway's identification is durable.
    Identified(GatewayInfo, Record),
    /// A gateway's features are durable: a trainer may want them.
    Features {
        /// Who measured.
        gateway: GatewayInfo,
        /// The application it took the flow for.
        app: AppId,
        /// What it measured.
        words: Vec<u32>,
    },
    /// All that was asked for up to this ticket is durable.
    Durable(u64),
}

counters! {
    /// What a back end counts.
    pub struct BackendCounters {
        connections: "connections taken",
        turned_away: "connections closed because the table was full",
        registrations: "gateways registered",
        refused: "registrations refused",
        gone: "gateways lost",
        messages: "messages received and read",
        malformed: "messages that could not be read",
        foreign: "datagrams of no association, or damaged",
        unknown_ids: "messages with an unknown id",
        unexpected: "messages that do not fit the state or direction",
        repeated: "requests received more than once",
        resent: "requests sent again",
        unanswered: "requests given up without an answer",
        silent: "connections closed because nothing whole came in time",
        probes: "datagram addresses probed",
        reports: "identification results received",
        features: "feature reports received",
        overloaded: "reports left unanswered because too many wait for the disk",
        results_evicted: "words of gateways dropped at a bound",
        results_expired: "words of gateways dropped because they were not renewed",
        results_sent: "records sent to gateways",
        rules_sent: "rules sent to gateways",
    }
}

/// Whose word a result is: the key, or for gateways that prove nothing the address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Voter {
    Key(KeyId),
    Address(IpAddr),
}

/// What waits for the disk.
enum Effect {
    Vote { peer: u64, group: usize, key: ResultKey, vote: Vote, record: Record, tag: u16 },
    Features { peer: u64, app: AppId, words: Vec<u32>, tag: u16 },
    Asked,
}

/// Where a peer is found: its socket, and its address on a listening datagram socket.
type Path = (Conn, Option<SocketAddr>);

/// Validated datagram addresses, and those that wait for their probe.
const MAX_VALIDATED: usize = 4096;
/// How long a validated address may wait before it registers.
const VALIDATED_FOR: Duration = Duration::from_secs(30);
/// Remote ends looked at in one sweep of expired results.
const SWEEP: usize = 1024;
/// How often old results are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// The back end.
pub struct Backend {
    config: BackendConfig,
    policy: ResultPolicy,
    rng: Seeded,
    cookie_key: u64,
    /// Unix time at the driver's origin, so that no clock is read again.
    unix_at_zero: u64,
    counters: BackendCounters,
    outputs: VecDeque<Output<BackendEvent>>,
    registry: HashMap<KeyId, Enrolment>,
    groups: Vec<Group>,
    common: RuleBook,
    peers: Vec<Option<Peer>>,
    free: Vec<usize>,
    by_path: HashMap<Path, usize>,
    by_id: HashMap<u64, usize>,
    by_key: HashMap<KeyId, usize>,
    listeners: HashMap<Conn, Remote>,
    validated: Replica<SocketAddr, Time>,
    next_id: u64,
    /// One entry a peer, at or before its real deadline.
    timers: BTreeSet<(Time, usize)>,
    /// Peers that may have something to be told.
    ready: VecDeque<usize>,
    ticket: u64,
    effects: VecDeque<(u64, Effect)>,
    feature_slots: HashMap<(usize, AppId, Voter), u16>,
    next_sweep: Time,
}

impl Backend {
    /// Registered gateways.
    pub fn gateways(&self) -> impl Iterator<Item = GatewayInfo> + '_ {
        self.peers.iter().flatten().filter_map(|peer| self.info(peer))
    }

    /// Enrolled gateways, by key.
    pub fn enrolments(&self) -> impl Iterator<Item = (&KeyId, &Enrolment)> {
        self.registry.iter()
    }

    /// What each group holds; first what all share.
    pub fn groups(&self) -> impl Iterator<Item = GroupInfo> + '_ {
        let common = GroupInfo {
            name: String::new(),
            gateways: self.by_id.len(),
            results: 0,
            rules: self.common.rules().count(),
            models: 0,
        };
        std::iter::once(common).chain(self.groups.iter().map(|group| GroupInfo {
            name: group.name.clone(),
            gateways: group.members.len(),
            results: group.published.len(),
            rules: group.rules.rules().count(),
            models: group.models.len(),
        }))
    }

    /// The results that a group's gateways are told, oldest first.
    pub fn results(&self, group: &str) -> impl Iterator<Item = (ResultKey, AppId)> + '_ {
        let group = self.groups.iter().find(|known| known.name == group);
        group.into_iter().flat_map(|group| group.published.after(0).map(|(_, key, told)| (key, told.app)))
    }

    /// The rules that a group's gateways are told, in order: those of all groups, then its own.
    pub fn rules(&self, group: &str) -> impl Iterator<Item = (AppId, &[u8])> {
        let own = self.groups.iter().find(|known| known.name == group);
        self.common.rules().chain(own.into_iter().flat_map(|group| group.rules.rules()))
    }

    /// What was counted.
    pub fn counters(&self) -> &BackendCounters {
        &self.counters
    }

    /// Reports that wait for the disk.
    pub fn pending(&self) -> usize {
        self.effects.len()
    }

    /// Takes an input.
    pub fn handle(&mut self, now: Time, input: Input<'_>) {
        match input {
            Input::Accepted { conn, peer } => self.accepted(now, conn, peer),
            Input::Received { conn, from, octets } => self.received(now, (conn, from), octets),
            Input::Closed { conn, fault } => {
                self.listeners.remove(&conn);
                if let Some(&at) = self.by_path.get(&(conn, None)) {
                    self.lost(at, fault.unwrap_or_else(|| Status::Closed.into()));
                }
            }
            Input::Stored { through } => self.stored(now, through),
            Input::Deadline => self.tick(now),
            Input::Connected { .. } => {}
        }
    }

    /// The next output, until there is none. What gateways are told is made here, one gateway at a time, so that a
    /// driver can stop at its budget and go on later.
    pub fn poll_output(&mut self, now: Time) -> Option<Output<BackendEvent>> {
        while self.outputs.is_empty() {
            let at = self.ready.pop_front()?;
            self.tell(now, at);
        }
        self.outputs.pop_front()
    }

    /// When [`Input::Deadline`] is wanted.
    pub fn deadline(&self) -> Option<Time> {
        let peers = self.timers.first().map(|(due, _)| *due);
        let sweep = self.groups.iter().any(|group| group.oldest().is_some()).then_some(self.next_sweep);
        peers.into_iter().chain(sweep).min()
    }

    fn accepted(&mut self, now: Time, conn: Conn, remote: Remote) {
        if remote.transport == Transport::Datagram {
            self.listeners.insert(conn, remote);
            return;
        }
        self.counters.connections += 1;
        if self.by_path.len() >= self.config.max_gateways {
            self.counters.turned_away += 1;
            self.outputs.push_back(Output::Close { conn });
            return;
        }
        self.insert(now, (conn, None), remote);
    }

    fn insert(&mut self, now: Time, path: Path, remote: Remote) -> usize {
        self.next_id += 1;
        let peer = Peer::new(self.next_id, path, remote, now, now + self.config.patience);
        let at = self.free.pop().unwrap_or_else(|| {
            self.peers.push(None);
            self.peers.len() - 1
        });
        self.timers.insert((peer.timer, at));
        self.by_path.insert(path, at);
        self.peers[at] = Some(peer);
        at
    }

    fn received(&mut self, now: Time, path: Path, octets: &[u8]) {
        let Some(&at) = self.by_path.get(&path) else {
            if path.1.is_some() {
                self.stray(now, path, octets);
            }
            return;
        };
        if path.1.is_some() {
            return self.message(now, at, octets);
        }
        let Some(peer) = self.peers[at].as_mut() else { return };
        let id = peer.id;
        let mut frames = std::mem::take(&mut peer.frames);
        frames.push(octets);
        let result = frames.drain(self.config.family, |message| {
            self.message(now, at, message);
            self.peers[at].as_ref().is_some_and(|peer| peer.id == id)
        });
        let Some(peer) = self.peers[at].as_mut().filter(|peer| peer.id == id) else { return };
        if frames.is_partial() {
            peer.partial_since.get_or_insert(now);
        } else {
            peer.partial_since = None;
        }
        peer.frames = frames;
        if let Err(error) = result {
            self.malformed(at, &error.to_string());
        }
    }

    /// A datagram from an address that is no gateway's.
    fn stray(&mut self, now: Time, path: Path, octets: &[u8]) {
        let (conn, Some(from)) = path else { return };
        let Some(listener) = self.listeners.get(&conn).copied() else { return };
        let Ok(message) = decode(self.config.family, octets) else {
            self.counters.foreign += 1;
            return;
        };
        match message.body {
            Body::Register if !self.config.probe_addresses || self.validated.get(&from).is_some() => {
                if self.by_path.len() >= self.config.max_gateways {
                    self.counters.turned_away += 1;
                    return;
                }
                self.validated.remove(&from);
                self.counters.connections += 1;
                let at = self.insert(now, path, Remote { remote: from, ..listener });
                self.message(now, at, octets);
            }
            Body::Register => {
                self.counters.probes += 1;
                let encoder = Encoder {
                    family: self.config.family,
                    source: message.header.destination,
                    destination: message.header.source,
                };
                let octets = encoder.message(self.cookie(from), &Body::Heartbeat);
                self.outputs.push_back(Output::Send { conn, to: Some(from), octets });
            }
            Body::HeartbeatAnswer if message.header.tag == self.cookie(from) => {
                while let Some((_, oldest, until)) = self.validated.oldest()
                    && (*until <= now || self.validated.len() >= MAX_VALIDATED)
                {
                    self.validated.remove(&oldest);
                }
                self.validated.put(from, now + VALIDATED_FOR);
            }
            _ => self.counters.foreign += 1,
        }
    }

    /// What only a host at `from` can have seen.
    fn cookie(&self, from: SocketAddr) -> u16 {
        let mut hasher = DefaultHasher::new();
        (self.cookie_key, from, self.cookie_key).hash(&mut hasher);
        (hasher.finish() as u16).max(1)
    }

    fn message(&mut self, now: Time, at: usize, octets: &[u8]) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        let opened = match &peer.session {
            Some(session) => session.association.open(octets),
            None => match decode(self.config.family, octets) {
                Ok(message) => Opened::Message(message),
                Err(error) => Opened::Malformed(error),
            },
        };
        let message = match opened {
            Opened::Message(message) => message,
            Opened::Foreign => return self.counters.foreign += 1,
            Opened::Malformed(error) if matches!(error.what, Malformed::UnknownId(_)) => {
                return self.counters.unknown_ids += 1;
            }
            Opened::Malformed(error) => return self.malformed(at, &error.to_string()),
        };
        self.counters.messages += 1;
        peer.heard = now;
        match (&mut peer.session, message.body) {
            (_, Body::Register) => self.register(now, at, &message),
            (None, Body::Deregister) => {
                let outcome = Body::DeregisterAnswer(Outcome::refused(Reason::NOT_REGISTERED));
                self.answer_stranger(at, &message, &outcome);
            }
            (None, _) => self.counters.unexpected += 1,
            (Some(_), _) => self.session_message(now, at, &message),
        }
    }

    /// A stream that cannot be read is closed; a datagram that cannot be read is dropped.
    fn malformed(&mut self, at: usize, why: &str) {
        self.counters.malformed += 1;
        let Some(peer) = &self.peers[at] else { return };
        if peer.path.1.is_none() {
            self.outputs.push_back(Output::Close { conn: peer.path.0 });
            self.lost(
                at,
                Fault::new(Status::Malformed, format!("the gateway sent what cannot be read: {why}")),
            );
        }
    }

    fn register(&mut self, now: Time, at: usize, message: &Message<'_>) {
        let Some(peer) = self.peers[at].as_ref() else { return };
        let tag = message.header.tag;
        // The answer was lost: say it again, and change nothing.
        if let Some(session) = &peer.session
            && session.tag == tag
            && tag != 0
        {
            let outcome = Outcome { result: 0, reason: Reason(session.number) };
            let octets = session.association.message(tag, &Body::RegisterAnswer(outcome));
            self.counters.repeated += 1;
            let (conn, to) = peer.path;
            self.outputs.push_back(Output::Send { conn, to, octets });
            return;
        }
        let key = peer.remote.key;
        let (group, trusted) = match self.admit(key) {
            Ok(admitted) => admitted,
            Err(reason) => {
                self.counters.refused += 1;
                self.outputs.push_back(Output::Event(BackendEvent::Refused { key, reason }));
                self.answer_stranger(at, message, &Body::RegisterAnswer(Outcome::refused(reason)));
                return self.close(at);
            }
        };
        if let Some(old) = key.and_then(|key| self.by_key.get(&key).copied()).filter(|old| *old != at) {
            self.lost(old, Fault::new(Status::Closed, "the gateway registered again on another connection"));
        }
        self.leave_group(at);
        let Some(peer) = self.peers[at].as_mut() else { return };
        self.next_id += 1;
        peer.id = self.next_id;
        let voter = match key {
            Some(key) => Voter::Key(key),
            None => Voter::Address(peer.remote.remote.ip()),
        };
        let patience = Patience { timeout: self.config.timeout, sends: self.config.sends };
        let number = if tag != 0 { self.rng.next_u16() } else { 0 };
        let mut session = Session::new(self.config.family, &peer.remote, patience, group, voter, trusted);
        session.tag = tag;
        session.number = number;
        session.results_until = self.groups[group].published.head();
        let outcome = Outcome { result: 0, reason: Reason(number) };
        let octets = session.association.message(tag, &Body::RegisterAnswer(outcome));
        if tag != 0 {
            session.association.extend(epoch(tag, number));
        }
        let (conn, to) = peer.path;
        peer.session = Some(session);
        self.by_id.insert(peer.id, at);
        if let Some(key) = key {
            self.by_key.insert(key, at);
        }
        self.groups[group].members.push(at);
        self.counters.registrations += 1;
        self.outputs.push_back(Output::Send { conn, to, octets });
        if let Some(info) = self.peers[at].as_ref().and_then(|peer| self.info(peer)) {
            self.outputs.push_back(Output::Event(BackendEvent::Registered(info)));
        }
        self.rearm(now, at);
        self.ready.push_back(at);
    }

    /// The group of a gateway, and whether its word alone counts.
    fn admit(&mut self, key: Option<KeyId>) -> Result<(usize, bool), Reason> {
        let Some(key) = key else {
            let group = self.config.open_group.clone().ok_or(Reason::NOT_AUTHORISED)?;
            return Ok((self.group(&group), false));
        };
        let enrolment = self.registry.get(&key).ok_or(Reason::NOT_AUTHORISED)?;
        if enrolment.barred {
            return Err(Reason::BARRED);
        }
        let (group, trusted) = (enrolment.group.clone(), enrolment.trusted);
        Ok((self.group(&group), trusted))
    }

    fn group(&mut self, name: &str) -> usize {
        self.groups.iter().position(|group| group.name == name).unwrap_or_else(|| {
            self.groups.push(Group::new(name));
            self.groups.len() - 1
        })
    }

    fn answer_stranger(&mut self, at: usize, message: &Message<'_>, body: &Body<'_>) {
        let Some(peer) = &self.peers[at] else { return };
        let encoder = Encoder {
            family: self.config.family,
            source: message.header.destination,
            destination: message.header.source,
        };
        let (conn, to) = peer.path;
        self.outputs.push_back(Output::Send { conn, to, octets: encoder.message(message.header.tag, body) });
    }

    fn session_message(&mut self, now: Time, at: usize, message: &Message<'_>) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        let (id, (conn, to)) = (peer.id, peer.path);
        let Some(session) = &mut peer.session else { return };
        let (kind, answer) = message.body.kind();
        let tag = message.header.tag;
        if answer {
            if let Some(cargo) = session.association.answered(message) {
                self.answered(at, cargo);
            } else if kind != Kind::Heartbeat {
                self.counters.unexpected += 1;
            }
            return;
        }
        if kind == Kind::Heartbeat {
            let octets = session.association.message(tag, &Body::HeartbeatAnswer);
            self.outputs.push_back(Output::Send { conn, to, octets });
            return;
        }
        if !matches!(kind, Kind::Result | Kind::Features | Kind::Deregister) {
            return self.counters.unexpected += 1;
        }
        if kind != Kind::Deregister && self.effects.len() >= self.config.max_pending {
            return self.counters.overloaded += 1;
        }
        if session.association.admit(message) == Novelty::Repeated {
            self.counters.repeated += 1;
            let waits = self.effects.iter().any(|(_, effect)| match effect {
                Effect::Vote { peer, tag: waiting, .. } => {
                    kind == Kind::Result && *peer == id && *waiting == tag
                }
                Effect::Features { peer, tag: waiting, .. } => {
                    kind == Kind::Features && *peer == id && *waiting == tag
                }
                Effect::Asked => false,
            });
            if session.association.was_admitted(kind, tag) && !waits {
                self.acknowledge(id, kind, tag);
            }
            return;
        }
        match message.body {
            Body::Result(record) => self.reported(now, at, record, tag),
            Body::Features { app, words } => self.features(now, at, app, words.iter().collect(), tag),
            _ => {
                let octets = session.association.message(tag, &Body::DeregisterAnswer(Outcome::OK));
                self.outputs.push_back(Output::Send { conn, to, octets });
                self.left(at, false);
            }
        }
    }

    fn reported(&mut self, now: Time, at: usize, record: Record, tag: u16) {
        self.counters.reports += 1;
        let unix = self.unix(now);
        let Some(peer) = self.peers[at].as_ref() else { return };
        let Some(session) = &peer.session else { return };
        let address = match Family::V6.fit(record.remote.ip()) {
            Some(address) => SocketAddr::new(address, record.remote.port()),
            None => record.remote,
        };
        let key = ResultKey { remote: address, protocol: record.protocol };
        let vote = Vote { voter: session.voter, app: record.app, unix, trusted: session.trusted };
        let group = &self.groups[session.group];
        let (id, group_at) = (peer.id, session.group);
        let renewed = group.word(&key, &vote.voter).is_some_and(|word| {
            word.app == vote.app
                && unix < word.unix.saturating_add(self.policy.renew)
                && word.trusted == vote.trusted
        });
        if renewed {
            return self.acknowledge(id, Kind::Result, tag);
        }
        let op = rows::put_vote(&group.name, &key, &vote.voter, vote.app, unix);
        self.persist(vec![op], Effect::Vote { peer: id, group: group_at, key, vote, record, tag });
    }

    fn features(&mut self, now: Time, at: usize, app: AppId, words: Vec<u32>, tag: u16) {
        self.counters.features += 1;
        let unix = self.unix(now);
        let Some(peer) = self.peers[at].as_ref() else { return };
        let Some(session) = &peer.session else { return };
        let slot = self.feature_slots.entry((session.group, app, session.voter)).or_default();
        let group = &self.groups[session.group].name;
        let op = rows::put_feature(group, app, &session.voter, *slot, unix, &words);
        *slot = (*slot + 1) % self.config.max_features_per_gateway.max(1);
        let id = peer.id;
        self.persist(vec![op], Effect::Features { peer: id, app, words, tag });
    }

    fn stored(&mut self, now: Time, through: u64) {
        while let Some((ticket, _)) = self.effects.front()
            && *ticket <= through
        {
            let Some((ticket, effect)) = self.effects.pop_front() else { break };
            match effect {
                Effect::Vote { peer, group, key, vote, record, tag } => {
                    let reporter = self.by_id.contains_key(&peer).then_some(peer);
                    self.apply_vote(now, group, key, vote, reporter);
                    self.acknowledge(peer, Kind::Result, tag);
                    if let Some(info) = self.info_of(peer) {
                        self.outputs.push_back(Output::Event(BackendEvent::Identified(info, record)));
                    }
                }
                Effect::Features { peer, app, words, tag } => {
                    self.acknowledge(peer, Kind::Features, tag);
                    if let Some(gateway) = self.info_of(peer) {
                        self.outputs.push_back(Output::Event(BackendEvent::Features { gateway, app, words }));
                    }
                }
                Effect::Asked => self.outputs.push_back(Output::Event(BackendEvent::Durable(ticket))),
            }
        }
    }

    fn apply_vote(&mut self, _now: Time, group: usize, key: ResultKey, vote: Vote, reporter: Option<u64>) {
        let (gone, news) = self.groups[group].vote(key, vote, reporter, &self.policy);
        self.counters.results_evicted += gone.len() as u64;
        self.forget(group, gone);
        if news {
            self.wake_group(group);
        }
    }

    fn forget(&mut self, group: usize, gone: Vec<(ResultKey, Voter)>) {
        let name = self.groups[group].name.clone();
        let ops: Vec<Op> = gone.iter().map(|(key, voter)| rows::delete_vote(&name, key, voter)).collect();
        if !ops.is_empty() {
            self.submit(ops);
        }
    }

    fn wake_group(&mut self, group: usize) {
        self.ready.extend(self.groups[group].members.iter().copied());
    }

    fn acknowledge(&mut self, id: u64, kind: Kind, tag: u16) {
        let Some(peer) = self.by_id.get(&id).and_then(|&at| self.peers[at].as_ref()) else { return };
        let Some(session) = &peer.session else { return };
        let body = if kind == Kind::Result { Body::ResultAnswer } else { Body::FeaturesAnswer };
        let octets = session.association.message(tag, &body);
        let (conn, to) = peer.path;
        self.outputs.push_back(Output::Send { conn, to, octets });
    }

    fn answered(&mut self, at: usize, cargo: Cargo) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        match cargo {
            Cargo::Deregister => return self.left(at, true),
            Cargo::Telling => {}
        }
        let synced = peer.session.as_mut().is_some_and(|session| session.became_synced());
        if synced && let Some(info) = self.peers[at].as_ref().and_then(|peer| self.info(peer)) {
            self.outputs.push_back(Output::Event(BackendEvent::Synced(info)));
        }
        self.ready.push_back(at);
    }

    /// Makes the next messages for one gateway.
    fn tell(&mut self, now: Time, at: usize) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        let (id, (conn, to)) = (peer.id, peer.path);
        let Some(session) = &mut peer.session else { return };
        let group = &self.groups[session.group];
        let mut sent = peer::Told::default();
        session.tell(now, id, &self.common, group, &mut sent);
        self.counters.results_sent += sent.records;
        self.counters.rules_sent += sent.rules;
        if sent.messages.is_empty() {
            return;
        }
        self.outputs.extend(sent.messages.into_iter().map(|octets| Output::Send { conn, to, octets }));
        self.rearm(now, at);
    }

    fn tick(&mut self, now: Time) {
        while let Some(&(due, at)) = self.timers.first()
            && due <= now
        {
            self.timers.pop_first();
            self.peer_due(now, at);
        }
        if self.next_sweep <= now {
            self.next_sweep = now + SWEEP_EVERY;
            let before = self.unix(now).saturating_sub(self.config.result_ttl.as_secs());
            for group in 0..self.groups.len() {
                let gone = self.groups[group].expire(before, SWEEP, self.policy.agreement);
                if gone.len() >= SWEEP {
                    self.next_sweep = now;
                }
                self.counters.results_expired += gone.len() as u64;
                self.forget(group, gone);
            }
        }
    }

    fn peer_due(&mut self, now: Time, at: usize) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        let ((conn, to), silence) = (peer.path, self.config.heartbeat * 3);
        if peer.partial_since.is_some_and(|since| since + self.config.patience <= now)
            || peer.session.is_none() && peer.opened + self.config.patience <= now
        {
            self.counters.silent += 1;
            self.outputs.push_back(Output::Close { conn });
            return self.lost(at, Fault::new(Status::Timeout, "nothing whole came in time"));
        }
        if peer.session.is_some() && peer.heard + silence <= now {
            if to.is_none() {
                self.outputs.push_back(Output::Close { conn });
            }
            return self.lost(at, Fault::new(Status::Timeout, "three heartbeats were missed"));
        }
        if let Some(session) = &mut peer.session {
            let outputs = &mut self.outputs;
            let resent = &mut self.counters.resent;
            let failed = session.association.resend(now, |octets| {
                *resent += 1;
                outputs.push_back(Output::Send { conn, to, octets });
            });
            let tagged = session.association.is_tagged();
            if let Some((_, cargo)) = failed {
                self.counters.unanswered += 1;
                match cargo {
                    Cargo::Deregister => return self.left(at, true),
                    // A Hailpost gateway answers all it gets; a plain one may just not know the message.
                    Cargo::Telling if tagged => {
                        if to.is_none() {
                            self.outputs.push_back(Output::Close { conn });
                        }
                        return self.lost(at, Fault::new(Status::Timeout, "the gateway stopped answering"));
                    }
                    Cargo::Telling => self.answered(at, cargo),
                }
            }
        }
        self.rearm(now, at);
    }

    /// Puts the peer's timer where its next deadline is, if that is earlier than where it stands.
    fn rearm(&mut self, now: Time, at: usize) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        let due = peer.due(&self.config);
        if due < peer.timer || peer.timer <= now {
            self.timers.remove(&(peer.timer, at));
            peer.timer = due;
            self.timers.insert((due, at));
        }
    }

    /// A gateway left in order, or was taken off.
    fn left(&mut self, at: usize, by_backend: bool) {
        if let Some(gateway) = self.peers[at].as_ref().and_then(|peer| self.info(peer)) {
            self.outputs.push_back(Output::Event(BackendEvent::Deregistered { gateway, by_backend }));
        }
        self.close(at);
    }

    /// Closes what is still open, without an event.
    fn close(&mut self, at: usize) {
        if let Some(peer) = &self.peers[at]
            && peer.path.1.is_none()
        {
            self.outputs.push_back(Output::Close { conn: peer.path.0 });
        }
        self.remove(at);
    }

    /// A gateway is gone; its connection is closed already or will be.
    fn lost(&mut self, at: usize, fault: Fault) {
        if let Some(info) = self.peers[at].as_ref().and_then(|peer| self.info(peer)) {
            self.counters.gone += 1;
            self.outputs.push_back(Output::Event(BackendEvent::Gone(info, fault)));
        }
        self.remove(at);
    }

    fn remove(&mut self, at: usize) {
        self.leave_group(at);
        if let Some(peer) = self.peers[at].take() {
            self.timers.remove(&(peer.timer, at));
            self.by_path.remove(&peer.path);
            self.free.push(at);
        }
    }

    /// Ends the peer's registration and keeps its connection.
    fn leave_group(&mut self, at: usize) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        let Some(session) = peer.session.take() else { return };
        self.by_id.remove(&peer.id);
        if let Some(key) = peer.remote.key {
            self.by_key.remove(&key);
        }
        self.groups[session.group].members.retain(|member| *member != at);
    }

    fn info(&self, peer: &Peer) -> Option<GatewayInfo> {
        let session = peer.session.as_ref()?;
        let key = peer.remote.key;
        let name = match key.and_then(|key| self.registry.get(&key)) {
            Some(enrolment) => enrolment.name.clone(),
            None => peer.remote.remote.to_string(),
        };
        Some(GatewayInfo { id: peer.id, name, group: self.groups[session.group].name.clone(), key })
    }

    fn info_of(&self, id: u64) -> Option<GatewayInfo> {
        self.by_id.get(&id).and_then(|&at| self.peers[at].as_ref()).and_then(|peer| self.info(peer))
    }

    fn unix(&self, now: Time) -> u64 {
        self.unix_at_zero + now.as_micros() / 1_000_000
    }

    fn persist(&mut self, ops: Vec<Op>, effect: Effect) -> u64 {
        let ticket = self.submit(ops);
        self.effects.push_back((ticket, effect));
        ticket
    }

    fn submit(&mut self, ops: Vec<Op>) -> u64 {
        self.ticket += 1;
        self.outputs.push_back(Output::Store(Batch { ticket: self.ticket, ops }));
        self.ticket
    }
}
