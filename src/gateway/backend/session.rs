//! What a registered gateway says, and what it is told.

use super::*;

impl Backend {
    pub(super) fn session_message(&mut self, now: Time, at: usize, message: &Message<'_>) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        let (id, (conn, to)) = (peer.id, peer.path);
        let Some(session) = &mut peer.session else { return };
        let (kind, answer) = message.body.kind();
        let tag = message.header.tag;
        if answer {
            if let Some((cargo, _)) = session.association.answered(message) {
                self.answered(at, cargo);
            } else if kind != Kind::Heartbeat {
                self.counters.unexpected += 1;
            }
            return;
        }
        if kind == Kind::Heartbeat {
            let octets = session.association.message(tag, &Body::HeartbeatAnswer);
            self.outputs.push_back(Output::Send { conn, to, octets });
            return;
        }
        if !matches!(kind, Kind::Result | Kind::Features | Kind::Deregister) {
            return self.counters.unexpected += 1;
        }
        let is_full = self.effects.len() >= self.config.max_pending || session.waiting.len() >= MAX_WAITING;
        if kind != Kind::Deregister && is_full {
            return self.counters.overloaded += 1;
        }
        let novelty = session.association.admit(message);
        if novelty == Novelty::Unexpected {
            return self.counters.unexpected += 1;
        }
        let is_repeated = novelty == Novelty::Repeated;
        let report = match message.body {
            Body::Result(record) => Waiting::new(kind, tag, record),
            Body::Features { app, words } => {
                Waiting::new(kind, tag, (app, words.iter().collect::<Vec<u32>>()))
            }
            _ => Waiting::new(kind, tag, ()),
        };
        // What waits for the disk is answered once it is there. A plain peer cannot tell two answers apart, so it must
        // not get one for each time it asked.
        if session.is_waiting(&report) {
            self.counters.repeated += 1;
            return;
        }
        if is_repeated {
            self.counters.repeated += 1;
            return self.acknowledge(id, kind, tag);
        }
        match message.body {
            Body::Result(record) => self.reported(now, at, record, report, tag),
            Body::Features { app, words } => self.features(now, at, app, words.iter().collect(), report, tag),
            _ => {
                let octets = session.association.message(tag, &Body::DeregisterAnswer(Outcome::OK));
                self.outputs.push_back(Output::Send { conn, to, octets });
                self.left(at, false);
            }
        }
    }

    fn reported(&mut self, now: Time, at: usize, record: Record, report: Waiting, tag: u16) {
        self.counters.reports += 1;
        let unix = self.unix(now);
        let Some(peer) = self.peers[at].as_ref() else { return };
        let Some(session) = &peer.session else { return };
        let key = ResultKey::new(record.remote, record.protocol);
        let vote = Vote { voter: session.voter, app: record.app, unix, trusted: session.trusted };
        let group = &self.groups[session.group];
        let (id, group_at) = (peer.id, session.group);
        let renewed = group.word(&key, &vote.voter).is_some_and(|word| {
            word.app == vote.app
                && unix < word.unix.saturating_add(self.policy.renew)
                && word.trusted == vote.trusted
        });
        // What waits for the disk comes after what is known, and before what is said now.
        if renewed && !self.waiting_words.contains_key(&(group_at, key, vote.voter)) {
            return self.acknowledge(id, Kind::Result, tag);
        }
        let op = rows::put_vote(&group.name, &key, &vote.voter, vote.app, unix);
        *self.waiting_words.entry((group_at, key, vote.voter)).or_default() += 1;
        self.persist(vec![op], Effect::Vote { peer: id, group: group_at, key, vote, record, tag, report });
        self.waits(at, report);
    }

    fn features(&mut self, now: Time, at: usize, app: AppId, words: Vec<u32>, report: Waiting, tag: u16) {
        self.counters.features += 1;
        let unix = self.unix(now);
        let Some(peer) = self.peers[at].as_ref() else { return };
        let Some(session) = &peer.session else { return };
        let session_group = session.group;
        let (id, group) = (peer.id, &mut self.groups[session_group]);
        let (slot, gone) = group.features.take(app, session.voter, &self.feature_bounds);
        self.counters.features_evicted += gone.len() as u64;
        let mut rings: Vec<(AppId, Voter)> = gone.iter().map(|slot| (slot.app, slot.voter)).collect();
        rings.dedup();
        let gone_rings = rings.iter().map(|(app, voter)| (*app, state::voter_number(voter))).collect();
        let mut ops: Vec<Op> = gone.iter().map(|slot| rows::delete_feature(&group.name, slot)).collect();
        ops.push(rows::put_feature(&group.name, &slot, unix, &words));
        self.persist(
            ops,
            Effect::Features { peer: id, app, words, tag, report, gone: (session_group, gone_rings) },
        );
        self.waits(at, report);
    }

    fn waits(&mut self, at: usize, report: Waiting) {
        if let Some(session) = self.peers[at].as_mut().and_then(|peer| peer.session.as_mut()) {
            session.waiting.push(report);
        }
    }

    /// A report no longer waits for the disk.
    pub(super) fn waited(&mut self, id: u64, report: Waiting) {
        if let Some(session) =
            self.by_id.get(&id).and_then(|&at| self.peers[at].as_mut()).and_then(|peer| peer.session.as_mut())
            && let Some(at) = session.waiting.iter().position(|waiting| *waiting == report)
        {
            session.waiting.remove(at);
        }
    }

    pub(super) fn acknowledge(&mut self, id: u64, kind: Kind, tag: u16) {
        let Some(peer) = self.by_id.get(&id).and_then(|&at| self.peers[at].as_ref()) else { return };
        let Some(session) = &peer.session else { return };
        let body = if kind == Kind::Result { Body::ResultAnswer } else { Body::FeaturesAnswer };
        let octets = session.association.message(tag, &body);
        let (conn, to) = peer.path;
        self.outputs.push_back(Output::Send { conn, to, octets });
    }

    pub(super) fn answered(&mut self, at: usize, cargo: Cargo) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        match cargo {
            Cargo::Deregister => return self.left(at, true),
            Cargo::Telling => {}
        }
        let synced = peer.session.as_mut().is_some_and(|session| session.became_synced());
        if synced && let Some(info) = self.peers[at].as_ref().and_then(|peer| self.info(peer)) {
            self.outputs.push_back(Output::Event(BackendEvent::Synced(info)));
        }
        self.wake(at);
    }

    /// Makes the next messages for one gateway.
    pub(super) fn tell(&mut self, now: Time, at: usize) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        let (id, (conn, to)) = (peer.id, peer.path);
        let Some(session) = &mut peer.session else { return };
        let group = &self.groups[session.group];
        let mut sent = peer::Told::default();
        let rules = self.rules.view(Some(session.group));
        session.tell(now, id, rules, group, &mut sent);
        self.counters.results_sent += sent.records;
        self.counters.rules_sent += sent.rules;
        if sent.messages.is_empty() {
            return;
        }
        self.outputs.extend(sent.messages.into_iter().map(|octets| Output::Send { conn, to, octets }));
        self.rearm(now, at);
    }
}
