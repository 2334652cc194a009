"""A push is released by a runner on the host, through its hook and its single sudo rule."""

from __future__ import annotations

import json
import shlex
import threading
from dataclasses import replace

import pytest

from .shop import RUN_S

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(1800)]


def test_a_push_to_staging_changes_the_page_without_failed_requests(serving, life, shop):
    failures, statuses, stop = [], [], threading.Event()

    def visit() -> None:
        while not stop.is_set():
            status = life.fetch("staging", "/version").status_code
            statuses.append(status)
            if status != 200:
                failures.append(status)

    visitor = threading.Thread(target=visit)
    visitor.start()
    commit = shop.add("pushed")
    run, conclusion = shop.push("staging")
    stop.set()
    visitor.join()
    assert conclusion == "success", shop.page(run)
    assert shop.jobs(run)["Release"] == "success"
    assert life.version("staging")["version"] == commit[:12]
    assert "<!-- pushed -->" in life.fetch("staging", "/").text
    assert (failures, len(statuses) > 10) == ([], True)
    [releases] = json.loads(serving.succeed("release", "list", "staging", "--json")).values()
    assert releases[0]["by"] == "GitHub Actions"
    assert releases[0]["run"] == f"{shop.server}/{shop.name}/actions/runs/{run}"
    assert f"{commit[:12]}" in shop.page(run)


def test_a_push_to_main_releases_stagings_image_to_production(life, shop):
    staging = life.version("staging")["version"]
    run, conclusion = shop.push("main")
    assert conclusion == "success", shop.page(run)
    assert "is already in ECR" in shop.page(run)
    assert life.version("production")["version"] == staging


def test_a_push_to_another_branch_is_not_released(life, shop):
    before = life.version("staging"), life.version("production")
    commit = shop.commit("page.html", "a topic\n")
    shop.git("push", "--quiet", "origin", "HEAD:topic")
    assert shop.runs(commit) == []
    assert (life.version("staging"), life.version("production")) == before
    shop.git("reset", "--quiet", "--hard", "HEAD~1")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("ci/test", "#!/usr/bin/env bash\nexit 1\n"),
        ("Dockerfile", "FROM debian:trixie-slim\nRUN false\n"),
    ],
)
def test_a_failed_test_or_build_is_not_released(life, shop, file, text):
    before = life.version("staging")
    shop.commit(file, text)
    run, conclusion = shop.push("staging")
    shop.git("revert", "--no-edit", "HEAD")
    assert conclusion == "failure"
    assert shop.jobs(run)["Release"] == "skipped"
    assert life.version("staging") == before


@pytest.mark.parametrize(
    "differs",
    [
        {"ref": "refs/heads/topic"},
        {"ref": "refs/heads/main"},
        {"ref": "refs/pull/7/merge"},
        {"repository": "mallory/shop"},
        {"workflow": ".github/workflows/other.yml"},
    ],
    ids=lambda differs: next(iter(differs.values())),
)
def test_the_hook_refuses_jobs_of_other_environments(life, shop, differs):
    run = shop.add_job(f"{life.app}-staging-1", "echo it-ran-$((6 * 7))", **differs)
    other = replace(shop, name=differs.get("repository", shop.name))
    assert other.conclusion(run) == "failure"
    said = other.page(run)
    assert "This runner releases staging and refuses this job." in said
    assert "it-ran-42" not in said


