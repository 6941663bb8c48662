import io

from bench.progress import QuietProgress, RichProgress, SilentProgress, pace


def test_quiet_progress_reports_now_and_then():
    stream = io.StringIO()
    with QuietProgress(stream, seconds=0) as progress:
        advance = progress.track("ranking", 10)
        advance(4)
        progress.note("scoring")
    first, second = stream.getvalue().splitlines()
    assert first.startswith("ranking: 4 of 10, ") and first.endswith("s left") and second == "scoring"
    patient = QuietProgress(stream := io.StringIO())
    patient.track("ranking", 10)(10)
    assert stream.getvalue() == ""


def test_what_was_done_before_is_not_taken_for_speed(monkeypatch):
    clock = iter([0.0, 90.0])
    monkeypatch.setattr("bench.progress.time.monotonic", lambda: next(clock))
    advance = QuietProgress(stream := io.StringIO()).track("sasrec", 40, done=30)
    advance(3)
    assert stream.getvalue() == "sasrec: 33 of 40, 30 s each, 210 s left\n"


def test_slow_steps_are_told_by_their_seconds():
    assert [pace(speed) for speed in (0, 1 / 33, 0.5, 9.96, 1234.4)] == [
        "0.0/s",
        "33 s each",
        "0.5/s",
        "10.0/s",
        "1,234/s",
    ]


def test_silent_progress_says_nothing(capsys):
    SilentProgress(seconds=0).track("ranking", 2)(1)
    SilentProgress().note("scoring")
    assert capsys.readouterr() == ("", "")


def test_bars_go_to_stderr_and_leave_when_full(capsys):
    with RichProgress() as progress:
        outer, inner = progress.track("epochs [bold]", 2), progress.track("batches", 1)
        inner(1)
        outer(2)
        assert progress._display is None
        progress.track("stops early", 5)(1)
        progress.note("a [note]")
    assert progress._display is None
    seen = capsys.readouterr()
    assert seen.out == "" and "a [note]" in seen.err
