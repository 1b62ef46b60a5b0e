//! Users, devices and applications: who may log in, and what an operator changes.

use sha2::{Digest, Sha256};

use super::*;
use crate::{store::Row, wire::app::is_name};

/// What a device proves to hold, and whom it stands for.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// The secret, which is never on the wire.
    pub secret: [u8; 32],
    /// The queue of the device.
    pub inbox: Inbox,
    /// The device.
    pub device: [u8; 16],
    /// Its user.
    pub user: String,
    /// What was sealed under an earlier one is void.
    pub epoch: u32,
    /// In Unix seconds; 0 for never.
    pub expires: u64,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("inbox", &self.inbox).finish_non_exhaustive()
    }
}

/// What an application may do (DECISIONS.md 8).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Rights {
    /// Send to users and applications.
    pub send: bool,
    /// Send to everybody.
    pub broadcast: bool,
    /// Ask where users are.
    pub query: bool,
}

/// What an operator gets to hand to a device: nothing of it is kept in clear but here and in the store.
#[derive(Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// The public name of the credential.
    pub session: SessionId,
    /// The secret.
    pub secret: [u8; 32],
    /// The request's ticket: it counts once that is done.
    pub ticket: u64,
}

/// What waits for a row that it changes.
pub(super) enum Change {
    AddUser {
        ticket: u64,
        name: String,
    },
    AddDevice {
        ticket: u64,
        user: String,
        session: SessionId,
        device: Device,
    },
    RevokeDevice {
        ticket: u64,
        session: SessionId,
    },
    /// With the new session and secret.
    RotateDevice {
        ticket: u64,
        session: SessionId,
        new: SessionId,
        secret: [u8; 32],
    },
    RemoveUser {
        ticket: u64,
        name: String,
    },
    /// Its devices are known by number; the rows say which sessions they have.
    RemoveDevices {
        ticket: u64,
        name: String,
        inboxes: Vec<Inbox>,
    },
    Keep {
        seat: Seat,
        inbox: Inbox,
        request: u64,
        user: String,
        keep: bool,
    },
}

/// Users whose rows were read lately, and those that were changed until the disk has that too.
pub(super) struct Users {
    read: Lately<String, Option<Arc<User>>>,
    /// `None` for who is removed.
    changed: HashMap<String, (u64, Option<Arc<User>>)>,
    tickets: VecDeque<(u64, String)>,
}

impl Users {
    pub(super) fn new(capacity: usize) -> Users {
        Users { read: Lately::new(capacity), changed: HashMap::default(), tickets: VecDeque::new() }
    }

    /// `None` when it was not read; `Some(None)` when there is no such user.
    pub(super) fn get(&mut self, name: &str) -> Option<Option<Arc<User>>> {
        match self.changed.get(name) {
            Some((_, user)) => Some(user.clone()),
            None => self.read.get(name).cloned(),
        }
    }

    /// What the disk has.
    pub(super) fn put(&mut self, name: &str, user: Option<Arc<User>>) {
        self.read.put(name.to_owned(), user);
    }

    /// What the disk will have with this ticket.
    pub(super) fn change(&mut self, name: &str, user: Option<User>, ticket: u64) {
        self.read.forget(name);
        self.changed.insert(name.to_owned(), (ticket, user.map(Arc::new)));
        self.tickets.push_back((ticket, name.to_owned()));
    }

    /// The disk has everything up to this ticket.
    pub(super) fn settle(&mut self, through: u64) {
        while self.tickets.front().is_some_and(|(ticket, _)| *ticket <= through) {
            let Some((ticket, name)) = self.tickets.pop_front() else { break };
            if self.changed.get(&name).is_some_and(|(newest, _)| *newest == ticket)
                && let Some((_, user)) = self.changed.remove(&name)
            {
                self.put(&name, user);
            }
        }
    }
}

impl Hub {
    /// Who holds this session id? [`HubOutput::Authenticated`] answers, perhaps after [`HubEvent::Authenticate`].
    pub fn authenticate(&mut self, ticket: u64, session: SessionId) {
        self.ask_row(Question::Authenticate { ticket, session }, rows::DEVICE, session.0.to_vec());
    }

