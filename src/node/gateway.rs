//! A gateway: the protocol's end, and what recognises flows.

use std::{collections::VecDeque, time::Duration};

use super::{
    CaptureClock, Event, EventKind, Field, MAX_WAITING, Node,
    hail::{Dialled, Said, Unknown},
    recognition::{Finding, Recognition},
    too_many_wait,
};
use crate::{
    gateway::{Gateway, GatewayEvent},
    io::{Input, Output, Service},
    link::{ClientConfig, ClientCounters},
    recognize::{How, Stage, Verdict},
    rng::Entropy,
    status::{Fault, Status},
    time::Time,
    wire::{gateway::Record, packet::LinkType},
};

/// Rules come a message at a time, and are compiled all together: so long after the first of them, unless a sync ends
/// before.
const RULES_PAUSE: Duration = Duration::from_millis(100);

/// A gateway.
pub struct GatewayNode {
    gateway: Gateway,
    /// Where its connection is a session of the link.
    session: Option<Dialled>,
    recognition: Option<Recognition>,
    captured: CaptureClock,
    events: VecDeque<Event>,
    /// Records that came together are told one by one, as there is room for events.
    records: std::vec::IntoIter<Record>,
    /// It was told that reports are refused; not told again before there was room.
    is_full: bool,
    /// At the latest when the first flow will have been silent too long, by the capture's clock.
    sweep: Option<Time>,
    /// When rules that came are put in force.
    rules_due: Option<Time>,
}

impl GatewayNode {
    /// A gateway around its end of the protocol, which recognises flows or has them recognised by its vendor.
    pub fn new(gateway: Gateway, recognition: Option<Recognition>) -> GatewayNode {
        GatewayNode {
            gateway,
            session: None,
            recognition,
            captured: CaptureClock::default(),
            events: VecDeque::new(),
            records: Vec::new().into_iter(),
            is_full: false,
            sweep: None,
            rules_due: None,
        }
    }

    /// The same on `hail://`: its way to the back end leads datagrams, and its connections are sessions of the link. The link's
    /// interval follows from the protocol's heartbeats, which show already that both are alive.
    pub fn over_link(self, link: ClientConfig, rng: impl Entropy + Send + 'static) -> GatewayNode {
        let heartbeat = self.gateway.config().heartbeat;
        GatewayNode { session: Some(Dialled::new(link, Service::Gateway, heartbeat, rng)), ..self }
    }

    /// What the link counted, on `hail://`.
    pub fn link_counters(&self) -> Option<&ClientCounters> {
        self.session.as_ref().map(Dialled::counters)
    }

    /// The protocol's end.
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// The protocol's end, to tell it something.
    pub fn gateway_mut(&mut self) -> &mut Gateway {
        &mut self.gateway
    }

    /// What recognises flows, if this gateway does.
    pub fn recognition(&self) -> Option<&Recognition> {
        self.recognition.as_ref()
    }

    /// Takes in a frame that was captured now.
    pub fn feed(&mut self, now: Time, link: LinkType, frame: &[u8]) -> Result<(), Fault> {
        self.feed_captured(now, None, link, frame)
    }

    /// Takes in a frame of a capture at a time of the capture's own, of any epoch; see [`CaptureClock`].
    ///
    /// Fails with [`Status::State`] when this gateway does not recognise flows, with [`Status::Malformed`] when it is no IP
    /// packet, and with [`Status::Full`] when too many events wait to be pulled.
    pub fn feed_captured(
        &mut self,
        now: Time,
        captured: Option<Time>,
        link: LinkType,
        frame: &[u8],
    ) -> Result<(), Fault> {
        let recognition = self.recognition.as_mut().ok_or_else(no_rules)?;
        if self.events.len() >= MAX_WAITING {
            return Err(too_many_wait());
        }
        let result = recognition.feed(self.captured.at(now, captured), link, frame);
        self.tell(now);
        result
    }

    /// Says that the next frame with a time of its own is the first of another capture.
    pub fn begin_capture(&mut self) {
        self.captured.begin();
    }

    /// Ends every flow, for a capture that is over.
    pub fn finish(&mut self, now: Time) -> Result<(), Fault> {
        self.recognition.as_mut().ok_or_else(no_rules)?.finish(self.captured.now(now));
        self.captured.begin();
        self.tell(now);
        Ok(())
    }

