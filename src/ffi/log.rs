//! The log: lines about what happened on a loop, to a callback that hangs on that loop.
//!
//! A line names our objects, registrations, groups and applications. It never holds an address, a key, a gateway's name
//! or octets of a message.

use std::{
    ffi::{CString, c_char, c_void},
    fmt::Write as _,
};

use crate::{
    node::{Event, EventKind, Field},
    status::Status,
};

/// How much a line matters. As in C.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i32)]
pub(super) enum Level {
    Error = HAIL_LOG_ERROR,
    Warning = HAIL_LOG_WARNING,
    Info = HAIL_LOG_INFO,
    Debug = HAIL_LOG_DEBUG,
}

/// Nothing is logged.
pub const HAIL_LOG_OFF: i32 = 0;
/// A bug, or a loss.
pub const HAIL_LOG_ERROR: i32 = 1;
/// Something does not work, and is tried again or left out.
pub const HAIL_LOG_WARNING: i32 = 2;
/// Objects and links come and go.
pub const HAIL_LOG_INFO: i32 = 3;
/// Each result, rule and flow.
pub const HAIL_LOG_DEBUG: i32 = 4;

/// Takes a line of the log. `user` is what was given with the callback; `level` is a HAIL_LOG_...; `text` lives for the
/// length of the call, is one line and has no line end.
pub type hail_log_fn = Option<unsafe extern "C" fn(user: *mut c_void, level: i32, text: *const c_char)>;

/// Where lines go.
pub(super) struct Log {
    pub level: i32,
    pub callback: hail_log_fn,
    pub user: *mut c_void,
}

impl Default for Log {
    fn default() -> Log {
        Log { level: HAIL_LOG_OFF, callback: None, user: std::ptr::null_mut() }
    }
}

impl Log {
    pub fn wants(&self, level: Level) -> bool {
        self.callback.is_some() && level as i32 <= self.level
    }

    pub fn line(&self, level: Level, text: &str) {
        let Some(callback) = self.callback.filter(|_| self.wants(level)) else { return };
        let text = CString::new(text.replace(['\0', '\n', '\r'], " ")).expect("every NUL was replaced");
        // SAFETY: hail_loop_set_log's caller promised a callback that can be called until it is replaced.
        unsafe { callback(self.user, level as i32, text.as_ptr()) }
    }

    /// A line about an event.
    pub fn event(&self, role: &str, event: &Event) {
        let level = level(event.kind());
        if !self.wants(level) {
            return;
        }
        let mut text = format!("{role}: {}", event.kind().name());
        for (field, name) in [
            (Field::Gateway, "registration"),
            (Field::App, "app"),
            (Field::Count, "count"),
            (Field::Reason, "reason"),
            (Field::Ticket, "ticket"),
            (Field::ByBackend, "by_backend"),
            (Field::Accepted, "accepted"),
            (Field::Number, "number"),
            (Field::Sequence, "sequence"),
            (Field::Code, "code"),
            (Field::Missed, "missed"),
            (Field::Waiting, "waiting"),
            (Field::Inbox, "inbox"),
        ] {
            if let Some(number) = event.u64(field) {
                let _ = write!(text, " {name}={number}");
            }
        }
        if let Some(group) = event.text(Field::Group) {
            let _ = write!(text, " group={group}");
        }
        // The status and not the event's text: that may name a peer.
        let status = event
            .u64(Field::Status)
            .and_then(|number| Status::ALL.iter().find(|status| i64::from(status.number()) as u64 == number));
        if let Some(status) = status {
            let _ = write!(text, ": {}", status.text());
        }
        self.line(level, &text);
    }
}

