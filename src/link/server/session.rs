//! Datagrams of sessions: opened, told apart, answered; and what is under way in each.

use std::time::Duration;

use super::{
    Output, Server, Session,
    slab::{Entry, Slot, Stage},
};
use crate::{
    link::{
        Closing, Path, Why,
        handshake::{DOWN, UP, resumed},
        keys::{Keys, same},
        reliable::{Reliable, Taken},
        share::is_within,
        window::Window,
    },
    time::Time,
    wire::link::{
        ANSWER, ASK, Acknowledgement, BEAT, DRAINS, Datagram, Frame, Kind, MAX_DATAGRAM, MAX_PIECES,
        OVERHEAD, Refusal, Resume, Rhythm, SLEEPS, refuse,
    },
};

/// How long a challenge, and the keys of a rekey, wait for their proof.
const PROOF: Duration = Duration::from_secs(10);
/// Between challenges of the same address.
const AGAIN: Duration = Duration::from_secs(1);
/// The shortest time to the next look.
const TICK: Duration = Duration::from_millis(1);

/// What a session has only while something is under way.
pub(super) struct Active {
    slot: Slot,
    pub reliable: Reliable,
    challenge: Option<Challenge>,
    rekey: Option<Box<Rekey>>,
    /// As it stands in the timers.
    due: Time,
}

struct Challenge {
    path: Path,
    octets: [u8; 8],
    again: Time,
    over: Time,
}

/// Keys that were offered inside the session, under the next generation of its id.
struct Rekey {
    keys: Keys,
    echo: [u8; 8],
    answer: Vec<u8>,
    interval: u16,
    over: Time,
}

impl Server {
    pub(super) fn of_session(&mut self, now: Time, from: Path, id: u32, sequence: u16, octets: &[u8]) {
        let (slot, generation) = self.ids.place(id);
        let Some(entry) = self.slab.get(slot) else { return self.reset(now, from, id, octets.len()) };
        let offered = match generation.wrapping_sub(entry.generation) {
            0 => None,
            1 => match self.under_way(slot).and_then(|active| active.rekey.as_ref()) {
                Some(rekey) => Some((rekey.keys, rekey.interval)),
                None => return self.reset(now, from, id, octets.len()),
            },
            _ => return self.reset(now, from, id, octets.len()),
        };
        let (keys, window) = offered.map_or((entry.keys, entry.window), |(keys, _)| (keys, Window::NEW));
        let counter = window.rebuild(sequence);
        if !window.is_fresh(counter) {
            self.counters.replayed += 1;
            return;
        }
        let mut copy = [0; MAX_DATAGRAM];
        let copy = &mut copy[..octets.len()];
        copy.copy_from_slice(octets);
        let opened = match <&[u8; BEAT]>::try_from(octets) {
            Ok(beat) => keys.open_beat(UP, counter, beat).map(Opened::Beat),
            Err(_) => keys.open_data(UP, counter, copy).map(Opened::Data),
        };
        let Some(opened) = opened else {
            self.counters.unopened += 1;
            return;
        };
        if entry.stage == Stage::Candidate {
            // The answer went to where the request came from. If that was somebody who passed it on, the session would be
            // theirs; so who proves the keys must have got the answer where it was sent.
            if entry.path() != from {
                self.counters.proven_elsewhere += 1;
                return;
            }
            self.prove(now, slot);
        }
        if let Some((keys, interval)) = offered {
            self.rekeyed(slot, keys, interval);
        }
        let second = self.slab.second();
        let Some(entry) = self.slab.get_mut(slot) else { return };
        let newest = entry.window.note(counter);
        entry.heard = second as u16;
        let rhythm = match opened {
            Opened::Beat((ASK, flags)) => Rhythm::of(flags),
            _ => Rhythm::Same,
        };
        if newest && entry.sleep > 0 && !matches!(rhythm, Rhythm::Asleep(_)) {
            self.wake(now, slot);
        }
        match opened {
            Opened::Beat((kind, _)) => {
                if newest {
                    self.heed(now, slot, rhythm);
                }
                self.beat(slot, counter, kind);
            }
            Opened::Data(plain) => match Frame::decode(plain) {
                Some(frame) => self.frame(now, from, slot, counter, newest, &frame),
                None => self.counters.bad_frames += 1,
            },
        }
    }

