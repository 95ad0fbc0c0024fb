"""The golden set's judges: each looks at an item and an answer and says whether the answer is right, and why not.

One function a judge name, found by `judge(item, answer)`. They are deliberately written apart from the product's
checkers: no code and no rules in common, so that each can prove the other wrong. Standard library only.

What every judge refuses, whatever its name: an empty answer, one that repeats itself, one with template tokens in it,
one in the other language, a constraint "kept" by giving the request back. `about` in a judge names words of which at
least one, or its plural, must be in the answer, accents and case aside.
"""

import ast
import datetime
import difflib
import json
import re
import unicodedata
from fractions import Fraction

JUDGES = {}


def named(function):
    """Makes a function a judge of its own name."""
    JUDGES[function.__name__] = function
    return function


def judge(item, answer):
    """(right, why) of an answer to an item; `why` is empty when it is right."""
    answer = answer or ""
    why = degenerate(answer) or beside(item, answer) or one(item["judge"], item, answer)
    return (not why, why)


def one(spec, item, answer):
    """What is wrong with the answer by one judge, or ''."""
    why = JUDGES[spec["name"]](spec, item, answer)
    if not why and spec.get("about"):
        text = plain(answer)
        if not any(re.search(rf"(?<!\w){re.escape(plain(word))}(?:e?s)?(?!\w)", text) for word in spec["about"]):
            return f"says nothing of {', '.join(spec['about'])}"
    return why or ""


def question(item):
    """All the user said, and the system: what the answer may take words from."""
    return "\n".join(turn["content"] for turn in item["messages"])


# --- text -----------------------------------------------------------------------------------------------------------


def plain(text):
    """Lower case, no accents."""
    text = unicodedata.normalize("NFD", text.lower())
    return "".join(c for c in text if not unicodedata.combining(c))


def words(text):
    """What a person counts as words: runs between white space that have a letter or a digit."""
    return [word for word in text.split() if any(c.isalnum() for c in word)]


def has_phrase(text, phrase):
    """Whether a word or phrase stands in a text, whole, accents and case aside."""
    spaced = re.sub(r"\s+", " ", plain(text))
    return re.search(r"(?<!\w)" + re.escape(plain(phrase)) + r"(?!\w)", spaced) is not None


ABBREVIATIONS = r"\b(?:Mr|Mrs|Ms|Dr|Sr|Sra|St|e\.g|i\.e|etc|vs|a\.m|p\.m|No|U\.S|p\. ?ej|Ud|EE\. ?UU)\."


def sentences(text):
    """A text's sentences: ended by . ! ? or …, or by the end of a paragraph."""
    text = re.sub(ABBREVIATIONS, lambda m: m[0].replace(".", ""), text)
    text = re.sub(r"(?<=\d)\.(?=\d)", "", text)
    text = re.sub(r"(?m)^\s*(?:[-*•]|\d+[.)])\s+", "", text)
    parts = re.split(r"(?:[.!?…]+[\"”»')\]*]*)(?:\s+|$)|\n\s*\n", text)
    return [part for part in parts if any(c.isalnum() for c in part)]


def paragraphs(text):
    """Blocks with an empty line between them."""
    return [block for block in re.split(r"\n\s*\n", text.strip()) if any(c.isalnum() for c in block)]


def lines(text):
    return [line.strip() for line in text.splitlines() if line.strip()]


def bullet_lines(text):
    return [line for line in lines(text) if re.match(r"[-*•–]\s+\S", line) and not re.fullmatch(r"\*\*.*\*\*:?", line)]


def numbered_lines(text):
    return [line for line in lines(text) if re.match(r"\d+[.)]\s+\S", line)]


SPANISH = set(
    "el la los las un una de del que y en es por para con se su al lo más pero como muy está son fue ser tiene "
    "también este esta hay nos te mi tu sus donde cuando porque o".split()
)
ENGLISH = set(
    "the a an of and to in is that for it with as are was be this from by at on have has not they their its we you "
    "your can or which when because he she his her there".split()
)


def language_signs(text):
    """How many signs of Spanish and of English a text has."""
    seen = re.findall(r"[^\W\d_]+", text.lower())
    spanish = sum(word in SPANISH for word in seen)
    english = sum(word in ENGLISH for word in seen)
    # Short answers have few such words: Spanish letters and endings then help.
    spanish += sum(bool(re.search(r"[ñáéíóú¿¡]|(?:ción|dad|mente|ando|iendo)$", word)) for word in seen)
    english += sum(bool(re.search(r"(?:tion|ness|ing|ly|ght)$|(?:th|wh|sh|ck)", word)) for word in seen)
    return spanish, english


