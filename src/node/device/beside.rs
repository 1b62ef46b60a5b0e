//! The other port of a device, from which it asks whether the office's datagrams still arrive where its session is.

use super::{DeviceNode, Event};
use crate::io::{Conn, Output, Transport};

/// A datagram that waits for a socket of its own, which has no other purpose.
#[derive(Default)]
pub(super) struct Beside(Option<(Conn, Vec<u8>)>);

impl DeviceNode {
    /// Sends a datagram to where the session's go, from another port. Nothing ever comes there.
    pub(super) fn send_beside(&mut self, octets: Vec<u8>) -> Option<Output<Event>> {
        let line = self.conn.as_ref().filter(|line| line.transport == Some(Transport::Datagram));
        let Some(to) = line.and_then(|line| line.remote) else {
            self.client.only_port();
            return None;
        };
        let conn = self.new_conn();
        if let Some((before, _)) = self.beside.0.replace((conn, octets)) {
            self.outputs.push_back(Output::Close { conn: before });
        }
        Some(Output::Reach { conn, to })
    }

    /// Answers whether it was this socket.
    pub(super) fn beside_connected(&mut self, ready: Conn) -> bool {
        let Some((conn, octets)) = self.beside.0.take_if(|(conn, _)| *conn == ready) else { return false };
        self.outputs.extend([Output::Send { conn, to: None, octets }, Output::Close { conn }]);
        true
    }

    pub(super) fn beside_closed(&mut self, gone: Conn) {
        self.beside.0.take_if(|(conn, _)| *conn == gone);
    }
}
