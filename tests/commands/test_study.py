"""``flatconv study`` as people type it: what it writes, what it keeps, what it says of wrong arguments."""

import json

import pytest

from flatconv import cli
from flatconv.study import run as runner
from tests.study import made


@pytest.fixture
def ran(monkeypatch):
    """Keys of the claims that ran; the claims are made up."""
    found = []
    claims = tuple(made.experiment(key, found) for key in ("C1", "C2"))
    monkeypatch.setattr(runner.run, "__kwdefaults__", runner.run.__kwdefaults__ | {"claims": claims})
    return found


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["study", *map(str, arguments)])
    text = capsys.readouterr()
    return stopped.value.code or 0, text.out, text.err


def test_it_writes_the_report(ran, capsys, tmp_path):
    code, out, err = run(capsys, "-o", tmp_path / "out", "--quick")
    assert code == 0
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["c1-1.svg", "c1-2.svg", "c2-1.svg", "c2-2.svg", "study.html", "study.json", "study.md"]
    assert "✓ confirmed" in out
    assert "verdicts mean nothing" in out
    assert "C2 (2 of 2)" in err
    assert [key for key, _ in ran] == ["C1", "C2"]


def test_json_goes_where_results_go(ran, capsys, tmp_path):
    code, out, _ = run(capsys, "-o", tmp_path / "out", "--json", "--only", "C2", "--threads", "1")
    assert code == 0
    found = json.loads(out)
    assert [e["claim"]["key"] for e in found["entries"]] == ["C2"]
    assert found["environment"]["threads"] == "1"
    assert out == (tmp_path / "out/study.json").read_text()


def test_an_interrupted_study_goes_on(ran, capsys, tmp_path, monkeypatch):
    usual = runner.run.__kwdefaults__
    stopped = (usual["claims"][0], made.experiment("C2", ran, fails=KeyboardInterrupt()))
    monkeypatch.setattr(runner.run, "__kwdefaults__", usual | {"claims": stopped})
    code, _, err = run(capsys, "-o", tmp_path / "out")
    assert code == 130
    assert "study.json: C1." in " ".join(err.split())
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["study.json"]
    monkeypatch.setattr(runner.run, "__kwdefaults__", usual)
    code, out, _ = run(capsys, "-o", tmp_path / "out", "--resume")
    assert code == 0
    assert [key for key, _ in ran] == ["C1", "C2"]
    assert "C1" in out
    assert (tmp_path / "out/study.html").exists()


def test_an_interruption_before_anything_is_done_leaves_nothing(ran, capsys, tmp_path, monkeypatch):
    stopped = (made.experiment("C1", ran, fails=KeyboardInterrupt()),)
    monkeypatch.setattr(runner.run, "__kwdefaults__", runner.run.__kwdefaults__ | {"claims": stopped})
    code, _, err = run(capsys, "-o", tmp_path / "out")
    assert code == 130
    assert "nothing was written" in err
    assert not (tmp_path / "out").exists()


def test_resume_where_nothing_was_begun_is_a_beginning(ran, capsys, tmp_path):
    assert run(capsys, "-o", tmp_path / "out", "--resume")[0] == 0
    assert [key for key, _ in ran] == ["C1", "C2"]


def test_earlier_results_are_replaced_only_by_force(ran, capsys, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    code, _, err = run(capsys, "-o", tmp_path)
    assert code == 2
    assert "not empty" in err
    assert not ran
    assert run(capsys, "-o", tmp_path, "--force")[0] == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--only", "C7"), "no claim 'C7': the claims are C1, C2"),
        (("--threads", "0"), "at least one thread"),
        (("--resume", "--force"), "leave one of them out"),
    ],
)
def test_wrong_arguments_get_a_sentence(ran, capsys, tmp_path, arguments, words):
    code, _, err = run(capsys, "-o", tmp_path / "out", *arguments)
    assert code == 2
    assert words in " ".join(err.split())
    assert not ran
    assert not (tmp_path / "out").exists()


def test_a_folder_is_needed(ran, capsys):
    assert run(capsys)[0] == 2
    assert not ran


def test_a_study_that_is_none_is_not_continued(ran, capsys, tmp_path):
    (tmp_path / "study.json").write_text('{"entries": 3}')
    code, _, err = run(capsys, "-o", tmp_path, "--resume")
    assert code == 2
    assert "is not the result of a study" in " ".join(err.split())
    assert (tmp_path / "study.json").read_text() == '{"entries": 3}'


def test_a_missing_package_names_the_extra(ran, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "PACKAGES", {"no_such_module_here": "no-such-package"})
    code, _, err = run(capsys, "-o", tmp_path / "out")
    assert code == 2
    assert "flatconv[study]" in "".join(err.split())
    assert not (tmp_path / "out").exists()
