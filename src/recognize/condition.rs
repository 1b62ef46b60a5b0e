//! What a rule needs beyond octets, written as a leading comment group: `(?#udp port=53 len=12-512)`.
//!
//! A peer that matches with PCRE ignores the comment and sees an ordinary pattern. The language is described for
//! authors in `docs/rules.md`; it is parsed strictly, since a word that is silently ignored makes a rule too wide.

use std::ops::RangeInclusive;

/// Which octets a pattern is matched against.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum View {
    /// The stream of one direction (TCP) or each datagram (UDP).
    #[default]
    Raw,
    /// The server name of a ClientHello, in TLS and in QUIC, or the host of an HTTP request.
    Name,
    /// The server name of a ClientHello, in TLS and in QUIC.
    Sni,
    /// The host of an HTTP request, without the port.
    Host,
    /// The User-Agent of an HTTP request.
    Agent,
    /// The protocols a ClientHello offers (ALPN), joined by commas.
    Alpn,
    /// The whole ClientHello message, in TLS and in QUIC, joined from its parts.
    Hello,
    /// The Certificate message of a server, in TLS up to 1.2.
    Certificates,
    /// The name that a DNS, mDNS or LLMNR message asks for.
    Dns,
}

/// One side of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// Who began the flow.
    Initiator,
    /// The other one.
    Responder,
}

/// TCP or UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A number in the payload that must agree with the payload's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LengthField {
    /// Octets of the number: 1, 2, 3 or 4.
    pub width: u8,
    /// Least significant octet first.
    pub little: bool,
    /// Octets before the number.
    pub at: u8,
    /// What to add to the number to get the payload's length.
    pub add: i16,
}

/// Everything that a leading comment group can say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conditions {
    /// `tcp`, `udp`.
    pub transport: Option<Transport>,
    /// `name`, `sni`, `host`, `agent`, `alpn`, `hello`, `cert`, `dns`.
    pub view: View,
    /// `port=`: a port of either end is in one of these.
    pub ports: Vec<RangeInclusive<u16>>,
    /// `len=`: the datagram's payload length, in octets.
    pub len: Option<RangeInclusive<u16>>,
    /// `size=`: a number in the datagram agrees with its length.
    pub size: Option<LengthField>,
    /// `from=`: who sent it.
    pub from: Option<Side>,
    /// `nth=`: which of the flow's payload datagrams, the first being 1.
    pub nth: Option<RangeInclusive<u8>>,
    /// `times=`: in how many datagrams of the flow the pattern must be found.
    pub times: u8,
    /// `prio=`: 0 to 9. Below [`SURE`] the flow is looked at further.
    pub priority: u8,
}

/// The priority from which a match settles a flow, and that of rules that say nothing.
pub const SURE: u8 = 5;

impl Default for Conditions {
    fn default() -> Conditions {
        Conditions {
            transport: None,
            view: View::Raw,
            ports: Vec::new(),
            len: None,
            size: None,
            from: None,
            nth: None,
            times: 1,
            priority: SURE,
        }
    }
}

/// A leading comment group that is not in the language.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// No closing parenthesis.
    #[error("the conditions are not closed by ')'")]
    Unclosed,
    /// A word that means nothing.
    #[error("unknown condition '{0}'")]
    Unknown(String),
    /// A word that may stand once only.
    #[error("'{0}' contradicts or repeats an earlier condition")]
    Repeated(String),
    /// A value outside its range.
    #[error("'{0}' has a value that is not allowed")]
    Value(String),
    /// A condition on datagrams in a rule that is not for UDP payloads alone.
    #[error("'{0}' needs 'udp' and no view")]
    NeedsUdp(&'static str),
    /// A view that UDP or TCP cannot have.
    #[error("this transport has no such view")]
    NoSuchView,
}

