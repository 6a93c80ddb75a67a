"""What a new server's first boot is given: that it is what cloud-init takes, and no more than it takes."""

from __future__ import annotations

import base64
import gzip
import random
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.errors import SettingsError
from cluster.machines.hetzner.user_data import BOOT_SCRIPTS, FILES, LIMIT_BYTES, user_data
from cluster.nodes import prepare_values
from cluster.nodes.files import envelope, host_files
from cluster.settings import Settings
from tests.unit.hosts import SCRIPTS
from tests.unit.sites import dev_files
from tests.unit.stacks import CLOUD, changed, dev_stack, load

PRIVATE = (
    "-----BEGIN OPENSSH PRIVATE KEY-----\nboot-key\n: # ' \"\n-----END OPENSSH PRIVATE KEY-----\n"
)
PUBLIC = "ecdsa-sha2-nistp256 AAAAE2VjZHNh\n"
LIBRARY = "/usr/local/lib/own-kubernetes"


def site(root: Path, changes: Mapping[str, Any] | None = None) -> Settings:
    """The small site at Hetzner, with the mirror and the tuning of the dev stack."""
    dev_files(root)
    tuned = {key: dev_stack()[key] for key in ("mirror", "kubelet", "kubeProxy")}
    return load(changes, changed(CLOUD, tuned), root).settings


def text_of(settings: Settings, name: str, root: Path) -> str:
    files = envelope(host_files(settings, name, root))
    return user_data(files, prepare_values(settings, settings.nodes[name].role), PRIVATE, PUBLIC)


def config_of(text: str) -> dict[str, Any]:
    """What cloud-init reads."""
    assert text.startswith("#cloud-config\n")
    config: dict[str, Any] = yaml.safe_load(text)
    return config


def written(config: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """The files that cloud-init writes: path to mode and text."""
    found = {}
    for file in config["write_files"]:
        assert file["encoding"] == "gz+b64"
        text = gzip.decompress(base64.b64decode(file["content"], validate=True)).decode()
        found[file["path"]] = (file["permissions"], text)
    return found


def test_scripts_and_files_arrive_as_they_are(tmp_path: Path) -> None:
    settings = site(tmp_path)
    found = written(config_of(text_of(settings, "cp1", tmp_path)))
    assert found.pop(FILES) == ("0644", envelope(host_files(settings, "cp1", tmp_path)))
    assert found == {
        f"{LIBRARY}/{name}": ("0755", (SCRIPTS / name).read_text()) for name in BOOT_SCRIPTS
    }


def test_scripts_of_the_first_boot_need_no_others() -> None:
    """What they call, or read in, or install from their folder, is there."""
    for name in BOOT_SCRIPTS:
        text = (SCRIPTS / name).read_text()
        for other in SCRIPTS.iterdir():
            called = any(f"{place}/{other.name}" in text for place in ("$LIBRARY", "$here"))
            assert not called or other.name in BOOT_SCRIPTS, f"{name} needs {other.name}"


@pytest.mark.parametrize(("node", "role"), [("cp1", "control-plane"), ("worker-1", "worker")])
def test_the_first_boot_prepares_the_host_as_ssh_would(
    tmp_path: Path, node: str, role: str
) -> None:
    settings = site(tmp_path)
    (line,) = config_of(text_of(settings, node, tmp_path))["runcmd"]
    command, _, stdin = line.rpartition(" <")
    assert stdin == FILES
    values = prepare_values(settings, settings.nodes[node].role)
    assert shlex.split(command) == [
        "bash", f"{LIBRARY}/run.sh", "prepare", *(f"{k}={v}" for k, v in values.items()),
    ]  # fmt: skip
    assert values["ROLE"] == role


def test_sshd_shows_the_given_key_only_and_takes_no_password(tmp_path: Path) -> None:
    config = config_of(text_of(site(tmp_path), "cp1", tmp_path))
    assert config["ssh_keys"] == {"ecdsa_private": PRIVATE, "ecdsa_public": PUBLIC.strip()}
    assert config["ssh_deletekeys"] is True
    assert config["ssh_pwauth"] is False
    assert config["disable_root"] is False


def test_the_same_settings_make_the_same_text(tmp_path: Path) -> None:
    settings = site(tmp_path)
    assert text_of(settings, "cp1", tmp_path) == text_of(settings, "cp1", tmp_path)


def test_nothing_but_the_first_key_is_secret(tmp_path: Path) -> None:
    text = text_of(site(tmp_path), "worker-1", tmp_path).replace("boot-key", "")
    config = config_of(text)
    assert not [
        path
        for path, (_, body) in written(config).items()
        if "-----BEGIN OPENSSH PRIVATE KEY-----" in body
    ]
    assert not [
        path for path, (_, body) in written(config).items() if CLOUD["hcloud:token"] in body
    ]


@pytest.mark.parametrize("node", ["cp1", "worker-1"])
def test_a_small_site_is_far_from_the_limit(tmp_path: Path, node: str) -> None:
    size = len(text_of(site(tmp_path), node, tmp_path))
    assert size < LIMIT_BYTES * 0.8, f"{size} bytes: the next script may not fit"


@pytest.mark.parametrize("node", ["cp1", "worker-1"])
def test_a_large_site_fits(tmp_path: Path, node: str) -> None:
    changes = {
        "nodeCidr": "10.0.0.0/12",
        "adminCidrs": [f"198.51.{n}.0/24" for n in range(50)],
        "nodes.cp1.privateAddress": "10.0.0.9",
        "nodePools.worker": {"role": "worker", "count": 99, "firstPrivateAddress": "10.1.0.1"},
        "mirror.registries": {f"registry-{n}.example.com": [f"http://m/{n}"] for n in range(20)},
    }
    assert len(text_of(site(tmp_path, changes), node, tmp_path)) < LIMIT_BYTES


def test_too_much_is_refused_with_size_and_remedy() -> None:
    text = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=60_000))
    with pytest.raises(SettingsError) as caught:
        user_data(f"#-- /etc/noise\n{text}\n", {"ROLE": "worker"}, PRIVATE, PUBLIC)
    (found,) = caught.value.problems
    assert found.key == "user-data"
    assert int(str(found.value).split()[0]) > LIMIT_BYTES
    assert f"at most {LIMIT_BYTES} bytes" in found.expected
    assert "kubelet, kubeProxy, containerd or mirror" in found.remedy
    assert "boot-key" not in str(caught.value)
