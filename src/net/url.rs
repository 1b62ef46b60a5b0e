//! Where a peer is and how its octets travel, as one line of text: `tls://host:port`, `tcp://`, `udp://`, `hail://`,
//! `hail+ask://`.
#![forbid(unsafe_code)]

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use base64::{Engine, display::Base64Display, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    io::KeyId,
    status::{Fault, Status},
};

/// The longest text that is read, in octets.
pub const TEXT_LIMIT: usize = 1024;
/// The most pins that a URL may have: the key in use, the next one, and one that is being retired.
pub const PIN_LIMIT: usize = 4;
/// The port where none is named: 7700, TCP or UDP as the scheme says.
pub const DEFAULT_PORT: u16 = 7700;

/// How octets travel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scheme {
    /// TCP with TLS 1.2 or 1.3.
    Tls,
    /// Bare TCP, for trusted networks.
    Tcp,
    /// Bare UDP, for trusted networks.
    Udp,
    /// The secure datagram link, over UDP.
    Hail,
    /// A balancer, which is asked over UDP where to go with `hail`.
    Ask,
}

impl Scheme {
    /// As it stands before `://`.
    pub const fn name(self) -> &'static str {
        match self {
            Scheme::Tls => "tls",
            Scheme::Tcp => "tcp",
            Scheme::Udp => "udp",
            Scheme::Hail => "hail",
            Scheme::Ask => "hail+ask",
        }
    }

    /// Over UDP, not TCP.
    pub const fn is_datagram(self) -> bool {
        matches!(self, Scheme::Udp | Scheme::Hail | Scheme::Ask)
    }
}

/// Which host.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Host {
    /// A name to resolve: labels of letters, digits, `-` and `_`, in lower case, without the root's dot.
    Name(String),
    /// An address.
    Address(IpAddr),
}

impl fmt::Display for Host {
    /// Without brackets, as TLS and a resolver want it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Address(address) => address.fmt(f),
        }
    }
}

/// The static public key of a link server (X25519, 32 octets).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LinkKey(pub [u8; 32]);

/// A peer to connect to, or an address of ours to listen on.
///
/// Its text is strict: nothing after the port but the queries below, no user, no path, no escapes.
///
/// | text | meaning |
/// | --- | --- |
/// | `tls://backend.example:7700` | by CA |
/// | `tls://192.0.2.1?pin=<64 hex>` | by key; `&pin=` again for up to [`PIN_LIMIT`] |
/// | `hail://[2001:db8::7]:7700?key=<43 characters base64url>` | the link, with the server's static key |
/// | `hail+ask://balancer.example?key=<43 characters base64url>` | a balancer, with its own static key |
/// | `tcp://127.0.0.1`, `udp://127.0.0.1` | bare octets |
///
/// [`Display`](fmt::Display) writes it with its port always there; what it writes reads back as the same value.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Url {
    /// How octets travel.
    pub scheme: Scheme,
    /// Which host.
    pub host: Host,
    /// Which port. 0, to listen on a port of the system's choice, is not one to connect to.
    pub port: u16,
    /// `tls` only: the server keys to accept. Empty: certificates are judged by authorities.
    pub pins: Vec<KeyId>,
    /// `hail` and `hail+ask` only: the server's key; needed to connect, not to listen.
    pub key: Option<LinkKey>,
}

impl Url {
    /// Whether it names a peer that can be connected to.
    ///
    /// # Errors
    /// `Config` for port 0, an address that is no host's (unspecified, multicast, broadcast), or `hail` or `hail+ask` without a key.
    pub fn check_peer(&self) -> Result<(), Fault> {
        if self.port == 0 {
            return Err(config("port 0 is only for listening: name the port of the server"));
        }
        if let Host::Address(address) = self.host
            && (address.is_unspecified()
                || address.is_multicast()
                || address == IpAddr::V4(Ipv4Addr::BROADCAST))
        {
            return Err(config("this address is not of one host: name the server's own address"));
        }
        if matches!(self.scheme, Scheme::Hail | Scheme::Ask) && self.key.is_none() {
            return Err(config(
                "hail:// and hail+ask:// need the server's key: use the whole line that enrolment printed, with ?key=",
            ));
        }
        Ok(())
    }

