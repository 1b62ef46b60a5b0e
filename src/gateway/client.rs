//! The gateway's end: one association with one back end.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use super::{
    ResultKey,
    association::{Association, Novelty, Opened, Patience, epoch},
    frames::Frames,
    replica::Replica,
};
use crate::{
    counters::counters,
    io::{Conn, Input, Output, Peer, Transport},
    rng::{Entropy, Seeded},
    status::{Fault, Status},
    time::Time,
    wire::{
        AppId,
        gateway::{Body, Family, Header, Kind, MAX_WORDS, Message, Outcome, Reason, Record},
    },
};

/// How a gateway behaves.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Width of addresses (SPEC R-03).
    pub family: Family,
    /// From one heartbeat to the next.
    pub heartbeat: Duration,
    /// How long a request waits for its answer before it is sent again.
    pub timeout: Duration,
    /// Sends of one request in all; also heartbeats without an answer before the link counts as down.
    pub sends: u8,
    /// First pause before registering again; doubles up to `backoff_max`.
    pub backoff: Duration,
    /// Longest pause.
    pub backoff_max: Duration,
    /// Pause after the back end took this gateway off.
    pub barred_retry: Duration,
    /// How long a received result is believed without being sent again (SPEC R-14).
    pub result_ttl: Duration,
    /// Most results kept; past it the oldest goes.
    pub max_results: usize,
    /// Most octets of received patterns; a rule past it is counted and left out.
    pub max_rule_octets: usize,
    /// Most reports that wait for their acknowledgement.
    pub max_reports: usize,
    /// Offer tags and epoch; off for a peer that objects to a non-zero reserved field.
    pub extensions: bool,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        GatewayConfig {
            family: Family::V6,
            heartbeat: Duration::from_secs(3),
            timeout: Duration::from_secs(5),
            sends: 3,
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            barred_retry: Duration::from_secs(3600),
            result_ttl: Duration::from_secs(24 * 3600),
            max_results: 100_000,
            max_rule_octets: 1 << 20,
            max_reports: 4096,
            extensions: true,
        }
    }
}

/// Where the association stands (SPEC 5.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GatewayState {
    /// Not connected; tries again at the deadline unless it left.
    Down,
    /// Waits for the transport.
    Connecting,
    /// Waits for the answer to its registration.
    Registering,
    /// Registered.
    Active,
    /// Waits for the answer to its deregistration.
    Leaving,
}

/// What the application is told.
#[derive(Clone, PartialEq, Debug)]
pub enum GatewayEvent {
    /// Registered.
    Registered,
    /// The back end refused; registering again waits for the pause that fits the reason.
    Refused(Reason),
    /// The link is lost or never came; it is tried again by itself.
    Down(Fault),
    /// Results came; query or feed the recogniser with them.
    Results(Vec<Record>),
    /// The set of rules changed.
    Rules,
    /// Both first syncs are complete: what the back end holds for this group is here.
    Synced,
    /// Parameters of a trained rule came.
    Parameters(AppId, Vec<u32>),
    /// The back end acknowledged a report: it is durable there.
    Acknowledged(Record),
    /// The back end acknowledged reported features.
    FeaturesAcknowledged(AppId),
    /// There is room for reports again.
    Writable,
    /// Off the back end's list: by our own wish, or by the operator's.
    Deregistered {
        /// The back end took us off; it bars us until the operator allows us again.
        by_backend: bool,
    },
}

counters! {
    /// What a gateway counts.
    pub struct GatewayCounters {
        registrations: "times registered",
        messages: "messages received and read",
        malformed: "messages that could not be read",
        foreign: "datagrams of another association, or damaged",
        unknown_ids: "messages with an unknown id",
        unexpected: "messages that do not fit the state or direction",
        repeated: "requests received more than once",
        resent: "requests sent again",
        unanswered: "requests given up without an answer",
        heartbeats: "heartbeats sent",
        results_evicted: "results dropped because the table was full",
        results_expired: "results dropped because nobody renewed them",
        rules_left_out: "rules left out because their memory was used up",
        unreportable: "flows whose addresses do not fit the family",
    }
}

