//! Asks an authentication server over HTTP which credentials hold: what stands behind an office's event `authenticate`.
//!
//! A small client on purpose: a POST for each question, some connections that are kept, everything bounded. What it asks and what
//! it understands is in `docs/running.md`.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use base64::{Engine, display::Base64Display, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use super::{Event, Node};
use crate::{
    counters::counters,
    io::{Conn, Input, Output},
    post::{SessionId, hub::Vouched},
    time::Time,
};

/// Connections at once.
const MAX_CONNECTIONS: usize = 8;
/// Questions that wait for a connection.
const MAX_WAITING: usize = 4096;
/// How long a question may take: less than a device's login waits for it.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a server that cannot be reached is left alone.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest answer, its head included.
const MAX_ANSWER: usize = 16_384;
const MAX_FIELDS: usize = 64;

counters! {
    /// What was counted of the questions to an authentication server.
    pub struct AuthorityCounters {
        asked: "questions about session ids",
        admitted: "of these, credentials that hold",
        turned_away: "of these, credentials that do not hold",
        unanswered: "of these, not answered: the server is away, late, or makes no sense; devices try again",
        overflowed: "questions dropped because too many waited",
    }
}

/// What an authentication server said to a question.
#[derive(Debug)]
pub struct Verdict {
    /// The question's.
    pub ticket: u64,
    /// `None`: the credential does not hold.
    pub vouched: Option<Vouched>,
}

/// Asks an authentication server.
pub struct AuthorityNode {
    host: String,
    path: String,
    token: Option<String>,
    waiting: VecDeque<Question>,
    lines: BTreeMap<Conn, Line>,
    next_line: u32,
    /// Until then no connection is tried.
    pause: Option<Time>,
    verdicts: VecDeque<Verdict>,
    outputs: VecDeque<Output<Event>>,
    counters: AuthorityCounters,
}

struct Question {
    ticket: u64,
    session: SessionId,
    due: Time,
    /// A connection closed instead of answering it.
    was_asked: bool,
}

/// A connection to the server.
struct Line {
    is_up: bool,
    asked: Option<Question>,
    answer: Vec<u8>,
}

/// What has come of an answer.
enum Parsed {
    /// Not all of it.
    Part,
    /// All: its status and body, and whether the connection can be used again.
    Whole { code: u16, body: Vec<u8>, keeps: bool },
    /// No answer.
    Nonsense,
}

impl AuthorityNode {
    /// One that asks at this path of this host, with a bearer token (RFC 6750) if there is one.
    pub fn new(host: &str, path: &str, token: Option<&str>) -> AuthorityNode {
        AuthorityNode {
            host: host.to_owned(),
            path: path.to_owned(),
            token: token.map(str::to_owned),
            waiting: VecDeque::new(),
            lines: BTreeMap::new(),
            next_line: 0,
            pause: None,
            verdicts: VecDeque::new(),
            outputs: VecDeque::new(),
            counters: AuthorityCounters::default(),
        }
    }

    /// Does this session id hold? [`AuthorityNode::next_verdict`] answers, or nobody does.
    pub fn ask(&mut self, now: Time, ticket: u64, session: SessionId) {
        self.counters.asked += 1;
        if self.waiting.len() >= MAX_WAITING {
            self.counters.overflowed += 1;
            return;
        }
        self.waiting.push_back(Question { ticket, session, due: now + PATIENCE, was_asked: false });
        self.pump();
    }

    /// Whether there is an answer.
    pub fn has_verdict(&self) -> bool {
        !self.verdicts.is_empty()
    }

    /// The next answer.
    pub fn next_verdict(&mut self) -> Option<Verdict> {
        self.verdicts.pop_front()
    }

    /// What was counted.
    pub const fn counters(&self) -> &AuthorityCounters {
        &self.counters
    }

    /// Gives what waits to connections that are free, and opens more.
    fn pump(&mut self) {
        while !self.waiting.is_empty()
            && let Some((conn, line)) =
                self.lines.iter_mut().find(|(_, line)| line.is_up && line.asked.is_none())
        {
            let Some(question) = self.waiting.pop_front() else { return };
            let body =
                format!("{{\"session\":\"{}\"}}", Base64Display::new(&question.session.0, &URL_SAFE_NO_PAD));
            let token = self.token.as_ref();
            let token = token.map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
            let request = format!(
                "POST {} HTTP/1.1\r\nHost: {}\r\n{token}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                self.path,
                self.host,
                body.len()
            );
            line.asked = Some(question);
            self.outputs.push_back(Output::Send { conn: *conn, to: None, octets: request.into_bytes() });
        }
        let opening = self.lines.values().filter(|line| !line.is_up).count();
        let more = self.waiting.len().saturating_sub(opening).min(MAX_CONNECTIONS - self.lines.len());
        if self.pause.is_none() {
            for _ in 0..more {
                self.next_line = self.next_line.wrapping_add(1) & !Conn::OURS;
                let conn = Conn(self.next_line | Conn::OURS);
                self.lines.insert(conn, Line { is_up: false, asked: None, answer: Vec::new() });
                self.outputs.push_back(Output::Connect { conn, way: 0 });
            }
        }
    }

