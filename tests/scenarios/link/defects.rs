//! Defects planted around the server, to see that the simulation notices them.

use std::collections::{HashMap, HashSet};

use hailpost::link::{Path, ServerOutput};

use super::{Links, pair::Tamper};
use crate::sim::caught;

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Defect {
    /// Now and then a message is handed up twice.
    HandedUpTwice,
    /// Two messages change places.
    OutOfOrder,
    /// Now and then a message is acknowledged and not handed up.
    Swallowed,
    /// What is for a session goes to wherever its last datagram came from.
    MovedUnproven,
    /// A replayed datagram that carried a message carries it again.
    ReplayAccepted,
    /// Who asks is answered three more times.
    Amplifies,
    /// A message is said to be acknowledged as soon as it is sent.
    AckedEarly,
    /// Now and then an octet of a message changes.
    Damaged,
}

macro_rules! each_is_caught {
    ($($name:ident: $defect:ident,)+) => {
        $(#[test]
        fn $name() {
            caught(stringify!($name), 1000, &Links { defect: Some(Defect::$defect) });
        })+
    };
}

each_is_caught! {
    a_message_handed_up_twice_is_caught: HandedUpTwice,
    messages_out_of_order_are_caught: OutOfOrder,
    a_swallowed_message_is_caught: Swallowed,
    an_address_moved_unproven_is_caught: MovedUnproven,
    an_accepted_replay_is_caught: ReplayAccepted,
    amplification_is_caught: Amplifies,
    an_early_acknowledgement_is_caught: AckedEarly,
    damage_is_caught: Damaged,
}

pub struct Planted {
    defect: Defect,
    count: u32,
    held: Option<ServerOutput>,
    last: Vec<u8>,
    from: HashMap<u32, Path>,
    carried: HashMap<Vec<u8>, ServerOutput>,
    seen: HashSet<Vec<u8>>,
    replayed: Option<ServerOutput>,
}

impl Planted {
    pub fn new(defect: Defect) -> Planted {
        Planted {
            defect,
            count: 0,
            held: None,
            last: Vec::new(),
            from: HashMap::new(),
            carried: HashMap::new(),
            seen: HashSet::new(),
            replayed: None,
        }
    }

    fn now_and_then(&mut self) -> bool {
        self.count += 1;
        self.count.is_multiple_of(5)
    }
}

impl Tamper for Planted {
    fn received(&mut self, from: Path, octets: &[u8]) {
        self.last = octets.to_vec();
        if let Some(id) = octets.first_chunk::<4>()
            && *id != [0; 4]
        {
            self.from.insert(u32::from_be_bytes(*id), from);
        }
        if !self.seen.insert(octets.to_vec()) {
            self.replayed = self.carried.get(octets).cloned();
        }
    }

    fn output(&mut self, output: ServerOutput) -> Vec<ServerOutput> {
        let again = self.replayed.take().filter(|_| self.defect == Defect::ReplayAccepted);
        let mut all: Vec<ServerOutput> = again.into_iter().collect();
        if let ServerOutput::Message { .. } = &output {
            self.carried.insert(self.last.clone(), output.clone());
        }
        match (self.defect, output) {
            (Defect::HandedUpTwice, output @ ServerOutput::Message { .. }) if self.now_and_then() => {
                all.extend([output.clone(), output]);
            }
            (Defect::OutOfOrder, output @ ServerOutput::Message { .. }) => match self.held.take() {
                Some(held) => all.extend([output, held]),
                None => self.held = Some(output),
            },
            (Defect::Swallowed, ServerOutput::Message { .. }) if self.now_and_then() => {}
            (Defect::MovedUnproven, ServerOutput::Send { to, octets }) => {
                let id = octets.first_chunk::<4>().map(|id| u32::from_be_bytes(*id));
                let to = id.and_then(|id| self.from.get(&id)).copied().unwrap_or(to);
                all.push(ServerOutput::Send { to, octets });
            }
            (Defect::Amplifies, output @ ServerOutput::Send { .. }) => {
                all.extend(std::iter::repeat_n(output, 4));
            }
            (Defect::AckedEarly, ServerOutput::Send { to, octets }) => {
                all.push(ServerOutput::Send { to, octets });
            }
            (Defect::AckedEarly, ServerOutput::Acked { session, message }) => {
                all.extend([
                    ServerOutput::Acked { session, message },
                    ServerOutput::Acked { session, message: message + 1 },
                ]);
            }
            (Defect::Damaged, ServerOutput::Message { session, principal, mut octets })
                if self.now_and_then() =>
            {
                if let Some(last) = octets.last_mut() {
                    *last ^= 1;
                }
                all.push(ServerOutput::Message { session, principal, octets });
            }
            (_, output) => all.push(output),
        }
        all
    }
}
