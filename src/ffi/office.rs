//! A post office: devices log in, applications connect, and what is sent to either is kept until it is confirmed.

use std::ffi::{CString, c_char, c_void};

use super::{
    codec::hail_buffer,
    config::hail_config,
    event_loop::hail_loop,
    handle::{self, Handle, Object, output, reference},
    status::hail_status,
    supported,
};
#[cfg(feature = "post")]
use super::{
    event_loop,
    handle::{array, invalid, optional_text, output_array, text, write_if_wanted},
};
use crate::status::Status;
#[cfg(feature = "post")]
use crate::{
    net::{
        Part, enrolment_line, office_url, open_office,
        url::{Host, LinkKey, Scheme, Url},
    },
    node::{BalancerNode, BrokerNode, OfficeNode},
    post::{
        SessionId,
        hub::{Rights, Vouched},
    },
    status::Fault,
};

/// The application may send to users and applications.
pub const HAIL_RIGHT_SEND: u32 = 1;
/// It may send to everybody.
pub const HAIL_RIGHT_BROADCAST: u32 = 2;
/// It may ask where users are.
pub const HAIL_RIGHT_QUERY: u32 = 4;

/// A post office, with its store.
pub struct hail_office {
    handle: Handle,
    /// Where it listens: for devices, for applications, then for brokers.
    addresses: Vec<(CString, u16)>,
    /// Where devices find it that are told nothing else.
    #[cfg(feature = "post")]
    url: Option<Url>,
    #[cfg(feature = "post")]
    part: Part,
}

impl Object for hail_office {
    fn handle(&self) -> &Handle {
        &self.handle
    }
}

/// Makes a post office on a loop: opens its store and listens. `user` comes back with each of its events. With the option
/// `roles` as `broker` it holds sessions for the hub that `hub` names: it has no store and no accounts, and what adds or takes
/// back something answers HAIL_ERR_INVALID. As `balancer` it tells devices at which broker to log in: it listens for those who
/// ask at hail+ask:// in the place of devices, and has no accounts either.
///
/// HAIL_ERR_CONFIG: an option cannot be used. HAIL_ERR_LISTEN: an address is taken. HAIL_ERR_STORE, _CORRUPT, _VERSION,
/// _LOCKED: the store's file.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "post"), allow(unused_variables))]
pub unsafe extern "C" fn hail_office_new(
    r#loop: *mut hail_loop,
    config: *const hail_config,
    user: *mut c_void,
    office: *mut *mut hail_office,
) -> hail_status {
    supported!(
        "post",
        // SAFETY: the contract.
        unsafe {
            event_loop::make(r#loop, config, user, office, "office", |net, config| {
                let (id, listening) = open_office(net, config)?;
                let part = listening.part;
                // A broker is told its key by its hub.
                let key = net.get(id).map(OfficeNode::server_key);
                let url = listening
                    .hail
                    .zip(key)
                    .map(|(address, key)| office_url(Host::Address(address.ip()), address.port(), key));
                let text =
                    |ip: std::net::IpAddr| CString::new(ip.to_string()).expect("an address has no NUL");
                let all = listening.devices.iter().chain(&listening.apps).chain(&listening.inner);
                let addresses = all.map(|address| (text(address.ip()), address.port())).collect();
                Ok((id, move |handle| hail_office { handle, addresses, url, part }))
            })
        }
    )
}

/// Frees a post office: its sockets are closed, its events are gone, and what was not yet told to be durable may be lost.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_office_free(office: *mut hail_office) {
    // SAFETY: the contract.
    unsafe { handle::free(office) }
}

/// Where it listens: address and port, in the order of the options `listen_devices`, `listen_apps` and `listen_inner`, one after
/// the other, from 0. The text lives as long as the office.
///
/// HAIL_ERR_NOT_FOUND: it listens on fewer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_office_address(
    office: *const hail_office,
    index: usize,
    address: *mut *const c_char,
    port: *mut u16,
) -> hail_status {
    // SAFETY: the contract.
    let found = unsafe { reference(office) }.and_then(|office| {
        // SAFETY: the contract.
        let outputs = unsafe { (output(address, "address")?, output(port, "port")?) };
        Ok((office.addresses.get(index).ok_or(Status::NotFound)?, outputs))
    });
    match found {
        Ok(((text, number), (address, port))) => {
            address.write(text.as_ptr());
            port.write(*number);
            Status::Ok.number()
        }
        Err(fault) => fault.status.number(),
    }
}

