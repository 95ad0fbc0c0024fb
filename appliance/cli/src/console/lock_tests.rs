//! The lock against a clock that the tests turn.

use super::*;
use proptest::prelude::*;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Codes in a row: 000001, 000002, …
fn counted() -> impl FnMut() -> io::Result<String> {
    let mut last = 0;
    move || {
        last += 1;
        Ok(format!("{last:06}"))
    }
}

/// A lock whose code has been shown at second 0.
fn shown() -> (Lock<impl FnMut() -> io::Result<String>>, String) {
    let mut lock = Lock::new(counted(), s(0)).unwrap();
    let mut out = String::new();
    lock.show(s(0), &mut out);
    (lock, out)
}

/// Types a text, shows what is due, and gives whether the lock opened and what it showed.
fn type_in<D: FnMut() -> io::Result<String>>(
    lock: &mut Lock<D>,
    now: Duration,
    text: impl AsRef<[u8]>,
) -> (bool, String) {
    let mut out = String::new();
    for byte in text.as_ref() {
        if lock.take(now, *byte, &mut out).unwrap() {
            return (true, out);
        }
    }
    lock.show(now, &mut out);
    (false, out)
}

#[test]
fn the_code_is_shown_at_once_and_opens_once() {
    let (mut lock, out) = shown();
    assert!(out.contains("type 000001 and press Enter"), "{out}");
    assert_eq!(lock.due(), None);
    assert_eq!(type_in(&mut lock, s(1), "000001"), (false, "******".to_owned()));
    assert_eq!(type_in(&mut lock, s(1), "\r"), (true, "\n".to_owned()));
    // Whatever comes after that opens nothing more.
    for text in ["000001\n", "\n", "\r\n"] {
        assert_eq!(type_in(&mut lock, s(9), text), (false, String::new()));
    }
}

#[test]
fn nothing_but_the_code_alone_opens() {
    let many = "0".repeat(10_000) + "000001\n";
    for wrong in [
        "000002\n",
        "1\n",
        "0000001\n",
        " 000001\n",
        "000001 \n",
        "+00001\n",
        "000001,\n",
        "\x00000001\n",
        "\x1b[A000001\n",
        "exit\n",
        "poweroff\n",
        &many,
        &(" ".repeat(MAX_LINE) + "000001\n"),
        &("000001".to_owned() + &" ".repeat(MAX_LINE) + "\n"),
    ] {
        let (mut lock, _) = shown();
        let (open, out) = type_in(&mut lock, s(1), wrong);
        assert!(!open && out.contains("Wrong. Wait 1 s."), "{wrong:?}: {out}");
        assert!(out.matches('*').count() <= MAX_LINE, "{out}");
        // It goes on with the same code.
        let (open, out) = type_in(&mut lock, s(2), "");
        assert!(!open && out.contains("type 000001 and"), "{wrong:?}: {out}");
        assert!(type_in(&mut lock, s(2), "000001\n").0, "{wrong:?}");
    }
}

#[test]
fn wrong_tries_cost_waits_that_double_up_to_a_bound_and_every_third_the_code() {
    let (mut lock, _) = shown();
    let (mut now, mut code) = (s(10), 1);
    for (tried, wait) in [1, 2, 4, 8, 16, 32, 32, 32, 32].into_iter().enumerate() {
        let (open, out) = type_in(&mut lock, now, "999999\r\n");
        assert!(!open && out.contains(&format!("Wrong. Wait {wait} s")), "{out}");
        let another = tried % 3 == 2;
        assert_eq!(out.contains("for another code"), another, "{out}");
        let before = format!("{code:06}\n");
        code += u32::from(another);
        assert_eq!(lock.due(), Some(now + s(wait)));
        // What comes while it waits counts for nothing, the right code neither.
        let early = now + s(wait) - Duration::from_millis(1);
        for text in [before.as_str(), &format!("{code:06}\n"), "\n", "\x03"] {
            assert_eq!(type_in(&mut lock, early, text), (false, String::new()));
        }
        now += s(wait);
        let (_, out) = type_in(&mut lock, now, "");
        assert!(out.contains(&format!("type {code:06} and")), "{out}");
    }
    assert!(type_in(&mut lock, now, format!("{code:06}\n")).0);
}

#[test]
fn another_code_is_never_the_same_one() {
    let mut codes = ["111111", "111111", "111111", "222222"].into_iter();
    let draw = move || {
        codes
            .next()
            .map(str::to_owned)
            .ok_or_else(|| io::Error::other("no more"))
    };
    let mut lock = Lock::new(draw, s(0)).unwrap();
    for now in [0, 100, 200] {
        type_in(&mut lock, s(now), "");
        type_in(&mut lock, s(now), "0\n");
    }
    assert!(type_in(&mut lock, s(300), "").1.contains("222222"));
    // One that cannot be drawn is an error and no code.
    for now in [300, 400] {
        type_in(&mut lock, s(now), "0\n");
        type_in(&mut lock, s(now + 50), "");
    }
    assert!(lock.take(s(500), b'0', &mut String::new()).is_ok());
    assert!(lock.take(s(500), b'\n', &mut String::new()).is_err());
    assert!(!type_in(&mut lock, s(900), "\n").0 && !type_in(&mut lock, s(901), "222222\n").0);
}

