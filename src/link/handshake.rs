//! The Noise handshake, `NKpsk0`, with randomness from outside, and the resume that needs no Diffie-Hellman.

use snow::{Builder, HandshakeState, params::NoiseParams};

use super::{
    keys::{self, Keys, Way, expand, extract, mac, same},
    primitives::{Primitives, x25519},
};
use crate::{
    rng::Entropy,
    wire::balance::{Answer, Ask, Question},
    wire::link::{
        Hello, RESUME_COOKIE, RESUME_PROVEN, RESUMED_HEAD, Resume, TICKET, VERSION, WELCOME, Welcome, Wish,
        resumed_head,
    },
};

const PATTERN: &str = "Noise_NKpsk0_25519_AESGCM_SHA256";
/// Who asks a balancer has no secret yet that it would know.
const ASKING: &str = "Noise_NK_25519_AESGCM_SHA256";

/// The public key of a static private key (X25519).
pub fn public_key(private: &[u8; 32]) -> [u8; 32] {
    let mut dh = x25519();
    dh.set(private);
    dh.pubkey().try_into().expect("an X25519 key has 32 octets")
}

/// A handshake that waits for its accept.
pub(super) struct Initiator {
    noise: HandshakeState,
}

impl Initiator {
    /// Begins one: the hello, without a cookie.
    pub fn begin(
        server_key: &[u8; 32],
        session_id: [u8; 16],
        secret: &[u8; 32],
        wish: Wish,
        rng: &mut dyn Entropy,
    ) -> (Initiator, Vec<u8>) {
        let prologue = prologue(session_id);
        let mut noise = builder(PATTERN, rng)
            .prologue(&prologue)
            .and_then(|builder| builder.remote_public_key(server_key))
            .and_then(|builder| builder.psk(0, secret))
            .and_then(|builder| builder.build_initiator())
            .expect("all that the pattern needs was given");
        let mut message = [0; 64];
        let length =
            noise.write_message(&wish.encode(), &mut message).expect("four octets fit into the message");
        let hello = Hello {
            server_key: [server_key[0], server_key[1]],
            session_id,
            cookie: [0; 16],
            noise: &message[..length],
        };
        (Initiator { noise }, hello.encode())
    }

    /// Reads the accept. Octets that are not the server's leave the handshake as it was.
    pub fn finish(&mut self, message: &[u8]) -> Option<(Welcome, Keys)> {
        let mut payload = [0; 512];
        let length = self.noise.read_message(message, &mut payload).ok()?;
        let welcome = Welcome::decode(payload[..length].try_into().ok()?);
        Some((welcome, split(&mut self.noise)))
    }
}

/// What the server makes of a good hello.
pub(super) struct Responder {
    noise: HandshakeState,
    /// What the device would like.
    pub wish: Wish,
}

impl Responder {
    /// Reads Noise message 1: `None` when key, secret or session id are not the device's.
    pub fn read(
        private: &[u8; 32],
        session_id: [u8; 16],
        secret: &[u8; 32],
        message: &[u8],
        rng: &mut dyn Entropy,
    ) -> Option<Responder> {
        let prologue = prologue(session_id);
        let mut noise = builder(PATTERN, rng)
            .prologue(&prologue)
            .and_then(|builder| builder.local_private_key(private))
            .and_then(|builder| builder.psk(0, secret))
            .and_then(|builder| builder.build_responder())
            .expect("all that the pattern needs was given");
        let mut payload = [0; 512];
        let length = noise.read_message(message, &mut payload).ok()?;
        let wish = Wish::decode(*payload[..length].first_chunk()?);
        Some(Responder { noise, wish })
    }

    /// Noise message 2, and the session's keys.
    pub fn accept(mut self, welcome: &Welcome) -> (Vec<u8>, Keys) {
        let mut message = [0; 512];
        let length = self
            .noise
            .write_message(&welcome.encode(), &mut message)
            .expect("a welcome fits into the message");
        (message[..length].to_vec(), split(&mut self.noise))
    }
}

/// Asking a balancer, which waits for its give.
pub(super) struct Asking {
    noise: HandshakeState,
}

impl Asking {
    /// Begins one: the ask, without a cookie.
    pub fn begin(server_key: &[u8; 32], question: &Question, rng: &mut dyn Entropy) -> (Asking, Vec<u8>) {
        let mut noise = builder(ASKING, rng)
            .prologue(&ask_prologue())
            .and_then(|builder| builder.remote_public_key(server_key))
            .and_then(|builder| builder.build_initiator())
            .expect("all that the pattern needs was given");
        let mut message = [0; 256];
        let length =
            noise.write_message(&question.encode(), &mut message).expect("a question fits into the message");
        let server_key = [server_key[0], server_key[1]];
        let ask = Ask { server_key, cookie: [0; 16], noise: &message[..length] };
        (Asking { noise }, ask.encode())
    }

