//! Events: what happened, with fields by number.

use std::{
    cell::Cell,
    ffi::{CString, c_char, c_void},
    net::IpAddr,
    ptr,
    sync::LazyLock,
};

use super::{
    handle::{invalid, output, reference},
    record::{self, hail_record},
    state::{Entry, NOTHING},
    status::hail_status,
};
use crate::{
    node::{Event, EventKind, Field, Value},
    status::{Fault, Status},
};

/// Something that happened: a kind, and fields. It lives until the next hail_loop_next_event(), hail_loop_step() or
/// hail_loop_run() on its loop, or until the loop is freed, and so does all that it points to.
pub struct hail_event {
    kind: EventKind,
    source: Cell<*const c_void>,
    user: *mut c_void,
    fields: Vec<(Field, Held)>,
}

enum Held {
    U64(u64),
    Text(CString),
    Bytes(Vec<u8>),
}

impl hail_event {
    pub(super) fn new(event: &Event, entry: &Entry) -> hail_event {
        let held = |value: &Value<'_>| match value {
            Value::U64(number) => Held::U64(*number),
            Value::Text(text) => {
                Held::Text(CString::new(text.replace('\0', " ")).expect("every NUL was replaced"))
            }
            Value::Bytes(octets) => Held::Bytes(octets.to_vec()),
        };
        hail_event {
            kind: event.kind(),
            source: Cell::new(entry.source),
            user: entry.user,
            fields: event.fields().iter().map(|(field, value)| (*field, held(value))).collect(),
        }
    }

    pub(super) fn forget_source(&self, source: *const c_void) {
        if self.source.get() == source {
            self.source.set(ptr::null());
        }
    }

    fn get(&self, field: u32) -> Option<&Held> {
        self.fields.iter().find(|(known, _)| *known as u32 == field).map(|(_, held)| held)
    }

    fn number(&self, field: Field) -> Option<u64> {
        match self.get(field as u32)? {
            Held::U64(number) => Some(*number),
            _ => None,
        }
    }

    fn address(&self, field: Field) -> Option<IpAddr> {
        match self.get(field as u32)? {
            Held::Text(text) => text.to_str().ok()?.parse().ok(),
            _ => None,
        }
    }
}

/// What happened: a HAIL_EVENT_...; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_event_kind(event: *const hail_event) -> u32 {
    // SAFETY: the contract.
    unsafe { reference(event) }.map_or(0, |event| event.kind as u32)
}

/// The name of a kind of event in snake case, such as "registered". Static; empty for a number that is no kind.
#[unsafe(no_mangle)]
pub extern "C" fn hail_event_name(kind: u32) -> *const c_char {
    static NAMES: LazyLock<Vec<(u32, CString)>> = LazyLock::new(|| {
        let name = |kind: &EventKind| CString::new(kind.name()).expect("the table holds no NUL");
        EventKind::ALL.iter().map(|kind| (*kind as u32, name(kind))).collect()
    });
    let known = NAMES.iter().find(|(number, _)| *number == kind);
    known.map_or(NOTHING.as_ptr(), |(_, name)| name.as_ptr())
}

/// The object that it happened to, to be compared with the pointers you hold; NULL once that object was freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_event_source(event: *const hail_event) -> *const c_void {
    // SAFETY: the contract.
    unsafe { reference(event) }.map_or(ptr::null(), |event| event.source.get())
}

/// The `user` that was given when that object was made.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_event_user(event: *const hail_event) -> *mut c_void {
    // SAFETY: the contract.
    unsafe { reference(event) }.map_or(ptr::null_mut(), |event| event.user)
}

/// 1 when the event carries this field (a HAIL_FIELD_...), else 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_event_has(event: *const hail_event, field: u32) -> i32 {
    // SAFETY: the contract.
    unsafe { reference(event) }.is_ok_and(|event| event.get(field).is_some()).into()
}

/// A field that is a number; 0 when the event has none such. HAIL_FIELD_STATUS is a hail_status: cast it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_event_u64(event: *const hail_event, field: u32) -> u64 {
    // SAFETY: the contract.
    match unsafe { reference(event) }.ok().and_then(|event| event.get(field)) {
        Some(Held::U64(number)) => *number,
        _ => 0,
    }
}

/// A field that is text; NULL when the event has none such.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_event_text(event: *const hail_event, field: u32) -> *const c_char {
    // SAFETY: the contract.
    match unsafe { reference(event) }.ok().and_then(|event| event.get(field)) {
        Some(Held::Text(text)) => text.as_ptr(),
        _ => ptr::null(),
    }
}

/// A field that is octets, their number in `size`; NULL, and `size` left alone, when the event has none such.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_event_bytes(
    event: *const hail_event,
    field: u32,
    size: *mut usize,
) -> *const u8 {
    // SAFETY: the contract.
    let (event, size) = match (unsafe { reference(event) }, unsafe { output(size, "size") }) {
        (Ok(event), Ok(size)) => (event, size),
        _ => return ptr::null(),
    };
    match event.get(field) {
        Some(Held::Bytes(octets)) => {
            size.write(octets.len());
            octets.as_ptr()
        }
        _ => ptr::null(),
    }
}

/// The two ends, protocol and application of an event about a flow or result (HAIL_EVENT_RESULT, _ACKNOWLEDGED,
/// _IDENTIFIED, _RECOGNISED, _FLOW) as a record, whose `size` you set. An application that is not known is 0.
///
/// HAIL_ERR_NOT_FOUND: the event is of another kind.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hail_event_record(
    event: *const hail_event,
    record: *mut hail_record,
) -> hail_status {
    let fill = || {
        // SAFETY: the contract.
        let event = unsafe { reference(event) }?;
        // SAFETY: the contract; its size is checked there.
        let out = unsafe { record::sized(record) }?;
        let missing = || Fault::new(Status::NotFound, "this event is about no flow");
        let end = |address, port| {
            let address = record::to_octets(event.address(address)?);
            Some((address, u16::try_from(event.number(port)?).ok()?))
        };
        let local = end(Field::LocalAddress, Field::LocalPort).ok_or_else(missing)?;
        let remote = end(Field::RemoteAddress, Field::RemotePort).ok_or_else(missing)?;
        let small = |number: Option<u64>| u32::try_from(number.unwrap_or(0)).map_err(|_| invalid("app"));
        out.write(hail_record {
            size: size_of::<hail_record>() as u32,
            app: small(event.number(Field::App))?,
            local_address: local.0,
            remote_address: remote.0,
            local_port: local.1,
            remote_port: remote.1,
            protocol: small(event.number(Field::Protocol))? as u8,
            reserved: [0; 3],
        });
        Ok(())
    };
    fill().err().map_or(Status::Ok, |fault: Fault| fault.status).number()
}
