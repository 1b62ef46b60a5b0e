//! Bringing payload into the order in which it is looked at: TCP streams, QUIC handshakes.

use super::{
    automaton::StateId,
    condition::{Side, Transport},
    flow::{Dialect, Flow},
    inspect::Inspector,
    pool::{Pool, Waiting},
    recognizer::Config,
    ruleset::Context,
    view::quic::{self, Handshake},
};
use crate::wire::packet::{Segment, TcpHeader};

/// How far ahead of its stream a segment may be to be kept.
const AHEAD: u32 = 1 << 16;
/// Segments of one direction that wait; with one more, what they wait for is taken to be lost.
const MAX_WAITING: usize = 6;
/// QUIC packets that are opened for one flow. One that does not open counts as several.
const MAX_OPENINGS: u8 = 8;
const FAILED_OPENING: u8 = 3;

/// What looking at a flow needs beside the flow.
pub(crate) struct Look<'a> {
    pub(crate) inspector: &'a mut Inspector,
    pub(crate) pool: &'a mut Pool,
    pub(crate) pool_limit: usize,
    pub(crate) config: &'a Config,
}

impl Look<'_> {
    /// Looks at the payload that `segment` adds to a flow, which is at `at` in the table.
    pub(crate) fn at(&mut self, flow: &mut Flow, at: u32, side: Side, segment: &Segment<'_>) {
        let context = Context {
            transport: if segment.tcp.is_some() { Transport::Tcp } else { Transport::Udp },
            from: side,
            ports: flow.key.ports,
            payload: segment.payload,
            payload_len: segment.payload_len,
            nth: flow.payloads,
        };
        match &segment.tcp {
            Some(tcp) => self.segment(flow, at, &context, tcp),
            None if segment.payload_len > 0 => self.datagram(flow, at, &context),
            None => {}
        }
    }

    fn datagram(&mut self, flow: &mut Flow, at: u32, context: &Context<'_>) {
        self.inspector.datagram(flow, context, usize::from(self.config.udp_window));
        if flow.openings >= MAX_OPENINGS
            || !self.inspector.wants_hello()
            || !quic::is_initial(context.payload)
        {
            return;
        }
        let known = match flow.pooled {
            true => self.pool.take(at, |waiting| matches!(waiting, Waiting::Handshake(_))),
            false => None,
        };
        let handshake = match known {
            Some(Waiting::Handshake(handshake)) => Some(handshake),
            _ => Handshake::new(context.payload).map(Box::new),
        };
        let Some(mut handshake) = handshake else {
            return;
        };
        let opened = handshake.open(context.payload);
        flow.openings = flow.openings.saturating_add(if opened { 1 } else { FAILED_OPENING });
        let (hello, whole) = handshake.hello();
        if opened && !hello.is_empty() {
            self.inspector.client_hello(flow, context, hello, whole);
        }
        if whole {
            flow.openings = MAX_OPENINGS;
        } else {
            self.wait(flow, at, Waiting::Handshake(handshake));
        }
    }

    fn segment(&mut self, flow: &mut Flow, at: u32, context: &Context<'_>, tcp: &TcpHeader) {
        let direction = &mut flow.directions[context.from as usize];
        let begin = tcp.sequence.wrapping_add(u32::from(tcp.syn));
        if !direction.synced && (tcp.syn || context.payload_len > 0) {
            direction.synced = true;
            direction.next = begin;
        }
        if context.payload_len == 0 || direction.closed {
            return;
        }
        let ahead = begin.wrapping_sub(direction.next);
        if ahead == 0 || ahead > AHEAD {
            self.stream(flow, at, context, begin, context.payload, context.payload_len);
            if flow.pooled {
                self.waiting_segments(flow, at, context);
            }
            return;
        }
        if u32::from(direction.seen) + ahead >= u32::from(self.config.tcp_window) {
            return;
        }
        let octets = context.payload.into();
        let (from, wire_len) = (context.from, context.payload_len);
        self.wait(flow, at, Waiting::Segment { from, sequence: begin, wire_len, octets });
        let waiting = self.pool.of(at).filter(|waiting| is_segment(waiting, from)).count();
        if waiting > MAX_WAITING {
            self.give_up_gap(flow, at, from);
            self.waiting_segments(flow, at, context);
        }
    }

    /// Looks at the part of a segment that continues its stream, if there is any.
    fn stream(
        &mut self,
        flow: &mut Flow,
        at: u32,
        context: &Context<'_>,
        begin: u32,
        octets: &[u8],
        wire_len: u32,
    ) {
        let from = context.from;
        let direction = &mut flow.directions[from as usize];
        let known = direction.next.wrapping_sub(begin);
        if known >= wire_len {
            return;
        }
        direction.next = begin.wrapping_add(wire_len);
        let fresh = octets.get(known as usize..).unwrap_or_default();
        let beginning = match flow.pooled && direction.dialect != Dialect::Done {
            true => self.pool.take(at, |waiting| match waiting {
                Waiting::Beginning { from: side, .. } => *side == from,
                _ => false,
            }),
            false => None,
        };
        let beginning = match beginning {
            Some(Waiting::Beginning { octets, .. }) => Some(octets),
            _ => None,
        };
        let window = usize::from(self.config.tcp_window);
        let waits = self.inspector.stream(flow, context, fresh, window, beginning);
        if (octets.len() as u32) < wire_len {
            // Captured short: what follows does not follow these octets.
            broken(flow, from);
        } else if let Some(octets) = waits {
            self.wait(flow, at, Waiting::Beginning { from, octets });
        }
    }

    /// Looks at segments that waited for what has come.
    fn waiting_segments(&mut self, flow: &mut Flow, at: u32, context: &Context<'_>) {
        let from = context.from;
        loop {
            let direction = flow.directions[from as usize];
            let due = self.pool.take(at, |waiting| match waiting {
                Waiting::Segment { from: side, sequence, .. } => {
                    *side == from && (direction.closed || direction.next.wrapping_sub(*sequence) <= AHEAD)
                }
                _ => false,
            });
            match due {
                Some(Waiting::Segment { sequence, wire_len, octets, .. }) if !direction.closed => {
                    self.stream(flow, at, context, sequence, &octets, wire_len);
                }
                Some(_) => {}
                None => return,
            }
        }
    }

    /// Goes on at the first segment that waits.
    fn give_up_gap(&mut self, flow: &mut Flow, at: u32, from: Side) {
        let next = flow.directions[from as usize].next;
        let nearest = self.pool.of(at).filter_map(|waiting| match waiting {
            Waiting::Segment { from: side, sequence, .. } if *side == from => {
                Some(sequence.wrapping_sub(next))
            }
            _ => None,
        });
        if let Some(nearest) = nearest.min() {
            flow.directions[from as usize].next = next.wrapping_add(nearest);
            broken(flow, from);
        }
    }

    fn wait(&mut self, flow: &mut Flow, at: u32, waiting: Waiting) {
        flow.pooled = true;
        self.pool.put(at, waiting, self.pool_limit);
    }
}

/// A direction's octets are not those that follow the ones before.
fn broken(flow: &mut Flow, from: Side) {
    let direction = &mut flow.directions[from as usize];
    direction.anchored = StateId::DEAD;
    direction.dialect = Dialect::Done;
    if !direction.floating.is_dead() {
        direction.floating = StateId::START;
    }
    direction.closed |= direction.floating.is_dead();
}

fn is_segment(waiting: &Waiting, from: Side) -> bool {
    matches!(waiting, Waiting::Segment { from: side, .. } if *side == from)
}
