//! What a device and the post office say to each other in messages of the link (docs/post-office.md).
//!
//! A message is one frame: type 1, then what the type has. Numbers are big-endian; a text follows its length in one
//! octet. An unknown type is counted and ignored.

use super::{
    app::{Address, Kind, MAX_BODY, MAX_RECEIVERS, MAX_TTL, State, To, is_name},
    octets::{Octets, push_short},
};

/// Sequence of a message in the hub's log: rises, never repeats.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Sequence(pub u64);

/// Sequences that one confirmation can name.
pub const MAX_CONFIRMED: usize = 1024;

/// A message as the receiver gets it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// Names it in a confirmation.
    pub sequence: Sequence,
    /// It was handed over before, and not confirmed.
    pub redelivered: bool,
    /// Who sent it. The post office has checked that.
    pub from: Address,
    /// When the post office took it, in Unix seconds.
    pub sent: u64,
    /// At most 128 octets.
    pub content_type: String,
    /// At most 64 KiB.
    pub body: Vec<u8>,
}

/// A message that a device gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Put {
    /// Names it in the device's outbox; the same number again is the same message again.
    pub number: u64,
    /// To whom.
    pub to: To,
    /// One or directed; a device does not broadcast.
    pub kind: Kind,
    /// Keep it for who is not there.
    pub store: bool,
    /// In seconds.
    pub ttl: u32,
    /// At most 128 octets.
    pub content_type: String,
    /// At most 64 KiB.
    pub body: Vec<u8>,
}

/// Whether a user is there, and since when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Presence {
    /// The user's name.
    pub user: String,
    /// A device of the user is logged in.
    pub online: bool,
    /// Of the last change, in Unix seconds; 0 when nobody knows.
    pub since: u64,
}

/// One frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    /// Type 1, from the office: a message.
    Deliver(Delivery),
    /// Type 2, from the device: these are dealt with, for good.
    Confirm(Vec<Sequence>),
    /// Type 3, from the device.
    Put(Put),
    /// Type 4, from the office: what became of a put. 200, or the code of an error.
    PutAnswer {
        /// The put's number.
        number: u64,
        /// As in the text form.
        code: u16,
        /// With code 200.
        state: State,
    },
    /// Type 5, from the office, once after a login: what is kept is all delivered after this.
    Welcome {
        /// Messages that were kept too long or were too many, and are gone.
        missed: u32,
        /// Messages that wait.
        waiting: u32,
    },
    /// Type 6, from the device: follow an application, or no more.
    Subscribe {
        /// Names the answer.
        request: u64,
        /// Whom.
        app: String,
        /// Begin, or end.
        on: bool,
    },
    /// Type 7, from the device: whether messages are to be kept while none of the user's devices is there (OM-05).
    Setting {
        /// Names the answer.
        request: u64,
        /// Whether.
        keep: bool,
    },
    /// Type 8, from the office: what became of a request.
    Answer {
        /// The request's.
        request: u64,
        /// As in the text form.
        code: u16,
    },
    /// Type 9, from the device: where are these users?
    Query {
        /// Names the answer.
        request: u64,
        /// Their names.
        users: Vec<String>,
    },
    /// Type 10, from the office.
    Presence {
        /// The request's.
        request: u64,
        /// In the order asked.
        users: Vec<Presence>,
    },
}

