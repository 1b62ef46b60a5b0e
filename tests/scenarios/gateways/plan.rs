//! Who takes part, and what happens: both follow from the seed.

use std::net::{IpAddr, SocketAddr};

use hailpost::{
    gateway::ResultKey,
    io::{KeyId, Transport},
    node::LinkCredential,
    rng::{Entropy, Seeded},
    wire::{
        AppId,
        gateway::{Family, Record},
    },
};

use crate::sim::{Conditions, Crash, CrashPoint};

/// How long things happen, in milliseconds; after that nothing fails any more.
pub const TROUBLE: u32 = 60_000;
/// The two groups.
pub const GROUPS: [&str; 2] = ["home", "away"];
/// Remote ends of each group.
const ENDS: u32 = 6;

/// A gateway of the world.
#[derive(Clone, Debug)]
pub struct Member {
    pub ip: IpAddr,
    pub group: usize,
    pub transport: Transport,
    /// What it is enrolled under; one that sends datagrams proves nothing.
    pub key: Option<KeyId>,
    pub trusted: bool,
    /// Without tags.
    pub is_plain: bool,
    /// The public name of its credential, where it comes in on sessions of the link.
    pub session_id: Option<[u8; 16]>,
}

/// What a world is before anything happens.
#[derive(Clone, Debug)]
pub struct Setup {
    pub family: Family,
    pub agreement: usize,
    pub probe_addresses: bool,
    pub backoff_max: u64,
    pub members: Vec<Member>,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub struct Step {
    /// When, in milliseconds.
    pub at: u32,
    pub what: What,
}

/// What can happen. Gateways are numbered from 0, groups too; no group is all groups.
#[derive(Clone, Debug)]
pub enum What {
    Report { gateway: usize, end: u32, app: u32 },
    Features { gateway: usize, app: u32 },
    SetRule { group: Option<usize>, app: u32, text: u32 },
    RemoveRule { group: Option<usize>, app: u32, text: Option<u32> },
    SetParameters { group: usize, app: u32, word: u32 },
    Deregister { gateway: usize },
    Allow { gateway: usize },
    Leave { gateway: usize },
    Join { gateway: usize },
    CrashBackend { point: CrashPoint, how: Crash, down: u32 },
    CrashGateway { gateway: usize, how: Crash, down: u32 },
    Partition { gateway: usize, lasts: u32 },
    Break { gateway: usize },
    StoreFails { lasts: u32 },
    Network(Conditions),
}

impl Setup {
    /// The same world, where all gateways but one come in on sessions of the link: those that had datagrams prove something then.
    pub fn over_links(seed: u64) -> Setup {
        let mut setup = Setup::new(seed);
        for (at, member) in setup.members.iter_mut().enumerate().skip(1) {
            let session_id = [1 + at as u8; 16];
            member.transport = Transport::Datagram;
            member.key = Some(LinkCredential::key_of(&session_id));
            member.session_id = Some(session_id);
        }
        setup
    }

    pub fn new(seed: u64) -> Setup {
        let rng = &mut Seeded::new(seed ^ 0x5e70);
        let count = 3 + rng.below(4) as usize;
        let agreement = 1 + rng.below(2) as usize;
        let members = (0..count).map(|at| member(rng, at)).collect();
        Setup {
            family: if rng.below(4) == 0 { Family::V4 } else { Family::V6 },
            agreement,
            probe_addresses: rng.below(2) == 0,
            backoff_max: [4, 16, 60][rng.below(3) as usize],
            members,
        }
    }

    /// A record of a group's remote end. On an IPv6 association every second one is an IPv6 end.
    pub fn record(&self, group: usize, end: u32, app: u32, local: IpAddr) -> Record {
        let octet = group as u8;
        let remote = match (self.family, end % 2) {
            (Family::V6, 1) => IpAddr::from([0x2001, 0xdb8, group as u16, 0, 0, 0, 0, end as u16]),
            _ => IpAddr::from([192, 0, 2 + octet, end as u8]),
        };
        let local = self.family.fit(local).expect("hosts have IPv4 addresses");
        Record {
            app: AppId(app),
            local: SocketAddr::new(local, 5000),
            remote: SocketAddr::new(remote, 443),
            protocol: 1 + u8::from(end.is_multiple_of(3)),
            reserved1: 0,
            reserved2: 0,
            reserved3: 0,
        }
    }

