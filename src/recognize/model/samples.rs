//! The feature reports a backend keeps of one group, bounded so that no gateway and no AppID pushes out the others.

use super::{FeatureError, FeatureSet, Source, check_features, random::hash};
use crate::recognize::AppId;
use std::collections::{BTreeMap, VecDeque};

/// One kept report.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    /// Its number: the order of arrival, and the key of its row.
    pub(super) serial: u64,
    /// Never trained on; models are judged by it.
    pub(super) held_out: bool,
    pub(super) features: Box<[f32]>,
}

/// The most that is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) apps: usize,
    pub(super) apps_per_source: usize,
    pub(super) per_app_and_source: usize,
    pub(super) per_app: usize,
    pub(super) in_all: usize,
}

/// Why a sample was not kept although its numbers are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Apps,
    AppsOfSource,
}

pub(super) type BySource = BTreeMap<Source, VecDeque<Sample>>;

/// All samples, by AppID and source.
#[derive(Clone, Debug)]
pub(super) struct Samples {
    bounds: Bounds,
    apps: BTreeMap<AppId, BySource>,
    total: usize,
}

impl Samples {
    pub(super) fn new(bounds: Bounds) -> Samples {
        Samples { bounds, apps: BTreeMap::new(), total: 0 }
    }

    pub(super) fn apps(&self) -> &BTreeMap<AppId, BySource> {
        &self.apps
    }

    pub(super) fn len(&self) -> usize {
        self.total
    }

    /// Keeps a sample; the serial of the one that made room for it, if one had to.
    ///
    /// Room is made where there is most: the source's own oldest, else the oldest of the AppID's largest source, else
    /// the oldest of the largest source of the largest AppID.
    pub(super) fn keep(&mut self, app: AppId, source: Source, sample: Sample) -> Result<Option<u64>, Full> {
        let known = self.apps.get(&app);
        if known.is_none() && self.apps.len() >= self.bounds.apps {
            return Err(Full::Apps);
        }
        let mine = known.and_then(|a| a.get(&source)).map_or(0, VecDeque::len);
        if mine == 0 {
            let apps = self.apps.values().filter(|sources| sources.contains_key(&source)).count();
            if apps >= self.bounds.apps_per_source {
                return Err(Full::AppsOfSource);
            }
        }
        let of_app = known.map_or(0, count);
        let dropped = if mine >= self.bounds.per_app_and_source.max(1) {
            self.drop_oldest(app, Some(source))
        } else if of_app >= self.bounds.per_app.max(1) {
            self.drop_oldest(app, None)
        } else if self.total >= self.bounds.in_all.max(1) {
            let largest = self.apps.iter().max_by_key(|(_, sources)| count(sources)).map(|(app, _)| *app);
            largest.and_then(|largest| self.drop_oldest(largest, None))
        } else {
            None
        };
        self.apps.entry(app).or_default().entry(source).or_default().push_back(sample);
        self.total += 1;
        Ok(dropped)
    }

    /// Forgets all of a source; the serials of what is gone.
    pub(super) fn forget(&mut self, source: Source) -> Vec<u64> {
        let mut gone = Vec::new();
        self.apps.retain(|_, sources| {
            gone.extend(sources.remove(&source).into_iter().flatten().map(|s| s.serial));
            !sources.is_empty()
        });
        self.total -= gone.len();
        gone
    }

    /// Forgets all of a source about one AppID; how many that were.
    pub(super) fn forget_app(&mut self, app: AppId, source: Source) -> usize {
        let Some(sources) = self.apps.get_mut(&app) else { return 0 };
        let gone = sources.remove(&source).map_or(0, |samples| samples.len());
        if sources.is_empty() {
            self.apps.remove(&app);
        }
        self.total -= gone;
        gone
    }

    fn drop_oldest(&mut self, app: AppId, source: Option<Source>) -> Option<u64> {
        let sources = self.apps.get_mut(&app)?;
        let source = match source {
            Some(source) => source,
            None => *sources.iter().max_by_key(|(_, samples)| samples.len())?.0,
        };
        let samples = sources.get_mut(&source)?;
        let dropped = samples.pop_front()?;
        if samples.is_empty() {
            sources.remove(&source);
        }
        if sources.is_empty() {
            self.apps.remove(&app);
        }
        self.total -= 1;
        Some(dropped.serial)
    }
}

fn count(sources: &BySource) -> usize {
    sources.values().map(VecDeque::len).sum()
}

