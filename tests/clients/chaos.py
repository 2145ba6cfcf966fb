"""Real nodes under misfortunes drawn from a seed; at the end of every round all books agree.

A round is a few seconds of users with misfortunes, then a pause in which everything mends. What is
checked then stands in docs/chaos.md.
"""

import argparse
import http.client
import json
import os
import random
import shutil
import sys
import tempfile
import threading
import time

import drive
import ending
import fleet
import misfortune
from drive import Failed, check, until

# What the mock claims for each whole answer.
TOKENS = 60
# NanoTON for a token: minutes of it are some TON.
PRICE = 20_000
USERS = 8
# A chain keeps every block that it made: half an hour of it is 90 MB.
KEPT_MB = {"chain": 1_000}
ROUND_S = 8.0
PATIENCE_S = 12


class Tally:
    """How the requests of a round ended, by the users' own account."""

    NAMES = ("delivered", "refused", "failed", "late", "hung_up", "unreached")

    def __init__(self):
        self.lock = threading.Lock()
        self.counts = dict.fromkeys(self.NAMES, 0)
        self.wrong = []
        self.reasons = {}

    def add(self, name, reason=None):
        with self.lock:
            self.counts[name] += 1
            if reason:
                self.reasons[reason] = self.reasons.get(reason, 0) + 1

    def tell(self):
        """Says why requests ended otherwise, the commonest first."""
        commonest = sorted(self.reasons.items(), key=lambda item: -item[1])[:3]
        for reason, count in commonest:
            print(f"   {count} x {reason}", flush=True)

    def is_wrong(self, what):
        with self.lock:
            self.wrong.append(what)

    def __getattr__(self, name):
        return self.__dict__["counts"][name]


class Users:
    """Users who ask until they are told to stop."""

    def __init__(self, net, seed, number):
        self.net, self.tally = net, Tally()
        self.stop = threading.Event()
        self.threads = [
            threading.Thread(target=self._live, args=(random.Random(f"{seed}/{number}/{at}"),))
            for at in range(USERS)
        ]

    def start(self):
        for thread in self.threads:
            thread.daemon = True
            thread.start()

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join(60)
            check(not thread.is_alive(), "a request of a user does not end")

    def _live(self, chance):
        while not self.stop.is_set():
            kind = chance.choices(("whole", "stream", "hang_up", "die", "error"), (6, 6, 2, 1, 1))[0]
            gap_ms = chance.choice((0, 0, 10, 40))
            try:
                ending = self._ask(kind, gap_ms, chance)
            except ConnectionRefusedError:
                ending = ("unreached", "refused connection")
            except (OSError, http.client.HTTPException, ValueError) as fault:
                ending = ("failed", type(fault).__name__)
            self.tally.add(*ending)
            self.stop.wait(chance.uniform(0.005, 0.05))

    def _ask(self, kind, gap_ms, chance):
        body = self.net.ask(timeout=6, max_tokens=1_000)
        if kind in ("die", "error"):
            body["mock_fault"] = kind
        if kind in ("stream", "hang_up", "die"):
            body.update(stream=True, mock_gap_ms=gap_ms)
        with self.net.connect(PATIENCE_S) as link:
            response = link.begin(body)
            if response.status != 200:
                return self._refusal(response, kind)
            if kind == "hang_up":
                stream = drive.events(response)
                for _ in range(chance.randint(1, 20)):
                    next(stream, None)
                return ("hung_up",)
            if kind == "stream":
                return self._stream(response)
            text = response.read()
            if kind == "die":
                return ("refused",)
            return self._whole(response, json.loads(text))

    def _refusal(self, response, kind):
        error = json.loads(response.read())["error"]
        code = error.get("code") or error.get("type")
        if response.status == 504:
            return ("late", f"504 {code}")
        if kind == "error" and response.status in (500, 502):
            return ("refused",)
        never_began = response.status in (402, 429, 503)
        return ("refused" if never_began else "failed", f"{response.status} {code}")

    def _stream(self, response):
        data = [line for _, line in drive.events(response)]
        errors = [line for line in data if '"error"' in line]
        if errors:
            late = "timeout" in errors[-1] or "time" in errors[-1]
            return ("late" if late else "failed", errors[-1][:120])
        if data[-1:] != ["[DONE]"]:
            return ("failed", "a stream without an end")
        if len(data) != 51:
            self.tally.is_wrong(f"a stream of {len(data)} events claims to be whole")
        return ("delivered",)

    def _whole(self, response, answer):
        charged = response.headers["x-cocoon-tokens-charged"]
        if answer["usage"]["total_tokens"] != TOKENS or charged != str(TOKENS):
            self.tally.is_wrong(f"a whole answer is charged {charged}: {answer}")
        return ("delivered",)

    def slow_reader(self, lasts_s):
        """Opens a stream, reads nothing for a while, and goes."""
        try:
            with self.net.connect(PATIENCE_S) as link:
                link.begin(self.net.ask(stream=True))
                time.sleep(lasts_s)
        except OSError:
            pass
        self.tally.add("hung_up")


