use super::*;
use crate::rng::{Entropy, Seeded};

/// The answer of a recursive server to `www.example.org AAAA`, written by hand: an alias in the answer section, the
/// address of its target, an SOA in the authority section, EDNS in the additional section.
#[rustfmt::skip]
const ANSWER: &[u8] = &[
    0xbe, 0xef, 0x81, 0x80, 0, 1, 0, 2, 0, 1, 0, 1,
    // 12: www.example.org AAAA IN
    3, b'w', b'w', b'w', 7, b'e', b'x', b'a', b'm', b'p', b'l', b'e', 3, b'o', b'r', b'g', 0, 0, 28, 0, 1,
    // 33: CNAME web.example.org, 300 s
    0xc0, 12, 0, 5, 0, 1, 0, 0, 1, 44, 0, 6, 3, b'w', b'e', b'b', 0xc0, 16,
    // 51: web.example.org AAAA 2001:db8::7, 60 s; the owner is a pointer to a label before a pointer
    0xc0, 45, 0, 28, 0, 1, 0, 0, 0, 60, 0, 16, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7,
    // 79: example.org SOA ns.example.org admin.example.org 1 2 3 4 minimum 900
    0xc0, 16, 0, 6, 0, 1, 0, 0, 0, 10, 0, 33, 2, b'n', b's', 0xc0, 16, 5, b'a', b'd', b'm', b'i', b'n', 0xc0, 16,
    0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 3, 132,
    // 124: EDNS, 1232 octets, upper code 0
    0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0,
];

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn header(counts: [u16; 4]) -> Vec<u8> {
    let mut out = vec![0, 1, 0x81, 0x80];
    counts.iter().for_each(|n| out.extend_from_slice(&n.to_be_bytes()));
    out
}

/// A message whose only record is of the root, with this type and data.
fn one_record(kind: u16, data: &[u8]) -> Vec<u8> {
    let mut out = header([0, 1, 0, 0]);
    out.push(0);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&[0, 1, 0, 0, 0, 5]);
    out.extend_from_slice(&(data.len() as u16).to_be_bytes());
    out.extend_from_slice(data);
    out
}

fn refused(message: &[u8]) -> (usize, Malformed) {
    let error = decode(message).unwrap_err();
    (error.offset, error.what)
}

