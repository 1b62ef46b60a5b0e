//! The recogniser: frames in, verdicts out.

use std::{collections::VecDeque, fmt, net::IpAddr, sync::Arc, time::Duration};

use super::{
    AppId,
    condition::{Side, Transport},
    features::FlowFeatures,
    flow::{Flow, FlowTable, Given, Key, NO_RULE, Phase},
    fragments::{Assembled, Fragments},
    hints::{self, Hints},
    inspect::Inspector,
    look::Look,
    pool::Pool,
    ruleset::RuleSet,
    verdict::{How, Stage, Verdict},
};
use crate::{
    counters::counters,
    time::Time,
    wire::packet::{LinkType, Packet, PacketError, Segment},
};

/// How a recogniser behaves, and its bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Open flows; past it the one silent longest is ended.
    pub max_flows: usize,
    /// A UDP flow silent for so long is ended.
    pub idle: Duration,
    /// A TCP connection silent for so long is ended; one that was closed, after 5 s.
    pub idle_tcp: Duration,
    /// Octets of each direction of a TCP stream that are looked at.
    pub tcp_window: u16,
    /// Octets of a datagram that are looked at.
    pub udp_window: u16,
    /// Payload packets of a flow that are looked at; its verdict is settled after them.
    pub max_packets: u8,
    /// Verdicts that may wait to be polled; past it new ones are dropped and counted.
    pub max_verdicts: usize,
    /// Octets of all flows together that may wait for what comes before or after them. 128 octets a flow and 32 KiB is
    /// the bound while that is less.
    pub pool: usize,
    /// Hints that are kept.
    pub max_hints: usize,
    /// Also give out verdicts of [`Stage::Profiled`].
    pub profile: bool,
    /// Makes the flow table's order unpredictable to who chooses addresses and ports. Random, one a process.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            max_flows: 65_536,
            idle: Duration::from_secs(180),
            idle_tcp: Duration::from_secs(3600),
            tcp_window: 4096,
            udp_window: 1500,
            max_packets: 20,
            max_verdicts: 1024,
            pool: 1 << 20,
            max_hints: 60_000,
            profile: false,
            seed: 0,
        }
    }
}

/// Judges flows that no rule and no hint has claimed.
pub trait FlowModel: fmt::Debug + Send {
    /// The application, or `None` when no one is likely enough. Called once a flow, when its features are complete or
    /// it ends.
    fn judge(&self, features: &FlowFeatures) -> Option<AppId>;
}

counters! {
    /// What happened so far; each bound has a number here.
    pub struct Counters {
        frames: "frames fed",
        not_ip: "frames that are not IP",
        malformed: "frames that are cut or malformed",
        other_protocol: "packets of protocols other than TCP and UDP",
        fragments: "fragments of IP packets",
        fragments_incomplete: "packets not put together: fragments missing too long, or too many others waiting",
        fragments_bad: "packets dropped because their fragments overlap or are too many",
        pool_dropped: "segments and beginnings of streams that waited and were dropped for want of room",
        flows: "flows begun",
        evicted: "flows ended early because max_flows was reached",
        verdicts_dropped: "verdicts dropped because max_verdicts was reached",
        hints_refused: "hints refused because max_hints was reached",
        automaton_lost: "automaton runs that ended early because of a bound",
        automaton_renewed: "times the automata were renewed because they had grown to their bound",
    }
}

/// Octets of memory by what they are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// The flow table, with what is free in it.
    pub flows: usize,
    /// Octets that wait for what comes before or after them.
    pub pool: usize,
    /// Automaton states made so far.
    pub automaton: usize,
    /// The compiled rules, which other recognisers may share.
    pub rules: usize,
    /// Hints and verdicts that wait.
    pub other: usize,
}

/// Tells the flows in a sequence of frames apart and names their applications.
///
/// After each [`Recognizer::feed`], poll the verdicts until there is none.
#[derive(Debug)]
pub struct Recognizer {
    config: Config,
    table: FlowTable,
    inspector: Inspector,
    pool: Pool,
    fragments: Fragments,
    hints: Hints,
    model: Option<Box<dyn FlowModel>>,
    verdicts: VecDeque<Verdict>,
    counters: Counters,
    now: Time,
    finishing: bool,
    /// Silent flows are left that found no room for their verdicts.
    expiring: bool,
}

