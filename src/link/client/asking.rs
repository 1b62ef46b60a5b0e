//! Getting a session: a resume if there is a ticket, else a handshake; sent again, and given up for a while.

use std::time::Duration;

use super::{Client, Event, Output, Phase, Resumption, up::Up};
use crate::{
    link::handshake::{Initiator, finish_resume, resume},
    link::keys::Keys,
    time::Time,
    wire::link::{Datagram, HEEDS_RHYTHM, HEEDS_SLEEP, HELLO_COOKIE, RESUME_COOKIE, Refusal, Welcome, Wish},
};

/// Sends of a hello, and of a resume.
const HELLOS: u32 = 5;
const RESUMES: u32 = 4;
/// Of so many resumes in a row that nobody answered, the last is followed by a hello.
const SUSPECT: u32 = 4;
/// What a refusal leaves for a real answer to come: it could be anybody's.
const DOUBT: Duration = Duration::from_secs(1);

/// A hello or a resume that waits for its answer.
pub(super) struct Asking {
    how: How,
    echo: [u8; 8],
    datagram: Vec<u8>,
    sends: u32,
    due: Time,
    refused: Option<Refusal>,
    /// A cookie was taken: another is not, so that nobody makes us send without end.
    has_cookie: bool,
}

enum How {
    Hello { noise: Box<Initiator>, key: [u8; 32] },
    Resume { nonce: [u8; 16], secret: [u8; 32] },
}

impl Asking {
    pub fn deadline(&self) -> Time {
        self.due
    }

    /// Begins its sends anew, perhaps from another address, for which another cookie is needed.
    pub fn again(&mut self, now: Time) {
        self.sends = 0;
        self.has_cookie = false;
        self.due = now;
    }

    fn limit(&self) -> u32 {
        match self.how {
            How::Hello { .. } => HELLOS,
            How::Resume { .. } => RESUMES,
        }
    }
}

impl Client {
    /// Begins to ask, by a ticket where there is one and it may be used.
    pub(super) fn ask(&mut self, now: Time, by_ticket: bool) {
        let ticket = self.config.resumption.clone().filter(|_| by_ticket);
        self.ask_with(now, ticket, self.config.server_key);
    }

    fn ask_with(&mut self, now: Time, ticket: Option<Resumption>, key: [u8; 32]) {
        let wish = Wish { features: 0, interval: self.config.interval };
        let (how, datagram) = match ticket {
            Some(Resumption { ticket, secret }) => {
                let mut nonce = [0; 16];
                self.rng.fill(&mut nonce);
                (How::Resume { nonce, secret }, resume(nonce, ticket, &secret, wish))
            }
            None => {
                self.counters.handshakes += 1;
                let (id, secret) = (self.config.session_id, &self.config.secret);
                let (noise, datagram) = Initiator::begin(&key, id, secret, wish, &mut *self.rng);
                (How::Hello { noise: Box::new(noise), key }, datagram)
            }
        };
        let at = if matches!(how, How::Hello { .. }) { 42 } else { 8 };
        let echo = datagram[at..at + 8].try_into().expect("eight octets");
        let asking = Asking { how, echo, datagram, sends: 0, due: now, refused: None, has_cookie: false };
        self.phase = Phase::Asking(Box::new(asking));
        self.ask_again(now);
    }

    /// Sends again when it is time, or gives up.
    pub(super) fn ask_again(&mut self, now: Time) {
        let Phase::Asking(asking) = &mut self.phase else { return };
        if asking.due > now {
            return;
        }
        if asking.refused.is_none() && asking.sends < asking.limit() {
            asking.due = now + Duration::from_secs(1 << asking.sends.min(3));
            asking.sends += 1;
            self.counters.asked += 1;
            let octets = asking.datagram.clone();
            return self.outputs.push_back(Output::Send(octets));
        }
        match (&asking.how, asking.refused) {
            // Whatever is wrong with the ticket, the secret is still good.
            (How::Resume { .. }, Some(Refusal::Ticket)) => self.ask(now, false),
            // Silence says nothing of the ticket: a server that is slow because all come back at once would be slower still
            // for handshakes. Only when that goes on is the ticket suspected.
            (How::Resume { .. }, None) if self.failures.failures() % SUSPECT == SUSPECT - 1 => {
                self.ask(now, false)
            }
            (How::Hello { key, .. }, Some(Refusal::OtherKey)) if *key == self.config.server_key => {
                match self.config.next_key {
                    Some(next) => self.ask_with(now, None, next),
                    None => self.pause(now),
                }
            }
            _ => self.pause(now),
        }
    }

