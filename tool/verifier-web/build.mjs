// Builds the verifier for browsers and the gateway's page around it, node/gateway/src/verify.html.
// With --check compares instead of writing.
//
// The page is committed, so that `./up` needs no WebAssembly toolchain; built.json says with which
// one it was made. The same tools make the same bytes. Other tools may make another module: then
// --check compares all the rest, says so, and leaves the module to the suite (tests/suites/web.sh),
// which has both modules judge the same evidence.

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '../..');
const out = join(root, 'target/web');
const committed = {
  page: join(root, 'node/gateway/src/verify.html'),
  built: join(here, 'built.json'),
};
const TARGET = 'wasm32-unknown-unknown';
const WEB_RUSTC = '/usr/bin/rustc';
const WEB_SOURCES = '/usr/lib/rustlib/src/rust';
const isCheck = process.argv.includes('--check');

function said(program, ...args) {
  return execFileSync(program, args, { encoding: 'utf8', cwd: root }).trim();
}

function firstLine(program, ...args) {
  return said(program, ...args).split('\n')[0];
}

// A compiler whose standard library is there for the target, or Debian's, whose sources are.
function toolchain() {
  const shipped = (rustc) => existsSync(said(rustc, '--print', 'target-libdir', '--target', TARGET));
  if (shipped('rustc')) {
    return { rustc: 'rustc', std: 'shipped', linker: 'rust-lld', flags: [], sources: null };
  }
  if (existsSync(WEB_RUSTC) && existsSync(join(WEB_SOURCES, 'library/std'))) {
    return {
      rustc: WEB_RUSTC,
      std: 'built',
      linker: firstLine('wasm-ld', '--version'),
      flags: ['-Z', 'build-std=std,panic_abort'],
      sources: WEB_SOURCES,
    };
  }
  console.error(
    'No standard library for WebAssembly: run `rustup target add wasm32-unknown-unknown`, or on\n' +
      'Debian `apt-get install rustc-web rust-web-src lld clang`.',
  );
  process.exit(2);
}

function buildModule(tools) {
  const cargoHome = process.env.CARGO_HOME ?? join(homedir(), '.cargo');
  const paths = [
    [root, '/cocoon'],
    [join(cargoHome, 'registry/src'), '/registry'],
    [tools.sources ?? join(said(tools.rustc, '--print', 'sysroot'), 'lib/rustlib/src/rust'), '/rust'],
  ];
  // Settings of other builds (features of the whole workspace, profiles, flags) are not this one's.
  const foreign = /^(RUSTFLAGS$|CARGO_(BUILD|PROFILE|RESOLVER|UNSTABLE|ENCODED)_)/;
  const env = {
    ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !foreign.test(name))),
    CARGO_TARGET_DIR: out,
    CARGO_ENCODED_RUSTFLAGS: paths.map(([from, to]) => `--remap-path-prefix=${from}=${to}`).join('\x1f'),
    CC_wasm32_unknown_unknown: 'clang',
    CFLAGS_wasm32_unknown_unknown: paths.map(([from, to]) => `-ffile-prefix-map=${from}=${to}`).join(' '),
    AR_wasm32_unknown_unknown: 'llvm-ar',
  };
  if (tools.std === 'built') {
    env.RUSTC = tools.rustc;
    env.CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER = 'wasm-ld';
    // Building the standard library is not stable yet.
    env.RUSTC_BOOTSTRAP = '1';
  }
  const args = ['build', '--locked', '--quiet', '--profile', 'web', '--target', TARGET];
  args.push('--package', 'cocoon-verifier-web', '--lib', ...tools.flags);
  execFileSync('cargo', args, { cwd: root, env, stdio: 'inherit' });
  return readFileSync(join(out, TARGET, 'web/cocoon_verifier_web.wasm'));
}

async function bundled(entry) {
  const result = await build({
    entryPoints: [join(here, 'page', entry)],
    absWorkingDir: here,
    bundle: true,
    format: 'esm',
    target: 'es2022',
    charset: 'utf8',
    legalComments: 'none',
    write: false,
  });
  return result.outputFiles[0].text.trimEnd();
}

function digest(algorithm, bytes, encoding) {
  return createHash(algorithm).update(bytes).digest(encoding);
}

async function page(module) {
  const script = `\n${await bundled('page.ts')}\n`;
  const style = `\n${readFileSync(join(here, 'page/page.css'), 'utf8')}`;
  const policy = [
    "default-src 'none'",
    `script-src 'sha256-${digest('sha256', script, 'base64')}' 'wasm-unsafe-eval'`,
    `style-src 'sha256-${digest('sha256', style, 'base64')}'`,
    "connect-src 'self'",
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
  ].join('; ');
  if (/<\/(script|style)/i.test(script + style)) throw new Error('the program ends its own element');
  const parts = { policy, style, script, module: module.toString('base64') };
  const template = readFileSync(join(here, 'page/page.html'), 'utf8');
  return template.replace(/\{\{(\w+)\}\}/g, (_, name) => parts[name]);
}

// Everything but the module.
function frame(html) {
  return html.replace(/(id="module">)[^<]*/, '$1');
}

const tools = toolchain();
execFileSync('node', [join(here, 'node_modules/typescript/bin/tsc'), '-p', here], { stdio: 'inherit' });
const module = buildModule(tools);
const html = await page(module);
mkdirSync(out, { recursive: true });
writeFileSync(join(out, 'verifier.mjs'), `${await bundled('verifier.ts')}\n`);
writeFileSync(join(out, 'verifier.wasm'), module);
writeFileSync(join(out, 'verify.html'), html);

const built = {
  tools: {
    rustc: firstLine(tools.rustc, '--version'),
    std: tools.std,
    linker: tools.linker,
    clang: firstLine('clang', '--version'),
  },
  module: { sha256: digest('sha256', module, 'hex'), bytes: module.length },
  page: { sha256: digest('sha256', html, 'hex'), bytes: Buffer.byteLength(html) },
};
if (!isCheck) {
  writeFileSync(committed.page, html);
  writeFileSync(committed.built, `${JSON.stringify(built, null, 2)}\n`);
  console.log(JSON.stringify(built, null, 2));
} else {
  const kept = readFileSync(committed.page, 'utf8');
  const record = JSON.parse(readFileSync(committed.built, 'utf8'));
  const fail = (why) => {
    console.error(`${why}; run: npm run build (in tool/verifier-web)`);
    process.exit(1);
  };
  if (digest('sha256', kept, 'hex') !== record.page.sha256) fail('built.json is not about verify.html');
  if (frame(kept) !== frame(html)) fail('verify.html differs from page/');
  if (JSON.stringify(record.tools) === JSON.stringify(built.tools)) {
    if (kept !== html) fail('the module in verify.html differs from the sources');
    console.log(`verify.html matches the sources (sha256 ${built.page.sha256})`);
  } else {
    console.log(
      `verify.html was made with ${JSON.stringify(record.tools)}, here is ` +
        `${JSON.stringify(built.tools)}: the module's bytes are not compared, only what it answers`,
    );
  }
}
