"""Ten times as many users as there is room for: the room is used, the rest is told at once.

Times depend on the machine, so what is asserted here is coarse; `--table` measures and prints a
Markdown table for bench/README.md.
"""

import json
import os
import statistics
import subprocess
import sys

import drive
from drive import check, equal, until

suite = drive.Suite("overload")
# Slots of the only worker, and how long an answer takes: 50 events, 20 ms apart.
SLOTS = 16
PACE_MS = 20
TIMES = 10
SECONDS = 6
# An odd number: the machine may stand still in one round, and the middle one is judged.
ROUNDS = 3
# Places in the line: half as many as slots.
LINE = SLOTS // 2


def load(net, connections, seconds=SECONDS, warm_up=1.5):
    """The report of a load; who is refused comes back after a second, as Retry-After says."""
    arguments = [drive.BENCH, "load", "--url", f"http://{net.host}:{net.port}", "--format", "json",
                 "--connections", str(connections), "--seconds", str(seconds), "--pace-ms", str(PACE_MS),
                 "--refusal-pause-ms", "1000", "--warm-up", str(warm_up), "--model", net.model]  # fmt: skip
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=120)
    check(done.returncode == 0, done.stderr)
    return json.loads(done.stdout)


def pressed(net):
    """Reports of as many users as there is room for and of ten times as many, and how long it took
    until there was room again, seconds."""
    full = load(net, SLOTS)
    # The line was empty when they came: who got into it waited for the first answers to end.
    over = load(net, SLOTS * TIMES, warm_up=3.0)
    _, recovered_s = until(lambda: net.request(net.ask()).status == 200, "room again", 20)
    return full, over, recovered_s


def measure(net):
    """Reports of one user, of as many as there is room for, of ten times as many, and after."""
    alone = load(net, 1)
    full, over, recovered_s = pressed(net)
    after = load(net, SLOTS)
    reports = {"one user": alone, "as many as slots": full, f"{TIMES} times as many": over,
               "as many as slots again": after}  # fmt: skip
    return reports, recovered_s


@suite.case("ten times the capacity: capacity is served, the rest is refused with Retry-After")
def overload(net, _):
    rounds = [pressed(net) for _ in range(ROUNDS)]
    after = load(net, SLOTS)

    def middle(number):
        """Of what is counted in each round."""
        return statistics.median(number(full, over) for full, over, _ in rounds)

    served = middle(lambda full, over: over["requests_per_s"] / full["requests_per_s"])
    check(served > 0.7, f"served: {served:.2f} of what is served without overload")
    for _, over, _ in rounds:
        equal(over["errors"], {}, "broken answers")
        equal(list(over["statuses"]), ["429"], "refusals")
        check(over["statuses"]["429"] > 3 * over["requests"], over["statuses"], over["requests"])
    slower = middle(lambda full, over: over["latency"]["p99"] / full["latency"]["p99"])
    check(slower < 2, f"p99: {slower:.2f} times as long", *[over["latency"] for _, over, _ in rounds])
    check(middle(lambda _, over: over["refusal"]["p50"]) < 500, *[over["refusal"] for _, over, _ in rounds])
    check(after["requests"] > 0 and not after["errors"], after)
    calm_ms = middle(lambda full, _: full["latency"]["p50"])
    check(after["latency"]["p50"] < 2 * calm_ms, after["latency"], calm_ms)
    recovered_s = max(took for _, _, took in rounds)
    check(recovered_s < 10, f"room again after {recovered_s:.2f} s")
    return (f"served {served:.2f} of what is served without overload, p99 {slower:.2f} times as long; "
            f"room again after {recovered_s:.2f} s")  # fmt: skip


@suite.case("a refusal names the reason and when to come back")
def refusal(net, mock):
    # What ran before may still be on its way out of the slots: whoever moves up leaves a gap in the line.
    until(lambda: not any(queue(net).values()), "nothing runs or waits")
    with drive.contextlib.ExitStack() as held:
        refused = None
        for _ in range(SLOTS * 2):
            link = held.enter_context(drive.Connection(net.host, net.port))
            link.inner.request("POST", "/v1/chat/completions",
                               json.dumps(net.ask(stream=True, mock_gap_ms=200)),
                               {"content-type": "application/json"})  # fmt: skip
        until(lambda: mock.counts()["running"] == SLOTS, "every slot is taken")
        until(lambda: queue(net)["waiting"] == LINE, "the line is full")
        refused = net.request(net.ask())
        equal(refused.status, 429, refused.body)
        equal(refused.headers["retry-after"], "1", "Retry-After")
        # Who is let into the line waits for up to 30 s.
        check(refused.took_s < 10, f"after {refused.took_s:.2f} s")
        refused.error()
    until(lambda: net.request(net.ask()).status == 200, "room again", patience_s=20)


def queue(net):
    """How many requests run and wait, by the proxy."""
    return drive.get_json(net.ready["proxy_status"])["queue"]


def table(net):
    rows = ["| users | answers/s | p50 / p99 ms | refused/s | refusal p50 / p99 ms | broken |",
            "|---|---|---|---|---|---|"]  # fmt: skip
    reports, recovered_s = measure(net)
    for name, report in reports.items():
        latency, gone = report["latency"], report["refusal"]
        refused = sum(report["statuses"].values()) / report["seconds"]
        rows.append(
            f"| {name} ({report['connections']}) | {report['requests_per_s']:.1f} "
            f"| {latency['p50']:.0f} / {latency['p99']:.0f} | {refused:.0f} "
            f"| {gone['p50']:.1f} / {gone['p99']:.1f} | {sum(report['errors'].values())} |"
        )
    print("\n".join(rows))
    print(f"\nRoom again {recovered_s:.2f} s after the last of the ten times as many had gone.")
    return 0


def body(suite):
    # Layers of configuration: the environment is above the file that `cocoon up` writes.
    os.environ["COCOON_WORKER_MAX_ACTIVE_REQUESTS"] = str(SLOTS)
    with drive.scratch() as directory, drive.Mock(directory) as mock:
        with drive.Network(directory, "--engine", mock.url, "--workers", "1") as net:
            return table(net) if "--table" in sys.argv else suite.run(net, mock)


if __name__ == "__main__":
    drive.main(suite, body)