    /// Passes on what recognition found.
    fn tell(&mut self, now: Time) {
        let Some(recognition) = &mut self.recognition else { return };
        self.sweep = self.sweep.into_iter().chain(recognition.deadline()).min();
        let mut is_full = false;
        while let Some(finding) = recognition.poll() {
            match finding {
                Finding::Recognised(verdict) | Finding::Flow(verdict) => {
                    let name = verdict.app.and_then(|app| recognition.name(app));
                    self.events.push_back(flow_event(&verdict, name));
                }
                Finding::Result(record) => {
                    let refused =
                        self.gateway.report(now, record).is_err_and(|fault| fault.status == Status::Full);
                    if refused {
                        // The remote end's next flow tells of it.
                        recognition.forget_told(&record);
                    }
                    is_full |= refused;
                }
                // Other flows of the application are as unlike its history, and teach the same.
                Finding::Features(app, words) => {
                    let told = self.gateway.report_features(now, app, words);
                    is_full |= told.is_err_and(|fault| fault.status == Status::Full);
                }
            }
        }
        if is_full && !std::mem::replace(&mut self.is_full, true) {
            let text = "too many reports wait for the back end: what is recognised until there is room is not reported";
            self.events.push_back(Event::new(EventKind::Warning).with_text(Field::Text, text));
        }
    }

    /// Puts the back end's rules in force, if they changed.
    fn enforce(&mut self) {
        if self.rules_due.take().is_none() {
            return;
        }
        if let Some(recognition) = &mut self.recognition {
            for (app, why) in recognition.set_rules(self.gateway.rules()) {
                let event = Event::new(EventKind::RuleRejected).with_app(app).with_text(Field::Text, why);
                self.events.push_back(event);
            }
        }
        let count = self.gateway.rules().count() as u64;
        self.events.push_back(Event::new(EventKind::Rules).with_u64(Field::Count, count));
    }

    fn event(&mut self, now: Time, event: GatewayEvent) -> Option<Event> {
        let new = Event::new;
        Some(match event {
            GatewayEvent::Registered => new(EventKind::Registered),
            GatewayEvent::Refused(reason) => new(EventKind::Refused)
                .with_u64(Field::Reason, reason.0.into())
                .with_text(Field::Text, reason.text()),
            GatewayEvent::Down(fault) => new(EventKind::Down).with_fault(fault),
            GatewayEvent::Results(records) => {
                if let Some(recognition) = &mut self.recognition {
                    let expires = self.captured.now(now) + self.gateway.config().result_ttl;
                    records.iter().for_each(|record| recognition.hint(record, expires));
                }
                self.records = records.into_iter();
                return self.records.next().map(result);
            }
            GatewayEvent::Rules => {
                self.rules_due = self.rules_due.or(Some(now + RULES_PAUSE));
                // With nothing to compile there is nothing to wait for.
                if self.recognition.is_none() {
                    self.enforce();
                }
                return self.events.pop_front();
            }
            GatewayEvent::Synced => {
                self.enforce();
                self.events.push_back(new(EventKind::Synced));
                return self.events.pop_front();
            }
            GatewayEvent::Parameters(app, words) => {
                let taken =
                    self.recognition.as_mut().map(|recognition| recognition.set_parameters(app, &words));
                match taken {
                    Some(Err(fault)) => {
                        new(EventKind::RuleRejected).with_app(app).with_text(Field::Text, fault.detail)
                    }
                    _ => {
                        let words: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
                        new(EventKind::Parameters).with_app(app).with_bytes(Field::Words, words)
                    }
                }
            }
            GatewayEvent::Acknowledged(record) => new(EventKind::Acknowledged).with_record(&record),
            GatewayEvent::FeaturesAcknowledged(app) => new(EventKind::FeaturesAcknowledged).with_app(app),
            GatewayEvent::ReportDropped(record) => new(EventKind::ReportDropped).with_record(&record),
            GatewayEvent::FeaturesDropped(app) => new(EventKind::FeaturesDropped).with_app(app),
            GatewayEvent::Writable => {
                self.is_full = false;
                new(EventKind::Writable)
            }
            GatewayEvent::Deregistered { by_backend } => {
                new(EventKind::Deregistered).with_u64(Field::ByBackend, by_backend.into())
            }
        })
    }
}

impl Node for GatewayNode {
    fn handle(&mut self, now: Time, input: Input<'_>) {
        let captured = self.captured.now(now);
        if matches!(input, Input::Deadline) && self.sweep.is_some_and(|sweep| sweep <= captured) {
            self.sweep = None;
            if let Some(recognition) = &mut self.recognition {
                recognition.expire(captured);
            }
            self.tell(now);
        }
        if matches!(input, Input::Deadline) && self.rules_due.is_some_and(|due| due <= now) {
            self.enforce();
        }
        let input = match &mut self.session {
            Some(session) => session.handle(now, input),
            None => Some(input),
        };
        if let Some(input) = input {
            self.gateway.handle(now, input);
        }
    }

