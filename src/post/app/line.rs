//! The connection: how it is made, what is said on it, what comes on it, and how it is given up.

use super::*;
use crate::wire::app::{Reply, ReplyReader};

/// The connection, while there is one.
pub(super) struct Line {
    pub conn: Conn,
    /// The office knows us.
    pub active: bool,
    reader: ReplyReader,
    /// Until the login is answered, or the PING; or when the office is asked by one.
    pub due: Time,
    pub pinged: bool,
    /// By id, what is said and not answered. The next of the same id waits, so that an answer has one meaning.
    said: BTreeMap<String, Said>,
    requests: usize,
    octets: usize,
    confirmations: usize,
}

#[derive(Clone, Copy)]
enum Said {
    Request { number: u64, octets: usize },
    Confirm(Sequence),
}

impl App {
    /// The connection that was asked for is there.
    pub fn connected(&mut self, now: Time, conn: Conn) {
        if self.connecting.take_if(|(pending, _)| *pending == conn).is_none() {
            return;
        }
        self.line = Some(Line {
            conn,
            active: false,
            reader: ReplyReader::default(),
            due: now + self.config.timeout,
            pinged: false,
            said: BTreeMap::new(),
            requests: 0,
            octets: 0,
            confirmations: 0,
        });
        let octets = app::auth(&self.name, &self.secret);
        self.outputs.push_back(AppOutput::Send { conn, octets });
    }

    /// Octets came.
    pub fn received(&mut self, now: Time, conn: Conn, mut octets: &[u8]) {
        let Some(line) = self.line.as_mut().filter(|line| line.conn == conn) else { return };
        if line.active {
            (line.due, line.pinged) = (now + self.config.keepalive, false);
        }
        while let Some(line) = self.line.as_mut().filter(|line| line.conn == conn) {
            match line.reader.next(&mut octets) {
                Ok(Some(Reply::Message(delivery))) if line.active => self.delivered(delivery),
                Ok(Some(Reply::Answer { code, id, state, reason, presence })) => match id {
                    Some(id) if line.active => self.answer(&id, code, state, reason, presence),
                    _ => self.answer_to_none(now, code, reason),
                },
                Ok(Some(Reply::Message(_))) => {
                    self.lose(
                        now,
                        Fault::new(Status::Malformed, "the office sent a message before it said OK"),
                    );
                }
                Ok(None) => break,
                Err(fault) => {
                    let detail = format!("the office sent what cannot be read: {fault}");
                    self.lose(now, Fault::new(Status::Malformed, detail));
                }
            }
        }
        self.pump();
    }

    /// The connection is gone, or could not be made.
    pub fn closed(&mut self, now: Time, conn: Conn, fault: Option<Fault>) {
        if self.connecting.take_if(|(pending, _)| *pending == conn).is_none() {
            if self.line.as_ref().is_none_or(|line| line.conn != conn) {
                return;
            }
            self.drop_line();
        }
        self.down(
            now,
            fault.unwrap_or_else(|| Fault::new(Status::Closed, "the office ended the connection")),
        );
    }

    /// The deadline has come.
    pub fn handle_deadline(&mut self, now: Time) {
        if let Some(line) = self.line.as_mut() {
            if line.due > now {
                return;
            }
            match (line.active, line.pinged) {
                (false, _) => {
                    self.lose(now, Fault::new(Status::Timeout, "the office did not answer the login"))
                }
                (true, true) => {
                    self.lose(now, Fault::new(Status::Timeout, "nothing comes from the office any more"));
                }
                (true, false) => {
                    (line.due, line.pinged) = (now + self.config.timeout, true);
                    self.counters.pings += 1;
                    let conn = line.conn;
                    self.outputs.push_back(AppOutput::Send { conn, octets: app::ping() });
                }
            }
        } else if let Some((conn, due)) = self.connecting {
            if due <= now {
                self.connecting = None;
                self.outputs.push_back(AppOutput::Close { conn });
                self.down(now, Fault::new(Status::Timeout, "connecting to the office took too long"));
            }
        } else if self.retry.is_some_and(|retry| retry <= now) {
            let conn = Conn(Conn::OURS | self.next_conn);
            self.next_conn = (self.next_conn + 1) & !Conn::OURS;
            self.connecting = Some((conn, now + self.config.timeout));
            self.outputs.push_back(AppOutput::Connect { conn });
        }
    }

