//! Events as instances of the classes that `hailpost/_events.py` makes from the same table.

use std::fmt::Write as _;

use hailpost::{
    node::{Event, EventKind, Field, Value},
    status::Status,
};
use pyo3::{
    prelude::*,
    sync::PyOnceLock,
    types::{PyBytes, PyDict, PyTuple},
};

use crate::{errors, values};

/// Fields that Python sees as one value.
enum Group {
    /// `GatewayInfo`.
    Gateway,
    /// `Record`.
    Record,
    /// An `Address`: which two fields, and the name of both.
    Address(Field, Field, &'static str),
    /// An instance of `Error`.
    Error,
    /// A field by itself, and whether it is always there.
    Single(Field, bool),
}

impl Group {
    /// What an event of a kind carries, as Python sees it.
    fn of(kind: EventKind) -> Vec<Group> {
        let fields = kind.fields();
        let has = |wanted: Field| fields.iter().any(|(field, _)| *field == wanted);
        let always = |wanted: Field| fields.contains(&(wanted, true));
        // The ends of a flow are its initiator and its responder; a record's are inside and outside.
        let is_record = always(Field::App) && always(Field::LocalAddress) && !always(Field::How);
        let mut groups = Vec::new();
        for &(field, is_always) in fields {
            match field {
                Field::Gateway => groups.push(Group::Gateway),
                Field::Name | Field::Group | Field::Key if has(Field::Gateway) => {}
                Field::App if is_record => groups.push(Group::Record),
                Field::LocalAddress | Field::LocalPort if is_record => {}
                Field::RemoteAddress | Field::RemotePort | Field::Protocol if is_record => {}
                Field::LocalAddress => {
                    groups.push(Group::Address(Field::LocalAddress, Field::LocalPort, "local"));
                }
                Field::RemoteAddress => {
                    groups.push(Group::Address(Field::RemoteAddress, Field::RemotePort, "remote"));
                }
                Field::LocalPort | Field::RemotePort => {}
                Field::Status => groups.push(Group::Error),
                Field::Text if has(Field::Status) => {}
                field => groups.push(Group::Single(field, is_always)),
            }
        }
        groups
    }

    fn name(&self) -> &'static str {
        match self {
            Group::Gateway => "gateway",
            Group::Record => "record",
            Group::Address(_, _, name) => name,
            Group::Error => "error",
            Group::Single(field, _) => field.name(),
        }
    }

    fn annotation(&self) -> String {
        match self {
            Group::Gateway => "GatewayInfo".into(),
            Group::Record => "Record".into(),
            Group::Address(..) => "Address".into(),
            Group::Error => "Error".into(),
            Group::Single(field, is_always) => {
                let plain = match field {
                    field if field.is_flag() => "bool",
                    Field::Words => "tuple[int, ...]",
                    Field::Body | Field::Session => "bytes",
                    Field::Text
                    | Field::Name
                    | Field::Group
                    | Field::Key
                    | Field::How
                    | Field::AppName
                    | Field::Sender
                    | Field::ContentType
                    | Field::State
                    | Field::User
                    | Field::Id => "str",
                    _ => "int",
                };
                if *is_always { plain.into() } else { format!("{plain} | None") }
            }
        }
    }

    fn value<'py>(&self, py: Python<'py>, event: &Event) -> PyResult<Bound<'py, PyAny>> {
        let number = |field| event.u64(field).unwrap_or_default();
        let text = |field| event.text(field).unwrap_or_default();
        let address = |host, port| values::make(py, "Address", (text(host), number(port)));
        match self {
            Group::Gateway => {
                let key = event.bytes(Field::Key).map(hex);
                let fields = (number(Field::Gateway), text(Field::Name), text(Field::Group), key);
                values::make(py, "GatewayInfo", fields)
            }
            Group::Record => {
                let local = address(Field::LocalAddress, Field::LocalPort)?;
                let remote = address(Field::RemoteAddress, Field::RemotePort)?;
                values::make(py, "Record", (number(Field::App), local, remote, number(Field::Protocol)))
            }
            Group::Address(host, port, _) => address(*host, *port),
            Group::Error => errors::exception(py, status(event), text(Field::Text)),
            Group::Single(field, _) => single(py, *field, event.get(*field)),
        }
    }
}

/// An event's fields: their names, and what they hold in words of Python.
type Fields = Vec<(&'static str, String)>;

/// One row a kind: its name, what it says, and its fields with their types.
pub fn table() -> Vec<(&'static str, &'static str, Fields)> {
    let row = |kind: &EventKind| {
        let fields = Group::of(*kind).iter().map(|group| (group.name(), group.annotation())).collect();
        (kind.name(), kind.help(), fields)
    };
    EventKind::ALL.iter().map(row).collect()
}

/// An event as an instance of its class, logged on the way.
pub fn to_python<'py>(py: Python<'py>, event: &Event) -> PyResult<Bound<'py, PyAny>> {
    static MODULE: PyOnceLock<(Py<PyDict>, Py<PyAny>)> = PyOnceLock::new();
    let (classes, log) = MODULE.get_or_try_init(py, || -> PyResult<_> {
        let classes = py.import("hailpost._events")?.getattr("BY_KIND")?;
        let log = py.import("hailpost._log")?.getattr("event")?;
        Ok((classes.cast_into::<PyDict>()?.unbind(), log.unbind()))
    })?;
    let groups = Group::of(event.kind());
    let fields = groups.iter().map(|group| group.value(py, event)).collect::<PyResult<Vec<_>>>()?;
    let class = classes.bind(py).as_any().get_item(event.kind().name())?;
    log.bind(py).call1((event.kind().name(), event.text(Field::Text)))?;
    class.call1(PyTuple::new(py, fields)?)
}

fn single<'py>(py: Python<'py>, field: Field, value: Option<&Value<'_>>) -> PyResult<Bound<'py, PyAny>> {
    match value {
        None => Ok(py.None().into_bound(py)),
        Some(Value::U64(number)) => match field {
            field if field.is_flag() => Ok((*number != 0).into_pyobject(py)?.to_owned().into_any()),
            _ => Ok(number.into_pyobject(py)?.into_any()),
        },
        Some(Value::Text(text)) => Ok(text.as_ref().into_pyobject(py)?.into_any()),
        Some(Value::Bytes(octets)) => match field {
            Field::Key => Ok(hex(octets).into_pyobject(py)?.into_any()),
            Field::Body | Field::Session => Ok(PyBytes::new(py, octets).into_any()),
            _ => {
                let (words, _) = octets.as_chunks::<4>();
                Ok(PyTuple::new(py, words.iter().map(|word| u32::from_be_bytes(*word)))?.into_any())
            }
        },
    }
}

/// The status that an event carries, as the table has it.
fn status(event: &Event) -> i32 {
    // Two's complement in 64 bits: the low half is the number.
    event.u64(Field::Status).map_or(Status::Io.number(), |number| number as u32 as i32)
}

/// Hexadecimal digits.
pub fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::with_capacity(2 * octets.len()), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}
