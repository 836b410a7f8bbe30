"""The examples of docs/stack.md run, and every value that stands behind a line is the value of that line."""

import ast
import re
from pathlib import Path

import torch

PAGE = Path(__file__).parents[2] / "docs" / "stack.md"


def test_the_examples():
    names: dict = {}
    checked = 0
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        lines = block.splitlines()
        for node in ast.parse(block).body:
            code = "\n".join(lines[node.lineno - 1 : node.end_lineno])
            if not isinstance(node, ast.Expr):
                exec(code, names)
                told = re.search(r"restore\(.*#\s+(\(.*\))$", code)
                if told:
                    assert tuple(names["result"].shape) == ast.literal_eval(told[1])
                    checked += 1
                continue
            value = eval(code, names)
            told = re.search(r"#\s+(.*?)(?:: .*)?$", code)[1]
            known = ast.literal_eval(told)
            assert (tuple(value) if isinstance(value, torch.Size) else value) == known
            checked += 1
    assert checked >= 7
