//! What an operator wants to see of users and devices.

use super::*;
use crate::store::Row;

/// What an operator wants to see, a page at a time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum List {
    /// Users in order of their names.
    Users {
        /// Those after this name; empty for the first.
        after: String,
    },
    /// Devices in order of their inboxes.
    Devices {
        /// Those after this one; 0 for the first.
        after: Inbox,
    },
    /// All devices of a user.
    DevicesOf {
        /// The user's name.
        user: String,
    },
}

/// A page of a [`List`]; an empty one is after the last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Listed {
    /// Name, devices, and whether messages are kept.
    Users(Vec<(String, usize, bool)>),
    /// Devices.
    Devices(Vec<DeviceInfo>),
}

/// A device as its operator sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceInfo {
    /// Its number.
    pub inbox: Inbox,
    /// The public name of its credential.
    pub session: SessionId,
    /// Whose it is.
    pub user: String,
    /// It is there now.
    pub online: bool,
    /// Its credential was revoked within the last week, or so.
    pub revoked: bool,
    /// Messages that wait for it.
    pub waiting: u32,
    /// Nothing is kept for it until it comes.
    pub stale: bool,
}

/// Rows in a page.
const PAGE: usize = 256;

impl Hub {
    /// Who there is, a page of it. [`HubOutput::Listed`] answers with this ticket.
    pub fn list(&mut self, list: List) -> u64 {
        let ticket = self.request();
        let after = |mut key: Vec<u8>| {
            key.push(0);
            key
        };
        let (table, wanted) = match &list {
            List::Users { after: name } => (
                rows::USER,
                Wanted::Range { from: after(name.as_bytes().to_vec()), to: vec![u8::MAX], limit: PAGE },
            ),
            List::Devices { after: inbox } => {
                let from = (inbox.0.saturating_add(1)).to_be_bytes().to_vec();
                (rows::INBOX, Wanted::Range { from, to: vec![u8::MAX; 4], limit: PAGE })
            }
            List::DevicesOf { user } => (rows::USER, Wanted::Keys(vec![user.as_bytes().to_vec()])),
        };
        self.ask(Question::List { ticket, list }, Fetch { ticket: 0, table, wanted });
        ticket
    }

    pub(super) fn list_found(&mut self, ticket: u64, list: List, found: Result<Vec<Row>, Fault>) {
        let found = match found {
            Ok(rows) => rows,
            Err(fault) => return self.event(HubEvent::Done { ticket, result: Err(fault) }),
        };
        let listed = match list {
            List::Users { .. } => Listed::Users(
                found
                    .iter()
                    .filter_map(|row| {
                        let user = rows::read_user(&row.value)?;
                        Some((std::str::from_utf8(&row.key).ok()?.to_owned(), user.inboxes.len(), user.keep))
                    })
                    .collect(),
            ),
            List::DevicesOf { user } => {
                let Some(owner) = found.first().and_then(|row| rows::read_user(&row.value)) else {
                    let fault = Fault::new(Status::NotFound, format!("there is no user {user}"));
                    return self.event(HubEvent::Done { ticket, result: Err(fault) });
                };
                // At most so many as a user may have.
                let keys = owner.inboxes.iter().map(|inbox| inbox.0.to_be_bytes().to_vec()).collect();
                let fetch = Fetch { ticket: 0, table: rows::INBOX, wanted: Wanted::Keys(keys) };
                let list = List::Devices { after: Inbox(0) };
                self.ask(Question::List { ticket, list }, fetch);
                return;
            }
            List::Devices { .. } => Listed::Devices(
                found
                    .iter()
                    .filter_map(|row| {
                        let inbox = Inbox(rows::read_u32(&row.key)?);
                        Some(DeviceInfo {
                            inbox,
                            session: SessionId(*row.value.first_chunk()?),
                            user: rows::read_owner(&row.value)?.to_owned(),
                            online: self.presence.seat(inbox).is_some(),
                            revoked: self
                                .revoked
                                .get(&inbox)
                                .is_some_and(|revoked| revoked.epoch == u32::MAX),
                            waiting: self.queues.depth(inbox).0,
                            stale: self.stale.contains_key(&inbox),
                        })
                    })
                    .collect(),
            ),
        };
        self.outputs.push_back(HubOutput::Listed { ticket, listed });
    }
}
