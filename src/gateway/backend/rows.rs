//! The back end's rows: what each table's keys and values are. Numbers are big-endian, so keys sort as they read.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `gateway` | key id (32) | flags (1: trusted, 2: barred), group length, group, name |
//! | `token` | its digest (32) | flags (1: trusted, 2: replaces), expiry (8), group length, group, name |
//! | `vote` | group length, group, remote address (16), port, protocol, voter length, voter | AppID, unix time |
//! | `rule` | group length, group, AppID, pattern | order (8) |
//! | `model` | group length, group, AppID | number of words (2), words, what the trainer keeps |
//! | `setting` | its name | as whoever keeps it likes |
//! | `feature` | group length, group, AppID, voter length, voter, slot (2) | unix time, words |

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::{Enrolment, Voter, features::Slot};
use crate::{
    gateway::{Grant, ResultKey},
    io::KeyId,
    store::{Op, Table},
    wire::{
        AppId,
        octets::{Octets, push_short},
    },
};

pub(super) const GATEWAY: Table = Table::rows("gateway");
pub(super) const TOKEN: Table = Table::rows("token");
pub(super) const VOTE: Table = Table::rows("vote");
pub(super) const RULE: Table = Table::rows("rule");
pub(super) const MODEL: Table = Table::rows("model");
pub(super) const FEATURE: Table = Table::rows("feature");
pub(super) const SETTING: Table = Table::rows("setting");

pub(super) fn put_gateway(key: KeyId, enrolment: &Enrolment) -> Op {
    let mut value = vec![u8::from(enrolment.trusted) | u8::from(enrolment.barred) << 1];
    push_short(&mut value, enrolment.group.as_bytes());
    value.extend_from_slice(enrolment.name.as_bytes());
    Op::Put { table: GATEWAY, key: key.0.to_vec(), value }
}

pub(super) fn delete_gateway(key: KeyId) -> Op {
    Op::Delete { table: GATEWAY, key: key.0.to_vec() }
}

pub(super) fn read_gateway(key: &[u8], value: &[u8]) -> Option<(KeyId, Enrolment)> {
    let mut value = Octets(value);
    let flags = value.u8()?;
    let group = value.short_text()?.to_owned();
    let name = String::from_utf8(value.0.to_vec()).ok()?;
    Some((
        KeyId(key.try_into().ok()?),
        Enrolment { name, group, trusted: flags & 1 != 0, barred: flags & 2 != 0 },
    ))
}

pub(super) fn put_token(digest: &[u8; 32], grant: &Grant) -> Op {
    let mut value = vec![u8::from(grant.trusted) | u8::from(grant.replaces) << 1];
    value.extend_from_slice(&grant.expires.to_be_bytes());
    push_short(&mut value, grant.group.as_bytes());
    value.extend_from_slice(grant.name.as_bytes());
    Op::Put { table: TOKEN, key: digest.to_vec(), value }
}

pub(super) fn delete_token(digest: &[u8; 32]) -> Op {
    Op::Delete { table: TOKEN, key: digest.to_vec() }
}

pub(super) fn read_token(key: &[u8], value: &[u8]) -> Option<([u8; 32], Grant)> {
    let mut value = Octets(value);
    let flags = value.u8()?;
    let (expires, group) = (value.u64()?, value.short_text()?.to_owned());
    let name = String::from_utf8(value.0.to_vec()).ok()?;
    let grant = Grant { name, group, trusted: flags & 1 != 0, replaces: flags & 2 != 0, expires };
    Some((key.try_into().ok()?, grant))
}

pub(super) fn put_vote(group: &str, key: &ResultKey, voter: &Voter, app: AppId, unix: u64) -> Op {
    let mut value = app.0.to_be_bytes().to_vec();
    value.extend_from_slice(&unix.to_be_bytes());
    Op::Put { table: VOTE, key: vote_key(group, key, voter), value }
}

pub(super) fn delete_vote(group: &str, key: &ResultKey, voter: &Voter) -> Op {
    Op::Delete { table: VOTE, key: vote_key(group, key, voter) }
}

fn vote_key(group: &str, key: &ResultKey, voter: &Voter) -> Vec<u8> {
    let mut row = Vec::with_capacity(group.len() + 54);
    push_short(&mut row, group.as_bytes());
    let address = match key.remote.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    row.extend_from_slice(&address.octets());
    row.extend_from_slice(&key.remote.port().to_be_bytes());
    row.push(key.protocol);
    push_voter(&mut row, voter);
    row
}

