"""The command line: parse, call one function, print.

Heavy imports stand inside the commands, so that `raybench --help` answers at once.
"""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from raybench.errors import InterruptedRunError, RaybenchError
from raybench.recognize import KEYS_TEXT

app = typer.Typer(
    name="raybench",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Which image classifier, trained how, on how many images, gives the best accuracy for its cost?",
    epilog="Start with: raybench run",
)

cache = typer.Typer(no_args_is_help=True, help="Show what is cached on this machine, or remove it.")
app.add_typer(cache, name="cache")

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130


def _place(text: str) -> Path:
    """Return the folder of what is a path, or a URI of a run directory in an object store."""
    from raybench.mirror import opened

    return opened(text)


RunDirectory = Annotated[
    Path, typer.Argument(metavar="RUN", help="Run directory, such as runs/quickstart.", parser=_place)
]
NewDirectory = Annotated[
    Path | None,
    typer.Option(
        "--run-dir",
        metavar="DIR",
        help="Where results go: a folder, or s3://...",
        show_default="runs/NAME",
        parser=_place,
    ),
]
TRIAL_HELP = "Id of a trial, or its first digits; pick stands for the network that the ranking advises."
TrialId = Annotated[str, typer.Argument(metavar="TRIAL", help=TRIAL_HELP)]
NumCpus = Annotated[int | None, typer.Option(help="Cores this machine counts as having.", show_default="all")]
NumGpus = Annotated[int | None, typer.Option(help="GPUs this machine counts as having.", show_default="all")]
Address = Annotated[str | None, typer.Option(help="Ray cluster to run on: HOST:PORT, or auto.", show_default="none")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing while it runs.")]
LogTo = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TRACKER", help="Send epochs and scores to tensorboard, mlflow or wandb.", show_default="none"
    ),
]
Reused = Annotated[
    list[Path] | None,
    typer.Option(
        "--reuse", metavar="RUN", help="Take over what completed in another run.", show_default="none", parser=_place
    ),
]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a key of the file.")]
ColumnNames = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="KEY=NAME",
        help=f"What a column is called there: model=config/arch. KEY is one of {KEYS_TEXT}.",
        show_default="guessed",
    ),
]
Sources = Annotated[
    list[Path],
    typer.Argument(metavar="SOURCE", help="Runs, results of Ray Tune, CSV or Parquet tables.", parser=_place),
]
Experiment = Annotated[Path, typer.Argument(metavar="FILE", help="Experiment file.")]
TestImages = Annotated[
    list[str] | None,
    typer.Option(metavar="[DATASET=]N", help="Size of the test split, where it is not told.", show_default="none"),
]
Format = Literal["table", "markdown", "csv", "json"]


@app.command()
def run(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Experiment file.", show_default="quickstart")
    ] = None,
    run_dir: NewDirectory = None,
    overrides: Overrides = None,
    reuse: Reused = None,
    num_cpus: NumCpus = None,
    num_gpus: NumGpus = None,
    address: Address = None,
    log_to: LogTo = None,
    quiet: Quiet = False,
) -> None:
    """Run an experiment, or go on with it where it was interrupted."""
    from raybench import runner
    from raybench.output import print_run

    done = runner.run(
        file,
        run_dir=run_dir,
        overrides=overrides or (),
        reuse=reuse or (),
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        address=address,
        log_to=log_to or (),
        quiet=quiet,
    )
    _leave(print_run(done, address=address))


@app.command()
def resume(
    run_dir: RunDirectory,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Train failed trials again.")] = False,
    num_cpus: NumCpus = None,
    num_gpus: NumGpus = None,
    address: Address = None,
    log_to: LogTo = None,
    quiet: Quiet = False,
) -> None:
    """Go on with an interrupted run."""
    from raybench import runner
    from raybench.output import print_run

    done = runner.resume(
        run_dir,
        retry_failed=retry_failed,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        address=address,
        log_to=log_to or (),
        quiet=quiet,
    )
    _leave(print_run(done, address=address))


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of images.")],
    output: Annotated[Path | None, typer.Option(help="File to write.", show_default="NAME.yaml")] = None,
) -> None:
    """Look at a folder of images and write a first experiment file for it."""
    from raybench.starter import write_starter

    path = write_starter(folder, output)
    typer.echo(f"Wrote {path}. Next: raybench plan {path}")


@app.command()
def plan(
    file: Experiment,
    run_dir: NewDirectory = None,
    overrides: Overrides = None,
    reuse: Reused = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure a few steps of each model and phase; quote time and cost.")
    ] = False,
    num_cpus: NumCpus = None,
    num_gpus: NumGpus = None,
    address: Address = None,
) -> None:
    """Show what a run would do, and what its test split can tell apart; train nothing."""
    from raybench.output import print_plan

    machines = {"num_cpus": num_cpus, "num_gpus": num_gpus, "address": address} if measure else None
    print_plan(file, run_dir, overrides or (), reuse=reuse or (), measured_on=machines)


