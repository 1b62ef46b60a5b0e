//! A stream cut into messages. Nothing is kept while no message is cut in the middle.

use crate::wire::gateway::{DecodeError, Family, message_len};

/// The octets of a message that has not come whole yet.
#[derive(Default)]
pub(super) struct Frames {
    partial: Vec<u8>,
}

impl Frames {
    /// Takes in a piece of the stream.
    pub fn push(&mut self, octets: &[u8]) {
        self.partial.extend_from_slice(octets);
    }

    /// Whether a message has begun and not ended.
    pub fn is_partial(&self) -> bool {
        !self.partial.is_empty()
    }

    /// Hands every whole message to `each`, until that says stop, and keeps the rest. An error means that the
    /// stream can no longer be cut.
    pub fn drain(&mut self, family: Family, mut each: impl FnMut(&[u8]) -> bool) -> Result<(), DecodeError> {
        let whole = std::mem::take(&mut self.partial);
        let mut rest = &whole[..];
        let result = loop {
            match message_len(family, rest) {
                Ok(Some(len)) if len <= rest.len() => {
                    let (message, after) = rest.split_at(len);
                    rest = after;
                    if !each(message) {
                        break Ok(());
                    }
                }
                Ok(_) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if !rest.is_empty() && result.is_ok() {
            self.partial = rest.to_vec();
        }
        result
    }
}
