//! Running the program.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long anything may take before a test gives up; a loaded machine takes long.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The program with these arguments.
pub fn command<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hailpost"));
    command.args(args).env("NO_COLOR", "1").env_remove("HAILPOST_DATA");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end.
pub fn run(args: &[&str]) -> Output {
    run_with(args, b"")
}

/// Runs it to its end with this on standard input.
pub fn run_with(args: &[&str], input: &[u8]) -> Output {
    let mut command = command(args);
    finish(command.stdin(Stdio::piped()).spawn().expect("the program starts"), input)
}

/// Waits for a process's end; kills one that does not come to it.
pub fn finish(mut child: Child, input: &[u8]) -> Output {
    let pid = Pid::from_child(&child);
    let (stdin, input) = (child.stdin.take(), input.to_vec());
    thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(&input)));
    let (sender, receiver) = channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(PATIENCE) {
        Ok(output) => output.unwrap(),
        Err(_) => {
            kill_process(pid, Signal::KILL).unwrap();
            panic!("it did not end: {:?}", receiver.recv_timeout(PATIENCE));
        }
    }
}

/// Runs it and expects success; what it printed.
pub fn succeed(args: &[&str]) -> String {
    let output = run(args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    stdout(&output)
}

/// What it printed.
pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What it complained about.
pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A line of JSON each.
pub fn objects(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}

/// A process that runs on, and prints a line of JSON an event. It is killed when dropped.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    log: PathBuf,
}

impl Running {
    /// Starts it; what it complains about goes to a file in `dir`.
    pub fn start(dir: &Path, args: &[&str]) -> Running {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let log = dir.join(format!("{count}.log"));
        let file = fs::File::create(&log).unwrap();
        let mut child = command(args).arg("--json").stderr(file).spawn().expect("the program starts");
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Running { child, lines, log }
    }

    /// A back end on this directory; its URL too.
    pub fn serve(dir: &Path, listen: &str, more: &[&str]) -> (Running, String) {
        let data = dir.join("office");
        let mut args = vec!["serve", "--data", data.to_str().unwrap(), "--listen", listen];
        if !more.contains(&"--devices") {
            args.extend(["--only", "backend"]);
        }
        args.extend(more);
        let mut serve = Running::start(dir, &args);
        let url = serve.until(|event| event["event"] == "listening")["url"].as_str().unwrap().to_owned();
        (serve, url)
    }

    /// Reads lines until one is it.
    pub fn until(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        let mut seen = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE.saturating_sub(begun.elapsed())) {
            let value: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
            if is_it(&value) {
                return value;
            }
            seen.push(line);
        }
        let log = fs::read_to_string(&self.log).unwrap();
        panic!("it never came; there was\n{}\nand the complaint {log}", seen.join("\n"));
    }

    /// Waits for an event of this name.
    pub fn event(&mut self, name: &str) -> Value {
        self.until(|event| event["event"] == name)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Kills it as a power cut would, and waits until it is dead: only then is what it held free.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end; how it ended, and what it still printed.
    pub fn end(mut self) -> (ExitStatus, String) {
        let mut rest = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => rest.push(line),
                Err(RecvTimeoutError::Disconnected) => return (self.child.wait().unwrap(), rest.join("\n")),
                Err(RecvTimeoutError::Timeout) => panic!("it did not end; it said\n{}", rest.join("\n")),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The directory of test material beside the project, or where HAILPOST_SHARED says.
pub fn shared(part: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("HAILPOST_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared")), PathBuf::from);
    let dir = shared.join(part);
    if dir.exists() {
        return Some(dir);
    }
    eprintln!("SKIPPED: there is no {} (set HAILPOST_SHARED)", dir.display());
    None
}

/// A key file in `dir`, and its id.
pub fn key(dir: &Path, name: &str) -> (String, String) {
    let file = dir.join(format!("{name}.pem")).to_str().unwrap().to_owned();
    let id = succeed(&["keygen", "--out", &file, "--name", name]).trim().to_owned();
    (file, id)
}
