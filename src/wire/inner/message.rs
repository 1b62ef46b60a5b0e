//! What the frames of inner links mean. A tag means the same in every type.

use super::frame::{Frame, Writer};
use crate::wire::octets::Octets;

/// Sessions that one digest can name.
pub const MAX_SITTING: usize = 5000;
/// Revocations that one frame can name.
pub const MAX_REVOKED: usize = 8000;
/// Octets of a name, a text or an address.
const MAX_TEXT: usize = 255;

/// One frame's meaning.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// Type 1, each way, every 5 seconds and whenever much has come.
    Beat {
        /// Octets of frames that its sender has taken from this connection.
        taken: u64,
    },
    /// Type 2, from a hub or a balancer: it does not go on with this broker, and closes.
    Refused {
        /// 400 its address cannot be used, 401 the key is not listed, 409 a newer connection of the same broker is there, 507 no room.
        code: u16,
        /// For the log.
        text: String,
    },
    /// Type 256, broker to hub, first.
    Register {
        /// For people.
        name: String,
        /// Drawn at the start of its process: another one has none of the sessions of this one.
        epoch: u64,
        /// Sessions that it can hold.
        most: u32,
    },
    /// Type 257, hub to broker, after the revocations that hold: from now on it is a broker of this office.
    Registered(Box<Registered>),
    /// Type 258, hub to broker: tickets begin here from now on.
    TicketRoot {
        /// Days since 1970.
        day: u64,
        /// That day's key.
        key: Secret,
    },
    /// Type 259, hub to broker: tickets of these inboxes that are older than the epoch are good no more, and who sits there on
    /// them goes. Inbox and epoch, at most [`MAX_REVOKED`].
    Revoked(Vec<(u32, u32)>),
    /// Type 260, broker to hub: who has this session id? The correlation ties the answer.
    Lookup {
        /// The public name of a credential.
        session_id: [u8; 16],
    },
    /// Type 261, hub to broker: the answer; none when it is unknown, revoked or expired.
    Found(Option<Found>),
    /// Type 262, broker to hub: somebody is there.
    Online {
        /// Who and where.
        sitting: Sitting,
        /// By a ticket.
        resumed: bool,
    },
    /// Type 263, broker to hub: no more.
    Offline {
        /// Who.
        inbox: u32,
        /// Where it sat.
        seat: u32,
        /// A reason of `docs/inner-links.md`.
        why: u16,
    },
    /// Type 264, broker to hub, after registering: all who are there, in as many as it takes, at most [`MAX_SITTING`] each.
    Digest {
        /// Who and where.
        sitting: Vec<Sitting>,
        /// Nobody else is there.
        last: bool,
    },
    /// Type 265, hub to broker: this session is to go.
    Evict {
        /// Who.
        inbox: u32,
        /// Where it sits.
        seat: u32,
        /// As the close frame of the link says it.
        why: u16,
    },
    /// Type 266, broker to hub: what a device said.
    Up {
        /// Who.
        inbox: u32,
        /// Where it sits.
        seat: u32,
        /// A frame of [`crate::wire::post`], not looked at.
        octets: Vec<u8>,
    },
    /// Type 267, hub to broker: what the hub says to a device.
    Down {
        /// To whom.
        inbox: u32,
        /// Where it sits.
        seat: u32,
        /// A frame of [`crate::wire::post`].
        octets: Vec<u8>,
    },
    /// Type 268, broker to hub: nobody sits there any more, so what was said to it is not said.
    Failed {
        /// Who.
        inbox: u32,
        /// Where it does not sit.
        seat: u32,
    },
    /// Type 512, broker to balancer, first.
    Enlist {
        /// For people.
        name: String,
        /// Drawn at the start of its process.
        epoch: u64,
        /// Where devices reach it: host and port.
        address: String,
        /// The link's public key that they must know it by.
        link_key: [u8; 32],
        /// Sessions that it can hold.
        most: u32,
    },
    /// Type 513, balancer to broker: it is given out from its first report on.
    Enlisted {
        /// What devices call it when it failed them.
        broker: u32,
    },
    /// Type 514, broker to balancer, every 10 seconds.
    Load {
        /// Of a hundred.
        load: u8,
        /// Sessions that are there.
        sessions: u32,
        /// It wants no new ones, and its own to go elsewhere.
        draining: bool,
    },
}