impl Recognizer {
    /// A recogniser without flows.
    pub fn new(rules: Arc<RuleSet>, config: Config) -> Recognizer {
        Recognizer {
            table: FlowTable::new(config.seed),
            inspector: Inspector::new(rules),
            pool: Pool::default(),
            fragments: Fragments::default(),
            hints: Hints::default(),
            model: None,
            verdicts: VecDeque::new(),
            counters: Counters::default(),
            now: Time::ZERO,
            finishing: false,
            expiring: false,
            config,
        }
    }

    /// Matches by `rules` from now on. What flows were found to be stays; a TCP stream that has begun is matched by the
    /// new patterns that need not start at its start.
    pub fn set_rules(&mut self, rules: Arc<RuleSet>) {
        let old = std::mem::replace(&mut self.inspector, Inspector::new(rules));
        self.inspector.budget.lost = old.budget.lost;
        self.inspector.renewals = old.renewals;
        self.table.for_each(|flow| {
            if flow.best != NO_RULE {
                flow.ruled = Some(old.rules.rule(flow.best).app);
            }
            flow.restart();
        });
    }

    /// Judges flows by `model` from now on, or by none.
    pub fn set_model(&mut self, model: Option<Box<dyn FlowModel>>) {
        self.model = model;
    }

    /// Remembers that `remote` was recognised elsewhere. Used for flows that begin later, below any rule.
    pub fn set_hint(&mut self, remote: IpAddr, port: u16, transport: Transport, app: AppId, expires: Time) {
        let remote = hints::remote(remote, port, transport);
        self.hints.set(self.now, self.config.max_hints, remote, app, expires);
    }

    /// Forgets a hint and says whether there was one. Flows that have begun keep it.
    pub fn remove_hint(&mut self, remote: IpAddr, port: u16, transport: Transport) -> bool {
        self.hints.remove(hints::remote(remote, port, transport))
    }

    /// Takes in a captured frame.
    ///
    /// # Errors
    /// [`PacketError`] when it is not an IP packet or cannot be taken apart; it is counted and otherwise ignored.
    pub fn feed(&mut self, now: Time, link_type: LinkType, frame: &[u8]) -> Result<(), PacketError> {
        self.now = now;
        self.counters.frames += 1;
        self.end_idle(2);
        while let Some(packet) = self.fragments.expired(now) {
            self.assembled(&packet);
        }
        let packet = Packet::parse(link_type, frame).inspect_err(|error| self.count(error))?;
        let Some(fragment) = packet.fragment else {
            return self.packet(
                (packet.source, packet.destination, packet.protocol),
                (packet.ip_len, 1),
                packet.payload,
                packet.payload_len,
            );
        };
        self.counters.fragments += 1;
        if let Some(packet) = self.fragments.add(now, &packet, fragment) {
            self.assembled(&packet);
        }
        while let Some(packet) = self.fragments.crowded() {
            self.assembled(&packet);
        }
        Ok(())
    }

    /// The next verdict that waits. After [`Recognizer::finish`] every open flow gives its last one.
    pub fn poll_verdict(&mut self) -> Option<Verdict> {
        if self.verdicts.is_empty() && self.finishing {
            while let Some(packet) = self.fragments.give_up() {
                self.assembled(&packet);
            }
            match self.table.oldest() {
                Some(at) => self.end(at),
                None => self.finishing = false,
            }
        }
        if self.verdicts.is_empty() && std::mem::take(&mut self.expiring) {
            self.end_idle(usize::MAX);
        }
        self.verdicts.pop_front()
    }

    /// Ends every flow silent for too long at `now`: at once those whose verdicts find room, the others as these are polled.
    /// Feeding does so for a few at a time.
    pub fn expire(&mut self, now: Time) {
        self.now = self.now.max(now);
        while let Some(packet) = self.fragments.expired(self.now) {
            self.assembled(&packet);
        }
        self.end_idle(usize::MAX);
    }

    /// When [`Recognizer::expire`] will have something to do, if no frame comes before.
    pub fn deadline(&self) -> Option<Time> {
        let flows = [true, false].into_iter().filter_map(|tcp| self.table.oldest_of(tcp));
        let flows = flows.map(|at| self.table.flow(at).last + self.patience(self.table.flow(at)));
        flows.chain(self.fragments.deadline()).min()
    }

    /// Says that no more frames come: what is open is ended as verdicts are polled.
    pub fn finish(&mut self) {
        self.finishing = true;
    }

