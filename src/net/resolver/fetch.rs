//! Getting one question answered: which server, how, how often, and what counts as its answer.
//!
//! What an off-path attacker must guess to have an answer believed (RFC 5452): a source port fresh for each query (the
//! driver's), a random id, the letters' case, and the server's address. Equal questions are never asked twice at once.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::SocketAddr,
    time::Duration,
};

use super::{
    Config, Counters, Output, SocketToken, Transport,
    answer::{Answer, Key, Outcome, interpret},
    error::Failure,
};
use crate::{
    rng::Entropy,
    time::Time,
    wire::dns::{self, CLASS_IN, Head, rcode},
};

/// Most sockets open at once; further questions wait for one.
pub const MAX_SOCKETS: usize = 64;
/// Datagrams on one socket that are not the answer, after which the question is asked over TCP instead.
pub const MAX_STRAYS: u32 = 32;
/// The largest UDP payload that is offered to servers: what passes unfragmented nearly everywhere.
pub const UDP_SIZE: u16 = 1232;

/// For how long a server that did not answer is asked after the others.
const DOWN: Duration = Duration::from_secs(30);
/// A later round waits at least this long for a server.
const MIN_TIMEOUT: Duration = Duration::from_secs(1);

/// What fetching acts on.
pub(super) struct Io<'a> {
    pub now: Time,
    pub out: &'a mut VecDeque<Output>,
    pub entropy: &'a mut dyn Entropy,
    pub counters: &'a mut Counters,
}

pub(super) struct Fetches {
    servers: Vec<Server>,
    timeout: Duration,
    attempts: u32,
    rotate: bool,
    tcp_only: bool,
    mix_case: bool,
    active: BTreeMap<Key, Fetch>,
    waiting: VecDeque<Key>,
    sockets: BTreeMap<SocketToken, Key>,
    last_socket: u64,
    rotation: usize,
}

struct Server {
    address: SocketAddr,
    /// Cleared for a server that does not know EDNS (RFC 6891 §6.2.2).
    edns: bool,
    /// Cleared for a server that does not echo the case of names.
    echoes_case: bool,
    down_until: Time,
}

struct Fetch {
    /// Which server to ask in which round, the present one first.
    plan: VecDeque<(usize, u32)>,
    transport: Transport,
    query: Query,
    failure: Option<Failure>,
}

/// The query under way.
struct Query {
    socket: SocketToken,
    id: u16,
    name: dns::Name,
    /// Whether the name's case is random and must be echoed.
    mixed: bool,
    edns: bool,
    deadline: Time,
    strays: u32,
    /// What a TCP server has sent so far, its length first.
    stream: Vec<u8>,
}

/// What a message turned out to be.
enum Verdict {
    Stray,
    Again(Transport),
    Failed(Failure),
    Answer(Outcome, Duration),
}

impl Fetches {
    pub fn new(config: &Config) -> Fetches {
        let mut fetches = Fetches {
            servers: Vec::new(),
            timeout: Duration::ZERO,
            attempts: 0,
            rotate: false,
            tcp_only: false,
            mix_case: false,
            active: BTreeMap::new(),
            waiting: VecDeque::new(),
            sockets: BTreeMap::new(),
            last_socket: 0,
            rotation: 0,
        };
        fetches.apply(config);
        fetches
    }

    /// Takes a new configuration, forgets what was known of servers, and asks again whatever is being asked.
    pub fn restart(&mut self, config: &Config, io: &mut Io) {
        let keys: Vec<Key> = self.active.keys().cloned().collect();
        for key in &keys {
            self.close(key, io);
        }
        self.apply(config);
        for key in keys {
            self.start(key, io);
        }
    }

    /// Asks a question, unless it is being asked.
    pub fn ask(&mut self, key: &Key, io: &mut Io) {
        if self.active.contains_key(key) || self.waiting.contains(key) {
            return;
        }
        if self.active.len() < MAX_SOCKETS {
            return self.start(key.clone(), io);
        }
        io.counters.queued += 1;
        self.waiting.push_back(key.clone());
    }

