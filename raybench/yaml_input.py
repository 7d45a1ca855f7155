"""Read YAML that a user wrote, apply `--set` overrides, and say clearly what is wrong with it.

In: a path or text, overrides such as `training.epochs=3`, pydantic's list of errors.
Out: plain dicts and lists, or one `ExperimentError` that names file, key, value and what is accepted.
"""

import difflib
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import yaml

from raybench.errors import ExperimentError, InputError
from raybench.formats import safe_text
from raybench.regular import check_regular

MAXIMUM_BYTES = 250_000
"""An experiment file is a page or two; anything near this size is not one."""
MAXIMUM_BYTES_OF_RUN = 4 * MAXIMUM_BYTES
"""Of the experiment file of a run: raybench writes each entry on a line of its own."""
DEEPEST = 30
"""Most levels of lists and keys in one another; an experiment has six."""
LONGEST_NUMBER = 64
"""Most characters of a number; those that mean one have fewer."""
LARGEST_NUMBER = 2**63 - 1
"""Whole numbers are stored in 64 bits."""
MOST_MISTAKES = 10
"""Mistakes told at once; the rest are counted."""
LONGEST_VALUE = 80
"""Most characters of a value, or a key, in a message."""
MALFORMED = (yaml.YAMLError, ValueError, LookupError, ArithmeticError, AttributeError, TypeError, RecursionError)
"""What PyYAML raises where a text is no YAML, or a tag such as `!!int` does not go with its value."""
NOT_TEXT = re.compile("[\0\ud800-\udfff]")
"""Characters that `"\\0"` and `"\\ud800"` mean: no path holds the first, no file the second."""


class _Loader(yaml.SafeLoader):
    """Safe YAML without aliases (no expansion bombs), silently repeated keys, and what nobody means.

    That is nesting without end, numbers of more than 64 bits and characters that cannot be stored.
    """

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            where: Any = event.start_mark
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not accepted", where)
        if self.depth == DEEPEST:
            raise yaml.composer.ComposerError(None, None, f"nested more than {DEEPEST} deep", event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002 - PyYAML's signature
        try:
            return super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except MALFORMED:
            value = shown(repr(node.value)) if isinstance(node, yaml.ScalarNode) else "what stands here"
            problem = f"{value} is no {node.tag.rpartition(':')[2]}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:  # noqa: ANN401 - PyYAML's signature
        value = super().construct_scalar(node)
        if NOT_TEXT.search(value):
            problem = "a character that no text holds (\\0 or half of a pair)"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return value

    def number(self, node: yaml.ScalarNode) -> int | float:
        """Return a number of sensible size."""
        is_int = node.tag.endswith(":int")
        construct = self.construct_yaml_int if is_int else self.construct_yaml_float
        number: int | float | None = construct(node) if len(node.value) <= LONGEST_NUMBER else None
        if number is None or (is_int and abs(number) > LARGEST_NUMBER):
            problem = f"the number {shown(node.value)} is too large; numbers go up to {LARGEST_NUMBER}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return number

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"expected KEY: VALUE with text as key, found {key!r}", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.number)

# YAML 1.1 reads 1e-4 as text; engineers write it all the time and mean a number.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*)(?:\.[\d_]*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def read_yaml(path: Path, most_bytes: int = MAXIMUM_BYTES_OF_RUN) -> dict[str, Any]:
    """Return the mapping that a YAML file holds; raise `ExperimentError` where it holds none, or is larger."""
    try:
        check_regular(path)
        with path.open("rb") as stream:
            content = stream.read(most_bytes + 1)
        if len(content) > most_bytes:
            raise ExperimentError(f"{path}: larger than {most_bytes} bytes, which no experiment file is")
        text = content.decode("utf-8")
    except FileNotFoundError:
        raise ExperimentError(f"{path}: no such file; give the path of an experiment file") from None
    except OSError as error:
        raise ExperimentError(f"{path}: cannot be read as text: {error.strerror}") from None
    except ValueError as error:  # no UTF-8, or a path that none can be
        raise ExperimentError(f"{path}: cannot be read as text: {error}") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, label: str) -> dict[str, Any]:
    """Return the mapping in a YAML text; `label` names it in errors."""
    data = _load(text, f"{label}: not valid YAML")
    if not isinstance(data, dict):
        kind = "nothing" if data is None else f"a {type(data).__name__}"
        raise ExperimentError(f"{label}: holds {kind}; an experiment is a mapping that starts with 'name: ...'")
    return cast("dict[str, Any]", data)


