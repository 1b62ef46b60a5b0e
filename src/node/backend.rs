//! A back end: the protocol's end, its store, and what trains rules.

use std::collections::{BTreeMap, VecDeque};

use super::{
    Event, EventKind, Field, Node,
    durable::{Committed, Durable},
    hail::{LinkCredential, Said, Sessions},
};
use crate::{
    gateway::{Backend, BackendConfig, BackendEvent, Enrolment, GatewayInfo, Open, check_group},
    io::{Input, Output, Service},
    link::ServerConfig,
    recognize::model::{OfferError, Origin, Outcome, Source, Trainer, TrainerConfig, TrainingSample},
    rng::Entropy,
    status::{Fault, Status},
    store::Store,
    time::Time,
    wire::AppId,
};

/// Work of training in one turn, in passes over a sample: about a millisecond.
const TRAINING_BUDGET: usize = 1000;
/// The trainers' seed, under this name in the store: what is held out must stay held out.
const TRAIN_SEED: &str = "train_seed";

/// A back end.
pub struct BackendNode {
    backend: Backend,
    /// Gateways on `hail://`, if they may come in there.
    sessions: Option<Sessions>,
    store: Durable,
    events: VecDeque<Event>,
    /// By group; `None` when somebody else trains.
    trainers: Option<Trainers>,
}

/// A model in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ModelInfo {
    /// What it recognises.
    pub app: AppId,
    /// Where it came from.
    pub origin: Origin,
    /// Rises with each model of the application.
    pub revision: u16,
    /// It is not trained by itself.
    pub is_held: bool,
}

impl ModelInfo {
    /// Where it came from, in a word.
    pub fn origin(&self) -> &'static str {
        match self.origin {
            Origin::Trained => "trained",
            Origin::Offered => "offered",
            Origin::Installed => "installed",
        }
    }
}

/// One trainer a group: what one group's gateways report teaches no other group.
struct Trainers {
    config: TrainerConfig,
    by_group: BTreeMap<String, Trainer>,
}

impl Trainers {
    fn of(&mut self, group: &str) -> &mut Trainer {
        let config = self.config;
        self.by_group.entry(group.to_owned()).or_insert_with(|| Trainer::new(super::feature_set(), config))
    }
}

impl BackendNode {
    /// A back end on what the store holds. With `train`, whose seed is secret, it trains rules on what gateways report;
    /// the seed that the store holds from an earlier time stands over it.
    pub fn open(
        config: BackendConfig,
        open: Open,
        store: Box<dyn Store>,
        train: Option<TrainerConfig>,
    ) -> Result<BackendNode, Fault> {
        let slots = usize::from(config.max_features_per_gateway.max(1));
        let mut backend = Backend::open(config, open, &*store)?;
        let mut trainers = None;
        if let Some(config) = train {
            let kept = Backend::load_setting(&*store, TRAIN_SEED)?.and_then(|octets| octets.try_into().ok());
            if kept.is_none() {
                backend.keep_setting(TRAIN_SEED, &config.seed.to_be_bytes());
            }
            // The trainer holds no more of one gateway than the store does.
            let per_app_and_source = config.per_app_and_source.min(slots);
            let config = TrainerConfig {
                seed: kept.map_or(config.seed, u64::from_be_bytes),
                per_app_and_source,
                ..config
            };
            let trainers = trainers.insert(Trainers { config, by_group: BTreeMap::new() });
            // A model of another feature set is of no use to the trainer; gateways judge for themselves.
            Backend::load_models(&*store, |group, app, words, lineage| {
                let trainer = trainers.of(group);
                if trainer.restore_models(lineage).is_err() {
                    let _ = trainer.install(app, words);
                }
            })?;
            // A report that the trainer has no room for any more teaches nothing; it ages out of the store.
            Backend::load_features(&*store, |group, app, reporter, _, words| {
                let _ = trainers.of(group).restore_report(app, Source(reporter), &words);
            })?;
        }
        let store = Durable::new(store);
        Ok(BackendNode { backend, sessions: None, store, events: VecDeque::new(), trainers })
    }

    /// The same, where gateways come in on `hail://` too, each by a credential of [`BackendNode::enrol_link`]. The time is that of
    /// [`Open`]; keys of the link that the store does not hold are drawn, and kept there.
    ///
    /// # Errors
    /// [`Status::StoreCorrupt`] when the store's keys cannot be read.
    pub fn with_link(
        mut self,
        at: (Time, u64),
        rng: impl Entropy + Clone + Send + 'static,
    ) -> Result<BackendNode, Fault> {
        let config =
            ServerConfig { max_sessions: max_sessions(self.backend.config()), ..ServerConfig::default() };
        let (sessions, ops) = Sessions::open(config, Service::Gateway, at, rng, &*self.store.store)?;
        if !ops.is_empty() {
            self.backend.submit(ops);
        }
        self.sessions = Some(sessions);
        Ok(self)
    }

