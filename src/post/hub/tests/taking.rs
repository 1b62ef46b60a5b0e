//! What is taken, refused, bounded, withdrawn.

use super::*;

/// OM-04, OM-05: the sender's choice, and the user's.
#[test]
fn what_is_not_to_be_kept_is_passed_on_or_dropped() {
    let mut desk = Desk::new(HubConfig::default());
    let anna = desk.user("anna", 1)[0];
    let news = desk.app("news");
    let passing = |id: &str| Message { store: false, ..message(id, to(&["anna"]), id) };
    assert_eq!(desk.send(&news, passing("1")), (200, Some(State::Dropped)));
    desk.online(anna);
    assert_eq!(desk.send(&news, passing("2")), (200, Some(State::Routed)));
    assert_eq!(desk.bodies(anna), ["2"]);
    assert_eq!(desk.kept(), (0, 0));
    let frame = Frame::Setting { request: 5, keep: false };
    desk.hub.frame(desk.now, anna, Seat::here(anna.0 + 1000), frame);
    desk.settle();
    assert!(desk.frames.contains(&(anna, Frame::Answer { request: 5, code: 200 })));
    desk.offline(anna);
    assert_eq!(desk.send(&news, message("3", to(&["anna"]), "3")), (200, Some(State::Dropped)));
    desk.crash();
    assert_eq!(desk.send(&news, message("4", to(&["anna"]), "4")), (200, Some(State::Dropped)));
}

#[test]
fn an_id_is_taken_once() {
    let mut desk = Desk::new(HubConfig::default());
    let anna = desk.user("anna", 1)[0];
    let (news, weather) = (desk.app("news"), desk.app("weather"));
    assert_eq!(desk.send(&news, message("1", to(&["anna"]), "hello")), STORED);
    assert_eq!(desk.send(&news, message("1", to(&["anna"]), "hello")), QUEUED);
    assert_eq!(desk.send(&news, message("1", to(&["anna"]), "other")), (409, None));
    assert_eq!(desk.send(&weather, message("1", to(&["anna"]), "other")), STORED);
    desk.crash();
    assert_eq!(desk.send(&news, message("1", to(&["anna"]), "hello")), QUEUED);
    desk.online(anna);
    let handed = desk.handed(anna);
    assert_eq!(handed.len(), 2);
    desk.confirm(anna, &handed);
    assert_eq!(
        desk.send(&news, message("1", to(&["anna"]), "hello")),
        QUEUED,
        "when it is long delivered, too"
    );
    assert_eq!(desk.bodies(anna), [""; 0]);
    // While the first is on its way to the disk.
    desk.stuck = true;
    for body in ["hello", "hello", "other"] {
        desk.hub.take(desk.now, &news, message("2", to(&["anna"]), body));
    }
    desk.settle();
    assert_eq!(desk.answers.pop(), Some(("2".into(), 409, None)));
    assert!(desk.answers.is_empty());
    desk.stuck = false;
    desk.settle();
    assert_eq!(desk.answers.len(), 2);
    assert_eq!(desk.bodies(anna), ["hello"]);
    desk.wait(3600 + 86_400 + 120);
    assert_eq!(desk.rows(rows::KNOWN), 0, "forgotten in the end");
}

#[test]
fn ids_remembered_are_bounded() {
    let mut desk = Desk::new(HubConfig { max_known: 3, ..HubConfig::default() });
    desk.user("anna", 1);
    let news = desk.app("news");
    for id in 0..5 {
        desk.send(&news, message(&id.to_string(), to(&["anna"]), "x"));
    }
    assert_eq!(desk.hub.counters().known_evicted, 2);
    assert_eq!(desk.send(&news, message("4", to(&["anna"]), "x")), QUEUED);
    assert_eq!(desk.send(&news, message("0", to(&["anna"]), "x")), STORED, "forgotten");
}