impl Conditions {
    /// Splits a rule's text into its conditions and its pattern. Text without a leading `(?#` has none.
    ///
    /// # Errors
    /// [`ConditionError`], which names the word.
    pub fn split(text: &str) -> Result<(Conditions, &str), ConditionError> {
        let Some(rest) = text.strip_prefix("(?#") else {
            return Ok((Conditions::default(), text));
        };
        let (words, pattern) = rest.split_once(')').ok_or(ConditionError::Unclosed)?;
        let mut conditions = Conditions::default();
        let mut seen: Vec<&str> = Vec::new();
        for word in words.split(' ').filter(|word| !word.is_empty()) {
            let kind = conditions.word(word)?;
            if seen.contains(&kind) {
                return Err(ConditionError::Repeated(word.to_owned()));
            }
            seen.push(kind);
        }
        conditions.check()?;
        Ok((conditions, pattern))
    }

    /// Takes one word in and says what kind it is.
    fn word(&mut self, word: &str) -> Result<&'static str, ConditionError> {
        let bad = || ConditionError::Value(word.to_owned());
        let Some((key, value)) = word.split_once('=') else {
            let (view, transport) = match word {
                "tcp" => (None, Some(Transport::Tcp)),
                "udp" => (None, Some(Transport::Udp)),
                "name" => (Some(View::Name), None),
                "sni" => (Some(View::Sni), None),
                "host" => (Some(View::Host), None),
                "agent" => (Some(View::Agent), None),
                "alpn" => (Some(View::Alpn), None),
                "hello" => (Some(View::Hello), None),
                "cert" => (Some(View::Certificates), None),
                "dns" => (Some(View::Dns), None),
                _ => return Err(ConditionError::Unknown(word.to_owned())),
            };
            self.transport = transport.or(self.transport);
            self.view = view.unwrap_or(self.view);
            return Ok(if view.is_some() { "view" } else { "transport" });
        };
        match key {
            "port" => {
                for part in value.split(',') {
                    self.ports.push(range(part).ok_or_else(bad)?);
                }
                Ok("port")
            }
            "len" => {
                self.len = Some(range(value).ok_or_else(bad)?);
                Ok("len")
            }
            "size" => {
                self.size = Some(LengthField::parse(value).ok_or_else(bad)?);
                Ok("size")
            }
            "from" => {
                self.from = Some(match value {
                    "initiator" => Side::Initiator,
                    "responder" => Side::Responder,
                    _ => return Err(bad()),
                });
                Ok("from")
            }
            "nth" => {
                let nth = range::<u8>(value).filter(|range| *range.start() > 0).ok_or_else(bad)?;
                self.nth = Some(nth);
                Ok("nth")
            }
            "times" => {
                self.times = number(value).filter(|times| (2..=8).contains(times)).ok_or_else(bad)?;
                Ok("times")
            }
            "prio" => {
                self.priority = number(value).filter(|priority| *priority <= 9).ok_or_else(bad)?;
                Ok("prio")
            }
            _ => Err(ConditionError::Unknown(word.to_owned())),
        }
    }

    fn check(&self) -> Result<(), ConditionError> {
        let datagrams = self.transport == Some(Transport::Udp) && self.view == View::Raw;
        let needy = [
            ("len", self.len.is_some()),
            ("size", self.size.is_some()),
            ("nth", self.nth.is_some()),
            ("times", self.times > 1),
        ];
        for (word, present) in needy {
            if present && !datagrams {
                return Err(ConditionError::NeedsUdp(word));
            }
        }
        match (self.transport, self.view) {
            (Some(Transport::Udp), View::Host | View::Agent | View::Certificates) => {
                Err(ConditionError::NoSuchView)
            }
            _ => Ok(()),
        }
    }
}

