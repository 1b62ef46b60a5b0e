//! The model of one AppID: standardised features, one hidden tanh layer, one logistic output.
//!
//! Features are standardised by the AppID's own flows (centre and scale), and clamped, so that the mean of the
//! standardised magnitudes is a distance from the application. A flow outside the model's reach is never claimed, whatever
//! the network says of a region in which it was never trained.

use super::{FeatureSet, MAX_WORDS, check_features, words::HEAD_WORDS};

/// Most hidden units a model has.
pub const MAX_HIDDEN: usize = 8;

/// Standardised features are held within this many scales of the centre.
pub(super) const CLAMP: f32 = 5.0;

/// How many hidden units a model that looks at `features` features can have within 256 words: 1 to [`MAX_HIDDEN`].
pub const fn hidden_that_fit(features: usize) -> usize {
    let mut hidden = MAX_HIDDEN;
    while hidden > 0 && HEAD_WORDS + parameter_count(features, hidden) > MAX_WORDS {
        hidden -= 1;
    }
    hidden
}

/// Words after the head: threshold, reach, standardisation, weights; of the features that are looked at.
pub(super) const fn parameter_count(features: usize, hidden: usize) -> usize {
    2 + 2 * features + weight_count(features, hidden)
}

/// Weights and biases alone, as they stand in the words: hidden rows, hidden biases, output weights, output bias.
pub(super) const fn weight_count(features: usize, hidden: usize) -> usize {
    hidden * features + 2 * hidden + 1
}

/// What a model says of one flow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Assessment {
    /// The network's output, 0 to 1.
    pub probability: f32,
    /// Mean standardised distance from the AppID's centre, 0 to 5.
    pub distance: f32,
    /// Whether the model claims the flow: probability at or above its threshold, distance within its reach.
    pub claims: bool,
}

/// The parameters that identify one AppID. They are valid by construction: see [`Model::from_words`].
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    set: FeatureSet,
    revision: u16,
    hidden: u8,
    /// The features it looks at, as a bit each.
    looks_at: u64,
    /// Threshold, reach, centres, scales, weights: the words after the head, as numbers.
    parameters: Box<[f32]>,
}

impl Model {
    /// The feature set it is for.
    pub fn set(&self) -> FeatureSet {
        self.set
    }

    /// Its revision: 12 bits, a label that tells one model of an AppID from the next.
    pub fn revision(&self) -> u16 {
        self.revision
    }

    /// How many hidden units it has.
    pub fn hidden(&self) -> usize {
        self.hidden as usize
    }

    /// The features it looks at, the first being bit 0: one at least, none beyond the set.
    pub fn looks_at(&self) -> u64 {
        self.looks_at
    }

    /// What it says of a flow, or `None` when `features` is not a vector of its set.
    pub fn assess(&self, features: &[f32]) -> Option<Assessment> {
        check_features(self.set, features).ok()?;
        let mut z = [0.0; super::MAX_FEATURES];
        let distance = self.standardise(features, &mut z);
        let probability = self.output(&z);
        Some(Assessment { probability, distance, claims: self.accepts(probability, distance) })
    }

    /// The output for a vector of the model's set, unless it is beyond the model's reach; with whether that is a claim.
    pub(super) fn judge(&self, features: &[f32]) -> Option<(f32, bool)> {
        let mut z = [0.0; super::MAX_FEATURES];
        let distance = self.standardise(features, &mut z);
        // Most flows are beyond most models' reach: that spares the network.
        (distance <= self.parameters[1]).then(|| {
            let probability = self.output(&z);
            (probability, self.accepts(probability, distance))
        })
    }

    /// The network's output for standardised features.
    fn output(&self, z: &[f32]) -> f32 {
        let mut hidden = [0.0; MAX_HIDDEN];
        logistic(forward(self.weights(), &z[..self.width()], &mut hidden[..self.hidden()]))
    }

    /// How many features it looks at.
    pub(super) fn width(&self) -> usize {
        self.looks_at.count_ones() as usize
    }

    /// The mean standardised distance of `features`, a vector of the model's set, from the AppID's centre. `z`, which has
    /// at least the model's width, receives the standardised features that the model looks at.
    pub(super) fn standardise(&self, features: &[f32], z: &mut [f32]) -> f32 {
        let n = self.width();
        let (centres, rest) = self.parameters[2..].split_at(n);
        let mut sum = 0.0;
        let mut left = self.looks_at;
        for ((z, centre), scale) in z.iter_mut().zip(centres).zip(&rest[..n]) {
            let x = features[left.trailing_zeros() as usize];
            left &= left - 1;
            *z = ((x - centre) / scale).clamp(-CLAMP, CLAMP);
            sum += z.abs();
        }
        sum / n as f32
    }

    fn accepts(&self, probability: f32, distance: f32) -> bool {
        probability >= self.parameters[0] && distance <= self.parameters[1]
    }

    pub(super) fn with_revision(mut self, revision: u16) -> Model {
        self.revision = revision;
        self
    }

    pub(super) fn parameters(&self) -> &[f32] {
        &self.parameters
    }

    pub(super) fn weights(&self) -> &[f32] {
        &self.parameters[2 + 2 * self.width()..]
    }