    /// Stops asking a question.
    pub fn abandon(&mut self, key: &Key, io: &mut Io) {
        self.waiting.retain(|k| k != key);
        if self.active.contains_key(key) {
            self.close(key, io);
            self.start_waiting(io);
        }
    }

    /// How many sockets are open.
    pub fn open(&self) -> usize {
        self.active.len()
    }

    pub fn deadline(&self) -> Option<Time> {
        self.active.values().map(|f| f.query.deadline).min()
    }

    /// A question whose query is overdue, if there is one.
    pub fn overdue(&self, now: Time) -> Option<Key> {
        self.active.iter().find(|(_, f)| f.query.deadline <= now).map(|(key, _)| key.clone())
    }

    pub fn handle_overdue(&mut self, key: &Key, io: &mut Io) -> Option<Answer> {
        io.counters.timeouts += 1;
        self.fail(key, Failure::Timeout, io)
    }

    pub fn handle_failed(
        &mut self,
        socket: SocketToken,
        why: io::ErrorKind,
        io: &mut Io,
    ) -> Option<(Key, Answer)> {
        let key = self.sockets.get(&socket)?.clone();
        io.counters.unreachable += 1;
        self.fail(&key, Failure::Unreachable(why), io).map(|answer| (key, answer))
    }

    pub fn handle_datagram(
        &mut self,
        socket: SocketToken,
        from: SocketAddr,
        message: &[u8],
        io: &mut Io,
    ) -> Option<(Key, Answer)> {
        let Some(key) = self.sockets.get(&socket).cloned() else {
            io.counters.strays += 1;
            return None;
        };
        let fetch = self.active.get_mut(&key)?;
        let server = self.servers[fetch.server()].address;
        let verdict = match fetch.transport {
            Transport::Udp if is_same_peer(server, from) => self.judge(&key, message, io),
            _ => Verdict::Stray,
        };
        if !matches!(verdict, Verdict::Stray) {
            return self.act(&key, verdict, io).map(|answer| (key, answer));
        }
        io.counters.strays += 1;
        let fetch = self.active.get_mut(&key)?;
        fetch.query.strays += 1;
        // Someone may be guessing: ask in a way that cannot be answered by guessing.
        if fetch.query.strays > MAX_STRAYS && fetch.transport == Transport::Udp {
            io.counters.guessed += 1;
            return self.act(&key, Verdict::Again(Transport::Tcp), io).map(|answer| (key, answer));
        }
        None
    }

    pub fn handle_stream(
        &mut self,
        socket: SocketToken,
        octets: &[u8],
        io: &mut Io,
    ) -> Option<(Key, Answer)> {
        let key = self.sockets.get(&socket)?.clone();
        let fetch = self.active.get_mut(&key).filter(|f| f.transport == Transport::Tcp)?;
        let stream = &mut fetch.query.stream;
        // One message of at most 65,535 octets is wanted, and nothing after it.
        let room = 2 + usize::from(u16::MAX) - stream.len();
        stream.extend_from_slice(&octets[..octets.len().min(room)]);
        let (length, rest) = stream.split_first_chunk::<2>()?;
        let message = rest.get(..usize::from(u16::from_be_bytes(*length)))?.to_vec();
        let verdict = match self.judge(&key, &message, io) {
            Verdict::Stray => Verdict::Failed(Failure::WrongAnswer),
            verdict => verdict,
        };
        self.act(&key, verdict, io).map(|answer| (key, answer))
    }

    fn apply(&mut self, config: &Config) {
        let server = |address| Server { address, edns: true, echoes_case: true, down_until: Time::ZERO };
        self.servers = config.effective_servers().into_iter().map(server).collect();
        self.timeout = config.timeout.clamp(Duration::from_millis(1), Duration::from_secs(30));
        self.attempts = config.attempts.clamp(1, 5);
        self.rotate = config.rotate;
        self.tcp_only = config.tcp_only;
        self.mix_case = config.mix_case;
    }

    fn first_transport(&self) -> Transport {
        if self.tcp_only { Transport::Tcp } else { Transport::Udp }
    }

