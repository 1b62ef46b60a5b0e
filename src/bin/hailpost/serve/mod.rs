//! `hailpost serve`

mod balancer;
mod broker;
pub mod desk;
mod gateways;
mod metrics;
mod notify;
pub mod post;
mod pseudonyms;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hailpost::{
    config::{Config, Role, read_secret},
    net::{
        Loop, check_office, open_authority,
        tls::Identity,
        url::{LinkKey, Scheme, Url},
    },
    recognize::{Limits, RulesFile},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use crate::{
    control,
    data::{DataArgs, DataDir},
    events::Printer,
    failure::{Done, Failure},
    names,
    settings::{SettingsArgs, listing},
    signals::{Inbox, Word},
    terminal::{Out, warn},
};
use desk::Desk;
use notify::Notify;
use pseudonyms::Pseudonyms;

/// How long a stop waits for the disk, and a start for its rules.
const DRAIN: Duration = Duration::from_secs(5);
/// How long a wait of ours is, where there is more to look at than the loop.
const TURN: Duration = Duration::from_millis(50);

/// Runs a back end and a post office until it is stopped.
///
/// All they keep is in one data directory: keys, made at the first start; their stores; and the socket by which `status`,
/// `gateway add`, `rule add` and `device add` reach them. Prints the URLs that gateways, devices and applications connect
/// to, then a line an event.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  hailpost serve --data office --listen tls://0.0.0.0:7700 --devices hail://0.0.0.0:7700
  hailpost serve --data office --listen tls://0.0.0.0:7700 --listen hail://0.0.0.0:7704 --devices hail://0.0.0.0:7700
  hailpost serve --data office --only backend
  hailpost serve --data one --roles broker --hub 'tls://hub.example:7702?pin=HEX' --devices hail://0.0.0.0:7700
  hailpost serve --data doors --roles balancer --devices hail+ask://0.0.0.0:7700 --set brokers=KEY,KEY
  hailpost serve --config /etc/hailpost.toml --check

Signals: TERM and Ctrl-C end in order once what waits is on the disk, a second one ends at once; HUP reads
configuration, certificate and rules again. Killed at any point, it has lost nothing that it acknowledged; gateways come back by themselves.

A configuration: [backend]
                 listen = [\"tls://0.0.0.0:7700\"]
                 heartbeat_ms = 3000
                 [office]
                 listen_devices = [\"hail://0.0.0.0:7700\"]")]
pub struct Args {
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    settings: SettingsArgs,
    /// Where gateways come in, over what the configuration says: tls://, hail://, or tcp:// and udp://; may be repeated
    #[arg(long, value_name = "URL")]
    listen: Vec<String>,
    /// Where devices log in, over what the configuration says: hail:// or tls://; may be repeated
    #[arg(long, value_name = "URL")]
    devices: Vec<String>,
    /// Where applications connect, over what the configuration says: tcp:// on loopback, or tls://; may be repeated
    #[arg(long, value_name = "URL")]
    apps: Vec<String>,
    /// What of a post office this process is: all of it (centre), what keeps messages for brokers apart (hub), or what holds
    /// sessions for a hub elsewhere (broker) or tells devices at which broker to log in (balancer), each alone in its process
    #[arg(long, value_name = "ROLE", value_parser = ["centre", "hub", "broker", "balancer"], conflicts_with = "only")]
    roles: Option<String>,
    /// Where brokers connect to a hub or a balancer, over what the configuration says: tls://; may be repeated
    #[arg(long, value_name = "URL")]
    inner: Vec<String>,
    /// Of a broker: where its hub is, over what the configuration says: tls://host:7702?pin=HEX
    #[arg(long, value_name = "URL")]
    hub: Option<String>,
    /// Of a broker: a balancer that it reports to, over what the configuration says: tls://host:7702?pin=HEX; may be repeated
    #[arg(long, value_name = "URL")]
    balancer: Vec<String>,
    /// Leave the post office out
    #[arg(long, value_name = "ROLE", value_parser = ["backend"])]
    only: Option<String>,
    /// The rules that all groups share are those of this file, now and after each HUP
    #[arg(long, value_name = "F.toml")]
    rules: Option<PathBuf>,
    /// Answer /healthz, /readyz and /metrics here, on loopback only; 127.0.0.1:7703 by custom
    #[arg(long, value_name = "ADDRESS:PORT")]
    health: Option<SocketAddr>,
    /// Ask this authentication server about devices that were not enrolled here: https://, or http:// on loopback
    #[arg(long, value_name = "URL")]
    auth: Option<String>,
    /// A file of mode 0600 with the token that the authentication server is shown
    #[arg(long, value_name = "FILE", requires = "auth")]
    auth_token: Option<PathBuf>,
    /// Authorities that may vouch for an authentication server at https://, in PEM
    #[arg(long, value_name = "F.pem", requires = "auth")]
    auth_ca: Option<PathBuf>,
    /// Print the addresses of gateways and of what flows through them, instead of eight digits that stand for each until the end
    #[arg(long)]
    log_peers: bool,
    /// Check configuration, key and rules, print what holds, and end
    #[arg(long)]
    check: bool,
}

pub fn run(args: &Args, out: &mut Out) -> Done {
    if args.settings.options {
        let listing = [Role::Backend, Role::Office].map(listing).join("\n");
        return Ok(out.raw(listing.as_bytes())?);
    }
    let dir = args.data.dir()?;
    if args.health.is_some_and(|address| !address.ip().is_loopback()) {
        return Err(Failure::usage(
            "--health: it asks for no credentials, so it is for loopback: 127.0.0.1:7703",
        ));
    }
    let (config, office, made) = configuration(args, &dir)?;
    if let Some(office) = &office {
        check_office(office)?;
    }
    let is_alone = |office: &&Config| matches!(office.text("roles"), "broker" | "balancer");
    if let Some(office) = office.as_ref().filter(is_alone) {
        let others = [args.health.is_some(), args.rules.is_some(), args.auth.is_some()];
        if others.contains(&true) || !args.listen.is_empty() || !args.apps.is_empty() {
            return Err(Failure::usage(format!(
                "a {} has to do with devices and brokers alone: --health, --rules, --auth, --listen and --apps are not for it",
                office.text("roles")
            )));
        }
        if args.check {
            let shown = office.dump(Role::Office);
            let text = format!("[office]\n{shown}# this can be served");
            return Ok(out.either(&json!({ "ok": true, "configuration": shown }), text)?);
        }
        if office.text("roles") == "balancer" {
            let again = || match configuration(args, &dir)? {
                (_, Some(office), _) => Ok(office),
                _ => Err(Failure::usage("the post office is left out")),
            };
            return balancer::run(office, &dir, &again, out);
        }
        return broker::run(office, &dir, out);
    }
    let listens = listens(&config)?;
    let rules = args.rules.as_deref().map(read_rules).transpose()?;
    if args.check {
        let file = PathBuf::from(config.text("identity_file"));
        if !made || file.exists() {
            Identity::load(&file, &file)?;
        }
        if let Some(url) = &args.auth {
            open_authority(&mut Loop::new()?, url, auth_token(args)?.as_deref(), &auth_config(args)?)?;
        }
        let (mut shown, count) = (config.dump(Role::Backend), rules.map_or(0, |rules| rules.rules.len()));
        if let Some(office) = &office {
            shown += &format!("\n[office]\n{}", office.dump(Role::Office));
        }
        return Ok(out.either(
            &json!({ "ok": true, "rules": count, "configuration": shown }),
            format!("[backend]\n{shown}# {count} rules; this can be served"),
        )?);
    }
    dir.make()?;
    let Some(_lock) = dir.lock()? else {
        return Err(Failure::new(format!(
            "another back end serves {}: stop that first",
            dir.path().display()
        )));
    };
    raise_descriptors(config.number("max_gateways"));
    let identity = identity(&config, &dir, made)?;
    let (mut desk, addresses) = Desk::open(&config, office.as_ref())?;
    for (url, address) in listens.iter().zip(&addresses) {
        desk.urls.push(reachable(url, *address, &identity, desk.link_key()).to_string());
    }
    if let Some(rules) = &rules {
        desk.share_rules(rules)?;
        let begun = Instant::now();
        while !desk.has_shared() && begun.elapsed() < DRAIN {
            desk.net.wait(Some(TURN))?;
        }
    }
    if let Some(url) = &args.auth {
        desk.ask(url, auth_token(args)?.as_deref(), &auth_config(args)?)?;
    }
    let inbox = Inbox::open(&desk.net)?;
    control::listen(&dir.socket(), &inbox.speaker(&desk.net))?;
    announce(&desk, &listens, &config, out)?;
    if let Some(address) = args.health {
        let bound = desk.watch_health(address)?;
        let paint = out.paint();
        let url = format!("http://{bound}");
        out.either(
            &json!({ "event": "health", "url": url }),
            format!("{} {url}/metrics", paint.good("health")),
        )?;
        out.flush()?;
        desk.set_ready(true)?;
    }
    // Gateways must not wait for whoever reads what we print.
    out.detach();
    let served = turn(&mut desk, &inbox, (args, &dir, config, office), out);
    // A socket that nobody answers would only mislead.
    let _ = fs::remove_file(dir.socket());
    served
}

fn auth_token(args: &Args) -> Result<Option<String>, Failure> {
    let token = args.auth_token.as_deref().map(read_secret).transpose()?;
    Ok(token.map(|token| token.trim().to_owned()))
}

/// By which authorities an authentication server is known.
fn auth_config(args: &Args) -> Result<Config, Failure> {
    let mut config = Config::new();
    if let Some(path) = &args.auth_ca {
        config.set("ca_file", &path.display().to_string())?;
    }
    Ok(config)
}

/// Turns the loop until a stop is asked for, or nobody reads any more, and the disk has what waits.
fn turn(
    desk: &mut Desk,
    inbox: &Inbox,
    (args, dir, mut config, mut office): (&Args, &DataDir, Config, Option<Config>),
    out: &mut Out,
) -> Done {
    let rules = args.rules.as_deref();
    let mut notify = Notify::open();
    notify.say("READY=1");
    let mut names = names::home()?;
    names.extend(rules.map(read_rules).transpose()?.iter().flat_map(names::of));
    let printer = Printer::new(names);
    let pseudonyms = Pseudonyms::default();
    let mut stopping: Option<Instant> = None;
    let mut reloaded: Vec<String> = Vec::new();
    loop {
        let limit = stopping.map(|_| TURN);
        desk.net.wait(limit.into_iter().chain(notify.limit()).min())?;
        notify.live();
        desk.pass_on()?;
        let mut printed = Ok(());
        while let Some(event) = desk.next_event() {
            let event = if args.log_peers { event } else { pseudonyms.hide(event) };
            printed = printed.and_then(|()| printer.print(&event, out));
        }
        while let Some(word) = inbox.next() {
            match word {
                Word::Stop => {
                    stopping.get_or_insert_with(Instant::now);
                    notify.say("STOPPING=1");
                    desk.set_ready(false)?;
                    desk.leave()?;
                }
                Word::Request(request, reply) => desk.request(&request, reply),
                Word::Reload => {
                    let text = [
                        reload_configuration(desk, args, dir, (&mut config, &mut office)),
                        reload(desk, rules),
                    ];
                    reloaded.push(text.join("; "));
                }
            }
        }
        if desk.has_shared() {
            for text in reloaded.drain(..) {
                printed = printed.and_then(|()| printer.note("reloaded", &text, out));
            }
        }
        let is_over =
            stopping.is_some_and(|since| desk.pending() + desk.sessions() == 0 || since.elapsed() > DRAIN);
        if is_over {
            printed =
                printed.and_then(|()| printer.note("stopped", "what was acknowledged is on the disk", out));
        }
        if printed.and_then(|()| out.flush()).is_err() {
            // Who read has had enough; who waits for an answer or the disk has not.
            out.silence();
            stopping.get_or_insert_with(Instant::now);
            desk.leave()?;
        }
        if is_over {
            return Ok(());
        }
    }
}

/// What holds for the back end and the office: the file, the command line, and the data directory's own. Whether the key is
/// ours to make.
fn configuration(args: &Args, dir: &DataDir) -> Result<(Config, Option<Config>, bool), Failure> {
    let [mut config, mut office] = args.settings.read_all([Role::Backend, Role::Office])?;
    if !args.listen.is_empty() {
        config.set("listen", &args.listen.join(","))?;
    }
    let hub: Vec<String> = args.hub.iter().cloned().collect();
    let roles: Vec<String> = args.roles.iter().cloned().collect();
    for (option, urls) in [
        ("listen_devices", &args.devices),
        ("listen_apps", &args.apps),
        ("listen_inner", &args.inner),
        ("hub", &hub),
        ("balancer", &args.balancer),
        ("roles", &roles),
    ] {
        if !urls.is_empty() {
            office.set(option, &urls.join(","))?;
        }
    }
    let made = config.non_empty("identity_file").is_none();
    if made {
        config.set("identity_file", &dir.identity().display().to_string())?;
    }
    for (config, store) in [(&mut config, dir.store()), (&mut office, dir.office_store())] {
        if config.non_empty("store").is_none() {
            config.set("store", &store.display().to_string())?;
        }
    }
    if office.non_empty("identity_file").is_none() {
        office.set("identity_file", config.text("identity_file"))?;
    }
    if args.auth.is_some() {
        office.set("ask_authentication", "true")?;
    }
    Ok((config, Some(office).filter(|_| args.only.is_none()), made))
}

/// Reads the configuration and the certificate again; what came of it.
fn reload_configuration(
    desk: &mut Desk,
    args: &Args,
    dir: &DataDir,
    (held, office): (&mut Config, &mut Option<Config>),
) -> String {
    let read = configuration(args, dir).and_then(|(new, new_office, _)| {
        let (mut now, mut later) = desk.reload(held, &new)?;
        let file = PathBuf::from(new.text("identity_file"));
        desk.pin(Identity::load(&file, &file)?.key_id());
        // What waits for a restart is named again the next time.
        now.iter().for_each(|name| drop(held.set(name, new.text(name))));
        if let (Some(held), Some(new)) = (office, new_office) {
            let (own, own_later) = desk.reload_office(held, &new)?;
            own.iter().for_each(|name| drop(held.set(name, new.text(name))));
            for (all, own) in [(&mut now, own), (&mut later, own_later)] {
                all.extend(own);
                // Both have the key, and more.
                all.sort_unstable();
                all.dedup();
            }
        }
        Ok((now, later))
    });
    match read {
        Ok((now, later)) => {
            let mut text = "configuration and certificate read again: ".to_owned();
            text += &if now.is_empty() {
                "no option changed".to_owned()
            } else {
                format!("{} changed", now.join(", "))
            };
            if !later.is_empty() {
                text += &format!("; {} after a restart", later.join(", "));
            }
            text
        }
        Err(failure) => {
            warn(&failure.text);
            format!("the configuration stays as it is: {}", failure.text)
        }
    }
}

/// Reads the rules file again; what came of it.
fn reload(desk: &mut Desk, rules: Option<&Path>) -> String {
    let Some(path) = rules else { return "there is no rules file: nothing changed".to_owned() };
    match read_rules(path).and_then(|file| desk.share_rules(&file)) {
        Ok((added, removed)) => format!("rules read again: {added} new, {removed} gone"),
        Err(failure) => {
            warn(&failure.text);
            format!("the rules stay as they are: {}", failure.text)
        }
    }
}

fn announce(desk: &Desk, listens: &[Url], config: &Config, out: &mut Out) -> Done {
    let paint = out.paint();
    for (url, listen) in desk.urls.iter().zip(listens) {
        out.either(
            &json!({ "event": "listening", "url": url }),
            format!("{} {}", paint.good("listening"), paint.strong(url)),
        )?;
        if matches!(listen.scheme, Scheme::Tcp | Scheme::Udp) {
            let group = match config.non_empty("open_group") {
                Some(group) => format!("whoever comes from allow_networks is taken into group {group}"),
                None => "nobody is admitted there until open_group names a group".to_owned(),
            };
            warn(format!("{}:// proves nobody's key and hides nothing; {group}", listen.scheme.name()));
        }
    }
    for (name, urls) in desk
        .post()
        .map(|post| [("devices", &post.devices), ("applications", &post.apps), ("brokers", &post.inner)])
        .into_iter()
        .flatten()
    {
        for url in urls {
            out.either(
                &json!({ "event": "listening", "url": url, "for": name }),
                format!("{} {} for {name}", paint.good("listening"), paint.strong(url)),
            )?;
        }
    }
    Ok(out.flush()?)
}

fn listens(config: &Config) -> Result<Vec<Url>, Failure> {
    let urls: Result<Vec<Url>, _> = config
        .list("listen")
        .map(|text| text.parse().map_err(|fault| Failure::from(fault).about(format!("listen {text}"))))
        .collect();
    let urls = urls?;
    match urls.is_empty() {
        true => Err(Failure::usage("listen is empty: name an address such as tls://127.0.0.1:7700")),
        false => Ok(urls),
    }
}

/// How gateways write it: the real port, and the key to pin, or that of the link.
fn reachable(listen: &Url, address: SocketAddr, identity: &Identity, link: [u8; 32]) -> Url {
    let mut url = Url { port: address.port(), ..listen.clone() };
    match url.scheme {
        Scheme::Tls => url.pins = vec![identity.key_id()],
        Scheme::Hail => url.key = Some(LinkKey(link)),
        _ => {}
    }
    url
}

fn identity(config: &Config, dir: &DataDir, make: bool) -> Result<Identity, Failure> {
    let file = PathBuf::from(config.text("identity_file"));
    if make && !file.exists() {
        let identity = Identity::generate("hailpost backend")?;
        identity.write_private(&dir.identity())?;
        return Ok(identity);
    }
    Ok(Identity::load(&file, &file)?)
}

fn read_rules(path: &Path) -> Result<RulesFile, Failure> {
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
    let file = RulesFile::parse(&text, Limits::default())
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    Ok(file)
}

/// Allows this process a descriptor a gateway, and some.
pub fn raise_descriptors(gateways: u64) {
    let limit = getrlimit(Resource::Nofile);
    let wanted = gateways.saturating_add(64);
    let most = limit.maximum.unwrap_or(u64::MAX);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let raised = wanted.min(most);
    let done = setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: limit.maximum });
    if raised < gateways || done.is_err() {
        warn(format!(
            "{raised} descriptors are allowed, fewer than max_gateways = {gateways} needs: raise `ulimit -n`"
        ));
    }
}
