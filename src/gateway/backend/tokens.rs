//! Enrolment by a one-time token: who holds it when it comes in is enrolled, once.
//!
//! Only its digest is kept. A token is spent when it is taken, before the disk knows; whoever had it hears so when the
//! disk does. If the power goes between, nobody was told, and the token is whole again.

use super::*;
use crate::{
    gateway::token::{Grant, Token},
    io::{Conn, holder},
};

/// Tokens that may be out at once.
const MAX_TOKENS: usize = 1024;
/// Wrong tokens from one address in [`COOLING`] after which none is looked at.
const MAX_WRONG: u32 = 5;
/// How long an address that gave too many waits after its last.
const COOLING: Duration = Duration::from_secs(60);
/// Addresses remembered for giving wrong ones; past it the one longest ago goes.
const MAX_GUESSERS: usize = 4096;

/// An enrolment that waits for the disk.
pub(super) struct Redeemed {
    peer: u64,
    conn: Conn,
    tag: u16,
    encoder: Encoder,
    key: KeyId,
    enrolment: Enrolment,
    replaced: Vec<KeyId>,
}

impl Backend {
    /// Makes a token good for one enrolment. An older one for the same name and group is withdrawn. Answers with the
    /// ticket of the event that says that it is durable; before, it must not be given away.
    ///
    /// # Errors
    /// `Invalid` for a name or group that none can have, or a time that is past; `Full` when 1,024 tokens are out; `State`
    /// when the name is another's and the grant does not replace it.
    pub fn issue_token(&mut self, now: Time, token: &Token, grant: Grant) -> Result<u64, Fault> {
        operator::check_group(&grant.group)?;
        operator::check_name(&grant.name)?;
        let unix = self.unix(now);
        if grant.expires <= unix {
            return Err(Fault::new(Status::Invalid, "the token would have expired already"));
        }
        if !grant.replaces && self.enrolled_as(&grant).next().is_some() {
            let detail = format!(
                "group {} has a gateway {} already: revoke it, or let the token replace it",
                grant.group, grant.name
            );
            return Err(Fault::new(Status::State, detail));
        }
        let is_stale = |known: &Grant| {
            known.expires <= unix || (&known.name, &known.group) == (&grant.name, &grant.group)
        };
        let stale: Vec<[u8; 32]> =
            self.tokens.iter().filter(|(_, known)| is_stale(known)).map(|(digest, _)| *digest).collect();
        if self.tokens.len() - stale.len() >= MAX_TOKENS {
            let detail = format!("{MAX_TOKENS} tokens are out: wait until some are used or expire");
            return Err(Fault::new(Status::Full, detail));
        }
        let mut ops: Vec<Op> = stale.iter().map(rows::delete_token).collect();
        stale.iter().for_each(|digest| drop(self.tokens.remove(digest)));
        ops.push(rows::put_token(&token.digest(), &grant));
        self.tokens.insert(token.digest(), grant);
        Ok(self.persist(ops, Effect::Token))
    }

    /// What the tokens that are out are good for, in no order.
    pub fn grants(&self, now: Time) -> impl Iterator<Item = &Grant> {
        let unix = self.unix(now);
        self.tokens.values().filter(move |grant| grant.expires > unix)
    }