    fn received(&mut self, now: Time, conn: Conn, octets: &[u8]) {
        let Some(line) = self.lines.get_mut(&conn) else { return };
        line.answer.extend_from_slice(octets);
        let parsed = match line.answer.len() > MAX_ANSWER || line.asked.is_none() {
            true => Parsed::Nonsense,
            false => parse(&line.answer),
        };
        match parsed {
            Parsed::Part => {}
            Parsed::Nonsense => {
                self.outputs.push_back(Output::Close { conn });
                self.closed(now, conn);
            }
            Parsed::Whole { code, body, keeps } => {
                line.answer.clear();
                let question = line.asked.take();
                if let Some(Question { ticket, .. }) = question {
                    self.judge(ticket, code, &body);
                }
                if !keeps {
                    self.lines.remove(&conn);
                    self.outputs.push_back(Output::Close { conn });
                }
                self.pump();
            }
        }
    }

    fn judge(&mut self, ticket: u64, code: u16, body: &[u8]) {
        let vouched = match code {
            200 => match read(body) {
                Some(vouched) => Some(vouched),
                None => return self.counters.unanswered += 1,
            },
            // It knows the question, and the answer is no.
            401 | 403 | 404 | 410 => None,
            _ => return self.counters.unanswered += 1,
        };
        match vouched {
            Some(_) => self.counters.admitted += 1,
            None => self.counters.turned_away += 1,
        }
        self.verdicts.push_back(Verdict { ticket, vouched });
    }

    /// A connection is gone. What was asked on it is asked again on another, for as long as it is of use.
    fn closed(&mut self, now: Time, conn: Conn) {
        let Some(line) = self.lines.remove(&conn) else { return };
        match (line.is_up, line.asked) {
            (false, _) => self.pause = Some(now + PAUSE),
            // A server may close what was idle just as we ask. That happens once.
            (true, Some(question)) if line.answer.is_empty() && !question.was_asked => {
                self.waiting.push_front(Question { was_asked: true, ..question });
            }
            (true, Some(_)) => self.counters.unanswered += 1,
            (true, None) => {}
        }
        if line.is_up {
            self.pump();
        }
    }

    fn expire(&mut self, now: Time) {
        if self.pause.is_some_and(|until| until <= now) {
            self.pause = None;
        }
        while self.waiting.front().is_some_and(|question| question.due <= now) {
            self.waiting.pop_front();
            self.counters.unanswered += 1;
        }
        let late =
            self.lines.iter().filter(|(_, line)| line.asked.as_ref().is_some_and(|asked| asked.due <= now));
        for conn in late.map(|(conn, _)| *conn).collect::<Vec<_>>() {
            self.lines.remove(&conn);
            self.counters.unanswered += 1;
            self.outputs.push_back(Output::Close { conn });
        }
        self.pump();
    }
}

impl Node for AuthorityNode {
    fn handle(&mut self, now: Time, input: Input<'_>) {
        match input {
            Input::Connected { conn, .. } => {
                if let Some(line) = self.lines.get_mut(&conn) {
                    line.is_up = true;
                }
                self.pump();
            }
            Input::Received { conn, octets, .. } => self.received(now, conn, octets),
            Input::Closed { conn, .. } => self.closed(now, conn),
            Input::Deadline => self.expire(now),
            _ => {}
        }
    }

    fn poll_output(&mut self, _: Time) -> Option<Output<Event>> {
        self.outputs.pop_front()
    }

    fn flush(&mut self, _: Time) -> bool {
        false
    }

    fn deadline(&self) -> Option<Time> {
        let asked = self.lines.values().filter_map(|line| line.asked.as_ref());
        asked.chain(self.waiting.front()).map(|question| question.due).chain(self.pause).min()
    }
}

