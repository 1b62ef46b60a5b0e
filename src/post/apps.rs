//! Applications on their connections: the text form of SPEC.md 6.3, towards the hub.
//!
//! A connection says who it is first. Then it may ask as much as it likes without waiting; every answer carries the `Id` of what
//! it answers. What others sent to the application comes between the answers, on the connection that logged in last.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    Inbox, Seat,
    hub::{Answer, Hub, Rights, Sender},
};
use crate::{
    counters::counters,
    io::Conn,
    time::Time,
    wire::{
        app::{self, Address, Reader, Request},
        post::{Frame, Presence, Sequence},
    },
};

/// Bounds of applications' connections.
#[derive(Clone, Copy, Debug)]
pub struct AppsConfig {
    /// Connections at the most.
    pub max_connections: usize,
    /// Requests of one connection that are not answered yet.
    pub max_unanswered: usize,
    /// How long a connection may go without saying who it is, or without ending what it began.
    pub patience: Duration,
}

impl Default for AppsConfig {
    fn default() -> AppsConfig {
        AppsConfig { max_connections: 1024, max_unanswered: 4096, patience: Duration::from_secs(30) }
    }
}

/// What is to be done on a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AppsOutput {
    /// Send the next octets.
    Send {
        /// Where.
        conn: Conn,
        /// What.
        octets: Vec<u8>,
    },
    /// Send what is queued, then close.
    Close {
        /// Which.
        conn: Conn,
    },
}

counters! {
    /// What applications' connections counted.
    pub struct AppsCounters {
        connections: "connections",
        connections_full: "connections closed because there were too many",
        requests: "requests",
        malformed: "requests that could not be read",
        unauthenticated: "logins refused, and requests before a login",
        impatient: "connections closed because they said nothing for too long",
        unanswered_full: "requests refused because too many of the connection were not answered",
    }
}

struct Connection {
    reader: Reader,
    /// Who it is, once it has said so.
    who: Option<Who>,
    seat: Seat,
    unanswered: usize,
    /// When it is closed unless it logs in, or ends what it began.
    due: Option<Time>,
}

struct Who {
    sender: Sender,
    rights: Rights,
    inbox: Inbox,
}

/// All connections of applications.
pub struct Apps {
    config: AppsConfig,
    connections: BTreeMap<Conn, Connection>,
    seats: BTreeMap<Seat, Conn>,
    inboxes: BTreeMap<Inbox, Seat>,
    /// Connections that are closed unless something happens first, by when.
    due: BTreeSet<(Time, Conn)>,
    next_seat: u32,
    counters: AppsCounters,
    outputs: Vec<AppsOutput>,
}

impl Apps {
    /// Nobody is connected.
    pub fn new(config: AppsConfig) -> Apps {
        Apps {
            config,
            connections: BTreeMap::new(),
            seats: BTreeMap::new(),
            inboxes: BTreeMap::new(),
            due: BTreeSet::new(),
            next_seat: 0,
            counters: AppsCounters::default(),
            outputs: Vec::new(),
        }
    }

    /// What was counted.
    pub const fn counters(&self) -> &AppsCounters {
        &self.counters
    }

    /// What is to be done, since this was asked last.
    pub fn outputs(&mut self) -> Vec<AppsOutput> {
        std::mem::take(&mut self.outputs)
    }

    /// A connection came.
    pub fn accepted(&mut self, now: Time, conn: Conn) {
        if self.connections.len() >= self.config.max_connections {
            self.counters.connections_full += 1;
            self.send(conn, app::answer(429, &[("Reason", "too many connections")]));
            return self.outputs.push(AppsOutput::Close { conn });
        }
        self.counters.connections += 1;
        self.next_seat = self.next_seat.wrapping_add(1).max(1);
        let seat = Seat::here(self.next_seat);
        let connection = Connection { reader: Reader::default(), who: None, seat, unanswered: 0, due: None };
        self.connections.insert(conn, connection);
        self.seats.insert(seat, conn);
        self.set_due(conn, Some(now + self.config.patience));
    }

