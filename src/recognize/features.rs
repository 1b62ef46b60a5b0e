//! What a flow looks like from outside: sizes, directions and gaps of its first payload packets, kept in few octets.
//!
//! [`FlowFeatures`] is the accumulator that lives inside every open flow; [`FlowFeatures::vector`] turns it into the
//! numbers that a model is given and that a traffic-feature message carries. No address and no port number is in it.

use crate::time::Time;

/// Payload packets that are looked at.
pub const FEATURE_PACKETS: usize = 16;

/// Numbers in a vector.
pub const FEATURE_COUNT: usize = 60;

/// The version of the vector's meaning; it changes whenever [`FeatureVector`] does.
pub const FEATURE_SET: u16 = 1;

/// A flow in numbers, each finite and within [-1, 1].
///
/// *Size* means a payload length on the wire as `sqrt(min(octets, 1500) / 1500)`; *gap* a time as
/// `log10(1 + microseconds) / 8`, at most 1, which is 100 s. I is the initiator, R the responder. What was not seen is 0.
///
/// | index | number |
/// | --- | --- |
/// | 0-15 | size of the n-th payload packet, positive from I and negative from R |
/// | 16-31 | gap before the n-th payload packet (index 16 is always 0) |
/// | 32, 33 | payload packets of I and of R, over 16 |
/// | 34 | share of the payload octets that I sent |
/// | 35, 36 | mean size of I, of R |
/// | 37, 38 | standard deviation of the sizes of I, of R |
/// | 39, 40 | least size of I, of R |
/// | 41, 42 | greatest size of I, of R |
/// | 43 | changes of direction, over 15 |
/// | 44 | longest run in one direction, over 16 |
/// | 45, 46 | mean and standard deviation of the gaps |
/// | 47 | gap between the first and the last payload packet |
/// | 48 | 1 for TCP, 0 for UDP |
/// | 49 | 1 when R's port is below 1024 |
/// | 50 | 1 when both ports are equal |
/// | 51 | different sizes, over 16 |
/// | 52, 53 | printable share of the first 64 payload octets of I, of R |
/// | 54, 55 | share of zero octets among them |
/// | 56, 57 | their entropy in bits, over 6 (the most that 64 octets can have) |
/// | 58, 59 | share of packets over 1200 octets of I, of R |
pub type FeatureVector = [f32; FEATURE_COUNT];

/// The accumulator: the first [`FEATURE_PACKETS`] payload packets of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowFeatures {
    first: u64,
    last: u64,
    sizes: [u16; FEATURE_PACKETS],
    /// Gaps in steps of 1/255 of the whole scale.
    gaps: [u8; FEATURE_PACKETS],
    /// One bit a packet: set when R sent it.
    from_responder: u16,
    count: u8,
    flags: u8,
    /// Printable share, zero share, entropy over 6 bits; in 1/255, for I and R.
    text: [[u8; 3]; 2],
}

const TCP_FLOW: u8 = 1;
const LOW_PORT: u8 = 2;
const EQUAL_PORTS: u8 = 4;
const TEXT_OCTETS: usize = 64;

impl FlowFeatures {
    /// Nothing seen yet, of a flow with these ports.
    pub fn new(tcp: bool, initiator_port: u16, responder_port: u16) -> FlowFeatures {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        FlowFeatures {
            first: 0,
            last: 0,
            sizes: [0; FEATURE_PACKETS],
            gaps: [0; FEATURE_PACKETS],
            from_responder: 0,
            count: 0,
            flags: flag(tcp, TCP_FLOW)
                | flag(responder_port < 1024, LOW_PORT)
                | flag(initiator_port == responder_port, EQUAL_PORTS),
            text: [[0; 3]; 2],
        }
    }

