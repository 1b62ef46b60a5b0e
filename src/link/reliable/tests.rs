use super::*;
use crate::{
    rng::{Entropy, Seeded},
    wire::link::{Frame, Kind, MAX_MESSAGE, MAX_PIECES, PIECE},
};
use std::collections::BTreeMap;

fn at(ms: u64) -> Time {
    Time::from_micros(ms * 1000)
}

/// One end with its counter.
struct End {
    reliable: Reliable,
    counter: u64,
}

impl End {
    fn new() -> End {
        End { reliable: Reliable::new(at(0), 0, 0), counter: 0 }
    }

    fn poll(&mut self, now: Time) -> Vec<(u64, Vec<u8>)> {
        let mut all = Vec::new();
        loop {
            let mut frame = Vec::new();
            if !self.reliable.poll(now, self.counter, &mut frame) {
                return all;
            }
            all.push((self.counter, frame));
            self.counter += 1;
        }
    }

    fn take(&mut self, now: Time, counter: u64, frame: &[u8]) {
        let frame = Frame::decode(frame).unwrap();
        match frame.kind {
            Kind::Piece => {
                let taken = self.reliable.piece(now, counter, &frame, true);
                assert!(matches!(taken, Taken::New | Taken::Repeated), "{taken:?}");
            }
            Kind::Acknowledgement => {
                self.reliable.note(counter);
                let ack = Acknowledgement::decode(frame.data).unwrap();
                assert!(self.reliable.acknowledged(now, self.counter, &ack));
            }
            other => panic!("{other:?}"),
        }
    }
}

fn piece(message: u32, index: u16, count: u16, data: &[u8]) -> Frame<'_> {
    Frame { kind: Kind::Piece, message, index, count, data }
}

#[test]
fn messages_arrive_once_and_in_order_over_a_bad_network() {
    for seed in 0..40 {
        let mut rng = Seeded::new(seed);
        let loss = rng.below(300);
        let mut ends = [End::new(), End::new()];
        let mut way: BTreeMap<(u64, u64), (usize, u64, Vec<u8>)> = BTreeMap::new();
        let mut sent: [Vec<Vec<u8>>; 2] = Default::default();
        let mut got: [Vec<Vec<u8>>; 2] = Default::default();
        let mut acked = [0u32; 2];
        let (mut now, mut order) = (0, 0);
        while now < 400_000 {
            let wanted = if now < 2000 { 1 } else { 0 };
            for end in 0..2 {
                if wanted > 0 && rng.below(30) == 0 {
                    let length = if rng.below(6) == 0 { rng.below(40_000) } else { rng.below(900) };
                    let mut octets = vec![0; length as usize];
                    rng.fill(&mut octets);
                    if ends[end].reliable.send(at(now), octets.clone()).is_ok() {
                        sent[end].push(octets);
                    }
                }
                let fine = ends[end].reliable.expire(at(now));
                assert_eq!(fine, Ok(()), "seed {seed}, at {now}, of {loss}");
                for (counter, frame) in ends[end].poll(at(now)) {
                    for _ in 0..1 + u32::from(rng.below(50) == 0) {
                        if rng.below(1000) >= loss {
                            order += 1;
                            let due = now + 5 + u64::from(rng.below(40));
                            way.insert((due, order), (1 - end, counter, frame.clone()));
                        }
                    }
                }
            }
            let mut came = false;
            while let Some(((due, _), _)) = way.first_key_value()
                && *due <= now
            {
                let (_, (to, counter, frame)) = way.pop_first().unwrap();
                ends[to].take(at(now), counter, &frame);
                came = true;
                while let Some(message) = ends[to].reliable.pop() {
                    got[to].push(message);
                }
                while let Some(number) = ends[to].reliable.pop_acked() {
                    assert_eq!(number, acked[to]);
                    acked[to] += 1;
                    assert!(got[1 - to].len() >= acked[to] as usize, "acknowledged before it was whole");
                }
            }
            let quiet = ends.iter().all(|end| end.reliable.is_idle(at(now)));
            if now >= 2000 && quiet && way.is_empty() {
                break;
            }
            let next = ends
                .iter()
                .map(|end| end.reliable.deadline().min(end.reliable.linger()).as_micros().div_ceil(1000))
                .min()
                .unwrap();
            let arrival = way.first_key_value().map_or(u64::MAX, |((due, _), _)| *due);
            let step = if now < 2000 || came { now + 1 } else { next.min(arrival) };
            now = step.max(now + 1);
        }
        assert!(sent[0] == got[1] && sent[1] == got[0], "seed {seed}: {} {}", got[0].len(), got[1].len());
        assert_eq!(acked.map(|count| count as usize), [sent[0].len(), sent[1].len()]);
    }
}

