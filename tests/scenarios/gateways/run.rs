//! Lets a plan happen.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hailpost::{
    gateway::{BackendConfig, Enrolment, Gateway, GatewayConfig, ResultKey},
    io::{Service, Transport},
    link::ClientConfig,
    node::{BackendNode, GatewayNode, Node},
    rng::Seeded,
    status::Status,
    store::{Memory, Store},
    time::Time,
    wire::{
        AppId,
        gateway::{Body, Family, Message, decode, message_len},
    },
};

use super::{
    backend, backend_mut,
    defects::{Defect, GHOST, Undo},
    gateway, gateway_mut, judge,
    ledger::{Change, Ledger},
    plan::{GROUPS, Setup, Step, TROUBLE, What},
};
use crate::sim::{Boot, Conditions, Flaky, HostId, Slow, Trace, World};

/// What the trouble left behind may still break a link for so long after it, in seconds: three sends of a request,
/// then four heartbeats until the gateway notices.
const ECHO: u32 = 30;
/// How long after the trouble all must be well.
const SETTLE: u32 = 200;
/// How long it must stay so: longer than anything is on its way.
const STAY: u32 = 12;
const STREAM_PORT: u16 = 7700;
const DATAGRAM_PORT: u16 = 7701;
const LINK_PORT: u16 = 7704;

/// A world in which a plan happens.
pub struct Run {
    pub world: World,
    pub setup: Setup,
    pub hub: HostId,
    pub gateways: Vec<HostId>,
    pub memory: Memory,
    pub ledger: Ledger,
    store_fails: Arc<AtomicBool>,
    defect: Option<Defect>,
}

/// What happens by itself after a step.
enum Later {
    BootBackend,
    BootGateway(usize),
    Heal(usize),
    StoreWorks,
}

/// Lets the steps happen and judges.
pub fn run(
    seed: u64,
    setup: Setup,
    defect: Option<Defect>,
    steps: &[Step],
    trace: &Trace,
) -> Result<(), String> {
    Run::new(seed, setup, defect, trace.clone()).play(steps)
}

impl Run {
    fn new(seed: u64, setup: Setup, defect: Option<Defect>, trace: Trace) -> Run {
        let mut world = World::new(seed, trace);
        world.describe_by(match setup.family {
            Family::V4 => |octets| describe(Family::V4, octets),
            Family::V6 => |octets| describe(Family::V6, octets),
        });
        let memory = Memory::default();
        let store_fails = Arc::new(AtomicBool::new(false));
        let (rows, fails) = (memory.clone(), store_fails.clone());
        let config = backend_config(&setup);
        let links = Links::found(seed, &setup, &memory);
        let has_links = links.is_some();
        let (of_hub, undo) = (setup.clone(), Undo::default());
        let hub = world.add("backend", [10, 0, 0, 1].into(), move |boot| {
            let store = Box::new(Flaky::new(Box::new(rows.clone()), fails.clone()));
            let store = Box::new(Slow::store(store, boot.disk.clone(), boot.rng.clone()));
            match defect {
                Some(defect) => {
                    let store = defect.store(store, &undo);
                    defect.backend(
                        Box::new(boot_backend(
                            config.clone(),
                            (boot.now, boot.unix),
                            boot.rng,
                            store,
                            has_links,
                        )),
                        &of_hub,
                    )
                }
                None => {
                    Box::new(boot_backend(config.clone(), (boot.now, boot.unix), boot.rng, store, has_links))
                }
            }
        });
        world.listen(hub, Transport::Stream, STREAM_PORT);
        world.listen(hub, Transport::Datagram, DATAGRAM_PORT);
        world.listen_for(hub, Transport::Datagram, LINK_PORT, Service::Link);
        let gateways = setup.members.iter().enumerate().map(|(at, member)| {
            let config = GatewayConfig {
                family: setup.family,
                backoff_max: Duration::from_secs(setup.backoff_max),
                barred_retry: Duration::from_secs(20),
                extensions: !member.is_plain,
                ..GatewayConfig::default()
            };
            let kind = if member.is_plain { "plain" } else { "" };
            let name = format!("gateway {at} ({}{kind})", GROUPS[member.group]);
            let (setup, of) = (setup.clone(), member.clone());
            let link = member.session_id.zip(links.as_ref()).map(|(id, links)| links.client(id));
            let host = world.add(&name, member.ip, move |boot: Boot| {
                let gateway = Gateway::new(config.clone(), boot.now, boot.rng.clone());
                let node = GatewayNode::new(gateway, None);
                let node: Box<dyn Node> = match link.clone() {
                    Some(link) => Box::new(node.over_link(link, boot.rng)),
                    None => Box::new(node),
                };
                match defect {
                    Some(defect) => defect.gateway(node, &setup, &of),
                    None => node,
                }
            });
            let port = match (member.session_id, member.transport) {
                (Some(_), _) => LINK_PORT,
                (None, Transport::Stream) => STREAM_PORT,
                (None, Transport::Datagram) => DATAGRAM_PORT,
            };
            world.route(host, hub, member.transport, port, member.key);
            host
        });
        let gateways: Vec<HostId> = gateways.collect();
        let ledger = Ledger::new(gateways.len());
        Run { world, setup, hub, gateways, memory, ledger, store_fails, defect }
    }

