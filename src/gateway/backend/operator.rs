//! What the operator may change. Each change answers with the ticket of the event that says that it is durable, and
//! gateways feel it from then on; only what keeps a gateway out holds at once (docs/decisions/0001-gateway-protocol.md).

use super::*;

/// Longest name of a group.
const MAX_GROUP: usize = 64;
/// Longest name of a gateway.
const MAX_NAME: usize = 255;
/// Longest state of a trainer that is kept with its parameters.
const MAX_LINEAGE: usize = 1 << 19;

impl Backend {
    /// Behaves as `config` says from now on; what was agreed with a gateway when it registered stays until it registers
    /// again. `family` and the bounds of features stay as they were when the back end opened.
    pub fn reconfigure(&mut self, config: BackendConfig) {
        self.policy = ResultPolicy::of(&config);
        self.config = BackendConfig { family: self.config.family, ..config };
    }

    /// Enrols a gateway, or changes its enrolment. One that is barred stays so until [`Backend::allow`].
    pub fn enrol(&mut self, key: KeyId, enrolment: Enrolment) -> Result<u64, Fault> {
        check_group(&enrolment.group)?;
        check_name(&enrolment.name)?;
        let is_barred = self.enrolments.get(&key).is_some_and(|known| known.barred);
        let enrolment = Enrolment { barred: enrolment.barred || is_barred, ..enrolment };
        self.enrolments.insert(key, enrolment.clone());
        let op = rows::put_gateway(key, &enrolment);
        Ok(self.persist(vec![op], Effect::Enrolment(key, Some(enrolment))))
    }

    /// Revokes a gateway's key. It is out at once.
    pub fn revoke(&mut self, key: KeyId) -> Result<u64, Fault> {
        self.enrolments.remove(&key).ok_or_else(not_enrolled)?;
        self.admitted.remove(&key);
        if let Some(&at) = self.by_key.get(&key) {
            self.left(at, true);
        }
        Ok(self.persist(vec![rows::delete_gateway(key)], Effect::Enrolment(key, None)))
    }

    /// Takes a gateway off and bars it until [`Backend::allow`] (S319-S320). It is out at once.
    pub fn deregister(&mut self, now: Time, key: KeyId) -> Result<u64, Fault> {
        let ticket = self.set_barred(key, true)?;
        if let Some(enrolment) = self.admitted.get_mut(&key) {
            enrolment.barred = true;
        }
        if let Some(&at) = self.by_key.get(&key) {
            self.send_deregister(now, at);
        }
        Ok(ticket)
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
        self.set_barred(key, false)
    }

    /// Adds a rule for one group, or for all. Whether the pattern can be matched is the caller's to check; that it
    /// can travel is checked here (SPEC R-09).
    pub fn set_rule(&mut self, group: Option<&str>, app: AppId, pattern: &[u8]) -> Result<u64, Fault> {
        Backend::check_pattern(pattern)?;
        let group = self.named(group)?;
        Ok(self.edit_rules(RuleEdit::Add { group, app, pattern: pattern.into() }))
    }

    /// Whether a pattern can travel.
    ///
    /// # Errors
    /// `Pattern` when it cannot.
    pub fn check_pattern(pattern: &[u8]) -> Result<(), Fault> {
        use crate::wire::gateway::MAX_PATTERN;
        if pattern.is_empty() || pattern.len() > MAX_PATTERN || pattern.contains(&0) {
            let detail = format!(
                "a pattern of {} octets: it must have 1 to {MAX_PATTERN}, none of them NUL (write \\x00)",
                pattern.len()
            );
            return Err(Fault::new(Status::Pattern, detail));
        }
        Ok(())
    }

    /// Removes one pattern of an application, or all of them.
    pub fn remove_rule(
        &mut self,
        group: Option<&str>,
        app: AppId,
        pattern: Option<&[u8]>,
    ) -> Result<u64, Fault> {
        let group = self.named(group)?;
        let is_gone = |text: &[u8]| pattern.is_none_or(|pattern| pattern == text);
        if !self.rules_asked.of(group).any(|(known, text)| known == app && is_gone(text)) {
            return Err(Fault::new(Status::NotFound, format!("application {app} has no such rule here")));
        }
        Ok(self.edit_rules(RuleEdit::Remove { group, app, pattern: pattern.map(Arc::from) }))
    }

    /// Sets the parameters that a group's gateways recognise an application by (S315-S316).
    pub fn set_parameters(&mut self, group: &str, app: AppId, words: Vec<u32>) -> Result<u64, Fault> {
        self.set_model(group, app, words, &[])
    }

