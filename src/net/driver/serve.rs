//! What sockets have to say: new peers, octets, ends.

use super::*;

impl Loop {
    /// Reads what a socket has, at most a portion. Says how many octets its node was given.
    pub(super) fn serve(&mut self, socket: usize) -> usize {
        let Some(known) = &mut self.sockets[socket] else { return 0 };
        match &mut known.kind {
            SocketKind::Stream { .. } => return self.serve_stream(socket),
            SocketKind::Datagrams { .. } | SocketKind::Connected { .. } => {
                return self.serve_datagrams(socket);
            }
            SocketKind::Listener { .. } => self.accept(socket),
            SocketKind::Query { .. } | SocketKind::QueryStream { .. } => self.serve_query(socket),
            SocketKind::Attempt { .. } => {}
        }
        0
    }

    pub(super) fn accept(&mut self, socket: usize) {
        for _ in 0..ACCEPT_BUDGET {
            let Some(Socket { slot, kind: SocketKind::Listener { listener, listen }, .. }) =
                &self.sockets[socket]
            else {
                return;
            };
            let slot = *slot;
            match listener.accept() {
                Ok((tcp, from)) => {
                    let address = from.ip();
                    let listen = listen.clone();
                    self.accepted(slot, tcp, address, &listen);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The peer gave up meanwhile, or descriptors ran out: the next one may do better.
                Err(error) if has_run_out(&error) => {
                    let again = self.clock.now() + Duration::from_millis(100);
                    self.counters.out_of_descriptors += 1;
                    return self.timers.set(Timer::Socket(socket), Some(again));
                }
                Err(_) => {}
            }
        }
        self.mark_readable(socket);
    }

    fn accepted(&mut self, at: usize, tcp: TcpStream, address: IpAddr, listen: &Listen) {
        let ListenTransport::Stream(security) = &listen.transport else { return };
        let is_welcome = listen.welcomes(address);
        let Some(slot) = &mut self.slots[at] else { return };
        if !is_welcome {
            self.counters.unwelcome += 1;
            return;
        }
        let address = holder(address);
        if slot.per_address.get(&address).copied().unwrap_or_default() >= self.limits.per_address {
            self.counters.too_many += 1;
            return;
        }
        let Some(service) = listen.service() else { return };
        let Ok(stream) = Stream::accepted(tcp, security, service) else { return };
        let share = Some(Share { owner: slot.id, address });
        let conn = self.next_conn(at);
        let kind = SocketKind::Stream { stream, told: false, share, closing: false };
        if let Ok(socket) = self.insert(at, conn, kind) {
            self.counters.accepted += 1;
            if let Some(slot) = &mut self.slots[at] {
                *slot.per_address.entry(address).or_default() += 1;
            }
            self.timers.set(Timer::Socket(socket), Some(self.clock.now() + self.limits.patience));
            self.tell_if_ready(socket);
            self.mark_readable(socket);
        }
    }

    pub(super) fn serve_stream(&mut self, socket: usize) -> usize {
        let Some(Socket { kind: SocketKind::Stream { stream, closing, .. }, .. }) = &mut self.sockets[socket]
        else {
            return 0;
        };
        if stream.is_congested() && !*closing {
            return 0;
        }
        let mut plain = std::mem::take(&mut self.plain);
        let result = stream.read(&mut self.scratch, &mut plain, &mut self.stream_counters);
        let closing = *closing;
        // TLS may have something to say: a handshake message, an alert.
        self.mark_unwritten(socket);
        self.tell_if_ready(socket);
        if !plain.is_empty() && !closing {
            let known = self.sockets[socket].as_ref().map(|known| (known.slot, known.conn));
            if let Some((slot, conn)) = known {
                self.tell(slot, Input::Received { conn, from: None, octets: &plain });
            }
        }
        let taken = plain.len();
        plain.clear();
        self.plain = plain;
        match result {
            Ok(ReadEnd::Drained) => {}
            Ok(ReadEnd::Budget) => self.mark_readable(socket),
            Ok(ReadEnd::End) => self.fail(socket, None),
            Err(fault) => {
                // An alert says why, if the peer still listens.
                if let Some(Socket { kind: SocketKind::Stream { stream, .. }, .. }) =
                    &mut self.sockets[socket]
                {
                    let _ = stream.write(&mut self.stream_counters);
                }
                self.fail(socket, Some(fault));
            }
        }
        taken
    }

    /// Tells the node of a stream, once that may be spoken on.
    pub(super) fn tell_if_ready(&mut self, socket: usize) {
        let Some(known) = &mut self.sockets[socket] else { return };
        let SocketKind::Stream { stream, told, share, .. } = &mut known.kind else { return };
        if *told || !stream.is_ready() {
            return;
        }
        let (Ok(local), Ok(remote)) = (stream.tcp().local_addr(), stream.tcp().peer_addr()) else { return };
        *told = true;
        let (key, service) = (stream.peer_key(), stream.service());
        let (local, remote) = (canonical(local), canonical(remote));
        let peer = Peer { transport: Transport::Stream, local, remote, key, service };
        let (mut slot, mut conn, is_accepted) = (known.slot, known.conn, share.is_some());
        if is_accepted && let Some(borrower) = self.borrower(slot, service) {
            let Some(&at) = self.by_id.get(&borrower) else {
                self.counters.unclaimed += 1;
                return self.drop_socket(socket);
            };
            (slot, conn) = (at, self.next_conn(at));
            if let Some(known) = &mut self.sockets[socket] {
                (known.slot, known.conn) = (slot, conn);
            }
        }
        self.timers.set(Timer::Socket(socket), None);
        self.adopt(slot, conn, socket);
        self.tell(
            slot,
            match is_accepted {
                true => Input::Accepted { conn, peer },
                false => Input::Connected { conn, peer },
            },
        );
    }

    /// Who is to have streams of a listener's owner that speak this, if it is another.
    fn borrower(&self, owner: usize, service: Service) -> Option<NodeId> {
        let loans = &self.slots[owner].as_ref()?.loans;
        loans.iter().find_map(|(lent, to)| (*lent == service).then_some(*to))
    }

    pub(super) fn socket_due(&mut self, socket: usize) {
        let Some(known) = &self.sockets[socket] else { return };
        match known.kind {
            SocketKind::Listener { .. } => self.mark_readable(socket),
            SocketKind::Stream { closing: true, .. } => self.drop_socket(socket),
            _ => {
                self.counters.handshakes_given_up += 1;
                self.fail(socket, Some(Fault::new(Status::Timeout, "the handshake took too long")));
            }
        }
    }

    /// A connection ended. Its node is told, unless it closed the connection itself.
    pub(super) fn fail(&mut self, socket: usize, fault: Option<Fault>) {
        let Some(known) = &self.sockets[socket] else { return };
        let (slot, conn) = (known.slot, known.conn);
        let is_ours = conn.0 & Conn::OURS != 0;
        let told = match known.kind {
            SocketKind::Stream { told, closing, .. } => !closing && (told || is_ours),
            _ => true,
        };
        if let Some(slot) = &mut self.slots[slot] {
            slot.conns.remove(&conn);
        }
        self.drop_socket(socket);
        if told {
            self.tell(slot, Input::Closed { conn, fault });
        }
    }
}

/// Whether the system has nothing to take a connection with, which the next one will not change.
fn has_run_out(error: &io::Error) -> bool {
    let short = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error.raw_os_error().is_some_and(|number| short.contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_out_is_waited_for_and_what_a_peer_did_is_not() {
        let waits = |number| has_run_out(&io::Error::from_raw_os_error(number));
        assert!([libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM].into_iter().all(waits));
        assert!(![libc::ECONNABORTED, libc::EPROTO, libc::EINTR, libc::EPERM].into_iter().any(waits));
    }
}
