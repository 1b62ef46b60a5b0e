//! The driver: the only sockets, the only clock. Nodes live on a [`Loop`]; [`open_gateway`] and [`open_backend`] put
//! them there as a [`Config`](crate::config::Config) says.

mod clock;
mod driver;
mod endpoint;
pub mod happy_eyeballs;
mod open;
pub mod resolver;
mod stream;
mod system;
mod timers;
#[cfg(feature = "tls")]
pub mod tls;
pub mod url;

pub use driver::{Loop, NodeId};
pub use endpoint::{ClientSecurity, DriverCounters, Limits, Listen, ListenTransport, Remote, ServerSecurity};
#[cfg(feature = "backend")]
pub use open::open_backend;
pub use open::open_gateway;
pub use stream::StreamCounters;
