"""A program: checks uses of TensorRT, JSON on its standard input, against an installed library whose module it is told.

Prints what differs as JSON. The runtimes crash as an ordinary process exits, so this one leaves without ceremony.
"""

import importlib
import json
import os
import re
import sys


def signatures(callable_object, name):
    """(fewest, most positional arguments without self, names) of each overload, as pybind11's docstring has them."""
    found = []
    for line in (callable_object.__doc__ or "").splitlines():
        match = re.match(rf"(?:\d+\. )?{re.escape(name)}\((.*)\)(?: -> .*)?$", line.strip())
        if match is None or match[1].startswith("*args"):
            continue
        parts = [part for part in split(match[1]) if part and not part.startswith("self")]
        required = [part for part in parts if "=" not in part]
        found.append((len(required), len(parts), [part.partition(":")[0].strip() for part in parts]))
    return found


def split(text):
    """Arguments, at commas outside of brackets."""
    parts, depth, current = [], 0, ""
    for letter in text:
        depth += (letter in "[(<{") - (letter in "])>}")
        if letter == "," and depth == 0:
            parts.append(current.strip())
            current = ""
        else:
            current += letter
    return [*parts, current.strip()]


def complain(module, use):
    """Why a use does not fit the library; None where it does."""
    where = f"{use['file']}: {use['owner']}.{use['name']}"
    owner = module if use["owner"] == "module" else getattr(module, use["owner"], None)
    if owner is None:
        return f"{where}: there is no class {use['owner']}"
    found = getattr(owner, use["name"], None)
    if found is None:
        return f"{where}: there is none"
    if use["written"] and not (isinstance(found, property) and found.fset is not None):
        return f"{where}: cannot be set"
    if use["arguments"] is None:
        return None
    called = found.__init__ if isinstance(found, type) else found
    name = "__init__" if isinstance(found, type) else use["name"]
    fitting = signatures(called, name)
    count = use["arguments"] + len(use["keywords"])
    if use["arguments"] < 0:
        return None if fitting else f"{where}: cannot be called"
    if any(low <= count <= high and set(use["keywords"]) <= set(names) for low, high, names in fitting):
        return None
    return f"{where}: called with {count} arguments, takes {fitting}"


def complain_of_override(module, owner, name, count):
    """Why a method that we override is not the library's; None where it is."""
    method = getattr(getattr(module, owner, None), name, None)
    if method is None:
        return f"{owner}.{name}: nothing to override"
    if not any(high + 1 == count for _, high, _ in signatures(method, name)):
        return f"{owner}.{name}: ours takes {count} arguments with self, the library's {signatures(method, name)}"
    return None


def main():
    asked = json.load(sys.stdin)
    module = importlib.import_module(asked["module"])
    problems = [complain(module, use) for use in asked["uses"]]
    problems += [complain_of_override(module, *override) for override in asked["overridden"]]
    print(json.dumps({"version": module.__version__, "problems": [problem for problem in problems if problem]}))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
