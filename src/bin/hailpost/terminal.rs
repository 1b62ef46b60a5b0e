//! Standard output, colours, and the progress of long work.

use std::{
    fmt::Display,
    io::{self, BufWriter, IsTerminal, Write},
    sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// Standard output. Errors come back, so that a reader that left ends us quietly.
pub struct Out {
    stdout: Box<dyn Write>,
    json: bool,
    paint: Paint,
}

impl Out {
    /// With `json`, nothing but one object a line belongs there.
    pub fn new(json: bool) -> Out {
        let stdout = io::stdout();
        let paint = Paint::when(!json && stdout.is_terminal());
        Out { stdout: Box::new(BufWriter::with_capacity(1 << 16, stdout)), json, paint }
    }

    /// From now on a reader that is slow, or does not read at all, holds nobody up: what it does not take is left out.
    pub fn detach(&mut self) {
        self.stdout = Box::new(Detached::new());
    }

    /// From now on nothing is written.
    pub fn silence(&mut self) {
        self.stdout = Box::new(io::sink());
    }

    /// Whether scripts read this.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Colours, if they are wanted.
    pub fn paint(&self) -> Paint {
        self.paint
    }

    /// One line.
    pub fn line(&mut self, text: impl Display) -> io::Result<()> {
        writeln!(self.stdout, "{text}")
    }

    /// One object on a line.
    pub fn json(&mut self, value: &Value) -> io::Result<()> {
        serde_json::to_writer(&mut self.stdout, value)?;
        self.stdout.write_all(b"\n")
    }

    /// The object for scripts, the line for people.
    pub fn either(&mut self, value: &Value, text: impl Display) -> io::Result<()> {
        match self.json {
            true => self.json(value),
            false => self.line(text),
        }
    }

    /// Octets as they are.
    pub fn raw(&mut self, octets: &[u8]) -> io::Result<()> {
        self.stdout.write_all(octets)
    }

    /// Shows what was written so far.
    pub fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }
}

/// Standard output, written by a thread.
struct Detached {
    /// Whole lines that wait to be handed over.
    waiting: Vec<u8>,
    lines: Option<SyncSender<Vec<u8>>>,
    ended: Receiver<io::Error>,
    lost: u64,
}

/// Octets that wait for a slow reader; past it lines are left out.
const MAX_WAITING: usize = 1 << 20;
/// How long the last words may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Detached {
    fn new() -> Detached {
        let (lines, receiver) = sync_channel::<Vec<u8>>(4);
        let (end, ended) = channel();
        thread::spawn(move || {
            let mut stdout = io::stdout().lock();
            let written =
                receiver.iter().try_for_each(|lines| stdout.write_all(&lines).and_then(|()| stdout.flush()));
            // Without an error this ends it too: the other side learns that all is written.
            let _ = end.send(written.err().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()));
        });
        Detached { waiting: Vec::new(), lines: Some(lines), ended, lost: 0 }
    }
}

impl Write for Detached {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.waiting.extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Ok(error) = self.ended.try_recv() {
            return Err(error);
        }
        let Some(lines) = &self.lines else { return Ok(()) };
        if self.waiting.is_empty() {
            return Ok(());
        }
        match lines.try_send(std::mem::take(&mut self.waiting)) {
            Ok(()) if self.lost > 0 => {
                let lost = std::mem::take(&mut self.lost);
                warn(format!("{lost} lines were left out because standard output was not read"));
                Ok(())
            }
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(TrySendError::Full(waiting)) => {
                if waiting.len() > MAX_WAITING {
                    self.lost += waiting.iter().filter(|octet| **octet == b'\n').count() as u64;
                } else {
                    self.waiting = waiting;
                }
                Ok(())
            }
        }
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        if let Some(lines) = self.lines.take() {
            let _ = lines.try_send(std::mem::take(&mut self.waiting));
            drop(lines);
            let _ = self.ended.recv_timeout(LAST_WORDS);
        }
    }
}

/// Colours for people; none where NO_COLOR is set or nobody looks.
#[derive(Clone, Copy)]
pub struct Paint(bool);

impl Paint {
    fn when(wanted: bool) -> Paint {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Paint(wanted && !plain)
    }

    /// For what is the point of a line.
    pub fn strong(self, text: impl Display) -> String {
        self.with("1", text)
    }

    /// For what matters less.
    pub fn faint(self, text: impl Display) -> String {
        self.with("2", text)
    }

    /// For what went well.
    pub fn good(self, text: impl Display) -> String {
        self.with("32", text)
    }