    /// Somebody who is not registered shows a token.
    pub(super) fn redeem(&mut self, now: Time, at: usize, message: &Message<'_>, token: &Token) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        // Asked again on the same stream: the answer is on its way.
        if std::mem::replace(&mut peer.has_shown_token, true) {
            return self.counters.repeated += 1;
        }
        let (id, conn, address) = (peer.id, peer.path.0, holder(peer.remote.remote.ip()));
        let key = peer.remote.key;
        let (key, grant) = match self.judge(now, key, address, token) {
            Ok(good) => good,
            Err(reason) => {
                self.counters.refused += 1;
                self.outputs.push_back(Output::Event(BackendEvent::Refused { key, reason }));
                self.answer_stranger(at, message, &Body::EnrolAnswer(Outcome::refused(reason)));
                return self.close(at);
            }
        };
        self.tokens.remove(&token.digest());
        let replaced: Vec<KeyId> = self.enrolled_as(&grant).filter(|known| *known != key).collect();
        replaced.iter().for_each(|old| drop(self.enrolments.remove(old)));
        let enrolment =
            Enrolment { name: grant.name, group: grant.group, trusted: grant.trusted, barred: false };
        self.enrolments.insert(key, enrolment.clone());
        let mut ops = vec![rows::delete_token(&token.digest()), rows::put_gateway(key, &enrolment)];
        ops.extend(replaced.iter().map(|old| rows::delete_gateway(*old)));
        let encoder = Encoder {
            family: self.config.family,
            source: message.header.destination,
            destination: message.header.source,
        };
        let tag = message.header.tag;
        let redeemed = Redeemed { peer: id, conn, tag, encoder, key, enrolment, replaced };
        self.persist(ops, Effect::Redeemed(Box::new(redeemed)));
    }

    /// What a token is good for in these hands.
    fn judge(
        &mut self,
        now: Time,
        key: Option<KeyId>,
        address: IpAddr,
        token: &Token,
    ) -> Result<(KeyId, Grant), Reason> {
        // Whoever proves no key cannot be enrolled, and has sent the token in the clear.
        let key = key.ok_or(Reason::NOT_AUTHORISED)?;
        let (wrong, until) = self.guessers.get(&address).copied().unwrap_or((0, now));
        let wrong = if until <= now { 0 } else { wrong };
        if wrong >= MAX_WRONG {
            self.counters.tokens_unseen += 1;
            return Err(Reason::TRY_LATER);
        }
        if self.enrolments.get(&key).is_some_and(|enrolment| enrolment.barred) {
            return Err(Reason::BARRED);
        }
        let unix = self.unix(now);
        let grant = self.tokens.get(&token.digest()).filter(|grant| grant.expires > unix).cloned();
        let grant = grant.filter(|grant| grant.replaces || self.enrolled_as(grant).all(|known| known == key));
        let Some(grant) = grant else {
            self.counters.tokens_wrong += 1;
            self.guessers.put(address, (wrong + 1, now + COOLING));
            if self.guessers.len() > MAX_GUESSERS
                && let Some((_, oldest, (_, until))) = self.guessers.oldest()
            {
                self.counters.guessers_evicted += u64::from(*until > now);
                self.guessers.remove(&oldest);
            }
            return Err(Reason::TOKEN);
        };
        Ok((key, grant))
    }

    /// The keys enrolled by a grant's name in its group.
    fn enrolled_as(&self, grant: &Grant) -> impl Iterator<Item = KeyId> {
        let is_it = |known: &Enrolment| (&known.name, &known.group) == (&grant.name, &grant.group);
        self.enrolments.iter().filter(move |(_, known)| is_it(known)).map(|(key, _)| *key)
    }

    /// An enrolment by token became durable.
    pub(super) fn redeemed(&mut self, now: Time, redeemed: Redeemed) {
        let Redeemed { peer, conn, tag, encoder, key, enrolment, replaced } = redeemed;
        for old in replaced {
            // Enrolled anew by the operator since, and not yet durable: that is another matter.
            self.admitted.remove(&old);
            if let Some(&at) = self.by_key.get(&old) {
                self.left(at, true);
            }
        }
        self.counters.enrolled += 1;
        self.enrolment_stored(now, key, Some(enrolment));
        let at = self.by_path.get(&(conn, None)).copied();
        if at.and_then(|at| self.peers[at].as_ref()).is_some_and(|known| known.id == peer) {
            let octets = encoder.message(tag, &Body::EnrolAnswer(Outcome::OK));
            self.outputs.push_back(Output::Send { conn, to: None, octets });
        }
    }
}
