//! Capture files: classic pcap (both octet orders, microseconds and nanoseconds) and pcapng, read as a stream.
//!
//! Sources: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng. A reader holds one record at a time; what a file can
//! make it hold is bounded by [`MAX_RECORD`] and [`MAX_INTERFACES`].

use std::io::{self, Read};

use super::packet::LinkType;
use crate::time::Time;

/// The longest record (or pcapng block) that is read, in octets.
pub const MAX_RECORD: usize = 1 << 18;
/// The most interfaces a pcapng section may describe.
pub const MAX_INTERFACES: usize = 1024;

/// Why a capture could not be read on. Offsets count octets from the file's start.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file begins with neither a pcap nor a pcapng magic number.
    #[error("not a capture file: it begins with {magic:#010x}")]
    NotACapture {
        /// The first four octets, big-endian.
        magic: u32,
    },
    /// The file ends inside something; everything before it was returned.
    #[error("the capture is cut at octet {offset}, inside {what}")]
    Cut {
        /// Where the file ends.
        offset: u64,
        /// What the end is in.
        what: &'static str,
    },
    /// A record claims more than [`MAX_RECORD`] octets.
    #[error("the record at octet {offset} claims {length} octets, more than {MAX_RECORD}")]
    TooLong {
        /// Where the record begins.
        offset: u64,
        /// The length it claims.
        length: u32,
    },
    /// A structure contradicts itself or the format.
    #[error("the capture is malformed at octet {offset}: {what}")]
    Malformed {
        /// Where the structure begins.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The source failed.
    #[error("reading the capture failed at octet {offset}: {source}")]
    Io {
        /// How far reading had come.
        offset: u64,
        /// What the source said.
        source: io::Error,
    },
}

/// One captured frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// When it was captured, from the epoch of the file's clock (usually Unix time).
    pub time: Time,
    /// The link layer that `frame` begins with.
    pub link_type: LinkType,
    /// The frame's length on the wire, in octets; `frame` may be shorter.
    pub wire_len: u32,
    /// The captured octets.
    pub frame: &'a [u8],
    /// Where the record begins in the file.
    pub offset: u64,
}

/// Reads the records of a capture one after the other, from a byte slice, a file or any other [`Read`].
#[derive(Debug)]
pub struct CaptureReader<R> {
    source: Source<R>,
    format: Format,
    block: Vec<u8>,
}

impl<R: Read> CaptureReader<R> {
    /// Reads the file header.
    ///
    /// # Errors
    /// Any [`CaptureError`] but `TooLong`.
    pub fn new(source: R) -> Result<Self, CaptureError> {
        let mut source = Source { inner: source, offset: 0 };
        let mut magic = [0; 4];
        source.exact(&mut magic, "the file's magic number")?;
        let format = match u32::from_be_bytes(magic) {
            0xa1b2_c3d4 => Format::pcap(&mut source, Order::Big, 1_000_000)?,
            0xd4c3_b2a1 => Format::pcap(&mut source, Order::Little, 1_000_000)?,
            0xa1b2_3c4d => Format::pcap(&mut source, Order::Big, 1_000_000_000)?,
            0x4d3c_b2a1 => Format::pcap(&mut source, Order::Little, 1_000_000_000)?,
            SECTION => Format::Pcapng(Section::begin(&mut source, 0)?),
            magic => return Err(CaptureError::NotACapture { magic }),
        };
        Ok(CaptureReader { source, format, block: Vec::new() })
    }

    /// The next record, or `None` at the file's end. After an error there is nothing more to read.
    ///
    /// # Errors
    /// [`CaptureError`], with the octet where it was found.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, CaptureError> {
        let offset = self.source.offset;
        match &mut self.format {
            Format::Pcap { order, ticks, link_type } => {
                let mut header = [0; 16];
                if !self.source.exact_or_end(&mut header, "a record header")? {
                    return Ok(None);
                }
                let [seconds, fraction, length, wire_len] =
                    [0, 4, 8, 12].map(|at| order.u32(&header[at..at + 4]));
                self.source.body(&mut self.block, offset, length, "a record")?;
                let micros = u64::from(seconds) * 1_000_000 + scale(u64::from(fraction), *ticks);
                Ok(Some(Record {
                    time: Time::from_micros(micros),
                    link_type: *link_type,
                    wire_len,
                    frame: &self.block,
                    offset,
                }))
            }
            Format::Pcapng(section) => section.next_record(&mut self.source, &mut self.block),
        }
    }
}

