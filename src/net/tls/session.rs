//! One TLS connection as a buffered transformer: the driver's socket on one side, octets of a part on the other.
//!
//! A turn of an edge-triggered driver, after which nothing waits unseen:
//!
//! 1. [`read_from`](Session::read_from) the socket; on [`ReadStop::Full`] and after every other stop, take all plaintext
//!    with [`read`](Session::read). After `Full` or `Budget` there may be more to read: come again without an edge.
//! 2. [`write_to`](Session::write_to) the socket, always, also after a fault: handshake answers and alerts go that way.
//!
//! Memory is bounded: at most [`PLAINTEXT_LIMIT`] octets and one read's records (20 KiB) of plaintext in,
//! [`WRITE_LIMIT`] out, and a handshake of [`SERVER_HANDSHAKE_LIMIT`] or [`CLIENT_HANDSHAKE_LIMIT`] octets. How long a
//! handshake may take is the driver's to bound.

use std::{
    io::{self, Read, Write},
    sync::Arc,
};

use rustls::{
    ClientConfig, ClientConnection, Connection, HandshakeKind, ProtocolVersion, ServerConfig,
    ServerConnection, pki_types::ServerName,
};

use super::{Counters, fault, keys::key_id_of};
use crate::{
    io::KeyId,
    status::{Fault, Status},
};

/// With this much plaintext waiting, nothing more is read from the socket.
pub const PLAINTEXT_LIMIT: usize = 16 * 1024;
/// The most that waits to be written to the socket.
pub const WRITE_LIMIT: usize = 64 * 1024;
/// What a client may send a server before the handshake is finished: it is a stranger until then. Room for its
/// certificates ([`CLIENT_CERTIFICATE_LIMIT`](super::CLIENT_CERTIFICATE_LIMIT)) and for two hellos with a ticket, which
/// holds them too.
pub const SERVER_HANDSHAKE_LIMIT: usize = 32 * 1024;
/// What a server may send a client before the handshake is finished: room for a long chain of authorities.
pub const CLIENT_HANDSHAKE_LIMIT: usize = 48 * 1024;

/// Why [`Session::read_from`] stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadStop {
    /// The socket has no more: it tells when it does.
    Blocked,
    /// The budget is used up: there may be more.
    Budget,
    /// [`PLAINTEXT_LIMIT`] is reached: take the plaintext, there may be more behind it.
    Full,
    /// The peer said goodbye: nothing more will come. What is waiting can still be taken.
    Ended,
}

/// Why [`Session::write_to`] stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteStop {
    /// Everything is written.
    Done,
    /// The socket takes no more: it tells when it does.
    Blocked,
    /// The budget is used up: there is more.
    Budget,
}

/// A client's or server's end of one TLS connection.
#[derive(Debug)]
pub struct Session {
    tls: Connection,
    needs_alpn: bool,
    /// Octets that the peer may still send before its handshake is finished, and how many they were at first.
    handshake_left: usize,
    handshake_limit: usize,
    /// Plaintext that waits in rustls.
    waiting: usize,
    /// The handshake is finished and everything that we ask of it holds.
    established: bool,
    peer: Option<KeyId>,
    ended: bool,
    closing: bool,
    failed: Option<Fault>,
}

impl Session {
    /// The connecting end. `server_name` is a host name or an IP address without brackets: what the server's certificate
    /// must name (unless it is pinned), and what its SNI asks for.
    ///
    /// # Errors
    /// `Config` when it is neither.
    pub fn client(config: &Arc<ClientConfig>, server_name: &str) -> Result<Session, Fault> {
        let name = ServerName::try_from(server_name.to_owned()).map_err(|_| {
            Fault::new(Status::Config, "the server's name is neither a host name nor an IP address")
        })?;
        let needs_alpn = !config.alpn_protocols.is_empty();
        let tls = ClientConnection::new(config.clone(), name)
            .map_err(|error| Fault::new(Status::Tls, format!("TLS cannot start: {error}")))?;
        Ok(Session::new(tls.into(), needs_alpn, CLIENT_HANDSHAKE_LIMIT))
    }