    fn poll_output(&mut self, now: Time) -> Option<Output<Event>> {
        if let Some(record) = self.records.next() {
            return Some(Output::Event(result(record)));
        }
        if let Some(event) = self.events.pop_front() {
            return Some(Output::Event(event));
        }
        loop {
            let Some(output) = self.gateway.poll_output() else {
                match self.session.as_mut()?.poll(now)? {
                    Said::Output(output) => return Some(output),
                    Said::Input(heard) => self.gateway.handle(now, heard.input()),
                    Said::Own(Unknown(conn)) => self.gateway.not_let_in(now, conn),
                }
                continue;
            };
            let output = match &mut self.session {
                Some(session) => session.take(now, output),
                None => Some(output),
            };
            let Some(output) = output else { continue };
            return Some(match output {
                Output::Event(event) => match self.event(now, event) {
                    Some(event) => Output::Event(event),
                    None => continue,
                },
                Output::Connect { conn, way } => Output::Connect { conn, way },
                Output::Reach { conn, to } => Output::Reach { conn, to },
                Output::Send { conn, to, octets } => Output::Send { conn, to, octets },
                Output::Close { conn } => Output::Close { conn },
                Output::Store(_) => continue,
            });
        }
    }

    fn flush(&mut self, _now: Time) -> bool {
        false
    }

    fn deadline(&self) -> Option<Time> {
        let sweep = self.sweep.map(|sweep| self.captured.due(sweep));
        let session = self.session.as_ref().and_then(Dialled::deadline);
        [self.gateway.deadline(), sweep, self.rules_due, session].into_iter().flatten().min()
    }
}

/// A flow's verdict as an event: [`EventKind::Flow`] when it ended, [`EventKind::Recognised`] while it goes on.
pub fn flow_event(verdict: &Verdict, name: Option<&str>) -> Event {
    let protocol = if verdict.flow.protocol == 6 { 1 } else { 2 };
    let how = match verdict.how {
        How::Rule => "rule",
        How::Model => "model",
        How::Shared => "shared",
        How::None => "none",
    };
    let kind = match verdict.stage {
        Stage::Ended => EventKind::Flow,
        _ => EventKind::Recognised,
    };
    let event = Event::new(kind).with_ends(verdict.flow.initiator, verdict.flow.responder, protocol);
    let event = match verdict.app {
        Some(app) => event.with_app(app),
        None => event,
    };
    let event = match name {
        Some(name) => event.with_text(Field::AppName, name.to_owned()),
        None => event,
    };
    let event = event.with_text(Field::How, how);
    match kind {
        EventKind::Flow => {
            event.with_u64(Field::Packets, verdict.packets.into()).with_u64(Field::Octets, verdict.octets)
        }
        _ => event,
    }
}

fn result(record: Record) -> Event {
    Event::new(EventKind::Result).with_record(&record)
}

fn no_rules() -> Fault {
    Fault::new(Status::State, "this gateway does not recognise flows: set the option `rules`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        gateway::GatewayConfig,
        recognize::{Config, Limits},
        rng::Seeded,
    };

    const RULES: &str = "[[rule]]\napp_id = 7\nname = \"greeting\"\npattern = \"^hello\"\n";

    /// A gateway that cannot report anything to anybody yet, with room for so many reports.
    fn gateway(max_reports: usize) -> GatewayNode {
        let config = GatewayConfig { max_reports, ..GatewayConfig::default() };
        let recognition =
            Recognition::new(Some(RULES), Limits::default(), Config::default(), Vec::new()).unwrap();
        GatewayNode::new(Gateway::new(config, Time::ZERO, Seeded::new(1)), Some(recognition))
    }

    /// A UDP packet to a server of its own.
    fn hello(server: u8) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 33, 0, 0, 0, 0, 64, 17, 0, 0, 192, 168, 1, 2, 203, 0, 113, server];
        packet.extend([0x9c, 0x40, 0, 9, 0, 13, 0, 0]);
        packet.extend(b"hello");
        packet
    }

    fn events(node: &mut GatewayNode) -> Vec<EventKind> {
        let outputs = std::iter::from_fn(|| node.poll_output(Time::ZERO));
        outputs
            .filter_map(|output| if let Output::Event(event) = output { Some(event.kind()) } else { None })
            .collect()
    }

    #[test]
    fn reports_that_find_no_room_are_counted_told_of_once_and_made_again_later() {
        let mut node = gateway(2);
        let feed = |node: &mut GatewayNode, server| {
            node.feed(Time::ZERO, LinkType::RAW, &hello(server)).unwrap();
            events(node)
        };
        assert_eq!(feed(&mut node, 1), [EventKind::Recognised]);
        assert_eq!(feed(&mut node, 2), [EventKind::Recognised]);
        assert_eq!(node.gateway().counters().reports_refused, 0);
        assert_eq!(feed(&mut node, 3), [EventKind::Recognised, EventKind::Warning]);
        assert_eq!(feed(&mut node, 4), [EventKind::Recognised]);
        assert_eq!((node.gateway().counters().reports_refused, node.gateway().pending()), (2, 2));
        // The end of a flow is its next appearance: what was refused is tried again, what waits is not.
        node.finish(Time::ZERO).unwrap();
        assert_eq!(events(&mut node), [EventKind::Flow; 4]);
        assert_eq!((node.gateway().counters().reports_refused, node.gateway().pending()), (4, 2));
    }
}
