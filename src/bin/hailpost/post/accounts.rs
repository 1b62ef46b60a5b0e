//! `hailpost user`, `hailpost device`, `hailpost app`: who may use the post office.

use clap::Subcommand;
use serde_json::json;

use crate::{control, data::DataArgs, failure::Done, terminal::Out};

/// Adds users of the post office.
///
/// Works whether the office serves or not.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  hailpost user add anna --data office")]
pub struct UserArgs {
    #[command(subcommand)]
    command: User,
}

#[derive(Subcommand)]
enum User {
    /// Adds a user
    #[command(after_help = "Example:\n  hailpost user add anna --data office")]
    Add {
        /// The user's name: up to 64 visible ASCII characters, without comma, colon and asterisk
        name: String,
        #[command(flatten)]
        data: DataArgs,
    },
}

/// Enrols and revokes devices of users.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  hailpost device add anna --data office >anna.line && chmod 600 anna.line
  hailpost listen --credential anna.line")]
pub struct DeviceArgs {
    #[command(subcommand)]
    command: Device,
}

#[derive(Subcommand)]
enum Device {
    /// Gives a user a device, and prints the line that it logs in with
    ///
    /// The line is the office's URL with its key, and the device's credential. It is a secret: it goes to the device on a
    /// way that others do not see, into a file of mode 0600.
    #[command(after_help = "Example:\n  hailpost device add anna --data office >anna.line")]
    Add {
        /// Whose it is
        user: String,
        /// The credential is good for so long [default: until it is revoked]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=36_500))]
        days: Option<u64>,
        /// How the device reaches this office, if not as `serve` says it listens: hail://host:port?key=KEY
        #[arg(long, value_name = "URL")]
        office: Option<String>,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Lets a device in no more, and sends it away now
    #[command(after_help = "Example:\n  hailpost device revoke FQvMjIwr9JKZxJ5qEkGDMA --data office")]
    Revoke {
        /// Its session id, as `device add --json` printed it: the first 22 characters of the credential, near enough
        session: String,
        #[command(flatten)]
        data: DataArgs,
    },
}

/// Adds applications of the post office.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  hailpost app add news --send --broadcast --data office
  (echo 'AUTH news SECRET'; cat) | nc 127.0.0.1 7701")]
pub struct AppArgs {
    #[command(subcommand)]
    command: App,
}

#[derive(Subcommand)]
enum App {
    /// Adds an application and prints its secret, which is kept nowhere in clear
    #[command(after_help = "Example:\n  hailpost app add news --send --broadcast --data office")]
    Add {
        /// Its name
        name: String,
        /// It may write to users and applications
        #[arg(long)]
        send: bool,
        /// It may write to everybody
        #[arg(long)]
        broadcast: bool,
        /// It may ask where users are
        #[arg(long)]
        query: bool,
        #[command(flatten)]
        data: DataArgs,
    },
}

pub fn user(args: &UserArgs, out: &mut Out) -> Done {
    let User::Add { name, data } = &args.command;
    let answer = control::ask(&data.dir()?, &json!({ "do": "user_add", "name": name }))?;
    Ok(out.either(&answer, format!("{name} is a user; `hailpost device add {name}` gives a device"))?)
}

pub fn device(args: &DeviceArgs, out: &mut Out) -> Done {
    match &args.command {
        Device::Add { user, days, office, data } => {
            let request = json!({ "do": "device_add", "user": user, "days": days, "office": office });
            let answer = control::ask(&data.dir()?, &request)?;
            let line = answer["line"].as_str().unwrap_or_default().to_owned();
            Ok(out.either(&answer, line)?)
        }
        Device::Revoke { session, data } => {
            let request = json!({ "do": "device_revoke", "session": session });
            let answer = control::ask(&data.dir()?, &request)?;
            Ok(out.either(&answer, "revoked; what waits for the device is kept")?)
        }
    }
}

pub fn app(args: &AppArgs, out: &mut Out) -> Done {
    let App::Add { name, send, broadcast, query, data } = &args.command;
    let request = json!({
        "do": "app_add", "name": name, "send": send, "broadcast": broadcast, "query": query,
    });
    let answer = control::ask(&data.dir()?, &request)?;
    let secret = answer["secret"].as_str().unwrap_or_default().to_owned();
    Ok(out.either(&answer, secret)?)
}
