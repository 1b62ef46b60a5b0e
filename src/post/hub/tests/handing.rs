//! Handing over, confirming, expiring, crashing.

use super::*;

/// OM-01, OM-03, OM-06, OM-07.
#[test]
fn what_is_kept_for_who_is_away_is_handed_over_at_login_and_leaves_when_confirmed() {
    let mut desk = Desk::new(HubConfig::default());
    let anna = desk.user("anna", 1)[0];
    let news = desk.app("news");
    assert_eq!(desk.send(&news, message("1", to(&["anna"]), "first")), STORED);
    assert_eq!(desk.send(&news, message("2", to(&["anna"]), "second")), STORED);
    desk.online(anna);
    let handed = desk.handed(anna);
    assert_eq!(handed.iter().map(|one| &one.body[..]).collect::<Vec<_>>(), [&b"first"[..], b"second"]);
    assert!(handed.iter().all(|one| !one.redelivered && one.from == Address::App("news".into())));
    assert_eq!(desk.kept(), (2, 2));
    desk.confirm(anna, &handed);
    assert_eq!(desk.kept(), (0, 0));
    desk.offline(anna);
    desk.online(anna);
    assert_eq!(desk.handed(anna), []);
}

/// OM-01: the answer waits for the disk, and so does the receiver.
#[test]
fn nothing_is_acknowledged_or_handed_over_before_it_is_durable() {
    let mut desk = Desk::new(HubConfig::default());
    let anna = desk.user("anna", 1)[0];
    let news = desk.app("news");
    desk.online(anna);
    desk.stuck = true;
    desk.hub.take(desk.now, &news, message("1", to(&["anna"]), "hello"));
    desk.settle();
    assert!(desk.answers.is_empty() && desk.handed(anna).is_empty());
    desk.stuck = false;
    desk.settle();
    assert_eq!(desk.answers.pop(), Some(("1".into(), 200, Some(State::Queued))));
    assert_eq!(desk.bodies(anna), ["hello"]);
}

#[test]
fn a_crash_loses_nothing_that_was_acknowledged_and_shows_again_only_what_was_not_confirmed() {
    let mut desk = Desk::new(HubConfig::default());
    let anna = desk.user("anna", 1)[0];
    let news = desk.app("news");
    for number in 0..5 {
        desk.send(&news, message(&number.to_string(), to(&["anna"]), &number.to_string()));
    }
    desk.online(anna);
    let handed = desk.handed(anna);
    desk.confirm(anna, &handed[..2]);
    desk.crash();
    assert_eq!(desk.hub.online_count(), 0);
    desk.online(anna);
    assert_eq!(desk.bodies(anna), ["2", "3", "4"]);
    let news = desk.app("weather");
    desk.send(&news, message("1", to(&["anna"]), "later"));
    let later = desk.handed(anna);
    assert!(later[0].sequence > handed[4].sequence, "numbers are never used again");
}

#[test]
fn what_was_handed_over_and_not_confirmed_comes_again_and_says_so() {
    let mut desk = Desk::new(HubConfig::default());
    let anna = desk.user("anna", 1)[0];
    let news = desk.app("news");
    desk.send(&news, message("1", to(&["anna"]), "hello"));
    desk.online(anna);
    assert!(!desk.handed(anna)[0].redelivered);
    desk.offline(anna);
    desk.online(anna);
    assert!(desk.handed(anna)[0].redelivered);
}

/// OM-08.
#[test]
fn what_has_expired_is_not_handed_over_and_leaves() {
    let mut desk = Desk::new(HubConfig::default());
    let anna = desk.user("anna", 1)[0];
    desk.user("ben", 1);
    let news = desk.app("news");
    let brief = |id: &str, to: To| Message { ttl: 30, ..message(id, to, id) };
    desk.send(&news, brief("1", to(&["anna"])));
    desk.send(&news, brief("2", to(&["anna", "ben"])));
    desk.send(&news, message("3", to(&["anna"]), "3"));
    desk.now += Duration::from_secs(31);
    desk.online(anna);
    assert_eq!(desk.bodies(anna), ["3"], "before the sweep");
    desk.offline(anna);
    desk.wait(130);
    assert_eq!(desk.rows(rows::MESSAGE), 1, "the shared one too");
    desk.online(anna);
    assert_eq!(desk.bodies(anna), ["3"]);
    assert_eq!(desk.hub.counters().expired, 3);
}

