//! What serves, on its loop, and the requests of its operator.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::mpsc::{Sender, channel},
    time::{Duration, Instant},
};

use hailpost::{
    config::{Config, OPTIONS, Role},
    gateway::Backend,
    io::{KeyId, Service},
    net::{
        Listen, ListenTransport, Loop, NodeId, RELOADED, RELOADED_OFFICE, ServerSecurity, open_authority,
        open_backend, reload_backend,
        url::{Scheme, Url},
    },
    node::{BackendNode, Event, EventKind, Field, HealthNode},
    recognize::{AppId, Limits, Rule, RuleSet, RulesFile},
    time::Time,
};
use serde_json::{Map, Value, json};

use super::post::Post;
use crate::{control, data::DataDir, failure::Failure};

/// How long the disk may take for a change that is made without a running back end.
const DISK_PATIENCE: Duration = Duration::from_secs(20);

/// The back end.
pub struct Desk {
    /// What it lives on.
    pub net: Loop,
    node: NodeId,
    /// The post office, if one serves.
    post: Option<Post>,
    health: Option<NodeId>,
    /// Where gateways come in, as URLs that they can use.
    pub urls: Vec<String>,
    begun: Instant,
    serving: bool,
    /// Rules of all groups come from a file.
    rules_file: bool,
    /// Answers that wait for the disk, by ticket.
    waiting: VecDeque<(u64, Value, Sender<Value>)>,
    /// The last ticket of the rules that came from a file.
    shared: u64,
}

/// What a request leads to.
pub(super) enum Applied {
    /// This is the answer.
    Now(Value),
    /// This is, once the ticket is durable.
    Durable(u64, Value),
}

impl Desk {
    /// A back end that serves as the configuration says, and a post office. Answers with the back end's addresses too, in the
    /// order of `listen`.
    pub fn open(config: &Config, office: Option<&Config>) -> Result<(Desk, Vec<SocketAddr>), Failure> {
        let mut net = Loop::new()?;
        let (node, addresses) = open_backend(&mut net, config)?;
        let post = office.map(|office| Post::open(&mut net, office, node)).transpose()?;
        let desk = Desk {
            net,
            node,
            post,
            health: None,
            urls: Vec::new(),
            begun: Instant::now(),
            serving: true,
            rules_file: false,
            waiting: VecDeque::new(),
            shared: 0,
        };
        Ok((desk, addresses))
    }

    /// A back end for one request, which nobody can connect to.
    pub fn alone(dir: &DataDir) -> Result<Desk, Failure> {
        let mut config = Config::new();
        config.set("listen", "")?;
        config.set("train", "false")?;
        config.set("store", &dir.store().display().to_string())?;
        let mut office = Config::new();
        for (name, value) in [("listen_devices", ""), ("listen_apps", "")] {
            office.set(name, value)?;
        }
        office.set("store", &dir.office_store().display().to_string())?;
        let (desk, _) = Desk::open(&config, Some(&office))?;
        Ok(Desk { serving: false, ..desk })
    }

    /// Has an authentication server asked about devices that the office does not know.
    pub fn ask(&mut self, url: &str, token: Option<&str>, config: &Config) -> Result<(), Failure> {
        let Some(post) = &mut self.post else {
            return Err(Failure::usage("--auth is for a post office, which --only backend leaves out"));
        };
        post.ask(open_authority(&mut self.net, url, token, config)?);
        Ok(())
    }

    /// Hands on what others said to whom it is for.
    pub fn pass_on(&mut self) -> Result<(), Failure> {
        self.answer_metrics()?;
        self.post.as_ref().map_or(Ok(()), |post| post.pass_verdicts(&mut self.net))
    }

    /// The next event. What waits for it is answered.
    pub fn next_event(&mut self) -> Option<Event> {
        loop {
            let (node, event) = self.net.next_event()?;
            match event.kind() {
                EventKind::StoreFailing => self.set_store_fails(true),
                EventKind::StoreRecovered => self.set_store_fails(false),
                _ => {}
            }
            if let Some(post) = self.post.as_mut().filter(|post| post.is(node)) {
                // Who asked is told, and nobody else wants to know.
                match post.settle(&mut self.net, &event) {
                    true => continue,
                    false => return Some(event),
                }
            }
            if event.kind() == EventKind::Durable {
                let ticket = event.u64(Field::Ticket).unwrap_or_default();
                while let Some((due, ..)) = self.waiting.front()
                    && *due <= ticket
                {
                    let Some((_, answer, reply)) = self.waiting.pop_front() else { break };
                    // Who asked may have gone.
                    let _ = reply.send(answer);
                }
            }
            return Some(event);
        }
    }

