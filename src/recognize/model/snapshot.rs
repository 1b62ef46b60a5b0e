//! What one training works on: the AppID's samples and a balanced choice of the others', with their weights.

use super::{Source, network::CLAMP, samples::BySource};
use crate::recognize::AppId;
use std::collections::{BTreeMap, BTreeSet};

/// One sample of the training side, as another trainer gets it.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingSample {
    /// The AppID it was reported for.
    pub app: AppId,
    /// Who reported it.
    pub source: Source,
    /// Its weight: those of one AppID add up to 1, and no source has more than its share of that.
    pub weight: f32,
    /// The features.
    pub features: Vec<f32>,
}

/// Rows of features with their labels; taken at the start, so that reports meanwhile change nothing.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    width: usize,
    features: Vec<f32>,
    pub(super) rows: Vec<Row>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) app: AppId,
    pub(super) source: Source,
    /// Of the AppID that is being trained.
    pub(super) positive: bool,
    pub(super) held_out: bool,
    /// Not contradicted by other sources.
    pub(super) kept: bool,
    pub(super) weight: f32,
}

impl Row {
    /// On the side that is trained on (`held_out` false) or judged by.
    pub(super) fn is_on(&self, held_out: bool) -> bool {
        self.kept && self.held_out == held_out
    }
}

impl Snapshot {
    /// At most `positives` samples of `app` and `negatives` of all others together, every AppID and within it every
    /// source having its turn, newest first.
    pub(super) fn take(
        apps: &BTreeMap<AppId, BySource>,
        app: AppId,
        width: usize,
        positives: usize,
        negatives: usize,
    ) -> Snapshot {
        let mut snapshot = Snapshot { width, features: Vec::new(), rows: Vec::new() };
        let others = apps.len() - usize::from(apps.contains_key(&app));
        if let Some(sources) = apps.get(&app) {
            snapshot.add(app, true, sources, positives);
        }
        // A quota that nobody fills passes on to the AppIDs after it; small ones first, so that nothing is left unused.
        let mut by_size: Vec<_> = apps.iter().filter(|(other, _)| **other != app).collect();
        by_size.sort_by_key(|(_, sources)| sources.values().map(|s| s.len()).sum::<usize>());
        let mut left = negatives;
        for (index, (other, sources)) in by_size.into_iter().enumerate() {
            left -= snapshot.add(*other, false, sources, left / (others - index));
        }
        snapshot
    }

    fn add(&mut self, app: AppId, positive: bool, sources: &BySource, most: usize) -> usize {
        let longest = sources.values().map(|s| s.len()).max().unwrap_or(0);
        let turns = (0..longest).flat_map(|turn| {
            sources
                .iter()
                .filter_map(move |(source, s)| Some((*source, s.get(s.len().checked_sub(turn + 1)?)?)))
        });
        let before = self.rows.len();
        for (source, sample) in turns.take(most) {
            self.features.extend(&sample.features);
            let held_out = sample.held_out;
            self.rows.push(Row { app, source, positive, held_out, kept: true, weight: 0.0 });
        }
        self.rows.len() - before
    }

    pub(super) fn features(&self, row: usize) -> &[f32] {
        &self.features[row * self.width..(row + 1) * self.width]
    }

    /// Rows of one side and label.
    pub(super) fn select(&self, held_out: bool, positive: bool) -> impl Iterator<Item = usize> {
        let wanted = move |r: &Row| r.is_on(held_out) && r.positive == positive;
        (0..self.rows.len()).filter(move |i| wanted(&self.rows[*i]))
    }

    /// How many AppIDs there are besides the one that is being trained: those of at least two sources, where there are two,
    /// so that no single one can make them look many.
    pub(super) fn others(&self) -> usize {
        let mut sources: BTreeMap<AppId, BTreeSet<Source>> = BTreeMap::new();
        for row in self.rows.iter().filter(|r| r.kept && !r.positive) {
            sources.entry(row.app).or_default().insert(row.source);
        }
        let single = self.rows.iter().all(|r| r.source == self.rows[0].source);
        sources.values().filter(|s| single || s.len() > 1).count()
    }

