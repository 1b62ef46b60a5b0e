//! Giving messages their numbers: what is kept goes into the log and the queues, the rest is passed on.

use super::*;

impl Hub {
    /// Gives a message its number, and keeps it or passes it on.
    pub(super) fn log(&mut self, now: Time, intake: Intake) {
        let Intake { hash, content, from, message, apps, found, rooms, away, origin, .. } = intake;
        let users: Vec<Arc<User>> = found.into_iter().flatten().collect();
        let nobody = users.is_empty() && apps.is_empty() && rooms.is_empty();
        if nobody && matches!(message.to, To::Named(_)) {
            return self.refuse_waiting(hash, 404);
        }
        let unix = u32::try_from(self.unix(now)).unwrap_or(u32::MAX);
        let expires = unix.saturating_add(message.ttl);
        let mut kept = Kept {
            sent: origin.as_ref().map_or(unix, |origin| origin.sent.min(unix)),
            expires,
            only: None,
            hash,
            content,
            relay: (!away.is_empty()).then_some(Relay { kept: message.store, period: None, to: away }),
            from,
            content_type: message.content_type,
            body: message.body,
        };
        if !self.rooms_have_room(&rooms, kept.size()) && (message.store || message.period.is_some()) {
            self.counters.room_full += 1;
            return self.refuse_waiting(hash, 507);
        }
        if message.kind == Kind::Broadcast {
            return self.log_broadcast(now, message.period, kept, (rooms, origin.is_some()));
        }
        let keeps = |user: &&Arc<User>| message.store && user.keep;
        let mut inboxes: Vec<Inbox> =
            users.iter().filter(keeps).flat_map(|user| user.inboxes.iter().copied()).collect();
        let passing = users.iter().filter(|user| !keeps(user)).flat_map(|user| user.inboxes.iter().copied());
        let mut passing: Vec<Inbox> = passing.collect();
        if message.store { &mut inboxes } else { &mut passing }.extend(apps.into_iter().chain(rooms));
        // Who is named twice gets it once.
        for some in [&mut inboxes, &mut passing] {
            some.sort_unstable();
            some.dedup();
        }
        if !inboxes.is_empty() && self.queues.total() + inboxes.len() > self.config.max_stored {
            self.counters.stored_full += 1;
            return self.refuse_waiting(hash, 507);
        }
        self.counters.messages += 1;
        let mut ops = Vec::with_capacity(1);
        let sequence = self.number();
        let size = kept.size();
        inboxes.retain(|inbox| self.rooms.is_room(*inbox) || self.has_room(*inbox, size));
        self.remember(sequence, &kept);
        let mut routed = false;
        for inbox in passing {
            routed |= self.pass_on(now, inbox, sequence, &kept);
        }
        if inboxes.is_empty() {
            let state = if routed { State::Routed } else { State::Dropped };
            return self.answer_all(hash, Answer { code: 200, state: Some(state) });
        }
        let shared = inboxes.len() > 1;
        if shared {
            self.shares.insert(sequence, inboxes.len() as u32);
            ops.extend(rows::put_shares(sequence, &inboxes));
        } else {
            kept.only = inboxes.first().copied();
        }
        ops.push(rows::put_message(sequence, &kept));
        let item = queue::Item::new(sequence, expires, shared, size);
        inboxes.iter().for_each(|inbox| self.queues.push(*inbox, item));
        self.counters.stored += inboxes.len() as u64;
        let online = inboxes.iter().any(|inbox| self.presence.seat(*inbox).is_some());
        let state = if online { State::Queued } else { State::Stored };
        self.sweep.expects(expires);
        self.persist(ops, Effect::Kept { hash, sequence, state, inboxes, kept });
    }

    /// Remembers the id of a message. The oldest goes for a new one.
    pub(super) fn remember(&mut self, sequence: Sequence, kept: &Kept) {
        let Kept { hash, content, expires, .. } = *kept;
        let known = Known { sequence, hash, content, until: known::until(expires) };
        self.counters.known_evicted += u64::from(self.known.remember(known));
    }
}