const SECTION: u32 = 0x0a0d_0d0a;

#[derive(Debug)]
enum Format {
    Pcap { order: Order, ticks: u64, link_type: LinkType },
    Pcapng(Section),
}

impl Format {
    fn pcap<R: Read>(source: &mut Source<R>, order: Order, ticks: u64) -> Result<Format, CaptureError> {
        let mut rest = [0; 20];
        source.exact(&mut rest, "the file header")?;
        if order.u16(&rest[0..2]) != 2 {
            return Err(CaptureError::Malformed { offset: 4, what: "the format's version is not 2" });
        }
        // The upper bits carry the frame check sequence's length.
        let link_type = LinkType(order.u32(&rest[16..20]) & 0x03ff_ffff);
        Ok(Format::Pcap { order, ticks, link_type })
    }
}

/// A pcapng section: the octet order and the interfaces that hold until the next one begins.
#[derive(Debug)]
struct Section {
    order: Order,
    interfaces: Vec<Interface>,
}

#[derive(Debug, Clone, Copy)]
struct Interface {
    link_type: LinkType,
    snap_len: u32,
    /// Ticks a second.
    ticks: u64,
    /// Seconds to add.
    base: i64,
}

impl Section {
    /// Reads a section header whose type has been read already.
    fn begin<R: Read>(source: &mut Source<R>, offset: u64) -> Result<Section, CaptureError> {
        let mut head = [0; 8];
        source.exact(&mut head, "a section header")?;
        let order = match &head[4..8] {
            [0x1a, 0x2b, 0x3c, 0x4d] => Order::Big,
            [0x4d, 0x3c, 0x2b, 0x1a] => Order::Little,
            _ => {
                return Err(CaptureError::Malformed {
                    offset,
                    what: "no octet-order magic in a section header",
                });
            }
        };
        let length = order.u32(&head[0..4]);
        let rest = length.checked_sub(12).filter(|rest| *rest >= 16 && rest % 4 == 0);
        let rest = rest.ok_or(CaptureError::Malformed { offset, what: "the section header's length" })?;
        let mut body = Vec::new();
        source.body(&mut body, offset, rest, "a section header")?;
        if order.u16(&body[0..2]) != 1 {
            return Err(CaptureError::Malformed { offset, what: "the section's version is not 1" });
        }
        Ok(Section { order, interfaces: Vec::new() })
    }

