//! Capture files: read as a whole when small, through a buffer when not.

use std::{
    fs::File,
    io::{BufReader, Read},
    path::Path,
};

use hailpost::{
    status::Status,
    wire::capture::{CaptureError, CaptureReader},
};

use crate::output::Failure;

/// A capture from a file, or from standard input when the path is `-`.
pub fn open(path: &Path) -> Result<CaptureReader<Box<dyn Read>>, Failure> {
    let source: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(BufReader::with_capacity(1 << 18, std::io::stdin())),
        _ => {
            let file = File::open(path)
                .map_err(|error| Failure::io(&format!("opening {}", path.display()), &error))?;
            Box::new(BufReader::with_capacity(1 << 18, file))
        }
    };
    CaptureReader::new(source).map_err(|error| wrong(path, &error))
}

/// A capture that cannot be read.
pub fn wrong(path: &Path, error: &CaptureError) -> Failure {
    Failure::new(Status::Malformed, format!("{}: {error}", path.display()))
}
