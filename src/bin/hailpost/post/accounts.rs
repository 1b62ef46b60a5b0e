//! `hailpost user`, `hailpost device`, `hailpost app`: who may use the post office.

use clap::Subcommand;
use serde_json::{Value, json};

use crate::{
    control::{self, Session},
    data::DataArgs,
    failure::Done,
    terminal::{Out, Table, grouped},
};

/// Adds, lists and removes users of the post office.
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
    /// Lists users
    #[command(after_help = "Example:\n  hailpost user list --json")]
    List {
        #[command(flatten)]
        data: DataArgs,
    },
    /// Removes a user, with all devices and what waits for them
    #[command(after_help = "Example:\n  hailpost user remove anna --data office")]
    Remove {
        /// The user's name
        name: String,
        #[command(flatten)]
        data: DataArgs,
    },
}

/// Enrols, lists and revokes devices of users, or gives them another credential.
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
    /// Gives a device another credential in the place of the one that it has, and prints the new line
    ///
    /// The old one holds no more from then on. What waits for the device is handed to it once it logs in by the new line.
    #[command(
        after_help = "Example:\n  hailpost device rotate FQvMjIwr9JKZxJ5qEkGDMA --data office >anna.line"
    )]
    Rotate {
        /// Its session id, as `device list` shows it
        session: String,
        /// How the device reaches this office, as of `device add`
        #[arg(long, value_name = "URL")]
        office: Option<String>,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Lists devices: those of a user, or all
    #[command(after_help = "Example:\n  hailpost device list anna --data office")]
    List {
        /// Whose
        user: Option<String>,
        #[command(flatten)]
        data: DataArgs,
    },
}

/// Adds, lists and removes applications of the post office, or gives them another secret.
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
    /// Gives an application another secret and prints it; the old one holds no more
    #[command(after_help = "Example:\n  hailpost app rotate news --data office")]
    Rotate {
        /// Its name
        name: String,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Removes an application, with what waits for it and its subscriptions
    #[command(after_help = "Example:\n  hailpost app remove news --data office")]
    Remove {
        /// Its name
        name: String,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Lists applications and what they may do
    #[command(after_help = "Example:\n  hailpost app list --data office")]
    List {
        #[command(flatten)]
        data: DataArgs,
    },
}

pub fn user(args: &UserArgs, out: &mut Out) -> Done {
    match &args.command {
        User::Add { name, data } => {
            let answer = control::ask(&data.dir()?, &json!({ "do": "user_add", "name": name }))?;
            Ok(out
                .either(&answer, format!("{name} is a user; `hailpost device add {name}` gives a device"))?)
        }
        User::Remove { name, data } => {
            let answer = control::ask(&data.dir()?, &json!({ "do": "user_remove", "name": name }))?;
            Ok(out.either(&answer, format!("{name} is no user any more"))?)
        }
        User::List { data } => {
            let mut table = Table::new(["user", "devices", "messages"]);
            let row = |row: &Value| {
                let kept = if row["keep"] == true { "kept" } else { "dropped while away" };
                [text(row, "name"), number(row, "devices"), kept.to_owned()]
            };
            list(data, &json!({ "do": "user_list" }), "users", out, |found| table.row(row(found)))?;
            lines(&table, out)
        }
    }
}

pub fn device(args: &DeviceArgs, out: &mut Out) -> Done {
    let printed = |answer: Value, out: &mut Out| -> Done {
        let line = text(&answer, "line");
        Ok(out.either(&answer, line)?)
    };
    match &args.command {
        Device::Add { user, days, office, data } => {
            let request = json!({ "do": "device_add", "user": user, "days": days, "office": office });
            printed(control::ask(&data.dir()?, &request)?, out)
        }
        Device::Rotate { session, office, data } => {
            let request = json!({ "do": "device_rotate", "session": session, "office": office });
            printed(control::ask(&data.dir()?, &request)?, out)
        }
        Device::Revoke { session, data } => {
            let request = json!({ "do": "device_revoke", "session": session });
            let answer = control::ask(&data.dir()?, &request)?;
            Ok(out.either(&answer, "revoked; what waits for the device is kept")?)
        }
        Device::List { user, data } => {
            let mut table = Table::new(["session", "user", "state", "waiting"]);
            let row = |row: &Value| {
                [text(row, "session"), text(row, "user"), text(row, "state"), number(row, "waiting")]
            };
            let request = json!({ "do": "device_list", "user": user });
            list(data, &request, "devices", out, |found| table.row(row(found)))?;
            lines(&table, out)
        }
    }
}

pub fn app(args: &AppArgs, out: &mut Out) -> Done {
    match &args.command {
        App::Add { name, send, broadcast, query, data } => {
            let request = json!({
                "do": "app_add", "name": name, "send": send, "broadcast": broadcast, "query": query,
            });
            let answer = control::ask(&data.dir()?, &request)?;
            let secret = text(&answer, "secret");
            Ok(out.either(&answer, secret)?)
        }
        App::Rotate { name, data } => {
            let answer = control::ask(&data.dir()?, &json!({ "do": "app_rotate", "name": name }))?;
            let secret = text(&answer, "secret");
            Ok(out.either(&answer, secret)?)
        }
        App::Remove { name, data } => {
            let answer = control::ask(&data.dir()?, &json!({ "do": "app_remove", "name": name }))?;
            Ok(out.either(&answer, format!("{name} is no application any more"))?)
        }
        App::List { data } => {
            let mut table = Table::new(["application", "may"]);
            let row = |row: &Value| {
                let may = ["send", "broadcast", "query"].into_iter().filter(|right| row[*right] == true);
                [text(row, "name"), may.collect::<Vec<_>>().join(", ")]
            };
            list(data, &json!({ "do": "app_list" }), "apps", out, |found| table.row(row(found)))?;
            lines(&table, out)
        }
    }
}

/// Fetches a list, page after page: each row is an object on a line for scripts, and given to `row` otherwise.
fn list(data: &DataArgs, request: &Value, name: &str, out: &mut Out, mut row: impl FnMut(&Value)) -> Done {
    let dir = data.dir()?;
    let mut session = Session::new(&dir);
    let mut request = request.clone();
    loop {
        let answer = session.ask(&request)?;
        for found in answer[name].as_array().into_iter().flatten() {
            match out.is_json() {
                true => out.json(found)?,
                false => row(found),
            }
        }
        // What is not asked for in pages comes whole.
        if answer["after"].is_null() || request["user"].is_string() {
            return Ok(());
        }
        request["after"] = answer["after"].clone();
    }
}

fn lines(table: &Table, out: &mut Out) -> Done {
    match out.is_json() {
        true => Ok(()),
        false => Ok(table.lines(out.paint()).iter().try_for_each(|line| out.line(line))?),
    }
}

fn text(row: &Value, name: &str) -> String {
    row[name].as_str().unwrap_or_default().to_owned()
}

fn number(row: &Value, name: &str) -> String {
    grouped(row[name].as_u64().unwrap_or_default())
}