pub(super) fn read_vote(key: &[u8], value: &[u8]) -> Option<(String, ResultKey, Voter, AppId, u64)> {
    let mut key = Octets(key);
    let group = key.short_text()?.to_owned();
    let address = Ipv6Addr::from(<[u8; 16]>::try_from(key.take(16)?).ok()?);
    let remote = SocketAddr::new(IpAddr::V6(address), key.u16()?);
    let protocol = key.u8()?;
    let voter = voter(&mut key)?;
    let mut value = Octets(value);
    Some((group, ResultKey { remote, protocol }, voter, AppId(value.u32()?), value.u64()?))
}

pub(super) fn put_rule(group: &str, app: AppId, pattern: &[u8], order: u64) -> Op {
    Op::Put { table: RULE, key: rule_key(group, app, pattern), value: order.to_be_bytes().to_vec() }
}

pub(super) fn delete_rule(group: &str, app: AppId, pattern: &[u8]) -> Op {
    Op::Delete { table: RULE, key: rule_key(group, app, pattern) }
}

fn rule_key(group: &str, app: AppId, pattern: &[u8]) -> Vec<u8> {
    let mut key = app_key(group, app);
    key.extend_from_slice(pattern);
    key
}

pub(super) fn read_rule(key: &[u8], value: &[u8]) -> Option<(String, AppId, Vec<u8>, u64)> {
    let mut key = Octets(key);
    Some((key.short_text()?.to_owned(), AppId(key.u32()?), key.0.to_vec(), Octets(value).u64()?))
}

pub(super) fn put_model(group: &str, app: AppId, words: &[u32], lineage: &[u8]) -> Op {
    debug_assert!(words.len() <= 0xffff, "only what can travel is kept");
    let mut value = (words.len() as u16).to_be_bytes().to_vec();
    value.extend_from_slice(&words_to_octets(words));
    value.extend_from_slice(lineage);
    Op::Put { table: MODEL, key: app_key(group, app), value }
}

pub(super) fn read_model<'a>(key: &[u8], value: &'a [u8]) -> Option<(String, AppId, Vec<u32>, &'a [u8])> {
    let (mut key, mut value) = (Octets(key), Octets(value));
    let words = usize::from(value.u16()?);
    let words = octets_to_words(value.take(4 * words)?);
    Some((key.short_text()?.to_owned(), AppId(key.u32()?), words, value.0))
}

pub(super) fn put_feature(group: &str, slot: &Slot, unix: u64, words: &[u32]) -> Op {
    let mut value = unix.to_be_bytes().to_vec();
    value.extend_from_slice(&words_to_octets(words));
    Op::Put { table: FEATURE, key: feature_key(group, slot), value }
}

pub(super) fn delete_feature(group: &str, slot: &Slot) -> Op {
    Op::Delete { table: FEATURE, key: feature_key(group, slot) }
}

fn feature_key(group: &str, slot: &Slot) -> Vec<u8> {
    let mut key = app_key(group, slot.app);
    push_voter(&mut key, &slot.voter);
    key.extend_from_slice(&slot.slot.to_be_bytes());
    key
}

pub(super) fn read_feature(key: &[u8], value: &[u8]) -> Option<(String, AppId, Voter, u16, u64, Vec<u32>)> {
    let mut key = Octets(key);
    let group = key.short_text()?.to_owned();
    let app = AppId(key.u32()?);
    let voter = voter(&mut key)?;
    let mut value = Octets(value);
    let unix = value.u64()?;
    Some((group, app, voter, key.u16()?, unix, octets_to_words(value.0)))
}

fn app_key(group: &str, app: AppId) -> Vec<u8> {
    let mut key = Vec::with_capacity(group.len() + 16);
    push_short(&mut key, group.as_bytes());
    key.extend_from_slice(&app.0.to_be_bytes());
    key
}

fn push_voter(key: &mut Vec<u8>, voter: &Voter) {
    match voter {
        Voter::Key(id) => push_short(key, &id.0),
        Voter::Address(IpAddr::V4(v4)) => push_short(key, &v4.octets()),
        Voter::Address(IpAddr::V6(v6)) => push_short(key, &v6.octets()),
    }
}

fn words_to_octets(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn octets_to_words(octets: &[u8]) -> Vec<u32> {
    octets.chunks_exact(4).map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]])).collect()
}

fn voter(octets: &mut Octets<'_>) -> Option<Voter> {
    let octets = octets.short()?;
    match octets.len() {
        4 => Some(Voter::Address(IpAddr::from(<[u8; 4]>::try_from(octets).ok()?))),
        16 => Some(Voter::Address(IpAddr::from(<[u8; 16]>::try_from(octets).ok()?))),
        32 => Some(Voter::Key(KeyId(octets.try_into().ok()?))),
        _ => None,
    }
}
