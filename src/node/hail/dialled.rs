//! The session of who connects.

use std::{collections::VecDeque, time::Duration};

use super::{Heard, Said, fault};
use crate::{
    crypto::sha256,
    io::{Conn, Input, KeyId, Output, Peer, Service, Transport},
    link::{Client, ClientConfig, ClientCounters, ClientEvent, ClientOutput, Why},
    rng::Entropy,
    status::{Fault, Status},
    time::Time,
    wire::link::Refusal,
};

/// Datagrams that wait for a socket; past it the oldest is lost, as any datagram may be.
const MAX_UNSENT: usize = 64;
/// What stands before an X25519 key in its SubjectPublicKeyInfo (RFC 8410).
const X25519: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x03, 0x21, 0x00];

/// A connection that is a session of the link. The part asks for it anew whenever it is lost, after pauses of its own; so the
/// link's are not used.
pub(in crate::node) struct Dialled {
    client: Client,
    /// What the server proves.
    server: KeyId,
    /// What is spoken in the session.
    service: Service,
    part: Part,
    socket: Option<Socket>,
    next_socket: u32,
    /// What waits for the socket.
    unsent: VecDeque<Vec<u8>>,
    /// What the server, or somebody who sees the datagrams, said to the last try.
    refusal: Option<Refusal>,
    said: VecDeque<Said<Unknown>>,
}

/// The server does not know the credential by which this connection was to be made.
pub(in crate::node) struct Unknown(pub Conn);

/// What the part has of the session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Nothing,
    Wants(Conn),
    Has(Conn),
}

/// Where datagrams go out.
struct Socket {
    conn: Conn,
    /// Set once it is there.
    peer: Option<Peer>,
}

impl Dialled {
    /// The link wants its heartbeats less often than the part beats: they come only where the part's do not.
    pub fn new(
        config: ClientConfig,
        service: Service,
        heartbeat: Duration,
        rng: impl Entropy + Send + 'static,
    ) -> Dialled {
        let interval = (heartbeat.as_secs() * 2).clamp(10, 1800) as u16;
        let config = ClientConfig { interval, ..config };
        Dialled {
            server: KeyId(sha256(&[&X25519, &config.server_key])),
            client: Client::new(config, rng),
            service,
            part: Part::Nothing,
            socket: None,
            next_socket: 0,
            unsent: VecDeque::new(),
            refusal: None,
            said: VecDeque::new(),
        }
    }

    /// What the link counted.
    pub fn counters(&self) -> &ClientCounters {
        self.client.counters()
    }

