//! The models a gateway has, and one decision out of them.

use super::{FeatureSet, Model, check_features};
use crate::recognize::AppId;
use std::collections::BTreeMap;

/// When a set of models decides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModelSetConfig {
    /// Most models kept. A model of 256 words takes about 1.1 KB.
    pub max_models: usize,
    /// The best model's output must reach this.
    pub min_confidence: f32,
    /// The best output must be above every other model's output by this, where the flow is within that model's reach.
    pub margin: f32,
}

impl Default for ModelSetConfig {
    fn default() -> ModelSetConfig {
        ModelSetConfig { max_models: 256, min_confidence: 0.8, margin: 0.3 }
    }
}

/// Models by AppID, all of one feature set.
#[derive(Clone, Debug)]
pub struct ModelSet {
    set: FeatureSet,
    config: ModelSetConfig,
    models: BTreeMap<AppId, Model>,
    refused: u64,
}

impl ModelSet {
    /// No models yet.
    pub fn new(set: FeatureSet, config: ModelSetConfig) -> ModelSet {
        ModelSet { set, config, models: BTreeMap::new(), refused: 0 }
    }

    /// Takes a model in use; it replaces the AppID's model before it. False, and counted, when the set is full or the model
    /// is of another feature set.
    pub fn install(&mut self, app: AppId, model: Model) -> bool {
        let full = self.models.len() >= self.config.max_models && !self.models.contains_key(&app);
        if full || model.set() != self.set {
            self.refused += 1;
            return false;
        }
        self.models.insert(app, model);
        true
    }

    /// Takes a model out of use. Whether there was one.
    pub fn remove(&mut self, app: AppId) -> bool {
        self.models.remove(&app).is_some()
    }

    /// The model of an AppID.
    pub fn get(&self, app: AppId) -> Option<&Model> {
        self.models.get(&app)
    }

    /// How many models there are.
    pub fn len(&self) -> usize {
        self.models.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    /// How many models were not taken.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The AppID of a flow and the confidence in it, 0 to 1; `None` unless one model claims it clearly.
    ///
    /// Refusing costs coverage, a wrong claim costs trust: a flow that two models could claim is nobody's. A vector that
    /// is not of the feature set is not decided.
    pub fn classify(&self, features: &[f32]) -> Option<(AppId, f32)> {
        check_features(self.set, features).ok()?;
        let mut best: Option<(AppId, f32)> = None;
        let mut other = 0.0f32;
        for (&app, model) in &self.models {
            let Some((probability, claims)) = model.judge(features) else { continue };
            let leads = best.is_none_or(|(_, confidence)| probability > confidence);
            if claims && leads {
                other = other.max(best.map_or(0.0, |(_, confidence)| confidence));
                best = Some((app, probability));
            } else {
                other = other.max(probability);
            }
        }
        best.filter(|(_, c)| *c >= self.config.min_confidence && c - other >= self.config.margin)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::network::tests::ball, *};

    const SET: FeatureSet = FeatureSet::new(1, 4).expect("in range");

    fn set_of(models: &[(u32, Model)]) -> ModelSet {
        let mut set = ModelSet::new(SET, ModelSetConfig::default());
        for (app, model) in models {
            assert!(set.install(AppId(*app), model.clone()));
        }
        set
    }

    #[test]
    fn one_clear_claim_decides_and_anything_else_does_not() {
        let set = set_of(&[(1, ball(SET, 0.0, 1.0, 4.0)), (2, ball(SET, 10.0, 1.0, 4.0))]);
        assert_eq!(set.classify(&[0.2; 4]).unwrap().0, AppId(1));
        let (app, confidence) = set.classify(&[10.2; 4]).unwrap();
        assert_eq!(app, AppId(2));
        assert!(confidence > 0.97);
        assert_eq!(set.classify(&[5.0; 4]), None, "in nobody's reach");
        assert_eq!(set.classify(&[0.0; 3]), None);
        assert_eq!(set.classify(&[f32::NAN; 4]), None);
        assert_eq!(set_of(&[]).classify(&[0.0; 4]), None);
    }

    #[test]
    fn two_claims_within_the_margin_are_none() {
        let (a, b) = (ball(SET, 0.0, 1.0, 4.0), ball(SET, 1.0, 1.0, 3.0));
        for order in [[(1, a.clone()), (2, b.clone())], [(1, b), (2, a)]] {
            assert_eq!(set_of(&order).classify(&[0.5; 4]), None);
        }
        let weak = set_of(&[(1, ball(SET, 0.0, 1.0, 0.5))]);
        assert_eq!(weak.classify(&[0.0; 4]), None, "0.62 is below the confidence asked for");
        let clear = set_of(&[(1, ball(SET, 0.0, 1.0, 4.0)), (2, ball(SET, 0.0, 1.0, -1.0))]);
        assert_eq!(clear.classify(&[0.0; 4]).unwrap().0, AppId(1));
    }

    #[test]
    fn it_is_bounded_and_of_one_feature_set() {
        let config = ModelSetConfig { max_models: 3, ..ModelSetConfig::default() };
        let mut set = ModelSet::new(SET, config);
        for app in 0..10 {
            assert_eq!(set.install(AppId(app), ball(SET, 0.0, 1.0, 4.0)), app < 3);
        }
        assert_eq!((set.len(), set.refused()), (3, 7));
        assert!(set.install(AppId(1), ball(SET, 3.0, 1.0, 4.0)), "replacing is always possible");
        assert!(set.remove(AppId(1)) && !set.remove(AppId(1)));
        assert!(!set.install(AppId(1), ball(FeatureSet::new(2, 4).unwrap(), 0.0, 1.0, 4.0)));
        assert!(set.get(AppId(1)).is_none() && set.get(AppId(2)).is_some());
    }
}
