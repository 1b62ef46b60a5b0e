//! QUIC Initial packets opened, so that rules see the ClientHello in them.
//!
//! Their keys come from the connection id that the client chose and a salt that is public (RFC 9001 §5.2; RFC 9369 §3.3
//! for version 2; draft-ietf-quic-tls for the drafts). Google's QUIC before Q050 has its hello in the clear.

use super::tls::{self, MAX_HELLO};
use crate::crypto::{aes128_gcm_open, aes128_mask, hmac_sha256};

/// The longest packet that is opened, in octets.
const MAX_PACKET: usize = 2048;
/// Initial packets of one datagram that are opened.
const MAX_COALESCED: usize = 4;
/// Pieces of the CRYPTO stream that may wait apart from each other.
const MAX_PIECES: usize = 32;

/// A connection id, at most 20 octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnectionId {
    octets: [u8; 20],
    length: u8,
}

impl ConnectionId {
    fn new(id: &[u8]) -> Option<ConnectionId> {
        let mut octets = [0; 20];
        octets.get_mut(..id.len())?.copy_from_slice(id);
        Some(ConnectionId { octets, length: id.len() as u8 })
    }

    fn as_slice(&self) -> &[u8] {
        &self.octets[..usize::from(self.length)]
    }
}

/// Whether a datagram begins with a packet that [`Handshake::open`] can do something with.
pub(crate) fn is_initial(datagram: &[u8]) -> bool {
    initial(datagram).is_some()
}

/// What a client has sent of its CRYPTO stream so far.
#[derive(Debug, Clone)]
pub(crate) struct Handshake {
    /// What the keys are made of: the id in the client's first packet, unless a Retry changed it.
    id: ConnectionId,
    stream: Vec<u8>,
    /// What of `stream` was received, in order and apart from each other.
    pieces: Vec<(u16, u16)>,
}

impl Handshake {
    /// Begins with the first Initial packet of a flow.
    pub(crate) fn new(datagram: &[u8]) -> Option<Handshake> {
        let packet = initial(datagram)?;
        Some(Handshake { id: packet.destination, stream: Vec::new(), pieces: Vec::new() })
    }

    /// Opens every Initial packet in a datagram and says whether one could be.
    pub(crate) fn open(&mut self, datagram: &[u8]) -> bool {
        let mut rest = datagram;
        let mut opened = false;
        for _ in 0..MAX_COALESCED {
            let Some(packet) = initial(rest) else {
                break;
            };
            let mut buffer = [0; MAX_PACKET];
            let mut frames = open(&packet, &self.id, &mut buffer);
            if frames.is_none() && packet.destination != self.id {
                // After a Retry the client takes the id it was given.
                frames = open(&packet, &packet.destination, &mut buffer);
                if frames.is_some() {
                    self.id = packet.destination;
                }
            }
            let Some(length) = frames else {
                break;
            };
            opened = true;
            self.frames(&buffer[..length]);
            rest = &rest[packet.end..];
        }
        opened
    }

    /// The ClientHello as far as it is there without a gap, and whether that is all of it.
    pub(crate) fn hello(&self) -> (&[u8], bool) {
        let end = match self.pieces.first() {
            Some((0, end)) => usize::from(*end),
            _ => 0,
        };
        let message = &self.stream[..end];
        match tls::message_len(message) {
            Some(length) if message.first() == Some(&1) && message.len() >= length => {
                (&message[..length], true)
            }
            _ => (message, false),
        }
    }

    /// Octets of memory.
    pub(crate) fn memory(&self) -> usize {
        size_of::<Handshake>() + self.stream.capacity() + self.pieces.capacity() * 4
    }

    fn frames(&mut self, mut rest: &[u8]) -> Option<()> {
        while let Some((kind, after)) = rest.split_first() {
            rest = after;
            match kind {
                // PADDING, PING.
                0 | 1 => {}
                // ACK, with and without ECN counts.
                2 | 3 => {
                    varint(&mut rest)?;
                    varint(&mut rest)?;
                    let ranges = varint(&mut rest)?;
                    for _ in 0..=ranges.checked_mul(2)? {
                        varint(&mut rest)?;
                    }
                    for _ in 0..if *kind == 3 { 3 } else { 0 } {
                        varint(&mut rest)?;
                    }
                }
                // CRYPTO.
                6 => {
                    let offset = usize::try_from(varint(&mut rest)?).ok()?;
                    let length = usize::try_from(varint(&mut rest)?).ok()?;
                    let (data, after) = rest.split_at_checked(length)?;
                    rest = after;
                    self.piece(offset, data);
                }
                _ => return None,
            }
        }
        Some(())
    }

