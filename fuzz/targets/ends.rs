//! Any octets, in any pieces and order, at both ends of the gateway protocol on both transports.
//!
//! The first octet of a piece says where it goes, the second how long it is. A peer on a stream has the key that the first
//! octet of its piece names, if that is not 0; key 1 is enrolled, and a token is out.
#![no_main]

use std::{net::SocketAddr, time::Duration};

use hailpost::{
    gateway::{BackendConfig, Enrolment, Gateway, GatewayConfig, Grant, Open, Token},
    io::{Conn, Input, KeyId, Output, Peer, Service, Transport},
    node::{BackendNode, GatewayNode, Node},
    rng::Seeded,
    store::Memory,
    time::Time,
    wire::gateway::Family,
};
use libfuzzer_sys::fuzz_target;

const TOKEN: Token = Token([7; 16]);
const UNIX: u64 = 1_700_000_000;

struct End {
    node: Box<dyn Node>,
    /// What it sent last, to be given back to it changed.
    sent: Vec<u8>,
    connect: Option<Conn>,
}

impl End {
    fn turn(&mut self, now: Time, input: Input<'_>) {
        self.node.handle(now, input);
        for _ in 0..2 {
            let mut outputs = 0;
            while let Some(output) = self.node.poll_output(now) {
                outputs += 1;
                assert!(outputs < 100_000, "outputs without end");
                match output {
                    Output::Send { octets, .. } => self.sent = octets,
                    Output::Connect { conn, .. } => self.connect = Some(conn),
                    _ => {}
                }
            }
            if !self.node.flush(now) {
                break;
            }
        }
    }
}

fuzz_target!(|octets: &[u8]| {
    let address: SocketAddr = "192.0.2.1:7700".parse().expect("an address");
    let mut now = Time::ZERO;
    let config = BackendConfig {
        family: Family::V4,
        open_group: Some("g".into()),
        agreement: 1,
        max_gateways: 8,
        ..BackendConfig::default()
    };
    let open = Open { now, unix: UNIX, rng: Seeded::new(1) };
    let mut backend =
        BackendNode::open(config, open, Box::new(Memory::default()), None).expect("an empty store opens");
    let of = |name: &str| (name.to_owned(), "g".to_owned());
    let (name, group) = of("kitchen");
    let enrolment = Enrolment { name, group, trusted: true, barred: false };
    backend.backend_mut().enrol(KeyId([1; 32]), enrolment).expect("a good name");
    let (name, group) = of("hall");
    let grant = Grant { name, group, trusted: false, replaces: true, expires: UNIX + 60 };
    backend.backend_mut().issue_token(now, &TOKEN, grant).expect("room for one");
    let config = GatewayConfig { family: Family::V4, token: Some(TOKEN), ..GatewayConfig::default() };
    let gateway = Gateway::new(config, now, Seeded::new(2));
    let mut ends = [
        End { node: Box::new(backend), sent: Vec::new(), connect: None },
        End { node: Box::new(GatewayNode::new(gateway, None)), sent: Vec::new(), connect: None },
    ];
    let stream = Peer { transport: Transport::Stream, local: address, remote: address, key: None, service: Service::Gateway };
    let datagram = Peer { transport: Transport::Datagram, ..stream };
    ends[0].turn(now, Input::Accepted { conn: Conn(1), peer: datagram });
    let mut rest = octets;
    while let [what, len, tail @ ..] = rest {
        let (piece, tail) = tail.split_at(tail.len().min(usize::from(*len)));
        rest = tail;
        now += Duration::from_millis(u64::from(*what & 0xf0) * 20);
        let given = match what & 8 {
            0 => piece.to_vec(),
            // What the other end said, with the piece laid over it.
            _ => {
                let mut given = ends[usize::from(what & 1) ^ 1].sent.clone();
                given.iter_mut().zip(piece).for_each(|(octet, change)| *octet ^= change);
                given
            }
        };
        let key = piece.first().filter(|octet| **octet != 0).map(|octet| KeyId([*octet; 32]));
        let stream = Peer { key, ..stream };
        match what & 7 {
            0 => ends[0].turn(now, Input::Received { conn: Conn(1), from: Some(address), octets: &given }),
            2 => ends[0].turn(now, Input::Received { conn: Conn(2), from: None, octets: &given }),
            4 => ends[0].turn(now, Input::Accepted { conn: Conn(2), peer: stream }),
            6 => ends[0].turn(now, Input::Closed { conn: Conn(2), fault: None }),
            1 => {
                if let Some(conn) = ends[1].connect {
                    ends[1].turn(now, Input::Received { conn, from: None, octets: &given });
                }
            }
            3 | 5 => {
                let peer = if what & 7 == 3 { stream } else { datagram };
                if let Some(conn) = ends[1].connect {
                    ends[1].turn(now, Input::Connected { conn, peer });
                }
            }
            _ => ends.iter_mut().for_each(|end| end.turn(now, Input::Deadline)),
        }
    }
});
