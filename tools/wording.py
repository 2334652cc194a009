"""Check the English of code, notebooks, documents and configuration against tools/wording.toml."""

import argparse
import ast
import json
import re
import subprocess
import sys
import tokenize
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RULES = tomllib.loads((ROOT / "tools/wording.toml").read_text(encoding="utf-8"))
KINDS = {
    ".py": "Python",
    ".ipynb": "notebooks",
    ".md": "documents",
    ".yml": "configuration",
    ".tf": "configuration",
}
# Recorded output and attack texts are data, not prose of the project.
EXEMPT = ("tests/fixtures/", "tools/wording.toml")
PHRASES = {
    re.compile(rf"\b(?:{words})\b".replace(" ", r"\s+"), re.IGNORECASE): instead
    for words, instead in RULES["instead"].items()
}
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

Text = tuple[int, str]


def is_message(node: ast.AST) -> bool:
    """Tell whether a node is a string of several words."""
    return (
        isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip()
    )


def python_texts(path: Path) -> Iterator[Text]:
    """Yield comments, docstrings and, outside tests, all strings of several words."""
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node, clean=False)):
            yield node.body[0].lineno, text
        elif is_message(node) and "tests" not in path.relative_to(ROOT).parts:
            yield node.lineno, node.value
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string


def notebook_texts(path: Path) -> Iterator[Text]:
    """Yield the number and text of each cell that is prose."""
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"], start=1):
        if cell["cell_type"] == "markdown":
            yield number, "".join(cell["source"])


def configuration_texts(path: Path) -> Iterator[Text]:
    """Yield comments, task names and descriptions of YAML and Terraform files."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if text := re.search(
            r"(?:^|\s)#\s(.*)$|^\s*-?\s*(?:name|description|short_description)\s*[:=]\s*(.*)$", line
        ):
            yield number, text[1] or text[2] or ""


def document_texts(path: Path) -> Iterator[Text]:
    """Yield the whole document, so that a phrase may cross a line."""
    yield 1, path.read_text(encoding="utf-8")


READERS = {
    "Python": python_texts,
    "notebooks": notebook_texts,
    "documents": document_texts,
    "configuration": configuration_texts,
}


def wrong_words(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield the line within the text, the words and their replacement."""
    prose = CODE.sub(lambda code: "\n" * code[0].count("\n"), text)
    for pattern, instead in PHRASES.items():
        for match in pattern.finditer(prose):
            yield prose.count("\n", 0, match.start()), " ".join(match[0].split()), instead


def wrong_names(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and name of each variable or parameter that the list refuses."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        name = (
            node.arg if isinstance(node, ast.arg) else node.id if isinstance(node, ast.Name) else ""
        )
        is_set = isinstance(node, ast.arg) or isinstance(getattr(node, "ctx", None), ast.Store)
        if is_set and name in RULES["names"]["not"]:
            yield node.lineno, name


def files(paths: list[str]) -> list[Path]:
    """List the committed files of a kind that is checked."""
    listed = subprocess.run(
        ["git", "ls-files", *paths], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [
        ROOT / name
        for name in listed.split()
        if Path(name).suffix in KINDS and not name.startswith(EXEMPT)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="*", help="files or folders; all committed files by default")
    problems, words, pronouns = [], defaultdict(int), defaultdict(int)
    for path in files(parser.parse_args().paths):
        name, kind = path.relative_to(ROOT), KINDS[path.suffix]
        for line, text in READERS[kind](path):
            problems += [
                f"{name}:{line + down}: {wrong!r}; write: {instead}"
                for down, wrong, instead in wrong_words(text)
            ]
            words[kind] += len(re.findall(r"[A-Za-z']+", text))
            pronouns[kind] += len(
                re.findall(rf"\b(?:{RULES['rate']['words']})\b", text, re.IGNORECASE)
            )
        if kind == "Python" and name.parts[0] == "lib":
            problems += [
                f"{name}:{line}: variable {variable!r}; name it for its subject"
                for line, variable in wrong_names(path)
            ]
    rates = {kind: 1000 * pronouns[kind] / max(1, words[kind]) for kind in words}
    for kind, rate in rates.items():
        if rate > RULES["rate"]["most"]:
            problems.append(
                f"{kind}: {rate:.1f} of {RULES['rate']['words']} per 1,000 words;"
                f" at most {RULES['rate']['most']}"
            )
    print(
        "\n".join(problems) or "The wording list matches nothing.",
        *(f"{k}: {r:.1f}" for k, r in rates.items()),
        sep="\n",
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
