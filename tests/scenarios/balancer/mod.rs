//! Devices, brokers and a balancer: over a bad network, with brokers and the balancer that die, fall silent and drain, every
//! device gets to a broker that lives and does not drain (CN103200214A claim 3, OM-12, OM-13).

mod broker;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use hailpost::{
    io::{KeyId, Service, Transport},
    link::{ClientConfig, public_key},
    node::{BalancerKey, BalancerNode, BalancerNodeConfig, DeviceNode, DeviceNodeConfig, EventKind, Node},
    post::device::DeviceConfig,
    rng::{Entropy, Seeded},
    store::{Batch, Fetch, Fetched, Memory, Op, Store, Table},
    time::Time,
};

use self::broker::{Broker, secret};
use crate::sim::{Boot, Conditions, Crash, HostId, Scenario, Trace, World, check};

const BROKERS: u32 = 3;
const DEVICES: u32 = 8;
const PORT: u16 = 7700;
const INNER: u16 = 7702;
/// The balancer's private key.
const BALANCER: [u8; 32] = [4; 32];
/// How long after the trouble all must be well: pauses between tries have grown to ten minutes by then.
const SETTLE: Duration = Duration::from_secs(1300);

/// A disk: what was written outlives who wrote it.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<Memory>>);

impl Disk {
    fn of<R>(&self, call: impl FnOnce(&mut Memory) -> R) -> R {
        call(&mut self.0.lock().expect("nobody panics with it"))
    }
}

impl Store for Disk {
    fn load(&self, table: Table, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), hailpost::status::Fault> {
        self.of(|store| store.load(table, each))
    }

    fn submit(&mut self, batch: Batch) {
        self.of(|store| store.submit(batch));
    }

    fn ask(&mut self, fetch: Fetch) {
        self.of(|store| store.ask(fetch));
    }

    fn answer(&mut self) -> Option<Fetched> {
        self.of(Store::answer)
    }

    fn is_dirty(&self) -> bool {
        self.of(|store| store.is_dirty())
    }

    fn commit(&mut self) -> Result<u64, hailpost::status::Fault> {
        self.of(Store::commit)
    }
}

struct House {
    world: World,
    balancer: HostId,
    brokers: Vec<HostId>,
    devices: Vec<HostId>,
}

fn ip(net: u8, host: u8) -> IpAddr {
    IpAddr::from([10, 0, net, host])
}

fn device(number: u8, disk: Disk, boot: Boot) -> Box<dyn Node> {
    let session_id = [number; 16];
    let balancer = public_key(&BALANCER);
    let link = ClientConfig {
        server_key: balancer,
        next_key: None,
        session_id,
        secret: secret(session_id),
        interval: 30,
        resumption: None,
        rekey_after: Duration::from_secs(86_400),
    };
    let config = DeviceNodeConfig {
        link,
        post: DeviceConfig::default(),
        ways: 1,
        balancer: Some(BalancerKey { key: balancer, ways: 1 }),
    };
    let node = DeviceNode::open(config, (boot.now, boot.unix), boot.rng, Box::new(disk));
    Box::new(node.expect("memory never fails"))
}

impl House {
    fn new(seed: u64, trace: &Trace) -> House {
        let mut world = World::new(seed, trace.clone());
        world.conditions(Conditions::CALM);
        let mut disk = Disk::default();
        let value = BALANCER.to_vec();
        let op = Op::Put { table: Table::rows("link"), key: b"balancer".to_vec(), value };
        disk.submit(Batch { ticket: 1, ops: vec![op] });
        disk.commit().expect("memory never fails");
        let balancer = world.add("balancer", ip(0, 1), move |boot| {
            let brokers = (1..=BROKERS as u8).map(|number| KeyId([number; 32])).collect::<BTreeSet<_>>();
            let config = BalancerNodeConfig { brokers, ..BalancerNodeConfig::default() };
            let node = BalancerNode::open(config, boot.now, boot.rng, Box::new(disk.clone()));
            Box::new(node.expect("memory never fails"))
        });
        world.listen_for(balancer, Transport::Datagram, PORT, Service::Link);
        world.listen_for(balancer, Transport::Stream, INNER, Service::Inner);
        let brokers = (1..=BROKERS as u8)
            .map(|number| {
                let name = format!("broker {number}");
                let address = SocketAddr::new(ip(1, number), PORT);
                let own = name.clone();
                let host = world
                    .add(&name, address.ip(), move |boot| Box::new(Broker::new(own.clone(), address, &boot)));
                world.listen_for(host, Transport::Datagram, PORT, Service::Link);
                world.route(host, balancer, Transport::Stream, INNER, Some(KeyId([number; 32])));
                host
            })
            .collect();
        let devices = (1..=DEVICES as u8)
            .map(|number| {
                let disk = Disk::default();
                let boot = move |boot| device(number, disk.clone(), boot);
                let host = world.add(&format!("device {number}"), ip(2, number), boot);
                world.route(host, balancer, Transport::Datagram, PORT, None);
                host
            })
            .collect();
        let mut house = House { world, balancer, brokers, devices };
        house.world.boot(balancer);
        house.brokers.clone().into_iter().for_each(|host| house.world.boot(host));
        house
    }

