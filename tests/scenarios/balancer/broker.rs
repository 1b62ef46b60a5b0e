//! A broker that lets devices in and nothing more: the link's end, and an uplink to the balancer.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use hailpost::{
    io::{Conn, Input, Output, Transport},
    link::{
        Credential, Path, Server, ServerConfig, ServerInput, ServerOutput, ServerSecrets, TicketRoot,
        public_key,
    },
    node::{Event, Node},
    post::balancer::{Load, Uplink, UplinkConfig, UplinkOutput},
    rng::Seeded,
    time::Time,
};

use crate::sim::Boot;

/// The secrets of the office, which all its brokers share.
const PRIVATE: [u8; 32] = [5; 32];
/// Sessions of one broker.
const MOST: u32 = 100;

/// The secret of a device with this session id.
pub fn secret(session_id: [u8; 16]) -> [u8; 32] {
    [session_id[0]; 32]
}

pub struct Broker {
    server: Server,
    uplink: Uplink,
    socket: Option<Conn>,
    line: Option<Conn>,
    next_conn: u32,
    draining: bool,
    outputs: VecDeque<Output<Event>>,
}

impl Broker {
    pub fn new(name: String, address: SocketAddr, boot: &Boot) -> Broker {
        let tickets = TicketRoot { day: 19_000, key: [7; 32] };
        let secrets = ServerSecrets { private: PRIVATE, next_private: None, reset: [6; 32], tickets };
        let config = ServerConfig { max_sessions: MOST, ..ServerConfig::default() };
        let uplink = UplinkConfig {
            name,
            epoch: 1,
            address,
            link_key: public_key(&PRIVATE),
            most: MOST,
            report_every: Duration::from_secs(10),
        };
        let rng: Seeded = boot.rng.clone();
        Broker {
            server: Server::new(config, secrets, boot.now, boot.unix, rng.clone()),
            uplink: Uplink::new(uplink, boot.now, rng),
            socket: None,
            line: None,
            next_conn: 0,
            draining: false,
            outputs: VecDeque::new(),
        }
    }

    pub fn drain(&mut self, now: Time) {
        self.draining = true;
        self.server.drain(true);
        self.tell_load(now);
    }

    pub fn is_draining(&self) -> bool {
        self.draining
    }

    pub fn sessions(&self) -> usize {
        self.server.len()
    }

    fn tell_load(&mut self, now: Time) {
        let sessions = self.server.len() as u32;
        let load = Load { load: (sessions * 100 / MOST) as u8, sessions, draining: self.draining };
        self.uplink.set_load(now, load);
    }
}

impl Node for Broker {
    fn handle(&mut self, now: Time, input: Input<'_>) {
        let ours = |conn: &Conn, line: Option<Conn>| line == Some(*conn);
        match input {
            Input::Accepted { conn, peer } if peer.transport == Transport::Datagram => {
                self.socket = Some(conn);
            }
            Input::Connected { conn, .. } if ours(&conn, self.line) => self.uplink.connected(now),
            Input::Closed { conn, .. } if ours(&conn, self.line) => {
                self.line = None;
                self.uplink.closed(now);
            }
            Input::Received { from: Some(from), octets, .. } => {
                self.server.handle(now, ServerInput::Datagram { from: Path::Datagram(from), octets });
            }
            Input::Received { conn, octets, .. } if ours(&conn, self.line) => {
                self.uplink.received(now, octets);
            }
            Input::Deadline => {
                self.server.handle(now, ServerInput::Deadline);
                self.tell_load(now);
                self.uplink.handle_deadline(now);
            }
            _ => {}
        }
    }

    fn poll_output(&mut self, now: Time) -> Option<Output<Event>> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            if let Some(output) = self.server.poll_output(now) {
                match output {
                    ServerOutput::Send { to: Path::Datagram(to), octets } => {
                        let conn = self.socket?;
                        self.outputs.push_back(Output::Send { conn, to: Some(to), octets });
                    }
                    ServerOutput::Lookup { ticket, session_id } => {
                        let principal = session_id[0].into();
                        let secret = secret(session_id);
                        let credential = Credential { secret, principal, expiry: u64::MAX, epoch: 0 };
                        self.server.authenticated(now, ticket, Ok(credential));
                    }
                    _ => {}
                }
                continue;
            }
            match self.uplink.poll_output(now)? {
                UplinkOutput::Connect => {
                    self.next_conn += 1;
                    let conn = Conn(Conn::OURS | self.next_conn);
                    self.line = Some(conn);
                    return Some(Output::Connect { conn, way: 0 });
                }
                UplinkOutput::Send(octets) => {
                    let conn = self.line?;
                    return Some(Output::Send { conn, to: None, octets });
                }
                UplinkOutput::Close => {
                    if let Some(conn) = self.line.take() {
                        return Some(Output::Close { conn });
                    }
                }
                _ => {}
            }
        }
    }

    fn flush(&mut self, _: Time) -> bool {
        false
    }

    fn deadline(&self) -> Option<Time> {
        [self.server.deadline(), self.uplink.deadline()].into_iter().flatten().min()
    }
}
