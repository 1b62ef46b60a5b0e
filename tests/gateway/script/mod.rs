//! Scripted peers for both ends of the gateway protocol.
#![allow(dead_code, unused_imports, reason = "each test binary uses its part of the toolbox")]

pub mod desk;
pub mod outpost;

pub use std::{net::SocketAddr, time::Duration};

pub use hailpost::{
    io::KeyId,
    wire::{
        AppId,
        gateway::{Body, Encoder, Family, Message, Outcome, Reason, Record, decode},
    },
};

/// One message as scripts compare them: its id and its tag.
pub type Said = (u16, u16);

pub const REGISTER: u16 = 1;
pub const HEARTBEAT: u16 = 2;
pub const RESULT_SYNC: u16 = 3;
pub const RULE_SYNC: u16 = 4;
pub const RESULT: u16 = 5;
pub const FEATURES: u16 = 6;
pub const PARAMETERS: u16 = 7;
pub const DEREGISTER: u16 = 8;
pub const ANSWER: u16 = 0x8000;

pub const SECOND: Duration = Duration::from_secs(1);

pub fn key(octet: u8) -> KeyId {
    KeyId([octet; 32])
}

/// Scripted peers say who they are in headers, which nobody must believe (SPEC R-06).
pub fn encoder(family: Family) -> Encoder {
    let address: SocketAddr = match family {
        Family::V4 => "198.51.100.77:1".parse().unwrap(),
        Family::V6 => "[2001:db8::77]:1".parse().unwrap(),
    };
    Encoder { family, source: address, destination: address }
}

pub fn record(family: Family, end: u32, app: u32) -> Record {
    let remote = std::net::Ipv4Addr::from(u32::from(std::net::Ipv4Addr::new(203, 0, 113, 0)) + end);
    let fit = |address: std::net::Ipv4Addr| family.fit(address.into()).unwrap();
    Record {
        app: AppId(app),
        local: SocketAddr::new(fit([192, 168, 1, 2].into()), 40_000),
        remote: SocketAddr::new(fit(remote), 443),
        protocol: 1,
        reserved1: 0,
        reserved2: 0,
        reserved3: 0,
    }
}

/// The answer that a well-behaved peer gives, if the message wants one.
pub fn answer(message: &Message<'_>) -> Option<Body<'static>> {
    Some(match message.body {
        Body::Register => Body::RegisterAnswer(Outcome { result: 0, reason: Reason(9) }),
        Body::Heartbeat => Body::HeartbeatAnswer,
        Body::ResultSync { serial, .. } => Body::ResultSyncAnswer { serial, reserved: 0 },
        Body::RuleSync { serial, .. } => Body::RuleSyncAnswer { serial, reserved: 0 },
        Body::Result(_) => Body::ResultAnswer,
        Body::Features { .. } => Body::FeaturesAnswer,
        Body::Parameters { .. } => Body::ParametersAnswer,
        Body::Deregister => Body::DeregisterAnswer(Outcome::OK),
        _ => return None,
    })
}

pub fn said(family: Family, octets: &[u8]) -> Said {
    let message = decode(family, octets).unwrap_or_else(|error| panic!("it said {octets:02x?}: {error}"));
    (message.body.id(), message.header.tag)
}