@app.command()
def rank(
    sources: Sources,
    by: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Order by this column.", show_default="test_accuracy")
    ] = None,
    output_format: Annotated[
        Format | None,
        typer.Option("--format", help="How to print it.", show_default="by the ending of --output, or table"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Write here: .csv, .parquet, .json, .md or .txt.", show_default="terminal"),
    ] = None,
    columns: ColumnNames = None,
    test_images: TestImages = None,
) -> None:
    """Rank configurations by accuracy and cost."""
    from raybench.output import print_ranking

    named = {"columns": columns or (), "test_images": test_images or ()}
    print_ranking(sources, by=by, output_format=output_format, output=output, **named)


@app.command()
def report(
    sources: Sources,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Where it goes.", show_default="report.html in the run")
    ] = None,
    columns: ColumnNames = None,
    test_images: TestImages = None,
) -> None:
    """Write a report: one HTML file with the answer, how sure it is, and what it is drawn from."""
    from raybench.output import print_report

    print_report(sources, output=output, columns=columns or (), test_images=test_images or ())


@app.command()
def compare(
    first: Annotated[
        Path, typer.Argument(metavar="A", help="Run, results of Ray Tune, CSV or Parquet table.", parser=_place)
    ],
    second: Annotated[Path, typer.Argument(metavar="B", help="What is compared with it.", parser=_place)],
    output: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a page as well.", show_default="no page")
    ] = None,
    columns: ColumnNames = None,
    test_images: TestImages = None,
) -> None:
    """Compare two runs: accuracies in pairs, costs, picks, and whether that is fair."""
    from raybench.output import print_comparison

    print_comparison(first, second, output=output, columns=columns or (), test_images=test_images or ())


@app.command()
def show(
    run_dir: RunDirectory,
    trial: Annotated[str | None, typer.Argument(metavar="TRIAL", help=TRIAL_HELP)] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Write the rows of all trials: .csv or .parquet.", show_default="terminal"),
    ] = None,
) -> None:
    """List a run's trials and what they took, or print the epochs of one."""
    from raybench.output import print_trial, print_trials, write_results

    if trial is not None:
        print_trial(run_dir, trial)
    elif output is not None:
        write_results(run_dir, output)
    else:
        print_trials(run_dir)


@app.command()
def models(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Models; none: list all names.")] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Measure training and inference speed here.")] = False,
    layers: Annotated[bool, typer.Option("--layers", help="Print the architecture.")] = False,
    image_size: Annotated[
        int | None, typer.Option(min=8, help="Side of the images, in pixels.", show_default="the model's own")
    ] = None,
) -> None:
    """Show models: depth, parameters, size, and speed measured on this machine."""
    from raybench.machine_output import print_models

    print_models(names or [], measured=measure, layers=layers, image_size=image_size)


@app.command()
def export(
    run_dir: RunDirectory,
    trial: TrialId,
    output: Annotated[Path, typer.Option(help="File to write: .safetensors, or .onnx.")],
) -> None:
    """Write a trial's best weights, with classes, image size and normalisation beside them."""
    from raybench.output import print_export

    print_export(run_dir, trial, output)


@app.command()
def predict(
    run_dir: RunDirectory,
    trial: TrialId,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Image files.")],
) -> None:
    """Say what a trained trial sees in images."""
    from raybench.output import print_predictions

    print_predictions(run_dir, trial, images)


@cache.command("show")
def show_cache() -> None:
    """List decoded images and features on this machine: size, last use, and whether a process uses them."""
    from raybench.machine_output import print_cache

    print_cache()


@cache.command("clear")
def clear_cache(
    kind: Annotated[
        Literal["images", "features"] | None, typer.Option(help="Remove these only.", show_default="all")
    ] = None,
    older_than: Annotated[
        str | None, typer.Option(metavar="AGE", help="Remove what was last used longer ago: 12h, 30d, 4w.")
    ] = None,
) -> None:
    """Remove decoded images and features that no process uses; what is needed again is made again."""
    from raybench.machine_output import print_cleared

    print_cleared(kind, older_than)


@app.command()
def schema() -> None:
    """Print the JSON schema of experiment files, for editors."""
    import json

    from raybench.experiment import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


@app.command()
def doctor() -> None:
    """Say what works here and what does not."""
    from raybench.machine_output import print_checks

    _leave(print_checks(Path.cwd()))


def _leave(status: int) -> None:
    if status:
        raise typer.Exit(status)


def _with_uris(text: str) -> str:
    from raybench.mirror import in_users_words

    return in_users_words(text)


def main() -> None:
    """Run the command line; errors that a user can act on become one message."""
    try:
        app()
    except InterruptedRunError as error:
        typer.echo(_with_uris(str(error)), err=True)
        sys.exit(INTERRUPTED)
    except RaybenchError as error:
        typer.echo(_with_uris(f"raybench: {error}"), err=True)
        sys.exit(BAD_INPUT)
