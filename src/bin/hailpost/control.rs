//! What an operator may ask of a back end, over `DIR/control.sock` while it serves, or of its store while it does not.
//!
//! One JSON object a line each way: `{"do": "gateway.list"}` is answered by `{"ok": …}` or `{"error": …, "status": …}`.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use hailpost::{
    config::Config,
    gateway::Enrolment,
    io::KeyId,
    net::{Loop, NodeId, open_backend},
    node::BackendNode,
    recognize::{Limits, Rule, RuleSet},
    status::{Fault, Status},
    time::Time,
    wire::AppId,
};
use serde_json::{Value, json};

use crate::output::Failure;

/// Longest request or answer.
const LINE: u64 = 16 << 20;
/// How long a request may take to come, or to be answered.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request that came in, and where its answer goes.
pub struct Request {
    pub value: Value,
    pub answer: Sender<Value>,
}

/// The socket of a data directory.
pub fn socket_in(data: &Path) -> PathBuf {
    data.join("control.sock")
}

/// The store of a data directory.
pub fn store_in(data: &Path) -> PathBuf {
    data.join("backend.db")
}

/// Listens in the data directory. Requests end the loop's wait.
pub fn listen(data: &Path, waker: Arc<mio::Waker>) -> Result<Receiver<Request>, Failure> {
    let path = socket_in(data);
    let failed = |error| Failure::io(&format!("listening on {}", path.display()), &error);
    // Whoever holds the store's lock owns the directory, so what is there is left over.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).map_err(failed)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        // One at a time: operators are few, and a request is short.
        for stream in listener.incoming().flatten() {
            let _ = converse(stream, &sender, &waker);
        }
    });
    Ok(receiver)
}

fn converse(stream: UnixStream, sender: &Sender<Request>, waker: &mio::Waker) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while lines.by_ref().take(LINE).read_line(&mut line)? > 0 {
        let reply = match serde_json::from_str(&line) {
            Ok(value) => {
                let (answer, answered) = channel();
                if sender.send(Request { value, answer }).is_err() {
                    return Ok(());
                }
                waker.wake()?;
                answered.recv_timeout(PATIENCE).unwrap_or_else(|_| json!({ "error": "the back end is busy" }))
            }
            Err(error) => json!({ "error": format!("a request is one JSON object a line: {error}") }),
        };
        writeln!(&stream, "{reply}")?;
        line.clear();
    }
    Ok(())
}

/// Asks the back end of a data directory: over its socket if it serves, else its store.
pub fn ask(data: &Path, request: &Value) -> Result<Value, Failure> {
    let answer = match UnixStream::connect(socket_in(data)) {
        Ok(stream) => {
            ask_socket(stream, request).map_err(|error| Failure::io("asking the back end", &error))?
        }
        Err(_) => ask_store(data, request)?,
    };
    match answer.get("error").and_then(Value::as_str) {
        None => Ok(answer.get("ok").cloned().unwrap_or(Value::Null)),
        Some(detail) => {
            let number = answer.get("status").and_then(Value::as_i64);
            let status = Status::ALL.iter().find(|status| Some(i64::from(status.number())) == number);
            Err(Failure::new(*status.unwrap_or(&Status::State), detail))
        }
    }
}

fn ask_socket(stream: UnixStream, request: &Value) -> std::io::Result<Value> {
    stream.set_read_timeout(Some(PATIENCE))?;
    writeln!(&stream, "{request}")?;
    let mut line = String::new();
    BufReader::new(stream).take(LINE).read_line(&mut line)?;
    serde_json::from_str(&line).map_err(std::io::Error::from)
}

fn ask_store(data: &Path, request: &Value) -> Result<Value, Failure> {
    if !data.is_dir() {
        let detail = format!("{} is no data directory: make one with hailpost serve --data", data.display());
        return Err(Failure::new(Status::NotFound, detail));
    }
    let mut config = Config::new();
    config.set("listen", "")?;
    config.set("store", &store_in(data).to_string_lossy())?;
    let mut net = Loop::new()?;
    let (backend, _) = open_backend(&mut net, &config)?;
    let answer = answer(&mut net, backend, request);
    // The step commits what was asked for.
    net.step()?;
    Ok(answer)
}

/// Does what a request asks of a back end.
pub fn answer(net: &mut Loop, backend: NodeId, request: &Value) -> Value {
    let done = net.with(backend, |node: &mut BackendNode, now| perform(node, now, request));
    match done.and_then(|result| result) {
        Ok(value) => json!({ "ok": value }),
        Err(fault) => json!({ "error": fault.detail, "status": fault.status.number() }),
    }
}

