//! Many datagrams in one system call: recvmmsg(2) and sendmmsg(2) on Linux, elsewhere one call for each.
#![allow(unsafe_code)]
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

use std::{collections::VecDeque, io, net::SocketAddr};

use mio::net::UdpSocket;

#[cfg(target_os = "linux")]
use self::many as calls;
#[cfg(not(target_os = "linux"))]
use self::single as calls;

/// The most datagrams in one call.
pub(super) const MOST: usize = 64;
/// Octets of a buffer. A datagram that fills it may have been longer.
const ROOM: usize = 2048;

/// What is to be sent.
#[derive(Debug)]
pub(super) struct Datagram {
    /// To whom; `None` on a connected socket.
    pub to: Option<SocketAddr>,
    pub octets: Vec<u8>,
}

/// Buffers that datagrams are received to. Their addresses are as the socket has them: IPv4 is mapped on a socket of both.
pub(super) struct Ring {
    octets: Box<[u8]>,
    /// How long each of the last call is, and where it came from.
    taken: Vec<(usize, SocketAddr)>,
}

impl Ring {
    pub fn new() -> Ring {
        Ring { octets: vec![0; MOST * ROOM].into(), taken: Vec::with_capacity(MOST) }
    }

    /// Takes what waits on a socket, at most so many. Answers how many these are; fewer than asked for are all there were.
    pub fn receive(&mut self, socket: &UdpSocket, at_most: usize) -> io::Result<usize> {
        self.taken.clear();
        calls::receive(socket, &mut self.octets, &mut self.taken, at_most.clamp(1, MOST))?;
        Ok(self.taken.len())
    }

    /// One of the last call, and where it came from; without octets if it may be cut.
    pub fn get(&self, at: usize) -> (Option<&[u8]>, SocketAddr) {
        let (length, from) = self.taken[at];
        ((length < ROOM).then(|| &self.octets[at * ROOM..][..length]), from)
    }
}

/// Sends the first of the queue, at most so many. Answers how many went; an error is about the first.
pub(super) fn send(socket: &UdpSocket, queue: &VecDeque<Datagram>, at_most: usize) -> io::Result<usize> {
    calls::send(socket, queue, at_most.clamp(1, MOST))
}

