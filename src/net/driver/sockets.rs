//! The table of sockets.

use super::*;

pub(super) struct Socket {
    pub slot: usize,
    pub conn: Conn,
    pub kind: SocketKind,
    pub is_queued: bool,
    pub is_unwritten: bool,
}

/// What a connection that came in counts against, for as long as it lasts.
pub(super) struct Share {
    /// Whose listener it came in at.
    pub owner: NodeId,
    pub address: IpAddr,
}

pub(super) enum SocketKind {
    Listener { listener: TcpListener, listen: Listen },
    Stream { stream: Stream, told: bool, share: Option<Share>, closing: bool },
    Datagrams { socket: UdpSocket, listen: Listen, is_dual: bool, out: Outbox },
    Connected { socket: UdpSocket, out: Outbox },
    Attempt { tcp: TcpStream, dial: usize, attempt: AttemptId },
    Query { socket: UdpSocket, token: SocketToken, server: SocketAddr },
    QueryStream { tcp: TcpStream, token: SocketToken, unsent: Vec<u8> },
}

impl Loop {
    /// From now on the node may speak on it.
    pub(super) fn adopt(&mut self, at: usize, conn: Conn, socket: usize) {
        if let Some(slot) = &mut self.slots[at] {
            slot.conns.insert(conn, socket);
        }
    }

    pub(super) fn next_conn(&mut self, at: usize) -> Conn {
        let Some(slot) = &mut self.slots[at] else { return Conn(0) };
        // Old names come round after two thousand million; one that is still in use is passed over.
        loop {
            slot.next_conn = (slot.next_conn + 1) & !Conn::OURS;
            if !slot.conns.contains_key(&Conn(slot.next_conn)) {
                return Conn(slot.next_conn);
            }
        }
    }

    pub(super) fn insert(&mut self, slot: usize, conn: Conn, mut kind: SocketKind) -> Result<usize, Fault> {
        let at = self.free.pop().unwrap_or_else(|| {
            self.sockets.push(None);
            self.sockets.len() - 1
        });
        let interest = kind.interest();
        if let Err(error) = self.poll.registry().register(kind.source(), Token(at), interest) {
            self.free.push(at);
            return Err(fault("registering a socket", &error));
        }
        self.sockets[at] = Some(Socket { slot, conn, kind, is_queued: false, is_unwritten: false });
        Ok(at)
    }

    pub(super) fn drop_socket(&mut self, at: usize) {
        let Some(mut socket) = self.sockets[at].take() else { return };
        let _ = self.poll.registry().deregister(socket.kind.source());
        self.timers.set(Timer::Socket(at), None);
        // Events of this step may still name the place, so it is not given away before the next.
        self.freed_this_step.push(at);
        if let SocketKind::Stream { share: Some(share), .. } = socket.kind
            && let Some(&owner) = self.by_id.get(&share.owner)
            && let Some(slot) = &mut self.slots[owner]
            && let Some(held) = slot.per_address.get_mut(&share.address)
        {
            *held -= 1;
            if *held == 0 {
                slot.per_address.remove(&share.address);
            }
        }
    }
}

impl Socket {
    pub(super) fn is_resolvers(&self) -> bool {
        matches!(self.kind, SocketKind::Query { .. } | SocketKind::QueryStream { .. })
    }
}

impl SocketKind {
    pub(super) fn source(&mut self) -> &mut dyn Source {
        match self {
            SocketKind::Listener { listener, .. } => listener,
            SocketKind::Stream { stream, .. } => stream.source(),
            SocketKind::Datagrams { socket, .. }
            | SocketKind::Connected { socket, .. }
            | SocketKind::Query { socket, .. } => socket,
            SocketKind::Attempt { tcp, .. } | SocketKind::QueryStream { tcp, .. } => tcp,
        }
    }

    /// Whether nodes write to it.
    pub(super) fn is_written(&self) -> bool {
        match self {
            SocketKind::Stream { .. } => true,
            SocketKind::Datagrams { out, .. } | SocketKind::Connected { out, .. } => out.len() > 0,
            _ => false,
        }
    }

    pub(super) fn interest(&self) -> Interest {
        match self {
            SocketKind::Stream { .. } | SocketKind::QueryStream { .. } => {
                Interest::READABLE | Interest::WRITABLE
            }
            SocketKind::Attempt { .. } => Interest::WRITABLE,
            _ => Interest::READABLE,
        }
    }
}
