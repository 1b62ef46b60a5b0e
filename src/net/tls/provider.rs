//! The cryptography of TLS: ring's.
//!
//! A build that serves takes private keys of every kind, for its certificate may come from an authority. In one that only
//! connects a key is what [`Identity::generate`](super::Identity::generate) makes, ECDSA, and signing by others is left
//! out: 40 KB. What servers may show and sign with is the same in both.

#[cfg(any(feature = "backend", feature = "post"))]
pub(super) use rustls::crypto::ring::default_provider as provider;
#[cfg(not(any(feature = "backend", feature = "post")))]
pub(super) use small::provider;

/// The kinds of private key that can be loaded, for people.
#[cfg(any(feature = "backend", feature = "post"))]
pub(super) const KEY_KINDS: &str = "ECDSA P-256 or P-384, Ed25519 or RSA";
/// The kinds of private key that can be loaded, for people.
#[cfg(not(any(feature = "backend", feature = "post")))]
pub(super) const KEY_KINDS: &str = "ECDSA P-256 or P-384";

#[cfg(not(any(feature = "backend", feature = "post")))]
mod small {
    use std::sync::Arc;

    use rustls::{
        Error,
        crypto::{
            CryptoProvider, KeyProvider,
            ring::{default_provider, sign::any_ecdsa_type},
        },
        pki_types::PrivateKeyDer,
        sign::SigningKey,
    };

    pub(in super::super) fn provider() -> CryptoProvider {
        CryptoProvider { key_provider: &Ecdsa, ..default_provider() }
    }

    #[derive(Debug)]
    struct Ecdsa;

    impl KeyProvider for Ecdsa {
        fn load_private_key(&self, key: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
            any_ecdsa_type(&key)
        }
    }
}