#[cfg(target_os = "linux")]
mod many {
    use std::{
        mem,
        net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6},
        os::fd::AsRawFd,
        ptr,
    };

    use super::*;

    /// An address as the system has it.
    #[derive(Clone, Copy)]
    #[repr(C)]
    union Name {
        v4: libc::sockaddr_in,
        v6: libc::sockaddr_in6,
    }

    const NAME_LEN: libc::socklen_t = size_of::<Name>() as libc::socklen_t;

    impl Name {
        fn empty() -> Name {
            // SAFETY: the structures are numbers, for which zeros are a value.
            unsafe { mem::zeroed() }
        }

        /// The name and its length.
        fn of(address: SocketAddr) -> (Name, libc::socklen_t) {
            let mut name = Name::empty();
            match address {
                SocketAddr::V4(address) => {
                    name.v4 = libc::sockaddr_in {
                        sin_family: libc::AF_INET as libc::sa_family_t,
                        sin_port: address.port().to_be(),
                        sin_addr: libc::in_addr { s_addr: address.ip().to_bits().to_be() },
                        sin_zero: [0; 8],
                    };
                    (name, size_of::<libc::sockaddr_in>() as libc::socklen_t)
                }
                SocketAddr::V6(address) => {
                    name.v6 = libc::sockaddr_in6 {
                        sin6_family: libc::AF_INET6 as libc::sa_family_t,
                        sin6_port: address.port().to_be(),
                        sin6_flowinfo: address.flowinfo(),
                        sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                        sin6_scope_id: address.scope_id(),
                    };
                    (name, size_of::<libc::sockaddr_in6>() as libc::socklen_t)
                }
            }
        }

        /// `None` for an address of another family, or none.
        fn address(&self, length: libc::socklen_t) -> Option<SocketAddr> {
            // SAFETY: all of the union was initialised, and both have the family at the same place.
            let family = unsafe { self.v4.sin_family };
            match i32::from(family) {
                libc::AF_INET if length as usize >= size_of::<libc::sockaddr_in>() => {
                    // SAFETY: all of the union was initialised, and any octets are a value of these numbers.
                    let name = unsafe { self.v4 };
                    let ip = Ipv4Addr::from_bits(u32::from_be(name.sin_addr.s_addr));
                    Some(SocketAddrV4::new(ip, u16::from_be(name.sin_port)).into())
                }
                libc::AF_INET6 if length as usize >= size_of::<libc::sockaddr_in6>() => {
                    // SAFETY: as above.
                    let name = unsafe { self.v6 };
                    let (ip, port) = (Ipv6Addr::from(name.sin6_addr.s6_addr), u16::from_be(name.sin6_port));
                    Some(SocketAddrV6::new(ip, port, name.sin6_flowinfo, name.sin6_scope_id).into())
                }
                _ => None,
            }
        }
    }

    fn heads() -> ([libc::iovec; MOST], [libc::mmsghdr; MOST]) {
        // SAFETY: the structures are numbers and raw pointers, for which zeros are a value.
        unsafe { (mem::zeroed(), mem::zeroed()) }
    }

    /// `octets` has room for `at_most` buffers, which is not above `MOST`.
    pub fn receive(
        socket: &UdpSocket,
        octets: &mut [u8],
        taken: &mut Vec<(usize, SocketAddr)>,
        at_most: usize,
    ) -> io::Result<()> {
        let asked = at_most.min(octets.len() / ROOM) as libc::c_uint;
        let mut names = [Name::empty(); MOST];
        let (mut vectors, mut heads) = heads();
        for (at, buffer) in octets.chunks_exact_mut(ROOM).take(at_most).enumerate() {
            vectors[at] = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: ROOM };
            let head = &mut heads[at].msg_hdr;
            head.msg_name = (&raw mut names[at]).cast();
            head.msg_namelen = NAME_LEN;
            head.msg_iov = &raw mut vectors[at];
            head.msg_iovlen = 1;
        }
        let (flags, forever) = (libc::MSG_DONTWAIT as _, ptr::null_mut());
        // SAFETY: the first `asked` heads point to names, vectors and buffers of the lengths that they say, all of which
        // outlive the call and are not looked at during it.
        let count = unsafe { libc::recvmmsg(socket.as_raw_fd(), heads.as_mut_ptr(), asked, flags, forever) };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (head, name) in heads.iter().zip(&names).take(count) {
            let nowhere = SocketAddr::from(([0; 4], 0));
            let from = name.address(head.msg_hdr.msg_namelen).unwrap_or(nowhere);
            taken.push((head.msg_len as usize, from));
        }
        Ok(())
    }

    pub fn send(socket: &UdpSocket, queue: &VecDeque<Datagram>, at_most: usize) -> io::Result<usize> {
        let mut names = [Name::empty(); MOST];
        let (mut vectors, mut heads) = heads();
        for (at, datagram) in queue.iter().take(at_most).enumerate() {
            let octets = &datagram.octets;
            vectors[at] = libc::iovec { iov_base: octets.as_ptr().cast_mut().cast(), iov_len: octets.len() };
            let head = &mut heads[at].msg_hdr;
            if let Some(to) = datagram.to {
                (names[at], head.msg_namelen) = Name::of(to);
                head.msg_name = (&raw mut names[at]).cast();
            }
            head.msg_iov = &raw mut vectors[at];
            head.msg_iovlen = 1;
        }
        let asked = queue.len().min(at_most) as libc::c_uint;
        let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _;
        // SAFETY: the first `asked` heads point to names, vectors and octets of the lengths that they say, all of which
        // outlive the call; the octets are only read.
        let count = unsafe { libc::sendmmsg(socket.as_raw_fd(), heads.as_mut_ptr(), asked, flags) };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }
}

#[cfg(any(test, not(target_os = "linux")))]
mod single {
    use super::*;

