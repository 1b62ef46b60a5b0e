//! Defects planted around devices and server, to see that the simulation notices them.

use std::collections::HashMap;

use hailpost::link::{Path, ServerOutput};

use super::{super::link::pair::Tamper, Batteries};
use crate::sim::caught;

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Defect {
    /// What a device sends from beside goes out of the same port, and keeps open what it is to try.
    TriedFromTheSamePort,
    /// The server answers where it was asked from, and not where the session is.
    AnsweredWhereAsked,
    /// A platform sleeps, and nobody is told.
    AsleepUntold,
    /// What waited for a device that slept does not go out when it wakes.
    ForgottenAsleep,
}

macro_rules! each_is_caught {
    ($($name:ident: $defect:ident,)+) => {
        $(#[test]
        fn $name() {
            caught(stringify!($name), 1000, &Batteries { defect: Some(Defect::$defect) });
        })+
    };
}

each_is_caught! {
    a_try_from_the_same_port_is_caught: TriedFromTheSamePort,
    an_answer_to_where_it_was_asked_from_is_caught: AnsweredWhereAsked,
    a_platform_that_sleeps_untold_is_caught: AsleepUntold,
    messages_forgotten_for_a_sleeper_are_caught: ForgottenAsleep,
}

/// Answers where it was asked from.
#[derive(Default)]
pub struct Astray {
    from: HashMap<u32, Path>,
}

impl Tamper for Astray {
    fn received(&mut self, from: Path, octets: &[u8]) {
        if let Some(id) = octets.first_chunk::<4>() {
            self.from.insert(u32::from_be_bytes(*id), from);
        }
    }

    fn output(&mut self, output: ServerOutput) -> Vec<ServerOutput> {
        match output {
            ServerOutput::Send { to, octets } if octets.len() == 16 => {
                let id = octets.first_chunk::<4>().map(|id| u32::from_be_bytes(*id));
                let to = id.and_then(|id| self.from.get(&id)).copied().unwrap_or(to);
                vec![ServerOutput::Send { to, octets }]
            }
            other => vec![other],
        }
    }
}
