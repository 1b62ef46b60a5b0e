//! Every seed of the fuzzers for the link and the post office, run as a plain test, so that what a fuzzer found once cannot come back
//! between two runs of `scripts/fuzz.sh`. `HAILPOST_BLESS=1` writes the seeds that are made here.

use std::{fs, path::PathBuf};

#[path = "../fuzz/bodies/app.rs"]
mod app;
#[path = "../fuzz/bodies/asks.rs"]
mod asks;
#[path = "../fuzz/bodies/frames.rs"]
mod frames;
#[path = "../fuzz/bodies/inner.rs"]
mod inner;
#[path = "../fuzz/bodies/link.rs"]
mod link;
#[path = "../fuzz/bodies/peers.rs"]
mod peers;

fn corpus(target: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "fuzz/corpus", target].iter().collect()
}

/// Runs all seeds of a target; one that fails is named.
fn run(target: &str, body: fn(&[u8]), seeds: &[(&str, Vec<u8>)]) {
    let folder = corpus(target);
    if std::env::var_os("HAILPOST_BLESS").is_some() {
        fs::create_dir_all(&folder).unwrap();
        for (name, octets) in seeds {
            fs::write(folder.join(name), octets).unwrap();
        }
    }
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= seeds.len(), "{} seeds in {}", files.len(), folder.display());
    for file in files {
        let octets = fs::read(&file).unwrap();
        if let Err(panic) = std::panic::catch_unwind(|| body(&octets)) {
            eprintln!("failed: {}", file.display());
            std::panic::resume_unwind(panic);
        }
    }
}

fn steps(options: u8, steps: &[(u8, u8)]) -> Vec<u8> {
    std::iter::once(options).chain(steps.iter().flat_map(|(what, how)| [*what, *how])).collect()
}

#[test]
fn seeds_of_the_link() {
    let (live, deliver, restart, revoke, look, old, stranger) = (27, 5, 16, 17, 18, 21, 22);
    let seeds = [
        ("quiet", steps(0, &[(live, 31)])),
        ("messages-both-ways", steps(0, &[(0, 0), (1, 0), (0, 10), (1, 11), (live, 2), (0, 14), (live, 5)])),
        ("cookies-before-all", steps(20, &[(deliver, 0); 6])),
        ("out-of-order", steps(0, &[(0, 12), (1, 12), (7, 0), (7, 0), (7, 0), (live, 1)])),
        ("lost-and-doubled", steps(0, &[(0, 12), (8, 0), (9, 1), (8, 3), (9, 2), (deliver, 0), (live, 9)])),
        ("restart-and-reset", steps(0, &[(1, 12), (restart, 0), (0, 0), (live, 5), (1, 2), (live, 5)])),
        ("revoked", steps(0, &[(0, 6), (revoke, 0), (live, 5), (revoke, 1), (restart, 0), (live, 31)])),
        ("rekeyed-under-way", steps(8, &[(13, 14), (0, 12), (1, 12), (live, 1), (9, 0), (live, 31)])),
        (
            "moved",
            steps(0, &[(look, 12), (deliver, 0), (deliver, 0), (0, 0), (live, 4), (look, 21), (live, 4)]),
        ),
        ("replayed", steps(0, &[(old, 0), (old, 1), (stranger, 0), (stranger, 2), (old, 3), (live, 2)])),
        (
            "too-small-for-all",
            steps(2, &[(0, 14), (1, 14), (live, 3), (1, 15), (old, 0), (old, 1), (live, 9)]),
        ),
        ("next-key", steps(1, &[(restart, 0), (live, 9), (24, 0), (live, 9), (24, 8), (23, 0), (23, 0)])),
        ("silent-port", steps(16, &[(25, 0), (deliver, 0), (13, 12), (26, 0), (live, 20), (25, 0)])),
        ("refused-then-let-in", steps(16, &[(24, 4), (live, 20), (13, 200), (24, 4), (live, 31)])),
        (
            "damaged",
            [steps(0, &[(0, 12), (10, 0)]), vec![9, 4, 10, 1, 30, 255, 11, 0, 5], steps(5, &[])].concat(),
        ),
        ("stranger", [steps(0, &[(19, 16)]), vec![7; 16], vec![20, 16], vec![0; 16]].concat()),
        ("long-pause", steps(8, &[(13, 255), (13, 255), (13, 255), (0, 0), (live, 31)])),
        (
            "closed-and-opened",
            steps(0, &[(23, 0), (deliver, 0), (0, 0), (23, 0), (live, 2), (0, 0), (live, 2)]),
        ),
        ("clock-set", steps(0, &[(24, 254), (live, 31), (restart, 0), (live, 31), (24, 6), (live, 5)])),
    ];
    run("link", link::run, &seeds);
}

