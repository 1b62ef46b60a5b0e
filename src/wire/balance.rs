//! Datagrams between a device and a balancer, as `docs/balancer.md` lays them out, to values and back: handshake datagrams of
//! the link, of kinds that a broker does not know. What is sealed stays sealed.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::link::{Malformed, REQUEST, Refusal, VERSION};

/// Where the cookie of an ask begins.
pub const ASK_COOKIE: usize = 8;
/// Brokers that an ask tells of at the most.
pub const MAX_SEEN: usize = 4;
/// What an ask seals, in octets, unsealed.
pub const QUESTION: usize = 4 + MAX_SEEN * SEEN;
/// What a give seals, in octets, unsealed.
pub const ANSWER: usize = 58;

const ASK: u8 = 7;
const GIVE: u8 = 8;
const SEEN: usize = 20;
/// Ephemeral key and tag: what Noise adds to a payload.
const NOISE: usize = 48;
const GIVE_HEAD: usize = 16;

/// A device asks for a broker: kind 7, as long as a hello, so that no answer is longer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ask<'a> {
    /// The first two octets of the balancer's static key that is meant.
    pub server_key: [u8; 2],
    /// Zeros, or what the balancer gave.
    pub cookie: [u8; 16],
    /// Noise message 1.
    pub noise: &'a [u8],
}

impl Ask<'_> {
    /// What an answer repeats: the first octets of the device's ephemeral key.
    pub fn echo(&self) -> [u8; 8] {
        array(self.noise, 0)
    }

    /// The datagram.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0, 0, 0, 0, ASK, VERSION];
        out.extend_from_slice(&self.server_key);
        out.extend_from_slice(&self.cookie);
        out.extend_from_slice(&(self.noise.len() as u16).to_be_bytes());
        out.extend_from_slice(self.noise);
        out.resize(REQUEST, 0);
        out
    }
}

/// A datagram that came, at a balancer or from one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Datagram<'a> {
    /// Kind 7.
    Ask(Ask<'a>),
    /// Kind 2: [`super::link::cookie`].
    Cookie {
        /// Of the ask.
        echo: [u8; 8],
        /// To be put into it.
        cookie: [u8; 16],
    },
    /// Kind 4: [`super::link::refuse`].
    Refuse {
        /// Why.
        reason: Refusal,
        /// Of the ask.
        echo: [u8; 8],
    },
    /// Kind 8.
    Give {
        /// Of the ask.
        echo: [u8; 8],
        /// Noise message 2.
        noise: &'a [u8],
    },
}

impl<'a> Datagram<'a> {
    /// Reads any octets.
    pub fn decode(octets: &'a [u8]) -> Result<Datagram<'a>, Malformed> {
        use super::link;
        let length = octets.len();
        if length < GIVE_HEAD {
            return Err(Malformed::Length(length));
        }
        match (octets[..4] == [0; 4], octets[4]) {
            (true, ASK | GIVE) if octets[5] != VERSION => Err(Malformed::Version(octets[5])),
            (true, ASK) => {
                let noise = NOISE + QUESTION;
                let told = octets.get(24..26).map(|two| usize::from(u16::from_be_bytes([two[0], two[1]])));
                match told {
                    Some(told) if told == noise && length == REQUEST => Ok(Datagram::Ask(Ask {
                        server_key: array(octets, 6),
                        cookie: array(octets, ASK_COOKIE),
                        noise: &octets[26..26 + noise],
                    })),
                    _ => Err(Malformed::Length(length)),
                }
            }
            (true, GIVE) if length == GIVE_HEAD + NOISE + ANSWER => {
                Ok(Datagram::Give { echo: array(octets, 8), noise: &octets[GIVE_HEAD..] })
            }
            (true, GIVE) => Err(Malformed::Length(length)),
            _ => match link::Datagram::decode(octets)? {
                link::Datagram::Cookie { echo, cookie } => Ok(Datagram::Cookie { echo, cookie }),
                link::Datagram::Refuse { reason, echo } => Ok(Datagram::Refuse { reason, echo }),
                _ => Err(Malformed::Kind(octets[4])),
            },
        }
    }
}

/// A give.
pub fn give(echo: [u8; 8], noise: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0, 0, 0, GIVE, VERSION, 0, 0];
    out.extend_from_slice(&echo);
    out.extend_from_slice(noise);
    out
}

