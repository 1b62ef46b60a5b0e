//! Back ends and gateways that live, die and come back.

use std::fs;

use rustix::process::Signal;

use crate::running::{Running, command, finish, key, objects, run, stderr, succeed};

#[test]
fn a_gateway_reports_over_tls_and_comes_back_after_the_back_end_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("office").to_str().unwrap().to_owned();
    let capture = dir.path().join("evening.pcap").to_str().unwrap().to_owned();
    succeed(&["demo", "--capture", &capture]);
    let (serve, url) = Running::serve(dir.path(), "tls://127.0.0.1:0", &[]);
    let (kitchen, _) = key(dir.path(), "kitchen");
    let (hall, _) = key(dir.path(), "hall");
    succeed(&[
        "gateway",
        "add",
        "kitchen",
        "--group",
        "home",
        "--key",
        &kitchen,
        "--trusted",
        "--data",
        &data,
    ]);
    succeed(&["gateway", "add", "hall", "--group", "home", "--key", &hall, "--data", &data]);
    let quick = ["--set", "backoff_ms=100", "--set", "backoff_max_ms=500"];
    let mut watcher = Running::start(
        dir.path(),
        &[&["gateway", "--backend", &url, "--identity", &hall][..], &quick].concat(),
    );
    watcher.event("synced");
    let once =
        run(&["gateway", "--backend", &url, "--identity", &kitchen, "--pcap", &capture, "--once", "--json"]);
    assert!(once.status.success(), "{}", stderr(&once));
    let events = objects(&String::from_utf8(once.stdout).unwrap());
    let count = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    assert_eq!(count("flow"), 180);
    assert_eq!(count("acknowledged"), 8, "one a server, and none inside");
    assert_eq!(events.last().unwrap()["event"], "deregistered");
    for _ in 0..8 {
        watcher.event("result");
    }

    serve.signal(Signal::KILL);
    let (status, _) = serve.end();
    assert_eq!(status.code(), None, "killed");
    watcher.event("down");
    let listen = url.split('?').next().unwrap();
    let (mut serve, again) = Running::serve(dir.path(), listen, &[]);
    assert_eq!(again, url, "the same key");
    watcher.event("synced");
    let status = &objects(&succeed(&["status", "--json", "--data", &data]))[0];
    assert_eq!(status["groups"][0]["results"], 8, "what was acknowledged is there");

    // Ctrl-C leaves in order.
    watcher.signal(Signal::INT);
    let (status, rest) = watcher.end();
    assert_eq!(status.code(), Some(0), "{rest}");
    let left = serve.event("gateway_deregistered");
    assert_eq!((&left["name"], &left["by_backend"]), (&"hall".into(), &false.into()));
    serve.signal(Signal::INT);
    assert_eq!(serve.end().0.code(), Some(0));
}

#[test]
fn a_stranger_and_a_barred_gateway_are_refused_with_code_3() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("office").to_str().unwrap().to_owned();
    let (mut serve, url) = Running::serve(dir.path(), "tls://127.0.0.1:0", &[]);
    let (file, id) = key(dir.path(), "home");
    let output = run(&["gateway", "--backend", &url, "--identity", &file, "--once"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("not authorised"), "{}", stderr(&output));
    assert_eq!(serve.event("gateway_refused")["key"], id.as_str());

    succeed(&["gateway", "add", "home", "--group", "flat", "--key", &id, "--data", &data]);
    let mut gateway = Running::start(dir.path(), &["gateway", "--backend", &url, "--identity", &file]);
    gateway.event("synced");
    succeed(&["gateway", "bar", "home", "--data", &data]);
    assert_eq!(gateway.event("deregistered")["by_backend"], true);
    let output = run(&["gateway", "--backend", &url, "--identity", &file, "--once"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("barred"), "{}", stderr(&output));
}

#[test]
fn a_gateway_without_a_pin_or_with_a_bad_capture_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let (file, id) = key(dir.path(), "home");
    for (args, what) in [
        (&["gateway"][..], "backend: say where the back end is"),
        (&["gateway", "--backend", "tls://127.0.0.1:7", "--identity", &file], "?pin="),
        (&["gateway", "--backend", "gopher://x"], "backend: "),
        (&["gateway", "--backend", "tcp://127.0.0.1:7", "--pcap", &file], "not a capture file"),
        (&["gateway", "--backend", "tcp://127.0.0.1:7", "--pcap", "-", "--repeat", "2"], "only once"),
        (&["gateway", "--set", "family"], "NAME=VALUE"),
        (&["gateway", "--set", "listen=x"], "no option of a gateway"),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(what), "{args:?}: {}", stderr(&output));
    }
    // Nobody listens there: it says so, and goes on until it is stopped.
    let url = format!("tls://127.0.0.1:9?pin={id}");
    let mut gateway = Running::start(dir.path(), &["gateway", "--backend", &url, "--identity", &file]);
    assert_eq!(gateway.event("down")["status"], "HAIL_ERR_CONNECT");
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.end().0.code(), Some(0));
}

