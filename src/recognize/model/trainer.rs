//! The backend's end: keeps what the gateways of one group report, trains, judges, keeps versions (S315).
//!
//! Sans-IO: reports and the time go in; kept rows, outcomes and one deadline come out. What a caller must make durable is
//! returned by the call that changed it: a sample's row with [`Kept`], an AppID's models with [`Trainer::models_row`]
//! after an [`Outcome::Accepted`] and before its words are sent to anyone.

use super::{
    FeatureSet, InstallError, Kept, LineageError, Model, OfferError, Origin, Outcome, Refusal, ReportError,
    SampleRow, Score, Source, TrainerCounters, TrainingSample, check_features,
    corroborate::Corroboration,
    fit::Fit,
    gate::TIE,
    lineage::Lineage,
    random::hash,
    rate::Window,
    report_from_words,
    samples::{Bounds, Full, Sample, Samples, is_held_out},
    snapshot::Snapshot,
};
use crate::{recognize::AppId, time::Time};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// Bounds and thresholds of a [`Trainer`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainerConfig {
    /// Decides which samples are held out, and seeds training. Secret from gateways, the same after a restart.
    pub seed: u64,
    /// Most AppIDs with samples, and most with models.
    pub max_apps: usize,
    /// Most AppIDs one source may report of.
    pub apps_per_source: usize,
    /// Most samples of one AppID from one source.
    pub per_app_and_source: usize,
    /// Most samples of one AppID.
    pub per_app: usize,
    /// Most samples in all. One takes about 4 octets a feature and 50.
    pub max_samples: usize,
    /// The interval of the next bound.
    pub interval: Duration,
    /// Most reports taken from one source an interval.
    pub reports_per_source: u32,
    /// Most sources whose reports are counted at once.
    pub max_sources: usize,
    /// Most samples of the AppID that one training looks at.
    pub positives: usize,
    /// Most samples of other AppIDs that one training looks at.
    pub negatives: usize,
    /// Fewest samples, of the AppID and of others, to train with.
    pub min_trained: usize,
    /// Fewest samples, of the AppID and of others, to judge by.
    pub min_held_out: usize,
    /// The largest share of an AppID's weight that one source has (where there are sources enough).
    pub source_share: f32,
    /// A first model must cost less than this; see [`Score::cost`].
    pub first_cost: f32,
    /// Row passes of one training, about.
    pub passes: usize,
    /// An AppID is trained again after so many new samples,
    pub min_fresh: u32,
    /// and no earlier than this after the last time.
    pub pause: Duration,
    /// Former models kept for each AppID, at most 254.
    pub versions: usize,
}

impl Default for TrainerConfig {
    fn default() -> TrainerConfig {
        TrainerConfig {
            seed: 0,
            max_apps: 256,
            apps_per_source: 128,
            per_app_and_source: 64,
            per_app: 1024,
            max_samples: 65_536,
            interval: Duration::from_secs(600),
            reports_per_source: 256,
            max_sources: 65_536,
            positives: 512,
            negatives: 1024,
            min_trained: 12,
            min_held_out: 4,
            source_share: 0.25,
            first_cost: 0.7,
            passes: 60_000,
            min_fresh: 8,
            pause: Duration::from_secs(60),
            versions: 4,
        }
    }
}

/// Samples, training and models of one group.
#[derive(Clone, Debug)]
pub struct Trainer {
    set: FeatureSet,
    config: TrainerConfig,
    samples: Samples,
    next_serial: u64,
    rates: BTreeMap<Source, Window>,
    /// When the over windows among `rates` are looked for again.
    sweep: Time,
    plans: BTreeMap<AppId, Plan>,
    offers: VecDeque<(AppId, Model)>,
    lineages: BTreeMap<AppId, Lineage>,
    job: Option<Job>,
    counters: TrainerCounters,
}

/// When an AppID is trained next.
#[derive(Clone, Copy, Debug, Default)]
struct Plan {
    fresh: u32,
    last: Option<Time>,
    /// There is a new AppID to be told from.
    stale: bool,
    /// Somebody asked for it.
    asked: bool,
}

