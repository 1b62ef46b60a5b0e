//! The driver's part, played by the tests, and the makings of a name server.

use std::{collections::BTreeMap, io::ErrorKind, net::SocketAddr, time::Duration};

use hailpost::{
    net::resolver::{
        Config, Counters, Kind, LookupId, MAX_CACHED, MAX_LOOKUPS, MAX_SOCKETS, Output, Reason, ResolveError,
        Resolver, SocketToken, Target, Transport,
    },
    rng::Seeded,
    time::Time,
    wire::dns::Name,
};

pub const A: u16 = 1;
pub const CNAME: u16 = 5;
pub const SOA: u16 = 6;
pub const AAAA: u16 = 28;
pub const SRV: u16 = 33;

pub const CONF: &str = "nameserver 192.0.2.53\noptions timeout:2 attempts:2\n";
pub const TWO: &str = "nameserver 192.0.2.53\nnameserver 2001:db8::53\noptions timeout:2 attempts:2\n";

/// A query that the resolver has sent and not closed, taken apart by a reader of the tests' own.
#[derive(Clone, Debug)]
pub struct Query {
    pub socket: SocketToken,
    pub server: SocketAddr,
    pub transport: Transport,
    pub id: u16,
    /// As sent, its case kept.
    pub name: String,
    pub kind: u16,
    pub edns: bool,
}

/// An answer in the making.
#[derive(Clone)]
pub struct Reply {
    pub id: u16,
    pub flags: u16,
    pub question: Option<(String, u16)>,
    pub sections: [Vec<Vec<u8>>; 3],
}

pub struct Bench {
    pub resolver: Resolver<Seeded>,
    pub now: Time,
    pub open: Vec<Query>,
    pub sent: usize,
    pub done: BTreeMap<LookupId, (Result<Vec<SocketAddr>, ResolveError>, Duration)>,
}

pub type Zone<'a> = &'a [(&'a str, u16, &'a str)];

pub fn wire_name(text: &str) -> Vec<u8> {
    let labels = text.split('.').filter(|l| !l.is_empty());
    let octets = |l: &str| l.chars().map(|c| c as u8).collect::<Vec<_>>();
    let mut out: Vec<u8> = labels.map(octets).flat_map(|l| [vec![l.len() as u8], l].concat()).collect();
    out.push(0);
    out
}

pub fn record(name: &str, kind: u16, ttl: u32, data: &str) -> Vec<u8> {
    let data = match kind {
        A => data.parse::<std::net::Ipv4Addr>().unwrap().octets().to_vec(),
        AAAA => data.parse::<std::net::Ipv6Addr>().unwrap().octets().to_vec(),
        CNAME => wire_name(data),
        SRV => {
            let words: Vec<&str> = data.split(' ').collect();
            let numbers = words[..3].iter().flat_map(|w| w.parse::<u16>().unwrap().to_be_bytes());
            numbers.chain(wire_name(words[3])).collect()
        }
        SOA => [vec![0, 0], vec![0; 16], data.parse::<u32>().unwrap().to_be_bytes().to_vec()].concat(),
        _ => data.as_bytes().to_vec(),
    };
    let mut out = wire_name(name);
    out.extend(kind.to_be_bytes());
    out.extend([0, 1]);
    out.extend(ttl.to_be_bytes());
    out.extend((data.len() as u16).to_be_bytes());
    out.extend(data);
    out
}

impl Query {
    pub fn read(socket: SocketToken, server: SocketAddr, transport: Transport, message: &[u8]) -> Query {
        let message = match transport {
            Transport::Udp => message,
            Transport::Tcp => {
                assert_eq!(usize::from(u16::from_be_bytes([message[0], message[1]])), message.len() - 2);
                &message[2..]
            }
        };
        // Recursion desired, one question, nothing else but EDNS.
        assert_eq!(message[2..11], [1, 0, 0, 1, 0, 0, 0, 0, 0]);
        let (mut at, mut labels) = (12, Vec::new());
        while message[at] != 0 {
            let end = at + 1 + usize::from(message[at]);
            // A damaged alias may be of any octets: one a character here.
            labels.push(message[at + 1..end].iter().map(|o| char::from(*o)).collect::<String>());
            at = end;
        }
        let kind = u16::from_be_bytes([message[at + 1], message[at + 2]]);
        let id = u16::from_be_bytes([message[0], message[1]]);
        Query { socket, server, transport, id, name: labels.join("."), kind, edns: message[11] == 1 }
    }