#[test]
fn bare_tcp_is_taken_into_the_open_group_and_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let (mut serve, url) =
        Running::serve(dir.path(), "tcp://127.0.0.1:0", &["--set", "open_group=lab", "--set", "agreement=1"]);
    let mut gateway = Running::start(dir.path(), &["gateway", "--backend", &url, "--rules", "none"]);
    gateway.event("synced");
    let registered = serve.event("gateway_registered");
    assert!(registered["group"] == "lab" && registered.get("key").is_none(), "{registered}");
    let logs: String = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    assert!(logs.contains("tcp:// proves nobody's key"), "{logs}");
}

#[test]
fn the_demonstration_comes_to_its_end_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let output = finish(command(["demo", "--json"]).env("TMPDIR", dir.path()).spawn().unwrap(), b"");
    assert!(output.status.success(), "{}", stderr(&output));
    let steps = objects(&String::from_utf8(output.stdout).unwrap());
    let titles = steps.iter().filter(|step| step["title"].is_string()).count();
    assert_eq!(titles, 12);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn somebody_elses_gateway_can_take_part_in_the_demonstration() {
    let dir = tempfile::tempdir().unwrap();
    // It is the program itself here, told what it needs as any other would be.
    let line = format!(
        "attic:somebody else's=exec {} gateway --json --set backoff_ms=100 --backend \"$HAILPOST_BACKEND\" --identity \"$HAILPOST_IDENTITY\"",
        env!("CARGO_BIN_EXE_hailpost")
    );
    let output = finish(
        command(["demo", "--json", "--gateway", &line]).env("TMPDIR", dir.path()).spawn().unwrap(),
        b"",
    );
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(String::from_utf8(output.stdout).unwrap().contains("attic (somebody else's)"));
    let wrong = run(&["demo", "--gateway", "cellar=true"]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn a_reader_that_does_not_read_holds_up_no_back_end() {
    use std::io::{BufRead, BufReader};
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("office").to_str().unwrap().to_owned();
    let mut serve =
        command(["serve", "--only", "backend", "--json", "--listen", "tls://127.0.0.1:0", "--data", &data])
            .spawn()
            .unwrap();
    let mut stdout = BufReader::new(serve.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let url = objects(&line)[0]["url"].as_str().unwrap().to_owned();
    let (file, id) = key(dir.path(), "home");
    succeed(&["gateway", "add", "home", "--group", "flat", "--key", &id, "--data", &data]);
    // Each enrolment is an event: more of them than a pipe holds.
    let capture = dir.path().join("evening.pcap").to_str().unwrap().to_owned();
    succeed(&["demo", "--capture", &capture]);
    let output = run(&[
        "gateway",
        "--backend",
        &url,
        "--identity",
        &file,
        "--pcap",
        &capture,
        "--repeat",
        "8",
        "--once",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    // Then it goes away, which ends the back end in order.
    drop(stdout);
    let barred = run(&["gateway", "bar", "home", "--data", &data]);
    // What was still to be printed may end it while it is asked: then it says so, and to be asked again.
    if !barred.status.success() {
        assert!(stderr(&barred).contains("ask again"), "{}", stderr(&barred));
        succeed(&["gateway", "bar", "home", "--data", &data]);
    }
    assert_eq!(finish(serve, b"").status.code(), Some(0));
}

/// DECISIONS 12: what `serve` prints ends in logs. A capture's addresses are whom people talk to.
#[test]
fn no_address_of_a_peer_is_printed_unless_asked_for() {
    for (asked, transport) in [(false, "tcp"), (false, "tls"), (true, "tcp")] {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        succeed(&["demo", "--capture", &at("evening.pcap")]);
        let mut more = vec!["--set", "open_group=flat"];
        more.extend(asked.then_some("--log-peers"));
        let (mut serve, url) = Running::serve(dir.path(), &format!("{transport}://127.0.0.1:0"), &more);
        let (file, id) = key(dir.path(), "home");
        succeed(&["gateway", "add", "home", "--group", "flat", "--key", &id, "--data", &at("office")]);
        succeed(&[
            "gateway",
            "--backend",
            &url,
            "--identity",
            &file,
            "--pcap",
            &at("evening.pcap"),
            "--once",
        ]);
        let mut identified = 0;
        loop {
            let event = serve.until(|_| true);
            let text = event.to_string();
            identified += u32::from(event["event"] == "identified");
            let peers = ["192.168.", "203.0.113.", "198.51.100.", "192.0.2.", "127.0.0.1"];
            let told = peers.iter().any(|peer| text.contains(peer)) && event["event"] != "listening";
            assert!(asked || !told, "{text}");
            if event["event"] == "identified" {
                assert_eq!(told, asked, "{text}");
                let word = event["remote_address"].as_str().unwrap();
                assert!(asked || word.len() == 8 && word.bytes().all(|digit| digit.is_ascii_hexdigit()));
            }
            if event["event"] == "gateway_deregistered" || event["event"] == "gateway_gone" {
                break;
            }
        }
        assert!(identified > 3);
    }
}
