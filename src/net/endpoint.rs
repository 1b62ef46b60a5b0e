//! Where nodes connect to and listen.

use std::net::{IpAddr, SocketAddr};
#[cfg(feature = "tls")]
use std::sync::Arc;

use super::resolver::Target;
use crate::{config::Network, counters::counters, io::Service, status::Fault};

/// How a stream to a server is protected.
#[derive(Clone)]
pub enum ClientSecurity {
    /// Not at all.
    Plain,
    /// By TLS.
    #[cfg(feature = "tls")]
    Tls {
        /// Identity, trust and protocol.
        config: Arc<rustls::ClientConfig>,
        /// What the server's certificate must name, unless its key is pinned.
        server_name: String,
    },
}

/// How streams of clients are protected.
#[derive(Clone)]
pub enum ServerSecurity {
    /// Not at all.
    Plain,
    /// By TLS, with these identities; the listener's services are the protocols. Only a back end listens: a gateway needs no TLS server in it.
    #[cfg(all(feature = "tls", any(feature = "backend", feature = "post")))]
    Tls(Arc<rustls::ServerConfig>),
}

/// Where a node's [`crate::io::Output::Connect`] leads.
#[derive(Clone)]
pub enum Remote {
    /// A stream.
    Stream {
        /// Host and port.
        target: Target,
        /// Bare or under TLS.
        security: ClientSecurity,
        /// What is spoken; under TLS what both agreed on stands over it.
        service: Service,
    },
    /// Datagrams.
    Datagram {
        /// Host and port.
        target: Target,
        /// What is spoken.
        service: Service,
    },
}

impl Remote {
    pub(super) fn target(&self) -> &Target {
        match self {
            Remote::Stream { target, .. } | Remote::Datagram { target, .. } => target,
        }
    }
}

/// Where a node's peers come in.
#[derive(Clone)]
pub struct Listen {
    /// The address; port 0 takes a free one.
    pub address: SocketAddr,
    /// Streams bare or under TLS, or datagrams.
    pub transport: ListenTransport,
    /// Who may come; `None` for everyone.
    pub networks: Option<Vec<Network>>,
    /// What is spoken here; at least one. TLS offers all of them by ALPN, and a client that names none gets the first, as
    /// bare streams and datagrams do.
    pub services: Vec<Service>,
}

impl Listen {
    /// Whether datagrams come in.
    #[cfg(any(feature = "backend", feature = "post"))]
    pub(super) fn is_datagram(&self) -> bool {
        matches!(self.transport, ListenTransport::Datagram)
    }

    /// What is spoken where nothing else was agreed on.
    pub(super) fn service(&self) -> Option<Service> {
        self.services.first().copied()
    }

    /// Whether a peer at this address may come in.
    pub fn welcomes(&self, address: IpAddr) -> bool {
        self.networks.as_ref().is_none_or(|networks| networks.iter().any(|network| network.contains(address)))
    }
}

/// How peers come in.
#[derive(Clone)]
pub enum ListenTransport {
    /// TCP.
    Stream(ServerSecurity),
    /// UDP.
    Datagram,
}

/// The driver's bounds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Events that wait to be pulled; past it nothing more is read.
    pub events: usize,
    /// Connections that one address may hold at a node's listeners; of IPv6, one network of 64 bits.
    pub per_address: usize,
    /// Datagrams of the link that one system call takes or gives; 1 to 64.
    pub batch: usize,
    /// How long a handshake, or a peer that is to read our last words, may take.
    pub patience: std::time::Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { events: 4096, per_address: 256, batch: 64, patience: std::time::Duration::from_secs(10) }
    }
}

counters! {
    /// What a loop counts.
    pub struct DriverCounters {
        accepted: "connections taken",
        unwelcome: "connections and datagrams from networks that may not come in",
        too_many: "connections turned away because their address holds too many",
        unclaimed: "connections closed because the node that has what they speak is gone",
        out_of_descriptors: "times that descriptors ran out",
        handshakes_given_up: "handshakes that took too long",
        datagrams_unsent: "datagrams that the kernel did not take",
        datagrams_overflowed: "datagrams dropped because too many waited for the kernel",
        datagrams_too_long: "datagrams dropped because they are longer than any of the link",
    }
}

/// A connection attempt under way.
pub(super) struct Dial {
    pub node: super::NodeId,
    /// Which of the node's remotes.
    pub way: usize,
    pub conn: crate::io::Conn,
    pub stage: DialStage,
    /// Sockets of attempts under way.
    pub attempts: Vec<(super::happy_eyeballs::AttemptId, usize)>,
}

pub(super) enum DialStage {
    Resolving(super::resolver::LookupId),
    Racing(super::happy_eyeballs::Race),
}

/// A failure of a dial in the words of its owner.
pub(super) fn dial_fault(
    status: crate::status::Status,
    target: &Target,
    why: impl std::fmt::Display,
) -> Fault {
    Fault::new(status, format!("connecting to {target}: {why}"))
}
