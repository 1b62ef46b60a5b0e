//! What a data datagram seals: pieces of messages, acknowledgements, and what keeps a session going.

use super::array;

/// Runs that an acknowledgement names at the most.
pub const MAX_RUNS: usize = 32;
/// Octets of a frame before its data.
pub(super) const FRAME: usize = 10;

/// What a data datagram is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A piece of a message.
    Piece,
    /// An acknowledgement.
    Acknowledgement,
    /// Eight octets to be sent back from where they arrived.
    Challenge,
    /// The same octets.
    Response,
    /// The end of the session.
    Close,
    /// Nothing: the server looks where it came from.
    Probe,
    /// A resume inside the session.
    Rekey,
    /// A resumed inside the session.
    Rekeyed,
    /// Something that this version does not know.
    Other(u8),
}

impl Kind {
    const fn number(self) -> u8 {
        match self {
            Kind::Piece => 1,
            Kind::Acknowledgement => 2,
            Kind::Challenge => 3,
            Kind::Response => 4,
            Kind::Close => 5,
            Kind::Probe => 6,
            Kind::Rekey => 8,
            Kind::Rekeyed => 9,
            Kind::Other(number) => number,
        }
    }

    const fn of(number: u8) -> Kind {
        match number {
            1 => Kind::Piece,
            2 => Kind::Acknowledgement,
            3 => Kind::Challenge,
            4 => Kind::Response,
            5 => Kind::Close,
            6 => Kind::Probe,
            8 => Kind::Rekey,
            9 => Kind::Rekeyed,
            other => Kind::Other(other),
        }
    }
}

/// What a data datagram seals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// What it is.
    pub kind: Kind,
    /// Which message; 0 where there is none.
    pub message: u32,
    /// Which piece of it.
    pub index: u16,
    /// Of how many.
    pub count: u16,
    /// At most [`PIECE`] octets.
    pub data: &'a [u8],
}

impl<'a> Frame<'a> {
    /// A frame that is no piece of a message.
    pub fn alone(kind: Kind, data: &'a [u8]) -> Frame<'a> {
        Frame { kind, message: 0, index: 0, count: 1, data }
    }

    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.kind.number());
        out.push(0);
        out.extend_from_slice(&self.message.to_be_bytes());
        out.extend_from_slice(&self.index.to_be_bytes());
        out.extend_from_slice(&self.count.to_be_bytes());
        out.extend_from_slice(self.data);
    }

    /// Reads what was unsealed; `None` when it is too short.
    pub fn decode(octets: &'a [u8]) -> Option<Frame<'a>> {
        let data = octets.get(FRAME..)?;
        Some(Frame {
            kind: Kind::of(octets[0]),
            message: u32::from_be_bytes(array(octets, 2)),
            index: u16::from_be_bytes(array(octets, 6)),
            count: u16::from_be_bytes(array(octets, 8)),
            data,
        })
    }
}

/// Data of an acknowledgement: which counters came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Acknowledgement {
    /// How long ago the highest came, in milliseconds.
    pub delay: u16,
    /// First and last counter of each run, from the highest down; at least one, at most [`MAX_RUNS`].
    pub runs: Vec<(u64, u64)>,
}

impl Acknowledgement {
    /// As octets. Runs that a gap or length of 16 bits cannot reach are left out.
    pub fn encode(&self) -> Vec<u8> {
        let highest = self.runs.first().map_or(0, |run| run.1);
        let mut out = highest.to_be_bytes().to_vec();
        out.extend_from_slice(&self.delay.to_be_bytes());
        let mut runs = self.runs.iter().take(MAX_RUNS).peekable();
        while let Some((first, last)) = runs.next() {
            let length = (last - first + 1).min(0xffff);
            let gap = runs.peek().map_or(0, |next| last - length - next.1);
            let reachable = u16::try_from(gap).ok();
            out.extend_from_slice(&(length as u16).to_be_bytes());
            out.extend_from_slice(&reachable.unwrap_or(0).to_be_bytes());
            if reachable.is_none() {
                break;
            }
        }
        out
    }

