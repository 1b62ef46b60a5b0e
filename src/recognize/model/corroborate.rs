//! Which samples other gateways contradict.
//!
//! A sample is the word of one gateway. The two other gateways with the nearest samples are its witnesses, each speaking
//! with the label of its nearest one. A sample of the AppID that is trained teaches only if at least one witness confirms
//! it. A sample of another AppID is left out only if both witnesses say that it is the AppID that is trained, and no other
//! gateway has seen the like: what is merely disputed must go on warning against a claim. So two gateways that agree prevail over one that does not, however
//! many samples that one sends. Where there is only one gateway there is nobody to ask.

use super::snapshot::{Row, Snapshot};

/// How many other gateways are asked.
const WITNESSES: usize = 2;

/// A sample of another AppID that any other gateway has seen within so many times the distance of the farther witness is
/// merely disputed.
const DISPUTED: f32 = 2.0;

/// Goes through the rows of a snapshot, some at a time.
#[derive(Clone, Debug)]
pub(super) struct Corroboration {
    spreads: Vec<f32>,
    /// The source of each row, as an index.
    source: Vec<usize>,
    sources: usize,
    next: usize,
    contradicted: Vec<usize>,
    /// Per source: how far its nearest sample is, and whether that speaks for the row.
    nearest: Vec<(f32, bool)>,
}

impl Corroboration {
    pub(super) fn new(snapshot: &Snapshot) -> Corroboration {
        let rows: Vec<usize> = (0..snapshot.rows.len()).collect();
        let mut spreads = snapshot.spreads(&rows);
        spreads.iter_mut().for_each(|s| *s = s.max(1.0e-3));
        let mut names: Vec<_> = snapshot.rows.iter().map(|r| r.source).collect();
        names.sort_unstable();
        names.dedup();
        let index = |r: &Row| names.partition_point(|n| *n < r.source);
        let source = snapshot.rows.iter().map(index).collect();
        let nearest = vec![(0.0, false); names.len()];
        Corroboration { spreads, source, sources: names.len(), next: 0, contradicted: Vec::new(), nearest }
    }

    /// The spread of each feature over all rows, above 0.
    pub(super) fn spreads(&self) -> &[f32] {
        &self.spreads
    }

    /// Asks for the next rows until `budget` row passes are used up. True when all were asked; then the contradicted
    /// rows of `snapshot` are marked.
    pub(super) fn step(&mut self, snapshot: &mut Snapshot, budget: &mut usize) -> bool {
        // A comparison of two rows costs about an eighth of a training pass over one.
        let price = snapshot.rows.len() / 8 + 1;
        while self.sources > 1 && self.next < snapshot.rows.len() {
            if *budget == 0 {
                return false;
            }
            *budget = budget.saturating_sub(price);
            if self.is_contradicted(snapshot, self.next) {
                self.contradicted.push(self.next);
            }
            self.next += 1;
        }
        self.contradicted.drain(..).for_each(|row| snapshot.rows[row].kept = false);
        true
    }

    fn is_contradicted(&mut self, snapshot: &Snapshot, row: usize) -> bool {
        self.nearest.fill((f32::INFINITY, false));
        let (own, app) = (self.source[row], snapshot.rows[row].app);
        let mut seconded = f32::INFINITY;
        for other in (0..snapshot.rows.len()).filter(|o| self.source[*o] != own) {
            let distance = snapshot.distance(row, other, &self.spreads);
            if snapshot.rows[other].app == app {
                seconded = seconded.min(distance);
            }
            let nearest = &mut self.nearest[self.source[other]];
            if distance < nearest.0 {
                let Row { app: said, positive, .. } = snapshot.rows[other];
                // What counts for a sample of the AppID is agreement, for one of another that it is not the AppID.
                *nearest = (distance, if snapshot.rows[row].positive { said == app } else { !positive });
            }
        }
        let mut witnesses = [(f32::INFINITY, false); WITNESSES];
        for vote in self.nearest.iter().filter(|n| n.0.is_finite()) {
            let at = witnesses.partition_point(|w| w.0 <= vote.0);
            if at < WITNESSES {
                witnesses[at..].rotate_right(1);
                witnesses[at] = *vote;
            }
        }
        let farther = witnesses.iter().map(|w| w.0).filter(|d| d.is_finite()).fold(0.0, f32::max);
        let disputed = !snapshot.rows[row].positive && seconded <= DISPUTED * farther;
        !disputed && !witnesses.iter().any(|w| w.1)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{random::Random, snapshot::tests::apps_of},
        *,
    };
    use crate::recognize::{AppId, model::Source};

    /// Around (app, 0): what honest sources 1..=`sources` say of `apps`.
    fn honest(sources: u64, apps: u32) -> Vec<(u32, u64, Vec<f32>)> {
        let mut random = Random::new(3);
        let mut list = Vec::new();
        for source in 1..=sources {
            for app in 1..=apps {
                list.extend(
                    (0..10).map(|_| (app, source, vec![app as f32 * 3.0 + random.signed(), random.signed()])),
                );
            }
        }
        list
    }

    /// The rows kept, by source 9 and by all others, of how many.
    fn kept(list: &[(u32, u64, Vec<f32>)], step: usize) -> [(usize, usize); 2] {
        let mut snapshot = Snapshot::take(&apps_of(list), AppId(1), 2, 1000, 4000);
        let mut work = Corroboration::new(&snapshot);
        let mut turns = 0;
        while !work.step(&mut snapshot, &mut { step }) {
            turns += 1;
        }
        assert!(turns > 0 || step > 100_000);
        [true, false].map(|hostile| {
            let rows = snapshot.rows.iter().filter(|r| (r.source == Source(9)) == hostile);
            (rows.clone().filter(|r| r.kept).count(), rows.count())
        })
    }

    #[test]
    fn honest_samples_stay() {
        for (sources, apps) in [(1, 3), (2, 3), (3, 1), (5, 4)] {
            let [_, (kept, of)] = kept(&honest(sources, apps), 1_000_000);
            assert!(kept * 20 >= of * 19, "{sources} sources, {apps} apps: {kept} of {of}");
        }
    }

    #[test]
    fn one_against_two_is_left_out_and_does_not_take_others_with_it() {
        let mut list = honest(3, 3);
        let mut random = Random::new(4);
        for _ in 0..400 {
            // App 2's flows as app 1, and app 1's flows as apps of its own.
            list.push((1, 9, vec![6.0 + random.signed(), random.signed()]));
            list.push((50 + random.below(9) as u32, 9, vec![3.0 + random.signed(), random.signed()]));
        }
        let [(hostile, of_hostile), (honest, of_honest)] = kept(&list, 50);
        assert!(hostile * 50 <= of_hostile, "{hostile} of {of_hostile} hostile samples kept");
        assert!(honest * 20 >= of_honest * 19, "{honest} of {of_honest} honest samples kept");
    }

    #[test]
    fn an_app_that_two_of_many_gateways_have_is_kept() {
        let mut list = honest(10, 2);
        let mut random = Random::new(5);
        for source in [1, 2] {
            list.extend((0..10).map(|_| (3, source, vec![20.0 + random.signed(), random.signed()])));
        }
        let mut snapshot = Snapshot::take(&apps_of(&list), AppId(3), 2, 1000, 4000);
        assert!(Corroboration::new(&snapshot).step(&mut snapshot, &mut { usize::MAX }));
        assert_eq!(snapshot.rows.iter().filter(|r| r.positive && r.kept).count(), 20);
    }
}
