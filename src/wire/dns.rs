//! DNS messages, as far as a stub resolver needs them: queries out, answers in.
//!
//! RFC 1035 §4 for the layout, RFC 3596 for AAAA, RFC 2782 for SRV, RFC 6891 for EDNS. All lengths are in octets.
//! Decoding allocates at most [`MAX_RECORDS`] records whatever the header claims, and follows compression pointers
//! only backwards and at most [`MAX_POINTERS`] times a name.
#![forbid(unsafe_code)]

mod name;

use std::net::{Ipv4Addr, Ipv6Addr};

pub use name::{MAX_LABEL, MAX_NAME, Name, NameError};

/// Most records a message may have in its three sections together.
pub const MAX_RECORDS: usize = 512;
/// Most compression pointers followed in one name: more than a name has labels.
pub const MAX_POINTERS: usize = 128;
/// Length of a message's header.
pub const HEADER: usize = 12;
/// The class of the Internet.
pub const CLASS_IN: u16 = 1;

const TYPE_CNAME: u16 = 5;
const TYPE_SOA: u16 = 6;
const TYPE_OPT: u16 = 41;

/// A type of record that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum RecordType {
    /// An IPv4 address (RFC 1035 §3.4.1).
    A = 1,
    /// An IPv6 address (RFC 3596 §2.1).
    Aaaa = 28,
    /// Where a service is offered (RFC 2782).
    Srv = 33,
}

/// What a message asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The name, in the case it had in the message.
    pub name: Name,
    /// The type as a number, for example that of a [`RecordType`].
    pub kind: u16,
    /// The class, [`CLASS_IN`] as a rule.
    pub class: u16,
}

/// A message's header and question: what decides whether it is the answer to a query, and whether to read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The id that ties an answer to its query.
    pub id: u16,
    /// Whether the message is an answer (QR).
    pub response: bool,
    /// The operation, 0 for a query.
    pub opcode: u8,
    /// Whether the server speaks for the zone (AA).
    pub authoritative: bool,
    /// Whether records were left out for want of room (TC).
    pub truncated: bool,
    /// Whether the server resolves for its clients (RA).
    pub recursion_available: bool,
    /// The low four bits of the response code.
    pub rcode: u8,
    /// The question, absent from some refusals.
    pub question: Option<Question>,
    /// Records in the answer, authority and additional sections, as claimed.
    pub counts: [u16; 3],
    /// Where the records begin.
    pub end: usize,
}

/// A whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Header and question.
    pub head: Head,
    /// The response code, with EDNS's upper eight bits (RFC 6891 §6.1.3).
    pub rcode: u16,
    /// The records of the answer section.
    pub answers: Vec<Record>,
    /// The records of the authority section.
    pub authority: Vec<Record>,
    /// The records of the additional section, the EDNS pseudo-record among them.
    pub additional: Vec<Record>,
}

/// A resource record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose record this is.
    pub name: Name,
    /// For how many seconds it may be kept; 0 when the top bit was set (RFC 2181 §8).
    pub ttl: u32,
    /// What it says.
    pub data: Data,
}

/// A record's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// The name that the record's name is an alias of.
    Cname(Name),
    /// An instance of a service.
    Srv(Srv),
    /// A zone's start: of use here only for how long a denial may be kept, in seconds (RFC 2308 §4).
    Soa {
        /// The zone's MINIMUM field.
        minimum: u32,
    },
    /// EDNS (RFC 6891 §6.1.2).
    Opt {
        /// The largest UDP payload that the sender takes.
        udp_size: u16,
        /// The upper eight bits of the response code.
        rcode_high: u8,
    },
    /// Any other type, or another class than the Internet's.
    Other(u16),
}

/// An instance of a service (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srv {
    /// Lower ones first.
    pub priority: u16,
    /// Share of the load among those of equal priority.
    pub weight: u16,
    /// The port it listens on.
    pub port: u16,
    /// The host; the root means that the service is decidedly not offered.
    pub target: Name,
}

/// A message that breaks the format: what, and at which octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("octet {offset}: {what}")]
pub struct DecodeError {
    /// The octet at which it was noticed, from 0.
    pub offset: usize,
    /// What is wrong.
    pub what: Malformed,
}