    pub(super) fn credential_found(
        &mut self,
        now: Time,
        ticket: u64,
        session: SessionId,
        found: Result<Vec<Row>, Fault>,
    ) {
        // What cannot be read is not known to be wrong: without an answer the device asks again.
        let Ok(found) = found else { return };
        if self.config.asks && found.is_empty() {
            return self.event(HubEvent::Authenticate { ticket, session });
        }
        let unix = self.unix(now);
        let device = found.first().and_then(|row| rows::read_device(&row.value));
        let credential =
            device.filter(|device| device.expires == 0 || device.expires > unix).map(|device| Credential {
                secret: device.secret,
                inbox: device.inbox,
                device: device.device,
                user: device.user,
                epoch: device.epoch,
                expires: device.expires,
            });
        self.outputs.push_back(HubOutput::Authenticated { ticket, credential });
    }

    /// An application's inbox and rights, if there is one by that name and this is its secret.
    pub fn admit(&self, app: &str, secret: &str) -> Option<(Inbox, Rights)> {
        let app = self.apps.get(app)?;
        // Both are hashes of a secret: how much of them is equal tells nothing of it.
        let hash: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
        let [send, broadcast, query] = app.rights;
        (app.secret_hash == hash).then_some((app.inbox, Rights { send, broadcast, query }))
    }

    /// A new user. Fails with [`Status::State`] when there is one by that name; [`HubEvent::Done`] says when it is durable.
    pub fn add_user(&mut self, name: &str) -> Result<u64, Fault> {
        self.check_new_name(name)?;
        let ticket = self.request();
        let change = Change::AddUser { ticket, name: name.to_owned() };
        self.ask_row(Question::Operator(change), rows::USER, name.as_bytes().to_vec());
        Ok(ticket)
    }

    /// A new device of a user, with a credential of its own.
    pub fn add_device(&mut self, user: &str, device: [u8; 16], expires: u64) -> Result<Enrolled, Fault> {
        check_name(user)?;
        let ticket = self.request();
        let (mut session, mut secret) = ([0; 16], [0; 32]);
        self.rng.fill(&mut session);
        self.rng.fill(&mut secret);
        let session = SessionId(session);
        // The inbox is given once the user was found.
        let device = Device { inbox: Inbox(0), device, secret, epoch: 1, expires, user: user.to_owned() };
        let change = Change::AddDevice { ticket, user: user.to_owned(), session, device };
        self.ask_row(Question::Operator(change), rows::USER, user.as_bytes().to_vec());
        Ok(Enrolled { session, secret, ticket })
    }

    /// A credential holds no more: nobody logs in by it, and who did is sent away. What waits for the device is kept.
    pub fn revoke_device(&mut self, session: SessionId) -> u64 {
        let ticket = self.request();
        self.ask_row(
            Question::Operator(Change::RevokeDevice { ticket, session }),
            rows::DEVICE,
            session.0.to_vec(),
        );
        ticket
    }

    /// A device gets another credential in the place of the one that it has: its inbox and what waits in it stay. Who sits on the
    /// old one is sent away once the new one is durable.
    pub fn rotate_device(&mut self, session: SessionId) -> Enrolled {
        let ticket = self.request();
        let (mut new, mut secret) = ([0; 16], [0; 32]);
        self.rng.fill(&mut new);
        self.rng.fill(&mut secret);
        let new = SessionId(new);
        let change = Change::RotateDevice { ticket, session, new, secret };
        self.ask_row(Question::Operator(change), rows::DEVICE, session.0.to_vec());
        Enrolled { session: new, secret, ticket }
    }

    /// A user is no more, with all devices and what waits for them.
    pub fn remove_user(&mut self, name: &str) -> u64 {
        let ticket = self.request();
        let change = Change::RemoveUser { ticket, name: name.to_owned() };
        self.ask_row(Question::Operator(change), rows::USER, name.as_bytes().to_vec());
        ticket
    }

