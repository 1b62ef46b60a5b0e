//! What other gateways have recognised: remote ends and their applications, a bounded number of them, for a while.

use std::{collections::HashMap, net::IpAddr};

use super::{
    AppId,
    condition::Transport,
    flow::{Key, octets},
};
use crate::time::Time;

/// Address, port, and whether it is TCP.
type Remote = ([u8; 16], u16, bool);

/// Remote ends and what they serve.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    known: HashMap<Remote, (AppId, Time)>,
    /// Hints that found no room.
    pub(crate) refused: u64,
}

impl Hints {
    /// Remembers a hint, at most `most` of them; those that have expired at `now` make room.
    pub(crate) fn set(&mut self, now: Time, most: usize, remote: Remote, app: AppId, expires: Time) {
        if self.known.len() >= most && !self.known.contains_key(&remote) {
            self.known.retain(|_, (_, expires)| *expires > now);
            if self.known.len() >= most {
                self.refused += 1;
                return;
            }
        }
        self.known.insert(remote, (app, expires));
    }

    /// Forgets a hint and says whether there was one.
    pub(crate) fn remove(&mut self, remote: Remote) -> bool {
        self.known.remove(&remote).is_some()
    }

    /// What a flow's responder serves, or else its initiator.
    pub(crate) fn of(&self, now: Time, flow: &Key) -> Option<AppId> {
        if self.known.is_empty() {
            return None;
        }
        [1, 0].into_iter().find_map(|end| {
            let (app, expires) = self.known.get(&(flow.addresses[end], flow.ports[end], flow.tcp))?;
            (*expires > now).then_some(*app)
        })
    }

    /// Octets of memory.
    pub(crate) fn memory(&self) -> usize {
        self.known.capacity() * (size_of::<Remote>() + size_of::<(AppId, Time)>() + 1)
    }
}

/// A remote end as hints know it.
pub(crate) fn remote(address: IpAddr, port: u16, transport: Transport) -> Remote {
    (octets(address), port, transport == Transport::Tcp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_made_by_what_has_expired() {
        let end = |port| remote("10.0.0.1".parse().expect("address"), port, Transport::Udp);
        let at = Time::from_micros;
        let mut hints = Hints::default();
        hints.set(at(0), 2, end(1), AppId(1), at(10));
        hints.set(at(0), 2, end(2), AppId(2), at(20));
        hints.set(at(5), 2, end(3), AppId(3), at(30));
        assert_eq!(hints.refused, 1);
        hints.set(at(5), 2, end(2), AppId(9), at(40));
        hints.set(at(10), 2, end(3), AppId(3), at(30));
        assert_eq!((hints.known.len(), hints.refused), (2, 1));
        assert!(hints.remove(end(2)) && !hints.remove(end(2)));
    }
}
