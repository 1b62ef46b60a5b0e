//! The processes of the demonstration, and what they say.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::story::Ports;
use crate::{failure::Failure, traffic::Pcap};

/// How long anything may take before the demonstration counts as failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// The processes.
pub struct Stage {
    dir: PathBuf,
    /// Gateways that somebody else brings.
    guests: Vec<Guest>,
    cast: BTreeMap<String, Actor>,
    sender: Sender<Line>,
    receiver: Receiver<Line>,
    seen: Vec<Line>,
    stop: Arc<AtomicBool>,
}

/// A gateway that somebody else brings.
pub struct Guest {
    /// Which gateway it is.
    pub name: String,
    /// What it is written in, for people.
    pub kind: String,
    /// A line for the shell.
    pub command: String,
}

/// What a process said.
pub struct Line {
    who: String,
    /// Which of its lives said it.
    life: u32,
    /// An object with `event`.
    pub said: Value,
}

struct Actor {
    child: Child,
    life: u32,
    stdin: Option<Sender<Vec<u8>>>,
}

impl Stage {
    /// Nobody on it yet.
    pub fn new(dir: PathBuf, guests: Vec<Guest>) -> Result<Stage, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, stop.clone())
                .map_err(|error| Failure::new(format!("cannot watch for signals: {error}")))?;
        }
        let (sender, receiver) = channel();
        Ok(Stage { dir, guests, cast: BTreeMap::new(), sender, receiver, seen: Vec::new(), stop })
    }

    /// A file of the demonstration.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Whether somebody else brings this gateway.
    pub fn is_guest(&self, name: &str) -> bool {
        self.guest(name).is_some()
    }

    /// This gateway for people: its name and what it is.
    pub fn title(&self, name: &str) -> String {
        format!("{name} ({})", self.guest(name).map_or("hailpost program", |guest| &guest.kind))
    }

    /// Starts the back end and the post office.
    pub fn serve(&mut self, data: &Path, ports: &Ports) -> Result<(), Failure> {
        let mut command = this_program()?;
        let pause = format!("train_pause_ms={}", super::story::PAUSE.as_millis());
        command.args(["serve", "--json", "--listen", &ports.gateways, "--devices", &ports.devices]);
        command.args(["--apps", &ports.apps, "--set", &pause, "--data"]).arg(data);
        self.start("backend", command)
    }

    /// Starts a device that prints its messages.
    pub fn listen_as(&mut self, name: &str, credential: &Path) -> Result<(), Failure> {
        let mut command = this_program()?;
        command.args(["listen", "--json", "--credential"]).arg(credential);
        self.start(name, command)
    }

    /// Starts a gateway: ours, or the one that was brought.
    pub fn gateway(&mut self, name: &str, url: &str, identity: &Path) -> Result<(), Failure> {
        let command = match self.guest(name) {
            Some(guest) => {
                let mut command = Command::new("sh");
                command.args(["-c", &guest.command]);
                command.env("HAILPOST_BACKEND", url).env("HAILPOST_IDENTITY", identity);
                command.env("HAILPOST_NAME", name).env("HAILPOST_RULES", "home");
                command
            }
            None => {
                let mut command = this_program()?;
                command
                    .args(["gateway", "--json", "--pcap", "-", "--backend", url, "--identity"])
                    .arg(identity);
                for option in ["backoff_ms=200", "backoff_max_ms=1000", "barred_retry_ms=500"] {
                    command.args(["--set", option]);
                }
                command
            }
        };
        self.start(name, command)?;
        self.write(name, Pcap::header().to_vec());
        Ok(())
    }

    /// Gives a gateway frames to see.
    pub fn show(&mut self, name: &str, pcap: &mut Pcap) {
        self.write(name, pcap.records());
    }

    /// Kills a process as a power cut would (SIGKILL).
    pub fn kill(&mut self, name: &str) -> Result<(), Failure> {
        let Some(actor) = self.cast.get_mut(name) else { return Ok(()) };
        let about = |error| Failure::new(format!("cannot kill the {name}: {error}"));
        actor.child.kill().map_err(about)?;
        actor.child.wait().map_err(about)?;
        Ok(())
    }

    /// Its process number.
    pub fn pid(&self, name: &str) -> u32 {
        self.cast.get(name).map_or(0, |actor| actor.child.id())
    }

    /// From here on, for [`Stage::wait`].
    pub fn mark(&self) -> usize {
        self.seen.len()
    }

    /// Waits until `who` has said something like that, since the mark.
    pub fn wait(
        &mut self,
        mark: usize,
        who: &str,
        what: &str,
        is_it: impl Fn(&Value) -> bool,
    ) -> Result<Value, Failure> {
        self.wait_some(mark, who, what, PATIENCE, is_it)?.ok_or_else(|| {
            Failure::new(format!("the {who} did not say in {} s that {what}", PATIENCE.as_secs()))
        })
    }

    /// The same, with a patience of its own; `None` when that is over.
    pub fn wait_some(
        &mut self,
        mark: usize,
        who: &str,
        what: &str,
        patience: Duration,
        is_it: impl Fn(&Value) -> bool,
    ) -> Result<Option<Value>, Failure> {
        let begun = Instant::now();
        let mut next = mark;
        loop {
            if let Some(found) = self.seen[next..].iter().find(|line| line.who == who && is_it(&line.said)) {
                return Ok(Some(found.said.clone()));
            }
            next = self.seen.len();
            if begun.elapsed() > patience {
                return Ok(None);
            }
            self.listen(who, what)?;
        }
    }

    /// What `who` said since the mark.
    pub fn said(&self, mark: usize, who: &str) -> impl Iterator<Item = &Value> {
        self.seen[mark..].iter().filter(move |line| line.who == who).map(|line| &line.said)
    }

    /// Adds what the process wrote to its log.
    pub fn explain(&self, failure: Failure) -> Failure {
        let mut text = failure.text;
        for name in self.cast.keys() {
            let log = fs::read_to_string(self.file(&format!("{name}.log"))).unwrap_or_default();
            for line in log.lines().rev().take(3).collect::<Vec<_>>().into_iter().rev() {
                text += &format!("\n  {name}: {line}");
            }
        }
        Failure { text, ..failure }
    }

    fn guest(&self, name: &str) -> Option<&Guest> {
        self.guests.iter().find(|guest| guest.name == name)
    }

    fn listen(&mut self, who: &str, what: &str) -> Result<(), Failure> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Failure { code: 0, text: "stopped".to_owned() });
        }
        match self.receiver.recv_timeout(Duration::from_millis(50)) {
            Ok(line) => {
                let is_end = line.said["event"] == "(ended)";
                let is_current = self.cast.get(&line.who).is_some_and(|actor| actor.life == line.life);
                if is_end && is_current && line.who == who {
                    return Err(Failure::new(format!("the {who} ended before it said that {what}")));
                }
                if !is_end {
                    self.seen.push(line);
                }
                Ok(())
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Ok(()),
        }
    }

    fn start(&mut self, name: &str, mut command: Command) -> Result<(), Failure> {
        let about = |error: std::io::Error| Failure::new(format!("cannot start the {name}: {error}"));
        let open = |name: String| File::options().create(true).append(true).open(self.file(&name));
        let log = open(format!("{name}.log")).map_err(about)?;
        let mut events = open(format!("{name}.events")).map_err(about)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().map_err(about)?;
        let life = self.cast.get(name).map_or(0, |actor| actor.life) + 1;
        if let Some(stdout) = child.stdout.take() {
            let (sender, who) = (self.sender.clone(), name.to_owned());
            thread::spawn(move || {
                for text in BufReader::new(stdout).lines().map_while(Result::ok) {
                    // For whoever wants to know more than the story tells; it goes on without.
                    let _ = writeln!(events, "{text}");
                    let said = understand(&text);
                    let _ = sender.send(Line { who: who.clone(), life, said });
                }
                let _ = sender.send(Line { who, life, said: json!({ "event": "(ended)" }) });
            });
        }
        let stdin = child.stdin.take().map(|mut stdin| {
            let (sender, receiver) = channel::<Vec<u8>>();
            // One that does not read holds up nobody but this thread.
            thread::spawn(move || {
                for octets in receiver {
                    if stdin.write_all(&octets).and_then(|()| stdin.flush()).is_err() {
                        return;
                    }
                }
            });
            sender
        });
        self.cast.insert(name.to_owned(), Actor { child, life, stdin });
        Ok(())
    }

    fn write(&mut self, name: &str, octets: Vec<u8>) {
        if let Some(stdin) = self.cast.get(name).and_then(|actor| actor.stdin.as_ref()) {
            // Who does not want to see does not have to.
            let _ = stdin.send(octets);
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for actor in self.cast.values_mut() {
            let _ = actor.child.kill();
            let _ = actor.child.wait();
        }
    }
}