    /// An application is no more, with what waits for it and who subscribed to it. Answers with its inbox, whose connections are
    /// to be closed, and a ticket.
    ///
    /// # Errors
    /// [`Status::NotFound`] when there is none by that name.
    pub fn remove_app(&mut self, name: &str) -> Result<(Inbox, u64), Fault> {
        let app = self.apps.remove(name).ok_or_else(|| no_app(name))?;
        let ticket = self.request();
        let mut ops = vec![Op::Delete { table: rows::APP, key: name.as_bytes().to_vec() }];
        let from = rows::follow_key(name, "");
        // Names are ASCII.
        let to = [&from[..], &[u8::MAX]].concat();
        ops.push(Op::DeleteRange { table: rows::FOLLOW, from, to });
        self.discard_all(app.inbox, &mut ops);
        self.persist(ops, Effect::Done { ticket });
        Ok((app.inbox, ticket))
    }

    /// An application gets another secret; the old one holds no more. Answers with its inbox, whose connections are to be closed,
    /// and as [`Hub::add_app`].
    ///
    /// # Errors
    /// [`Status::NotFound`] when there is none by that name.
    pub fn rotate_app(&mut self, name: &str) -> Result<(Inbox, String, u64), Fault> {
        let ticket = self.request();
        let secret = self.app_secret();
        let app = self.apps.get_mut(name).ok_or_else(|| no_app(name))?;
        app.secret_hash = Sha256::digest(secret.as_bytes()).into();
        let (inbox, ops) = (app.inbox, vec![rows::put_app(name, app)]);
        self.persist(ops, Effect::Done { ticket });
        Ok((inbox, secret, ticket))
    }

    /// The applications there are, with what they may do.
    pub fn apps(&self) -> impl Iterator<Item = (&str, Rights)> {
        self.apps.iter().map(|(name, app)| {
            let [send, broadcast, query] = app.rights;
            (name.as_str(), Rights { send, broadcast, query })
        })
    }

    /// A new application. Answers with its secret, which is kept as a hash only, and the ticket of the
    /// [`HubEvent::Done`] that says that it is durable.
    pub fn add_app(&mut self, name: &str, rights: Rights) -> Result<(String, u64), Fault> {
        self.check_new_name(name)?;
        if self.apps.contains_key(name) {
            return Err(Fault::new(Status::State, format!("there is an application {name}")));
        }
        if self.apps.len() >= self.config.max_apps {
            let detail = format!("there are {} applications, the most there can be", self.config.max_apps);
            return Err(Fault::new(Status::Full, detail));
        }
        let ticket = self.request();
        let secret = self.app_secret();
        let mut ops = Vec::new();
        let app = App {
            inbox: self.new_inbox(&mut ops),
            rights: [rights.send, rights.broadcast, rights.query],
            secret_hash: Sha256::digest(secret.as_bytes()).into(),
        };
        ops.push(rows::put_app(name, &app));
        self.apps.insert(name.to_owned(), app);
        self.persist(ops, Effect::Done { ticket });
        Ok((secret, ticket))
    }

    /// A device's user wants messages kept, or not.
    pub(super) fn set_keep(&mut self, seat: Seat, inbox: Inbox, request: u64, user: &str, keep: bool) {
        let change = Change::Keep { seat, inbox, request, user: user.to_owned(), keep };
        self.ask_row(Question::Operator(change), rows::USER, user.as_bytes().to_vec());
    }

    /// A device's user follows an application, or no more.
    pub(super) fn follow(&mut self, seat: Seat, inbox: Inbox, request: u64, user: &str, app: &str, on: bool) {
        let app = match self.rooms.place(app) {
            Place::Home(app) if self.apps.contains_key(app) => app,
            Place::Home(_) => return self.send(seat, inbox, Frame::Answer { request, code: 404 }),
            // Who follows it would have to be known where it is.
            Place::Away(_) => return self.send(seat, inbox, Frame::Answer { request, code: 403 }),
        };
        let (table, key) = (rows::FOLLOW, rows::follow_key(app, user));
        let op = if on { Op::Put { table, key, value: Vec::new() } } else { Op::Delete { table, key } };
        self.persist(vec![op], Effect::Asked { seat, inbox, request });
    }