    fn next_record<'b, R: Read>(
        &mut self,
        source: &mut Source<R>,
        block: &'b mut Vec<u8>,
    ) -> Result<Option<Record<'b>>, CaptureError> {
        loop {
            let offset = source.offset;
            let malformed = |what| CaptureError::Malformed { offset, what };
            let mut head = [0; 4];
            if !source.exact_or_end(&mut head, "a block header")? {
                return Ok(None);
            }
            let kind = self.order.u32(&head);
            if kind == SECTION {
                *self = Section::begin(source, offset)?;
                continue;
            }
            source.exact(&mut head, "a block header")?;
            let length = self.order.u32(&head);
            let rest = length.checked_sub(8).filter(|rest| *rest >= 4 && rest % 4 == 0);
            let rest = rest.ok_or_else(|| malformed("a block's length"))?;
            if !matches!(kind, 1 | 2 | 3 | 6) {
                source.skip(u64::from(rest), "a block")?;
                continue;
            }
            source.body(block, offset, rest, "a block")?;
            let body_len = block.len() - 4;
            if self.order.u32(&block[body_len..]) != length {
                return Err(malformed("a block's two lengths differ"));
            }
            if kind == 1 {
                if self.interfaces.len() == MAX_INTERFACES {
                    return Err(malformed("too many interfaces"));
                }
                let interface = Interface::read(self.order, &block[..body_len]);
                self.interfaces.push(interface.ok_or_else(|| malformed("an interface description"))?);
                continue;
            }
            let packet = self.packet(kind, &block[..body_len]).ok_or_else(|| malformed("a packet block"))?;
            let interface = self.interfaces.get(packet.interface as usize);
            let interface = interface.ok_or_else(|| malformed("a packet of an interface not described"))?;
            let frame = block[packet.start..body_len].get(..packet.captured.min(interface.snap_len) as usize);
            return Ok(Some(Record {
                time: interface.time(packet.ticks),
                link_type: interface.link_type,
                wire_len: packet.wire_len,
                frame: frame.ok_or_else(|| malformed("a packet longer than its block"))?,
                offset,
            }));
        }
    }

    fn packet(&self, kind: u32, body: &[u8]) -> Option<PacketBlock> {
        let word = |at: usize| body.get(at..at + 4).map(|octets| self.order.u32(octets));
        Some(match kind {
            // Simple packet block: no interface, no time.
            3 => {
                let wire_len = word(0)?;
                PacketBlock { interface: 0, ticks: 0, captured: wire_len, wire_len, start: 4 }
            }
            // Enhanced packet block, and the obsolete one with a 16-bit interface and a drop count.
            _ => PacketBlock {
                interface: if kind == 6 { word(0)? } else { u32::from(self.order.u16(body.get(0..2)?)) },
                ticks: u64::from(word(4)?) << 32 | u64::from(word(8)?),
                captured: word(12)?,
                wire_len: word(16)?,
                start: 20,
            },
        })
    }
}

struct PacketBlock {
    interface: u32,
    ticks: u64,
    captured: u32,
    wire_len: u32,
    start: usize,
}

impl Interface {
    fn read(order: Order, body: &[u8]) -> Option<Interface> {
        let link_type = LinkType(u32::from(order.u16(body.get(0..2)?)));
        let snap_len = match order.u32(body.get(4..8)?) {
            0 => u32::MAX,
            len => len,
        };
        let mut interface = Interface { link_type, snap_len, ticks: 1_000_000, base: 0 };
        let mut options = &body[8..];
        while let Some((head, rest)) = options.split_at_checked(4) {
            let (code, length) = (order.u16(&head[0..2]), usize::from(order.u16(&head[2..4])));
            let value = rest.get(..length)?;
            match (code, value) {
                (0, _) => break,
                // if_tsresol: a power of ten, or of two with the high bit.
                (9, [power @ 0..=19]) => interface.ticks = 10u64.pow(u32::from(*power)),
                (9, [power @ 0x80..=0xbf]) => interface.ticks = 1 << (power & 0x3f),
                (9, _) => return None,
                (14, [_, _, _, _, _, _, _, _]) => interface.base = order.u64(value) as i64,
                _ => {}
            }
            options = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Some(interface)
    }

    fn time(&self, ticks: u64) -> Time {
        let seconds = (ticks / self.ticks).saturating_add_signed(self.base);
        let micros = seconds.saturating_mul(1_000_000).saturating_add(scale(ticks % self.ticks, self.ticks));
        Time::from_micros(micros)
    }
}

/// A fraction of a second, in microseconds.
fn scale(fraction: u64, ticks: u64) -> u64 {
    u64::try_from(u128::from(fraction) * 1_000_000 / u128::from(ticks)).unwrap_or(u64::MAX)
}

#[derive(Debug, Clone, Copy)]
enum Order {
    Big,
    Little,
}

impl Order {
    fn u16(self, octets: &[u8]) -> u16 {
        let octets = octets.try_into().expect("two octets");
        match self {
            Order::Big => u16::from_be_bytes(octets),
            Order::Little => u16::from_le_bytes(octets),
        }
    }

    fn u32(self, octets: &[u8]) -> u32 {
        let octets = octets.try_into().expect("four octets");
        match self {
            Order::Big => u32::from_be_bytes(octets),
            Order::Little => u32::from_le_bytes(octets),
        }
    }

