//! Health and metrics over HTTP, for whoever watches a server: `/healthz`, `/readyz`, `/metrics`.
//!
//! A small server on purpose: GET and HEAD, one request a connection, no body read, everything bounded. It is for loopback;
//! it asks for no credentials.

use std::collections::{BTreeMap, VecDeque};

use super::{Event, Node};
use crate::{
    io::{Conn, Input, Output},
    time::Time,
};

/// The longest request head that is read.
const MAX_HEAD: usize = 4096;
/// Header fields at the most.
const MAX_FIELDS: usize = 32;
/// Connections at once; another is closed.
const MAX_CONNECTIONS: usize = 32;
/// How long a connection may take for its request.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// Answers from what it was last told, so that a request costs the server nothing.
#[derive(Default)]
pub struct HealthNode {
    is_ready: bool,
    metrics: String,
    asked: Vec<(Conn, bool)>,
    heads: BTreeMap<Conn, (Vec<u8>, Time)>,
    outputs: VecDeque<Output<Event>>,
    turned_away: u64,
}

impl HealthNode {
    /// One that is not ready yet.
    pub fn new() -> HealthNode {
        HealthNode::default()
    }

    /// Whether `/readyz` answers 200 (else 503).
    pub fn set_ready(&mut self, is_ready: bool) {
        self.is_ready = is_ready;
    }

    /// Whether somebody waits for [`HealthNode::give_metrics`].
    pub fn wants_metrics(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Answers those who asked for metrics, with Prometheus' text format 0.0.4.
    pub fn give_metrics(&mut self, text: String) {
        self.metrics = text;
        for (conn, has_body) in std::mem::take(&mut self.asked) {
            let response = response("200 OK", "text/plain; version=0.0.4", &self.metrics, has_body);
            self.finish(conn, response);
        }
    }

    /// Connections closed because there were too many.
    pub fn turned_away(&self) -> u64 {
        self.turned_away
    }

    fn received(&mut self, conn: Conn, octets: &[u8]) {
        let Some((head, _)) = self.heads.get_mut(&conn) else { return };
        let room = MAX_HEAD - head.len();
        head.extend_from_slice(&octets[..octets.len().min(room)]);
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        let plain = "text/plain; charset=utf-8";
        let answer = match request.parse(head) {
            Ok(httparse::Status::Partial) if head.len() < MAX_HEAD => return,
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                response("431 Request Header Fields Too Large", plain, "too long\n", true)
            }
            Err(_) => response("400 Bad Request", plain, "this is no request\n", true),
            Ok(httparse::Status::Complete(_)) => {
                let has_body = match request.method {
                    Some("GET") => true,
                    Some("HEAD") => false,
                    _ => {
                        let answer = response("405 Method Not Allowed", plain, "GET it\n", true);
                        return self.finish(conn, answer);
                    }
                };
                let path = request.path.unwrap_or_default();
                match path.split_once('?').map_or(path, |(path, _)| path) {
                    "/healthz" => response("200 OK", plain, "ok\n", has_body),
                    "/readyz" if self.is_ready => response("200 OK", plain, "ready\n", has_body),
                    "/readyz" => response("503 Service Unavailable", plain, "not ready\n", has_body),
                    "/metrics" => {
                        self.heads.remove(&conn);
                        return self.asked.push((conn, has_body));
                    }
                    _ => response(
                        "404 Not Found",
                        plain,
                        "/healthz, /readyz and /metrics are here\n",
                        has_body,
                    ),
                }
            }
        };
        self.finish(conn, answer);
    }

    fn finish(&mut self, conn: Conn, octets: Vec<u8>) {
        self.heads.remove(&conn);
        self.outputs.push_back(Output::Send { conn, to: None, octets });
        self.outputs.push_back(Output::Close { conn });
    }
}

