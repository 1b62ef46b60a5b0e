//! The live association: what arrives on it, and what becomes of it.

use super::{knowledge::Learnt, *};
use crate::{
    gateway::{
        association::{Association, Novelty, Opened, Patience, epoch},
        frames::Frames,
    },
    io::{Peer, Transport},
    rng::Entropy,
    wire::gateway::{Body, Header, Kind, Malformed, Message, Outcome},
};

/// Answers that a plain peer may still send to repetitions of a request that it has answered. Nothing in them says
/// which request they answer, so the next one of the kind is not sent before they came, or are overdue.
pub(super) struct Late {
    pub kind: Kind,
    pub answers: u8,
    pub until: Time,
}

/// The live association.
pub(super) struct Line {
    pub conn: Conn,
    pub state: GatewayState,
    pub association: Association<Report>,
    pub frames: Frames,
    pub tag: u16,
    pub register: Vec<u8>,
    pub register_sends: u8,
    /// When the registration is sent again, or the next heartbeat goes out.
    pub next: Time,
    pub unanswered: u8,
    pub results_synced: bool,
    pub rules_synced: bool,
    pub late: Vec<Late>,
    /// The peer proved its key, so that a token is shown to nobody else.
    pub is_proven: bool,
    /// It waits for the answer to its token.
    pub is_enrolling: bool,
}

