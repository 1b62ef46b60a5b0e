//! An office, devices of three users, an application, and all that can go wrong between them: in one process, with brokers
//! apart from the hub, with brokers that a balancer gives out too, or in two rooms with an office each.

mod balanced;
mod brokers;
mod defects;
mod house;
#[path = "../../post/judge.rs"]
#[allow(dead_code, reason = "the parts' own simulation counts more")]
mod judge;
mod plan;
mod run;

use crate::sim::{Scenario, Trace, check};
use defects::Defect;
use plan::Step;

/// Which roles have processes of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Roles {
    /// None: the office has all sessions itself.
    Whole,
    /// Devices sit at brokers apart from the hub, and one at the hub's own link.
    Apart,
    /// Devices know a balancer only, and sit at the brokers that it gives.
    Balanced,
    /// Two offices, each with a room of its own, whose devices and application write to each other.
    Rooms,
}

impl Roles {
    /// Brokers apart from the hub.
    pub const fn brokers(self) -> usize {
        match self {
            Roles::Whole | Roles::Rooms => 0,
            Roles::Apart => 2,
            Roles::Balanced => 3,
        }
    }

    /// What the rooms are called; one has no name.
    pub const fn rooms(self) -> &'static [&'static str] {
        match self {
            Roles::Rooms => &["south", "north"],
            _ => &[""],
        }
    }

    /// The room in which a user is at home.
    pub const fn home(self, user: usize) -> usize {
        user % self.rooms().len()
    }

    /// What somebody of one room is called in another.
    pub fn called(self, name: &str, home: usize, here: usize) -> String {
        if home == here { name.to_owned() } else { format!("{name}@{}", self.rooms()[home]) }
    }
}

/// The scenario, with something wrong or not.
pub struct Offices {
    defect: Option<Defect>,
    roles: Roles,
}

impl Scenario for Offices {
    type Step = Step;

    fn plan(&self, seed: u64) -> Vec<Step> {
        plan::plan(seed, self.roles)
    }

    fn run(&self, seed: u64, steps: &[Step], trace: &Trace) -> Result<(), String> {
        run::run(seed, self.defect, self.roles, steps, trace)
    }
}

#[test]
fn what_was_acknowledged_is_shown_to_every_receiver_and_what_was_confirmed_never_again() {
    let name = "what_was_acknowledged_is_shown_to_every_receiver_and_what_was_confirmed_never_again";
    check(name, 1000, &Offices { defect: None, roles: Roles::Whole });
}

#[test]
fn the_same_holds_with_brokers_apart_from_the_hub() {
    let name = "the_same_holds_with_brokers_apart_from_the_hub";
    check(name, 1000, &Offices { defect: None, roles: Roles::Apart });
}

/// And every device gets to a broker that lives and does not drain (CN103200214A claim 3, OM-12, OM-13).
#[test]
fn the_same_holds_with_brokers_that_a_balancer_gives() {
    let name = "the_same_holds_with_brokers_that_a_balancer_gives";
    check(name, 1000, &Offices { defect: None, roles: Roles::Balanced });
}

/// And what is acknowledged in one room is shown once in the other, and kept in neither in the end (OM-16).
#[test]
fn the_same_holds_across_two_rooms() {
    let name = "the_same_holds_across_two_rooms";
    check(name, 1000, &Offices { defect: None, roles: Roles::Rooms });
}
