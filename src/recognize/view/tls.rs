//! The ClientHello: joined from TLS records, and what a rule wants of it (RFC 8446 §4.1.2, §5.1; RFC 6066 §3; RFC 7301).

use std::borrow::Cow;

/// The longest ClientHello that is joined, in octets.
pub(crate) const MAX_HELLO: usize = 8192;

/// What the first octets of a stream hold.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Hello<'a> {
    /// No ClientHello in TLS records.
    No,
    /// The beginning of one.
    Partial(Cow<'a, [u8]>),
    /// All of it.
    Whole(Cow<'a, [u8]>),
}

/// The ClientHello at the start of a TLS stream, out of its records.
pub(crate) fn from_records(stream: &[u8]) -> Hello<'_> {
    let mut joined: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    let mut rest = stream;
    while let Some((&[kind, major, _, high, low], body)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([high, low]));
        if kind != 22 || major != 3 || length == 0 {
            // Something else where the rest of the hello should be.
            return if joined.is_empty() { Hello::No } else { Hello::Whole(joined) };
        }
        let piece = &body[..body.len().min(length)];
        match joined.is_empty() {
            true => joined = Cow::Borrowed(piece),
            false => joined.to_mut().extend_from_slice(piece),
        }
        if joined.first().is_some_and(|kind| *kind != 1) {
            return Hello::No;
        }
        if let Some(length) = message_len(&joined) {
            if length > MAX_HELLO {
                return Hello::No;
            }
            if joined.len() >= length {
                return Hello::Whole(match joined {
                    Cow::Borrowed(octets) => Cow::Borrowed(&octets[..length]),
                    Cow::Owned(mut octets) => {
                        octets.truncate(length);
                        Cow::Owned(octets)
                    }
                });
            }
        }
        rest = &body[piece.len()..];
    }
    let magic = [22, 3];
    match rest.is_empty() || rest.starts_with(&magic[..rest.len().min(2)]) {
        true => Hello::Partial(joined),
        false => Hello::No,
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
