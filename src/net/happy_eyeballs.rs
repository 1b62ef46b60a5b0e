//! Connecting to the first of several addresses that answers, without waiting for those that do not (RFC 8305).
//!
//! The race opens no socket. After every call its driver pulls [`Output`]s until there is none, does what they say, and
//! calls [`Race::handle_deadline`] once [`Race::deadline`] has come. Attempts start one after the other, 250 ms
//! apart or as soon as one has failed; the first to succeed wins and the others are aborted.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    net::SocketAddr,
    time::Duration,
};

use crate::time::Time;

/// Most addresses of one race, those added later included; more are left out and counted.
pub const MAX_ADDRESSES: usize = 32;

/// How a race is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// From the start of one attempt to that of the next; held within 100 ms and 2 s (RFC 8305 §8).
    pub stagger: Duration,
    /// How long the whole race may take.
    pub limit: Duration,
}

/// 250 ms apart (RFC 8305 §5), 30 s in all.
impl Default for Settings {
    fn default() -> Settings {
        Settings { stagger: Duration::from_millis(250), limit: Duration::from_secs(30) }
    }
}

/// An attempt of a race: its place in the order in which they started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(u32);

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Begin to connect.
    Connect {
        /// What the attempt is called from now on.
        attempt: AttemptId,
        /// Where to.
        address: SocketAddr,
    },
    /// Close an attempt's socket; nothing more is wanted from it.
    Abort {
        /// Which.
        attempt: AttemptId,
    },
    /// The race is over. Nothing follows.
    Done(Result<Winner, RaceError>),
}

/// The attempt that connected first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Winner {
    /// The attempt, whose socket is the driver's to keep.
    pub attempt: AttemptId,
    /// The address it is connected to.
    pub address: SocketAddr,
}

/// A race without a winner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RaceError {
    /// There was no address.
    #[error("there is no address to connect to")]
    NoAddress,
    /// Every attempt failed.
    #[error("none of {tried} address(es) accepted the connection; the last said: {last}")]
    AllFailed {
        /// How many addresses were tried.
        tried: usize,
        /// Why the last of them failed.
        last: io::ErrorKind,
    },
    /// Time ran out, with attempts still open.
    #[error("no connection within {} ms, after trying {tried} address(es)", limit.as_millis())]
    Timeout {
        /// How many addresses were tried.
        tried: usize,
        /// How long the race lasted.
        limit: Duration,
    },
}

/// Connection attempts to the addresses of one host. See the module's text for how it is driven.
#[derive(Debug)]
pub struct Race {
    stagger: Duration,
    limit: Duration,
    until: Time,
    seen: BTreeSet<SocketAddr>,
    /// Addresses not tried yet.
    queue: VecDeque<SocketAddr>,
    /// Attempts that have neither succeeded nor failed.
    open: Vec<(AttemptId, SocketAddr)>,
    started: u32,
    /// When the next attempt starts, if there is an address for it.
    next: Time,
    last_failure: Option<io::ErrorKind>,
    left_out: usize,
    over: bool,
    out: VecDeque<Output>,
}

impl Race {
    /// Starts a race over `addresses`, preferred ones first, as a resolver orders them. Repeated ones count once.
    pub fn new(now: Time, addresses: &[SocketAddr], settings: Settings) -> Race {
        let mut race = Race {
            stagger: settings.stagger.clamp(Duration::from_millis(100), Duration::from_secs(2)),
            limit: settings.limit,
            until: now + settings.limit,
            seen: BTreeSet::new(),
            queue: VecDeque::new(),
            open: Vec::new(),
            started: 0,
            next: now,
            last_failure: None,
            left_out: 0,
            over: false,
            out: VecDeque::new(),
        };
        race.add(now, addresses);
        race.settle();
        race
    }

    /// Adds addresses that became known after the start, behind those not tried yet.
    pub fn add(&mut self, now: Time, addresses: &[SocketAddr]) {
        if self.over {
            return;
        }
        for address in addresses {
            if self.seen.contains(address) {
                continue;
            }
            if self.seen.len() == MAX_ADDRESSES {
                self.left_out += 1;
                continue;
            }
            self.seen.insert(*address);
            self.queue.push_back(*address);
        }
        self.start_due(now);
    }

    /// The next thing to do, until there is none.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When to call [`Race::handle_deadline`]; `None` when the race is over.
    pub fn deadline(&self) -> Option<Time> {
        match (self.over, self.queue.is_empty()) {
            (true, _) => None,
            (false, true) => Some(self.until),
            (false, false) => Some(self.until.min(self.next)),
        }
    }

