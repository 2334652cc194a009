"""Names that a secret can have."""

from __future__ import annotations

import pytest

from daybook_release import names


@pytest.mark.attack("F8", "a secret has the name of a variable that programs of root read")
@pytest.mark.parametrize(
    "name",
    [
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "PATH",
        "HOME",
        "IFS",
        "ENV",
        "BASH_ENV",
        "SHELL",
        "USER",
        "TMPDIR",
        "DOCKER_HOST",
        "DOCKER_CONFIG",
        "DOCKER_CONTEXT",
        "COMPOSE_FILE",
        "COMPOSE_PROFILES",
        "COMPOSE_ENV_FILES",
        "BUILDKIT_HOST",
        "BUILDX_CONFIG",
        "AWS_ACCESS_KEY_ID",
        "AWS_ENDPOINT_URL",
        "AWS_CONFIG_FILE",
        "AWS_PROFILE",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "ALL_PROXY",
        "PYTHONPATH",
        "PYTHONHOME",
        "PYTHON_EGG_CACHE",
        "GODEBUG",
        "GOTRACEBACK",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "XDG_CONFIG_HOME",
        "GLIBC_TUNABLES",
        "GCONV_PATH",
        "SYSTEMD_PAGER",
        "NOTIFY_SOCKET",
        "LISTEN_FDS",
        "SUDO_ASKPASS",
        "LC_ALL",
        "RES_OPTIONS",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "PERL5OPT",
        "PERL5LIB",
        "PERLLIB",
        "PS4",
        "PROMPT_COMMAND",
        "BASH_LOADABLES_PATH",
        "BASH_XTRACEFD",
        "POSIXLY_CORRECT",
        "GIT_SSH_COMMAND",
        "GIT_CONFIG_GLOBAL",
        "NODE_OPTIONS",
        "SSLKEYLOGFILE",
        "CURL_HOME",
        "APT_CONFIG",
        "BOTO_CONFIG",
        "BOTOCORE_TCP_KEEPALIVE",
        "GRPC_XDS_BOOTSTRAP",
        "CONTAINERD_ADDRESS",
        "MOBY_DISABLE_PIGZ",
        "CADDY_ADMIN",
        "CONFIGURATION_DIRECTORY",
        "CACHE_DIRECTORY",
        "LOGS_DIRECTORY",
        "JOURNAL_STREAM",
        "WATCHDOG_USEC",
        "TERMINFO",
        "TERMINFO_DIRS",
        "INPUTRC",
        "TAR_OPTIONS",
        "KRB5_CONFIG",
        "KRB5CCNAME",
        "LESSOPEN",
        "NETRC",
        "APP_IMAGE",
        "APP_PORT",
        "APP_HOST",
    ],
)
def test_a_variable_that_programs_on_the_host_read_is_refused(name):
    assert name in names.problem_of(name)
    assert name in names.OWN or "if the value is not secret" in names.problem_of(name)


@pytest.mark.parametrize(
    "name",
    [
        "DATABASE_URL",
        "MAIL_TOKEN",
        "SECRET_KEY_BASE",
        "RAILS_MASTER_KEY",
        "S3_ACCESS_KEY_ID",
        "GOOGLE_API_KEY",
        "GITHUB_TOKEN",
        "PGPASSWORD",
        "REDIS_URL",
        "STRIPE_KEY",
        "SENTRY_DSN",
        "LDAP_PASSWORD",
        "PATHS",
        "HOMEPAGE_TOKEN",
        "APP_SECRET",
        "ENVOY_KEY",
        "GOCARDLESS_TOKEN",
        "LCD_KEY",
        "PROXY_PASSWORD",
        "USERNAME",
        "GITLAB_TOKEN",
        "NODEMAILER_PASSWORD",
        "MAILGUN_KEY",
        "PS_TOKEN",
        "PERSONAL_TOKEN",
        "HONEYCOMB_KEY",
    ],
)
def test_common_names_of_secrets_are_allowed(name):
    assert names.problem_of(name) == ""


@pytest.mark.parametrize(
    "name",
    ["", "token", "TOKEN\n", "TOKEN=x", "--X", "1X", "_X", "TÖKEN", "T\u0661", "T" * 65, "A B"],
)
def test_a_malformed_name_is_refused(name):
    assert "such as DATABASE_URL" in names.problem_of(name)
