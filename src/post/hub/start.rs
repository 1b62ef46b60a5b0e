//! Opening a hub on what its store holds.

use super::*;

/// Sequences reserved at a time, so that not every message writes the counter.
pub(super) const RESERVE: u64 = 1 << 20;
/// Sequences left out where a copy of the store begins: more than there are between a copy and the last of its original.
pub(super) const LEAP: u64 = 1 << 40;
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
            doubted: None,
            rng: open.rng,
            outputs: VecDeque::new(),
            counters: HubCounters::default(),
            next_sequence: 1,
            reserved: 1,
            durable: 1,
            next_inbox: 1,
            next_ticket: 0,
            next_question: 0,
            effects: VecDeque::new(),
            questions: HashMap::default(),
            apps: HashMap::default(),
            owners: Lately::new(config.max_cached),
            held: HashMap::default(),
            held_count: 0,
            users: Users::new(config.max_cached),
            looked_up: HashSet::default(),
            intakes: VecDeque::new(),
            first_intake: 0,
            waiting: HashMap::default(),
            known: Ids::new(config.max_known),
            queries: VecDeque::new(),
            vouching: HashMap::default(),
            rooms: Rooms::default(),
            presence: Presence::default(),
            queues: Queues::default(),
            mailboxes: HashMap::default(),
            leaving: HashSet::default(),
            settled: Sequence(0),
            shares: HashMap::default(),
            revoked: HashMap::default(),
            stale: HashMap::default(),
            broadcasts: BTreeMap::new(),
            tellings: VecDeque::new(),
            silence: Silence::new(open.unix),
            sweep: Sweep::new(open.now + config.sweep, open.unix),
        };
        hub.read(open.unix, store)?;
        hub.reserve();
        hub.begin_days();
        Ok(hub)
    }

    fn read(&mut self, unix: u64, store: &dyn Store) -> Result<(), Fault> {
        let mut unreadable = 0;
        store.load(rows::SETTING, &mut |key, value| match (key, rows::read_u64(value)) {
            (key, Some(number)) if key == SEQUENCE.as_bytes() => self.next_sequence = number,
            (key, Some(number)) if key == NEXT_INBOX.as_bytes() => self.next_inbox = number as u32,
            (key, Some(number)) if key == silence::DAY.as_bytes() => self.silence.read_day(number),
            (key, Some(number)) if key == silence::DATE.as_bytes() => self.silence.read_date(number),
            (key, Some(number)) if key == rooms::EPOCH.as_bytes() => self.rooms.read_epoch(number),
            _ => unreadable += 1,
        })?;
        store.load(rows::HEARD, &mut |key, value| match (rows::read_u32(key), rows::read_u16(value)) {
            (Some(inbox), Some(day)) => self.silence.hear(Inbox(inbox), day),
            _ => unreadable += 1,
        })?;
        (self.reserved, self.durable) = (self.next_sequence, self.next_sequence);
        self.settled = Sequence(self.next_sequence - 1);
        store.load(rows::APP, &mut |key, value| match (std::str::from_utf8(key), rows::read_app(value)) {
            (Ok(name), Some(app)) => drop(self.apps.insert(name.to_owned(), app)),
            _ => unreadable += 1,
        })?;
        store.load(
            rows::ROOM,
            &mut |key, value| match (std::str::from_utf8(key), rows::read_u32(value)) {
                (Ok(name), Some(inbox)) => self.rooms.read(name, Inbox(inbox)),
                _ => unreadable += 1,
            },
        )?;
        let mut ids = self.read_log(unix, store)?;
        store.load(rows::KNOWN, &mut |key, value| match (rows::read_u64(key), rows::read_known(value)) {
            (Some(number), Some(known)) => {
                self.known.has_row(number, &known);
                ids.extend(known);
            }
            _ => unreadable += 1,
        })?;
        store.load(rows::BROADCAST, &mut |key, value| match rows::read_broadcast(key, value) {
            Some((sequence, broadcast)) => {
                ids.push(id(sequence, &broadcast.kept));
                self.broadcasts.insert(sequence, Arc::new(broadcast));
            }
            None => unreadable += 1,
        })?;
        // Of one that is remembered twice the later holds.
        ids.sort_unstable_by_key(|known| known.sequence);
        for known in ids {
            self.counters.known_evicted += u64::from(self.known.remember(known));
        }
        store.load(rows::STALE, &mut |key, value| match (rows::read_u32(key), rows::read_u32(value)) {
            (Some(inbox), Some(missed)) => drop(self.stale.insert(Inbox(inbox), missed)),
            _ => unreadable += 1,
        })?;
        store.load(
            rows::REVOKED,
            &mut |key, value| match (rows::read_u32(key), rows::read_revoked(value)) {
                (Some(inbox), Some(revoked)) => drop(self.revoked.insert(Inbox(inbox), revoked)),
                _ => unreadable += 1,
            },
        )?;
        self.counters.unreadable += unreadable;
        let revoked = self.revoked.iter().map(|(inbox, revoked)| HubOutput::Revoked {
            inbox: *inbox,
            epoch: revoked.epoch,
            seat: None,
        });
        self.outputs.extend(revoked);
        Ok(())
    }

    /// Queues, from the log: each message goes to whom its row names, or to those of its rows in `share` who have not taken
    /// it. All three are in order of the log. Answers with the ids.
    fn read_log(&mut self, unix: u64, store: &dyn Store) -> Result<Vec<Known>, Fault> {
        let mut taken: HashSet<(Sequence, Inbox)> = HashSet::default();
        store.load(rows::TAKEN, &mut |key, _| taken.extend(rows::read_pair(key)))?;
        let mut shares: VecDeque<(Sequence, Inbox)> = VecDeque::new();
        store.load(rows::SHARE, &mut |key, value| {
            if let Some((sequence, _)) = rows::read_pair(key) {
                let left = rows::read_shares(value).map(|inbox| (sequence, inbox));
                shares.extend(left.filter(|pair| !taken.contains(pair)));
            }
        })?;
        let mut ids = Vec::new();
        // What was kept while the clock was far ahead.
        let latest = clock::latest(unix);
        store.load(rows::MESSAGE, &mut |key, value| {
            let (Some(sequence), Some(head)) = (rows::read_u64(key).map(Sequence), rows::read_head(value))
            else {
                self.counters.unreadable += 1;
                return;
            };
            let rows::Head { expires, only, hash, content, size } = head;
            let expires = expires.min(latest);
            ids.push(Known { sequence, hash, content, until: known::until(expires) });
            let item = queue::Item::new(sequence, expires, only.is_none(), size);
            if let Some(inbox) = only {
                return self.queues.push(inbox, item);
            }
            let mut count = 0;
            while let Some(&(at, inbox)) = shares.front().filter(|(at, _)| *at <= sequence) {
                shares.pop_front();
                if at == sequence {
                    self.queues.push(inbox, item);
                    count += 1;
                }
            }
            self.shares.insert(sequence, count);
        })?;
        Ok(ids)
    }
}

fn id(sequence: Sequence, kept: &Kept) -> Known {
    let Kept { hash, content, expires, .. } = *kept;
    Known { sequence, hash, content, until: known::until(expires) }
}
