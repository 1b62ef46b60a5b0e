//! Messages of the gateway protocol as JSON.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Map, Value, json};

use crate::{
    status::{Fault, Status},
    wire::{
        AppId,
        gateway::{
            Body, Encoder, Family, Kind, MAX_PATTERN, MAX_RECORDS, MAX_RULE_SYNC, MAX_WORDS, Message,
            Outcome, Reason, Record, Rule, decode as decode_message, rule_len,
        },
    },
};

/// Names of requests; an answer's has `_answer` behind it.
const NAMES: [(Kind, &str); 9] = [
    (Kind::Register, "register"),
    (Kind::Heartbeat, "heartbeat"),
    (Kind::ResultSync, "result_sync"),
    (Kind::RuleSync, "rule_sync"),
    (Kind::Result, "result"),
    (Kind::Features, "features"),
    (Kind::Parameters, "parameters"),
    (Kind::Deregister, "deregister"),
    (Kind::Enrol, "enrol"),
];

pub(super) fn decode(family: Family, octets: &[u8]) -> Result<Value, Fault> {
    let message =
        decode_message(family, octets).map_err(|error| Fault::new(Status::Malformed, error.to_string()))?;
    let Message { header, body } = message;
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| drop(object.insert(name.to_owned(), value));
    put("message", name(&body).into());
    put("source", header.source.ip().to_string().into());
    put("source_port", header.source.port().into());
    put("destination", header.destination.ip().to_string().into());
    put("destination_port", header.destination.port().into());
    put("tag", header.tag.into());
    match body {
        Body::Register
        | Body::Heartbeat
        | Body::HeartbeatAnswer
        | Body::ResultAnswer
        | Body::FeaturesAnswer
        | Body::ParametersAnswer
        | Body::Deregister => {}
        Body::Enrol { token } => put("token", super::to_hex(&token).into()),
        Body::RegisterAnswer(outcome) | Body::DeregisterAnswer(outcome) | Body::EnrolAnswer(outcome) => {
            put("result", outcome.result.into());
            put("reason", outcome.reason.0.into());
            if !outcome.is_ok() {
                put("text", outcome.reason.text().into());
            }
        }
        Body::ResultSync { serial, records } => {
            put("serial", serial.into());
            put("records", records.iter().map(|record| from_record(&record)).collect());
        }
        Body::RuleSync { serial, rules } => {
            put("serial", serial.into());
            put("rules", rules.iter().map(from_rule).collect());
        }
        Body::ResultSyncAnswer { serial, reserved } | Body::RuleSyncAnswer { serial, reserved } => {
            put("serial", serial.into());
            put("reserved", reserved.into());
        }
        Body::Result(record) => put("record", from_record(&record)),
        Body::Features { app, words } | Body::Parameters { app, words } => {
            put("app", app.0.into());
            put("words", words.iter().collect());
        }
    }
    Ok(Value::Object(object))
}

pub(super) fn encode(family: Family, value: &Value) -> Result<Vec<u8>, Fault> {
    let object = Object { path: String::new(), value };
    let encoder = Encoder {
        family,
        source: object.endpoint(family, "source", "source_port")?,
        destination: object.endpoint(family, "destination", "destination_port")?,
    };
    let tag = object.number("tag")?;
    let text = object.text("message")?;
    let (text, answer) = text.strip_suffix("_answer").map_or((text, false), |text| (text, true));
    let kind = NAMES.iter().find(|(_, known)| *known == text).map(|(kind, _)| *kind);
    let kind = kind.ok_or_else(|| object.wrong("message", "the name of a message"))?;
    let sync_answer = || Ok::<_, Fault>((object.number("serial")?, object.number("reserved")?));
    Ok(match (kind, answer) {
        (Kind::Register, false) => encoder.message(tag, &Body::Register),
        (Kind::Register, true) => encoder.message(tag, &Body::RegisterAnswer(object.outcome()?)),
        (Kind::Heartbeat, false) => encoder.message(tag, &Body::Heartbeat),
        (Kind::Heartbeat, true) => encoder.message(tag, &Body::HeartbeatAnswer),
        (Kind::ResultSync, false) => {
            let records = object.list("records", MAX_RECORDS, |record| record.record(family))?;
            encoder.result_sync(tag, object.number("serial")?, records.into_iter())
        }
        (Kind::ResultSync, true) => {
            let (serial, reserved) = sync_answer()?;
            encoder.message(tag, &Body::ResultSyncAnswer { serial, reserved })
        }
        (Kind::RuleSync, false) => {
            let rules = object.list("rules", MAX_RULE_SYNC, |rule| rule.rule())?;
            let len: usize = rules.iter().map(|(_, pattern)| rule_len(pattern)).sum();
            if family.header_len() + 4 + len > MAX_RULE_SYNC {
                return Err(object.wrong("rules", "rules that fit a message of 1500 octets"));
            }
            let borrowed = rules.iter().map(|(app, pattern)| Rule { app: *app, pattern });
            encoder.rule_sync(tag, object.number("serial")?, borrowed).0
        }
        (Kind::RuleSync, true) => {
            let (serial, reserved) = sync_answer()?;
            encoder.message(tag, &Body::RuleSyncAnswer { serial, reserved })
        }
        (Kind::Result, false) => {
            encoder.message(tag, &Body::Result(object.member("record")?.record(family)?))
        }
        (Kind::Result, true) => encoder.message(tag, &Body::ResultAnswer),
        (Kind::Features | Kind::Parameters, false) => {
            let words: Vec<u32> = object.list("words", MAX_WORDS, |word| word.whole())?;
            encoder.words(tag, kind, AppId(object.number("app")?), &words)
        }
        (Kind::Features, true) => encoder.message(tag, &Body::FeaturesAnswer),
        (Kind::Parameters, true) => encoder.message(tag, &Body::ParametersAnswer),
        (Kind::Deregister, false) => encoder.message(tag, &Body::Deregister),
        (Kind::Deregister, true) => encoder.message(tag, &Body::DeregisterAnswer(object.outcome()?)),
        (Kind::Enrol, false) => {
            let token = super::from_hex(object.text("token")?).ok().and_then(|octets| octets.try_into().ok());
            let token = token.ok_or_else(|| object.wrong("token", "32 hexadecimal digits"))?;
            encoder.message(tag, &Body::Enrol { token })
        }
        (Kind::Enrol, true) => encoder.message(tag, &Body::EnrolAnswer(object.outcome()?)),
    })
}

