//! Looking at payload: which rules match what a flow has sent.

use std::sync::Arc;

use super::{
    automaton::{Budget, Cache, StateId},
    flow::{Dialect, Flow, NO_RULE},
    ruleset::{Context, LANES, Lane, RuleSet},
    view::{dns, http, quic, tls},
};

/// The longest text that a view is made of, in octets; what is longer is cut.
const MAX_TEXT: usize = 512;
/// The most of a stream's beginning that is kept until it is whole: a ClientHello and its record headers.
const MAX_BEGINNING: usize = tls::MAX_HELLO + 256;

/// Rules, and the automata made from them so far.
#[derive(Debug)]
pub(crate) struct Inspector {
    pub(crate) rules: Arc<RuleSet>,
    caches: [Option<Cache>; LANES],
    pub(crate) budget: Budget,
    /// Times the automata were renewed because they had grown to their bound.
    pub(crate) renewals: u64,
}

/// What was found in one packet.
#[derive(Debug)]
struct Hits {
    best: u16,
    /// Rules that must be found several times.
    counted: [u16; 4],
}

impl Hits {
    const NONE: Hits = Hits { best: NO_RULE, counted: [NO_RULE; 4] };

    fn note(&mut self, rules: &RuleSet, at: &Context<'_>, rank: u16) {
        if rank >= self.best || !rules.rule(rank).applies(at) {
            return;
        }
        if rules.rule(rank).conditions.times == 1 {
            self.best = rank;
        } else if !self.counted.contains(&rank)
            && let Some(slot) = self.counted.iter_mut().find(|slot| **slot == NO_RULE)
        {
            *slot = rank;
        }
    }

    /// Moves what was found into the flow.
    fn settle(self, rules: &RuleSet, flow: &mut Flow) {
        flow.best = flow.best.min(self.best);
        for rank in self.counted {
            if rank >= flow.best {
                continue;
            }
            let slot = flow.counted.iter_mut().find(|(known, _)| *known == rank || *known == NO_RULE);
            if let Some((known, times)) = slot {
                *known = rank;
                *times += 1;
                if *times >= rules.rule(rank).conditions.times {
                    flow.best = flow.best.min(rank);
                }
            }
        }
    }
}

impl Inspector {
    pub(crate) fn new(rules: Arc<RuleSet>) -> Inspector {
        let mut inspector = Inspector {
            budget: Budget::new(rules.limits().automaton_memory),
            caches: Default::default(),
            renewals: 0,
            rules,
        };
        inspector.reset();
        // Start states are always there; a bound below a few of each would only make the others come and go.
        inspector.budget.limit = inspector.budget.limit.max(inspector.budget.used * 8);
        inspector
    }

    /// Empties the caches.
    fn reset(&mut self) -> [Option<Cache>; LANES] {
        self.budget.used = 0;
        let mut fresh: [Option<Cache>; LANES] = Default::default();
        for (cache, program) in fresh.iter_mut().zip(self.rules.programs()) {
            *cache = program.as_ref().map(|program| Cache::new(program, &mut self.budget));
        }
        std::mem::replace(&mut self.caches, fresh)
    }

    /// Makes room when the caches are near their bound; `visit` shows every open flow. No flow loses its place
    /// unless the places alone fill half of the bound.
    pub(crate) fn renew(&mut self, visit: impl FnOnce(&mut dyn FnMut(&mut Flow))) {
        self.renewals += 1;
        let old = self.reset();
        let half = self.budget.limit / 2;
        let (caches, budget) = (&mut self.caches, &mut self.budget);
        let mut carry = |lane: Lane, id: StateId| match (&mut caches[lane as usize], &old[lane as usize]) {
            (Some(cache), Some(old)) if budget.used < half || id == StateId::START => {
                cache.adopt(budget, old, id)
            }
            (Some(_), Some(_)) => {
                budget.lost += 1;
                StateId::DEAD
            }
            _ => id,
        };
        visit(&mut |flow| {
            for direction in &mut flow.directions {
                direction.anchored = carry(Lane::TcpAnchored, direction.anchored);
                direction.floating = carry(Lane::TcpFloating, direction.floating);
            }
        });
    }

