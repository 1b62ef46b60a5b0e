//! Messages of the gateway protocol (CN103259713A [0064]-[0080], figures 4-13; SPEC 5.2-5.4).
//!
//! A message is a header of 20 octets (44 on an IPv6 association) and a body whose shape its id fixes. All fields
//! are big-endian. Variable parts stay borrowed: [`Records`], [`Rules`] and [`Words`] walk the octets they were
//! decoded from, so a sync of sixty results costs no allocation.

mod decode;
mod encode;
mod items;
mod trailer;

pub use decode::{DecodeError, Malformed, decode, message_len};
pub use encode::{Encoder, rule_len};
pub use items::{Record, Records, Rule, Rules, Words};
pub use trailer::{TRAILER_LEN, seal, unseal};

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::AppId;

/// Most records in one result sync (CN103259713A [0069]).
pub const MAX_RECORDS: usize = 60;
/// Largest rule sync, header included (CN103259713A [0071]).
pub const MAX_RULE_SYNC: usize = 1500;
/// Largest regex field: pattern, NUL and padding (CN103259713A [0071]).
pub const MAX_REGEX_FIELD: usize = 1024;
/// Longest pattern: the field less its NUL (SPEC R-09).
pub const MAX_PATTERN: usize = MAX_REGEX_FIELD - 1;
/// Most words of features or parameters (SPEC R-17).
pub const MAX_WORDS: usize = 256;
/// Largest body that is read at all (SPEC R-05).
pub const MAX_BODY: usize = 65_535;

/// Width of every address on an association (SPEC R-03): a property agreed outside the messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Family {
    /// Four octets an address.
    V4,
    /// Sixteen octets an address; an IPv4 flow is written `::ffff:a.b.c.d` (SPEC R-04).
    V6,
}

impl Family {
    /// Octets of one address.
    pub const fn address_len(self) -> usize {
        match self {
            Family::V4 => 4,
            Family::V6 => 16,
        }
    }

    /// Octets of the header: 20 or 44.
    pub const fn header_len(self) -> usize {
        2 * self.address_len() + 12
    }

    /// Octets of one record: 20 or 44.
    pub const fn record_len(self) -> usize {
        2 * self.address_len() + 12
    }

    /// The form an address takes on this association; `None` for an IPv6 address on an IPv4 one (SPEC R-04).
    pub fn fit(self, address: IpAddr) -> Option<IpAddr> {
        match (self, address) {
            (Family::V4, IpAddr::V6(v6)) => v6.to_ipv4_mapped().map(IpAddr::V4),
            (Family::V6, IpAddr::V4(v4)) => Some(IpAddr::V6(v4.to_ipv6_mapped())),
            (_, same) => Some(same),
        }
    }

    /// The unspecified address of this family.
    pub fn unspecified(self) -> IpAddr {
        match self {
            Family::V4 => IpAddr::from([0; 4]),
            Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }
}

/// What a message is for. Answers have bit 15 set (SPEC 5.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u16)]
pub enum Kind {
    /// Gateway asks to register.
    Register = 0x0001,
    /// Gateway shows that it is there.
    Heartbeat = 0x0002,
    /// Back end sends results it holds.
    ResultSync = 0x0003,
    /// Back end sends rules it holds.
    RuleSync = 0x0004,
    /// One identification result, either way.
    Result = 0x0005,
    /// Gateway sends the features of a flow that differs from its history.
    Features = 0x0006,
    /// Back end sends the parameters of a trained rule.
    Parameters = 0x0007,
    /// Either end takes the gateway off.
    Deregister = 0x0008,
    /// Gateway shows a one-time token to have its key enrolled. Ours: the publication has no such message, and who does
    /// not know its id passes it over.
    Enrol = 0x0041,
}

impl Kind {
    /// Every kind, in order of its id.
    pub const ALL: [Kind; 9] = [
        Kind::Register,
        Kind::Heartbeat,
        Kind::ResultSync,
        Kind::RuleSync,
        Kind::Result,
        Kind::Features,
        Kind::Parameters,
        Kind::Deregister,
        Kind::Enrol,
    ];

    /// The message id of the request.
    pub const fn request_id(self) -> u16 {
        self as u16
    }

    /// The message id of the answer.
    pub const fn answer_id(self) -> u16 {
        self as u16 | 0x8000
    }

    /// From a message id: the kind, and whether it is an answer.
    pub fn from_id(id: u16) -> Option<(Kind, bool)> {
        let kind = Kind::ALL.into_iter().find(|kind| kind.request_id() == id & 0x7fff)?;
        Some((kind, id & 0x8000 != 0))
    }
}

/// Fields 1-4 and 7 of the header; length and id follow from the body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The sender's own view of its address, for display only (DECISIONS 6, R-06).
    pub source: SocketAddr,
    /// The sender's view of its peer.
    pub destination: SocketAddr,
    /// The header's reserved field: a request's tag, echoed in the answer, 0 for none (SPEC R-15).
    pub tag: u16,
}

/// Why a registration or deregistration failed (SPEC 5.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reason(pub u16);

