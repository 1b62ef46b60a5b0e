//! The sessions of who listens, and the credentials by which they are let in.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::SocketAddr,
};

use super::{Heard, Said, fault};
use crate::{
    crypto::{hmac_sha256, sha256},
    io::{Conn, Input, KeyId, Output, Peer, Service, Transport},
    link::{Closing, Credential, Path, Server, ServerConfig, Session},
    node::{
        link_keys::{self, Found},
        links::{Linked, Links},
    },
    rng::Entropy,
    status::Fault,
    store::{Op, Store},
    time::Time,
    wire::link::Refusal,
};

/// Under which name the store holds what credentials are made of.
const CREDENTIALS: &[u8] = b"credentials";
/// Octets that wait, of all sessions, because the link has no room for them.
const MAX_HELD: usize = 64 << 20;

/// What a gateway logs in with on `hail://`, and the key that it proves by that. The secret follows from the session id and a
/// key of the back end, so that nothing is kept of it: as with a certificate, it is the enrolment of the key that counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LinkCredential {
    /// The key that it proves: what [`Backend`](crate::gateway::Backend) enrols, bars and revokes.
    pub key: KeyId,
    /// Its public name.
    pub session_id: [u8; 16],
    /// What makes it good.
    pub secret: [u8; 32],
}

impl LinkCredential {
    /// The key that stands for a session id. Nobody has that key on another transport, for no public key reads like what it is made of.
    pub fn key_of(session_id: &[u8; 16]) -> KeyId {
        key_of(principal(session_id))
    }
}

impl std::fmt::Debug for LinkCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LinkCredential({:?})", self.key)
    }
}

/// Sessions of the link, each the connection of one who proved a credential.
pub(in crate::node) struct Sessions {
    links: Links,
    /// What is spoken in them.
    service: Service,
    /// Makes secrets of session ids.
    credentials: [u8; 32],
    rng: Box<dyn Entropy + Send>,
    /// Where datagrams come in, with our address there.
    sockets: Vec<(Conn, SocketAddr)>,
    by_conn: BTreeMap<Conn, Session>,
    by_session: HashMap<Session, Conn>,
    next_conn: u32,
    said: VecDeque<Said<Op>>,
}

impl Sessions {
    /// None yet, on the keys that a store holds; those that it does not are drawn, and are to be stored before anything that is
    /// made with them is.
    pub fn open(
        config: ServerConfig,
        service: Service,
        (now, unix): (Time, u64),
        mut rng: impl Entropy + Clone + Send + 'static,
        store: &dyn Store,
    ) -> Result<(Sessions, Vec<Op>), Fault> {
        let Found { secrets, mut ops, .. } = link_keys::found(store, unix, &mut rng)?;
        let (credentials, drawn) = link_keys::key(store, CREDENTIALS, &mut rng)?;
        ops.extend(drawn);
        let server = Server::new(config, secrets, now, unix, rng.clone());
        let sessions = Sessions {
            // There are no streams.
            links: Links::new(server, 0, MAX_HELD),
            service,
            credentials,
            rng: Box::new(rng),
            sockets: Vec::new(),
            by_conn: BTreeMap::new(),
            by_session: HashMap::new(),
            next_conn: 0,
            said: VecDeque::new(),
        };
        Ok((sessions, ops))
    }

    /// The key that clients must know the server by.
    pub fn server_key(&self) -> [u8; 32] {
        self.links.server.public_keys()[0].expect("a server has a key")
    }

    /// What the link counted, and what waited because it had no room.
    pub fn counters(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        let waited = self.links.counters.list().filter(|(name, ..)| name.starts_with("held"));
        self.links.server.counters().list().chain(waited)
    }

    /// Another bound on the number of sessions.
    pub fn set_max(&mut self, sessions: u32) {
        self.links.server.set_max_sessions(sessions);
    }

    /// A credential that nobody has.
    pub fn draw(&mut self) -> LinkCredential {
        let mut session_id = [0; 16];
        self.rng.fill(&mut session_id);
        self.credential(session_id)
    }

    /// The credential of a session id.
    pub fn credential(&self, session_id: [u8; 16]) -> LinkCredential {
        let secret = hmac_sha256(&self.credentials, &[b"hail credential", &session_id]);
        LinkCredential { key: LinkCredential::key_of(&session_id), session_id, secret }
    }

