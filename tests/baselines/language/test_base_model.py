"""Base models: from scratch and from folders, and every refusal before any weights are read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from baselines.language import scratch, sources
from baselines.language.adapters import load_adapter, save_adapter
from baselines.language.base_model import Needs, open_base, reopen
from baselines.language.extras import require
from baselines.language.settings import BaseModelSettings
from bench.errors import InputError
from tests.tools.language_models import TEXTS, change_config, write_model

ALL = Needs(chat_template=True, tokens=("bos", "eos", "pad"), trains=True)


def opened(base_model: str | Path = "tiny", needs: Needs = ALL, seed: int = 0, **more):
    settings = BaseModelSettings(base_model=str(base_model), **more)
    return open_base(settings, texts=TEXTS, seed=seed, device="cpu", needs=needs)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def no_weights(monkeypatch):
    """Loading weights is an error."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", refuse)


def test_the_seed_decides_the_weights_from_scratch():
    one, same, other = opened(), opened(), opened(seed=1)
    assert one.identity == same.identity != other.identity
    pairs = list(zip(one.model.parameters(), same.model.parameters(), other.model.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)
    assert one.from_scratch and one.parameters == sum(a.numel() for a, _, _ in pairs)


def test_a_base_from_scratch_is_kept_whole(tmp_path):
    base = opened()
    with torch.no_grad():
        next(base.model.parameters()).add_(1.0)
    base.save(tmp_path)
    again = reopen(tmp_path, "cpu", ALL)
    assert again.identity == base.identity and again.from_scratch
    assert all(torch.equal(a, b) for a, b in zip(base.model.parameters(), again.model.parameters(), strict=True))
    text = base.tokenizer.apply_chat_template([{"role": "user", "content": "1. Heat\n2. Ran"}], tokenize=False)
    assert base.tokenizer(text).input_ids == again.tokenizer(text).input_ids


def test_of_a_pretrained_base_the_name_alone_is_kept(folder, tmp_path):
    base = opened(folder)
    assert not base.from_scratch
    base.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["base.json"]
    assert reopen(tmp_path, "cpu", ALL).identity == base.identity


def test_a_base_that_changed_is_refused(tmp_path):
    folder = write_model(tmp_path / "model")
    base = opened(folder)
    base.save(tmp_path)
    write_model(folder, shape="gpt2")
    with pytest.raises(InputError, match="has changed"):
        reopen(tmp_path, "cpu", ALL)


@pytest.mark.parametrize(
    ("made", "needs", "line"),
    [
        ({"chat_template": False}, ALL, "has no chat template"),
        ({"bos_token": None}, ALL, "has no bos token"),
        ({"eos_token": None, "pad_token": None}, Needs(), "has no eos and no pad token"),
    ],
)
def test_a_tokenizer_that_lacks_something_is_refused(made, needs, line, tmp_path, no_weights):
    with pytest.raises(InputError, match=line):
        opened(write_model(tmp_path, **made), needs)


def test_a_missing_pad_token_is_the_end_token(tmp_path):
    base = opened(write_model(tmp_path, pad_token=None), Needs())
    assert base.tokenizer.pad_token_id == base.tokenizer.eos_token_id


def test_what_does_not_fit_is_refused_by_its_size_on_disk(tmp_path, no_weights):
    folder = write_model(tmp_path)
    change_config(folder, dtype="bfloat16")
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(InputError) as refused:
        opened(folder, Needs(chat_template=True))
    line = str(refused.value)
    assert "billion weights) needs about" in line and "no GPU in use" in line and "base_model=tiny" in line
    assert "\n" not in line


def test_the_estimate_counts_what_is_trained(monkeypatch, tmp_path):
    source = sources.Source("seven", tmp_path, 14 * 10**9)
    monkeypatch.setattr(sources, "memory_of", lambda device: sources.Memory(24 * sources.GIB, "this has 24 GiB"))
    # 7e9 weights in bfloat16: 14 GB on a GPU with LoRA of half a percent, 28 GB in single precision.
    sources.refuse_too_large(source, stored=2, held=2, trained=0.005, device="cuda")
    with pytest.raises(InputError, match=r"serving .* needs about 31 GiB; this has 24 GiB"):
        sources.refuse_too_large(source, stored=2, held=4, trained=0.0, device="cpu")
    with pytest.raises(InputError, match=r"training .* needs about 141 GiB"):
        sources.refuse_too_large(source, stored=2, held=2, trained=1.0, device="cuda")


def test_code_of_a_model_runs_only_when_asked_to(tmp_path, no_weights):
    folder = write_model(tmp_path)
    change_config(folder, auto_map={"AutoConfig": "own.Own"})
    with pytest.raises(InputError, match="trust_remote_code=true"):
        opened(folder)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("./nowhere", "there is no such folder"),
        ("/no/such/folder", "there is no such folder"),
        ("nobody/nothing", "neither a folder nor to be had from the hub"),
    ],
)
def test_a_name_that_leads_nowhere(name, line, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=line):
        opened(name)