    /// Sets parameters, and keeps with them what their trainer needs to go on or back after a restart
    /// ([`Backend::load_models`] gives it back); nobody else reads that. At most 512 KiB.
    pub fn set_model(
        &mut self,
        group: &str,
        app: AppId,
        words: Vec<u32>,
        lineage: &[u8],
    ) -> Result<u64, Fault> {
        use crate::wire::gateway::MAX_WORDS;
        check_group(group)?;
        if words.is_empty() || words.len() > MAX_WORDS {
            let detail = format!("{} parameters: 1 to {MAX_WORDS} can travel", words.len());
            return Err(Fault::new(Status::Words, detail));
        }
        if lineage.len() > MAX_LINEAGE {
            let detail =
                format!("{} octets of a trainer's state, at most {MAX_LINEAGE} are kept", lineage.len());
            return Err(Fault::new(Status::Invalid, detail));
        }
        let op = rows::put_model(group, app, &words, lineage);
        let group = self.group(group);
        Ok(self.persist(vec![op], Effect::Model(group, app, words)))
    }

    /// The operator's edit became durable: gateways are told.
    pub(super) fn rules_stored(&mut self, edit: &RuleEdit) {
        self.rules.edit(edit);
        match edit.group() {
            Some(at) => self.wake_group(at),
            None => (0..self.groups.len()).for_each(|at| self.wake_group(at)),
        }
    }

    /// An enrolment became durable. One that was revoked or barred since stays out.
    pub(super) fn enrolment_stored(&mut self, now: Time, key: KeyId, asked: Option<Enrolment>) {
        let early = self.early.remove(&key);
        let (Some(mut enrolment), Some(latest)) = (asked, self.enrolments.get(&key)) else {
            self.admitted.remove(&key);
            return;
        };
        enrolment.barred |= latest.barred;
        let moved = self.admitted.get(&key).is_some_and(|old| {
            (&old.group, old.trusted, old.barred) != (&enrolment.group, enrolment.trusted, enrolment.barred)
        });
        self.admitted.insert(key, enrolment);
        // What it was told as a member of another group, or may say as a trusted one, no longer holds.
        if moved && let Some(&at) = self.by_key.get(&key) {
            self.left(at, true);
        }
        if let Some((at, id, octets)) = early
            && self.peers[at].as_ref().is_some_and(|peer| peer.id == id)
        {
            self.message(now, at, &octets);
        }
    }

    fn set_barred(&mut self, key: KeyId, barred: bool) -> Result<u64, Fault> {
        let enrolment = self.enrolments.get_mut(&key).ok_or_else(not_enrolled)?;
        enrolment.barred = barred;
        let (op, enrolment) = (rows::put_gateway(key, enrolment), enrolment.clone());
        Ok(self.persist(vec![op], Effect::Enrolment(key, Some(enrolment))))
    }

    fn edit_rules(&mut self, edit: RuleEdit) -> u64 {
        let rows = self.rules_asked.edit(&edit);
        let ops = rows.iter().map(|RuleRow { group, app, pattern, number }| {
            let name = group.map_or("", |at| &self.groups[at].name);
            match number {
                Some(number) => rows::put_rule(name, *app, pattern, *number),
                None => rows::delete_rule(name, *app, pattern),
            }
        });
        let ops = ops.collect();
        self.persist(ops, Effect::Rules(edit))
    }

    fn send_deregister(&mut self, now: Time, at: usize) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        let (conn, to) = peer.path;
        let Some(session) = &mut peer.session else { return };
        if session.association.outstanding(Kind::Deregister) > 0 {
            return;
        }
        let octets = session.deregister(now);
        self.outputs.push_back(Output::Send { conn, to, octets });
        self.rearm(now, at);
    }

    /// The group of that name; `None` is all of them.
    fn named(&mut self, group: Option<&str>) -> Result<Option<usize>, Fault> {
        group.map(|name| check_group(name).map(|()| self.group(name))).transpose()
    }
}

/// Whether a group can have that name.
pub(crate) fn check_group(name: &str) -> Result<(), Fault> {
    if name.is_empty() || name.len() > MAX_GROUP {
        return Err(Fault::new(Status::Invalid, format!("a group's name has 1 to {MAX_GROUP} octets")));
    }
    Ok(())
}

/// Whether a gateway can have that name.
pub(super) fn check_name(name: &str) -> Result<(), Fault> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(Fault::new(Status::Invalid, format!("a gateway's name has 1 to {MAX_NAME} octets")));
    }
    Ok(())
}

fn not_enrolled() -> Fault {
    Fault::new(Status::NotFound, "no gateway with that key is enrolled: see `hailpost gateway list`")
}