class Ledger:
    """What must hold of all books, over the rounds."""

    def __init__(self, net):
        self.net = net
        self.before = net.books()
        self.mock_before = net.mock.counts()
        # By how much the own counts of client and workers may have come off, tokens.
        self.client_slack = 0
        self.worker_slack = 0

    def settle(self, tally, misfortunes):
        """Waits until the books agree and checks what this round added; returns a note."""
        uncertain = tally.hung_up + tally.late
        if misfortune.disturbs_delivery(misfortunes):
            uncertain += tally.failed
        hard = ("kill", "freeze", "cut", "lossy", "files", "disk", *misfortune.LINK_KINDS)
        places = {each.place for each in misfortunes if each.kind in hard} - {"chain"}
        if "gateway" in places or any(place and place.startswith("proxy") for place in places):
            self.client_slack += TOKENS * (uncertain + tally.failed + USERS)
        if places:
            self.worker_slack += TOKENS * (uncertain + tally.failed + tally.delivered)
        books = self._agreed()
        spent = books["proxy"] - self.before["proxy"]
        counts = self.net.mock.counts()
        made = counts["completed"] - self.mock_before["completed"]
        begun = counts["requests"] - self.mock_before["requests"]
        judge(spent, made, begun, tally.counts, uncertain, bool(misfortunes))
        check(not tally.wrong, *tally.wrong[:3])
        self.before, self.mock_before = books, counts
        least, most = TOKENS * tally.delivered, TOKENS * (tally.delivered + uncertain)
        return f"{spent} tokens, {least}..{most}"

    def _agreed(self):
        last = {}

        def agree():
            if self.net.mock.counts()["running"]:
                return False
            last.clear()
            last.update(self.net.books())
            sums = {last[name] for name in ("proxy", "earned", "told")}
            client = abs(last["client"] - last["proxy"]) <= self.client_slack
            workers = abs(last["workers"] - last["proxy"]) <= self.worker_slack
            return last["reserved"] == 0 and len(sums) == 1 and client and workers and dict(last)

        try:
            return until(agree, "the books agree", patience_s=40, every_s=0.2)[0]
        except Failed as fault:
            slack = f"slack: client {self.client_slack}, workers {self.worker_slack}"
            raise Failed(f"{fault}: {last}; {slack}") from None


def judge(spent, made, begun, ended, uncertain, disturbed):
    """What may have been charged: `spent` tokens for `made` answers of `begun` requests."""
    delivered = ended["delivered"]
    least, most = TOKENS * delivered, TOKENS * (delivered + uncertain)
    check(least <= spent <= most, f"{spent} tokens were charged, {least} to {most} are right: {ended}")
    check(made >= delivered, f"{delivered} answers delivered, {made} made")
    check(spent <= TOKENS * begun, f"{spent} tokens charged for {begun} requests at the model")
    if not disturbed:
        # Of those who hung up some did so when the answer was whole.
        surplus = made - delivered
        check(surplus <= ended["hung_up"] + ended["late"], f"{made} made, {delivered} delivered")


