//! Opening on what the store holds.

use std::collections::BTreeMap;

use super::*;
use crate::store::Store;

/// When a back end opens, and its randomness.
#[derive(Clone, Debug)]
pub struct Open {
    /// The driver's time.
    pub now: Time,
    /// The wall clock's, in seconds since 1970: ages are kept over restarts by it.
    pub unix: u64,
    /// Jitter, epochs and cookies.
    pub rng: Seeded,
}

impl Backend {
    /// A back end on what the store holds. Gateways come back by themselves.
    pub fn open(config: BackendConfig, open: Open, store: &dyn Store) -> Result<Backend, Fault> {
        let Open { now, unix, mut rng } = open;
        let mut backend = Backend {
            policy: ResultPolicy::of(&config),
            feature_bounds: FeatureBounds {
                slots: config.max_features_per_gateway.max(1),
                apps: config.max_feature_apps_per_gateway.max(1),
                in_all: config.max_features.max(1),
            },
            cookie_key: rng.next_u64(),
            rng,
            unix_at_zero: unix.saturating_sub(now.as_micros() / 1_000_000),
            counters: BackendCounters::default(),
            outputs: VecDeque::new(),
            enrolments: HashMap::new(),
            admitted: HashMap::new(),
            early: HashMap::new(),
            tokens: HashMap::new(),
            guessers: Replica::default(),
            groups: Vec::new(),
            rules_asked: Rules::default(),
            rules: Rules::default(),
            peers: Vec::new(),
            free: Vec::new(),
            by_path: HashMap::new(),
            by_id: HashMap::new(),
            by_key: HashMap::new(),
            listeners: HashMap::new(),
            validated: Replica::default(),
            next_id: 0,
            timers: BTreeSet::new(),
            ready: VecDeque::new(),
            is_ready: Vec::new(),
            ticket: 0,
            effects: VecDeque::new(),
            waiting_words: HashMap::new(),
            next_sweep: now,
            config,
        };
        backend.load(store, unix)?;
        Ok(backend)
    }

    /// The features kept of all gateways: group, application, which gateway (a number that means only "the same one"),
    /// unix time, words. For a trainer that starts.
    pub fn load_features(
        store: &dyn Store,
        mut each: impl FnMut(&str, AppId, u64, u64, Vec<u32>),
    ) -> Result<(), Fault> {
        store.load(rows::FEATURE, &mut |key, value| {
            if let Some((group, app, voter, _, unix, words)) = rows::read_feature(key, value) {
                each(&group, app, voter_number(&voter), unix, words);
            }
        })
    }

    /// The parameters kept: group, application, words, and what their trainer had kept with them
    /// ([`Backend::set_model`]). For a trainer that starts.
    pub fn load_models(
        store: &dyn Store,
        mut each: impl FnMut(&str, AppId, &[u32], &[u8]),
    ) -> Result<(), Fault> {
        store.load(rows::MODEL, &mut |key, value| {
            if let Some((group, app, words, lineage)) = rows::read_model(key, value) {
                each(&group, app, &words, lineage);
            }
        })
    }

    /// What was kept under a name by [`Backend::keep_setting`].
    pub fn load_setting(store: &dyn Store, name: &str) -> Result<Option<Vec<u8>>, Fault> {
        let mut found = None;
        store.load(rows::SETTING, &mut |key, value| {
            if key == name.as_bytes() {
                found = Some(value.to_vec());
            }
        })?;
        Ok(found)
    }

    /// Keeps something of a node's own in the store.
    pub fn keep_setting(&mut self, name: &str, value: &[u8]) {
        let (table, key) = (rows::SETTING, name.as_bytes().to_vec());
        self.submit(vec![Op::Put { table, key, value: value.to_vec() }]);
    }

    /// A number that tells a registered gateway's feature reports from another's, the same over restarts.
    pub fn reporter_number(&self, gateway: &GatewayInfo) -> u64 {
        let at = self.by_id.get(&gateway.id);
        let session = at.and_then(|&at| self.peers[at].as_ref()).and_then(|peer| peer.session.as_ref());
        session.map_or(gateway.id, |session| voter_number(&session.voter))
    }

