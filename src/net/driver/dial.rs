//! Making connections: resolve, race, hand over.

use super::*;

/// Answers of a name server read before another socket has its turn.
const QUERY_BUDGET: usize = 256;

impl Loop {
    pub(super) fn dial(&mut self, at: usize, conn: Conn, way: usize) {
        let Some(slot) = &mut self.slots[at] else { return };
        let Some(Way { remote, .. }) = slot.ways.get(way) else {
            let fault =
                Fault::new(Status::Config, "no peer is configured: set the option `backend` or `office`");
            return self.tell(at, Input::Closed { conn, fault: Some(fault) });
        };
        let now = self.clock.now();
        let target = remote.target().clone();
        if let Some(config) = self.names.changed(now) {
            self.resolver.set_config(now, config);
        }
        match self.resolver.lookup(now, &target, &resolver::Kind::Address) {
            Ok(lookup) => {
                let dial = self.next_dial;
                self.next_dial += 1;
                slot.dials.insert(conn, dial);
                let node = slot.id;
                self.dials.insert(
                    dial,
                    Dial { node, way, conn, stage: DialStage::Resolving(lookup), attempts: Vec::new() },
                );
                self.drive_resolver();
            }
            Err(error) => {
                let fault = dial_fault(Status::Resolve, &target, error);
                self.tell(at, Input::Closed { conn, fault: Some(fault) });
            }
        }
    }

    pub(super) fn drive_resolver(&mut self) {
        while let Some(output) = self.resolver.poll_output() {
            match output {
                resolver::Output::Query { socket, server, transport, message } => {
                    if self.query(socket, server, transport, message).is_err() {
                        let now = self.clock.now();
                        self.resolver.handle_failed(now, socket, io::ErrorKind::Other);
                    }
                }
                resolver::Output::Close { socket } => {
                    if let Some(at) = self.queries.remove(&socket) {
                        self.drop_socket(at);
                    }
                }
                resolver::Output::Done { id, result, .. } => self.resolved(id, result),
            }
        }
        self.timers.set(Timer::Resolver, self.resolver.deadline());
    }

    pub(super) fn query(
        &mut self,
        token: SocketToken,
        server: SocketAddr,
        transport: resolver::Transport,
        message: Vec<u8>,
    ) -> io::Result<()> {
        let kind = match transport {
            resolver::Transport::Udp => {
                let any = match server {
                    SocketAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
                    SocketAddr::V6(_) => SocketAddr::from(([0u16; 8], 0)),
                };
                let socket = UdpSocket::bind(any)?;
                socket.connect(server)?;
                socket.send(&message)?;
                SocketKind::Query { socket, token, server }
            }
            resolver::Transport::Tcp => {
                SocketKind::QueryStream { tcp: TcpStream::connect(server)?, token, unsent: message }
            }
        };
        let at = self.insert(usize::MAX, Conn(0), kind).map_err(|fault| io::Error::other(fault.detail))?;
        self.queries.insert(token, at);
        Ok(())
    }

    pub(super) fn query_writable(&mut self, socket: usize) {
        use std::io::Write;
        let Some(Socket { kind: SocketKind::QueryStream { tcp, token, unsent }, .. }) =
            &mut self.sockets[socket]
        else {
            return;
        };
        while !unsent.is_empty() {
            match tcp.write(unsent) {
                Ok(count) => drop(unsent.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    let token = *token;
                    self.resolver.handle_failed(self.clock.now(), token, error.kind());
                    return self.drive_resolver();
                }
            }
        }
    }

