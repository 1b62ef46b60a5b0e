//! Rules in the order in which gateways are told of them.
//!
//! A gateway sees two books: that of all groups and its own group's. Their changes are numbered from one sequence, so
//! that both together are one history. On the wire a withdrawal takes all rules of an application (SPEC R-14), those of
//! the other book too: whoever withdraws tells again what is to stay.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter::Peekable,
};

use crate::wire::AppId;

/// A change that the group's gateways are told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum RuleChange {
    Add {
        app: AppId,
        pattern: Box<[u8]>,
    },
    Withdraw {
        app: AppId,
    },
    /// A rule of all groups that a withdrawal of this group took along, told again.
    Again {
        app: AppId,
        pattern: Box<[u8]>,
    },
}

/// The rules of one group, or of all.
#[derive(Default)]
pub(super) struct RuleBook {
    /// By number; a rule keeps its own until it is told again.
    log: BTreeMap<u64, RuleChange>,
    again: BTreeSet<(AppId, Box<[u8]>)>,
}

impl RuleBook {
    /// Rules of this book that hold, in order.
    pub fn rules(&self) -> impl Iterator<Item = (AppId, &[u8])> {
        self.log.values().filter_map(|change| match change {
            RuleChange::Add { app, pattern } => Some((*app, &**pattern)),
            RuleChange::Withdraw { .. } | RuleChange::Again { .. } => None,
        })
    }

    pub fn contains(&self, app: AppId, pattern: &[u8]) -> bool {
        self.rules().any(|(known, text)| known == app && text == pattern)
    }

    pub fn add(&mut self, number: u64, app: AppId, pattern: &[u8]) {
        self.log.insert(number, RuleChange::Add { app, pattern: pattern.into() });
    }

    pub fn withdraw(&mut self, number: u64, app: AppId) {
        self.log.insert(number, RuleChange::Withdraw { app });
    }

    pub fn tell_again(&mut self, number: u64, app: AppId, pattern: &[u8]) {
        self.again.insert((app, pattern.into()));
        self.log.insert(number, RuleChange::Again { app, pattern: pattern.into() });
    }

    /// Takes all that the book says on an application out of it, and returns the rules.
    pub fn take(&mut self, app: AppId) -> Vec<Box<[u8]>> {
        let mut rules = Vec::new();
        self.log.retain(|_, change| match change {
            RuleChange::Add { app: of, pattern } if *of == app => {
                rules.push(std::mem::take(pattern));
                false
            }
            RuleChange::Withdraw { app: of } | RuleChange::Again { app: of, .. } => *of != app,
            RuleChange::Add { .. } => true,
        });
        self.again.retain(|(of, _)| *of != app);
        rules
    }

    /// Whether the book says anything on an application.
    pub fn mentions(&self, app: AppId) -> bool {
        self.log.values().any(|change| match change {
            RuleChange::Add { app: of, .. }
            | RuleChange::Withdraw { app: of }
            | RuleChange::Again { app: of, .. } => *of == app,
        })
    }
}

/// What a group's gateways see: both books as one.
#[derive(Clone, Copy)]
pub(super) struct RuleView<'a> {
    pub common: &'a RuleBook,
    pub group: &'a RuleBook,
    /// The newest number of all books.
    pub head: u64,
}

impl<'a> RuleView<'a> {
    /// Changes after a number, in order.
    pub fn after(self, number: u64) -> impl Iterator<Item = (u64, &'a RuleChange)> {
        let again = &self.group.again;
        let is_told_later = move |change: &RuleChange| match change {
            RuleChange::Add { app, pattern } if !again.is_empty() => again.contains(&(*app, pattern.clone())),
            _ => false,
        };
        let common = self.common.log.range(number + 1..).filter(move |(_, change)| !is_told_later(change));
        merge(common.peekable(), self.group.log.range(number + 1..).peekable())
    }

    /// Rules that hold, in order. One that is in both books comes twice.
    pub fn rules(self) -> impl Iterator<Item = (AppId, &'a [u8])> {
        self.after(0).filter_map(|(_, change)| match change {
            RuleChange::Add { app, pattern } | RuleChange::Again { app, pattern } => Some((*app, &**pattern)),
            RuleChange::Withdraw { .. } => None,
        })
    }
}

fn merge<'a>(
    mut one: Peekable<impl Iterator<Item = (&'a u64, &'a RuleChange)>>,
    mut other: Peekable<impl Iterator<Item = (&'a u64, &'a RuleChange)>>,
) -> impl Iterator<Item = (u64, &'a RuleChange)> {
    std::iter::from_fn(move || {
        let first = match (one.peek(), other.peek()) {
            (Some((a, _)), Some((b, _))) if b < a => other.next(),
            (Some(_), _) => one.next(),
            (None, _) => other.next(),
        };
        first.map(|(number, change)| (*number, change))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_books_are_one_history_and_what_a_withdrawal_took_along_comes_after_it() {
        let (mut common, mut group) = (RuleBook::default(), RuleBook::default());
        common.add(1, AppId(7), b"all");
        group.add(2, AppId(7), b"ours");
        common.add(3, AppId(8), b"other");
        assert_eq!(group.take(AppId(7)), [b"ours".to_vec().into_boxed_slice()]);
        group.withdraw(4, AppId(7));
        group.tell_again(5, AppId(7), b"all");
        let view = RuleView { common: &common, group: &group, head: 5 };
        assert_eq!(view.after(0).map(|(number, _)| number).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(view.rules().collect::<Vec<_>>(), [(AppId(8), &b"other"[..]), (AppId(7), b"all")]);
        assert_eq!(group.rules().count(), 0);
    }
}
