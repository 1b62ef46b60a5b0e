//! When what is due.

use std::collections::{BTreeSet, HashMap};

use crate::time::Time;

/// What a timer is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Timer {
    Node(usize),
    Socket(usize),
    Dial(usize),
    Resolver,
}

/// Timers, each at most once.
#[derive(Default)]
pub(super) struct Timers {
    order: BTreeSet<(Time, Timer)>,
    due: HashMap<Timer, Time>,
}

impl Timers {
    pub fn set(&mut self, timer: Timer, due: Option<Time>) {
        if self.due.get(&timer).copied() == due {
            return;
        }
        if let Some(old) = self.due.remove(&timer) {
            self.order.remove(&(old, timer));
        }
        if let Some(due) = due {
            self.due.insert(timer, due);
            self.order.insert((due, timer));
        }
    }

    pub fn next(&self) -> Option<Time> {
        self.order.first().map(|(due, _)| *due)
    }

    pub fn pop(&mut self, now: Time) -> Option<Timer> {
        let (due, timer) = *self.order.first()?;
        if due > now {
            return None;
        }
        self.order.pop_first();
        self.due.remove(&timer);
        Some(timer)
    }
}
