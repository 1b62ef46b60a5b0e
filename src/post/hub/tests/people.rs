//! Presence, credentials, operators, frames.

use super::*;

/// OM-15.
#[test]
fn presence_is_told_to_who_may_ask() {
    let mut desk = Desk::new(HubConfig::default());
    let anna = desk.user("anna", 2);
    let Sender::App { rights, seat, .. } = desk.app("news") else { panic!() };
    let names = || vec!["anna".to_owned(), "nobody".to_owned()];
    desk.hub.query(seat, rights, "1".into(), names());
    desk.settle();
    let none = Whereabouts { user: "nobody".into(), online: false, since: 0 };
    let away = Whereabouts { user: "anna".into(), online: false, since: 0 };
    assert_eq!(desk.whereabouts.pop().unwrap(), [away, none.clone()]);
    desk.online(anna[1]);
    desk.wait(10);
    desk.online(anna[0]);
    desk.offline(anna[0]);
    desk.hub.query(seat, rights, "2".into(), names());
    desk.settle();
    let there = Whereabouts { user: "anna".into(), online: true, since: UNIX };
    assert_eq!(desk.whereabouts.pop().unwrap(), [there, none]);
}

#[test]
fn a_revoked_credential_is_none_and_who_sits_on_it_goes() {
    let mut desk = Desk::new(HubConfig::default());
    desk.user("anna", 0);
    let enrolled = desk.hub.add_device("anna", [1; 16], UNIX + 100).unwrap();
    desk.settle();
    desk.hub.authenticate(1, enrolled.session);
    desk.settle();
    let inbox = desk.credentials.pop().unwrap().unwrap().inbox;
    desk.online(inbox);
    desk.hub.revoke_device(enrolled.session);
    desk.settle();
    assert_eq!(desk.revoked, [inbox]);
    desk.hub.authenticate(2, enrolled.session);
    desk.settle();
    assert_eq!(desk.credentials.pop(), Some(None));
    desk.crash();
    assert_eq!(desk.revoked, [inbox, inbox], "said again at a start");
    let brief = desk.hub.add_device("anna", [2; 16], UNIX + 100).unwrap();
    desk.settle();
    desk.wait(100);
    desk.hub.authenticate(3, brief.session);
    desk.settle();
    assert_eq!(desk.credentials.pop(), Some(None), "expired");
    desk.wait(8 * 86_400);
    assert_eq!(desk.rows(rows::REVOKED), 0);
}

fn devices(desk: &mut Desk, list: List) -> Vec<DeviceInfo> {
    desk.hub.list(list);
    desk.settle();
    match desk.listed.pop() {
        Some(Listed::Devices(devices)) => devices,
        other => panic!("{other:?}"),
    }
}

/// DECISIONS.md 1.
#[test]
fn a_rotated_credential_keeps_the_inbox_and_voids_what_was_before() {
    let mut desk = Desk::new(HubConfig::default());
    let anna = desk.user("anna", 2);
    let news = desk.app("news");
    desk.send(&news, message("1", to(&["anna"]), "hi"));
    let old = devices(&mut desk, List::DevicesOf { user: "anna".into() });
    assert_eq!(
        old.iter().map(|one| (one.inbox, one.waiting)).collect::<Vec<_>>(),
        [(anna[0], 1), (anna[1], 1)]
    );
    let new = desk.hub.rotate_device(old[0].session);
    desk.settle();
    assert_eq!(desk.revoked, [anna[0]]);
    for (session, is_good) in [(old[0].session, false), (new.session, true), (old[1].session, true)] {
        desk.hub.authenticate(1, session);
        desk.settle();
        let found = desk.credentials.pop().unwrap();
        assert_eq!(found.is_some(), is_good);
        if session == new.session {
            let found = found.unwrap();
            assert!(found.secret == new.secret && found.inbox == anna[0] && found.epoch == 2);
        }
    }
    desk.crash();
    assert_eq!(desk.revoked, [anna[0], anna[0]], "said again at a start");
    let now = devices(&mut desk, List::Devices { after: Inbox(0) });
    assert!(now[0].session == new.session && now[0].waiting == 1 && !now[0].revoked);
    desk.online(anna[0]);
    assert_eq!(desk.bodies(anna[0]), ["hi"]);
}

