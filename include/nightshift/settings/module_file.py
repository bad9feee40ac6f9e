"""A module of the project folder as text: where its file is, its digest, and whether it defines a function. Nothing is run."""

from __future__ import annotations

import ast
import hashlib
from functools import lru_cache
from pathlib import Path

from nightshift.settings.fields import hint


def module_file(function: str, folder: Path) -> Path:
    """Return the file of the module in `module:function`, which lies in a folder.

    :raises ValueError: there is none, or a link leads out of the folder.
    """
    module = function.partition(":")[0]
    file = folder.joinpath(*module.split(".")).with_suffix(".py")
    if not file.is_file():
        raise ValueError(f"there is no file {file}: write the module there, or set NIGHTSHIFT_PROJECT to its folder")
    if not file.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{file} is a link that leads out of the project folder; copy the module there")
    return file


def function_digest(function: str, folder: Path) -> str:
    """Return the SHA-256, in hex, of the file of `module:function`, once that is known to define the function.

    :raises ValueError: there is no such file, it is no Python, or it defines no such function of one argument.
    """
    file = module_file(function, folder)
    name = function.partition(":")[2]
    try:
        stamp = file.stat()
        digest, functions = _parsed(file, (stamp.st_mtime_ns, stamp.st_ctime_ns, stamp.st_size))
    except SyntaxError as error:
        raise ValueError(f"{file}:{error.lineno or 1}: no valid Python: {error.msg}") from None
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from None
    if name not in functions:
        raise ValueError(f"{file} defines no function `{name}`; {hint(name, functions, 'it defines')}")
    if not _takes_rows(functions[name]):
        raise ValueError(
            f"{file}:{functions[name].lineno}: `{name}` must be a plain function of one argument, the rows"
        )
    return digest


@lru_cache(maxsize=1_000)
def _parsed(file: Path, _stamp: tuple[int, ...]) -> tuple[str, dict[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """The digest of a file and the functions that it defines; it is read again only where it changed."""
    source = file.read_bytes()
    tree = ast.parse(source, str(file))
    functions = {one.name: one for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
    return hashlib.sha256(source).hexdigest(), functions


def _takes_rows(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    arguments = function.args
    positional = len(arguments.posonlyargs) + len(arguments.args)
    needed = positional - len(arguments.defaults)
    only_rows = needed <= 1 and None not in arguments.kw_defaults and (positional > 0 or arguments.vararg is not None)
    return isinstance(function, ast.FunctionDef) and only_rows
