//! Training one model: standardisation, back-propagation, threshold.

use super::{
    FeatureSet, Model,
    gate::Cost,
    hidden_that_fit,
    network::{CLAMP, forward, logistic, parameter_count, weight_count},
    random::Random,
    snapshot::{Snapshot, quantile},
};
use std::collections::BTreeMap;

/// Rows a gradient is taken over.
const BATCH: usize = 32;
/// Step size at the start; it falls to a tenth in a straight line.
const RATE: f32 = 0.02;
/// How much of each weight is lost in a step of size 1, so that none grows for nothing.
const DECAY: f32 = 1.0e-3;
/// Features a model looks at, at most: those that hold the AppID's flows and the others' farthest apart.
const LOOKS_AT: usize = 32;
/// Thresholds tried.
const THRESHOLDS: [f32; 9] = [0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99];

/// A training under way. The same snapshot and seed give the same model.
#[derive(Clone, Debug)]
pub(super) struct Fit {
    /// A model with its features, standardisation and reach, and no weights yet.
    frame: Model,
    /// The rows of the training side: standardised features, weight, label.
    inputs: Vec<f32>,
    rows: Vec<Target>,
    order: Vec<u32>,
    weights: Vec<f32>,
    gradient: Vec<f32>,
    /// Adam's running means of the gradient and of its square.
    moments: Vec<[f32; 2]>,
    random: Random,
    passes: usize,
    done: usize,
    others: usize,
}

#[derive(Clone, Copy, Debug)]
struct Target {
    row: usize,
    positive: bool,
    weight: f32,
}

impl Fit {
    /// Prepares a training on the training side of `snapshot`, which is weighed and has rows of both labels, with at most about
    /// `passes` row passes. `spreads` are those of the features over all rows.
    pub(super) fn new(
        snapshot: &Snapshot,
        spreads: &[f32],
        set: FeatureSet,
        passes: usize,
        seed: u64,
    ) -> Fit {
        let frame = frame(snapshot, spreads, set);
        let (n, hidden) = (frame.width(), frame.hidden());
        let rows: Vec<Target> = [true, false]
            .into_iter()
            .flat_map(|positive| {
                let rows: Vec<usize> = snapshot.select(false, positive).collect();
                let total: f32 = rows.iter().map(|r| snapshot.rows[*r].weight).sum();
                rows.into_iter().map(move |row| Target {
                    row,
                    positive,
                    weight: snapshot.rows[row].weight / total,
                })
            })
            .collect();
        let mut inputs = vec![0.0; rows.len() * n];
        for (target, z) in rows.iter().zip(inputs.chunks_exact_mut(n)) {
            frame.standardise(snapshot.features(target.row), z);
        }
        let mut random = Random::new(seed);
        let mut weights: Vec<f32> = (0..weight_count(n, hidden)).map(|_| random.signed()).collect();
        let (inner, outer) = weights.split_at_mut(hidden * n);
        inner.iter_mut().for_each(|w| *w *= (1.0 / n as f32).sqrt());
        outer.iter_mut().for_each(|w| *w *= 0.5);
        let epochs = (passes / rows.len().max(1)).clamp(20, 400);
        Fit {
            frame,
            order: (0..rows.len() as u32).collect(),
            passes: epochs * rows.len(),
            inputs,
            rows,
            gradient: vec![0.0; weights.len()],
            moments: vec![[0.0; 2]; weights.len()],
            weights,
            random,
            done: 0,
            others: snapshot.others(),
        }
    }

    /// Goes on until `budget` row passes are used up. True when the training is over.
    pub(super) fn step(&mut self, budget: &mut usize) -> bool {
        while self.done < self.passes && *budget > 0 {
            let at = self.done % self.rows.len();
            if at == 0 {
                self.shuffle();
            }
            let size = BATCH.min(self.rows.len() - at);
            self.batch(at, size);
            self.done += size;
            *budget = budget.saturating_sub(size);
        }
        self.done >= self.passes
    }

