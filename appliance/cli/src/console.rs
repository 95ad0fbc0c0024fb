//! The prompt: each line is one command of `sarai`, run as a child process of its own.
//!
//! A child, because the serial console must outlive whatever a command does: Ctrl-C ends `logs -f` and not the
//! prompt, and a failing command cannot take the console with it. No input ends the prompt but its end (Ctrl-D),
//! `exit` or `quit`, and where it is told to, a time in which nothing was typed.
//!
//! On the machine's own terminals it begins locked ([`lock`]). It is locked once, at its beginning: whoever keeps the
//! terminals starts another one when it ends.

mod gate;
mod idle;
mod lock;

use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::args::ConsoleOptions;
use crate::editor::{Editor, Named};
use crate::failure::Failure;
use crate::{adapters, discover, merges};
use idle::Idle;

/// Longest line, bytes. A terminal in its ordinary mode gives no more than this.
const MAX_LINE: usize = 4096;
/// What asks for a line.
const PROMPT: &str = "sarai> ";

/// Reads and runs lines until the input ends.
pub fn run(socket: Option<&Path>, options: &ConsoleOptions) -> Result<(), Failure> {
    let program =
        std::env::current_exe().map_err(|e| Failure::failed(format!("find this program's own file: {e}")))?;
    keep_on_interrupt();
    let terminal = std::io::stdin().is_terminal();
    if options.locked && !terminal {
        return Err(Failure::usage("a prompt that is locked needs a terminal"));
    }
    // Not `Stdin`: its buffer would swallow what is meant for the command that runs next.
    let mut input = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map(std::fs::File::from)
        .map_err(|e| Failure::failed(format!("read from standard input: {e}")))?;
    if options.locked
        && !gate::pass(&mut input).map_err(|e| Failure::failed(format!("ask for a code: {e}")))?
    {
        return Ok(());
    }
    if terminal {
        say("Type help for the commands, Tab to complete one, Ctrl-D to leave.\n");
    }
    let idle = (terminal && options.idle > 0).then(|| Idle::new(Duration::from_secs(options.idle)));
    if let Some(idle) = &idle {
        idle.watch();
    }
    let typed = idle.clone();
    let touched = move || {
        if let Some(idle) = &typed {
            idle.touch();
        }
    };
    let named = socket.map(Path::to_owned);
    // Asked anew at each Tab; where nobody answers there is nothing to complete.
    let names = move |which: Named| -> Vec<String> {
        let listed = discover::connect(named.as_deref()).and_then(|mut client| match which {
            Named::Adapters => {
                let all = adapters::list(&mut client)?;
                Ok(all.into_iter().map(|one| one.name).collect())
            }
            Named::Merged => {
                let status = merges::list(&mut client)?;
                Ok(status.models.into_iter().map(|one| one.id).collect())
            }
        });
        listed.unwrap_or_default()
    };
    let mut editor = terminal
        .then(|| Editor::new(Box::new(names), Box::new(touched)))
        .flatten();
    loop {
        let asked = match &mut editor {
            Some(editor) => editor.ask(PROMPT, MAX_LINE),
            None => {
                say(PROMPT);
                read_line(&mut input)
            }
        };
        if let Some(idle) = &idle {
            idle.touch();
        }
        let line = match asked {
            Ok(Line::End) => {
                if editor.is_none() {
                    say("\n");
                }
                return Ok(());
            }
            Ok(Line::Interrupted) => {
                if editor.is_none() {
                    say("\n");
                }
                continue;
            }
            Ok(Line::TooLong) => {
                complain(&format!("a line is at most {MAX_LINE} bytes"));
                continue;
            }
            Ok(Line::Text(line)) => line,
            Err(e) => return Err(Failure::failed(format!("read a line: {e}"))),
        };
        let words = match split(&line) {
            // Who types the command's own name as in a shell means the same.
            Ok(mut words) if words.first().is_some_and(|w| w == "sarai") => words.split_off(1),
            Ok(words) => words,
            Err(why) => {
                complain(why);
                continue;
            }
        };
        match words.first().map(String::as_str) {
            None => continue,
            Some("exit" | "quit") => return Ok(()),
            // A prompt within the prompt would only confuse.
            Some("console") => {
                complain("this is the console");
                continue;
            }
            Some(_) => {}
        }
        let mut command = Command::new(&program);
        if let Some(socket) = socket {
            command.arg("--socket").arg(socket);
        }
        if let Some(idle) = &idle {
            idle.busy();
        }
        if let Err(e) = command.args(&words).status() {
            complain(&format!("failed to run the command: {e}"));
        }
        if idle.as_ref().is_some_and(Idle::done) {
            return Ok(());
        }
    }
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    // A console that cannot be written to has nobody to be told about it.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn complain(text: &str) {
    say(&format!("sarai: {text}\n"));
}

