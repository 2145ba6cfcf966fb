// The verifier in WebAssembly, for browsers and Node: the same code as `cocoon verify`.

/** What is known of a claim. Anything but `holds` is not good. */
export type Standing = 'holds' | 'fails' | 'unknown' | 'not_claimed';

/** One claim about one subject. */
export interface ClaimLine {
  /** What it is about: `registry`, `proxy 1`, `worker 2`, `receipt`. */
  subject: string;
  claim: string;
  verdict: Standing;
  /** Where that comes from. */
  source: string;
  /** How old the oldest thing used is, milliseconds, when it carries a date. */
  age_ms: number | null;
  /** Plain words. */
  reason: string;
}

/** What `cocoon verify --json` prints. */
export interface Answer {
  subject: string;
  /** Whether every required claim holds and none fails. */
  ok: boolean;
  /** Why not, one sentence each. */
  objections: string[];
  /** The date it was judged at, Unix milliseconds. */
  judged_at_ms: number;
  claims: ClaimLine[];
}

/** What is asked about a file. Everything may be left out. */
export interface Question {
  /** What to call the file in the answer. */
  subject?: string;
  /** The asker's own trust file, as text; without it the strict rules and no registry. */
  trust?: string;
  /** Nonce that the asker drew, 64 hex digits. */
  nonce?: string;
  /** The asker's clock, Unix milliseconds, when the evidence was made for its nonce just now. */
  now_ms?: number;
  /** Another date to judge at, Unix milliseconds. */
  at_ms?: number;
  /** Claims that must hold, instead of the usual ones. */
  require?: string[];
}

/** Bodies to compare with a receipt, byte for byte as the worker got and sent them. */
export interface Compared {
  request?: Uint8Array;
  answer?: Uint8Array;
}

/** The file, the trust file or the question cannot be used; the message is for people. */
export class InputFault extends Error {
  override name = 'InputFault';
}

/** The calling convention (tool/verifier-web/src/desk.rs). */
interface Exports {
  memory: WebAssembly.Memory;
  cocoon_interface(): number;
  cocoon_input(place: number, len: number): number;
  cocoon_verify_bundle(): number;
  cocoon_verify_receipt(): number;
  cocoon_output(): number;
  cocoon_output_len(): number;
}

const INTERFACE = 1;
const PLACE = { file: 0, question: 1, request: 2, answer: 3 };

/** Judges files. Each question gets a memory of its own. */
export class Verifier {
  private constructor(private readonly module: WebAssembly.Module) {}

  /** Compiles the module. */
  static async load(wasm: Uint8Array<ArrayBuffer>): Promise<Verifier> {
    return new Verifier(await WebAssembly.compile(wasm));
  }

  /** Judges a bundle; the JSON of an {@link Answer}, byte for byte what the command prints. */
  async bundle(file: Uint8Array, question: Question): Promise<string> {
    const desk = await this.desk(file, question);
    return desk.answer(desk.exports.cocoon_verify_bundle());
  }

  /** Judges the file of a receipt; the JSON of an {@link Answer}. */
  async receipt(file: Uint8Array, question: Question, compared: Compared = {}): Promise<string> {
    const desk = await this.desk(file, question);
    if (compared.request) desk.put(PLACE.request, compared.request);
    if (compared.answer) desk.put(PLACE.answer, compared.answer);
    return desk.answer(desk.exports.cocoon_verify_receipt());
  }

  private async desk(file: Uint8Array, question: Question): Promise<Desk> {
    const instance = await WebAssembly.instantiate(this.module, {});
    const desk = new Desk(instance.exports as unknown as Exports);
    desk.put(PLACE.file, file);
    desk.put(PLACE.question, new TextEncoder().encode(JSON.stringify(question)));
    return desk;
  }
}

class Desk {
  constructor(readonly exports: Exports) {
    const found = exports.cocoon_interface();
    if (found !== INTERFACE) {
      throw new Error(`the module speaks version ${found}, this program version ${INTERFACE}`);
    }
  }

  put(place: number, bytes: Uint8Array): void {
    const at = this.exports.cocoon_input(place, bytes.length) >>> 0;
    if (at === 0) throw new InputFault(`the file is too long: ${bytes.length} bytes`);
    new Uint8Array(this.exports.memory.buffer, at, bytes.length).set(bytes);
  }

  answer(code: number): string {
    const at = this.exports.cocoon_output() >>> 0;
    const len = this.exports.cocoon_output_len() >>> 0;
    const text = new TextDecoder().decode(new Uint8Array(this.exports.memory.buffer, at, len));
    if (code !== 0) throw new InputFault(text);
    return text;
  }
}
