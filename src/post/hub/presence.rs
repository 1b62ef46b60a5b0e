//! Who is there, and where: soft state, found again by who logs in.

use super::*;

/// Twelve octets an inbox that was ever there in this life.
#[derive(Clone, Copy, Default)]
struct Entry {
    /// 0 for nowhere.
    place: u32,
    broker: u16,
    /// Of the last change, in Unix seconds; 0 when there was none.
    since: u32,
}

impl Entry {
    /// Whether somebody is there, and not another room.
    const fn is_somebody(&self) -> bool {
        self.place != 0 && self.broker != ROOMS
    }

    fn seat(&self) -> Option<Seat> {
        (self.place != 0).then_some(Seat { broker: self.broker, place: self.place })
    }
}

/// By inbox: numbers are dense, so the table is an array.
#[derive(Default)]
pub(super) struct Presence {
    entries: Vec<Entry>,
    online: usize,
}

impl Presence {
    pub(super) fn seat(&self, inbox: Inbox) -> Option<Seat> {
        self.entries.get(inbox.0 as usize).and_then(Entry::seat)
    }

    /// Who is there since when, in Unix seconds.
    pub(super) fn since(&self, inbox: Inbox) -> Option<u32> {
        self.entries.get(inbox.0 as usize).filter(|entry| entry.place != 0).map(|entry| entry.since)
    }

    /// Who sits at a broker.
    pub(super) fn at(&self, broker: u16) -> impl Iterator<Item = (Inbox, Seat)> {
        let seats = self.entries.iter().enumerate();
        let seats = seats.filter_map(|(at, entry)| Some((Inbox(at as u32), entry.seat()?)));
        seats.filter(move |(_, seat)| seat.broker == broker)
    }

    pub(super) fn enter(&mut self, inbox: Inbox, seat: Seat, unix: u64) {
        let at = inbox.0 as usize;
        if at >= self.entries.len() {
            // Not doubled: what is not there yet costs nothing.
            let more = at + 1 - self.entries.len();
            self.entries.reserve_exact(more.max(4096));
            self.entries.resize(at + 1, Entry::default());
        }
        let Seat { broker, place } = seat;
        self.online -= usize::from(self.entries[at].is_somebody());
        self.online += usize::from(broker != ROOMS);
        self.entries[at] = Entry { place, broker, since: u32::try_from(unix).unwrap_or(u32::MAX) };
    }

    /// Whether it sat there.
    pub(super) fn leave(&mut self, inbox: Inbox, seat: Seat, unix: u64) -> bool {
        let entry = self.entries.get_mut(inbox.0 as usize).filter(|entry| entry.seat() == Some(seat));
        let Some(entry) = entry else { return false };
        self.online -= usize::from(entry.is_somebody());
        *entry = Entry { place: 0, broker: 0, since: u32::try_from(unix).unwrap_or(u32::MAX) };
        true
    }

    pub(super) const fn online(&self) -> usize {
        self.online
    }

    /// The next inboxes whose owners are there, and came before that second, from one on, looking at so many; and where to
    /// go on.
    pub(super) fn next_online(&self, from: usize, look: usize, before: u32) -> (Vec<Inbox>, Option<usize>) {
        let end = (from + look).min(self.entries.len());
        let there = |at: &usize| self.entries[*at].is_somebody() && self.entries[*at].since < before;
        let found = (from..end).filter(there).map(|at| Inbox(at as u32)).collect();
        (found, (end < self.entries.len()).then_some(end))
    }

    /// Where a user is who is called by this name.
    fn of(&self, name: &str, user: Option<&User>) -> Whereabouts {
        let entries = user.into_iter().flat_map(|user| &user.inboxes);
        let entries = entries.filter_map(|inbox| self.entries.get(inbox.0 as usize));
        let online = entries.clone().any(|entry| entry.place != 0);
        let since = entries.filter(|entry| (entry.place != 0) == online).map(|entry| entry.since).max();
        Whereabouts { user: name.to_owned(), online, since: since.unwrap_or(0).into() }
    }
}

/// A question about users that waits until it is known who they are.
pub(super) struct Query {
    pub(super) users: Vec<String>,
    /// What other rooms said of theirs, by the names asked.
    pub(super) away: HashMap<String, Whereabouts>,
    /// Of the first of them, as far as they were looked up.
    found: Vec<Whereabouts>,
    pub(super) asker: Asker,
}

