//! `serve`.

use std::{
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;
use hailpost::{
    config::{Config, Role},
    net::{Loop, open_backend},
    status::Status,
};

use crate::{
    control, keygen,
    output::{self, Failure, Output},
    signals::{self, Wish},
};

/// How long a stop waits for what is under way.
const DRAIN: Duration = Duration::from_secs(2);

/// A back end: admits gateways, shares what they see, trains rules.
///
/// The data directory holds its key (backend.pem), its store (backend.db) and its control socket. TERM or Ctrl-C ends it
/// in order.
#[derive(Args)]
#[command(after_help = "Example:\n  hailpost serve --data office --set listen=tls://0.0.0.0:7700")]
pub struct Serve {
    /// Data directory; made, with a key, when it is not there
    #[arg(long, value_name = "DIR", default_value = "hailpost-data")]
    data: PathBuf,
    /// TOML file with a [backend] section; the keys are the names of docs/options.md
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One option, over the file
    #[arg(long = "set", value_name = "NAME=VALUE")]
    options: Vec<String>,
    /// Check the configuration, print it, and end
    #[arg(long)]
    check: bool,
    /// One JSON object an event
    #[arg(long)]
    json: bool,
}

impl Serve {
    pub fn run(self) -> Result<(), Failure> {
        let mut config = Config::new();
        if let Some(path) = &self.config {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::io(&format!("reading {}", path.display()), &error))?;
            config.load(&text, Role::Backend).map_err(|fault| {
                Failure::new(fault.status, format!("{}: {}", path.display(), fault.detail))
            })?;
        }
        set_options(&mut config, &self.options)?;
        let mut out = Output::new();
        if self.check {
            out.line(config.dump(Role::Backend).trim_end())?;
            return out.flush();
        }
        make_directory(&self.data)?;
        if config.non_empty("store").is_none() {
            config.set("store", &control::store_in(&self.data).to_string_lossy())?;
        }
        let uses_tls = config.list("listen").any(|url| url.starts_with("tls://"));
        if uses_tls && config.non_empty("identity_file").is_none() && config.secret("identity_pem").is_none()
        {
            let path = self.data.join("backend.pem");
            let identity = keygen::identity_at(&path, "hailpost backend")?;
            config.set("identity_file", &path.to_string_lossy())?;
            out.line(&format!("pin {}", identity.key_id()))?;
        }
        let mut net = Loop::new()?;
        let (backend, addresses) = open_backend(&mut net, &config)?;
        let requests = control::listen(&self.data, net.waker())?;
        let wishes = signals::listen(net.waker())?;
        for (url, address) in config.list("listen").zip(&addresses) {
            let scheme = url.split("://").next().unwrap_or_default();
            out.line(&format!("listening on {scheme}://{address}"))?;
        }
        out.flush()?;
        let mut ends = None;
        loop {
            net.wait(Some(Duration::from_secs(1)))?;
            while let Some((_, event)) = net.next_event() {
                output::event(&mut out, &event, self.json)?;
            }
            for request in requests.try_iter() {
                let answer = control::answer(&mut net, backend, &request.value);
                // Nobody waits for it any more: that is theirs to know.
                let _ = request.answer.send(answer);
            }
            if wishes.try_iter().any(|wish| wish == Wish::Stop) {
                ends.get_or_insert_with(|| Instant::now() + DRAIN);
            }
            let node: Option<&hailpost::node::BackendNode> = net.get(backend);
            let is_idle = node.is_none_or(|node| node.backend().pending() == 0);
            if ends.is_some_and(|end| is_idle || Instant::now() >= end) {
                let _ = std::fs::remove_file(control::socket_in(&self.data));
                return Ok(());
            }
        }
    }
}

/// Sets options of the command line.
pub fn set_options(config: &mut Config, options: &[String]) -> Result<(), Failure> {
    for option in options {
        let (name, value) = option
            .split_once('=')
            .ok_or_else(|| Failure::new(Status::Config, format!("--set {option}: write NAME=VALUE")))?;
        config.set(name.trim(), value.trim())?;
    }
    Ok(())
}

/// A directory that is nobody else's business.
fn make_directory(path: &Path) -> Result<(), Failure> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Failure::io(&format!("making {}", path.display()), &error))
}