    /// As [`crate::link::Client::forge`], to the device of a session.
    #[doc(hidden)]
    pub fn forge(&mut self, session: Session, ahead: u64, plain: &[u8]) -> Option<Vec<u8>> {
        let slot = self.slot(session)?;
        let id = self.id(slot);
        let entry = self.slab.get_mut(slot)?;
        entry.set_counter(entry.counter() + ahead);
        let counter = entry.take_counter();
        Some(entry.keys.forge(DOWN, id, counter, plain))
    }

    fn beat(&mut self, slot: Slot, counter: u64, kind: u8) {
        if let Some(active) = self.under_way_mut(slot) {
            active.reliable.note(counter);
        }
        if kind != ASK {
            return;
        }
        let (id, drains) = (self.id(slot), if self.draining { DRAINS } else { 0 });
        let Some(entry) = self.slab.get_mut(slot) else { return };
        let flags = drains | if entry.sleep > 0 { SLEEPS } else { 0 };
        let counter = entry.take_counter();
        let octets = entry.keys.seal_beat(DOWN, id, counter, ANSWER, flags).to_vec();
        // To where the session is, be it not where this came from: a heartbeat moves nothing.
        let to = entry.path();
        self.counters.heartbeats += 1;
        self.outputs.push_back(Output::Send { to, octets });
    }

    fn frame(&mut self, now: Time, from: Path, slot: Slot, counter: u64, newest: bool, frame: &Frame<'_>) {
        if frame.kind == Kind::Response {
            self.response(now, slot, from, frame.data);
        } else if newest && self.slab.get(slot).is_some_and(|entry| entry.path() != from) {
            self.challenge(now, slot, from);
        }
        if frame.kind != Kind::Piece
            && let Some(active) = self.under_way_mut(slot)
        {
            active.reliable.note(counter);
        }
        match frame.kind {
            Kind::Piece => {
                let own = self.under_way(slot).map_or(0, |active| active.reliable.held());
                let room = is_within(own, 1, MAX_PIECES, self.held, self.config.max_held);
                match self.with_active(now, slot, |active| active.reliable.piece(now, counter, frame, room)) {
                    Taken::New => {}
                    Taken::Repeated => self.counters.pieces_repeated += 1,
                    Taken::NoRoom => self.counters.pieces_refused += 1,
                    Taken::Malformed => self.counters.bad_frames += 1,
                }
            }
            Kind::Acknowledgement => self.acknowledgement(now, slot, frame.data),
            Kind::Response | Kind::Probe => {}
            Kind::Close => return self.gone(slot, Why::Closed(Closing::read(frame.data))),
            Kind::Rekey => self.rekey(now, slot, frame.data),
            Kind::Challenge | Kind::Rekeyed => self.counters.bad_frames += 1,
            Kind::Other(_) => self.counters.unknown_frames += 1,
        }
        self.pump(now, slot);
    }

    fn acknowledgement(&mut self, now: Time, slot: Slot, data: &[u8]) {
        let next = self.slab.get(slot).map_or(0, Entry::counter);
        // Without anything under way, it is late and says nothing new.
        if self.under_way(slot).is_none() {
            return;
        }
        let ack = Acknowledgement::decode(data);
        let good = ack.is_some_and(|ack| {
            self.with_active(now, slot, |active| active.reliable.acknowledged(now, next, &ack))
        });
        self.counters.bad_frames += u64::from(!good);
    }

    /// A datagram came from another address than the session's.
    fn challenge(&mut self, now: Time, slot: Slot, from: Path) {
        let mut octets = [0; 8];
        self.rng.fill(&mut octets);
        let over = now + PROOF;
        // No count of octets is needed for the bound of three times what came: a challenge has 40, what leads to it 32 or more.
        const { assert!(OVERHEAD + 8 <= 3 * OVERHEAD) };
        let say = self.with_active(now, slot, |active| {
            let fresh = Challenge { path: from, octets, again: now, over };
            let known =
                active.challenge.take().filter(|challenge| challenge.path == from && challenge.over > now);
            let challenge = active.challenge.insert(known.unwrap_or(fresh));
            let say = (challenge.again <= now).then_some(challenge.octets);
            if say.is_some() {
                challenge.again = now + AGAIN;
            }
            say
        });
        if let Some(octets) = say {
            self.counters.challenges += 1;
            self.say(slot, Some(from), &Frame::alone(Kind::Challenge, &octets));
        }
    }

