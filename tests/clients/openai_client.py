"""The `openai` package as a client of a running appliance, on its real model.

Reads SARAI_URL, SARAI_CA and SARAI_KEY (and SARAI_TEST_PATIENCE, seconds), runs every check_* below and ends with
status 1 if any failed. With names as arguments, runs only those. The appliance is a foreign server to this program:
nothing here knows more than the OpenAI API and the documented `omni_loop` object.
"""

import asyncio
import concurrent.futures
import inspect
import math
import os
import ssl
import sys
import time
import traceback

import openai

# Seconds one request may take: a machine that is emulated needs more.
PATIENCE = float(os.environ.get("SARAI_TEST_PATIENCE", "120"))
URL = os.environ["SARAI_URL"] + "/v1"
KEY = os.environ["SARAI_KEY"]
FRANCE = [{"role": "user", "content": "What is the capital of France? Answer in one short sentence."}]


def trust():
    context = ssl.create_default_context(cafile=os.environ["SARAI_CA"])
    # What newer Pythons check by default: the certificates must be right in every field.
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def make(key=KEY, **more):
    return openai.OpenAI(
        base_url=URL,
        api_key=key,
        max_retries=0,
        timeout=PATIENCE,
        http_client=openai.DefaultHttpxClient(verify=trust(), trust_env=False),
        **more,
    )


CLIENT = make()


def ask(messages=FRANCE, **more):
    more.setdefault("max_tokens", 32)
    more.setdefault("reasoning_effort", "none")
    return CLIENT.chat.completions.create(model="sarai", messages=messages, temperature=0, **more)


def omni_loop(thing):
    found = thing.model_extra["omni_loop"]
    assert 1 <= found["iterations"] <= 3, found
    assert 0 <= found["confidence"] <= 1, found
    assert found["fallback"] is False and found["fallback_reason"] is None, found
    assert isinstance(found["corrected"], bool) and "adapter" in found, found
    assert "smollm2" in found["model"].lower(), found
    assert found["timings"]["total_ms"] > 0, found
    assert len(found["timings"]["iterations"]) == found["iterations"], found
    return found


def refused(kind, status, param, call):
    try:
        call()
    except kind as e:
        assert e.status_code == status, (e.status_code, e)
        assert e.body and e.body["message"], e.body
        if param:
            assert (e.param or "").startswith(param), (e.param, e)
        return e
    raise AssertionError(f"no {kind.__name__}")


def check_answer():
    answer = ask()
    assert answer.object == "chat.completion" and answer.id, answer
    assert abs(answer.created - time.time()) < PATIENCE, answer.created
    [choice] = answer.choices
    assert choice.index == 0 and choice.message.role == "assistant", choice
    assert "Paris" in choice.message.content, choice.message.content
    assert choice.finish_reason in ("stop", "length"), choice
    usage = answer.usage
    assert usage.prompt_tokens > 10 and 0 < usage.completion_tokens <= 32, usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage
    assert omni_loop(answer)["iterations"] == 1


def check_effort_chooses_the_iterations():
    most = {"none": 1, "minimal": 1, "low": 2, "medium": 3, "high": 3}
    seen = {}
    for effort, limit in most.items():
        seen[effort] = omni_loop(ask(reasoning_effort=effort))["iterations"]
        assert seen[effort] <= limit, seen
    print("   iterations", seen)


def hard_question():
    # Sampled hot, a small model is never sure: the loop has something to do.
    return dict(
        model="sarai",
        messages=[{"role": "user", "content": "Write three sentences about the year 1789."}],
        temperature=1.8,
        seed=3,
        max_tokens=40,
    )


