//! Names to addresses without ever blocking: a stub resolver as a state machine.
//!
//! The resolver opens no socket and reads no clock or file. After every call its driver pulls [`Output`]s until there
//! is none, does what they say, and calls [`Resolver::handle_deadline`] once [`Resolver::deadline`] has come:
//!
//! - [`Output::Query`]: open a fresh socket to the server, send the octets, and hand in what comes back under the
//!   query's [`SocketToken`]: datagrams, stream octets as they arrive, or a failure. A UDP socket is to be bound to no
//!   port and connected: the kernel then picks a random port (RFC 5452 §9.2) that steps on no one's, drops what comes
//!   from elsewhere, and reports refusals. One socket carries one query.
//! - [`Output::Close`]: close that socket; nothing more is wanted from it.
//! - [`Output::Done`]: a lookup has ended.
//!
//! Literal addresses, `localhost` and the hosts file are answered without a query (but as `Done` too), the rest from
//! the cache or from the configured servers, over UDP first and over TCP when an answer does not fit (RFC 7766).
#![forbid(unsafe_code)]

mod answer;
mod cache;
mod conf;
mod error;
mod fetch;
mod hosts;
mod lookup;
mod order;
mod target;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::SocketAddr,
    time::Duration,
};

use answer::{Answer, Key};
pub use answer::{MAX_ADDRESSES, MAX_ALIASES, MAX_NEGATIVE_TTL, MAX_SERVICES, MAX_TTL, MIN_TTL};
use cache::Cache;
pub use cache::MAX_ENTRIES as MAX_CACHED;
pub use conf::{Config, MAX_SEARCH, MAX_SERVERS, MAX_WARNINGS};
pub use error::{Failure, Reason, ResolveError, TargetError};
use fetch::{Fetches, Io};
pub use fetch::{MAX_SOCKETS, MAX_STRAYS, UDP_SIZE};
pub use hosts::{Hosts, MAX_ADDRESSES as MAX_HOSTS_ADDRESSES, MAX_NAMES as MAX_HOSTS_NAMES};
use lookup::{Lookup, Step};
pub use lookup::{MAX_QUESTIONS, MAX_RESULT, MAX_TARGETS};
use target::Host;
pub use target::Target;

use crate::{counters::counters, rng::Entropy, time::Time, wire::dns::Name};

/// Most lookups under way or ended and not yet pulled.
pub const MAX_LOOKUPS: usize = 64;

/// A lookup, as long as the resolver lives: never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LookupId(u64);

/// A socket that the resolver has asked for: never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketToken(u64);

/// How a query travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One datagram.
    Udp,
    /// A stream; the octets to send begin with the message's length (RFC 1035 §4.2.2).
    Tcp,
}

/// What is looked up of a [`Target`]'s host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its addresses, with the target's port.
    Address,
    /// The addresses and ports at which it offers a service (RFC 2782). A host of which this machine knows itself
    /// (a literal, `localhost`, the hosts file) and one without service records gets the target's port.
    Srv {
        /// The service and protocol, such as `_xmpp-client._tcp`.
        service: Name,
    },
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Open a socket to `server` and send `message` on it.
    Query {
        /// What the socket is called from now on.
        socket: SocketToken,
        /// Where to.
        server: SocketAddr,
        /// How.
        transport: Transport,
        /// The octets to send, as they are.
        message: Vec<u8>,
    },
    /// Close a socket.
    Close {
        /// Which.
        socket: SocketToken,
    },
    /// A lookup has ended.
    Done {
        /// Which.
        id: LookupId,
        /// At least one address, at most [`MAX_RESULT`], in the order in which to try them.
        result: Result<Vec<SocketAddr>, ResolveError>,
        /// For how long the addresses may be kept; [`MAX_TTL`] for those that came from no server, zero for an error.
        ttl: Duration,
    },
}

counters! {
    /// What has happened since the resolver was made.
    pub struct Counters {
        lookups: "Lookups begun.",
        lookups_refused: "Lookups refused because 64 were under way.",
        lookups_failed: "Lookups ended without an address.",
        lookups_expired: "Lookups ended by their time limit.",
        ipv6_late: "Lookups ended with IPv4 addresses alone because the IPv6 answer was late.",
        lookups_too_long: "Lookups ended for leading through too many names or aliases.",
        left_out: "Addresses, instances and hosts of services left out because a bound had no room for them.",
        cache_hits: "Questions answered from the cache.",
        cache_evictions: "Answers thrown out of the cache before their time.",
        queries: "Queries sent.",
        retries: "Queries sent to a further server or in a further round.",
        queued: "Questions that had to wait because 64 sockets were open.",
        timeouts: "Queries not answered in time.",
        unreachable: "Queries whose socket failed.",
        truncated: "Answers that had to be fetched over TCP because they were truncated.",
        strays: "Datagrams that were not the answer: another id, sender or question, or too late.",
        guessed: "Queries moved to TCP after more than 32 such datagrams.",
        case_folded: "Answers that did not echo the letters' case.",
        edns_refused: "Answers that refused EDNS.",
        malformed: "Answers that broke the format.",
    }
}

