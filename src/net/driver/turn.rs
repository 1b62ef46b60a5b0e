//! A turn of the loop, and what nodes want done in it.

use std::{io, net::SocketAddr, time::Duration};

use mio::{Events, Token};

use super::*;

impl Loop {
    pub(super) fn turn(&mut self, timeout: Option<Duration>) -> Result<(), Fault> {
        self.was_interrupted = false;
        match self.poll.poll(&mut self.kernel, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.was_interrupted = true,
            Err(error) => return Err(fault("waiting for events", &error)),
        }
        self.look_at_the_clock(self.clock.offset());
        self.take_kernel_events();
        self.fire_timers();
        let mut taken = 0;
        for _ in 0..STEP_BUDGET {
            if self.events.len() >= self.limits.events || taken >= STEP_OCTETS {
                break;
            }
            let Some(socket) = self.readable.pop_front() else { break };
            if let Some(known) = &mut self.sockets[socket] {
                known.is_queued = false;
                taken += self.serve(socket);
            }
        }
        self.settle();
        self.free.append(&mut self.freed_this_step);
        Ok(())
    }

    /// Tells nodes when the wall clock was set, or has drifted away from ours.
    pub(super) fn look_at_the_clock(&mut self, offset: i64) {
        if offset.abs_diff(self.offset) <= CLOCK_STEP {
            return;
        }
        self.offset = offset;
        let micros = offset.saturating_add_unsigned(self.clock.now().as_micros());
        let unix = u64::try_from(micros / 1_000_000).unwrap_or(0);
        for at in 0..self.slots.len() {
            self.tell(at, Input::Clock { unix });
        }
    }

    fn take_kernel_events(&mut self) {
        let kernel = std::mem::replace(&mut self.kernel, Events::with_capacity(0));
        for event in &kernel {
            let Token(socket) = event.token();
            if event.token() == WAKER {
                // A store that works on a thread of its own may have news.
                (0..self.slots.len()).for_each(|at| self.touch(at));
                continue;
            }
            let Some(Some(known)) = self.sockets.get(socket) else { continue };
            match known.kind {
                SocketKind::Attempt { .. } => self.attempt_ready(socket),
                SocketKind::QueryStream { .. } if event.is_writable() => self.query_writable(socket),
                _ => {}
            }
            if event.is_writable() {
                self.mark_unwritten(socket);
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                self.mark_readable(socket);
            }
        }
        self.kernel = kernel;
    }

