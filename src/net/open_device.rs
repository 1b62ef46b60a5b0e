//! A device as a configuration says: its credential, its store, the ways to its office.

use std::path::Path;

use super::{
    Loop, NodeId, Remote,
    clock::{SystemEntropy, unix_seconds},
    configured::{remote, wrong},
    credential,
    url::Scheme,
};
use crate::{
    config::Config,
    io::Service,
    link::ClientConfig,
    node::{BalancerKey, DeviceNode, DeviceNodeConfig},
    post::device::DeviceConfig,
    status::Fault,
    store::{Memory, Sqlite, Store},
};

/// Makes a device and puts it on the loop. It logs in in the next step.
pub fn open_device(net: &mut Loop, config: &Config) -> Result<NodeId, Fault> {
    let (office, credential) = credential::given(config)?.ok_or_else(|| {
        wrong("credential_file", "name the file with the line that `hailpost device add` printed")
    })?;
    let office = config.non_empty("office").map(str::to_owned).or(office);
    let office = office.ok_or_else(|| {
        wrong("office", "say where the office is, such as hail://host:7700?key=KEY, or its balancer, hail+ask://host:7700?key=KEY, or set credential_file")
    })?;
    let Ways { remotes, office_key, balancer } = ways(config, &office)?;
    // Where only a balancer is known its key names the enrolment, and brokers' keys come from it.
    let server_key = office_key.or(balancer.map(|known| known.key)).ok_or_else(|| {
        let why =
            "one of the URLs must be hail:// or hail+ask:// with ?key=, as `hailpost device add` printed it";
        wrong("office", why)
    })?;
    let link = ClientConfig {
        longest: config.number("keepalive_max_s") as u16,
        metered: config.switch("metered"),
        ..credential.link(server_key, config.number("keepalive_s") as u16)
    };
    let post = DeviceConfig {
        max_messages: config.count("max_outbox"),
        max_octets: config.count("max_outbox_octets"),
        ..DeviceConfig::default()
    };
    let store: Box<dyn Store> = match config.non_empty("store") {
        Some(path) => Box::new(Sqlite::open(Path::new(path))?),
        None => Box::new(Memory::default()),
    };
    let config = DeviceNodeConfig { link, post, ways: remotes.len(), balancer };
    let node = DeviceNode::open(config, (net.now(), unix_seconds()), SystemEntropy, store)?;
    Ok(net.add(Box::new(node), remotes))
}

/// How a device gets to its office.
struct Ways {
    /// Those to balancers first.
    remotes: Vec<Remote>,
    office_key: Option<[u8; 32]>,
    balancer: Option<BalancerKey>,
}

fn ways(config: &Config, office: &str) -> Result<Ways, Fault> {
    let (mut balancers, mut offices) = (Vec::new(), Vec::new());
    let mut keys = [None; 2];
    let mut has_tls = false;
    for text in office.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        let (remote, url) = remote(config, "office", text, Service::Link)?;
        let is_balancer = url.scheme == Scheme::Ask;
        match (url.scheme, url.key) {
            (Scheme::Hail | Scheme::Ask, Some(key)) => {
                let known = &mut keys[usize::from(is_balancer)];
                if known.is_some_and(|known| known != key.0) {
                    let scheme = url.scheme.name();
                    return Err(wrong("office", &format!("two {scheme}:// URLs have different keys")));
                }
                *known = Some(key.0);
            }
            (Scheme::Tls, _) => has_tls = true,
            _ => {
                let why = format!("{text}: devices log in over hail:// and tls://, or ask at hail+ask://");
                return Err(wrong("office", &why));
            }
        }
        if is_balancer { &mut balancers } else { &mut offices }.push(remote);
    }
    let [office_key, balancer_key] = keys;
    // Over TLS too it is the office's own key that counts, which no other server's certificate can stand for.
    if has_tls && office_key.is_none() {
        return Err(wrong(
            "office",
            "beside tls:// one of the URLs must be hail:// with ?key=, as `hailpost device add` printed it",
        ));
    }
    let balancer = balancer_key.map(|key| BalancerKey { key, ways: balancers.len() });
    balancers.append(&mut offices);
    Ok(Ways { remotes: balancers, office_key, balancer })
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    const CREDENTIAL: usize = 16 + 32;

    fn encoded(octets: &[u8]) -> String {
        base64::display::Base64Display::new(octets, &URL_SAFE_NO_PAD).to_string()
    }

    fn opened(options: &[(&str, &str)]) -> Result<NodeId, Fault> {
        let mut config = Config::new();
        for (name, value) in options {
            config.set(name, value).unwrap();
        }
        open_device(&mut Loop::new().unwrap(), &config)
    }

    #[test]
    fn what_a_device_is_given_is_checked_and_the_fault_names_the_option() {
        let (credential, key) = (encoded(&[7; CREDENTIAL]), encoded(&[9; 32]));
        let hail = format!("hail://127.0.0.1:7700?key={key}");
        assert!(opened(&[("credential", &credential), ("office", &hail)]).is_ok());
        assert!(opened(&[("credential", &format!("{hail} {credential}"))]).is_ok());
        let ask = format!("hail+ask://127.0.0.1:7700?key={}", encoded(&[6; 32]));
        let pinned = format!("tls://127.0.0.1?pin={}", "ab".repeat(32));
        assert!(opened(&[("credential", &format!("{ask} {credential}"))]).is_ok());
        let all = format!("{ask}, {hail}, {pinned}");
        assert!(opened(&[("credential", &credential), ("office", &all)]).is_ok());
        let two = format!("{ask}, hail+ask://127.0.0.1:7701?key={}", encoded(&[8; 32]));
        let tls = format!("{ask}, {pinned}");
        let other = format!("{hail}, hail://127.0.0.1:7701?key={}", encoded(&[8; 32]));
        for (credential, office, named) in [
            ("short", hail.as_str(), "credential: "),
            ("", &hail, "credential: "),
            (&credential, "", "office: "),
            (&credential, "tcp://127.0.0.1:7700", "office: "),
            (&credential, "hail://127.0.0.1:7700", "office: "),
            (&credential, &other, "office: two hail:// URLs"),
            (&credential, &two, "office: two hail+ask:// URLs"),
            (&credential, &tls, "office: beside tls://"),
        ] {
            let fault = opened(&[("credential", credential), ("office", office)]).unwrap_err();
            assert!(fault.detail.starts_with(named), "{fault}");
            assert!(!fault.detail.contains(credential) || credential.len() < 10, "{fault}");
        }
        assert!(opened(&[("office", &hail)]).unwrap_err().detail.contains("credential_file"));
    }
}