def language_of(text):
    """'en', 'es', or '' where the words don't tell."""
    spanish, english = language_signs(text)
    if spanish == english:
        return ""
    return "es" if spanish > english else "en"


def degenerate(answer):
    """What makes an answer worthless whatever was asked, or ''."""
    if not any(c.isalnum() for c in answer):
        return "is empty"
    if len(answer) > 8000:
        return "goes on and on"
    if re.search(r"<\|[^|>]*\|>|\[/?INST\]|</?s>", answer):
        return "has template tokens in it"
    seen = words(plain(answer))
    if len(seen) >= 12:
        triples = list(zip(seen, seen[1:], seen[2:]))
        if len(set(triples)) * 2 < len(triples):
            return "repeats itself"
    long_lines = [line for line in lines(plain(answer)) if len(line) > 15]
    if any(long_lines.count(line) >= 3 for line in set(long_lines)):
        return "repeats a line"
    bare = [re.sub(r"\W", "", word) for word in seen]
    if any(a == b == c for a, b, c in zip(bare, bare[1:], bare[2:])):
        return "says a word three times over"
    fives = list(zip(bare, bare[1:], bare[2:], bare[3:], bare[4:]))
    if any(fives.count(five) >= 3 for five in set(fives)):
        return "repeats itself"
    long_sentences = [sentence.strip() for sentence in sentences(plain(answer)) if len(words(sentence)) >= 5]
    if len(set(long_sentences)) < len(long_sentences):
        return "says a sentence twice"
    return ""


def beside(item, answer):
    """What makes an answer none to this request, whatever its judge looks at, or ''."""
    name, asked = item["judge"]["name"], item["messages"][-1]["content"] if item["messages"] else ""
    if item.get("kind") == "constraints" and name not in ("echo", "repeats_question"):
        alike = difflib.SequenceMatcher(None, words(plain(asked)), words(plain(answer)), autojunk=False)
        if alike.ratio() >= 0.75:
            return "gives the request back"
    # Who asks for a language, or about one, may get either.
    if item.get("kind") != "format" and not re.search(r"ingl[eé]s|espa[nñ]ol|english|spanish", asked.lower()):
        spanish, english = language_signs(answer)
        if item.get("language") == "es" and english >= spanish + 4:
            return "is in English"
        if item.get("language") == "en" and spanish >= english + 4:
            return "is in Spanish"
    return ""


def count_why(spec, found, what):
    """What is wrong with a count, by exactly / at_least / at_most of a judge."""
    if "exactly" in spec and found != spec["exactly"]:
        return f"has {found} {what}, not {spec['exactly']}"
    if "at_least" in spec and found < spec["at_least"]:
        return f"has {found} {what}, fewer than {spec['at_least']}"
    if "at_most" in spec and found > spec["at_most"]:
        return f"has {found} {what}, more than {spec['at_most']}"
    if not {"exactly", "at_least", "at_most"} & set(spec):
        raise ValueError(f"judge {spec['name']} names no number")
    return ""


# --- stated constraints ---------------------------------------------------------------------------------------------


@named
def all_of(spec, item, answer):
    """Every one of the judges in `of`."""
    if len(spec["of"]) < 2:
        raise ValueError("all_of wants two judges")
    return next((why for why in (one(part, item, answer) for part in spec["of"]) if why), "")


@named
def word_count(spec, item, answer):
    """exactly, at_least, at_most so many words."""
    return count_why(spec, len(words(answer)), "words")


@named
def sentence_count(spec, item, answer):
    """exactly, at_least, at_most so many sentences, each of at least two words."""
    found = sentences(answer)
    return count_why(spec, len(found), "sentences")


@named
def paragraph_count(spec, item, answer):
    """exactly, at_least, at_most so many paragraphs with an empty line between them."""
    return count_why(spec, len(paragraphs(answer)), "paragraphs")


@named
def bullet_count(spec, item, answer):
    """exactly, at_least, at_most so many bullets, none said twice."""
    found = bullet_lines(answer)
    if len(set(map(plain, found))) < len(found):
        return "says a bullet twice"
    return count_why(spec, len(found), "bullets")


