"""Read YAML that a user wrote, apply `--set` overrides, and say clearly what is wrong with it.

In: a path or text, overrides such as `training.epochs=3`, pydantic's list of errors.
Out: plain dicts and lists, or one `ExperimentError` that names file, key, value and what is accepted.
"""

import difflib
import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import yaml

from raybench.errors import ExperimentError

MAXIMUM_BYTES = 1_000_000
"""An experiment file is a page or two; anything near this size is not one."""


class _Loader(yaml.SafeLoader):
    """Safe YAML without aliases (no expansion bombs) and without silently repeated keys."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not accepted", event.start_mark)
        return super().compose_node(parent, index)

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


# YAML 1.1 reads 1e-4 as text; engineers write it all the time and mean a number.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*)(?:\.[\d_]*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping that a YAML file holds; raise `ExperimentError` where it holds none."""
    try:
        if path.stat().st_size > MAXIMUM_BYTES:
            raise ExperimentError(
                f"{path}: {path.stat().st_size} bytes; an experiment file has at most {MAXIMUM_BYTES}"
            )
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ExperimentError(f"{path}: no such file; give the path of an experiment file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ExperimentError(f"{path}: cannot be read as text: {error}") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, label: str) -> dict[str, Any]:
    """Return the mapping in a YAML text; `label` names it in errors."""
    try:
        data = yaml.load(text, Loader=_Loader)  # noqa: S506 - a subclass of SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "unknown place"
        raise ExperimentError(f"{label}: not valid YAML at {where}: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ExperimentError(f"{label}: not valid YAML: {str(error) or 'nested too deeply'}") from None
    if not isinstance(data, dict):
        kind = "nothing" if data is None else f"a {type(data).__name__}"
        raise ExperimentError(f"{label}: holds {kind}; an experiment is a mapping that starts with 'name: ...'")
    return cast("dict[str, Any]", data)


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set one key, in place: `training.epochs=3`, `datasets.0.train_sizes=[100, all]`.

    Raises `ExperimentError` where the text has no `=` or the path leads through a value that is no mapping or list.
    """
    path, separator, text = override.partition("=")
    keys = path.strip().replace("[", ".").replace("]", "").split(".")
    if not separator or not all(keys):
        raise ExperimentError(f"--set {override}: give KEY=VALUE, for instance training.epochs=3")
    try:
        value = yaml.load(text, Loader=_Loader)  # noqa: S506 - a subclass of SafeLoader
    except (yaml.YAMLError, ValueError) as error:
        raise ExperimentError(f"--set {override}: the value is not valid YAML: {error}") from None
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
        raise ExperimentError(f"--set {override}: {path} is {child!r}, which holds no keys")
    return child


def _index(node: Sequence[Any], key: str, path: str, override: str) -> int:
    if not key.isdigit() or int(key) >= len(node):
        raise ExperimentError(
            f"--set {override}: {path} is a list; give a place from 0 to {len(node) - 1}, not {key!r}"
        )
    return int(key)


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


def describe(error: Mapping[str, Any], known_keys: Sequence[str]) -> str:
    """Return one line for one of pydantic's errors: key, value and what is accepted.

    `known_keys` are the keys accepted where the error stands; the nearest is suggested for an unknown one.
    """
    where, kind = path_of(error["loc"]), error["type"]
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
    value = repr(error["input"])
    if len(value) > 80:  # noqa: PLR2004 - a terminal line
        value = value[:77] + "..."
    return f"{where}: {value} is not accepted; give {accepted}" if accepted else f"{where}: {value}: {error['msg']}"
