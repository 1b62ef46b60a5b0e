//! How good a model is on samples that it was not trained on, and whether it may replace another.

use super::{
    Model,
    snapshot::{Row, Snapshot},
};
use std::{collections::BTreeMap, fmt};

/// What a flow of another AppID that is claimed costs, where a flow of its own that is missed costs 1.
pub(super) const FALSE_CLAIM: f32 = 3.0;

/// A candidate must be better by this; less is a tie.
pub(super) const TIE: f32 = 1.0e-4;

/// The figures of one model on the hold-out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// The share of the AppID's own flows that it does not claim, 0 to 1.
    pub missed: f32,
    /// The shares of the other AppIDs' flows that it claims, added up over these AppIDs.
    pub claimed: f32,
    /// What counts: `missed` and three times `claimed`. No model at all costs 1.
    pub cost: f32,
    /// How many flows of its own it was judged by.
    pub own: u32,
    /// How many of others.
    pub others: u32,
}

impl Score {
    pub(super) fn of(model: &Model, snapshot: &Snapshot) -> Score {
        let cost = Cost::of(model, snapshot, true);
        let count = |positive| snapshot.select(true, positive).count() as u32;
        Score {
            missed: cost.missed,
            claimed: cost.claimed,
            cost: cost.total(),
            own: count(true),
            others: count(false),
        }
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Score { missed, claimed, cost, own, others } = self;
        write!(f, "cost {cost:.3} (missed {missed:.3} of {own}, claimed {claimed:.3} of {others})")
    }
}

/// The weighted errors of a model on one side of a weighed snapshot.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    pub(super) missed: f32,
    pub(super) claimed: f32,
}

impl Cost {
    pub(super) fn of(model: &Model, snapshot: &Snapshot, held_out: bool) -> Cost {
        let mut cost = Cost::default();
        // An AppID's weights add up to 1 only as far as rounding lets them: add up per AppID and cut.
        let mut claimed: BTreeMap<_, f32> = BTreeMap::new();
        for positive in [true, false] {
            for row in snapshot.select(held_out, positive) {
                let claims = model.assess(snapshot.features(row)).is_some_and(|a| a.claims);
                let Row { app, weight, .. } = snapshot.rows[row];
                match (positive, claims) {
                    (true, false) => cost.missed += weight,
                    (false, true) => *claimed.entry(app).or_default() += weight,
                    _ => {}
                }
            }
        }
        cost.missed = cost.missed.min(1.0);
        cost.claimed = claimed.values().fold(0.0, |sum, c| sum + c.min(1.0));
        cost
    }

    pub(super) fn total(&self) -> f32 {
        self.missed + FALSE_CLAIM * self.claimed
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{FeatureSet, network::tests::ball, snapshot::tests::apps_of},
        *,
    };
    use crate::recognize::AppId;

    #[test]
    fn the_figures_by_hand() {
        let set = FeatureSet::new(1, 1).unwrap();
        // Every fourth is held out; app 1 at 0 and 9, app 2 at 0 and 9, app 3 at 9.
        let mut list = Vec::new();
        for (app, values) in [(1, [0.0, 0.0, 0.0, 9.0]), (2, [0.0, 9.0, 9.0, 9.0]), (3, [9.0; 4])] {
            for value in values {
                list.extend(vec![(app, 1, vec![value]); 4]);
            }
        }
        let mut snapshot = Snapshot::take(&apps_of(&list), AppId(1), 1, 100, 100);
        snapshot.weigh(true, 0.25);
        let score = Score::of(&ball(set, 0.0, 1.0, 3.0), &snapshot);
        assert_eq!(score, Score { missed: 0.25, claimed: 0.25, cost: 1.0, own: 4, others: 8 });
        let nothing = Score::of(&ball(set, 0.0, 1.0, -3.0), &snapshot);
        assert_eq!((nothing.missed, nothing.claimed, nothing.cost), (1.0, 0.0, 1.0));
        assert_eq!(score.to_string(), "cost 1.000 (missed 0.250 of 4, claimed 0.250 of 8)");
    }
}