    fn boot_devices(&mut self) {
        self.devices.clone().into_iter().for_each(|host| self.world.boot(host));
    }

    fn run(&mut self, seconds: u64) {
        self.world.run_for(Duration::from_secs(seconds));
    }

    /// Which broker each device is at, by number from 0; `None` for one that is not logged in.
    fn places(&self) -> Vec<Option<usize>> {
        let of = |host: &HostId| {
            let device: &DeviceNode = self.world.node_as(*host)?;
            let address = device.broker().filter(|_| device.is_up())?;
            (0..self.brokers.len()).find(|at| address.ip() == ip(1, *at as u8 + 1))
        };
        self.devices.iter().map(of).collect()
    }

    /// Devices that are not at a broker that lives and does not drain.
    fn astray(&self) -> Vec<usize> {
        let good = |place: usize| {
            self.world.node_as::<Broker>(self.brokers[place]).is_some_and(|broker| !broker.is_draining())
        };
        let places = self.places();
        (0..places.len()).filter(|at| !places[*at].is_some_and(good)).collect()
    }

    fn drain(&mut self, broker: usize) {
        self.world.with(self.brokers[broker], |node, now: Time| {
            let node: &mut dyn std::any::Any = node;
            node.downcast_mut::<Broker>().expect("it is one").drain(now);
        });
    }

    fn asks(&self) -> u64 {
        let asked = |host: &HostId| {
            let device: &DeviceNode = self.world.node_as(*host)?;
            Some(device.balancer_counters().asked)
        };
        self.devices.iter().filter_map(asked).sum()
    }
}

#[test]
fn first_logins_are_spread_and_later_ones_go_to_the_last_broker_without_asking() {
    let mut house = House::new(1, &Trace::off());
    house.run(1);
    house.boot_devices();
    house.run(5);
    assert_eq!(house.astray(), [0; 0]);
    let places = house.places();
    let at = |place| places.iter().filter(|at| **at == Some(place)).count();
    assert!((0..3).all(|place| at(place) >= 1), "{places:?}");
    assert_eq!(house.asks(), u64::from(DEVICES));
    // In their next life, without the balancer.
    house.world.crash(house.balancer, Crash::Power);
    house.devices.clone().into_iter().for_each(|host| house.world.crash(host, Crash::Power));
    house.boot_devices();
    house.run(5);
    assert_eq!((house.places(), house.asks()), (places, 0));
    for host in house.devices.clone() {
        let resumed = house.world.take_events(host).into_iter().rev();
        let mut resumed = resumed.filter(|(life, event)| *life == 2 && event.kind() == EventKind::LoggedIn);
        let field = hailpost::node::Field::Resumed;
        assert_eq!(resumed.next().and_then(|(_, event)| event.u64(field)), Some(1));
    }
}

/// OM-13: what the broker held logs in at others, by its ticket, within a heartbeat and a few tries.
#[test]
fn when_a_broker_dies_its_devices_are_given_another() {
    let mut house = House::new(2, &Trace::off());
    house.run(1);
    house.boot_devices();
    house.run(5);
    let place = house.places()[0].unwrap();
    house.world.crash(house.brokers[place], Crash::Power);
    // The balancer has not noticed for 15 seconds, but is told by who asks that this one failed.
    house.run(60);
    assert_eq!(house.astray(), [0; 0]);
    assert!(house.places().iter().all(|at| *at != Some(place)));
    // All brokers share the tickets, so no handshake was needed.
    let handshakes = |host: &HostId| {
        house.world.node_as::<DeviceNode>(*host).map_or(0, |device| device.link_counters().handshakes)
    };
    assert!(house.devices.iter().all(|host| handshakes(host) == 1));
}

#[test]
fn draining_moves_devices_while_their_broker_is_still_there() {
    let mut house = House::new(3, &Trace::off());
    house.run(1);
    house.boot_devices();
    house.run(5);
    let place = house.places()[0].unwrap();
    house.drain(place);
    house.run(40);
    assert_eq!(house.astray(), [0; 0]);
    let broker: &Broker = house.world.node_as(house.brokers[place]).unwrap();
    assert_eq!(broker.sessions(), 0, "they said goodbye");
    // The next upgrade moves them again, and there is one broker left for all.
    let next = (0..3).find(|at| *at != place).unwrap();
    house.drain(next);
    house.run(40);
    assert_eq!(house.astray(), [0; 0]);
}

