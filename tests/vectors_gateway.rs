//! Every `gw_*` and `bad_gw_*` vector of the specification, decoded and encoded again.

use std::{fs, path::PathBuf};

use hailpost::{
    codec,
    wire::gateway::{Encoder, Family, decode},
};

/// The specification's directory beside the project, or where `HAILPOST_SHARED` says.
fn vectors() -> Option<PathBuf> {
    let shared = std::env::var_os("HAILPOST_SHARED")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    let dir = shared.join("spec/vectors");
    if dir.join("vectors.tsv").exists() {
        return Some(dir);
    }
    eprintln!("SKIPPED: no test vectors at {} (set HAILPOST_SHARED)", dir.display());
    None
}

fn octets(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn every_vector_decodes_to_what_the_table_says_and_back() {
    let Some(dir) = vectors() else { return };
    let table = fs::read_to_string(dir.join("vectors.tsv")).unwrap();
    let (mut good, mut bad) = (0, 0);
    for line in table.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        let name = columns[0];
        if !name.starts_with("gw_") && !name.starts_with("bad_gw_") {
            continue;
        }
        let octets = octets(&fs::read_to_string(dir.join(name)).unwrap());
        assert_eq!(octets.len().to_string(), columns[4], "{name}");
        let family = if columns[2] == "IPv6" { Family::V6 } else { Family::V4 };
        let decoded = decode(family, &octets);
        if columns[5] == "ok" {
            let message = decoded.unwrap_or_else(|error| panic!("{name}: {error}"));
            let encoder =
                Encoder { family, source: message.header.source, destination: message.header.destination };
            assert_eq!(encoder.message(message.header.tag, &message.body), octets, "{name}");
            let kind = codec::Kind::Gateway(family);
            let json = codec::decode(kind, &octets).unwrap();
            assert_eq!(codec::encode(kind, &json).unwrap(), octets, "{name}: {json}");
            good += 1;
        } else {
            let error = decoded.expect_err(name).to_string();
            assert!(error.contains(columns[5]), "{name}: {error:?} does not say {:?}", columns[5]);
            bad += 1;
        }
    }
    assert_eq!((good, bad), (33, 7));
}
