//! Messages for everybody: told to who is there, and, with a life period, to who comes during it (OM-10, OM-11, O-05).

use super::*;
use crate::store::Row;

/// Inboxes looked at in one turn.
const PORTION: usize = 4096;

/// A broadcast being told to everybody who is there.
pub(super) struct Telling {
    sequence: Sequence,
    kept: Arc<Kept>,
    /// It has a life period: each confirms it.
    lives: bool,
    /// The inbox to go on with.
    next: usize,
    /// Who came later than this, in Unix seconds, was told at the login.
    before: u32,
    /// Who came while this goes on: told at the login too.
    came: HashSet<Inbox>,
}

/// What of a broadcast with a life period waits for other rooms.
pub(super) struct Copy {
    pub(super) sequence: Sequence,
    pub(super) inboxes: Vec<Inbox>,
    pub(super) kept: Kept,
}

impl Hub {
    /// Takes a broadcast for everybody here and in these rooms; or it came from one.
    pub(super) fn log_broadcast(
        &mut self,
        now: Time,
        period: Option<(u64, u64)>,
        kept: Kept,
        (rooms, came_from_room): (Vec<Inbox>, bool),
    ) {
        let hash = kept.hash;
        if period.is_some() && self.broadcasts.len() >= self.config.max_broadcasts {
            if !came_from_room {
                return self.refuse_waiting(hash, 507);
            }
            // It is not to hold up what else that room has for people here.
            self.counters.room_broadcasts_full += 1;
            return self.refuse_waiting(hash, 403);
        }
        self.counters.messages += 1;
        let Some((start, end)) = period else {
            let sequence = self.number();
            let relay = Relay { kept: false, period: None, to: Vec::new() };
            let relayed = Kept { relay: Some(relay), ..kept.clone() };
            for room in rooms {
                self.pass_on(now, room, sequence, &relayed);
            }
            self.remember(sequence, &kept);
            self.tell(sequence, Arc::new(kept), false, u32::MAX);
            return self.answer_all(hash, Answer { code: 200, state: Some(State::Routed) });
        };
        let second = |unix: u64| u32::try_from(unix).unwrap_or(u32::MAX);
        let (kept, period) = (Kept { expires: second(end), ..kept }, (second(start), second(end)));
        let mut ops = Vec::with_capacity(1);
        let copy = self.copy_for_rooms(rooms, &kept, period, &mut ops);
        let sequence = self.number();
        self.remember(sequence, &kept);
        let broadcast = Broadcast { period, kept };
        ops.push(rows::put_broadcast(sequence, &broadcast));
        self.broadcasts.insert(sequence, Arc::new(broadcast));
        self.sweep.expects(second(start));
        self.sweep.expects(second(end));
        self.persist(ops, Effect::Broadcast { hash, sequence, copy });
    }

    /// Other rooms get what lives for a time as any message: it waits for them in the log.
    fn copy_for_rooms(
        &mut self,
        inboxes: Vec<Inbox>,
        kept: &Kept,
        period: (u32, u32),
        ops: &mut Vec<Op>,
    ) -> Option<Copy> {
        if inboxes.is_empty() {
            return None;
        }
        let sequence = self.number();
        let relay = Some(Relay { kept: true, period: Some(period), to: Vec::new() });
        let only = inboxes.first().copied().filter(|_| inboxes.len() == 1);
        let kept = Kept { relay, only, ..kept.clone() };
        if only.is_none() {
            self.shares.insert(sequence, inboxes.len() as u32);
            ops.extend(rows::put_shares(sequence, &inboxes));
        }
        ops.push(rows::put_message(sequence, &kept));
        let item = queue::Item::new(sequence, kept.expires, only.is_none(), kept.size());
        inboxes.iter().for_each(|inbox| self.queues.push(*inbox, item));
        self.counters.stored += inboxes.len() as u64;
        self.remember(sequence, &kept);
        Some(Copy { sequence, inboxes, kept })
    }

    /// A broadcast is durable: if its time has begun it is told to who is there, otherwise the sweep begins it.
    pub(super) fn begin_broadcast(&mut self, now: Time, sequence: Sequence) {
        let unix = self.unix(now);
        if self.broadcasts.get(&sequence).is_some_and(|broadcast| is_current(broadcast, unix)) {
            self.tell_everybody(sequence, u32::MAX);
        }
    }

    fn tell_everybody(&mut self, sequence: Sequence, before: u32) {
        if let Some(broadcast) = self.broadcasts.get(&sequence) {
            let kept = Arc::new(broadcast.kept.clone());
            self.tell(sequence, kept, true, before);
        }
    }

