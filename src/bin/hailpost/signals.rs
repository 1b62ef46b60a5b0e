//! Signals, and whatever else ends a wait of the loop.

use std::{
    sync::{
        Arc,
        atomic::AtomicBool,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use hailpost::net::Loop;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag,
    iterator::Signals,
};

use crate::failure::Failure;

/// What can come from outside the loop.
pub enum Word {
    /// TERM or Ctrl-C: end in order. A second one ends at once.
    Stop,
    /// HUP: read files again.
    Reload,
    /// A request on the control socket, and where its answer goes.
    Request(serde_json::Value, Sender<serde_json::Value>),
}

/// Where words come in; whoever sends one wakes the loop.
pub struct Inbox {
    sender: Sender<Word>,
    receiver: Receiver<Word>,
}

/// How to say a word from another thread.
#[derive(Clone)]
pub struct Speaker {
    sender: Sender<Word>,
    nudge: Nudge,
}

/// Ends a wait of the loop from another thread.
#[derive(Clone)]
pub struct Nudge(Arc<dyn Fn() + Send + Sync>);

impl Nudge {
    /// For waits of this loop.
    pub fn of(net: &Loop) -> Nudge {
        let waker = net.waker();
        Nudge(Arc::new(move || drop(waker.wake())))
    }

    /// Ends it.
    pub fn now(&self) {
        (self.0)();
    }
}

impl Inbox {
    /// Takes over TERM, Ctrl-C and HUP.
    pub fn open(net: &Loop) -> Result<Inbox, Failure> {
        let (sender, receiver) = channel();
        let inbox = Inbox { sender, receiver };
        let cannot = |error: std::io::Error| Failure::new(format!("cannot watch for signals: {error}"));
        let stopping = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            // In this order: the first arms the second.
            flag::register_conditional_shutdown(signal, 130, stopping.clone()).map_err(cannot)?;
            flag::register(signal, stopping.clone()).map_err(cannot)?;
        }
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(cannot)?;
        let speaker = inbox.speaker(net);
        thread::spawn(move || {
            for signal in signals.forever() {
                speaker.say(if signal == SIGHUP { Word::Reload } else { Word::Stop });
            }
        });
        Ok(inbox)
    }

    /// For another thread.
    pub fn speaker(&self, net: &Loop) -> Speaker {
        Speaker { sender: self.sender.clone(), nudge: Nudge::of(net) }
    }

    /// The next word, if one is there.
    pub fn next(&self) -> Option<Word> {
        self.receiver.try_recv().ok()
    }
}

impl Speaker {
    /// Says it. False when nobody listens any more.
    pub fn say(&self, word: Word) -> bool {
        let said = self.sender.send(word).is_ok();
        self.nudge.now();
        said
    }
}
