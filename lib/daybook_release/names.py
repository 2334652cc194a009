"""Names of environment variables: those that a release sets, and those not allowed for secrets."""

from __future__ import annotations

import re

OWN = ("APP_NAME", "APP_IMAGE", "APP_VERSION", "APP_ENVIRONMENT", "APP_HOST", "APP_PORT")
"""Variables that every release sets for the application, besides the secrets."""

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
"""Variables that the C library, shells, systemd, Docker, Go, Python, Perl or AWS tools read."""


def problem_of(name: str) -> str:
    """Return why a secret cannot have this name, and the fix; "" if it can."""
    if not FORM.fullmatch(name):
        return "a secret's name has up to 64 characters from A-Z, 0-9 and _, such as DATABASE_URL"
    if name in OWN:
        return f"every release sets {name}; choose another name"
    if READ_BY_PROGRAMS.fullmatch(name):
        return (
            f"programs on the host read {name}; choose another name and map it in compose.yaml:"
            f" environment: {{{name}: ${{OTHER_NAME}}}}; if the value is not secret, write it there"
        )
    return ""
