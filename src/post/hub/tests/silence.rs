//! Devices that are silent for long.

use super::*;

const DAY: u64 = 86_400;

fn desk() -> Desk {
    Desk::new(HubConfig { sweep: Duration::from_secs(3600), ..HubConfig::default() })
}

fn welcome(desk: &Desk, of: Inbox) -> Option<(u32, u32)> {
    desk.frames.iter().rev().find_map(|(inbox, frame)| match frame {
        Frame::Welcome { missed, waiting } if *inbox == of => Some((*missed, *waiting)),
        _ => None,
    })
}

fn month(id: &str) -> Message {
    Message { ttl: 30 * 86_400, ..message(id, to(&["anna"]), id) }
}

/// DECISIONS.md 5.
#[test]
fn a_device_silent_for_thirty_days_is_stale_and_the_others_notice_nothing() {
    let mut desk = desk();
    let anna = desk.user("anna", 3);
    let news = desk.app("news");
    desk.events.clear();
    // The first stays, the second looks in now and then, the third is in a drawer.
    anna.iter().for_each(|inbox| desk.online(*inbox));
    anna[1..].iter().for_each(|inbox| desk.offline(*inbox));
    desk.wait(10 * DAY);
    assert_eq!(desk.send(&news, month("early")), QUEUED);
    desk.wait(10 * DAY);
    desk.online(anna[1]);
    desk.offline(anna[1]);
    desk.send(&news, month("late"));
    let handed = desk.handed(anna[0]);
    desk.confirm(anna[0], &handed);
    desk.wait(10 * DAY);
    assert_eq!((desk.kept().0, &desk.events[..]), (4, &[][..]), "thirty days are not past yet");
    desk.wait(DAY + 3600);
    assert_eq!(desk.events, [HubEvent::Stale { inbox: anna[2], missed: 2 }]);
    assert_eq!(desk.kept(), (2, 2), "what the second has to get is there");
    assert_eq!(desk.hub.counters().silent_devices, 1);

    // Nothing is kept for it, but for how much that would have been; a restart forgets a day of it at the most.
    desk.send(&news, month("later"));
    assert_eq!(desk.kept(), (4, 3));
    desk.wait(2 * DAY);
    desk.crash();
    desk.wait(DAY);
    assert_eq!(desk.events.len(), 1, "told once");
    desk.online(anna[2]);
    assert_eq!(welcome(&desk, anna[2]), Some((3, 0)));
    assert_eq!(desk.handed(anna[2]), []);
    desk.send(&news, month("again"));
    assert_eq!(desk.bodies(anna[2]), ["again"]);
    desk.online(anna[1]);
    assert_eq!(welcome(&desk, anna[1]).map(|(missed, _)| missed), Some(0));
    assert_eq!(desk.rows(rows::STALE), 0);
}

#[test]
fn what_is_kept_of_a_login_is_written_once_a_day() {
    let mut desk = desk();
    let anna = desk.user("anna", 1)[0];
    desk.app("news");
    assert_eq!(desk.rows(rows::HEARD), 1, "it begins with the enrolment, and an application is no device");
    let written = |desk: &mut Desk| {
        desk.hub.online(desk.now, anna, Seat::here(anna.0 + 1000));
        let mut count = 0;
        while let Some(output) = desk.hub.poll_output(desk.now) {
            count += usize::from(matches!(output, HubOutput::Store(_)));
            if let HubOutput::Store(batch) = output {
                desk.store.submit(batch);
            }
        }
        desk.settle();
        desk.offline(anna);
        count
    };
    assert_eq!([written(&mut desk), written(&mut desk)], [0, 0]);
    desk.wait(DAY);
    assert_eq!([written(&mut desk), written(&mut desk)], [1, 0]);
    desk.crash();
    assert_eq!(written(&mut desk), 0);
}

/// The date jumps, or the office lay still: nobody could log in meanwhile, so nobody was silent.
#[test]
fn only_days_of_service_count() {
    let mut desk = desk();
    let anna = desk.user("anna", 1)[0];
    desk.events.clear();
    for _ in 0..10 {
        // Nothing turns it.
        desk.now += Duration::from_secs(100 * DAY);
        desk.crash();
        desk.wait(3700);
        desk.skew += 100 * DAY as i64;
        desk.set_clock();
        desk.wait(3 * 3600);
    }
    assert_eq!(desk.events, []);
    desk.online(anna);
    assert_eq!(welcome(&desk, anna), Some((0, 0)));
}

#[test]
fn many_devices_are_looked_at_in_portions() {
    let mut desk = Desk::new(HubConfig { max_devices: 10_000, ..HubConfig::default() });
    desk.hub.add_user("anna").unwrap();
    for _ in 0..9000 {
        desk.hub.add_device("anna", [1; 16], 0).unwrap();
    }
    desk.settle();
    desk.events.clear();
    desk.hub.config.sweep = Duration::from_secs(3600);
    desk.wait(30 * DAY);
    assert_eq!(desk.events.len(), 0);
    let mut most = 0;
    let mut before = desk.events.len();
    let until = desk.now + Duration::from_secs(2 * DAY);
    while let Some(due) = desk.hub.deadline().filter(|due| *due <= until) {
        desk.now = due;
        desk.hub.handle_deadline(due);
        desk.settle();
        most = most.max(desk.events.len() - before);
        before = desk.events.len();
    }
    assert_eq!((desk.events.len(), most), (9000, 4096));
}
