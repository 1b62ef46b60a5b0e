//! Datagrams of the link, as `docs/link-protocol.md` lays them out, to values and back. Nothing here is secret: what is
//! sealed stays sealed.

mod beat;
mod frame;

use self::frame::FRAME;
pub use self::{
    beat::{ANSWER, ASK, DRAINS, HEEDS_RHYTHM, HEEDS_SLEEP, LONGEST_SLEEP, Rhythm, SLEEPS},
    frame::{Acknowledgement, Frame, Kind, MAX_RUNS},
};

/// The longest datagram, in octets.
pub const MAX_DATAGRAM: usize = 512;
/// Data of one datagram at the most, in octets: the length of every piece of a message but its last.
pub const PIECE: usize = 480;
/// Pieces of one message at the most.
pub const MAX_PIECES: usize = 256;
/// The longest message, in octets.
pub const MAX_MESSAGE: usize = PIECE * MAX_PIECES;
/// The version in every handshake datagram and in the prologue.
pub const VERSION: u8 = 1;
/// A hello and a resume have this length, so that no answer is longer.
pub const REQUEST: usize = 256;
/// A ticket, in octets.
pub const TICKET: usize = 104;
/// What an accept and a resumed tell, in octets, unsealed.
pub const WELCOME: usize = 188;
/// A heartbeat, and a reset.
pub const BEAT: usize = 16;
/// Connection id and sequence: the associated data of everything sealed in a session.
pub const HEAD: usize = 6;
/// Octets of a data datagram that are not data: head, frame, tag.
pub const OVERHEAD: usize = HEAD + FRAME + TAG;
/// Length of a GCM tag.
pub const TAG: usize = 16;
/// Length of a heartbeat's CCM tag.
pub const BEAT_TAG: usize = 8;
/// Where the cookie of a hello begins.
pub const HELLO_COOKIE: usize = 24;
/// Where the cookie of a resume begins.
pub const RESUME_COOKIE: usize = 128;
/// Octets of a resume that its proof covers, with the cookie as zeros.
pub const RESUME_PROVEN: usize = 148;
/// Octets of a resumed before what is sealed: its associated data.
pub const RESUMED_HEAD: usize = 32;

const RESUMED: usize = RESUMED_HEAD + WELCOME + TAG;

/// Why a server says no. A refusal is not authenticated, so it is a hint.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refusal {
    /// The session id is not known, revoked or expired.
    Unknown,
    /// The server takes no more sessions now.
    Full,
    /// The server does not hold the static key that was meant.
    OtherKey,
    /// The server speaks another version.
    Version,
    /// The ticket does not open, or is over.
    Ticket,
    /// A reason that this version does not know.
    Other(u16),
}

impl Refusal {
    /// Its number on the wire.
    pub const fn number(self) -> u16 {
        match self {
            Refusal::Unknown => 1,
            Refusal::Full => 2,
            Refusal::OtherKey => 3,
            Refusal::Version => 4,
            Refusal::Ticket => 5,
            Refusal::Other(number) => number,
        }
    }

    /// The reason with a number.
    pub const fn of(number: u16) -> Refusal {
        match number {
            1 => Refusal::Unknown,
            2 => Refusal::Full,
            3 => Refusal::OtherKey,
            4 => Refusal::Version,
            5 => Refusal::Ticket,
            other => Refusal::Other(other),
        }
    }
}

/// Why a datagram is none of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    /// Too short, too long, or not as long as its kind.
    #[error("{0} octets is no length of such a datagram")]
    Length(usize),
    /// A handshake datagram of an unknown kind.
    #[error("octet 4: unknown kind {0}")]
    Kind(u8),
    /// A handshake datagram of another version.
    #[error("octet 5: version {0}")]
    Version(u8),
}

/// The first datagram of a handshake, device to server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hello<'a> {
    /// The first two octets of the static key that is meant.
    pub server_key: [u8; 2],
    /// The public name of the credential.
    pub session_id: [u8; 16],
    /// Zeros, or what the server gave.
    pub cookie: [u8; 16],
    /// Noise message 1.
    pub noise: &'a [u8],
}

impl Hello<'_> {
    /// What an answer repeats, to be known by: the first octets of the device's ephemeral key.
    pub fn echo(&self) -> [u8; 8] {
        array(self.noise, 0)
    }

    /// The datagram.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = begin(1, self.server_key);
        out.extend_from_slice(&self.session_id);
        out.extend_from_slice(&self.cookie);
        out.extend_from_slice(&(self.noise.len() as u16).to_be_bytes());
        out.extend_from_slice(self.noise);
        out.resize(REQUEST, 0);
        out
    }
}

