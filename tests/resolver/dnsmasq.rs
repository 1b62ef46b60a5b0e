//! The resolver against a real name server, where dnsmasq is installed.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use hailpost::{
    net::resolver::{Config, Kind, Output, Reason, Resolver, Target, Transport},
    rng::Seeded,
    time::Time,
    wire::dns::Name,
};

/// Records enough that they do not fit a datagram.
const MANY: usize = 60;

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts dnsmasq on a free port of loopback, or says that there is none.
    fn start() -> Option<Server> {
        let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|s| s.local_addr()).unwrap();
        let mut command = Command::new("dnsmasq");
        command.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--pid-file=",
        ]);
        command.args(["--listen-address=127.0.0.1", "--bind-interfaces", "--user=", "--log-facility=-"]);
        command.arg(format!("--port={}", free.port()));
        command.args(["--local=/test/", "--host-record=host.test,192.0.2.1,2001:db8::1,120"]);
        command.args(["--host-record=nas.lab.test,192.0.2.9", "--cname=alias.test,host.test"]);
        command.args(["--srv-host=_hail._udp.test,host.test,7701,10,5", "--srv-host=_no._udp.test"]);
        command.args((0..MANY).map(|i| format!("--host-record=many.test,2001:db8::{i:x}")));
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let server = Server { child, address: free };
        // It listens on both transports or on none.
        let up = (0..200).any(|_| {
            sleep(Duration::from_millis(25));
            TcpStream::connect(free).is_ok()
        });
        assert!(up, "dnsmasq does not start");
        Some(server)
    }
}

/// The plainest of drivers: one query after the other, each waited for.
fn resolve(resolver: &mut Resolver<Seeded>, target: &str, kind: &Kind) -> Result<Vec<String>, Reason> {
    let start = Instant::now();
    let now = || Time::from_micros(start.elapsed().as_micros() as u64);
    let id = resolver.lookup(now(), &Target::parse(target, 7700).unwrap(), kind).unwrap();
    loop {
        match resolver.poll_output().expect("every query is waited for") {
            Output::Close { .. } => {}
            Output::Done { id: done, result, .. } => {
                assert_eq!(done, id);
                let found = result.map_err(|e| e.reason)?;
                return Ok(found.iter().map(|a| a.to_string()).collect());
            }
            Output::Query { socket, server, transport: Transport::Udp, message } => {
                let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                udp.connect(server).unwrap();
                udp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                udp.send(&message).unwrap();
                let mut datagram = [0; 4096];
                let (length, from) = udp.recv_from(&mut datagram).unwrap();
                resolver.handle_datagram(now(), socket, from, &datagram[..length]);
            }
            Output::Query { socket, server, transport: Transport::Tcp, message } => {
                let mut tcp = TcpStream::connect(server).unwrap();
                tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                tcp.write_all(&message).unwrap();
                let mut length = [0; 2];
                tcp.read_exact(&mut length).unwrap();
                resolver.handle_stream(now(), socket, &length);
                let mut rest = vec![0; usize::from(u16::from_be_bytes(length))];
                tcp.read_exact(&mut rest).unwrap();
                resolver.handle_stream(now(), socket, &rest);
                // The resolver closes; a server that does so first is a failure that comes too late.
                resolver.handle_failed(now(), socket, ErrorKind::UnexpectedEof);
            }
        }
    }
}

#[test]
fn a_real_server_answers() {
    let Some(server) = Server::start() else {
        return eprintln!("SKIPPED: dnsmasq is not installed (apt-get install dnsmasq-base)");
    };
    let mut config = Config::parse("search lab.test\n", "");
    config.servers = vec![server.address];
    config.timeout = Duration::from_secs(30);
    config.limit = Duration::from_secs(120);
    config.ipv6_wait = config.limit;
    let resolver = &mut Resolver::new(config, Seeded::new(5));
    let srv = |name| Kind::Srv { service: Name::parse(name).unwrap() };
    let both = ["[2001:db8::1]:7700", "192.0.2.1:7700"].map(String::from).to_vec();

    assert_eq!(resolve(resolver, "host.test", &Kind::Address), Ok(both.clone()));
    assert_eq!(resolve(resolver, "alias.test", &Kind::Address), Ok(both));
    assert_eq!(resolve(resolver, "nas", &Kind::Address), Ok(vec!["192.0.2.9:7700".into()]));
    assert_eq!(resolve(resolver, "missing.test.", &Kind::Address), Err(Reason::NoSuchName));
    let at_srv = ["[2001:db8::1]:7701", "192.0.2.1:7701"].map(String::from).to_vec();
    assert_eq!(resolve(resolver, "test", &srv("_hail._udp")), Ok(at_srv));
    assert_eq!(resolve(resolver, "test", &srv("_no._udp")), Err(Reason::NotOffered));

    // Sixty addresses do not fit: truncated, then over TCP.
    let before = resolver.counters().truncated;
    let many = resolve(resolver, "many.test", &Kind::Address).unwrap();
    assert!(!many.is_empty());
    assert_eq!(resolver.counters().truncated, before + 1);
    // Nothing about a healthy exchange counts as trouble.
    let c = resolver.counters();
    assert_eq!(
        (c.malformed, c.strays, c.case_folded, c.edns_refused, c.timeouts, c.retries),
        (0, 0, 0, 0, 0, 0)
    );
}
