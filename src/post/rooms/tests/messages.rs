//! What goes from one room to another.

use super::*;

#[test]
fn a_message_for_another_room_is_acknowledged_handed_over_once_and_gone_here_when_it_is_durable_there() {
    let mut town = Town::pair();
    let (news, anna) = (town.app(0, "news"), town.user(1, "anna"));
    town.offices[1].stuck = true;
    assert_eq!(town.send(0, &news, letter(1, &["user:anna@north"])), QUEUED);
    assert_eq!(town.waiting(), [1, 1], "it is kept here until it is durable there");
    town.offices[1].stuck = false;
    town.settle();
    assert_eq!(town.waiting(), [0, 1]);
    town.online(1, anna);
    let came = town.handed(1, anna);
    assert_eq!((came.len(), &came[0].from), (1, &Address::App("news@south".into())));
    assert_eq!((came[0].sent, &came[0].body[..]), (UNIX, &b"body 1"[..]));
    let (now, hub) = (town.now, &mut town.offices[1].hub);
    hub.confirm(now, anna, &[came[0].sequence]);
    town.settle();
    assert_eq!(town.waiting(), [0, 0]);
    // The same id again is the same message, and nothing comes of it.
    assert_eq!(town.send(0, &news, letter(1, &["user:anna@north"])), QUEUED);
    assert_eq!(town.bodies(1, anna), [""; 0]);
}

#[test]
fn one_answers_the_other_across_rooms_and_a_list_is_split_by_room() {
    let mut town = Town::new(&["south", "north", "east"], HubConfig::default());
    let (south, north, east) = (town.app(0, "news"), town.app(1, "news"), town.user(2, "carl"));
    let (ben, anna) = (town.user(0, "ben"), town.user(1, "anna"));
    for (at, inbox) in [(0, ben), (1, anna), (2, east)] {
        town.online(at, inbox);
    }
    let all = ["user:ben", "user:anna@north", "user:carl@east", "user:ben@south", "app:news@north"];
    assert_eq!(town.send(0, &south, letter(1, &all)), QUEUED);
    assert_eq!(town.offices[0].store_rows(), 1, "the body is kept once");
    for (at, inbox) in [(0, ben), (1, anna), (2, east)] {
        assert_eq!(town.bodies(at, inbox), ["body 1"], "{at}");
    }
    // The application of the same name in the other room has it too, and answers.
    assert_eq!(town.waiting(), [1, 2, 1]);
    assert_eq!(town.send(1, &north, letter(2, &["app:news@south"])), QUEUED);
    assert_eq!(town.waiting(), [2, 2, 1]);
}

#[test]
fn whatever_dies_or_breaks_in_between_a_message_comes_once_and_in_order() {
    for seed in 0..200 {
        let mut rng = Seeded::new(seed);
        let mut town = Town::pair();
        let (news, anna) = (town.app(0, "news"), town.user(1, "anna"));
        let mut sent = 0;
        for _ in 0..40 {
            match rng.below(8) {
                0 => town.crash(0),
                1 => town.crash(1),
                2 => {
                    town.break_links(0);
                    town.settle();
                }
                3 => town.offices[1].stuck = rng.below(2) == 0,
                4 => town.wait(rng.below(40).into()),
                _ => {
                    sent += 1;
                    assert_eq!(town.send(0, &news, letter(sent, &["user:anna@north"])).0, 200);
                }
            }
        }
        town.offices[1].stuck = false;
        town.wait(120);
        assert_eq!(town.waiting(), [0, sent as usize], "seed {seed}");
        town.online(1, anna);
        let mut came = Vec::new();
        while let handed @ [_, ..] = &town.handed(1, anna)[..] {
            came.extend(handed.iter().map(|one| String::from_utf8(one.body.clone()).unwrap()));
            let sequences: Vec<Sequence> = handed.iter().map(|one| one.sequence).collect();
            let now = town.now;
            town.offices[1].hub.confirm(now, anna, &sequences);
            town.settle();
        }
        let expected: Vec<String> = (1..=sent).map(|id| format!("body {id}")).collect();
        assert_eq!(came, expected, "seed {seed}");
    }
}

#[test]
fn without_the_link_a_message_waits_until_it_is_stale_and_what_is_not_kept_is_dropped() {
    let mut town = Town::pair();
    let (news, anna) = (town.app(0, "news"), town.user(1, "anna"));
    town.online(1, anna);
    let passing = |id| Letter { store: false, ..letter(id, &["user:anna@north"]) };
    assert_eq!(town.send(0, &news, passing(1)), (200, Some(State::Routed)));
    assert_eq!(town.bodies(1, anna), ["body 1"]);
    let now = town.now;
    town.offices[1].hub.offline(now, anna, Seat::here(anna.0 + 1000));
    town.cut = Some((0, 1));
    town.break_links(0);
    town.settle();
    assert_eq!(town.send(0, &news, passing(2)), (200, Some(State::Dropped)));
    assert_eq!(town.send(0, &news, Letter { ttl: 7200, ..letter(3, &["user:anna@north"]) }), STORED);
    assert_eq!(town.send(0, &news, letter(4, &["user:anna@north"])), STORED);
    town.wait(3700);
    assert_eq!((town.waiting(), town.offices[0].hub.counters().expired), (vec![1, 0], 1));
    town.cut = None;
    town.wait(60);
    assert_eq!(town.waiting(), [0, 1]);
    // The end is that of the first room, not so many seconds from when it came.
    town.wait(3500);
    assert_eq!(town.waiting(), [0, 0]);
}