/// The 32 octets that devices know the office by, the ?key= of its hail:// URL, or of a balancer's hail+ask:// URL. They are kept
/// in the store.
///
/// HAIL_ERR_STATE: a broker that its hub has not told them yet.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "post"), allow(unused_variables))]
pub unsafe extern "C" fn hail_office_key(office: *const hail_office, key: *mut u8) -> hail_status {
    supported!(
        "post",
        // SAFETY: the contract.
        unsafe {
            if is_broker(office) {
                return handle::on_node(office, |node: &mut BrokerNode, _| {
                    let out = output_array(key, "key")?;
                    let waits = || Fault::new(Status::State, "the hub has not told its key yet");
                    out.write(node.server_key().ok_or_else(waits)?);
                    Ok(())
                });
            }
            if is_balancer(office) {
                return handle::on_node(office, |node: &mut BalancerNode, _| {
                    output_array(key, "key")?.write(node.server_key());
                    Ok(())
                });
            }
            handle::on_node(office, |node: &mut OfficeNode, _| {
                output_array(key, "key")?.write(node.server_key());
                Ok(())
            })
        }
    )
}

/// Adds a user: a name of 1 to 64 visible ASCII characters without `,`, `*` and `:`. `ticket`, unless NULL, gets a number:
/// HAIL_EVENT_DURABLE with this ticket says that it is done and kept, HAIL_EVENT_FAILED with it that it cannot be, for
/// HAIL_ERR_STATE when there is a user by that name.
///
/// HAIL_ERR_INVALID: the name.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "post"), allow(unused_variables))]
pub unsafe extern "C" fn hail_office_add_user(
    office: *mut hail_office,
    name: *const c_char,
    ticket: *mut u64,
) -> hail_status {
    supported!(
        "post",
        // SAFETY: the contract.
        unsafe {
            handle::on_node(office, |node: &mut OfficeNode, _| {
                let asked = node.add_user(text(name, "name")?)?;
                write_if_wanted(ticket, asked);
                Ok(())
            })
        }
    )
}

/// Adds a device of a user. `device` is 16 octets of yours that name it, such as a UUID; `expires` is in Unix seconds, and 0 for
/// never. `url` is where the device finds the office, such as "hail://office.example:7700", to which the key is added, or the whole URL of its balancer; NULL
/// is for the first hail:// address that it listens on. `session_id` gets the 16 octets that name the credential, for
/// hail_office_revoke_device(). `line` gets the text that the device is to be given, for its option `credential` or its
/// `credential_file`: it is a secret, and counts once HAIL_EVENT_DURABLE told the ticket. `ticket` and its failures as
/// hail_office_add_user(); HAIL_ERR_NOT_FOUND when there is no such user.
///
/// HAIL_ERR_INVALID: the name. HAIL_ERR_CONFIG: `url` cannot be used, or is NULL and the office listens on no hail:// address
/// that a device could find.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "post"), allow(unused_variables))]
pub unsafe extern "C" fn hail_office_add_device(
    office: *mut hail_office,
    user: *const c_char,
    device: *const u8,
    expires: u64,
    url: *const c_char,
    session_id: *mut u8,
    line: *mut *mut hail_buffer,
    ticket: *mut u64,
) -> hail_status {
    supported!(
        "post",
        // SAFETY: the contract. What is needed is copied out, since a callback may free the object.
        unsafe {
            let own = reference(office).ok().and_then(|office| office.url.clone());
            handle::on_node(office, |node: &mut OfficeNode, _| {
                let (session, line) = (output_array(session_id, "session_id")?, output(line, "line")?);
                let url = found_at(optional_text(url, "url")?, own, node.server_key())?;
                let enrolled = node.add_device(text(user, "user")?, array(device, "device")?, expires)?;
                session.write(enrolled.session.0);
                line.write(hail_buffer::give(enrolment_line(&url, &enrolled).into_bytes()));
                write_if_wanted(ticket, enrolled.ticket);
                Ok(())
            })
        }
    )
}