#[test]
fn seeds_of_the_applications_text() {
    let text = |text: &str| [&[2, 0, 7, 1, 30][..], text.as_bytes()].concat();
    let said = |how: u8, text: &str| {
        let mut octets = vec![how & 1, 1, how, 8, text.len() as u8];
        octets.extend_from_slice(text.as_bytes());
        octets
    };
    let seeds = [
        (
            "typed",
            text(
                "AUTH news secret\nSEND HP/1\nId 17\nTo user:anna\nContent-Length 5\n\nhello\n\nPING HP/1\n\n",
            ),
        ),
        (
            "all-headers",
            text(
                "SEND HP/1\r\nId a\r\nTo *\r\nKind broadcast\r\nOffline store\r\nTtl 60\r\nPeriod 1 2\r\nContent-Type a/b\r\nFrom app:news\r\nContent-Length 0\r\n\r\n",
            ),
        ),
        (
            "query-cancel-confirm",
            text("QUERY HP/1\nTo user:a,user:b\n\nCANCEL HP/1\nId 1\n\nCONFIRM HP/1\nId 2\n\n"),
        ),
        (
            "wrong-values",
            text("SEND HP/1\nId \nTo user:\nTtl 0\nPeriod 2 1\nKind two\nOffline no\nContent-Length 1\n\nx"),
        ),
        ("twice", text("PING HP/1\nId 1\nid 2\nX y\n\nSEND HP/1\nContent-Length 1\nContent-Length 2\n\n")),
        ("no-space", text("PING HP/1\nId\n\nHELLO HP/1\n\n")),
        ("too-long", [&[2, 255, 255, 255, 255][..], &[b'a'; 1100]].concat()),
        ("many-receivers", text(&format!("QUERY HP/1\nTo user:a{}\n\n", ",user:b".repeat(200)))),
        ("not-text", [&[2, 3, 0, 0, 0][..], b"PING HP/1\nId \xff\xfe\n\nAUTH \xff x\n"].concat()),
        ("two-applications", steps(0, &[(1, 0), (1, 9), (2, 9), (2, 16), (6, 1), (5, 8), (4, 0), (7, 0)])),
        (
            "small-bounds",
            steps(1, &[(1, 0), (14, 0), (2, 0), (2, 0), (2, 0), (2, 0), (2, 0), (2, 0), (4, 0), (14, 0)]),
        ),
        ("another-name", steps(0, &[(1, 0), (1, 8), (2, 0), (1, 1), (2, 17), (12, 0), (2, 1)])),
        ("broadcast", steps(1, &[(1, 0), (1, 9), (2, 66), (2, 2), (13, 20), (3, 2), (13, 255), (2, 74)])),
        ("impatient", steps(0, &[(0, 0), (0, 0), (15, 0), (13, 4), (1, 0), (15, 0), (7, 0), (13, 8)])),
        ("gone-while-slow", steps(1, &[(1, 0), (1, 9), (14, 0), (2, 17), (4, 0), (12, 0), (14, 0), (0, 0)])),
        ("said-wrong", said(0, "CANCEL HP/1\nId x y\n\nCONFIRM HP/1\nId 99\n\nPING HP/2\n\n")),
    ];
    run("app", app::run, &seeds);
}

#[test]
fn seeds_of_the_frames() {
    let frame = |octets: &[u8]| [&[2][..], octets].concat();
    let number = 7u64.to_be_bytes();
    let seeds = [
        ("deliver", frame(&[&[1, 1][..], &number, &number, b"a\x04news\x0atext/plainhello"].concat())),
        ("confirm", frame(&[&[2][..], &number, &number].concat())),
        ("put", frame(&[&[3, 1][..], &number, &[0, 0, 0, 60, 0, 0, 1], b"u\x04anna\x01xhi"].concat())),
        (
            "put-directed",
            frame(&[&[3, 0][..], &number, &[0, 0, 0, 60, 1, 0, 2], b"u\x01aa\x01b\x00"].concat()),
        ),
        ("put-answer", frame(&[&[4][..], &number, &[0, 200, 1]].concat())),
        ("welcome", frame(&[5, 0, 0, 0, 1, 0, 0, 0, 2])),
        ("subscribe", frame(&[&[6][..], &number, b"\x01\x04news"].concat())),
        ("setting", frame(&[&[7][..], &number, &[1]].concat())),
        ("answer", frame(&[&[8][..], &number, &[1, 144]].concat())),
        ("query", frame(&[&[9][..], &number, b"\x04anna\x03ben"].concat())),
        ("presence", frame(&[&[10][..], &number, b"\x04anna\x01", &number].concat())),
        (
            "delivered-and-confirmed",
            steps(0, &[(0, 0), (2, 0), (2, 0), (4, 0), (4, 0), (15, 0), (0, 0), (4, 0)]),
        ),
        (
            "put-and-answered",
            steps(0, &[(3, 4), (0, 0), (3, 5), (13, 0), (3, 2), (13, 0), (11, 32), (11, 33)]),
        ),
        (
            "outbox-full",
            steps(1, &[(3, 4), (3, 4), (3, 4), (3, 4), (3, 4), (3, 4), (3, 4), (12, 255), (0, 0)]),
        ),
        ("asked", steps(1, &[(0, 0), (5, 0), (6, 0), (7, 0), (0, 1), (6, 4), (6, 8), (13, 0), (1, 0)])),
        ("stale", steps(1, &[(2, 4), (2, 4), (2, 4), (2, 4), (2, 4), (2, 4), (2, 4), (0, 1), (12, 20)])),
        ("hostile", steps(1, &[(0, 0), (2, 0), (10, 35), (11, 36), (10, 37), (11, 34), (11, 32), (10, 4)])),
        ("broadcast", steps(0, &[(2, 129), (0, 0), (0, 1), (2, 131), (4, 0), (12, 255), (0, 0), (2, 193)])),
    ];
    run("frames", frames::run, &seeds);
}

