//! A frame: length 4, type 2, flags 2, correlation 8, a body of tag 2, length 2 and value each, and CRC-32 over all before it.

use super::super::octets::Octets;

/// Octets that the length counts when a body is empty: type, flags, correlation, CRC-32.
const LEAST: usize = 16;
/// The most octets that the length can count: a message of 64 KiB for a thousand users of another room, and what goes around it.
pub const MAX_FRAME: usize = 132 * 1024;
/// The most octets that one value can have; a longer one goes on in the next of the same tag.
const MAX_VALUE: usize = u16::MAX as usize;

/// A frame whose CRC was right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// What it is.
    pub kind: u16,
    /// 0 in this version.
    pub flags: u16,
    /// Ties an answer to its question; 0 where there is none.
    pub correlation: u64,
    body: Vec<u8>,
}

/// Why a stream is of no more use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    /// A length that no frame has.
    Length,
    /// The CRC is another.
    Checksum,
    /// The body does not end where a value does.
    Body,
}

impl Frame {
    /// The values, in order: tag and octets.
    pub fn values(&self) -> impl Iterator<Item = (u16, &[u8])> + Clone {
        let mut octets = Octets(&self.body);
        std::iter::from_fn(move || value(&mut octets))
    }
}

/// A frame that is being written.
pub(super) struct Writer {
    octets: Vec<u8>,
}

impl Writer {
    pub fn new(kind: u16, correlation: u64, room: usize) -> Writer {
        let mut octets = Vec::with_capacity(4 + LEAST + room);
        octets.extend([0; 4]);
        octets.extend(kind.to_be_bytes());
        octets.extend([0; 2]);
        octets.extend(correlation.to_be_bytes());
        Writer { octets }
    }

    /// A value; one that is too long for its length goes in several of the same tag.
    pub fn value(&mut self, tag: u16, value: &[u8]) -> &mut Writer {
        let (first, rest) = value.split_at(value.len().min(MAX_VALUE));
        self.octets.extend(tag.to_be_bytes());
        self.octets.extend((first.len() as u16).to_be_bytes());
        self.octets.extend_from_slice(first);
        if rest.is_empty() { self } else { self.value(tag, rest) }
    }

    pub fn finish(mut self) -> Vec<u8> {
        debug_assert!(self.octets.len() <= MAX_FRAME, "who writes a frame keeps to its bound");
        let length = self.octets.len() as u32;
        self.octets[..4].copy_from_slice(&length.to_be_bytes());
        let crc = crc32fast::hash(&self.octets);
        self.octets.extend(crc.to_be_bytes());
        self.octets
    }
}

/// Takes the frames out of a stream. Holds one that has not come whole, and nothing more.
#[derive(Default, Debug)]
pub struct Deframer {
    partial: Vec<u8>,
}

impl Deframer {
    /// The next frame, once it is there whole. Takes what it used off the front of `octets`. Memory grows with what came, not
    /// with what a length promises.
    ///
    /// # Errors
    /// When what comes can be none. The stream is of no more use then.
    pub fn next(&mut self, octets: &mut &[u8]) -> Option<Result<Frame, Broken>> {
        self.fill(4, octets)?;
        let length = self.partial.first_chunk().map_or(0, |length| u32::from_be_bytes(*length)) as usize;
        if !(LEAST..=MAX_FRAME).contains(&length) {
            return Some(Err(Broken::Length));
        }
        self.fill(4 + length, octets)?;
        let whole = std::mem::take(&mut self.partial);
        Some(read(&whole))
    }

    /// Whether a frame has begun and not ended.
    pub fn is_partial(&self) -> bool {
        !self.partial.is_empty()
    }

    fn fill(&mut self, wanted: usize, octets: &mut &[u8]) -> Option<()> {
        let (taken, left) = octets.split_at(wanted.saturating_sub(self.partial.len()).min(octets.len()));
        self.partial.extend_from_slice(taken);
        *octets = left;
        (self.partial.len() >= wanted).then_some(())
    }
}

/// A whole frame, its length among it.
fn read(whole: &[u8]) -> Result<Frame, Broken> {
    let (covered, crc) = whole.split_last_chunk().ok_or(Broken::Length)?;
    if crc32fast::hash(covered) != u32::from_be_bytes(*crc) {
        return Err(Broken::Checksum);
    }
    let mut octets = Octets(covered);
    let mut head = || Some((octets.u32()?, octets.u16()?, octets.u16()?, octets.u64()?, octets.rest()));
    let (_, kind, flags, correlation, body) = head().ok_or(Broken::Length)?;
    let mut values = Octets(body);
    while value(&mut values).is_some() {}
    if !values.is_empty() {
        return Err(Broken::Body);
    }
    Ok(Frame { kind, flags, correlation, body: body.to_vec() })
}

