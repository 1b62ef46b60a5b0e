//! Other rooms (OM-16, [0057]): each is a receiver with one inbox, in which everything for its users waits. `anna@north` is
//! the user whom the room north calls anna. Who is not at home here is known by the name alone: whether there is such a
//! user only that room can tell.

use super::*;
use crate::wire::app::{MAX_TTL, is_name};

/// The setting that keeps the store's epoch.
pub(super) const EPOCH: &str = "room";

/// Where a name is at home.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place<'a> {
    /// Here, by this name.
    Home(&'a str),
    /// In the room with this inbox.
    Away(Inbox),
}

/// Where a message of another room came from.
pub(super) struct Origin {
    /// Of the room.
    inbox: Inbox,
    /// The link that it came on; later ones have higher numbers.
    place: u32,
    /// When that room took it, in Unix seconds.
    pub(super) sent: u32,
}

impl Origin {
    pub(super) fn of(sender: &Sender) -> Option<Origin> {
        match sender {
            Sender::Room { inbox, seat, sent, .. } => {
                Some(Origin { inbox: *inbox, place: seat.place, sent: *sent })
            }
            Sender::App { .. } | Sender::Device { .. } => None,
        }
    }
}

/// A question that other rooms are to answer first.
struct Asked {
    query: presence::Query,
    /// Rooms that have not answered.
    left: Vec<Inbox>,
}

/// This room and the others.
#[derive(Default)]
pub(super) struct Rooms {
    own: String,
    epoch: u64,
    /// By name.
    others: BTreeMap<String, Inbox>,
    /// Inboxes of all that were ever known.
    inboxes: BTreeMap<String, Inbox>,
    /// Of a room, the last link on which something could not be taken.
    broken: BTreeMap<Inbox, u32>,
    asked: HashMap<u64, Asked>,
}

impl Rooms {
    pub(super) const fn read_epoch(&mut self, epoch: u64) {
        self.epoch = epoch;
    }

    pub(super) fn read(&mut self, name: &str, inbox: Inbox) {
        self.inboxes.insert(name.to_owned(), inbox);
    }

    /// Where a name is at home. One whose last part names no room is a name as any.
    pub(super) fn place<'a>(&self, name: &'a str) -> Place<'a> {
        match self.split(name) {
            Some((home, room)) if room == self.own => Place::Home(home),
            Some((_, room)) => self.others.get(room).map_or(Place::Home(name), |inbox| Place::Away(*inbox)),
            None => Place::Home(name),
        }
    }

    /// Whether nobody can be called so here: it would be taken for who is at home in a room.
    pub(super) fn is_taken(&self, name: &str) -> bool {
        self.split(name).is_some()
    }

    fn split<'a>(&self, name: &'a str) -> Option<(&'a str, &'a str)> {
        let (home, room) = name.rsplit_once('@').filter(|(home, _)| !home.is_empty())?;
        let is_room = !self.own.is_empty() && (room == self.own || self.others.contains_key(room));
        is_room.then_some((home, room))
    }

    pub(super) fn is_room(&self, inbox: Inbox) -> bool {
        self.others.values().any(|room| *room == inbox)
    }

    pub(super) fn inboxes(&self) -> impl Iterator<Item = Inbox> {
        self.others.values().copied()
    }

    fn name(&self, inbox: Inbox) -> Option<&str> {
        self.others.iter().find(|(_, room)| **room == inbox).map(|(name, _)| name.as_str())
    }

    /// Whether something that came before it from that room could not be taken, so that it has to come again behind that.
    pub(super) fn is_broken(&self, origin: &Origin) -> bool {
        self.broken.get(&origin.inbox).is_some_and(|place| origin.place <= *place)
    }

    /// Whether a sender of this name may write to all of these; else the code of the refusal.
    pub(super) fn may_send(&self, is_relayed: bool, from: &Address, message: &Message) -> Result<(), u16> {
        if is_relayed || self.own.is_empty() {
            return Ok(());
        }
        let (Address::User(name) | Address::App(name)) = from;
        // Called so before there were rooms.
        if self.is_taken(name) {
            return Err(403);
        }
        let is_away =
            |(Address::User(name) | Address::App(name)): &Address| matches!(self.place(name), Place::Away(_));
        let goes_away = match &message.to {
            To::Named(named) => named.iter().any(is_away),
            To::All => message.kind == Kind::Broadcast && !self.others.is_empty(),
        };
        // What other rooms would call the sender is no name there.
        if goes_away && !is_name(&format!("{name}@{}", self.own)) { Err(403) } else { Ok(()) }
    }

    /// Questions that other rooms are to answer.
    pub(super) fn asked(&self) -> usize {
        self.asked.len()
    }
}

