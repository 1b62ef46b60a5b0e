//! A gateway that runs.

use std::{
    io::Read,
    path::PathBuf,
    time::{Duration, Instant},
};

use hailpost::{
    config::Role,
    net::{Loop, NodeId, open_gateway},
    node::{Event, EventKind, Field, GatewayNode},
};

use super::feed::Feed;
use crate::{
    events::Printer,
    failure::{Done, Failure},
    names,
    settings::{SettingsArgs, listing},
    signals::{Inbox, Nudge, Word},
    terminal::Out,
};

/// Reports that may wait before feeding does.
const MAX_WAITING: usize = 1024;
/// How long leaving may take.
const LEAVING: Duration = Duration::from_secs(5);

/// Runs a gateway.
#[derive(clap::Args)]
#[group(skip)]
pub struct Args {
    /// Where the back end is: tls://host:7700?pin=HEX or hail://host:7704?key=KEY, as `serve` prints it
    #[arg(long, value_name = "URL")]
    backend: Option<String>,
    /// Key and certificate (hailpost keygen)
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// The line that `gateway add --link` printed, in a file of mode 0600: logs in on hail://. Names the back end too
    #[arg(long, value_name = "FILE", conflicts_with_all = ["identity", "enrol"])]
    credential: Option<PathBuf>,
    /// The line that `gateway token` printed, in a file of mode 0600; - for standard input. Names the back end too
    #[arg(long, value_name = "FILE")]
    enrol: Option<PathBuf>,
    /// Recognise the flows of this capture once registered; - for standard input
    #[arg(long, value_name = "F.pcap")]
    pcap: Option<PathBuf>,
    /// Read the capture so many times; 0 for ever
    #[arg(long, value_name = "N", default_value_t = 1, requires = "pcap")]
    repeat: u64,
    /// Feed the capture as fast as it was recorded, not as fast as it can be read
    #[arg(long, requires = "pcap")]
    realtime: bool,
    /// Recognise by the rules of this file; `none` leaves recognition out
    #[arg(long, value_name = "F.toml")]
    rules: Option<String>,
    /// End when all is acknowledged that there was to report, or when the back end refuses
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

pub fn run(args: &Args, out: &mut Out) -> Done {
    if args.settings.options {
        return Ok(out.raw(listing(Role::Gateway).as_bytes())?);
    }
    let mut config = args.settings.read(Role::Gateway)?;
    if let Some(backend) = &args.backend {
        config.set("backend", backend)?;
    }
    if let Some(identity) = &args.identity {
        config.set("identity_file", &identity.display().to_string())?;
    }
    if let Some(credential) = &args.credential {
        config.set("credential_file", &credential.display().to_string())?;
    }
    match &args.enrol {
        Some(path) if path.as_os_str() == "-" => {
            let mut line = Vec::new();
            std::io::stdin().lock().take(4096).read_to_end(&mut line)?;
            config.set_bytes("enrol_token", &line)?;
        }
        Some(path) => config.set("enrol_token_file", &path.display().to_string())?,
        None => {}
    }
    if let Some(rules) = &args.rules {
        config.set("rules", rules)?;
    }
    let mut net = Loop::new()?;
    let inbox = Inbox::open(&net)?;
    // Better to know now than once registered what is wrong with the file.
    let nudge = Nudge::of(&net);
    let feed =
        args.pcap.clone().map(|path| Feed::open(path, args.repeat, args.realtime, nudge)).transpose()?;
    let node = open_gateway(&mut net, &config)?;
    let names = names::home()?;
    let mut running = Running {
        node,
        printer: Printer::new(names),
        feed,
        once: args.once,
        registered: false,
        leaving: None,
        refused: None,
    };
    running.turn(&mut net, &inbox, out)
}

struct Running {
    node: NodeId,
    printer: Printer,
    /// The capture, until it is read.
    feed: Option<Feed>,
    once: bool,
    registered: bool,
    leaving: Option<Instant>,
    refused: Option<Failure>,
}

impl Running {
    fn turn(&mut self, net: &mut Loop, inbox: &Inbox, out: &mut Out) -> Done {
        loop {
            let may_feed = self.may_feed(net);
            let pause = self.feed.as_mut().filter(|_| may_feed).and_then(Feed::pause);
            net.wait(pause.or(self.leaving.map(|_| Duration::from_millis(50))))?;
            while let Some((_, event)) = net.next_event() {
                self.saw(&event);
                self.printer.print(&event, out)?;
            }
            out.flush()?;
            while let Some(word) = inbox.next() {
                if matches!(word, Word::Stop) {
                    self.leave(net)?;
                }
            }
            if self.may_feed(net) {
                self.feed(net, out)?;
            }
            if let Some(failure) = self.refused.take_if(|_| self.once) {
                return Err(failure);
            }
            if self.once && self.registered && self.feed.is_none() && self.pending(net) == 0 {
                self.leave(net)?;
            }
            match self.leaving {
                Some(_) if !self.registered => return Ok(()),
                Some(since) if since.elapsed() > LEAVING => return Ok(()),
                _ => {}
            }
        }
    }

    fn saw(&mut self, event: &Event) {
        match event.kind() {
            EventKind::Synced => self.registered = true,
            EventKind::Refused | EventKind::Deregistered | EventKind::Down => self.registered = false,
            _ => {}
        }
        if event.kind() == EventKind::Refused {
            let reason = event.text(Field::Text).unwrap_or_default();
            self.refused =
                Some(Failure { code: 3, text: format!("the back end refused this gateway: {reason}") });
        }
    }

    fn pending(&self, net: &Loop) -> usize {
        net.get::<GatewayNode>(self.node).map_or(0, |node| node.gateway().pending())
    }

    fn may_feed(&self, net: &Loop) -> bool {
        self.registered && self.leaving.is_none() && self.feed.is_some() && self.pending(net) < MAX_WAITING
    }

    fn leave(&mut self, net: &mut Loop) -> Done {
        if self.leaving.is_none() {
            self.leaving = Some(Instant::now());
            net.with(self.node, |node: &mut GatewayNode, now| node.gateway_mut().leave(now))?;
        }
        Ok(())
    }

    fn feed(&mut self, net: &mut Loop, out: &mut Out) -> Done {
        let Some(feed) = &mut self.feed else { return Ok(()) };
        let end = net.with(self.node, |node: &mut GatewayNode, now| feed.portion(node, now))??;
        if let Some(end) = end {
            self.feed = None;
            self.printer.note("capture", &end, out)?;
        }
        Ok(())
    }
}