    /// Does what is asked, and answers when that is durable.
    pub fn request(&mut self, request: &Value, reply: Sender<Value>) {
        if let Some(post) = &mut self.post {
            match post.request(&mut self.net, request, &reply) {
                Ok(true) => return,
                Ok(false) => {}
                Err(failure) => return drop(reply.send(control::refusal(&failure))),
            }
        }
        match self.apply(request) {
            Ok(Applied::Durable(ticket, answer)) => self.waiting.push_back((ticket, answer, reply)),
            Ok(Applied::Now(answer)) => drop(reply.send(answer)),
            Err(failure) => drop(reply.send(control::refusal(&failure))),
        }
    }

    /// Does what is asked and waits until it is durable.
    pub fn answer(&mut self, request: &Value) -> Result<Value, Failure> {
        let (reply, answer) = channel();
        self.request(request, reply);
        let begun = Instant::now();
        let mut trouble = None;
        while begun.elapsed() < DISK_PATIENCE {
            if let Ok(answer) = answer.try_recv() {
                return control::checked(answer);
            }
            self.net.wait(Some(Duration::from_millis(100)))?;
            while let Some(event) = self.next_event() {
                if event.kind() == EventKind::StoreFailing {
                    trouble = event.text(Field::Text).map(str::to_owned);
                }
            }
        }
        Err(Failure::new(
            trouble.unwrap_or_else(|| "the disk does not take the change: try again".to_owned()),
        ))
    }

    /// Goes on with what is under way, while nobody serves.
    pub fn turn(&mut self) -> Result<(), Failure> {
        self.net.wait(Some(Duration::from_millis(1)))?;
        while self.next_event().is_some() {}
        Ok(())
    }

    /// Answers for health and metrics at this address.
    pub fn watch_health(&mut self, address: SocketAddr) -> Result<SocketAddr, Failure> {
        let health = self.net.add(Box::new(HealthNode::new()), Vec::new());
        let transport = ListenTransport::Stream(ServerSecurity::Plain);
        let bound = self
            .net
            .listen(health, Listen { address, transport, networks: None, services: vec![Service::Http] })?;
        self.health = Some(health);
        Ok(bound)
    }

    /// Whether gateways are taken.
    pub fn set_ready(&mut self, is_ready: bool) -> Result<(), Failure> {
        if let Some(health) = self.health {
            self.net.with(health, |node: &mut HealthNode, _| node.set_ready(is_ready))?;
        }
        Ok(())
    }

    /// Answers who asked for metrics.
    fn answer_metrics(&mut self) -> Result<(), Failure> {
        let Some(health) = self.health else { return Ok(()) };
        if self.net.get(health).is_some_and(HealthNode::wants_metrics) {
            let text = super::metrics::text(self);
            self.net.with(health, |node: &mut HealthNode, _| node.give_metrics(text))?;
        }
        Ok(())
    }

    /// Seconds since it began.
    pub fn uptime(&self) -> u64 {
        self.begun.elapsed().as_secs()
    }

    /// Puts a configuration in force, as far as that goes while serving. Answers with what changed and holds now, and
    /// with what changed and holds after a restart.
    pub fn reload(
        &mut self,
        old: &Config,
        new: &Config,
    ) -> Result<(Vec<&'static str>, Vec<&'static str>), Failure> {
        reload_backend(&mut self.net, self.node, new)?;
        let changed = OPTIONS.iter().filter(|option| option.is_for(Role::Backend)).map(|option| option.name);
        Ok(changed.filter(|name| old.text(name) != new.text(name)).partition(|name| RELOADED.contains(name)))
    }

    /// The same of the post office, if one serves.
    pub fn reload_office(
        &mut self,
        old: &Config,
        new: &Config,
    ) -> Result<(Vec<&'static str>, Vec<&'static str>), Failure> {
        let Some(post) = &self.post else { return Ok(Default::default()) };
        post.reload(&mut self.net, new)?;
        let changed = OPTIONS.iter().filter(|option| option.is_for(Role::Office)).map(|option| option.name);
        let changed = changed.filter(|name| old.text(name) != new.text(name));
        Ok(changed.partition(|name| RELOADED_OFFICE.contains(name)))
    }

    /// Devices are sent away, and nobody new is let in: a stop is near.
    pub fn leave(&mut self) -> Result<(), Failure> {
        self.post.as_ref().map_or(Ok(()), |post| post.leave(&mut self.net))
    }

    /// Sessions of devices.
    pub fn sessions(&self) -> usize {
        self.post.as_ref().map_or(0, |post| post.node(&self.net).server().len())
    }

