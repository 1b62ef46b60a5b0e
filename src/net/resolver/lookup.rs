//! One lookup: which questions it still needs answered, and what the answers come to.
//!
//! A lookup keeps the answers it has been given and is evaluated anew from its beginning after each: a walk over the
//! search list, the services and the aliases that ends at the first question without an answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::{
    Config,
    answer::{Answer, Key, MAX_ALIASES, Outcome, is_usable},
    error::{Failure, Reason},
    order,
};
use crate::{
    rng::Entropy,
    time::Time,
    wire::dns::{Name, RecordType, Srv},
};

/// Most hosts of one service that are looked up, the preferred ones.
pub const MAX_TARGETS: usize = 8;
/// Most addresses in a result.
pub const MAX_RESULT: usize = 32;
/// Most questions that one lookup may need.
pub const MAX_QUESTIONS: usize = 64;

pub(super) struct Lookup {
    name: Name,
    port: u16,
    service: Option<Name>,
    /// The names to try, by search list and dots; the flag marks those with a suffix.
    candidates: Vec<(Name, bool)>,
    answers: BTreeMap<Key, Answer>,
    /// The service's instances, once found.
    services: Option<Services>,
    /// The questions being asked for this lookup.
    pub waiting: BTreeSet<Key>,
    /// When the whole lookup fails.
    pub limit: Time,
    /// When it makes do with the addresses it has, once it has some.
    pub patience: Option<Time>,
    /// That time has come.
    pub impatient: bool,
    /// Hosts and addresses for which the bounds had no room.
    pub left_out: usize,
}

struct Services {
    /// In the order drawn for this lookup.
    instances: Vec<Srv>,
    /// Addresses of their hosts that came along.
    along: Vec<(Name, IpAddr)>,
}

/// What a lookup has come to.
pub(super) enum Step {
    /// These questions are open. `content` when there are IPv4 addresses and only IPv6 ones are missing.
    Wait { open: Vec<Key>, content: bool },
    /// It has ended.
    Done(Result<Vec<SocketAddr>, Reason>),
}

/// What is known of one name's addresses.
enum Host {
    Open { open: Vec<Key>, known: Vec<SocketAddr> },
    Known(Vec<SocketAddr>),
    NoData,
    NoName,
    Failed(Failure),
}

impl Lookup {
    pub fn new(
        name: &Name,
        complete: bool,
        port: u16,
        service: Option<&Name>,
        config: &Config,
        limit: Time,
    ) -> Lookup {
        Lookup {
            name: name.clone(),
            port,
            service: service.cloned(),
            candidates: candidates(name, complete, config),
            answers: BTreeMap::new(),
            services: None,
            waiting: BTreeSet::new(),
            limit,
            patience: None,
            impatient: false,
            left_out: 0,
        }
    }

    /// Takes the answer to one of the open questions.
    pub fn add(&mut self, key: &Key, answer: &Answer) {
        self.waiting.remove(key);
        self.answers.insert(key.clone(), answer.clone());
    }

    /// Until when the result may be believed: as long as each answer that led to it.
    pub fn expires(&self) -> Option<Time> {
        let led = |a: &&Answer| !matches!(a.outcome, Outcome::NoName | Outcome::NoData | Outcome::Failed(_));
        self.answers.values().filter(led).map(|a| a.expires).min()
    }

    /// What is to be done now.
    pub fn evaluate(&mut self, config: &Config, entropy: &mut dyn Entropy) -> Step {
        let step = match local(&self.name, config) {
            Some(result) => Step::Done(result.map(|found| with_port(found, self.port))),
            None => self.remote(config, entropy),
        };
        match step {
            Step::Wait { ref open, .. } if self.answers.len() + open.len() > MAX_QUESTIONS => {
                Step::Done(Err(Reason::TooManyQueries))
            }
            Step::Done(Ok(mut found)) => {
                let mut seen = BTreeSet::new();
                found.retain(|address| seen.insert(*address));
                self.left_out += found.len().saturating_sub(MAX_RESULT);
                found.truncate(MAX_RESULT);
                Step::Done(Ok(found))
            }
            step => step,
        }
    }