    /// Address and port, when the host needs no resolving.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Address(address) => Some(SocketAddr::new(address, self.port)),
            Host::Name(_) => None,
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(address)) => {
                write!(f, "{}://[{address}]:{}", self.scheme.name(), self.port)?;
            }
            host => write!(f, "{}://{host}:{}", self.scheme.name(), self.port)?,
        }
        for (at, pin) in self.pins.iter().enumerate() {
            write!(f, "{}pin={pin}", if at == 0 { '?' } else { '&' })?;
        }
        match &self.key {
            Some(LinkKey(key)) => write!(f, "?key={}", Base64Display::new(key, &URL_SAFE_NO_PAD)),
            None => Ok(()),
        }
    }
}

impl FromStr for Url {
    type Err = Fault;

    /// Reads a URL.
    ///
    /// # Errors
    /// `Config`; the text says which part is wrong and how it should be. It quotes nothing, as people paste secrets.
    fn from_str(text: &str) -> Result<Url, Fault> {
        if text.len() > TEXT_LIMIT {
            return Err(config(format!("a URL has at most {TEXT_LIMIT} octets")));
        }
        if let Some(odd) = text.chars().find(|c| !c.is_ascii_graphic()) {
            return Err(config(match odd.is_ascii() {
                true => "a URL has no spaces or control characters",
                false => "a URL has ASCII characters only: write an international host name as xn--...",
            }));
        }
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| config("a URL starts with its scheme: tls://, hail://, tcp:// or udp://"))?;
        let scheme = scheme_of(scheme)?;
        let (authority, query) = match rest.split_once('?') {
            Some((authority, query)) => (authority, Some(query)),
            None => (rest, None),
        };
        if authority.contains('@') {
            return Err(config("a URL here has no user or password: credentials are in files"));
        }
        if authority.contains(['/', '#', '\\']) {
            return Err(config("a URL here ends after the port: it has no path"));
        }
        let (host, port) = host_and_port(authority)?;
        let mut url = Url { scheme, host, port, pins: Vec::new(), key: None };
        for part in query.into_iter().flat_map(|query| query.split('&')) {
            url.take_query(part)?;
        }
        Ok(url)
    }
}

impl Url {
    fn take_query(&mut self, part: &str) -> Result<(), Fault> {
        match (part.split_once('='), self.scheme) {
            (Some(("pin", value)), Scheme::Tls) => {
                let pin = value.parse().map_err(|_| {
                    config("a pin is the 64 hexadecimal digits that the server's keygen printed")
                })?;
                if self.pins.contains(&pin) {
                    return Err(config("a pin is there twice"));
                }
                if self.pins.len() == PIN_LIMIT {
                    return Err(config(format!("a URL has at most {PIN_LIMIT} pins")));
                }
                self.pins.push(pin);
            }
            (Some(("key", value)), Scheme::Hail | Scheme::Ask) => {
                if self.key.replace(link_key(value)?).is_some() {
                    return Err(config("a hail:// URL has one key"));
                }
            }
            (Some(("pin", _)), _) => return Err(config("?pin= is only for tls://")),
            (Some(("key", _)), _) => return Err(config("?key= is only for hail://: tls:// has ?pin=")),
            _ => return Err(config("after `?` there is only pin=... (tls://) or key=... (hail://)")),
        }
        Ok(())
    }
}

fn scheme_of(text: &str) -> Result<Scheme, Fault> {
    [Scheme::Tls, Scheme::Tcp, Scheme::Udp, Scheme::Hail, Scheme::Ask]
        .into_iter()
        .find(|scheme| scheme.name().eq_ignore_ascii_case(text))
        .ok_or_else(|| config("there is no such scheme: use tls://, hail://, tcp:// or udp://"))
}

