//! What happens, which follows from the seed.

use hailpost::rng::{Entropy, Seeded};

use super::brokers::BROKERS;
use crate::sim::{Conditions, Crash, CrashPoint};

/// How long things happen, in milliseconds; after that nothing fails any more.
pub const TROUBLE: u32 = 120_000;
/// The users, and how many devices each has.
pub const USERS: [(&str, usize); 3] = [("anna", 1), ("ben", 2), ("carl", 1)];
/// Devices in all.
pub const DEVICES: usize = 4;

/// One thing that happens.
#[derive(Clone, Debug)]
pub struct Step {
    /// When, in milliseconds.
    pub at: u32,
    pub what: What,
}

/// What can happen. Devices are numbered from 0.
#[derive(Clone, Debug)]
pub enum What {
    /// A device gives a message for these users, of so many octets.
    Put {
        device: usize,
        users: Vec<usize>,
        octets: u32,
    },
    /// The owner of a device deals with what it shows; with half of it at random, or with all.
    Confirm {
        device: usize,
        all: bool,
    },
    /// The application writes to these users, or to everybody who is there.
    Send {
        users: Vec<usize>,
        octets: u32,
    },
    CrashApp {
        down: u32,
    },
    BreakApp,
    CrashOffice {
        point: CrashPoint,
        how: Crash,
        down: u32,
    },
    CrashDevice {
        device: usize,
        point: CrashPoint,
        how: Crash,
        down: u32,
    },
    Partition {
        device: usize,
        lasts: u32,
    },
    /// The device finds itself on another network.
    NetworkChanged {
        device: usize,
    },
    /// The wall clock of a device, or of the office, is wrong by so many days from now on.
    Clock {
        device: Option<usize>,
        days: i64,
    },
    /// The disk of the office fails.
    StoreFails {
        lasts: u32,
    },
    Network(Conditions),
    /// Only with brokers apart from the hub.
    CrashBroker {
        broker: usize,
        point: CrashPoint,
        how: Crash,
        down: u32,
    },
    /// A broker and the hub do not reach each other.
    CutBroker {
        broker: usize,
        lasts: u32,
    },
    /// The streams of a broker break.
    BreakBroker {
        broker: usize,
    },
    /// A device finds another broker behind its address, or with [`BROKERS`] the hub itself.
    MoveDevice {
        device: usize,
        to: usize,
    },
}

pub fn plan(seed: u64, apart: bool) -> Vec<Step> {
    let rng = &mut Seeded::new(seed ^ 0x0ff1);
    let count = 30 + rng.below(60);
    let mut steps: Vec<Step> = (0..count)
        .map(|_| {
            let at = rng.below(TROUBLE);
            let of_brokers = apart && rng.below(5) == 0;
            Step { at, what: if of_brokers { what_of_brokers(rng) } else { what(rng) } }
        })
        .collect();
    steps.sort_by_key(|step| step.at);
    steps
}

fn what(rng: &mut Seeded) -> What {
    let device = rng.below(DEVICES as u32) as usize;
    match rng.below(100) {
        0..15 => {
            let first = rng.below(3) as usize;
            let users = if rng.below(3) == 0 { vec![first, (first + 1) % 3] } else { vec![first] };
            What::Send { users, octets: rng.below(300) }
        }
        15..17 => What::CrashApp { down: 100 + rng.below(20_000) },
        17..20 => What::BreakApp,
        20..55 => {
            let first = rng.below(3);
            let users = match rng.below(4) {
                0 => vec![first as usize, ((first + 1) % 3) as usize],
                _ => vec![first as usize],
            };
            let octets = if rng.below(8) == 0 { 2000 + rng.below(6000) } else { rng.below(40) };
            What::Put { device, users, octets }
        }
        55..72 => What::Confirm { device, all: rng.below(2) == 0 },
        72..78 => What::CrashOffice { point: point(rng), how: how(rng), down: 100 + rng.below(15_000) },
        78..84 => {
            What::CrashDevice { device, point: point(rng), how: how(rng), down: 100 + rng.below(20_000) }
        }
        84..88 => What::Partition { device, lasts: 1000 + rng.below(60_000) },
        88..90 => What::NetworkChanged { device },
        90..92 => {
            let days = i64::from(rng.below(21)) - 10;
            What::Clock { device: Some(device).filter(|_| rng.below(2) == 0), days }
        }
        92..94 => What::StoreFails { lasts: 100 + rng.below(8000) },
        _ => What::Network(conditions(rng)),
    }
}

fn what_of_brokers(rng: &mut Seeded) -> What {
    let broker = rng.below(BROKERS as u32) as usize;
    match rng.below(100) {
        0..35 => {
            What::CrashBroker { broker, point: point(rng), how: how(rng), down: 100 + rng.below(15_000) }
        }
        35..60 => What::CutBroker { broker, lasts: 1000 + rng.below(40_000) },
        60..75 => What::BreakBroker { broker },
        _ => {
            let to = rng.below(BROKERS as u32 + 1) as usize;
            What::MoveDevice { device: rng.below(DEVICES as u32) as usize, to }
        }
    }
}

fn point(rng: &mut Seeded) -> CrashPoint {
    match rng.below(3) {
        0 => CrashPoint::BeforeOutputs,
        1 => CrashPoint::BeforeFlush,
        _ => CrashPoint::AfterFlush,
    }
}

fn how(rng: &mut Seeded) -> Crash {
    if rng.below(2) == 0 { Crash::Process } else { Crash::Power }
}

fn conditions(rng: &mut Seeded) -> Conditions {
    let mut chance = |most: u32| if rng.below(2) == 0 { 0 } else { rng.below(most) };
    Conditions {
        loss: chance(300),
        duplicate: chance(200),
        corrupt: chance(100),
        late: chance(100),
        delay: 1 + chance(100),
        jitter: chance(200),
    }
}
