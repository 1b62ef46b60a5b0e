//! How a device that has a balancer finds its broker: it asks once, goes back there directly, and asks again when that one does
//! not answer, refuses or drains.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use super::{BROKER, DeviceNode, Target, row_key};
use crate::{
    io::{Conn, Input, Output},
    link::{Asker, AskerCounters, AskerEvent, AskerOutput, Backoff, ClientOutput},
    node::{Event, EventKind, Field},
    rng::Entropy,
    status::{Fault, Status},
    store::Op,
    time::Time,
    wire::{
        balance::{MAX_SEEN, Question, RttClass, Seen, address, read_address},
        link::Refusal,
    },
};

/// How long a device stays at a broker that drains before it asks again for another, half of it by chance.
const AGAIN: Duration = Duration::from_secs(60);
/// Octets of a broker as it is kept.
pub(super) const KEPT: usize = 18 + 32;

/// Where a device logs in, by the word of a balancer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Broker {
    pub address: SocketAddr,
    pub key: [u8; 32],
}

impl Broker {
    pub fn keep(&self) -> Vec<u8> {
        [&address(self.address)[..], &self.key].concat()
    }

    /// Reads what [`Broker::keep`] wrote.
    pub fn recall(octets: &[u8]) -> Option<Broker> {
        let octets: &[u8; KEPT] = octets.try_into().ok()?;
        let (at, key) = octets.split_at(18);
        let at: [u8; 18] = at.try_into().expect("it was cut there");
        Some(Broker { address: read_address(at), key: key.try_into().expect("the rest of it") })
    }
}

/// What finding a broker needs.
pub(super) struct Finder {
    asker: Asker,
    rng: Box<dyn Entropy + Send>,
    /// The first ways are those to balancers: how many they are, and which is next.
    pub ways: usize,
    way: usize,
    pub broker: Option<Broker>,
    /// What is known of brokers, the latest first.
    seen: VecDeque<Seen>,
    /// The connection to the balancer, and whether it is there.
    conn: Option<(Conn, bool)>,
    unsent: Option<Vec<u8>>,
    /// Brokers left since one let this device in; the first of them is left without a pause.
    left: Option<Backoff>,
    /// Another broker would say the same: the credential is not known, or in use elsewhere.
    pub stays: bool,
}

impl Finder {
    pub fn new(
        key: [u8; 32],
        ways: usize,
        broker: Option<Broker>,
        rng: impl Entropy + Clone + Send + 'static,
    ) -> Finder {
        Finder {
            asker: Asker::new(key, rng.clone()),
            rng: Box::new(rng),
            ways: ways.max(1),
            way: 0,
            broker,
            seen: VecDeque::new(),
            conn: None,
            unsent: None,
            left: None,
            stays: false,
        }
    }

    pub const fn deadline(&self) -> Option<Time> {
        self.asker.deadline()
    }

    pub const fn counters(&self) -> &AskerCounters {
        self.asker.counters()
    }

    fn question(&self) -> Question {
        Question { features: 0, seen: self.seen.iter().copied().collect() }
    }

    /// Notes how the present broker is.
    fn note(&mut self, class: Option<RttClass>, failed: bool) {
        let Some(broker) = self.broker else { return };
        let before = self.seen.iter().position(|seen| seen.address == broker.address);
        let before = before.and_then(|at| self.seen.remove(at));
        let class = class.or(before.map(|seen| seen.class)).unwrap_or_default();
        self.seen.push_front(Seen { address: broker.address, class, failed });
        self.seen.truncate(MAX_SEEN);
    }
}

impl DeviceNode {
    /// What was counted of asking a balancer; nothing where there is none.
    pub fn balancer_counters(&self) -> AskerCounters {
        self.finder.as_ref().map(|finder| *finder.counters()).unwrap_or_default()
    }

    /// The broker that the device logs in at, where a balancer gave one.
    pub fn broker(&self) -> Option<SocketAddr> {
        Some(self.finder.as_ref()?.broker?.address)
    }

    /// Where datagrams of the link go.
    pub(super) fn target(&self) -> Target {
        match &self.finder {
            Some(Finder { ways, broker: Some(broker), .. }) if self.way < *ways => {
                Target::Broker(broker.address)
            }
            _ => Target::Way(self.way),
        }
    }

