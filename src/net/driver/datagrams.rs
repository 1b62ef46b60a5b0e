//! Datagrams, many in one system call where they are the link's.

use super::*;

/// Datagrams read from one socket before another has its turn.
const BUDGET: usize = 256;
/// What a datagram counts for at least, in octets of a step: short ones cost time too.
const LEAST: usize = 256;

impl Loop {
    /// Reads what a socket has, at most a portion. Says for how many octets that counts.
    pub(super) fn serve_datagrams(&mut self, socket: usize) -> usize {
        let mut taken = 0;
        let mut left = BUDGET;
        while left > 0 {
            let Some(known) = &self.sockets[socket] else { return taken };
            let received = match &known.kind {
                SocketKind::Datagrams { listen, .. } if listen.service() == Some(Service::Link) => {
                    self.receive_many(socket, left)
                }
                _ => self.receive_one(socket),
            };
            match received {
                Ok(Some((count, octets))) => {
                    left -= count;
                    taken += octets;
                }
                Ok(None) => return taken,
                // ICMP says that nobody is there: better to learn it now than by silence.
                Err(error) if self.is_connected(socket) => {
                    self.fail(socket, Some(fault("receiving", &error)));
                    return taken;
                }
                // An error of an earlier datagram to somebody else: datagrams may be lost anyway.
                Err(_) => left -= 1,
            }
        }
        self.mark_readable(socket);
        taken
    }