/// A stub resolver. See the module's text for how it is driven.
pub struct Resolver<E> {
    config: Config,
    entropy: E,
    fetches: Fetches,
    cache: Cache,
    lookups: BTreeMap<LookupId, (Lookup, String)>,
    out: VecDeque<Output>,
    /// How many of `out` are `Done`.
    ended: usize,
    last_id: u64,
    counters: Counters,
}

impl<E: Entropy> Resolver<E> {
    /// A resolver that knows nothing yet. `entropy` is what makes its queries hard to guess.
    pub fn new(config: Config, entropy: E) -> Resolver<E> {
        Resolver {
            fetches: Fetches::new(&config),
            config,
            entropy,
            cache: Cache::default(),
            lookups: BTreeMap::new(),
            out: VecDeque::new(),
            ended: 0,
            last_id: 0,
            counters: Counters::default(),
        }
    }

    /// Takes a configuration that has been read again. Unless it is the one in use, what was cached is forgotten and
    /// what is being asked is asked anew of the new servers; a lookup under way keeps its search list.
    pub fn set_config(&mut self, now: Time, config: Config) {
        if config != self.config {
            self.config = config;
            self.network_changed(now);
        }
    }

    /// Forgets the cache and what was learnt of the servers, and asks anew whatever is being asked: names may mean
    /// something else on another network, and what was sent on the old one is lost.
    pub fn network_changed(&mut self, now: Time) {
        self.cache.clear();
        let (fetches, config, mut io) = self.fetching(now);
        fetches.restart(config, &mut io);
    }

    /// Begins a lookup; an [`Output::Done`] ends it. Fails only when [`MAX_LOOKUPS`] are under way.
    pub fn lookup(&mut self, now: Time, target: &Target, kind: &Kind) -> Result<LookupId, ResolveError> {
        if self.lookups.len() + self.ended >= MAX_LOOKUPS {
            self.counters.lookups_refused += 1;
            return Err(ResolveError { name: target.host(), reason: Reason::TooManyLookups });
        }
        self.counters.lookups += 1;
        self.last_id += 1;
        let id = LookupId(self.last_id);
        match &target.host {
            Host::Address(address) => {
                let mut address = *address;
                address.set_port(target.port);
                self.end(id, Ok(vec![address]), MAX_TTL);
            }
            Host::Name { name, complete } => {
                let service = match kind {
                    Kind::Address => None,
                    Kind::Srv { service } => Some(service),
                };
                let limit = now + self.config.limit;
                let lookup = Lookup::new(name, *complete, target.port, service, &self.config, limit);
                self.lookups.insert(id, (lookup, target.host()));
                self.advance(now, id);
            }
        }
        Ok(id)
    }

    /// Ends a lookup without an [`Output::Done`]. One that has ended, pulled or not, is no more.
    pub fn cancel(&mut self, now: Time, id: LookupId) {
        if let Some((lookup, _)) = self.lookups.remove(&id) {
            self.release(now, lookup);
        }
        let before = self.out.len();
        self.out.retain(|output| !matches!(output, Output::Done { id: done, .. } if *done == id));
        self.ended -= before - self.out.len();
    }

