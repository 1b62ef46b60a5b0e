//! What both ends do alike on one association: number and resend requests, match answers, tell new from repeated.
//!
//! **Tags** (SPEC R-15). A Hailpost gateway registers with a non-zero tag; a back end that echoes it is a Hailpost
//! back end, and from then on every request has a tag that counts up by one for each kind and direction. The
//! receiver takes exactly the next tag as new; one of the last few that it took is a repetition, answered again and
//! not applied again; any other it does not know, and does not answer.
//! So a resent or delayed message can never undo a later one, and nothing is acknowledged that was not taken. Towards a peer without tags one request of a kind is
//! outstanding at a time, and serials tell repeated syncs apart.
//!
//! **Epoch.** On datagrams the two ends also agree a 32-bit epoch at registration and put a CRC-32 over it behind
//! every message, which keeps flipped bits and datagrams of an earlier association out.

use std::{net::SocketAddr, time::Duration};

use crate::{
    io::{Peer, Transport},
    time::Time,
    wire::gateway::{Body, DecodeError, Encoder, Family, Kind, Message, decode, seal, unseal},
};

/// Requests of one kind that may be outstanding on a stream between two Hailpost ends.
const WINDOW: usize = 8;

/// How requests are repeated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// From one send to the next.
    pub timeout: Duration,
    /// Sends in all.
    pub sends: u8,
}

/// Whether a received request says something new.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Novelty {
    New,
    /// Seen before: answer it, do not apply it.
    Repeated,
    /// A tag that was not taken before and is not the next: neither answer nor apply it. If it is early, it comes
    /// again after the one before it.
    Unexpected,
}

/// What became of a received datagram or frame.
pub(super) enum Opened<'a> {
    Message(Message<'a>),
    /// A datagram that is not of this association: flipped, stale or forged.
    Foreign,
    Malformed(DecodeError),
}

struct Request<C> {
    kind: Kind,
    tag: u16,
    serial: u16,
    octets: Vec<u8>,
    sends: u8,
    due: Time,
    cargo: C,
}

pub(super) struct Association<C> {
    encoder: Encoder,
    transport: Transport,
    patience: Patience,
    /// Whether the peer echoes tags.
    tagged: bool,
    epoch: Option<u32>,
    /// Requests of each kind made and admitted, by which tags are counted.
    made: [u64; Kind::ALL.len()],
    admitted: [u64; Kind::ALL.len()],
    next_serial: [u16; 2],
    seen_serial: [Option<u16>; 2],
    outstanding: Vec<Request<C>>,
}

impl<C> Association<C> {
    pub fn new(family: Family, peer: &Peer, remote: SocketAddr, patience: Patience) -> Association<C> {
        let display = |address: SocketAddr| {
            SocketAddr::new(family.fit(address.ip()).unwrap_or(family.unspecified()), address.port())
        };
        Association {
            encoder: Encoder { family, source: display(peer.local), destination: display(remote) },
            transport: peer.transport,
            patience,
            tagged: false,
            epoch: None,
            made: [0; Kind::ALL.len()],
            admitted: [0; Kind::ALL.len()],
            next_serial: [1; 2],
            seen_serial: [None; 2],
            outstanding: Vec::new(),
        }
    }

    /// Both ends are Hailpost: count tags, and on datagrams seal with the epoch.
    pub fn extend(&mut self, epoch: u32) {
        self.tagged = true;
        self.epoch = (self.transport == Transport::Datagram).then_some(epoch);
    }

    pub fn is_tagged(&self) -> bool {
        self.tagged
    }