    fn remote(&mut self, config: &Config, entropy: &mut dyn Entropy) -> Step {
        if let Some(services) = &self.services {
            return self.instances(services, config);
        }
        let (mut exists, mut failure) = (false, None);
        for (candidate, suffixed) in &self.candidates {
            // A candidate with no room for the service's labels cannot have the service.
            if let Some(Ok(name)) = self.service.as_ref().map(|service| service.join(candidate)) {
                match self.walk(&name, RecordType::Srv) {
                    Err(key) => return Step::Wait { open: vec![key], content: false },
                    Ok(Outcome::Services { instances, .. })
                        if instances.iter().all(|i| i.target.is_root()) =>
                    {
                        return Step::Done(Err(Reason::NotOffered));
                    }
                    Ok(Outcome::Services { instances, addresses }) => {
                        let mut instances = order::services(instances.clone(), entropy);
                        instances.retain(|i| !i.target.is_root());
                        let left_out = instances.len().saturating_sub(MAX_TARGETS);
                        instances.truncate(MAX_TARGETS);
                        let services = Services { instances, along: addresses.clone() };
                        let step = self.instances(&services, config);
                        self.services = Some(services);
                        self.left_out += left_out;
                        return step;
                    }
                    Ok(Outcome::Failed(f)) if may_pass_over(*suffixed, *f) => {
                        failure = Some(*f);
                        continue;
                    }
                    Ok(Outcome::Failed(f)) => return Step::Done(Err(Reason::Failed(*f))),
                    // Without service records the host itself is meant (RFC 2782, usage rules).
                    Ok(_) => {}
                }
            }
            match self.host(candidate, &[], config) {
                Host::Known(found) => return Step::Done(Ok(with_port(found, self.port))),
                Host::Open { known, .. } if self.impatient && !known.is_empty() => {
                    return Step::Done(Ok(with_port(known, self.port)));
                }
                Host::Open { open, known } => return Step::Wait { open, content: !known.is_empty() },
                Host::Failed(f) if may_pass_over(*suffixed, f) => failure = Some(f),
                Host::Failed(f) => return Step::Done(Err(Reason::Failed(f))),
                Host::NoData => exists = true,
                Host::NoName => {}
            }
        }
        Step::Done(Err(match (failure, exists) {
            (Some(failure), _) => Reason::Failed(failure),
            (None, true) => Reason::NoAddress,
            (None, false) => Reason::NoSuchName,
        }))
    }

    /// The addresses of all instances, in their order.
    fn instances(&self, services: &Services, config: &Config) -> Step {
        let (mut found, mut open, mut failure) = (Vec::new(), Vec::new(), None);
        let mut content = true;
        for instance in &services.instances {
            match self.host(&instance.target, &services.along, config) {
                Host::Known(addresses) => found.extend(with_port(addresses, instance.port)),
                Host::Open { open: more, known } => {
                    content &= !known.is_empty();
                    open.extend(more);
                    found.extend(with_port(known, instance.port));
                }
                Host::Failed(f) => failure = Some(f),
                Host::NoData | Host::NoName => {}
            }
        }
        let ended = open.is_empty() || (content && self.impatient);
        match (ended, found.is_empty(), failure) {
            (false, ..) => Step::Wait { open, content },
            (true, false, _) => Step::Done(Ok(found)),
            (true, true, Some(failure)) => Step::Done(Err(Reason::Failed(failure))),
            (true, true, None) => Step::Done(Err(Reason::NoAddress)),
        }
    }