#[derive(Clone, Debug)]
struct Job {
    app: AppId,
    /// A model from elsewhere to judge; otherwise one is trained.
    offered: Option<Model>,
    snapshot: Snapshot,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    Corroborate(Corroboration),
    Fit(Box<Fit>),
}

impl Trainer {
    /// No samples, no models.
    pub fn new(set: FeatureSet, config: TrainerConfig) -> Trainer {
        let bounds = Bounds {
            apps: config.max_apps,
            apps_per_source: config.apps_per_source,
            per_app_and_source: config.per_app_and_source,
            per_app: config.per_app,
            in_all: config.max_samples,
        };
        Trainer {
            set,
            config: TrainerConfig { versions: config.versions.min(254), ..config },
            samples: Samples::new(bounds),
            next_serial: 1,
            rates: BTreeMap::new(),
            sweep: Time::ZERO,
            plans: BTreeMap::new(),
            offers: VecDeque::new(),
            lineages: BTreeMap::new(),
            job: None,
            counters: TrainerCounters::default(),
        }
    }

    /// Takes in a feature report of `source`: the words after the AppID.
    ///
    /// # Errors
    /// What is wrong with the words, or which bound is reached. Each is counted; nothing else changes.
    pub fn report(
        &mut self,
        now: Time,
        app: AppId,
        source: Source,
        words: &[u32],
    ) -> Result<Kept, ReportError> {
        self.admit(now, source).inspect_err(|_| self.counters.throttled += 1)?;
        let (revision, features) =
            report_from_words(self.set, words).inspect_err(|_| self.counters.malformed += 1)?;
        let held_out = is_held_out(self.config.seed, &features);
        let row = SampleRow { serial: self.next_serial, app, source, held_out, features };
        let dropped = self.keep(&row)?;
        self.counters.kept += 1;
        self.plan(app);
        Ok(Kept { row, dropped, revision })
    }

    /// Puts a stored sample back after a restart, in the order of the serials. The serial of a row that has no room any
    /// more, because a bound became smaller.
    ///
    /// # Errors
    /// When there is no room for its AppID: the row can be deleted.
    pub fn restore_sample(&mut self, row: &SampleRow) -> Result<Option<u64>, ReportError> {
        check_features(self.set, &row.features).inspect_err(|_| self.counters.malformed += 1)?;
        let dropped = self.keep(row)?;
        self.plan(row.app);
        Ok(dropped)
    }

    /// Puts the words of a stored report back after a restart, oldest first, for a backend that stores reports as they came:
    /// no rate applies, and what is held out follows from the seed again.
    ///
    /// # Errors
    /// What is wrong with the words, or no room for the AppID: the stored report is of no use.
    pub fn restore_report(&mut self, app: AppId, source: Source, words: &[u32]) -> Result<(), ReportError> {
        let (_, features) =
            report_from_words(self.set, words).inspect_err(|_| self.counters.malformed += 1)?;
        let held_out = is_held_out(self.config.seed, &features);
        self.keep(&SampleRow { serial: self.next_serial, app, source, held_out, features })?;
        self.plan(app);
        Ok(())
    }

    /// Forgets what a source reported, when it is barred or leaves the group. The serials of the rows to be deleted.
    pub fn forget(&mut self, source: Source) -> Vec<u64> {
        self.rates.remove(&source);
        let gone = self.samples.forget(source);
        self.prune_plans();
        gone
    }

    /// Forgets what a source reported of one AppID, when its reports are no longer kept. How many samples that were.
    pub fn forget_app(&mut self, app: AppId, source: Source) -> usize {
        let gone = self.samples.forget_app(app, source);
        self.prune_plans();
        gone
    }

    /// How many samples are kept.
    pub fn sample_count(&self) -> usize {
        self.samples.len()
    }

    /// What happened so far.
    pub fn counters(&self) -> TrainerCounters {
        self.counters
    }

