"""Writing fails with a sentence, and leaves what was there; being killed leaves the old file or the new one."""

import os
import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from flatconv import cli, files
from tests.bad import disk
from tests.bad.commands import MODELS
from tests.bad.table import Bad, listing, raises, rows

KILLS = 30


@rows(disk.TABLE)
def test_refused(row: Bad, tmp_path, monkeypatch):
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.chdir(place)
    disk.flat()

    def fail(owner, name, error):
        def raising(*args, **kwargs):
            raise error

        monkeypatch.setattr(owner, name, raising)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raises(row, lambda: row.given(place, fail))
    monkeypatch.undo()
    # What a row put there itself is old or belongs to somebody else; nothing of ours is left.
    for path in place.rglob("*"):
        assert not path.name.startswith(files.TEMPORARY)
        if path.is_file():
            assert path.read_text() == "old"
    assert not (place / "a" / "b").exists()


def test_somebody_elses_file_in_the_way_is_left_whole(tmp_path):
    disk.folder_of_folders(tmp_path / "out")
    before = listing(tmp_path)
    with pytest.raises(files.InputError):
        disk.fill(tmp_path / "out", force=True)
    assert listing(tmp_path) == before


def test_a_link_is_replaced_and_what_it_points_to_is_not(tmp_path):
    (tmp_path / "real.txt").write_text("precious")
    (tmp_path / "link.txt").symlink_to("real.txt")
    files.write(tmp_path / "link.txt", lambda p: p.write_text("new"), force=True)
    assert (tmp_path / "real.txt").read_text() == "precious"
    assert (tmp_path / "link.txt").read_text() == "new"
    assert not (tmp_path / "link.txt").is_symlink()


