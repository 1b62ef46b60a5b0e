//! One connection of the back end, and the registration on it.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
};

use super::{
    BackendConfig, Path, Voter,
    group::Group,
    rules::{RuleChange, RuleView},
};
use crate::{
    gateway::{
        association::{Association, Patience},
        frames::Frames,
    },
    io::{Peer as Remote, Transport},
    time::Time,
    wire::AppId,
    wire::gateway::{Body, Family, Kind, MAX_RECORDS, Record, Rule},
};

/// Most records in a sync on datagrams, so that it stays within 1500 octets (SPEC R-11).
const DATAGRAM_RECORDS: usize = 33;

/// What an outstanding request was for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cargo {
    Telling,
    Deregister,
}

/// What one round of telling came to.
#[derive(Default)]
pub(super) struct Told {
    pub messages: Vec<Vec<u8>>,
    pub records: u64,
    pub rules: u64,
}

/// A connection.
pub(super) struct Peer {
    pub id: u64,
    pub path: Path,
    pub remote: Remote,
    pub frames: Frames,
    /// Since when a message has begun and not ended.
    pub partial_since: Option<Time>,
    pub opened: Time,
    pub heard: Time,
    /// Where its entry among the timers stands.
    pub timer: Time,
    pub session: Option<Box<Session>>,
    pub has_shown_token: bool,
}

impl Peer {
    pub fn new(id: u64, path: Path, remote: Remote, now: Time, timer: Time) -> Peer {
        Peer {
            id,
            path,
            remote,
            frames: Frames::default(),
            partial_since: None,
            opened: now,
            heard: now,
            timer,
            session: None,
            has_shown_token: false,
        }
    }

    /// When something is to be done about it.
    pub fn due(&self, config: &BackendConfig) -> Time {
        let Some(session) = &self.session else { return self.opened + config.patience };
        let silent = self.heard + config.heartbeat * 3;
        let resend = session.association.deadline();
        let partial = self.partial_since.map(|since| since + config.patience);
        [resend, partial].into_iter().flatten().fold(silent, Time::min)
    }
}

/// A registration: how far its gateway has been told what.
pub(super) struct Session {
    pub association: Association<Cargo>,
    pub group: usize,
    pub voter: Voter,
    pub trusted: bool,
    /// The tag it registered with.
    pub tag: u16,
    /// Our half of the epoch.
    pub number: u16,
    results: u64,
    /// The first sync reaches to here; what changes later is told one by one.
    pub results_until: u64,
    results_begun: bool,
    results_synced: bool,
    rules: u64,
    /// At registration the rules had come to here; the first sync need not withdraw what was withdrawn before.
    pub rules_until: u64,
    rules_begun: bool,
    rules_synced: bool,
    models: u64,
    reported_synced: bool,
    /// Its reports that wait for the disk.
    pub waiting: Vec<Waiting>,
}

/// A report that waits for the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Waiting {
    kind: Kind,
    tag: u16,
    /// Of what it says: without tags nothing else tells it from another.
    digest: u64,
}

impl Waiting {
    pub fn new(kind: Kind, tag: u16, what: impl Hash) -> Waiting {
        let mut hasher = DefaultHasher::new();
        what.hash(&mut hasher);
        Waiting { kind, tag, digest: hasher.finish() }
    }
}

impl Session {
    pub fn new(
        family: Family,
        remote: &Remote,
        patience: Patience,
        group: usize,
        voter: Voter,
        trusted: bool,
    ) -> Box<Session> {
        Box::new(Session {
            association: Association::new(family, remote, remote.remote, patience),
            group,
            voter,
            trusted,
            tag: 0,
            number: 0,
            results: 0,
            results_until: 0,
            results_begun: false,
            results_synced: false,
            rules: 0,
            rules_until: 0,
            rules_begun: false,
            rules_synced: false,
            models: 0,
            reported_synced: false,
            waiting: Vec::new(),
        })
    }

    /// Whether the last answer completed the first syncs; true once.
    pub fn became_synced(&mut self) -> bool {
        let complete = self.results_synced
            && self.rules_synced
            && self.association.outstanding(Kind::ResultSync) == 0
            && self.association.outstanding(Kind::RuleSync) == 0;
        complete && !std::mem::replace(&mut self.reported_synced, true)
    }

    /// Whether the same report waits already: the same tag, or without tags the same content.
    pub fn is_waiting(&self, report: &Waiting) -> bool {
        self.waiting.iter().any(|waiting| match self.association.is_tagged() {
            true => (waiting.kind, waiting.tag) == (report.kind, report.tag),
            false => waiting == report,
        })
    }

    /// Takes the gateway off.
    pub fn deregister(&mut self, now: Time) -> Vec<u8> {
        self.association.request(now, Kind::Deregister, Cargo::Deregister, |encoder, tag, _| {
            encoder.message(tag, &Body::Deregister)
        })
    }

