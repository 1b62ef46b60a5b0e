//! Who comes and who goes.

use super::*;

impl Backend {
    /// Whose enrolment waits for the disk is answered when the disk has it: its last registration, if its peer is still there.
    pub(super) fn register_once_enrolled(
        &mut self,
        now: Time,
        at: usize,
        message: &Message<'_>,
        octets: &[u8],
    ) {
        let Some(peer) = self.peers[at].as_ref() else { return };
        let is_awaited = |key: &KeyId| self.enrolments.contains_key(key) && !self.admitted.contains_key(key);
        match peer.remote.key.filter(is_awaited) {
            Some(key) => drop(self.early.insert(key, (at, peer.id, octets.to_vec()))),
            None => self.register(now, at, message),
        }
    }

    fn register(&mut self, now: Time, at: usize, message: &Message<'_>) {
        let Some(peer) = self.peers[at].as_ref() else { return };
        let tag = message.header.tag;
        // The answer was lost: say it again, and change nothing.
        if let Some(session) = &peer.session
            && session.tag == tag
            && tag != 0
        {
            let outcome = Outcome { result: 0, reason: Reason(session.number) };
            let octets = session.association.message(tag, &Body::RegisterAnswer(outcome));
            self.counters.repeated += 1;
            let (conn, to) = peer.path;
            self.outputs.push_back(Output::Send { conn, to, octets });
            return;
        }
        let key = peer.remote.key;
        let (group, trusted) = match self.admit(key) {
            Ok(admitted) => admitted,
            Err(reason) => {
                self.counters.refused += 1;
                self.outputs.push_back(Output::Event(BackendEvent::Refused { key, reason }));
                self.answer_stranger(at, message, &Body::RegisterAnswer(Outcome::refused(reason)));
                return self.close(at);
            }
        };
        if let Some(old) = key.and_then(|key| self.by_key.get(&key).copied()).filter(|old| *old != at) {
            self.hang_up(
                old,
                Fault::new(Status::Closed, "the gateway registered again on another connection"),
            );
        }
        self.leave_group(at);
        let Some(peer) = self.peers[at].as_mut() else { return };
        self.next_id += 1;
        peer.id = self.next_id;
        let voter = match key {
            Some(key) => Voter::Key(key),
            None => Voter::Address(peer.remote.remote.ip()),
        };
        let patience = Patience { timeout: self.config.timeout, sends: self.config.sends };
        let number = if tag != 0 { self.rng.next_u16() } else { 0 };
        let mut session = Session::new(self.config.family, &peer.remote, patience, group, voter, trusted);
        session.tag = tag;
        session.number = number;
        session.results_until = self.groups[group].published.head();
        session.rules_until = self.rules.head();
        let outcome = Outcome { result: 0, reason: Reason(number) };
        let octets = session.association.message(tag, &Body::RegisterAnswer(outcome));
        if tag != 0 {
            session.association.extend(epoch(tag, number));
        }
        let (conn, to) = peer.path;
        peer.session = Some(session);
        self.by_id.insert(peer.id, at);
        if let Some(key) = key {
            self.by_key.insert(key, at);
        }
        self.groups[group].members.push(at);
        self.counters.registrations += 1;
        self.outputs.push_back(Output::Send { conn, to, octets });
        if let Some(info) = self.peers[at].as_ref().and_then(|peer| self.info(peer)) {
            self.outputs.push_back(Output::Event(BackendEvent::Registered(info)));
        }
        self.rearm(now, at);
        self.wake(at);
    }

    /// The group of a gateway, and whether its word alone counts.
    fn admit(&mut self, key: Option<KeyId>) -> Result<(usize, bool), Reason> {
        let Some(key) = key else {
            let group = self.config.open_group.clone().ok_or(Reason::NOT_AUTHORISED)?;
            return Ok((self.group(&group), false));
        };
        let enrolment = self.admitted.get(&key).ok_or(Reason::NOT_AUTHORISED)?;
        if enrolment.barred {
            return Err(Reason::BARRED);
        }
        let (group, trusted) = (enrolment.group.clone(), enrolment.trusted);
        Ok((self.group(&group), trusted))
    }

    pub(super) fn answer_stranger(&mut self, at: usize, message: &Message<'_>, body: &Body<'_>) {
        let Some(peer) = &self.peers[at] else { return };
        let encoder = Encoder {
            family: self.config.family,
            source: message.header.destination,
            destination: message.header.source,
        };
        let (conn, to) = peer.path;
        self.outputs.push_back(Output::Send { conn, to, octets: encoder.message(message.header.tag, body) });
    }

    /// A gateway left in order, or was taken off.
    pub(super) fn left(&mut self, at: usize, by_backend: bool) {
        if let Some(gateway) = self.peers[at].as_ref().and_then(|peer| self.info(peer)) {
            self.outputs.push_back(Output::Event(BackendEvent::Deregistered { gateway, by_backend }));
        }
        self.close(at);
    }

    /// Ends the peer's registration and keeps its connection.
    pub(super) fn leave_group(&mut self, at: usize) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        let Some(session) = peer.session.take() else { return };
        self.by_id.remove(&peer.id);
        if let Some(key) = peer.remote.key {
            self.by_key.remove(&key);
        }
        self.groups[session.group].members.retain(|member| *member != at);
    }
}
