// The page: takes files, asks the gateway, shows what the verifier says. It judges nothing itself,
// and writes what it shows as text, never as HTML.

import { type Answer, type ClaimLine, InputFault, type Question, type Standing, Verifier } from './verifier.js';

/** What lies on the page now. */
interface State {
  trust: { name: string; text: string } | null;
  evidence: Evidence | null;
  answer: { name: string; bytes: Uint8Array } | null;
}

/** A file, or what the gateway showed for a nonce that was drawn here. */
interface Evidence {
  kind: 'bundle' | 'receipt';
  subject: string;
  bytes: Uint8Array<ArrayBuffer>;
  asked: { nonce: string; now_ms: number } | null;
}

const WORDS: Record<Standing, string> = {
  holds: '✓ holds',
  fails: '✗ FAILS',
  unknown: '? unknown',
  not_claimed: '– not claimed',
};

const state: State = { trust: null, evidence: null, answer: null };
const verifier = Verifier.load(decoded(element('module', HTMLScriptElement).text));

function element<T extends HTMLElement>(id: string, kind: new () => T): T {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no ${id}`);
  return found;
}

function decoded(base64: string): Uint8Array<ArrayBuffer> {
  const text = atob(base64.trim());
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at += 1) bytes[at] = text.charCodeAt(at);
  return bytes;
}

/** Which of our files this is. */
function formatOf(bytes: Uint8Array): string {
  try {
    const file: unknown = JSON.parse(new TextDecoder().decode(bytes));
    const named = file !== null && typeof file === 'object' && 'format' in file;
    return named && typeof file.format === 'string' ? file.format : '';
  } catch {
    return '';
  }
}

async function take(file: File): Promise<void> {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const format = formatOf(bytes);
  if (format === 'cocoon.trust') {
    state.trust = { name: file.name, text: new TextDecoder().decode(bytes) };
  } else if (format === 'cocoon.receipt') {
    state.evidence = { kind: 'receipt', subject: '', bytes, asked: null };
  } else {
    // Whatever else it is, the verifier says what is wrong with it.
    state.evidence = { kind: 'bundle', subject: `bundle ${file.name}`, bytes, asked: null };
  }
}

async function ask(): Promise<void> {
  const drawn = crypto.getRandomValues(new Uint8Array(32));
  const nonce = Array.from(drawn, (byte) => byte.toString(16).padStart(2, '0')).join('');
  const key = element('key', HTMLInputElement).value;
  const headers: Record<string, string> = key === '' ? {} : { authorization: `Bearer ${key}` };
  say('Asking the gateway, which asks every machine …', '');
  const reply = await fetch(`/v1/attestation?nonce=${nonce}`, { headers, cache: 'no-store' });
  const bytes = new Uint8Array(await reply.arrayBuffer());
  if (!reply.ok) throw new InputFault(`the gateway answered ${reply.status}: ${wordsOf(bytes)}`);
  const subject = `the machines behind ${location.origin}`;
  state.evidence = { kind: 'bundle', subject, bytes, asked: { nonce, now_ms: Date.now() } };
}

/** The sentence in an error of the gateway. */
function wordsOf(bytes: Uint8Array): string {
  try {
    const body = JSON.parse(new TextDecoder().decode(bytes)) as { error?: { message?: unknown } };
    return typeof body.error?.message === 'string' ? body.error.message : 'no words';
  } catch {
    return 'no words';
  }
}

function question(evidence: Evidence): Question {
  const asked: Question = { subject: evidence.subject };
  if (state.trust) asked.trust = state.trust.text;
  const nonce = evidence.asked?.nonce ?? element('nonce', HTMLInputElement).value.trim();
  if (nonce !== '') asked.nonce = nonce;
  if (evidence.asked) asked.now_ms = evidence.asked.now_ms;
  const at = element('at', HTMLInputElement).value.trim();
  if (at !== '') {
    const date = Date.parse(at);
    if (!(date >= 0)) throw new InputFault(`${at} is no date; write 2026-02-18T22:58:00Z`);
    asked.at_ms = date;
  }
  const listed = element('require', HTMLInputElement).value.split(',').map((claim) => claim.trim());
  const required = listed.filter((claim) => claim !== '');
  if (required.length > 0) asked.require = required;
  return asked;
}

async function judge(): Promise<void> {
  showTrust();
  const evidence = state.evidence;
  if (!evidence) return;
  const asked = question(evidence);
  const compared = state.answer ? { answer: state.answer.bytes } : {};
  const judged = await verifier;
  const text =
    evidence.kind === 'receipt'
      ? await judged.receipt(evidence.bytes, asked, compared)
      : await judged.bundle(evidence.bytes, asked);
  show(JSON.parse(text) as Answer, text);
  element('save', HTMLButtonElement).hidden = evidence.asked === null;
}

function showTrust(): void {
  const shown = element('trust-shown', HTMLParagraphElement);
  shown.textContent = state.trust
    ? `Judging by ${state.trust.name}.`
    : 'Without one, the strict rules and the makers’ own roots count, and the lists of allowed ' +
      'images and models are the gateway’s word. Make one with: ' +
      'cocoon verify --chain local --save-trust trust.json';
  element('trust-none', HTMLButtonElement).hidden = state.trust === null;
  const name = state.answer?.name ?? '';
  element('answer-shown', HTMLSpanElement).textContent = name;
}

function say(words: string, standing: Standing | ''): void {
  element('found', HTMLElement).hidden = false;
  const outcome = element('outcome', HTMLParagraphElement);
  outcome.textContent = words;
  outcome.className = standing;
  element('objections', HTMLUListElement).replaceChildren();
  element('claims', HTMLDivElement).replaceChildren();
  element('json', HTMLPreElement).textContent = '';
  element('save', HTMLButtonElement).hidden = true;
}

function show(answer: Answer, text: string): void {
  const date = dateOf(answer.judged_at_ms);
  const words = answer.ok ? 'Every required claim holds.' : 'Not verified.';
  say(`${words} Judged at ${date}: ${answer.subject}`, answer.ok ? 'holds' : 'fails');
  const objections = answer.objections.map((objection) => made('li', objection));
  element('objections', HTMLUListElement).replaceChildren(...objections);
  const subjects = new Map<string, ClaimLine[]>();
  for (const line of answer.claims) {
    subjects.set(line.subject, [...(subjects.get(line.subject) ?? []), line]);
  }
  const claims = element('claims', HTMLDivElement);
  for (const [subject, lines] of subjects) claims.append(made('h3', subject), table(lines));
  element('json', HTMLPreElement).textContent = text;
}

function table(lines: ClaimLine[]): HTMLTableElement {
  const out = document.createElement('table');
  const head = document.createElement('tr');
  head.append(...['claim', 'verdict', 'why', 'source', "collateral's age"].map((word) => made('th', word)));
  out.append(head);
  for (const line of lines) {
    const row = document.createElement('tr');
    const verdict = made('td', WORDS[line.verdict]);
    verdict.className = line.verdict;
    const age = line.age_ms === null ? '' : ageOf(line.age_ms);
    row.append(made('td', line.claim), verdict, made('td', line.reason));
    row.append(made('td', line.source), made('td', age));
    out.append(row);
  }
  return out;
}

function made(name: string, text: string): HTMLElement {
  const out = document.createElement(name);
  out.textContent = text;
  return out;
}

/** A date, also of a bundle that names one no calendar has. */
function dateOf(ms: number): string {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? `${ms} ms after 1970` : date.toISOString();
}

/** An age in the largest unit that fits. */
function ageOf(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} days`;
}