    /// The training side of what a training of `app` would look at now, weighed: what another trainer may learn from. What
    /// is held out stays here, to judge by.
    pub fn samples(&self, app: AppId) -> Vec<TrainingSample> {
        let mut snapshot = self.snapshot(app);
        snapshot.weigh(false, self.config.source_share);
        let rows = snapshot.rows.iter().enumerate().filter(|(_, r)| r.is_on(false));
        rows.map(|(i, r)| TrainingSample {
            app: r.app,
            source: r.source,
            weight: r.weight,
            features: snapshot.features(i).to_vec(),
        })
        .collect()
    }

    /// Hands in a model that another trainer made. It is judged as one trained here would be; the outcome comes from
    /// [`Trainer::step`].
    ///
    /// # Errors
    /// When the words are no model, or it cannot be judged now.
    pub fn offer(&mut self, app: AppId, words: &[u32]) -> Result<(), OfferError> {
        let model = Model::from_words(words, self.set)?;
        if !self.samples.apps().contains_key(&app) {
            return Err(OfferError::NoSamples);
        }
        let judged = self.job.as_ref().is_some_and(|j| j.app == app && j.offered.is_some());
        // At most one an AppID, and only of AppIDs with samples: that bounds the queue.
        if judged || self.offers.len() >= self.config.max_apps || self.offers.iter().any(|(a, _)| *a == app) {
            return Err(OfferError::Pending);
        }
        self.offers.push_back((app, model));
        Ok(())
    }

    /// Puts a model in use unjudged: one that ships, or that the operator decided on. Its revision.
    ///
    /// # Errors
    /// When the words are no model, or there is no room for one more AppID.
    pub fn install(&mut self, app: AppId, words: &[u32]) -> Result<u16, InstallError> {
        let model = Model::from_words(words, self.set)?;
        if !self.has_room(app) {
            return Err(InstallError::Full);
        }
        let versions = self.config.versions;
        Ok(self.lineages.entry(app).or_default().push(Origin::Installed, model, versions))
    }

    /// Goes back to the model before the one in use, whose revision it returns; `None`, and nothing changes, when there is
    /// none. The AppID is then on hold, so that training does not bring the same model back.
    pub fn roll_back(&mut self, app: AppId) -> Option<u16> {
        self.lineages.get_mut(&app)?.roll_back()
    }

    /// Stops or resumes the training of an AppID by itself. False when there is no model of it.
    pub fn hold(&mut self, app: AppId, held: bool) -> bool {
        self.lineages.get_mut(&app).map(|l| l.held = held).is_some()
    }

    /// Whether an AppID is on hold.
    pub fn is_held(&self, app: AppId) -> bool {
        self.lineages.get(&app).is_some_and(|l| l.held)
    }

    /// Asks for a training of an AppID at the next [`Trainer::step`], on hold or not. False when there are no samples of it.
    pub fn train(&mut self, app: AppId) -> bool {
        self.plans.get_mut(&app).map(|p| (p.asked, p.last) = (true, None)).is_some()
    }

    /// The model in use for an AppID.
    pub fn model(&self, app: AppId) -> Option<&Model> {
        self.lineages.get(&app)?.current().map(|v| &v.model)
    }

    /// The words of the identification-rule message for an AppID.
    pub fn parameters(&self, app: AppId) -> Option<Vec<u32>> {
        self.model(app).map(Model::to_words)
    }

    /// The AppIDs that have a model in use, with where it came from and its revision: what a gateway is sent when it registers.
    pub fn models(&self) -> impl Iterator<Item = (AppId, Origin, u16)> {
        self.lineages.iter().filter_map(|(app, l)| l.current().map(|v| (*app, v.origin, v.model.revision())))
    }

    /// The row that holds an AppID's models, in use and former, to be stored under the AppID.
    pub fn models_row(&self, app: AppId) -> Option<Vec<u8>> {
        self.lineages.get(&app).map(|l| l.encode(app))
    }

    /// Puts a stored row of models back after a restart.
    ///
    /// # Errors
    /// When it is not one, or there is no room.
    pub fn restore_models(&mut self, row: &[u8]) -> Result<AppId, LineageError> {
        let (app, lineage) = Lineage::decode(row, self.set, self.config.versions)?;
        if !self.has_room(app) {
            return Err(LineageError::Full);
        }
        self.lineages.insert(app, lineage);
        Ok(app)
    }