    /// Enrols a gateway for `hail://`, by a credential that is drawn for it: to be handed over once the ticket is durable. All
    /// else goes by the credential's key, as with a gateway that proves one over TLS.
    ///
    /// # Errors
    /// [`Status::State`] for a back end without a link, and as [`Backend::enrol`].
    pub fn enrol_link(&mut self, enrolment: Enrolment) -> Result<(LinkCredential, u64), Fault> {
        let sessions = self.sessions.as_mut().ok_or_else(no_link)?;
        let mut credential = sessions.draw();
        // Of a number of eight octets, so that two gateways are never one by chance.
        while self.backend.enrolments().any(|(known, _)| *known == credential.key) {
            credential = sessions.draw();
        }
        let ticket = self.backend.enrol(credential.key, enrolment)?;
        Ok((credential, ticket))
    }

    /// The credential of a session id, whoever is enrolled.
    ///
    /// # Errors
    /// [`Status::State`] for a back end without a link.
    pub fn link_credential(&self, session_id: [u8; 16]) -> Result<LinkCredential, Fault> {
        self.sessions.as_ref().map(|sessions| sessions.credential(session_id)).ok_or_else(no_link)
    }

    /// The key that gateways on `hail://` must know the back end by.
    pub fn link_key(&self) -> Option<[u8; 32]> {
        self.sessions.as_ref().map(Sessions::server_key)
    }

    /// What the link counted, and what waited because it had no room: name, what it counts, how many.
    pub fn link_counters(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        self.sessions.iter().flat_map(Sessions::counters)
    }

    /// As [`Backend::reconfigure`], with the link's bounds.
    pub fn reconfigure(&mut self, config: BackendConfig) {
        if let Some(sessions) = &mut self.sessions {
            sessions.set_max(max_sessions(&config));
        }
        self.backend.reconfigure(config);
    }

    /// Puts parameters in use that were not trained here: shipped ones, or another trainer's. What trains here judges what
    /// comes later against them, and can go back to those before. Answers with the ticket of the event that says that they
    /// are durable; gateways are told then.
    pub fn set_parameters(&mut self, group: &str, app: AppId, words: Vec<u32>) -> Result<u64, Fault> {
        check_group(group)?;
        if let Some(trainers) = &mut self.trainers
            && trainers.of(group).install(app, &words).is_ok()
        {
            return self.tell_model(group, app);
        }
        // Not of our feature set: for gateways that recognise by other means.
        self.backend.set_parameters(group, app, words)
    }

    /// Goes back to the parameters before those in use, and stops training that application until [`BackendNode::hold`]
    /// lifts it. Answers as [`BackendNode::set_parameters`].
    pub fn roll_back(&mut self, group: &str, app: AppId) -> Result<u64, Fault> {
        let trainer = self.trainers.as_mut().and_then(|trainers| trainers.by_group.get_mut(group));
        match trainer.and_then(|trainer| trainer.roll_back(app)) {
            Some(_) => self.tell_model(group, app),
            None => {
                let detail = format!("application {app} has no earlier parameters in group {group}");
                Err(Fault::new(Status::NotFound, detail))
            }
        }
    }

    /// Stops or resumes training of an application by itself. Answers with a ticket as the others do.
    pub fn hold(&mut self, group: &str, app: AppId, held: bool) -> Result<u64, Fault> {
        let trainer = self.trainers.as_mut().and_then(|trainers| trainers.by_group.get_mut(group));
        match trainer.is_some_and(|trainer| trainer.hold(app, held)) {
            true => self.tell_model(group, app),
            false => {
                let detail = format!("application {app} has no parameters in group {group}");
                Err(Fault::new(Status::NotFound, detail))
            }
        }
    }

    /// Has the trainer's model stored, with those before it, and then told.
    fn tell_model(&mut self, group: &str, app: AppId) -> Result<u64, Fault> {
        let trainer = self.trainers.as_ref().and_then(|trainers| trainers.by_group.get(group));
        let model = trainer.and_then(|trainer| Some((trainer.parameters(app)?, trainer.models_row(app)?)));
        let (words, lineage) = model.ok_or_else(|| Fault::from(Status::NotFound))?;
        self.backend.set_model(group, app, words, &lineage)
    }

