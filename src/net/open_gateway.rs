//! A gateway as a configuration says: built, put on a loop, connected.

use super::{
    Loop, NodeId, Remote,
    clock::SystemEntropy,
    configured::{self, wrong},
    credential,
    url::{Scheme, Url},
};
use crate::{
    config::Config,
    gateway::{Gateway, GatewayConfig, Token},
    io::Service,
    link::ClientConfig,
    node::{GatewayNode, Recognition, RecognizerNode},
    recognize,
    rng::Entropy,
    status::Fault,
    wire::gateway::Family,
};

/// The rules that ship with the library.
pub const HOME_RULES: &str = include_str!("../../rules/home.toml");

/// Makes a gateway and puts it on the loop. It connects in the next step.
pub fn open_gateway(net: &mut Loop, config: &Config) -> Result<NodeId, Fault> {
    let (enrolled_at, token) = enrolment(config)?;
    let (credential_for, credential) = credential::given(config)?.unzip();
    let named = enrolled_at.or(credential_for.flatten());
    let (remote, url) = match config.non_empty("backend").or(named.as_deref()) {
        Some(text) => remote(config, text)?,
        None => return Err(wrong("backend", "say where the back end is, such as tls://host:7700?pin=HEX")),
    };
    let link = match url.key {
        Some(server_key) => Some(link(server_key.0, credential, token.is_some())?),
        None if credential.is_some() => {
            return Err(wrong(
                "backend",
                "a credential is for hail://: it is never shown on another transport",
            ));
        }
        None => None,
    };
    let recognition = open_recognition(config)?;
    let gateway_config = GatewayConfig { token, ..gateway_config(config) };
    let gateway = Gateway::new(gateway_config, net.now(), SystemEntropy.seeded());
    let node = GatewayNode::new(gateway, recognition);
    let node = match link {
        Some(link) => node.over_link(link, SystemEntropy),
        None => node,
    };
    Ok(net.add(Box::new(node), vec![remote]))
}

/// Makes a recogniser that shares nothing, and puts it on the loop.
pub fn open_recognizer(net: &mut Loop, config: &Config) -> Result<NodeId, Fault> {
    let recognition = open_recognition(config)?
        .ok_or_else(|| wrong("rules", "a recogniser without rules recognises nothing: not `none`"))?;
    Ok(net.add(Box::new(RecognizerNode::new(recognition)), Vec::new()))
}

/// Makes what recognises flows, by the option `rules`; `None` when that says so.
pub fn open_recognition(config: &Config) -> Result<Option<Recognition>, Fault> {
    let file;
    let rules = match config.text("rules") {
        "none" => return Ok(None),
        "home" => HOME_RULES,
        path => {
            file = std::fs::read_to_string(path)
                .map_err(|error| wrong("rules", &format!("cannot read {path}: {error}")))?;
            &file
        }
    };
    let limits = recognize::Limits {
        automaton_memory: config.count("max_automaton_octets"),
        ..recognize::Limits::default()
    };
    let following = recognize::Config {
        max_flows: config.count("max_flows"),
        seed: SystemEntropy.next_u64(),
        ..recognize::Config::default()
    };
    Recognition::new(Some(rules), limits, following, config.networks("inside")).map(Some)
}

fn gateway_config(config: &Config) -> GatewayConfig {
    GatewayConfig {
        family: family(config),
        heartbeat: config.duration("heartbeat_ms"),
        timeout: config.duration("timeout_ms"),
        sends: config.number("sends") as u8,
        backoff: config.duration("backoff_ms"),
        backoff_max: config.duration("backoff_max_ms"),
        barred_retry: config.duration("barred_retry_ms"),
        result_ttl: config.duration("result_ttl_ms"),
        max_results: config.count("max_results"),
        max_rule_octets: config.count("max_rule_octets"),
        max_reports: config.count("max_reports"),
        extensions: config.switch("extensions"),
        token: None,
    }
}

/// The back end and the token that the line of an enrolment names; the option `enrol_token` needs only the token.
fn enrolment(config: &Config) -> Result<(Option<String>, Option<Token>), Fault> {
    let (option, text) = match (config.secret("enrol_token"), config.non_empty("enrol_token_file")) {
        (Some(token), _) => {
            let text = std::str::from_utf8(token).map_err(|_| wrong("enrol_token", "it is not text"))?;
            ("enrol_token", text.to_owned())
        }
        (None, Some(path)) => ("enrol_token_file", crate::config::read_secret(path.as_ref())?),
        (None, None) => return Ok((None, None)),
    };
    let mut words: Vec<&str> = text.split_ascii_whitespace().collect();
    let token =
        words.pop().unwrap_or_default().parse().map_err(|fault: Fault| wrong(option, &fault.detail))?;
    match words[..] {
        [] => Ok((None, Some(token))),
        [backend] => Ok((Some(backend.to_owned()), Some(token))),
        _ => Err(wrong(option, "a line with the back end's URL and the token is wanted, or the token alone")),
    }
}

pub(super) fn family(config: &Config) -> Family {
    if config.number("family") == 4 { Family::V4 } else { Family::V6 }
}

/// How the gateway logs in on `hail://`.
fn link(
    server_key: [u8; 32],
    credential: Option<credential::Credential>,
    has_token: bool,
) -> Result<ClientConfig, Fault> {
    if has_token {
        return Err(wrong("backend", "a token is shown over tls:// only; for hail:// there are credentials"));
    }
    let credential = credential.ok_or_else(|| {
        wrong("credential_file", "name the file with the line that `hailpost gateway add --link` printed")
    })?;
    // The node has an interval of its own.
    Ok(credential.link(server_key, 0))
}

fn remote(config: &Config, text: &str) -> Result<(Remote, Url), Fault> {
    let (remote, url) = configured::remote(config, "backend", text, Service::Gateway)?;
    match url.scheme {
        Scheme::Ask => Err(wrong("backend", "hail+ask:// is a balancer's: gateways log in on hail://")),
        _ => Ok((remote, url)),
    }
}
