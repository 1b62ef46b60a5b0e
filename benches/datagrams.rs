//! What a datagram of a heartbeat's length costs the driver and the kernel: taken from a socket, handed to a node, answered.
//! Two loops on loopback, each in a thread; what the answering one used is printed, with one datagram in a system call
//! and with many. Beside it the same on bare sockets, without a loop.
//!
//! ```text
//! cargo bench --bench datagrams
//! ```

use std::{
    collections::VecDeque,
    fs,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use hailpost::{
    io::{Conn, Input, Output, Service},
    net::{Listen, ListenTransport, Loop},
    node::{Event, Node},
    time::Time,
};

const HEARTBEAT: [u8; 16] = [7; 16];
/// Questions under way: as many as a step of a busy server may find.
const WINDOW: usize = 1024;
const LENGTH: Duration = Duration::from_secs(3);

fn main() {
    println!(
        "16 octets asked and answered over loopback, {WINDOW} under way; CPU of the thread that answers"
    );
    bare();
    for batch in [1, 8, 64] {
        looped(batch);
    }
}

/// Answers, or asks and asks again.
struct Talker {
    conn: Option<Conn>,
    outputs: VecDeque<Output<Event>>,
    handled: u64,
}

impl Talker {
    fn new() -> Box<Talker> {
        Box::new(Talker { conn: None, outputs: VecDeque::new(), handled: 0 })
    }
}

impl Node for Talker {
    fn handle(&mut self, _: Time, input: Input<'_>) {
        match input {
            Input::Accepted { conn, .. } => self.conn = Some(conn),
            Input::Received { conn, from, octets } => {
                self.handled += 1;
                self.outputs.push_back(Output::Send { conn, to: from, octets: octets.to_vec() });
            }
            _ => {}
        }
    }

    fn poll_output(&mut self, _: Time) -> Option<Output<Event>> {
        self.outputs.pop_front()
    }

    fn flush(&mut self, _: Time) -> bool {
        false
    }

    fn deadline(&self) -> Option<Time> {
        None
    }
}

fn talker(batch: usize) -> (Loop, hailpost::net::NodeId, SocketAddr) {
    let mut net = Loop::new().expect("a loop");
    net.limits_mut().batch = batch;
    let id = net.add(Talker::new(), Vec::new());
    let listen = Listen {
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        transport: ListenTransport::Datagram,
        networks: None,
        services: vec![Service::Link],
    };
    let address = net.listen(id, listen).expect("a port is free");
    (net, id, address)
}

/// Turns a loop until told to stop.
fn turn(net: &mut Loop, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        net.wait(Some(Duration::from_millis(50))).expect("the loop turns");
    }
}

fn looped(batch: usize) {
    run(&format!("loop, {batch} in a call"), move |told, done| {
        let (mut net, id, address) = talker(batch);
        told.send(address).expect("somebody waits for it");
        turn(&mut net, done);
        assert_eq!(net.counters().datagrams_unsent + net.counters().datagrams_overflowed, 0);
        net.get::<Talker>(id).expect("it is there").handled
    });
}

fn bare() {
    run("bare sockets, one in a call", |told, done| {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a port is free");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("it has timeouts");
        told.send(socket.local_addr().expect("it is bound")).expect("somebody waits for it");
        let (mut handled, mut octets) = (0, [0; 2048]);
        while !done.load(Ordering::Relaxed) {
            if let Ok((length, from)) = socket.recv_from(&mut octets) {
                socket.send_to(&octets[..length], from).expect("loopback takes it");
                handled += 1;
            }
        }
        handled
    });
}

/// Runs who answers in a thread, asks it for a while, and prints what it used.
fn run(name: &str, answer: impl FnOnce(&mpsc::Sender<SocketAddr>, &AtomicBool) -> u64 + Send + 'static) {
    let done = Arc::new(AtomicBool::new(false));
    let (told, address) = mpsc::channel();
    let answering = thread::spawn({
        let done = done.clone();
        move || {
            let handled = answer(&told, &done);
            (handled, cpu_times())
        }
    });
    let server = address.recv().expect("the other thread lives");
    let (mut net, id, _) = talker(64);
    net.step().expect("the loop turns");
    net.with(id, |node: &mut Talker, _| {
        let conn = node.conn.expect("it listens");
        let ask = || Output::Send { conn, to: Some(server), octets: HEARTBEAT.to_vec() };
        node.outputs.extend(std::iter::repeat_with(ask).take(WINDOW));
    })
    .expect("it is there");
    let begun = Instant::now();
    while begun.elapsed() < LENGTH {
        net.wait(Some(Duration::from_millis(50))).expect("the loop turns");
    }
    let took = begun.elapsed();
    done.store(true, Ordering::Relaxed);
    let (handled, (user, system)) = answering.join().expect("it did not panic");
    let each = |part: Duration| part.as_nanos() as f64 / handled as f64;
    println!(
        "  {name:<28} {:>8.0}/s   {:>5.0} ns user  {:>5.0} ns system   {:>8.0}/s on a whole core",
        handled as f64 / took.as_secs_f64(),
        each(user),
        each(system),
        1e9 / each(user + system),
    );
}

/// Of this thread: user, system.
fn cpu_times() -> (Duration, Duration) {
    let stat = fs::read_to_string("/proc/thread-self/stat").expect("Linux tells");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // Fields 14 and 15 of proc(5), in hundredths of a second.
    let time = |at: usize| Duration::from_millis(fields[at].parse::<u64>().expect("a number") * 10);
    (time(11), time(12))
}
