//! A connected stream: TCP, bare or under TLS, with what waits to be written.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::Shutdown,
};

use mio::net::TcpStream;

use super::endpoint::{ClientSecurity, ServerSecurity};
#[cfg(feature = "tls")]
use super::tls::{Counters, ReadStop, Session, WriteStop};
use crate::{
    io::{KeyId, Service},
    status::{Fault, Status},
};

/// Octets read from one stream before another has its turn.
const READ_BUDGET: usize = 128 * 1024;
/// With this much unwritten nothing more is read: who does not take answers gets no new ones.
const HIGH_WATER: usize = 256 * 1024;
/// With this much unwritten the peer is given up.
const LIMIT: usize = 8 * 1024 * 1024;

/// Why reading stopped.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum ReadEnd {
    /// There is no more for now.
    Drained,
    /// There may be more: come again.
    Budget,
    /// The peer ended its side.
    End,
}

/// What streams count.
#[derive(Clone, Copy, Default, Debug)]
pub struct StreamCounters {
    /// Octets that bare streams took in.
    pub octets_in: u64,
    /// Octets that bare streams took out.
    pub octets_out: u64,
    /// What became of TLS connections.
    #[cfg(feature = "tls")]
    pub tls: Counters,
}

pub(super) struct Stream {
    tcp: TcpStream,
    #[cfg(feature = "tls")]
    tls: Option<Box<Session>>,
    /// Octets for the socket: plain, or records that TLS made.
    out: VecDeque<u8>,
    /// No more is to be written than what is queued.
    finishing: bool,
    shut: bool,
    /// What is spoken unless TLS agrees on something.
    service: Service,
}

impl Stream {
    /// A stream that a client opened.
    pub fn accepted(tcp: TcpStream, security: &ServerSecurity, service: Service) -> Result<Stream, Fault> {
        match security {
            ServerSecurity::Plain => Ok(Stream::plain(tcp, service)),
            #[cfg(all(feature = "tls", any(feature = "backend", feature = "post")))]
            ServerSecurity::Tls(config) => Ok(Stream::secure(tcp, Session::server(config)?, service)),
        }
    }

    /// A stream that we opened.
    pub fn dialled(tcp: TcpStream, security: &ClientSecurity, service: Service) -> Result<Stream, Fault> {
        match security {
            ClientSecurity::Plain => Ok(Stream::plain(tcp, service)),
            #[cfg(feature = "tls")]
            ClientSecurity::Tls { config, server_name } => {
                Ok(Stream::secure(tcp, Session::client(config, server_name)?, service))
            }
        }
    }

    pub fn source(&mut self) -> &mut TcpStream {
        &mut self.tcp
    }

    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Whether the peer may be spoken to: TLS has shaken hands.
    pub fn is_ready(&self) -> bool {
        #[cfg(feature = "tls")]
        if let Some(session) = &self.tls {
            return !session.is_handshaking();
        }
        true
    }

    /// The key that the peer proved to hold.
    pub fn peer_key(&self) -> Option<KeyId> {
        #[cfg(feature = "tls")]
        if let Some(session) = &self.tls {
            return session.peer_key();
        }
        None
    }

    /// What is spoken, once the stream is ready.
    pub fn service(&self) -> Service {
        #[cfg(feature = "tls")]
        if let Some(service) = self.tls.as_ref().and_then(|session| Service::from_alpn(session.alpn()?)) {
            return service;
        }
        self.service
    }

    /// Whether reading has to wait until the peer takes what was written.
    pub fn is_congested(&self) -> bool {
        self.out.len() > HIGH_WATER
    }

    /// Queues octets.
    pub fn send(&mut self, octets: &[u8]) -> Result<(), Fault> {
        if self.finishing {
            return Ok(());
        }
        self.out.extend(octets);
        match self.out.len() {
            0..=LIMIT => Ok(()),
            _ => Err(Fault::new(Status::Full, "the peer does not read what it is sent")),
        }
    }

    /// Ends our side once what is queued is written.
    pub fn finish(&mut self) {
        self.finishing = true;
    }

