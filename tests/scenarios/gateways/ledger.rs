//! What was promised: reports that were acknowledged, and changes that are durable.

use std::collections::{BTreeMap, BTreeSet};

use hailpost::{
    gateway::{Backend, ResultKey},
    io::KeyId,
    node::{Event, EventKind, Field},
    store::{Memory, Store, Table},
    wire::AppId,
};

use super::plan::{GROUPS, Setup};

/// A report that a gateway took.
#[derive(Clone, Debug)]
struct Sent {
    life: u32,
    key: ResultKey,
    app: AppId,
    is_acknowledged: bool,
    /// Given up, towards a back end that it took for a plain one.
    is_dropped: bool,
}

impl Sent {
    fn is_ended(&self) -> bool {
        self.is_acknowledged || self.is_dropped
    }
}

/// Something that the operator asked for.
#[derive(Clone, Debug)]
pub enum Change {
    SetRule { group: Option<usize>, app: u32, pattern: String },
    RemoveRule { group: Option<usize>, app: u32, pattern: Option<String> },
    SetParameters { group: usize, app: u32, word: u32 },
    Bar { gateway: usize, barred: bool },
}

/// What the operator's changes come to.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
struct Wanted {
    rules: BTreeSet<(Option<usize>, u32, String)>,
    models: BTreeMap<(usize, u32), u32>,
    barred: BTreeSet<usize>,
}

impl Wanted {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::SetRule { group, app, pattern } => {
                self.rules.insert((*group, *app, pattern.clone()));
            }
            Change::RemoveRule { group, app, pattern } => self.rules.retain(|(in_group, of_app, text)| {
                in_group != group || of_app != app || pattern.as_ref().is_some_and(|gone| gone != text)
            }),
            Change::SetParameters { group, app, word } => {
                self.models.insert((*group, *app), *word);
            }
            Change::Bar { gateway, barred: true } => {
                self.barred.insert(*gateway);
            }
            Change::Bar { gateway, barred: false } => {
                self.barred.remove(gateway);
            }
        }
    }

    /// What of a difference shows in a back end.
    fn shows_in(&self, backend: &Backend, setup: &Setup) -> bool {
        let rules = GROUPS.iter().enumerate().all(|(group, name)| {
            let wanted: BTreeSet<(u32, &[u8])> = self
                .rules
                .iter()
                .filter(|(of, ..)| of.is_none_or(|of| of == group))
                .map(|(_, app, pattern)| (*app, pattern.as_bytes()))
                .collect();
            wanted == backend.rules(name).map(|(app, pattern)| (app.0, pattern)).collect()
        });
        let models = (0..GROUPS.len()).all(|group| {
            (1..=3).all(|app| {
                let wanted = self.models.get(&(group, app));
                backend.parameters(GROUPS[group], AppId(app)).map(|words| words[0]) == wanted.copied()
            })
        });
        let barred: BTreeSet<KeyId> =
            backend.enrolments().filter(|(_, enrolment)| enrolment.barred).map(|(key, _)| *key).collect();
        rules
            && models
            && barred == self.barred.iter().filter_map(|gateway| setup.members[*gateway].key).collect()
    }
}

/// The ledger.
#[derive(Default)]
pub struct Ledger {
    sent: Vec<Vec<Sent>>,
    /// Gateway and application whose features were acknowledged.
    features: BTreeSet<(usize, u32)>,
    /// What the back end held when it booted, and what was asked of it since.
    base: Wanted,
    asked: Vec<(u64, Change)>,
    durable: u64,
    /// What each gateway was last told about an application, in this life.
    parameters: BTreeMap<(usize, u32), u32>,
}

impl Ledger {
    pub fn new(gateways: usize) -> Ledger {
        Ledger { sent: vec![Vec::new(); gateways], ..Ledger::default() }
    }

    pub fn sent(&mut self, gateway: usize, life: u32, key: ResultKey, app: AppId) {
        self.sent[gateway].push(Sent { life, key, app, is_acknowledged: false, is_dropped: false });
    }

