//! Protocols by their octets: the examples of their documents, old versions, other directions, later packets.

use crate::{
    flows::{Case, client_hello, dns, framed, noise, record, stun, stun_with},
    quic::initial,
    tcp, udp,
};

pub fn cases() -> Vec<Case> {
    [names(), mail(), files(), remote(), voice(), media(), services(), things(), carriers()]
        .into_iter()
        .flatten()
        .collect()
}

/// DNS and its kin, addresses, time, discovery.
fn names() -> Vec<Case> {
    let mut bootp = vec![1, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0x80, 0];
    bootp.resize(236, 0);
    let discover = [&bootp[..], b"\x63\x82\x53\x63\x35\x01\x01\xff"].concat();
    let mut offer = discover.clone();
    offer[0] = 2;
    let question = dns(0x0100, "www.example.org", 1);
    let answer = [&dns(0x8180, "www.example.org", 1)[..], b"\xc0\x0c\x00\x01"].concat();
    let netbios_name = b"\x20CKAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\x00\x00\x21\x00\x01";
    let label = b"\x20FHEPFCELEHFCEPFFFACACACACACACABN\x00";
    let datagram = [&b"\x11\x02\x12\x34\xc0\xa8\x00\x02\x00\x8a\x00\xbb\x00\x00"[..], label, label].concat();
    vec![
        udp!("dns", 53, >question, <answer),
        udp!("dns", 53, <answer),
        udp!("dns", 53, >dns(0x0100, "www.netflix.com", 28)),
        udp!("dns", 53, >dns(0x0120, "1.0.0.127.in-addr.arpa", 12)),
        udp!("dns", 53, >b"\x00\x01\x28\x00\x00\x01\x00\x00\x00\x01\x00\x00\x07example\x03org\x00\x00\x06\x00\x01"),
        udp!("dns", 53, >b"\x00\x01\x24\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03org\x00\x00\x06\x00\x01"),
        udp!("dns", 53, <b"\x00\x01\x81\x85\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x01"),
        udp!("dns", 5300, >dns(0x0100, "www.example.org", 1)),
        udp!("dns", 5300, <dns(0x8183, "nowhere.example.org", 1)),
        tcp!("dns", 53, >framed(&question), <framed(&answer)),
        tcp!("dns", 53, >framed(&dns(0x0000, "example.org", 252))),
        udp!("mdns", 5353, >dns(0, "_googlecast._tcp.local", 12)),
        udp!("mdns", 5353, >b"\x00\x00\x84\x00\x00\x00\x00\x02\x00\x00\x00\x03\x04host\x05local\x00\x00\x01\x80\x01"),
        udp!("llmnr", 5355, >dns(0, "wpad", 1)),
        udp!("llmnr", 5355, <dns(0x8000, "wpad", 28)),
        tcp!("llmnr", 5355, >framed(&dns(0, "wpad", 255))),
        udp!("dhcp", 68, >discover),
        udp!("dhcp", 68, <offer),
        udp!("dhcp", 68, >bootp.iter().copied().chain([0; 64]).collect::<Vec<u8>>()),
        udp!("netbios", 137, >[&b"\x80\xf0\x00\x10\x00\x01\x00\x00\x00\x00\x00\x00"[..], netbios_name].concat()),
        udp!("netbios", 137, >[&b"\x80\xf1\x01\x10\x00\x01\x00\x00\x00\x00\x00\x00"[..], b"\x20FHEPFCELEHFCEPFFFACACACACACACABN\x00\x00\x20\x00\x01"].concat()),
        udp!("netbios", 137, >[&b"\x80\xf2\x29\x10\x00\x01\x00\x00\x00\x00\x00\x01"[..], b"\x20FHEPFCELEHFCEPFFFACACACACACACABN\x00\x00\x20\x00\x01"].concat()),
        udp!("netbios", 137, <[&b"\x80\xf0\x84\x00\x00\x00\x00\x01\x00\x00\x00\x00"[..], netbios_name].concat()),
        udp!("netbios", 138, >datagram),
        udp!("smb", 138, >[&datagram[..], b"\xffSMB\x25\x00\x00\x00\x00"].concat()),
        tcp!("netbios", 139, >[&b"\x81\x00\x00\x44"[..], label, label].concat(), <b"\x83\x00\x00\x01\x82"),
        udp!("ntp", 123, >[&b"\x1b"[..], &[0; 47]].concat()),
        udp!("ntp", 123, >[&b"\xe3\x00\x03\xfa\x00\x01\x00\x00\x00\x01\x00\x00"[..], &noise(1, 36)].concat()),
        udp!("ntp", 123, <[&b"\x24\x02\x06\xe9"[..], &noise(2, 44)].concat()),
        udp!("ntp", 123, >[&b"\x08\x00\x00\x00"[..], &noise(2, 44)].concat()),
        udp!("ntp", 123, >b"\x16\x02\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00"),
        udp!("ntp", 123, >[&b"\x17\x00\x03\x2a"[..], &[0; 44]].concat()),
        udp!("ntp", 12_300, >[&b"\x23"[..], &[0; 47]].concat()),
        udp!("ssdp", 1900, >b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nST: ssdp:all\r\n\r\n"),
        udp!("ssdp", 1900, >b"NOTIFY * HTTP/1.1\r\nNTS: ssdp:alive\r\n\r\n"),
        udp!("ssdp", 1900, <b"HTTP/1.1 200 OK\r\nST: upnp:rootdevice\r\n\r\n"),
        udp!("ssdp", 51_000, >b"M-SEARCH * HTTP/1.0\r\nST: x\r\n\r\n"),
    ]
}

fn mail() -> Vec<Case> {
    vec![
        tcp!("smtp", 25, <b"220 mx.example.org ESMTP Postfix\r\n", >b"EHLO me\r\n"),
        tcp!("smtp", 25, >b"ehlo me\r\n"),
        tcp!("smtp", 2526, >b"HELO me\r\n"),
        tcp!("smtp", 2526, <b"220 mx.example.org at your service\r\n", <b"250 mx.example.org\r\n"),
        tcp!("smtp", 25, <b"220-mx.example.org\r\n220 ready\r\n"),
        tcp!("smtp", 25, <b"554 5.7.1 go away\r\n"),
        tcp!("smtp", 24, >b"LHLO me\r\n"),
        tcp!("smtp", 587, >b"MAIL FROM:<a@example.org>\r\n", <b"250 2.1.0 Ok\r\n"),
    ]
}

fn files() -> Vec<Case> {
    let data = [&b"\x00\x03\x00\x01"[..], &noise(1, 512)].concat();
    let smb2 = b"\x00\x00\x00\x66\xfeSMB\x40\x00\x00\x00\x00\x00\x00\x00";
    let names = b"\x20EEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEE\x00\x20FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF\x00";
    let utp_syn = b"\x41\x00\x12\x34\x00\x01\x02\x03\x00\x00\x00\x00\x00\x0f\x00\x00\x00\x01\x00\x00";
    let utp = |kind: u8, n: u8| {
        [
            &[kind, 0, 0x12, 0x35, n, 9, 9, 9, 1, 2, 3, n, 0, 0x10, 0, 0, 0, n, 0, n][..],
            &noise(u64::from(n), 30),
        ]
        .concat()
    };
    vec![
        tcp!("ftp", 21, <b"220 (vsFTPd 3.0.3)\r\n", >b"USER anonymous\r\n"),
        tcp!("ftp", 2100, <b"220 Welcome\r\n", <b"331 Password please\r\n"),
        tcp!("ftp", 21, <b"220 ready\r\n", >b"user me\r\n"),
        tcp!("ftp", 21, <b"120 in 5 minutes\r\n"),
        tcp!("ftp", 2100, >b"AUTH TLS\r\n", <b"234 go\r\n"),
        tcp!("ftp", 2100, >b"USER a\r\n", >b"PASS b\r\n", >b"SYST\r\n"),
        tcp!("ftp", 2100, <b"220-Hello\r\n220-This is\r\n220 FileZilla Server\r\n"),
        tcp!("ftp", 21, <b"421 too many\r\n"),
        udp!("tftp", 69, >b"\x00\x01rfc1350.txt\x00octet\x00"),
        udp!("tftp", 69, >b"\x00\x02a/b.bin\x00NetASCII\x00"),
        udp!("tftp", 69, >b"\x00\x01pxelinux.0\x00octet\x00tsize\x000\x00blksize\x001456\x00"),
        udp!("tftp", 33_333, >b"\x00\x06blksize\x001456\x00tsize\x0026579\x00", <b"\x00\x04\x00\x00"),
        udp!("tftp", 33_333, >data, <b"\x00\x04\x00\x01"),
        udp!("tftp", 33_333, >b"\x00\x05\x00\x01File not found\x00"),
        udp!("tftp", 33_333, <b"\x00\x04\x12\x34", >noise(3, 516), <b"\x00\x04\x12\x35"),
        tcp!("smb", 445, >b"\x00\x00\x00\x85\xffSMB\x72\x00\x00\x00\x00\x18\x53\xc8"),
        tcp!("smb", 445, >smb2),
        tcp!("smb", 445, <smb2),
        tcp!("smb", 445, >b"\x00\x00\x00\x85\xfdSMB\x01\x02\x03\x04"),
        tcp!("smb", 445, >b"\x00\x00\x00\x85\xfcSMB\x01\x02\x03\x04"),
        tcp!("netbios", 139, >[&b"\x81\x00\x00\x44"[..], names].concat(), <b"\x82\x00\x00\x00", >b"\x00\x00\x00\x85\xffSMB\x72\x00\x00\x00\x00\x18\x53\xc8"),
        tcp!("smb", 139, <b"\x82\x00\x00\x00", <b"\x00\x00\x00\x55\xffSMB\x72\x00\x00\x00\x00\x98"),
        tcp!("bittorrent", 6881, >b"\x13BitTorrent protocol\x00\x00\x00\x00\x00\x10\x00\x05"),
        tcp!("bittorrent", 40_000, <b"\x13BitTorrent protocol\x00\x00\x00\x00\x00\x10\x00\x05"),
        tcp!("bittorrent", 40_000, >b"\x00\x00\x00\x0d\x06\x00\x00\x00\x05\x00\x00\x40\x00\x00\x00\x40\x00"),
        tcp!("bittorrent", 6969, >b"GET /announce?info_hash=%12%34&peer_id=-XX0000-abc&port=6881 HTTP/1.1\r\nHost: tracker.example.org\r\n\r\n"),
        tcp!("bittorrent", 80, >b"GET /scrape HTTP/1.1\r\nUser-Agent: qBittorrent/4.1\r\nHost: t.example.org\r\n\r\n"),
        udp!("bittorrent", 40_001, >b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe"),
        udp!("bittorrent", 40_001, <b"d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re"),
        udp!("bittorrent", 40_001, <b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee"),
        udp!("bittorrent", 40_001, <b"d2:ip6:abcdef1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re"),
        udp!("bittorrent", 6969, >b"\x00\x00\x04\x17\x27\x10\x19\x80\x00\x00\x00\x00\x12\x34\x56\x78"),
        udp!("bittorrent", 40_002, >utp_syn),
        udp!("bittorrent", 40_002, >utp(0x21, 1), <utp(1, 2), >utp(0x21, 3), <utp(1, 4)),
        udp!("bittorrent", 6771, >b"BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\nInfohash: x\r\n\r\n"),
    ]
}

fn remote() -> Vec<Case> {
    let sid = |opcode: u8| [&[opcode][..], &noise(u64::from(opcode), 8)].concat();
    let plain = [sid(0x38), vec![0; 5]].concat();
    let answer = [sid(0x40), vec![1, 0, 0, 0, 0], noise(1, 8), vec![0; 4]].concat();
    let auth =
        |hmac: usize| [sid(0x38), noise(3, hmac), vec![0, 0, 0, 1, 0x5f, 1, 2, 3], vec![0; 5]].concat();
    let crypt = |opcode: u8, first: u8, more: usize| {
        [sid(opcode), vec![first, 0, 0, 1, 0x66, 1, 2, 3], noise(4, 32 + 5 + more)].concat()
    };
    let wg = |kind: u8, length: usize| [&[kind, 0, 0, 0][..], &noise(u64::from(kind), length - 4)].concat();
    let transport =
        |counter: u8| [&[4, 0, 0, 0, 1, 2, 3, 4, counter, 0, 0, 0, 0, 0, 0, 0][..], &noise(1, 80)].concat();
    let mut rdp_syn = b"\xff\xff\xff\xff\x00\x40\x00\x01\x12\x34\x56\x78\x04\xd0\x04\xd0".to_vec();
    rdp_syn.resize(1232, 0);
    let kexinit =
        [&b"\x00\x00\x03\x14\x08\x14"[..], &noise(7, 16), b"\x00\x00\x00\xb7curve25519-sha256,ecdh"].concat();
    vec![
        tcp!("ssh", 22, >b"SSH-2.0-OpenSSH_9.2\r\n"),
        tcp!("ssh", 2222, <b"SSH-1.99-Cisco-1.25\n"),
        tcp!("ssh", 22, <b"SSH-1.5-1.2.27\n"),
        tcp!("ssh", 22, >kexinit),
        tcp!("vnc", 5900, <b"RFB 003.008\n", >b"RFB 003.003\n"),
        tcp!("vnc", 5901, <b"RFB 003.889\n"),
        tcp!("vnc", 5901, <b"RFB 004.001\n"),
        tcp!("rdp", 3389, >b"\x03\x00\x00\x2c\x27\xe0\x00\x00\x00\x00\x00Cookie: mstshash=eltons\r\n\x01\x00\x08\x00\x00\x00\x00\x00"),
        tcp!("rdp", 33_890, >b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03\x00\x00\x00"),
        tcp!("rdp", 33_890, <b"\x03\x00\x00\x13\x0e\xd0\x00\x00\x12\x34\x00\x02\x00\x08\x00\x00\x00\x00\x00"),
        tcp!("rdp", 33_890, <b"\x03\x00\x00\x13\x0e\xd0\x00\x00\x12\x34\x00\x03\x00\x08\x00\x05\x00\x00\x00"),
        tcp!("rdp", 3389, >b"\x03\x00\x00\x0b\x06\xe0\x00\x00\x00\x00\x00", <b"\x03\x00\x00\x0b\x06\xd0\x00\x00\x12\x34\x00"),
        tcp!("rdp", 3389, >b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x01\x00\x00\x00", >client_hello("pc.local")),
        udp!("rdp", 3389, >rdp_syn),
        udp!("openvpn", 1194, >plain, <answer),
        udp!("openvpn", 40_000, >plain),
        udp!("openvpn", 40_000, <answer),
        udp!("openvpn", 40_000, >auth(16)),
        udp!("openvpn", 40_000, >auth(20)),
        udp!("openvpn", 40_000, >auth(32)),
        udp!("openvpn", 40_000, >auth(64)),
        udp!("openvpn", 40_000, >crypt(0x38, 0, 0)),
        udp!("openvpn", 40_000, >crypt(0x50, 0x0f, 300)),
        udp!("openvpn", 40_000, >[sid(0x38), noise(9, 33)].concat(), <[sid(0x40), noise(10, 45)].concat()),
        tcp!("openvpn", 443, >framed(&plain), <framed(&answer)),
        tcp!("openvpn", 443, >framed(&auth(20))),
        tcp!("openvpn", 443, >framed(&auth(32))),
        udp!("wireguard", 51_820, >wg(1, 148), <wg(2, 92)),
        udp!("wireguard", 443, >wg(1, 148)),
        udp!("wireguard", 443, <wg(2, 92)),
        udp!("wireguard", 443, <wg(3, 64)),
        udp!("wireguard", 443, >transport(7), >transport(8)),
    ]
}

fn voice() -> Vec<Case> {
    let rtp = |kind: u8, n: u8| {
        [&[0x80, kind, 0x10, n, 0, 0, n, 0, 1, 2, 3, 4][..], &noise(u64::from(n), 160)].concat()
    };
    let silence = |n: u8| [&[0x80, 0, 0x10, n, 0, 0, n, 0, 1, 2, 3, 4][..], &[0xff; 20]].concat();
    let rtcp = |kind: u8| [&[0x80, kind, 0, 6][..], &noise(1, 24)].concat();
    let mut cases = vec![
        udp!("sip", 5060, >b"INVITE sip:bob@biloxi.com SIP/2.0\r\nVia: SIP/2.0/UDP pc33.atlanta.com\r\n\r\n", <b"SIP/2.0 100 Trying\r\n"),
        udp!("sip", 15_060, <b"SIP/2.0 401 Unauthorized\r\nVia: x\r\n\r\n"),
        udp!("sip", 5060, >b"\r\n\r\nOPTIONS sip:carol@chicago.com SIP/2.0\r\n"),
        tcp!("sip", 5060, >b"REGISTER sips:ss2.biloxi.example.com SIP/2.0\r\n"),
        tcp!("sip", 5060, >b"\r\n\r\n", <b"\r\nSIP/2.0 200 OK\r\n"),
        tcp!("rtsp", 554, >b"DESCRIBE rtsp://server.example.com/fizzle/foo RTSP/1.0\r\nCSeq: 312\r\n\r\n", <b"RTSP/1.0 200 OK\r\n"),
        tcp!("rtsp", 8554, >b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n"),
        tcp!("rtsp", 8554, <b"RTSP/1.0 454 Session Not Found\r\n"),
        tcp!("rtsp", 80, >b"GET /live HTTP/1.0\r\nx-sessioncookie: a\r\nAccept: application/x-rtsp-tunnelled\r\n\r\n"),
        udp!("rtp", 30_000, >rtp(0, 1), <rtp(0, 9), >rtp(0, 2), <rtp(0, 10)),
        udp!("rtp", 30_000, >rtp(0xe0, 1), >rtp(0x60, 2), >rtp(0x60, 3)),
        udp!("rtp", 30_000, >silence(1), >silence(2), >silence(3)),
        udp!("rtp", 30_001, >rtcp(200), <rtcp(201)),
        udp!("stun", 3478, >stun(1, &[]), <stun(0x0101, &[(0x20, b"\x00\x01\x12\x34\x01\x02\x03\x04")])),
        udp!("stun", 40_000, >stun(1, &[(6, b"user:name"), (0x24, b"\x6e\x00\x01\xff"), (0x8029, &[7; 8]), (8, &[9; 20])])),
        udp!("stun", 3478, >stun(3, &[(0x19, b"\x11\x00\x00\x00")])),
        udp!("stun", 3478, >stun_with(1, [7; 16], &[])),
        udp!("stun", 40_000, >stun_with(1, [7; 16], &[(3, b"\x00\x00\x00\x00")])),
        udp!("stun", 40_000, <stun_with(0x0101, [7; 16], &[(1, b"\x00\x01\x12\x34\x01\x02\x03\x04")])),
        tcp!("stun", 3478, >stun(3, &[(0x19, b"\x11\x00\x00\x00")])),
        tcp!("stun", 40_000, >framed(&stun(1, &[(6, b"user:name")]))),
    ];
    for method in [
        "ACK",
        "BYE",
        "CANCEL",
        "PRACK",
        "SUBSCRIBE",
        "NOTIFY",
        "PUBLISH",
        "INFO",
        "REFER",
        "MESSAGE",
        "UPDATE",
    ] {
        cases.push(udp!("sip", 5070, >format!("{method} sip:a@example.org SIP/2.0\r\n").into_bytes()));
    }
    for method in
        ["SETUP", "PLAY", "PAUSE", "TEARDOWN", "ANNOUNCE", "RECORD", "GET_PARAMETER", "SET_PARAMETER"]
    {
        cases.push(tcp!("rtsp", 8554, >format!("{method} rtsp://example.org/a RTSP/1.0\r\n").into_bytes()));
    }
    cases
}

/// Calls and media of services.
fn media() -> Vec<Case> {
    let implementation = (0x8070, &b"\x00\x00\x00\x03"[..]);
    let realm = |name: &'static [u8]| stun(0x0113, &[(9, b"\x00\x00\x04\x01"), (0x14, name)]);
    vec![
        udp!("teams", 3478, >stun(1, &[(6, b"a:b"), implementation])),
        udp!("teams", 50_000, >stun(1, &[(0x8054, b"1\x00\x00\x00"), (0x24, b"\x6e\x00\x01\xff")])),
        udp!("teams", 3479, >stun(3, &[(0x8008, b"\x00\x00\x00\x06")])),
        udp!("teams", 3478, >stun_with(3, [3; 16], &[(0x0f, b"\x72\xc6\x4b\xc6"), (0x8008, b"\x00\x00\x00\x04")])),
        tcp!("teams", 443, >framed(&stun(1, &[(6, b"a:b"), implementation]))),
        tcp!("teams", 443, >[&b"\x02\x00"[..], &framed(&stun(3, &[]))].concat()),
        udp!("whatsapp", 3478, >stun(0x0800, &[(0x4002, b"abcd")])),
        udp!("whatsapp", 3478, >stun(3, &[(0x4000, &[1; 40]), (0x16, &[2; 8])])),
        udp!("googlecall", 3478, >stun(3, &[(0x19, b"\x11\x00\x00\x00")]), <realm(b"turn.l.google.com")),
        udp!("googlecall", 19_305, >stun(1, &[(6, b"a:b")])),
        udp!("googlecall", 19_305, >b"\x16\xfe\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00\x10\x01"),
        udp!("facebook", 40_002, >stun(3, &[(0x19, b"\x11\x00\x00\x00")]), <realm(b"turner.facebook")),
        udp!("stun", 3478, >stun(3, &[(0x19, b"\x11\x00\x00\x00")]), <realm(b"example.org")),
        udp!("zoom", 8801, >b"\x01\x00\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c"),
        udp!("zoom", 8801, >[&b"\x05\x10\x01\x2c\x00\x00\x00\x04\x0f"[..], &noise(1, 80)].concat()),
        udp!("zoom", 3478, >stun_with(1, [5; 16], &[(0x0101, b"12345678901234567890")])),
        udp!("discord", 50_001, >[&b"\x00\x01\x00\x46\x00\x00\x12\x34"[..], &[0; 66]].concat()),
        udp!("discord", 50_001, <[&b"\x00\x02\x00\x46\x00\x00\x12\x34192.0.2.1"[..], &[0; 57]].concat()),
        udp!("discord", 50_001, >b"\x13\x37\xca\xfe\x01\x00\x00\x00"),
        udp!("telegram", 596, >[&noise(1, 16)[..], &[0xff; 12], b"\xfe\xff\xff\xff", &noise(2, 8)].concat()),
    ]
}

fn services() -> Vec<Case> {
    let req_pq = [&[0; 8][..], &noise(1, 8), b"\x14\x00\x00\x00\xf1\x8e\x7e\xbe", &noise(2, 16)].concat();
    vec![
        tcp!("whatsapp", 443, >b"WA\x05\x02\x00\x00\x22\x12\x20"),
        tcp!("whatsapp", 5222, >b"ED\x00\x01\x00\x00\x04\x08\x08\x1a\x02WA\x06\x03\x00\x00\x24"),
        tcp!("whatsapp", 443, >b"WA\x01\x05\x00\x00\x17"),
        tcp!("telegram", 443, >[&b"\xef\x0a"[..], &req_pq].concat()),
        tcp!("telegram", 80, >[&b"\xee\xee\xee\xee\x28\x00\x00\x00"[..], &req_pq].concat()),
        tcp!("telegram", 5222, >[&b"\xdd\xdd\xdd\xdd\x30\x00\x00\x00"[..], &req_pq, &noise(3, 8)].concat()),
        tcp!("telegram", 443, >[&b"\x34\x00\x00\x00\x00\x00\x00\x00"[..], &req_pq, &noise(4, 4)].concat()),
        tcp!("telegram", 443, >[&b"\xef\x2e"[..], &noise(5, 184)].concat()),
        tcp!("spotify", 4070, >b"\x00\x04\x00\x00\x00\xb1\x52\x0e\x50\x00\xa0\x01\x08\xf0\x01\x20"),
        udp!("spotify", 57_621, >b"SpotUdp0\x12\x34\x56\x78\x00\x01\x00\x04\x48\x95\xc2\x03"),
        udp!("dropbox", 17_500, >b"{\"host_int\": 123456, \"version\": [2, 0], \"displayname\": \"\", \"port\": 17500, \"namespaces\": [1, 2]}"),
        udp!("dropbox", 17_600, >b"{\"version\": [2, 0], \"port\": 17500, \"host_int\": 9, \"displayname\": \"\", \"namespaces\": [1]}"),
    ]
}

fn things() -> Vec<Case> {
    let magic = b"\x00\xff\xff\x00\xfe\xfe\xfe\xfe\xfd\xfd\xfd\xfd\x12\x34\x56\x78";
    vec![
        tcp!("mqtt", 1883, >b"\x10\x13\x00\x04MQTT\x04\x02\x00\x3c\x00\x07thermos", <b"\x20\x02\x00\x00"),
        tcp!("mqtt", 11_883, >b"\x10\x1a\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x0cmosqsub/1234"),
        tcp!("mqtt", 11_883, >b"\x10\xa5\x01\x00\x04MQTT\x05\xc2\x00\x3c\x05\x11\x00\x00\x00\x0a"),
        tcp!("mqtt", 1883, <b"\x20\x02\x00\x05"),
        tcp!("mqtt", 1883, >b"\xc0\x00", <b"\xd0\x00"),
        tcp!("mqtt", 11_883, <b"\x30\x0f\x00\x0bhome/tempera20.5"),
        udp!("coap", 5683, >b"\x40\x01\x7d\x34\xbbtemperature", <b"\x60\x45\x7d\x34\xff22.3 C"),
        udp!("coap", 5683, >b"\x41\x01\x7d\x35\x20\xbbtemperature"),
        udp!("coap", 5683, >b"\x70\x00\x7d\x34"),
        udp!("coap", 5683, >b"\x43\x01\x12\x34\x72\x16\x33\x9b.well-known\x04core"),
        udp!("coap", 5683, >b"\x42\x01\x12\x34\x91a\xb4tokn"),
        udp!("coap", 5683, <b"\x64\x45\x12\x34\x01\x02\x03\x04\xc0\xff{}"),
        udp!("coap", 61_616, >b"\x52\x02\x12\x34\x01\x02\xb1a"),
        udp!("coap", 9999, >b"\x40\x01\x00\x01\xbb.well-known\x04core"),
        tcp!("coap", 5683, >b"\x00\xe1", <b"\x00\xe1"),
        udp!("raknet", 19_132, >[&b"\x01\x00\x00\x00\x00\x00\x0f\x42\x40"[..], magic, &noise(1, 8)].concat()),
        udp!("raknet", 19_132, <[&b"\x1c"[..], &noise(1, 16), magic, b"\x00\x04MCPE"].concat()),
        udp!("raknet", 60_000, >[&b"\x05"[..], magic, b"\x0b", &[0; 1400]].concat()),
        udp!("raknet", 60_000, <[&b"\x06"[..], magic, &noise(2, 8), b"\x00\x05\xd4"].concat()),
        udp!("raknet", 60_000, >[&b"\x07"[..], magic, &noise(2, 20)].concat()),
        udp!("raknet", 60_000, <b"\xc0\x00\x01\x01\x00\x00\x00"),
        udp!("raknet", 60_000, >[&b"\x84\x00\x00\x00\x40\x00\x90\x00\x00\x00\x09"[..], &noise(3, 17)].concat()),
        tcp!("minecraft", 25_565, >b"\x10\x00\xfb\x05\x09mc.home.x\x63\xdd\x01"),
        tcp!("minecraft", 25_565, >b"\xfe\x01\xfa\x00\x0b\x00M\x00C\x00|\x00P"),
        udp!("steam", 27_015, >b"\xff\xff\xff\xffTSource Engine Query\x00"),
        udp!("steam", 27_036, >b"\xff\xff\xff\xff\x21\x4c\x5f\xa0\x16\x00\x00\x00"),
        udp!("plex", 32_414, >b"M-SEARCH * HTTP/1.0\r\n\r\n"),
        udp!("playstation", 9302, >b"SRCH * HTTP/1.1\ndevice-discovery-protocol-version:00030010\n"),
        tcp!("airplay", 7000, >b"POST /pair-verify RTSP/1.0\r\nCSeq: 1\r\n\r\n"),
        tcp!("homekit", 51_826, >b"POST /pair-setup HTTP/1.1\r\nHost: lamp._hap._tcp.local\r\nContent-Type: application/pairing+tlv8\r\n\r\n"),
        tcp!("chromecast", 8009, >client_hello("")),
    ]
}

/// What others run inside of.
fn carriers() -> Vec<Case> {
    let mut cases = vec![
        udp!("youtube", 443, >initial(false, "rr1---sn-abc.googlevideo.com")),
        udp!("google", 443, >initial(true, "www.google.com")),
        udp!("facebook", 443, >initial(false, "graph.facebook.com")),
        udp!("quic", 443, >initial(false, "www.example.org")),
        udp!("quic", 4433, >initial(true, "www.example.org")),
        udp!("quic", 443, >[&b"\xc3\xff\x00\x00\x1d\x08"[..], &noise(1, 1200)].concat()),
        udp!("quic", 443, >[&b"\xc3\x1a\x2a\x3a\x4a\x08"[..], &noise(1, 1200)].concat()),
        udp!("quic", 443, >[&b"\xc3Q050\x08"[..], &noise(1, 1200)].concat()),
        udp!("quic", 443, >[&b"\x0dcidcidciQ046\x01"[..], &noise(1, 1200)].concat()),
        udp!("quic", 443, <b"\xd5\x00\x00\x00\x00\x08abcdefgh\x08ABCDEFGH\x00\x00\x00\x01\xff\x00\x00\x1d"),
        tcp!("tls", 993, <record(22, b"\x02\x00\x00\x46\x03\x03")),
        tcp!("tls", 443, >record(23, &noise(1, 300))),
        tcp!("tls", 443, <record(21, b"\x02\x28")),
        tcp!("tls", 443, <record(21, &noise(1, 22))),
        tcp!("tls", 443, >b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10\x01\x00\x80"),
        tcp!("tls", 443, >b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10\x01\x00\x80"),
        tcp!("http", 8080, <b"HTTP/1.0 404 Not Found\r\n\r\n"),
        tcp!("http", 8080, >b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        tcp!("http", 3128, >b"CONNECT www.example.org:443 HTTP/1.1\r\n\r\n"),
        tcp!("http", 80, >b"GET /\r\n"),
        tcp!("http", 80, >b"GET http://www.example.org/ HTTP/1.0\r\n\r\n"),
        tcp!("http", 80, >b"OPTIONS * HTTP/1.1\r\n\r\n"),
        tcp!("http", 49_152, >b"SUBSCRIBE /event HTTP/1.1\r\nCALLBACK: <http://192.0.2.1/>\r\n\r\n"),
        tcp!("http", 49_152, >b"NOTIFY /event HTTP/1.1\r\nNT: upnp:event\r\n\r\n"),
        tcp!("http", 80, >[&b"GET /"[..], &[b'a'; 5000]].concat()),
        tcp!("http", 80, >b"GET /sp ace/\xc3\xa4 HTTP/1.1\r\n\r\n"),
    ];
    for method in ["POST", "HEAD", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "REPORT", "MKCOL", "LOCK"] {
        cases.push(tcp!("http", 8081, >format!("{method} /dav HTTP/1.1\r\n\r\n").into_bytes()));
    }
    cases
}