/// What is being told to the back end.
#[derive(Clone, PartialEq, Debug)]
enum Report {
    Result(Record),
    Features(AppId, Vec<u32>),
    Leave,
}

impl Report {
    fn kind(&self) -> Kind {
        match self {
            Report::Result(_) => Kind::Result,
            Report::Features(..) => Kind::Features,
            Report::Leave => Kind::Deregister,
        }
    }
}

struct KnownResult {
    app: AppId,
    generation: u32,
    expires: Time,
}

struct KnownRule {
    app: AppId,
    pattern: Box<[u8]>,
    generation: u32,
}

/// The live association.
struct Line {
    conn: Conn,
    state: GatewayState,
    association: Association<Report>,
    frames: Frames,
    tag: u16,
    register: Vec<u8>,
    register_sends: u8,
    /// When the registration is sent again, or the next heartbeat goes out.
    next: Time,
    unanswered: u8,
    results_synced: bool,
    rules_synced: bool,
}

/// The gateway's end.
pub struct Gateway {
    config: GatewayConfig,
    rng: Seeded,
    counters: GatewayCounters,
    outputs: VecDeque<Output<GatewayEvent>>,
    line: Option<Line>,
    /// A connection that was asked for and is not there yet, and how long it may take.
    connecting: Option<(Conn, Time)>,
    next_conn: u32,
    /// When to connect again; `None` after leaving.
    retry: Option<Time>,
    failures: u32,
    generation: u32,
    results: Replica<ResultKey, KnownResult>,
    rules: Vec<KnownRule>,
    rule_octets: usize,
    reports: VecDeque<Report>,
    was_full: bool,
}

impl Gateway {
    /// A gateway that connects at its first deadline.
    pub fn new(config: GatewayConfig, now: Time, rng: Seeded) -> Gateway {
        Gateway {
            config,
            rng,
            counters: GatewayCounters::default(),
            outputs: VecDeque::new(),
            line: None,
            connecting: None,
            next_conn: 0,
            retry: Some(now),
            failures: 0,
            generation: 0,
            results: Replica::default(),
            rules: Vec::new(),
            rule_octets: 0,
            reports: VecDeque::new(),
            was_full: false,
        }
    }

    /// Where the association stands.
    pub fn state(&self) -> GatewayState {
        match (&self.line, self.connecting) {
            (Some(line), _) => line.state,
            (None, Some(_)) => GatewayState::Connecting,
            (None, None) => GatewayState::Down,
        }
    }

    /// What was counted.
    pub fn counters(&self) -> &GatewayCounters {
        &self.counters
    }

    /// The application that the back end's results name for a flow to this end.
    pub fn result(&self, key: &ResultKey) -> Option<AppId> {
        self.results.get(key).map(|known| known.app)
    }