fn level(kind: EventKind) -> Level {
    match kind {
        EventKind::Refused
        | EventKind::Down
        | EventKind::RuleRejected
        | EventKind::GatewayRefused
        | EventKind::GatewayGone
        | EventKind::StoreFailing
        | EventKind::Rejected
        | EventKind::Stale
        | EventKind::BrokerDown
        | EventKind::Failed
        | EventKind::Warning => Level::Warning,
        EventKind::Registered
        | EventKind::Synced
        | EventKind::Deregistered
        | EventKind::GatewayRegistered
        | EventKind::GatewaySynced
        | EventKind::GatewayDeregistered
        | EventKind::Trained
        | EventKind::LoggedIn
        | EventKind::Draining
        | EventKind::Suspended
        | EventKind::BrokerUp
        | EventKind::StoreRecovered => Level::Info,
        _ => Level::Debug,
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;
    use crate::{status::Fault, wire::AppId};

    unsafe extern "C" fn keep(user: *mut c_void, _: i32, text: *const c_char) {
        // SAFETY: this test gave a `Vec<String>`, and the text ends in NUL.
        unsafe { (*user.cast::<Vec<String>>()).push(CStr::from_ptr(text).to_str().unwrap().to_owned()) }
    }

    #[test]
    fn a_line_names_no_peer() {
        let mut lines: Vec<String> = Vec::new();
        let user = (&raw mut lines).cast();
        let log = Log { level: HAIL_LOG_DEBUG, callback: Some(keep), user };
        let secret = "192.0.2.7";
        let event = Event::new(EventKind::GatewayGone)
            .with_u64(Field::Gateway, 3)
            .with_text(Field::Name, secret)
            .with_text(Field::Group, "home")
            .with_fault(Fault::new(Status::Timeout, secret));
        log.event("backend", &event);
        let ends = (format!("{secret}:1").parse().unwrap(), format!("{secret}:2").parse().unwrap());
        log.event("gateway", &Event::new(EventKind::Flow).with_app(AppId(7)).with_ends(ends.0, ends.1, 1));
        Log { level: HAIL_LOG_INFO, ..log }.event("gateway", &Event::new(EventKind::Flow));
        assert_eq!(
            lines,
            [
                "backend: gateway_gone registration=3 group=home: there was no answer in time",
                "gateway: flow app=7"
            ]
        );
    }

    /// An event of each kind with all that it can carry, and something that must not be told in each text and octets but
    /// the group, which its operator named.
    fn loaded(secrets: &[&str]) -> impl Iterator<Item = Event> {
        EventKind::ALL.iter().map(move |kind| {
            kind.fields().iter().fold(Event::new(*kind), |event, (field, _)| match field {
                Field::Group => event.with_text(Field::Group, "home"),
                Field::Key | Field::Words => event.with_bytes(*field, secrets.concat().into_bytes()),
                Field::Status => event.with_u64(*field, i64::from(Status::Timeout.number()) as u64),
                Field::Text
                | Field::Name
                | Field::LocalAddress
                | Field::RemoteAddress
                | Field::How
                | Field::AppName => event.with_text(*field, secrets.concat()),
                _ => event.with_u64(*field, 54_321),
            })
        })
    }

    #[test]
    fn no_kind_of_event_tells_an_address_a_key_or_a_token_at_any_level() {
        let secrets = ["192.0.2.7:443", "2001:db8::7", &"5e".repeat(32), "CQkJCQkJCQkJCQkJCQkJCQ"];
        let mut before = 0;
        for level in HAIL_LOG_OFF..=HAIL_LOG_DEBUG {
            let mut lines: Vec<String> = Vec::new();
            let log = Log { level, callback: Some(keep), user: (&raw mut lines).cast() };
            loaded(&secrets).for_each(|event| log.event("backend", &event));
            for line in &lines {
                assert!(!secrets.iter().any(|secret| line.contains(secret)), "{line}");
            }
            assert!(lines.len() > before || level <= HAIL_LOG_ERROR, "level {level} adds nothing");
            before = lines.len();
        }
        assert_eq!(before, EventKind::ALL.len(), "at the last level all are told");
    }
}
