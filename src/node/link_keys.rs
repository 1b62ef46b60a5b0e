//! The keys of a link server that its node keeps in its store: drawn when they are not there.

use crate::{
    link::{ServerSecrets, TicketRoot},
    rng::Entropy,
    status::{Fault, Status},
    store::{Op, Store, Table},
};

const LINK: Table = Table::rows("link");
const PRIVATE: &[u8] = b"private";
const RESET: &[u8] = b"reset";
const TICKETS: &[u8] = b"tickets";
/// There in a copy of the store, and in the store itself only while a copy begins.
const COPY: &[u8] = b"copy";

/// What a store holds of a link server.
pub(super) struct Found {
    pub secrets: ServerSecrets,
    /// What is to be stored of it.
    pub ops: Vec<Op>,
    /// The store is a copy of another.
    #[cfg_attr(not(feature = "post"), allow(dead_code))]
    pub is_copy: bool,
}

/// The secrets of the link that the store holds, and those that it did not.
pub(super) fn found(store: &dyn Store, unix: u64, rng: &mut dyn Entropy) -> Result<Found, Fault> {
    let (private, drawn) = key(store, PRIVATE, rng)?;
    let mut ops: Vec<Op> = drawn.into_iter().collect();
    let (reset, drawn) = key(store, RESET, rng)?;
    ops.extend(drawn);
    let is_copy = row(store, COPY)?.is_some();
    if is_copy {
        ops.push(unmark_copy());
    }
    // A copy does not know whose credentials were revoked since, or who has the inboxes that were given since.
    let tickets = match row(store, TICKETS)?.filter(|_| !is_copy) {
        Some(octets) => {
            let (day, key) = octets.split_at_checked(8).ok_or_else(corrupt)?;
            let day = u64::from_be_bytes(day.try_into().map_err(|_| corrupt())?);
            TicketRoot { day, key: key.try_into().map_err(|_| corrupt())? }
        }
        None => {
            let mut key = [0; 32];
            rng.fill(&mut key);
            let root = TicketRoot { day: unix / 86_400, key };
            ops.push(put_tickets(&root));
            root
        }
    };
    let secrets = ServerSecrets { private, next_private: None, reset, tickets };
    Ok(Found { secrets, ops, is_copy })
}

/// A key by its name, and what stores it if it was not there.
pub(super) fn key(
    store: &dyn Store,
    name: &[u8],
    rng: &mut dyn Entropy,
) -> Result<([u8; 32], Option<Op>), Fault> {
    if let Some(octets) = row(store, name)? {
        return Ok((octets.try_into().map_err(|_| corrupt())?, None));
    }
    let mut key = [0; 32];
    rng.fill(&mut key);
    Ok((key, Some(Op::Put { table: LINK, key: name.to_vec(), value: key.to_vec() })))
}

/// Keeps the root of today's tickets.
pub(super) fn put_tickets(root: &TicketRoot) -> Op {
    let value = [&root.day.to_be_bytes()[..], &root.key].concat();
    Op::Put { table: LINK, key: TICKETS.to_vec(), value }
}

/// Says that the store is being copied: whoever opens the copy finds it.
#[cfg(feature = "post")]
pub(super) fn mark_copy() -> Op {
    Op::Put { table: LINK, key: COPY.to_vec(), value: Vec::new() }
}

/// Takes that back.
pub(super) fn unmark_copy() -> Op {
    Op::Delete { table: LINK, key: COPY.to_vec() }
}

fn row(store: &dyn Store, name: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
    let mut found = None;
    store.load(LINK, &mut |key, value| {
        if key == name {
            found = Some(value.to_vec());
        }
    })?;
    Ok(found)
}

fn corrupt() -> Fault {
    Fault::new(Status::StoreCorrupt, "a key of the link cannot be read")
}
