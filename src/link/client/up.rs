//! A session that is there: opened datagrams, signs of life, new keys.

use std::{collections::VecDeque, time::Duration};

use super::{
    Client, ClientConfig, ClientCounters, Event, Output, Phase,
    pace::{Pace, Plan},
    rekey::Rekey,
    sleep::Sleep,
};
use crate::{
    link::{
        Closing, Resumption, Why,
        handshake::{DOWN, UP, resume},
        keys::{Keys, same},
        reliable::{Reliable, Taken},
        window::Window,
    },
    rng::Entropy,
    status::Fault,
    time::Time,
    wire::link::{
        ANSWER, ASK, Acknowledgement, BEAT, DRAINS, Datagram, Frame, Kind, MAX_DATAGRAM, SLEEPS, Welcome,
        Wish,
    },
};

/// Heartbeats without an answer after which the session is lost; between them 1, 2 and 4 s.
pub(super) const ASKS: u32 = 3;
/// Asks from beside without an answer after which a silence was too long; between them 1, 2 and 4 s.
const TRIES: u32 = 4;
/// By how much a silence may be shorter than was meant, and still show as much.
const SLACK: Duration = Duration::from_secs(2);
pub(super) struct Up {
    pub(super) line: Line,
    /// From before a rekey, until something opens under the new keys.
    pub(super) old: Option<Line>,
    pub(super) reset: [u8; 12],
    pub(super) reliable: Option<Box<Reliable>>,
    numbers: (u32, u32),
    pub(super) sent: Time,
    pub(super) heard: Time,
    /// Heartbeats that wait for an answer, and when the next goes out.
    pub(super) asks: u32,
    pub(super) ask_due: Time,
    /// Seconds of silence before the first of them; 0 where they say nothing of it.
    silence: u16,
    /// A silence that is being tried, and one that seems to have been too long, until the server shows that it is there.
    tried: Option<Try>,
    suspected: Option<u16>,
    /// While the platform sleeps or is about to: what the server is told of it. Nothing else is sent.
    pub(super) sleeps: Option<u8>,
    /// Whether what is sent is paid for.
    frugal: bool,
    drains: bool,
    /// When other keys are asked for, and what did not open under these.
    pub(super) renew: Time,
    pub(super) unopened: u64,
    pub(super) rekey: Option<Box<Rekey>>,
}

/// An id, its keys and counters.
pub(super) struct Line {
    pub(super) id: u32,
    pub(super) keys: Keys,
    pub(super) counter: u64,
    pub(super) window: Window,
}

/// Asks go out from beside, and their answers come only as long as the way to where the session is has not been forgotten.
struct Try {
    silence: u16,
    asks: u32,
    due: Time,
}

/// What something that came shows.
enum Came {
    /// A heartbeat was answered.
    Answer,
    /// The server's datagrams arrive after a silence of so many seconds.
    After(u16),
    /// They do not.
    NotAfter(u16),
    /// The server saw another address after it.
    Elsewhere(u16),
}

enum Opened<'a> {
    Beat((u8, u8)),
    Data(&'a [u8]),
}

impl Line {
    fn open<'a>(
        &mut self,
        octets: &[u8],
        copy: &'a mut [u8],
        counters: &mut ClientCounters,
    ) -> Option<(u64, Opened<'a>)> {
        let (Ok(Datagram::Beat { sequence, .. }) | Ok(Datagram::Data { sequence, .. })) =
            Datagram::decode(octets)
        else {
            return None;
        };
        let counter = self.window.rebuild(sequence);
        if !self.window.is_fresh(counter) {
            counters.replayed += 1;
            return None;
        }
        copy.copy_from_slice(octets);
        let opened = match <&[u8; BEAT]>::try_from(octets) {
            Ok(beat) => self.keys.open_beat(DOWN, counter, beat).map(Opened::Beat),
            Err(_) => self.keys.open_data(DOWN, counter, copy).map(Opened::Data),
        };
        match opened {
            Some(opened) => {
                self.window.note(counter);
                Some((counter, opened))
            }
            None => {
                counters.unopened += 1;
                None
            }
        }
    }

    pub(super) fn beat(&mut self, kind: u8, flags: u8) -> Vec<u8> {
        self.counter += 1;
        self.keys.seal_beat(UP, self.id, self.counter - 1, kind, flags).to_vec()
    }

    pub(super) fn seal(&mut self, frame: &Frame<'_>) -> Vec<u8> {
        self.counter += 1;
        self.keys.seal_data(UP, self.id, self.counter - 1, |out| frame.encode(out))
    }
}

