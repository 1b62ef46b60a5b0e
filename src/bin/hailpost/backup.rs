//! `hailpost backup`

use std::{
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    control::Session,
    data::DataArgs,
    failure::{Done, Failure},
    terminal::{Out, Progress, grouped},
};

/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(50);

/// Copies what the post office keeps into a file, while it serves or not.
///
/// The copy has all that was acknowledged when it began: accounts, messages, the office's key. Whoever reads it can stand for
/// the office. To go back to it, stop the office, set DIR/office.db aside with the files that begin with its name, put the copy
/// there, and start. Ended before it is done, with Ctrl-C too, an office that serves goes on with it; otherwise FILE.part is left.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  hailpost backup /var/backups/office-$(date +%F).db --data office")]
pub struct Args {
    /// The file to make, on this machine; one that is there is not written over
    file: PathBuf,
    #[command(flatten)]
    data: DataArgs,
}

pub fn run(args: &Args, out: &mut Out) -> Done {
    let dir = args.data.dir()?;
    let file = absolute(&args.file)?;
    let mut session = Session::new(&dir);
    let ticket = session.ask(&json!({ "do": "backup", "file": file }))?["ticket"].clone();
    let mut progress: Option<Progress> = None;
    loop {
        let said = session.ask(&json!({ "do": "backup_status", "ticket": ticket }))?;
        let number = |name: &str| said.get(name).and_then(Value::as_u64).unwrap_or_default();
        match said["state"].as_str().unwrap_or_default() {
            "done" => {
                drop(progress);
                let octets = std::fs::metadata(&file).map_or(0, |meta| meta.len());
                let text =
                    format!("{file}: {} octets, all that was acknowledged when it began", grouped(octets));
                return Ok(out.either(&json!({ "file": file, "octets": octets }), text)?);
            }
            "failed" => return Err(Failure::new(said["text"].as_str().unwrap_or_default())),
            _ => {
                if number("of") > 0 {
                    let bar = || Progress::new("copying", Some(number("of")));
                    progress.get_or_insert_with(bar).at(number("octets"));
                }
                thread::sleep(if session.is_alone() { Duration::ZERO } else { LOOK });
            }
        }
    }
}

/// An office that serves works in another directory.
fn absolute(path: &Path) -> Result<String, Failure> {
    let path =
        std::path::absolute(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Failure::usage(format!("{}: the name is no UTF-8", path.display())))
}
