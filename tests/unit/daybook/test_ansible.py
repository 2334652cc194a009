"""Ansible: its command, its events, and real plays on this machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from daybook import process, ui
from daybook.ansible import PlayEvent, child, events, runner, show_progress
from daybook.errors import ApplyFailed, CommandFailed, Interrupted

CHECKOUT = Path(__file__).resolve().parents[3]
ROLE = """
- name: Write a file
  ansible.builtin.copy:
    content: "{{ text }}"
    dest: "{{ folder }}/{{ inventory_hostname }}"
    mode: "0600"
- name: Check each item
  ansible.builtin.command: test {{ item }} != {{ bad }}
  loop: [a, b]
  changed_when: false
- name: Use a secret
  ansible.builtin.shell: echo {{ secret }}; exit {{ code }}
  changed_when: false
  no_log: true
- name: Skip a task
  ansible.builtin.command: "false"
  when: false
- name: Work slowly
  ansible.builtin.shell: touch {{ folder }}/slow; sleep {{ nap }}; touch {{ folder }}/slow-done
  changed_when: false
  when: nap > 0
- name: Run after the slow task
  ansible.builtin.file:
    path: "{{ folder }}/after"
    state: touch
    mode: "0600"
  when: nap > 0
"""
PLAY = """
- name: Test
  hosts: web
  gather_facts: false
  roles:
    - job
"""
DEFAULTS = {"text": "x", "bad": "z", "secret": "hunter2", "code": 0, "nap": 0}
LOCAL = f"ansible_connection=local ansible_python_interpreter={sys.executable}"
KERNEL = """
import json, os, sys
from pathlib import Path
from daybook import ansible
root, variables = Path(sys.argv[1]), json.loads(sys.argv[2])
ansible.play(root / "play.yml", inventory=root / "hosts", env=os.environ, project_dir=root,
             variables=variables)
"""


@pytest.fixture
def project(tmp_path):
    """Create a project with this machine as its host, and a folder for temporary files."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "ansible.cfg").touch()
    (tmp_path / "hosts").write_text(f"[web]\nweb-1 {LOCAL}\n")
    (tmp_path / "play.yml").write_text(PLAY)
    tasks = tmp_path / "roles/job/tasks/main.yml"
    tasks.parent.mkdir(parents=True)
    tasks.write_text(ROLE)
    return tmp_path


def play(project: Path, *, inventory: str = "hosts", on_event=None, **variables):
    options = {key: variables.pop(key) for key in ("check", "start") if key in variables}
    return runner.play(
        project / "play.yml",
        inventory=project / inventory,
        env={**os.environ, "TMPDIR": str(project / "tmp")},
        project_dir=project,
        variables={**DEFAULTS, "folder": str(project), **variables},
        on_event=on_event,
        **options,
    )


def private_directories(project: Path) -> list[Path]:
    return list((project / "tmp").glob("daybook-*"))


# ---- pure


def test_the_command_has_absolute_paths_and_no_variables():
    files = (Path("/p/ansible/staging.yml"), Path("/p/hosts"), Path("/p"))
    assert runner.command(*files, private_key=Path("/my keys/id"), check=True) == [
        *(sys.executable, str(runner.CHILD)),
        *("/p/ansible/staging.yml", "/p/hosts", "/p"),
        *("--private-key", "/my keys/id", "--check", "--diff"),
    ]


def test_an_operator_can_type_the_command_that_is_shown():
    files = (Path("/p/ansible/staging.yml"), Path("/p/ansible/inventories/staging"))
    assert runner.typed(*files, private_key=Path("/my keys/id")) == (
        "ansible-playbook -i /p/ansible/inventories/staging --private-key '/my keys/id' "
        "/p/ansible/staging.yml"
    )


