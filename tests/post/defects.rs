//! Defects planted on purpose: each is caught, or the simulation proves nothing.

use super::{run, world::Defect};

#[test]
fn every_planted_defect_is_caught_within_a_thousand_seeds() {
    for defect in Defect::ALL {
        let caught = (0..1000).find_map(|seed| run(seed, Some(defect)).err().map(|why| (seed, why)));
        let (seed, why) = caught.unwrap_or_else(|| panic!("{defect:?} is not caught"));
        println!("{defect:?}: seed {seed}: {why}");
    }
}
