//! The hub's rows: what each table's keys and values are. Numbers are big-endian, so keys sort as they read.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `message` | sequence (8) | flags (1: shared, 2: for other rooms), sent (4), expires (4), inbox (4) unless shared, hash of sender and id (16), hash of the content (8), for other rooms flags (1: kept, 2: period), from (4) and until (4) of the period, count (2), receivers; sender, content type, body |
//! | `share` | sequence (8), the first inbox of the row (4) | inboxes that a shared message is for (4 each, rising) |
//! | `taken` | sequence (8), inbox (4) | |
//! | `known` | number (8) | ids of messages that are gone: sequence (8), hash of sender and id (16), hash of the content (8), until (4), each |
//! | `broadcast` | sequence (8) | from (4), until (4), as a message |
//! | `seen` | sequence of a broadcast (8), inbox (4) | |
//! | `stale` | inbox (4) | missed (4) |
//! | `heard` | inbox (4) | the day of service of its last login (2) |
//! | `user` | name | flags (1: keep), inboxes (4 each) |
//! | `device` | session id (16) | inbox (4), device id (16), secret (32), epoch (4), expires (8), user's name |
//! | `inbox` | inbox (4) | session id (16), user's name |
//! | `vouched` | name of a user, its length first, device id (16) | inbox (4) |
//! | `room` | name of another room | inbox (4) |
//! | `app` | name | inbox (4), rights, hash of the secret (32) |
//! | `follow` | name of an application, its length first, name of a user | |
//! | `revoked` | inbox (4) | Unix seconds (8), epoch (4): what was given out under an earlier epoch is void |
//! | `post` | a setting's name | its number (8) |
//!
//! Queues are not rows: they are read from the log at a start. A message with one receiver is confirmed by its leaving. Who
//! confirmed a shared one is in `taken`, until the last has, and it leaves with its rows there and in `share`. Its id is in its
//! own row as long as it is there, then in `known`: what leaves together is one row.

use super::{Inbox, SessionId};
use crate::{
    store::{Op, Table},
    wire::{
        app::Address,
        octets::{Octets, push_short},
        post::{Sequence, address, push_address},
    },
};

pub const MESSAGE: Table = Table::log("message");
pub const SHARE: Table = Table::rows("share");
pub const TAKEN: Table = Table::rows("taken");
pub const KNOWN: Table = Table::log("known");
pub const BROADCAST: Table = Table::log("broadcast");
pub const SEEN: Table = Table::rows("seen");
pub const STALE: Table = Table::rows("stale");
pub const HEARD: Table = Table::rows("heard");
pub const USER: Table = Table::rows("user");
pub const DEVICE: Table = Table::rows("device");
pub const INBOX: Table = Table::rows("inbox");
pub const VOUCHED: Table = Table::rows("vouched");
pub const REVOKED: Table = Table::rows("revoked");
pub const ROOM: Table = Table::rows("room");
pub const APP: Table = Table::rows("app");
pub const FOLLOW: Table = Table::rows("follow");
pub const SETTING: Table = Table::rows("post");

/// Inboxes in one row of [`SHARE`].
const SHARE_PART: usize = 16_384;

/// What most messages are; written as nothing.
const PLAIN: &str = "text/plain";

/// A message as it is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// In Unix seconds.
    pub sent: u32,
    /// In Unix seconds: from then on it is stale (OM-08).
    pub expires: u32,
    /// Its only receiver; `None` when there are several.
    pub only: Option<Inbox>,
    /// Of its sender and id.
    pub hash: [u8; 16],
    /// Of what makes it another message.
    pub content: u64,
    /// What other rooms have to know of it, if it is for their users too.
    pub relay: Option<Relay>,
    /// Who sent it.
    pub from: Address,
    pub content_type: String,
    pub body: Vec<u8>,
}

impl Kept {
    /// What it counts against a quota.
    pub fn size(&self) -> u32 {
        size(self.relay.as_ref(), &self.content_type, &self.body)
    }
}

fn size(relay: Option<&Relay>, content_type: &str, body: &[u8]) -> u32 {
    let name = |(Address::User(name) | Address::App(name)): &Address| name.len();
    let names: usize = relay.map_or(0, |relay| relay.to.iter().map(name).sum());
    (body.len() + content_type.len() + names + 64) as u32
}