    fn response(&mut self, now: Time, slot: Slot, from: Path, data: &[u8]) {
        let Some(active) = self.under_way_mut(slot) else { return };
        let right = |challenge: &mut Challenge| challenge.path == from && same(&challenge.octets, data);
        if active.challenge.take_if(right).is_some()
            && let Some(entry) = self.slab.get_mut(slot)
        {
            entry.set_path(from);
            self.counters.moved += 1;
            // What was lost on the old way need not wait until it is missed.
            self.with_active(now, slot, |active| active.reliable.wake(now));
        }
    }

    /// A resume inside the session.
    fn rekey(&mut self, now: Time, slot: Slot, data: &[u8]) {
        let Ok(Datagram::Resume(resume)) = Datagram::decode(data) else {
            self.counters.bad_frames += 1;
            return;
        };
        let under_way = self.under_way(slot).and_then(|active| active.rekey.as_ref());
        let known = under_way.filter(|rekey| rekey.echo == resume.echo()).map(|rekey| rekey.answer.clone());
        let answer = match known {
            Some(answer) => answer,
            None => self.offer(now, slot, &resume).unwrap_or_else(|| {
                self.counters.bad_rekeys += 1;
                refuse(Refusal::Ticket, resume.echo())
            }),
        };
        self.say(slot, None, &Frame::alone(Kind::Rekeyed, &answer));
    }

    fn offer(&mut self, now: Time, slot: Slot, resume: &Resume) -> Option<Vec<u8>> {
        let ticket = self.ticket(now, resume).ok()?;
        let entry = self.slab.get(slot)?;
        if entry.principal() != ticket.principal {
            return None;
        }
        let id = self.ids.id(slot, entry.generation.wrapping_add(1));
        let welcome = self.welcome(now, id, resume.wish, ticket);
        let mut nonce = [0; 16];
        self.rng.fill(&mut nonce);
        let (answer, keys) = resumed(resume, nonce, &ticket.resume, &welcome);
        let rekey = Rekey {
            keys,
            echo: resume.echo(),
            answer: answer.clone(),
            interval: welcome.interval,
            over: now + PROOF,
        };
        self.with_active(now, slot, |active| active.rekey = Some(Box::new(rekey)));
        Some(answer)
    }

    /// A datagram opened under the keys that were offered.
    fn rekeyed(&mut self, slot: Slot, keys: Keys, interval: u16) {
        if let Some(active) = self.under_way_mut(slot) {
            active.rekey = None;
            active.reliable.restart();
        }
        if let Some(entry) = self.slab.get_mut(slot) {
            entry.keys = keys;
            entry.interval = interval;
            entry.window = Window::NEW;
            entry.set_counter(0);
            entry.generation = entry.generation.wrapping_add(1);
            self.counters.rekeys += 1;
        }
    }

    /// Sends and hands up whatever can be, now.
    pub(super) fn pump(&mut self, now: Time, slot: Slot) {
        let Some(entry) = self.slab.get(slot) else { return };
        let (index, id, to, session) = (entry.active, self.id(slot), entry.path(), self.session(slot));
        let principal = entry.principal();
        let Some(mut active) = self.actives.get_mut(index as usize).and_then(Option::take) else { return };
        let before = (active.reliable.queued(), active.reliable.held(), active.reliable.resent());
        while let Some(octets) = active.reliable.pop() {
            self.counters.messages += 1;
            self.outputs.push_back(Output::Message { session, principal, octets });
        }
        while let Some(message) = active.reliable.pop_acked() {
            self.counters.acked += 1;
            self.outputs.push_back(Output::Acked { session, message });
        }
        if active.reliable.pop_writable() {
            self.outputs.push_back(Output::Writable { session });
        }
        let entry = self.slab.get_mut(slot).expect("it was just seen");
        let mut frame = Vec::new();
        while entry.sleep == 0 && active.reliable.poll(now, entry.counter(), &mut frame) {
            let counter = entry.take_counter();
            let octets = entry.keys.seal_data(DOWN, id, counter, |out| out.append(&mut frame));
            self.outputs.push_back(Output::Send { to, octets });
        }
        self.account(before, &active.reliable);
        self.put_back(now, slot, index, active);
    }

    /// The timer of what is under way came.
    pub(super) fn active_due(&mut self, now: Time, index: u32) {
        let Some(active) = self.actives.get_mut(index as usize).and_then(Option::as_mut) else { return };
        active.due = Time::MAX;
        let slot = active.slot;
        active.challenge.take_if(|challenge| challenge.over <= now);
        active.rekey.take_if(|rekey| rekey.over <= now);
        let sleeps = self.slab.get(slot).is_some_and(|entry| entry.sleep > 0);
        if !sleeps && let Err(failure) = active.reliable.expire(now) {
            let why = Why::from(failure);
            self.counters.unreachable += u64::from(why == Why::Unreachable);
            self.counters.stalled += u64::from(why == Why::Stalled);
            return self.gone(slot, why);
        }
        self.pump(now, slot);
    }

