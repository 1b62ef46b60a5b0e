//! The balancers that a broker reports to.

use std::{net::SocketAddr, time::Duration};

use super::{Event, EventKind, Field};
use crate::{
    io::{Conn, Input, Output},
    post::balancer::{Load, Uplink, UplinkConfig, UplinkCounters, UplinkOutput},
    rng::Entropy,
    time::Time,
};

/// Set in the names of connections to balancers, which a broker's other connections do not have.
const OURS: u32 = Conn::OURS | 1 << 30;
/// From one report to the next.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// What a broker says of itself to all of them.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    /// For people.
    pub name: String,
    /// Where devices find it.
    pub address: SocketAddr,
    /// The office's key.
    pub link_key: [u8; 32],
    /// Sessions that it can hold.
    pub most: u32,
}

/// One end for each.
#[derive(Default)]
pub(super) struct Balancers {
    lines: Vec<Reporting>,
    outputs: Vec<Output<Event>>,
    next_conn: u32,
}

struct Reporting {
    uplink: Uplink,
    conn: Option<Conn>,
    was_enlisted: bool,
}

impl Balancers {
    /// Reports from now on to so many, by the ways from 1 on. What was said of this broker before holds no more.
    pub fn begin(
        &mut self,
        now: Time,
        listed: &Listed,
        count: usize,
        rng: &mut dyn FnMut() -> Box<dyn Entropy + Send>,
    ) {
        let conns = self.lines.drain(..).filter_map(|line| line.conn);
        self.outputs.extend(conns.map(|conn| Output::Close { conn }));
        for _ in 0..count {
            let mut rng = rng();
            let config = UplinkConfig {
                name: listed.name.clone(),
                epoch: rng.next_u64(),
                address: listed.address,
                link_key: listed.link_key,
                most: listed.most,
                report_every: REPORT_EVERY,
            };
            let uplink = Uplink::new(config, now, rng);
            self.lines.push(Reporting { uplink, conn: None, was_enlisted: false });
        }
    }

    /// How many balancers have this broker.
    pub fn enlisted(&self) -> usize {
        self.lines.iter().filter(|line| line.uplink.is_enlisted()).count()
    }

    /// What was counted, of all of them.
    pub fn counters(&self) -> UplinkCounters {
        let mut all = UplinkCounters::default();
        for counters in self.lines.iter().map(|line| line.uplink.counters()) {
            all.connections += counters.connections;
            all.enlisted += counters.enlisted;
            all.refused += counters.refused;
            all.reports += counters.reports;
            all.lost += counters.lost;
            all.unexpected += counters.unexpected;
        }
        all
    }

    /// Takes an input that is about a connection to a balancer; answers whether it was one.
    pub fn handle(&mut self, now: Time, input: &Input<'_>) -> bool {
        let (Input::Connected { conn, .. } | Input::Received { conn, .. } | Input::Closed { conn, .. }) =
            input
        else {
            return false;
        };
        if conn.0 & OURS != OURS {
            return false;
        }
        if let Some(line) = self.lines.iter_mut().find(|line| line.conn == Some(*conn)) {
            match input {
                Input::Connected { .. } => line.uplink.connected(now),
                Input::Received { octets, .. } => line.uplink.received(now, octets),
                _ => {
                    line.conn = None;
                    line.uplink.closed(now);
                }
            }
        }
        true
    }

    pub fn set_load(&mut self, now: Time, load: Load) {
        self.lines.iter_mut().for_each(|line| line.uplink.set_load(now, load));
    }

    pub fn expire(&mut self, now: Time) {
        self.lines.iter_mut().for_each(|line| line.uplink.handle_deadline(now));
    }

    pub fn deadline(&self) -> Option<Time> {
        self.lines.iter().filter_map(|line| line.uplink.deadline()).min()
    }

    /// The next thing to be done.
    pub fn poll_output(&mut self, now: Time) -> Option<Output<Event>> {
        if let Some(output) = self.outputs.pop() {
            return Some(output);
        }
        for (at, line) in self.lines.iter_mut().enumerate() {
            while let Some(output) = line.uplink.poll_output(now) {
                let warning = |text: String| {
                    Some(Output::Event(Event::new(EventKind::Warning).with_text(Field::Text, text)))
                };
                let output = match output {
                    UplinkOutput::Connect => {
                        let conn = Conn(OURS | self.next_conn);
                        self.next_conn = (self.next_conn + 1) & !OURS;
                        line.conn = Some(conn);
                        Some(Output::Connect { conn, way: 1 + at })
                    }
                    UplinkOutput::Send(octets) => {
                        line.conn.map(|conn| Output::Send { conn, to: None, octets })
                    }
                    UplinkOutput::Close => line.conn.take().map(|conn| Output::Close { conn }),
                    UplinkOutput::Enlisted => {
                        line.was_enlisted = true;
                        None
                    }
                    UplinkOutput::Refused { text, .. } => {
                        line.was_enlisted = false;
                        warning(format!("the balancer does not take this broker: {text}"))
                    }
                    UplinkOutput::Waiting(_) => match std::mem::take(&mut line.was_enlisted) {
                        true => warning("the balancer is gone; it is tried again".to_owned()),
                        false => None,
                    },
                };
                if output.is_some() {
                    return output;
                }
            }
        }
        None
    }
}