    fn piece(&mut self, offset: usize, data: &[u8]) {
        let Some(end) = offset.checked_add(data.len()).filter(|end| *end <= MAX_HELLO) else {
            return;
        };
        let (mut first, mut last) = (offset as u16, end as u16);
        let apart = |piece: &(u16, u16)| piece.1 < first || piece.0 > last;
        if data.is_empty() || (self.pieces.len() == MAX_PIECES && self.pieces.iter().all(apart)) {
            return;
        }
        if self.stream.len() < end {
            self.stream.resize(end, 0);
        }
        self.stream[offset..end].copy_from_slice(data);
        self.pieces.retain(|piece| {
            let touches = piece.1 >= first && piece.0 <= last;
            if touches {
                first = first.min(piece.0);
                last = last.max(piece.1);
            }
            !touches
        });
        let place = self.pieces.partition_point(|piece| piece.0 < first);
        self.pieces.insert(place, (first, last));
    }
}

/// The server name in the hello of Google's QUIC, versions before Q050: the SNI tag of a CHLO message.
pub(crate) fn google_name(datagram: &[u8]) -> Option<&[u8]> {
    let head = &datagram[..datagram.len().min(96)];
    let is_google = head.get(1..5).is_some_and(google_version) || head.get(9..13).is_some_and(google_version);
    if !is_google {
        return None;
    }
    let start = head.windows(4).position(|octets| octets == b"CHLO")?;
    let message = &datagram[start..];
    let count = usize::from(u16::from_le_bytes([*message.get(4)?, *message.get(5)?]));
    let tags = message.get(8..8 + count.min(128) * 8)?;
    let values = message.get(8 + count * 8..)?;
    let mut begin = 0;
    for entry in tags.chunks_exact(8) {
        let end = usize::try_from(u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]])).ok()?;
        if entry.starts_with(b"SNI\0") {
            return values.get(begin..end);
        }
        begin = end;
    }
    None
}

fn google_version(octets: &[u8]) -> bool {
    octets[0] == b'Q' && octets[1..].iter().all(u8::is_ascii_digit)
}

struct Initial<'a> {
    version: Version,
    destination: ConnectionId,
    packet: &'a [u8],
    number_at: usize,
    end: usize,
}

/// The Initial packet that begins here, if it is one of a version that can be opened.
fn initial(datagram: &[u8]) -> Option<Initial<'_>> {
    let (&[first, a, b, c, d], mut rest) = datagram.split_first_chunk()?;
    let version = version(u32::from_be_bytes([a, b, c, d]))?;
    // Long header with its fixed bit, and the type.
    if first & 0xc0 != 0xc0 || first >> 4 & 3 != version.initial_type {
        return None;
    }
    let destination = ConnectionId::new(short(&mut rest)?)?;
    short(&mut rest)?;
    let token = usize::try_from(varint(&mut rest)?).ok()?;
    rest = rest.get(token..)?;
    let length = usize::try_from(varint(&mut rest)?).ok()?;
    let number_at = datagram.len() - rest.len();
    let end = number_at.checked_add(length).filter(|end| *end <= datagram.len())?;
    Some(Initial { version, destination, packet: &datagram[..end], number_at, end })
}

/// Opens a packet into `buffer` and says how much it holds.
fn open(initial: &Initial<'_>, id: &ConnectionId, buffer: &mut [u8; MAX_PACKET]) -> Option<usize> {
    let secret = hmac_sha256(&initial.version.salt, &[id.as_slice()]);
    let client: [u8; 32] = expand(&secret, "client in");
    let label = |name: &str| format!("quic{} {name}", if initial.version.second { "v2" } else { "" });
    let key: [u8; 16] = expand(&client, &label("key"));
    let mut nonce: [u8; 12] = expand(&client, &label("iv"));
    let header_key: [u8; 16] = expand(&client, &label("hp"));

    let at = initial.number_at;
    let sample: [u8; 16] = *initial.packet.get(at + 4..)?.first_chunk()?;
    let mask = aes128_mask(&header_key, &sample);
    let mut header = [0; 1024];
    let first = initial.packet[0] ^ (mask[0] & 0x0f);
    let number_len = usize::from(first & 3) + 1;
    let (plain, sealed) = initial.packet.split_at_checked(at + number_len)?;
    // A token longer than this is not seen in practice.
    let header = header.get_mut(..plain.len())?;
    header.copy_from_slice(plain);
    header[0] = first;
    for (at, octet) in header[at..].iter_mut().enumerate() {
        *octet ^= mask[at + 1];
        nonce[12 - number_len + at] ^= *octet;
    }
    let into = buffer.get_mut(..sealed.len())?;
    into.copy_from_slice(sealed);
    aes128_gcm_open(&key, nonce, header, into)
}

