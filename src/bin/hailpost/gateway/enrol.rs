//! Which gateways the back end admits.

use std::path::Path;

use hailpost::{
    io::KeyId,
    net::{
        tls::Identity,
        url::{Scheme, Url},
    },
};
use serde_json::json;

use crate::{
    control,
    data::DataArgs,
    failure::{Done, Failure},
    terminal::{Out, Table},
};

/// Enrols a gateway, or changes its enrolment.
///
/// By the key that it has on tls://. Or for hail://, by a credential that is drawn for it: then the line that the gateway logs in with
/// is printed, the back end's URL with its key, and the credential. That is a secret: it goes to the gateway on a way that
/// others do not see, into a file of mode 0600 (`hailpost gateway --credential FILE`).
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  hailpost gateway add home --group flat --key home.pem --data office
  hailpost gateway add barn --group flat --link --data office >barn.line")]
pub struct AddArgs {
    /// What people call it
    name: String,
    /// Whom it shares results and rules with: a household, a site, an operator's region
    #[arg(long)]
    group: String,
    /// Its key: the 64 digits that keygen prints, or the file that keygen wrote
    #[arg(long, value_name = "HEX|FILE", required_unless_present = "link")]
    key: Option<String>,
    /// Draw a credential for hail://, and print the line that the gateway logs in with
    #[arg(long, conflicts_with = "key")]
    link: bool,
    /// How the gateway reaches this back end, if not as `serve` says it listens: hail://host:port
    #[arg(long, value_name = "URL", requires = "link")]
    backend: Option<String>,
    /// Its word alone is enough for the others of its group
    #[arg(long)]
    trusted: bool,
    #[command(flatten)]
    data: DataArgs,
}

/// Makes a one-time token and prints the line that enrols whoever brings it.
///
/// The line is the back end's URL with its key, and the token. It goes to the gateway on a way that others do not see, into
/// a file of mode 0600 (`hailpost gateway --enrol FILE`). The first key that shows the token is enrolled; then, or when
/// its time is over, or when another token is made for the same name, it is worth nothing.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  hailpost gateway token home --group flat --data office >home.token
  hailpost gateway --identity home.pem --enrol home.token")]
pub struct TokenArgs {
    /// What people will call the gateway
    name: String,
    /// Whom it will share results and rules with
    #[arg(long)]
    group: String,
    /// How long it can be used
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=525_600))]
    minutes: u64,
    /// Its word alone is enough for the others of its group
    #[arg(long)]
    trusted: bool,
    /// It takes the place of the gateway of that name, whose key is forgotten then
    #[arg(long)]
    replace: bool,
    /// How the gateway reaches this back end, if not as `serve` says it listens
    #[arg(long, value_name = "URL")]
    backend: Option<String>,
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
    let key = args.key.as_deref().map(key).transpose()?;
    let request = json!({
        "do": if args.link { "gateway_add_link" } else { "gateway_add" },
        "name": args.name,
        "group": args.group,
        "key": key.map(|key| key.to_string()),
        "backend": args.backend,
        "trusted": args.trusted,
    });
    let answer = control::ask(&args.data.dir()?, &request)?;
    if let Some(line) = answer["line"].as_str() {
        return Ok(out.either(&answer, line)?);
    }
    Ok(out.either(&answer, format!("{} is enrolled in group {}", args.name, args.group))?)
}

pub fn token(args: &TokenArgs, out: &mut Out) -> Done {
    if let Some(url) = &args.backend {
        let url: Url = url.parse().map_err(Failure::from)?;
        if url.scheme != Scheme::Tls {
            return Err(Failure::usage("--backend: a token is shown over tls:// only"));
        }
    }
    let request = json!({
        "do": "gateway_token",
        "name": args.name,
        "group": args.group,
        "minutes": args.minutes,
        "trusted": args.trusted,
        "replace": args.replace,
        "backend": args.backend,
    });
    let answer = control::ask(&args.data.dir()?, &request)?;
    let line = answer["line"].as_str().unwrap_or_default().to_owned();
    Ok(out.either(&answer, line)?)
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
