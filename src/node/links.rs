//! The link's end in a node that holds sessions: its sockets and streams, and what waits because a session has no room.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use super::Event;
use crate::{
    counters::counters,
    io::{Conn, Output, Peer, Transport},
    link::{
        Closing, Deframer, Path, Server, ServerInput, ServerOutput, Session, TicketRoot, Why, framed,
        share::is_within,
    },
    status::Status,
    time::Time,
};

/// How long a stream may be there without a session on it.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long frames wait that the link had no room for, before they are tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Octets that may wait for any session while there is plenty of room: a message, and what is said beside it.
const HELD_FLOOR: usize = 128 << 10;

counters! {
    /// What an office, or a broker, counted besides its parts.
    pub struct OfficeCounters {
        bad_frames: "messages of devices that are no frames",
        streams_full: "streams closed because there were too many",
        streams_impatient: "streams closed because no session was on them for too long",
        streams_broken: "streams closed because what came on them is no datagram",
        held: "frames that waited because the link had no room for them",
        held_full: "sessions closed because too much waited for them: more than their share of what may wait for all",
    }
}

/// Octets on a stream, as datagrams.
struct Stream {
    deframer: Deframer,
    /// The connection id that came on it last.
    id: u32,
    /// When it is closed unless a session is on it.
    due: Time,
}

/// Frames that wait for one session.
#[derive(Default)]
struct Held {
    frames: VecDeque<Vec<u8>>,
    octets: usize,
}

/// What the link's end wants of who holds it.
pub(super) enum Linked {
    /// Of the driver.
    Output(Output<Event>),
    /// As [`ServerOutput::Lookup`].
    Lookup { ticket: u64, session_id: [u8; 16] },
    /// As [`ServerOutput::SessionUp`].
    Up { session: Session, principal: u64, resumed: bool },
    /// As [`ServerOutput::Message`].
    Message { session: Session, principal: u64, octets: Vec<u8> },
    /// As [`ServerOutput::Gone`]; also for a session that was closed because too much waited for it.
    Gone { session: Session, principal: u64, why: Why },
    /// As [`ServerOutput::TicketRoot`].
    TicketRoot(TicketRoot),
}

/// The link's end.
pub(super) struct Links {
    pub server: Server,
    pub counters: OfficeCounters,
    max_streams: usize,
    max_held: usize,
    /// Where datagrams go out: IPv4 and IPv6.
    sockets: [Option<Conn>; 2],
    streams: BTreeMap<Conn, Stream>,
    /// Frames that the link has no room for, in order.
    held: HashMap<Session, Held>,
    held_octets: usize,
    held_due: Option<Time>,
    ready: VecDeque<Linked>,
}

impl Links {
    pub fn new(server: Server, max_streams: usize, max_held: usize) -> Links {
        Links {
            server,
            counters: OfficeCounters::default(),
            max_streams,
            max_held,
            sockets: [None; 2],
            streams: BTreeMap::new(),
            held: HashMap::new(),
            held_octets: 0,
            held_due: None,
            ready: VecDeque::new(),
        }
    }

    /// Another server takes the place of the one there was, and of its sessions; sockets and streams stay.
    pub fn replace(&mut self, server: Server) {
        self.server = server;
        self.held.clear();
        self.held_octets = 0;
    }

    /// A socket, or a stream of a device.
    pub fn accepted(&mut self, now: Time, conn: Conn, peer: &Peer) {
        match peer.transport {
            Transport::Datagram => self.sockets[usize::from(peer.local.is_ipv6())] = Some(conn),
            Transport::Stream if self.streams.len() < self.max_streams => {
                let stream = Stream { deframer: Deframer::default(), id: 0, due: now + PATIENCE };
                self.streams.insert(conn, stream);
            }
            Transport::Stream => {
                self.counters.streams_full += 1;
                self.ready.push_back(Linked::Output(Output::Close { conn }));
            }
        }
    }

    /// Whether a connection is a device's stream.
    pub fn has(&self, conn: Conn) -> bool {
        self.streams.contains_key(&conn)
    }

    pub fn datagram(&mut self, now: Time, from: SocketAddr, octets: &[u8]) {
        self.server.handle(now, ServerInput::Datagram { from: Path::Datagram(from), octets });
    }

    /// Octets came on a device's stream.
    pub fn received(&mut self, now: Time, conn: Conn, mut octets: &[u8]) {
        let from = Path::Stream(conn.0.into());
        while let Some(stream) = self.streams.get_mut(&conn) {
            match stream.deframer.next(&mut octets) {
                None => return,
                Some(Ok(datagram)) => {
                    stream.id = datagram.first_chunk().map_or(0, |id| u32::from_be_bytes(*id));
                    self.server.handle(now, ServerInput::Datagram { from, octets: &datagram });
                }
                Some(Err(_)) => {
                    self.counters.streams_broken += 1;
                    self.close_stream(conn);
                }
            }
        }
    }

    /// Whether it was a device's stream.
    pub fn closed(&mut self, conn: Conn) -> bool {
        self.streams.remove(&conn).is_some()
    }

