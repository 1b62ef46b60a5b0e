//! Taking messages: who may, whether it was taken before, who gets it, whether it is kept.
//!
//! Messages are taken in the order in which they come: one whose receivers have to be looked up holds the next one back, so
//! that the order of the log is the order of the senders.

use sha2::{Digest, Sha256};

use super::*;
use crate::{store::Row, wire::app::is_id};

/// Users that one message reaches through subscriptions.
const MAX_FOLLOWERS: usize = 100_000;
/// Followers read at a time.
const PAGE: usize = 1000;
/// Repeats of a message that wait for its answer.
const MAX_ASKERS: usize = 16;

/// A message on its way into the log.
pub(super) struct Intake {
    pub(super) hash: [u8; 16],
    pub(super) content: u64,
    pub(super) from: Address,
    pub(super) message: Message,
    /// Users that get it.
    users: Vec<String>,
    /// The first of them, as far as they were looked up. Kept here: there may be more of them than are remembered.
    pub(super) found: Vec<Option<Arc<User>>>,
    /// Applications that get it.
    pub(super) apps: Vec<Inbox>,
    /// Other rooms that get it, and which of their users.
    pub(super) rooms: Vec<Inbox>,
    pub(super) away: Vec<Address>,
    /// The room and the link that it came on, and when that room took it.
    pub(super) origin: Option<rooms::Origin>,
    /// Its followers are not all read.
    reading: bool,
    /// The store could not tell who gets it.
    failed: bool,
}

/// An id under way, and with whom to answer once its message is durable.
pub(super) struct Waiting {
    content: u64,
    askers: Vec<Asker>,
}

/// Whom an answer goes to.
pub(super) enum Asker {
    App {
        seat: Seat,
        id: String,
    },
    Device {
        seat: Seat,
        inbox: Inbox,
        number: u64,
    },
    Room {
        inbox: Inbox,
        seat: Seat,
        sequence: u64,
    },
    /// A room that does not keep it.
    Nobody,
}

impl Hub {
    /// Takes a message from an application, or refuses it: [`HubOutput::Answered`] says.
    pub fn take(&mut self, now: Time, sender: &Sender, message: Message) {
        let Sender::App { seat, .. } = sender else { return };
        let asker = Asker::App { seat: *seat, id: message.id.clone() };
        self.intake(now, sender, message, asker);
    }

    pub(super) fn intake(&mut self, now: Time, sender: &Sender, message: Message, asker: Asker) {
        let from = match sender {
            Sender::App { name, .. } => Address::App(name.clone()),
            Sender::Device { user, .. } => Address::User(user.clone()),
            Sender::Room { from, .. } => from.clone(),
        };
        let origin = rooms::Origin::of(sender);
        if origin.as_ref().is_some_and(|origin| self.rooms.is_broken(origin)) {
            return self.refuse_message(asker, 507);
        }
        let hash = id_hash(sender, &message.id);
        let content = content_hash(&message);
        let allowed = may(sender, &from, &message);
        if let Err(code) = allowed.and_then(|()| self.rooms.may_send(origin.is_some(), &from, &message)) {
            return self.refuse_message(asker, code);
        }
        if let Some(waiting) = self.waiting.get_mut(&hash) {
            if waiting.content != content {
                return self.refuse_message(asker, 409);
            }
            self.counters.repeats += 1;
            // A sender that repeats itself without end is to wait for its answers.
            if waiting.askers.len() >= MAX_ASKERS {
                return self.refuse_message(asker, 429);
            }
            return waiting.askers.push(asker);
        }
        if let Some(known) = self.known.get(&hash) {
            if known.content != content {
                return self.refuse_message(asker, 409);
            }
            self.counters.repeats += 1;
            return self.answer(asker, Answer { code: 200, state: Some(State::Queued) });
        }
        if self.waiting.len() >= self.config.max_pending {
            self.counters.pending_full += 1;
            return self.refuse_message(asker, 507);
        }
        let (mut users, mut apps) = (Vec::new(), Vec::new());
        let (mut rooms, mut away) = (Vec::new(), Vec::new());
        let mut reading = false;
        // What came from a room is for nobody but who is at home here.
        let is_own = origin.is_none();
        match &message.to {
            To::Named(named) => {
                for address in named {
                    let (Address::User(name) | Address::App(name)) = address;
                    match (self.rooms.place(name), address) {
                        (Place::Home(name), Address::User(_)) => users.push(name.to_owned()),
                        (Place::Home(name), Address::App(_)) => {
                            apps.extend(self.apps.get(name).map(|app| app.inbox));
                        }
                        (Place::Away(inbox), _) if is_own => {
                            rooms.push(inbox);
                            away.push(address.clone());
                        }
                        (Place::Away(_), _) => {}
                    }
                }
            }
            To::All if message.kind == Kind::Directed => reading = true,
            To::All if is_own => rooms.extend(self.rooms.inboxes()),
            To::All => {}
        }
        rooms.sort_unstable();
        rooms.dedup();
        self.waiting.insert(hash, Waiting { content, askers: vec![asker] });
        let number = self.first_intake + self.intakes.len() as u64;
        if reading && let Address::App(name) = &from {
            self.read_followers(number, name, &[]);
        }
        let (found, failed) = (Vec::with_capacity(users.len()), false);
        self.intakes.push_back(Intake {
            hash,
            content,
            from,
            message,
            users,
            found,
            apps,
            rooms,
            away,
            origin,
            reading,
            failed,
        });
        self.settle_intakes(now);
        // Who is not known is asked for at once, not one after the other.
        if let Some(intake) =
            number.checked_sub(self.first_intake).and_then(|at| self.intakes.get(at as usize))
        {
            let missing: Vec<String> = intake.users[intake.found.len()..].to_vec();
            missing.iter().for_each(|name| self.look_up(name));
        }
    }

