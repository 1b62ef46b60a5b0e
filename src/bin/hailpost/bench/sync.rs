//! A back end brings many gateways in step, all in this thread: no sockets, only what the protocol's two ends cost.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use hailpost::{
    gateway::{BackendConfig, Enrolment, Gateway, GatewayConfig, GatewayEvent, Open},
    io::{Conn, Input, KeyId, Output, Peer, Service, Transport},
    node::{BackendNode, EventKind, Node},
    rng::Seeded,
    store::Memory,
    time::Time,
    wire::{AppId, gateway::Record},
};

use super::{Report, cpu};
use crate::{failure::Failure, terminal::Progress};

/// Results that a gateway keeps here: it takes in all of them, and there is memory for a thousand gateways.
const KEPT: usize = 64;

pub fn run(results: u32, gateways: u32, report: &mut Report) -> Result<(), Failure> {
    report.about("sync");
    let mut hall = Hall::new(results)?;
    hall.enter(key(0), GatewayConfig { max_results: KEPT, max_reports: 256, ..GatewayConfig::default() });
    hall.run();
    let mut progress = Progress::new("reports", Some(results.into()));
    let mut number = 0;
    while number < results {
        let until = results.min(number + 128);
        for one in number..until {
            let now = hall.now;
            hall.visitors[0].gateway.report(now, record(one))?;
        }
        let now = hall.now;
        hall.visitors[0].drain(now, &mut 0, &mut 0);
        number = until;
        hall.run();
        progress.at(number.into());
    }
    drop(progress);
    let held = hall.backend.backend().results("bench").count();
    if held != results as usize {
        return Err(Failure::new(format!("the back end holds {held} results, not {results}")));
    }
    for one in 1..=gateways {
        hall.enter(key(one), GatewayConfig { max_results: KEPT, ..GatewayConfig::default() });
    }
    let begun = Instant::now();
    (hall.backend_time, hall.gateway_time, hall.records) = (Duration::ZERO, Duration::ZERO, 0);
    hall.progress = Some(Progress::new("sync", Some(u64::from(results) * u64::from(gateways))));
    hall.run();
    hall.progress = None;
    let (took, records) = (begun.elapsed(), hall.records as f64);
    if hall.records != u64::from(results) * u64::from(gateways) || hall.synced != u64::from(gateways) + 1 {
        return Err(Failure::new(format!(
            "{} records came, and {} gateways are in step",
            hall.records, hall.synced
        )));
    }
    report.row("results", f64::from(results), "");
    report.row("gateways", f64::from(gateways), "");
    report.row("at the back end, a record", hall.backend_time.as_nanos() as f64 / records, "ns of processor");
    report.row("at a gateway, a record", hall.gateway_time.as_nanos() as f64 / records, "ns of processor");
    report.row("back end, all gateways in step", hall.backend_time.as_secs_f64(), "s of processor");
    report.row("both ends in one thread", took.as_secs_f64(), "s");
    Ok(())
}

/// Both ends, and what lies between them.
struct Hall {
    now: Time,
    backend: BackendNode,
    visitors: Vec<Visitor>,
    backend_time: Duration,
    gateway_time: Duration,
    records: u64,
    synced: u64,
    progress: Option<Progress>,
}

struct Visitor {
    gateway: Gateway,
    conn: Conn,
    peer: Peer,
    /// Octets that wait for the back end.
    out: Vec<Vec<u8>>,
}

impl Hall {
    fn new(results: u32) -> Result<Hall, Failure> {
        let results = results as usize + 1;
        let config = BackendConfig {
            agreement: 1,
            max_results: results,
            max_results_per_gateway: results,
            ..BackendConfig::default()
        };
        let open = Open { now: Time::ZERO, unix: 1_700_000_000, rng: Seeded::new(1) };
        Ok(Hall {
            now: Time::ZERO,
            backend: BackendNode::open(config, open, Box::new(Memory::default()), None)?,
            visitors: Vec::new(),
            backend_time: Duration::ZERO,
            gateway_time: Duration::ZERO,
            records: 0,
            synced: 0,
            progress: None,
        })
    }

