//! Keys of a session, and sealing with them. Keys are kept raw, 16 octets each, and expanded for each datagram: what a
//! million idle sessions save in memory is worth a hundred nanoseconds.

use aes::Aes128;
use aes_gcm::{
    Aes128Gcm, KeyInit, Nonce, Tag,
    aead::{AeadInOut, consts::U12},
};
use ccm::{Ccm, consts::U8};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::wire::link::{BEAT, BEAT_TAG, HEAD, TAG, head};

type BeatCipher = Ccm<Aes128, U8, U12>;

/// Which way a datagram goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// Device to server.
    Up,
    /// Server to device.
    Down,
}

/// The four keys of a session, 64 octets.
#[derive(Clone, Copy)]
pub(super) struct Keys {
    data: [[u8; 16]; 2],
    beat: [[u8; 16]; 2],
}

impl Keys {
    /// No session's.
    pub const NONE: Keys = Keys { data: [[0; 16]; 2], beat: [[0; 16]; 2] };

    /// The keys under a root, a label for each.
    pub fn of(root: &[u8; 32]) -> Keys {
        Keys {
            data: [expand(root, b"hail data up"), expand(root, b"hail data down")],
            beat: [expand(root, b"hail beat up"), expand(root, b"hail beat down")],
        }
    }

    /// Seals a data datagram, of which the frame is in `frame`.
    pub fn seal_data(&self, way: Way, id: u32, counter: u64, frame: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.extend_from_slice(&head(id, counter));
        frame(&mut out);
        seal(&self.data[way as usize], nonce(counter), HEAD, &mut out);
        out
    }

    /// Opens a data datagram in place: what was sealed, or `None` when it does not open.
    pub fn open_data<'a>(&self, way: Way, counter: u64, datagram: &'a mut [u8]) -> Option<&'a [u8]> {
        open(&self.data[way as usize], nonce(counter), HEAD, datagram)
    }

    /// A heartbeat.
    pub fn seal_beat(&self, way: Way, id: u32, counter: u64, kind: u8, flags: u8) -> [u8; BEAT] {
        let mut out = [0; BEAT];
        out[..HEAD].copy_from_slice(&head(id, counter));
        out[HEAD] = kind;
        out[HEAD + 1] = flags;
        let (known, rest) = out.split_at_mut(HEAD);
        let (body, tag) = rest.split_at_mut(2);
        let made = BeatCipher::new(&self.beat[way as usize].into())
            .encrypt_inout_detached(&nonce(counter).into(), known, body.into())
            .expect("two octets are not too many");
        tag.copy_from_slice(&made);
        out
    }

    /// What a peer could say that has the keys: any octets, two of them as a heartbeat.
    pub fn forge(&self, way: Way, id: u32, counter: u64, plain: &[u8]) -> Vec<u8> {
        match plain {
            [kind, flags] => self.seal_beat(way, id, counter, *kind, *flags).to_vec(),
            _ => self.seal_data(way, id, counter, |out| out.extend_from_slice(plain)),
        }
    }

    /// Type and flags of a heartbeat, or `None` when it does not open.
    pub fn open_beat(&self, way: Way, counter: u64, datagram: &[u8; BEAT]) -> Option<(u8, u8)> {
        let mut body = [datagram[HEAD], datagram[HEAD + 1]];
        let tag: [u8; BEAT_TAG] = datagram[HEAD + 2..].try_into().expect("eight octets are left");
        BeatCipher::new(&self.beat[way as usize].into())
            .decrypt_inout_detached(
                &nonce(counter).into(),
                &datagram[..HEAD],
                body.as_mut_slice().into(),
                &tag.into(),
            )
            .ok()?;
        Some((body[0], body[1]))
    }
}

/// Seals what is in `out` after the first `known` octets, which become associated data, and appends the tag.
pub(super) fn seal(key: &[u8; 16], nonce: [u8; 12], known: usize, out: &mut Vec<u8>) {
    let (known, body) = out.split_at_mut(known);
    let tag: Tag = Aes128Gcm::new(key.into())
        .encrypt_inout_detached(&Nonce::from(nonce), known, body.into())
        .expect("a datagram is not too long");
    out.extend_from_slice(&tag);
}

