//! Connections, streams cut into messages, and datagrams from addresses that are nobody's yet.

use super::*;
use crate::gateway::Token;

/// Longest body that is read before a registration. What is legal then has none; a report that comes too early has one
/// of this length at the most, and is passed over.
const STRANGER_BODY: usize = 64;

impl Backend {
    pub(super) fn accepted(&mut self, now: Time, conn: Conn, remote: Remote) {
        if remote.transport == Transport::Datagram {
            self.listeners.insert(conn, remote);
            return;
        }
        self.counters.connections += 1;
        if self.by_path.len() >= self.config.max_gateways {
            self.counters.turned_away += 1;
            self.outputs.push_back(Output::Close { conn });
            return;
        }
        self.insert(now, (conn, None), remote);
    }

    fn insert(&mut self, now: Time, path: Path, remote: Remote) -> usize {
        self.next_id += 1;
        let peer = Peer::new(self.next_id, path, remote, now, now + self.config.patience);
        let at = self.free.pop().unwrap_or_else(|| {
            self.peers.push(None);
            self.is_ready.push(false);
            self.peers.len() - 1
        });
        self.timers.insert((peer.timer, at));
        self.by_path.insert(path, at);
        self.peers[at] = Some(peer);
        at
    }

    pub(super) fn received(&mut self, now: Time, path: Path, octets: &[u8]) {
        let Some(&at) = self.by_path.get(&path) else {
            if path.1.is_some() {
                self.stray(now, path, octets);
            }
            return;
        };
        if path.1.is_some() {
            return self.message(now, at, octets);
        }
        self.stream(now, path, at, octets);
    }

    /// The next octets of a stream. A registration gives its peer another id, so the peer is known by its path.
    fn stream(&mut self, now: Time, path: Path, at: usize, octets: &[u8]) {
        let family = self.config.family;
        let Some(peer) = self.peers[at].as_mut() else { return };
        let mut frames = std::mem::take(&mut peer.frames);
        let mut piece = octets;
        loop {
            let result = frames.next(family, &mut piece);
            let Some(peer) = self.peers[at].as_mut().filter(|peer| peer.path == path) else { return };
            let len = match &result {
                Ok(Some(message)) => Some(message.len()),
                Ok(None) => frames.announced(family),
                Err(error) => return self.unframed(at, error),
            };
            if peer.session.is_none() && len.is_some_and(|len| len > family.header_len() + STRANGER_BODY) {
                self.counters.strangers_too_long += 1;
                let detail = format!("a message of {} octets before registration", len.unwrap_or_default());
                return self.hang_up(at, Fault::new(Status::Malformed, detail));
            }
            let Ok(Some(message)) = result else { break };
            peer.partial_since = None;
            self.message(now, at, &message);
        }
        let Some(peer) = self.peers[at].as_mut() else { return };
        if frames.is_partial() {
            peer.partial_since.get_or_insert(now);
        }
        peer.frames = frames;
        if peer.partial_since.is_some() {
            self.rearm(now, at);
        }
    }

    /// A datagram from an address that is no gateway's.
    fn stray(&mut self, now: Time, path: Path, octets: &[u8]) {
        let (conn, Some(from)) = path else { return };
        let Some(listener) = self.listeners.get(&conn).copied() else { return };
        let Ok(message) = decode(self.config.family, octets) else {
            self.counters.foreign += 1;
            return;
        };
        let is_proven = self.validated.get(&from).is_some_and(|until| *until > now);
        match message.body {
            Body::Register if is_proven || !self.config.probe_addresses => {
                if self.by_path.len() >= self.config.max_gateways {
                    self.counters.turned_away += 1;
                    return;
                }
                self.validated.remove(&from);
                self.counters.connections += 1;
                let at = self.insert(now, path, Remote { remote: from, ..listener });
                self.message(now, at, octets);
            }
            Body::Register => {
                self.counters.probes += 1;
                let encoder = Encoder {
                    family: self.config.family,
                    source: message.header.destination,
                    destination: message.header.source,
                };
                let octets = encoder.message(self.cookie(from), &Body::Heartbeat);
                self.outputs.push_back(Output::Send { conn, to: Some(from), octets });
            }
            Body::HeartbeatAnswer if message.header.tag == self.cookie(from) => {
                while let Some((_, oldest, until)) = self.validated.oldest()
                    && (*until <= now || self.validated.len() >= MAX_VALIDATED)
                {
                    self.counters.proofs_evicted += u64::from(*until > now);
                    self.validated.remove(&oldest);
                }
                self.validated.put(from, now + VALIDATED_FOR);
            }
            _ => self.counters.foreign += 1,
        }
    }

