//! `gateway`: to be one, and to enrol them.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::{Args, Subcommand};
use hailpost::{
    config::{Config, Role},
    gateway::GatewayState,
    io::KeyId,
    net::{Loop, NodeId, open_gateway, tls::Identity},
    node::{EventKind, GatewayNode},
    status::Status,
    time::Time,
    wire::packet::LinkType,
};
use serde_json::{Value, json};

use crate::{
    capture, control,
    output::{self, Failure, Output},
    serve::set_options,
    signals::{self, Wish},
};

/// Frames of a capture fed before the loop has its turn.
const FRAMES_A_TURN: usize = 4096;
/// How long the back end may take to answer our farewell.
const FAREWELL: Duration = Duration::from_secs(3);

/// A gateway; with a verb, the operator's list of them.
///
/// Without a verb this registers at a back end, recognises the flows of a capture, tells the back end, and learns what others
/// saw. It stays until Ctrl-C, or with --once until all it has to tell is acknowledged.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  hailpost gateway --backend 'tls://127.0.0.1:7700?pin=HEX' --identity home.pem --pcap evening.pcap
  hailpost gateway add home --group flat --key home.pem --data office"
)]
pub struct Gateway {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Where the back end is
    #[arg(long, value_name = "URL")]
    backend: Option<String>,
    /// PEM file with this gateway's key (hailpost keygen)
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// A capture to recognise; - reads standard input
    #[arg(long, value_name = "FILE")]
    pcap: Vec<PathBuf>,
    /// TOML file with a [gateway] section; the keys are the names of docs/options.md
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One option, over the file
    #[arg(long = "set", value_name = "NAME=VALUE")]
    options: Vec<String>,
    /// End, in order, once what the captures hold is acknowledged
    #[arg(long)]
    once: bool,
    /// One JSON object an event
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// Enrol a gateway
    Add {
        /// What people call it
        name: String,
        /// Whom it shares with
        #[arg(long)]
        group: String,
        /// Its key id, or its PEM file
        #[arg(long, value_name = "HEX|FILE")]
        key: String,
        /// Its word alone is enough for the others
        #[arg(long)]
        trusted: bool,
        #[command(flatten)]
        at: At,
    },
    /// Enrolled gateways
    List {
        #[command(flatten)]
        at: At,
    },
    /// Revoke a gateway's key
    Remove {
        /// Its name or key id
        name: String,
        #[command(flatten)]
        at: At,
    },
    /// Take a gateway off until it is allowed again
    Bar {
        /// Its name or key id
        name: String,
        #[command(flatten)]
        at: At,
    },
    /// Let a gateway that was taken off register again
    Allow {
        /// Its name or key id
        name: String,
        #[command(flatten)]
        at: At,
    },
}

/// Whose list.
#[derive(Args)]
pub struct At {
    /// The back end's data directory
    #[arg(long, value_name = "DIR", default_value = "hailpost-data")]
    pub data: PathBuf,
    /// JSON
    #[arg(long)]
    pub json: bool,
}

impl Gateway {
    pub fn run(self) -> Result<(), Failure> {
        match &self.verb {
            Some(verb) => verb.run(),
            None => self.serve(),
        }
    }

    fn serve(&self) -> Result<(), Failure> {
        let mut config = Config::new();
        if let Some(path) = &self.config {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::io(&format!("reading {}", path.display()), &error))?;
            config.load(&text, Role::Gateway).map_err(|fault| {
                Failure::new(fault.status, format!("{}: {}", path.display(), fault.detail))
            })?;
        }
        if let Some(url) = &self.backend {
            config.set("backend", url)?;
        }
        if let Some(path) = &self.identity {
            config.set("identity_file", &path.to_string_lossy())?;
        }
        set_options(&mut config, &self.options)?;
        let mut net = Loop::new()?;
        let gateway = open_gateway(&mut net, &config)?;
        let wishes = signals::listen(net.waker())?;
        let mut out = Output::new();
        let mut captures = self.pcap.iter();
        let mut feeding: Option<Feed> = None;
        let mut synced = false;
        let mut ends = None;
        loop {
            if feeding.is_none()
                && synced
                && let Some(path) = captures.next()
            {
                feeding = Some(Feed::open(path)?);
            }
            if let Some(feed) = &mut feeding
                && !feed.some(&mut net, gateway)?
            {
                feeding = None;
            }
            let limit = if feeding.is_some() { Duration::ZERO } else { Duration::from_secs(1) };
            net.wait(Some(limit))?;
            while let Some((_, event)) = net.next_event() {
                synced |= event.kind() == EventKind::Synced;
                output::event(&mut out, &event, self.json)?;
                if event.kind() == EventKind::Refused && self.once {
                    return Err(Failure::new(Status::Refused, "the back end refused this gateway"));
                }
            }
            let stops = wishes.try_iter().any(|wish| wish == Wish::Stop);
            let node: Option<&GatewayNode> = net.get(gateway);
            let pending = node.map_or(0, |node| node.gateway().pending());
            let is_done = self.once && synced && feeding.is_none() && captures.len() == 0 && pending == 0;
            if (stops || is_done) && ends.is_none() {
                net.with(gateway, |node: &mut GatewayNode, now| node.gateway_mut().leave(now))?;
                ends = Some(Instant::now() + FAREWELL);
            }
            let is_registered = node_state(&net, gateway) != Some(GatewayState::Down);
            if ends.is_some_and(|end| !is_registered || Instant::now() >= end) {
                return Ok(());
            }
        }
    }
}