    /// From octets; `None` when they make no sense.
    pub fn decode(octets: &[u8]) -> Option<Acknowledgement> {
        let (head, pairs) = octets.split_at_checked(10)?;
        let (pairs, rest) = pairs.as_chunks::<4>();
        if pairs.is_empty() || pairs.len() > MAX_RUNS || !rest.is_empty() {
            return None;
        }
        let delay = u16::from_be_bytes(array(head, 8));
        let mut last = u64::from_be_bytes(array(head, 0));
        let mut runs = Vec::with_capacity(pairs.len());
        for (at, pair) in pairs.iter().enumerate() {
            let length = u64::from(u16::from_be_bytes(array(pair, 0)));
            let gap = u64::from(u16::from_be_bytes(array(pair, 2)));
            let first = last.checked_sub(length.checked_sub(1)?)?;
            runs.push((first, last));
            if at + 1 < pairs.len() {
                // Two runs without a gap between them are one.
                last = first.checked_sub(gap.max(1) + 1)?;
            }
        }
        Some(Acknowledgement { delay, runs })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::PIECE, *};

    #[test]
    fn frames_go_there_and_back() {
        for number in 0..=255 {
            let frame = Frame { kind: Kind::of(number), message: 7, index: 8, count: 9, data: &[1, 2, 3] };
            let mut octets = Vec::new();
            frame.encode(&mut octets);
            assert_eq!(octets[0], number);
            assert_eq!(Frame::decode(&octets), Some(frame));
        }
        assert_eq!(Frame::decode(&[1; 9]), None);
    }

    fn acknowledgement(runs: &[(u64, u64)]) -> Acknowledgement {
        Acknowledgement { delay: 7, runs: runs.to_vec() }
    }

    #[test]
    fn acknowledgements_go_there_and_back() {
        for runs in [
            &[(0, 0)][..],
            &[(5, 9), (1, 3)],
            &[(1 << 40, 1 << 40), ((1 << 40) - 70_000, (1 << 40) - 60_000)],
        ] {
            let ack = acknowledgement(runs);
            assert_eq!(Acknowledgement::decode(&ack.encode()), Some(ack));
        }
        let far = acknowledgement(&[(100_000, 100_000), (1, 2)]);
        assert_eq!(Acknowledgement::decode(&far.encode()), Some(acknowledgement(&[(100_000, 100_000)])));
        let many = acknowledgement(&(0..40).map(|at| (400 - 10 * at, 400 - 10 * at)).collect::<Vec<_>>());
        assert_eq!(Acknowledgement::decode(&many.encode()).map(|ack| ack.runs.len()), Some(MAX_RUNS));
        assert!(many.encode().len() <= PIECE);
    }

    #[test]
    fn acknowledgements_that_make_no_sense_are_none() {
        let ack = |highest: u64, pairs: &[u16]| {
            let mut octets = highest.to_be_bytes().to_vec();
            octets.extend_from_slice(&[0, 0]);
            pairs.iter().for_each(|number| octets.extend_from_slice(&number.to_be_bytes()));
            Acknowledgement::decode(&octets)
        };
        assert!(ack(5, &[6, 0]).is_some());
        assert_eq!(ack(5, &[7, 0]), None, "below zero");
        assert_eq!(ack(5, &[0, 0]), None, "an empty run");
        assert_eq!(ack(5, &[]), None, "no run");
        assert_eq!(ack(5, &[1, 9, 1, 0]), None, "a gap below zero");
        assert_eq!(ack(5, &[1, 0, 1]), None, "half a pair");
        assert_eq!(ack(1 << 20, &[1; 66]), None, "too many runs");
        assert_eq!(Acknowledgement::decode(&[0; 9]), None);
    }
}