    /// The trained model, with the threshold that costs least on the training side.
    pub(super) fn finish(&self, snapshot: &Snapshot) -> Model {
        let mut parameters = self.frame.parameters().to_vec();
        let start = parameters.len() - self.weights.len();
        parameters[start..].copy_from_slice(&self.weights);
        // Trained with both labels at equal weight; in use the other AppIDs together are so many times more likely.
        if let Some(bias) = parameters.last_mut() {
            *bias -= (self.others.max(1) as f32).ln();
        }
        let with = |threshold: f32| {
            let mut parameters = parameters.clone();
            parameters[0] = threshold;
            Model::from_parts(self.frame.set(), self.frame.looks_at(), self.frame.hidden(), parameters)
        };
        let costs = THRESHOLDS.map(|t| Cost::of(&with(t), snapshot, false).total());
        let least = costs.iter().copied().fold(f32::INFINITY, f32::min);
        let best: Vec<f32> =
            THRESHOLDS.into_iter().zip(costs).filter(|(_, c)| *c <= least + 1.0e-6).map(|(t, _)| t).collect();
        // The middle of those that are equally good is the farthest from both kinds of error.
        with(best[best.len() / 2])
    }

    fn shuffle(&mut self) {
        for i in (1..self.order.len()).rev() {
            self.order.swap(i, self.random.below(i + 1));
        }
    }

    fn batch(&mut self, at: usize, size: usize) {
        let (n, hidden) = (self.frame.width(), self.frame.hidden());
        self.gradient.fill(0.0);
        let scale = self.rows.len() as f32 / (2 * size) as f32;
        for i in at..at + size {
            let row = self.order[i] as usize;
            let target = self.rows[row];
            let z = &self.inputs[row * n..(row + 1) * n];
            back_propagate(
                &self.weights,
                z,
                hidden,
                target.positive,
                target.weight * scale,
                &mut self.gradient,
            );
        }
        let step = (self.done / BATCH + 1) as i32;
        let rate = RATE * (1.0 - 0.9 * self.done as f32 / self.passes as f32);
        let warm = [1.0 - 0.9f32.powi(step), 1.0 - 0.999f32.powi(step)];
        for ((w, g), [mean, square]) in self.weights.iter_mut().zip(&self.gradient).zip(&mut self.moments) {
            *mean = 0.9 * *mean + 0.1 * g;
            *square = 0.999 * *square + 0.001 * g * g;
            *w -= rate * (*mean / warm[0] / ((*square / warm[1]).sqrt() + 1.0e-8) + DECAY * *w);
        }
    }
}

/// Adds the gradient of the weighted cross-entropy of one row.
fn back_propagate(
    weights: &[f32],
    z: &[f32],
    hidden: usize,
    positive: bool,
    weight: f32,
    gradient: &mut [f32],
) {
    let mut units = [0.0; super::MAX_HIDDEN];
    let units = &mut units[..hidden];
    let output = logistic(forward(weights, z, units));
    let error = weight * (output - f32::from(u8::from(positive)));
    let (rows, rest) = gradient.split_at_mut(hidden * z.len());
    let (biases, rest) = rest.split_at_mut(hidden);
    let outer = &weights[hidden * z.len() + hidden..];
    for (h, unit) in units.iter().enumerate() {
        rest[h] += error * unit;
        let inner = error * outer[h] * (1.0 - unit * unit);
        biases[h] += inner;
        for (g, z) in rows[h * z.len()..(h + 1) * z.len()].iter_mut().zip(z) {
            *g += inner * z;
        }
    }
    rest[hidden] += error;
}

