//! `hailpost demo`: the whole story on loopback.

mod post;
mod stage;
mod story;

use std::{
    env, fs,
    io::{self, IsTerminal},
    path::PathBuf,
    process, thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    data::DataDir,
    failure::{Done, Failure},
    terminal::Out,
    traffic,
};
use stage::{Guest, Stage};

/// Between two steps, when somebody looks.
const READING: Duration = Duration::from_millis(1500);

/// The whole story on loopback in under a minute, each step told as it happens.
///
/// A back end and three gateways (kitchen, hall, attic), each a process of its own: a capture is recognised in the
/// kitchen, the others learn of it; a camera that changes its ways makes the back end train and send a new rule; the
/// back end is killed and comes back; a gateway is taken off. Then two phones: one sleeps, is written to, the post office is killed,
/// and the phone wakes. Nothing leaves this machine, and nothing stays on it.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  hailpost demo
  hailpost demo --gateway 'kitchen:C=build/demo/home_gateway backend=\"$HAILPOST_BACKEND\" identity_file=\"$HAILPOST_IDENTITY\"'
  hailpost demo --capture evening.pcap && hailpost recognize evening.pcap

A COMMAND is run by the shell as the gateway of that name, with HAILPOST_BACKEND (the URL), HAILPOST_IDENTITY (the PEM file) and
HAILPOST_RULES=home in its environment and, in the kitchen, a live capture (pcap) on standard input. It prints a line an
event to standard output: the JSON of `hailpost gateway --json`, or the event's name and then its members as NAME=VALUE
(app, app_name, how, remote_address, remote_port). The KIND is for people: what the command is written in.")]
pub struct Args {
    /// Run this as one of the gateways kitchen, hall and attic; may be repeated
    #[arg(long, value_name = "NAME[:KIND]=COMMAND")]
    gateway: Vec<String>,
    /// Keep keys, store and logs in this directory, which must not be there yet
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Only write the capture that the kitchen sees, and end
    #[arg(long, value_name = "F.pcap", conflicts_with_all = ["gateway", "keep"])]
    capture: Option<PathBuf>,
}

pub fn run(args: &Args, out: &mut Out) -> Done {
    if let Some(path) = &args.capture {
        let mut pcap = traffic::evening();
        fs::write(path, pcap.file())
            .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))?;
        let shown = path.display().to_string();
        return Ok(out.either(
            &json!({ "file": shown, "frames": pcap.len() }),
            format!("{} frames in {shown}", pcap.len()),
        )?);
    }
    let guests = args.gateway.iter().map(|given| guest(given)).collect::<Result<Vec<_>, _>>()?;
    let dir = match &args.keep {
        Some(dir) => dir.clone(),
        None => env::temp_dir().join(format!("hailpost-demo-{}", process::id())),
    };
    if dir.exists() {
        return Err(Failure::usage(format!("{} is there already: name another directory", dir.display())));
    }
    let data = DataDir::at(dir.join("backend"));
    data.make()?;
    let told = Stage::new(dir.clone(), guests).and_then(|mut stage| {
        let mut teller = Teller { out, step: 0, begun: Instant::now() };
        let told = story::tell(&mut stage, &data, &mut teller);
        told.map_err(|failure| stage.explain(failure))
    });
    if args.keep.is_none() {
        // What cannot be removed is only temporary files.
        let _ = fs::remove_dir_all(&dir);
    }
    told
}

/// NAME[:KIND]=COMMAND.
fn guest(given: &str) -> Result<Guest, Failure> {
    let read = || {
        let (who, command) = given.split_once('=')?;
        let (name, kind) = who.split_once(':').unwrap_or((who, "brought from outside"));
        let (name, kind, command) = (name.to_owned(), kind.to_owned(), command.to_owned());
        story::GATEWAYS.contains(&name.as_str()).then_some(Guest { name, kind, command })
    };
    read().ok_or_else(|| {
        Failure::usage(format!("--gateway {given}: write kitchen=, hall= or attic= and a command"))
    })
}

/// Tells the steps.
pub struct Teller<'o> {
    out: &'o mut Out,
    step: u32,
    begun: Instant,
}

impl Teller<'_> {
    /// The next step begins.
    pub fn step(&mut self, title: &str) -> Done {
        if self.step > 0 && io::stdout().is_terminal() {
            // It all takes a moment; people want to read along.
            thread::sleep(READING);
        }
        self.step += 1;
        let paint = self.out.paint();
        let line = format!("\n{:>2}  {}", self.step, paint.strong(title));
        self.tell(json!({ "title": title }), &line)
    }

    /// Something of the step happened.
    pub fn say(&mut self, text: &str) -> Done {
        let since = format!("{:6.1} s", self.begun.elapsed().as_secs_f64());
        let line = format!("{}  {text}", self.out.paint().faint(since));
        self.tell(json!({ "text": text }), &line)
    }

    /// A line that belongs to the last.
    pub fn detail(&mut self, text: &str) -> Done {
        let line = format!("          {}", self.out.paint().name(text));
        self.tell(json!({ "text": text }), &line)
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    fn tell(&mut self, mut value: serde_json::Value, line: &str) -> Done {
        value["step"] = self.step.into();
        value["seconds"] = json!((self.begun.elapsed().as_millis() as f64) / 1000.0);
        self.out.either(&value, line)?;
        Ok(self.out.flush()?)
    }
}
