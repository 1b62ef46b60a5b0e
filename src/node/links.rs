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
    /// When it is closed unless a session comes up on it.
    due: Option<Time>,
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
                let stream = Stream { deframer: Deframer::default(), due: Some(now + PATIENCE) };
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
        let is_over = |(_, stream): &(&Conn, &Stream)| stream.due.is_some_and(|due| due <= now);
        let over: Vec<Conn> = self.streams.iter().filter(is_over).map(|(conn, _)| *conn).collect();
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
        let streams = self.streams.values().filter_map(|stream| stream.due).min();
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
                    self.keep_stream(session, None);
                    return Some(Linked::Up { session, principal, resumed });
                }
                ServerOutput::Message { session, principal, octets } => {
                    return Some(Linked::Message { session, principal, octets });
                }
                ServerOutput::Gone { session, principal, why } => {
                    self.forget(now, session);
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
        self.keep_stream(session, Some(now + PATIENCE));
        self.server.close(now, session, why);
        self.forget(now, session);
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
    fn forget(&mut self, now: Time, session: Session) {
        let waiting = self.held.remove(&session).unwrap_or_default();
        self.held_octets -= waiting.octets;
        self.keep_stream(session, Some(now + PATIENCE));
    }

    fn close_stream(&mut self, conn: Conn) {
        self.streams.remove(&conn);
        self.ready.push_back(Linked::Output(Output::Close { conn }));
    }

    /// The stream of a session, if it has one, is closed at this time.
    fn keep_stream(&mut self, session: Session, due: Option<Time>) {
        if let Some(Path::Stream(number)) = self.server.path(session)
            && let Some(stream) = self.streams.get_mut(&Conn(number as u32))
        {
            stream.due = due;
        }
    }
}
