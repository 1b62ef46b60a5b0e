//! Rules in the order in which gateways are told of them.
//!
//! A gateway sees two books: that of all groups and its own group's. Their changes are numbered from one sequence, so
//! that both together are one history. On the wire a withdrawal takes all rules of an application (SPEC R-14), those of
//! the other book too: whoever withdraws tells again what is to stay.
//!
//! There are two sets of books: one is as the operator asked, the other as it is durable, which is what gateways are
//! told. Both go through the same edits in the same order, so they are the same but for what waits for the disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter::Peekable,
    sync::Arc,
};

use crate::wire::AppId;

/// A change that the group's gateways are told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum RuleChange {
    Add {
        app: AppId,
        pattern: Arc<[u8]>,
    },
    Withdraw {
        app: AppId,
    },
    /// A rule of all groups that a withdrawal of this group took along, told again.
    Again {
        app: AppId,
        pattern: Arc<[u8]>,
    },
}

/// What the operator may do to rules. No group is all groups.
#[derive(Clone, Debug)]
pub(super) enum RuleEdit {
    Add {
        group: Option<usize>,
        app: AppId,
        pattern: Arc<[u8]>,
    },
    /// Without a pattern, all of the application's.
    Remove {
        group: Option<usize>,
        app: AppId,
        pattern: Option<Arc<[u8]>>,
    },
}

impl RuleEdit {
    /// Whose gateways must be told of it.
    pub fn group(&self) -> Option<usize> {
        match self {
            RuleEdit::Add { group, .. } | RuleEdit::Remove { group, .. } => *group,
        }
    }
}

/// A rule that an edit wrote, under this number, or took away.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct RuleRow {
    pub group: Option<usize>,
    pub app: AppId,
    pub pattern: Arc<[u8]>,
    pub number: Option<u64>,
}

/// The books of all groups.
#[derive(Clone, Default)]
pub(super) struct Rules {
    common: RuleBook,
    groups: Vec<RuleBook>,
    /// For a group that has no book yet.
    none: RuleBook,
    /// The newest number of all books.
    head: u64,
}

impl Rules {
    pub fn head(&self) -> u64 {
        self.head
    }

    /// What a group's gateways see.
    pub fn view(&self, group: Option<usize>) -> RuleView<'_> {
        let own = group.map_or(&self.none, |group| self.groups.get(group).unwrap_or(&self.none));
        RuleView { common: &self.common, group: own, head: self.head }
    }

    /// Rules of one book that hold, in order.
    pub fn of(&self, group: Option<usize>) -> impl Iterator<Item = (AppId, &Arc<[u8]>)> {
        match group {
            Some(group) => self.groups.get(group).unwrap_or(&self.none).rules(),
            None => self.common.rules(),
        }
    }

    /// Puts a rule back as it was stored.
    pub fn restore(&mut self, group: Option<usize>, app: AppId, pattern: Arc<[u8]>, number: u64) {
        self.head = self.head.max(number);
        self.book(group).add(number, app, pattern);
    }

    /// Makes an edit, and says which rules it touched.
    pub fn edit(&mut self, edit: &RuleEdit) -> Vec<RuleRow> {
        let mut rows = Vec::new();
        match edit {
            RuleEdit::Add { group, app, pattern } => {
                if !self.of(*group).any(|(known, text)| known == *app && text == pattern) {
                    self.put(*group, *app, pattern.clone(), &mut rows);
                }
            }
            RuleEdit::Remove { group, app, pattern } => {
                self.remove(*group, *app, pattern.as_deref(), &mut rows);
            }
        }
        rows
    }

    fn remove(&mut self, group: Option<usize>, app: AppId, pattern: Option<&[u8]>, rows: &mut Vec<RuleRow>) {
        let (gone, kept): (Vec<_>, Vec<_>) =
            self.book(group).take(app).into_iter().partition(|text| pattern.is_none_or(|p| *p == **text));
        rows.extend(gone.into_iter().map(|pattern| RuleRow { group, app, pattern, number: None }));
        let number = self.next();
        self.book(group).withdraw(number, app);
        kept.into_iter().for_each(|text| self.put(group, app, text, rows));
        match group {
            // Gateways of this group lose the common rules too.
            Some(_) => {
                let common = self.common.rules().filter(|(known, _)| *known == app);
                for text in common.map(|(_, text)| text.clone()).collect::<Vec<_>>() {
                    let number = self.next();
                    self.book(group).tell_again(number, app, text);
                }
            }
            // Gateways of all groups lose their own.
            None => {
                for at in 0..self.groups.len() {
                    if self.groups[at].mentions(app) {
                        let kept = self.groups[at].take(app);
                        kept.into_iter().for_each(|text| self.put(Some(at), app, text, rows));
                    }
                }
            }
        }
    }

    /// Puts a rule at the end of its book.
    fn put(&mut self, group: Option<usize>, app: AppId, pattern: Arc<[u8]>, rows: &mut Vec<RuleRow>) {
        let number = self.next();
        self.book(group).add(number, app, pattern.clone());
        rows.push(RuleRow { group, app, pattern, number: Some(number) });
    }

    fn next(&mut self) -> u64 {
        self.head += 1;
        self.head
    }

    fn book(&mut self, group: Option<usize>) -> &mut RuleBook {
        let Some(group) = group else { return &mut self.common };
        if self.groups.len() <= group {
            self.groups.resize_with(group + 1, RuleBook::default);
        }
        &mut self.groups[group]
    }
}

