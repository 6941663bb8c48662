"""The OpenAI chat form of requests and replies: on the wire, in batch files, and in what is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.llm import quick_json
from bench.llm.config import Endpoint
from bench.llm.contracts import ChatRequest, Failure
from bench.llm.failures import RequestError

ROUTE = "/chat/completions"
# Fields that config may hold under litellm's name and that the protocol knows under extra_body's.
_SPREAD = "extra_body"
_NOT_SENT = frozenset({"dropped", "custom_llm_provider", "api_version", "region_name", "organization", "project"})


@dataclass(slots=True)
class Reply:
    """What an engine gave for one request: n texts, and tokens where it counts them.

    `refused` is set where the provider itself says that the model declined; `scores` are log-probabilities of the texts.
    """

    texts: tuple[str, ...]
    finish: tuple[str, ...] = ()
    refused: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    scores: tuple[float, ...] | None = None
    logprobs: bool = False


def payload(request: ChatRequest, endpoint: Endpoint, *, native_schema: bool) -> dict[str, Any]:
    """The body of a chat request, for the endpoint's model.

    Args:
        request: what is asked.
        endpoint: whose own parameters go into the body, above the request's.
        native_schema: whether to send the schema as `response_format`.
    """
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": endpoint.identity.model.removeprefix(f"{endpoint.provider}/"),
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        "temperature": sampling.temperature,
        "max_tokens": sampling.max_tokens,
    }
    if sampling.top_p is not None:
        body["top_p"] = sampling.top_p
    if sampling.n > 1:
        body["n"] = sampling.n
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if request.schema is not None and native_schema:
        body["response_format"] = response_format(request.schema)
    for name, value in endpoint.identity.parameters.items():
        if name == _SPREAD and isinstance(value, dict):
            body.update(value)
        elif name not in _NOT_SENT:
            body[name] = value
    # The newest models of OpenAI refuse the old name, and no other server needs the new one.
    if "max_completion_tokens" in body or "//api.openai.com" in endpoint.identity.api_base:
        body.setdefault("max_completion_tokens", body["max_tokens"])
        del body["max_tokens"]
    for name in endpoint.drop:
        body.pop(name, None)
    return body


def response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    """`response_format` for a JSON Schema; strict where the schema allows it, since providers refuse strict ones otherwise."""
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": dict(schema), "strict": _strict(schema)},
    }


def read_reply(body: bytes | str | Mapping[str, Any], *, n: int = 1) -> Reply:
    """The reply in a chat completion.

    Args:
        body: JSON text or the parsed object.
        n: texts that were asked for; more are cut, fewer are given as they are.

    Raises:
        RequestError: MALFORMED where it is no chat completion or holds no choice; an `error` object in a reply of
            status 200 is classified by its code.
    """
    value: Any = body
    if isinstance(body, bytes | str):
        try:
            value = quick_json.load(body)
        except (ValueError, RecursionError):
            shown = body[:80] if isinstance(body, str) else body[:80].decode("utf-8", "replace")
            raise RequestError(Failure.MALFORMED, f"the reply is not JSON: {shown!r}") from None
    if not isinstance(value, dict):
        raise RequestError(Failure.MALFORMED, "the reply is no JSON object")
    if "choices" not in value and value.get("error"):
        error = value["error"]
        message = error.get("message", error) if isinstance(error, dict) else error
        raise RequestError(Failure.MALFORMED, f"status 200 with an error inside: {str(message)[:200]}")
    choices = value.get("choices")
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, dict) for choice in choices):
        raise RequestError(Failure.MALFORMED, "the reply holds no choices")
    texts, finish, refused = [], [], None
    for choice in choices[:n]:
        message = choice.get("message")
        if not isinstance(message, dict):
            raise RequestError(Failure.MALFORMED, "a choice holds no message")
        texts.append(_content(message.get("content")))
        finish.append(str(choice.get("finish_reason") or ""))
        refusal = message.get("refusal")
        if refused is None and isinstance(refusal, str) and refusal:
            refused = refusal
        elif refused is None and finish[-1] == "content_filter":
            refused = "the provider's content filter stopped the answer"
    usage = value.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    first = choices[0].get("logprobs")
    return Reply(
        tuple(texts),
        tuple(finish),
        refused,
        _count(usage.get("prompt_tokens")),
        _count(usage.get("completion_tokens")),
        logprobs=isinstance(first, dict) and bool(first.get("content")),
    )


def _content(content: Any) -> str:
    """Text of a message: a string, nothing, or a list of parts."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(part for part in parts if isinstance(part, str))
    raise RequestError(Failure.MALFORMED, f"a message's content is a {type(content).__name__}, not text")


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _strict(schema: Any) -> bool:
    if isinstance(schema, Mapping):
        properties = schema.get("properties")
        if schema.get("type") == "object" or properties is not None:
            named = set(properties) if isinstance(properties, Mapping) else set()
            if schema.get("additionalProperties") is not False or set(schema.get("required", ())) != named:
                return False
        return all(_strict(inner) for inner in schema.values())
    return all(_strict(inner) for inner in schema) if isinstance(schema, list | tuple) else True
