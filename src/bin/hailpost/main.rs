//! The program: everything that the library does, for people and for scripts. `hailpost help` tells what there is.
#![forbid(unsafe_code)]

mod backup;
mod bench;
mod capture;
mod codec;
mod control;
mod data;
mod demo;
mod events;
mod failure;
mod gateway;
mod keygen;
mod names;
mod post;
mod recognize;
mod rule;
mod serve;
mod settings;
mod signals;
mod status;
mod terminal;
mod traffic;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::Done;
use terminal::{Out, warn};

/// Keeps a device reachable: gateways that recognise traffic and the back end that they share through, and messages for
/// devices that are not there yet.
#[derive(Parser)]
#[command(
    name = "hailpost",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "See `hailpost help COMMAND` for one command, `hailpost help exit-codes` for what its exit code means."
)]
struct Cli {
    /// One JSON object a line on standard output, for scripts
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Says which application each flow of a capture belongs to
    Recognize(recognize::Args),
    /// Octets of a message to JSON
    Decode(codec::DecodeArgs),
    /// JSON to the octets of a message
    Encode(codec::EncodeArgs),
    /// Makes a private key with its certificate, and prints the key's id
    Keygen(keygen::Args),
    /// Runs a back end and a post office
    Serve(serve::Args),
    /// Runs a gateway, or enrols, lists, bars and revokes gateways
    Gateway(gateway::Args),
    /// Adds, lists and removes rules that the back end sends to gateways
    Rule(rule::Args),
    /// Adds, lists and removes users of the post office
    User(post::UserArgs),
    /// Enrols, lists and revokes devices of users
    Device(post::DeviceArgs),
    /// Adds, lists and removes applications of the post office
    App(post::AppArgs),
    /// Sends a message as a device
    Send(post::SendArgs),
    /// Prints the messages of a device
    Listen(post::ListenArgs),
    /// Says which users are there
    Presence(post::PresenceArgs),
    /// Copies what the post office keeps into a file, while it serves or not
    Backup(backup::Args),
    /// Shows what a back end and a post office hold and do
    Status(status::Args),
    /// The whole story on loopback in under a minute
    Demo(demo::Args),
    /// Measures what this machine does
    Bench(bench::Args),
    /// What the exit codes mean
    #[command(name = "exit-codes", long_about = failure::EXIT_CODES)]
    ExitCodes,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = Out::new(cli.json);
    let done = run(cli.command, &mut out).and_then(|()| Ok(out.flush()?));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // What was found before the failure is worth having.
            let _ = out.flush();
            if !failure.text.is_empty() {
                warn(&failure.text);
            }
            ExitCode::from(failure.code)
        }
    }
}

fn run(command: Command, out: &mut Out) -> Done {
    match command {
        Command::Recognize(args) => recognize::run(&args, out),
        Command::Decode(args) => codec::decode(&args, out),
        Command::Encode(args) => codec::encode(&args, out),
        Command::Keygen(args) => keygen::run(&args, out),
        Command::Serve(args) => serve::run(&args, out),
        Command::Gateway(args) => gateway::run(args, out),
        Command::Rule(args) => rule::run(&args, out),
        Command::User(args) => post::user(&args, out),
        Command::Device(args) => post::device(&args, out),
        Command::App(args) => post::app(&args, out),
        Command::Send(args) => post::send(&args, out),
        Command::Listen(args) => post::listen(&args, out),
        Command::Presence(args) => post::presence(&args, out),
        Command::Backup(args) => backup::run(&args, out),
        Command::Status(args) => status::run(&args, out),
        Command::Demo(args) => demo::run(&args, out),
        Command::Bench(args) => bench::run(&args, out),
        Command::ExitCodes => Ok(out.line(failure::EXIT_CODES)?),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_every_subcommand_has_an_example() {
        let mut cli = Cli::command();
        cli.build();
        cli.clone().debug_assert();
        examples(&cli);
    }

    fn examples(command: &clap::Command) {
        for sub in command.get_subcommands().filter(|sub| !["help", "exit-codes"].contains(&sub.get_name())) {
            let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{} has no example", sub.get_name());
            examples(sub);
        }
    }
}