#[test]
fn seeds_of_the_inner_links() {
    let frame = |message: hailpost::wire::inner::Message| {
        let octets = message.encode(0);
        [&[1][..], &octets[4..6], &octets[16..octets.len() - 4]].concat()
    };
    let said = |steps: &[[u8; 4]]| [&[2][..], &steps.concat()].concat();
    let rooms = |steps: &[[u8; 4]]| [&[4][..], &steps.concat()].concat();
    use hailpost::wire::inner::{Message, Sitting};
    let sitting = Sitting { inbox: 1, seat: 2, since: 3 };
    let (connect, close, tell, connected, lost, hear, up, spoke, look, pass) =
        (0, 1, 2, 8, 9, 10, 12, 13, 14, 15);
    let registered = [[connect, 0, 0, 0], [tell, 2, 1, 9]];
    let seeds = [
        ("raw", [&[0][..], &Message::Found(None).encode(5)].concat()),
        ("register", frame(Message::Register { name: "left".into(), epoch: 1, most: 2 })),
        ("digest", frame(Message::Digest { sitting: vec![sitting; 3], last: true })),
        ("online", frame(Message::Online { sitting, resumed: true })),
        ("revoked", frame(Message::Revoked(vec![(1, 2), (3, 4)]))),
        ("down", frame(Message::Down { inbox: 1, seat: 2, octets: vec![5; 20] })),
        ("load", frame(Message::Load { load: 50, sessions: 2, draining: true })),
        ("registered-online-gone", said(&[&registered[..], &[[tell, 9, 1, 1], [tell, 11, 1, 1]]].concat())),
        (
            "lost-and-back",
            said(
                &[
                    &registered[..],
                    &[[tell, 9, 1, 1], [close, 0, 0, 0], [pass, 20, 0, 0]],
                    &registered[..],
                    &[[tell, 12, 1, 100]],
                ]
                .concat(),
            ),
        ),
        (
            "another-epoch",
            said(&[&registered[..], &[[tell, 9, 1, 1], [connect, 0, 0, 0], [3, 2, 2, 9]]].concat()),
        ),
        (
            "two-brokers",
            said(&[
                [connect, 0, 0, 0],
                [2, 2, 1, 9],
                [connect, 1, 0, 0],
                [3, 2, 1, 9],
                [2, 9, 1, 1],
                [3, 9, 1, 2],
                [2, 12, 1, 0],
            ]),
        ),
        ("stranger", said(&[[connect, 2, 0, 0], [tell, 2, 1, 9], [7, 9, 255, 30]])),
        (
            "looked-up",
            said(&[&registered[..], &[[tell, 7, 1, 1], [tell, 7, 2, 2], [tell, 7, 3, 3]]].concat()),
        ),
        (
            "a-broker",
            said(&[
                [pass, 0, 0, 0],
                [connected, 0, 0, 0],
                [hear, 4, 0, 1],
                [up, 1, 0, 0],
                [spoke, 1, 0, 3],
                [look, 1, 1, 0],
                [hear, 8, 20, 1],
                [lost, 0, 0, 0],
                [pass, 200, 0, 0],
                [connected, 0, 0, 0],
                [hear, 4, 1, 1],
            ]),
        ),
        (
            "silent",
            said(&[&registered[..], &[[tell, 9, 1, 1], [pass, 255, 0, 0], [pass, 255, 0, 0]]].concat()),
        ),
        ("room-joins", frame(Message::Join { room: "south".into(), other: "north".into(), epoch: 1 })),
        ("room-asks", frame(Message::Query(vec!["anna".into(), "ben".into()]))),
        // A room's connections, first the one that came: joins, hands over, asks; ours: is joined, takes, tells, breaks.
        (
            "rooms",
            rooms(&[
                [0, 0, 0, 0],
                [9, 0, 0, 0],
                [9, 3, 2, 200],
                [9, 4, 0, 200],
                [9, 4, 1, 200],
                [9, 6, 0, 0],
                [2, 0, 0, 0],
                [25, 2, 0, 0],
                [6, 1, 2, 1],
                [6, 0, 100, 2],
                [5, 0, 0, 0],
                [25, 5, 9, 0],
                [25, 7, 100, 1],
                [4, 40, 0, 0],
                [17, 0, 0, 0],
                [5, 0, 0, 0],
            ]),
        ),
        (
            "rooms-refuse",
            rooms(&[[2, 0, 0, 0], [9, 8, 9, 9], [0, 1, 0, 0], [9, 0, 0, 0], [8, 3, 9, 9], [3, 0, 0, 0]]),
        ),
    ];
    run("inner", inner::run, &seeds);
}