/// Whether a vector is held out: one in four, by its content, so that a vector that comes twice is never on both sides.
pub(super) fn is_held_out(seed: u64, features: &[f32]) -> bool {
    hash(seed, features.iter().map(|f| f.to_bits())) >> 62 == 0
}

/// One sample as a row of a key-value table: its serial is the key, [`SampleRow::encode`] the value.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleRow {
    /// The row's key.
    pub serial: u64,
    /// The AppID it was reported for.
    pub app: AppId,
    /// Who reported it.
    pub source: Source,
    /// Whether it is kept for judging models and never trained on.
    pub held_out: bool,
    /// The features.
    pub features: Vec<f32>,
}

/// Why octets are not a sample's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SampleRowError {
    /// The version of the row is not known.
    #[error("sample row version {0} is not known")]
    Version(u8),
    /// Too few octets, too many, or a flag that is not 0 or 1.
    #[error("the sample row is malformed")]
    Malformed,
    /// The features are not of the set in use.
    #[error(transparent)]
    Features(#[from] FeatureError),
}

const ROW_VERSION: u8 = 1;
const ROW_HEAD: usize = 16;

impl SampleRow {
    /// The row's value, big-endian: version 1, held out 1, feature set 2, AppID 4, source 8, then 4 a feature.
    pub fn encode(&self, set: FeatureSet) -> Vec<u8> {
        let mut row = Vec::with_capacity(ROW_HEAD + 4 * self.features.len());
        row.extend([ROW_VERSION, u8::from(self.held_out)]);
        row.extend(set.version().to_be_bytes());
        row.extend(self.app.0.to_be_bytes());
        row.extend(self.source.0.to_be_bytes());
        row.extend(self.features.iter().flat_map(|f| f.to_bits().to_be_bytes()));
        row
    }

