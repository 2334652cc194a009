#!/usr/bin/env python3
"""Print the size of the library, and the part of it that one step imports.

    tools/measure.py [FOLDER_OF_ANOTHER_CHECKOUT]

Code lines exclude blank lines, comments and docstrings. A step reaches all modules of lib/daybook
that its own module imports, directly or indirectly.
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
    lines = {module: code_lines(path.read_text()) for module, path in modules.items()}
    rows = [("lib/daybook", len(modules), sum(lines.values()))]
    for step in STEPS:
        reached = reach(f"daybook.steps.{step}", modules)
        rows.append((f"path of `{step}`", len(reached), sum(lines[module] for module in reached)))
    print("| part | modules | code lines |\n|---|---|---|")
    for part, count, total in rows:
        print(f"| {part} | {count} | {total:,} |")
    repeated = [name for name, count in class_names(modules).items() if count > 1]
    print(f"| class names used more than once | {len(repeated)} | |")


def name(path: Path, root: Path) -> str:
    """Return a file's module name: "daybook.steps.provision"."""
    parts = path.relative_to(root / "lib").with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def code_lines(text: str) -> int:
    """Count the lines with code."""
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
    """Return a module and all modules of the library that it imports, directly or indirectly."""
    reached, pending = set(), [start]
    while pending:
        module = pending.pop()
        if module in reached:
            continue
        reached.add(module)
        pending += imports(modules[module], modules)
        if "." in module:
            pending.append(module.rpartition(".")[0])
    return reached


def imports(path: Path, modules: dict[str, Path]) -> set[str]:
    """Return the modules of the library that a file imports."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            named = {f"{node.module}.{alias.name}" for alias in node.names}
            imported |= {known for known in named | {node.module} if known in modules}
        elif isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names if alias.name in modules}
    return imported


def class_names(modules: dict[str, Path]) -> Counter[str]:
    """Count the classes of each name, without nested ones such as Deploy.Parameters."""
    return Counter(
        node.name
        for path in modules.values()
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef)
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve() if sys.argv[1:] else ROOT)