/// Takes a credential back, by its 16 octets: nobody logs in by it any more, and who did is sent away. What waits for the
/// device is kept. `ticket` as hail_office_add_user(), with HAIL_ERR_NOT_FOUND when there is no such credential.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "post"), allow(unused_variables))]
pub unsafe extern "C" fn hail_office_revoke_device(
    office: *mut hail_office,
    session_id: *const u8,
    ticket: *mut u64,
) -> hail_status {
    supported!(
        "post",
        // SAFETY: the contract.
        unsafe {
            handle::on_node(office, |node: &mut OfficeNode, _| {
                let asked = node.revoke_device(SessionId(array(session_id, "session_id")?));
                write_if_wanted(ticket, asked);
                Ok(())
            })
        }
    )
}

/// Answers HAIL_EVENT_AUTHENTICATE, by its ticket: the credential holds, it is of this user, whom the office need not know yet,
/// and of this device, which 16 octets name that no other of the user has. `secret` is the credential's, 32 octets, `expires`
/// in Unix seconds, 0 for never: until then, at most seven days, a session that was lost is resumed without another question.
/// An answer that comes after ten seconds is too late, and the device asks again.
///
/// HAIL_ERR_INVALID: the name. HAIL_ERR_FULL: too many wait for the disk; leave it, the device asks again.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "post"), allow(unused_variables))]
pub unsafe extern "C" fn hail_office_admit(
    office: *mut hail_office,
    ticket: u64,
    user: *const c_char,
    device: *const u8,
    secret: *const u8,
    expires: u64,
) -> hail_status {
    supported!(
        "post",
        // SAFETY: the contract.
        unsafe {
            handle::on_node(office, |node: &mut OfficeNode, _| {
                let user = text(user, "user")?.to_owned();
                let (device, secret) = (array(device, "device")?, array(secret, "secret")?);
                node.admit(ticket, Vouched { user, device, secret, expires })
            })
        }
    )
}

/// Answers HAIL_EVENT_AUTHENTICATE, by its ticket: the credential does not hold.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "post"), allow(unused_variables))]
pub unsafe extern "C" fn hail_office_refuse(office: *mut hail_office, ticket: u64) -> hail_status {
    supported!(
        "post",
        // SAFETY: the contract.
        unsafe {
            handle::on_node(office, |node: &mut OfficeNode, _| {
                node.turn_away(ticket);
                Ok(())
            })
        }
    )
}

/// Adds an application, by a name as of a user. `rights` are those of HAIL_RIGHT_... that it has, added up. `secret` gets the
/// text that it logs in by, which is kept as a hash only; it counts once HAIL_EVENT_DURABLE told the ticket.
///
/// HAIL_ERR_INVALID: name or rights. HAIL_ERR_STATE: there is one by that name. HAIL_ERR_FULL: there are too many.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "post"), allow(unused_variables))]
pub unsafe extern "C" fn hail_office_add_app(
    office: *mut hail_office,
    name: *const c_char,
    rights: u32,
    secret: *mut *mut hail_buffer,
    ticket: *mut u64,
) -> hail_status {
    supported!(
        "post",
        // SAFETY: the contract.
        unsafe {
            handle::on_node(office, |node: &mut OfficeNode, _| {
                let out = output(secret, "secret")?;
                if rights & !(HAIL_RIGHT_SEND | HAIL_RIGHT_BROADCAST | HAIL_RIGHT_QUERY) != 0 {
                    return Err(invalid("rights are HAIL_RIGHT_ numbers added up"));
                }
                let rights = Rights {
                    send: rights & HAIL_RIGHT_SEND != 0,
                    broadcast: rights & HAIL_RIGHT_BROADCAST != 0,
                    query: rights & HAIL_RIGHT_QUERY != 0,
                };
                let (secret, asked) = node.add_app(text(name, "name")?, rights)?;
                out.write(hail_buffer::give(secret.into_bytes()));
                write_if_wanted(ticket, asked);
                Ok(())
            })
        }
    )
}

/// Tells devices to log in elsewhere and refuses new ones, before the office is stopped; or no more, when `on` is 0.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "post"), allow(unused_variables))]
pub unsafe extern "C" fn hail_office_drain(office: *mut hail_office, on: i32) -> hail_status {
    supported!(
        "post",
        // SAFETY: the contract.
        unsafe {
            if is_broker(office) {
                return handle::on_node(office, |node: &mut BrokerNode, _| {
                    node.drain(handle::switch(on, "on")?);
                    Ok(())
                });
            }
            handle::on_node(office, |node: &mut OfficeNode, _| {
                node.drain(handle::switch(on, "on")?);
                Ok(())
            })
        }
    )
}