    /// Makes messages as far as the windows reach: results, then rules, then parameters.
    pub fn tell(&mut self, now: Time, id: u64, rules: RuleView<'_>, group: &Group, told: &mut Told) {
        while !self.results_synced && self.association.has_room(Kind::ResultSync) {
            self.sync_results(now, group, told);
        }
        if !self.results_synced {
            return;
        }
        while self.association.has_room(Kind::Result) && self.tell_result(now, id, group, told) {}
        while self.association.has_room(Kind::RuleSync) && self.sync_rules(now, rules, told) {}
        if !self.rules_synced {
            return;
        }
        while self.association.has_room(Kind::Parameters) && self.tell_model(now, group, told) {}
    }

    fn sync_results(&mut self, now: Time, group: &Group, told: &mut Told) {
        let family = self.association.family();
        let most = match (self.association.transport(), family) {
            (Transport::Datagram, Family::V6) => DATAGRAM_RECORDS,
            _ => MAX_RECORDS,
        };
        let until = self.results_until;
        let mut records = Vec::with_capacity(most);
        for (revision, key, published) in group.published.after(self.results) {
            if revision > until || records.len() == most {
                break;
            }
            self.results = revision;
            // The first sync starts from nothing, so there is nothing to take back.
            if published.app == AppId::NONE {
                continue;
            }
            // An IPv6 flow cannot be told on an IPv4 association (SPEC R-04).
            records.extend(record(family, key.remote, key.protocol, published.app));
        }
        // A count of zero ends the sync; towards a plain gateway it only says that there is nothing (SPEC R-13).
        if records.is_empty() {
            self.results_synced = true;
            self.results = self.results.max(until);
            if self.results_begun && !self.association.is_tagged() {
                return;
            }
        }
        self.results_begun = true;
        told.records += records.len() as u64;
        let octets =
            self.association.request(now, Kind::ResultSync, Cargo::Telling, |encoder, tag, serial| {
                encoder.result_sync(tag, serial, records.into_iter())
            });
        told.messages.push(octets);
    }

    fn tell_result(&mut self, now: Time, id: u64, group: &Group, told: &mut Told) -> bool {
        let family = self.association.family();
        for (revision, key, published) in group.published.after(self.results) {
            self.results = revision;
            if published.reporter == Some(id) {
                continue;
            }
            let Some(record) = record(family, key.remote, key.protocol, published.app) else { continue };
            told.records += 1;
            let octets = self.association.request(now, Kind::Result, Cargo::Telling, |encoder, tag, _| {
                encoder.message(tag, &Body::Result(record))
            });
            told.messages.push(octets);
            return true;
        }
        false
    }

    fn sync_rules(&mut self, now: Time, rules: RuleView<'_>, told: &mut Told) -> bool {
        let first = !self.rules_synced;
        let tagged = self.association.is_tagged();
        // The first sync starts from nothing, so what was withdrawn before it need not be withdrawn.
        let skip = if first && tagged { self.rules_until } else { 0 };
        let changes: Vec<(u64, &RuleChange)> = rules
            .after(self.rules)
            .filter(|(number, change)| *number > skip || !matches!(change, RuleChange::Withdraw { .. }))
            .take(MAX_RULES_IN_SYNC)
            .collect();
        if changes.is_empty() {
            if !first {
                return false;
            }
            self.rules_synced = true;
            self.rules = rules.head;
            if self.rules_begun && !tagged {
                return false;
            }
        }
        self.rules_begun = true;
        let mut count = 0;
        let octets = self.association.request(now, Kind::RuleSync, Cargo::Telling, |encoder, tag, serial| {
            let rules = changes.iter().map(|(_, change)| match change {
                RuleChange::Add { app, pattern } | RuleChange::Again { app, pattern } => {
                    Rule { app: *app, pattern }
                }
                RuleChange::Withdraw { app } => Rule { app: *app, pattern: b"" },
            });
            let (octets, taken) = encoder.rule_sync(tag, serial, rules);
            count = taken;
            octets
        });
        if let Some((number, _)) = changes[..count].last() {
            self.rules = *number;
        }
        told.rules += count as u64;
        told.messages.push(octets);
        true
    }

    fn tell_model(&mut self, now: Time, group: &Group, told: &mut Told) -> bool {
        let Some((revision, app, words)) = group.models.after(self.models).next() else { return false };
        self.models = revision;
        let octets = self.association.request(now, Kind::Parameters, Cargo::Telling, |encoder, tag, _| {
            encoder.words(tag, Kind::Parameters, app, words)
        });
        told.messages.push(octets);
        true
    }
}

/// More rules than this never fit 1500 octets: the shortest takes eight.
const MAX_RULES_IN_SYNC: usize = 190;

fn record(family: Family, remote: SocketAddr, protocol: u8, app: AppId) -> Option<Record> {
    let remote = SocketAddr::new(family.fit(remote.ip())?, remote.port());
    // The local end is the reporter's business (DECISIONS 6).
    let local = SocketAddr::new(family.unspecified(), 0);
    Some(Record { app, local, remote, protocol, reserved1: 0, reserved2: 0, reserved3: 0 })
}
