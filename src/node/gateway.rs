//! A gateway: the protocol's end, and what recognises flows.

use std::collections::VecDeque;

use super::{Event, EventKind, Field, Node};
use crate::{
    gateway::{Gateway, GatewayEvent},
    io::{Input, Output},
    time::Time,
    wire::gateway::Record,
};

/// A gateway.
pub struct GatewayNode {
    gateway: Gateway,
    events: VecDeque<Event>,
    /// Records that came together are told one by one, as there is room for events.
    records: std::vec::IntoIter<Record>,
}

impl GatewayNode {
    /// A gateway around its end of the protocol.
    pub fn new(gateway: Gateway) -> GatewayNode {
        GatewayNode { gateway, events: VecDeque::new(), records: Vec::new().into_iter() }
    }

    /// The protocol's end.
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// The protocol's end, to tell it something.
    pub fn gateway_mut(&mut self) -> &mut Gateway {
        &mut self.gateway
    }

    fn event(&mut self, event: GatewayEvent) -> Option<Event> {
        let new = Event::new;
        Some(match event {
            GatewayEvent::Registered => new(EventKind::Registered),
            GatewayEvent::Refused(reason) => new(EventKind::Refused)
                .with_u64(Field::Reason, reason.0.into())
                .with_text(Field::Text, reason.text()),
            GatewayEvent::Down(fault) => new(EventKind::Down).with_fault(fault),
            GatewayEvent::Results(records) => {
                self.records = records.into_iter();
                return self.records.next().map(result);
            }
            GatewayEvent::Rules => {
                new(EventKind::Rules).with_u64(Field::Count, self.gateway.rules().count() as u64)
            }
            GatewayEvent::Synced => new(EventKind::Synced),
            GatewayEvent::Parameters(app, words) => {
                let words: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
                new(EventKind::Parameters).with_app(app).with_bytes(Field::Words, words)
            }
            GatewayEvent::Acknowledged(record) => new(EventKind::Acknowledged).with_record(&record),
            GatewayEvent::FeaturesAcknowledged(app) => new(EventKind::FeaturesAcknowledged).with_app(app),
            GatewayEvent::Writable => new(EventKind::Writable),
            GatewayEvent::Deregistered { by_backend } => {
                new(EventKind::Deregistered).with_u64(Field::ByBackend, by_backend.into())
            }
        })
    }
}

impl Node for GatewayNode {
    fn handle(&mut self, now: Time, input: Input<'_>) {
        self.gateway.handle(now, input);
    }

    fn poll_output(&mut self, _now: Time) -> Option<Output<Event>> {
        if let Some(record) = self.records.next() {
            return Some(Output::Event(result(record)));
        }
        if let Some(event) = self.events.pop_front() {
            return Some(Output::Event(event));
        }
        loop {
            return Some(match self.gateway.poll_output()? {
                Output::Event(event) => match self.event(event) {
                    Some(event) => Output::Event(event),
                    None => continue,
                },
                Output::Connect { conn } => Output::Connect { conn },
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
        self.gateway.deadline()
    }
}

fn result(record: Record) -> Event {
    Event::new(EventKind::Result).with_record(&record)
}
