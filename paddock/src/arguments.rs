//! The command line. Settings do not stand there, and who looks for them there is told where they are.

use std::path::PathBuf;

use clap::{
    Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::{check, job};

/// What `serve` is told in another way than by arguments.
const SETTINGS: &str = "\
Settings come from the environment or the configuration file; docs/reference/configuration.md has all of them:
  PADDOCK_PORT      the port on 127.0.0.1 that REST is served on [default: 8080]
  PADDOCK_DATA      the folder that everything is kept in [default: ./data]
  PADDOCK_UPSTREAM  what job tokens reach behind the protected routes, as http://127.0.0.1:3000 [default: nothing]";

/// The credential plane for CI runners.
#[derive(Parser)]
#[command(version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// The configuration file. Without one the defaults and the environment count.
    #[arg(long, global = true, env = "PADDOCK_CONFIG")]
    pub config: Option<PathBuf>,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Runs all services in one process, with everything it keeps in one folder.
    #[command(after_help = SETTINGS)]
    Serve,
    /// Says what is wrong with an installation, and what to do. Exits with 1 if something is broken.
    Check {
        /// How the findings are printed.
        #[arg(short, long, value_enum, default_value = "text")]
        output: check::Format,
    },
    /// Makes a new token for the first administrator, in place of a lost one. Stop `paddock serve` first.
    RootToken,
    /// Issues the tokens of jobs, and ends them.
    Job(job::Arguments),
}

impl Arguments {
    /// Those of this process. Wrong ones, and the question for help, end it.
    pub fn of_process() -> Self {
        Self::try_parse().unwrap_or_else(|error| with_tip(error).exit())
    }
}

/// Who gives a setting as an argument is told its variable.
fn with_tip(mut error: clap::Error) -> clap::Error {
    let given = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(given)) if error.kind() == ErrorKind::UnknownArgument => given.as_str(),
        _ => "",
    };
    if let Some(name) = ["port", "data", "upstream"].into_iter().find(|name| given.strip_prefix("--") == Some(*name)) {
        let tip = format!("it is a setting: PADDOCK_{}=… paddock …", name.to_uppercase());
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn settings_are_told_where_arguments_are_looked_for() {
        let mut command = Arguments::command();
        let help = command.find_subcommand_mut("serve").unwrap().render_help().to_string();
        for (argument, variable) in
            [("--port", "PADDOCK_PORT"), ("--data", "PADDOCK_DATA"), ("--upstream", "PADDOCK_UPSTREAM")]
        {
            assert!(help.contains(variable), "{help}");
            for given in [vec![argument, "x"], vec![&*format!("{argument}=x")]] {
                let error = Arguments::try_parse_from([vec!["paddock", "serve"], given].concat()).err().unwrap();
                let said = with_tip(error).to_string();
                assert!(said.contains(variable), "{said}");
            }
        }
        let error = Arguments::try_parse_from(["paddock", "serve", "--other"]).err().unwrap();
        assert!(!with_tip(error).to_string().contains("PADDOCK_"));
    }
}
