//! What this machine knows of names: `/etc/resolv.conf` and `/etc/hosts`, read again when they change.

use std::{fs, time::Duration, time::SystemTime};

use super::resolver::Config;
use crate::time::Time;

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";
/// How often the files are looked at, at the most.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The two files, as last seen.
#[derive(Default)]
pub(super) struct NameFiles {
    looked: Option<Time>,
    stamps: [Option<SystemTime>; 2],
}

impl NameFiles {
    /// What the files say, if that changed since the last call.
    pub fn changed(&mut self, now: Time) -> Option<Config> {
        if self.looked.is_some_and(|looked| now < looked + LOOK_EVERY) {
            return None;
        }
        let is_first = self.looked.replace(now).is_none();
        let stamps =
            [RESOLV_CONF, HOSTS].map(|path| fs::metadata(path).and_then(|meta| meta.modified()).ok());
        if stamps == self.stamps && !is_first {
            return None;
        }
        self.stamps = stamps;
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Some(Config::parse(&read(RESOLV_CONF), &read(HOSTS)))
    }
}
