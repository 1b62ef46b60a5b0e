//! A recogniser that shares nothing: frames in, flows out.

use std::collections::VecDeque;

use super::{
    CaptureClock, Event, MAX_WAITING, Node, flow_event,
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
    captured: CaptureClock,
    events: VecDeque<Event>,
    /// At the latest when the first flow will have been silent too long, by the capture's clock.
    sweep: Option<Time>,
}

impl RecognizerNode {
    /// A recogniser that tells of flows as they are recognised and as they end.
    pub fn new(recognition: Recognition) -> RecognizerNode {
        RecognizerNode {
            recognition,
            captured: CaptureClock::default(),
            events: VecDeque::new(),
            sweep: None,
        }
    }

    /// What recognises flows.
    pub fn recognition(&self) -> &Recognition {
        &self.recognition
    }

    /// Takes in a frame that was captured now, or at a time of the capture's own, of any epoch; see [`CaptureClock`].
    ///
    /// Fails with [`crate::status::Status::Malformed`] when it is no IP packet, and with
    /// [`crate::status::Status::Full`] when too many events wait to be pulled.
    pub fn feed(
        &mut self,
        now: Time,
        captured: Option<Time>,
        link: LinkType,
        frame: &[u8],
    ) -> Result<(), Fault> {
        if self.events.len() >= MAX_WAITING {
            return Err(too_many_wait());
        }
        let result = self.recognition.feed(self.captured.at(now, captured), link, frame);
        self.tell();
        result
    }

    /// Ends every flow, for a capture that is over.
    pub fn finish(&mut self, now: Time) {
        self.recognition.finish(self.captured.now(now));
        self.captured.begin();
        self.tell();
    }

    fn tell(&mut self) {
        self.sweep = self.sweep.into_iter().chain(self.recognition.deadline()).min();
        while let Some(finding) = self.recognition.poll() {
            if let Finding::Recognised(verdict) | Finding::Flow(verdict) = finding {
                let name = verdict.app.and_then(|app| self.recognition.name(app));
                self.events.push_back(flow_event(&verdict, name));
            }
        }
    }
}

impl Node for RecognizerNode {
    fn handle(&mut self, now: Time, input: Input<'_>) {
        let now = self.captured.now(now);
        if matches!(input, Input::Deadline) && self.sweep.is_some_and(|sweep| sweep <= now) {
            self.sweep = None;
            self.recognition.expire(now);
            self.tell();
        }
    }

    fn poll_output(&mut self, _now: Time) -> Option<Output<Event>> {
        self.events.pop_front().map(Output::Event)
    }

    fn flush(&mut self, _now: Time) -> bool {
        false
    }

    fn deadline(&self) -> Option<Time> {
        self.sweep.map(|sweep| self.captured.due(sweep))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        node::{EventKind, Field},
        recognize::{Config, Limits},
        status::Status,
    };

