//! A wall clock that jumps.

use super::*;

const HOUR: u64 = 3600;
const DAY: i64 = 86_400;

impl Desk {
    fn jump(&mut self, skew: i64) {
        self.skew = skew;
        self.set_clock();
    }
}

#[test]
fn a_jump_forward_that_is_taken_back_ends_nothing() {
    let mut desk = Desk::new(HubConfig::default());
    let (anna, ben) = (desk.user("anna", 1)[0], desk.user("ben", 1)[0]);
    let news = desk.app("news");
    desk.send(&news, message("1", to(&["anna", "ben"]), "an hour"));
    let period = Some((UNIX, UNIX + 2 * HOUR));
    let broadcast = Message { kind: Kind::Broadcast, period, ..message("2", To::All, "two hours") };
    assert_eq!(desk.send(&news, broadcast).0, 200);
    desk.jump(400 * DAY);
    desk.wait(1800);
    assert_eq!((desk.hub.waiting_count(), desk.rows(rows::BROADCAST)), (2, 1));
    // Who comes meanwhile has it; a period is the sender's own, and over by this clock.
    desk.online(anna);
    assert_eq!(desk.bodies(anna), ["an hour"]);
    assert_eq!(
        desk.send(&news, message("1", to(&["anna", "ben"]), "an hour")).0,
        200,
        "the id is remembered"
    );
    assert_eq!(desk.bodies(anna), Vec::<String>::new());
    desk.jump(0);
    desk.wait(600);
    desk.online(ben);
    let mut bodies = desk.bodies(ben);
    bodies.sort();
    assert_eq!(bodies, ["an hour", "two hours"]);
    desk.offline(ben);
    desk.wait(1300);
    assert_eq!(desk.hub.waiting_count(), 1, "its hour is over, but for what is under way");
    desk.wait(2 * HOUR);
    assert_eq!(desk.rows(rows::BROADCAST), 0);
}

#[test]
fn a_jump_forward_that_lasts_counts_after_a_grace() {
    let mut desk = Desk::new(HubConfig::default());
    let anna = desk.user("anna", 1)[0];
    let news = desk.app("news");
    desk.send(&news, message("1", to(&["anna"]), "an hour"));
    desk.jump(DAY);
    desk.wait(HOUR - 120);
    // Nobody doubts what is little, and it does not begin the grace anew.
    desk.jump(DAY + 30);
    assert_eq!(desk.kept(), (1, 1));
    desk.wait(300);
    assert_eq!(desk.hub.waiting_count(), 0);
    // What came after the jump lives by the clock as it is.
    desk.send(&news, message("2", to(&["anna"]), "an hour"));
    desk.wait(HOUR - 120);
    assert_eq!(desk.hub.waiting_count(), 1);
    desk.wait(300);
    assert_eq!(desk.kept(), (0, 0));
    desk.online(anna);
    assert_eq!(desk.bodies(anna), Vec::<String>::new());
}

#[test]
fn what_was_kept_while_the_clock_was_ahead_does_not_live_for_ever() {
    for restarts in [false, true] {
        let sweep = Duration::from_secs(HOUR);
        let mut desk = Desk::new(HubConfig { sweep, max_silence: 100, ..HubConfig::default() });
        desk.user("anna", 1);
        let news = desk.app("news");
        desk.jump(4000 * DAY);
        desk.wait(2 * HOUR);
        desk.send(&news, message("1", to(&["anna"]), "an hour"));
        desk.jump(0);
        if restarts {
            desk.crash();
        }
        desk.wait(29 * DAY as u64);
        assert_eq!(desk.hub.waiting_count(), 1, "nobody knows better than a month");
        desk.wait(2 * DAY as u64);
        assert_eq!(desk.hub.waiting_count(), 0);
    }
}

/// Days forwards and backwards, crashes, logins and messages in any order: nobody misses anything, nothing stays for ever.
#[test]
fn jumps_at_any_time_lose_nothing_and_leave_nothing() {
    for seed in 0..60 {
        let mut rng = Seeded::new(seed);
        let mut desk = Desk::new(HubConfig { sweep: Duration::from_secs(600), ..HubConfig::default() });
        let (anna, ben) = (desk.user("anna", 2), desk.user("ben", 1));
        let news = desk.app("news");
        let inboxes = [anna[0], anna[1], ben[0]];
        let mut wanted = vec![0u32; 3];
        let mut had = vec![0u32; 3];
        let mut sent = 0;
        let collect = |desk: &mut Desk, at: usize, had: &mut Vec<u32>| {
            desk.online(inboxes[at]);
            let mut handed = desk.handed(inboxes[at]);
            while !handed.is_empty() {
                had[at] += handed.len() as u32;
                desk.confirm(inboxes[at], &handed);
                handed = desk.handed(inboxes[at]);
            }
            desk.offline(inboxes[at]);
        };
        for _ in 0..120 {
            desk.wait(u64::from(rng.below(1800)));
            match rng.below(8) {
                0..3 => {
                    let both = rng.below(2) == 0;
                    let named = if both { vec!["anna", "ben"] } else { vec!["anna"] };
                    let ttl = 25 * DAY as u32;
                    let kept = Message { ttl, ..message(&sent.to_string(), to(&named), "x") };
                    assert_eq!(desk.send(&news, kept), STORED, "seed {seed}");
                    sent += 1;
                    wanted.iter_mut().take(if both { 3 } else { 2 }).for_each(|count| *count += 1);
                }
                3..5 => collect(&mut desk, rng.below(3) as usize, &mut had),
                5..7 => {
                    let skew = (i64::from(rng.below(21)) - 10) * DAY;
                    desk.jump(skew);
                }
                _ => desk.crash(),
            }
        }
        (0..3).for_each(|at| collect(&mut desk, at, &mut had));
        assert_eq!((&had, desk.kept()), (&wanted, (0, 0)), "seed {seed}");
        assert_eq!(desk.hub.counters().expired, 0, "seed {seed}");
        desk.send(&news, message("last", to(&["anna"]), "last"));
        desk.jump(0);
        desk.wait(37 * DAY as u64);
        assert_eq!((desk.kept(), desk.rows(rows::KNOWN)), ((0, 0), 0), "seed {seed}");
    }
}
