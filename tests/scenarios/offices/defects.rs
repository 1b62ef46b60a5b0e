//! Things done wrong on purpose: a simulation that does not notice them proves nothing.

use std::sync::{Arc, Mutex};

use hailpost::{
    status::Fault,
    store::{Batch, Fetch, Fetched, Memory, Store, Table},
};

use super::{Offices, Roles};
use crate::sim::caught;

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Defect {
    /// The office's disk says that it has what it will have one commit later.
    OfficeAcknowledgesEarly,
    /// A device's disk says so.
    DeviceAcknowledgesEarly,
    /// An office that restarts finds no messages.
    OfficeForgets,
    /// A device that restarts has forgotten all.
    DeviceForgets,
    /// A broker whose hub was away and is back loses for a moment what devices say, and tells nobody.
    BrokerLosesWhatIsSaid,
    /// The hub takes a broker that died and began anew for the one before.
    HubKeepsADeadEpoch,
    /// A broker whose hub is back does not tell who sits there.
    BrokerTellsNobodyIsThere,
    /// A broker does not tell its balancer that it drains.
    BrokerHidesThatItDrains,
    /// The balancer gives out brokers whose reports stopped.
    BalancerGivesTheSilent,
    /// An office that restarts does not know what it has taken, and is gone.
    OfficeForgetsIds,
    /// An office that restarts does not know in which inbox the other room's messages wait.
    OfficeForgetsRooms,
}

impl Defect {
    /// Whether it is wrong with brokers that are apart from the hub.
    pub fn is_of_brokers(self) -> bool {
        matches!(
            self,
            Defect::BrokerLosesWhatIsSaid
                | Defect::HubKeepsADeadEpoch
                | Defect::BrokerTellsNobodyIsThere
                | Defect::BrokerHidesThatItDrains
        )
    }

    /// The store that the office is booted on, for the nth time.
    pub fn office_store(self, memory: &Memory, life: u32) -> Box<dyn Store> {
        match self {
            Defect::OfficeAcknowledgesEarly => Box::new(Late::new(memory.clone())),
            Defect::OfficeForgets if life > 1 => Box::new(Without(memory.clone(), "message")),
            Defect::OfficeForgetsIds if life > 1 => Box::new(Without(memory.clone(), "known")),
            Defect::OfficeForgetsRooms if life > 1 => Box::new(Without(memory.clone(), "room")),
            _ => Box::new(memory.clone()),
        }
    }

    /// The store that a device is booted on.
    pub fn device_store(self, memory: &Memory) -> Box<dyn Store> {
        match self {
            Defect::DeviceAcknowledgesEarly => Box::new(Late::new(memory.clone())),
            Defect::DeviceForgets => Box::new(Memory::default()),
            _ => Box::new(memory.clone()),
        }
    }
}

/// Commits what it was given before the commit before this one.
struct Late {
    inner: Memory,
    held: Arc<Mutex<Vec<Batch>>>,
    through: u64,
    dirty: bool,
}

impl Late {
    fn new(inner: Memory) -> Late {
        Late { inner, held: Arc::default(), through: 0, dirty: false }
    }
}

impl Store for Late {
    fn submit(&mut self, batch: Batch) {
        self.dirty = true;
        self.through = batch.ticket;
        self.held.lock().unwrap().push(batch);
    }

    fn commit(&mut self) -> Result<u64, Fault> {
        self.inner.commit()?;
        self.held.lock().unwrap().drain(..).for_each(|batch| self.inner.submit(batch));
        self.dirty = false;
        Ok(self.through)
    }

    fn is_dirty(&self) -> bool {
        self.dirty
    }

    fn ask(&mut self, fetch: Fetch) {
        self.inner.ask(fetch);
    }

    fn answer(&mut self) -> Option<Fetched> {
        self.inner.answer()
    }

    fn load(&self, table: Table, row: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Fault> {
        self.inner.load(table, row)
    }
}

/// Has lost a table.
struct Without(Memory, &'static str);

impl Store for Without {
    fn submit(&mut self, batch: Batch) {
        self.0.submit(batch);
    }

    fn commit(&mut self) -> Result<u64, Fault> {
        self.0.commit()
    }

    fn is_dirty(&self) -> bool {
        self.0.is_dirty()
    }

    fn ask(&mut self, fetch: Fetch) {
        self.0.ask(fetch);
    }

    fn answer(&mut self) -> Option<Fetched> {
        self.0.answer()
    }

    fn load(&self, table: Table, row: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Fault> {
        match table.name() == self.1 {
            true => Ok(()),
            false => self.0.load(table, row),
        }
    }
}

#[test]
fn every_planted_defect_is_caught() {
    for defect in [
        Defect::OfficeAcknowledgesEarly,
        Defect::DeviceAcknowledgesEarly,
        Defect::OfficeForgets,
        Defect::DeviceForgets,
    ] {
        caught(&format!("{defect:?}"), 1000, &Offices { defect: Some(defect), roles: Roles::Whole });
    }
}

#[test]
fn every_planted_defect_of_brokers_is_caught() {
    for defect in [
        Defect::BrokerLosesWhatIsSaid,
        Defect::HubKeepsADeadEpoch,
        Defect::BrokerTellsNobodyIsThere,
        Defect::OfficeForgets,
    ] {
        caught(&format!("apart, {defect:?}"), 1000, &Offices { defect: Some(defect), roles: Roles::Apart });
    }
}

#[test]
fn every_planted_defect_of_a_balancer_and_its_brokers_is_caught() {
    for defect in [
        Defect::BalancerGivesTheSilent,
        Defect::BrokerHidesThatItDrains,
        Defect::BrokerLosesWhatIsSaid,
        Defect::HubKeepsADeadEpoch,
        Defect::BrokerTellsNobodyIsThere,
        Defect::OfficeForgets,
        Defect::DeviceAcknowledgesEarly,
    ] {
        let offices = Offices { defect: Some(defect), roles: Roles::Balanced };
        caught(&format!("balanced, {defect:?}"), 1000, &offices);
    }
}

#[test]
fn every_planted_defect_of_rooms_is_caught() {
    for defect in [
        Defect::OfficeAcknowledgesEarly,
        Defect::OfficeForgets,
        Defect::OfficeForgetsIds,
        Defect::OfficeForgetsRooms,
        Defect::DeviceForgets,
    ] {
        caught(&format!("rooms, {defect:?}"), 1000, &Offices { defect: Some(defect), roles: Roles::Rooms });
    }
}