impl Reason {
    /// The key is not enrolled.
    pub const NOT_AUTHORISED: Reason = Reason(1);
    /// Withdrawn: a new login replaces the old (DECISIONS 6); kept for peers that send it.
    pub const ALREADY_REGISTERED: Reason = Reason(2);
    /// No room for another gateway.
    pub const CAPACITY: Reason = Reason(3);
    /// This family or version is not spoken here.
    pub const FAMILY: Reason = Reason(4);
    /// The request could not be read.
    pub const MALFORMED: Reason = Reason(5);
    /// There is no registration to end.
    pub const NOT_REGISTERED: Reason = Reason(6);
    /// Overloaded, shutting down or not ready.
    pub const TRY_LATER: Reason = Reason(7);
    /// Taken off by the operator; only the operator can allow it again.
    pub const BARRED: Reason = Reason(8);
    /// Ours: the token is wrong, used or expired, or its name is another's by now.
    pub const TOKEN: Reason = Reason(0x41);
    /// None of the others.
    pub const UNSPECIFIED: Reason = Reason(0xffff);

    /// A phrase for people.
    pub const fn text(self) -> &'static str {
        match self.0 {
            1 => "not authorised",
            2 => "already registered",
            3 => "no capacity",
            4 => "version or family not supported",
            5 => "malformed",
            6 => "not registered",
            7 => "try later",
            8 => "barred",
            0x41 => "the token is wrong, used or expired",
            _ => "unspecified",
        }
    }
}

/// The body of a register or deregister answer: result and reason, as they stand on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// 0 for success, 1 for failure.
    pub result: u16,
    /// Valid when `result` is 1. On success between two Hailpost ends: the back end's half of the epoch
    /// (docs/gateway-protocol.md), which other peers ignore, as the publication tells them to.
    pub reason: Reason,
}

impl Outcome {
    /// Success.
    pub const OK: Outcome = Outcome { result: 0, reason: Reason(0) };

    /// Failure, and why.
    pub const fn refused(reason: Reason) -> Outcome {
        Outcome { result: 1, reason }
    }

    /// Whether the request was granted.
    pub const fn is_ok(self) -> bool {
        self.result == 0
    }
}

/// A message's body. One variant a message id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body<'a> {
    /// 0x0001
    Register,
    /// 0x8001
    RegisterAnswer(Outcome),
    /// 0x0002
    Heartbeat,
    /// 0x8002
    HeartbeatAnswer,
    /// 0x0003
    ResultSync {
        /// Counts result syncs on this association (SPEC R-12).
        serial: u16,
        /// At most sixty.
        records: Records<'a>,
    },
    /// 0x8003
    ResultSyncAnswer {
        /// The serial of the sync that it answers.
        serial: u16,
        /// Sent as 0.
        reserved: u16,
    },
    /// 0x0004
    RuleSync {
        /// Counts rule syncs on this association.
        serial: u16,
        /// As many as fit 1500 octets.
        rules: Rules<'a>,
    },
    /// 0x8004
    RuleSyncAnswer {
        /// The serial of the sync that it answers.
        serial: u16,
        /// Sent as 0.
        reserved: u16,
    },
    /// 0x0005
    Result(Record),
    /// 0x8005
    ResultAnswer,
    /// 0x0006
    Features {
        /// The application the flow was taken for.
        app: AppId,
        /// What was measured, opaque here (SPEC R-17).
        words: Words<'a>,
    },
    /// 0x8006
    FeaturesAnswer,
    /// 0x0007
    Parameters {
        /// The application that the rule recognises.
        app: AppId,
        /// The trained parameters, opaque here.
        words: Words<'a>,
    },
    /// 0x8007
    ParametersAnswer,
    /// 0x0008
    Deregister,
    /// 0x8008
    DeregisterAnswer(Outcome),
    /// 0x0041
    Enrol {
        /// The token, sixteen octets.
        token: [u8; 16],
    },
    /// 0x8041
    EnrolAnswer(Outcome),
}

impl Body<'_> {
    /// The kind of the message, and whether it is an answer.
    pub const fn kind(&self) -> (Kind, bool) {
        match self {
            Body::Register => (Kind::Register, false),
            Body::RegisterAnswer(_) => (Kind::Register, true),
            Body::Heartbeat => (Kind::Heartbeat, false),
            Body::HeartbeatAnswer => (Kind::Heartbeat, true),
            Body::ResultSync { .. } => (Kind::ResultSync, false),
            Body::ResultSyncAnswer { .. } => (Kind::ResultSync, true),
            Body::RuleSync { .. } => (Kind::RuleSync, false),
            Body::RuleSyncAnswer { .. } => (Kind::RuleSync, true),
            Body::Result(_) => (Kind::Result, false),
            Body::ResultAnswer => (Kind::Result, true),
            Body::Features { .. } => (Kind::Features, false),
            Body::FeaturesAnswer => (Kind::Features, true),
            Body::Parameters { .. } => (Kind::Parameters, false),
            Body::ParametersAnswer => (Kind::Parameters, true),
            Body::Deregister => (Kind::Deregister, false),
            Body::DeregisterAnswer(_) => (Kind::Deregister, true),
            Body::Enrol { .. } => (Kind::Enrol, false),
            Body::EnrolAnswer(_) => (Kind::Enrol, true),
        }
    }

    /// The message id.
    pub const fn id(&self) -> u16 {
        match self.kind() {
            (kind, false) => kind.request_id(),
            (kind, true) => kind.answer_id(),
        }
    }
}

/// A whole message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message<'a> {
    /// Who says it came from where, and its tag.
    pub header: Header,
    /// What it says.
    pub body: Body<'a>,
}
