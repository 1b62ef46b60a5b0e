//! A platform that goes to sleep and wakes: what is said before, and that nothing is between.

use std::collections::VecDeque;

use super::{
    Client, ClientCounters, Event, Output, Phase,
    up::{ASKS, Up},
};
use crate::{
    time::Time,
    wire::link::{ASK, LONGEST_SLEEP, Rhythm},
};

/// Whether the platform sleeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sleep {
    Awake,
    /// The server is being told.
    Falling,
    /// Nothing is sent, and nothing is due. Perhaps a session is to be got on waking.
    Asleep {
        reopen: bool,
    },
}

impl Client {
    /// The platform is about to sleep for so many seconds at the most: 15 hours, or 0 for as much. The server is told, and
    /// [`Event::Suspended`] says when nothing is due any more. Whether it was awake: else nothing is begun.
    pub fn suspend(&mut self, now: Time, seconds: u32) -> bool {
        if self.sleep != Sleep::Awake {
            return false;
        }
        let longest = u32::from(LONGEST_SLEEP);
        let seconds = if seconds == 0 { longest } else { seconds.min(longest) };
        match &mut self.phase {
            Phase::Up(up) if self.lets_sleep => {
                self.sleep = Sleep::Falling;
                up.fall_asleep(now, seconds as u16, &mut self.counters, &mut self.outputs);
            }
            Phase::Up(up) => {
                up.sleeps = Some(0);
                self.fall(false);
            }
            Phase::Idle => {
                self.sleep = Sleep::Asleep { reopen: false };
                self.event(Event::Suspended { told: false });
            }
            Phase::Asking(_) | Phase::Waiting(_) => self.fall(false),
        }
        true
    }

    /// The platform is awake: the server is told at once, and sends what waited.
    pub fn resume(&mut self, now: Time) {
        let before = std::mem::replace(&mut self.sleep, Sleep::Awake);
        if before == Sleep::Awake {
            return;
        }
        self.failures.reset();
        match &mut self.phase {
            Phase::Up(up) => {
                up.wake(now);
                up.look(now, &self.pace, &mut self.counters, &mut self.outputs);
                up.pump(now, &mut self.counters, &mut self.outputs);
            }
            _ if before == (Sleep::Asleep { reopen: true }) => self.ask(now, true),
            _ => {}
        }
    }

    /// Whether the platform sleeps, or is about to.
    pub fn is_suspended(&self) -> bool {
        self.sleep != Sleep::Awake
    }

    /// Whether nothing is sent, and nothing is due.
    pub fn is_asleep(&self) -> bool {
        matches!(self.sleep, Sleep::Asleep { .. })
    }

    /// All that is due of one that is suspended: the server is told once more, or was told often enough.
    pub(super) fn expire_asleep(&mut self, now: Time) {
        if let (Sleep::Falling, Phase::Up(up)) = (self.sleep, &mut self.phase)
            && up.sleep_due(now, &mut self.counters, &mut self.outputs)
        {
            self.fall(false);
        }
    }

    /// Nothing is due from now on. A session that is being got is got on waking.
    pub(super) fn fall(&mut self, told: bool) {
        let is_up = matches!(self.phase, Phase::Up(_));
        if !is_up {
            self.phase = Phase::Idle;
        }
        self.sleep = Sleep::Asleep { reopen: !is_up };
        self.event(Event::Suspended { told });
    }
}

impl Up {
    /// Says what there is to say, and that there is nothing more for so many seconds.
    fn fall_asleep(
        &mut self,
        now: Time,
        seconds: u16,
        counters: &mut ClientCounters,
        outputs: &mut VecDeque<Output>,
    ) {
        if let Some(reliable) = &mut self.reliable {
            reliable.hurry(now);
        }
        self.pump(now, counters, outputs);
        self.forget_silence();
        // Who takes new keys has to show that at once. On waking others are asked for.
        self.rekey = None;
        self.sleeps = Some(Rhythm::Asleep(seconds).code());
        self.asks = 0;
        self.say_sleep(now, counters, outputs);
    }

    /// Says so, or again. Whatever follows would wake the session: a probe goes before.
    pub(super) fn say_sleep(
        &mut self,
        now: Time,
        counters: &mut ClientCounters,
        outputs: &mut VecDeque<Output>,
    ) {
        if self.asks > 0 {
            self.probe(counters, outputs);
        }
        let code = self.sleeps.unwrap_or(0);
        outputs.push_back(Output::Send(self.line.beat(ASK, code)));
        counters.heartbeats += 1;
        self.asked(now);
    }

    /// Says so again if it is time. Whether it was said often enough.
    pub(super) fn sleep_due(
        &mut self,
        now: Time,
        counters: &mut ClientCounters,
        outputs: &mut VecDeque<Output>,
    ) -> bool {
        let is_due = self.ask_due <= now;
        if is_due && self.asks < ASKS {
            self.say_sleep(now, counters, outputs);
            return false;
        }
        is_due
    }

    /// What was under way goes on.
    fn wake(&mut self, now: Time) {
        self.sleeps = None;
        self.asks = 0;
        self.heard = now;
        self.forget_silence();
        if let Some(reliable) = &mut self.reliable {
            reliable.wake(now);
        }
    }
}