def check_reflection_happens_and_is_shown():
    chunks = list(CLIENT.chat.completions.create(stream=True, reasoning_effort="high", **hard_question()))
    deltas = [c.choices[0].delta for c in chunks if c.choices]
    reasoning = "".join((d.model_extra or {}).get("reasoning_content") or "" for d in deltas)
    content = "".join(d.content or "" for d in deltas)
    [loop] = [omni_loop(c) for c in chunks if (c.model_extra or {}).get("omni_loop")]
    assert loop["iterations"] >= 2, loop
    assert reasoning.strip(), "drafts and critiques were not streamed"
    assert content.strip(), "no answer"
    kinds = ["r" if (d.model_extra or {}).get("reasoning_content") else "c" if d.content else "" for d in deltas]
    kinds = "".join(kinds)
    assert "cr" not in kinds, f"reasoning after the answer began: {kinds}"
    print("   iterations", loop["iterations"], "corrected", loop["corrected"], "stopped", loop["stopped"])
    whole = CLIENT.chat.completions.create(reasoning_effort="high", **hard_question())
    assert (whole.choices[0].message.model_extra or {}).get("reasoning_content"), whole


def check_stream():
    chunks, first, begun = [], None, time.monotonic()
    for chunk in ask(stream=True, stream_options={"include_usage": True}):
        chunks.append(chunk)
        first = first or time.monotonic() - begun
    assert len({c.id for c in chunks}) == 1
    assert all(c.object == "chat.completion.chunk" for c in chunks)
    assert chunks[0].choices[0].delta.role == "assistant", chunks[0]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert "Paris" in text, text
    assert len([c for c in chunks if c.choices and c.choices[0].delta.content]) > 2, "not streamed but sent at once"
    ends = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
    assert ends in (["stop"], ["length"]), ends
    usages = [c.usage for c in chunks if c.usage]
    assert len(usages) == 1 and chunks[-1].usage and not chunks[-1].choices, chunks[-1]
    assert usages[0].completion_tokens > 0
    assert len([c for c in chunks if (c.model_extra or {}).get("omni_loop")]) == 1
    whole = ask()
    assert whole.choices[0].message.content == text, (whole.choices[0].message.content, text)
    print(f"   first chunk after {first * 1000:.0f} ms")


def check_stream_without_usage():
    assert not [c for c in ask(stream=True) if c.usage]


def check_logprobs():
    answer = ask(logprobs=True, top_logprobs=3, max_tokens=8)
    entries = answer.choices[0].logprobs.content
    assert len(entries) == answer.usage.completion_tokens or answer.choices[0].finish_reason == "stop", entries
    joined = b"".join(bytes(e.bytes) for e in entries).decode()
    assert answer.choices[0].message.content in joined, (joined, answer.choices[0].message.content)
    for entry in entries:
        assert entry.logprob <= 0 and math.isfinite(entry.logprob), entry
        tops = [t.logprob for t in entry.top_logprobs]
        assert len(tops) == 3 and tops == sorted(tops, reverse=True), entry
        # Greedy: the chosen token is the likeliest one.
        assert entry.top_logprobs[0].token == entry.token, entry
        assert sum(math.exp(t) for t in tops) <= 1.001, tops
    streamed = [c for c in ask(stream=True, logprobs=True, max_tokens=8) if c.choices]
    flat = [e for c in streamed if c.choices[0].logprobs for e in c.choices[0].logprobs.content]
    assert [e.token for e in flat] == [e.token for e in entries], (flat, entries)


def check_seed():
    def sample(seed):
        request = hard_question() | {"seed": seed, "reasoning_effort": "none"}
        return CLIENT.chat.completions.create(**request).choices[0].message.content

    assert sample(11) == sample(11)
    assert len({sample(s) for s in (11, 12, 13)}) > 1, "the seed changes nothing"


def check_stop():
    count = [{"role": "user", "content": "Count from 1 to 9 like this: 1, 2, 3"}]
    whole = ask(count).choices[0].message.content
    assert "3" in whole, whole
    cut = ask(count, stop="3").choices[0]
    assert cut.finish_reason == "stop" and "3" not in cut.message.content, cut
    assert whole.startswith(cut.message.content), (whole, cut)
    streamed = "".join(c.choices[0].delta.content or "" for c in ask(count, stop=["3", "zzz"], stream=True) if c.choices)
    assert streamed == cut.message.content, (streamed, cut)


def check_max_tokens():
    for name in ("max_tokens", "max_completion_tokens"):
        request = hard_question() | {"reasoning_effort": "none"}
        del request["max_tokens"]
        answer = CLIENT.chat.completions.create(**request, **{name: 5})
        assert answer.usage.completion_tokens == 5, (name, answer.usage)
        assert answer.choices[0].finish_reason == "length", answer


