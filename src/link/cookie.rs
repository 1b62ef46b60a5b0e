//! Cookies: proof that who asks is where it says, without keeping anything.

use std::time::Duration;

use super::{
    Path,
    keys::{mac, same},
};
use crate::{rng::Entropy, time::Time};

/// How long a key makes cookies; for as long again it still proves them.
const TURN: Duration = Duration::from_secs(120);

pub(super) struct Cookies {
    key: [u8; 32],
    before: [u8; 32],
    turned: Time,
}

impl Cookies {
    pub fn new(now: Time, rng: &mut dyn Entropy) -> Cookies {
        let mut keys = [[0; 32]; 2];
        keys.iter_mut().for_each(|key| rng.fill(key));
        Cookies { key: keys[0], before: keys[1], turned: now }
    }

    /// The cookie for a request from `path`, about `subject`.
    pub fn make(
        &mut self,
        now: Time,
        rng: &mut dyn Entropy,
        path: Path,
        subject: [u8; 16],
        echo: [u8; 8],
    ) -> [u8; 16] {
        if now.since(self.turned) >= TURN {
            self.before = self.key;
            rng.fill(&mut self.key);
            if now.since(self.turned) >= 2 * TURN {
                rng.fill(&mut self.before);
            }
            self.turned = now;
        }
        cookie(&self.key, path, subject, echo)
    }

    /// Whether a cookie was made for just that, lately.
    pub fn is_good(&self, now: Time, path: Path, subject: [u8; 16], echo: [u8; 8], given: &[u8; 16]) -> bool {
        let age = now.since(self.turned);
        // Keys turn when a cookie is made, so that an old key must not be believed for want of requests.
        age < 2 * TURN && same(&cookie(&self.key, path, subject, echo), given)
            || age < TURN && same(&cookie(&self.before, path, subject, echo), given)
    }
}

fn cookie(key: &[u8; 32], path: Path, subject: [u8; 16], echo: [u8; 8]) -> [u8; 16] {
    let (address, port) = path.octets();
    mac(key, &[&address, &port.to_be_bytes(), &subject, &echo])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Seeded;

    #[test]
    fn a_cookie_is_good_for_its_address_request_and_time_only() {
        let mut rng = Seeded::new(1);
        let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
        let here = Path::Datagram("192.0.2.1:5".parse().unwrap());
        let there = Path::Datagram("192.0.2.1:6".parse().unwrap());
        let mut cookies = Cookies::new(at(0), &mut rng);
        let cookie = cookies.make(at(1), &mut rng, here, [1; 16], [2; 8]);
        assert!(cookies.is_good(at(2), here, [1; 16], [2; 8], &cookie));
        assert!(!cookies.is_good(at(2), there, [1; 16], [2; 8], &cookie));
        assert!(!cookies.is_good(at(2), Path::Stream(5), [1; 16], [2; 8], &cookie));
        assert!(!cookies.is_good(at(2), here, [2; 16], [2; 8], &cookie));
        assert!(!cookies.is_good(at(2), here, [1; 16], [3; 8], &cookie));
        assert!(!cookies.is_good(at(2), here, [1; 16], [2; 8], &[0; 16]));
        cookies.make(at(130), &mut rng, here, [9; 16], [2; 8]);
        assert!(cookies.is_good(at(200), here, [1; 16], [2; 8], &cookie), "the key before");
        cookies.make(at(251), &mut rng, here, [9; 16], [2; 8]);
        assert!(!cookies.is_good(at(252), here, [1; 16], [2; 8], &cookie));
        let cookie = cookies.make(at(260), &mut rng, here, [1; 16], [2; 8]);
        assert!(!cookies.is_good(at(600), here, [1; 16], [2; 8], &cookie), "nobody turned the keys");
    }
}
