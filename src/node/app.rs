//! An application of a post office: its end of the text form, on one connection.

use super::{Event, EventKind, Field, Node};
use crate::{
    io::{Input, Output},
    post::app::{App, AppConfig, AppCounters, AppEvent, AppOutput, Open},
    status::Fault,
    time::Time,
    wire::{app::Message, post::Sequence},
};

/// What the office answers who says a wrong secret.
const UNAUTHORISED: u64 = 401;

/// An application.
pub struct AppNode {
    app: App,
    /// The way of the next connection.
    way: usize,
    ways: usize,
    up: bool,
}

impl AppNode {
    /// An application that connects in the next turn, by so many ways: after a connection that was not made, or on which no
    /// login was answered, by the next. Fails as [`App::new`].
    pub fn new(config: AppConfig, open: Open, ways: usize) -> Result<AppNode, Fault> {
        Ok(AppNode { app: App::new(config, open)?, way: 0, ways: ways.max(1), up: false })
    }

    /// Sends a message, under its id, or under one that is made if it is empty; an event `answered` tells the end. Fails as
    /// [`App::send`].
    pub fn send(&mut self, message: Message) -> Result<String, Fault> {
        self.app.send(message)
    }

    /// Asks where users are: an event `presence` for each, and then `answered`. Fails as [`App::query`].
    pub fn query(&mut self, users: &[String]) -> Result<String, Fault> {
        self.app.query(users)
    }

    /// Withdraws a message: an event `answered` with its id tells, after that of the message itself. Fails as [`App::cancel`].
    pub fn cancel(&mut self, id: &str) -> Result<(), Fault> {
        self.app.cancel(id)
    }

    /// A message is dealt with. Fails as [`App::confirm`].
    pub fn confirm(&mut self, sequence: Sequence) -> Result<(), Fault> {
        self.app.confirm(sequence)
    }

    /// Ends the connection, when what was said is sent, and stays away.
    pub fn close(&mut self) {
        self.app.close();
    }

    /// Whether the office knows us.
    pub fn is_up(&self) -> bool {
        self.app.is_up()
    }

    /// Requests and confirmations that are not answered: with none, nothing is lost by [`AppNode::close`].
    pub fn pending(&self) -> usize {
        self.app.pending()
    }

    /// What was counted.
    pub const fn counters(&self) -> &AppCounters {
        self.app.counters()
    }

    fn event(&mut self, event: AppEvent) -> Event {
        match event {
            AppEvent::Up => {
                self.up = true;
                Event::new(EventKind::LoggedIn).with_u64(Field::Resumed, 0)
            }
            AppEvent::Down(fault) => {
                // The way that led there is tried first; one that did not is tried last.
                if !std::mem::take(&mut self.up) {
                    self.way = (self.way + 1) % self.ways;
                }
                Event::new(EventKind::Down).with_fault(fault)
            }
            AppEvent::Refused { reason } => Event::new(EventKind::Refused)
                .with_u64(Field::Reason, UNAUTHORISED)
                .with_text(Field::Text, reason),
            AppEvent::Answered { id, code, state, reason, .. } => {
                let event = Event::new(EventKind::Answered)
                    .with_text(Field::Id, id)
                    .with_u64(Field::Code, code.into());
                match state {
                    Some(state) => event.with_text(Field::State, state.text()),
                    None if code != 200 => event.with_text(Field::Text, reason),
                    None => event,
                }
            }
            AppEvent::Message(delivery) => Event::new(EventKind::Message).with_delivery(delivery),
            AppEvent::Presence { id, presence } => {
                Event::new(EventKind::Presence).with_text(Field::Id, id).with_presence(presence)
            }
            AppEvent::Writable => Event::new(EventKind::Writable),
        }
    }
}

impl Node for AppNode {
    fn handle(&mut self, now: Time, input: Input<'_>) {
        match input {
            Input::Connected { conn, .. } => self.app.connected(now, conn),
            Input::Received { conn, octets, .. } => self.app.received(now, conn, octets),
            Input::Closed { conn, fault } => self.app.closed(now, conn, fault),
            Input::NetworkChanged => {
                self.way = 0;
                self.app.network_changed(now);
            }
            Input::Deadline => self.app.handle_deadline(now),
            // Nobody connects to an application, and it has no store, and nothing that is kept until a date.
            Input::Accepted { .. } | Input::Stored { .. } | Input::Clock { .. } => {}
        }
    }

    fn poll_output(&mut self, _now: Time) -> Option<Output<Event>> {
        Some(match self.app.poll_output()? {
            AppOutput::Connect { conn } => Output::Connect { conn, way: self.way },
            AppOutput::Send { conn, octets } => Output::Send { conn, to: None, octets },
            AppOutput::Close { conn } => Output::Close { conn },
            AppOutput::Event(event) => Output::Event(self.event(event)),
        })
    }

    fn flush(&mut self, _now: Time) -> bool {
        false
    }

    fn deadline(&self) -> Option<Time> {
        self.app.deadline()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        io::{Conn, Peer, Service, Transport},
        rng::Seeded,
        status::Status,
        wire::{
            app::{Address, To, answer, deliver, whereabouts},
            post::{Delivery, Presence},
        },
    };

    struct Turn {
        node: AppNode,
        now: Time,
        conn: Option<(Conn, usize)>,
        said: Vec<u8>,
    }