/// What other rooms have to know of a message for their users.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Relay {
    /// It is kept until they have it.
    pub kept: bool,
    /// In Unix seconds, of a broadcast.
    pub period: Option<(u32, u32)>,
    /// Their users and applications, with the room after the name; of a broadcast nobody.
    pub to: Vec<Address>,
}

fn push_relay(out: &mut Vec<u8>, relay: &Relay) {
    out.push(u8::from(relay.kept) | u8::from(relay.period.is_some()) << 1);
    if let Some((start, end)) = relay.period {
        out.extend(start.to_be_bytes());
        out.extend(end.to_be_bytes());
    }
    out.extend((relay.to.len() as u16).to_be_bytes());
    relay.to.iter().for_each(|one| push_address(out, one));
}

fn read_relay(value: &mut Octets<'_>) -> Option<Relay> {
    let flags = value.u8()?;
    let period = if flags & 2 != 0 { Some((value.u32()?, value.u32()?)) } else { None };
    let count = value.u16()?;
    let to = (0..count).map(|_| address(value)).collect::<Option<_>>()?;
    Some(Relay { kept: flags & 1 != 0, period, to })
}

/// What is remembered of a message, without what it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    pub expires: u32,
    pub only: Option<Inbox>,
    pub hash: [u8; 16],
    pub content: u64,
    /// As [`Kept::size`].
    pub size: u32,
}

pub fn put_message(sequence: Sequence, kept: &Kept) -> Op {
    Op::Put { table: MESSAGE, key: sequence.0.to_be_bytes().to_vec(), value: message(kept) }
}

fn message(kept: &Kept) -> Vec<u8> {
    let mut value = Vec::with_capacity(kept.body.len() + 112);
    value.push(u8::from(kept.only.is_none()) | u8::from(kept.relay.is_some()) << 1);
    value.extend(kept.sent.to_be_bytes());
    value.extend(kept.expires.to_be_bytes());
    if let Some(inbox) = kept.only {
        value.extend(inbox.0.to_be_bytes());
    }
    value.extend(kept.hash);
    value.extend(kept.content.to_be_bytes());
    if let Some(relay) = &kept.relay {
        push_relay(&mut value, relay);
    }
    push_address(&mut value, &kept.from);
    let content_type = if kept.content_type == PLAIN { "" } else { &kept.content_type };
    push_short(&mut value, content_type.as_bytes());
    value.extend_from_slice(&kept.body);
    value
}

pub fn read_message(value: &[u8]) -> Option<Kept> {
    let mut value = Octets(value);
    let flags = value.u8()?;
    Some(Kept {
        sent: value.u32()?,
        expires: value.u32()?,
        only: if flags & 1 != 0 { None } else { Some(Inbox(value.u32()?)) },
        hash: value.array()?,
        content: value.u64()?,
        relay: if flags & 2 != 0 { Some(read_relay(&mut value)?) } else { None },
        from: address(&mut value)?,
        content_type: content_type(&mut value)?.to_owned(),
        body: value.rest().to_vec(),
    })
}

pub fn read_head(value: &[u8]) -> Option<Head> {
    let mut value = Octets(value);
    let flags = value.u8()?;
    let (_sent, expires) = (value.u32()?, value.u32()?);
    let only = if flags & 1 != 0 { None } else { Some(Inbox(value.u32()?)) };
    let (hash, content) = (value.array()?, value.u64()?);
    let relay = if flags & 2 != 0 { Some(read_relay(&mut value)?) } else { None };
    address(&mut value)?;
    let size = size(relay.as_ref(), content_type(&mut value)?, value.rest());
    Some(Head { expires, only, hash, content, size })
}

fn content_type<'a>(value: &mut Octets<'a>) -> Option<&'a str> {
    Some(match value.short_text()? {
        "" => PLAIN,
        other => other,
    })
}

/// A key of a sequence and an inbox.
pub fn pair_key(sequence: Sequence, inbox: Inbox) -> Vec<u8> {
    [&sequence.0.to_be_bytes()[..], &inbox.0.to_be_bytes()].concat()
}

