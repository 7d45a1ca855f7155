"""What people see while a run goes on: a live table on a terminal, plain lines elsewhere, nothing when quiet.

In: the trials of a run and the events of `raybench.events`. Out: text on a console, never a result.
"Leading so far" goes by mean val accuracy and is provisional: seeds are missing, and nothing of the
test split is shown before a run ends.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from threading import RLock
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from raybench.board import Board, Leader, Running, configuration_text
from raybench.events import Event, Notice, TrialEnded
from raybench.formats import SECONDS_PER_HOUR, SECONDS_PER_MINUTE, duration_text, error_line
from raybench.learning_rates import TUNING_SEED
from raybench.records import Status, Trial
from raybench.trials import seed_text

ROWS_BESIDE_TABLES = 8
"""Lines of the live display that are neither running trials nor leaders: titles, headers, the summary."""
FEWEST_ROWS = 3
"""Of each table, however low the terminal is."""
REFRESHES_PER_SECOND = 4


def local_now() -> datetime:
    """Return the time of day here."""
    return datetime.now().astimezone()


def rough_duration_text(seconds: float) -> str:
    """Return an estimate without digits that it cannot have: `40 s`, `11 min`, `2 h 07 min`."""
    if SECONDS_PER_MINUTE <= seconds < SECONDS_PER_HOUR:
        return f"{round(seconds / SECONDS_PER_MINUTE)} min"
    return duration_text(max(float(round(seconds)), 1.0)).replace(".0", "")


def tell_problems(problems: Iterable[str]) -> None:
    """Write what went wrong beside the trials to stderr, also where nothing else is shown."""
    console = Console(stderr=True)
    for problem in problems:
        console.print(Text(f"Problem: {problem}", style="red"), soft_wrap=True)


def summary(board: Board, now: datetime) -> Text:
    """Return the line of counts, elapsed time and, as long as trials start, expected end."""
    unfinished = board.count_unfinished()
    parts = [
        f"{board.count_done()}/{len(board.trials)} done",
        f"{board.count(Status.STOPPED)} stopped",
        f"{board.count(Status.FAILED)} failed",
        f"{duration_text((now - board.started_at).total_seconds())} elapsed",
    ]
    if unfinished:
        parts.insert(3, f"{unfinished} unfinished")
    remaining = board.remaining_seconds(now)
    if remaining is not None and len(board.ended) < len(board.trials) and not board.ending:
        end = now + timedelta(seconds=remaining)
        clock = end.strftime("%H:%M" if end.date() == now.date() else "%a %H:%M")
        parts.append(f"~{rough_duration_text(remaining)} to go, ends ~{clock}")
    return Text(" · ".join(parts))


def render(board: Board, now: datetime, *, rows: int, stage: str | None = None) -> RenderableType:
    """Return the live display; `rows` is the height that both tables share.

    `stage` names what comes before the trials, such as a search: nobody leads there.
    """
    if not board.running and (board.notice or not board.ended):
        return Group(Text(board.notice or "Starting Ray and its workers"), summary(board, now))
    if stage is not None:
        return Group(_running_table(list(board.running.values()), rows, title=stage), summary(board, now))
    leaders = board.leaders()
    for_leaders = min(len(leaders), max(rows // 2, FEWEST_ROWS))
    for_running = max(rows - for_leaders, FEWEST_ROWS)
    return Group(
        _running_table(list(board.running.values()), for_running),
        _leaders_table(leaders, for_leaders),
        summary(board, now),
    )


def _table(title: str, hidden: int) -> Table:
    more = f"and {hidden} more" if hidden else None
    return Table(
        title=title, caption=more, title_justify="left", caption_justify="left", box=None, pad_edge=False, expand=True
    )


def _running_table(running: Sequence[Running], rows: int, *, title: str = "Running") -> Table:
    table = _table(title, max(len(running) - rows, 0))
    table.add_column("model, weights, strategy", no_wrap=True, overflow="ellipsis", ratio=3)
    table.add_column("dataset", no_wrap=True, overflow="ellipsis", ratio=1)
    of_trials = any(entry.trial.seed != TUNING_SEED for entry in running)
    for column in ("size", "seed" if of_trials else "learning rate", "phase", "epoch", "val loss"):
        table.add_column(column, justify="right", no_wrap=True)
    for entry in running[:rows]:
        trial, last = entry.trial, entry.last
        table.add_row(
            Text(configuration_text(trial)),
            Text(trial.dataset.name),
            str(trial.train_size),
            seed_text(trial).removeprefix("seed ").removeprefix("learning rate "),
            f"{last.phase if last else 1}/{len(trial.strategy.phases)}",
            f"{last.epoch if last else 0}/{trial.epochs}",
            f"{last.val_loss:.4f}" if last else "",
        )
    return table


def _leaders_table(leaders: Sequence[Leader], rows: int) -> Table:
    table = _table(
        "Leading so far (provisional: by mean val accuracy of the seeds that ended)", max(len(leaders) - rows, 0)
    )
    table.add_column("dataset", no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("model, weights, strategy", no_wrap=True, overflow="ellipsis", ratio=3)
    table.add_column("val accuracy", justify="right", no_wrap=True)
    table.add_column("seeds", justify="right", no_wrap=True)
    for leader in leaders[:rows]:
        known = bool(leader.configuration)
        table.add_row(
            Text(leader.dataset),
            str(leader.train_size),
            Text(leader.configuration),
            f"{leader.val_accuracy:.3f}" if known else "",
            f"{leader.seeds_ended}/{leader.seeds}" if known else "",
        )
    return table


def ended_line(board: Board, event: TrialEnded, running: Running | None) -> str:
    """Return the plain line of a trial that ended."""
    trial, width = board.trials[event.trial_id], len(str(len(board.trials)))
    head = (
        f"[{board.count_done():>{width}}/{len(board.trials)}] {configuration_text(trial)} · "
        f"{trial.dataset.name} {trial.train_size} · {seed_text(trial)}: "
    )
    if event.status is Status.FAILED:
        return head + f"failed: {error_line(event.error)}"
    accuracy = "val accuracy unknown" if event.val_accuracy is None else f"val accuracy {event.val_accuracy:.3f}"
    word = {Status.STOPPED: "stopped at ", Status.UNFINISHED: "unfinished, kept at "}.get(event.status, "")
    if running is None or running.last is None:
        return head + word + accuracy
    epochs = running.last.epoch
    seconds = duration_text(sum(running.epoch_seconds))
    return head + word + f"{accuracy} after {epochs} epoch{'s' if epochs != 1 else ''} ({seconds})"


class Progress:
    """Show how a run goes on, as a context manager that is called with each event.

    with Progress(trials, Console()) as progress:
        run_trials(unfinished, on_event=progress, ...)

    `trials` are all of the run's; `earlier` are the endings of those that were done before, `begun` the ids of those
    that were begun before and have not ended. `quiet` shows nothing.
    `stage` names what comes before the trials; then `trials` are those of that stage.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        console: Console,
        *,
        earlier: Iterable[TrialEnded] = (),
        begun: Collection[str] = (),
        quiet: bool = False,
        stage: str | None = None,
        now: Callable[[], datetime] = local_now,
    ) -> None:
        self._console = console
        self._stage = stage
        self._quiet = quiet
        self._now = now
        self._has_begun = False
        """Whether a trial was begun, or ended, in this session."""
        self._lock = RLock()  # the live display is drawn by a thread of its own
        self.board = Board(trials, earlier=earlier, begun=begun, now=now())
        self._live = (
            Live(
                console=console,
                get_renderable=self._render,
                refresh_per_second=REFRESHES_PER_SECOND,
                transient=True,
            )
            if console.is_terminal and not quiet
            else None
        )

    def __enter__(self) -> Self:
        """Begin to show."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Take the live table away and leave the summary."""
        if self._live is not None:
            self._live.stop()
        self.board.ending = True
        if not self._quiet and (error is None or self._has_begun):
            self._print(summary(self.board, self._now()).plain)

    def __call__(self, event: Event) -> None:
        """Take an event in."""
        self._has_begun |= not isinstance(event, Notice)
        with self._lock:
            running = self.board.running.get(event.trial_id) if isinstance(event, TrialEnded) else None
            self.board.feed(event)
        # Printed without our lock: the display's thread takes its own lock first, then ours.
        if isinstance(event, Notice) and not self._quiet and (event.lasting or self._live is None):
            self._print(event.text)
        if isinstance(event, TrialEnded) and event.trial_id in self.board.trials and self._prints(event):
            self._print(ended_line(self.board, event, running))

    def _prints(self, event: TrialEnded) -> bool:
        """Tell whether an ending gets a line: every one without a terminal, failures alone above a live table."""
        return not self._quiet and (self._live is None or event.status is Status.FAILED)

    def _print(self, line: str) -> None:
        if not self._console.encoding.lower().startswith("utf"):
            line = (
                line.replace("·", "-").encode(self._console.encoding, errors="replace").decode(self._console.encoding)
            )
        self._console.print(Text(line), soft_wrap=True, highlight=False)

    def _render(self) -> RenderableType:
        with self._lock:
            return render(self.board, self._now(), rows=self._console.height - ROWS_BESIDE_TABLES, stage=self._stage)
