//! What is spoken on a connection, and where a node's connections lead.

use std::time::Duration;

use hailpost::{
    io::{Conn, Output, Service, Transport},
    net::{
        ClientSecurity, Listen, ListenTransport, Loop, NodeId, Remote, ServerSecurity, resolver::Target, tls,
    },
    node::{Event, EventKind},
    status::Status,
};

use crate::probe::*;

fn listen(transport: ListenTransport, services: &[Service]) -> Listen {
    Listen { address: "127.0.0.1:0".parse().unwrap(), transport, networks: None, services: services.to_vec() }
}

/// What is asked of the store because of a commit has its own commit, though nothing else happens.
#[test]
fn what_a_commit_brings_about_is_committed_too() {
    let mut net = Loop::new().unwrap();
    let event = || Output::Event(Event::new(EventKind::Durable));
    let node = Probe { keeps: true, after_commit: [event(), event()].into(), ..Probe::default() };
    let id = net.add(Box::new(node), Vec::new());
    want(&mut net, id, event());
    for _ in 0..10 {
        net.step().unwrap();
        while net.next_event().is_some() {}
    }
    assert_eq!(probe(&net, id).commits, 3);
    assert_eq!(net.timeout(), None, "and then it is quiet");
}

#[test]
fn a_listener_for_nothing_is_refused() {
    let mut net = Loop::new().unwrap();
    let id = net.add(Box::new(Probe::default()), Vec::new());
    let nothing = listen(ListenTransport::Datagram, &[]);
    assert_eq!(net.listen(id, nothing).unwrap_err().status, Status::Invalid);
}

/// A node with three ways takes each by its number; one that is not there is told.
#[test]
fn a_way_leads_to_its_own_remote_and_says_what_is_spoken() {
    let mut net = Loop::new().unwrap();
    let server = net.add(Box::new(Probe::default()), Vec::new());
    let streams = net
        .listen(
            server,
            listen(ListenTransport::Stream(ServerSecurity::Plain), &[Service::App, Service::Link]),
        )
        .unwrap();
    let datagrams = net.listen(server, listen(ListenTransport::Datagram, &[Service::Link])).unwrap();
    let target = |address: std::net::SocketAddr| Target::parse(&address.to_string(), 1).unwrap();
    let (plain, service) = (ClientSecurity::Plain, Service::App);
    let remotes = vec![
        Remote::Datagram { target: target(datagrams), service: Service::Link },
        Remote::Stream { target: target(streams), security: plain, service },
    ];
    let client = net.add(Box::new(Probe::default()), remotes);
    let conns = [1, 2, 3].map(|number| Conn(Conn::OURS | number));
    for (conn, way) in conns.into_iter().zip([1, 0, 2]) {
        want(&mut net, client, Output::Connect { conn, way });
    }
    until(&mut [&mut net], |loops| {
        let (client, server) = (probe(loops[0], client), probe(loops[0], server));
        client.told.len() == 3 && server.accepted().count() == 2
    });
    let told = probe(&net, client);
    let connected = |conn| told.connected().find(|(known, _)| *known == conn).unwrap().1;
    let [stream, datagram] = [connected(conns[0]), connected(conns[1])];
    assert_eq!((stream.transport, stream.service, stream.remote), (Transport::Stream, Service::App, streams));
    assert_eq!((datagram.transport, datagram.service), (Transport::Datagram, Service::Link));
    assert_eq!(datagram.remote, datagrams);
    let (conn, fault) = told.closed().next().unwrap();
    assert_eq!((conn, fault.unwrap().status), (conns[2], Status::Config));
    let accepted: Vec<_> = probe(&net, server).accepted().map(|(_, peer)| peer).collect();
    let of = |transport| accepted.iter().find(|peer| peer.transport == transport).unwrap().service;
    assert_eq!((of(Transport::Datagram), of(Transport::Stream)), (Service::Link, Service::App));
    net.with(server, |node: &mut Probe, _| node.echoes = true).unwrap();
    for conn in &conns[..2] {
        want(&mut net, client, Output::Send { conn: *conn, to: None, octets: conn.0.to_be_bytes().to_vec() });
    }
    until(&mut [&mut net], |loops| probe(loops[0], client).received().count() == 2);
    for (conn, from, octets) in probe(&net, client).received() {
        assert_eq!((from, octets), (None, &conn.0.to_be_bytes()[..]));
    }
}

