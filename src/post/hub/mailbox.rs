//! Handing each receiver what waits for it: in the order of the log, a window at a time, each until it is confirmed.

use super::*;
use crate::store::Row;

/// How much waits for an inbox.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Depth {
    messages: u32,
    octets: u32,
    /// The highest that was handed over, in this life of the hub.
    handed: Sequence,
}

impl Depth {
    pub(super) fn add(&mut self, size: u32) {
        self.messages += 1;
        self.octets = self.octets.saturating_add(size);
    }
}

/// What is handed to somebody who is there. Gone as soon as there is nothing more.
pub(super) struct Mailbox {
    seat: Seat,
    /// All up to it is handed over, or gone.
    cursor: Sequence,
    under_way: BTreeMap<Sequence, Cargo>,
    /// The store has more beyond the cursor, as far as is known.
    behind: bool,
    /// The store is being asked.
    asking: bool,
    /// Something became durable while the store was asked.
    overtaken: bool,
    /// For how many rows.
    asked: usize,
}

/// What must be known of a message to remove it.
#[derive(Clone, Copy)]
pub(super) enum Cargo {
    /// The only receiver's, or one of several; octets.
    Queued { shared: bool, size: u32 },
    /// Of a queue that is emptied, and not counted any more.
    Purged { shared: bool },
    /// A broadcast with a life period.
    Broadcast,
}

/// The rows that a confirmation for more than was handed over may read.
const STRAY_LIMIT: usize = 64;
/// Rows of a stale queue removed at a time.
const PURGE_PAGE: usize = 256;

impl Hub {
    /// A receiver is there. What waits for it is handed over, all of it, from the oldest.
    pub fn online(&mut self, now: Time, inbox: Inbox, seat: Seat) {
        let unix = self.unix(now);
        self.presence.enter(inbox, seat, unix);
        let missed = self.stale.remove(&inbox).unwrap_or(0);
        if missed > 0 {
            let key = inbox.0.to_be_bytes().to_vec();
            self.submit(vec![Op::Delete { table: rows::STALE, key }]);
        }
        let waiting = self.depths.get(&inbox).map_or(0, |depth| depth.messages);
        self.send(seat, inbox, Frame::Welcome { missed, waiting });
        self.mailboxes.remove(&inbox);
        if waiting > 0 {
            let mailbox = Mailbox::new(seat, Sequence(0), true);
            self.mailboxes.insert(inbox, mailbox);
            self.pump(inbox);
        }
        self.ask_seen(now, inbox);
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
        let mut gone: Vec<(Sequence, Cargo)> = Vec::with_capacity(sequences.len());
        let mut stray = Vec::new();
        for sequence in sequences {
            let mailbox = self.mailboxes.get_mut(&inbox);
            match mailbox.and_then(|mailbox| mailbox.under_way.remove(sequence)) {
                Some(cargo) => gone.push((*sequence, cargo)),
                // Said twice: it leaves once.
                None if self.is_leaving(inbox, *sequence) => {}
                None => stray.push(*sequence),
            }
        }
        self.counters.confirmed += gone.len() as u64;
        self.counters.stray_confirmations += stray.len() as u64;
        gone.sort_by_key(|(sequence, _)| *sequence);
        self.take_out(inbox, &gone);
        // Handed over in an earlier session: the store knows whether there is anything to remove.
        for sequence in stray.into_iter().take(STRAY_LIMIT) {
            let key = rows::queue_key(inbox, sequence);
            self.ask_row(Question::Stray(inbox), rows::QUEUE, key);
        }
        self.pump(inbox);
        self.dismiss(inbox);
    }

    pub(super) fn stray_found(&mut self, inbox: Inbox, found: Result<Vec<Row>, Fault>) {
        let row = found.ok().and_then(|rows| rows.into_iter().next());
        let Some((_, sequence, shared, size)) = row.and_then(|row| rows::read_queue(&row.key, &row.value))
        else {
            return;
        };
        // While the store was asked, the same may have been said again.
        if self.is_leaving(inbox, sequence) {
            return;
        }
        if let Some(mailbox) = self.mailboxes.get_mut(&inbox) {
            mailbox.under_way.remove(&sequence);
        }
        self.take_out(inbox, &[(sequence, Cargo::Queued { shared, size })]);
    }

