//! `sarai` as the login shell of the user `admin`: an SSH client's command is one line after `-c`, and means what it
//! means at the prompt.

use clap::{CommandFactory, FromArgMatches};

use crate::args::{Args, Command, ConsoleOptions};
use crate::console::split;
use crate::failure::Failure;

/// The line after `-c`, if this was started as a shell is.
pub fn command() -> Option<String> {
    let mut arguments = std::env::args_os().skip(1);
    let (flag, line, rest) = (arguments.next()?, arguments.next()?, arguments.next());
    // No command of ours begins with `-c`.
    (flag == "-c" && rest.is_none()).then(|| line.to_string_lossy().into_owned())
}

/// What the line asks for; nothing but the prompt's own commands can be.
pub fn parse(line: &str) -> Result<Args, Failure> {
    let mut words = split(line).map_err(Failure::usage)?;
    if words.first().is_some_and(|word| word == "sarai") {
        words.remove(0);
    }
    if words.is_empty() {
        return Ok(Args {
            socket: None,
            command: Some(Command::Console(ConsoleOptions::default())),
        });
    }
    let matches = Args::command().try_get_matches_from(std::iter::once("sarai".to_owned()).chain(words));
    let parsed = matches.and_then(|matches| Args::from_arg_matches(&matches));
    // Help and version are answers, too: printed as ever, with their exit codes.
    let args = parsed.map_err(|e| e.exit())?;
    // SSH knows keys alone; a code there would only look like another way in.
    if matches!(&args.command, Some(Command::Console(options)) if options.locked) {
        return Err(Failure::usage("only the machine's own terminals have a lock"));
    }
    Ok(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_means_what_it_means_at_the_prompt() {
        for line in ["status --json", "sarai status --json", " sarai  'status' --json "] {
            let args = parse(line).unwrap();
            assert!(
                matches!(args.command, Some(Command::Status { json: true })),
                "{line}"
            );
        }
        for line in ["", "sarai", "  "] {
            assert!(matches!(parse(line).unwrap().command, Some(Command::Console(_))));
        }
        assert!(parse("status 'open").is_err());
        assert!(parse("console --locked").is_err());
    }
}
