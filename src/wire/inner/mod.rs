//! Links between the roles of a post office: broker to hub, broker to balancer, room to room (SPEC 6.5, DECISIONS 8).
//!
//! [`frame`] cuts a stream into frames and says whether each is whole; [`message`] is what they mean, and `codec` how that
//! stands in them. Every type and tag stands in `docs/inner-links.md`.

mod codec;
pub mod frame;
pub mod message;
mod relayed;
mod values;

pub use frame::{Broken, Deframer, Frame, MAX_FRAME};
pub use message::{Found, MAX_ACKED, MAX_REVOKED, MAX_SITTING, Message, Registered, Secret, Sitting, Wrong};
pub use relayed::Relayed;