#[test]
fn the_send_queue_has_a_bound_and_says_when_there_is_room() {
    let (mut sender, mut receiver) = (End::new(), End::new());
    let mut count = 0;
    while sender.reliable.send(at(0), vec![1; 1000]).is_ok() {
        count += 1;
    }
    assert_eq!(count, 256);
    assert_eq!(sender.reliable.send(at(0), Vec::new()).unwrap_err().status, Status::Full);
    let mut writable = 0;
    for now in 0..2000 {
        for (counter, frame) in sender.poll(at(now)) {
            receiver.take(at(now), counter, &frame);
        }
        for (counter, frame) in receiver.poll(at(now)) {
            sender.take(at(now), counter, &frame);
        }
        while sender.reliable.pop_acked().is_some() {}
        writable += u32::from(sender.reliable.pop_writable());
    }
    assert_eq!((writable, sender.reliable.queued()), (1, 0));
    let mut octets = 0;
    while sender.reliable.send(at(2000), vec![1; MAX_MESSAGE]).is_ok() {
        octets += MAX_MESSAGE;
    }
    assert_eq!(octets, 2 * MAX_MESSAGE);
    assert_eq!(sender.reliable.send(at(0), vec![0; MAX_MESSAGE + 1]).unwrap_err().status, Status::Invalid);
}

#[test]
fn a_silent_peer_is_given_up_after_eight_timeouts() {
    let mut end = End::new();
    end.reliable.send(at(0), vec![1; 5000]).unwrap();
    let mut sends = Vec::new();
    let failure = loop {
        let now = end.reliable.deadline().min(at(1_000_000));
        let now = if sends.is_empty() { at(0) } else { now };
        match end.reliable.expire(now) {
            Ok(()) => sends.push(end.poll(now).len()),
            Err(failure) => break failure,
        }
    };
    assert_eq!(failure, Failure::Unreachable);
    assert_eq!(sends, [10, 2, 2, 2, 2, 2, 2, 2], "a window, then two probes each time");
}

#[test]
fn a_sender_stays_within_its_span() {
    let (mut sender, mut receiver) = (End::new(), End::new());
    for _ in 0..2 {
        sender.reliable.send(at(0), vec![1; MAX_MESSAGE]).unwrap();
    }
    for _ in 0..200 {
        let _ = sender.reliable.send(at(0), vec![2; 60]);
    }
    // The very first piece is always lost, all else arrives at once.
    let mut most = 0;
    for now in 0..6000 {
        for (counter, frame) in sender.poll(at(now)) {
            let it = Frame::decode(&frame).unwrap();
            if (it.message, it.index) != (0, 0) {
                receiver.take(at(now), counter, &frame);
            }
        }
        most = most.max(receiver.reliable.held());
        for (counter, frame) in receiver.poll(at(now)) {
            sender.take(at(now), counter, &frame);
        }
    }
    assert_eq!(most, 511);
}

#[test]
fn a_receiver_holds_so_much_and_no_more() {
    let mut end = End::new();
    let full = [7; PIECE];
    let mut counter = 0;
    let mut offer = |end: &mut End, message, index, count, data: &[u8], room| {
        counter += 1;
        end.reliable.piece(at(1), counter, &piece(message, index, count, data), room)
    };
    for index in 1..=255 {
        assert_eq!(offer(&mut end, 0, index, 256, &full, true), Taken::New);
        assert_eq!(offer(&mut end, 1, index, 256, &full, true), Taken::New);
        assert_eq!(offer(&mut end, 2, index, 256, &full, true), Taken::New);
    }
    assert_eq!(offer(&mut end, 768, 0, 1, &[], true), Taken::NoRoom, "too far ahead");
    for message in 3..6 {
        assert_eq!(offer(&mut end, message, 0, 2, &full, true), Taken::New);
    }
    assert_eq!(end.reliable.held(), 768);
    assert_eq!(offer(&mut end, 7, 0, 2, &full, true), Taken::NoRoom);
    assert_eq!(end.reliable.expire(at(121_000)), Err(Failure::Stalled));

    let mut end = End::new();
    assert_eq!(offer(&mut end, 1, 0, 1, b"later", false), Taken::NoRoom, "no memory anywhere");
    assert_eq!(offer(&mut end, 0, 0, 1, b"now", false), Taken::New);
    assert_eq!(offer(&mut end, 0, 0, 1, b"now", false), Taken::Repeated);
    assert_eq!(end.reliable.pop().as_deref(), Some(&b"now"[..]));
    assert_eq!(end.reliable.pop(), None);
}

