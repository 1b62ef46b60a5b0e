//! A post office as a configuration says: built on its store, put on a loop, listening.

use std::net::SocketAddr;

use super::{
    Listen, Loop, NodeId,
    check_office::check_office,
    clock::{SystemEntropy, unix_seconds},
    configured::{self, listen, one_hail_a_family, remote, wrong},
    enrolled::credential_line,
    open_balancer::open_balancer,
    open_broker::open_broker,
    url::{Host, LinkKey, Scheme, Url},
};
#[cfg(feature = "tls")]
use super::{ListenTransport, ServerSecurity};
use crate::{
    config::{Config, Network},
    io::{KeyId, Service},
    link::ServerConfig,
    node::{OfficeConfig, OfficeNode},
    post::{
        apps::AppsConfig,
        brokers::BrokersConfig,
        hub::{Enrolled, HubConfig},
        rooms::{OtherRoom, is_room_name},
    },
    status::Fault,
};

/// What of an office a process is: the option `roles`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// All of it; brokers may be there besides.
    Centre,
    /// What keeps messages; devices are at brokers, unless it listens for them all the same.
    Hub,
    /// What holds sessions for a hub.
    Broker,
    /// What tells devices at which broker to log in.
    Balancer,
}

impl Part {
    /// What a configuration says.
    ///
    /// # Errors
    /// `Config` for anything else.
    pub fn of(config: &Config) -> Result<Part, Fault> {
        match config.text("roles") {
            "centre" => Ok(Part::Centre),
            "hub" => Ok(Part::Hub),
            "broker" => Ok(Part::Broker),
            "balancer" => Ok(Part::Balancer),
            other => {
                let why = format!("{other:?} is none: there are centre, hub, broker and balancer");
                Err(wrong("roles", &why))
            }
        }
    }
}

/// Where an office listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OfficeAddresses {
    /// What of an office it is.
    pub part: Part,
    /// In the order of the option `listen_devices`; of a balancer, where devices ask.
    pub devices: Vec<SocketAddr>,
    /// In the order of the option `listen_apps`.
    pub apps: Vec<SocketAddr>,
    /// In the order of the option `listen_inner`.
    pub inner: Vec<SocketAddr>,
    /// The first of those for devices that is a `hail://` one.
    pub hail: Option<SocketAddr>,
}

/// Where devices find an office that listens there and has this key: `hail://host:port?key=KEY`.
pub fn office_url(host: Host, port: u16, server_key: [u8; 32]) -> Url {
    Url { scheme: Scheme::Hail, host, port, pins: Vec::new(), key: Some(LinkKey(server_key)) }
}

/// The line that a device is handed, as [`credential_line`].
pub fn enrolment_line(url: &Url, enrolled: &Enrolled) -> String {
    credential_line(url, &enrolled.session.0, &enrolled.secret)
}

/// Makes an office, or what of one the option `roles` says, puts it on the loop and listens. Devices, applications and brokers
/// may have the same `tls://` address.
pub fn open_office(net: &mut Loop, config: &Config) -> Result<(NodeId, OfficeAddresses), Fault> {
    open(net, config, None)
}

/// The same beside a back end: where a `tls://` address is one that it listens on, the office takes part in that listener.
/// The protocol's name in TLS says whom a connection is for, the certificate is the back end's, and what one address may
/// hold counts for both. The office's own identity is not shown there.
///
/// # Errors
/// As [`open_office`], and `NotFound` without such a node.
pub fn open_office_beside(
    net: &mut Loop,
    config: &Config,
    backend: NodeId,
) -> Result<(NodeId, OfficeAddresses), Fault> {
    open(net, config, Some(backend))
}

/// Where a hub and a room listen for brokers and rooms, unless told otherwise.
const LISTEN_INNER: &str = "tls://127.0.0.1:7702";
/// Other rooms at the most.
const MAX_ROOMS: usize = 64;

/// Options that [`reload_office`] puts in force.
pub const RELOADED_OFFICE: [&str; 10] = [
    "max_sessions",
    "max_apps_connections",
    "max_waiting",
    "max_waiting_octets",
    "max_room_waiting",
    "max_room_waiting_octets",
    "announce",
    "max_connections_per_address",
    "identity_file",
    "identity_pem",
];

