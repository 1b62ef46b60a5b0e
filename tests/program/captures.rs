//! recognize

use std::{
    collections::{HashMap, HashSet},
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::running::{command, objects, run, run_with, shared, stderr, stdout, succeed};

/// The capture that the demonstration makes.
fn evening(dir: &Path) -> PathBuf {
    let file = dir.join("evening.pcap");
    succeed(&["demo", "--capture", file.to_str().unwrap()]);
    file
}

/// One datagram each of so many flows.
fn many_flows(count: u32) -> Vec<u8> {
    let mut pcap = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 101, 0, 0, 0];
    for number in 0..count {
        [1, number, 32, 32].iter().for_each(|word: &u32| pcap.extend(word.to_le_bytes()));
        pcap.extend([0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0]);
        pcap.extend((0x0a00_0000 + number).to_be_bytes());
        pcap.extend([192, 0, 2, 1, 0x30, 0x39, 0xc3, 0x50, 0, 12, 0, 0, b'a', b'b', b'c', b'd']);
    }
    pcap
}

#[test]
fn a_capture_of_ten_applications() {
    let dir = tempfile::tempdir().unwrap();
    let file = evening(dir.path());
    let path = file.to_str().unwrap();
    let flows = objects(&succeed(&["recognize", path, "--json"]));
    assert_eq!(flows.len(), 180);
    let mut apps: HashMap<&str, u32> = HashMap::new();
    for flow in &flows {
        *apps.entry(flow["app"].as_str().unwrap_or("-")).or_default() += 1;
    }
    for app in ["dns", "http", "netflix", "youtube", "ssh", "mqtt", "ntp", "smtp", "sip", "-"] {
        assert_eq!(apps.get(app), Some(&18), "{app}: {apps:?}");
    }
    let first = &flows[0];
    assert_eq!(
        (&first["proto"], &first["dport"], &first["how"]),
        (&"UDP".into(), &53.into(), &"rule".into())
    );
    assert_eq!(first["packets"], 2);
    // In the order of their first packets, by how the capture was made: the ports rise within a round.
    let ports: Vec<u64> = flows.iter().map(|flow| flow["sport"].as_u64().unwrap()).collect();
    assert!(ports.is_sorted(), "{ports:?}");

    let piped = run_with(&["recognize", "-", "--json"], &fs::read(&file).unwrap());
    assert_eq!(objects(&stdout(&piped)), flows);
    let plain = succeed(&["recognize", path]);
    assert_eq!(plain.lines().count(), 180);
    assert!(plain.lines().next().unwrap().contains("dns"), "{plain}");
    let summary = objects(&succeed(&["recognize", path, "--summary", "--json"]));
    assert_eq!(summary.len(), 10);
}

#[test]
fn rules_of_ones_own_and_an_error_in_them_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = evening(dir.path());
    let rules = dir.path().join("rules.toml");
    fs::write(&rules, "[[rule]]\napp_id = 9001\nname = 'camera'\npattern = '(?#tcp)^CAM/1 hello'\n").unwrap();
    let args = ["recognize", file.to_str().unwrap(), "--json", "--rules", rules.to_str().unwrap()];
    let flows = objects(&succeed(&args));
    let (known, unknown): (Vec<&Value>, Vec<&Value>) = flows.iter().partition(|flow| !flow["app"].is_null());
    assert_eq!((known.len(), unknown.len()), (18, 162));
    assert!(known.iter().all(|flow| flow["app"] == "camera" && flow["dport"] == 8443));
    assert!(unknown.iter().all(|flow| flow["how"] == "none"));
    fs::write(&rules, "[[rule]]\napp_id = 9001\nname = 'camera'\n\npattern = '('\n").unwrap();
    let output = run(&args);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("line 1: rule 'camera'"), "{}", stderr(&output));
}

#[test]
fn a_capture_that_is_cut_gives_what_it_has_and_something_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cut.pcap");
    fs::write(&file, &many_flows(10)[..24 + 48 * 7 + 30]).unwrap();
    let output = run(&["recognize", file.to_str().unwrap(), "--json"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(objects(&stdout(&output)).len(), 7);
    assert!(stderr(&output).contains("cut at octet 390"), "{}", stderr(&output));
    fs::write(&file, "GIF89a").unwrap();
    let output = run(&["recognize", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("not a capture file"), "{}", stderr(&output));
    assert_eq!(run(&["recognize", "/nowhere/x.pcap"]).status.code(), Some(1));
    assert_eq!(run(&["recognize", dir.path().to_str().unwrap()]).status.code(), Some(2));
}

#[test]
fn a_reader_that_has_had_enough_ends_it_quietly() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("many.pcap");
    fs::write(&file, many_flows(20_000)).unwrap();
    let mut child = command(["recognize", file.to_str().unwrap()]).spawn().unwrap();
    let mut line = String::new();
    BufReader::with_capacity(64, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("UDP"), "{line}");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stderr(&output), "");
}

#[test]
fn every_labelled_flow_is_one_line_from_its_initiator() {
    let Some(dir) = shared("captures") else { return };
    let table = fs::read_to_string(dir.join("labels.tsv")).unwrap();
    let mut rows = table.lines().map(|line| line.split('\t').collect::<Vec<&str>>());
    let head = rows.next().unwrap();
    let column = |name: &str| head.iter().position(|known| *known == name).unwrap();
    let names = ["pcap", "proto", "src_ip", "src_port", "dst_ip", "dst_port"].map(column);
    let kept = column("kept_packets");
    let mut found: HashMap<String, HashMap<[String; 5], u64>> = HashMap::new();
    let mut wrong = Vec::new();
    let mut labelled = HashSet::new();
    for row in rows {
        let [pcap, rest @ ..] = names.map(|at| row[at].to_owned());
        let flows = found.entry(pcap.clone()).or_insert_with(|| {
            let path = dir.join("pcap").join(&pcap);
            let mut flows = HashMap::new();
            for flow in objects(&succeed(&["recognize", path.to_str().unwrap(), "--json"])) {
                let text = |name: &str| match &flow[name] {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                let tuple = ["proto", "src", "sport", "dst", "dport"].map(text);
                let packets = flow["packets"].as_u64().unwrap();
                assert!(flows.insert(tuple.clone(), packets).is_none(), "{pcap}: {tuple:?} came twice");
                let turned = [0, 3, 4, 1, 2].map(|at| tuple[at].clone());
                assert!(turned == tuple || !flows.contains_key(&turned), "{pcap}: {tuple:?} came both ways");
            }
            flows
        });
        if flows.get(&rest).map(u64::to_string).as_deref() != Some(row[kept]) {
            wrong.push(format!("{pcap} {rest:?} {:?} of {}", flows.get(&rest), row[kept]));
        }
        labelled.insert((pcap, rest));
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(labelled.len(), 977);
}

#[test]
fn what_recognition_is_measured_on_is_a_capture_too() {
    let dir = tempfile::tempdir().unwrap();
    let (once, twice) = (dir.path().join("evening.pcap"), dir.path().join("merged"));
    let (once, twice) = (once.to_str().unwrap(), twice.to_str().unwrap());
    succeed(&["demo", "--capture", once]);
    let of_directory = dir.path().to_str().unwrap();
    succeed(&["bench", "recognize", "--pcap", of_directory, "--repeat", "2", "--write", twice]);
    let flows = |path: &str| objects(&succeed(&["recognize", path, "--json"])).len();
    assert_eq!(flows(twice), 2 * flows(once), "the second time with addresses of its own");
}
