"""The snippets of docs/guides, run as they stand there."""

import glob
import os
import re
import subprocess
import tempfile
import time

import drive
from board import FAILED, NETWORK, PASSED, ROOT

SUITE = "guides"
TARGET_DIR = os.path.join(ROOT, "target")
# A fence with, perhaps, the mark that says where it runs.
FENCE = re.compile(r"(?:<!-- run: (\w+) -->\n)?```(\w+)\n(.*?)\n```", re.DOTALL)
NOT_RUN = "not run by the checks"


def command(environment, path):
    """How a snippet is started, and what it needs besides."""
    venv = {"openai": "check-venv", "frameworks": "check-frameworks", "llamaindex": "check-llamaindex"}
    if environment in venv:
        return [os.path.join(TARGET_DIR, venv[environment], "bin/python"), "-B", path]
    return {"node": ["node", path], "shell": ["sh", "-eu", path]}[environment]


def guides(board, target):
    if target.name != NETWORK:
        return
    began = time.monotonic()
    for page in sorted(glob.glob(os.path.join(ROOT, "docs/guides/*.md"))):
        name = os.path.basename(page)
        with open(page, encoding="utf-8") as file:
            text = file.read()
        marked = [found for found in FENCE.findall(text) if found[0]]
        silent = len(FENCE.findall(text)) - len(marked)
        if silent and NOT_RUN not in text:
            board.put(SUITE, name, target.name, FAILED, f"a snippet is neither run nor said to be {NOT_RUN}")
        for number, (environment, language, code) in enumerate(marked, 1):
            case = f"{name}, snippet {number} ({language})"
            fault = attempt(environment, code, target)
            board.put(SUITE, case, target.name, FAILED if fault else PASSED, fault)
    board.tell(SUITE, target.name, began)


def attempt(environment, code, target):
    """Runs a snippet with this network's address in it; returns what is wrong."""
    code = code.replace("http://127.0.0.1:10000", target.base)
    suffix = {"node": ".mjs", "shell": ".sh"}.get(environment, ".py")
    # Node finds packages from where the script lies.
    place = os.path.join(TARGET_DIR, "check-node") if environment == "node" else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        path = os.path.join(folder, "snippet" + suffix)
        with open(path, "w", encoding="utf-8") as file:
            file.write(code + "\n")
        tools = os.path.join(TARGET_DIR, "check-frameworks/bin")
        more = {"PATH": f"{tools}:{os.environ['PATH']}", "HOME": folder, "LLM_USER_PATH": folder,
                "LITELLM_LOCAL_MODEL_COST_MAP": "True", "OPENAI_API_KEY": "none"}  # fmt: skip
        try:
            done = subprocess.run(
                command(environment, path), capture_output=True, text=True, check=False, timeout=120,
                cwd=folder, env={**os.environ, **more}, preexec_fn=drive.with_parent)  # fmt: skip
        except subprocess.TimeoutExpired:
            return "did not end within 120 s"
    if done.returncode or not done.stdout.strip():
        return f"exit code {done.returncode}: {done.stdout[-300:]}{done.stderr[-1200:]}"
    return ""
