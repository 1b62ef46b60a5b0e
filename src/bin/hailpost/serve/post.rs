//! The post office on the loop, and the requests of its operator.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::SocketAddr,
    path::Path,
    sync::mpsc::Sender,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, display::Base64Display, engine::general_purpose::URL_SAFE_NO_PAD};
use hailpost::{
    config::Config,
    net::{
        Loop, NodeId, enrolment_line, open_office_beside, reload_office,
        url::{LinkKey, Scheme, Url},
    },
    node::{AuthorityNode, Event, EventKind, Field, OfficeNode},
    post::{
        Inbox, SessionId,
        hub::{DeviceInfo, Enrolled, List, Listed, Rights},
    },
    status::Status,
    time::Time,
};
use serde_json::{Map, Value, json};

use super::desk::{Request, members};
use crate::{control, failure::Failure};

/// The post office.
pub struct Post {
    node: NodeId,
    /// Who is asked about credentials that it does not know.
    authority: Option<NodeId>,
    /// Where devices log in, as they write it.
    pub devices: Vec<String>,
    /// Where applications connect.
    pub apps: Vec<String>,
    /// Where brokers apart connect.
    pub inner: Vec<String>,
    /// Answers that wait for the disk, by ticket.
    waiting: BTreeMap<u64, (Value, Sender<Value>)>,
    /// The last copy of the store that was asked for, and what became of it.
    backup: Option<(u64, Option<Result<(), String>>)>,
}

