//! Whole parts on a virtual clock and a virtual network, over many seeds.
//!
//! `HAILPOST_SEEDS=10000 cargo test --test simulation` for a long run; a failing seed prints how to see it again.

mod scenarios;
mod sim;
