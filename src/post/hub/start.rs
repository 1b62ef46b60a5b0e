//! Opening a hub on what its store holds.

use super::*;

/// Sequences reserved at a time, so that not every message writes the counter.
pub(super) const RESERVE: u64 = 1 << 20;
/// The setting that keeps the first sequence of the next start.
pub(super) const SEQUENCE: &str = "sequence";
/// The setting that keeps the next inbox.
pub(super) const NEXT_INBOX: &str = "inbox";

impl Hub {
    /// A hub on what the store holds: queues are counted, ids and broadcasts remembered; bodies stay where they are.
    pub fn open(config: HubConfig, open: Open, store: &dyn Store) -> Result<Hub, Fault> {
        let epoch = (open.unix * 1_000_000).saturating_sub(open.now.as_micros());
        let mut hub = Hub {
            config,
            epoch,
            rng: open.rng,
            outputs: VecDeque::new(),
            counters: HubCounters::default(),
            next_sequence: 1,
            reserved: 1,
            next_inbox: 1,
            next_ticket: 0,
            next_question: 0,
            effects: VecDeque::new(),
            questions: HashMap::new(),
            apps: HashMap::new(),
            owners: Lately::new(config.max_cached),
            held: HashMap::new(),
            held_count: 0,
            users: Users::new(config.max_cached),
            intakes: VecDeque::new(),
            first_intake: 0,
            waiting: HashMap::new(),
            known: HashMap::new(),
            known_order: BTreeMap::new(),
            queries: VecDeque::new(),
            presence: Presence::default(),
            depths: HashMap::new(),
            mailboxes: HashMap::new(),
            leaving: HashSet::new(),
            settled: Sequence(0),
            shares: HashMap::new(),
            revoked: HashMap::new(),
            stale: HashMap::new(),
            broadcasts: BTreeMap::new(),
            tellings: VecDeque::new(),
            sweep: Sweep::new(open.now + config.sweep, open.unix),
        };
        hub.read(store)?;
        Ok(hub)
    }

    fn read(&mut self, store: &dyn Store) -> Result<(), Fault> {
        let mut unreadable = 0;
        store.load(rows::SETTING, &mut |key, value| match (key, rows::read_u64(value)) {
            (key, Some(number)) if key == SEQUENCE.as_bytes() => self.next_sequence = number,
            (key, Some(number)) if key == NEXT_INBOX.as_bytes() => self.next_inbox = number as u32,
            _ => unreadable += 1,
        })?;
        self.reserved = self.next_sequence;
        self.settled = Sequence(self.next_sequence - 1);
        store.load(rows::APP, &mut |key, value| match (std::str::from_utf8(key), rows::read_app(value)) {
            (Ok(name), Some(app)) => drop(self.apps.insert(name.to_owned(), app)),
            _ => unreadable += 1,
        })?;
        store.load(rows::QUEUE, &mut |key, value| match rows::read_queue(key, value) {
            Some((inbox, sequence, shared, size)) => {
                self.depths.entry(inbox).or_default().add(size);
                if shared {
                    *self.shares.entry(sequence).or_default() += 1;
                }
            }
            None => unreadable += 1,
        })?;
        store.load(rows::KNOWN, &mut |key, value| match rows::read_known(key, value) {
            Some((sequence, known)) => self.remember(sequence, known),
            None => unreadable += 1,
        })?;
        store.load(rows::BROADCAST, &mut |key, value| match rows::read_broadcast(key, value) {
            Some((sequence, broadcast)) => drop(self.broadcasts.insert(sequence, Arc::new(broadcast))),
            None => unreadable += 1,
        })?;
        store.load(rows::STALE, &mut |key, value| match (rows::read_u32(key), rows::read_u32(value)) {
            (Some(inbox), Some(missed)) => drop(self.stale.insert(Inbox(inbox), missed)),
            _ => unreadable += 1,
        })?;
        store.load(rows::REVOKED, &mut |key, value| match (rows::read_u32(key), rows::read_u64(value)) {
            (Some(inbox), Some(at)) => drop(self.revoked.insert(Inbox(inbox), at)),
            _ => unreadable += 1,
        })?;
        self.counters.unreadable += unreadable;
        let revoked = self.revoked.keys().map(|inbox| HubOutput::Revoked { inbox: *inbox, seat: None });
        self.outputs.extend(revoked);
        // A crash may have come between marking a queue and emptying it.
        let half: Vec<Inbox> =
            self.stale.keys().copied().filter(|inbox| self.depths.contains_key(inbox)).collect();
        half.into_iter().for_each(|inbox| self.purge(inbox));
        Ok(())
    }
}
