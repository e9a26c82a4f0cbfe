"""The file that keeps revoked ids over restarts."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.worker.statefile import StateFile, open_state


def reopened(path: Path, most: int = 10) -> list[str]:
    file = StateFile(path, most)
    file.close()
    return file.keys


def test_what_was_appended_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "state"
    file = StateFile(path, 10)
    assert file.keys == []
    file.append(["a", 'with "quotes"'])
    file.append(["b"])
    file.close()
    assert reopened(path) == ["a", 'with "quotes"', "b"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_torn_line_costs_itself_alone(tmp_path: Path) -> None:
    path = tmp_path / "state"
    file = StateFile(path, 10)
    file.append(["a", "b"])
    file.close()
    path.write_bytes(path.read_bytes() + b'"torn')
    file = StateFile(path, 10)
    assert file.keys == ["a", "b"]
    file.append(["c"])
    file.close()
    assert reopened(path) == ["a", "b", "c"]


def test_it_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "state"
    file = StateFile(path, 10)
    file.append([str(number) for number in range(100)])
    file.close()
    assert reopened(path, most=3) == ["97", "98", "99"]
    assert len(path.read_bytes().splitlines()) == 4


def test_one_worker_has_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = open_state(str(tmp_path / "state-%n-%d"), "mail@host", 10)
    assert first is not None
    assert first.path == tmp_path / "state-mail-host"
    assert open_state(str(tmp_path / "state-%n-%d"), "mail@host", 10) is None
    assert "another worker has it open" in caplog.text
    first.close()


def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"\x00\x01 a database of Celery's")
    assert open_state(str(path), "mail@host", 10) is None
    assert "Celery's cannot be read" in caplog.text
    assert path.read_bytes() == b"\x00\x01 a database of Celery's"
    assert open_state(str(tmp_path / "missing" / "state"), "mail@host", 10) is None
    assert "cannot be used" in caplog.text
