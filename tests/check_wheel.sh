#!/usr/bin/env bash
# Build the wheel, install it into an empty environment, and run the built-in experiment from outside the checkout.
#
#   tests/check_wheel.sh                   installs everything the wheel asks for: about 7 GB, removed at the end
#   tests/check_wheel.sh --borrow .venv    takes the other packages from an environment that has them: no downloads;
#                                          that the wheel asks for all it imports is then left to tests/test_project.py
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

borrowed=""
if [[ "${1:-}" == --borrow ]]; then
  borrowed="$("$2/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
fi

place="$(mktemp -d)"
trap 'rm -rf "$place"' EXIT

# By way of the source distribution: a wheel built in the checkout may hold modules that were removed since the last one.
.venv/bin/python -m build --outdir "$place/dist" . >"$place/build.log" 2>&1 || { cat "$place/build.log"; exit 1; }
.venv/bin/python -m venv "$place/venv"
python="$place/venv/bin/python"
if [[ -n "$borrowed" ]]; then
  "$python" -m pip install --quiet --no-deps "$place"/dist/*.whl
  echo "$borrowed" >"$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/borrowed.pth"
else
  "$python" -m pip install --quiet --no-cache-dir "$place"/dist/*.whl
fi

mkdir "$place/elsewhere"
cd "$place/elsewhere"
unset PYTHONPATH
"$python" - "$place" <<'PYTHON'
import sys
from pathlib import Path

import raybench

if not Path(raybench.__file__).is_relative_to(sys.argv[1]):
    sys.exit(f"raybench was imported from {raybench.__file__}, not from the wheel")
PYTHON

raybench="$place/venv/bin/raybench"
"$raybench" --help >/dev/null
"$raybench" schema >/dev/null
"$raybench" run --run-dir "$place/run" \
  --set 'datasets.0.train_sizes=[100]' --set 'seeds=[0]' --set training.epochs=2
"$raybench" rank "$place/run" --format csv >"$place/ranking.csv"
rows="$(($(wc -l <"$place/ranking.csv") - 1))"
((rows >= 8)) || { echo "the ranking has $rows configurations; at least 8 are expected" >&2; exit 1; }
echo "The wheel installs into an empty environment and ranks $rows configurations there."
