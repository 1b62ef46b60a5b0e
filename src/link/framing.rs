//! Datagrams of the link on a stream: the length of each in two octets goes before it (`hail-link/1`).

use crate::wire::link::MAX_DATAGRAM;

/// A datagram as it goes on a stream.
pub fn framed(datagram: &[u8]) -> Vec<u8> {
    let length = u16::try_from(datagram.len()).expect("a datagram has at most 512 octets");
    [&length.to_be_bytes()[..], datagram].concat()
}

/// Takes the datagrams out of a stream. Holds one that has not come whole, and nothing more.
#[derive(Default, Debug)]
pub struct Deframer {
    partial: Vec<u8>,
}

/// A stream that says a datagram is empty, or longer than any is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoDatagram;

impl Deframer {
    /// The next datagram, once it is there whole. Takes what it used off the front of `octets`.
    ///
    /// # Errors
    /// When what comes can be none. The stream is of no more use then.
    pub fn next(&mut self, octets: &mut &[u8]) -> Option<Result<Vec<u8>, NoDatagram>> {
        self.fill(2, octets)?;
        let length = usize::from(u16::from_be_bytes([self.partial[0], self.partial[1]]));
        if length == 0 || length > MAX_DATAGRAM {
            return Some(Err(NoDatagram));
        }
        self.fill(2 + length, octets)?;
        let datagram = self.partial.split_off(2);
        self.partial.clear();
        Some(Ok(datagram))
    }

    fn fill(&mut self, wanted: usize, octets: &mut &[u8]) -> Option<()> {
        let (taken, left) = octets.split_at(wanted.saturating_sub(self.partial.len()).min(octets.len()));
        self.partial.extend_from_slice(taken);
        *octets = left;
        (self.partial.len() >= wanted).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(deframer: &mut Deframer, mut octets: &[u8]) -> Vec<Result<Vec<u8>, NoDatagram>> {
        std::iter::from_fn(|| deframer.next(&mut octets)).take(100).collect()
    }

    #[test]
    fn datagrams_come_back_however_the_stream_is_cut() {
        let datagrams = [vec![1; 16], vec![2; MAX_DATAGRAM], vec![3]];
        let stream: Vec<u8> = datagrams.iter().flat_map(|datagram| framed(datagram)).collect();
        for cut in 1..stream.len() {
            let mut deframer = Deframer::default();
            let came: Vec<_> = stream.chunks(cut).flat_map(|piece| all(&mut deframer, piece)).collect();
            assert_eq!(came, datagrams.clone().map(Ok), "in pieces of {cut}");
        }
    }

    #[test]
    fn what_is_no_datagram_is_told_and_nothing_is_held_for_it() {
        for wrong in [[0, 0], [2, 1], [0xff, 0xff]] {
            let mut deframer = Deframer::default();
            assert_eq!(deframer.next(&mut &wrong[..]), Some(Err(NoDatagram)));
            assert_eq!(deframer.partial.len(), 2);
        }
    }
}
