//! Texts inside protocols that rules can address: server names, hosts, query names.

pub(super) mod dns;
pub(super) mod http;
pub(super) mod quic;
pub(super) mod tls;