    fn play(&mut self, steps: &[Step]) -> Result<(), String> {
        self.world.boot(self.hub);
        let members = self.setup.members.clone();
        let ghost = self.defect == Some(Defect::GroupForgotten);
        self.world.with(self.hub, |node, _| {
            for (at, member) in members.iter().enumerate() {
                if let Some(key) = member.key {
                    let enrolment = Enrolment {
                        name: format!("gateway {at}"),
                        group: GROUPS[member.group].to_owned(),
                        trusted: member.trusted,
                        barred: false,
                    };
                    backend_mut(node).enrol(key, enrolment).expect("the names are short");
                }
            }
            if ghost {
                let enrolment = Enrolment {
                    name: "ghost".to_owned(),
                    group: GROUPS[1].to_owned(),
                    trusted: false,
                    barred: false,
                };
                backend_mut(node).enrol(GHOST, enrolment).expect("the names are short");
            }
        });
        self.gateways.clone().into_iter().for_each(|host| self.world.boot(host));

        let mut later: BTreeMap<(u32, usize), Later> = BTreeMap::new();
        let mut steps = steps.iter().peekable();
        loop {
            let next_step = steps.peek().map(|step| step.at);
            let next_later = later.keys().next().map(|(at, _)| *at).filter(|at| *at < TROUBLE);
            let Some(at) = next_step.into_iter().chain(next_later).min() else { break };
            self.run_until(at)?;
            if next_later == Some(at) {
                let (_, due) = later.pop_first().expect("it is there");
                self.later(due)?;
            } else if let Some(step) = steps.next() {
                let what = &step.what;
                self.world.note(|| format!("--- {what:?}"));
                if let Some((after, due)) = self.step(what)? {
                    later.insert((at + after, later.len() + steps.len() * 1000), due);
                }
            }
        }
        self.run_until(TROUBLE)?;
        self.calm()?;
        self.settle()
    }

    fn run_until(&mut self, millis: u32) -> Result<(), String> {
        self.world.run_until(Time::from_micros(u64::from(millis) * 1000));
        self.absorb()?;
        self.world.problem().map_or(Ok(()), |problem| Err(problem.to_owned()))
    }

    /// Writes down what nodes said.
    fn absorb(&mut self) -> Result<(), String> {
        let life = self.world.life(self.hub);
        for (of, event) in self.world.take_events(self.hub) {
            if of == life {
                self.ledger.backend_event(&event);
            }
        }
        for (at, &host) in self.gateways.iter().enumerate() {
            for (life, event) in self.world.take_events(host) {
                self.ledger.gateway_event(at, life, &event, &self.setup)?;
            }
        }
        Ok(())
    }