    /// Open flows.
    pub fn open_flows(&self) -> usize {
        self.table.len()
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        Counters {
            automaton_lost: self.inspector.budget.lost,
            automaton_renewed: self.inspector.renewals,
            pool_dropped: self.pool.dropped,
            hints_refused: self.hints.refused,
            fragments_incomplete: self.fragments.incomplete,
            fragments_bad: self.fragments.bad,
            ..self.counters
        }
    }

    /// Octets of memory in use.
    pub fn memory(&self) -> Memory {
        Memory {
            flows: self.table.memory(),
            pool: self.pool.memory() + self.fragments.memory(),
            automaton: self.inspector.budget.used,
            rules: self.inspector.rules.memory(),
            other: self.hints.memory() + self.verdicts.capacity() * size_of::<Verdict>(),
        }
    }

    fn assembled(&mut self, packet: &Assembled) {
        // What cannot be taken apart is counted; the frame that completed it is not to blame.
        let _ = self.packet(
            (packet.source, packet.destination, packet.protocol),
            (packet.ip_len, packet.fragments),
            &packet.payload,
            packet.payload_len,
        );
    }

    fn packet(
        &mut self,
        (source, destination, protocol): (IpAddr, IpAddr, u8),
        counts: (u32, u32),
        payload: &[u8],
        payload_len: u32,
    ) -> Result<(), PacketError> {
        match Segment::parse(protocol, payload, payload_len) {
            Ok(Some(segment)) => {
                let ends = [(source, segment.source), (destination, segment.destination)];
                self.segment(ends, counts, &segment);
                Ok(())
            }
            Ok(None) => {
                self.counters.other_protocol += 1;
                Ok(())
            }
            Err(error) => {
                self.count(&error);
                Err(error)
            }
        }
    }

    fn count(&mut self, error: &PacketError) {
        match error {
            PacketError::NotIp(_) => self.counters.not_ip += 1,
            _ => self.counters.malformed += 1,
        }
    }

    fn segment(
        &mut self,
        [source, destination]: [(IpAddr, u16); 2],
        (octets, packets): (u32, u32),
        segment: &Segment<'_>,
    ) {
        let key = Key::new(segment.tcp.is_some(), source, destination);
        let (at, side) = self.flow_of(key, segment);
        let now = self.now;
        let flow = self.table.flow_mut(at);
        flow.packets = flow.packets.saturating_add(packets);
        flow.octets += u64::from(octets);
        if flow.closed
            && segment.payload_len > 0
            && flow.directions.iter().any(|direction| !direction.finished)
        {
            // The reset was not meant, or not from an end.
            flow.closed = false;
        }
        if !flow.closed {
            self.table.touch(at, now);
        }
        let flow = self.table.flow_mut(at);
        if segment.payload_len > 0 {
            flow.payloads = flow.payloads.saturating_add(1);
            flow.features.add(now, side == Side::Responder, segment.payload_len, segment.payload);
        }
        if flow.phase == Phase::Looking {
            if self.inspector.budget.is_low() {
                self.inspector.renew(|visit| self.table.for_each(visit));
            }
            let pool_limit = self.config.pool.min(POOL_BASE + POOL_SHARE * self.table.len());
            let mut look = Look {
                inspector: &mut self.inspector,
                pool: &mut self.pool,
                pool_limit,
                config: &self.config,
            };
            look.at(self.table.flow_mut(at), at, side, segment);
        }
        self.advance(at, false);
        if let Some(tcp) = segment.tcp {
            let flow = self.table.flow_mut(at);
            flow.directions[side as usize].finished |= tcp.fin;
            if !flow.closed && (tcp.rst || flow.directions.iter().all(|direction| direction.finished)) {
                flow.closed = true;
                self.table.retire(at);
            }
        }
    }

    /// The flow a packet belongs to, begun when it is new.
    fn flow_of(&mut self, key: Key, segment: &Segment<'_>) -> (u32, Side) {
        if let Some((at, side)) = self.table.find(&key) {
            // The ports of a closed connection are used again.
            let again = segment.tcp.is_some_and(|tcp| tcp.syn && !tcp.ack) && self.table.flow(at).closed;
            if !again {
                return (at, side);
            }
            self.end(at);
        }
        if self.table.len() >= self.config.max_flows.max(1)
            && let Some(oldest) = self.table.oldest()
        {
            self.counters.evicted += 1;
            self.end(oldest);
        }
        self.counters.flows += 1;
        // A SYN+ACK answers a SYN that was not seen.
        let answer = segment.tcp.is_some_and(|tcp| tcp.syn && tcp.ack);
        let (key, side) = if answer { (key.turned(), Side::Responder) } else { (key, Side::Initiator) };
        let at = self.table.insert(key, self.now);
        if let Some(app) = self.hints.of(self.now, &key) {
            let flow = self.table.flow_mut(at);
            flow.shared = Some(app);
            flow.given = Given::Shared;
            self.give(at, Stage::Early);
        }
        (at, side)
    }