def test_credentials_are_not_passed():
    env = {"PATH": "/bin", "AWS_REGION": "us-east-1", "LC_ALL": "C"}
    secrets = {"AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "s", "GITHUB_TOKEN": "s"}
    own_tools = Path(sys.executable).parent
    expected = {**env, "PATH": f"{own_tools}:/bin"}
    assert runner.minimal_environment({**env, **secrets}) == expected


def test_host_keys_are_checked_despite_the_default_of_ansible_runner():
    environment = child.environment("/tmp/x", Path("/tmp/x/stop"), Path("/p"))
    assert environment["ANSIBLE_HOST_KEY_CHECKING"] == "True"


OTHER_DEFAULTS = ("/etc/ansible/hosts", "/usr/bin/python", "/bin/sh", "/dev/tty")
"""Paths in Ansible's defaults: no plugins, and an inventory that each play replaces."""


@pytest.mark.attack("F4", "a setting of Ansible loads plugins of the operator")
def test_all_paths_in_settings_are_in_the_checkout(tmp_path):
    home, root = tmp_path / "home", tmp_path / "project"
    root.mkdir()
    (root / "ansible.cfg").write_text((CHECKOUT / "ansible.cfg").read_text())
    home.mkdir()
    (home / ".ansible.cfg").write_text("[defaults]\nvars_plugins = ~/evil\nforks = 77\n")
    environment = runner.minimal_environment(
        {**os.environ, "HOME": str(home), "ANSIBLE_CONFIG": str(home / ".ansible.cfg")}
    )
    environment |= child.environment(str(tmp_path / "private"), tmp_path / "private/stop", root)
    tool = Path(sys.executable).with_name("ansible-config")
    dump = subprocess.run(
        [tool, "dump", "--format", "json"],
        env=environment,
        cwd=home,
        check=True,
        capture_output=True,
        text=True,
    )
    settings = (entry for entry in json.loads(dump.stdout) if "name" in entry)
    values = {entry["name"]: entry["value"] for entry in settings}
    assert values["DEFAULT_FORKS"] == 10
    own = (str(root), str(tmp_path / "private"), str(child.CALLBACKS), "/home/admin/")
    paths = [
        (name, text)
        for name, value in values.items()
        for text in (value if isinstance(value, list) else [value])
        if isinstance(text, str) and text.startswith(("/", "~/"))
    ]
    assert len(paths) > len(child.PLUGINS)
    outside = [path for path in paths if not path[1].startswith((*own, *OTHER_DEFAULTS))]
    assert outside == []


@pytest.mark.parametrize(
    ("parts", "state"),
    [
        ({"event": "runner_on_start"}, "running"),
        ({"event": "runner_on_ok", "res": {}}, "ok"),
        ({"event": "runner_on_ok", "res": {"changed": True}}, "changed"),
        ({"event": "runner_on_failed", "res": {}}, "failed"),
        ({"event": "runner_on_failed", "res": {}, "ignore_errors": True}, "ignored"),
        ({"event": "runner_on_skipped"}, "skipped"),
        ({"event": "runner_on_unreachable"}, "unreachable"),
    ],
)
def test_an_event_has_the_state_of_a_task(parts, state):
    event = events.parse(json.dumps({**parts, "host": "web-1", "task": "T", "role": "r"}))
    assert (event.kind, event.state, event.host, event.task) == ("host", state, "web-1", "r : T")


@pytest.mark.parametrize("line", ["", "Traceback", "[]", "{}", "3"])
def test_a_line_that_is_not_an_event_is_text(line):
    assert events.parse(line) == PlayEvent("text", message=line)


def test_a_message_has_only_the_last_lines_of_an_output():
    result = {"msg": "non-zero return code", "rc": 2, "stderr": "\n".join(map(str, range(99)))}
    lines = events.parse(json.dumps({"event": "runner_on_failed", "res": result})).message
    assert lines.splitlines()[:3] == ["non-zero return code", "return code 2", "89"]


def test_progress_has_one_row_per_task_with_its_worst_status():
    with ui.Progress("Play") as progress:
        on_event = show_progress(progress)
        for host, state in [("a", "running"), ("b", "running"), ("a", "ok"), ("b", "changed")]:
            on_event(PlayEvent("host", host, "T", key="1", state=state))
    (row,) = progress.view().rows
    assert (str(row[0]), row[1], row[2]) == ("~ changed", "T", "1 ok, 1 changed")


# ---- real plays


def test_a_play_reports_its_changes_and_a_second_one_reports_none(project):
    (project / "hosts").write_text(f"[web]\nweb-1 {LOCAL}\nweb-2 {LOCAL}\n")
    observed = []
    first = play(project, on_event=observed.append)
    assert first.hosts["web-1"] == runner.Stats(ok=3, changed=1, skipped=3)
    assert first.changed == dict.fromkeys(["web-1", "web-2"], ("job : Write a file",))
    assert "~ web-1: job : Write a file" in ui.text(first)
    running = [event.task for event in observed if event.state == "running"]
    assert running.count("job : Write a file") == 2
    second = play(project)
    assert second.is_unchanged
    assert "no changes" in ui.text(second)
    assert private_directories(project) == []


PLUGIN = """
from ansible.plugins.vars import BaseVarsPlugin

class VarsModule(BaseVarsPlugin):
    REQUIRES_ENABLED = False

    def get_vars(self, loader, path, entities, cache=True):
        return {"text": "evil"}
"""


def plugins_in_home(project: Path, evil: Path) -> dict[str, str]:
    folder = evil / ".ansible/plugins/vars"
    shutil.copytree(evil / "plugins", folder)
    return {"HOME": str(evil)}


def plugins_of_a_variable(project: Path, evil: Path) -> dict[str, str]:
    return {"ANSIBLE_VARS_PLUGINS": str(evil / "plugins")}


def plugins_of_a_configuration(project: Path, evil: Path) -> dict[str, str]:
    (evil / "own.cfg").write_text(f"[defaults]\nvars_plugins = {evil}/plugins\n")
    return {"ANSIBLE_CONFIG": str(evil / "own.cfg")}


def plugins_of_a_configuration_in_home(project: Path, evil: Path) -> dict[str, str]:
    plugins_of_a_configuration(project, evil)
    (evil / "own.cfg").rename(evil / ".ansible.cfg")
    return {"HOME": str(evil)}


def plugins_of_ansibles_home(project: Path, evil: Path) -> dict[str, str]:
    shutil.copytree(evil / "plugins", evil / "home/plugins/vars")
    return {"ANSIBLE_HOME": str(evil / "home")}


def tasks_of_a_variable(project: Path, evil: Path) -> dict[str, str]:
    return {"ANSIBLE_RUN_TAGS": "none"}


def python_of_a_variable(project: Path, evil: Path) -> dict[str, str]:
    (evil / "sitecustomize.py").write_text("raise SystemExit('evil')\n")
    return {"PYTHONPATH": str(evil)}


@pytest.mark.attack("F4", "the operator's own Ansible changes the effect of a reviewed playbook")
@pytest.mark.parametrize(
    "make",
    [
        *(plugins_in_home, plugins_of_a_variable, plugins_of_a_configuration),
        *(plugins_of_a_configuration_in_home, plugins_of_ansibles_home),
        *(tasks_of_a_variable, python_of_a_variable),
    ],
    ids=lambda make: make.__name__,
)
def test_the_operators_ansible_does_not_change_a_play(project, tmp_path_factory, make):
    evil = tmp_path_factory.mktemp("evil")
    (evil / "plugins").mkdir()
    (evil / "plugins/evil.py").write_text(PLUGIN)
    (project / "roles/job/defaults").mkdir()
    (project / "roles/job/defaults/main.yml").write_text("text: reviewed\n")
    variables = {name: value for name, value in DEFAULTS.items() if name != "text"}
    result = runner.play(
        project / "play.yml",
        inventory=project / "hosts",
        env={**os.environ, "TMPDIR": str(project / "tmp"), **make(project, evil)},
        project_dir=project,
        variables={**variables, "folder": str(project)},
    )
    assert result.hosts["web-1"].ok == 3
    assert (project / "web-1").read_text() == "reviewed"


def test_check_changes_nothing_and_reports_possible_changes(project):
    result = play(project, check=True)
    assert str(result) == "would change web-1: job : Write a file"
    assert not (project / "web-1").exists()


def test_a_failure_has_host_task_item_and_message(project):
    with pytest.raises(ApplyFailed) as caught:
        play(project, bad="b")
    lines = caught.value.lines()
    assert "web-1" in lines[0]
    assert any("job : Check each item: failed" in line for line in lines)
    assert "    item: b" in lines
    assert "web-1: job : Write a file" in caught.value.changed
    assert caught.value.result.changed


def test_no_log_is_respected_everywhere(project, tmp_path):
    lines = []

    def start(args, **options):
        on_line = options.pop("on_line")

        def record(line: str) -> None:
            lines.append(line)
            on_line(line)

        return process.run(args, on_line=record, **options)

    with pytest.raises(ApplyFailed) as caught:
        play(project, code=3, start=start)
    assert "no_log" in str(caught.value)
    assert "hunter2" not in str(caught.value) + "".join(lines)


def test_an_unreachable_host_changes_nothing(project):
    dead = "[web]\nweb-1 ansible_host=127.0.0.1 ansible_port=1 ansible_user=nobody\n"
    (project / "dead").write_text(dead)
    with pytest.raises(CommandFailed, match=r"web-1.*unreachable") as caught:
        play(project, inventory="dead")
    assert "port 22" in caught.value.next


def test_a_play_that_cannot_start_reports_the_cause(project):
    with pytest.raises(CommandFailed, match="hosts2 is missing"):
        play(project, inventory="hosts2")
    (project / "hosts").write_text("[other]\nweb-1\n")
    with pytest.raises(CommandFailed, match="no task was run"):
        play(project)
    (project / "play.yml").write_text("- hosts: all\n  roles: [missing]\n")
    with pytest.raises(CommandFailed, match="'missing' was not found"):
        play(project)


def test_ctrl_c_stops_the_play_after_the_current_task(project):
    def on_event(event) -> None:
        if event.task == "job : Work slowly":
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted) as caught:
        play(project, nap=1, on_event=on_event)
    assert (project / "slow-done").exists()
    assert not (project / "after").exists()
    assert "web-1: job : Write a file" in caught.value.changed
    assert private_directories(project) == []


@retry(wait=wait_fixed(0.05), stop=stop_after_delay(20), retry=retry_if_result(lambda r: not r))
def until(condition):
    return condition()


def test_kill_9_stops_the_play_after_the_current_task_and_leaves_no_files(project):
    variables = {**DEFAULTS, "folder": str(project), "nap": 1}
    args = [sys.executable, "-c", KERNEL, str(project), json.dumps(variables)]
    kernel = subprocess.Popen(args, env={**os.environ, "TMPDIR": str(project / "tmp")})
    until((project / "slow").exists)
    assert private_directories(project)
    kernel.kill()
    kernel.wait()
    until(lambda: not private_directories(project))
    assert (project / "slow-done").exists()
    assert not (project / "after").exists()
