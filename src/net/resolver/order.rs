//! In which order addresses and services are tried.

use std::net::{IpAddr, SocketAddr};

use crate::{rng::Entropy, wire::dns::Srv};

/// Orders the addresses of one host: the better kinds first (RFC 6724's table of precedence), then IPv6 and IPv4
/// taking turns (RFC 8305 §4), beginning with the family of the best. Equal ones keep the server's order.
///
/// The rules of RFC 6724 that need the source address of each path are left to the race that follows.
pub(super) fn addresses(mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    addresses.sort_by_key(|a| std::cmp::Reverse(precedence(&a.ip())));
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|a| a.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut ordered = Vec::new();
    loop {
        let (one, other) = (first.next(), second.next());
        if one.is_none() && other.is_none() {
            return ordered;
        }
        ordered.extend(one);
        ordered.extend(other);
    }
}

/// Orders the instances of a service: by priority, and among equals at random in proportion to weight (RFC 2782).
pub(super) fn services(mut instances: Vec<Srv>, entropy: &mut dyn Entropy) -> Vec<Srv> {
    // Those of weight 0 first, so that they have the small chance that RFC 2782 gives them.
    instances.sort_by_key(|i| (i.priority, i.weight));
    let mut ordered = Vec::with_capacity(instances.len());
    while let Some(first) = instances.first() {
        let equals = instances.iter().take_while(|i| i.priority == first.priority);
        let total: u32 = equals.map(|i| u32::from(i.weight)).sum();
        let mut left = entropy.below(total + 1);
        let chosen = instances.iter().position(|i| {
            let chosen = left <= u32::from(i.weight);
            left = left.saturating_sub(i.weight.into());
            chosen
        });
        ordered.push(instances.remove(chosen.unwrap_or(0)));
    }
    ordered
}

/// RFC 6724 §2.1.
fn precedence(address: &IpAddr) -> u8 {
    let IpAddr::V6(v6) = address else { return 35 };
    let s = v6.segments();
    match s {
        _ if v6.is_loopback() => 50,
        _ if v6.to_ipv4_mapped().is_some() => 35,
        [0x2002, ..] => 30,
        [0x2001, 0, ..] => 5,
        [high, ..] if high & 0xfe00 == 0xfc00 => 3,
        [0, 0, 0, 0, 0, 0, ..] | [0x3ffe, ..] => 1,
        [high, ..] if high & 0xffc0 == 0xfec0 => 1,
        _ => 40,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{rng::Seeded, wire::dns::Name};

    fn ordered(list: &[&str]) -> Vec<String> {
        let list = list.iter().map(|a| SocketAddr::new(a.parse().unwrap(), 1)).collect();
        addresses(list).iter().map(|a| a.ip().to_string()).collect()
    }

    #[test]
    fn the_families_take_turns() {
        assert_eq!(
            ordered(&["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "2001:db8::2"]),
            ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "192.0.2.3"]
        );
        assert_eq!(ordered(&["192.0.2.2", "192.0.2.1"]), ["192.0.2.2", "192.0.2.1"]);
        assert_eq!(ordered(&[]), [""; 0]);
    }

    #[test]
    fn lesser_kinds_of_ipv6_go_behind_ipv4() {
        assert_eq!(ordered(&["2002:c000:201::1", "192.0.2.1"]), ["192.0.2.1", "2002:c000:201::1"]);
        assert_eq!(
            ordered(&[
                "fd00::1",
                "2001::1",
                "fec0::1",
                "::192.0.2.9",
                "2001:db8::1",
                "192.0.2.1",
                "192.0.2.2"
            ]),
            ["2001:db8::1", "192.0.2.1", "2001::1", "192.0.2.2", "fd00::1", "fec0::1", "::c000:209"]
        );
        assert_eq!(ordered(&["127.0.0.1", "::1"]), ["::1", "127.0.0.1"]);
    }

    #[test]
    fn services_by_priority_then_by_weight() {
        let srv = |priority, weight, port| Srv { priority, weight, port, target: Name::root() };
        let all = vec![srv(20, 9, 9), srv(10, 30, 3), srv(10, 10, 1), srv(10, 0, 0)];
        let mut rng = Seeded::new(1);
        let mut firsts = [0; 4];
        for _ in 0..10_000 {
            let ports: Vec<u16> = services(all.clone(), &mut rng).iter().map(|i| i.port).collect();
            assert_eq!((ports.len(), ports[3]), (4, 9));
            firsts[usize::from(ports[0])] += 1;
        }
        // Shares of 1, 10 and 30 in 41.
        assert!((100..500).contains(&firsts[0]), "{firsts:?}");
        assert!((2200..2700).contains(&firsts[1]), "{firsts:?}");
        assert!((7000..7700).contains(&firsts[3]), "{firsts:?}");
    }
}
