"""An independent light client (pytoniq) against the local chain's lite server.

    cargo build -p cocoon-chain --example local_network
    pip install -r requirements.txt
    python lite_client.py ../../../../target/debug/examples/local_network

Proofs are checked by the client: trust level 0 proves every block from the
first one by the validator's signature.
"""

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
import urllib.request

from nacl.signing import SigningKey
from pytoniq import LiteClient, WalletV4R2
from pytoniq.liteclient.client import LiteServerError
from pytoniq_core import Address
from pytoniq_core.tl.block import BlockIdExt


def get(base, path):
    with urllib.request.urlopen(base + path, timeout=10) as answer:
        return json.load(answer)


async def eventually(what, question):
    for _ in range(400):
        answer = await question()
        if answer:
            return answer
        await asyncio.sleep(0.05)
    raise AssertionError(f"{what}: not within 20 s")


async def check(base, config):
    server = config["liteservers"][0]
    init = config["validator"]["init_block"]
    init = BlockIdExt(
        workchain=init["workchain"], shard=init["shard"], seqno=init["seqno"],
        root_hash=base64.b64decode(init["root_hash"]), file_hash=base64.b64decode(init["file_hash"]))
    for trust in (0, 1):
        client = LiteClient(
            "127.0.0.1", server["port"], server["id"]["key"], timeout=10,
            trust_level=trust, init_key_block=init)
        await client.connect()
        await scenario(base, client, 7 + trust)
        await client.close()


async def scenario(base, client, seed):
    info = await client.get_masterchain_info()
    assert info["init"]["workchain"] == -1
    assert (await client.get_time())["now"] > 1_700_000_000
    await client.get_version()

    secret = bytes([seed]) * 32
    secret += bytes(SigningKey(secret).verify_key)
    wallet = await WalletV4R2.from_private_key(client, secret)
    assert (await client.get_account_state(wallet.address)).balance == 0
    assert get(base, f"/faucet?address={wallet.address.to_str()}&amount=5000000000")["ok"]

    async def funded():
        return (await client.get_account_state(wallet.address)).balance == 5_000_000_000
    await eventually("the faucet's coins", funded)

    await wallet.deploy_via_external()

    async def deployed():
        return (await client.get_account_state(wallet.address)).is_active()
    await eventually("the wallet's code", deployed)
    friend = Address((0, bytes([0x60 + seed]) * 32))
    wallet = await WalletV4R2.from_private_key(client, secret)
    seqno = await wallet.get_seqno()
    await wallet.transfer(destination=friend, amount=1_000_000_000, body="hello")

    async def moved():
        return await wallet.get_seqno() == seqno + 1
    await eventually("the next seqno", moved)

    account, shard_account = await client.raw_get_account_state(friend)
    assert account.storage.balance.grams == 1_000_000_000
    found = await client.get_transactions(wallet.address, 16)
    assert found[-1].prev_trans_lt == 0 and len(found) >= 3, len(found)
    assert found[0].out_msgs[0].info.value_coins == 1_000_000_000

    _, ids = await client.raw_get_transactions(wallet.address, 1)
    block = ids[0]
    listed = await client.raw_get_block_transactions(block)
    assert any(it["lt"] == found[0].lt for it in listed), listed
    whole = await client.raw_get_block_transactions_ext(block)
    assert any(it.lt == found[0].lt for it in whole)
    one = await client.get_one_transaction(wallet.address, found[0].lt, block)
    assert one.cell.hash == found[0].cell.hash
    parsed = await client.raw_get_block(block)
    assert parsed.info.seqno == block.seqno
    header = await client.raw_get_block_header(block)
    assert header.info.seqno == block.seqno
    looked, _ = await client.lookup_block(-1, -2**63, block.seqno)
    assert looked.seqno == block.seqno
    by_lt, _ = await client.lookup_block(0, -2**63, lt=found[0].lt)
    assert by_lt.root_hash == block.root_hash

    shards = await client.get_all_shards_info()
    assert shards[0].workchain == 0
    shard = await client.raw_get_shard_info()
    assert shard.seq_no > 0
    config = await client.get_config_all()
    assert config[34].cur_validators.total == 1
    some = await client.get_config_params([21])
    assert some[21] is not None

    # From a late block back to an early one and forward again.
    last = client.last_mc_block
    early, _ = await client.lookup_block(-1, -2**63, 2)
    await client.get_mc_block_proof(known_block=last, target_block=early)
    await client.get_mc_block_proof(known_block=early, target_block=last)
    await client.get_shard_block_proof(block)
    try:
        await client.raw_send_message(b"nonsense")
        raise AssertionError("nonsense was taken")
    except LiteServerError:
        pass


def main(program):
    network = subprocess.Popen(
        [program, "127.0.0.1:0", "127.0.0.1:0"], stdout=subprocess.PIPE)
    try:
        where = json.loads(network.stdout.readline())
        with tempfile.TemporaryDirectory() as directory:
            # The client keeps its block store in the current directory.
            os.chdir(directory)
            asyncio.run(check(f"http://{where['http']}", where["global"]))
            os.chdir("/")
    finally:
        network.send_signal(signal.SIGINT)
        assert network.wait(10) == 0
    print("ok")


if __name__ == "__main__":
    main(os.path.abspath(sys.argv[1]))