    /// Every result held, oldest first: what it is about, and its application.
    pub fn results(&self) -> impl Iterator<Item = (ResultKey, AppId)> + '_ {
        self.results.after(0).map(|(_, key, known)| (key, known.app))
    }

    /// Every rule received, in order.
    pub fn rules(&self) -> impl Iterator<Item = (AppId, &[u8])> {
        self.rules.iter().map(|rule| (rule.app, &*rule.pattern))
    }

    /// Reports that wait for their acknowledgement.
    pub fn pending(&self) -> usize {
        self.reports.len()
    }

    /// Queues an identification result. It is kept, over lost links, until the back end has acknowledged it.
    ///
    /// Fails with [`Status::Full`] at the bound, and with [`Status::Unsupported`] for an IPv6 flow on an IPv4
    /// association (SPEC R-04).
    pub fn report(&mut self, now: Time, record: Record) -> Result<(), Fault> {
        let fits = |address: SocketAddr| self.config.family.fit(address.ip()).is_some();
        if !fits(record.local) || !fits(record.remote) {
            self.counters.unreportable += 1;
            return Err(Fault::new(
                Status::Unsupported,
                "an IPv6 flow cannot be reported on an IPv4 association: set family = 6",
            ));
        }
        self.queue(now, Report::Result(record))
    }

    /// Queues the features of a flow that differs from the history of its application (claim 2).
    pub fn report_features(&mut self, now: Time, app: AppId, words: Vec<u32>) -> Result<(), Fault> {
        if words.len() > MAX_WORDS {
            let detail = format!("{} words of features, at most {MAX_WORDS} travel", words.len());
            return Err(Fault::new(Status::Words, detail));
        }
        self.queue(now, Report::Features(app, words))
    }

    /// Leaves the back end in order and stays away until [`Gateway::join`].
    pub fn leave(&mut self, now: Time) {
        self.retry = None;
        match &mut self.line {
            Some(line) if line.state == GatewayState::Active => {
                line.state = GatewayState::Leaving;
                self.send_request(now, Report::Leave);
            }
            Some(_) => self.hang_up(),
            None => {
                if let Some((conn, _)) = self.connecting.take() {
                    self.outputs.push_back(Output::Close { conn });
                }
            }
        }
    }

    /// Registers now, without waiting for the pause: after [`Gateway::leave`], after the operator allowed it again,
    /// or because the network changed.
    pub fn join(&mut self, now: Time) {
        self.failures = 0;
        if self.line.is_none() && self.connecting.is_none() {
            self.retry = Some(now);
        }
    }

    /// Changes the pause from one heartbeat to the next; holds from the next heartbeat on.
    pub fn set_heartbeat(&mut self, heartbeat: Duration) {
        self.config.heartbeat = heartbeat;
    }

    /// Takes an input. [`Input::Accepted`] and [`Input::Stored`] never come to a gateway.
    pub fn handle(&mut self, now: Time, input: Input<'_>) {
        match input {
            Input::Connected { conn, peer } => self.connected(now, conn, &peer),
            Input::Received { conn, octets, .. } => self.received(now, conn, octets),
            Input::Closed { conn, fault } => {
                let fault = fault.unwrap_or_else(|| Status::Closed.into());
                if self.connecting.is_some_and(|(pending, _)| pending == conn) {
                    self.connecting = None;
                    self.down(now, fault);
                } else if self.line.as_ref().is_some_and(|line| line.conn == conn) {
                    self.line_lost(now, fault);
                }
            }
            Input::Deadline => self.tick(now),
            Input::Accepted { .. } | Input::Stored { .. } => {}
        }
    }

    /// The next output, until there is none.
    pub fn poll_output(&mut self) -> Option<Output<GatewayEvent>> {
        self.outputs.pop_front()
    }

    /// When [`Input::Deadline`] is wanted; `None` after leaving.
    pub fn deadline(&self) -> Option<Time> {
        let live = match (&self.line, self.connecting) {
            (Some(line), _) => Some(line.association.deadline().map_or(line.next, |due| due.min(line.next))),
            (None, Some((_, due))) => Some(due),
            (None, None) => self.retry,
        };
        let expiry = self.results.oldest().map(|(_, _, known)| known.expires);
        live.into_iter().chain(expiry).min()
    }

    fn queue(&mut self, now: Time, report: Report) -> Result<(), Fault> {
        if self.reports.len() >= self.config.max_reports {
            self.was_full = true;
            let detail = format!("{} reports wait already: wait for writable", self.reports.len());
            return Err(Fault::new(Status::Full, detail));
        }
        self.reports.push_back(report);
        self.flush(now);
        Ok(())
    }

    fn tick(&mut self, now: Time) {
        while let Some((_, key, known)) = self.results.oldest()
            && known.expires <= now
        {
            self.results.remove(&key);
            self.counters.results_expired += 1;
        }
        if let Some(line) = &mut self.line {
            let mut resent = Vec::new();
            let failed = line.association.resend(now, |octets| resent.push(octets));
            let conn = line.conn;
            self.counters.resent += resent.len() as u64;
            resent.into_iter().for_each(|octets| self.send(conn, octets));
            if let Some((_, report)) = failed {
                self.counters.unanswered += 1;
                return self.gave_up(now, report);
            }
            if self.line.as_ref().is_some_and(|line| line.next <= now) {
                self.line_due(now);
            }
        } else if self.connecting.is_some_and(|(_, due)| due <= now) {
            if let Some((conn, _)) = self.connecting.take() {
                self.outputs.push_back(Output::Close { conn });
            }
            self.down(now, Fault::new(Status::Timeout, "connecting to the back end took too long"));
        } else if self.connecting.is_none() && self.retry.is_some_and(|retry| retry <= now) {
            let conn = Conn(Conn::OURS | self.next_conn);
            self.next_conn = (self.next_conn + 1) & !Conn::OURS;
            let limit = now + self.config.timeout * u32::from(self.config.sends) * 2;
            self.connecting = Some((conn, limit));
            self.outputs.push_back(Output::Connect { conn });
        }
    }

    /// The registration or the heartbeat is due.
    fn line_due(&mut self, now: Time) {
        let Some(line) = &mut self.line else { return };
        let conn = line.conn;
        match line.state {
            GatewayState::Registering => {
                if line.register_sends >= self.config.sends {
                    let detail = "the back end did not answer the registration";
                    return self.line_lost(now, Fault::new(Status::Timeout, detail));
                }
                line.register_sends += 1;
                line.next = now + self.config.timeout;
                // A stream resends by itself; there only the waiting counts.
                if line.association.transport() == Transport::Datagram {
                    let octets = line.register.clone();
                    self.counters.resent += 1;
                    self.send(conn, octets);
                }
            }
            _ => {
                if line.unanswered >= self.config.sends {
                    let detail = format!("{} heartbeats were not answered", line.unanswered);
                    return self.line_lost(now, Fault::new(Status::Timeout, detail));
                }
                line.unanswered += 1;
                line.next = now + self.config.heartbeat;
                let octets = line.association.message(0, &Body::Heartbeat);
                self.counters.heartbeats += 1;
                self.send(conn, octets);
            }
        }
    }

    fn connected(&mut self, now: Time, conn: Conn, peer: &Peer) {
        if self.connecting.take_if(|(pending, _)| *pending == conn).is_none() {
            return;
        }
        let patience = Patience { timeout: self.config.timeout, sends: self.config.sends };
        let association = Association::new(self.config.family, peer, peer.remote, patience);
        let tag = if self.config.extensions { self.rng.next_u16().max(1) } else { 0 };
        let register = association.message(tag, &Body::Register);
        self.line = Some(Line {
            conn,
            state: GatewayState::Registering,
            association,
            frames: Frames::default(),
            tag,
            register: register.clone(),
            register_sends: 1,
            next: now + self.config.timeout,
            unanswered: 0,
            results_synced: false,
            rules_synced: false,
        });
        self.send(conn, register);
    }

    fn received(&mut self, now: Time, conn: Conn, octets: &[u8]) {
        let Some(line) = self.line.as_mut().filter(|line| line.conn == conn) else { return };
        if line.association.transport() == Transport::Datagram {
            return self.message(now, octets);
        }
        let mut frames = std::mem::take(&mut line.frames);
        frames.push(octets);
        let result = frames.drain(self.config.family, |message| {
            self.message(now, message);
            self.line.as_ref().is_some_and(|line| line.conn == conn)
        });
        if let Some(line) = self.line.as_mut().filter(|line| line.conn == conn) {
            line.frames = frames;
            if let Err(error) = result {
                self.counters.malformed += 1;
                let detail = format!("the back end sent what cannot be read: {error}");
                self.line_lost(now, Fault::new(Status::Malformed, detail));
            }
        }
    }

    fn message(&mut self, now: Time, octets: &[u8]) {
        use crate::wire::gateway::Malformed;
        let Some(line) = &mut self.line else { return };
        let message = match line.association.open(octets) {
            Opened::Message(message) => message,
            Opened::Foreign => return self.counters.foreign += 1,
            Opened::Malformed(error) => {
                if matches!(error.what, Malformed::UnknownId(_)) {
                    return self.counters.unknown_ids += 1;
                }
                self.counters.malformed += 1;
                if line.association.transport() == Transport::Stream {
                    let detail = format!("the back end sent what cannot be read: {error}");
                    self.line_lost(now, Fault::new(Status::Malformed, detail));
                }
                return;
            }
        };
        self.counters.messages += 1;
        match (line.state, message.body) {
            (GatewayState::Registering, Body::RegisterAnswer(outcome)) => {
                self.register_answered(now, &message.header, outcome);
            }
            // The back end probes a datagram address before it answers at length (docs/gateway-protocol.md).
            (GatewayState::Registering, Body::Heartbeat)
                if line.association.transport() == Transport::Datagram =>
            {
                let answer = line.association.message(message.header.tag, &Body::HeartbeatAnswer);
                let (conn, register) = (line.conn, line.register.clone());
                self.send(conn, answer);
                self.send(conn, register);
            }
            (GatewayState::Active | GatewayState::Leaving, _) => self.active_message(now, &message),
            _ => self.counters.unexpected += 1,
        }
    }

    fn register_answered(&mut self, now: Time, header: &Header, outcome: Outcome) {
        let Some(line) = &mut self.line else { return };
        let extended = line.tag != 0 && header.tag == line.tag;
        if header.tag != 0 && !extended {
            return self.counters.unexpected += 1;
        }
        if !outcome.is_ok() {
            let reason = outcome.reason;
            self.hang_up();
            self.outputs.push_back(Output::Event(GatewayEvent::Refused(reason)));
            let pause = match reason {
                Reason::BARRED => self.config.barred_retry,
                Reason::NOT_AUTHORISED | Reason::FAMILY => self.config.backoff_max,
                _ => self.pause(),
            };
            self.retry = Some(now + pause);
            return;
        }
        if extended {
            line.association.extend(epoch(line.tag, outcome.reason.0));
        }
        line.state = GatewayState::Active;
        line.next = now + self.config.heartbeat;
        self.failures = 0;
        self.generation += 1;
        self.counters.registrations += 1;
        self.outputs.push_back(Output::Event(GatewayEvent::Registered));
        self.flush(now);
    }

    fn active_message(&mut self, now: Time, message: &Message<'_>) {
        let Some(line) = &mut self.line else { return };
        line.unanswered = 0;
        let (kind, answer) = message.body.kind();
        if answer {
            return match message.body {
                Body::HeartbeatAnswer | Body::RegisterAnswer(_) => {}
                _ => self.answered(now, message),
            };
        }
        if !matches!(
            kind,
            Kind::ResultSync | Kind::RuleSync | Kind::Result | Kind::Parameters | Kind::Deregister
        ) {
            return self.counters.unexpected += 1;
        }
        let tag = message.header.tag;
        let novelty = line.association.admit(message);
        if novelty == Novelty::Repeated {
            self.counters.repeated += 1;
            if !line.association.was_admitted(kind, tag) {
                return;
            }
        }
        let answer = match message.body {
            Body::ResultSync { serial, .. } => Body::ResultSyncAnswer { serial, reserved: 0 },
            Body::RuleSync { serial, .. } => Body::RuleSyncAnswer { serial, reserved: 0 },
            Body::Result(_) => Body::ResultAnswer,
            Body::Parameters { .. } => Body::ParametersAnswer,
            _ => Body::DeregisterAnswer(Outcome::OK),
        };
        let (conn, answer) = (line.conn, line.association.message(tag, &answer));
        self.send(conn, answer);
        if novelty == Novelty::New {
            self.apply(now, message);
        }
    }

    fn apply(&mut self, now: Time, message: &Message<'_>) {
        let Some(line) = &mut self.line else { return };
        let tagged = line.association.is_tagged();
        match message.body {
            Body::ResultSync { records, .. } if records.is_empty() && tagged => {
                line.results_synced = true;
                self.drop_old_results();
                self.synced();
            }
            Body::ResultSync { records, .. } => {
                let records: Vec<Record> = records.iter().collect();
                records.iter().for_each(|record| self.learn(now, record));
                if !records.is_empty() {
                    self.outputs.push_back(Output::Event(GatewayEvent::Results(records)));
                }
            }
            Body::Result(record) => {
                self.learn(now, &record);
                self.outputs.push_back(Output::Event(GatewayEvent::Results(vec![record])));
            }
            Body::RuleSync { rules, .. } if rules.is_empty() && tagged => {
                line.rules_synced = true;
                let generation = self.generation;
                if self.keep_rules(|rule| rule.generation == generation) {
                    self.outputs.push_back(Output::Event(GatewayEvent::Rules));
                }
                self.synced();
            }
            Body::RuleSync { rules, .. } => {
                let mut changed = false;
                for rule in rules.iter() {
                    changed |= match rule.pattern.is_empty() {
                        true => self.keep_rules(|known| known.app != rule.app),
                        false => self.learn_rule(rule.app, rule.pattern),
                    };
                }
                if changed {
                    self.outputs.push_back(Output::Event(GatewayEvent::Rules));
                }
            }
            Body::Parameters { app, words } => {
                let words = words.iter().collect();
                self.outputs.push_back(Output::Event(GatewayEvent::Parameters(app, words)));
            }
            Body::Deregister => {
                self.hang_up();
                self.retry = Some(now + self.config.barred_retry);
                self.outputs.push_back(Output::Event(GatewayEvent::Deregistered { by_backend: true }));
            }
            _ => {}
        }
    }

    fn answered(&mut self, now: Time, message: &Message<'_>) {
        let Some(report) = self.line.as_mut().and_then(|line| line.association.answered(message)) else {
            return self.counters.unexpected += 1;
        };
        self.finish(&report);
        match report {
            Report::Result(record) => {
                self.outputs.push_back(Output::Event(GatewayEvent::Acknowledged(record)));
            }
            Report::Features(app, _) => {
                self.outputs.push_back(Output::Event(GatewayEvent::FeaturesAcknowledged(app)));
            }
            Report::Leave => return self.left(),
        }
        if self.was_full && self.reports.len() < self.config.max_reports {
            self.was_full = false;
            self.outputs.push_back(Output::Event(GatewayEvent::Writable));
        }
        self.flush(now);
    }

    /// A request had all its sends. Between Hailpost ends the link is no good then; a plain peer may just not know
    /// the message, so the report is dropped and the link stays.
    fn gave_up(&mut self, now: Time, report: Report) {
        if report == Report::Leave {
            return self.left();
        }
        if self.line.as_ref().is_some_and(|line| line.association.is_tagged()) {
            return self.line_lost(now, Fault::new(Status::Timeout, "the back end stopped answering"));
        }
        self.finish(&report);
        self.flush(now);
    }

    fn finish(&mut self, report: &Report) {
        if let Some(at) = self.reports.iter().position(|queued| queued == report) {
            self.reports.remove(at);
        }
    }

    fn left(&mut self) {
        self.hang_up();
        self.outputs.push_back(Output::Event(GatewayEvent::Deregistered { by_backend: false }));
    }

    /// Sends reports as far as the window reaches. The head of the queue is what is outstanding already.
    fn flush(&mut self, now: Time) {
        for kind in [Kind::Result, Kind::Features] {
            loop {
                let Some(line) = self.line.as_ref().filter(|line| line.state == GatewayState::Active) else {
                    return;
                };
                if !line.association.has_room(kind) {
                    break;
                }
                let sent = line.association.outstanding(kind);
                let Some(report) =
                    self.reports.iter().filter(|report| report.kind() == kind).nth(sent).cloned()
                else {
                    break;
                };
                self.send_request(now, report);
            }
        }
    }

    fn send_request(&mut self, now: Time, report: Report) {
        let Some(line) = &mut self.line else { return };
        let octets =
            line.association.request(now, report.kind(), report.clone(), |encoder, tag, _| match report {
                Report::Result(record) => encoder.message(tag, &Body::Result(record)),
                Report::Features(app, words) => encoder.words(tag, Kind::Features, app, &words),
                Report::Leave => encoder.message(tag, &Body::Deregister),
            });
        let conn = line.conn;
        self.send(conn, octets);
    }

    fn learn(&mut self, now: Time, record: &Record) {
        let key = ResultKey { remote: record.remote, protocol: record.protocol };
        let expires = now + self.config.result_ttl;
        self.results.put(key, KnownResult { app: record.app, generation: self.generation, expires });
        if self.results.len() > self.config.max_results
            && let Some((_, oldest, _)) = self.results.oldest()
        {
            self.results.remove(&oldest);
            self.counters.results_evicted += 1;
        }
    }

    /// Whether the rule is new.
    fn learn_rule(&mut self, app: AppId, pattern: &[u8]) -> bool {
        let generation = self.generation;
        if let Some(known) = self.rules.iter_mut().find(|rule| rule.app == app && *rule.pattern == *pattern) {
            known.generation = generation;
            return false;
        }
        if self.rule_octets + pattern.len() > self.config.max_rule_octets {
            self.counters.rules_left_out += 1;
            return false;
        }
        self.rule_octets += pattern.len();
        self.rules.push(KnownRule { app, pattern: pattern.into(), generation });
        true
    }

    /// Whether a rule went.
    fn keep_rules(&mut self, keep: impl Fn(&KnownRule) -> bool) -> bool {
        let before = self.rules.len();
        self.rules.retain(keep);
        self.rule_octets = self.rules.iter().map(|rule| rule.pattern.len()).sum();
        self.rules.len() != before
    }

    /// What the back end did not send again since we registered is gone there (DECISIONS 6).
    fn drop_old_results(&mut self) {
        while let Some((_, key, known)) = self.results.oldest()
            && known.generation != self.generation
        {
            self.results.remove(&key);
        }
    }

    fn synced(&mut self) {
        if self.line.as_ref().is_some_and(|line| line.results_synced && line.rules_synced) {
            self.outputs.push_back(Output::Event(GatewayEvent::Synced));
        }
    }

    fn line_lost(&mut self, now: Time, fault: Fault) {
        let leaving = self.line.as_ref().is_some_and(|line| line.state == GatewayState::Leaving);
        if leaving {
            return self.left();
        }
        self.hang_up();
        self.down(now, fault);
    }

    fn down(&mut self, now: Time, fault: Fault) {
        if self.retry.is_some() {
            self.retry = Some(now + self.pause());
        }
        self.outputs.push_back(Output::Event(GatewayEvent::Down(fault)));
    }

    /// Doubles with each failure; a quarter of it is random, so that gateways do not come back in step.
    fn pause(&mut self) -> Duration {
        let doubled = self.config.backoff * 2u32.saturating_pow(self.failures.min(16));
        self.failures += 1;
        let pause = doubled.min(self.config.backoff_max);
        pause - pause / 4 * self.rng.below(256) / 256
    }

    fn hang_up(&mut self) {
        if let Some(line) = self.line.take() {
            self.outputs.push_back(Output::Close { conn: line.conn });
        }
    }

    fn send(&mut self, conn: Conn, octets: Vec<u8>) {
        self.outputs.push_back(Output::Send { conn, to: None, octets });
    }
}
