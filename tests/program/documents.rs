//! What docs/json.md shows is what the program says.

use std::{fs, path::Path};

use hailpost::node::{EventKind, Field};
use serde_json::Value;

use crate::running::{Running, key, objects, run_with, stderr, stdout, succeed};

const PAGE: &str = include_str!("../../docs/json.md");

/// Fenced blocks: what stands before the fence on a line of its own in a comment, the language, the text.
fn blocks() -> Vec<(String, String, String)> {
    let mut blocks = Vec::new();
    let mut lines = PAGE.lines();
    let mut label = String::new();
    while let Some(line) = lines.next() {
        if let Some(text) = line.strip_prefix("<!-- check: ") {
            label = text.trim_end_matches(" -->").to_owned();
        } else if let Some(language) = line.strip_prefix("```") {
            let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push((std::mem::take(&mut label), language.to_owned(), text.join("\n")));
        }
    }
    blocks
}

#[test]
fn every_message_shown_decodes_and_encodes() {
    let blocks = blocks();
    let mut seen = 0;
    for pair in blocks.windows(2) {
        let [(label, text, hex), (_, json, shown)] = pair else { continue };
        if (text.as_str(), json.as_str()) != ("text", "json") {
            continue;
        }
        let family = if label == "ipv6" { &["--ipv6"][..] } else { &[] };
        let decoded = run_with(&[&["decode", "gateway", "--json", "-"], family].concat(), hex.as_bytes());
        assert_eq!(stdout(&decoded).trim(), shown, "{}", stderr(&decoded));
        let encoded = run_with(&[&["encode", "gateway"], family].concat(), shown.as_bytes());
        assert_eq!(stdout(&encoded).trim(), hex, "{}", stderr(&encoded));
        seen += 1;
    }
    assert_eq!(seen, 13);
}

#[test]
fn every_event_and_field_has_its_row() {
    let fields = |kind: &EventKind, wanted: bool| -> Vec<String> {
        let named = kind.fields().iter().filter(|(_, always)| *always == wanted);
        named.map(|(field, _)| format!("`{}`", field.name())).collect()
    };
    let mut missing = Vec::new();
    for kind in EventKind::ALL {
        let (always, maybe) = (fields(kind, true).join(" "), fields(kind, false).join(" "));
        let (begin, end) = (format!("| `{}` | ", kind.name()), format!(" | {always} | {maybe} |"));
        if !PAGE.lines().any(|line| line.starts_with(&begin) && line.ends_with(&end)) {
            missing.push(format!("{begin}{}{end}", kind.help()));
        }
    }
    for field in Field::ALL {
        let row = format!("| `{}` |", field.name());
        if !PAGE.contains(&row) {
            missing.push(format!("{row} {} |", field.help()));
        }
    }
    assert!(missing.is_empty(), "docs/json.md lacks\n{}", missing.join("\n"));
}

/// Whether two values have the same members, with values of the same kind; nothing stands for anything.
fn same_shape(shown: &Value, real: &Value, place: &str) {
    match (shown, real) {
        (Value::Object(a), Value::Object(b)) => {
            let names = |object: &serde_json::Map<String, Value>| object.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(a), names(b), "{place}");
            a.iter().for_each(|(name, value)| same_shape(value, &b[name], &format!("{place}.{name}")));
        }
        (Value::Array(a), Value::Array(b)) => {
            if let (Some(a), Some(b)) = (a.first(), b.first()) {
                same_shape(a, b, &format!("{place}[0]"));
            }
        }
        (Value::Null, _) | (_, Value::Null) => {}
        (a, b) => assert_eq!(
            std::mem::discriminant(a),
            std::mem::discriminant(b),
            "{place}: {a} is shown, {b} is said"
        ),
    }
}

#[test]
fn every_line_shown_has_the_members_that_the_program_prints() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (capture, data) = (at("evening.pcap"), at("office"));
    let wrote = succeed(&["demo", "--capture", &capture, "--json"]);
    let (mut serve, url) = {
        let office = ["--devices", "hail://127.0.0.1:0", "--apps", "tcp://127.0.0.1:0"];
        Running::serve(dir.path(), "tls://127.0.0.1:0", &office)
    };
    let (file, id) = key(dir.path(), "home");
    let added =
        succeed(&["gateway", "add", "home", "--group", "flat", "--key", &id, "--data", &data, "--json"]);
    succeed(&["rule", "add", "ssh", "^SSH-2", "--data", &data]);
    let events =
        succeed(&["gateway", "--backend", &url, "--identity", &file, "--pcap", &capture, "--once", "--json"]);
    let event = |name: &str| -> String {
        objects(&events).iter().find(|event| event["event"] == name).expect(name).to_string()
    };
    let real = |label: &str| -> String {
        match label {
            "recognize" => succeed(&["recognize", &capture, "--json"]),
            "recognize --summary" => succeed(&["recognize", &capture, "--json", "--summary"]),
            "keygen" => succeed(&["keygen", "--show", &file, "--json"]),
            "gateway add" => added.clone(),
            "gateway list" => succeed(&["gateway", "list", "--data", &data, "--json"]),
            "rule list" => succeed(&["rule", "list", "--data", &data, "--json"]),
            "status" => succeed(&["status", "--data", &data, "--json"]),
            "bench" => r#"{"bench":"","what":"","value":0.5,"unit":""}"#.to_owned(),
            "demo --capture" => wrote.clone(),
            "flow" | "capture" => event(label),
            other => panic!("nothing is known of {other}"),
        }
    };
    let mut seen = 0;
    for (label, language, shown) in blocks() {
        if language == "json" && !label.is_empty() && label != "ipv6" && label != "listening" {
            let said = real(&label);
            let line = said.lines().next().unwrap();
            same_shape(&serde_json::from_str(&shown).unwrap(), &serde_json::from_str(line).unwrap(), &label);
            seen += 1;
        }
    }
    assert_eq!(seen, 11);
    serve.event("gateway_deregistered");
    assert!(Path::new(&data).join("control.sock").exists());
    // And the socket itself, as a script would use it.
    ask_by_hand(&Path::new(&data).join("control.sock"));
    let readable = fs::read_to_string(&file).unwrap();
    assert!(readable.contains("BEGIN PRIVATE KEY"));
}

fn ask_by_hand(socket: &Path) {
    use std::{
        io::{BufRead, BufReader, Write},
        os::unix::net::UnixStream,
    };
    let mut stream = UnixStream::connect(socket).unwrap();
    let requests = [
        "{\"do\":\"rule_add\",\"app\":7,\"pattern\":\"^x\",\"group\":\"flat\"}\n",
        "{\"do\":\"rule_list\"}\n",
        "not json\n",
        "{\"do\":\"dance\"}\n",
        "[]\n",
    ];
    stream.write_all(requests.concat().as_bytes()).unwrap();
    let answers: Vec<String> =
        BufReader::new(stream).lines().take(requests.len()).map(Result::unwrap).collect();
    assert_eq!(answers[0], "{\"ok\":true}");
    assert!(answers[1].contains("\"^x\""), "{answers:?}");
    for answer in &answers[2..] {
        assert!(answer.contains("\"error\":") && answer.contains("\"code\":2"), "{answer}");
    }
}