    /// A row read back.
    ///
    /// # Errors
    /// Octets that are no row of this version and feature set. After the definition of the features changed, old rows
    /// give [`FeatureError::FeatureSet`]: they are of no use and can be deleted.
    pub fn decode(serial: u64, row: &[u8], set: FeatureSet) -> Result<SampleRow, SampleRowError> {
        let version = *row.first().ok_or(SampleRowError::Malformed)?;
        if version != ROW_VERSION {
            return Err(SampleRowError::Version(version));
        }
        let (head, rest) = row.split_first_chunk::<ROW_HEAD>().ok_or(SampleRowError::Malformed)?;
        let [_, held_out, s0, s1, a0, a1, a2, a3, source @ ..] = *head;
        let feature_set = u16::from_be_bytes([s0, s1]);
        if feature_set != set.version() {
            Err(FeatureError::FeatureSet { got: feature_set, expected: set.version() })?;
        }
        let (words, odd) = rest.as_chunks::<4>();
        if held_out > 1 || !odd.is_empty() {
            return Err(SampleRowError::Malformed);
        }
        let features: Vec<f32> = words.iter().map(|w| f32::from_bits(u32::from_be_bytes(*w))).collect();
        check_features(set, &features)?;
        Ok(SampleRow {
            serial,
            app: AppId(u32::from_be_bytes([a0, a1, a2, a3])),
            source: Source(u64::from_be_bytes(source)),
            held_out: held_out == 1,
            features,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::random::Random, *};

    const BOUNDS: Bounds =
        Bounds { apps: 4, apps_per_source: 2, per_app_and_source: 3, per_app: 5, in_all: 9 };

    fn sample(serial: u64) -> Sample {
        Sample { serial, held_out: false, features: [1.0].into() }
    }

    fn keep(samples: &mut Samples, app: u32, source: u64, serial: u64) -> Result<Option<u64>, Full> {
        samples.keep(AppId(app), Source(source), sample(serial))
    }

    #[test]
    fn each_bound_makes_room_where_there_is_most() {
        let mut s = Samples::new(BOUNDS);
        for serial in 0..3 {
            assert_eq!(keep(&mut s, 1, 1, serial), Ok(None));
        }
        assert_eq!(keep(&mut s, 1, 1, 3), Ok(Some(0)), "a source's own oldest");
        assert_eq!(keep(&mut s, 1, 2, 4), Ok(None));
        assert_eq!(keep(&mut s, 1, 3, 5), Ok(None));
        assert_eq!(keep(&mut s, 1, 4, 6), Ok(Some(1)), "the oldest of the app's largest source");
        for serial in 7..11 {
            assert_eq!(keep(&mut s, 2, serial, serial), Ok(None));
        }
        assert_eq!(keep(&mut s, 3, 1, 11), Ok(Some(2)), "the oldest of the largest app's largest source");
        assert_eq!(s.len(), 9);
        let mine: Vec<u64> = s.apps()[&AppId(1)][&Source(1)].iter().map(|s| s.serial).collect();
        assert_eq!(mine, [3]);
    }

    #[test]
    fn apps_are_bounded_in_all_and_by_source() {
        let mut s = Samples::new(BOUNDS);
        assert_eq!(keep(&mut s, 1, 1, 1), Ok(None));
        assert_eq!(keep(&mut s, 2, 1, 2), Ok(None));
        assert_eq!(keep(&mut s, 3, 1, 3), Err(Full::AppsOfSource));
        assert_eq!(keep(&mut s, 3, 2, 4), Ok(None));
        assert_eq!(keep(&mut s, 4, 3, 5), Ok(None));
        assert_eq!(keep(&mut s, 5, 4, 6), Err(Full::Apps));
        assert_eq!(keep(&mut s, 1, 1, 7), Ok(None), "what is known goes on");
    }

    #[test]
    fn a_source_can_be_forgotten() {
        let mut s = Samples::new(BOUNDS);
        for (app, source, serial) in [(1, 1, 1), (1, 2, 2), (2, 1, 3)] {
            keep(&mut s, app, source, serial).unwrap();
        }
        assert_eq!((s.forget_app(AppId(2), Source(1)), s.forget_app(AppId(2), Source(1))), (1, 0));
        keep(&mut s, 2, 1, 3).unwrap();
        assert_eq!(s.forget(Source(1)), [1, 3]);
        assert_eq!((s.len(), s.apps().len()), (1, 1));
    }

    #[test]
    fn any_order_stays_within_the_bounds() {
        let mut s = Samples::new(BOUNDS);
        let mut random = Random::new(5);
        for serial in 0..5000 {
            let _ = keep(&mut s, random.below(8) as u32, random.below(6) as u64, serial);
            assert!(s.len() <= BOUNDS.in_all && s.apps().len() <= BOUNDS.apps);
            assert!(s.apps().values().all(|sources| count(sources) <= BOUNDS.per_app && !sources.is_empty()));
            assert_eq!(s.len(), s.apps().values().map(count).sum::<usize>());
        }
    }

    #[test]
    fn about_a_quarter_is_held_out_and_the_same_vector_always() {
        let mut random = Random::new(6);
        let vectors: Vec<[f32; 4]> = (0..4000).map(|_| [(); 4].map(|()| random.signed())).collect();
        let held = vectors.iter().filter(|v| is_held_out(9, *v)).count();
        assert!((900..1100).contains(&held), "{held} of 4000");
        assert!(vectors.iter().all(|v| is_held_out(9, v) == is_held_out(9, &v.clone())));
    }

    #[test]
    fn a_row_goes_there_and_back_and_hostile_rows_have_names() {
        let set = FeatureSet::new(0x0102, 2).unwrap();
        let row = SampleRow {
            serial: 5,
            app: AppId(7),
            source: Source(9),
            held_out: true,
            features: vec![1.0, -2.5],
        };
        let octets = row.encode(set);
        assert_eq!(octets[..8], [1, 1, 1, 2, 0, 0, 0, 7]);
        assert_eq!(SampleRow::decode(5, &octets, set), Ok(row));
        let other = FeatureSet::new(3, 2).unwrap();
        assert!(matches!(SampleRow::decode(5, &octets, other), Err(SampleRowError::Features(_))));
        for cut in 0..octets.len() {
            assert!(SampleRow::decode(5, &octets[..cut], set).is_err(), "cut at {cut}");
        }
        let with = |at: usize, octet: u8| {
            let mut o = octets.clone();
            o[at] = octet;
            SampleRow::decode(5, &o, set)
        };
        assert_eq!(with(0, 9), Err(SampleRowError::Version(9)));
        assert_eq!(with(1, 2), Err(SampleRowError::Malformed));
        assert_eq!(with(16, 0x7f), Err(SampleRowError::Features(FeatureError::NotFinite(0))));
        let long = [&octets[..], &[0]].concat();
        assert_eq!(SampleRow::decode(5, &long, set), Err(SampleRowError::Malformed));
    }
}
