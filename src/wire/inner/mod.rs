//! Links between the roles of a post office: broker to hub, broker to balancer (SPEC 6.5, DECISIONS 8).
//!
//! [`frame`] cuts a stream into frames and says whether each is whole; [`message`] is what they mean. Every type and tag
//! stands in `docs/inner-links.md`.

pub mod frame;
pub mod message;

pub use frame::{Broken, Deframer, Frame, MAX_FRAME};
pub use message::{Found, MAX_REVOKED, MAX_SITTING, Message, Registered, Secret, Sitting, Wrong};