/// How long a broker's answer took, as a device tells it.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RttClass(pub u8);

impl RttClass {
    /// Nothing is known.
    pub const UNKNOWN: RttClass = RttClass(0);
    /// The first of each class in milliseconds: 1 is below the first of these, 5 is from the last on.
    const FROM: [u64; 4] = [25, 75, 200, 500];

    /// The class of a round trip.
    pub fn of(round_trip: std::time::Duration) -> RttClass {
        let millis = round_trip.as_millis() as u64;
        RttClass(1 + RttClass::FROM.iter().filter(|from| **from <= millis).count() as u8)
    }
}

/// What a device knows of a broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Which one.
    pub address: SocketAddr,
    /// How long its answers take.
    pub class: RttClass,
    /// It did not answer, refused or said that it drains: another is wanted.
    pub failed: bool,
}

/// Payload of Noise message 1.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Question {
    /// Features of a later minor version; unknown ones are ignored.
    pub features: u16,
    /// At most [`MAX_SEEN`], the latest first.
    pub seen: Vec<Seen>,
}

impl Question {
    /// As octets.
    pub fn encode(&self) -> [u8; QUESTION] {
        let mut out = [0; QUESTION];
        let seen = &self.seen[..self.seen.len().min(MAX_SEEN)];
        out[..2].copy_from_slice(&self.features.to_be_bytes());
        out[2] = seen.len() as u8;
        for (place, seen) in out[4..].chunks_exact_mut(SEEN).zip(seen) {
            place[..18].copy_from_slice(&address(seen.address));
            (place[18], place[19]) = (seen.class.0, seen.failed.into());
        }
        out
    }

    /// From octets; `None` when more brokers are counted than there is room for.
    pub fn decode(octets: &[u8; QUESTION]) -> Option<Question> {
        let count = usize::from(octets[2]);
        let seen = |place: &[u8]| Seen {
            address: read_address(array(place, 0)),
            class: RttClass(place[18]),
            failed: place[19] & 1 != 0,
        };
        (count <= MAX_SEEN).then(|| Question {
            features: u16::from_be_bytes([octets[0], octets[1]]),
            seen: octets[4..].chunks_exact(SEEN).take(count).map(seen).collect(),
        })
    }
}

/// Payload of Noise message 2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Log in there.
    Broker {
        /// Where it is.
        address: SocketAddr,
        /// Its static public key on the link: what the device pins.
        key: [u8; 32],
    },
    /// No broker is there: ask again after so many seconds.
    None {
        /// How many.
        pause: u32,
    },
}

impl Answer {
    /// As octets.
    pub fn encode(&self) -> [u8; ANSWER] {
        let mut out = [0; ANSWER];
        match self {
            Answer::Broker { address: at, key } => {
                out[0] = 1;
                out[8..26].copy_from_slice(&address(*at));
                out[26..].copy_from_slice(key);
            }
            Answer::None { pause } => out[4..8].copy_from_slice(&pause.to_be_bytes()),
        }
        out
    }

    /// From octets; `None` for a kind of answer that this version does not know.
    pub fn decode(octets: &[u8; ANSWER]) -> Option<Answer> {
        match octets[0] {
            0 => Some(Answer::None { pause: u32::from_be_bytes(array(octets, 4)) }),
            1 => Some(Answer::Broker { address: read_address(array(octets, 8)), key: array(octets, 26) }),
            _ => None,
        }
    }
}

/// An address and a port as 18 octets, IPv4 in its mapped form.
pub fn address(address: SocketAddr) -> [u8; 18] {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let mut out = [0; 18];
    out[..16].copy_from_slice(&ip.octets());
    out[16..].copy_from_slice(&address.port().to_be_bytes());
    out
}