/// A resume, device to server. Its proof is at [`RESUME_PROVEN`] in the datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resume {
    /// The device's nonce.
    pub nonce: [u8; 16],
    /// The server's ticket.
    pub ticket: [u8; TICKET],
    /// Zeros, or what the server gave.
    pub cookie: [u8; 16],
    /// What the device would like.
    pub wish: Wish,
    /// Proof that the device knows the resume secret.
    pub proof: [u8; 16],
}

impl Resume {
    /// What an answer repeats: the first octets of the nonce.
    pub fn echo(&self) -> [u8; 8] {
        array(&self.nonce, 0)
    }

    /// The datagram.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = begin(5, [0; 2]);
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(&self.ticket);
        out.extend_from_slice(&self.cookie);
        out.extend_from_slice(&self.wish.encode());
        out.extend_from_slice(&self.proof);
        out.resize(REQUEST, 0);
        out
    }
}

/// Payload of Noise message 1, and part of a resume.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Wish {
    /// Features of a later minor version; unknown ones are ignored.
    pub features: u16,
    /// Heartbeat interval, in seconds.
    pub interval: u16,
}

impl Wish {
    /// As octets.
    pub fn encode(&self) -> [u8; 4] {
        let ([a, b], [c, d]) = (self.features.to_be_bytes(), self.interval.to_be_bytes());
        [a, b, c, d]
    }

    /// From octets.
    pub fn decode(octets: [u8; 4]) -> Wish {
        let [a, b, c, d] = octets;
        Wish { features: u16::from_be_bytes([a, b]), interval: u16::from_be_bytes([c, d]) }
    }
}

/// Payload of Noise message 2, and what a resumed seals. Secret, all but the id and the interval.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// The session's connection id.
    pub id: u32,
    /// Heartbeat interval that holds, in seconds.
    pub interval: u16,
    /// Features of a later minor version.
    pub features: u16,
    /// What a reset of this id carries.
    pub reset: [u8; 12],
    /// The secret of the ticket.
    pub resume: [u8; 32],
    /// For the next resume.
    pub ticket: [u8; TICKET],
    /// The static key that comes after the present one; zeros when none is announced.
    pub next_key: [u8; 32],
}

impl std::fmt::Debug for Welcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Welcome")
            .field("id", &self.id)
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

impl Welcome {
    /// As octets.
    pub fn encode(&self) -> [u8; WELCOME] {
        let mut out = [0; WELCOME];
        out[..4].copy_from_slice(&self.id.to_be_bytes());
        out[4..6].copy_from_slice(&self.interval.to_be_bytes());
        out[6..8].copy_from_slice(&self.features.to_be_bytes());
        out[8..20].copy_from_slice(&self.reset);
        out[20..52].copy_from_slice(&self.resume);
        out[52..156].copy_from_slice(&self.ticket);
        out[156..].copy_from_slice(&self.next_key);
        out
    }

    /// From octets.
    pub fn decode(octets: &[u8; WELCOME]) -> Welcome {
        Welcome {
            id: u32::from_be_bytes(array(octets, 0)),
            interval: u16::from_be_bytes(array(octets, 4)),
            features: u16::from_be_bytes(array(octets, 6)),
            reset: array(octets, 8),
            resume: array(octets, 20),
            ticket: array(octets, 52),
            next_key: array(octets, 156),
        }
    }
}

/// A datagram that came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Datagram<'a> {
    /// Kind 1.
    Hello(Hello<'a>),
    /// Kind 2.
    Cookie {
        /// Of the request.
        echo: [u8; 8],
        /// To be put into it.
        cookie: [u8; 16],
    },
    /// Kind 3.
    Accept {
        /// Of the hello.
        echo: [u8; 8],
        /// Noise message 2.
        noise: &'a [u8],
    },
    /// Kind 4.
    Refuse {
        /// Why.
        reason: Refusal,
        /// Of the request.
        echo: [u8; 8],
    },
    /// Kind 5.
    Resume(Resume),
    /// Kind 6. Sealed, from [`RESUMED_HEAD`] of the datagram on.
    Resumed {
        /// Of the resume.
        echo: [u8; 8],
        /// The server's nonce.
        nonce: [u8; 16],
    },
    /// A heartbeat, or towards a device perhaps a reset.
    Beat {
        /// Whose.
        id: u32,
        /// The counter's low octets.
        sequence: u16,
    },
    /// Data.
    Data {
        /// Whose.
        id: u32,
        /// The counter's low octets.
        sequence: u16,
    },
}