@named
def numbered_count(spec, item, answer):
    """A list numbered 1, 2, 3 … with exactly, at_least, at_most so many items, none said twice."""
    found = numbered_lines(answer)
    signs = [re.match(r"\d+", line)[0] for line in found]
    if signs != [str(n + 1) for n in range(len(found))]:
        return f"is numbered {' '.join(signs)[:40]}"
    texts = [plain(re.sub(r"^\d+[.)]\s+", "", line)) for line in found]
    if len(set(texts)) < len(texts):
        return "says an item twice"
    return count_why(spec, len(found), "numbered items")


@named
def contains(spec, item, answer):
    """Each word or phrase of `all`; with `times`, the first one at least so often."""
    for phrase in spec["all"]:
        if not has_phrase(answer, phrase):
            return f"does not contain {phrase!r}"
    if "times" in spec:
        pattern = r"(?<!\w)" + re.escape(plain(spec["all"][0])) + r"(?!\w)"
        found = len(re.findall(pattern, plain(answer)))
        if found < spec["times"]:
            return f"contains {spec['all'][0]!r} {found} times"
    return enough_words(spec, answer)


@named
def excludes(spec, item, answer):
    """None of the words of `none`."""
    for phrase in spec["none"]:
        if has_phrase(answer, phrase):
            return f"contains {phrase!r}"
    return enough_words(spec, answer)


@named
def no_letter(spec, item, answer):
    """Not once the letter `letter`, accents and case aside."""
    if spec["letter"] in plain(answer):
        return f"has the letter {spec['letter']}"
    return enough_words(spec, answer)


@named
def starts_with(spec, item, answer):
    """Begins with `text`, as written but for case; quotes or bold around it do not matter."""
    begin = plain(answer.lstrip(" \n\t\"“«*_#'")) if spec["text"][0].isalnum() else plain(answer.strip())
    wanted = plain(spec["text"])
    if not begin.startswith(wanted) or (begin[len(wanted) : len(wanted) + 1].isalnum() and wanted[-1:].isalnum()):
        return f"begins with {answer.strip()[:24]!r}"
    return enough_words({"least_words": len(words(spec["text"])) + 2, **spec}, answer)


@named
def ends_with(spec, item, answer):
    """Ends with `text`; a final full stop or quotes do not matter where the text has none."""
    end, wanted = plain(answer.strip()), plain(spec["text"])
    if not end.endswith(wanted):
        end = end.rstrip(" .!\"”»*_'")
        wanted = wanted.rstrip(" .!")
    if not end.endswith(wanted) or (end[: -len(wanted)][-1:].isalnum() and wanted[:1].isalnum()):
        return f"ends with {answer.strip()[-24:]!r}"
    return enough_words({"least_words": len(words(spec["text"])) + 1, **spec}, answer)


@named
def all_capitals(spec, item, answer):
    """No lower-case letter."""
    if answer.upper() != answer:
        return "has lower-case letters"
    return enough_words(spec, answer)


@named
def all_lower_case(spec, item, answer):
    """No capital."""
    if answer.lower() != answer:
        return "has capitals"
    return enough_words(spec, answer)


@named
def no_commas(spec, item, answer):
    """Not one comma."""
    if "," in answer:
        return "has a comma"
    return enough_words(spec, answer)


@named
def no_digits(spec, item, answer):
    """Not one digit."""
    if any(c.isdigit() for c in answer):
        return "has a digit"
    return enough_words(spec, answer)


@named
def quoted(spec, item, answer):
    """The whole answer in double quotes."""
    text = answer.strip()
    pair = text[:1] + text[-1:]
    if len(text) < 3 or pair not in ('""', "“”"):
        return "is not in double quotes"
    if text[0] in text[1:-1] or text[-1] in text[1:-1]:
        return "has other double quotes inside"
    return enough_words(spec, answer)


@named
def language(spec, item, answer):
    """Written in `is`: en or es."""
    found = language_of(answer)
    if found != spec["is"]:
        return f"is in {found or 'no language one can tell'}"
    return enough_words({"least_words": 3, **spec}, answer)


