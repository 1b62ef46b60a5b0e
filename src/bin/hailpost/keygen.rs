//! `keygen`.

use std::path::{Path, PathBuf};

use clap::Args;
use hailpost::{net::tls::Identity, status::Fault};
use serde_json::json;

use crate::output::{Failure, Output};

/// Makes a private key with its self-signed certificate, and prints the key's id: what others enrol or pin.
#[derive(Args)]
#[command(after_help = "Example:\n  hailpost keygen --name home --out home.pem")]
pub struct Keygen {
    /// The certificate's name, for people
    #[arg(long, default_value = "hailpost")]
    name: String,
    /// Where to write; never over an existing file, readable by you alone
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

impl Keygen {
    pub fn run(self) -> Result<(), Failure> {
        let identity = Identity::generate(&self.name)?;
        identity.write_private(&self.out)?;
        let key = identity.key_id().to_string();
        let mut out = Output::new();
        match self.json {
            true => out.json(&json!({ "key": key, "file": self.out }))?,
            false => out.line(&key)?,
        }
        out.flush()
    }
}

/// The identity of a file, made at first use.
pub fn identity_at(path: &Path, name: &str) -> Result<Identity, Fault> {
    if path.exists() {
        return Identity::load(path, path);
    }
    let identity = Identity::generate(name)?;
    identity.write_private(path)?;
    Ok(identity)
}
