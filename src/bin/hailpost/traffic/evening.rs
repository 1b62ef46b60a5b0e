//! An evening in a home, and a camera that changes its ways.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use hailpost::time::Time;

use super::{Chance, Pcap, Talk};

/// The AppID of the camera, which no rule that ships knows.
pub const CAMERA: u32 = 9001;
/// Conversations in an [`evening`]: ten in each round.
pub const EVENING_FLOWS: usize = ROUNDS as usize * 10;
const ROUNDS: u16 = 18;
/// The rule by which an operator knows it.
pub const CAMERA_RULE: &str = r"(?#tcp)^CAM/1 hello";

/// What the camera does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Camera {
    /// As delivered: a short word now and then.
    Quiet,
    /// After an update: the same greeting, then pictures, in one of some manners.
    Pictures(u16),
    /// After another: pictures in that manner, under a greeting that no rule knows.
    Unknown(u16),
}

/// An evening's traffic: several applications that the rules that ship know, each several times over some hours, and the camera
/// as delivered.
pub fn evening() -> Pcap {
    let mut pcap = Pcap::new();
    let mut chance = Chance::new(2013);
    for round in 0..ROUNDS {
        let start = Time::from_micros(1_700_000_000_000_000) + Duration::from_secs(300 * u64::from(round));
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let port = 40_000 + round * 16;
        lookup(&mut pcap, &mut chance, at(0), port);
        web(&mut pcap, &mut chance, at(2), port + 1);
        film(&mut pcap, &mut chance, at(5), port + 2, "occ-0-1.nflxvideo.net", 20);
        film(&mut pcap, &mut chance, at(40), port + 3, "rr1---sn.googlevideo.com", 21);
        shell(&mut pcap, &mut chance, at(80), port + 4);
        sensor(&mut pcap, &mut chance, at(120), port + 5);
        clock(&mut pcap, at(150), port + 6);
        mail(&mut pcap, &mut chance, at(160), port + 7);
        call(&mut pcap, &mut chance, at(190), port + 8);
        camera(&mut pcap, &mut chance, at(200), port + 9, Camera::Quiet);
    }
    idle(&mut pcap);
    pcap
}

/// So many conversations of the camera, some minutes apart, that begin `after` some earlier capture.
pub fn later(after: Time, kind: Camera, count: u16, seed: u16) -> Pcap {
    let mut pcap = Pcap::new();
    let mut chance = Chance::new(u64::from(seed));
    for number in 0..count {
        let at = after + Duration::from_secs(60 + 150 * u64::from(number));
        camera(&mut pcap, &mut chance, at, 42_000 + seed * 64 + number, kind);
    }
    idle(&mut pcap);
    pcap
}

/// Nothing but the house's bridge for a while, so that what was open is over.
fn idle(pcap: &mut Pcap) {
    let end = pcap.end() + Duration::from_secs(400);
    for number in 0..200 {
        let who_has = [
            &[0xff; 6][..],
            &[2, 0, 0, 0, 0, 2, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2, 192, 168, 1, 1],
            &[0, 0, 0, 0, 0, 0, 192, 168, 1, 7],
            &[0; 18],
        ];
        pcap.push(end + Duration::from_millis(number), who_has.concat());
    }
}

fn home(host: u8, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(192, 168, 1, host), port)
}

/// A server of the documentation's network (RFC 5737).
fn server(host: u8, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, host), port)
}

fn lookup(pcap: &mut Pcap, chance: &mut Chance, at: Time, port: u16) {
    let name = b"\x05films\x07example\x00\x00\x01\x00\x01";
    let ask = [&port.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0], name].concat();
    let answer = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, 20];
    let say = [&port.to_be_bytes()[..], &[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0], name, &answer].concat();
    Talk::udp(pcap, at, home(7, port), home(1, 53)).client(&ask).wait(chance.pause(20)).server(&say);
}