impl Frame {
    /// The octets.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Frame::Deliver(delivery) => {
                out.reserve(delivery.body.len() + 64);
                out.extend([1, u8::from(delivery.redelivered)]);
                out.extend(delivery.sequence.0.to_be_bytes());
                out.extend(delivery.sent.to_be_bytes());
                push_address(&mut out, &delivery.from);
                push_short(&mut out, delivery.content_type.as_bytes());
                out.extend_from_slice(&delivery.body);
            }
            Frame::Confirm(sequences) => {
                out.push(2);
                sequences.iter().for_each(|sequence| out.extend(sequence.0.to_be_bytes()));
            }
            Frame::Put(put) => {
                out.reserve(put.body.len() + 64);
                out.extend([3, u8::from(put.store)]);
                out.extend(put.number.to_be_bytes());
                out.extend(put.ttl.to_be_bytes());
                out.push(match put.kind {
                    Kind::One => 0,
                    Kind::Directed => 1,
                    Kind::Broadcast => 2,
                });
                // A count of 0 is everybody that the kind means.
                match &put.to {
                    To::All => out.extend([0, 0]),
                    To::Named(named) => {
                        out.extend((named.len() as u16).to_be_bytes());
                        named.iter().for_each(|address| push_address(&mut out, address));
                    }
                }
                push_short(&mut out, put.content_type.as_bytes());
                out.extend_from_slice(&put.body);
            }
            Frame::PutAnswer { number, code, state } => {
                out.push(4);
                out.extend(number.to_be_bytes());
                out.extend(code.to_be_bytes());
                out.push(match state {
                    State::Stored => 0,
                    State::Queued => 1,
                    State::Routed => 2,
                    State::Dropped => 3,
                });
            }
            Frame::Welcome { missed, waiting } => {
                out.push(5);
                out.extend(missed.to_be_bytes());
                out.extend(waiting.to_be_bytes());
            }
            Frame::Subscribe { request, app, on } => {
                out.push(6);
                out.extend(request.to_be_bytes());
                out.push(u8::from(*on));
                push_short(&mut out, app.as_bytes());
            }
            Frame::Setting { request, keep } => {
                out.push(7);
                out.extend(request.to_be_bytes());
                out.push(u8::from(*keep));
            }
            Frame::Answer { request, code } => {
                out.push(8);
                out.extend(request.to_be_bytes());
                out.extend(code.to_be_bytes());
            }
            Frame::Query { request, users } => {
                out.push(9);
                out.extend(request.to_be_bytes());
                users.iter().for_each(|user| push_short(&mut out, user.as_bytes()));
            }
            Frame::Presence { request, users } => {
                out.push(10);
                out.extend(request.to_be_bytes());
                for Presence { user, online, since } in users {
                    push_short(&mut out, user.as_bytes());
                    out.push(u8::from(*online));
                    out.extend(since.to_be_bytes());
                }
            }
        }
        out
    }

    /// Reads a frame; `None` where it is none, or has a value that it cannot have.
    pub fn decode(octets: &[u8]) -> Option<Frame> {
        let mut octets = Octets(octets);
        let frame = match octets.u8()? {
            1 => {
                let redelivered = switch(&mut octets)?;
                Frame::Deliver(Delivery {
                    redelivered,
                    sequence: Sequence(octets.u64()?),
                    sent: octets.u64()?,
                    from: address(&mut octets)?,
                    content_type: content_type(&mut octets)?,
                    body: body(&mut octets)?,
                })
            }
            2 => {
                let count = octets.0.len() / 8;
                if octets.0.len() % 8 != 0 || !(1..=MAX_CONFIRMED).contains(&count) {
                    return None;
                }
                Frame::Confirm((0..count).map_while(|_| octets.u64().map(Sequence)).collect())
            }
            3 => {
                let store = switch(&mut octets)?;
                let number = octets.u64()?;
                let ttl = octets.u32().filter(|ttl| (1..=MAX_TTL).contains(ttl))?;
                let kind = match octets.u8()? {
                    0 => Kind::One,
                    1 => Kind::Directed,
                    _ => return None,
                };
                let to = match usize::from(octets.u16()?) {
                    0 if kind == Kind::Directed => To::All,
                    1 => To::Named(vec![address(&mut octets)?]),
                    count @ 2..=MAX_RECEIVERS if kind == Kind::Directed => {
                        To::Named((0..count).map(|_| address(&mut octets)).collect::<Option<_>>()?)
                    }
                    _ => return None,
                };
                let content_type = content_type(&mut octets)?;
                Frame::Put(Put { number, to, kind, store, ttl, content_type, body: body(&mut octets)? })
            }
            4 => Frame::PutAnswer {
                number: octets.u64()?,
                code: octets.u16()?,
                state: match octets.u8()? {
                    0 => State::Stored,
                    1 => State::Queued,
                    2 => State::Routed,
                    3 => State::Dropped,
                    _ => return None,
                },
            },
            5 => Frame::Welcome { missed: octets.u32()?, waiting: octets.u32()? },
            6 => {
                let request = octets.u64()?;
                let on = switch(&mut octets)?;
                Frame::Subscribe { request, on, app: name(&mut octets)? }
            }
            7 => Frame::Setting { request: octets.u64()?, keep: switch(&mut octets)? },
            8 => Frame::Answer { request: octets.u64()?, code: octets.u16()? },
            9 => {
                let request = octets.u64()?;
                let mut users = Vec::new();
                while !octets.is_empty() && users.len() < MAX_RECEIVERS {
                    users.push(name(&mut octets)?);
                }
                Frame::Query { request, users }
            }
            10 => {
                let request = octets.u64()?;
                let mut users = Vec::new();
                while !octets.is_empty() && users.len() < MAX_RECEIVERS {
                    let user = name(&mut octets)?;
                    users.push(Presence { user, online: switch(&mut octets)?, since: octets.u64()? });
                }
                Frame::Presence { request, users }
            }
            _ => return None,
        };
        octets.is_empty().then_some(frame)
    }
}

/// Writes an address: `u` or `a`, and its name.
pub fn push_address(out: &mut Vec<u8>, address: &Address) {
    let (kind, name) = match address {
        Address::User(name) => (b'u', name),
        Address::App(name) => (b'a', name),
    };
    out.push(kind);
    push_short(out, name.as_bytes());
}

