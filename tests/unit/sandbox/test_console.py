"""Host keys on a machine's console."""

import pytest

from daybook_sandbox import console

PRINTED = (
    "[  OK  ] Started cron\r\r\n"
    "ci-info: no keys\r\n"
    "-----BEGIN SSH HOST KEY KEYS-----\r\r\n"
    "ecdsa-sha2-nistp256 AAAAE2VjZHNh= root@ip-10-20-0-4\r\r\n"
    "\x1b[0mssh-ed25519 AAAAC3NzaC1l root@ip-10-20-0-4\r\r\n"
    "-----END SSH HOST KEY KEYS-----\r\r\n"
    "ssh-rsa AAAAoutside the markers\r\n"
)


def test_host_keys_are_read_between_the_markers():
    assert console.host_keys(PRINTED) == [
        "ecdsa-sha2-nistp256 AAAAE2VjZHNh=",
        "ssh-ed25519 AAAAC3NzaC1l",
    ]


def test_an_incomplete_list_gives_no_keys():
    assert console.host_keys(PRINTED[: PRINTED.index("-----END")]) == []


def test_keys_are_stored_and_removed_by_instance(tmp_path):
    file = tmp_path / "known_hosts"
    console.remember(file, "i-1", ["ssh-ed25519 A"])
    console.remember(file, "i-12", ["ssh-ed25519 B"])
    console.remember(file, "i-1", ["ssh-ed25519 C"])
    assert file.read_text() == "i-12 ssh-ed25519 B\ni-1 ssh-ed25519 C\n"
    console.forget(file, "i-1")
    assert file.read_text() == "i-12 ssh-ed25519 B\n"


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [("1970-01-01T00:00:10Z", 10.0), ("1970-01-01T00:01:00.250000000Z", 60.25)],
)
def test_a_docker_timestamp_becomes_seconds(moment, seconds):
    assert console.timestamp(moment) == seconds
