//! The back end: admits gateways, keeps what they report, and brings every gateway of a group to the same state.
//!
//! What a gateway has to be told is a cursor into its group's [`Replica`]s, never a queue of
//! its own: ten thousand slow gateways cost ten thousand cursors.
//!
//! A report is applied, acknowledged and passed on only after the store said that it is durable.

mod connection;
mod durable;
mod features;
mod group;
mod operator;
mod peer;
mod registration;
mod rows;
mod rules;
mod session;
mod state;
#[cfg(test)]
mod tests;
mod timers;
mod tokens;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use super::{
    Grant, ResultKey,
    association::{Novelty, Opened, Patience, epoch},
};
use crate::{
    counters::counters,
    io::{Conn, Input, KeyId, Output, Peer as Remote, Transport},
    replica::Replica,
    rng::{Entropy, Seeded},
    status::{Fault, Status},
    store::{Batch, Op},
    time::Time,
    wire::{
        AppId,
        gateway::{
            Body, DecodeError, Encoder, Family, Kind, Malformed, Message, Outcome, Reason, Record, decode,
        },
    },
};
use features::{FeatureBounds, Slot};
use group::{Group, ResultPolicy, Vote};
#[cfg(feature = "backend")]
pub(crate) use operator::check_group;
use peer::{Cargo, Peer, Session, Waiting};
use rules::{RuleEdit, RuleRow, Rules};
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
    /// Feature reports kept of one gateway for one application; past it the oldest goes.
    pub max_features_per_gateway: u16,
    /// Applications that feature reports of one gateway are kept of; past it those of the one reported longest ago go.
    pub max_feature_apps_per_gateway: usize,
    /// Feature reports kept of a group; past it those of the gateway and application reported longest ago go.
    pub max_features: usize,
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
            max_feature_apps_per_gateway: 128,
            max_features: 65_536,
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
    /// Its word alone is enough for results to be told. It weighs no more in training (docs/training.md).
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
    /// All features that a gateway reported of an application went at a bound: a trainer should not know them any more.
    FeaturesGone {
        /// The group.
        group: String,
        /// The application.
        app: AppId,
        /// Whose they were, as [`Backend::reporter_number`] says it.
        reporter: u64,
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
        refused: "registrations and tokens refused",
        enrolled: "gateways enrolled by a token",
        tokens_wrong: "tokens shown that were wrong, used or expired",
        tokens_unseen: "tokens not looked at because too many from there were wrong",
        guessers_evicted: "addresses forgotten that gave a wrong token, because too many gave one",
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
        strangers_too_long: "connections closed because a message before registration was too long",
        probes: "datagram addresses probed",
        proofs_evicted: "proven datagram addresses forgotten before they registered, because too many were proven",
        reports: "identification results received",
        features: "feature reports received",
        overloaded: "reports left unanswered because too many wait for the disk, of all or of that gateway",
        features_evicted: "feature reports dropped at a bound",
        results_evicted: "words of gateways dropped at a bound",
        results_expired: "words of gateways dropped because they were not renewed",
        results_sent: "records sent to gateways",
        rules_sent: "rules sent to gateways",
    }
}

/// Whose word a result is: the key, or for gateways that prove nothing the address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Voter {
    Key(KeyId),
    Address(IpAddr),
}

/// What waits for the disk.
enum Effect {
    Vote {
        peer: u64,
        group: usize,
        key: ResultKey,
        vote: Vote,
        record: Record,
        tag: u16,
        report: Waiting,
    },
    Features {
        peer: u64,
        app: AppId,
        words: Vec<u32>,
        tag: u16,
        report: Waiting,
        /// In which group what went for it, by application and reporter.
        gone: (usize, Vec<(AppId, u64)>),
    },
    Rules(RuleEdit),
    Model(usize, AppId, Vec<u32>),
    Enrolment(KeyId, Option<Enrolment>),
    Token,
    Redeemed(Box<tokens::Redeemed>),
}

/// Where a peer is found: its socket, and its address on a listening datagram socket.
type Path = (Conn, Option<SocketAddr>);

