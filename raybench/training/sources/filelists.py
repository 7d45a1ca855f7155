"""`filelist:PREFIX`: one text file a split, with lines 'relative/path label'.

    PREFIX.train                  required
    PREFIX.dev or PREFIX.val      without it, images of train are set aside
    PREFIX.test                   optional
    PREFIX.classes                optional: names of the classes 0, 1, ..., one a line

PREFIX is relative to the dataset's `root` where it has one and a list is there, else to the working directory. Paths in
the lists are relative to `root`, else to the folder of the lists. The label is the last word of a line, an integer; a
path may hold spaces, and leaves the folder neither by `..` nor by an absolute path; links in the folder are followed,
since datasets often are folders of links. Without PREFIX.classes the classes are the integers of PREFIX.train, in their
order.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from raybench.errors import DataError
from raybench.records import DatasetSpec
from raybench.training.listing import Listing, SplitListing, list_files

_LINE = "expected 'relative/path label', the label an integer from 0"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Line:
    path: str
    label: int
    number: int


def list_filelist(spec: DatasetSpec, argument: str) -> Listing:
    """Return the images of `filelist:PREFIX`. Raises `DataError` naming file and line."""
    prefix = _prefix(spec.root, argument)
    folder = Path(spec.root).expanduser() if spec.root else prefix.parent
    dev_lists = [path for path in (_list_path(prefix, "dev"), _list_path(prefix, "val")) if path.is_file()]
    if len(dev_lists) > 1:
        raise DataError(f"both {dev_lists[0]} and {dev_lists[1]} are there; keep one of them")
    train_lines = _lines(_list_path(prefix, "train"))
    label_names = _label_names(_list_path(prefix, "classes"), train_lines)
    warnings: list[str] = []

    def split(path: Path) -> SplitListing:
        lines = _lines(path)
        positions = {label: position for position, label in enumerate(label_names)}
        for line in lines:
            if line.label not in positions:
                known = ", ".join(map(str, label_names))
                raise DataError(
                    f"{path} line {line.number}: label {line.label} is out of range; the labels are {known}"
                )
        repeated = len(lines) - len({line.path for line in lines})
        if repeated:
            warnings.append(f"{path.name} lists {repeated} images more than once")
        return list_files(folder, [line.path for line in lines], [positions[line.label] for line in lines])

    test_list = _list_path(prefix, "test")
    return Listing(
        classes=tuple(label_names.values()),
        train=split(_list_path(prefix, "train")),
        val=split(dev_lists[0]) if dev_lists else None,
        test=split(test_list) if test_list.is_file() else None,
        warnings=tuple(warnings),
    )


def _prefix(root: str | None, argument: str) -> Path:
    candidates = [Path(root or "", argument).expanduser(), Path(argument).expanduser()]
    for prefix in candidates:
        if _list_path(prefix, "train").is_file():
            return prefix
    looked_at = " and ".join(dict.fromkeys(str(_list_path(prefix, "train")) for prefix in candidates))
    raise DataError(f"no file list; looked for {looked_at} with lines 'relative/path label'")


def _list_path(prefix: Path, split: str) -> Path:
    return prefix.with_name(f"{prefix.name}.{split}")


def _lines(path: Path) -> list[_Line]:
    lines = []
    for number, text in enumerate(_text(path).splitlines(), start=1):
        if not text.strip():
            continue
        words = text.rsplit(maxsplit=1)
        if len(words) == 1:
            raise DataError(f"{path} line {number}: {text.strip()!r} is no path and label; {_LINE}")
        if not words[1].isdecimal():
            raise DataError(f"{path} line {number}: {words[1]!r} is no label; {_LINE}")
        name = words[0].strip()
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise DataError(f"{path} line {number}: {name!r} leaves the dataset's folder; give a path below it")
        lines.append(_Line(path=name, label=int(words[1]), number=number))
    if not lines:
        raise DataError(f"{path} is empty; {_LINE}")
    return lines


def _label_names(path: Path, train: list[_Line]) -> dict[int, str]:
    """Return the name of each label, in the order of the labels."""
    if not path.is_file():
        return {label: str(label) for label in sorted({line.label for line in train})}
    names = [name.strip() for name in _text(path).splitlines() if name.strip()]
    if len(set(names)) < len(names):
        raise DataError(f"{path} names a class twice; give every class a name of its own")
    return dict(enumerate(names))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text: {error}") from error
