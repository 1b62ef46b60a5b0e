//! Peers in what is printed, and so in logs: told apart, and not told (DECISIONS.md 12).

use std::{
    hash::{BuildHasher, RandomState},
    net::{IpAddr, SocketAddr},
};

use hailpost::node::{Event, Field};

/// Eight digits for each address, by a key that is drawn at the start and kept nowhere.
#[derive(Default)]
pub struct Pseudonyms {
    key: RandomState,
}

impl Pseudonyms {
    /// The event with no peer's address in it. Names that the operator gave stay.
    pub fn hide(&self, event: Event) -> Event {
        event.reworded(|field, text| match field {
            Field::LocalAddress | Field::RemoteAddress => Some(self.of(text)),
            // A gateway without a key is called by its address.
            Field::Name => text.parse::<SocketAddr>().ok().map(|address| self.of(&address.ip().to_string())),
            _ => text.parse::<IpAddr>().ok().map(|_| self.of(text)),
        })
    }

    fn of(&self, address: &str) -> String {
        format!("{:08x}", self.key.hash_one(address) as u32)
    }
}
