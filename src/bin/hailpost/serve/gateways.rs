//! Which gateways there may be: the operator's requests about them.

use std::{
    collections::HashSet,
    time::{SystemTime, UNIX_EPOCH},
};

use hailpost::{
    gateway::{Enrolment, Grant, Token},
    io::KeyId,
    net::{
        credential_line, credential_url,
        url::{Scheme, Url},
    },
};
use serde_json::{Value, json};

use super::desk::{Applied, Desk, Request};
use crate::failure::Failure;

impl Desk {
    /// Does what is asked about gateways.
    pub(super) fn apply_to_gateways(&mut self, ask: &Request<'_>) -> Result<Applied, Failure> {
        let done = json!({ "ok": true });
        Ok(match ask.text("do")? {
            "gateway_list" => Applied::Now(json!({ "gateways": self.gateways() })),
            "gateway_add" => {
                let key: KeyId = ask.text("key")?.parse().map_err(Failure::from)?;
                let enrolment = self.enrolment(ask, Some(key))?;
                Applied::Durable(self.with(|backend, _| Ok(backend.enrol(key, enrolment)?))?, done)
            }
            "gateway_add_link" => {
                let mut own = self.urls.iter().filter_map(|url| url.parse::<Url>().ok());
                let own = own.find(|url| url.scheme == Scheme::Hail);
                let url = credential_url(ask.optional("backend"), own.as_ref(), self.link_key())
                    .map_err(|fault| Failure::from(fault).about("--backend"))?;
                let enrolment = self.enrolment(ask, None)?;
                let (credential, ticket) = self.with_node(|node, _| Ok(node.enrol_link(enrolment)?))?;
                let line = credential_line(&url, &credential.session_id, &credential.secret);
                let (url, key) = (url.to_string(), credential.key.to_string());
                Applied::Durable(ticket, json!({ "line": line, "backend": url, "key": key }))
            }
            "gateway_token" => {
                let url =
                    match (ask.optional("backend"), self.urls.iter().find(|url| url.starts_with("tls://"))) {
                        (Some(url), _) => url.to_owned(),
                        (None, Some(url)) => url.clone(),
                        (None, None) => {
                            return Err(Failure::usage(
                                "no back end serves on tls:// here: start one, or name it with --backend",
                            ));
                        }
                    };
                let mut token = Token([0; 16]);
                getrandom::fill(&mut token.0)
                    .map_err(|error| Failure::new(format!("the system gives no randomness: {error}")))?;
                let lives = ask.0.get("minutes").and_then(Value::as_u64).unwrap_or(60).saturating_mul(60);
                let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                let grant = Grant {
                    name: ask.text("name")?.to_owned(),
                    group: ask.text("group")?.to_owned(),
                    trusted: ask.switch("trusted"),
                    replaces: ask.switch("replace"),
                    expires: unix.saturating_add(lives),
                };
                let line = format!("{url} {token}");
                let ticket = self.with(|backend, now| Ok(backend.issue_token(now, &token, grant)?))?;
                Applied::Durable(ticket, json!({ "line": line, "backend": url, "token": token.to_string() }))
            }
            "gateway_revoke" => {
                let key = self.gateway(ask)?;
                Applied::Durable(self.with(|backend, _| Ok(backend.revoke(key)?))?, done)
            }
            "gateway_bar" => {
                let key = self.gateway(ask)?;
                Applied::Durable(self.with(|backend, now| Ok(backend.deregister(now, key)?))?, done)
            }
            "gateway_allow" => {
                let key = self.gateway(ask)?;
                Applied::Durable(self.with(|backend, _| Ok(backend.allow(key)?))?, done)
            }
            other => return Err(Failure::usage(format!("there is no request {other:?}"))),
        })
    }

    /// Those enrolled, and those registered without a key.
    pub(super) fn gateways(&self) -> Vec<Value> {
        let backend = self.backend();
        let registered: Vec<_> = backend.gateways().collect();
        let here: HashSet<KeyId> = registered.iter().filter_map(|info| info.key).collect();
        let mut rows: Vec<(String, String, Value)> = backend
            .enrolments()
            .map(|(key, enrolment)| {
                let state = match (here.contains(key), enrolment.barred) {
                    (true, _) => "registered",
                    (false, true) => "barred",
                    (false, false) => "away",
                };
                let row = json!({
                    "name": enrolment.name,
                    "group": enrolment.group,
                    "key": key.to_string(),
                    "trusted": enrolment.trusted,
                    "state": state,
                });
                (enrolment.group.clone(), enrolment.name.clone(), row)
            })
            .collect();
        rows.extend(registered.into_iter().filter(|info| info.key.is_none()).map(|info| {
            let row = json!({
                "name": info.name, "group": info.group, "key": null, "trusted": false, "state": "registered",
            });
            (info.group, info.name, row)
        }));
        rows.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        rows.into_iter().map(|(.., row)| row).collect()
    }

    /// What a request says of a gateway that is to be enrolled by this key, which is not drawn yet for `None`.
    fn enrolment(&self, ask: &Request<'_>, key: Option<KeyId>) -> Result<Enrolment, Failure> {
        let (name, group) = (ask.text("name")?.to_owned(), ask.text("group")?.to_owned());
        let other = self
            .backend()
            .enrolments()
            .any(|(known, one)| Some(*known) != key && one.name == name && one.group == group);
        if other {
            return Err(Failure::usage(format!(
                "group {group} has a gateway {name} with another key: revoke that first, or take another name"
            )));
        }
        Ok(Enrolment { name, group, trusted: ask.switch("trusted"), barred: false })
    }

    /// The key of the gateway that a request names, by name or by key.
    fn gateway(&self, ask: &Request<'_>) -> Result<KeyId, Failure> {
        let named = ask.text("gateway")?;
        if let Ok(key) = named.parse::<KeyId>() {
            return Ok(key);
        }
        let mut found =
            self.backend().enrolments().filter(|(_, enrolment)| enrolment.name == named).map(|(key, _)| *key);
        match (found.next(), found.next()) {
            (Some(key), None) => Ok(key),
            (None, _) => Err(Failure::new(format!(
                "no gateway is called {named}: `hailpost gateway list` shows those enrolled"
            ))),
            (Some(_), Some(_)) => {
                Err(Failure::usage(format!("several gateways are called {named}: name one by its key")))
            }
        }
    }
}
