//! A private key with its certificate, and the files that they live in.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};
use rustls::{
    pki_types::{
        CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer,
        pem::{PemObject, SectionKind},
    },
    server::ParsedCertificate,
    sign::CertifiedKey,
};

use super::{
    certificate::self_signed,
    provider::{KEY_KINDS, provider},
};
use crate::{
    crypto::sha256,
    io::KeyId,
    status::{Fault, Status},
};

/// The largest key or certificate file that is read, in octets.
pub const FILE_LIMIT: u64 = 64 * 1024;
/// The longest common name of a certificate, in characters (X.520 ub-common-name).
pub const COMMON_NAME_LIMIT: usize = 64;

/// A private key and its certificate, self-signed or with the chain of the authority that signed it.
pub struct Identity {
    certified: Arc<CertifiedKey>,
    key: PrivateKeyDer<'static>,
    id: KeyId,
}

impl Identity {
    /// A new ECDSA P-256 key with a self-signed certificate that never expires (1970 to the end of 9999: it is judged by
    /// its key, and a device may have lost its clock). A `common_name` that is a host name or IP address is also its
    /// subjectAltName, so that it works with [`ServerTrust::Authorities`](super::ServerTrust::Authorities) too.
    ///
    /// # Errors
    /// `Invalid` for a name that is empty, over [`COMMON_NAME_LIMIT`] or holds control characters; `Io` when the system
    /// gives no randomness.
    pub fn generate(common_name: &str) -> Result<Identity, Fault> {
        let length = common_name.chars().count();
        if length == 0 || length > COMMON_NAME_LIMIT || common_name.chars().any(char::is_control) {
            return Err(Fault::new(
                Status::Invalid,
                format!(
                    "a certificate's name has 1 to {COMMON_NAME_LIMIT} characters and no control characters"
                ),
            ));
        }
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let no_randomness = |_| Fault::new(Status::Io, "the system gave no randomness for a key");
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).map_err(no_randomness)?;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random).expect("it was made just now");
        let certificate = self_signed(common_name, &pair, &random).map_err(no_randomness)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.as_ref().to_vec()));
        Identity::new(vec![CertificateDer::from(certificate)], key)
    }

    /// Reads PEM text. `certificates` has the certificate of the key first and then its chain; `key` has one private key,
    /// not encrypted (PKCS#8; SEC 1 and PKCS#1 are read too). Both may be the same text.
    ///
    /// # Errors
    /// `Config` when either is missing, cannot be used, or does not belong to the other.
    pub fn from_pem(certificates: &str, key: &str) -> Result<Identity, Fault> {
        let chain = certificates_of(certificates)?;
        if chain.is_empty() {
            return Err(config("there is no certificate (BEGIN CERTIFICATE) in the PEM text"));
        }
        Identity::new(chain, private_key_of(key)?)
    }

    /// Reads both files, which may be the same one.
    ///
    /// # Errors
    /// `Config` when others than its owner may read the key's file, or as [`from_pem`](Identity::from_pem); `Io` when a
    /// file cannot be read. The text names the file.
    pub fn load(certificate: &Path, key: &Path) -> Result<Identity, Fault> {
        let secret = read_file(key, true)?;
        let public = if certificate == key { secret.clone() } else { read_file(certificate, false)? };
        Identity::from_pem(&public, &secret).map_err(|fault| {
            let files = if certificate == key {
                key.display().to_string()
            } else {
                format!("{} and {}", certificate.display(), key.display())
            };
            Fault::new(fault.status, format!("{files}: {}", fault.detail))
        })
    }

    /// The private key and the certificates in one text.
    pub fn to_pem(&self) -> String {
        let label = match &self.key {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        encode(label, self.key.secret_der()) + &self.certificate_pem()
    }

    /// The certificates alone: public.
    pub fn certificate_pem(&self) -> String {
        self.certified.cert.iter().map(|certificate| encode("CERTIFICATE", certificate)).collect()
    }

    /// Writes the private key and the certificates to a new file that only its owner may read (0600), durably.
    ///
    /// # Errors
    /// `Config` when the file exists already: it is never overwritten. `Io` when it cannot be written; nothing is left.
    pub fn write_private(&self, path: &Path) -> Result<(), Fault> {
        write_new(path, 0o600, &self.to_pem())
    }

    /// Writes the certificates alone to a new file that all may read (0644).
    ///
    /// # Errors
    /// As [`write_private`](Identity::write_private).
    pub fn write_certificate(&self, path: &Path) -> Result<(), Fault> {
        write_new(path, 0o644, &self.certificate_pem())
    }

    /// The name of the key: what others enrol or pin.
    pub fn key_id(&self) -> KeyId {
        self.id
    }

    /// What rustls signs with.
    pub(super) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Identity, Fault> {
        let id = key_id_of(&chain[0])?;
        let certified =
            CertifiedKey::from_der(chain, key.clone_key(), &provider()).map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => {
                    config("the first certificate is of another key: put the key's own certificate first")
                }
                _ => config(format!("the private key cannot be used: {KEY_KINDS} is needed")),
            })?;
        Ok(Identity { certified: Arc::new(certified), key, id })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({:?})", self.id)
    }
}

