"""The file that plugs language models in: litellm's own format, read strictly.

```yaml
model_list:
  - model_name: qwen2.5-7b
    litellm_params: {model: hosted_vllm/Qwen/Qwen2.5-7B-Instruct, api_base: "http://localhost:8000/v1"}
  - model_name: gpt-5.2
    litellm_params: {model: openai/gpt-5.2, api_key: os.environ/OPENAI_API_KEY}
```

What an entry says about generation (`temperature`, `reasoning_effort`, `extra_body`, ...) goes into every request and
stands above what the caller asks for, since a person pinned it there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.errors import InputError, unknown_name
from bench.llm.contracts import Identity

ENVIRONMENT = "os.environ/"
# Parts of a litellm configuration that concern its proxy server; allowed, so that one file serves both.
PROXY_SECTIONS = ("litellm_settings", "router_settings", "general_settings", "environment_variables")
# Settings of requests: they change the answer and belong to the model's identity.
GENERATION = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "max_tokens",
    "max_completion_tokens",
    "seed",
    "stop",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "logit_bias",
    "reasoning_effort",
    "thinking",
    "verbosity",
    "service_tier",
    "chat_template_kwargs",
    "extra_body",
)
# Settings of a cloud account that litellm takes; where a model runs may change what it says, credentials do not.
PLACES = (
    "api_version",
    "custom_llm_provider",
    "aws_region_name",
    "aws_bedrock_runtime_endpoint",
    "vertex_project",
    "vertex_location",
    "region_name",
    "organization",
    "project",
)
SECRETS = (
    "api_key",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "aws_profile_name",
    "vertex_credentials",
    "azure_ad_token",
    "client_secret",
    "client_id",
    "tenant_id",
    "token",
)
# Providers that speak plain OpenAI, and where litellm looks for their address and key when an entry gives none.
DIRECT = {
    "openai": (("OPENAI_BASE_URL", "OPENAI_API_BASE"), "https://api.openai.com/v1", "OPENAI_API_KEY"),
    "hosted_vllm": (("HOSTED_VLLM_API_BASE",), "", "HOSTED_VLLM_API_KEY"),
}


class LitellmParams(BaseModel):
    """`litellm_params` of an entry. `rpm` and `tpm` are limits a minute, `timeout` is in seconds, prices in US dollars."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())

    model: str
    api_base: str | None = None
    base_url: str | None = None
    api_key: str | None = None
    timeout: float | None = None
    rpm: int | None = None
    tpm: int | None = None
    max_parallel_requests: int | None = None
    input_cost_per_token: float | None = None
    output_cost_per_token: float | None = None
    extra_headers: dict[str, str] | None = None
    additional_drop_params: list[str] | None = None
    drop_params: bool | None = None


class Entry(BaseModel):
    """One model of the list."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    model_name: str
    litellm_params: LitellmParams
    model_info: dict[str, Any] | None = None


@dataclass(frozen=True)
class Endpoint:
    """A model ready to be asked: its identity, the limits, and the secrets, which no `repr` shows.

    Attributes:
        identity: what changes the answer.
        provider: the part of the model before the first slash.
        url: base address with credentials and query, "" for litellm's default.
        drop: request fields that the model does not take.
        arguments: further arguments for litellm (places and credentials).
        secrets: every string that must never be shown.
    """

    identity: Identity
    provider: str
    url: str = field(default="", repr=False)
    api_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    arguments: Mapping[str, Any] = field(default_factory=dict, repr=False)
    drop: frozenset[str] = frozenset()
    timeout: float | None = None
    rpm: int | None = None
    tpm: int | None = None
    connections: int | None = None
    prices: tuple[float, float] | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def direct(self) -> bool:
        """Whether the provider speaks plain OpenAI, so that no translation by litellm is needed."""
        return self.provider in DIRECT


def load_endpoint(name: str, path: Path) -> Endpoint:
    """Find a model in a configuration file and resolve its environment variables.

    Raises:
        InputError: the file is missing or malformed, has an unknown key, has no model of that name, or wants an
            environment variable that is not set (only those of the model asked for).
    """
    rows = _rows(path)
    names = [row.get("model_name") if isinstance(row, dict) else None for row in rows]
    if name not in names:
        raise unknown_name(f"language model in {path}", name, [str(found) for found in names if found])
    if names.count(name) > 1:
        raise InputError(f"{path}: model_name {name!r} stands there {names.count(name)} times; give each its own name.")
    place = names.index(name)
    where = f"{path}: model_list[{place}] ({name})"
    entry = _entry(rows[place], where)
    return _endpoint(entry, where)


def model_names(path: Path) -> list[str]:
    """Names of all models of a file, in its order.

    Raises:
        InputError: the file is missing or malformed.
    """
    return [str(row["model_name"]) for row in _rows(path) if isinstance(row, dict) and "model_name" in row]


def bare_url(url: str) -> str:
    """An address without user, password, query and closing slash: what may be shown."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))


