"""The tests that need a GPU: which they are, and one run of pytest over them."""

import ast
import subprocess
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Those that skip without a GPU, and those of kernels, which are interpreted without one.
FIXTURES = frozenset(["gpu", "kernel_device"])


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
    """The last line of pytest's report, which stands in ``tests.txt`` with the reason of each skip."""
    files = split_by_libraries(find_tests(ROOT / "tests"), left_out)
    # Most of their time goes to compiling kernels, one core each.
    spread = ["-n", "8", "--dist", "loadfile"] if find_spec("xdist") else []
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "--require-gpu", "--only-gpu", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [*command, *spread, *map(str, files)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as error:
        (out / "tests.txt").write_bytes(error.stdout or b"")
        return f"error: they took longer than {seconds:.0f} s"
    (out / "tests.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else f"error: exit code {done.returncode}"


def have_passed(said: str) -> bool:
    """Whether that last line is one of success."""
    return "passed" in said and "failed" not in said and "error" not in said
