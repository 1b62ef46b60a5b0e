//! Who is there, and how they are connected.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use hailpost::{
    io::{Service, Transport},
    link::ClientConfig,
    node::{AppNode, BalancerKey, DeviceNode, DeviceNodeConfig, Node, OfficeConfig, OfficeNode},
    post::{
        app::{self, AppConfig},
        brokers::BrokersConfig,
        device::DeviceConfig,
        hub::{HubConfig, Rights},
    },
    rng::Seeded,
    store::Memory,
};

use super::{
    Roles,
    brokers::{self, INNER},
    defects::Defect,
    plan::{DEVICES, USERS, Who},
};
use crate::sim::{Flaky, HostId, Slow, Trace, World};

/// Where devices come in.
pub const PORT: u16 = 7700;
const APPS: u16 = 7701;
/// The device that knows a way to the hub's own link besides the balancer.
pub const WITH_ANOTHER_WAY: usize = 3;

/// The world, and who is where in it.
pub struct House {
    pub world: World,
    pub office: HostId,
    pub balancer: Option<HostId>,
    /// Those apart from the hub.
    pub brokers: Vec<HostId>,
    pub app: HostId,
    pub devices: Vec<HostId>,
    /// Which of the users has each.
    pub owners: Vec<usize>,
    /// The office's disk fails.
    pub store_fails: Arc<AtomicBool>,
}

impl House {
    /// The office and the balancer are up, everybody else is down.
    pub fn new(seed: u64, defect: Option<Defect>, roles: Roles, trace: Trace) -> Result<House, String> {
        let mut world = World::new(seed, trace);
        let store_fails = Arc::new(AtomicBool::new(false));
        let office = add_office(&mut world, defect, roles, store_fails.clone());
        // Before anything breaks: users, then their devices.
        let of_office = |world: &mut World, act: &mut dyn FnMut(&mut OfficeNode)| {
            world.with(office, |node, _| act(office_of(node)));
            world.run_for(Duration::from_millis(10));
        };
        for (user, _) in USERS {
            of_office(&mut world, &mut |node| {
                node.add_user(user).expect("the name is good");
            });
        }
        let mut secret = String::new();
        of_office(&mut world, &mut |node| {
            let rights = Rights { send: true, broadcast: true, query: true };
            secret = node.add_app("news", rights).expect("the name is good").0;
        });
        let app = world.add("news", [10, 0, 2, 1].into(), move |boot| {
            let (name, secret) = ("news".to_owned(), secret.clone());
            let open = app::Open { now: boot.now, name, secret, rng: Box::new(boot.rng) };
            Box::new(AppNode::new(AppConfig::default(), open, 1).expect("the name is good"))
        });
        world.route(app, office, Transport::Stream, APPS, None);
        let office_key = world.node_as::<OfficeNode>(office).expect("it is up").server_key();
        let balancer = (roles == Roles::Balanced).then(|| brokers::add_balancer(&mut world, defect));
        let (balancer, balancer_key) = balancer.unzip();
        let brokers: Vec<HostId> = (0..roles.brokers())
            .map(|at| brokers::add_broker(&mut world, office, balancer, defect, at))
            .collect();
        let owners = USERS.iter().enumerate().flat_map(|(user, (_, count))| (0..*count).map(move |_| user));
        let owners: Vec<usize> = owners.collect();
        assert_eq!(owners.len(), DEVICES);
        let mut devices = Vec::new();
        for (at, user) in owners.iter().enumerate() {
            let user = USERS[*user].0;
            let mut enrolled = None;
            of_office(&mut world, &mut |node| {
                enrolled = Some(node.add_device(user, [at as u8; 16], 0).expect("the user is there"));
            });
            let enrolled = enrolled.ok_or("the office is down")?;
            let link = ClientConfig {
                // Where there is no other way, the balancer's key names the enrolment.
                server_key: balancer_key.filter(|_| at != WITH_ANOTHER_WAY).unwrap_or(office_key),
                next_key: None,
                session_id: enrolled.session.0,
                secret: enrolled.secret,
                interval: 30,
                resumption: None,
                rekey_after: Duration::from_secs(86_400),
            };
            let host = add_device(&mut world, defect, balancer_key, (at, user), link);
            let home = balancer.or(brokers.get(at % (brokers.len() + 1)).copied()).unwrap_or(office);
            world.route(host, home, Transport::Datagram, PORT, None);
            if at == WITH_ANOTHER_WAY {
                world.route_way(host, 1, office, Transport::Datagram, PORT, None);
            }
            devices.push(host);
        }
        Ok(House { world, office, balancer, brokers, app, devices, owners, store_fails })
    }

