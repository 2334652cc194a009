"""Probe a host from outside: DNS, the SSH banner, HTTP and TLS; poll until a deadline."""

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
    """The condition is not met yet; the message is the observed state."""


def wait_until(
    poll: Callable[[], T], *, condition: str, timeout_s: float, every_s: float = 0.5
) -> T:
    """Call `poll` until it stops raising NotYet; raise VerifyFailed after the timeout.

    condition: the awaited state as a noun phrase, such as "an answer from https://example.com".
    """
    attempts = Retrying(
        retry=retry_if_exception_type(NotYet),
        stop=stop_after_delay(timeout_s),
        wait=wait_fixed(every_s),
    )
    try:
        return attempts(poll)
    except RetryError as err:
        raise VerifyFailed(
            f"Timed out after {timeout_s:.0f} s waiting for {condition}.",
            expected=condition,
            observed=str(err.last_attempt.exception()),
            changed="The applied changes remain in place.",
            next="run this step again: it continues from here",
        ) from err


def addresses(name: str, environ: Mapping[str, str]) -> list[str]:
    """Resolve a DNS name to IPv4 addresses, with the server DAYBOOK_NAMESERVER=ip:port if set."""
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
    """Return the banner of sshd: `SSH-2.0-OpenSSH_10.0p2 Debian-7`."""
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
    """GET a URL, with its host resolved as in `addresses`; any HTTP status is an answer.

    The certificate must be valid for the name, and signed by DAYBOOK_CA_FILE if that is set.
    at: connect to this address instead of the resolved one.
    """
    parts = urlsplit(url)
    address = at or addresses(parts.hostname, environ)[0]
    address_url = parts._replace(
        netloc=f"{address}:{parts.port}" if parts.port else address
    ).geturl()
    authority = environ.get("DAYBOOK_CA_FILE")
    trust = ssl.create_default_context(cafile=authority) if authority else True
    try:
        with httpx.Client(trust_env=False, timeout=timeout_s, verify=trust) as browser:
            return browser.get(
                address_url,
                headers={"Host": parts.netloc},
                extensions={"sni_hostname": parts.hostname},
            )
    except httpx.HTTPError as err:
        raise NotYet(f"{url} at {address}: {err or type(err).__name__}") from err