def check_conversation():
    answer = ask([
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "My name is Ada. Remember it."},
        {"role": "assistant", "content": "Nice to meet you, Ada."},
        {"role": "user", "content": [{"type": "text", "text": "What is my name?"}]},
    ])
    assert "Ada" in answer.choices[0].message.content, answer


def check_models():
    models = CLIENT.models.list().data
    assert models and all(m.id and m.object == "model" for m in models), models
    print("   models", [m.id for m in models])
    assert CLIENT.chat.completions.create(
        model=models[0].id, messages=FRANCE, max_tokens=2, reasoning_effort="none"
    ).usage.completion_tokens <= 2


def check_wrong_parameters():
    bad, turns = openai.BadRequestError, FRANCE
    refused(bad, 400, "temperature", lambda: CLIENT.chat.completions.create(model="sarai", messages=turns, temperature=3))
    refused(bad, 400, "top_p", lambda: ask(top_p=0))
    refused(bad, 400, "max_tokens", lambda: ask(max_tokens=0))
    refused(bad, 400, "messages", lambda: ask([]))
    refused(bad, 400, "messages", lambda: ask([{"role": "wizard", "content": "x"}]))
    refused(bad, 400, "n", lambda: ask(n=2))
    refused(bad, 400, "tools", lambda: ask(tools=[{"type": "function", "function": {"name": "f"}}]))
    refused(bad, 400, "frobnicate", lambda: ask(extra_body={"frobnicate": 1}))
    refused(bad, 400, "reasoning_effort", lambda: ask(reasoning_effort="heroic"))
    long = [{"role": "user", "content": "word " * 6000}]
    e = refused(bad, 400, "messages", lambda: ask(long))
    assert e.code == "context_length_exceeded" and "2048" in str(e), e
    refused(bad, 400, "messages", lambda: list(ask(long, stream=True)))


def check_wrong_key():
    for key in ("wrong", "sk-" + "0" * 40):
        refused(openai.AuthenticationError, 401, None, lambda: make(key).models.list())


def check_wrong_path_and_model():
    refused(openai.NotFoundError, 404, None, lambda: CLIENT.completions.create(model="sarai", prompt="x"))
    refused(
        openai.NotFoundError, 404, "model",
        lambda: CLIENT.chat.completions.create(model="gpt-none", messages=FRANCE, max_tokens=1),
    )


def check_many_at_once():
    expected = ask().choices[0].message.content
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask().choices[0].message.content, range(8)))
    # Other requests in the batch may move the last bits of a sum, not the sense.
    assert all("Paris" in answer for answer in answers), answers
    print("   identical to the lone answer:", sum(answer == expected for answer in answers), "of 8")


def check_async_client_and_leaving():
    async def main():
        client = openai.AsyncOpenAI(
            base_url=URL, api_key=KEY, max_retries=0, timeout=PATIENCE,
            http_client=openai.DefaultAsyncHttpxClient(verify=trust(), trust_env=False),
        )
        stream = await client.chat.completions.create(stream=True, **(hard_question() | {"max_tokens": 500}))
        async for _ in stream:
            break
        await stream.close()
        begun = time.monotonic()
        answer = await client.chat.completions.create(
            model="sarai", messages=FRANCE, temperature=0, max_tokens=16, reasoning_effort="none"
        )
        assert "Paris" in answer.choices[0].message.content, answer
        print(f"   answered {time.monotonic() - begun:.1f} s after another client left")
        await client.close()

    asyncio.run(main())


def main():
    print("openai", openai.__version__, "python", sys.version.split()[0])
    wanted = sys.argv[1:]
    failed = []
    for name, check in inspect.getmembers(sys.modules[__name__], inspect.isfunction):
        if not name.startswith("check_") or (wanted and name not in wanted):
            continue
        begun = time.monotonic()
        try:
            check()
            print(f"ok     {name} ({time.monotonic() - begun:.1f} s)", flush=True)
        except Exception:
            failed.append(name)
            print(f"FAILED {name}\n{traceback.format_exc()}", flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


main()
