//! What an AppID's flows have looked like on this gateway, and which flow is worth a feature report (claim 2, S313).
//!
//! Only flows that a rule identified belong in here: a model that learnt from its own claims would confirm itself.

use super::{FeatureError, FeatureSet, check_features, network::CLAMP, rate::Window};
use crate::{counters::counters, recognize::AppId, time::Time};
use std::{collections::BTreeMap, time::Duration};

/// Bounds and thresholds of a [`History`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HistoryConfig {
    /// Most AppIDs remembered; the one not seen for longest makes room.
    pub max_apps: usize,
    /// Flows of an AppID that are new in any case and reported as such, before drift means anything.
    pub learn: u32,
    /// How many flows the history weighs: older ones fade with this length.
    pub memory: u32,
    /// Drift above this is reported. 1 is an ordinary flow, 5 the most there is.
    pub drift_limit: f32,
    /// The interval of the two limits below.
    pub interval: Duration,
    /// Most reports an interval for one AppID.
    pub reports_per_app: u32,
    /// Most reports an interval in all.
    pub reports_in_all: u32,
}

impl Default for HistoryConfig {
    fn default() -> HistoryConfig {
        HistoryConfig {
            max_apps: 256,
            learn: 16,
            memory: 128,
            drift_limit: 2.0,
            interval: Duration::from_secs(600),
            reports_per_app: 8,
            reports_in_all: 64,
        }
    }
}

/// Why the features of a flow should be reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The AppID has hardly any history here.
    New,
    /// The flow differs much from the AppID's history.
    Drift,
}

/// What one flow meant to the history.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// How far it was from the history before it: 0 to 5, 1 being ordinary; 0 while there is none.
    pub drift: f32,
    /// Why to report its features, unless there is no reason or the limits are used up.
    pub report: Option<Reason>,
}

counters! {
    /// What a history did so far.
    pub struct HistoryCounters {
        flows: "Flows taken in.",
        reports: "Reports asked for.",
        suppressed: "Reports that a limit kept back.",
        forgotten: "AppIDs forgotten to make room.",
        malformed: "Vectors that were not of the feature set.",
    }
}

/// Running means and variances per AppID. See [`History::bytes_per_app`] for its size.
#[derive(Clone, Debug)]
pub struct History {
    set: FeatureSet,
    config: HistoryConfig,
    apps: BTreeMap<AppId, Record>,
    all: Window,
    counters: HistoryCounters,
}

#[derive(Clone, Debug)]
struct Record {
    flows: u32,
    seen: Time,
    window: Window,
    /// Means, then variances.
    moments: Box<[f32]>,
}

impl History {
    /// Nothing seen yet.
    pub fn new(set: FeatureSet, config: HistoryConfig) -> History {
        let counters = HistoryCounters::default();
        History { set, config, apps: BTreeMap::new(), all: Window::default(), counters }
    }

    /// Octets that one AppID takes: two binary32 a feature and the record's head; with 60 features 532.
    pub const fn bytes_per_app(set: FeatureSet) -> usize {
        2 * size_of::<f32>() * set.len() + size_of::<AppId>() + size_of::<Record>()
    }

    /// How many AppIDs are remembered.
    pub fn len(&self) -> usize {
        self.apps.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.apps.is_empty()
    }

    /// What happened so far.
    pub fn counters(&self) -> HistoryCounters {
        self.counters
    }

    /// How far a flow of `app` is from its history: the root mean square, over the features, of the deviation in
    /// standard deviations (at most 5 each). 1 is ordinary. 0 for an AppID with no history yet.
    ///
    /// # Errors
    /// When `features` is not a vector of the set.
    pub fn drift(&self, app: AppId, features: &[f32]) -> Result<f32, FeatureError> {
        check_features(self.set, features)?;
        Ok(self.apps.get(&app).map_or(0.0, |r| r.drift(features, self.config.learn)))
    }

