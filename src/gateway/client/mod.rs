//! The gateway's end: one association with one back end.

mod knowledge;
mod line;
mod reports;

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use super::{ResultKey, Token};
use crate::{
    counters::counters,
    io::{Conn, Input, Output},
    rng::Seeded,
    status::{Fault, Status},
    time::Time,
    wire::{
        AppId,
        gateway::{Family, MAX_WORDS, Reason, Record},
    },
};
use knowledge::Knowledge;
use line::Line;
use reports::Report;

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
    /// Enrols our key at a back end that does not know it. Shown once, and only to one that has proved its own key.
    pub token: Option<Token>,
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
            token: None,
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
    /// Results came; query or feed the recogniser with them. One with [`AppId::NONE`] takes an earlier one back.
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
    /// A back end without tags did not acknowledge a report however often it was sent, and the report is given up. The
    /// back end may have it, or may not know the message.
    ReportDropped(Record),
    /// The same of features.
    FeaturesDropped(AppId),
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
        reports_dropped: "reports given up towards a back end without tags",
        reports_refused: "reports not taken because max_reports wait",
        heartbeats: "heartbeats sent",
        results_evicted: "results dropped because the table was full",
        results_expired: "results dropped because nobody renewed them",
        rules_left_out: "rules left out because their memory was used up",
        unreportable: "flows whose addresses do not fit the family",
    }
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
    knowledge: Knowledge,
    reports: VecDeque<Report>,
    was_full: bool,
    /// The next connection begins with our token.
    enrols_next: bool,
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
            knowledge: Knowledge::default(),
            reports: VecDeque::new(),
            was_full: false,
            enrols_next: false,
        }
    }

    /// How it behaves.
    pub fn config(&self) -> &GatewayConfig {
        &self.config
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
        self.knowledge.result(&ResultKey::new(key.remote, key.protocol))
    }

    /// Every result held, oldest first: what it is about, and its application.
    pub fn results(&self) -> impl Iterator<Item = (ResultKey, AppId)> + '_ {
        self.knowledge.results()
    }

    /// Every rule received, in order.
    pub fn rules(&self) -> impl Iterator<Item = (AppId, &[u8])> {
        self.knowledge.rules()
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
            // Asked for twice: the answer is on its way.
            Some(line) if line.state == GatewayState::Leaving => {}
            Some(_) => self.hang_up(),
            None => {
                if let Some((conn, _)) = self.connecting.take() {
                    self.outputs.push_back(Output::Close { conn });
                }
            }
        }
    }

    /// Registers now, without waiting for the pause: after [`Gateway::leave`], after the operator allowed it again,
    /// or because the network changed. While it is leaving: as soon as it has left.
    pub fn join(&mut self, now: Time) {
        self.failures = 0;
        let is_leaving = self.state() == GatewayState::Leaving;
        if is_leaving || self.line.is_none() && self.connecting.is_none() {
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
            Input::NetworkChanged => self.network_changed(now),
            Input::Accepted { .. } | Input::Stored { .. } | Input::Clock { .. } => {}
        }
    }

    /// The next output, until there is none.
    pub fn poll_output(&mut self) -> Option<Output<GatewayEvent>> {
        self.outputs.pop_front()
    }

    /// When [`Input::Deadline`] is wanted; `None` after leaving.
    pub fn deadline(&self) -> Option<Time> {
        let live = match (&self.line, self.connecting) {
            (Some(line), _) => {
                let late = line.late.iter().map(|late| late.until);
                late.chain(line.association.deadline()).chain([line.next]).min()
            }
            (None, Some((_, due))) => Some(due),
            (None, None) => self.retry,
        };
        live.into_iter().chain(self.knowledge.next_expiry()).min()
    }

    /// A pause before the next try ends, and a live link shows by a heartbeat whether it still is. One that left stays away.
    fn network_changed(&mut self, now: Time) {
        self.failures = 0;
        if self.retry.is_some() {
            self.join(now);
        }
        if let Some(line) = self.line.as_mut().filter(|line| line.state == GatewayState::Active) {
            line.next = now;
        }
    }

    fn tick(&mut self, now: Time) {
        self.counters.results_expired += self.knowledge.expire(now);
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
            if let Some(line) = &mut self.line {
                line.late.retain(|late| late.until > now);
            }
            self.flush(now);
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
            self.outputs.push_back(Output::Connect { conn, way: 0 });
        }
    }
}