    /// Octets came.
    pub fn received(&mut self, now: Time, conn: Conn, mut octets: &[u8], hub: &mut Hub) {
        let mut whole = false;
        while let Some(connection) = self.connections.get_mut(&conn) {
            let Some(request) = connection.reader.next(&mut octets) else { break };
            whole = true;
            self.counters.requests += 1;
            self.request(now, conn, request, hub);
        }
        if let Some(connection) = self.connections.get(&conn) {
            let due = match (connection.reader.is_partial(), &connection.who) {
                (false, Some(_)) => None,
                // What is begun now is not what was begun before.
                (true, Some(_)) if whole => Some(now + self.config.patience),
                _ => connection.due.or(Some(now + self.config.patience)),
            };
            self.set_due(conn, due);
        }
    }

    /// A connection is gone.
    pub fn closed(&mut self, now: Time, conn: Conn, hub: &mut Hub) {
        self.set_due(conn, None);
        let Some(connection) = self.connections.remove(&conn) else { return };
        self.seats.remove(&connection.seat);
        if let Some(who) = connection.who {
            self.leave(now, who.inbox, connection.seat, hub);
        }
    }

    /// Nobody gets what is for this inbox here any more.
    fn leave(&mut self, now: Time, inbox: Inbox, seat: Seat, hub: &mut Hub) {
        if self.inboxes.get(&inbox) == Some(&seat) {
            self.inboxes.remove(&inbox);
            hub.offline(now, inbox, seat);
        }
    }

    /// What an application logged in by holds no more: its connections are closed.
    pub fn dismiss(&mut self, now: Time, inbox: Inbox, hub: &mut Hub) {
        let is_its = |(_, connection): &(&Conn, &Connection)| {
            connection.who.as_ref().is_some_and(|who| who.inbox == inbox)
        };
        let conns: Vec<Conn> = self.connections.iter().filter(is_its).map(|(conn, _)| *conn).collect();
        conns.into_iter().for_each(|conn| self.close(now, conn, hub));
    }

    /// Puts other bounds in force, for what comes from now on.
    pub const fn reconfigure(&mut self, config: AppsConfig) {
        self.config = config;
    }

    /// The connection that gets what is for this inbox.
    pub fn seat_of(&self, inbox: Inbox) -> Option<Seat> {
        self.inboxes.get(&inbox).copied()
    }