/// HKDF-Expand-Label of TLS 1.3 (RFC 8446 §7.1) with an empty context: no key of QUIC is longer than one hash, so it is
/// one HMAC (RFC 5869 §2.3), as extracting is another.
fn expand<const LENGTH: usize>(secret: &[u8; 32], label: &str) -> [u8; LENGTH] {
    let length = (LENGTH as u16).to_be_bytes();
    let info: [&[u8]; 6] = [&length, &[6 + label.len() as u8], b"tls13 ", label.as_bytes(), &[0], &[1]];
    *hmac_sha256(secret, &info).first_chunk().expect("no key is longer than the hash")
}

struct Version {
    salt: [u8; 20],
    initial_type: u8,
    second: bool,
}

fn version(number: u32) -> Option<Version> {
    let salt = match number {
        1 => "38762cf7f55934b34d179ae6a4c80cadccbb7f0a",
        // Version 2 (RFC 9369).
        0x6b33_43cf => "0dede3def700a6db819381be6e269dcbf9bd2ed9",
        0xff00_001d..=0xff00_0020 => "afbfec289993d24c9e9786f19c6111e04390a899",
        // Drafts 23 to 28; mvfst's names for draft 27.
        0xff00_0017..=0xff00_001c | 0xface_b002 | 0xface_b00e => "c3eef712c72ebb5a11a7d2432bb46365bef9f502",
        // Drafts 21 and 22; mvfst's name for it.
        0xff00_0015 | 0xff00_0016 | 0xface_b001 => "7fbcdb0e7c66bbe9193a96cd21519ebd7a02644a",
        _ => return None,
    };
    let mut octets = [0; 20];
    for (octet, digits) in octets.iter_mut().zip(salt.as_bytes().chunks_exact(2)) {
        let digit = |at: usize| (digits[at] as char).to_digit(16).expect("salts are hex") as u8;
        *octet = digit(0) << 4 | digit(1);
    }
    let second = number == 0x6b33_43cf;
    Some(Version { salt: octets, initial_type: u8::from(second), second })
}

/// A variable-length integer (RFC 9000 §16).
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let length = 1 << (rest.first()? >> 6);
    let (octets, after) = rest.split_at_checked(length)?;
    *rest = after;
    let value = octets.iter().fold(0, |value, octet| value << 8 | u64::from(*octet));
    Some(value & (u64::MAX >> (64 - (length * 8 - 2))))
}

/// Octets after one that says how many.
fn short<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, body) = rest.split_first()?;
    let (octets, after) = body.split_at_checked(usize::from(*length))?;
    *rest = after;
    Some(octets)
}

