//! Devices and a server over the link: messages both ways over a bad network, addresses that change, restarts, new keys,
//! replayed, forged and stolen datagrams, floods; and planted defects, each of which must be noticed.

mod defects;
#[path = "../../link/pair.rs"]
pub mod pair;
mod run;

use hailpost::rng::{Entropy, Seeded};

use self::{defects::Defect, run::Run};
use crate::sim::{Scenario, Trace, check};

/// Devices of a run.
const DEVICES: u32 = 3;

/// The scenario, with or without a defect.
struct Links {
    defect: Option<Defect>,
}

/// Something that happens.
#[derive(Clone, Debug)]
enum Step {
    /// Time passes, in milliseconds.
    Wait(u32),
    /// A device sends so many octets.
    Up(u32, u32),
    /// The server sends a device so many octets.
    Down(u32, u32),
    /// How bad the network is, from 0.
    Weather(u32),
    /// Nothing passes for so many milliseconds.
    Cut(u32),
    /// A device gets another address without noticing.
    Rebind(u32),
    /// A device gets another address and notices.
    Roam(u32),
    /// The server's process ends and begins again.
    Restart,
    /// Somebody sends again what was sent, from their own address or the device's.
    Replay(u32, bool),
    /// What a device sends in the next moments arrives from somebody else.
    Steal(u32),
    /// Somebody says that a session is no more.
    ForgeReset(u32),
    /// Hellos from many addresses.
    Flood(u32),
    /// A device closes and opens again.
    Reopen(u32),
}

impl Scenario for Links {
    type Step = Step;

    fn plan(&self, seed: u64) -> Vec<Step> {
        let mut rng = Seeded::new(seed ^ 0x1147);
        let count = 20 + rng.below(30);
        (0..count)
            .map(|_| {
                let device = rng.below(DEVICES);
                let long_cut = if rng.below(3) == 0 { 120_000 } else { 8000 };
                let long = if rng.below(5) == 0 { 20_000 } else { 700 };
                match rng.below(22) {
                    0..4 => Step::Wait(rng.below(3000)),
                    4..8 => Step::Up(device, rng.below(long)),
                    8..12 => Step::Down(device, rng.below(long)),
                    12 => Step::Weather(rng.below(4)),
                    13 => Step::Cut(rng.below(long_cut)),
                    14 => Step::Rebind(device),
                    15 => Step::Roam(device),
                    16 => Step::Restart,
                    17 => Step::Replay(device, rng.below(2) == 0),
                    18 => Step::Steal(device),
                    19 => Step::ForgeReset(device),
                    20 => Step::Flood(rng.below(60)),
                    _ => match rng.below(3) {
                        0 => Step::Reopen(device),
                        _ => Step::Wait(40_000),
                    },
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

#[test]
fn links() {
    check("links", 300, &Links { defect: None });
}
