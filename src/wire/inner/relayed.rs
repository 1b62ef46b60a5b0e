//! What rooms say to each other: a message with whom it is for, and users with where they are.

use super::{
    frame::Writer,
    message::Wrong,
    values::{Values, tag},
};
use crate::wire::{
    app::{Address, MAX_BODY, MAX_RECEIVERS, is_name},
    octets::{Octets, push_short},
    post::{Presence, address, is_content_type, push_address},
};

/// A message from one room for another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Relayed {
    /// Of the log of the room that it comes from: with that room's epoch it names the message.
    pub sequence: u64,
    /// When that room took it, in Unix seconds.
    pub sent: u32,
    /// Seconds until it is stale, when it is handed over: rooms' clocks may differ.
    pub left: u32,
    /// It is kept there until it is acknowledged; else it is said once, and not answered.
    pub kept: bool,
    /// A broadcast for those who come from the first to the second Unix second.
    pub period: Option<(u32, u32)>,
    /// Who sent it, by the name of its own room.
    pub from: Address,
    /// For whom, by the names of the room that it goes to; nobody for everybody there.
    pub to: Vec<Address>,
    /// At most 128 octets.
    pub content_type: String,
    /// At most 64 KiB.
    pub body: Vec<u8>,
}

impl Relayed {
    pub(super) fn write(&self, out: &mut Writer) {
        out.value(tag::SEQUENCE, &self.sequence.to_be_bytes()).value(tag::SENT, &self.sent.to_be_bytes());
        out.value(tag::LEFT, &self.left.to_be_bytes()).value(tag::KEPT, &[self.kept.into()]);
        if let Some((start, end)) = self.period {
            out.value(tag::PERIOD, [start.to_be_bytes(), end.to_be_bytes()].as_flattened());
        }
        let addresses = |some: &[Address]| {
            let mut octets = Vec::new();
            some.iter().for_each(|one| push_address(&mut octets, one));
            octets
        };
        out.value(tag::SENDER, &addresses(std::slice::from_ref(&self.from)));
        if !self.to.is_empty() {
            out.value(tag::RECEIVERS, &addresses(&self.to));
        }
        out.value(tag::CONTENT_TYPE, self.content_type.as_bytes()).value(tag::OCTETS, &self.body);
    }

    pub(super) fn read(values: &Values<'_>) -> Result<Relayed, Wrong> {
        let from = values.one(tag::SENDER).and_then(|octets| {
            let mut octets = Octets(octets);
            address(&mut octets).filter(|_| octets.is_empty())
        });
        let to = match values.one(tag::RECEIVERS) {
            Some(_) => values.list(tag::RECEIVERS, MAX_RECEIVERS, address)?,
            None => Vec::new(),
        };
        let kept = values.switch(tag::KEPT)?;
        let period = match values.one(tag::PERIOD) {
            Some(_) => {
                let octets: [u8; 8] = values.array(tag::PERIOD)?;
                let mut octets = Octets(&octets);
                let period = octets.u32().zip(octets.u32()).filter(|(start, end)| start < end);
                // What lives for a time is kept for everybody.
                Some(period.filter(|_| kept && to.is_empty()).ok_or(Wrong::Value(tag::PERIOD))?)
            }
            None => None,
        };
        let content_type = values.text(tag::CONTENT_TYPE)?;
        if !is_content_type(&content_type) {
            return Err(Wrong::Value(tag::CONTENT_TYPE));
        }
        let body = values.all(tag::OCTETS)?;
        if body.len() > MAX_BODY {
            return Err(Wrong::Value(tag::OCTETS));
        }
        Ok(Relayed {
            sequence: values.u64(tag::SEQUENCE)?,
            sent: values.u32(tag::SENT)?,
            left: values.u32(tag::LEFT)?,
            kept,
            period,
            from: from.ok_or(Wrong::Value(tag::SENDER))?,
            to,
            content_type,
            body,
        })
    }
}

pub(super) fn write_users(out: &mut Writer, users: &[String]) {
    let mut octets = Vec::new();
    users.iter().for_each(|user| push_short(&mut octets, user.as_bytes()));
    out.value(tag::USERS, &octets);
}

pub(super) fn read_users(values: &Values<'_>) -> Result<Vec<String>, Wrong> {
    values.list(tag::USERS, MAX_RECEIVERS, name)
}

pub(super) fn write_whereabouts(out: &mut Writer, users: &[Presence]) {
    let mut octets = Vec::new();
    for Presence { user, online, since } in users {
        push_short(&mut octets, user.as_bytes());
        octets.push((*online).into());
        octets.extend(since.to_be_bytes());
    }
    out.value(tag::WHEREABOUTS, &octets);
}

pub(super) fn read_whereabouts(values: &Values<'_>) -> Result<Vec<Presence>, Wrong> {
    values.list(tag::WHEREABOUTS, MAX_RECEIVERS, |octets| {
        let (user, online) = (name(octets)?, octets.u8()?);
        Some(Presence { user, online: matches!(online, 0 | 1).then_some(online == 1)?, since: octets.u64()? })
    })
}

fn name(octets: &mut Octets<'_>) -> Option<String> {
    octets.short_text().filter(|name| is_name(name)).map(str::to_owned)
}
