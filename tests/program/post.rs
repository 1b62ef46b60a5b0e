//! The post office as people and scripts use it.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        atomic::{AtomicU16, Ordering},
        mpsc,
    },
    thread,
};

use rustix::process::Signal;
use serde_json::Value;

use crate::running::{Running, objects, run, stderr, stdout, succeed};

/// A port that is free, and that no client is given meanwhile: an office that was killed needs it again.
pub fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let number = (std::process::id() % 500) as u16 * 40 + NEXT.fetch_add(1, Ordering::Relaxed);
        let address = ("127.0.0.1", 10_000 + number % 20_000);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return address.1;
        }
    }
}

struct House {
    dir: tempfile::TempDir,
    serve: Running,
    /// Where gateways, devices and applications come in.
    urls: [String; 3],
}

impl House {
    fn new() -> House {
        let dir = tempfile::tempdir().unwrap();
        let [gateways, devices, apps] =
            ["tls", "hail", "tcp"].map(|scheme| format!("{scheme}://127.0.0.1:{}", port()));
        let (serve, urls) = House::serve(dir.path(), [&gateways, &devices, &apps]);
        House { dir, serve, urls }
    }

    fn serve(dir: &Path, listens: [&str; 3]) -> (Running, [String; 3]) {
        let [gateways, devices, apps] = listens;
        let (mut serve, url) = Running::serve(dir, gateways, &["--devices", devices, "--apps", apps]);
        let mut url_for = |whom: &str| -> String {
            let said = serve.until(|event| event["for"] == whom);
            said["url"].as_str().unwrap().to_owned()
        };
        let urls = [url, url_for("devices"), url_for("applications")];
        (serve, urls)
    }

    /// kill -9, and again on the same ports.
    fn restart(&mut self) {
        self.serve.kill();
        let bare: Vec<String> =
            self.urls.iter().map(|url| url.split('?').next().unwrap().to_owned()).collect();
        let (serve, urls) = House::serve(self.dir.path(), [&bare[0], &bare[1], &bare[2]]);
        assert_eq!(urls, self.urls, "the keys are the same too");
        self.serve = serve;
    }