def _rows(path: Path) -> list[Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(f"there is no configuration of language models at {path} (--llm-config FILE).") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        # The text around the mark is left out: it may be a key.
        raise InputError(f"{path}{line}: not YAML: {getattr(error, 'problem', None) or 'malformed'}.") from None
    if not isinstance(content, dict) or not isinstance(content.get("model_list"), list):
        raise InputError(f"{path}: there must be a list under `model_list:` (litellm's format).")
    for key in content:
        if key != "model_list" and key not in PROXY_SECTIONS:
            raise unknown_name(f"key in {path}", str(key), ["model_list", *PROXY_SECTIONS])
    return content["model_list"]


def _entry(row: Any, where: str) -> Entry:
    params = row.get("litellm_params")
    known = {*LitellmParams.model_fields, *GENERATION, *PLACES, *SECRETS}
    for kind, values, names in (("key", row, set(Entry.model_fields)), ("litellm_params key", params, known)):
        for key in values if isinstance(values, dict) else ():
            if key not in names:
                raise unknown_name(f"{kind} in {where}", str(key), names)
    params = {key: _resolve(value, f"{where}: {key}") for key, value in (params or {}).items()} if params else params
    try:
        return Entry.model_validate(row | {"litellm_params": params})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise InputError(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}.") from None


def _resolve(value: Any, where: str) -> Any:
    if isinstance(value, dict):
        return {key: _resolve(inner, f"{where}.{key}") for key, inner in value.items()}
    if isinstance(value, list):
        return [_resolve(inner, where) for inner in value]
    if not (isinstance(value, str) and value.startswith(ENVIRONMENT)):
        return value
    variable = value.removeprefix(ENVIRONMENT)
    if not os.environ.get(variable):
        raise InputError(f"{where} wants the environment variable {variable}, which is not set: export {variable}=...")
    return os.environ[variable]


def _endpoint(entry: Entry, where: str) -> Endpoint:
    params = entry.litellm_params
    extra: dict[str, Any] = params.model_extra or {}
    provider = extra.get("custom_llm_provider") or params.model.partition("/")[0]
    url, key = params.api_base or params.base_url or "", params.api_key
    if provider in DIRECT:
        variables, default, key_variable = DIRECT[provider]
        url = url or next((os.environ[name] for name in variables if os.environ.get(name)), default)
        key = key or os.environ.get(key_variable)
    if url and urlsplit(url).scheme not in ("http", "https"):
        raise InputError(f"{where}: api_base must begin with http:// or https://, got {bare_url(url)!r}.")
    if provider in DIRECT and not url:
        raise InputError(f"{where}: a {provider} model needs api_base, such as http://localhost:8000/v1.")
    if provider == "openai" and not key and urlsplit(url).hostname == "api.openai.com":
        raise InputError(f"{where}: api_key is missing: add api_key: os.environ/OPENAI_API_KEY and export it.")
    places = {name: extra[name] for name in PLACES if name in extra}
    credentials = {name: extra[name] for name in SECRETS if name in extra}
    generation = {name: extra[name] for name in GENERATION if name in extra}
    drop = frozenset(params.additional_drop_params or ())
    added = generation | places | ({"dropped": sorted(drop)} if drop else {})
    prices = (params.input_cost_per_token, params.output_cost_per_token)
    return Endpoint(
        identity=Identity(entry.model_name, params.model, "litellm", bare_url(url) if url else "", added),
        provider=provider,
        url=url,
        api_key=key,
        headers=params.extra_headers or {},
        arguments=places | credentials | ({"drop_params": True} if params.drop_params else {}),
        drop=drop,
        timeout=params.timeout,
        rpm=params.rpm,
        tpm=params.tpm,
        connections=params.max_parallel_requests,
        prices=(prices[0], prices[1]) if prices[0] is not None and prices[1] is not None else None,
        secrets=_secrets(key, url, params.extra_headers or {}, credentials),
    )


def _secrets(key: str | None, url: str, headers: Mapping[str, str], credentials: Mapping[str, Any]) -> tuple[str, ...]:
    """Strings to scrub; very short ones are left, since they would blot out innocent text."""
    parts = urlsplit(url) if url else None
    found = [key, *headers.values(), *(str(value) for value in credentials.values())]
    if parts is not None:
        found += [parts.password, *(pair.partition("=")[2] for pair in parts.query.split("&"))]
    # "Bearer sk-..." must also be found where only the second word is echoed.
    words = [word for text in found if text for word in (text, *text.split())]
    return tuple(sorted({word for word in words if len(word) >= 6}, key=len, reverse=True))
