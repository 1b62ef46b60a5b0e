//! Options: one table of names, kinds and defaults, for C, Python, the program and TOML files alike.
//!
//! A value is checked when it is set, so that whoever set it is told. A secret is never shown again.

#[cfg(feature = "recognize")]
mod file;

use std::{collections::BTreeMap, fmt::Write as _, net::IpAddr, time::Duration};

use crate::status::{Fault, Status};

/// What an option takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OptionKind {
    /// Whole milliseconds, at least 1.
    Millis,
    /// A whole number in a range, both ends included.
    Number(u64, u64),
    /// `true` or `false`.
    Switch,
    /// Any text.
    Text,
    /// A path of a file.
    Path,
    /// URLs, separated by commas.
    Urls,
    /// Networks such as `192.0.2.0/24`, separated by commas.
    Networks,
    /// Octets that are never shown.
    Secret,
}

/// Who understands an option.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// A gateway.
    Gateway,
    /// A back end.
    Backend,
    /// A post office.
    Office,
    /// A device of a user of a post office.
    Device,
    /// An application of a post office.
    App,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 5] = [Role::Gateway, Role::Backend, Role::Office, Role::Device, Role::App];

    /// What its section of a file is called.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Gateway => "gateway",
            Role::Backend => "backend",
            Role::Office => "office",
            Role::Device => "device",
            Role::App => "app",
        }
    }
}

/// One option.
#[derive(Debug)]
pub struct OptionInfo {
    /// Its name, the same everywhere.
    pub name: &'static str,
    /// Who understands it.
    pub roles: &'static [Role],
    /// What it takes.
    pub kind: OptionKind,
    /// What holds when it is not set; empty for nothing.
    pub default: &'static str,
    /// One line for people.
    pub help: &'static str,
}