TRIES = """
set +e +o pipefail
digest=$(printf '0f%.0s' $(seq 32))
deploy=$(sudo -n -l | sed -n 's/.*\\^\\(.*\\)@sha256.*/\\1/p' | sed 's/\\[\\.\\]/./g')
one=/usr/local/sbin/release-image
try() { if "$@" >/dev/null 2>&1 </dev/null; then echo "WORKED: $*"; else echo "refused: $*"; fi; }
try docker ps
try curl --max-time 3 --unix-socket /run/docker.sock http://docker/containers/json
try ls /srv/APP
try sh -c 'cat /srv/APP/releases/*/environment.json'
try cat /etc/shadow
try cat /root/.docker/config.json
try curl --max-time 3 -X PUT -H X-aws-ec2-metadata-token-ttl-seconds:60 http://169.254.169.254/latest/api/token
try sudo -n id
try sudo -n -u app id
try sudo -n /bin/sh
try sudo -n $one
try sudo -n $one --help
try sudo -n $one "$deploy@sha256:$digest"
try sudo -n $one "$deploy:latest" 1
try sudo -n $one "mallory/$deploy@sha256:$digest" 1
try sudo -n $one "$deploy@sha256:$digest" 1 --secrets X=1
try sudo -n $one "$deploy@sha256:$digest" '1; id'
try sudo -n $one "$deploy@sha256:$digest 1"
try sudo -n $one "$deploy@sha256:$digest" "1
2"
try sudo -n -E PATH=/tmp:$PATH $one "$deploy@sha256:$digest" x
try sudo -n /usr/local/sbin/../sbin/release-image x 1
try sudo -n /usr/local/sbin/release list
try sudo -n systemd-run id
try systemd-run id
try systemctl stop caddy
try sh -c 'echo exit 0 > /usr/local/lib/daybook/job-started.sh'
try sh -c 'echo {} > /etc/daybook/runner.json'
try sh -c 'echo ACTIONS_RUNNER_HOOK_JOB_STARTED= > ~/.env'
try mv "$HOME/.env" "$HOME/.env.old"
try nft flush ruleset
try kill -TERM 1
id; id -nG
"""


def test_the_runners_user_cannot_escalate_its_privileges(life, shop):
    run = shop.add_job(f"{life.app}-staging-1", TRIES.replace("APP", life.app))
    assert shop.conclusion(run) == "success", shop.page(run)
    said = [line.removeprefix("  | ") for line in shop.page(run).splitlines()]
    assert [line for line in said if line.startswith("WORKED")] == []
    # All attempts are reported, including the one with a two-line argument.
    assert len([line for line in said if line.startswith("refused: ")]) == TRIES.count("\ntry ")
    assert "github-runner" in said


KILL = """
until grep --quiet phase /srv/APP/state.json; do sleep 0.05; done
systemctl kill --signal KILL github-runner
while grep --quiet phase /srv/APP/state.json; do sleep 0.2; done
"""
"""Run on the host, because a release may take only three seconds: wait for it, kill, wait again."""


def test_a_killed_runner_leaves_one_complete_version_and_the_next_push_succeeds(life, shop):
    before = life.version("staging")["version"]
    commit = shop.add("killed")
    shop.git("push", "--quiet", "origin", "HEAD:staging")
    kill = shlex.quote(KILL.replace("APP", life.app))
    life.out("staging", f"sudo timeout {RUN_S} sh -c {kill}")
    assert life.version("staging")["version"] in (before, commit[:12])
    shop.add("pushed again")
    run, conclusion = shop.push("staging")
    assert conclusion == "success", shop.page(run)
    assert "<!-- pushed again -->" in life.fetch("staging", "/").text


@pytest.mark.faults
def test_a_runner_removed_from_github_is_registered_again(serving, life, shop, eventually):
    name = f"{life.app}-staging-1"
    [dropped] = [each for each in shop.ask("runners")["runners"] if each["name"] == name]
    shop.drop_runner(dropped["id"])
    assert "github_runner : Start the runner" in serving.step("configure", "staging")
    changes = [change["what"] for change in serving.record("staging", "configure")["changes"]]
    assert "github_runner : Start the runner" in changes
    known = lambda: [r["status"] for r in shop.ask("runners")["runners"] if r["name"] == name]  # noqa: E731
    eventually(lambda: known() == ["online"])
    assert "no changes" in serving.step("configure", "staging").lower()