    fn answer(&mut self, id: &str, code: u16, state: Option<State>, reason: String, presence: Vec<Presence>) {
        let Some(line) = &mut self.line else { return };
        match line.said.remove(id) {
            Some(Said::Request { number, octets }) => {
                line.requests -= 1;
                line.octets -= octets;
                if self.asked.get(&number).is_some_and(|asked| asked.verb == Verb::Query) {
                    let events = presence
                        .into_iter()
                        .map(|presence| AppOutput::Event(AppEvent::Presence { id: id.to_owned(), presence }));
                    self.outputs.extend(events);
                }
                self.answered(number, code, state, reason);
            }
            // Whatever the office says: if it did not take it, it hands the message over again.
            Some(Said::Confirm(sequence)) => {
                line.confirmations -= 1;
                self.confirming.remove(&sequence);
            }
            None => self.counters.unexpected += 1,
        }
    }

    /// To the login, to a PING, or to what the office could not read.
    fn answer_to_none(&mut self, now: Time, code: u16, reason: String) {
        let Some(line) = &mut self.line else { return };
        match (line.active, code) {
            (false, 200) => {
                line.active = true;
                line.due = now + self.config.keepalive;
                self.failures = 0;
                self.counters.logins += 1;
                self.event(AppEvent::Up);
            }
            (false, 401) => {
                self.counters.logins_refused += 1;
                self.hang_up();
                self.event(AppEvent::Refused { reason });
                self.retry = self.retry.map(|_| now + self.config.refused_retry);
            }
            (true, 200) => {}
            _ => {
                let detail = format!("the office ended the connection with {code}: {reason}");
                self.lose(now, Fault::new(Status::Refused, detail));
            }
        }
    }

    /// Says what is not said, as far as the window allows: confirmations first, for they make room at the office.
    pub(super) fn pump(&mut self) {
        let Some(line) = self.line.as_mut().filter(|line| line.active) else { return };
        let mut octets = Vec::new();
        let mut waiting = BTreeSet::new();
        while line.confirmations < self.config.window
            && let Some(sequence) = self.unsaid.pop_first()
        {
            let id = sequence.0.to_string();
            if line.said.contains_key(&id) {
                waiting.insert(sequence);
                continue;
            }
            octets.extend(app::confirm(sequence.0));
            line.said.insert(id, Said::Confirm(sequence));
            line.confirmations += 1;
        }
        self.unsaid.append(&mut waiting);
        for (number, asked) in self.asked.range_mut(self.next_said..) {
            if line.requests >= self.config.window
                || line.octets >= self.config.window_octets
                || line.said.contains_key(&asked.id)
            {
                break;
            }
            self.next_said = number + 1;
            self.counters.said += 1;
            self.counters.said_again += u64::from(std::mem::replace(&mut asked.said, true));
            octets.extend_from_slice(&asked.octets);
            line.requests += 1;
            line.octets += asked.octets.len();
            let said = Said::Request { number: *number, octets: asked.octets.len() };
            line.said.insert(asked.id.clone(), said);
        }
        if !octets.is_empty() {
            let conn = line.conn;
            self.outputs.push_back(AppOutput::Send { conn, octets });
        }
    }

    /// Gives the connection up.
    fn lose(&mut self, now: Time, fault: Fault) {
        self.hang_up();
        self.down(now, fault);
    }

    fn hang_up(&mut self) {
        let conn = self.drop_line();
        self.outputs.extend(conn.map(|conn| AppOutput::Close { conn }));
    }

    /// On the next connection all that is not answered is said again.
    pub(super) fn drop_line(&mut self) -> Option<Conn> {
        let line = self.line.take()?;
        self.next_said = 0;
        let said = line.said.values().filter(|said| matches!(said, Said::Confirm(_))).count();
        self.counters.confirmed_again += said as u64;
        self.unsaid = self.confirming.clone();
        Some(line.conn)
    }

    fn down(&mut self, now: Time, fault: Fault) {
        self.counters.lost += 1;
        let pause = self.pause();
        self.retry = self.retry.map(|_| now + pause);
        self.event(AppEvent::Down(fault));
    }

    /// Doubles with each failure; a quarter of it is random, so that applications do not come back in step.
    fn pause(&mut self) -> Duration {
        let doubled = self.config.backoff.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let pause = doubled.min(self.config.backoff_max);
        pause - pause / 4 * self.rng.below(256) / 256
    }
}