    /// Whether it is on its way out, and only the disk does not know yet.
    pub(super) fn is_leaving(&self, inbox: Inbox, sequence: Sequence) -> bool {
        self.leaving.contains(&(inbox, sequence))
    }

    pub(super) fn is_under_way(&self, inbox: Inbox, sequence: Sequence) -> bool {
        self.mailboxes.get(&inbox).is_some_and(|mailbox| mailbox.under_way.contains_key(&sequence))
    }

    /// Removes these from an inbox.
    fn take_out(&mut self, inbox: Inbox, gone: &[(Sequence, Cargo)]) {
        let ops = self.remove(inbox, gone);
        if !ops.is_empty() {
            let gone: Vec<Sequence> = gone.iter().map(|(sequence, _)| *sequence).collect();
            self.leaving.extend(gone.iter().map(|sequence| (inbox, *sequence)));
            self.persist(ops, Effect::Left { inbox, gone });
        }
    }

    /// What removes these from an inbox, and the messages that nobody waits for any more. They are in order.
    fn remove(&mut self, inbox: Inbox, gone: &[(Sequence, Cargo)]) -> Vec<Op> {
        let mut ops = Vec::new();
        let mut queued: Vec<Sequence> = Vec::with_capacity(gone.len());
        let mut alone: Vec<Sequence> = Vec::with_capacity(gone.len());
        for (sequence, cargo) in gone {
            let shared = match cargo {
                Cargo::Broadcast => {
                    let key = rows::seen_key(*sequence, inbox);
                    ops.push(Op::Put { table: rows::SEEN, key, value: Vec::new() });
                    continue;
                }
                Cargo::Queued { shared, size } => {
                    self.lighten(inbox, *size);
                    shared
                }
                Cargo::Purged { shared } => shared,
            };
            queued.push(*sequence);
            if !shared || self.is_last(*sequence) {
                alone.push(*sequence);
            }
        }
        // Numbers that follow each other leave together. Nothing of this inbox can be between them.
        runs(&queued).for_each(|(from, to)| ops.push(rows::delete_queue(inbox, from, to)));
        runs(&alone).for_each(|(from, to)| ops.push(rows::delete_log(rows::MESSAGE, from, to)));
        ops
    }

    pub(super) fn lighten(&mut self, inbox: Inbox, size: u32) {
        if let Some(depth) = self.depths.get_mut(&inbox) {
            depth.messages = depth.messages.saturating_sub(1);
            depth.octets = depth.octets.saturating_sub(size);
            if depth.messages == 0 {
                self.depths.remove(&inbox);
            }
        }
    }

    /// One receiver less. Whether it was the last.
    fn is_last(&mut self, sequence: Sequence) -> bool {
        let Some(left) = self.shares.get_mut(&sequence) else { return false };
        *left -= 1;
        let last = *left == 0;
        if last {
            self.shares.remove(&sequence);
        }
        last
    }

    /// Whether an inbox takes one more. One that is full becomes stale: its owner is told how much was missed.
    pub(super) fn has_room(&mut self, inbox: Inbox, size: u32) -> bool {
        if let Some(missed) = self.stale.get_mut(&inbox) {
            *missed = missed.saturating_add(1);
            return false;
        }
        let depth = self.depths.get(&inbox).copied().unwrap_or_default();
        if depth.messages < self.config.max_messages
            && depth.octets.saturating_add(size) <= self.config.max_octets
        {
            return true;
        }
        let missed = depth.messages.saturating_add(1);
        self.counters.stale_devices += 1;
        self.stale.insert(inbox, missed);
        let (key, value) = (inbox.0.to_be_bytes().to_vec(), missed.to_be_bytes().to_vec());
        self.submit(vec![Op::Put { table: rows::STALE, key, value }]);
        self.event(HubEvent::Stale { inbox, missed });
        self.purge(inbox);
        false
    }

    /// Empties a queue, a page at a time.
    pub(super) fn purge(&mut self, inbox: Inbox) {
        self.depths.remove(&inbox);
        self.mailboxes.remove(&inbox);
        self.purge_through(inbox, Sequence(self.next_sequence.saturating_sub(1)));
    }

