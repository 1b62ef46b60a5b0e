//! One-time tokens: how a gateway whose key nobody has enrolled yet comes in (DECISIONS 1; docs/gateway-protocol.md,
//! "Enrolment by a token").

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    crypto::sha256,
    status::{Fault, Status},
};

/// Sixteen random octets that enrol one key, once. As text: 22 characters of base64url. Never shown by `Debug`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token(pub [u8; 16]);

impl Token {
    /// What the back end keeps of it.
    pub fn digest(&self) -> [u8; 32] {
        sha256(&[b"hailpost token", &self.0])
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 22];
        URL_SAFE_NO_PAD.encode_slice(self.0, &mut text).expect("16 octets are 22 characters");
        f.write_str(std::str::from_utf8(&text).expect("they are ASCII"))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(set)")
    }
}

impl FromStr for Token {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Token, Fault> {
        let mut octets = [0; 16];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut octets) {
            Ok(16) => Ok(Token(octets)),
            // The text may be a token all the same, so it is not repeated.
            _ => Err(Fault::new(
                Status::Config,
                "a token is 22 characters of base64url: copy the line that `hailpost gateway token` printed",
            )),
        }
    }
}

/// What the holder of a token becomes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// What people will call it; at most 255 octets.
    pub name: String,
    /// Whom it will share with; at most 64 octets, not empty.
    pub group: String,
    /// Its word alone will be enough.
    pub trusted: bool,
    /// It takes the place of the gateway of that name and group, whose key is forgotten then.
    pub replaces: bool,
    /// Not from this unix second on.
    pub expires: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_one_text_and_is_not_shown() {
        let token = Token([0xfe; 16]);
        let text = token.to_string();
        assert_eq!((text.len(), text.parse::<Token>().unwrap()), (22, token));
        assert!(!format!("{token:?}").contains(&text));
        for wrong in ["", &text[1..], &format!("{text}="), &format!("{text}A"), &text.replace('_', "/")] {
            let fault = wrong.parse::<Token>().unwrap_err();
            assert!(wrong.is_empty() || !fault.detail.contains(wrong));
        }
        assert_ne!(token.digest()[..16], token.0);
    }
}