#[test]
fn seeds_of_peers_with_good_keys() {
    let said = |options: u8, steps: &[[u8; 8]]| [&[options][..], &steps.concat()].concat();
    let (liar, rekey, server, down, up, wait) = (0, 6, 7, 11, 12, 14);
    let seeds = [
        ("pieces", said(0, &[[liar, 0, 1, 0, 0, 1, 20, 7], [liar, 0, 1, 1, 0, 2, 200, 7]])),
        ("never-whole", said(1, &[[liar, 0, 1, 9, 3, 251, 200, 7]; 40])),
        ("far-ahead", said(0, &[[liar, 0, 1, 255, 0, 1, 9, 7], [liar, 255, 1, 0, 0, 1, 9, 7], [wait; 8]])),
        ("lies", said(0, &[[down, 0, 0, 0, 0, 99, 99, 0], [liar, 0, 2, 5, 3, 0, 9, 2], [wait; 8]])),
        ("rekeys", said(2, &[[rekey, 0, 0, 1, 0, 0, 0, 0], [rekey, 9, 0, 2, 0, 0, 0, 0], [wait; 8]])),
        ("from-elsewhere", said(0, &[[32, 0, 6, 0, 0, 1, 0, 0], [48, 0, 6, 0, 0, 1, 0, 0], [15; 8]])),
        ("heartbeats", said(0, &[[liar, 0, 240, 1, 0, 0, 0, 0], [liar, 0, 250, 2, 1, 0, 0, 0]])),
        ("close", said(0, &[[liar, 0, 5, 0, 0, 1, 2, 4], [wait; 8], [server, 0, 5, 0, 0, 1, 2, 1]])),
        ("a-server", said(2, &[[server, 0, 3, 0, 0, 1, 8, 7], [server, 255, 9, 0, 0, 1, 99, 7], [up; 8]])),
        ("no-frame", said(0, &[[liar, 0, 230, 0, 0, 0, 5, 1], [server, 0, 235, 0, 0, 0, 9, 1]])),
    ];
    run("peers", peers::run, &seeds);
}

#[test]
fn seeds_of_asks_and_gives() {
    let (ask, later, changed, up, down, bend, again, time) = (0, 1, 3, 4, 6, 9, 10, 13);
    let broker = [&[8, 0, 1, 0, 0, 0, 0, 0, 0, 0][..], &[9; 50]].concat();
    let seeds = [
        ("asked", steps(3, &[(later, 0), (time, 1), (up, 0), (down, 0), (time, 9)])),
        ("given", [&[3][..], &broker, &[later, 0, time, 1, up, 0, down, 0]].concat()),
        ("cookie", steps(0, &[(later, 0), (time, 1), (up, 0), (down, 0), (up, 0), (down, 0)])),
        ("silence", steps(3, &[(later, 1), (time, 9), (time, 99), (time, 255), (changed, 0)])),
        ("bent", [&steps(3, &[(later, 0), (time, 1), (bend, 0)])[..], &[40, 1, up, 0]].concat()),
        ("replayed", steps(2, &[(later, 0), (time, 1), (up, 0), (again, 1), (again, 2), (again, 0)])),
        ("in-place-of-the-device", steps(3, &[(later, 0), (time, 1), (up, 0), (again, 2), (again, 6)])),
        ("a-question", [&[3, ask, 0, 0, 0, 2, 0][..], &[7; 80], &[up, 0, down, 0]].concat()),
    ];
    run("asks", asks::run, &seeds);
}
