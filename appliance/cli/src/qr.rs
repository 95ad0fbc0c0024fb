//! QR codes on a terminal: two rows of modules a line of half blocks.

use qrcodegen::{QrCode, QrCodeEcc};

use crate::failure::Failure;

/// Light modules around the code, as the standard wants.
const QUIET: i32 = 4;

/// `text` as lines. With `colour` the lines say that light is light, whatever the terminal's own colours are; without,
/// they are right on a dark terminal.
pub fn render(text: &str, colour: bool) -> Result<String, Failure> {
    let code = QrCode::encode_text(text, QrCodeEcc::Low)
        .map_err(|e| Failure::failed(format!("draw the QR code: {e}")))?;
    let side = code.size() + 2 * QUIET;
    let light = |x: i32, y: i32| y >= side || !code.get_module(x - QUIET, y - QUIET);
    let mut out = String::new();
    for y in (0..side).step_by(2) {
        if colour {
            // Bright white on black.
            out.push_str("\x1b[97;40m");
        }
        for x in 0..side {
            out.push(match (light(x, y), light(x, y + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        if colour {
            out.push_str("\x1b[0m");
        }
        out.push('\n');
    }
    Ok(out)
}

#[cfg(test)]
#[path = "../tests/support/qr.rs"]
mod reader;

#[cfg(test)]
mod tests {
    use super::reader::read;
    use super::*;

    #[test]
    fn another_program_reads_what_was_drawn() {
        for text in ["a", "sarai://pair?v=1&url=https://10.0.0.7", &"x".repeat(300)] {
            let drawn = render(text, false).unwrap();
            assert_eq!(read(&drawn), text);
            // On a terminal of 80 columns.
            assert!(text.len() > 250 || drawn.lines().all(|line| line.chars().count() < 80));
        }
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        let plain = render("abc", false).unwrap();
        let coloured = render("abc", true).unwrap();
        assert_eq!(coloured.replace("\x1b[97;40m", "").replace("\x1b[0m", ""), plain);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(render(&"x".repeat(4000), false).is_err());
    }
}
