//! What people and scripts do with a post office: accounts, sending, listening, presence.

mod accounts;
mod listen;
mod presence;
mod send;

use std::{
    ffi::OsString,
    path::PathBuf,
    time::{Duration, Instant},
};

use hailpost::{
    config::Role,
    net::{Loop, NodeId, open_device},
    node::{DeviceNode, Event, EventKind, Field},
};

pub use accounts::{AppArgs, DeviceArgs, UserArgs, app, device, user};
pub use listen::{Args as ListenArgs, run as listen};
pub use presence::{Args as PresenceArgs, run as presence};
pub use send::{Args as SendArgs, run as send};

use crate::{
    failure::Failure,
    settings::SettingsArgs,
    signals::{Inbox, Word},
    terminal::warn,
};

/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_millis(200);

/// Which device this is, the same for every subcommand that is one.
#[derive(clap::Args, Clone)]
pub struct Credential {
    /// The line that `device add` printed, in a file of mode 0600
    #[arg(long, value_name = "FILE")]
    credential: Option<PathBuf>,
    /// Where outbox and inbox are kept [default: the credential's file with .db after it]
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    /// Where the office is, if not as the line says; the better way first
    #[arg(long, value_name = "URL,URL")]
    office: Option<String>,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// A device that is logged in, or tries to be.
struct Phone {
    net: Loop,
    node: NodeId,
    inbox: Inbox,
    stopped: bool,
}

impl Phone {
    fn open(args: &Credential) -> Result<Phone, Failure> {
        let mut config = args.settings.read(Role::Device)?;
        if let Some(path) = &args.credential {
            config.set("credential_file", &path.display().to_string())?;
        }
        if let Some(office) = &args.office {
            config.set("office", office)?;
        }
        let beside = args.credential.as_ref().map(|path| {
            let mut name = OsString::from(path);
            name.push(".db");
            PathBuf::from(name)
        });
        if let Some(store) = args.store.clone().or(beside).filter(|_| config.non_empty("store").is_none()) {
            config.set("store", &store.display().to_string())?;
        }
        // What is kept is its owner's alone.
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        let mut net = Loop::new()?;
        let inbox = Inbox::open(&net)?;
        let node = open_device(&mut net, &config)?;
        Ok(Phone { net, node, inbox, stopped: false })
    }

    fn with<R>(
        &mut self,
        call: impl FnOnce(&mut DeviceNode, hailpost::time::Time) -> R,
    ) -> Result<R, Failure> {
        Ok(self.net.with(self.node, call)?)
    }

    /// The next event, within a time, unless a stop is asked for.
    fn next(&mut self, until: Option<Instant>) -> Result<Option<Event>, Failure> {
        loop {
            if let Some((_, event)) = self.net.next_event() {
                return Ok(Some(event));
            }
            while let Some(word) = self.inbox.next() {
                self.stopped |= matches!(word, Word::Stop);
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if self.stopped || left == Some(Duration::ZERO) {
                return Ok(None);
            }
            self.net.wait(left)?;
        }
    }

    /// The next event of this kind. Tells people why it takes long; fails when the office says no, or the time is over.
    fn wait_for(&mut self, kind: EventKind, until: Instant) -> Result<Event, Failure> {
        let mut why = None;
        while let Some(event) = self.next(Some(until))? {
            match event.kind() {
                found if found == kind => return Ok(event),
                EventKind::Refused => {
                    let text = event.text(Field::Text).unwrap_or_default();
                    return Err(Failure { code: 3, text: format!("the office refused this device: {text}") });
                }
                EventKind::Down | EventKind::StoreFailing => {
                    let text = event.text(Field::Text).unwrap_or_default().to_owned();
                    if why.is_none() {
                        warn(&text);
                    }
                    why = Some(text);
                }
                _ => {}
            }
        }
        match self.stopped {
            true => Err(Failure { code: 0, text: String::new() }),
            false => Err(Failure::new(why.unwrap_or_else(|| "the office did not answer in time".to_owned()))),
        }
    }

    /// Says goodbye, so that the office need not find out.
    fn close(mut self) -> Result<(), Failure> {
        self.with(|node, now| node.close(now))?;
        let until = Instant::now() + GOODBYE;
        while Instant::now() < until && self.net.timeout() == Some(Duration::ZERO) {
            self.net.step()?;
        }
        Ok(())
    }
}