    /// Reads the give. Octets that are not the balancer's leave the handshake as it was.
    pub fn finish(&mut self, message: &[u8]) -> Option<Answer> {
        let mut payload = [0; 256];
        let length = self.noise.read_message(message, &mut payload).ok()?;
        Answer::decode(payload[..length].try_into().ok()?)
    }
}

/// What a balancer makes of a good ask.
pub(super) struct Asked {
    noise: HandshakeState,
    /// What the device tells.
    pub question: Question,
}

impl Asked {
    /// Reads Noise message 1: `None` when it was not made for this key.
    pub fn read(private: &[u8; 32], message: &[u8], rng: &mut dyn Entropy) -> Option<Asked> {
        let mut noise = builder(ASKING, rng)
            .prologue(&ask_prologue())
            .and_then(|builder| builder.local_private_key(private))
            .and_then(|builder| builder.build_responder())
            .expect("all that the pattern needs was given");
        let mut payload = [0; 256];
        let length = noise.read_message(message, &mut payload).ok()?;
        let question = Question::decode(payload[..length].try_into().ok()?)?;
        Some(Asked { noise, question })
    }

    /// Noise message 2.
    pub fn give(mut self, answer: &Answer) -> Vec<u8> {
        let mut message = [0; 256];
        let length = self
            .noise
            .write_message(&answer.encode(), &mut message)
            .expect("an answer fits into the message");
        message[..length].to_vec()
    }
}

/// A resume, without a cookie.
pub(super) fn resume(nonce: [u8; 16], ticket: [u8; TICKET], secret: &[u8; 32], wish: Wish) -> Vec<u8> {
    let mut octets = Resume { nonce, ticket, cookie: [0; 16], wish, proof: [0; 16] }.encode();
    let proof = proof(secret, &octets);
    octets[RESUME_PROVEN..RESUME_PROVEN + 16].copy_from_slice(&proof);
    octets
}

/// Whether who sent a resume knows the secret.
pub(super) fn is_proven(secret: &[u8; 32], resume: &Resume) -> bool {
    let bare = Resume { cookie: [0; 16], ..*resume }.encode();
    same(&proof(secret, &bare), &resume.proof)
}

/// The answer to a resume, and the keys.
pub(super) fn resumed(
    resume: &Resume,
    nonce: [u8; 16],
    secret: &[u8; 32],
    welcome: &Welcome,
) -> (Vec<u8>, Keys) {
    let root = resumed_root(resume.nonce, nonce, secret);
    let mut out = resumed_head(resume.echo(), nonce);
    out.extend_from_slice(&welcome.encode());
    keys::seal(&expand(&root, b"hail resumed"), [0; 12], RESUMED_HEAD, &mut out);
    (out, Keys::of(&root))
}

/// Reads the answer to a resume.
pub(super) fn finish_resume(
    own: [u8; 16],
    theirs: [u8; 16],
    secret: &[u8; 32],
    datagram: &[u8],
) -> Option<(Welcome, Keys)> {
    let root = resumed_root(own, theirs, secret);
    let mut octets = datagram.to_vec();
    let welcome = keys::open(&expand(&root, b"hail resumed"), [0; 12], RESUMED_HEAD, &mut octets)?;
    let welcome: &[u8; WELCOME] = welcome.try_into().ok()?;
    Some((Welcome::decode(welcome), Keys::of(&root)))
}

fn resumed_root(device: [u8; 16], server: [u8; 16], secret: &[u8; 32]) -> [u8; 32] {
    extract(&[device, server].concat(), secret)
}

fn proof(secret: &[u8; 32], resume: &[u8]) -> [u8; 16] {
    debug_assert!(resume[RESUME_COOKIE..RESUME_COOKIE + 16] == [0; 16]);
    mac(&expand(secret, b"hail proof"), &[&resume[..RESUME_PROVEN]])
}

fn prologue(session_id: [u8; 16]) -> Vec<u8> {
    [b"hailpost link".as_slice(), &[VERSION], &session_id].concat()
}

fn ask_prologue() -> Vec<u8> {
    [b"hailpost ask".as_slice(), &[VERSION]].concat()
}

fn split(noise: &mut HandshakeState) -> Keys {
    let (up, down) = noise.dangerously_get_raw_split();
    Keys::of(&extract(noise.get_handshake_hash(), &[up, down].concat()))
}

