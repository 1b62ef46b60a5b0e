//! `hailpost serve --roles broker`: sessions for a hub elsewhere, and nothing else.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use hailpost::{
    config::Config,
    net::{
        Loop, NodeId, open_broker,
        tls::Identity,
        url::{LinkKey, Scheme, Url},
    },
    node::{BrokerNode, EventKind, Field},
};
use serde_json::{Map, Value, json};

use super::{desk::members, notify::Notify, raise_descriptors};
use crate::{
    control,
    data::DataDir,
    events::Printer,
    failure::{Done, Failure},
    signals::{Inbox, Word},
    terminal::Out,
};

/// How long a stop waits for devices to go elsewhere.
const DRAIN: Duration = Duration::from_secs(5);

/// What serves.
struct Post {
    net: Loop,
    node: NodeId,
    /// Where devices come in, as it was asked for, with the port that it got.
    listens: Vec<Url>,
    hub: String,
    name: String,
    begun: Instant,
}

/// Runs a broker until it is stopped.
pub fn run(config: &Config, dir: &DataDir, out: &mut Out) -> Done {
    dir.make()?;
    let Some(_lock) = dir.lock()? else {
        return Err(Failure::new(format!(
            "another process serves {}: stop that first",
            dir.path().display()
        )));
    };
    raise_descriptors(64);
    let key = identity(config, dir, "broker")?.key_id();
    let mut net = Loop::new()?;
    let (node, addresses) = open_broker(&mut net, config)?;
    let mut listens = Vec::new();
    for (text, address) in config.list("listen_devices").zip(&addresses.devices) {
        listens.push(Url { port: address.port(), ..text.parse().map_err(Failure::from)? });
    }
    let (hub, name) = (config.text("hub").to_owned(), config.text("broker_name").to_owned());
    let mut post = Post { net, node, listens, hub, name, begun: Instant::now() };
    let inbox = Inbox::open(&post.net)?;
    control::listen(&dir.socket(), &inbox.speaker(&post.net))?;
    let paint = out.paint();
    out.either(
        &json!({ "event": "broker", "key": key.to_string(), "hub": post.hub }),
        format!("{} {key}: the hub must list it in its option brokers", paint.good("key")),
    )?;
    for url in &post.listens {
        out.either(
            &json!({ "event": "listening", "url": url.to_string(), "for": "devices" }),
            format!("{} {} for devices", paint.good("listening"), paint.strong(url.to_string())),
        )?;
    }
    out.flush()?;
    out.detach();
    let served = post.turn(&inbox, out);
    // A socket that nobody answers would only mislead.
    let _ = std::fs::remove_file(dir.socket());
    served
}

impl Post {
    /// Turns the loop until a stop is asked for, or nobody reads any more, and devices are gone.
    fn turn(&mut self, inbox: &Inbox, out: &mut Out) -> Done {
        let mut notify = Notify::open();
        notify.say("READY=1");
        let printer = Printer::new(Default::default());
        let mut stopping: Option<Instant> = None;
        loop {
            let limit = stopping.map(|_| Duration::from_millis(50));
            self.net.wait(limit.into_iter().chain(notify.limit()).min())?;
            notify.live();
            let mut printed = Ok(());
            while let Some((_, event)) = self.net.next_event() {
                let text = event.text(Field::Text).unwrap_or_default();
                let (name, text) = match event.kind() {
                    EventKind::Registered => ("registered", "the hub has this broker"),
                    EventKind::Refused => ("refused", text),
                    EventKind::Down => ("down", text),
                    EventKind::Warning => ("warning", text),
                    _ => continue,
                };
                printed = printed.and_then(|()| printer.note(name, text, out));
            }
            while let Some(word) = inbox.next() {
                match word {
                    Word::Stop => {
                        stopping.get_or_insert_with(Instant::now);
                        notify.say("STOPPING=1");
                        self.drain(true)?;
                    }
                    // Who asked may have gone.
                    Word::Request(request, reply) => drop(reply.send(self.answer(&request))),
                    Word::Reload => {
                        let text =
                            "a broker reads nothing again: restart it, its devices come back by themselves";
                        printed = printed.and_then(|()| printer.note("reloaded", text, out));
                    }
                }
            }
            let is_over =
                stopping.is_some_and(|since| self.node().server().is_empty() || since.elapsed() > DRAIN);
            if is_over {
                let text = "what was said here and not answered is said again elsewhere";
                printed = printed.and_then(|()| printer.note("stopped", text, out));
            }
            if printed.and_then(|()| out.flush()).is_err() {
                out.silence();
                stopping.get_or_insert_with(Instant::now);
            }
            if is_over {
                return Ok(());
            }
        }
    }

    fn drain(&mut self, draining: bool) -> Done {
        Ok(self.net.with(self.node, |node: &mut BrokerNode, _| node.drain(draining))?)
    }

    fn answer(&mut self, request: &Value) -> Value {
        match request.get("do").and_then(Value::as_str) {
            Some("status") => self.status(),
            Some(other) => control::refusal(&Failure::usage(format!(
                "this is a broker, which keeps nothing: ask its hub, {}, for {other}",
                self.hub
            ))),
            None => control::refusal(&Failure::usage("the request has no text \"do\"")),
        }
    }

    fn status(&self) -> Value {
        let node = self.node();
        let key = node.server_key().map(LinkKey);
        let url = |url: &Url| match url.scheme {
            Scheme::Hail => Url { key, ..url.clone() }.to_string(),
            _ => url.to_string(),
        };
        let counters: Map<String, Value> = [
            ("link", members(node.server().counters().list())),
            ("office", members(node.counters().list())),
            ("broker", members(node.broker_counters().list())),
            ("balancer", members(node.balancer_counters().list())),
            ("driver", members(self.net.counters().list())),
        ]
        .map(|(part, counters)| (part.to_owned(), Value::Object(counters)))
        .into_iter()
        .collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "serving": true,
            "uptime": self.begun.elapsed().as_secs(),
            "waiting": 0,
            "broker": {
                "name": self.name,
                "hub": self.hub,
                "registered": node.is_registered(),
                "balancers": node.enlisted(),
                "devices": self.listens.iter().map(url).collect::<Vec<_>>(),
                "sessions": node.server().len(),
                "active": node.server().active(),
            },
            "counters": counters,
        })
    }

    fn node(&self) -> &BrokerNode {
        self.net.get(self.node).expect("the node is on the loop for as long as we are")
    }
}

/// A role's key: its own, made at the first start, unless the configuration names one.
pub(super) fn identity(config: &Config, dir: &DataDir, role: &str) -> Result<Identity, Failure> {
    let file = PathBuf::from(config.text("identity_file"));
    if file == dir.identity() && !file.exists() {
        let identity = Identity::generate(&format!("hailpost {role}"))?;
        identity.write_private(&file)?;
        return Ok(identity);
    }
    Ok(Identity::load(&file, &file)?)
}
