//! What who runs a back end sees of it: HUP, health, metrics, systemd.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixDatagram,
    path::Path,
};

use rustix::process::Signal;

use crate::running::{PATIENCE, Running, command, finish, key, run, stderr, succeed};

fn get(url: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn config(dir: &Path, text: &str) -> String {
    let file = dir.join("backend.toml");
    fs::write(&file, format!("[backend]\nidentity_file = 'key.pem'\n{text}")).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn hup_puts_configuration_and_certificate_in_force_and_says_what_must_wait() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _) = key(dir.path(), "first");
    let (second, second_id) = key(dir.path(), "second");
    let (gateway, _) = key(dir.path(), "gateway");
    fs::copy(&first, dir.path().join("key.pem")).unwrap();
    let file = config(dir.path(), "");
    let (mut serve, url) = Running::serve(dir.path(), "tls://127.0.0.1:0", &["--config", &file]);
    let said = |serve: &mut Running| serve.event("reloaded")["text"].as_str().unwrap().to_owned();

    serve.signal(Signal::HUP);
    let text = said(&mut serve);
    assert!(text.contains("no option changed") && text.contains("no rules file"), "{text}");

    fs::copy(&second, dir.path().join("key.pem")).unwrap();
    config(dir.path(), "agreement = 3\ntrain = false\n");
    serve.signal(Signal::HUP);
    let text = said(&mut serve);
    assert!(text.contains("agreement changed; train after a restart"), "{text}");
    let new = format!("{}?pin={second_id}", url.split('?').next().unwrap());
    let once = run(&["gateway", "--backend", &new, "--identity", &gateway, "--once"]);
    assert!(stderr(&once).contains("not authorised"), "it has shaken hands: {}", stderr(&once));
    // Whoever enrols from now on pins the new key.
    let data = dir.path().join("office").to_str().unwrap().to_owned();
    let line = succeed(&["gateway", "token", "home", "--group", "flat", "--data", &data]);
    assert!(line.starts_with(&format!("{new} ")), "{line}");

    config(dir.path(), "agreement = 99\n");
    serve.signal(Signal::HUP);
    let text = said(&mut serve);
    assert!(text.contains("stays as it is") && text.contains("line 3"), "{text}");
}

#[test]
fn health_and_metrics_answer_on_loopback_only() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("office").to_str().unwrap().to_owned();
    let wide = run(&["serve", "--data", &data, "--health", "0.0.0.0:0"]);
    assert_eq!(wide.status.code(), Some(2));
    let (mut serve, _) = Running::serve(dir.path(), "tls://127.0.0.1:0", &["--health", "127.0.0.1:0"]);
    let url = serve.event("health")["url"].as_str().unwrap().to_owned();
    assert!(get(&url, "/healthz").starts_with("HTTP/1.1 200"));
    assert!(get(&url, "/readyz").starts_with("HTTP/1.1 200"));
    succeed(&["gateway", "token", "x", "--group", "g", "--data", &data]);
    let metrics = get(&url, "/metrics");
    for line in
        ["hailpost_up 1\n", "# TYPE hailpost_backend_tokens_wrong_total counter\n", "hailpost_waiting 0\n"]
    {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert!(get(&url, "/").starts_with("HTTP/1.1 404"));
}

#[test]
fn systemd_hears_that_it_is_ready_lives_and_stops() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let data = dir.path().join("office").to_str().unwrap().to_owned();
    let child = command(["serve", "--only", "backend", "--data", &data, "--listen", "tls://127.0.0.1:0"])
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "200000")
        .spawn()
        .unwrap();
    let hear = || {
        let mut octets = [0; 64];
        let count = socket.recv(&mut octets).unwrap();
        String::from_utf8(octets[..count].to_vec()).unwrap()
    };
    assert_eq!(hear(), "READY=1");
    assert_eq!(hear(), "WATCHDOG=1");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).unwrap();
    while hear() != "STOPPING=1" {}
    assert!(finish(child, b"").status.success());
}
