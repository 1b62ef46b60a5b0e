//! What an answer means for the question that it answers.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::error::Failure;
use crate::{
    time::Time,
    wire::dns::{Data, Message, Name, Record, RecordType, Srv, rcode},
};

/// Most aliases followed from one name, within answers and across them.
pub const MAX_ALIASES: usize = 8;
/// Most addresses kept of one name and family.
pub const MAX_ADDRESSES: usize = 16;
/// Most instances kept of one service, those preferred, and most addresses that come along with them.
pub const MAX_SERVICES: usize = 64;
/// The shortest time for which an answer is kept.
pub const MIN_TTL: Duration = Duration::from_secs(1);
/// The longest time for which an answer is kept.
pub const MAX_TTL: Duration = Duration::from_secs(3600);
/// The longest time for which a denial is kept: well under the three hours of RFC 2308 §5, because a name that comes
/// into being should be found soon by a device that waits for it.
pub const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(300);

/// A name and what is asked of it, in the Internet's class.
pub(super) type Key = (Name, RecordType);

/// What came of a question, and until when that may be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub outcome: Outcome,
    pub expires: Time,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// At least one address of the family asked for; the order is the server's.
    Addresses(Vec<IpAddr>),
    /// At least one instance, and those addresses of their hosts that came along.
    Services { instances: Vec<Srv>, addresses: Vec<(Name, IpAddr)> },
    /// Another name, after so many aliases, that the server did not follow itself.
    Alias { to: Name, aliases: usize },
    /// The name exists, with nothing of this kind.
    NoData,
    /// The name does not exist.
    NoName,
    /// No server had a usable answer. Never cached.
    Failed(Failure),
}

/// Reads the records of an answer to the question `key` whose code is [`rcode::OK`] or [`rcode::NO_NAME`]. Adds to
/// `left_out` what the bounds had no room for.
pub(super) fn interpret(
    message: &Message,
    key: &Key,
    left_out: &mut u64,
) -> Result<(Outcome, Duration), Failure> {
    let (asked, kind) = key;
    let (mut name, mut aliases, mut ttl) = (asked, 0, u32::MAX);
    loop {
        let records = || message.answers.iter().filter(|r| r.name == *name);
        let found: Vec<&Record> = records().filter(|r| is_of(r, *kind)).collect();
        if !found.is_empty() {
            let ttl = found.iter().map(|r| r.ttl).fold(ttl, u32::min);
            return Ok((outcome(&found, message, left_out), clamp(ttl, MAX_TTL)));
        }
        let alias = records().find_map(|r| match &r.data {
            Data::Cname(target) => Some((target, r.ttl)),
            _ => None,
        });
        let Some((target, alias_ttl)) = alias else { break };
        aliases += 1;
        if aliases > MAX_ALIASES {
            return Err(Failure::TooManyAliases);
        }
        (name, ttl) = (target, ttl.min(alias_ttl));
    }
    let denial = message.authority.iter().find_map(|r| match r.data {
        Data::Soa { minimum } => Some(minimum.min(r.ttl)),
        _ => None,
    });
    // Without an SOA a denial has no lifetime, and is kept for the least (RFC 2308 §5).
    let denied = |outcome| Ok((outcome, clamp(ttl.min(denial.unwrap_or(0)), MAX_NEGATIVE_TTL)));
    if message.rcode == rcode::NO_NAME {
        return denied(Outcome::NoName);
    }
    if denial.is_none() && aliases > 0 {
        return Ok((Outcome::Alias { to: name.clone(), aliases }, clamp(ttl, MAX_TTL)));
    }
    // Nothing, with no authority for the nothing, from a server that does not resolve: a referral.
    if denial.is_none() && !message.head.recursion_available && !message.head.authoritative {
        return Err(Failure::NotRecursive);
    }
    denied(Outcome::NoData)
}

/// Whether a connection to the address can mean the host that it was given for. An unspecified address, which filters
/// answer for what they block, would mean this machine.
pub(super) fn is_usable(address: &IpAddr) -> bool {
    let address = address.to_canonical();
    !address.is_unspecified() && !address.is_multicast() && address != IpAddr::V4(Ipv4Addr::BROADCAST)
}

fn is_of(record: &Record, kind: RecordType) -> bool {
    matches!(
        (&record.data, kind),
        (Data::A(_), RecordType::A) | (Data::Aaaa(_), RecordType::Aaaa) | (Data::Srv(_), RecordType::Srv)
    )
}

fn outcome(found: &[&Record], message: &Message, left_out: &mut u64) -> Outcome {
    let mut bound = |len: usize, most: usize| *left_out += len.saturating_sub(most) as u64;
    let instances = found.iter().filter_map(|r| match &r.data {
        Data::Srv(srv) => Some(srv.clone()),
        _ => None,
    });
    let mut instances: Vec<Srv> = instances.collect();
    if !instances.is_empty() {
        bound(instances.len(), MAX_SERVICES);
        instances.sort_by_key(|i| i.priority);
        instances.truncate(MAX_SERVICES);
        // Only what belongs to a host that the answer itself names: nothing else was asked for.
        let along = message.additional.iter().filter(|r| instances.iter().any(|i| i.target == r.name));
        let along = along.filter_map(|r| Some((r.name.clone(), address(r)?)));
        let mut addresses: Vec<(Name, IpAddr)> = along.collect();
        bound(addresses.len(), MAX_SERVICES);
        addresses.truncate(MAX_SERVICES);
        return Outcome::Services { instances, addresses };
    }
    let mut addresses: Vec<IpAddr> = found.iter().filter_map(|r| address(r)).collect();
    bound(addresses.len(), MAX_ADDRESSES);
    addresses.truncate(MAX_ADDRESSES);
    if addresses.is_empty() { Outcome::NoData } else { Outcome::Addresses(addresses) }
}

fn address(record: &Record) -> Option<IpAddr> {
    let address = match record.data {
        Data::A(address) => address.into(),
        Data::Aaaa(address) => address.into(),
        _ => return None,
    };
    is_usable(&address).then_some(address)
}

fn clamp(ttl: u32, most: Duration) -> Duration {
    Duration::from_secs(ttl.into()).clamp(MIN_TTL, most)
}