fn node_state(net: &Loop, gateway: NodeId) -> Option<GatewayState> {
    net.get(gateway).map(|node: &GatewayNode| node.gateway().state())
}

/// A capture on its way into a gateway.
struct Feed {
    path: PathBuf,
    reader: hailpost::wire::capture::CaptureReader<Box<dyn std::io::Read>>,
    /// The capture's first time, and ours at that moment.
    anchor: Option<(Time, Time)>,
}

impl Feed {
    fn open(path: &std::path::Path) -> Result<Feed, Failure> {
        Ok(Feed { path: path.to_owned(), reader: capture::open(path)?, anchor: None })
    }

    /// Feeds a portion. Answers whether there is more.
    fn some(&mut self, net: &mut Loop, gateway: NodeId) -> Result<bool, Failure> {
        for _ in 0..FRAMES_A_TURN {
            let record = match self.reader.next_record() {
                Ok(Some(record)) => record,
                Ok(None) => {
                    net.with(gateway, |node: &mut GatewayNode, now| node.finish(now))??;
                    return Ok(false);
                }
                Err(error) => return Err(capture::wrong(&self.path, &error)),
            };
            let link: LinkType = record.link_type;
            let anchor = &mut self.anchor;
            // A frame that is not IP is counted by the recogniser, and of no flow.
            let _ = net.with(gateway, |node: &mut GatewayNode, now| {
                let (first, begun) = *anchor.get_or_insert((record.time, now));
                node.feed_captured(now, begun + record.time.since(first), link, record.frame)
            })?;
        }
        Ok(true)
    }
}

impl Verb {
    fn run(&self) -> Result<(), Failure> {
        match self {
            Verb::Add { name, group, key, trusted, at } => {
                let request = json!({
                    "do": "gateway.add", "name": name, "group": group,
                    "key": key_id(key)?.to_string(), "trusted": trusted,
                });
                control::ask(&at.data, &request).map(drop)
            }
            Verb::List { at } => list(&at.data, at.json),
            Verb::Remove { name, at } => simple("gateway.remove", name, at),
            Verb::Bar { name, at } => simple("gateway.bar", name, at),
            Verb::Allow { name, at } => simple("gateway.allow", name, at),
        }
    }
}

fn simple(what: &str, name: &str, at: &At) -> Result<(), Failure> {
    control::ask(&at.data, &json!({ "do": what, "name": name })).map(drop)
}

fn list(data: &std::path::Path, json: bool) -> Result<(), Failure> {
    let gateways = control::ask(data, &json!({ "do": "gateway.list" }))?;
    let mut out = Output::new();
    for gateway in gateways.as_array().into_iter().flatten() {
        match json {
            true => out.json(gateway)?,
            false => out.line(&row(gateway))?,
        }
    }
    out.flush()
}

/// An enrolled gateway in one line.
pub fn row(gateway: &Value) -> String {
    let text = |name: &str| gateway.get(name).and_then(Value::as_str).unwrap_or_default();
    let is = |name: &str| gateway.get(name).and_then(Value::as_bool).unwrap_or_default();
    let state = match (is("barred"), is("registered")) {
        (true, _) => "barred",
        (false, true) => "registered",
        (false, false) => "away",
    };
    let trusted = if is("trusted") { " trusted" } else { "" };
    format!("{:<20} {:<16} {state:<10} {}{trusted}", text("name"), text("group"), text("key"))
}

/// A key id, or that of a PEM file.
fn key_id(text: &str) -> Result<KeyId, Failure> {
    if let Ok(key) = text.parse() {
        return Ok(key);
    }
    let path = std::path::Path::new(text);
    if !path.exists() {
        return Err(Failure::new(
            Status::Invalid,
            format!("--key {text}: neither 64 hexadecimal digits nor a file"),
        ));
    }
    Ok(Identity::load(path, path)?.key_id())
}
