// A browser that talks to nobody but the pages it is told to open.
import { existsSync } from 'node:fs';
import { chromium } from 'playwright-core';

const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';

/** Launches it; where there is none, that is said, and the script ends. */
export async function launch() {
  if (!existsSync(executablePath)) {
    console.log(JSON.stringify({ skipped: `no browser at ${executablePath}` }));
    process.exit(0);
  }
  return chromium.launch({
    executablePath,
    args: ['--no-sandbox', '--disable-quic', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run'],
  });
}
