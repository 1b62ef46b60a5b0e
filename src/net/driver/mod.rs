//! The loop: one file descriptor, one timeout, one step.
//!
//! A step takes what the kernel has, in bounded portions; lets due timers fire; pulls every node's outputs; commits the
//! stores once; and writes what was queued. Whatever is left over keeps the timeout at zero.

mod datagrams;
mod dial;
mod serve;
mod sockets;
mod turn;

use std::{
    any::Any,
    collections::{HashMap, VecDeque},
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, RawFd},
    sync::Arc,
    time::Duration,
};

use mio::{
    Events, Interest, Poll, Token, Waker,
    event::Source,
    net::{TcpListener, TcpStream, UdpSocket},
};

use self::{
    datagrams::canonical,
    sockets::{Share, Socket, SocketKind},
};
use super::{
    batch::{self, Datagram, Ring},
    bind,
    clock::{Clock, SystemEntropy},
    endpoint::{Dial, DialStage, DriverCounters, Limits, Listen, ListenTransport, Remote, dial_fault},
    happy_eyeballs::{self, AttemptId, Race},
    outbox::Outbox,
    resolver::{self, Resolver, SocketToken},
    stream::{ReadEnd, Stream, StreamCounters, fault},
    system::NameFiles,
    timers::{Timer, Timers},
};
use crate::{
    io::{Conn, Input, Output, Peer, Service, Transport, holder},
    node::{Event, Node},
    status::{Fault, Status},
    time::Time,
};

/// Names a node on its loop; never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(u64);

/// Sockets served in one step before it returns.
const STEP_BUDGET: usize = 1024;
/// Octets taken in in one step before it returns. What a node answers is put into streams when the step settles, and only
/// then is it seen who does not read.
const STEP_OCTETS: usize = 1 << 20;
/// Connections taken from one listener before another socket has its turn.
const ACCEPT_BUDGET: usize = 64;
/// Largest datagram that any of our protocols sends, and then some.
const DATAGRAM_LEN: usize = 65_536;
/// Microseconds by which the wall clock may go wrong before nodes are told. What is kept until a date is kept by the second.
const CLOCK_STEP: u64 = 1_000_000;
const WAKER: Token = Token(usize::MAX);

/// The loop.
pub struct Loop {
    poll: Poll,
    kernel: Events,
    waker: Arc<Waker>,
    clock: Clock,
    /// The wall clock's distance from ours that nodes know of, in microseconds.
    offset: i64,
    limits: Limits,
    slots: Vec<Option<Slot>>,
    by_id: HashMap<NodeId, usize>,
    next_id: u64,
    sockets: Vec<Option<Socket>>,
    free: Vec<usize>,
    /// Sockets of the last generation are told from later ones at the same place.
    freed_this_step: Vec<usize>,
    timers: Timers,
    dials: HashMap<usize, Dial>,
    next_dial: usize,
    resolver: Resolver<SystemEntropy>,
    names: NameFiles,
    queries: HashMap<SocketToken, usize>,
    events: VecDeque<(NodeId, Event)>,
    /// Sockets that may have more to read.
    readable: VecDeque<usize>,
    /// Nodes that may have outputs.
    dirty: VecDeque<usize>,
    /// Sockets with something to write.
    unwritten: Vec<usize>,
    counters: DriverCounters,
    stream_counters: StreamCounters,
    scratch: Vec<u8>,
    /// For datagrams of the link; nobody else needs its room.
    ring: Option<Box<Ring>>,
    plain: Vec<u8>,
    was_interrupted: bool,
}

struct Slot {
    id: NodeId,
    node: Box<dyn Node>,
    ways: Vec<Way>,
    conns: HashMap<Conn, usize>,
    dials: HashMap<Conn, usize>,
    next_conn: u32,
    /// What came in at this node's listeners, whoever has it now.
    per_address: HashMap<IpAddr, usize>,
    /// Which streams that come in at its listeners are for another.
    loans: Vec<(Service, NodeId)>,
    is_dirty: bool,
}

/// Where a node may connect to.
struct Way {
    remote: Remote,
    /// Which of several addresses is next, where no handshake says which of them works.
    turns: usize,
}

