"""Files that people write in YAML: reading them safely, and saying where in one something is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel
from yaml.composer import Composer

from nightshift.settings.fields import hint, likely


class BadYaml(ValueError):
    """A file that cannot be read as YAML; the text says where and why."""


def read_yaml(path: Path) -> Any:
    """Return what a file holds, not to be changed; it is read again only where it changed.

    :raises FileNotFoundError: there is no such file.
    :raises BadYaml: it cannot be read, or is no YAML.
    """
    try:
        stamp = path.stat()
        # The time of its node as well: a right that was taken changes no content.
        return _contents(path, (stamp.st_mtime_ns, stamp.st_ctime_ns, stamp.st_size))
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise BadYaml(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise BadYaml(f"{where}: not valid YAML: {getattr(error, 'problem', error)}") from error
    except RecursionError:
        raise BadYaml(f"{path}: not valid YAML: nested too deep") from None


def nodes_of(path: Path) -> yaml.Node | None:
    """Return the nodes of a file that is valid YAML, which know their lines. It takes as long as reading it."""
    return yaml.compose(path.read_text(encoding="utf-8"))


def problem(
    model: type[BaseModel], path: Path, root: yaml.Node | None, item: Mapping[str, Any], given: str = ""
) -> str:
    """Return one validation error as `file:line: key: what is wrong (you wrote …; did you mean …)`.

    :param given: a field that the model has and no file gives.
    """
    location = tuple(item["loc"])
    line = line_of(root, location)
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    text = item["msg"].removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        allowed = [name for name in _fields(model, location[:-1]) if location[1:] or name != given]
        text = f"unknown key; {hint(str(location[-1]), allowed, 'known keys:')}"
    elif item["type"] == "literal_error":
        expected = item["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        meant = likely(str(item["input"]), expected)
        text += f"; you wrote {item['input']!r:.200}" + (f", {meant}" if meant else "")
    elif item["type"] != "missing" and not isinstance(item["input"], dict | list | BaseModel):
        text += f"; you wrote {item['input']!r:.200}"
    return f"{path}:{line}: {key or 'file'}: {text}"


def line_of(node: yaml.Node | None, location: tuple[Any, ...]) -> int:
    """Return the line (from 1) of the deepest part of `location` that the file has."""
    line = 1
    for part in location:
        child = None
        if isinstance(node, yaml.MappingNode):
            for key_node, value_node in node.value:
                if key_node.value == str(part):
                    line, child = key_node.start_mark.line + 1, value_node
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            child = node.value[part]
            line = child.start_mark.line + 1
        if child is None:
            break
        node = child
    return line


def _fields(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """The keys that `model` knows at `location`."""
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            annotation = model.model_fields[part].annotation
            model = next(_models(annotation), model)
    return list(model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


class Loader(Composer, yaml.CSafeLoader):
    """PyYAML's safe loader, whose every refusal is a `YAMLError` with its line; it refuses a key that is there twice.

    libyaml reads the text, five times as fast as Python. Nodes are composed in Python all the same: in libyaml's binding a file
    that is nested too deep kills the process.
    """

    def __init__(self, text: str) -> None:
        yaml.CSafeLoader.__init__(self, text)
        Composer.__init__(self)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.composer.ComposerError(
                        None, None, f"the key `{key.value}` is there twice", key.start_mark
                    )
                seen.add(key.value)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (yaml.YAMLError, RecursionError):
            raise
        except Exception as error:  # a day that no month has, words after `!!int`: each raises what Python raises
            text = f"{getattr(node, 'value', '')!r} is not what it should be: {error}"
            raise yaml.constructor.ConstructorError(None, None, text, node.start_mark) from error


@lru_cache(maxsize=1_000)
def _contents(path: Path, _stamp: tuple[int, ...]) -> Any:
    """What a file holds, not to be changed; it is read again only where it changed."""
    return yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)  # noqa: S506  (a safe loader)