/// One that drains without another stays until it ends.
#[test]
fn a_device_stays_with_a_draining_broker_while_there_is_no_other() {
    let mut house = House::new(4, &Trace::off());
    house.run(1);
    (1..3).for_each(|at| house.world.crash(house.brokers[at], Crash::Process));
    house.run(1);
    house.boot_devices();
    house.run(5);
    house.drain(0);
    house.run(120);
    assert_eq!(house.places(), vec![Some(0); DEVICES as usize]);
    house.world.boot(house.brokers[1]);
    house.run(60);
    assert_eq!(house.places(), vec![Some(1); DEVICES as usize]);
}

#[derive(Clone, Debug)]
enum Step {
    /// Time passes, in seconds.
    Wait(u32),
    /// A broker dies, telling its peers or not.
    Kill(u32, bool),
    /// It is there again, and does not drain.
    Boot(u32),
    /// A broker drains until it dies.
    Drain(u32),
    /// A broker hears nothing of the balancer, nor it of it, or again.
    CutOff(u32, bool),
    /// The balancer dies, or is there again.
    Balancer(bool),
    /// A device begins a new life.
    Reboot(u32),
    /// Nothing passes between a device and a broker, or again.
    Cut(u32, u32, bool),
    /// How bad the network is, from 0.
    Weather(u32),
}

struct Balancing;

impl Scenario for Balancing {
    type Step = Step;

    fn plan(&self, seed: u64) -> Vec<Step> {
        let mut rng = Seeded::new(seed ^ 0xba1a);
        let count = 10 + rng.below(25);
        (0..count)
            .map(|_| {
                let (broker, device) = (rng.below(BROKERS), rng.below(DEVICES));
                let half = rng.below(2) == 0;
                match rng.below(18) {
                    0..5 => Step::Wait(rng.below(90)),
                    5..7 => Step::Kill(broker, half),
                    7..9 => Step::Boot(broker),
                    9..11 => Step::Drain(broker),
                    11 => Step::CutOff(broker, half),
                    12 => Step::Balancer(half),
                    13..15 => Step::Reboot(device),
                    15..17 => Step::Cut(device, broker, half),
                    _ => Step::Weather(rng.below(3)),
                }
            })
            .collect()
    }

    fn run(&self, seed: u64, steps: &[Step], trace: &Trace) -> Result<(), String> {
        let mut house = House::new(seed, trace);
        house.boot_devices();
        for step in steps {
            house.take(step);
        }
        house.settle()
    }
}

impl House {
    fn take(&mut self, step: &Step) {
        self.world.note(|| format!("-- {step:?}"));
        match *step {
            Step::Wait(seconds) => self.run(seconds.into()),
            Step::Kill(broker, told) => {
                let how = if told { Crash::Process } else { Crash::Power };
                self.world.crash(self.brokers[broker as usize], how);
            }
            Step::Boot(broker) => self.world.boot(self.brokers[broker as usize]),
            Step::Drain(broker) => self.drain(broker as usize),
            Step::CutOff(broker, cut) => {
                let (balancer, broker) = (self.balancer, self.brokers[broker as usize]);
                match cut {
                    true => self.world.partition(balancer, broker),
                    false => self.world.heal(balancer, broker),
                }
            }
            Step::Balancer(up) => match up {
                true => self.world.boot(self.balancer),
                false => self.world.crash(self.balancer, Crash::Power),
            },
            Step::Reboot(device) => {
                let device = self.devices[device as usize];
                self.world.crash(device, Crash::Power);
                self.world.boot(device);
            }
            Step::Cut(device, broker, cut) => {
                let (device, broker) = (self.devices[device as usize], self.brokers[broker as usize]);
                match cut {
                    true => self.world.partition(device, broker),
                    false => self.world.heal(device, broker),
                }
            }
            Step::Weather(bad) => self.world.conditions(Conditions {
                loss: bad * 60,
                duplicate: bad * 20,
                corrupt: bad * 10,
                late: bad * 20,
                ..Conditions::CALM
            }),
        }
    }

    fn settle(&mut self) -> Result<(), String> {
        // One broker at least lives and does not drain; the others stay as they are.
        let is_good =
            |host: &HostId| self.world.node_as::<Broker>(*host).is_some_and(|broker| !broker.is_draining());
        if !self.brokers.iter().any(is_good) {
            let first = self.brokers[0];
            self.world.crash(first, Crash::Power);
            self.world.boot(first);
        }
        self.world.boot(self.balancer);
        self.world.conditions(Conditions { loss: 20, ..Conditions::CALM });
        for broker in self.brokers.clone() {
            self.world.heal(self.balancer, broker);
            self.devices.clone().into_iter().for_each(|device| self.world.heal(device, broker));
        }
        self.world.note(|| "-- settle".to_owned());
        self.world.run_for(SETTLE);
        if let Some(problem) = self.world.problem() {
            return Err(problem.to_owned());
        }
        match self.astray()[..] {
            [] => Ok(()),
            ref astray => Err(format!("devices {astray:?} are at no broker that lives: {:?}", self.places())),
        }
    }
}

#[test]
fn every_device_gets_to_a_living_broker() {
    check("every_device_gets_to_a_living_broker", 150, &Balancing);
}