@named
def title(spec, item, answer):
    """A title alone in the first line, or `wrapped` in given signs, and a text below it."""
    found = lines(answer)
    first = found[0]
    if "wrapped" in spec:
        before, after = spec["wrapped"]
        match = re.search(re.escape(before) + r"([^\n]+?)" + re.escape(after), answer)
        if not match or not any(c.isalnum() for c in match[1]):
            return f"has no title in {before}{after}"
    else:
        bare = first.strip('#*_"“” ')
        if bare.endswith((".", ",", ";", "?")) or bare[:1] in "-•" or not any(c.isalnum() for c in bare):
            return f"begins with {first[:24]!r}, no title"
        if len(words(bare)) > 12:
            return "begins with a long line, no title"
    rest = "\n".join(found[1:]) if "wrapped" not in spec else answer.replace(match[0], "")
    if len(words(rest)) < 4:
        return "has no text below the title"
    return ""


@named
def postscript(spec, item, answer):
    """A postscript that begins with `mark` (P.S. or P.D.) after the text."""
    # The dots may be written with spaces or the last one left out.
    mark = r"\s?".join(re.escape(c) if c.isalpha() else r"\.?" for c in spec["mark"].lower())
    match = re.search(r"(?m)(?:^|[.!?…”\"]\s+)\W{0,2}" + mark + r"(?![a-z])[:.]?\s*(.*)", answer.lower())
    if not match:
        return f"has no {spec['mark']}"
    if len(words(answer[: match.start()])) < 3:
        return "has nothing before the postscript"
    if not words(answer[match.start(1) :]):
        return "has nothing in the postscript"
    return ""


@named
def placeholders(spec, item, answer):
    """exactly, at_least, at_most so many placeholders like [name]; links and tick boxes are none."""
    found = [m for m in re.findall(r"\[([^\[\]\n]+)\](?!\()", answer) if any(c.isalpha() for c in m) and m not in "xX"]
    return count_why(spec, len(found), "placeholders") or enough_words({"least_words": 4, **spec}, answer)


@named
def choice(spec, item, answer):
    """Just one of the set `of`; with `is`, that one. Case, a full stop, quotes or bold do not matter.

    With `then_more`, text may follow it.
    """
    bare = plain(answer).strip(" \n\t.!*_\"'“”`()")
    options = [plain(option) for option in spec["of"]]
    if spec.get("then_more"):
        hit = [option for option in options if re.match(re.escape(option) + r"(?!\w)", bare)]
    else:
        hit = [option for option in options if bare == option]
    if not hit:
        return f"is not just one of {', '.join(spec['of'])}"
    if "is" in spec and plain(spec["is"]) not in hit:
        return f"chooses {hit[0]}, not {spec['is']}"
    return ""


@named
def repeats_question(spec, item, answer):
    """Begins with `text` word for word (quotes, bold and the end's sign aside) and goes on with an answer."""
    squeeze = lambda text: re.sub(r"[\W_]+", " ", plain(text)).strip()
    wanted, found = squeeze(spec["text"]), squeeze(answer)
    # A lead-in like "Question:" is fine.
    found = re.sub(r"^(?:question|pregunta|q)\s+", "", found)
    if not found.startswith(wanted):
        return "does not begin with the question"
    if len(found[len(wanted) :].split()) < spec.get("more_words", 1):
        return "has no answer after the question"
    return ""


@named
def table(spec, item, answer):
    """A Markdown table with a ruler under its head, and at_least so many rows below it (exactly `columns`)."""
    rows = [line for line in lines(answer) if line.count("|") >= 2]
    rulers = [i for i, line in enumerate(rows) if re.fullmatch(r"\|?[\s:|-]*-[\s:|-]*\|?", line)]
    if not rulers or rulers[0] != 1:
        return "has no Markdown table"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in rows]
    if len({len(row) for row in cells}) != 1:
        return "has rows of different lengths"
    if "columns" in spec and len(cells[0]) != spec["columns"]:
        return f"has {len(cells[0])} columns, not {spec['columns']}"
    return count_why(spec, len(rows) - 2, "rows")


@named
def separated(spec, item, answer):
    """A list separated by `by`, on one line, exactly / at_least / at_most so many items, none said twice."""
    if len(lines(answer)) != 1:
        return "is not on one line"
    parts = [plain(part).strip(" .") for part in answer.split(spec["by"])]
    if not all(any(c.isalnum() for c in part) for part in parts):
        return "has an empty item"
    if any(len(words(part)) > spec.get("most_words", 4) for part in parts):
        return "has items that are sentences"
    if len(set(parts)) < len(parts):
        return "says an item twice"
    return count_why(spec, len(parts), "items")


