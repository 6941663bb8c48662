import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest

from bench.llm import Failure, open_llm
from tests.tools.asking import answers, ask

TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TEXTS = ["the film is about a heist and a detective", "a comedy about friends", "recommend ten titles, please"] * 20


def needs(*packages):
    """Skip where a package is missing. Nothing is imported: importing litellm as it comes would ask the network for prices."""
    for package in packages:
        if find_spec(package) is None:
            pytest.skip(f"needs {package}, which is not installed")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A tiny random Llama with a trained tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    special = ["<s>", "<|end|>", "<pad>", "<|user|>", "<|system|>", "<|assistant|>"]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="<|end|>", pad_token="<pad>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        # Heads of 32: vLLM's kernels for processors know no smaller ones.
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_the_transformers_engine(tiny, tmp_path):
    requests = [ask(f"recommend {'long ' * number}titles", max_tokens=6) for number in range(5)]
    with open_llm(f"hf:{tiny}", cache_dir=tmp_path, device="cpu", engine_batch=4) as model:
        greedy = answers(model, requests)
        assert all(answer.ok and answer.usage.completion_tokens <= 6 for answer in greedy)
        assert len(greedy[0].texts) == 1 and greedy[0].finish[0] in ("length", "stop")

        (three,) = answers(model, [ask("x", max_tokens=6, n=3, temperature=1.0, seed=3)])
        assert len(three.texts) == 3 and len(set(three.texts)) > 1

        (beams,) = answers(model, [ask("x", max_tokens=5, n=4, beams=4)])
        assert (
            len(beams.texts) == 4 and list(beams.scores) == sorted(beams.scores, reverse=True) and beams.scores[0] < 0
        )

        (long,) = answers(model, [ask("word " * 400)])
        assert long.failure is Failure.BAD_REQUEST and "exceed 256" in long.detail

        (lost,) = answers(model, [ask("x", {"type": "object"}, max_tokens=4)])
        assert lost.failure in (Failure.UNPARSEABLE, None) and lost.texts and model.report()["reasked"] == 1
        assert model.capabilities.beams and not model.capabilities.json_schema
    # Nothing hangs on the batch or on the process: alone and anew, the same texts.
    with open_llm(f"hf:{tiny}", cache_dir=None, device="cpu") as model:
        assert [answer.texts for answer in answers(model, requests[1:2])] == [greedy[1].texts]
        again = ask("x", max_tokens=6, n=3, temperature=1.0, seed=3)
        assert answers(model, [ask("other"), again])[1].texts == three.texts
    with open_llm(f"hf:{tiny}", cache_dir=tmp_path, device="cpu") as model:
        assert all(answer.cached for answer in answers(model, requests))
        assert model.report()["sent"] == 0


def test_beam_scores_are_log_probabilities(tiny):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with open_llm(f"hf:{tiny}", cache_dir=None, device="cpu") as model:
        (answer,) = answers(model, [ask("x", max_tokens=3, n=2, beams=2)])
    network, tokenizer = AutoModelForCausalLM.from_pretrained(tiny), AutoTokenizer.from_pretrained(tiny)
    prompt = tokenizer("<|user|>x<|end|><|assistant|>", add_special_tokens=False).input_ids
    step = torch.log_softmax(network(torch.tensor([prompt])).logits[0, -1], -1)
    # Three tokens cannot be likelier than the likeliest first one, nor as unlikely as three of the worst.
    assert 3 * float(step.min()) * 2 < answer.scores[0] <= float(step.max())
    assert answer.scores[0] >= answer.scores[1]


def test_another_weight_is_another_model(tiny, tmp_path):
    import shutil

    from bench.llm.local import fingerprint

    copy = tmp_path / "copy"
    shutil.copytree(tiny, copy)
    assert fingerprint(copy) == fingerprint(tiny)
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "model.safetensors").write_bytes(bytes(data))
    assert fingerprint(copy) != fingerprint(tiny)


def test_check_of_an_engine(tiny, capsys):
    from bench.cli.main import main

    assert main(["llm", "check", f"hf:{tiny}", "--json"]) == 0
    features = json.loads(capsys.readouterr().out)["features"]
    assert features["n > 1"] == features["beam search"] == "works" and "repaired" in features["JSON mode"]