    /// Settles a flow when there is nothing more to wait for, and tells what is new.
    fn advance(&mut self, at: u32, ending: bool) {
        let flow = self.table.flow_mut(at);
        if flow.phase == Phase::Settled && (flow.profiled || !self.config.profile) {
            return;
        }
        let rules = &self.inspector.rules;
        if flow.phase == Phase::Looking {
            let sure = flow.best != NO_RULE && rules.rule(flow.best).is_sure();
            let seen = flow.payloads >= self.config.max_packets
                || (flow.key.tcp && flow.directions.iter().all(|direction| direction.closed));
            if sure || seen || ending {
                flow.phase = Phase::Waiting;
            } else if flow.best != NO_RULE && flow.given != Given::Rule(flow.best) {
                flow.given = Given::Rule(flow.best);
                self.give(at, Stage::Early);
            }
        }
        let flow = self.table.flow_mut(at);
        if flow.phase == Phase::Waiting {
            let known = flow.best != NO_RULE || flow.ruled.is_some() || flow.shared.is_some();
            match &self.model {
                Some(model) if !known => {
                    if flow.features.is_complete() || ending {
                        flow.model = model.judge(&flow.features);
                        flow.phase = Phase::Settled;
                    }
                }
                _ => flow.phase = Phase::Settled,
            }
            if flow.phase == Phase::Settled && !ending {
                self.give(at, Stage::Settled);
            }
        }
        let flow = self.table.flow_mut(at);
        if flow.pooled && flow.phase != Phase::Looking {
            flow.pooled = false;
            self.pool.forget(at);
        }
        let flow = self.table.flow_mut(at);
        if self.config.profile
            && !flow.profiled
            && flow.phase == Phase::Settled
            && flow.features.is_complete()
            && !ending
        {
            flow.profiled = true;
            self.give(at, Stage::Profiled);
        }
    }

    fn end(&mut self, at: u32) {
        self.advance(at, true);
        self.give(at, Stage::Ended);
        self.table.remove(at);
    }

    fn end_idle(&mut self, most: usize) {
        for tcp in [true, false] {
            for _ in 0..most {
                let Some(at) = self.table.oldest_of(tcp) else {
                    break;
                };
                let flow = self.table.flow(at);
                if self.now.since(flow.last) < self.patience(flow) {
                    break;
                }
                if self.verdicts.len() >= self.config.max_verdicts.max(1) {
                    self.expiring = true;
                    return;
                }
                self.end(at);
            }
        }
    }

    fn patience(&self, flow: &Flow) -> Duration {
        match (flow.key.tcp, flow.closed) {
            (true, true) => LINGER.min(self.config.idle_tcp),
            (true, false) => self.config.idle_tcp,
            (false, _) => self.config.idle,
        }
    }

    fn give(&mut self, at: u32, stage: Stage) {
        if self.verdicts.len() >= self.config.max_verdicts.max(1) {
            self.counters.verdicts_dropped += 1;
            return;
        }
        let flow = self.table.flow(at);
        let rules = &self.inspector.rules;
        let (app, how, rule) = match (flow.ruled, flow.shared, flow.model) {
            _ if flow.best != NO_RULE => {
                let rule = rules.rule(flow.best);
                (Some(rule.app), How::Rule, Some(rule.index))
            }
            (Some(app), _, _) => (Some(app), How::Rule, None),
            (None, Some(app), _) => (Some(app), How::Shared, None),
            (None, None, Some(app)) => (Some(app), How::Model, None),
            (None, None, None) => (None, How::None, None),
        };
        let is_news = app.is_some() && app != flow.told;
        self.verdicts.push_back(Verdict {
            flow: flow.key.five_tuple(),
            app,
            how,
            rule,
            stage,
            is_news,
            packets: flow.packets,
            octets: flow.octets,
            first: flow.first,
            last: flow.last,
            features: flow.features,
        });
        if is_news {
            self.table.flow_mut(at).told = app;
        }
    }
}

/// What the pool may hold however few flows are open, in octets, and what each open flow adds to it.
const POOL_BASE: usize = 32 << 10;
const POOL_SHARE: usize = 128;

