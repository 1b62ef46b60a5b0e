//! TERM, INT and HUP, handed to the loop as messages.

use std::sync::{
    Arc,
    mpsc::{Receiver, channel},
};

use hailpost::status::Status;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::output::Failure;

/// What the operator wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// End in order.
    Stop,
    /// Read the configuration again.
    Reload,
}

/// Listens for signals, and ends the loop's wait for each.
pub fn listen(waker: Arc<mio::Waker>) -> Result<Receiver<Wish>, Failure> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|error| Failure::new(Status::Io, format!("listening for signals: {error}")))?;
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for signal in signals.forever() {
            let wish = if signal == SIGHUP { Wish::Reload } else { Wish::Stop };
            if sender.send(wish).is_err() || waker.wake().is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}
