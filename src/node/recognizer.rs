//! A recogniser that shares nothing: frames in, flows out.

use std::collections::VecDeque;

use super::{
    Event, MAX_WAITING, Node, flow_event,
    recognition::{Finding, Recognition},
    too_many_wait,
};
use crate::{
    io::{Input, Output},
    status::Fault,
    time::Time,
    wire::packet::LinkType,
};

/// A recogniser without a back end.
pub struct RecognizerNode {
    recognition: Recognition,
    events: VecDeque<Event>,
    /// When flows are looked at that may have been silent too long.
    sweep: Option<Time>,
}

impl RecognizerNode {
    /// A recogniser that tells of flows as they end.
    pub fn new(recognition: Recognition) -> RecognizerNode {
        RecognizerNode { recognition, events: VecDeque::new(), sweep: None }
    }

    /// What recognises flows.
    pub fn recognition(&self) -> &Recognition {
        &self.recognition
    }

    /// Takes in a frame as captured at `now`.
    ///
    /// Fails with [`crate::status::Status::Malformed`] when it is no IP packet, and with
    /// [`crate::status::Status::Full`] when too many events wait to be pulled.
    pub fn feed(&mut self, now: Time, link: LinkType, frame: &[u8]) -> Result<(), Fault> {
        if self.events.len() >= MAX_WAITING {
            return Err(too_many_wait());
        }
        let result = self.recognition.feed(now, link, frame);
        self.tell(now);
        result
    }

    /// Ends every flow, for a capture that is over.
    pub fn finish(&mut self, now: Time) {
        self.recognition.finish(now);
        self.tell(now);
    }

    fn tell(&mut self, now: Time) {
        self.sweep = self.sweep.or_else(|| self.recognition.deadline(now));
        while let Some(finding) = self.recognition.poll() {
            if let Finding::Flow(verdict) = finding {
                let name = verdict.app.and_then(|app| self.recognition.name(app));
                self.events.push_back(flow_event(&verdict, name));
            }
        }
    }
}

impl Node for RecognizerNode {
    fn handle(&mut self, now: Time, input: Input<'_>) {
        if matches!(input, Input::Deadline) && self.sweep.is_some_and(|sweep| sweep <= now) {
            self.sweep = None;
            self.recognition.expire(now);
            self.tell(now);
        }
    }

    fn poll_output(&mut self, _now: Time) -> Option<Output<Event>> {
        self.events.pop_front().map(Output::Event)
    }

    fn flush(&mut self, _now: Time) -> bool {
        false
    }

    fn deadline(&self) -> Option<Time> {
        self.sweep
    }
}