pub fn read_pair(key: &[u8]) -> Option<(Sequence, Inbox)> {
    let mut key = Octets(key);
    Some((Sequence(key.u64()?), Inbox(key.u32()?)))
}

/// All pairs of a sequence.
pub fn delete_pairs(table: Table, sequence: Sequence) -> Op {
    let (from, to) = (pair_key(sequence, Inbox(0)), pair_key(sequence, Inbox(u32::MAX)));
    Op::DeleteRange { table, from, to }
}

/// Whom a shared message is for, rising.
pub fn put_shares(sequence: Sequence, inboxes: &[Inbox]) -> impl Iterator<Item = Op> {
    inboxes.chunks(SHARE_PART).map(move |part| Op::Put {
        table: SHARE,
        key: pair_key(sequence, part[0]),
        value: part.iter().flat_map(|inbox| inbox.0.to_be_bytes()).collect(),
    })
}

pub fn read_shares(value: &[u8]) -> impl Iterator<Item = Inbox> {
    value.as_chunks().0.iter().map(|inbox| Inbox(u32::from_be_bytes(*inbox)))
}

pub fn put_taken(sequence: Sequence, inbox: Inbox) -> Op {
    Op::Put { table: TAKEN, key: pair_key(sequence, inbox), value: Vec::new() }
}

pub fn delete_log(table: Table, from: Sequence, to: Sequence) -> Op {
    let (from, to) = (from.0.to_be_bytes().to_vec(), to.0.to_be_bytes().to_vec());
    if from == to { Op::Delete { table, key: from } } else { Op::DeleteRange { table, from, to } }
}

/// That an id was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known {
    /// Of its message.
    pub sequence: Sequence,
    pub hash: [u8; 16],
    pub content: u64,
    /// In Unix seconds.
    pub until: u32,
}

pub fn put_known(number: u64, known: &[Known]) -> Op {
    let mut value = Vec::with_capacity(known.len() * 36);
    for one in known {
        value.extend(one.sequence.0.to_be_bytes());
        value.extend(one.hash);
        value.extend(one.content.to_be_bytes());
        value.extend(one.until.to_be_bytes());
    }
    Op::Put { table: KNOWN, key: number.to_be_bytes().to_vec(), value }
}

pub fn read_known(value: &[u8]) -> Option<Vec<Known>> {
    let mut value = Octets(value);
    let mut known = Vec::new();
    while !value.is_empty() {
        let sequence = Sequence(value.u64()?);
        known.push(Known { sequence, hash: value.array()?, content: value.u64()?, until: value.u32()? });
    }
    Some(known)
}

/// A user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    /// Messages are kept while no device of the user is there (OM-05).
    pub keep: bool,
    /// Of the user's devices.
    pub inboxes: Vec<Inbox>,
}

pub fn put_user(name: &str, user: &User) -> Op {
    let mut value = vec![u8::from(user.keep)];
    user.inboxes.iter().for_each(|inbox| value.extend(inbox.0.to_be_bytes()));
    Op::Put { table: USER, key: name.as_bytes().to_vec(), value }
}

pub fn read_user(value: &[u8]) -> Option<User> {
    let mut value = Octets(value);
    let keep = value.u8()? & 1 != 0;
    let mut inboxes = Vec::new();
    while !value.is_empty() {
        inboxes.push(Inbox(value.u32()?));
    }
    Some(User { keep, inboxes })
}

/// A device's credential.
#[derive(Clone, PartialEq, Eq)]
pub struct Device {
    pub inbox: Inbox,
    pub device: [u8; 16],
    pub secret: [u8; 32],
    /// Raised when it is revoked or renewed: what was sealed under an earlier one is void.
    pub epoch: u32,
    /// In Unix seconds; 0 for never.
    pub expires: u64,
    pub user: String,
}

pub fn put_device(session: SessionId, device: &Device) -> Op {
    let mut value = device.inbox.0.to_be_bytes().to_vec();
    value.extend(device.device);
    value.extend(device.secret);
    value.extend(device.epoch.to_be_bytes());
    value.extend(device.expires.to_be_bytes());
    value.extend_from_slice(device.user.as_bytes());
    Op::Put { table: DEVICE, key: session.0.to_vec(), value }
}

