//! A back end whose disk is full: nothing is acknowledged, nothing is lost, everyone is told, and it goes on by itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hailpost::{
    gateway::{BackendConfig, Open},
    io::{Conn, Input, Output, Peer, Service, Transport},
    node::{BackendNode, EventKind, Node},
    rng::Seeded,
    status::{Fault, Status},
    store::{Batch, Fetch, Fetched, Memory, Store, Table},
    time::Time,
    wire::{
        AppId,
        gateway::{Body, Encoder, Family, Record, decode},
    },
};

/// Rows in memory, on a disk that can be full.
struct Disk {
    rows: Memory,
    full: Arc<AtomicBool>,
}

impl Store for Disk {
    fn submit(&mut self, batch: Batch) {
        self.rows.submit(batch);
    }

    fn commit(&mut self) -> Result<u64, Fault> {
        if self.full.load(Ordering::Relaxed) {
            return Err(Fault::new(Status::Store, "no space left on the device"));
        }
        self.rows.commit()
    }

    fn is_dirty(&self) -> bool {
        self.rows.is_dirty()
    }

    fn ask(&mut self, fetch: Fetch) {
        self.rows.ask(fetch);
    }

    fn answer(&mut self) -> Option<Fetched> {
        self.rows.answer()
    }

    fn load(&self, table: Table, row: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Fault> {
        self.rows.load(table, row)
    }
}

struct Office {
    node: BackendNode,
    now: Time,
    answers: Vec<u16>,
    events: Vec<EventKind>,
}

impl Office {
    /// One turn: an input, then all that the node wants.
    fn turn(&mut self, after: Duration, input: Input<'_>) {
        self.now += after;
        self.node.handle(self.now, input);
        self.drain();
        if self.node.flush(self.now) {
            self.drain();
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.node.poll_output(self.now) {
            match output {
                Output::Send { octets, .. } => {
                    self.answers.push(decode(Family::V4, &octets).unwrap().body.id());
                }
                Output::Event(event) => self.events.push(event.kind()),
                _ => {}
            }
        }
    }
}

#[test]
fn a_full_disk_holds_acknowledgements_back_until_it_has_room() {
    let full = Arc::new(AtomicBool::new(false));
    let rows = Memory::default();
    let config = BackendConfig {
        family: Family::V4,
        open_group: Some("home".into()),
        heartbeat: Duration::from_secs(60),
        ..BackendConfig::default()
    };
    let open = || Open { now: Time::ZERO, unix: 1_700_000_000, rng: Seeded::new(1) };
    let disk = Disk { rows: rows.clone(), full: full.clone() };
    let node = BackendNode::open(config.clone(), open(), Box::new(disk), None).unwrap();
    let mut office = Office { node, now: Time::ZERO, answers: Vec::new(), events: Vec::new() };
    let address = "192.0.2.1:7700".parse().unwrap();
    let encoder = Encoder { family: Family::V4, source: address, destination: address };
    let (conn, second) = (Conn(1), Duration::from_secs(1));
    let peer = Peer {
        transport: Transport::Stream,
        local: address,
        remote: address,
        key: None,
        service: Service::Gateway,
    };
    office.turn(second, Input::Accepted { conn, peer });
    office.turn(second, Input::Received { conn, from: None, octets: &encoder.message(0, &Body::Register) });
    office.answers.clear();

    full.store(true, Ordering::Relaxed);
    let record = Record {
        app: AppId(7),
        local: "192.168.1.2:40000".parse().unwrap(),
        remote: "203.0.113.9:443".parse().unwrap(),
        protocol: 1,
        reserved1: 0,
        reserved2: 0,
        reserved3: 0,
    };
    let report = encoder.message(0, &Body::Result(record));
    office.turn(second, Input::Received { conn, from: None, octets: &report });
    for _ in 0..5 {
        office.turn(second, Input::Deadline);
    }
    assert!(!office.answers.contains(&0x8005), "acknowledged what is not durable");
    assert_eq!(office.events.iter().filter(|kind| **kind == EventKind::StoreFailing).count(), 1);
    // Others are served meanwhile.
    office.turn(second, Input::Received { conn, from: None, octets: &encoder.message(0, &Body::Heartbeat) });
    assert!(office.answers.contains(&0x8002));

    full.store(false, Ordering::Relaxed);
    assert!(office.node.deadline().is_some_and(|due| due <= office.now + second), "it tries again by itself");
    office.turn(second, Input::Deadline);
    assert!(office.answers.contains(&0x8005));
    assert!(office.events.contains(&EventKind::StoreRecovered));
    let mut votes = 0;
    rows.load(Table::rows("vote"), &mut |_, _| votes += 1).unwrap();
    assert_eq!(votes, 1);
}