@pytest.mark.slow
def test_a_real_server_through_both_transports(tiny, tmp_path, config):
    needs("accelerate", "fastapi", "uvicorn", "litellm", "openai")
    import socket

    from bench.llm import remote
    from bench.llm.config import load_endpoint
    from bench.llm.transport import LitellmTransport

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(tiny), "--host", "127.0.0.1"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    log = (tmp_path / "serve.log").open("wb")
    process = subprocess.Popen(
        [*command, "--port", str(port), "--device", "cpu", "--default-seed", "0"],
        env=environment,
        stdout=log,
        stderr=log,
    )
    try:
        for _ in range(240):
            with socket.socket() as probe:
                if process.poll() is not None or probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.5)
        assert process.poll() is None, (tmp_path / "serve.log").read_text()[-800:]
        path = config(f"http://127.0.0.1:{port}/v1", model=f"openai/{tiny}")
        request = ask("recommend titles", max_tokens=8)
        with open_llm("tiny", path, cache_dir=None, timeout_s=120) as model:
            (direct,) = answers(model, [request])
            # This server gives one text whatever n is.
            (three,) = answers(model, [ask("recommend", max_tokens=4, n=3, temperature=1.0, seed=1)])
        assert direct.ok and len(three.texts) == 3, (direct, three)
        remote.run_once(_through_litellm(LitellmTransport(load_endpoint("tiny", path)), request, direct))
    finally:
        process.kill()
        process.wait()
        log.close()


async def _through_litellm(transport, request, direct):
    reply = await transport.send(request, 120)
    assert reply.texts == direct.texts
    await transport.close()


def test_litellm_carries_requests_and_errors_are_classified(server, config):
    needs("litellm")
    from bench.llm import remote
    from bench.llm.config import load_endpoint
    from bench.llm.failures import RequestError
    from bench.llm.transport import LitellmTransport
    from tests.tools.openai_server import KEY

    running = server(key=KEY)
    transport = LitellmTransport(load_endpoint("tiny", config(running.url, model="openai/tiny")))

    async def tried():
        found = {}
        for kind in (
            "",
            "<400>",
            "<401>",
            "<404>",
            "<wait>",
            "<500>",
            "<503>",
            "<filter>",
            "<hang>",
            "<cut>",
            "<echo>",
        ):
            try:
                found[kind] = await transport.send(ask(kind or "q"), 2.0)
            except RequestError as error:
                found[kind] = error
        await transport.close()
        return found

    found = remote.run_once(tried())
    assert found[""].texts == ("answer to q",) and found[""].completion_tokens == 5
    assert found["<echo>"].texts == ("your key is [redacted]",)
    assert found["<wait>"].retry_after == 1.0
    classes = {kind: error.failure for kind, error in found.items() if isinstance(error, RequestError)}
    assert classes == {
        "<400>": Failure.BAD_REQUEST,
        "<401>": Failure.AUTHENTICATION,
        "<404>": Failure.NOT_FOUND,
        "<wait>": Failure.RATE_LIMIT,
        "<500>": Failure.SERVER,
        "<503>": Failure.SERVER,
        "<filter>": Failure.CONTENT_POLICY,
        "<hang>": Failure.TIMEOUT,
        "<cut>": Failure.CONNECTION,
    }
    assert len(running.behaviour.seen) == 11
    assert not any(KEY in str(error) for error in found.values())


@pytest.mark.slow
def test_vllm_in_this_process(tiny, tmp_path):
    pytest.importorskip(
        "vllm", reason="vLLM is not installed here: pip install 'promptrec-bench[vllm]' on a machine with a GPU"
    )
    schema = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    with open_llm(f"vllm:{tiny}", cache_dir=tmp_path) as model:
        plain, guided, three, beams = answers(
            model,
            [
                ask("recommend titles", max_tokens=6),
                ask("x", schema, max_tokens=60),
                ask("x", max_tokens=6, n=3, temperature=1.0, seed=3),
                ask("x", max_tokens=5, n=4, beams=4),
            ],
        )
    assert plain.ok and guided.parsed in ({"a": True}, {"a": False}) and len(three.texts) == 3
    assert len(beams.texts) == 4 and list(beams.scores) == sorted(beams.scores, reverse=True)
