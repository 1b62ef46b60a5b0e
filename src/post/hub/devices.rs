//! What devices say.

use super::*;
use crate::store::Row;

impl Hub {
    /// A frame came from who sits there. What it means is done, once it is known whose inbox it is.
    pub fn frame(&mut self, now: Time, inbox: Inbox, seat: Seat, frame: Frame) {
        if let Frame::Confirm(sequences) = frame {
            return self.confirm(now, inbox, &sequences);
        }
        if let Some(user) = self.owners.get(&inbox).cloned() {
            return self.obey(now, &user, inbox, seat, frame);
        }
        if self.held_count >= self.config.max_pending {
            return self.refuse_frame(inbox, seat, frame);
        }
        self.held_count += 1;
        let held = self.held.entry(inbox).or_default();
        held.push((seat, frame));
        if held.len() == 1 {
            self.ask_row(Question::Owner(inbox), rows::INBOX, inbox.0.to_be_bytes().to_vec());
        }
    }

    pub(super) fn owner_found(&mut self, now: Time, inbox: Inbox, found: Result<Vec<Row>, Fault>) {
        let held = self.held.remove(&inbox).unwrap_or_default();
        self.held_count -= held.len();
        let row = found.ok().and_then(|rows| rows.into_iter().next());
        let user: Option<Arc<str>> = row.and_then(|row| rows::read_owner(&row.value).map(Arc::from));
        if let Some(user) = &user {
            self.owners.put(inbox, user.clone());
        }
        for (seat, frame) in held {
            match &user {
                Some(user) => self.obey(now, user, inbox, seat, frame),
                None => self.refuse_frame(inbox, seat, frame),
            }
        }
    }

    fn obey(&mut self, now: Time, user: &str, inbox: Inbox, seat: Seat, frame: Frame) {
        let is_change = matches!(frame, Frame::Subscribe { .. } | Frame::Setting { .. });
        // Messages have a bound of their own.
        if is_change && self.effects.len() + self.questions.len() >= self.config.max_pending {
            return self.refuse_frame(inbox, seat, frame);
        }
        match frame {
            Frame::Put(put) => {
                let message = Message {
                    id: put.number.to_string(),
                    from: None,
                    to: put.to,
                    kind: put.kind,
                    store: put.store,
                    ttl: put.ttl,
                    period: None,
                    content_type: put.content_type,
                    body: put.body,
                };
                let sender = Sender::Device { user: user.to_owned(), inbox, seat };
                let asker = intake::Asker::Device { seat, inbox, number: put.number };
                self.intake(now, &sender, message, asker);
            }
            Frame::Subscribe { request, app, on } => self.follow(seat, inbox, request, user, &app, on),
            Frame::Setting { request, keep } => self.set_keep(seat, inbox, request, user, keep),
            Frame::Query { request, users } => self.query_for_device(seat, inbox, request, users),
            // What was done before, and what only the office says.
            Frame::Confirm(_)
            | Frame::Deliver(_)
            | Frame::PutAnswer { .. }
            | Frame::Welcome { .. }
            | Frame::Answer { .. }
            | Frame::Presence { .. } => {}
        }
    }

    fn refuse_frame(&mut self, inbox: Inbox, seat: Seat, frame: Frame) {
        self.counters.frames_refused += 1;
        let answer = match frame {
            Frame::Put(put) => Frame::PutAnswer { number: put.number, code: 507, state: State::Dropped },
            Frame::Subscribe { request, .. }
            | Frame::Setting { request, .. }
            | Frame::Query { request, .. } => Frame::Answer { request, code: 507 },
            _ => return,
        };
        self.send(seat, inbox, answer);
    }
}
