"""Figures of a golden run, from its records alone: nothing here asks anything or prints anything.

A record is what run.py writes for an item: `draft` and `loop` are its two answers, each with `answer`, `right`, `why`,
`seconds`, `omni_loop`, or with `error` where the request failed; `peer`, where there is one, has `turns`.
"""


def auroc(scores, labels):
    """How often a right answer scores above a wrong one, ties counted half; None without both."""
    ranked = sorted(zip(scores, labels), key=lambda pair: pair[0])
    positive = sum(1 for _, label in ranked if label)
    negative = len(ranked) - positive
    if not positive or not negative:
        return None
    # The sum of the right ones' ranks, where equals share the mean of their ranks (Mann and Whitney's U).
    ranks, start = 0.0, 0
    while start < len(ranked):
        end = start
        while end < len(ranked) and ranked[end][0] == ranked[start][0]:
            end += 1
        shared = (start + 1 + end) / 2
        ranks += shared * sum(1 for _, label in ranked[start:end] if label)
        start = end
    return (ranks - positive * (positive + 1) / 2) / (positive * negative)


def reliability(scores, labels, bins=10):
    """For each bin of equal width that is not empty: (lower edge, how many, mean score, share that is right)."""
    filled = {}
    for score, label in zip(scores, labels):
        filled.setdefault(min(int(score * bins), bins - 1), []).append((score, bool(label)))
    rows = []
    for index, pairs in sorted(filled.items()):
        count = len(pairs)
        rows.append((index / bins, count, sum(s for s, _ in pairs) / count, sum(r for _, r in pairs) / count))
    return rows


def calibration_error(scores, labels, bins=10):
    """Expected calibration error: mean distance of score and share that is right, by bin; None of nothing."""
    rows = reliability(scores, labels, bins)
    total = sum(count for _, count, _, _ in rows)
    return sum(count * abs(score - right) for _, count, score, right in rows) / total if total else None


def ratio(part, whole):
    return part / whole if whole else None


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else None


def asked(record):
    """Whether both answers were asked for."""
    return bool(record.get("draft")) and bool(record.get("loop"))


def failed(record):
    """Whether either request failed."""
    return asked(record) and any(record[side].get("error") for side in ("draft", "loop"))


def steps(answer):
    """The iterations that `omni_loop` tells of, however much it tells."""
    report = answer.get("omni_loop") or {}
    return report.get("steps") or (report.get("timings") or {}).get("iterations") or []


def draft_findings(record):
    """What was detected in the draft.

    Where the loop's own steps name their findings, those of the first. Else what remained of the same draft when
    nothing but the draft was asked for: greedily, it is the same text.
    """
    first = next(iter(steps(record["loop"])), {})
    if "findings" in first:
        return first["findings"]
    return (record["draft"].get("omni_loop") or {}).get("remaining") or []


def detected(record):
    return bool(draft_findings(record))


def mended(record):
    """Whether the returned answer is free of every kind of error that was detected in the draft."""
    found = {finding["checker"] for finding in draft_findings(record)}
    left = {finding["checker"] for finding in record["loop"]["omni_loop"]["remaining"]}
    return bool(found) and not found & left


# How a loop ends that time or an engine cut.
CUT = ("iteration_timeout", "deadline", "failed")


def told(record, name):
    """Whether `omni_loop` says so of either answer."""
    return any((record[side].get("omni_loop") or {}).get(name) for side in ("draft", "loop"))


def iterations(record):
    return record["loop"]["omni_loop"]["iterations"]


def harmed(record):
    return record["draft"]["right"] and not record["loop"]["right"]


def helped(record):
    return record["loop"]["right"] and not record["draft"]["right"]


def summary(records):
    """The counts and means of one group of records."""
    pairs = [record for record in records if asked(record) and not failed(record)]
    clean = [record for record in pairs if not detected(record)]
    without = [record for record in pairs if mended(record)]
    figures = {
        "items": sum(1 for record in records if asked(record)),
        "failed": sum(1 for record in records if failed(record)),
        "pairs": len(pairs),
        "draft_right": sum(record["draft"]["right"] for record in pairs),
        "loop_right": sum(record["loop"]["right"] for record in pairs),
        "wrong_to_right": sum(helped(record) for record in pairs),
        "right_to_wrong": sum(harmed(record) for record in pairs),
        "detected": len(pairs) - len(clean),
        "detected_of_wrong": sum(detected(record) and not record["draft"]["right"] for record in pairs),
        "mended": len(without),
        "mended_right": sum(record["loop"]["right"] for record in without),
        "clean": len(clean),
        "clean_early": sum(iterations(record) == 1 for record in clean),
        "early": sum(iterations(record) == 1 for record in pairs),
        "iterations": mean(iterations(record) for record in pairs),
        "draft_seconds": mean(record["draft"]["seconds"] for record in pairs),
        "loop_seconds": mean(record["loop"]["seconds"] for record in pairs),
    }
    figures["time_ratio"] = figures["loop_seconds"] / figures["draft_seconds"] if pairs else None
    return figures


