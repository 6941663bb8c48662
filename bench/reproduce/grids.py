"""The grid behind each table: its rows (a model and its settings) and columns (task, window, metric).

A grid is data: a row more is a line more. A row without a model is printed with its published values alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from bench.cards import Information
from bench.errors import InputError, unknown_name

FOUR = ("ndcg@10", "ndcg@20", "recall@10", "recall@20")
# The paper's backbones, and with them those that it has no values of, as they are called in the names of models.
BACKBONES = {"sasrec": "sas", "gru4rec": "gru"}
SHORT = BACKBONES | {"bert4rec": "bert4rec"}
# How many of a backbone's best a language model reranks (Section 4.3.2).
SIZES = (20, 30, 50, 100)

# What a prompt tells in each task. Refusals never quote tags, so NEG has the same prompts in `tag` as in `genres`
# (protocol `paper`) and is asked once.
CONDITIONS: dict[str, tuple[str, ...]] = {"seq": (), "pos": ("genre", "genres", "tag"), "neg": ("genre", "genres")}
# The kind of prompt that is rendered for models that do not read it.
UNREAD = "genre"

ALL, STEERED = ("seq", "pos", "neg"), ("pos", "neg")


@dataclass(frozen=True)
class Row:
    """A line of a table.

    `label` is the paper's name of the model (the key of its published values), `model` ours, `told` what the model is
    told beyond the history, `base` the model that is trained underneath and shared with other rows, `llm` the language
    model that it asks, as given to `--llm`. `gpu` is how many GiB of a GPU's memory its model needs, 0 for none: without a
    GPU the row keeps its published values.
    """

    label: str
    model: str | None
    backbone: str | None = None
    told: Information = "none"
    tasks: tuple[str, ...] = ALL
    settings: dict[str, Any] = field(default_factory=dict)
    base: str | None = None
    llm: str | None = None
    gpu: int = 0

    @property
    def key(self) -> str:
        """Model, settings and language model: two rows with one key are one contestant."""
        asked = [] if self.llm is None else [f"llm={shown(self.llm)}"]
        values = [f"{name}={self.settings[name]}" for name in sorted(self.settings)]
        return " ".join([self.model or self.label, *values, *asked])

    def conditions(self, task: str, told: Information | None = None) -> tuple[str, ...]:
        """The conditions in which the row is asked: "none", "oracle", or every kind of prompt of the task."""
        told = told or self.told
        if task in CONDITIONS and not CONDITIONS[task]:
            return ("none",)
        return CONDITIONS.get(task, ("free",)) if told == "prompt" else (told,)


@dataclass(frozen=True)
class Grid:
    """A table: `numbers` are the paper's tables by dataset; `windows` says whether cells are means over N or each N.

    `asking` gives the rows of a language model that is named, `note` says how they are asked (of a judged table, how to read
    it). In a `judged` table the values are scores of judges.
    """

    name: str
    title: str
    numbers: dict[str, int]
    rows: tuple[Row, ...]
    tasks: tuple[str, ...] = ALL
    metrics: tuple[str, ...] = FOUR
    windows: Literal["mean", "each"] = "mean"
    asking: Callable[[str], tuple[Row, ...]] | None = None
    note: str = ""
    judged: bool = False

    @property
    def asks(self) -> bool:
        """Whether a row of it asks a language model."""
        return any(row.llm is not None for row in self.rows)

    @property
    def models(self) -> list[str]:
        """Names of the models that the grid runs, without repeats."""
        return list(dict.fromkeys(row.model for row in self.rows if row.model is not None))


def dpr(backbone: str, label: str = "DPR", tasks: tuple[str, ...] = ALL, **settings: Any) -> Row:
    """DPR over a backbone, with the settings of an ablation."""
    return Row(label, f"dpr_{SHORT[backbone]}", backbone, "prompt", tasks, settings, base=backbone)


def fine_tuned(backbone: str) -> tuple[Row, ...]:
    """The backbone, +f (next-item fine-tuning) and +f+a (then on target sets without the prompt)."""
    return (
        Row("Base", backbone, backbone),
        Row("+f", f"{backbone}_f", backbone, base=backbone),
        Row("+f+a", f"{backbone}_fa", backbone, base=f"{backbone}_f"),
    )


def filters(backbone: str, parsed: bool = False) -> tuple[Row, ...]:
    """The paper's Filter over each of the three, told the task's own label; or filters that read it from the prompt."""
    short = BACKBONES[backbone]
    told: Information = "prompt" if parsed else "oracle"
    name, end = ("Parsed filter", "_parsed") if parsed else ("Filter", "")
    return tuple(
        Row(f"{name}{plus}", f"filter_{short}{middle}{end}", backbone, told, STEERED, base=f"{backbone}{middle}")
        for plus, middle in (("", ""), (" +f", "_f"), (" +f+a", "_fa"))
    )


def _main(tasks: tuple[str, ...] = ALL) -> tuple[Row, ...]:
    return tuple(
        row
        for backbone in BACKBONES
        for row in (
            *fine_tuned(backbone),
            *filters(backbone),
            *filters(backbone, parsed=True),
            dpr(backbone),
        )
        if set(row.tasks) & set(tasks)
    )


def _controls() -> tuple[Row, ...]:
    """Rows below those of the paper: retrieval by the words alone over the backbone, and a backbone that it left out."""
    return (
        Row("Text + backbone", "text_retrieval_sas", "sasrec", "prompt", base="sasrec"),
        Row("Base", "bert4rec", "bert4rec"),
        dpr("bert4rec"),
    )


def _ablation(tasks: tuple[str, ...], variants: dict[str, dict[str, Any]]) -> tuple[Row, ...]:
    return tuple(
        dpr(backbone, f"DPR {name}", tasks, **values) for backbone in BACKBONES for name, values in variants.items()
    )


def _generators() -> tuple[Row, ...]:
    names = ("Qwen2.5-7B", "Llama-2-7b", "DeepSeek-V3", "GPT-5.2")
    return (
        *(Row(name, None) for name in names),
        Row("RecGPT-7B", "recgpt", None, "prompt", gpu=24),
        # The paper does not say whether its RecLM-gen had the second stage.
        Row("RecLM-gen", "reclm_gen", None, "prompt", base="sasrec", gpu=24),
        Row("RecLM-gen + RL", "reclm_gen", None, "prompt", settings={"stage": "rl"}, base="sasrec", gpu=40),
        Row(
            "RecLM-gen, small, from scratch",
            "reclm_gen",
            None,
            "prompt",
            settings={"base_model": "small"},
            base="sasrec",
        ),
        *(dpr(backbone) for backbone in BACKBONES),
    )


def _recommending(llm: str) -> tuple[Row, ...]:
    """A language model that names titles: one list of ten and, where its engine can search beams, ten of one title."""
    decoders = ("list", "beams") if local(llm) else ("list",)
    return tuple(
        Row(f"{shown(llm)}, {decoder}", "zero_shot", None, "prompt", settings={"decoder": decoder}, llm=llm)
        for decoder in decoders
    )


def _reranking(llm: str) -> tuple[Row, ...]:
    """A language model that reranks the best K of the plain backbones. Twenty are one window, so sliding begins at 30."""
    return tuple(
        Row(
            f"{shown(llm)} K={size} {mode}",
            "rerank_sas",
            backbone,
            "prompt",
            STEERED,
            {"base": backbone, "candidates": size, "mode": mode},
            backbone,
            llm,
        )
        for backbone in BACKBONES
        for mode in ("single", "sliding")
        for size in SIZES
        if mode == "single" or size > SIZES[0]
    )


def _rerankers() -> tuple[Row, ...]:
    sizes = (("Llama2-7b", 20), ("Llama2-7b", 30), ("DeepSeek-V3", 20), ("DeepSeek-V3", 50), ("DeepSeek-V3", 100))
    return tuple(
        row
        for backbone in BACKBONES
        for row in (
            *(Row(f"{name} K={size}", None, backbone, tasks=STEERED) for name, size in sizes),
            dpr(backbone, tasks=STEERED),
        )
    )


NUANCED = ("nuanced",)
# The rows of Table 4: DPR-Rand is served with other requests' prompts.
DPR_RAND = dpr("sasrec", "DPR-Rand", NUANCED, prompt="mismatched")


def _judged() -> tuple[Row, ...]:
    return (
        Row("Base", "sasrec", "sasrec", tasks=NUANCED),
        Row("GPT-5.2", None, tasks=NUANCED),
        DPR_RAND,
        dpr("sasrec", tasks=NUANCED),
        Row("DPR plus", "dpr_sas_plus", "sasrec", "prompt", NUANCED, base="sasrec_fa"),
    )


def _answering(llm: str) -> tuple[Row, ...]:
    """A language model that answers nuanced requests with titles."""
    return (Row(shown(llm), "zero_shot", None, "prompt", NUANCED, llm=llm),)


_MAIN = {"ml-1m": 1, "mind": 1}
_ABLATIONS: dict[str, tuple[str, int, tuple[str, ...], dict[str, dict[str, Any]]]] = {
    "table8": ("Stages: three (genres, then tags) or two (tags at once)", 8, ALL, {"3-S": {}, "2-S": {"stages": 2}}),
    "table9": (
        "Losses: both, without negative targets, without positive targets",
        9,
        STEERED,
        {"Full": {}, "Pos": {"loss": "pos"}, "Neg": {"loss": "neg"}},
    ),
    "table10": ("Towers: one for each polarity, or one for both", 10, STEERED, {"2-T": {}, "1-T": {"towers": 1}}),
}

GRIDS: dict[str, Grid] = {
    grid.name: grid
    for grid in (
        Grid("table1", "Main comparison, means over N", _MAIN, (*_main(), *_controls())),
        Grid(
            "table2",
            "Language models that recommend",
            {"ml-1m": 2},
            _generators(),
            metrics=("recall@10", "ndcg@10"),
            asking=_recommending,
            note="RecGPT and RecLM-gen have seven billion weights and are measured where there is a GPU; a RecLM-gen of a few "
            "million weights, trained from scratch, stands beside them. Measured language models: `list` is one greedy list of ten titles, `beams` are ten beams of one title each "
            "(the paper's decoder), which only engines in this process can search. The paper asked DeepSeek-V3 and GPT-5.2 "
            "for 1,000 users (`--limit 1000`).",
        ),
        Grid(
            "table3",
            "Language models that rerank",
            {"ml-1m": 3},
            _rerankers(),
            tasks=STEERED,
            asking=_reranking,
            note="Measured language models rerank the best K of the plain backbone, as the paper says and its Recall@20 at "
            "K = 20 confirms. `single` is one prompt with all K (the paper's Context), `sliding` windows of 20 moved by 10 "
            "from the tail to the head; for K = 20 both are the same.",
        ),
        Grid(
            "table4",
            "Nuanced requests, scored by a judge from 1 to 10",
            {"ml-1m": 4},
            _judged(),
            tasks=NUANCED,
            metrics=("intent_fulfillment", "history_alignment", "overall_score"),
            asking=_answering,
            note="Every judge has its own scale, and the paper's own judge is a language model: compare the order of models under "
            "one judge, not values across judges. The proxy is no language model. DPR-Rand gets the prompt of another request.",
            judged=True,
        ),
        Grid("table6", "Main comparison, each N", {"ml-1m": 6, "mind": 7}, _main(STEERED), STEERED, windows="each"),
        Grid("table7", "Main comparison, each N", {"ml-1m": 6, "mind": 7}, _main(STEERED), STEERED, windows="each"),
        *(
            Grid(name, title, {"ml-1m": number, "mind": number}, _ablation(tasks, variants), tasks)
            for name, (title, number, tasks, variants) in _ABLATIONS.items()
        ),
    )
}


def grid(name: str) -> Grid:
    """The grid of a table.

    Raises:
        InputError: there is no such table (with the nearest one).
    """
    if name not in GRIDS:
        raise unknown_name("table", name, GRIDS)
    return GRIDS[name]


def local(llm: str) -> bool:
    """Whether a language model runs in this process (`hf:NAME`, `vllm:NAME`)."""
    # The client is imported for tables that name a language model alone.
    from bench.llm.opening import is_engine

    return is_engine(llm)


def shown(llm: str) -> str:
    """The name of a language model as it may be published: of a local folder the last part alone."""
    engine, colon, path = llm.partition(":")
    return f"{engine}:{Path(path).name}" if colon and Path(path).is_absolute() else llm


def with_llms(grid: Grid, llms: tuple[str, ...]) -> Grid:
    """The grid with the rows of some language models below the published ones.

    Raises:
        InputError: the table has no such rows, or a name stands twice.
    """
    if not llms:
        return grid
    if grid.asking is None:
        able = ", ".join(other.name for other in GRIDS.values() if other.asking is not None)
        raise InputError(f"{grid.name} asks no language model: leave out --llm (it is for {able}).")
    names = [shown(llm) for llm in llms]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--llm {name} is given twice.")
    return replace(grid, rows=(*grid.rows, *(row for llm in llms for row in grid.asking(llm))))


def choose(rows: Iterable[Row], only: tuple[str, ...], models: list[str]) -> list[Row]:
    """The rows of the models named in `only` (all of them when empty).

    Raises:
        InputError: a name that is no model of the grid.
    """
    for name in only:
        if name not in models:
            raise unknown_name("model of this table", name, models)
    return [row for row in rows if not only or row.model in only]
