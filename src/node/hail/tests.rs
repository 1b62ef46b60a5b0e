//! Both ends without parts above and sockets beneath.

use std::{net::SocketAddr, time::Duration};

use super::{Dialled, Heard, LinkCredential, Said, Sessions, Unknown};
use crate::{
    io::{Conn, Input, KeyId, Output, Peer, Service, Transport},
    link::{ClientConfig, ServerConfig},
    node::Event,
    rng::Seeded,
    status::Status,
    store::Memory,
    time::Time,
};

const UNIX: u64 = 1_700_000_000;
/// The back end's socket.
const SOCKET: Conn = Conn(1);
/// As the gateway's part names its connection.
const CONN: Conn = Conn(Conn::OURS | 77);

struct Pair {
    now: Time,
    gateway: Dialled,
    backend: Sessions,
    known: Vec<KeyId>,
    /// Nothing gets through.
    is_cut: bool,
    /// Datagrams that the gateway sent.
    sent: usize,
    /// Sockets that the gateway has open.
    sockets: Vec<Conn>,
    /// What either part heard.
    at_gateway: Vec<Heard>,
    at_backend: Vec<Heard>,
    unknown: usize,
}

impl Pair {
    fn new() -> Pair {
        let now = Time::from_micros(1_000_000);
        let mut backend = sessions(now, 1);
        let credential = backend.draw();
        assert!(backend.handle(now, listening()).is_none());
        let link = ClientConfig::new(backend.server_key(), credential.session_id, credential.secret);
        let gateway = Dialled::new(link, Service::Gateway, Duration::from_secs(3), Seeded::new(2));
        Pair {
            now,
            gateway,
            backend,
            known: vec![credential.key],
            is_cut: false,
            sent: 0,
            sockets: Vec::new(),
            at_gateway: Vec::new(),
            at_backend: Vec::new(),
            unknown: 0,
        }
    }

    fn connected() -> (Pair, Conn) {
        let mut pair = Pair::new();
        pair.want(Output::Connect { conn: CONN, way: 0 });
        let peer = match pair.at_gateway.pop() {
            Some(Heard::Connected(CONN, peer)) => peer,
            _ => panic!("it is not connected"),
        };
        assert_eq!((peer.transport, peer.service), (Transport::Stream, Service::Gateway));
        assert_eq!((peer.remote, peer.key.is_some()), (address(7704), true));
        match pair.at_backend.pop() {
            Some(Heard::Accepted(conn, peer)) => {
                assert_eq!((peer.transport, peer.key), (Transport::Stream, Some(pair.known[0])));
                assert_eq!((peer.local, peer.remote), (address(7704), address(40_000)));
                (pair, conn)
            }
            _ => panic!("nobody came"),
        }
    }

    /// What the gateway's part wants.
    fn want(&mut self, output: Output<()>) {
        assert!(self.gateway.take(self.now, output).is_none());
        self.settle();
    }

    /// What the back end's part wants.
    fn want_there(&mut self, output: Output<()>) {
        assert!(self.backend.take(self.now, output).is_none());
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            if let Some(said) = self.gateway.poll(self.now) {
                match said {
                    Said::Output(output) => self.perform(output),
                    Said::Input(heard) => self.at_gateway.push(heard),
                    Said::Own(Unknown(conn)) => {
                        assert_eq!(conn, CONN);
                        self.unknown += 1;
                    }
                }
            } else if let Some(said) = self.backend.poll(self.now, |key| self.known.contains(key)) {
                match said {
                    Said::Output(Output::Send { octets, .. }) if !self.is_cut => {
                        if let Some(conn) = self.sockets.last() {
                            let input = Input::Received { conn: *conn, from: None, octets: &octets };
                            self.gateway.handle(self.now, input);
                        }
                    }
                    Said::Input(heard) => self.at_backend.push(heard),
                    _ => {}
                }
            } else {
                return;
            }
        }
    }

    fn perform(&mut self, output: Output<Event>) {
        match output {
            Output::Connect { conn, way: 0 } => {
                let (local, remote) = (address(40_000), address(7704));
                let transport = Transport::Datagram;
                let peer = Peer { transport, local, remote, key: None, service: Service::Link };
                self.sockets.push(conn);
                self.gateway.handle(self.now, Input::Connected { conn, peer });
            }
            Output::Send { conn, octets, .. } => {
                assert_eq!(self.sockets, [conn]);
                self.sent += 1;
                if !self.is_cut {
                    let from = Some(address(40_000));
                    let input = Input::Received { conn: SOCKET, from, octets: &octets };
                    self.backend.handle(self.now, input);
                }
            }
            Output::Close { conn } => self.sockets.retain(|open| *open != conn),
            other => panic!("{other:?}"),
        }
    }

    fn pass(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        let due = |pair: &Pair| pair.gateway.deadline().into_iter().chain(pair.backend.deadline()).min();
        while let Some(due) = due(self).filter(|due| *due <= end) {
            self.now = self.now.max(due);
            assert!(self.gateway.handle(self.now, Input::Deadline).is_some());
            assert!(self.backend.handle(self.now, Input::Deadline).is_some());
            self.settle();
        }
        self.now = end;
    }
}