    fn start(&mut self, key: Key, io: &mut Io) {
        let mut order: Vec<usize> = (0..self.servers.len()).collect();
        if self.rotate {
            order.rotate_left(self.rotation % self.servers.len());
            self.rotation = self.rotation.wrapping_add(1);
        }
        order.sort_by_key(|i| self.servers[*i].down_until > io.now);
        let plan = (0..self.attempts).flat_map(|round| order.iter().map(move |i| (*i, round))).collect();
        self.send(key, plan, self.first_transport(), None, io);
    }

    /// Opens a socket and sends the query that the plan has first.
    fn send(
        &mut self,
        key: Key,
        plan: VecDeque<(usize, u32)>,
        transport: Transport,
        failure: Option<Failure>,
        io: &mut Io,
    ) {
        let (index, round) = *plan.front().expect("a fetch without a server left has ended");
        let server = &self.servers[index];
        self.last_socket += 1;
        let socket = SocketToken(self.last_socket);
        let id = io.entropy.next_u16();
        let mixed = self.mix_case && server.echoes_case && transport == Transport::Udp;
        let name = match mixed {
            true => mix_case(&key.0, io.entropy),
            false => key.0.clone(),
        };
        // What drops queries with EDNS does so silently, so later rounds try without.
        let edns = server.edns && round == 0;
        let mut message = dns::encode_query(id, &name, key.1, edns.then_some(UDP_SIZE));
        if transport == Transport::Tcp {
            let length = u16::try_from(message.len()).expect("a query is under 300 octets");
            message.splice(0..0, length.to_be_bytes());
        }
        let deadline = io.now + self.wait(round);
        io.counters.queries += 1;
        io.out.push_back(Output::Query { socket, server: server.address, transport, message });
        self.sockets.insert(socket, key.clone());
        let query = Query { socket, id, name, mixed, edns, deadline, strays: 0, stream: Vec::new() };
        self.active.insert(key, Fetch { plan, transport, query, failure });
    }

    fn wait(&self, round: u32) -> Duration {
        match round {
            0 => self.timeout,
            _ => {
                let shared = self.timeout * (1 << round) / self.servers.len() as u32;
                shared.clamp(MIN_TIMEOUT.min(self.timeout), Duration::from_secs(30))
            }
        }
    }

    /// Decides what a message from the server that was asked is.
    fn judge(&mut self, key: &Key, message: &[u8], io: &mut Io) -> Verdict {
        let fetch = self.active.get_mut(key).expect("a socket belongs to an active fetch");
        let query = &fetch.query;
        let server = &mut self.servers[fetch.plan[0].0];
        if message.get(..2) != Some(&query.id.to_be_bytes()) {
            return Verdict::Stray;
        }
        let head = match dns::decode_head(message) {
            Ok(head) => head,
            Err(error) => return malformed(error, io),
        };
        if !head.response || head.opcode != 0 || !is_about(&head, key) {
            return Verdict::Stray;
        }
        if let Some(question) = &head.question
            && query.mixed
            && question.name.wire() != query.name.wire()
        {
            // It had the id and the port, so it is most likely an honest server's. Still it is not believed but asked
            // for again: a guesser would have to guess both once more.
            io.counters.case_folded += 1;
            server.echoes_case = false;
            return Verdict::Again(Transport::Udp);
        }
        if head.truncated && fetch.transport == Transport::Udp {
            io.counters.truncated += 1;
            return Verdict::Again(Transport::Tcp);
        }
        let message = match dns::decode(message) {
            Ok(message) => message,
            Err(error) => return malformed(error, io),
        };
        server.down_until = Time::ZERO;
        match message.rcode {
            rcode::OK | rcode::NO_NAME => match interpret(&message, key, &mut io.counters.left_out) {
                // Another server would say the same.
                Err(failure @ Failure::TooManyAliases) => {
                    Verdict::Answer(Outcome::Failed(failure), Duration::ZERO)
                }
                Err(failure) => Verdict::Failed(failure),
                Ok((outcome, ttl)) => Verdict::Answer(outcome, ttl),
            },
            rcode::FORMAT | rcode::NOT_IMPLEMENTED | rcode::BAD_VERSION if query.edns => {
                io.counters.edns_refused += 1;
                server.edns = false;
                Verdict::Again(fetch.transport)
            }
            rcode::REFUSED => Verdict::Failed(Failure::Refused),
            rcode => Verdict::Failed(Failure::ServerFailure { rcode }),
        }
    }

