"""Names of environment variables: what a release sets, and what a secret may not be called."""

from __future__ import annotations

import re

OWN = ("APP_NAME", "APP_IMAGE", "APP_VERSION", "APP_ENVIRONMENT", "APP_HOST", "APP_PORT")
"""What every release says to the application, besides the secrets."""

FORM = re.compile(r"[A-Z][A-Z0-9_]{0,63}")

READ_BY_PROGRAMS = re.compile(
    r"""
      (APT|AWS|BASH|BOTO|BOTOCORE|BUILDKIT|BUILDX|CADDY|COMPOSE|CONTAINERD|CURL|DBUS|DEBCONF|DOCKER
       |DPKG|DYLD|GIT|GRPC|LC|LD|LISTEN|MALLOC|MOBY|NODE|NSS|OPENSSL|OTEL|QUIC_GO
       |SSL_CERT|SUDO|SYSTEMD|XDG)_\w*
    | (KRB5|PERL|PYTHON)\w*
    | (ALL|FTP|HTTP|HTTPS|NO|SOCKS)_PROXY
    | REQUESTS_CA_BUNDLE | SSLKEYLOGFILE
    | (CACHE|CONFIGURATION|CREDENTIALS|LOGS|RUNTIME|STATE)_DIRECTORY
    | INVOCATION_ID | JOURNAL_STREAM | MAINPID | MANAGERPID | WATCHDOG_(PID|USEC)
    | BASHOPTS | CDPATH | EDITOR | ENV | EXECIGNORE | FPATH | GLOBIGNORE | GNUPGHOME | HISTFILE
    | HOME | HOSTNAME | IFS | INPUTRC | LANG | LANGUAGE | LESS(OPEN|CLOSE)? | LOGNAME | MAIL(PATH)?
    | MANPAGER | NETRC | OLDPWD | PAGER | PATH | POSIXLY_CORRECT | PROMPT_COMMAND | PS[0-4] | PWD
    | SHELL | SHELLOPTS | TAR_OPTIONS | TERM | TERMCAP | TERMINFO(_DIRS)? | TEXTDOMAINDIR | TMP
    | TMPDIR | TEMP | TZ | TZDIR | USER | VISUAL
    | GCONV_PATH | GETCONF_DIR | GLIBC_TUNABLES | HOSTALIASES | LOCALDOMAIN | LOCPATH | NLSPATH
    | RES_OPTIONS | RESOLV_HOST_CONF
    | GO(ARCH|AUTH|BIN|CACHE|COVERDIR|DEBUG|ENV|EXPERIMENT|FLAGS|FIPS140|GC|INSECURE|MAXPROCS
       |MEMLIMIT|MODCACHE|NOPROXY|NOSUMDB|OS|PATH|PRIVATE|PROXY|ROOT|SUMDB|TMPDIR|TOOLCHAIN
       |TRACEBACK|VCS|WORK)
    | NOTIFY_SOCKET | SSH_(ASKPASS|AUTH_SOCK)
    """,
    re.VERBOSE | re.ASCII,
)
"""What the C library, shells, systemd, Docker, Go, Python, Perl or AWS's tools act upon."""


def problem_of(name: str) -> str:
    """Return why a secret may not have this name, with the fix; "" when it may."""
    if not FORM.fullmatch(name):
        return "a secret's name has up to 64 of A to Z, 0 to 9 and _, such as DATABASE_URL"
    if name in OWN:
        return f"{name} is set by every release; choose another name"
    if READ_BY_PROGRAMS.fullmatch(name):
        return (
            f"programs of the host act upon {name}; choose another name, and give it to the"
            f" application in compose.yaml: environment: {{{name}: ${{OTHER_NAME}}}}, or write"
            " its value there when that is no secret"
        )
    return ""