    pub(super) fn serve_query(&mut self, socket: usize) {
        use std::io::Read;
        let now = self.clock.now();
        for _ in 0..QUERY_BUDGET {
            let Some(known) = &mut self.sockets[socket] else { break };
            match &mut known.kind {
                SocketKind::Query { socket, token, server } => match socket.recv(&mut self.scratch) {
                    Ok(count) => {
                        self.resolver.handle_datagram(now, *token, *server, &self.scratch[..count]);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => self.resolver.handle_failed(now, *token, error.kind()),
                },
                SocketKind::QueryStream { tcp, token, .. } => match tcp.read(&mut self.scratch) {
                    Ok(0) => self.resolver.handle_failed(now, *token, io::ErrorKind::UnexpectedEof),
                    Ok(count) => self.resolver.handle_stream(now, *token, &self.scratch[..count]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => self.resolver.handle_failed(now, *token, error.kind()),
                },
                _ => break,
            }
            self.drive_resolver();
        }
    }

    pub(super) fn resolved(
        &mut self,
        lookup: resolver::LookupId,
        result: Result<Vec<SocketAddr>, resolver::ResolveError>,
    ) {
        let found = self.dials.iter().find_map(|(&dial, known)| match known.stage {
            DialStage::Resolving(waiting) if waiting == lookup => {
                Some((dial, known.node, known.way, known.conn))
            }
            _ => None,
        });
        let Some((dial, node, way, conn)) = found else { return };
        let Some(&at) = self.by_id.get(&node) else { return };
        let Some(remote) = self.remote(at, way) else { return };
        let addresses = match result {
            Ok(addresses) => addresses,
            Err(error) => {
                return self.dial_failed(dial, dial_fault(Status::Resolve, remote.target(), error));
            }
        };
        match remote {
            Remote::Stream { .. } => {
                let race = Race::new(self.clock.now(), &addresses, happy_eyeballs::Settings::default());
                if let Some(known) = self.dials.get_mut(&dial) {
                    known.stage = DialStage::Racing(race);
                }
                self.drive_race(dial);
            }
            Remote::Datagram { target, service } => {
                let opened = self.turn_of(at, way, &addresses).map(connected_udp);
                match opened {
                    Some(Ok(opened)) => {
                        self.forget_dial(dial);
                        self.reached(at, conn, opened, service);
                    }
                    Some(Err(error)) => self.dial_failed(dial, dial_fault(Status::Connect, &target, error)),
                    None => self.dial_failed(dial, dial_fault(Status::Resolve, &target, "no address")),
                }
            }
        }
    }

    /// Opens a datagram socket to an address that a node was given.
    pub(super) fn reach(&mut self, at: usize, conn: Conn, to: SocketAddr) {
        match connected_udp(to) {
            Ok(opened) => self.reached(at, conn, opened, Service::Link),
            Err(error) => {
                let fault = Fault::new(Status::Connect, format!("connecting to the broker: {error}"));
                self.tell(at, Input::Closed { conn, fault: Some(fault) });
            }
        }
    }

    fn reached(
        &mut self,
        at: usize,
        conn: Conn,
        (socket, local, remote): (UdpSocket, SocketAddr, SocketAddr),
        service: Service,
    ) {
        let peer = Peer { transport: Transport::Datagram, local, remote, key: None, service };
        if let Ok(socket) = self.insert(at, conn, SocketKind::Connected { socket, out: Outbox::default() }) {
            self.adopt(at, conn, socket);
            self.tell(at, Input::Connected { conn, peer });
        }
    }

    /// No handshake says which address of several works, so each dial takes the next.
    fn turn_of(&mut self, at: usize, way: usize, addresses: &[SocketAddr]) -> Option<SocketAddr> {
        let way = self.slots[at].as_mut()?.ways.get_mut(way)?;
        let turn = way.turns % addresses.len().max(1);
        way.turns = turn + 1;
        addresses.get(turn).copied()
    }

    fn remote(&self, at: usize, way: usize) -> Option<Remote> {
        Some(self.slots[at].as_ref()?.ways.get(way)?.remote.clone())
    }

    pub(super) fn drive_race(&mut self, dial: usize) {
        let now = self.clock.now();
        loop {
            let Some(Dial { node, way, conn, stage: DialStage::Racing(race), .. }) =
                self.dials.get_mut(&dial)
            else {
                return;
            };
            let (node, way, conn) = (*node, *way, *conn);
            let Some(&at) = self.by_id.get(&node) else { return };
            let Some(output) = race.poll_output() else { break };
            match output {
                happy_eyeballs::Output::Connect { attempt, address } => {
                    let opened = TcpStream::connect(address).map_err(|error| error.kind()).and_then(|tcp| {
                        let kind = SocketKind::Attempt { tcp, dial, attempt };
                        self.insert(at, conn, kind).map_err(|_| io::ErrorKind::Other)
                    });
                    let Some(known) = self.dials.get_mut(&dial) else { return };
                    match (opened, &mut known.stage) {
                        (Ok(socket), _) => known.attempts.push((attempt, socket)),
                        (Err(kind), DialStage::Racing(race)) => race.handle_failure(now, attempt, kind),
                        (Err(_), DialStage::Resolving(_)) => {}
                    }
                }
                happy_eyeballs::Output::Abort { attempt } => {
                    if let Some(socket) = self.take_attempt(dial, attempt) {
                        self.drop_socket(socket);
                    }
                }
                happy_eyeballs::Output::Done(Ok(winner)) => {
                    return self.race_won(dial, winner.attempt);
                }
                happy_eyeballs::Output::Done(Err(error)) => {
                    let Some(remote) = self.remote(at, way) else { return };
                    return self.dial_failed(dial, dial_fault(Status::Connect, remote.target(), error));
                }
            }
        }
        let due = match self.dials.get(&dial) {
            Some(Dial { stage: DialStage::Racing(race), .. }) => race.deadline(),
            _ => None,
        };
        self.timers.set(Timer::Dial(dial), due);
    }

    /// The kernel has news of an attempt: it is connected, or it failed.
    pub(super) fn attempt_ready(&mut self, socket: usize) {
        let Some(Socket { kind: SocketKind::Attempt { tcp, dial, attempt }, .. }) = &self.sockets[socket]
        else {
            return;
        };
        let (dial, attempt) = (*dial, *attempt);
        let outcome = match (tcp.take_error(), tcp.peer_addr()) {
            (Ok(Some(error)), _) | (Err(error), _) => Err(error.kind()),
            (Ok(None), Ok(_)) => Ok(()),
            (Ok(None), Err(error)) if error.kind() == io::ErrorKind::NotConnected => return,
            (Ok(None), Err(error)) => Err(error.kind()),
        };
        let now = self.clock.now();
        if let Some(Dial { stage: DialStage::Racing(race), .. }) = self.dials.get_mut(&dial) {
            match outcome {
                Ok(()) => race.handle_success(attempt),
                Err(kind) => race.handle_failure(now, attempt, kind),
            }
        }
        if outcome.is_err() {
            self.take_attempt(dial, attempt);
            self.drop_socket(socket);
        }
        self.drive_race(dial);
    }

    pub(super) fn race_won(&mut self, dial: usize, attempt: AttemptId) {
        let Some(socket) = self.take_attempt(dial, attempt) else { return };
        let Some(known) = self.dials.get(&dial) else { return };
        let (way, conn) = (known.way, known.conn);
        let Some(&at) = self.by_id.get(&known.node) else { return };
        let Some(Socket { kind: SocketKind::Attempt { mut tcp, .. }, .. }) = self.sockets[socket].take()
        else {
            return;
        };
        let _ = self.poll.registry().deregister(&mut tcp);
        self.freed_this_step.push(socket);
        self.forget_dial(dial);
        let Some(Remote::Stream { target, security, service }) = self.remote(at, way) else { return };
        let opened = Stream::dialled(tcp, &security, service).and_then(|stream| {
            let kind = SocketKind::Stream { stream, told: false, share: None, closing: false };
            self.insert(at, conn, kind)
        });
        match opened {
            Ok(socket) => {
                // Until the handshake is done the node can still close it by this name.
                self.adopt(at, conn, socket);
                self.timers.set(Timer::Socket(socket), Some(self.clock.now() + self.limits.patience));
                self.mark_unwritten(socket);
                self.tell_if_ready(socket);
                self.mark_readable(socket);
            }
            Err(fault) => {
                let fault = dial_fault(fault.status, &target, fault.detail);
                self.tell(at, Input::Closed { conn, fault: Some(fault) });
            }
        }
    }

    pub(super) fn dial_failed(&mut self, dial: usize, fault: Fault) {
        let Some(known) = self.dials.get(&dial) else { return };
        let (node, conn) = (known.node, known.conn);
        self.drop_dial(dial);
        if let Some(&at) = self.by_id.get(&node) {
            if let Some(slot) = &mut self.slots[at] {
                slot.dials.remove(&conn);
            }
            self.tell(at, Input::Closed { conn, fault: Some(fault) });
        }
    }

    /// Ends a dial that has what it wanted.
    pub(super) fn forget_dial(&mut self, dial: usize) {
        if let Some(known) = self.dials.remove(&dial)
            && let Some(&at) = self.by_id.get(&known.node)
            && let Some(slot) = &mut self.slots[at]
        {
            slot.dials.remove(&known.conn);
        }
        self.timers.set(Timer::Dial(dial), None);
    }

    /// Ends a dial with all its sockets.
    pub(super) fn drop_dial(&mut self, dial: usize) {
        let Some(known) = self.dials.remove(&dial) else { return };
        for (_, socket) in known.attempts {
            self.drop_socket(socket);
        }
        if let DialStage::Resolving(lookup) = known.stage {
            self.resolver.cancel(self.clock.now(), lookup);
            self.drive_resolver();
        }
        self.timers.set(Timer::Dial(dial), None);
    }

    /// Takes the socket of an attempt out of its dial.
    fn take_attempt(&mut self, dial: usize, attempt: AttemptId) -> Option<usize> {
        let attempts = &mut self.dials.get_mut(&dial)?.attempts;
        let at = attempts.iter().position(|(known, _)| *known == attempt)?;
        Some(attempts.swap_remove(at).1)
    }
}

/// The socket, our address and the peer's.
fn connected_udp(address: SocketAddr) -> io::Result<(UdpSocket, SocketAddr, SocketAddr)> {
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
        SocketAddr::V6(_) => SocketAddr::from(([0u16; 8], 0)),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    let local = socket.local_addr()?;
    Ok((socket, local, address))
}
