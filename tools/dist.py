"""Builds sdist and wheel into dist/ and shows that they are whole: ``python -m tools.dist``.

The wheel is built from the sdist, so what the sdist lacks fails here. It is then installed in an
environment of its own, with a PATH on which no compiler is found, and runs real tasks there.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
#: What a wheel carries of the package; the sources of the extensions belong into the sdist.
CARRIED = (".py", ".pyi", ".typed", ".so")


def main() -> int:
    shutil.rmtree(DIST, ignore_errors=True)
    if subprocess.run([sys.executable, "-m", "build", "-o", str(DIST), str(ROOT)], check=False).returncode:
        return 1
    [wheel] = DIST.glob("*.whl")
    stray = stray_files(wheel)
    if stray:
        print(f"{wheel.name} carries what it should not: {', '.join(stray)}")
        return 1
    with tempfile.TemporaryDirectory(prefix="engine-dist-") as folder:
        return try_out(wheel, Path(folder))


def stray_files(wheel: Path) -> list[str]:
    """Files of the package that are neither Python, nor typing, nor a built extension."""
    names = zipfile.ZipFile(wheel).namelist()
    return [name for name in names if name.startswith("engine/") and not name.endswith(CARRIED)]


def try_out(wheel: Path, folder: Path) -> int:
    """Install the wheel alone and run tasks with it. The exit status of what failed, or 0."""
    environment = folder / "venv"
    pip = [str(environment / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    commands = (
        ([sys.executable, "-m", "venv", str(environment)], None),
        ([*pip, "install", "--quiet", str(wheel)], None),
        ([str(environment / "bin" / "engine"), "demo", "--limit", "300"], {"PATH": "", "HOME": str(folder)}),
    )
    for command, variables in commands:
        done = subprocess.run(command, cwd=folder, env=variables, check=False)
        if done.returncode:
            print(f"failed: {' '.join(command)}")
            return done.returncode
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, installed and run without a compiler")
    return 0


if __name__ == "__main__":
    sys.exit(main())