impl OptionInfo {
    /// Whether `role` understands it.
    pub fn is_for(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}

macro_rules! options {
    ($($($role:ident)|+ $name:ident: $kind:expr, $default:literal, $help:literal;)+) => {
        &[$(OptionInfo {
            name: stringify!($name), roles: &[$(Role::$role),+], kind: $kind, default: $default, help: $help,
        }),+]
    };
}

use OptionKind::{Millis, Networks, Number, Path, Secret, Switch, Text, Urls};

/// Every option.
pub const OPTIONS: &[OptionInfo] = options! {
    Gateway|Backend family: Number(4, 6), "6", "width of addresses in messages, agreed by both ends: 4 or 6";
    Gateway|Backend heartbeat_ms: Millis, "3000", "from one heartbeat to the next; a back end gives a gateway up after three";
    Gateway|Backend timeout_ms: Millis, "5000", "how long a request waits before it is sent again";
    Gateway|Backend sends: Number(1, 20), "3", "sends of one request in all";
    Gateway|Backend|Office identity_file: Path, "", "PEM file with private key and certificate, mode 0600 (hailpost keygen)";
    Gateway|Backend|Office identity_pem: Secret, "", "the same as octets";
    Gateway|Backend max_results: Number(1, 10_000_000), "100000", "remote ends remembered (a group); past it the oldest goes";
    Gateway|Backend result_ttl_ms: Millis, "86400000", "how long a result holds without being renewed";
    Gateway backend: Urls, "", "where the back end is, such as tls://backend.example:7700?pin=HEX, or hail://backend.example:7704?key=KEY";
    Gateway|Device|App ca_file: Path, "", "PEM file of authorities that may vouch for a tls:// server, instead of a pin";
    Gateway backoff_ms: Millis, "1000", "first pause before registering again; doubles";
    Gateway backoff_max_ms: Millis, "60000", "longest pause before registering again";
    Gateway barred_retry_ms: Millis, "3600000", "pause after the back end took this gateway off";
    Gateway enrol_token: Secret, "", "one-time token that enrols this gateway's key (hailpost gateway token)";
    Gateway enrol_token_file: Path, "", "file, mode 0600, with the line that `hailpost gateway token` printed: the back end and the token";
    Gateway max_rule_octets: Number(0, 1 << 30), "1048576", "octets of received patterns; a rule past it is left out";
    Gateway max_reports: Number(1, 1_000_000), "4096", "reports that may wait for their acknowledgement";
    Gateway extensions: Switch, "true", "offer tags and epochs; off for a peer that objects to them";
    Gateway rules: Text, "home", "rules to recognise by: home (those that ship), none, or the path of a TOML file";
    Gateway inside: Networks, "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10,fc00::/7,fe80::/10", "networks on the gateway's own side";
    Gateway max_automaton_octets: Number(262_144, 1_073_741_824), "4194304", "octets that matching builds up while it runs; past it, it begins anew";
    Gateway max_flows: Number(1, 100_000_000), "65536", "flows followed at once; past it the one idle longest goes";
    Backend listen: Urls, "tls://127.0.0.1:7700", "where gateways come in: tls://, hail://, tcp://, udp://";
    Backend|Office|Device store: Path, "", "the file that keeps what has to outlast the process; empty for memory only";
    Backend allow_networks: Networks, "127.0.0.0/8,::1/128", "who may use tcp:// and udp://";
    Backend open_group: Text, "", "group of gateways on tcp:// and udp://, which prove nothing; empty refuses them";
    Backend agreement: Number(1, 8), "2", "gateways that must agree before others are told; a trusted one is enough";
    Backend patience_ms: Millis, "10000", "how long a connection may go without a registration or a message's end";
    Backend result_renew_ms: Millis, "3600000", "how long an identical report is acknowledged without being told again";
    Backend max_results_per_gateway: Number(1, 10_000_000), "10000", "remote ends that one gateway has a word on";
    Backend max_features_per_gateway: Number(1, 1024), "64", "feature reports kept of a gateway, an application";
    Backend max_feature_apps_per_gateway: Number(1, 65_536), "128", "applications whose feature reports of a gateway are kept";
    Backend max_features: Number(1, 10_000_000), "65536", "feature reports kept of a group; past it those silent longest go";
    Backend max_gateways: Number(1, 1_000_000), "20000", "connections and gateways at the most";
    Backend|Office max_connections_per_address: Number(1, 1_000_000), "256", "connections from one address at the most; of IPv6, from one network of 64 bits";
    Backend max_pending: Number(1, 10_000_000), "65536", "reports that may wait for the disk";
    Backend probe_addresses: Switch, "true", "probe a udp:// address before answering it at length";
    Backend train: Switch, "true", "train rules on the features that gateways report";
    Backend train_pause_ms: Millis, "60000", "from one training of an application to the next";
    Office  listen_devices: Urls, "hail://127.0.0.1:7700", "where devices log in: hail://, tls://; of a balancer where they ask, hail+ask://127.0.0.1:7700 unless set";
    Office  listen_apps: Urls, "tcp://127.0.0.1:7701", "where applications connect: tls://, and tcp:// on loopback";
    Office  roles: Text, "centre", "what of an office this process is: centre, all of it; hub, for brokers apart; broker, which holds sessions for a hub; balancer, which tells devices at which broker to log in";
    Office  listen_inner: Urls, "", "where brokers apart from a hub, and other rooms, connect: tls://; of a hub, a balancer or a room tls://127.0.0.1:7702 unless set";
    Office  brokers: Text, "", "keys of the brokers that may connect, as `hailpost keygen` printed them, separated by commas";
    Office  hub: Urls, "", "of a broker: where its hub is, such as tls://hub.example:7702?pin=HEX";
    Office  max_brokers: Number(1, 4096), "256", "of a balancer: brokers at the most";
    Office  balancer: Urls, "", "of a broker: the balancers that it reports to, such as tls://balancer.example:7702?pin=HEX";
    Office  public_address: Text, "", "of a broker with a balancer: where devices find it, an IP address and a port; its first hail:// address unless set";
    Office  broker_name: Text, "broker", "of a broker: what people call it";
    Office  room: Text, "", "of several rooms: what this one is called, up to 31 characters without an @; empty where there is one only";
    Office  rooms: Text, "", "the other rooms with where they are, separated by commas, such as north=tls://north.example:7702?pin=HEX; what they are called is never given anew";
    Office  max_room_waiting: Number(1, 10_000_000), "100000", "messages that wait for one other room; past it senders are told to come again later";
    Office  max_room_waiting_octets: Number(1, 1 << 31), "1073741824", "octets that wait for one other room; past it senders are told to come again later";
    Office  max_sessions: Number(1, 16_777_215), "1000000", "sessions of devices at the most";
    Office  max_apps_connections: Number(1, 65_536), "1024", "connections of applications at the most";
    Office  max_waiting: Number(1, 1_000_000), "1000", "messages that wait for one device; past it the device has missed them all";
    Office  max_waiting_octets: Number(1, 1 << 31), "16777216", "octets that wait for one device; past it the device has missed them all";
    Office  ask_authentication: Switch, "false", "ask the application about session ids that the store does not know, by the event authenticate";
    Office  announce: Switch, "false", "tell the application of each device that comes and goes";
    Device|App office: Urls, "", "where the office is, the better way first; for a device such as hail://office.example:7700?key=KEY,tls://office.example:7700?pin=HEX, or its balancer, hail+ask://balancer.example:7700?key=KEY; for an application tls://office.example:7701?pin=HEX, or tcp:// on loopback";
    Gateway|Device credential_file: Path, "", "file, mode 0600, with the line that `hailpost device add` or `hailpost gateway add --link` printed: the server and the credential";
    Gateway|Device credential: Secret, "", "the credential alone: session id and secret, 64 characters of base64url";
    Device  keepalive_s: Number(10, 1800), "30", "seconds from one heartbeat to the next, unless the office wants another";
    Device  keepalive_max_s: Number(10, 1800), "30", "seconds that a device may go to where the network allows it; not above keepalive_s: it looks for no longer interval";
    Device  metered: Switch, "false", "what is sent is paid for: no interval is looked for, and nothing sent again before it must be; hail_device_set_metered() when the network changes";
    Device  max_outbox: Number(1, 1_000_000), "1000", "messages in the outbox";
    Device  max_outbox_octets: Number(1, 1 << 31), "4194304", "octets in the outbox";
    App     app: Text, "", "the application's name";
    App     app_secret: Secret, "", "its secret, as `hailpost app add` printed it";
    App     app_secret_file: Path, "", "file, mode 0600, with the secret";
};

/// A set of options.
#[derive(Clone, Default, Debug)]
pub struct Config {
    values: BTreeMap<&'static str, Setting>,
}

#[derive(Clone)]
enum Setting {
    Text(String),
    Secret(Vec<u8>),
}

impl std::fmt::Debug for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Setting::Text(text) => text.fmt(f),
            Setting::Secret(_) => f.write_str("(set)"),
        }
    }
}

