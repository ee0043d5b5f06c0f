"""Copies of broker modules with a stated text replaced, loaded beside the originals."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
PREFIX = "mutated_"


class NotFound(Exception):
    """The text to replace is not in the module exactly once: the mutant is out of date."""


class _Copies(MetaPathFinder, Loader):
    """`mutated_<name>.<rest>` is a copy of `<package>.<rest>`. It imports its siblings from among the copies; below `broker`
    itself, where only the one module is copied, from the originals."""

    def __init__(self, name: str, package: str, replaced: Mapping[str, Sequence[tuple[str, str]]]) -> None:
        self._alias = PREFIX + name
        self._package = package
        self._replaced = replaced

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if fullname != self._alias and not fullname.startswith(f"{self._alias}."):
            return None
        return ModuleSpec(fullname, self, is_package=fullname == self._alias)

    def create_module(self, spec: ModuleSpec) -> None:
        """The usual module will do."""

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ == self._alias:
            return
        rest = module.__name__.removeprefix(f"{self._alias}.")
        file = ROOT / f"{self._package.replace('.', '/')}/{rest}.py"
        text = file.read_text()
        for old, new in self._replaced.get(rest, ()):
            if text.count(old) != 1:
                raise NotFound(f"{file.name} has {text.count(old)} times: {old}")
            text = text.replace(old, new)
        if self._package != "broker":
            text = text.replace(f"from {self._package}", f"from {self._alias}")
        exec(compile(text, str(file), "exec"), module.__dict__)


def load_mutant(name: str, package: str, entry: str, replaced: Mapping[str, Sequence[tuple[str, str]]]) -> ModuleType:
    """Module `entry` of a copy of `package` in which, by module, each old text has become the new one. Raises NotFound."""
    alias = PREFIX + name
    if f"{alias}.{entry}" not in sys.modules:
        sys.meta_path.append(_Copies(name, package, replaced))
    loaded = importlib.import_module(f"{alias}.{entry}")
    for rest in replaced:
        importlib.import_module(f"{alias}.{rest}")
    return loaded
