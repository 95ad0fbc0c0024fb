"""Asks an appliance the golden set, through its own API over TLS, and sums up what the Omni-Loop did.

Every item is asked twice, greedily: for the draft alone, and with the default loop. scripts/golden starts this
program and names its options. A foreign client: nothing here knows more than the OpenAI API and the documented
`omni_loop` object. Standard library only.
"""

import argparse
import http.client
import json
import os
import pathlib
import queue
import signal
import socket
import ssl
import sys
import textwrap
import threading
import time
import urllib.parse

import figures
import judges

HERE = pathlib.Path(__file__).resolve().parent
KINDS = ["constraints", "arithmetic", "extraction", "closed", "format"]
# So many items' drafts are asked before their loops, or the other way round: neither finds its prompt evaluated.
BLOCK = 10
# What the naive peer says to have an answer revised.
CRITIQUE = {
    "en": "Check your answer above: is it correct, complete and exactly what was asked? If it is, repeat it "
    "unchanged. If not, write the corrected answer. Reply with the answer alone.",
    "es": "Comprueba tu respuesta anterior: ¿es correcta, completa y exactamente lo que se pidió? Si lo es, repítela "
    "sin cambios. Si no, escribe la respuesta corregida. Responde solo con la respuesta.",
}


def load_items(kind=None, half="all", limit=None):
    """The items of the set that are wanted, in the set's order; `limit` of each kind."""
    items = []
    for name in [kind] if kind else KINDS:
        with open(HERE / "items" / f"{name}.jsonl", encoding="utf-8") as file:
            found = [json.loads(line) for line in file if line.strip()]
        found = [item for item in found if half in ("all", item["half"])]
        items += found[:limit]
    return items


class Server:
    """An OpenAI-compatible server; one kept-open connection a thread."""

    def __init__(self, url, ca=None, key=None, timeout=300):
        parts = urllib.parse.urlsplit(url)
        self.host, self.port = parts.hostname, parts.port
        self.path = parts.path.rstrip("/") + "/v1/chat/completions"
        self.timeout = timeout
        self.headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        self.context = None
        if parts.scheme == "https":
            self.context = ssl.create_default_context(cafile=ca)
        self.local = threading.local()

    def connect(self):
        if self.context:
            made = http.client.HTTPSConnection(self.host, self.port, timeout=self.timeout, context=self.context)
        else:
            made = http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)
        made.connect()
        # Head and body are sent apart; the second must not wait for an acknowledgement.
        made.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def ask(self, body):
        """(seconds, response) of a chat request; raises OSError, ValueError or HTTPException."""
        data = json.dumps(body).encode()
        kept = getattr(self.local, "connection", None)
        for connection in [kept, None] if kept else [None]:
            # The handshake is paid once a thread and is no part of an answer's time.
            connection = connection or self.connect()
            start = time.perf_counter()
            try:
                connection.request("POST", self.path, data, self.headers)
                response = connection.getresponse()
                text = response.read()
                seconds = time.perf_counter() - start
            except BaseException as error:
                # Whatever happened, the next request must not meet a connection that is half used.
                connection.close()
                self.local.connection = None
                idle = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError, ssl.SSLEOFError)
                if connection is kept and isinstance(error, idle):
                    continue  # it was closed while idle
                raise
            self.local.connection = connection
            if response.status != 200:
                raise ValueError(f"status {response.status}: {text[:300].decode(errors='replace')}")
            return seconds, json.loads(text)
        raise AssertionError("unreachable")


def request_of(item, **more):
    body = {
        "model": "sarai",
        "messages": item["messages"],
        "temperature": 0,
        "max_tokens": item.get("max_tokens", 96),
        **more,
    }
    if "response_format" in item:
        body["response_format"] = item["response_format"]
    return body


def verdict(item, answer, finish):
    """The judge's verdict; an answer that was cut off is never right."""
    right, why = judges.judge(item, answer)
    if right and finish == "length":
        right, why = False, "is cut off"
    return right, why


def read_answer(item, seconds, response):
    """What a record keeps of a response."""
    choice = response["choices"][0]
    answer = choice["message"]["content"] or ""
    right, why = verdict(item, answer, choice["finish_reason"])
    kept = {
        "answer": answer,
        "right": right,
        "why": why,
        "finish": choice["finish_reason"],
        "seconds": round(seconds, 4),
        "usage": response.get("usage"),
        "omni_loop": response.get("omni_loop"),
    }
    if choice["message"].get("reasoning_content"):
        kept["reasoning"] = choice["message"]["reasoning_content"]
    if choice.get("logprobs"):
        kept["logprobs"] = [[piece["token"], round(piece["logprob"], 4)] for piece in choice["logprobs"]["content"]]
    return kept