impl Loop {
    /// A loop with nothing on it.
    pub fn new() -> Result<Loop, Fault> {
        let poll = Poll::new().map_err(|error| fault("making the event queue", &error))?;
        let waker = Waker::new(poll.registry(), WAKER).map_err(|error| fault("making the waker", &error))?;
        let clock = Clock::new();
        Ok(Loop {
            poll,
            kernel: Events::with_capacity(1024),
            waker: Arc::new(waker),
            offset: clock.offset(),
            clock,
            limits: Limits::default(),
            slots: Vec::new(),
            by_id: HashMap::new(),
            next_id: 0,
            sockets: Vec::new(),
            free: Vec::new(),
            freed_this_step: Vec::new(),
            timers: Timers::default(),
            dials: HashMap::new(),
            next_dial: 0,
            resolver: Resolver::new(resolver::Config::default(), SystemEntropy),
            names: NameFiles::default(),
            queries: HashMap::new(),
            events: VecDeque::new(),
            readable: VecDeque::new(),
            dirty: VecDeque::new(),
            unwritten: Vec::new(),
            counters: DriverCounters::default(),
            stream_counters: StreamCounters::default(),
            scratch: vec![0; DATAGRAM_LEN],
            ring: None,
            plain: Vec::new(),
            was_interrupted: false,
        })
    }

    /// The driver's bounds.
    pub fn limits_mut(&mut self) -> &mut Limits {
        &mut self.limits
    }

    /// The one descriptor to wait on: readable when [`Loop::step`] has something to do.
    pub fn fd(&self) -> RawFd {
        self.poll.as_raw_fd()
    }

    /// What the loop counted.
    pub fn counters(&self) -> &DriverCounters {
        &self.counters
    }

    /// What streams counted.
    pub fn stream_counters(&self) -> &StreamCounters {
        &self.stream_counters
    }

    /// Ends a wait from any thread.
    pub fn waker(&self) -> Arc<Waker> {
        self.waker.clone()
    }

    /// The driver's time.
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// How long to wait at most; `None` for as long as it takes.
    pub fn timeout(&self) -> Option<Duration> {
        if !self.readable.is_empty() || !self.dirty.is_empty() || !self.unwritten.is_empty() {
            return Some(Duration::ZERO);
        }
        self.timers.next().map(|due| due.since(self.clock.now()))
    }

    /// Waits for something to do, at most `limit`, then does it.
    pub fn wait(&mut self, limit: Option<Duration>) -> Result<(), Fault> {
        let timeout = match (self.timeout(), limit) {
            (Some(own), Some(limit)) => Some(own.min(limit)),
            (own, limit) => own.or(limit),
        };
        // A timeout is cut to whole milliseconds: rather wait one too long than spin.
        let timeout = timeout.map(|wait| if wait.is_zero() { wait } else { wait + Duration::from_millis(1) });
        self.turn(timeout)
    }

    /// One turn, without waiting.
    pub fn step(&mut self) -> Result<(), Fault> {
        self.turn(Some(Duration::ZERO))
    }

    /// The events that wait to be pulled.
    pub fn events(&self) -> impl ExactSizeIterator<Item = &(NodeId, Event)> {
        self.events.iter()
    }

    /// Whether a signal ended the last wait.
    pub fn was_interrupted(&self) -> bool {
        self.was_interrupted
    }

    /// The next event, and the node that it came from.
    pub fn next_event(&mut self) -> Option<(NodeId, Event)> {
        let (id, event) = self.events.pop_front()?;
        if let Some(&at) = self.by_id.get(&id)
            && let Some(slot) = &mut self.slots[at]
            && slot.node.taken(&event)
        {
            self.touch(at);
        }
        Some((id, event))
    }

    /// The network is another, or back: names are looked up afresh, and nodes try again without waiting.
    pub fn network_changed(&mut self) {
        self.names = NameFiles::default();
        self.resolver.network_changed(self.clock.now());
        for at in 0..self.slots.len() {
            self.tell(at, Input::NetworkChanged);
        }
    }

