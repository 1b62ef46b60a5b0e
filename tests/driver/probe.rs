//! A node that does as it is told and remembers what it was told.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use hailpost::{
    io::{Conn, Input, Output, Peer},
    net::{Loop, NodeId},
    node::{Event, Node},
    status::Fault,
    time::Time,
};

/// What it was told, in its own words.
#[derive(Debug)]
pub enum Told {
    Accepted(Conn, Peer),
    Connected(Conn, Peer),
    Received(Conn, Option<SocketAddr>, Vec<u8>),
    Closed(Conn, Option<Fault>),
    NetworkChanged,
}

#[derive(Default)]
pub struct Probe {
    pub told: Vec<Told>,
    pub outputs: VecDeque<Output<Event>>,
    /// Sends back what it gets.
    pub echoes: bool,
    /// What each commit makes it want, while there is something to commit.
    pub after_commit: VecDeque<Output<Event>>,
    /// Batches that wait for a commit.
    pub uncommitted: usize,
    /// Each output makes a batch.
    pub keeps: bool,
    pub commits: usize,
}

impl Probe {
    pub fn accepted(&self) -> impl Iterator<Item = (Conn, Peer)> {
        self.told.iter().filter_map(|told| match told {
            Told::Accepted(conn, peer) => Some((*conn, *peer)),
            _ => None,
        })
    }

    pub fn connected(&self) -> impl Iterator<Item = (Conn, Peer)> {
        self.told.iter().filter_map(|told| match told {
            Told::Connected(conn, peer) => Some((*conn, *peer)),
            _ => None,
        })
    }

    pub fn closed(&self) -> impl Iterator<Item = (Conn, Option<&Fault>)> {
        self.told.iter().filter_map(|told| match told {
            Told::Closed(conn, fault) => Some((*conn, fault.as_ref())),
            _ => None,
        })
    }

    pub fn received(&self) -> impl Iterator<Item = (Conn, Option<SocketAddr>, &[u8])> {
        self.told.iter().filter_map(|told| match told {
            Told::Received(conn, from, octets) => Some((*conn, *from, &octets[..])),
            _ => None,
        })
    }
}

impl Node for Probe {
    fn handle(&mut self, _: Time, input: Input<'_>) {
        self.told.push(match input {
            Input::Accepted { conn, peer } => Told::Accepted(conn, peer),
            Input::Connected { conn, peer } => Told::Connected(conn, peer),
            Input::Received { conn, from, octets } => {
                if self.echoes {
                    self.outputs.push_back(Output::Send { conn, to: from, octets: octets.to_vec() });
                }
                Told::Received(conn, from, octets.to_vec())
            }
            Input::Closed { conn, fault } => Told::Closed(conn, fault),
            Input::NetworkChanged => Told::NetworkChanged,
            Input::Stored { .. } | Input::Clock { .. } | Input::Deadline => return,
        });
    }

    fn poll_output(&mut self, _: Time) -> Option<Output<Event>> {
        let output = self.outputs.pop_front()?;
        self.uncommitted += usize::from(self.keeps);
        Some(output)
    }

    fn flush(&mut self, _: Time) -> bool {
        if std::mem::take(&mut self.uncommitted) == 0 {
            return false;
        }
        self.commits += 1;
        self.outputs.extend(self.after_commit.pop_front());
        true
    }

    fn deadline(&self) -> Option<Time> {
        None
    }
}

/// Turns loops until something is so.
pub fn until(loops: &mut [&mut Loop], mut done: impl FnMut(&mut [&mut Loop]) -> bool) {
    let start = Instant::now();
    while !done(loops) {
        assert!(start.elapsed() < Duration::from_secs(20), "never came");
        for net in loops.iter_mut() {
            net.wait(Some(Duration::from_millis(1))).unwrap();
            while net.next_event().is_some() {}
        }
    }
}

pub fn probe(net: &Loop, id: NodeId) -> &Probe {
    net.get(id).unwrap()
}

/// Has a node want something.
pub fn want(net: &mut Loop, id: NodeId, output: Output<Event>) {
    net.with(id, |node: &mut Probe, _| node.outputs.push_back(output)).unwrap();
}
