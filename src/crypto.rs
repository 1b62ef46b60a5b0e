//! The few primitives that parts need themselves: those of ring where TLS has brought it along, so that a build holds one
//! implementation of each, else those of RustCrypto.
#![cfg_attr(not(feature = "recognize"), allow(dead_code))]

#[cfg(feature = "tls")]
pub(crate) use with_ring::*;
#[cfg(not(feature = "tls"))]
pub(crate) use without_ring::*;

#[cfg(feature = "tls")]
mod with_ring {
    use ring::{aead, digest, hmac};

    /// SHA-256 over the parts one after the other.
    pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        parts.iter().for_each(|part| context.update(part));
        context.finish().as_ref().try_into().expect("SHA-256 has 32 octets")
    }

    /// HMAC with SHA-256 over the parts one after the other (RFC 2104).
    pub(crate) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
        parts.iter().for_each(|part| context.update(part));
        context.sign().as_ref().try_into().expect("SHA-256 has 32 octets")
    }

    /// The first octets of one block under AES-128: the mask of QUIC's header protection (RFC 9001 §5.4.3).
    pub(crate) fn aes128_mask(key: &[u8; 16], block: &[u8; 16]) -> [u8; 5] {
        let key =
            aead::quic::HeaderProtectionKey::new(&aead::quic::AES_128, key).expect("the key has 16 octets");
        key.new_mask(block).expect("a sample has 16 octets")
    }

    /// Opens what AES-128-GCM sealed, in place; `sealed` ends in the tag. How much it holds, `None` for another key.
    pub(crate) fn aes128_gcm_open(
        key: &[u8; 16],
        nonce: [u8; 12],
        head: &[u8],
        sealed: &mut [u8],
    ) -> Option<usize> {
        let key = aead::UnboundKey::new(&aead::AES_128_GCM, key).expect("the key has 16 octets");
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        let opened = aead::LessSafeKey::new(key).open_in_place(nonce, aead::Aad::from(head), sealed).ok()?;
        Some(opened.len())
    }
}

#[cfg(not(feature = "tls"))]
mod without_ring {
    use aes::cipher::{Block, BlockCipherEncrypt, KeyInit};
    use aes_gcm::{
        Aes128Gcm,
        aead::{AeadInOut, Nonce, Tag},
    };
    use hkdf::hmac::{Hmac, Mac};
    use sha2::{Digest, Sha256};

    /// SHA-256 over the parts one after the other.
    pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
        parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize().into()
    }

    /// HMAC with SHA-256 over the parts one after the other (RFC 2104).
    pub(crate) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
        let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("any length will do");
        parts.iter().fold(mac, |mac, part| mac.chain_update(part)).finalize().into_bytes().into()
    }

    /// The first octets of one block under AES-128: the mask of QUIC's header protection (RFC 9001 §5.4.3).
    pub(crate) fn aes128_mask(key: &[u8; 16], block: &[u8; 16]) -> [u8; 5] {
        let mut block = Block::<aes::Aes128>::from(*block);
        aes::Aes128::new(&(*key).into()).encrypt_block(&mut block);
        *block.first_chunk().expect("a block has 16 octets")
    }

    /// Opens what AES-128-GCM sealed, in place; `sealed` ends in the tag. How much it holds, `None` for another key.
    pub(crate) fn aes128_gcm_open(
        key: &[u8; 16],
        nonce: [u8; 12],
        head: &[u8],
        sealed: &mut [u8],
    ) -> Option<usize> {
        let (body, tag) = sealed.split_last_chunk_mut::<16>()?;
        let (nonce, tag) = (Nonce::<Aes128Gcm>::from(nonce), Tag::<Aes128Gcm>::from(*tag));
        let length = body.len();
        Aes128Gcm::new(&(*key).into()).decrypt_inout_detached(&nonce, head, body.into(), &tag).ok()?;
        Some(length)
    }
}
