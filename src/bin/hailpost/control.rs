//! The control socket: one JSON object a line, each way.
//!
//! While a back end serves, requests go to it over `DIR/control.sock`; while none does, whoever asks opens the store
//! itself and answers alike.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::channel,
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    data::{DataDir, Lock},
    failure::Failure,
    serve::desk::Desk,
    signals::{Speaker, Word},
};

/// The longest request that is read.
const MAX_REQUEST: u64 = 64 * 1024;
/// Connections at once; one more waits.
const MAX_CLIENTS: usize = 16;
/// How long a client may think, or a change wait for the disk.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks the back end of a data directory; answers with what it says, or its refusal as a failure.
pub fn ask(dir: &DataDir, request: &Value) -> Result<Value, Failure> {
    match ask_running(dir, request)? {
        Some(answer) => Ok(answer),
        None => alone(dir, request),
    }
}

/// The same, if a back end serves.
pub fn ask_running(dir: &DataDir, request: &Value) -> Result<Option<Value>, Failure> {
    let about = |error: io::Error| Failure::new(format!("{}: {error}", dir.socket().display()));
    match UnixStream::connect(dir.socket()) {
        Ok(stream) => checked(converse(stream, request).map_err(about)?).map(Some),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            Ok(None)
        }
        Err(error) => Err(about(error)),
    }
}

pub fn checked(answer: Value) -> Result<Value, Failure> {
    match answer.get("error").and_then(Value::as_str) {
        None => Ok(answer),
        Some(text) => {
            let code = answer.get("code").and_then(Value::as_u64).and_then(|code| u8::try_from(code).ok());
            Err(Failure { code: code.unwrap_or(1), text: text.to_owned() })
        }
    }
}

/// An answer that says what went wrong.
pub fn refusal(failure: &Failure) -> Value {
    json!({ "error": failure.text, "code": failure.code })
}

/// Takes requests, each connection in a thread of its own, and passes them to the loop.
pub fn listen(path: &Path, speaker: &Speaker) -> Result<(), Failure> {
    let about = |error: io::Error| Failure::new(format!("cannot listen on {}: {error}", path.display()));
    // Whoever holds the directory's lock owns the socket: one that is left over is nobody's.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(about(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(about)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(about)?;
    let (speaker, clients) = (speaker.clone(), Arc::new(AtomicUsize::new(0)));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                // Out of descriptors, most likely.
                thread::sleep(Duration::from_millis(100));
                continue;
            };
            while clients.load(Ordering::Relaxed) >= MAX_CLIENTS {
                thread::sleep(Duration::from_millis(10));
            }
            clients.fetch_add(1, Ordering::Relaxed);
            let (speaker, clients) = (speaker.clone(), clients.clone());
            thread::spawn(move || {
                // A client that goes away has its reasons.
                let _ = serve_client(stream, &speaker);
                clients.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
    Ok(())
}

fn serve_client(stream: UnixStream, speaker: &Speaker) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut line = Vec::new();
        reader.by_ref().take(MAX_REQUEST).read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Ok(());
        }
        let answer = match serde_json::from_slice(&line) {
            Err(error) => refusal(&Failure::usage(format!("the request is no JSON: {error}"))),
            Ok(request) => {
                let (sender, receiver) = channel();
                if !speaker.say(Word::Request(request, sender)) {
                    return Ok(());
                }
                receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| {
                    refusal(&Failure::new(
                        "the back end has not made it durable yet; it goes on trying: see `hailpost status`",
                    ))
                })
            }
        };
        let mut octets = serde_json::to_vec(&answer)?;
        octets.push(b'\n');
        (&stream).write_all(&octets)?;
    }
}

fn converse(stream: UnixStream, request: &Value) -> io::Result<Value> {
    stream.set_read_timeout(Some(PATIENCE + Duration::from_secs(5)))?;
    let mut octets = serde_json::to_vec(request)?;
    octets.push(b'\n');
    (&stream).write_all(&octets)?;
    let mut line = Vec::new();
    BufReader::new(stream).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::Error::other("the back end ended before it answered: ask again"));
    }
    Ok(serde_json::from_slice(&line)?)
}

/// Does what a back end would, while none serves.
fn alone(dir: &DataDir, request: &Value) -> Result<Value, Failure> {
    let (mut desk, _lock) = open_alone(dir)?;
    desk.answer(request)
}

fn open_alone(dir: &DataDir) -> Result<(Desk, Lock), Failure> {
    if !dir.path().is_dir() {
        return Err(Failure::new(format!(
            "there is no back end at {}: start one with `hailpost serve`, or name its directory with --data",
            dir.path().display()
        )));
    }
    dir.make()?;
    let Some(lock) = dir.lock()? else {
        return Err(Failure::new(format!(
            "the back end at {} is starting or ending: try again",
            dir.path().display()
        )));
    };
    Ok((Desk::alone(dir)?, lock))
}

/// Several requests to the same: a back end that serves, or this process in its place.
pub struct Session<'a> {
    dir: &'a DataDir,
    alone: Option<(Desk, Lock)>,
}

impl Session<'_> {
    /// With the back end of a data directory.
    pub fn new(dir: &DataDir) -> Session<'_> {
        Session { dir, alone: None }
    }

    /// Whether no back end serves.
    pub fn is_alone(&self) -> bool {
        self.alone.is_some()
    }

    /// Asks; answers with what is said, or its refusal as a failure.
    pub fn ask(&mut self, request: &Value) -> Result<Value, Failure> {
        if self.alone.is_none() {
            if let Some(answer) = ask_running(self.dir, request)? {
                return Ok(answer);
            }
            self.alone = Some(open_alone(self.dir)?);
        }
        let (desk, _) = self.alone.as_mut().expect("it was just put there");
        desk.turn()?;
        desk.answer(request)
    }
}
