//! The command line. Settings are not arguments; the help and the error messages name their variables instead.

use std::path::PathBuf;

use clap::{
    Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::{job, output::Format};

/// The settings that `serve` reads from the environment and not from arguments.
const SETTINGS: &str = "\
Settings come from the environment or the configuration file; docs/reference/configuration.md lists all of them:
  PADDOCK_PORT      the port on 127.0.0.1 that serves REST [default: 8080]
  PADDOCK_DATA      the folder for all data [default: ./data]
  PADDOCK_UPSTREAM  the upstream behind the protected routes, as in http://127.0.0.1:3000 [default: none]";

/// The credential plane for CI runners.
#[derive(Parser)]
#[command(version)]
pub struct Arguments {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
    /// The configuration file. Without one, the defaults and the environment apply.
    #[arg(long, global = true, env = "PADDOCK_CONFIG")]
    pub config: Option<PathBuf>,
}

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Runs all services in one process, with all data in one folder.
    #[command(after_help = SETTINGS)]
    Serve,
    /// Reports what is wrong with an installation, and what to do. Exits with 1 if something is broken.
    Check {
        /// The format of the findings.
        #[arg(short, long, value_enum, default_value = "text")]
        output: Format,
    },
    /// Replaces a lost token of the first administrator. Stop `paddock serve` first.
    RootToken,
    /// Issues job tokens, finishes jobs, and lists them.
    Job(job::Arguments),
}

impl Arguments {
    /// Parses the arguments of this process. Ends the process on `--help`, `--version` and mistakes.
    pub fn of_process() -> Self {
        Self::try_parse().unwrap_or_else(|error| with_tip(error).exit())
    }
}

/// Names the variable of a setting that was given as an argument.
fn with_tip(mut error: clap::Error) -> clap::Error {
    if error.kind() != ErrorKind::UnknownArgument {
        return error;
    }
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else { return error };
    if matches!(argument.as_str(), "--port" | "--data" | "--upstream") {
        let variable = argument.trim_start_matches('-').to_uppercase();
        let tip = format!("it is a setting: PADDOCK_{variable}=… paddock …");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn help_and_errors_name_the_variables_of_settings() {
        let mut command = Arguments::command();
        let help = command.find_subcommand_mut("serve").unwrap().render_help().to_string();
        for (argument, variable) in
            [("--port", "PADDOCK_PORT"), ("--data", "PADDOCK_DATA"), ("--upstream", "PADDOCK_UPSTREAM")]
        {
            assert!(help.contains(variable), "{help}");
            for given in [vec![argument, "x"], vec![&*format!("{argument}=x")]] {
                let error = Arguments::try_parse_from([vec!["paddock", "serve"], given].concat()).err().unwrap();
                let message = with_tip(error).to_string();
                assert!(message.contains(variable), "{message}");
            }
        }
        let error = Arguments::try_parse_from(["paddock", "serve", "--other"]).err().unwrap();
        assert!(!with_tip(error).to_string().contains("PADDOCK_"));
    }
}
