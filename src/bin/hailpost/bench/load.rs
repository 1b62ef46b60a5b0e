//! Many gateways in one process: the protocol's real end, many times over, on sockets from many loopback addresses.

use std::{
    collections::BTreeSet,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream as StdStream},
    time::{Duration, Instant},
};

use hailpost::{
    gateway::{Gateway, GatewayConfig, GatewayEvent, GatewayState},
    io::{Conn, Input, Output, Peer, Service, Transport},
    net::url::Url,
    rng::Seeded,
    time::Time,
};
use mio::{Events, Interest, Poll, Token, net::TcpStream};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
use serde_json::json;

use crate::{
    failure::{Done, Failure},
    terminal::Out,
};

/// Gateways on one address: fewer than a back end allows.
const AN_ADDRESS: usize = 200;
/// New connections a millisecond, so that the listener's queue does not overflow.
const PACE: usize = 4;
const EVERY: Duration = Duration::from_millis(500);

#[derive(clap::Args)]
#[group(skip)]
pub struct Args {
    #[arg(long)]
    backend: String,
    #[arg(long)]
    count: usize,
    #[arg(long)]
    heartbeat: u64,
}

pub fn run(args: &Args, out: &mut Out) -> Done {
    let url: Url = args.backend.parse()?;
    let server = url.socket_address().ok_or_else(|| Failure::usage("an address is wanted"))?;
    let mut crowd = Crowd {
        begun: Instant::now(),
        server,
        poll: Poll::new()?,
        members: Vec::with_capacity(args.count),
        timers: BTreeSet::new(),
        active: 0,
        down: 0,
    };
    let config =
        GatewayConfig { heartbeat: Duration::from_millis(args.heartbeat), ..GatewayConfig::default() };
    let mut events = Events::with_capacity(4096);
    let mut told = Instant::now();
    loop {
        for _ in 0..PACE * crowd.since_last_join() {
            if crowd.members.len() < args.count {
                crowd.join(config.clone());
            }
        }
        crowd.turn(&mut events)?;
        if told.elapsed() > EVERY {
            told = Instant::now();
            let heartbeats: u64 =
                crowd.members.iter().map(|member| member.gateway.counters().heartbeats).sum();
            out.json(&json!({ "active": crowd.active, "heartbeats": heartbeats, "down": crowd.down }))?;
            out.flush()?;
        }
    }
}

struct Crowd {
    begun: Instant,
    server: SocketAddr,
    poll: Poll,
    members: Vec<Member>,
    timers: BTreeSet<(Time, usize)>,
    active: usize,
    down: u64,
}

struct Member {
    gateway: Gateway,
    stream: Option<TcpStream>,
    /// What the gateway calls the connection.
    conn: Conn,
    connected: bool,
    out: Vec<u8>,
    due: Option<Time>,
    is_active: bool,
}

impl Crowd {
    fn now(&self) -> Time {
        Time::ZERO + self.begun.elapsed()
    }

    /// Whether it is time for more: once a millisecond.
    fn since_last_join(&self) -> usize {
        let allowed = self.begun.elapsed().as_millis() as usize * PACE;
        usize::from(self.members.len() < allowed)
    }

    fn join(&mut self, config: GatewayConfig) {
        let at = self.members.len();
        let gateway = Gateway::new(config, self.now(), Seeded::new(at as u64));
        self.members.push(Member {
            gateway,
            stream: None,
            conn: Conn(0),
            connected: false,
            out: Vec::new(),
            due: None,
            is_active: false,
        });
        self.tell(at, Input::Deadline);
    }

    fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        let now = self.now();
        let next = self.timers.first().map(|(due, _)| due.since(now));
        let wait = next.unwrap_or(EVERY).min(Duration::from_millis(2));
        self.poll.poll(events, Some(wait))?;
        for event in events.iter() {
            let at = event.token().0;
            if event.is_writable() {
                self.writable(at);
            }
            if event.is_readable() || event.is_error() {
                self.readable(at);
            }
        }
        let now = self.now();
        while let Some(&(due, at)) = self.timers.first()
            && due <= now
        {
            self.timers.pop_first();
            self.members[at].due = None;
            self.tell(at, Input::Deadline);
        }
        Ok(())
    }

    fn writable(&mut self, at: usize) {
        let member = &mut self.members[at];
        let Some(stream) = &member.stream else { return };
        if !member.connected {
            let (Ok(local), Ok(remote)) = (stream.local_addr(), stream.peer_addr()) else { return };
            member.connected = true;
            let (conn, peer) = (
                member.conn,
                Peer { transport: Transport::Stream, local, remote, key: None, service: Service::Gateway },
            );
            self.tell(at, Input::Connected { conn, peer });
        }
        self.write(at);
    }

    fn readable(&mut self, at: usize) {
        let mut octets = [0; 4096];
        loop {
            let member = &mut self.members[at];
            let conn = member.conn;
            let Some(stream) = &mut member.stream else { return };
            match stream.read(&mut octets) {
                Ok(0) => return self.lost(at),
                Ok(count) => {
                    self.tell(at, Input::Received { conn, from: None, octets: &octets[..count] });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.lost(at),
            }
        }
    }

    fn lost(&mut self, at: usize) {
        let conn = self.members[at].conn;
        self.hang_up(at);
        self.tell(at, Input::Closed { conn, fault: None });
    }

    fn hang_up(&mut self, at: usize) {
        let member = &mut self.members[at];
        member.stream = None;
        member.connected = false;
        member.out.clear();
    }

    /// Hands a gateway its input, and does what it wants then.
    fn tell(&mut self, at: usize, input: Input<'_>) {
        let now = self.now();
        self.members[at].gateway.handle(now, input);
        while let Some(output) = self.members[at].gateway.poll_output() {
            match output {
                Output::Connect { conn, .. } => {
                    self.members[at].conn = conn;
                    if let Err(error) = self.open(at) {
                        self.down += 1;
                        let fault = Some(hailpost::status::Status::Connect.into());
                        debug_assert_ne!(error.kind(), io::ErrorKind::InvalidInput);
                        self.members[at].gateway.handle(now, Input::Closed { conn, fault });
                    }
                }
                Output::Send { octets, .. } => self.members[at].out.extend(octets),
                Output::Close { .. } => self.hang_up(at),
                Output::Event(GatewayEvent::Down(_)) => self.down += 1,
                _ => {}
            }
        }
        self.write(at);
        let member = &mut self.members[at];
        let is_active = member.gateway.state() == GatewayState::Active;
        if is_active != member.is_active {
            member.is_active = is_active;
            if is_active { self.active += 1 } else { self.active -= 1 }
        }
        let due = member.gateway.deadline();
        if due != member.due {
            if let Some(old) = std::mem::replace(&mut member.due, due) {
                self.timers.remove(&(old, at));
            }
            if let Some(due) = due {
                self.timers.insert((due, at));
            }
        }
    }

    /// Begins a connection from an address of its own.
    fn open(&mut self, at: usize) -> io::Result<()> {
        let host = 2 + at / AN_ADDRESS;
        let source = SocketAddr::from(([127, 0, (host >> 8) as u8, host as u8], 0));
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        bind(&socket, &source)?;
        match connect(&socket, &self.server) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let mut stream = TcpStream::from_std(StdStream::from(socket));
        self.poll.registry().register(&mut stream, Token(at), Interest::READABLE | Interest::WRITABLE)?;
        self.members[at].stream = Some(stream);
        Ok(())
    }

    fn write(&mut self, at: usize) {
        let member = &mut self.members[at];
        let Some(stream) = member.stream.as_mut().filter(|_| member.connected) else { return };
        while !member.out.is_empty() {
            match stream.write(&member.out) {
                Ok(count) => drop(member.out.drain(..count)),
                // The rest goes when there is room, or with the connection.
                Err(_) => return,
            }
        }
    }
}
