import json

import pytest

from bench.llm import open_llm
from tests.tools.openai_server import KEY, Behaviour, Running


@pytest.fixture
def server():
    """Start servers that misbehave; all are stopped at the end."""
    running = []

    def start(**options):
        running.append(Running(Behaviour(**options)))
        return running[-1]

    yield start
    for one in running:
        one.close()


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Write a litellm configuration for a server."""
    monkeypatch.setenv("TEST_LLM_KEY", KEY)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def write(url, model="hosted_vllm/tiny", name="tiny", **params):
        lines = "".join(f"      {key}: {json.dumps(value)}\n" for key, value in params.items())
        text = (
            f"model_list:\n  - model_name: {name}\n    litellm_params:\n      model: {model}\n      api_base: {url}\n"
        )
        path = tmp_path / "llms.yaml"
        path.write_text(text + "      api_key: os.environ/TEST_LLM_KEY\n" + lines)
        return path

    return write


@pytest.fixture
def opened(server, config, tmp_path):
    """A server and a model on it, with a cache."""
    models = []

    def start(params=None, **options):
        own = {key: options.pop(key) for key in ("delay_s", "key", "schema", "n") if key in options}
        running = options.pop("running", None) or server(**own)
        options.setdefault("cache_dir", tmp_path / "out" / "llm-cache")
        model = open_llm("tiny", config(running.url, **(params or {})), **options)
        models.append(model)
        return running.behaviour, model

    yield start
    for model in models:
        model.close()