    fn purge_through(&mut self, inbox: Inbox, through: Sequence) {
        let fetch = Fetch {
            ticket: 0,
            table: rows::QUEUE,
            from: rows::queue_key(inbox, Sequence(0)),
            to: rows::queue_key(inbox, through),
            limit: PURGE_PAGE,
            follow: None,
        };
        self.ask(Question::Purge { inbox, through }, fetch);
    }

    pub(super) fn purge_found(&mut self, inbox: Inbox, through: Sequence, found: Result<Vec<Row>, Fault>) {
        let Ok(found) = found else { return };
        let mut gone = Vec::with_capacity(found.len());
        let mut last = Sequence(0);
        for row in &found {
            if let Some((_, sequence, shared, _)) = rows::read_queue(&row.key, &row.value) {
                last = sequence;
                if !self.is_leaving(inbox, sequence) {
                    gone.push((sequence, Cargo::Purged { shared }));
                }
            }
        }
        self.take_out(inbox, &gone);
        if found.len() == PURGE_PAGE {
            // What was just removed is still on the disk: read on after it.
            let fetch = Fetch {
                ticket: 0,
                table: rows::QUEUE,
                from: rows::queue_key(inbox, Sequence(last.0 + 1)),
                to: rows::queue_key(inbox, through),
                limit: PURGE_PAGE,
                follow: None,
            };
            self.ask(Question::Purge { inbox, through }, fetch);
        }
    }

    /// A message for this inbox is durable.
    pub(super) fn arrived(&mut self, now: Time, inbox: Inbox, sequence: Sequence, kept: &Arc<Kept>) {
        let Some(seat) = self.presence.seat(inbox) else { return };
        if self.stale.contains_key(&inbox) {
            return;
        }
        let window = self.config.window;
        let before = Sequence(sequence.0 - 1);
        let mailbox = self.mailboxes.entry(inbox).or_insert_with(|| Mailbox::new(seat, before, false));
        mailbox.overtaken |= mailbox.asking;
        if mailbox.behind || mailbox.asking || mailbox.under_way.len() >= window {
            mailbox.behind = true;
            return;
        }
        let cargo = Cargo::Queued { shared: kept.only.is_none(), size: kept.size() };
        self.hand_over(now, inbox, sequence, kept, cargo);
    }