    pub fn expire(&mut self, now: Time) {
        self.server.handle(now, ServerInput::Deadline);
        let (streams, server) = (&mut self.streams, &self.server);
        let due = streams.iter_mut().filter(|(_, stream)| stream.due <= now);
        let over = |(conn, stream): (&Conn, &mut Stream)| {
            // Sessions end, move away and come from elsewhere, so what counts is who is there now.
            let is_used = stream.id != 0 && server.is_at(stream.id, Path::Stream(conn.0.into()));
            stream.due = now + PATIENCE;
            (!is_used).then_some(*conn)
        };
        let over: Vec<Conn> = due.filter_map(over).collect();
        for conn in over {
            self.counters.streams_impatient += 1;
            self.close_stream(conn);
        }
        if self.held_due.is_some_and(|due| due <= now) {
            self.held_due = None;
            let waiting: Vec<Session> = self.held.keys().copied().collect();
            waiting.into_iter().for_each(|session| self.send_held(now, session));
        }
    }

    pub fn deadline(&self) -> Option<Time> {
        let streams = self.streams.values().map(|stream| stream.due).min();
        [self.server.deadline(), self.held_due, streams].into_iter().flatten().min()
    }

    /// Octets that wait.
    #[cfg(test)]
    pub const fn held(&self) -> usize {
        self.held_octets
    }

    /// How much of the room for what waits is used, of a hundred.
    pub fn backlog(&self) -> u8 {
        (self.held_octets.saturating_mul(100) / self.max_held.max(1)).min(100) as u8
    }