pub fn read_device(value: &[u8]) -> Option<Device> {
    let mut value = Octets(value);
    Some(Device {
        inbox: Inbox(value.u32()?),
        device: value.array()?,
        secret: value.array()?,
        epoch: value.u32()?,
        expires: value.u64()?,
        user: String::from_utf8(value.rest().to_vec()).ok()?,
    })
}

/// Another room's inbox.
pub fn put_room(name: &str, inbox: Inbox) -> Op {
    Op::Put { table: ROOM, key: name.as_bytes().to_vec(), value: inbox.0.to_be_bytes().to_vec() }
}

/// An application.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct App {
    pub inbox: Inbox,
    /// May send, broadcast, query.
    pub rights: [bool; 3],
    pub secret_hash: [u8; 32],
}

pub fn put_app(name: &str, app: &App) -> Op {
    let mut value = app.inbox.0.to_be_bytes().to_vec();
    value.push(app.rights.iter().rev().fold(0, |bits, right| bits << 1 | u8::from(*right)));
    value.extend(app.secret_hash);
    Op::Put { table: APP, key: name.as_bytes().to_vec(), value }
}

pub fn read_app(value: &[u8]) -> Option<App> {
    let mut value = Octets(value);
    let inbox = Inbox(value.u32()?);
    let bits = value.u8()?;
    Some(App { inbox, rights: [0, 1, 2].map(|bit| bits >> bit & 1 != 0), secret_hash: value.array()? })
}

/// That what was given out for an inbox holds no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Revoked {
    /// When, in Unix seconds.
    pub at: u64,
    /// What has this epoch, or a later one, is good.
    pub epoch: u32,
}

pub fn put_revoked(inbox: Inbox, revoked: Revoked) -> Op {
    let key = inbox.0.to_be_bytes().to_vec();
    let value = [&revoked.at.to_be_bytes()[..], &revoked.epoch.to_be_bytes()].concat();
    Op::Put { table: REVOKED, key, value }
}

pub fn read_revoked(value: &[u8]) -> Option<Revoked> {
    let mut value = Octets(value);
    Some(Revoked { at: value.u64()?, epoch: value.u32()? })
}

/// Whose an inbox is, and the session id that it was given for; zeros when the application vouched.
pub fn put_owner(inbox: Inbox, session: SessionId, user: &str) -> Op {
    let (key, value) = (inbox.0.to_be_bytes().to_vec(), [&session.0[..], user.as_bytes()].concat());
    Op::Put { table: INBOX, key, value }
}

pub fn vouched_key(user: &str, device: &[u8; 16]) -> Vec<u8> {
    let mut key = Vec::with_capacity(user.len() + 17);
    push_short(&mut key, user.as_bytes());
    key.extend_from_slice(device);
    key
}

/// The user's name, from a row of [`INBOX`].
pub fn read_owner(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value.get(16..)?).ok()
}

pub fn follow_key(app: &str, user: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(app.len() + user.len() + 1);
    push_short(&mut key, app.as_bytes());
    key.extend_from_slice(user.as_bytes());
    key
}

/// The user's name.
pub fn read_follow(key: &[u8]) -> Option<&str> {
    let mut key = Octets(key);
    key.short()?;
    std::str::from_utf8(key.rest()).ok()
}

/// A broadcast with a life period.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broadcast {
    /// In Unix seconds.
    pub period: (u32, u32),
    pub kept: Kept,
}

pub fn put_broadcast(sequence: Sequence, broadcast: &Broadcast) -> Op {
    let mut value = broadcast.period.0.to_be_bytes().to_vec();
    value.extend(broadcast.period.1.to_be_bytes());
    value.extend(message(&broadcast.kept));
    Op::Put { table: BROADCAST, key: sequence.0.to_be_bytes().to_vec(), value }
}

pub fn read_broadcast(key: &[u8], value: &[u8]) -> Option<(Sequence, Broadcast)> {
    let mut value = Octets(value);
    let period = (value.u32()?, value.u32()?);
    Some((Sequence(Octets(key).u64()?), Broadcast { period, kept: read_message(value.rest())? }))
}

pub fn put_number(name: &str, number: u64) -> Op {
    Op::Put { table: SETTING, key: name.as_bytes().to_vec(), value: number.to_be_bytes().to_vec() }
}