/// The next value; what is cut short stays.
fn value<'a>(octets: &mut Octets<'a>) -> Option<(u16, &'a [u8])> {
    let mut ahead = *octets;
    let (tag, length) = (ahead.u16()?, ahead.u16()?);
    let value = ahead.take(length.into())?;
    *octets = ahead;
    Some((tag, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(kind: u16, size: usize) -> Vec<u8> {
        let mut writer = Writer::new(kind, 7, 0);
        writer.value(1, b"hub").value(20, &vec![9; size]);
        writer.finish()
    }

    fn all(deframer: &mut Deframer, mut octets: &[u8]) -> Vec<Result<Frame, Broken>> {
        std::iter::from_fn(|| deframer.next(&mut octets)).take(100).collect()
    }

    #[test]
    fn the_octets_of_a_frame() {
        let mut writer = Writer::new(0x0102, 3, 0);
        writer.value(1, b"ab");
        let frame = writer.finish();
        let head = [0, 0, 0, 22, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 1, 0, 2, b'a', b'b'];
        assert_eq!(frame[..22], head);
        // CRC-32 as in IEEE 802.3, computed by another implementation (Python's zlib.crc32).
        assert_eq!(frame[22..], 0xcd8f_1a0e_u32.to_be_bytes());
    }

    #[test]
    fn frames_come_back_however_the_stream_is_cut() {
        let stream = [sample(1, 0), sample(2, 70_000), sample(3, 5)].concat();
        let mut whole = Deframer::default();
        let expected = all(&mut whole, &stream);
        assert_eq!(expected.len(), 3);
        let second = expected[1].as_ref().unwrap();
        let lengths: Vec<(u16, usize)> = second.values().map(|(tag, value)| (tag, value.len())).collect();
        assert_eq!(lengths, [(1, 3), (20, 65_535), (20, 4465)], "a long value goes on in the next");
        for cut in [1, 2, 3, 5, 19, 20, 21, 1000, 65_536] {
            let mut deframer = Deframer::default();
            let came: Vec<_> = stream.chunks(cut).flat_map(|piece| all(&mut deframer, piece)).collect();
            assert_eq!(came, expected, "in pieces of {cut}");
            assert!(!deframer.is_partial());
        }
    }

    #[test]
    fn a_length_that_no_frame_has_is_told_at_once_and_nothing_is_held_for_it() {
        for length in [0, 15, MAX_FRAME as u32 + 1, u32::MAX] {
            let mut deframer = Deframer::default();
            assert_eq!(deframer.next(&mut &length.to_be_bytes()[..]), Some(Err(Broken::Length)));
            assert!(deframer.partial.capacity() <= 64);
        }
        // One that promises much holds what came.
        let mut deframer = Deframer::default();
        assert_eq!(deframer.next(&mut &(MAX_FRAME as u32).to_be_bytes()[..]), None);
        assert!(deframer.partial.capacity() <= 64);
    }

    #[test]
    fn the_longest_frame_passes() {
        let longest = sample(1, MAX_FRAME - LEAST - 4 - 3 - 3 * 4);
        assert_eq!(longest.len(), 4 + MAX_FRAME);
        assert!(matches!(all(&mut Deframer::default(), &longest)[..], [Ok(_)]));
    }

    #[test]
    fn no_bit_of_a_frame_can_be_another() {
        let frame = sample(1, 8);
        for at in 0..frame.len() * 8 {
            let mut bent = frame.clone();
            bent[at / 8] ^= 1 << (at % 8);
            let mut deframer = Deframer::default();
            assert!(!matches!(deframer.next(&mut &bent[..]), Some(Ok(_))), "bit {at}");
        }
    }

    #[test]
    fn a_body_that_ends_in_a_value_is_none() {
        let whole = sample(1, 8);
        for cut in 1..=8 {
            let mut covered = whole[..whole.len() - 4 - cut].to_vec();
            let length = covered.len() as u32;
            covered[..4].copy_from_slice(&length.to_be_bytes());
            let crc = crc32fast::hash(&covered);
            covered.extend(crc.to_be_bytes());
            assert_eq!(Deframer::default().next(&mut &covered[..]), Some(Err(Broken::Body)), "{cut} less");
        }
    }
}