    /// Puts a node on the loop. `remotes` are where it connects to: the ways of [`Output::Connect`].
    pub fn add(&mut self, node: Box<dyn Node>, remotes: Vec<Remote>) -> NodeId {
        self.next_id += 1;
        let id = NodeId(self.next_id);
        let slot = Slot {
            id,
            node,
            ways: remotes.into_iter().map(|remote| Way { remote, turns: 0 }).collect(),
            conns: HashMap::new(),
            dials: HashMap::new(),
            next_conn: 0,
            per_address: HashMap::new(),
            loans: Vec::new(),
            is_dirty: false,
        };
        let at = self.slots.iter().position(Option::is_none).unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[at] = Some(slot);
        self.by_id.insert(id, at);
        self.touch(at);
        id
    }

    /// Takes a node off the loop: its sockets close, its events are gone.
    pub fn remove(&mut self, id: NodeId) -> Option<Box<dyn Node>> {
        let at = self.by_id.remove(&id)?;
        let slot = self.slots[at].take()?;
        for socket in slot.conns.into_values() {
            self.drop_socket(socket);
        }
        for dial in slot.dials.into_values() {
            self.drop_dial(dial);
        }
        for socket in 0..self.sockets.len() {
            if self.sockets[socket].as_ref().is_some_and(|known| known.slot == at && !known.is_resolvers()) {
                self.drop_socket(socket);
            }
        }
        self.timers.set(Timer::Node(at), None);
        self.events.retain(|(owner, _)| *owner != id);
        Some(slot.node)
    }

    /// Calls into a node. What it wants done because of that is done in the next step.
    pub fn with<N: Node, R>(&mut self, id: NodeId, call: impl FnOnce(&mut N, Time) -> R) -> Result<R, Fault> {
        let now = self.clock.now();
        let at = *self.by_id.get(&id).ok_or(Status::NotFound)?;
        let slot = self.slots[at].as_mut().ok_or(Status::NotFound)?;
        let node: &mut dyn Any = &mut *slot.node;
        let node = node.downcast_mut::<N>().ok_or(Status::Invalid)?;
        let result = call(node, now);
        self.touch(at);
        Ok(result)
    }

    /// Looks into a node.
    pub fn get<N: Node>(&self, id: NodeId) -> Option<&N> {
        let slot = self.slots[*self.by_id.get(&id)?].as_ref()?;
        let node: &dyn Any = &*slot.node;
        node.downcast_ref()
    }

    /// Protects streams that come in at a node's listeners from now on in another way: with another certificate. Bare
    /// listeners stay bare, and every listener offers what it offered.
    #[cfg(all(feature = "tls", any(feature = "backend", feature = "post")))]
    pub fn secure(&mut self, id: NodeId, config: &std::sync::Arc<rustls::ServerConfig>) -> Result<(), Fault> {
        let slot = *self.by_id.get(&id).ok_or(Status::NotFound)?;
        for socket in self.sockets.iter_mut().flatten().filter(|socket| socket.slot == slot) {
            if let SocketKind::Listener { listen, .. } = &mut socket.kind
                && let ListenTransport::Stream(super::ServerSecurity::Tls(held)) = &mut listen.transport
            {
                *held = super::tls::offering(config, &listen.services);
            }
        }
        Ok(())
    }

    /// Opens a listener for a node. Answers with its address, which tells the port when 0 was asked for.
    ///
    /// # Errors
    /// `NotFound` without such a node, `Invalid` when the listener is for no service, `Listen` when the system refuses.
    #[cfg_attr(not(all(feature = "tls", any(feature = "backend", feature = "post"))), allow(unused_mut))]
    pub fn listen(&mut self, id: NodeId, mut listen: Listen) -> Result<SocketAddr, Fault> {
        let slot = *self.by_id.get(&id).ok_or(Status::NotFound)?;
        let service = listen
            .service()
            .ok_or_else(|| Fault::new(Status::Invalid, "a listener is for one service at least"))?;
        #[cfg(all(feature = "tls", any(feature = "backend", feature = "post")))]
        if let ListenTransport::Stream(super::ServerSecurity::Tls(config)) = &mut listen.transport {
            *config = super::tls::offering(config, &listen.services);
        }
        let refused = |error: io::Error| {
            let detail = format!("cannot listen on {}: {error}: is another process there?", listen.address);
            Fault::new(Status::Listen, detail)
        };
        let conn = self.next_conn(slot);
        let (kind, address) = match &listen.transport {
            ListenTransport::Stream(_) => {
                let listener = bind::streams(listen.address).map_err(refused)?;
                let address = listener.local_addr().map_err(refused)?;
                (SocketKind::Listener { listener, listen }, address)
            }
            ListenTransport::Datagram => {
                let is_busy = service == Service::Link;
                let socket = bind::datagrams(listen.address, is_busy).map_err(refused)?;
                let address = socket.local_addr().map_err(refused)?;
                let (is_dual, out) = (address.is_ipv6(), Outbox::default());
                (SocketKind::Datagrams { socket, listen, is_dual, out }, address)
            }
        };
        let is_datagram = matches!(kind, SocketKind::Datagrams { .. });
        let socket = self.insert(slot, conn, kind)?;
        if is_datagram {
            let unspecified = match address {
                SocketAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
                SocketAddr::V6(_) => SocketAddr::from(([0u16; 8], 0)),
            };
            let peer = Peer {
                transport: Transport::Datagram,
                local: address,
                remote: unspecified,
                key: None,
                service,
            };
            self.adopt(slot, conn, socket);
            self.tell(slot, Input::Accepted { conn, peer });
        }
        Ok(address)
    }