@named
def echo(spec, item, answer):
    """The given text as it is, quotes and white space around it aside."""
    trim = lambda text: re.sub(r"\s+", " ", text).strip(" \"“”'`*")
    if trim(answer).rstrip(".") != trim(spec["text"]).rstrip("."):
        return f"is not {spec['text']!r}"
    return ""


def enough_words(spec, answer):
    """An answer that keeps a constraint by saying next to nothing is no answer."""
    least = spec.get("least_words", 1)
    return f"has only {len(words(answer))} words" if len(words(answer)) < least else ""


# --- arithmetic -----------------------------------------------------------------------------------------------------


def exact(expression, names=None):
    """The exact value of an arithmetic expression: + - * / ** and names."""

    def value(node):
        match node:
            case ast.Expression():
                return value(node.body)
            case ast.Constant(value=int() | float() as number):
                return Fraction(str(number))
            case ast.Name(id=name) if names and name in names:
                return Fraction(names[name])
            case ast.UnaryOp(op=ast.USub()):
                return -value(node.operand)
            case ast.BinOp():
                left, right = value(node.left), value(node.right)
                match node.op:
                    case ast.Add():
                        return left + right
                    case ast.Sub():
                        return left - right
                    case ast.Mult():
                        return left * right
                    case ast.Div():
                        return left / right
                    case ast.Pow():
                        return left**right
        raise ValueError(f"cannot compute {expression!r}")

    return value(ast.parse(expression.strip(), mode="eval"))


def solve(equation, name="x"):
    """The value of the unknown in a linear equation."""
    left, right = equation.split("=")
    at = lambda x: exact(left, {name: x}) - exact(right, {name: x})
    slope = at(1) - at(0)
    if slope == 0 or at(2) - at(1) != slope:
        raise ValueError(f"{equation!r} is not linear in {name}")
    return -at(0) / slope


NUMBER = re.compile(r"(?<![\w.,])[-−]?\d+(?:[.,\u00a0\u202f]\d{3})*(?:[.,]\d+)?(?!\w*\d)")


def readings(text):
    """What a written number may mean: 1.234 is a thousand to some and one and a bit to others."""
    text = text.replace("−", "-")[:60]
    bare = re.sub(r"[\u00a0\u202f]", "", text)
    found = set()
    if re.fullmatch(r"-?\d{1,3}(?:[.,]\d{3})+", bare):
        found.add(Fraction(re.sub(r"[.,]", "", bare)))
    if re.fullmatch(r"-?\d+(?:[.,]\d+)?", bare):
        found.add(Fraction(bare.replace(",", ".")))
    match = re.fullmatch(r"(-?\d{1,3}(?:,\d{3})+)\.(\d+)|(-?\d{1,3}(?:\.\d{3})+),(\d+)", bare)
    if match:
        whole, part = (match[1], match[2]) if match[1] else (match[3], match[4])
        found.add(Fraction(re.sub(r"[.,]", "", whole) + "." + part))
    return found


def numbers(text):
    """Every number written with digits, as its possible meanings, in order."""
    return [found for found in (readings(m[0]) for m in NUMBER.finditer(text)) if found]


def same(wanted, meanings):
    """Whether one meaning is the wanted number, or that rounded to two or three places where it has more."""
    for meaning in meanings:
        if meaning == wanted:
            return True
        if wanted.denominator not in (1, 2, 4, 5, 10, 20, 25, 50, 100):
            if any(meaning == Fraction(round(wanted * 10**p), 10**p) for p in (1, 2, 3, 4)):
                return True
    return False


def final_number(item, answer, wanted):
    """What is wrong with the answer's result, or ''.

    The result is the last number that the question did not have: "42 is 30 plus 12" says 42. Where the right result
    is itself in the question, it is the last number whatever it is.
    """
    # "-" between numbers is a minus sign with a space after it; "10-5" is no negative five.
    spaced = re.sub(r"(?<=\d)\s*[-−]\s*(?=\d)", " - ", answer)
    found = numbers(spaced)
    given = numbers(re.sub(r"(?<=\d)\s*[-−]\s*(?=\d)", " - ", question(item)))
    if not found:
        return f"has no number; {shown(wanted)} is right"
    if not any(same(wanted, meanings) for meanings in given):
        found = [meanings for meanings in found if not any(meanings & other for other in given)] or found
    if not same(wanted, found[-1]):
        return f"ends with {shown(min(found[-1]))}; {shown(wanted)} is right"
    return ""


