//! Whatever comes: nothing falls over, nothing is believed, nobody is answered more than they sent.

use hailpost::{
    link::{Path, ServerOutput},
    rng::{Entropy, Seeded},
};

use crate::pair::Pair;

#[test]
fn random_truncated_and_replayed_datagrams_change_nothing() {
    for seed in 0..5 {
        let mut pair = Pair::new(seed, 2);
        pair.up();
        let sessions = [pair.session(0), pair.session(1)];
        let paths = sessions.map(|session| pair.server.path(session));
        for at in 0..2 {
            pair.send_up(at, &[at as u8; 3000]);
            pair.send_down(at, &[at as u8; 3000]);
        }
        pair.run(2000);
        let mut seen: Vec<Vec<u8>> = pair.answers.iter().map(|(_, octets)| octets.clone()).collect();
        seen.extend(pair.devices.iter().flat_map(|device| device.sent.clone()));
        let mut rng = Seeded::new(seed);
        let stranger = Path::Datagram("203.0.113.7:7".parse().unwrap());
        for round in 0..20_000u32 {
            let mut octets = match rng.below(3) {
                0 => {
                    let mut octets = vec![0; rng.below(600) as usize];
                    rng.fill(&mut octets);
                    octets
                }
                _ => seen[rng.below(seen.len() as u32) as usize].clone(),
            };
            for _ in 0..rng.below(3) {
                if !octets.is_empty() {
                    let at = rng.below(octets.len() as u32) as usize;
                    octets[at] ^= 1 << rng.below(8);
                }
            }
            if rng.below(4) == 0 {
                octets.truncate(rng.below(octets.len() as u32 + 1) as usize);
            }
            let from = match rng.below(3) {
                0 => stranger,
                _ => Path::Datagram(pair.devices[rng.below(2) as usize].address),
            };
            pair.deliver(from, &octets);
            let to = rng.below(2) as usize;
            let now = pair.now;
            pair.devices[to].client.handle(now, &octets);
            if round % 500 == 0 {
                pair.run(1000);
            }
        }
        pair.run(15_000);
        let (came, went) = (pair.came[&stranger], pair.went.get(&stranger).copied().unwrap_or(0));
        assert!(went <= came, "{went} for {came}");
        assert_eq!(pair.count(|event| matches!(event, ServerOutput::SessionUp { .. })), 2);
        assert_eq!(pair.count(|event| matches!(event, ServerOutput::Message { .. })), 2);
        assert_eq!(sessions.map(|session| pair.server.path(session)), paths);
        for at in 0..2 {
            assert_eq!(pair.devices[at].messages().len(), 1);
            assert_eq!(pair.devices[at].client.counters().lost, 0);
            pair.send_up(at, b"all is well");
        }
        pair.run(1000);
        assert!((0..2).all(|at| pair.messages(sessions[at]).len() == 2));
    }
}
