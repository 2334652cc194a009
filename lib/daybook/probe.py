"""Look at a host from outside: DNS, SSH's banner, HTTP and TLS; waits poll until a deadline."""

from __future__ import annotations

import shlex
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import urlsplit

import dns.exception
import dns.inet
import dns.resolver
import httpx
from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from daybook.errors import VerifyFailed

T = TypeVar("T")


class NotYet(Exception):
    """What was looked for is not there yet; the message says what was seen instead."""


def wait_until(look: Callable[[], T], *, what: str, timeout_s: float, every_s: float = 0.5) -> T:
    """Call `look` until it stops raising NotYet; VerifyFailed with the last sight at the end."""
    attempts = Retrying(
        retry=retry_if_exception_type(NotYet),
        stop=stop_after_delay(timeout_s),
        wait=wait_fixed(every_s),
    )
    try:
        return attempts(look)
    except RetryError as err:
        seen = str(err.last_attempt.exception())
        raise VerifyFailed(
            f"{what} was not seen within {timeout_s:.0f} s.",
            expected=what,
            observed=seen,
            changed="What was applied stays as it is.",
            next="run this step again: it goes on from here",
        ) from err


def addresses(name: str, environ: Mapping[str, str]) -> list[str]:
    """Resolve a DNS name to IPv4 addresses; DAYBOOK_NAMESERVER=ip:port is asked when it is set."""
    if dns.inet.is_address(name):
        return [name]
    resolver = dns.resolver.Resolver(configure="DAYBOOK_NAMESERVER" not in environ)
    if server := environ.get("DAYBOOK_NAMESERVER"):
        host, _, port = server.partition(":")
        resolver.nameservers, resolver.port = [host], int(port or 53)
    resolver.lifetime = 5
    try:
        return sorted(record.address for record in resolver.resolve(name, "A"))
    except dns.exception.DNSException as err:
        raise NotYet(f"{name}: {type(err).__name__}") from err


def ssh_banner(address: str, *, port: int = 22, timeout_s: float = 3) -> str:
    """Return what sshd says first: `SSH-2.0-OpenSSH_10.0p2 Debian-7`."""
    try:
        with socket.create_connection((address, port), timeout=timeout_s) as connection:
            banner = connection.recv(255).decode("ascii", "replace").strip()
    except OSError as err:
        raise NotYet(f"{address}:{port}: {err}") from err
    if not banner.startswith("SSH-"):
        raise NotYet(f"{address}:{port} answered {banner!r}")
    return banner


def curl(url: str, address: str, environ: Mapping[str, str]) -> str:
    """Return the command that fetches an HTTPS URL from an address by hand."""
    authority = environ.get("DAYBOOK_CA_FILE")
    trust = ["--cacert", authority] if authority else []
    site = f"{urlsplit(url).hostname}:443:{address}"
    return shlex.join(["curl", "-i", *trust, "--resolve", site, url])


def fetch(
    url: str, environ: Mapping[str, str], *, at: str | None = None, timeout_s: float = 5
) -> httpx.Response:
    """GET a URL, its host resolved the way `addresses` does; any HTTP status is an answer.

    A certificate has to be good for the name, by DAYBOOK_CA_FILE alone when that is set.
    at: ask this address, whatever DNS says.
    """
    parts = urlsplit(url)
    address = at or addresses(parts.hostname, environ)[0]
    there = parts._replace(netloc=f"{address}:{parts.port}" if parts.port else address).geturl()
    authority = environ.get("DAYBOOK_CA_FILE")
    trust = ssl.create_default_context(cafile=authority) if authority else True
    try:
        with httpx.Client(trust_env=False, timeout=timeout_s, verify=trust) as browser:
            return browser.get(
                there,
                headers={"Host": parts.netloc},
                extensions={"sni_hostname": parts.hostname},
            )
    except httpx.HTTPError as err:
        raise NotYet(f"{url} at {address}: {err or type(err).__name__}") from err
