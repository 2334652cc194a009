#!/usr/bin/env python3
"""Print how large the library is, and how much of it one step reaches.

    tools/measure.py [FOLDER_OF_ANOTHER_CHECKOUT]

Code lines have code on them: no blank lines, comments or docstrings. A step reaches every module of
lib/daybook that its own module imports, directly or through others.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STEPS = ("provision", "deploy")
QUIET = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}


def main(root: Path) -> None:
    """Print a Markdown table."""
    modules = {name(path, root): path for path in sorted((root / "lib/daybook").rglob("*.py"))}
    lines = {each: code_lines(path.read_text()) for each, path in modules.items()}
    rows = [("lib/daybook", len(modules), sum(lines.values()))]
    for step in STEPS:
        reached = reach(f"daybook.steps.{step}", modules)
        rows.append((f"path of `{step}`", len(reached), sum(lines[each] for each in reached)))
    print("| what | modules | code lines |\n|---|---|---|")
    for what, count, total in rows:
        print(f"| {what} | {count} | {total:,} |")
    twice = [each for each, count in class_names(modules).items() if count > 1]
    print(f"| class names used twice | {len(twice)} | |")


def name(path: Path, root: Path) -> str:
    """Return the name that imports a file: "daybook.steps.provision"."""
    parts = path.relative_to(root / "lib").with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def code_lines(text: str) -> int:
    """Count the lines that have code on them."""
    docstrings = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for line in range(node.lineno, node.end_lineno + 1)
    }
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    code = {
        line
        for token in tokens
        if token.type not in QUIET and token.string
        for line in range(token.start[0], token.end[0] + 1)
    }
    return len(code - docstrings)


def reach(start: str, modules: dict[str, Path]) -> set[str]:
    """Return a module and all of the library that it imports, directly or through others."""
    reached, waiting = set(), [start]
    while waiting:
        module = waiting.pop()
        if module in reached:
            continue
        reached.add(module)
        waiting += imports(modules[module], modules)
        if "." in module:
            waiting.append(module.rpartition(".")[0])
    return reached


def imports(path: Path, modules: dict[str, Path]) -> set[str]:
    """Return the modules of the library that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            named = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {each for each in named | {node.module} if each in modules}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in modules}
    return found


def class_names(modules: dict[str, Path]) -> Counter[str]:
    """Count how often each public name is that of a class."""
    return Counter(
        node.name
        for path in modules.values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve() if sys.argv[1:] else ROOT)
