//! Broadcasts and subscribers.

use super::*;

/// OM-09, OM-11: everybody who is there, each once, and nobody later.
#[test]
fn a_broadcast_reaches_who_is_there() {
    let mut desk = Desk::new(HubConfig::default());
    let (anna, ben) = (desk.user("anna", 1)[0], desk.user("ben", 1)[0]);
    let news = desk.app("news");
    desk.online(anna);
    let everybody = Message { kind: Kind::Broadcast, ..message("1", To::All, "hear") };
    assert_eq!(desk.send(&news, everybody), (200, Some(State::Routed)));
    assert_eq!(desk.bodies(anna), ["hear"]);
    desk.online(ben);
    assert_eq!(desk.bodies(ben), [""; 0]);
}

/// OM-10, O-05.
#[test]
fn a_broadcast_with_a_life_period_reaches_each_once_during_it_and_is_gone_at_its_end() {
    let mut desk = Desk::new(HubConfig::default());
    let (anna, ben) = (desk.user("anna", 1)[0], desk.user("ben", 1)[0]);
    let (carl, dora) = (desk.user("carl", 1)[0], desk.user("dora", 1)[0]);
    let news = desk.app("news");
    let lives = |id: &str, from: u64, until: u64| Message {
        kind: Kind::Broadcast,
        period: Some((UNIX + from, UNIX + until)),
        ..message(id, To::All, id)
    };
    desk.online(anna);
    assert_eq!(desk.send(&news, lives("now", 0, 1000)), STORED);
    let handed = desk.handed(anna);
    assert_eq!(handed.len(), 1);
    desk.confirm(anna, &handed);
    desk.online(ben);
    let handed = desk.handed(ben);
    assert_eq!(handed.len(), 1);
    desk.crash();
    desk.online(anna);
    desk.online(ben);
    assert_eq!(desk.bodies(anna), [""; 0], "confirmed before the crash");
    assert_eq!(desk.bodies(ben), ["now"], "not confirmed");
    assert_eq!(desk.send(&news, lives("later", 305, 500)), STORED);
    assert_eq!(desk.bodies(anna), [""; 0], "its time has not come");
    desk.wait(310);
    // Between the beginning and the moment at which everybody is told.
    desk.offline(ben);
    desk.online(ben);
    let handed = desk.handed(ben);
    assert_eq!(handed.len(), 2);
    desk.confirm(ben, &handed);
    desk.wait(60);
    assert_eq!(desk.bodies(anna), ["later"]);
    assert_eq!(desk.bodies(ben), [""; 0], "told at the login, and confirmed");
    desk.online(carl);
    assert_eq!(desk.bodies(carl), ["now", "later"]);
    desk.wait(1000);
    desk.online(dora);
    assert_eq!(desk.bodies(dora), [""; 0]);
    assert_eq!((desk.rows(rows::BROADCAST), desk.rows(rows::SEEN)), (0, 0));
}

#[test]
fn broadcasts_that_live_are_bounded() {
    let mut desk = Desk::new(HubConfig { max_broadcasts: 1, ..HubConfig::default() });
    let news = desk.app("news");
    let lives = |id: &str| Message {
        kind: Kind::Broadcast,
        period: Some((UNIX, UNIX + 100)),
        ..message(id, To::All, id)
    };
    assert_eq!(desk.send(&news, lives("1")), STORED);
    assert_eq!(desk.send(&news, lives("2")), (507, None));
    assert_eq!(desk.send(&news, lives("2")), (507, None), "a refused id is not taken");
    desk.wait(200);
    desk.crash();
    assert_eq!(desk.send(&news, lives("1")), QUEUED, "its id is remembered when it is gone");
}

/// A broadcast does not make the queue jump over what waits in it.
#[test]
fn a_broadcast_while_a_queue_waits_hides_nothing_of_it() {
    let mut desk = Desk::new(HubConfig { window: 2, ..HubConfig::default() });
    let anna = desk.user("anna", 1)[0];
    let news = desk.app("news");
    for id in 0..6 {
        desk.send(&news, message(&id.to_string(), to(&["anna"]), &id.to_string()));
    }
    desk.online(anna);
    let lives =
        Message { kind: Kind::Broadcast, period: Some((UNIX, UNIX + 100)), ..message("b", To::All, "b") };
    desk.send(&news, lives);
    let mut got = Vec::new();
    loop {
        let handed = desk.handed(anna);
        if handed.is_empty() {
            break;
        }
        got.extend(handed.iter().map(|one| String::from_utf8(one.body.clone()).unwrap()));
        desk.confirm(anna, &handed);
    }
    got.sort();
    assert_eq!(got, ["0", "1", "2", "3", "4", "5", "b"]);
}

/// OM-09: to those who subscribed, however many pages of them there are.
#[test]
fn subscribers_get_what_an_application_sends_to_them() {
    let mut desk = Desk::new(HubConfig::default());
    let news = desk.app("news");
    let count = 1203;
    for number in 0..count {
        let name = format!("user{number:05}");
        let inbox = desk.user(&name, 1)[0];
        let seat = Seat::here(inbox.0 + 1000);
        let frame = Frame::Subscribe { request: 1, app: "news".into(), on: true };
        desk.hub.frame(desk.now, inbox, seat, frame);
    }
    desk.settle();
    let followers = Message { kind: Kind::Directed, ..message("1", To::All, "hi") };
    assert_eq!(desk.send(&news, followers), STORED);
    assert_eq!(desk.kept(), (count, 1));
    let frame = Frame::Subscribe { request: 2, app: "nothing".into(), on: true };
    let somebody = desk.user("somebody", 1)[0];
    desk.hub.frame(desk.now, somebody, Seat::here(1002), frame);
    desk.settle();
    assert!(desk.frames.iter().any(|(_, frame)| *frame == Frame::Answer { request: 2, code: 404 }));
}