    pub(super) fn change(&mut self, now: Time, change: Change, found: Result<Vec<Row>, Fault>) {
        let unix = self.unix(now);
        let found = match found {
            Ok(rows) => rows,
            Err(fault) => return self.refuse(&change, fault),
        };
        if let Change::RemoveDevices { ticket, name, inboxes } = change {
            return self.remove_devices(unix, ticket, &name, &inboxes, &found);
        }
        let row = found.into_iter().next();
        match change {
            Change::AddUser { ticket, ref name } => {
                if self.user_now(name, row).is_some() {
                    return self
                        .refuse(&change, Fault::new(Status::State, format!("there is a user {name}")));
                }
                let user = User { keep: true, inboxes: Vec::new() };
                let batch = self.persist(vec![rows::put_user(name, &user)], Effect::Done { ticket });
                self.users.change(name, Some(user), batch);
            }
            Change::AddDevice { ticket, ref user, session, ref device } => {
                let Some(mut owner) = self.user_now(user, row) else {
                    return self
                        .refuse(&change, Fault::new(Status::NotFound, format!("there is no user {user}")));
                };
                if owner.inboxes.len() >= self.config.max_devices {
                    let detail =
                        format!("a user has at most {} devices: revoke one", self.config.max_devices);
                    return self.refuse(&change, Fault::new(Status::Full, detail));
                }
                let mut ops = Vec::new();
                let device = Device { inbox: self.new_inbox(&mut ops), ..device.clone() };
                owner.inboxes.push(device.inbox);
                ops.push(rows::put_user(user, &owner));
                ops.push(rows::put_device(session, &device));
                ops.push(self.begin_hearing(device.inbox));
                ops.push(rows::put_owner(device.inbox, session, user));
                let batch = self.persist(ops, Effect::Done { ticket });
                self.users.change(user, Some(owner), batch);
            }
            Change::RevokeDevice { ticket, session } => {
                let Some(device) = row.and_then(|row| rows::read_device(&row.value)) else {
                    return self.refuse(&change, no_device());
                };
                let mut ops = vec![Op::Delete { table: rows::DEVICE, key: session.0.to_vec() }];
                self.revoke(device.inbox, unix, u32::MAX, &mut ops);
                self.persist(ops, Effect::Done { ticket });
            }
            Change::RotateDevice { ticket, session, new, secret } => {
                let Some(device) = row.and_then(|row| rows::read_device(&row.value)) else {
                    return self.refuse(&change, no_device());
                };
                let device = Device { secret, epoch: device.epoch.saturating_add(1), ..device };
                let mut ops = vec![
                    Op::Delete { table: rows::DEVICE, key: session.0.to_vec() },
                    rows::put_device(new, &device),
                    rows::put_owner(device.inbox, new, &device.user),
                ];
                self.revoke(device.inbox, unix, device.epoch, &mut ops);
                self.persist(ops, Effect::Done { ticket });
            }
            Change::RemoveUser { ticket, ref name } => {
                let Some(owner) = self.user_now(name, row) else {
                    return self
                        .refuse(&change, Fault::new(Status::NotFound, format!("there is no user {name}")));
                };
                let inboxes = owner.inboxes;
                let keys = inboxes.iter().map(|inbox| inbox.0.to_be_bytes().to_vec()).collect();
                let fetch = Fetch { ticket: 0, table: rows::INBOX, wanted: Wanted::Keys(keys) };
                let change = Change::RemoveDevices { ticket, name: name.clone(), inboxes };
                self.ask(Question::Operator(change), fetch);
            }
            // Done above.
            Change::RemoveDevices { .. } => {}
            Change::Keep { seat, inbox, request, ref user, keep } => {
                let Some(owner) = self.user_now(user, row) else {
                    return self.refuse(&change, Status::NotFound.into());
                };
                let owner = User { keep, ..owner };
                let op = rows::put_user(user, &owner);
                let batch = self.persist(vec![op], Effect::Asked { seat, inbox, request });
                self.users.change(user, Some(owner), batch);
            }
        }
    }

    /// What was given out for an inbox under an epoch before this one is void, and who sits on it goes.
    fn revoke(&mut self, inbox: Inbox, unix: u64, epoch: u32, ops: &mut Vec<Op>) {
        let seat = self.presence.seat(inbox);
        self.outputs.push_back(HubOutput::Revoked { inbox, epoch, seat });
        let revoked = rows::Revoked { at: unix, epoch };
        ops.push(rows::put_revoked(inbox, revoked));
        self.revoked.insert(inbox, revoked);
    }

