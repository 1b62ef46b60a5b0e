//! Datagrams: many at once, from both families, over changes of network.

use std::{
    collections::BTreeSet,
    net::{SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use hailpost::{
    config::Network,
    io::{Conn, Output, Service, Transport},
    net::{Listen, ListenTransport, Loop, NodeId, Remote, ServerSecurity, resolver::Target},
};

use crate::probe::*;

fn listen(address: &str, service: Service) -> Listen {
    Listen {
        address: address.parse().unwrap(),
        transport: ListenTransport::Datagram,
        networks: None,
        services: vec![service],
    }
}

/// A node that echoes what comes to its datagram listener.
fn echo(listen: Listen) -> (Loop, NodeId, SocketAddr) {
    let mut net = Loop::new().unwrap();
    let id = net.add(Box::new(Probe { echoes: true, ..Probe::default() }), Vec::new());
    let address = net.listen(id, listen).unwrap();
    (net, id, address)
}

fn client(to: SocketAddr) -> UdpSocket {
    let own = if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let socket = UdpSocket::bind(own).unwrap();
    socket.connect(to).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// All that is waiting at a client.
fn answers(socket: &UdpSocket) -> Vec<Vec<u8>> {
    let mut octets = [0; 65_536];
    std::iter::from_fn(|| socket.recv(&mut octets).ok().map(|length| octets[..length].to_vec())).collect()
}

#[test]
fn a_wildcard_listener_takes_both_families_and_answers_each() {
    for (service, batch) in [(Service::Link, 64), (Service::Link, 1), (Service::Gateway, 64)] {
        let (mut net, id, address) = echo(listen("[::]:0", service));
        net.limits_mut().batch = batch;
        let clients = [
            client(SocketAddr::from(([127, 0, 0, 1], address.port()))),
            client(format!("[::1]:{}", address.port()).parse().unwrap()),
        ];
        for number in 0..100u8 {
            for client in &clients {
                client.send(&[number; 16]).unwrap();
            }
        }
        let mut got = [Vec::new(), Vec::new()];
        until(&mut [&mut net], |_| {
            (0..2).for_each(|at| got[at].extend(answers(&clients[at])));
            got.iter().all(|got| got.len() == 100)
        });
        for got in &got {
            assert!(got.iter().zip(0..).all(|(octets, number)| *octets == [number; 16]));
        }
        let from: BTreeSet<_> = probe(&net, id).received().map(|(_, from, _)| from.unwrap()).collect();
        let known: BTreeSet<_> = clients.iter().map(|client| client.local_addr().unwrap()).collect();
        assert_eq!(from, known, "each as it writes itself");
        let (_, peer) = probe(&net, id).accepted().next().unwrap();
        assert_eq!((peer.transport, peer.service, peer.local), (Transport::Datagram, service, address));
    }
}

#[test]
fn a_wildcard_listener_for_streams_takes_both_families() {
    let mut net = Loop::new().unwrap();
    let id = net.add(Box::new(Probe::default()), Vec::new());
    let transport = ListenTransport::Stream(ServerSecurity::Plain);
    // The networks that may come in are told in either family's own words.
    let networks = Some(vec![Network::parse("127.0.0.0/8").unwrap(), Network::parse("::1").unwrap()]);
    let bare = Listen { transport, networks, ..listen("[::]:0", Service::App) };
    let port = net.listen(id, bare).unwrap().port();
    let clients =
        ["127.0.0.1", "::1"].map(|host| TcpStream::connect((host, port)).unwrap().local_addr().unwrap());
    until(&mut [&mut net], |loops| probe(loops[0], id).accepted().count() == 2);
    let remotes: BTreeSet<_> = probe(&net, id).accepted().map(|(_, peer)| peer.remote).collect();
    assert_eq!(remotes, clients.into());
    assert!(probe(&net, id).accepted().all(|(_, peer)| peer.local.is_ipv4() == peer.remote.is_ipv4()));
}

#[test]
fn a_datagram_longer_than_any_of_the_link_is_dropped_alone() {
    let (mut net, _, address) = echo(listen("127.0.0.1:0", Service::Link));
    let client = client(address);
    for length in [16, 512, 2047, 2048, 9000, 60_000, 20] {
        client.send(&vec![7; length]).unwrap();
    }
    let mut got = Vec::new();
    until(&mut [&mut net], |_| {
        got.extend(answers(&client).iter().map(Vec::len));
        got.len() == 4
    });
    assert_eq!(got, [16, 512, 2047, 20]);
    assert_eq!(net.counters().datagrams_too_long, 3);
}

#[test]
fn datagrams_from_a_network_that_may_not_come_in_are_counted() {
    for service in [Service::Link, Service::Gateway] {
        let networks = Some(vec![Network::parse("127.0.0.2").unwrap()]);
        let (mut net, _, address) = echo(Listen { networks, ..listen("127.0.0.1:0", service) });
        let stranger = client(address);
        for _ in 0..10 {
            stranger.send(&[0; 16]).unwrap();
        }
        let friend = UdpSocket::bind("127.0.0.2:0").unwrap();
        friend.set_nonblocking(true).unwrap();
        friend.send_to(&[1; 16], address).unwrap();
        until(&mut [&mut net], |_| !answers(&friend).is_empty());
        assert_eq!(net.counters().unwelcome, 10);
        assert!(answers(&stranger).is_empty());
    }
}

/// What a node says last goes out before its socket closes.
#[test]
fn a_farewell_is_sent() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let mut net = Loop::new().unwrap();
    let target = Target::parse(&server.local_addr().unwrap().to_string(), 1).unwrap();
    let remote = Remote::Datagram { target, service: Service::Link };
    let id = net.add(Box::new(Probe::default()), vec![remote]);
    let conn = Conn(Conn::OURS);
    want(&mut net, id, Output::Connect { conn, way: 0 });
    until(&mut [&mut net], |loops| probe(loops[0], id).connected().count() == 1);
    for number in 0..3 {
        want(&mut net, id, Output::Send { conn, to: None, octets: vec![number; 16] });
    }
    want(&mut net, id, Output::Close { conn });
    net.step().unwrap();
    assert_eq!(answers(&server), [[0; 16], [1; 16], [2; 16]]);
    // And then there is no socket to say more on.
    want(&mut net, id, Output::Send { conn, to: None, octets: vec![9; 16] });
    net.wait(Some(Duration::from_millis(5))).unwrap();
    assert!(answers(&server).is_empty());
}

/// On another network the old socket may be bound to an address that is gone: a node that connects again has a new one.
#[test]
fn after_a_network_change_a_new_connection_is_a_new_socket() {
    let (mut net, server, address) = echo(listen("127.0.0.1:0", Service::Link));
    let target = Target::parse(&address.to_string(), 1).unwrap();
    let remote = Remote::Datagram { target, service: Service::Link };
    let mut own = Loop::new().unwrap();
    let id = own.add(Box::new(Probe::default()), vec![remote]);
    let (first, second) = (Conn(Conn::OURS | 1), Conn(Conn::OURS | 2));
    want(&mut own, id, Output::Connect { conn: first, way: 0 });
    until(&mut [&mut own, &mut net], |loops| probe(loops[0], id).connected().count() == 1);
    want(&mut own, id, Output::Send { conn: first, to: None, octets: vec![1; 16] });
    until(&mut [&mut own, &mut net], |loops| probe(loops[0], id).received().count() == 1);
    own.network_changed();
    assert!(probe(&own, id).told.iter().any(|told| matches!(told, Told::NetworkChanged)));
    want(&mut own, id, Output::Close { conn: first });
    want(&mut own, id, Output::Connect { conn: second, way: 0 });
    until(&mut [&mut own, &mut net], |loops| probe(loops[0], id).connected().count() == 2);
    want(&mut own, id, Output::Send { conn: second, to: None, octets: vec![2; 16] });
    until(&mut [&mut own, &mut net], |loops| probe(loops[0], id).received().count() == 2);
    let locals: Vec<_> = probe(&own, id).connected().map(|(_, peer)| peer.local).collect();
    assert_ne!(locals[0], locals[1]);
    let from: Vec<_> = probe(&net, server).received().map(|(_, from, _)| from.unwrap()).collect();
    assert_eq!(from, locals, "the server sees it come from the new one");
    assert_eq!(probe(&own, id).closed().count(), 0, "who closes is not told of it");
}
