//! The balancer's end: asks to gives, without anything kept of an ask.

use std::net::SocketAddr;

use crate::{
    counters::counters,
    io::holder,
    link::{
        Path,
        cookie::Cookies,
        handshake::{Asked, public_key},
        keys::mac,
    },
    rng::Entropy,
    time::Time,
    wire::{
        balance::{Answer, Ask, Datagram, Question, give},
        link::{Malformed, REQUEST, Refusal, cookie, refuse},
    },
};

/// Counts of hosts by a keyed hash of their address: what one takes of a second is taken from few others.
const SHARES: usize = 1024;

/// How much a balancer answers.
#[derive(Clone, Copy, Debug)]
pub struct AnswererConfig {
    /// Asks without a cookie that are answered in a second; past it who asks is to show first that it is where it says.
    pub asks_without_cookie: u32,
    /// Asks with a cookie that one host has answered in a second; of IPv6, one network of 64 bits.
    pub asks_of_one: u16,
}

impl Default for AnswererConfig {
    fn default() -> AnswererConfig {
        AnswererConfig { asks_without_cookie: 500, asks_of_one: 200 }
    }
}

counters! {
    /// What a balancer's answering end has seen.
    pub struct AnswererCounters {
        datagrams: "datagrams received",
        malformed: "datagrams that are no ask",
        asks: "asks received",
        cookies: "cookies sent",
        bad_cookies: "asks with a cookie that is not theirs",
        too_many: "asks dropped because their host asks too often",
        refused: "asks refused because another key or version was meant",
        unopened: "asks that did not open",
        given: "brokers given",
        none: "asks answered that no broker is there",
    }
}

/// A balancer's end towards devices.
pub struct Answerer {
    config: AnswererConfig,
    private: [u8; 32],
    public: [u8; 32],
    cookies: Cookies,
    rng: Box<dyn Entropy + Send>,
    begun: Time,
    /// A second, and the asks that were answered in it without a cookie.
    taken: (u64, u32),
    /// Of the same second, what hosts took with one.
    shares: Box<[u16; SHARES]>,
    shares_key: [u8; 32],
    counters: AnswererCounters,
}

impl Answerer {
    /// One with this static private key.
    pub fn new(
        config: AnswererConfig,
        private: [u8; 32],
        now: Time,
        mut rng: impl Entropy + Send + 'static,
    ) -> Answerer {
        let mut shares_key = [0; 32];
        rng.fill(&mut shares_key);
        Answerer {
            config,
            private,
            public: public_key(&private),
            cookies: Cookies::new(now, &mut rng),
            rng: Box::new(rng),
            begun: now,
            taken: (0, 0),
            shares: Box::new([0; SHARES]),
            shares_key,
            counters: AnswererCounters::default(),
        }
    }

    /// The key that devices know it by.
    pub const fn public_key(&self) -> [u8; 32] {
        self.public
    }

    /// What was counted.
    pub const fn counters(&self) -> &AnswererCounters {
        &self.counters
    }

    /// The answer to a datagram from there, if it gets one: never a longer one. Who asks well is answered by `choose`.
    pub fn handle(
        &mut self,
        now: Time,
        from: SocketAddr,
        octets: &[u8],
        choose: impl FnOnce(&Question) -> Answer,
    ) -> Option<Vec<u8>> {
        self.counters.datagrams += 1;
        let ask = match Datagram::decode(octets) {
            Ok(Datagram::Ask(ask)) => ask,
            Err(Malformed::Version(_)) if octets.len() == REQUEST => {
                let echo = octets[26..34].try_into().expect("eight octets");
                self.counters.refused += 1;
                return Some(refuse(Refusal::Version, echo));
            }
            _ => {
                self.counters.malformed += 1;
                return None;
            }
        };
        self.counters.asks += 1;
        let second = now.since(self.begun).as_secs();
        if self.taken.0 != second {
            self.taken = (second, 0);
            self.shares.fill(0);
        }
        match self.shows_cookie(now, from, &ask) {
            // Only who is there uses up what its host has: without a cookie anybody can be said to ask.
            true if !self.has_share(from) => {
                self.counters.too_many += 1;
                return None;
            }
            true => {}
            false if self.taken.1 < self.config.asks_without_cookie => self.taken.1 += 1,
            false => {
                self.counters.cookies += 1;
                return Some(self.cookie(now, from, &ask));
            }
        }
        if ask.server_key != self.public[..2] {
            self.counters.refused += 1;
            return Some(refuse(Refusal::OtherKey, ask.echo()));
        }
        let Some(asked) = Asked::read(&self.private, ask.noise, &mut *self.rng) else {
            self.counters.unopened += 1;
            return None;
        };
        let answer = choose(&asked.question);
        match answer {
            Answer::Broker { .. } => self.counters.given += 1,
            Answer::None { .. } => self.counters.none += 1,
        }
        Some(give(ask.echo(), &asked.give(&answer)))
    }

    fn shows_cookie(&mut self, now: Time, from: SocketAddr, ask: &Ask<'_>) -> bool {
        let is_good = ask.cookie != [0; 16]
            && self.cookies.is_good(now, Path::Datagram(from), subject(ask), ask.echo(), &ask.cookie);
        self.counters.bad_cookies += u64::from(ask.cookie != [0; 16] && !is_good);
        is_good
    }

    fn cookie(&mut self, now: Time, from: SocketAddr, ask: &Ask<'_>) -> Vec<u8> {
        let made = self.cookies.make(now, &mut *self.rng, Path::Datagram(from), subject(ask), ask.echo());
        cookie(ask.echo(), made)
    }

    fn has_share(&mut self, from: SocketAddr) -> bool {
        let octets = match holder(from.ip()) {
            std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            std::net::IpAddr::V6(ip) => ip.octets(),
        };
        let place: [u8; 2] = mac(&self.shares_key, &[&octets]);
        let share = &mut self.shares[usize::from(u16::from_be_bytes(place)) % SHARES];
        let has = *share < self.config.asks_of_one;
        *share += u16::from(has);
        has
    }
}

/// What a cookie is for, besides an address.
fn subject(ask: &Ask<'_>) -> [u8; 16] {
    *ask.noise.first_chunk().expect("an ephemeral key is longer")
}
