"""Open WebUI itself, started as its guide says, asked through its own HTTP API as its page asks."""

import json
import os
import subprocess
import urllib.error
import urllib.request

import drive
from board import ROOT

PROGRAMS = os.path.join(ROOT, "target/check-open-webui/bin")
PATIENCE_S = 240  # it makes its database first
# Signing in is switched off: this is the one user there is then.
USER = {"email": "admin@localhost", "password": "admin"}


def settings(folder):
    """What keeps it to itself: its data in the folder, no user to sign in, nothing fetched."""
    return {"DATA_DIR": folder, "WEBUI_SECRET_KEY": "of this run", "WEBUI_AUTH": "False",
            "OFFLINE_MODE": "True", "HF_HUB_OFFLINE": "1", "RAG_EMBEDDING_ENGINE": "openai",
            "ENABLE_VERSION_UPDATE_CHECK": "False", "ANONYMIZED_TELEMETRY": "False"}  # fmt: skip


class Desk:
    """A user of it."""

    def __init__(self, base):
        self.base = base
        self.token = ""

    def ask(self, path, body=None):
        headers = {"content-type": "application/json", "authorization": f"Bearer {self.token}"}
        data = None if body is None else json.dumps(body).encode()
        sent = urllib.request.Request(self.base + path, data, headers=headers)
        with urllib.request.urlopen(sent, timeout=drive.PATIENCE_S) as answer:
            return answer.read().decode()

    def sign_in(self):
        self.token = json.loads(self.ask("/api/v1/auths/signin", USER))["token"]


def chat(desk, model):
    """The model is listed; it answers whole and streamed, the same both times."""
    listed = [entry["id"] for entry in json.loads(desk.ask("/api/models"))["data"]]
    drive.check(model in listed, f"{model} is not among {listed}")
    ask = {"model": model, "max_tokens": 24, "seed": 1,
           "messages": [{"role": "user", "content": "What is attestation?"}]}  # fmt: skip
    whole = json.loads(desk.ask("/api/chat/completions", ask))["choices"][0]["message"]["content"]
    streamed = ""
    for line in desk.ask("/api/chat/completions", {**ask, "stream": True}).splitlines():
        if line.startswith("data: {"):
            choices = json.loads(line[6:])["choices"]
            streamed += "".join(one["delta"].get("content") or "" for one in choices)
    drive.check(whole, "an empty answer")
    drive.equal(streamed, whole, "streamed and whole")


def attempt(code, target, folder):
    """Starts the snippet and talks to what it starts; returns what is wrong."""
    [port] = drive.free_ports(1)
    drive.check("--port 8080" in code, "the snippet names no port")
    code = code.replace("--port 8080", f"--port {port}")
    log = os.path.join(folder, "open-webui.log")
    env = {**os.environ, "PATH": f"{PROGRAMS}:{os.environ['PATH']}", "HOME": folder, **settings(folder)}
    with open(log, "wb") as output:
        child = subprocess.Popen(
            ["sh", "-euc", f"exec env {code}"], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            cwd=folder, env=env, preexec_fn=drive.with_parent)  # fmt: skip
    desk = Desk(f"http://127.0.0.1:{port}")

    def is_up():
        drive.check(child.poll() is None, f"it ended with {child.poll()}")
        try:
            return json.loads(desk.ask("/health"))["status"]
        except (urllib.error.URLError, OSError):
            return False

    try:
        drive.until(is_up, "Open WebUI", patience_s=PATIENCE_S, every_s=0.2)
        desk.sign_in()
        chat(desk, target.model)
    except (drive.Failed, urllib.error.URLError, OSError, ValueError, KeyError) as fault:
        with open(log, encoding="utf-8", errors="replace") as output:
            return f"{type(fault).__name__}: {fault}: {output.read()[-1200:]}"
    finally:
        child.kill()
        child.wait()
    return ""
