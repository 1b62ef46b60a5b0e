//! What an office says: written by the office, read by the application.

use super::{
    Address, MAX_BODY, MAX_HEADERS, MAX_RECEIVERS, State, is_content_type, is_id, is_name,
    lines::{self, Lines, TooLong},
    number,
};
use crate::wire::post::{Delivery, Presence, Sequence};

/// What an office says, read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// What became of a request.
    Answer {
        /// 200, or the code of an error: three digits.
        code: u16,
        /// The request's, if it had one.
        id: Option<String>,
        /// Of a message that was taken.
        state: Option<State>,
        /// Why, for people: the header, or else what follows the code.
        reason: String,
        /// Where users are, one for each that was asked for.
        presence: Vec<Presence>,
    },
    /// A message that came. Of an office that does not say when it was sent, `sent` is 0.
    Message(Delivery),
}

/// Why what an office says cannot be read. Nobody knows where the next reply begins after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReplyFault {
    /// The first line is none of ours.
    #[error("a reply begins with HP/1 and three digits, or with MESSAGE HP/1")]
    First,
    /// A line, or all of them, are too long.
    #[error("a line has at most 1024 octets, all lines of a reply 131072")]
    Line,
    /// Too many headers.
    #[error("a reply has at most 64 headers, and 1000 users")]
    Headers,
    /// A header has no space, or is not UTF-8.
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
    /// The body is too long, or of an answer, which has none.
    #[error("a message has at most 65536 octets, an answer no body")]
    Body,
}

/// Cuts a stream into replies. Holds at most one reply.
#[derive(Default)]
pub struct ReplyReader {
    lines: Lines,
    /// The head of a message whose body is not whole.
    head: Option<(Delivery, usize)>,
    lost: Option<ReplyFault>,
}

impl ReplyReader {
    /// Takes octets of the stream, and gives a reply when one is whole. Call it with what is left of the piece until it
    /// answers `None`. A fault stays: nothing is read after it.
    pub fn next(&mut self, piece: &mut &[u8]) -> Result<Option<Reply>, ReplyFault> {
        if let Some(fault) = self.lost {
            return Err(fault);
        }
        self.read(piece).inspect_err(|fault| self.lost = Some(*fault))
    }