#[test]
fn who_may_not_and_what_cannot_be_is_refused_by_a_code() {
    let mut desk = Desk::new(HubConfig::default());
    desk.user("anna", 1);
    let news = desk.app("news");
    assert_eq!(desk.send(&news, message("1", to(&["nobody"]), "x")), (404, None));
    assert_eq!(desk.send(&news, message("1", to(&["anna"]), "x")), STORED, "a refused id is not taken");
    let claimed = Message { from: Some(Address::App("bank".into())), ..message("2", to(&["anna"]), "x") };
    assert_eq!(desk.send(&news, claimed), (403, None));
    let Sender::App { name, seat, .. } = news.clone() else { panic!() };
    let mute = Sender::App { name, seat, rights: Rights::default() };
    assert_eq!(desk.send(&mute, message("3", to(&["anna"]), "x")), (403, None));
    let everybody = Message { kind: Kind::Broadcast, ..message("4", To::All, "x") };
    let limited =
        Sender::App { name: "news".into(), seat, rights: Rights { send: true, ..Rights::default() } };
    assert_eq!(desk.send(&limited, everybody), (403, None));
    desk.hub.query(seat, Rights::default(), "q".into(), vec!["anna".into()]);
    desk.settle();
    assert_eq!(desk.answers.pop(), Some(("q".into(), 403, None)));
}

#[test]
fn too_much_at_once_is_refused_and_nothing_is_lost() {
    let mut desk = Desk::new(HubConfig { max_pending: 2, ..HubConfig::default() });
    desk.user("anna", 1);
    let news = desk.app("news");
    desk.stuck = true;
    for id in ["1", "2", "3"] {
        desk.hub.take(desk.now, &news, message(id, to(&["anna"]), id));
    }
    desk.settle();
    assert_eq!(desk.answers, [("3".into(), 507, None)]);
    desk.stuck = false;
    desk.settle();
    assert_eq!(desk.answers.len(), 3);
    assert_eq!((desk.kept(), desk.hub.counters().pending_full), ((2, 2), 1));
}

/// Devices write to users, and to applications.
#[test]
fn a_device_sends_to_a_user_and_to_an_application_once() {
    let mut desk = Desk::new(HubConfig::default());
    let (anna, ben) = (desk.user("anna", 1)[0], desk.user("ben", 1)[0]);
    desk.app("shop");
    desk.online(anna);
    let put = |number: u64, to: Address| {
        Frame::Put(crate::wire::post::Put {
            number,
            to: To::Named(vec![to]),
            kind: Kind::One,
            store: true,
            ttl: 60,
            content_type: "text/plain".into(),
            body: b"hi".to_vec(),
        })
    };
    for _ in 0..2 {
        let frame = put(1, Address::User("ben".into()));
        desk.hub.frame(desk.now, anna, Seat::here(anna.0 + 1000), frame);
        desk.settle();
    }
    let frame = put(2, Address::App("shop".into()));
    desk.hub.frame(desk.now, anna, Seat::here(anna.0 + 1000), frame);
    desk.settle();
    let answers = desk.frames.iter().filter_map(|(_, frame)| match frame {
        Frame::PutAnswer { number, code, .. } => Some((*number, *code)),
        _ => None,
    });
    assert_eq!(answers.collect::<Vec<_>>(), [(1, 200), (1, 200), (2, 200)]);
    desk.online(ben);
    let handed = desk.handed(ben);
    assert_eq!(handed.len(), 1);
    assert_eq!(handed[0].from, Address::User("anna".into()));
    assert_eq!(desk.kept(), (2, 2));
}

