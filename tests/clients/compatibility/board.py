"""Results of all suites against both targets, and the page made of them."""

import dataclasses
import json
import os
import re
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
CLIENTS = os.path.dirname(HERE)
ROOT = os.path.dirname(os.path.dirname(CLIENTS))
sys.path.insert(0, CLIENTS)

NETWORK, DIRECT = "network", "direct"
PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


@dataclasses.dataclass
class Target:
    """Where a suite asks."""

    name: str
    url: str  # with /v1
    model: str
    studio: object = None
    network: object = None
    thinker: str = ""  # the same side with a mock model that thinks

    @property
    def base(self):
        return self.url.removesuffix("/v1")


class Board:
    """What passed where. Rows keep the order in which they came."""

    def __init__(self):
        self.suites = {}
        self.reasons = {}

    def put(self, suite, case, target, outcome, why=""):
        rows = self.suites.setdefault(suite, {})
        rows.setdefault(case, {})[target] = outcome
        if outcome == SKIPPED:
            self.reasons[suite, case] = why
        # What the model server alone cannot do is counted; the page shows it.
        if outcome == FAILED and (target == NETWORK or "COCOON_VERBOSE" in os.environ):
            print(f"no   {suite}, {target}: {case}: {why}"[:3000], flush=True)

    def tell(self, suite, target, began):
        rows = self.suites.get(suite, {})
        count = lambda outcome: sum(row.get(target) == outcome for row in rows.values())  # noqa: E731
        print(f"{suite}, {target}: {count(PASSED)} passed, {count(FAILED)} failed, "
              f"{count(SKIPPED)} skipped ({time.monotonic() - began:.0f} s)", flush=True)  # fmt: skip

    def add(self, other):
        """Takes over the rows of another board, behind its own."""
        self.reasons.update(other.reasons)
        for suite, rows in other.suites.items():
            mine = self.suites.setdefault(suite, {})
            for case, row in rows.items():
                mine.setdefault(case, {}).update(row)

    def passed(self, suite, target):
        return {case for case, row in self.suites.get(suite, {}).items()
                if row.get(target) == PASSED}  # fmt: skip

    def failed(self, target):
        return [f"{suite}: {case}" for suite, rows in self.suites.items()
                for case, row in rows.items() if row.get(target) == FAILED]  # fmt: skip

    def judge(self):
        """What must not be: a failure that the model server does not share, or fewer passes."""
        faults = []
        for suite, rows in self.suites.items():
            for case, row in rows.items():
                ours, theirs = row.get(NETWORK), row.get(DIRECT)
                if ours == FAILED and theirs != FAILED:
                    faults.append(f"{suite}: {case}: fails through the network")
                if ours is None and theirs == PASSED:
                    faults.append(f"{suite}: {case}: was not run through the network")
        return faults


class Cases:
    """Functions of a suite, each a case that is run for itself."""

    def __init__(self, suite):
        self.suite = suite
        self.cases = []

    def case(self, title, only=None):
        def add(function):
            self.cases.append((title, function, only))
            return function

        return add

    def run(self, board, target, *given):
        began = time.monotonic()
        wanted = os.environ.get("COCOON_CASE", "")
        for title, function, only in self.cases:
            if wanted not in title or (only and target.name != only):
                continue
            try:
                function(target, *given)
            except Exception as fault:  # a case fails by any exception
                board.put(self.suite, title, target.name, FAILED, explain(fault))
            else:
                board.put(self.suite, title, target.name, PASSED)
        board.tell(self.suite, target.name, began)


def explain(fault):
    ours = [at for at in traceback.extract_tb(fault.__traceback__) if at.filename.startswith(HERE)]
    place = f" ({os.path.basename(ours[-1].filename)}:{ours[-1].lineno})" if ours else ""
    return f"{type(fault).__name__}: {str(fault)[:600]}{place}"


def read_lines(board, suite, target, output):
    """Results that a program of its own prints, a JSON object a line."""
    count = 0
    for line in output.splitlines():
        if line.startswith('{"case"'):
            result = json.loads(line)
            board.put(suite, result["case"], target.name, result["outcome"], result.get("why", ""))
            count += 1
    return count


def pinned(name):
    """The version of a package that the suites install."""
    for file in ("requirements.txt", "compatibility/requirements.txt"):
        with open(os.path.join(CLIENTS, file), encoding="utf-8") as lines:
            for line in lines:
                if found := re.match(rf"{re.escape(name)}==([^\s;]+)", line, re.IGNORECASE):
                    return found.group(1)
    with open(os.path.join(CLIENTS, "node/package.json"), encoding="utf-8") as file:
        return json.load(file)["dependencies"][name]
