//! The name in the first question of a DNS message (RFC 1035 §4.1), also for mDNS and LLMNR.

/// The longest name as text.
pub(crate) const MAX_NAME: usize = 255;

/// Writes the name of the first question as text with dots into `out`; `None` when this is no such message.
pub(crate) fn query_name<'b>(message: &[u8], out: &'b mut [u8; MAX_NAME]) -> Option<&'b [u8]> {
    let head: &[u8; 12] = message.first_chunk()?;
    if u16::from_be_bytes([head[4], head[5]]) == 0 {
        return None;
    }
    let mut rest = &message[12..];
    let mut length = 0;
    loop {
        let (label_len, body) = rest.split_first()?;
        if *label_len == 0 {
            return (length > 0).then(|| &out[..length]);
        }
        // A question's name is first in the message, so nothing can be pointed at.
        if *label_len > 63 {
            return None;
        }
        let (label, after) = body.split_at_checked(usize::from(*label_len))?;
        let dot = usize::from(length > 0);
        let into = out.get_mut(length..length + dot + label.len())?;
        into[..dot].fill(b'.');
        into[dot..].copy_from_slice(label);
        length += dot + label.len();
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let message = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x03www\x07example\x03org\0\0\x01\0\x01";
        let mut out = [0; MAX_NAME];
        assert_eq!(query_name(message, &mut out), Some(&b"www.example.org"[..]));
        for length in 0..message.len() - 4 {
            assert_eq!(query_name(&message[..length], &mut out), None);
        }
        let mut long = message[..12].to_vec();
        for _ in 0..5 {
            long.push(63);
            long.extend([b'a'; 63]);
        }
        long.push(0);
        assert_eq!(query_name(&long, &mut out), None);
    }
}
