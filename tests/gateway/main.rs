//! Both ends of the gateway protocol against scripted peers, octet by octet: `docs/gateway-protocol.md` says what must
//! hold, and names the test for each resolution of the specification.

mod bad_input;
mod bounds;
mod datagrams;
mod enrolment;
mod exchanges;
mod requests;
mod resolutions;
mod restart;
mod script;

use script::*;
