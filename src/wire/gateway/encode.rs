//! A message to octets.

use super::items::push_address;
use super::*;

/// Writes messages of one association: its family, and the two addresses that every header repeats.
#[derive(Clone, Copy, Debug)]
pub struct Encoder {
    /// Width of addresses.
    pub family: Family,
    /// Our own view of our address.
    pub source: SocketAddr,
    /// Our view of the peer's.
    pub destination: SocketAddr,
}

impl Encoder {
    /// A message that was decoded, octet for octet.
    pub fn message(&self, tag: u16, body: &Body<'_>) -> Vec<u8> {
        self.write(tag, body.id(), |out| match body {
            Body::Register
            | Body::Heartbeat
            | Body::HeartbeatAnswer
            | Body::ResultAnswer
            | Body::FeaturesAnswer
            | Body::ParametersAnswer
            | Body::Deregister => {}
            Body::Enrol { token } => out.extend_from_slice(token),
            Body::RegisterAnswer(outcome) | Body::DeregisterAnswer(outcome) | Body::EnrolAnswer(outcome) => {
                two_words(out, outcome.result, outcome.reason.0);
            }
            Body::ResultSyncAnswer { serial, reserved } | Body::RuleSyncAnswer { serial, reserved } => {
                two_words(out, *serial, *reserved);
            }
            Body::ResultSync { serial, records } => {
                two_words(out, *serial, records.len() as u16);
                out.extend_from_slice(records.octets);
            }
            Body::RuleSync { serial, rules } => {
                two_words(out, *serial, rules.count);
                out.extend_from_slice(rules.octets);
            }
            Body::Result(record) => record.write(self.family, out),
            Body::Features { app, words } | Body::Parameters { app, words } => {
                out.extend_from_slice(&app.0.to_be_bytes());
                out.extend_from_slice(words.octets);
            }
        })
    }

    /// A result sync of the first [`MAX_RECORDS`] of `records`, whose addresses must fit the family.
    pub fn result_sync(
        &self,
        tag: u16,
        serial: u16,
        records: impl ExactSizeIterator<Item = Record>,
    ) -> Vec<u8> {
        let count = records.len().min(MAX_RECORDS);
        self.write(tag, Kind::ResultSync.request_id(), |out| {
            out.reserve_exact(4 + count * self.family.record_len());
            two_words(out, serial, count as u16);
            records.take(MAX_RECORDS).for_each(|record| record.write(self.family, out));
        })
    }

    /// A rule sync of as many of `rules`, in order, as fit 1500 octets (SPEC R-10); says how many that were.
    pub fn rule_sync<'r>(
        &self,
        tag: u16,
        serial: u16,
        rules: impl Iterator<Item = Rule<'r>>,
    ) -> (Vec<u8>, usize) {
        let mut count = 0;
        let octets = self.write(tag, Kind::RuleSync.request_id(), |out| {
            let start = out.len();
            two_words(out, serial, 0);
            for rule in rules {
                if out.len() + rule_len(rule.pattern) > MAX_RULE_SYNC {
                    break;
                }
                out.extend_from_slice(&rule.app.0.to_be_bytes());
                let field = out.len();
                out.extend_from_slice(rule.pattern);
                out.resize(field + (rule.pattern.len() + 1).next_multiple_of(4), 0);
                count += 1;
            }
            out[start + 2..start + 4].copy_from_slice(&(count as u16).to_be_bytes());
        });
        (octets, count)
    }

    /// The features of a flow that differs, or the parameters of a trained rule.
    pub fn words(&self, tag: u16, kind: Kind, app: AppId, words: &[u32]) -> Vec<u8> {
        self.write(tag, kind.request_id(), |out| {
            out.extend_from_slice(&app.0.to_be_bytes());
            words.iter().take(MAX_WORDS).for_each(|word| out.extend_from_slice(&word.to_be_bytes()));
        })
    }

    fn write(&self, tag: u16, id: u16, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let header_len = self.family.header_len();
        let mut out = Vec::with_capacity(header_len + 24);
        push_address(self.family, self.source.ip(), &mut out);
        push_address(self.family, self.destination.ip(), &mut out);
        two_words(&mut out, self.source.port(), self.destination.port());
        let length_at = out.len();
        out.extend_from_slice(&[0; 4]);
        two_words(&mut out, id, tag);
        body(&mut out);
        let body_len = (out.len() - header_len) as u32;
        out[length_at..length_at + 4].copy_from_slice(&body_len.to_be_bytes());
        out
    }
}

/// Octets that a rule takes in a rule sync: its AppID and its padded field.
pub fn rule_len(pattern: &[u8]) -> usize {
    4 + (pattern.len() + 1).next_multiple_of(4)
}

fn two_words(out: &mut Vec<u8>, first: u16, second: u16) {
    out.extend_from_slice(&first.to_be_bytes());
    out.extend_from_slice(&second.to_be_bytes());
}
