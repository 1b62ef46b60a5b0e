//! What one group of gateways knows. Nothing here is visible to another group (DECISIONS 6, Isolation).

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::Voter;
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
    /// of two with as many, the later.
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
        agreed.max_by_key(|(_, count)| *count).map(|(app, _)| app)
    }
}

/// A result that the group's gateways are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Published {
    pub app: AppId,
    /// The registration whose report made this known: it need not be told (SPEC R-21). Only for what is new: who
    /// reported a change may have been told the older value meanwhile.
    pub reporter: Option<u64>,
    /// Unix time, seconds.
    pub unix: u64,
}

/// A rule that the group's gateways are told. No pattern: what the application had is withdrawn.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum RuleChange {
    Add { app: AppId, pattern: Box<[u8]> },
    Withdraw { app: AppId },
}

/// Rules in the order in which gateways are told of them.
#[derive(Default)]
pub(super) struct RuleBook {
    /// By a number that rises with each change; a rule keeps its own for ever.
    log: BTreeMap<u64, RuleChange>,
    head: u64,
}

impl RuleBook {
    /// The number of the newest change.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// What the next rule's number will be.
    pub fn next(&self) -> u64 {
        self.head + 1
    }

    pub fn after(&self, number: u64) -> impl Iterator<Item = (u64, &RuleChange)> {
        self.log.range(number + 1..).map(|(number, change)| (*number, change))
    }

    /// Rules that hold, in order.
    pub fn rules(&self) -> impl Iterator<Item = (AppId, &[u8])> {
        self.log.values().filter_map(|change| match change {
            RuleChange::Add { app, pattern } => Some((*app, &**pattern)),
            RuleChange::Withdraw { .. } => None,
        })
    }

    pub fn contains(&self, app: AppId, pattern: &[u8]) -> bool {
        self.rules().any(|(known, text)| known == app && text == pattern)
    }

    pub fn add(&mut self, number: u64, app: AppId, pattern: &[u8]) {
        self.head = self.head.max(number);
        self.log.insert(number, RuleChange::Add { app, pattern: pattern.into() });
    }

    /// Withdraws one pattern: the wire can only withdraw all of an application, so the others are told again.
    /// Returns what holds on, under its new numbers.
    pub fn remove(&mut self, app: AppId, pattern: Option<&[u8]>) -> Vec<(u64, Box<[u8]>)> {
        let mut kept = Vec::new();
        self.log.retain(|_, change| match change {
            RuleChange::Add { app: known, pattern: text } if *known == app => {
                if pattern.is_some_and(|gone| *gone != **text) {
                    kept.push(text.clone());
                }
                false
            }
            RuleChange::Withdraw { app: known } => *known != app,
            RuleChange::Add { .. } => true,
        });
        self.head += 1;
        self.log.insert(self.head, RuleChange::Withdraw { app });
        kept.into_iter()
            .map(|pattern| {
                self.head += 1;
                self.log.insert(self.head, RuleChange::Add { app, pattern: pattern.clone() });
                (self.head, pattern)
            })
            .collect()
    }
}

/// The parameters that an application is recognised by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Model {
    pub version: u32,
    pub words: Vec<u32>,
}

/// Bounds and rules of a group's results.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResultPolicy {
    /// Gateways that must agree before a result is told to others.
    pub agreement: usize,
    /// Seconds within which an identical report is not told again.
    pub renew: u64,
    /// Remote ends that a group knows at the most.
    pub max_results: usize,
    /// Remote ends that one gateway has a word on.
    pub max_per_gateway: usize,
}

/// A group's whole knowledge.
#[derive(Default)]
pub(super) struct Group {
    pub name: String,
    votes: Replica<ResultKey, Votes>,
    /// What each voter has a word on, in the order of its first word.
    voters: HashMap<Voter, VecDeque<ResultKey>>,
    pub published: Replica<ResultKey, Published>,
    pub rules: RuleBook,
    pub models: Replica<AppId, Model>,
    /// Peers of the group that are registered now.
    pub members: Vec<usize>,
}

impl Group {
    pub fn new(name: &str) -> Group {
        Group { name: name.to_owned(), ..Group::default() }
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
        if votes.0.len() >= MAX_VOTES {
            let voter = votes.0.remove(0).voter;
            self.forget_key(&voter, &key);
            gone.push((key, voter));
        }
        votes.0.push(vote);
        let verdict = votes.verdict(policy.agreement);
        self.votes.put(key, votes);
        if is_first {
            let keys = self.voters.entry(vote.voter).or_default();
            keys.push_back(key);
            if keys.len() > policy.max_per_gateway
                && let Some(oldest) = keys.pop_front()
            {
                self.drop_word(&oldest, &vote.voter, policy.agreement);
                gone.push((oldest, vote.voter));
            }
        }
        if self.votes.len() > policy.max_results
            && let Some((_, oldest, _)) = self.votes.oldest()
        {
            gone.extend(self.drop_words(&oldest, |_| true, policy.agreement).map(|voter| (oldest, voter)));
        }
        (gone, self.publish(key, verdict, vote.unix, reporter, policy))
    }

    /// Forgets words given before `unix`, at most `limit` remote ends a call. Returns them.
    pub fn expire(&mut self, unix: u64, limit: usize, agreement: usize) -> Vec<(ResultKey, Voter)> {
        let mut gone = Vec::new();
        for _ in 0..limit {
            let Some((_, key, votes)) = self.votes.oldest() else { break };
            if votes.0.iter().all(|vote| vote.unix >= unix) {
                break;
            }
            gone.extend(self.drop_words(&key, |vote| vote.unix < unix, agreement).map(|voter| (key, voter)));
        }
        gone
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
        let Some(app) = verdict else {
            self.published.remove(&key);
            return false;
        };
        let told = self.published.get(&key);
        if told.is_some_and(|told| told.app == app && unix < told.unix.saturating_add(policy.renew)) {
            return false;
        }
        let reporter = reporter.filter(|_| told.is_none());
        self.published.put(key, Published { app, reporter, unix });
        true
    }

    fn drop_word(&mut self, key: &ResultKey, voter: &Voter, agreement: usize) {
        self.drop_words(key, |vote| vote.voter == *voter, agreement).for_each(drop);
    }

    fn drop_words(
        &mut self,
        key: &ResultKey,
        which: impl Fn(&Vote) -> bool,
        agreement: usize,
    ) -> std::vec::IntoIter<Voter> {
        let mut votes = self.votes.remove(key).unwrap_or_default();
        let gone: Vec<Voter> = votes.0.extract_if(.., |vote| which(vote)).map(|vote| vote.voter).collect();
        for voter in &gone {
            self.forget_key(voter, key);
        }
        if votes.verdict(agreement).is_none() {
            self.published.remove(key);
        }
        if !votes.0.is_empty() {
            self.votes.put(*key, votes);
        }
        gone.into_iter()
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
