"""Print the addresses that accept a connection, as JSON: connect.py '["tcp 127.0.0.1 80"]' [UID…]

With UIDs, the result for each of them: {"0": ["tcp 127.0.0.1 80"]}; without, a list for the caller.
It runs on hosts and in their containers, so it uses only the standard library.
"""

import json
import os
import pwd
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

TIMEOUT_S = 3


def connects(address: str) -> bool:
    """Return True if "tcp HOST PORT" or "unix PATH" accepts a connection; @: an abstract path."""
    kind, host_or_path, *port = address.split(" ")
    if kind == "tcp":
        family = socket.AF_INET6 if ":" in host_or_path else socket.AF_INET
        return _accepts((host_or_path, int(port[0])), family, socket.SOCK_STREAM)
    path = host_or_path.replace("@", "\0", 1) if host_or_path.startswith("@") else host_or_path
    kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM)
    return any(_accepts(path, socket.AF_UNIX, kind) for kind in kinds)


def _accepts(address: object, family: int, kind: int) -> bool:
    with socket.socket(family, kind) as client:
        client.settimeout(TIMEOUT_S)
        try:
            client.connect(address)
        except OSError:
            return False
        return True


def connecting(addresses: list[str]) -> list[str]:
    """Return the addresses that accept a connection."""
    with ThreadPoolExecutor(32) as pool:
        answers = pool.map(connects, addresses)
        return [address for address, answer in zip(addresses, answers, strict=True) if answer]


def as_user(uid: int, addresses: list[str]) -> int:
    """Start a process as a user; return the descriptor to read its answer from."""
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        return reading
    try:
        user = pwd.getpwuid(uid)
        groups, group = os.getgrouplist(user.pw_name, user.pw_gid), user.pw_gid
    except KeyError:
        groups, group = [], uid
    os.setgroups(groups)
    os.setgid(group)
    os.setuid(uid)
    with os.fdopen(writing, "w") as answer:
        json.dump(connecting(addresses), answer)
    os._exit(0)


def main() -> None:
    addresses, uids = json.loads(sys.argv[1]), [int(word) for word in sys.argv[2:]]
    if not uids:
        print(json.dumps(connecting(addresses)))
        return
    answers = {uid: as_user(uid, addresses) for uid in uids}
    print(json.dumps({uid: json.load(os.fdopen(answer)) for uid, answer in answers.items()}))


if __name__ == "__main__":
    main()
