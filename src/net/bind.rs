//! Listening sockets: of both families where the address is, and with room for what a million sessions send at once.

use std::{io, net::SocketAddr};

use mio::net::{TcpListener, UdpSocket};
use socket2::{Domain, SockAddr, Socket, Type};

/// What a socket of the link may keep in the kernel in each direction, if the system lets it (`net.core.rmem_max`,
/// `wmem_max`). A commit of the store takes milliseconds, in which hundreds of heartbeats come.
const ROOM: usize = 4 << 20;
/// Connections that wait to be taken, if the system lets them (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// A listener for streams.
pub(super) fn streams(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bound(address, Type::STREAM)?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// A socket for datagrams of many peers.
pub(super) fn datagrams(address: SocketAddr, is_busy: bool) -> io::Result<UdpSocket> {
    let socket = bound(address, Type::DGRAM)?;
    if is_busy {
        // Less room than asked for loses datagrams sooner, and works.
        let _ = socket.set_recv_buffer_size(ROOM);
        let _ = socket.set_send_buffer_size(ROOM);
    }
    Ok(UdpSocket::from_std(socket.into()))
}

fn bound(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        // Whatever the system's default is: `[::]` is every address of this machine.
        socket.set_only_v6(false)?;
    }
    if kind == Type::STREAM {
        // A restarted server must not wait for what its old connections leave behind.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}
