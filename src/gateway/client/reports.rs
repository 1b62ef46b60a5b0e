//! What the gateway has to say: kept over lost links until the back end acknowledged it.

use super::{line::Late, *};
use crate::wire::gateway::{Body, Kind, Message};

/// What is being told to the back end.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Report {
    Result(Record),
    Features(AppId, Vec<u32>),
    Leave,
}

impl Report {
    pub fn kind(&self) -> Kind {
        match self {
            Report::Result(_) => Kind::Result,
            Report::Features(..) => Kind::Features,
            Report::Leave => Kind::Deregister,
        }
    }
}

impl Gateway {
    pub(super) fn queue(&mut self, now: Time, report: Report) -> Result<(), Fault> {
        if self.reports.len() >= self.config.max_reports {
            self.was_full = true;
            self.counters.reports_refused += 1;
            let detail = format!("{} reports wait already: wait for writable", self.reports.len());
            return Err(Fault::new(Status::Full, detail));
        }
        self.reports.push_back(report);
        self.flush(now);
        Ok(())
    }

    /// Sends reports as far as the window reaches. The head of the queue is what is outstanding already.
    pub(super) fn flush(&mut self, now: Time) {
        for kind in [Kind::Result, Kind::Features] {
            loop {
                let Some(line) = self.line.as_ref().filter(|line| line.state == GatewayState::Active) else {
                    return;
                };
                if !line.association.has_room(kind) || line.late.iter().any(|late| late.kind == kind) {
                    break;
                }
                let sent = line.association.outstanding(kind);
                let Some(report) =
                    self.reports.iter().filter(|report| report.kind() == kind).nth(sent).cloned()
                else {
                    break;
                };
                self.send_request(now, report);
            }
        }
    }

    pub(super) fn answered(&mut self, now: Time, message: &Message<'_>) {
        let Some(line) = &mut self.line else { return };
        let (kind, _) = message.body.kind();
        if let Some(at) = line.late.iter().position(|late| late.kind == kind) {
            self.counters.repeated += 1;
            line.late[at].answers -= 1;
            if line.late[at].answers == 0 {
                line.late.swap_remove(at);
                self.flush(now);
            }
            return;
        }
        let Some((report, sends)) = line.association.answered(message) else {
            return self.counters.unexpected += 1;
        };
        if sends > 1 && !line.association.is_tagged() {
            line.late.push(Late { kind, answers: sends - 1, until: now + self.config.timeout });
        }
        let event = match &report {
            Report::Result(record) => GatewayEvent::Acknowledged(*record),
            Report::Features(app, _) => GatewayEvent::FeaturesAcknowledged(*app),
            Report::Leave => return self.left(),
        };
        self.finish(now, &report, event);
    }

    /// A request had all its sends. Between Hailpost ends the link is no good then; a plain peer may just not know
    /// the message, so the report is dropped and the link stays. Its answer may yet come.
    pub(super) fn gave_up(&mut self, now: Time, report: Report) {
        if report == Report::Leave {
            return self.left();
        }
        if self.line.as_ref().is_some_and(|line| line.association.is_tagged()) {
            return self.line_lost(now, Fault::new(Status::Timeout, "the back end stopped answering"));
        }
        if let Some(line) = &mut self.line {
            let late =
                Late { kind: report.kind(), answers: self.config.sends, until: now + self.config.timeout };
            line.late.push(late);
        }
        let event = match &report {
            Report::Features(app, _) => GatewayEvent::FeaturesDropped(*app),
            Report::Result(record) => GatewayEvent::ReportDropped(*record),
            Report::Leave => return,
        };
        self.counters.reports_dropped += 1;
        self.finish(now, &report, event);
    }

    pub(super) fn send_request(&mut self, now: Time, report: Report) {
        if let Report::Result(record) = &report {
            let evicted = self.knowledge.adopt(now, record, self.config.result_ttl, self.config.max_results);
            self.counters.results_evicted += u64::from(evicted);
        }
        let Some(line) = &mut self.line else { return };
        let octets =
            line.association.request(now, report.kind(), report.clone(), |encoder, tag, _| match report {
                Report::Result(record) => encoder.message(tag, &Body::Result(record)),
                Report::Features(app, words) => encoder.words(tag, Kind::Features, app, &words),
                Report::Leave => encoder.message(tag, &Body::Deregister),
            });
        let conn = line.conn;
        self.send(conn, octets);
    }

    /// A report's one end: the event, and the place in the queue for another.
    fn finish(&mut self, now: Time, report: &Report, event: GatewayEvent) {
        if let Some(at) = self.reports.iter().position(|queued| queued == report) {
            self.reports.remove(at);
        }
        self.outputs.push_back(Output::Event(event));
        if self.was_full && self.reports.len() < self.config.max_reports {
            self.was_full = false;
            self.outputs.push_back(Output::Event(GatewayEvent::Writable));
        }
        self.flush(now);
    }
}
