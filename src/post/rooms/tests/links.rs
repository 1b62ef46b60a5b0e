//! What a room is told on its connections, by whoever has a key.

use super::*;

/// A connection to the room north as anybody with the key of south could make it.
struct Stranger {
    deframer: Deframer,
    conn: Conn,
}

impl Stranger {
    fn new(town: &mut Town, conn: u32) -> Stranger {
        town.offices[1].rooms.accepted(town.now, Conn(conn), Some(key(0)));
        Stranger { deframer: Deframer::default(), conn: Conn(conn) }
    }

    /// What it is answered, and whether the connection is closed.
    fn say(&mut self, town: &mut Town, messages: &[Message]) -> (Vec<Message>, bool) {
        let now = town.now;
        for message in messages {
            let Office { rooms, hub, .. } = &mut town.offices[1];
            rooms.received(now, self.conn, &message.encode(3), hub);
        }
        let (mut said, mut closed) = (Vec::new(), false);
        let office = &mut town.offices[1];
        loop {
            if let Some(output) = office.hub.poll_output(now) {
                office.hubbed(now, output);
            } else if let Some(output) = office.rooms.poll_output(now) {
                match output {
                    RoomsOutput::Send(conn, octets) if conn == self.conn => {
                        let frame = self.deframer.next(&mut &octets[..]).unwrap().unwrap();
                        said.push(Message::decode(&frame).unwrap());
                    }
                    RoomsOutput::Close(conn) if conn == self.conn => closed = true,
                    _ => {}
                }
            } else if let Some(fetched) = office.store.answer() {
                office.hub.fetched(now, fetched);
            } else if office.store.is_dirty() && !office.stuck {
                let through = office.store.commit().unwrap();
                office.hub.stored(now, through);
            } else {
                said.retain(|message| !matches!(message, Message::Beat { .. }));
                return (said, closed);
            }
        }
    }
}

fn join(room: &str, other: &str) -> Message {
    Message::Join { room: room.into(), other: other.into(), epoch: 7 }
}

fn replicate(sequence: u64, from: &str) -> Message {
    Message::Replicate(Box::new(Relayed {
        sequence,
        sent: u32::MAX,
        left: if sequence == 3 { 0 } else { 60 },
        kept: true,
        period: None,
        from: from.parse().unwrap(),
        to: vec!["user:anna".parse().unwrap(), "user:carl@east".parse().unwrap()],
        content_type: "text/plain".into(),
        body: b"hi".to_vec(),
    }))
}

#[test]
fn a_room_speaks_for_its_own_users_only_and_for_nobody_before_it_said_which_it_is() {
    let mut town = Town::new(&["south", "north", "east"], HubConfig::default());
    let anna = town.user(1, "anna");
    town.online(1, anna);
    for first in
        [replicate(1, "user:ben"), join("east", "north"), join("south", "west"), Message::Query(vec![])]
    {
        let (said, closed) = Stranger::new(&mut town, 100).say(&mut town, &[first]);
        assert!(closed && matches!(said[..], [Message::Refused { code: 421, .. }]), "{said:?}");
    }
    let mut stranger = Stranger::new(&mut town, 101);
    assert_eq!(stranger.say(&mut town, &[join("south", "north")]), (vec![Message::Joined], false));
    assert_eq!(town.offices[1].rooms.counters().replaced, 1, "it takes the place of the one before");
    // Whatever it says it is, it is so in its own room, and what it says goes no further.
    let (said, _) =
        stranger.say(&mut town, &[replicate(1, "user:carl@east"), replicate(1, "user:carl@east")]);
    assert_eq!(said, [Message::Ack(vec![1, 1])]);
    let came = town.handed(1, anna);
    assert_eq!((came.len(), &came[0].from), (1, &Address::User("carl@east@south".into())));
    assert!(came[0].sent <= UNIX, "nothing was sent in the time to come");
    assert_eq!(town.offices[1].hub.counters().relayed, 0);
    // A name that is none here is refused for good; what is stale is let go.
    let long = format!("user:{}", "x".repeat(60));
    assert_eq!(stranger.say(&mut town, &[replicate(2, &long)]).0, [Message::Ack(vec![2])]);
    assert_eq!(stranger.say(&mut town, &[replicate(3, "user:ben")]).0, [Message::Ack(vec![3])]);
    assert_eq!(town.handed(1, anna), []);
    let (said, closed) = stranger.say(&mut town, &[Message::Enlisted { broker: 1 }]);
    assert_eq!((said, closed, town.offices[1].rooms.counters().unexpected), (vec![], false, 1));
}

#[test]
fn every_bound_of_connections_is_reached() {
    let mut town = Town::pair();
    town.user(1, "anna");
    // One that is joined is there.
    for conn in 100..103 {
        Stranger::new(&mut town, conn);
    }
    let (said, closed) = Stranger::new(&mut town, 103).say(&mut town, &[]);
    assert!(closed && matches!(said[..], [Message::Refused { code: 507, .. }]));
    town.wait(11);
    let counters = *town.offices[1].rooms.counters();
    assert_eq!((counters.connections_full, counters.impatient), (1, 3));
    let mut stranger = Stranger::new(&mut town, 104);
    stranger.say(&mut town, &[join("south", "north")]);
    town.offices[1].stuck = true;
    let many: Vec<Message> = (0..MAX_UNANSWERED as u64 + 1).map(|at| replicate(at, "user:ben")).collect();
    let (_, closed) = stranger.say(&mut town, &many);
    assert_eq!((closed, town.offices[1].rooms.counters().pushy), (true, 1));
    let mut stranger = Stranger::new(&mut town, 105);
    let mut bent = join("south", "north").encode(0);
    bent[30] ^= 1;
    let Office { rooms, hub, .. } = &mut town.offices[1];
    rooms.received(town.now, stranger.conn, &bent, hub);
    assert!(stranger.say(&mut town, &[]).1 && town.offices[1].rooms.counters().broken == 1);
    // Nothing is held of who is gone, and a key that is nobody's is nobody's.
    let conns = town.offices[1].rooms.inward.len();
    assert!(conns <= 1);
    town.offices[1].rooms.accepted(town.now, Conn(200), Some(key(9)));
    assert_eq!(town.offices[1].rooms.inward.len(), conns);
    assert!(!town.offices[1].rooms.is_listed(None) && !town.offices[1].rooms.has(Conn(200)));
    assert_eq!(town.offices[1].name, "north");
}

#[test]
fn a_name_of_a_room_is_short_and_has_no_room_in_it() {
    assert!(is_room_name("north") && is_room_name(&"x".repeat(31)));
    for wrong in ["", "a@b", "a,b", "a:b", "a b", "*", &"x".repeat(32)] {
        assert!(!is_room_name(wrong), "{wrong:?}");
    }
}
