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
//! Lines end in CRLF, or in LF alone when a person types. Names of headers are compared without regard to case. A
//! request that is well framed and wrong in itself is answered and the next is read; where the framing is lost
//! the connection ends, because nobody knows where the next request begins.

use std::{fmt, str};

/// Octets of a line, its end included.
pub const MAX_LINE: usize = 1024;
/// Headers of a request.
pub const MAX_HEADERS: usize = 64;
/// Octets of a body.
pub const MAX_BODY: usize = 65_536;
/// Receivers in `To`.
pub const MAX_RECEIVERS: usize = 1000;
/// Octets of all lines of one request: a thousand receivers take more than one line.
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

/// What a request asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// Deliver a message.
    Send,
    /// Where users are.
    Query,
    /// Withdraw a message that was not delivered yet.
    Cancel,
    /// A message that came is dealt with.
    Confirm,
    /// Is anybody there?
    Ping,
}

impl Verb {
    const ALL: [(Verb, &'static str); 5] = [
        (Verb::Send, "SEND"),
        (Verb::Query, "QUERY"),
        (Verb::Cancel, "CANCEL"),
        (Verb::Confirm, "CONFIRM"),
        (Verb::Ping, "PING"),
    ];
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

/// A week (SPEC.md 6.3), and the most there is (DECISIONS.md 5).
pub const DEFAULT_TTL: u32 = 604_800;
/// Thirty days.
pub const MAX_TTL: u32 = 30 * 86_400;

/// A request, read. Printed, it tells no secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Request {
    /// Who speaks.
    Auth {
        /// The application.
        app: String,
        /// Its secret.
        secret: String,
    },
    /// [`Verb::Send`].
    Send(Message),
    /// [`Verb::Query`] for these users.
    Query {
        /// Echoed in the answer.
        id: Option<String>,
        /// Users.
        users: Vec<Address>,
    },
    /// [`Verb::Cancel`].
    Cancel {
        /// Of the message.
        id: String,
    },
    /// [`Verb::Confirm`].
    Confirm {
        /// Of the message that came.
        id: String,
    },
    /// [`Verb::Ping`].
    Ping {
        /// Echoed in the answer.
        id: Option<String>,
    },
    /// Well framed, and wrong in itself.
    Wrong {
        /// Its id, as far as it was read.
        id: Option<String>,
        /// Why.
        why: Wrong,
    },
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Request::Auth { app, .. } => f.debug_struct("Auth").field("app", app).finish_non_exhaustive(),
            Request::Send(message) => f.debug_tuple("Send").field(message).finish(),
            Request::Query { id, users } => {
                f.debug_struct("Query").field("id", id).field("users", users).finish()
            }
            Request::Cancel { id } => f.debug_struct("Cancel").field("id", id).finish(),
            Request::Confirm { id } => f.debug_struct("Confirm").field("id", id).finish(),
            Request::Ping { id } => f.debug_struct("Ping").field("id", id).finish(),
            Request::Wrong { id, why } => f.debug_struct("Wrong").field("id", id).field("why", why).finish(),
        }
    }
}