    fn read(&mut self, piece: &mut &[u8]) -> Result<Option<Reply>, ReplyFault> {
        if self.head.is_none() {
            let lines = self.lines.head(piece, |_| false, |_| false);
            let Some(lines) = lines.map_err(|TooLong| ReplyFault::Line)? else { return Ok(None) };
            let head = Head::read(&lines)?;
            match head.code {
                Some(code) => return head.answer(code).map(Some),
                None => self.head = Some(head.message()?),
            }
        }
        let Some((delivery, length)) = self.head.take() else { return Ok(None) };
        match self.lines.body(length, piece) {
            Some(body) => Ok(Some(Reply::Message(Delivery { body, ..delivery }))),
            None => {
                self.head = Some((delivery, length));
                Ok(None)
            }
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
pub fn deliver(delivery: &Delivery) -> Vec<u8> {
    let Delivery { sequence: Sequence(id), redelivered, from, sent, content_type, body } = delivery;
    let again = if *redelivered { "Redelivered yes\r\n" } else { "" };
    let length = body.len();
    let head = format!(
        "MESSAGE HP/1\r\nId {id}\r\nSent {sent}\r\nFrom {from}\r\n{again}Content-Type {content_type}\r\nContent-Length {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// Writes where a user is, as the value of a header `Presence`.
pub fn whereabouts(presence: &Presence) -> String {
    let state = if presence.online { "online" } else { "offline" };
    format!("user:{} {state} {}", presence.user, presence.since)
}

/// The lines of a reply.
#[derive(Default)]
struct Head {
    /// Of an answer.
    code: Option<u16>,
    id: Option<String>,
    state: Option<State>,
    reason: Option<String>,
    presence: Vec<Presence>,
    from: Option<Address>,
    sent: Option<u64>,
    redelivered: Option<bool>,
    content_type: Option<String>,
    length: Option<usize>,
}

impl Head {
    fn read(lines: &[u8]) -> Result<Head, ReplyFault> {
        let mut lines = lines::each(lines);
        let first = lines.next().and_then(|line| std::str::from_utf8(line).ok()).ok_or(ReplyFault::First)?;
        let mut head = Head::default();
        let mut text = None;
        if first != "MESSAGE HP/1" {
            let (code, said) = status(first).ok_or(ReplyFault::First)?;
            head.code = Some(code);
            text = Some(said.to_owned());
        }
        let mut others = 0;
        for line in lines {
            let (name, value) = lines::header(line).ok_or(ReplyFault::Header)?;
            if name == "presence" {
                if head.presence.len() == MAX_RECEIVERS {
                    return Err(ReplyFault::Headers);
                }
                head.presence.push(presence(value).ok_or(ReplyFault::Value("Presence"))?);
                continue;
            }
            others += 1;
            if others > MAX_HEADERS {
                return Err(ReplyFault::Headers);
            }
            head.header(&name, value)?;
        }
        head.reason = head.reason.or(text);
        Ok(head)
    }

    fn header(&mut self, name: &str, value: &str) -> Result<(), ReplyFault> {
        match name {
            "id" => set(&mut self.id, "Id", is_id(value).then(|| value.to_owned())),
            "state" => {
                let state = State::ALL.into_iter().find(|state| state.text() == value);
                set(&mut self.state, "State", state)
            }
            "reason" => set(&mut self.reason, "Reason", is_plain(value).then(|| value.to_owned())),
            "from" => set(&mut self.from, "From", value.parse().ok()),
            "sent" => set(&mut self.sent, "Sent", number(value)),
            "redelivered" => set(
                &mut self.redelivered,
                "Redelivered",
                match value {
                    "yes" => Some(true),
                    "no" => Some(false),
                    _ => None,
                },
            ),
            "content-type" => {
                set(&mut self.content_type, "Content-Type", is_content_type(value).then(|| value.to_owned()))
            }
            "content-length" => set(&mut self.length, "Content-Length", number(value)),
            // A later version's, which we need not know.
            _ => Ok(()),
        }
    }

    fn answer(self, code: u16) -> Result<Reply, ReplyFault> {
        if self.length.is_some_and(|length| length > 0) {
            return Err(ReplyFault::Body);
        }
        let reason = self.reason.unwrap_or_default();
        Ok(Reply::Answer { code, id: self.id, state: self.state, reason, presence: self.presence })
    }

    /// A message without its body, and the body's length.
    fn message(self) -> Result<(Delivery, usize), ReplyFault> {
        let id = self.id.ok_or(ReplyFault::Missing("Id"))?;
        let length = self.length.ok_or(ReplyFault::Missing("Content-Length"))?;
        if length > MAX_BODY {
            return Err(ReplyFault::Body);
        }
        let delivery = Delivery {
            sequence: Sequence(number(&id).ok_or(ReplyFault::Value("Id"))?),
            redelivered: self.redelivered.unwrap_or(false),
            from: self.from.ok_or(ReplyFault::Missing("From"))?,
            sent: self.sent.unwrap_or(0),
            content_type: self.content_type.unwrap_or_else(|| "text/plain".to_owned()),
            body: Vec::new(),
        };
        Ok((delivery, length))
    }
}

/// The code, and what it says for people.
fn status(line: &str) -> Option<(u16, &str)> {
    let rest = line.strip_prefix("HP/1 ")?;
    let (code, text) = rest.split_once(' ').unwrap_or((rest, ""));
    let code = number(code).filter(|number| code.len() == 3 && *number >= 100)?;
    is_plain(text).then_some((code, text))
}

fn presence(value: &str) -> Option<Presence> {
    let (user, rest) = value.strip_prefix("user:")?.split_once(' ')?;
    let (state, since) = rest.split_once(' ')?;
    let online = match state {
        "online" => true,
        "offline" => false,
        _ => return None,
    };
    is_name(user).then_some(())?;
    Some(Presence { user: user.to_owned(), online, since: number(since)? })
}

/// People see it: no control characters.
fn is_plain(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

fn set<T>(slot: &mut Option<T>, name: &'static str, value: Option<T>) -> Result<(), ReplyFault> {
    let value = value.ok_or(ReplyFault::Value(name))?;
    match slot.replace(value) {
        Some(_) => Err(ReplyFault::Twice(name)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::app::{MAX_HEAD, MAX_LINE};

    fn read(stream: &[u8]) -> Result<Vec<Reply>, ReplyFault> {
        let mut reader = ReplyReader::default();
        let mut piece = stream;
        std::iter::from_fn(|| reader.next(&mut piece).transpose()).take(100).collect()
    }

    fn why(stream: &[u8]) -> ReplyFault {
        read(stream).unwrap_err()
    }

    fn message() -> Delivery {
        Delivery {
            sequence: Sequence(9),
            redelivered: true,
            from: Address::User("anna".into()),
            sent: 1_700_000_000,
            content_type: "text/plain".into(),
            body: b"hi".to_vec(),
        }
    }

    #[test]
    fn answers_and_deliveries_as_text() {
        assert_eq!(
            answer(200, &[("Id", "17"), ("State", State::Stored.text())]),
            b"HP/1 200 OK\r\nId 17\r\nState stored\r\n\r\n"
        );
        assert_eq!(
            deliver(&message()),
            b"MESSAGE HP/1\r\nId 9\r\nSent 1700000000\r\nFrom user:anna\r\nRedelivered yes\r\nContent-Type text/plain\r\nContent-Length 2\r\n\r\nhi"
        );
    }

    /// One reply of each sort, as an office writes them, and as they are read.
    fn all_sorts() -> (Vec<u8>, Vec<Reply>) {
        let plain = |code, id: Option<&str>, reason: &str| Reply::Answer {
            code,
            id: id.map(str::to_owned),
            state: None,
            reason: reason.to_owned(),
            presence: Vec::new(),
        };
        let anna = Presence { user: "anna".into(), online: true, since: 1_700_000_000 };
        let ben = Presence { user: "ben".into(), online: false, since: 0 };
        let there = [whereabouts(&anna), whereabouts(&ben)];
        let empty = Delivery { redelivered: false, body: Vec::new(), ..message() };
        let stream = [
            answer(200, &[]),
            answer(200, &[("Id", "17"), ("State", "queued")]),
            deliver(&message()),
            answer(404, &[("Id", "18")]),
            deliver(&empty),
            answer(200, &[("Id", "q"), ("Presence", &there[0]), ("Presence", &there[1])]),
            answer(400, &[("Reason", "To is missing")]),
        ];
        let read = vec![
            plain(200, None, "OK"),
            Reply::Answer {
                code: 200,
                id: Some("17".into()),
                state: Some(State::Queued),
                reason: "OK".into(),
                presence: Vec::new(),
            },
            Reply::Message(message()),
            plain(404, Some("18"), "Not Found"),
            Reply::Message(empty),
            Reply::Answer {
                code: 200,
                id: Some("q".into()),
                state: None,
                reason: "OK".into(),
                presence: vec![anna, ben],
            },
            plain(400, None, "To is missing"),
        ];
        (stream.concat(), read)
    }

    #[test]
    fn what_an_office_writes_is_read_however_it_is_cut() {
        let (stream, expected) = all_sorts();
        assert_eq!(read(&stream), Ok(expected.clone()));
        let typed: Vec<u8> = stream.iter().copied().filter(|octet| *octet != b'\r').collect();
        assert_eq!(read(&typed), Ok(expected.clone()), "line feeds alone");
        for at in 0..=stream.len() {
            let mut reader = ReplyReader::default();
            let mut found = Vec::new();
            for mut piece in [&stream[..at], &stream[at..]] {
                while let Some(reply) = reader.next(&mut piece).unwrap() {
                    found.push(reply);
                }
                assert!(piece.is_empty());
            }
            assert_eq!(found, expected, "cut at {at}");
        }
        let mut reader = ReplyReader::default();
        let octets = stream.chunks(1).filter_map(|mut octet| reader.next(&mut octet).unwrap());
        assert_eq!(octets.collect::<Vec<_>>(), expected, "an octet at a time");
    }

    #[test]
    fn every_fault_has_its_name_and_stays() {
        let message = "MESSAGE HP/1\r\nId 9\r\nFrom user:a\r\n";
        let with = |line: &str| format!("{message}{line}\r\nContent-Length 0\r\n\r\n");
        for (stream, expected) in [
            ("HTTP/1.1 200 OK\r\n\r\n".to_owned(), ReplyFault::First),
            ("HP/1 20 OK\r\n\r\n".to_owned(), ReplyFault::First),
            ("HP/1 099 OK\r\n\r\n".to_owned(), ReplyFault::First),
            ("HP/1 +20 OK\r\n\r\n".to_owned(), ReplyFault::First),
            ("HP/1 200 O\u{7}K\r\n\r\n".to_owned(), ReplyFault::First),
            ("SEND HP/1\r\n\r\n".to_owned(), ReplyFault::First),
            ("HP/1 200\r\nId\r\n\r\n".to_owned(), ReplyFault::Header),
            ("HP/1 200\r\nId \r\n\r\n".to_owned(), ReplyFault::Value("Id")),
            ("HP/1 200\r\nState lost\r\n\r\n".to_owned(), ReplyFault::Value("State")),
            ("HP/1 200\r\nReason \u{1b}[2J\r\n\r\n".to_owned(), ReplyFault::Value("Reason")),
            ("HP/1 200\r\nPresence anna online 1\r\n\r\n".to_owned(), ReplyFault::Value("Presence")),
            ("HP/1 200\r\nPresence user:a away 1\r\n\r\n".to_owned(), ReplyFault::Value("Presence")),
            ("HP/1 200\r\nPresence user:a online -1\r\n\r\n".to_owned(), ReplyFault::Value("Presence")),
            ("HP/1 200\r\nContent-Length 5\r\n\r\nhello".to_owned(), ReplyFault::Body),
            (format!("{message}\r\n"), ReplyFault::Missing("Content-Length")),
            ("MESSAGE HP/1\r\nId 9\r\nContent-Length 0\r\n\r\n".to_owned(), ReplyFault::Missing("From")),
            ("MESSAGE HP/1\r\nFrom user:a\r\nContent-Length 0\r\n\r\n".to_owned(), ReplyFault::Missing("Id")),
            (with("X y").replace("Id 9", "Id x"), ReplyFault::Value("Id")),
            (with("Id 10"), ReplyFault::Twice("Id")),
            (with("Redelivered maybe"), ReplyFault::Value("Redelivered")),
            (with("Sent +1"), ReplyFault::Value("Sent")),
            (with("Content-Type \u{e9}"), ReplyFault::Value("Content-Type")),
            (with("Content-Length 0"), ReplyFault::Twice("Content-Length")),
            (
                format!("{message}Content-Length 99999999999999999999\r\n\r\n"),
                ReplyFault::Value("Content-Length"),
            ),
        ] {
            let mut reader = ReplyReader::default();
            assert_eq!(reader.next(&mut stream.as_bytes()), Err(expected), "{stream}");
            assert_eq!(reader.next(&mut &answer(200, &[])[..]), Err(expected), "it stays");
        }
        assert_eq!(why(b"HP/1 200\r\n\xff \xff\r\n\r\n"), ReplyFault::Header);
        let unknown = "X-Later something else";
        assert!(matches!(read(with(unknown).as_bytes()).unwrap()[..], [Reply::Message(_)]));
    }

    #[test]
    fn every_bound_is_reached() {
        let line = |len: usize| format!("HP/1 200 OK\r\nX-Long {}\r\n\r\n", "x".repeat(len - 9));
        assert_eq!(read(line(MAX_LINE).as_bytes()).unwrap().len(), 1);
        assert_eq!(why(line(MAX_LINE + 1).as_bytes()), ReplyFault::Line);
        assert_eq!(why(&vec![b'x'; MAX_LINE + 1]), ReplyFault::Line, "without waiting for the line's end");
        assert_eq!(why(&b"to x\r\n".repeat(MAX_HEAD / 6 + 1)), ReplyFault::Line, "all lines together");

        let headers = |count: usize| format!("HP/1 200 OK\r\n{}\r\n", "X y\r\n".repeat(count));
        assert_eq!(read(headers(MAX_HEADERS).as_bytes()).unwrap().len(), 1);
        assert_eq!(why(headers(MAX_HEADERS + 1).as_bytes()), ReplyFault::Headers);

        // The longest answer there is: a thousand users of the longest names, since the end of time.
        let longest = Presence { user: "u".repeat(64), online: false, since: u64::MAX };
        let longest = whereabouts(&longest);
        let users = |count: usize| answer(200, &vec![("Presence", longest.as_str()); count]);
        let Ok(read_all) = read(&users(MAX_RECEIVERS)) else { panic!() };
        assert!(matches!(&read_all[..], [Reply::Answer { presence, .. }] if presence.len() == MAX_RECEIVERS));
        assert_eq!(why(&users(MAX_RECEIVERS + 1)), ReplyFault::Headers);

        let body = |len: usize| deliver(&Delivery { body: vec![0; len], ..message() });
        assert_eq!(read(&body(MAX_BODY)).unwrap().len(), 1);
        assert_eq!(why(&body(MAX_BODY + 1)), ReplyFault::Body);
    }

    /// No octets at all are a reply that was not meant, and none are held without bound.
    #[test]
    fn noise_is_a_fault_and_never_more() {
        use crate::rng::{Entropy, Seeded};
        let (stream, _) = all_sorts();
        let mut rng = Seeded::new(7);
        for _ in 0..2000 {
            let mut damaged = stream.clone();
            for _ in 0..1 + rng.below(4) {
                let at = rng.below(damaged.len() as u32) as usize;
                damaged[at] = rng.next_u16() as u8;
            }
            // Whatever it is, it ends.
            let mut reader = ReplyReader::default();
            let mut piece = &damaged[..];
            while let Ok(Some(_)) = reader.next(&mut piece) {}
        }
    }
}
