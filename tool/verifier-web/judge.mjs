// Judges files in Node: jobs (JSON) come on standard input, answers (JSON) go to standard output.
//   node judge.mjs MODULE   where MODULE is verifier.wasm, or a page that holds one

import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const { InputFault, Verifier } = await import(join(here, '../../target/web/verifier.mjs'));

function moduleOf(path) {
  const bytes = readFileSync(path);
  if (!path.endsWith('.html')) return new Uint8Array(bytes);
  const [, module] = /id="module">([^<]*)</.exec(bytes.toString());
  return new Uint8Array(Buffer.from(module, 'base64'));
}

async function judge(verifier, job) {
  const bytes = (path) => new Uint8Array(readFileSync(path));
  const question = { ...job.question };
  if (job.trust) question.trust = readFileSync(job.trust, 'utf8');
  const compared = job.answer ? { answer: bytes(job.answer) } : {};
  try {
    const isReceipt = job.kind === 'receipt';
    const text = isReceipt
      ? await verifier.receipt(bytes(job.file), question, compared)
      : await verifier.bundle(bytes(job.file), question);
    return { text };
  } catch (fault) {
    if (fault instanceof InputFault) return { fault: fault.message };
    return { crash: String(fault) };
  }
}

const verifier = await Verifier.load(moduleOf(process.argv[2]));
const answers = [];
for (const job of JSON.parse(readFileSync(0, 'utf8'))) answers.push(await judge(verifier, job));
process.stdout.write(JSON.stringify(answers));
