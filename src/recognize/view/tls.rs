//! ClientHello and certificates, joined from TLS records, and what a rule wants of them (RFC 8446 §4.1.2, §5.1;
//! RFC 5246 §7.4.2; RFC 6066 §3; RFC 7301).

use std::borrow::Cow;

/// The longest ClientHello that is joined, in octets.
pub(crate) const MAX_HELLO: usize = 8192;

/// The most of a server's first messages that is joined to find its certificates, in octets.
pub(crate) const MAX_SERVER: usize = 4096;

/// What the first octets of a stream hold of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    /// Nothing.
    No,
    /// The beginning of it, perhaps nothing yet.
    Partial(Cow<'a, [u8]>),
    /// All of it.
    Whole(Cow<'a, [u8]>),
}

/// The ClientHello at the start of a client's stream.
pub(crate) fn client_hello(stream: &[u8]) -> Message<'_> {
    let Some(handshake) = Handshake::of(stream) else {
        return Message::No;
    };
    match (handshake.octets.first(), message_len(&handshake.octets)) {
        (Some(kind), _) if *kind != 1 => Message::No,
        (_, Some(length)) if length > MAX_HELLO => Message::No,
        (_, Some(length)) if handshake.octets.len() >= length => {
            Message::Whole(cut(handshake.octets, 0, length))
        }
        _ if handshake.ended => Message::Whole(handshake.octets),
        _ => Message::Partial(handshake.octets),
    }
}

/// The Certificate message at the start of a server's stream. TLS 1.3 has it encrypted.
pub(crate) fn certificates(stream: &[u8]) -> Message<'_> {
    let Some(handshake) = Handshake::of(stream) else {
        return Message::No;
    };
    let mut at = 0;
    while let (Some(kind), Some(length)) =
        (handshake.octets.get(at), message_len(&handshake.octets[at.min(handshake.octets.len())..]))
    {
        let end = at + length;
        match kind {
            11 if end <= handshake.octets.len() => return Message::Whole(cut(handshake.octets, at, end)),
            11 if handshake.ended || stream.len() >= MAX_SERVER => {
                let end = handshake.octets.len();
                return Message::Whole(cut(handshake.octets, at, end));
            }
            // ServerHello and what may stand between.
            2 | 22 | 11 => at = end,
            _ => return Message::No,
        }
    }
    if handshake.ended { Message::No } else { Message::Partial(Cow::Borrowed(&[])) }
}

/// The handshake messages at the start of a stream, out of their records.
struct Handshake<'a> {
    octets: Cow<'a, [u8]>,
    /// Something else follows.
    ended: bool,
}

impl Handshake<'_> {
    fn of(stream: &[u8]) -> Option<Handshake<'_>> {
        let mut joined: Cow<'_, [u8]> = Cow::Borrowed(&[]);
        let mut rest = stream;
        while let Some((&[kind, major, _, high, low], body)) = rest.split_first_chunk() {
            let length = usize::from(u16::from_be_bytes([high, low]));
            if kind != 22 || major != 3 || length == 0 {
                return (!joined.is_empty()).then_some(Handshake { octets: joined, ended: true });
            }
            let piece = &body[..body.len().min(length)];
            match joined.is_empty() {
                true => joined = Cow::Borrowed(piece),
                false => joined.to_mut().extend_from_slice(piece),
            }
            rest = &body[piece.len()..];
        }
        let magic = [22, 3];
        let ended = !rest.is_empty() && !rest.starts_with(&magic[..rest.len().min(2)]);
        (!ended || !joined.is_empty()).then_some(Handshake { octets: joined, ended })
    }
}

fn cut(octets: Cow<'_, [u8]>, begin: usize, end: usize) -> Cow<'_, [u8]> {
    match octets {
        Cow::Borrowed(octets) => Cow::Borrowed(&octets[begin..end]),
        Cow::Owned(mut octets) => {
            octets.truncate(end);
            octets.drain(..begin);
            Cow::Owned(octets)
        }
    }
}

/// The length of the handshake message that begins here, its header included.
pub(crate) fn message_len(message: &[u8]) -> Option<usize> {
    let &[_, a, b, c] = message.first_chunk()?;
    Some(4 + (usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)))
}

/// What rules can address in a ClientHello.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct HelloTexts<'a> {
    /// The server name.
    pub(crate) name: Option<&'a [u8]>,
    /// The ALPN list as it is on the wire: a length before each name.
    pub(crate) alpn: Option<&'a [u8]>,
}

