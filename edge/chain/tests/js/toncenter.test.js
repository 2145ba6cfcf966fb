// TON's own client libraries against the local chain.
//
// Needs the example `local_network`, built beforehand:
//   cargo build -p cocoon-chain --example local_network
//   COCOON_LOCAL_NETWORK=target/debug/examples/local_network node --test
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { Address, beginCell, comment, internal, toNano } from "@ton/core";
import { keyPairFromSeed } from "@ton/crypto";
import {
  TonClient,
  WalletContractV3R2,
  WalletContractV4,
  WalletContractV5R1,
} from "@ton/ton";

const program = process.env.COCOON_LOCAL_NETWORK;
assert.ok(program, "COCOON_LOCAL_NETWORK must name the built example local_network");

let network;
let base;
let client;

before(async () => {
  network = spawn(program, ["127.0.0.1:0"], { stdio: ["ignore", "pipe", "inherit"] });
  const [line] = await once(network.stdout, "data");
  base = `http://${JSON.parse(line).http}`;
  client = new TonClient({ endpoint: `${base}/api/v2/jsonRPC` });
});

after(async () => {
  network.kill("SIGINT");
  const [code] = await once(network, "exit");
  assert.equal(code, 0);
});

async function get(path) {
  const response = await fetch(`${base}${path}`);
  return response.json();
}

async function faucet(address, amount) {
  const answer = await get(`/faucet?address=${address}&amount=${toNano(amount)}`);
  assert.equal(answer.ok, true, JSON.stringify(answer));
}

