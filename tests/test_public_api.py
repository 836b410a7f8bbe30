"""The public names and signatures are a contract."""

import dataclasses
import inspect

import flatconv
from flatconv.audit import SiteAudit, Totals
from flatconv.report.fold import FoldReport


def parameters(function):
    return [
        f"{p.name}={p.default}" if p.default is not p.empty else p.name
        for p in inspect.signature(function).parameters.values()
    ]


def test_names():
    assert set(flatconv.__all__) == {
        "Audit", "Call", "FlatconvError", "Folded", "GuardError", "InputError", "Patched", "RefusedError", "Stack",
        "Tuning", "VerificationError", "Window", "audit", "fold", "patch", "reinit", "repeated", "stack",
    }  # fmt: skip
    assert all(hasattr(flatconv, name) for name in flatconv.__all__)


def test_audit():
    assert parameters(flatconv.audit) == ["model", "args=()", "kwargs=None", "method=forward", "assume=None"]
    names = {f.name for f in dataclasses.fields(SiteAudit)}
    assert names >= {
        "name", "op", "kernel", "input_shape", "output_shape", "live_taps", "dead_taps", "merged_taps", "reason",
        "macs", "useful_macs", "parameters", "useful_parameters",
    }  # fmt: skip
    assert {f.name for f in dataclasses.fields(Totals)} >= {"macs", "useful_macs", "parameters", "useful_parameters"}
    assert callable(flatconv.Audit.to_json)
    assert parameters(flatconv.Audit.to_html) == ["self", "path", "force=False"]


def test_fold():
    assert parameters(flatconv.fold) == [
        "model", "args=()", "kwargs=None", "method=forward", "assume=None", "dynamic=auto", "weights=folded", "rank4=False",
        "tune=True", "verify=True",
    ]  # fmt: skip
    names = {f.name for f in dataclasses.fields(FoldReport)}
    assert names >= {"sites", "evidence", "assumptions", "unused_parameters"}
    assert parameters(FoldReport.to_html) == ["self", "path", "force=False", "measured=None"]
    assert callable(flatconv.Folded.save)
    assert callable(flatconv.Folded.save_weights)


def test_every_error_is_one_of_ours_with_its_exit_code():
    codes = {flatconv.InputError: 2, flatconv.RefusedError: 3, flatconv.VerificationError: 4}
    for error, code in codes.items():
        assert issubclass(error, flatconv.FlatconvError)
        assert error.exit_code == code


def test_tuning():
    names = {f.name: f.default for f in dataclasses.fields(flatconv.Tuning)}
    assert {k: names[k] for k in ("engine", "budget", "more_memory", "cache")} == {
        "engine": "eager", "budget": 30.0, "more_memory": False, "cache": True,
    }  # fmt: skip


def test_repeated():
    assert parameters(flatconv.repeated) == ["dim", "within=None", "axis=None", "check=always", "otherwise=refuse"]


def test_stack():
    assert parameters(flatconv.stack) == [
        "source", "how", "layout=None", "size=None", "channels=None", "scale=None", "sizes=error", "patches=None", "overlap=0",
        "truncated=error", "gaps=error", "series=None", "modality=None", "volume=None",
    ]  # fmt: skip
    assert {f.name for f in dataclasses.fields(flatconv.Window)} == {"data", "index", "frames", "patch"}
    assert {"batches", "merge", "restore", "map", "windows", "notes"} <= set(dir(flatconv.Stack))


def test_reinit():
    assert parameters(flatconv.reinit) == ["model", "args=()", "kwargs=None", "method=forward", "assume=None"]


def test_patch():
    assert parameters(flatconv.patch) == [
        "model",
        "calls",
        "assume=None",
        "dynamic=auto",
        "tune=True",
        "verify=True",
        "in_place=True",
        "drop_original=False",
    ]
    assert {"undo", "reports", "counts", "__enter__", "__exit__"} <= set(dir(flatconv.Patched))
