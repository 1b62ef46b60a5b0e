//! IP packets put together from their fragments, a bounded number at a time (RFC 791 §3.2, RFC 8200 §4.5).

use std::{net::IpAddr, time::Duration};

use crate::{
    time::Time,
    wire::packet::{Fragment, Packet},
};

/// Packets under construction.
const MAX_PACKETS: usize = 32;
/// Octets of all of them.
const MAX_OCTETS: usize = 64 << 10;
/// Fragments of one packet.
const MAX_FRAGMENTS: usize = 64;
/// How long a packet waits for its missing fragments.
const PATIENCE: Duration = Duration::from_secs(10);

/// A packet as far as it was put together.
#[derive(Debug)]
pub(crate) struct Assembled {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: u8,
    /// The payload from its first octet on; empty when the first fragment is missing.
    pub(crate) payload: Vec<u8>,
    /// The payload's length on the wire, as far as it is known.
    pub(crate) payload_len: u32,
    /// The wire lengths of all fragments together.
    pub(crate) ip_len: u32,
    pub(crate) fragments: u32,
}

#[derive(Debug)]
struct Partial {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    id: u32,
    since: Time,
    /// Offset and octets of each fragment, in order.
    pieces: Vec<(u32, Box<[u8]>)>,
    /// Known from the last fragment.
    length: Option<u32>,
    ip_len: u32,
}

/// Fragments that wait for others.
#[derive(Debug, Default)]
pub(crate) struct Fragments {
    partials: Vec<Partial>,
    octets: usize,
    /// Packets given up: their time or the room for them was over.
    pub(crate) incomplete: u64,
    /// Packets dropped because their fragments contradict each other.
    pub(crate) bad: u64,
}

impl Fragments {
    /// Takes a fragment in and gives the packet back when it is whole. [`Fragments::crowded`] is to be asked after.
    pub(crate) fn add(&mut self, now: Time, packet: &Packet<'_>, fragment: Fragment) -> Option<Assembled> {
        let same = |partial: &Partial| {
            partial.id == fragment.id
                && partial.protocol == packet.protocol
                && partial.source == packet.source
                && partial.destination == packet.destination
        };
        let at = match self.partials.iter().position(same) {
            Some(at) => at,
            None => {
                self.partials.push(Partial {
                    source: packet.source,
                    destination: packet.destination,
                    protocol: packet.protocol,
                    id: fragment.id,
                    since: now,
                    pieces: Vec::new(),
                    length: None,
                    ip_len: 0,
                });
                self.partials.len() - 1
            }
        };
        let partial = &mut self.partials[at];
        partial.ip_len = partial.ip_len.saturating_add(packet.ip_len);
        let end = fragment.offset + packet.payload_len;
        let place = partial.pieces.partition_point(|(offset, _)| *offset < fragment.offset);
        let again = partial.pieces.get(place).is_some_and(|(offset, octets)| {
            *offset == fragment.offset && octets.len() == packet.payload.len()
        });
        if again {
            return None;
        }
        let overlaps = partial.pieces.get(place).is_some_and(|(offset, _)| *offset < end)
            || place.checked_sub(1).is_some_and(|before| {
                let (offset, octets) = &partial.pieces[before];
                offset + octets.len() as u32 > fragment.offset
            });
        let beyond = partial.length.is_some_and(|length| end > length) || end > 65_535;
        // What overlaps is an attack or a fault (RFC 5722).
        if overlaps || beyond || partial.pieces.len() == MAX_FRAGMENTS {
            self.bad += 1;
            self.remove(at);
            return None;
        }
        partial.pieces.insert(place, (fragment.offset, packet.payload.into()));
        self.octets += packet.payload.len();
        if !fragment.more {
            partial.length = Some(end);
        }
        self.partials[at].is_whole().then(|| self.remove(at))
    }

    /// The packet that has waited longest, while there is no room for more.
    pub(crate) fn crowded(&mut self) -> Option<Assembled> {
        (self.partials.len() > MAX_PACKETS || self.octets > MAX_OCTETS).then(|| self.give_up()).flatten()
    }

    /// A packet that has waited too long at `now`.
    pub(crate) fn expired(&mut self, now: Time) -> Option<Assembled> {
        let oldest = self.partials.first()?;
        (now.since(oldest.since) >= PATIENCE).then(|| self.give_up()).flatten()
    }