/// The rules of one group, or of all.
#[derive(Clone, Default)]
struct RuleBook {
    /// By number; a rule keeps its own until it is told again.
    log: BTreeMap<u64, RuleChange>,
    again: BTreeSet<(AppId, Arc<[u8]>)>,
}

impl RuleBook {
    fn rules(&self) -> impl Iterator<Item = (AppId, &Arc<[u8]>)> {
        self.log.values().filter_map(|change| match change {
            RuleChange::Add { app, pattern } => Some((*app, pattern)),
            RuleChange::Withdraw { .. } | RuleChange::Again { .. } => None,
        })
    }

    fn add(&mut self, number: u64, app: AppId, pattern: Arc<[u8]>) {
        self.log.insert(number, RuleChange::Add { app, pattern });
    }

    fn withdraw(&mut self, number: u64, app: AppId) {
        self.log.insert(number, RuleChange::Withdraw { app });
    }

    fn tell_again(&mut self, number: u64, app: AppId, pattern: Arc<[u8]>) {
        self.again.insert((app, pattern.clone()));
        self.log.insert(number, RuleChange::Again { app, pattern });
    }

    /// Takes all that the book says on an application out of it, and returns the rules.
    fn take(&mut self, app: AppId) -> Vec<Arc<[u8]>> {
        let mut rules = Vec::new();
        self.log.retain(|_, change| match change {
            RuleChange::Add { app: of, pattern } if *of == app => {
                rules.push(pattern.clone());
                false
            }
            RuleChange::Withdraw { app: of } | RuleChange::Again { app: of, .. } => *of != app,
            RuleChange::Add { .. } => true,
        });
        self.again.retain(|(of, _)| *of != app);
        rules
    }

    /// Whether the book says anything on an application.
    fn mentions(&self, app: AppId) -> bool {
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
    common: &'a RuleBook,
    group: &'a RuleBook,
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

    fn add(group: Option<usize>, app: u32, pattern: &[u8]) -> RuleEdit {
        RuleEdit::Add { group, app: AppId(app), pattern: pattern.into() }
    }

    #[test]
    fn both_books_are_one_history_and_what_a_withdrawal_took_along_comes_after_it() {
        let mut rules = Rules::default();
        for edit in [add(None, 7, b"all"), add(Some(0), 7, b"ours"), add(None, 8, b"other")] {
            assert_eq!(rules.edit(&edit).len(), 1);
            assert_eq!(rules.edit(&edit), [], "it is there already");
        }
        let edit = RuleEdit::Remove { group: Some(0), app: AppId(7), pattern: None };
        let gone = RuleRow { group: Some(0), app: AppId(7), pattern: (*b"ours").into(), number: None };
        assert_eq!(rules.edit(&edit), [gone]);
        let view = rules.view(Some(0));
        assert_eq!(view.after(0).map(|(number, _)| number).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(view.rules().collect::<Vec<_>>(), [(AppId(8), &b"other"[..]), (AppId(7), b"all")]);
        assert_eq!(rules.of(Some(0)).count(), 0);
        assert_eq!(rules.view(Some(1)).rules().count(), 2, "the other group lost nothing");
    }

    #[test]
    fn removing_one_of_all_groups_tells_the_groups_own_again() {
        let mut rules = Rules::default();
        for edit in [add(None, 7, b"all"), add(None, 7, b"stays"), add(Some(1), 7, b"ours")] {
            rules.edit(&edit);
        }
        let rows =
            rules.edit(&RuleEdit::Remove { group: None, app: AppId(7), pattern: Some((*b"all").into()) });
        let numbers: Vec<_> = rows.iter().map(|row| (row.group, &row.pattern[..], row.number)).collect();
        assert_eq!(
            numbers,
            [(None, &b"all"[..], None), (None, b"stays", Some(5)), (Some(1), b"ours", Some(6))]
        );
        let held: Vec<_> = rules.view(Some(1)).rules().map(|(_, text)| text).collect();
        assert_eq!(held, [&b"stays"[..], b"ours"]);
    }
}