    /// When [`Trainer::step`] has something to do: now or earlier while it is at work, `None` when nothing is planned.
    pub fn deadline(&self) -> Option<Time> {
        if self.job.is_some() || !self.offers.is_empty() {
            return Some(Time::ZERO);
        }
        self.plans.iter().filter_map(|(app, plan)| self.due(*app, plan)).min()
    }

    /// Goes on with the work that is due at `now` until `budget` row passes are used up, one of which takes about a
    /// microsecond; starting and ending a training take some milliseconds at once. Call it again, at once if
    /// [`Trainer::deadline`] says so, for more.
    pub fn step(&mut self, now: Time, budget: usize) -> Option<Outcome> {
        let mut left = budget;
        let mut job = self.job.take().or_else(|| self.start(now))?;
        loop {
            match job.stage {
                Stage::Corroborate(ref mut work) => {
                    if !work.step(&mut job.snapshot, &mut left) {
                        break;
                    }
                    job.snapshot.weigh(false, self.config.source_share);
                    job.snapshot.weigh(true, self.config.source_share);
                    if let Some(why) = self.too_few(&job.snapshot) {
                        return Some(self.conclude(now, job, Err(why)));
                    }
                    if let Some(model) = job.offered.clone() {
                        return Some(self.conclude(now, job, Ok(model)));
                    }
                    let last = self.lineages.get(&job.app).and_then(Lineage::current);
                    let words = [job.app.0, last.map_or(0, |v| u32::from(v.model.revision()))];
                    let seed = hash(self.config.seed, words.into_iter());
                    let fit = Fit::new(&job.snapshot, work.spreads(), self.set, self.config.passes, seed);
                    job.stage = Stage::Fit(Box::new(fit));
                }
                Stage::Fit(ref mut fit) => {
                    if !fit.step(&mut left) {
                        break;
                    }
                    let model = fit.finish(&job.snapshot);
                    return Some(self.conclude(now, job, Ok(model)));
                }
            }
        }
        self.job = Some(job);
        None
    }

    fn admit(&mut self, now: Time, source: Source) -> Result<(), ReportError> {
        let TrainerConfig { interval, reports_per_source, max_sources, .. } = self.config;
        if !self.rates.contains_key(&source) && self.rates.len() >= max_sources {
            // Looked for now and then only: at the bound every report would otherwise cost a walk over all.
            if now < self.sweep {
                return Err(ReportError::Sources);
            }
            self.sweep = now + interval / 16;
            self.rates.retain(|_, window| !window.is_over(now, interval));
            if self.rates.len() >= max_sources {
                return Err(ReportError::Sources);
            }
        }
        let window = self.rates.entry(source).or_default();
        if window.admit(now, interval, reports_per_source) { Ok(()) } else { Err(ReportError::Rate) }
    }

    fn keep(&mut self, row: &SampleRow) -> Result<Option<u64>, ReportError> {
        let SampleRow { serial, held_out, .. } = *row;
        let sample = Sample { serial, held_out, features: row.features.as_slice().into() };
        let dropped = self.samples.keep(row.app, row.source, sample).map_err(|full| {
            self.counters.overfull += 1;
            match full {
                Full::Apps => ReportError::Apps,
                Full::AppsOfSource => ReportError::AppsOfSource,
            }
        })?;
        self.next_serial = self.next_serial.max(serial.saturating_add(1));
        if dropped.is_some() {
            self.counters.dropped += 1;
            self.prune_plans();
        }
        Ok(dropped)
    }

    /// Counts a new sample towards the next training.
    fn plan(&mut self, app: AppId) {
        let plan = self.plans.entry(app).or_default();
        plan.fresh = plan.fresh.saturating_add(1);
        let first = plan.last.is_none() && plan.fresh == self.config.min_fresh;
        if first && !self.lineages.contains_key(&app) {
            // The others' models were made when this AppID was not there to be told from.
            for (other, plan) in &mut self.plans {
                plan.stale |= *other != app && self.lineages.contains_key(other);
            }
        }
    }