#[test]
fn broadcasts_reach_every_room_once_and_go_no_further() {
    let mut town = Town::new(&["south", "north", "east"], HubConfig::default());
    let (news, anna, carl) = (town.app(0, "news"), town.user(1, "anna"), town.user(2, "carl"));
    town.online(1, anna);
    assert_eq!(town.send(0, &news, everybody(1, None)), (200, Some(State::Routed)));
    assert_eq!((town.bodies(1, anna), town.bodies(2, carl)), (vec!["body 1".to_owned()], vec![]));
    // One with a life period is told to who comes during it, in every room.
    town.cut = Some((0, 2));
    town.break_links(2);
    town.settle();
    assert_eq!(town.send(0, &news, everybody(2, Some((UNIX, UNIX + 600)))), STORED);
    assert_eq!(town.waiting(), [1, 0, 0]);
    town.cut = None;
    town.wait(60);
    assert_eq!(town.waiting(), [0, 0, 0]);
    town.crash(2);
    town.online(2, carl);
    assert_eq!(
        (town.bodies(1, anna), town.bodies(2, carl)),
        (vec!["body 2".to_owned()], vec!["body 2".to_owned()])
    );
    let counted: Vec<u64> = town.offices.iter().map(|one| one.hub.counters().relayed).collect();
    assert_eq!(counted[1..], [0, 0]);
}

#[test]
fn a_room_that_cannot_take_now_is_tried_again_and_nothing_overtakes() {
    let mut town = Town::new(&["south", "north"], HubConfig { max_stored: 3, ..HubConfig::default() });
    let (news, anna) = (town.app(0, "news"), town.user(1, "anna"));
    for id in 1..=3 {
        assert_eq!(town.send(0, &news, letter(id, &["user:anna@north"])).0, 200);
    }
    assert_eq!(town.waiting(), [0, 3]);
    for id in 4..=6 {
        assert_eq!(town.send(0, &news, letter(id, &["user:anna@north"])).0, 200);
    }
    assert_eq!(town.waiting(), [3, 3]);
    assert!(town.offices[1].rooms.counters().held_off > 0);
    town.online(1, anna);
    for _ in 0..10 {
        let handed = town.handed(1, anna);
        let bodies: Vec<&[u8]> = handed.iter().map(|one| &one.body[..]).collect();
        assert!(bodies.is_sorted(), "{bodies:?}");
        let (now, sequences) = (town.now, handed.iter().map(|one| one.sequence).collect::<Vec<_>>());
        town.offices[1].hub.confirm(now, anna, &sequences);
        town.settle();
        town.wait(40);
    }
    assert_eq!(town.waiting(), [0, 0]);
}

#[test]
fn what_waits_for_a_room_is_bounded_and_who_sends_there_is_told() {
    let config = HubConfig { max_room_messages: 2, max_room_octets: 1000, ..HubConfig::default() };
    let mut town = Town::new(&["south", "north"], config);
    let (news, _) = (town.app(0, "news"), town.user(0, "ben"));
    town.cut = Some((0, 1));
    town.break_links(0);
    town.settle();
    let long = Letter { body: vec![7; 1000], ..letter(9, &["user:anna@north"]) };
    assert_eq!(town.send(0, &news, long), (507, None));
    for (id, code) in [(1, 200), (2, 200), (3, 507)] {
        assert_eq!(town.send(0, &news, letter(id, &["user:ben", "user:anna@north"])).0, code);
    }
    assert_eq!(town.offices[0].hub.counters().room_full, 2);
    // Others are not worse off, and the room misses nothing of what was acknowledged.
    assert_eq!(town.send(0, &news, letter(4, &["user:ben"])).0, 200);
    assert_eq!(town.waiting(), [5, 0]);
}

#[test]
fn nobody_there_is_dropped_there_and_counted_and_a_name_of_a_room_is_given_to_nobody() {
    let mut town = Town::pair();
    let news = town.app(0, "news");
    assert_eq!(town.send(0, &news, letter(1, &["user:nobody@north"])), QUEUED);
    assert_eq!((town.waiting(), town.offices[1].hub.counters().strangers), (vec![0, 0], 1));
    assert_eq!(town.send(0, &news, letter(2, &["user:anna@west"])), (404, None), "no room, so a name as any");
    let hub = &mut town.offices[0].hub;
    for name in ["anna@north", "ben@south"] {
        assert!(hub.add_user(name).is_err() && hub.add_app(name, Rights::default()).is_err());
    }
    assert!(hub.add_user("carl@example.org").is_ok());
    // Neither somebody who was called so before, nor who would have no name there, writes to other rooms.
    let as_if = |name: &str| {
        let rights = Rights { send: true, broadcast: true, query: true };
        Sender::App { name: name.into(), rights, seat: Seat::here(900) }
    };
    let to_anna = || letter(3, &["user:anna@north"]);
    assert_eq!(town.send(0, &as_if("anna@north"), to_anna()), (403, None));
    assert_eq!(town.send(0, &as_if(&"x".repeat(59)), to_anna()), (403, None));
    assert_eq!(town.send(0, &as_if(&"x".repeat(58)), to_anna()), QUEUED);
    // Who follows an application is known where it is.
    let ben = town.user(0, "ben");
    let (now, seat) = (town.now, Seat::here(ben.0 + 1000));
    let follow = Frame::Subscribe { request: 7, app: "news@north".into(), on: true };
    town.offices[0].hub.frame(now, ben, seat, follow);
    town.settle();
    assert!(town.offices[0].frames.contains(&(ben, Frame::Answer { request: 7, code: 403 })));
}
