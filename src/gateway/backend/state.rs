//! Opening on what the store holds, and what the operator may change.

use super::*;
use crate::store::Store;

/// Longest name of a group.
const MAX_GROUP: usize = 64;
/// Longest name of a gateway.
const MAX_NAME: usize = 255;
/// Versions of one model that are kept to roll back to.
const MODEL_VERSIONS: u32 = 4;

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
        let policy = ResultPolicy {
            agreement: config.agreement.max(1),
            renew: config.result_renew.as_secs(),
            ttl: config.result_ttl.as_secs(),
            max_results: config.max_results,
            max_per_gateway: config.max_results_per_gateway,
        };
        let mut backend = Backend {
            policy,
            cookie_key: rng.next_u64(),
            rng,
            unix_at_zero: unix.saturating_sub(now.as_micros() / 1_000_000),
            counters: BackendCounters::default(),
            outputs: VecDeque::new(),
            registry: HashMap::new(),
            groups: Vec::new(),
            common: RuleBook::default(),
            no_rules: RuleBook::default(),
            rules_head: 0,
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
            ticket: 0,
            effects: VecDeque::new(),
            waiting_words: HashMap::new(),
            feature_slots: HashMap::new(),
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

    /// A number that tells a registered gateway's feature reports from another's, the same over restarts.
    pub fn reporter_number(&self, gateway: &GatewayInfo) -> u64 {
        let at = self.by_id.get(&gateway.id);
        let session = at.and_then(|&at| self.peers[at].as_ref()).and_then(|peer| peer.session.as_ref());
        session.map_or(gateway.id, |session| voter_number(&session.voter))
    }

    /// Enrols a gateway, or changes its enrolment. Answers with the ticket of the event that says it is durable.
    pub fn enrol(&mut self, key: KeyId, enrolment: Enrolment) -> Result<u64, Fault> {
        check_group(&enrolment.group)?;
        if enrolment.name.len() > MAX_NAME || enrolment.name.is_empty() {
            return Err(Fault::new(Status::Invalid, format!("a gateway's name has 1 to {MAX_NAME} octets")));
        }
        let op = rows::put_gateway(key, &enrolment);
        let moved = self.registry.get(&key).is_some_and(|old| {
            (&old.group, old.trusted, old.barred) != (&enrolment.group, enrolment.trusted, enrolment.barred)
        });
        self.registry.insert(key, enrolment);
        // What it was told as a member of another group, or may say as a trusted one, no longer holds.
        if moved && let Some(&at) = self.by_key.get(&key) {
            self.left(at, true);
        }
        Ok(self.persist(vec![op], Effect::Asked))
    }

    /// Revokes a gateway's key: its registration ends at once.
    pub fn revoke(&mut self, key: KeyId) -> Result<u64, Fault> {
        self.registry.remove(&key).ok_or_else(not_enrolled)?;
        if let Some(&at) = self.by_key.get(&key) {
            self.left(at, true);
        }
        Ok(self.persist(vec![rows::delete_gateway(key)], Effect::Asked))
    }

    /// Takes a gateway off and bars it until [`Backend::allow`] (S319-S320).
    pub fn deregister(&mut self, now: Time, key: KeyId) -> Result<u64, Fault> {
        let enrolment = self.registry.get_mut(&key).ok_or_else(not_enrolled)?;
        enrolment.barred = true;
        let op = rows::put_gateway(key, enrolment);
        if let Some(&at) = self.by_key.get(&key) {
            self.send_deregister(now, at);
        }
        Ok(self.persist(vec![op], Effect::Asked))
    }

    /// Takes off a gateway that proved no key; it may register again.
    pub fn disconnect(&mut self, now: Time, id: u64) -> Result<(), Fault> {
        let at = *self
            .by_id
            .get(&id)
            .ok_or_else(|| Fault::new(Status::NotFound, "that gateway is not registered now"))?;
        self.send_deregister(now, at);
        Ok(())
    }

    /// Lets a gateway that was taken off register again.
    pub fn allow(&mut self, key: KeyId) -> Result<u64, Fault> {
        let enrolment = self.registry.get_mut(&key).ok_or_else(not_enrolled)?;
        enrolment.barred = false;
        let op = rows::put_gateway(key, enrolment);
        Ok(self.persist(vec![op], Effect::Asked))
    }

    /// Adds a rule for one group, or for all. Whether the pattern can be matched is the caller's to check; that it
    /// can travel is checked here (SPEC R-09).
    pub fn set_rule(&mut self, group: Option<&str>, app: AppId, pattern: &[u8]) -> Result<u64, Fault> {
        use crate::wire::gateway::MAX_PATTERN;
        if pattern.is_empty() || pattern.len() > MAX_PATTERN || pattern.contains(&0) {
            let detail = format!(
                "a pattern of {} octets: it must have 1 to {MAX_PATTERN}, none of them NUL (write \\x00)",
                pattern.len()
            );
            return Err(Fault::new(Status::Pattern, detail));
        }
        let name = group.unwrap_or_default();
        let at = self.book(group)?;
        if self.book_mut(at).contains(app, pattern) {
            return Ok(self.persist(Vec::new(), Effect::Asked));
        }
        let order = self.next_rule();
        self.book_mut(at).add(order, app, pattern);
        self.wake_book(at);
        Ok(self.persist(vec![rows::put_rule(name, app, pattern, order)], Effect::Asked))
    }

    /// Removes one pattern of an application, or all of them.
    pub fn remove_rule(
        &mut self,
        group: Option<&str>,
        app: AppId,
        pattern: Option<&[u8]>,
    ) -> Result<u64, Fault> {
        let at = self.book(group)?;
        let is_gone = |text: &[u8]| pattern.is_none_or(|pattern| pattern == text);
        if !self.book_mut(at).rules().any(|(known, text)| known == app && is_gone(text)) {
            return Err(Fault::new(Status::NotFound, format!("application {app} has no such rule here")));
        }
        let mut ops = Vec::new();
        let (gone, kept): (Vec<_>, Vec<_>) =
            self.book_mut(at).take(app).into_iter().partition(|text| is_gone(text));
        let name = group.unwrap_or_default();
        ops.extend(gone.iter().map(|text| rows::delete_rule(name, app, text)));
        let number = self.next_rule();
        self.book_mut(at).withdraw(number, app);
        self.tell_again(at, app, &kept, &mut ops);
        match at {
            // Gateways of this group lose the common rules too.
            Some(at) => {
                let common = self.common.rules().filter(|(known, _)| *known == app);
                for text in common.map(|(_, text)| text.to_vec()).collect::<Vec<_>>() {
                    let number = self.next_rule();
                    self.groups[at].rules.tell_again(number, app, &text);
                }
            }
            // Gateways of all groups lose their own.
            None => {
                for at in 0..self.groups.len() {
                    if self.groups[at].rules.mentions(app) {
                        let kept = self.groups[at].rules.take(app);
                        self.tell_again(Some(at), app, &kept, &mut ops);
                    }
                }
            }
        }
        self.wake_book(at);
        Ok(self.persist(ops, Effect::Asked))
    }

    /// Sets the parameters that a group's gateways recognise an application by (S315-S316).
    pub fn set_parameters(&mut self, group: &str, app: AppId, words: Vec<u32>) -> Result<u64, Fault> {
        use crate::wire::gateway::MAX_WORDS;
        check_group(group)?;
        if words.is_empty() || words.len() > MAX_WORDS {
            let detail = format!("{} parameters: 1 to {MAX_WORDS} can travel", words.len());
            return Err(Fault::new(Status::Words, detail));
        }
        let at = self.group(group);
        let version = self.groups[at].models.get(&app).map_or(1, |model| model.version.wrapping_add(1));
        let mut ops = vec![rows::put_model(group, app, version, &words)];
        if let Some(old) = version.checked_sub(MODEL_VERSIONS) {
            ops.push(rows::delete_model(group, app, old));
        }
        self.groups[at].models.put(app, group::Model { version, words });
        self.wake_group(at);
        Ok(self.persist(ops, Effect::Asked))
    }

    /// The parameters that hold for an application in a group.
    pub fn parameters(&self, group: &str, app: AppId) -> Option<&[u32]> {
        let group = self.groups.iter().find(|known| known.name == group)?;
        group.models.get(&app).map(|model| &model.words[..])
    }

    /// The parameters of every group.
    pub fn all_parameters(&self) -> impl Iterator<Item = (&str, AppId, &[u32])> {
        self.groups.iter().flat_map(|group| {
            group.models.after(0).map(|(_, app, model)| (&group.name[..], app, &model.words[..]))
        })
    }

    fn load(&mut self, store: &dyn Store, unix: u64) -> Result<(), Fault> {
        let mut unread = 0u64;
        store.load(rows::GATEWAY, &mut |key, value| match rows::read_gateway(key, value) {
            Some((key, enrolment)) => {
                self.registry.insert(key, enrolment);
            }
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
                Voter::Key(key) => self.registry.get(&key).is_some_and(|enrolment| enrolment.trusted),
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
            self.rules_head = self.rules_head.max(order);
            match group.as_str() {
                "" => self.common.add(order, app, &pattern),
                group => {
                    let at = self.group(group);
                    self.groups[at].rules.add(order, app, &pattern);
                }
            }
        }
        store.load(rows::MODEL, &mut |key, value| match rows::read_model(key, value) {
            // In order of versions, so the newest is put last.
            Some((group, app, version, words)) => {
                let at = self.group(&group);
                self.groups[at].models.put(app, group::Model { version, words });
            }
            None => unread += 1,
        })?;
        store.load(rows::FEATURE, &mut |key, value| {
            if let Some((group, app, voter, slot, ..)) = rows::read_feature(key, value) {
                let at = self.group(&group);
                let next = (slot + 1) % self.config.max_features_per_gateway.max(1);
                self.feature_slots.insert((at, app, voter), next);
            }
        })?;
        match unread {
            0 => Ok(()),
            _ => Err(Fault::new(
                Status::StoreCorrupt,
                format!("{unread} rows of the store cannot be read: restore a backup"),
            )),
        }
    }

    fn send_deregister(&mut self, now: Time, at: usize) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        let (conn, to) = peer.path;
        let Some(session) = &mut peer.session else { return };
        let octets = session.deregister(now);
        self.outputs.push_back(Output::Send { conn, to, octets });
        self.rearm(now, at);
    }

    /// Which book: `None` is that of all groups.
    fn book(&mut self, group: Option<&str>) -> Result<Option<usize>, Fault> {
        group.map(|name| check_group(name).map(|()| self.group(name))).transpose()
    }

    fn book_mut(&mut self, at: Option<usize>) -> &mut RuleBook {
        match at {
            Some(at) => &mut self.groups[at].rules,
            None => &mut self.common,
        }
    }

    fn next_rule(&mut self) -> u64 {
        self.rules_head += 1;
        self.rules_head
    }

    /// Puts rules back into their book, at its end.
    fn tell_again(&mut self, at: Option<usize>, app: AppId, kept: &[Box<[u8]>], ops: &mut Vec<Op>) {
        for text in kept {
            let number = self.next_rule();
            self.book_mut(at).add(number, app, text);
            let name = at.map_or("", |at| &self.groups[at].name);
            ops.push(rows::put_rule(name, app, text, number));
        }
    }

    fn wake_book(&mut self, at: Option<usize>) {
        match at {
            Some(at) => self.wake_group(at),
            None => (0..self.groups.len()).for_each(|at| self.wake_group(at)),
        }
    }
}

fn check_group(name: &str) -> Result<(), Fault> {
    if name.is_empty() || name.len() > MAX_GROUP {
        return Err(Fault::new(Status::Invalid, format!("a group's name has 1 to {MAX_GROUP} octets")));
    }
    Ok(())
}

fn not_enrolled() -> Fault {
    Fault::new(Status::NotFound, "no gateway with that key is enrolled: see `hailpost gateway list`")
}

fn voter_number(voter: &Voter) -> u64 {
    let mut hasher = DefaultHasher::new();
    voter.hash(&mut hasher);
    hasher.finish()
}
