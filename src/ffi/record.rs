//! Records: a remote end and its application, as a struct that may grow.

use std::{
    ffi::c_char,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use super::{
    handle::{self, Out, invalid, output, output_array, text},
    status::hail_status,
};
use crate::{
    status::{Fault, Status},
    wire::{AppId, gateway::Record},
};

/// TCP, in a record.
pub const HAIL_PROTOCOL_TCP: u8 = 1;
/// UDP, in a record.
pub const HAIL_PROTOCOL_UDP: u8 = 2;

/// What an application's flows look like from outside: `struct hail_record record = { sizeof record };`, then the rest.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hail_record {
    /// sizeof(struct hail_record). Later versions may add fields behind; octets that a version does not know must be 0.
    pub size: u32,
    /// AppID: what the application is called on the wire.
    pub app: u32,
    /// The end inside, 16 octets in network order, IPv4 as ::ffff:a.b.c.d.
    pub local_address: [u8; 16],
    /// The end outside.
    pub remote_address: [u8; 16],
    /// Port of the end inside.
    pub local_port: u16,
    /// Port of the end outside.
    pub remote_port: u16,
    /// HAIL_PROTOCOL_TCP or HAIL_PROTOCOL_UDP.
    pub protocol: u8,
    /// 0.
    pub reserved: [u8; 3],
}

/// Puts an address that is text ("192.0.2.1", "2001:db8::1") into the 16 octets of a record.
///
/// HAIL_ERR_INVALID: it is no address; host names are not looked up.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_address_parse(address: *const c_char, octets: *mut u8) -> hail_status {
    // SAFETY: the contract.
    let parse = || {
        // SAFETY: the contract.
        let out = unsafe { output_array(octets, "octets") }?;
        // SAFETY: the contract.
        let address = unsafe { text(address, "address") }?;
        out.write(to_octets(address.parse().map_err(|_| invalid("address"))?));
        Ok(())
    };
    parse().err().map_or(Status::Ok, |fault: Fault| fault.status).number()
}

/// A record from C.
///
/// # Safety
/// NULL, or a record of as many octets as its `size` says.
pub(super) unsafe fn read(record: *const hail_record) -> Result<Record, Fault> {
    // SAFETY: the caller's promise.
    let record = unsafe { handle::sized(record, "record") }?;
    if !matches!(record.protocol, HAIL_PROTOCOL_TCP | HAIL_PROTOCOL_UDP) {
        return Err(invalid("record: protocol is HAIL_PROTOCOL_TCP or HAIL_PROTOCOL_UDP"));
    }
    Ok(Record {
        app: AppId(record.app),
        local: SocketAddr::new(from_octets(record.local_address), record.local_port),
        remote: SocketAddr::new(from_octets(record.remote_address), record.remote_port),
        protocol: record.protocol,
        reserved1: 0,
        reserved2: 0,
        reserved3: 0,
    })
}

/// A record of C's to write to.
///
/// # Safety
/// NULL, or room for as many octets as its `size`, which is set, says.
pub(super) unsafe fn sized(record: *mut hail_record) -> Result<Out<hail_record>, Fault> {
    // SAFETY: the caller's promise.
    unsafe { handle::size_of_sized(record, "record") }?;
    // SAFETY: the caller's promise.
    unsafe { output(record, "record") }
}

/// A remote end from C.
///
/// # Safety
/// NULL, or 16 octets.
#[cfg(feature = "gateway")]
pub(super) unsafe fn end(address: *const u8, port: u16) -> Result<SocketAddr, Fault> {
    // SAFETY: the caller's promise.
    Ok(SocketAddr::new(from_octets(unsafe { super::handle::array(address, "address") }?), port))
}

pub(super) fn to_octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn from_octets(octets: [u8; 16]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()
}