/// Reads a ClientHello as far as it goes; one that is cut or malformed gives what precedes the fault.
pub(crate) fn texts(message: &[u8]) -> HelloTexts<'_> {
    let mut texts = HelloTexts::default();
    read(message, &mut texts);
    texts
}

fn read<'a>(message: &'a [u8], texts: &mut HelloTexts<'a>) -> Option<()> {
    // Message header, version, random; session, suites, compression; then the extensions.
    let mut rest = message.get(4 + 2 + 32..)?;
    vector(&mut rest, 1)?;
    vector(&mut rest, 2)?;
    vector(&mut rest, 1)?;
    rest = rest.get(2..)?;
    loop {
        let kind = u16::from_be_bytes(*rest.first_chunk()?);
        rest = &rest[2..];
        let mut body = vector(&mut rest, 2)?;
        match kind {
            0 => {
                if let Some((0, mut entry)) = vector(&mut body, 2)?.split_first() {
                    texts.name = texts.name.or(vector(&mut entry, 2));
                }
            }
            16 => texts.alpn = texts.alpn.or(vector(&mut body, 2)),
            _ => {}
        }
    }
}

/// Takes a vector with a length of `width` octets off the front.
fn vector<'a>(rest: &mut &'a [u8], width: usize) -> Option<&'a [u8]> {
    let (length, body) = rest.split_at_checked(width)?;
    let length = length.iter().fold(0, |length, octet| length << 8 | usize::from(*octet));
    let (vector, after) = body.split_at_checked(length)?;
    *rest = after;
    Some(vector)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(octets: &[u8]) -> Vec<u8> {
        [&[22, 3, 3, 0, octets.len() as u8][..], octets].concat()
    }

    fn hello() -> Vec<u8> {
        let extensions = b"\x00\x0a\0\x02\0\0\0\0\0\x0a\0\x08\0\0\x05a.org\0\x10\0\x05\0\x03\x02h2";
        let mut out =
            [&[1, 0, 0, 0, 3, 3][..], &[0; 32], &[2, 9, 9, 0, 2, 1, 1, 1, 0, 0, extensions.len() as u8]]
                .concat();
        out.extend(extensions);
        out[3] = out.len() as u8 - 4;
        out
    }

    #[test]
    fn a_hello_in_any_records_however_much_has_come() {
        let hello = hello();
        for size in [1, 7, 50, 200] {
            let stream: Vec<u8> = hello.chunks(size).flat_map(record).collect();
            for length in 0..stream.len() {
                match client_hello(&stream[..length]) {
                    Message::Partial(part) => assert!(hello.starts_with(&part)),
                    other => panic!("{other:?}"),
                }
            }
            let more = [&stream[..], &record(b"\x0bmore")].concat();
            for stream in [&stream, &more] {
                assert_eq!(client_hello(stream), Message::Whole(Cow::Borrowed(&hello)));
            }
        }
        assert_eq!(texts(&hello), HelloTexts { name: Some(b"a.org"), alpn: Some(b"\x02h2") });
        for length in 0..hello.len() {
            texts(&hello[..length]);
        }
    }

    #[test]
    fn what_is_no_hello() {
        for stream in [&b"\x16\x04"[..], b"\x17\x03\x03\0\x01x", b"\x16\x03\x01\0\x04\x02\0\0\0", b"GET /"] {
            assert_eq!(client_hello(stream), Message::No);
        }
        let long = record(&[1, 0, 0xff, 0xff]);
        assert_eq!(client_hello(&long), Message::No);
    }

    #[test]
    fn certificates_follow_the_server_hello() {
        let (server, certificate) = (b"\x02\0\0\x03abc", b"\x0b\0\0\x08*.a.org.");
        let together = record(&[&server[..], certificate].concat());
        let apart = [record(server), record(&certificate[..6]), record(&certificate[6..])].concat();
        for stream in [&together, &apart] {
            assert_eq!(certificates(stream), Message::Whole(Cow::Borrowed(certificate)));
            for length in 0..stream.len() {
                assert_eq!(certificates(&stream[..length]), Message::Partial(Cow::Borrowed(&[])));
            }
        }
        let resumed = [&record(server)[..], b"\x14\x03\x03\0\x01\x01"].concat();
        assert_eq!(certificates(&resumed), Message::No);
        let cut = [&apart[..apart.len() - 11], b"\x15\x03\x03\0\x02"].concat();
        assert_eq!(certificates(&cut), Message::Whole(Cow::Borrowed(&certificate[..6])));
    }
}