def confidence(records):
    """How well the returned answer's confidence tells whether the judge calls it right."""
    pairs = [record for record in records if asked(record) and not failed(record)]
    scores = [record["loop"]["omni_loop"]["confidence"] for record in pairs]
    labels = [record["loop"]["right"] for record in pairs]
    return {
        "items": len(pairs),
        "auroc": auroc(scores, labels),
        "ece": calibration_error(scores, labels),
        "reliability": reliability(scores, labels),
    }


def peer(records):
    """Ours beside the naive loop: mean time over mean time, over those items where both answered."""
    both = [
        record
        for record in records
        if asked(record) and not failed(record) and record.get("peer") and not record["peer"].get("error")
    ]

    def compare(chosen, turns):
        ours = sum(record["loop"]["seconds"] for record in chosen)
        naive = sum(turn["seconds"] for record in chosen for turn in record["peer"]["turns"][: turns(record)])
        return {
            "items": len(chosen),
            "ratio": ratio(ours, naive),
            "ours": ratio(ours, len(chosen)),
            "naive": ratio(naive, len(chosen)),
        }

    reflected = [record for record in both if iterations(record) > 1]
    return {
        "failed": sum(1 for record in records if (record.get("peer") or {}).get("error")),
        "right": sum(record["peer"]["right"] for record in both),
        # The naive loop has no gate: it always reflects, twice unless its answer stays the same.
        "all": compare(both, lambda record: None),
        # With our loop's own decisions: as many turns as ours took.
        "same_turns": compare(both, iterations),
        # Only where ours reflected, as many turns as ours took.
        "reflected": compare(reflected, iterations),
    }


# What is promised: name, how it is computed of all figures, the bound, and whether it is a least.
PROMISES = [
    ("detected errors returned without it", lambda f: ratio(f["total"]["mended"], f["total"]["detected"]), 0.68, True),
    ("of those, really right", lambda f: ratio(f["total"]["mended_right"], f["total"]["mended"]), 0.60, True),
    (
        "right → wrong, of right drafts",
        lambda f: ratio(f["total"]["right_to_wrong"], f["total"]["draft_right"]),
        0.01,
        False,
    ),
    (
        "clean requests that end at the draft",
        lambda f: ratio(f["total"]["clean_early"], f["total"]["clean"]),
        0.60,
        True,
    ),
    ("AUROC of the confidence, held out", lambda f: f["confidence"]["held_out"]["auroc"], 0.75, True),
    ("calibration error, held out", lambda f: f["confidence"]["held_out"]["ece"], 0.08, False),
    ("time, loop ÷ draft", lambda f: f["total"]["time_ratio"], 1.4, False),
]
PEER_PROMISE = ("time, ours ÷ naive loop on llama-server", lambda f: f["peer"]["all"]["ratio"], 0.5, False)


def all_figures(records):
    """Everything a run is summed up in."""
    kinds = list(dict.fromkeys(record["kind"] for record in records))
    figures = {
        "kinds": {kind: summary([r for r in records if r["kind"] == kind]) for kind in kinds},
        "languages": {
            language: summary([r for r in records if r["language"] == language])
            for language in dict.fromkeys(record["language"] for record in records)
        },
        "usually_right": summary([r for r in records if r["usually_right"]]),
        "total": summary(records),
        "confidence": {half: confidence([r for r in records if r["half"] == half]) for half in ("fit", "held_out")},
        "unfinished": sum(1 for record in records if not asked(record)),
        # Another model's answers, and iterations that were cut, say nothing of the loop: the machine was too busy.
        "fallback": sum(1 for record in records if asked(record) and told(record, "fallback")),
        "cut_short": sum(
            1
            for record in records
            if asked(record)
            and any((record[side].get("omni_loop") or {}).get("stopped") in CUT for side in ("draft", "loop"))
        ),
        # Greedy, the two drafts are one text. Where the loop ended at its draft, they can be compared.
        "drafts_that_differ": sum(
            1
            for record in records
            if asked(record)
            and not failed(record)
            and iterations(record) == 1
            and record["draft"]["answer"] != record["loop"]["answer"]
        ),
    }
    promises = list(PROMISES)
    if any(record.get("peer") for record in records):
        figures["peer"] = peer(records)
        promises.append(PEER_PROMISE)
    figures["promises"] = [
        {"name": name, "bound": bound, "least": least, "value": value, "held": held(value, bound, least)}
        for name, value, bound, least in ((n, of(figures), b, l) for n, of, b, l in promises)
    ]
    return figures


def held(value, bound, least):
    """True, False, or None where there was nothing to measure."""
    if value is None:
        return None
    return value >= bound if least else value <= bound
