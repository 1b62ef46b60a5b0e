//! Credentials that the application vouches for: whom they stand for gets an inbox when it is first seen, and keeps it.

use super::*;
use crate::{store::Row, wire::app::is_name};

/// A credential that holds, says who was asked for a session id that is not the store's own.
#[derive(Clone, PartialEq, Eq)]
pub struct Vouched {
    /// The user that it stands for. One that was never seen is added.
    pub user: String,
    /// The device, by 16 octets that no other of the user has. One that was never seen is added.
    pub device: [u8; 16],
    /// The secret, which is never on the wire.
    pub secret: [u8; 32],
    /// In Unix seconds, 0 for never. Until then, at most seven days, a session that was lost is resumed without another
    /// question.
    pub expires: u64,
}

impl std::fmt::Debug for Vouched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vouched").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// Whom a row of [`rows::VOUCHED`] is for, and who waits for it.
pub(super) type Vouching = HashMap<Vec<u8>, VecDeque<(u64, Vouched)>>;

/// Logins of one device that wait for the disk. The device has given up those before.
const MAX_LOGINS: usize = 16;

impl Hub {
    /// The answer to what [`Hub::authenticate`] did not know. [`HubOutput::Authenticated`] follows.
    ///
    /// # Errors
    /// [`Status::Invalid`] when that is no name of a user, [`Status::Full`] when so many devices wait for the disk that this
    /// one gets no answer: it asks again.
    pub fn vouch(&mut self, ticket: u64, vouched: Vouched) -> Result<(), Fault> {
        if !is_name(&vouched.user) {
            return Err(Fault::new(Status::Invalid, "the user's name is none: see hail_office_add_user()"));
        }
        let key = rows::vouched_key(&vouched.user, &vouched.device);
        if let Some(waiting) = self.vouching.get_mut(&key) {
            if waiting.len() == MAX_LOGINS {
                waiting.pop_front();
            }
            waiting.push_back((ticket, vouched));
            return Ok(());
        }
        if self.vouching.len() >= self.config.max_pending {
            return Err(Fault::new(
                Status::Full,
                "too many logins wait for the disk: leave it, the device asks again",
            ));
        }
        self.vouching.insert(key.clone(), [(ticket, vouched)].into());
        self.ask_row(Question::Vouched(key.clone()), rows::VOUCHED, key);
        Ok(())
    }

    /// The same, when it does not hold.
    pub fn turn_away(&mut self, ticket: u64) {
        self.outputs.push_back(HubOutput::Authenticated { ticket, credential: None });
    }

    pub(super) fn vouched_found(&mut self, now: Time, key: Vec<u8>, found: Result<Vec<Row>, Fault>) {
        match found.as_deref() {
            Ok([row]) => self.vouched_at(now, &key, rows::read_u32(&row.value).map(Inbox)),
            Ok(_) => {
                let name = self.vouching.get(&key).and_then(|waiting| waiting.front());
                let name = name.map(|(_, vouched)| vouched.user.clone().into_bytes()).unwrap_or_default();
                self.ask_row(Question::VouchedUser(key), rows::USER, name);
            }
            Err(_) => self.leave_unanswered(&key),
        }
    }

    /// A device that was never seen: it gets an inbox, and its user a row if there is none.
    pub(super) fn vouched_user_found(&mut self, now: Time, key: Vec<u8>, found: Result<Vec<Row>, Fault>) {
        let first = self.vouching.get(&key).and_then(|waiting| waiting.front());
        let (Ok(found), Some(name)) = (found, first.map(|(_, vouched)| vouched.user.clone())) else {
            return self.leave_unanswered(&key);
        };
        let owner = self.user_now(&name, found.into_iter().next());
        let mut owner = owner.unwrap_or(User { keep: true, inboxes: Vec::new() });
        if owner.inboxes.len() >= self.config.max_devices {
            return self.vouched_at(now, &key, None);
        }
        let mut ops = Vec::new();
        let inbox = self.new_inbox(&mut ops);
        owner.inboxes.push(inbox);
        ops.push(rows::put_user(&name, &owner));
        ops.push(rows::put_owner(inbox, SessionId([0; 16]), &name));
        ops.push(self.begin_hearing(inbox));
        ops.push(Op::Put { table: rows::VOUCHED, key: key.clone(), value: inbox.0.to_be_bytes().to_vec() });
        let batch = self.persist(ops, Effect::Vouched { key, inbox });
        self.users.change(&name, Some(owner), batch);
    }

    /// The store cannot tell. A refusal would have the devices enrolled again; without one they ask again.
    fn leave_unanswered(&mut self, key: &[u8]) {
        self.vouching.remove(key);
    }

    /// It is known, and durable, which inbox that is; or that there is room for none.
    pub(super) fn vouched_at(&mut self, now: Time, key: &[u8], inbox: Option<Inbox>) {
        let unix = self.unix(now);
        for (ticket, vouched) in self.vouching.remove(key).unwrap_or_default() {
            let Vouched { user, device, secret, expires } = vouched;
            let inbox = inbox.filter(|_| expires == 0 || expires > unix);
            let credential = inbox.map(|inbox| Credential { secret, inbox, device, user, epoch: 1, expires });
            self.outputs.push_back(HubOutput::Authenticated { ticket, credential });
        }
    }
}
