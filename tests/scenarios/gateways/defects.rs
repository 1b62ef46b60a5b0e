//! Defects planted around the product, to see that the simulation notices them.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
};

use hailpost::{
    io::{Conn, Input, KeyId, Output, Peer, Transport},
    node::{Event, Node},
    status::Fault,
    store::{Batch, Fetch, Fetched, Op, Store, Table},
    time::Time,
    wire::gateway::{
        Body, Encoder, Family, Kind, Message, Outcome, Reason, TRAILER_LEN, decode, seal, unseal,
    },
};

use super::{
    Gateways,
    plan::{Member, Setup},
};
use crate::sim::caught;

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Defect {
    /// The store says that a batch is durable one commit before it is.
    DurableTooEarly,
    /// A restart loses the last batch.
    LastBatchLost,
    /// A restart finds half of the last batch.
    LastBatchTorn,
    /// The back end acknowledges a report before it asks the store.
    AcknowledgedEarly,
    /// The back end takes a gateway for one of the other group.
    GroupForgotten,
    /// A gateway now and then answers what it is told, and does not take it in.
    AnsweredNotApplied,
    /// A gateway takes damaged datagrams for good.
    DamageLetIn,
    /// A gateway takes what is old for new.
    StaleLetIn,
    /// A repeated report counts again, after what was said since.
    RepeatAppliedAgain,
    /// A node's deadline is always now.
    Spins,
}

macro_rules! each_is_caught {
    ($($name:ident: $defect:ident,)+) => {
        $(#[test]
        fn $name() {
            caught(stringify!($name), 1000, &Gateways { defect: Some(Defect::$defect), on_links: false });
        })+
    };
}

each_is_caught! {
    a_store_that_is_durable_too_early_is_caught: DurableTooEarly,
    a_restart_that_loses_the_last_batch_is_caught: LastBatchLost,
    a_restart_that_tears_the_last_batch_is_caught: LastBatchTorn,
    an_early_acknowledgement_is_caught: AcknowledgedEarly,
    a_forgotten_group_is_caught: GroupForgotten,
    an_answer_without_effect_is_caught: AnsweredNotApplied,
    damage_let_in_is_caught: DamageLetIn,
    stale_datagrams_let_in_are_caught: StaleLetIn,
    a_repeated_report_that_counts_again_is_caught: RepeatAppliedAgain,
    a_busy_loop_is_caught: Spins,
}

/// The judge is no milder where gateways come in on sessions of the link.
#[test]
fn a_restart_that_loses_the_last_batch_is_caught_over_links() {
    let scenario = Gateways { defect: Some(Defect::LastBatchLost), on_links: true };
    caught("a_restart_that_loses_the_last_batch_is_caught_over_links", 1000, &scenario);
}

/// The key that the back end takes a gateway's for under [`Defect::GroupForgotten`].
pub const GHOST: KeyId = KeyId([0xee; 32]);

impl Defect {
    /// The store of a life of the back end.
    pub fn store(self, inner: Box<dyn Store>, last: &Undo) -> Box<dyn Store> {
        match self {
            Defect::DurableTooEarly => Box::new(TooEarly { inner, behind: Vec::new(), queued: Vec::new() }),
            Defect::LastBatchLost | Defect::LastBatchTorn => {
                let mut inner = inner;
                let ops = last.lock().unwrap().split_off(0);
                let keep = if self == Defect::LastBatchTorn { ops.len() / 2 } else { 0 };
                inner.submit(Batch { ticket: 0, ops: ops.into_iter().skip(keep).rev().collect() });
                inner.commit().expect("memory never fails");
                Box::new(Remembering { inner, last: last.clone() })
            }
            _ => inner,
        }
    }

    /// Wraps the back end.
    pub fn backend(self, node: Box<dyn Node>, setup: &Setup) -> Box<dyn Node> {
        let family = setup.family;
        match self {
            Defect::AcknowledgedEarly => tampered(node, AcknowledgesEarly { family }),
            Defect::GroupForgotten => {
                let victim =
                    setup.members.iter().find(|member| member.group == 0).and_then(|member| member.key);
                tampered(node, TakesForAnother { victim })
            }
            Defect::RepeatAppliedAgain => {
                tampered(node, RepeatsReports { family, tags: HashMap::new(), first: HashMap::new() })
            }
            Defect::Spins => tampered(node, NeverRests),
            _ => node,
        }
    }

    /// Wraps a gateway.
    pub fn gateway(self, node: Box<dyn Node>, setup: &Setup, member: &Member) -> Box<dyn Node> {
        let family = setup.family;
        let is_datagram = member.transport == Transport::Datagram;
        match self {
            Defect::AnsweredNotApplied if !is_datagram => tampered(node, DropsSome { family, count: 0 }),
            Defect::DamageLetIn | Defect::StaleLetIn if is_datagram => {
                let replays = self == Defect::StaleLetIn;
                tampered(node, Unsealed { family, tag: 0, epoch: None, replays, old: HashMap::new() })
            }
            _ => node,
        }
    }
}