    fn step(&mut self, what: &What) -> Result<Option<(u32, Later)>, String> {
        match *what {
            What::Report { gateway: at, end, app } => {
                let member = &self.setup.members[at];
                let record = self.setup.record(member.group, end, app, member.ip);
                let taken = self.gateway(at, |gateway, now| gateway.report(now, record).is_ok());
                if taken == Some(true) {
                    let life = self.world.life(self.gateways[at]);
                    let key = ResultKey::new(record.remote, record.protocol);
                    self.ledger.sent(at, life, key, record.app);
                }
            }
            What::Features { gateway: at, app } => {
                self.gateway(at, |gateway, now| {
                    gateway.report_features(now, AppId(app), vec![app; 8]).is_ok()
                });
            }
            What::SetRule { group, app, text } => {
                let pattern = pattern(group, text);
                self.ask(Change::SetRule { group, app, pattern });
            }
            What::RemoveRule { group, app, text } => {
                let pattern = text.map(|text| pattern(group, text));
                self.ask(Change::RemoveRule { group, app, pattern });
            }
            What::SetParameters { group, app, word } => self.ask(Change::SetParameters { group, app, word }),
            What::Deregister { gateway } => self.ask(Change::Bar { gateway, barred: true }),
            What::Allow { gateway } => self.ask(Change::Bar { gateway, barred: false }),
            What::Leave { gateway: at } => drop(self.gateway(at, |gateway, now| gateway.leave(now))),
            What::Join { gateway: at } => drop(self.gateway(at, |gateway, now| gateway.join(now))),
            What::CrashBackend { point, how, down } => {
                self.world.crash_at(self.hub, point, how);
                return Ok(Some((down, Later::BootBackend)));
            }
            What::CrashGateway { gateway: at, how, down } => {
                self.world.crash(self.gateways[at], how);
                return Ok(Some((down, Later::BootGateway(at))));
            }
            What::Partition { gateway: at, lasts } => {
                self.world.partition(self.hub, self.gateways[at]);
                return Ok(Some((lasts, Later::Heal(at))));
            }
            What::Break { gateway: at } => self.world.break_streams(self.gateways[at]),
            What::StoreFails { lasts } => {
                self.store_fails.store(true, Ordering::Relaxed);
                return Ok(Some((lasts, Later::StoreWorks)));
            }
            What::Network(conditions) => self.world.conditions(conditions),
        }
        Ok(None)
    }

    fn later(&mut self, later: Later) -> Result<(), String> {
        match later {
            Later::BootBackend => {
                self.world.spare(self.hub);
                if self.world.is_up(self.hub) {
                    return Ok(());
                }
                self.absorb()?;
                self.world.boot(self.hub);
                let backend = backend(self.world.node(self.hub).expect("it was booted"));
                return self.ledger.backend_boots(backend, &self.memory, &self.setup);
            }
            Later::BootGateway(at) => {
                if !self.world.is_up(self.gateways[at]) {
                    self.ledger.gateway_boots(at);
                    self.world.boot(self.gateways[at]);
                }
            }
            Later::Heal(at) => self.world.heal(self.hub, self.gateways[at]),
            Later::StoreWorks => self.store_fails.store(false, Ordering::Relaxed),
        }
        Ok(())
    }

