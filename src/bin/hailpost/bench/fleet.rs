//! Many devices in one process: the link's real end, many times over, behind a few sockets.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    time::Duration,
};

use hailpost::{
    io::{Conn, Input, Output},
    link::{Client, ClientConfig, ClientEvent, ClientOutput},
    node::{Event, Node},
    rng::Entropy,
    time::Time,
    wire::link::{BEAT, Datagram},
};
use std::net::SocketAddr;

/// Devices that log in at the same time.
const AT_ONCE: usize = 512;
/// Of these, those that begin in one tick.
const A_TICK: usize = 8;
/// Who is this late has enough to do without more logins: heartbeats that are answered too late are asked again, and sessions
/// lost.
const LATE: Duration = Duration::from_millis(20);
/// How often the fleet looks at its clocks: heartbeats leave in groups of those that are due.
const TICK: Duration = Duration::from_millis(1);

/// What a device logs in with.
pub type Credential = ([u8; 16], [u8; 32]);

/// What the fleet saw, from the beginning.
#[derive(Clone, Copy, Default, Debug)]
pub struct Seen {
    /// Devices that have a session.
    pub up: usize,
    /// Sessions that were lost.
    pub down: u64,
    /// Heartbeats sent.
    pub asked: u64,
    /// Of these, those that were sent before the one before them was answered: that one, or its answer, is lost or late.
    pub lost: u64,
}

/// Devices, and their sockets.
pub struct Fleet {
    server: SocketAddr,
    sockets: Vec<Conn>,
    ships: Vec<Ship>,
    /// Devices that have not logged in yet are those from this one on.
    next: usize,
    asking: usize,
    /// By connection id.
    by_id: HashMap<u32, u32>,
    /// By the echo of what they asked.
    by_echo: HashMap<[u8; 8], u32>,
    /// When a device wants to be looked at. What a device wants may have changed since.
    timers: BinaryHeap<Reverse<(Time, u32)>>,
    tick: Time,
    outputs: VecDeque<Output<Event>>,
    seen: Seen,
}

struct Ship {
    client: Client,
    id: u32,
    echo: [u8; 8],
    /// A heartbeat waits for its answer.
    asks: bool,
    /// As it stands in the timers.
    due: Time,
}

impl Fleet {
    /// Devices of the office at this address, which has this key.
    pub fn new(
        server: SocketAddr,
        server_key: [u8; 32],
        interval: u16,
        credentials: Vec<Credential>,
        rng: impl Entropy + Clone + Send + 'static,
    ) -> Fleet {
        let ship = |(session_id, secret)| {
            let config = ClientConfig { interval, ..ClientConfig::new(server_key, session_id, secret) };
            let client = Client::new(config, rng.clone());
            Ship { client, id: 0, echo: [0; 8], asks: false, due: Time::MAX }
        };
        Fleet {
            server,
            sockets: Vec::new(),
            ships: credentials.into_iter().map(ship).collect(),
            next: 0,
            asking: 0,
            by_id: HashMap::new(),
            by_echo: HashMap::new(),
            timers: BinaryHeap::new(),
            tick: Time::ZERO,
            outputs: VecDeque::new(),
            seen: Seen::default(),
        }
    }

    /// What it saw.
    pub fn seen(&self) -> Seen {
        self.seen
    }

    fn log_in(&mut self, now: Time) {
        for at in self.next..self.ships.len().min(self.next + A_TICK) {
            if self.asking == AT_ONCE {
                return;
            }
            self.next = at + 1;
            self.asking += 1;
            self.ships[at].client.open(now);
            self.settle(now, at);
        }
    }

    fn received(&mut self, now: Time, octets: &[u8]) {
        let Ok(datagram) = Datagram::decode(octets) else { return };
        let at = match datagram {
            Datagram::Cookie { echo, .. }
            | Datagram::Accept { echo, .. }
            | Datagram::Refuse { echo, .. }
            | Datagram::Resumed { echo, .. } => self.by_echo.get(&echo),
            Datagram::Beat { id, .. } | Datagram::Data { id, .. } => self.by_id.get(&id),
            Datagram::Hello(_) | Datagram::Resume(_) => None,
        };
        let Some(at) = at.map(|at| *at as usize) else { return };
        if octets.len() == BEAT {
            self.ships[at].asks = false;
        }
        self.ships[at].client.handle(now, octets);
        self.settle(now, at);
    }

    /// Does what a device wants.
    fn settle(&mut self, now: Time, at: usize) {
        let number = at as u32;
        let conn = self.sockets[at % self.sockets.len()];
        while let Some(output) = self.ships[at].client.poll_output(now) {
            let ship = &mut self.ships[at];
            match output {
                ClientOutput::Send(octets) => {
                    match Datagram::decode(&octets) {
                        Ok(Datagram::Hello(hello)) => self.by_echo_of(at, hello.echo()),
                        Ok(Datagram::Resume(resume)) => self.by_echo_of(at, resume.echo()),
                        Ok(Datagram::Beat { id, .. } | Datagram::Data { id, .. }) if id != ship.id => {
                            self.by_id.remove(&ship.id);
                            self.by_id.insert(id, number);
                            ship.id = id;
                        }
                        _ => {}
                    }
                    if octets.len() == BEAT {
                        self.seen.asked += 1;
                        self.seen.lost += u64::from(std::mem::replace(&mut self.ships[at].asks, true));
                    }
                    self.outputs.push_back(Output::Send { conn, to: Some(self.server), octets });
                }
                ClientOutput::Event(ClientEvent::Up { .. }) => {
                    self.by_echo.remove(&ship.echo);
                    self.seen.up += 1;
                    self.asking = self.asking.saturating_sub(1);
                }
                ClientOutput::Event(ClientEvent::Down(_)) => {
                    self.seen.up -= 1;
                    self.seen.down += 1;
                }
                ClientOutput::SendBeside(_) | ClientOutput::Event(_) => {}
            }
        }
        let due = self.ships[at].client.deadline().unwrap_or(Time::MAX);
        if due < self.ships[at].due {
            self.timers.push(Reverse((due, number)));
            self.ships[at].due = due;
        }
    }

    fn by_echo_of(&mut self, at: usize, echo: [u8; 8]) {
        self.by_echo.remove(&self.ships[at].echo);
        self.by_echo.insert(echo, at as u32);
        self.ships[at].echo = echo;
    }
}

impl Node for Fleet {
    fn handle(&mut self, now: Time, input: Input<'_>) {
        match input {
            Input::Accepted { conn, .. } => self.sockets.push(conn),
            Input::Received { octets, .. } => self.received(now, octets),
            Input::Deadline => {
                let is_late = now > self.tick + LATE;
                self.tick = now + TICK;
                while let Some(&Reverse((due, at))) = self.timers.peek()
                    && due <= now
                {
                    self.timers.pop();
                    let ship = &mut self.ships[at as usize];
                    if due == ship.due {
                        ship.due = Time::MAX;
                        ship.client.deadline_passed(now);
                        self.settle(now, at as usize);
                    }
                }
                if !is_late {
                    self.log_in(now);
                }
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
        Some(self.tick)
    }
}
