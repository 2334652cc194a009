"""Secrets output in every form do not occur in any file of a run."""

from __future__ import annotations

import base64
import json
import urllib.parse
from pathlib import Path

import nbformat
import pytest

from daybook.record import journal, seal

SECRET = "k9$Tr0ub4dor&3/\"horse' %"
TOKEN = "Zq7fLm2XwP9sVb4KtN8yRc3H"
SHAPED = {
    "aws_id": "AKIA" + "Q3EGVXAMPLEKEY77",
    "aws_secret": "wJalrXUtnFEMI/K7MDENG" + "/bPxRfiCYEXAMPLEKEY",
    "github": "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8",
    "slack": "xoxb-" + "123456789012-abcdefghijkl",
    "stripe": "sk_" + "live_4eC39HqLyjWDarjtT1zdp7dc",
    "jwt": "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
    "url": "postgres://app:" + "0pen5esame@db.internal/app",
    "header": "Authorization: Basic " + base64.b64encode(b"ann:opensesame99").decode(),
}
PEM_BODY = base64.b64encode(bytes(range(40, 240)) * 2).decode()
REGISTER = f"""
recorder.redactor.add("DB", {SECRET!r})
recorder.redactor.add("TOKEN", {TOKEN!r})
secret, token, shaped, pem = {SECRET!r}, {TOKEN!r}, {SHAPED!r}, {PEM_BODY!r}
"""
FORMS = {
    "printed": "print('plain', secret, token)",
    "base64": "import base64; print(base64.b64encode(secret.encode()).decode())",
    "base64 inside": "import base64; print(base64.b64encode(('ann:' + token).encode()).decode())",
    "base64 wrapped": (
        "import base64; print(base64.encodebytes(('x' * 50 + token + 'y' * 30).encode()).decode())"
    ),
    "url": (
        "from urllib.parse import quote, quote_plus; print(quote(secret), quote_plus(secret))\n"
        "print(quote(secret, safe=''))"
    ),
    "json": "import json; print(json.dumps({'a': json.dumps({'b': secret})}))",
    "repr": "[secret, {token: token}]",
    "two messages": (
        "print(token[:9], end='', flush=True); print(token[9:], flush=True)\n"
        "import sys; sys.stdout.write(secret[:1]); sys.stdout.flush(); print(secret[1:])"
    ),
    "two lines": "print(token[:11] + '\\n    ' + token[11:])",
    "stderr": "import sys; print(secret, file=sys.stderr)",
    "child": "import os; os.system('echo ' + token)",
    "progress": "for i in range(9): print(f'{i}0% {token}', end='\\r', flush=True)",
    "colours": "print(token[:6] + '\\x1b[31m' + token[6:] + '\\x1b[0m')",
    "html": (
        "from IPython.display import HTML; import html\nHTML('<b>' + html.escape(secret) + '</b>')"
    ),
    "other mime": (
        "from IPython.display import display\n"
        "display({'application/json': {token: [secret]}, 'image/svg+xml': f'<svg>{token}</svg>',"
        " 'text/plain': secret}, raw=True, metadata={'note': token})"
    ),
    "update": (
        "from IPython.display import display\nshown = display('first', display_id=True)\n"
        "shown.update(secret)\nshown.update(token)"
    ),
    "widget": (
        "import ipywidgets; from IPython.display import display\n"
        "display(ipywidgets.Text(value=token, description=secret))"
    ),
    "shaped": "print('\\n'.join(shaped.values()))",
    "key": (
        "print('-----BEGIN OPENSSH PRIVATE ' + 'KEY-----', flush=True)\n"
        "for at in range(0, 400, 64): print(pem[at:at + 64], flush=True)\n"
        "print('-----END OPENSSH PRIVATE ' + 'KEY-----')"
    ),
    "journal": (
        "recorder.write('tool_start', number=1, args=['x', token], log=None)\n"
        "recorder.write('outputs', values={'password': secret})\n"
        "recorder.write('check', checks=[{'name': 'n', 'expected': token, 'observed': '',"
        " 'is_ok': True}])"
    ),
    "attachment": "(recorder.folder / 'attachments/host.log').write_text('a ' + token + '\\n')",
    "tool": (
        "from daybook import process; import sys\n"
        "recorder.tool(process.run)([sys.executable, '-c', f'print({token!r}); print({secret!r})'])"
    ),
    "long": "print('x' * 1_100_000); print(token); print(secret)",
}
RAISES = "raise RuntimeError('cannot log in as ' + secret + ' with ' + token)"


