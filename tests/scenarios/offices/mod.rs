//! An office, devices of three users, an application, and all that can go wrong between them: in one process, with brokers
//! apart from the hub, or with brokers that a balancer gives out too.

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
}

impl Roles {
    /// Brokers apart from the hub.
    pub const fn brokers(self) -> usize {
        match self {
            Roles::Whole => 0,
            Roles::Apart => 2,
            Roles::Balanced => 3,
        }
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