/// What is wrong with a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Wrong {
    /// The first line is none of ours.
    #[error("the first line is VERB HP/1, with SEND, QUERY, CANCEL, CONFIRM or PING")]
    Verb,
    /// A header has no space.
    #[error("a header is a name, one space and a value")]
    Header,
    /// A value that cannot be.
    #[error("{0} has a value that it cannot have")]
    Value(&'static str),
    /// A header that must be there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// The same twice.
    #[error("{0} is there twice")]
    Twice(&'static str),
    /// The body is too long.
    #[error("a body has at most 65536 octets")]
    Body,
    /// The framing is lost.
    #[error("a line has at most 1024 octets, a request 64 headers")]
    Line,
    /// `AUTH` is one line with two words.
    #[error("AUTH is followed by the application and its secret, on one line")]
    Auth,
}

impl Wrong {
    /// The code of the answer.
    pub const fn code(self) -> u16 {
        match self {
            Wrong::Body => 413,
            _ => 400,
        }
    }

    /// Whether nobody knows where the next request begins.
    pub const fn ends_connection(self) -> bool {
        matches!(self, Wrong::Line | Wrong::Body | Wrong::Auth | Wrong::Verb)
    }
}

/// Cuts a stream into requests. Holds at most one request.
#[derive(Default)]
pub struct Reader {
    buffer: Vec<u8>,
    /// Octets of the buffer that have no line end.
    scanned: usize,
    head: Option<Head>,
    lost: bool,
}

impl Reader {
    /// Takes octets of the stream, and gives a request when one is whole. Call it with what is left of the piece until it
    /// answers `None`; after a request that [ends the connection](Wrong::ends_connection) it answers nothing more.
    pub fn next(&mut self, piece: &mut &[u8]) -> Option<Request> {
        while !self.lost {
            if let Some(head) = &self.head {
                let missing = head.length.saturating_sub(self.buffer.len());
                let (taken, rest) = piece.split_at(missing.min(piece.len()));
                self.buffer.extend_from_slice(taken);
                *piece = rest;
                if self.buffer.len() < head.length {
                    return None;
                }
                let body = std::mem::take(&mut self.buffer);
                return self.head.take().map(|head| head.finish(body));
            }
            let end = piece.iter().position(|octet| *octet == b'\n');
            let (taken, rest) = piece.split_at(end.map_or(piece.len(), |at| at + 1));
            self.buffer.extend_from_slice(taken);
            *piece = rest;
            let line = self.buffer.len() - self.scanned;
            if line > MAX_LINE && !starts_with_to(&self.buffer[self.scanned..])
                || self.buffer.len() > MAX_HEAD
            {
                return Some(self.lose(Wrong::Line));
            }
            end?;
            let is_first = self.scanned == 0;
            let line = trimmed(&self.buffer[self.scanned..]);
            if is_first && line.is_empty() {
                // Between requests, as after a body that a person typed.
                self.buffer.clear();
                continue;
            }
            if is_first && line.starts_with(b"AUTH ") {
                let request = auth(line);
                self.buffer.clear();
                return Some(request.unwrap_or_else(|why| self.lose(why)));
            }
            if !line.is_empty() {
                self.scanned = self.buffer.len();
                continue;
            }
            let head = Head::read(&self.buffer);
            self.buffer.clear();
            self.scanned = 0;
            match head {
                Ok(head) => self.head = Some(head),
                Err(why) => return Some(self.lose(why)),
            }
        }
        None
    }

    /// Whether a request has begun and not ended.
    pub fn is_partial(&self) -> bool {
        self.head.is_some() || !self.buffer.is_empty()
    }

    fn lose(&mut self, why: Wrong) -> Request {
        self.lost = true;
        self.buffer = Vec::new();
        Request::Wrong { id: None, why }
    }
}

/// A thousand receivers need a longer line than anything else.
fn starts_with_to(line: &[u8]) -> bool {
    line.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(b"to "))
}