    /// The next thing to do, until there is none.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.out.pop_front()?;
        self.ended -= usize::from(matches!(output, Output::Done { .. }));
        Some(output)
    }

    /// When to call [`Resolver::handle_deadline`]; `None` when nothing is under way.
    pub fn deadline(&self) -> Option<Time> {
        let lookups = self.lookups.values().flat_map(|(l, _)| [Some(l.limit), l.patience]);
        lookups.flatten().chain(self.fetches.deadline()).min()
    }

    /// A datagram arrived on a socket of the resolver's.
    pub fn handle_datagram(&mut self, now: Time, socket: SocketToken, from: SocketAddr, datagram: &[u8]) {
        let (fetches, _, mut io) = self.fetching(now);
        let answered = fetches.handle_datagram(socket, from, datagram, &mut io);
        self.answered(now, answered);
    }

    /// Octets arrived on a TCP socket of the resolver's, in whatever pieces.
    pub fn handle_stream(&mut self, now: Time, socket: SocketToken, octets: &[u8]) {
        let (fetches, _, mut io) = self.fetching(now);
        let answered = fetches.handle_stream(socket, octets, &mut io);
        self.answered(now, answered);
    }

    /// A socket could not be opened, connected or used, or was closed by the server
    /// ([`io::ErrorKind::UnexpectedEof`]). An [`Output::Close`] for it follows.
    pub fn handle_failed(&mut self, now: Time, socket: SocketToken, why: io::ErrorKind) {
        let (fetches, _, mut io) = self.fetching(now);
        let answered = fetches.handle_failed(socket, why, &mut io);
        self.answered(now, answered);
    }

    /// Does what is due.
    pub fn handle_deadline(&mut self, now: Time) {
        // Each query is overdue once: what replaces it is due later.
        while let Some(key) = self.fetches.overdue(now) {
            let (fetches, _, mut io) = self.fetching(now);
            let answer = fetches.handle_overdue(&key, &mut io);
            self.answered(now, answer.map(|answer| (key, answer)));
        }
        let due = |l: &Lookup| l.limit <= now || l.patience.is_some_and(|t| t <= now);
        let due: Vec<LookupId> =
            self.lookups.iter().filter(|(_, (l, _))| due(l)).map(|(id, _)| *id).collect();
        for id in due {
            let Some((lookup, _)) = self.lookups.get_mut(&id) else { continue };
            lookup.impatient |= lookup.patience.take().is_some_and(|t| t <= now);
            if lookup.limit > now {
                self.advance(now, id);
            } else if let Some((lookup, name)) = self.lookups.remove(&id) {
                self.release(now, lookup);
                self.counters.lookups_expired += 1;
                self.end(id, Err(ResolveError { name, reason: Reason::Timeout }), Duration::ZERO);
            }
        }
    }

    /// What has happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How many lookups are under way, sockets are open and answers are cached, at this moment.
    pub fn load(&self) -> (usize, usize, usize) {
        (self.lookups.len(), self.fetches.open(), self.cache.len())
    }

    /// The configuration in use.
    pub fn config(&self) -> &Config {
        &self.config
    }

    fn fetching(&mut self, now: Time) -> (&mut Fetches, &Config, Io<'_>) {
        let io = Io { now, out: &mut self.out, entropy: &mut self.entropy, counters: &mut self.counters };
        (&mut self.fetches, &self.config, io)
    }

    /// Hands an answer to the cache and to the lookups that wait for it.
    fn answered(&mut self, now: Time, answered: Option<(Key, Answer)>) {
        let Some((key, answer)) = answered else { return };
        self.counters.cache_evictions += u64::from(self.cache.insert(now, &key, &answer));
        let waiting = self.lookups.iter_mut().filter(|(_, (lookup, _))| lookup.waiting.contains(&key));
        let mut ready = Vec::new();
        for (id, (lookup, _)) in waiting {
            lookup.add(&key, &answer);
            ready.push(*id);
        }
        ready.into_iter().for_each(|id| self.advance(now, id));
    }

    /// Evaluates a lookup until it waits for servers or has ended.
    fn advance(&mut self, now: Time, id: LookupId) {
        // Every turn but the last adds an answer, and a lookup ends at a bounded number of them.
        loop {
            let Some((lookup, _)) = self.lookups.get_mut(&id) else { return };
            match lookup.evaluate(&self.config, &mut self.entropy) {
                Step::Done(result) => {
                    let Some((lookup, name)) = self.lookups.remove(&id) else { return };
                    let expires = lookup.expires();
                    self.counters.ipv6_late += u64::from(lookup.impatient && result.is_ok());
                    self.counters.left_out += lookup.left_out as u64;
                    self.release(now, lookup);
                    let ttl = match &result {
                        Ok(_) => expires.map_or(MAX_TTL, |t| t.since(now)),
                        Err(_) => Duration::ZERO,
                    };
                    return self.end(id, result.map_err(|reason| ResolveError { name, reason }), ttl);
                }
                Step::Wait { open, content } => {
                    lookup.patience = match content {
                        true => lookup.patience.or(Some(now + self.config.ipv6_wait)),
                        false => None,
                    };
                    let mut cached = false;
                    for key in &open {
                        if let Some(answer) = self.cache.get(now, key) {
                            lookup.add(key, answer);
                            self.counters.cache_hits += 1;
                            cached = true;
                        }
                    }
                    if cached {
                        continue;
                    }
                    let asked: Vec<Key> =
                        open.into_iter().filter(|key| lookup.waiting.insert(key.clone())).collect();
                    let (fetches, _, mut io) = self.fetching(now);
                    return asked.iter().for_each(|key| fetches.ask(key, &mut io));
                }
            }
        }
    }

    /// Stops asking what only this lookup wanted.
    fn release(&mut self, now: Time, lookup: Lookup) {
        for key in lookup.waiting {
            if !self.lookups.values().any(|(other, _)| other.waiting.contains(&key)) {
                let (fetches, _, mut io) = self.fetching(now);
                fetches.abandon(&key, &mut io);
            }
        }
    }

    fn end(&mut self, id: LookupId, result: Result<Vec<SocketAddr>, ResolveError>, ttl: Duration) {
        if let Err(error) = &result {
            let long = [Reason::TooManyQueries, Reason::Failed(Failure::TooManyAliases)];
            self.counters.lookups_too_long += u64::from(long.contains(&error.reason));
            self.counters.lookups_failed += 1;
        }
        self.ended += 1;
        self.out.push_back(Output::Done { id, result, ttl });
    }
}