fn perform(node: &mut BackendNode, now: Time, request: &Value) -> Result<Value, Fault> {
    let text = |name: &str| request.get(name).and_then(Value::as_str).ok_or_else(|| missing(name));
    let group = || request.get("group").and_then(Value::as_str).filter(|group| !group.is_empty());
    let app = || {
        let number = request.get("app").and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok());
        number.map(AppId).ok_or_else(|| missing("app"))
    };
    match text("do")? {
        "status" => Ok(status(node)),
        "gateway.add" => {
            let trusted = request.get("trusted").and_then(Value::as_bool).unwrap_or_default();
            let enrolment = Enrolment {
                name: text("name")?.to_owned(),
                group: text("group")?.to_owned(),
                trusted,
                barred: false,
            };
            let key: KeyId = text("key")?.parse()?;
            node.backend_mut().enrol(key, enrolment).map(Value::from)
        }
        "gateway.list" => Ok(gateways(node)),
        "gateway.remove" => {
            let key = find(node, text("name")?)?;
            node.backend_mut().revoke(key).map(Value::from)
        }
        "gateway.bar" => {
            let key = find(node, text("name")?)?;
            node.backend_mut().deregister(now, key).map(Value::from)
        }
        "gateway.allow" => {
            let key = find(node, text("name")?)?;
            node.backend_mut().allow(key).map(Value::from)
        }
        "rule.add" => {
            let rule = Rule { app: app()?, text: text("pattern")?.to_owned() };
            RuleSet::compile(std::slice::from_ref(&rule), Limits::default())
                .map_err(|error| Fault::new(Status::Pattern, error.fault.to_string()))?;
            node.backend_mut().set_rule(group(), rule.app, rule.text.as_bytes()).map(Value::from)
        }
        "rule.remove" => {
            let pattern = request.get("pattern").and_then(Value::as_str).map(str::as_bytes);
            node.backend_mut().remove_rule(group(), app()?, pattern).map(Value::from)
        }
        "rule.list" => Ok(node
            .backend()
            .rules(group().unwrap_or_default())
            .map(|(app, text)| json!({ "app": app.0, "pattern": String::from_utf8_lossy(text) }))
            .collect()),
        other => Err(Fault::new(Status::Unsupported, format!("a back end does not know how to {other:?}"))),
    }
}

fn gateways(node: &BackendNode) -> Value {
    let online: Vec<_> = node.backend().gateways().filter_map(|gateway| gateway.key).collect();
    let mut enrolled: Vec<_> = node.backend().enrolments().collect();
    enrolled.sort_by(|(_, a), (_, b)| (&a.group, &a.name).cmp(&(&b.group, &b.name)));
    let entry = |(key, enrolment): (&KeyId, &Enrolment)| {
        json!({
            "name": enrolment.name,
            "group": enrolment.group,
            "key": key.to_string(),
            "trusted": enrolment.trusted,
            "barred": enrolment.barred,
            "registered": online.contains(key),
        })
    };
    enrolled.into_iter().map(entry).collect()
}

fn status(node: &BackendNode) -> Value {
    let backend = node.backend();
    let groups: Vec<Value> = backend
        .groups()
        .map(|group| {
            json!({
                "name": group.name,
                "gateways": group.gateways,
                "results": group.results,
                "rules": group.rules,
                "models": group.models,
            })
        })
        .collect();
    let counters: serde_json::Map<String, Value> =
        backend.counters().list().map(|(name, _, value)| (name.to_owned(), value.into())).collect();
    json!({ "groups": groups, "gateways": gateways(node), "pending": backend.pending(), "counters": counters })
}

/// A gateway by name or key.
fn find(node: &BackendNode, name: &str) -> Result<KeyId, Fault> {
    let mut found =
        node.backend().enrolments().filter(|(key, known)| known.name == name || key.to_string() == name);
    let first = found.next().map(|(key, _)| *key);
    match (first, found.next()) {
        (Some(key), None) => Ok(key),
        (Some(_), Some(_)) => Err(Fault::new(
            Status::Invalid,
            format!("several gateways are called {name:?}: say which by its key"),
        )),
        (None, _) => Err(Fault::new(
            Status::NotFound,
            format!("no gateway is called {name:?}: see hailpost gateway list"),
        )),
    }
}

fn missing(name: &str) -> Fault {
    Fault::new(Status::Invalid, format!("the request has no {name:?}, or of the wrong kind"))
}