    /// Nothing fails any more, and all want to be registered.
    fn calm(&mut self) -> Result<(), String> {
        self.world.note(|| "--- calm".to_owned());
        self.world.conditions(Conditions::CALM);
        self.later(Later::StoreWorks)?;
        self.later(Later::BootBackend)?;
        for at in 0..self.gateways.len() {
            self.later(Later::Heal(at))?;
            self.later(Later::BootGateway(at))?;
            self.gateway(at, |gateway, now| gateway.join(now));
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), String> {
        let mut verdict = Ok(());
        for second in ECHO..=SETTLE {
            self.run_until(TROUBLE + second * 1000)?;
            verdict = judge::judge(self);
            if verdict.is_ok() {
                self.run_until(TROUBLE + (second + STAY) * 1000)?;
                return judge::judge(self).map_err(|problem| format!("it did not stay so: {problem}"));
            }
        }
        verdict
    }

    fn gateway<R>(&mut self, at: usize, act: impl FnOnce(&mut Gateway, Time) -> R) -> Option<R> {
        self.world.with(self.gateways[at], |node, now| act(gateway_mut(node), now))
    }

    fn ask(&mut self, change: Change) {
        let setup = &self.setup;
        let group_name = |group: Option<usize>| group.map(|group| GROUPS[group]);
        let ticket = self.world.with(self.hub, |node, now| {
            let backend = backend_mut(node);
            match &change {
                Change::SetRule { group, app, pattern } => {
                    backend.set_rule(group_name(*group), AppId(*app), pattern.as_bytes())
                }
                Change::RemoveRule { group, app, pattern } => backend.remove_rule(
                    group_name(*group),
                    AppId(*app),
                    pattern.as_ref().map(|pattern| pattern.as_bytes()),
                ),
                Change::SetParameters { group, app, word } => {
                    backend.set_parameters(GROUPS[*group], AppId(*app), vec![*word; 4])
                }
                Change::Bar { gateway, barred } => match (setup.members[*gateway].key, barred) {
                    (Some(key), true) => backend.deregister(now, key),
                    (Some(key), false) => backend.allow(key),
                    (None, _) => Err(Status::NotFound.into()),
                },
            }
        });
        if let Some(Ok(ticket)) = ticket {
            self.ledger.asked(ticket, change);
        }
    }

    /// The gateway of a host that is up.
    pub fn gateway_at(&self, at: usize) -> &Gateway {
        gateway(self.world.node(self.gateways[at]).expect("all are up after the trouble"))
    }
}

/// Patterns name the group that they belong to; one is the same everywhere.
fn pattern(group: Option<usize>, text: u32) -> String {
    match (group, text) {
        (_, 3) => "everywhere".to_owned(),
        (Some(group), _) => format!("{}-{text}", GROUPS[group]),
        (None, _) => format!("all-{text}"),
    }
}

fn backend_config(setup: &Setup) -> BackendConfig {
    let is_open = setup.members.iter().any(|member| member.key.is_none());
    BackendConfig {
        family: setup.family,
        agreement: setup.agreement,
        open_group: is_open.then(|| GROUPS[1].to_owned()),
        probe_addresses: setup.probe_addresses,
        ..BackendConfig::default()
    }
}

fn boot_backend(
    config: BackendConfig,
    (now, unix): (Time, u64),
    rng: Seeded,
    store: Box<dyn Store>,
    has_links: bool,
) -> BackendNode {
    let open = hailpost::gateway::Open { now, unix, rng: rng.clone() };
    let node = BackendNode::open(config, open, store, None).expect("the store can be read");
    match has_links {
        true => node.with_link((now, unix), rng).expect("the store can be read"),
        false => node,
    }
}

/// The back end's keys of the link, which are in its store before the world begins.
struct Links(BackendNode);

impl Links {
    fn found(seed: u64, setup: &Setup, memory: &Memory) -> Option<Links> {
        setup.members.iter().find(|member| member.session_id.is_some())?;
        let (config, rng) = (backend_config(setup), Seeded::new(seed ^ 0x11c5));
        let mut node = boot_backend(config, (Time::ZERO, 1_700_000_000), rng, Box::new(memory.clone()), true);
        while node.poll_output(Time::ZERO).is_some() {}
        node.flush(Time::ZERO);
        Some(Links(node))
    }

    /// What the gateway of a session id was given.
    fn client(&self, session_id: [u8; 16]) -> ClientConfig {
        let credential = self.0.link_credential(session_id).expect("it has a link");
        ClientConfig::new(self.0.link_key().expect("it has a link"), session_id, credential.secret)
    }
}

/// Messages for the trace: their kinds and tags.
fn describe(family: Family, octets: &[u8]) -> String {
    let mut rest = octets;
    let mut said = Vec::new();
    while let Ok(Some(len)) = message_len(family, rest)
        && len <= rest.len()
    {
        let (message, after) = rest.split_at(len);
        rest = after;
        let text = match decode(family, message) {
            Ok(Message { body: Body::Heartbeat | Body::HeartbeatAnswer, .. }) => continue,
            Ok(message) => {
                let (kind, is_answer) = message.body.kind();
                let answer = if is_answer { "-answer" } else { "" };
                let count = match message.body {
                    Body::ResultSync { records, .. } => format!("({})", records.len()),
                    Body::RuleSync { rules, .. } => format!("({})", rules.len()),
                    _ => String::new(),
                };
                format!("{kind:?}{answer}{count}#{}", message.header.tag)
            }
            Err(error) => error.to_string(),
        };
        said.push(text);
    }
    said.join(" ")
}
