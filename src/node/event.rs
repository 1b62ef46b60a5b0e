//! Events as every face shows them: a kind, and fields by name.
//!
//! This table is the only place that says what an event carries. C reads it through `hail_event_u64|_text|_bytes`,
//! Python makes its classes from it, the program prints it as JSON.

use std::{borrow::Cow, net::SocketAddr};

use crate::{
    status::Fault,
    wire::{
        AppId,
        gateway::Record,
        post::{Delivery, Presence},
    },
};

macro_rules! numbered {
    ($(#[$doc:meta])* $type:ident { $($(#[doc = $help:literal])+ $name:ident = $number:literal, $text:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u32)]
        pub enum $type { $($(#[doc = $help])+ $name = $number,)+ }

        impl $type {
            /// All of them, in order of their numbers.
            pub const ALL: &'static [$type] = &[$($type::$name),+];

            /// Its name in snake case, as JSON and Python write it.
            pub const fn name(self) -> &'static str {
                match self { $($type::$name => $text),+ }
            }

            /// What it says here, for people.
            pub const fn help(self) -> &'static str {
                match self { $($type::$name => concat!($($help),+).trim_ascii_start()),+ }
            }

            /// From its number in C.
            pub fn from_number(number: u32) -> Option<$type> {
                $type::ALL.iter().copied().find(|item| *item as u32 == number)
            }
        }
    };
}

numbered! {
    /// What happened.
    EventKind {
        /// This gateway registered.
        Registered = 1, "registered";
        /// The back end refused this gateway: `reason`, `text`.
        Refused = 2, "refused";
        /// The link is lost, or could not be made; it is tried again: `status`, `text`.
        Down = 3, "down";
        /// All that the back end held at registration is here.
        Synced = 4, "synced";
        /// The back end told of a result: the fields of a record. `app` 0 takes an earlier one back.
        Result = 5, "result";
        /// The set of rules changed: `count` rules hold.
        Rules = 6, "rules";
        /// A trained rule came: `app`, `words`.
        Parameters = 7, "parameters";
        /// A report is durable at the back end: the fields of a record.
        Acknowledged = 8, "acknowledged";
        /// There is room for reports again.
        Writable = 9, "writable";
        /// Off the back end's list: `by_backend`.
        Deregistered = 10, "deregistered";
        /// Reported features are durable at the back end: `app`.
        FeaturesAcknowledged = 11, "features_acknowledged";
        /// A flow ended, recognised or not: five-tuple, `app`, `how`, `packets`, `octets`.
        Flow = 12, "flow";
        /// A rule that came cannot be used and is left out: `app`, `text`.
        RuleRejected = 13, "rule_rejected";
        /// A report was given up, which a plain back end never acknowledged: the fields of a record.
        ReportDropped = 14, "report_dropped";
        /// Reported features were given up, which a plain back end never acknowledged: `app`.
        FeaturesDropped = 15, "features_dropped";
        /// A flow that goes on is recognised, or turns out to be another application: five-tuple, `app`, `how`.
        Recognised = 16, "recognised";

        /// A gateway registered: `gateway`, `name`, `group`, `key`.
        GatewayRegistered = 20, "gateway_registered";
        /// A gateway acknowledged its first sync.
        GatewaySynced = 21, "gateway_synced";
        /// Somebody was refused: `key`, `reason`, `text`.
        GatewayRefused = 22, "gateway_refused";
        /// A gateway is gone: `status`, `text`.
        GatewayGone = 23, "gateway_gone";
        /// A gateway left, or was taken off: `by_backend`.
        GatewayDeregistered = 24, "gateway_deregistered";
        /// A gateway's identification is durable: `gateway` and the fields of a record.
        Identified = 25, "identified";
        /// A gateway's features are durable: `gateway`, `app`, `words`.
        Features = 26, "features";
        /// What was asked for with `ticket` is durable: at a back end up to it, at an office that alone.
        Durable = 27, "durable";
        /// Training ended: `group`, `app`, `accepted`, `text`.
        Trained = 28, "trained";
        /// The store fails: `status`, `text`. Nothing is acknowledged until it works again.
        StoreFailing = 29, "store_failing";
        /// The store works again.
        StoreRecovered = 30, "store_recovered";

        /// This device or application is logged in: `resumed`.
        LoggedIn = 40, "logged_in";
        /// What the office holds for this device follows: `waiting`, and `missed`, which are gone because they were too
        /// many or too old.
        Welcome = 41, "welcome";
        /// A message for this device or application: `sequence`, `sender`, `sent`, `redelivered`, `content_type`, `body`. It
        /// comes again in the next life unless it is confirmed.
        Message = 42, "message";
        /// A confirmation is durable: the message is never shown again: `sequence`.
        Confirmed = 43, "confirmed";
        /// A message of this device is durable here, and goes out once whatever happens: `number`.
        Stored = 44, "stored";
        /// The office has a message of this device: `number`, `state`.
        Accepted = 45, "accepted";
        /// The office will not have a message of this device: `number`, `code`.
        Rejected = 46, "rejected";
        /// The time of a message of this device was over before the office had it: `number`.
        Expired = 47, "expired";
        /// What became of a request: `request`, `code`.
        Answer = 48, "answer";
        /// Where a user is, one event for each that was asked for: `user`, `online`, `since`, and `request` of a device or `id`
        /// of an application.
        Presence = 49, "presence";
        /// The office is about to stop: it is logged in elsewhere, or later, by itself.
        Draining = 50, "draining";
        /// The end of an application's request: `id`, `code`, and of a message that was taken `state`, of what was refused
        /// `text`.
        Answered = 51, "answered";
        /// This device sends nothing, and has nothing due, until it is resumed: `told`.
        Suspended = 52, "suspended";

        /// A device logged in at this office: `inbox`, `resumed`.
        DeviceOnline = 60, "device_online";
        /// A device is no longer there: `inbox`, `text`.
        DeviceOffline = 61, "device_offline";
        /// So much waited for a device, or it was silent for so long, that nothing is kept for it until it comes: `inbox`, `missed`.
        Stale = 62, "stale";
        /// What was asked for cannot be done: `ticket`, `status`, `text`.
        Failed = 63, "failed";
        /// A broker can be used: a balancer gives it to devices: `name`.
        BrokerUp = 64, "broker_up";
        /// A broker cannot be used any more: `name`, `text`.
        BrokerDown = 65, "broker_down";
        /// Somebody logs in by a `session` that the store does not know: the application admits or refuses it by this `ticket`.
        Authenticate = 66, "authenticate";

        /// Something to know that is no failure: `text`.
        Warning = 90, "warning";
    }
}

numbered! {
    /// What an event can carry.
    Field {
        /// A [`crate::status::Status`] as a number (two's complement).
        Status = 1, "status";
        /// A line for people.
        Text = 2, "text";
        /// A [`crate::wire::gateway::Reason`].
        Reason = 3, "reason";
        /// How many.
        Count = 4, "count";
        /// AppID.
        App = 5, "app";
        /// Address of the end inside, as text.
        LocalAddress = 6, "local_address";
        /// Its port.
        LocalPort = 7, "local_port";
        /// Address of the end outside, as text.
        RemoteAddress = 8, "remote_address";
        /// Its port.
        RemotePort = 9, "remote_port";
        /// SPEC R-07: 1 TCP, 2 UDP.
        Protocol = 10, "protocol";
        /// 1 when the back end or its operator did it.
        ByBackend = 11, "by_backend";
        /// Names a gateway's registration.
        Gateway = 12, "gateway";
        /// A name that people gave.
        Name = 13, "name";
        /// A group.
        Group = 14, "group";
        /// A key id: 32 octets.
        Key = 15, "key";
        /// 32-bit words, big-endian.
        Words = 16, "words";
        /// A ticket.
        Ticket = 17, "ticket";
        /// 1 when it was taken.
        Accepted = 18, "accepted";
        /// rule, model, shared or none.
        How = 19, "how";
        /// Packets seen.
        Packets = 20, "packets";
        /// Octets seen, as on the wire.
        Octets = 21, "octets";
        /// Names an application for people.
        AppName = 22, "app_name";
        /// Names a message that this end gave.
        Number = 23, "number";
        /// Names a message that this end got: rises, never repeats.
        Sequence = 24, "sequence";
        /// Who sent it, `user:NAME` or `app:NAME`. The office has checked that.
        Sender = 25, "sender";
        /// When the office took it, in Unix seconds.
        Sent = 26, "sent";
        /// 1 when it was shown before, in an earlier life.
        Redelivered = 27, "redelivered";
        /// As in MIME, such as `text/plain`.
        ContentType = 28, "content_type";
        /// At most 64 KiB.
        Body = 29, "body";
        /// stored, queued, routed or dropped.
        State = 30, "state";
        /// 200, or why not (docs/post-office.md).
        Code = 31, "code";
        /// Messages that are gone.
        Missed = 32, "missed";
        /// Messages that follow.
        Waiting = 33, "waiting";
        /// Names a request.
        Request = 34, "request";
        /// A user's name.
        User = 35, "user";
        /// 1 when one of the user's devices is there.
        Online = 36, "online";
        /// Of the last change, in Unix seconds; 0 when nobody knows.
        Since = 37, "since";
        /// Names a device at its office.
        Inbox = 38, "inbox";
        /// 1 when a ticket of an earlier session saved the handshake.
        Resumed = 39, "resumed";
        /// Names an application's request; of a message it is the message's.
        Id = 40, "id";
        /// The public name of a credential: 16 octets.
        Session = 41, "session";
        /// 1 when the office knows, and keeps the session.
        Told = 42, "told";
    }
}

impl Field {
    /// Whether its number is 0 or 1, for no and yes.
    pub const fn is_flag(self) -> bool {
        matches!(
            self,
            Field::ByBackend
                | Field::Accepted
                | Field::Redelivered
                | Field::Online
                | Field::Resumed
                | Field::Told
        )
    }
}

macro_rules! carried {
    ($($field:ident)* $(; $($optional:ident)*)?) => {
        &[$((Field::$field, true),)* $($((Field::$optional, false),)*)?]
    };
}

impl EventKind {
    /// The fields that such an event carries, in an order that people like, and whether they are always there.
    pub const fn fields(self) -> &'static [(Field, bool)] {
        match self {
            EventKind::Registered
            | EventKind::Synced
            | EventKind::Writable
            | EventKind::StoreRecovered
            | EventKind::Draining => &[],
            EventKind::Refused => carried!(Reason Text),
            EventKind::Down | EventKind::StoreFailing => carried!(Status Text),
            EventKind::Result | EventKind::Acknowledged | EventKind::ReportDropped => {
                carried!(App LocalAddress LocalPort RemoteAddress RemotePort Protocol)
            }
            EventKind::Rules => carried!(Count),
            EventKind::Parameters => carried!(App Words),
            EventKind::FeaturesAcknowledged | EventKind::FeaturesDropped => carried!(App),
            EventKind::Deregistered => carried!(ByBackend),
            EventKind::Flow => &[
                (Field::App, false),
                (Field::AppName, false),
                (Field::How, true),
                (Field::LocalAddress, true),
                (Field::LocalPort, true),
                (Field::RemoteAddress, true),
                (Field::RemotePort, true),
                (Field::Protocol, true),
                (Field::Packets, true),
                (Field::Octets, true),
            ],
            EventKind::Recognised => &[
                (Field::App, true),
                (Field::AppName, false),
                (Field::How, true),
                (Field::LocalAddress, true),
                (Field::LocalPort, true),
                (Field::RemoteAddress, true),
                (Field::RemotePort, true),
                (Field::Protocol, true),
            ],
            EventKind::RuleRejected => carried!(App Text),
            EventKind::GatewayRegistered | EventKind::GatewaySynced => carried!(Gateway Name Group; Key),
            EventKind::GatewayRefused => carried!(Reason Text; Key),
            EventKind::GatewayGone => carried!(Gateway Name Group Status Text; Key),
            EventKind::GatewayDeregistered => carried!(Gateway Name Group ByBackend; Key),
            EventKind::Identified => carried!(
                Gateway Name Group App LocalAddress LocalPort RemoteAddress RemotePort Protocol; Key
            ),
            EventKind::Features => carried!(Gateway Name Group App Words; Key),
            EventKind::Durable => carried!(Ticket),
            EventKind::Trained => carried!(Group App Accepted Text),
            EventKind::LoggedIn => carried!(Resumed),
            EventKind::Welcome => carried!(Waiting Missed),
            EventKind::Message => carried!(Sequence Sender Sent Redelivered ContentType Body),
            EventKind::Confirmed => carried!(Sequence),
            EventKind::Stored | EventKind::Expired => carried!(Number),
            EventKind::Accepted => carried!(Number State),
            EventKind::Rejected => carried!(Number Code),
            EventKind::Answer => carried!(Request Code),
            EventKind::Presence => carried!(User Online Since; Request Id),
            EventKind::Suspended => carried!(Told),
            EventKind::Answered => carried!(Id Code; State Text),
            EventKind::DeviceOnline => carried!(Inbox Resumed),
            EventKind::DeviceOffline => carried!(Inbox Text),
            EventKind::Stale => carried!(Inbox Missed),
            EventKind::Failed => carried!(Ticket Status Text),
            EventKind::BrokerUp => carried!(Name),
            EventKind::BrokerDown => carried!(Name Text),
            EventKind::Authenticate => carried!(Ticket Session),
            EventKind::Warning => carried!(Text),
        }
    }
}

/// What a field holds.
#[derive(Clone, PartialEq, Debug)]
pub enum Value<'a> {
    /// A number.
    U64(u64),
    /// Text.
    Text(Cow<'a, str>),
    /// Octets.
    Bytes(Cow<'a, [u8]>),
}

/// Something that the application is told.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    kind: EventKind,
    fields: Vec<(Field, Value<'static>)>,
}

impl Event {
    /// An event without fields.
    pub fn new(kind: EventKind) -> Event {
        Event { kind, fields: Vec::new() }
    }

    /// What happened.
    pub fn kind(&self) -> EventKind {
        self.kind
    }

    /// What it carries, in order.
    pub fn fields(&self) -> &[(Field, Value<'static>)] {
        &self.fields
    }

    /// One field.
    pub fn get(&self, field: Field) -> Option<&Value<'static>> {
        self.fields.iter().find(|(known, _)| *known == field).map(|(_, value)| value)
    }

    /// A number, if the field holds one.
    pub fn u64(&self, field: Field) -> Option<u64> {
        match self.get(field)? {
            Value::U64(number) => Some(*number),
            _ => None,
        }
    }

    /// A text, if the field holds one.
    pub fn text(&self, field: Field) -> Option<&str> {
        match self.get(field)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Octets, if the field holds some.
    pub fn bytes(&self, field: Field) -> Option<&[u8]> {
        match self.get(field)? {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// With some of its texts in other words.
    pub fn reworded(mut self, words: impl Fn(Field, &str) -> Option<String>) -> Event {
        for (field, value) in &mut self.fields {
            if let Value::Text(text) = value
                && let Some(other) = words(*field, text)
            {
                *text = other.into();
            }
        }
        self
    }

    /// With a number.
    pub fn with_u64(self, field: Field, number: u64) -> Event {
        self.with(field, Value::U64(number))
    }

    /// With a text.
    pub fn with_text(self, field: Field, text: impl Into<Cow<'static, str>>) -> Event {
        self.with(field, Value::Text(text.into()))
    }

    /// With octets.
    pub fn with_bytes(self, field: Field, bytes: impl Into<Cow<'static, [u8]>>) -> Event {
        self.with(field, Value::Bytes(bytes.into()))
    }

    /// With an application.
    pub fn with_app(self, app: AppId) -> Event {
        self.with_u64(Field::App, app.0.into())
    }

    /// With a failure.
    pub fn with_fault(self, fault: Fault) -> Event {
        self.with_u64(Field::Status, i64::from(fault.status.number()) as u64)
            .with_text(Field::Text, fault.detail)
    }

    /// With the fields of a record.
    pub fn with_record(self, record: &Record) -> Event {
        self.with_app(record.app).with_ends(record.local, record.remote, record.protocol)
    }

    /// With the fields of a message that came.
    pub fn with_delivery(self, delivery: Delivery) -> Event {
        self.with_u64(Field::Sequence, delivery.sequence.0)
            .with_text(Field::Sender, delivery.from.to_string())
            .with_u64(Field::Sent, delivery.sent)
            .with_u64(Field::Redelivered, delivery.redelivered.into())
            .with_text(Field::ContentType, delivery.content_type)
            .with_bytes(Field::Body, delivery.body)
    }

    /// With the fields that say where a user is.
    pub fn with_presence(self, presence: Presence) -> Event {
        self.with_text(Field::User, presence.user)
            .with_u64(Field::Online, presence.online.into())
            .with_u64(Field::Since, presence.since)
    }

    /// With the two ends of a flow, and its protocol.
    pub fn with_ends(self, local: SocketAddr, remote: SocketAddr, protocol: u8) -> Event {
        self.with_text(Field::LocalAddress, local.ip().to_canonical().to_string())
            .with_u64(Field::LocalPort, local.port().into())
            .with_text(Field::RemoteAddress, remote.ip().to_canonical().to_string())
            .with_u64(Field::RemotePort, remote.port().into())
            .with_u64(Field::Protocol, protocol.into())
    }

    fn with(mut self, field: Field, value: Value<'static>) -> Event {
        debug_assert!(
            self.kind.fields().iter().any(|(known, _)| *known == field),
            "{:?} says nothing of {field:?}: add it to EventKind::fields",
            self.kind
        );
        self.fields.push((field, value));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_stand_once_in_a_kind_and_those_that_belong_together_come_together() {
        for kind in EventKind::ALL {
            let fields: Vec<Field> = kind.fields().iter().map(|(field, _)| *field).collect();
            for (at, field) in fields.iter().enumerate() {
                assert!(!fields[..at].contains(field), "{kind:?} has {field:?} twice");
            }
            let all_or_none = |group: &[Field]| {
                let held = group.iter().filter(|field| fields.contains(field)).count();
                assert!(held == 0 || held == group.len(), "{kind:?} has some of {group:?}");
            };
            all_or_none(&[
                Field::LocalAddress,
                Field::LocalPort,
                Field::RemoteAddress,
                Field::RemotePort,
                Field::Protocol,
            ]);
            if fields.contains(&Field::Gateway) {
                all_or_none(&[Field::Gateway, Field::Name, Field::Group, Field::Key]);
            }
            assert!(!fields.contains(&Field::Status) || fields.contains(&Field::Text), "{kind:?}");
            assert!(!kind.help().is_empty() && !kind.help().starts_with(' '), "{kind:?}");
        }
    }

    #[test]
    #[should_panic(expected = "add it to EventKind::fields")]
    #[cfg(debug_assertions)]
    fn a_field_that_the_table_does_not_have_is_a_bug() {
        let _ = Event::new(EventKind::Synced).with_u64(Field::Count, 1);
    }
}