    /// Starts the next attempt, or ends the race, if it is time.
    pub fn handle_deadline(&mut self, now: Time) {
        if self.over {
            return;
        }
        if now >= self.until {
            let error = RaceError::Timeout { tried: self.started as usize, limit: self.limit };
            return self.end(Err(error));
        }
        self.start_due(now);
    }

    /// An attempt has connected. The first to do so wins; of others the driver is told to [`Output::Abort`] already.
    pub fn handle_success(&mut self, attempt: AttemptId) {
        let Some(at) = self.open.iter().position(|(id, _)| *id == attempt) else { return };
        let (attempt, address) = self.open.remove(at);
        self.end(Ok(Winner { attempt, address }));
    }

    /// An attempt has failed and its socket is closed; the next one starts at once (RFC 8305 §5).
    pub fn handle_failure(&mut self, now: Time, attempt: AttemptId, why: io::ErrorKind) {
        let Some(at) = self.open.iter().position(|(id, _)| *id == attempt) else { return };
        self.open.remove(at);
        self.last_failure = Some(why);
        self.next = now;
        self.start_due(now);
        self.settle();
    }

    /// Ends the race without an [`Output::Done`], and aborts every attempt.
    pub fn cancel(&mut self) {
        if !self.over {
            self.stop();
        }
    }

    /// How many addresses were left out because there were more than [`MAX_ADDRESSES`].
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    fn start_due(&mut self, now: Time) {
        if now < self.next {
            return;
        }
        let Some(address) = self.queue.pop_front() else { return };
        let attempt = AttemptId(self.started);
        self.started += 1;
        self.open.push((attempt, address));
        self.next = now + self.stagger;
        self.out.push_back(Output::Connect { attempt, address });
    }

    /// Ends the race when nothing is left to hope for.
    fn settle(&mut self) {
        if self.over || !self.open.is_empty() || !self.queue.is_empty() {
            return;
        }
        self.end(Err(match self.last_failure {
            Some(last) => RaceError::AllFailed { tried: self.started as usize, last },
            None => RaceError::NoAddress,
        }));
    }

    fn end(&mut self, result: Result<Winner, RaceError>) {
        self.stop();
        self.out.push_back(Output::Done(result));
    }