fn host_and_port(authority: &str) -> Result<(Host, u16), Fault> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (literal, after) =
            rest.split_once(']').ok_or_else(|| config("an IPv6 address ends with a closing bracket `]`"))?;
        let port = match after.strip_prefix(':') {
            Some(port) => Some(port),
            None if after.is_empty() => None,
            None => return Err(config("after an IPv6 address in brackets there is only :port")),
        };
        if literal.contains('%') {
            return Err(config(
                "an IPv6 address has no zone (%...) here: use a global or unique local address",
            ));
        }
        let address: Ipv6Addr = literal
            .parse()
            .map_err(|_| config("in brackets there is an IPv6 address, such as [2001:db8::7]"))?;
        (Host::Address(address.into()), port)
    } else {
        let (host, port) = match authority.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err(config("an IPv6 address stands in brackets, such as [2001:db8::7]:7700"));
            }
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        };
        (plain_host(host)?, port)
    };
    Ok((host, port.map_or(Ok(DEFAULT_PORT), port_of)?))
}

fn plain_host(text: &str) -> Result<Host, Fault> {
    if text.is_empty() {
        return Err(config("a URL has a host after `://`"));
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Ok(Host::Address(address.into()));
    }
    // What ends in a number is a mistyped address and no name (WHATWG URL, "ends in a number"); resolvers of some
    // systems would read 127.1 or 0x7f.1 as an address.
    let last = text.rsplit('.').next().unwrap_or_default();
    let hexadecimal = last.strip_prefix("0x").or(last.strip_prefix("0X"));
    let is_number = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit());
    if (is_number(last) && !last.is_empty())
        || hexadecimal.is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
    {
        return Err(config("an IPv4 address has four numbers from 0 to 255 without leading zeros"));
    }
    let label_fits = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
    };
    if text.len() > 253 || !text.split('.').all(label_fits) {
        return Err(config(
            "a host name has labels of 1 to 63 letters, digits and inner hyphens with dots between, 253 in all",
        ));
    }
    Ok(Host::Name(text.to_ascii_lowercase()))
}

fn port_of(text: &str) -> Result<u16, Fault> {
    let fault = || config("a port is a number from 0 to 65535 without leading zeros");
    let is_plain = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    if !is_plain || (text.len() > 1 && text.starts_with('0')) {
        return Err(fault());
    }
    text.parse().map_err(|_| fault())
}

fn link_key(text: &str) -> Result<LinkKey, Fault> {
    let mut key = [0; 32];
    // The engine refuses padding and bits beyond the last octet, so each key has one text.
    match URL_SAFE_NO_PAD.decode_slice(text, &mut key) {
        Ok(32) => Ok(LinkKey(key)),
        _ => Err(config(
            "a key is 43 characters of base64url without padding: copy the line that enrolment printed",
        )),
    }
}

