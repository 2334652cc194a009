"""Set up a fresh clone for `make`: packages, the virtual environment, Terraform.

It runs before the environment exists, so it uses only the standard library. Each step checks
first and does nothing if its work is already done.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
TERRAFORM_RC = ROOT / ".cache/terraform.rc"
REGISTRY = "registry.terraform.io"

TERRAFORM = "1.11.4"
TERRAFORM_RANGE = ((1, 11), (2, 0))
TERRAFORM_SHA256 = {
    "linux_amd64": "1ce994251c00281d6845f0f268637ba50c0005657eb3cf096b92f753b42ef4dc",
    "linux_arm64": "a43d1d0da9b9bab214a8305a39db0e40869572594ccf50c416a7756499143633",
    "darwin_amd64": "a56d5002b9f7647291faccc3dd1a70350e60fb61e4c45037629508b8fdc2575b",
    "darwin_arm64": "867e0808fa971217043e25b7a792b10720c79b1546f8a68479b74f138be73e18",
}


def main(arguments: Sequence[str]) -> None:
    """Set up; `--lint` adds the workflow linters, `--browser` adds Chromium if available."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this is the system's Python
        sys.exit(f"Python 3.11 or newer is needed, this is {platform.python_version()}.")
    install_packages(missing_packages())
    make_environment()
    provide_terraform()
    provide_mirror()
    if "--lint" in arguments:
        tools = {"node": "nodejs", "npm": "npm", "shellcheck": "shellcheck"}
        install_packages([package for tool, package in tools.items() if not shutil.which(tool)])
    if "--browser" in arguments and not shutil.which("chromium"):
        try:
            install_packages(["chromium"])
        except (SystemExit, subprocess.CalledProcessError) as problem:
            say(f"The browser tests will be skipped. {problem}")


def missing_packages() -> list[str]:
    """Return the missing Debian packages: ["openssh-client"]."""
    packages = {"git": "git", "ssh-keygen": "openssh-client"}
    missing = [package for tool, package in packages.items() if not shutil.which(tool)]
    return missing + ([] if importlib.util.find_spec("ensurepip") else ["python3-venv"])


def install_packages(packages: Sequence[str]) -> None:
    """Install Debian packages as root or with sudo; exit with one line if neither works."""
    if not packages:
        return
    wanted = " ".join(packages)
    if not shutil.which("apt-get"):
        sys.exit(f"Missing on this machine: {wanted}. Install them and run this again.")
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if root and (not shutil.which("sudo") or subprocess.run(["sudo", "-n", "true"]).returncode):
        sys.exit(f"Missing on this machine: {wanted}. Run: sudo apt-get install {wanted}")
    say(f"Installing {wanted}")
    apt = [
        *root,
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "-qq",
        "-o",
        "Dpkg::Use-Pty=0",
    ]
    run([*apt, "-o", "DPkg::Lock::Timeout=300", "update"])
    options = ["-o", "DPkg::Lock::Timeout=300", "--yes", "--no-install-recommends"]
    run([*apt, *options, "install", *packages])


def make_environment() -> None:
    """Create `.venv` from the hash-locked requirements if they have changed."""
    stamp, python = VENV / "ready", VENV / "bin/python"
    inputs = b"".join(
        (ROOT / name).read_bytes() for name in ("requirements.lock", "pyproject.toml")
    )
    digest = hashlib.sha256(inputs).hexdigest()
    if python.exists() and stamp.exists() and stamp.read_text() == digest:
        return
    say("Creating .venv from requirements.lock (one to three minutes)")
    run([sys.executable, "-m", "venv", "--clear", str(VENV)])
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "-qq"]
    # The lock is complete: pip must not resolve, or it would select newer versions for some extras.
    locked = ["--no-deps", "--require-hashes", "-r", str(ROOT / "requirements.lock")]
    run([*pip, "install", *locked])
    run([*pip, "install", "--no-deps", "--no-build-isolation", "-e", str(ROOT)])
    jupyter = VENV / "etc/jupyter"
    jupyter.mkdir(parents=True, exist_ok=True)
    config = "jupyter_server_config.py"
    (jupyter / config).symlink_to(Path("../../../tools") / config)
    stamp.write_text(digest)