fn sessions(now: Time, seed: u64) -> Sessions {
    let config = ServerConfig::default();
    let (sessions, ops) =
        Sessions::open(config, Service::Gateway, (now, UNIX), Seeded::new(seed), &Memory::default()).unwrap();
    assert_eq!(ops.len(), 4, "its keys are to be kept");
    sessions
}

/// The back end's socket is there.
fn listening() -> Input<'static> {
    let (transport, service) = (Transport::Datagram, Service::Link);
    let peer = Peer { transport, local: address(7704), remote: address(0), key: None, service };
    Input::Accepted { conn: SOCKET, peer }
}

fn address(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn send(conn: Conn, octets: Vec<u8>) -> Output<()> {
    Output::Send { conn, to: None, octets }
}

#[test]
fn a_session_carries_octets_both_ways_until_it_is_closed() {
    let (mut pair, conn) = Pair::connected();
    let long: Vec<u8> = (0..2000_u32).map(|at| at as u8).collect();
    pair.want(send(CONN, long.clone()));
    assert!(matches!(&pair.at_backend[..], [Heard::Received(of, octets)] if *of == conn && *octets == long));
    pair.want_there(send(conn, vec![7]));
    assert!(matches!(&pair.at_gateway[..], [Heard::Received(CONN, octets)] if octets[..] == [7]));
    pair.want(Output::Close { conn: CONN });
    assert!(matches!(pair.at_backend.pop(), Some(Heard::Closed(of, _)) if of == conn));
    assert_eq!((pair.sockets.len(), pair.gateway.deadline()), (0, None), "it wants nothing any more");
    // What comes too late for a connection goes nowhere, and another is another.
    pair.want(send(CONN, vec![8]));
    assert!(pair.backend.take(pair.now, send(conn, vec![8])).is_some());
    pair.want(Output::Connect { conn: CONN, way: 0 });
    assert!(matches!(pair.at_backend.pop(), Some(Heard::Accepted(of, _)) if of != conn));
    assert_eq!(pair.gateway.counters().resumed, 1);
    assert!(
        pair.at_backend.iter().all(|heard| matches!(heard, Heard::Received(..))),
        "nothing else was heard"
    );
}

#[test]
fn when_the_back_end_closes_the_gateway_is_told_and_asks_again_only_when_it_is_wanted() {
    let (mut pair, conn) = Pair::connected();
    pair.want_there(Output::Close { conn });
    assert!(matches!(pair.at_gateway.pop(), Some(Heard::Closed(CONN, _))));
    let sent = pair.sent;
    pair.pass(600);
    assert_eq!(pair.sent, sent);
    assert!(pair.at_backend.is_empty(), "who closes is not told of it");
}

#[test]
fn what_finds_no_room_ends_the_session() {
    let (mut pair, _) = Pair::connected();
    pair.is_cut = true;
    for _ in 0..256 {
        pair.want(send(CONN, vec![1]));
        assert!(pair.at_gateway.is_empty());
    }
    pair.want(send(CONN, vec![1]));
    let closed = pair.at_gateway.pop();
    assert!(matches!(closed, Some(Heard::Closed(CONN, fault)) if fault.status == Status::Full));
    assert_eq!(pair.gateway.counters().full, 1);

    let (mut pair, conn) = Pair::connected();
    pair.is_cut = true;
    let mut messages = 0;
    while pair.at_backend.is_empty() {
        pair.backend.take(pair.now, send(conn, vec![0; 65_000]));
        pair.settle();
        messages += 1;
    }
    // An eighth of what is left of 64 MiB, by and by.
    assert!((110..140).contains(&messages), "{messages}");
    assert!(
        matches!(pair.at_backend.pop(), Some(Heard::Closed(of, fault)) if of == conn && fault.status == Status::Full)
    );
    let held_full = pair.backend.counters().find(|(name, ..)| *name == "held_full").unwrap().2;
    assert_eq!(held_full, 1);
}

#[test]
fn who_is_not_known_is_told_so_and_who_gets_no_answer_too() {
    let mut pair = Pair::new();
    let known = std::mem::take(&mut pair.known);
    pair.want(Output::Connect { conn: CONN, way: 0 });
    pair.pass(5);
    assert_eq!((pair.unknown, pair.at_gateway.len(), pair.at_backend.len()), (1, 0, 0));
    pair.pass(600);
    assert_eq!(pair.unknown, 1, "the pauses are the part's");
    pair.known = known;
    pair.is_cut = true;
    pair.want(Output::Connect { conn: CONN, way: 0 });
    pair.pass(30);
    let closed = pair.at_gateway.pop();
    assert!(matches!(closed, Some(Heard::Closed(CONN, fault)) if fault.status == Status::Timeout));
    // Called off before anything went out: nothing does.
    let sent = pair.sent;
    assert!(pair.gateway.take(pair.now, Output::<()>::Connect { conn: CONN, way: 0 }).is_none());
    pair.want(Output::Close { conn: CONN });
    assert_eq!((pair.sent, pair.at_gateway.len()), (sent, 0));
    pair.is_cut = false;
    pair.want(Output::Connect { conn: CONN, way: 0 });
    assert!(matches!(pair.at_gateway.pop(), Some(Heard::Connected(..))));
}

/// After a reset the link comes back by itself: not for a part that does not want it any more.
#[test]
fn a_reset_is_followed_at_once_unless_the_part_has_left() {
    for wants in [true, false] {
        let (mut pair, _) = Pair::connected();
        let (store, config) = (Memory::default(), ServerConfig::default());
        let at = (pair.now, UNIX);
        // The same keys, and no session.
        let (again, _) = Sessions::open(config, Service::Gateway, at, Seeded::new(1), &store).unwrap();
        let socket = std::mem::replace(&mut pair.backend, again);
        assert_eq!(socket.server_key(), pair.backend.server_key());
        pair.backend.handle(pair.now, listening());
        assert!(pair.gateway.take(pair.now, send(CONN, vec![1])).is_none());
        while pair.at_gateway.is_empty() {
            assert!(pair.gateway.deadline().is_some());
            pair.pass(1);
        }
        assert!(matches!(pair.at_gateway[..], [Heard::Closed(CONN, _), Heard::NetworkChanged]));
        pair.at_gateway.clear();
        if wants {
            pair.want(Output::Connect { conn: CONN, way: 0 });
            assert!(matches!(pair.at_gateway[..], [Heard::Connected(CONN, _)]));
        }
        pair.pass(60);
        assert_eq!(pair.gateway.deadline().is_some(), wants);
        assert_eq!(pair.gateway.counters().resets, 1);
    }
}

#[test]
fn a_credential_follows_from_its_session_id_and_the_keys_of_the_back_end() {
    let now = Time::from_micros(1_000_000);
    let (one, other) = (sessions(now, 1), sessions(now, 2));
    let (id, mut near) = ([5; 16], [5; 16]);
    near[15] = 6;
    let credential = one.credential(id);
    assert_eq!(credential.key, LinkCredential::key_of(&id));
    assert_eq!(credential, one.credential(id));
    assert_ne!(credential.secret, one.credential(near).secret);
    assert_ne!(credential.secret, other.credential(id).secret);
    assert!(!format!("{credential:?}").contains("secret"));
}
