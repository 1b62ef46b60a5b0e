//! QUIC packets: a client's Initial, sealed as RFC 9001 §5 says.

use aes::cipher::{Block, BlockCipherEncrypt, KeyInit};
use aes_gcm::{Aes128Gcm, aead::AeadInOut};
use hkdf::Hkdf;
use sha2::Sha256;

use crate::flows::hello;

const SALT_1: [u8; 20] = *b"\x38\x76\x2c\xf7\xf5\x59\x34\xb3\x4d\x17\x9a\xe6\xa4\xc8\x0c\xad\xcc\xbb\x7f\x0a";
const SALT_2: [u8; 20] = *b"\x0d\xed\xe3\xde\xf7\x00\xa6\xdb\x81\x93\x81\xbe\x6e\x26\x9d\xcb\xf9\xbd\x2e\xd9";

/// An Initial packet of version 1 or 2 whose ClientHello names a server.
pub fn initial(second: bool, name: &str) -> Vec<u8> {
    let (number, salt, kind, prefix) = match second {
        false => (1u32, SALT_1, 0xc1, "quic "),
        true => (0x6b33_43cf, SALT_2, 0xd1, "quicv2 "),
    };
    let destination = b"connect!";
    let (secret, _) = Hkdf::<Sha256>::extract(Some(&salt), destination);
    let client: [u8; 32] = expand(&secret, "client in");
    let key: [u8; 16] = expand(&client, &format!("{prefix}key"));
    let mut nonce: [u8; 12] = expand(&client, &format!("{prefix}iv"));
    let header_key: [u8; 16] = expand(&client, &format!("{prefix}hp"));

    let message = hello(name);
    let mut body = vec![6, 0];
    body.extend((0x4000 | message.len() as u16).to_be_bytes());
    body.extend(message);
    body.resize(1150, 0);
    let mut header = vec![kind];
    header.extend(number.to_be_bytes());
    header.push(destination.len() as u8);
    header.extend(destination);
    header.extend([0, 0]);
    header.extend((0x4000 | (2 + body.len() as u16 + 16)).to_be_bytes());
    let at = header.len();
    header.extend([0, 1]);
    nonce[11] ^= 1;
    let tag = Aes128Gcm::new(&key.into())
        .encrypt_inout_detached(&nonce.into(), &header, (&mut body[..]).into())
        .expect("it is short enough");
    let mut out = [header, body, tag.to_vec()].concat();
    let sample: [u8; 16] = out[at + 4..at + 20].try_into().expect("it is long enough");
    let mut mask = Block::<aes::Aes128>::from(sample);
    aes::Aes128::new(&header_key.into()).encrypt_block(&mut mask);
    out[0] ^= mask[0] & 0x0f;
    out[at] ^= mask[1];
    out[at + 1] ^= mask[2];
    out
}

fn expand<const LENGTH: usize>(secret: &[u8], label: &str) -> [u8; LENGTH] {
    let mut info = (LENGTH as u16).to_be_bytes().to_vec();
    info.push(6 + label.len() as u8);
    info.extend(b"tls13 ");
    info.extend(label.as_bytes());
    info.push(0);
    let mut out = [0; LENGTH];
    let hkdf = Hkdf::<Sha256>::from_prk(secret).expect("a secret is as long as the hash");
    hkdf.expand(&info, &mut out).expect("no key is longer than 255 hashes");
    out
}