/// OM-09, OM-10, O-04: each device of each user gets its own, and the body goes with the last.
#[test]
fn a_message_for_several_is_kept_once_until_all_have_it() {
    let mut desk = Desk::new(HubConfig::default());
    let anna = desk.user("anna", 2);
    let ben = desk.user("ben", 1)[0];
    let news = desk.app("news");
    assert_eq!(desk.send(&news, message("1", to(&["anna", "ben", "nobody"]), "hi")), STORED);
    assert_eq!(desk.kept(), (3, 1));
    for (inbox, left) in [(anna[0], (2, 1)), (ben, (1, 1)), (anna[1], (0, 0))] {
        desk.online(inbox);
        let handed = desk.handed(inbox);
        assert_eq!(handed.len(), 1);
        desk.confirm(inbox, &handed);
        assert_eq!(desk.kept(), left);
        if inbox == ben {
            desk.crash();
        }
    }
}

/// DECISIONS.md 5: past its quota a device is stale; its next login is told, the user's other devices notice nothing.
#[test]
fn a_device_past_its_quota_is_emptied_and_told() {
    let config = HubConfig { max_messages: 300, ..HubConfig::default() };
    let mut desk = Desk::new(config);
    let anna = desk.user("anna", 2);
    let news = desk.app("news");
    desk.online(anna[0]);
    for id in 0..310 {
        desk.send(&news, message(&id.to_string(), to(&["anna"]), "x"));
        let handed = desk.handed(anna[0]);
        assert_eq!(handed.len(), 1);
        desk.confirm(anna[0], &handed);
        if id == 305 {
            desk.crash();
            desk.online(anna[0]);
        }
    }
    assert_eq!(desk.kept(), (0, 0));
    assert!(desk.events.contains(&HubEvent::Stale { inbox: anna[1], missed: 301 }));
    desk.online(anna[1]);
    let welcome = desk.frames.iter().find_map(|(inbox, frame)| match frame {
        Frame::Welcome { missed, waiting } if *inbox == anna[1] => Some((*missed, *waiting)),
        _ => None,
    });
    // What came between the last writing of the count and the crash is not in it.
    assert_eq!(welcome, Some((305, 0)));
    assert_eq!(desk.send(&news, message("again", to(&["anna"]), "again")), QUEUED);
    assert_eq!(desk.bodies(anna[1]), ["again"]);
}

#[test]
fn octets_have_a_quota_too() {
    let mut desk = Desk::new(HubConfig { max_octets: 1000, ..HubConfig::default() });
    desk.user("anna", 1);
    let news = desk.app("news");
    let body = "x".repeat(500);
    assert_eq!(desk.send(&news, message("1", to(&["anna"]), &body)), STORED);
    assert_eq!(desk.send(&news, message("2", to(&["anna"]), &body)).1, Some(State::Dropped));
    assert_eq!(desk.hub.counters().stale_devices, 1);
}

#[test]
fn a_window_is_under_way_and_the_rest_waits_in_order() {
    let mut desk = Desk::new(HubConfig { window: 4, ..HubConfig::default() });
    let anna = desk.user("anna", 1)[0];
    let news = desk.app("news");
    desk.online(anna);
    let mut expected = Vec::new();
    for id in 0..50 {
        desk.send(&news, message(&id.to_string(), to(&["anna"]), &id.to_string()));
        expected.push(id.to_string());
    }
    let mut got = Vec::new();
    loop {
        let handed = desk.handed(anna);
        if handed.is_empty() {
            break;
        }
        assert!(handed.len() <= 4);
        got.extend(handed.iter().map(|one| String::from_utf8(one.body.clone()).unwrap()));
        desk.confirm(anna, &handed);
    }
    assert_eq!(got, expected);
    assert_eq!(desk.kept(), (0, 0));
}