def test_a_private_file_stays_private_and_a_new_one_has_the_usual_rights(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    (tmp_path / "a.txt").chmod(0o600)
    files.write(tmp_path / "a.txt", lambda p: p.write_text("new"), force=True)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o600
    files.write(tmp_path / "b.txt", lambda p: p.write_text("new"))
    (tmp_path / "c.txt").write_text("usual")
    assert (tmp_path / "b.txt").stat().st_mode == (tmp_path / "c.txt").stat().st_mode


def test_long_names_that_the_disk_takes_are_taken(tmp_path):
    for name in ("日" * 80 + ".txt", "n" * 251 + ".txt"):
        files.write(tmp_path / name, lambda p: p.write_text("new"))
        assert (tmp_path / name).read_text() == "new"


def child(work):
    """A copy of this process that does ``work`` and ends with its exit code."""
    number = os.fork()
    if number:
        return number
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in (signal.SIGTERM, signal.SIGHUP):  # whoever runs the tests may ignore them, as nohup does
            signal.signal(number, signal.SIG_DFL)
        with cli._stopped_cleanly():
            work()
        os._exit(0)
    except SystemExit as e:
        os._exit(e.code)
    except KeyboardInterrupt:
        os._exit(130)
    finally:
        os._exit(99)


def ended(number):
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def content(i):
    return bytes([i % 256]) * 300_000


def test_killed_at_any_point_the_file_is_the_old_or_the_new(tmp_path):
    path, luck = tmp_path / "a.bin", random.Random(0)
    path.write_bytes(content(255))

    def forever():
        for i in range(10**9):
            files.write(path, lambda p, i=i: p.write_bytes(content(i)), force=True)
            os.write(tell, b"x")

    seen, left = set(), 0
    for turn in range(KILLS):
        done, tell = os.pipe()
        number = child(forever)
        for _ in range(1 + turn % 5):  # however slow the machine is, some were written
            os.read(done, 1)
        time.sleep(luck.random() * 0.005)
        os.kill(number, signal.SIGKILL)
        assert ended(number) == -signal.SIGKILL
        os.close(done)
        os.close(tell)
        held = path.read_bytes()
        assert held == content(held[0])
        seen.add(held[0])
        for other in set(tmp_path.iterdir()) - {path}:
            assert other.name.startswith(files.TEMPORARY)
            other.unlink()
            left += 1
    assert len(seen) > 2  # the loop did write
    assert left > 0  # and was killed in the middle of it


def test_killed_at_any_point_a_folder_is_whole_or_not_there(tmp_path):
    path, luck = tmp_path / "out", random.Random(1)

    def forever():
        for i in range(10**9):
            with files.folder(tmp_path / f"out{i}") as folder:
                for name in "abc":
                    (folder / name).write_bytes(content(i))
            os.write(tell, b"x")

    for _ in range(KILLS // 3):
        done, tell = os.pipe()
        number = child(forever)
        os.read(done, 1)
        time.sleep(luck.random() * 0.01)
        os.kill(number, signal.SIGKILL)
        assert ended(number) == -signal.SIGKILL
        os.close(done)
        os.close(tell)
        for made in tmp_path.iterdir():
            if made.name.startswith(path.name):
                assert sorted(p.name for p in made.iterdir()) == ["a", "b", "c"]
                assert {len(p.read_bytes()) for p in made.iterdir()} == {300_000}
                for p in made.iterdir():
                    p.unlink()
                made.rmdir()
            else:
                assert made.name.startswith(files.TEMPORARY)
                for p in made.iterdir():
                    p.unlink()
                made.rmdir()


@pytest.mark.parametrize(
    ("told", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)], ids=["TERM", "HUP", "INT"]
)
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_told_to_stop_nothing_is_left_behind(tmp_path, told, code, kind):
    (tmp_path / "a.txt").write_text("old")
    ready, tell = os.pipe()

    def writer(path):
        path.write_text("half")
        os.write(tell, b"x")
        time.sleep(60)

    def work():
        if kind == "file":
            files.write(tmp_path / "a.txt", writer, force=True)
        else:
            with files.folder(tmp_path / "deep" / "out") as folder:
                writer(folder / "b.txt")

    number = child(work)
    os.read(ready, 1)
    os.kill(number, told)
    assert ended(number) == code
    assert listing(tmp_path).keys() == {"a.txt"}
    assert (tmp_path / "a.txt").read_text() == "old"
    os.close(ready)
    os.close(tell)


COMMAND = ["fold", "--static", "--no-verify", "--input", "1x3x1x8x8", "-o", "out", "models.py:net"]
ENVIRONMENT = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}

LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from flatconv import cli
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
cli.main(sys.argv[1:])
"""


def test_a_full_disk_ends_the_command_with_a_sentence(tmp_path):
    """Torch's own writer would end the process with a dump of its memory."""
    (tmp_path / "models.py").write_text(MODELS)
    before = listing(tmp_path)
    ran = subprocess.run(
        [sys.executable, "-c", LIMITED, *COMMAND],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2, ran.stderr
    flowing = " ".join(ran.stderr.split())
    assert "folded.pt2" in flowing
    assert "File too large" in flowing
    assert "Traceback" not in flowing
    assert listing(tmp_path) == before


STOPPED = """
import sys, time
from flatconv import cli, files
def slow(*a, **k):
    print("ready", flush=True, file=sys.__stdout__)
    time.sleep(60)
files.save_weights = slow
cli.main(sys.argv[1:])
"""


def test_a_command_told_to_stop_leaves_nothing(tmp_path):
    (tmp_path / "models.py").write_text(MODELS)
    before = listing(tmp_path)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    running = subprocess.Popen(
        [sys.executable, "-c", STOPPED, *COMMAND, "--json"], cwd=tmp_path, env=ENVIRONMENT, text=True, **pipes
    )
    while running.stdout.readline().strip() != "ready":
        assert running.poll() is None
    assert any(p.name.startswith(files.TEMPORARY) for p in Path(tmp_path).iterdir())
    running.send_signal(signal.SIGTERM)
    _, err = running.communicate(timeout=30)
    assert running.returncode == 143
    assert "Traceback" not in err
    assert listing(tmp_path) == before
