//! What one group of gateways knows. Nothing here is visible to another group (DECISIONS 6, Isolation).

use std::collections::{HashMap, VecDeque};

use super::{Voter, features::Features};
use crate::{gateway::ResultKey, replica::Replica, wire::AppId};

/// Gateways whose word on one remote end is remembered; past it the oldest word goes.
const MAX_VOTES: usize = 8;

/// One gateway's word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vote {
    pub voter: Voter,
    pub app: AppId,
    /// Unix time, seconds.
    pub unix: u64,
    pub trusted: bool,
}

/// What the group's gateways said about one remote end, oldest first.
#[derive(Default, Debug)]
pub(super) struct Votes(Vec<Vote>);

impl Votes {
    /// The application that enough gateways agree on, or that a trusted one named. Of two, that with more voices;
    /// of two with as many, the later. That they agree on none is no verdict.
    fn verdict(&self, agreement: usize) -> Option<AppId> {
        let mut counts: Vec<(AppId, usize)> = Vec::new();
        for vote in &self.0 {
            let weight = if vote.trusted { agreement.max(1) } else { 1 };
            match counts.iter_mut().find(|(app, _)| *app == vote.app) {
                Some((_, count)) => *count += weight,
                None => counts.push((vote.app, weight)),
            }
        }
        let agreed = counts.into_iter().filter(|(_, count)| *count >= agreement);
        agreed.max_by_key(|(_, count)| *count).map(|(app, _)| app).filter(|app| *app != AppId::NONE)
    }
}

/// A result that the group's gateways are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Published {
    /// [`AppId::NONE`] once the gateways no longer agree: those that were told must be told.
    pub app: AppId,
    /// The registration whose first word on this end made this known: it need not be told (SPEC R-21). Only for what
    /// is new: who reported a change may have been told the older value meanwhile.
    pub reporter: Option<u64>,
    /// Unix time, seconds.
    pub unix: u64,
}

/// Bounds and rules of a group's results.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResultPolicy {
    /// Gateways that must agree before a result is told to others.
    pub agreement: usize,
    /// Seconds within which an identical report is not told again.
    pub renew: u64,
    /// Seconds that a word holds.
    pub ttl: u64,
    /// Remote ends that a group knows at the most.
    pub max_results: usize,
    /// Remote ends that one gateway has a word on.
    pub max_per_gateway: usize,
}

impl ResultPolicy {
    pub fn of(config: &super::BackendConfig) -> ResultPolicy {
        ResultPolicy {
            agreement: config.agreement.max(1),
            renew: config.result_renew.as_secs(),
            ttl: config.result_ttl.as_secs(),
            max_results: config.max_results,
            max_per_gateway: config.max_results_per_gateway,
        }
    }
}

/// A group's whole knowledge.
#[derive(Default)]
pub(super) struct Group {
    pub name: String,
    votes: Replica<ResultKey, Votes>,
    /// What each voter has a word on, in the order of its first word.
    voters: HashMap<Voter, VecDeque<ResultKey>>,
    pub published: Replica<ResultKey, Published>,
    /// The parameters that applications are recognised by.
    pub models: Replica<AppId, Vec<u32>>,
    pub features: Features,
    /// Peers of the group that are registered now.
    pub members: Vec<usize>,
}

impl Group {
    pub fn new(name: &str) -> Group {
        Group { name: name.to_owned(), ..Group::default() }
    }

    /// What the group's gateways are told, oldest first.
    pub fn results(&self) -> impl Iterator<Item = (ResultKey, AppId)> {
        let told = self.published.after(0).map(|(_, key, told)| (key, told.app));
        told.filter(|(_, app)| *app != AppId::NONE)
    }

    /// The word that a voter gave on a remote end.
    pub fn word(&self, key: &ResultKey, voter: &Voter) -> Option<&Vote> {
        self.votes.get(key)?.0.iter().find(|vote| vote.voter == *voter)
    }

