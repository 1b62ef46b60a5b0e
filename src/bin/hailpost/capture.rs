//! Capture files as subcommands read them.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use hailpost::wire::capture::CaptureReader;

use crate::failure::Failure;

/// So many octets are asked of the system at once.
const BUFFER: usize = 1 << 18;

/// An open capture, and its length when that is known.
pub struct Capture {
    /// Its records.
    pub reader: CaptureReader<BufReader<Box<dyn Read + Send>>>,
    /// Octets of the file.
    pub len: Option<u64>,
}

/// Opens a capture file; `-` is standard input.
pub fn open(path: &Path) -> Result<Capture, Failure> {
    let about = |error: io::Error| Failure::new(format!("cannot read {}: {error}", path.display()));
    let (source, len): (Box<dyn Read + Send>, _) = if path == Path::new("-") {
        (Box::new(io::stdin()), None)
    } else {
        let file = File::open(path).map_err(about)?;
        let meta = file.metadata().map_err(about)?;
        if meta.is_dir() {
            return Err(Failure::usage(format!("{} is a directory: name a capture file", path.display())));
        }
        (Box::new(file), meta.is_file().then_some(meta.len()))
    };
    let reader = CaptureReader::new(BufReader::with_capacity(BUFFER, source))
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    Ok(Capture { reader, len })
}