    /// A model of revision 0. `looks_at` is not empty and within the set; the parameters are finite, bounded, of the right
    /// number and not [`Model::misplaced`].
    pub(super) fn from_parts(set: FeatureSet, looks_at: u64, hidden: usize, parameters: Vec<f32>) -> Model {
        debug_assert_eq!(parameters.len(), parameter_count(looks_at.count_ones() as usize, hidden));
        Model { set, revision: 0, hidden: hidden as u8, looks_at, parameters: parameters.into() }
    }

    /// The first parameter that is finite but has no meaning at its place: threshold, reach, scale.
    pub(super) fn misplaced(parameters: &[f32], features: usize) -> Option<usize> {
        if !(0.0..=1.0).contains(&parameters[0]) {
            return Some(0);
        }
        if parameters[1] < 0.0 {
            return Some(1);
        }
        let scales = 2 + features..2 + 2 * features;
        scales.into_iter().find(|&i| parameters[i] < f32::MIN_POSITIVE)
    }
}

/// The network's output before the logistic function; `hidden` receives the hidden units' outputs.
pub(super) fn forward(weights: &[f32], z: &[f32], hidden: &mut [f32]) -> f32 {
    let (rows, rest) = weights.split_at(hidden.len() * z.len());
    let (biases, rest) = rest.split_at(hidden.len());
    let mut output = rest[hidden.len()];
    for (h, unit) in hidden.iter_mut().enumerate() {
        let row = &rows[h * z.len()..(h + 1) * z.len()];
        let sum = row.iter().zip(z).fold(biases[h], |sum, (w, z)| sum + w * z);
        *unit = sum.tanh();
        output += rest[h] * *unit;
    }
    output
}

/// The logistic function, without overflow for any finite input.
pub(super) fn logistic(x: f32) -> f32 {
    1.0 / (1.0 + (-x.clamp(-60.0, 60.0)).exp())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn all(set: FeatureSet) -> u64 {
        u64::MAX >> (64 - set.len())
    }

    /// A model of some parameters, all different.
    pub(in crate::recognize::model) fn sample_model(set: FeatureSet, revision: u16) -> Model {
        let hidden = hidden_that_fit(set.len());
        let count = parameter_count(set.len(), hidden);
        let mut parameters: Vec<f32> = (0..count).map(|i| (i as f32 * 0.37).sin()).collect();
        (parameters[0], parameters[1]) = (0.75, 1.5);
        for scale in &mut parameters[2 + set.len()..2 + 2 * set.len()] {
            *scale = scale.abs() + 0.01;
        }
        Model::from_parts(set, all(set), hidden, parameters).with_revision(revision)
    }

    /// Claims what is within `reach` of `centre` on every feature, scale 1, whatever the network (which says `bias`).
    pub(in crate::recognize::model) fn ball(set: FeatureSet, centre: f32, reach: f32, bias: f32) -> Model {
        let n = set.len();
        let mut parameters = vec![0.0; parameter_count(n, 1)];
        (parameters[0], parameters[1]) = (0.5, reach);
        parameters[2..2 + n].fill(centre);
        parameters[2 + n..2 + 2 * n].fill(1.0);
        *parameters.last_mut().unwrap() = bias;
        Model::from_parts(set, all(set), 1, parameters)
    }

    #[test]
    fn one_unit_by_hand() {
        let set = FeatureSet::new(1, 4).unwrap();
        // threshold, reach, centres, scales, w, bias, output weight, output bias; of the second and the last feature
        let parameters = vec![0.6, 1.0, 10.0, 0.0, 2.0, 1.0, 0.5, -1.0, 0.25, 2.0, -0.5];
        let model = Model::from_parts(set, 0b1010, 1, parameters);
        let got = model.assess(&[7.0, 12.0, 7.0, 0.5]).unwrap();
        let expected = 1.0 / (1.0 + (-(2.0 * (0.5f32 - 0.5 + 0.25).tanh() - 0.5)).exp());
        assert!((got.probability - expected).abs() < 1e-6);
        assert_eq!(got.distance, 0.75);
        assert!(!got.claims, "below the threshold");
        assert_eq!(model.assess(&[0.0, 1.0e6, 0.0, -1.0e6]).unwrap().distance, CLAMP);
    }

    #[test]
    fn a_vector_of_another_shape_is_not_assessed() {
        let set = FeatureSet::new(1, 2).unwrap();
        let model = sample_model(set, 1);
        assert_eq!(model.assess(&[1.0]), None);
        assert_eq!(model.assess(&[1.0; 3]), None);
        assert_eq!(model.assess(&[1.0, f32::NAN]), None);
        assert_eq!(model.assess(&[1.0, 1.0e7]), None);
    }

    #[test]
    fn a_model_does_not_claim_beyond_its_reach() {
        let set = FeatureSet::new(1, 4).unwrap();
        let model = ball(set, 0.0, 1.0, 9.0);
        assert!(model.assess(&[0.9; 4]).unwrap().claims);
        let far = model.assess(&[1.1; 4]).unwrap();
        assert!(far.probability > 0.99 && !far.claims);
    }

    #[test]
    fn hidden_units_fit_the_message() {
        let fits = [1, 24, 30, 32, 40, 64].map(|n| (n, hidden_that_fit(n)));
        assert_eq!(fits, [(1, 8), (24, 7), (30, 5), (32, 5), (40, 4), (64, 1)]);
    }
}
