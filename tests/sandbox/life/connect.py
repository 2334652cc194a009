"""Print which addresses take a connection, as JSON: connect.py '["tcp 127.0.0.1 80"]' [UID…]

With UIDs, as each of them in turn: {"0": ["tcp 127.0.0.1 80"]}. Without, as the caller: a list.
It runs on hosts and in their containers, so it needs Python alone.
"""

import json
import os
import pwd
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

TIMEOUT_S = 3


def connects(address: str) -> bool:
    """Tell whether "tcp HOST PORT" or "unix PATH" takes a connection; @ begins an abstract path."""
    kind, where, *port = address.split(" ")
    if kind == "tcp":
        family = socket.AF_INET6 if ":" in where else socket.AF_INET
        return _takes((where, int(port[0])), family, socket.SOCK_STREAM)
    path = where.replace("@", "\0", 1) if where.startswith("@") else where
    kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM)
    return any(_takes(path, socket.AF_UNIX, kind) for kind in kinds)


def _takes(address: object, family: int, kind: int) -> bool:
    with socket.socket(family, kind) as client:
        client.settimeout(TIMEOUT_S)
        try:
            client.connect(address)
        except OSError:
            return False
        return True


def those_that_connect(addresses: list[str]) -> list[str]:
    """Return the addresses that take a connection."""
    with ThreadPoolExecutor(32) as pool:
        answers = pool.map(connects, addresses)
        return [address for address, answer in zip(addresses, answers, strict=True) if answer]


def as_user(uid: int, addresses: list[str]) -> int:
    """Start a process of a user, and return the descriptor that its answer comes from."""
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
        json.dump(those_that_connect(addresses), answer)
    os._exit(0)


def main() -> None:
    addresses, uids = json.loads(sys.argv[1]), [int(word) for word in sys.argv[2:]]
    if not uids:
        print(json.dumps(those_that_connect(addresses)))
        return
    answers = {uid: as_user(uid, addresses) for uid in uids}
    print(json.dumps({uid: json.load(os.fdopen(answer)) for uid, answer in answers.items()}))


if __name__ == "__main__":
    main()