impl Post {
    /// An office that serves as the configuration says, beside a back end.
    pub fn open(net: &mut Loop, config: &Config, backend: NodeId) -> Result<Post, Failure> {
        let (node, addresses) = open_office_beside(net, config, backend)?;
        let key = net.get::<OfficeNode>(node).expect("it was just put there").server_key();
        let reachable = |option: &'static str, addresses: Vec<SocketAddr>| -> Result<Vec<String>, Failure> {
            let written = config.list(option).zip(addresses);
            written
                .map(|(text, address)| {
                    let url: Url = text.parse().map_err(Failure::from)?;
                    let key = (url.scheme == Scheme::Hail).then_some(LinkKey(key));
                    Ok(Url { port: address.port(), key, ..url }.to_string())
                })
                .collect()
        };
        // A hub listens for devices only where it is told to.
        let devices = match addresses.devices.is_empty() {
            true => Vec::new(),
            false => reachable("listen_devices", addresses.devices)?,
        };
        let apps = reachable("listen_apps", addresses.apps)?;
        let inner = match config.non_empty("listen_inner") {
            Some(_) => reachable("listen_inner", addresses.inner)?,
            None => addresses.inner.iter().map(|address| format!("tls://{address}")).collect(),
        };
        Ok(Post { node, authority: None, devices, apps, inner, waiting: BTreeMap::new(), backup: None })
    }

    /// From now on this one is asked about credentials that the office does not know.
    pub fn ask(&mut self, authority: NodeId) {
        self.authority = Some(authority);
    }

    /// Whether an event is the office's.
    pub fn is(&self, node: NodeId) -> bool {
        node == self.node
    }

    /// Answers who waits for this event, asks who knows. Says whether that was all.
    pub fn settle(&mut self, net: &mut Loop, event: &Event) -> bool {
        let ticket = event.u64(Field::Ticket).unwrap_or_default();
        if let (EventKind::Authenticate, Some(authority), Some(session)) = (
            event.kind(),
            self.authority,
            event.bytes(Field::Session).and_then(|octets| octets.try_into().ok()),
        ) {
            let asked = net
                .with(authority, |node: &mut AuthorityNode, now| node.ask(now, ticket, SessionId(session)));
            return asked.is_ok();
        }
        if let Some((own, outcome)) = &mut self.backup
            && *own == ticket
        {
            *outcome = match event.kind() {
                EventKind::Durable => Some(Ok(())),
                EventKind::Failed => Some(Err(event.text(Field::Text).unwrap_or_default().to_owned())),
                _ => return false,
            };
            return true;
        }
        let Entry::Occupied(waiting) = self.waiting.entry(ticket) else { return false };
        let (answer, reply) = match event.kind() {
            EventKind::Durable => waiting.remove(),
            EventKind::Failed => {
                let (_, reply) = waiting.remove();
                let text = event.text(Field::Text).unwrap_or_default();
                (control::refusal(&Failure::usage(text)), reply)
            }
            _ => return false,
        };
        // A list is there only now.
        let listed = self.with(net, |office, _| Ok(office.take_listed(ticket)));
        let answer = listed.ok().flatten().map_or(answer, |listed| shown(&listed));
        // Who asked may have gone.
        let _ = reply.send(answer);
        true
    }

    /// Tells the office what the authentication server said.
    pub fn pass_verdicts(&self, net: &mut Loop) -> Result<(), Failure> {
        let Some(authority) = self.authority else { return Ok(()) };
        while net.get::<AuthorityNode>(authority).is_some_and(AuthorityNode::has_verdict) {
            let Some(verdict) = net.with(authority, |node: &mut AuthorityNode, _| node.next_verdict())?
            else {
                break;
            };
            self.with(net, |office, _| {
                match verdict.vouched {
                    Some(vouched) => {
                        let admitted = office.admit(verdict.ticket, vouched);
                        // A user's name that is none is as good as a no. Who finds no room asks again.
                        if admitted.is_err_and(|fault| fault.status == Status::Invalid) {
                            office.turn_away(verdict.ticket);
                        }
                    }
                    None => office.turn_away(verdict.ticket),
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Answers, and changes, that wait for the disk.
    pub fn pending(&self, net: &Loop) -> usize {
        self.waiting.len() + self.node(net).hub().pending()
    }

    /// Puts a configuration in force, as far as that goes while it serves.
    pub fn reload(&self, net: &mut Loop, config: &Config) -> Result<(), Failure> {
        Ok(reload_office(net, self.node, config)?)
    }

    /// Sends devices away, and lets nobody new in.
    pub fn leave(&self, net: &mut Loop) -> Result<(), Failure> {
        self.with(net, |office, _| {
            office.leave();
            Ok(())
        })
    }

    /// Does what is asked, if that is the office's business, and answers when it is durable.
    pub fn request(
        &mut self,
        net: &mut Loop,
        request: &Value,
        reply: &Sender<Value>,
    ) -> Result<bool, Failure> {
        let ask = Request(request);
        let (ticket, answer) = match ask.text("do")? {
            "user_add" => {
                let name = ask.text("name")?;
                (self.with(net, |office, _| Ok(office.add_user(name)?))?, json!({ "ok": true }))
            }
            "device_add" => {
                let url = self.url(net, &ask)?;
                let user = ask.text("user")?;
                let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                let days = request.get("days").and_then(Value::as_u64);
                let expires = days.map_or(0, |days| unix.saturating_add(days.saturating_mul(86_400)));
                let mut device = [0; 16];
                getrandom::fill(&mut device)
                    .map_err(|error| Failure::new(format!("the system gives no randomness: {error}")))?;
                let enrolled = self.with(net, |office, _| Ok(office.add_device(user, device, expires)?))?;
                (enrolled.ticket, handed(&url, &enrolled))
            }
            "device_rotate" => {
                let url = self.url(net, &ask)?;
                let session = session(ask.text("session")?)?;
                let enrolled = self.with(net, |office, _| Ok(office.rotate_device(session)))?;
                (enrolled.ticket, handed(&url, &enrolled))
            }
            "device_list" => {
                let after = request["after"].as_u64().and_then(|after| u32::try_from(after).ok());
                let list = match ask.optional("user") {
                    Some(user) => List::DevicesOf { user: user.to_owned() },
                    None => List::Devices { after: Inbox(after.unwrap_or_default()) },
                };
                (self.with(net, |office, _| Ok(office.list(list)))?, Value::Null)
            }
            "user_list" => {
                let list = List::Users { after: ask.optional("after").unwrap_or_default().to_owned() };
                (self.with(net, |office, _| Ok(office.list(list)))?, Value::Null)
            }
            "user_remove" => {
                let name = ask.text("name")?;
                (self.with(net, |office, _| Ok(office.remove_user(name)))?, json!({ "ok": true }))
            }
            "app_list" => {
                let mut apps: Vec<(&str, Rights)> = self.node(net).hub().apps().collect();
                apps.sort_unstable_by_key(|(name, _)| *name);
                let apps: Vec<Value> = apps
                    .into_iter()
                    .map(|(name, rights)| {
                        json!({ "name": name, "send": rights.send, "broadcast": rights.broadcast, "query": rights.query })
                    })
                    .collect();
                drop(reply.send(json!({ "apps": apps })));
                return Ok(true);
            }
            "app_remove" => {
                let name = ask.text("name")?;
                (self.with(net, |office, now| Ok(office.remove_app(now, name)?))?, json!({ "ok": true }))
            }
            "app_rotate" => {
                let name = ask.text("name")?;
                let (secret, ticket) = self.with(net, |office, now| Ok(office.rotate_app(now, name)?))?;
                (ticket, json!({ "name": name, "secret": secret }))
            }
            "device_revoke" => {
                let session = session(ask.text("session")?)?;
                let ticket = self.with(net, |office, _| Ok(office.revoke_device(session)))?;
                (ticket, json!({ "ok": true }))
            }
            "app_add" => {
                let name = ask.text("name")?;
                let rights = Rights {
                    send: ask.switch("send"),
                    broadcast: ask.switch("broadcast"),
                    query: ask.switch("query"),
                };
                let (secret, ticket) = self.with(net, |office, _| Ok(office.add_app(name, rights)?))?;
                (ticket, json!({ "name": name, "secret": secret }))
            }
            "backup" => {
                let file = Path::new(ask.text("file")?);
                let ticket = self.with(net, |office, _| Ok(office.backup(file)?))?;
                self.backup = Some((ticket, None));
                drop(reply.send(json!({ "ticket": ticket })));
                return Ok(true);
            }
            "backup_status" => {
                drop(reply.send(self.backup_status(net, request["ticket"].as_u64())?));
                return Ok(true);
            }
            _ => return Ok(false),
        };
        self.waiting.insert(ticket, (answer, reply.clone()));
        Ok(true)
    }

    /// What became of a copy, or how far it is.
    fn backup_status(&self, net: &Loop, ticket: Option<u64>) -> Result<Value, Failure> {
        let Some((_, outcome)) = self.backup.as_ref().filter(|(own, _)| Some(*own) == ticket) else {
            return Err(Failure::new("the office was started again meanwhile: back it up again"));
        };
        Ok(match outcome {
            None => {
                let copied = self.node(net).backup_progress().unwrap_or_default();
                json!({ "state": "running", "octets": copied.octets, "of": copied.of })
            }
            Some(Ok(())) => json!({ "state": "done" }),
            Some(Err(text)) => json!({ "state": "failed", "text": text }),
        })
    }

    /// Where a new device is told to log in.
    fn url(&self, net: &Loop, ask: &Request<'_>) -> Result<Url, Failure> {
        let given = ask
            .optional("office")
            .or_else(|| self.devices.iter().map(String::as_str).find(|url| url.starts_with("hail://")));
        let given = given.ok_or_else(|| {
            Failure::usage("no office serves on hail:// here: start one, or name it with --office")
        })?;
        let url: Url = given.parse()?;
        // All brokers of an office have its key.
        let key =
            url.key.or_else(|| (url.scheme == Scheme::Hail).then(|| LinkKey(self.node(net).server_key())));
        let url = Url { key, ..url };
        if url.scheme == Scheme::Ask {
            url.check_peer()?;
        }
        Ok(url)
    }

    fn with<R>(
        &self,
        net: &mut Loop,
        call: impl FnOnce(&mut OfficeNode, Time) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        net.with(self.node, call)?
    }

    /// What it holds and counted.
    pub fn status(&self, net: &Loop) -> Value {
        let office = self.node(net);
        let brokers: Vec<Value> = office
            .broker_list()
            .into_iter()
            .map(|broker| {
                json!({
                    "name": broker.name,
                    "key": broker.key.to_string(),
                    "up": broker.is_up,
                    "sessions": broker.sessions,
                    "most": broker.most,
                })
            })
            .collect();
        let rooms: Vec<Value> = office
            .room_list()
            .into_iter()
            .map(|room| {
                json!({
                    "name": room.name,
                    "up": room.is_up,
                    "here": room.is_here,
                    "waiting": room.waiting,
                    "octets": room.octets,
                })
            })
            .collect();
        json!({
            "devices": self.devices,
            "apps": self.apps,
            "inner": self.inner,
            "brokers": brokers,
            "rooms": rooms,
            "online": office.hub().online_count(),
            "sessions": office.server().len(),
            "active": office.server().active(),
            "waiting": office.hub().waiting_count(),
        })
    }

    /// Its counters, by part.
    pub fn counters(&self, net: &Loop) -> Map<String, Value> {
        let office = self.node(net);
        [
            ("link", members(office.server().counters().list())),
            ("hub", members(office.hub().counters().list())),
            ("apps", members(office.apps().counters().list())),
            ("brokers", members(office.brokers().counters().list())),
            ("rooms", members(office.rooms().counters().list())),
            ("office", members(office.counters().list())),
        ]
        .into_iter()
        .chain(self.authority(net).map(|authority| ("authority", members(authority.counters().list()))))
        .map(|(part, counters)| (part.to_owned(), Value::Object(counters)))
        .collect()
    }

    fn authority<'a>(&self, net: &'a Loop) -> Option<&'a AuthorityNode> {
        net.get(self.authority?)
    }

    /// The node.
    pub fn node<'a>(&self, net: &'a Loop) -> &'a OfficeNode {
        net.get(self.node).expect("the node is on the loop for as long as we are")
    }
}