/// What is not to be printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub [u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// What a broker has to know.
#[derive(Clone, PartialEq, Eq)]
pub struct Registered {
    /// What the hub calls it.
    pub broker: u32,
    /// The link's static private key (X25519).
    pub private: [u8; 32],
    /// The one after it.
    pub next_private: Option<[u8; 32]>,
    /// Makes the tokens of resets.
    pub reset: [u8; 32],
    /// The ticket root's day, since 1970.
    pub ticket_day: u64,
    /// That day's key.
    pub ticket_key: [u8; 32],
    /// Unix seconds at the hub.
    pub unix: u64,
}

impl std::fmt::Debug for Registered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Registered(broker {}, ticket day {})", self.broker, self.ticket_day)
    }
}

/// A credential.
#[derive(Clone, PartialEq, Eq)]
pub struct Found {
    /// The secret that the device shares.
    pub secret: [u8; 32],
    /// Whose.
    pub inbox: u32,
    /// When it is over, in Unix seconds.
    pub expiry: u64,
    /// Tickets of an older one are good no more.
    pub epoch: u32,
}

impl std::fmt::Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Found(inbox {}, epoch {})", self.inbox, self.epoch)
    }
}

/// Who sits where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sitting {
    /// Who.
    pub inbox: u32,
    /// A number of the broker's, which names no other session for long after this one.
    pub seat: u32,
    /// Since when, in Unix seconds by the hub's clock.
    pub since: u32,
}

/// What a message cannot be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrong {
    /// Of a type that this version does not know: to be counted and ignored.
    Unknown,
    /// A tag that the type must have is missing, or its value cannot be.
    Value(u16),
}

mod tag {
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
}

impl Message {
    /// Its type.
    pub const fn kind(&self) -> u16 {
        match self {
            Message::Beat { .. } => 1,
            Message::Refused { .. } => 2,
            Message::Register { .. } => 256,
            Message::Registered(_) => 257,
            Message::TicketRoot { .. } => 258,
            Message::Revoked(_) => 259,
            Message::Lookup { .. } => 260,
            Message::Found(_) => 261,
            Message::Online { .. } => 262,
            Message::Offline { .. } => 263,
            Message::Digest { .. } => 264,
            Message::Evict { .. } => 265,
            Message::Up { .. } => 266,
            Message::Down { .. } => 267,
            Message::Failed { .. } => 268,
            Message::Enlist { .. } => 512,
            Message::Enlisted { .. } => 513,
            Message::Load { .. } => 514,
        }
    }

