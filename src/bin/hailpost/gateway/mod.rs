//! `hailpost gateway`: runs one, or tells the back end which ones it may have.

mod enrol;
mod feed;
mod run;

use clap::Subcommand;

use crate::{failure::Done, terminal::Out};

/// Runs a gateway, or enrols, lists, bars and revokes gateways at the back end.
///
/// Without a subcommand: connects to a back end, registers, and prints a line an event until it is stopped. With --pcap it
/// recognises the flows of a capture once it is registered, and reports what it finds.
#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Example:
  hailpost keygen --out home.pem
  hailpost gateway add home --group flat --key home.pem --data office
  hailpost gateway --backend 'tls://127.0.0.1:7700?pin=…' --identity home.pem --pcap evening.pcap
  hailpost gateway --credential barn.line
  tcpdump -i br0 -w - | hailpost gateway --config gateway.toml --pcap -

Signals: TERM and Ctrl-C leave the back end in order, a second one ends at once. The gateway connects again by itself when the
link is lost; a refusal ends it with exit code 3 only under --once."
)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::Args,
}

#[derive(Subcommand)]
enum Command {
    /// Enrols a gateway, or changes its enrolment
    Add(enrol::AddArgs),
    /// Makes a one-time token that enrols whoever brings it
    Token(enrol::TokenArgs),
    /// Lists enrolled and registered gateways
    List(enrol::ListArgs),
    /// Forgets a gateway's key: it is out at once, and can be enrolled anew
    Revoke(enrol::OneArgs),
    /// Takes a gateway off and keeps it out until it is allowed again
    Bar(enrol::OneArgs),
    /// Lets a barred gateway in again
    Allow(enrol::OneArgs),
}

pub fn run(args: Args, out: &mut Out) -> Done {
    match args.command {
        None => run::run(&args.run, out),
        Some(Command::Add(args)) => enrol::add(&args, out),
        Some(Command::Token(args)) => enrol::token(&args, out),
        Some(Command::List(args)) => enrol::list(&args, out),
        Some(Command::Revoke(args)) => enrol::change("gateway_revoke", "revoked", &args, out),
        Some(Command::Bar(args)) => enrol::change("gateway_bar", "taken off, and barred", &args, out),
        Some(Command::Allow(args)) => {
            enrol::change("gateway_allow", "allowed; it comes back when it tries next", &args, out)
        }
    }
}