impl Config {
    /// Nothing set: every option has its default.
    pub fn new() -> Config {
        Config::default()
    }

    /// Sets an option from text.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), Fault> {
        let option = find(name)?;
        if option.kind == Secret {
            return self.set_bytes(name, value.as_bytes());
        }
        check(option, value)
            .map_err(|why| Fault::new(Status::Config, format!("{name} = {value:?}: {why}")))?;
        self.values.insert(option.name, Setting::Text(value.to_owned()));
        Ok(())
    }

    /// Sets an option of a role from text; one of the other role is an error. A secret is refused: this is for text that
    /// others may see, such as a command line or a configuration file.
    pub fn set_for(&mut self, role: Role, name: &str, value: &str) -> Result<(), Fault> {
        let option = find(name)?;
        if option.kind == Secret {
            let detail =
                format!("{name} is a secret: write it to a file of mode 0600 and set {}", file_of(name));
            return Err(Fault::new(Status::Config, detail));
        }
        if !option.is_for(role) {
            let role = role.name();
            return Err(Fault::new(Status::Config, format!("{name} is no option of a {role}")));
        }
        self.set(name, value)
    }

    /// Sets an option from octets: secrets, which are then never shown.
    pub fn set_bytes(&mut self, name: &str, value: &[u8]) -> Result<(), Fault> {
        let option = find(name)?;
        if option.kind != Secret {
            let text = std::str::from_utf8(value)
                .map_err(|_| Fault::new(Status::Config, format!("{name}: the value is not UTF-8")))?;
            return self.set(name, text);
        }
        self.values.insert(option.name, Setting::Secret(value.to_vec()));
        Ok(())
    }

    /// Every option that `role` understands, as TOML with what holds; secrets as comments.
    pub fn dump(&self, role: Role) -> String {
        let mut text = String::new();
        for option in OPTIONS.iter().filter(|option| option.is_for(role)) {
            let _ = match self.values.get(option.name) {
                Some(Setting::Secret(_)) => writeln!(text, "# {} is set", option.name),
                _ if option.kind == Secret => writeln!(text, "# {} is not set", option.name),
                _ => match (option.kind, self.text(option.name)) {
                    (Millis | Number(..) | Switch, value) => writeln!(text, "{} = {value}", option.name),
                    (_, value) => writeln!(text, "{} = {value:?}", option.name),
                },
            };
        }
        text
    }

    /// Whether an option was set, be it to its default.
    pub fn is_set(&self, name: &'static str) -> bool {
        self.values.contains_key(name)
    }

    /// The text of an option, or its default.
    pub fn text(&self, name: &'static str) -> &str {
        match self.values.get(name) {
            Some(Setting::Text(text)) => text,
            _ => find(name).map_or("", |option| option.default),
        }
    }

    /// The text of an option, unless it is empty.
    pub fn non_empty(&self, name: &'static str) -> Option<&str> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    /// A number.
    pub fn number(&self, name: &'static str) -> u64 {
        self.text(name).parse().unwrap_or_default()
    }

    /// A number that counts things in memory.
    pub fn count(&self, name: &'static str) -> usize {
        usize::try_from(self.number(name)).unwrap_or(usize::MAX)
    }

    /// A duration.
    pub fn duration(&self, name: &'static str) -> Duration {
        Duration::from_millis(self.number(name))
    }

    /// A switch.
    pub fn switch(&self, name: &'static str) -> bool {
        self.text(name) == "true"
    }

    /// A list, its parts trimmed.
    pub fn list(&self, name: &'static str) -> impl Iterator<Item = &str> {
        self.text(name).split(',').map(str::trim).filter(|part| !part.is_empty())
    }

    /// A secret, if it is set.
    pub fn secret(&self, name: &'static str) -> Option<&[u8]> {
        match self.values.get(name)? {
            Setting::Secret(octets) => Some(octets),
            Setting::Text(_) => None,
        }
    }

    /// The networks of an option.
    pub fn networks(&self, name: &'static str) -> Vec<Network> {
        self.list(name).filter_map(|text| Network::parse(text).ok()).collect()
    }
}

