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
        Inbox,
        app::{self, AppConfig},
        brokers::BrokersConfig,
        device::DeviceConfig,
        hub::{HubConfig, Rights},
        rooms::OtherRoom,
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
    /// The offices of all rooms.
    pub offices: Vec<HostId>,
    pub balancer: Option<HostId>,
    /// Those apart from the hub.
    pub brokers: Vec<HostId>,
    pub app: HostId,
    pub devices: Vec<HostId>,
    /// Which of the users has each.
    pub owners: Vec<usize>,
    /// In which room each is at home, and its inbox there.
    pub homes: Vec<(usize, Inbox)>,
    /// The disk of an office fails.
    pub store_fails: Vec<Arc<AtomicBool>>,
}

impl House {
    /// The office and the balancer are up, everybody else is down.
    pub fn new(seed: u64, defect: Option<Defect>, roles: Roles, trace: Trace) -> Result<House, String> {
        let mut world = World::new(seed, trace);
        let store_fails: Vec<_> = roles.rooms().iter().map(|_| Arc::new(AtomicBool::new(false))).collect();
        let fails = store_fails.iter().cloned().enumerate();
        let offices: Vec<HostId> =
            fails.map(|(room, fails)| add_office(&mut world, defect, roles, room, fails)).collect();
        let office = offices[0];
        if let [one, other] = offices[..] {
            world.route(one, other, Transport::Stream, INNER, Some(brokers::key(0)));
            world.route(other, one, Transport::Stream, INNER, Some(brokers::key(1)));
        }
        offices.iter().for_each(|office| world.boot(*office));
        // Before anything breaks: users, then their devices.
        let of_office = |world: &mut World, room: usize, act: &mut dyn FnMut(&mut OfficeNode)| {
            world.with(offices[room], |node, _| act(office_of(node)));
            world.run_for(Duration::from_millis(10));
        };
        for (at, (user, _)) in USERS.iter().enumerate() {
            of_office(&mut world, roles.home(at), &mut |node| {
                node.add_user(user).expect("the name is good");
            });
        }
        let mut secret = String::new();
        of_office(&mut world, 0, &mut |node| {
            let rights = Rights { send: true, broadcast: true, query: true };
            secret = node.add_app("news", rights).expect("the name is good").0;
        });
        let app = world.add("news", [10, 0, 2, 1].into(), move |boot| {
            let (name, secret) = ("news".to_owned(), secret.clone());
            let open = app::Open { now: boot.now, name, secret, rng: Box::new(boot.rng) };
            Box::new(AppNode::new(AppConfig::default(), open, 1).expect("the name is good"))
        });
        world.route(app, office, Transport::Stream, APPS, None);
        let keys: Vec<[u8; 32]> = offices
            .iter()
            .map(|office| world.node_as::<OfficeNode>(*office).expect("it is up").server_key())
            .collect();
        let balancer = (roles == Roles::Balanced).then(|| brokers::add_balancer(&mut world, defect));
        let (balancer, balancer_key) = balancer.unzip();
        let brokers: Vec<HostId> = (0..roles.brokers())
            .map(|at| brokers::add_broker(&mut world, office, balancer, defect, at))
            .collect();
        let owners = USERS.iter().enumerate().flat_map(|(user, (_, count))| (0..*count).map(move |_| user));
        let owners: Vec<usize> = owners.collect();
        assert_eq!(owners.len(), DEVICES);
        let mut devices = Vec::new();
        // The other room came first where there is one, then the application.
        let first = roles.rooms().len() as u32;
        let (mut homes, mut next) = (Vec::new(), [first + 1, first]);
        for (at, user) in owners.iter().enumerate() {
            let room = roles.home(*user);
            homes.push((room, Inbox(next[room])));
            next[room] += 1;
            let user = USERS[*user].0;
            let mut enrolled = None;
            of_office(&mut world, room, &mut |node| {
                enrolled = Some(node.add_device(user, [at as u8; 16], 0).expect("the user is there"));
            });
            let enrolled = enrolled.ok_or("the office is down")?;
            // Where there is no other way, the balancer's key names the enrolment.
            let server_key = balancer_key.filter(|_| at != WITH_ANOTHER_WAY).unwrap_or(keys[room]);
            let link = ClientConfig::new(server_key, enrolled.session.0, enrolled.secret);
            let host = add_device(&mut world, defect, balancer_key, (at, user), link);
            let home = balancer.or(brokers.get(at % (brokers.len() + 1)).copied()).unwrap_or(offices[room]);
            world.route(host, home, Transport::Datagram, PORT, None);
            if at == WITH_ANOTHER_WAY {
                world.route_way(host, 1, office, Transport::Datagram, PORT, None);
            }
            devices.push(host);
        }
        Ok(House { world, office, offices, balancer, brokers, app, devices, owners, homes, store_fails })
    }

    pub fn host(&self, who: Who) -> HostId {
        match who {
            Who::Office => self.office,
            Who::Other => self.offices[1],
            Who::App => self.app,
            Who::Device(at) => self.devices[at],
            Who::Broker(at) => self.brokers[at],
            Who::Balancer => self.balancer.expect("plans without a balancer do not name it"),
        }
    }

    /// Everybody.
    pub fn all(&self) -> Vec<HostId> {
        let few = self.offices.iter().copied().chain(self.balancer).chain([self.app]);
        few.chain(self.brokers.iter().copied()).chain(self.devices.iter().copied()).collect()
    }

    /// Boots everybody who is down.
    pub fn boot_all(&mut self) {
        self.all().into_iter().for_each(|host| self.world.boot(host));
    }
}

/// Adds the office of a room, which is down.
fn add_office(
    world: &mut World,
    defect: Option<Defect>,
    roles: Roles,
    room: usize,
    fails: Arc<AtomicBool>,
) -> HostId {
    let (memory, mut life) = (Memory::default(), 0);
    let names = roles.rooms();
    let name = if room == 0 { "office".to_owned() } else { format!("office of {}", names[room]) };
    let office = world.add(&name, [10, 0, 0, 1 + 2 * room as u8].into(), move |boot| {
        life += 1;
        let store = match defect {
            Some(defect) => defect.office_store(&memory, life),
            None => Box::new(memory.clone()),
        };
        let store = Box::new(Flaky::new(store, fails.clone()));
        let store = Box::new(Slow::store(store, boot.disk, Seeded::new(life.into())));
        let hub = HubConfig {
            window: 4,
            room_window: 5,
            max_cached: 2,
            max_messages: 100_000,
            ..HubConfig::default()
        };
        let keys = (0..roles.brokers()).map(brokers::key).collect();
        let brokers = BrokersConfig { keys, ..BrokersConfig::default() };
        let others = (0..names.len()).filter(|other| *other != room);
        let other =
            |other: usize| OtherRoom { name: names[other].to_owned(), keys: vec![brokers::key(other)] };
        let (room, rooms) = (names[room].to_owned(), others.map(other).collect());
        let config = OfficeConfig { hub, brokers, room, rooms, ..OfficeConfig::default() };
        let node = OfficeNode::open(config, (boot.now, boot.unix), boot.rng, store);
        Box::new(node.expect("memory never fails at an opening"))
    });
    world.listen_for(office, Transport::Datagram, PORT, Service::Link);
    world.listen_for(office, Transport::Stream, APPS, Service::App);
    world.listen_for(office, Transport::Stream, INNER, Service::Inner);
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
