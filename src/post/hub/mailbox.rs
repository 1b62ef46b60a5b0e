//! Handing each receiver what waits for it: in the order of the log, a window at a time, each until it is confirmed.

use super::*;
use crate::store::Row;

/// What is handed to somebody who is there. Gone as soon as there is nothing more.
pub(super) struct Mailbox {
    seat: Seat,
    /// All of the queue up to it is handed over, or gone.
    cursor: Sequence,
    under_way: BTreeMap<Sequence, Cargo>,
    /// What the store is being asked for, and by which question: it may still answer one of an earlier mailbox.
    asked: Vec<Sequence>,
    question: u64,
}

/// Where it stays until it is confirmed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cargo {
    /// In the queue.
    Queued,
    /// Nowhere: a broadcast with a life period, whose confirmations are rows.
    Broadcast,
}

impl Hub {
    /// A receiver is there. What waits for it is handed over, all of it, from the oldest.
    pub fn online(&mut self, now: Time, inbox: Inbox, seat: Seat) {
        let unix = self.unix(now);
        self.online_from(now, inbox, seat, unix);
    }

    /// The same for one who is there since that Unix second.
    pub fn online_from(&mut self, now: Time, inbox: Inbox, seat: Seat, since: u64) {
        self.presence.enter(inbox, seat, since);
        self.heard(inbox);
        let missed = self.stale.remove(&inbox);
        if missed.is_some() {
            let key = inbox.0.to_be_bytes().to_vec();
            self.submit(vec![Op::Delete { table: rows::STALE, key }]);
        }
        let (waiting, _) = self.queues.depth(inbox);
        self.send(seat, inbox, Frame::Welcome { missed: missed.unwrap_or(0), waiting });
        self.begin_mailbox(inbox, seat);
        self.ask_seen(now, inbox);
    }

    /// Hands over what waits, from the oldest.
    pub(super) fn begin_mailbox(&mut self, inbox: Inbox, seat: Seat) {
        self.mailboxes.remove(&inbox);
        if self.queues.depth(inbox).0 > 0 {
            let mailbox = Mailbox::new(seat, Sequence(0));
            self.mailboxes.insert(inbox, mailbox);
            self.pump(inbox);
        }
    }

    /// A receiver is gone; nothing of what it did not confirm is.
    pub fn offline(&mut self, now: Time, inbox: Inbox, seat: Seat) {
        let unix = self.unix(now);
        if self.presence.leave(inbox, seat, unix) {
            self.mailboxes.remove(&inbox);
        }
    }

    /// There is room again towards this receiver.
    pub fn writable(&mut self, inbox: Inbox) {
        self.pump(inbox);
    }

    /// These are dealt with: they leave the queue.
    pub fn confirm(&mut self, _now: Time, inbox: Inbox, sequences: &[Sequence]) {
        let mut gone = Vec::with_capacity(sequences.len());
        let mut seen = Vec::new();
        for sequence in sequences {
            let mailbox = self.mailboxes.get_mut(&inbox);
            let cargo = mailbox.and_then(|mailbox| mailbox.under_way.remove(sequence));
            self.counters.stray_confirmations += u64::from(cargo.is_none());
            if cargo == Some(Cargo::Broadcast) {
                seen.push(*sequence);
            } else if *sequence <= self.settled
                && let Some(item) = self.queues.take(inbox, *sequence)
            {
                // Handed over in this session or an earlier one.
                gone.push((inbox, item));
            }
        }
        self.counters.confirmed += (gone.len() + seen.len()) as u64;
        let mut ops = self.remove(&gone, Why::Confirmed);
        if !seen.is_empty() {
            let key = |sequence: &Sequence| rows::pair_key(*sequence, inbox);
            let put = |sequence| Op::Put { table: rows::SEEN, key: key(sequence), value: Vec::new() };
            ops.extend(seen.iter().map(put));
            self.leaving.extend(seen.iter().map(|sequence| (inbox, *sequence)));
            self.persist(ops, Effect::Seen { inbox, seen });
        } else if !ops.is_empty() {
            self.submit(ops);
        }
        self.pump(inbox);
        self.dismiss(inbox);
    }

