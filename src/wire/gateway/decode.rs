//! Octets to a message.

use std::net::SocketAddr;

use super::items::{address_at, u16_at, u32_at};
use super::*;

/// What is wrong with a message, and the octet (from its start) that shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("octet {offset}: {what}")]
pub struct DecodeError {
    /// Offset from the start of the message, in octets.
    pub offset: usize,
    /// What was found there.
    pub what: Malformed,
}

/// The ways in which a message can be wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    /// The input ends inside the header.
    #[error("short header: {have} octets, a header has {need}")]
    ShortHeader {
        /// Octets there are.
        have: usize,
        /// Octets a header has in this family.
        need: usize,
    },
    /// The body length is over the limit, so nothing of it is read (SPEC R-05).
    #[error("body length {0} is over the limit of 65535")]
    BodyTooLong(u32),
    /// The body length is not the number of octets that follow.
    #[error("body length {said}, but {have} octets follow")]
    BodyLength {
        /// What the header says.
        said: usize,
        /// What there is.
        have: usize,
    },
    /// An id that SPEC 5.4 does not list.
    #[error("unknown message id {0:#06x}")]
    UnknownId(u16),
    /// This message has no body.
    #[error("the body must be empty, it has {0} octets")]
    NotEmpty(usize),
    /// The body has not the length that its kind fixes.
    #[error("the body has {have} octets, this message has {need}")]
    FixedLength {
        /// Octets there are.
        have: usize,
        /// Octets there must be.
        need: usize,
    },
    /// A result other than 0 and 1.
    #[error("result {0} is neither 0 nor 1")]
    Result(u16),
    /// More than sixty records.
    #[error("{0} records, more than 60")]
    TooManyRecords(u16),
    /// The count does not fit the octets that follow it.
    #[error("count {count} does not fit the {have} octets after it")]
    Count {
        /// What the count says.
        count: u16,
        /// Octets after it.
        have: usize,
    },
    /// A rule sync over 1500 octets.
    #[error("rule sync of {0} octets, more than 1500")]
    RuleSyncTooLong(usize),
    /// A pattern that does not end.
    #[error("regex without NUL")]
    RegexUnterminated,
    /// A pattern that ends too late.
    #[error("regex field over 1024 octets")]
    RegexTooLong,
    /// Padding is zero octets up to a multiple of four.
    #[error("regex padding is not zero")]
    RegexPadding,
    /// Features and parameters are an AppID and whole words.
    #[error("{0} octets are not an AppID and whole 32-bit words")]
    Words(usize),
    /// More than 256 words.
    #[error("{0} words, more than 256")]
    TooManyWords(usize),
}

/// Length in octets of the message that starts here, or `None` while its header is not whole.
///
/// On a stream this is the framing: wait for that many octets, then [`decode`] exactly those.
pub fn message_len(family: Family, octets: &[u8]) -> Result<Option<usize>, DecodeError> {
    let at = length_offset(family);
    if octets.len() < at + 4 {
        return Ok(None);
    }
    let body = u32_at(octets, at);
    if body as usize > MAX_BODY {
        return Err(DecodeError { offset: at, what: Malformed::BodyTooLong(body) });
    }
    Ok(Some(family.header_len() + body as usize))
}

/// Decodes one message that fills `octets` exactly.
pub fn decode(family: Family, octets: &[u8]) -> Result<Message<'_>, DecodeError> {
    let header_len = family.header_len();
    let fail = |offset, what| Err(DecodeError { offset, what });
    if octets.len() < header_len {
        return fail(octets.len(), Malformed::ShortHeader { have: octets.len(), need: header_len });
    }
    let at = length_offset(family);
    let said = u32_at(octets, at) as usize;
    if said > MAX_BODY {
        return fail(at, Malformed::BodyTooLong(said as u32));
    }
    let body = &octets[header_len..];
    if said != body.len() {
        return fail(at, Malformed::BodyLength { said, have: body.len() });
    }
    let id = u16_at(octets, at + 4);
    let Some((kind, answer)) = Kind::from_id(id) else {
        return fail(at + 4, Malformed::UnknownId(id));
    };
    let width = family.address_len();
    let header = Header {
        source: SocketAddr::new(address_at(family, octets, 0), u16_at(octets, 2 * width)),
        destination: SocketAddr::new(address_at(family, octets, width), u16_at(octets, 2 * width + 2)),
        tag: u16_at(octets, at + 6),
    };
    let reader = BodyReader { family, start: header_len, octets: body };
    Ok(Message { header, body: reader.read(kind, answer)? })
}

/// Where the body length stands: after two addresses and two ports.
fn length_offset(family: Family) -> usize {
    2 * family.address_len() + 4
}

struct BodyReader<'a> {
    family: Family,
    /// Where the body starts in the message, so that errors can say where they are.
    start: usize,
    octets: &'a [u8],
}

