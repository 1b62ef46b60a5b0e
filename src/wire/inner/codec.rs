//! How messages stand in frames: the types' numbers, and which tags each has.

use super::{
    frame::{Frame, Writer},
    message::{Found, MAX_ACKED, MAX_REVOKED, MAX_SITTING, Message, Registered, Secret, Sitting, Wrong},
    relayed::{self, Relayed},
    values::{Values, place, root, short, tag},
};
use crate::wire::octets::Octets;

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
            Message::Join { .. } => 768,
            Message::Joined => 769,
            Message::Replicate(_) => 770,
            Message::Ack(_) => 771,
            Message::Query(_) => 772,
            Message::Presence(_) => 773,
        }
    }

    /// The octets of its frame. Texts are cut to 255 octets; lists must keep to their bounds.
    pub fn encode(&self, correlation: u64) -> Vec<u8> {
        let room = match self {
            Message::Up { octets, .. } | Message::Down { octets, .. } => octets.len() + 32,
            Message::Digest { sitting, .. } => sitting.len() * 12 + 16,
            Message::Revoked(revoked) => revoked.len() * 8 + 8,
            Message::Replicate(relayed) => relayed.body.len() + 256,
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
            Message::Join { room, other, epoch } => {
                out.value(tag::ROOM, short(room)).value(tag::OTHER_ROOM, short(other));
                out.value(tag::EPOCH, &epoch.to_be_bytes());
            }
            Message::Joined => {}
            Message::Replicate(relayed) => relayed.write(&mut out),
            Message::Ack(sequences) => {
                let octets = sequences.iter().flat_map(|sequence| sequence.to_be_bytes());
                out.value(tag::ACKED, &octets.collect::<Vec<u8>>());
            }
            Message::Query(users) => relayed::write_users(&mut out, users),
            Message::Presence(users) => relayed::write_whereabouts(&mut out, users),
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
            768 => Message::Join {
                room: values.text(tag::ROOM)?,
                other: values.text(tag::OTHER_ROOM)?,
                epoch: values.u64(tag::EPOCH)?,
            },
            769 => Message::Joined,
            770 => Message::Replicate(Box::new(Relayed::read(&values)?)),
            771 => Message::Ack(values.list(tag::ACKED, MAX_ACKED, |octets| octets.u64())?),
            772 => Message::Query(relayed::read_users(&values)?),
            773 => Message::Presence(relayed::read_whereabouts(&values)?),
            _ => return Err(Wrong::Unknown),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Deframer, *};
    use crate::wire::{
        app::{Address, MAX_RECEIVERS},
        post::Presence,
    };

    /// For so many users, with names as long as they can be; for everybody with none.
    fn relayed(count: usize) -> Relayed {
        let name = |at: usize| Address::User(format!("{at:0>62}"));
        Relayed {
            sequence: 1 << 50,
            sent: 1_700_000_000,
            left: 3600,
            kept: true,
            period: None,
            from: Address::App("news".into()),
            to: (0..count).map(name).collect(),
            content_type: "text/plain".into(),
            body: b"hello".to_vec(),
        }
    }

    fn replicate(relayed: Relayed) -> Message {
        Message::Replicate(Box::new(relayed))
    }

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
            Message::Join { room: "south".into(), other: "north".into(), epoch: 12 },
            Message::Joined,
            replicate(relayed(1)),
            replicate(Relayed { body: vec![9; 65_536], ..relayed(1000) }),
            replicate(Relayed { kept: false, ..relayed(0) }),
            replicate(Relayed { period: Some((1_700_000_000, 1_700_000_060)), ..relayed(0) }),
            Message::Ack(vec![21, u64::MAX]),
            Message::Query(vec!["anna".into(), "ben".into()]),
            Message::Presence(vec![Presence { user: "anna".into(), online: true, since: 5 }]),
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
        for (count, is_good) in [(MAX_ACKED, true), (MAX_ACKED + 1, false)] {
            let octets = Message::Ack([1].repeat(count)).encode(0);
            assert_eq!(Message::decode(&frame(&octets)).is_ok(), is_good, "{count}");
        }
        for (count, is_good) in [(MAX_RECEIVERS, true), (MAX_RECEIVERS + 1, false)] {
            let users = |name: &str| vec![name.to_owned(); count];
            let presence = Presence { user: "anna".into(), online: true, since: 5 };
            let relayed = Relayed { body: Vec::new(), ..relayed(count) };
            for message in
                [replicate(relayed), Message::Query(users("anna")), Message::Presence(vec![presence; count])]
            {
                assert_eq!(Message::decode(&frame(&message.encode(0))).is_ok(), is_good, "{count}");
            }
        }
        let (everybody, period) = (relayed(0), Some((7, 8)));
        for (wrong, tag) in [
            (Relayed { period: Some((7, 7)), ..everybody.clone() }, tag::PERIOD),
            (Relayed { period, ..relayed(1) }, tag::PERIOD),
            (Relayed { period, kept: false, ..everybody.clone() }, tag::PERIOD),
            (Relayed { content_type: "\u{e9}".into(), ..everybody.clone() }, tag::CONTENT_TYPE),
            (Relayed { body: vec![0; 65_537], ..everybody }, tag::OCTETS),
        ] {
            let octets = replicate(wrong).encode(0);
            assert_eq!(Message::decode(&frame(&octets)), Err(Wrong::Value(tag)));
        }
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
