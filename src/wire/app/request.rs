//! What an application says: read by the office, written by the application.

use std::{
    fmt::{self, Write as _},
    str,
};

use super::{
    Address, DEFAULT_TTL, Kind, MAX_BODY, MAX_HEADERS, MAX_TTL, Message, To, is_content_type, is_id, is_name,
    lines::{self, Lines, TooLong},
    number,
};

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
    lines: Lines,
    head: Option<Head>,
    lost: bool,
}

impl Reader {
    /// Takes octets of the stream, and gives a request when one is whole. Call it with what is left of the piece until it
    /// answers `None`; after a request that [ends the connection](Wrong::ends_connection) it answers nothing more.
    pub fn next(&mut self, piece: &mut &[u8]) -> Option<Request> {
        while !self.lost {
            if let Some(head) = &self.head {
                let body = self.lines.body(head.length, piece)?;
                return self.head.take().map(|head| head.finish(body));
            }
            let lines = match self.lines.head(piece, is_auth, starts_with_to) {
                Ok(lines) => lines?,
                Err(TooLong) => return Some(self.lose(Wrong::Line)),
            };
            if is_auth(&lines) {
                return Some(read_auth(&lines).unwrap_or_else(|why| self.lose(why)));
            }
            match Head::read(&lines) {
                Ok(head) => self.head = Some(head),
                Err(why) => return Some(self.lose(why)),
            }
        }
        None
    }

    /// Whether a request has begun and not ended.
    pub fn is_partial(&self) -> bool {
        self.head.is_some() || self.lines.is_partial()
    }

    fn lose(&mut self, why: Wrong) -> Request {
        self.lost = true;
        Request::Wrong { id: None, why }
    }
}

/// Writes who speaks. The secret holds neither space nor line end.
pub fn auth(app: &str, secret: &str) -> Vec<u8> {
    format!("AUTH {app} {secret}\r\n").into_bytes()
}

/// Writes a message, which passes its [check](Message::check).
pub fn send(message: &Message) -> Vec<u8> {
    let Message { id, ttl, content_type, body, .. } = message;
    let mut text = format!("SEND HP/1\r\nId {id}\r\n");
    let mut add = |name: &str, value: &str| text.extend([name, " ", value, "\r\n"]);
    if let Some(from) = &message.from {
        add("From", &from.to_string());
    }
    match &message.to {
        To::Named(named) => add("To", &listed(named.iter())),
        To::All => add("To", "*"),
    }
    match message.kind {
        Kind::One => {}
        Kind::Directed => add("Kind", "directed"),
        Kind::Broadcast => add("Kind", "broadcast"),
    }
    if message.store {
        add("Offline", "store");
    }
    add("Ttl", &ttl.to_string());
    if let Some((start, end)) = message.period {
        add("Period", &format!("{start} {end}"));
    }
    add("Content-Type", content_type);
    add("Content-Length", &body.len().to_string());
    [text.as_bytes(), b"\r\n", body].concat()
}

/// Writes a question for users: 1 to 1,000 names.
pub fn query(id: &str, users: &[String]) -> Vec<u8> {
    let users: Vec<Address> = users.iter().cloned().map(Address::User).collect();
    format!("QUERY HP/1\r\nId {id}\r\nTo {}\r\n\r\n", listed(users.iter())).into_bytes()
}

/// Writes that a message is to be withdrawn.
pub fn cancel(id: &str) -> Vec<u8> {
    format!("CANCEL HP/1\r\nId {id}\r\n\r\n").into_bytes()
}

/// Writes that a message that came is dealt with.
pub fn confirm(sequence: u64) -> Vec<u8> {
    format!("CONFIRM HP/1\r\nId {sequence}\r\n\r\n").into_bytes()
}

/// Writes the question whether anybody is there.
pub fn ping() -> Vec<u8> {
    b"PING HP/1\r\n\r\n".to_vec()
}

fn listed<'a>(addresses: impl Iterator<Item = &'a Address>) -> String {
    let mut text = String::new();
    for address in addresses {
        if !text.is_empty() {
            text.push(',');
        }
        let _ = write!(text, "{address}");
    }
    text
}

fn is_auth(line: &[u8]) -> bool {
    line.starts_with(b"AUTH ")
}

/// A thousand receivers need a longer line than anything else.
fn starts_with_to(line: &[u8]) -> bool {
    line.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(b"to "))
}

