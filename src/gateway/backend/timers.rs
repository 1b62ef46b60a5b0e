//! What is due: resends, silence, old results.

use super::*;

impl Backend {
    pub(super) fn tick(&mut self, now: Time) {
        while let Some(&(due, at)) = self.timers.first()
            && due <= now
        {
            self.timers.pop_first();
            self.peer_due(now, at);
        }
        if self.next_sweep <= now {
            self.next_sweep = now + SWEEP_EVERY;
            let before = self.unix(now).saturating_sub(self.config.result_ttl.as_secs());
            for group in 0..self.groups.len() {
                let (gone, news) = self.groups[group].expire(before, SWEEP, &self.policy);
                if news {
                    self.wake_group(group);
                }
                if gone.len() >= SWEEP {
                    self.next_sweep = now;
                }
                self.counters.results_expired += gone.len() as u64;
                self.forget(group, gone);
            }
        }
    }

    fn peer_due(&mut self, now: Time, at: usize) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        let ((conn, to), silence) = (peer.path, self.config.heartbeat * 3);
        if peer.partial_since.is_some_and(|since| since + self.config.patience <= now)
            || peer.session.is_none() && peer.opened + self.config.patience <= now
        {
            self.counters.silent += 1;
            return self.hang_up(at, Fault::new(Status::Timeout, "nothing whole came in time"));
        }
        if peer.session.is_some() && peer.heard + silence <= now {
            return self.hang_up(at, Fault::new(Status::Timeout, "three heartbeats were missed"));
        }
        if let Some(session) = &mut peer.session {
            let outputs = &mut self.outputs;
            let resent = &mut self.counters.resent;
            let failed = session.association.resend(now, |octets| {
                *resent += 1;
                outputs.push_back(Output::Send { conn, to, octets });
            });
            let tagged = session.association.is_tagged();
            if let Some((_, cargo)) = failed {
                self.counters.unanswered += 1;
                match cargo {
                    Cargo::Deregister => return self.left(at, true),
                    // A Hailpost gateway answers all it gets; a plain one may just not know the message.
                    Cargo::Telling if tagged => {
                        return self
                            .hang_up(at, Fault::new(Status::Timeout, "the gateway stopped answering"));
                    }
                    Cargo::Telling => self.answered(at, cargo),
                }
            }
        }
        self.rearm(now, at);
    }

    /// Puts the peer's timer where its next deadline is, if that is earlier than where it stands.
    pub(super) fn rearm(&mut self, now: Time, at: usize) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        let due = peer.due(&self.config);
        if due < peer.timer || peer.timer <= now {
            self.timers.remove(&(peer.timer, at));
            peer.timer = due;
            self.timers.insert((due, at));
        }
    }
}
