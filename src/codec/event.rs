//! Events as JSON: `event` names the kind, the rest are its fields.

use serde_json::{Map, Value};

use crate::node::{Event, Field, Value as FieldValue};

/// An event as a JSON object. Octets are hexadecimal, a status is its negative number.
pub fn event(event: &Event) -> Value {
    let mut object = Map::new();
    object.insert("event".to_owned(), event.kind().name().into());
    for (field, value) in event.fields() {
        let value = match value {
            FieldValue::U64(number) if *field == Field::Status => (*number as i64).into(),
            FieldValue::U64(number) => (*number).into(),
            FieldValue::Text(text) => text.as_ref().into(),
            FieldValue::Bytes(octets) => super::to_hex(octets).into(),
        };
        object.insert(field.name().to_owned(), value);
    }
    Value::Object(object)
}
