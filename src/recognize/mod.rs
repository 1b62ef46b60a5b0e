//! Which application a flow belongs to, from the packets a gateway forwards (CN103259713A; DESIGN section 9).
//!
//! Frames go into a [`Recognizer`], verdicts come out. A verdict comes from the [`RuleSet`], else from what another
//! gateway has shared ([`Recognizer::set_hint`]), else from a [`FlowModel`]. Nothing here has a clock or does I/O, and
//! everything that traffic can make it hold is bounded and counted.
#![forbid(unsafe_code)]

mod automaton;
mod condition;
mod features;
mod flow;
mod fragments;
mod hints;
mod inspect;
mod look;
pub mod model;
mod pool;
mod recognizer;
mod rules_file;
mod ruleset;
mod verdict;
mod view;

pub use self::{
    condition::{ConditionError, Conditions, LengthField, SURE, Side, Transport, View},
    features::{FEATURE_COUNT, FEATURE_PACKETS, FEATURE_SET, FeatureVector, FlowFeatures},
    flow::FiveTuple,
    recognizer::{Config, Counters, FlowModel, Memory, Recognizer},
    rules_file::{NamedRule, RulesFile, RulesFileError},
    ruleset::{Limits, MAX_RULE, Rule, RuleError, RuleFault, RuleSet},
    verdict::{How, Stage, Verdict},
};

pub use crate::wire::AppId;