fn trimmed(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn auth(line: &[u8]) -> Result<Request, Wrong> {
    let line = str::from_utf8(line).map_err(|_| Wrong::Auth)?;
    match line.split(' ').collect::<Vec<_>>()[..] {
        [_, app, secret] if is_name(app) && !secret.is_empty() => {
            Ok(Request::Auth { app: app.to_owned(), secret: secret.to_owned() })
        }
        _ => Err(Wrong::Auth),
    }
}

/// The lines of a request.
#[derive(Default)]
struct Head {
    verb: Option<Verb>,
    length: usize,
    /// The first thing that is wrong.
    wrong: Option<Wrong>,
    id: Option<String>,
    from: Option<Address>,
    to: Option<To>,
    kind: Option<Kind>,
    store: Option<bool>,
    ttl: Option<u32>,
    period: Option<(u64, u64)>,
    content_type: Option<String>,
    has_length: bool,
}

impl Head {
    /// Fails only where the framing is lost.
    fn read(lines: &[u8]) -> Result<Head, Wrong> {
        let mut lines = lines.split_inclusive(|octet| *octet == b'\n').map(trimmed);
        let first = lines.next().unwrap_or_default();
        let verb = Verb::ALL.iter().find(|(_, name)| first.strip_suffix(b" HP/1") == Some(name.as_bytes()));
        let mut head = Head { verb: Some(verb.ok_or(Wrong::Verb)?.0), ..Head::default() };
        for (count, line) in lines.filter(|line| !line.is_empty()).enumerate() {
            if count == MAX_HEADERS {
                return Err(Wrong::Line);
            }
            match head.header(line) {
                // Without its length nobody knows where a body ends.
                Err(
                    why @ (Wrong::Body | Wrong::Value("Content-Length") | Wrong::Twice("Content-Length")),
                ) => {
                    return Err(if why == Wrong::Body { why } else { Wrong::Line });
                }
                Err(why) => head.wrong = head.wrong.or(Some(why)),
                Ok(()) => {}
            }
        }
        Ok(head)
    }

    fn header(&mut self, line: &[u8]) -> Result<(), Wrong> {
        let space = line.iter().position(|octet| *octet == b' ').ok_or(Wrong::Header)?;
        let (name, value) = (&line[..space], &line[space + 1..]);
        let value = str::from_utf8(value).map_err(|_| Wrong::Header)?;
        let name = str::from_utf8(name).map_err(|_| Wrong::Header)?.to_ascii_lowercase();
        match name.as_str() {
            "id" => set(&mut self.id, "Id", is_id(value).then(|| value.to_owned())),
            "from" => set(&mut self.from, "From", value.parse().ok()),
            "to" => set(&mut self.to, "To", receivers(value)),
            "kind" => set(
                &mut self.kind,
                "Kind",
                match value {
                    "one" => Some(Kind::One),
                    "directed" => Some(Kind::Directed),
                    "broadcast" => Some(Kind::Broadcast),
                    _ => None,
                },
            ),
            "offline" => set(
                &mut self.store,
                "Offline",
                match value {
                    "store" => Some(true),
                    "drop" => Some(false),
                    _ => None,
                },
            ),
            "ttl" => set(&mut self.ttl, "Ttl", number(value).filter(|ttl| (1..=MAX_TTL).contains(ttl))),
            "period" => set(&mut self.period, "Period", period(value)),
            "content-type" => {
                let plain = value.len() <= 128 && value.bytes().all(|octet| (0x20..0x7f).contains(&octet));
                set(&mut self.content_type, "Content-Type", plain.then(|| value.to_owned()))
            }
            "content-length" => {
                if std::mem::replace(&mut self.has_length, true) {
                    return Err(Wrong::Twice("Content-Length"));
                }
                self.length = number::<usize>(value).ok_or(Wrong::Value("Content-Length"))?;
                if self.length > MAX_BODY { Err(Wrong::Body) } else { Ok(()) }
            }
            // A later version's, which we need not know.
            _ => Ok(()),
        }
    }

    fn finish(self, body: Vec<u8>) -> Request {
        let id = self.id.clone();
        self.request(body).unwrap_or_else(|why| Request::Wrong { id, why })
    }

    fn request(self, body: Vec<u8>) -> Result<Request, Wrong> {
        if let Some(why) = self.wrong {
            return Err(why);
        }
        Ok(match self.verb.ok_or(Wrong::Verb)? {
            Verb::Ping => Request::Ping { id: self.id },
            Verb::Cancel => Request::Cancel { id: self.id.ok_or(Wrong::Missing("Id"))? },
            Verb::Confirm => Request::Confirm { id: self.id.ok_or(Wrong::Missing("Id"))? },
            Verb::Query => match self.to.ok_or(Wrong::Missing("To"))? {
                To::Named(users) => Request::Query { id: self.id, users },
                To::All => return Err(Wrong::Value("To")),
            },
            Verb::Send => {
                let kind = self.kind.unwrap_or_default();
                let to = self.to.ok_or(Wrong::Missing("To"))?;
                let fits = match (&to, kind) {
                    (To::Named(named), Kind::One) => named.len() == 1,
                    (_, Kind::Directed) => true,
                    (To::All, Kind::Broadcast) => true,
                    _ => false,
                };
                if !fits {
                    return Err(Wrong::Value("To"));
                }
                if self.period.is_some() && kind != Kind::Broadcast {
                    return Err(Wrong::Value("Period"));
                }
                if !self.has_length {
                    return Err(Wrong::Missing("Content-Length"));
                }
                Request::Send(Message {
                    id: self.id.ok_or(Wrong::Missing("Id"))?,
                    from: self.from,
                    to,
                    kind,
                    store: self.store.unwrap_or(false),
                    ttl: self.ttl.unwrap_or(DEFAULT_TTL),
                    period: self.period,
                    content_type: self.content_type.unwrap_or_else(|| "text/plain".to_owned()),
                    body,
                })
            }
        })
    }
}

fn set<T>(slot: &mut Option<T>, name: &'static str, value: Option<T>) -> Result<(), Wrong> {
    let value = value.ok_or(Wrong::Value(name))?;
    match slot.replace(value) {
        Some(_) => Err(Wrong::Twice(name)),
        None => Ok(()),
    }
}

/// Whether this can be an id: 1 to 64 visible ASCII characters.
pub fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_graphic())
}