impl<'a> BodyReader<'a> {
    fn read(&self, kind: Kind, answer: bool) -> Result<Body<'a>, DecodeError> {
        use Kind::*;
        Ok(match (kind, answer) {
            (Register, false) => self.empty(Body::Register)?,
            (Register, true) => Body::RegisterAnswer(self.outcome()?),
            (Heartbeat, false) => self.empty(Body::Heartbeat)?,
            (Heartbeat, true) => self.empty(Body::HeartbeatAnswer)?,
            (ResultSync, false) => self.result_sync()?,
            (ResultSync, true) => {
                let (serial, reserved) = self.two_words()?;
                Body::ResultSyncAnswer { serial, reserved }
            }
            (RuleSync, false) => self.rule_sync()?,
            (RuleSync, true) => {
                let (serial, reserved) = self.two_words()?;
                Body::RuleSyncAnswer { serial, reserved }
            }
            (Result, false) => {
                self.exactly(self.family.record_len())?;
                Body::Result(Record::read(self.family, self.octets))
            }
            (Result, true) => self.empty(Body::ResultAnswer)?,
            (Features, false) => {
                let (app, words) = self.words()?;
                Body::Features { app, words }
            }
            (Features, true) => self.empty(Body::FeaturesAnswer)?,
            (Parameters, false) => {
                let (app, words) = self.words()?;
                Body::Parameters { app, words }
            }
            (Parameters, true) => self.empty(Body::ParametersAnswer)?,
            (Deregister, false) => self.empty(Body::Deregister)?,
            (Deregister, true) => Body::DeregisterAnswer(self.outcome()?),
            (Enrol, false) => {
                self.exactly(16)?;
                Body::Enrol { token: self.octets.try_into().expect("there are exactly sixteen") }
            }
            (Enrol, true) => Body::EnrolAnswer(self.outcome()?),
        })
    }

    fn fail<T>(&self, offset: usize, what: Malformed) -> Result<T, DecodeError> {
        Err(DecodeError { offset: self.start + offset, what })
    }

    fn empty(&self, body: Body<'a>) -> Result<Body<'a>, DecodeError> {
        match self.octets.len() {
            0 => Ok(body),
            have => self.fail(0, Malformed::NotEmpty(have)),
        }
    }

    fn exactly(&self, need: usize) -> Result<(), DecodeError> {
        match self.octets.len() {
            have if have == need => Ok(()),
            have => self.fail(have.min(need), Malformed::FixedLength { have, need }),
        }
    }

    fn two_words(&self) -> Result<(u16, u16), DecodeError> {
        self.exactly(4)?;
        Ok((u16_at(self.octets, 0), u16_at(self.octets, 2)))
    }

    fn outcome(&self) -> Result<Outcome, DecodeError> {
        let (result, reason) = self.two_words()?;
        if result > 1 {
            return self.fail(0, Malformed::Result(result));
        }
        Ok(Outcome { result, reason: Reason(reason) })
    }

    /// Serial and count, then what the count counts.
    fn sync(&self) -> Result<(u16, u16, &'a [u8]), DecodeError> {
        if self.octets.len() < 4 {
            return self.fail(self.octets.len(), Malformed::FixedLength { have: self.octets.len(), need: 4 });
        }
        Ok((u16_at(self.octets, 0), u16_at(self.octets, 2), &self.octets[4..]))
    }

    fn result_sync(&self) -> Result<Body<'a>, DecodeError> {
        let (serial, count, octets) = self.sync()?;
        if usize::from(count) > MAX_RECORDS {
            return self.fail(2, Malformed::TooManyRecords(count));
        }
        if octets.len() != usize::from(count) * self.family.record_len() {
            return self.fail(2, Malformed::Count { count, have: octets.len() });
        }
        Ok(Body::ResultSync { serial, records: Records { family: self.family, octets } })
    }

    fn rule_sync(&self) -> Result<Body<'a>, DecodeError> {
        let whole = self.start + self.octets.len();
        if whole > MAX_RULE_SYNC {
            return Err(DecodeError { offset: MAX_RULE_SYNC, what: Malformed::RuleSyncTooLong(whole) });
        }
        let (serial, count, octets) = self.sync()?;
        let mut at = 0;
        for _ in 0..count {
            let Some(field) = octets.get(at + 4..) else {
                return self.fail(2, Malformed::Count { count, have: octets.len() });
            };
            let window = &field[..field.len().min(MAX_REGEX_FIELD)];
            let Some(len) = window.iter().position(|&octet| octet == 0) else {
                let what = match field.len() {
                    0..MAX_REGEX_FIELD => Malformed::RegexUnterminated,
                    _ => Malformed::RegexTooLong,
                };
                return self.fail(4 + at + 4, what);
            };
            let field_len = (len + 1).next_multiple_of(4);
            let Some(padding) = field.get(len..field_len) else {
                return self.fail(4 + at + 4 + field.len(), Malformed::RegexUnterminated);
            };
            if let Some(bad) = padding.iter().position(|&octet| octet != 0) {
                return self.fail(4 + at + 4 + len + bad, Malformed::RegexPadding);
            }
            at += 4 + field_len;
        }
        if at != octets.len() {
            return self.fail(2, Malformed::Count { count, have: octets.len() });
        }
        Ok(Body::RuleSync { serial, rules: Rules { count, octets } })
    }

    fn words(&self) -> Result<(AppId, Words<'a>), DecodeError> {
        let have = self.octets.len();
        if have < 4 || !have.is_multiple_of(4) {
            return self.fail(have, Malformed::Words(have));
        }
        let words = Words { octets: &self.octets[4..] };
        if words.len() > MAX_WORDS {
            return self.fail(4 + 4 * MAX_WORDS, Malformed::TooManyWords(words.len()));
        }
        Ok((AppId(u32_at(self.octets, 0)), words))
    }
}
