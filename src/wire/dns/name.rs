//! A domain name, in the form it has in a message.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
};

/// Longest name in octets, length octets and the root's zero included (RFC 1035 §2.3.4).
pub const MAX_NAME: usize = 255;
/// Longest label in octets (RFC 1035 §2.3.4).
pub const MAX_LABEL: usize = 63;

/// A complete domain name: labels, each after its length, ending in the root's zero octet; at most 255 octets.
///
/// Letters keep their case, and two names are equal, ordered and hashed without regard to ASCII case (RFC 4343).
#[derive(Clone)]
pub struct Name(Box<[u8]>);

/// Why a text is no domain name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing, or only a dot.
    #[error("the name is empty")]
    Empty,
    /// Two dots together, or one at the start.
    #[error("the name has an empty label between dots")]
    EmptyLabel,
    /// A label of more than 63 octets.
    #[error("the name has a label of more than 63 characters")]
    LongLabel,
    /// More than 253 characters.
    #[error("the name has more than 253 characters")]
    LongName,
    /// A character outside letters, digits, hyphen and underscore.
    #[error("the name has a character other than letters, digits, '-' and '_'")]
    Character,
    /// A letter outside ASCII, for which there is an `xn--` form.
    #[error("the name has a letter outside ASCII; write it in its xn-- form")]
    NotAscii,
    /// A label that begins or ends with a hyphen (RFC 952, RFC 1123 §2.1).
    #[error("the name has a label that begins or ends with '-'")]
    Hyphen,
}

impl Name {
    /// The root: no labels.
    pub fn root() -> Name {
        Name(Box::new([0]))
    }