    /// The hub answered.
    pub fn answered(&mut self, seat: Seat, id: &str, answer: &Answer) {
        let Some(&conn) = self.seats.get(&seat) else { return };
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.unanswered = connection.unanswered.saturating_sub(1);
        }
        let mut headers: Vec<(&str, &str)> = id_header(id).collect();
        if let Some(state) = answer.state.filter(|_| answer.code == 200) {
            headers.push(("State", state.text()));
        }
        self.send(conn, app::answer(answer.code, &headers));
    }

    /// The hub says where users are.
    pub fn whereabouts(&mut self, seat: Seat, id: &str, users: &[Presence]) {
        let Some(&conn) = self.seats.get(&seat) else { return };
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.unanswered = connection.unanswered.saturating_sub(1);
        }
        let lines: Vec<String> = users.iter().map(app::whereabouts).collect();
        let mut headers: Vec<(&str, &str)> = id_header(id).collect();
        headers.extend(lines.iter().map(|line| ("Presence", line.as_str())));
        self.send(conn, app::answer(200, &headers));
    }

    /// The hub has something for an application.
    pub fn frame(&mut self, seat: Seat, frame: &Frame) {
        // Of what the hub says to an inbox, an application is interested in messages.
        if let (Some(&conn), Frame::Deliver(one)) = (self.seats.get(&seat), frame) {
            self.send(conn, app::deliver(one));
        }
    }

    /// When [`Apps::handle_deadline`] is wanted.
    pub fn deadline(&self) -> Option<Time> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Closes who waited too long.
    pub fn handle_deadline(&mut self, now: Time, hub: &mut Hub) {
        while let Some(&(due, conn)) = self.due.first()
            && due <= now
        {
            self.counters.impatient += 1;
            self.close(now, conn, hub);
        }
    }

    fn request(&mut self, now: Time, conn: Conn, request: Request, hub: &mut Hub) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        if let Request::Wrong { id, why } = request {
            self.counters.malformed += 1;
            let (why_text, id) = (why.to_string(), id.unwrap_or_default());
            let mut headers: Vec<(&str, &str)> = id_header(&id).collect();
            headers.push(("Reason", &why_text));
            self.send(conn, app::answer(why.code(), &headers));
            if why.ends_connection() {
                self.close(now, conn, hub);
            }
            return;
        }
        if let Request::Auth { app, secret } = request {
            return self.login(now, conn, app, &secret, hub);
        }
        let Some(who) = &connection.who else {
            self.counters.unauthenticated += 1;
            self.send(conn, app::answer(401, &[("Reason", "say AUTH app secret first")]));
            return self.close(now, conn, hub);
        };
        if connection.unanswered >= self.config.max_unanswered {
            self.counters.unanswered_full += 1;
            let id = match &request {
                Request::Send(message) => Some(&message.id),
                Request::Cancel { id } | Request::Confirm { id } => Some(id),
                Request::Query { id, .. } | Request::Ping { id } => id.as_ref(),
                Request::Auth { .. } | Request::Wrong { .. } => None,
            };
            let headers: Vec<(&str, &str)> = id.iter().map(|id| ("Id", id.as_str())).collect();
            return self.send(conn, app::answer(429, &headers));
        }
        let seat = connection.seat;
        match request {
            Request::Send(message) => {
                connection.unanswered += 1;
                hub.take(now, &who.sender, message);
            }
            Request::Query { id, users } => {
                connection.unanswered += 1;
                let users = users.into_iter().filter_map(|address| match address {
                    Address::User(name) => Some(name),
                    Address::App(_) => None,
                });
                hub.query(seat, who.rights, id.unwrap_or_default(), users.collect());
            }
            Request::Cancel { id } => {
                connection.unanswered += 1;
                hub.cancel(now, &who.sender, &id);
            }
            Request::Confirm { id } => {
                let sequence = id.parse().ok().map(Sequence);
                let (inbox, code) = (who.inbox, if sequence.is_some() { 200 } else { 404 });
                if let Some(sequence) = sequence {
                    hub.confirm(now, inbox, &[sequence]);
                }
                self.send(conn, app::answer(code, &[("Id", &id)]));
            }
            Request::Ping { id } => {
                let headers: Vec<(&str, &str)> = id_header(id.as_deref().unwrap_or_default()).collect();
                self.send(conn, app::answer(200, &headers));
            }
            // Dealt with above.
            Request::Auth { .. } | Request::Wrong { .. } => {}
        }
    }

    fn login(&mut self, now: Time, conn: Conn, app: String, secret: &str, hub: &mut Hub) {
        let Some((inbox, rights)) = hub.admit(&app, secret) else {
            self.counters.unauthenticated += 1;
            self.send(conn, app::answer(401, &[("Reason", "no such application, or another secret")]));
            return self.close(now, conn, hub);
        };
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        let seat = connection.seat;
        let sender = Sender::App { name: app, rights, seat };
        let before = connection.who.replace(Who { sender, rights, inbox });
        self.send(conn, app::answer(200, &[]));
        if let Some(before) = before.filter(|before| before.inbox != inbox) {
            self.leave(now, before.inbox, seat, hub);
        }
        // Who is there already is handed nothing again for saying so.
        if self.inboxes.insert(inbox, seat) != Some(seat) {
            hub.online(now, inbox, seat);
        }
    }

    fn set_due(&mut self, conn: Conn, due: Option<Time>) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        if let Some(before) = std::mem::replace(&mut connection.due, due) {
            self.due.remove(&(before, conn));
        }
        self.due.extend(due.map(|due| (due, conn)));
    }

    fn close(&mut self, now: Time, conn: Conn, hub: &mut Hub) {
        self.outputs.push(AppsOutput::Close { conn });
        self.closed(now, conn, hub);
    }

    fn send(&mut self, conn: Conn, octets: Vec<u8>) {
        self.outputs.push(AppsOutput::Send { conn, octets });
    }
}

