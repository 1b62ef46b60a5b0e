//! How a subcommand ends.

use std::io;

use hailpost::status::{Fault, Status};

/// What the exit codes mean, for `hailpost help exit-codes`.
pub const EXIT_CODES: &str = "\
0  done; also when whoever read the output had enough (`| head`), or a stop was asked for (Ctrl-C, TERM)
1  failed: a file, a connection, the store; the line on standard error says which and what to do
2  the command line, a configuration, a rule or the input is wrong; the line says where
3  refused: the back end does not know this gateway's key, or the operator has barred it";

/// Done, or why not.
pub type Done = Result<(), Failure>;

/// A failure: what people read, and the exit code.
#[derive(Debug)]
pub struct Failure {
    /// See [`EXIT_CODES`].
    pub code: u8,
    /// One line, what failed and what to do; empty when nothing need be said.
    pub text: String,
}

impl Failure {
    /// Something failed.
    pub fn new(text: impl Into<String>) -> Failure {
        Failure { code: 1, text: text.into() }
    }

    /// What was given is wrong.
    pub fn usage(text: impl Into<String>) -> Failure {
        Failure { code: 2, text: text.into() }
    }

    /// Puts in front what it is about.
    pub fn about(self, what: impl std::fmt::Display) -> Failure {
        Failure { text: format!("{what}: {}", self.text), ..self }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Failure {
        let code = match fault.status {
            Status::Malformed | Status::Invalid | Status::Config | Status::Pattern | Status::Words => 2,
            Status::Refused | Status::Barred => 3,
            _ => 1,
        };
        Failure { code, text: fault.detail }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            // Who read our output has had enough.
            io::ErrorKind::BrokenPipe => Failure { code: 0, text: String::new() },
            _ => Failure::new(error.to_string()),
        }
    }
}