/// A range of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Parses `address/prefix`, or a single address.
    pub fn parse(text: &str) -> Result<Network, String> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| format!("{address:?} is not an address"))?;
        let widest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => widest,
            Some(prefix) => match prefix.parse() {
                Ok(bits) if bits <= widest => bits,
                _ => return Err(format!("/{prefix} is not a prefix length of 0 to {widest}")),
            },
        };
        Ok(Network { address, prefix })
    }

    /// Whether the address lies inside. An IPv4-mapped address counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let host = |bits: u32, prefix: u8| bits.checked_shr(prefix.into()).unwrap_or(0);
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                let differing = ours.to_bits() ^ theirs.to_bits();
                differing & !host(u32::MAX, self.prefix) == 0
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                let differing = ours.to_bits() ^ theirs.to_bits();
                differing & !u128::MAX.checked_shr(self.prefix.into()).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

fn find(name: &str) -> Result<&'static OptionInfo, Fault> {
    OPTIONS.iter().find(|option| option.name == name).ok_or_else(|| {
        let nearest = OPTIONS.iter().min_by_key(|option| distance(option.name, name));
        let hint = nearest.map_or(String::new(), |option| format!("; did you mean {}?", option.name));
        Fault::new(Status::Config, format!("there is no option {name:?}{hint}"))
    })
}

