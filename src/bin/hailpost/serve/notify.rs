//! What systemd wants to hear (sd_notify(3)); nothing when it did not start us.

use std::{
    env,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    time::{Duration, Instant},
};

/// The way to systemd.
pub struct Notify {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How often it wants to hear that we live, and when it heard so last.
    watchdog: Option<(Duration, Instant)>,
}

impl Notify {
    /// As the environment says.
    pub fn open() -> Notify {
        let address = env::var("NOTIFY_SOCKET").ok().and_then(|path| match path.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name).ok(),
            None => SocketAddr::from_pathname(path).ok(),
        });
        let socket = address.and_then(|address| Some((UnixDatagram::unbound().ok()?, address)));
        let micros = env::var("WATCHDOG_USEC").ok().and_then(|micros| micros.parse().ok());
        let is_ours = env::var("WATCHDOG_PID").ok().is_none_or(|pid| pid == std::process::id().to_string());
        // Half of the time, as its manual says, so that one late turn is not taken for a death.
        let every =
            micros.filter(|_| is_ours && socket.is_some()).map(|micros| Duration::from_micros(micros) / 2);
        Notify {
            socket,
            watchdog: every.filter(|every| !every.is_zero()).map(|every| (every, Instant::now())),
        }
    }

    /// Says a state, such as `READY=1`. Whether it hears it is not our trouble.
    pub fn say(&self, state: &str) {
        if let Some((socket, address)) = &self.socket {
            let _ = socket.send_to_addr(state.as_bytes(), address);
        }
    }

    /// Says that we live, if it is time.
    pub fn live(&mut self) {
        if let Some((every, last)) = &mut self.watchdog
            && last.elapsed() >= *every
        {
            *last = Instant::now();
            self.say("WATCHDOG=1");
        }
    }

    /// How long a wait may last, so that [`Notify::live`] is in time.
    pub fn limit(&self) -> Option<Duration> {
        self.watchdog.map(|(every, last)| every.saturating_sub(last.elapsed()))
    }
}