    /// The listening end, for a connection that was accepted.
    ///
    /// # Errors
    /// `Tls` when the configuration contradicts itself, which those of [`server_config`](super::server_config) do not.
    pub fn server(config: &Arc<ServerConfig>) -> Result<Session, Fault> {
        let tls = ServerConnection::new(config.clone())
            .map_err(|error| Fault::new(Status::Tls, format!("TLS cannot start: {error}")))?;
        Ok(Session::new(tls.into(), false, SERVER_HANDSHAKE_LIMIT))
    }

    /// Reads from the socket until it would block, `budget` octets are read (and up to 4 KiB more), enough plaintext
    /// waits, or the peer is done.
    ///
    /// # Errors
    /// Final, and the same again on every later call: `Identity` when the peer is not the trusted one, `Tls` when the
    /// handshake or protocol fails, `Closed` when the connection ends without a TLS goodbye, `Io` and `Timeout` from the
    /// socket. What came before the fault can still be [`read`](Session::read).
    pub fn read_from(
        &mut self,
        socket: &mut impl Read,
        budget: usize,
        counters: &mut Counters,
    ) -> Result<ReadStop, Fault> {
        if let Some(fault) = &self.failed {
            return Err(fault.clone());
        }
        let mut total = 0;
        loop {
            if self.ended {
                return Ok(ReadStop::Ended);
            }
            if self.waiting >= PLAINTEXT_LIMIT {
                counters.paused += 1;
                return Ok(ReadStop::Full);
            }
            if total >= budget {
                return Ok(ReadStop::Budget);
            }
            match self.tls.read_tls(socket) {
                Ok(0) => return Err(self.fail(fault::truncated(!self.established, counters))),
                Ok(octets) => {
                    total += octets;
                    self.process(octets, counters)?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(ReadStop::Blocked),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // rustls itself, when one message of the peer outgrows its buffer of 64 KiB.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(self.fail(fault::oversize(0xffff, counters)));
                }
                Err(error) => return Err(self.fail(fault::of_socket(&error, counters))),
            }
        }
    }