    impl Turn {
        fn new(ways: usize) -> Turn {
            let (name, secret) = ("news".to_owned(), "s3cret".to_owned());
            let open = Open { now: Time::ZERO, name, secret, rng: Box::new(Seeded::new(1)) };
            let node = AppNode::new(AppConfig::default(), open, ways).unwrap();
            Turn { node, now: Time::ZERO, conn: None, said: Vec::new() }
        }

        fn take(&mut self, input: Input<'_>) -> Vec<Event> {
            self.node.handle(self.now, input);
            let mut events = Vec::new();
            while let Some(output) = self.node.poll_output(self.now) {
                match output {
                    Output::Connect { conn, way } => self.conn = Some((conn, way)),
                    Output::Send { octets, .. } => self.said.extend(octets),
                    Output::Close { .. } => self.conn = None,
                    Output::Event(event) => events.push(event),
                    Output::Reach { .. } | Output::Store(_) => panic!("an application does not say this"),
                }
            }
            assert!(!self.node.flush(self.now));
            events
        }

        fn due(&mut self) -> usize {
            self.now = self.now.max(self.node.deadline().unwrap());
            self.take(Input::Deadline);
            self.conn.expect("it connects").1
        }

        fn connected(&mut self) {
            let end = "127.0.0.1:7701".parse().unwrap();
            let peer = Peer {
                transport: Transport::Stream,
                service: Service::App,
                local: end,
                remote: end,
                key: None,
            };
            let conn = self.conn.unwrap().0;
            assert_eq!(self.take(Input::Connected { conn, peer }), []);
        }

        fn hear(&mut self, octets: &[u8]) -> Vec<Event> {
            let conn = self.conn.unwrap().0;
            self.take(Input::Received { conn, from: None, octets })
        }

        fn closed(&mut self) {
            let conn = self.conn.take().unwrap().0;
            let fault = Some(Fault::from(Status::Connect));
            let events = self.take(Input::Closed { conn, fault });
            assert_eq!(events[0].kind(), EventKind::Down);
        }
    }

    #[test]
    fn every_event_has_its_fields() {
        let mut turn = Turn::new(1);
        turn.due();
        turn.connected();
        let events = turn.hear(&answer(200, &[]));
        assert_eq!(events, [Event::new(EventKind::LoggedIn).with_u64(Field::Resumed, 0)]);
        assert!(turn.node.is_up());
        let message = Message::new(To::Named(vec![Address::User("anna".into())]), b"hello".to_vec());
        let id = turn.node.send(message).unwrap();
        let asked = turn.node.query(&["anna".into()]).unwrap();
        turn.node.cancel("x").unwrap();
        assert_eq!(turn.node.pending(), 3);
        let delivery = Delivery {
            sequence: Sequence(9),
            redelivered: true,
            from: Address::User("anna".into()),
            sent: 5,
            content_type: "text/plain".into(),
            body: b"hi".to_vec(),
        };
        let there = Presence { user: "anna".into(), online: true, since: 7 };
        let said = [
            answer(200, &[("Id", &id), ("State", "stored")]),
            deliver(&delivery),
            answer(200, &[("Id", &asked), ("Presence", &whereabouts(&there))]),
            answer(404, &[("Id", "x")]),
        ];
        let answered = |id: &str, code| {
            Event::new(EventKind::Answered).with_text(Field::Id, id.to_owned()).with_u64(Field::Code, code)
        };
        let expected = [
            answered(&id, 200).with_text(Field::State, "stored"),
            Event::new(EventKind::Message)
                .with_u64(Field::Sequence, 9)
                .with_text(Field::Sender, "user:anna")
                .with_u64(Field::Sent, 5)
                .with_u64(Field::Redelivered, 1)
                .with_text(Field::ContentType, "text/plain")
                .with_bytes(Field::Body, &b"hi"[..]),
            Event::new(EventKind::Presence)
                .with_text(Field::Id, asked.clone())
                .with_text(Field::User, "anna")
                .with_u64(Field::Online, 1)
                .with_u64(Field::Since, 7),
            answered(&asked, 200),
            answered("x", 404).with_text(Field::Text, "Not Found"),
        ];
        assert_eq!(turn.hear(&said.concat()), expected);
        turn.node.confirm(Sequence(9)).unwrap();
        assert_eq!(turn.node.counters().confirmed, 1);
        turn.take(Input::NetworkChanged);
        assert!(turn.said.ends_with(b"CONFIRM HP/1\r\nId 9\r\n\r\n"));
        turn.node.close();
        turn.take(Input::NetworkChanged);
        assert_eq!((turn.conn, turn.node.deadline()), (None, None));
    }

    #[test]
    fn the_next_way_is_tried_where_none_led_to_a_login() {
        let mut turn = Turn::new(2);
        assert_eq!(turn.due(), 0);
        turn.closed();
        assert_eq!(turn.due(), 1);
        turn.connected();
        turn.hear(&answer(200, &[]));
        turn.closed();
        assert_eq!(turn.due(), 1, "where it was");
        turn.connected();
        turn.closed();
        assert_eq!(turn.due(), 0);
        turn.closed();
        turn.take(Input::NetworkChanged);
        assert_eq!(turn.due(), 0, "the better way first");
        turn.connected();
        let events = turn.hear(&answer(401, &[("Reason", "another secret")]));
        let refused = Event::new(EventKind::Refused).with_u64(Field::Reason, 401);
        assert_eq!(events, [refused.with_text(Field::Text, "another secret")]);
    }
}