fn builder(pattern: &str, rng: &mut dyn Entropy) -> Builder<'static> {
    let params: NoiseParams = pattern.parse().expect("the pattern is one of snow's");
    let mut seed = [0; 32];
    rng.fill(&mut seed);
    Builder::with_resolver(params, Box::new(Primitives { seed }))
}

/// Device to server, for who reads the code of an end.
pub(super) const UP: Way = Way::Up;
/// Server to device.
pub(super) const DOWN: Way = Way::Down;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{rng::Seeded, wire::link::Datagram};

    const SECRET: [u8; 32] = [3; 32];
    const PRIVATE: [u8; 32] = [4; 32];
    const ID: [u8; 16] = [5; 16];
    const WISH: Wish = Wish { features: 0, interval: 30 };

    fn welcome() -> Welcome {
        Welcome {
            id: 77,
            interval: 30,
            features: 0,
            reset: [1; 12],
            resume: [6; 32],
            ticket: [2; TICKET],
            next_key: [0; 32],
        }
    }

    fn hello(rng: &mut Seeded) -> (Initiator, Vec<u8>) {
        Initiator::begin(&public_key(&PRIVATE), ID, &SECRET, WISH, rng)
    }

    fn noise(hello: &[u8]) -> &[u8] {
        match Datagram::decode(hello) {
            Ok(Datagram::Hello(hello)) => hello.noise,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn both_ends_get_the_same_keys_and_no_answer_is_longer_than_its_request() {
        let mut rng = Seeded::new(1);
        let (mut device, hello) = hello(&mut rng);
        let server = Responder::read(&PRIVATE, ID, &SECRET, noise(&hello), &mut rng).unwrap();
        assert_eq!(server.wish, WISH);
        let (message, keys) = server.accept(&welcome());
        assert!(16 + message.len() <= hello.len());
        assert!(device.finish(&[0; 52]).is_none());
        let mut damaged = message.clone();
        damaged[40] ^= 1;
        assert!(device.finish(&damaged).is_none());
        let (told, own) = device.finish(&message).expect("what was damaged left no trace");
        assert_eq!(told, welcome());
        let beat = keys.seal_beat(DOWN, 77, 0, 1, 0);
        assert_eq!(own.open_beat(DOWN, 0, &beat), Some((1, 0)));
    }

    #[test]
    fn another_secret_key_session_id_or_octet_fails() {
        let mut rng = Seeded::new(2);
        let (_, hello) = hello(&mut rng);
        let mut read = |private, id, secret, noise: &[u8]| {
            Responder::read(private, id, secret, noise, &mut rng).is_some()
        };
        assert!(read(&PRIVATE, ID, &SECRET, noise(&hello)));
        assert!(!read(&[9; 32], ID, &SECRET, noise(&hello)));
        assert!(!read(&PRIVATE, [9; 16], &SECRET, noise(&hello)));
        assert!(!read(&PRIVATE, ID, &[9; 32], noise(&hello)));
        for at in 0..noise(&hello).len() {
            let mut damaged = noise(&hello).to_vec();
            damaged[at] ^= 1;
            assert!(!read(&PRIVATE, ID, &SECRET, &damaged), "octet {at}");
        }
    }

    #[test]
    fn a_resume_needs_the_secret_and_both_nonces() {
        let octets = resume([1; 16], [2; TICKET], &SECRET, WISH);
        let Ok(Datagram::Resume(asked)) = Datagram::decode(&octets) else { panic!() };
        assert!(is_proven(&SECRET, &asked) && !is_proven(&[9; 32], &asked));
        assert!(is_proven(&SECRET, &Resume { cookie: [8; 16], ..asked }));
        assert!(!is_proven(&SECRET, &Resume { nonce: [8; 16], ..asked }));
        assert!(!is_proven(&SECRET, &Resume { wish: Wish { features: 1, ..WISH }, ..asked }));
        let (answer, keys) = resumed(&asked, [7; 16], &SECRET, &welcome());
        assert!(answer.len() <= octets.len());
        let (told, own) = finish_resume([1; 16], [7; 16], &SECRET, &answer).unwrap();
        assert_eq!(told, welcome());
        assert_eq!(own.seal_beat(UP, 1, 2, 1, 0), keys.seal_beat(UP, 1, 2, 1, 0));
        assert!(finish_resume([1; 16], [8; 16], &SECRET, &answer).is_none());
        assert!(finish_resume([1; 16], [7; 16], &[9; 32], &answer).is_none());
    }
}