    /// Asks for a user's row, unless it is known or asked for.
    pub(super) fn look_up(&mut self, name: &str) {
        if self.users.get(name).is_none() && !self.looked_up.contains(name) {
            self.looked_up.insert(name.to_owned());
            self.ask_row(Question::User(name.to_owned()), rows::USER, name.as_bytes().to_vec());
        }
    }

    fn read_followers(&mut self, intake: u64, app: &str, after: &[u8]) {
        let mut from = rows::follow_key(app, "");
        from.extend_from_slice(after);
        let mut to = rows::follow_key(app, "");
        to.push(0x7f);
        let wanted = Wanted::Range { from, to, limit: PAGE };
        let fetch = Fetch { ticket: 0, table: rows::FOLLOW, wanted };
        self.ask(Question::Follow(intake), fetch);
    }

    pub(super) fn followers_found(&mut self, now: Time, number: u64, found: Result<Vec<Row>, Fault>) {
        let names = |found: &[Row]| -> Vec<String> {
            found.iter().filter_map(|row| rows::read_follow(&row.key)).map(str::to_owned).collect()
        };
        let failed = found.is_err();
        let found = found.unwrap_or_default();
        let names = names(&found);
        names.iter().for_each(|name| self.look_up(name));
        let Some(intake) = self.intakes.get_mut((number - self.first_intake) as usize) else { return };
        intake.failed |= failed;
        intake.users.extend(names.iter().cloned());
        let more = found.len() == PAGE && intake.users.len() < MAX_FOLLOWERS;
        match (more, names.last(), intake.from.clone()) {
            (true, Some(last), Address::App(app)) => {
                // The next possible key after the last one.
                let after = [last.as_bytes(), &[0]].concat();
                self.read_followers(number, &app, &after);
            }
            _ => {
                intake.reading = false;
                self.settle_intakes(now);
            }
        }
    }

    pub(super) fn user_found(&mut self, now: Time, name: &str, found: Result<Vec<Row>, Fault>) {
        self.looked_up.remove(name);
        match found {
            Ok(found) if self.users.get(name).is_none() => {
                let user = found.first().and_then(|row| rows::read_user(&row.value));
                self.users.put(name, user.map(Arc::new));
            }
            Ok(_) => {}
            Err(_) => {
                let waiting =
                    self.intakes.iter_mut().filter(|intake| intake.users.iter().any(|user| user == name));
                waiting.for_each(|intake| intake.failed = true);
                self.fail_queries(name);
            }
        }
        self.settle_intakes(now);
        self.settle_queries();
    }

