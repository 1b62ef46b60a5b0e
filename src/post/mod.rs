//! The post office: messages for people and devices that are not there yet (CN103200214A).
//!
//! [`hub`] takes messages, keeps them, and decides who gets what; it speaks to whoever holds the sessions through
//! [`Seat`]s. Nothing here has a socket, a clock or a file.
#![forbid(unsafe_code)]

pub mod app;
#[cfg(feature = "post")]
pub mod apps;
#[cfg(feature = "post")]
pub mod balancer;
#[cfg(feature = "post")]
pub mod broker;
#[cfg(feature = "post")]
pub mod brokers;
pub mod device;
#[cfg(feature = "post")]
pub mod hub;
#[cfg(feature = "post")]
pub mod line;
#[cfg(feature = "post")]
pub mod rooms;
#[cfg(feature = "post")]
mod rows;

/// The number of a queue: a device's, or an application's. Given once, dense, never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Inbox(pub u32);

/// Where the owner of an inbox is reached now: a session or a connection, named by who holds it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Seat {
    /// Who holds it: [`HERE`], or a broker by the number that the hub gave it.
    pub broker: u16,
    /// Which. Never 0.
    pub place: u32,
}

/// The hub's own process.
pub const HERE: u16 = 0;
/// The links to other rooms.
pub const ROOMS: u16 = u16::MAX;

impl Seat {
    /// In the hub's own process.
    pub const fn here(place: u32) -> Seat {
        Seat { broker: HERE, place }
    }
}

/// What a device's credential is called, in clear on the wire (DECISIONS.md 1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub [u8; 16]);
