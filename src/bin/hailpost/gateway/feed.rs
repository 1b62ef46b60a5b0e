//! A capture on its way into a gateway.
//!
//! A thread reads it, so that a pipe that has nothing to say (`tcpdump -w - |`) holds nobody up.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use hailpost::{node::GatewayNode, time::Time, wire::packet::LinkType};

use crate::{
    capture::{self, Capture},
    failure::Failure,
    signals::Nudge,
    terminal::Progress,
};

/// Frames that go into the gateway before the loop has its turn.
const PORTION: usize = 256;
/// Frames of a file that are passed on together; those of a pipe are passed on as they come.
const BATCH: usize = 256;
/// Batches that may wait.
const WAITING: usize = 8;

/// The capture, as a gateway takes it in.
pub struct Feed {
    shown: String,
    receiver: Receiver<Said>,
    frames: VecDeque<Frame>,
    ended: Option<String>,
    realtime: bool,
    /// When the first frame came.
    begun: Option<Instant>,
    fed: u64,
    progress: Progress,
}

/// One frame, with its time since the first.
struct Frame {
    since: Duration,
    link: LinkType,
    octets: Vec<u8>,
    /// Where it stands in the file.
    offset: u64,
}

enum Said {
    Frames(Vec<Frame>),
    /// How the capture ended.
    End(String),
}

impl Feed {
    /// Opens the capture and begins to read it `repeat` times, 0 for ever.
    pub fn open(path: PathBuf, repeat: u64, realtime: bool, nudge: Nudge) -> Result<Feed, Failure> {
        let shown = path.display().to_string();
        let is_pipe = path.as_os_str() == "-";
        if repeat != 1 && is_pipe {
            return Err(Failure::usage("standard input can be read only once: leave out --repeat"));
        }
        // A file can be opened now, and what is wrong with it be told before anything runs. A pipe may be silent yet.
        let first = if is_pipe { None } else { Some(capture::open(&path)?) };
        let progress =
            Progress::new("capture", first.as_ref().and_then(|capture| capture.len).filter(|_| repeat == 1));
        let (sender, receiver) = sync_channel(WAITING * if is_pipe { BATCH } else { 1 });
        let mut reading =
            Reading { path, left: (repeat > 0).then_some(repeat), base: Duration::ZERO, sender, nudge };
        thread::spawn(move || {
            let end = match reading.all(first) {
                Ok(()) => String::new(),
                Err(why) => why,
            };
            let _ = reading.sender.send(Said::End(end));
            reading.nudge.now();
        });
        Ok(Feed {
            shown,
            receiver,
            frames: VecDeque::new(),
            ended: None,
            realtime,
            begun: None,
            fed: 0,
            progress,
        })
    }

    /// How long until there is something to feed; `None` until the reader says so.
    pub fn pause(&mut self) -> Option<Duration> {
        self.take();
        let next = self.frames.front();
        match (next, self.begun) {
            (Some(frame), Some(begun)) if self.realtime => Some(frame.since.saturating_sub(begun.elapsed())),
            (Some(_), _) => Some(Duration::ZERO),
            (None, _) => self.ended.as_ref().map(|_| Duration::ZERO),
        }
    }

    /// Feeds some frames. Says how it ended when it has.
    pub fn portion(&mut self, node: &mut GatewayNode, now: Time) -> Result<Option<String>, Failure> {
        self.take();
        let begun = *self.begun.get_or_insert_with(Instant::now);
        for _ in 0..PORTION {
            let is_early = |frame: &Frame| self.realtime && begun.elapsed() < frame.since;
            if self.frames.front().is_none_or(is_early) {
                break;
            }
            let Some(frame) = self.frames.pop_front() else { break };
            self.fed += 1;
            if self.fed.is_multiple_of(1024) {
                self.progress.at(frame.offset);
            }
            // What is no IP packet is counted by the recogniser; it stops nothing.
            let _ = node.feed_captured(now, Some(Time::ZERO + frame.since), frame.link, &frame.octets);
        }
        if !self.frames.is_empty() {
            return Ok(None);
        }
        self.take();
        if !self.frames.is_empty() {
            return Ok(None);
        }
        let Some(how) = self.ended.take() else { return Ok(None) };
        node.finish(now)?;
        Ok(Some(format!("{} frames of {} were read{how}", self.fed, self.shown)))
    }

    /// Takes what the reader has ready, when nothing else waits.
    fn take(&mut self) {
        while self.frames.is_empty() && self.ended.is_none() {
            match self.receiver.try_recv() {
                Ok(Said::Frames(frames)) => self.frames.extend(frames),
                Ok(Said::End(how)) => self.ended = Some(how),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => self.ended = Some(", then its reader failed".to_owned()),
            }
        }
    }
}

/// The thread's side.
struct Reading {
    path: PathBuf,
    /// `None` for ever.
    left: Option<u64>,
    /// Where this reading begins, after the ones before.
    base: Duration,
    sender: SyncSender<Said>,
    nudge: Nudge,
}

impl Reading {
    /// Everything, so many times. An error is how it ended, to be put after the count of frames.
    fn all(&mut self, mut first: Option<Capture>) -> Result<(), String> {
        while self.left != Some(0) {
            self.left = self.left.map(|left| left - 1);
            let capture = match first.take() {
                Some(capture) => capture,
                None => capture::open(&self.path).map_err(|failure| format!(", then {}", failure.text))?,
            };
            self.once(capture)?;
        }
        Ok(())
    }

    fn once(&mut self, mut capture: Capture) -> Result<(), String> {
        let most = if capture.len.is_some() { BATCH } else { 1 };
        let mut batch = Vec::with_capacity(most);
        let mut start = None;
        let mut latest = self.base;
        let end = loop {
            match capture.reader.next_record() {
                Ok(None) => break Ok(()),
                Err(error) => break Err(format!(", then {error}")),
                Ok(Some(record)) => {
                    let since = self.base + record.time.since(*start.get_or_insert(record.time));
                    latest = latest.max(since);
                    batch.push(Frame {
                        since,
                        link: record.link_type,
                        octets: record.frame.to_vec(),
                        offset: record.offset,
                    });
                }
            }
            if batch.len() == most {
                self.pass_on(&mut batch)?;
            }
        };
        // The next reading begins after all flows of this one are long silent.
        self.base = latest + Duration::from_secs(600);
        self.pass_on(&mut batch)?;
        end
    }

    fn pass_on(&self, batch: &mut Vec<Frame>) -> Result<(), String> {
        let frames = std::mem::take(batch);
        if !frames.is_empty() {
            self.sender.send(Said::Frames(frames)).map_err(|_| String::new())?;
            self.nudge.now();
        }
        Ok(())
    }
}