    /// Takes in a word that is durable, from registration `reporter` if that lives. Returns the words that had to
    /// go for it, and whether the group's gateways have something new to be told.
    pub fn vote(
        &mut self,
        key: ResultKey,
        vote: Vote,
        reporter: Option<u64>,
        policy: &ResultPolicy,
    ) -> (Vec<(ResultKey, Voter)>, bool) {
        let mut gone = Vec::new();
        let mut votes = self.votes.remove(&key).unwrap_or_default();
        let had = votes.0.len();
        votes.0.retain(|known| known.voter != vote.voter);
        let is_first = votes.0.len() == had;
        // A word that no longer holds must not agree with a new one.
        let old: Vec<Vote> =
            votes.0.extract_if(.., |known| known.unix.saturating_add(policy.ttl) <= vote.unix).collect();
        let most = votes.0.len().saturating_sub(MAX_VOTES - 1);
        for Vote { voter, .. } in old.into_iter().chain(votes.0.drain(..most)) {
            gone.push((key, voter));
        }
        for (key, voter) in &gone {
            self.forget_key(voter, key);
        }
        votes.0.push(vote);
        let verdict = votes.verdict(policy.agreement);
        self.votes.put(key, votes);
        // Who said something else before may still hold that.
        let reporter = reporter.filter(|_| is_first);
        let mut news = self.publish(key, verdict, vote.unix, reporter, policy);
        if is_first {
            let keys = self.voters.entry(vote.voter).or_default();
            keys.push_back(key);
            if keys.len() > policy.max_per_gateway
                && let Some(&oldest) = keys.front()
            {
                let (words, told) = self.drop_words(&oldest, |word| word.voter == vote.voter, policy);
                gone.extend(words);
                news |= told;
            }
        }
        if self.votes.len() > policy.max_results
            && let Some((_, oldest, _)) = self.votes.oldest()
        {
            gone.extend(self.drop_words(&oldest, |_| true, policy).0);
        }
        (gone, news)
    }

    /// Forgets words given before `unix`, at most `limit` remote ends a call. Returns them, and whether the group's
    /// gateways have something new to be told.
    pub fn expire(
        &mut self,
        unix: u64,
        limit: usize,
        policy: &ResultPolicy,
    ) -> (Vec<(ResultKey, Voter)>, bool) {
        let (mut gone, mut news) = (Vec::new(), false);
        for _ in 0..limit {
            let Some((_, key, votes)) = self.votes.oldest() else { break };
            if votes.0.iter().all(|vote| vote.unix >= unix) {
                break;
            }
            let (words, told) = self.drop_words(&key, |vote| vote.unix < unix, policy);
            gone.extend(words);
            news |= told;
        }
        (gone, news)
    }

    /// Unix time of the oldest word.
    pub fn oldest(&self) -> Option<u64> {
        self.votes.oldest().and_then(|(_, _, votes)| votes.0.iter().map(|vote| vote.unix).min())
    }

    fn publish(
        &mut self,
        key: ResultKey,
        verdict: Option<AppId>,
        unix: u64,
        reporter: Option<u64>,
        policy: &ResultPolicy,
    ) -> bool {
        let told = self.published.get(&key);
        let Some(app) = verdict else {
            let must_tell = told.is_some_and(|told| told.app != AppId::NONE);
            if must_tell {
                self.published.put(key, Published { app: AppId::NONE, reporter: None, unix });
            }
            return must_tell;
        };
        if told.is_some_and(|told| told.app == app && unix < told.unix.saturating_add(policy.renew)) {
            return false;
        }
        let reporter = reporter.filter(|_| told.is_none());
        self.published.put(key, Published { app, reporter, unix });
        true
    }

    /// Drops some of the words on a remote end. Returns them, and whether there is news. When none is left nobody is
    /// told: what gateways hold ages by itself.
    fn drop_words(
        &mut self,
        key: &ResultKey,
        which: impl Fn(&Vote) -> bool,
        policy: &ResultPolicy,
    ) -> (Vec<(ResultKey, Voter)>, bool) {
        let mut votes = self.votes.remove(key).unwrap_or_default();
        let gone: Vec<_> =
            votes.0.extract_if(.., |vote| which(vote)).map(|vote| (*key, vote.voter)).collect();
        for (key, voter) in &gone {
            self.forget_key(voter, key);
        }
        let Some(unix) = votes.0.iter().map(|vote| vote.unix).max() else {
            self.published.remove(key);
            return (gone, false);
        };
        let verdict = votes.verdict(policy.agreement);
        self.votes.put(*key, votes);
        (gone, self.publish(*key, verdict, unix, None, policy))
    }

    fn forget_key(&mut self, voter: &Voter, key: &ResultKey) {
        if let Some(keys) = self.voters.get_mut(voter) {
            if let Some(at) = keys.iter().position(|known| known == key) {
                keys.remove(at);
            }
            if keys.is_empty() {
                self.voters.remove(voter);
            }
        }
    }
}
