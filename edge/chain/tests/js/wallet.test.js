// Wallets of this program and of TON's own library are the same wallets: the same words, the same
// addresses, orders of either are taken by the same contract. COCOON_PROGRAM names the program.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { internal, SendMode } from '@ton/core';
import { mnemonicNew, mnemonicToPrivateKey } from '@ton/crypto';
import { TonClient, WalletContractV3R2, WalletContractV4, WalletContractV5R1 } from '@ton/ton';

const program = process.env.COCOON_PROGRAM;
if (!program) throw new Error('COCOON_PROGRAM must name the program `cocoon`');

const home = mkdtempSync(join(tmpdir(), 'cocoon-wallet-'));
const friend = 'UQDMgD2BZL896AUJvGWwRjVgyw0bI1ttLsGQAdmAx03KVvZA';
let chain;
let url;

before(async () => {
  writeFileSync(join(home, 'passphrase'), 'correct horse battery\n');
  chain = spawn(program, ['chain', '--http', '127.0.0.1:0', '--block-ms', '100'], { stdio: ['ignore', 'pipe', 'ignore'] });
  let said = '';
  for await (const part of chain.stdout) {
    said += part;
    const found = said.match(/toncenter API\s+(http:\S+)\/api\/v2/);
    if (found) {
      url = found[1];
      break;
    }
  }
});

after(() => {
  chain.kill();
  rmSync(home, { recursive: true });
});

const run = (...args) =>
  JSON.parse(
    execFileSync(program, [...args, '--json'], {
      env: { HOME: home, COCOON_CHAIN: url, COCOON_PASSPHRASE_FILE: join(home, 'passphrase') },
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    }),
  );

const until = async (happened) => {
  const deadline = Date.now() + 20_000;
  while (!(await happened())) {
    assert.ok(Date.now() < deadline, 'it did not happen in time');
    await new Promise((next) => setTimeout(next, 100));
  }
};

const kinds = [
  ['v3r2', (publicKey) => WalletContractV3R2.create({ workchain: 0, publicKey })],
  ['v4r2', (publicKey) => WalletContractV4.create({ workchain: 0, publicKey })],
  ['v5r1', (publicKey) => WalletContractV5R1.create({ workchain: 0, publicKey })],
];

for (const [name, create] of kinds) {
  test(`${name}: one wallet, two programs`, async () => {
    const words = await mnemonicNew(24);
    const key = await mnemonicToPrivateKey(words);
    const theirs = create(key.publicKey);
    writeFileSync(join(home, `${name}.words`), words.join(' '));
    writeFileSync(join(home, `${name}.boc`), theirs.init.code.toBoc());
    const ours = run('wallet', 'import', name, '--contract', name, '--words-file', join(home, `${name}.words`));
    assert.equal(ours.address.raw, theirs.address.toRawString());

    run('chain', 'faucet', name, '10');
    await until(() => run('wallet', 'show', name).balance_nanoton === 10_000_000_000);
    // Our first order deploys it with the library's code; its hash is known here.
    const first = run('wallet', 'send', friend, '1', '--wallet', name, '--wallet-code', join(home, `${name}.boc`), '--yes');
    assert.equal(first.outcome.steps[1].value_nanoton, 1_000_000_000);

    // The library goes on where we stopped, and we after it.
    const client = new TonClient({ endpoint: `${url}/api/v2/jsonRPC` });
    const opened = client.open(theirs);
    assert.equal(await opened.getSeqno(), 1);
    await opened.sendTransfer({
      seqno: 1,
      secretKey: key.secretKey,
      sendMode: SendMode.PAY_GAS_SEPARATELY + SendMode.IGNORE_ERRORS,
      messages: [internal({ to: friend, value: '2', bounce: false, body: 'from the library' })],
    });
    await until(async () => (await opened.getSeqno()) === 2);
    run('wallet', 'send', friend, '3', '--wallet', name, '--yes');
    const sent = run('wallet', 'history', name).transactions.flatMap((entry) => entry.sent);
    assert.deepEqual(sent.map((entry) => entry.value_nanoton / 1e9), [3, 2, 1]);
    assert.equal(sent[1].what, 'comment "from the library"');

    // A second one in another place, funded by the first, needs no file: its code is found at the first.
    const other = ['--wallet-dir', join(home, `${name}-other`)];
    writeFileSync(join(home, `${name}-2.words`), (await mnemonicNew(24)).join(' '));
    const words2 = ['--words-file', join(home, `${name}-2.words`)];
    const second = run('wallet', 'import', name, '--contract', name, ...words2, ...other);
    run('wallet', 'send', second.address.raw, '2', '--wallet', name, '--yes');
    const found = run('wallet', 'send', friend, '1', '--wallet', name, ...other, '--yes');
    assert.equal(found.outcome.steps[1].value_nanoton, 1_000_000_000);
  });
}