    /// Gives the rows of one side their weights: 1 for each AppID, of which no source has more than `share`, unless there
    /// are too few sources for that; then they share evenly.
    pub(super) fn weigh(&mut self, held_out: bool, share: f32) {
        let mut counts: BTreeMap<AppId, BTreeMap<Source, f32>> = BTreeMap::new();
        for row in self.rows.iter().filter(|r| r.is_on(held_out)) {
            *counts.entry(row.app).or_default().entry(row.source).or_default() += 1.0;
        }
        for sources in counts.values_mut() {
            let numbers: Vec<f32> = sources.values().copied().collect();
            let capped = capped_shares(&numbers, share);
            for ((count, number), share) in sources.values_mut().zip(numbers).zip(capped) {
                *count = share / number;
            }
        }
        for row in self.rows.iter_mut().filter(|r| r.is_on(held_out)) {
            row.weight = counts[&row.app][&row.source];
        }
    }

    /// How far apart two rows are: the mean over the features of the difference in spreads, each at most 5.
    pub(super) fn distance(&self, a: usize, b: usize, spreads: &[f32]) -> f32 {
        let pairs = self.features(a).iter().zip(self.features(b)).zip(spreads);
        pairs.map(|((a, b), spread)| ((a - b).abs() / spread).min(CLAMP)).sum::<f32>() / self.width as f32
    }

    /// The spread of each feature over the rows that `rows` names. No single source among three can move it: a weighted
    /// interquartile range, or the median over the sources of their own deviations when that is larger. May be 0.
    pub(super) fn spreads(&self, rows: &[usize]) -> Vec<f32> {
        let mut by_source: BTreeMap<Source, Vec<usize>> = BTreeMap::new();
        for &row in rows {
            by_source.entry(self.rows[row].source).or_default().push(row);
        }
        let each = 1.0 / by_source.len().max(1) as f32;
        (0..self.width)
            .map(|feature| {
                let value = |row: &usize| self.features(*row)[feature];
                let mut deviations: Vec<(f32, f32)> =
                    by_source.values().map(|rows| (deviation(rows.iter().map(value)), each)).collect();
                let mut values: Vec<(f32, f32)> = by_source
                    .values()
                    .flat_map(|rows| rows.iter().map(|r| (value(r), each / rows.len() as f32)))
                    .collect();
                let range = quantile(&mut values, 0.75) - quantile(&mut values, 0.25);
                // 1.349 standard deviations lie between the quartiles of a normal distribution.
                (range / 1.349).max(quantile(&mut deviations, 0.5))
            })
            .collect()
    }
}

/// The value at which the weights of the smaller ones reach `q` of all; 0 of nothing. Sorts `values`.
pub(super) fn quantile(values: &mut [(f32, f32)], q: f32) -> f32 {
    values.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let total: f32 = values.iter().map(|(_, weight)| weight).sum();
    let mut sum = 0.0;
    for (value, weight) in values.iter() {
        sum += weight;
        // The tolerance keeps rounding from skipping a value whose weights reach `q` exactly.
        if sum >= q * total * (1.0 - 1.0e-5) {
            return *value;
        }
    }
    values.last().map_or(0.0, |v| v.0)
}

/// Shares in proportion to `numbers`, none above `most` or the even share, whichever is larger; they add up to 1.
fn capped_shares(numbers: &[f32], most: f32) -> Vec<f32> {
    let most = most.max(1.0 / numbers.len().max(1) as f32);
    let mut shares: Vec<Option<f32>> = vec![None; numbers.len()];
    loop {
        let taken: f32 = shares.iter().flatten().sum();
        let free: f32 = numbers.iter().zip(&shares).filter(|(_, s)| s.is_none()).map(|(n, _)| n).sum();
        let share = |n: f32| (1.0 - taken) * n / free;
        let over: Vec<usize> =
            (0..numbers.len()).filter(|i| shares[*i].is_none() && share(numbers[*i]) > most).collect();
        if over.is_empty() {
            return numbers.iter().zip(&shares).map(|(n, s)| s.unwrap_or_else(|| share(*n))).collect();
        }
        over.into_iter().for_each(|i| shares[i] = Some(most));
    }
}

fn deviation(values: impl Iterator<Item = f32> + Clone) -> f32 {
    let count = values.clone().count().max(1) as f32;
    let mean = values.clone().sum::<f32>() / count;
    (values.map(|v| (v - mean).powi(2)).sum::<f32>() / count).sqrt()
}

#[cfg(test)]
pub(super) mod tests {
    use super::{super::samples::Sample, *};