#[test]
fn a_confirmation_after_a_new_login_counts_and_of_what_never_was_does_not() {
    let mut desk = Desk::new(HubConfig { window: 2, ..HubConfig::default() });
    let inboxes = [desk.user("anna", 1)[0], desk.user("ben", 1)[0]];
    let news = desk.app("news");
    for id in 0..4 {
        desk.send(&news, message(&id.to_string(), to(&["anna"]), &id.to_string()));
    }
    desk.online(inboxes[0]);
    let first = desk.handed(inboxes[0]);
    desk.confirm(inboxes[0], &first);
    let second = desk.handed(inboxes[0]);
    desk.offline(inboxes[0]);
    desk.confirm(inboxes[0], &second);
    assert_eq!(desk.kept(), (0, 0), "late, and counts");
    desk.send(&news, message("5", to(&["anna"]), "5"));
    desk.online(inboxes[1]);
    desk.hub.confirm(desk.now, inboxes[1], &[Sequence(first[0].sequence.0), Sequence(999), Sequence(5)]);
    desk.settle();
    assert_eq!(desk.kept(), (1, 1), "nobody removes what is another's");
}

/// What the simulation found: the second word on a shared message took it from the others.
#[test]
fn a_confirmation_said_twice_counts_once() {
    let mut desk = Desk::new(HubConfig::default());
    let (anna, ben) = (desk.user("anna", 1)[0], desk.user("ben", 1)[0]);
    let news = desk.app("news");
    desk.send(&news, message("1", to(&["anna", "ben"]), "hi"));
    desk.online(anna);
    let sequence = desk.handed(anna)[0].sequence;
    desk.stuck = true;
    desk.hub.confirm(desk.now, anna, &[sequence, sequence]);
    desk.settle();
    desk.offline(anna);
    desk.hub.confirm(desk.now, anna, &[sequence]);
    desk.settle();
    desk.stuck = false;
    desk.settle();
    assert_eq!(desk.kept(), (1, 1));
    desk.online(ben);
    assert_eq!(desk.bodies(ben), ["hi"]);
}

/// The rows of a shared message stay until the last has taken it; who took it does not get it again, whatever comes between.
#[test]
fn who_took_a_shared_message_is_remembered_until_the_last_has() {
    let mut desk = Desk::new(HubConfig::default());
    let inboxes = desk.user("anna", 3);
    let news = desk.app("news");
    // Named twice, kept once.
    desk.send(&news, message("1", to(&["anna", "anna"]), "hi"));
    for (at, inbox) in inboxes.iter().enumerate() {
        assert_eq!((desk.kept(), desk.rows(rows::TAKEN)), ((3 - at, 1), at));
        desk.online(*inbox);
        let handed = desk.handed(*inbox);
        assert_eq!(handed.len(), 1);
        desk.confirm(*inbox, &handed);
        desk.crash();
        desk.online(*inbox);
        assert_eq!(desk.handed(*inbox), []);
    }
    assert_eq!((desk.kept(), desk.rows(rows::TAKEN), desk.rows(rows::SHARE)), ((0, 0), 0, 0));
}

/// What was withdrawn from some and kept for others stays so over a restart.
#[test]
fn who_lost_a_withdrawn_message_does_not_find_it_after_a_restart() {
    let mut desk = Desk::new(HubConfig::default());
    let (anna, ben) = (desk.user("anna", 1)[0], desk.user("ben", 1)[0]);
    let news = desk.app("news");
    desk.online(anna);
    desk.send(&news, message("1", to(&["anna", "ben"]), "hi"));
    desk.hub.cancel(desk.now, &news, "1");
    desk.settle();
    assert_eq!(desk.kept(), (1, 1));
    desk.crash();
    desk.online(ben);
    assert_eq!(desk.bodies(ben), [""; 0]);
    desk.online(anna);
    assert_eq!(desk.bodies(anna).last().map(String::as_str), Some("hi"));
}

