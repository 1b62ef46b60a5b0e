//! The server's end of the link on a UDP socket, for other implementations to be tried against.
//!
//! ```text
//! cargo run --example link_server --features link -- SESSION_ID_HEX SECRET_HEX
//! ```
//!
//! It prints its address and public key in one line, then sends every message back to who sent it, until its standard input ends.

use std::{
    error::Error,
    io::{self, Read as _},
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use hailpost::{
    link::{Credential, Path, Server, ServerConfig, ServerInput, ServerOutput, ServerSecrets, TicketRoot},
    net::SystemEntropy,
    rng::Entropy,
    time::Time,
    wire::link::Refusal,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let session_id: [u8; 16] = unhex(&arguments.next().ok_or("SESSION_ID_HEX is missing")?)?;
    let secret: [u8; 32] = unhex(&arguments.next().ok_or("SECRET_HEX is missing")?)?;
    let unix = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mut keys = [[0; 32]; 3];
    keys.iter_mut().for_each(|key| SystemEntropy.fill(key));
    let secrets = ServerSecrets {
        private: keys[0],
        next_private: None,
        reset: keys[1],
        tickets: TicketRoot { day: unix / 86_400, key: keys[2] },
    };
    let config = ServerConfig {
        hellos_without_cookie: if arguments.next().is_some() { 0 } else { 500 },
        ..ServerConfig::default()
    };
    let mut server = Server::new(config, secrets, Time::ZERO, unix, SystemEntropy);
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let public = server.public_keys()[0].ok_or("there is a key")?;
    let hex: String = public.iter().map(|octet| format!("{octet:02x}")).collect();
    println!("{} {hex}", socket.local_addr()?);

    let over = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&over);
    thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        ended.store(true, Ordering::Relaxed);
    });
    let begun = Instant::now();
    let mut buffer = [0; 2048];
    while !over.load(Ordering::Relaxed) {
        let now = || Time::from_micros(begun.elapsed().as_micros() as u64);
        let wait = server.deadline().map_or(Duration::MAX, |due| due - now());
        socket.set_read_timeout(Some(wait.clamp(Duration::from_millis(1), Duration::from_millis(100))))?;
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) => {
                let input = ServerInput::Datagram { from: Path::Datagram(from), octets: &buffer[..length] };
                server.handle(now(), input);
            }
            Err(_) => server.handle(now(), ServerInput::Deadline),
        }
        while let Some(output) = server.poll_output(now()) {
            match output {
                ServerOutput::Send { to: Path::Datagram(to), octets } => {
                    socket.send_to(&octets, to)?;
                }
                ServerOutput::Lookup { ticket, session_id: asked } => {
                    let credential = Credential { secret, principal: 1, expiry: u64::MAX, epoch: 0 };
                    let answer = if asked == session_id { Ok(credential) } else { Err(Refusal::Unknown) };
                    server.authenticated(now(), ticket, answer);
                }
                ServerOutput::Message { session, octets, .. } => {
                    let _ = server.send(now(), session, octets);
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn unhex<const N: usize>(text: &str) -> Result<[u8; N], Box<dyn Error>> {
    let octets: Result<Vec<u8>, _> =
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16)).collect();
    Ok(octets?.try_into().map_err(|_| format!("{N} octets are expected"))?)
}