    /// Payload packets taken in, at most [`FEATURE_PACKETS`].
    pub fn packets(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether further packets change nothing.
    pub fn is_complete(&self) -> bool {
        self.packets() == FEATURE_PACKETS
    }

    /// Takes in a packet of `wire_len` payload octets, of which `payload` was captured. Packets without payload and
    /// packets after the last one are ignored. `now` may go back; the gap is 0 then.
    pub fn add(&mut self, now: Time, from_responder: bool, wire_len: u32, payload: &[u8]) {
        if self.is_complete() || wire_len == 0 {
            return;
        }
        let at = self.packets();
        let now = now.as_micros();
        let side = usize::from(from_responder);
        let first_of_side = match from_responder {
            true => self.from_responder == 0,
            false => self.from_responder.count_ones() as usize == at,
        };
        if first_of_side {
            self.text[side] = text(&payload[..payload.len().min(TEXT_OCTETS)]);
        }
        match at {
            0 => self.first = now,
            _ => self.gaps[at] = gap_step(now.saturating_sub(self.last)),
        }
        self.last = self.last.max(now);
        self.sizes[at] = u16::try_from(wire_len).unwrap_or(u16::MAX);
        self.from_responder |= u16::from(from_responder) << at;
        self.count += 1;
    }

    /// The numbers, as [`FeatureVector`] describes them.
    pub fn vector(&self) -> FeatureVector {
        let mut out = [0.0; FEATURE_COUNT];
        let count = self.packets();
        let responder = |at: usize| self.from_responder >> at & 1 == 1;
        let mut sides = [Side::default(); 2];
        let (mut changes, mut run, mut longest) = (0, 0, 0);
        for at in 0..count {
            let size = size(self.sizes[at]);
            out[at] = if responder(at) { -size } else { size };
            out[16 + at] = f32::from(self.gaps[at]) / 255.0;
            sides[usize::from(responder(at))].add(size, self.sizes[at]);
            let changed = at > 0 && responder(at) != responder(at - 1);
            changes += usize::from(changed);
            run = if changed { 1 } else { run + 1 };
            longest = longest.max(run);
        }
        let octets: f32 = sides.iter().map(|side| side.octets).sum();
        out[34] = if octets > 0.0 { sides[0].octets / octets } else { 0.0 };
        for (at, side) in sides.iter().enumerate().filter(|(_, side)| side.count > 0.0) {
            let (mean, deviation) = mean_deviation(side.sum, side.squares, side.count);
            out[32 + at] = side.count / 16.0;
            out[35 + at] = mean;
            out[37 + at] = deviation;
            out[39 + at] = side.least;
            out[41 + at] = side.greatest;
            out[58 + at] = side.full / side.count;
        }
        out[43] = changes as f32 / 15.0;
        out[44] = longest as f32 / 16.0;
        if count > 1 {
            let gaps = &out[17..16 + count];
            let (sum, squares) = (gaps.iter().sum(), gaps.iter().map(|gap| gap * gap).sum());
            let (mean, deviation) = mean_deviation(sum, squares, gaps.len() as f32);
            out[45] = mean;
            out[46] = deviation;
            out[47] = gap(self.last.saturating_sub(self.first));
        }
        for (at, bit) in [(48, TCP_FLOW), (49, LOW_PORT), (50, EQUAL_PORTS)] {
            out[at] = f32::from(u8::from(self.flags & bit != 0));
        }
        let different = (0..count).filter(|at| !self.sizes[..*at].contains(&self.sizes[*at])).count();
        out[51] = different as f32 / 16.0;
        for (side, text) in self.text.iter().enumerate() {
            for (at, share) in text.iter().enumerate() {
                out[52 + at * 2 + side] = f32::from(*share) / 255.0;
            }
        }
        out
    }
}

#[derive(Clone, Copy)]
struct Side {
    count: f32,
    octets: f32,
    sum: f32,
    squares: f32,
    least: f32,
    greatest: f32,
    full: f32,
}

impl Default for Side {
    fn default() -> Side {
        Side { count: 0.0, octets: 0.0, sum: 0.0, squares: 0.0, least: 1.0, greatest: 0.0, full: 0.0 }
    }
}

impl Side {
    fn add(&mut self, size: f32, octets: u16) {
        self.count += 1.0;
        self.octets += f32::from(octets);
        self.sum += size;
        self.squares += size * size;
        self.least = self.least.min(size);
        self.greatest = self.greatest.max(size);
        self.full += f32::from(u8::from(octets > 1200));
    }
}

fn mean_deviation(sum: f32, squares: f32, count: f32) -> (f32, f32) {
    let mean = sum / count;
    (mean, (squares / count - mean * mean).max(0.0).sqrt())
}

fn size(octets: u16) -> f32 {
    (f32::from(octets.min(1500)) / 1500.0).sqrt()
}

fn gap(micros: u64) -> f32 {
    ((1.0 + micros as f32).log10() / 8.0).min(1.0)
}

/// The 8 decades of a gap in octaves, 8 log2(10), in 1/65536.
const OCTAVES: u64 = 1_741_645;

/// [`gap`] in 1/255 without floating point: the logarithm's whole part from the highest bit, its fraction from the bits
/// below, bent a little.
fn gap_step(micros: u64) -> u8 {
    let number = micros.saturating_add(1);
    let whole = u64::from(number.ilog2());
    let fraction = ((number << (63 - whole)) << 1) >> 48;
    let bend = (((fraction * (65_536 - fraction)) >> 16) * 22_700) >> 16;
    let step = (((whole << 16) + fraction + bend) * 255 + OCTAVES / 2) / OCTAVES;
    step.min(255) as u8
}

fn text(octets: &[u8]) -> [u8; 3] {
    if octets.is_empty() {
        return [0; 3];
    }
    let mut seen = [0u8; 256];
    let (mut printable, mut weight) = (0, 0);
    for octet in octets {
        let count = &mut seen[usize::from(*octet)];
        weight += WEIGHTS[usize::from(*count) + 1] - WEIGHTS[usize::from(*count)];
        *count += 1;
        printable += usize::from(matches!(octet, b' '..=b'~' | b'\r' | b'\n' | b'\t'));
    }
    let total = octets.len() as f32;
    // -sum(p log p) with p = count / total.
    let entropy = total.log2() - weight as f32 / 65536.0 / total;
    [printable as f32 / total, f32::from(seen[0]) / total, entropy / 6.0]
        .map(|share| (share * 255.0).round() as u8)
}

/// n log2 n in 1/65536.
static WEIGHTS: [i64; TEXT_OCTETS + 1] = {
    let mut weights = [0; TEXT_OCTETS + 1];
    let mut n = 2;
    while n <= TEXT_OCTETS {
        // The logarithm's binary digits come from squaring: n = 2^whole * part, part in [1, 2).
        let whole = n.ilog2();
        let mut part = (n as u64) << (32 - whole);
        let mut log = (whole as i64) << 16;
        let mut digit = 1 << 15;
        while digit > 0 {
            part = ((part as u128 * part as u128) >> 32) as u64;
            if part >= 2 << 32 {
                part >>= 1;
                log += digit;
            }
            digit >>= 1;
        }
        weights[n] = n as i64 * log;
        n += 1;
    }
    weights
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_in_range_whatever_is_added() {
        let mut features = FlowFeatures::new(true, 9, 9);
        for at in 0..40u64 {
            let payload = vec![at as u8; (at * 31) as usize];
            features.add(Time::from_micros(at * at * at * 1_000_003), at % 3 == 0, 1 << at.min(20), &payload);
            assert!(features.vector().iter().all(|number| (-1.0..=1.0).contains(number)));
        }
        assert!(features.is_complete());
        assert!(std::mem::size_of::<FlowFeatures>() <= 80);
    }

    #[test]
    fn gaps_without_floating_point() {
        for micros in
            (0..200).chain((0..64).map(|power| 1u64 << power)).chain([999, 12_345, 7_654_321, u64::MAX])
        {
            let want = gap(micros) * 255.0;
            assert!(
                (f32::from(gap_step(micros)) - want).abs() <= 1.0,
                "{micros}: {} {want}",
                gap_step(micros)
            );
        }
    }

    #[test]
    fn entropy_of_known_texts() {
        let every: Vec<u8> = (0..64).collect();
        assert_eq!(text(&every)[2], 255);
        assert_eq!(text(&[b'a'; 64]), [255, 0, 0]);
        assert_eq!(text(&[0, 0, 1, 2])[1..], [128, (1.5f32 / 6.0 * 255.0).round() as u8]);
        for (n, weight) in WEIGHTS.iter().enumerate().skip(1) {
            let want = n as f64 * (n as f64).log2();
            assert!((*weight as f64 / 65536.0 - want).abs() < 0.01, "{n}");
        }
    }

    #[test]
    fn a_small_exchange() {
        let mut features = FlowFeatures::new(false, 40000, 53);
        features.add(Time::from_micros(5), false, 60, &[0; 60]);
        features.add(Time::from_micros(6), true, 0, b"");
        features.add(Time::from_micros(1005), true, 1500, b"text");
        let vector = features.vector();
        assert_eq!(features.packets(), 2);
        assert!((vector[0] - 0.2).abs() < 1e-6);
        assert_eq!(vector[1], -1.0);
        assert!((vector[17] - 3.0 / 8.0).abs() < 0.01);
        assert_eq!((vector[32], vector[33]), (1.0 / 16.0, 1.0 / 16.0));
        assert_eq!((vector[48], vector[49], vector[50]), (0.0, 1.0, 0.0));
        assert_eq!((vector[52], vector[53], vector[54]), (0.0, 1.0, 1.0));
    }
}