def shown(number):
    return str(number.numerator) if number.denominator == 1 else f"{float(number):g}"


@named
def number(spec, item, answer):
    """The value of the expression `compute`, or the unknown of the equation `solve`."""
    wanted = solve(spec["solve"]) if "solve" in spec else exact(spec["compute"])
    return final_number(item, answer, wanted)


# How many of the last unit of its group one of each is.
UNITS = [
    {"km": 1_000_000, "m": 1000, "cm": 10, "mm": 1},
    {"day": 86400, "h": 3600, "min": 60, "s": 1},
    {"week": 7, "day": 1},
    {"year": 12, "month": 1},
    {"t": 1_000_000, "kg": 1000, "g": 1},
    {"l": 1000, "cl": 10, "ml": 1},
    {"dozen": 12, "piece": 1},
    {"euro": 100, "cent": 1},
]


@named
def convert(spec, item, answer):
    """`value` of unit `from` in unit `to`."""
    group = next(group for group in UNITS if spec["from"] in group and spec["to"] in group)
    wanted = Fraction(str(spec["value"])) * group[spec["from"]] / group[spec["to"]]
    return final_number(item, answer, wanted)


WEEKDAYS = [
    ("monday", "lunes"),
    ("tuesday", "martes"),
    ("wednesday", "miercoles"),
    ("thursday", "jueves"),
    ("friday", "viernes"),
    ("saturday", "sabado"),
    ("sunday", "domingo"),
]
MONTHS = [
    ("january", "enero"),
    ("february", "febrero"),
    ("march", "marzo"),
    ("april", "abril"),
    ("may", "mayo"),
    ("june", "junio"),
    ("july", "julio"),
    ("august", "agosto"),
    ("september", "septiembre"),
    ("october", "octubre"),
    ("november", "noviembre"),
    ("december", "diciembre"),
]


@named
def weekday(spec, item, answer):
    """The weekday `days` after the weekday `from` (or of the day `of`, a date)."""
    if "of" in spec:
        wanted = datetime.date.fromisoformat(spec["of"]).weekday()
        start = None
    else:
        start = next(i for i, names in enumerate(WEEKDAYS) if plain(spec["from"]) in names)
        wanted = (start + spec["days"]) % 7
    said = []
    for match in re.finditer(r"[^\W\d_]+", plain(answer)):
        said += [i for i, names in enumerate(WEEKDAYS) if match[0] in names]
    # The day that was given may be said again; what else is said last is the answer.
    own = [day for day in said if day != start] or said
    if not own:
        return "names no weekday"
    if own[-1] != wanted:
        return f"says {WEEKDAYS[own[-1]][0]}; {WEEKDAYS[wanted][0]} is right"
    return ""


def dates(text):
    """Every day and month (and year, or None) that a text names, in order."""
    text = plain(text)
    month = "|".join(name for names in MONTHS for name in names) + "|setiembre"
    at = lambda name: 9 if name == "setiembre" else 1 + next(i for i, names in enumerate(MONTHS) if name in names)
    patterns = [
        (rf"({month})\s+(\d{{1,2}})(?:st|nd|rd|th)?(?!\d)(?:\s*,?\s*(\d{{4}}))?", lambda m: (m[3], at(m[1]), m[2])),
        (
            rf"(\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+|de\s+)?({month})(?:\s*,?\s*(?:de\s+|del\s+)?(\d{{4}}))?",
            lambda m: (m[3], at(m[2]), m[1]),
        ),
        (r"(\d{4})-(\d{1,2})-(\d{1,2})", lambda m: (m[1], m[2], m[3])),
    ]
    found = []
    for pattern, read in patterns:
        for match in re.finditer(pattern, text):
            found.append((match.start(), read(match)))
    return [tuple(int(part) if part else None for part in date) for _, date in sorted(found, key=lambda pair: pair[0])]


