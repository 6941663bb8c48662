"""Cards: what a task, model, dataset or encoder says about itself. Read by people (`bench show`) and by the board."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.errors import InputError, unknown_name

Information = Literal["none", "prompt", "oracle"]


class Card(BaseModel):
    """Fields that every card has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: int = 1
    summary: str
    citation: str = ""
    licence: str = ""


class TaskCard(Card):
    """A task: what is asked, what counts as right, and the evidence behind the choices (`notes`)."""

    main_metric: str
    metrics: tuple[str, ...]
    prompted: bool
    notes: tuple[str, ...] = ()
    # Nobody knows the right answer: a judge scores the rankings afterwards (`bench judge`).
    judged: bool = False


class ModelCard(Card):
    """A recommender. `information` is what it is told about the request beyond the history.

    `none`: nothing; `prompt`: the text of the prompt; `oracle`: the task's own label behind the prompt.
    `max_k` is the length of its rankings where that is below the harness's depth: no metric beyond it is reported.
    """

    information: Information
    training_datasets: tuple[str, ...] = ("the dataset it is run on",)
    needs: tuple[str, ...] = ()
    max_k: int | None = None
    settings: dict[str, str] = {}
    notes: tuple[str, ...] = ()


class DatasetCard(Card):
    """A dataset and where it comes from."""

    domain: Literal["film", "news", "book", "product"]
    source: str
    # Whether there are files that a person may name the folder of.
    reads_files: bool = True
    sha256: str = ""
    windows: tuple[int, ...] = (3, 5, 10)
    # Defaults that suit the dataset's size, for models that have such a setting (dotted keys reach into nested ones);
    # what a person sets goes before them.
    model_settings: dict[str, Any] = {}


class EncoderCard(Card):
    """A sentence encoder; `sha256` is that of its weights where the project pins them."""

    dimension: int | None = None
    sha256: str = ""


class JudgeCard(Card):
    """A judge of recommendation lists. Scores of judges that are language models and of others are never mixed.

    `reads_refusals` is False where "no horror" reads to it like a wish for horror: it is given no such requests.
    """

    is_llm: bool
    needs: tuple[str, ...] = ()
    reads_refusals: bool = True
    settings: dict[str, str] = {}
    notes: tuple[str, ...] = ()


class RouterCard(Card):
    """A router: decides from its text alone whether a prompt asks for something or refuses it."""


class Settings(BaseModel):
    """Base of every settings model: unknown keys are refused, values are checked, instances do not change.

    `places` are settings that say where something lies; what is in it is told by another setting (a digest), so they are no
    part of an identity.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    places: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def described(cls) -> dict[str, str]:
        """Setting to its description, as a card lists them."""
        return {name: field.description or "" for name, field in cls.model_fields.items()}

    @classmethod
    def has(cls, key: str) -> bool:
        """Whether there is a setting of that (dotted) name."""
        first, _, rest = key.partition(".")
        field = cls.model_fields.get(first)
        inner = None if field is None else field.annotation
        if not rest:
            return field is not None
        return isinstance(inner, type) and issubclass(inner, Settings) and inner.has(rest)

    @classmethod
    def fitting(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Those of the values by (dotted) name that there are settings for, such as a dataset's for any model."""
        return {key: value for key, value in values.items() if cls.has(key)}

    @classmethod
    def parse(cls, owner: str, values: dict[str, Any]) -> Self:
        """Build the settings of `owner` from strings such as those of `--set`.

        A dotted key reaches into nested settings: `backbone.epochs=5`.

        Raises:
            InputError: an unknown key (with a suggestion) or a value that does not fit.
        """
        nested: dict[str, Any] = {}
        for key, value in values.items():
            known: type[BaseModel] = cls
            at = nested
            *outer, last = key.split(".")
            for depth, part in enumerate([*outer, last]):
                if part not in known.model_fields:
                    prefix = ".".join([*outer, last][:depth])
                    raise unknown_name(f"setting of {owner}{'.' if prefix else ''}{prefix}", part, known.model_fields)
                inner = known.model_fields[part].annotation
                if depth < len(outer):
                    if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
                        raise InputError(
                            f"setting {part} of {owner} has no settings of its own, so {key!r} means nothing."
                        )
                    known = inner
                    at = at.setdefault(part, {})
            at[last] = value
        try:
            return cls.model_validate(nested)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise InputError(f"setting {key} of {owner}: {first['msg']} (got {first['input']!r}).") from None