@pytest.fixture(scope="module")
def forbidden() -> list[str]:
    """Return all encodings of the secrets, none of which may occur."""
    forms = []
    for value in (SECRET, TOKEN):
        forms += [value, urllib.parse.quote(value), json.dumps(value)[1:-1], repr(value)[1:-1]]
        forms += [base64.b64encode(value.encode()).decode()[:20]]
        forms += [base64.b64encode(b"ann:" + value.encode()).decode()[6:24]]
    forms += [SHAPED[name] for name in SHAPED if name not in ("url", "header")]
    return [*forms, "0pen5esame", SHAPED["header"].split()[-1], PEM_BODY[64:128], PEM_BODY[300:360]]


def leaks(root: Path, forbidden: list[str]) -> list[tuple[str, str]]:
    """Return (file, form) of each secret in a file of the run."""
    files = [path for path in [*root.glob("runs/**/*"), root / "out.ipynb"] if path.is_file()]
    assert len(files) > 5
    leaks = []
    for path in files:
        raw = path.read_text(errors="replace")
        views = {raw, raw.replace("\\n", "").replace("\n", "").replace(" ", "")}
        if path.suffix in (".ipynb", ".json"):
            views |= set(_strings(json.loads(raw)))
        if path.name == journal.NAME:
            streams = [e.get("text", "") for e in journal.read(path).of("output")]
            views |= {"".join(streams), "".join("".join(streams).split())}
        leaks += [(path.name, form) for form in forbidden for view in views if form in view]
    return leaks


def _strings(value) -> list[str]:
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in _strings(part)]
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("ending", [(), (RAISES,)], ids=["succeeds", "raises"])
def test_no_secret_occurs_in_any_file(workshop, forbidden, ending):
    folder = workshop.run(*_register_secrets(workshop), *FORMS.values(), *ending)
    record = seal.load(folder)
    assert record["status"] == ("failed" if ending else "succeeded"), record["error"]
    assert leaks(workshop.root, forbidden) == []
    shown = (folder / "report.html").read_text()
    for name in ("DB", "TOKEN", "github-token", "private-key", "url-password", "jwt"):
        assert f"[redacted:{name}]" in shown, name


def test_a_secret_in_the_source_of_a_cell_is_redacted(workshop):
    folder = workshop.run(*_register_secrets(workshop), f"password = {TOKEN!r}\nprint('ok')")
    assert {file for file, _ in leaks(workshop.root, [TOKEN])} == {"out.ipynb"}, (
        "papermill copies the template's cells unchanged; the record does not"
    )
    assert "[redacted:TOKEN]" in (folder / "notebook.ipynb").read_text()


def test_a_secret_registered_after_it_was_printed_is_redacted_and_reported(workshop):
    late = "import os\nprint('the value is', os.environ['LATE'])"
    source = f"import os\nos.environ['LATE'] = {TOKEN[::-1]!r}[::-1]"
    register = "recorder.redactor.add('LATE', os.environ['LATE'])"
    folder = workshop.run(source, late, register)
    assert seal.load(folder)["redacted"] == {journal.NAME: 1}
    for path in seal.files_of(folder):
        assert TOKEN not in path.read_text()
    assert "Secrets were redacted" in (folder / "report.html").read_text()


def test_common_and_short_values_are_not_redacted(workshop):
    words = ("admin", "true", "test", "", "1", "password")
    register = f"for word in {words}: recorder.redactor.add('W', word)"
    folder = workshop.run(register, "print('admin says it is true: password 1')")
    notebook = nbformat.read(folder / "notebook.ipynb", as_version=4)
    assert "admin says it is true: password 1" in str(notebook)


def _register_secrets(workshop) -> list[str]:
    """Return the cell that registers the secrets; it reads them from a file of the operator."""
    (workshop.root / "operator_secrets.py").write_text(REGISTER)
    return ["exec((root / 'operator_secrets.py').read_text())"]


def test_a_value_typed_at_a_prompt_is_not_in_any_file(workshop, front):
    workshop.write()
    front.execute('run = "r1"')
    front.execute(workshop.begin)
    ask = "from daybook.steps.rotate_secret import _typed; value = _typed('KEY'); len(value)"
    assert front.execute(ask, typed=[TOKEN, TOKEN])["status"] == "ok"
    assert front.execute(ask, typed=[TOKEN, "another"])["ename"] == "SettingsError"
    front.execute("recorder.finish()")
    assert f'"{len(TOKEN)}"' in (workshop.folder() / "journal.jsonl").read_text()
    leaking = [
        path
        for path in workshop.root.rglob("*")
        if path.is_file() and TOKEN.encode() in path.read_bytes()
    ]
    assert leaking == []
