//! What waits for the disk, and what follows once it is there.

use std::collections::hash_map::Entry;

use super::*;

impl Backend {
    pub(super) fn stored(&mut self, now: Time, through: u64) {
        while let Some((ticket, _)) = self.effects.front()
            && *ticket <= through
        {
            let Some((ticket, effect)) = self.effects.pop_front() else { break };
            match effect {
                Effect::Vote { peer, group, key, vote, record, tag, report } => {
                    self.waited(peer, report);
                    if let Entry::Occupied(mut waiting) = self.waiting_words.entry((group, key, vote.voter)) {
                        *waiting.get_mut() -= 1;
                        if *waiting.get() == 0 {
                            waiting.remove();
                        }
                    }
                    let reporter = self.by_id.contains_key(&peer).then_some(peer);
                    self.apply_vote(now, group, key, vote, reporter);
                    self.acknowledge(peer, Kind::Result, tag);
                    if let Some(info) = self.info_of(peer) {
                        self.outputs.push_back(Output::Event(BackendEvent::Identified(info, record)));
                    }
                }
                Effect::Features { peer, app, words, tag, report, gone: (group, gone) } => {
                    for (app, reporter) in gone {
                        let group = self.groups[group].name.clone();
                        let event = BackendEvent::FeaturesGone { group, app, reporter };
                        self.outputs.push_back(Output::Event(event));
                    }
                    self.waited(peer, report);
                    self.acknowledge(peer, Kind::Features, tag);
                    if let Some(gateway) = self.info_of(peer) {
                        self.outputs.push_back(Output::Event(BackendEvent::Features { gateway, app, words }));
                    }
                }
                Effect::Rules(edit) => {
                    self.rules_stored(&edit);
                    self.outputs.push_back(Output::Event(BackendEvent::Durable(ticket)));
                }
                Effect::Model(group, app, words) => {
                    self.groups[group].models.put(app, words);
                    self.wake_group(group);
                    self.outputs.push_back(Output::Event(BackendEvent::Durable(ticket)));
                }
                Effect::Token => self.outputs.push_back(Output::Event(BackendEvent::Durable(ticket))),
                Effect::Redeemed(redeemed) => self.redeemed(now, *redeemed),
                Effect::Enrolment(key, enrolment) => {
                    self.outputs.push_back(Output::Event(BackendEvent::Durable(ticket)));
                    self.enrolment_stored(now, key, enrolment);
                }
            }
        }
    }

    fn apply_vote(&mut self, _now: Time, group: usize, key: ResultKey, vote: Vote, reporter: Option<u64>) {
        let (gone, news) = self.groups[group].vote(key, vote, reporter, &self.policy);
        self.counters.results_evicted += gone.len() as u64;
        self.forget(group, gone);
        if news {
            self.wake_group(group);
        }
    }

    pub(super) fn forget(&mut self, group: usize, gone: Vec<(ResultKey, Voter)>) {
        let name = self.groups[group].name.clone();
        let ops: Vec<Op> = gone.iter().map(|(key, voter)| rows::delete_vote(&name, key, voter)).collect();
        if !ops.is_empty() {
            self.submit(ops);
        }
    }

    pub(super) fn persist(&mut self, ops: Vec<Op>, effect: Effect) -> u64 {
        let ticket = self.submit(ops);
        self.effects.push_back((ticket, effect));
        ticket
    }

    pub(crate) fn submit(&mut self, ops: Vec<Op>) -> u64 {
        self.ticket += 1;
        self.outputs.push_back(Output::Store(Batch { ticket: self.ticket, ops }));
        self.ticket
    }
}
