//! How to resolve: what resolv.conf(5) and the hosts file say.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::{hosts::Hosts, target::parse_address};
use crate::wire::dns::Name;

/// Most name servers kept.
pub const MAX_SERVERS: usize = 8;
/// Most suffixes kept in the search list.
pub const MAX_SEARCH: usize = 8;
/// Most warnings kept.
pub const MAX_WARNINGS: usize = 8;

const PORT: u16 = 53;

/// How a [`super::Resolver`] resolves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The name servers in order of preference; when empty, the one of this machine (127.0.0.1:53) is asked.
    pub servers: Vec<SocketAddr>,
    /// Suffixes to try on names that are not complete. There are none unless the file says so: the domain is not
    /// guessed from the host's name.
    pub search: Vec<Name>,
    /// A name with at least so many dots is asked as it is before the search list is tried; at most 15.
    pub ndots: usize,
    /// How long one server is waited for in the first round; at most 30 s. The rounds after double it and share it
    /// among the servers.
    pub timeout: Duration,
    /// Rounds over the servers; at most 5.
    pub attempts: u32,
    /// Whether each question starts with the next server rather than the first.
    pub rotate: bool,
    /// Whether to ask over TCP only.
    pub tcp_only: bool,
    /// Whether to ask for IPv6 addresses at all.
    pub ipv6: bool,
    /// Whether to randomise the case of names in questions, which answers must echo (draft-vixie-dnsext-dns0x20).
    /// Given up by itself for a server that does not echo it.
    pub mix_case: bool,
    /// How long a whole lookup may take, search list, aliases and services included.
    pub limit: Duration,
    /// How long, once a name's IPv4 addresses are known, its IPv6 ones are waited for.
    pub ipv6_wait: Duration,
    /// What the hosts file says.
    pub hosts: Hosts,
    /// What could not be used of the files, in words, each with its line; at most eight.
    pub warnings: Vec<String>,
}

/// One server on this machine, no search list, three rounds starting with 2 s.
///
/// Two seconds rather than resolv.conf's traditional five, because a lost datagram is the usual cause.
impl Default for Config {
    fn default() -> Config {
        Config {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(2),
            attempts: 3,
            rotate: false,
            tcp_only: false,
            ipv6: true,
            mix_case: true,
            limit: Duration::from_secs(30),
            ipv6_wait: Duration::from_millis(300),
            hosts: Hosts::default(),
            warnings: Vec::new(),
        }
    }
}

impl Config {
    /// Reads the texts of resolv.conf and of the hosts file; either may be empty. An interface after an address's `%`
    /// must be a number. As is the custom with these files, what cannot be used is left out, with a warning.
    ///
    /// Of resolv.conf: `nameserver` (also `[address]:port`, and `address:port` with IPv4), `search`, `domain`, and the
    /// options `ndots`, `timeout`, `attempts`, `rotate`, `use-vc` and `no-aaaa`. Other options are passed over.
    pub fn parse(resolv_conf: &str, hosts: &str) -> Config {
        Config::parse_scoped(resolv_conf, hosts, |_| None)
    }

    /// As [`Config::parse`], with a function that knows the numbers of the interfaces by name.
    pub fn parse_scoped(resolv_conf: &str, hosts: &str, interface: impl Fn(&str) -> Option<u32>) -> Config {
        let mut config = Config::default();
        for (number, line) in (1..).zip(resolv_conf.lines()) {
            if let Err(what) = config.line(line, &interface) {
                config.warn("resolv.conf", number, what);
            }
        }
        let mut warnings = Vec::new();
        config.hosts = Hosts::parse(hosts, &interface, &mut |number, what| {
            if warnings.len() < MAX_WARNINGS {
                warnings.push((number, what.to_owned()));
            }
        });
        for (number, what) in &warnings {
            config.warn("hosts", *number, what);
        }
        config
    }

    /// The servers to ask, at least one.
    pub(super) fn effective_servers(&self) -> Vec<SocketAddr> {
        match self.servers.as_slice() {
            [] => vec![(Ipv4Addr::LOCALHOST, PORT).into()],
            servers => servers.iter().copied().take(MAX_SERVERS).collect(),
        }
    }

    fn line(&mut self, line: &str, interface: &impl Fn(&str) -> Option<u32>) -> Result<(), &'static str> {
        // Comments after a directive are not in the format, but in files.
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("nameserver") => {
                let server = parse_server(words.next().unwrap_or_default(), interface);
                let server = server.ok_or("the name server's address is not understood")?;
                if self.servers.len() == MAX_SERVERS {
                    return Err("more name servers than are kept");
                }
                if !self.servers.contains(&server) {
                    self.servers.push(server);
                }
                Ok(())
            }
            // The last of these lines counts, whichever it is.
            Some("domain") => self.set_search(words.take(1)),
            Some("search") => self.set_search(words),
            Some("options") => {
                let mut result = Ok(());
                for word in words {
                    // One that is not understood does not spoil the others.
                    result = result.and(self.option(word));
                }
                result
            }
            _ => Ok(()),
        }
    }

    fn set_search<'a>(&mut self, words: impl Iterator<Item = &'a str>) -> Result<(), &'static str> {
        self.search.clear();
        let mut result = Ok(());
        for word in words {
            match Name::parse(word) {
                // The root as a suffix means the name as it is, which is asked anyway.
                _ if word == "." => {}
                Err(_) => result = Err("a domain of the search list is not understood"),
                Ok(_) if self.search.len() == MAX_SEARCH => {
                    result = Err("more domains in the search list than are kept");
                }
                Ok(name) => self.search.push(name),
            }
        }
        result
    }

    fn option(&mut self, word: &str) -> Result<(), &'static str> {
        let number = |text: &str, most: u64| {
            text.parse().map(|n: u64| n.min(most)).map_err(|_| "an option's number is not understood")
        };
        match word.split_once(':') {
            Some(("ndots", n)) => self.ndots = number(n, 15)? as usize,
            Some(("timeout", n)) => self.timeout = Duration::from_secs(number(n, 30)?.max(1)),
            Some(("attempts", n)) => self.attempts = number(n, 5)?.max(1) as u32,
            None if word == "rotate" => self.rotate = true,
            None if word == "use-vc" => self.tcp_only = true,
            None if word == "no-aaaa" => self.ipv6 = false,
            _ => {}
        }
        Ok(())
    }

    fn warn(&mut self, file: &str, line: usize, what: &str) {
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(format!("{file} line {line}: {what}"));
        }
    }
}