    /// The octets of its frame. Texts are cut to 255 octets; lists must keep to their bounds.
    pub fn encode(&self, correlation: u64) -> Vec<u8> {
        let room = match self {
            Message::Up { octets, .. } | Message::Down { octets, .. } => octets.len() + 32,
            Message::Digest { sitting, .. } => sitting.len() * 12 + 16,
            Message::Revoked(revoked) => revoked.len() * 8 + 8,
            _ => 96,
        };
        let mut out = Writer::new(self.kind(), correlation, room);
        match self {
            Message::Beat { taken } => {
                out.value(tag::TAKEN, &taken.to_be_bytes());
            }
            Message::Refused { code, text } => {
                out.value(tag::CODE, &code.to_be_bytes()).value(tag::TEXT, short(text));
            }
            Message::Register { name, epoch, most } => {
                out.value(tag::NAME, short(name)).value(tag::EPOCH, &epoch.to_be_bytes());
                out.value(tag::MOST, &most.to_be_bytes());
            }
            Message::Registered(registered) => {
                let Registered { broker, private, next_private, reset, ticket_day, ticket_key, unix } =
                    &**registered;
                out.value(tag::BROKER, &broker.to_be_bytes()).value(tag::PRIVATE, private);
                if let Some(next) = next_private {
                    out.value(tag::NEXT_PRIVATE, next);
                }
                out.value(tag::RESET, reset).value(tag::TICKET_ROOT, &root(*ticket_day, ticket_key));
                out.value(tag::UNIX, &unix.to_be_bytes());
            }
            Message::TicketRoot { day, key } => {
                out.value(tag::TICKET_ROOT, &root(*day, &key.0));
            }
            Message::Revoked(revoked) => {
                let pair = |(inbox, epoch): &(u32, u32)| [inbox.to_be_bytes(), epoch.to_be_bytes()].concat();
                out.value(tag::REVOKED, &revoked.iter().flat_map(pair).collect::<Vec<u8>>());
            }
            Message::Lookup { session_id } => {
                out.value(tag::SESSION_ID, session_id);
            }
            Message::Found(None) => {}
            Message::Found(Some(found)) => {
                out.value(tag::SECRET, &found.secret).value(tag::INBOX, &found.inbox.to_be_bytes());
                out.value(tag::EXPIRY, &found.expiry.to_be_bytes());
                out.value(tag::CREDENTIAL_EPOCH, &found.epoch.to_be_bytes());
            }
            Message::Online { sitting, resumed } => {
                place(&mut out, sitting.inbox, sitting.seat);
                out.value(tag::SINCE, &sitting.since.to_be_bytes()).value(tag::RESUMED, &[(*resumed).into()]);
            }
            Message::Offline { inbox, seat, why } | Message::Evict { inbox, seat, why } => {
                place(&mut out, *inbox, *seat);
                out.value(tag::WHY, &why.to_be_bytes());
            }
            Message::Digest { sitting, last } => {
                let entry = |one: &Sitting| [one.inbox, one.seat, one.since].map(u32::to_be_bytes);
                out.value(tag::SITTING, sitting.iter().flat_map(entry).collect::<Vec<_>>().as_flattened());
                out.value(tag::LAST, &[(*last).into()]);
            }
            Message::Up { inbox, seat, octets } | Message::Down { inbox, seat, octets } => {
                place(&mut out, *inbox, *seat);
                out.value(tag::OCTETS, octets);
            }
            Message::Failed { inbox, seat } => place(&mut out, *inbox, *seat),
            Message::Enlist { name, epoch, address, link_key, most } => {
                out.value(tag::NAME, short(name)).value(tag::EPOCH, &epoch.to_be_bytes());
                out.value(tag::ADDRESS, short(address)).value(tag::LINK_KEY, link_key);
                out.value(tag::MOST, &most.to_be_bytes());
            }
            Message::Enlisted { broker } => {
                out.value(tag::BROKER, &broker.to_be_bytes());
            }
            Message::Load { load, sessions, draining } => {
                out.value(tag::LOAD, &[*load]).value(tag::SESSIONS, &sessions.to_be_bytes());
                out.value(tag::DRAINING, &[(*draining).into()]);
            }
        }
        out.finish()
    }