fn config(detail: impl Into<String>) -> Fault {
    Fault::new(Status::Config, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Entropy, Seeded};

    fn url(text: &str) -> Url {
        text.parse().unwrap_or_else(|fault| panic!("{text}: {fault}"))
    }

    fn refused(text: &str) -> String {
        let fault = text.parse::<Url>().expect_err(text);
        assert_eq!(fault.status, Status::Config);
        fault.detail
    }

    #[test]
    fn every_scheme_and_host() {
        for (text, scheme, host, port, canonical) in [
            (
                "tls://backend.example:7700",
                Scheme::Tls,
                "backend.example",
                7700,
                "tls://backend.example:7700",
            ),
            ("TLS://Backend.Example", Scheme::Tls, "backend.example", 7700, "tls://backend.example:7700"),
            ("tcp://127.0.0.1:1", Scheme::Tcp, "127.0.0.1", 1, "tcp://127.0.0.1:1"),
            ("udp://localhost:65535", Scheme::Udp, "localhost", 65535, "udp://localhost:65535"),
            ("hail://[2001:DB8::7]", Scheme::Hail, "2001:db8::7", 7700, "hail://[2001:db8::7]:7700"),
            ("tls://[::1]:0", Scheme::Tls, "::1", 0, "tls://[::1]:0"),
            ("tls://[::ffff:192.0.2.1]:7", Scheme::Tls, "::ffff:192.0.2.1", 7, "tls://[::ffff:192.0.2.1]:7"),
            ("tls://_hail._tcp.x1.xn--bcher-kva", Scheme::Tls, "_hail._tcp.x1.xn--bcher-kva", 7700, ""),
        ] {
            let url = url(text);
            assert_eq!((url.scheme, url.host.to_string().as_str(), url.port), (scheme, host, port));
            assert_eq!((url.pins.len(), url.key), (0, None));
            assert!(canonical.is_empty() || url.to_string() == canonical, "{url}");
            assert_eq!(url.to_string().parse::<Url>().unwrap(), url);
        }
        assert_eq!(url("udp://[::1]:9").socket_address(), Some("[::1]:9".parse().unwrap()));
        assert_eq!(url("udp://localhost").socket_address(), None);
    }

    #[test]
    fn pins_and_keys() {
        let (one, two) = ("ab".repeat(32), "0f".repeat(32));
        let pinned = url(&format!("tls://h?pin={}&pin={two}", one.to_uppercase()));
        assert_eq!(pinned.pins, [one.parse().unwrap(), two.parse().unwrap()]);
        assert_eq!(pinned.to_string(), format!("tls://h:7700?pin={one}&pin={two}"));

        let keyed = url("hail://h:1?key=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHv8");
        let mut expected: [u8; 32] = std::array::from_fn(|at| at as u8);
        expected[31] = 255;
        assert_eq!(keyed.key, Some(LinkKey(expected)));
        assert_eq!(keyed.to_string(), "hail://h:1?key=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHv8");
        let balancer = url(&keyed.to_string().replace("hail://", "Hail+Ask://"));
        assert_eq!(balancer, Url { scheme: Scheme::Ask, ..keyed.clone() });
        assert_eq!(balancer.to_string(), keyed.to_string().replace("hail", "hail+ask"));
    }

    #[test]
    fn what_is_refused_says_how_it_should_be() {
        let pin = "ab".repeat(32);
        let key = "A".repeat(43);
        let pins: Vec<String> =
            (0..=PIN_LIMIT).map(|n| format!("pin={}", format!("{n:02x}").repeat(32))).collect();
        url(&format!("tls://h?{}", pins[1..].join("&")));
        let long = format!("tls://{}", "a".repeat(TEXT_LIMIT));
        for (text, why) in [
            ("", "starts with its scheme"),
            ("backend.example:7700", "starts with its scheme"),
            ("https://h", "no such scheme"),
            ("://h", "no such scheme"),
            (" tls://h", "no spaces"),
            ("tls://h\n", "no spaces"),
            ("tls://b\u{fc}cher", "xn--"),
            (&long, "at most 1024"),
            ("tls://", "has a host"),
            ("tls://:7700", "has a host"),
            ("tls://u:secret@h", "credentials"),
            ("tls://h/", "no path"),
            ("tls://h:7700/x", "no path"),
            ("tls://h#f", "no path"),
            ("tls://::1", "brackets"),
            ("tls://2001:db8::7:7700", "brackets"),
            ("tls://[::1", "closing bracket"),
            ("tls://[::1]7700", "only :port"),
            ("tls://[127.0.0.1]", "in brackets"),
            ("tls://[]", "in brackets"),
            ("tls://[fe80::1%eth0]", "zone"),
            ("tls://256.0.0.1", "IPv4"),
            ("tls://127.1", "IPv4"),
            ("tls://010.0.0.1", "IPv4"),
            ("tls://0x7f000001", "IPv4"),
            ("tls://h.0X", "IPv4"),
            ("tls://h.example.", "labels"),
            ("tls://.h", "labels"),
            ("tls://a..b", "labels"),
            ("tls://-a", "labels"),
            ("tls://a-.b", "labels"),
            ("tls://a%20b", "labels"),
            (&format!("tls://{}", "a".repeat(64)), "labels"),
            (&format!("tls://{}", "a.".repeat(126) + "ab"), "labels"),
            ("tls://h:", "port"),
            ("tls://h:65536", "port"),
            ("tls://h:+1", "port"),
            ("tls://h:07700", "port"),
            ("tls://h:99999999999999999999", "port"),
            ("tls://h?", "only pin="),
            ("tls://h?pin", "only pin="),
            ("tls://h?x=1", "only pin="),
            ("tls://h?pin=", "64 hexadecimal"),
            (&format!("tls://h?pin={}", &pin[1..]), "64 hexadecimal"),
            (&format!("tls://h?pin={}g", &pin[1..]), "64 hexadecimal"),
            (&format!("tls://h?pin={pin}&"), "only pin="),
            (&format!("tls://h?pin={pin}&pin={pin}"), "twice"),
            (&format!("tls://h?{}", pins.join("&")), "at most 4 pins"),
            (&format!("tcp://h?pin={pin}"), "only for tls"),
            (&format!("hail://h?pin={pin}"), "only for tls"),
            (&format!("tls://h?key={key}"), "only for hail"),
            (&format!("hail://h?key={key}&key={key}"), "one key"),
            (&format!("hail://h?key={}", &key[1..]), "43 characters"),
            (&format!("hail://h?key={key}="), "43 characters"),
            (&format!("hail://h?key={key}A"), "43 characters"),
            (&format!("hail://h?key={}B", &key[1..]), "43 characters"),
            (&format!("hail://h?key={}/", &key[1..]), "43 characters"),
        ] {
            let detail = refused(text);
            assert!(detail.contains(why), "{text}: {detail}");
            assert!(!detail.contains("secret"));
        }
        url(&format!("tls://{}", "a".repeat(63)));
        url(&format!("tls://{}", "a.".repeat(126) + "a"));
        assert_eq!(url("tls://h.0xg").host.to_string(), "h.0xg");
    }

    #[test]
    fn peers() {
        let key = format!("?key={}", "A".repeat(43));
        for text in ["tls://h", "tcp://127.0.0.1", "udp://[::1]:1", &format!("hail://h{key}")] {
            url(text).check_peer().unwrap();
        }
        for text in [
            "tls://h:0",
            "tcp://0.0.0.0",
            "tcp://[::]",
            "udp://255.255.255.255",
            "udp://224.0.0.1",
            "hail://h",
        ] {
            assert_eq!(url(text).check_peer().unwrap_err().status, Status::Config, "{text}");
        }
    }

    #[test]
    fn hostile_text_never_panics_and_what_is_read_reads_back() {
        let seeds = [
            format!("tls://backend.example:7700?pin={}", "ab".repeat(32)),
            format!("hail://[2001:db8::7]:7700?key={}", "A".repeat(43)),
            "tcp://127.0.0.1:7700".to_owned(),
        ];
        let mut rng = Seeded::new(4);
        let mut taken = 0;
        for round in 0..30_000 {
            let mut octets = seeds[round % seeds.len()].clone().into_bytes();
            for _ in 0..=rng.below(2) {
                let at = rng.below(octets.len() as u32) as usize;
                match rng.below(4) {
                    0 => octets[at] = (32 + rng.below(95)) as u8,
                    1 => drop(octets.remove(at)),
                    2 => octets.insert(at, b":/?&=[]@%.-0_"[rng.below(13) as usize]),
                    _ => octets.truncate(at.max(1)),
                }
            }
            if let Ok(text) = String::from_utf8(octets)
                && let Ok(url) = text.parse::<Url>()
            {
                taken += 1;
                assert_eq!(url.to_string().parse::<Url>().as_ref(), Ok(&url), "{text}");
                #[cfg(feature = "tls")]
                rustls::pki_types::ServerName::try_from(url.host.to_string())
                    .expect("TLS can ask for any host");
            }
        }
        assert!(taken > 1000, "{taken}");
    }
}
