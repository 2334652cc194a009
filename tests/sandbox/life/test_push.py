"""From a push to a release: through a runner on the host, its hook and its one sudo rule."""

from __future__ import annotations

import json
import shlex
import threading
from dataclasses import replace

import pytest

from .shop import RUN_S

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(1800)]


def test_a_push_to_staging_changes_the_page_and_no_request_is_lost(serving, life, shop):
    lost, asked, stop = [], [], threading.Event()

    def visit() -> None:
        while not stop.is_set():
            status = life.fetch("staging", "/version").status_code
            asked.append(status)
            if status != 200:
                lost.append(status)

    visitor = threading.Thread(target=visit)
    visitor.start()
    commit = shop.add("pushed")
    run, conclusion = shop.push("staging")
    stop.set()
    visitor.join()
    assert conclusion == "success", shop.said(run)
    assert shop.jobs(run)["Release"] == "success"
    assert life.version("staging")["version"] == commit[:12]
    assert "<!-- pushed -->" in life.fetch("staging", "/").text
    assert (lost, len(asked) > 10) == ([], True)
    [releases] = json.loads(serving.succeed("release", "list", "staging", "--json")).values()
    assert releases[0]["by"] == "GitHub Actions"
    assert releases[0]["run"] == f"{shop.server}/{shop.name}/actions/runs/{run}"
    assert f"{commit[:12]}" in shop.said(run)


def test_main_releases_to_production_what_staging_has_tried(life, shop):
    staging = life.version("staging")["version"]
    run, conclusion = shop.push("main")
    assert conclusion == "success", shop.said(run)
    assert "ECR has" in shop.said(run)
    assert life.version("production")["version"] == staging


def test_a_push_to_another_branch_releases_nothing(life, shop):
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
def test_a_failing_test_or_build_releases_nothing(life, shop, file, text):
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
def test_the_hook_refuses_a_job_that_is_not_this_environments(life, shop, differs):
    run = shop.hand_over(f"{life.app}-staging-1", "echo it-ran-$((6 * 7))", **differs)
    theirs = replace(shop, name=differs.get("repository", shop.name))
    assert theirs.ends(run) == "failure"
    said = theirs.said(run)
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


def test_the_runners_user_becomes_nothing_by_anything_it_may_run(life, shop):
    run = shop.hand_over(f"{life.app}-staging-1", TRIES.replace("APP", life.app))
    assert shop.ends(run) == "success", shop.said(run)
    said = [line.removeprefix("  | ") for line in shop.said(run).splitlines()]
    assert [line for line in said if line.startswith("WORKED")] == []
    # As many as there are, the one whose argument has two lines included.
    assert len([line for line in said if line.startswith("refused: ")]) == TRIES.count("\ntry ")
    assert "github-runner" in said


KILL = """
until grep --quiet phase /srv/APP/state.json; do sleep 0.05; done
systemctl kill --signal KILL github-runner
while grep --quiet phase /srv/APP/state.json; do sleep 0.2; done
"""
"""On the host, where a release may be over in three seconds: wait for one, strike, wait on."""


def test_a_runner_killed_in_the_middle_leaves_a_whole_version_and_the_next_push_works(life, shop):
    before = life.version("staging")["version"]
    commit = shop.add("struck")
    shop.git("push", "--quiet", "origin", "HEAD:staging")
    strike = shlex.quote(KILL.replace("APP", life.app))
    life.out("staging", f"sudo timeout {RUN_S} sh -c {strike}")
    assert life.version("staging")["version"] in (before, commit[:12])
    shop.add("pushed again")
    run, conclusion = shop.push("staging")
    assert conclusion == "success", shop.said(run)
    assert "<!-- pushed again -->" in life.fetch("staging", "/").text


@pytest.mark.faults
def test_a_runner_that_github_has_dropped_is_registered_anew(serving, life, shop, eventually):
    name = f"{life.app}-staging-1"
    [dropped] = [each for each in shop.ask("runners")["runners"] if each["name"] == name]
    shop.drop_runner(dropped["id"])
    assert "github_runner : Start the runner" in serving.step("configure", "staging")
    changes = [change["what"] for change in serving.record("staging", "configure")["changes"]]
    assert "github_runner : Start the runner" in changes
    known = lambda: [r["status"] for r in shop.ask("runners")["runners"] if r["name"] == name]  # noqa: E731
    eventually(lambda: known() == ["online"])
    assert "no changes" in serving.step("configure", "staging").lower()
