//! What happens, which follows from the seed.

use hailpost::rng::{Entropy, Seeded};

use super::Roles;
use crate::sim::{Conditions, Crash, CrashPoint};

/// How long things happen, in milliseconds; after that nothing fails any more.
pub const TROUBLE: u32 = 120_000;
/// The users, and how many devices each has.
pub const USERS: [(&str, usize); 3] = [("anna", 1), ("ben", 2), ("carl", 1)];
/// Devices in all.
pub const DEVICES: usize = 4;

/// Who is there. Devices and brokers are numbered from 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    Office,
    /// The office of the other room.
    Other,
    App,
    Device(usize),
    /// Apart from the hub.
    Broker(usize),
    Balancer,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub struct Step {
    /// When, in milliseconds.
    pub at: u32,
    pub what: What,
}

/// What can happen.
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
    Crash {
        who: Who,
        point: CrashPoint,
        how: Crash,
        down: u32,
    },
    /// Its streams break.
    Break {
        who: Who,
    },
    /// Two do not reach each other.
    Cut {
        between: (Who, Who),
        lasts: u32,
    },
    /// It reaches nobody, and nobody it.
    Silence {
        who: Who,
        lasts: u32,
    },
    /// The device finds itself on another network.
    NetworkChanged {
        device: usize,
    },
    /// A wall clock is wrong by so many days from now on.
    Clock {
        who: Who,
        days: i64,
    },
    /// The disk of the office fails.
    StoreFails {
        who: Who,
        lasts: u32,
    },
    Network(Conditions),
    /// A device finds another broker behind its address, or past the last one the hub itself.
    MoveDevice {
        device: usize,
        to: usize,
    },
    /// A broker gets a new version: it drains so long, stops, and is back after so long.
    Upgrade {
        broker: usize,
        drains: u32,
        down: u32,
    },
}

pub fn plan(seed: u64, roles: Roles) -> Vec<Step> {
    let rng = &mut Seeded::new(seed ^ 0x0ff1);
    let count = 30 + rng.below(60);
    // Now and then all is slower, so that pauses between tries grow.
    let slower = if rng.below(8) == 0 { 10 } else { 1 };
    let mut steps: Vec<Step> = (0..count)
        .map(|_| {
            let at = rng.below(TROUBLE) * slower;
            let what = match roles {
                Roles::Apart if rng.below(5) == 0 => what_of_brokers(rng),
                Roles::Balanced if rng.below(4) == 0 => what_of_balanced(rng),
                Roles::Rooms if rng.below(4) == 0 => what_of_rooms(rng),
                _ => what(rng),
            };
            Step { at, what: what.slower(slower) }
        })
        .collect();
    steps.sort_by_key(|step| step.at);
    steps
}

impl What {
    /// The same, with everything that lasts so many times as long.
    fn slower(mut self, times: u32) -> What {
        match &mut self {
            What::Crash { down: lasts, .. }
            | What::Cut { lasts, .. }
            | What::Silence { lasts, .. }
            | What::StoreFails { lasts, .. } => *lasts *= times,
            What::Upgrade { drains, down, .. } => (*drains, *down) = (*drains * times, *down * times),
            _ => {}
        }
        self
    }
}

fn what(rng: &mut Seeded) -> What {
    let device = rng.below(DEVICES as u32) as usize;
    match rng.below(100) {
        0..15 => {
            let first = rng.below(3) as usize;
            let users = if rng.below(3) == 0 { vec![first, (first + 1) % 3] } else { vec![first] };
            What::Send { users, octets: rng.below(300) }
        }
        15..17 => crash(rng, Who::App, 20_000),
        17..20 => What::Break { who: Who::App },
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
        72..78 => crash(rng, Who::Office, 15_000),
        78..84 => crash(rng, Who::Device(device), 20_000),
        84..88 => What::Silence { who: Who::Device(device), lasts: 1000 + rng.below(60_000) },
        88..90 => What::NetworkChanged { device },
        90..92 => {
            let who = if rng.below(2) == 0 { Who::Device(device) } else { Who::Office };
            What::Clock { who, days: i64::from(rng.below(21)) - 10 }
        }
        92..94 => What::StoreFails { who: Who::Office, lasts: 100 + rng.below(8000) },
        _ => What::Network(conditions(rng)),
    }
}

fn what_of_brokers(rng: &mut Seeded) -> What {
    let brokers = Roles::Apart.brokers() as u32;
    let number = rng.below(brokers) as usize;
    let broker = Who::Broker(number);
    match rng.below(100) {
        0..35 => crash(rng, broker, 15_000),
        35..60 => What::Cut { between: (broker, Who::Office), lasts: 1000 + rng.below(40_000) },
        60..75 => What::Break { who: broker },
        _ => What::MoveDevice {
            device: rng.below(DEVICES as u32) as usize,
            to: rng.below(brokers + 1) as usize,
        },
    }
}

fn what_of_balanced(rng: &mut Seeded) -> What {
    let number = rng.below(Roles::Balanced.brokers() as u32) as usize;
    let (broker, device) = (Who::Broker(number), Who::Device(rng.below(DEVICES as u32) as usize));
    let lasts = 1000 + rng.below(80_000);
    match rng.below(100) {
        0..12 => crash(rng, broker, 15_000),
        12..20 => crash(rng, broker, 90_000),
        20..36 => {
            What::Upgrade { broker: number, drains: 100 + rng.below(60_000), down: 100 + rng.below(20_000) }
        }
        36..44 => What::Silence { who: broker, lasts },
        44..54 => What::Cut { between: (broker, Who::Office), lasts },
        54..64 => What::Cut { between: (broker, Who::Balancer), lasts },
        64..74 => What::Cut { between: (device, broker), lasts },
        74..78 => What::Cut { between: (device, Who::Balancer), lasts },
        78..84 => crash(rng, Who::Balancer, 60_000),
        84..88 => What::Silence { who: Who::Balancer, lasts },
        88..92 => What::Cut { between: (Who::App, Who::Office), lasts },
        92..97 => What::Break { who: broker },
        _ => What::Break { who: Who::Balancer },
    }
}

fn what_of_rooms(rng: &mut Seeded) -> What {
    let (one, lasts) = (if rng.below(2) == 0 { Who::Office } else { Who::Other }, 1000 + rng.below(40_000));
    match rng.below(100) {
        0..20 => crash(rng, Who::Office, 15_000),
        20..50 => crash(rng, Who::Other, 15_000),
        50..70 => What::Cut { between: (Who::Office, Who::Other), lasts },
        70..80 => What::Break { who: one },
        80..85 => What::Silence { who: one, lasts },
        85..92 => What::Clock { who: Who::Other, days: i64::from(rng.below(21)) - 10 },
        _ => What::StoreFails { who: one, lasts: lasts / 4 },
    }
}

fn crash(rng: &mut Seeded, who: Who, most: u32) -> What {
    let point = match rng.below(3) {
        0 => CrashPoint::BeforeOutputs,
        1 => CrashPoint::BeforeFlush,
        _ => CrashPoint::AfterFlush,
    };
    let how = if rng.below(2) == 0 { Crash::Process } else { Crash::Power };
    What::Crash { who, point, how, down: 100 + rng.below(most) }
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