    /// An answer without records, from a server that resolves.
    pub fn reply(&self) -> Reply {
        let question = Some((self.name.clone(), self.kind));
        Reply { id: self.id, flags: 0x8180, question, sections: Default::default() }
    }

    pub fn is(&self, name: &str, kind: u16) -> bool {
        self.name.eq_ignore_ascii_case(name) && self.kind == kind
    }
}

impl Reply {
    pub fn with(mut self, name: &str, kind: u16, ttl: u32, data: &str) -> Reply {
        self.sections[0].push(record(name, kind, ttl, data));
        self
    }

    pub fn rcode(mut self, rcode: u16) -> Reply {
        self.flags |= rcode;
        self
    }

    pub fn denied(mut self, ttl: u32) -> Reply {
        self.sections[1].push(record("", SOA, ttl, &ttl.to_string()));
        self
    }

    pub fn octets(&self) -> Vec<u8> {
        let counts = self.sections.iter().map(|s| s.len() as u16);
        let head = [self.id, self.flags, u16::from(self.question.is_some())].into_iter().chain(counts);
        let mut out: Vec<u8> = head.flat_map(u16::to_be_bytes).collect();
        if let Some((name, kind)) = &self.question {
            out.extend(wire_name(name));
            out.extend(kind.to_be_bytes());
            out.extend([0, 1]);
        }
        self.sections.iter().flatten().for_each(|record| out.extend(record));
        out
    }
}

impl Bench {
    pub fn new(conf: &str) -> Bench {
        Bench::with_hosts(conf, "")
    }

    pub fn with_hosts(conf: &str, hosts: &str) -> Bench {
        Bench::with(Config::parse(conf, hosts), 1)
    }

    pub fn with(config: Config, seed: u64) -> Bench {
        let resolver = Resolver::new(config, Seeded::new(seed));
        let now = Time::from_micros(1_000_000);
        Bench { resolver, now, open: Vec::new(), sent: 0, done: BTreeMap::new() }
    }

    pub fn lookup(&mut self, target: &str) -> LookupId {
        self.lookup_kind(target, &Kind::Address)
    }

    pub fn lookup_kind(&mut self, target: &str, kind: &Kind) -> LookupId {
        let target = Target::parse(target, 7700).unwrap();
        let id = self.resolver.lookup(self.now, &target, kind).unwrap();
        self.drain();
        id
    }

    /// Does what the driver does with outputs, and holds the resolver to its word about sockets.
    pub fn drain(&mut self) {
        while let Some(output) = self.resolver.poll_output() {
            match output {
                Output::Query { socket, server, transport, message } => {
                    assert!(self.open.iter().all(|q| q.socket != socket));
                    self.sent += 1;
                    self.open.push(Query::read(socket, server, transport, &message));
                    assert!(self.open.len() <= MAX_SOCKETS);
                }
                Output::Close { socket } => {
                    let at = self.open.iter().position(|q| q.socket == socket);
                    self.open.remove(at.expect("a socket that was opened"));
                }
                Output::Done { id, result, ttl } => {
                    assert!(!matches!(&result, Ok(found) if found.is_empty()));
                    assert!(self.done.insert(id, (result, ttl)).is_none(), "one end a lookup");
                }
            }
        }
        let (lookups, sockets, cached) = self.resolver.load();
        assert_eq!(sockets, self.open.len());
        assert!(lookups <= MAX_LOOKUPS && cached <= MAX_CACHED);
        assert_eq!(lookups > 0, self.resolver.deadline().is_some());
    }

