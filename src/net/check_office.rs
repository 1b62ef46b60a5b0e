//! What of a post office's configuration can be judged before there is a key, a file or a socket.

use super::{
    configured::wrong,
    open_broker::public_address,
    open_office::{Part, broker_keys, rooms},
    url::{Scheme, Url},
};
use crate::{config::Config, io::KeyId, status::Fault};

/// Whether a post office, or what of one the option `roles` says, has the options that it needs, and none that it does not
/// heed.
///
/// # Errors
/// `Config`, with the option's name.
pub fn check_office(config: &Config) -> Result<(), Fault> {
    let part = Part::of(config)?;
    let (name, not_for): (&str, &[&str]) = match part {
        Part::Centre => ("a centre", &["hub", "balancer", "public_address"]),
        Part::Hub => ("a hub", &["hub", "balancer", "public_address"]),
        Part::Broker => ("a broker", &["listen_apps", "listen_inner", "brokers", "room", "rooms"]),
        Part::Balancer => {
            ("a balancer", &["listen_apps", "hub", "balancer", "public_address", "room", "rooms"])
        }
    };
    for option in not_for {
        if config.is_set(option) && config.non_empty(option).is_some() {
            return Err(wrong(option, &format!("{name} has none: take it out, or set roles to what has")));
        }
    }
    broker_keys::<Vec<KeyId>>(config)?;
    rooms(config)?;
    if part == Part::Broker {
        let Some(hub) = config.non_empty("hub") else {
            return Err(wrong("hub", "say where the hub is, such as tls://hub.example:7702?pin=HEX"));
        };
        check_inner(config, "hub", hub)?;
        config.list("balancer").try_for_each(|text| check_inner(config, "balancer", text))?;
        public_address(config)?;
    }
    Ok(())
}

/// Where a broker connects to.
fn check_inner(config: &Config, option: &'static str, text: &str) -> Result<(), Fault> {
    let url: Url = text.parse().map_err(|fault: Fault| wrong(option, &fault.detail))?;
    url.check_peer().map_err(|fault| wrong(option, &fault.detail))?;
    if url.scheme != Scheme::Tls {
        return Err(wrong(option, "a broker connects over tls:// only: both ends prove a key"));
    }
    if url.pins.is_empty() && config.non_empty("ca_file").is_none() {
        return Err(wrong(option, "add ?pin=HEX (hailpost keygen prints it), or set ca_file"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_role_lacks_or_does_not_heed_is_named() {
        let hub = format!("tls://127.0.0.1:7702?pin={}", "ab".repeat(32));
        let (hub, plain, half) = (hub.as_str(), "tcp://127.0.0.1:7702", "tls://127.0.0.1:7702");
        let checked = |options: &[(&str, &str)]| {
            let mut config = Config::new();
            options.iter().for_each(|(name, value)| config.set(name, value).unwrap());
            check_office(&config)
        };
        assert_eq!(checked(&[]), Ok(()));
        assert_eq!(checked(&[("roles", "broker"), ("hub", hub), ("balancer", hub)]), Ok(()));
        let north = format!("north={hub}");
        assert_eq!(checked(&[("room", "south"), ("rooms", &north)]), Ok(()));
        assert!(checked(&[("rooms", &north)]).unwrap_err().detail.starts_with("room: "));
        for options in [
            &[("roles", "broker")][..],
            &[("hub", half), ("roles", "broker")],
            &[("hub", plain), ("roles", "broker")],
            &[("hub", "tls://0.0.0.0:7702"), ("roles", "broker")],
            &[("balancer", half), ("roles", "broker"), ("hub", hub)],
            &[("public_address", "broker.example:7700"), ("roles", "broker"), ("hub", hub)],
            &[("brokers", "ab"), ("roles", "hub")],
            &[("hub", hub), ("roles", "hub")],
            &[("balancer", hub), ("roles", "centre")],
            &[("public_address", "192.0.2.1:7700")],
            &[("room", "south@north")],
            &[("room", &"x".repeat(32))],
            &[("room", "south"), ("roles", "broker"), ("hub", hub)],
            &[("rooms", hub), ("room", "south")],
            &[("rooms", &format!("north={half}")), ("room", "south")],
            &[("rooms", &format!("north={plain}")), ("room", "south")],
            &[("rooms", &format!("south={hub}")), ("room", "south")],
            &[("rooms", &format!("north={hub}, east={hub}")), ("room", "south")],
        ] {
            let option = if options == [("roles", "broker")] { "hub" } else { options[0].0 };
            let fault = checked(options).unwrap_err();
            assert!(fault.detail.starts_with(&format!("{option}: ")), "{options:?}: {fault}");
        }
    }
}