    fn act(&mut self, key: &Key, verdict: Verdict, io: &mut Io) -> Option<Answer> {
        match verdict {
            Verdict::Stray => None,
            Verdict::Again(transport) => {
                let fetch = self.close(key, io)?;
                self.send(key.clone(), fetch.plan, transport, fetch.failure, io);
                None
            }
            Verdict::Failed(failure) => self.fail(key, failure, io),
            Verdict::Answer(outcome, ttl) => self.conclude(key, outcome, ttl, io),
        }
    }

    /// Gives the present server up for this round, or for good where asking again could not help.
    fn fail(&mut self, key: &Key, failure: Failure, io: &mut Io) -> Option<Answer> {
        let mut fetch = self.close(key, io)?;
        let (index, _) = fetch.plan.pop_front().expect("an active fetch has a server");
        if matches!(failure, Failure::Timeout | Failure::Unreachable(_)) {
            self.servers[index].down_until = io.now + DOWN;
        }
        if failure != Failure::Timeout {
            fetch.plan.retain(|(i, _)| *i != index);
        }
        let worst = fetch.failure.map_or(failure, |earlier| earlier.or(failure));
        if fetch.plan.is_empty() {
            return self.conclude(key, Outcome::Failed(worst), Duration::ZERO, io);
        }
        io.counters.retries += 1;
        self.send(key.clone(), fetch.plan, self.first_transport(), Some(worst), io);
        None
    }

    fn conclude(&mut self, key: &Key, outcome: Outcome, ttl: Duration, io: &mut Io) -> Option<Answer> {
        self.close(key, io);
        self.start_waiting(io);
        Some(Answer { outcome, expires: io.now + ttl })
    }

    /// Takes a fetch out, with its socket.
    fn close(&mut self, key: &Key, io: &mut Io) -> Option<Fetch> {
        let fetch = self.active.remove(key)?;
        let socket = fetch.query.socket;
        self.sockets.remove(&socket);
        // What the driver has not seen opened it need not close.
        let unseen = io.out.iter().position(|o| matches!(o, Output::Query { socket: s, .. } if *s == socket));
        match unseen {
            Some(at) => drop(io.out.remove(at)),
            None => io.out.push_back(Output::Close { socket }),
        }
        Some(fetch)
    }

    fn start_waiting(&mut self, io: &mut Io) {
        while self.active.len() < MAX_SOCKETS
            && let Some(key) = self.waiting.pop_front()
        {
            self.start(key, io);
        }
    }
}

impl Fetch {
    fn server(&self) -> usize {
        self.plan.front().expect("an active fetch has a server").0
    }
}

/// Whether the message is about this question. A refusal may come without any.
fn is_about(head: &Head, (name, kind): &Key) -> bool {
    match &head.question {
        Some(q) => q.name == *name && q.kind == *kind as u16 && q.class == CLASS_IN,
        None => !matches!(u16::from(head.rcode), rcode::OK | rcode::NO_NAME),
    }
}

fn malformed(error: dns::DecodeError, io: &mut Io) -> Verdict {
    io.counters.malformed += 1;
    Verdict::Failed(Failure::Malformed(error))
}

fn is_same_peer(server: SocketAddr, from: SocketAddr) -> bool {
    // A socket for both families reports an IPv4 peer as a mapped one.
    if server.ip().to_canonical() != from.ip().to_canonical() || server.port() != from.port() {
        return false;
    }
    match (server, from) {
        (SocketAddr::V6(a), SocketAddr::V6(b)) => a.scope_id() == b.scope_id() || a.scope_id() == 0,
        _ => true,
    }
}

fn mix_case(name: &dns::Name, entropy: &mut dyn Entropy) -> dns::Name {
    let (mut bits, mut left) = (0, 0);
    name.with_case(|| {
        if left == 0 {
            (bits, left) = (entropy.next_u64(), 64);
        }
        left -= 1;
        bits >> left & 1 == 1
    })
}