/// Reads an address.
pub fn address(octets: &mut Octets<'_>) -> Option<Address> {
    match octets.u8()? {
        b'u' => Some(Address::User(name(octets)?)),
        b'a' => Some(Address::App(name(octets)?)),
        _ => None,
    }
}

fn name(octets: &mut Octets<'_>) -> Option<String> {
    octets.short_text().filter(|name| is_name(name)).map(str::to_owned)
}

/// What a content type can be: up to 128 printable ASCII characters.
pub fn is_content_type(text: &str) -> bool {
    text.len() <= 128 && text.bytes().all(|octet| (0x20..0x7f).contains(&octet))
}

fn content_type(octets: &mut Octets<'_>) -> Option<String> {
    octets.short_text().filter(|text| is_content_type(text)).map(str::to_owned)
}

fn body(octets: &mut Octets<'_>) -> Option<Vec<u8>> {
    (octets.0.len() <= MAX_BODY).then(|| octets.rest().to_vec())
}

fn switch(octets: &mut Octets<'_>) -> Option<bool> {
    match octets.u8()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Frame> {
        let anna = || Address::User("anna".into());
        let put = |kind, to| {
            let content_type = "text/plain".to_owned();
            Frame::Put(Put { number: 7, to, kind, store: true, ttl: 60, content_type, body: b"hi".to_vec() })
        };
        vec![
            Frame::Deliver(Delivery {
                sequence: Sequence(9),
                redelivered: true,
                from: Address::App("news".into()),
                sent: 1_700_000_000,
                content_type: "text/plain".into(),
                body: b"hello".to_vec(),
            }),
            Frame::Confirm(vec![Sequence(9), Sequence(12)]),
            put(Kind::One, To::Named(vec![anna()])),
            put(Kind::Directed, To::Named(vec![anna(), Address::App("news".into())])),
            put(Kind::Directed, To::All),
            Frame::PutAnswer { number: 7, code: 200, state: State::Stored },
            Frame::Welcome { missed: 3, waiting: 40 },
            Frame::Subscribe { request: 1, app: "news".into(), on: true },
            Frame::Setting { request: 2, keep: false },
            Frame::Answer { request: 2, code: 404 },
            Frame::Query { request: 3, users: vec!["anna".into(), "ben".into()] },
            Frame::Presence {
                request: 3,
                users: vec![Presence { user: "anna".into(), online: true, since: 5 }],
            },
        ]
    }

    #[test]
    fn every_frame_reads_back() {
        for frame in samples() {
            assert_eq!(Frame::decode(&frame.encode()).as_ref(), Some(&frame));
        }
    }

    #[test]
    fn the_octets_of_a_delivery() {
        let expected = [
            &[1, 1][..],
            &9u64.to_be_bytes(),
            &1_700_000_000u64.to_be_bytes(),
            b"a\x04news\x0atext/plainhello",
        ];
        assert_eq!(samples()[0].encode(), expected.concat());
    }

    #[test]
    fn a_frame_cut_anywhere_or_bent_is_none_or_another_and_nothing_breaks() {
        for frame in samples() {
            let octets = frame.encode();
            for at in 0..octets.len() {
                assert_ne!(Frame::decode(&octets[..at]).as_ref(), Some(&frame), "{frame:?} cut at {at}");
                let mut bent = octets.clone();
                bent[at] ^= 0xff;
                if let Some(read) = Frame::decode(&bent) {
                    assert_eq!(Frame::decode(&read.encode()), Some(read));
                }
            }
        }
    }

    #[test]
    fn bounds_and_values_that_cannot_be() {
        let confirm = |count: usize| [&[2][..], &vec![0; count * 8]].concat();
        assert!(Frame::decode(&confirm(MAX_CONFIRMED)).is_some());
        for octets in [confirm(MAX_CONFIRMED + 1), confirm(0), vec![], vec![99], vec![7; 10]] {
            assert_eq!(Frame::decode(&octets), None, "{octets:?}");
        }
        let mut put = samples()[2].encode();
        put[10..14].copy_from_slice(&(MAX_TTL + 1).to_be_bytes());
        assert_eq!(Frame::decode(&put), None);
        let long = |len| {
            let content_type = "x".to_owned();
            let from = Address::App("a".into());
            let body = vec![0; len];
            Frame::Deliver(Delivery {
                sequence: Sequence(1),
                redelivered: false,
                from,
                sent: 0,
                content_type,
                body,
            })
        };
        assert!(Frame::decode(&long(MAX_BODY).encode()).is_some());
        assert_eq!(Frame::decode(&long(MAX_BODY + 1).encode()), None);
    }
}
