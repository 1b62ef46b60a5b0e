//! The post office: messages for people and devices that are not there yet (CN103200214A).
//!
//! [`hub`] takes messages, keeps them, and decides who gets what; it speaks to whoever holds the sessions through
//! [`Seat`]s. Nothing here has a socket, a clock or a file.
#![forbid(unsafe_code)]

pub mod app;
#[cfg(feature = "post")]
pub mod apps;
pub mod device;
#[cfg(feature = "post")]
pub mod hub;
#[cfg(feature = "post")]
mod rows;

/// The number of a queue: a device's, or an application's. Given once, dense, never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Inbox(pub u32);

/// Where the owner of an inbox is reached now: a session or a connection, named by who holds it. Never 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Seat(pub u32);

/// What a device's credential is called, in clear on the wire (DECISIONS.md 1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub [u8; 16]);
