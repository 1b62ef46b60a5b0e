//! Two sessions and the wires between them, in memory.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, Read, Write},
    sync::Arc,
};

use rustls::{
    ClientConfig, ServerConfig, SupportedProtocolVersion,
    version::{TLS12, TLS13},
};

use super::{
    Counters, Identity, ReadStop, ServerTrust, Session, WriteStop,
    config::{client_config_for, server_config_for},
};
use crate::{io::KeyId, status::Fault};

pub const ALPN: &str = "hail-gw/1";

/// One direction of a socket pair that never blocks.
#[derive(Debug, Default)]
pub struct Wire {
    pub octets: VecDeque<u8>,
    /// The writer is gone.
    pub closed: bool,
    /// The most that one read gives; 0 is no limit.
    pub chunk: usize,
    /// The most that may wait; 0 is no limit.
    pub room: usize,
    /// What the line carries before it goes dead, as if a FIN came in place of the rest; 0 is no limit.
    pub cut: usize,
    /// All that was ever written.
    pub total: usize,
}

impl Read for Wire {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.octets.is_empty() && !self.closed {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let most = if self.chunk == 0 { out.len() } else { out.len().min(self.chunk) };
        self.octets.read(&mut out[..most])
    }
}

impl Write for Wire {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let room = if self.room == 0 { octets.len() } else { self.room.saturating_sub(self.octets.len()) };
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = &octets[..octets.len().min(room)];
        let carried =
            if self.cut == 0 { taken.len() } else { taken.len().min(self.cut.saturating_sub(self.total)) };
        self.octets.extend(&taken[..carried]);
        self.total += taken.len();
        self.closed |= self.cut != 0 && self.total >= self.cut;
        Ok(taken.len())
    }

    fn write_vectored(&mut self, _: &[IoSlice<'_>]) -> io::Result<usize> {
        panic!("raises SIGPIPE on a socket");
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A session with what it met.
pub struct Side {
    pub tls: Session,
    pub counters: Counters,
    pub fault: Option<Fault>,
    pub ended: bool,
    pub got: Vec<u8>,
}

impl Side {
    pub fn new(tls: Session) -> Side {
        Side { tls, counters: Counters::default(), fault: None, ended: false, got: Vec::new() }
    }

    /// Has a finished handshake and no fault.
    pub fn done(&self) -> bool {
        !self.tls.is_handshaking() && self.fault.is_none()
    }

    /// One turn as the driver does it. Says whether anything moved.
    pub fn turn(&mut self, from: &mut Wire, to: &mut Wire) -> bool {
        let before = (from.octets.len(), to.total, self.fault.is_some(), self.ended, self.got.len());
        if self.fault.is_none() {
            loop {
                let stop = self.tls.read_from(from, 1000, &mut self.counters);
                self.take();
                match stop {
                    Ok(ReadStop::Blocked) => break,
                    Ok(ReadStop::Ended) => {
                        self.ended = true;
                        break;
                    }
                    Ok(ReadStop::Budget | ReadStop::Full) => {}
                    Err(fault) => {
                        self.fault = Some(fault);
                        break;
                    }
                }
            }
        }
        while self.tls.write_to(to, 1000, &mut self.counters) == Ok(WriteStop::Budget) {}
        to.closed |= self.fault.is_some();
        before != (from.octets.len(), to.total, self.fault.is_some(), self.ended, self.got.len())
    }

    pub fn take(&mut self) {
        let mut buffer = [0; 3000];
        loop {
            match self.tls.read(&mut buffer) {
                0 => return,
                octets => self.got.extend(&buffer[..octets]),
            }
        }
    }
}

/// A client and a server.
pub struct Pair {
    pub client: Side,
    pub server: Side,
    pub up: Wire,
    pub down: Wire,
}

impl Pair {
    pub fn new(client: &Arc<ClientConfig>, name: &str, server: &Arc<ServerConfig>) -> Pair {
        Pair {
            client: Side::new(Session::client(client, name).unwrap()),
            server: Side::new(Session::server(server).unwrap()),
            up: Wire::default(),
            down: Wire::default(),
        }
    }

    /// Until nothing moves.
    pub fn run(&mut self) {
        while self.step() {}
    }

    pub fn step(&mut self) -> bool {
        self.client.turn(&mut self.down, &mut self.up) | self.server.turn(&mut self.up, &mut self.down)
    }

    pub fn faults(&self) -> (Option<&Fault>, Option<&Fault>) {
        (self.client.fault.as_ref(), self.server.fault.as_ref())
    }
}

pub const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// Configurations of two ends that trust each other; resumption off on the client, so that every handshake is whole.
pub struct Ends {
    pub client: Arc<ClientConfig>,
    pub server: Arc<ServerConfig>,
    /// The client's and the server's.
    pub keys: (KeyId, KeyId),
}

impl Ends {
    pub fn new(version: &'static SupportedProtocolVersion) -> Ends {
        let (server, client) = (Identity::generate("server").unwrap(), Identity::generate("client").unwrap());
        let keys = (client.key_id(), server.key_id());
        let pin = ServerTrust::Pin(vec![keys.1]);
        let mut config = (*client_config_for(&[version], Some(&client), pin, &[ALPN]).unwrap()).clone();
        config.resumption = rustls::client::Resumption::disabled();
        let server = server_config_for(&[version], &[&server], &[ALPN]).unwrap();
        Ends { client: Arc::new(config), server, keys }
    }

    pub fn pair(&self) -> Pair {
        Pair::new(&self.client, "server", &self.server)
    }

    pub fn shaken(&self) -> Pair {
        let mut pair = self.pair();
        pair.run();
        assert!(pair.client.done() && pair.server.done(), "{:?}", pair.faults());
        pair
    }
}
