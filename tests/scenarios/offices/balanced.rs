//! Brokers that a balancer gives: whom it may give when, and that devices get there.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use hailpost::{node::DeviceNode, time::Time};

use super::{
    brokers,
    house::{House, WITH_ANOTHER_WAY},
};
use crate::sim::HostId;

/// After so long without a report a broker is given no more: three are missed, and what was given is on its way.
const GRACE: Duration = Duration::from_secs(40);

/// What the balancer gave, watched from outside.
pub struct Given {
    /// When the balancer could last know that a broker wants devices.
    wanted: Vec<Time>,
    /// Brokers that drain, with the life in which they do.
    draining: BTreeSet<(usize, u32)>,
    /// Where each device was sent, and in which life it was.
    places: Vec<(u32, Option<IpAddr>)>,
    /// When that was looked at.
    at: Time,
}

impl Given {
    pub fn new(house: &House) -> Given {
        Given {
            wanted: vec![house.world.now(); house.brokers.len()],
            draining: BTreeSet::new(),
            places: vec![(0, None); house.devices.len()],
            at: house.world.now(),
        }
    }

    pub fn drained(&mut self, house: &House, broker: usize) {
        self.note(house, false);
        self.draining.insert((broker, house.world.life(house.brokers[broker])));
    }

    fn drains(&self, house: &House, broker: usize) -> bool {
        self.draining.contains(&(broker, house.world.life(house.brokers[broker])))
    }

    /// Notes who is there; before a cut ends also those behind it, whose words of long ago come now.
    pub fn note(&mut self, house: &House, heals: bool) {
        let Some(balancer) = house.balancer else { return };
        let world = &house.world;
        for (at, host) in house.brokers.iter().enumerate() {
            let is_cut = world.is_cut(*host, balancer);
            let is_heard = world.is_up(*host) && !is_cut && !self.drains(house, at);
            if is_heard || heals && is_cut {
                self.wanted[at] = world.now();
            }
        }
    }

    /// Nobody was sent since the last time to a broker that the balancer has to know for gone.
    pub fn judge(&mut self, house: &House) -> Result<(), String> {
        if house.balancer.is_none() {
            return Ok(());
        }
        for (at, host) in house.devices.iter().enumerate() {
            let Some(device) = house.world.node_as::<DeviceNode>(*host) else { continue };
            let place = (house.world.life(*host), device.broker().map(|address| address.ip()));
            let before = std::mem::replace(&mut self.places[at], place);
            // In a new life it goes where it was in the one before.
            if before == place || before.0 != place.0 {
                continue;
            }
            let Some(broker) = place.1.and_then(|ip| broker_at(house, ip)) else { continue };
            if self.wanted[broker] + GRACE < self.at {
                return Err(format!(
                    "device {at} is sent to broker {broker}, which is gone or drains for long"
                ));
            }
        }
        self.note(house, false);
        self.at = house.world.now();
        Ok(())
    }

    /// Where the device is logged in: a broker's number.
    pub fn place(house: &House, host: HostId) -> Option<usize> {
        let device = house.world.node_as::<DeviceNode>(host)?;
        broker_at(house, device.broker().filter(|_| device.is_up())?.ip())
    }

    /// Devices that are not at a broker that lives and does not drain; one may be at the hub.
    pub fn astray(&self, house: &House) -> Vec<usize> {
        if house.balancer.is_none() {
            return Vec::new();
        }
        let is_good =
            |at: usize| brokers::node(&house.world, house.brokers[at]).is_some() && !self.drains(house, at);
        let devices = house.devices.iter().enumerate();
        let astray = devices.filter(|(_, host)| !Given::place(house, **host).is_some_and(is_good));
        let astray = astray.filter(|(at, _)| *at != WITH_ANOTHER_WAY);
        astray.map(|(at, _)| at).collect()
    }
}

fn broker_at(house: &House, ip: IpAddr) -> Option<usize> {
    (0..house.brokers.len()).find(|at| ip == brokers::ip(*at))
}

/// Without trouble, step by step.
mod tests {
    use hailpost::node::{EventKind, Field};

    use super::*;
    use crate::{
        scenarios::offices::{Roles, house::House, plan::DEVICES},
        sim::{Conditions, Crash, Trace},
    };

    struct Calm {
        house: House,
        given: Given,
    }

    impl Calm {
        /// All are up but the devices.
        fn new(seed: u64) -> Calm {
            let mut house = House::new(seed, None, Roles::Balanced, Trace::off()).unwrap();
            house.world.conditions(Conditions::CALM);
            house.brokers.clone().into_iter().for_each(|host| house.world.boot(host));
            let given = Given::new(&house);
            Calm { house, given }
        }