/// The features to look at, standardisation and reach, from the training side.
fn frame(snapshot: &Snapshot, spreads: &[f32], set: FeatureSet) -> Model {
    let rows: Vec<usize> = snapshot.select(false, true).collect();
    let own = snapshot.spreads(&rows);
    let others: Vec<usize> = snapshot.select(false, false).collect();
    let mut candidates: Vec<Candidate> = (0..set.len())
        .map(|feature| {
            let value = |row: &usize| (snapshot.features(*row)[feature], snapshot.rows[*row].weight);
            let centre = quantile(&mut rows.iter().map(value).collect::<Vec<_>>(), 0.5);
            // What never varied in this AppID may vary a little in use.
            let scale = own[feature].max(0.1 * spreads[feature]).max(1.0e-3);
            let away = |(x, weight): (f32, f32)| weight * ((x - centre) / scale).abs().min(CLAMP);
            Candidate { feature, centre, scale, apart: others.iter().map(value).map(away).sum() }
        })
        .collect();
    candidates.sort_by(|a, b| b.apart.total_cmp(&a.apart));
    candidates.truncate(LOOKS_AT);
    candidates.sort_by_key(|c| c.feature);
    let looks_at = candidates.iter().fold(0, |bits, c| bits | 1u64 << c.feature);
    let n = candidates.len();
    let hidden = hidden_that_fit(n);
    let mut parameters = vec![0.0; parameter_count(n, hidden)];
    parameters[1] = CLAMP;
    for (i, candidate) in candidates.iter().enumerate() {
        parameters[2 + i] = candidate.centre;
        parameters[2 + n + i] = candidate.scale;
    }
    let open = Model::from_parts(set, looks_at, hidden, parameters.clone());
    parameters[1] = reach(&open, snapshot, &rows);
    Model::from_parts(set, looks_at, hidden, parameters)
}

/// A feature, standardised by the AppID's own flows, and how far apart it holds those of others.
struct Candidate {
    feature: usize,
    centre: f32,
    scale: f32,
    apart: f32,
}

/// How far from the centre the AppID's flows go, as two sources agree: of the distances within which 98 in 100 of each
/// source's flows lie, the second largest, and a quarter more. With one source its own.
fn reach(model: &Model, snapshot: &Snapshot, rows: &[usize]) -> f32 {
    let mut z = vec![0.0; model.width()];
    let mut by_source: BTreeMap<_, Vec<(f32, f32)>> = BTreeMap::new();
    for &row in rows {
        let distance = model.standardise(snapshot.features(row), &mut z);
        by_source.entry(snapshot.rows[row].source).or_default().push((distance, 1.0));
    }
    let mut reaches: Vec<f32> = by_source.values_mut().map(|d| quantile(d, 0.98)).collect();
    reaches.sort_unstable_by(|a, b| b.total_cmp(a));
    let agreed = reaches.get(1).or(reaches.first()).copied().unwrap_or(0.0);
    (1.25 * agreed).max(0.1)
}

#[cfg(test)]
pub(super) mod tests {
    use super::{super::snapshot::tests::apps_of, *};
    use crate::recognize::AppId;

    const SET: FeatureSet = FeatureSet::new(1, 6).expect("in range");

    /// App 1 is a ring that no straight line cuts out: features 0 and 1 of equal sign. App 2 is of different sign.
    pub(in crate::recognize::model) fn xor(seed: u64, count: usize) -> Vec<(u32, u64, Vec<f32>)> {
        let mut random = Random::new(seed);
        (0..count)
            .map(|i| {
                let mut f: Vec<f32> = (0..6).map(|_| random.signed()).collect();
                let app = if f[0] * f[1] > 0.0 { 1 } else { 2 };
                // A gap, so that it can be told at all.
                for x in &mut f[..2] {
                    *x += 0.15 * x.signum();
                }
                (app, (i % 5) as u64, f)
            })
            .collect()
    }

    fn train(seed: u64, step: usize) -> (Model, Snapshot) {
        let mut snapshot = Snapshot::take(&apps_of(&xor(7, 800)), AppId(1), 6, 512, 1536);
        snapshot.weigh(false, 0.25);
        snapshot.weigh(true, 0.25);
        let mut fit = Fit::new(&snapshot, &[1.0; 6], SET, 60_000, seed);
        while !fit.step(&mut { step }) {}
        (fit.finish(&snapshot), snapshot)
    }

