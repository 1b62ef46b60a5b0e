//! The certificate that goes with a new key: signed by itself, X.509 version 3 (RFC 5280), as DER.

use std::net::IpAddr;

use ring::{
    error::Unspecified,
    rand::SystemRandom,
    signature::{EcdsaKeyPair, KeyPair},
};
use rustls::pki_types::ServerName;

use crate::crypto::sha256;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const UTF8_STRING: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const CONTEXT: u8 = 0x80;
const CONTEXT_CONSTRUCTED: u8 = 0xa0;

// Object identifiers with their tags.
const ECDSA_WITH_SHA256: &[u8] = &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const EC_PUBLIC_KEY: &[u8] = &[0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const PRIME256V1: &[u8] = &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const COMMON_NAME: &[u8] = &[0x06, 3, 0x55, 4, 3];
const SUBJECT_ALT_NAME: &[u8] = &[0x06, 3, 0x55, 29, 17];

/// The certificate of an ECDSA P-256 key, valid from 1970 to the end of 9999. A name that is a host name or IP address is
/// its subjectAltName too.
///
/// # Errors
/// When the system gives no randomness for the signature.
pub(super) fn self_signed(
    common_name: &str,
    key: &EcdsaKeyPair,
    random: &SystemRandom,
) -> Result<Vec<u8>, Unspecified> {
    let point = key.public_key().as_ref();
    let name = der(
        SEQUENCE,
        &[&der(SET, &[&der(SEQUENCE, &[COMMON_NAME, &der(UTF8_STRING, &[common_name.as_bytes()])])])],
    );
    let algorithm = der(SEQUENCE, &[ECDSA_WITH_SHA256]);
    let body = der(
        SEQUENCE,
        &[
            &der(CONTEXT_CONSTRUCTED, &[&der(INTEGER, &[&[2]])]),
            &der(INTEGER, &[&serial(point)]),
            &algorithm,
            &name,
            &der(
                SEQUENCE,
                &[&der(UTC_TIME, &[b"700101000000Z"]), &der(GENERALIZED_TIME, &[b"99991231235959Z"])],
            ),
            &name,
            &der(SEQUENCE, &[&der(SEQUENCE, &[EC_PUBLIC_KEY, PRIME256V1]), &der(BIT_STRING, &[&[0], point])]),
            &alternative(common_name),
        ],
    );
    let signature = key.sign(random, &body)?;
    Ok(der(SEQUENCE, &[&body, &algorithm, &der(BIT_STRING, &[&[0], signature.as_ref()])]))
}

/// Twenty octets that follow from the key: positive, and never with a leading zero (RFC 5280 §4.1.2.2).
fn serial(point: &[u8]) -> [u8; 20] {
    let mut serial: [u8; 20] = *sha256(&[point]).first_chunk().expect("a hash has 32 octets");
    serial[0] = serial[0] & 0x7f | 0x40;
    serial
}

/// The extensions: the name as what clients look for, if it is of that kind.
fn alternative(name: &str) -> Vec<u8> {
    let named = match ServerName::try_from(name) {
        Ok(ServerName::DnsName(host)) => der(CONTEXT | 2, &[host.as_ref().as_bytes()]),
        Ok(ServerName::IpAddress(address)) => match IpAddr::from(address) {
            IpAddr::V4(address) => der(CONTEXT | 7, &[&address.octets()]),
            IpAddr::V6(address) => der(CONTEXT | 7, &[&address.octets()]),
        },
        _ => return Vec::new(),
    };
    let extension = der(SEQUENCE, &[SUBJECT_ALT_NAME, &der(OCTET_STRING, &[&der(SEQUENCE, &[&named])])]);
    der(CONTEXT_CONSTRUCTED | 3, &[&der(SEQUENCE, &[&extension])])
}

/// A value: its tag, the length of its parts, its parts. None here has more than 65,535 octets.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    match length {
        0..0x80 => out.push(length as u8),
        0x80..0x100 => out.extend([0x81, length as u8]),
        _ => out.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    out.extend(parts.iter().copied().flatten());
    out
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        process::{Command, Stdio},
    };

    use crate::net::tls::Identity;

    #[test]
    fn openssl_reads_it() {
        for (name, subject, alternative) in [
            ("backend.example", "backend.example", Some("DNS:backend.example")),
            ("192.0.2.7", "192.0.2.7", Some("IP Address:192.0.2.7")),
            ("2001:db8::7", "2001:db8::7", Some("IP Address:2001:DB8:0:0:0:0:0:7")),
            ("gateway 12", "gateway 12", None),
            (&"é".repeat(64), "", None),
        ] {
            let identity = Identity::generate(name).unwrap();
            let child = Command::new("openssl")
                .args(["x509", "-noout", "-text"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn();
            let Ok(mut child) = child else {
                eprintln!("SKIPPED: there is no openssl here");
                return;
            };
            child.stdin.take().unwrap().write_all(identity.certificate_pem().as_bytes()).unwrap();
            let text = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
            assert!(
                text.contains("Version: 3") && text.contains("Signature Algorithm: ecdsa-with-SHA256"),
                "{text}"
            );
            assert!(text.contains("Not Before: Jan  1 00:00:00 1970 GMT"), "{text}");
            assert!(text.contains("Not After : Dec 31 23:59:59 9999 GMT"), "{text}");
            assert!(text.contains("Subject: CN") && text.contains(subject), "{text}");
            assert_eq!(text.contains("Subject Alternative Name"), alternative.is_some(), "{text}");
            assert!(text.contains(alternative.unwrap_or_default()), "{text}");
        }
    }
}
