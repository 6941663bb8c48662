from importlib.util import find_spec

import pytest

from bench.errors import InputError
from bench.llm import open_llm
from bench.llm.config import bare_url, load_endpoint, model_names
from bench.llm.failures import Scrubber, from_status, retry_after
from bench.llm.stats import prices_of
from bench.llm.wire import payload, response_format
from tests.tools.asking import ask

GOOD = """
model_list:
  - model_name: qwen
    litellm_params: {model: hosted_vllm/Qwen/Qwen2.5-7B-Instruct, api_base: "http://me:pw-secret@localhost:8000/v1?token=abcdefgh"}
  - model_name: gpt
    litellm_params: {model: openai/gpt-4o-mini, api_key: os.environ/MY_KEY, reasoning_effort: low, rpm: 60}
  - model_name: claude
    litellm_params: {model: anthropic/claude-x, api_key: os.environ/OTHER_KEY, extra_body: {a: 1}}
litellm_settings: {drop_params: true}
"""


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "llms.yaml"
        path.write_text(text)
        return path

    return write


def test_an_entry_is_all_it_takes(file, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-123456789")
    path = file(GOOD)
    assert model_names(path) == ["qwen", "gpt", "claude"]
    qwen, gpt = load_endpoint("qwen", path), load_endpoint("gpt", path)
    assert qwen.direct and qwen.identity.api_base == "http://localhost:8000/v1"
    assert gpt.identity.parameters == {"reasoning_effort": "low"} and gpt.rpm == 60 and gpt.api_key == "sk-123456789"
    assert "sk-1234" not in repr(gpt) and "pw-secret" not in repr(qwen) and "abcdefgh" not in repr(qwen)
    assert {"pw-secret", "abcdefgh"} <= set(qwen.secrets)
    assert payload(ask("q"), qwen, native_schema=False)["model"] == "Qwen/Qwen2.5-7B-Instruct"
    # The official service takes the new name of the limit, and what a person pinned stands above the request.
    body = payload(ask("q", max_tokens=9), gpt, native_schema=False)
    assert body["max_completion_tokens"] == 9 and "max_tokens" not in body and body["reasoning_effort"] == "low"


WRONG = {
    "no model of that name": (GOOD, "qwem", "Did you mean 'qwen'?"),
    "variable not set": (GOOD, "claude", "OTHER_KEY, which is not set"),
    "key": (GOOD.replace("model_list", "model_lst"), "qwen", "under `model_list:`"),
    "section": (GOOD.replace("litellm_settings", "litelm_settings"), "qwen", "Did you mean 'litellm_settings'?"),
    "parameter": (GOOD.replace("api_base", "api_bas"), "qwen", "Did you mean 'api_base'?"),
    "entry key": (GOOD.replace("- model_name: qwen", "- model_name: qwen\n    litelm: 1"), "qwen", "unknown key"),
    "type": (GOOD.replace("rpm: 60", "rpm: many"), "gpt", "litellm_params.rpm"),
    "not YAML": ("model_list: [", "qwen", "line 1"),
    "twice": (GOOD.replace("name: gpt", "name: qwen"), "qwen", "2 times"),
    "scheme": (GOOD.replace('"http://me:pw-secret@', '"me@'), "qwen", "http://"),
    "no params": ("model_list: [{model_name: qwen}]", "qwen", "litellm_params"),
    "no base": ("model_list: [{model_name: q, litellm_params: {model: hosted_vllm/x}}]", "q", "needs api_base"),
    "no key": ("model_list: [{model_name: q, litellm_params: {model: openai/x}}]", "q", "api_key is missing"),
    "an entry that is a word": ("model_list: [x]", "qwen", "unknown language model"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_wrong_input_is_one_line_with_file_and_key(file, monkeypatch, fault):
    text, name, told = WRONG[fault]
    monkeypatch.setenv("MY_KEY", "sk-123456789")
    for variable in ("OTHER_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE", "HOSTED_VLLM_API_BASE"):
        monkeypatch.delenv(variable, raising=False)
    path = file(text)
    with pytest.raises(InputError) as raised:
        load_endpoint(name, path)
    line = str(raised.value)
    assert told in line and str(path) in line and "\n" not in line and "pw-secret" not in line


def test_a_missing_file_is_wrong_input(tmp_path):
    with pytest.raises(InputError, match="--llm-config"):
        load_endpoint("x", tmp_path / "none.yaml")
    with pytest.raises(InputError, match="--llm-config"):
        open_llm("x", cache_dir=None)


def test_max_cost_needs_a_price(file):
    path = file(GOOD)
    with pytest.raises(InputError, match="input_cost_per_token"):
        open_llm("qwen", path, cache_dir=None, max_cost=1.0)


def test_prices_come_from_the_file_or_the_cost_map_and_are_else_unknown(file, monkeypatch):
    if find_spec("litellm") is None:
        pytest.skip("litellm, which has the prices, is not installed")
    monkeypatch.setenv("MY_KEY", "sk-123456789")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    path = file(GOOD)
    known = prices_of(load_endpoint("gpt", path))
    assert known is not None and 0 < known[0] < known[1] < 1e-3
    assert prices_of(load_endpoint("qwen", path)) is None
    own = GOOD.replace("rpm: 60", "input_cost_per_token: 1.0, output_cost_per_token: 2.0")
    assert prices_of(load_endpoint("gpt", file(own))) == (1.0, 2.0)


def test_engines_that_are_not_there_are_wrong_input(tmp_path):
    with pytest.raises(InputError, match="no folder"):
        open_llm(f"hf:{tmp_path / 'none'}", cache_dir=None)
    with pytest.raises(InputError, match=r"config\.json"):
        open_llm(f"hf:{tmp_path}", cache_dir=None)
    with pytest.raises(InputError, match="names no model"):
        open_llm("hf:", cache_dir=None)


def test_retry_after_in_every_form():
    assert retry_after({"retry-after": "7"}) == 7
    assert retry_after({"retry-after-ms": "250"}) == 0.25
    assert retry_after({"retry-after": "Wed, 21 Oct 2026 07:28:05 GMT"}, now=1792567680.0) == pytest.approx(5.0)
    assert retry_after({}) is None and retry_after({"retry-after": "soon"}) is None
    assert retry_after({"retry-after": "-3"}) == 0.0 and retry_after({"retry-after": "nan"}) is None


def test_details_are_short_lines_without_secrets():
    scrubber = Scrubber(("my-own-secret",))
    body = b'{"error": {"message": "bad key my-own-secret or sk-abcdefghijk\\n' + b"x" * 900 + b'"}}'
    detail = from_status(401, {}, body, scrubber).detail
    assert "my-own-secret" not in detail and "sk-abc" not in detail and len(detail) <= 300 and "\n" not in detail


def test_addresses_lose_what_is_secret():
    assert bare_url("https://user:pass@host:8443/v1/?key=1") == "https://host:8443/v1"


def test_strict_only_where_the_schema_allows_it():
    loose = {"type": "object", "properties": {"a": {"type": "string"}}}
    strict = loose | {"required": ["a"], "additionalProperties": False}
    assert response_format(loose)["json_schema"]["strict"] is False
    assert response_format(strict)["json_schema"]["strict"] is True
    assert response_format({"type": "array", "items": loose})["json_schema"]["strict"] is False