    /// An IPv4 packet with a UDP datagram from a port of its own.
    fn datagram(port: u16, octets: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 28];
        packet[..4].copy_from_slice(&[0x45, 0, 0, 28 + octets.len() as u8]);
        packet[8..10].copy_from_slice(&[64, 17]);
        packet[12..20].copy_from_slice(&[192, 168, 1, 2, 192, 0, 2, 1]);
        packet[20..22].copy_from_slice(&port.to_be_bytes());
        packet[22..26].copy_from_slice(&[0, 9, 0, 8 + octets.len() as u8]);
        packet.extend(octets);
        packet
    }

    fn packet(port: u16) -> Vec<u8> {
        datagram(port, b"")
    }

    #[test]
    fn a_flow_that_falls_silent_ends_at_its_deadline_without_another_frame() {
        let config = Config { idle: Duration::from_secs(20), ..Config::default() };
        let mut node =
            RecognizerNode::new(Recognition::new(None, Limits::default(), config, Vec::new()).unwrap());
        let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
        node.feed(at(0), None, LinkType::RAW, &packet(1)).unwrap();
        assert_eq!(node.deadline(), Some(at(20)));
        node.feed(at(15), None, LinkType::RAW, &packet(1)).unwrap();
        // It has spoken since: looked at, and left until it has been silent long enough.
        node.handle(at(20), Input::Deadline);
        assert!(node.poll_output(at(20)).is_none());
        assert_eq!(node.deadline(), Some(at(35)));
        node.handle(at(35), Input::Deadline);
        assert!(matches!(node.poll_output(at(35)), Some(Output::Event(_))));
        assert_eq!(node.deadline(), None);
    }

    #[test]
    fn a_capture_from_the_end_of_time_keeps_no_live_flow_open() {
        let config = Config { idle: Duration::from_secs(20), ..Config::default() };
        let mut node =
            RecognizerNode::new(Recognition::new(None, Limits::default(), config, Vec::new()).unwrap());
        let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
        let ended = |node: &mut RecognizerNode| {
            std::iter::from_fn(|| node.poll_output(Time::ZERO)).map(|_| 1).sum::<u32>()
        };
        node.feed(at(0), Some(at(5)), LinkType::RAW, &packet(1)).unwrap();
        node.feed(at(0), Some(Time::MAX), LinkType::RAW, &packet(2)).unwrap();
        node.finish(at(0));
        assert_eq!(ended(&mut node), 2);
        // From now on frames are live.
        node.feed(at(10), None, LinkType::RAW, &packet(3)).unwrap();
        // The sweep for the first flow, which is gone, is due by now.
        node.handle(at(10), Input::Deadline);
        assert_eq!((ended(&mut node), node.deadline()), (0, Some(at(30))));
        node.handle(at(30), Input::Deadline);
        assert_eq!((ended(&mut node), node.deadline()), (1, None));
    }

    #[test]
    fn flows_that_fall_silent_together_are_each_told() {
        let config = Config { idle: Duration::from_secs(20), ..Config::default() };
        let mut node =
            RecognizerNode::new(Recognition::new(None, Limits::default(), config, Vec::new()).unwrap());
        let now = Time::ZERO + Duration::from_secs(20);
        for port in 0..5000 {
            node.feed(Time::ZERO, None, LinkType::RAW, &packet(port)).unwrap();
        }
        node.handle(now, Input::Deadline);
        assert_eq!(std::iter::from_fn(|| node.poll_output(now)).count(), 5000);
        assert_eq!(node.recognition().recognizer().counters().verdicts_dropped, 0);
        assert_eq!(node.deadline(), None);
    }

    #[test]
    fn events_that_nobody_pulls_are_bounded_and_no_flow_is_lost() {
        // Each new flow ends the one before it.
        let config = Config { max_flows: 1, ..Config::default() };
        let mut node =
            RecognizerNode::new(Recognition::new(None, Limits::default(), config, Vec::new()).unwrap());
        let mut fed = 0u64;
        let fault = loop {
            match node.feed(Time::ZERO, None, LinkType::RAW, &packet(fed as u16)) {
                Ok(()) => fed += 1,
                Err(fault) => break fault,
            }
        };
        assert_eq!(fault.status, Status::Full);
        assert_eq!(node.events.len(), MAX_WAITING);
        while node.poll_output(Time::ZERO).is_some() {}
        node.feed(Time::ZERO, None, LinkType::RAW, &packet(1)).unwrap();
        assert_eq!(node.recognition().recognizer().counters().flows, fed + 1);
    }

    #[test]
    fn a_flow_is_told_when_it_is_recognised_and_again_only_when_that_changes() {
        let rules = r#"
            [[rule]]
            app_id = 1
            name = "some"
            pattern = '(?#prio=2)^hello'

            [[rule]]
            app_id = 2
            name = "chat"
            pattern = 'chat$'
        "#;
        let mut node = RecognizerNode::new(
            Recognition::new(Some(rules), Limits::default(), Config::default(), Vec::new()).unwrap(),
        );
        let mut told = |octets: &[u8], finish: bool| -> Vec<(EventKind, Option<u64>)> {
            node.feed(Time::ZERO, None, LinkType::RAW, &datagram(7, octets)).unwrap();
            if finish {
                node.finish(Time::ZERO);
            }
            std::iter::from_fn(|| node.poll_output(Time::ZERO))
                .map(|output| match output {
                    Output::Event(event) => (event.kind(), event.u64(Field::App)),
                    other => panic!("{other:?}"),
                })
                .collect()
        };
        assert_eq!(told(b"what", false), []);
        assert_eq!(told(b"hello", false), [(EventKind::Recognised, Some(1))]);
        assert_eq!(told(b"hello", false), []);
        assert_eq!(told(b"a chat", false), [(EventKind::Recognised, Some(2))]);
        assert_eq!(told(b"hello chat", false), []);
        assert_eq!(told(b"more", true), [(EventKind::Flow, Some(2))]);
    }
}