    /// Takes in the features of a flow that a rule identified as `app`, and says whether to report them.
    ///
    /// A flow that drifts is taken in like any other, held within five deviations, so the history follows a change that
    /// stays and hardly moves for a flow that was odd.
    ///
    /// # Errors
    /// When `features` is not a vector of the set; it is counted and nothing else changes.
    pub fn observe(&mut self, now: Time, app: AppId, features: &[f32]) -> Result<Observation, FeatureError> {
        if let Err(error) = check_features(self.set, features) {
            self.counters.malformed += 1;
            return Err(error);
        }
        self.make_room(app);
        let config = self.config;
        let n = self.set.len();
        let record = self.apps.entry(app).or_insert_with(|| Record {
            flows: 0,
            seen: now,
            window: Window::default(),
            moments: vec![0.0; 2 * n].into(),
        });
        let drift = record.drift(features, config.learn);
        let reason = if record.flows < config.learn {
            Some(Reason::New)
        } else {
            (drift > config.drift_limit).then_some(Reason::Drift)
        };
        record.absorb(now, features, &config);
        self.counters.flows += 1;
        // The AppID's own limit first: one noisy AppID must not use up what is there for all.
        let report = reason.filter(|_| {
            record.window.admit(now, config.interval, config.reports_per_app)
                && self.all.admit(now, config.interval, config.reports_in_all)
        });
        self.counters.reports += u64::from(report.is_some());
        self.counters.suppressed += u64::from(reason.is_some() && report.is_none());
        Ok(Observation { drift, report })
    }

    fn make_room(&mut self, app: AppId) {
        if self.apps.contains_key(&app) || self.apps.len() < self.config.max_apps.max(1) {
            return;
        }
        let oldest = self.apps.iter().min_by_key(|(_, r)| r.seen).map(|(app, _)| *app);
        if let Some(oldest) = oldest {
            self.apps.remove(&oldest);
            self.counters.forgotten += 1;
        }
    }
}

impl Record {
    fn drift(&self, features: &[f32], learn: u32) -> f32 {
        if self.flows < learn.max(2) {
            return 0.0;
        }
        let (means, variances) = self.moments.split_at(features.len());
        let sum: f32 = features
            .iter()
            .zip(means)
            .zip(variances)
            .map(|((x, mean), variance)| {
                let z = (x - mean) / deviation(*mean, *variance);
                z.clamp(-CLAMP, CLAMP).powi(2)
            })
            .sum();
        (sum / features.len() as f32).sqrt()
    }

    fn absorb(&mut self, now: Time, features: &[f32], config: &HistoryConfig) {
        let settled = self.flows >= config.learn.max(2);
        self.flows = self.flows.saturating_add(1).min(config.memory.max(2));
        self.seen = now;
        let rate = 1.0 / self.flows as f32;
        let (means, variances) = self.moments.split_at_mut(features.len());
        for ((x, mean), variance) in features.iter().zip(means).zip(variances) {
            let mut step = x - *mean;
            if settled {
                let most = CLAMP * deviation(*mean, *variance);
                step = step.clamp(-most, most);
            }
            *mean += rate * step;
            *variance = (1.0 - rate) * (*variance + rate * step * step);
        }
    }
}

/// The standard deviation, with a floor: a feature that never varied still may, a little, without being far off.
fn deviation(mean: f32, variance: f32) -> f32 {
    variance.sqrt().max(0.02 * mean.abs()).max(0.01)
}

#[cfg(test)]
mod tests {
    use super::{super::random::Random, *};

    const SET: FeatureSet = FeatureSet::new(1, 8).expect("in range");
    const APP: AppId = AppId(7);

