//! decode, encode, keygen, help.

use std::{fs, os::unix::fs::MetadataExt};

use crate::running::{run, run_with, shared, stderr, stdout, succeed};

#[test]
fn every_vector_decodes_and_encodes_and_every_bad_one_says_why() {
    let Some(dir) = shared("spec/vectors") else { return };
    let table = fs::read_to_string(dir.join("vectors.tsv")).unwrap();
    let (mut good, mut bad) = (0, 0);
    for row in table.lines() {
        let columns: Vec<&str> = row.split('\t').collect();
        let name = columns[0];
        if !name.starts_with("gw_") && !name.starts_with("bad_gw_") {
            continue;
        }
        let hex = fs::read_to_string(dir.join(name)).unwrap();
        let mut decode = vec!["decode", "gateway", "-", "--json"];
        let mut encode = vec!["encode", "gateway"];
        if columns[2] == "IPv6" {
            decode.push("--ipv6");
            encode.push("--ipv6");
        }
        let decoded = run_with(&decode, hex.as_bytes());
        if columns[5] != "ok" {
            assert_eq!(decoded.status.code(), Some(2), "{name}");
            let text = stderr(&decoded);
            assert!(text.contains(columns[5]) && text.contains("octet "), "{name}: {text}");
            assert!(decoded.stdout.is_empty());
            bad += 1;
            continue;
        }
        assert!(decoded.status.success(), "{name}: {}", stderr(&decoded));
        let encoded = run_with(&encode, &decoded.stdout);
        assert!(encoded.status.success(), "{name}: {}", stderr(&encoded));
        let digits: String = hex.split_whitespace().collect();
        assert_eq!(stdout(&encoded).trim(), digits, "{name}");
        good += 1;
    }
    assert_eq!((good, bad), (33, 7));
}

#[test]
fn what_is_no_message_is_refused_with_its_place() {
    for (args, input, what) in [
        (&["decode", "gateway", "0x12"][..], "", "character 2"),
        (&["decode", "gateway", "123"], "", "odd number"),
        (&["decode", "gateway"], "00 02", "octet"),
        (&["decode", "gateway"], "\u{e4}", "no hexadecimal digit"),
        (&["encode", "gateway"], "{", "no JSON"),
        (&["encode", "gateway"], "{\"message\": \"register\"}", "source: a value is wanted"),
        (&["encode", "fax"], "", "fax"),
    ] {
        let output = run_with(args, input.as_bytes());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains(what), "{args:?}: {}", stderr(&output));
    }
    let output = run_with(&["decode", "gateway"], &[0xff, 0xfe]);
    assert_eq!(output.status.code(), Some(2));
    let output = run_with(&["decode", "gateway"], &vec![b'0'; 2 << 20]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_key_is_its_owners_alone_and_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("home.pem");
    let path = file.to_str().unwrap();
    let id = succeed(&["keygen", "--out", path]);
    assert_eq!(id.trim().len(), 64);
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    let before = fs::read(&file).unwrap();
    let again = run(&["keygen", "--out", path]);
    assert_eq!(again.status.code(), Some(2));
    assert_eq!(fs::read(&file).unwrap(), before);
    assert_eq!(succeed(&["keygen", "--show", path]), id);
}

#[test]
fn help_tells_the_exit_codes_and_a_wrong_command_is_code_2() {
    for args in [&["help", "exit-codes"][..], &["exit-codes"]] {
        let text = succeed(args);
        assert!(text.contains("refused") && text.contains("0  done"), "{text}");
    }
    assert_eq!(run(&["frobnicate"]).status.code(), Some(2));
    assert_eq!(run(&[]).status.code(), Some(2));
    for command in [
        "recognize",
        "decode",
        "encode",
        "keygen",
        "serve",
        "gateway",
        "rule",
        "user",
        "device",
        "app",
        "send",
        "listen",
        "presence",
        "status",
        "demo",
        "bench",
    ] {
        assert!(succeed(&[command, "--help"]).contains("Example"), "{command}");
    }
}
