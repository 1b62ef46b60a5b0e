//! An application as a configuration says: its name, its secret, the ways to its office.

use super::{
    Loop, NodeId,
    clock::SystemEntropy,
    configured::{remote, wrong},
    url::Scheme,
};
use crate::{
    config::{Config, read_secret},
    io::Service,
    node::AppNode,
    post::app::{AppConfig, Open},
    status::Fault,
};

/// Makes an application and puts it on the loop. It connects in the next step.
pub fn open_app(net: &mut Loop, config: &Config) -> Result<NodeId, Fault> {
    let mut remotes = Vec::new();
    for text in config.list("office") {
        let (remote, url) = remote(config, "office", text, Service::App)?;
        let is_loopback = url.socket_address().is_some_and(|address| address.ip().is_loopback());
        match url.scheme {
            Scheme::Tls => {}
            Scheme::Tcp if is_loopback => {}
            Scheme::Tcp => {
                let why = format!("{text}: the secret would go in clear: use tls://, or tcp:// on loopback");
                return Err(wrong("office", &why));
            }
            _ => {
                return Err(wrong("office", &format!("{text}: applications connect over tls:// and tcp://")));
            }
        }
        remotes.push(remote);
    }
    if remotes.is_empty() {
        return Err(wrong("office", "say where the office is, such as tls://host:7701?pin=HEX"));
    }
    let name = config.non_empty("app").ok_or_else(|| wrong("app", "say which application this is"))?;
    let secret = match (config.secret("app_secret"), config.non_empty("app_secret_file")) {
        (Some(octets), _) => {
            std::str::from_utf8(octets).map_err(|_| wrong("app_secret", "it is not text"))?.to_owned()
        }
        (None, Some(path)) => read_secret(path.as_ref())?,
        (None, None) => {
            return Err(wrong("app_secret_file", "name the file with what `hailpost app add` printed"));
        }
    };
    let open = Open {
        now: net.now(),
        rng: Box::new(SystemEntropy),
        name: name.to_owned(),
        secret: secret.trim().to_owned(),
    };
    let node = AppNode::new(AppConfig::default(), open, remotes.len())?;
    Ok(net.add(Box::new(node), remotes))
}
