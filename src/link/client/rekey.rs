//! Other keys, inside the session.

use std::{collections::VecDeque, time::Duration};

use super::{
    Client, ClientConfig, Output, Phase,
    up::{Line, Up},
};
use crate::{
    link::{
        Why,
        handshake::{finish_resume, resume},
        window::Window,
    },
    rng::Entropy,
    time::Time,
    wire::link::{Datagram, Frame, Kind, Wish},
};

/// Datagrams under the same keys at the most.
const MAX_COUNTER: u64 = 1 << 32;
/// Datagrams that did not open under the same keys at the most (DECISIONS: forgeries of a short tag).
const MAX_UNOPENED: u64 = 1 << 20;
/// Sends of a rekey.
const REKEYS: u32 = 4;

pub(super) struct Rekey {
    nonce: [u8; 16],
    secret: [u8; 32],
    datagram: Vec<u8>,
    sends: u32,
    pub due: Time,
}

impl Up {
    /// Asks for new keys when the old have done enough.
    pub(super) fn renew(
        &mut self,
        now: Time,
        config: &ClientConfig,
        rng: &mut dyn Entropy,
        outputs: &mut VecDeque<Output>,
    ) -> Result<(), Why> {
        let used = self.line.counter.max(self.line.window.next());
        let worn = used >= MAX_COUNTER || self.unopened >= MAX_UNOPENED;
        if self.rekey.is_none()
            && (worn || now >= self.renew)
            && let Some(resumption) = &config.resumption
        {
            let mut nonce = [0; 16];
            rng.fill(&mut nonce);
            let (secret, wish) = (resumption.secret, Wish { features: 0, interval: config.interval });
            let datagram = resume(nonce, resumption.ticket, &secret, wish);
            self.rekey = Some(Box::new(Rekey { nonce, secret, datagram, sends: 0, due: now }));
        }
        if let Some(rekey) = self.rekey.as_mut().filter(|rekey| rekey.due <= now) {
            if rekey.sends >= REKEYS {
                return Err(Why::Rekey);
            }
            rekey.due = now + Duration::from_secs(1 << rekey.sends.min(3));
            rekey.sends += 1;
            self.sent = now;
            outputs.push_back(Output::Send(self.line.seal(&Frame::alone(Kind::Rekey, &rekey.datagram))));
        }
        Ok(())
    }
}

impl Client {
    /// The answer to a rekey.
    pub(super) fn rekeyed(&mut self, now: Time, data: &[u8]) {
        let Phase::Up(up) = &mut self.phase else { return };
        let Some(rekey) = &up.rekey else {
            self.counters.unexpected += 1;
            return;
        };
        let done = match Datagram::decode(data) {
            Ok(Datagram::Resumed { nonce, .. }) => finish_resume(rekey.nonce, nonce, &rekey.secret, data),
            Ok(Datagram::Refuse { echo, .. }) if echo == rekey.nonce[..8] => {
                return self.lost(now, Why::Rekey);
            }
            _ => None,
        };
        let Some((welcome, keys)) = done else {
            self.counters.bad_frames += 1;
            return;
        };
        let fresh = Line { id: welcome.id, keys, counter: 0, window: Window::NEW };
        up.old = Some(std::mem::replace(&mut up.line, fresh));
        up.reset = welcome.reset;
        up.rekey = None;
        up.renew = now + self.config.rekey_after;
        up.unopened = 0;
        if let Some(reliable) = &mut up.reliable {
            reliable.restart();
        }
        self.counters.rekeys += 1;
        up.asks = 0;
        self.agreed(&welcome);
        let Phase::Up(up) = &mut self.phase else { return };
        up.ask_for_life(now, &self.pace, &mut self.counters, &mut self.outputs);
        up.pump(now, &mut self.counters, &mut self.outputs);
        self.told(&welcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        link::{Resumption, keys::Keys},
        wire::link::Welcome,
    };
    use crate::{rng::Seeded, wire::link::TICKET};

    #[test]
    fn keys_are_changed_before_their_counter_or_forgeries_are_too_many() {
        let config = ClientConfig {
            resumption: Some(Resumption { ticket: [4; TICKET], secret: [5; 32] }),
            ..ClientConfig::new([1; 32], [2; 16], [3; 32])
        };
        let welcome = Welcome {
            id: 1,
            interval: 30,
            features: 0,
            reset: [0; 12],
            resume: [0; 32],
            ticket: [0; TICKET],
            next_key: [0; 32],
        };
        type Wear = fn(&mut Up);
        let ways: [(Wear, usize); 5] = [
            (|_| {}, 0),
            (|up| up.line.counter = MAX_COUNTER - 1, 0),
            (|up| up.line.counter = MAX_COUNTER, 1),
            (
                |up| {
                    up.line.window.note(MAX_COUNTER);
                },
                1,
            ),
            (|up| up.unopened = MAX_UNOPENED, 1),
        ];
        for (wear, rekeys) in ways {
            let mut up = Up::new(Time::ZERO, &welcome, Keys::of(&[7; 32]), &config);
            wear(&mut up);
            let mut outputs = VecDeque::new();
            up.renew(Time::ZERO, &config, &mut Seeded::new(1), &mut outputs).unwrap();
            assert_eq!(outputs.len(), rekeys);
        }
    }
}
