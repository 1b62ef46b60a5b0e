//! A disk that stalls holds up what has to be durable, and nothing else.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use hailpost::{
    io::Service,
    net::{Listen, ListenTransport, Loop, ServerSecurity},
    node::{EventKind, OfficeConfig, OfficeNode},
    post::hub::Rights,
    rng::Seeded,
    status::Fault,
    store::{Batch, Deferred, Fetch, Fetched, Memory, Store, StoreThread, Table},
};

/// A disk that is as slow as the test wants it.
struct Stalling {
    inner: Memory,
    gate: Arc<Mutex<()>>,
}

impl Store for Stalling {
    fn submit(&mut self, batch: Batch) {
        self.inner.submit(batch);
    }

    fn commit(&mut self) -> Result<u64, Fault> {
        let _open = self.gate.lock().unwrap();
        self.inner.commit()
    }

    fn is_dirty(&self) -> bool {
        self.inner.is_dirty()
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

/// Turns the loop until so many answers came; all that came.
fn hear(net: &mut Loop, typed: &mut TcpStream, said: &mut String, answers: usize) {
    let begun = Instant::now();
    while said.matches("HP/1 ").count() < answers {
        assert!(begun.elapsed() < Duration::from_secs(60), "only this came: {said}");
        net.wait(Some(Duration::from_millis(10))).unwrap();
        let mut piece = [0; 512];
        let count = typed.read(&mut piece).unwrap_or_default();
        said.push_str(std::str::from_utf8(&piece[..count]).unwrap());
    }
}

#[test]
fn who_needs_nothing_durable_does_not_wait_for_a_disk_that_stalls() {
    let mut net = Loop::new().unwrap();
    let gate = Arc::new(Mutex::new(()));
    let engine = Stalling { inner: Memory::default(), gate: gate.clone() };
    let waker = net.waker();
    let thread = StoreThread::start(engine, move || waker.wake().unwrap()).unwrap();
    let store = Box::new(Deferred::new(thread));
    let clock = (net.now(), 1_700_000_000);
    let office = OfficeNode::open(OfficeConfig::default(), clock, Seeded::new(1), store).unwrap();
    let office = net.add(Box::new(office), Vec::new());
    let listen = Listen {
        address: "127.0.0.1:0".parse().unwrap(),
        transport: ListenTransport::Stream(ServerSecurity::Plain),
        networks: None,
        services: vec![Service::App],
    };
    let address = net.listen(office, listen).unwrap();
    let rights = Rights { send: true, ..Rights::default() };
    let secret = net
        .with(office, |office: &mut OfficeNode, _| {
            office.add_user("anna").unwrap();
            office.add_device("anna", [1; 16], 0).unwrap();
            office.add_app("news", rights).map(|(secret, _)| secret)
        })
        .unwrap()
        .unwrap();
    let mut durable = 0;
    while durable < 3 {
        net.wait(Some(Duration::from_millis(100))).unwrap();
        durable += std::iter::from_fn(|| net.next_event())
            .filter(|(_, event)| event.kind() == EventKind::Durable)
            .count();
    }

    let mut typed = TcpStream::connect(address).unwrap();
    typed.set_nonblocking(true).unwrap();
    let mut said = String::new();
    let stall = gate.lock().unwrap();
    let first = format!("AUTH news {secret}\r\n");
    typed.write_all(first.as_bytes()).unwrap();
    hear(&mut net, &mut typed, &mut said, 1);
    typed
        .write_all(b"SEND HP/1\r\nId 1\r\nTo user:anna\r\nOffline store\r\nContent-Length 2\r\n\r\nhi")
        .unwrap();
    typed.write_all(b"PING HP/1\r\n\r\nPING HP/1\r\n\r\n").unwrap();
    hear(&mut net, &mut typed, &mut said, 3);
    assert!(!said.contains("Id 1"), "nothing is acknowledged that is not durable: {said}");
    drop(stall);
    hear(&mut net, &mut typed, &mut said, 4);
    assert!(said.contains("Id 1\r\nState stored"), "{said}");
}