    /// Takes what happened. What is not the link's alone is for the part too, and comes back.
    pub fn handle<'a>(&mut self, now: Time, input: Input<'a>) -> Option<Input<'a>> {
        match input {
            Input::Connected { conn, peer } => self.connected(conn, peer),
            Input::Received { conn, octets, .. } => {
                if self.is_socket(conn) {
                    self.client.handle(now, octets);
                }
            }
            // The link finds out by itself, and asks for another when it has something to send.
            Input::Closed { conn, .. } => {
                if self.is_socket(conn) {
                    self.socket = None;
                    self.unsent.clear();
                }
            }
            Input::Deadline => {
                self.client.deadline_passed(now);
                return Some(input);
            }
            Input::NetworkChanged => {
                self.hang_up();
                self.client.network_changed(now);
                return Some(input);
            }
            Input::Clock { .. } => return Some(input),
            Input::Accepted { .. } | Input::Stored { .. } => {}
        }
        None
    }

    /// Takes what the part wants. What is not of the connection comes back.
    pub fn take<E>(&mut self, now: Time, output: Output<E>) -> Option<Output<E>> {
        match output {
            Output::Connect { conn, .. } => self.connect(now, conn),
            Output::Send { conn, octets, .. } => self.send(now, conn, octets),
            Output::Close { conn } => {
                if matches!(self.part, Part::Wants(own) | Part::Has(own) if own == conn) {
                    self.let_go(now);
                }
            }
            other => return Some(other),
        }
        None
    }

    /// The next thing that there is to say, until there is none.
    pub fn poll(&mut self, now: Time) -> Option<Said<Unknown>> {
        loop {
            if let Some(said) = self.said.pop_front() {
                return Some(said);
            }
            match self.client.poll_output(now) {
                Some(ClientOutput::Send(octets)) => self.transmit(octets),
                // A gateway looks for no interval: it beats by itself.
                Some(ClientOutput::SendBeside(_)) => {}
                Some(ClientOutput::Event(event)) => self.linked(now, event),
                None if self.socket.is_some() && self.is_idle() => self.hang_up(),
                None => return None,
            }
        }
    }

    pub fn deadline(&self) -> Option<Time> {
        self.client.deadline()
    }

    /// Nobody wants anything of the link, and it does nothing by itself.
    fn is_idle(&self) -> bool {
        self.part == Part::Nothing && self.client.deadline().is_none()
    }

    fn is_socket(&self, conn: Conn) -> bool {
        self.socket.as_ref().is_some_and(|socket| socket.conn == conn)
    }

    fn connect(&mut self, now: Time, conn: Conn) {
        self.part = Part::Wants(conn);
        self.refusal = None;
        match self.client.is_up() {
            true => self.up(conn),
            false => self.client.open(now),
        }
    }

    fn send(&mut self, now: Time, conn: Conn, octets: Vec<u8>) {
        if self.part != Part::Has(conn) {
            return;
        }
        if let Err(fault) = self.client.send(now, octets)
            && fault.status == Status::Full
        {
            // A stream cannot leave something out. An honest peer acknowledges long before.
            self.lose(now, fault);
        }
    }

    /// The part has no connection any more.
    fn lose(&mut self, now: Time, fault: Fault) {
        if let Part::Wants(conn) | Part::Has(conn) = self.part {
            self.said.push_back(Said::Input(Heard::Closed(conn, fault)));
        }
        self.let_go(now);
    }

    fn let_go(&mut self, now: Time) {
        self.part = Part::Nothing;
        self.client.close(now);
    }

    fn up(&mut self, conn: Conn) {
        let unspecified = ([0, 0, 0, 0], 0).into();
        let (local, remote) = match self.socket.as_ref().and_then(|socket| socket.peer) {
            Some(peer) => (peer.local, peer.remote),
            None => (unspecified, unspecified),
        };
        let (transport, key) = (Transport::Stream, Some(self.server));
        let peer = Peer { transport, local, remote, key, service: self.service };
        self.part = Part::Has(conn);
        self.refusal = None;
        self.said.push_back(Said::Input(Heard::Connected(conn, peer)));
    }

    fn linked(&mut self, now: Time, event: ClientEvent) {
        match event {
            ClientEvent::Up { .. } => match self.part {
                Part::Wants(conn) => self.up(conn),
                // It came back by itself for a part that has left meanwhile.
                Part::Nothing => self.let_go(now),
                // It was up already when the part asked, and that was told then.
                Part::Has(_) => {}
            },
            ClientEvent::Message(octets) => {
                if let Part::Has(conn) = self.part {
                    self.said.push_back(Said::Input(Heard::Received(conn, octets)));
                }
            }
            // The server is there again and has said so: there is nothing to pause for, and the link resumes already.
            ClientEvent::Down(Why::Reset) => {
                if let Part::Has(conn) = std::mem::replace(&mut self.part, Part::Nothing) {
                    self.said.push_back(Said::Input(Heard::Closed(conn, fault(Why::Reset))));
                    self.said.push_back(Said::Input(Heard::NetworkChanged));
                }
            }
            ClientEvent::Down(why) => self.lose(now, fault(why)),
            // A full login follows by itself, and tells how that ends.
            ClientEvent::Refused(Refusal::Ticket) => {}
            ClientEvent::Refused(refusal) => self.refusal = Some(refusal),
            ClientEvent::Waiting(_) => match (self.refusal.take(), self.part) {
                (Some(Refusal::Unknown), Part::Wants(conn)) => {
                    self.said.push_back(Said::Own(Unknown(conn)));
                    self.let_go(now);
                }
                (refusal, _) => self.lose(now, refused(refusal)),
            },
            // The link itself keeps what is needed to come back; there is no store for it here.
            ClientEvent::Resumption(_) | ClientEvent::NextKey(_) | ClientEvent::KeyChanged(_) => {}
            ClientEvent::Silences(_) | ClientEvent::Suspended { .. } => {}
            ClientEvent::Acked(_) | ClientEvent::Writable | ClientEvent::Draining => {}
        }
    }

    fn transmit(&mut self, octets: Vec<u8>) {
        let Some(Socket { conn, peer }) = &self.socket else {
            let conn = Conn(Conn::OURS | self.next_socket);
            self.next_socket = (self.next_socket + 1) & !Conn::OURS;
            self.socket = Some(Socket { conn, peer: None });
            self.said.push_back(Said::Output(Output::Connect { conn, way: 0 }));
            return self.unsent.push_back(octets);
        };
        if peer.is_some() {
            return self.said.push_back(Said::Output(Output::Send { conn: *conn, to: None, octets }));
        }
        if self.unsent.len() == MAX_UNSENT {
            self.unsent.pop_front();
        }
        self.unsent.push_back(octets);
    }

    fn connected(&mut self, conn: Conn, peer: Peer) {
        let Some(socket) = self.socket.as_mut().filter(|socket| socket.conn == conn) else { return };
        socket.peer = Some(peer);
        let waiting = std::mem::take(&mut self.unsent);
        self.said
            .extend(waiting.into_iter().map(|octets| Said::Output(Output::Send { conn, to: None, octets })));
    }

    fn hang_up(&mut self) {
        if let Some(Socket { conn, .. }) = self.socket.take() {
            self.said.push_back(Said::Output(Output::Close { conn }));
        }
        self.unsent.clear();
    }
}

fn refused(refusal: Option<Refusal>) -> Fault {
    let (status, detail) = match refusal {
        None => (Status::Timeout, "nothing answers there"),
        Some(Refusal::Unknown) => (Status::Refused, "the credential is not known there"),
        Some(Refusal::Full) => (Status::Refused, "no more sessions are taken there now"),
        Some(Refusal::OtherKey) => (Status::Identity, "the server has another key than the one given"),
        Some(Refusal::Version) => (Status::Refused, "another version of the link is spoken there"),
        Some(Refusal::Ticket | Refusal::Other(_)) => (Status::Refused, "the server says no"),
    };
    Fault::new(status, detail)
}