/// A counter by name, such as "held", or "link.sessions", "hub.delivered", "apps.requests", "brokers.registered" and "rooms.sent"
/// for those of its parts; of a broker "link.sessions" and "broker.lost", of a balancer "asks.given" and "brokers.enlisted": docs/counters.md has them all.
///
/// HAIL_ERR_NOT_FOUND: there is none by that name.
#[unsafe(no_mangle)]
#[cfg_attr(not(feature = "post"), allow(unused_variables))]
pub unsafe extern "C" fn hail_office_counter(
    office: *const hail_office,
    name: *const c_char,
    value: *mut u64,
) -> hail_status {
    supported!(
        "post",
        // SAFETY: the contract.
        unsafe {
            if is_broker(office) {
                return handle::on_node(office, |node: &mut BrokerNode, _| {
                    let out = output(value, "value")?;
                    let name = text(name, "name")?;
                    out.write(match name.split_once('.') {
                        Some(("link", name)) => handle::counter(node.server().counters().list(), name)?,
                        Some(("broker", name)) => handle::counter(node.broker_counters().list(), name)?,
                        _ => handle::counter(node.counters().list(), name)?,
                    });
                    Ok(())
                });
            }
            if is_balancer(office) {
                return handle::on_node(office, |node: &mut BalancerNode, _| {
                    let out = output(value, "value")?;
                    let name = text(name, "name")?;
                    out.write(match name.split_once('.') {
                        Some(("asks", name)) => handle::counter(node.balancer().asks().list(), name)?,
                        Some(("brokers", name)) => handle::counter(node.balancer().counters().list(), name)?,
                        _ => handle::counter(node.counters().list(), name)?,
                    });
                    Ok(())
                });
            }
            handle::on_node(office, |node: &mut OfficeNode, _| {
                let out = output(value, "value")?;
                let name = text(name, "name")?;
                out.write(match name.split_once('.') {
                    Some(("link", name)) => handle::counter(node.server().counters().list(), name)?,
                    Some(("hub", name)) => handle::counter(node.hub().counters().list(), name)?,
                    Some(("brokers", name)) => handle::counter(node.brokers().counters().list(), name)?,
                    Some(("rooms", name)) => handle::counter(node.rooms().counters().list(), name)?,
                    Some(("apps", name)) => handle::counter(node.apps().counters().list(), name)?,
                    _ => handle::counter(node.counters().list(), name)?,
                });
                Ok(())
            })
        }
    )
}

/// Whether it holds sessions for a hub elsewhere.
///
/// # Safety
/// `office` is NULL or a live object.
#[cfg(feature = "post")]
unsafe fn is_broker(office: *const hail_office) -> bool {
    // SAFETY: the caller's promise.
    unsafe { reference(office) }.is_ok_and(|office| office.part == Part::Broker)
}

/// Whether it tells devices where to log in.
///
/// # Safety
/// `office` is NULL or a live object.
#[cfg(feature = "post")]
unsafe fn is_balancer(office: *const hail_office) -> bool {
    // SAFETY: the caller's promise.
    unsafe { reference(office) }.is_ok_and(|office| office.part == Part::Balancer)
}

/// Where a device finds the office: there, or where the office listens.
#[cfg(feature = "post")]
fn found_at(url: Option<&str>, own: Option<Url>, key: [u8; 32]) -> Result<Url, Fault> {
    let wrong = |detail: &str| Fault::new(Status::Config, format!("url: {detail}"));
    let url = match url {
        Some(text) => {
            let url: Url = text.parse().map_err(|fault: Fault| wrong(&fault.detail))?;
            if url.scheme == Scheme::Ask && url.key.is_some() {
                return Ok(url);
            }
            if url.scheme != Scheme::Hail || url.key.is_some_and(|known| known != LinkKey(key)) {
                return Err(wrong(
                    "a hail:// URL is wanted, with the office's own ?key= or none, or a balancer's whole hail+ask:// URL",
                ));
            }
            Url { key: Some(LinkKey(key)), ..url }
        }
        None => {
            own.ok_or_else(|| wrong("the office listens on no hail:// address: say where it is found"))?
        }
    };
    url.check_peer().map_err(|fault| wrong(&fault.detail))?;
    Ok(url)
}
