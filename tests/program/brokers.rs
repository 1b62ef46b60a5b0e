//! A hub and a broker apart from it, each in a process of its own.

use std::{fs, os::unix::fs::PermissionsExt};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    post::{bodies, port},
    running::{Running, key, objects, run, stderr, succeed},
};

#[test]
fn a_device_at_a_broker_outlives_its_hub() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let ((hub_key, pin), (broker_key, id)) = (key(dir.path(), "hub"), key(dir.path(), "broker"));
    let [gateways, inner, apps, devices] = [port(), port(), port(), port()];
    let serve_hub = || {
        let (listen, apps) = (format!("tls://127.0.0.1:{gateways}"), format!("tcp://127.0.0.1:{apps}"));
        let (inner, brokers) = (format!("tls://127.0.0.1:{inner}"), format!("brokers={id}"));
        let identity = format!("identity_file={hub_key}");
        let data = path("hub");
        let args = ["serve", "--data", &data, "--roles", "hub", "--listen", &listen, "--apps", &apps];
        let more = ["--inner", &inner, "--set", &brokers, "--set", &identity];
        let mut hub = Running::start(dir.path(), &[&args[..], &more].concat());
        let said = hub.until(|event| event["for"] == "brokers");
        assert_eq!(said["url"], inner.as_str());
        hub
    };
    let mut hub = serve_hub();
    let (at, listen) = (format!("tls://127.0.0.1:{inner}?pin={pin}"), format!("hail://127.0.0.1:{devices}"));
    let (data, identity) = (path("one"), format!("identity_file={broker_key}"));
    let args = ["serve", "--data", &data, "--roles", "broker", "--hub", &at, "--devices", &listen];
    let name = ["--set", &identity, "--set", "broker_name=one"];
    let mut broker = Running::start(dir.path(), &[&args[..], &name].concat());
    assert_eq!(broker.event("broker")["key"], id.as_str());
    broker.event("registered");

    let enrol = |user: &str| {
        succeed(&["user", "add", user, "--data", &path("hub")]);
        let line = succeed(&["device", "add", user, "--data", &path("hub"), "--office", &listen]);
        assert!(line.contains("?key="), "all brokers have the office's key: {line}");
        let file = path(&format!("{user}.line"));
        fs::write(&file, line).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        file
    };
    let (anna, ben) = (enrol("anna"), enrol("ben"));
    assert_eq!(succeed(&["send", "user:anna", "one", "--credential", &ben]).trim(), "stored");
    let status = |data: &str| objects(&succeed(&["status", "--data", data, "--json"]))[0].clone();
    let brokers = &status(&path("hub"))["office"]["brokers"];
    assert_eq!((&brokers[0]["name"], &brokers[0]["up"]), (&Value::from("one"), &Value::Bool(true)));
    assert!(succeed(&["status", "--data", &path("hub")]).contains("● connected"));
    assert!(succeed(&["status", "--data", &data]).contains("● there"));

    hub.kill();
    broker.event("down");
    assert_eq!(status(&data)["broker"]["registered"], false);
    assert!(succeed(&["status", "--data", &data]).contains("○ away"));
    // It is given to the broker, waits in the outbox until the hub is back, and is said again.
    let waits = run(&["send", "user:anna", "two", "--credential", &ben, "--wait", "1"]);
    assert!(!waits.status.success(), "nobody can have kept it");
    let _hub = serve_hub();
    broker.event("registered");
    assert_eq!(succeed(&["send", "user:anna", "three", "--credential", &ben]).trim(), "stored");
    let said = succeed(&["listen", "--credential", &anna, "--count", "3", "--json"]);
    assert_eq!(bodies(&said), ["one", "two", "three"]);
    let counters = &status(&path("hub"))["counters"]["brokers"];
    assert_eq!((&counters["registered"], &counters["broken"]), (&Value::from(1), &Value::from(0)));

    let wrong = run(&["user", "add", "carl", "--data", &data]);
    assert!(stderr(&wrong).contains("ask its hub"), "{}", stderr(&wrong));
    broker.signal(Signal::TERM);
    let (ended, _) = broker.end();
    assert!(ended.success());
}

#[test]
fn what_is_not_for_a_broker_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("one").to_str().unwrap().to_owned();
    let serve = ["serve", "--data", &data, "--roles", "broker"];
    let nowhere = run(&serve);
    assert!(stderr(&nowhere).contains("hub"), "{}", stderr(&nowhere));
    for more in [["--apps", "tcp://127.0.0.1:0"], ["--health", "127.0.0.1:0"], ["--only", "backend"]] {
        let wrong = run(&[&serve[..], &more].concat());
        assert_eq!(wrong.status.code(), Some(2), "{more:?}: {}", stderr(&wrong));
    }
    // What could not be served does not pass the check either.
    let hub = format!("tls://127.0.0.1:7702?pin={}", "ab".repeat(32));
    for (more, what) in [
        (&[][..], "hub"),
        (&["--hub", "tls://127.0.0.1:7702"], "pin"),
        (&["--hub", &hub, "--set", "public_address=broker.example:7700"], "public_address"),
        (&["--hub", &hub, "--auth", "http://127.0.0.1:1/"], "--auth"),
    ] {
        let wrong = run(&[&serve[..], more, &["--check"]].concat());
        assert!(!wrong.status.success() && stderr(&wrong).contains(what), "{more:?}: {}", stderr(&wrong));
    }
    let hub_role = ["serve", "--data", &data, "--roles", "hub", "--check"];
    for more in [["--hub", &hub], ["--set", "brokers=ab"], ["--auth", "http://192.0.2.1/"]] {
        let wrong = run(&[&hub_role[..], &more].concat());
        assert!(!wrong.status.success(), "{more:?}");
    }
    let shown = succeed(&[&serve[..], &["--hub", &hub, "--check"]].concat());
    assert!(shown.contains("roles = \"broker\""), "{shown}");
}
