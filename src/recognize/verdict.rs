//! What the recogniser says about a flow.

use super::{AppId, features::FlowFeatures, flow::FiveTuple};
use crate::time::Time;

/// What a verdict rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum How {
    /// A rule matched.
    Rule,
    /// The model judged by features.
    Model,
    /// Another gateway recognised the same remote end.
    Shared,
    /// Nothing; the application is not known.
    None,
}

/// Where in a flow's life a verdict was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// May still change: a hint, or a rule of a priority below [`super::SURE`].
    Early,
    /// The application will not change any more.
    Settled,
    /// Settled, and the features are complete; only with [`Config::profile`].
    Profiled,
    /// The flow is over: it ended, was silent too long, made room for others, or the input is finished. Given once for
    /// each flow, with its final counts.
    Ended,
}

/// What is known about a flow.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The flow, its initiator first.
    pub flow: FiveTuple,
    /// The application, if it is known.
    pub app: Option<AppId>,
    /// What that rests on.
    pub how: How,
    /// The rule, by its place in the list that was compiled; `None` too when that list was replaced since.
    pub rule: Option<usize>,
    /// When it was given.
    pub stage: Stage,
    /// The application is known, and the verdicts before on this flow did not name it: the first that does, or a change.
    pub is_news: bool,
    /// Packets so far, in both directions.
    pub packets: u32,
    /// Octets so far, in both directions, from the IP header on.
    pub octets: u64,
    /// The time of the first packet.
    pub first: Time,
    /// The time of the latest packet.
    pub last: Time,
    /// What the flow looks like from outside.
    pub features: FlowFeatures,
}