    /// Writes what waits to the socket, until all is written, it would block, or `budget` octets are written (and up to
    /// 16 KiB more). Of use after a fault too: an alert may tell the peer why.
    ///
    /// # Errors
    /// `Closed`, `Io` or `Timeout` when the socket fails: final.
    pub fn write_to(
        &mut self,
        socket: &mut impl Write,
        budget: usize,
        counters: &mut Counters,
    ) -> Result<WriteStop, Fault> {
        let mut total = 0;
        while self.tls.wants_write() {
            if total >= budget {
                return Ok(WriteStop::Budget);
            }
            match self.tls.write_tls(&mut Plain(socket)) {
                Ok(0) => {
                    let error = io::ErrorKind::WriteZero.into();
                    return Err(self.fail(fault::of_socket(&error, counters)));
                }
                Ok(octets) => total += octets,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(WriteStop::Blocked),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.fail(fault::of_socket(&error, counters))),
            }
        }
        Ok(WriteStop::Done)
    }

    /// Takes plaintext that came from the peer, and says how much: 0 when none waits. Nothing is given out before the
    /// handshake is finished and the peer is what we asked for.
    pub fn read(&mut self, out: &mut [u8]) -> usize {
        if !self.established {
            return 0;
        }
        // An empty buffer is an error to rustls once the connection ended, and nothing to us.
        let octets = self.tls.reader().read(out).unwrap_or(0);
        self.waiting = self.waiting.saturating_sub(octets);
        octets
    }

    /// Takes plaintext for the peer, and says how much: less than given, or 0, when [`WRITE_LIMIT`] is reached or the
    /// handshake is not finished. Write the socket and offer the rest again.
    ///
    /// # Errors
    /// `State` after [`close`](Session::close), or the fault that ended the session.
    pub fn write(&mut self, octets: &[u8]) -> Result<usize, Fault> {
        match &self.failed {
            Some(fault) => Err(fault.clone()),
            None if self.closing => Err(Fault::new(Status::State, "the TLS connection is closing")),
            None if !self.established => Ok(0),
            None => Ok(self
                .tls
                .writer()
                .write(octets)
                .expect("rustls refuses only after a fault, and there was none")),
        }
    }

    /// Says goodbye: nothing more can be written, and the peer knows that nothing is missing. What waits still has to be
    /// written to the socket.
    pub fn close(&mut self) {
        if !self.closing {
            self.closing = true;
            self.tls.send_close_notify();
        }
    }

    /// Whether the handshake is not finished yet (or failed).
    pub fn is_handshaking(&self) -> bool {
        !self.established
    }

    /// Whether there is something for the socket.
    pub fn wants_write(&self) -> bool {
        self.tls.wants_write()
    }

    /// Plaintext that waits to be taken, in octets.
    pub fn readable(&self) -> usize {
        if self.established { self.waiting } else { 0 }
    }

    /// The name of the key that the peer proved to hold; `None` before the handshake is finished, and for a client that
    /// showed no certificate.
    pub fn peer_key(&self) -> Option<KeyId> {
        self.peer
    }

    /// The protocol that both agreed on.
    pub fn alpn(&self) -> Option<&str> {
        self.tls.alpn_protocol().and_then(|name| std::str::from_utf8(name).ok())
    }

    /// The version of TLS that both agreed on.
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.tls.protocol_version()
    }

    fn new(mut tls: Connection, needs_alpn: bool, handshake_limit: usize) -> Session {
        tls.set_buffer_limit(Some(WRITE_LIMIT));
        Session {
            tls,
            needs_alpn,
            handshake_left: handshake_limit,
            handshake_limit,
            waiting: 0,
            established: false,
            peer: None,
            ended: false,
            closing: false,
            failed: None,
        }
    }

    fn process(&mut self, octets: usize, counters: &mut Counters) -> Result<(), Fault> {
        let state = match self.tls.process_new_packets() {
            Ok(state) => state,
            Err(error) => return Err(self.fail(fault::of_tls(&error, counters))),
        };
        self.waiting = state.plaintext_bytes_to_read();
        if !self.established {
            if self.tls.is_handshaking() {
                // All that came so far belongs to the handshake.
                self.handshake_left = self.handshake_left.saturating_sub(octets);
                if self.handshake_left == 0 {
                    return Err(self.refuse(fault::oversize(self.handshake_limit, counters)));
                }
            } else {
                self.establish(counters)?;
            }
        }
        if state.peer_has_closed() {
            if !self.established {
                return Err(self.fail(fault::truncated(true, counters)));
            }
            self.ended = true;
        }
        Ok(())
    }

    fn establish(&mut self, counters: &mut Counters) -> Result<(), Fault> {
        // rustls refuses names that differ. A server that names none may be anybody's; a client that names none wants what
        // a listener is for first.
        if self.needs_alpn && self.tls.alpn_protocol().is_none() {
            return Err(self.refuse(fault::no_alpn(counters)));
        }
        if let Some(certificate) = self.tls.peer_certificates().and_then(|chain| chain.first()) {
            match key_id_of(certificate) {
                Ok(key) => self.peer = Some(key),
                Err(fault) => return Err(self.refuse(fault)),
            }
        }
        counters.handshakes += 1;
        counters.resumed += u64::from(self.tls.handshake_kind() == Some(HandshakeKind::Resumed));
        self.established = true;
        Ok(())
    }

    /// Fails for a reason of ours, of which rustls tells the peer nothing by itself.
    fn refuse(&mut self, fault: Fault) -> Fault {
        self.close();
        self.fail(fault)
    }

    fn fail(&mut self, fault: Fault) -> Fault {
        self.failed.insert(fault).clone()
    }
}

/// Writes with plain `write`. `write_vectored` of a socket has no MSG_NOSIGNAL, so a peer that is gone would kill the
/// host process with SIGPIPE.
struct Plain<'a, W>(&'a mut W);