    /// Reads what a frame means. Tags that the type does not have are skipped.
    ///
    /// # Errors
    /// [`Wrong`].
    pub fn decode(frame: &Frame) -> Result<Message, Wrong> {
        let values = Values(frame);
        Ok(match frame.kind {
            1 => Message::Beat { taken: values.u64(tag::TAKEN)? },
            2 => Message::Refused { code: values.u16(tag::CODE)?, text: values.text(tag::TEXT)? },
            256 => Message::Register {
                name: values.text(tag::NAME)?,
                epoch: values.u64(tag::EPOCH)?,
                most: values.u32(tag::MOST)?,
            },
            257 => {
                let (ticket_day, ticket_key) = values.root()?;
                let next_private = match values.one(tag::NEXT_PRIVATE) {
                    Some(_) => Some(values.array(tag::NEXT_PRIVATE)?),
                    None => None,
                };
                Message::Registered(Box::new(Registered {
                    broker: values.u32(tag::BROKER)?,
                    private: values.array(tag::PRIVATE)?,
                    next_private,
                    reset: values.array(tag::RESET)?,
                    ticket_day,
                    ticket_key,
                    unix: values.u64(tag::UNIX)?,
                }))
            }
            258 => {
                let (day, key) = values.root()?;
                Message::TicketRoot { day, key: Secret(key) }
            }
            259 => {
                let pair = |octets: &mut Octets<'_>| Some((octets.u32()?, octets.u32()?));
                Message::Revoked(values.list(tag::REVOKED, MAX_REVOKED, pair)?)
            }
            260 => Message::Lookup { session_id: values.array(tag::SESSION_ID)? },
            261 => Message::Found(match values.one(tag::INBOX) {
                None => None,
                Some(_) => Some(Found {
                    secret: values.array(tag::SECRET)?,
                    inbox: values.u32(tag::INBOX)?,
                    expiry: values.u64(tag::EXPIRY)?,
                    epoch: values.u32(tag::CREDENTIAL_EPOCH)?,
                }),
            }),
            262 => {
                let (inbox, seat) = values.place()?;
                let sitting = Sitting { inbox, seat, since: values.u32(tag::SINCE)? };
                Message::Online { sitting, resumed: values.switch(tag::RESUMED)? }
            }
            263 | 265 => {
                let ((inbox, seat), why) = (values.place()?, values.u16(tag::WHY)?);
                match frame.kind {
                    263 => Message::Offline { inbox, seat, why },
                    _ => Message::Evict { inbox, seat, why },
                }
            }
            264 => {
                let entry = |octets: &mut Octets<'_>| {
                    Some(Sitting { inbox: octets.u32()?, seat: octets.u32()?, since: octets.u32()? })
                };
                let sitting = values.list(tag::SITTING, MAX_SITTING, entry)?;
                if sitting.iter().any(|sitting| sitting.seat == 0) {
                    return Err(Wrong::Value(tag::SITTING));
                }
                Message::Digest { sitting, last: values.switch(tag::LAST)? }
            }
            266 | 267 => {
                let ((inbox, seat), octets) = (values.place()?, values.all(tag::OCTETS)?);
                match frame.kind {
                    266 => Message::Up { inbox, seat, octets },
                    _ => Message::Down { inbox, seat, octets },
                }
            }
            268 => {
                let (inbox, seat) = values.place()?;
                Message::Failed { inbox, seat }
            }
            512 => Message::Enlist {
                name: values.text(tag::NAME)?,
                epoch: values.u64(tag::EPOCH)?,
                address: values.text(tag::ADDRESS)?,
                link_key: values.array(tag::LINK_KEY)?,
                most: values.u32(tag::MOST)?,
            },
            513 => Message::Enlisted { broker: values.u32(tag::BROKER)? },
            514 => {
                let [load] = values.array(tag::LOAD)?;
                let load = if load <= 100 { load } else { return Err(Wrong::Value(tag::LOAD)) };
                let (sessions, draining) = (values.u32(tag::SESSIONS)?, values.switch(tag::DRAINING)?);
                Message::Load { load, sessions, draining }
            }
            _ => return Err(Wrong::Unknown),
        })
    }
}

/// Of a frame, by tag.
struct Values<'a>(&'a Frame);