    /// A gateway is enrolled and connects.
    fn enter(&mut self, key: KeyId, config: GatewayConfig) {
        let number = self.visitors.len();
        let enrolment =
            Enrolment { name: format!("g{number}"), group: "bench".to_owned(), trusted: true, barred: false };
        // It was checked when it was written down here.
        let _ = self.backend.backend_mut().enrol(key, enrolment);
        self.settle();
        let remote = SocketAddr::from(([10, 0, (number >> 8) as u8, number as u8], 40_000));
        let local = SocketAddr::from(([10, 1, 0, 1], 7700));
        let conn = Conn(number as u32);
        let peer =
            Peer { transport: Transport::Stream, local, remote, key: Some(key), service: Service::Gateway };
        self.backend.handle(self.now, Input::Accepted { conn, peer });
        let mut gateway = Gateway::new(config, self.now, Seeded::new(number as u64));
        gateway.handle(self.now, Input::Deadline);
        let seen = Peer { local: remote, remote: local, ..peer };
        let mut visitor = Visitor { gateway, conn, peer: seen, out: Vec::new() };
        visitor.drain(self.now, &mut 0, &mut 0);
        self.visitors.push(visitor);
    }

    /// Passes octets to and fro until nobody has anything more to say.
    fn run(&mut self) {
        loop {
            let mut quiet = true;
            for at in 0..self.visitors.len() {
                let (conn, out) = (self.visitors[at].conn, std::mem::take(&mut self.visitors[at].out));
                quiet &= out.is_empty();
                let begun = cpu();
                for octets in out {
                    self.backend.handle(self.now, Input::Received { conn, from: None, octets: &octets });
                }
                self.backend_time += cpu() - begun;
            }
            quiet &= !self.settle();
            if let Some(progress) = &mut self.progress {
                progress.at(self.records);
            }
            if quiet {
                return;
            }
        }
    }

    /// Does what the back end wants. Whether there was anything.
    fn settle(&mut self) -> bool {
        let mut busy = false;
        loop {
            let begun = cpu();
            let outputs: Vec<_> =
                std::iter::from_fn(|| self.backend.poll_output(self.now)).take(256).collect();
            let flushed = outputs.is_empty() && self.backend.flush(self.now);
            self.backend_time += cpu() - begun;
            if outputs.is_empty() && !flushed {
                return busy;
            }
            busy = true;
            let begun = cpu();
            for output in outputs {
                match output {
                    Output::Send { conn, octets, .. } => {
                        if let Some(visitor) = self.visitors.get_mut(conn.0 as usize) {
                            visitor.receive(self.now, &octets, &mut self.records, &mut self.synced);
                        }
                    }
                    Output::Event(event) => debug_assert_ne!(event.kind(), EventKind::GatewayGone),
                    _ => {}
                }
            }
            self.gateway_time += cpu() - begun;
        }
    }
}

impl Visitor {
    fn receive(&mut self, now: Time, octets: &[u8], records: &mut u64, synced: &mut u64) {
        let conn = Conn(Conn::OURS);
        self.gateway.handle(now, Input::Received { conn, from: None, octets });
        self.drain(now, records, synced);
    }

    fn drain(&mut self, now: Time, records: &mut u64, synced: &mut u64) {
        while let Some(output) = self.gateway.poll_output() {
            match output {
                Output::Connect { conn, .. } => {
                    self.gateway.handle(now, Input::Connected { conn, peer: self.peer });
                }
                Output::Send { octets, .. } => self.out.push(octets),
                Output::Event(GatewayEvent::Results(told)) => *records += told.len() as u64,
                Output::Event(GatewayEvent::Synced) => *synced += 1,
                _ => {}
            }
        }
    }
}

fn key(number: u32) -> KeyId {
    let mut key = [7; 32];
    key[..4].copy_from_slice(&number.to_be_bytes());
    KeyId(key)
}

fn record(number: u32) -> Record {
    let remote = SocketAddr::from(([203, (number >> 16) as u8, (number >> 8) as u8, number as u8], 443));
    Record {
        app: AppId(number % 50 + 1),
        local: SocketAddr::from(([192, 168, 1, 7], 40_000)),
        remote,
        protocol: 1,
        reserved1: 0,
        reserved2: 0,
        reserved3: 0,
    }
}