impl Hub {
    /// This is a room of several from now on, and these are the others. Answers with the epoch of the store, by which others
    /// tell its numbers from those of another, and with the others' inboxes.
    pub fn join(&mut self, own: &str, others: &[String]) -> (u64, Vec<Inbox>) {
        let mut ops = Vec::new();
        if self.rooms.epoch == 0 {
            self.rooms.epoch = self.rng.next_u64().max(1);
            ops.push(rows::put_number(EPOCH, self.rooms.epoch));
        }
        let mut inboxes = Vec::with_capacity(others.len());
        for name in others {
            let inbox = match self.rooms.inboxes.get(name) {
                Some(inbox) => *inbox,
                None => {
                    let inbox = self.new_inbox(&mut ops);
                    ops.push(rows::put_room(name, inbox));
                    self.rooms.read(name, inbox);
                    inbox
                }
            };
            self.rooms.others.insert(name.clone(), inbox);
            inboxes.push(inbox);
        }
        self.rooms.own = own.to_owned();
        if !ops.is_empty() {
            self.submit(ops);
        }
        (self.rooms.epoch, inboxes)
    }

    /// Messages and octets that wait for a room.
    pub fn waiting_for(&self, room: Inbox) -> (u32, u32) {
        self.queues.depth(room)
    }

    /// The link to a room is there: what waits for it is handed over, from the oldest. [`Hub::offline`] ends it.
    pub fn room_up(&mut self, now: Time, room: Inbox, seat: Seat) {
        let unix = self.unix(now);
        self.presence.enter(room, seat, unix);
        self.begin_mailbox(room, seat);
    }

    /// Takes a message of a room, which came on this link from a store with this epoch. [`HubOutput::Taken`] says what became
    /// of it, if the room keeps it.
    pub fn take_relayed(&mut self, now: Time, room: Inbox, epoch: u64, seat: Seat, relayed: Relayed) {
        let Relayed { sequence, sent, left, kept, period, from, to, content_type, body } = relayed;
        self.counters.from_rooms += 1;
        let settle = |hub: &mut Hub, code| {
            if kept {
                hub.taken(room, seat, sequence, code)
            }
        };
        let Some(from) = self.rooms.name(room).and_then(|room| called(&from, room)) else {
            self.counters.refused += 1;
            return settle(self, 403);
        };
        if left == 0 {
            self.counters.expired += 1;
            return settle(self, 200);
        }
        let message = Message {
            id: sequence.to_string(),
            from: None,
            kind: match to.len() {
                0 => Kind::Broadcast,
                1 => Kind::One,
                _ => Kind::Directed,
            },
            to: if to.is_empty() { To::All } else { To::Named(to) },
            store: kept,
            ttl: left.min(MAX_TTL),
            period: period.map(|(start, end)| (start.into(), end.into())),
            content_type,
            body,
        };
        let sender = Sender::Room { inbox: room, epoch, from, sent, seat };
        let asker = match kept {
            true => intake::Asker::Room { inbox: room, seat, sequence },
            false => intake::Asker::Nobody,
        };
        self.intake(now, &sender, message, asker);
    }

    pub(super) fn taken(&mut self, room: Inbox, seat: Seat, sequence: u64, code: u16) {
        match code {
            404 => self.counters.strangers += 1,
            // It comes again, and what came behind it must come again behind it.
            429 | 507 => {
                let last = self.rooms.broken.entry(room).or_default();
                *last = seat.place.max(*last);
            }
            _ => {}
        }
        self.outputs.push_back(HubOutput::Taken { seat, sequence, code });
    }

