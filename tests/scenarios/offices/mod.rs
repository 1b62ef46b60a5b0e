//! One office, devices of three users, an application, and all that can go wrong between them: in one process, or with
//! brokers apart from the hub.

mod brokers;
mod defects;
#[path = "../../post/judge.rs"]
#[allow(dead_code, reason = "the parts' own simulation counts more")]
mod judge;
mod plan;
mod run;

use crate::sim::{Scenario, Trace, check};
use defects::Defect;
use plan::Step;

/// The scenario, with something wrong or not.
pub struct Offices {
    defect: Option<Defect>,
    /// Devices sit at brokers apart from the hub, and one at the hub's own link.
    apart: bool,
}

impl Scenario for Offices {
    type Step = Step;

    fn plan(&self, seed: u64) -> Vec<Step> {
        plan::plan(seed, self.apart)
    }

    fn run(&self, seed: u64, steps: &[Step], trace: &Trace) -> Result<(), String> {
        run::run(seed, self.defect, self.apart, steps, trace)
    }
}

#[test]
fn what_was_acknowledged_is_shown_to_every_receiver_and_what_was_confirmed_never_again() {
    let name = "what_was_acknowledged_is_shown_to_every_receiver_and_what_was_confirmed_never_again";
    check(name, 1000, &Offices { defect: None, apart: false });
}

#[test]
fn the_same_holds_with_brokers_apart_from_the_hub() {
    let name = "the_same_holds_with_brokers_apart_from_the_hub";
    check(name, 1000, &Offices { defect: None, apart: true });
}