/** Polls until `question` answers with something true; at most 20 s. */
async function eventually(what, question) {
  const deadline = Date.now() + 20_000;
  for (;;) {
    const answer = await question();
    if (answer) return answer;
    assert.ok(Date.now() < deadline, `${what}: not within 20 s`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const wallets = [
  ["v3r2", WalletContractV3R2, 1],
  ["v4r2", WalletContractV4, 2],
  ["v5r1", WalletContractV5R1, 3],
];

for (const [name, Wallet, seed] of wallets) {
  test(`a wallet ${name} is funded, deployed and pays`, async () => {
    const keys = keyPairFromSeed(Buffer.alloc(32, seed));
    const wallet = client.open(Wallet.create({ workchain: 0, publicKey: keys.publicKey }));
    assert.equal(await client.getBalance(wallet.address), 0n);
    assert.equal(await client.isContractDeployed(wallet.address), false);
    await faucet(wallet.address, "10");
    await eventually("the faucet's coins", async () =>
      (await client.getBalance(wallet.address)) === toNano("10"));

    const friend = new Address(0, Buffer.alloc(32, 0x70 + seed));
    const pay = async (seqno, text) => {
      await wallet.sendTransfer({
        seqno,
        secretKey: keys.secretKey,
        sendMode: 1,
        messages: [internal({ to: friend, value: toNano("1.5"), bounce: false, body: comment(text) })],
      });
      await eventually("the next seqno", async () => (await wallet.getSeqno()) === seqno + 1);
    };
    assert.equal(await wallet.getSeqno(), 0);
    await pay(0, "first");
    await pay(1, "second");
    // Storing the friend's account costs some nanoton.
    const received = await client.getBalance(friend);
    assert.ok(received <= toNano("3") && received > toNano("2.999"), `${received}`);

    const state = await client.getContractState(wallet.address);
    assert.equal(state.state, "active");
    assert.ok(state.code && state.data && state.lastTransaction);
    const info = await get(`/api/v2/getWalletInformation?address=${wallet.address}`);
    assert.equal(info.result.wallet, true);
    assert.equal(info.result.seqno, 2);
    const extended = await get(`/api/v2/getExtendedAddressInformation?address=${wallet.address}`);
    assert.equal(extended.result.account_state.code, state.code.toString("base64"));

    const list = await client.getTransactions(wallet.address, { limit: 10 });
    assert.equal(list.length, 3);
    assert.equal(list[0].hash().toString("base64"), state.lastTransaction.hash);
    assert.equal(list[0].prevTransactionLt, list[1].lt);
    assert.equal(list[1].inMessage.info.type, "external-in");
    assert.equal(list[2].inMessage.info.src.toRawString(), `-1:${"0".repeat(64)}`);
    const older = await client.getTransactions(wallet.address, {
      limit: 10,
      lt: list[0].lt.toString(),
      hash: list[0].hash().toString("base64"),
    });
    assert.deepEqual(older.map((it) => it.lt), list.slice(1).map((it) => it.lt));
    const one = await client.getTransaction(
      wallet.address, list[1].lt.toString(), list[1].hash().toString("base64"));
    assert.equal(one.lt, list[1].lt);

    const sent = list[0].outMessages.get(0);
    const result = await client.tryLocateResultTx(wallet.address, friend, sent.info.createdLt.toString());
    assert.equal(result.inMessage.info.value.coins, toNano("1.5"));
    const source = await client.tryLocateSourceTx(wallet.address, friend, sent.info.createdLt.toString());
    assert.equal(source.lt, list[0].lt);
  });
}

test("a message the contract does not accept is refused", async () => {
  const keys = keyPairFromSeed(Buffer.alloc(32, 1));
  const stranger = keyPairFromSeed(Buffer.alloc(32, 99));
  const wallet = client.open(WalletContractV3R2.create({ workchain: 0, publicKey: keys.publicKey }));
  const seqno = await wallet.getSeqno();
  await assert.rejects(
    wallet.sendTransfer({ seqno, secretKey: stranger.secretKey, sendMode: 1, messages: [] }));
});

test("get-methods take and give every kind of value", async () => {
  const keys = keyPairFromSeed(Buffer.alloc(32, 1));
  const wallet = WalletContractV3R2.create({ workchain: 0, publicKey: keys.publicKey });
  const { stack } = await client.runMethod(wallet.address, "get_public_key");
  assert.equal(stack.readBigNumber(), BigInt(`0x${keys.publicKey.toString("hex")}`));
  const missing = await client.runMethodWithError(wallet.address, "no_such_method", [
    { type: "int", value: -5n },
    { type: "slice", cell: beginCell().storeUint(7, 8).endCell() },
  ]);
  // What wallet v3r2 throws for a method it does not know.
  assert.equal(missing.exit_code, 32);
});

test("fees can be estimated before signing", async () => {
  const keys = keyPairFromSeed(Buffer.alloc(32, 2));
  const wallet = client.open(WalletContractV4.create({ workchain: 0, publicKey: keys.publicKey }));
  const body = await wallet.createTransfer({
    seqno: await wallet.getSeqno(),
    secretKey: Buffer.alloc(64),
    sendMode: 1,
    messages: [internal({ to: wallet.address, value: 1n, bounce: false })],
  });
  const { source_fees: fees } = await client.estimateExternalMessageFee(wallet.address, {
    body, initCode: null, initData: null, ignoreSignature: true,
  });
  assert.ok(fees.gas_fee > 0 && fees.in_fwd_fee > 0 && fees.fwd_fee > 0, JSON.stringify(fees));
});

test("blocks and shards can be walked", async () => {
  const info = await client.getMasterchainInfo();
  assert.equal(info.workchain, -1);
  const [entry] = await client.getTransactions(
    WalletContractV3R2.create({ workchain: 0, publicKey: keyPairFromSeed(Buffer.alloc(32, 1)).publicKey }).address,
    { limit: 1 });
  const block = await get(`/api/v2/lookupBlock?workchain=-1&shard=-9223372036854775808&lt=${entry.lt}`);
  const seqno = block.result.seqno;
  const [shard] = await client.getWorkchainShards(seqno);
  assert.equal(shard.workchain, 0);
  const listed = await client.getShardTransactions(shard.workchain, shard.seqno, shard.shard);
  assert.ok(listed.some((it) => it.lt === entry.lt.toString()));
  const header = await get(`/api/v2/getBlockHeader?workchain=0&shard=8000000000000000&seqno=${shard.seqno}`);
  assert.equal(header.result.id.root_hash.length, 44);
  const consensus = await get("/api/v2/getConsensusBlock");
  assert.ok(consensus.result.consensus_block >= info.latestSeqno);
});

test("trouble can be switched on and off", async () => {
  const before = (await get("/control/trouble?standing_still=true")).result;
  assert.equal(before.trouble.standing_still, true);
  const still = (await get("/control/tick?ms=1")).result;
  assert.equal(still.seqno, before.seqno);
  await get("/control/trouble?standing_still=false");
  const moved = (await get("/control/tick?ms=1")).result;
  assert.ok(moved.seqno > before.seqno);
  const coins = moved.coins;
  const there = ["held", "waiting", "fees", "burned", "stranded"].reduce((sum, it) => sum + BigInt(coins[it]), 0n);
  assert.equal(there, BigInt(coins.minted));
});

test("nonsense is answered with a reason", async () => {
  for (const path of [
    "/api/v2/noSuchMethod",
    "/api/v2/getAddressInformation",
    "/api/v2/getAddressInformation?address=nonsense",
    "/api/v2/getTransactions?address=0:" + "0".repeat(64) + "&limit=100000",
    "/api/v2/sendBoc?boc=AAAA",
  ]) {
    const answer = await get(path);
    assert.equal(answer.ok, false, path);
    assert.ok(answer.error, path);
  }
});