def test_a_gated_model_tells_the_way_in():
    import httpx
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    response = httpx.Response(403, request=httpx.Request("GET", "http://localhost"))
    line = str(sources._not_given("meta/closed", GatedRepoError("no", response=response)))
    assert line.startswith("base_model=meta/closed is gated: accept its terms") and "HF_TOKEN" in line
    line = str(sources._not_given("meta/absent", RepositoryNotFoundError("no", response=response)))
    assert "the hub has no such model" in line


def test_a_missing_package_is_named_with_what_to_install():
    require("json", "torch")
    with pytest.raises(InputError, match=r"needs no_such_package: pip install 'promptrec-bench\[train\]'"):
        require("torch", "no_such_package")


def test_folders_that_hold_no_model(tmp_path):
    with pytest.raises(InputError, match=r"no config\.json"):
        opened(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="holds no weights"):
        opened(tmp_path)


def test_an_adapter_belongs_to_a_base_and_a_catalogue(tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    module[0].requires_grad_(False)
    save_adapter(module, tmp_path, base="a", catalogue="films", size=2)
    assert set(load_file(tmp_path / "adapter.safetensors")) == {"1.weight", "1.bias"}
    other = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    other[0].requires_grad_(False)
    record = load_adapter(other, tmp_path, base="a", catalogue="films")
    assert record["size"] == 2 and torch.equal(other[1].weight, module[1].weight)
    with pytest.raises(InputError, match="trained on the base model a, not on b"):
        load_adapter(other, tmp_path, base="b", catalogue="films")
    with pytest.raises(InputError, match="trained on another catalogue"):
        load_adapter(other, tmp_path, base="a", catalogue="books")
    with pytest.raises(InputError, match="does not fit the model"):
        load_adapter(torch.nn.Linear(2, 1), tmp_path, base="a", catalogue=None)
    (tmp_path / "adapter.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="damaged"):
        load_adapter(other, tmp_path, base="a", catalogue=None)
    with pytest.raises(InputError, match="there is no adapter"):
        load_adapter(other, tmp_path / "nowhere", base="a", catalogue=None)


def test_units_are_one_token_and_stand_for_themselves(tmp_path):
    titles = ["The Lonely Window (2019)", "It", "Amélie, the (2001)"]
    texts = [f'Films: "{titles[0]}", "{titles[1]}".', f'Films: "{titles[2]}", "{titles[0]}".']
    fixed = scratch.fixed_parts(texts, titles)
    assert fixed == ['", "', 'Films: "']
    tokenizer = scratch.train_tokenizer(texts, 300, [*titles, *fixed])
    tokenizer.save_pretrained(tmp_path)
    from transformers import AutoTokenizer

    for each in (tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        assert all(len(each.tokenize(unit)) == 1 for unit in (*titles, *fixed))
        ids = each(texts[0], add_special_tokens=False).input_ids
        assert each.decode(ids) == texts[0] and len(ids) < 9
