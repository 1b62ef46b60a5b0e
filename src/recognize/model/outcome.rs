//! What comes out of a [`Trainer`](super::Trainer).

use super::{FeatureError, Origin, SampleRow, Score, WordsError};
use crate::{counters::counters, recognize::AppId};

/// A report that was kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Its row, to be stored under its serial.
    pub row: SampleRow,
    /// The serial of the row that made room for it, to be deleted.
    pub dropped: Option<u64>,
    /// The revision of the model in use at the gateway when it reported, 0 for none.
    pub revision: u16,
}

/// Why a report was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// The words are not the features of a flow.
    #[error(transparent)]
    Features(#[from] FeatureError),
    /// The source reported too much in this interval.
    #[error("the gateway reports too much")]
    Rate,
    /// More sources report at once than are counted.
    #[error("too many gateways report at once")]
    Sources,
    /// There are samples of so many AppIDs already.
    #[error("samples of so many AppIDs are kept already")]
    Apps,
    /// The source reported of so many AppIDs already.
    #[error("the gateway reported of too many AppIDs")]
    AppsOfSource,
}

/// Why a model was not taken for judging.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// The words are not a model.
    #[error(transparent)]
    Words(#[from] WordsError),
    /// Another offer for the AppID waits to be judged.
    #[error("another model for this AppID waits to be judged")]
    Pending,
    /// There are no samples of the AppID to judge it by.
    #[error("there are no samples of this AppID")]
    NoSamples,
}

/// Why a model was not put in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstallError {
    /// The words are not a model.
    #[error(transparent)]
    Words(#[from] WordsError),
    /// There is no room for one more AppID.
    #[error("models of so many AppIDs are kept already")]
    Full,
}

/// What came of one training or one offer.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The model is in use under `revision`: store [`Trainer::models_row`](super::Trainer::models_row), then send [`Trainer::parameters`](super::Trainer::parameters).
    Accepted {
        /// The AppID.
        app: AppId,
        /// Who made it.
        origin: Origin,
        /// Its revision in word 0.
        revision: u16,
        /// How it did on the hold-out.
        score: Score,
        /// How the model before it did on the same hold-out.
        before: Option<Score>,
    },
    /// Nothing changed.
    Refused {
        /// The AppID.
        app: AppId,
        /// Who made it, or was to.
        origin: Origin,
        /// Why.
        why: Refusal,
    },
}

/// Why a training or an offer changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Too few samples that other gateways do not contradict.
    #[error(
        "too few samples: {own} of its own and {others} of others to train, \
         {own_held_out} and {others_held_out} to judge; {contradicted} are contradicted by other gateways"
    )]
    TooFew {
        /// Of the AppID, to train.
        own: usize,
        /// Of other AppIDs, to train.
        others: usize,
        /// Of the AppID, to judge by.
        own_held_out: usize,
        /// Of other AppIDs, to judge by.
        others_held_out: usize,
        /// Left out because other gateways contradict them.
        contradicted: usize,
    },
    /// There is no model in use, and this one is not good enough to be the first.
    #[error("not good enough to be the first: {score}, must be below {limit}")]
    Poor {
        /// How it did on the hold-out.
        score: Score,
        /// What it should have cost less than.
        limit: f32,
    },
    /// It costs no less than the model in use.
    #[error("no better than the model in use: {score}, in use {current}")]
    NoBetter {
        /// How it did on the hold-out.
        score: Score,
        /// How the model in use did on the same hold-out.
        current: Score,
    },
    /// No room for one more AppID's models.
    #[error("models of so many AppIDs are kept already")]
    Full,
}

counters! {
    /// What a trainer did so far.
    pub struct TrainerCounters {
        kept: "Reports kept.",
        dropped: "Samples dropped to make room.",
        malformed: "Reports refused for their words.",
        throttled: "Reports refused for the rate of their source, or for too many sources.",
        overfull: "Reports refused for too many AppIDs.",
        accepted: "Models put in use by training or offer.",
        refused: "Trainings and offers that changed nothing.",
    }
}
