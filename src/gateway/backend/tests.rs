//! What cannot be seen from outside.

use super::*;
use crate::{io::Service, store::Memory};

fn backend() -> Backend {
    let config = BackendConfig {
        family: Family::V4,
        agreement: 1,
        open_group: Some("home".into()),
        ..BackendConfig::default()
    };
    let open = Open { now: Time::ZERO, unix: 0, rng: Seeded::new(1) };
    Backend::open(config, open, &Memory::default()).unwrap()
}

fn register(backend: &mut Backend, number: u32) -> Conn {
    register_by(backend, number, None)
}

fn register_by(backend: &mut Backend, number: u32, key: Option<KeyId>) -> Conn {
    let (conn, address) = (Conn(number), SocketAddr::from(([10, 0, 0, number as u8], 5000)));
    let peer = Remote {
        transport: Transport::Stream,
        local: address,
        remote: address,
        key,
        service: Service::Gateway,
    };
    backend.handle(Time::ZERO, Input::Accepted { conn, peer });
    say(backend, conn, 5, &Body::Register);
    conn
}

fn say(backend: &mut Backend, conn: Conn, tag: u16, body: &Body<'_>) {
    let address = SocketAddr::from(([10, 0, 0, 1], 5000));
    let encoder = Encoder { family: Family::V4, source: address, destination: address };
    backend.handle(Time::ZERO, Input::Received { conn, from: None, octets: &encoder.message(tag, body) });
}

#[test]
fn who_is_to_be_told_something_is_noted_once_however_much_it_is() {
    let mut backend = backend();
    let gateways: Vec<Conn> = (1..=20).map(|number| register(&mut backend, number)).collect();
    while backend.poll_output(Time::ZERO).is_some() {}
    for tag in 1..=200 {
        let remote = SocketAddr::from(([203, 0, 113, tag as u8], 443));
        let local = SocketAddr::from(([192, 168, 1, 2], 40_000));
        let record =
            Record { app: AppId(7), local, remote, protocol: 1, reserved1: 0, reserved2: 0, reserved3: 0 };
        say(&mut backend, gateways[0], tag, &Body::Result(record));
        backend.set_rule(None, AppId(7), &tag.to_be_bytes().map(|octet| octet | 1)).unwrap();
    }
    let through = backend.ticket;
    backend.handle(Time::ZERO, Input::Stored { through });
    assert_eq!(backend.ready.len(), 20);
    // A place that another peer takes over is noted once too.
    backend.handle(Time::ZERO, Input::Closed { conn: gateways[3], fault: None });
    register(&mut backend, 21);
    assert_eq!(backend.ready.len(), 20);
    while backend.poll_output(Time::ZERO).is_some() {}
    assert_eq!((backend.ready.len(), backend.is_ready.iter().filter(|is| **is).count()), (0, 0));
}

#[test]
fn a_trickle_moves_its_timer_to_where_its_patience_ends() {
    let mut backend = backend();
    backend.config.patience = Duration::from_secs(2);
    let conn = register(&mut backend, 1);
    assert_eq!(
        backend.deadline(),
        Some(Time::ZERO + Duration::from_secs(2)),
        "as it was before it registered"
    );
    let later = Time::ZERO + Duration::from_secs(3);
    backend.handle(later, Input::Deadline);
    backend.handle(later, Input::Received { conn, from: None, octets: &[0; 5] });
    assert_eq!(backend.deadline(), Some(later + Duration::from_secs(2)));
}

/// A program enrols a gateway and lets it connect in the same breath, on a disk that takes its time.
#[test]
fn a_registration_waits_for_its_enrolment() {
    let mut backend = backend();
    let (home, barn) = (KeyId([1; 32]), KeyId([2; 32]));
    let enrolment =
        |name: &str| Enrolment { name: name.into(), group: "home".into(), trusted: false, barred: false };
    backend.enrol(home, enrolment("home")).unwrap();
    backend.enrol(barn, enrolment("barn")).unwrap();
    backend.revoke(barn).unwrap();
    let left = register_by(&mut backend, 1, Some(home));
    backend.handle(Time::ZERO, Input::Closed { conn: left, fault: None });
    register_by(&mut backend, 2, Some(home));
    let refused = register_by(&mut backend, 3, Some(barn));
    let mut outputs = std::iter::from_fn(|| backend.poll_output(Time::ZERO));
    assert!(outputs.any(|output| matches!(output, Output::Close { conn } if conn == refused)));
    assert!(outputs.next().is_none(), "nobody is let in whom the disk does not know");
    let through = backend.ticket;
    backend.handle(Time::ZERO, Input::Stored { through });
    let events: Vec<BackendEvent> = std::iter::from_fn(|| backend.poll_output(Time::ZERO))
        .filter_map(|output| match output {
            Output::Event(event) => Some(event),
            _ => None,
        })
        .collect();
    let registered = events.iter().filter(|event| matches!(event, BackendEvent::Registered(_))).count();
    assert_eq!((registered, backend.gateways().count(), backend.early.len()), (1, 1, 0), "{events:?}");
}
