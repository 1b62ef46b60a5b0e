//! What time brings: messages that expire, ids that may be forgotten, broadcasts that begin and end.

use super::*;
use crate::store::Row;

/// Rows of the log looked at in one turn.
const PAGE: usize = 512;

/// How long a revocation is remembered, in seconds: a ticket is good for a week.
const REVOKED: u64 = 8 * 86_400;

/// A walk through the log, when something in it may have expired.
pub(super) struct Sweep {
    due: Time,
    /// Unix seconds of the last look.
    last: u64,
    /// The first thing that expires, as far as is known.
    earliest: u32,
    /// What the walk under way has found so far.
    next_earliest: u32,
    walking: bool,
}

impl Sweep {
    pub(super) const fn new(due: Time, unix: u64) -> Sweep {
        // Nothing is known of what the store holds: the first look walks.
        Sweep { due, last: unix, earliest: 0, next_earliest: u32::MAX, walking: false }
    }

    pub(super) const fn due(&self) -> Time {
        self.due
    }

    /// Something will expire then.
    pub(super) fn expects(&mut self, unix: u32) {
        self.earliest = self.earliest.min(unix);
        self.next_earliest = self.next_earliest.min(unix);
    }
}

impl Hub {
    pub(super) fn sweep(&mut self, now: Time) {
        if now < self.sweep.due {
            return;
        }
        self.sweep.due = now + self.config.sweep;
        let unix = self.unix(now);
        let last = std::mem::replace(&mut self.sweep.last, unix);
        self.turn_broadcasts(last, unix);
        self.forget_ids(unix);
        self.forget_revocations(unix);
        // Whoever a failing store had left waiting.
        let behind: Vec<Inbox> = self.mailboxes.keys().copied().collect();
        behind.into_iter().for_each(|inbox| self.writable(inbox));
        if !self.sweep.walking && u64::from(self.sweep.earliest) <= unix {
            self.sweep.walking = true;
            self.sweep.next_earliest = u32::MAX;
            self.walk(Sequence(0));
        }
    }

    fn walk(&mut self, from: Sequence) {
        let fetch = Fetch {
            ticket: 0,
            table: rows::MESSAGE,
            from: from.0.to_be_bytes().to_vec(),
            to: (i64::MAX as u64).to_be_bytes().to_vec(),
            limit: PAGE,
            follow: None,
        };
        self.ask(Question::Sweep, fetch);
    }

    pub(super) fn swept(&mut self, now: Time, found: Result<Vec<Row>, Fault>) {
        let unix = self.unix(now);
        let found = found.unwrap_or_default();
        let mut ops = Vec::new();
        let mut last = Sequence(0);
        for row in &found {
            let Some(sequence) = rows::read_u64(&row.key).map(Sequence) else { continue };
            last = sequence;
            let Some(kept) = rows::read_message(&row.value) else {
                self.counters.unreadable += 1;
                continue;
            };
            if u64::from(kept.expires) > unix {
                self.sweep.next_earliest = self.sweep.next_earliest.min(kept.expires);
                continue;
            }
            match kept.only {
                Some(inbox) if self.is_under_way(inbox, sequence) || self.is_leaving(inbox, sequence) => {
                    // Handed over in time: it goes when it is confirmed.
                }
                Some(inbox) => {
                    self.counters.expired += 1;
                    ops.push(rows::delete_queue(inbox, sequence, sequence));
                    ops.push(rows::delete_log(rows::MESSAGE, sequence, sequence));
                    self.lighten(inbox, kept.size());
                }
                // The rows that still point at it are passed over, and go, when they are met.
                None => {
                    self.counters.expired += 1;
                    self.shares.remove(&sequence);
                    ops.push(rows::delete_log(rows::MESSAGE, sequence, sequence));
                }
            }
        }
        if !ops.is_empty() {
            self.submit(ops);
        }
        if found.len() == PAGE {
            self.walk(Sequence(last.0 + 1));
        } else {
            self.sweep.walking = false;
            self.sweep.earliest = self.sweep.next_earliest;
        }
    }

    /// Those so old that nothing which was given out before them is good any more.
    fn forget_revocations(&mut self, unix: u64) {
        let over: Vec<Inbox> =
            self.revoked.iter().filter(|(_, at)| *at + REVOKED <= unix).map(|(inbox, _)| *inbox).collect();
        for inbox in over {
            self.revoked.remove(&inbox);
            let key = inbox.0.to_be_bytes().to_vec();
            self.submit(vec![Op::Delete { table: rows::REVOKED, key }]);
        }
    }

    /// The oldest ids whose time is over.
    fn forget_ids(&mut self, unix: u64) {
        let mut newest = None;
        while let Some((sequence, hash)) = self.known_order.first_key_value() {
            let over = self.known.get(hash).is_none_or(|(_, known)| u64::from(known.until) <= unix);
            if !over {
                break;
            }
            newest = Some(*sequence);
            let hash = *hash;
            self.known_order.pop_first();
            self.known.remove(&hash);
        }
        if let Some(newest) = newest {
            self.submit(vec![rows::delete_log(rows::KNOWN, Sequence(0), newest)]);
        }
    }
}
