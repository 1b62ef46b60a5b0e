//! One office, devices of three users, an application, and all that can go wrong between them.

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
}

impl Scenario for Offices {
    type Step = Step;

    fn plan(&self, seed: u64) -> Vec<Step> {
        plan::plan(seed)
    }

    fn run(&self, seed: u64, steps: &[Step], trace: &Trace) -> Result<(), String> {
        run::run(seed, self.defect, steps, trace)
    }
}

#[test]
fn what_was_acknowledged_is_shown_to_every_receiver_and_what_was_confirmed_never_again() {
    let name = "what_was_acknowledged_is_shown_to_every_receiver_and_what_was_confirmed_never_again";
    check(name, 1000, &Offices { defect: None });
}
