//! What enrolment for `hail://` hands over: where the server is, with its key, and a credential, in one line of text.

use base64::{display::Base64Display, engine::general_purpose::URL_SAFE_NO_PAD};

use super::url::Url;
#[cfg(feature = "backend")]
use super::url::{LinkKey, Scheme};
#[cfg(feature = "backend")]
use crate::status::{Fault, Status};

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