    fn stop(&mut self) {
        self.over = true;
        self.queue.clear();
        for (attempt, _) in std::mem::take(&mut self.open) {
            // What the driver has not seen begun it need not abort.
            let unseen = |o: &Output| matches!(o, Output::Connect { attempt: a, .. } if *a == attempt);
            match self.out.iter().position(unseen) {
                Some(at) => drop(self.out.remove(at)),
                None => self.out.push_back(Output::Abort { attempt }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Time {
        Time::ZERO + Duration::from_millis(ms)
    }

    fn addresses(n: usize) -> Vec<SocketAddr> {
        (0..n).map(|i| SocketAddr::from(([192, 0, 2, i as u8], 80))).collect()
    }

    fn race(n: usize) -> Race {
        Race::new(ms(0), &addresses(n), Settings::default())
    }

    fn outputs(race: &mut Race) -> Vec<Output> {
        std::iter::from_fn(|| race.poll_output()).collect()
    }

    fn connect(i: u32) -> Output {
        Output::Connect { attempt: AttemptId(i), address: addresses(i as usize + 1)[i as usize] }
    }

    fn abort(i: u32) -> Output {
        Output::Abort { attempt: AttemptId(i) }
    }

    fn won(i: u32) -> Output {
        let address = addresses(i as usize + 1)[i as usize];
        Output::Done(Ok(Winner { attempt: AttemptId(i), address }))
    }

    #[test]
    fn the_first_address_wins_when_it_answers() {
        let mut race = race(3);
        assert_eq!(outputs(&mut race), [connect(0)]);
        assert_eq!(race.deadline(), Some(ms(250)));
        race.handle_success(AttemptId(0));
        assert_eq!(outputs(&mut race), [won(0)]);
        assert_eq!(race.deadline(), None);
        race.handle_deadline(ms(99_999));
        race.add(ms(99_999), &addresses(9));
        assert_eq!(outputs(&mut race), []);
    }

    #[test]
    fn silence_starts_the_next_every_250_ms_and_the_losers_are_aborted() {
        let mut race = race(4);
        assert_eq!(outputs(&mut race), [connect(0)]);
        race.handle_deadline(ms(249));
        assert_eq!(outputs(&mut race), []);
        race.handle_deadline(ms(250));
        assert_eq!(outputs(&mut race), [connect(1)]);
        assert_eq!(race.deadline(), Some(ms(500)));
        race.handle_deadline(ms(500));
        assert_eq!(outputs(&mut race), [connect(2)]);
        race.handle_success(AttemptId(1));
        assert_eq!(outputs(&mut race), [abort(0), abort(2), won(1)]);
        // What arrives late changes nothing.
        race.handle_success(AttemptId(0));
        race.handle_failure(ms(600), AttemptId(2), io::ErrorKind::ConnectionRefused);
        assert_eq!(outputs(&mut race), []);
    }

    #[test]
    fn a_failure_starts_the_next_at_once() {
        let mut race = race(3);
        race.handle_failure(ms(10), AttemptId(0), io::ErrorKind::ConnectionRefused);
        assert_eq!(outputs(&mut race), [connect(0), connect(1)]);
        assert_eq!(race.deadline(), Some(ms(260)));
        race.handle_deadline(ms(260));
        assert_eq!(outputs(&mut race), [connect(2)]);
        assert_eq!(race.deadline(), Some(ms(30_000)));
    }

    #[test]
    fn all_fail() {
        let mut race = race(2);
        race.handle_failure(ms(10), AttemptId(0), io::ErrorKind::ConnectionRefused);
        race.handle_failure(ms(11), AttemptId(0), io::ErrorKind::ConnectionRefused);
        race.handle_failure(ms(20), AttemptId(1), io::ErrorKind::HostUnreachable);
        let error = RaceError::AllFailed { tried: 2, last: io::ErrorKind::HostUnreachable };
        assert_eq!(outputs(&mut race), [connect(0), connect(1), Output::Done(Err(error))]);
        let text = "none of 2 address(es) accepted the connection; the last said: host unreachable";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn no_address() {
        let mut race = race(0);
        assert_eq!(outputs(&mut race), [Output::Done(Err(RaceError::NoAddress))]);
        assert_eq!(race.deadline(), None);
    }

    #[test]
    fn time_runs_out() {
        let limit = Duration::from_millis(400);
        let mut race = Race::new(ms(0), &addresses(3), Settings { limit, ..Settings::default() });
        race.handle_deadline(ms(250));
        assert_eq!(race.deadline(), Some(ms(400)));
        outputs(&mut race);
        race.handle_deadline(ms(400));
        let error = RaceError::Timeout { tried: 2, limit };
        assert_eq!(outputs(&mut race), [abort(0), abort(1), Output::Done(Err(error))]);
        assert_eq!(error.to_string(), "no connection within 400 ms, after trying 2 address(es)");
    }

    #[test]
    fn late_addresses_join() {
        let mut race = race(1);
        race.add(ms(100), &addresses(2));
        assert_eq!(outputs(&mut race), [connect(0)]);
        assert_eq!(race.deadline(), Some(ms(250)));
        race.handle_failure(ms(120), AttemptId(0), io::ErrorKind::TimedOut);
        assert_eq!(outputs(&mut race), [connect(1)]);
        // After the stagger an addition starts at once.
        race.add(ms(1000), &addresses(3));
        assert_eq!(outputs(&mut race), [connect(2)]);
    }

    #[test]
    fn cancelled_it_aborts_and_says_no_more() {
        let mut first = race(2);
        outputs(&mut first);
        first.handle_deadline(ms(250));
        first.cancel();
        // The second attempt had not been pulled.
        assert_eq!(outputs(&mut first), [abort(0)]);
        first.cancel();
        first.handle_success(AttemptId(0));
        assert_eq!((outputs(&mut first), first.deadline()), (vec![], None));
    }

    #[test]
    fn the_bound_is_reached_and_repeats_count_once() {
        let mut race = race(MAX_ADDRESSES + 3);
        race.add(ms(0), &addresses(5));
        assert_eq!(race.left_out(), 3);
        for i in 0..MAX_ADDRESSES as u32 {
            race.handle_failure(ms(1), AttemptId(i), io::ErrorKind::ConnectionRefused);
        }
        let all = outputs(&mut race);
        assert_eq!(all.len(), MAX_ADDRESSES + 1);
        assert!(matches!(all.last(), Some(Output::Done(Err(RaceError::AllFailed { tried: 32, .. })))));
    }

    #[test]
    fn the_stagger_is_held_within_bounds() {
        for (asked, held) in [(0, 100), (5000, 2000)] {
            let settings = Settings { stagger: Duration::from_millis(asked), ..Settings::default() };
            assert_eq!(Race::new(ms(0), &addresses(2), settings).deadline(), Some(ms(held)));
        }
    }
}