fn read_auth(line: &[u8]) -> Result<Request, Wrong> {
    let line = lines::each(line).next().unwrap_or_default();
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
        let mut lines = lines::each(lines);
        let first = lines.next().unwrap_or_default();
        let verb = Verb::ALL.iter().find(|(_, name)| first.strip_suffix(b" HP/1") == Some(name.as_bytes()));
        let mut head = Head { verb: Some(verb.ok_or(Wrong::Verb)?.0), ..Head::default() };
        for (count, line) in lines.enumerate() {
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
        let (name, value) = lines::header(line).ok_or(Wrong::Header)?;
        match name.as_str() {
            "id" => set(&mut self.id, "Id", is_id(value).then(|| value.to_owned())),
            "from" => set(&mut self.from, "From", value.parse().ok()),
            "to" => set(&mut self.to, "To", value.parse().ok()),
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
                set(&mut self.content_type, "Content-Type", is_content_type(value).then(|| value.to_owned()))
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
                let message = Message {
                    id: self.id.ok_or(Wrong::Missing("Id"))?,
                    from: self.from,
                    to: self.to.ok_or(Wrong::Missing("To"))?,
                    kind: self.kind.unwrap_or_default(),
                    store: self.store.unwrap_or(false),
                    ttl: self.ttl.unwrap_or(DEFAULT_TTL),
                    period: self.period,
                    content_type: self.content_type.unwrap_or_else(|| "text/plain".to_owned()),
                    body,
                };
                message.check()?;
                if !self.has_length {
                    return Err(Wrong::Missing("Content-Length"));
                }
                Request::Send(message)
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

fn period(text: &str) -> Option<(u64, u64)> {
    let (start, end) = text.split_once(' ')?;
    let (start, end) = (number(start)?, number(end)?);
    (start < end).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::app::{MAX_HEAD, MAX_LINE, MAX_RECEIVERS};

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

    /// What is written is read again, whatever it is.
    #[test]
    fn what_an_application_writes_an_office_reads() {
        let address = |name: &str| name.parse::<Address>().unwrap();
        let many: Vec<Address> =
            (0..MAX_RECEIVERS).map(|number| Address::User(format!("u{number}"))).collect();
        let one = To::Named(vec![address("user:anna")]);
        let plain = Message { id: "17".into(), ..Message::new(one.clone(), b"hello".to_vec()) };
        let messages = [
            plain.clone(),
            Message { store: true, ttl: MAX_TTL, from: Some(address("app:news")), ..plain.clone() },
            Message { kind: Kind::Directed, to: To::Named(many), ..plain.clone() },
            Message { kind: Kind::Directed, to: To::All, body: Vec::new(), ..plain.clone() },
            Message { kind: Kind::Broadcast, to: To::All, period: Some((5, 9)), ..plain.clone() },
            Message { content_type: String::new(), body: vec![b'\n'; MAX_BODY], ..plain.clone() },
        ];
        for message in messages {
            assert_eq!(message.check(), Ok(()));
            assert_eq!(read(&send(&message)), [Request::Send(message)]);
        }
        let users = vec!["anna".to_owned(), "ben".to_owned()];
        let rest = [auth("news", "s3cret"), query("q", &users), cancel("17"), confirm(9), ping()].concat();
        let expected = [
            Request::Auth { app: "news".into(), secret: "s3cret".into() },
            Request::Query { id: Some("q".into()), users: users.into_iter().map(Address::User).collect() },
            Request::Cancel { id: "17".into() },
            Request::Confirm { id: "9".into() },
            Request::Ping { id: None },
        ];
        assert_eq!(read(&rest), expected);

        let wrong = |message: Message| message.check().unwrap_err();
        assert_eq!(wrong(Message::new(one, Vec::new())), Wrong::Value("Id"));
        assert_eq!(wrong(Message { kind: Kind::Broadcast, ..plain.clone() }), Wrong::Value("To"));
        assert_eq!(wrong(Message { to: To::Named(Vec::new()), ..plain.clone() }), Wrong::Value("To"));
        let broken = To::Named(vec![Address::User("a\r\nb".into())]);
        assert_eq!(wrong(Message { to: broken, ..plain.clone() }), Wrong::Value("To"));
        assert_eq!(wrong(Message { ttl: 0, ..plain.clone() }), Wrong::Value("Ttl"));
        assert_eq!(wrong(Message { period: Some((9, 5)), ..plain.clone() }), Wrong::Value("Period"));
        assert_eq!(
            wrong(Message { content_type: "a\r\nb".into(), ..plain.clone() }),
            Wrong::Value("Content-Type")
        );
        assert_eq!(wrong(Message { body: vec![0; MAX_BODY + 1], ..plain }), Wrong::Body);
    }

    #[test]
    fn a_login_printed_tells_no_secret() {
        assert_eq!(format!("{:?}", read(b"AUTH news hush\n")), "[Auth { app: \"news\", .. }]");
    }
}