    /// Offers another protocol at a node's TLS listener, if it has one at this address; answers whether it has.
    ///
    /// # Errors
    /// `NotFound` without such a node.
    #[cfg(all(feature = "tls", any(feature = "backend", feature = "post")))]
    pub fn offer(&mut self, owner: NodeId, address: SocketAddr, service: Service) -> Result<bool, Fault> {
        let slot = *self.by_id.get(&owner).ok_or(Status::NotFound)?;
        for socket in self.sockets.iter_mut().flatten().filter(|socket| socket.slot == slot) {
            if let SocketKind::Listener { listener, listen } = &mut socket.kind
                && listener.local_addr().is_ok_and(|local| local == address)
                && let ListenTransport::Stream(super::ServerSecurity::Tls(config)) = &mut listen.transport
            {
                if !listen.services.contains(&service) {
                    listen.services.push(service);
                }
                *config = super::tls::offering(config, &listen.services);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Gives streams that come in at a node's listeners and speak `service` to another node, from now on. They count
    /// against the owner's bounds, and stay when the owner is removed; once the other is removed, such streams are
    /// closed. Lent to its owner, a service is its own again.
    ///
    /// # Errors
    /// `NotFound` when either is not there.
    pub fn lend(&mut self, owner: NodeId, service: Service, to: NodeId) -> Result<(), Fault> {
        let at = *self.by_id.get(&owner).ok_or(Status::NotFound)?;
        self.by_id.get(&to).ok_or(Status::NotFound)?;
        if let Some(slot) = &mut self.slots[at] {
            slot.loans.retain(|(lent, _)| *lent != service);
            if to != owner {
                slot.loans.push((service, to));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<Vec<u64>>>);

    impl Node for Told {
        fn handle(&mut self, _now: Time, input: Input<'_>) {
            if let Input::Clock { unix } = input {
                self.0.lock().unwrap().push(unix);
            }
        }

        fn poll_output(&mut self, _now: Time) -> Option<Output<Event>> {
            None
        }

        fn flush(&mut self, _now: Time) -> bool {
            false
        }

        fn deadline(&self) -> Option<Time> {
            None
        }
    }

    #[test]
    fn nodes_are_told_when_the_wall_clock_is_set_and_not_when_it_goes() {
        let mut net = Loop::new().unwrap();
        let told = Told::default();
        net.add(Box::new(told.clone()), Vec::new());
        let offset = net.offset;
        for step in [0, 900_000, -900_000, 86_400_000_000, 86_400_500_000, -86_400_000_000] {
            net.look_at_the_clock(offset + step);
        }
        let now = offset / 1_000_000;
        let told: Vec<i64> = told.0.lock().unwrap().iter().map(|unix| *unix as i64 - now).collect();
        assert_eq!(told.len(), 2);
        assert!((86_400..86_460).contains(&told[0]) && (-86_400..-86_340).contains(&told[1]), "{told:?}");
        net.step().unwrap();
        assert!(net.offset.abs_diff(offset) < 1_000_000, "what the system says holds again");
    }

    /// Python lets another thread run while one waits, so a loop has to be able to change threads.
    #[test]
    fn a_loop_can_go_to_another_thread() {
        fn takes<T: Send + 'static>() {}
        takes::<super::Loop>();
    }
}
