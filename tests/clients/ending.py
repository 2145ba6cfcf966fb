"""The end of a fleet on a chain: everybody is paid and leaves, then books, contracts and wallets are
compared to the nanoTON.

What is right follows from two numbers that no contract knows: the tokens in the proxies' books, and
the price. The chain's transactions say what was moved, and what it cost.
"""

import json
import urllib.parse
import urllib.request

import cells
import founding
from drive import Failed, check, equal, until

# Longest wait for a step, seconds.
PATIENCE_S = 90
# Longer than every delay of the registry, milliseconds.
DELAYS_MS = 130_000


def finish(net, tokens):
    """Closes everything and checks it; returns the sheet's lines. `tokens` are those of the books."""
    due = owed(net)
    equal(sum(part["used"] for part in due.clients), tokens, "tokens in the proxies' books")
    leave(net, due)
    collect(net, due)
    for node in net.nodes:
        if node.role != "chain":
            equal(node.terminate(), 0, f"exit code of {node.name}")
    for proxy in due.proxies:
        close(net, proxy)
    until(lambda: not any(state(net)["waiting"].values()), "a quiet chain", PATIENCE_S, every_s=0.1)
    return compare(net, due)


class Due:
    """What the books say before everybody leaves."""

    def __init__(self):
        self.proxies, self.clients, self.workers = [], [], []


def owed(net):
    due = Due()
    for proxy in net.proxies:
        page = net.page(proxy)
        contract = founding.raw(page["smartcontract"]["address"])
        due.proxies.append(contract)
        for client in page["clients"]:
            due.clients.append({"proxy": contract, "contract": founding.raw(client["sc_address"]),
                                "used": client["used_tokens"]})  # fmt: skip
        for worker in page["workers"]:
            due.workers.append({"proxy": contract, "contract": founding.raw(worker["sc_address"]),
                                "owner": founding.raw(worker["owner_address"]),
                                "earned": worker["earned_tokens"]})  # fmt: skip
    return due


def leave(net, due):
    """The client takes everything back, with the proxies' help."""
    equal(net.gateway.terminate(), 0, "exit code of the gateway")
    net.gateway.extra = ["--set", "network.leave=true"]
    net.gateway.start()
    for client in due.clients:
        contract = client["contract"]

        def closed(contract=contract):
            return phase(net, contract) == "closed"

        try:
            until(closed, f"the client's contract {contract} is closed", PATIENCE_S, every_s=0.3)
        except Failed as fault:
            raise Failed(f"{fault}: {net.page(net.gateway)['money']}") from None


def collect(net, due):
    """Every worker is paid for its last token."""
    waiting = [worker for worker in due.workers if worker["earned"]]

    def paid():
        waiting[:] = [worker for worker in waiting if tokens_of(net, worker["contract"]) < worker["earned"]]
        if not waiting:
            return True
        for node in net.workers:
            node.ask_inside("/request/payout", "POST")
        # The pause between two payouts is skipped while no message could get too old by that.
        pages = [net.page(node)["money"]["contracts"] for node in net.workers]
        lines = [line for page in pages for line in page]
        if any("still owed" in line["doing"] for line in lines) and not any(line["on_its_way"] for line in lines):
            net.chain.ask_inside("/control/tick?ms=100000")
        return False

    try:
        until(paid, "every worker is paid", PATIENCE_S, every_s=0.5)
    except Failed as fault:
        pages = [net.page(node)["money"]["contracts"] for node in net.workers]
        raise Failed(f"{fault}: {waiting}; {pages}") from None


def close(net, contract):
    """The owner of a proxy takes what it earned, and its stake."""
    order = ["channel", "close", contract, "--role", "proxy", "-w", founding.OWNER, "-y"]
    net.hand.does(*order)
    net.chain.ask_inside(f"/control/tick?ms={DELAYS_MS}")
    net.hand.does(*order)
    until(lambda: phase(net, contract) == "closed", f"the proxy contract {contract} is closed",
          PATIENCE_S, every_s=0.2)  # fmt: skip


def phase(net, contract):
    return net.hand.sees(contract).get("state", {}).get("phase")


def tokens_of(net, contract):
    return net.hand.sees(contract).get("state", {}).get("tokens_paid", 0)


def state(net):
    return json.loads(net.chain.ask_inside("/control/state"))["result"]


class Account:
    """One account: what came, what left, what it cost, by the chain's transactions."""

    def __init__(self, net, address):
        self.address = address
        self.seen = net.hand.sees(address)
        self.came = self.left = self.fees = self.count = 0
        # What arrived: (who sent it, the operation) and nanoTON.
        self.received = {}
        for transaction in transactions(net, address):
            self.count += 1
            self.fees += int(transaction["fee"])
            if transaction["in_msg"]:
                self._arrived(transaction["in_msg"])
            for message in transaction["out_msgs"]:
                self.left += int(message["value"]) + int(message["fwd_fee"])

    def _arrived(self, message):
        self.came += int(message["value"] or 0)
        if message["source"]:
            operation, amount = cells.amount(message)
            what = (founding.raw(message["source"]), operation)
            self.received[what] = self.received.get(what, 0) + amount

    @property
    def holds(self):
        return self.seen["coins_nanoton"]

    def got(self, operation, sender=None):
        """All amounts of an operation, from one sender or from all, nanoTON."""
        return sum(amount for (who, what), amount in self.received.items()
                   if what == operation and sender in (None, who))  # fmt: skip


