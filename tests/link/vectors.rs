//! Each kind of datagram for fixed seeds, so that what travels cannot change unnoticed. `HAILPOST_BLESS=1` writes them anew.

use std::{collections::BTreeMap, fmt::Write as _, fs};

use crate::pair::{CALM, Conditions, Pair};
use hailpost::link::ServerConfig;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/link-vectors.txt");

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

#[test]
fn what_travels_is_what_travelled() {
    let mut pair = Pair::with(42, 1, ServerConfig { hellos_without_cookie: 0, ..ServerConfig::default() });
    // No chance at all, so that the order is always the same.
    pair.conditions = Conditions { jitter: 0, ..CALM };
    pair.up();
    pair.send_up(0, b"up");
    pair.send_down(0, b"down");
    pair.run(3000);
    pair.restart();
    pair.send_up(0, b"again");
    pair.run(3000);
    let unknown = hailpost::wire::link::Hello {
        server_key: [0; 2],
        session_id: [1; 16],
        cookie: [0; 16],
        noise: &[5; 52],
    };
    let from = hailpost::link::Path::Datagram("192.0.2.9:9".parse().unwrap());
    pair.config.hellos_without_cookie = 10;
    pair.restart();
    pair.deliver(from, &unknown.encode());
    pair.devices[0].client.close(pair.now);
    pair.settle();

    let mut found: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let ups = pair.devices[0].sent.iter().map(|octets| ("up", octets));
    let downs = pair.answers.iter().map(|(_, octets)| ("down", octets));
    for (way, octets) in ups.chain(downs) {
        let kind = match (&octets[..4], octets.len()) {
            ([0, 0, 0, 0], _) => format!("handshake {}", octets[4]),
            (_, 16) => "sixteen octets".to_owned(),
            (_, length) => format!("data of {length}"),
        };
        found.entry(format!("{way}, {kind}")).or_insert_with(|| octets.clone());
    }
    let text = found.iter().fold(String::new(), |mut text, (name, octets)| {
        let _ = writeln!(text, "{name}: {}", hex(octets));
        text
    });
    if std::env::var_os("HAILPOST_BLESS").is_some() {
        fs::write(FILE, &text).unwrap();
    }
    assert_eq!(text, fs::read_to_string(FILE).unwrap_or_default());
    for kind in ["up, handshake 1", "up, handshake 5", "up, sixteen octets", "up, data of 34"] {
        assert!(found.contains_key(kind), "{kind}");
    }
    for kind in [2, 3, 4, 6].map(|kind| format!("down, handshake {kind}")) {
        assert!(found.contains_key(&kind), "{kind}");
    }
}
