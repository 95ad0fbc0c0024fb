//! The terminals of the machine, and who is let in there.

use sarai_wire::bounds;

use super::reader::Section;

/// Most terminals.
const MAX_TERMINALS: usize = 8;

/// What opens a prompt on a terminal of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// A code that is shown there.
    Code,
    /// Nothing: whatever types there is the admin.
    Open,
}

/// Settings of `[console]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Console {
    /// Terminals that get a `sarai` prompt, names below `/dev`.
    pub terminals: Vec<String>,
    /// What opens it.
    pub login: Login,
    /// Minutes without a key after which one that was opened by a code locks again; 0: never.
    pub idle_minutes: u32,
}

impl Default for Console {
    fn default() -> Self {
        Self {
            terminals: vec!["ttyS0".to_owned(), "tty1".to_owned()],
            login: Login::Code,
            idle_minutes: 15,
        }
    }
}

pub(super) fn console(s: &mut Section<'_, '_>, to: &mut Console) {
    s.texts(
        "terminals",
        MAX_TERMINALS,
        is_terminal,
        "names like ttyS0 or tty1",
        &mut to.terminals,
    );
    s.text(
        "login",
        |v| matches!(v, "code" | "open"),
        "\"code\" or \"open\"",
        |v| to.login = if v == "open" { Login::Open } else { Login::Code },
    );
    s.whole("idle_minutes", bounds::IDLE_MINUTES, &mut to.idle_minutes);
}

fn is_terminal(name: &str) -> bool {
    (1..=16).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric())
        && (name.starts_with("tty") || name.starts_with("hvc"))
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;
    use crate::layout::Mode;

    fn parse(text: &str, over: Config) -> (Console, Vec<String>) {
        let (config, problems) = Config::parse(text, over);
        (config.console, problems)
    }

    #[test]
    fn a_terminal_asks_for_a_code_unless_it_is_told_not_to() {
        let defaults = || Config::defaults(Mode::Pid1);
        let (console, problems) = parse("", defaults());
        assert!(problems.is_empty() && console.login == Login::Code && console.idle_minutes == 15);
        let (console, problems) = parse("[console]\nlogin = \"open\"\nidle_minutes = 0\n", defaults());
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!((console.login, console.idle_minutes), (Login::Open, 0));
        // A second file may close what the first opens.
        let (open, _) = Config::parse("[console]\nlogin = \"open\"\n", defaults());
        let (console, problems) = parse("[console]\nlogin = \"code\"\nidle_minutes = 1440\n", open);
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!((console.login, console.idle_minutes), (Login::Code, 1440));
    }

    #[test]
    fn what_is_neither_opens_nothing_and_is_named_with_its_line() {
        for wrong in ["\"Open\"", "\"\"", "\"none\"", "false", "0", "[\"open\"]"] {
            let (console, problems) = parse(
                &format!("[console]\n\nlogin = {wrong}\n"),
                Config::defaults(Mode::Pid1),
            );
            assert_eq!(console, Console::default());
            let said = format!(
                "sarai.toml line 3: console.login is {wrong}, must be \"code\" or \"open\"; using the default"
            );
            assert_eq!(problems, [said]);
        }
        for wrong in ["-1", "1441", "1.5", "\"15\""] {
            let (console, problems) = parse(
                &format!("[console]\nidle_minutes = {wrong}\n"),
                Config::defaults(Mode::Pid1),
            );
            assert_eq!(console, Console::default());
            let said =
                format!("sarai.toml line 2: console.idle_minutes is {wrong}, must be 0 to 1440; using 15");
            assert_eq!(problems, [said]);
        }
    }
}
