//! A gateway's eyes: flows from packets, judged by rules of its own and of the back end, by what other gateways saw,
//! and by trained models; and what of that is worth telling.

use std::{net::IpAddr, sync::Arc, time::Duration};

use super::feature_set;
use crate::{
    config::Network,
    gateway::ResultKey,
    recognize::{
        Config, FlowFeatures, FlowModel, How, Limits, Recognizer, Rule, RuleSet, RulesFile, Stage, Transport,
        Verdict,
        model::{History, HistoryConfig, Model, ModelSet, ModelSetConfig, report_to_words},
    },
    replica::Replica,
    status::{Fault, Status},
    time::Time,
    wire::{AppId, gateway::Record, packet::LinkType},
};

/// A result is told again after so long, so that the back end does not forget it.
const TELL_AGAIN: Duration = Duration::from_secs(6 * 3600);
/// Results told lately that are remembered.
const MAX_TOLD: usize = 16_384;

/// What recognition has to say.
pub(super) enum Finding {
    /// A flow that goes on is known for the first time, or is another application than was told.
    Recognised(Verdict),
    /// A flow ended.
    Flow(Verdict),
    /// A remote end was recognised that the back end should know of.
    Result(Record),
    /// A flow differs much from the history of its application.
    Features(AppId, Vec<u32>),
}

/// Recognition on one gateway.
pub struct Recognition {
    recognizer: Recognizer,
    limits: Limits,
    /// Our own rules; those of the back end come after them.
    own: Vec<Rule>,
    names: Vec<(AppId, String)>,
    models: ModelSet,
    history: History,
    inside: Vec<Network>,
    told: Replica<ResultKey, (AppId, Time)>,
    findings: std::collections::VecDeque<Finding>,
}

#[derive(Clone, Debug)]
struct Models(ModelSet);

impl FlowModel for Models {
    fn judge(&self, features: &FlowFeatures) -> Option<AppId> {
        self.0.classify(&features.vector()).map(|(app, _)| app)
    }
}

impl Recognition {
    /// Recognition by a rules file's text, if there is one. `limits` hold for its rules and for those that are received;
    /// `inside` are the networks on the gateway's own side.
    pub fn new(
        rules: Option<&str>,
        limits: Limits,
        config: Config,
        inside: Vec<Network>,
    ) -> Result<Recognition, Fault> {
        let config = Config { profile: true, ..config };
        let (own, names, set) = match rules {
            Some(text) => {
                let file = RulesFile::parse(text, limits)
                    .map_err(|error| Fault::new(Status::Pattern, format!("rules file: {error}")))?;
                let names = file.names().map(|(app, name)| (app, name.to_owned())).collect();
                (file.rules.into_iter().map(|named| named.rule).collect(), names, file.set)
            }
            None => (Vec::new(), Vec::new(), RuleSet::compile_valid(&[], limits).0),
        };
        Ok(Recognition {
            recognizer: Recognizer::new(Arc::new(set), config),
            limits,
            own,
            names,
            models: ModelSet::new(feature_set(), ModelSetConfig::default()),
            history: History::new(feature_set(), HistoryConfig::default()),
            inside,
            told: Replica::default(),
            findings: std::collections::VecDeque::new(),
        })
    }

    /// What people call an application, by our own rules.
    pub fn name(&self, app: AppId) -> Option<&str> {
        let at = self.names.binary_search_by_key(&app, |(known, _)| *known).ok()?;
        Some(&self.names[at].1)
    }

    /// The flows under way, and what was counted.
    pub fn recognizer(&self) -> &Recognizer {
        &self.recognizer
    }

    /// Takes in a captured frame.
    ///
    /// Fails with [`Status::Malformed`] when it is no IP packet; it is counted and otherwise ignored.
    pub fn feed(&mut self, now: Time, link: LinkType, frame: &[u8]) -> Result<(), Fault> {
        let result = self.recognizer.feed(now, link, frame);
        self.take_verdicts(now);
        result.map_err(|error| Fault::new(Status::Malformed, error.to_string()))
    }

    /// Ends every flow, for a capture that is over.
    pub fn finish(&mut self, now: Time) {
        self.recognizer.finish();
        self.take_verdicts(now);
    }

    /// Ends flows that were silent too long.
    pub fn expire(&mut self, now: Time) {
        self.recognizer.expire(now);
        self.take_verdicts(now);
    }

    /// Takes in what another gateway recognised.
    pub(super) fn hint(&mut self, record: &Record, expires: Time) {
        let transport = match record.protocol {
            1 => Transport::Tcp,
            2 => Transport::Udp,
            _ => return,
        };
        let remote = record.remote.ip().to_canonical();
        let port = record.remote.port();
        match record.app {
            AppId::NONE => drop(self.recognizer.remove_hint(remote, port, transport)),
            app => self.recognizer.set_hint(remote, port, transport, app, expires),
        }
    }