#[test]
fn who_is_removed_leaves_nothing_and_the_others_have_what_is_theirs() {
    let mut desk = Desk::new(HubConfig::default());
    let (anna, ben) = (desk.user("anna", 2), desk.user("ben", 1)[0]);
    let news = desk.app("news");
    desk.app("other");
    for app in ["news", "other"] {
        desk.hub.frame(
            desk.now,
            anna[0],
            Seat::here(1),
            Frame::Subscribe { request: 1, app: app.into(), on: true },
        );
        desk.hub.frame(
            desk.now,
            ben,
            Seat::here(2),
            Frame::Subscribe { request: 1, app: app.into(), on: true },
        );
        desk.settle();
    }
    desk.send(&news, message("1", to(&["anna", "ben"]), "both"));
    desk.send(&news, message("2", to(&["anna"]), "hers"));
    assert_eq!(desk.rows(rows::FOLLOW), 4);
    desk.online(anna[1]);
    desk.hub.remove_user("anna");
    desk.settle();
    assert_eq!(desk.revoked, anna);
    assert_eq!(desk.kept(), (1, 1));
    assert_eq!(
        [rows::FOLLOW, rows::INBOX, rows::HEARD, rows::DEVICE].map(|table| desk.rows(table)),
        [2, 1, 1, 1]
    );
    assert_eq!(desk.send(&news, message("3", to(&["anna"]), "nobody")).0, 404);
    desk.hub.add_user("anna").unwrap();
    desk.settle();
    assert_eq!(desk.send(&news, message("4", to(&["anna"]), "nobody")), (200, Some(State::Dropped)));
    let (inbox, _) = desk.hub.remove_app("other").unwrap();
    desk.settle();
    assert_eq!((desk.rows(rows::FOLLOW), desk.rows(rows::APP)), (1, 1));
    assert!(anna.iter().all(|other| *other != inbox));
    assert_eq!(desk.hub.apps().map(|(name, _)| name).collect::<Vec<_>>(), ["news"]);
    desk.crash();
    assert_eq!(desk.kept(), (1, 1));
    desk.online(ben);
    assert_eq!(desk.bodies(ben), ["both"]);
}

#[test]
fn lists_come_in_pages() {
    let mut desk = Desk::new(HubConfig::default());
    let names: Vec<String> = (0..600).map(|number| format!("user{number:03}")).collect();
    names.iter().for_each(|name| drop(desk.user(name, 1)));
    let (mut users, mut pages, mut after) = (Vec::new(), 0, String::new());
    loop {
        desk.hub.list(List::Users { after: after.clone() });
        desk.settle();
        let Some(Listed::Users(page)) = desk.listed.pop() else { panic!("no page") };
        let Some((last, ..)) = page.last() else { break };
        after = last.clone();
        users.extend(page.into_iter().map(|(name, devices, keep)| {
            assert!(devices == 1 && keep);
            name
        }));
        pages += 1;
    }
    assert_eq!((users, pages), (names, 3));
    let first = devices(&mut desk, List::Devices { after: Inbox(0) });
    let next = devices(&mut desk, List::Devices { after: first.last().unwrap().inbox });
    assert_eq!((first.len(), next[0].user.as_str()), (256, "user256"));
}

#[test]
fn operators_are_told_what_cannot_be() {
    let mut desk = Desk::new(HubConfig { max_devices: 2, ..HubConfig::default() });
    desk.user("anna", 2);
    assert!(desk.hub.add_user("no spaces").is_err());
    desk.hub.add_user("anna").unwrap();
    desk.hub.add_device("anna", [9; 16], 0).unwrap();
    desk.hub.add_device("nobody", [9; 16], 0).unwrap();
    desk.hub.revoke_device(SessionId([9; 16]));
    desk.events.clear();
    desk.settle();
    let refused: Vec<Status> = desk
        .events
        .iter()
        .filter_map(|event| match event {
            HubEvent::Done { result: Err(fault), .. } => Some(fault.status),
            _ => None,
        })
        .collect();
    assert_eq!(refused, [Status::State, Status::Full, Status::NotFound, Status::NotFound]);
    // Two in one turn, before either is durable.
    desk.events.clear();
    desk.hub.add_user("carl").unwrap();
    desk.hub.add_user("carl").unwrap();
    desk.hub.add_device("carl", [1; 16], 0).unwrap();
    desk.settle();
    let results: Vec<bool> = desk
        .events
        .iter()
        .filter_map(|event| match event {
            HubEvent::Done { result, .. } => Some(result.is_ok()),
            _ => None,
        })
        .collect();
    assert_eq!(results.iter().filter(|ok| **ok).count(), 2, "{results:?}");
}

