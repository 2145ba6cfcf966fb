// Drives the page in a browser without a window; prints what the page says as JSON.
//   node browse.mjs URL PICTURE FILE...   files are given to the page first to last
// For a page from a server the gateway is asked; the answer for programs is waited for.

import { existsSync } from 'node:fs';
import puppeteer from 'puppeteer-core';

const DEADLINE_MS = 90_000;
const [url, picture, ...files] = process.argv.slice(2);
const names = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const executablePath = names.find((name) => existsSync(name));
if (!executablePath) throw new Error(`no browser: ${names.join(', ')}`);

const browser = await puppeteer.launch({
  executablePath,
  // Root in a container has no sandbox of its own.
  args: process.getuid() === 0 ? ['--no-sandbox'] : [],
});
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(DEADLINE_MS);
  const faults = [];
  const asked = [];
  page.on('pageerror', (fault) => faults.push(String(fault)));
  page.on('console', (line) => {
    if (line.type() === 'error') faults.push(line.text());
  });
  page.on('request', (request) => asked.push(request.url()));
  await page.goto(url);
  const input = await page.$('#evidence-file');
  const shown = () => page.$eval('#json', (node) => node.textContent);
  const outcome = () => page.$eval('#outcome', (node) => node.textContent);
  // The page says something new after each step: the old words are taken away first.
  const step = async (work) => {
    await page.$eval('#outcome', (node) => {
      node.textContent = '';
    });
    await work();
    const done = () => {
      const words = document.getElementById('outcome').textContent;
      return words !== '' && !words.startsWith('Asking');
    };
    await page.waitForFunction(done);
  };
  for (const file of files) {
    if (file.endsWith('.trust')) {
      await input.uploadFile(file);
      await page.waitForFunction(() =>
        document.getElementById('trust-shown').textContent.startsWith('Judging by'),
      );
    } else {
      await step(() => input.uploadFile(file));
    }
  }
  if (url.startsWith('http')) await step(() => page.click('#ask'));
  const said = { outcome: await outcome(), json: await shown(), faults, asked };
  await page.setViewport({ width: 1100, height: 900 });
  await page.screenshot({ path: picture, fullPage: true });
  process.stdout.write(JSON.stringify(said));
} finally {
  await browser.close();
}
