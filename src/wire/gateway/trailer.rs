//! The CRC-32 that two Hailpost ends put behind each message on `udp://`, where nothing else would notice a flipped
//! bit or a datagram of an earlier association (docs/gateway-protocol.md).

/// Octets of the trailer.
pub const TRAILER_LEN: usize = 4;

/// Appends CRC-32 over the association's epoch and the message.
pub fn seal(epoch: u32, message: &mut Vec<u8>) {
    let crc = checksum(epoch, message);
    message.extend_from_slice(&crc.to_be_bytes());
}

/// The message without its trailer, if that is right for the epoch.
pub fn unseal(epoch: u32, octets: &[u8]) -> Option<&[u8]> {
    let (message, trailer) = octets.split_last_chunk::<TRAILER_LEN>()?;
    (u32::from_be_bytes(*trailer) == checksum(epoch, message)).then_some(message)
}

fn checksum(epoch: u32, message: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&epoch.to_be_bytes());
    crc.update(message);
    crc.finalize()
}
