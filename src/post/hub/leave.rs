//! What leaves a queue, and what that writes: confirmed, expired, withdrawn, or of a device that is stale.

use super::*;

/// Whether those who are not the last of a shared message must be remembered: who saw it expire would see that again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    Confirmed,
    Expired,
}

impl Hub {
    /// What these write, which were taken out of their queues. The message of the last leaves too, and its id stays.
    pub(super) fn remove(&mut self, gone: &[(Inbox, queue::Item)], why: Why) -> Vec<Op> {
        let mut ops = Vec::new();
        let mut alone: Vec<Sequence> = Vec::with_capacity(gone.len());
        for (inbox, item) in gone {
            let sequence = item.sequence;
            if !item.is_shared() {
                alone.push(sequence);
            } else if self.is_last(sequence) {
                alone.push(sequence);
                ops.push(rows::delete_pairs(rows::SHARE, sequence));
                ops.push(rows::delete_pairs(rows::TAKEN, sequence));
            } else if why == Why::Confirmed {
                ops.push(rows::put_taken(sequence, *inbox));
            }
        }
        alone.sort_unstable();
        // Numbers that follow each other leave together.
        for run in alone.chunk_by(|one, next| next.0 == one.0 + 1) {
            if let (Some(from), Some(to)) = (run.first(), run.last()) {
                ops.push(rows::delete_log(rows::MESSAGE, *from, *to));
            }
        }
        self.known.keep(alone.into_iter(), &mut ops);
        ops
    }

    /// One receiver less. Whether it was the last.
    fn is_last(&mut self, sequence: Sequence) -> bool {
        let Some(left) = self.shares.get_mut(&sequence) else { return true };
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
        let (messages, octets) = self.queues.depth(inbox);
        if messages < self.config.max_messages && octets.saturating_add(size) <= self.config.max_octets {
            return true;
        }
        self.counters.stale_devices += 1;
        self.give_up(inbox, messages.saturating_add(1));
        false
    }

    /// An inbox is nobody's any more: all of it goes.
    pub(super) fn discard_all(&mut self, inbox: Inbox, ops: &mut Vec<Op>) {
        self.mailboxes.remove(&inbox);
        self.stale.remove(&inbox);
        self.silence.hear(inbox, 0);
        let gone: Vec<_> = self.queues.empty(inbox).into_iter().map(|item| (inbox, item)).collect();
        ops.extend(self.remove(&gone, Why::Confirmed));
        let key = || inbox.0.to_be_bytes().to_vec();
        ops.extend([rows::STALE, rows::HEARD].map(|table| Op::Delete { table, key: key() }));
    }

    /// An inbox is stale: its queue is emptied, and nothing is kept for it until its owner comes and is told what was missed.
    pub(super) fn give_up(&mut self, inbox: Inbox, missed: u32) {
        self.stale.insert(inbox, missed);
        self.mailboxes.remove(&inbox);
        let gone: Vec<_> = self.queues.empty(inbox).into_iter().map(|item| (inbox, item)).collect();
        let mut ops = self.remove(&gone, Why::Confirmed);
        ops.push(rows::put_stale(inbox, missed));
        self.submit(ops);
        self.event(HubEvent::Stale { inbox, missed });
    }
}
