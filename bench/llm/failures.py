"""What went wrong with a request, and whether asking again can mend it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from bench.llm.contracts import Failure
from bench.provenance import HIDDEN, redact

FATAL = frozenset(
    {Failure.AUTHENTICATION, Failure.NOT_FOUND, Failure.BAD_REQUEST, Failure.CONTENT_POLICY, Failure.BUDGET}
)
DETAIL_LENGTH = 300
_BY_STATUS = {
    401: Failure.AUTHENTICATION,
    403: Failure.AUTHENTICATION,
    404: Failure.NOT_FOUND,
    408: Failure.TIMEOUT,
    409: Failure.SERVER,
    429: Failure.RATE_LIMIT,
}
_POLICY = ("content_filter", "content_policy", "responsibleaipolicyviolation", "content management policy")
# A provider says 429 for an empty account as well, which no waiting fills.
_QUOTA = ("insufficient_quota", "billing_hard_limit", "credit balance is too low")


class RequestError(Exception):
    """One attempt failed.

    Attributes:
        failure: the class.
        detail: one line without secrets.
        retry_after: seconds that the provider asks to wait, None if it does not say.
        retriable: whether another attempt can succeed.
        overload: whether the provider says that it is too busy, so that fewer requests should run at once.
        attempts: how many were made, where several were.
    """

    def __init__(
        self,
        failure: Failure,
        detail: str,
        *,
        retry_after: float | None = None,
        retriable: bool | None = None,
        overload: bool = False,
    ) -> None:
        super().__init__(f"{failure}: {detail}")
        self.failure, self.detail, self.retry_after = failure, detail, retry_after
        self.retriable = failure not in FATAL if retriable is None else retriable
        self.overload = overload or failure is Failure.RATE_LIMIT
        self.attempts = 1


class Scrubber:
    """Takes the secrets of an endpoint, and whatever looks like one, out of texts that others may see."""

    def __init__(self, secrets: tuple[str, ...] = ()) -> None:
        self._secrets = secrets

    def text(self, text: str) -> str:
        """The text without the endpoint's own secrets: for answers, in which nothing else may be touched."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, HIDDEN)
        return text

    def body(self, body: bytes) -> bytes:
        """The same for bytes."""
        for secret in self._secrets:
            coded = secret.encode()
            if coded in body:
                body = body.replace(coded, HIDDEN.encode())
        return body

    def line(self, text: str) -> str:
        """One short line for a detail or an error, without anything that looks like a secret."""
        shown = " ".join(redact(self.text(text)).split())
        return shown if len(shown) <= DETAIL_LENGTH else shown[: DETAIL_LENGTH - 3] + "..."


def from_status(status: int, headers: Mapping[str, str], body: bytes, scrubber: Scrubber) -> RequestError:
    """The failure that an HTTP reply other than 200 stands for.

    Args:
        status: HTTP status.
        headers: with names in lower case.
        body: the reply, JSON in the provider's form or anything else.
        scrubber: of the endpoint.
    """
    message, code = _message(body)
    text = f"HTTP {status}" + (f": {message}" if message else "")
    lowered = f"{code} {message}".lower()
    if any(mark in lowered for mark in _POLICY) and 400 <= status < 500:
        return RequestError(Failure.CONTENT_POLICY, scrubber.line(text))
    if 300 <= status < 400:
        text = f"HTTP {status}: the address redirects to {headers.get('location', 'nowhere')}; put that into api_base"
    failure = _BY_STATUS.get(status, Failure.SERVER if status >= 500 else Failure.BAD_REQUEST)
    heals = None if not any(mark in lowered for mark in _QUOTA) else False
    return RequestError(
        failure,
        scrubber.line(text),
        retry_after=retry_after(headers),
        retriable=heals,
        overload=status in (503, 529),
    )


def from_litellm(error: Exception, scrubber: Scrubber) -> RequestError:
    """The failure behind an exception of litellm, told by its status and its class's name."""
    name, text = type(error).__name__, str(error)
    if "ContentPolicy" in name or str(getattr(error, "code", "")).lower() in _POLICY:
        return RequestError(Failure.CONTENT_POLICY, scrubber.line(text))
    if name in ("Timeout", "APITimeoutError") or isinstance(error, TimeoutError):
        return RequestError(Failure.TIMEOUT, scrubber.line(text))
    # litellm gives a connection that could not be made, or that broke, status 500.
    if name == "APIConnectionError" or isinstance(error, ConnectionError) or text.endswith("Connection error."):
        return RequestError(Failure.CONNECTION, scrubber.line(text))
    if name in ("APIResponseValidationError", "JSONDecodeError"):
        return RequestError(Failure.MALFORMED, scrubber.line(text))
    status = getattr(error, "status_code", None)
    try:
        number = int(status) if status is not None else 0
    except (TypeError, ValueError):
        number = 0
    if not number:
        return RequestError(Failure.BAD_REQUEST, scrubber.line(f"{name}: {text}"))
    response = getattr(error, "response", None)
    headers = getattr(response, "headers", None) or getattr(error, "litellm_response_headers", None) or {}
    lowered = {str(key).lower(): str(value) for key, value in dict(headers).items()}
    found = from_status(number, lowered, text.encode(), scrubber)
    found.detail = scrubber.line(text)
    return found


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds that a reply asks to wait: `retry-after-ms`, or `Retry-After` as seconds or as a date."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        value = headers.get("retry-after")
        if value is None:
            return None
        try:
            seconds = float(value)
        except ValueError:
            seconds = parsedate_to_datetime(value).timestamp() - (time.time() if now is None else now)
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, seconds) if seconds == seconds and seconds != float("inf") else None


def _message(body: bytes) -> tuple[str, str]:
    """Message and code of an error body; whatever text there is when it has no known form."""
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return body[:500].decode("utf-8", "replace").strip(), ""
    error = value.get("error", value) if isinstance(value, dict) else value
    if isinstance(error, dict):
        message = error.get("message") or error.get("detail") or error.get("msg") or ""
        inner = error.get("innererror")
        code = f"{error.get('code') or ''} {error.get('type') or ''} {inner if isinstance(inner, dict) else ''}"
        return str(message), code
    return str(error)[:500], ""