    /// Takes as many as one call gives. `None` when there are no more.
    fn receive_many(&mut self, socket: usize, at_most: usize) -> io::Result<Option<(usize, usize)>> {
        let Some(Socket { slot, conn, kind: SocketKind::Datagrams { socket, listen, .. }, .. }) =
            &self.sockets[socket]
        else {
            return Ok(None);
        };
        let (slot, conn) = (*slot, *conn);
        let asked = at_most.min(self.limits.batch).clamp(1, batch::MOST);
        let mut ring = self.ring.take().unwrap_or_else(|| Box::new(Ring::new()));
        let received = match ring.receive(socket, asked) {
            Ok(count) => {
                let now = self.clock.now();
                let (mut octets, mut node) = (0, self.slots[slot].as_mut());
                for at in 0..count {
                    let (datagram, from) = ring.get(at);
                    octets += datagram.map_or(0, <[u8]>::len).max(LEAST);
                    match (datagram, &mut node) {
                        _ if !listen.welcomes(from.ip()) => self.counters.unwelcome += 1,
                        (None, _) => self.counters.datagrams_too_long += 1,
                        (Some(octets), Some(slot)) => {
                            let from = Some(canonical(from));
                            slot.node.handle(now, Input::Received { conn, from, octets });
                        }
                        (Some(_), None) => {}
                    }
                }
                Ok(Some((count, octets)))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        };
        self.ring = Some(ring);
        if let Ok(Some(_)) = received {
            self.touch(slot);
        }
        received
    }

    /// Takes one datagram of any length. `None` when there is none.
    fn receive_one(&mut self, socket: usize) -> io::Result<Option<(usize, usize)>> {
        let Some(known) = &self.sockets[socket] else { return Ok(None) };
        let (slot, conn) = (known.slot, known.conn);
        let received = match &known.kind {
            SocketKind::Datagrams { socket, listen, .. } => socket
                .recv_from(&mut self.scratch)
                .map(|(count, from)| listen.welcomes(from.ip()).then_some((count, Some(canonical(from))))),
            SocketKind::Connected { socket, .. } => {
                socket.recv(&mut self.scratch).map(|count| Some((count, None)))
            }
            _ => return Ok(None),
        };
        match received {
            Ok(Some((count, from))) => {
                let octets = std::mem::take(&mut self.scratch);
                self.tell(slot, Input::Received { conn, from, octets: &octets[..count] });
                self.scratch = octets;
                Ok(Some((1, count.max(LEAST))))
            }
            Ok(None) => {
                self.counters.unwelcome += 1;
                Ok(Some((1, LEAST)))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn is_connected(&self, socket: usize) -> bool {
        matches!(&self.sockets[socket], Some(Socket { kind: SocketKind::Connected { .. }, .. }))
    }

    /// Puts a datagram where it waits for the end of the step, or for enough others.
    pub(super) fn send_datagram(&mut self, socket: usize, to: Option<SocketAddr>, octets: Vec<u8>) {
        let Some(known) = &mut self.sockets[socket] else { return };
        let (to, out) = match &mut known.kind {
            SocketKind::Datagrams { is_dual, out, .. } => {
                let Some(to) = to else {
                    self.counters.datagrams_unsent += 1;
                    return;
                };
                (Some(if *is_dual { mapped(to) } else { to }), out)
            }
            SocketKind::Connected { out, .. } => (None, out),
            _ => return,
        };
        out.push(Datagram { to, octets }, &mut self.counters);
        match (out.is_blocked(), out.len() < self.limits.batch.clamp(1, batch::MOST)) {
            (true, _) => {}
            (false, true) => self.mark_unwritten(socket),
            (false, false) => self.write_datagrams(socket),
        }
    }

    /// Sends what waits on a socket. What the kernel has no room for waits until it says that it has.
    pub(super) fn write_datagrams(&mut self, at: usize) {
        let Some(known) = &mut self.sockets[at] else { return };
        let (SocketKind::Datagrams { socket, out, .. } | SocketKind::Connected { socket, out }) =
            &mut known.kind
        else {
            return;
        };
        let was_blocked = out.is_blocked();
        out.write(&mut self.counters, |queue| batch::send(socket, queue, self.limits.batch));
        if was_blocked != out.is_blocked() {
            let interest = match out.is_blocked() {
                true => Interest::READABLE | Interest::WRITABLE,
                // Else the kernel would tell of every datagram that it is through with.
                false => Interest::READABLE,
            };
            // Should the kernel refuse, the next datagrams find out about room themselves.
            if self.poll.registry().reregister(socket, Token(at), interest).is_err() {
                out.unblock();
            }
        }
    }
}

/// An address as everybody else writes it: a mapped IPv4 address as IPv4.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::from((v4, v6.port())),
            None => address,
        },
        v4 => v4,
    }
}

/// An address as a socket for both families has it.
fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port())),
        v6 => v6,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        os::{fd::OwnedFd, unix::net::UnixDatagram},
    };

    use super::*;

    /// Wants what it is given.
    struct Wants(VecDeque<Output<Event>>);

    impl Node for Wants {
        fn handle(&mut self, _: Time, _: Input<'_>) {}

        fn poll_output(&mut self, _: Time) -> Option<Output<Event>> {
            self.0.pop_front()
        }

        fn flush(&mut self, _: Time) -> bool {
            false
        }

        fn deadline(&self) -> Option<Time> {
            None
        }
    }

    /// Loopback always has room for UDP, so a socket stands in whose peer does not read: one of a pair of the Unix family.
    #[test]
    fn what_the_kernel_has_no_room_for_waits_and_goes_in_order() {
        let mut net = Loop::new().unwrap();
        let id = net.add(Box::new(Wants(VecDeque::new())), Vec::new());
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let socket = UdpSocket::from_std(OwnedFd::from(ours).into());
        let kind = SocketKind::Connected { socket, out: Outbox::default() };
        let conn = Conn(Conn::OURS);
        let at = net.insert(0, conn, kind).unwrap();
        net.adopt(0, conn, at);
        // More than a peer that does not read may have waiting in the kernel.
        let count = 5000u32;
        net.with(id, |node: &mut Wants, _| {
            node.0.extend((0..count).map(|number| Output::Send {
                conn,
                to: None,
                octets: number.to_be_bytes().to_vec(),
            }));
        })
        .unwrap();
        net.step().unwrap();
        for _ in 0..10 {
            net.step().unwrap();
        }
        assert_eq!(net.timeout(), None, "it waits for room and does not spin");
        let waiting = |net: &Loop| match &net.sockets[at].as_ref().unwrap().kind {
            SocketKind::Connected { out, .. } => (out.len(), out.is_blocked()),
            _ => unreachable!(),
        };
        assert!(waiting(&net).0 > 0 && waiting(&net).1);
        let (mut got, mut octets) = (0, [0; 16]);
        while got < count {
            while let Ok(length) = theirs.recv(&mut octets) {
                assert_eq!(octets[..length], got.to_be_bytes());
                got += 1;
            }
            net.wait(Some(Duration::from_millis(5))).unwrap();
        }
        assert_eq!(waiting(&net), (0, false));
        assert_eq!((net.counters.datagrams_unsent, net.counters.datagrams_overflowed), (0, 0));
    }

    #[test]
    fn addresses_of_both_families() {
        let of = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(canonical(of("[::ffff:192.0.2.1]:7")), of("192.0.2.1:7"));
        assert_eq!(mapped(of("192.0.2.1:7")), of("[::ffff:192.0.2.1]:7"));
        for same in ["192.0.2.1:7", "[2001:db8::1]:7", "[::1]:7"] {
            assert_eq!(canonical(of(same)), of(same));
            assert_eq!(canonical(mapped(of(same))), of(same));
        }
    }
}
