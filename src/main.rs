//! The `dfcnn` program.

mod cli;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Inspect(cli::inspect::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Inspect(arguments) => cli::inspect::run(&arguments, &mut std::io::stdout().lock()),
    }
}
