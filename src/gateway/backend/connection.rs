//! Connections, streams cut into messages, and datagrams from addresses that are nobody's yet.

use super::*;

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
        let Some(peer) = self.peers[at].as_mut() else { return };
        let id = peer.id;
        let mut frames = std::mem::take(&mut peer.frames);
        frames.push(octets);
        let result = frames.drain(self.config.family, |message| {
            self.message(now, at, message);
            self.peers[at].as_ref().is_some_and(|peer| peer.id == id)
        });
        let Some(peer) = self.peers[at].as_mut().filter(|peer| peer.id == id) else { return };
        if frames.is_partial() {
            peer.partial_since.get_or_insert(now);
        } else {
            peer.partial_since = None;
        }
        peer.frames = frames;
        if let Err(error) = result {
            self.malformed(at, &error.to_string());
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
        match message.body {
            Body::Register if !self.config.probe_addresses || self.validated.get(&from).is_some() => {
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

    fn message(&mut self, now: Time, at: usize, octets: &[u8]) {
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
            Opened::Malformed(error) => return self.malformed(at, &error.to_string()),
        };
        self.counters.messages += 1;
        peer.heard = now;
        match (&mut peer.session, message.body) {
            (_, Body::Register) => self.register(now, at, &message),
            (None, Body::Deregister) => {
                let outcome = Body::DeregisterAnswer(Outcome::refused(Reason::NOT_REGISTERED));
                self.answer_stranger(at, &message, &outcome);
            }
            (None, _) => self.counters.unexpected += 1,
            (Some(_), _) => self.session_message(now, at, &message),
        }
    }

    /// A stream that cannot be read is closed; a datagram that cannot be read is dropped.
    fn malformed(&mut self, at: usize, why: &str) {
        self.counters.malformed += 1;
        let Some(peer) = &self.peers[at] else { return };
        if peer.path.1.is_none() {
            self.outputs.push_back(Output::Close { conn: peer.path.0 });
            self.lost(
                at,
                Fault::new(Status::Malformed, format!("the gateway sent what cannot be read: {why}")),
            );
        }
    }

    /// Closes what is still open, without an event.
    pub(super) fn close(&mut self, at: usize) {
        if let Some(peer) = &self.peers[at]
            && peer.path.1.is_none()
        {
            self.outputs.push_back(Output::Close { conn: peer.path.0 });
        }
        self.remove(at);
    }

    /// A gateway is gone; its connection is closed already or will be.
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
