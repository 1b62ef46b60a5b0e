//! Nodes: parts put together with their store and with each other, still without sockets or clock.
//!
//! The driver, the simulator, C, Python and the program drive nodes. Only nodes know how parts meet.

#[cfg(feature = "device")]
mod app;
#[cfg(all(feature = "post", feature = "health", feature = "json"))]
mod authority;
#[cfg(feature = "backend")]
mod backend;
#[cfg(feature = "post")]
mod backup;
#[cfg(feature = "post")]
mod balancer;
#[cfg(feature = "post")]
mod balancers;
#[cfg(feature = "post")]
mod broker;
#[cfg(feature = "gateway")]
mod capture_clock;
#[cfg(feature = "device")]
mod device;
#[cfg(any(feature = "backend", feature = "device"))]
mod durable;
mod event;
#[cfg(feature = "gateway")]
mod gateway;
#[cfg(feature = "gateway")]
mod hail;
#[cfg(feature = "health")]
mod health;
#[cfg(any(feature = "backend", feature = "post"))]
mod link_keys;
// A back end alone has no streams of devices.
#[cfg(any(feature = "backend", feature = "post"))]
#[cfg_attr(not(feature = "post"), allow(dead_code))]
mod links;
#[cfg(feature = "post")]
mod office;
#[cfg(feature = "gateway")]
mod recognition;
#[cfg(feature = "gateway")]
mod recognizer;

use std::any::Any;

#[cfg(feature = "device")]
pub use app::AppNode;
#[cfg(all(feature = "post", feature = "health", feature = "json"))]
pub use authority::{AuthorityCounters, AuthorityNode, Verdict};
#[cfg(feature = "backend")]
pub use backend::{BackendNode, ModelInfo};
#[cfg(feature = "post")]
pub use balancer::{BalancerNode, BalancerNodeConfig, BalancerNodeCounters};
#[cfg(feature = "post")]
pub use broker::{BrokerNode, BrokerNodeConfig};
#[cfg(feature = "gateway")]
pub use capture_clock::CaptureClock;
#[cfg(feature = "device")]
pub use device::{BalancerKey, DeviceNode, DeviceNodeConfig};
pub use event::{Event, EventKind, Field, Value};
#[cfg(feature = "gateway")]
pub use gateway::{GatewayNode, flow_event};
#[cfg(feature = "backend")]
pub use hail::LinkCredential;
#[cfg(feature = "health")]
pub use health::HealthNode;
#[cfg(any(feature = "backend", feature = "post"))]
pub use links::OfficeCounters;
#[cfg(feature = "post")]
pub use office::{OfficeConfig, OfficeNode};
#[cfg(feature = "gateway")]
pub use recognition::Recognition;
#[cfg(feature = "gateway")]
pub use recognizer::RecognizerNode;

use crate::{
    io::{Input, Output},
    time::Time,
};

/// What a driver can drive.
///
/// A turn: any number of inputs and calls; then outputs until there is none; then [`Node::flush`], which commits the
/// store and may make more outputs; then the deadline.
pub trait Node: Any + Send {
    /// Takes an input.
    fn handle(&mut self, now: Time, input: Input<'_>);

    /// The next output, until there is none. Never [`Output::Store`]: a node has its store inside.
    fn poll_output(&mut self, now: Time) -> Option<Output<Event>>;

    /// Who an event is for has it. Until then it may be lost with the process, and what must not be lost is told again.
    /// Answers whether there may be outputs because of that.
    fn taken(&mut self, _event: &Event) -> bool {
        false
    }

    /// Makes durable what waits for it. Answers whether there may be outputs because of that.
    fn flush(&mut self, now: Time) -> bool;

    /// When [`Input::Deadline`] is wanted.
    fn deadline(&self) -> Option<Time>;
}

/// The features that gateways measure, and what a model must have been trained on.
#[cfg(feature = "recognize")]
pub fn feature_set() -> crate::recognize::model::FeatureSet {
    use crate::recognize::{FEATURE_COUNT, FEATURE_SET, model::FeatureSet};
    FeatureSet::new(FEATURE_SET, FEATURE_COUNT).expect("the recogniser's own features are a set")
}

/// Events about flows that wait in a node; past it no frame is taken.
#[cfg(feature = "gateway")]
const MAX_WAITING: usize = 65_536;

#[cfg(feature = "gateway")]
fn too_many_wait() -> crate::status::Fault {
    crate::status::Fault::new(
        crate::status::Status::Full,
        "too many events wait: step the loop, pull them, and feed the frame again",
    )
}