    pub fn asked(&mut self, ticket: u64, change: Change) {
        self.asked.push((ticket, change));
    }

    /// A gateway starts anew and knows nothing.
    pub fn gateway_boots(&mut self, gateway: usize) {
        self.parameters.retain(|(of, _), _| *of != gateway);
    }

    /// Whether the gateway itself found this out in this life.
    pub fn found(&self, gateway: usize, life: u32, key: &ResultKey, app: AppId) -> bool {
        self.sent[gateway].iter().any(|sent| sent.life == life && sent.key == *key && sent.app == app)
    }

    /// Each report that a gateway took in this life has come to an end.
    pub fn check_ends(&self, gateway: usize, life: u32) -> Result<(), String> {
        match self.sent[gateway].iter().find(|sent| sent.life == life && !sent.is_ended()) {
            Some(sent) => Err(format!("the report of {:?} has no end", sent.key)),
            None => Ok(()),
        }
    }

    pub fn is_barred(&self, gateway: usize) -> bool {
        let mut wanted = self.base.clone();
        self.asked.iter().for_each(|(_, change)| wanted.apply(change));
        wanted.barred.contains(&gateway)
    }

    pub fn parameters(&self, gateway: usize, app: u32) -> Option<u32> {
        self.parameters.get(&(gateway, app)).copied()
    }

    pub fn gateway_event(
        &mut self,
        gateway: usize,
        life: u32,
        event: &Event,
        setup: &Setup,
    ) -> Result<(), String> {
        let app = || AppId(event.u64(Field::App).unwrap_or_default() as u32);
        match event.kind() {
            kind @ (EventKind::Acknowledged | EventKind::ReportDropped) => {
                let (key, app) = (key(event), app());
                let waits = self.sent[gateway]
                    .iter_mut()
                    .find(|sent| !sent.is_ended() && (sent.life, sent.key, sent.app) == (life, key, app));
                let waits =
                    waits.ok_or(format!("gateway {gateway}: {key:?} ends, {kind:?}, and does not wait"))?;
                match kind {
                    EventKind::Acknowledged => waits.is_acknowledged = true,
                    _ => waits.is_dropped = true,
                }
            }
            EventKind::FeaturesAcknowledged => {
                self.features.insert((gateway, app().0));
            }
            EventKind::Result => {
                let key = key(event);
                if setup.group_of(&key) != Some(setup.members[gateway].group) {
                    return Err(format!("gateway {gateway} is told of {key:?}, which is another group's"));
                }
            }
            EventKind::Parameters => {
                let word = event.bytes(Field::Words).and_then(|words| words.first_chunk());
                let word = u32::from_be_bytes(*word.ok_or("parameters without a word")?);
                self.parameters.insert((gateway, app().0), word);
            }
            _ => {}
        }
        Ok(())
    }

    pub fn backend_event(&mut self, event: &Event) {
        if event.kind() == EventKind::Durable {
            self.durable = event.u64(Field::Ticket).unwrap_or_default();
        }
    }

    /// A back end opened on what the store holds: nothing durable may be missing, and nothing of what was not durable
    /// may be there without all that was asked for before it.
    pub fn backend_boots(&mut self, backend: &Backend, store: &Memory, setup: &Setup) -> Result<(), String> {
        let mut wanted = self.base.clone();
        let mut fits = None;
        for at in 0..=self.asked.len() {
            let is_durable = self.asked.get(at).is_some_and(|(ticket, _)| *ticket <= self.durable);
            if !is_durable && wanted.shows_in(backend, setup) {
                fits = Some(wanted.clone());
            }
            if let Some((_, change)) = self.asked.get(at) {
                wanted.apply(change);
            }
        }
        self.base =
            fits.ok_or("after the restart the operator's changes are not as they were acknowledged")?;
        self.asked.clear();
        self.durable = 0;
        self.check_store(store, setup)
    }