/// What takes the last batch back.
pub type Undo = Arc<Mutex<Vec<Op>>>;

/// A store that is one commit behind what it says.
struct TooEarly {
    inner: Box<dyn Store>,
    behind: Vec<Batch>,
    queued: Vec<Batch>,
}

impl Store for TooEarly {
    fn submit(&mut self, batch: Batch) {
        self.queued.push(batch);
    }

    fn commit(&mut self) -> Result<u64, Fault> {
        let ticket = self.queued.last().map_or(0, |batch| batch.ticket);
        self.behind.drain(..).for_each(|batch| self.inner.submit(batch));
        self.inner.commit()?;
        self.behind.append(&mut self.queued);
        Ok(ticket)
    }

    fn is_dirty(&self) -> bool {
        !self.queued.is_empty()
    }

    fn ask(&mut self, fetch: Fetch) {
        self.inner.ask(fetch);
    }

    fn answer(&mut self) -> Option<Fetched> {
        self.inner.answer()
    }

    fn load(&self, table: Table, row: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Fault> {
        self.inner.load(table, row)
    }
}

/// A store that remembers how its last batch could be undone.
struct Remembering {
    inner: Box<dyn Store>,
    last: Undo,
}

impl Store for Remembering {
    fn submit(&mut self, batch: Batch) {
        let undo = batch.ops.iter().map(|op| {
            let (Op::Put { table, key, .. } | Op::Delete { table, key }) = op else {
                unreachable!("a back end removes no ranges")
            };
            let mut before = Op::Delete { table: *table, key: key.clone() };
            let load = self.inner.load(*table, &mut |known, value| {
                if known == key {
                    before = Op::Put { table: *table, key: key.clone(), value: value.to_vec() };
                }
            });
            load.expect("memory never fails");
            before
        });
        *self.last.lock().unwrap() = undo.collect();
        self.inner.submit(batch);
    }

    fn commit(&mut self) -> Result<u64, Fault> {
        self.inner.commit()
    }

    fn is_dirty(&self) -> bool {
        self.inner.is_dirty()
    }

    fn ask(&mut self, fetch: Fetch) {
        self.inner.ask(fetch);
    }

    fn answer(&mut self) -> Option<Fetched> {
        self.inner.answer()
    }

    fn load(&self, table: Table, row: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Fault> {
        self.inner.load(table, row)
    }
}

/// A node with something between it and the world.
pub struct Tampered {
    pub inner: Box<dyn Node>,
    tamper: Box<dyn Tamper>,
    extra: VecDeque<Output<Event>>,
}

trait Tamper: Send {
    fn input(
        &mut self,
        now: Time,
        input: Input<'_>,
        inner: &mut dyn Node,
        extra: &mut VecDeque<Output<Event>>,
    );

    fn output(&mut self, _output: &Output<Event>) {}

    fn deadline(&self, inner: &dyn Node) -> Option<Time> {
        inner.deadline()
    }
}

fn tampered(inner: Box<dyn Node>, tamper: impl Tamper + 'static) -> Box<dyn Node> {
    Box::new(Tampered { inner, tamper: Box::new(tamper), extra: VecDeque::new() })
}

impl Node for Tampered {
    fn handle(&mut self, now: Time, input: Input<'_>) {
        self.tamper.input(now, input, &mut *self.inner, &mut self.extra);
    }

    fn poll_output(&mut self, now: Time) -> Option<Output<Event>> {
        let output = self.extra.pop_front().or_else(|| self.inner.poll_output(now))?;
        self.tamper.output(&output);
        Some(output)
    }

    fn flush(&mut self, now: Time) -> bool {
        self.inner.flush(now)
    }