    /// Reads what there is, at most a portion, and appends the plain octets to `into`.
    #[cfg_attr(not(feature = "tls"), allow(unused_variables))]
    pub fn read(
        &mut self,
        scratch: &mut [u8],
        into: &mut Vec<u8>,
        counters: &mut StreamCounters,
    ) -> Result<ReadEnd, Fault> {
        #[cfg(feature = "tls")]
        if let Some(session) = &mut self.tls {
            return read_secure(session, &mut self.tcp, scratch, into, &mut counters.tls);
        }
        let mut taken = 0;
        while taken < READ_BUDGET {
            match self.tcp.read(scratch) {
                Ok(0) => return Ok(ReadEnd::End),
                Ok(count) => {
                    taken += count;
                    counters.octets_in += count as u64;
                    into.extend_from_slice(&scratch[..count]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(ReadEnd::Drained),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(fault("reading", &error)),
            }
        }
        Ok(ReadEnd::Budget)
    }

    /// Writes what the socket takes. What it does not take waits until the kernel says that there is room.
    pub fn write(&mut self, counters: &mut StreamCounters) -> Result<(), Fault> {
        if !self.write_queued(counters)? {
            return Ok(());
        }
        // A queue that was long once must not stay so for ten thousand quiet connections.
        if self.out.capacity() > 4096 {
            self.out.shrink_to(0);
        }
        if self.finishing && !self.shut {
            self.shut = true;
            #[cfg(feature = "tls")]
            if let Some(session) = &mut self.tls {
                session.close();
                session.write_to(&mut self.tcp, usize::MAX, &mut counters.tls)?;
            }
            let _ = self.tcp.shutdown(Shutdown::Write);
        }
        Ok(())
    }

    /// Whether all is written.
    #[cfg_attr(not(feature = "tls"), allow(unused_variables))]
    fn write_queued(&mut self, counters: &mut StreamCounters) -> Result<bool, Fault> {
        #[cfg(feature = "tls")]
        if let Some(session) = &mut self.tls {
            return write_secure(session, &mut self.tcp, &mut self.out, &mut counters.tls);
        }
        while !self.out.is_empty() {
            let (head, _) = self.out.as_slices();
            match self.tcp.write(head) {
                Ok(0) => return Err(Fault::new(Status::Closed, "the connection takes nothing more")),
                Ok(count) => {
                    counters.octets_out += count as u64;
                    self.out.drain(..count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(fault("writing", &error)),
            }
        }
        Ok(true)
    }

    fn plain(tcp: TcpStream, service: Service) -> Stream {
        // Small messages and their answers: waiting for more to send only delays them.
        let _ = tcp.set_nodelay(true);
        Stream {
            tcp,
            #[cfg(feature = "tls")]
            tls: None,
            out: VecDeque::new(),
            finishing: false,
            shut: false,
            service,
        }
    }

    #[cfg(feature = "tls")]
    fn secure(tcp: TcpStream, session: Session, service: Service) -> Stream {
        Stream { tls: Some(Box::new(session)), ..Stream::plain(tcp, service) }
    }
}

#[cfg(feature = "tls")]
fn read_secure(
    session: &mut Session,
    tcp: &mut TcpStream,
    scratch: &mut [u8],
    into: &mut Vec<u8>,
    counters: &mut Counters,
) -> Result<ReadEnd, Fault> {
    loop {
        let stop = session.read_from(tcp, READ_BUDGET, counters);
        loop {
            match session.read(scratch) {
                0 => break,
                count => into.extend_from_slice(&scratch[..count]),
            }
        }
        match stop? {
            ReadStop::Full if into.len() < READ_BUDGET => {}
            ReadStop::Full | ReadStop::Budget => return Ok(ReadEnd::Budget),
            ReadStop::Blocked => return Ok(ReadEnd::Drained),
            ReadStop::Ended => return Ok(ReadEnd::End),
        }
    }
}

#[cfg(feature = "tls")]
fn write_secure(
    session: &mut Session,
    tcp: &mut TcpStream,
    out: &mut VecDeque<u8>,
    counters: &mut Counters,
) -> Result<bool, Fault> {
    loop {
        // Our own words come after the handshake's.
        while !out.is_empty() && !session.is_handshaking() {
            match session.write(out.as_slices().0)? {
                0 => break,
                count => drop(out.drain(..count)),
            }
        }
        match session.write_to(tcp, usize::MAX, counters)? {
            WriteStop::Blocked => return Ok(false),
            _ if out.is_empty() || session.is_handshaking() => return Ok(out.is_empty()),
            _ => {}
        }
    }
}

/// An I/O error, without the peer's address.
pub(super) fn fault(doing: &str, error: &io::Error) -> Fault {
    let status = match error.kind() {
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable => Status::Connect,
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => Status::Closed,
        io::ErrorKind::TimedOut => Status::Timeout,
        _ => Status::Io,
    };
    Fault::new(status, format!("{doing} failed: {error}"))
}