@named
def date(spec, item, answer):
    """The date `days` after the date `from`; the year may be left out."""
    wanted = datetime.date.fromisoformat(spec["from"]) + datetime.timedelta(days=spec["days"])
    given = {found[1:] for found in dates(question(item))}
    found = dates(answer)
    own = [seen for seen in found if seen[1:] not in given] or found
    if not own:
        return "names no date"
    year, month, day = own[-1]
    if (month, day) != (wanted.month, wanted.day) or year not in (None, wanted.year):
        return f"says {year or ''}-{month}-{day}; {wanted} is right"
    return ""


@named
def days_between(spec, item, answer):
    """How many days lie between the dates `from` and `to`."""
    wanted = datetime.date.fromisoformat(spec["to"]) - datetime.date.fromisoformat(spec["from"])
    return final_number(item, answer, Fraction(wanted.days))


# --- extraction -----------------------------------------------------------------------------------------------------


def proper_names(text):
    """Capitalised words that do not begin a sentence, a line or a quotation."""
    found = []
    for match in re.finditer(r"[^\W\d_][\w'’]*", text):
        word, before = match[0], text[: match.start()].rstrip(" ")
        if word[0].isupper() and len(word) > 1 and before and before[-1] not in '.!?:…\n"“«*#-•¿¡(':
            found.append(word)
    return found


# Words that English writes with a capital whatever the text says.
CAPITALISED = {"i", "i'm", "i’m", "am", "pm", "english", "spanish"}


@named
def extract(spec, item, answer):
    """Each of `expected` (a list of alternatives), nothing of `not`, no number or name from nowhere.

    The whole text copied is no answer.
    """
    source = question(item)
    for alternatives in spec["expected"]:
        if not any(has_phrase(answer, one) for one in alternatives):
            return f"does not say {alternatives[0]!r}"
    for wrong in spec.get("not", []):
        if has_phrase(answer, wrong):
            return f"says {wrong!r}"
    given = numbers(source)
    for meanings in numbers(answer):
        if not any(meanings & other for other in given):
            return f"has the number {shown(min(meanings))} from nowhere"
    for time in re.findall(r"\d{1,2}:\d{2}", answer):
        if time not in source and not any(time in alternative for one in spec["expected"] for alternative in one):
            return f"has the time {time} from nowhere"
    known = set(re.findall(r"\w+", plain(source)))
    for name in proper_names(answer):
        bare = re.sub(r"['’]s$", "", plain(name))
        if bare not in known and bare not in CAPITALISED and plain(name) not in known:
            return f"has the name {name} from nowhere"
    copied = words(plain(spec.get("text", "")))
    if len(copied) >= 12 and " ".join(copied) in " ".join(words(plain(answer))):
        return "copies the whole text"
    return ""


# --- closed questions -----------------------------------------------------------------------------------------------


@named
def closed(spec, item, answer):
    """One of `accept` stands in the answer's first 30 words, not after "not"; none of `reject` in it."""
    for wrong in spec.get("reject", []):
        if has_phrase(answer, wrong):
            return f"says {wrong!r}"
    text = " ".join(plain(answer).split()[:30])
    hits = [
        match for one in spec["accept"] for match in re.finditer(r"(?<!\w)" + re.escape(plain(one)) + r"(?!\w)", text)
    ]
    if not hits:
        return f"does not say {spec['accept'][0]!r}"
    if all(
        re.search(r"\b(?:not|no|never|isn't|nunca)(?: (?:the|a|an|el|la|es|in|en))? ?$", text[: m.start()])
        for m in hits
    ):
        return f"denies {spec['accept'][0]!r}"
    return ""


YES, NO = {"yes", "si", "yeah", "true", "verdadero", "correct"}, {"no", "false", "falso", "incorrect"}


@named
def yes_no(spec, item, answer):
    """Begins with yes or no, the right one, and does not take it back."""
    first = re.match(r"\W*(\w+)", plain(answer))
    said = first[1] if first else ""
    if said not in YES | NO:
        return "begins with neither yes nor no"
    wanted = YES if spec["is"] == "yes" else NO
    if said not in wanted:
        return f"says {said}"
    other = NO - {"no"} if spec["is"] == "yes" else YES - {"si", "true", "correct"}
    rest = re.findall(r"\w+", plain(answer))[1:]
    if any(word in other for word in rest):
        return "takes it back"
    return ""


# --- format ---------------------------------------------------------------------------------------------------------

