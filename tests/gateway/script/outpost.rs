//! A gateway with a scripted back end before it.

use std::time::Duration;

use hailpost::{
    gateway::{Gateway, GatewayConfig, GatewayCounters, GatewayState},
    io::{Conn, Input, Output, Peer, Service, Transport},
    node::{Event, EventKind, GatewayNode, Node, Recognition},
    rng::Seeded,
    time::Time,
    wire::gateway::{Body, Family, decode},
};

use super::*;

/// The gateway, its clock, and what it said.
pub struct Outpost {
    pub node: GatewayNode,
    pub now: Time,
    pub family: Family,
    pub transport: Transport,
    /// What the back end proves.
    pub peer_key: Option<KeyId>,
    pub conn: Option<Conn>,
    pub wanted: Option<Conn>,
    pub events: Vec<Event>,
    pub sent: Vec<Vec<u8>>,
}

pub fn config(family: Family) -> GatewayConfig {
    GatewayConfig { family, ..GatewayConfig::default() }
}

pub fn plain(family: Family) -> GatewayConfig {
    GatewayConfig { extensions: false, ..config(family) }
}

impl Outpost {
    /// A gateway that is about to connect.
    pub fn new(config: GatewayConfig, transport: Transport) -> Outpost {
        Outpost::with(config, transport, None)
    }

    /// The same, which may recognise flows.
    pub fn with(config: GatewayConfig, transport: Transport, recognition: Option<Recognition>) -> Outpost {
        let family = config.family;
        let node = GatewayNode::new(Gateway::new(config, Time::ZERO, Seeded::new(3)), recognition);
        let mut outpost = Outpost {
            node,
            now: Time::ZERO,
            family,
            transport,
            peer_key: None,
            conn: None,
            wanted: None,
            events: Vec::new(),
            sent: Vec::new(),
        };
        outpost.turn(Input::Deadline);
        outpost
    }

    /// A gateway that registered on a stream; towards a back end that echoes its tag, or one that does not.
    pub fn registered(config: GatewayConfig, echoes: bool) -> Outpost {
        let mut outpost = Outpost::new(config, Transport::Stream);
        outpost.connect();
        outpost.accept(echoes);
        outpost
    }

    pub fn gateway(&mut self) -> &mut Gateway {
        self.node.gateway_mut()
    }

    pub fn counters(&self) -> GatewayCounters {
        *self.node.gateway().counters()
    }

    pub fn state(&self) -> GatewayState {
        self.node.gateway().state()
    }

    pub fn turn(&mut self, input: Input<'_>) {
        self.node.handle(self.now, input);
        self.drain();
    }

    pub fn drain(&mut self) {
        while let Some(output) = self.node.poll_output(self.now) {
            match output {
                Output::Send { octets, .. } => self.sent.push(octets),
                Output::Close { conn } => {
                    self.conn.take_if(|open| *open == conn);
                    self.wanted.take_if(|open| *open == conn);
                }
                Output::Connect { conn, .. } => self.wanted = Some(conn),
                Output::Event(event) => self.events.push(event),
                Output::Reach { .. } | Output::Store(_) => panic!("a gateway's node does not say this"),
            }
        }
    }

    /// Lets time pass, deadline by deadline.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.node.deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.turn(Input::Deadline);
        }
        self.now = end;
    }

    /// The transport is there.
    pub fn connect(&mut self) {
        let conn = self.wanted.take().expect("it asked for a connection");
        let (local, remote) = ("10.0.0.9:40000".parse().unwrap(), "192.0.2.1:7700".parse().unwrap());
        self.conn = Some(conn);
        let peer =
            Peer { transport: self.transport, local, remote, key: self.peer_key, service: Service::Gateway };
        self.turn(Input::Connected { conn, peer });
    }

    /// Answers the registration that was just sent.
    pub fn accept(&mut self, echoes: bool) {
        let heard = self.heard();
        let (REGISTER, tag) = heard[0] else { panic!("{heard:?}") };
        let outcome = Outcome { result: 0, reason: Reason(9) };
        self.say(if echoes { tag } else { 0 }, &Body::RegisterAnswer(outcome));
        assert_eq!(self.state(), GatewayState::Active);
    }

    pub fn octets(&mut self, octets: &[u8]) {
        let conn = self.conn.expect("it is connected");
        self.turn(Input::Received { conn, from: None, octets });
    }

    pub fn say(&mut self, tag: u16, body: &Body<'_>) {
        self.octets(&encoder(self.family).message(tag, body));
    }

    pub fn raw(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.sent)
    }

    /// What it sent since this was last asked, heartbeats left out.
    pub fn heard(&mut self) -> Vec<Said> {
        let all = self.raw();
        all.iter().map(|octets| said(self.family, octets)).filter(|(id, _)| *id != HEARTBEAT).collect()
    }

    pub fn report(&mut self, end: u32, app: u32) {
        let (now, record) = (self.now, record(self.family, end, app));
        self.gateway().report(now, record).unwrap();
        self.drain();
    }

    /// Lets time pass and answers heartbeats, but nothing else. What else it sent.
    pub fn pass_beating(&mut self, time: Duration) -> Vec<Vec<u8>> {
        let (end, mut rest) = (self.now + time, Vec::new());
        while self.now < end {
            self.pass(SECOND.min(end.since(self.now)));
            for octets in self.raw() {
                match decode(self.family, &octets).map(|message| (message.body, message.header.tag)) {
                    Ok((Body::Heartbeat, tag)) if self.conn.is_some() => {
                        self.say(tag, &Body::HeartbeatAnswer)
                    }
                    _ => rest.push(octets),
                }
            }
        }
        rest
    }

    pub fn told(&mut self, kind: EventKind) -> usize {
        let before = self.events.len();
        self.events.retain(|event| event.kind() != kind);
        before - self.events.len()
    }
}