/// The name of the key in a certificate: SHA-256 over its SubjectPublicKeyInfo as it stands there (RFC 5280 §4.1).
///
/// # Errors
/// `Config` when it is not an X.509 version 3 certificate.
pub fn key_id_of(certificate: &CertificateDer<'_>) -> Result<KeyId, Fault> {
    let parsed = ParsedCertificate::try_from(certificate)
        .map_err(|_| config("a certificate cannot be read: it must be X.509 version 3"))?;
    Ok(KeyId(sha256(&[&parsed.subject_public_key_info()])))
}

/// The name of the key in the first certificate of a PEM text.
///
/// # Errors
/// `Config` when there is none, or it is not an X.509 version 3 certificate.
pub fn key_id_of_pem(text: &str) -> Result<KeyId, Fault> {
    let certificates = certificates_of(text)?;
    let first = certificates
        .first()
        .ok_or_else(|| config("there is no certificate (BEGIN CERTIFICATE) in the PEM text"))?;
    key_id_of(first)
}

/// Every certificate of a PEM text, in order.
pub(super) fn certificates_of(text: &str) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let sections = sections(text)?.into_iter();
    Ok(sections.filter_map(|(kind, der)| CertificateDer::from_pem(kind, der)).collect())
}

fn private_key_of(text: &str) -> Result<PrivateKeyDer<'static>, Fault> {
    if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
        return Err(config(
            "the private key is encrypted: decrypt it with `openssl pkcs8 -in FILE -out NEWFILE`, keep it 0600",
        ));
    }
    let mut keys = sections(text)?.into_iter().filter_map(|(kind, der)| PrivateKeyDer::from_pem(kind, der));
    match (keys.next(), keys.next()) {
        (Some(key), None) => Ok(key),
        (Some(_), Some(_)) => Err(config("there is more than one private key in the PEM text")),
        (None, _) => Err(config("there is no private key (BEGIN PRIVATE KEY) in the PEM text")),
    }
}

// The parser's own message is left out: it may quote the text, and the text may hold a key.
fn sections(text: &str) -> Result<Vec<(SectionKind, Vec<u8>)>, Fault> {
    let sections: Result<_, _> = PemObject::pem_slice_iter(text.as_bytes()).collect();
    sections.map_err(|_| config("the PEM text is damaged"))
}

