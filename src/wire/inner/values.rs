//! Values of a frame by their tags, and the tags.

use super::{
    frame::{Frame, Writer},
    message::Wrong,
};
use crate::wire::octets::Octets;

/// Octets of a name, a text or an address.
const MAX_TEXT: usize = 255;

pub(super) mod tag {
    pub const NAME: u16 = 1;
    pub const EPOCH: u16 = 2;
    pub const MOST: u16 = 3;
    pub const BROKER: u16 = 4;
    pub const PRIVATE: u16 = 5;
    pub const NEXT_PRIVATE: u16 = 6;
    pub const RESET: u16 = 7;
    pub const TICKET_ROOT: u16 = 8;
    pub const UNIX: u16 = 9;
    pub const REVOKED: u16 = 10;
    pub const SESSION_ID: u16 = 11;
    pub const SECRET: u16 = 12;
    pub const INBOX: u16 = 13;
    pub const EXPIRY: u16 = 14;
    pub const CREDENTIAL_EPOCH: u16 = 15;
    pub const SEAT: u16 = 16;
    pub const SINCE: u16 = 17;
    pub const RESUMED: u16 = 18;
    pub const WHY: u16 = 19;
    pub const OCTETS: u16 = 20;
    pub const SITTING: u16 = 21;
    pub const LAST: u16 = 22;
    pub const TAKEN: u16 = 23;
    pub const CODE: u16 = 24;
    pub const TEXT: u16 = 25;
    pub const ADDRESS: u16 = 26;
    pub const LINK_KEY: u16 = 27;
    pub const LOAD: u16 = 28;
    pub const SESSIONS: u16 = 29;
    pub const DRAINING: u16 = 30;
    pub const SEQUENCE: u16 = 31;
    pub const SENT: u16 = 32;
    pub const LEFT: u16 = 33;
    pub const KEPT: u16 = 34;
    pub const PERIOD: u16 = 35;
    pub const SENDER: u16 = 36;
    pub const RECEIVERS: u16 = 37;
    pub const CONTENT_TYPE: u16 = 38;
    pub const ACKED: u16 = 39;
    pub const USERS: u16 = 40;
    pub const WHEREABOUTS: u16 = 41;
    pub const ROOM: u16 = 42;
    pub const OTHER_ROOM: u16 = 43;
}

/// Of a frame, by tag.
pub(super) struct Values<'a>(pub &'a Frame);

impl Values<'_> {
    /// The first of a tag.
    pub fn one(&self, wanted: u16) -> Option<&[u8]> {
        self.0.values().find(|(tag, _)| *tag == wanted).map(|(_, value)| value)
    }

    /// All of a tag, joined.
    pub fn all(&self, wanted: u16) -> Result<Vec<u8>, Wrong> {
        let mut found = self.0.values().filter(|(tag, _)| *tag == wanted).map(|(_, value)| value).peekable();
        found.peek().ok_or(Wrong::Value(wanted))?;
        Ok(found.collect::<Vec<_>>().concat())
    }

    pub fn array<const N: usize>(&self, tag: u16) -> Result<[u8; N], Wrong> {
        self.one(tag).and_then(|value| value.try_into().ok()).ok_or(Wrong::Value(tag))
    }

    pub fn u16(&self, tag: u16) -> Result<u16, Wrong> {
        self.array(tag).map(u16::from_be_bytes)
    }

    pub fn u32(&self, tag: u16) -> Result<u32, Wrong> {
        self.array(tag).map(u32::from_be_bytes)
    }

    pub fn u64(&self, tag: u16) -> Result<u64, Wrong> {
        self.array(tag).map(u64::from_be_bytes)
    }

    pub fn switch(&self, tag: u16) -> Result<bool, Wrong> {
        match self.array(tag)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [_] => Err(Wrong::Value(tag)),
        }
    }

    pub fn text(&self, tag: u16) -> Result<String, Wrong> {
        let text = self.one(tag).filter(|text| text.len() <= MAX_TEXT);
        let text = text.and_then(|text| std::str::from_utf8(text).ok());
        text.filter(|text| !text.chars().any(char::is_control)).map(str::to_owned).ok_or(Wrong::Value(tag))
    }

    pub fn root(&self) -> Result<(u64, [u8; 32]), Wrong> {
        let octets: [u8; 40] = self.array(tag::TICKET_ROOT)?;
        let mut octets = Octets(&octets);
        octets.u64().zip(octets.array()).ok_or(Wrong::Value(tag::TICKET_ROOT))
    }

    pub fn place(&self) -> Result<(u32, u32), Wrong> {
        let (inbox, seat) = (self.u32(tag::INBOX)?, self.u32(tag::SEAT)?);
        if seat == 0 { Err(Wrong::Value(tag::SEAT)) } else { Ok((inbox, seat)) }
    }

    pub fn list<T>(
        &self,
        tag: u16,
        most: usize,
        entry: impl Fn(&mut Octets<'_>) -> Option<T>,
    ) -> Result<Vec<T>, Wrong> {
        let octets = self.all(tag)?;
        let (mut octets, mut list) = (Octets(&octets), Vec::new());
        while !octets.is_empty() && list.len() < most {
            list.push(entry(&mut octets).ok_or(Wrong::Value(tag))?);
        }
        if octets.is_empty() { Ok(list) } else { Err(Wrong::Value(tag)) }
    }
}

pub(super) fn place(out: &mut Writer, inbox: u32, seat: u32) {
    out.value(tag::INBOX, &inbox.to_be_bytes()).value(tag::SEAT, &seat.to_be_bytes());
}

pub(super) fn root(day: u64, key: &[u8; 32]) -> Vec<u8> {
    [&day.to_be_bytes()[..], key].concat()
}

/// As much of a text as fits.
pub(super) fn short(text: &str) -> &[u8] {
    let cut = (0..=text.len().min(MAX_TEXT)).rev().find(|at| text.is_char_boundary(*at));
    &text.as_bytes()[..cut.unwrap_or(0)]
}