/// Ctrl-C interrupts the read instead of ending the prompt. A handler, not "ignore": handlers end at exec, so the
/// commands still end on Ctrl-C.
fn keep_on_interrupt() {
    extern "C" fn nothing(_: i32) {}
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGQUIT] {
        // SAFETY: the handler does nothing, so it is async-signal-safe.
        let _ = unsafe { sigaction(signal, &action) };
    }
}

/// What came in.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A line.
    Text(String),
    /// A line above the bound.
    TooLong,
    /// Ctrl-C.
    Interrupted,
    /// The end of the input.
    End,
}

/// Reads one line byte by byte, so that nothing is taken from the terminal that belongs to the next command. The
/// rest of a line that is too long is skipped.
fn read_line(from: &mut impl Read) -> std::io::Result<Line> {
    let mut bytes = Vec::new();
    let mut too_long = false;
    loop {
        let mut byte = [0];
        match from.read(&mut byte) {
            Ok(0) if bytes.is_empty() && !too_long => return Ok(Line::End),
            Ok(0) => break,
            Ok(_) if byte[0] == b'\n' => break,
            Ok(_) if bytes.len() == MAX_LINE => too_long = true,
            Ok(_) => bytes.push(byte[0]),
            Err(e) if e.kind() == ErrorKind::Interrupted => return Ok(Line::Interrupted),
            Err(e) => return Err(e),
        }
    }
    if too_long {
        return Ok(Line::TooLong);
    }
    // Bytes that are no UTF-8 (line noise) become replacement characters and then an unknown command.
    Ok(Line::Text(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Splits a line into words: blanks separate, single and double quotes and the backslash quote, nothing expands.
pub fn split(line: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\0' => return Err("a line holds no zero bytes"),
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        None => return Err("a quotation is not closed"),
                        Some('\0') => return Err("a line holds no zero bytes"),
                        Some(end) if end == c => break,
                        Some('\\') if c == '"' => match chars.next() {
                            Some(escaped @ ('"' | '\\')) => word.push(escaped),
                            Some(other) => word.extend(['\\', other]),
                            None => return Err("a quotation is not closed"),
                        },
                        Some(inner) => word.push(inner),
                    }
                }
            }
            '\\' => match chars.next() {
                Some(escaped) if escaped != '\0' => word.get_or_insert_default().push(escaped),
                _ => return Err("nothing follows the backslash"),
            },
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_and_quotes() {
        assert_eq!(split("  status\t--json \r").unwrap(), ["status", "--json"]);
        assert_eq!(
            split(r#"ask "what's up" 'a "b" \' c\ d "" "x\"y\z""#).unwrap(),
            ["ask", "what's up", r#"a "b" \"#, "c d", "", r#"x"y\z"#]
        );
        assert_eq!(split("").unwrap(), Vec::<String>::new());
        for wrong in ["'open", "\"open", "\"open\\", "end\\", "a\0b"] {
            assert!(split(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn lines_are_bounded_and_the_next_one_is_whole() {
        let text = [
            vec![b'x'; MAX_LINE + 5],
            b"\nnext\n".to_vec(),
            vec![b'y'; MAX_LINE],
            b"\nlast".to_vec(),
        ]
        .concat();
        let mut from = &text[..];
        assert_eq!(read_line(&mut from).unwrap(), Line::TooLong);
        assert_eq!(read_line(&mut from).unwrap(), Line::Text("next".into()));
        assert_eq!(read_line(&mut from).unwrap(), Line::Text("y".repeat(MAX_LINE)));
        assert_eq!(read_line(&mut from).unwrap(), Line::Text("last".into()));
        assert_eq!(read_line(&mut from).unwrap(), Line::End);
    }

    proptest! {
        #[test]
        fn any_words_survive_quoting(words in proptest::collection::vec("[^\0]{0,12}", 1..5)) {
            let line: Vec<String> = words.iter().map(|w| format!("'{}'", w.replace('\'', r"'\''"))).collect();
            prop_assert_eq!(split(&line.join(" ")).unwrap(), words);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut from = &bytes[..];
            while let Ok(line) = read_line(&mut from) {
                match line {
                    Line::Text(text) => { let _ = split(&text); }
                    Line::End => break,
                    _ => {}
                }
            }
        }
    }
}