/// An answer, as far as it came (RFC 9112).
fn parse(octets: &[u8]) -> Parsed {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut answer = httparse::Response::new(&mut fields);
    let head = match answer.parse(octets) {
        Ok(httparse::Status::Partial) => return Parsed::Part,
        Ok(httparse::Status::Complete(head)) => head,
        Err(_) => return Parsed::Nonsense,
    };
    let Some(code) = answer.code else { return Parsed::Nonsense };
    let field = |name: &str| {
        let found = answer.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        found.and_then(|field| std::str::from_utf8(field.value).ok()).map(str::trim)
    };
    let closes = field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let keeps = !closes && answer.version == Some(1);
    let rest = &octets[head..];
    if field("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        return match chunks(rest) {
            Ok(Some(body)) => Parsed::Whole { code, body, keeps },
            Ok(None) => Parsed::Part,
            Err(()) => Parsed::Nonsense,
        };
    }
    // Whose length is not told ends with the connection, which is more than a client of this size waits for.
    let length = match (code, field("content-length")) {
        (204 | 304, _) => 0,
        (_, Some(length)) => match length.parse::<usize>() {
            Ok(length) if length <= MAX_ANSWER => length,
            _ => return Parsed::Nonsense,
        },
        (_, None) => return Parsed::Nonsense,
    };
    match rest.len() {
        more if more > length => Parsed::Nonsense,
        all if all == length => Parsed::Whole { code, body: rest.to_vec(), keeps },
        _ => Parsed::Part,
    }
}

/// A body in chunks, once all of it is there.
fn chunks(mut rest: &[u8]) -> Result<Option<Vec<u8>>, ()> {
    let mut body = Vec::new();
    loop {
        let (at, length) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Partial) => return Ok(None),
            Ok(httparse::Status::Complete((at, length))) if length <= MAX_ANSWER as u64 => {
                (at, length as usize)
            }
            _ => return Err(()),
        };
        let Some(chunk) = rest.get(at..at + length + 2) else { return Ok(None) };
        let (chunk, end) = chunk.split_at(length);
        if end != b"\r\n" {
            return Err(());
        }
        if length == 0 {
            return Ok(Some(body));
        }
        body.extend_from_slice(chunk);
        rest = &rest[at + length + 2..];
    }
}

