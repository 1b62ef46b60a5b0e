//! `hailpost keygen`

use std::path::{Path, PathBuf};

use hailpost::net::tls::Identity;
use serde_json::json;

use crate::{failure::Done, terminal::Out};

/// Makes a private key with its certificate, and prints the key's id.
///
/// The id is what `gateway add` enrols, and what gateways pin a back end by (`tls://host:7700?pin=ID`). The file is only
/// its owner's to read, and one that is there is never overwritten.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  hailpost keygen --out home.pem
  hailpost keygen --show home.pem --json")]
pub struct Args {
    /// Name in the certificate; a host name also serves clients that judge by a CA
    #[arg(long, default_value = "hailpost")]
    name: String,
    /// File for key and certificate (PEM, mode 0600)
    #[arg(long, value_name = "FILE", default_value = "hailpost.pem")]
    out: PathBuf,
    /// Print the id of the key in a file that is there, and make none
    #[arg(long, value_name = "FILE", conflicts_with_all = ["out", "name"])]
    show: Option<PathBuf>,
}

pub fn run(args: &Args, out: &mut Out) -> Done {
    let (identity, file): (_, &Path) = match &args.show {
        Some(file) => (Identity::load(file, file)?, file),
        None => {
            let identity = Identity::generate(&args.name)?;
            identity.write_private(&args.out)?;
            (identity, &args.out)
        }
    };
    let key = identity.key_id().to_string();
    let file = file.display().to_string();
    Ok(out.either(&json!({ "key": key, "file": file }), &key)?)
}
