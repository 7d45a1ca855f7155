"""`python -m tests.chaos [--rounds 20] [--seed 0] [--at-once 3]`: disturb runs, say what came of each; 1 on a fault."""

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.chaos.material import BATCHES
from tests.chaos.rounds import Chaos, Round


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-once", type=int, default=3, help="rounds that are run at once")
    asked = parser.parse_args()
    started = time.monotonic()
    with TemporaryDirectory(prefix="raybench-chaos-", ignore_cleanup_errors=True) as folder:
        chaos = Chaos(Path(folder), asked.seed, asked.at_once)
        say(f"undisturbed: {chaos.undisturbed_seconds:.0f} s, {chaos.undisturbed_batches // BATCHES} epochs")
        rounds = []
        with ThreadPoolExecutor(asked.at_once) as pool:
            for each in pool.map(chaos.round, range(asked.rounds)):
                rounds.append(each)
                say(line(each, chaos))
        summary(rounds, chaos, time.monotonic() - started)
    sys.exit(any(each.faults for each in rounds))


def line(one: Round, chaos: Chaos) -> str:
    again = "" if one.asha else f", {recomputed(one, chaos):+.1f} epochs"
    commands = f"{one.commands} command{'s' if one.commands > 1 else ''}"
    text = (
        f"round {one.number:2}: {one.kind:6} killed, {'ASHA' if one.asha else 'none'}; {one.finished} finished and "
        f"{one.running} processes then; {commands}, {one.seconds:.0f} s{again}"
    )
    return "\n".join([text, *(f"    FAULT: {fault}" for fault in one.faults)])


def recomputed(one: Round, chaos: Chaos) -> float:
    """Return the epochs that were learned twice."""
    return (one.batches - chaos.undisturbed_batches) / BATCHES


def summary(rounds: list[Round], chaos: Chaos, seconds: float) -> None:
    plain = [each for each in rounds if not each.asha]
    faults = sum(len(each.faults) for each in rounds)
    say(f"{len(rounds)} rounds in {seconds / 60:.1f} min, {faults} faults")
    if plain:
        epochs = sum(recomputed(each, chaos) for each in plain)
        ratio = sum(each.seconds for each in plain) / len(plain) / chaos.undisturbed_seconds
        say(
            f"without ASHA: {epochs:.0f} epochs recomputed in {len(plain)} rounds, {epochs / len(plain):.1f} each of "
            f"{chaos.undisturbed_batches // BATCHES}; wall time {ratio:.2f} times the undisturbed run's"
        )


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
