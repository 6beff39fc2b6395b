"""The private names of other packages that the library uses: all are listed here, and still exist.

A private name may change in any release. Some are read with a default, so no other test would fail.
"""

from __future__ import annotations

import ast
import importlib.metadata
import pathlib
from collections.abc import Callable, Iterator

import cachelib
import opentelemetry.context
import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "flask_m2m_cognito"

DOCUMENTED = {"_asdict", "_replace", "_get_current_object"}
"""Public, although they begin with an underscore: names of named tuples and of werkzeug's LocalProxy."""


def memcached_cache() -> object:
    return cachelib.MemcachedCache(object())


def is_before(package: str, *version: int) -> bool:
    installed = importlib.metadata.version(package).split(".")
    return tuple(map(int, installed[: len(version)])) < version


USES: dict[tuple[str, str], tuple[str, Callable[[], object]]] = {
    # The name and the file that uses it: the package that has it, and the object with the attribute.
    ("_SUPPRESS_HTTP_INSTRUMENTATION_KEY", "otel.py"): ("opentelemetry-api", lambda: opentelemetry.context),
    ("_client", "app/cache_backend.py"): ("cachelib", memcached_cache),
    ("_client_context", "app/cache_backend.py"): ("cachelib", memcached_cache),
}


def parsed(folder: pathlib.Path) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(folder.rglob("*.py")):
        yield path.relative_to(folder).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def is_private(name: object) -> bool:
    return isinstance(name, str) and name[:1] == "_" and name[:2] != "__" and name.isidentifier()


def is_own_object(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def defined_in(tree: ast.Module) -> Iterator[str]:
    """Yield the names that this module defines."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif (
            isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_own_object(node.value)
        ):
            yield node.attr


def used_in(tree: ast.Module, own: set[str]) -> Iterator[str]:
    """Yield private names that this module imports, reads from an object, or passes to ``getattr``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            names = [] if node.attr in own else [node.attr]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [name for alias in node.names for name in alias.name.split(".")]
        elif isinstance(node, ast.Call) and len(node.args) > 1 and not is_own_object(node.args[0]):
            is_by_name = ast.unparse(node.func) in ("getattr", "hasattr", "setattr", "delattr")
            named = node.args[1].value if isinstance(node.args[1], ast.Constant) else None
            names = [named] if is_by_name and isinstance(named, str) else []
        else:
            continue
        yield from filter(is_private, names)


def foreign_names_in(folder: pathlib.Path) -> set[tuple[str, str]]:
    modules = list(parsed(folder))
    own = {name for _, tree in modules for name in defined_in(tree)} | DOCUMENTED
    return {(name, where) for where, tree in modules for name in used_in(tree, own)}


@pytest.mark.parametrize(("name", "where"), USES)
def test_private_name_of_another_package_exists(name: str, where: str) -> None:
    package, holder = USES[name, where]
    if name == "_client_context" and is_before("cachelib", 0, 15):
        pytest.skip("cachelib before 0.15 has one client and no context")
    version = importlib.metadata.version(package)
    assert hasattr(holder(), name), f"{where} uses {name} of {package}, which {version} does not have"


def test_every_private_name_of_another_package_is_listed() -> None:
    assert foreign_names_in(PACKAGE) == USES.keys()


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("def run(pool): return pool._new_conn()", id="an attribute"),
        pytest.param("def run(pool): pool._new_conn = None", id="an attribute that is set"),
        pytest.param("class Pool(Other):\n    def run(self): return self._new_conn()", id="a base class's"),
        pytest.param("def run(pool): return getattr(pool, '_new_conn', None)", id="by getattr"),
        pytest.param("from urllib3.connection import _new_conn", id="an import"),
        pytest.param("from urllib3._new_conn import connect", id="an import from a private module"),
        pytest.param("import urllib3._new_conn", id="an import of a private module"),
    ],
)
def test_scan_finds_a_private_name(tmp_path: pathlib.Path, line: str) -> None:
    (tmp_path / "module.py").write_text(f"{line}\n", encoding="utf-8")
    assert foreign_names_in(tmp_path) == {("_new_conn", "module.py")}
