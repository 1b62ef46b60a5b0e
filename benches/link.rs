//! What the server's end of the link costs: heartbeats answered, handshakes, resumes, data sealed and opened, on one core.
//!
//! ```text
//! cargo bench --bench link
//! ```

use std::{
    fs,
    hint::black_box,
    time::{Duration, Instant},
};

use hailpost::{
    link::{
        Client, ClientConfig, ClientOutput, Credential, Path, Server, ServerConfig, ServerInput,
        ServerOutput, ServerSecrets, Session, TicketRoot, public_key,
    },
    rng::Seeded,
    time::Time,
};

const UNIX: u64 = 1_700_000_000;

fn main() {
    let sessions = 20_000;
    let mut world = World::new(sessions);
    let hellos = world.requests();
    let took = world.answer(&hellos);
    report("handshakes", sessions, took, Some(3_500));
    world.confirm();
    assert_eq!(world.server.counters().sessions as usize, sessions);

    world.restart();
    world.networks_changed();
    let resumes = world.requests();
    let took = world.answer(&resumes);
    report("resumes", sessions, took, Some(40_000));
    world.confirm();
    assert_eq!((world.server.counters().resumed as usize, world.server.counters().handshakes), (sessions, 0));

    let mut took = Duration::ZERO;
    let mut beats = 0;
    for _ in 0..5 {
        world.now += Duration::from_secs(31);
        let asked = world.requests();
        beats += asked.len();
        took += world.answer(&asked);
        world.confirm();
    }
    assert_eq!(world.server.counters().heartbeats as usize, beats + sessions);
    report("heartbeats answered", beats, took, None);
    println!("  33,333 a second are {:.1} % of a core", took.as_secs_f64() / beats as f64 * 33_333.0 * 100.0);

    let (mut sealing, mut opening, mut count) = (Duration::ZERO, Duration::ZERO, 0);
    for _ in 0..5 {
        let before = cpu_time();
        for session in &world.sessions {
            world.server.send(world.now, *session, vec![7; 200]).expect("there is room");
        }
        sealing += cpu_time() - before;
        count += sessions;
        while let Some(output) = world.server.poll_output(world.now) {
            if let ServerOutput::Send { to: Path::Stream(at), octets } = output {
                world.clients[at as usize].handle(world.now, &octets);
            }
        }
        world.now += Duration::from_millis(30);
        let acknowledgements = world.requests();
        opening += world.answer(&acknowledgements);
        world.confirm();
        world.now += Duration::from_secs(3);
        world.server.handle(world.now, ServerInput::Deadline);
    }
    assert_eq!(world.server.counters().acked as usize, count);
    report("messages of 200 octets queued and sealed, each in an idle session", count, sealing, None);
    report("acknowledgements opened and believed", count, opening, None);
}

fn report(what: &str, count: usize, took: Duration, bar: Option<u64>) {
    let rate = count as f64 / took.as_secs_f64();
    let bar = bar.map_or(String::new(), |bar| format!(" (bar {bar})"));
    println!("{what}: {rate:.0} a second of a core, {:.0} ns each{bar}", 1e9 / rate);
}

struct World {
    now: Time,
    secrets: ServerSecrets,
    server: Server,
    clients: Vec<Client>,
    sessions: Vec<Session>,
}

fn config() -> ServerConfig {
    ServerConfig {
        hellos_without_cookie: u32::MAX,
        resumes_without_cookie: u32::MAX,
        resets: u32::MAX,
        ..ServerConfig::default()
    }
}

fn secret(at: u64) -> [u8; 32] {
    let mut secret = [9; 32];
    secret[..8].copy_from_slice(&at.to_be_bytes());
    secret
}

impl World {
    fn new(sessions: usize) -> World {
        let private = [1; 32];
        let secrets = ServerSecrets {
            private,
            next_private: None,
            reset: [2; 32],
            tickets: TicketRoot { day: UNIX / 86_400, key: [3; 32] },
        };
        let server = Server::new(config(), secrets.clone(), Time::ZERO, UNIX, Seeded::new(1));
        let server_key = public_key(&private);
        let client = |at: u64| {
            let mut session_id = [0; 16];
            session_id[..8].copy_from_slice(&at.to_be_bytes());
            let config = ClientConfig {
                server_key,
                next_key: None,
                session_id,
                secret: secret(at),
                interval: 30,
                resumption: None,
                rekey_after: Duration::from_secs(86_400),
            };
            let mut client = Client::new(config, Seeded::new(at));
            client.open(Time::ZERO);
            client
        };
        let clients = (0..sessions as u64).map(client).collect();
        World { now: Time::ZERO, secrets, server, clients, sessions: vec![Session(0); sessions] }
    }

    fn restart(&mut self) {
        let unix = UNIX + self.now.since(Time::ZERO).as_secs();
        self.server = Server::new(config(), self.secrets.clone(), self.now, unix, Seeded::new(2));
    }

    /// Each client says something, is told that it is not known, and wants to resume.
    fn networks_changed(&mut self) {
        self.now += Duration::from_secs(1);
        for client in &mut self.clients {
            client.network_changed(self.now);
        }
        let said = self.requests();
        self.answer(&said);
    }

    /// What the clients send now.
    fn requests(&mut self) -> Vec<(u64, Vec<u8>)> {
        let mut requests = Vec::new();
        for (at, client) in self.clients.iter_mut().enumerate() {
            client.deadline_passed(self.now);
            while let Some(output) = client.poll_output(self.now) {
                if let ClientOutput::Send(octets) = output {
                    requests.push((at as u64, octets));
                }
            }
        }
        requests
    }

    /// The server takes it all; the clients get what it says. Only the server's time counts.
    fn answer(&mut self, requests: &[(u64, Vec<u8>)]) -> Duration {
        let mut outputs = Vec::with_capacity(requests.len() * 2);
        let before = cpu_time();
        for (at, octets) in requests {
            self.server.handle(self.now, ServerInput::Datagram { from: Path::Stream(*at), octets });
            while let Some(output) = self.server.poll_output(self.now) {
                match output {
                    ServerOutput::Lookup { ticket, session_id } => {
                        let at = u64::from_be_bytes(*session_id.first_chunk().expect("sixteen octets"));
                        let credential =
                            Credential { secret: secret(at), principal: at, expiry: u64::MAX, epoch: 0 };
                        self.server.authenticated(self.now, ticket, Ok(credential));
                    }
                    other => outputs.push(other),
                }
            }
        }
        let took = cpu_time() - before;
        for output in black_box(outputs) {
            match output {
                ServerOutput::Send { to: Path::Stream(at), octets } => {
                    self.clients[at as usize].handle(self.now, &octets);
                }
                ServerOutput::SessionUp { session, principal, .. } => {
                    self.sessions[principal as usize] = session;
                }
                _ => {}
            }
        }
        took
    }

    /// Whatever is said after an answer.
    fn confirm(&mut self) {
        loop {
            let more = self.requests();
            if more.is_empty() {
                return;
            }
            self.answer(&more);
        }
    }
}

/// What this process has used of a processor, so that others on the machine do not count; a clock where the system
/// does not say.
fn cpu_time() -> Duration {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    let used = fs::read_to_string("/proc/self/schedstat").ok();
    let nanos = used.and_then(|used| used.split(' ').next()?.parse().ok());
    nanos.map_or_else(|| START.elapsed(), Duration::from_nanos)
}