    fn u64(self, octets: &[u8]) -> u64 {
        let octets = octets.try_into().expect("eight octets");
        match self {
            Order::Big => u64::from_be_bytes(octets),
            Order::Little => u64::from_le_bytes(octets),
        }
    }
}

#[derive(Debug)]
struct Source<R> {
    inner: R,
    offset: u64,
}

impl<R: Read> Source<R> {
    /// Fills as much of `into` as the source has.
    fn fill(&mut self, into: &mut [u8]) -> Result<usize, CaptureError> {
        let mut filled = 0;
        while filled < into.len() {
            match self.inner.read(&mut into[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(CaptureError::Io { offset: self.offset + filled as u64, source }),
            }
        }
        self.offset += filled as u64;
        Ok(filled)
    }

    fn exact(&mut self, into: &mut [u8], what: &'static str) -> Result<(), CaptureError> {
        match self.exact_or_end(into, what)? {
            true => Ok(()),
            false => Err(CaptureError::Cut { offset: self.offset, what }),
        }
    }

    /// Whether `into` was filled; `false` when the source ended before its first octet.
    fn exact_or_end(&mut self, into: &mut [u8], what: &'static str) -> Result<bool, CaptureError> {
        match self.fill(into)? {
            0 => Ok(false),
            filled if filled == into.len() => Ok(true),
            _ => Err(CaptureError::Cut { offset: self.offset, what }),
        }
    }

    fn body(
        &mut self,
        into: &mut Vec<u8>,
        offset: u64,
        length: u32,
        what: &'static str,
    ) -> Result<(), CaptureError> {
        if length as usize > MAX_RECORD {
            return Err(CaptureError::TooLong { offset, length });
        }
        into.resize(length as usize, 0);
        match self.fill(into)? {
            filled if filled == into.len() => Ok(()),
            _ => Err(CaptureError::Cut { offset: self.offset, what }),
        }
    }

    fn skip(&mut self, mut length: u64, what: &'static str) -> Result<(), CaptureError> {
        let mut scratch = [0; 4096];
        while length > 0 {
            let step = length.min(scratch.len() as u64) as usize;
            self.exact(&mut scratch[..step], what)?;
            length -= step as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pcap(order: Order, magic: u32, records: &[(u32, u32, &[u8])]) -> Vec<u8> {
        let put32 = |value: u32| match order {
            Order::Big => value.to_be_bytes(),
            Order::Little => value.to_le_bytes(),
        };
        let version = match order {
            Order::Big => [0, 2, 0, 4],
            Order::Little => [2, 0, 4, 0],
        };
        let mut out = [put32(magic), version, put32(0), put32(0), put32(65535), put32(1)].concat();
        for (seconds, fraction, frame) in records {
            for word in [*seconds, *fraction, frame.len() as u32, frame.len() as u32 + 7] {
                out.extend(put32(word));
            }
            out.extend_from_slice(frame);
        }
        out
    }

    fn pcapng(order: Order) -> Vec<u8> {
        let put32 = |value: u32| match order {
            Order::Big => value.to_be_bytes(),
            Order::Little => value.to_le_bytes(),
        };
        let put16 = |value: u16| match order {
            Order::Big => value.to_be_bytes(),
            Order::Little => value.to_le_bytes(),
        };
        let block = |kind: u32, body: &[u8]| {
            let mut out = [put32(kind), put32(body.len() as u32 + 12)].concat();
            out.extend_from_slice(body);
            out.extend(put32(body.len() as u32 + 12));
            out
        };
        let mut out = block(SECTION, &[&put32(0x1a2b_3c4d)[..], &put16(1), &put16(0), &[0xff; 8]].concat());
        // An interface in nanoseconds (if_tsresol 9), then one in units of 2^-10 s.
        for (link, power) in [(1u16, 9u8), (101, 0x8a)] {
            let options = [&put16(9)[..], &put16(1), &[power, 0, 0, 0], &[0; 4]].concat();
            out.extend(block(1, &[&put16(link)[..], &put16(0), &put32(0), &options].concat()));
        }
        out.extend(block(0x0bad_cafe, &[1, 2, 3, 4]));
        let ticks = 5_000_001_000u64;
        let packet =
            [put32(0), put32((ticks >> 32) as u32), put32(ticks as u32), put32(3), put32(9)].concat();
        out.extend(block(6, &[&packet[..], b"abc\0"].concat()));
        let packet = [put32(1), put32(0), put32(1536), put32(4), put32(4)].concat();
        out.extend(block(6, &[&packet[..], b"wxyz"].concat()));
        out.extend(block(3, &[&put32(2)[..], b"hi\0\0"].concat()));
        out
    }

    /// Time, link type and frame of each record.
    type Records = Vec<(u64, u32, Vec<u8>)>;

    fn all(octets: &[u8]) -> (Records, Option<CaptureError>) {
        let mut records = Vec::new();
        let mut reader = match CaptureReader::new(octets) {
            Ok(reader) => reader,
            Err(error) => return (records, Some(error)),
        };
        loop {
            match reader.next_record() {
                Ok(Some(record)) => {
                    records.push((record.time.as_micros(), record.link_type.0, record.frame.to_vec()))
                }
                Ok(None) => return (records, None),
                Err(error) => return (records, Some(error)),
            }
        }
    }

    #[test]
    fn pcap_in_both_orders_and_resolutions() {
        for order in [Order::Big, Order::Little] {
            let want = vec![(2_000_003, 1, b"frame".to_vec()), (3_000_000, 1, vec![])];
            let micros = pcap(order, 0xa1b2_c3d4, &[(2, 3, b"frame"), (3, 0, b"")]);
            assert_eq!(all(&micros).0, want);
            let nanos = pcap(order, 0xa1b2_3c4d, &[(2, 3999, b"frame"), (3, 0, b"")]);
            assert_eq!(all(&nanos).0, want);
        }
    }

    #[test]
    fn pcapng_in_both_orders() {
        for order in [Order::Big, Order::Little] {
            let (records, error) = all(&pcapng(order));
            assert!(error.is_none(), "{error:?}");
            let want = [(5_000_001, 1, &b"abc"[..]), (1_500_000, 101, b"wxyz"), (0, 1, b"hi")];
            assert_eq!(records, want.map(|(time, link, frame)| (time, link, frame.to_vec())));
        }
    }

    #[test]
    fn a_cut_file_gives_what_is_whole_and_says_where_it_ends() {
        let whole = pcap(Order::Little, 0xa1b2_c3d4, &[(1, 0, b"one"), (2, 0, b"two")]);
        for length in 0..whole.len() {
            let (records, error) = all(&whole[..length]);
            assert_eq!(records.len(), length.saturating_sub(24) / 19);
            match error {
                None => assert!(length == 24 || length == 43),
                Some(CaptureError::Cut { offset, .. }) => assert_eq!(offset, length as u64),
                Some(other) => panic!("{other}"),
            }
        }
        let whole = pcapng(Order::Big);
        for length in 0..whole.len() {
            match all(&whole[..length]).1 {
                None => {}
                Some(CaptureError::Cut { offset, .. }) => assert_eq!(offset, length as u64),
                Some(other) => panic!("{other}"),
            }
        }
    }

    #[test]
    fn lengths_over_the_bound_are_refused_before_they_are_read() {
        let mut file = pcap(Order::Little, 0xa1b2_c3d4, &[(1, 0, b"one")]);
        file[32..36].copy_from_slice(&(MAX_RECORD as u32 + 1).to_le_bytes());
        assert!(matches!(all(&file).1, Some(CaptureError::TooLong { offset: 24, .. })));
        assert!(matches!(all(b"GIF89a").1, Some(CaptureError::NotACapture { magic: 0x4749_4638 })));
    }

    #[test]
    fn interfaces_are_bounded() {
        let mut file = pcapng(Order::Little)[..28].to_vec();
        let interface = [&1u32.to_le_bytes()[..], &20u32.to_le_bytes(), &[1, 0, 0, 0], &[0; 4]].concat();
        for _ in 0..=MAX_INTERFACES {
            file.extend_from_slice(&interface);
            file.extend_from_slice(&20u32.to_le_bytes());
        }
        assert!(matches!(all(&file).1, Some(CaptureError::Malformed { what: "too many interfaces", .. })));
    }
}