def provide_terraform() -> None:
    """Download Terraform into `.venv/bin` unless PATH has a supported version."""
    path = os.pathsep.join([str(VENV / "bin"), os.environ.get("PATH", "")])
    program = shutil.which("terraform", path=path)
    if program and is_supported(terraform_version(program)):
        return
    kind = f"{platform.system().lower()}_{architecture(platform.machine())}"
    if kind not in TERRAFORM_SHA256:
        sys.exit(f"Terraform >= 1.11, < 2 is not on PATH and no release is configured for {kind}.")
    url = f"https://releases.hashicorp.com/terraform/{TERRAFORM}/terraform_{TERRAFORM}_{kind}.zip"
    say(f"Downloading Terraform {TERRAFORM}")
    try:
        release = urllib.request.urlopen(url, timeout=60).read()
    except OSError as problem:
        sys.exit(f"Terraform >= 1.11, < 2 is not on PATH and cannot be downloaded: {problem}")
    unpack_terraform(release, TERRAFORM_SHA256[kind], VENV / "bin")


def unpack_terraform(release: bytes, sha256: str, folder: Path) -> None:
    """Unpack a release; exit if its checksum is wrong."""
    actual = hashlib.sha256(release).hexdigest()
    if actual != sha256:
        sys.exit(f"Terraform's release has the wrong checksum: expected {sha256}, saw {actual}.")
    with zipfile.ZipFile(io.BytesIO(release)) as archive:
        Path(archive.extract("terraform", folder)).chmod(0o755)


def terraform_version(program: str) -> str:
    """Return the version of a terraform program: "1.11.4"."""
    answer = subprocess.run([program, "version", "-json"], capture_output=True, text=True)
    return json.loads(answer.stdout)["terraform_version"] if answer.returncode == 0 else "0.0.0"


def is_supported(version: str) -> bool:
    """Return True if Daybook supports a Terraform version."""
    oldest, too_new = TERRAFORM_RANGE
    major, minor = (int(part) for part in version.split(".")[:2])
    return oldest <= (major, minor) < too_new


def architecture(machine: str) -> str:
    """Return a machine type as named in Terraform's releases: "amd64" for "x86_64"."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def provide_mirror() -> None:
    """Configure Terraform for a provider mirror on disk if its registry is unreachable.

    An existing configuration of the user takes precedence and is not changed.
    """
    own = [os.environ.get("TF_CLI_CONFIG_FILE", ""), Path.home() / ".terraformrc"]
    if TERRAFORM_RC.exists() or any(Path(file).is_file() for file in own) or registry_answers():
        return
    mirror = find_mirror(mirror_folders(os.environ))
    if not mirror:
        say(f"{REGISTRY} does not answer and no provider mirror was found: init will fail.")
        return
    say(f"{REGISTRY} does not answer: providers come from {mirror}")
    TERRAFORM_RC.parent.mkdir(exist_ok=True)
    TERRAFORM_RC.write_text(mirror_configuration(mirror))


def registry_answers() -> bool:
    """Return True if Terraform's registry is reachable."""
    try:
        urllib.request.urlopen(f"https://{REGISTRY}/.well-known/terraform.json", timeout=5).close()
    except (urllib.error.URLError, TimeoutError):
        return False
    return True


def mirror_folders(env: Mapping[str, str]) -> list[Path]:
    """Return possible mirror folders: Terraform's implied ones, then /opt and its subfolders.

    https://developer.hashicorp.com/terraform/cli/config/config-file#implied-local-mirror-directories
    """
    home, opt = Path(env.get("HOME", "/")), Path("/opt")
    data = env.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    implied = [home / ".terraform.d/plugins", home / ".local/share/terraform/plugins"]
    implied += [Path(folder) / "terraform/plugins" for folder in data.split(":")]
    return [*implied, opt, *(sorted(opt.iterdir()) if opt.is_dir() else [])]


def find_mirror(folders: Sequence[Path]) -> Path | None:
    """Return the first folder with the registry's providers."""
    return next((folder for folder in folders if (folder / REGISTRY).is_dir()), None)


def mirror_configuration(mirror: Path) -> str:
    """Return a CLI configuration that installs providers only from a mirror."""
    path = json.dumps(str(mirror))
    return f"provider_installation {{\n  filesystem_mirror {{\n    path = {path}\n  }}\n}}\n"


def run(command: Sequence[str]) -> None:
    """Run a command with output to the terminal; a failure ends the setup."""
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def say(line: str) -> None:
    """Print a line of progress immediately."""
    print(f"setup: {line}", flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except subprocess.CalledProcessError as failure:
        sys.exit(f"setup: {failure}")
