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
            Some(known) => {
                let sequence = known.sequence;
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
        let Some(head) = row.and_then(|row| rows::read_head(&row.value)) else {
            return self.cancelled(seat, id, 404);
        };
        match head.only {
            None => {
                let (from, to) =
                    (rows::pair_key(sequence, Inbox(0)), rows::pair_key(sequence, Inbox(u32::MAX)));
                let wanted = Wanted::Range { from, to, limit: usize::MAX };
                let fetch = Fetch { ticket: 0, table: rows::SHARE, wanted };
                self.ask(Question::Shares { seat, id, sequence }, fetch);
            }
            Some(inbox) if self.is_under_way(inbox, sequence) => self.cancelled(seat, id, 409),
            Some(inbox) => match self.queues.take(inbox, sequence) {
                Some(item) => {
                    let ops = self.remove(&[(inbox, item)], Why::Confirmed);
                    self.persist(ops, Effect::Cancelled { seat, id, code: 200 });
                }
                None => self.cancelled(seat, id, 404),
            },
        }
    }

    /// Whom a shared message was for: who has it keeps it, the others lose it.
    pub(super) fn shares_found(
        &mut self,
        seat: Seat,
        id: String,
        sequence: Sequence,
        found: Result<Vec<Row>, Fault>,
    ) {
        let found = found.unwrap_or_default();
        let inboxes = found.iter().flat_map(|row| rows::read_shares(&row.value));
        let waiting: Vec<Inbox> = inboxes.filter(|inbox| self.queues.contains(*inbox, sequence)).collect();
        let (keep, lose): (Vec<Inbox>, Vec<Inbox>) =
            waiting.into_iter().partition(|inbox| self.is_under_way(*inbox, sequence));
        if keep.is_empty() && lose.is_empty() {
            return self.cancelled(seat, id, 404);
        }
        let mut gone = Vec::with_capacity(lose.len());
        for inbox in lose {
            gone.extend(self.queues.take(inbox, sequence).map(|item| (inbox, item)));
        }
        // What is left is written anew, in place of a row for each who lost it.
        let mut ops = self.remove(&gone, Why::Expired);
        if !keep.is_empty() {
            ops.push(rows::delete_pairs(rows::SHARE, sequence));
            ops.push(rows::delete_pairs(rows::TAKEN, sequence));
            ops.extend(rows::put_shares(sequence, &keep));
        }
        let code = if keep.is_empty() { 200 } else { 409 };
        self.persist(ops, Effect::Cancelled { seat, id, code });
    }

    pub(super) fn cancelled(&mut self, seat: Seat, id: String, code: u16) {
        let answer = Answer { code, state: None };
        self.outputs.push_back(HubOutput::Answered { seat, id, answer });
    }
}