/// One TLS listener, several protocols: both ends learn which was agreed on.
#[test]
fn under_tls_the_client_chooses_what_is_spoken() {
    let identity = tls::Identity::generate("server").unwrap();
    let mut net = Loop::new().unwrap();
    let server = net.add(Box::new(Probe::default()), Vec::new());
    let config = tls::server_config(&[&identity], &[]).unwrap();
    let security = ServerSecurity::Tls(config);
    let address = net
        .listen(server, listen(ListenTransport::Stream(security), &[Service::Gateway, Service::Link]))
        .unwrap();
    let remotes = [&["hail-link/1"][..], &["hail-gw/1"], &[], &["hail-app/1"]].map(|alpn| {
        let trust = tls::ServerTrust::Pin(vec![identity.key_id()]);
        let config = tls::client_config(None, trust, alpn).unwrap();
        let security = ClientSecurity::Tls { config, server_name: "server".into() };
        let target = Target::parse(&address.to_string(), 1).unwrap();
        Remote::Stream { target, security, service: Service::Gateway }
    });
    let client = net.add(Box::new(Probe::default()), remotes.to_vec());
    for way in 0..4 {
        want(&mut net, client, Output::Connect { conn: Conn(Conn::OURS | way as u32), way });
    }
    until(&mut [&mut net], |loops| {
        let (client, server) = (probe(loops[0], client), probe(loops[0], server));
        client.told.len() == 4 && server.accepted().count() == 3
    });
    let mut seen: Vec<_> = probe(&net, server).accepted().map(|(_, peer)| peer.service).collect();
    seen.sort();
    assert_eq!(seen, [Service::Gateway, Service::Gateway, Service::Link]);
    let mut chosen: Vec<_> =
        probe(&net, client).connected().map(|(conn, peer)| (conn.0 & 3, peer.service)).collect();
    chosen.sort();
    assert_eq!(chosen, [(0, Service::Link), (1, Service::Gateway), (2, Service::Gateway)]);
    let (conn, fault) = probe(&net, client).closed().next().unwrap();
    assert_eq!((conn.0 & 3, fault.unwrap().status), (3, Status::Tls));
    // A new certificate leaves the protocols as they are.
    let other = tls::Identity::generate("server").unwrap();
    net.secure(server, &tls::server_config(&[&other], &["hail-gw/1"]).unwrap()).unwrap();
    let trust = tls::ServerTrust::Pin(vec![other.key_id()]);
    let config = tls::client_config(None, trust, &["hail-link/1"]).unwrap();
    let security = ClientSecurity::Tls { config, server_name: "server".into() };
    let target = Target::parse(&address.to_string(), 1).unwrap();
    let remote = Remote::Stream { target, security, service: Service::Link };
    let late = net.add(Box::new(Probe::default()), vec![remote]);
    want(&mut net, late, Output::Connect { conn: Conn(Conn::OURS), way: 0 });
    until(&mut [&mut net], |loops| probe(loops[0], late).connected().count() == 1);
    net.wait(Some(Duration::ZERO)).unwrap();
}

/// A TLS listener of one node, which speaks for another too.
struct Lent {
    net: Loop,
    identity: tls::Identity,
    address: std::net::SocketAddr,
    owner: NodeId,
    borrower: NodeId,
    clients: u32,
}

impl Lent {
    fn new() -> Lent {
        let identity = tls::Identity::generate("server").unwrap();
        let mut net = Loop::new().unwrap();
        let [owner, borrower] = [(); 2].map(|()| net.add(Box::new(Probe::default()), Vec::new()));
        let security = ServerSecurity::Tls(tls::server_config(&[&identity], &[]).unwrap());
        let services = [Service::Gateway, Service::Link, Service::App];
        let address = net.listen(owner, listen(ListenTransport::Stream(security), &services)).unwrap();
        net.lend(owner, Service::Link, borrower).unwrap();
        net.lend(owner, Service::App, borrower).unwrap();
        Lent { net, identity, address, owner, borrower, clients: 0 }
    }

    /// A client that wants this spoken, once it is connected and its greeting is there.
    fn client(&mut self, service: Service) -> (NodeId, Conn) {
        let trust = tls::ServerTrust::Pin(vec![self.identity.key_id()]);
        let config = tls::client_config(None, trust, &[service.alpn()]).unwrap();
        let security = ClientSecurity::Tls { config, server_name: "server".into() };
        let target = Target::parse(&self.address.to_string(), 1).unwrap();
        let remote = Remote::Stream { target, security, service };
        let client = self.net.add(Box::new(Probe::default()), vec![remote]);
        self.clients += 1;
        let conn = Conn(Conn::OURS | self.clients);
        want(&mut self.net, client, Output::Connect { conn, way: 0 });
        until(&mut [&mut self.net], |loops| !probe(loops[0], client).told.is_empty());
        let octets = service.alpn().as_bytes().to_vec();
        want(&mut self.net, client, Output::Send { conn, to: None, octets });
        (client, conn)
    }

    fn heard(&self, node: NodeId) -> Vec<String> {
        let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
        probe(&self.net, node).received().map(|(_, _, octets)| text(octets)).collect()
    }

    fn is_closed(&mut self, client: NodeId) {
        until(&mut [&mut self.net], |loops| probe(loops[0], client).closed().count() == 1);
    }
}