impl Up {
    pub fn new(now: Time, welcome: &Welcome, keys: Keys, config: &ClientConfig) -> Up {
        Up {
            line: Line { id: welcome.id, keys, counter: 0, window: Window::NEW },
            old: None,
            reset: welcome.reset,
            reliable: None,
            numbers: (0, 0),
            sent: now,
            heard: now,
            asks: 0,
            ask_due: Time::MAX,
            silence: 0,
            tried: None,
            suspected: None,
            sleeps: None,
            frugal: config.metered,
            drains: false,
            renew: now + config.rekey_after,
            unopened: 0,
            rekey: None,
        }
    }

    pub fn send(&mut self, now: Time, octets: Vec<u8>) -> Result<u32, Fault> {
        self.reliable(now).send(now, octets)
    }

    pub fn close(&mut self, why: Closing) -> Vec<u8> {
        self.line.seal(&Frame::alone(Kind::Close, &why.number().to_be_bytes()))
    }

    /// Asks for a sign of life, and for another soon if there is none.
    pub fn ask_for_life(
        &mut self,
        now: Time,
        pace: &Pace,
        counters: &mut ClientCounters,
        outputs: &mut VecDeque<Output>,
    ) {
        outputs.push_back(Output::Send(self.line.beat(ASK, pace.said().code())));
        counters.heartbeats += 1;
        self.asked(now);
    }

    /// An ask went out.
    pub(super) fn asked(&mut self, now: Time) {
        self.asks += 1;
        self.ask_due = now + Duration::from_secs(1 << (self.asks - 1).min(2));
        self.sent = now;
    }

    /// Asks, and lets the server look where that comes from: heartbeats move no address.
    pub fn look(
        &mut self,
        now: Time,
        pace: &Pace,
        counters: &mut ClientCounters,
        outputs: &mut VecDeque<Output>,
    ) {
        self.ask_for_life(now, pace, counters, outputs);
        self.probe(counters, outputs);
    }

    /// Lets the server look where this comes from.
    pub(super) fn probe(&mut self, counters: &mut ClientCounters, outputs: &mut VecDeque<Output>) {
        counters.probes += 1;
        let octets = self.line.seal(&Frame::alone(Kind::Probe, &[]));
        outputs.push_back(Output::Send(octets));
    }

    pub fn set_frugal(&mut self, frugal: bool) {
        self.frugal = frugal;
        if frugal {
            self.forget_silence();
        }
        if let Some(reliable) = &mut self.reliable {
            reliable.set_frugal(frugal);
        }
    }

    /// What was silent before says nothing of the network any more.
    pub fn forget_silence(&mut self) {
        (self.silence, self.tried, self.suspected) = (0, None, None);
    }

    pub fn deadline(&self, pace: &Pace) -> Time {
        if self.sleeps.is_some() {
            return self.ask_due;
        }
        let reliable =
            self.reliable.as_ref().map_or(Time::MAX, |reliable| reliable.deadline().min(reliable.linger()));
        let rekey = self.rekey.as_ref().map_or(self.renew, |rekey| rekey.due);
        reliable.min(rekey).min(self.life_due(pace.plan()))
    }

    pub fn expire(
        &mut self,
        now: Time,
        (pace, config): (&Pace, &ClientConfig),
        rng: &mut dyn Entropy,
        counters: &mut ClientCounters,
        outputs: &mut VecDeque<Output>,
    ) -> Result<(), Why> {
        let plan = pace.plan();
        if self.life_due(plan) <= now {
            self.show_life(now, pace, plan, counters, outputs)?;
        }
        if let Some(reliable) = &mut self.reliable {
            reliable.expire(now).map_err(Why::from)?;
        }
        self.renew(now, config, rng, outputs)?;
        self.pump(now, counters, outputs);
        Ok(())
    }

    /// Sends and hands up whatever can be, now.
    pub fn pump(&mut self, now: Time, counters: &mut ClientCounters, outputs: &mut VecDeque<Output>) {
        let Some(reliable) = &mut self.reliable else { return };
        let before = reliable.resent();
        while let Some(octets) = reliable.pop() {
            counters.messages += 1;
            outputs.push_back(Output::Event(Event::Message(octets)));
        }
        while let Some(number) = reliable.pop_acked() {
            counters.acked += 1;
            outputs.push_back(Output::Event(Event::Acked(number)));
        }
        if reliable.pop_writable() {
            outputs.push_back(Output::Event(Event::Writable));
        }
        let mut frame = Vec::new();
        let Line { id, keys, counter, .. } = &mut self.line;
        while self.sleeps.is_none() && reliable.poll(now, *counter, &mut frame) {
            let octets = keys.seal_data(UP, *id, *counter, |out| out.append(&mut frame));
            *counter += 1;
            self.sent = now;
            outputs.push_back(Output::Send(octets));
        }
        counters.resent += reliable.resent() - before;
        self.numbers = reliable.numbers();
        if reliable.is_idle(now) {
            self.reliable = None;
        }
    }