pub fn this_program() -> Result<Command, Failure> {
    env::current_exe()
        .map(Command::new)
        .map_err(|error| Failure::new(format!("cannot find this program: {error}")))
}

/// A line of JSON, or of an event's name and then NAME=VALUE for what is known of it; `text` takes the rest of the line.
fn understand(text: &str) -> Value {
    if let Some(value) = serde_json::from_str(text).ok().filter(|value: &Value| value["event"].is_string()) {
        return value;
    }
    let (line, words) = match text.split_once(" text=") {
        Some((line, words)) => (line, Some(words)),
        None => (text, None),
    };
    let mut parts = line.split_whitespace();
    let mut said = json!({ "event": parts.next().unwrap_or_default() });
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        said[name] = value.parse::<u64>().map_or_else(|_| value.into(), Value::from);
    }
    if let Some(words) = words {
        said["text"] = words.into();
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_understood_as_json_and_as_names_with_values() {
        let flow =
            json!({ "event": "flow", "app": 19, "app_name": "netflix", "remote_address": "2001:db8::9" });
        assert_eq!(understand(&flow.to_string()), flow);
        assert_eq!(understand("flow app=19 app_name=netflix remote_address=2001:db8::9"), flow);
        let down = json!({ "event": "down", "text": "lost: pin=x is not y" });
        assert_eq!(understand("down text=lost: pin=x is not y"), down);
        assert_eq!(understand("synced")["event"], "synced");
        assert_eq!(understand("")["event"], "");
    }
}