    fn fire_timers(&mut self) {
        let now = self.clock.now();
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Node(slot) => self.tell(slot, Input::Deadline),
                Timer::Socket(socket) => self.socket_due(socket),
                Timer::Dial(dial) => {
                    if let Some(Dial { stage: DialStage::Racing(race), .. }) = self.dials.get_mut(&dial) {
                        race.handle_deadline(now);
                        self.drive_race(dial);
                    }
                }
                Timer::Resolver => {
                    self.resolver.handle_deadline(now);
                    self.drive_resolver();
                }
            }
        }
    }

    /// Does all that nodes want, commits their stores, writes what is queued.
    fn settle(&mut self) {
        let mut flushed = Vec::new();
        while let Some(at) = self.dirty.pop_front() {
            if self.events.len() >= self.limits.events {
                self.dirty.push_front(at);
                break;
            }
            if let Some(slot) = &mut self.slots[at] {
                slot.is_dirty = false;
                self.drain(at);
                flushed.push(at);
            }
        }
        let now = self.clock.now();
        for at in flushed {
            if self.slots[at].as_mut().is_some_and(|slot| slot.node.flush(now)) {
                self.drain(at);
                // What it wanted because of that may be for its store again: the next step commits it.
                self.touch(at);
            }
            let due = self.slots[at].as_ref().and_then(|slot| slot.node.deadline());
            self.timers.set(Timer::Node(at), due);
        }
        self.write_all();
    }

    /// Does what one node wants.
    fn drain(&mut self, at: usize) {
        let now = self.clock.now();
        while let Some(slot) = &mut self.slots[at] {
            if self.events.len() >= self.limits.events {
                return self.touch(at);
            }
            let id = slot.id;
            match slot.node.poll_output(now) {
                Some(Output::Event(event)) => self.events.push_back((id, event)),
                Some(Output::Send { conn, to, octets }) => self.send(at, conn, to, octets),
                Some(Output::Connect { conn, way }) => self.dial(at, conn, way),
                Some(Output::Reach { conn, to }) => self.reach(at, conn, to),
                Some(Output::Close { conn }) => self.close(at, conn),
                Some(Output::Store(_)) => debug_assert!(false, "a node keeps its store inside"),
                None => return,
            }
        }
    }

    fn send(&mut self, at: usize, conn: Conn, to: Option<SocketAddr>, octets: Vec<u8>) {
        let Some(&socket) = self.slots[at].as_ref().and_then(|slot| slot.conns.get(&conn)) else { return };
        match &mut self.sockets[socket] {
            Some(Socket { kind: SocketKind::Stream { stream, .. }, .. }) => match stream.send(&octets) {
                Ok(()) => self.mark_unwritten(socket),
                Err(fault) => self.fail(socket, Some(fault)),
            },
            _ => self.send_datagram(socket, to, octets),
        }
    }

    /// The node closes: what is queued goes out first.
    fn close(&mut self, at: usize, conn: Conn) {
        let Some(slot) = &mut self.slots[at] else { return };
        if let Some(dial) = slot.dials.remove(&conn) {
            return self.drop_dial(dial);
        }
        let Some(socket) = slot.conns.remove(&conn) else { return };
        let due = self.clock.now() + self.limits.patience;
        match &mut self.sockets[socket] {
            Some(Socket { kind: SocketKind::Stream { stream, closing, .. }, .. }) => {
                stream.finish();
                *closing = true;
                self.timers.set(Timer::Socket(socket), Some(due));
                self.mark_unwritten(socket);
                self.mark_readable(socket);
            }
            _ => {
                self.write_datagrams(socket);
                self.drop_socket(socket);
            }
        }
    }

    fn write_all(&mut self) {
        for socket in std::mem::take(&mut self.unwritten) {
            let Some(known) = &mut self.sockets[socket] else { continue };
            known.is_unwritten = false;
            let SocketKind::Stream { stream, .. } = &mut known.kind else {
                self.write_datagrams(socket);
                continue;
            };
            let was_congested = stream.is_congested();
            match stream.write(&mut self.stream_counters) {
                Ok(()) if was_congested && !stream.is_congested() => self.mark_readable(socket),
                Ok(()) => {}
                Err(fault) => self.fail(socket, Some(fault)),
            }
        }
    }

    /// Gives a node an input; its outputs are pulled when the step settles.
    pub(super) fn tell(&mut self, at: usize, input: Input<'_>) {
        let now = self.clock.now();
        if let Some(slot) = self.slots.get_mut(at).and_then(Option::as_mut) {
            slot.node.handle(now, input);
            self.touch(at);
        }
    }

    pub(super) fn touch(&mut self, at: usize) {
        if let Some(slot) = &mut self.slots[at]
            && !std::mem::replace(&mut slot.is_dirty, true)
        {
            self.dirty.push_back(at);
        }
    }

    pub(super) fn mark_readable(&mut self, socket: usize) {
        if let Some(Some(known)) = self.sockets.get_mut(socket)
            && !std::mem::replace(&mut known.is_queued, true)
        {
            self.readable.push_back(socket);
        }
    }

    pub(super) fn mark_unwritten(&mut self, socket: usize) {
        if let Some(Some(known)) = self.sockets.get_mut(socket)
            && known.kind.is_written()
            && !std::mem::replace(&mut known.is_unwritten, true)
        {
            self.unwritten.push(socket);
        }
    }
}