    /// A datagram of the handshake class came.
    pub(super) fn answer(&mut self, now: Time, answer: &Datagram<'_>, octets: &[u8]) {
        let Phase::Asking(asking) = &mut self.phase else {
            self.counters.unexpected += 1;
            return;
        };
        let echo = match answer {
            Datagram::Cookie { echo, .. }
            | Datagram::Accept { echo, .. }
            | Datagram::Refuse { echo, .. }
            | Datagram::Resumed { echo, .. } => *echo,
            _ => {
                self.counters.unexpected += 1;
                return;
            }
        };
        if echo != asking.echo {
            self.counters.unexpected += 1;
            return;
        }
        match (answer, &mut asking.how) {
            (Datagram::Cookie { cookie, .. }, how) if !asking.has_cookie => {
                let at = if matches!(how, How::Hello { .. }) { HELLO_COOKIE } else { RESUME_COOKIE };
                asking.datagram[at..at + 16].copy_from_slice(cookie);
                asking.has_cookie = true;
                // Who gives a cookie has not decided yet: a refusal before it was somebody's who only listens.
                asking.refused = None;
                self.counters.cookies += 1;
                asking.due = now;
                asking.sends = asking.sends.saturating_sub(1);
                self.ask_again(now);
            }
            (Datagram::Refuse { reason, .. }, _) if asking.refused.is_none() => {
                asking.refused = Some(*reason);
                asking.due = now + DOUBT;
                self.counters.refused += 1;
                self.event(Event::Refused(*reason));
            }
            (Datagram::Accept { noise: message, .. }, How::Hello { noise, key }) => {
                let key = *key;
                match noise.finish(message) {
                    Some((welcome, keys)) => self.come_up(now, welcome, keys, Some(key)),
                    None => self.counters.unopened += 1,
                }
            }
            (Datagram::Resumed { nonce: theirs, .. }, How::Resume { nonce, secret }) => {
                match finish_resume(*nonce, *theirs, secret, octets) {
                    Some((welcome, keys)) => self.come_up(now, welcome, keys, None),
                    None => self.counters.unopened += 1,
                }
            }
            _ => self.counters.unexpected += 1,
        }
    }

    fn come_up(&mut self, now: Time, welcome: Welcome, keys: Keys, key: Option<[u8; 32]>) {
        self.failures.reset();
        self.counters.sessions += 1;
        self.counters.resumed += u64::from(key.is_none());
        let up = Up::new(now, &welcome, keys, &self.config);
        self.agreed(&welcome);
        self.event(Event::Up { resumed: key.is_none(), interval: welcome.interval });
        if let Some(key) = key.filter(|key| *key != self.config.server_key) {
            self.config.server_key = key;
            self.config.next_key = None;
            self.event(Event::KeyChanged(key));
        }
        self.phase = Phase::Up(Box::new(up));
        self.told(&welcome);
        // The server believes nothing before something opens.
        if let Phase::Up(up) = &mut self.phase {
            up.ask_for_life(now, &self.pace, &mut self.counters, &mut self.outputs);
        }
    }

    /// An interval holds that the server says, and perhaps heeds another.
    pub(super) fn agreed(&mut self, welcome: &Welcome) {
        let heeded = welcome.features & HEEDS_RHYTHM != 0;
        self.lets_sleep = welcome.features & HEEDS_SLEEP != 0;
        self.learn(|pace| pace.agreed(welcome.interval, heeded));
    }

    /// Keeps what a welcome brought for later.
    pub(super) fn told(&mut self, welcome: &Welcome) {
        let resumption = Resumption { ticket: welcome.ticket, secret: welcome.resume };
        self.config.resumption = Some(resumption.clone());
        self.event(Event::Resumption(resumption));
        let next = Some(welcome.next_key).filter(|key| *key != [0; 32] && *key != self.config.server_key);
        if next.is_some() && next != self.config.next_key {
            self.config.next_key = next;
            self.event(Event::NextKey(welcome.next_key));
        }
    }
}