    pub fn family(&self) -> Family {
        self.encoder.family
    }

    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Reads one frame or datagram.
    pub fn open<'a>(&self, octets: &'a [u8]) -> Opened<'a> {
        let Some(epoch) = self.epoch else { return read(self.family(), octets) };
        match unseal(epoch, octets) {
            Some(message) => read(self.family(), message),
            // Registration comes before the epoch, so it travels bare.
            None => match decode(self.family(), octets) {
                Ok(message @ Message { body: Body::Register | Body::RegisterAnswer(_), .. }) => {
                    Opened::Message(message)
                }
                _ => Opened::Foreign,
            },
        }
    }

    /// A message outside the request machinery, ready to send: a register, a heartbeat.
    pub fn message(&self, tag: u16, body: &Body<'_>) -> Vec<u8> {
        let bare = matches!(body, Body::Register | Body::RegisterAnswer(_));
        let mut octets = self.encoder.message(tag, body);
        if !bare {
            self.seal(&mut octets);
        }
        octets
    }

    /// Whether another request of this kind may go out now.
    pub fn has_room(&self, kind: Kind) -> bool {
        let window = if self.tagged && self.transport == Transport::Stream { WINDOW } else { 1 };
        self.outstanding(kind) < window
    }

    /// Requests of this kind that wait for their answer.
    pub fn outstanding(&self, kind: Kind) -> usize {
        self.outstanding.iter().filter(|request| request.kind == kind).count()
    }

    /// Makes a request, keeps it until it is answered, and returns the octets to send. `build` is given the
    /// encoder, the tag and (for syncs) the serial.
    pub fn request(
        &mut self,
        now: Time,
        kind: Kind,
        cargo: C,
        build: impl FnOnce(&Encoder, u16, u16) -> Vec<u8>,
    ) -> Vec<u8> {
        let made = &mut self.made[index(kind)];
        *made += 1;
        let tag = if self.tagged { tag_of(*made) } else { 0 };
        let serial = sync_index(kind).map_or(0, |at| {
            let serial = self.next_serial[at];
            self.next_serial[at] = serial.wrapping_add(1);
            serial
        });
        let mut octets = build(&self.encoder, tag, serial);
        self.seal(&mut octets);
        self.outstanding.push(Request {
            kind,
            tag,
            serial,
            octets: octets.clone(),
            sends: 1,
            due: now + self.patience.timeout,
            cargo,
        });
        octets
    }

    /// An answer came: the cargo of the request that it answers, if there is one, and how often that was sent.
    pub fn answered(&mut self, message: &Message<'_>) -> Option<(C, u8)> {
        let (kind, _) = message.body.kind();
        let serial = match message.body {
            Body::ResultSyncAnswer { serial, .. } | Body::RuleSyncAnswer { serial, .. } => Some(serial),
            _ => None,
        };
        let at = self.outstanding.iter().position(|request| {
            request.kind == kind
                && request.tag == message.header.tag
                && serial.is_none_or(|serial| serial == request.serial)
        })?;
        let request = self.outstanding.remove(at);
        Some((request.cargo, request.sends))
    }

    /// Whether a received request is new; if it is, it counts as seen from now on.
    pub fn admit(&mut self, message: &Message<'_>) -> Novelty {
        let (kind, _) = message.body.kind();
        if self.tagged {
            let (tag, admitted) = (message.header.tag, &mut self.admitted[index(kind)]);
            if tag == tag_of(*admitted + 1) {
                *admitted += 1;
                return Novelty::New;
            }
            // The peer has no more than a window of requests under way, so it cannot repeat what is further back.
            let oldest = admitted.saturating_sub(WINDOW as u64) + 1;
            return match (oldest..=*admitted).any(|number| tag_of(number) == tag) {
                true => Novelty::Repeated,
                false => Novelty::Unexpected,
            };
        }
        let serial = match message.body {
            Body::ResultSync { serial, .. } | Body::RuleSync { serial, .. } => serial,
            _ => return Novelty::New,
        };
        let seen = &mut self.seen_serial[sync_index(kind).expect("both syncs have an index")];
        // A serial at most half the circle behind is old.
        if seen.is_some_and(|seen| seen.wrapping_sub(serial) < 0x8000) {
            return Novelty::Repeated;
        }
        *seen = Some(serial);
        Novelty::New
    }

    /// When the next request is to be sent again.
    pub fn deadline(&self) -> Option<Time> {
        self.outstanding.iter().map(|request| request.due).min()
    }

    /// Sends again what is due, through `send`. The cargo of a request that was sent often enough comes back.
    pub fn resend(&mut self, now: Time, mut send: impl FnMut(Vec<u8>)) -> Option<(Kind, C)> {
        let mut failed = None;
        for (at, request) in self.outstanding.iter_mut().enumerate().filter(|(_, request)| request.due <= now)
        {
            if request.sends >= self.patience.sends {
                failed = Some(at);
                break;
            }
            request.sends += 1;
            request.due = now + self.patience.timeout;
            send(request.octets.clone());
        }
        failed.map(|at| self.outstanding.remove(at)).map(|request| (request.kind, request.cargo))
    }

    fn seal(&self, octets: &mut Vec<u8>) {
        if let Some(epoch) = self.epoch {
            seal(epoch, octets);
        }
    }
}

