"""What the pages show runs, and is typed."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import capture
import hailpost
import pytest
from conftest import ROOT, skip

pytestmark = pytest.mark.skipif(sys.version_info < (3, 10), reason="the pages use match")


def blocks(page: Path) -> list[tuple[int, str]]:
    """The Python blocks of a page, with the lines that they begin on."""
    text = page.read_text()
    found = re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, block.start(1)), block.group(1)) for block in found]


def run(page: Path, source: list[tuple[int, str]], scope: dict[str, object]) -> None:
    for line, block in source:
        exec(compile("\n" * line + block, str(page), "exec"), scope)


def test_the_python_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "python.md"
    found = blocks(page)
    assert len(found) == 13
    scope: dict[str, object] = {"__name__": "page"}
    run(page, found, scope)
    said = capsys.readouterr().out
    assert "living room is there, in group home" in said
    assert "living room saw application 7 at 203.0.113.9" in said
    assert "PATTERN Retry.NEVER" in said
    # Queued, or stored where ben was not there yet.
    assert "user:anna writes see you at eight" in said and "the office has it: " in said
    assert "anna is there" in said and "nobody is not there" in said and "the broadcast: 200" in said
    client, server = ("192.168.1.2", 40000), ("203.0.113.9", 22)
    path = capture.write(tmp_path / "ssh.pcap", capture.ssh(client, server))
    assert scope["flows_of"](path) == [("ssh", "rule", server)]  # type: ignore[operator]


def test_the_python_page_names_every_event(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "python.md").read_text()
    for kind in hailpost._events.BY_KIND.values():
        fields = ", ".join(kind.__match_args__)  # type: ignore[attr-defined]
        assert f"{kind.__name__}({fields})" in text, kind


def test_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / "README.md"
    found = blocks(page) if page.exists() else []
    if not found:
        skip("README.md has no Python block")
    monkeypatch.chdir(tmp_path)
    hailpost.Identity.generate("backend").save("backend.pem")
    # A free port, and no patience for what does not come.
    quick = [(line, re.sub(r"timeout=\d+", "timeout=0.1", block.replace(":7700", ":0"))) for line, block in found]
    run(page, quick, {"__name__": "page"})


def test_the_scenarios_of_both_languages_are_there() -> None:
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    rows = re.findall(r"^\|.*\| `(\w+\.c)` `(\w+)` \| `(\w+)` \|$", (ROOT / "docs" / "c-api.md").read_text(), re.MULTILINE)
    assert len(rows) > 20
    for program, function, test in rows:
        source = (ROOT / "ctests" / program).read_text()
        assert re.search(rf"^\w.*\b{function}\(", source, re.MULTILINE), (program, function)
        assert f"def {test}(" in tests, test
    # And none of Python's is missing there.
    scenarios = (Path(__file__).parent / "test_scenarios.py").read_text()
    assert set(re.findall(r"^def (test_\w+)", scenarios, re.MULTILINE)) <= {test for _, _, test in rows}


def test_the_python_page_is_typed(tmp_path: Path) -> None:
    if importlib.util.find_spec("mypy") is None:
        skip("mypy is not installed")
    program = tmp_path / "page.py"
    program.write_text("\n".join(block for _, block in blocks(ROOT / "docs" / "python.md")))
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(program)]
    checked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