#[test]
fn an_empty_line_and_what_ends_lines_elsewhere_show_the_code_again() {
    for key in ["\n", "\r", "\r\n", "\x03", "\x04", "\x15", "00\x03", "junk\x04"] {
        let (mut lock, _) = shown();
        let (open, out) = type_in(&mut lock, s(5), key);
        assert!(!open && out.contains("type 000001 and"), "{key:?}: {out}");
        assert!(!out.contains("Wrong"), "{key:?}: {out}");
        // Both bytes of one Enter are one line.
        assert_eq!(lock.due(), None, "{key:?}");
        assert!(type_in(&mut lock, s(5), "000001\r\n").0, "{key:?}");
    }
    // A key that is stuck shows it once a second; what is typed meanwhile is kept.
    let (mut lock, _) = shown();
    let mut out = String::new();
    for tenth in 1..=600 {
        let now = Duration::from_millis(100) * tenth;
        out += &type_in(&mut lock, now, "\n").1;
    }
    assert_eq!(out.matches("000001").count(), 60, "{out}");
    assert_eq!(type_in(&mut lock, s(60), "\n0000"), (false, "****".to_owned()));
    let (_, out) = type_in(&mut lock, s(61), "");
    assert!(out.ends_with("code: ****"), "{out:?}");
    assert!(type_in(&mut lock, s(61), "01\n").0);
}

#[test]
fn what_was_mistyped_can_be_taken_back() {
    let (mut lock, _) = shown();
    let (open, out) = type_in(&mut lock, s(1), "\x7f\x080009\x7f001");
    assert_eq!((open, out.as_str()), (false, "****\x08 \x08***"));
    assert!(type_in(&mut lock, s(1), "\n").0);
    let (mut lock, _) = shown();
    assert!(type_in(&mut lock, s(1), "x\x08000001\n").0);
}

/// What somebody makes of what a lock shows.
type Answer = Box<dyn FnMut(&str) -> String>;

/// A day of what `answer` makes of everything that a lock shows. Gives how many bytes it showed.
fn a_day_with(mut answer: impl FnMut(&str) -> String) -> usize {
    let mut lock = Lock::new(draw, s(0)).unwrap();
    let (mut shown, mut back) = (0, String::new());
    let mut now = s(0);
    while now < s(24 * 3600) {
        let (open, out) = type_in(&mut lock, now, &back);
        assert!(!open, "{back:?} opened it");
        shown += out.len();
        back = answer(&out);
        now += Duration::from_millis(100);
    }
    shown
}

#[test]
fn a_line_that_leads_back_or_is_answered_never_opens_and_stays_quiet() {
    // At most one showing with its refusal in 32 s once the waits have grown, and the echo of an answer.
    let most = 24 * 3600 / 32 * 300 + 10_000;
    let back = |out: &str| out.replace('\n', "\r\n");
    let answers: [Answer; 5] = [
        // A wire from output to input.
        Box::new(back),
        // A terminal that shows what it gets and sends that.
        Box::new(|out: &str| out.replace('\n', "\r")),
        // One that takes line ends away, or sends each word as a line.
        Box::new(|out: &str| out.replace('\n', " ") + "\r"),
        // Somebody else's login.
        Box::new(|out: &str| {
            if out.is_empty() {
                String::new()
            } else {
                "\r\nlogin: ".to_owned()
            }
        }),
        // A wire of which only the end of what is sent arrives.
        Box::new(|out: &str| {
            out.chars()
                .rev()
                .take(7)
                .collect::<String>()
                .chars()
                .rev()
                .collect()
        }),
    ];
    for (which, answer) in answers.into_iter().enumerate() {
        let shown = a_day_with(answer);
        assert!(shown < most, "answer {which}: {shown} bytes in a day");
    }
}

#[test]
fn two_locks_that_face_each_other_stay_locked() {
    let mut locks = [Lock::new(draw, s(0)).unwrap(), Lock::new(draw, s(0)).unwrap()];
    let mut said = [String::new(), String::new()];
    let mut now = s(0);
    while now < s(24 * 3600) {
        let (left, heard) = type_in(&mut locks[0], now, said[1].replace('\n', "\r\n"));
        let (right, answered) = type_in(&mut locks[1], now, said[0].replace('\n', "\r\n"));
        assert!(!left && !right);
        said = [heard, answered];
        now += Duration::from_millis(100);
    }
}

#[test]
fn codes_are_six_digits_of_every_kind_at_every_place() {
    let codes: Vec<String> = (0..2000).map(|_| draw().unwrap()).collect();
    for code in &codes {
        assert!(
            code.len() == DIGITS && code.bytes().all(|b| b.is_ascii_digit()),
            "{code}"
        );
    }
    for place in 0..DIGITS {
        for digit in b'0'..=b'9' {
            assert!(
                codes.iter().any(|code| code.as_bytes()[place] == digit),
                "no {digit} at {place}"
            );
        }
    }
    let kinds: std::collections::BTreeSet<&String> = codes.iter().collect();
    assert!(kinds.len() > 1900, "{} of 2000 differ", kinds.len());
}

proptest! {
    #[test]
    fn bytes_of_any_kind_neither_panic_nor_open(
        parts in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..40), 0u64..40_000), 0..40)
    ) {
        let (mut lock, _) = shown();
        let mut now = s(0);
        for (bytes, later) in parts {
            // A code by chance would be no fault.
            prop_assume!(!bytes.windows(DIGITS).any(|part| part.starts_with(b"0000")));
            let (open, out) = type_in(&mut lock, now, &bytes);
            prop_assert!(!open);
            prop_assert!(out.chars().all(|c| c == '\n' || c == '\x08' || (' '..='~').contains(&c)), "{:?}", out);
            now += Duration::from_millis(later);
        }
    }
}