    /// Lets `f` work on what is under way, which begins here if nothing was.
    pub(super) fn with_active<T>(&mut self, now: Time, slot: Slot, f: impl FnOnce(&mut Active) -> T) -> T {
        let entry = self.slab.get_mut(slot).expect("the caller has looked");
        if entry.active == Entry::IDLE {
            let (to_send, to_hand_up) = entry.numbers;
            let reliable = Reliable::new(now, to_send, to_hand_up);
            let active = Active { slot, reliable, challenge: None, rekey: None, due: Time::MAX };
            let index = self.free_actives.pop().unwrap_or(self.actives.len() as u32);
            match self.actives.get_mut(index as usize) {
                Some(place) => *place = Some(Box::new(active)),
                None => self.actives.push(Some(Box::new(active))),
            }
            entry.active = index;
        }
        let index = entry.active as usize;
        let mut active = self.actives[index].take().expect("an index in a session is of something");
        let before = (active.reliable.queued(), active.reliable.held(), active.reliable.resent());
        let result = f(&mut active);
        self.account(before, &active.reliable);
        self.put_back(now, slot, index as u32, active);
        result
    }

    /// What is under way in a session is no more.
    pub(super) fn drop_active(&mut self, index: u32) {
        if let Some(active) = self.actives.get_mut(index as usize).and_then(Option::take) {
            self.timers.remove(&(active.due, index));
            self.queued -= active.reliable.queued();
            self.held -= active.reliable.held();
            self.free_actives.push(index);
        }
    }

    /// Tells the peer once that it is over.
    pub(super) fn say_close(&mut self, _now: Time, slot: Slot, why: Closing) {
        self.say(slot, None, &Frame::alone(Kind::Close, &why.number().to_be_bytes()));
    }

    fn say(&mut self, slot: Slot, to: Option<Path>, frame: &Frame<'_>) {
        let id = self.id(slot);
        let Some(entry) = self.slab.get_mut(slot) else { return };
        let counter = entry.take_counter();
        let octets = entry.keys.seal_data(DOWN, id, counter, |out| frame.encode(out));
        let to = to.unwrap_or(entry.path());
        self.outputs.push_back(Output::Send { to, octets });
    }

    /// Puts it back, frees it when there is no more to it, and sets its timer.
    fn put_back(&mut self, now: Time, slot: Slot, index: u32, mut active: Box<Active>) {
        let numbers = active.reliable.numbers();
        let extra = active.challenge.as_ref().map(|challenge| challenge.over);
        let rekey = active.rekey.as_ref().map(|rekey| rekey.over);
        let idle = active.reliable.is_idle(now) && extra.is_none() && rekey.is_none();
        self.timers.remove(&(active.due, index));
        let entry = self.slab.get_mut(slot).expect("what is under way is of a session");
        entry.numbers = numbers;
        let sleeps = entry.sleep > 0;
        if sleeps && !active.reliable.is_quiet() {
            self.asleep.note(slot, active.reliable.queued());
        }
        if idle {
            entry.active = Entry::IDLE;
            self.free_actives.push(index);
            return;
        }
        let proof = [extra, rekey].into_iter().flatten().min();
        let work = if sleeps { Time::MAX } else { active.reliable.deadline() };
        let due = work.min(proof.unwrap_or(active.reliable.linger()));
        // What is due now is about to be done: a timer of now would only come again and again.
        active.due = due.max(now + TICK);
        self.timers.insert((active.due, index));
        self.actives[index as usize] = Some(active);
    }

    fn account(&mut self, before: (usize, usize, u64), now: &Reliable) {
        self.queued = self.queued + now.queued() - before.0;
        self.held = self.held + now.held() - before.1;
        self.counters.resent += now.resent() - before.2;
    }

    pub(super) fn under_way(&self, slot: Slot) -> Option<&Active> {
        let index = self.slab.get(slot)?.active;
        self.actives.get(index as usize)?.as_deref()
    }

    fn under_way_mut(&mut self, slot: Slot) -> Option<&mut Active> {
        let index = self.slab.get(slot)?.active;
        self.actives.get_mut(index as usize)?.as_deref_mut()
    }
}

enum Opened<'a> {
    Beat((u8, u8)),
    Data(&'a [u8]),
}
