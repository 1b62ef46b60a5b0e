//! Outbox and inbox on a store in memory.

use super::*;
use crate::{rng::Seeded, store::Memory, wire::app::Address};

const UNIX: u64 = 1_700_000_000;

fn open(store: &Memory) -> Device {
    let open = Open { now: Time::ZERO, unix: UNIX, rng: Box::new(Seeded::new(1)) };
    Device::open(DeviceConfig::default(), open, store).unwrap()
}

fn settle(device: &mut Device, store: &mut Memory, now: Time) -> Vec<DeviceEvent> {
    let mut events = Vec::new();
    loop {
        match device.poll_output() {
            Some(DeviceOutput::Store(batch)) => store.submit(batch),
            Some(DeviceOutput::Event(event)) => {
                if let DeviceEvent::Accepted { number, .. }
                | DeviceEvent::Refused { number, .. }
                | DeviceEvent::Expired { number } = event
                {
                    device.told(number);
                }
                events.push(event);
            }
            Some(DeviceOutput::Send(_)) => {}
            None if store.is_dirty() => {
                let through = store.commit().unwrap();
                device.stored(now, through);
            }
            None => return events,
        }
    }
}

fn delivery(sequence: u64) -> Frame {
    let (from, content_type) = (Address::App("news".into()), String::new());
    let sequence = Sequence(sequence);
    Frame::Deliver(Delivery { sequence, redelivered: false, from, sent: 0, content_type, body: vec![] })
}

#[test]
fn what_is_shown_and_not_confirmed_has_a_bound() {
    let mut store = Memory::default();
    let mut device = open(&store);
    device.up(Time::ZERO);
    (1..=MAX_OPEN as u64 + 1).for_each(|sequence| device.frame(Time::ZERO, delivery(sequence)));
    assert_eq!(settle(&mut device, &mut store, Time::ZERO).len(), MAX_OPEN);
    assert_eq!(device.counters().too_many, 1);
    device.confirm(Sequence(1)).unwrap();
    device.frame(Time::ZERO, delivery(MAX_OPEN as u64 + 1));
    assert_eq!(settle(&mut device, &mut store, Time::ZERO).len(), 2, "a confirmation, and the one left out");
}

#[test]
fn each_message_expires_in_its_time_over_a_restart_too() {
    let mut store = Memory::default();
    let mut device = open(&store);
    let mut put = |ttl| {
        let to = To::Named(vec![Address::User("anna".into())]);
        device.put(Time::ZERO, to, true, ttl, "", vec![]).unwrap()
    };
    let numbers = [put(50), put(10), put(30)];
    settle(&mut device, &mut store, Time::ZERO);
    let mut device = open(&store.clone());
    for (seconds, number) in [(10, numbers[1]), (30, numbers[2]), (50, numbers[0])] {
        let due = Time::ZERO + Duration::from_secs(seconds);
        assert_eq!(device.deadline(Time::ZERO), Some(due));
        device.handle_deadline(due);
        assert_eq!(settle(&mut device, &mut store, due), [DeviceEvent::Expired { number }]);
    }
    assert_eq!((device.deadline(Time::ZERO), device.waiting()), (None, 0));
}

/// A clock that begins in 1970 and is put right, or goes wrong: what is left of a message's time stays, after a restart too.
#[test]
fn a_clock_that_is_set_makes_no_message_late() {
    for unix in [UNIX + 400 * 86_400, UNIX - 400 * 86_400] {
        let mut store = Memory::default();
        let mut device = open(&store);
        let put = |device: &mut Device, ttl| device.put(Time::ZERO, anna(), true, ttl, "", vec![]).unwrap();
        let numbers = [put(&mut device, 10), put(&mut device, 100)];
        settle(&mut device, &mut store, Time::ZERO);
        let five = Time::ZERO + Duration::from_secs(5);
        device.set_unix(five, unix);
        settle(&mut device, &mut store, five);
        let ten = Time::ZERO + Duration::from_secs(10);
        assert_eq!(device.deadline(five), Some(ten));
        device.handle_deadline(ten);
        assert_eq!(settle(&mut device, &mut store, ten), [DeviceEvent::Expired { number: numbers[0] }]);
        let store = store.clone();
        let again = Open { now: Time::ZERO, unix: unix + 5, rng: Box::new(Seeded::new(1)) };
        let device = Device::open(DeviceConfig::default(), again, &store).unwrap();
        assert_eq!(
            (device.deadline(Time::ZERO), device.waiting()),
            (Some(Time::ZERO + Duration::from_secs(90)), 1)
        );
    }
}

fn anna() -> To {
    To::Named(vec![Address::User("anna".into())])
}

#[test]
fn what_the_office_could_not_read_is_not_taken() {
    let mut device = open(&Memory::default());
    device.up(Time::ZERO);
    let mut put = |content_type: &str| device.put(Time::ZERO, anna(), true, 60, content_type, Vec::new());
    let long = "x".repeat(129);
    for wrong in ["text/plain\r\nId 1", "caf\u{e9}", long.as_str()] {
        assert_eq!(put(wrong).unwrap_err().status, Status::Invalid, "{wrong:?}");
    }
    assert!(put(&long[1..]).is_ok());
    for wrong in ["", "app:news", "a,b", long.as_str()] {
        assert_eq!(device.subscribe(wrong, true).unwrap_err().status, Status::Invalid, "{wrong:?}");
    }
    assert!(device.subscribe("news", true).is_ok());
    for wrong in [vec![], vec!["user:anna".to_owned()], vec!["anna".to_owned(); MAX_RECEIVERS + 1]] {
        assert_eq!(device.query(wrong).unwrap_err().status, Status::Invalid);
    }
    assert!(device.query(vec!["anna".to_owned(); MAX_RECEIVERS]).is_ok());
}

#[test]
fn a_message_is_stored_when_the_disk_has_it_and_not_before() {
    let mut store = Memory::default();
    let mut device = open(&store);
    let number = device.put(Time::ZERO, anna(), true, 60, "text/plain", Vec::new()).unwrap();
    assert!(!device.is_stored(number));
    settle(&mut device, &mut store, Time::ZERO);
    assert!(device.is_stored(number));
}