    /// Whether a balancer says where the device logs in.
    pub(super) fn is_sent(&self) -> bool {
        self.finder.as_ref().is_some_and(|finder| self.way < finder.ways)
    }

    /// Asks the balancer for the first time, or goes where it sent the device before.
    pub(super) fn begin(&mut self, now: Time) {
        match &mut self.finder {
            Some(finder) if finder.broker.is_none() => finder.asker.ask(now, Question::default()),
            _ => self.client.open(now),
        }
    }

    /// The device is logged in, after an answer that took so long.
    pub(super) fn found(&mut self, class: RttClass) {
        let is_sent = self.is_sent();
        let Some(finder) = &mut self.finder else { return };
        finder.asker.stop();
        (finder.left, finder.stays) = (None, false);
        if is_sent {
            // What failed before this may be well again.
            finder.seen.iter_mut().for_each(|seen| seen.failed = false);
            finder.note(Some(class), false);
        }
        self.leave_balancer();
    }

    /// The broker says that it drains: another is asked for while it is still there.
    pub(super) fn ask_beside(&mut self, now: Time) {
        if !self.is_sent() {
            return;
        }
        let Some(finder) = &mut self.finder else { return };
        finder.note(None, true);
        let question = finder.question();
        finder.asker.ask(now, question);
    }

    /// The broker did not answer, or wants this device not.
    pub(super) fn fail_over(&mut self, now: Time) {
        self.retire(now);
        if let Some(finder) = &mut self.finder {
            finder.note(None, true);
        }
        self.ask_again(now);
    }

    /// Asks for another broker, at once the first time and later and later when none lets the device in.
    fn ask_again(&mut self, now: Time) {
        let Some(finder) = &mut self.finder else { return };
        let question = finder.question();
        match &mut finder.left {
            None => {
                finder.left = Some(Backoff::default());
                finder.asker.ask(now, question);
            }
            Some(left) => {
                let pause = left.next(&mut *finder.rng);
                finder.asker.ask_later(now + pause, question);
            }
        }
    }

    /// Leaves the way in use for another.
    pub(super) fn take_way(&mut self, now: Time, way: usize) {
        (self.way, self.unanswered) = (way, 1);
        let Some(ways) = self.finder.as_ref().map(|finder| finder.ways) else { return self.hang_up() };
        self.retire(now);
        self.unanswered = 0;
        if way >= ways {
            if let Some(finder) = &mut self.finder {
                finder.asker.stop();
            }
            self.leave_balancer();
            return self.client.move_to(now, self.office_key);
        }
        self.ask_again(now);
    }

    /// Ends a session or a login, with what it still has to say.
    fn retire(&mut self, now: Time) {
        let was_up = self.client.is_up();
        self.client.close(now);
        while let Some(output) = self.client.poll_output(now) {
            match output {
                ClientOutput::Send(octets) if was_up => {
                    let output = self.send_on(octets);
                    self.outputs.extend(output);
                }
                ClientOutput::Send(_) | ClientOutput::SendBeside(_) => {}
                ClientOutput::Event(event) => {
                    let event = self.linked(now, event);
                    self.events.extend(event);
                }
            }
        }
        if was_up {
            self.device.down();
            self.drop_held();
        }
        self.hang_up();
        self.unanswered = 0;
    }

    /// The next thing that asking wants done.
    pub(super) fn poll_finder(&mut self, now: Time) -> bool {
        let Some(output) = self.finder.as_mut().and_then(|finder| finder.asker.poll_output()) else {
            return false;
        };
        match output {
            AskerOutput::Send(octets) => self.send_ask(octets),
            AskerOutput::Event(event) => self.asked(now, event),
        }
        true
    }

    fn send_ask(&mut self, octets: Vec<u8>) {
        let conn = self.finder.as_ref().and_then(|finder| finder.conn);
        let new = conn.is_none().then(|| self.new_conn());
        let Some(finder) = &mut self.finder else { return };
        match (conn, new) {
            (Some((conn, true)), _) => self.outputs.push_back(Output::Send { conn, to: None, octets }),
            (Some((_, false)), _) | (None, None) => finder.unsent = Some(octets),
            (None, Some(conn)) => {
                finder.conn = Some((conn, false));
                finder.unsent = Some(octets);
                self.outputs.push_back(Output::Connect { conn, way: finder.way });
            }
        }
    }

