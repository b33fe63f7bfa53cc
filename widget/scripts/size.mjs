// Prints what a visitor downloads and refuses a build that outgrew its budget (07-performance: 25 kB).
import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';

const BUDGET_BYTES = 25_000;
const script = readFileSync(new URL('../dist/chat.js', import.meta.url));
const gzipped = gzipSync(script, { level: 9 }).length;
console.log(`dist/chat.js: ${script.length} bytes, ${gzipped} bytes gzipped (budget ${BUDGET_BYTES})`);
if (gzipped > BUDGET_BYTES) process.exit(1);
