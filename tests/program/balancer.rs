//! Hub, broker and balancer, each in a process of its own, and devices that know the balancer alone.

use std::{fs, os::unix::fs::PermissionsExt};

use rustix::process::Signal;

use crate::{
    post::{bodies, port},
    running::{Running, key, objects, run, stderr, succeed},
};

#[test]
fn a_device_that_knows_the_balancer_alone_is_let_in() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let ((hub_key, pin), (broker_key, id)) = (key(dir.path(), "hub"), key(dir.path(), "broker"));
    let listens: Vec<String> =
        ["tls", "tls", "tcp", "hail"].map(|scheme| format!("{scheme}://127.0.0.1:{}", port())).into();
    let (brokers, hub_data) = (format!("brokers={id}"), path("hub"));
    let own = format!("identity_file={hub_key}");
    let args =
        ["serve", "--data", &hub_data, "--roles", "hub", "--listen", &listens[0], "--apps", &listens[2]];
    let more = ["--inner", &listens[1], "--set", &brokers, "--set", &own];
    let mut hub = Running::start(dir.path(), &[&args[..], &more].concat());
    hub.until(|event| event["for"] == "brokers");

    let data = path("balancer");
    let args = ["serve", "--data", &data, "--roles", "balancer", "--devices", "hail+ask://127.0.0.1:0"];
    let more = ["--inner", "tls://127.0.0.1:0", "--set", &brokers];
    let mut balancer = Running::start(dir.path(), &[&args[..], &more].concat());
    let said = |running: &mut Running, whom: &str| {
        running.until(|event| event["for"] == whom)["url"].as_str().unwrap().to_owned()
    };
    let (asks, reports) = (said(&mut balancer, "devices"), said(&mut balancer, "brokers"));
    assert!(asks.starts_with("hail+ask://") && asks.contains("?key=") && reports.contains("?pin="));

    let (at, broker_data) = (format!("{}?pin={pin}", listens[1]), path("one"));
    let own = format!("identity_file={broker_key}");
    let args = ["serve", "--data", &broker_data, "--roles", "broker", "--hub", &at, "--balancer", &reports];
    let more = ["--devices", &listens[3], "--set", &own, "--set", "broker_name=one"];
    let broker = Running::start(dir.path(), &[&args[..], &more].concat());
    assert_eq!(balancer.event("broker_up")["name"], "one");

    let enrol = |user: &str| {
        succeed(&["user", "add", user, "--data", &hub_data]);
        let line = succeed(&["device", "add", user, "--data", &hub_data, "--office", &asks]);
        assert!(line.starts_with(&asks));
        let file = path(&format!("{user}.line"));
        fs::write(&file, line).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        file
    };
    let (anna, ben) = (enrol("anna"), enrol("ben"));
    assert_eq!(succeed(&["send", "user:anna", "one", "--credential", &ben]).trim(), "stored");
    let said = succeed(&["listen", "--credential", &anna, "--count", "1", "--json"]);
    assert_eq!(bodies(&said), ["one"]);
    let status = objects(&succeed(&["status", "--data", &data, "--json"]))[0].clone();
    assert_eq!(
        (&status["balancer"]["given_out"], &status["counters"]["asks"]["given"]),
        (&1.into(), &2.into())
    );
    assert!(succeed(&["status", "--data", &data]).contains("given a broker"));
    let wrong = run(&["user", "add", "carl", "--data", &data]);
    assert!(stderr(&wrong).contains("this is a balancer"), "{}", stderr(&wrong));
    let keyless = asks.split('?').next().unwrap();
    let wrong = run(&["device", "add", "anna", "--data", &hub_data, "--office", keyless]);
    assert!(stderr(&wrong).contains("key"), "{}", stderr(&wrong));

    // A broker that stops says first that it drains.
    broker.signal(Signal::TERM);
    assert_eq!(balancer.event("broker_down")["name"], "one");
    assert!(broker.end().0.success());
    balancer.signal(Signal::TERM);
    assert!(balancer.end().0.success());
}
