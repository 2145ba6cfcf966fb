"""The page `docs/compatibility.md`, made of the results.

It says what holds on every machine: versions as pinned, no dates, no times. What a 135-million
model does of its own will is counted, not listed.
"""

import difflib
import json
import os

from board import DIRECT, FAILED, NETWORK, PASSED, ROOT, SKIPPED, pinned

PAGE = os.path.join(ROOT, "docs/compatibility.md")
MARKS = {PASSED: "yes", FAILED: "no", SKIPPED: "not applicable", None: "no such thing"}
SUITES = {
    "openai (Python)": ("openai",),
    "openai (Node)": ("openai",),
    "Vercel AI SDK (Node)": ("ai", "@ai-sdk/openai-compatible"),
    "frameworks (Python)": ("litellm", "instructor", "pydantic-ai-slim", "openai-agents", "anthropic"),
    "llm-comply, chat": ("llm-comply",),
    "llm-comply, responses": ("llm-comply",),
    "llm-comply, messages": ("llm-comply",),
    "langchain-tests": ("langchain-tests", "langchain-openai"),
    "guides": (),
    "cocoon-client (Rust)": (),
    "schemathesis": ("schemathesis",),
}  # fmt: skip
OURS = {
    "guides": "The snippets of [docs/guides](guides/README.md).\n",
    "cocoon-client (Rust)": "The crate for programs: its examples, `node/client/examples`.\n",
}
HEAD = """# Compatibility

What clients do through the network, and with the model server directly: what differs is ours.
`tests/suites/compatibility.sh` runs all of it with the embedded engine and the default model, and
fails when this page is not what it found; `sh tests/suites/compatibility.sh --write` writes it.
`./check` runs the same, but for LangChain's standard tests.

Between both sides and the engine stands a small server that answers for pictures and sound, and that
ends an answer to which no limit was set after its first sentence, since the model rambles. No case is
tried twice.

Where the server alone says "no" and the network "yes", the gateway adds it: the forms of
`/v1/responses` and `/v1/messages`, batches, idempotency, the network's own wishes.
"""


def versions(suite):
    found = []
    for name in SUITES[suite]:
        if "Node" in suite:
            path = os.path.join(ROOT, "tests/clients/node/package.json")
            with open(path, encoding="utf-8") as file:
                found.append(f"`{name}` {json.load(file)['dependencies'][name]}")
        else:
            found.append(f"`{name}` {pinned(name)}")
    return ", ".join(found)


def counted(rows):
    """One line for tests that depend on what the model says."""
    applicable = [row for row in rows.values() if row.get(NETWORK) != SKIPPED]
    fewer = [row for row in applicable if row.get(DIRECT) == PASSED != row.get(NETWORK)]
    return (f"{len(applicable)} tests apply. Through the network pass all that pass with the model "
            f"server directly{'' if not fewer else f', but for {len(fewer)}'}; how many that are "
            "depends on the model.\n")  # fmt: skip


def section(board, suite):
    rows = board.suites[suite]
    text = [f"## {suite}\n\n"]
    text.append(f"{versions(suite)}\n" if SUITES[suite] else OURS[suite])
    if suite == "langchain-tests":
        text.append("\n" + counted(rows))
        return "".join(text)
    text.append("\n| case | through the network | model server directly |\n|---|---|---|\n")
    for case, row in rows.items():
        # Why a program does not run a test of its own stands in its words.
        why = f" – {board.reasons[suite, case]}" if board.reasons.get((suite, case)) else ""
        text.append(f"| {case}{why} | {MARKS[row.get(NETWORK)]} | {MARKS[row.get(DIRECT)]} |\n")
    return "".join(text)


def sections(text):
    """The sections of a page by their titles."""
    parts = ("\n" + text).split("\n## ")[1:]
    return {part.split("\n")[0]: "## " + part.strip() + "\n" for part in parts}


def render(board, old):
    """The page with new sections for the suites that were run, in a fixed order."""
    kept = sections(old)
    for suite in board.suites:
        kept[suite] = section(board, suite)
    return "\n".join([HEAD, *(kept[suite] for suite in SUITES if suite in kept)])


def settle(board, write):
    """Writes the page, or tells how it differs from what was found."""
    old = ""
    if os.path.exists(PAGE):
        with open(PAGE, encoding="utf-8") as file:
            old = file.read()
    fresh = render(board, old)
    if write:
        with open(PAGE, "w", encoding="utf-8") as file:
            file.write(fresh)
        return []
    if old == fresh:
        return []
    lines = difflib.unified_diff(
        old.splitlines(), fresh.splitlines(), "written", "found", n=0, lineterm="")  # fmt: skip
    told = "\n".join(list(lines)[:40])
    return [f"docs/compatibility.md is not what was found: sh tests/suites/compatibility.sh --write\n{told}"]
