//! A stream cut into messages. Nothing is kept while no message is cut in the middle, and an octet that arrives is
//! copied at most once, however small the pieces are.

use std::borrow::Cow;

use crate::wire::gateway::{DecodeError, Family, message_len};

/// The octets of a message that has not come whole yet.
#[derive(Default)]
pub(super) struct Frames {
    partial: Vec<u8>,
}

impl Frames {
    /// Whether a message has begun and not ended.
    pub fn is_partial(&self) -> bool {
        !self.partial.is_empty()
    }

    /// The next whole message of a piece of the stream, which is consumed as far as it went; `None` when the rest is
    /// kept until more comes. An error means that the stream can no longer be cut.
    pub fn next<'a>(
        &mut self,
        family: Family,
        piece: &mut &'a [u8],
    ) -> Result<Option<Cow<'a, [u8]>>, DecodeError> {
        if self.partial.is_empty() {
            if let Some(len) = message_len(family, piece)?
                && let Some((message, rest)) = piece.split_at_checked(len)
            {
                *piece = rest;
                return Ok(Some(Cow::Borrowed(message)));
            }
            self.partial.extend_from_slice(std::mem::take(piece));
            return Ok(None);
        }
        loop {
            // Every message has a header, and the length stands in it.
            let len = message_len(family, &self.partial)?.unwrap_or(family.header_len());
            let missing = (len - self.partial.len()).min(piece.len());
            let (taken, rest) = piece.split_at(missing);
            self.partial.extend_from_slice(taken);
            *piece = rest;
            if message_len(family, &self.partial)? == Some(self.partial.len()) {
                return Ok(Some(Cow::Owned(std::mem::take(&mut self.partial))));
            }
            if piece.is_empty() {
                return Ok(None);
            }
        }
    }

    /// The length that the message in the middle says it has, if its header came so far.
    pub fn announced(&self, family: Family) -> Option<usize> {
        message_len(family, &self.partial).ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::gateway::{Body, Encoder, Kind};

    fn stream() -> Vec<u8> {
        let address = "192.0.2.1:7700".parse().unwrap();
        let encoder = Encoder { family: Family::V4, source: address, destination: address };
        let words: Vec<u32> = (0..200).collect();
        [
            encoder.message(0, &Body::Register),
            encoder.words(1, Kind::Features, crate::wire::AppId(7), &words),
            encoder.message(2, &Body::Heartbeat),
        ]
        .concat()
    }

    fn cut(pieces: impl Iterator<Item = Vec<u8>>) -> (Vec<Vec<u8>>, Frames) {
        let (mut frames, mut messages) = (Frames::default(), Vec::new());
        for piece in pieces {
            let mut piece = &piece[..];
            while let Some(message) = frames.next(Family::V4, &mut piece).unwrap() {
                messages.push(message.into_owned());
            }
            assert!(piece.is_empty());
        }
        (messages, frames)
    }

    #[test]
    fn wherever_the_stream_is_cut_the_messages_are_the_same_and_nothing_is_kept_after_them() {
        let stream = stream();
        let (whole, frames) = cut([stream.clone()].into_iter());
        assert_eq!((whole.len(), whole.concat()), (3, stream.clone()));
        assert!(!frames.is_partial());
        for at in 0..=stream.len() {
            let (messages, frames) = cut([stream[..at].to_vec(), stream[at..].to_vec()].into_iter());
            assert_eq!(messages, whole, "cut at {at}");
            assert_eq!(frames.partial.capacity(), 0, "cut at {at}");
        }
        for size in 1..60 {
            assert_eq!(cut(stream.chunks(size).map(<[u8]>::to_vec)).0, whole, "pieces of {size}");
        }
    }

    #[test]
    fn a_trickle_is_not_copied_anew_with_each_octet() {
        let mut message = vec![0; 20 + 65_535];
        message[14..16].copy_from_slice(&[0xff, 0xff]);
        let (mut frames, mut moves, mut capacity) = (Frames::default(), 0, 0);
        for (at, octet) in message.chunks(1).enumerate() {
            let mut piece = octet;
            let whole = frames.next(Family::V4, &mut piece).unwrap();
            assert_eq!(whole.is_some(), at + 1 == message.len());
            moves += u32::from(frames.partial.capacity() != capacity);
            capacity = frames.partial.capacity();
        }
        assert!(moves < 20, "moved {moves} times");
    }

    #[test]
    fn a_length_over_the_limit_is_an_error_as_soon_as_it_is_there() {
        let mut header = [0; 20];
        header[13] = 1;
        for size in 1..=16 {
            let mut frames = Frames::default();
            let cut = header[..16]
                .chunks(size)
                .try_for_each(|mut piece| frames.next(Family::V4, &mut piece).map(drop));
            assert!(cut.is_err(), "pieces of {size}");
        }
    }
}
