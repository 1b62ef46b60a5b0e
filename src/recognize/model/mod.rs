//! Statistical identification, below the rules: a small network per AppID, trained by back-propagation from what
//! gateways report (`CN103259713A [0035]`, S313 to S316).
//!
//! | side | type | does |
//! | --- | --- | --- |
//! | gateway | [`ModelSet`] | features of a flow to an AppID, or no decision |
//! | gateway | [`History`] | how far a flow is from what its AppID looked like here; when to report its features |
//! | backend | [`Trainer`] | keeps the reports of one group, trains, judges, keeps versions |
//! | both | [`Model`] | the parameters and the words that carry them |
//!
//! Everything here is sans-IO and bounded; `docs/training.md` tells the whole way round.

#![forbid(unsafe_code)]

mod corroborate;
mod fit;
mod gate;
mod history;
mod lineage;
mod network;
mod outcome;
mod random;
mod rate;
mod report;
mod samples;
mod set;
mod snapshot;
mod trainer;
mod words;

pub use gate::Score;
pub use history::{History, HistoryConfig, HistoryCounters, Observation, Reason};
pub use lineage::{LineageError, Origin};
pub use network::{Assessment, MAX_HIDDEN, Model, hidden_that_fit};
pub use outcome::{InstallError, Kept, OfferError, Outcome, Refusal, ReportError, TrainerCounters};
pub use report::{FeatureError, check_features, report_from_words, report_to_words};
pub use samples::{SampleRow, SampleRowError};
pub use set::{ModelSet, ModelSetConfig};
pub use snapshot::TrainingSample;
pub use trainer::{Trainer, TrainerConfig};
pub use words::{Header, WordsError};

use crate::wire::gateway::MAX_WORDS;

/// Most features a set may have.
pub const MAX_FEATURES: usize = 64;

/// No feature and no parameter is larger than this in magnitude.
pub const MAX_MAGNITUDE: f32 = 1.0e6;

/// What a feature vector is: the version of its definition, and how many values it has.
///
/// Vectors, reports and models of different sets are never mixed: word 0 names the version (DECISIONS 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureSet {
    version: u16,
    len: u8,
}

impl FeatureSet {
    /// The highest version: word 0 stays a finite binary32, so a peer that treats it as a number does no harm.
    pub const MAX_VERSION: u16 = 0x7f7f;

    /// A set of `len` features (1 to [`MAX_FEATURES`]) with a version of 1 to [`FeatureSet::MAX_VERSION`].
    pub const fn new(version: u16, len: usize) -> Option<FeatureSet> {
        if version == 0 || version > Self::MAX_VERSION || len == 0 || len > MAX_FEATURES {
            return None;
        }
        Some(FeatureSet { version, len: len as u8 })
    }

    /// The version of the definition.
    pub const fn version(self) -> u16 {
        self.version
    }

    /// How many features a vector has.
    pub const fn len(self) -> usize {
        self.len as usize
    }

    /// Never: a set has at least one feature.
    pub const fn is_empty(self) -> bool {
        false
    }
}

/// Who reported a sample: the backend's own number for an enrolled gateway, never an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(pub u64);