fn web(pcap: &mut Pcap, chance: &mut Chance, at: Time, port: u16) {
    let mut talk = Talk::tcp(pcap, at, home(7, port), server(10, 80));
    for _ in 0..6 {
        let len = chance.about(9000, 2);
        talk.client(b"GET /news HTTP/1.1\r\nHost: www.newspaper.example\r\nUser-Agent: browser\r\n\r\n");
        talk.wait(chance.pause(40));
        talk.server(format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n").as_bytes());
        talk.server(&chance.text(len)).wait(chance.pause(900));
    }
    talk.close();
}

fn film(pcap: &mut Pcap, chance: &mut Chance, at: Time, port: u16, name: &str, host: u8) {
    let hello = client_hello(name, chance);
    let mut talk = Talk::tcp(pcap, at, home(8, port), server(host, 443));
    talk.client(&hello).wait(chance.pause(15));
    talk.server(&tls(22, &chance.noise(3000))).client(&tls(22, &chance.noise(70)));
    for _ in 0..4 {
        talk.client(&tls(23, &chance.noise(480))).wait(chance.pause(25));
        let len = chance.about(12_000, 4);
        talk.server(&tls(23, &chance.noise(len))).wait(chance.pause(2000));
    }
    talk.close();
}

fn shell(pcap: &mut Pcap, chance: &mut Chance, at: Time, port: u16) {
    let mut talk = Talk::tcp(pcap, at, home(9, port), server(30, 22));
    talk.server(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n").client(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n");
    talk.client(&chance.noise(1500)).server(&chance.noise(1100));
    for _ in 0..12 {
        talk.client(&chance.noise(36)).wait(chance.pause(200)).server(&chance.noise(44));
    }
    talk.close();
}

fn sensor(pcap: &mut Pcap, chance: &mut Chance, at: Time, port: u16) {
    let mut talk = Talk::tcp(pcap, at, home(20, port), server(40, 1883));
    talk.client(b"\x10\x14\x00\x04MQTT\x04\x02\x00\x3c\x00\x08sensor-1").server(b"\x20\x02\x00\x00");
    for number in 0..10u8 {
        let reading = [&b"\x32\x1a\x00\x10home/temperature\x00"[..], &[number], b"21.5 C\x00"].concat();
        talk.client(&reading).server(&[0x40, 2, 0, number]).wait(chance.pause(1000));
    }
    talk.close();
}

fn clock(pcap: &mut Pcap, at: Time, port: u16) {
    let ask = [&[0x23, 0, 6, 0xec][..], &[0; 36], &[0xe0, 1, 2, 3, 4, 5, 6, 7]].concat();
    let say = [&[0x24, 2, 6, 0xec, 0, 0, 1, 2, 0, 0, 3, 4, 192, 0, 2, 1][..], &[0xe0; 32]].concat();
    Talk::udp(pcap, at, home(7, port), server(50, 123))
        .client(&ask)
        .wait(Duration::from_millis(12))
        .server(&say);
}

fn mail(pcap: &mut Pcap, chance: &mut Chance, at: Time, port: u16) {
    let mut talk = Talk::tcp(pcap, at, home(7, port), server(60, 25));
    talk.server(b"220 mail.example ESMTP ready\r\n").client(b"EHLO home.example\r\n");
    talk.server(b"250-mail.example\r\n250 SIZE 10000000\r\n");
    for line in ["MAIL FROM:<a@home.example>", "RCPT TO:<b@mail.example>", "DATA"] {
        talk.client(format!("{line}\r\n").as_bytes()).server(b"250 2.0.0 Ok\r\n").wait(chance.pause(30));
    }
    for _ in 0..4 {
        talk.client(&chance.text(1200)).wait(chance.pause(10));
    }
    talk.client(b"\r\n.\r\n")
        .server(b"250 2.0.0 queued\r\n")
        .client(b"QUIT\r\n")
        .server(b"221 2.0.0 Bye\r\n");
    talk.close();
}

fn call(pcap: &mut Pcap, chance: &mut Chance, at: Time, port: u16) {
    let id = chance.about(50_000, 2);
    let invite = format!(
        "INVITE sip:bob@voice.example SIP/2.0\r\nVia: SIP/2.0/UDP 192.168.1.9:5060;branch=z9hG4bK{id}\r\n\
         From: <sip:alice@voice.example>;tag=1\r\nTo: <sip:bob@voice.example>\r\nCall-ID: {id}@home\r\n\
         CSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
    );
    let mut talk = Talk::udp(pcap, at, home(9, port), server(70, 5060));
    talk.client(invite.as_bytes()).server(b"SIP/2.0 100 Trying\r\nContent-Length: 0\r\n\r\n");
    talk.wait(chance.pause(800)).server(b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n");
    talk.client(b"ACK sip:bob@voice.example SIP/2.0\r\nContent-Length: 0\r\n\r\n");
}

fn camera(pcap: &mut Pcap, chance: &mut Chance, at: Time, port: u16, kind: Camera) {
    let host = match kind {
        Camera::Quiet => 80,
        Camera::Pictures(_) => 81,
        Camera::Unknown(_) => 82,
    };
    let mut talk = Talk::tcp(pcap, at, home(30, port), server(host, 8443));
    let greeting = match kind {
        Camera::Unknown(_) => b"EYE/2 hello ",
        _ => b"CAM/1 hello ",
    };
    let (about, answer) = (chance.about(50, 2), chance.about(40, 2));
    talk.client(&[greeting, &chance.text(about)[..]].concat()).wait(chance.pause(20));
    talk.server(&chance.text(answer));
    let (len, pause) = match kind {
        Camera::Quiet => (90, 1500),
        Camera::Pictures(manner) | Camera::Unknown(manner) => {
            [(1250, 12), (450, 6000), (1300, 200), (220, 20)][usize::from(manner % 4)]
        }
    };
    for _ in 0..9 {
        let len = chance.about(len, 8);
        talk.wait(chance.pause(pause)).client(&chance.text(len)).server(b"thank you\r\n");
    }
    talk.close();
}

fn tls(kind: u8, body: &[u8]) -> Vec<u8> {
    body.chunks(16_000)
        .flat_map(|piece| {
            let len = (piece.len() as u16).to_be_bytes();
            [&[kind, 3, 3, len[0], len[1]], piece].concat()
        })
        .collect()
}

/// A ClientHello with this server name (RFC 8446 §4.1.2, RFC 6066 §3).
fn client_hello(name: &str, chance: &mut Chance) -> Vec<u8> {
    let len = name.len() as u16;
    let mut extensions = vec![0, 0];
    [len + 5, len + 3].iter().for_each(|number| extensions.extend(number.to_be_bytes()));
    extensions.push(0);
    extensions.extend(len.to_be_bytes());
    extensions.extend(name.as_bytes());
    extensions.extend([0, 43, 0, 3, 2, 3, 4, 0, 10, 0, 4, 0, 2, 0, 29, 0, 16, 0, 5, 0, 3, 2, b'h', b'2']);
    let mut body = vec![3, 3];
    body.extend(chance.noise(32));
    body.push(32);
    body.extend(chance.noise(32));
    body.extend([0, 4, 0x13, 1, 0x13, 2, 1, 0]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let len = (body.len() as u16).to_be_bytes();
    tls(22, &[&[1, 0, len[0], len[1]], &body[..]].concat())
}
