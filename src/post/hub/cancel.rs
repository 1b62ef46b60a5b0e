//! Withdrawing a message that was not handed over yet.

use super::*;
use crate::store::Row;

impl Hub {
    /// Withdraws a message by its id, from whoever was not handed it yet: 200 when it reached nobody, 409 when somebody has
    /// it, 404 when there is no such message, or no more.
    pub fn cancel(&mut self, _now: Time, sender: &Sender, id: &str) {
        let Sender::App { seat, .. } = sender else { return };
        let hash = intake::id_hash(sender, id);
        let found = self.known.get(&hash).filter(|_| !self.waiting.contains_key(&hash));
        match found {
            Some((sequence, _)) => {
                let sequence = *sequence;
                let question = Question::Cancel { seat: *seat, id: id.to_owned(), sequence };
                self.ask_row(question, rows::MESSAGE, sequence.0.to_be_bytes().to_vec());
            }
            None => self.cancelled(*seat, id.to_owned(), 404),
        }
    }

    pub(super) fn cancel_found(
        &mut self,
        seat: Seat,
        id: String,
        sequence: Sequence,
        found: Result<Vec<Row>, Fault>,
    ) {
        let row = found.ok().and_then(|rows| rows.into_iter().next());
        let Some(kept) = row.and_then(|row| rows::read_message(&row.value)) else {
            return self.cancelled(seat, id, 404);
        };
        let under_way = match kept.only {
            Some(inbox) => self.is_under_way(inbox, sequence) || self.is_leaving(inbox, sequence),
            None => self.mailboxes.keys().any(|inbox| self.is_under_way(*inbox, sequence)),
        };
        let mut ops = Vec::new();
        match kept.only {
            Some(_) if under_way => return self.cancelled(seat, id, 409),
            Some(inbox) => {
                ops.push(rows::delete_queue(inbox, sequence, sequence));
                self.lighten(inbox, kept.size());
            }
            // Who has it keeps it; the rows of the others lead nowhere now, and go when they are met.
            None => drop(self.shares.remove(&sequence)),
        }
        ops.push(rows::delete_log(rows::MESSAGE, sequence, sequence));
        let code = if under_way { 409 } else { 200 };
        self.persist(ops, Effect::Cancelled { seat, id, code });
    }

    pub(super) fn cancelled(&mut self, seat: Seat, id: String, code: u16) {
        let answer = Answer { code, state: None };
        self.outputs.push_back(HubOutput::Answered { seat, id, answer });
    }
}