def _load(text: str, label: str) -> Any:  # noqa: ANN401 - YAML holds anything
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a subclass of SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "unknown place"
        raise ExperimentError(f"{label} at {where}: {error.problem or error.context}") from None
    except MALFORMED as error:
        reason = str(error).splitlines() or [type(error).__name__]
        raise ExperimentError(f"{label}: {shown(reason[0])}") from None


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set one key, in place: `training.epochs=3`, `datasets.0.train_sizes=[100, all]`.

    Raises `ExperimentError` where the text has no `=` or the path leads through a value that is no mapping or list.
    """
    path, separator, text = override.partition("=")
    keys = _parts(path)
    override = shown(override)
    if not separator or not all(keys) or len(keys) > DEEPEST:
        raise ExperimentError(f"--set {override}: give KEY=VALUE, for instance training.epochs=3")
    value = _load(text, f"--set {override}: the value is not valid YAML")
    node: Any = data
    for depth, key in enumerate(keys[:-1]):
        node = _child(node, key, ".".join(keys[: depth + 1]), override)
    last = keys[-1]
    if isinstance(node, list):
        node[_index(node, last, path, override)] = value
    else:
        node[last] = value


def _child(node: Any, key: str, path: str, override: str) -> Any:  # noqa: ANN401 - YAML holds anything
    if isinstance(node, list):
        child = node[_index(node, key, path, override)]
    else:
        child = node.get(key)
        if child is None:
            child = node[key] = {}
    if not isinstance(child, dict | list):
        raise ExperimentError(f"--set {override}: {shown(path)} is {shown(repr(child))}, which holds no keys")
    return child


def _index(node: Sequence[Any], key: str, path: str, override: str) -> int:
    if key not in map(str, range(len(node))):
        raise ExperimentError(
            f"--set {override}: {shown(path)} is a list; give a place from 0 to {len(node) - 1}, not {shown(repr(key))}"
        )
    return int(key)


@contextmanager
def naming_overrides(label: str, overrides: Sequence[str]) -> Iterator[None]:
    """Let errors about a value that `--set` gave name it beside the file, where nobody would find that value.

    A line of a message that begins with `label` and keys, as all do that are about a key, names the last override
    of one of these keys, of a part of it, or of what it is a part of.
    """
    try:
        yield
    except InputError as error:
        message = "\n".join(_with_override(line, label, overrides) for line in str(error).splitlines())
        if message == str(error):
            raise
        raise type(error)(message) from error


def _with_override(line: str, label: str, overrides: Sequence[str]) -> str:
    head, told = f"{label}: ", line.removeprefix(f"{label}: ")
    if told == line:
        return line
    keys = [_parts(key) for key in told.partition(": ")[0].split(", ")]
    for override in reversed(overrides):
        given = _parts(override.partition("=")[0])
        if any(part[: len(given)] == given[: len(part)] for part in keys):
            return f"{head}--set {shown(override)}: {told}"
    return line


def _parts(key: str) -> list[str]:
    """Return the keys of `datasets[0].root`, or of `datasets.0.root`."""
    return key.strip().replace("[", ".").replace("]", "").split(".")


def path_of(location: Sequence[str | int]) -> str:
    """Return `datasets[0].train_sizes[1]` for pydantic's `('datasets', 0, 'train_sizes', 1)`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "the file"


_ACCEPTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "string_pattern_mismatch": "a name of letters, digits, '-', '_' and '.'",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list, such as [a, b]",
    "tuple_type": "a list, such as [a, b]",
    "model_type": "keys below it, one a line",
    "model_attributes_type": "keys below it, one a line",
    "dict_type": "keys below it, one a line",
}


def _bound(error: Mapping[str, Any]) -> str | None:
    context = error.get("ctx", {})
    bounds = {
        "greater_than": ("gt", "a number above {}"),
        "greater_than_equal": ("ge", "a number of at least {}"),
        "less_than": ("lt", "a number below {}"),
        "less_than_equal": ("le", "a number of at most {}"),
        "too_short": ("min_length", "at least {} of them"),
        "string_too_short": ("min_length", "at least {} characters"),
        "string_too_long": ("max_length", "at most {} characters"),
        "literal_error": ("expected", "{}"),
    }
    if error["type"] not in bounds:
        return None
    key, text = bounds[error["type"]]
    return text.format(context[key])


def shown(text: str, most: int = LONGEST_VALUE) -> str:
    """Return a text of any length and letters as a message shows it."""
    return safe_text(text if len(text) <= most else text[: most - 3] + "...")


def describe(error: Mapping[str, Any], known_keys: Sequence[str]) -> str:
    """Return one line for one of pydantic's errors: key, value and what is accepted.

    `known_keys` are the keys accepted where the error stands; the nearest is suggested for an unknown one.
    """
    where, kind = shown(path_of(error["loc"])), error["type"]
    if kind == "extra_forbidden":
        key = str(error["loc"][-1])
        near = difflib.get_close_matches(key, known_keys, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return f"{where}: unknown key; {hint}accepted here: {', '.join(known_keys)}"
    if kind == "missing":
        return f"{where}: missing; every experiment needs it"
    if kind == "value_error":
        return f"{where}: {error['ctx']['error']}"
    accepted = _ACCEPTED.get(kind) or _bound(error)
    value = shown(repr(error["input"]))
    return f"{where}: {value} is not accepted; give {accepted}" if accepted else f"{where}: {value}: {error['msg']}"
