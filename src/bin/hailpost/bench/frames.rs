//! Captures merged and repeated in memory.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use hailpost::{time::Time, wire::packet::LinkType};

use crate::{
    capture,
    failure::Failure,
    traffic::{self, Pcap},
};

/// From one repetition's start to the next.
const LATER: Duration = Duration::from_millis(250);

/// Frames one after the other in memory, as a ring of a network card has them.
pub struct Frames {
    octets: Vec<u8>,
    ends: Vec<(Time, LinkType, usize)>,
}

impl Frames {
    /// The frames of a capture, of all captures in a directory, or of one of our own making, by their times since their
    /// capture's start. Each repetition has other addresses, so that its flows are new.
    pub fn merged(path: Option<&Path>, repeat: u8) -> Result<Frames, Failure> {
        let mut once = Vec::new();
        match path {
            None => {
                let mut evening = traffic::evening();
                once.extend(
                    evening.frames().iter().map(|(at, frame)| (*at, LinkType::ETHERNET, frame.clone())),
                );
            }
            Some(path) => {
                for path in captures(path)? {
                    read(&path, &mut once)?;
                }
            }
        }
        let mut order: Vec<(Time, u8, usize)> = (0..repeat)
            .flat_map(|repetition| {
                let later = LATER * u32::from(repetition);
                once.iter().enumerate().map(move |(number, frame)| (frame.0 + later, repetition, number))
            })
            .collect();
        order.sort_by_key(|(at, ..)| *at);
        let mut merged = Frames { octets: Vec::new(), ends: Vec::with_capacity(order.len()) };
        for (at, repetition, number) in order {
            let (_, link, frame) = &once[number];
            let begin = merged.octets.len();
            merged.octets.extend(frame);
            move_addresses(*link, &mut merged.octets[begin..], repetition);
            merged.ends.push((at, *link, merged.octets.len()));
        }
        Ok(merged)
    }

    /// How many frames there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The frames with their times, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Time, LinkType, &[u8])> {
        let mut begin = 0;
        self.ends.iter().map(move |(at, link, end)| {
            let frame = &self.octets[begin..*end];
            begin = *end;
            (*at, *link, frame)
        })
    }

    /// Those of Ethernet as a capture file, for other programs to be measured on.
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        let mut pcap = Pcap::new();
        for (at, _, frame) in self.iter().filter(|(_, link, _)| *link == LinkType::ETHERNET) {
            pcap.push(at, frame.to_vec());
        }
        fs::write(path, pcap.file())
            .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))
    }
}

fn captures(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries: Vec<PathBuf> =
        fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<Result<_, std::io::Error>>()?;
    let is_capture = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "pcap" || extension == "pcapng")
    };
    let mut captures: Vec<PathBuf> = entries.into_iter().filter(is_capture).collect();
    captures.sort();
    Ok(captures)
}

fn read(path: &Path, frames: &mut Vec<(Time, LinkType, Vec<u8>)>) -> Result<(), Failure> {
    let mut capture = capture::open(path)?;
    let mut start = None;
    while let Some(record) = capture
        .reader
        .next_record()
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?
    {
        let start = *start.get_or_insert(record.time);
        let at = Time::ZERO + record.time.since(start);
        frames.push((at, record.link_type, record.frame.to_vec()));
    }
    Ok(())
}

/// Gives a frame other IP addresses. Checksums are not kept.
fn move_addresses(link: LinkType, frame: &mut [u8], repetition: u8) {
    let places = match frame.get(12..14) {
        Some([8, 0]) if link == LinkType::ETHERNET => [27, 31],
        Some([0x86, 0xdd]) if link == LinkType::ETHERNET => [24, 40],
        _ => return,
    };
    for place in places {
        if let Some(octet) = frame.get_mut(place) {
            *octet ^= repetition;
        }
    }
}
