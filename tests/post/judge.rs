//! What must hold, watched from outside.

use std::collections::{BTreeMap, BTreeSet};

/// A message, as its sender knows it: sender and number.
pub type Letter = (String, u64);

/// Who watches.
#[derive(Default)]
pub struct Judge {
    /// Acknowledged as durable, with the inboxes that must get it.
    owed: BTreeMap<Letter, BTreeSet<u32>>,
    /// First showings by inbox and sender, in order.
    first: BTreeMap<(u32, String), Vec<u64>>,
    /// Shown in this life of the device.
    shown: BTreeMap<u32, BTreeSet<Letter>>,
    ever: BTreeMap<u32, BTreeSet<Letter>>,
    confirmed: BTreeMap<u32, BTreeSet<Letter>>,
    /// Numbers of puts that were told to be stored, and their ends.
    put: BTreeSet<(u32, u64)>,
    ended: BTreeMap<(u32, u64), u32>,
    pub messages: u64,
    pub shows: u64,
    pub again: u64,
    pub hub_crashes: u64,
    pub device_crashes: u64,
    pub breaks: u64,
}

impl std::fmt::Debug for Judge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} messages acknowledged, {} shown, {} of them again, {} links broken, {} crashes of the hub, {} of devices",
            self.messages, self.shows, self.again, self.breaks, self.hub_crashes, self.device_crashes
        )
    }
}

impl Judge {
    pub fn add(&mut self, other: &Judge) {
        self.messages += other.messages;
        self.shows += other.shows;
        self.again += other.again;
        self.hub_crashes += other.hub_crashes;
        self.device_crashes += other.device_crashes;
        self.breaks += other.breaks;
    }

    pub fn is_lively(&self) -> bool {
        let all = [self.messages, self.shows, self.again, self.hub_crashes, self.device_crashes, self.breaks];
        all.iter().all(|count| *count > 100)
    }

    /// A sender was told that a message is kept.
    pub fn acknowledged(&mut self, letter: Letter, inboxes: &[u32]) {
        self.messages += 1;
        self.owed.entry(letter).or_default().extend(inboxes);
    }

    pub fn shown(&mut self, inbox: u32, letter: Letter, redelivered: bool) -> Result<(), String> {
        self.shows += 1;
        if self.confirmed.get(&inbox).is_some_and(|confirmed| confirmed.contains(&letter)) {
            return Err(format!("inbox {inbox} was shown {letter:?} after its confirmation was durable"));
        }
        if !self.shown.entry(inbox).or_default().insert(letter.clone()) {
            return Err(format!("inbox {inbox} was shown {letter:?} twice in one life"));
        }
        if !self.ever.entry(inbox).or_default().insert(letter.clone()) {
            self.again += 1;
            if !redelivered {
                return Err(format!("inbox {inbox} was shown {letter:?} again, and not told so"));
            }
            return Ok(());
        }
        let order = self.first.entry((inbox, letter.0.clone())).or_default();
        if order.last().is_some_and(|last| *last > letter.1) {
            return Err(format!("inbox {inbox} was shown {letter:?} after {:?}", order.last()));
        }
        order.push(letter.1);
        Ok(())
    }

    pub fn confirmed(&mut self, inbox: u32, letter: Letter) {
        self.confirmed.entry(inbox).or_default().insert(letter);
    }

    pub fn stored(&mut self, inbox: u32, number: u64) {
        self.put.insert((inbox, number));
    }

    pub fn ended(&mut self, inbox: u32, number: u64) -> Result<(), String> {
        let ends = self.ended.entry((inbox, number)).or_default();
        *ends += 1;
        if *ends > 1 {
            return Err(format!("put {number} of inbox {inbox} ended twice"));
        }
        Ok(())
    }

    /// The device died: what it tells of an end, it may tell again.
    pub fn device_died(&mut self, inbox: u32) {
        self.device_crashes += 1;
        self.shown.remove(&inbox);
        self.ended.retain(|(owner, _), _| *owner != inbox);
    }

    /// All is healed and quiet.
    pub fn last_word(&self) -> Result<(), String> {
        for (letter, inboxes) in &self.owed {
            for inbox in inboxes {
                if !self.confirmed.get(inbox).is_some_and(|confirmed| confirmed.contains(letter)) {
                    return Err(format!("{letter:?} was acknowledged, and inbox {inbox} never confirmed it"));
                }
            }
        }
        Ok(())
    }
}
