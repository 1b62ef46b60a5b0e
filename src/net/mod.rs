//! The driver: the only sockets, the only clock. Nodes live on a [`Loop`]; [`open_gateway`] and [`open_backend`] put
//! them there as a [`Config`](crate::config::Config) says.

mod batch;
mod bind;
#[cfg(feature = "post")]
mod check_office;
mod clock;
#[cfg(any(feature = "gateway", feature = "device"))]
mod configured;
#[cfg(any(feature = "gateway", feature = "device"))]
mod credential;
mod driver;
mod endpoint;
#[cfg(any(feature = "backend", feature = "post"))]
mod enrolled;
pub mod happy_eyeballs;
#[cfg(feature = "post")]
mod open_app;
#[cfg(all(feature = "post", feature = "health", feature = "json"))]
mod open_authority;
#[cfg(feature = "backend")]
mod open_backend;
#[cfg(feature = "post")]
mod open_balancer;
#[cfg(feature = "post")]
mod open_broker;
#[cfg(feature = "device")]
mod open_device;
#[cfg(feature = "gateway")]
mod open_gateway;
#[cfg(feature = "post")]
mod open_office;
mod outbox;
pub mod resolver;
mod stream;
mod system;
mod timers;
#[cfg(feature = "tls")]
pub mod tls;
pub mod url;

#[cfg(feature = "post")]
pub use check_office::check_office;
pub use clock::SystemEntropy;
pub use driver::{Loop, NodeId};
pub use endpoint::{ClientSecurity, DriverCounters, Limits, Listen, ListenTransport, Remote, ServerSecurity};
#[cfg(any(feature = "backend", feature = "post"))]
pub use enrolled::credential_line;
#[cfg(feature = "backend")]
pub use enrolled::credential_url;
#[cfg(feature = "post")]
pub use open_app::open_app;
#[cfg(all(feature = "post", feature = "health", feature = "json"))]
pub use open_authority::open_authority;
#[cfg(feature = "backend")]
pub use open_backend::{RELOADED, open_backend, reload_backend};
#[cfg(feature = "post")]
pub use open_balancer::reload_balancer;
#[cfg(feature = "post")]
pub use open_broker::open_broker;
#[cfg(feature = "device")]
pub use open_device::open_device;
#[cfg(feature = "gateway")]
pub use open_gateway::{HOME_RULES, open_gateway, open_recognition, open_recognizer};
#[cfg(feature = "post")]
pub use open_office::{
    OfficeAddresses, Part, RELOADED_OFFICE, enrolment_line, office_url, open_office, open_office_beside,
    reload_office,
};
pub use stream::StreamCounters;
