//! What the frames of inner links mean. A tag means the same in every type.

use super::relayed::Relayed;
use crate::wire::post::Presence;

/// Sessions that one digest can name.
pub const MAX_SITTING: usize = 5000;
/// Revocations that one frame can name.
pub const MAX_REVOKED: usize = 8000;
/// Sequences that one acknowledgement can name.
pub const MAX_ACKED: usize = 1024;

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
    /// Type 768, room to room, first, from the one that connects: it hands over what it has for the other.
    Join {
        /// What it is called.
        room: String,
        /// What it takes the other one for.
        other: String,
        /// Drawn at the beginning of its store: what has a sequence under another one is another message.
        epoch: u64,
    },
    /// Type 769, the answer: go on.
    Joined,
    /// Type 770, on: a message.
    Replicate(Box<Relayed>),
    /// Type 771, back: these are durable, or never will be. At most [`MAX_ACKED`].
    Ack(Vec<u64>),
    /// Type 772, on: where are these users? The correlation ties the answer.
    Query(Vec<String>),
    /// Type 773, back: the answer. Who is not named is not known.
    Presence(Vec<Presence>),
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