    fn life_due(&self, plan: Plan) -> Time {
        match (&self.tried, self.asks) {
            (Some(tried), _) => tried.due,
            (None, 0) => self.sent.min(self.heard) + Duration::from_secs(plan.after.into()),
            _ => self.ask_due,
        }
    }

    /// A sign of life is due, or the answer to one.
    fn show_life(
        &mut self,
        now: Time,
        pace: &Pace,
        plan: Plan,
        counters: &mut ClientCounters,
        outputs: &mut VecDeque<Output>,
    ) -> Result<(), Why> {
        let quiet = now.since(self.sent.max(self.heard));
        let is_silence = quiet + SLACK >= Duration::from_secs(plan.after.into());
        match (&mut self.tried, self.asks) {
            (Some(tried), _) if tried.asks < TRIES => {
                tried.due = now + Duration::from_secs(1 << (tried.asks - 1).min(2));
                tried.asks += 1;
                outputs.push_back(Output::SendBeside(self.line.beat(ASK, pace.said().code())));
            }
            (Some(tried), _) => {
                self.suspected = Some(tried.silence);
                self.tried = None;
                self.look(now, pace, counters, outputs);
            }
            (None, 0) if plan.beside && is_silence => {
                counters.tries += 1;
                let due = now + Duration::from_secs(1);
                self.tried = Some(Try { silence: plan.after, asks: 1, due });
                outputs.push_back(Output::SendBeside(self.line.beat(ASK, pace.said().code())));
            }
            (None, 0) => {
                self.silence = if is_silence { plan.after } else { 0 };
                self.ask_for_life(now, pace, counters, outputs);
            }
            (None, ASKS..) => return Err(Why::Silent),
            // Perhaps the answers go to where we are no more.
            (None, _) => self.look(now, pace, counters, outputs),
        }
        Ok(())
    }

    /// Something came; answers with what that shows of a silence, and whether it was too long.
    fn came(&mut self, now: Time, is_challenge: bool, outputs: &mut VecDeque<Output>) -> Option<Came> {
        self.heard = now;
        if self.sleeps.is_some() {
            return None;
        }
        let asks = std::mem::take(&mut self.asks);
        if let Some(Try { silence, .. }) = self.tried.take() {
            // What came proves the way, and need not have kept it open: something goes out that asks for nothing.
            outputs.push_back(Output::Send(self.line.beat(ANSWER, 0)));
            self.sent = now;
            return Some(Came::After(silence));
        }
        if let Some(silence) = self.suspected.take() {
            return Some(Came::NotAfter(silence));
        }
        match (asks, self.silence) {
            (0, _) => None,
            // The first ask was not answered, and the server saw the next come from elsewhere.
            (2.., 1..) if is_challenge => Some(Came::Elsewhere(std::mem::take(&mut self.silence))),
            _ => Some(Came::Answer),
        }
    }

    fn reliable(&mut self, now: Time) -> &mut Reliable {
        let (to_send, to_hand_up) = self.numbers;
        let frugal = self.frugal;
        self.reliable.get_or_insert_with(|| {
            let mut reliable = Box::new(Reliable::new(now, to_send, to_hand_up));
            reliable.set_frugal(frugal);
            reliable
        })
    }
}

impl Client {
    /// A heartbeat, a reset or data came.
    pub(super) fn of_session(&mut self, now: Time, octets: &[u8]) {
        let Phase::Up(up) = &mut self.phase else {
            self.counters.unexpected += 1;
            return;
        };
        let id = u32::from_be_bytes(*octets.first_chunk().expect("the length was checked"));
        if id == up.line.id && octets.len() == BEAT && same(&octets[4..], &up.reset) {
            self.counters.resets += 1;
            return self.lost(now, Why::Reset);
        }
        let is_old = up.old.as_ref().is_some_and(|old| old.id == id);
        let line = match &mut up.old {
            _ if id == up.line.id => &mut up.line,
            Some(old) if is_old => old,
            _ => {
                self.counters.unexpected += 1;
                return;
            }
        };
        let mut copy = [0; MAX_DATAGRAM];
        let unopened = self.counters.unopened;
        let opened = line.open(octets, &mut copy[..octets.len()], &mut self.counters);
        up.unopened += self.counters.unopened - unopened;
        let Some((counter, opened)) = opened else {
            return self.expire(now);
        };
        let is_challenge = matches!(&opened, Opened::Data(plain)
            if Frame::decode(plain).is_some_and(|frame| frame.kind == Kind::Challenge));
        let came = up.came(now, is_challenge, &mut self.outputs);
        if !is_old {
            up.old = None;
        }
        if let Some(came) = came {
            self.judge(now, came);
        }
        let Phase::Up(up) = &mut self.phase else { return };
        match opened {
            Opened::Beat((kind, flags)) => {
                if let Some(reliable) = up.reliable.as_mut().filter(|_| !is_old) {
                    reliable.note(counter);
                }
                let sleeps = kind == ANSWER && flags & SLEEPS != 0 && self.sleep == Sleep::Falling;
                let drains = kind == ANSWER && flags & DRAINS != 0;
                if drains && !std::mem::replace(&mut up.drains, drains) {
                    self.event(Event::Draining);
                }
                if sleeps {
                    self.fall(true);
                }
            }
            Opened::Data(plain) => match Frame::decode(plain) {
                Some(frame) => self.frame(now, counter, is_old, &frame),
                None => self.counters.bad_frames += 1,
            },
        }
        self.expire(now);
    }