#[cfg(test)]
pub(crate) mod tests {
    // Sealed here by another implementation than the one that opens in a build with TLS.
    use aes::cipher::{Block, BlockCipherEncrypt, KeyInit};
    use aes_gcm::{Aes128Gcm, aead::AeadInOut};
    use hkdf::Hkdf;
    use sha2::Sha256;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> =
            text.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
        digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    /// An Initial packet of a client, as RFC 9001 §5 seals it, in a datagram of 1200 octets.
    pub(crate) fn seal(number: u32, destination: &[u8], packet_number: u16, frames: &[u8]) -> Vec<u8> {
        let version = version(number).expect("a known version");
        let (secret, _) = Hkdf::<Sha256>::extract(Some(&version.salt), destination);
        let client: [u8; 32] = expand(&secret.into(), "client in");
        let label = |name: &str| format!("quic{} {name}", if version.second { "v2" } else { "" });
        let key: [u8; 16] = expand(&client, &label("key"));
        let mut nonce: [u8; 12] = expand(&client, &label("iv"));
        let header_key: [u8; 16] = expand(&client, &label("hp"));
        let mut header = vec![0xc1 | version.initial_type << 4];
        header.extend(number.to_be_bytes());
        header.push(destination.len() as u8);
        header.extend(destination);
        header.extend([0, 0]);
        let mut body = frames.to_vec();
        body.resize((1200 - header.len() - 4 - 16).max(frames.len()), 0);
        header.extend((0x4000 | (2 + body.len() as u16 + 16)).to_be_bytes());
        let at = header.len();
        header.extend(packet_number.to_be_bytes());
        nonce[10] ^= header[at];
        nonce[11] ^= header[at + 1];
        let cipher = Aes128Gcm::new(&key.into());
        let tag = cipher
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

    pub(crate) fn crypto(offset: u16, data: &[u8]) -> Vec<u8> {
        let mut out = vec![6];
        out.extend((0x4000 | offset).to_be_bytes());
        out.extend((0x4000 | data.len() as u16).to_be_bytes());
        out.extend(data);
        out
    }

    fn hello(length: usize) -> Vec<u8> {
        let mut out = vec![1, 0, (length >> 8) as u8, length as u8];
        out.extend((0..length).map(|at| at as u8));
        out
    }

    #[test]
    fn keys_of_rfc_9001_appendix_a() {
        let version = version(1).expect("version 1");
        let (secret, _) = Hkdf::<Sha256>::extract(Some(&version.salt), &hex("8394c8f03e515708"));
        let client: [u8; 32] = expand(&secret.into(), "client in");
        assert_eq!(client.to_vec(), hex("c00cf151ca5be075ed0ebfb5c80323c42d6b7db67881289af4008f1f6c357aea"));
        assert_eq!(expand::<16>(&client, "quic key").to_vec(), hex("1f369613dd76d5467730efcbe3b1a22d"));
        assert_eq!(expand::<16>(&client, "quic hp").to_vec(), hex("9f50449e04a0e810283a1e9933adedd2"));
    }

    #[test]
    fn every_version_opens() {
        let hello = hello(300);
        for version in [1, 0x6b33_43cf, 0xff00_001d, 0xff00_001b, 0xface_b001] {
            let datagram = seal(version, b"connection", 7, &crypto(0, &hello));
            assert_eq!(datagram.len(), 1200);
            let mut handshake = Handshake::new(&datagram).expect("an Initial");
            assert!(handshake.open(&datagram), "{version:#x}");
            assert_eq!(handshake.hello(), (&hello[..], true));
            let mut damaged = datagram.clone();
            damaged[600] ^= 1;
            assert!(!Handshake::new(&datagram).expect("an Initial").open(&damaged));
        }
    }

    #[test]
    fn a_hello_scattered_over_datagrams_and_frames() {
        let hello = hello(2500);
        let first =
            [crypto(1000, &hello[1000..1500]), vec![1, 0, 2, 1, 1, 0, 1], crypto(200, &hello[200..800])];
        let second = [crypto(1500, &hello[1500..]), crypto(0, &hello[..150])].concat();
        let third = [crypto(790, &hello[790..1100]), crypto(100, &hello[100..300])].concat();
        let datagrams: Vec<Vec<u8>> = [first.concat(), second, third]
            .iter()
            .enumerate()
            .map(|(at, frames)| seal(1, b"cid", at as u16, frames))
            .collect();
        let mut handshake = Handshake::new(&datagrams[0]).expect("an Initial");
        for (datagram, length) in datagrams.iter().zip([0, 150, hello.len()]) {
            assert!(handshake.open(datagram));
            assert_eq!(handshake.hello().0.len(), length);
        }
        assert_eq!(handshake.hello(), (&hello[..], true));
    }

    #[test]
    fn packets_that_share_a_datagram() {
        let hello = hello(2000);
        let pieces: Vec<Vec<u8>> =
            (0..6).map(|at| crypto(at * 100, &hello[usize::from(at) * 100..][..100])).collect();
        let packets = |count: u16| -> Vec<u8> {
            (0..count).flat_map(|at| seal(1, b"cid", at, &pieces[usize::from(at)])).collect()
        };
        for (count, length) in [(2, 200), (6, 100 * MAX_COALESCED)] {
            let datagram = packets(count);
            let mut handshake = Handshake::new(&datagram).expect("an Initial");
            assert!(handshake.open(&datagram));
            assert_eq!(handshake.hello().0.len(), length);
        }
    }

    #[test]
    fn a_retry_changes_the_keys() {
        let first = seal(1, b"before", 0, &crypto(0, b"\x01\0\0\x04ab"));
        let second = seal(1, b"after", 1, &crypto(6, b"cd"));
        let mut handshake = Handshake::new(&first).expect("an Initial");
        assert!(handshake.open(&first) && handshake.open(&second));
        assert_eq!(handshake.hello(), (&b"\x01\0\0\x04abcd"[..], true));
    }

    #[test]
    fn pieces_and_octets_are_bounded() {
        let mut handshake = Handshake::new(&seal(1, b"cid", 0, b"")).expect("an Initial");
        for at in 0..1000 {
            handshake.piece(at * 16 + 1, &[1; 8]);
        }
        handshake.piece(MAX_HELLO - 1, &[1, 2]);
        assert_eq!(handshake.pieces.len(), MAX_PIECES);
        assert!(handshake.memory() < MAX_HELLO + 1024);
    }

    #[test]
    fn names_of_google_quic() {
        let mut datagram = b"\x0dcidcidciQ025\x01hashhashhash\xa0\x01\0\0\xff\0".to_vec();
        datagram.extend(b"CHLO\x03\0\0\0PAD\0\x02\0\0\0SNI\0\x0d\0\0\0VER\0\x11\0\0\0..example.orgQ025");
        assert_eq!(google_name(&datagram), Some(&b"example.org"[..]));
        for length in 0..datagram.len() - 4 {
            assert_eq!(google_name(&datagram[..length]), None);
        }
    }
}
