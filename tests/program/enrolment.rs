//! A gateway that comes in by a one-time token, over TLS.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use crate::running::{Running, key, objects, run, run_with, stderr, succeed};

fn write(dir: &Path, name: &str, text: &str, mode: u32) -> String {
    let path = dir.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_line_of_a_token_is_all_that_a_gateway_needs_and_it_works_once() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("office").to_str().unwrap().to_owned();
    let (_serve, url) = Running::serve(dir.path(), "tls://127.0.0.1:0", &[]);
    let line = succeed(&["gateway", "token", "home", "--group", "flat", "--data", &data]);
    assert!(line.starts_with(&format!("{url} ")), "{line}");
    let (file, id) = key(dir.path(), "home");
    let token = write(dir.path(), "token", &line, 0o644);
    let output = run(&["gateway", "--identity", &file, "--enrol", &token, "--once"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("chmod 600"), "{}", stderr(&output));
    write(dir.path(), "token", &line, 0o600);
    // The second time its key is known, and the token not shown.
    for _ in 0..2 {
        succeed(&["gateway", "--identity", &file, "--enrol", &token, "--once"]);
    }
    let listed = objects(&succeed(&["gateway", "list", "--json", "--data", &data]));
    assert_eq!((&listed[0]["name"], &listed[0]["key"]), (&"home".into(), &id.into()));

    let (thief, _) = key(dir.path(), "thief");
    let args = ["gateway", "--identity", &thief, "--enrol", "-", "--once"];
    let output = run_with(&args, line.as_bytes());
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("token"), "{}", stderr(&output));

    let again = run(&["gateway", "token", "home", "--group", "flat", "--data", &data]);
    assert!(stderr(&again).contains("replace"), "{}", stderr(&again));
    let line = succeed(&["gateway", "token", "home", "--group", "flat", "--replace", "--data", &data]);
    let (new, new_id) = key(dir.path(), "new");
    let output = run_with(&["gateway", "--identity", &new, "--enrol", "-", "--once"], line.as_bytes());
    assert!(output.status.success(), "{}", stderr(&output));
    let listed = objects(&succeed(&["gateway", "list", "--json", "--data", &data]));
    assert_eq!((listed.len(), &listed[0]["key"]), (1, &new_id.into()));
}

#[test]
fn a_token_outlives_a_restart_and_is_not_in_the_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("office").to_str().unwrap().to_owned();
    let (serve, url) = Running::serve(dir.path(), "tls://127.0.0.1:0", &[]);
    let line = succeed(&["gateway", "token", "home", "--group", "flat", "--data", &data]);
    serve.signal(rustix::process::Signal::KILL);
    serve.end();
    let token = line.split_whitespace().nth(1).unwrap();
    for file in fs::read_dir(&data).unwrap() {
        let file = file.unwrap().path();
        if file.is_file() {
            let octets = fs::read(&file).unwrap();
            assert!(!octets.windows(token.len()).any(|part| part == token.as_bytes()), "{}", file.display());
        }
    }
    let (_serve, _) = Running::serve(dir.path(), url.split('?').next().unwrap(), &[]);
    let (file, _) = key(dir.path(), "home");
    let output = run_with(&["gateway", "--identity", &file, "--enrol", "-", "--once"], line.as_bytes());
    assert!(output.status.success(), "{}", stderr(&output));
}

/// What a gateway is handed for `hail://`: good after a restart, refused once it is revoked, and made also while nobody serves.
#[test]
fn the_line_of_a_link_is_all_that_a_gateway_needs_until_it_is_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("office").to_str().unwrap().to_owned();
    let enrol = |more: &[&str]| {
        let args =
            [&["gateway", "add", "barn", "--group", "flat", "--link", "--data", &data][..], more].concat();
        run(&args)
    };
    let (serve, url) = Running::serve(dir.path(), "hail://127.0.0.1:0", &[]);
    assert!(url.contains("?key="), "{url}");
    let line = String::from_utf8(enrol(&[]).stdout).unwrap();
    assert!(line.starts_with(&format!("{url} ")), "{line}");
    assert!(stderr(&enrol(&[])).contains("revoke that first"));
    let file = write(dir.path(), "barn.line", &line, 0o644);
    let output = run(&["gateway", "--credential", &file, "--once"]);
    assert!(stderr(&output).contains("chmod 600"), "{}", stderr(&output));
    write(dir.path(), "barn.line", &line, 0o600);
    succeed(&["gateway", "--credential", &file, "--once"]);
    serve.signal(rustix::process::Signal::KILL);
    serve.end();

    let (serve, again) = Running::serve(dir.path(), url.split('?').next().unwrap(), &[]);
    assert_eq!(again, url, "its key is kept");
    succeed(&["gateway", "--credential", &file, "--backend", &url, "--once"]);
    let listed = objects(&succeed(&["gateway", "list", "--json", "--data", &data]));
    assert_eq!((&listed[0]["name"], &listed[0]["group"]), (&"barn".into(), &"flat".into()));
    let status = objects(&succeed(&["status", "--json", "--data", &data]));
    assert_eq!(status[0]["counters"]["backend_link"]["handshakes"], 1);
    succeed(&["gateway", "revoke", "barn", "--data", &data]);
    let output = run(&["gateway", "--credential", &file, "--once"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    serve.signal(rustix::process::Signal::TERM);
    serve.end();
    // Nobody serves: the line is made all the same, for where the back end will be.
    let output = enrol(&[]);
    assert!(stderr(&output).contains("--backend"), "{}", stderr(&output));
    let output = enrol(&["--backend", "hail://backend.example:7704"]);
    let line = String::from_utf8(output.stdout).unwrap();
    let key = url.split("?key=").nth(1).unwrap();
    assert!(line.starts_with(&format!("hail://backend.example:7704?key={key} ")), "{line}");
}