    /// Whether a broadcast was confirmed, and only the disk does not know yet.
    pub(super) fn is_leaving(&self, inbox: Inbox, sequence: Sequence) -> bool {
        self.leaving.contains(&(inbox, sequence))
    }

    pub(super) fn is_under_way(&self, inbox: Inbox, sequence: Sequence) -> bool {
        self.mailboxes.get(&inbox).is_some_and(|mailbox| mailbox.under_way.contains_key(&sequence))
    }

    /// A message for this inbox is durable.
    pub(super) fn arrived(&mut self, now: Time, inbox: Inbox, sequence: Sequence, kept: &Kept) {
        let Some(seat) = self.presence.seat(inbox) else { return };
        if !self.queues.contains(inbox, sequence) {
            return;
        }
        let window = self.window(inbox);
        let before = Sequence(sequence.0 - 1);
        let mailbox = self.mailboxes.entry(inbox).or_insert_with(|| Mailbox::new(seat, before));
        let next = self.queues.after(inbox, mailbox.cursor, sequence).next();
        if next == Some(sequence) && mailbox.asked.is_empty() && mailbox.under_way.len() < window {
            self.hand_over(now, inbox, sequence, kept.clone(), Cargo::Queued);
        } else {
            self.pump(inbox);
        }
    }

    /// Hands a message to who is there, which is not kept. Whether anybody was.
    pub(super) fn pass_on(&mut self, now: Time, inbox: Inbox, sequence: Sequence, kept: &Kept) -> bool {
        let behind = self.mailboxes.get(&inbox).is_some_and(|mailbox| self.is_behind(inbox, mailbox));
        match self.presence.seat(inbox) {
            Some(seat) if !behind && self.is_reserved(sequence) => {
                self.counters.routed += 1;
                self.deliver(now, (inbox, seat), sequence, kept.clone(), false);
                true
            }
            // What is not kept cannot wait its turn.
            _ => {
                self.counters.dropped += 1;
                false
            }
        }
    }

    pub(super) fn hand_over(
        &mut self,
        now: Time,
        inbox: Inbox,
        sequence: Sequence,
        kept: Kept,
        cargo: Cargo,
    ) {
        let unix = self.surely(now);
        let Some(mailbox) = self.mailboxes.get_mut(&inbox) else { return };
        // A broadcast says nothing of the queue, which may have older ones yet.
        if cargo == Cargo::Queued {
            mailbox.cursor = mailbox.cursor.max(sequence);
        }
        if u64::from(kept.expires) <= unix {
            self.counters.expired += 1;
            return self.discard(inbox, sequence);
        }
        mailbox.under_way.insert(sequence, cargo);
        let seat = mailbox.seat;
        let redelivered = cargo == Cargo::Queued && self.queues.hand(inbox, sequence);
        self.counters.delivered += 1;
        self.counters.redelivered += u64::from(redelivered);
        self.deliver(now, (inbox, seat), sequence, kept, redelivered);
    }

    fn deliver(
        &mut self,
        now: Time,
        (inbox, seat): (Inbox, Seat),
        sequence: Sequence,
        kept: Kept,
        redelivered: bool,
    ) {
        match seat.broker {
            ROOMS => self.relay(now, seat, inbox, sequence, kept),
            _ => self.send(seat, inbox, Frame::Deliver(delivery(sequence, kept, redelivered))),
        }
    }

    /// What may be under way to a receiver.
    fn window(&self, inbox: Inbox) -> usize {
        if self.rooms.is_room(inbox) { self.config.room_window } else { self.config.window }
    }