/// What a device is given.
fn handed(url: &Url, enrolled: &Enrolled) -> Value {
    json!({ "line": enrolment_line(url, enrolled), "session": named(enrolled.session) })
}

fn named(session: SessionId) -> String {
    Base64Display::new(&session.0, &URL_SAFE_NO_PAD).to_string()
}

/// A page, and where the next one begins.
fn shown(listed: &Listed) -> Value {
    match listed {
        Listed::Users(users) => {
            let rows: Vec<Value> = users
                .iter()
                .map(|(name, devices, keep)| json!({ "name": name, "devices": devices, "keep": keep }))
                .collect();
            json!({ "users": rows, "after": users.last().map(|(name, ..)| name) })
        }
        Listed::Devices(devices) => {
            let row = |device: &DeviceInfo| {
                let state = match (device.revoked, device.online, device.stale) {
                    (true, ..) => "revoked",
                    (_, true, _) => "online",
                    (_, _, true) => "stale",
                    _ => "away",
                };
                json!({
                    "session": named(device.session), "user": device.user, "inbox": device.inbox.0, "state": state,
                    "waiting": device.waiting,
                })
            };
            let rows: Vec<Value> = devices.iter().map(row).collect();
            json!({ "devices": rows, "after": devices.last().map(|device| device.inbox.0) })
        }
    }
}

fn session(text: &str) -> Result<SessionId, Failure> {
    let mut session = [0; 16];
    match URL_SAFE_NO_PAD.decode_slice(text, &mut session) {
        Ok(16) => Ok(SessionId(session)),
        _ => Err(Failure::usage("a session is the 22 characters that `hailpost device add --json` printed")),
    }
}
