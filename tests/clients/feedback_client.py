"""The `openai` package gives feedback on a real answer.

Reads SARAI_URL, SARAI_CA and SARAI_KEY. `ask`: asks whole and streamed, prints both ids as JSON. `judge ID SCORE
[CORRECTION]`: gives feedback by the package's own HTTP client and prints what it is told; `judge-nothing ID` is refused.
"""

import json
import os
import ssl
import sys

import openai

CLIENT = openai.OpenAI(
    base_url=os.environ["SARAI_URL"] + "/v1",
    api_key=os.environ["SARAI_KEY"],
    max_retries=0,
    timeout=float(os.environ.get("SARAI_TEST_PATIENCE", "120")),
    http_client=openai.DefaultHttpxClient(
        verify=ssl.create_default_context(cafile=os.environ["SARAI_CA"]), trust_env=False
    ),
)
REQUEST = dict(
    model="sarai",
    messages=[{"role": "user", "content": "What is the capital of France? Answer in one short sentence."}],
    temperature=0,
    max_tokens=16,
    reasoning_effort="none",
)


def ask():
    whole = CLIENT.chat.completions.create(**REQUEST)
    chunks = list(CLIENT.chat.completions.create(stream=True, **REQUEST))
    assert len({chunk.id for chunk in chunks}) == 1, chunks
    unseen = CLIENT.chat.completions.create(store=False, **REQUEST)
    print(json.dumps({
        "whole": whole.id,
        "streamed": chunks[0].id,
        "unseen": unseen.id,
        "answer": whole.choices[0].message.content,
    }))


def judge(completion, score, correction=None):
    body = {"completion_id": completion, "score": float(score)}
    if correction is not None:
        body["correction"] = correction
    kept = CLIENT.post("/feedback", body=body, cast_to=object)
    assert kept["object"] == "feedback" and kept["completion_id"] == completion, kept
    print(json.dumps(kept))


def judge_nothing(completion):
    try:
        CLIENT.post("/feedback", body={"completion_id": completion, "score": 1}, cast_to=object)
    except openai.NotFoundError as e:
        assert e.status_code == 404 and e.code == "completion_not_found" and e.param == "completion_id", e
        print(json.dumps({"refused": e.code}))
    else:
        sys.exit("it was kept")


COMMANDS = {"ask": ask, "judge": judge, "judge-nothing": judge_nothing}
COMMANDS[sys.argv[1]](*sys.argv[2:])
