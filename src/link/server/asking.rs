//! Who asks to be let in: cookies under load, lookups, candidates. Nothing here touches a session that is proven.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry as MapEntry},
    net::SocketAddr,
    time::Duration,
};

use super::{
    CANDIDATE_SECONDS, Credential, LONGEST_INTERVAL, MAX_CANDIDATES_OF_ONE, Output, Server,
    slab::{Entry, Slot, Stage},
};
use crate::{
    io::holder,
    link::{
        Closing, Path, Why,
        handshake::{Responder, is_proven, resumed},
        keys::Keys,
        ticket::{LIFE_DAYS, Ticket},
    },
    time::Time,
    wire::link::{self, HEEDS_RHYTHM, HEEDS_SLEEP, Hello, Refusal, Resume, TICKET, Welcome, Wish},
};

/// What a request is known by: its echo, and where it came from.
type Name = ([u8; 8], Path);

/// Requests that are being answered, or were a moment ago.
#[derive(Default)]
pub(super) struct Asking {
    names: BTreeMap<Name, Pending>,
    /// By ticket, which is the order in which they are over.
    lookups: BTreeMap<u64, Lookup>,
    candidates: BTreeMap<Slot, Candidate>,
    /// Principal, order and place of each candidate.
    of_one: BTreeSet<(u64, u64, Slot)>,
    /// Lookups and candidates of each address.
    of_address: [BTreeMap<Path, usize>; 2],
    next_ticket: u64,
    next_order: u64,
    /// A second, and the hellos and resumes that were taken in it without a cookie.
    taken: (u64, [u32; 2]),
}

#[derive(Clone, Copy)]
enum Pending {
    Lookup,
    Candidate(Slot),
}

/// Which of [`Asking::of_address`].
const LOOKUPS: usize = 0;
const CANDIDATES: usize = 1;

struct Lookup {
    name: Name,
    session_id: [u8; 16],
    noise: Vec<u8>,
    /// Which static key is meant.
    private: [u8; 32],
    due: Time,
}

struct Candidate {
    name: Name,
    principal: u64,
    order: u64,
    answer: Vec<u8>,
    resumed: bool,
}

impl Asking {
    pub fn deadline(&self) -> Option<Time> {
        self.lookups.first_key_value().map(|(_, lookup)| lookup.due)
    }

    /// Drops the lookups that were not answered in time: how many.
    pub fn expire(&mut self, now: Time) -> u64 {
        let mut expired = 0;
        while let Some((&ticket, lookup)) = self.lookups.first_key_value()
            && lookup.due <= now
        {
            expired += u64::from(self.take_lookup(ticket).is_some());
        }
        expired
    }

    /// A candidate is no more one.
    pub fn forget(&mut self, slot: Slot) -> Option<bool> {
        let candidate = self.candidates.remove(&slot)?;
        self.names.remove(&candidate.name);
        self.leaves(CANDIDATES, candidate.name.1);
        self.of_one.remove(&(candidate.principal, candidate.order, slot));
        Some(candidate.resumed)
    }

    /// The oldest candidate of a principal that has as many as one may have.
    fn surplus(&self, principal: u64) -> Option<Slot> {
        let own = || self.of_one.range((principal, 0, 0)..=(principal, u64::MAX, Slot::MAX));
        own().nth(MAX_CANDIDATES_OF_ONE - 1).and_then(|_| own().next()).map(|(_, _, slot)| *slot)
    }

    fn take_lookup(&mut self, ticket: u64) -> Option<Lookup> {
        let lookup = self.lookups.remove(&ticket)?;
        self.names.remove(&lookup.name);
        self.leaves(LOOKUPS, lookup.name.1);
        Some(lookup)
    }

    /// Whether an address may have one more, of which there may be so many in all: half of what is left is the most.
    fn has_share(&self, of: usize, path: Path, used: usize, all: usize) -> bool {
        let own = self.of_address[of].get(&address(path)).copied().unwrap_or(0);
        // The last one is somebody's too.
        used < all && own < (all - used).div_ceil(2)
    }

    fn enters(&mut self, of: usize, path: Path) {
        *self.of_address[of].entry(address(path)).or_default() += 1;
    }

