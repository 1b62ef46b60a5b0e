//! An authentication server: who is asked about credentials that an office's store does not know.

use super::{
    Loop, NodeId,
    configured::{remote, wrong},
    url::{Host, Url},
};
use crate::{config::Config, io::Service, node::AuthorityNode, status::Fault};

/// Puts what asks the server at a URL on the loop, showing it a token if there is one; `config` says by `ca_file` which
/// authorities may vouch for it.
///
/// # Errors
/// `Config` when that is no URL that can be asked: `https://host[:port]/path`, or `http://` on loopback, since the answers
/// are secrets.
pub fn open_authority(
    net: &mut Loop,
    text: &str,
    token: Option<&str>,
    config: &Config,
) -> Result<NodeId, Fault> {
    let refused = |why: &str| wrong("the authentication server", &format!("{text}: {why}"));
    let (scheme, port, rest) = match text.split_once("://") {
        Some(("https", rest)) => ("tls", 443, rest),
        Some(("http", rest)) => ("tcp", 80, rest),
        _ => return Err(refused("https:// is wanted, or http:// on loopback")),
    };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if !text.bytes().all(|octet| octet.is_ascii_graphic())
        || host.contains(['?', '#', '@'])
        || path.contains('#')
    {
        return Err(refused("host, port and path are wanted, and nothing else"));
    }
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
    let server = if has_port { format!("{scheme}://{host}") } else { format!("{scheme}://{host}:{port}") };
    let url: Url = server.parse().map_err(|fault: Fault| refused(&fault.detail))?;
    let is_loopback = match &url.host {
        Host::Name(name) => name == "localhost",
        Host::Address(address) => address.is_loopback(),
    };
    if scheme == "tcp" && !is_loopback {
        return Err(refused("secrets travel in the answers: https:// is wanted where it is not on loopback"));
    }
    let (remote, _) = remote(config, "the authentication server", &server, Service::Http)?;
    if token.is_some_and(|token| token.is_empty() || !token.bytes().all(|octet| octet.is_ascii_graphic())) {
        return Err(wrong("the token", "one line of visible ASCII characters is wanted"));
    }
    let path = if path.is_empty() { "/" } else { path };
    Ok(net.add(Box::new(AuthorityNode::new(host, path, token)), vec![remote]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(url: &str) -> Result<NodeId, Fault> {
        open_authority(&mut Loop::new().unwrap(), url, Some("t0ken"), &Config::new())
    }

    #[test]
    fn secrets_are_asked_for_in_clear_on_loopback_only() {
        for good in ["http://127.0.0.1:8080/check?of=office", "http://[::1]/", "http://localhost"] {
            assert!(opened(good).is_ok(), "{good}");
        }
        for bad in [
            "http://192.0.2.1/check",
            "http://auth.example/check",
            "ftp://127.0.0.1/",
            "127.0.0.1:8080",
            "http://me@127.0.0.1/",
            "http://127.0.0.1/a b",
            "http://127.0.0.1:0/",
            "http://127.0.0.1/#top",
        ] {
            assert!(opened(bad).unwrap_err().detail.starts_with("the authentication server: "), "{bad}");
        }
        let fault = opened("https://auth.example/check").unwrap_err();
        assert!(fault.detail.contains("ca_file"), "{fault}");
    }
}