/// A section of PEM: 48 octets are a line of 64 characters (RFC 7468 §2).
fn encode(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for octets in der.chunks(48) {
        let mut line = [0; 64];
        let length = STANDARD.encode_slice(octets, &mut line).expect("48 octets are 64 characters");
        text.extend(line[..length].iter().map(|character| char::from(*character)));
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

fn read_file(path: &Path, private: bool) -> Result<String, Fault> {
    let io = |error: io::Error| Fault::new(Status::Io, format!("{} cannot be read: {error}", path.display()));
    let file = File::open(path).map_err(io)?;
    // Asked of the open file, so that it cannot be exchanged between the check and the read.
    let metadata = file.metadata().map_err(io)?;
    if private && metadata.mode() & 0o077 != 0 {
        return Err(config(format!(
            "{0} holds a private key that others may read (mode {1:04o}): run `chmod 600 {0}`",
            path.display(),
            metadata.mode() & 0o7777
        )));
    }
    let mut text = String::new();
    file.take(FILE_LIMIT + 1).read_to_string(&mut text).map_err(io)?;
    if text.len() as u64 > FILE_LIMIT {
        return Err(config(format!("{} is larger than {FILE_LIMIT} octets", path.display())));
    }
    Ok(text)
}

fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), Fault> {
    let io = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => config(format!(
            "{} exists already and is not overwritten: move it away or choose another name",
            path.display()
        )),
        _ => Fault::new(Status::Io, format!("{} cannot be written: {error}", path.display())),
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(io)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| {
        // The name must outlive a power cut too: a key that was enrolled cannot be made again.
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()
    });
    written.map_err(|error| {
        // Half a key is of no use and would be in the way of the next try; the first error is the one to tell.
        let _ = fs::remove_file(path);
        io(error)
    })
}

