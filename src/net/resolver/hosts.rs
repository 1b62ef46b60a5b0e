//! The hosts file: names that the operator of this machine has settled (hosts(5)).

use std::{collections::BTreeMap, net::SocketAddr};

use super::target::parse_address;
use crate::wire::dns::Name;

/// Most names kept from a hosts file.
pub const MAX_NAMES: usize = 16_384;
/// Most addresses kept for one name.
pub const MAX_ADDRESSES: usize = 16;

/// Names and their addresses, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    names: BTreeMap<Name, Vec<SocketAddr>>,
}

impl Hosts {
    /// Reads a hosts file. What cannot be used is left out and reported to `warn` with its line's number.
    pub(super) fn parse(
        text: &str,
        interface: &impl Fn(&str) -> Option<u32>,
        warn: &mut impl FnMut(usize, &str),
    ) -> Hosts {
        let mut hosts = Hosts::default();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            let Some(address) = words.next() else { continue };
            let Ok(address) = parse_address(address, interface) else {
                warn(number, "the address is not understood");
                continue;
            };
            for word in words {
                match Name::parse(word) {
                    Ok(name) => hosts.add(name, address, |what| warn(number, what)),
                    Err(_) => warn(number, "a name is not understood"),
                }
            }
        }
        hosts
    }

    /// The addresses of a name, with port 0.
    pub fn get(&self, name: &Name) -> Option<&[SocketAddr]> {
        self.names.get(name).map(Vec::as_slice)
    }

    /// How many names are known.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether no name is known.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    fn add(&mut self, name: Name, address: SocketAddr, warn: impl FnOnce(&str)) {
        if self.names.len() == MAX_NAMES && !self.names.contains_key(&name) {
            return warn("more names than are kept");
        }
        let addresses = self.names.entry(name).or_default();
        if addresses.contains(&address) {
            return;
        }
        if addresses.len() == MAX_ADDRESSES {
            return warn("more addresses of one name than are kept");
        }
        addresses.push(address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Hosts, Vec<String>) {
        let mut warnings = Vec::new();
        let hosts =
            Hosts::parse(text, &|zone: &str| (zone == "eth0").then_some(3), &mut |line, what: &str| {
                warnings.push(format!("{line}: {what}"));
            });
        (hosts, warnings)
    }

    fn get(hosts: &Hosts, name: &str) -> Vec<String> {
        let found = hosts.get(&Name::parse(name).unwrap()).unwrap_or_default();
        found.iter().map(|a| a.to_string()).collect()
    }

    #[test]
    fn a_file_as_they_are() {
        let (hosts, warnings) = parse(
            "# comment\n127.0.0.1\tlocalhost\n\n192.0.2.1 gw.home GW # the gateway\r\n2001:db8::1 gw.home\n\
             fe80::1%eth0 printer\n192.0.2.1 gw.home\n",
        );
        assert_eq!(warnings, [""; 0]);
        assert_eq!(get(&hosts, "Gw.Home"), ["192.0.2.1:0", "[2001:db8::1]:0"]);
        assert_eq!(get(&hosts, "gw"), ["192.0.2.1:0"]);
        assert_eq!(get(&hosts, "printer"), ["[fe80::1%3]:0"]);
        assert_eq!(get(&hosts, "other"), [""; 0]);
        assert_eq!(hosts.len(), 4);
    }

    #[test]
    fn lines_that_cannot_be_used() {
        let (hosts, warnings) = parse("nonsense a\n192.0.2.1 a* b\n::1%wlan9 c\n192.0.2.2\n");
        assert_eq!(
            warnings,
            [
                "1: the address is not understood",
                "2: a name is not understood",
                "3: the address is not understood"
            ]
        );
        assert_eq!(get(&hosts, "b"), ["192.0.2.1:0"]);
        assert!(!hosts.is_empty());
    }

    #[test]
    fn both_bounds_are_reached() {
        let text: String = (0..=MAX_NAMES).map(|i| format!("192.0.2.1 host{i}\n")).collect();
        let (hosts, warnings) = parse(&text);
        assert_eq!(hosts.len(), MAX_NAMES);
        assert_eq!(warnings, [format!("{}: more names than are kept", MAX_NAMES + 1)]);

        let text: String = (0..=MAX_ADDRESSES).map(|i| format!("192.0.2.{i} host\n")).collect();
        let (hosts, warnings) = parse(&text);
        assert_eq!(get(&hosts, "host").len(), MAX_ADDRESSES);
        assert_eq!(warnings, [format!("{}: more addresses of one name than are kept", MAX_ADDRESSES + 1)]);
    }
}
