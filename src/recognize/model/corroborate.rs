//! Which samples other gateways contradict.
//!
//! A sample is the word of one gateway. The nearest samples of the other gateways are its witnesses: each of the three
//! nearest gateways says *for* when its nearest sample is of the same AppID, *against* when it is of another. The sample
//! itself counts as one *for*; with more against than for it is left out, and a tie goes to the nearest witness. So two
//! gateways that agree prevail over one that does not, however many samples that one sends, and what one gateway alone
//! claims, where others saw something else, teaches nobody. Where there is only one gateway there is nobody to ask.

use super::snapshot::Snapshot;

/// How many other gateways are asked.
const WITNESSES: usize = 3;

/// Goes through the rows of a snapshot, some at a time.
#[derive(Clone, Debug)]
pub(super) struct Corroboration {
    spreads: Vec<f32>,
    /// The source of each row, as an index.
    source: Vec<usize>,
    sources: usize,
    next: usize,
    contradicted: Vec<usize>,
    /// Per source: its nearest sample of the same AppID, and of another.
    nearest: Vec<[f32; 2]>,
}

impl Corroboration {
    pub(super) fn new(snapshot: &Snapshot) -> Corroboration {
        let rows: Vec<usize> = (0..snapshot.rows.len()).collect();
        let mut spreads = snapshot.spreads(&rows);
        spreads.iter_mut().for_each(|s| *s = s.max(1.0e-3));
        let mut names: Vec<_> = snapshot.rows.iter().map(|r| r.source).collect();
        names.sort_unstable();
        names.dedup();
        let index = |r: &super::snapshot::Row| names.partition_point(|n| *n < r.source);
        let source = snapshot.rows.iter().map(index).collect();
        let nearest = vec![[0.0; 2]; names.len()];
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
        self.nearest.fill([f32::INFINITY; 2]);
        let own = self.source[row];
        for other in (0..snapshot.rows.len()).filter(|o| self.source[*o] != own) {
            let distance = snapshot.distance(row, other, &self.spreads);
            let differs = usize::from(snapshot.rows[other].app != snapshot.rows[row].app);
            let nearest = &mut self.nearest[self.source[other]][differs];
            *nearest = nearest.min(distance);
        }
        // (distance, for) of the nearest witnesses, nearest first.
        let mut witnesses = [(f32::INFINITY, false); WITNESSES];
        for [same, other] in self.nearest.iter().filter(|n| n[0].min(n[1]).is_finite()) {
            let vote = (same.min(*other), same < other);
            let at = witnesses.partition_point(|w| w.0 <= vote.0);
            if at < WITNESSES {
                witnesses[at..].rotate_right(1);
                witnesses[at] = vote;
            }
        }
        let asked = witnesses.iter().filter(|w| w.0.is_finite()).count();
        let agree = 1 + witnesses[..asked].iter().filter(|w| w.1).count();
        let against = asked + 1 - agree;
        against > agree || against == agree && !witnesses[0].1
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
