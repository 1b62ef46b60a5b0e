//! Records a second.

use std::{hint::black_box, net::SocketAddr, time::Duration};

use hailpost::wire::{
    AppId,
    gateway::{Body, Encoder, Family, Record, decode},
};

use super::{Report, cpu};

const ENOUGH: Duration = Duration::from_millis(700);

pub fn run(report: &mut Report) {
    report.about("records");
    for (family, name) in [(Family::V4, "IPv4"), (Family::V6, "IPv6")] {
        let end = |port| SocketAddr::new(family.fit([192, 0, 2, 7].into()).expect("IPv4 fits both"), port);
        let encoder = Encoder { family, source: end(7700), destination: end(40_000) };
        let records: Vec<Record> = (0..60u16)
            .map(|number| Record {
                app: AppId(number.into()),
                local: end(1000 + number),
                remote: end(2000 + number),
                protocol: 1,
                reserved1: 0,
                reserved2: 0,
                reserved3: 0,
            })
            .collect();
        let encoded =
            rate(|| drop(black_box(encoder.result_sync(7, 1, black_box(&records).iter().copied()))));
        report.row(format!("encode, {name}"), encoded, "M records/s");
        let octets = encoder.result_sync(7, 1, records.iter().copied());
        let decoded = rate(|| {
            let message = decode(family, black_box(&octets)).expect("what was encoded is a message");
            let Body::ResultSync { records, .. } = message.body else { return };
            for record in records.iter() {
                black_box(record);
            }
        });
        report.row(format!("decode, {name}"), decoded, "M records/s");
    }
}

/// Millions of records a second of processor time, sixty a call.
fn rate(call: impl Fn()) -> f64 {
    let begun = cpu();
    let mut calls = 0u32;
    while cpu() - begun < ENOUGH {
        (0..1000).for_each(|_| call());
        calls += 1000;
    }
    f64::from(calls) * 60.0 / (cpu() - begun).as_secs_f64() / 1e6
}
