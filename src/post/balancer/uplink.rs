//! A broker's end towards a balancer: enlists, reports its load on a timer, comes back when the connection is lost.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use super::Load;
use crate::{
    counters::counters, link::Backoff, post::line::Line, rng::Entropy, time::Time, wire::inner::Message,
};

/// The longest pause before the balancer is tried again.
const LONGEST: Duration = Duration::from_secs(30);
/// How long a balancer may take to answer that the broker is enlisted.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a broker says of itself.
#[derive(Clone, Debug)]
pub struct UplinkConfig {
    /// For people; with the key it is who the broker is.
    pub name: String,
    /// Drawn at the start of the process.
    pub epoch: u64,
    /// Where devices find it.
    pub address: SocketAddr,
    /// Its static public key on the link.
    pub link_key: [u8; 32],
    /// Sessions that it can hold.
    pub most: u32,
    /// From one report to the next.
    pub report_every: Duration,
}

/// What an uplink wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UplinkOutput {
    /// Connect to the balancer: [`Uplink::connected`] or [`Uplink::closed`] follows.
    Connect,
    /// Send on that connection.
    Send(Vec<u8>),
    /// Close it. Nothing follows.
    Close,
    /// The balancer has this broker.
    Enlisted,
    /// The balancer does not go on with it, for a reason of `docs/inner-links.md`, and will be asked again.
    Refused {
        /// Its number.
        code: u16,
        /// For the log.
        text: String,
    },
    /// The connection is lost, or could not be made; it is tried again after this pause.
    Waiting(Duration),
}

counters! {
    /// What a broker counted of its balancer.
    pub struct UplinkCounters {
        connections: "connections to the balancer asked for",
        enlisted: "times enlisted",
        refused: "times refused",
        reports: "reports of load sent",
        lost: "connections lost, or not made",
        unexpected: "messages that are not for a broker",
    }
}

enum Phase {
    Waiting(Time),
    Connecting,
    /// Until when the balancer is to answer.
    Enlisting(Box<Line>, Time),
    /// When the next report is due, and since when it is so.
    Enlisted(Box<Line>, Time, Time),
}

/// A broker's end.
pub struct Uplink {
    config: UplinkConfig,
    rng: Box<dyn Entropy + Send>,
    phase: Phase,
    load: Load,
    backoff: Backoff,
    outputs: VecDeque<UplinkOutput>,
    counters: UplinkCounters,
}

impl Uplink {
    /// One that connects at once.
    pub fn new(config: UplinkConfig, now: Time, rng: impl Entropy + Send + 'static) -> Uplink {
        let mut uplink = Uplink {
            config,
            rng: Box::new(rng),
            phase: Phase::Waiting(now),
            load: Load { load: 0, sessions: 0, draining: false },
            backoff: Backoff::up_to(LONGEST),
            outputs: VecDeque::new(),
            counters: UplinkCounters::default(),
        };
        uplink.handle_deadline(now);
        uplink
    }

    /// How the broker is now: told with the next report, and at once when it begins or ends to drain.
    pub fn set_load(&mut self, now: Time, load: Load) {
        let changed = load.draining != self.load.draining;
        self.load = load;
        if let Phase::Enlisted(_, due, _) = &mut self.phase
            && changed
        {
            *due = now;
            self.handle_deadline(now);
        }
    }

    /// The connection is there.
    pub fn connected(&mut self, now: Time) {
        if !matches!(self.phase, Phase::Connecting) {
            return;
        }
        let UplinkConfig { name, epoch, address, link_key, most, .. } = self.config.clone();
        let mut line = Line::new(now);
        line.send(&Message::Enlist { name, epoch, address: address.to_string(), link_key, most }, 1);
        self.phase = Phase::Enlisting(Box::new(line), now + PATIENCE);
    }

    /// Octets came on it.
    pub fn received(&mut self, now: Time, mut octets: &[u8]) {
        while let Phase::Enlisting(line, _) | Phase::Enlisted(line, ..) = &mut self.phase {
            match line.next(now, &mut octets) {
                None => return,
                Some(Ok((_, message))) => self.told(now, message),
                Some(Err(_)) => self.give_up(now),
            }
        }
    }

    /// It is gone, or could not be made.
    pub fn closed(&mut self, now: Time) {
        if !matches!(self.phase, Phase::Waiting(_)) {
            self.wait(now);
        }
    }