    /// Puts the back end's rules in force behind our own. Answers with those that cannot be used, and why.
    pub(super) fn set_rules<'r>(
        &mut self,
        received: impl Iterator<Item = (AppId, &'r [u8])>,
    ) -> Vec<(AppId, String)> {
        let mut rejected = Vec::new();
        let mut rules = self.own.clone();
        for (app, pattern) in received {
            match std::str::from_utf8(pattern) {
                Ok(text) => rules.push(Rule { app, text: text.to_owned() }),
                Err(_) => {
                    let shown = pattern.escape_ascii();
                    rejected.push((app, format!("\"{shown}\" is left out: the pattern is not UTF-8")));
                }
            }
        }
        // Our own compiled alone when they were read, and come first, so what is left out is the back end's.
        let (set, errors) = RuleSet::compile_valid(&rules, self.limits);
        self.recognizer.set_rules(Arc::new(set));
        rejected.extend(errors.into_iter().map(|error| {
            let text = &rules[error.index].text;
            (error.app, format!("{text:?} is left out: {}", error.fault))
        }));
        rejected
    }

    /// Puts a trained rule in force.
    pub(super) fn set_parameters(&mut self, app: AppId, words: &[u32]) -> Result<(), Fault> {
        let model = Model::from_words(words, feature_set()).map_err(|error| {
            Fault::new(Status::Words, format!("parameters for application {app}: {error}"))
        })?;
        self.models.install(app, model);
        self.recognizer.set_model(Some(Box::new(Models(self.models.clone()))));
        Ok(())
    }

    /// Forgets that a result was told, since it could not be: the remote end's next flow tells of it.
    pub(super) fn forget_told(&mut self, record: &Record) {
        self.told.remove(&ResultKey { remote: record.remote, protocol: record.protocol });
    }

    pub(super) fn poll(&mut self) -> Option<Finding> {
        self.findings.pop_front()
    }

    /// When the next flow will have been silent too long, or a fragment waited too long for the others: then
    /// [`Recognition::expire`] is wanted, though no frame comes. It may be that the flow has spoken since.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.recognizer.deadline()
    }

    fn take_verdicts(&mut self, now: Time) {
        while let Some(verdict) = self.recognizer.poll_verdict() {
            if verdict.is_news && verdict.stage != Stage::Ended {
                self.findings.push_back(Finding::Recognised(verdict.clone()));
            }
            match verdict.stage {
                Stage::Early => {}
                Stage::Settled => {
                    self.consider(now, &verdict);
                }
                Stage::Profiled => self.measure(now, &verdict),
                Stage::Ended => {
                    self.consider(now, &verdict);
                    self.findings.push_back(Finding::Flow(verdict));
                }
            }
        }
    }

    /// Tells of a remote end that is new to the back end.
    fn consider(&mut self, now: Time, verdict: &Verdict) {
        let (Some(app), How::Rule | How::Model) = (verdict.app, verdict.how) else { return };
        let is_inside = |address: IpAddr| self.inside.iter().any(|network| network.contains(address));
        let (initiator, responder) = (verdict.flow.initiator, verdict.flow.responder);
        let (local, remote) = match (is_inside(initiator.ip()), is_inside(responder.ip())) {
            (false, true) => (responder, initiator),
            // A flow between two of our own says nothing to other gateways.
            (true, true) => return,
            _ => (initiator, responder),
        };
        if remote.ip().is_multicast() || remote.ip().is_unspecified() || remote.ip().is_loopback() {
            return;
        }
        let protocol = if verdict.flow.protocol == 6 { 1 } else { 2 };
        let key = ResultKey { remote, protocol };
        if self.told.get(&key).is_some_and(|(told, when)| *told == app && now < *when + TELL_AGAIN) {
            return;
        }
        self.told.put(key, (app, now));
        if self.told.len() > MAX_TOLD
            && let Some((_, oldest, _)) = self.told.oldest()
        {
            self.told.remove(&oldest);
        }
        self.findings.push_back(Finding::Result(Record {
            app,
            local,
            remote,
            protocol,
            reserved1: 0,
            reserved2: 0,
            reserved3: 0,
        }));
    }

    /// Holds a flow that a rule recognised against the history of its application.
    fn measure(&mut self, now: Time, verdict: &Verdict) {
        let (Some(app), How::Rule) = (verdict.app, verdict.how) else { return };
        let vector = verdict.features.vector();
        let is_reportable = self.history.observe(now, app, &vector).is_ok_and(|seen| seen.report.is_some());
        if is_reportable {
            let revision = self.models.get(app).map_or(0, Model::revision);
            if let Ok(words) = report_to_words(feature_set(), revision, &vector) {
                self.findings.push_back(Finding::Features(app, words));
            }
        }
    }
}