impl Node for HealthNode {
    fn handle(&mut self, now: Time, input: Input<'_>) {
        match input {
            Input::Accepted { conn, .. } if self.heads.len() + self.asked.len() >= MAX_CONNECTIONS => {
                self.turned_away += 1;
                self.outputs.push_back(Output::Close { conn });
            }
            Input::Accepted { conn, .. } => drop(self.heads.insert(conn, (Vec::new(), now + PATIENCE))),
            Input::Received { conn, octets, .. } => self.received(conn, octets),
            Input::Closed { conn, .. } => {
                self.heads.remove(&conn);
                self.asked.retain(|(asked, _)| *asked != conn);
            }
            Input::Deadline => {
                let late = self.heads.iter().filter(|(_, (_, due))| *due <= now);
                for conn in late.map(|(conn, _)| *conn).collect::<Vec<_>>() {
                    self.heads.remove(&conn);
                    self.outputs.push_back(Output::Close { conn });
                }
            }
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
        self.heads.values().map(|(_, due)| *due).min()
    }
}

fn response(status: &str, kind: &str, body: &str, has_body: bool) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    (head + if has_body { body } else { "" }).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Peer, Service, Transport};

    fn accept(node: &mut HealthNode, number: u32) -> Conn {
        let address = "127.0.0.1:1".parse().unwrap();
        let peer = Peer {
            transport: Transport::Stream,
            local: address,
            remote: address,
            key: None,
            service: Service::Http,
        };
        node.handle(Time::ZERO, Input::Accepted { conn: Conn(number), peer });
        Conn(number)
    }

    fn said(node: &mut HealthNode) -> String {
        let mut text = String::new();
        while let Some(output) = node.poll_output(Time::ZERO) {
            match output {
                Output::Send { octets, .. } => text += std::str::from_utf8(&octets).unwrap(),
                Output::Close { .. } => text += "|",
                _ => {}
            }
        }
        text
    }

    fn ask(node: &mut HealthNode, pieces: &[&[u8]]) -> String {
        let conn = accept(node, 1);
        for octets in pieces {
            node.handle(Time::ZERO, Input::Received { conn, from: None, octets });
        }
        said(node)
    }

    #[test]
    fn each_page_answers_and_closes() {
        let mut node = HealthNode::new();
        assert!(
            ask(&mut node, &[b"GET /healthz HT", b"TP/1.1\r\nHost: x\r\n\r\n"]).ends_with("\r\n\r\nok\n|")
        );
        assert!(ask(&mut node, &[b"GET /readyz HTTP/1.0\r\n\r\n"]).starts_with("HTTP/1.1 503"));
        node.set_ready(true);
        assert!(ask(&mut node, &[b"HEAD /readyz?x HTTP/1.1\r\n\r\n"]).ends_with("\r\n\r\n|"));
        assert_eq!(ask(&mut node, &[b"GET /metrics HTTP/1.1\r\n\r\n"]), "");
        assert!(node.wants_metrics());
        node.give_metrics("x 1\n".into());
        assert!(said(&mut node).ends_with("\r\n\r\nx 1\n|"));
        for (request, status) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], "404"),
            (b"POST /metrics HTTP/1.1\r\n\r\n", "405"),
            (b"\x16\x03\x01\x02\x00", "400"),
            (&[b'A'; MAX_HEAD + 1], "431"),
            (&[&b"GET / HTTP/1.1\r\n"[..], &b"a: b\r\n".repeat(MAX_FIELDS + 1)].concat(), "431"),
        ] {
            assert!(ask(&mut node, &[request]).starts_with(&format!("HTTP/1.1 {status}")), "{status}");
        }
        assert!(node.heads.is_empty());
    }

    #[test]
    fn the_slow_and_the_many_are_bounded() {
        let mut node = HealthNode::new();
        for number in 0..=MAX_CONNECTIONS as u32 {
            accept(&mut node, number);
        }
        assert_eq!((said(&mut node).as_str(), node.turned_away()), ("|", 1));
        let due = node.deadline().unwrap();
        node.handle(due, Input::Deadline);
        assert_eq!((said(&mut node).len(), node.deadline()), (MAX_CONNECTIONS, None));
    }
}