impl Values<'_> {
    /// The first of a tag.
    fn one(&self, wanted: u16) -> Option<&[u8]> {
        self.0.values().find(|(tag, _)| *tag == wanted).map(|(_, value)| value)
    }

    /// All of a tag, joined.
    fn all(&self, wanted: u16) -> Result<Vec<u8>, Wrong> {
        let mut found = self.0.values().filter(|(tag, _)| *tag == wanted).map(|(_, value)| value).peekable();
        found.peek().ok_or(Wrong::Value(wanted))?;
        Ok(found.collect::<Vec<_>>().concat())
    }

    fn array<const N: usize>(&self, tag: u16) -> Result<[u8; N], Wrong> {
        self.one(tag).and_then(|value| value.try_into().ok()).ok_or(Wrong::Value(tag))
    }

    fn u16(&self, tag: u16) -> Result<u16, Wrong> {
        self.array(tag).map(u16::from_be_bytes)
    }

    fn u32(&self, tag: u16) -> Result<u32, Wrong> {
        self.array(tag).map(u32::from_be_bytes)
    }

    fn u64(&self, tag: u16) -> Result<u64, Wrong> {
        self.array(tag).map(u64::from_be_bytes)
    }

    fn switch(&self, tag: u16) -> Result<bool, Wrong> {
        match self.array(tag)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [_] => Err(Wrong::Value(tag)),
        }
    }

    fn text(&self, tag: u16) -> Result<String, Wrong> {
        let text = self.one(tag).filter(|text| text.len() <= MAX_TEXT);
        let text = text.and_then(|text| std::str::from_utf8(text).ok());
        text.filter(|text| !text.chars().any(char::is_control)).map(str::to_owned).ok_or(Wrong::Value(tag))
    }

    fn root(&self) -> Result<(u64, [u8; 32]), Wrong> {
        let octets: [u8; 40] = self.array(tag::TICKET_ROOT)?;
        let mut octets = Octets(&octets);
        octets.u64().zip(octets.array()).ok_or(Wrong::Value(tag::TICKET_ROOT))
    }

    fn place(&self) -> Result<(u32, u32), Wrong> {
        let (inbox, seat) = (self.u32(tag::INBOX)?, self.u32(tag::SEAT)?);
        if seat == 0 { Err(Wrong::Value(tag::SEAT)) } else { Ok((inbox, seat)) }
    }

    fn list<T>(
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

fn place(out: &mut Writer, inbox: u32, seat: u32) {
    out.value(tag::INBOX, &inbox.to_be_bytes()).value(tag::SEAT, &seat.to_be_bytes());
}

fn root(day: u64, key: &[u8; 32]) -> Vec<u8> {
    [&day.to_be_bytes()[..], key].concat()
}

/// As much of a text as fits.
fn short(text: &str) -> &[u8] {
    let cut = (0..=text.len().min(MAX_TEXT)).rev().find(|at| text.is_char_boundary(*at));
    &text.as_bytes()[..cut.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::{super::Deframer, *};

    fn samples() -> Vec<Message> {
        let sitting = Sitting { inbox: 7, seat: 0x0100_0003, since: 1_700_000_000 };
        let registered = |next_private| {
            Message::Registered(Box::new(Registered {
                broker: 3,
                private: [1; 32],
                next_private,
                reset: [2; 32],
                ticket_day: 19_675,
                ticket_key: [3; 32],
                unix: 1_700_000_000,
            }))
        };
        let found = Found { secret: [4; 32], inbox: 9, expiry: u64::MAX, epoch: 1 };
        vec![
            Message::Beat { taken: 1 << 40 },
            Message::Refused { code: 401, text: "the key is not listed".into() },
            Message::Register { name: "left".into(), epoch: u64::MAX, most: 1_000_000 },
            registered(None),
            registered(Some([5; 32])),
            Message::TicketRoot { day: 19_676, key: Secret([6; 32]) },
            Message::Revoked(vec![(1, u32::MAX), (2, 3)]),
            Message::Lookup { session_id: [7; 16] },
            Message::Found(None),
            Message::Found(Some(found)),
            Message::Online { sitting, resumed: true },
            Message::Offline { inbox: 7, seat: 3, why: 16 },
            Message::Digest { sitting: vec![sitting, Sitting { inbox: 8, ..sitting }], last: false },
            Message::Digest { sitting: vec![], last: true },
            Message::Evict { inbox: 7, seat: 3, why: 2 },
            Message::Up { inbox: 7, seat: 3, octets: vec![8; 122_880] },
            Message::Down { inbox: 7, seat: 3, octets: vec![] },
            Message::Failed { inbox: 7, seat: 3 },
            Message::Enlist {
                name: "left".into(),
                epoch: 2,
                address: "broker.example:7700".into(),
                link_key: [9; 32],
                most: 5,
            },
            Message::Enlisted { broker: 11 },
            Message::Load { load: 100, sessions: 12, draining: true },
        ]
    }

    fn frame(octets: &[u8]) -> Frame {
        Deframer::default().next(&mut &octets[..]).expect("it is whole").expect("it is one")
    }

    /// A frame as anybody could write it.
    fn written(kind: u16, values: &[(u16, &[u8])]) -> Frame {
        let mut out = Writer::new(kind, 0, 0);
        for (tag, value) in values {
            out.value(*tag, value);
        }
        frame(&out.finish())
    }

    #[test]
    fn every_message_reads_back() {
        for (correlation, message) in samples().into_iter().enumerate() {
            let read = frame(&message.encode(correlation as u64));
            assert_eq!((read.kind, read.flags), (message.kind(), 0));
            assert_eq!(read.correlation, correlation as u64);
            assert_eq!(Message::decode(&read).as_ref(), Ok(&message));
        }
    }

    #[test]
    fn unknown_tags_are_skipped_and_unknown_types_told() {
        let known = [(200, &b"new"[..]), (tag::TAKEN, &9u64.to_be_bytes()), (201, b"")];
        assert_eq!(Message::decode(&written(1, &known)), Ok(Message::Beat { taken: 9 }));
        assert_eq!(Message::decode(&written(999, &known)), Err(Wrong::Unknown));
    }

    #[test]
    fn without_any_one_of_its_tags_a_message_is_another_or_none() {
        for message in samples() {
            let whole = frame(&message.encode(0));
            let values: Vec<(u16, &[u8])> = whole.values().collect();
            for at in 0..values.len() {
                let mut without = values.clone();
                without.remove(at);
                assert_ne!(Message::decode(&written(message.kind(), &without)).as_ref(), Ok(&message));
                // One octet less is another value, or none.
                let mut shorter = values.clone();
                shorter[at].1 = &values[at].1[..values[at].1.len().saturating_sub(1)];
                if !values[at].1.is_empty() {
                    assert_ne!(Message::decode(&written(message.kind(), &shorter)).as_ref(), Ok(&message));
                }
            }
        }
    }

    #[test]
    fn bounds_and_values_that_cannot_be() {
        let place = |seat: u32| [(tag::INBOX, 7u32.to_be_bytes()), (tag::SEAT, seat.to_be_bytes())];
        let failed = |seat| {
            let place = place(seat);
            Message::decode(&written(268, &place.each_ref().map(|(tag, value)| (*tag, &value[..]))))
        };
        assert_eq!(failed(1), Ok(Message::Failed { inbox: 7, seat: 1 }));
        assert_eq!(failed(0), Err(Wrong::Value(tag::SEAT)));
        for (count, is_good) in [(MAX_SITTING, true), (MAX_SITTING + 1, false)] {
            let sitting = [Sitting { inbox: 1, seat: 1, since: 1 }].repeat(count);
            let octets = Message::Digest { sitting, last: true }.encode(0);
            assert_eq!(Message::decode(&frame(&octets)).is_ok(), is_good, "{count}");
        }
        for (count, is_good) in [(MAX_REVOKED, true), (MAX_REVOKED + 1, false)] {
            let octets = Message::Revoked([(1, 1)].repeat(count)).encode(0);
            assert_eq!(Message::decode(&frame(&octets)).is_ok(), is_good, "{count}");
        }
        let digest =
            |seat| Message::Digest { sitting: vec![Sitting { inbox: 1, seat, since: 1 }], last: true };
        assert_eq!(Message::decode(&frame(&digest(0).encode(0))), Err(Wrong::Value(tag::SITTING)));
        let load = |load| Message::Load { load, sessions: 0, draining: false };
        assert_eq!(Message::decode(&frame(&load(101).encode(0))), Err(Wrong::Value(tag::LOAD)));
        let name = |name: &[u8]| {
            let values = [(tag::NAME, name), (tag::EPOCH, &[0; 8]), (tag::MOST, &[0; 4])];
            Message::decode(&written(256, &values)).is_ok()
        };
        assert!(name(&[b'x'; 255]) && !name(&[b'x'; 256]) && !name(b"\xff") && !name(b"a\nb"));
        assert_eq!(short(&"\u{e9}".repeat(200)).len(), 254, "cut between characters");
    }

    #[test]
    fn a_message_bent_anywhere_is_none_or_another_and_nothing_breaks() {
        for message in samples() {
            let octets = message.encode(1);
            for at in (0..octets.len() - 4).take(300) {
                let mut bent = octets.clone();
                bent[at] ^= 0xff;
                let covered = bent.len() - 4;
                let crc = crc32fast::hash(&bent[..covered]).to_be_bytes();
                bent[covered..].copy_from_slice(&crc);
                if let Some(Ok(read)) = Deframer::default().next(&mut &bent[..])
                    && let Ok(read) = Message::decode(&read)
                {
                    assert_eq!(Message::decode(&frame(&read.encode(1))), Ok(read));
                }
            }
        }
    }

    #[test]
    fn what_is_secret_is_not_printed() {
        let text = format!("{:?}", samples());
        assert!(!text.contains("[1, 1") && !text.contains("[3, 3") && !text.contains("[4, 4"));
        assert!(!text.contains("[6, 6"), "a ticket root");
    }
}
