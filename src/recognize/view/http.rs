//! The head of an HTTP/1 request: host and user agent (RFC 9112 §3, RFC 9110 §7.2).

/// The longest request head that is joined, in octets.
pub(crate) const MAX_HEAD: usize = 2048;

const METHODS: [&[u8]; 10] = [
    b"GET ",
    b"POST ",
    b"HEAD ",
    b"PUT ",
    b"CONNECT ",
    b"OPTIONS ",
    b"DELETE ",
    b"PATCH ",
    b"PROPFIND ",
    b"TRACE ",
];

/// Whether a stream that begins so may be an HTTP request.
pub(crate) fn may_begin(stream: &[u8]) -> bool {
    METHODS.iter().any(|method| {
        let length = method.len().min(stream.len());
        stream[..length] == method[..length]
    })
}

/// What rules can address in a request head.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct HeadTexts<'a> {
    /// The host, without the port.
    pub(crate) host: Option<&'a [u8]>,
    /// The user agent.
    pub(crate) agent: Option<&'a [u8]>,
    /// The head's end was seen.
    pub(crate) whole: bool,
}

/// Reads a head as far as it goes. A line that is cut is not used.
pub(crate) fn texts(stream: &[u8]) -> HeadTexts<'_> {
    let mut texts = HeadTexts::default();
    let mut lines = stream.split_inclusive(|octet| *octet == b'\n');
    let Some(first) = lines.next() else {
        return texts;
    };
    if let Some(target) = first.strip_prefix(b"CONNECT ") {
        texts.host = target.split(|octet| *octet == b' ').next().map(without_port);
    }
    for line in lines {
        let Some(line) = line.strip_suffix(b"\n") else {
            break;
        };
        let line = line.trim_ascii();
        if line.is_empty() {
            texts.whole = true;
            break;
        }
        let Some(colon) = line.iter().position(|octet| *octet == b':') else {
            continue;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"host") {
            texts.host = texts.host.or(Some(without_port(value)));
        } else if name.eq_ignore_ascii_case(b"user-agent") {
            texts.agent = texts.agent.or(Some(value));
        }
    }
    texts
}

fn without_port(authority: &[u8]) -> &[u8] {
    match authority.iter().rposition(|octet| *octet == b':') {
        // An IPv6 address keeps its colons, in brackets.
        Some(colon) if authority[colon..].iter().all(|octet| *octet != b']') => &authority[..colon],
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let head = b"GET / HTTP/1.1\r\nUSER-Agent:  a b \r\nhost: Example.org:8080\r\n\r\nHost: no\r\n";
        let texts = texts(head);
        assert_eq!(texts.host, Some(&b"Example.org"[..]));
        assert_eq!(texts.agent, Some(&b"a b"[..]));
        assert!(texts.whole);
        assert!(!super::texts(&head[..50]).whole);
        assert_eq!(super::texts(&head[..50]).host, None);
        assert_eq!(super::texts(b"CONNECT [::1]:443 HTTP/1.1\r\n").host, Some(&b"[::1]"[..]));
        assert!(may_begin(b"PO") && may_begin(b"GET /") && !may_begin(b"SSH-"));
    }
}