    fn leaves(&mut self, of: usize, path: Path) {
        if let MapEntry::Occupied(mut count) = self.of_address[of].entry(address(path)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// Counts a request without a cookie. Whether it is within the bound.
    fn take(&mut self, second: u64, what: usize, bound: u32) -> bool {
        if self.taken.0 != second {
            self.taken = (second, [0; 2]);
        }
        let within = self.taken.1[what] < bound;
        self.taken.1[what] += u32::from(within);
        within
    }
}

/// Who has a share: a host whatever its port, or a stream.
fn address(path: Path) -> Path {
    match path {
        Path::Datagram(address) => Path::Datagram(SocketAddr::new(holder(address.ip()), 0)),
        stream => stream,
    }
}

impl Server {
    pub(super) fn hello(&mut self, now: Time, from: Path, hello: Hello<'_>) {
        self.counters.hellos += 1;
        let name = (hello.echo(), from);
        if self.was_asked(name) {
            return;
        }
        let bound = self.config.hellos_without_cookie;
        if !self.may_ask(now, name, hello.session_id, &hello.cookie, 0, bound) {
            return;
        }
        let keys = [Some(self.secrets.private), self.secrets.next_private];
        let meant = self.public.iter().position(|key| key.is_some_and(|key| key[..2] == hello.server_key));
        let Some(private) = meant.and_then(|at| keys[at]) else {
            return self.refuse(from, Refusal::OtherKey, name.0);
        };
        if self.draining {
            return self.refuse(from, Refusal::Full, name.0);
        }
        let used = self.asking.lookups.len();
        if !self.asking.has_share(LOOKUPS, from, used, self.config.max_lookups) {
            self.counters.lookups_full += 1;
            return;
        }
        let ticket = self.asking.next_ticket;
        self.asking.next_ticket += 1;
        let due = now + Duration::from_secs(CANDIDATE_SECONDS.into());
        let lookup = Lookup { name, session_id: hello.session_id, noise: hello.noise.to_vec(), private, due };
        self.asking.names.insert(name, Pending::Lookup);
        self.asking.enters(LOOKUPS, from);
        self.asking.lookups.insert(ticket, lookup);
        self.outputs.push_back(Output::Lookup { ticket, session_id: hello.session_id });
    }

    pub(super) fn found(&mut self, now: Time, ticket: u64, answer: Result<Credential, Refusal>) {
        let Some(lookup) = self.asking.take_lookup(ticket) else { return };
        let (echo, from) = lookup.name;
        let credential = match answer {
            Ok(credential) if credential.expiry <= self.unix(now) => Err(Refusal::Unknown),
            Ok(credential) if self.is_revoked(credential.principal, credential.epoch) => {
                Err(Refusal::Unknown)
            }
            other => other,
        };
        let credential = match credential {
            Ok(credential) => credential,
            Err(reason) => return self.refuse(from, reason, echo),
        };
        if !self.has_room(lookup.name, credential.principal) {
            return;
        }
        self.counters.handshakes += 1;
        let Lookup { session_id, noise, private, .. } = lookup;
        let Some(responder) =
            Responder::read(&private, session_id, &credential.secret, &noise, &mut self.rng)
        else {
            self.counters.bad_hellos += 1;
            return;
        };
        let Some((slot, generation)) = self.slab.next_generation() else { return };
        let wish = responder.wish;
        let ticket = Ticket {
            session_id,
            principal: credential.principal,
            resume: [0; 32],
            expiry: credential.expiry,
            epoch: credential.epoch,
            made: 0,
        };
        let welcome = self.welcome(now, self.ids.id(slot, generation), wish, ticket);
        let (noise, keys) = responder.accept(&welcome);
        let answer = link::accept(echo, &noise);
        self.candidate(lookup.name, credential.principal, keys, welcome.interval, answer, false);
    }

    pub(super) fn resume(&mut self, now: Time, from: Path, resume: &Resume) {
        self.counters.resumes += 1;
        let name = (resume.echo(), from);
        if self.was_asked(name) {
            return;
        }
        let subject = *resume.ticket.first_chunk().expect("a ticket is longer");
        let bound = self.config.resumes_without_cookie;
        if !self.may_ask(now, name, subject, &resume.cookie, 1, bound) {
            return;
        }
        if self.draining {
            return self.refuse(from, Refusal::Full, name.0);
        }
        let ticket = match self.ticket(now, resume) {
            Ok(ticket) => ticket,
            Err(Some(reason)) => return self.refuse(from, reason, name.0),
            Err(None) => return,
        };
        if !self.has_room(name, ticket.principal) {
            return;
        }
        let Some((slot, generation)) = self.slab.next_generation() else { return };
        let welcome = self.welcome(now, self.ids.id(slot, generation), resume.wish, ticket);
        let mut nonce = [0; 16];
        self.rng.fill(&mut nonce);
        let (answer, keys) = resumed(resume, nonce, &ticket.resume, &welcome);
        self.candidate(name, ticket.principal, keys, welcome.interval, answer, true);
    }

    /// What a resume's ticket says, if it is good and the device knows its secret. A ticket that is not good is refused, a
    /// resume without its secret is nobody's.
    pub(super) fn ticket(&mut self, now: Time, resume: &Resume) -> Result<Ticket, Option<Refusal>> {
        let unix = self.unix(now);
        let good = self.tickets.open(&resume.ticket, unix).filter(|ticket| {
            let made = u64::from(ticket.made);
            let is_young = made >= self.tickets_from && made + LIFE_DAYS * 86_400 > unix;
            is_young && !self.is_revoked(ticket.principal, ticket.epoch)
        });
        let Some(ticket) = good else {
            self.counters.bad_tickets += 1;
            return Err(Some(Refusal::Ticket));
        };
        if !is_proven(&ticket.resume, resume) {
            self.counters.unproven += 1;
            return Err(None);
        }
        Ok(ticket)
    }

    /// What a device is told when it is let in, with a new ticket.
    pub(super) fn welcome(&mut self, now: Time, id: u32, wish: Wish, ticket: Ticket) -> Welcome {
        let (mut resume, mut nonce) = ([0; 32], [0; 12]);
        self.rng.fill(&mut resume);
        self.rng.fill(&mut nonce);
        let unix = self.unix(now);
        let (shortest, longest) = self.config.intervals;
        // A ticket never outlives what it was given for: the credential's own end is carried from ticket to ticket.
        let ticket = Ticket { resume, made: unix as u32, ..ticket };
        let sealed: [u8; TICKET] = self.tickets.seal(&ticket, nonce);
        Welcome {
            id,
            interval: wish.interval.clamp(shortest, longest),
            features: self.features(),
            reset: self.reset_token(id),
            resume,
            ticket: sealed,
            next_key: self.public[1].unwrap_or_default(),
        }
    }

    /// What the server heeds besides. A device that could be silent for as long as it likes, were it to find out, is told
    /// nothing of a bound of ours: where there is one, what was agreed at login holds.
    fn features(&self) -> u16 {
        HEEDS_SLEEP | if self.config.intervals.1 == LONGEST_INTERVAL { HEEDS_RHYTHM } else { 0 }
    }

    /// A datagram opened under a candidate's keys: it is a session, and the older one of its principal is over.
    pub(super) fn prove(&mut self, now: Time, slot: Slot) {
        let resumed = self.asking.forget(slot).unwrap_or(false);
        let Some(entry) = self.slab.get_mut(slot) else { return };
        entry.stage = Stage::Proven;
        let (principal, patience) = (entry.principal(), entry.patience());
        self.slab.arm(slot, patience.into());
        if let Some(older) = self.by_principal(principal) {
            self.counters.replaced += 1;
            self.say_close(now, older, Closing::Replaced);
            self.gone(older, Why::Replaced);
        }
        let hash = self.hash_of(principal);
        let (slab, build) = (&self.slab, &self.hash);
        self.principals.insert_unique(hash, slot, |slot| {
            use std::hash::{BuildHasher, Hasher};
            let mut hasher = build.build_hasher();
            hasher.write_u64(slab.get(*slot).map_or(0, Entry::principal));
            hasher.finish()
        });
        self.counters.sessions += 1;
        self.counters.resumed += u64::from(resumed);
        let session = self.session(slot);
        self.outputs.push_back(Output::SessionUp { session, principal, resumed });
    }

    fn candidate(
        &mut self,
        name: Name,
        principal: u64,
        keys: Keys,
        interval: u16,
        answer: Vec<u8>,
        resumed: bool,
    ) {
        let Some(slot) = self.slab.insert(principal, name.1, keys, interval) else { return };
        self.outputs.push_back(Output::Send { to: name.1, octets: answer.clone() });
        self.asking.names.insert(name, Pending::Candidate(slot));
        self.asking.enters(CANDIDATES, name.1);
        let order = self.asking.next_order;
        self.asking.next_order += 1;
        self.asking.of_one.insert((principal, order, slot));
        self.asking.candidates.insert(slot, Candidate { name, principal, order, answer, resumed });
    }

    /// Whether a request is a repetition; if it was answered, it is again, with the same octets.
    fn was_asked(&mut self, name: Name) -> bool {
        let Some(pending) = self.asking.names.get(&name) else { return false };
        self.counters.repeated += 1;
        if let Pending::Candidate(slot) = pending
            && let Some(candidate) = self.asking.candidates.get(slot)
        {
            let octets = candidate.answer.clone();
            self.outputs.push_back(Output::Send { to: name.1, octets });
        }
        true
    }

    /// Whether a request has its cookie, or needs none now. If not, it gets one.
    fn may_ask(
        &mut self,
        now: Time,
        (echo, from): Name,
        subject: [u8; 16],
        cookie: &[u8; 16],
        what: usize,
        bound: u32,
    ) -> bool {
        if *cookie != [0; 16] {
            if self.cookies.is_good(now, from, subject, echo, cookie) {
                return true;
            }
            self.counters.bad_cookies += 1;
        }
        if self.asking.take(now.since(self.begun).as_secs(), what, bound) {
            return true;
        }
        self.counters.cookies += 1;
        let cookie = self.cookies.make(now, &mut self.rng, from, subject, echo);
        self.outputs.push_back(Output::Send { to: from, octets: link::cookie(echo, cookie) });
        false
    }

    fn has_room(&mut self, name: Name, principal: u64) -> bool {
        if let Some(oldest) = self.asking.surplus(principal) {
            self.counters.candidates_displaced += 1;
            self.asking.forget(oldest);
            self.drop_session(oldest);
        }
        let used = self.asking.candidates.len();
        if !self.asking.has_share(CANDIDATES, name.1, used, self.config.max_candidates) {
            self.counters.candidates_full += 1;
            return false;
        }
        if self.slab.next_generation().is_none() {
            self.counters.sessions_full += 1;
            self.refuse(name.1, Refusal::Full, name.0);
            return false;
        }
        true
    }

    fn is_revoked(&self, principal: u64, epoch: u32) -> bool {
        self.revoked.get(&principal).is_some_and(|revoked| epoch < revoked.epoch)
    }
}
