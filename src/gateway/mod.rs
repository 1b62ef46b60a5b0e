//! Both ends of the gateway protocol (CN103259713A), without sockets or clock.
//!
//! [`Gateway`] registers with a back end, beats, learns results, rules and parameters, and reports what it recognised.
//! [`Backend`] admits gateways, keeps what they report, and brings every gateway of a group to the same state.
//! What travels and how repetitions are told apart is in `docs/gateway-protocol.md`.

mod association;
mod backend;
mod client;
mod frames;
mod token;

#[cfg(feature = "backend")]
pub(crate) use backend::check_group;
pub use backend::{
    Backend, BackendConfig, BackendCounters, BackendEvent, Enrolment, GatewayInfo, GroupInfo, Open,
};
pub use client::{Gateway, GatewayConfig, GatewayCounters, GatewayEvent, GatewayState};
pub use token::{Grant, Token};

use std::net::SocketAddr;

use crate::wire::gateway::Family;

/// What a shared result is about: any flow to this remote end with this protocol (DECISIONS 6, Isolation).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ResultKey {
    /// The end outside the gateway's network.
    pub remote: SocketAddr,
    /// As [`crate::wire::gateway::Record::protocol`].
    pub protocol: u8,
}

impl ResultKey {
    /// The key of a remote end. An IPv4 address and its IPv6 form are the same end, whatever an association writes
    /// (SPEC R-04); keys hold the IPv6 form.
    pub fn new(remote: SocketAddr, protocol: u8) -> ResultKey {
        let address = Family::V6.fit(remote.ip()).unwrap_or(remote.ip());
        ResultKey { remote: SocketAddr::new(address, remote.port()), protocol }
    }
}
