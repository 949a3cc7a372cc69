"""Objects of Kubernetes as values: how far a workload is, what ails a pod, what a release changes."""

import pytest

from kirsch.cluster.model.kubernetes import line_of, progress, steps, trouble, with_scale


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
    line = line_of("web-1", "2026-12-02T10:00:00.123456789Z it runs")
    assert line == {"time": 1796205600.123456, "unit": "web-1", "stream": "stdout", "text": "it runs"}
    assert line_of("web-1", "2026-12-02T10:00:00Z ")["text"] == ""
    assert line_of("web-1", "no time") == {
        "time": 0.0,
        "unit": "web-1",
        "stream": "stdout",
        "text": "no time",
    }


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
