"""Objects of Kubernetes as values: how far a workload is, what ails a pod, what a release changes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kirsch.cluster.model.kubernetes import (
    has_started,
    late_since,
    line_of,
    lines_of,
    progress,
    steps,
    trouble,
    with_scale,
)


def workload(kind="Deployment", generation=2, wanted=3, **status):
    metadata = {"name": "web", "generation": generation}
    return {"kind": kind, "metadata": metadata, "spec": {"replicas": wanted}, "status": status}


READY = {"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, (True, "3 of 3 ready", "")),
        ({"availableReplicas": 2}, (False, "2 of 3 ready", "")),
        ({"updatedReplicas": 1}, (False, "1 of 3 ready", "")),
        # A pod of the text before is still there.
        ({"replicas": 4}, (False, "3 of 3 ready", "")),
        # The controller has not seen the change: what it tells is about the text before.
        ({"observedGeneration": 1}, (False, "0 of 3 ready", "")),
        (
            {"conditions": [{"reason": "ProgressDeadlineExceeded", "message": "it is late"}], "replicas": 4},
            (False, "3 of 3 ready", "it is late"),
        ),
    ],
)
def test_progress_of_a_deployment(change, expected):
    assert progress(workload(**READY | change)) == expected


def test_an_older_change_that_was_late_says_nothing_of_this_one():
    late = [{"reason": "ProgressDeadlineExceeded"}]
    assert progress(workload(**READY | {"observedGeneration": 1, "conditions": late}))[2] == ""


def test_a_deadline_that_was_missed_before_is_not_missed_again():
    """Kubernetes keeps the condition until a later change makes progress."""
    late = {"reason": "ProgressDeadlineExceeded", "message": "it is late", "lastUpdateTime": "10:00"}
    there = workload(**READY | {"conditions": [late], "replicas": 4})
    assert late_since(there) == "10:00"
    assert progress(there, known="10:00")[2] == ""
    assert progress(there, known="09:00")[2] == "it is late"
    assert late_since(workload(**READY)) == ""


def test_progress_of_what_runs_everywhere():
    status = {"observedGeneration": 2, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2}
    assert progress(workload("DaemonSet", **status | {"numberAvailable": 1})) == (False, "1 of 2 ready", "")
    assert progress(workload("DaemonSet", **status | {"numberAvailable": 2})) == (True, "2 of 2 ready", "")


def test_none_of_a_service_is_ready_at_once():
    assert progress(workload(wanted=0, observedGeneration=2)) == (True, "0 of 0 ready", "")
    assert not progress(workload())[0]


def test_trouble_of_a_pod():
    waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
    pod = {"status": {"containerStatuses": [{"state": {"waiting": waiting}}]}}
    assert trouble(pod) == "ImagePullBackOff: no such image"
    condition = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
    assert trouble({"status": {"conditions": [condition]}}) == "cannot be scheduled: 0/3 nodes are available"
    pod = {"status": {"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}}
    assert trouble(pod) == ""
    assert trouble({}) == ""


def test_a_line_has_its_time():
    line = line_of("web-1", b"2026-12-02T10:00:00.123456789Z it runs")
    assert line == {"time": 1796205600.123456, "unit": "web-1", "stream": "stdout", "text": "it runs"}
    assert line_of("web-1", b"2026-12-02T10:00:00Z ")["text"] == ""
    assert line_of("web-1", b"no time") == {
        "time": 0.0,
        "unit": "web-1",
        "stream": "stdout",
        "text": "no time",
    }


def test_lines_are_parted_where_the_kubelet_ends_them():
    """What a program writes may be no UTF-8, and may hold what Python takes for the end of a line."""
    whole = (
        b"2026-12-02T10:00:00Z a\x0bb\r\n2026-12-02T10:00:01Z caf\xe9 \xe2\x80\xa8\n2026-12-02T10:00:02Z end"
    )
    expected = ["a\x0bb\r", "caf\ufffd \u2028", "end"]
    assert [line["text"] for line in lines_of("web-1", [whole])] == expected
    assert [line["text"] for line in lines_of("web-1", [bytes([byte]) for byte in whole])] == expected
    assert list(lines_of("web-1", [])) == []


def test_a_pod_has_a_log_once_it_has_started():
    assert not has_started({})
    assert not has_started({"status": {"containerStatuses": [{"state": {"waiting": {}}}]}})
    assert has_started({"status": {"containerStatuses": [{"state": {"running": {}}}]}})
    assert has_started({"status": {"containerStatuses": [{"state": {"terminated": {}}}]}})


@pytest.mark.slow
@pytest.mark.parametrize("text", ["a: [", "hello", "[]", "\x80", "contexts: 1"])
def test_a_kubeconfig_that_is_none_is_one_line(text, tmp_path):
    (tmp_path / "kubeconfig").write_bytes(text.encode("latin-1"))
    environment = os.environ | {"KUBECONFIG": str(tmp_path / "kubeconfig")}

    def kirsch(*arguments):
        command = [str(Path(sys.executable).with_name("kirsch")), *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)

    done = kirsch("--cluster", "kubernetes:x", "status", "web")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("kirsch: the kubeconfig cannot be used: ")
    assert done.stderr.count("\n") == 1
    completed = kirsch("_complete", "up", "--on", "kubernetes:")
    assert (completed.returncode, completed.stderr) == (0, "")


def test_steps_of_a_release():
    def made(kind, name, **more):
        return {"kind": kind, "metadata": {"name": name}} | more

    before = [made("Deployment", "a"), made("Service", "a"), made("PersistentVolumeClaim", "data")]
    after = [
        made("Deployment", "a", spec={}),
        made("Service", "a"),
        made("Ingress", "lb"),
        made("Secret", "s"),
    ]
    # Claims hold data, and stay; values of secrets are in no release.
    assert steps(before, after) == ["create   Ingress lb", "change   Deployment a"]
    assert steps(after, before) == [
        "create   PersistentVolumeClaim data",
        "change   Deployment a",
        "remove   Ingress lb",
    ]
    assert steps(before, before) == []


def test_a_number_that_people_asked_for_goes_first():
    each = {"kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 2}}
    assert with_scale(each, None) is each
    assert with_scale(each, "3") == {
        "kind": "Deployment",
        "metadata": {"name": "web", "annotations": {"kirsch.scale": "3"}},
        "spec": {"replicas": 3},
    }