/// Reads a file that holds a secret, which nobody but its owner may be able to read.
///
/// # Errors
/// `Config` when others may read it or it is no text of at most 4 KiB; `Io` when it cannot be read.
#[cfg(unix)]
pub fn read_secret(path: &std::path::Path) -> Result<String, Fault> {
    use std::{io::Read, os::unix::fs::MetadataExt};
    const LIMIT: u64 = 4096;
    let shown = path.display();
    let io = |error: std::io::Error| Fault::new(Status::Io, format!("{shown} cannot be read: {error}"));
    let file = std::fs::File::open(path).map_err(io)?;
    // Asked of the open file, so that it cannot be exchanged between the check and the read.
    if file.metadata().map_err(io)?.mode() & 0o077 != 0 {
        let detail = format!("{shown} holds a secret that others may read: run `chmod 600 {shown}`");
        return Err(Fault::new(Status::Config, detail));
    }
    let mut octets = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut octets).map_err(io)?;
    let text = String::from_utf8(octets).ok().filter(|text| text.len() as u64 <= LIMIT);
    text.ok_or_else(|| Fault::new(Status::Config, format!("{shown} is no text of at most {LIMIT} octets")))
}

/// The option that names the file which a secret is kept in.
fn file_of(secret: &str) -> String {
    format!("{}_file", secret.strip_suffix("_pem").unwrap_or(secret))
}

fn check(option: &OptionInfo, value: &str) -> Result<(), String> {
    let number = || value.parse::<u64>().map_err(|_| "a whole number is wanted".to_owned());
    match option.kind {
        Millis => match number()? {
            0 => Err("milliseconds, at least 1, are wanted".to_owned()),
            _ => Ok(()),
        },
        Number(from, to) if option.name == "family" => match number()? {
            family if family == from || family == to => Ok(()),
            _ => Err("4 or 6 is wanted".to_owned()),
        },
        Number(from, to) => match number()? {
            number if (from..=to).contains(&number) => Ok(()),
            _ => Err(format!("a number from {from} to {to} is wanted")),
        },
        Switch if value == "true" || value == "false" => Ok(()),
        Switch => Err("true or false is wanted".to_owned()),
        Networks => value
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .try_for_each(|part| Network::parse(part).map(drop)),
        Text | Path | Urls | Secret if value.contains('\0') => Err("it holds a NUL".to_owned()),
        Text | Path | Urls | Secret => Ok(()),
    }
}

/// Levenshtein distance, for "did you mean".
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_passes_its_own_check() {
        for option in OPTIONS.iter().filter(|option| !option.default.is_empty()) {
            assert_eq!(check(option, option.default), Ok(()), "{}", option.name);
        }
    }

    #[test]
    fn a_wrong_name_or_value_says_what_is_wrong() {
        let mut config = Config::new();
        let error = config.set("hartbeat_ms", "5").unwrap_err();
        assert_eq!(error.status, Status::Config);
        assert!(error.detail.contains("did you mean heartbeat_ms"), "{error}");
        for (name, value) in
            [("heartbeat_ms", "0"), ("sends", "21"), ("family", "5"), ("extensions", "yes"), ("sends", "-1")]
        {
            assert!(config.set(name, value).unwrap_err().detail.contains("wanted"), "{name} = {value}");
        }
        assert!(config.set("allow_networks", "10.0.0.0/33").is_err());
    }

    #[test]
    fn a_secret_is_not_shown() {
        let mut config = Config::new();
        config.set_bytes("identity_pem", b"hunter2").unwrap();
        assert_eq!(config.secret("identity_pem"), Some(&b"hunter2"[..]));
        assert!(!config.dump(Role::Gateway).contains("hunter2"));
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(config.dump(Role::Gateway).contains("# identity_pem is set"));
    }

    #[test]
    fn networks_contain_what_they_should() {
        let network = Network::parse("192.0.2.0/24").unwrap();
        assert!(network.contains("192.0.2.255".parse().unwrap()));
        assert!(network.contains("::ffff:192.0.2.1".parse().unwrap()));
        assert!(!network.contains("192.0.3.0".parse().unwrap()));
        assert!(Network::parse("0.0.0.0/0").unwrap().contains("8.8.8.8".parse().unwrap()));
        assert!(Network::parse("::1").unwrap().contains("::1".parse().unwrap()));
        assert!(!Network::parse("fd00::/8").unwrap().contains("fe80::1".parse().unwrap()));
    }
}