impl Gateway {
    pub(super) fn connected(&mut self, now: Time, conn: Conn, peer: &Peer) {
        if self.connecting.take_if(|(pending, _)| *pending == conn).is_none() {
            return;
        }
        let patience = Patience { timeout: self.config.timeout, sends: self.config.sends };
        let association = Association::new(self.config.family, peer, peer.remote, patience);
        let tag = if self.config.extensions { self.rng.next_u16().max(1) } else { 0 };
        // Whatever becomes of it, the connection after this one begins with the registration: a token that was taken while
        // its answer was lost has done its work.
        let token = self.config.token.filter(|_| std::mem::take(&mut self.enrols_next) && peer.key.is_some());
        let register = match token {
            Some(Token(token)) => association.message(tag, &Body::Enrol { token }),
            None => association.message(tag, &Body::Register),
        };
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
            late: Vec::new(),
            is_proven: peer.key.is_some(),
            is_enrolling: token.is_some(),
        });
        self.send(conn, register);
    }

    pub(super) fn received(&mut self, now: Time, conn: Conn, octets: &[u8]) {
        let Some(line) = self.line.as_mut().filter(|line| line.conn == conn) else { return };
        if line.association.transport() == Transport::Datagram {
            return self.message(now, octets);
        }
        let mut frames = std::mem::take(&mut line.frames);
        let mut piece = octets;
        let result = loop {
            match frames.next(self.config.family, &mut piece) {
                Ok(Some(message)) => self.message(now, &message),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
            if self.line.as_ref().is_none_or(|line| line.conn != conn) {
                return;
            }
        };
        if let Some(line) = &mut self.line {
            line.frames = frames;
        }
        if let Err(error) = result {
            self.counters.malformed += 1;
            let detail = format!("the back end sent what cannot be read: {error}");
            self.line_lost(now, Fault::new(Status::Malformed, detail));
        }
    }

    fn message(&mut self, now: Time, octets: &[u8]) {
        let Some(line) = &mut self.line else { return };
        let message = match line.association.open(octets) {
            Opened::Message(message) => message,
            Opened::Foreign => return self.counters.foreign += 1,
            Opened::Malformed(error) if matches!(error.what, Malformed::UnknownId(_)) => {
                return self.counters.unknown_ids += 1;
            }
            // Its end is known, so what comes after it can be read (DECISIONS 6, R-22).
            Opened::Malformed(_) => return self.counters.malformed += 1,
        };
        self.counters.messages += 1;
        match (line.state, message.body) {
            (GatewayState::Registering, Body::EnrolAnswer(outcome)) if line.is_enrolling => {
                self.enrol_answered(now, outcome);
            }
            (GatewayState::Registering, Body::RegisterAnswer(outcome)) if !line.is_enrolling => {
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
            let may_enrol = line.is_proven && self.config.token.is_some();
            self.hang_up();
            if reason == Reason::NOT_AUTHORISED && may_enrol {
                self.enrols_next = true;
                self.retry = Some(now);
                return;
            }
            return self.refused(now, reason);
        }
        if extended {
            line.association.extend(epoch(line.tag, outcome.reason.0));
        }
        // Good for nothing any more.
        self.config.token = None;
        line.state = GatewayState::Active;
        line.next = now + self.config.heartbeat;
        self.failures = 0;
        self.knowledge.begin();
        self.counters.registrations += 1;
        self.outputs.push_back(Output::Event(GatewayEvent::Registered));
        self.flush(now);
    }

    fn refused(&mut self, now: Time, reason: Reason) {
        self.outputs.push_back(Output::Event(GatewayEvent::Refused(reason)));
        let pause = match reason {
            Reason::BARRED => self.config.barred_retry,
            Reason::NOT_AUTHORISED | Reason::FAMILY => self.config.backoff_max,
            _ => self.pause(),
        };
        self.retry = Some(now + pause);
    }

    /// The back end does not know what this connection was to be made with: its answer to a registration would be the same.
    pub(crate) fn not_let_in(&mut self, now: Time, conn: Conn) {
        if self.connecting.take_if(|(pending, _)| *pending == conn).is_some() {
            self.refused(now, Reason::NOT_AUTHORISED);
        }
    }

    /// The token was taken: now the registration. Or it was not, and never will be.
    fn enrol_answered(&mut self, now: Time, outcome: Outcome) {
        let Some(line) = &mut self.line else { return };
        if !outcome.is_ok() {
            let reason = outcome.reason;
            self.hang_up();
            if reason == Reason::TOKEN {
                self.config.token = None;
            }
            self.outputs.push_back(Output::Event(GatewayEvent::Refused(reason)));
            let barred = reason == Reason::BARRED;
            let pause = if barred { self.config.barred_retry } else { self.config.backoff_max };
            self.retry = Some(now + pause);
            return;
        }
        line.is_enrolling = false;
        line.register = line.association.message(line.tag, &Body::Register);
        (line.register_sends, line.next) = (1, now + self.config.timeout);
        let (conn, register) = (line.conn, line.register.clone());
        self.send(conn, register);
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
        match novelty {
            Novelty::New => {}
            Novelty::Repeated => self.counters.repeated += 1,
            Novelty::Unexpected => return self.counters.unexpected += 1,
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
                let gone = self.knowledge.drop_old_results();
                if !gone.is_empty() {
                    let records = gone.iter().map(|key| self.taken_back(key)).collect();
                    self.outputs.push_back(Output::Event(GatewayEvent::Results(records)));
                }
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
                if self.knowledge.drop_old_rules() {
                    self.outputs.push_back(Output::Event(GatewayEvent::Rules));
                }
                self.synced();
            }
            Body::RuleSync { rules, .. } => {
                let mut changed = false;
                for rule in rules.iter() {
                    changed |= match rule.pattern.is_empty() {
                        true => self.knowledge.forget_rules(rule.app),
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
                self.retry = self.retry.map(|_| now + self.config.barred_retry);
                self.outputs.push_back(Output::Event(GatewayEvent::Deregistered { by_backend: true }));
            }
            _ => {}
        }
    }

    /// The registration or the heartbeat is due.
    pub(super) fn line_due(&mut self, now: Time) {
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

    pub(super) fn line_lost(&mut self, now: Time, fault: Fault) {
        let leaving = self.line.as_ref().is_some_and(|line| line.state == GatewayState::Leaving);
        if leaving {
            return self.left();
        }
        self.hang_up();
        self.down(now, fault);
    }

    pub(super) fn left(&mut self) {
        self.hang_up();
        self.outputs.push_back(Output::Event(GatewayEvent::Deregistered { by_backend: false }));
    }

    pub(super) fn hang_up(&mut self) {
        if let Some(line) = self.line.take() {
            self.outputs.push_back(Output::Close { conn: line.conn });
        }
    }

    pub(super) fn down(&mut self, now: Time, fault: Fault) {
        if self.retry.is_some() {
            self.retry = Some(now + self.pause());
        }
        self.outputs.push_back(Output::Event(GatewayEvent::Down(fault)));
    }

    /// Doubles with each failure; a quarter of it is random, so that gateways do not come back in step.
    fn pause(&mut self) -> Duration {
        let doubled = self.config.backoff.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let pause = doubled.min(self.config.backoff_max);
        pause - pause / 4 * self.rng.below(256) / 256
    }

    fn synced(&mut self) {
        if self.line.as_ref().is_some_and(|line| line.results_synced && line.rules_synced) {
            self.outputs.push_back(Output::Event(GatewayEvent::Synced));
        }
    }

    pub(super) fn send(&mut self, conn: Conn, octets: Vec<u8>) {
        self.outputs.push_back(Output::Send { conn, to: None, octets });
    }

    fn taken_back(&self, key: &ResultKey) -> Record {
        let local = SocketAddr::new(self.config.family.unspecified(), 0);
        Record {
            app: AppId::NONE,
            local,
            remote: key.remote,
            protocol: key.protocol,
            reserved1: 0,
            reserved2: 0,
            reserved3: 0,
        }
    }

    fn learn(&mut self, now: Time, record: &Record) {
        let evicted = self.knowledge.learn(now, record, self.config.result_ttl, self.config.max_results);
        self.counters.results_evicted += u64::from(evicted);
    }

    /// Whether the rule is new.
    fn learn_rule(&mut self, app: AppId, pattern: &[u8]) -> bool {
        let learnt = self.knowledge.learn_rule(app, pattern, self.config.max_rule_octets);
        self.counters.rules_left_out += u64::from(learnt == Learnt::LeftOut);
        learnt == Learnt::New
    }
}