/// Puts in force what a configuration says now, of the options [`RELOADED_OFFICE`]; key and certificate of its own `tls://`
/// listeners are read again.
///
/// # Errors
/// When the identity cannot be read or used. Then nothing has changed.
pub fn reload_office(net: &mut Loop, id: NodeId, config: &Config) -> Result<(), Fault> {
    let wanted = office_config(config)?;
    #[cfg(feature = "tls")]
    if let Some(identity) = configured::identity(config)? {
        let tls = super::tls::server_config(&[&identity], &[Service::Link.alpn(), Service::App.alpn()])?;
        net.secure(id, &tls)?;
    }
    net.limits_mut().per_address = config.count("max_connections_per_address");
    net.with(id, |node: &mut OfficeNode, _| node.reconfigure(wanted))
}

fn open(net: &mut Loop, config: &Config, beside: Option<NodeId>) -> Result<(NodeId, OfficeAddresses), Fault> {
    check_office(config)?;
    let part = Part::of(config)?;
    match part {
        Part::Broker => return open_broker(net, config),
        Part::Balancer => return open_balancer(net, config),
        Part::Centre | Part::Hub => {}
    }
    let of_part =
        |option: &'static str, otherwise: &'static str| match part == Part::Hub && !config.is_set(option) {
            true => otherwise,
            false => config.text(option),
        };
    let rooms = rooms(config)?;
    let remotes: Result<Vec<_>, Fault> = rooms
        .iter()
        .map(|(_, url)| Ok(remote(config, "rooms", &url.to_string(), Service::Inner)?.0))
        .collect();
    let remotes = remotes?;
    let inner = match config.non_empty("room") {
        Some(_) if !config.is_set("listen_inner") => LISTEN_INNER,
        _ => of_part("listen_inner", LISTEN_INNER),
    };
    // Applications say their secret in clear where there is no TLS.
    let loopback: Vec<Network> = ["127.0.0.0/8", "::1/128"]
        .iter()
        .map(|text| Network::parse(text).expect("they are networks"))
        .collect();
    let (mut listens, hail) = device_listens(config, of_part("listen_devices", ""))?;
    let devices = listens.len();
    for text in config.list("listen_apps") {
        if !(text.starts_with("tcp://") || text.starts_with("tls://")) {
            return Err(wrong("listen_apps", &format!("{text}: applications come in on tls:// and tcp://")));
        }
        listens.push(listen(config, "listen_apps", text, &[Service::App], &loopback)?);
    }
    let before_inner = listens.len();
    for text in parts(inner) {
        if !text.starts_with("tls://") {
            return Err(wrong("listen_inner", &format!("{text}: brokers and rooms come in on tls:// only")));
        }
        listens.push(listen(config, "listen_inner", text, &[Service::Inner], &[])?);
    }
    let store = configured::store(net, config)?;
    let node = OfficeNode::open(office_config(config)?, (net.now(), unix_seconds()), SystemEntropy, store)?;
    net.limits_mut().per_address = config.count("max_connections_per_address");
    let id = net.add(Box::new(node), remotes);
    let addresses: Result<Vec<SocketAddr>, Fault> =
        listens.into_iter().map(|listen| listen_or_share(net, id, beside, listen)).collect();
    match addresses {
        Ok(mut addresses) => {
            let inner = addresses.split_off(before_inner);
            let apps = addresses.split_off(devices);
            let hail = hail.map(|at| addresses[at]);
            Ok((id, OfficeAddresses { part, devices: addresses, apps, inner, hail }))
        }
        Err(fault) => {
            net.remove(id);
            Err(fault)
        }
    }
}

/// Where devices come in, and which of those is the first `hail://` one.
pub(super) fn device_listens(config: &Config, texts: &str) -> Result<(Vec<Listen>, Option<usize>), Fault> {
    let mut listens = Vec::new();
    for text in parts(texts) {
        if !(text.starts_with("hail://") || text.starts_with("tls://")) {
            return Err(wrong("listen_devices", &format!("{text}: devices come in on hail:// and tls://")));
        }
        listens.push(listen(config, "listen_devices", text, &[Service::Link], &[])?);
    }
    one_hail_a_family("listen_devices", &listens)?;
    let hail = listens.iter().position(|listen| listen.is_datagram());
    Ok((listens, hail))
}

/// The keys of the brokers that may connect.
pub(super) fn broker_keys<C: FromIterator<KeyId>>(config: &Config) -> Result<C, Fault> {
    let key = |text: &str| {
        text.parse::<KeyId>().map_err(|fault| wrong("brokers", &format!("{text}: {}", fault.detail)))
    };
    config.list("brokers").map(key).collect()
}

