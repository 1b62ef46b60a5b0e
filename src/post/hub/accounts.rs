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
    AddUser { ticket: u64, name: String },
    AddDevice { ticket: u64, user: String, session: SessionId, device: Device },
    RevokeDevice { ticket: u64, session: SessionId },
    Keep { seat: Seat, inbox: Inbox, request: u64, user: String, keep: bool },
}

/// Users whose rows were read lately, and those that were changed until the disk has that too.
pub(super) struct Users {
    read: Lately<String, Option<Arc<User>>>,
    changed: HashMap<String, (u64, Arc<User>)>,
    tickets: VecDeque<(u64, String)>,
}

impl Users {
    pub(super) fn new(capacity: usize) -> Users {
        Users { read: Lately::new(capacity), changed: HashMap::default(), tickets: VecDeque::new() }
    }

    /// `None` when it was not read; `Some(None)` when there is no such user.
    pub(super) fn get(&mut self, name: &str) -> Option<Option<Arc<User>>> {
        match self.changed.get(name) {
            Some((_, user)) => Some(Some(user.clone())),
            None => self.read.get(name).cloned(),
        }
    }

    /// What the disk has.
    pub(super) fn put(&mut self, name: &str, user: Option<Arc<User>>) {
        self.read.put(name.to_owned(), user);
    }

    /// What the disk will have with this ticket.
    pub(super) fn change(&mut self, name: &str, user: User, ticket: u64) {
        self.read.forget(name);
        self.changed.insert(name.to_owned(), (ticket, Arc::new(user)));
        self.tickets.push_back((ticket, name.to_owned()));
    }

    /// The disk has everything up to this ticket.
    pub(super) fn settle(&mut self, through: u64) {
        while self.tickets.front().is_some_and(|(ticket, _)| *ticket <= through) {
            let Some((ticket, name)) = self.tickets.pop_front() else { break };
            if self.changed.get(&name).is_some_and(|(newest, _)| *newest == ticket)
                && let Some((_, user)) = self.changed.remove(&name)
            {
                self.put(&name, Some(user));
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
        if self.config.asks && found.as_ref().is_ok_and(Vec::is_empty) {
            return self.event(HubEvent::Authenticate { ticket, session });
        }
        let unix = self.unix(now);
        let device = found.ok().and_then(|rows| rows::read_device(&rows.first()?.value));
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
        check_name(name)?;
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

    /// A new application. Answers with its secret, which is kept as a hash only, and the ticket of the
    /// [`HubEvent::Done`] that says that it is durable.
    pub fn add_app(&mut self, name: &str, rights: Rights) -> Result<(String, u64), Fault> {
        check_name(name)?;
        if self.apps.contains_key(name) {
            return Err(Fault::new(Status::State, format!("there is an application {name}")));
        }
        if self.apps.len() >= self.config.max_apps {
            let detail = format!("there are {} applications, the most there can be", self.config.max_apps);
            return Err(Fault::new(Status::Full, detail));
        }
        let ticket = self.request();
        let mut secret = [0; 16];
        self.rng.fill(&mut secret);
        let secret: String = secret.iter().map(|octet| format!("{octet:02x}")).collect();
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
        if !self.apps.contains_key(app) {
            return self.send(seat, inbox, Frame::Answer { request, code: 404 });
        }
        let (table, key) = (rows::FOLLOW, rows::follow_key(app, user));
        let op = if on { Op::Put { table, key, value: Vec::new() } } else { Op::Delete { table, key } };
        self.persist(vec![op], Effect::Asked { seat, inbox, request });
    }

    pub(super) fn change(&mut self, now: Time, change: Change, found: Result<Vec<Row>, Fault>) {
        let unix = self.unix(now);
        let row = match found {
            Ok(rows) => rows.into_iter().next(),
            Err(fault) => return self.refuse(&change, fault),
        };
        match change {
            Change::AddUser { ticket, ref name } => {
                if self.user_now(name, row).is_some() {
                    return self
                        .refuse(&change, Fault::new(Status::State, format!("there is a user {name}")));
                }
                let user = User { keep: true, inboxes: Vec::new() };
                let batch = self.persist(vec![rows::put_user(name, &user)], Effect::Done { ticket });
                self.users.change(name, user, batch);
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
                ops.push(rows::put_owner(device.inbox, session, user));
                let batch = self.persist(ops, Effect::Done { ticket });
                self.users.change(user, owner, batch);
            }
            Change::RevokeDevice { ticket, session } => {
                let Some(device) = row.and_then(|row| rows::read_device(&row.value)) else {
                    let detail = "there is no device by that session id";
                    return self.refuse(&change, Fault::new(Status::NotFound, detail));
                };
                let seat = self.presence.seat(device.inbox);
                self.outputs.push_back(HubOutput::Revoked { inbox: device.inbox, seat });
                let key = device.inbox.0.to_be_bytes().to_vec();
                let ops = vec![
                    Op::Delete { table: rows::DEVICE, key: session.0.to_vec() },
                    Op::Put { table: rows::REVOKED, key, value: unix.to_be_bytes().to_vec() },
                ];
                self.revoked.insert(device.inbox, unix);
                self.persist(ops, Effect::Done { ticket });
            }
            Change::Keep { seat, inbox, request, ref user, keep } => {
                let Some(owner) = self.user_now(user, row) else {
                    return self.refuse(&change, Status::NotFound.into());
                };
                let owner = User { keep, ..owner };
                let op = rows::put_user(user, &owner);
                let batch = self.persist(vec![op], Effect::Asked { seat, inbox, request });
                self.users.change(user, owner, batch);
            }
        }
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
            | Change::RevokeDevice { ticket, .. } => {
                self.event(HubEvent::Done { ticket, result: Err(fault) });
            }
            Change::Keep { seat, inbox, request, .. } => {
                let code = if fault.status == Status::NotFound { 404 } else { 507 };
                self.send(seat, inbox, Frame::Answer { request, code });
            }
        }
    }

    /// Names a request of the operator; of a series of its own.
    fn request(&mut self) -> u64 {
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

fn check_name(name: &str) -> Result<(), Fault> {
    match is_name(name) {
        true => Ok(()),
        false => Err(Fault::new(
            Status::Invalid,
            "a name has 1 to 64 visible ASCII characters, without a comma, a colon or an asterisk",
        )),
    }
}
