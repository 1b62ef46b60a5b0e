//! Who is where, and which rooms are there.

use super::*;

/// One that died is not waited for with the pauses that had grown while it was away.
#[test]
fn a_room_that_comes_is_connected_to_at_once() {
    let mut town = Town::pair();
    town.cut = Some((0, 1));
    town.break_links(0);
    town.wait(300);
    town.cut = None;
    town.crash(1);
    let up: Vec<bool> = town
        .offices
        .iter()
        .flat_map(|one| one.rooms.list(&one.hub))
        .map(|room| room.is_up && room.is_here)
        .collect();
    assert_eq!(up, [true, true]);
}

#[test]
fn where_users_of_other_rooms_are_is_asked_there() {
    let mut town = Town::new(&["south", "north", "east"], HubConfig::default());
    let (ben, anna) = (town.user(0, "ben"), town.user(1, "anna"));
    town.online(1, anna);
    town.online(0, ben);
    let names = ["anna@north", "ben", "ben@south", "carl@east", "nobody@north"];
    let online = |found: &[Presence]| -> Vec<(String, bool, u64)> {
        found.iter().map(|one| (one.user.clone(), one.online, one.since)).collect()
    };
    let is = |online: [bool; 5]| -> Vec<(String, bool, u64)> {
        let since = online.map(|online| if online { UNIX } else { 0 });
        (0..5).map(|at| (names[at].to_owned(), online[at], since[at])).collect()
    };
    let found = town.query(0, &names);
    assert_eq!(online(&found), is([true, true, true, false, false]));
    // One that does not answer holds up nobody but who asks about its users.
    town.offices[1].stuck = true;
    town.cut = Some((0, 1));
    town.break_links(1);
    town.settle();
    let found = town.query(0, &names);
    assert_eq!(online(&found), is([false, true, true, false, false]), "nobody knows");
    assert_eq!(town.offices[0].rooms.counters().unanswered, 0, "it was not asked");
}

/// The link is there, and nothing comes on it.
#[test]
fn a_question_that_is_not_answered_is_given_up_and_questions_are_bounded() {
    let mut town = Town::pair();
    let (now, conns) = (town.now, std::mem::take(&mut town.conns));
    assert_eq!(town.query(0, &["anna@north"]), []);
    assert_eq!(town.query(0, &["ben"]).len(), 1, "others are not held up");
    for _ in 0..outward::MAX_ASKED {
        town.query(0, &["anna@north"]);
    }
    assert_eq!(town.offices[0].rooms.counters().unanswered, 1, "one more than may wait");
    let Office { rooms, hub, .. } = &mut town.offices[0];
    rooms.handle_deadline(now + Duration::from_secs(3), hub);
    assert_eq!(rooms.counters().unanswered, 1 + outward::MAX_ASKED as u64);
    town.settle();
    assert_eq!(town.offices[0].whereabouts.len(), outward::MAX_ASKED);
    drop(conns);
}