    /// The next thing to be done, until there is none.
    pub fn poll(&mut self, now: Time) -> Option<Linked> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Some(ready);
            }
            match self.server.poll_output(now)? {
                ServerOutput::Send { to: Path::Datagram(to), octets } => {
                    let of_family = self.sockets[usize::from(to.is_ipv6())];
                    // A socket for IPv6 sends to IPv4 too.
                    if let Some(conn) = of_family.or(self.sockets[1]) {
                        return Some(Linked::Output(Output::Send { conn, to: Some(to), octets }));
                    }
                }
                ServerOutput::Send { to: Path::Stream(number), octets } => {
                    let conn = Conn(number as u32);
                    if self.streams.contains_key(&conn) {
                        return Some(Linked::Output(Output::Send {
                            conn,
                            to: None,
                            octets: framed(&octets),
                        }));
                    }
                }
                ServerOutput::Lookup { ticket, session_id } => {
                    return Some(Linked::Lookup { ticket, session_id });
                }
                ServerOutput::SessionUp { session, principal, resumed } => {
                    return Some(Linked::Up { session, principal, resumed });
                }
                ServerOutput::Message { session, principal, octets } => {
                    return Some(Linked::Message { session, principal, octets });
                }
                ServerOutput::Gone { session, principal, why } => {
                    self.forget(session);
                    return Some(Linked::Gone { session, principal, why });
                }
                ServerOutput::Writable { session } => self.send_held(now, session),
                ServerOutput::Acked { .. } => {}
                ServerOutput::TicketRoot(root) => return Some(Linked::TicketRoot(root)),
            }
        }
    }

    /// Sends on a session; what finds no room waits, behind what waits already.
    pub fn send(&mut self, now: Time, session: Session, principal: u64, octets: Vec<u8>) {
        if !self.held.contains_key(&session) {
            match self.server.send(now, session, octets.clone()) {
                Err(fault) if fault.status == Status::Full => {}
                // A session that is over has its messages delivered in the next one.
                _ => return,
            }
        }
        self.counters.held += 1;
        let own = self.held.get(&session).map_or(0, |held| held.octets);
        if !is_within(own, octets.len(), HELD_FLOOR, self.held_octets, self.max_held) {
            self.counters.held_full += 1;
            self.close(now, session, Closing::Full);
            let why = Why::Closed(Closing::Full);
            return self.ready.push_back(Linked::Gone { session, principal, why });
        }
        self.held_octets += octets.len();
        let held = self.held.entry(session).or_default();
        held.octets += octets.len();
        held.frames.push_back(octets);
        self.held_due = self.held_due.or(Some(now + AGAIN));
    }

    /// Ends a session; there is no [`Linked::Gone`] for it.
    pub fn close(&mut self, now: Time, session: Session, why: Closing) {
        self.server.close(now, session, why);
        self.forget(session);
    }

    fn send_held(&mut self, now: Time, session: Session) {
        let Some(mut waiting) = self.held.remove(&session) else { return };
        while let Some(octets) = waiting.frames.pop_front() {
            match self.server.send(now, session, octets.clone()) {
                Err(fault) if fault.status == Status::Full => {
                    waiting.frames.push_front(octets);
                    self.held.insert(session, waiting);
                    self.held_due = self.held_due.or(Some(now + AGAIN));
                    return;
                }
                _ => {
                    self.held_octets -= octets.len();
                    waiting.octets -= octets.len();
                }
            }
        }
    }

    /// A session is over.
    fn forget(&mut self, session: Session) {
        let waiting = self.held.remove(&session).unwrap_or_default();
        self.held_octets -= waiting.octets;
    }

    fn close_stream(&mut self, conn: Conn) {
        self.streams.remove(&conn);
        self.ready.push_back(Linked::Output(Output::Close { conn }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        io::Service,
        link::{
            Client, ClientConfig, ClientOutput, Credential, ServerConfig, ServerSecrets, TicketRoot,
            public_key,
        },
        rng::Seeded,
    };

    const UNIX: u64 = 1_700_000_000;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn peer(transport: Transport) -> Peer {
        let address = "192.0.2.1:7700".parse().unwrap();
        Peer { transport, local: address, remote: address, key: None, service: Service::Link }
    }

    struct Desk {
        links: Links,
        client: Client,
        now: Time,
        /// Where the client's datagrams come from: a stream, or an address.
        from: Path,
        closed: Vec<Conn>,
    }

    impl Desk {
        fn new() -> Desk {
            let tickets = TicketRoot { day: UNIX / 86_400, key: [1; 32] };
            let secrets = ServerSecrets { private: [2; 32], next_private: None, reset: [3; 32], tickets };
            let server = Server::new(ServerConfig::default(), secrets, at(0), UNIX, Seeded::new(1));
            let config =
                ClientConfig { interval: 10, ..ClientConfig::new(public_key(&[2; 32]), [4; 16], [5; 32]) };
            let mut links = Links::new(server, 4, 1 << 20);
            links.accepted(at(0), Conn(1), &peer(Transport::Datagram));
            let client = Client::new(config, Seeded::new(2));
            Desk { links, client, now: at(0), from: Path::Stream(0), closed: Vec::new() }
        }

        /// The device logs in on a stream of its own.
        fn log_in(&mut self, conn: u32) {
            self.links.accepted(self.now, Conn(conn), &peer(Transport::Stream));
            self.from = Path::Stream(conn.into());
            self.client.open(self.now);
            self.settle();
            assert!(self.client.is_up());
        }

        fn pass(&mut self, seconds: u64) {
            let end = self.now + Duration::from_secs(seconds);
            let due = |desk: &Desk| desk.links.deadline().into_iter().chain(desk.client.deadline()).min();
            while let Some(due) = due(self).filter(|due| *due <= end) {
                self.now = self.now.max(due);
                self.links.expire(self.now);
                self.client.deadline_passed(self.now);
                self.settle();
            }
            self.now = end;
        }

        fn settle(&mut self) {
            loop {
                if let Some(output) = self.client.poll_output(self.now) {
                    match (output, self.from) {
                        (ClientOutput::Send(octets), Path::Datagram(from)) => {
                            self.links.datagram(self.now, from, &octets);
                        }
                        (ClientOutput::Send(octets), Path::Stream(conn)) => {
                            self.links.received(self.now, Conn(conn as u32), &framed(&octets));
                        }
                        _ => {}
                    }
                } else if let Some(linked) = self.links.poll(self.now) {
                    match linked {
                        Linked::Output(Output::Send { to: Some(_), octets, .. }) => {
                            self.client.handle(self.now, &octets);
                        }
                        Linked::Output(Output::Send { octets, .. }) => {
                            self.client.handle(self.now, &octets[2..])
                        }
                        Linked::Output(Output::Close { conn }) => self.closed.push(conn),
                        Linked::Lookup { ticket, .. } => {
                            let credential =
                                Credential { secret: [5; 32], principal: 1, expiry: UNIX * 2, epoch: 0 };
                            self.links.server.authenticated(self.now, ticket, Ok(credential));
                        }
                        _ => {}
                    }
                } else {
                    return;
                }
            }
        }
    }

    #[test]
    fn a_stream_is_there_for_as_long_as_a_session_is_on_it() {
        let mut desk = Desk::new();
        desk.log_in(10);
        desk.pass(200);
        assert_eq!((desk.closed.clone(), desk.client.is_up()), (vec![], true));
        // The device says goodbye, and holds the stream: others may want its place.
        desk.client.close(desk.now);
        desk.settle();
        desk.pass(40);
        assert_eq!((desk.closed.clone(), desk.links.counters.streams_impatient), (vec![Conn(10)], 1));
        // It moves away from one stream, to another and to a datagram address.
        desk.closed.clear();
        desk.log_in(11);
        desk.links.accepted(desk.now, Conn(12), &peer(Transport::Stream));
        desk.from = Path::Stream(12);
        desk.client.network_changed(desk.now);
        desk.settle();
        desk.pass(100);
        assert_eq!((desk.closed.clone(), desk.client.is_up()), (vec![Conn(11)], true));
        desk.from = Path::Datagram("192.0.2.7:4000".parse().unwrap());
        desk.client.network_changed(desk.now);
        desk.settle();
        desk.pass(100);
        assert_eq!((desk.closed.clone(), desk.client.is_up()), (vec![Conn(11), Conn(12)], true));
        assert!(desk.links.streams.is_empty());
    }
}
