//! Asks and gives: a device, a balancer that answers what the input says, and datagrams that the input bends, repeats and makes up
//! between them.
//!
//! No answer is longer than what it answers; what a device takes for an answer the balancer gave; it does not ask more often than
//! it may, nor for ever; and who shows a cookie is answered, whoever else says to be there.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use hailpost::{
    link::{Answerer, AnswererConfig, Asker, AskerEvent, AskerOutput},
    rng::Seeded,
    time::Time,
    wire::balance::{ANSWER, Answer, Datagram, QUESTION, Question, RttClass, Seen, read_address},
};

struct World {
    now: Time,
    balancer: Answerer,
    device: Asker,
    /// Under way to the balancer, and to the device.
    up: VecDeque<Vec<u8>>,
    down: VecDeque<Vec<u8>>,
    past: VecDeque<Vec<u8>>,
    /// What the balancer says next, and all that it said.
    answer: Answer,
    said: Vec<Answer>,
    /// Datagrams of the device since it was told to ask or that its network changed, and the asks that it began.
    sent: usize,
    begun: usize,
}

fn device() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 4000))
}

impl World {
    fn new(options: u8) -> World {
        let asks_without_cookie = [0, 1, 4, 500][usize::from(options % 4)];
        let config = AnswererConfig { asks_without_cookie, asks_of_one: 4 };
        let balancer = Answerer::new(config, [7; 32], Time::ZERO, Seeded::new(1));
        let device = Asker::new(balancer.public_key(), Seeded::new(2));
        let answer = Answer::None { pause: 10 };
        World {
            now: Time::ZERO,
            balancer,
            device,
            up: VecDeque::new(),
            down: VecDeque::new(),
            past: VecDeque::new(),
            answer,
            said: Vec::new(),
            sent: 0,
            begun: 0,
        }
    }

    fn step(&mut self, what: u8, how: u8, rest: &mut &[u8]) {
        match what % 14 {
            0 => {
                let octets = take(rest, QUESTION);
                let question = octets.try_into().ok().and_then(Question::decode);
                self.begun += 1;
                self.device.ask(self.now, question.unwrap_or_else(|| question_of(how)));
            }
            1 => self.device.ask_later(self.now + Duration::from_secs(how.into()), question_of(how)),
            2 => self.device.stop(),
            3 => {
                self.begun += 1;
                self.device.network_changed(self.now);
            }
            4 | 5 => {
                if let Some(octets) = self.up.pop_front() {
                    self.ask(device(), &octets);
                }
            }
            6 | 7 => {
                if let Some(octets) = self.down.pop_front() {
                    self.give(&octets);
                }
            }
            8 => {
                let octets = take(rest, ANSWER);
                let answer = octets.try_into().ok().and_then(Answer::decode);
                self.answer = answer.unwrap_or(Answer::None { pause: how.into() });
            }
            9 => {
                // Bent, or of another length.
                let way = if how & 1 == 0 { &mut self.up } else { &mut self.down };
                let [at, by] = take(rest, 2) else { return };
                if let Some(octets) = way.back_mut() {
                    if how & 2 != 0 {
                        octets.resize(usize::from(*at) + 16, *by);
                    } else {
                        let at = usize::from(*at) % octets.len();
                        octets[at] ^= by | 1;
                    }
                }
            }
            10 => {
                // What was said before, to either, from anywhere.
                let Some(old) = self.past.get(usize::from(how / 4) % self.past.len().max(1)).cloned() else {
                    return;
                };
                let elsewhere = SocketAddr::from(([198, 51, 100, how], 9));
                match how % 4 {
                    0 => self.give(&old),
                    1 => drop(self.ask(elsewhere, &old)),
                    _ => drop(self.ask(device(), &old)),
                }
            }
            11 => {
                let octets = take(rest, how.into()).to_vec();
                self.give(&octets);
                self.ask(device(), &octets);
            }
            12 => self.pass(Duration::from_millis(u64::from(how) * 20)),
            _ => self.pass(Duration::from_secs(u64::from(how) * 4)),
        }
        self.settle();
    }

