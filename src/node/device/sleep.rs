//! A device on a battery: its platform sleeps, and what it sends is paid for.

use super::{DeviceNode, finder::Finder};
use crate::{
    status::{Fault, Status},
    time::Time,
};

impl DeviceNode {
    /// The platform is about to sleep for so many seconds at the most, or 0 for 15 hours, which is as much. The office is told;
    /// the event `suspended` says when nothing is due any more, eight seconds later at the most. What is put meanwhile is kept, and
    /// goes out on waking.
    ///
    /// # Errors
    /// [`Status::State`] when it is suspended already.
    pub fn suspend(&mut self, now: Time, seconds: u32) -> Result<(), Fault> {
        if !self.client.suspend(now, seconds) {
            return Err(Fault::new(Status::State, "the device is suspended already: resume it first"));
        }
        self.asks_on_waking = self.finder.as_ref().and_then(Finder::deadline).is_some();
        if self.asks_on_waking {
            self.stop_asking();
        }
        Ok(())
    }

    /// The platform is awake: the device speaks at once, and what waited comes. It changes nothing of one that is not suspended.
    pub fn resume(&mut self, now: Time) {
        self.client.resume(now);
        if std::mem::take(&mut self.asks_on_waking) {
            self.begin(now);
        }
    }

    /// The network is one where what is sent is paid for, or is not.
    pub fn set_metered(&mut self, metered: bool) {
        self.client.set_metered(metered);
    }

    /// Whether it is suspended, or about to be.
    pub fn is_suspended(&self) -> bool {
        self.client.is_suspended()
    }
}