    /// The key that gateways are told to pin from now on.
    pub fn pin(&mut self, key: KeyId) {
        for text in &mut self.urls {
            if let Ok(url) = text.parse::<Url>()
                && url.scheme == Scheme::Tls
            {
                *text = Url { pins: vec![key], ..url }.to_string();
            }
        }
    }

    fn set_store_fails(&mut self, fails: bool) {
        // The node is there as long as we are.
        let _ = self.set_ready(!fails);
    }

    /// The post office, if one serves.
    pub fn post(&self) -> Option<&Post> {
        self.post.as_ref()
    }

    /// Reports and changes that wait for the disk.
    pub fn pending(&self) -> usize {
        let office = self.post.as_ref().map_or(0, |post| post.pending(&self.net));
        let backend = self.net.get::<BackendNode>(self.node).map_or(0, |node| node.backend().pending());
        backend + self.waiting.len() + office
    }

    /// Makes the rules of all groups those of a file. Answers with how many were added and removed.
    pub fn share_rules(&mut self, file: &RulesFile) -> Result<(usize, usize), Failure> {
        self.rules_file = true;
        let wanted: Vec<(AppId, &[u8])> =
            file.rules.iter().map(|named| (named.rule.app, named.rule.text.as_bytes())).collect();
        // All of them before any is changed.
        for (app, pattern) in &wanted {
            Backend::check_pattern(pattern)
                .map_err(|fault| Failure::from(fault).about(format!("application {app}")))?;
        }
        let (added, removed, last) = self.with(|backend, _| {
            let held: Vec<(AppId, Vec<u8>)> =
                backend.rules("").map(|(app, pattern)| (app, pattern.to_vec())).collect();
            let gone = held.iter().filter(|(app, pattern)| !wanted.contains(&(*app, pattern)));
            let (mut added, mut removed, mut last) = (0, 0, 0);
            for (app, pattern) in gone {
                last = backend.remove_rule(None, *app, Some(pattern))?;
                removed += 1;
            }
            let is_new = |rule: &&(AppId, &[u8])| !held.iter().any(|(app, text)| (*app, &text[..]) == **rule);
            for (app, pattern) in wanted.iter().filter(is_new) {
                last = backend.set_rule(None, *app, pattern)?;
                added += 1;
            }
            Ok((added, removed, last))
        })?;
        self.shared = self.shared.max(last);
        Ok((added, removed))
    }

    /// Whether the rules that came from a file are durable, and so in force.
    pub fn has_shared(&self) -> bool {
        self.backend().is_durable(self.shared)
    }

    pub(super) fn with<R>(
        &mut self,
        call: impl FnOnce(&mut Backend, Time) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        self.with_node(|node, now| call(node.backend_mut(), now))
    }

    pub(super) fn with_node<R>(
        &mut self,
        call: impl FnOnce(&mut BackendNode, Time) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        self.net.with(self.node, call)?
    }

    pub(super) fn node(&self) -> &BackendNode {
        self.net.get(self.node).expect("the node is on the loop for as long as we are")
    }

    pub(super) fn backend(&self) -> &Backend {
        self.node().backend()
    }

    /// The key that gateways on hail:// know the back end by.
    pub fn link_key(&self) -> [u8; 32] {
        self.node().link_key().expect("it is opened with the link")
    }

    fn apply(&mut self, request: &Value) -> Result<Applied, Failure> {
        let ask = Request(request);
        let done = json!({ "ok": true });
        Ok(match ask.text("do")? {
            "status" => Applied::Now(self.status()),
            of_gateways if of_gateways.starts_with("gateway_") => self.apply_to_gateways(&ask)?,
            "rule_list" => Applied::Now(json!({ "rules": self.rules(ask.optional("group")) })),
            "rule_add" => {
                let (group, app, pattern) = (ask.optional("group"), ask.app()?, ask.text("pattern")?);
                self.may_change(group)?;
                let rule = Rule { app, text: pattern.to_owned() };
                RuleSet::compile(&[rule], Limits::default())
                    .map_err(|error| Failure::usage(format!("the rule cannot be used: {}", error.fault)))?;
                Applied::Durable(
                    self.with(|backend, _| Ok(backend.set_rule(group, app, pattern.as_bytes())?))?,
                    done,
                )
            }
            "rule_remove" => {
                let (group, app, pattern) = (ask.optional("group"), ask.app()?, ask.optional("pattern"));
                self.may_change(group)?;
                let pattern = pattern.map(str::as_bytes);
                Applied::Durable(self.with(|backend, _| Ok(backend.remove_rule(group, app, pattern)?))?, done)
            }
            "backup" | "backup_status" => {
                return Err(Failure::usage("there is no post office here: `serve` was told --only backend"));
            }
            other if ["user_", "device_", "app_"].iter().any(|of| other.starts_with(of)) => {
                return Err(Failure::usage(format!(
                    "no post office does {other:?} here: `serve` was told --only backend, or is of another version"
                )));
            }
            other => return Err(Failure::usage(format!("there is no request {other:?}"))),
        })
    }

