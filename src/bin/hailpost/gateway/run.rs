//! A gateway that runs.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use hailpost::{
    config::Role,
    net::{Loop, NodeId, open_gateway},
    node::{Event, EventKind, Field, GatewayNode},
    time::Time,
};

use crate::{
    capture::{self, Capture},
    events::Printer,
    failure::{Done, Failure},
    settings::{SettingsArgs, listing},
    signals::{Inbox, Word},
    terminal::{Out, Progress},
};

/// Frames fed before the loop has its turn.
const PORTION: usize = 256;
/// Reports that may wait before feeding does.
const MAX_WAITING: usize = 1024;
/// How long leaving may take.
const LEAVING: Duration = Duration::from_secs(5);

/// Runs a gateway.
#[derive(clap::Args)]
#[group(skip)]
pub struct Args {
    /// Where the back end is: tls://host:7700?pin=HEX, as `serve` prints it
    #[arg(long, value_name = "URL")]
    backend: Option<String>,
    /// Key and certificate (hailpost keygen)
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Recognise the flows of this capture once registered
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
    if let Some(rules) = &args.rules {
        config.set("rules", rules)?;
    }
    // Better to know now than once registered.
    let feed = args.pcap.as_ref().map(|path| Feed::open(path.clone(), args)).transpose()?;
    let mut net = Loop::new()?;
    let node = open_gateway(&mut net, &config)?;
    let inbox = Inbox::open(&net)?;
    let mut running = Running {
        node,
        printer: Printer::new(),
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
            let pause = self.feed.as_ref().filter(|_| self.may_feed(net)).map(Feed::pause);
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
            self.refused = Some(Failure { code: 3, text: format!("the back end refused this gateway: {reason}") });
        }
    }

    fn pending(&self, net: &Loop) -> usize {
        net.get::<GatewayNode>(self.node).map_or(0, |node| node.gateway().pending())
    }

    fn may_feed(&self, net: &Loop) -> bool {
        self.registered
            && self.leaving.is_none()
            && self.feed.is_some()
            && self.pending(net) < MAX_WAITING
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

/// A capture that is being fed.
struct Feed {
    path: PathBuf,
    capture: Capture,
    /// Times that it is to be read after this one; `None` for ever.
    left: Option<u64>,
    realtime: bool,
    /// The capture's time that the next reading begins after.
    base: Time,
    /// When this reading began, by the file and by us.
    start: Option<(Time, Instant)>,
    /// The latest time that was fed.
    latest: Time,
    /// Of a frame that waits for its time.
    next: Option<(Duration, hailpost::wire::packet::LinkType, Vec<u8>)>,
    frames: u64,
    progress: Progress,
}

impl Feed {
    fn open(path: PathBuf, args: &Args) -> Result<Feed, Failure> {
        let capture = capture::open(&path)?;
        if args.repeat != 1 && capture.len.is_none() {
            return Err(Failure::usage(format!("{} can be read only once: leave out --repeat", path.display())));
        }
        let progress = Progress::new("capture", capture.len.filter(|_| args.repeat == 1));
        Ok(Feed {
            path,
            capture,
            left: (args.repeat > 0).then(|| args.repeat - 1),
            realtime: args.realtime,
            base: Time::ZERO,
            start: None,
            latest: Time::ZERO,
            next: None,
            frames: 0,
            progress,
        })
    }

    /// How long until there is something to feed.
    fn pause(&self) -> Duration {
        match (&self.next, self.start) {
            (Some((since, ..)), Some((_, begun))) if self.realtime => since.saturating_sub(begun.elapsed()),
            _ => Duration::ZERO,
        }
    }

    /// Feeds some frames. Says how it ended when it has.
    fn portion(&mut self, node: &mut GatewayNode, now: Time) -> Result<Option<String>, Failure> {
        for _ in 0..PORTION {
            let (since, link, frame) = match self.next.take() {
                Some(next) => next,
                None => match self.capture.reader.next_record() {
                    Ok(Some(record)) => {
                        if self.frames.is_multiple_of(1024) {
                            self.progress.at(record.offset);
                        }
                        let (first, _) = *self.start.get_or_insert_with(|| (record.time, Instant::now()));
                        (record.time.since(first), record.link_type, record.frame.to_vec())
                    }
                    Ok(None) => match self.again(node, now)? {
                        true => continue,
                        false => return Ok(Some(self.ended(""))),
                    },
                    Err(error) => {
                        node.finish(now)?;
                        return Ok(Some(self.ended(&format!(", then {error}"))));
                    }
                },
            };
            if self.realtime && self.start.is_some_and(|(_, begun)| begun.elapsed() < since) {
                self.next = Some((since, link, frame));
                break;
            }
            // A capture's clock may go back; ours does not.
            self.latest = self.latest.max(self.base + since);
            self.frames += 1;
            // What is no IP packet is counted by the recogniser; it stops nothing.
            let _ = node.feed_captured(now, self.latest, link, &frame);
        }
        Ok(None)
    }

    /// Begins the next reading, if there is one.
    fn again(&mut self, node: &mut GatewayNode, now: Time) -> Result<bool, Failure> {
        node.finish(now)?;
        if self.left == Some(0) {
            return Ok(false);
        }
        self.left = self.left.map(|left| left - 1);
        self.capture = capture::open(&self.path)?;
        self.base = self.latest + Duration::from_secs(1);
        self.start = None;
        Ok(true)
    }

    fn ended(&self, how: &str) -> String {
        format!("{} frames of {} were read{how}", self.frames, self.path.display())
    }
}
