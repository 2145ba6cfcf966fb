"""The money of a fleet: its chain moved to its place, a registry that names all proxies, coins for
every node's wallet, and an owner of the proxies who can act.

`cocoon up` has made the chain and the root contract; everything here goes through the commands that
people type.
"""

import base64
import json
import os
import secrets
import shutil
import subprocess
import tomllib

import drive
from drive import check, until

# What the faucet gives each wallet, TON.
COINS = 2_000
# Who owns the proxies, and takes what they earned.
OWNER = "boss"
# What a client's balance is filled up to, nanoTON: requests reserve their worst case.
DEPOSIT = 3_000_000_000


class Hand:
    """The commands of a person with wallets, at the fleet's chain."""

    def __init__(self, fleet):
        self.fleet = fleet
        self.directory = os.path.join(fleet.directory, "hand")
        os.makedirs(self.directory)
        passphrase = os.path.join(self.directory, "passphrase")
        with open(passphrase, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(16))
        self.environment = dict(os.environ, COCOON_PASSPHRASE_FILE=passphrase,
                                COCOON_WALLET_DIR=os.path.join(self.directory, "wallets"))  # fmt: skip

    def does(self, *arguments, chain=True):
        """What a command says, as JSON."""
        place = ["--chain", f"http://127.0.0.1:{self.fleet.chain.ports['http']}"] if chain else []
        command = [*self.fleet.chain.inside(), drive.COCOON, *arguments, *place, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120,
                              env=self.environment, stdin=subprocess.DEVNULL)  # fmt: skip
        check(done.returncode == 0, "cocoon", *arguments, done.stderr[-1000:])
        return json.loads(done.stdout)

    def sees(self, address):
        return self.does("chain", "explore", address)

    def feeds(self, address):
        """Has coins of the faucet arrive."""
        self.does("chain", "faucet", address, str(COINS))
        until(lambda: self.sees(address)["coins_nanoton"], "coins of the faucet", every_s=0.1)


def found(fleet, places):
    """Starts the fleet's chain and brings its registry and all wallets up to date."""
    fleet.network_of = read(os.path.join(fleet.network, "config", "gateway.toml"))["network"]
    root = fleet.network_of["root"]
    shutil.copytree(os.path.join(fleet.network, "node/chain"), fleet.chain.data_dir, dirs_exist_ok=True)
    fleet.chain.start()
    until(fleet.chain.is_ready, "the chain", every_s=0.1)
    hand = fleet.hand = Hand(fleet)
    treasury = hand.sees(root)["state"]["owner"]
    key = os.path.join(fleet.network, "keys/treasury.key")
    owner = hand.sees(treasury)["state"]["owner"]
    hand.does("wallet", "import", "treasury", "--key-file", key, "--owner", owner, chain=False)
    for number, (workers, clients) in enumerate(places, 1):
        change = ["move-proxy", str(number)] if number == 1 else ["add-proxy"]
        hand.does("root", "propose", *change, f"{workers} {clients}", "--root", root, "-w", "treasury", "-y")
    fleet.owner = hand.does("wallet", "new", OWNER, chain=False)["address"]["raw"]
    hand.feeds(fleet.owner)
    fleet.wallets = {"treasury": treasury, OWNER: fleet.owner}
    for node in fleet.nodes:
        if node.role != "chain":
            fleet.wallets[node.name] = wallet(fleet, node)
            hand.feeds(fleet.wallets[node.name])


def wallet(fleet, node):
    """The address of a node's wallet, whose key is made here in the node's place."""
    key = os.path.join(node.data_dir, "wallet.key")
    with open(key, "w", encoding="ascii", opener=lambda *what: os.open(*what, 0o600)) as file:
        file.write(secrets.token_hex(32))
    made = fleet.hand.does("wallet", "import", node.name, "--key-file", key, "--owner",
                           owner_of(fleet, node), chain=False)  # fmt: skip
    return made["address"]["raw"]


def owner_of(fleet, node):
    """Whom a node belongs to."""
    if node.role == "proxy":
        return fleet.owner
    if node.role == "gateway":
        return fleet.network_of["owner"]
    return read(os.path.join(fleet.network, "config", f"{node.name}.toml"))["owner"]


def price(fleet):
    """Price of a token, and the worker's part of it, nanoTON."""
    prices = fleet.hand.sees(fleet.network_of["root"])["state"]["prices"]
    return {"token": prices["price_of_a_token_nanoton"], "worker": prices["of_it_to_the_worker_nanoton"]}


def read(path):
    with open(path, "rb") as file:
        return tomllib.load(file)


def raw(friendly):
    """An address in its raw form."""
    if ":" in friendly:
        return friendly
    bytes_ = base64.urlsafe_b64decode(friendly)
    return f"{int.from_bytes(bytes_[1:2], 'big', signed=True)}:{bytes_[2:34].hex()}"


__all__ = ["DEPOSIT", "OWNER", "found", "owner_of", "price", "raw", "read"]