def transactions(net, address):
    """All transactions of an account, newest first."""
    last, found = "", []
    while True:
        url = (f"http://{net.chain.at('http')}/api/v2/getTransactions?address={address}"
               f"&limit=100&archival=true{last}")  # fmt: skip
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            page = json.load(answer)["result"]
        known = found[-1]["transaction_id"]["lt"] if found else None
        fresh = [each for each in page if each["transaction_id"]["lt"] != known]
        if not fresh:
            return found
        found += fresh
        at = fresh[-1]["transaction_id"]
        last = f"&lt={at['lt']}&hash={urllib.parse.quote(at['hash'])}"


def compare(net, due):
    """Books, contracts and wallets, to the nanoTON; the lines of the sheet."""
    price = founding.price(net)
    listed = json.loads(net.chain.ask_inside("/control/accounts"))["result"]["accounts"]
    accounts = {each["address"]: Account(net, each["address"]) for each in listed}
    for account in accounts.values():
        equal(account.holds, account.came - account.left - account.fees, f"coins of {account.address}")
    coins = {name: int(amount) for name, amount in state(net)["coins"].items()}
    equal(coins["held"], sum(account.holds for account in accounts.values()), "coins on all accounts")
    equal(coins["minted"], sum(coins.values()) - coins["minted"], f"coins made and coins there, {coins}")
    lines = [sheet_line(net, account) for account in accounts.values()]
    wallet = accounts[net.wallets["gateway"]]
    for client in due.clients:
        lines.append(judge_client(client, accounts, wallet, price["token"]))
    for worker in due.workers:
        check(not worker["earned"] or tokens_of(net, worker["contract"]) == worker["earned"], worker)
    for owner in {worker["owner"] for worker in due.workers}:
        tokens = sum(worker["earned"] for worker in due.workers if worker["owner"] == owner)
        # An account that nobody touches pays for its storage, too.
        got, fees = (accounts[owner].got(cells.PAYOUT), accounts[owner].fees) if owner in accounts else (0, 0)
        equal(got, tokens * price["worker"], f"the worker's owner {owner}, {tokens} tokens")
        check(not got or accounts[owner].holds == got - fees, f"the worker's owner {owner} spent coins")
        lines.append(f"worker's owner {short(owner)} got {got} for {tokens} tokens")
    for contract in due.proxies:
        lines.append(judge_proxy(contract, due, accounts, net, price))
    fees = f"fees in all {coins['fees']}, burned {coins['burned']}, stranded {coins['stranded']}"
    return [*lines, f"{coins['minted']} were made, {coins['held']} are there; {fees}"]


def judge_client(client, accounts, wallet, price):
    contract, proxy = accounts[client["contract"]], accounts[client["proxy"]]
    now = contract.seen["state"]
    equal((now["phase"], now["balance_nanoton"]), ("closed", 0), f"client contract {contract.address}")
    equal(now["tokens_charged"], client["used"], f"tokens charged at {proxy.address}")
    deposited = proxy.got(cells.CLIENT_TOP_UP, contract.address)
    refunded = wallet.got(cells.PAYOUT, proxy.address)
    equal(refunded, deposited - client["used"] * price,
          f"what came back of {deposited} after {client['used']} tokens")  # fmt: skip
    return (f"client at {short(proxy.address)}: deposited {deposited}, used {client['used']} tokens, "
            f"got {refunded} back")  # fmt: skip


def judge_proxy(contract, due, accounts, net, price):
    """The owner has the difference of the prices and the stake."""
    used = sum(client["used"] for client in due.clients if client["proxy"] == contract)
    paid = sum(worker["earned"] for worker in due.workers if worker["proxy"] == contract)
    equal(used, paid, f"tokens of clients and workers at {contract}")
    proxy = accounts[contract]
    staked = proxy.got(cells.INCREASE_STAKE)
    got = accounts[net.owner].got(cells.PAYOUT, contract)
    earned = used * (price["token"] - price["worker"])
    equal(got, earned + staked, f"earnings and stake of {contract}")
    return (f"proxy {short(contract)}: {used} tokens earned {earned}, stake {staked}; owner got {got}, "
            f"{proxy.holds} left")  # fmt: skip


def short(address):
    return address[:8]


def sheet_line(net, account):
    names = {address: name for name, address in net.wallets.items()}
    name = names.get(account.address) or account.seen.get("contract") or "account"
    return (f"{name:<16} {short(account.address)} came {account.came:>15} left {account.left:>15} "
            f"fees {account.fees:>11} holds {account.holds:>15} in {account.count}")  # fmt: skip


__all__ = ["finish"]
