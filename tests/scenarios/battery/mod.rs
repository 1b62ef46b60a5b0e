//! Devices on batteries, behind networks that forget: each finds how long it may be silent, and is reached;
//! it sleeps, and loses nothing. Planted defects
//! must be noticed.

mod defects;
mod run;

use hailpost::rng::{Entropy, Seeded};

use self::{defects::Defect, run::Run};
use crate::sim::{Scenario, Trace, check};

/// Devices of a run.
const DEVICES: u32 = 2;
/// The longest interval that they look for, in seconds.
const LONGEST: u16 = 900;

/// The scenario, with or without a defect.
struct Batteries {
    defect: Option<Defect>,
}

/// Something that happens.
#[derive(Clone, Debug)]
enum Step {
    /// Time passes, in seconds.
    Wait(u32),
    /// A message for a device.
    Down(u32),
    /// A message of a device.
    Up(u32),
    /// How bad the network is, from 0.
    Weather(u32),
    /// Nothing passes for so many seconds.
    Cut(u32),
    /// What is between a device and the server begins anew, and knows nothing.
    Forget(u32),
    /// What is between forgets after so many seconds from now on; the device is not told.
    Sooner(u32, u32),
    /// The device is on another network, which forgets after so many seconds, and is told.
    Other(u32, u32),
    /// The platform of a device sleeps, for so many seconds as it says.
    Suspend(u32, u32),
    /// It wakes.
    Resume(u32),
    /// The server's process ends and begins again.
    Restart,
}

impl Scenario for Batteries {
    type Step = Step;

    fn plan(&self, seed: u64) -> Vec<Step> {
        let mut rng = Seeded::new(seed ^ 0xba77);
        let count = 10 + rng.below(40);
        (0..count)
            .map(|_| {
                let device = rng.below(DEVICES);
                match rng.below(25) {
                    0..7 => Step::Wait(rng.below(1200)),
                    7..11 => Step::Down(device),
                    11..13 => Step::Up(device),
                    13 => Step::Weather(rng.below(3)),
                    14 => Step::Cut(rng.below(600)),
                    15 => Step::Forget(device),
                    16 => Step::Sooner(device, forgets(&mut rng)),
                    17..19 => Step::Other(device, forgets(&mut rng)),
                    19..21 => Step::Suspend(device, rng.below(20_000)),
                    21..24 => Step::Resume(device),
                    _ => Step::Restart,
                }
            })
            .collect()
    }

    fn run(&self, seed: u64, steps: &[Step], trace: &Trace) -> Result<(), String> {
        let mut run = Run::new(seed, self.defect, trace);
        for step in steps {
            run.step(step)?;
        }
        run.settle()
    }
}

/// Seconds after which a network forgets: from what is known to be out there to more than is ever tried.
fn forgets(rng: &mut Seeded) -> u32 {
    match rng.below(4) {
        0 => [20, 30, 60, 120, 180, 300][rng.below(6) as usize],
        1 => 15 + rng.below(60),
        2 => 30 + rng.below(600),
        _ => 100 + rng.below(2000),
    }
}

#[test]
fn batteries() {
    check("batteries", 300, &Batteries { defect: None });
}