    /// The models in use in a group, as far as it trains here.
    pub fn models(&self, group: &str) -> impl Iterator<Item = ModelInfo> + '_ {
        let trainer = self.trainers.as_ref().and_then(|trainers| trainers.by_group.get(group));
        trainer.into_iter().flat_map(|trainer| {
            let info =
                |(app, origin, revision)| ModelInfo { app, origin, revision, is_held: trainer.is_held(app) };
            trainer.models().map(info)
        })
    }

    /// The samples that training an application in a group would use, for another trainer.
    ///
    /// Fails with [`Status::State`] when this back end does not train.
    pub fn samples(&self, group: &str, app: AppId) -> Result<Vec<TrainingSample>, Fault> {
        let trainers = self.trainers.as_ref().ok_or_else(no_training)?;
        Ok(trainers.by_group.get(group).map(|trainer| trainer.samples(app)).unwrap_or_default())
    }

    /// Hands in a model that another trainer made. It is judged as one trained here, and the event `trained` says how
    /// that ended.
    ///
    /// Fails with [`Status::State`] when this back end does not train or is not done with one before, with
    /// [`Status::Words`] when the words are no model, and with [`Status::NotFound`] when there are no samples to judge by.
    pub fn offer(&mut self, group: &str, app: AppId, words: &[u32]) -> Result<(), Fault> {
        check_group(group)?;
        let trainers = self.trainers.as_mut().ok_or_else(no_training)?;
        trainers.of(group).offer(app, words).map_err(|error| {
            let status = match error {
                OfferError::Words(_) => Status::Words,
                OfferError::Pending => Status::State,
                OfferError::NoSamples => Status::NotFound,
            };
            Fault::new(status, error.to_string())
        })
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
            let mut warning = None;
            let event = match outcome {
                Outcome::Accepted { app, score, .. } => {
                    if let (Some(words), Some(lineage)) = (trainer.parameters(app), trainer.models_row(app))
                        && let Err(fault) = self.backend.set_model(group, app, words, &lineage)
                    {
                        warning = Some(Event::new(EventKind::Warning).with_text(Field::Text, fault.detail));
                    }
                    event
                        .with_app(app)
                        .with_u64(Field::Accepted, 1)
                        .with_text(Field::Text, format!("accepted: {score}"))
                }
                Outcome::Refused { app, why, .. } => {
                    event.with_app(app).with_u64(Field::Accepted, 0).with_text(Field::Text, why.to_string())
                }
            };
            self.events.push_back(event);
            self.events.extend(warning);
        }
    }

    /// Lets the trainer see features that are durable now, and forget those that are gone.
    fn learn(&mut self, now: Time, event: &BackendEvent) {
        let Some(trainers) = &mut self.trainers else { return };
        match event {
            BackendEvent::Features { gateway, app, words } => {
                let source = Source(self.backend.reporter_number(gateway));
                // What the trainer refuses (words that are no features of ours, too many of one gateway) it has counted.
                let _ = trainers.of(&gateway.group).report(now, *app, source, words);
            }
            // What is not in the store must not teach, or a restart would change what is trained on.
            BackendEvent::FeaturesGone { group, app, reporter } => {
                trainers.of(group).forget_app(*app, Source(*reporter));
            }
            _ => {}
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

    /// What the application is told of it, if it is.
    fn event(&self, event: BackendEvent) -> Option<Event> {
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
        Some(match event {
            BackendEvent::FeaturesGone { .. } => return None,
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
        })
    }
}

/// A gateway that logs in again has two for a moment.
fn max_sessions(config: &BackendConfig) -> u32 {
    u32::try_from(config.max_gateways.saturating_mul(2)).unwrap_or(u32::MAX)
}

fn no_link() -> Fault {
    Fault::new(Status::State, "this back end was opened without the link")
}

fn no_training() -> Fault {
    Fault::new(Status::State, "this back end does not train: set the option `train`")
}

impl Node for BackendNode {
    fn handle(&mut self, now: Time, input: Input<'_>) {
        if matches!(input, Input::Deadline) {
            self.train(now);
        }
        let input = match &mut self.sessions {
            Some(sessions) => sessions.handle(now, input),
            None => Some(input),
        };
        if let Some(input) = input {
            self.backend.handle(now, input);
        }
    }

    fn poll_output(&mut self, now: Time) -> Option<Output<Event>> {
        if let Some(event) = self.events.pop_front() {
            return Some(Output::Event(event));
        }
        loop {
            let Some(output) = self.backend.poll_output(now) else {
                let backend = &self.backend;
                match self.sessions.as_mut()?.poll(now, |key| backend.is_enrolled(key))? {
                    Said::Output(output) => return Some(output),
                    Said::Input(heard) => self.backend.handle(now, heard.input()),
                    Said::Own(op) => drop(self.backend.submit(vec![op])),
                }
                continue;
            };
            let output = match &mut self.sessions {
                Some(sessions) => sessions.take(now, output),
                None => Some(output),
            };
            let Some(output) = output else { continue };
            return Some(match output {
                Output::Event(event) => {
                    self.learn(now, &event);
                    match self.event(event) {
                        Some(event) => Output::Event(event),
                        None => continue,
                    }
                }
                Output::Store(batch) => {
                    self.store.submit(batch);
                    continue;
                }
                Output::Connect { conn, way } => Output::Connect { conn, way },
                Output::Reach { conn, to } => Output::Reach { conn, to },
                Output::Send { conn, to, octets } => Output::Send { conn, to, octets },
                Output::Close { conn } => Output::Close { conn },
            });
        }
    }

    fn flush(&mut self, now: Time) -> bool {
        match self.store.commit(now, &mut self.events) {
            Committed::Nothing => return false,
            Committed::Failed => {}
            Committed::Through(through) => self.backend.handle(now, Input::Stored { through }),
        }
        true
    }

    fn deadline(&self) -> Option<Time> {
        let trainers = self.trainers.iter().flat_map(|trainers| trainers.by_group.values());
        let training = trainers.filter_map(Trainer::deadline).min();
        let sessions = self.sessions.as_ref().and_then(Sessions::deadline);
        [self.backend.deadline(), self.store.deadline(), training, sessions].into_iter().flatten().min()
    }
}