/// The credential that a body describes.
fn read(body: &[u8]) -> Option<Vouched> {
    let body: Value = serde_json::from_slice(body).ok()?;
    fn octets<const N: usize>(value: &Value) -> Option<[u8; N]> {
        let mut octets = [0; N];
        let length = URL_SAFE_NO_PAD.decode_slice(value.as_str()?, &mut octets).ok()?;
        (length == N).then_some(octets)
    }
    Some(Vouched {
        user: body["user"].as_str()?.to_owned(),
        device: octets(&body["device"])?,
        secret: octets(&body["secret"])?,
        expires: match &body["expires"] {
            Value::Null => 0,
            expires => expires.as_u64()?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Peer, Service, Transport};

    const GOOD: &str = r#"{"user":"anna","device":"AAAAAAAAAAAAAAAAAAAAAA","secret":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","expires":9}"#;

    struct Bench {
        node: AuthorityNode,
        now: Time,
        /// Connections that are asked for or open.
        conns: Vec<Conn>,
    }

    impl Bench {
        fn new() -> Bench {
            let node = AuthorityNode::new("auth.example", "/check", Some("t0ken"));
            Bench { node, now: Time::ZERO, conns: Vec::new() }
        }

        fn ask(&mut self, ticket: u64) {
            self.node.ask(self.now, ticket, SessionId([7; 16]));
        }

        /// Accepts connections, and says what was sent.
        fn said(&mut self) -> Vec<String> {
            let mut said = Vec::new();
            while let Some(output) = self.node.poll_output(self.now) {
                match output {
                    Output::Connect { conn, .. } => {
                        self.conns.push(conn);
                        let address = "127.0.0.1:1".parse().unwrap();
                        let peer = Peer {
                            transport: Transport::Stream,
                            local: address,
                            remote: address,
                            key: None,
                            service: Service::Http,
                        };
                        self.node.handle(self.now, Input::Connected { conn, peer });
                    }
                    Output::Send { octets, .. } => said.push(String::from_utf8(octets).unwrap()),
                    Output::Close { conn } => self.conns.retain(|open| *open != conn),
                    _ => {}
                }
            }
            said
        }

        fn hear(&mut self, octets: &str) {
            let conn = self.conns[0];
            self.node.handle(self.now, Input::Received { conn, from: None, octets: octets.as_bytes() });
        }

        fn answer(&mut self, status: &str, body: &str) {
            self.hear(&format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        }

        fn wait(&mut self, time: Duration) {
            self.now += time;
            self.node.handle(self.now, Input::Deadline);
        }
    }

    #[test]
    fn a_question_is_one_request_and_its_answer_a_credential() {
        let mut bench = Bench::new();
        bench.ask(5);
        assert_eq!(
            bench.said(),
            ["POST /check HTTP/1.1\r\nHost: auth.example\r\nAuthorization: Bearer t0ken\r\n\
              Content-Type: application/json\r\nContent-Length: 36\r\n\r\n{\"session\":\"BwcHBwcHBwcHBwcHBwcHBw\"}"]
        );
        let whole = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{GOOD}", GOOD.len());
        let (first, second) = whole.split_at(20);
        bench.hear(first);
        assert!(bench.node.next_verdict().is_none());
        bench.hear(second);
        let Verdict { ticket, vouched } = bench.node.next_verdict().unwrap();
        let vouched = vouched.unwrap();
        assert_eq!((ticket, vouched.user.as_str(), vouched.expires), (5, "anna", 9));
        // The connection is used again.
        bench.ask(6);
        assert_eq!((bench.said().len(), bench.conns.len()), (1, 1));
        let (head, tail) = GOOD.split_at(30);
        bench.hear("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        bench.hear(&format!("1e\r\n{head}\r\n{:x}\r\n{tail}\r\n0\r\n", tail.len()));
        assert!(bench.node.next_verdict().is_none());
        bench.hear("\r\n");
        assert!(bench.node.next_verdict().unwrap().vouched.is_some());
    }

    #[test]
    fn no_is_an_answer_and_a_failing_server_is_none() {
        for (status, body, refuses) in [
            ("403 Forbidden", "", true),
            ("404 Not Found", "nobody", true),
            ("500 Internal Server Error", "", false),
            ("200 OK", "{}", false),
            ("200 OK", "not JSON", false),
            ("200 OK", &GOOD.replace("AAAA\",\"e", "\",\"e"), false),
        ] {
            let mut bench = Bench::new();
            bench.ask(1);
            bench.said();
            bench.answer(status, body);
            let verdict = bench.node.next_verdict();
            assert_eq!(verdict.map(|verdict| verdict.vouched.is_none()), refuses.then_some(true), "{status}");
            assert_eq!(bench.node.counters().unanswered, u64::from(!refuses));
        }
    }

    #[test]
    fn what_is_no_answer_closes_the_connection_and_is_bounded() {
        let head = "HTTP/1.1 200 OK\r\n";
        for nonsense in [
            "SSH-2.0-OpenSSH\r\n".to_owned(),
            format!("{head}\r\n"),
            format!("{head}Content-Length: 99999999\r\n\r\n"),
            format!("{head}Content-Length: 1\r\n\r\nxx"),
            format!("{head}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"),
            format!("{head}Transfer-Encoding: chunked\r\n\r\n1\r\nxxx"),
            format!("{head}X: {}", "x".repeat(MAX_ANSWER)),
        ] {
            let mut bench = Bench::new();
            bench.ask(1);
            bench.said();
            bench.hear(&nonsense);
            bench.said();
            assert_eq!((bench.conns.len(), bench.node.counters().unanswered), (0, 1), "{nonsense:.40}");
        }
    }

    #[test]
    fn questions_wait_for_a_connection_for_a_while_and_no_more_than_so_many() {
        let mut bench = Bench::new();
        for ticket in 0..MAX_WAITING as u64 + MAX_CONNECTIONS as u64 {
            bench.ask(ticket);
            bench.said();
        }
        assert_eq!((bench.conns.len(), bench.node.waiting.len()), (MAX_CONNECTIONS, MAX_WAITING));
        bench.ask(0);
        assert_eq!(bench.node.counters().overflowed, 1);
        bench.wait(PATIENCE);
        bench.said();
        assert_eq!((bench.conns.len(), bench.node.waiting.len()), (0, 0));
        assert_eq!(bench.node.counters().unanswered, (MAX_WAITING + MAX_CONNECTIONS) as u64);
        assert_eq!(bench.node.deadline(), None);
    }

    #[test]
    fn a_server_that_hung_up_is_asked_again_and_one_that_is_away_later() {
        let mut bench = Bench::new();
        bench.ask(1);
        bench.said();
        let conn = bench.conns.remove(0);
        bench.node.handle(bench.now, Input::Closed { conn, fault: None });
        assert_eq!(
            (bench.said().len(), bench.conns.len()),
            (1, 1),
            "an idle connection may be closed any time"
        );
        let conn = bench.conns.remove(0);
        bench.node.handle(bench.now, Input::Closed { conn, fault: None });
        assert_eq!((bench.said().len(), bench.node.counters().unanswered), (0, 1), "but not each time");
        // Now it cannot be reached.
        bench.ask(2);
        let Some(Output::Connect { conn, .. }) = bench.node.poll_output(bench.now) else { panic!() };
        bench.node.handle(bench.now, Input::Closed { conn, fault: None });
        assert!(bench.node.poll_output(bench.now).is_none());
        bench.wait(PAUSE);
        assert_eq!(bench.said().len(), 1, "asked once more when the pause is over");
        bench.answer("403 Forbidden", "");
        assert!(bench.node.next_verdict().unwrap().vouched.is_none());
    }
}