    /// The back end that lives holds all that it was asked for.
    pub fn check_backend(&self, backend: &Backend, setup: &Setup) -> Result<(), String> {
        let mut wanted = self.base.clone();
        self.asked.iter().for_each(|(_, change)| wanted.apply(change));
        match wanted.shows_in(backend, setup) {
            true => Ok(()),
            false => Err("the back end does not hold what its operator asked for".to_owned()),
        }
    }

    /// All that was acknowledged is in the store: of each gateway and remote end the last acknowledged word, or one
    /// that was sent after it.
    pub fn check_store(&self, store: &Memory, setup: &Setup) -> Result<(), String> {
        let words = words(store);
        for (gateway, sent) in self.sent.iter().enumerate() {
            let member = &setup.members[gateway];
            let voter = match (member.key, member.ip) {
                (Some(key), _) => key.0.to_vec(),
                (None, std::net::IpAddr::V4(ip)) => ip.octets().to_vec(),
                (None, std::net::IpAddr::V6(ip)) => ip.octets().to_vec(),
            };
            let keys: BTreeSet<ResultKey> =
                sent.iter().filter(|sent| sent.is_acknowledged).map(|sent| sent.key).collect();
            for key in keys {
                let of_key: Vec<&Sent> = sent.iter().filter(|sent| sent.key == key).collect();
                let last = of_key.iter().rposition(|sent| sent.is_acknowledged).unwrap_or_default();
                let group = GROUPS[member.group].to_owned();
                let held = words.get(&(group, key, voter.clone()));
                let fits = held.is_some_and(|held| {
                    of_key[last..].iter().any(|sent| sent.app == *held)
                        // A datagram of an earlier life may come late, and nothing shows that it is stale.
                        || member.key.is_none()
                            && of_key.iter().any(|sent| !sent.is_acknowledged && sent.app == *held)
                });
                if !fits {
                    return Err(format!(
                        "gateway {gateway}: {key:?} was acknowledged as {}, the store holds {held:?}",
                        of_key[last].app
                    ));
                }
            }
        }
        let features = features(store);
        for (gateway, app) in &self.features {
            if !features.contains(&(GROUPS[setup.members[*gateway].group].to_owned(), *app)) {
                return Err(format!("gateway {gateway}: features for {app} were acknowledged and are gone"));
            }
        }
        Ok(())
    }
}

/// Every word in the store, by group, remote end and voter: the rows that `gateway/backend/rows.rs` describes.
pub fn words(store: &Memory) -> BTreeMap<(String, ResultKey, Vec<u8>), AppId> {
    let mut words = BTreeMap::new();
    let load = store.load(Table::rows("vote"), &mut |key, value| {
        let (group, key) = short(key);
        let (address, key) = key.split_at(16);
        let address: [u8; 16] = address.try_into().expect("sixteen");
        let port = u16::from_be_bytes([key[0], key[1]]);
        let result = ResultKey { remote: (address, port).into(), protocol: key[2] };
        let (voter, _) = short(&key[3..]);
        let app = AppId(u32::from_be_bytes(value[..4].try_into().expect("four")));
        words.insert((String::from_utf8_lossy(group).into_owned(), result, voter.to_vec()), app);
    });
    load.expect("memory never fails");
    words
}

fn features(store: &Memory) -> BTreeSet<(String, u32)> {
    let mut features = BTreeSet::new();
    let load = store.load(Table::rows("feature"), &mut |key, _| {
        let (group, key) = short(key);
        let app = u32::from_be_bytes(key[..4].try_into().expect("four"));
        features.insert((String::from_utf8_lossy(group).into_owned(), app));
    });
    load.expect("memory never fails");
    features
}

fn short(octets: &[u8]) -> (&[u8], &[u8]) {
    octets[1..].split_at(usize::from(octets[0]))
}

fn key(event: &Event) -> ResultKey {
    let address: std::net::IpAddr =
        event.text(Field::RemoteAddress).and_then(|text| text.parse().ok()).expect("a record has an address");
    let port = event.u64(Field::RemotePort).unwrap_or_default() as u16;
    ResultKey::new((address, port).into(), event.u64(Field::Protocol).unwrap_or_default() as u8)
}
