//! What one logs in with on `hail://`, as an enrolment handed it over.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::configured::wrong;
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
        ClientConfig { interval, ..ClientConfig::new(server_key, self.session_id, self.secret) }
    }
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
