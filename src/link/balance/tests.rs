use std::{net::SocketAddr, time::Duration};

use super::*;
use crate::{
    link::public_key,
    rng::Seeded,
    time::Time,
    wire::{
        balance::{ASK_COOKIE, Answer, Question, RttClass, Seen},
        link::{REQUEST, Refusal},
    },
};

const PRIVATE: [u8; 32] = [4; 32];
const BROKER: Answer = Answer::Broker {
    address: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 9)), 7700),
    key: [8; 32],
};

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

fn here() -> SocketAddr {
    "198.51.100.1:5000".parse().unwrap()
}

fn answerer(asks_without_cookie: u32, asks_of_one: u16) -> Answerer {
    let config = AnswererConfig { asks_without_cookie, asks_of_one };
    Answerer::new(config, PRIVATE, Time::ZERO, Seeded::new(1))
}

fn asker(seed: u64) -> Asker {
    Asker::new(public_key(&PRIVATE), Seeded::new(seed))
}

fn sent(asker: &mut Asker) -> Vec<u8> {
    match asker.poll_output() {
        Some(AskerOutput::Send(octets)) => octets,
        other => panic!("{other:?}"),
    }
}

fn told(asker: &mut Asker) -> AskerEvent {
    match asker.poll_output() {
        Some(AskerOutput::Event(event)) => event,
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_asks_is_given_a_broker_and_the_balancer_sees_what_it_tells() {
    let (mut device, mut balancer) = (asker(2), answerer(500, 200));
    let seen = Seen { address: "192.0.2.7:7700".parse().unwrap(), class: RttClass(2), failed: true };
    let question = Question { features: 0, seen: vec![seen] };
    device.ask(at(0), question.clone());
    let ask = sent(&mut device);
    let mut seen = None;
    let give = balancer
        .handle(at(0), here(), &ask, |question| {
            seen = Some(question.clone());
            BROKER
        })
        .unwrap();
    assert_eq!(seen, Some(question));
    assert!(ask.len() == REQUEST && give.len() <= ask.len());
    for at_octet in 0..give.len() {
        let mut damaged = give.clone();
        damaged[at_octet] ^= 1;
        // Two octets are reserved, and anybody may set them.
        if !(6..8).contains(&at_octet) {
            device.handle(at(0), &damaged);
            assert_eq!(device.poll_output(), None, "octet {at_octet}");
        }
    }
    device.handle(at(0), &give);
    let Answer::Broker { address, key } = BROKER else { unreachable!() };
    assert_eq!(told(&mut device), AskerEvent::Given { address, key });
    assert!(!device.is_busy() && device.deadline().is_none());
    device.handle(at(0), &give);
    assert_eq!((device.counters().given, device.counters().unexpected > 0), (1, true));
}

#[test]
fn under_load_a_cookie_stands_before_any_computation_and_answers_are_never_longer() {
    let (mut device, mut balancer) = (asker(3), answerer(0, 200));
    device.ask(at(0), Question::default());
    let ask = sent(&mut device);
    let cookie = balancer.handle(at(0), here(), &ask, |_| panic!("nothing is chosen yet")).unwrap();
    assert!(cookie.len() < ask.len());
    device.handle(at(0), &cookie);
    let again = sent(&mut device);
    assert_eq!(again[26..], ask[26..], "the same ask");
    // From elsewhere it is worth nothing.
    let there = "198.51.100.2:5000".parse().unwrap();
    let other = balancer.handle(at(0), there, &again, |_| panic!("not its cookie")).unwrap();
    assert_eq!(other.len(), cookie.len());
    assert_eq!((balancer.counters().cookies, balancer.counters().bad_cookies), (2, 1));
    device.handle(at(0), &other);
    assert_eq!(device.poll_output(), None, "one cookie is taken for an ask");
    let give = balancer.handle(at(0), here(), &again, |_| BROKER).unwrap();
    device.handle(at(0), &give);
    assert!(matches!(told(&mut device), AskerEvent::Given { .. }));
}

#[test]
fn one_host_gets_its_share_of_a_second_and_others_theirs() {
    let (mut device, mut balancer) = (asker(4), answerer(0, 3));
    device.ask(at(0), Question::default());
    let ask = sent(&mut device);
    let mut answers = |now, from| {
        let mut ask = ask.clone();
        let cookie = balancer.handle(now, from, &ask, |_| BROKER).unwrap();
        ask[ASK_COOKIE..ASK_COOKIE + 16].copy_from_slice(&cookie[16..]);
        (0..5).filter(|_| balancer.handle(now, from, &ask, |_| BROKER).is_some()).count()
    };
    assert_eq!(answers(at(0), here()), 3);
    assert_eq!(answers(at(0), "203.0.113.5:1".parse().unwrap()), 3);
    assert_eq!(answers(at(1), here()), 3, "another second");
    assert_eq!(balancer.counters().too_many, 6);
}

#[test]
fn who_asks_in_the_name_of_a_host_takes_nothing_of_its_share() {
    let (mut device, mut balancer) = (asker(4), answerer(10, 3));
    device.ask(at(0), Question::default());
    let ask = sent(&mut device);
    // Anybody can write a host's address into a datagram; the answers go to the host.
    let mut forger = asker(5);
    for _ in 0..50 {
        forger.ask(at(0), Question::default());
        balancer.handle(at(0), here(), &sent(&mut forger), |_| BROKER);
    }
    assert_eq!((balancer.counters().given, balancer.counters().cookies), (10, 40));
    let cookie = balancer.handle(at(0), here(), &ask, |_| BROKER).unwrap();
    device.handle(at(0), &cookie);
    let give = balancer.handle(at(0), here(), &sent(&mut device), |_| BROKER).unwrap();
    device.handle(at(0), &give);
    assert!(matches!(told(&mut device), AskerEvent::Given { .. }));
}

#[test]
fn what_is_no_ask_for_this_key_is_refused_or_counted() {
    let mut balancer = answerer(500, 200);
    let mut other = Asker::new([9; 32], Seeded::new(5));
    other.ask(at(0), Question::default());
    let ask = sent(&mut other);
    let refusal = balancer.handle(at(0), here(), &ask, |_| BROKER).unwrap();
    other.handle(at(0), &refusal);
    assert_eq!(told(&mut other), AskerEvent::Refused(Refusal::OtherKey));
    // A hint: after a second without a better answer it pauses.
    other.deadline_passed(at(1));
    assert!(matches!(told(&mut other), AskerEvent::Waiting(_)));

    let mut device = asker(6);
    device.ask(at(0), Question::default());
    let ask = sent(&mut device);
    for octet in 26..ask.len() {
        let mut damaged = ask.clone();
        damaged[octet] ^= 1;
        let sealed = octet < 26 + 32 + 84 + 16;
        let answer = balancer.handle(at(octet as u64), here(), &damaged, |_| BROKER);
        assert_eq!(answer.is_none(), sealed, "octet {octet}");
    }
    let mut later = ask.clone();
    later[5] = 2;
    let refusal = balancer.handle(at(0), here(), &later, |_| BROKER).unwrap();
    device.handle(at(0), &refusal);
    assert_eq!(told(&mut device), AskerEvent::Refused(Refusal::Version));
    assert_eq!(balancer.handle(at(0), here(), &ask[..100], |_| BROKER), None);
    assert_eq!(balancer.counters().malformed, 1);
}

#[test]
fn an_ask_is_repeated_and_then_waits_later_and_later() {
    let mut device = asker(7);
    device.ask(at(0), Question::default());
    let first = sent(&mut device);
    let mut now = Time::ZERO;
    let (mut sends, mut pauses) = (1, Vec::new());
    while pauses.len() < 12 {
        now = device.deadline().unwrap();
        device.deadline_passed(now);
        while let Some(output) = device.poll_output() {
            match output {
                AskerOutput::Send(octets) => {
                    sends += 1;
                    assert_eq!(octets == first, pauses.is_empty(), "an ask of its own after each pause");
                }
                AskerOutput::Event(AskerEvent::Waiting(pause)) => pauses.push(pause),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(sends, 4 * 12);
    assert!(pauses[0] <= Duration::from_secs(1) && pauses[11] >= Duration::from_secs(300));
    assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(600)));
    device.network_changed(now);
    sent(&mut device);
}

#[test]
fn without_a_broker_it_asks_again_when_the_balancer_says_and_not_never() {
    let (mut device, mut balancer) = (asker(8), answerer(500, 200));
    for (wished, longest) in [(10, 10), (0, 1), (u32::MAX, 600)] {
        device.ask(at(0), Question::default());
        let ask = sent(&mut device);
        let none = balancer.handle(at(0), here(), &ask, |_| Answer::None { pause: wished }).unwrap();
        device.handle(at(0), &none);
        let AskerEvent::None(pause) = told(&mut device) else { panic!() };
        assert!(pause <= Duration::from_secs(longest) && pause >= Duration::from_millis(longest * 500));
        assert_eq!(device.deadline(), Some(at(0) + pause));
    }
    assert_eq!(balancer.counters().none, 3);
}
