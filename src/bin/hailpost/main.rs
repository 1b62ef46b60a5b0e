//! `hailpost`: the library for people and scripts.

mod capture;
mod control;
mod convert;
mod gateway;
mod keygen;
mod output;
mod recognize;
mod rule;
mod serve;
mod signals;
mod status;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Keeps a device reachable: gateways, their back end, and what flows through them.
///
/// Exit codes: 0 done; 1 failed; 2 the input or the command line is malformed; 3 refused by the other end;
/// 4 there is nothing by that name.
#[derive(Parser)]
#[command(name = "hailpost", version, propagate_version = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Recognize(recognize::Recognize),
    Serve(serve::Serve),
    Gateway(gateway::Gateway),
    Rule(rule::Rule),
    Status(status::Status),
    Decode(convert::Decode),
    Encode(convert::Encode),
    Keygen(keygen::Keygen),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Recognize(command) => command.run(),
        Command::Serve(command) => command.run(),
        Command::Gateway(command) => command.run(),
        Command::Rule(command) => command.run(),
        Command::Status(command) => command.run(),
        Command::Decode(command) => command.run(),
        Command::Encode(command) => command.run(),
        Command::Keygen(command) => command.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