impl<W: Write> Write for Plain<'_, W> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use rustls::version::TLS13;

    use super::{super::testing::*, *};

    fn flush(side: &mut Side, wire: &mut Wire) {
        assert_eq!(side.tls.write_to(wire, usize::MAX, &mut side.counters), Ok(WriteStop::Done));
    }

    #[test]
    fn one_octet_at_a_time() {
        for version in VERSIONS {
            let mut pair = Ends::new(version).pair();
            (pair.up.chunk, pair.down.chunk) = (1, 1);
            pair.run();
            assert!(pair.client.done() && pair.server.done(), "{:?}", pair.faults());
            assert_eq!(pair.client.tls.write(b"one by one"), Ok(10));
            assert_eq!(pair.server.tls.write(b"and back"), Ok(8));
            pair.run();
            assert_eq!((&pair.server.got[..], &pair.client.got[..]), (&b"one by one"[..], &b"and back"[..]));
        }
    }

    #[test]
    fn nothing_is_taken_or_known_before_the_handshake_is_finished() {
        for version in VERSIONS {
            let mut pair = Ends::new(version).pair();
            (pair.up.chunk, pair.down.chunk) = (1, 1);
            let mut steps = 0;
            while !(pair.client.done() && pair.server.done()) {
                for side in [&mut pair.client, &mut pair.server] {
                    if side.tls.is_handshaking() {
                        assert_eq!(side.tls.write(b"early"), Ok(0));
                        assert_eq!((side.tls.peer_key(), side.tls.readable()), (None, 0));
                        assert_eq!(side.tls.read(&mut [0; 8]), 0);
                    }
                }
                assert!(pair.step());
                steps += 1;
            }
            assert!(steps > 1);
            assert_eq!((pair.client.got.len(), pair.server.got.len()), (0, 0));
        }
    }

    #[test]
    fn plaintext_in_is_bounded_and_nothing_is_lost() {
        for version in VERSIONS {
            let mut pair = Ends::new(version).shaken();
            let sent: Vec<u8> = (0..300_000u32).map(|at| ((at * 7) >> 3) as u8).collect();
            let (mut given, mut stalls) = (0, 0);
            while pair.client.got.len() < sent.len() {
                given += pair.server.tls.write(&sent[given..]).unwrap();
                flush(&mut pair.server, &mut pair.down);
                loop {
                    let client = &mut pair.client;
                    let stop =
                        client.tls.read_from(&mut pair.down, usize::MAX, &mut client.counters).unwrap();
                    assert!(client.tls.readable() < PLAINTEXT_LIMIT + 20 * 1024, "{}", client.tls.readable());
                    if stop == ReadStop::Full {
                        stalls += 1;
                        let left = pair.down.octets.len();
                        // It stays so, however often it is called.
                        let again = client.tls.read_from(&mut pair.down, usize::MAX, &mut client.counters);
                        assert_eq!((again, pair.down.octets.len()), (Ok(ReadStop::Full), left));
                    }
                    client.take();
                    assert_eq!(client.tls.readable(), 0);
                    if stop == ReadStop::Blocked {
                        break;
                    }
                }
            }
            assert!(pair.client.got == sent);
            assert!(stalls > 1);
            assert_eq!(pair.client.counters.paused, 2 * stalls);
        }
    }

    #[test]
    fn plaintext_out_is_bounded_and_nothing_is_lost() {
        for version in VERSIONS {
            let mut pair = Ends::new(version).shaken();
            let sent: Vec<u8> = (0..200_000u32).map(|at| ((at * 5) >> 2) as u8).collect();
            let mut given = pair.client.tls.write(&sent).unwrap();
            assert_eq!(given, WRITE_LIMIT);
            assert_eq!(pair.client.tls.write(&sent[given..]), Ok(0));
            // A peer that does not read: the socket fills, and we hold no more than before.
            pair.up.room = 1000;
            let client = &mut pair.client;
            assert_eq!(
                client.tls.write_to(&mut pair.up, usize::MAX, &mut client.counters),
                Ok(WriteStop::Blocked)
            );
            assert!(client.tls.wants_write());
            given += client.tls.write(&sent[given..]).unwrap();
            assert!(given <= WRITE_LIMIT + 1000);
            pair.up.room = 5000;
            while pair.server.got.len() < sent.len() {
                given += pair.client.tls.write(&sent[given..]).unwrap();
                assert!(pair.step());
            }
            assert!(pair.server.got == sent);
            assert!(!pair.client.tls.wants_write());
        }
    }

    #[test]
    fn budgets_stop_and_go_on() {
        let mut pair = Ends::new(&TLS13).shaken();
        assert_eq!(pair.client.tls.write(&[7; 60_000]), Ok(60_000));
        let client = &mut pair.client;
        assert_eq!(client.tls.write_to(&mut pair.up, 0, &mut client.counters), Ok(WriteStop::Budget));
        assert_eq!(pair.up.octets.len(), 0);
        assert_eq!(client.tls.write_to(&mut pair.up, 1, &mut client.counters), Ok(WriteStop::Budget));
        assert!((1..17 * 1024).contains(&pair.up.octets.len()));
        flush(client, &mut pair.up);

        let (server, before) = (&mut pair.server, pair.up.octets.len());
        assert_eq!(server.tls.read_from(&mut pair.up, 0, &mut server.counters), Ok(ReadStop::Budget));
        assert_eq!(pair.up.octets.len(), before);
        assert_eq!(server.tls.read_from(&mut pair.up, 5000, &mut server.counters), Ok(ReadStop::Budget));
        assert!((5000..9200).contains(&(before - pair.up.octets.len())));
        pair.run();
        assert_eq!(pair.server.got, [7; 60_000]);
    }

    #[test]
    fn goodbyes() {
        for version in VERSIONS {
            let mut pair = Ends::new(version).shaken();
            pair.client.tls.write(b"last words").unwrap();
            pair.client.tls.close();
            pair.client.tls.close();
            assert_eq!(pair.client.tls.write(b"more").unwrap_err().status, Status::State);
            pair.run();
            assert_eq!((&pair.server.got[..], pair.server.ended), (&b"last words"[..], true));
            // Only that direction is over.
            assert_eq!(pair.server.tls.write(b"answer"), Ok(6));
            pair.server.tls.close();
            pair.run();
            assert_eq!((&pair.client.got[..], pair.client.ended), (&b"answer"[..], true));
            (pair.up.closed, pair.down.closed) = (true, true);
            pair.run();
            assert_eq!(pair.faults(), (None, None));
        }
    }

    #[test]
    fn a_cut_is_told_from_a_goodbye() {
        for version in VERSIONS {
            let mut pair = Ends::new(version).shaken();
            pair.client.tls.write(b"all of it").unwrap();
            flush(&mut pair.client, &mut pair.up);
            pair.up.closed = true;
            let server = &mut pair.server;
            let fault = server.tls.read_from(&mut pair.up, usize::MAX, &mut server.counters).unwrap_err();
            assert_eq!((fault.status, server.counters.truncated), (Status::Closed, 1));
            assert!(fault.detail.contains("goodbye"), "{fault}");
            // What came before it is there, and the fault stays.
            server.take();
            assert_eq!(server.got, b"all of it");
            assert_eq!(
                server.tls.read_from(&mut pair.up, usize::MAX, &mut server.counters),
                Err(fault.clone())
            );
            assert_eq!(server.tls.write(b"x"), Err(fault));
            assert_eq!(server.counters.truncated, 1);
        }
    }

    #[test]
    fn a_peer_without_tls_is_told_as_such() {
        let ends = Ends::new(&TLS13);
        for words in
            [&b"GET / HTTP/1.1\r\n\r\n"[..], &[1, 2, 0, 20, 0, 0, 0, 0, 0, 0], &[0; 64], b"SSH-2.0-x\r\n"]
        {
            let mut pair = ends.pair();
            pair.up.octets.extend(words);
            let (server, client) = (&mut pair.server, &mut pair.client);
            let fault = server.tls.read_from(&mut pair.up, usize::MAX, &mut server.counters).unwrap_err();
            assert_eq!((fault.status, server.counters.bad_protocol), (Status::Tls, 1));
            assert!(fault.detail.contains("does not speak TLS"), "{words:?}: {fault}");
            pair.down.octets.extend(words);
            let fault = client.tls.read_from(&mut pair.down, usize::MAX, &mut client.counters).unwrap_err();
            assert!(fault.detail.contains("does not speak TLS"), "{words:?}: {fault}");
        }
    }

    #[test]
    fn a_handshake_has_a_largest_size() {
        let ends = Ends::new(&TLS13);
        // One handshake message of 60,000 octets, in records of 1,000, that never ends.
        let message = |kind: u8| {
            let mut octets = vec![kind, 0, 0xea, 0x60];
            octets.resize(60_004, 0);
            octets
                .chunks(1000)
                .flat_map(|part| [&[22, 3, 3, 3, 0xe8][..], part].concat())
                .collect::<Vec<u8>>()
        };
        for (up, kind, limit) in [(true, 1, SERVER_HANDSHAKE_LIMIT), (false, 2, CLIENT_HANDSHAKE_LIMIT)] {
            let mut pair = ends.pair();
            let (side, wire) =
                if up { (&mut pair.server, &mut pair.up) } else { (&mut pair.client, &mut pair.down) };
            let octets = message(kind);
            wire.octets.extend(&octets[..limit - 1]);
            assert_eq!(side.tls.read_from(wire, usize::MAX, &mut side.counters), Ok(ReadStop::Blocked));
            wire.octets.extend(&octets[limit - 1..limit]);
            let fault = side.tls.read_from(wire, usize::MAX, &mut side.counters).unwrap_err();
            assert_eq!((fault.status, side.counters.oversize), (Status::Tls, 1));
            assert!(fault.detail.contains(&limit.to_string()), "{fault}");
        }
    }

    /// A socket that gives these errors, one a call.
    struct Broken(Vec<io::ErrorKind>);

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(self.0.remove(0).into())
        }
    }

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.remove(0).into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn socket_errors() {
        use io::ErrorKind::*;
        let ends = Ends::new(&TLS13);
        for (kind, status) in [
            (ConnectionReset, Status::Closed),
            (BrokenPipe, Status::Closed),
            (TimedOut, Status::Timeout),
            (HostUnreachable, Status::Io),
            (InvalidData, Status::Tls),
        ] {
            let mut client = Side::new(Session::client(&ends.client, "server").unwrap());
            let mut socket = Broken(vec![Interrupted, WouldBlock, Interrupted, kind]);
            let read = client.tls.read_from(&mut socket, usize::MAX, &mut client.counters);
            assert_eq!(read, Ok(ReadStop::Blocked));
            let fault = client.tls.read_from(&mut socket, usize::MAX, &mut client.counters).unwrap_err();
            assert_eq!(fault.status, status);
            assert!(socket.0.is_empty());
            if kind != InvalidData {
                let mut client = Side::new(Session::client(&ends.client, "server").unwrap());
                let mut socket = Broken(vec![Interrupted, WouldBlock, Interrupted, kind]);
                let written = client.tls.write_to(&mut socket, usize::MAX, &mut client.counters);
                assert_eq!(written, Ok(WriteStop::Blocked));
                let fault = client.tls.write_to(&mut socket, usize::MAX, &mut client.counters).unwrap_err();
                assert_eq!(fault.status, status);
            }
        }
        let mut client = Side::new(Session::client(&ends.client, "server").unwrap());
        let full = client.tls.write_to(&mut &mut [][..], usize::MAX, &mut client.counters);
        assert_eq!(full.unwrap_err().status, Status::Closed);
    }

    #[test]
    fn server_names() {
        let ends = Ends::new(&TLS13);
        for name in ["backend.example", "localhost", "127.0.0.1", "::1", "2001:db8::7"] {
            Session::client(&ends.client, name).unwrap();
        }
        for name in ["", "[::1]", "a b", "-x-", "x..y"] {
            assert_eq!(Session::client(&ends.client, name).unwrap_err().status, Status::Config, "{name}");
        }
    }
}