    /// Whose remote end it is.
    pub fn group_of(&self, key: &ResultKey) -> Option<usize> {
        match key.remote.ip().to_canonical() {
            IpAddr::V4(v4) => usize::from(v4.octets()[2]).checked_sub(2),
            IpAddr::V6(v6) => Some(usize::from(v6.segments()[2])),
        }
    }
}

fn member(rng: &mut Seeded, at: usize) -> Member {
    let ip = IpAddr::from([10, 0, 0, 10 + at as u8]);
    let key = Some(KeyId([1 + at as u8; 32]));
    let group = rng.below(2) as usize;
    let trusted = rng.below(4) == 0;
    match rng.below(6) {
        // Without a key all are in the group that is open.
        0 | 1 => Member {
            ip,
            group: 1,
            transport: Transport::Datagram,
            key: None,
            trusted: false,
            is_plain: false,
            session_id: None,
        },
        2 => {
            Member { ip, group, transport: Transport::Stream, key, trusted, is_plain: true, session_id: None }
        }
        _ => Member {
            ip,
            group,
            transport: Transport::Stream,
            key,
            trusted,
            is_plain: false,
            session_id: None,
        },
    }
}

/// What happens under a seed, in order.
pub fn plan(seed: u64) -> Vec<Step> {
    let count = Setup::new(seed).members.len() as u32;
    let rng = &mut Seeded::new(seed ^ 0x91a7);
    let mut steps: Vec<Step> = Vec::new();
    // Some worlds see little of a kind, others much.
    let (reports, rules, faults) = (5 + rng.below(60), rng.below(20), rng.below(12));
    for at in 0..reports + rules + faults {
        let what = match at {
            at if at < reports => say(rng, count),
            at if at < reports + rules => rule(rng),
            _ => fault(rng, count),
        };
        steps.push(Step { at: rng.below(TROUBLE), what });
    }
    // Things that happen close together find more than those that happen alone.
    if rng.below(3) > 0 {
        let width = 500 + rng.below(8000);
        let start = rng.below(TROUBLE - width);
        for _ in 0..2 + rng.below(12) {
            let what = match rng.below(3) {
                0 => say(rng, count),
                1 => rule(rng),
                _ => fault(rng, count),
            };
            steps.push(Step { at: start + rng.below(width), what });
        }
    }
    if rng.below(4) > 0 {
        steps.push(Step { at: 0, what: What::Network(network(rng)) });
    }
    steps.sort_by_key(|step| step.at);
    steps
}

fn say(rng: &mut Seeded, count: u32) -> What {
    let gateway = rng.below(count) as usize;
    match rng.below(8) {
        0 => What::Features { gateway, app: 1 + rng.below(3) },
        _ => What::Report { gateway, end: rng.below(ENDS), app: 1 + rng.below(3) },
    }
}

fn rule(rng: &mut Seeded) -> What {
    let group = [None, Some(0), Some(1)][rng.below(3) as usize];
    let app = 1 + rng.below(3);
    match rng.below(8) {
        0..4 => What::SetRule { group, app, text: rng.below(4) },
        4 => What::RemoveRule { group, app, text: None },
        5 | 6 => What::RemoveRule { group, app, text: Some(rng.below(4)) },
        _ => What::SetParameters { group: rng.below(2) as usize, app, word: rng.below(1000) },
    }
}

fn fault(rng: &mut Seeded, count: u32) -> What {
    let gateway = rng.below(count) as usize;
    let how = if rng.below(2) == 0 { Crash::Process } else { Crash::Power };
    let points = [CrashPoint::BeforeOutputs, CrashPoint::BeforeFlush, CrashPoint::AfterFlush];
    match rng.below(16) {
        0..4 => {
            What::CrashBackend { point: points[rng.below(3) as usize], how, down: 50 + rng.below(20_000) }
        }
        4 | 5 => What::CrashGateway { gateway, how, down: 50 + rng.below(10_000) },
        6..8 => What::Partition { gateway, lasts: 100 + rng.below(25_000) },
        8 | 9 => What::Break { gateway },
        10 => What::Deregister { gateway },
        11 => What::Allow { gateway },
        12 => What::Leave { gateway },
        13 => What::Join { gateway },
        14 => What::StoreFails { lasts: 100 + rng.below(8000) },
        _ => What::Network(network(rng)),
    }
}

fn network(rng: &mut Seeded) -> Conditions {
    let mut chance = |most| if rng.below(3) == 0 { 0 } else { rng.below(most) };
    Conditions {
        delay: 1 + chance(60),
        jitter: chance(300),
        loss: chance(300),
        duplicate: chance(200),
        corrupt: chance(100),
        late: chance(60),
    }
}
