//! What is looked up: an IP address or a host name, and a port.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
};

use super::error::TargetError;
use crate::wire::dns::Name;

/// A host and a port, read from `host`, `host:port`, `192.0.2.1:port`, `2001:db8::1` or `[2001:db8::1%eth0]:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub(super) host: Host,
    pub(super) port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// The port of this one is 0.
    Address(SocketAddr),
    /// `complete` when written with a last dot, so that no search list applies.
    Name { name: Name, complete: bool },
}

impl Target {
    /// Reads a target; without a port of its own it gets `default_port`. An interface after `%` must be a number.
    pub fn parse(text: &str, default_port: u16) -> Result<Target, TargetError> {
        Target::parse_scoped(text, default_port, |_| None)
    }

    /// As [`Target::parse`], with a function that knows the numbers of the interfaces by name.
    pub fn parse_scoped(
        text: &str,
        default_port: u16,
        interface: impl Fn(&str) -> Option<u32>,
    ) -> Result<Target, TargetError> {
        let parse_port = |text: &str| match text.parse::<u16>() {
            Ok(port) if port > 0 && text.bytes().all(|o| o.is_ascii_digit()) => Ok(port),
            _ => Err(TargetError::Port),
        };
        if let Some(rest) = text.strip_prefix('[') {
            let (address, port) = rest.split_once(']').ok_or(TargetError::Address)?;
            let port = match port.strip_prefix(':') {
                Some(port) => parse_port(port)?,
                None if port.is_empty() => default_port,
                None => return Err(TargetError::Address),
            };
            let address = parse_v6(address, &interface)?;
            return Ok(Target { host: Host::Address(address), port });
        }
        // Two colons or more are an IPv6 address without brackets, which cannot carry a port.
        if text.bytes().filter(|o| *o == b':').count() > 1 {
            return Ok(Target { host: Host::Address(parse_v6(text, &interface)?), port: default_port });
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, parse_port(port)?),
            None => (text, default_port),
        };
        if let Ok(address) = host.parse::<Ipv4Addr>() {
            return Ok(Target { host: Host::Address((address, 0).into()), port });
        }
        let name = Name::parse(host)?;
        // No top-level domain is a number, so this is an address gone wrong: never to be asked of a server or sent
        // through a search list (RFC 1123 §2.1).
        if name.labels().last().is_some_and(|l| l.iter().all(u8::is_ascii_digit)) {
            return Err(TargetError::Address);
        }
        Ok(Target { host: Host::Name { name, complete: host.ends_with('.') }, port })
    }

    /// The port that addresses get unless a service record names another.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The host, for a message to a person or a certificate's check; without port, brackets and last dot.
    pub fn host(&self) -> String {
        match &self.host {
            Host::Address(address) => address.ip().to_string(),
            Host::Name { name, .. } => name.to_string(),
        }
    }
}

/// `host:port`, with brackets where the host is an IPv6 address.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(address) => {
                let mut address = *address;
                address.set_port(self.port);
                address.fmt(f)
            }
            Host::Name { name, .. } => write!(f, "{name}:{}", self.port),
        }
    }
}

/// Reads an address as configuration files write it, IPv6 with or without an interface; the port is 0.
pub(super) fn parse_address(
    text: &str,
    interface: &impl Fn(&str) -> Option<u32>,
) -> Result<SocketAddr, TargetError> {
    match text.parse::<Ipv4Addr>() {
        Ok(address) => Ok((IpAddr::V4(address), 0).into()),
        Err(_) => parse_v6(text, interface),
    }
}

fn parse_v6(text: &str, interface: &impl Fn(&str) -> Option<u32>) -> Result<SocketAddr, TargetError> {
    let (address, scope) = match text.split_once('%') {
        None => (text, 0),
        Some((address, zone)) => {
            let number = zone.parse().ok().filter(|_| zone.bytes().all(|o| o.is_ascii_digit()));
            (address, number.or_else(|| interface(zone)).ok_or(TargetError::Interface)?)
        }
    };
    let address: Ipv6Addr = address.parse().map_err(|_| TargetError::Address)?;
    Ok(SocketAddrV6::new(address, 0, 0, scope).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::dns::NameError;

    fn parse(text: &str) -> Result<Target, TargetError> {
        Target::parse_scoped(text, 7700, |zone| (zone == "eth0").then_some(3))
    }

    #[test]
    fn each_form() {
        for (text, shown) in [
            ("host", "host:7700"),
            ("host.:80", "host:80"),
            ("Host.Example:80", "Host.Example:80"),
            ("192.0.2.1", "192.0.2.1:7700"),
            ("192.0.2.1:5", "192.0.2.1:5"),
            ("::1", "[::1]:7700"),
            ("[::1]", "[::1]:7700"),
            ("[::1]:65535", "[::1]:65535"),
            ("fe80::1%eth0", "[fe80::1%3]:7700"),
            ("[fe80::1%12]:9", "[fe80::1%12]:9"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), shown, "{text}");
        }
        assert_eq!(parse("[::1]:9").unwrap().host(), "::1");
        assert_eq!((parse("a.b.:9").unwrap().host(), parse("a.b:9").unwrap().port()), ("a.b".into(), 9));
        assert_ne!(parse("a.b").unwrap(), parse("a.b.").unwrap());
    }

    #[test]
    fn each_refusal_by_name() {
        for (text, why) in [
            ("", TargetError::Name(NameError::Empty)),
            (":80", TargetError::Name(NameError::Empty)),
            ("a b", TargetError::Name(NameError::Character)),
            ("host:", TargetError::Port),
            ("host:0", TargetError::Port),
            ("host:65536", TargetError::Port),
            ("host:+80", TargetError::Port),
            ("[::1]:x", TargetError::Port),
            ("[::1", TargetError::Address),
            ("[::1]80", TargetError::Address),
            ("[192.0.2.1]", TargetError::Address),
            ("1:2:3", TargetError::Address),
            ("192.0.2.256", TargetError::Address),
            ("1.2.3", TargetError::Address),
            ("10", TargetError::Address),
            ("fe80::1%wlan9", TargetError::Interface),
            ("fe80::1%", TargetError::Interface),
        ] {
            assert_eq!(parse(text), Err(why), "{text:?}");
        }
    }
}
