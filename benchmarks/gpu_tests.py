"""The tests that need a GPU: which they are, and one run of pytest over them."""

import ast
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Those that skip without a GPU, and those of kernels, which are interpreted without one.
FIXTURES = frozenset(["gpu", "kernel_device"])
# These wait for compilers longest, one after the other, so they begin first.
FIRST = ("test_gpu_choice.py", "test_pytorch.py", "test_fused.py", "test_fused_network.py")
# Seconds after which a test's stacks are written down: what hangs would leave nothing else.
_HANGS_AFTER = 90
_MOST_WORKERS = 8


def find_tests(folder: Path) -> dict[Path, list[str]]:
    """Test files in which something needs a GPU, with the libraries that they import."""
    found = {}
    for path in sorted(folder.glob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(needs_gpu(node) for node in ast.walk(tree)):
            found[path] = sorted(find_imports(tree.body))
    return found


def needs_gpu(node: ast.AST) -> bool:
    """Whether a function asks for a GPU; a parameter of the test's own that is called so is none."""
    if not isinstance(node, ast.FunctionDef):
        return False
    own = {
        name.strip()
        for decorator in node.decorator_list
        for value in ast.walk(decorator)
        if isinstance(value, ast.Constant) and isinstance(value.value, str)
        for name in value.value.split(",")
    }
    return any(argument.arg in FIXTURES - own for argument in node.args.args)


def find_imports(body: Iterable[ast.stmt]) -> set[str]:
    """Top-level names that a module imports at once."""
    names: set[str] = set()
    for statement in body:
        if isinstance(statement, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom) and not statement.level and statement.module:
            names.add(statement.module.partition(".")[0])
    return names


def split_by_libraries(tests: dict[Path, list[str]], left_out: dict[str, str]) -> list[Path]:
    """Those whose libraries are installed; the others are named in ``left_out``."""
    found = []
    for path, names in tests.items():
        missing = [name for name in names if not (path.parent / f"{name}.py").is_file() and find_spec(name) is None]
        if missing:
            left_out[f"tests/{path.name}"] = f"not run: {', '.join(missing)} is not installed"
        else:
            found.append(path)
    return found


def run_tests(out: Path, seconds: float, left_out: dict[str, str]) -> str:
    """The last line of pytest's report, which stands in ``tests.txt``; those that fail are named in ``left_out``."""
    files = split_by_libraries(find_tests(ROOT / "tests"), left_out)
    files.sort(key=lambda path: FIRST.index(path.name) if path.name in FIRST else len(FIRST))
    # Most of their time goes to compiling kernels, one core each.
    workers = min(_MOST_WORKERS, len(files), len(os.sched_getaffinity(0)))
    spread = ["-n", str(workers), "--dist", "loadfile", "--no-loadscope-reorder"] if find_spec("xdist") else []
    command = [
        *(sys.executable, "-m", "pytest", "-v", "-r", "fEs", "--require-gpu", "--only-gpu"),
        *("-p", "no:cacheprovider", "-o", f"faulthandler_timeout={_HANGS_AFTER}"),
        *(*spread, *map(str, files)),
    ]
    report = out / "tests.txt"
    code = run_group(command, report, seconds)
    lines = report.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    left_out |= find_failures(lines)
    if code is None:
        return f"error: they took longer than {seconds:.0f} s"
    return lines[-1].strip("= ") if lines else f"error: exit code {code}"


def run_group(command: list[str], report: Path, seconds: float) -> int | None:
    """Run a program that writes into a file; its exit code, or None where it took too long.

    Processes that it started end with it: they would go on to use the GPU, beside what is measured next.
    """
    with report.open("wb") as stdout:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"PYTHONUNBUFFERED": "1", "COLUMNS": "250"},  # else reasons are cut short
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def find_failures(lines: Iterable[str]) -> dict[str, str]:
    """Tests that failed, by pytest's summary, or by its progress where it did not come to that; with the reason."""
    found: dict[str, str] = {}
    for line in lines:
        for word in ("FAILED", "ERROR"):
            _, told, rest = line.partition(f"{word} tests/")
            name, _, reason = rest.partition(" - ")
            if told and (reason or f"tests/{name}" not in found):
                found[f"tests/{name.strip()}"] = f"failed: {reason[:200]}" if reason else "failed"
    return found


def have_passed(said: str) -> bool:
    """Whether that last line is one of success."""
    return "passed" in said and "failed" not in said and "error" not in said