    /// Looks at a datagram, of which `window` octets count.
    pub(crate) fn datagram(&mut self, flow: &mut Flow, at: &Context<'_>, window: usize) {
        let mut hits = Hits::NONE;
        let text = &at.payload[..at.payload.len().min(window)];
        let whole = text.len() == at.payload_len as usize;
        for lane in [Lane::UdpAnchored, Lane::UdpFloating] {
            self.search(lane, text, whole, at, &mut hits);
        }
        if self.rules.program(Lane::Dns).is_some() && is_dns(at.ports) {
            let mut name = [0; dns::MAX_NAME];
            if let Some(name) = dns::query_name(at.payload, &mut name) {
                self.name(Lane::Dns, name, at, &mut hits);
            }
        }
        if self.wants_hello()
            && let Some(name) = quic::google_name(at.payload)
        {
            self.name(Lane::Sni, name, at, &mut hits);
        }
        hits.settle(&self.rules, flow);
    }

    /// Whether any rule asks for something in a ClientHello.
    pub(crate) fn wants_hello(&self) -> bool {
        [Lane::Name, Lane::Sni, Lane::Alpn, Lane::Hello]
            .iter()
            .any(|lane| self.rules.program(*lane).is_some())
    }

    /// Looks at a ClientHello, as far as it is there.
    pub(crate) fn client_hello(&mut self, flow: &mut Flow, at: &Context<'_>, hello: &[u8], whole: bool) {
        let mut hits = Hits::NONE;
        self.hello(hello, whole, at, &mut hits);
        hits.settle(&self.rules, flow);
    }

    /// Looks at the next octets of a direction's stream. `beginning` is what the last call asked to be kept; what this
    /// one returns is to be kept for the next.
    pub(crate) fn stream(
        &mut self,
        flow: &mut Flow,
        at: &Context<'_>,
        octets: &[u8],
        window: usize,
        beginning: Option<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        let mut hits = Hits::NONE;
        let direction = &mut flow.directions[at.from as usize];
        if direction.seen == 0 {
            direction.dialect = self.dialect_of(octets, at.ports);
        }
        let left = window.saturating_sub(usize::from(direction.seen));
        let text = &octets[..octets.len().min(left)];
        direction.seen = direction.seen.saturating_add(text.len() as u16);
        let (rules, budget) = (&self.rules, &mut self.budget);
        for (lane, state) in
            [(Lane::TcpAnchored, &mut direction.anchored), (Lane::TcpFloating, &mut direction.floating)]
        {
            match (rules.program(lane), &mut self.caches[lane as usize]) {
                (Some(program), Some(cache)) => {
                    *state = program.run(cache, budget, *state, text, |rank| hits.note(rules, at, rank));
                }
                _ => *state = StateId::DEAD,
            }
        }
        let used_up = usize::from(direction.seen) >= window
            || (direction.anchored.is_dead() && direction.floating.is_dead());
        let mut kept = None;
        if direction.dialect != Dialect::Done {
            let dialect = direction.dialect;
            let more = match &beginning {
                None => self.dialect(dialect, octets, at, &mut hits),
                Some(beginning) => self.dialect(dialect, &[beginning, octets].concat(), at, &mut hits),
            };
            match more {
                true => {
                    let mut start = beginning.unwrap_or_default();
                    let room = MAX_BEGINNING.saturating_sub(start.len());
                    let octets = &octets[..octets.len().min(room)];
                    start.reserve_exact(octets.len());
                    start.extend_from_slice(octets);
                    kept = Some(start);
                }
                false => flow.directions[at.from as usize].dialect = Dialect::Done,
            }
        }
        let direction = &mut flow.directions[at.from as usize];
        direction.closed |= used_up && direction.dialect == Dialect::Done;
        hits.settle(&self.rules, flow);
        kept
    }

    /// What a stream that begins so may speak, if any rule asks for a text in it.
    fn dialect_of(&self, stream: &[u8], ports: [u16; 2]) -> Dialect {
        let wants = |lane: Lane| self.rules.program(lane).is_some();
        let tls = [22, 3].starts_with(&stream[..stream.len().min(2)]);
        // A client's first message is of kind 1, a server's of kind 2.
        if tls && self.wants_hello() && stream.get(5).is_none_or(|kind| *kind == 1) {
            Dialect::TlsClient
        } else if tls && wants(Lane::Certificates) && stream.get(5).is_none_or(|kind| *kind == 2) {
            Dialect::TlsServer
        } else if wants(Lane::Dns) && is_dns(ports) {
            Dialect::Dns
        } else if [Lane::Name, Lane::Host, Lane::Agent].into_iter().any(wants) && http::may_begin(stream) {
            Dialect::Http
        } else {
            Dialect::Done
        }
    }