/// Digits and nothing else: `+7` is a number to the library, and two spellings of one id or length to us.
fn number<N: str::FromStr>(text: &str) -> Option<N> {
    text.bytes().all(|octet| octet.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn period(text: &str) -> Option<(u64, u64)> {
    let (start, end) = text.split_once(' ')?;
    let (start, end) = (number(start)?, number(end)?);
    (start < end).then_some((start, end))
}

fn receivers(text: &str) -> Option<To> {
    if text == "*" {
        return Some(To::All);
    }
    let mut named: Vec<Address> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for one in text.split(',') {
        let address: Address = one.parse().ok()?;
        if seen.insert(address.clone()) {
            named.push(address);
        }
        if named.len() > MAX_RECEIVERS {
            return None;
        }
    }
    Some(To::Named(named))
}

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

/// Writes an answer: `HP/1 200 OK`, headers, no body.
pub fn answer(code: u16, headers: &[(&str, &str)]) -> Vec<u8> {
    let reason = match code {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        409 => "Conflict",
        413 => "Too Large",
        429 => "Too Many",
        507 => "Store Full",
        _ => "Error",
    };
    let mut text = format!("HP/1 {code} {reason}\r\n");
    for (name, value) in headers {
        text.extend([name, " ", value, "\r\n"]);
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// Writes a message that came for an application.
pub fn deliver(id: u64, from: &Address, redelivered: bool, content_type: &str, body: &[u8]) -> Vec<u8> {
    let again = if redelivered { "Redelivered yes\r\n" } else { "" };
    let length = body.len();
    let head = format!(
        "MESSAGE HP/1\r\nId {id}\r\nFrom {from}\r\n{again}Content-Type {content_type}\r\nContent-Length {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(stream: &[u8]) -> Vec<Request> {
        let mut reader = Reader::default();
        let mut piece = stream;
        std::iter::from_fn(|| reader.next(&mut piece)).collect()
    }

    fn why(stream: &[u8]) -> Wrong {
        match read(stream).last() {
            Some(Request::Wrong { why, .. }) => *why,
            other => panic!("{other:?}"),
        }
    }

    const SEND: &[u8] =
        b"SEND HP/1\r\nId 17\r\nTo user:anna\r\nOffline store\r\ncontent-length 5\r\n\r\nhello";

    #[test]
    fn a_message_with_its_defaults() {
        let expected = Message {
            id: "17".into(),
            from: None,
            to: To::Named(vec![Address::User("anna".into())]),
            kind: Kind::One,
            store: true,
            ttl: DEFAULT_TTL,
            period: None,
            content_type: "text/plain".into(),
            body: b"hello".to_vec(),
        };
        assert_eq!(read(SEND), [Request::Send(expected.clone())]);
        let typed = String::from_utf8(SEND.to_vec()).unwrap().replace('\r', "");
        assert_eq!(read(typed.as_bytes()), [Request::Send(expected)]);
    }

    #[test]
    fn any_cut_of_the_stream_gives_the_same_requests() {
        let stream = [b"AUTH news s3cret\r\n", SEND, b"\r\nPING HP/1\r\nId 18\r\n\r\n", SEND].concat();
        let whole = read(&stream);
        assert_eq!(whole.len(), 4);
        for at in 0..=stream.len() {
            let mut reader = Reader::default();
            let mut found = Vec::new();
            for mut piece in [&stream[..at], &stream[at..]] {
                while let Some(request) = reader.next(&mut piece) {
                    found.push(request);
                }
                assert!(piece.is_empty());
            }
            assert_eq!(found, whole, "cut at {at}");
            assert!(!reader.is_partial());
        }
    }

    #[test]
    fn what_is_wrong_in_itself_is_told_and_the_next_is_read() {
        for (head, expected) in [
            ("Id 1\r\nTo: user:anna", Wrong::Missing("To")),
            ("Id 1\r\nTo user:anna\r\nOffline", Wrong::Header),
            ("Id 1\r\nTo anna", Wrong::Value("To")),
            ("Id 1\r\nTo user:a,user:b", Wrong::Value("To")),
            ("Id 1\r\nTo *", Wrong::Value("To")),
            ("Id 1\r\nTo user:a\r\nKind broadcast", Wrong::Value("To")),
            ("Id 1\r\nTo user:a\r\nTtl 0", Wrong::Value("Ttl")),
            ("Id 1\r\nTo user:a\r\nTtl +5", Wrong::Value("Ttl")),
            ("Id 1\r\nTo user:a\r\nPeriod 5 9", Wrong::Value("Period")),
            ("Id 1\r\nId 2\r\nTo user:a", Wrong::Twice("Id")),
            ("To user:a", Wrong::Missing("Id")),
        ] {
            let stream = format!("SEND HP/1\r\n{head}\r\nContent-Length 2\r\n\r\nhiPING HP/1\r\n\r\n");
            let found = read(stream.as_bytes());
            assert!(matches!(&found[0], Request::Wrong { why, .. } if *why == expected), "{head}: {found:?}");
            assert_eq!(found[1], Request::Ping { id: None }, "{head}");
        }
        assert_eq!(why(b"SEND HP/1\r\nId 1\r\nTo user:a\r\n\r\n"), Wrong::Missing("Content-Length"));
    }

    #[test]
    fn where_the_framing_is_lost_nothing_more_is_read() {
        for stream in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"SEND HP/1\r\nContent-Length x\r\n\r\n",
            b"SEND HP/1\r\nContent-Length 65537\r\n\r\n",
            b"SEND HP/1\r\nContent-Length 1\r\nContent-Length 2\r\n\r\n",
            b"AUTH news\r\n",
            b"AUTH news a b\r\n",
        ] {
            let more = [stream, b"PING HP/1\r\n\r\n"].concat();
            let found = read(&more);
            assert!(matches!(&found[..], [Request::Wrong { why, .. }] if why.ends_connection()), "{found:?}");
        }
    }

    #[test]
    fn every_bound_is_reached() {
        let line = |len: usize| format!("PING HP/1\r\nX-Long {}\r\n\r\n", "x".repeat(len - 9));
        assert_eq!(read(line(MAX_LINE).as_bytes()), [Request::Ping { id: None }]);
        assert_eq!(why(line(MAX_LINE + 1).as_bytes()), Wrong::Line);
        assert_eq!(why(&vec![b'x'; MAX_LINE + 1]), Wrong::Line, "without waiting for the line's end");

        let headers = |count: usize| format!("PING HP/1\r\n{}\r\n", "X y\r\n".repeat(count));
        assert_eq!(read(headers(MAX_HEADERS).as_bytes()), [Request::Ping { id: None }]);
        assert_eq!(why(headers(MAX_HEADERS + 1).as_bytes()), Wrong::Line);

        let to = |count: usize| {
            let named: Vec<String> = (0..count).map(|number| format!("user:{number:032}")).collect();
            format!(
                "SEND HP/1\r\nId 1\r\nKind directed\r\nTo {}\r\nContent-Length 0\r\n\r\n",
                named.join(",")
            )
        };
        assert!(matches!(&read(to(MAX_RECEIVERS).as_bytes())[..], [Request::Send(_)]));
        assert_eq!(why(to(MAX_RECEIVERS + 1).as_bytes()), Wrong::Value("To"));
        assert_eq!(why(format!("SEND HP/1\r\nTo {}", "x".repeat(MAX_HEAD)).as_bytes()), Wrong::Line);

        let body = |len: usize| {
            let head = format!("SEND HP/1\r\nId 1\r\nTo user:a\r\nContent-Length {len}\r\n\r\n");
            [head.as_bytes(), &vec![0; len]].concat()
        };
        assert!(matches!(&read(&body(MAX_BODY))[..], [Request::Send(_)]));
        assert_eq!(why(&body(MAX_BODY + 1)), Wrong::Body);
    }

    #[test]
    fn a_receiver_is_named_once_however_often_it_is_written() {
        let stream =
            b"SEND HP/1\r\nId 1\r\nKind directed\r\nTo user:b,user:a,user:b\r\nContent-Length 0\r\n\r\n";
        let Request::Send(message) = &read(stream)[0] else { panic!() };
        assert_eq!(message.to, To::Named(vec![Address::User("b".into()), Address::User("a".into())]));
    }

    #[test]
    fn answers_and_deliveries_as_text() {
        assert_eq!(
            answer(200, &[("Id", "17"), ("State", State::Stored.text())]),
            b"HP/1 200 OK\r\nId 17\r\nState stored\r\n\r\n"
        );
        let text = deliver(9, &Address::User("anna".into()), true, "text/plain", b"hi");
        assert_eq!(
            text,
            b"MESSAGE HP/1\r\nId 9\r\nFrom user:anna\r\nRedelivered yes\r\nContent-Type text/plain\r\nContent-Length 2\r\n\r\nhi"
        );
    }

    #[test]
    fn a_login_printed_tells_no_secret() {
        assert_eq!(format!("{:?}", read(b"AUTH news hush\n")), "[Auth { app: \"news\", .. }]");
    }
}