/// The ways in which a message can break the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The message ends inside a field.
    #[error("the message ends inside a field")]
    Truncated,
    /// More than one question (RFC 9619).
    #[error("more than one question")]
    Questions,
    /// The header claims more than [`MAX_RECORDS`] records.
    #[error("more than 512 records")]
    Records,
    /// A label type other than plain and pointer.
    #[error("an unknown type of label")]
    LabelType,
    /// A pointer that does not point to before the part of the name it stands in; so every loop is refused.
    #[error("a compression pointer that does not point back")]
    Pointer,
    /// More than [`MAX_POINTERS`] pointers in one name.
    #[error("too many compression pointers in one name")]
    Pointers,
    /// A name of more than 255 octets.
    #[error("a name longer than 255 octets")]
    NameLength,
    /// A record's data is shorter or longer than its type wants.
    #[error("record data whose length does not fit its type")]
    DataLength,
    /// More than one EDNS record (RFC 6891 §6.1.1).
    #[error("more than one EDNS record")]
    DuplicateOpt,
}

/// The response codes that a resolver tells apart (RFC 1035 §4.1.1, RFC 6891 §9).
pub mod rcode {
    /// No error.
    pub const OK: u16 = 0;
    /// The server could not read the query.
    pub const FORMAT: u16 = 1;
    /// The server failed.
    pub const SERVER_FAILURE: u16 = 2;
    /// The name does not exist.
    pub const NO_NAME: u16 = 3;
    /// The server does not know this kind of query.
    pub const NOT_IMPLEMENTED: u16 = 4;
    /// The server does not answer us.
    pub const REFUSED: u16 = 5;
    /// The server does not know this version of EDNS.
    pub const BAD_VERSION: u16 = 16;
}

/// Encodes a query with recursion desired. `udp_size`, when given, adds an EDNS record that offers this payload size.
pub fn encode_query(id: u16, name: &Name, kind: RecordType, udp_size: Option<u16>) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + name.wire().len() + 4 + 11);
    let recursion_desired: u16 = 0x0100;
    for field in [id, recursion_desired, 1, 0, 0, u16::from(udp_size.is_some())] {
        out.extend_from_slice(&field.to_be_bytes());
    }
    out.extend_from_slice(name.wire());
    out.extend_from_slice(&(kind as u16).to_be_bytes());
    out.extend_from_slice(&CLASS_IN.to_be_bytes());
    if let Some(size) = udp_size {
        out.push(0);
        out.extend_from_slice(&TYPE_OPT.to_be_bytes());
        out.extend_from_slice(&size.to_be_bytes());
        // No extended code, version 0, no flags, no options.
        out.extend_from_slice(&[0; 6]);
    }
    out
}

/// Decodes header and question, and nothing of the records: a truncated answer may end anywhere in them.
pub fn decode_head(message: &[u8]) -> Result<Head, DecodeError> {
    let mut cursor = Cursor { message, at: 0 };
    let id = cursor.u16()?;
    let flags = cursor.u16()?;
    let questions = cursor.u16()?;
    let counts = [cursor.u16()?, cursor.u16()?, cursor.u16()?];
    if questions > 1 {
        return Err(DecodeError { offset: 4, what: Malformed::Questions });
    }
    let question = match questions {
        0 => None,
        _ => Some(Question { name: cursor.name()?, kind: cursor.u16()?, class: cursor.u16()? }),
    };
    Ok(Head {
        id,
        response: flags & 0x8000 != 0,
        opcode: (flags >> 11) as u8 & 0xf,
        authoritative: flags & 0x0400 != 0,
        truncated: flags & 0x0200 != 0,
        recursion_available: flags & 0x0080 != 0,
        rcode: flags as u8 & 0xf,
        question,
        counts,
        end: cursor.at,
    })
}

/// Decodes a whole message. Octets after the last record are ignored, as other resolvers do.
pub fn decode(message: &[u8]) -> Result<Message, DecodeError> {
    let head = decode_head(message)?;
    let claimed: usize = head.counts.iter().map(|n| usize::from(*n)).sum();
    if claimed > MAX_RECORDS {
        return Err(DecodeError { offset: 6, what: Malformed::Records });
    }
    let mut cursor = Cursor { message, at: head.end };
    let [answers, authority, additional] = head.counts;
    let (answers, authority, additional) =
        (cursor.records(answers)?, cursor.records(authority)?, cursor.records(additional)?);
    let mut rcode = u16::from(head.rcode);
    if let Some(high) = additional.iter().find_map(|r| match r.data {
        Data::Opt { rcode_high, .. } => Some(rcode_high),
        _ => None,
    }) {
        rcode |= u16::from(high) << 4;
    }
    Ok(Message { head, rcode, answers, authority, additional })
}

