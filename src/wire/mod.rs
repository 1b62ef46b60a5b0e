//! Octets to values and back, without state. Every decoder takes any input and names the octet it stumbled on.
#![forbid(unsafe_code)]

pub mod app;
#[cfg(feature = "link")]
pub mod balance;
pub mod capture;
pub mod dns;
pub mod gateway;
pub mod inner;
#[cfg(feature = "link")]
pub mod link;
pub mod octets;
pub mod packet;
pub mod post;

/// Number of an application, as both ends of the gateway protocol know it (CN103259713A `AppID`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct AppId(pub u32);

impl AppId {
    /// No application. As a result it takes back what was told before (docs/gateway-protocol.md).
    pub const NONE: AppId = AppId(0);
}

impl std::fmt::Display for AppId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
