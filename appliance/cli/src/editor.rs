//! The prompt's line editor on a terminal: arrows, history, and completion of commands and options.

use clap::CommandFactory;
use rustyline::completion::Completer;
use rustyline::config::Configurer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::MemHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Helper};

use crate::args::Args;
use crate::console::Line;

/// Lines that the arrows bring back.
const HISTORY: usize = 100;
/// Services by name, for commands that want one.
const SERVICES: [&str; 3] = ["engine-fallback", "engine-primary", "gateway"];

/// Engines by what they are for.
const ENGINES: [&str; 2] = ["fallback", "primary"];

/// What is named by the appliance, and asked for anew at each Tab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// Adapters.
    Adapters,
    /// Merged models.
    Merged,
}

/// Says the names of what there is.
pub type Names = Box<dyn Fn(Named) -> Vec<String>>;

/// Is told of every key that changes a line.
pub type Touched = Box<dyn Fn()>;

/// A line editor. What was typed is kept in memory alone.
pub struct Editor(rustyline::Editor<Commands, MemHistory>);

impl Editor {
    /// One for this process's terminal; `None` where the terminal cannot be had.
    /// `names` says what there is of a kind, when that is asked.
    pub fn new(names: Names, touched: Touched) -> Option<Self> {
        let config = Config::builder()
            .max_history_size(HISTORY)
            .ok()?
            .auto_add_history(true)
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            // Old serial terminals would show what asks for it.
            .bracketed_paste(false)
            .build();
        let history = MemHistory::with_config(&config);
        let mut editor = rustyline::Editor::with_history(config, history).ok()?;
        // Nor do those know how to draw at once.
        editor.enable_synchronized_output(false);
        editor.set_helper(Some(Commands {
            all: Args::command(),
            names,
            touched,
        }));
        Some(Self(editor))
    }

    /// Asks for a line of at most `most` bytes.
    pub fn ask(&mut self, prompt: &str, most: usize) -> std::io::Result<Line> {
        match self.0.readline(prompt) {
            Ok(line) if line.len() > most => Ok(Line::TooLong),
            Ok(line) => Ok(Line::Text(line)),
            Err(ReadlineError::Eof) => Ok(Line::End),
            Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
            Err(ReadlineError::Io(e)) => Err(e),
            Err(e) => Err(std::io::Error::other(e)),
        }
    }
}

/// What can be typed, as the command line defines it.
struct Commands {
    all: clap::Command,
    names: Names,
    touched: Touched,
}

impl Commands {
    /// Where the word at the end of `line` begins, and how it may go on.
    fn candidates(&self, line: &str) -> (usize, Vec<String>) {
        let start = line.rfind(char::is_whitespace).map_or(0, |at| at + 1);
        let word = line.get(start..).unwrap_or_default();
        let mut before = line
            .get(..start)
            .unwrap_or_default()
            .split_whitespace()
            .peekable();
        // Who types the command's own name as in a shell means the same.
        if before.peek() == Some(&"sarai") {
            before.next();
        }
        let mut at = &self.all;
        for word in before.filter(|word| !word.starts_with('-')) {
            match at.find_subcommand(word) {
                Some(below) => at = below,
                // A value: whatever follows belongs to the same command.
                None => break,
            }
        }
        let top = std::ptr::eq(at, &self.all);
        let mut all: Vec<String> = Vec::new();
        if word.starts_with('-') {
            let long = at
                .get_arguments()
                .filter(|a| !a.is_hide_set())
                .filter_map(|a| a.get_long());
            all.extend(long.map(|name| format!("--{name}")));
            all.push("--help".to_owned());
        } else {
            let shown = at.get_subcommands().filter(|command| !command.is_hide_set());
            all.extend(shown.map(|command| command.get_name().to_owned()));
            if top {
                all.extend(["help", "exit"].map(str::to_owned));
            }
            if at.get_positionals().any(|value| value.get_id() == "service") {
                all.extend(SERVICES.map(str::to_owned));
            }
            if at.get_positionals().any(|value| value.get_id() == "engine") {
                all.extend(ENGINES.map(str::to_owned));
            }
            for (id, named) in [("adapter", Named::Adapters), ("merged", Named::Merged)] {
                if at.get_positionals().any(|value| value.get_id() == id) {
                    all.extend((self.names)(named));
                }
            }
        }
        all.retain(|candidate| candidate.starts_with(word));
        all.sort();
        all.dedup();
        if let [one] = &mut all[..] {
            one.push(' ');
        }
        (start, all)
    }
}

impl Completer for Commands {
    type Candidate = String;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.candidates(line.get(..pos).unwrap_or(line)))
    }
}

impl Hinter for Commands {
    type Hint = String;

    /// Asked for whenever a line changes, which is what is wanted of it here; there are no hints.
    fn hint(&self, _: &str, _: usize, _: &Context<'_>) -> Option<String> {
        (self.touched)();
        None
    }
}

impl Highlighter for Commands {}

impl Validator for Commands {}

impl Helper for Commands {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_options_and_services_are_completed() {
        let commands = Commands {
            all: Args::command(),
            names: Box::new(|named| match named {
                Named::Adapters => ["night-1", "night-2"].map(str::to_owned).to_vec(),
                Named::Merged => vec!["m-night-1".to_owned()],
            }),
            touched: Box::new(|| {}),
        };
        let of = |line: &str| commands.candidates(line);
        assert_eq!(of("sta"), (0, vec!["status ".to_owned()]));
        assert_eq!(of("sarai sta"), (6, vec!["status ".to_owned()]));
        assert_eq!(of("status --j"), (7, vec!["--json ".to_owned()]));
        assert_eq!(
            of("keys "),
            (5, ["add", "list", "remove"].map(str::to_owned).to_vec())
        );
        assert_eq!(of("keys re"), (5, vec!["remove ".to_owned()]));
        assert_eq!(of("restart g"), (8, vec!["gateway ".to_owned()]));
        assert_eq!(
            of("adapters use "),
            (13, ["night-1", "night-2"].map(str::to_owned).to_vec())
        );
        assert_eq!(
            of("adapters merge n"),
            (15, ["night-1", "night-2"].map(str::to_owned).to_vec())
        );
        assert_eq!(of("adapters merge --w"), (15, vec!["--wait ".to_owned()]));
        assert_eq!(
            of("adapters merged "),
            (16, ["export", "remove"].map(str::to_owned).to_vec())
        );
        assert_eq!(of("adapters merged export "), (23, vec!["m-night-1 ".to_owned()]));
        assert_eq!(of("adapters rollback f"), (18, vec!["fallback ".to_owned()]));
        assert_eq!(of("training s"), (9, vec!["status ".to_owned()]));
        assert_eq!(of("training run --w"), (13, vec!["--wait ".to_owned()]));
        let all = of("").1;
        for wanted in ["status", "pair", "boot-time", "exit"] {
            assert!(
                all.iter().any(|name| name == wanted),
                "{wanted} is missing in {all:?}"
            );
        }
        assert!(
            !all.iter().any(|name| name == "console"),
            "hidden ones stay hidden: {all:?}"
        );
        for strange in ["é", "keys é ", "  ", "--", "x y z ü"] {
            let _ = of(strange);
        }
    }
}