impl<'a> Datagram<'a> {
    /// Reads any octets.
    pub fn decode(octets: &'a [u8]) -> Result<Datagram<'a>, Malformed> {
        let length = octets.len();
        if !(BEAT..=MAX_DATAGRAM).contains(&length) {
            return Err(Malformed::Length(length));
        }
        let id = u32::from_be_bytes(array(octets, 0));
        let sequence = u16::from_be_bytes(array(octets, 4));
        match length {
            _ if id == 0 => handshake(octets),
            BEAT => Ok(Datagram::Beat { id, sequence }),
            OVERHEAD.. => Ok(Datagram::Data { id, sequence }),
            _ => Err(Malformed::Length(length)),
        }
    }
}

fn handshake(octets: &[u8]) -> Result<Datagram<'_>, Malformed> {
    let (kind, version, length) = (octets[4], octets[5], octets.len());
    if version != VERSION {
        return Err(Malformed::Version(version));
    }
    let exactly = |expected: usize| match length == expected {
        true => Ok(()),
        false => Err(Malformed::Length(length)),
    };
    match kind {
        1 => {
            exactly(REQUEST)?;
            let noise = usize::from(u16::from_be_bytes(array(octets, 40)));
            match octets.get(42..42 + noise) {
                Some(noise) if noise.len() >= 32 => Ok(Datagram::Hello(Hello {
                    server_key: array(octets, 6),
                    session_id: array(octets, 8),
                    cookie: array(octets, HELLO_COOKIE),
                    noise,
                })),
                _ => Err(Malformed::Length(noise)),
            }
        }
        2 => exactly(32).map(|()| Datagram::Cookie { echo: array(octets, 8), cookie: array(octets, 16) }),
        3 => match length {
            64..=REQUEST => Ok(Datagram::Accept { echo: array(octets, 8), noise: &octets[16..] }),
            _ => Err(Malformed::Length(length)),
        },
        4 => exactly(16).map(|()| Datagram::Refuse {
            reason: Refusal::of(u16::from_be_bytes(array(octets, 6))),
            echo: array(octets, 8),
        }),
        5 => exactly(REQUEST).map(|()| {
            Datagram::Resume(Resume {
                nonce: array(octets, 8),
                ticket: array(octets, 24),
                cookie: array(octets, RESUME_COOKIE),
                wish: Wish::decode(array(octets, 144)),
                proof: array(octets, RESUME_PROVEN),
            })
        }),
        6 => {
            exactly(RESUMED).map(|()| Datagram::Resumed { echo: array(octets, 8), nonce: array(octets, 16) })
        }
        other => Err(Malformed::Kind(other)),
    }
}

/// A cookie.
pub fn cookie(echo: [u8; 8], cookie: [u8; 16]) -> Vec<u8> {
    let mut out = begin(2, [0; 2]);
    out.extend_from_slice(&echo);
    out.extend_from_slice(&cookie);
    out
}

/// An accept.
pub fn accept(echo: [u8; 8], noise: &[u8]) -> Vec<u8> {
    let mut out = begin(3, [0; 2]);
    out.extend_from_slice(&echo);
    out.extend_from_slice(noise);
    out
}

/// A refusal.
pub fn refuse(reason: Refusal, echo: [u8; 8]) -> Vec<u8> {
    let mut out = begin(4, reason.number().to_be_bytes());
    out.extend_from_slice(&echo);
    out
}

/// What a resumed has before what it seals.
pub fn resumed_head(echo: [u8; 8], nonce: [u8; 16]) -> Vec<u8> {
    let mut out = begin(6, [0; 2]);
    out.extend_from_slice(&echo);
    out.extend_from_slice(&nonce);
    out
}

/// A reset.
pub fn reset(id: u32, token: [u8; 12]) -> Vec<u8> {
    let mut out = id.to_be_bytes().to_vec();
    out.extend_from_slice(&token);
    out
}