    fn load(&mut self, store: &dyn Store, unix: u64) -> Result<(), Fault> {
        let mut unread = 0u64;
        store.load(rows::GATEWAY, &mut |key, value| match rows::read_gateway(key, value) {
            Some((key, enrolment)) => {
                self.enrolments.insert(key, enrolment);
            }
            None => unread += 1,
        })?;
        self.admitted = self.enrolments.clone();
        store.load(rows::TOKEN, &mut |key, value| match rows::read_token(key, value) {
            Some((digest, grant)) => drop(self.tokens.insert(digest, grant)),
            None => unread += 1,
        })?;
        let mut votes = Vec::new();
        store.load(rows::VOTE, &mut |key, value| match rows::read_vote(key, value) {
            Some(vote) => votes.push(vote),
            None => unread += 1,
        })?;
        // As they were given: the verdict and the order of ageing depend on it.
        votes.sort_by_key(|(.., unix)| *unix);
        for (group, key, voter, app, given) in votes {
            let trusted = match voter {
                Voter::Key(key) => self.admitted.get(&key).is_some_and(|enrolment| enrolment.trusted),
                Voter::Address(_) => false,
            };
            let group = self.group(&group);
            // A clock that went back must not make a word live for ever.
            let vote = Vote { voter, app, unix: given.min(unix), trusted };
            let (gone, _) = self.groups[group].vote(key, vote, None, &self.policy);
            self.forget(group, gone);
        }
        let mut rules = Vec::new();
        store.load(rows::RULE, &mut |key, value| match rows::read_rule(key, value) {
            Some(rule) => rules.push(rule),
            None => unread += 1,
        })?;
        for (group, app, pattern, order) in rules {
            let group = (!group.is_empty()).then(|| self.group(&group));
            self.rules.restore(group, app, pattern.into(), order);
        }
        self.rules_asked = self.rules.clone();
        store.load(rows::MODEL, &mut |key, value| match rows::read_model(key, value) {
            Some((group, app, words, _)) => {
                let at = self.group(&group);
                self.groups[at].models.put(app, words);
            }
            None => unread += 1,
        })?;
        unread += self.load_rings(store)?;
        match unread {
            0 => Ok(()),
            _ => Err(Fault::new(
                Status::StoreCorrupt,
                format!("{unread} rows of the store cannot be read: restore a backup"),
            )),
        }
    }

    /// Finds the rings of features again; answers how many rows cannot be read.
    fn load_rings(&mut self, store: &dyn Store) -> Result<u64, Fault> {
        struct Found {
            newest: (u64, u16),
            filled: u16,
        }
        let (mut unread, slots) = (0, self.feature_bounds.slots);
        let mut rings: BTreeMap<(String, AppId, Voter), Found> = BTreeMap::new();
        let mut beyond = Vec::new();
        store.load(rows::FEATURE, &mut |key, value| match rows::read_feature(key, value) {
            // There were more slots when it was written.
            Some((group, app, voter, slot, ..)) if slot >= slots => {
                beyond.push((group, Slot { app, voter, slot }))
            }
            Some((group, app, voter, slot, unix, _)) => {
                let ring = rings.entry((group, app, voter)).or_insert(Found { newest: (0, 0), filled: 0 });
                ring.newest = ring.newest.max((unix, slot));
                ring.filled = ring.filled.max(slot + 1);
            }
            None => unread += 1,
        })?;
        let ops: Vec<Op> = beyond.iter().map(|(group, slot)| rows::delete_feature(group, slot)).collect();
        if !ops.is_empty() {
            self.submit(ops);
        }
        let mut rings: Vec<_> = rings.into_iter().collect();
        rings.sort_by_key(|(_, ring)| ring.newest);
        for ((group, app, voter), ring) in rings {
            let at = self.group(&group);
            self.groups[at].features.restore(app, voter, (ring.newest.1 + 1) % slots, ring.filled);
        }
        Ok(unread)
    }
}

pub(super) fn voter_number(voter: &Voter) -> u64 {
    let mut hasher = DefaultHasher::new();
    voter.hash(&mut hasher);
    hasher.finish()
}