    /// Hands a message to a room.
    pub(super) fn relay(&mut self, now: Time, seat: Seat, room: Inbox, sequence: Sequence, kept: Kept) {
        let Some(Relay { kept: is_kept, period, to }) = kept.relay else { return };
        let Some(name) = self.rooms.name(room) else { return };
        let at_home = |address: Address| {
            let home = |called: &str| called.strip_suffix(name)?.strip_suffix('@').map(str::to_owned);
            Some(match address {
                Address::User(called) => Address::User(home(&called)?),
                Address::App(called) => Address::App(home(&called)?),
            })
        };
        let relayed = Relayed {
            sequence: sequence.0,
            sent: kept.sent,
            left: u64::from(kept.expires).saturating_sub(self.surely(now)) as u32,
            kept: is_kept,
            period,
            from: kept.from,
            to: to.into_iter().filter_map(at_home).collect(),
            content_type: kept.content_type,
            body: kept.body,
        };
        self.counters.relayed += 1;
        self.outputs.push_back(HubOutput::Relay { seat, relayed: Box::new(relayed) });
    }

    /// Whether all of these rooms may have one more waiting.
    pub(super) fn rooms_have_room(&self, rooms: &[Inbox], size: u32) -> bool {
        let HubConfig { max_room_messages, max_room_octets, .. } = self.config;
        rooms.iter().all(|room| {
            let (messages, octets) = self.queues.depth(*room);
            messages < max_room_messages && octets.saturating_add(size) <= max_room_octets
        })
    }

    /// A room asks where users are who are at home here. [`HubOutput::ToldRoom`] answers.
    pub fn query_of_room(&mut self, seat: Seat, correlation: u64, users: Vec<String>) {
        let asker = presence::Asker::Room { seat, correlation };
        self.begin_query(presence::Query::new(users, asker));
    }

    /// Asks the rooms that know some of whom a query is about; gives it back where there is none that could be asked.
    pub(super) fn ask_rooms(&mut self, query: presence::Query) -> Option<presence::Query> {
        if matches!(query.asker, presence::Asker::Room { .. }) {
            return Some(query);
        }
        let mut away: BTreeMap<Inbox, Vec<String>> = BTreeMap::new();
        for name in &query.users {
            if let (Place::Away(room), Some((home, _))) = (self.rooms.place(name), self.rooms.split(name)) {
                away.entry(room).or_default().push(home.to_owned());
            }
        }
        let ticket = if away.is_empty() { 0 } else { self.request() };
        let mut left = Vec::new();
        for (room, users) in away {
            if let Some(seat) = self.presence.seat(room) {
                left.push(room);
                self.outputs.push_back(HubOutput::AskRoom { room, seat, ticket, users });
            }
        }
        if left.is_empty() {
            return Some(query);
        }
        self.rooms.asked.insert(ticket, Asked { query, left });
        None
    }

    /// What a room said of its users, by the names that they have there; nobody when it did not answer. Who is not named is
    /// not known.
    pub fn found_away(&mut self, ticket: u64, room: Inbox, users: Vec<Whereabouts>) {
        let name = self.rooms.name(room).unwrap_or_default().to_owned();
        let Some(asked) = self.rooms.asked.get_mut(&ticket) else { return };
        for found in users {
            let user = format!("{}@{name}", found.user);
            // A room speaks for whom it was asked about.
            if asked.query.users.contains(&user) {
                asked.query.away.insert(user.clone(), Whereabouts { user, ..found });
            }
        }
        asked.left.retain(|left| *left != room);
        if asked.left.is_empty()
            && let Some(Asked { query, .. }) = self.rooms.asked.remove(&ticket)
        {
            self.look_into(query);
        }
    }
}

/// What somebody of another room is called here, if that can be a name.
fn called(from: &Address, room: &str) -> Option<Address> {
    let named = |name: &str| Some(format!("{name}@{room}")).filter(|name| is_name(name));
    match from {
        Address::User(name) => named(name).map(Address::User),
        Address::App(name) => named(name).map(Address::App),
    }
}