    /// All of a user goes in one batch.
    fn remove_devices(&mut self, unix: u64, ticket: u64, name: &str, inboxes: &[Inbox], owners: &[Row]) {
        // A device was added since the user was looked up.
        if let Some(Some(user)) = self.users.get(name)
            && user.inboxes != inboxes
        {
            let change = Change::RemoveUser { ticket, name: name.to_owned() };
            self.ask_row(Question::Operator(change), rows::USER, name.as_bytes().to_vec());
            return;
        }
        let mut ops = vec![Op::Delete { table: rows::USER, key: name.as_bytes().to_vec() }];
        for owner in owners {
            ops.extend(
                owner
                    .value
                    .get(..16)
                    .map(|session| Op::Delete { table: rows::DEVICE, key: session.to_vec() }),
            );
        }
        for inbox in inboxes {
            self.revoke(*inbox, unix, u32::MAX, &mut ops);
            self.discard_all(*inbox, &mut ops);
            self.owners.forget(inbox);
            ops.push(Op::Delete { table: rows::INBOX, key: inbox.0.to_be_bytes().to_vec() });
        }
        let vouched = |device| rows::vouched_key(name, &[device; 16]);
        ops.push(Op::DeleteRange { table: rows::VOUCHED, from: vouched(0), to: vouched(u8::MAX) });
        ops.extend(
            self.apps.keys().map(|app| Op::Delete { table: rows::FOLLOW, key: rows::follow_key(app, name) }),
        );
        let batch = self.persist(ops, Effect::Done { ticket });
        self.users.change(name, None, batch);
    }

    fn check_new_name(&self, name: &str) -> Result<(), Fault> {
        check_name(name)?;
        match self.rooms.is_taken(name) {
            false => Ok(()),
            true => Err(Fault::new(Status::Invalid, format!("{name} is the name of somebody in a room"))),
        }
    }

    fn app_secret(&mut self) -> String {
        let mut secret = [0; 16];
        self.rng.fill(&mut secret);
        secret.iter().map(|octet| format!("{octet:02x}")).collect()
    }

    /// A user as it will be once all that was asked for is durable: what is remembered is ahead of the disk.
    pub(super) fn user_now(&mut self, name: &str, row: Option<Row>) -> Option<User> {
        match self.users.get(name) {
            Some(known) => known.map(|user| (*user).clone()),
            None => rows::read_user(&row?.value),
        }
    }

    fn refuse(&mut self, change: &Change, fault: Fault) {
        match *change {
            Change::AddUser { ticket, .. }
            | Change::AddDevice { ticket, .. }
            | Change::RevokeDevice { ticket, .. }
            | Change::RotateDevice { ticket, .. }
            | Change::RemoveUser { ticket, .. }
            | Change::RemoveDevices { ticket, .. } => {
                self.event(HubEvent::Done { ticket, result: Err(fault) });
            }
            Change::Keep { seat, inbox, request, .. } => {
                let code = if fault.status == Status::NotFound { 404 } else { 507 };
                self.send(seat, inbox, Frame::Answer { request, code });
            }
        }
    }

    /// Names a request of the operator; of a series of its own.
    pub fn request(&mut self) -> u64 {
        self.next_question += 1;
        self.next_question
    }

    pub(super) fn new_inbox(&mut self, ops: &mut Vec<Op>) -> Inbox {
        let inbox = Inbox(self.next_inbox);
        self.next_inbox += 1;
        ops.push(rows::put_number(start::NEXT_INBOX, self.next_inbox.into()));
        inbox
    }
}

fn no_app(name: &str) -> Fault {
    Fault::new(Status::NotFound, format!("there is no application {name}"))
}

fn no_device() -> Fault {
    Fault::new(Status::NotFound, "there is no device by that session id")
}

fn check_name(name: &str) -> Result<(), Fault> {
    match is_name(name) {
        true => Ok(()),
        false => Err(Fault::new(
            Status::Invalid,
            "a name has 1 to 64 visible ASCII characters, without a comma, a colon or an asterisk",
        )),
    }
}
