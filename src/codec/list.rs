//! What a node holds, row by row, as JSON.

use serde_json::{Value, json};

use crate::{gateway::ResultKey, wire::AppId};
#[cfg(feature = "backend")]
use crate::{
    gateway::{Enrolment, GatewayInfo, GroupInfo},
    io::KeyId,
    node::ModelInfo,
    recognize::model::TrainingSample,
};

/// A result: the application at a remote end, with the names of a record's fields.
pub fn result(key: ResultKey, app: AppId) -> Value {
    json!({
        "app": app.0,
        "remote_address": key.remote.ip().to_canonical().to_string(),
        "remote_port": key.remote.port(),
        "protocol": key.protocol,
    })
}

/// A rule. Its pattern is text where it can be, as rules are.
pub fn rule(app: AppId, pattern: &[u8]) -> Value {
    match std::str::from_utf8(pattern) {
        Ok(text) => json!({ "app": app.0, "pattern": text }),
        Err(_) => json!({ "app": app.0, "pattern_hex": super::to_hex(pattern) }),
    }
}

/// A gateway that is registered.
#[cfg(feature = "backend")]
pub fn gateway(info: &GatewayInfo) -> Value {
    let key = info.key.map(|key| key.to_string());
    json!({ "gateway": info.id, "name": info.name, "group": info.group, "key": key })
}

/// A gateway that is enrolled.
#[cfg(feature = "backend")]
pub fn enrolment(key: &KeyId, known: &Enrolment) -> Value {
    json!({
        "key": key.to_string(),
        "name": known.name,
        "group": known.group,
        "trusted": known.trusted,
        "barred": known.barred,
    })
}

/// What a group holds.
#[cfg(feature = "backend")]
pub fn group(info: &GroupInfo) -> Value {
    json!({
        "name": info.name,
        "gateways": info.gateways,
        "results": info.results,
        "rules": info.rules,
        "models": info.models,
    })
}

/// A trained model.
#[cfg(feature = "backend")]
pub fn model(info: &ModelInfo) -> Value {
    json!({ "app": info.app.0, "origin": info.origin(), "revision": info.revision, "held": info.is_held })
}

/// A sample for another trainer.
#[cfg(feature = "backend")]
pub fn sample(sample: &TrainingSample) -> Value {
    json!({
        "app": sample.app.0,
        "source": sample.source.0,
        "weight": sample.weight,
        "features": sample.features,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_the_form_that_the_page_shows() {
        let key = ResultKey { remote: "[::ffff:203.0.113.9]:443".parse().unwrap(), protocol: 1 };
        assert_eq!(
            result(key, AppId(7)).to_string(),
            r#"{"app":7,"remote_address":"203.0.113.9","remote_port":443,"protocol":1}"#
        );
        assert_eq!(rule(AppId(7), b"^x").to_string(), r#"{"app":7,"pattern":"^x"}"#);
        assert_eq!(rule(AppId(7), b"\xff").to_string(), r#"{"app":7,"pattern_hex":"ff"}"#);
    }
}