    /// Samples from (app, source, features).
    pub(in crate::recognize::model) fn apps_of(list: &[(u32, u64, Vec<f32>)]) -> BTreeMap<AppId, BySource> {
        let mut apps: BTreeMap<AppId, BySource> = BTreeMap::new();
        for (serial, (app, source, features)) in list.iter().enumerate() {
            let sample = Sample {
                serial: serial as u64,
                held_out: serial % 4 == 0,
                features: features.clone().into(),
            };
            apps.entry(AppId(*app)).or_default().entry(Source(*source)).or_default().push_back(sample);
        }
        apps
    }

    #[test]
    fn everyone_has_a_turn() {
        let mut list = vec![(2, 1, vec![0.0]); 50];
        list.extend(vec![(2, 2, vec![1.0]); 3]);
        list.extend(vec![(3, 1, vec![2.0]); 4]);
        list.extend(vec![(1, 1, vec![3.0]); 9]);
        let snapshot = Snapshot::take(&apps_of(&list), AppId(1), 1, 5, 20);
        let count = |app, source| {
            snapshot.rows.iter().filter(|r| r.app == AppId(app) && r.source == Source(source)).count()
        };
        assert_eq!((count(1, 1), count(3, 1), count(2, 2), count(2, 1)), (5, 4, 3, 13));
        assert!(snapshot.rows.iter().all(|r| r.positive == (r.app == AppId(1))));
        assert_eq!(snapshot.others(), 1, "3 is of one source only");
        let none = Snapshot::take(&apps_of(&list), AppId(9), 1, 5, 0);
        assert!(none.rows.is_empty());
    }

    #[test]
    fn a_source_has_at_most_its_share() {
        let mut list = vec![(1, 1, vec![0.0]); 1000];
        for source in 2..=6 {
            list.extend(vec![(1, source, vec![0.0]); 10]);
        }
        let mut snapshot = Snapshot::take(&apps_of(&list), AppId(1), 1, 5000, 0);
        snapshot.weigh(false, 0.25);
        let weight = |source| -> f32 {
            snapshot.rows.iter().filter(|r| r.source == Source(source)).map(|r| r.weight).sum()
        };
        assert!((weight(1) - 0.25).abs() < 1e-3, "{}", weight(1));
        for source in 2..=6 {
            assert!((weight(source) - 0.15).abs() < 0.02, "{}", weight(source));
        }
    }

    #[test]
    fn shares_add_up_and_are_capped() {
        for (numbers, most, expected) in [
            (vec![1.0], 0.25, vec![1.0]),
            (vec![100.0, 1.0], 0.25, vec![0.5, 0.5]),
            (vec![100.0, 1.0, 1.0, 1.0, 1.0], 0.25, vec![0.25, 0.1875, 0.1875, 0.1875, 0.1875]),
            (vec![100.0, 50.0, 1.0, 1.0, 1.0], 0.3, vec![0.3, 0.3, 0.1333, 0.1333, 0.1333]),
            (vec![1.0, 1.0, 2.0], 0.9, vec![0.25, 0.25, 0.5]),
        ] {
            let shares = capped_shares(&numbers, most);
            assert!(
                shares.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-3),
                "{numbers:?}: {shares:?}"
            );
        }
        assert!(capped_shares(&[], 0.25).is_empty());
    }

    #[test]
    fn quantiles_by_weight() {
        let mut values = [(3.0, 1.0), (1.0, 1.0), (2.0, 2.0)];
        assert_eq!(quantile(&mut values, 0.25), 1.0);
        assert_eq!(quantile(&mut values, 0.5), 2.0);
        assert_eq!(quantile(&mut values, 1.0), 3.0);
        assert_eq!(quantile(&mut [], 0.5), 0.0);
    }

    #[test]
    fn one_source_does_not_move_the_spread() {
        let mut list = Vec::new();
        for source in 1..=4 {
            list.extend((0..20).map(|i| (1, source, vec![i as f32 % 5.0, 7.0])));
        }
        let all = |list: &[_]| {
            let snapshot = Snapshot::take(&apps_of(list), AppId(1), 2, 5000, 0);
            snapshot.spreads(&(0..snapshot.rows.len()).collect::<Vec<_>>())
        };
        let honest = all(&list);
        assert!((honest[0] - 1.48).abs() < 0.1, "{honest:?}");
        assert_eq!(honest[1], 0.0);
        list.extend((0..2000).map(|i| (1, 9, vec![if i % 2 == 0 { 1.0e6 } else { -1.0e6 }; 2])));
        let attacked = all(&list);
        assert!(attacked[0] < 3.0 * honest[0] && attacked[1] == 0.0, "{attacked:?}");
    }
}
