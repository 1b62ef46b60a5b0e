//! An office and devices on the link, octet for octet.

use std::{net::SocketAddr, time::Duration};

use super::*;
use crate::{
    link::{Client, ClientConfig, ClientEvent, ClientOutput},
    post::hub::Sender,
    rng::Seeded,
    store::Memory,
    wire::app::{Address, Kind, Message, To},
};

const SOCKET: Conn = Conn(1);

struct Phone {
    client: Client,
    address: SocketAddr,
    /// Nothing goes to it and nothing comes from it.
    mute: bool,
    messages: usize,
}

struct House {
    office: OfficeNode,
    now: Time,
    phones: Vec<Phone>,
    tickets: usize,
}

impl House {
    fn new(config: OfficeConfig, users: &[&str]) -> House {
        let clock = (Time::ZERO, 1_700_000_000);
        let office = OfficeNode::open(config, clock, Seeded::new(1), Box::<Memory>::default()).unwrap();
        let mut house = House { office, now: Time::ZERO, phones: Vec::new(), tickets: 0 };
        let local = "192.0.2.1:7700".parse().unwrap();
        let peer = Peer {
            transport: Transport::Datagram,
            local,
            remote: "0.0.0.0:0".parse().unwrap(),
            key: None,
            service: Service::Link,
        };
        house.office.handle(Time::ZERO, Input::Accepted { conn: SOCKET, peer });
        for (at, user) in users.iter().enumerate() {
            house.office.add_user(user).unwrap();
            house.turn();
            let enrolled = house.office.add_device(user, [at as u8; 16], 0).unwrap();
            house.turn();
            let config = ClientConfig::new(house.office.server_key(), enrolled.session.0, enrolled.secret);
            let mut client = Client::new(config, Seeded::new(at as u64 + 2));
            client.open(Time::ZERO);
            let address = SocketAddr::from(([192, 0, 2, 10 + at as u8], 7));
            house.phones.push(Phone { client, address, mute: false, messages: 0 });
        }
        assert_eq!(house.tickets, 2 * users.len());
        house.run(Duration::from_secs(2));
        assert_eq!(house.office.links.server.len(), users.len());
        house
    }

    /// Carries everything to where it goes, until there is nothing.
    fn turn(&mut self) {
        loop {
            let mut went = false;
            while let Some(output) = self.office.poll_output(self.now) {
                went = true;
                match output {
                    Output::Send { to: Some(to), octets, .. } => {
                        let phone = self.phones.iter_mut().find(|phone| phone.address == to);
                        if let Some(phone) = phone.filter(|phone| !phone.mute) {
                            phone.client.handle(self.now, &octets);
                        }
                    }
                    Output::Event(event) => {
                        self.tickets += usize::from(event.kind() == EventKind::Durable);
                    }
                    _ => {}
                }
            }
            went |= self.office.flush(self.now);
            for phone in &mut self.phones {
                while let Some(output) = phone.client.poll_output(self.now) {
                    match output {
                        ClientOutput::Send(octets) if !phone.mute => {
                            went = true;
                            let from = Some(phone.address);
                            self.office
                                .handle(self.now, Input::Received { conn: SOCKET, from, octets: &octets });
                        }
                        ClientOutput::Event(ClientEvent::Message(octets)) => {
                            let is_message = matches!(Frame::decode(&octets), Some(Frame::Deliver(_)));
                            phone.messages += usize::from(is_message);
                        }
                        _ => {}
                    }
                }
            }
            if !went {
                return;
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(20);
            self.office.handle(self.now, Input::Deadline);
            self.phones.iter_mut().for_each(|phone| phone.client.deadline_passed(self.now));
            self.turn();
        }
    }

    fn send(&mut self, id: usize, user: &str) {
        let rights = Rights { send: true, ..Rights::default() };
        let sender = Sender::App { name: "news".into(), rights, seat: Seat::here(1) };
        let message = Message {
            id: id.to_string(),
            from: None,
            to: To::Named(vec![Address::User(user.into())]),
            kind: Kind::One,
            store: true,
            ttl: 3600,
            period: None,
            content_type: "text/plain".into(),
            body: vec![7; 60_000],
        };
        self.office.hub.take(self.now, &sender, message);
        self.turn();
    }
}

/// Devices that acknowledge nothing are closed when they hold up more than their share; nobody else is.
#[test]
fn who_holds_up_more_than_a_share_is_closed_and_the_others_are_served() {
    let config = OfficeConfig { max_held: 2 << 20, ..OfficeConfig::default() };
    let mut house = House::new(config, &["anna", "ben", "carl"]);
    house.phones[0].mute = true;
    house.phones[1].mute = true;
    for id in 0..40 {
        house.send(id, if id % 2 == 0 { "anna" } else { "ben" });
    }
    assert_eq!(house.office.links.counters.held_full, 2);
    assert_eq!(house.office.links.held(), 0);
    for id in 100..103 {
        house.send(id, "carl");
        house.run(Duration::from_secs(2));
    }
    assert_eq!((house.phones[2].messages, house.office.links.server.len()), (3, 1));
    // What they did not get waits for them.
    assert_eq!(house.office.hub.waiting_count(), 43);
}

/// All are told, in portions, and nobody new is let in.
#[test]
fn an_office_that_leaves_sends_everybody_away() {
    let mut house = House::new(OfficeConfig::default(), &["anna", "ben"]);
    house.office.leave();
    house.turn();
    assert_eq!(house.office.links.server.len(), 0);
    assert!(house.phones.iter().all(|phone| !phone.client.is_up()));
    house.run(Duration::from_secs(30));
    assert_eq!(house.office.links.server.len(), 0);
    assert!(house.office.links.server.counters().refused > 0);
}
