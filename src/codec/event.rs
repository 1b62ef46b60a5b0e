//! Events as JSON: `{"event": "result", "app": 7, ...}`, with the names of the events' own table.

use serde_json::{Map, Value};

use crate::{
    node::{self, Event, Field},
    status::Status,
};

/// An event as one flat JSON object. Keys are hexadecimal, words a list of numbers, a status its name in C, and what is
/// yes or no is `true` or `false`. A body that is no UTF-8 is hexadecimal, under the name `body_hex`.
pub fn event(event: &Event) -> Value {
    let mut object = Map::new();
    object.insert("event".to_owned(), event.kind().name().into());
    for (field, value) in event.fields() {
        let name = match (field, value) {
            (Field::Body, node::Value::Bytes(octets)) if std::str::from_utf8(octets).is_err() => "body_hex",
            _ => field.name(),
        };
        object.insert(name.to_owned(), member(*field, value));
    }
    Value::Object(object)
}

fn member(field: Field, value: &node::Value<'_>) -> Value {
    match (field, value) {
        (field, node::Value::U64(number)) if field.is_flag() => (*number != 0).into(),
        (Field::Status, node::Value::U64(number)) => {
            let known = Status::ALL.iter().find(|status| i64::from(status.number()) == *number as i64);
            known.map_or_else(|| (*number as i64).into(), |status| status.constant().into())
        }
        (_, node::Value::U64(number)) => (*number).into(),
        (_, node::Value::Text(text)) => text.as_ref().into(),
        (Field::Words, node::Value::Bytes(octets)) => octets
            .chunks_exact(4)
            .map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]]))
            .collect(),
        (Field::Body, node::Value::Bytes(octets)) if std::str::from_utf8(octets).is_ok() => {
            String::from_utf8_lossy(octets).into()
        }
        (_, node::Value::Bytes(octets)) => super::to_hex(octets).into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{node::EventKind, status::Fault, wire::AppId};

    #[test]
    fn fields_take_the_form_that_suits_them() {
        let down = Event::new(EventKind::Down).with_fault(Fault::new(Status::Closed, "the peer went"));
        assert_eq!(
            event(&down),
            json!({ "event": "down", "status": "HAIL_ERR_CLOSED", "text": "the peer went" })
        );
        let parameters = Event::new(EventKind::Parameters)
            .with_app(AppId(7))
            .with_bytes(Field::Words, vec![0, 1, 0, 2, 0xff, 0, 0, 0]);
        assert_eq!(
            event(&parameters),
            json!({ "event": "parameters", "app": 7, "words": [0x0001_0002, 0xff00_0000u32] })
        );
        let gone = Event::new(EventKind::GatewayDeregistered)
            .with_u64(Field::Gateway, 3)
            .with_text(Field::Name, "hall")
            .with_text(Field::Group, "flat")
            .with_bytes(Field::Key, vec![0xab; 32])
            .with_u64(Field::ByBackend, 1);
        assert_eq!(event(&gone)["key"], "ab".repeat(32));
        assert_eq!(event(&gone)["by_backend"], true);
    }
}