    /// The addresses of one name: of this machine's own knowledge, come along with the services, or asked for.
    fn host(&self, name: &Name, along: &[(Name, IpAddr)], config: &Config) -> Host {
        match local(name, config) {
            Some(Ok(found)) => return Host::Known(found),
            Some(Err(Reason::NoAddress)) => return Host::NoData,
            Some(Err(_)) => return Host::NoName,
            None => {}
        }
        let (mut found, mut open, mut failure) = (Vec::new(), Vec::new(), None);
        let (mut known_v4, mut exists) = (false, false);
        let families: &[RecordType] =
            if config.ipv6 { &[RecordType::Aaaa, RecordType::A] } else { &[RecordType::A] };
        for family in families {
            let v4 = *family == RecordType::A;
            let before = found.len();
            let came = along.iter().filter(|(n, a)| n == name && a.is_ipv4() == v4);
            found.extend(came.map(|(_, a)| SocketAddr::new(*a, 0)));
            if found.len() > before {
                known_v4 |= v4;
                continue;
            }
            match self.walk(name, *family) {
                Err(key) => open.push(key),
                Ok(Outcome::Addresses(addresses)) => {
                    known_v4 |= v4;
                    found.extend(addresses.iter().map(|a| SocketAddr::new(*a, 0)));
                }
                Ok(Outcome::Failed(f)) => failure = Some(failure.map_or(*f, |g: Failure| g.or(*f))),
                Ok(Outcome::NoName) => {}
                Ok(_) => exists = true,
            }
        }
        let found = order::addresses(found);
        if !open.is_empty() {
            // IPv6 addresses alone are nothing to stop at: IPv4 is what nearly every network can reach.
            return Host::Open { open, known: if known_v4 { found } else { Vec::new() } };
        }
        match (found.is_empty(), failure) {
            (false, _) => Host::Known(found),
            (true, Some(failure)) => Host::Failed(failure),
            (true, None) if exists => Host::NoData,
            (true, None) => Host::NoName,
        }
    }

    /// Follows aliases to what a name has of a kind, or to the question that must be answered first.
    fn walk(&self, name: &Name, kind: RecordType) -> Result<&Outcome, Key> {
        const CIRCLE: Outcome = Outcome::Failed(Failure::TooManyAliases);
        let mut key = (name.clone(), kind);
        let mut followed = 0;
        loop {
            match self.answers.get(&key).map(|answer| &answer.outcome) {
                None => return Err(key),
                Some(Outcome::Alias { to, aliases }) => {
                    followed += aliases;
                    if followed > MAX_ALIASES {
                        return Ok(&CIRCLE);
                    }
                    key.0 = to.clone();
                }
                Some(outcome) => return Ok(outcome),
            }
        }
    }
}

/// What this machine knows of a name without asking anyone: names with a settled meaning (RFC 6761, RFC 7686) and the
/// hosts file's.
fn local(name: &Name, config: &Config) -> Option<Result<Vec<SocketAddr>, Reason>> {
    if name.ends_in("localhost") {
        let v6 = config.ipv6.then_some((Ipv6Addr::LOCALHOST, 0).into());
        return Some(Ok(v6.into_iter().chain([(Ipv4Addr::LOCALHOST, 0).into()]).collect()));
    }
    if name.ends_in("invalid") || name.ends_in("onion") {
        return Some(Err(Reason::NoSuchName));
    }
    let found = config.hosts.get(name)?.iter().filter(|a| is_usable(&a.ip()) && (config.ipv6 || a.is_ipv4()));
    let found: Vec<SocketAddr> = found.copied().collect();
    Some(if found.is_empty() { Err(Reason::NoAddress) } else { Ok(order::addresses(found)) })
}

/// The names to try in turn (resolv.conf(5)): one with enough dots as it is first, another with each suffix first.
fn candidates(name: &Name, complete: bool, config: &Config) -> Vec<(Name, bool)> {
    let as_it_is = (name.clone(), false);
    if complete {
        return vec![as_it_is];
    }
    let suffixed = config.search.iter().take(super::conf::MAX_SEARCH);
    let mut candidates: Vec<_> =
        suffixed.filter_map(|suffix| Some((name.join(suffix).ok()?, true))).collect();
    let dots = name.labels().count().saturating_sub(1);
    let at = if dots >= config.ndots { 0 } else { candidates.len() };
    candidates.insert(at, as_it_is);
    candidates
}

/// A suffix's own servers may be out of reach from here; the name as it is may still resolve. But silence from all
/// servers is no reason to go on: one name must not become another because packets were lost.
fn may_pass_over(suffixed: bool, failure: Failure) -> bool {
    suffixed && matches!(failure, Failure::ServerFailure { .. } | Failure::Refused)
}

fn with_port(mut addresses: Vec<SocketAddr>, port: u16) -> Vec<SocketAddr> {
    addresses.iter_mut().for_each(|a| a.set_port(port));
    addresses
}