#[test]
fn a_frame_of_nobody_is_refused_and_those_that_wait_are_bounded() {
    let mut desk = Desk::new(HubConfig { max_pending: 2, ..HubConfig::default() });
    let anna = desk.user("anna", 1)[0];
    let setting = |request| Frame::Setting { request, keep: true };
    desk.hub.frame(desk.now, Inbox(999), Seat::here(1), setting(1));
    desk.settle();
    assert_eq!(desk.frames.pop(), Some((Inbox(999), Frame::Answer { request: 1, code: 507 })));
    for request in 2..=4 {
        desk.hub.frame(desk.now, anna, Seat::here(1), setting(request));
    }
    desk.settle();
    desk.frames.sort_by_key(|(_, frame)| match frame {
        Frame::Answer { request, .. } => *request,
        _ => 0,
    });
    let codes = desk.frames.iter().filter_map(|(_, frame)| match frame {
        Frame::Answer { code, .. } => Some(*code),
        _ => None,
    });
    assert_eq!(codes.collect::<Vec<_>>(), [200, 200, 507]);
    assert_eq!(desk.hub.counters().frames_refused, 2);
}

#[test]
fn a_message_may_have_more_receivers_than_users_are_remembered() {
    let mut desk = Desk::new(HubConfig { max_cached: 2, ..HubConfig::default() });
    let names: Vec<String> = (0..9).map(|number| format!("user{number}")).collect();
    let inboxes: Vec<Inbox> = names.iter().map(|name| desk.user(name, 1)[0]).collect();
    let news = desk.app("news");
    let named: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(desk.send(&news, message("1", to(&named), "all")), STORED);
    for inbox in inboxes {
        desk.online(inbox);
        assert_eq!(desk.bodies(inbox), ["all"]);
    }
    let Sender::App { rights, seat, .. } = news else { panic!() };
    // The second waits behind the first, which makes the hub forget what the second knew already.
    desk.stuck = true;
    desk.hub.query(seat, rights, "q".into(), names.clone());
    desk.hub.query(seat, rights, "r".into(), names[8..].to_vec());
    desk.stuck = false;
    desk.settle();
    let counts: Vec<usize> = desk.whereabouts.iter().map(Vec::len).collect();
    assert_eq!(counts, [9, 1]);
}

/// OM-14, with an authentication of the application's own.
#[test]
fn a_device_that_the_application_vouches_for_gets_an_inbox_and_keeps_it() {
    let mut desk = Desk::new(HubConfig { asks: true, max_devices: 2, ..HubConfig::default() });
    let anna = desk.user("anna", 1);
    assert_eq!(desk.events.iter().filter(|event| is_question(event)).count(), 0, "its own are known");
    let vouched = |user: &str, device: u8, expires: u64| Vouched {
        user: user.into(),
        device: [device; 16],
        secret: [7; 32],
        expires,
    };
    // Two at once, of one that was never seen.
    for ticket in [11, 12] {
        desk.hub.authenticate(ticket, SessionId([9; 16]));
    }
    desk.settle();
    let session = SessionId([9; 16]);
    let asked = |ticket| HubEvent::Authenticate { ticket, session };
    assert!(desk.events.contains(&asked(11)) && desk.events.contains(&asked(12)));
    assert_eq!(desk.credentials, [], "until it is answered");
    desk.stuck = true;
    desk.hub.vouch(11, vouched("ben", 1, 0)).unwrap();
    desk.hub.vouch(12, vouched("ben", 1, 0)).unwrap();
    desk.settle();
    assert_eq!(desk.credentials, [], "an inbox that is not durable could be given to another");
    desk.stuck = false;
    desk.settle();
    let [Some(one), Some(two)] = &std::mem::take(&mut desk.credentials)[..] else { panic!() };
    assert!(one == two && one.user == "ben" && one.secret == [7; 32] && one.inbox != anna[0]);
    let ben = one.inbox;
    // What is sent to the user waits for the device, over a restart too.
    let app = desk.app("news");
    assert_eq!(desk.send(&app, message("1", to(&["ben"]), "kept")), (200, Some(State::Stored)));
    desk.crash();
    desk.hub.vouch(13, vouched("ben", 1, 0)).unwrap();
    desk.settle();
    assert_eq!(desk.credentials.pop().unwrap().unwrap().inbox, ben);
    desk.online(ben);
    assert_eq!(desk.bodies(ben), ["kept"]);
    // A second device of hers, beside the one that the store knows; a third is one too many.
    for (ticket, device, expected) in [(14, 1, true), (15, 2, false)] {
        desk.hub.vouch(ticket, vouched("anna", device, 0)).unwrap();
        desk.settle();
        assert_eq!(desk.credentials.pop().unwrap().is_some(), expected);
    }
    desk.hub.vouch(16, vouched("ben", 1, UNIX)).unwrap();
    desk.hub.turn_away(17);
    desk.settle();
    assert_eq!(std::mem::take(&mut desk.credentials), [None, None], "over, and turned away");
    assert!(desk.hub.vouch(18, vouched("no spaces", 1, 0)).is_err());
}

