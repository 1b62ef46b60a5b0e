//! What the back end has told this gateway: results that age, rules in order.

use std::time::Duration;

use crate::{
    gateway::ResultKey,
    replica::Replica,
    time::Time,
    wire::{AppId, gateway::Record},
};

struct KnownResult {
    app: AppId,
    generation: u32,
    expires: Time,
}

struct KnownRule {
    app: AppId,
    pattern: Box<[u8]>,
    generation: u32,
}

/// What became of a rule that came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Learnt {
    /// New, or now in another place.
    New,
    Known,
    /// There is no memory left for it.
    LeftOut,
}

/// Results and rules, each marked with the registration that last told it.
#[derive(Default)]
pub(super) struct Knowledge {
    generation: u32,
    results: Replica<ResultKey, KnownResult>,
    rules: Vec<KnownRule>,
    /// So many of them, from the first, were told in this registration.
    fresh: usize,
    rule_octets: usize,
}

impl Knowledge {
    /// A registration began: what it does not tell again is old.
    pub fn begin(&mut self) {
        self.generation += 1;
        self.fresh = 0;
    }

    pub fn result(&self, key: &ResultKey) -> Option<AppId> {
        self.results.get(key).map(|known| known.app)
    }

    /// Oldest first.
    pub fn results(&self) -> impl Iterator<Item = (ResultKey, AppId)> + '_ {
        self.results.after(0).map(|(_, key, known)| (key, known.app))
    }

    /// In order of receipt (SPEC R-18).
    pub fn rules(&self) -> impl Iterator<Item = (AppId, &[u8])> {
        self.rules.iter().map(|rule| (rule.app, &*rule.pattern))
    }

    /// Takes a result in, or takes it back when it names no application; answers whether the oldest had to go for it.
    pub fn learn(&mut self, now: Time, record: &Record, ttl: Duration, max: usize) -> bool {
        let key = key(record);
        if record.app == AppId::NONE {
            self.results.remove(&key);
            return false;
        }
        let known = KnownResult { app: record.app, generation: self.generation, expires: now + ttl };
        self.results.put(key, known);
        let Some((_, oldest, _)) = self.results.oldest().filter(|_| self.results.len() > max) else {
            return false;
        };
        self.results.remove(&oldest);
        true
    }

    /// Takes in what this gateway found out itself and now tells the back end, unless this registration already told
    /// something about that end: the back end does not send a report to its reporter. Answers whether the oldest had
    /// to go for it.
    pub fn adopt(&mut self, now: Time, record: &Record, ttl: Duration, max: usize) -> bool {
        let known = self.results.get(&key(record));
        let is_told = known.is_some_and(|known| known.generation == self.generation);
        !is_told && self.learn(now, record, ttl, max)
    }

    /// Takes a rule in, if the patterns then have at most `max_octets`.
    pub fn learn_rule(&mut self, app: AppId, pattern: &[u8], max_octets: usize) -> Learnt {
        let generation = self.generation;
        let known = self.rules.iter().position(|rule| rule.app == app && *rule.pattern == *pattern);
        if let Some(at) = known {
            if self.rules[at].generation == generation {
                return Learnt::Known;
            }
            self.rules[at].generation = generation;
            // Old ones between were withdrawn while we were away, or told in another order.
            self.rules[self.fresh..=at].rotate_right(1);
            self.fresh += 1;
            return if at + 1 == self.fresh { Learnt::Known } else { Learnt::New };
        }
        if self.rule_octets + pattern.len() > max_octets {
            return Learnt::LeftOut;
        }
        self.rule_octets += pattern.len();
        self.rules.insert(self.fresh, KnownRule { app, pattern: pattern.into(), generation });
        self.fresh += 1;
        Learnt::New
    }

    /// Forgets an application's rules; answers whether there were any.
    pub fn forget_rules(&mut self, app: AppId) -> bool {
        self.keep_rules(|rule| rule.app != app)
    }

    /// Forgets rules that this registration did not tell (DECISIONS 6); answers whether there were any.
    pub fn drop_old_rules(&mut self) -> bool {
        let generation = self.generation;
        self.keep_rules(|rule| rule.generation == generation)
    }

    /// Forgets results that this registration did not tell: they are gone at the back end (DECISIONS 6). Answers
    /// which.
    pub fn drop_old_results(&mut self) -> Vec<ResultKey> {
        let mut gone = Vec::new();
        while let Some((_, key, known)) = self.results.oldest()
            && known.generation != self.generation
        {
            self.results.remove(&key);
            gone.push(key);
        }
        gone
    }

    /// Forgets results that nobody renewed; answers how many.
    pub fn expire(&mut self, now: Time) -> u64 {
        let mut expired = 0;
        while let Some((_, key, known)) = self.results.oldest()
            && known.expires <= now
        {
            self.results.remove(&key);
            expired += 1;
        }
        expired
    }

    /// When the next result is too old.
    pub fn next_expiry(&self) -> Option<Time> {
        self.results.oldest().map(|(_, _, known)| known.expires)
    }

    fn keep_rules(&mut self, keep: impl Fn(&KnownRule) -> bool) -> bool {
        let before = self.rules.len();
        self.rules.retain(keep);
        self.fresh = self.rules.iter().filter(|rule| rule.generation == self.generation).count();
        self.rule_octets = self.rules.iter().map(|rule| rule.pattern.len()).sum();
        self.rules.len() != before
    }
}

fn key(record: &Record) -> ResultKey {
    ResultKey::new(record.remote, record.protocol)
}
