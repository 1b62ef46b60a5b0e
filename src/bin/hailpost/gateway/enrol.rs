//! Which gateways the back end admits.

use std::path::Path;

use hailpost::{io::KeyId, net::tls::Identity};
use serde_json::json;

use crate::{
    control,
    data::DataArgs,
    failure::{Done, Failure},
    terminal::{Out, Table},
};

/// Enrols a gateway, or changes its enrolment.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  hailpost gateway add home --group flat --key home.pem --data office")]
pub struct AddArgs {
    /// What people call it
    name: String,
    /// Whom it shares results and rules with: a household, a site, an operator's region
    #[arg(long)]
    group: String,
    /// Its key: the 64 digits that keygen prints, or the file that keygen wrote
    #[arg(long, value_name = "HEX|FILE")]
    key: String,
    /// Its word alone is enough for the others of its group
    #[arg(long)]
    trusted: bool,
    #[command(flatten)]
    data: DataArgs,
}

/// Lists enrolled and registered gateways.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  hailpost gateway list --json --data office")]
pub struct ListArgs {
    #[command(flatten)]
    data: DataArgs,
}

/// Changes one gateway.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  hailpost gateway bar home --data office")]
pub struct OneArgs {
    /// Its name or its key
    gateway: String,
    #[command(flatten)]
    data: DataArgs,
}

pub fn add(args: &AddArgs, out: &mut Out) -> Done {
    let request = json!({
        "do": "gateway_add",
        "name": args.name,
        "group": args.group,
        "key": key(&args.key)?.to_string(),
        "trusted": args.trusted,
    });
    let answer = control::ask(&args.data.dir()?, &request)?;
    Ok(out.either(&answer, format!("{} is enrolled in group {}", args.name, args.group))?)
}

pub fn list(args: &ListArgs, out: &mut Out) -> Done {
    let answer = control::ask(&args.data.dir()?, &json!({ "do": "gateway_list" }))?;
    let gateways = answer["gateways"].as_array().map_or(&[][..], |gateways| gateways);
    if out.is_json() {
        return Ok(gateways.iter().try_for_each(|gateway| out.json(gateway))?);
    }
    if gateways.is_empty() {
        return Ok(
            out.line("no gateway is enrolled: `hailpost gateway add NAME --group G --key KEY` enrols one")?
        );
    }
    let mut table = Table::new(["group", "name", "state", "trusted", "key"]);
    for gateway in gateways {
        let text = |name: &str| gateway[name].as_str().unwrap_or("-").to_owned();
        let trusted = if gateway["trusted"] == true { "yes" } else { "-" };
        table.row([text("group"), text("name"), text("state"), trusted.to_owned(), text("key")]);
    }
    Ok(table.lines(out.paint()).into_iter().try_for_each(|line| out.line(line))?)
}

pub fn change(request: &str, done: &str, args: &OneArgs, out: &mut Out) -> Done {
    let answer = control::ask(&args.data.dir()?, &json!({ "do": request, "gateway": args.gateway }))?;
    Ok(out.either(&answer, format!("{} is {done}", args.gateway))?)
}

/// A key by its digits, or that of a file.
fn key(text: &str) -> Result<KeyId, Failure> {
    if let Ok(key) = text.parse() {
        return Ok(key);
    }
    let path = Path::new(text);
    if !path.exists() {
        return Err(Failure::usage(format!("--key {text}: neither 64 hexadecimal digits nor a file")));
    }
    Ok(Identity::load(path, path)?.key_id())
}