#[test]
fn a_query_to_the_octet() {
    let plain = encode_query(0x1234, &name("aB.org"), RecordType::Srv, None);
    assert_eq!(plain, b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x02aB\x03org\0\0\x21\0\x01");
    let edns = encode_query(0x1234, &name("aB.org"), RecordType::A, Some(1232));
    assert_eq!(
        edns,
        b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\x01\x02aB\x03org\0\0\x01\0\x01\0\0\x29\x04\xd0\0\0\0\0\0\0"
    );
}

#[test]
fn an_answer_with_everything_in_it() {
    let message = decode(ANSWER).unwrap();
    let head = &message.head;
    assert_eq!((head.id, head.response, head.opcode, head.rcode), (0xbeef, true, 0, 0));
    assert_eq!((head.truncated, head.authoritative, head.recursion_available), (false, false, true));
    assert_eq!((head.counts, head.end), ([2, 1, 1], 33));
    assert_eq!(head.question, Some(Question { name: name("www.example.org"), kind: 28, class: CLASS_IN }));
    let record = |owner, ttl, data| Record { name: owner, ttl, data };
    assert_eq!(
        message.answers,
        [
            record(name("www.example.org"), 300, Data::Cname(name("web.example.org"))),
            record(name("web.example.org"), 60, Data::Aaaa("2001:db8::7".parse().unwrap())),
        ]
    );
    assert_eq!(message.authority, [record(name("example.org"), 10, Data::Soa { minimum: 900 })]);
    assert_eq!(message.additional, [record(Name::root(), 0, Data::Opt { udp_size: 1232, rcode_high: 0 })]);
    assert_eq!(decode_head(ANSWER).unwrap(), message.head);
}

#[test]
fn cut_at_each_octet() {
    for cut in 0..ANSWER.len() {
        assert_eq!(refused(&ANSWER[..cut]), (cut, Malformed::Truncated), "cut at {cut}");
    }
    let longer = [ANSWER, b"trailing"].concat();
    assert_eq!(decode(&longer), decode(ANSWER));
}

#[test]
fn a_service_record() {
    let message = decode(&one_record(33, b"\0\x0a\0\x05\x14\x66\x02im\0")).unwrap();
    let srv = Srv { priority: 10, weight: 5, port: 5222, target: name("im") };
    assert_eq!(message.answers[0].data, Data::Srv(srv));
}

#[test]
fn data_that_does_not_fit_its_type() {
    let length_at = HEADER + 9;
    for (kind, data) in [
        (1, &b"\x01\x02\x03"[..]),
        (1, b"\x01\x02\x03\x04\x05"),
        (28, &[0; 15]),
        (28, &[0; 17]),
        (5, b""),
        (5, b"\x03ab"),
        (5, b"\0\0"),
        (33, b"\0\x0a\0\x05\x14"),
        (33, b"\0\x0a\0\x05\x14\x66\0\0"),
        (6, b"\0\0\0\0"),
    ] {
        assert_eq!(refused(&one_record(kind, data)), (length_at, Malformed::DataLength), "{kind} {data:?}");
        // The same before more octets, so that the field does not run past the message.
        let mut longer = one_record(kind, data);
        longer.extend_from_slice(&[0; 32]);
        assert_eq!(refused(&longer), (length_at, Malformed::DataLength), "{kind} {data:?}");
    }
}

#[test]
fn what_is_not_ours_to_read_is_kept_as_other() {
    assert_eq!(decode(&one_record(16, b"\x03txt")).unwrap().answers[0].data, Data::Other(16));
    let mut chaos = one_record(1, b"not an address");
    chaos[HEADER + 4] = 3;
    assert_eq!(decode(&chaos).unwrap().answers[0].data, Data::Other(1));
}

#[test]
fn a_ttl_with_its_top_bit_set_is_nothing() {
    let mut message = one_record(1, &[192, 0, 2, 1]);
    message[HEADER + 5..HEADER + 9].copy_from_slice(&0x8000_0000_u32.to_be_bytes());
    assert_eq!(decode(&message).unwrap().answers[0].ttl, 0);
}

#[test]
fn pointers_that_do_not_point_back() {
    let with_name = |octets: &[u8]| [&header([1, 0, 0, 0]), octets, &[0, 1, 0, 1]].concat();
    // To itself, forwards, and two that point at each other.
    assert_eq!(refused(&with_name(&[0xc0, 12])), (12, Malformed::Pointer));
    assert_eq!(refused(&with_name(&[0xc0, 200])), (12, Malformed::Pointer));
    assert_eq!(refused(&with_name(&[1, b'a', 0xc0, 12])), (14, Malformed::Pointer));
    let mutual = one_record(5, &[0xc0, 25, 0xc0, 23]);
    assert_eq!(refused(&mutual), (23, Malformed::Pointer));
}

#[test]
fn a_chain_of_pointers_reaches_its_bound() {
    // The data of the first record: a root, then pointers, each to the one before.
    let chain = |pointers: usize| {
        let mut data = vec![0];
        let start = HEADER + 11;
        for i in 0..pointers {
            let target = if i == 0 { start } else { start + 1 + 2 * (i - 1) };
            data.extend_from_slice(&(0xc000 | target as u16).to_be_bytes());
        }
        let mut message = one_record(16, &data);
        message[7] = 2;
        let last = start + 1 + 2 * (pointers - 1);
        message.extend_from_slice(&(0xc000 | last as u16).to_be_bytes());
        message.extend_from_slice(&[0, 16, 0, 1, 0, 0, 0, 0, 0, 0]);
        message
    };
    // One more is followed from the owner of the second record.
    assert_eq!(decode(&chain(MAX_POINTERS - 1)).unwrap().answers[1].name, Name::root());
    assert_eq!(refused(&chain(MAX_POINTERS)).1, Malformed::Pointers);
}

#[test]
fn a_name_grown_by_a_pointer_reaches_its_bound() {
    let labels = |lengths: &[u8]| -> Vec<u8> {
        lengths.iter().flat_map(|n| [vec![*n], vec![b'x'; usize::from(*n)]].concat()).collect()
    };
    let with = |second: &[u8]| {
        let first = [labels(&[63, 63, 63]), vec![0]].concat();
        let mut message = one_record(16, &first);
        message[7] = 2;
        let start = (HEADER + 11) as u16;
        message.extend_from_slice(&labels(second));
        message.extend_from_slice(&(0xc000 | start).to_be_bytes());
        message.extend_from_slice(&[0, 16, 0, 1, 0, 0, 0, 0, 0, 0]);
        message
    };
    // 3 x 64 and the root are 193; 62 are left.
    assert_eq!(decode(&with(&[61])).unwrap().answers[1].name.wire().len(), MAX_NAME);
    assert_eq!(refused(&with(&[62])).1, Malformed::NameLength);
}

#[test]
fn labels_of_an_unknown_type() {
    for octet in [0x40, 0x7f, 0x80, 0xbf] {
        let message = [&header([1, 0, 0, 0])[..], &[octet, 0, 0, 1, 0, 1]].concat();
        assert_eq!(refused(&message), (12, Malformed::LabelType));
    }
}

#[test]
fn counts_that_do_not_fit() {
    assert_eq!(refused(&header([2, 0, 0, 0])), (4, Malformed::Questions));
    assert_eq!(refused(&header([0xffff; 4])), (4, Malformed::Questions));
    assert_eq!(refused(&header([0, 0xffff, 0xffff, 0xffff])), (6, Malformed::Records));
    assert_eq!(refused(&header([0, 171, 171, 171])), (6, Malformed::Records));
    assert_eq!(refused(&header([0, 170, 171, 171])), (HEADER, Malformed::Truncated));
    let mut most = header([0, MAX_RECORDS as u16, 0, 0]);
    for _ in 0..MAX_RECORDS {
        most.extend_from_slice(&[0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 192, 0, 2, 1]);
    }
    assert_eq!(decode(&most).unwrap().answers.len(), MAX_RECORDS);
}

#[test]
fn a_second_edns_record() {
    let opt = [0, 0, 41, 4, 208, 1, 0, 0, 0, 0, 0];
    let one = [&header([0, 0, 0, 1])[..], &opt].concat();
    assert_eq!(decode(&one).unwrap().rcode, rcode::BAD_VERSION);
    let two = [&header([0, 0, 0, 2])[..], &opt, &opt].concat();
    assert_eq!(refused(&two), (HEADER + opt.len(), Malformed::DuplicateOpt));
}

#[test]
fn an_error_says_where_and_what() {
    let error = decode(&[0; 5]).unwrap_err();
    assert_eq!(error.to_string(), "octet 5: the message ends inside a field");
}

/// Damaged answers never panic, never point outside themselves and keep to the bounds.
#[test]
fn a_hundred_thousand_damaged_answers() {
    let seeds = [ANSWER.to_vec(), one_record(33, b"\0\x0a\0\x05\x14\x66\x02im\0"), {
        let mut chain = one_record(5, &[0xc0, 12]);
        chain.extend_from_slice(&[0xc0, 23, 0, 5, 0, 1, 0, 0, 0, 0, 0, 2, 0xc0, 25]);
        chain
    }];
    let mut rng = Seeded::new(20);
    let (mut good, mut bad) = (0, 0);
    for round in 0..100_000 {
        let mut message = seeds[round % seeds.len()].clone();
        for _ in 0..=rng.below(4) {
            let at = rng.below(message.len() as u32) as usize;
            match rng.below(6) {
                0 => message[at] ^= 1 << rng.below(8),
                1 => message[at] = rng.next_u16() as u8,
                2 => message[at] = [0, 0x3f, 0x40, 0xc0, 0xff][rng.below(5) as usize],
                3 => message.truncate(at.max(1)),
                4 => message.insert(at, rng.next_u16() as u8),
                _ => {
                    let tail = message[at..].to_vec();
                    message.extend_from_slice(&tail);
                }
            }
        }
        match decode(&message) {
            Ok(decoded) => {
                good += 1;
                let records = decoded.answers.len() + decoded.authority.len() + decoded.additional.len();
                assert!(records <= MAX_RECORDS && records * 11 <= message.len());
                assert!(decoded.answers.iter().all(|r| r.name.wire().len() <= MAX_NAME));
            }
            Err(error) => {
                bad += 1;
                assert!(error.offset <= message.len(), "{error}");
            }
        }
    }
    assert!(good > 1_000 && bad > 1_000, "{good} good, {bad} bad");
}