    /// An input about the connection to the balancer; answers whether it was one.
    pub(super) fn of_balancer(&mut self, now: Time, input: &Input<'_>) -> bool {
        let Some(finder) = &mut self.finder else { return false };
        let Some((ours, is_there)) = &mut finder.conn else { return false };
        match input {
            Input::Connected { conn, .. } if conn == ours => {
                *is_there = true;
                let conn = *conn;
                let unsent = finder.unsent.take();
                self.outputs.extend(unsent.map(|octets| Output::Send { conn, to: None, octets }));
            }
            Input::Received { conn, octets, .. } if conn == ours => finder.asker.handle(now, octets),
            Input::Closed { conn, .. } if conn == ours => (finder.conn, finder.unsent) = (None, None),
            _ => return false,
        }
        true
    }

    pub(super) fn finder_due(&mut self, now: Time) {
        if let Some(finder) = &mut self.finder {
            finder.asker.deadline_passed(now);
        }
    }

    pub(super) fn finder_network_changed(&mut self, now: Time) {
        self.leave_balancer();
        if let Some(finder) = &mut self.finder {
            finder.left = None;
            finder.asker.network_changed(now);
        }
    }

    /// Asks no more.
    pub(super) fn stop_asking(&mut self) {
        if let Some(finder) = &mut self.finder {
            finder.asker.stop();
        }
        self.leave_balancer();
    }

    fn leave_balancer(&mut self) {
        if let Some(finder) = &mut self.finder {
            finder.unsent = None;
            let conn = finder.conn.take();
            self.outputs.extend(conn.map(|(conn, _)| Output::Close { conn }));
        }
    }

    fn asked(&mut self, now: Time, event: AskerEvent) {
        let is_up = self.client.is_up();
        match event {
            AskerEvent::Given { address, key } => {
                self.leave_balancer();
                let broker = Broker { address, key };
                let Some(finder) = &mut self.finder else { return };
                let is_same = finder.broker.replace(broker) == Some(broker);
                if !is_same {
                    let key = row_key(BROKER, &self.enrolment);
                    self.device.also_store(vec![Op::Put { table: super::LINK, key, value: broker.keep() }]);
                }
                if is_up && is_same {
                    // The balancer has no better yet, or has not heard that this one drains.
                    let half = AGAIN.as_micros() as u32 / 2;
                    let pause = u64::from(half) + u64::from(finder.rng.below(half + 1));
                    let question = finder.question();
                    finder.asker.ask_later(now + Duration::from_micros(pause), question);
                    return;
                }
                if is_up {
                    let fault = Fault::new(Status::Closed, "the broker drains: logging in at another");
                    self.events.push_back(Event::new(EventKind::Down).with_fault(fault));
                }
                self.retire(now);
                self.client.move_to(now, key);
            }
            AskerEvent::Refused(refusal) => {
                let text = match refusal {
                    Refusal::OtherKey => "the balancer has another key than this device was given",
                    Refusal::Version => "the balancer speaks another version",
                    _ => "the balancer says no",
                };
                let event = Event::new(EventKind::Refused).with_u64(Field::Reason, refusal.number().into());
                self.events.push_back(event.with_text(Field::Text, text));
            }
            AskerEvent::None(pause) => self.unfound(now, "no broker is there", pause.as_secs()),
            AskerEvent::Waiting(pause) => {
                if let Some(finder) = &mut self.finder {
                    finder.way = (finder.way + 1) % finder.ways;
                }
                self.unfound(now, "the balancer does not answer", pause.as_secs());
            }
        }
    }

    /// There is no broker for now: perhaps an office can be reached without one.
    fn unfound(&mut self, now: Time, what: &str, pause: u64) {
        self.leave_balancer();
        if self.client.is_up() {
            return;
        }
        let detail = format!("{what}: asked again in {} s", pause.max(1));
        self.events.push_back(Event::new(EventKind::Down).with_fault(Fault::new(Status::Timeout, detail)));
        if let Some(ways) = self.finder.as_ref().map(|finder| finder.ways)
            && ways < self.ways
        {
            self.take_way(now, ways);
        }
    }
}