    fn at(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn data(&self) -> String {
        self.at("office")
    }

    /// Gives a user a device; its credential file, and its session.
    fn enrol(&self, user: &str) -> (String, String) {
        let said = &objects(&succeed(&["device", "add", user, "--data", &self.data(), "--json"]))[0];
        let file = self.at(&format!("{user}.line"));
        fs::write(&file, said["line"].as_str().unwrap()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        (file, said["session"].as_str().unwrap().to_owned())
    }
}

pub fn bodies(said: &str) -> Vec<String> {
    let messages = objects(said).into_iter().filter(|event| event["event"] == "message");
    messages.map(|event| event["body"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_is_sent_is_kept_over_kill_9_and_printed_once() {
    let mut house = House::new();
    for user in ["anna", "ben"] {
        succeed(&["user", "add", user, "--data", &house.data()]);
    }
    let ((anna, _), (ben, session)) = (house.enrol("anna"), house.enrol("ben"));
    for body in ["one", "two", "three"] {
        assert_eq!(succeed(&["send", "user:anna", body, "--credential", &ben]).trim(), "stored");
    }
    house.restart();
    let first = succeed(&["listen", "--credential", &anna, "--count", "2", "--json"]);
    assert_eq!(bodies(&first), ["one", "two"]);
    house.restart();
    let rest = succeed(&["listen", "--credential", &anna, "--count", "1", "--json"]);
    assert_eq!(bodies(&rest), ["three"], "what was printed is not printed again");

    let presence = succeed(&["presence", "anna", "ben", "--credential", &ben, "--json"]);
    let online: Vec<Value> = objects(&presence).iter().map(|event| event["online"].clone()).collect();
    assert_eq!(online, [Value::Bool(false), Value::Bool(true)]);

    succeed(&["device", "revoke", &session, "--data", &house.data()]);
    let refused = run(&["send", "user:anna", "four", "--credential", &ben]);
    assert_eq!(refused.status.code(), Some(3), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("enrol the device again"), "{}", stderr(&refused));
    let status = &objects(&succeed(&["status", "--data", &house.data(), "--json"]))[0];
    assert_eq!(status["office"]["waiting"], 0);
    assert_eq!(status["counters"]["hub"]["unreadable"], 0);
}

/// DECISIONS 1: add, rotate, revoke, remove.
#[test]
fn accounts_are_listed_renewed_and_removed() {
    let mut house = House::new();
    let data = house.data();
    let with = |args: &[&str]| succeed(&[args, &["--data", &data]].concat());
    let list = |what: &str| objects(&with(&[what, "list", "--json"]));
    for user in ["anna", "ben", "carl"] {
        with(&["user", "add", user]);
    }
    let ((anna, session), (ben, _)) = (house.enrol("anna"), house.enrol("ben"));
    let users = list("user");
    assert_eq!(users.len(), 3);
    assert_eq!((&users[0]["name"], &users[0]["devices"]), (&"anna".into(), &1.into()));
    let secret = with(&["app", "add", "news", "--send"]);
    assert!(with(&["app", "list"]).contains("news"), "{}", with(&["app", "list"]));

    // Another credential for the same device: what waits is handed to the new one alone, after a restart too.
    succeed(&["send", "user:anna", "waits", "--credential", &ben]);
    let devices = objects(&with(&["device", "list", "anna", "--json"]));
    assert_eq!((&devices[0]["session"], &devices[0]["waiting"]), (&session.as_str().into(), &1.into()));
    let line = with(&["device", "rotate", &session]);
    for restarts in [false, true] {
        if restarts {
            house.restart();
        }
        let old = run(&["listen", "--credential", &anna, "--count", "1"]);
        assert_eq!(old.status.code(), Some(3), "{}", stderr(&old));
    }
    let renewed = house.at("renewed.line");
    fs::write(&renewed, line.trim()).unwrap();
    fs::set_permissions(&renewed, fs::Permissions::from_mode(0o600)).unwrap();
    let said = succeed(&["listen", "--credential", &renewed, "--count", "1", "--json"]);
    assert_eq!(bodies(&said), ["waits"]);

    let renewed = with(&["app", "rotate", "news"]);
    assert_ne!(renewed, secret);
    let auth = |secret: &str| {
        let mut typed = TcpStream::connect(house.urls[2].strip_prefix("tcp://").unwrap()).unwrap();
        typed.write_all(format!("AUTH news {}\n", secret.trim()).as_bytes()).unwrap();
        let mut said = [0; 10];
        typed.read_exact(&mut said).unwrap();
        (typed, String::from_utf8_lossy(&said).into_owned())
    };
    assert_eq!(auth(&secret).1, "HP/1 401 U".to_owned());
    let (mut typed, said) = auth(&renewed);
    assert_eq!(said, "HP/1 200 O");
    with(&["app", "remove", "news"]);
    let mut rest = Vec::new();
    typed.read_to_end(&mut rest).unwrap();
    assert_eq!(list("app").len(), 0);

    succeed(&["send", "user:anna", "to nobody", "--credential", &ben]);
    with(&["user", "remove", "anna"]);
    assert_eq!((list("user").len(), list("device").len()), (2, 1));
    let gone = run(&["listen", "--credential", &house.at("renewed.line"), "--count", "1"]);
    assert_eq!(gone.status.code(), Some(3), "{}", stderr(&gone));
    let status = &objects(&with(&["status", "--json"]))[0];
    assert_eq!(status["office"]["waiting"], 0);
    // By that name there can be somebody else.
    with(&["user", "add", "anna"]);
    for (args, text) in [
        (&["user", "remove", "nobody"][..], "there is no user nobody"),
        (&["app", "remove", "news"], "there is no application news"),
        (&["app", "rotate", "news"], "there is no application news"),
        (&["device", "rotate", &session], "there is no device"),
        (&["device", "list", "nobody"], "there is no user nobody"),
    ] {
        let wrong = run(&[args, &["--data", &data]].concat());
        assert!(!wrong.status.success() && stderr(&wrong).contains(text), "{args:?}: {}", stderr(&wrong));
    }
}

#[test]
fn a_stop_sends_devices_away_and_hup_puts_options_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("office.toml");
    fs::write(&file, "[office]\nmax_waiting = 2\n").unwrap();
    let (devices, apps) = (format!("hail://127.0.0.1:{}", port()), "tcp://127.0.0.1:0");
    let more = ["--devices", &devices, "--apps", apps, "--config", file.to_str().unwrap()];
    let (mut serve, _) = Running::serve(dir.path(), "tls://127.0.0.1:0", &more);
    let data = dir.path().join("office").to_str().unwrap().to_owned();
    let mut lines = Vec::new();
    for user in ["anna", "ben"] {
        succeed(&["user", "add", user, "--data", &data]);
        let file = dir.path().join(user).to_str().unwrap().to_owned();
        fs::write(&file, succeed(&["device", "add", user, "--data", &data]).trim()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        lines.push(file);
    }
    let send = || succeed(&["send", "user:anna", "x", "--credential", &lines[1]]).trim().to_owned();
    assert_eq!([send(), send()], ["stored", "stored"]);
    assert_ne!(send(), "stored", "the third is too many");
    let count = |kind: &str| {
        objects(&succeed(&["status", "--data", &data, "--json"]))[0]["counters"]["hub"][kind].clone()
    };
    assert_eq!(count("stale_devices"), 1);
    fs::write(&file, "[office]\nmax_waiting = 5\nlisten_apps = [\"tcp://127.0.0.1:1\"]\n").unwrap();
    serve.signal(Signal::HUP);
    let said = serve.event("reloaded")["text"].as_str().unwrap().to_owned();
    assert!(said.contains("max_waiting changed"), "{said}");

    let mut listens = Running::start(dir.path(), &["listen", "--credential", &lines[0]]);
    listens.until(|event| event["event"] == "welcome" || event["event"] == "logged_in");
    assert_eq!([send(), send(), send()].map(|said| said != "dropped"), [true; 3]);
    serve.signal(Signal::TERM);
    let (status, rest) = serve.end();
    assert!(status.success(), "{rest}");
    // A disk that takes its time may have cost it a session before.
    listens.until(|event| event["text"].as_str().is_some_and(|text| text.contains("about to stop")));
}

/// OM-03.
#[test]
fn a_backup_is_made_while_it_serves_and_while_it_does_not() {
    let mut house = House::new();
    for user in ["anna", "ben"] {
        succeed(&["user", "add", user, "--data", &house.data()]);
    }
    let ((anna, _), (ben, _)) = (house.enrol("anna"), house.enrol("ben"));
    let send = |body: &str| succeed(&["send", "user:anna", body, "--credential", &ben]);
    send("one");
    let (serving, alone) = (house.at("serving.db"), house.at("alone.db"));
    let said = succeed(&["backup", &serving, "--data", &house.data()]);
    assert!(said.contains(&serving), "{said}");
    assert_eq!(fs::metadata(&serving).unwrap().permissions().mode() & 0o777, 0o600);
    for (file, text) in [(&serving, "is there already"), (&house.at("none/copy.db"), "none/copy.db.part")] {
        let wrong = run(&["backup", file, "--data", &house.data()]);
        assert_eq!(wrong.status.code(), Some(1));
        assert!(stderr(&wrong).contains(text), "{}", stderr(&wrong));
    }
    send("two");
    house.serve.kill();
    let said = succeed(&["backup", &alone, "--data", &house.data(), "--json"]);
    assert_eq!(objects(&said)[0]["octets"], fs::metadata(&alone).unwrap().len());

    // Back to each.
    for (file, bodies_left) in [(&serving, vec!["one"]), (&alone, vec!["one", "two"])] {
        for name in ["office.db", "office.db-wal"] {
            let _ = fs::remove_file(Path::new(&house.data()).join(name));
        }
        fs::copy(file, Path::new(&house.data()).join("office.db")).unwrap();
        house.restart();
        let count = bodies_left.len().to_string();
        let store = format!("{file}.anna");
        let listen = ["listen", "--credential", &anna, "--count", &count, "--store", &store, "--json"];
        assert_eq!(bodies(&succeed(&listen)), bodies_left);
        house.serve.kill();
    }
}

#[test]
fn what_finds_no_office_waits_in_the_outbox() {
    let house = House::new();
    // Accounts can be made while nobody serves, too, but for the address.
    succeed(&["user", "add", "anna", "--data", &house.data()]);
    let (anna, _) = house.enrol("anna");
    house.serve.signal(Signal::TERM);
    let House { dir, serve, urls } = house;
    let (status, _) = serve.end();
    assert!(status.success());
    let data = dir.path().join("office").to_str().unwrap().to_owned();
    succeed(&["user", "add", "ben", "--data", &data]);
    let nowhere = run(&["device", "add", "ben", "--data", &data]);
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(stderr(&nowhere).contains("--office"), "{}", stderr(&nowhere));
    succeed(&["device", "add", "ben", "--office", &urls[1], "--data", &data]);
    let waits = run(&["send", "user:anna", "later", "--credential", &anna, "--wait", "0"]);
    assert_eq!(stdout(&waits).trim(), "in the outbox", "{}", stderr(&waits));
    let late = run(&["send", "user:anna", "later still", "--credential", &anna, "--wait", "1"]);
    assert_eq!(late.status.code(), Some(1), "{}", stdout(&late));

    let bare: Vec<String> = urls.iter().map(|url| url.split('?').next().unwrap().to_owned()).collect();
    let (_serve, _) = House::serve(dir.path(), [&bare[0], &bare[1], &bare[2]]);
    let said = succeed(&["listen", "--credential", &anna, "--count", "2", "--json"]);
    assert_eq!(bodies(&said), ["later", "later still"]);
}

#[test]
fn an_application_is_typed_and_a_wrong_word_is_told() {
    let house = House::new();
    succeed(&["user", "add", "anna", "--data", &house.data()]);
    let (anna, _) = house.enrol("anna");
    let secret = succeed(&["app", "add", "news", "--send", "--data", &house.data()]);
    let mut typed = TcpStream::connect(house.urls[2].strip_prefix("tcp://").unwrap()).unwrap();
    let lines = format!(
        "AUTH news {}\nSEND HP/1\nId 1\nTo user:anna\nOffline store\nContent-Length 5\n\nhello",
        secret.trim()
    );
    typed.write_all(lines.as_bytes()).unwrap();
    let mut said = String::new();
    let mut piece = [0; 256];
    while !said.contains("State stored") {
        let count = typed.read(&mut piece).unwrap();
        assert!(count > 0, "{said}");
        said += std::str::from_utf8(&piece[..count]).unwrap();
    }
    let told = succeed(&["listen", "--credential", &anna, "--count", "1"]);
    assert!(told.contains("app:news: hello"), "{told}");
    for (args, code, text) in [
        (vec!["user", "add", "anna"], 2, "there is a user anna"),
        (vec!["device", "add", "nobody"], 2, "there is no user nobody"),
        (vec!["app", "add", "news"], 1, "there is an application news"),
    ] {
        let wrong = run(&[&args[..], &["--data", &house.data()]].concat());
        assert_eq!(wrong.status.code(), Some(code), "{}", stderr(&wrong));
        assert!(stderr(&wrong).contains(text), "{}", stderr(&wrong));
    }
    let open = house.at("open.line");
    fs::write(&open, "x").unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let wrong = run(&["listen", "--credential", &open]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("chmod 600"), "{}", stderr(&wrong));
}

#[test]
fn many_devices_are_held_in_session_and_what_that_costs_is_told() {
    let said = objects(&succeed(&["bench", "sessions", "--count", "300", "--seconds", "0", "--json"]));
    let figure =
        |what: &str| said.iter().find(|line| line["what"] == what).unwrap()["value"].as_f64().unwrap();
    assert_eq!((figure("sessions"), figure("sessions lost")), (300.0, 0.0));
}

/// Answers each question with this, over HTTP, on connections that it keeps; what was asked comes back.
fn authentication_server(status: &str, body: &str) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/check", listener.local_addr().unwrap());
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let (told, asked) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer, told) = (stream.unwrap(), answer.clone(), told.clone());
            thread::spawn(move || {
                let mut octets = [0; 4096];
                while let Ok(length @ 1..) = stream.read(&mut octets) {
                    let _ = told.send(String::from_utf8_lossy(&octets[..length]).into_owned());
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            });
        }
    });
    (url, asked)
}

#[test]
fn an_authentication_server_is_asked_about_devices_that_were_not_enrolled_here() {
    let dir = tempfile::tempdir().unwrap();
    // Session id and secret are zeros, and so is the device.
    let (device, secret) = ("A".repeat(22), "A".repeat(43));
    let yes = format!(r#"{{"user":"anna","device":"{device}","secret":"{secret}"}}"#);
    let token = dir.path().join("token");
    fs::write(&token, "0pen\n").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    for (status, body, is_in) in [("200 OK", yes.as_str(), true), ("404 Not Found", "", false)] {
        let (auth, asked) = authentication_server(status, body);
        let data = dir.path().join(if is_in { "in" } else { "out" });
        fs::create_dir(&data).unwrap();
        let (mut serve, _) = Running::serve(
            &data,
            "tls://127.0.0.1:0",
            &[
                "--devices",
                "hail://127.0.0.1:0",
                "--apps",
                "tcp://127.0.0.1:0",
                "--auth",
                &auth,
                "--auth-token",
                token.to_str().unwrap(),
            ],
        );
        let office = serve.until(|event| event["for"] == "devices");
        let line = data.join("line");
        fs::write(&line, format!("{} {}", office["url"].as_str().unwrap(), "A".repeat(64))).unwrap();
        fs::set_permissions(&line, fs::Permissions::from_mode(0o600)).unwrap();
        let mut listen = Running::start(&data, &["listen", "--credential", line.to_str().unwrap()]);
        listen.event(if is_in { "logged_in" } else { "refused" });
        let question = asked.recv().unwrap();
        assert!(question.starts_with("POST /check HTTP/1.1\r\n"), "{question}");
        assert!(question.contains("Authorization: Bearer 0pen\r\n"), "{question}");
        assert!(question.ends_with(&format!("{{\"session\":\"{device}\"}}")), "{question}");
    }
}
