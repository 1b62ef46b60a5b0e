//! What enrolment for `hail://` hands over: where the server is, with its key, and a credential, in one line of text.

use std::time::Duration;

use base64::{Engine, display::Base64Display, engine::general_purpose::URL_SAFE_NO_PAD};

#[cfg(feature = "backend")]
use super::url::{LinkKey, Scheme};
use super::{configured::wrong, url::Url};
#[cfg(feature = "backend")]
use crate::status::Status;
use crate::{
    config::{Config, read_secret},
    link::ClientConfig,
    status::Fault,
};

/// A session id, and its secret.
const LEN: usize = 16 + 32;

/// A credential of the link.
pub(super) struct Credential {
    pub session_id: [u8; 16],
    pub secret: [u8; 32],
}

impl Credential {
    /// How one logs in with it at the server of this key, wishing for this heartbeat interval in seconds.
    pub fn link(self, server_key: [u8; 32], interval: u16) -> ClientConfig {
        ClientConfig {
            server_key,
            next_key: None,
            session_id: self.session_id,
            secret: self.secret,
            interval,
            resumption: None,
            rekey_after: Duration::from_secs(86_400),
        }
    }
}

/// The line that one is handed who logs in on `hail://`: where, a space, and the credential in 64 characters. It is a secret. The
/// option `credential` and the file of `credential_file` take it as it is.
pub fn credential_line(url: &Url, session_id: &[u8; 16], secret: &[u8; 32]) -> String {
    let credential = [&session_id[..], secret].concat();
    format!("{url} {}", Base64Display::new(&credential, &URL_SAFE_NO_PAD))
}

/// Where one who is enrolled finds a server of this key: at the `hail://` URL that is given, which needs no key, or else where the
/// server listens itself.
///
/// # Errors
/// [`Status::Config`] when there is neither, or it cannot be used.
#[cfg(feature = "backend")]
pub fn credential_url(given: Option<&str>, own: Option<&Url>, key: [u8; 32]) -> Result<Url, Fault> {
    let wrong = |detail: &str| Fault::new(Status::Config, format!("url: {detail}"));
    let url = match (given, own) {
        (Some(text), _) => text.parse().map_err(|fault: Fault| wrong(&fault.detail))?,
        (None, Some(own)) => own.clone(),
        (None, None) => {
            return Err(wrong("this server listens on no hail:// address: name the one where it is found"));
        }
    };
    if url.scheme != Scheme::Hail || url.key.is_some_and(|known| known.0 != key) {
        return Err(wrong("a hail:// URL is wanted, with this server's own ?key= or none"));
    }
    let url = Url { key: Some(LinkKey(key)), ..url };
    url.check_peer().map_err(|fault| wrong(&fault.detail))?;
    Ok(url)
}

/// What the options `credential` and `credential_file` hold: the server's URL, if it is there, and the credential. `None` when
/// neither is set.
pub(super) fn given(config: &Config) -> Result<Option<(Option<String>, Credential)>, Fault> {
    let (option, line) = match (config.secret("credential"), config.non_empty("credential_file")) {
        (Some(octets), _) => {
            let text = std::str::from_utf8(octets).map_err(|_| wrong("credential", "it is not text"))?;
            ("credential", text.to_owned())
        }
        (None, Some(path)) => ("credential_file", read_secret(path.as_ref())?),
        (None, None) => return Ok(None),
    };
    let mut words: Vec<&str> = line.split_ascii_whitespace().collect();
    let mut octets = [0; LEN];
    let decoded = URL_SAFE_NO_PAD.decode_slice(words.pop().unwrap_or_default(), &mut octets);
    if decoded != Ok(LEN) {
        return Err(wrong(
            option,
            "a line with the server's URL and a credential of 64 characters is wanted, or the credential alone",
        ));
    }
    let (session_id, secret) = octets.split_at(16);
    let credential = Credential {
        session_id: session_id.try_into().expect("it was cut there"),
        secret: secret.try_into().expect("a credential has 48 octets"),
    };
    match words[..] {
        [] => Ok(Some((None, credential))),
        [url] => Ok(Some((Some(url.to_owned()), credential))),
        _ => Err(wrong(option, "it has more than the server's URL and the credential")),
    }
}