    /// What only a host at `from` can have seen.
    fn cookie(&self, from: SocketAddr) -> u16 {
        let mut hasher = DefaultHasher::new();
        (self.cookie_key, from, self.cookie_key).hash(&mut hasher);
        (hasher.finish() as u16).max(1)
    }

    pub(super) fn message(&mut self, now: Time, at: usize, octets: &[u8]) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        let opened = match &peer.session {
            Some(session) => session.association.open(octets),
            None => match decode(self.config.family, octets) {
                Ok(message) => Opened::Message(message),
                Err(error) => Opened::Malformed(error),
            },
        };
        let message = match opened {
            Opened::Message(message) => message,
            Opened::Foreign => return self.counters.foreign += 1,
            Opened::Malformed(error) if matches!(error.what, Malformed::UnknownId(_)) => {
                return self.counters.unknown_ids += 1;
            }
            // Its end is known, so what comes after it can be read (DECISIONS 6, R-22).
            Opened::Malformed(_) => return self.counters.malformed += 1,
        };
        self.counters.messages += 1;
        peer.heard = now;
        match (&mut peer.session, message.body) {
            (_, Body::Register) => self.register_once_enrolled(now, at, &message, octets),
            (None, Body::Deregister) => {
                let outcome = Body::DeregisterAnswer(Outcome::refused(Reason::NOT_REGISTERED));
                self.answer_stranger(at, &message, &outcome);
            }
            (None, Body::Enrol { token }) if peer.path.1.is_none() => {
                self.redeem(now, at, &message, &Token(token));
            }
            (None, _) => self.counters.unexpected += 1,
            (Some(_), _) => self.session_message(now, at, &message),
        }
    }

    /// A stream that can no longer be cut into messages.
    fn unframed(&mut self, at: usize, error: &DecodeError) {
        self.counters.malformed += 1;
        let detail = format!("the gateway sent what cannot be read: {error}");
        self.hang_up(at, Fault::new(Status::Malformed, detail));
    }

    /// Ends a connection that is still open, and whose peer did not ask for it.
    pub(super) fn hang_up(&mut self, at: usize, fault: Fault) {
        self.close_stream(at);
        self.lost(at, fault);
    }

    /// Ends a connection that is still open, without an event.
    pub(super) fn close(&mut self, at: usize) {
        self.close_stream(at);
        self.remove(at);
    }

    /// A listening datagram socket is not one peer's to close.
    fn close_stream(&mut self, at: usize) {
        if let Some(peer) = &self.peers[at]
            && peer.path.1.is_none()
        {
            self.outputs.push_back(Output::Close { conn: peer.path.0 });
        }
    }

    /// A gateway is gone, and its connection closed.
    pub(super) fn lost(&mut self, at: usize, fault: Fault) {
        if let Some(info) = self.peers[at].as_ref().and_then(|peer| self.info(peer)) {
            self.counters.gone += 1;
            self.outputs.push_back(Output::Event(BackendEvent::Gone(info, fault)));
        }
        self.remove(at);
    }

    fn remove(&mut self, at: usize) {
        self.leave_group(at);
        if let Some(peer) = self.peers[at].take() {
            self.timers.remove(&(peer.timer, at));
            self.by_path.remove(&peer.path);
            self.free.push(at);
        }
    }
}
