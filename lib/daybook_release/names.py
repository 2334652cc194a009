"""Names of environment variables: what a release sets, and what a secret may not be called."""

from __future__ import annotations

import re

OWN = ("APP_NAME", "APP_IMAGE", "APP_VERSION", "APP_ENVIRONMENT", "APP_HOST", "APP_PORT")
"""What every release says to the application, besides the secrets."""

FORM = re.compile(r"[A-Z][A-Z0-9_]{0,63}")

READ_BY_PROGRAMS = re.compile(
    r"""
      (AWS|BUILDKIT|BUILDX|COMPOSE|DBUS|DOCKER|DYLD|LC|LD|LISTEN|MALLOC|NSS|OPENSSL|PYTHON|SSL_CERT
       |SUDO|SYSTEMD|XDG)_\w*
    | PYTHON\w*
    | (ALL|FTP|HTTP|HTTPS|NO)_PROXY
    | (CURL|REQUESTS)_CA_BUNDLE | (CREDENTIALS|RUNTIME|STATE)_DIRECTORY
    | BASH_ENV | BASHOPTS | CDPATH | EDITOR | ENV | HOME | HOSTNAME | IFS | LANG | LANGUAGE
    | LOGNAME | MAIL | OLDPWD | PAGER | PATH | PWD | SHELL | SHELLOPTS | TERM | TMP | TMPDIR | TEMP
    | TZ | TZDIR | USER | VISUAL
    | GCONV_PATH | GETCONF_DIR | GLIBC_TUNABLES | HOSTALIASES | LOCALDOMAIN | LOCPATH | NLSPATH
    | RES_OPTIONS | RESOLV_HOST_CONF
    | GO(ARCH|AUTH|BIN|CACHE|COVERDIR|DEBUG|ENV|EXPERIMENT|FLAGS|FIPS140|GC|INSECURE|MAXPROCS
       |MEMLIMIT|MODCACHE|NOPROXY|NOSUMDB|OS|PATH|PRIVATE|PROXY|ROOT|SUMDB|TMPDIR|TOOLCHAIN
       |TRACEBACK|VCS|WORK)
    | NOTIFY_SOCKET | SSH_(ASKPASS|AUTH_SOCK)
    """,
    re.VERBOSE | re.ASCII,
)
"""What the C library, the shell, sudo, systemd, Docker, Go, Python or AWS's tools act upon."""


def problem_of(name: str) -> str:
    """Return why a secret may not have this name, with the fix; "" when it may."""
    if not FORM.fullmatch(name):
        return "a secret's name has up to 64 of A to Z, 0 to 9 and _, such as DATABASE_URL"
    if name in OWN:
        return f"{name} is set by every release; choose another name"
    if READ_BY_PROGRAMS.fullmatch(name):
        return (
            f"programs of the host act upon {name}; choose another name, and give it to the"
            f" application in compose.yaml: environment: {{{name}: ${{OTHER_NAME}}}}"
        )
    return ""
