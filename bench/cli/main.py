"""The `bench` command: finds the subcommand, and turns errors into one line and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from importlib.util import find_spec
from typing import TYPE_CHECKING

from bench import parallel
from bench.errors import CheckError, InputError

if TYPE_CHECKING:
    from cyclopts import App

DONE, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130

# Subcommands are imported when they are called, and only then: `bench --help` reads this table.
COMMANDS = {
    "run": ("bench.cli.run:run", "Evaluate a model on a task; trains it first where needed."),
    "list": ("bench.cli.catalogue:show_list", "What there is: tasks, models, datasets, encoders, judges, routers."),
    "show": ("bench.cli.catalogue:show", "The card of a task, model, dataset, encoder, judge or router."),
    "score": ("bench.cli.score:score", "Compute a run's metrics again from its saved rankings, without its model."),
    "judge": ("bench.cli.judge:app", "Score a run's lists with a judge; audit judges."),
    "curve": (
        "bench.cli.curve:curve",
        "Utility against compliance, over a setting that says how hard a model is steered.",
    ),
    "compare": ("bench.cli.compare:compare", "Paired comparison of runs on the same examples."),
    "reproduce": ("bench.cli.reproduce:reproduce", "A table of the paper: measured beside published, claims tested."),
    "sweep": ("bench.cli.sweep:sweep", "A grid of runs, side by side on this machine or on a cluster."),
    "check": ("bench.cli.check:check", "Does a model keep its contract? Tried on the embedded dataset."),
    "data": ("bench.cli.data:app", "Prepare and describe datasets."),
    "route": ("bench.cli.route:route", "Polarity of any text: does it ask for something or refuse it?"),
    "llm": ("bench.cli.llm:app", "Language models: try one, export its requests, import its answers."),
    "cache": ("bench.cli.cache:app", "Cached answers of language models."),
    "probe": ("bench.cli.probe:app", "What a language model knows by heart; how far words carry a recommender."),
    "simulate": (
        "bench.cli.simulate:simulate",
        "Requests that a language model makes up for users: mood, plot, occasion.",
    ),
    "augment": (
        "bench.cli.augment:app",
        "What a language model says about items: tags, rewordings, summaries, judgements.",
    ),
    "leaderboard": ("bench.cli.leaderboard:app", "The board: build it from runs, check every number of it."),
    "submit": ("bench.cli.submit:submit", "Pack a run for the board of somebody else."),
    "publish": (
        "bench.cli.publish:publish",
        "Push the board and its submissions to a Hugging Face dataset repository.",
    ),
    "perf": ("bench.cli.perf:app", "Speed, each figure against its reference."),
    "demo": (
        "bench.cli.demo:demo",
        "A page to play with: a history of your own, words, and what each model makes of it.",
    ),
}
EPILOGUE = "Exit codes: 0 done, 1 the run or check failed, 2 wrong input, 130 interrupted. `--debug` shows tracebacks."


def build_app() -> App:
    """The command with its subcommands, none of them imported yet."""
    from cyclopts import App, Parameter

    app = App(
        name="bench",
        help="A benchmark for promptable recommendation: recommenders that are steered with words.",
        help_epilogue=EPILOGUE,
        version=_version,
        # A switch has no "--no-" twin, a list no "--empty-" one.
        default_parameter=Parameter(negative=""),
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    for name, (target, text) in COMMANDS.items():
        if find_spec(target.partition(":")[0]) is not None:
            app.command(target, name=name, help=text)
    return app


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows `bench`; that of this process when None.

    Returns:
        The exit code.
    """
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    debug = _take_debug(tokens)
    _spin_less()
    try:
        code = _call(tokens)
        sys.stdout.flush()
        return code
    except InputError as error:
        return _fail(error, WRONG_INPUT, debug)
    except CheckError as error:
        return _fail(error, FAILED, debug)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: finished work is kept, the same command goes on from there.\n")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader went away (`| head`); keep the interpreter from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        return _fail(f"{error.filename or type(error).__name__}: {error.strerror or error}", FAILED, debug)
    except Exception as error:
        return _fail(f"unexpected {type(error).__name__}: {error} (--debug shows where)", FAILED, debug)


def _call(tokens: list[str]) -> int:
    if parallel.world() > 1 and tokens[:1] != ["run"]:
        raise InputError(
            "in several processes (torchrun, accelerate launch) only `bench run` works: start one process."
        )
    if tokens[:1] == ["list"] and len(tokens) <= 2 and not any(token.startswith("-") for token in tokens):
        # The parser takes a quarter of the time of a plain list, which people wait for most often.
        from bench.cli.catalogue import show_list

        show_list(*tokens[1:])
        return DONE
    from cyclopts import CycloptsError

    try:
        code = build_app()(tokens, print_error=False, exit_on_error=False)
    except CycloptsError as error:
        raise InputError(str(error)) from error
    return code if isinstance(code, int) else DONE


def _take_debug(tokens: list[str]) -> bool:
    """Remove `--debug`, which is allowed anywhere before `--`."""
    end = tokens.index("--") if "--" in tokens else len(tokens)
    debug = "--debug" in tokens[:end]
    tokens[:end] = [token for token in tokens[:end] if token != "--debug"]
    return debug


def _fail(error: Exception | str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    sys.stderr.write("error: " + " ".join(str(error).split()) + "\n")
    return code


def _version() -> str:
    from bench import __version__

    return __version__


def _spin_less() -> None:
    """Let threads that wait for each other go to sleep sooner, unless the environment has a wish of its own.

    GNU OpenMP spins a few milliseconds at the end of every product. Where other work wants the same cores it spins away the time
    that the thread it waits for would need: one training took 120 s in place of 19 beside three busy processes on two cores.
    On a quiet machine this costs a training of small products 5 %. It is read when torch is loaded, which comes later.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


if __name__ == "__main__":
    sys.exit(main())