def judge_can_fail():
    """Plants what must not happen, and sees that it is found."""
    ended = {**dict.fromkeys(Tally.NAMES, 0), "delivered": 10, "hung_up": 2}
    right = {"spent": 620, "made": 11, "begun": 14, "ended": ended, "uncertain": 2, "disturbed": False}
    judge(**right)
    for what, planted in {
        "an answer that was not charged": {"spent": 599},
        "an answer that was charged twice": {"spent": 721},
        "a failed answer that was charged": {"spent": 660, "uncertain": 0},
        "an answer that nobody made": {"made": 9},
        "tokens that nobody made": {"begun": 10},
        "answers that got lost on a calm way": {"made": 13},
    }.items():
        try:
            judge(**{**right, **planted})
        except Failed:
            continue
        raise Failed(f"{what} is not found")


class Story:
    """What a long run was: counted by rounds, and written down as a page."""

    def __init__(self, options):
        self.options, self.began = options, time.monotonic()
        self.totals = dict.fromkeys(Tally.NAMES, 0)
        self.struck, self.reasons, self.most_mb = {}, {}, {}
        self.rounds = 0

    def add(self, tally, misfortunes):
        self.rounds += 1
        for name in self.totals:
            self.totals[name] += tally.counts[name]
        for each in misfortunes:
            self.struck[each.kind] = self.struck.get(each.kind, 0) + 1
        for reason, count in tally.reasons.items():
            self.reasons[reason] = self.reasons.get(reason, 0) + count

    def sees(self, levels):
        """Memory between the rounds, MB: a level that only the end would show may be chance."""
        for name, (_, memory) in levels.items():
            self.most_mb[name] = max(memory, self.most_mb.get(name, 0))

    def lines(self, net, books, levels, sheet):
        minutes = (time.monotonic() - self.began) / 60
        kills = sum(node.kills for node in net.nodes)
        begin, end = levels
        counted = ", ".join(f"{kind} {count}" for kind, count in sorted(self.struck.items()))
        return [
            *(f"sheet: {line}" for line in sheet),
            f"chaos: {self.rounds} rounds in {minutes:.1f} minutes, seed {self.options.seed}, {kills} kills",
            f"chaos: {counted}",
            "chaos: " + ", ".join(f"{name} {count}" for name, count in self.totals.items()),
            f"chaos: books {books}",
            "chaos: through the relay " + ", ".join(
                f"{name} {count}" for name, count in net.relay.orders("count").items()),
            "chaos: most MB " + ", ".join(
                f"{name} {memory:.0f}" for name, memory in sorted(self.most_mb.items())),
            "chaos: descriptors and MB, after the first round and at the end: " + ", ".join(
                f"{name} {begin[name][0]} {begin[name][1]:.0f} > {files} {memory:.0f}"
                for name, (files, memory) in sorted(end.items())),
        ]  # fmt: skip

    def write(self, lines):
        """The report of a long run."""
        path = self.options.report
        if not path:
            return
        with open(path, "w", encoding="utf-8") as page:
            page.write(f"# Chaos, seed {self.options.seed}, {self.options.minutes:g} minutes\n\n")
            page.write("".join(f"    {line}\n" for line in lines))
            page.write("\nWhy requests ended otherwise, as users were told:\n\n")
            for reason, count in sorted(self.reasons.items(), key=lambda item: -item[1]):
                page.write(f"    {count:6} {reason}\n")