impl LengthField {
    /// `be16@2+20`: the order, the bits, the place and what to add.
    fn parse(text: &str) -> Option<LengthField> {
        let (little, rest) = match text.split_at_checked(2)? {
            ("be", rest) => (false, rest),
            ("le", rest) => (true, rest),
            _ => return None,
        };
        let (bits, rest) = rest.split_once('@')?;
        let width = match bits {
            "8" => 1,
            "16" => 2,
            "24" => 3,
            "32" => 4,
            _ => return None,
        };
        let (at, add) = match rest.find(['+', '-']) {
            Some(sign) => {
                let add: i16 = number(&rest[sign + 1..])?;
                (&rest[..sign], if rest[sign..].starts_with('-') { -add } else { add })
            }
            None => (rest, 0),
        };
        Some(LengthField { width, little, at: number(at)?, add })
    }

    /// Whether the number in `payload` agrees with `payload_len`.
    pub fn holds(&self, payload: &[u8], payload_len: u32) -> bool {
        let (at, width) = (usize::from(self.at), usize::from(self.width));
        let Some(field) = payload.get(at..at + width) else {
            return false;
        };
        let value = match self.little {
            true => field.iter().rev().fold(0, |value, octet| value << 8 | i64::from(*octet)),
            false => field.iter().fold(0, |value, octet| value << 8 | i64::from(*octet)),
        };
        value + i64::from(self.add) == i64::from(payload_len)
    }
}

/// A decimal number without sign or superfluous zeros.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let plain = text.bytes().all(|octet| octet.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// `7` or `7-9`.
fn range<T: std::str::FromStr + PartialOrd + Copy>(text: &str) -> Option<RangeInclusive<T>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_at_once() {
        let text =
            "(?#udp port=53,5353-5355 len=12-512 size=be16@2+20 from=initiator nth=1-3 times=3 prio=2)^a(b)";
        let (conditions, pattern) = Conditions::split(text).expect("parses");
        assert_eq!(pattern, "^a(b)");
        let want = Conditions {
            transport: Some(Transport::Udp),
            view: View::Raw,
            ports: vec![53..=53, 5353..=5355],
            len: Some(12..=512),
            size: Some(LengthField { width: 2, little: false, at: 2, add: 20 }),
            from: Some(Side::Initiator),
            nth: Some(1..=3),
            times: 3,
            priority: 2,
        };
        assert_eq!(conditions, want);
        assert_eq!(Conditions::split("(?#name)x").expect("parses").0.view, View::Name);
        assert_eq!(Conditions::split("(?#)x"), Ok((Conditions::default(), "x")));
        assert_eq!(Conditions::split("x(?#udp)"), Ok((Conditions::default(), "x(?#udp)")));
    }

    #[test]
    fn strict() {
        for bad in [
            "(?#udp",
            "(?#icmp)",
            "(?#udp tcp)",
            "(?#sni host)",
            "(?#port=)",
            "(?#port=70000)",
            "(?#port=9-8)",
            "(?#port=+9)",
            "(?#port=09)",
            "(?#len=5)",
            "(?#tcp len=5)",
            "(?#udp sni len=5)",
            "(?#udp times=1)",
            "(?#udp nth=0)",
            "(?#prio=10)",
            "(?#from=me)",
            "(?#udp size=16@2)",
            "(?#udp size=be16@2+)",
            "(?#udp size=be12@2)",
            "(?#prio=1 prio=1)",
            "(?#UDP)",
            "(?#udp host)",
            "(?#udp size=be16@300)",
        ] {
            assert!(Conditions::split(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn length_fields() {
        let field = |text| LengthField::parse(text).expect("parses");
        assert!(field("be16@2+20").holds(&[0, 1, 0, 8, 9], 28));
        assert!(!field("be16@2+20").holds(&[0, 1, 0, 8, 9], 27));
        assert!(field("le32@0-4").holds(&[9, 0, 0, 0], 5));
        assert!(field("be24@1+4").holds(&[0xff, 0, 1, 0], 260));
        assert!(!field("be8@4").holds(&[0, 1, 0, 8], 8));
    }
}
