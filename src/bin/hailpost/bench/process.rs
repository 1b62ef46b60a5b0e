//! A process that is measured from outside.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::failure::Failure;

/// A process that is killed when it is no longer needed.
pub struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    /// Starts it; each line that it prints is to be JSON.
    pub fn start(mut command: Command) -> Result<Process, Failure> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let (sender, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            thread::spawn(move || lines.into_iter().try_for_each(|line| sender.send(line)));
        }
        Ok(Process { child, lines })
    }

    /// The next line that it printed.
    pub fn next(&mut self) -> Result<Value, Failure> {
        let line = self.lines.recv().map_err(|_| Failure::new("a process of the bench ended early"))?;
        serde_json::from_str(&line).map_err(|error| Failure::new(format!("{line}: {error}")))
    }

    /// Forgets what came while nobody listened.
    pub fn skip_old(&mut self) {
        while self.lines.try_recv().is_ok() {}
    }

    /// Processor time of all its threads.
    pub fn cpu(&self) -> Result<Duration, Failure> {
        let mut nanos = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            nanos += text.split(' ').next().and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Octets of memory that it has.
    pub fn memory(&self) -> Result<u64, Failure> {
        memory(&self.child.id().to_string())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// This program, to be run again.
pub fn program() -> Result<Command, Failure> {
    Ok(Command::new(env::current_exe()?))
}

/// Octets of memory that this process has.
pub fn resident() -> Result<u64, Failure> {
    memory("self")
}

fn memory(process: &str) -> Result<u64, Failure> {
    let text = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap_or_default();
    Ok(kib * 1024)
}