/// The epoch of an association, of the gateway's tag and the back end's number.
pub(super) fn epoch(tag: u16, number: u16) -> u32 {
    u32::from(tag) << 16 | u32::from(number)
}

fn read(family: Family, octets: &[u8]) -> Opened<'_> {
    match decode(family, octets) {
        Ok(message) => Opened::Message(message),
        Err(error) => Opened::Malformed(error),
    }
}

/// The tag of the first, second, … request: 1..=65535 and around. 0 means that there is none.
fn tag_of(number: u64) -> u16 {
    ((number - 1) % 65_535 + 1) as u16
}

fn index(kind: Kind) -> usize {
    Kind::ALL.iter().position(|known| *known == kind).expect("every kind is in the list")
}

fn sync_index(kind: Kind) -> Option<usize> {
    match kind {
        Kind::ResultSync => Some(0),
        Kind::RuleSync => Some(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Service;

    fn association(transport: Transport) -> Association<()> {
        let address = "192.0.2.1:7700".parse().unwrap();
        let peer = Peer { transport, local: address, remote: address, key: None, service: Service::Gateway };
        let patience = Patience { timeout: Duration::from_secs(5), sends: 3 };
        let mut association = Association::new(Family::V4, &peer, address, patience);
        association.extend(7);
        association
    }

    fn admit(association: &mut Association<()>, tag: u16) -> Novelty {
        let octets = association.encoder.message(tag, &Body::Deregister);
        association.admit(&decode(Family::V4, &octets).unwrap())
    }

    #[test]
    fn only_the_next_tag_is_new_and_only_the_last_few_are_repetitions() {
        let mut association = association(Transport::Stream);
        for tag in [0, 2, 3, 65_535, 40_000] {
            assert_eq!(admit(&mut association, tag), Novelty::Unexpected, "{tag} before the first");
        }
        for tag in 1..=20 {
            assert_eq!(admit(&mut association, tag), Novelty::New);
        }
        for tag in 13..=20 {
            assert_eq!(admit(&mut association, tag), Novelty::Repeated, "{tag}");
        }
        for tag in [0, 1, 12, 22, 30, 65_535] {
            assert_eq!(admit(&mut association, tag), Novelty::Unexpected, "{tag}");
        }
        assert_eq!(admit(&mut association, 21), Novelty::New);
    }

    #[test]
    fn tags_go_around_without_zero() {
        let mut association = association(Transport::Stream);
        let ends = [(65_534, 65_534), (65_535, 65_535), (65_536, 1), (131_070, 65_535), (131_071, 1)];
        assert!(ends.iter().all(|(number, tag)| tag_of(*number) == *tag));
        association.admitted[index(Kind::Deregister)] = 65_535;
        assert_eq!(admit(&mut association, 0), Novelty::Unexpected);
        assert_eq!(admit(&mut association, 1), Novelty::New);
        assert_eq!(admit(&mut association, 65_535), Novelty::Repeated);
    }
}