def ask_one(server, item, **more):
    try:
        seconds, response = server.ask(request_of(item, **more))
        return read_answer(item, seconds, response)
    except (OSError, ValueError, KeyError, IndexError, TypeError, http.client.HTTPException) as error:
        return {"error": f"{type(error).__name__}: {error}"}


def ask_naively(server, item):
    """The same loop as a client would write it: each turn a fresh chat request, two reflections unless unchanged."""
    turns, messages = [], list(item["messages"])
    try:
        for _ in range(3):
            body = request_of(item, messages=messages, cache_prompt=True)
            seconds, response = server.ask(body)
            choice = response["choices"][0]
            answer = choice["message"]["content"] or ""
            turns.append(
                {
                    "answer": answer,
                    "seconds": round(seconds, 4),
                    "finish": choice["finish_reason"],
                    "usage": response.get("usage"),
                }
            )
            if len(turns) > 1 and answer.strip() == turns[-2]["answer"].strip():
                break
            messages = messages + [
                {"role": "assistant", "content": answer},
                {"role": "user", "content": CRITIQUE[item["language"]]},
            ]
        right, why = verdict(item, turns[-1]["answer"], turns[-1]["finish"])
        return {"turns": turns, "right": right, "why": why}
    except (OSError, ValueError, KeyError, IndexError, TypeError, http.client.HTTPException) as error:
        return {"turns": turns, "error": f"{type(error).__name__}: {error}"}


def tasks_of(items, sides):
    """(item, side) in the order of asking."""
    tasks = []
    for number, start in enumerate(range(0, len(items), BLOCK)):
        block = items[start : start + BLOCK]
        turn = number % len(sides)
        for side in sides[turn:] + sides[:turn]:
            tasks += [(item, side) for item in block]
    return tasks


class Progress:
    """A bar with the time left on a terminal, else a line now and then; standard error."""

    def __init__(self, total):
        self.total, self.done, self.failed = total, 0, 0
        self.start = self.shown = time.monotonic()
        self.terminal = sys.stderr.isatty()

    def step(self, failed):
        self.done += 1
        self.failed += failed
        now = time.monotonic()
        if self.done < self.total and now - self.shown < (0.2 if self.terminal else 30):
            return
        self.shown = now
        left = (now - self.start) / self.done * (self.total - self.done)
        bad = f", {self.failed} failed" if self.failed else ""
        text = f"{self.done}/{self.total} requests, {left // 60:.0f}:{left % 60:02.0f} left{bad}"
        if self.terminal:
            filled = 30 * self.done // self.total
            sys.stderr.write(f"\r\033[K[{'█' * filled}{'░' * (30 - filled)}] {text}")
        else:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def end(self):
        if self.terminal:
            sys.stderr.write("\n")


def run(items, asks, jobs, out):
    """Asks everything; returns the records, also of what was asked until an interrupt came, and whether one came."""
    records = {}
    for item in items:
        kept = {name: item[name] for name in ("id", "kind", "language", "half")}
        kept["usually_right"] = item.get("usually_right", False)
        kept["question"] = judges.question(item)
        records[item["id"]] = {**kept, **{side: None for side in asks}}
    todo, finished = queue.SimpleQueue(), queue.SimpleQueue()
    tasks = tasks_of(items, list(asks))
    for task in tasks:
        todo.put(task)

    def work():
        while True:
            try:
                item, side = todo.get_nowait()
            except queue.Empty:
                return
            try:
                finished.put((item, side, asks[side](item)))
            except BaseException as error:  # a mistake of this program: shown, not hung over
                finished.put((item, side, error))
                return

    # An interrupt must not wait for answers: the threads end with the program.
    for _ in range(jobs):
        threading.Thread(target=work, daemon=True).start()
    progress, interrupted = Progress(len(tasks)), False
    try:
        for _ in tasks:
            item, side, answer = finished.get()
            if isinstance(answer, BaseException):
                raise answer
            record = records[item["id"]]
            record[side] = answer
            progress.step("error" in answer)
            if out and all(record[side] is not None for side in asks):
                out.write(json.dumps(record, ensure_ascii=False) + "\n")
                out.flush()
    except KeyboardInterrupt:
        interrupted = True
    progress.end()
    return list(records.values()), interrupted


