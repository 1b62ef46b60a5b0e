//! TLS 1.2 and 1.3 on rustls with the ring provider: keys, what is trusted, and one connection's octets.
//!
//! Nothing here is process-global: no default provider is installed, no environment variable is read, nothing is
//! logged. An ALPN name says which protocol of ours runs inside (`hail-gw/1`, `hail-link/1`, `hail-app/1`). Who a client
//! is follows from the [`KeyId`](crate::io::KeyId) of the key that it proved to hold, and is decided by the part above.
#![forbid(unsafe_code)]

mod certificate;
pub mod config;
mod fault;
#[cfg(test)]
mod hostile;
pub mod keys;
mod provider;
pub mod session;
#[cfg(test)]
mod testing;
mod verify;

pub use config::{ServerTrust, client_config, offering, server_config};
pub use keys::{Identity, key_id_of, key_id_of_pem};
pub use session::{ReadStop, Session, WriteStop};
pub use verify::CLIENT_CERTIFICATE_LIMIT;

use crate::counters::counters;

counters! {
    /// What became of TLS connections, over all that were given the same counters.
    pub struct Counters {
        handshakes: "handshakes finished",
        resumed: "of those, by a ticket of an earlier session",
        paused: "reads put off until the application takes what is buffered",
        bad_identity: "peers whose key or certificate is not trusted",
        bad_alpn: "peers that do not speak our protocol",
        oversize: "handshakes or certificates over their limit",
        bad_protocol: "peers that broke the TLS protocol or share no version with us",
        refused_by_peer: "connections that the peer ended with an alert",
        truncated: "connections cut without the peer's TLS goodbye",
    }
}
