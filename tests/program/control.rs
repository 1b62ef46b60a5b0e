//! Configuration, and the commands of a back end's operator.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use rustix::process::Signal;

use crate::running::{Running, key, objects, run, stderr, succeed};

fn check(dir: &Path, text: &str) -> (Option<i32>, String) {
    let file = dir.join("hailpost.toml");
    fs::write(&file, text).unwrap();
    let data = dir.join("office");
    let output =
        run(&["serve", "--check", "--config", file.to_str().unwrap(), "--data", data.to_str().unwrap()]);
    (output.status.code(), stderr(&output) + &String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_configuration_is_checked_and_an_error_has_its_line() {
    let dir = tempfile::tempdir().unwrap();
    for (text, line, what) in [
        ("[backend]\nlisten = 'tls://127.0.0.1:0'\nhartbeat_ms = 5\n", 3, "did you mean heartbeat_ms"),
        ("[backend]\nheartbeat_ms = 'soon'\n", 2, "a whole number is wanted"),
        ("[backend]\n\n\nbackoff_ms = 5\n", 4, "no option of a backend"),
        ("# hm\n[offices]\n", 2, "there is no section"),
        ("[backend]\nlisten = \n", 2, ""),
    ] {
        let (code, said) = check(dir.path(), text);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(&format!("hailpost.toml: line {line}: ")) && said.contains(what), "{said}");
    }
    let (code, said) =
        check(dir.path(), "[backend]\nlisten = ['tls://nowhere']\n[gateway]\nrules = 'none'\n");
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = check(dir.path(), "[backend]\nlisten = ['http://127.0.0.1']\n");
    assert_eq!(code, Some(2), "{said}");
    let (code, said) = check(dir.path(), "[backend]\nheartbeat_ms = 1234\n");
    assert_eq!(code, Some(0));
    assert!(said.contains("heartbeat_ms = 1234") && said.contains("can be served"), "{said}");
    assert!(!dir.path().join("office").exists(), "checking makes nothing");
    let options = succeed(&["serve", "--options"]);
    assert!(options.contains("# heartbeat_ms = 3000") && !options.contains("backoff_ms"), "{options}");
}

/// The same commands, whether a back end serves or not.
fn commands(data: &str, gateway: &str, id: &str) {
    let ask = |args: &[&str]| succeed(&[args, &["--data", data, "--json"]].concat());
    ask(&["gateway", "add", "home", "--group", "flat", "--key", gateway]);
    ask(&["gateway", "add", "home", "--group", "flat", "--key", id, "--trusted"]);
    ask(&["gateway", "bar", "home"]);
    let listed = objects(&ask(&["gateway", "list"]));
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0]["key"], &listed[0]["trusted"]), (&id.into(), &true.into()));
    assert_eq!(listed[0]["state"], "barred");
    ask(&["gateway", "allow", id]);
    assert_eq!(objects(&ask(&["gateway", "list"]))[0]["state"], "away");
    ask(&["gateway", "revoke", "home"]);
    assert_eq!(ask(&["gateway", "list"]), "");

    ask(&["rule", "add", "ssh", "^SSH-2"]);
    ask(&["rule", "add", "7", "^x", "--group", "flat"]);
    let rules = objects(&ask(&["rule", "list"]));
    assert_eq!(rules.len(), 2);
    assert!(rules[0]["group"].is_null() && rules[0]["pattern"] == "^SSH-2", "{rules:?}");
    assert!(rules[1]["group"] == "flat" && rules[1]["app"] == 7, "{rules:?}");
    ask(&["rule", "remove", "7", "--group", "flat"]);
    ask(&["rule", "remove", "ssh", "^SSH-2"]);
    assert_eq!(ask(&["rule", "list"]), "");
    for (args, code, what) in [
        (&["rule", "add", "7", "("][..], 2, "the rule cannot be used"),
        (&["rule", "add", "nosuchapp", "x"], 2, "neither a number nor a name"),
        (&["rule", "remove", "7"], 1, "no such rule"),
        (&["gateway", "bar", "nobody"], 1, "no gateway is called nobody"),
        (&["gateway", "revoke", &"00".repeat(32)], 1, "no gateway with that key"),
        (&["gateway", "add", "x", "--group", "", "--key", id], 2, "1 to 64 octets"),
        (
            &["gateway", "add", "x", "--group", "g", "--key", "beef"],
            2,
            "neither 64 hexadecimal digits nor a file",
        ),
    ] {
        let output = run(&[args, &["--data", data]].concat());
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(what), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn the_operator_asks_a_running_back_end_and_one_that_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("office");
    let path = data.to_str().unwrap();
    let (file, id) = key(dir.path(), "home");
    let output = run(&["status", "--data", path]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("there is no back end"), "{}", stderr(&output));

    let (serve, url) = Running::serve(dir.path(), "tls://127.0.0.1:0", &[]);
    for name in ["control.sock", "backend.db", "identity.pem"] {
        assert_eq!(fs::metadata(data.join(name)).unwrap().mode() & 0o777, 0o600, "{name}");
    }
    assert_eq!(fs::metadata(&data).unwrap().mode() & 0o777, 0o700);
    commands(path, &file, &id);
    let status = &objects(&succeed(&["status", "--json", "--data", path]))[0];
    assert_eq!((&status["serving"], &status["listen"][0]), (&true.into(), &url.as_str().into()));
    let second = run(&["serve", "--only", "backend", "--data", path, "--listen", "tls://127.0.0.1:0"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains("another back end serves"), "{}", stderr(&second));
    serve.signal(Signal::TERM);
    let (status, rest) = serve.end();
    assert_eq!(status.code(), Some(0));
    assert!(rest.contains("\"stopped\""), "{rest}");
    assert!(!data.join("control.sock").exists());

    commands(path, &file, &id);
    let status = &objects(&succeed(&["status", "--json", "--data", path]))[0];
    assert_eq!(status["serving"], false);
    assert!(succeed(&["status", "--data", path]).contains("not serving"));
}

#[test]
fn hup_reads_the_rules_file_again() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("office");
    let rules = dir.path().join("rules.toml");
    let rule = |app: u32, pattern: &str| {
        format!("[[rule]]\napp_id = {app}\nname = 'app-{app}'\npattern = '{pattern}'\n")
    };
    fs::write(&rules, rule(1, "^one") + &rule(2, "^two")).unwrap();
    let (mut serve, _) =
        Running::serve(dir.path(), "tls://127.0.0.1:0", &["--rules", rules.to_str().unwrap()]);
    let list = || -> Vec<String> {
        let listed = objects(&succeed(&["rule", "list", "--json", "--data", data.to_str().unwrap()]));
        listed.iter().map(|rule| rule["pattern"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(list(), ["^one", "^two"]);
    fs::write(&rules, rule(2, "^two") + &rule(3, "^three")).unwrap();
    serve.signal(Signal::HUP);
    serve.event("reloaded");
    assert_eq!(list(), ["^two", "^three"]);
    let output = run(&["rule", "add", "9", "^nine", "--data", data.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "rules of all groups are the file's");
    // A broken file changes nothing.
    fs::write(&rules, rule(2, "(")).unwrap();
    serve.signal(Signal::HUP);
    assert!(serve.event("reloaded")["text"].as_str().unwrap().contains("line 1"));
    // Nor does one with a rule that can be used, but not sent.
    let nul = "[[rule]]\napp_id = 5\nname = 'five'\npattern = \"x\\u0000\"\n";
    fs::write(&rules, rule(4, "^four") + nul).unwrap();
    serve.signal(Signal::HUP);
    let text = serve.event("reloaded")["text"].as_str().unwrap().to_owned();
    assert!(text.contains("the rules stay as they are"), "{text}");
    assert_eq!(list(), ["^two", "^three"]);
    succeed(&["rule", "add", "9", "^nine", "--group", "flat", "--data", data.to_str().unwrap()]);
    assert_eq!(list(), ["^two", "^three", "^nine"]);
}