/// A row that is damaged, or not there, holds nothing up.
#[test]
fn what_cannot_be_read_is_passed_over_and_counted() {
    let mut desk = Desk::new(HubConfig::default());
    let anna = desk.user("anna", 1)[0];
    let news = desk.app("news");
    for id in ["1", "2", "3", "4"] {
        desk.send(&news, message(id, to(&["anna"]), id));
    }
    let key = |number: u64| number.to_be_bytes().to_vec();
    let mut behind = desk.store.clone();
    let ops = vec![
        Op::Delete { table: rows::MESSAGE, key: key(2) },
        Op::Put { table: rows::MESSAGE, key: key(3), value: vec![9] },
    ];
    behind.submit(Batch { ticket: 1, ops });
    behind.commit().unwrap();
    desk.online(anna);
    assert_eq!(desk.bodies(anna), ["1", "4"]);
    assert_eq!(desk.hub.counters().unreadable, 2);
    assert_eq!(desk.hub.waiting_count(), 2);
}

/// A session that is lost and back, at the same seat of a broker that began anew, while the disk takes its time.
#[test]
fn an_answer_to_an_earlier_session_takes_nothing_from_the_next() {
    let mut desk = Desk::new(HubConfig::default());
    let anna = desk.user("anna", 1)[0];
    let news = desk.app("news");
    desk.send(&news, message("1", to(&["anna"]), "1"));
    let seat = Seat::here(7);
    desk.hub.online(desk.now, anna, seat);
    let early = desk.hold_fetches();
    desk.hub.offline(desk.now, anna, seat);
    desk.send(&news, message("2", to(&["anna"]), "2"));
    desk.hub.online(desk.now, anna, seat);
    let late = desk.hold_fetches();
    assert_eq!((early.len(), late.len()), (1, 1));
    for fetch in early.into_iter().chain(late) {
        desk.store.ask(fetch);
        let fetched = desk.store.answer().unwrap();
        desk.hub.fetched(desk.now, fetched);
    }
    desk.settle();
    assert_eq!(desk.bodies(anna), ["1", "2"]);
    assert_eq!((desk.hub.counters().unreadable, desk.hub.waiting_count()), (0, 2));
}

#[test]
fn what_is_leaving_does_not_hide_what_comes_after_it() {
    let mut desk = Desk::new(HubConfig { window: 2, ..HubConfig::default() });
    let anna = desk.user("anna", 1)[0];
    let news = desk.app("news");
    for id in ["1", "2", "3", "4"] {
        desk.send(&news, message(id, to(&["anna"]), id));
    }
    desk.online(anna);
    let first = desk.handed(anna);
    desk.stuck = true;
    desk.confirm(anna, &first);
    desk.handed(anna);
    desk.offline(anna);
    desk.online(anna);
    assert_eq!(desk.bodies(anna), ["3", "4"], "a disk that is late is not asked without end");
}

/// A receiver that has seen a number takes the next message under it for a repeat.
#[test]
fn a_number_that_was_passed_on_is_never_given_again() {
    let mut desk = Desk::new(HubConfig::default());
    let anna = desk.user("anna", 1)[0];
    let news = desk.app("news");
    let passing = |id: &str| Message { store: false, ..message(id, to(&["anna"]), id) };
    // A start whose first commit has not come back yet.
    desk.store = desk.store.clone();
    desk.hub = open(desk.config, &desk.store, desk.now, desk.skew);
    desk.stuck = true;
    desk.online(anna);
    desk.send(&news, passing("1"));
    assert_eq!(desk.handed(anna), [], "its number could be given again");
    desk.stuck = false;
    desk.settle();
    assert_eq!(desk.send(&news, passing("2")), (200, Some(State::Routed)));
    let seen = desk.handed(anna);
    assert_eq!(seen.len(), 1);
    desk.crash();
    desk.send(&news, message("3", to(&["anna"]), "3"));
    desk.online(anna);
    let next = desk.handed(anna);
    assert!(next.len() == 1 && next[0].sequence > seen[0].sequence, "{next:?} after {seen:?}");
}