/// Opens what [`seal`] made, in place.
pub(super) fn open<'a>(
    key: &[u8; 16],
    nonce: [u8; 12],
    known: usize,
    sealed: &'a mut [u8],
) -> Option<&'a [u8]> {
    let (known, rest) = sealed.split_at_mut_checked(known)?;
    let (body, tag) = rest.split_at_mut_checked(rest.len().checked_sub(TAG)?)?;
    let tag: [u8; TAG] = (&*tag).try_into().expect("it was split off");
    Aes128Gcm::new(key.into())
        .decrypt_inout_detached(&Nonce::from(nonce), known, (&mut *body).into(), &tag.into())
        .ok()?;
    Some(body)
}

/// HKDF-Extract.
pub(super) fn extract(salt: &[u8], material: &[u8]) -> [u8; 32] {
    Hkdf::<Sha256>::extract(Some(salt), material).0.into()
}

/// HKDF-Expand of a 32-octet key.
pub(super) fn expand<const N: usize>(key: &[u8; 32], label: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    Hkdf::<Sha256>::from_prk(key)
        .expect("a key is as long as the hash")
        .expand(label, &mut out)
        .expect("no key is longer than 255 hashes");
    out
}

/// The first octets of HMAC over the parts, one after the other.
pub(super) fn mac<const N: usize>(key: &[u8; 32], parts: &[&[u8]]) -> [u8; N] {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("any length will do");
    parts.iter().for_each(|part| mac.update(part));
    let whole: [u8; 32] = mac.finalize().into_bytes().into();
    *whole.first_chunk().expect("no tag is longer than the hash")
}

/// Whether two secrets are the same, in a time that does not tell where they differ.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    use subtle::ConstantTimeEq;
    a.ct_eq(b).into()
}

fn nonce(counter: u64) -> [u8; 12] {
    let mut out = [0; 12];
    out[4..].copy_from_slice(&counter.to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_once_it_is_whole_and_the_right_way() {
        let keys = Keys::of(&[7; 32]);
        let sealed = keys.seal_data(Way::Up, 5, 70_000, |out| out.extend_from_slice(b"a frame"));
        assert_eq!(sealed[..HEAD], [0, 0, 0, 5, 0x11, 0x70]);
        assert_eq!(keys.open_data(Way::Up, 70_000, &mut sealed.clone()), Some(&b"a frame"[..]));
        assert_eq!(keys.open_data(Way::Up, 70_000 + 65_536, &mut sealed.clone()), None);
        assert_eq!(keys.open_data(Way::Down, 70_000, &mut sealed.clone()), None);
        for at in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1;
            assert_eq!(keys.open_data(Way::Up, 70_000, &mut flipped), None, "octet {at}");
        }
        for length in 0..sealed.len() {
            assert_eq!(keys.open_data(Way::Up, 70_000, &mut sealed[..length].to_vec()), None);
        }
    }

    #[test]
    fn heartbeats_are_sixteen_octets_and_open_likewise() {
        let keys = Keys::of(&[7; 32]);
        let sealed = keys.seal_beat(Way::Down, 5, 3, 2, 1);
        assert_eq!(keys.open_beat(Way::Down, 3, &sealed), Some((2, 1)));
        assert_eq!(keys.open_beat(Way::Up, 3, &sealed), None);
        for at in 0..BEAT {
            let mut flipped = sealed;
            flipped[at] ^= 0x80;
            assert_eq!(keys.open_beat(Way::Down, 3, &flipped), None, "octet {at}");
        }
    }

    #[test]
    fn no_two_keys_are_the_same() {
        let keys = Keys::of(&[1; 32]);
        let mut all = [keys.data[0], keys.data[1], keys.beat[0], keys.beat[1]].to_vec();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 4);
    }
}