    pub fn receive(
        socket: &UdpSocket,
        octets: &mut [u8],
        taken: &mut Vec<(usize, SocketAddr)>,
        at_most: usize,
    ) -> io::Result<()> {
        for buffer in octets.chunks_exact_mut(ROOM).take(at_most) {
            match socket.recv_from(buffer) {
                Ok(one) => taken.push(one),
                Err(_) if !taken.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub fn send(socket: &UdpSocket, queue: &VecDeque<Datagram>, at_most: usize) -> io::Result<usize> {
        let mut count = 0;
        for Datagram { to, octets } in queue.iter().take(at_most) {
            let sent = match to {
                Some(to) => socket.send_to(octets, *to),
                None => socket.send(octets),
            };
            match sent {
                Ok(_) => count += 1,
                Err(_) if count > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Receive = fn(&UdpSocket, &mut [u8], &mut Vec<(usize, SocketAddr)>, usize) -> io::Result<()>;
    type Send = fn(&UdpSocket, &VecDeque<Datagram>, usize) -> io::Result<usize>;

    const WAYS: [(Receive, Send); 2] = [
        (calls::receive as Receive, calls::send as Send),
        (single::receive as Receive, single::send as Send),
    ];

    fn pair(address: &str) -> [UdpSocket; 2] {
        [(); 2].map(|()| UdpSocket::bind(address.parse().unwrap()).unwrap())
    }

    fn queue(to: Option<SocketAddr>, lengths: impl Iterator<Item = usize>) -> VecDeque<Datagram> {
        lengths.enumerate().map(|(at, length)| Datagram { to, octets: vec![at as u8; length] }).collect()
    }

    /// All that comes, for as long as it takes the kernel to carry it.
    fn all(
        ring: &mut Ring,
        socket: &UdpSocket,
        receive: Receive,
        count: usize,
    ) -> Vec<(Vec<u8>, SocketAddr)> {
        let mut got = Vec::new();
        while got.len() < count {
            ring.taken.clear();
            match receive(socket, &mut ring.octets, &mut ring.taken, MOST) {
                Ok(()) => got.extend((0..ring.taken.len()).map(|at| {
                    let (octets, from) = ring.get(at);
                    (octets.unwrap_or_default().to_vec(), from)
                })),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        got
    }

    #[test]
    fn every_datagram_comes_as_it_was_sent_and_from_where() {
        for (receive, send) in WAYS {
            for address in ["127.0.0.1:0", "[::1]:0"] {
                let [ours, theirs] = pair(address);
                let (here, there) = (ours.local_addr().unwrap(), theirs.local_addr().unwrap());
                let mut ring = Ring::new();
                let sent = queue(Some(there), 0..100);
                assert_eq!(send(&ours, &sent, MOST).unwrap(), MOST);
                let got = all(&mut ring, &theirs, receive, MOST);
                for (one, (octets, from)) in sent.iter().zip(&got) {
                    assert_eq!((&one.octets, here), (octets, *from));
                }
                // Connected, there is no address to give.
                ours.connect(there).unwrap();
                let sent = queue(None, 3..5);
                assert_eq!(send(&ours, &sent, MOST).unwrap(), 2);
                assert_eq!(all(&mut ring, &theirs, receive, 2)[1], (vec![1; 4], here));
                ring.taken.clear();
                let nothing = receive(&theirs, &mut ring.octets, &mut ring.taken, MOST).unwrap_err();
                assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
            }
        }
    }

    #[test]
    fn what_fills_a_buffer_is_not_handed_on_and_its_neighbours_are() {
        for (receive, send) in WAYS {
            let [ours, theirs] = pair("127.0.0.1:0");
            let to = Some(theirs.local_addr().unwrap());
            let lengths = [16, ROOM - 1, ROOM, 60_000, 16];
            assert_eq!(send(&ours, &queue(to, lengths.into_iter()), MOST).unwrap(), 5);
            let mut ring = Ring::new();
            let got = all(&mut ring, &theirs, receive, 5);
            let lengths: Vec<_> = got.iter().map(|(octets, _)| octets.len()).collect();
            assert_eq!(lengths, [16, ROOM - 1, 0, 0, 16]);
            assert_eq!(got[4].0, [4; 16]);
        }
    }

    #[test]
    fn an_error_is_about_the_first_and_what_went_before_it_is_counted() {
        for (_, send) in WAYS {
            let [ours, theirs] = pair("127.0.0.1:0");
            let to = Some(theirs.local_addr().unwrap());
            // More than UDP carries.
            let mut mixed = queue(to, [16, 16, 70_000, 16].into_iter());
            assert_eq!(send(&ours, &mixed, MOST).unwrap(), 2);
            mixed.drain(..2);
            assert!(send(&ours, &mixed, MOST).is_err());
            mixed.pop_front();
            assert_eq!(send(&ours, &mixed, MOST).unwrap(), 1);
        }
    }

    #[test]
    fn a_call_takes_no_more_than_it_may() {
        for (receive, send) in WAYS {
            let [ours, theirs] = pair("127.0.0.1:0");
            let to = Some(theirs.local_addr().unwrap());
            assert_eq!(send(&ours, &queue(to, 1..9), 3).unwrap(), 3);
            let mut ring = Ring::new();
            receive(&theirs, &mut ring.octets, &mut ring.taken, 2).unwrap();
            assert_eq!(ring.taken.len(), 2);
            assert_eq!(all(&mut ring, &theirs, receive, 1)[0].0, [2; 3]);
        }
    }
}