def read_records(path, items):
    """The records of a former run, judged again by today's judges; those of items that are wanted."""
    by_id = {item["id"]: item for item in items}
    records = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            item = by_id.get(record["id"])
            if item is None:
                continue
            record.update({"half": item["half"], "usually_right": item.get("usually_right", False)})
            for side in ("draft", "loop"):
                answer = record[side]
                if answer and "error" not in answer:
                    answer["right"], answer["why"] = verdict(item, answer["answer"], answer["finish"])
            peer = record.get("peer")
            if peer and "error" not in peer:
                peer["right"], peer["why"] = verdict(item, peer["turns"][-1]["answer"], peer["turns"][-1]["finish"])
            records.append(record)
    return records


# --- what is shown --------------------------------------------------------------------------------------------------


def table(rows):
    """Rows of cells as aligned text, the first column to the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join([row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:])]) for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def share(part, whole):
    return f"{part} ({100 * part / whole:.0f} %)" if whole else "–"


def shown(value, form):
    return "–" if value is None else format(value, form)


HEAD = [
    "", "items", "failed", "draft right", "loop right", "wrong→right", "right→wrong", "detected", "returned without",
    "of those right", "clean, at draft", "iterations", "draft s", "loop s", "ratio",
]  # fmt: skip


def row(name, f):
    return [
        name, str(f["items"]), str(f["failed"]), share(f["draft_right"], f["pairs"]), share(f["loop_right"], f["pairs"]),
        str(f["wrong_to_right"]), str(f["right_to_wrong"]), share(f["detected"], f["pairs"]),
        share(f["mended"], f["detected"]), share(f["mended_right"], f["mended"]), share(f["clean_early"], f["clean"]),
        shown(f["iterations"], ".2f"), shown(f["draft_seconds"], ".2f"), shown(f["loop_seconds"], ".2f"),
        shown(f["time_ratio"], ".2f"),
    ]  # fmt: skip


def report(all_of):
    rows = [HEAD] + [row(kind, f) for kind, f in all_of["kinds"].items()]
    rows += [row(language, f) for language, f in all_of["languages"].items()]
    rows += [row("usually right", all_of["usually_right"]), row("all", all_of["total"])]
    parts = [table(rows)]
    for half, f in all_of["confidence"].items():
        parts.append(
            f"confidence, {half.replace('_', ' ')} ({f['items']} items): AUROC {shown(f['auroc'], '.3f')}, "
            f"calibration error {shown(f['ece'], '.3f')}; score/right/count by bin: "
            + (" ".join(f"{s:.2f}/{r:.2f}/{n}" for _, n, s, r in f["reliability"]) or "–")
        )
    if "peer" in all_of:
        f = all_of["peer"]
        for key, what in (
            ("all", "every item"),
            ("same_turns", "every item, as many turns as ours"),
            ("reflected", "where ours reflected, as many turns"),
        ):
            c = f[key]
            parts.append(
                f"beside the naive loop on llama-server, {what} ({c['items']} items): ours {shown(c['ours'], '.2f')} s, "
                f"naive {shown(c['naive'], '.2f')} s, ratio {shown(c['ratio'], '.2f')}"
            )
        parts.append(f"the naive loop's answers: {f['right']} of {f['all']['items']} right, {f['failed']} failed")
    if all_of["unfinished"]:
        parts.append(f"{all_of['unfinished']} items were not finished and are in no figure")
    if all_of["fallback"] or all_of["cut_short"]:
        parts.append(
            f"{all_of['fallback']} items were answered by the fallback, {all_of['cut_short']} cut by time: was the machine busy?"
        )
    if all_of["drafts_that_differ"]:
        parts.append(f"{all_of['drafts_that_differ']} drafts differ between the two requests, though greedy")
    for promise in all_of["promises"]:
        state = {True: "held", False: "MISSED", None: "not measured"}[promise["held"]]
        sign = "≥" if promise["least"] else "≤"
        parts.append(
            f"{state:12}  {promise['name']}: {shown(promise['value'], '.3f')} (promised {sign} {promise['bound']})"
        )
    return "\n".join(parts)


def paired(test):
    return lambda record: figures.asked(record) and not figures.failed(record) and test(record)


SHOW = {
    "wrong": paired(lambda record: not record["loop"]["right"]),
    "draft-wrong": paired(lambda record: not record["draft"]["right"]),
    "harm": paired(figures.harmed),
    "helped": paired(figures.helped),
    "detected": paired(figures.detected),
    # Detected though the judge has nothing against it, and the other way round.
    "false-alarm": paired(lambda record: figures.detected(record) and record["draft"]["right"]),
    "missed": paired(lambda record: not figures.detected(record) and not record["draft"]["right"]),
    "unmended": paired(lambda record: figures.detected(record) and not figures.mended(record)),
    "reflected": paired(lambda record: figures.iterations(record) > 1),
    "failed": figures.failed,
    "all": figures.asked,
}


def show_record(record):
    """One record as a person reads it."""
    inside = lambda text: textwrap.indent(text.strip() or "(nothing)", "      │ ", lambda line: True)
    marks = record["id"] + (", usually right" if record["usually_right"] else "") + f", {record['half']}"
    parts = [f"━━ {marks}", textwrap.indent(record["question"], "   ")]
    same = (record["draft"].get("answer"), record["loop"].get("answer"))
    for side in ("draft", "loop"):
        answer = record[side]
        if "error" in answer:
            parts.append(f"   {side}: FAILED, {answer['error']}")
            continue
        report = answer["omni_loop"]
        word = "right" if answer["right"] else f"WRONG ({answer['why']})"
        about = f"confidence {report['confidence']:.2f}, {answer['seconds']:.2f} s"
        if side == "loop":
            about = f"{report['iterations']} iterations, {report['stopped']}, {about}"
        parts.append(f"   {side}: {word}; {about}")
        parts.append("      (the same)" if side == "loop" and same[0] == same[1] else inside(answer["answer"]))
    if not figures.failed(record):
        parts += [f"   found in the draft: [{f['checker']}] {f['sentence']}" for f in figures.draft_findings(record)]
        parts += [f"   remaining: [{f['checker']}] {f['sentence']}" for f in record["loop"]["omni_loop"]["remaining"]]
    return "\n".join(parts)


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/golden")
    parser.add_argument("--half", choices=["fit", "held_out", "all"], default="all")
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=300)
    parser.add_argument("--logprobs", action="store_true")
    parser.add_argument("--json")
    parser.add_argument("--out")
    parser.add_argument("--from", dest="former")
    parser.add_argument("--show", choices=sorted(SHOW))
    parser.add_argument("--url", default=os.environ.get("SARAI_URL"))
    parser.add_argument("--ca", default=os.environ.get("SARAI_CA"))
    parser.add_argument("--key", default=os.environ.get("SARAI_KEY"))
    parser.add_argument("--peer-url")
    options = parser.parse_args()
    if options.limit is not None and options.limit < 1 or options.jobs < 1:
        parser.error("--limit and --jobs want at least 1")
    if options.show and not options.former:
        parser.error("--show wants --from FILE, the --out file of a former run")
    if not options.former and not options.url:
        parser.error("no appliance: source client.env or name --url, --ca and --key")
    return options


def main():
    options = arguments()
    items = load_items(options.kind, options.half, options.limit)
    interrupted = False
    if options.former:
        records = read_records(options.former, items)
    else:
        # The end by a signal is like that by Ctrl-C: what there is is written.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        server = Server(options.url, options.ca, options.key, options.timeout)
        more = {"logprobs": True} if options.logprobs else {}
        asks = {
            "draft": lambda item: ask_one(server, item, reasoning_effort="none", **more),
            "loop": lambda item: ask_one(server, item, **more),
        }
        if options.peer_url:
            naive = Server(options.peer_url, timeout=options.timeout)
            asks["peer"] = lambda item: ask_naively(naive, item)
        greeting = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
        for one in [server, naive] if options.peer_url else [server]:
            try:
                one.ask(request_of(greeting))
            except (OSError, ValueError, http.client.HTTPException) as error:
                print(f"scripts/golden: {one.host}:{one.port} does not answer: {error}", file=sys.stderr)
                return 2
        out = open(options.out, "w", encoding="utf-8") if options.out else None
        records, interrupted = run(items, asks, options.jobs, out)
        if out:
            out.close()
    if options.show:
        chosen = [record for record in records if SHOW[options.show](record)]
        for record in chosen:
            print(show_record(record), end="\n\n")
        print(f"{len(chosen)} of {len(records)}")
        return 0
    found = figures.all_figures(records)
    print(report(found))
    if options.json:
        aside = f"{options.json}.new"
        with open(aside, "w", encoding="utf-8") as file:
            json.dump({"figures": found, "records": records}, file, ensure_ascii=False, indent=1)
        os.replace(aside, options.json)
    whole = not (options.kind or options.limit or options.half != "all")
    missed = [p["name"] for p in found["promises"] if p["held"] is False or p["held"] is None and whole]
    if found["total"]["failed"]:
        missed.append(f"{found['total']['failed']} requests failed")
    if interrupted:
        return 130
    for name in missed:
        print(f"scripts/golden: missed: {name}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of the output went away.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