    /// Takes what happened. What is not the link's alone is for the part too, and comes back.
    pub fn handle<'a>(&mut self, now: Time, input: Input<'a>) -> Option<Input<'a>> {
        match input {
            Input::Accepted { conn, peer } if peer.service == Service::Link => {
                self.links.accepted(now, conn, &peer);
                self.sockets.push((conn, peer.local));
            }
            Input::Received { conn, from: Some(from), octets } if self.is_socket(conn) => {
                self.links.datagram(now, from, octets);
            }
            Input::Closed { conn, .. } if self.is_socket(conn) => {
                self.sockets.retain(|(own, _)| *own != conn);
            }
            Input::Deadline => {
                self.links.expire(now);
                return Some(input);
            }
            Input::Clock { unix } => {
                self.links.server.set_unix(now, unix);
                return Some(input);
            }
            other => return Some(other),
        }
        None
    }

    /// Takes what the part wants. What is not of a session comes back.
    pub fn take<E>(&mut self, now: Time, output: Output<E>) -> Option<Output<E>> {
        match output {
            Output::Send { conn, octets, .. } if self.by_conn.contains_key(&conn) => {
                let session = self.by_conn[&conn];
                let principal = self.links.server.principal(session).unwrap_or_default();
                self.links.send(now, session, principal, octets);
            }
            Output::Close { conn } if self.by_conn.contains_key(&conn) => {
                let session = self.by_conn[&conn];
                self.links.close(now, session, Closing::Done);
                self.forget(session);
            }
            other => return Some(other),
        }
        None
    }

    /// The next thing that there is to say, until there is none. Who proves a key that `is_known` does not hold for is refused.
    pub fn poll(&mut self, now: Time, is_known: impl Fn(&KeyId) -> bool) -> Option<Said<Op>> {
        loop {
            if let Some(said) = self.said.pop_front() {
                return Some(said);
            }
            match self.links.poll(now)? {
                Linked::Output(output) => return Some(Said::Output(output)),
                Linked::Lookup { ticket, session_id } => {
                    let LinkCredential { key, secret, .. } = self.credential(session_id);
                    let (principal, expiry) = (principal(&session_id), u64::MAX);
                    // A key that is enrolled again is good again, and a ticket is of no use to one that is not.
                    let known = Credential { secret, principal, expiry, epoch: 0 };
                    let answer = is_known(&key).then_some(known).ok_or(Refusal::Unknown);
                    self.links.server.authenticated(now, ticket, answer);
                }
                Linked::Up { session, principal, .. } => self.up(session, key_of(principal)),
                Linked::Message { session, octets, .. } => {
                    if let Some(conn) = self.by_session.get(&session) {
                        return Some(Said::Input(Heard::Received(*conn, octets)));
                    }
                }
                Linked::Gone { session, why, .. } => {
                    if let Some(conn) = self.forget(session) {
                        return Some(Said::Input(Heard::Closed(conn, fault(why))));
                    }
                }
                Linked::TicketRoot(root) => return Some(Said::Own(link_keys::put_tickets(&root))),
            }
        }
    }

    pub fn deadline(&self) -> Option<Time> {
        self.links.deadline()
    }

    fn is_socket(&self, conn: Conn) -> bool {
        self.sockets.iter().any(|(own, _)| *own == conn)
    }

    fn up(&mut self, session: Session, key: KeyId) {
        let remote = match self.links.server.path(session) {
            Some(Path::Datagram(remote)) => remote,
            _ => ([0, 0, 0, 0], 0).into(),
        };
        let of_family = self.sockets.iter().find(|(_, local)| local.is_ipv6() == remote.is_ipv6());
        let local = of_family.or(self.sockets.first()).map_or(remote, |(_, local)| *local);
        let (transport, key) = (Transport::Stream, Some(key));
        // The driver's names have another first bit.
        let conn = Conn(Conn::OURS | self.next_conn);
        self.next_conn = (self.next_conn + 1) & !Conn::OURS;
        self.by_conn.insert(conn, session);
        self.by_session.insert(session, conn);
        let peer = Peer { transport, local, remote, key, service: self.service };
        self.said.push_back(Said::Input(Heard::Accepted(conn, peer)));
    }

    fn forget(&mut self, session: Session) -> Option<Conn> {
        let conn = self.by_session.remove(&session)?;
        self.by_conn.remove(&conn);
        Some(conn)
    }
}

/// By what number the link knows who has a session id: the first half of it. Tickets hold it too, so it stays the same over
/// restarts.
fn principal(session_id: &[u8; 16]) -> u64 {
    u64::from_be_bytes(*session_id.first_chunk().expect("sixteen octets have eight"))
}

fn key_of(principal: u64) -> KeyId {
    KeyId(sha256(&[b"hail gateway", &principal.to_be_bytes()]))
}