def play_round(net, ledger, seed, number, story):
    names = [node.name for node in net.nodes]
    misfortunes = misfortune.plan(seed, number, names, ROUND_S)
    users = Users(net, seed, number)
    player = misfortune.Player(net, misfortunes, users.slow_reader)
    title = "; ".join(map(str, misfortunes)) or "calm"
    print(f"round {number}: {title}", flush=True)
    users.start()
    player.start()
    time.sleep(ROUND_S)
    player.join()
    users.end()
    # On a full disk a node cannot start, and says so; it has room again now.
    excused = {each.place for each in misfortunes if each.kind == "disk"}
    fallen = [name for name in net.fallen() if name not in excused]
    check(not fallen, "ended by themselves:", *fallen)
    check(not player.faults, *player.faults)
    net.ready()
    wake(net)
    note = ledger.settle(users.tally, misfortunes)
    users.tally.tell()
    counts = " ".join(f"{name} {count}" for name, count in users.tally.counts.items() if count)
    print(f"   ok: {counts}; {note}", flush=True)
    story.add(users.tally, misfortunes)


def wake(net):
    """Has news of the books told: one answer through each connection would do, models do too."""
    until(lambda: served(net), "an answer after the round", patience_s=30, every_s=0.2)


def served(net):
    with net.connect() as link:
        return link.request(None, "/v1/models").status == 200


def levels(net):
    return {node.name: (node.files(), node.memory_mb()) for node in net.nodes}


def level_returns(net, begin):
    """Descriptors and memory come back to where they were."""
    def back():
        now = levels(net)
        high = {
            name: (files, memory)
            for name, (files, memory) in now.items()
            if files > begin[name][0] + 6 or memory > begin[name][1] + 24 + KEPT_MB.get(name, 0)
        }
        return not high and now

    try:
        return until(back, "files and memory return", patience_s=30, every_s=0.5)[0]
    except Failed as fault:
        raise Failed(f"{fault}: {levels(net)}, at the start {begin}") from None


def play(options, directory):
    story = Story(options)
    price = PRICE if options.ground == "chain" else None
    with fleet.Fleet(directory, clocks=True, price=price, seed=f"{options.seed}") as net:
        try:
            net.start()
            ledger = Ledger(net)
            began, number, begin = time.monotonic(), options.first, None
            while time.monotonic() - began < options.minutes * 60 and number < options.last:
                play_round(net, ledger, options.seed, number, story)
                now = levels(net)
                story.sees(now)
                if number % 20 == 0:
                    print("   MB: " + ", ".join(f"{name} {memory:.0f}"
                                                for name, (_, memory) in sorted(now.items())), flush=True)
                begin = begin or now
                number += 1
            end = level_returns(net, begin)
            books = net.books()
            sheet = ending.finish(net, books["proxy"]) if net.chain else []
        except BaseException:
            print(net.last_words(), file=sys.stderr, flush=True)
            raise
        lines = story.lines(net, books, (begin, end), sheet)
        print("\n".join(lines), flush=True)
        story.write(lines)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--ground", choices=("chain", "file"), default="chain",
                        help="what the money stands on")  # fmt: skip
    parser.add_argument("--report", metavar="FILE", help="write what came of it down, as Markdown")
    parser.add_argument("--first", type=int, default=0, help="first round to play")
    parser.add_argument("--last", type=int, default=1 << 60, help="round not to play any more")
    return parser.parse_args()


def main():
    options = arguments()
    fleet.enter_namespaces()
    for what in misfortune.missing():
        print(f"chaos: {what}", flush=True)
    directory = tempfile.mkdtemp(prefix="cocoon-chaos-")
    try:
        judge_can_fail()
        play(options, directory)
    except Failed as fault:
        print(f"FAIL chaos: {fault}")
        kept = os.environ.get("COCOON_CHAOS_KEEP")
        if kept:
            shutil.copytree(directory, kept, dirs_exist_ok=True, ignore_dangling_symlinks=True)
        print(f"chaos: again with --seed {options.seed}; logs are kept with COCOON_CHAOS_KEEP=DIR")
        print("chaos: 0 passed, 1 failed")
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print("chaos: 1 passed, 0 failed")
    return 0


if __name__ == "__main__":
    # The seed is chosen once, not again inside of the namespaces.
    if "--seed" not in " ".join(sys.argv):
        sys.argv += ["--seed", str(random.SystemRandom().randrange(1 << 32))]
    sys.exit(main())
