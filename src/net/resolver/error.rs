//! What can go wrong with a lookup, in words for the person who has to put it right.

use std::io;

use crate::wire::dns::{DecodeError, NameError};

/// A lookup that found nothing: which name, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {reason}")]
pub struct ResolveError {
    /// The name as it was asked for.
    pub name: String,
    /// Why there is no address.
    pub reason: Reason,
}

impl ResolveError {
    /// Whether the same lookup may well succeed later: the trouble lies with servers or the network, not the name.
    pub fn is_temporary(&self) -> bool {
        match self.reason {
            Reason::NoSuchName | Reason::NoAddress | Reason::NotOffered => false,
            Reason::Failed(_) | Reason::Timeout | Reason::TooManyLookups | Reason::TooManyQueries => true,
        }
    }
}

/// Why a lookup found nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The name does not exist, nor with any suffix of the search list.
    #[error("no such name")]
    NoSuchName,
    /// The name exists but has no address that a connection can be made to.
    #[error("the name exists but has no usable address")]
    NoAddress,
    /// The domain says that it does not offer the service (RFC 2782, target `.`).
    #[error("the domain says that it does not offer this service")]
    NotOffered,
    /// No server gave a usable answer.
    #[error("{0}")]
    Failed(Failure),
    /// The whole lookup took longer than its limit.
    #[error("not resolved within the time limit; check the network and the name servers")]
    Timeout,
    /// As many lookups as a resolver holds are under way already.
    #[error("too many lookups under way; try again when one has ended")]
    TooManyLookups,
    /// The lookup led from name to name for longer than any honest one does.
    #[error("the lookup leads through too many names")]
    TooManyQueries,
}

/// Why the servers gave no usable answer to one question: of several reasons, the one that says most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No server answered in time.
    #[error("no name server answered; check the network and the name servers configured")]
    Timeout,
    /// The servers could not be reached.
    #[error("no name server could be reached ({0}); check the network and the name servers configured")]
    Unreachable(io::ErrorKind),
    /// The server answers, but does not resolve names for its clients.
    #[error("the name server does not resolve for clients; configure another")]
    NotRecursive,
    /// The server will not answer us.
    #[error("the name server refused to answer; configure one that serves this network")]
    Refused,
    /// The server reports an error; its code is of RFC 1035 §4.1.1 or RFC 6891.
    #[error("the name server failed (code {rcode}); this may pass")]
    ServerFailure {
        /// The response code.
        rcode: u16,
    },
    /// Over TCP came an answer to something else than the question.
    #[error("the name server answered another question")]
    WrongAnswer,
    /// The answer breaks the format.
    #[error("the name server's answer is malformed: {0}")]
    Malformed(DecodeError),
    /// More than eight aliases, or aliases in a circle.
    #[error("the name leads through too many aliases, or in a circle")]
    TooManyAliases,
}

impl Failure {
    /// The one of the two that tells a reader more: what a server said stands over that none was heard.
    pub(super) fn or(self, other: Failure) -> Failure {
        if other.weight() > self.weight() { other } else { self }
    }

    fn weight(self) -> u8 {
        match self {
            Failure::Timeout => 0,
            Failure::Unreachable(_) => 1,
            Failure::NotRecursive => 2,
            Failure::Refused => 3,
            Failure::ServerFailure { .. } => 4,
            Failure::WrongAnswer => 5,
            Failure::Malformed(_) => 6,
            Failure::TooManyAliases => 7,
        }
    }
}

/// Why a text is nothing that can be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It is not a host name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The port is missing after its colon or is not 1 to 65535.
    #[error("the port must be a number from 1 to 65535")]
    Port,
    /// It looks like an address and is none.
    #[error("this looks like an IP address but is none; IPv6 with a port is written [address]:port")]
    Address,
    /// The part after `%` is not known as a network interface.
    #[error("the network interface after '%' is not known")]
    Interface,
}