/// The way back.
pub fn read_address(octets: [u8; 18]) -> SocketAddr {
    let ip: [u8; 16] = array(&octets, 0);
    SocketAddr::new(Ipv6Addr::from(ip).to_canonical(), u16::from_be_bytes(array(&octets, 16)))
}

fn array<const N: usize>(octets: &[u8], at: usize) -> [u8; N] {
    octets[at..at + N].try_into().expect("the length was checked before")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::link;

    fn seen(text: &str, class: u8, failed: bool) -> Seen {
        Seen { address: text.parse().unwrap(), class: RttClass(class), failed }
    }

    #[test]
    fn questions_and_answers_come_back() {
        let question = Question {
            features: 0,
            seen: vec![seen("192.0.2.1:7700", 3, true), seen("[2001:db8::7]:65535", 0, false)],
        };
        assert_eq!(Question::decode(&question.encode()), Some(question.clone()));
        let many = Question { features: 1, seen: vec![question.seen[0]; MAX_SEEN + 3] };
        assert_eq!(Question::decode(&many.encode()).unwrap().seen.len(), MAX_SEEN);
        let mut octets = question.encode();
        octets[2] = MAX_SEEN as u8 + 1;
        assert_eq!(Question::decode(&octets), None);
        for answer in [
            Answer::Broker { address: "192.0.2.1:1".parse().unwrap(), key: [7; 32] },
            Answer::Broker { address: "[2001:db8::1]:9".parse().unwrap(), key: [8; 32] },
            Answer::None { pause: 77 },
        ] {
            assert_eq!(Answer::decode(&answer.encode()), Some(answer));
        }
        assert_eq!(Answer::decode(&[9; ANSWER]), None);
    }

    #[test]
    fn datagrams_come_back_and_others_are_named() {
        let noise = [5; NOISE + QUESTION];
        let ask = Ask { server_key: [1, 2], cookie: [3; 16], noise: &noise };
        let octets = ask.encode();
        assert_eq!(octets.len(), REQUEST);
        assert_eq!(Datagram::decode(&octets), Ok(Datagram::Ask(ask)));
        let noise = [6; NOISE + ANSWER];
        let give = give([9; 8], &noise);
        assert!(give.len() <= REQUEST);
        assert_eq!(Datagram::decode(&give), Ok(Datagram::Give { echo: [9; 8], noise: &noise }));
        let cookie = link::cookie([1; 8], [2; 16]);
        assert_eq!(Datagram::decode(&cookie), Ok(Datagram::Cookie { echo: [1; 8], cookie: [2; 16] }));
        let refuse = link::refuse(Refusal::OtherKey, [1; 8]);
        let refused = Datagram::Refuse { reason: Refusal::OtherKey, echo: [1; 8] };
        assert_eq!(Datagram::decode(&refuse), Ok(refused));

        assert_eq!(Datagram::decode(&octets[..255]), Err(Malformed::Length(255)));
        assert_eq!(Datagram::decode(&give[..give.len() - 1]), Err(Malformed::Length(give.len() - 1)));
        let with = |at: usize, octet| {
            let mut changed = octets.clone();
            changed[at] = octet;
            Datagram::decode(&changed).map(|_| ()).unwrap_err()
        };
        assert_eq!(with(5, 2), Malformed::Version(2));
        assert_eq!(with(4, 9), Malformed::Kind(9));
        assert_eq!(with(25, 1), Malformed::Length(REQUEST), "another length of the Noise message");
        for length in 0..64 {
            assert!(Datagram::decode(&octets[..length]).is_err());
        }
    }

    #[test]
    fn a_round_trip_has_a_class() {
        let of = |millis| RttClass::of(Duration::from_millis(millis)).0;
        assert_eq!([0, 24, 25, 74, 75, 199, 200, 499, 500, 90_000].map(of), [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]);
    }
}