function save(): void {
  const evidence = state.evidence;
  if (!evidence) return;
  const url = URL.createObjectURL(new Blob([evidence.bytes], { type: 'application/json' }));
  const link = document.createElement('a');
  link.href = url;
  link.download = 'bundle.json';
  link.click();
  URL.revokeObjectURL(url);
}

/** One thing after the other, so that an old answer never covers a newer one. */
let last: Promise<void> = Promise.resolve();

function then(work: () => Promise<void> | void): void {
  last = last.then(async () => {
    try {
      await work();
      await judge();
    } catch (fault) {
      const words = fault instanceof Error ? fault.message : String(fault);
      say(fault instanceof InputFault ? words : `This page failed: ${words}`, 'fails');
    }
  });
}

function takes(id: string, work: (file: File) => Promise<void>): void {
  const input = element(id, HTMLInputElement);
  input.addEventListener('change', () => {
    const files = Array.from(input.files ?? []);
    input.value = '';
    for (const file of files) then(() => work(file));
  });
}

function start(): void {
  const isServed = location.protocol === 'http:' || location.protocol === 'https:';
  element('origin', HTMLElement).textContent = isServed ? location.origin : 'a file of yours';
  element('ask-row', HTMLParagraphElement).hidden = !isServed;
  element('ask', HTMLButtonElement).addEventListener('click', () => then(ask));
  element('save', HTMLButtonElement).addEventListener('click', save);
  element('trust-none', HTMLButtonElement).addEventListener('click', () => {
    then(() => {
      state.trust = null;
    });
  });
  takes('trust-file', take);
  takes('evidence-file', take);
  takes('answer-file', async (file) => {
    state.answer = { name: file.name, bytes: new Uint8Array(await file.arrayBuffer()) };
  });
  for (const id of ['nonce', 'at', 'require']) {
    element(id, HTMLInputElement).addEventListener('change', () => then(() => {}));
  }
  document.addEventListener('dragover', (event) => {
    event.preventDefault();
    document.body.classList.add('dropping');
  });
  document.addEventListener('dragleave', () => document.body.classList.remove('dropping'));
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    document.body.classList.remove('dropping');
    for (const file of Array.from(event.dataTransfer?.files ?? [])) then(() => take(file));
  });
  showTrust();
}

start();