pub(super) enum Asker {
    App { seat: Seat, id: String },
    Device { seat: Seat, inbox: Inbox, request: u64 },
    Room { seat: Seat, correlation: u64 },
}

impl Query {
    pub(super) fn new(users: Vec<String>, asker: Asker) -> Query {
        Query { users, away: HashMap::default(), found: Vec::new(), asker }
    }
}

impl Hub {
    /// Where are these users? [`HubOutput::Whereabouts`] answers. A user that there is not is not there.
    pub fn query(&mut self, seat: Seat, rights: Rights, id: String, users: Vec<String>) {
        if !rights.query {
            let answer = Answer { code: 403, state: None };
            return self.outputs.push_back(HubOutput::Answered { seat, id, answer });
        }
        self.begin_query(Query::new(users, Asker::App { seat, id }));
    }

    /// How many are there.
    pub const fn online_count(&self) -> usize {
        self.presence.online()
    }

    /// Where the owner of an inbox is.
    pub fn seat(&self, inbox: Inbox) -> Option<Seat> {
        self.presence.seat(inbox)
    }

    /// Since when the owner of an inbox is there, in Unix seconds.
    pub fn online_since(&self, inbox: Inbox) -> Option<u32> {
        self.presence.since(inbox)
    }

    /// Who sits at a broker, looking at everybody.
    pub fn sitting_at(&self, broker: u16) -> Vec<(Inbox, Seat)> {
        self.presence.at(broker).collect()
    }

    /// How many sit at each broker, looking at everybody.
    pub fn sitting_counts(&self) -> BTreeMap<u16, usize> {
        let mut counts = BTreeMap::new();
        let somebody = self.presence.entries.iter().filter(|entry| entry.is_somebody());
        for seat in somebody.filter_map(Entry::seat) {
            *counts.entry(seat.broker).or_insert(0) += 1;
        }
        counts
    }

    /// Whether there is such an inbox, or was.
    pub const fn is_inbox(&self, inbox: Inbox) -> bool {
        inbox.0 < self.next_inbox
    }

    pub(super) fn query_for_device(&mut self, seat: Seat, inbox: Inbox, request: u64, users: Vec<String>) {
        self.begin_query(Query::new(users, Asker::Device { seat, inbox, request }));
    }

    pub(super) fn begin_query(&mut self, query: Query) {
        if self.queries.len() + self.rooms.asked() >= self.config.max_pending {
            return self.answer_query(query, 507);
        }
        // Rooms are asked first: who is at home does not hold up others until they answer.
        if let Some(query) = self.ask_rooms(query) {
            self.look_into(query);
        }
    }

    /// Whoever is away is known, or not.
    pub(super) fn look_into(&mut self, query: Query) {
        for name in &query.users {
            if let Place::Home(name) = self.rooms.place(name) {
                let name = name.to_owned();
                self.look_up(&name);
            }
        }
        self.queries.push_back(query);
        self.settle_queries();
    }

    pub(super) fn settle_queries(&mut self) {
        while let Some(query) = self.queries.front_mut() {
            while let Some(name) = query.users.get(query.found.len()) {
                match self.rooms.place(name) {
                    Place::Home(home) => match self.users.get(home) {
                        Some(user) => query.found.push(self.presence.of(name, user.as_deref())),
                        None => {
                            let home = home.to_owned();
                            return self.look_up(&home);
                        }
                    },
                    Place::Away(_) => {
                        let unknown = || Whereabouts { user: name.clone(), online: false, since: 0 };
                        query.found.push(query.away.get(name).cloned().unwrap_or_else(unknown));
                    }
                }
            }
            let Some(Query { asker, found, .. }) = self.queries.pop_front() else { return };
            match asker {
                Asker::App { seat, id } => {
                    self.outputs.push_back(HubOutput::Whereabouts { seat, id, users: found });
                }
                Asker::Device { seat, inbox, request } => {
                    self.send(seat, inbox, Frame::Presence { request, users: found });
                }
                Asker::Room { seat, correlation } => {
                    self.outputs.push_back(HubOutput::ToldRoom { seat, correlation, users: found });
                }
            }
        }
    }

    /// The store cannot tell who this is.
    pub(super) fn fail_queries(&mut self, name: &str) {
        let queries = std::mem::take(&mut self.queries);
        for query in queries {
            match query.users.iter().any(|user| self.rooms.place(user) == Place::Home(name)) {
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
            Asker::Room { seat, correlation } => {
                self.outputs.push_back(HubOutput::ToldRoom { seat, correlation, users: Vec::new() });
            }
        }
    }
}
