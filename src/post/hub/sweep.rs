//! What time brings: messages that expire, ids that may be forgotten, broadcasts that begin and end.

use super::*;

/// Messages looked at in one turn.
const PORTION: usize = 32_768;
/// The pause between two turns of a walk.
const PAUSE: Duration = Duration::from_millis(10);

/// How long a revocation is remembered, in seconds: a ticket is good for a week.
const REVOKED: u64 = 8 * 86_400;

/// A walk through all queues, when something in it may have expired.
pub(super) struct Sweep {
    due: Time,
    /// Unix seconds of the last look.
    last: u64,
    /// The first thing that expires, as far as is known.
    earliest: u32,
    /// What the walk under way has found so far.
    next_earliest: u32,
    /// Where the walk under way goes on.
    walking: Option<Inbox>,
    /// When the next look is due, once the walk is done.
    next: Time,
    /// The clock was set back: the next walk lets nothing live longer than what is kept now may.
    bounds: bool,
}

impl Sweep {
    pub(super) const fn new(due: Time, unix: u64) -> Sweep {
        // Nothing is known of what the store holds: the first look walks.
        Sweep {
            due,
            last: unix,
            earliest: 0,
            next_earliest: u32::MAX,
            walking: None,
            next: due,
            bounds: false,
        }
    }

    pub(super) const fn due(&self) -> Time {
        self.due
    }

    /// The clock was set back to this Unix second: everything is looked at once more.
    pub(super) fn turned_back(&mut self, unix: u64) {
        self.last = self.last.min(unix);
        self.earliest = 0;
        self.bounds = true;
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
        if self.sweep.walking.is_none() || self.sweep.next <= now {
            self.look(now);
        }
        match self.sweep.walking {
            Some(from) => self.walk(now, from),
            None => self.sweep.due = self.sweep.next,
        }
        if self.look_for_silent() {
            self.sweep.due = self.sweep.due.min(now + PAUSE);
        }
    }

    fn look(&mut self, now: Time) {
        self.sweep.next = now + self.config.sweep;
        let unix = self.unix(now);
        let last = std::mem::replace(&mut self.sweep.last, unix);
        let surely = self.surely(now);
        self.turn_broadcasts(last, unix, surely);
        let mut ops = Vec::new();
        self.known.forget(surely, &mut ops);
        if !ops.is_empty() {
            self.submit(ops);
        }
        self.forget_revocations(surely);
        self.turn_day(unix);
        // Whoever a failing store had left waiting.
        let behind: Vec<Inbox> = self.mailboxes.keys().copied().collect();
        behind.into_iter().for_each(|inbox| self.writable(inbox));
        if self.sweep.walking.is_none() && u64::from(self.sweep.earliest) <= surely {
            self.sweep.walking = Some(Inbox(0));
            self.sweep.next_earliest = u32::MAX;
        }
    }

    /// A portion of all queues: what has expired leaves.
    fn walk(&mut self, now: Time, from: Inbox) {
        let unix = self.surely(now);
        let mut over = Vec::new();
        let mut earliest = u32::MAX;
        let latest = if self.sweep.bounds { clock::latest(unix) } else { u32::MAX };
        let next = self.queues.walk(from, PORTION, |inbox, item| {
            item.expires = item.expires.min(latest);
            if u64::from(item.expires) > unix {
                earliest = earliest.min(item.expires);
            } else if item.sequence <= self.settled {
                over.push((inbox, item.sequence));
            }
        });
        // Handed over in time: it goes when it is confirmed.
        over.retain(|(inbox, sequence)| !self.is_under_way(*inbox, *sequence));
        let mut gone = Vec::with_capacity(over.len());
        for (inbox, sequence) in over {
            gone.extend(self.queues.take(inbox, sequence).map(|item| (inbox, item)));
        }
        self.counters.expired += gone.len() as u64;
        let ops = self.remove(&gone, Why::Expired);
        if !ops.is_empty() {
            self.submit(ops);
        }
        self.sweep.next_earliest = self.sweep.next_earliest.min(earliest);
        self.sweep.walking = next;
        self.sweep.due = self.sweep.next;
        match next {
            Some(_) => self.sweep.due = self.sweep.next.min(now + PAUSE),
            None => {
                self.sweep.earliest = self.sweep.next_earliest;
                self.sweep.bounds = false;
            }
        }
    }

    /// Those so old that nothing which was given out before them is good any more.
    fn forget_revocations(&mut self, unix: u64) {
        let over: Vec<Inbox> = self
            .revoked
            .iter()
            .filter(|(_, revoked)| revoked.at + REVOKED <= unix)
            .map(|(inbox, _)| *inbox)
            .collect();
        for inbox in over {
            self.revoked.remove(&inbox);
            let key = inbox.0.to_be_bytes().to_vec();
            self.submit(vec![Op::Delete { table: rows::REVOKED, key }]);
        }
    }
}