    /// Hands a message to who is there, which is not kept. Whether anybody was.
    pub(super) fn pass_on(&mut self, inbox: Inbox, sequence: Sequence, kept: &Kept) -> bool {
        let behind = self.mailboxes.get(&inbox).is_some_and(|mailbox| mailbox.behind || mailbox.asking);
        match self.presence.seat(inbox) {
            Some(seat) if !behind => {
                self.counters.routed += 1;
                let frame = Frame::Deliver(delivery(sequence, kept, false));
                self.send(seat, inbox, frame);
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
        kept: &Kept,
        cargo: Cargo,
    ) {
        let unix = self.unix(now);
        let Some(mailbox) = self.mailboxes.get_mut(&inbox) else { return };
        // A broadcast says nothing of the queue, which may have older ones yet.
        if matches!(cargo, Cargo::Queued { .. }) {
            mailbox.cursor = mailbox.cursor.max(sequence);
        }
        if u64::from(kept.expires) <= unix {
            self.counters.expired += 1;
            return self.take_out(inbox, &[(sequence, cargo)]);
        }
        mailbox.under_way.insert(sequence, cargo);
        let seat = mailbox.seat;
        let redelivered = match (cargo, self.depths.get_mut(&inbox)) {
            (Cargo::Queued { .. }, Some(depth)) => {
                let before = depth.handed;
                depth.handed = before.max(sequence);
                sequence <= before
            }
            _ => false,
        };
        self.counters.delivered += 1;
        self.counters.redelivered += u64::from(redelivered);
        let frame = Frame::Deliver(delivery(sequence, kept, redelivered));
        self.send(seat, inbox, frame);
    }

    /// Opens a mailbox for somebody who is there, if there is none.
    pub(super) fn open_mailbox(&mut self, inbox: Inbox) -> bool {
        let Some(seat) = self.presence.seat(inbox) else { return false };
        let settled = self.settled;
        self.mailboxes.entry(inbox).or_insert_with(|| Mailbox::new(seat, settled, false));
        true
    }

    /// Asks for more when there is more and room for it.
    fn pump(&mut self, inbox: Inbox) {
        let window = self.config.window;
        let Some(mailbox) = self.mailboxes.get_mut(&inbox) else { return };
        if !mailbox.behind || mailbox.asking || mailbox.under_way.len() > window / 2 {
            return;
        }
        mailbox.asking = true;
        mailbox.overtaken = false;
        let fetch = Fetch {
            ticket: 0,
            table: rows::QUEUE,
            from: rows::queue_key(inbox, Sequence(mailbox.cursor.0 + 1)),
            to: rows::queue_key(inbox, Sequence(u64::MAX)),
            limit: window - mailbox.under_way.len(),
            follow: Some(rows::MESSAGE),
        };
        mailbox.asked = fetch.limit;
        let seat = mailbox.seat;
        self.ask(Question::Queue { inbox, seat }, fetch);
    }

    pub(super) fn queue_found(
        &mut self,
        now: Time,
        inbox: Inbox,
        seat: Seat,
        found: Result<Vec<Row>, Fault>,
    ) {
        let Some(mailbox) = self.mailboxes.get_mut(&inbox).filter(|mailbox| mailbox.seat == seat) else {
            return;
        };
        mailbox.asking = false;
        // A store that cannot be read is asked again when something else happens.
        let Ok(found) = found else { return };
        mailbox.behind = mailbox.overtaken || found.len() == mailbox.asked;
        let mut dangling = Vec::new();
        for row in found {
            let Some((_, sequence, shared, size)) = rows::read_queue(&row.key, &row.value) else {
                self.counters.unreadable += 1;
                continue;
            };
            if self.is_leaving(inbox, sequence) {
                // Passed over for good: a page of such rows would be asked for again and again until the disk is done.
                if let Some(mailbox) = self.mailboxes.get_mut(&inbox) {
                    mailbox.cursor = mailbox.cursor.max(sequence);
                }
                continue;
            }
            let cargo = Cargo::Queued { shared, size };
            match row.followed.as_deref().and_then(rows::read_message) {
                Some(kept) => self.hand_over(now, inbox, sequence, &kept, cargo),
                None => dangling.push((sequence, cargo)),
            }
        }
        // Shared messages that expired.
        if let (Some((last, _)), Some(mailbox)) = (dangling.last(), self.mailboxes.get_mut(&inbox)) {
            mailbox.cursor = mailbox.cursor.max(*last);
            self.counters.expired += dangling.len() as u64;
            self.take_out(inbox, &dangling);
        }
        self.pump(inbox);
        self.dismiss(inbox);
    }

    /// Closes a mailbox that has nothing more to do.
    pub(super) fn dismiss(&mut self, inbox: Inbox) {
        let idle = |mailbox: &Mailbox| !mailbox.behind && !mailbox.asking && mailbox.under_way.is_empty();
        if self.mailboxes.get(&inbox).is_some_and(idle) {
            self.mailboxes.remove(&inbox);
        }
    }
}

impl Mailbox {
    fn new(seat: Seat, cursor: Sequence, behind: bool) -> Mailbox {
        Mailbox {
            seat,
            cursor,
            under_way: BTreeMap::new(),
            behind,
            asking: false,
            overtaken: false,
            asked: 0,
        }
    }
}

fn delivery(sequence: Sequence, kept: &Kept, redelivered: bool) -> Delivery {
    Delivery {
        sequence,
        redelivered,
        from: kept.from.clone(),
        sent: kept.sent.into(),
        content_type: kept.content_type.clone(),
        body: kept.body.clone(),
    }
}

/// First and last of each run of numbers that follow each other.
fn runs(sequences: &[Sequence]) -> impl Iterator<Item = (Sequence, Sequence)> {
    sequences.chunk_by(|one, next| next.0 == one.0 + 1).filter_map(|run| Some((*run.first()?, *run.last()?)))
}