/// How long a closed connection is remembered, so that its last packets do not begin a new flow.
const LINGER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recognize::{Limits, Rule, view::quic::tests as quic};

    const QUIC: AppId = AppId(1);
    const VIDEO: AppId = AppId(2);
    const H3: AppId = AppId(3);

    fn recognizer() -> Recognizer {
        let rules = [
            (QUIC, r"(?#udp prio=2)^[\xc0-\xff]\x00\x00\x00\x01"),
            (VIDEO, r"(?#name)(^|\.)video\.example$"),
            (H3, r"(?#udp alpn prio=3)^h3$"),
        ];
        let rules = rules.map(|(app, text)| Rule { app, text: text.to_owned() });
        let set = RuleSet::compile(&rules, Limits::default()).expect("the rules are good");
        Recognizer::new(Arc::new(set), Config::default())
    }

    fn feed(recognizer: &mut Recognizer, payload: &[u8]) {
        let mut frame = vec![0x45, 0];
        frame.extend((28 + payload.len() as u16).to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 200, 1, 1, 187]);
        frame.extend((8 + payload.len() as u16).to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(payload);
        recognizer.feed(Time::ZERO, LinkType::RAW, &frame).expect("a good frame");
    }

    fn last(recognizer: &mut Recognizer) -> Option<(Option<AppId>, Stage)> {
        std::iter::from_fn(|| recognizer.poll_verdict()).last().map(|verdict| (verdict.app, verdict.stage))
    }

    /// A ClientHello with ALPN h3 and the name last, behind `padding` octets.
    fn hello(name: &str, padding: u16) -> Vec<u8> {
        let mut extensions = vec![0, 16, 0, 5, 0, 3, 2, b'h', b'3', 0, 21];
        extensions.extend(padding.to_be_bytes());
        extensions.extend(vec![0; usize::from(padding)]);
        let length = name.len() as u8;
        extensions.extend([0, 0, 0, length + 5, 0, length + 3, 0, 0, length]);
        extensions.extend(name.as_bytes());
        let mut body = [&[3, 3][..], &[9; 32], &[0, 0, 2, 0x13, 1, 1, 0]].concat();
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        let length = (body.len() as u16).to_be_bytes();
        [&[1, 0, length[0], length[1]][..], &body].concat()
    }

    #[test]
    fn the_name_in_quic_is_found_over_datagrams_in_any_order() {
        let hello = hello("a.video.example", 1500);
        let pieces = [(1000, &hello[1000..]), (0, &hello[..400]), (400, &hello[400..1000])];
        let datagrams: Vec<Vec<u8>> = (0..)
            .zip(pieces)
            .map(|(number, (offset, data))| quic::seal(1, b"client-id", number, &quic::crypto(offset, data)))
            .collect();
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let mut recognizer = recognizer();
            feed(&mut recognizer, &datagrams[order[0]]);
            assert_eq!(last(&mut recognizer).map(|(_, stage)| stage), Some(Stage::Early));
            feed(&mut recognizer, &datagrams[order[1]]);
            feed(&mut recognizer, &datagrams[order[2]]);
            assert_eq!(last(&mut recognizer), Some((Some(VIDEO), Stage::Settled)));
            assert_eq!(
                recognizer.pool.memory() - recognizer.pool.memory() % 1024,
                0,
                "nothing waits any more"
            );
        }
    }

    #[test]
    fn other_names_in_quic_stay_what_the_weaker_rules_say() {
        let mut recognizer = recognizer();
        feed(&mut recognizer, &quic::seal(1, b"id", 0, &quic::crypto(0, &hello("other.example", 10))));
        assert_eq!(last(&mut recognizer), Some((Some(H3), Stage::Early)));
        recognizer.finish();
        assert_eq!(last(&mut recognizer), Some((Some(H3), Stage::Ended)));
    }

    #[test]
    fn packets_are_opened_a_bounded_number_of_times() {
        let mut recognizer = recognizer();
        let mut damaged = quic::seal(1, b"id", 0, &quic::crypto(0, &hello("a.video.example", 10)));
        damaged[700] ^= 1;
        for _ in 0..3 {
            feed(&mut recognizer, &damaged);
        }
        feed(&mut recognizer, &quic::seal(1, b"id", 0, &quic::crypto(0, &hello("a.video.example", 10))));
        assert_eq!(last(&mut recognizer), Some((Some(QUIC), Stage::Early)));
    }
}
