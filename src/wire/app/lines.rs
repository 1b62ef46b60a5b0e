//! Cuts a stream into lines up to an empty one, and bodies: the framing that both directions share.

use super::{MAX_HEAD, MAX_LINE};

/// A line, or all lines together, are longer than can be.
#[derive(Debug)]
pub(super) struct TooLong;

/// Holds at most one head or one body.
#[derive(Default)]
pub(super) struct Lines {
    buffer: Vec<u8>,
    /// Where the line begins that has no end yet.
    begun: usize,
}

impl Lines {
    /// Takes octets until the lines of a head are whole, the empty one included. A first line that `is_alone` has no more
    /// after it, and a line that `may_be_long` only the bound of all of them.
    pub(super) fn head(
        &mut self,
        piece: &mut &[u8],
        is_alone: fn(&[u8]) -> bool,
        may_be_long: fn(&[u8]) -> bool,
    ) -> Result<Option<Vec<u8>>, TooLong> {
        loop {
            let end = piece.iter().position(|octet| *octet == b'\n');
            let (taken, rest) = piece.split_at(end.map_or(piece.len(), |at| at + 1));
            self.buffer.extend_from_slice(taken);
            *piece = rest;
            let line = &self.buffer[self.begun..];
            if line.len() > MAX_LINE && !may_be_long(line) || self.buffer.len() > MAX_HEAD {
                *self = Lines::default();
                return Err(TooLong);
            }
            if end.is_none() {
                return Ok(None);
            }
            let line = trimmed(line);
            match (self.begun == 0, line.is_empty()) {
                // Between two heads, as after a body that a person typed.
                (true, true) => self.buffer.clear(),
                (true, false) if is_alone(line) => return Ok(Some(std::mem::take(&mut self.buffer))),
                (_, false) => self.begun = self.buffer.len(),
                (false, true) => {
                    self.begun = 0;
                    return Ok(Some(std::mem::take(&mut self.buffer)));
                }
            }
        }
    }

    /// Takes octets until a body of this length is whole.
    pub(super) fn body(&mut self, length: usize, piece: &mut &[u8]) -> Option<Vec<u8>> {
        let missing = length.saturating_sub(self.buffer.len());
        let (taken, rest) = piece.split_at(missing.min(piece.len()));
        self.buffer.extend_from_slice(taken);
        *piece = rest;
        (self.buffer.len() >= length).then(|| std::mem::take(&mut self.buffer))
    }

    /// Whether something has begun and not ended.
    pub(super) fn is_partial(&self) -> bool {
        !self.buffer.is_empty()
    }
}

/// The lines of a head, without their ends and without the empty one.
pub(super) fn each(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    head.split_inclusive(|octet| *octet == b'\n').map(trimmed).filter(|line| !line.is_empty())
}

/// Name, in small letters, and value.
pub(super) fn header(line: &[u8]) -> Option<(String, &str)> {
    let (name, value) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    Some((name.to_ascii_lowercase(), value))
}

fn trimmed(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}