#[test]
fn pieces_that_contradict_the_format_are_not_acknowledged() {
    let mut end = End::new();
    let long = [0; PIECE + 1];
    let bad = [
        piece(0, 0, 0, b""),
        piece(0, 1, 1, b""),
        piece(0, 0, MAX_PIECES as u16 + 1, &long[..PIECE]),
        piece(0, 0, 2, b"short"),
        piece(0, 0, 1, &long),
        piece(0, 0xffff, 0xffff, b""),
        piece(0, 0xffff, 0, b""),
    ];
    for frame in bad {
        assert_eq!(end.reliable.piece(at(1), 0, &frame, true), Taken::Malformed, "{frame:?}");
    }
    assert_eq!(end.reliable.piece(at(1), 0, &piece(0, 0, 2, &long[..PIECE]), true), Taken::New);
    assert_eq!(end.reliable.piece(at(1), 1, &piece(0, 1, 3, &long[..PIECE]), true), Taken::Malformed);
    assert_eq!(end.poll(at(100)).len(), 1);
}

#[test]
fn acknowledgements_of_what_was_never_sent_are_refused() {
    let mut end = End::new();
    end.reliable.send(at(0), vec![1]).unwrap();
    assert_eq!(end.poll(at(0)).len(), 1);
    let ack = |first, last| Acknowledgement { delay: 0, runs: vec![(first, last)] };
    assert!(!end.reliable.acknowledged(at(1), end.counter, &ack(0, 1)));
    assert_eq!(end.reliable.pop_acked(), None);
    assert!(end.reliable.acknowledged(at(1), end.counter, &ack(0, 0)));
    assert_eq!(end.reliable.pop_acked(), Some(0));
    assert!(end.reliable.acknowledged(at(1), end.counter, &ack(0, 0)), "again is harmless");
    assert_eq!(end.reliable.pop_acked(), None);
}

#[test]
fn new_keys_begin_again_with_what_was_under_way() {
    let (mut sender, mut receiver) = (End::new(), End::new());
    sender.reliable.send(at(0), vec![3; 3000]).unwrap();
    let lost = sender.poll(at(0));
    assert_eq!(lost.len(), 7);
    receiver.take(at(1), lost[2].0, &lost[2].1);
    sender.reliable.restart();
    receiver.reliable.restart();
    (sender.counter, receiver.counter) = (0, 0);
    for (counter, frame) in sender.poll(at(2)) {
        receiver.take(at(3), counter, &frame);
    }
    assert_eq!(receiver.reliable.pop(), Some(vec![3; 3000]));
    for (counter, frame) in receiver.poll(at(3)) {
        sender.take(at(4), counter, &frame);
    }
    assert_eq!(sender.reliable.pop_acked(), Some(0));
    assert!(sender.reliable.is_idle(at(4000)) && receiver.reliable.is_idle(at(4000)));
}

#[test]
fn numbers_end_before_they_come_again() {
    let mut reliable = Reliable::new(at(0), u32::MAX - 1, 0);
    assert_eq!(reliable.send(at(0), Vec::new()), Ok(u32::MAX - 1));
    assert_eq!(reliable.send(at(0), Vec::new()).unwrap_err().status, Status::Full);
}

#[test]
fn the_last_number_is_nobodys() {
    let mut reliable = Reliable::new(Time::ZERO, 0, u32::MAX);
    let frame = Frame { kind: Kind::Piece, message: u32::MAX, index: 0, count: 1, data: b"x" };
    assert_eq!(reliable.piece(Time::ZERO, 0, &frame, true), Taken::Malformed);
    assert_eq!(reliable.numbers(), (0, u32::MAX));
}