    fn judge(&mut self, now: Time, came: Came) {
        match came {
            Came::Answer => self.learn(|pace| pace.answered(now)),
            Came::After(silence) => self.learn(|pace| pace.lasted(silence)),
            Came::NotAfter(silence) => {
                self.counters.tries_failed += 1;
                self.learn(|pace| pace.try_failed(now, silence));
            }
            Came::Elsewhere(silence) => {
                self.counters.forgotten += 1;
                self.learn(|pace| pace.failed(now, silence));
            }
        }
    }

    /// For tests of the other end: any octets under the session's keys, as a frame, or two of them as a heartbeat, with a
    /// counter so far ahead. Nothing of it is noted here.
    #[doc(hidden)]
    pub fn forge(&mut self, ahead: u64, plain: &[u8]) -> Option<Vec<u8>> {
        let Phase::Up(up) = &mut self.phase else { return None };
        let Line { id, keys, counter, .. } = &mut up.line;
        *counter += ahead + 1;
        Some(keys.forge(UP, *id, *counter - 1, plain))
    }

    /// The same: new keys are asked for with this nonce, and the answer is not waited for.
    #[doc(hidden)]
    pub fn forge_rekey(&mut self, ahead: u64, nonce: [u8; 16]) -> Option<Vec<u8>> {
        let Resumption { ticket, secret } = self.config.resumption.clone()?;
        let datagram = resume(nonce, ticket, &secret, Wish::default());
        let mut plain = Vec::new();
        Frame::alone(Kind::Rekey, &datagram).encode(&mut plain);
        self.forge(ahead, &plain)
    }

    fn frame(&mut self, now: Time, counter: u64, is_old: bool, frame: &Frame<'_>) {
        let Phase::Up(up) = &mut self.phase else { return };
        let counters = &mut self.counters;
        if let Some(reliable) = up.reliable.as_mut().filter(|_| !is_old && frame.kind != Kind::Piece) {
            reliable.note(counter);
        }
        match frame.kind {
            Kind::Piece => {
                let reliable = up.reliable(now);
                let taken = match is_old {
                    true => reliable.old_piece(now, frame, true),
                    false => reliable.piece(now, counter, frame, true),
                };
                match taken {
                    Taken::New => {}
                    Taken::Repeated => counters.pieces_repeated += 1,
                    Taken::NoRoom => counters.pieces_refused += 1,
                    Taken::Malformed => counters.bad_frames += 1,
                }
            }
            // Of counters under the old keys nothing is waited for any more.
            Kind::Acknowledgement if is_old => {}
            Kind::Acknowledgement => {
                let next = up.line.counter;
                if let Some(reliable) = &mut up.reliable {
                    let good = Acknowledgement::decode(frame.data)
                        .is_some_and(|ack| reliable.acknowledged(now, next, &ack));
                    counters.bad_frames += u64::from(!good);
                }
            }
            // Whoever sleeps answers when awake.
            Kind::Challenge if matches!(self.sleep, Sleep::Asleep { .. }) => {}
            Kind::Challenge if frame.data.len() == 8 => {
                counters.challenges += 1;
                let octets = up.line.seal(&Frame::alone(Kind::Response, frame.data));
                self.outputs.push_back(Output::Send(octets));
            }
            Kind::Close => return self.lost(now, Why::Closed(Closing::read(frame.data))),
            Kind::Rekeyed => return self.rekeyed(now, frame.data),
            Kind::Challenge | Kind::Response | Kind::Probe | Kind::Rekey => counters.bad_frames += 1,
            Kind::Other(_) => counters.unknown_frames += 1,
        }
        up.pump(now, &mut self.counters, &mut self.outputs);
    }
}