    fn ask(&mut self, from: SocketAddr, octets: &[u8]) -> bool {
        let (answer, said) = (self.answer, &mut self.said);
        let given = self.balancer.handle(self.now, from, octets, |question| {
            assert_eq!(Question::decode(&question.encode()).as_ref(), Some(question));
            said.push(answer);
            answer
        });
        self.remember(octets);
        let Some(given) = given else { return false };
        assert!(given.len() <= octets.len(), "{} for {}", given.len(), octets.len());
        let is_give = matches!(Datagram::decode(&given), Ok(Datagram::Give { .. }));
        if from == device() {
            self.down.push_back(given);
        }
        is_give
    }

    fn give(&mut self, octets: &[u8]) {
        self.device.handle(self.now, octets);
        self.remember(octets);
        self.settle();
    }

    fn remember(&mut self, octets: &[u8]) {
        self.past.push_back(octets.to_vec());
        if self.past.len() > 64 {
            self.past.pop_front();
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.device.deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.device.deadline_passed(self.now);
            self.settle();
            assert!(self.device.deadline().is_none_or(|due| due > self.now), "the device is never done");
        }
        self.now = end;
    }

    fn settle(&mut self) {
        while let Some(output) = self.device.poll_output() {
            match output {
                AskerOutput::Send(octets) => {
                    assert_eq!(octets.len(), 256);
                    self.sent += 1;
                    self.up.push_back(octets);
                    if self.up.len() > 16 {
                        self.up.pop_front();
                    }
                }
                AskerOutput::Event(AskerEvent::Given { address, key }) => {
                    assert!(self.said.contains(&Answer::Broker { address, key }), "nobody gave that");
                }
                AskerOutput::Event(AskerEvent::None(pause)) => {
                    assert!((1..=600_000).contains(&pause.as_millis()), "a pause of {pause:?}");
                    self.begun += 1;
                }
                AskerOutput::Event(AskerEvent::Waiting(pause)) => {
                    assert!(pause <= Duration::from_secs(600));
                    self.begun += 1;
                }
                AskerOutput::Event(AskerEvent::Refused(_)) => {}
            }
        }
        // Four sends of each ask, and one for a cookie; asking later begins once more.
        assert!(self.sent <= 5 * (2 * self.begun + 2) + 5 * self.said.len(), "{} datagrams", self.sent);
    }

    /// In a second in which others ask much, from the device's own address too, the device is answered.
    fn heal(&mut self) {
        self.now += Duration::from_secs(2);
        let asked = |world: &mut World, seed: u64| {
            let mut other = Asker::new(world.balancer.public_key(), Seeded::new(seed));
            other.ask(world.now, Question::default());
            match other.poll_output() {
                Some(AskerOutput::Send(octets)) => (other, octets),
                other => panic!("{other:?}"),
            }
        };
        for seed in 0..12 {
            let (_, octets) = asked(self, 100 + seed);
            self.ask(device(), &octets);
        }
        self.down.clear();
        let (mut other, octets) = asked(self, 99);
        if self.ask(device(), &octets) {
            return;
        }
        let answer = self.down.pop_back().expect("who asks is answered, or gets a cookie");
        other.handle(self.now, &answer);
        let Some(AskerOutput::Send(octets)) = other.poll_output() else { panic!("a cookie is taken") };
        assert!(self.ask(device(), &octets), "with a cookie it is answered");
    }
}

fn question_of(how: u8) -> Question {
    let address = read_address([how; 18]);
    let seen = Seen { address, class: RttClass(how % 8), failed: how > 99 };
    Question { features: how.into(), seen: vec![seen; usize::from(how % 5)] }
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, left) = rest.split_at(count.min(rest.len()));
    *rest = left;
    taken
}

/// Runs one input.
pub fn run(octets: &[u8]) {
    let Some((options, mut rest)) = octets.split_first() else { return };
    let mut world = World::new(*options);
    let mut steps = 0;
    while let [what, how, tail @ ..] = rest {
        rest = tail;
        world.step(*what, *how, &mut rest);
        steps += 1;
        if steps >= 300 {
            break;
        }
    }
    world.heal();
}