    fn prune_plans(&mut self) {
        if self.plans.len() > self.samples.apps().len() {
            self.plans.retain(|app, _| self.samples.apps().contains_key(app));
        }
    }

    fn due(&self, app: AppId, plan: &Plan) -> Option<Time> {
        let by_itself = (plan.stale || plan.fresh >= self.config.min_fresh) && !self.is_held(app);
        (plan.asked || by_itself).then(|| plan.last.map_or(Time::ZERO, |last| last + self.config.pause))
    }

    fn start(&mut self, now: Time) -> Option<Job> {
        let (app, offered) = match self.offers.pop_front() {
            Some((app, model)) => (app, Some(model)),
            None => {
                let due = self.plans.iter().filter_map(|(app, plan)| Some((self.due(*app, plan)?, *app)));
                let (_, app) = due.min().filter(|(at, _)| *at <= now)?;
                if let Some(plan) = self.plans.get_mut(&app) {
                    *plan = Plan { last: Some(now), ..Plan::default() };
                }
                (app, None)
            }
        };
        let snapshot = self.snapshot(app);
        let stage = Stage::Corroborate(Corroboration::new(&snapshot));
        Some(Job { app, offered, snapshot, stage })
    }

    fn snapshot(&self, app: AppId) -> Snapshot {
        let TrainerConfig { positives, negatives, .. } = self.config;
        Snapshot::take(self.samples.apps(), app, self.set.len(), positives, negatives)
    }

    fn too_few(&self, snapshot: &Snapshot) -> Option<Refusal> {
        let count = |held_out, positive| snapshot.select(held_out, positive).count();
        let (own, others) = (count(false, true), count(false, false));
        let (own_held_out, others_held_out) = (count(true, true), count(true, false));
        let TrainerConfig { min_trained, min_held_out, .. } = self.config;
        let few =
            own.min(others) < min_trained.max(1) || own_held_out.min(others_held_out) < min_held_out.max(1);
        let contradicted = snapshot.rows.iter().filter(|r| !r.kept).count();
        few.then_some(Refusal::TooFew { own, others, own_held_out, others_held_out, contradicted })
    }

    fn conclude(&mut self, now: Time, job: Job, made: Result<Model, Refusal>) -> Outcome {
        let app = job.app;
        let origin = if job.offered.is_some() { Origin::Offered } else { Origin::Trained };
        if origin == Origin::Trained
            && let Some(plan) = self.plans.get_mut(&app)
        {
            plan.last = Some(now);
        }
        match made.and_then(|model| self.judge(app, origin, model, &job.snapshot)) {
            Ok((revision, score, before)) => {
                self.counters.accepted += 1;
                Outcome::Accepted { app, origin, revision, score, before }
            }
            Err(why) => {
                self.counters.refused += 1;
                Outcome::Refused { app, origin, why }
            }
        }
    }

    /// The gate: puts `model` in use if it costs less on the hold-out than what is in use.
    fn judge(
        &mut self,
        app: AppId,
        origin: Origin,
        model: Model,
        snapshot: &Snapshot,
    ) -> Result<(u16, Score, Option<Score>), Refusal> {
        let score = Score::of(&model, snapshot);
        let before = self.model(app).map(|current| Score::of(current, snapshot));
        match before {
            Some(current) if score.cost > current.cost - TIE => {
                return Err(Refusal::NoBetter { score, current });
            }
            None if score.cost >= self.config.first_cost => {
                return Err(Refusal::Poor { score, limit: self.config.first_cost });
            }
            _ => {}
        }
        if !self.has_room(app) {
            return Err(Refusal::Full);
        }
        let versions = self.config.versions;
        let revision = self.lineages.entry(app).or_default().push(origin, model, versions);
        Ok((revision, score, before))
    }

    fn has_room(&self, app: AppId) -> bool {
        self.lineages.contains_key(&app) || self.lineages.len() < self.config.max_apps
    }
}