fn config(detail: impl Into<String>) -> Fault {
    Fault::new(Status::Config, detail)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn detail(result: Result<Identity, Fault>) -> String {
        let fault = result.unwrap_err();
        assert_eq!(fault.status, Status::Config, "{fault}");
        fault.detail
    }

    #[test]
    fn pem_round_trip_keeps_the_key() {
        let identity = Identity::generate("gateway 12").unwrap();
        let text = identity.to_pem();
        assert!(text.starts_with("-----BEGIN PRIVATE KEY-----\n"));
        let again = Identity::from_pem(&text, &text).unwrap();
        assert_eq!(again.key_id(), identity.key_id());
        assert_eq!(again.to_pem(), text);
        assert!(!identity.certificate_pem().contains("PRIVATE"));
        let apart = Identity::from_pem(&identity.certificate_pem(), &text).unwrap();
        assert_eq!(apart.key_id(), identity.key_id());
        assert_ne!(Identity::generate("gateway 12").unwrap().key_id(), identity.key_id());
    }

    #[test]
    fn key_id_is_the_hash_of_the_spki() {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap();
        use rcgen::PublicKeyData;
        let expected = sha256(&[&key.subject_public_key_info()]);
        assert_eq!(key_id_of(certificate.der()).unwrap(), KeyId(expected));
    }

    #[test]
    fn key_id_agrees_with_openssl() {
        // openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes; the hash is of
        // openssl x509 -pubkey -noout | openssl pkey -pubin -outform DER | sha256sum
        let certificates = certificates_of(OPENSSL).unwrap();
        assert_eq!(key_id_of(&certificates[0]).unwrap().to_string(), OPENSSL_ID);
    }

    #[test]
    fn names() {
        for name in ["", "a\nb", &"x".repeat(65)] {
            assert_eq!(Identity::generate(name).unwrap_err().status, Status::Invalid, "{name:?}");
        }
        for name in ["x", &"é".repeat(64), "backend.example", "127.0.0.1", "::1"] {
            Identity::generate(name).unwrap();
        }
    }

    #[test]
    fn pem_that_cannot_be_used() {
        let (one, two) = (Identity::generate("one").unwrap(), Identity::generate("two").unwrap());
        let (text, cert) = (one.to_pem(), one.certificate_pem());
        assert!(detail(Identity::from_pem("", &text)).contains("no certificate"));
        assert!(detail(Identity::from_pem(&cert, &cert)).contains("no private key"));
        assert!(detail(Identity::from_pem(&cert, &two.to_pem())).contains("another key"));
        assert!(detail(Identity::from_pem(&cert, &(text.clone() + &two.to_pem()))).contains("more than one"));
        let encrypted = text.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        assert!(detail(Identity::from_pem(&cert, &encrypted)).contains("openssl pkcs8"));
        let damaged = detail(Identity::from_pem(&cert, &text.replace("-----END PRIVATE KEY-----", "")));
        assert!(damaged.contains("PEM"), "{damaged}");
        let garbage = encode("CERTIFICATE", b"no certificate");
        assert!(detail(Identity::from_pem(&garbage, &text)).contains("version 3"));
        let garbage = encode("PRIVATE KEY", b"no key");
        assert!(detail(Identity::from_pem(&cert, &garbage)).contains("cannot be used"));
    }

    #[test]
    fn no_cut_of_a_pem_file_is_taken_or_quoted() {
        let text = Identity::generate("x").unwrap().to_pem();
        let secret = &text.lines().nth(1).unwrap()[40..56];
        for cut in 0..text.len() - 1 {
            let fault = Identity::from_pem(&text[..cut], &text[..cut]).unwrap_err();
            assert!(!fault.detail.contains(secret));
        }
    }

    #[test]
    fn files_are_private_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let (key, cert) = (dir.path().join("gateway.key"), dir.path().join("gateway.crt"));
        let identity = Identity::generate("gateway").unwrap();
        identity.write_private(&key).unwrap();
        identity.write_certificate(&cert).unwrap();
        assert_eq!(fs::metadata(&key).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(Identity::load(&key, &key).unwrap().key_id(), identity.key_id());
        assert_eq!(Identity::load(&cert, &key).unwrap().key_id(), identity.key_id());

        let before = fs::read(&key).unwrap();
        let fault = Identity::generate("other").unwrap().write_private(&key).unwrap_err();
        assert_eq!(fault.status, Status::Config);
        assert!(fault.detail.contains("not overwritten"), "{fault}");
        assert_eq!(fs::read(&key).unwrap(), before);

        // A link that leads nowhere is not followed either.
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("nowhere"), &link).unwrap();
        assert!(identity.write_private(&link).is_err());
        assert!(!dir.path().join("nowhere").exists());

        for mode in [0o640, 0o604, 0o644, 0o620, 0o601] {
            fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
            let text = detail(Identity::load(&cert, &key));
            assert!(text.contains(&format!("chmod 600 {}", key.display())), "{text}");
        }
        fs::set_permissions(&key, fs::Permissions::from_mode(0o400)).unwrap();
        Identity::load(&cert, &key).unwrap();
    }

    #[test]
    fn files_that_cannot_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("none");
        let fault = Identity::load(&path, &path).unwrap_err();
        assert_eq!(fault.status, Status::Io);
        assert!(fault.detail.contains("none"), "{fault}");
        assert_eq!(
            Identity::generate("x").unwrap().write_private(&path.join("y")).unwrap_err().status,
            Status::Io
        );
        write_new(&path, 0o600, &"x".repeat(FILE_LIMIT as usize + 1)).unwrap();
        assert!(detail(Identity::load(&path, &path)).contains("larger than"));
        fs::remove_file(&path).unwrap();
        write_new(&path, 0o600, &"x".repeat(FILE_LIMIT as usize)).unwrap();
        assert!(detail(Identity::load(&path, &path)).starts_with(&path.display().to_string()));
    }

    #[test]
    fn debug_shows_no_key() {
        let identity = Identity::generate("x").unwrap();
        assert_eq!(format!("{identity:?}"), format!("Identity({:?})", identity.key_id()));
    }

    const OPENSSL: &str = "\
-----BEGIN CERTIFICATE-----
MIIBczCCARmgAwIBAgIUGfufqoEHOaWNPkWvTzYbziQpAagwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAeFw0yNjExMjEwMTE0MDJaFw0yNjExMjIwMTE0MDJa
MA8xDTALBgNVBAMMBHRlc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARMSRNl
OqmE1m0blfwdb4u1mHgbHgUphMfXYAZ+YURt/LFixrZ1CFxg02QD0niQoHYp0E7G
IbuYnsJ1cNkWOFKeo1MwUTAdBgNVHQ4EFgQUC2O1DdydDcQdRPSlRSV+oMurYU0w
HwYDVR0jBBgwFoAUC2O1DdydDcQdRPSlRSV+oMurYU0wDwYDVR0TAQH/BAUwAwEB
/zAKBggqhkjOPQQDAgNIADBFAiBzIPaK4ji6d+qHtLwD+Ls+J8rtsOpv2cHAWOYq
Ss3gvgIhAKlu2atSaZ6KLTHWp15QL7cTTgiZWygso/8SEvwtviQ7
-----END CERTIFICATE-----";
    const OPENSSL_ID: &str = "14130110a71550817589b34f1b9f6f810f53de558e0deb9e2e855efc3fa434f6";
}