TYPES = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
    "integer": lambda v: not isinstance(v, bool) and (isinstance(v, int) or isinstance(v, float) and v.is_integer()),
    "number": lambda v: isinstance(v, (int, float)) and not isinstance(v, bool),
}
KEYWORDS = set(
    "type enum const properties required additionalProperties items minItems maxItems uniqueItems minimum maximum "
    "minLength maxLength pattern anyOf description title".split()
)


def invalid(value, schema, at="$"):
    """What is wrong with a value by a JSON Schema (the keywords in KEYWORDS), or ''."""
    unknown = set(schema) - KEYWORDS
    if unknown:
        raise ValueError(f"the validator does not know {sorted(unknown)}")
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(TYPES[kind](value) for kind in kinds):
        return f"{at} is no {' or '.join(kinds)}"
    # JSON's true is not its 1, though Python's is.
    alike = lambda a, b: a == b and isinstance(a, bool) == isinstance(b, bool)
    if "enum" in schema and not any(alike(value, one) for one in schema["enum"]):
        return f"{at} is {value!r}, none of {schema['enum']}"
    if "const" in schema and not alike(value, schema["const"]):
        return f"{at} is {value!r}, not {schema['const']!r}"
    if "anyOf" in schema:
        whys = [invalid(value, one, at) for one in schema["anyOf"]]
        if all(whys):
            return whys[0]
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        for name in schema.get("required", []):
            if name not in value:
                return f"{at} has no {name}"
        for name, inner in value.items():
            rule = properties.get(name, schema.get("additionalProperties", True))
            if rule is False:
                return f"{at} has {name!r} too many"
            if isinstance(rule, dict) and (why := invalid(inner, rule, f"{at}.{name}")):
                return why
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            return f"{at} has {len(value)} items"
        if schema.get("uniqueItems") and len({json.dumps(one, sort_keys=True) for one in value}) < len(value):
            return f"{at} says an item twice"
        for i, inner in enumerate(value):
            if "items" in schema and (why := invalid(inner, schema["items"], f"{at}[{i}]")):
                return why
    if isinstance(value, str):
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
            return f"{at} has {len(value)} characters"
        if "pattern" in schema and not re.search(schema["pattern"], value):
            return f"{at} does not match {schema['pattern']}"
    if TYPES["number"](value) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        return f"{at} is {value}"
    return ""


def parsed(answer):
    """(value, '') of a text that is JSON and nothing else, or (None, why)."""

    def refuse(name):
        raise ValueError(f"{name} is no JSON")

    def once(pairs):
        if len({name for name, _ in pairs}) < len(pairs):
            raise ValueError("a name twice")
        return dict(pairs)

    try:
        return json.loads(answer, parse_constant=refuse, object_pairs_hook=once), ""
    except (ValueError, RecursionError) as error:
        return None, f"is no JSON: {error}"


def unfenced(answer):
    """What stands in the one code fence around an answer, or the answer."""
    match = re.fullmatch(r"\s*```(?:json|JSON)?\s*\n(.*?)\n?```\s*", answer, re.DOTALL)
    return match[1] if match else answer


@named
def json_object(spec, item, answer):
    """Asked for in words: a JSON object and nothing else (a code fence around it is fine), with `keys`."""
    value, why = parsed(unfenced(answer))
    if why:
        return why
    if not isinstance(value, dict) or not value:
        return "is no JSON object with anything in it"
    for key in spec.get("keys", []):
        if plain(key) not in {plain(name) for name in value}:
            return f"has no key {key!r}"
    return values_why(spec, value)


@named
def json_schema(spec, item, answer):
    """Asked for by response_format: exactly JSON, valid by its schema (any object without one), with `values`."""
    value, why = parsed(answer)
    if why:
        return why
    asked = item["response_format"]
    schema = {"type": "object"} if asked["type"] == "json_object" else asked["json_schema"]["schema"]
    why = invalid(value, schema)
    if not why and asked["type"] == "json_object" and not value:
        why = "is an object with nothing in it"
    for key in spec.get("keys", []):
        if not why and key not in value:
            why = f"has no key {key!r}"
    return why or values_why(spec, value)


def values_why(spec, value):
    """`values`: for a key, the values that are right (compared as text, accents and case aside)."""
    for key, right in spec.get("values", {}).items():
        written = lambda one: plain(json.dumps(one, ensure_ascii=False)).strip('" .')
        found = value.get(key) if isinstance(value, dict) else None
        if written(found) not in [written(one) for one in right]:
            return f"says {key} is {found!r}"
    return ""
