//! A back end: the protocol's end, its store, and what trains rules.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{Event, EventKind, Field, Node};
use crate::{
    gateway::{Backend, BackendConfig, BackendEvent, GatewayInfo, Open},
    io::{Input, Output},
    recognize::model::{Outcome, Source, Trainer, TrainerConfig},
    status::Fault,
    store::Store,
    time::Time,
};

/// Work of training in one turn, in passes over a sample: about a millisecond.
const TRAINING_BUDGET: usize = 1000;
/// How long a store that failed is left alone.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// A back end.
pub struct BackendNode {
    backend: Backend,
    store: Box<dyn Store>,
    events: VecDeque<Event>,
    /// When a store that failed is tried again.
    store_retry: Option<Time>,
    /// By group; `None` when somebody else trains.
    trainers: Option<Trainers>,
}

/// One trainer a group: what one group's gateways report teaches no other group.
struct Trainers {
    seed: u64,
    by_group: BTreeMap<String, Trainer>,
}

impl Trainers {
    fn of(&mut self, group: &str) -> &mut Trainer {
        let seed = self.seed;
        self.by_group.entry(group.to_owned()).or_insert_with(|| {
            Trainer::new(super::feature_set(), TrainerConfig { seed, ..TrainerConfig::default() })
        })
    }
}

impl BackendNode {
    /// A back end on what the store holds. With `train`, a secret seed, it trains rules on what gateways report.
    pub fn open(
        config: BackendConfig,
        open: Open,
        store: Box<dyn Store>,
        train: Option<u64>,
    ) -> Result<BackendNode, Fault> {
        let backend = Backend::open(config, open, &*store)?;
        let mut trainers = train.map(|seed| Trainers { seed, by_group: BTreeMap::new() });
        if let Some(trainers) = &mut trainers {
            // A report that the trainer has no room for any more teaches nothing; it ages out of the store.
            Backend::load_features(&*store, |group, app, reporter, _, words| {
                let _ = trainers.of(group).restore_report(app, Source(reporter), &words);
            })?;
            for (group, app, words) in backend.all_parameters() {
                let _ = trainers.of(group).install(app, words);
            }
        }
        Ok(BackendNode { backend, store, events: VecDeque::new(), store_retry: None, trainers })
    }

    /// The samples that training an application in a group would use, for another trainer.
    pub fn trainer_mut(&mut self, group: &str) -> Option<&mut Trainer> {
        self.trainers.as_mut().map(|trainers| trainers.of(group))
    }

    /// Goes on with training, a little.
    fn train(&mut self, now: Time) {
        let Some(trainers) = &mut self.trainers else { return };
        for (group, trainer) in &mut trainers.by_group {
            if trainer.deadline().is_none_or(|due| due > now) {
                continue;
            }
            let Some(outcome) = trainer.step(now, TRAINING_BUDGET) else { continue };
            let event = Event::new(EventKind::Trained).with_text(Field::Group, group.clone());
            self.events.push_back(match outcome {
                Outcome::Accepted { app, score, .. } => {
                    if let Some(words) = trainer.parameters(app) {
                        let _ = self.backend.set_parameters(group, app, words);
                    }
                    event
                        .with_app(app)
                        .with_u64(Field::Accepted, 1)
                        .with_text(Field::Text, format!("accepted: {score}"))
                }
                Outcome::Refused { app, why, .. } => {
                    event.with_app(app).with_u64(Field::Accepted, 0).with_text(Field::Text, why.to_string())
                }
            });
        }
    }

    /// Lets the trainer see features that are durable now.
    fn learn(&mut self, now: Time, event: &BackendEvent) {
        if let (BackendEvent::Features { gateway, app, words }, Some(trainers)) = (event, &mut self.trainers)
        {
            let source = Source(self.backend.reporter_number(gateway));
            // What the trainer refuses (words that are no features of ours, too many of one gateway) it has counted.
            let _ = trainers.of(&gateway.group).report(now, *app, source, words);
        }
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
        if matches!(input, Input::Deadline) {
            self.train(now);
        }
        self.backend.handle(now, input);
    }

    fn poll_output(&mut self, now: Time) -> Option<Output<Event>> {
        if let Some(event) = self.events.pop_front() {
            return Some(Output::Event(event));
        }
        loop {
            return Some(match self.backend.poll_output(now)? {
                Output::Event(event) => {
                    self.learn(now, &event);
                    Output::Event(self.event(event))
                }
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
        let trainers = self.trainers.iter().flat_map(|trainers| trainers.by_group.values());
        let training = trainers.filter_map(Trainer::deadline).min();
        [self.backend.deadline(), self.store_retry, training].into_iter().flatten().min()
    }
}