    /// Takes into the log whatever is looked up, in order.
    fn settle_intakes(&mut self, now: Time) {
        while let Some(intake) = self.intakes.front_mut() {
            // What comes behind something that could not be taken would be taken before it.
            let is_broken = intake.origin.as_ref().is_some_and(|origin| self.rooms.is_broken(origin));
            if intake.failed || is_broken {
                let hash = intake.hash;
                self.drop_intake();
                self.refuse_waiting(hash, 507);
                continue;
            }
            if intake.reading {
                return;
            }
            while let Some(name) = intake.users.get(intake.found.len())
                && let Some(user) = self.users.get(name)
            {
                intake.found.push(user);
            }
            if let Some(name) = intake.users.get(intake.found.len()).cloned() {
                return self.look_up(&name);
            }
            if let Some(intake) = self.drop_intake() {
                self.log(now, intake);
            }
        }
    }

    fn drop_intake(&mut self) -> Option<Intake> {
        self.first_intake += 1;
        self.intakes.pop_front()
    }

    pub(super) fn answer_all(&mut self, hash: [u8; 16], answer: Answer) {
        for asker in self.waiting.remove(&hash).into_iter().flat_map(|waiting| waiting.askers) {
            self.answer(asker, answer.clone());
        }
    }

    pub(super) fn refuse_waiting(&mut self, hash: [u8; 16], code: u16) {
        self.counters.refused += 1;
        self.answer_all(hash, Answer { code, state: None });
    }

    fn refuse_message(&mut self, asker: Asker, code: u16) {
        self.counters.refused += 1;
        self.answer(asker, Answer { code, state: None });
    }

    fn answer(&mut self, asker: Asker, answer: Answer) {
        match asker {
            Asker::App { seat, id } => self.outputs.push_back(HubOutput::Answered { seat, id, answer }),
            Asker::Device { seat, inbox, number } => {
                let state = answer.state.unwrap_or(State::Dropped);
                self.send(seat, inbox, Frame::PutAnswer { number, code: answer.code, state });
            }
            Asker::Room { inbox, seat, sequence } => self.taken(inbox, seat, sequence, answer.code),
            Asker::Nobody => {}
        }
    }
}

/// Whether the sender may send this; else the code of the refusal.
fn may(sender: &Sender, from: &Address, message: &Message) -> Result<(), u16> {
    if message.from.as_ref().is_some_and(|claimed| claimed != from) || !is_id(&message.id) {
        return Err(403);
    }
    let rights = match sender {
        Sender::App { rights, .. } => *rights,
        Sender::Device { .. } => Rights { send: true, ..Rights::default() },
        // That room has looked.
        Sender::Room { .. } => return Ok(()),
    };
    let subscribers = message.to == To::All && message.kind == Kind::Directed;
    match (message.kind, sender) {
        (Kind::Broadcast, _) if !rights.broadcast => Err(403),
        (_, Sender::Device { .. }) if subscribers => Err(403),
        (Kind::One | Kind::Directed, _) if !rights.send => Err(403),
        _ => Ok(()),
    }
}

/// Two senders may use the same id.
pub(super) fn id_hash(sender: &Sender, id: &str) -> [u8; 16] {
    let mut digest = Sha256::new();
    match sender {
        Sender::App { name, .. } => {
            digest.update([b'a', name.len() as u8]);
            digest.update(name);
        }
        Sender::Device { inbox, .. } => {
            digest.update([b'd']);
            digest.update(inbox.0.to_be_bytes());
        }
        Sender::Room { inbox, epoch, .. } => {
            digest.update([b'r']);
            digest.update(inbox.0.to_be_bytes());
            digest.update(epoch.to_be_bytes());
        }
    }
    digest.update(id);
    let hash: [u8; 32] = digest.finalize().into();
    hash.first_chunk().copied().unwrap_or_default()
}

/// Of what makes a message another one. A repeat may have less time left.
fn content_hash(message: &Message) -> u64 {
    let mut digest = Sha256::new();
    digest.update([message.kind as u8, u8::from(message.store)]);
    if let Some((start, end)) = message.period {
        digest.update(start.to_be_bytes());
        digest.update(end.to_be_bytes());
    }
    if let To::Named(named) = &message.to {
        for address in named {
            digest.update(address.to_string());
            digest.update(b",");
        }
    }
    digest.update([message.content_type.len() as u8]);
    digest.update(&message.content_type);
    digest.update(&message.body);
    let hash: [u8; 32] = digest.finalize().into();
    hash.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}
