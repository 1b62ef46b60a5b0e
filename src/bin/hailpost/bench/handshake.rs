//! What the server's end of the link costs: handshakes, resumes, heartbeats, data sealed and opened. Both ends in this thread,
//! without sockets; only the server's time counts.

use std::{hint::black_box, time::Duration};

use hailpost::{
    link::{
        Client, ClientConfig, ClientOutput, Credential, Path, Server, ServerConfig, ServerInput,
        ServerOutput, ServerSecrets, Session, TicketRoot, public_key,
    },
    rng::Seeded,
    time::Time,
};

use super::{Report, cpu};
use crate::{failure::Failure, terminal::Progress};

const UNIX: u64 = 1_700_000_000;
/// Heartbeats of each session, and messages to each.
const ROUNDS: u32 = 5;

#[derive(clap::Args)]
#[group(skip)]
pub struct Args {
    /// Sessions
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: u32,
}

pub fn run(args: &Args, report: &mut Report) -> Result<(), Failure> {
    report.about("handshake");
    let sessions = args.count as usize;
    let mut progress = Progress::new("sessions", Some(3 + 2 * u64::from(ROUNDS)));
    let mut world = World::new(sessions);
    let hellos = world.requests();
    progress.at(1);
    let took = world.answer(&hellos);
    report.row("handshakes", rate(sessions, took), "a second of a core");
    world.confirm();
    expect("sessions", world.server.counters().sessions, sessions)?;
    progress.at(2);

    world.restart();
    world.networks_changed();
    let resumes = world.requests();
    let took = world.answer(&resumes);
    report.row("resumes", rate(sessions, took), "a second of a core");
    world.confirm();
    expect("resumed sessions", world.server.counters().resumed, sessions)?;
    expect("handshakes after a restart", world.server.counters().handshakes, 0)?;
    progress.at(3);

    let (mut took, mut beats) = (Duration::ZERO, 0);
    for round in 0..ROUNDS {
        world.now += Duration::from_secs(31);
        let asked = world.requests();
        beats += asked.len();
        took += world.answer(&asked);
        world.confirm();
        progress.at(u64::from(4 + round));
    }
    expect("heartbeats", world.server.counters().heartbeats, beats + sessions)?;
    report.row("a heartbeat, opened and answered", nanos(beats, took), "ns");

    let (mut sealing, mut opening, mut count) = (Duration::ZERO, Duration::ZERO, 0);
    for round in 0..ROUNDS {
        let before = cpu();
        for session in &world.sessions {
            world.server.send(world.now, *session, vec![7; 200])?;
        }
        sealing += cpu() - before;
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
        progress.at(u64::from(4 + ROUNDS + round));
    }
    expect("acknowledged messages", world.server.counters().acked, count)?;
    report.row("a message of 200 octets to an idle session, sealed", nanos(count, sealing), "ns");
    report.row("its acknowledgement, opened", nanos(count, opening), "ns");
    Ok(())
}

fn rate(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

fn nanos(count: usize, took: Duration) -> f64 {
    1e9 / rate(count, took)
}

fn expect(what: &str, counted: u64, expected: usize) -> Result<(), Failure> {
    match counted == expected as u64 {
        true => Ok(()),
        false => Err(Failure::new(format!("{counted} {what}, not {expected}: the figures mean nothing"))),
    }
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
            let config = ClientConfig::new(server_key, session_id, secret(at));
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
        let before = cpu();
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
        let took = cpu() - before;
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
