//! Devices that nobody has heard of for long (DECISIONS.md 5). What is known of each is the day of its last login: two octets
//! here, and a row that is written once a day at the most.
//!
//! A day is one of service: it ends when the date has changed while the office serves, however far. So a clock that jumps, or
//! an office that lay still for weeks, makes no device look silent.

use super::*;

/// Inboxes looked at in one turn.
const PORTION: usize = 4096;
/// The setting that keeps the day of service.
pub(super) const DAY: &str = "day";
/// The setting that keeps the date, in days since 1970, that it was seen on.
pub(super) const DATE: &str = "date";

/// When each device was there last.
pub(super) struct Silence {
    /// The day of service, from 1.
    day: u16,
    /// In days since 1970.
    date: u64,
    /// By inbox: the day of its last login. 0 of what is no device, or was enrolled by a version that did not look.
    heard: Vec<u16>,
    /// Where the walk under way goes on; there is one a day.
    walking: Option<usize>,
    /// Day and date are rows.
    kept: bool,
}

impl Silence {
    pub(super) const fn new(unix: u64) -> Silence {
        Silence { day: 1, date: unix / 86_400, heard: Vec::new(), walking: Some(0), kept: false }
    }

    pub(super) fn read_day(&mut self, day: u64) {
        self.day = u16::try_from(day).unwrap_or(u16::MAX);
    }

    pub(super) const fn read_date(&mut self, date: u64) {
        self.date = date;
        self.kept = true;
    }

    pub(super) fn hear(&mut self, inbox: Inbox, day: u16) {
        let at = inbox.0 as usize;
        if at >= self.heard.len() {
            // Not doubled: what is not there yet costs nothing.
            self.heard.reserve_exact((at + 1 - self.heard.len()).max(4096));
            self.heard.resize(at + 1, 0);
        }
        self.heard[at] = day;
    }

    fn is_device(&self, inbox: Inbox) -> bool {
        self.heard.get(inbox.0 as usize).is_some_and(|day| *day != 0)
    }

    fn settings(&self) -> Vec<Op> {
        vec![rows::put_number(DAY, self.day.into()), rows::put_number(DATE, self.date)]
    }
}

impl Hub {
    /// Days are counted from now on, unless they are already.
    pub(super) fn begin_days(&mut self) {
        if !std::mem::replace(&mut self.silence.kept, true) {
            let ops = self.silence.settings();
            self.submit(ops);
        }
    }

    /// A device is enrolled: its silence begins today.
    pub(super) fn begin_hearing(&mut self, inbox: Inbox) -> Op {
        self.silence.hear(inbox, self.silence.day);
        rows::put_heard(inbox, self.silence.day)
    }

    /// A receiver is there. Who is no device is not looked for either.
    pub(super) fn heard(&mut self, inbox: Inbox) {
        let today = self.silence.day;
        let is_known = self.silence.heard.get(inbox.0 as usize).is_some_and(|day| *day == today);
        if !is_known && !self.is_app(inbox) {
            self.silence.hear(inbox, today);
            self.submit(vec![rows::put_heard(inbox, today)]);
        }
    }

    fn is_app(&self, inbox: Inbox) -> bool {
        !self.silence.is_device(inbox) && self.apps.values().any(|app| app.inbox == inbox)
    }

    /// The date may have changed, forwards or backwards: one more day of service, and everybody is looked at.
    pub(super) fn turn_day(&mut self, unix: u64) {
        let date = unix / 86_400;
        if date == self.silence.date {
            return;
        }
        // Put back, it is the day that it was.
        if date > self.silence.date {
            self.silence.day = self.silence.day.saturating_add(1);
            self.silence.walking = Some(0);
        }
        self.silence.date = date;
        let ops = self.silence.settings();
        self.submit(ops);
    }

    /// Looks at a portion of the devices: who is there is heard, who was silent for too long is stale. Whether there are more.
    pub(super) fn look_for_silent(&mut self) -> bool {
        let Some(from) = self.silence.walking else { return false };
        let (today, most) = (self.silence.day, self.config.max_silence);
        let end = (from + PORTION).min(self.silence.heard.len());
        self.silence.walking = (end < self.silence.heard.len()).then_some(end);
        let mut ops = Vec::new();
        for at in from..end {
            let (inbox, day) = (Inbox(at as u32), self.silence.heard[at]);
            if day == 0 || day == today {
                continue;
            }
            if self.presence.seat(inbox).is_some() {
                self.silence.heard[at] = today;
                ops.push(rows::put_heard(inbox, today));
            } else if let Some(missed) = self.stale.get(&inbox) {
                // It grows without being written each time.
                ops.push(rows::put_stale(inbox, *missed));
            } else if today.saturating_sub(day) > most {
                self.counters.silent_devices += 1;
                let (missed, _) = self.queues.depth(inbox);
                self.give_up(inbox, missed);
            }
        }
        if !ops.is_empty() {
            self.submit(ops);
        }
        self.silence.walking.is_some()
    }
}
