"""The snippets of docs/guides, run as they stand there."""

import glob
import json
import os
import re
import subprocess
import tempfile
import time
import urllib.request

import drive
import open_webui
from board import FAILED, NETWORK, PASSED, ROOT

SUITE = "guides"
TARGET_DIR = os.path.join(ROOT, "target")
# A fence with, perhaps, the mark that says where it runs.
FENCE = re.compile(r"(?:<!-- run: (\w+) -->\n)?```(\w+)\n(.*?)\n```", re.DOTALL)
NOT_RUN = "not run by the checks"
PATIENCE_S = 300  # the first Go program compiles the library


def command(environment, path):
    """How a snippet is started, and what it needs besides."""
    venv = {"openai": "check-venv", "frameworks": "check-frameworks", "llamaindex": "check-llamaindex"}
    if environment in venv:
        return [os.path.join(TARGET_DIR, venv[environment], "bin/python"), "-B", path]
    cn = os.path.join(TARGET_DIR, "check-node/node_modules/.bin/cn")
    return {"node": ["node", path], "shell": ["sh", "-eu", path],
            "go": [os.path.join(TARGET_DIR, "check-go/bin/go"), "run", path],
            # The program's own command line, asked once with the snippet as its settings.
            "continue": [cn, "-p", "--config", path, "Say hello."]}[environment]  # fmt: skip


def request(code):
    """Sends a request that stands in a page as the settings of a program; returns what is wrong."""
    told = json.loads(code)
    sent = urllib.request.Request(
        told["url"], json.dumps(told["body"]).encode(), method=told["method"],
        headers={"content-type": "application/json", **told["headers"]})  # fmt: skip
    with urllib.request.urlopen(sent, timeout=60) as answer:
        found = json.load(answer)["choices"][0]["message"]["content"]
    return "" if found else "an empty answer"


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
    if environment == "request":
        return request(code)
    suffixes = {"node": ".mjs", "shell": ".sh", "go": ".go", "continue": ".yaml"}
    suffix = suffixes.get(environment, ".py")
    # Node finds packages from where the script lies.
    place = os.path.join(TARGET_DIR, "check-node") if environment == "node" else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        path = os.path.join(folder, "snippet" + suffix)
        with open(path, "w", encoding="utf-8") as file:
            file.write(code + "\n")
        if environment == "open_webui":
            return open_webui.attempt(code, target, folder)
        tools = os.path.join(TARGET_DIR, "check-frameworks/bin")
        more = {"PATH": f"{tools}:{os.environ['PATH']}", "HOME": folder, "LLM_USER_PATH": folder,
                "GOCACHE": os.path.join(TARGET_DIR, "check-go/cache"), "GOPATH": folder,
                "GOTOOLCHAIN": "local", "GO111MODULE": "off", "CONTINUE_TELEMETRY_ENABLED": "0",
                "LITELLM_LOCAL_MODEL_COST_MAP": "True", "OPENAI_API_KEY": "none"}  # fmt: skip
        try:
            done = subprocess.run(
                command(environment, path), capture_output=True, text=True, check=False, timeout=PATIENCE_S,
                cwd=folder, env={**os.environ, **more}, preexec_fn=drive.with_parent)  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"did not end within {PATIENCE_S} s"
    if done.returncode or not done.stdout.strip():
        return f"exit code {done.returncode}: {done.stdout[-300:]}{done.stderr[-1200:]}"
    return ""
