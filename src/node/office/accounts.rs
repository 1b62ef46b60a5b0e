//! What an operator asks of an office.

use super::*;

impl OfficeNode {
    /// A new user. The event `durable` with this ticket says that it is done, `failed` that it is not.
    pub fn add_user(&mut self, name: &str) -> Result<u64, Fault> {
        self.hub.add_user(name)
    }

    /// A new device of a user; what is to be handed to it counts once its ticket is durable. Expires in Unix seconds, 0 for
    /// never.
    pub fn add_device(&mut self, user: &str, device: [u8; 16], expires: u64) -> Result<Enrolled, Fault> {
        self.hub.add_device(user, device, expires)
    }

    /// A device's credential holds no more. Answers with a ticket as [`OfficeNode::add_user`].
    pub fn revoke_device(&mut self, session: SessionId) -> u64 {
        self.hub.revoke_device(session)
    }

    /// Answers the event `authenticate`: this credential holds, and this is whose it is.
    ///
    /// # Errors
    /// As [`Hub::vouch`].
    pub fn admit(&mut self, ticket: u64, vouched: Vouched) -> Result<(), Fault> {
        self.hub.vouch(ticket, vouched)
    }

    /// Answers the event `authenticate`: this credential holds not.
    pub fn turn_away(&mut self, ticket: u64) {
        self.hub.turn_away(ticket);
    }

    /// A new application; its secret counts once the ticket is durable.
    pub fn add_app(&mut self, name: &str, rights: Rights) -> Result<(String, u64), Fault> {
        self.hub.add_app(name, rights)
    }

    /// A device gets another credential in the place of the one that it has, with another session id; what waits for it stays.
    /// Answers as [`OfficeNode::add_device`].
    pub fn rotate_device(&mut self, session: SessionId) -> Enrolled {
        self.hub.rotate_device(session)
    }

    /// A user is no more, with all devices and what waits for them. Answers with a ticket as [`OfficeNode::add_user`].
    pub fn remove_user(&mut self, name: &str) -> u64 {
        self.hub.remove_user(name)
    }

    /// An application is no more, with what waits for it. Answers with a ticket as [`OfficeNode::add_user`].
    pub fn remove_app(&mut self, now: Time, name: &str) -> Result<u64, Fault> {
        let (inbox, ticket) = self.hub.remove_app(name)?;
        self.apps.dismiss(now, inbox, &mut self.hub);
        Ok(ticket)
    }

    /// An application gets another secret; who logged in by the old one is sent away. Answers as [`OfficeNode::add_app`].
    pub fn rotate_app(&mut self, now: Time, name: &str) -> Result<(String, u64), Fault> {
        let (inbox, secret, ticket) = self.hub.rotate_app(name)?;
        self.apps.dismiss(now, inbox, &mut self.hub);
        Ok((secret, ticket))
    }

    /// A page of who there is. The event `durable` with this ticket says that [`OfficeNode::take_listed`] has it, `failed` that there
    /// is none.
    pub fn list(&mut self, list: List) -> u64 {
        self.hub.list(list)
    }

    /// The page that was asked for, once.
    pub fn take_listed(&mut self, ticket: u64) -> Option<Listed> {
        self.listed.remove(&ticket)
    }
}
