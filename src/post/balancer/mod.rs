//! The balancer: brokers enlist and report their load, devices ask and are given one (CN103200214A [0043], [0062]).
//!
//! It keeps what brokers say and nothing of devices, and nothing durable but its key, which its node has.

mod roster;
mod uplink;

use std::net::SocketAddr;

use roster::Roster;
pub use roster::{Full, Listing, Load, Out, RosterConfig};
pub use uplink::{Uplink, UplinkConfig, UplinkCounters, UplinkOutput};

use crate::{
    counters::counters,
    io::KeyId,
    link::{Answerer, AnswererConfig, AnswererCounters},
    rng::Entropy,
    time::Time,
};

/// How a balancer behaves.
#[derive(Clone, Copy, Default, Debug)]
pub struct BalancerConfig {
    /// Towards brokers.
    pub roster: RosterConfig,
    /// Towards devices.
    pub answerer: AnswererConfig,
}

/// What happened to a broker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BalancerEvent {
    /// It is given to devices from now on.
    In {
        /// As it calls itself.
        name: String,
        /// Where devices find it.
        address: SocketAddr,
    },
    /// It is given to nobody from now on.
    Out {
        /// As it calls itself.
        name: String,
        /// Why.
        why: Out,
    },
    /// Its connection is to be closed: a newer one of the same broker took its place.
    Displaced {
        /// Which one.
        line: u64,
    },
}

counters! {
    /// What a balancer counted of brokers.
    pub struct BalancerCounters {
        enlisted: "brokers enlisted",
        displaced: "of these, in the place of an older connection of the same broker",
        full: "brokers not enlisted because there were too many",
        reports: "reports of load",
        strange: "reports of who is not enlisted",
        silent: "brokers taken out because their reports did not come",
        drained: "brokers taken out because they drain",
        closed: "brokers taken out because their connection was lost",
    }
}

/// A balancer.
pub struct Balancer {
    roster: Roster,
    answerer: Answerer,
}

impl Balancer {
    /// One with this static private key of the link, without brokers.
    pub fn new(
        config: BalancerConfig,
        private: [u8; 32],
        now: Time,
        mut rng: impl Entropy + Send + 'static,
    ) -> Balancer {
        let roster = Roster::new(config.roster, rng.next_u64());
        Balancer { roster, answerer: Answerer::new(config.answerer, private, now, rng) }
    }

    /// The key that devices must know it by.
    pub const fn public_key(&self) -> [u8; 32] {
        self.answerer.public_key()
    }

    /// A broker says who it is, on a connection that has this number and this key. It is given out from its first report on. The
    /// number in the answer is its own for as long as it stays enlisted.
    ///
    /// # Errors
    /// When there are too many.
    pub fn enlist(&mut self, line: u64, key: KeyId, listing: Listing) -> Result<u32, Full> {
        self.roster.enlist(line, key, listing)
    }

    /// A broker tells how it is.
    pub fn report(&mut self, now: Time, line: u64, load: Load) {
        self.roster.report(now, line, load);
    }

    /// A connection is gone.
    pub fn closed(&mut self, line: u64) {
        self.roster.closed(line);
    }

    /// A datagram came from a device: the answer, if it gets one.
    pub fn datagram(&mut self, now: Time, from: SocketAddr, octets: &[u8]) -> Option<Vec<u8>> {
        // Nobody is given a broker that is silent, even before the deadline is noticed.
        self.roster.handle_deadline(now);
        let roster = &mut self.roster;
        self.answerer.handle(now, from, octets, |question| roster.choose(from, question))
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<BalancerEvent> {
        self.roster.events.pop_front()
    }

    /// When [`Balancer::handle_deadline`] is wanted.
    pub fn deadline(&self) -> Option<Time> {
        self.roster.deadline()
    }

    /// The deadline has come.
    pub fn handle_deadline(&mut self, now: Time) {
        self.roster.handle_deadline(now);
    }

    /// Brokers that are enlisted, and those of them that are given out.
    pub fn brokers(&self) -> (usize, usize) {
        self.roster.count()
    }

    /// What was counted of brokers.
    pub const fn counters(&self) -> &BalancerCounters {
        &self.roster.counters
    }

    /// What was counted of devices.
    pub const fn asks(&self) -> &AnswererCounters {
        self.answerer.counters()
    }
}