    pub fn host(&self, who: Who) -> HostId {
        match who {
            Who::Office => self.office,
            Who::App => self.app,
            Who::Device(at) => self.devices[at],
            Who::Broker(at) => self.brokers[at],
            Who::Balancer => self.balancer.expect("plans without a balancer do not name it"),
        }
    }

    /// Everybody.
    pub fn all(&self) -> Vec<HostId> {
        let few = [Some(self.office), self.balancer, Some(self.app)].into_iter().flatten();
        few.chain(self.brokers.iter().copied()).chain(self.devices.iter().copied()).collect()
    }

    /// Boots everybody who is down.
    pub fn boot_all(&mut self) {
        self.all().into_iter().for_each(|host| self.world.boot(host));
    }
}

fn add_office(world: &mut World, defect: Option<Defect>, roles: Roles, fails: Arc<AtomicBool>) -> HostId {
    let (memory, mut life) = (Memory::default(), 0);
    let office = world.add("office", [10, 0, 0, 1].into(), move |boot| {
        life += 1;
        let store = match defect {
            Some(defect) => defect.office_store(&memory, life),
            None => Box::new(memory.clone()),
        };
        let store = Box::new(Flaky::new(store, fails.clone()));
        let store = Box::new(Slow::store(store, boot.disk, Seeded::new(life.into())));
        let hub = HubConfig { window: 4, max_cached: 2, max_messages: 100_000, ..HubConfig::default() };
        let keys = (0..roles.brokers()).map(brokers::key).collect();
        let brokers = BrokersConfig { keys, ..BrokersConfig::default() };
        let config = OfficeConfig { hub, brokers, ..OfficeConfig::default() };
        let node = OfficeNode::open(config, (boot.now, boot.unix), boot.rng, store);
        Box::new(node.expect("memory never fails at an opening"))
    });
    world.listen_for(office, Transport::Datagram, PORT, Service::Link);
    world.listen_for(office, Transport::Stream, APPS, Service::App);
    world.listen_for(office, Transport::Stream, INNER, Service::Inner);
    world.boot(office);
    office
}

fn add_device(
    world: &mut World,
    defect: Option<Defect>,
    balancer_key: Option<[u8; 32]>,
    (at, user): (usize, &str),
    link: ClientConfig,
) -> HostId {
    let memory = Memory::default();
    let balancer = balancer_key.map(|key| BalancerKey { key, ways: 1 });
    let ways = if balancer.is_some() && at == WITH_ANOTHER_WAY { 2 } else { 1 };
    world.add(&format!("device {at} ({user})"), [10, 0, 1, at as u8 + 1].into(), move |boot| {
        let store = match defect {
            Some(defect) => defect.device_store(&memory),
            None => Box::new(memory.clone()),
        };
        let post = DeviceConfig { window: 3, ..DeviceConfig::default() };
        let config = DeviceNodeConfig { link: link.clone(), post, ways, balancer };
        let node = DeviceNode::open(config, (boot.now, boot.unix), boot.rng, store);
        Box::new(node.expect("memory never fails"))
    })
}

pub fn office_of(node: &mut dyn Node) -> &mut OfficeNode {
    let any: &mut dyn std::any::Any = node;
    any.downcast_mut().expect("the office is an office")
}
