"""What commands share that have a language model write something: their flags, and how a report is shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from bench.cli.console import console, dollars, emit_json
from bench.cli.run import AskingFlags, show_plan

if TYPE_CHECKING:
    from rich.console import Console

SHOWN = 5


@Parameter(name="*")
@dataclass(frozen=True)
class WritingFlags(AskingFlags):
    """Who writes, what it may cost, and where it goes."""

    llm: Annotated[
        str | None, Parameter(help="Language model: a model_name of the configuration, hf:PATH or vllm:PATH.")
    ] = None
    llm_config: Annotated[Path | None, Parameter(help="Its configuration file, in litellm's format.")] = None
    to: Annotated[Path | None, Parameter(help="The file to write, where not the usual one.")] = None
    replace: Annotated[bool, Parameter(help="Write over a file that something else was asked for.")] = False
    attempts: Annotated[int, Parameter(help="How often something is asked for at the most until it is good.")] = 3
    out: Annotated[Path, Parameter(help="Folder of results; answers are cached in OUT/llm-cache.")] = Path("results")
    json: Annotated[bool, Parameter(help="One JSON document on stdout.")] = False


def write_or_plan(
    author: str, flags: WritingFlags, dataset: str, data_dir: Path | None, settings: dict[str, Any]
) -> dict[str, Any] | None:
    """Carry a writing command out, and show its report; gives the report. With `--plan` show what it would ask; gives None."""
    from bench import progress
    from bench.writing import WriteConfig, carry_out, find_author, foresee

    config = WriteConfig.parse(
        find_author(author).command,
        {
            "author": author,
            "dataset": dataset,
            "data_dir": data_dir,
            "to": flags.to,
            "replace": flags.replace,
            "attempts": flags.attempts,
            "settings": settings,
            "out": flags.out,
            "llm": flags.llm,
            "llm_config": flags.llm_config,
            **flags.limits(),
        },
    )
    with progress.for_terminal(quiet=flags.json) as bars:
        found = foresee(config, bars) if flags.plan else carry_out(config, bars)
    if flags.plan:
        show_plan(found, flags.json)
        return None
    if flags.json:
        emit_json(found)
    else:
        _show(console(), found)
    return found


def _show(screen: Console, report: dict[str, Any]) -> None:
    def line(text: str, **style: Any) -> None:
        screen.print(text, soft_wrap=True, markup=False, **style)

    cost, left_out = report["cost"], report["left_out"]
    price = dollars(cost.get("price"))
    line(
        f"{report['written']} written by {report['llm']['name']} ({report['llm']['model']}) for {report['dataset']}",
        style="bold",
    )
    for key, value in report["figures"].items():
        line(f"  {key.replace('_', ' ')}: {value}")
    line(f"  asked: {cost['requests']} times ({cost['cached']} answers from the cache), price {price}")
    if left_out:
        line(f"  left out after every attempt: {len(left_out)}; --attempts N asks more often")
        for unit, reason in list(left_out.items())[:SHOWN]:
            line(f"    {unit}: {reason}")
    line(f"wrote {report['file']}", style="dim")
