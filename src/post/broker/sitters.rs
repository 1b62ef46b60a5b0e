//! Who sits at a broker, as the hub knows it: sixteen octets each.

use crate::{link::Session, post::Inbox, wire::inner::Sitting};

/// The part of a session's name that is its place.
const PLACE: u32 = 0x00ff_ffff;

#[derive(Clone, Copy, Default)]
struct Sitter {
    /// The session, 0 for none.
    seat: u32,
    inbox: u32,
    since: u32,
    /// What it asked and was not answered.
    unanswered: u16,
}

/// By place: the link's end gives low ones first, so the table is an array.
#[derive(Default)]
pub(super) struct Sitters {
    table: Vec<Sitter>,
}

impl Sitters {
    /// A session is up. Whoever had its place is not there any more.
    pub fn enter(&mut self, session: Session, inbox: Inbox, since: u32) -> Sitting {
        let at = (session.0 & PLACE) as usize;
        if at >= self.table.len() {
            // Not doubled: there may be a million.
            self.table.reserve_exact((at + 1 - self.table.len()).max(4096));
            self.table.resize(at + 1, Sitter::default());
        }
        self.table[at] = Sitter { seat: session.0, inbox: inbox.0, since, unanswered: 0 };
        Sitting { inbox: inbox.0, seat: session.0, since }
    }

    /// Whether it was there.
    pub fn leave(&mut self, session: Session, inbox: Inbox) -> bool {
        let Some(sitter) = self.find(session, inbox) else { return false };
        *sitter = Sitter::default();
        true
    }

    pub fn is_there(&mut self, session: Session, inbox: Inbox) -> bool {
        self.find(session, inbox).is_some()
    }

    /// It asked something.
    pub fn asked(&mut self, session: Session, inbox: Inbox) {
        if let Some(sitter) = self.find(session, inbox) {
            sitter.unanswered = sitter.unanswered.saturating_add(1);
        }
    }

    /// It was answered. Who asked more than can be counted stays unanswered.
    pub fn answered(&mut self, session: Session, inbox: Inbox) {
        if let Some(sitter) = self.find(session, inbox).filter(|sitter| sitter.unanswered < u16::MAX) {
            sitter.unanswered = sitter.unanswered.saturating_sub(1);
        }
    }

    /// Removes who was not answered.
    pub fn take_unanswered(&mut self) -> Vec<(Session, Inbox)> {
        let mut taken = Vec::new();
        for sitter in self.table.iter_mut().filter(|sitter| sitter.seat != 0 && sitter.unanswered > 0) {
            taken.push((Session(sitter.seat), Inbox(sitter.inbox)));
            *sitter = Sitter::default();
        }
        taken
    }

    pub fn all(&self) -> impl Iterator<Item = Sitting> {
        let there = self.table.iter().filter(|sitter| sitter.seat != 0);
        there.map(|sitter| Sitting { inbox: sitter.inbox, seat: sitter.seat, since: sitter.since })
    }

    fn find(&mut self, session: Session, inbox: Inbox) -> Option<&mut Sitter> {
        let sitter = self.table.get_mut((session.0 & PLACE) as usize)?;
        (session.0 != 0 && sitter.seat == session.0 && sitter.inbox == inbox.0).then_some(sitter)
    }
}
