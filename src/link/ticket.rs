//! Tickets: what the server needs for a resume, sealed for itself, so that it keeps nothing for each session.

use super::keys::{self, expand};
use crate::wire::link::TICKET;

/// Seconds of a day, after which another key seals.
const DAY: u64 = 86_400;
/// How long a ticket is good, in days.
pub const LIFE_DAYS: u64 = 7;
/// Days whose keys still open: a ticket's life and the day on which it was made.
const KEPT: u64 = LIFE_DAYS + 1;
/// Days that a ring which lay unused is carried forward; beyond that no ticket under it is good anyway.
const MAX_CATCH_UP: u64 = 4096;

/// The durable root of ticket keys: each day's key follows from the day before, and not the other way, so who gets hold
/// of it opens nothing that was made earlier.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TicketRoot {
    /// Days since 1970.
    pub day: u64,
    /// That day's key.
    pub key: [u8; 32],
}

impl TicketRoot {
    fn next(&self) -> TicketRoot {
        TicketRoot { day: self.day + 1, key: expand(&self.key, b"hail ticket next") }
    }
}

impl std::fmt::Debug for TicketRoot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TicketRoot(day {})", self.day)
    }
}

/// What a ticket says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    pub session_id: [u8; 16],
    pub principal: u64,
    pub resume: [u8; 32],
    /// Unix seconds.
    pub expiry: u64,
    pub epoch: u32,
    /// Unix seconds, low 32 bits.
    pub made: u32,
}

/// The keys that seal and open.
pub(super) struct TicketKeys {
    /// Oldest first, a day each, without gaps.
    ring: Vec<TicketRoot>,
}

impl TicketKeys {
    pub fn new(root: TicketRoot, unix: u64) -> TicketKeys {
        let mut keys = TicketKeys { ring: vec![root] };
        keys.turn(unix);
        keys
    }

    /// Goes on to the key of the day. Returns the new root when the oldest key was forgotten: whoever keeps the root
    /// replaces it.
    pub fn turn(&mut self, unix: u64) -> Option<TicketRoot> {
        let (today, before) = (unix / DAY, self.root());
        for _ in 0..MAX_CATCH_UP {
            if self.newest().day >= today {
                break;
            }
            self.ring.push(self.newest().next());
            if self.ring.len() as u64 > KEPT {
                self.ring.remove(0);
            }
        }
        (self.root() != before).then(|| self.root())
    }

    /// Whether keys are of days that are yet to come: the clock was set back. A day is left to clocks that are put right by little.
    pub fn is_ahead(&self, unix: u64) -> bool {
        self.newest().day > unix / DAY + 1
    }

    /// The oldest key that is still of use.
    pub fn root(&self) -> TicketRoot {
        self.ring[0]
    }

    /// Seals under the newest key.
    pub fn seal(&self, ticket: &Ticket, nonce: [u8; 12]) -> [u8; TICKET] {
        let root = self.newest();
        let mut out = Vec::with_capacity(TICKET);
        out.extend_from_slice(&(root.day as u32).to_be_bytes());
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&ticket.session_id);
        out.extend_from_slice(&ticket.principal.to_be_bytes());
        out.extend_from_slice(&ticket.resume);
        out.extend_from_slice(&ticket.expiry.to_be_bytes());
        out.extend_from_slice(&ticket.epoch.to_be_bytes());
        out.extend_from_slice(&ticket.made.to_be_bytes());
        keys::seal(&expand(&root.key, b"hail ticket"), nonce, 16, &mut out);
        out.try_into().expect("a ticket has a fixed length")
    }

    /// What a ticket says, if it is ours and not over.
    pub fn open(&self, octets: &[u8; TICKET], unix: u64) -> Option<Ticket> {
        let day = u64::from(u32::from_be_bytes(field(octets, 0)));
        let root = self.ring.iter().find(|root| root.day == day)?;
        let nonce = field(octets, 4);
        let mut sealed = *octets;
        let plain = keys::open(&expand(&root.key, b"hail ticket"), nonce, 16, &mut sealed)?;
        let ticket = Ticket {
            session_id: field(plain, 0),
            principal: u64::from_be_bytes(field(plain, 16)),
            resume: field(plain, 24),
            expiry: u64::from_be_bytes(field(plain, 56)),
            epoch: u32::from_be_bytes(field(plain, 64)),
            made: u32::from_be_bytes(field(plain, 68)),
        };
        (ticket.expiry > unix).then_some(ticket)
    }

    fn newest(&self) -> &TicketRoot {
        self.ring.last().expect("there is always one")
    }
}

fn field<const N: usize>(octets: &[u8], at: usize) -> [u8; N] {
    octets[at..at + N].try_into().expect("a ticket has a fixed length")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;
    const ROOT: TicketRoot = TicketRoot { day: NOW / DAY, key: [1; 32] };

    fn ticket() -> Ticket {
        let expiry = NOW + LIFE_DAYS * DAY;
        Ticket { session_id: [2; 16], principal: 3, resume: [4; 32], expiry, epoch: 5, made: NOW as u32 }
    }

    #[test]
    fn a_ticket_opens_until_it_is_over_and_over_restarts() {
        let mut keys = TicketKeys::new(ROOT, NOW);
        let sealed = keys.seal(&ticket(), [6; 12]);
        assert!(keys.open(&sealed, NOW) == Some(ticket()));
        for day in 1..LIFE_DAYS {
            let later = NOW + day * DAY;
            assert_eq!(keys.turn(later), None, "day {day}");
            assert!(keys.open(&sealed, later).is_some());
            assert!(TicketKeys::new(keys.root(), later).open(&sealed, later).is_some());
        }
        assert!(keys.open(&sealed, NOW + LIFE_DAYS * DAY).is_none());
    }

    #[test]
    fn no_octet_of_it_can_be_another() {
        let keys = TicketKeys::new(ROOT, NOW);
        let sealed = keys.seal(&ticket(), [6; 12]);
        for at in 0..TICKET {
            let mut other = sealed;
            other[at] ^= 1;
            assert!(keys.open(&other, NOW).is_none(), "octet {at}");
        }
    }

    #[test]
    fn keys_are_forgotten_after_eight_days_and_the_ring_has_a_bound() {
        let mut keys = TicketKeys::new(ROOT, NOW);
        let root = keys.turn(NOW + 20 * DAY).expect("the oldest was forgotten");
        assert_eq!((keys.ring.len() as u64, root.day), (KEPT, NOW / DAY + 13));
        assert!(keys.open(&keys.seal(&ticket(), [0; 12]), NOW).is_some(), "a clock set back does no harm");
        let far = TicketKeys::new(TicketRoot { day: 0, key: [0; 32] }, u64::MAX);
        assert_eq!((far.ring.len() as u64, far.newest().day), (KEPT, MAX_CATCH_UP));
    }
}