    fn deadline(&self) -> Option<Time> {
        self.tamper.deadline(&*self.inner)
    }
}

struct AcknowledgesEarly {
    family: Family,
}

impl Tamper for AcknowledgesEarly {
    fn input(
        &mut self,
        now: Time,
        input: Input<'_>,
        inner: &mut dyn Node,
        extra: &mut VecDeque<Output<Event>>,
    ) {
        if let Input::Received { conn, from: None, octets } = input
            && let Ok(message @ Message { body: Body::Result(_), .. }) = decode(self.family, octets)
        {
            let octets = answer(self.family, &message, &Body::ResultAnswer);
            extra.push_back(Output::Send { conn, to: None, octets });
        }
        inner.handle(now, input);
    }
}

struct TakesForAnother {
    victim: Option<KeyId>,
}

impl Tamper for TakesForAnother {
    fn input(&mut self, now: Time, input: Input<'_>, inner: &mut dyn Node, _: &mut VecDeque<Output<Event>>) {
        match input {
            Input::Accepted { conn, peer } if peer.key.is_some() && peer.key == self.victim => {
                inner.handle(now, Input::Accepted { conn, peer: Peer { key: Some(GHOST), ..peer } });
            }
            input => inner.handle(now, input),
        }
    }
}

/// Hands the back end the first report of a connection again after each later one, under the tag that it expects.
struct RepeatsReports {
    family: Family,
    tags: HashMap<Conn, u16>,
    first: HashMap<Conn, Vec<u8>>,
}

impl Tamper for RepeatsReports {
    fn input(&mut self, now: Time, input: Input<'_>, inner: &mut dyn Node, _: &mut VecDeque<Output<Event>>) {
        let Input::Received { conn, from: None, octets } = input else { return inner.handle(now, input) };
        let Ok(Message { body: Body::Result(_), header }) = decode(self.family, octets) else {
            return inner.handle(now, input);
        };
        let tag_at = self.family.header_len() - 2;
        let count = self.tags.entry(conn).or_default();
        let retagged = |octets: &[u8], tag: u16| {
            let mut octets = octets.to_vec();
            octets[tag_at..tag_at + 2].copy_from_slice(&tag.to_be_bytes());
            octets
        };
        // Towards the back end tags count on; a plain gateway has none.
        let mut pass = |octets: &[u8]| {
            *count += 1;
            let octets = retagged(octets, if header.tag == 0 { 0 } else { *count });
            inner.handle(now, Input::Received { conn, from: None, octets: &octets });
        };
        pass(octets);
        match self.first.get(&conn) {
            Some(first) => pass(first),
            None => drop(self.first.insert(conn, octets.to_vec())),
        }
    }
}

struct NeverRests;

impl Tamper for NeverRests {
    fn input(&mut self, now: Time, input: Input<'_>, inner: &mut dyn Node, _: &mut VecDeque<Output<Event>>) {
        inner.handle(now, input);
    }

    fn deadline(&self, _: &dyn Node) -> Option<Time> {
        Some(Time::ZERO)
    }
}

struct DropsSome {
    family: Family,
    count: u32,
}

impl Tamper for DropsSome {
    fn input(
        &mut self,
        now: Time,
        input: Input<'_>,
        inner: &mut dyn Node,
        extra: &mut VecDeque<Output<Event>>,
    ) {
        let Input::Received { conn, octets, .. } = input else { return inner.handle(now, input) };
        let Ok(message) = decode(self.family, octets) else { return inner.handle(now, input) };
        let body = match message.body {
            Body::Result(_) => Body::ResultAnswer,
            Body::RuleSync { serial, .. } => Body::RuleSyncAnswer { serial, reserved: 0 },
            _ => return inner.handle(now, input),
        };
        self.count += 1;
        if self.count.is_multiple_of(4) {
            let octets = answer(self.family, &message, &body);
            extra.push_back(Output::Send { conn, to: None, octets });
        } else {
            inner.handle(now, input);
        }
    }
}

/// Knows the association's epoch and puts right trailers where there were none.
struct Unsealed {
    family: Family,
    tag: u16,
    epoch: Option<u32>,
    replays: bool,
    /// The first of each kind that came.
    old: HashMap<Kind, Vec<u8>>,
}

impl Tamper for Unsealed {
    fn input(&mut self, now: Time, input: Input<'_>, inner: &mut dyn Node, _: &mut VecDeque<Output<Event>>) {
        let Input::Received { conn, from, octets } = input else { return inner.handle(now, input) };
        if let Ok(Message {
            body: Body::RegisterAnswer(Outcome { result: 0, reason: Reason(number) }), ..
        }) = decode(self.family, octets)
        {
            self.epoch = Some(u32::from(self.tag) << 16 | u32::from(number));
            self.old.clear();
            return inner.handle(now, input);
        }
        let Some(epoch) = self.epoch else { return inner.handle(now, input) };
        let message = unseal(epoch, octets);
        if !self.replays {
            let cut = octets.len().saturating_sub(TRAILER_LEN);
            let mut octets = message.unwrap_or(&octets[..cut]).to_vec();
            seal(epoch, &mut octets);
            return inner.handle(now, Input::Received { conn, from, octets: &octets });
        }
        inner.handle(now, input);
        let Some(message) = message else { return };
        let Ok(Message { header, body }) = decode(self.family, message) else { return };
        let (kind, is_answer) = body.kind();
        if is_answer || !matches!(kind, Kind::Result | Kind::RuleSync) {
            return;
        }
        let old = self.old.entry(kind).or_insert_with(|| message.to_vec());
        let tag_at = self.family.header_len() - 2;
        let mut octets = old.clone();
        octets[tag_at..tag_at + 2].copy_from_slice(&(header.tag + 1).to_be_bytes());
        seal(epoch, &mut octets);
        inner.handle(now, Input::Received { conn, from, octets: &octets });
    }

    fn output(&mut self, output: &Output<Event>) {
        if let Output::Send { octets, .. } = output
            && let Ok(Message { header, body: Body::Register }) = decode(self.family, octets)
        {
            self.tag = header.tag;
            self.epoch = None;
        }
    }
}

fn answer(family: Family, message: &Message<'_>, body: &Body<'_>) -> Vec<u8> {
    let encoder = Encoder { family, source: message.header.destination, destination: message.header.source };
    encoder.message(message.header.tag, body)
}