struct Cursor<'a> {
    message: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let octets = self.message.get(self.at..).and_then(|rest| rest.first_chunk::<N>());
        let octets = octets.ok_or(DecodeError { offset: self.message.len(), what: Malformed::Truncated })?;
        self.at += N;
        Ok(*octets)
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.take().map(u32::from_be_bytes)
    }

    /// Reads a name and stops after its part that stands here, however far its pointers lead (RFC 1035 §4.1.4).
    fn name(&mut self) -> Result<Name, DecodeError> {
        let mut wire = Vec::new();
        let mut pointers = 0;
        let mut resume = None;
        // A pointer must lead to before the part it ends. So each part begins before the last one, and no loop is possible.
        let mut part = self.at;
        loop {
            let offset = self.at;
            let error = |what| Err(DecodeError { offset, what });
            let [octet] = self.take()?;
            match octet >> 6 {
                0b00 if octet == 0 => break,
                0b00 => {
                    let length = usize::from(octet);
                    if wire.len() + 1 + length + 1 > MAX_NAME {
                        return error(Malformed::NameLength);
                    }
                    let label = self.message.get(self.at..self.at + length);
                    let label = label
                        .ok_or(DecodeError { offset: self.message.len(), what: Malformed::Truncated })?;
                    wire.push(octet);
                    wire.extend_from_slice(label);
                    self.at += length;
                }
                0b11 => {
                    let [low] = self.take()?;
                    let target = usize::from(u16::from_be_bytes([octet & 0x3f, low]));
                    if target >= part {
                        return error(Malformed::Pointer);
                    }
                    pointers += 1;
                    if pointers > MAX_POINTERS {
                        return error(Malformed::Pointers);
                    }
                    resume.get_or_insert(self.at);
                    (part, self.at) = (target, target);
                }
                _ => return error(Malformed::LabelType),
            }
        }
        wire.push(0);
        self.at = resume.unwrap_or(self.at);
        Ok(Name::from_decoded(wire))
    }

    fn records(&mut self, count: u16) -> Result<Vec<Record>, DecodeError> {
        let mut records = Vec::new();
        let mut edns = false;
        for _ in 0..count {
            let offset = self.at;
            let record = self.record()?;
            let opt = matches!(record.data, Data::Opt { .. });
            if opt && edns {
                return Err(DecodeError { offset, what: Malformed::DuplicateOpt });
            }
            edns |= opt;
            records.push(record);
        }
        Ok(records)
    }

    fn record(&mut self) -> Result<Record, DecodeError> {
        let name = self.name()?;
        let (kind, class, ttl) = (self.u16()?, self.u16()?, self.u32()?);
        let length_at = self.at;
        let end = usize::from(self.u16()?) + self.at;
        if end > self.message.len() {
            return Err(DecodeError { offset: self.message.len(), what: Malformed::Truncated });
        }
        // The message holds all of the data, so a field that ran past its end ran past the end of the data first.
        let misfit = DecodeError { offset: length_at, what: Malformed::DataLength };
        let data = self.data(kind, class, ttl, end);
        let data = data.map_err(|e| if e.what == Malformed::Truncated { misfit } else { e })?;
        if self.at != end {
            return Err(misfit);
        }
        Ok(Record { name, ttl: if ttl > i32::MAX as u32 { 0 } else { ttl }, data })
    }

    fn data(&mut self, kind: u16, class: u16, ttl: u32, end: usize) -> Result<Data, DecodeError> {
        Ok(match (kind, class) {
            // The class and TTL of this one have meanings of their own.
            (TYPE_OPT, udp_size) => {
                self.at = end;
                Data::Opt { udp_size, rcode_high: (ttl >> 24) as u8 }
            }
            (_, class) if class != CLASS_IN => {
                self.at = end;
                Data::Other(kind)
            }
            (1, _) => Data::A(Ipv4Addr::from(self.take::<4>()?)),
            (28, _) => Data::Aaaa(Ipv6Addr::from(self.take::<16>()?)),
            (TYPE_CNAME, _) => Data::Cname(self.name()?),
            (33, _) => Data::Srv(Srv {
                priority: self.u16()?,
                weight: self.u16()?,
                port: self.u16()?,
                target: self.name()?,
            }),
            (TYPE_SOA, _) => {
                let (_primary, _mailbox) = (self.name()?, self.name()?);
                let _serial_refresh_retry_expire = self.take::<16>()?;
                Data::Soa { minimum: self.u32()? }
            }
            (kind, _) => {
                self.at = end;
                Data::Other(kind)
            }
        })
    }
}

#[cfg(test)]
mod tests;
