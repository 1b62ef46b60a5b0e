//! Who is there, and where: soft state, found again by who logs in.

use super::*;

/// Eight octets an inbox that was ever there in this life.
#[derive(Clone, Copy, Default)]
struct Entry {
    /// 0 for nowhere.
    seat: u32,
    /// Of the last change, in Unix seconds; 0 when there was none.
    since: u32,
}

/// By inbox: numbers are dense, so the table is an array.
#[derive(Default)]
pub(super) struct Presence {
    entries: Vec<Entry>,
    online: usize,
}

impl Presence {
    pub(super) fn seat(&self, inbox: Inbox) -> Option<Seat> {
        self.entries.get(inbox.0 as usize).filter(|entry| entry.seat != 0).map(|entry| Seat(entry.seat))
    }

    pub(super) fn enter(&mut self, inbox: Inbox, seat: Seat, unix: u64) {
        let at = inbox.0 as usize;
        if at >= self.entries.len() {
            // Not doubled: what is not there yet costs nothing.
            let more = at + 1 - self.entries.len();
            self.entries.reserve_exact(more.max(4096));
            self.entries.resize(at + 1, Entry::default());
        }
        self.online += usize::from(self.entries[at].seat == 0);
        self.entries[at] = Entry { seat: seat.0, since: u32::try_from(unix).unwrap_or(u32::MAX) };
    }

    /// Whether it sat there.
    pub(super) fn leave(&mut self, inbox: Inbox, seat: Seat, unix: u64) -> bool {
        let entry = self.entries.get_mut(inbox.0 as usize).filter(|entry| entry.seat == seat.0);
        let Some(entry) = entry else { return false };
        *entry = Entry { seat: 0, since: u32::try_from(unix).unwrap_or(u32::MAX) };
        self.online -= 1;
        true
    }

    pub(super) const fn online(&self) -> usize {
        self.online
    }

    /// The next inboxes whose owners are there, and came before that second, from one on, looking at so many; and where to
    /// go on.
    pub(super) fn next_online(&self, from: usize, look: usize, before: u32) -> (Vec<Inbox>, Option<usize>) {
        let end = (from + look).min(self.entries.len());
        let there = |at: &usize| self.entries[*at].seat != 0 && self.entries[*at].since < before;
        let found = (from..end).filter(there).map(|at| Inbox(at as u32)).collect();
        (found, (end < self.entries.len()).then_some(end))
    }

    fn of(&self, name: &str, user: Option<&User>) -> Whereabouts {
        let entries = user.into_iter().flat_map(|user| &user.inboxes);
        let entries = entries.filter_map(|inbox| self.entries.get(inbox.0 as usize));
        let online = entries.clone().any(|entry| entry.seat != 0);
        let since = entries.filter(|entry| (entry.seat != 0) == online).map(|entry| entry.since).max();
        Whereabouts { user: name.to_owned(), online, since: since.unwrap_or(0).into() }
    }
}

/// A question about users that waits until it is known who they are.
pub(super) struct Query {
    users: Vec<String>,
    /// Of the first of them, as far as they were looked up.
    found: Vec<Whereabouts>,
    asker: Asker,
}

enum Asker {
    App { seat: Seat, id: String },
    Device { seat: Seat, inbox: Inbox, request: u64 },
}

impl Hub {
    /// Where are these users? [`HubOutput::Whereabouts`] answers. A user that there is not is not there.
    pub fn query(&mut self, seat: Seat, rights: Rights, id: String, users: Vec<String>) {
        if !rights.query {
            let answer = Answer { code: 403, state: None };
            return self.outputs.push_back(HubOutput::Answered { seat, id, answer });
        }
        self.begin_query(Query { users, found: Vec::new(), asker: Asker::App { seat, id } });
    }

    /// How many are there.
    pub const fn online_count(&self) -> usize {
        self.presence.online()
    }

    pub(super) fn query_for_device(&mut self, seat: Seat, inbox: Inbox, request: u64, users: Vec<String>) {
        self.begin_query(Query { users, found: Vec::new(), asker: Asker::Device { seat, inbox, request } });
    }

    fn begin_query(&mut self, query: Query) {
        if self.queries.len() >= self.config.max_pending {
            return self.answer_query(query, 507);
        }
        query.users.iter().for_each(|name| self.look_up(name));
        self.queries.push_back(query);
        self.settle_queries();
    }

    pub(super) fn settle_queries(&mut self) {
        while let Some(query) = self.queries.front_mut() {
            while let Some(name) = query.users.get(query.found.len())
                && let Some(user) = self.users.get(name)
            {
                query.found.push(self.presence.of(name, user.as_deref()));
            }
            if let Some(name) = query.users.get(query.found.len()).cloned() {
                return self.look_up(&name);
            }
            let Some(Query { asker, found, .. }) = self.queries.pop_front() else { return };
            match asker {
                Asker::App { seat, id } => {
                    self.outputs.push_back(HubOutput::Whereabouts { seat, id, users: found });
                }
                Asker::Device { seat, inbox, request } => {
                    self.send(seat, inbox, Frame::Presence { request, users: found });
                }
            }
        }
    }

    /// The store cannot tell who this is.
    pub(super) fn fail_queries(&mut self, name: &str) {
        let queries = std::mem::take(&mut self.queries);
        for query in queries {
            match query.users.iter().any(|user| user == name) {
                true => self.answer_query(query, 507),
                false => self.queries.push_back(query),
            }
        }
    }

    fn answer_query(&mut self, query: Query, code: u16) {
        match query.asker {
            Asker::App { seat, id } => {
                let answer = Answer { code, state: None };
                self.outputs.push_back(HubOutput::Answered { seat, id, answer });
            }
            Asker::Device { seat, inbox, request } => self.send(seat, inbox, Frame::Answer { request, code }),
        }
    }
}