/// A device says again and again whom it follows, and the disk takes its time.
#[test]
fn changes_that_wait_for_the_disk_are_bounded() {
    let mut desk = Desk::new(HubConfig { max_pending: 4, ..HubConfig::default() });
    let anna = desk.user("anna", 1)[0];
    desk.app("news");
    desk.online(anna);
    let follow = |request| Frame::Subscribe { request, app: "news".into(), on: request % 2 == 0 };
    desk.hub.frame(desk.now, anna, Seat::here(1), follow(0));
    desk.settle();
    desk.frames.clear();
    desk.stuck = true;
    for request in 1..=100 {
        desk.hub.frame(desk.now, anna, Seat::here(1), follow(request));
        desk.settle();
    }
    let refused = |(_, frame): &&(Inbox, Frame)| matches!(frame, Frame::Answer { code: 507, .. });
    assert_eq!((desk.frames.iter().filter(refused).count(), desk.hub.pending()), (96, 4));
    desk.stuck = false;
    desk.settle();
    let taken = |(_, frame): &&(Inbox, Frame)| matches!(frame, Frame::Answer { code: 200, .. });
    assert_eq!(desk.frames.iter().filter(taken).count(), 4);
}

/// Nobody has proven a secret yet, so that a disk which takes its time must not make what waits for it grow.
#[test]
fn logins_that_wait_for_the_disk_are_bounded() {
    let mut desk = Desk::new(HubConfig { asks: true, max_pending: 2, ..HubConfig::default() });
    desk.stuck = true;
    let vouched = |user: &str| Vouched { user: user.into(), device: [1; 16], secret: [7; 32], expires: 0 };
    for ticket in 0..100 {
        desk.hub.vouch(ticket, vouched("ben")).unwrap();
        desk.settle();
    }
    desk.hub.vouch(100, vouched("carol")).unwrap();
    let full = desk.hub.vouch(101, vouched("dora")).unwrap_err();
    assert_eq!(full.status, Status::Full);
    desk.settle();
    desk.stuck = false;
    desk.settle();
    let users: Vec<String> =
        std::mem::take(&mut desk.credentials).into_iter().map(|one| one.unwrap().user).collect();
    assert_eq!(users.iter().filter(|user| *user == "ben").count(), 16, "the latest of them");
    assert_eq!(users.len(), 17);
}

/// What it cannot read it does not know to be wrong: the device is not told to enrol again.
#[test]
fn a_store_that_cannot_tell_refuses_nobody() {
    for asks in [false, true] {
        let mut desk = Desk::new(HubConfig { asks, ..HubConfig::default() });
        desk.settle();
        desk.hub.authenticate(1, SessionId([9; 16]));
        desk.fail_fetches();
        if asks {
            let vouched = Vouched { user: "ben".into(), device: [1; 16], secret: [7; 32], expires: 0 };
            desk.hub.vouch(2, vouched.clone()).unwrap();
            desk.fail_fetches();
            desk.hub.vouch(3, vouched).unwrap();
            desk.settle();
            assert_eq!(std::mem::take(&mut desk.credentials).len(), 1, "once it can, it answers");
        }
        assert_eq!((desk.credentials, desk.events), (vec![], vec![]));
    }
}

fn is_question(event: &HubEvent) -> bool {
    matches!(event, HubEvent::Authenticate { .. })
}