        fn run(&mut self, seconds: u64) {
            self.house.world.run_for(Duration::from_secs(seconds));
        }

        fn devices_come(&mut self) {
            self.house.devices.clone().into_iter().for_each(|host| self.house.world.boot(host));
            self.run(5);
        }

        fn drain(&mut self, broker: usize) {
            brokers::drain(&mut self.house.world, self.house.brokers[broker]);
            self.given.drained(&self.house, broker);
        }

        fn places(&self) -> Vec<Option<usize>> {
            self.house.devices.iter().map(|host| Given::place(&self.house, *host)).collect()
        }

        fn astray(&self) -> Vec<usize> {
            self.given.astray(&self.house)
        }

        fn of_devices(&self, count: impl Fn(&DeviceNode) -> u64) -> Vec<u64> {
            let devices = self.house.devices.iter();
            devices.filter_map(|host| self.house.world.node_as(*host).map(&count)).collect()
        }
    }

    const NOBODY: [usize; 0] = [];

    #[test]
    fn first_logins_are_spread_and_later_ones_go_to_the_last_broker_without_asking() {
        let mut calm = Calm::new(1);
        calm.run(1);
        calm.devices_come();
        assert_eq!(calm.astray(), NOBODY);
        let places = calm.places();
        assert!(places.iter().collect::<BTreeSet<_>>().len() > 1, "{places:?}");
        let asked = |device: &DeviceNode| device.balancer_counters().asked;
        assert_eq!(calm.of_devices(asked), [1; DEVICES]);
        // In their next life, without the balancer.
        let House { balancer, devices, .. } = &calm.house;
        let (balancer, devices) = (balancer.unwrap(), devices.clone());
        calm.house.world.crash(balancer, Crash::Power);
        devices.iter().for_each(|host| calm.house.world.crash(*host, Crash::Power));
        calm.devices_come();
        assert_eq!((calm.places(), calm.of_devices(asked)), (places, vec![0; DEVICES]));
        for host in devices {
            let events = calm.house.world.take_events(host).into_iter().rev();
            let mut came = events.filter(|(life, event)| *life == 2 && event.kind() == EventKind::LoggedIn);
            assert_eq!(came.next().and_then(|(_, event)| event.u64(Field::Resumed)), Some(1));
        }
    }

    /// OM-13: what the broker held logs in at others, by its ticket, within a heartbeat and a few tries.
    #[test]
    fn when_a_broker_dies_its_devices_are_given_another() {
        let mut calm = Calm::new(2);
        calm.run(1);
        calm.devices_come();
        let place = calm.places()[0].unwrap();
        calm.house.world.crash(calm.house.brokers[place], Crash::Power);
        // The balancer has not noticed for 15 seconds, but is told by who asks that this one failed.
        calm.run(60);
        assert_eq!(calm.astray(), NOBODY);
        assert!(calm.places().iter().all(|at| *at != Some(place)));
        // All brokers share the tickets, so no handshake was needed.
        assert_eq!(calm.of_devices(|device| device.link_counters().handshakes), [1; DEVICES]);
    }

    #[test]
    fn draining_moves_devices_while_their_broker_is_still_there() {
        let mut calm = Calm::new(3);
        calm.run(1);
        calm.devices_come();
        let place = calm.places()[0].unwrap();
        calm.drain(place);
        calm.run(40);
        assert_eq!(calm.astray(), NOBODY);
        let broker = brokers::node(&calm.house.world, calm.house.brokers[place]).unwrap();
        assert_eq!(broker.server().len(), 0, "they said goodbye");
        // The next upgrade moves them again, and there is one broker left for all.
        calm.drain((place + 1) % 3);
        calm.run(40);
        assert_eq!(calm.astray(), NOBODY);
    }

    /// One that drains without another stays until it ends.
    #[test]
    fn a_device_stays_with_a_draining_broker_while_there_is_no_other() {
        let mut calm = Calm::new(4);
        calm.run(1);
        for at in 1..3 {
            calm.house.world.crash(calm.house.brokers[at], Crash::Process);
        }
        calm.run(1);
        calm.devices_come();
        calm.drain(0);
        calm.run(120);
        assert_eq!(calm.places(), [Some(0); DEVICES]);
        calm.house.world.boot(calm.house.brokers[1]);
        calm.run(60);
        assert_eq!(calm.places(), [Some(1); DEVICES]);
    }
}