    fn at(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    fn flow(random: &mut Random, centre: f32) -> Vec<f32> {
        (0..8).map(|_| centre + random.signed()).collect()
    }

    fn learnt(random: &mut Random) -> History {
        let mut history = History::new(SET, HistoryConfig::default());
        for _ in 0..100 {
            history.observe(at(0), APP, &flow(random, 3.0)).unwrap();
        }
        history
    }

    #[test]
    fn ordinary_flows_stay_quiet_and_a_changed_one_is_reported() {
        let mut random = Random::new(1);
        let mut history = learnt(&mut random);
        assert_eq!(history.counters().reports, 8, "the first flows are new, up to the limit");
        let before = history.counters();
        for i in 0..200 {
            let seen = history.observe(at(1000 + i), APP, &flow(&mut random, 3.0)).unwrap();
            assert!(seen.report.is_none() && seen.drift < 2.0, "{seen:?}");
        }
        assert_eq!(history.counters().reports, before.reports);
        let odd = flow(&mut random, 6.0);
        assert!(history.drift(APP, &odd).unwrap() > 2.0);
        let seen = history.observe(at(2000), APP, &odd).unwrap();
        assert_eq!(seen.report, Some(Reason::Drift));
        assert!(history.drift(APP, &flow(&mut random, 3.0)).unwrap() < 2.0, "one odd flow changes little");
        assert_eq!(history.drift(AppId(8), &odd), Ok(0.0), "no history, no drift");
    }

    #[test]
    fn a_change_that_stays_becomes_the_history() {
        let mut random = Random::new(2);
        let mut history = learnt(&mut random);
        for _ in 0..400 {
            history.observe(at(10), APP, &flow(&mut random, 6.0)).unwrap();
        }
        assert!(history.drift(APP, &flow(&mut random, 6.0)).unwrap() < 2.0);
        assert!(history.drift(APP, &flow(&mut random, 3.0)).unwrap() > 2.0);
    }

    #[test]
    fn reports_are_limited_by_app_and_in_all() {
        let mut history = History::new(
            SET,
            HistoryConfig { learn: 1000, reports_per_app: 3, reports_in_all: 10, ..HistoryConfig::default() },
        );
        let mut reports = |now: Time, apps: std::ops::Range<u32>| {
            let mut count = 0;
            for app in apps {
                for _ in 0..50 {
                    let seen = history.observe(now, AppId(app), &[1.0; 8]).unwrap();
                    count += u32::from(seen.report.is_some());
                }
            }
            count
        };
        assert_eq!(reports(at(1), 0..1), 3);
        assert_eq!(reports(at(2), 0..20), 7, "ten in all, three of them gone before");
        assert_eq!(reports(at(601), 0..1), 3, "a new interval");
        assert_eq!(reports(at(602), 0..1), 0);
        let counters = history.counters();
        assert_eq!((counters.reports, counters.suppressed), (13, counters.flows - 13));
    }

    #[test]
    fn it_remembers_a_bounded_number_of_apps() {
        let mut history = History::new(SET, HistoryConfig { max_apps: 4, ..HistoryConfig::default() });
        for app in 0..100 {
            history.observe(at(u64::from(app)), AppId(app), &[1.0; 8]).unwrap();
            assert!(history.len() <= 4);
        }
        assert_eq!(history.counters().forgotten, 96);
        let with_60 = FeatureSet::new(1, 60).unwrap();
        assert_eq!(History::bytes_per_app(with_60), 532, "the documented size");
    }

    #[test]
    fn what_is_no_vector_changes_nothing() {
        let mut history = learnt(&mut Random::new(3));
        let before = history.apps[&APP].moments.clone();
        for bad in [&[1.0; 7][..], &[f32::NAN; 8], &[f32::INFINITY; 8], &[1.0e7; 8]] {
            assert!(history.observe(at(1), APP, bad).is_err());
            assert!(history.drift(APP, bad).is_err());
        }
        assert_eq!(history.apps[&APP].moments, before);
        assert_eq!(history.counters().malformed, 4);
    }

    #[test]
    fn the_largest_features_stay_finite() {
        let mut history = History::new(SET, HistoryConfig::default());
        for i in 0..500 {
            let sign = if i % 3 == 0 { -1.0 } else { 1.0 };
            let seen = history.observe(at(i), APP, &[sign * 1.0e6; 8]).unwrap();
            assert!(seen.drift.is_finite());
        }
        assert!(history.apps[&APP].moments.iter().all(|m| m.is_finite()));
    }
}
