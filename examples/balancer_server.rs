//! A balancer's answering end on a UDP socket, for other implementations to be tried against.
//!
//! ```text
//! cargo run --example balancer_server --features link -- [cookies]
//! ```
//!
//! It prints its address and public key in one line. It has one broker, 192.0.2.9:7700 with the key 08…08, and gives it to who does
//! not tell that it failed. It runs until its standard input ends.

use std::{
    error::Error,
    io::{self, Read as _},
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use hailpost::{
    link::{Answerer, AnswererConfig},
    net::SystemEntropy,
    rng::Entropy,
    time::Time,
    wire::balance::Answer,
};

fn main() -> Result<(), Box<dyn Error>> {
    let asks_without_cookie = if std::env::args().len() > 1 { 0 } else { 500 };
    let mut private = [0; 32];
    SystemEntropy.fill(&mut private);
    let config = AnswererConfig { asks_without_cookie, ..AnswererConfig::default() };
    let mut answerer = Answerer::new(config, private, Time::ZERO, SystemEntropy);
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let hex: String = answerer.public_key().iter().map(|octet| format!("{octet:02x}")).collect();
    println!("{} {hex}", socket.local_addr()?);

    let over = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&over);
    thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        ended.store(true, Ordering::Relaxed);
    });
    let (begun, address) = (Instant::now(), "192.0.2.9:7700".parse()?);
    let mut buffer = [0; 2048];
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    while !over.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let now = Time::from_micros(begun.elapsed().as_micros() as u64);
        let answer = answerer.handle(now, from, &buffer[..length], |question| {
            match question.seen.iter().any(|seen| seen.failed && seen.address == address) {
                true => Answer::None { pause: 30 },
                false => Answer::Broker { address, key: [8; 32] },
            }
        });
        if let Some(octets) = answer {
            socket.send_to(&octets, from)?;
        }
    }
    Ok(())
}
