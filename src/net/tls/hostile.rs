//! Octets that no honest peer sends, at every point of a connection's life: never a panic, always a fault or the right peer.

use super::testing::*;
use crate::{
    rng::{Entropy, Seeded},
    status::Status,
};

#[test]
fn a_handshake_cut_at_any_octet_ends_both_sides() {
    for version in VERSIONS {
        let ends = Ends::new(version);
        let whole = ends.shaken();
        for (up, most) in [(true, whole.up.total), (false, whole.down.total)] {
            // Signatures differ by a few octets from one handshake to the next.
            for cut in (1..most - 8).step_by(5) {
                let mut pair = ends.pair();
                if up {
                    pair.up.cut = cut
                } else {
                    pair.down.cut = cut
                }
                pair.run();
                let (reader, writer) =
                    if up { (&pair.server, &pair.client) } else { (&pair.client, &pair.server) };
                let fault = reader.fault.as_ref().expect("the reader of the cut wire sees it");
                assert_eq!((fault.status, reader.counters.truncated), (Status::Closed, 1), "{cut}: {fault}");
                // The reader hangs up, and so the other end sees it too.
                assert_eq!(writer.fault.as_ref().map(|fault| fault.status), Some(Status::Closed), "{cut}");
            }
        }
    }
}

/// Runs a handshake in which `spoil` may change what travels, by direction and position in it.
fn spoilt(ends: &Ends, mut spoil: impl FnMut(bool, usize, &mut [u8])) -> Pair {
    let mut pair = ends.pair();
    let mut seen = [0, 0];
    let mut turns = 0;
    loop {
        let mut moved = pair.client.turn(&mut pair.down, &mut pair.up);
        for (up, wire) in [(true, &mut pair.up), (false, &mut pair.down)] {
            let at = &mut seen[usize::from(up)];
            if wire.total > *at {
                spoil(up, *at, wire.octets.make_contiguous());
                *at = wire.total;
            }
        }
        moved |= pair.server.turn(&mut pair.up, &mut pair.down);
        let wire = &mut pair.down;
        if wire.total > seen[0] {
            spoil(false, seen[0], wire.octets.make_contiguous());
            seen[0] = wire.total;
        }
        turns += 1;
        assert!(turns < 100, "two ends must come to rest");
        if !moved {
            return pair;
        }
    }
}

/// However a handshake went, these hold.
fn judge(pair: &mut Pair, ends: &Ends) {
    for (side, key) in [(&pair.client, ends.keys.1), (&pair.server, ends.keys.0)] {
        assert!(side.got.is_empty());
        // Octets of the record header are not authenticated; so it may finish, but only with the right peer.
        match side.tls.is_handshaking() {
            true => assert_eq!(side.tls.peer_key(), None),
            false => assert_eq!(side.tls.peer_key(), Some(key)),
        }
    }
    (pair.up.closed, pair.down.closed) = (true, true);
    pair.run();
    assert!(pair.client.fault.is_some() && pair.server.fault.is_some());
    let all = [&pair.client, &pair.server];
    let counted = all.map(|side| {
        let c = &side.counters;
        c.bad_identity + c.bad_alpn + c.oversize + c.bad_protocol + c.refused_by_peer + c.truncated
    });
    assert_eq!(counted, [1, 1], "{:?}", pair.faults());
}

#[test]
fn a_flipped_bit_anywhere_ends_or_changes_nothing() {
    let mut rng = Seeded::new(1);
    for version in VERSIONS {
        let ends = Ends::new(version);
        let whole = ends.shaken();
        let mut ended = 0;
        for round in 0..600 {
            let up = round % 2 == 0;
            let total = if up { whole.up.total } else { whole.down.total };
            let target = rng.below(total as u32) as usize;
            let bit = 1 << rng.below(8);
            let mut pair = spoilt(&ends, |direction, at, octets| {
                if direction == up && (at..at + octets.len()).contains(&target) {
                    octets[target - at] ^= bit;
                }
            });
            ended += u32::from(pair.client.fault.is_some() || pair.server.fault.is_some());
            judge(&mut pair, &ends);
        }
        assert!(ended > 400, "{ended}");
    }
}

#[test]
fn random_octets_after_any_part_of_a_handshake() {
    let mut rng = Seeded::new(2);
    for version in VERSIONS {
        let ends = Ends::new(version);
        let whole = ends.shaken();
        for round in 0..400 {
            let up = round % 2 == 0;
            let total = if up { whole.up.total } else { whole.down.total };
            let from = rng.below(total as u32) as usize;
            let mut pair = spoilt(&ends, |direction, at, octets| {
                if direction == up && at + octets.len() > from {
                    rng.fill(&mut octets[from.saturating_sub(at)..]);
                }
            });
            judge(&mut pair, &ends);
        }
    }
}

#[test]
fn random_octets_on_a_finished_connection() {
    let mut rng = Seeded::new(3);
    for version in VERSIONS {
        let ends = Ends::new(version);
        for round in 0..100 {
            let mut pair = ends.shaken();
            let mut noise = vec![0; 1 + rng.below(2000) as usize];
            rng.fill(&mut noise);
            if round % 2 == 0 {
                // A record header that is right, so that the noise reaches decryption.
                noise.splice(..0, [23, 3, 3, (noise.len() >> 8) as u8, noise.len() as u8]);
            }
            pair.up.octets.extend(&noise);
            pair.up.closed = true;
            pair.run();
            assert!(pair.server.got.is_empty());
            let status = pair.server.fault.as_ref().unwrap().status;
            assert!(matches!(status, Status::Tls | Status::Closed), "{status:?}");
        }
    }
}