    /// When the next packet will have waited too long.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.partials.first().map(|oldest| oldest.since + PATIENCE)
    }

    /// The packet that has waited longest, as far as it goes.
    pub(crate) fn give_up(&mut self) -> Option<Assembled> {
        (!self.partials.is_empty()).then(|| {
            self.incomplete += 1;
            self.remove(0)
        })
    }

    /// Octets of memory.
    pub(crate) fn memory(&self) -> usize {
        let pieces: usize = self.partials.iter().map(|partial| partial.pieces.capacity()).sum();
        self.octets + pieces * size_of::<(u32, Box<[u8]>)>() + self.partials.capacity() * size_of::<Partial>()
    }

    fn remove(&mut self, at: usize) -> Assembled {
        // The order is that of age; there are few.
        let partial = self.partials.remove(at);
        let octets: usize = partial.pieces.iter().map(|(_, octets)| octets.len()).sum();
        self.octets -= octets;
        let mut payload = Vec::with_capacity(octets);
        for (offset, octets) in &partial.pieces {
            if *offset as usize != payload.len() {
                break;
            }
            payload.extend_from_slice(octets);
        }
        let last = partial.pieces.last().map_or(0, |(offset, octets)| offset + octets.len() as u32);
        Assembled {
            source: partial.source,
            destination: partial.destination,
            protocol: partial.protocol,
            payload,
            payload_len: partial.length.unwrap_or(last),
            ip_len: partial.ip_len,
            fragments: partial.pieces.len() as u32,
        }
    }
}

impl Partial {
    fn is_whole(&self) -> bool {
        let mut next = 0;
        for (offset, octets) in &self.pieces {
            if *offset != next {
                return false;
            }
            next += octets.len() as u32;
        }
        self.length == Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(payload: &[u8]) -> Packet<'_> {
        Packet {
            source: "10.0.0.1".parse().expect("address"),
            destination: "10.0.0.2".parse().expect("address"),
            protocol: 17,
            ip_len: payload.len() as u32 + 20,
            payload_len: payload.len() as u32,
            payload,
            fragment: None,
        }
    }

    fn at(id: u32, offset: u32, more: bool) -> Fragment {
        Fragment { id, offset, more }
    }

    #[test]
    fn any_order_with_repeats() {
        let mut fragments = Fragments::default();
        let now = Time::ZERO;
        for (offset, more, octets) in [(16, false, "c"), (8, true, "bbbbbbbb"), (8, true, "bbbbbbbb")] {
            let given = fragments.add(now, &packet(octets.as_bytes()), at(1, offset, more));
            assert!(given.is_none());
        }
        let whole = fragments.add(now, &packet(b"aaaaaaaa"), at(1, 0, true));
        let whole = whole.expect("it is whole");
        assert_eq!(whole.payload, b"aaaaaaaabbbbbbbbc");
        assert_eq!((whole.payload_len, whole.fragments, whole.ip_len), (17, 3, 105));
        assert_eq!((fragments.octets, fragments.partials.len()), (0, 0));
    }

    #[test]
    fn overlaps_are_dropped() {
        let mut fragments = Fragments::default();
        fragments.add(Time::ZERO, &packet(&[1; 16]), at(1, 0, true));
        fragments.add(Time::ZERO, &packet(&[2; 16]), at(1, 8, true));
        assert_eq!((fragments.bad, fragments.partials.len(), fragments.octets), (1, 0, 0));
    }

    #[test]
    fn packets_and_octets_are_bounded() {
        let mut fragments = Fragments::default();
        let mut given = 0;
        for id in 0..100 {
            fragments.add(Time::ZERO, &packet(&[7; 8]), at(id, 0, true));
            let oldest = fragments.crowded();
            given += usize::from(oldest.is_some_and(|oldest| oldest.payload == [7; 8]));
        }
        assert_eq!((given, fragments.incomplete), (100 - MAX_PACKETS, 100 - MAX_PACKETS as u64));
        for id in 0..100 {
            fragments.add(Time::ZERO, &packet(&[7; 4096]), at(id + 1000, 0, true));
            while fragments.crowded().is_some() {}
            assert!(fragments.memory() <= MAX_OCTETS + 16 * 1024);
        }
        for offset in 0..=MAX_FRAGMENTS as u32 {
            fragments.add(Time::ZERO, &packet(&[7; 8]), at(5000, offset * 16, true));
        }
        assert_eq!(fragments.bad, 1);
    }

    #[test]
    fn what_waits_too_long_is_given_up() {
        let mut fragments = Fragments::default();
        fragments.add(Time::ZERO, &packet(&[7; 8]), at(1, 0, true));
        fragments.add(Time::ZERO, &packet(&[7; 8]), at(2, 8, true));
        assert!(fragments.expired(Time::from_micros(9_999_999)).is_none());
        let later = Time::from_micros(10_000_000);
        assert_eq!(fragments.expired(later).expect("time is over").payload, [7; 8]);
        assert!(fragments.expired(later).expect("time is over").payload.is_empty());
        assert!(fragments.expired(later).is_none());
    }
}
