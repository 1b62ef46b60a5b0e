//! Both ends of the link against each other, on a virtual clock.

mod bounds;
mod hostile;
mod life;
mod login;
mod pair;
mod silence;
mod sleep;
mod vectors;
