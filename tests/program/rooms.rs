//! Two rooms, each a process of its own.

use std::{fs, os::unix::fs::PermissionsExt};

use rustix::process::Signal;

use crate::{
    post::{bodies, port},
    running::{Running, key, objects, run, stderr, succeed},
};

#[test]
fn people_of_two_rooms_write_to_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (keys, names) = (["south", "north"].map(|name| key(dir.path(), name)), ["south", "north"]);
    let inner = [port(), port()];
    let serve = |at: usize| {
        let [gateways, apps, devices] = [port(), port(), port()];
        let listens = [format!("tls://127.0.0.1:{gateways}"), format!("tcp://127.0.0.1:{apps}")];
        let (inner_url, devices) =
            (format!("tls://127.0.0.1:{}", inner[at]), format!("hail://127.0.0.1:{devices}"));
        let (name, other) = (names[at], 1 - at);
        let there = format!("tls://127.0.0.1:{}?pin={}", inner[other], keys[other].1);
        let sets = [
            format!("identity_file={}", keys[at].0),
            format!("room={name}"),
            format!("rooms={}={there}", names[other]),
        ];
        let data = path(&format!("{name}.data"));
        let args = ["serve", "--data", &data, "--listen", &listens[0], "--apps", &listens[1]];
        let more = ["--devices", &devices, "--inner", &inner_url];
        let sets = sets.each_ref().map(|set| ["--set", set.as_str()]);
        let mut running = Running::start(dir.path(), &[&args[..], &more, sets.as_flattened()].concat());
        running.until(|event| event["for"] == "brokers");
        (running, data)
    };
    let ((mut south, south_data), (north, north_data)) = (serve(0), serve(1));
    let enrol = |user: &str, data: &str| {
        succeed(&["user", "add", user, "--data", data]);
        let line = succeed(&["device", "add", user, "--data", data]);
        let file = path(&format!("{user}.line"));
        fs::write(&file, line).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        file
    };
    let (anna, ben) = (enrol("anna", &north_data), enrol("ben", &south_data));
    let stored = succeed(&["send", "user:anna@north", "one", "--credential", &ben]);
    assert!(["stored", "queued"].contains(&stored.trim()), "{stored}");
    let said = succeed(&["listen", "--credential", &anna, "--count", "1", "--json"]);
    assert_eq!((bodies(&said), said.contains("user:ben@south")), (vec!["one".to_owned()], true));
    let said = succeed(&["presence", "anna@north", "--credential", &ben, "--json"]);
    assert!(said.contains("anna@north"), "{said}");
    let room = &objects(&succeed(&["status", "--data", &south_data, "--json"]))[0]["office"]["rooms"][0];
    assert_eq!((&room["name"], &room["up"], &room["waiting"]), (&"north".into(), &true.into(), &0.into()));
    assert!(succeed(&["status", "--data", &south_data]).contains("takes them"));
    let wrong = run(&["user", "add", "carl@north", "--data", &south_data]);
    assert!(stderr(&wrong).contains("in a room"), "{}", stderr(&wrong));

    north.signal(Signal::TERM);
    assert!(north.end().0.success());
    south.until(|event| event["text"].as_str().is_some_and(|text| text.contains("the room north is lost")));
    assert_eq!(succeed(&["send", "user:anna@north", "two", "--credential", &ben]).trim(), "stored");
    south.signal(Signal::TERM);
    assert!(south.end().0.success());
}
