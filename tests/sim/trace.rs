//! What happened lately, for people. Costs nothing unless it is wanted.

use std::{cell::RefCell, collections::VecDeque, fmt, rc::Rc};

use hailpost::time::Time;

/// The last lines of what happened. A clone adds to the same lines, so they outlive a world that panics.
#[derive(Clone, Default)]
pub struct Trace {
    lines: Rc<RefCell<Lines>>,
    keep: usize,
}

#[derive(Default)]
struct Lines {
    last: VecDeque<String>,
    left_out: usize,
}

impl Trace {
    /// Keeps nothing.
    pub fn off() -> Trace {
        Trace::default()
    }

    /// Keeps the last `keep` lines.
    pub fn last(keep: usize) -> Trace {
        Trace { keep, ..Trace::default() }
    }

    /// Adds a line, which is made only if it is kept. An empty one is left out.
    pub fn note(&self, now: Time, line: impl FnOnce() -> String) {
        if self.keep == 0 {
            return;
        }
        let line = line();
        if line.is_empty() {
            return;
        }
        let mut lines = self.lines.borrow_mut();
        if lines.last.len() == self.keep {
            lines.last.pop_front();
            lines.left_out += 1;
        }
        let millis = now.as_micros() / 1000;
        lines.last.push_back(format!("{:>4}.{:03} {}", millis / 1000, millis % 1000, line));
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.lines.borrow();
        if lines.left_out > 0 {
            writeln!(f, "  ({} lines before)", lines.left_out)?;
        }
        lines.last.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}