    pub fn query(&self, name: &str, kind: u16) -> Query {
        let found = self.open.iter().find(|q| q.is(name, kind));
        found.unwrap_or_else(|| panic!("no query for {name} {kind}, only {:?}", self.open)).clone()
    }

    pub fn datagram(&mut self, query: &Query, octets: &[u8]) {
        self.resolver.handle_datagram(self.now, query.socket, query.server, octets);
        self.drain();
    }

    pub fn stream(&mut self, query: &Query, octets: &[u8]) {
        self.resolver.handle_stream(self.now, query.socket, octets);
        self.drain();
    }

    /// Sends a reply over whatever the query came by.
    pub fn send(&mut self, query: &Query, reply: &Reply) {
        let octets = reply.octets();
        match query.transport {
            Transport::Udp => self.datagram(query, &octets),
            Transport::Tcp => {
                self.stream(query, &[&(octets.len() as u16).to_be_bytes(), octets.as_slice()].concat())
            }
        }
    }

    pub fn fail(&mut self, query: &Query, why: ErrorKind) {
        self.resolver.handle_failed(self.now, query.socket, why);
        self.drain();
    }

    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        self.resolver.handle_deadline(self.now);
        self.drain();
    }

    /// Lets the next deadline come, and says how long that took.
    pub fn tick(&mut self) -> Duration {
        let wait = self.resolver.deadline().expect("something is under way").since(self.now);
        self.pass(wait);
        wait
    }

    /// Answers from a zone, as a recursive server does that knows nothing else, until all is quiet.
    pub fn serve(&mut self, zone: Zone) {
        while let Some(query) = self.open.first().cloned() {
            self.send(&query, &answer(zone, &query));
        }
    }

    pub fn result(&self, id: LookupId) -> Result<Vec<String>, Reason> {
        let (result, _) = self.done.get(&id).expect("the lookup has ended");
        let found = result.as_ref().map_err(|e| e.reason)?;
        Ok(found.iter().map(|a| a.to_string()).collect())
    }

    pub fn found(&self, id: LookupId) -> Vec<String> {
        self.result(id).unwrap()
    }

    pub fn reason(&self, id: LookupId) -> Reason {
        self.result(id).unwrap_err()
    }

    pub fn ttl(&self, id: LookupId) -> u64 {
        self.done[&id].1.as_secs()
    }

    pub fn counters(&self) -> Counters {
        *self.resolver.counters()
    }
}

pub fn answer(zone: Zone, query: &Query) -> Reply {
    let mut reply = query.reply();
    let mut name = query.name.clone();
    let mut exists = false;
    for _ in 0..20 {
        let own = zone.iter().filter(|(n, ..)| n.eq_ignore_ascii_case(&name));
        let (mut found, mut alias) = (false, None);
        for (owner, kind, data) in own {
            exists = true;
            if *kind == query.kind {
                reply = reply.with(owner, *kind, 60, data);
                found = true;
            } else if *kind == CNAME {
                alias = Some(data);
            }
        }
        match alias {
            Some(target) if !found => {
                reply = reply.with(&name, CNAME, 30, target);
                name = target.to_string();
            }
            _ if found => return reply,
            _ => break,
        }
    }
    reply.rcode(if exists { 0 } else { 3 }).denied(10)
}

pub const ZONE: Zone = &[
    ("host.example", A, "198.51.100.1"),
    ("host.example", A, "198.51.100.2"),
    ("host.example", AAAA, "2001:db8::1"),
    ("v4.example", A, "198.51.100.4"),
    ("alias.example", CNAME, "v4.example"),
    ("empty.example", 16, "text"),
    ("nas.corp.example", A, "198.51.100.9"),
    ("_hail._udp.example", SRV, "20 0 7702 backup.example"),
    ("_hail._udp.example", SRV, "10 0 7701 host.example"),
    ("backup.example", A, "198.51.100.7"),
    ("_no._udp.example", SRV, "0 0 0 ."),
    ("example", A, "198.51.100.80"),
];

pub fn srv(service: &str) -> Kind {
    Kind::Srv { service: Name::parse(service).unwrap() }
}