    fn tell(&mut self, sequence: Sequence, kept: Arc<Kept>, lives: bool, before: u32) {
        self.tellings.push_back(Telling { sequence, kept, lives, next: 0, before, came: HashSet::default() });
    }

    /// Goes on telling, a portion.
    pub(super) fn tell_broadcasts(&mut self, now: Time) {
        let Some(telling) = self.tellings.front_mut() else { return };
        let (mut inboxes, next) = self.presence.next_online(telling.next, PORTION, telling.before);
        inboxes.retain(|inbox| !telling.came.contains(inbox));
        telling.next = next.unwrap_or(0);
        let (sequence, kept, lives) = (telling.sequence, telling.kept.clone(), telling.lives);
        if next.is_none() {
            self.tellings.pop_front();
        }
        for inbox in inboxes {
            match lives {
                true => self.hand_broadcast(now, inbox, sequence, &kept),
                false => drop(self.pass_on(now, inbox, sequence, &kept)),
            }
        }
    }

    fn hand_broadcast(&mut self, now: Time, inbox: Inbox, sequence: Sequence, kept: &Kept) {
        if !self.is_leaving(inbox, sequence)
            && self.open_mailbox(inbox)
            && !self.is_under_way(inbox, sequence)
        {
            self.hand_over(now, inbox, sequence, kept.clone(), mailbox::Cargo::Broadcast);
            self.dismiss(inbox);
        }
    }

    /// Somebody came: which broadcasts of this time are still to be told?
    pub(super) fn ask_seen(&mut self, now: Time, inbox: Inbox) {
        let unix = self.unix(now);
        // One that is not durable yet is told once it is, to whoever is there then.
        let waits = |sequence: &Sequence| {
            self.effects.iter().any(|(_, effect)| {
                matches!(effect, Effect::Broadcast { sequence: waiting, .. } if waiting == sequence)
            })
        };
        let current: Vec<Sequence> = self
            .broadcasts
            .iter()
            .filter(|(sequence, broadcast)| is_current(broadcast, unix) && !waits(sequence))
            .map(|(sequence, _)| *sequence)
            .collect();
        for broadcast in current {
            for telling in self.tellings.iter_mut().filter(|telling| telling.sequence == broadcast) {
                telling.came.insert(inbox);
            }
            let question = Question::Seen { inbox, broadcast };
            self.ask_row(question, rows::SEEN, rows::pair_key(broadcast, inbox));
        }
    }

    pub(super) fn seen_found(
        &mut self,
        now: Time,
        inbox: Inbox,
        sequence: Sequence,
        found: Result<Vec<Row>, Fault>,
    ) {
        // A store that cannot be read might have it: rather late than twice. The next login asks again.
        if !found.is_ok_and(|rows| rows.is_empty()) {
            return;
        }
        let unix = self.unix(now);
        if let Some(broadcast) = self.broadcasts.get(&sequence).cloned()
            && is_current(&broadcast, unix)
        {
            self.hand_broadcast(now, inbox, sequence, &broadcast.kept);
        }
    }

    /// Begins those whose time has come, ends those whose time is over.
    pub(super) fn turn_broadcasts(&mut self, last: u64, unix: u64, surely: u64) {
        let begun = |broadcast: &Broadcast| (last + 1..=unix).contains(&u64::from(broadcast.period.0));
        let begin: Vec<(Sequence, u32)> = self
            .broadcasts
            .iter()
            .filter(|(_, broadcast)| begun(broadcast) && is_current(broadcast, unix))
            .map(|(sequence, broadcast)| (*sequence, broadcast.period.0))
            .collect();
        begin.into_iter().for_each(|(sequence, start)| self.tell_everybody(sequence, start));
        let over = self.broadcasts.iter().filter(|(_, broadcast)| u64::from(broadcast.period.1) <= surely);
        let over: Vec<Sequence> = over.map(|(sequence, _)| *sequence).collect();
        for sequence in over {
            self.broadcasts.remove(&sequence);
            let seen = rows::delete_pairs(rows::SEEN, sequence);
            let mut ops = vec![rows::delete_log(rows::BROADCAST, sequence, sequence), seen];
            self.known.keep([sequence].into_iter(), &mut ops);
            self.submit(ops);
        }
        for broadcast in self.broadcasts.values() {
            let (start, end) = broadcast.period;
            self.sweep.expects(if u64::from(start) > unix { start } else { end });
        }
    }
}

fn is_current(broadcast: &Broadcast, unix: u64) -> bool {
    (u64::from(broadcast.period.0)..u64::from(broadcast.period.1)).contains(&unix)
}