    fn may_change(&self, group: Option<&str>) -> Result<(), Failure> {
        match (self.rules_file, group) {
            (true, None) => Err(Failure::usage(
                "the rules of all groups come from the file that `serve --rules` names: change it and send HUP, \
                 or name a group",
            )),
            _ => Ok(()),
        }
    }

    fn rules(&self, group: Option<&str>) -> Vec<Value> {
        let backend = self.backend();
        let row = |group: Option<&str>, app: AppId, pattern: &[u8]| match std::str::from_utf8(pattern) {
            Ok(text) => json!({ "group": group, "app": app.0, "pattern": text }),
            Err(_) => {
                json!({ "group": group, "app": app.0, "pattern_hex": hailpost::codec::to_hex(pattern) })
            }
        };
        let common: Vec<(AppId, Vec<u8>)> =
            backend.rules("").map(|(app, pattern)| (app, pattern.to_vec())).collect();
        let mut rows: Vec<Value> = common.iter().map(|(app, pattern)| row(None, *app, pattern)).collect();
        for info in backend.groups().skip(1).filter(|info| group.is_none_or(|group| group == info.name)) {
            // A group's view begins with what all groups share.
            let mut shared = common.clone();
            for (app, pattern) in backend.rules(&info.name) {
                match shared.iter().position(|(known, text)| *known == app && text == pattern) {
                    Some(at) => drop(shared.swap_remove(at)),
                    None => rows.push(row(Some(&info.name), app, pattern)),
                }
            }
        }
        rows
    }

    fn status(&self) -> Value {
        let backend = self.backend();
        let groups: Vec<Value> = backend
            .groups()
            .skip(1)
            .map(|group| {
                let mut apps: std::collections::BTreeMap<u32, u64> = std::collections::BTreeMap::new();
                backend.results(&group.name).for_each(|(_, app)| *apps.entry(app.0).or_default() += 1);
                let apps: Vec<Value> = apps
                    .into_iter()
                    .map(|(app, results)| json!({ "app": app, "results": results }))
                    .collect();
                json!({
                    "name": group.name,
                    "gateways": group.gateways,
                    "results": group.results,
                    "rules": group.rules,
                    "models": group.models,
                    "apps": apps,
                })
            })
            .collect();
        let streams = self.net.stream_counters();
        let octets = json!({ "octets_in": streams.octets_in, "octets_out": streams.octets_out });
        let mut status = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "serving": self.serving,
            "uptime": self.begun.elapsed().as_secs(),
            "listen": self.urls,
            "waiting": self.pending(),
            "common_rules": backend.groups().next().map_or(0, |common| common.rules),
            "groups": groups,
            "gateways": self.gateways(),
            "counters": {
                "backend": members(backend.counters().list()),
                "backend_link": members(self.node().link_counters()),
                "driver": members(self.net.counters().list()),
                "streams": octets,
                "tls": members(streams.tls.list()),
            },
        });
        if let Some(post) = &self.post {
            status["office"] = post.status(&self.net);
            if let Some(counters) = status["counters"].as_object_mut() {
                counters.extend(post.counters(&self.net));
            }
        }
        status
    }
}

pub(super) fn members(list: impl Iterator<Item = (&'static str, &'static str, u64)>) -> Map<String, Value> {
    list.map(|(name, _, value)| (name.to_owned(), value.into())).collect()
}

/// A request's members.
pub(super) struct Request<'a>(pub &'a Value);

impl<'a> Request<'a> {
    pub fn text(&self, name: &str) -> Result<&'a str, Failure> {
        self.optional(name).ok_or_else(|| Failure::usage(format!("the request has no text {name:?}")))
    }

    pub fn optional(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).and_then(Value::as_str)
    }

    pub fn switch(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or_default()
    }

    fn app(&self) -> Result<AppId, Failure> {
        let app = self.0.get("app").and_then(Value::as_u64).and_then(|app| u32::try_from(app).ok());
        app.map(AppId).ok_or_else(|| Failure::usage("the request has no number \"app\" of at most 32 bits"))
    }
}