/// The other rooms: what each is called and where it is, with its keys.
pub(super) fn rooms(config: &Config) -> Result<Vec<(String, Url)>, Fault> {
    let wrong = |text: &str, why: &str| wrong("rooms", &format!("{text}: {why}"));
    let own = config.text("room");
    if !own.is_empty() && !is_room_name(own) {
        return Err(super::configured::wrong(
            "room",
            "a name has 1 to 31 visible ASCII characters, without @",
        ));
    }
    let mut rooms: Vec<(String, Url)> = Vec::new();
    for text in config.list("rooms") {
        let (name, url) = text.split_once('=').filter(|(name, _)| is_room_name(name)).ok_or_else(|| {
            wrong(text, "NAME=URL is wanted, such as north=tls://north.example:7702?pin=HEX")
        })?;
        let url: Url = url.parse().map_err(|fault: Fault| wrong(name, &fault.detail))?;
        url.check_peer().map_err(|fault| wrong(name, &fault.detail))?;
        if url.scheme != Scheme::Tls || url.pins.is_empty() {
            return Err(wrong(name, "rooms prove a key to each other: tls:// and ?pin=HEX are wanted"));
        }
        let is_known = |(other, known): &(String, Url)| {
            other == name || known.pins.iter().any(|pin| url.pins.contains(pin))
        };
        if name == own || rooms.iter().any(is_known) {
            return Err(wrong(name, "each room has a name and a key of its own"));
        }
        rooms.push((name.to_owned(), url));
    }
    if own.is_empty() && !rooms.is_empty() {
        return Err(super::configured::wrong(
            "room",
            "say what this room is called: the others know it by that",
        ));
    }
    if rooms.len() > MAX_ROOMS {
        return Err(super::configured::wrong("rooms", &format!("{MAX_ROOMS} are the most there can be")));
    }
    Ok(rooms)
}

pub(super) fn parts(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// Listens, or takes part in a TLS listener that is there: of the office itself, or of who is beside it.
#[cfg_attr(not(feature = "tls"), allow(unused_variables))]
fn listen_or_share(
    net: &mut Loop,
    id: NodeId,
    beside: Option<NodeId>,
    listen: Listen,
) -> Result<SocketAddr, Fault> {
    #[cfg(feature = "tls")]
    if matches!(listen.transport, ListenTransport::Stream(ServerSecurity::Tls(_)))
        && let [service] = listen.services[..]
    {
        for owner in [Some(id), beside].into_iter().flatten() {
            if net.offer(owner, listen.address, service)? {
                net.lend(owner, service, id)?;
                return Ok(listen.address);
            }
        }
    }
    net.listen(id, listen)
}

fn office_config(config: &Config) -> Result<OfficeConfig, Fault> {
    let link = ServerConfig { max_sessions: config.number("max_sessions") as u32, ..ServerConfig::default() };
    let hub = HubConfig {
        max_messages: config.number("max_waiting") as u32,
        max_octets: config.number("max_waiting_octets") as u32,
        max_room_messages: config.number("max_room_waiting") as u32,
        max_room_octets: config.number("max_room_waiting_octets") as u32,
        asks: config.switch("ask_authentication"),
        ..HubConfig::default()
    };
    let apps = AppsConfig { max_connections: config.count("max_apps_connections"), ..AppsConfig::default() };
    let brokers = BrokersConfig { keys: broker_keys(config)?, ..BrokersConfig::default() };
    let other = |(name, url): (String, Url)| OtherRoom { name, keys: url.pins };
    Ok(OfficeConfig {
        link,
        hub,
        apps,
        brokers,
        room: config.text("room").to_owned(),
        rooms: rooms(config)?.into_iter().map(other).collect(),
        announce: config.switch("announce"),
        ..OfficeConfig::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{net::open_device, post::SessionId};

    #[test]
    fn a_device_can_be_opened_on_the_line_of_its_enrolment() {
        let enrolled = Enrolled { session: SessionId([0; 16]), secret: [255; 32], ticket: 1 };
        let url = office_url(Host::Name("localhost".to_owned()), 7700, [3; 32]);
        let line = enrolment_line(&url, &enrolled);
        let (where_to, credential) = line.split_once(' ').unwrap();
        assert_eq!(where_to.parse::<Url>().unwrap(), url);
        assert_eq!(credential, format!("{}P{}", "A".repeat(21), "_".repeat(42)));
        let mut config = Config::new();
        config.set("credential", &line).unwrap();
        assert!(open_device(&mut Loop::new().unwrap(), &config).is_ok());
    }
}