    /// For what did not.
    pub fn bad(self, text: impl Display) -> String {
        self.with("31", text)
    }

    /// For names.
    pub fn name(self, text: impl Display) -> String {
        self.with("36", text)
    }

    fn with(self, code: &str, text: impl Display) -> String {
        match self.0 {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_string(),
        }
    }
}

/// A line on standard error, if that is not where nobody reads: what went wrong but stops nothing.
pub fn warn(text: impl Display) {
    let _ = writeln!(io::stderr(), "hailpost: {text}");
}

/// A bar on standard error for work that has taken more than a second, when that is a terminal.
pub struct Progress {
    what: &'static str,
    whole: Option<u64>,
    begun: Instant,
    shown: Option<Instant>,
    enabled: bool,
}

/// How long work may take before it shows a bar.
const QUIET: Duration = Duration::from_secs(1);
/// How often the bar changes.
const FRAME: Duration = Duration::from_millis(100);
const WIDTH: usize = 30;

impl Progress {
    /// Of `whole` steps, when that is known.
    pub fn new(what: &'static str, whole: Option<u64>) -> Progress {
        let enabled = io::stderr().is_terminal();
        Progress { what, whole, begun: Instant::now(), shown: None, enabled }
    }

    /// So many steps are done. Cheap enough to be called for every piece of some hundred steps.
    pub fn at(&mut self, done: u64) {
        if !self.enabled || self.begun.elapsed() < QUIET || self.shown.is_some_and(|at| at.elapsed() < FRAME)
        {
            return;
        }
        self.shown = Some(Instant::now());
        let bar = match self.whole.filter(|whole| *whole > 0) {
            Some(whole) => {
                let filled = (done.min(whole) * WIDTH as u64 / whole) as usize;
                let percent = done.min(whole) * 100 / whole;
                format!("[{}{}] {percent:3} %", "#".repeat(filled), ".".repeat(WIDTH - filled))
            }
            None => format!("{done}"),
        };
        let _ = write!(io::stderr(), "\r{} {bar} ", self.what);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(io::stderr(), "\r{:width$}\r", "", width = self.what.len() + WIDTH + 12);
        }
    }
}

/// Columns under headings, numbers to the right.
#[derive(Default)]
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these headings.
    pub fn new<const N: usize>(head: [&str; N]) -> Table {
        Table { head: head.iter().map(|text| (*text).to_owned()).collect(), rows: Vec::new() }
    }

    /// One more row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// Its lines.
    pub fn lines(&self, paint: Paint) -> Vec<String> {
        let widths: Vec<usize> = (0..self.head.len())
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column)).chain(self.head.get(column));
                cells.map(|cell| visible(cell)).max().unwrap_or_default()
            })
            .collect();
        let right: Vec<bool> = (0..self.head.len())
            .map(|column| {
                let is_number = |cell: &String| cell.starts_with(|first: char| first.is_ascii_digit());
                let mut cells = self.rows.iter().filter_map(|row| row.get(column)).peekable();
                cells.peek().is_some() && cells.all(|cell| is_number(cell) || cell == "-")
            })
            .collect();
        let line = |cells: &[String]| -> String {
            let mut text = String::new();
            for (column, cell) in cells.iter().enumerate() {
                let pad = " ".repeat(widths[column].saturating_sub(visible(cell)));
                match right[column] {
                    true => text += &format!("{pad}{cell}  "),
                    false => text += &format!("{cell}{pad}  "),
                }
            }
            text.trim_end().to_owned()
        };
        let head = paint.faint(line(&self.head));
        std::iter::once(head).chain(self.rows.iter().map(|row| line(row))).collect()
    }
}

/// Columns that a text takes: without what only colours it.
fn visible(text: &str) -> usize {
    let mut inside = false;
    text.chars()
        .filter(|c| {
            let counts = !inside && *c != '\x1b';
            inside = (inside || *c == '\x1b') && *c != 'm';
            counts
        })
        .count()
}

/// 1234567 as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_stand_to_the_right() {
        assert_eq!(["0", "999", "1,000", "1,234,567"], [0, 999, 1000, 1_234_567].map(grouped)[..]);
        let mut table = Table::new(["name", "count"]);
        table.row(["a".into(), "7".into()]);
        table.row([Paint(true).name("longer"), "1,000".into()]);
        let lines = table.lines(Paint(false));
        assert_eq!(lines, ["name    count", "a           7", "\x1b[36mlonger\x1b[0m  1,000"]);
    }
}