    #[test]
    fn it_learns_what_no_line_separates() {
        for seed in 1..=3 {
            let (model, snapshot) = train(seed, usize::MAX);
            let cost = Cost::of(&model, &snapshot, true);
            assert!(cost.missed < 0.08 && cost.claimed < 0.05, "seed {seed}: {cost:?}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_model_in_steps_of_any_size() {
        let (whole, _) = train(1, usize::MAX);
        let (pieces, _) = train(1, 77);
        assert_eq!(whole.to_words(), pieces.to_words());
        assert_ne!(whole.to_words(), train(2, usize::MAX).0.to_words());
    }

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        let mut random = Random::new(8);
        let (n, hidden) = (5, 3);
        let weights: Vec<f32> = (0..weight_count(n, hidden)).map(|_| random.signed()).collect();
        let z: Vec<f32> = (0..n).map(|_| random.signed()).collect();
        let loss = |w: &[f32]| {
            let p = logistic(forward(w, &z, &mut [0.0; 3])) as f64;
            -p.ln() * 2.0
        };
        let mut gradient = vec![0.0; weights.len()];
        back_propagate(&weights, &z, hidden, true, 2.0, &mut gradient);
        for i in 0..weights.len() {
            let moved = |by: f32| {
                let mut w = weights.clone();
                w[i] += by;
                loss(&w)
            };
            let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            assert!((slope - f64::from(gradient[i])).abs() < 2e-3, "{i}: {slope} {}", gradient[i]);
        }
    }

    #[test]
    fn no_single_source_decides_how_far_a_model_reaches() {
        let mut random = Random::new(5);
        let mut list = Vec::new();
        for i in 0..400u32 {
            let (app, source) = (1 + i % 2, u64::from(i / 8 % 4));
            // Source 0 says that the flows of app 1 go much farther.
            let width = if app == 1 && source == 0 { 6.0 } else { 1.0 };
            list.push((app, source, (0..6).map(|_| 4.0 * app as f32 + width * random.signed()).collect()));
        }
        let reach = |list: &[_]| {
            let mut snapshot = Snapshot::take(&apps_of(list), AppId(1), 6, 512, 1536);
            snapshot.weigh(false, 0.25);
            let model = Fit::new(&snapshot, &[1.0; 6], SET, 0, 1).finish(&snapshot);
            (f32::from_bits(model.to_words()[6]), model.assess(&[7.5; 6]).unwrap().claims)
        };
        let (with, claims) = reach(&list);
        list.retain(|(_, source, _)| *source != 0);
        let (without, _) = reach(&list);
        assert!((with - without).abs() < 0.3 * without && !claims, "{with} {without}");
    }

    #[test]
    fn a_constant_feature_and_the_largest_values_give_a_valid_model() {
        let mut list: Vec<(u32, u64, Vec<f32>)> = Vec::new();
        for i in 0..80u32 {
            let app = 1 + i % 2;
            let big = if app == 1 { 1.0e6 } else { -1.0e6 };
            list.push((app, u64::from(i / 2 % 3), vec![1.0, big, 0.0, -0.0, 1.0e-30, i as f32]));
        }
        let mut snapshot = Snapshot::take(&apps_of(&list), AppId(1), 6, 512, 1536);
        snapshot.weigh(false, 0.25);
        let mut fit = Fit::new(&snapshot, &[1.0e-3; 6], SET, 2000, 1);
        while !fit.step(&mut { 1000 }) {}
        let model = fit.finish(&snapshot);
        assert_eq!(Model::from_words(&model.to_words(), SET).as_ref(), Ok(&model));
        assert!(Cost::of(&model, &snapshot, false).total() < 0.1);
    }
}