/// The head of everything sealed in a session.
pub fn head(id: u32, counter: u64) -> [u8; HEAD] {
    let mut out = [0; HEAD];
    out[..4].copy_from_slice(&id.to_be_bytes());
    out[4..].copy_from_slice(&(counter as u16).to_be_bytes());
    out
}

fn begin(kind: u8, two: [u8; 2]) -> Vec<u8> {
    let mut out = Vec::with_capacity(REQUEST);
    out.extend_from_slice(&[0, 0, 0, 0, kind, VERSION]);
    out.extend_from_slice(&two);
    out
}

fn array<const N: usize>(octets: &[u8], at: usize) -> [u8; N] {
    octets[at..at + N].try_into().expect("the length was checked")
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_welcome_printed_tells_no_secret() {
        let (reset, resume, ticket, next_key) = ([7; 12], [7; 32], [7; TICKET], [7; 32]);
        let welcome = Welcome { id: 1, interval: 30, features: 0, reset, resume, ticket, next_key };
        assert_eq!(format!("{welcome:?}"), "Welcome { id: 1, interval: 30, .. }");
    }

    #[test]
    fn handshake_datagrams_are_read_as_they_were_written() {
        let noise = [9; 52];
        let hello = Hello { server_key: [1, 2], session_id: [3; 16], cookie: [4; 16], noise: &noise };
        assert_eq!(Datagram::decode(&hello.encode()), Ok(Datagram::Hello(hello)));
        assert_eq!(hello.encode()[HELLO_COOKIE..][..16], [4; 16]);
        let wish = Wish { features: 0, interval: 30 };
        let resume = Resume { nonce: [1; 16], ticket: [2; TICKET], cookie: [3; 16], wish, proof: [4; 16] };
        let octets = resume.encode();
        assert_eq!(Datagram::decode(&octets), Ok(Datagram::Resume(resume)));
        assert_eq!(octets[RESUME_COOKIE..][..16], [3; 16]);
        assert_eq!(octets[RESUME_PROVEN..][..16], [4; 16]);
        let (echo, secret) = ([5; 8], [6; 16]);
        assert_eq!(Datagram::decode(&cookie(echo, secret)), Ok(Datagram::Cookie { echo, cookie: secret }));
        for number in 0..9 {
            let reason = Refusal::of(number);
            assert_eq!(Datagram::decode(&refuse(reason, echo)), Ok(Datagram::Refuse { reason, echo }));
        }
        let octets = accept(echo, &[7; 204]);
        assert_eq!(Datagram::decode(&octets), Ok(Datagram::Accept { echo, noise: &[7; 204] }));
        let mut octets = resumed_head(echo, [8; 16]);
        octets.resize(RESUMED, 0);
        assert_eq!(octets.len(), 236);
        assert_eq!(Datagram::decode(&octets), Ok(Datagram::Resumed { echo, nonce: [8; 16] }));
    }

    #[test]
    fn every_other_length_kind_and_version_is_told_apart() {
        for length in [0, 1, 15, 17, 31, 513, 2000] {
            let mut octets = vec![0; length];
            octets.iter_mut().take(1).for_each(|octet| *octet = 1);
            assert_eq!(Datagram::decode(&octets), Err(Malformed::Length(length)));
        }
        let hello = Hello { server_key: [0; 2], session_id: [0; 16], cookie: [0; 16], noise: &[0; 52] };
        let mut octets = hello.encode();
        assert_eq!(Datagram::decode(&octets[..255]), Err(Malformed::Length(255)));
        octets[5] = 2;
        assert_eq!(Datagram::decode(&octets), Err(Malformed::Version(2)));
        octets[4..6].copy_from_slice(&[7, 1]);
        assert_eq!(Datagram::decode(&octets), Err(Malformed::Kind(7)));
        octets[4] = 1;
        octets[40..42].copy_from_slice(&215u16.to_be_bytes());
        assert_eq!(Datagram::decode(&octets), Err(Malformed::Length(215)));
        octets[40..42].copy_from_slice(&31u16.to_be_bytes());
        assert_eq!(Datagram::decode(&octets), Err(Malformed::Length(31)));
    }

    #[test]
    fn welcomes_go_there_and_back() {
        let welcome = Welcome {
            id: 1,
            interval: 2,
            features: 3,
            reset: [4; 12],
            resume: [7; 32],
            ticket: [5; TICKET],
            next_key: [6; 32],
        };
        assert_eq!(Welcome::decode(&welcome.encode()), welcome);
    }
}
