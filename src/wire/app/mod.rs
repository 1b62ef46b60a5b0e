//! The text form between applications and the hub: CN103200214A [0033], the grammar of SPEC.md 6.3.
//!
//! ```text
//! AUTH news 6d0f…                    one line, first
//!
//! SEND HP/1                          verb, version
//! Id 17                              name, one space, value; up to 64 of them
//! To user:anna
//! Content-Length 5
//!                                    an empty line
//! hello                              exactly Content-Length octets
//! ```
//!
//! The office answers each request, and hands over what others sent:
//!
//! ```text
//! HP/1 200 OK                        MESSAGE HP/1
//! Id 17                              Id 9041
//! State queued                       From user:anna
//!                                    Content-Length 2
//!
//!                                    hi
//! ```
//!
//! Lines end in CRLF, or in LF alone when a person types. Names of headers are compared without regard to case. A
//! request that is well framed and wrong in itself is answered and the next is read; where the framing is lost
//! the connection ends, because nobody knows where the next request begins.

mod lines;
mod reply;
mod request;

use std::{fmt, str};

pub use reply::{Reply, ReplyFault, ReplyReader, answer, deliver, whereabouts};
pub use request::{Reader, Request, Verb, Wrong, auth, cancel, confirm, ping, query, send};

/// Octets of a line, its end included.
pub const MAX_LINE: usize = 1024;
/// Headers of a request.
pub const MAX_HEADERS: usize = 64;
/// Octets of a body.
pub const MAX_BODY: usize = 65_536;
/// Receivers in `To`.
pub const MAX_RECEIVERS: usize = 1000;
/// Octets of all lines of one request or answer: a thousand receivers take more than one line.
const MAX_HEAD: usize = 128 * MAX_LINE;

/// A principal of the post office, as text has it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Address {
    /// `user:NAME`.
    User(String),
    /// `app:NAME`.
    App(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::User(name) => write!(f, "user:{name}"),
            Address::App(name) => write!(f, "app:{name}"),
        }
    }
}

impl str::FromStr for Address {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Address, Wrong> {
        let (kind, name) = text.split_once(':').ok_or(Wrong::Value("To"))?;
        if !is_name(name) {
            return Err(Wrong::Value("To"));
        }
        match kind {
            "user" => Ok(Address::User(name.to_owned())),
            "app" => Ok(Address::App(name.to_owned())),
            _ => Err(Wrong::Value("To")),
        }
    }
}

/// What a user or an application can be called: 1 to 64 visible ASCII characters without `,`, `*` and `:`.
pub fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|octet| octet.is_ascii_graphic() && !matches!(octet, b',' | b'*' | b':'))
}

/// OM-09: whom a message is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Kind {
    /// One user.
    #[default]
    One,
    /// Several that are named, or the subscribers of the sender.
    Directed,
    /// Everybody.
    Broadcast,
}

/// To whom a message goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum To {
    /// These, in the order written, each once.
    Named(Vec<Address>),
    /// `*`: with `Kind directed` who subscribed to the sender, with `Kind broadcast` everybody.
    All,
}

impl str::FromStr for To {
    type Err = Wrong;

    /// `*`, or addresses with commas between.
    fn from_str(text: &str) -> Result<To, Wrong> {
        if text == "*" {
            return Ok(To::All);
        }
        let mut named: Vec<Address> = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for one in text.split(',') {
            let address: Address = one.parse()?;
            if seen.insert(address.clone()) {
                named.push(address);
            }
            if named.len() > MAX_RECEIVERS {
                return Err(Wrong::Value("To"));
            }
        }
        Ok(To::Named(named))
    }
}

/// A message as an application gives it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// `Id`: 1 to 64 visible ASCII characters, unique for the application.
    pub id: String,
    /// `From`, where it is said; checked, never believed.
    pub from: Option<Address>,
    /// `To`.
    pub to: To,
    /// `Kind`.
    pub kind: Kind,
    /// `Offline store`: keep it for who is not there. Otherwise it is dropped (OM-04, OM-05).
    pub store: bool,
    /// `Ttl`, in seconds: when the message is stale.
    pub ttl: u32,
    /// `Period`, in Unix seconds: a broadcast is kept for those who come during it.
    pub period: Option<(u64, u64)>,
    /// `Content-Type`.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Message {
    /// A message with the defaults of the text form, and an id still to be given.
    pub fn new(to: To, body: Vec<u8>) -> Message {
        Message {
            id: String::new(),
            from: None,
            to,
            kind: Kind::One,
            store: false,
            ttl: DEFAULT_TTL,
            period: None,
            content_type: "text/plain".to_owned(),
            body,
        }
    }

    /// Whether an office takes it as it is.
    pub fn check(&self) -> Result<(), Wrong> {
        let fits = match (&self.to, self.kind) {
            (To::Named(named), Kind::One) => named.len() == 1,
            (To::Named(named), Kind::Directed) => (1..=MAX_RECEIVERS).contains(&named.len()),
            (To::All, Kind::Directed | Kind::Broadcast) => true,
            _ => false,
        };
        let named = match &self.to {
            To::Named(named) => named,
            To::All => &[][..],
        };
        let is_named = |(Address::User(name) | Address::App(name)): &Address| is_name(name);
        let is_broadcast = self.kind == Kind::Broadcast;
        match self {
            _ if !fits || !named.iter().all(is_named) => Err(Wrong::Value("To")),
            _ if !self.from.iter().all(is_named) => Err(Wrong::Value("From")),
            _ if self.period.is_some_and(|(start, end)| !is_broadcast || start >= end) => {
                Err(Wrong::Value("Period"))
            }
            _ if !is_id(&self.id) => Err(Wrong::Value("Id")),
            _ if !(1..=MAX_TTL).contains(&self.ttl) => Err(Wrong::Value("Ttl")),
            _ if !is_content_type(&self.content_type) => Err(Wrong::Value("Content-Type")),
            _ if self.body.len() > MAX_BODY => Err(Wrong::Body),
            _ => Ok(()),
        }
    }
}

/// A week (SPEC.md 6.3), and the most there is (DECISIONS.md 5).
pub const DEFAULT_TTL: u32 = 604_800;
/// Thirty days.
pub const MAX_TTL: u32 = 30 * 86_400;

/// What became of a message, for now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// On the disk, for later.
    Stored,
    /// On the disk, and under way to who is there.
    Queued,
    /// Under way to who is there, kept nowhere.
    Routed,
    /// Nobody was there, and it was not to be kept.
    Dropped,
}

impl State {
    const ALL: [State; 4] = [State::Stored, State::Queued, State::Routed, State::Dropped];

    /// As the answer has it.
    pub const fn text(self) -> &'static str {
        match self {
            State::Stored => "stored",
            State::Queued => "queued",
            State::Routed => "routed",
            State::Dropped => "dropped",
        }
    }
}

/// Whether this can be an id: 1 to 64 visible ASCII characters.
pub fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_graphic())
}

/// Whether this can be a content type: up to 128 printable ASCII characters.
pub fn is_content_type(text: &str) -> bool {
    text.len() <= 128 && text.bytes().all(|octet| (0x20..0x7f).contains(&octet))
}

/// Digits and nothing else: `+7` is a number to the library, and two spellings of one id or length to us.
fn number<N: str::FromStr>(text: &str) -> Option<N> {
    text.bytes().all(|octet| octet.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
