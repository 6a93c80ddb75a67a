"""How the CIS benchmark's checks judge what a look at a host printed."""

from __future__ import annotations

from tests.trust import cis

LOOK = """\
kube-apiserver --profiling=false
kube-apiserver --enable-admission-plugins=NodeRestriction,DenyServiceExternalIPs
kubelet --config=/var/lib/kubelet/config.yaml
file d 700 root:root /var/lib/etcd
file f 600 root:root /etc/kubernetes/pki/ca.key
file f 644 root:root /etc/kubernetes/pki/ca.crt
provider secretbox
provider identity
kubelet-config authentication:
kubelet-config   anonymous:
kubelet-config     enabled: false
"""


def verdict(check: str, look: str = LOOK) -> cis.Verdict:
    (found,) = [c for c in (*cis.CONTROL_PLANE, *cis.NODE) if c.id == check]
    return found.verdict([cis.Host.read(look)])


def test_each_check_is_there_once() -> None:
    checks = [*(c.id for c in (*cis.CONTROL_PLANE, *cis.NODE)), *cis.TITLES, *cis.BY_HAND]
    assert len(checks) == len(set(checks)) == 131, "as many as the benchmark has"
    assert cis.REASONS.keys() <= set(checks)


def test_verdicts() -> None:
    assert verdict("1.2.15") == "PASS"
    assert verdict("1.2.15", LOOK.replace("false", "true")) == "FAIL"
    assert verdict("1.2.3") == "PASS"
    assert verdict("1.2.9") == "WARN", "the benchmark leaves it to people"
    assert verdict("1.1.11") == "PASS"
    assert verdict("1.1.11", LOOK.replace(" 700 ", " 755 ")) == "FAIL"
    assert verdict("1.1.12") == "FAIL"
    assert verdict("1.1.21") == "PASS", "certificates are another check's"
    assert verdict("1.2.28") == "PASS"
    assert verdict("4.2.1") == "PASS"
    assert verdict("4.1.5") == "FAIL", "a file that is not there"


def test_one_host_that_fails_is_enough() -> None:
    (check,) = [c for c in cis.CONTROL_PLANE if c.id == "1.2.15"]
    hosts = [cis.Host.read(LOOK), cis.Host.read(LOOK.replace("profiling=false", "x=1"))]
    assert check.verdict(hosts) == "FAIL"