#[test]
fn two_nodes_are_behind_one_tls_listener() {
    let mut all = Lent::new();
    let (owner, borrower) = (all.owner, all.borrower);
    for service in [Service::Gateway, Service::Link, Service::App] {
        all.client(service);
    }
    until(&mut [&mut all.net], |loops| {
        probe(loops[0], owner).received().count() == 1 && probe(loops[0], borrower).received().count() == 2
    });
    assert_eq!(all.heard(owner), ["hail-gw/1"]);
    assert_eq!(all.heard(borrower), ["hail-link/1", "hail-app/1"]);
    let services: Vec<_> = probe(&all.net, borrower).accepted().map(|(_, peer)| peer.service).collect();
    assert_eq!(services, [Service::Link, Service::App]);
    let conns: Vec<_> = probe(&all.net, borrower).accepted().map(|(conn, _)| conn).collect();
    assert_ne!(conns[0], conns[1]);
    // Each answers on its own.
    for conn in conns {
        want(&mut all.net, borrower, Output::Send { conn, to: None, octets: b"well".to_vec() });
        want(&mut all.net, borrower, Output::Close { conn });
    }
    all.net.lend(owner, Service::Link, owner).unwrap();
    all.client(Service::Link);
    until(&mut [&mut all.net], |loops| probe(loops[0], owner).received().count() == 2);
    assert_eq!(all.heard(owner), ["hail-gw/1", "hail-link/1"], "taken back");
}

#[test]
fn a_borrower_that_goes_takes_its_streams_and_no_others() {
    let mut all = Lent::new();
    let (owner, borrower) = (all.owner, all.borrower);
    let (mine, conn) = all.client(Service::Gateway);
    let (lent, _) = all.client(Service::Link);
    until(&mut [&mut all.net], |loops| probe(loops[0], borrower).received().count() == 1);
    assert!(all.net.remove(borrower).is_some());
    all.is_closed(lent);
    let (late, _) = all.client(Service::App);
    all.is_closed(late);
    assert_eq!(all.net.counters().unclaimed, 1);
    // Its place goes to another node, which was lent nothing.
    let next = all.net.add(Box::new(Probe::default()), Vec::new());
    let (later, _) = all.client(Service::Link);
    all.is_closed(later);
    assert!(probe(&all.net, next).told.is_empty());
    want(&mut all.net, mine, Output::Send { conn, to: None, octets: b"still".to_vec() });
    until(&mut [&mut all.net], |loops| probe(loops[0], owner).received().count() == 2);
    assert_eq!(all.net.lend(owner, Service::Link, borrower).unwrap_err().status, Status::NotFound);
    all.net.lend(owner, Service::Link, next).unwrap();
    all.client(Service::Link);
    until(&mut [&mut all.net], |loops| probe(loops[0], next).received().count() == 1);
}

#[test]
fn an_owner_that_goes_leaves_what_it_lent() {
    let mut all = Lent::new();
    let (owner, borrower) = (all.owner, all.borrower);
    let (mine, _) = all.client(Service::Gateway);
    let (lent, conn) = all.client(Service::Link);
    until(&mut [&mut all.net], |loops| probe(loops[0], borrower).received().count() == 1);
    assert!(all.net.remove(owner).is_some());
    all.is_closed(mine);
    assert!(std::net::TcpStream::connect(all.address).is_err(), "its listener is closed");
    // The next node in its place has nothing of it.
    let next = all.net.add(Box::new(Probe::default()), Vec::new());
    want(&mut all.net, lent, Output::Send { conn, to: None, octets: b"still".to_vec() });
    until(&mut [&mut all.net], |loops| probe(loops[0], borrower).received().count() == 2);
    want(&mut all.net, lent, Output::Close { conn });
    until(&mut [&mut all.net], |loops| probe(loops[0], borrower).closed().count() == 1);
    assert!(probe(&all.net, next).told.is_empty());
    assert_eq!(all.net.lend(owner, Service::Link, borrower).unwrap_err().status, Status::NotFound);
}

/// What is lent counts where it came in, and is given back there.
#[test]
fn an_address_has_one_share_at_a_listener_whoever_serves_it() {
    let mut all = Lent::new();
    all.net.limits_mut().per_address = 3;
    let borrower = all.borrower;
    let (_, _) = all.client(Service::Gateway);
    let clients = [all.client(Service::Link), all.client(Service::App)];
    let (refused, _) = all.client(Service::Link);
    all.is_closed(refused);
    assert_eq!((all.net.counters().accepted, all.net.counters().too_many), (3, 1));
    let (client, conn) = clients[0];
    want(&mut all.net, client, Output::Close { conn });
    until(&mut [&mut all.net], |loops| probe(loops[0], borrower).closed().count() == 1);
    let (again, _) = all.client(Service::App);
    assert_eq!(probe(&all.net, again).connected().count(), 1);
    // The borrower's own end closes too.
    assert!(all.net.remove(borrower).is_some());
    all.client(Service::Gateway);
    let (_, _) = all.client(Service::Gateway);
    assert_eq!((all.net.counters().accepted, all.net.counters().too_many), (6, 1));
}