/// Validated datagram addresses, and those that wait for their probe.
const MAX_VALIDATED: usize = 4096;
/// How long a validated address may wait before it registers.
const VALIDATED_FOR: Duration = Duration::from_secs(30);
/// Reports of one gateway that may wait for the disk: those of a Hailpost gateway never reach it, and nobody's keep
/// others out.
const MAX_WAITING: usize = 64;
/// Remote ends looked at in one sweep of expired results.
const SWEEP: usize = 1024;
/// How often old results are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// The back end.
pub struct Backend {
    config: BackendConfig,
    policy: ResultPolicy,
    feature_bounds: FeatureBounds,
    rng: Seeded,
    cookie_key: u64,
    /// Unix time at the driver's origin, so that no clock is read again.
    unix_at_zero: u64,
    counters: BackendCounters,
    outputs: VecDeque<Output<BackendEvent>>,
    /// As the operator asked.
    enrolments: HashMap<KeyId, Enrolment>,
    /// As gateways are admitted: durable, or kept out.
    admitted: HashMap<KeyId, Enrolment>,
    /// Registrations by keys whose enrolment waits for the disk: the last one of each, with its peer's place and id.
    early: HashMap<KeyId, (usize, u64, Vec<u8>)>,
    /// Those that are out, by digest.
    tokens: HashMap<[u8; 32], Grant>,
    /// Who showed wrong ones: how many, and until when that is remembered.
    guessers: Replica<IpAddr, (u32, Time)>,
    groups: Vec<Group>,
    /// As the operator asked.
    rules_asked: Rules,
    /// As they are durable, and told.
    rules: Rules,
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
    /// Peers that may have something to be told, each once.
    ready: VecDeque<usize>,
    /// Whether each place among the peers is in `ready`.
    is_ready: Vec<bool>,
    ticket: u64,
    effects: VecDeque<(u64, Effect)>,
    /// How many words of a gateway on a remote end wait for the disk.
    waiting_words: HashMap<(usize, ResultKey, Voter), u32>,
    next_sweep: Time,
}

impl Backend {
    /// How it behaves.
    pub fn config(&self) -> &BackendConfig {
        &self.config
    }

    /// Registered gateways.
    pub fn gateways(&self) -> impl Iterator<Item = GatewayInfo> + '_ {
        self.peers.iter().flatten().filter_map(|peer| self.info(peer))
    }

    /// Enrolled gateways, by key, as the operator asked.
    pub fn enrolments(&self) -> impl Iterator<Item = (&KeyId, &Enrolment)> {
        self.enrolments.iter()
    }

    /// Whether a gateway with that key may come in, at the latest once the disk has it, or would if it were not barred.
    pub fn is_enrolled(&self, key: &KeyId) -> bool {
        self.enrolments.contains_key(key)
    }

    /// What each group holds; first what all share.
    pub fn groups(&self) -> impl Iterator<Item = GroupInfo> + '_ {
        let common = GroupInfo {
            name: String::new(),
            gateways: self.by_id.len(),
            results: 0,
            rules: self.rules.of(None).count(),
            models: 0,
        };
        std::iter::once(common).chain(self.groups.iter().enumerate().map(|(at, group)| GroupInfo {
            name: group.name.clone(),
            gateways: group.members.len(),
            results: group.results().count(),
            rules: self.rules.of(Some(at)).count(),
            models: group.models.len(),
        }))
    }

    /// The results that a group's gateways are told, oldest first.
    pub fn results(&self, group: &str) -> impl Iterator<Item = (ResultKey, AppId)> + '_ {
        let group = self.groups.iter().find(|known| known.name == group);
        group.into_iter().flat_map(|group| group.results())
    }

    /// The rules that a group's gateways are told, in order: those of all groups and its own. One that is in both
    /// comes twice.
    pub fn rules(&self, group: &str) -> impl Iterator<Item = (AppId, &[u8])> {
        self.rules.view(self.groups.iter().position(|known| known.name == group)).rules()
    }

    /// The parameters that a group's gateways are told for an application.
    pub fn parameters(&self, group: &str, app: AppId) -> Option<&[u32]> {
        let group = self.groups.iter().find(|known| known.name == group)?;
        group.models.get(&app).map(|words| &words[..])
    }

    /// What was counted.
    pub fn counters(&self) -> &BackendCounters {
        &self.counters
    }

    /// Reports that wait for the disk.
    pub fn pending(&self) -> usize {
        self.effects.len()
    }

    /// Whether what was asked for with this ticket is durable.
    pub fn is_durable(&self, ticket: u64) -> bool {
        self.effects.front().is_none_or(|(first, _)| *first > ticket)
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
            // Its own time goes on as before: what it holds is kept for a while, not until a date.
            Input::Connected { .. } | Input::NetworkChanged | Input::Clock { .. } => {}
        }
    }

    /// The next output, until there is none. What gateways are told is made here, one gateway at a time, so that a
    /// driver can stop at its budget and go on later.
    pub fn poll_output(&mut self, now: Time) -> Option<Output<BackendEvent>> {
        while self.outputs.is_empty() {
            let at = self.ready.pop_front()?;
            self.is_ready[at] = false;
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

    fn group(&mut self, name: &str) -> usize {
        self.groups.iter().position(|group| group.name == name).unwrap_or_else(|| {
            self.groups.push(Group::new(name));
            self.groups.len() - 1
        })
    }

    fn wake(&mut self, at: usize) {
        if !std::mem::replace(&mut self.is_ready[at], true) {
            self.ready.push_back(at);
        }
    }

    fn wake_group(&mut self, group: usize) {
        let members = &self.groups[group].members;
        self.ready
            .extend(members.iter().copied().filter(|&at| !std::mem::replace(&mut self.is_ready[at], true)));
    }

    fn info(&self, peer: &Peer) -> Option<GatewayInfo> {
        let session = peer.session.as_ref()?;
        let key = peer.remote.key;
        let name = match key.and_then(|key| self.admitted.get(&key)) {
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
}