    /// Reads a host or service name as people write it, with or without the last dot.
    ///
    /// Labels of 1 to 63 letters, digits, hyphens and underscores, not beginning or ending with a hyphen; the
    /// underscore is there for service labels such as `_xmpp-client._tcp` (RFC 2782) and for hosts that exist anyway.
    pub fn parse(text: &str) -> Result<Name, NameError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > MAX_NAME - 2 {
            return Err(NameError::LongName);
        }
        let mut wire = Vec::with_capacity(text.len() + 2);
        for label in text.split('.') {
            check_label(label)?;
            wire.push(label.len() as u8);
            wire.extend_from_slice(label.as_bytes());
        }
        wire.push(0);
        Ok(Name(wire.into()))
    }

    /// The name made of this one's labels and then those of `suffix`.
    pub fn join(&self, suffix: &Name) -> Result<Name, NameError> {
        let labels = &self.0[..self.0.len() - 1];
        if labels.len() + suffix.0.len() > MAX_NAME {
            return Err(NameError::LongName);
        }
        Ok(Name([labels, &suffix.0].concat().into()))
    }

    /// The labels from the left, without the root.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let (length, tail) = rest.split_first()?;
            let (label, tail) = tail.split_at(usize::from(*length));
            rest = tail;
            (!label.is_empty()).then_some(label)
        })
    }

    /// Whether the rightmost label is `label`, ASCII case aside.
    pub fn ends_in(&self, label: &str) -> bool {
        self.labels().last().is_some_and(|last| last.eq_ignore_ascii_case(label.as_bytes()))
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// The octets as they stand in a message, uncompressed.
    pub fn wire(&self) -> &[u8] {
        &self.0
    }

    /// The same name with each letter's case set by `upper`, called once a letter from the left.
    pub fn with_case(&self, mut upper: impl FnMut() -> bool) -> Name {
        // A length octet is at most 63, which is below every letter, so only labels change.
        let octet = |o: &u8| match (o.is_ascii_alphabetic(), o) {
            (true, o) if upper() => o.to_ascii_uppercase(),
            (true, o) => o.to_ascii_lowercase(),
            (false, o) => *o,
        };
        Name(self.0.iter().map(octet).collect())
    }

    /// Takes octets that the decoder has built: labels within their bounds and the root's zero.
    pub(super) fn from_decoded(wire: Vec<u8>) -> Name {
        debug_assert!(wire.len() <= MAX_NAME && wire.last() == Some(&0));
        Name(wire.into())
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Name {}

impl Ord for Name {
    fn cmp(&self, other: &Name) -> Ordering {
        let lower = |o: &u8| o.to_ascii_lowercase();
        self.0.iter().map(lower).cmp(other.0.iter().map(lower))
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.iter().for_each(|o| state.write_u8(o.to_ascii_lowercase()));
    }
}

/// As people write it, without the last dot; octets that could mislead a reader as `\DDD` (RFC 1035 §5.1).
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        for (i, label) in self.labels().enumerate() {
            if i > 0 {
                f.write_str(".")?;
            }
            for octet in label {
                match octet {
                    b'.' | b'\\' => write!(f, "\\{}", char::from(*octet))?,
                    0x21..=0x7e => write!(f, "{}", char::from(*octet))?,
                    _ => write!(f, "\\{octet:03}")?,
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}

fn check_label(label: &str) -> Result<(), NameError> {
    if label.is_empty() {
        return Err(NameError::EmptyLabel);
    }
    if !label.is_ascii() {
        return Err(NameError::NotAscii);
    }
    if !label.bytes().all(|o| o.is_ascii_alphanumeric() || o == b'-' || o == b'_') {
        return Err(NameError::Character);
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(NameError::Hyphen);
    }
    if label.len() > MAX_LABEL {
        return Err(NameError::LongLabel);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_labels_and_text_again() {
        let name = Name::parse("Mail.Example.org").unwrap();
        assert_eq!(name.wire(), b"\x04Mail\x07Example\x03org\x00");
        assert_eq!(name.to_string(), "Mail.Example.org");
        assert_eq!(name, Name::parse("mail.EXAMPLE.org.").unwrap());
        assert_eq!(name.cmp(&Name::parse("mail.example.org").unwrap()), Ordering::Equal);
        assert!(name.ends_in("ORG") && !name.ends_in("example"));
        assert_eq!(name.labels().collect::<Vec<_>>(), [&b"Mail"[..], b"Example", b"org"]);
        assert_eq!(Name::root().to_string(), ".");
        assert_eq!(Name::root().labels().count(), 0);
    }

    #[test]
    fn each_refusal_by_name() {
        for (text, why) in [
            ("", NameError::Empty),
            (".", NameError::Empty),
            ("..", NameError::EmptyLabel),
            ("a..b", NameError::EmptyLabel),
            (".a", NameError::EmptyLabel),
            ("a b", NameError::Character),
            ("a\0b", NameError::Character),
            ("a/b", NameError::Character),
            ("b\u{fc}cher.example", NameError::NotAscii),
            ("-a.b", NameError::Hyphen),
            ("a-.b", NameError::Hyphen),
        ] {
            assert_eq!(Name::parse(text), Err(why), "{text:?}");
        }
    }

    #[test]
    fn the_bounds_are_reached_and_passed() {
        assert!(Name::parse(&"a".repeat(63)).is_ok());
        assert_eq!(Name::parse(&"a".repeat(64)), Err(NameError::LongLabel));
        let longest = [&*"a".repeat(63), &"b".repeat(63), &"c".repeat(63), &"d".repeat(61)].join(".");
        let name = Name::parse(&longest).unwrap();
        assert_eq!((longest.len(), name.wire().len()), (253, MAX_NAME));
        assert_eq!(Name::parse(&format!("{longest}e")), Err(NameError::LongName));
        assert_eq!(Name::parse("x").unwrap().join(&name), Err(NameError::LongName));
        assert_eq!(name.join(&Name::root()).unwrap(), name);
    }

    #[test]
    fn octets_that_could_mislead_are_escaped() {
        let name = Name::from_decoded(b"\x05a.b\\\x07\x02\xff \x00".to_vec());
        assert_eq!(name.to_string(), "a\\.b\\\\\\007.\\255\\032");
    }

    #[test]
    fn case_is_set_letter_by_letter() {
        let mut odd = false;
        let name = Name::parse("ab1c.de").unwrap().with_case(|| {
            odd = !odd;
            odd
        });
        assert_eq!(name.to_string(), "Ab1C.dE");
        assert_eq!(name, Name::parse("ab1c.de").unwrap());
    }
}