    /// What is too late, or cannot be read, leaves the queue.
    fn discard(&mut self, inbox: Inbox, sequence: Sequence) {
        if let Some(item) = self.queues.take(inbox, sequence) {
            let ops = self.remove(&[(inbox, item)], Why::Expired);
            if !ops.is_empty() {
                self.submit(ops);
            }
        }
    }

    /// Opens a mailbox for somebody who is there, if there is none.
    pub(super) fn open_mailbox(&mut self, inbox: Inbox) -> bool {
        let Some(seat) = self.presence.seat(inbox) else { return false };
        let settled = self.settled;
        self.mailboxes.entry(inbox).or_insert_with(|| Mailbox::new(seat, settled));
        true
    }

    /// Asks for more when there is more and room for it.
    fn pump(&mut self, inbox: Inbox) {
        let window = self.window(inbox);
        let Some(mailbox) = self.mailboxes.get_mut(&inbox) else { return };
        if !mailbox.asked.is_empty() || mailbox.under_way.len() > window / 2 {
            return;
        }
        let next = self.queues.after(inbox, mailbox.cursor, self.settled);
        let asked: Vec<Sequence> = next.take(window - mailbox.under_way.len()).collect();
        if asked.is_empty() {
            return;
        }
        let keys = asked.iter().map(|sequence| sequence.0.to_be_bytes().to_vec()).collect();
        mailbox.asked = asked;
        let fetch = Fetch { ticket: 0, table: rows::MESSAGE, wanted: Wanted::Keys(keys) };
        let question = self.ask(Question::Messages(inbox), fetch);
        if let Some(mailbox) = self.mailboxes.get_mut(&inbox) {
            mailbox.question = question;
        }
    }

    pub(super) fn messages_found(
        &mut self,
        now: Time,
        inbox: Inbox,
        question: u64,
        found: Result<Vec<Row>, Fault>,
    ) {
        let mailbox = self.mailboxes.get_mut(&inbox).filter(|mailbox| mailbox.question == question);
        let Some(mailbox) = mailbox else { return };
        let asked = std::mem::take(&mut mailbox.asked);
        // A store that cannot be read is asked again when something else happens.
        let Ok(found) = found else { return };
        let mut found = found.into_iter().peekable();
        for sequence in asked {
            let row = found.next_if(|row| row.key == sequence.0.to_be_bytes());
            // What left meanwhile is nobody's.
            if !self.queues.contains(inbox, sequence) {
                continue;
            }
            match row.and_then(|row| rows::read_message(&row.value)) {
                Some(kept) => self.hand_over(now, inbox, sequence, kept, Cargo::Queued),
                None => {
                    self.counters.unreadable += 1;
                    self.discard(inbox, sequence);
                }
            }
        }
        self.pump(inbox);
        self.dismiss(inbox);
    }

    /// Whether something durable waits to be handed over.
    fn is_behind(&self, inbox: Inbox, mailbox: &Mailbox) -> bool {
        !mailbox.asked.is_empty() || self.queues.after(inbox, mailbox.cursor, self.settled).next().is_some()
    }

    /// Closes a mailbox that has nothing more to do.
    pub(super) fn dismiss(&mut self, inbox: Inbox) {
        let idle = |mailbox: &Mailbox| mailbox.under_way.is_empty() && !self.is_behind(inbox, mailbox);
        if self.mailboxes.get(&inbox).is_some_and(idle) {
            self.mailboxes.remove(&inbox);
        }
    }
}

impl Mailbox {
    const fn new(seat: Seat, cursor: Sequence) -> Mailbox {
        Mailbox { seat, cursor, under_way: BTreeMap::new(), asked: Vec::new(), question: 0 }
    }
}

fn delivery(sequence: Sequence, kept: Kept, redelivered: bool) -> Delivery {
    Delivery {
        sequence,
        redelivered,
        from: kept.from,
        sent: kept.sent.into(),
        content_type: kept.content_type,
        body: kept.body,
    }
}
