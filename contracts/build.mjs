// Compiles the contracts into compiled/. With --check compares instead of writing.
//
// Nothing here depends on the time, the place or the machine: the compiler is pinned in
// package-lock.json and gives the same bytes for the same source.

import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { getTolkCompilerVersion, runTolkCompiler } from '@ton/tolk-js';

const here = dirname(fileURLToPath(import.meta.url));
const contracts = ['root', 'proxy', 'client', 'worker', 'wallet', 'timelock'];
const isCheck = process.argv.includes('--check');

async function compile(name) {
  const result = await runTolkCompiler({
    entrypointFileName: `${name}.tolk`,
    fsReadCallback: (path) => readFileSync(join(here, 'src', path), 'utf8'),
  });
  if (result.status === 'error') {
    throw new Error(`${name}: ${result.message}`);
  }
  return { boc: Buffer.from(result.codeBoc64, 'base64'), hash: result.codeHashHex.toLowerCase() };
}

function differs(path, bytes) {
  try {
    return !readFileSync(path).equals(bytes);
  } catch {
    return true;
  }
}

// Lets a build without this compiler see that sources were changed and not compiled.
function sourceHash() {
  const hash = createHash('sha256');
  for (const file of readdirSync(join(here, 'src')).sort()) {
    hash.update(file).update('\0').update(readFileSync(join(here, 'src', file))).update('\0');
  }
  return hash.digest('hex');
}

const outputs = new Map();
const hashes = {
  compiler: `tolk ${await getTolkCompilerVersion()}`,
  sources: sourceHash(),
};
for (const name of contracts) {
  const { boc, hash } = await compile(name);
  outputs.set(`${name}.boc`, boc);
  hashes[name] = { hash, bytes: boc.length };
}
outputs.set('hashes.json', Buffer.from(`${JSON.stringify(hashes, null, 2)}\n`));

mkdirSync(join(here, 'compiled'), { recursive: true });
const stale = [];
for (const [file, bytes] of outputs) {
  const path = join(here, 'compiled', file);
  if (isCheck) {
    if (differs(path, bytes)) stale.push(file);
  } else {
    writeFileSync(path, bytes);
  }
}
if (stale.length > 0) {
  console.error(`compiled/ differs from the sources: ${stale.join(', ')}; run: npm run build`);
  process.exit(1);
}
console.log(isCheck ? 'compiled/ matches the sources' : JSON.stringify(hashes, null, 2));