    /// The next thing to be done.
    pub fn poll_output(&mut self, now: Time) -> Option<UplinkOutput> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        match &mut self.phase {
            Phase::Enlisting(line, _) | Phase::Enlisted(line, ..) => line.poll(now).map(UplinkOutput::Send),
            _ => None,
        }
    }

    /// When [`Uplink::handle_deadline`] is wanted.
    pub fn deadline(&self) -> Option<Time> {
        match &self.phase {
            Phase::Connecting => None,
            Phase::Waiting(until) => Some(*until),
            Phase::Enlisting(line, due) | Phase::Enlisted(line, due, _) => Some(line.deadline().min(*due)),
        }
    }

    /// The deadline has come.
    pub fn handle_deadline(&mut self, now: Time) {
        match &mut self.phase {
            Phase::Waiting(until) if *until <= now => {
                self.phase = Phase::Connecting;
                self.counters.connections += 1;
                self.outputs.push_back(UplinkOutput::Connect);
            }
            Phase::Enlisting(line, due) => {
                let is_over = line.handle_deadline(now).is_err() || *due <= now;
                if is_over {
                    self.give_up(now);
                }
            }
            Phase::Enlisted(line, due, _) => {
                if line.handle_deadline(now).is_err() {
                    return self.give_up(now);
                }
                if *due <= now {
                    let Load { load, sessions, draining } = self.load;
                    line.send(&Message::Load { load, sessions, draining }, 0);
                    self.counters.reports += 1;
                    *due = now + self.config.report_every;
                }
            }
            _ => {}
        }
    }

    /// Whether the balancer has this broker.
    pub const fn is_enlisted(&self) -> bool {
        matches!(self.phase, Phase::Enlisted(..))
    }

    /// What was counted.
    pub const fn counters(&self) -> &UplinkCounters {
        &self.counters
    }

    fn told(&mut self, now: Time, message: Message) {
        match message {
            Message::Enlisted { .. } => {
                let phase = std::mem::replace(&mut self.phase, Phase::Connecting);
                match phase {
                    Phase::Enlisting(line, _) => {
                        self.counters.enlisted += 1;
                        self.outputs.push_back(UplinkOutput::Enlisted);
                        // It is given out from its first report on.
                        self.phase = Phase::Enlisted(line, now, now);
                        self.handle_deadline(now);
                    }
                    other => self.phase = other,
                }
            }
            Message::Refused { code, text } => {
                self.counters.refused += 1;
                self.outputs.push_back(UplinkOutput::Refused { code, text });
                self.give_up(now);
            }
            _ => self.counters.unexpected += 1,
        }
    }

    fn give_up(&mut self, now: Time) {
        self.outputs.push_back(UplinkOutput::Close);
        self.wait(now);
    }

    fn wait(&mut self, now: Time) {
        self.counters.lost += 1;
        // A balancer that lets go of who it has just taken, as of one of two brokers with one key, is not asked at once.
        if matches!(self.phase, Phase::Enlisted(_, _, since) if now.since(since) >= LONGEST) {
            self.backoff.reset();
        }
        let pause = self.backoff.next(&mut *self.rng);
        self.phase = Phase::Waiting(now + pause);
        self.outputs.push_back(UplinkOutput::Waiting(pause));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Seeded;

    const LOAD: Load = Load { load: 7, sessions: 3, draining: false };

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn uplink() -> Uplink {
        let config = UplinkConfig {
            name: "b1".into(),
            epoch: 9,
            address: "192.0.2.9:7700".parse().unwrap(),
            link_key: [1; 32],
            most: 100,
            report_every: Duration::from_secs(10),
        };
        let mut uplink = Uplink::new(config, at(0), Seeded::new(1));
        assert_eq!(uplink.poll_output(at(0)), Some(UplinkOutput::Connect));
        uplink.set_load(at(0), LOAD);
        uplink
    }

    /// What is said now, but for beats, and what else is wanted.
    fn turn(uplink: &mut Uplink, now: Time) -> (Vec<Message>, Vec<UplinkOutput>) {
        let (mut line, mut said, mut wanted) = (Line::new(now), Vec::new(), Vec::new());
        while let Some(output) = uplink.poll_output(now) {
            match output {
                UplinkOutput::Send(octets) => {
                    let mut octets = &octets[..];
                    said.extend(
                        std::iter::from_fn(|| line.next(now, &mut octets)).flatten().map(|come| come.1),
                    );
                }
                other => wanted.push(other),
            }
        }
        (said, wanted)
    }

    fn enlisted() -> Uplink {
        let mut uplink = uplink();
        uplink.connected(at(0));
        assert!(matches!(&turn(&mut uplink, at(0)).0[..], [Message::Enlist { .. }]));
        uplink.received(at(0), &Message::Enlisted { broker: 4 }.encode(1));
        uplink
    }

    fn load(load: Load) -> Message {
        Message::Load { load: load.load, sessions: load.sessions, draining: load.draining }
    }

    #[test]
    fn it_enlists_and_reports_at_once_on_the_timer_and_when_it_drains() {
        let mut uplink = enlisted();
        assert_eq!(turn(&mut uplink, at(0)), (vec![load(LOAD)], vec![UplinkOutput::Enlisted]));
        let beat = Message::Beat { taken: 0 }.encode(0);
        for second in 1..=20 {
            uplink.received(at(second), &beat);
            uplink.handle_deadline(at(second));
            let said = turn(&mut uplink, at(second)).0;
            assert_eq!(said.len(), usize::from(second % 10 == 0), "second {second}");
        }
        let draining = Load { draining: true, ..LOAD };
        uplink.set_load(at(21), draining);
        assert_eq!(turn(&mut uplink, at(21)).0, [load(draining)]);
        uplink.set_load(at(22), Load { sessions: 1, ..draining });
        assert_eq!(turn(&mut uplink, at(22)).0, []);
        assert_eq!((uplink.counters.reports, uplink.is_enlisted()), (4, true));
    }

    #[test]
    fn it_comes_back_later_and_later_when_it_is_refused_or_lost() {
        let mut uplink = uplink();
        let mut now = at(0);
        for longest in [1, 2, 4, 8, 16, 30, 30] {
            uplink.connected(now);
            turn(&mut uplink, now);
            let refused = Message::Refused { code: 401, text: "no".into() };
            uplink.received(now, &refused.encode(0));
            let (_, wanted) = turn(&mut uplink, now);
            let [UplinkOutput::Refused { code: 401, .. }, UplinkOutput::Close, UplinkOutput::Waiting(pause)] =
                wanted[..]
            else {
                panic!("{wanted:?}")
            };
            assert!(pause <= Duration::from_secs(longest));
            now = uplink.deadline().unwrap();
            uplink.handle_deadline(now);
            assert_eq!(turn(&mut uplink, now).1, [UplinkOutput::Connect]);
        }
        uplink.closed(now);
        assert!(matches!(turn(&mut uplink, now).1[..], [UplinkOutput::Waiting(_)]));
        assert_eq!((uplink.counters.refused, uplink.counters.lost), (7, 8));
    }

    #[test]
    fn a_balancer_that_takes_it_and_lets_go_is_not_asked_again_and_again_at_once() {
        let mut uplink = uplink();
        let (mut now, mut longest) = (at(0), Duration::ZERO);
        for _ in 0..12 {
            uplink.connected(now);
            turn(&mut uplink, now);
            uplink.received(now, &Message::Enlisted { broker: 4 }.encode(1));
            uplink.received(now, &Message::Refused { code: 409, text: "no".into() }.encode(0));
            let due = uplink.deadline().unwrap();
            longest = longest.max(due.since(now));
            now = due;
            uplink.handle_deadline(now);
            turn(&mut uplink, now);
        }
        assert!(longest >= LONGEST / 2, "{longest:?}");
    }

    #[test]
    fn a_balancer_that_says_nothing_or_nonsense_is_left() {
        let mut uplink = uplink();
        uplink.connected(at(0));
        turn(&mut uplink, at(0));
        uplink.handle_deadline(at(9));
        uplink.handle_deadline(at(10));
        assert!(matches!(turn(&mut uplink, at(10)).1[..], [UplinkOutput::Close, UplinkOutput::Waiting(_)]));

        let mut uplink = enlisted();
        turn(&mut uplink, at(0));
        uplink.handle_deadline(at(14));
        assert!(uplink.is_enlisted());
        uplink.handle_deadline(at(15));
        assert!(!uplink.is_enlisted());

        let mut uplink = enlisted();
        turn(&mut uplink, at(0));
        uplink.received(at(1), &Message::Found(None).encode(1));
        assert_eq!((uplink.is_enlisted(), uplink.counters.unexpected), (true, 1));
        uplink.received(at(1), &[0xff; 40]);
        assert!(!uplink.is_enlisted());
    }
}