/// A request without an id is answered without one.
fn id_header(id: &str) -> impl Iterator<Item = (&str, &str)> {
    Some(("Id", id)).filter(|(_, id)| !id.is_empty()).into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        post::hub::{HubConfig, HubOutput, Open},
        rng::Seeded,
        store::{Memory, Store},
    };

    struct Office {
        hub: Hub,
        apps: Apps,
        store: Memory,
        now: Time,
        said: BTreeMap<Conn, String>,
        closed: Vec<Conn>,
    }

    impl Office {
        fn new(config: AppsConfig) -> Office {
            let store = Memory::default();
            let open = Open { now: Time::ZERO, unix: 1_700_000_000, rng: Box::new(Seeded::new(1)) };
            let hub = Hub::open(HubConfig::default(), open, &store).unwrap();
            let (said, closed) = (BTreeMap::new(), Vec::new());
            Office { hub, apps: Apps::new(config), store, now: Time::ZERO, said, closed }
        }

        fn app(&mut self, name: &str) -> String {
            let rights = Rights { send: true, broadcast: true, query: true };
            let (secret, _) = self.hub.add_app(name, rights).unwrap();
            self.settle();
            format!("AUTH {name} {secret}\r\n")
        }

        fn connect(&mut self, conn: u32) -> Conn {
            self.apps.accepted(self.now, Conn(conn));
            self.settle();
            Conn(conn)
        }

        fn say(&mut self, conn: Conn, octets: &str) -> String {
            self.apps.received(self.now, conn, octets.as_bytes(), &mut self.hub);
            self.settle();
            self.said.remove(&conn).unwrap_or_default()
        }

        fn settle(&mut self) {
            loop {
                for output in self.apps.outputs() {
                    match output {
                        AppsOutput::Send { conn, octets } => {
                            self.said
                                .entry(conn)
                                .or_default()
                                .push_str(std::str::from_utf8(&octets).unwrap());
                        }
                        AppsOutput::Close { conn } => self.closed.push(conn),
                    }
                }
                if let Some(output) = self.hub.poll_output(self.now) {
                    match output {
                        HubOutput::Store(batch) => self.store.submit(batch),
                        HubOutput::Fetch(fetch) => self.store.ask(fetch),
                        HubOutput::Send { seat, frame, .. } => self.apps.frame(seat, &frame),
                        HubOutput::Answered { seat, id, answer } => self.apps.answered(seat, &id, &answer),
                        HubOutput::Whereabouts { seat, id, users } => {
                            self.apps.whereabouts(seat, &id, &users)
                        }
                        _ => {}
                    }
                } else if let Some(fetched) = self.store.answer() {
                    self.hub.fetched(self.now, fetched);
                } else if self.store.is_dirty() {
                    let through = self.store.commit().unwrap();
                    self.hub.stored(self.now, through);
                } else {
                    return;
                }
            }
        }
    }

    fn send(id: u32, to: &str, body: &str) -> String {
        let length = body.len();
        format!("SEND HP/1\r\nId {id}\r\nTo {to}\r\nOffline store\r\nContent-Length {length}\r\n\r\n{body}")
    }

    /// As a person types it, two applications to each other.
    #[test]
    fn applications_write_to_each_other() {
        let mut office = Office::new(AppsConfig::default());
        let (news, shop) = (office.app("news"), office.app("shop"));
        let (one, two) = (office.connect(1), office.connect(2));
        assert_eq!(office.say(one, &news), "HP/1 200 OK\r\n\r\n");
        assert_eq!(office.say(one, "PING HP/1\n\n"), "HP/1 200 OK\r\n\r\n");
        let answer = office.say(one, &send(1, "app:shop", "hello"));
        assert_eq!(answer, "HP/1 200 OK\r\nId 1\r\nState stored\r\n\r\n");
        let came = office.say(two, &shop);
        assert!(came.starts_with("HP/1 200 OK\r\n\r\nMESSAGE HP/1\r\nId "), "{came}");
        assert!(came.ends_with("From app:news\r\nContent-Type text/plain\r\nContent-Length 5\r\n\r\nhello"));
        let id = came.split("Id ").nth(1).unwrap().split("\r\n").next().unwrap();
        let answer = office.say(two, &format!("CONFIRM HP/1\r\nId {id}\r\n\r\n"));
        assert_eq!(answer, format!("HP/1 200 OK\r\nId {id}\r\n\r\n"));
        office.apps.closed(office.now, two, &mut office.hub);
        let three = office.connect(3);
        assert_eq!(office.say(three, &shop), "HP/1 200 OK\r\n\r\n", "nothing waits any more");
    }

    #[test]
    fn many_requests_at_once_are_answered_each() {
        let mut office = Office::new(AppsConfig::default());
        let news = office.app("news");
        let one = office.connect(1);
        let all: String = (0..50).map(|id| send(id, "app:news", "x")).collect();
        let said =
            office.say(one, &(news + &all + "QUERY HP/1\nId q\nTo user:anna\n\nCANCEL HP/1\nId 99\n\n"));
        assert_eq!(said.matches("HP/1 200 OK").count(), 52);
        assert!(said.contains("Id q\r\nPresence user:anna offline 0\r\n"));
        assert!(said.contains("HP/1 404 Not Found\r\nId 99\r\n"));
    }

    #[test]
    fn who_does_not_say_who_it_is_or_something_else_is_sent_away() {
        let mut office = Office::new(AppsConfig::default());
        office.app("news");
        for (number, said) in
            ["PING HP/1\n\n", "AUTH news wrong\n", "AUTH nobody x\n", "hello\n\n"].iter().enumerate()
        {
            let conn = office.connect(number as u32);
            let answer = office.say(conn, said);
            assert!(answer.starts_with("HP/1 40"), "{answer}");
            assert_eq!(office.closed.pop(), Some(conn));
            assert_eq!(office.say(conn, "PING HP/1\n\n"), "");
        }
        assert_eq!(office.apps.counters().unauthenticated, 3);
    }

    #[test]
    fn every_bound_is_reached() {
        let patience = Duration::from_secs(30);
        let mut office = Office::new(AppsConfig { max_connections: 2, max_unanswered: 3, patience });
        let news = office.app("news");
        let (one, two) = (office.connect(1), office.connect(2));
        let three = office.connect(3);
        assert!(office.said.remove(&three).unwrap().starts_with("HP/1 429"));
        assert_eq!(office.closed.pop(), Some(three));
        office.say(one, &news);
        let many: String = (0..5).map(|id| send(id, "app:news", "x")).collect();
        let said = office.say(one, &many);
        assert_eq!((said.matches("HP/1 200").count(), said.matches("HP/1 429").count()), (3, 2));
        // One that logged in and is silent may stay; one that did not, or stops in the middle, may not.
        assert_eq!(office.apps.deadline(), Some(Time::ZERO + patience));
        office.now += patience;
        office.apps.handle_deadline(office.now, &mut office.hub);
        office.settle();
        assert_eq!(office.closed.pop(), Some(two));
        assert_eq!(office.apps.deadline(), None);
        office.say(one, "SEND HP/1\r\nId 1");
        office.now += patience;
        office.apps.handle_deadline(office.now, &mut office.hub);
        office.settle();
        assert_eq!(office.closed.pop(), Some(one));
        assert_eq!(office.apps.counters().impatient, 2);
    }

    #[test]
    fn a_connection_that_becomes_another_application_is_the_first_no_more() {
        let mut office = Office::new(AppsConfig::default());
        let (news, shop) = (office.app("news"), office.app("shop"));
        let one = office.connect(1);
        office.say(one, &news);
        office.say(one, &shop);
        let answer = office.say(one, &send(1, "app:news", "hello"));
        assert!(answer.contains("State stored"), "{answer}");
        office.apps.closed(office.now, one, &mut office.hub);
        let two = office.connect(2);
        assert!(office.say(two, &news).ends_with("hello"), "what waits comes, for the first time");
    }

    #[test]
    fn to_say_again_who_one_is_hands_nothing_over_again() {
        let mut office = Office::new(AppsConfig::default());
        let news = office.app("news");
        let one = office.connect(1);
        let mut said = office.say(one, &(news.clone() + &send(1, "app:news", "hello")));
        (0..50).for_each(|_| said += &office.say(one, &news));
        assert_eq!((said.matches("HP/1 200 OK").count(), said.matches("MESSAGE HP/1").count()), (52, 1));
    }

    #[test]
    fn who_always_has_begun_the_next_request_is_not_slow() {
        let mut office = Office::new(AppsConfig::default());
        let news = office.app("news");
        let one = office.connect(1);
        office.say(one, &(news + "PING HP/1\n"));
        for _ in 0..10 {
            office.now += Duration::from_secs(20);
            office.apps.handle_deadline(office.now, &mut office.hub);
            assert_eq!(office.say(one, "\nPING HP/1\n"), "HP/1 200 OK\r\n\r\n");
        }
        office.now += Duration::from_secs(30);
        office.apps.handle_deadline(office.now, &mut office.hub);
        office.settle();
        assert_eq!(office.closed, [one]);
    }
}