    /// Looks at a stream's first octets in what they speak, and says whether more of them are wanted.
    fn dialect(&mut self, dialect: Dialect, stream: &[u8], at: &Context<'_>, hits: &mut Hits) -> bool {
        match dialect {
            Dialect::TlsClient => match tls::client_hello(stream) {
                tls::Message::Whole(hello) => {
                    self.hello(&hello, true, at, hits);
                    false
                }
                tls::Message::Partial(hello) => {
                    self.hello(&hello, false, at, hits);
                    stream.len() < MAX_BEGINNING
                }
                tls::Message::No => false,
            },
            Dialect::TlsServer => match tls::certificates(stream) {
                tls::Message::Whole(message) => {
                    self.search(Lane::Certificates, &message, true, at, hits);
                    false
                }
                tls::Message::Partial(_) => stream.len() < tls::MAX_SERVER,
                tls::Message::No => false,
            },
            Dialect::Http => {
                let head = http::texts(stream);
                if let Some(host) = head.host {
                    self.name(Lane::Host, host, at, hits);
                }
                if let Some(agent) = head.agent {
                    let agent = &agent[..agent.len().min(MAX_TEXT)];
                    self.search(Lane::Agent, agent, true, at, hits);
                }
                !head.whole && http::may_begin(stream) && stream.len() < http::MAX_HEAD
            }
            Dialect::Dns => {
                let mut name = [0; dns::MAX_NAME];
                if let Some(name) = stream.get(2..).and_then(|message| dns::query_name(message, &mut name)) {
                    self.name(Lane::Dns, name, at, hits);
                    return false;
                }
                stream.len() < 2 + 12 + dns::MAX_NAME
            }
            Dialect::Done => false,
        }
    }

    /// Looks at a ClientHello.
    fn hello(&mut self, hello: &[u8], whole: bool, at: &Context<'_>, hits: &mut Hits) {
        self.search(Lane::Hello, hello, whole, at, hits);
        let texts = tls::texts(hello);
        if let Some(name) = texts.name {
            self.name(Lane::Sni, name, at, hits);
        }
        if let (Some(mut list), true) = (texts.alpn, self.rules.program(Lane::Alpn).is_some()) {
            let mut joined = Vec::new();
            while let Some((length, rest)) = list.split_first() {
                let (protocol, rest) = rest.split_at(rest.len().min(usize::from(*length)));
                if !joined.is_empty() {
                    joined.push(b',');
                }
                joined.extend_from_slice(protocol);
                list = rest;
                if joined.len() > MAX_TEXT {
                    break;
                }
            }
            self.search(Lane::Alpn, &joined, true, at, hits);
        }
    }

    /// Looks at a name: small letters, no dot at the end.
    fn name(&mut self, lane: Lane, name: &[u8], at: &Context<'_>, hits: &mut Hits) {
        let mut small = [0; MAX_TEXT];
        let name = name.strip_suffix(b".").unwrap_or(name);
        let small = &mut small[..name.len().min(MAX_TEXT)];
        small.copy_from_slice(&name[..small.len()]);
        small.make_ascii_lowercase();
        self.search(lane, small, true, at, hits);
        if lane != Lane::Dns {
            self.search(Lane::Name, small, true, at, hits);
        }
    }

    fn search(&mut self, lane: Lane, text: &[u8], whole: bool, at: &Context<'_>, hits: &mut Hits) {
        let rules = &self.rules;
        if let (Some(program), Some(cache)) = (rules.program(lane), &mut self.caches[lane as usize]) {
            let end =
                program.run(cache, &mut self.budget, StateId::START, text, |rank| hits.note(rules, at, rank));
            if whole {
                program.end(cache, end, |rank| hits.note(rules, at, rank));
            }
        }
    }
}

fn is_dns(ports: [u16; 2]) -> bool {
    ports.iter().any(|port| matches!(port, 53 | 5353 | 5355))
}