pub fn put_heard(inbox: Inbox, day: u16) -> Op {
    let (key, value) = (inbox.0.to_be_bytes().to_vec(), day.to_be_bytes().to_vec());
    Op::Put { table: HEARD, key, value }
}

pub fn put_stale(inbox: Inbox, missed: u32) -> Op {
    let (key, value) = (inbox.0.to_be_bytes().to_vec(), missed.to_be_bytes().to_vec());
    Op::Put { table: STALE, key, value }
}

pub fn read_u16(octets: &[u8]) -> Option<u16> {
    Octets(octets).u16()
}

pub fn read_u32(octets: &[u8]) -> Option<u32> {
    Octets(octets).u32()
}

pub fn read_u64(octets: &[u8]) -> Option<u64> {
    Octets(octets).u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(op: Op) -> (Vec<u8>, Vec<u8>) {
        let Op::Put { key, value, .. } = op else { panic!("{op:?}") };
        (key, value)
    }

    fn kept(only: Option<Inbox>) -> Kept {
        Kept {
            sent: 1_700_000_000,
            expires: 1_700_000_060,
            only,
            hash: [1; 16],
            content: 2,
            relay: None,
            from: Address::App("news".into()),
            content_type: PLAIN.into(),
            body: b"hello".to_vec(),
        }
    }

    #[test]
    fn every_row_reads_back() {
        let away = Relay {
            kept: true,
            period: None,
            to: vec![Address::User("anna@north".into()), Address::App("news@east".into())],
        };
        let everybody = Relay { kept: true, period: Some((7, 9)), to: Vec::new() };
        for (only, relay) in
            [(None, None), (Some(Inbox(7)), None), (None, Some(away)), (None, Some(everybody))]
        {
            let kept = Kept { relay, ..kept(only) };
            let (_, value) = written(put_message(Sequence(3), &kept));
            assert_eq!(read_message(&value).as_ref(), Some(&kept));
            let Kept { expires, hash, content, .. } = kept;
            let head = Head { expires, only, hash, content, size: kept.size() };
            assert_eq!(read_head(&value), Some(head));
        }
        let inboxes: Vec<Inbox> = (0..40_000).map(Inbox).collect();
        let rows: Vec<_> = put_shares(Sequence(3), &inboxes).map(written).collect();
        assert_eq!(rows.iter().flat_map(|(_, value)| read_shares(value)).collect::<Vec<_>>(), inboxes);
        assert_eq!(read_pair(&rows[1].0), Some((Sequence(3), Inbox(16_384))));
        let known = Known { sequence: Sequence(3), hash: [1; 16], content: 2, until: 3 };
        let known = vec![known, Known { until: 4, ..known }];
        assert_eq!(read_known(&written(put_known(9, &known)).1), Some(known));
        let user = User { keep: true, inboxes: vec![Inbox(7), Inbox(9)] };
        assert_eq!(read_user(&written(put_user("anna", &user)).1), Some(user));
        let device = Device {
            inbox: Inbox(7),
            device: [1; 16],
            secret: [2; 32],
            epoch: 3,
            expires: 4,
            user: "anna".into(),
        };
        assert!(read_device(&written(put_device(SessionId([9; 16]), &device)).1) == Some(device));
        let app = App { inbox: Inbox(8), rights: [true, false, true], secret_hash: [5; 32] };
        assert_eq!(read_app(&written(put_app("news", &app)).1), Some(app));
        let broadcast = Broadcast { period: (5, 6), kept: kept(None) };
        let (key, value) = written(put_broadcast(Sequence(3), &broadcast));
        assert_eq!(read_broadcast(&key, &value), Some((Sequence(3), broadcast)));
        assert_eq!(read_follow(&follow_key("news", "anna")), Some("anna"));
    }

    /// DESIGN.md 9: a stored message of 200 octets takes at most 340, everything included. What SQLite adds is measured
    /// by the bench.
    #[test]
    fn a_message_of_200_octets_takes_few_more_in_its_row() {
        let kept = Kept { body: vec![0; 200], ..kept(Some(Inbox(7))) };
        let (key, value) = written(put_message(Sequence(3), &kept));
        let octets = key.len() + value.len();
        assert!(octets <= 256, "{octets}");
    }
}