fn name(body: &Body<'_>) -> String {
    let (kind, answer) = body.kind();
    let name = NAMES.iter().find(|(known, _)| *known == kind).map_or("", |(_, name)| name);
    if answer { format!("{name}_answer") } else { name.to_owned() }
}

fn from_record(record: &Record) -> Value {
    json!({
        "app": record.app.0,
        "local": record.local.ip().to_string(),
        "local_port": record.local.port(),
        "remote": record.remote.ip().to_string(),
        "remote_port": record.remote.port(),
        "protocol": record.protocol,
        "reserved1": record.reserved1,
        "reserved2": record.reserved2,
        "reserved3": record.reserved3,
    })
}

fn from_rule(rule: Rule<'_>) -> Value {
    match std::str::from_utf8(rule.pattern) {
        Ok(text) => json!({ "app": rule.app.0, "pattern": text }),
        Err(_) => json!({ "app": rule.app.0, "pattern_hex": super::to_hex(rule.pattern) }),
    }
}

/// A JSON value, and how to say where in the input it stands.
struct Object<'a> {
    path: String,
    value: &'a Value,
}

impl<'a> Object<'a> {
    fn member(&self, name: &str) -> Result<Object<'a>, Fault> {
        let value = self.value.get(name).ok_or_else(|| self.wrong(name, "a value"))?;
        Ok(Object { path: format!("{}{name}", self.prefix()), value })
    }

    fn whole<T: TryFrom<u64>>(&self) -> Result<T, Fault> {
        let number = self.value.as_u64().and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| {
            wrong(&self.path, &format!("a whole number of at most {} bits", 8 * size_of::<T>()))
        })
    }

    fn number<T: TryFrom<u64>>(&self, name: &str) -> Result<T, Fault> {
        self.member(name)?.whole()
    }

    fn text(&self, name: &str) -> Result<&'a str, Fault> {
        self.member(name)?.value.as_str().ok_or_else(|| self.wrong(name, "text"))
    }

    fn list<T>(
        &self,
        name: &str,
        most: usize,
        each: impl Fn(&Object<'a>) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        let items = self.member(name)?.value.as_array().ok_or_else(|| self.wrong(name, "a list"))?;
        if items.len() > most {
            return Err(self.wrong(name, &format!("a list of at most {most}")));
        }
        let place = |(at, value)| Object { path: format!("{}{name}[{at}]", self.prefix()), value };
        items.iter().enumerate().map(place).map(|item| each(&item)).collect()
    }

    fn endpoint(&self, family: Family, address: &str, port: &str) -> Result<SocketAddr, Fault> {
        let text = self.text(address)?;
        let wanted = match family {
            Family::V4 => "an IPv4 address",
            Family::V6 => "an IPv6 address",
        };
        let parsed: IpAddr = text.parse().map_err(|_| self.wrong(address, wanted))?;
        let fitted = family.fit(parsed).ok_or_else(|| self.wrong(address, wanted))?;
        Ok(SocketAddr::new(fitted, self.number(port)?))
    }

    fn record(&self, family: Family) -> Result<Record, Fault> {
        let nibble = |name: &str| match self.number::<u8>(name)? {
            value @ 0..16 => Ok(value),
            _ => Err(self.wrong(name, "a number of four bits")),
        };
        Ok(Record {
            app: AppId(self.number("app")?),
            local: self.endpoint(family, "local", "local_port")?,
            remote: self.endpoint(family, "remote", "remote_port")?,
            protocol: nibble("protocol")?,
            reserved1: nibble("reserved1")?,
            reserved2: self.number("reserved2")?,
            reserved3: self.number("reserved3")?,
        })
    }

    fn rule(&self) -> Result<(AppId, Vec<u8>), Fault> {
        let pattern = match self.value.get("pattern_hex") {
            Some(hex) => super::from_hex(hex.as_str().unwrap_or("?"))
                .map_err(|_| self.wrong("pattern_hex", "hexadecimal digits"))?,
            None => self.text("pattern")?.as_bytes().to_vec(),
        };
        if pattern.len() > MAX_PATTERN || pattern.contains(&0) {
            return Err(self.wrong("pattern", "at most 1023 octets without NUL"));
        }
        Ok((AppId(self.number("app")?), pattern))
    }

    fn outcome(&self) -> Result<Outcome, Fault> {
        let result = match self.number("result")? {
            result @ 0..=1 => result,
            _ => return Err(self.wrong("result", "0 or 1")),
        };
        Ok(Outcome { result, reason: Reason(self.number("reason")?) })
    }

    fn wrong(&self, name: &str, wanted: &str) -> Fault {
        wrong(&format!("{}{name}", self.prefix()), wanted)
    }

    fn prefix(&self) -> String {
        if self.path.is_empty() { String::new() } else { format!("{}.", self.path) }
    }
}

fn wrong(path: &str, wanted: &str) -> Fault {
    Fault::new(Status::Invalid, format!("{path}: {wanted} is wanted"))
}