#[test]
fn a_message_is_withdrawn_from_whoever_was_not_handed_it() {
    let mut desk = Desk::new(HubConfig::default());
    let (anna, ben) = (desk.user("anna", 1)[0], desk.user("ben", 1)[0]);
    let news = desk.app("news");
    let cancel = |desk: &mut Desk, id: &str| {
        desk.hub.cancel(desk.now, &news, id);
        desk.settle();
        desk.answers.pop().unwrap().1
    };
    assert_eq!(cancel(&mut desk, "1"), 404);
    let news = desk.app("weather");
    let cancel = |desk: &mut Desk, id: &str| {
        desk.hub.cancel(desk.now, &news, id);
        desk.settle();
        desk.answers.pop().unwrap().1
    };
    desk.send(&news, message("1", to(&["anna"]), "1"));
    assert_eq!(cancel(&mut desk, "1"), 200);
    assert_eq!(desk.kept(), (0, 0));
    assert_eq!(cancel(&mut desk, "1"), 404, "it is gone");
    desk.online(anna);
    desk.send(&news, message("2", to(&["anna"]), "2"));
    assert_eq!(cancel(&mut desk, "2"), 409, "it was handed over");
    desk.send(&news, message("3", to(&["anna", "ben"]), "3"));
    assert_eq!(cancel(&mut desk, "3"), 409, "one has it");
    desk.online(ben);
    assert_eq!(desk.bodies(ben), [""; 0], "and the other does not get it any more");
    let handed = desk.handed(anna);
    desk.confirm(anna, &handed);
    assert_eq!(desk.kept(), (0, 0));
}

#[test]
fn what_waits_in_all_is_bounded_and_what_waits_is_not_lost() {
    let mut desk = Desk::new(HubConfig { max_stored: 3, ..HubConfig::default() });
    let anna = desk.user("anna", 2);
    desk.user("ben", 1);
    let news = desk.app("news");
    assert_eq!(desk.send(&news, message("1", to(&["anna"]), "1")), STORED);
    assert_eq!(desk.send(&news, message("2", to(&["anna"]), "2")), (507, None));
    assert_eq!(desk.send(&news, message("3", to(&["ben"]), "3")), STORED);
    assert_eq!(desk.send(&news, message("4", to(&["ben"]), "4")), (507, None));
    assert_eq!((desk.hub.counters().stored_full, desk.hub.waiting_count()), (2, 3));
    desk.online(anna[0]);
    let handed = desk.handed(anna[0]);
    desk.confirm(anna[0], &handed);
    assert_eq!(desk.send(&news, message("4", to(&["ben"]), "4")), STORED, "a refused id is not taken");
    desk.config.max_stored = 1;
    desk.crash();
    assert_eq!(desk.hub.waiting_count(), 3, "what was acknowledged is kept under a lower bound");
}

/// A walk through many queues goes on where it stopped.
#[test]
fn all_that_expired_leaves_however_much_it_is() {
    let mut desk = Desk::new(HubConfig::default());
    for number in 0..100 {
        desk.user(&format!("user{number}"), 1);
    }
    let news = desk.app("news");
    for id in 0..40_000u32 {
        let ttl = if id % 400 == 0 { 7200 } else { 30 };
        let message = message(&id.to_string(), to(&[&format!("user{}", id % 100)]), "x");
        desk.hub.take(desk.now, &news, Message { ttl, ..message });
        if id % 10_000 == 9_999 {
            desk.settle();
        }
    }
    assert_eq!(desk.hub.waiting_count(), 40_000);
    desk.wait(100);
    assert_eq!((desk.kept(), desk.hub.counters().expired), ((100, 100), 39_900));
}

#[test]
fn a_message_repeated_while_it_waits_is_answered_as_often() {
    let mut desk = Desk::new(HubConfig::default());
    desk.user("anna", 1);
    let news = desk.app("news");
    desk.stuck = true;
    for _ in 0..20 {
        desk.hub.take(desk.now, &news, message("1", to(&["anna"]), "x"));
    }
    desk.stuck = false;
    desk.settle();
    let with = |code: u16| desk.answers.iter().filter(|(_, given, _)| *given == code).count();
    assert_eq!((with(200), with(429)), (16, 4));
}
