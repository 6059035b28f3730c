"""What comes back through the front door is what the models compute, whoever asks beside and whichever pool runs it."""

import asyncio
import random
import shlex
import subprocess

import numpy as np
import pytest
from payloads import (
    MINILM_INFER,
    MLP_INFER,
    REFERENCE,
    SENTENCES,
    expected,
    mlp,
    output,
    ragged_sentences,
    reference_body,
    text,
    tokens,
)
from wire import request, send_all

pytestmark = pytest.mark.cluster

REFERENCE_TOLERANCE = 1e-4
NEIGHBOUR_TOLERANCE = 1e-5
LONG = {"x_pointsman_timeout": "60s"}


def ask(client, fleet, path, body, tenant="demo"):
    """The decoded answer of a request that must succeed."""
    reply = client.post(path, json=body, headers=fleet.headers(tenant, **LONG))
    assert reply.status_code == 200, reply.text
    return reply.json()


@pytest.mark.parametrize("model", ["minilm", "mlp"])
def test_every_pool_answers_as_the_reference_with_and_without_version(fleet, client, pools, model):
    """To 1e-4, on each real and emulated pool by itself."""
    for pool in pools:
        for path in (f"/v2/models/{model}/infer", f"/v2/models/{model}/versions/1/infer"):
            answer = ask(client, fleet, path, reference_body(model), f"only-{pool}")
            assert (answer["model_name"], answer["model_version"]) == (model, "1")
            np.testing.assert_allclose(output(answer), expected(model), atol=REFERENCE_TOLERANCE, rtol=0, err_msg=pool)


def test_paraphrases_are_closer_than_unrelated_sentences(fleet, client):
    """Each of the three named pairs than each of the other three, in one sentence per request as a user sends them."""
    rows = np.vstack([output(ask(client, fleet, MINILM_INFER, text([sentence]))) for sentence in SENTENCES])
    np.testing.assert_allclose(rows, expected("minilm"), atol=REFERENCE_TOLERANCE, rtol=0)
    cosines = {"paraphrase": [], "unrelated": []}
    for pair in REFERENCE["minilm"]["pairs"]:
        a, b = pair["rows"]
        cosines[pair["kind"]].append(float(rows[a] @ rows[b]))
    assert (len(cosines["paraphrase"]), len(cosines["unrelated"])) == (3, 3)
    assert min(cosines["paraphrase"]) > max(cosines["unrelated"]) + 0.2


def test_text_and_tokens_agree(fleet, client, pools):
    """Tokenised in the replica or by the client, sentences of all lengths in one request."""
    sentences = ragged_sentences(16)
    for pool in pools:
        asked = [ask(client, fleet, MINILM_INFER, body(sentences), f"only-{pool}") for body in (text, tokens)]
        np.testing.assert_allclose(*map(output, asked), atol=NEIGHBOUR_TOLERANCE, rtol=0, err_msg=pool)


def test_batch_neighbours_do_not_change_an_answer(fleet, client, pools):
    """Each sentence and row alone first, then many ragged requests at once, which must have run in batches."""
    sentences = ragged_sentences(24)
    numbers = range(24)
    for pool in pools:
        tenant = f"only-{pool}"
        texts = np.vstack([output(ask(client, fleet, MINILM_INFER, text([s]), tenant)) for s in sentences])
        points = np.vstack([output(ask(client, fleet, MLP_INFER, mlp(seed=n), tenant)) for n in numbers])

        before = batches(fleet, pool)
        rng = random.Random(pool)
        chosen = [rng.sample(numbers, rng.randint(1, 4)) for _ in range(32)]
        kinds = [rng.choice([text, tokens]) for _ in chosen]
        headers = fleet.headers(tenant, **LONG)
        together = [
            request(MINILM_INFER, kind([sentences[n] for n in few]), headers)
            for kind, few in zip(kinds, chosen, strict=True)
        ]
        single = [request(MLP_INFER, mlp(seed=n), headers) for n in numbers] * 3
        answers = asyncio.run(send_all(fleet.http_url, together + single, clients=40))
        assert {answer.status for answer in answers} == {200}

        alone = [texts[few] for few in chosen] + [points[[n]] for n in numbers] * 3
        for answer, rows in zip(answers, alone, strict=True):
            np.testing.assert_allclose(output(answer.json), rows, atol=NEIGHBOUR_TOLERANCE, rtol=0, err_msg=pool)
        requests, rows = (now - then for now, then in zip(batches(fleet, pool), before, strict=True))
        assert rows > 2 * requests, f"{pool} ran {rows} rows for {requests} requests: hardly batched"


def batches(fleet, pool):
    """Requests answered by a pool, and the rows of the batches they ran in."""
    fleet.flushed()
    return [fleet.metric(f"pointsman_batch_rows_{part}", pool=pool) for part in ("count", "sum")]


def test_an_answer_holds_only_the_outputs_asked_for_and_the_clients_own_id(fleet, client):
    """As the Open Inference Protocol has it."""
    answer = ask(client, fleet, MLP_INFER, mlp(2) | {"id": "mine", "outputs": [{"name": "y"}]})
    assert answer["id"] == "mine"
    assert [(each["name"], each["shape"]) for each in answer["outputs"]] == [("y", [2, 256])]


def test_the_curl_line_that_serve_prints_works_as_it_stands(fleet):
    """Copied into a shell, it gives the embedding of its sentence."""
    (line,) = [line for line in fleet.stdout().splitlines() if line.startswith("curl ")]
    assert shlex.split(line)[:2] == ["curl", "-s"]
    done = subprocess.run(line, shell=True, capture_output=True, timeout=30, check=True)
    assert b'"shape":[1,384]' in done.stdout