fn parse_server(text: &str, interface: &impl Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
    let (address, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => (address, port.strip_prefix(':').map(str::parse)),
        None => match text.split_once(':') {
            Some((address, port)) if !port.contains(':') => (address, Some(port.parse())),
            _ => (text, None),
        },
    };
    let mut server = parse_address(address, interface).ok()?;
    server.set_port(port.unwrap_or(Ok(PORT)).ok().filter(|port| *port > 0)?);
    Some(server)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(text: &str) -> Vec<String> {
        let config = Config::parse_scoped(text, "", |zone| (zone == "eth0").then_some(3));
        config.servers.iter().map(|s| s.to_string()).collect()
    }

    #[test]
    fn servers_in_each_form() {
        for (text, server) in [
            ("192.0.2.1", "192.0.2.1:53"),
            ("192.0.2.1:5353", "192.0.2.1:5353"),
            ("2001:db8::1", "[2001:db8::1]:53"),
            ("[2001:db8::1]", "[2001:db8::1]:53"),
            ("[2001:db8::1]:5353", "[2001:db8::1]:5353"),
            ("fe80::1%eth0", "[fe80::1%3]:53"),
            ("fe80::1%7 # from the router", "[fe80::1%7]:53"),
        ] {
            assert_eq!(servers(&format!("nameserver {text}\n")), [server]);
        }
        assert_eq!(servers("nameserver 192.0.2.1\nnameserver\t192.0.2.1\n"), ["192.0.2.1:53"]);
    }

    #[test]
    fn everything_that_is_read() {
        let config = Config::parse(
            "; comment\n# comment\ndomain old.example\nsearch corp.example example.org\r\n\
             options ndots:2 timeout:4 attempts:1 rotate edns0 use-vc no-aaaa\nsortlist 1.2.3.4\n",
            "192.0.2.9 here",
        );
        let search: Vec<_> = config.search.iter().map(|n| n.to_string()).collect();
        assert_eq!(search, ["corp.example", "example.org"]);
        assert_eq!((config.ndots, config.timeout, config.attempts), (2, Duration::from_secs(4), 1));
        assert!(config.rotate && config.tcp_only && !config.ipv6);
        assert_eq!((config.hosts.len(), config.warnings.len()), (1, 0));
    }

    #[test]
    fn the_last_of_domain_and_search_counts() {
        let search = |text| Config::parse(text, "").search.len();
        assert_eq!(search("search a b\ndomain c\n"), 1);
        assert_eq!(search("domain c\nsearch a b\n"), 2);
        assert_eq!(search("search a b\nsearch .\n"), 0);
    }

    #[test]
    fn nothing_configured_asks_this_machine() {
        let config = Config::parse("", "");
        assert_eq!(config, Config::default());
        assert_eq!(config.effective_servers(), ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn numbers_are_held_within_bounds() {
        let config = Config::parse("options ndots:99 timeout:999999 attempts:77", "");
        assert_eq!((config.ndots, config.timeout, config.attempts), (15, Duration::from_secs(30), 5));
        let config = Config::parse("options timeout:0 attempts:0", "");
        assert_eq!((config.timeout, config.attempts), (Duration::from_secs(1), 1));
    }

    #[test]
    fn what_cannot_be_used_is_said_with_its_line() {
        let config = Config::parse(
            "nameserver\nnameserver dns.example\nnameserver 192.0.2.1:0\nsearch a..b ok\noptions ndots:x rotate\n",
            "what ever",
        );
        assert_eq!(
            config.warnings,
            [
                "resolv.conf line 1: the name server's address is not understood",
                "resolv.conf line 2: the name server's address is not understood",
                "resolv.conf line 3: the name server's address is not understood",
                "resolv.conf line 4: a domain of the search list is not understood",
                "resolv.conf line 5: an option's number is not understood",
                "hosts line 1: the address is not understood",
            ]
        );
        assert!(config.servers.is_empty() && config.search.len() == 1 && config.rotate);
    }

    #[test]
    fn the_bounds_are_reached() {
        let many: String = (0..20).map(|i| format!("nameserver 192.0.2.{i}\n")).collect();
        let config = Config::parse(&many, &"x\n".repeat(20));
        assert_eq!((config.servers.len(), config.warnings.len()), (MAX_SERVERS, MAX_WARNINGS));
        assert_eq!(config.warnings[0], "resolv.conf line 9: more name servers than are kept");
        let config = Config::parse("search a b c d e f g h i", "");
        assert_eq!(config.search.len(), MAX_SEARCH);
        assert_eq!(config.warnings, ["resolv.conf line 1: more domains in the search list than are kept"]);
    }
}
