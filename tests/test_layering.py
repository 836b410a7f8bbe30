"""Imports point one way: facts ← program ← ops ← rules ← analyse ← lower ← fold/audit ← report ← cli."""

import ast
from pathlib import Path

import pytest

import flatconv

ROOT = Path(flatconv.__file__).parent

# Lower numbers may not import higher ones. Modules of one layer may import each other only where listed as a package.
LAYERS = [
    {"accuracy", "errors", "facts", "gradients", "findings"},
    {"modelstate", "freed"},
    {"program", "guards", "signature", "archives"},
    {"assume", "acceptance"},
    {"ops"},
    {"rules", "forms"},
    {"writes", "watch", "runtimes"},
    {"exporting", "stack", "onnx_in"},
    {"tracing"},
    {"analyse", "capture", "interpret", "aliases"},
    {"lower", "files", "measure", "spec", "inputs", "fanin", "isolate", "reuse", "rank4", "state", "mixed"},
    {"audit", "module", "oracle"},
    {"soundness", "reinit", "depths", "deploy"},
    {"tune"},
    {"verify"},
    {"report"},
    {"fold"},
    {"route"},
    {"parts"},
    {"patch"},
    {"integrations", "backend"},
    {"bench"},
    {"study"},
    {"commands"},
    {"cli", "__init__", "examples"},
]
LEVEL = {name: i for i, layer in enumerate(LAYERS) for name in layer}

# Views are named by the numbers they show, and loaded only when somebody prints: imports inside functions are exempt.


def modules():
    return sorted(p for p in ROOT.rglob("*.py"))


def top(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:  # the module's own level only
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "flatconv":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {a.name for a in node.names if not a.name.startswith("__")}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("flatconv.")}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path):
    here = top(path)
    for other in imported(path) - {here}:
        assert LEVEL[other] < LEVEL[here] or here == "__init__", f"{here} may not import {other}"


def test_every_module_has_a_layer():
    assert {top(p) for p in modules()} <= LEVEL.keys()


def test_facts_never_imports_torch():
    tree = ast.parse((ROOT / "facts.py").read_text(encoding="utf-8"))
    named = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    named |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert not any(name.split(".")[0] in ("torch", "flatconv") for name in named)


def test_only_the_command_line_prints():
    for path in modules():
        calls = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
        printed = [n.lineno for n in calls if isinstance(n.func, ast.Name) and n.func.id == "print"]
        assert not printed or path.name == "cli.py", f"{path.name} prints in lines {printed}"


def test_no_module_is_too_long():
    long = {p.name: n for p in modules() if (n := len(p.read_text(encoding="utf-8").splitlines())) > 480}
    assert not long
