//! A back end: the protocol's end, its store, and what trains rules.

use std::{collections::VecDeque, time::Duration};

use super::{Event, EventKind, Field, Node};
use crate::{
    gateway::{Backend, BackendConfig, BackendEvent, GatewayInfo, Open},
    io::{Input, Output},
    status::Fault,
    store::Store,
    time::Time,
};

/// How long a store that failed is left alone.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// A back end.
pub struct BackendNode {
    backend: Backend,
    store: Box<dyn Store>,
    events: VecDeque<Event>,
    /// When a store that failed is tried again.
    store_retry: Option<Time>,
}

impl BackendNode {
    /// A back end on what the store holds.
    pub fn open(config: BackendConfig, open: Open, store: Box<dyn Store>) -> Result<BackendNode, Fault> {
        let backend = Backend::open(config, open, &*store)?;
        Ok(BackendNode { backend, store, events: VecDeque::new(), store_retry: None })
    }

    /// The protocol's end.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// The protocol's end, to tell it something.
    pub fn backend_mut(&mut self) -> &mut Backend {
        &mut self.backend
    }

    fn event(&self, event: BackendEvent) -> Event {
        let about = |kind, gateway: &GatewayInfo| {
            let event = Event::new(kind)
                .with_u64(Field::Gateway, gateway.id)
                .with_text(Field::Name, gateway.name.clone())
                .with_text(Field::Group, gateway.group.clone());
            match gateway.key {
                Some(key) => event.with_bytes(Field::Key, key.0.to_vec()),
                None => event,
            }
        };
        match event {
            BackendEvent::Registered(gateway) => about(EventKind::GatewayRegistered, &gateway),
            BackendEvent::Synced(gateway) => about(EventKind::GatewaySynced, &gateway),
            BackendEvent::Refused { key, reason } => {
                let event = Event::new(EventKind::GatewayRefused)
                    .with_u64(Field::Reason, reason.0.into())
                    .with_text(Field::Text, reason.text());
                match key {
                    Some(key) => event.with_bytes(Field::Key, key.0.to_vec()),
                    None => event,
                }
            }
            BackendEvent::Gone(gateway, fault) => about(EventKind::GatewayGone, &gateway).with_fault(fault),
            BackendEvent::Deregistered { gateway, by_backend } => {
                about(EventKind::GatewayDeregistered, &gateway).with_u64(Field::ByBackend, by_backend.into())
            }
            BackendEvent::Identified(gateway, record) => {
                about(EventKind::Identified, &gateway).with_record(&record)
            }
            BackendEvent::Features { gateway, app, words } => {
                about(EventKind::Features, &gateway).with_app(app).with_bytes(
                    Field::Words,
                    words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>(),
                )
            }
            BackendEvent::Durable(ticket) => Event::new(EventKind::Durable).with_u64(Field::Ticket, ticket),
        }
    }
}

impl Node for BackendNode {
    fn handle(&mut self, now: Time, input: Input<'_>) {
        self.backend.handle(now, input);
    }

    fn poll_output(&mut self, now: Time) -> Option<Output<Event>> {
        if let Some(event) = self.events.pop_front() {
            return Some(Output::Event(event));
        }
        loop {
            return Some(match self.backend.poll_output(now)? {
                Output::Event(event) => Output::Event(self.event(event)),
                Output::Store(batch) => {
                    self.store.submit(batch);
                    continue;
                }
                Output::Connect { conn } => Output::Connect { conn },
                Output::Send { conn, to, octets } => Output::Send { conn, to, octets },
                Output::Close { conn } => Output::Close { conn },
            });
        }
    }

    fn flush(&mut self, now: Time) -> bool {
        if !self.store.is_dirty() || self.store_retry.is_some_and(|retry| now < retry) {
            return false;
        }
        match self.store.commit() {
            Ok(through) => {
                if self.store_retry.take().is_some() {
                    self.events.push_back(Event::new(EventKind::StoreRecovered));
                }
                self.backend.handle(now, Input::Stored { through });
            }
            Err(fault) => {
                if self.store_retry.replace(now + STORE_RETRY).is_none() {
                    self.events.push_back(Event::new(EventKind::StoreFailing).with_fault(fault));
                }
            }
        }
        true
    }

    fn deadline(&self) -> Option<Time> {
        self.backend.deadline().into_iter().chain(self.store_retry).min()
    }
}
