// Runs a script with a node that its `ai` declares to need: `node run.mjs send` with AI_MAJOR=6|7.
// ai 7 asks for node 22; on an older one the npm package `node` brings it, into this folder only.
// `node run.mjs prepare` does that and nothing else.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const NEWER_NODE = 'node@22.23.3';

const here = import.meta.dirname;
const [script, ...rest] = process.argv.slice(2);
if (script !== 'prepare' && !existsSync(join(here, `${script}.mjs`))) exit(`usage: node run.mjs prepare|send|reconnect|takeover|regenerate|browser`);
if (!existsSync(join(here, 'node_modules', 'ai6'))) exit('run `npm ci` in this folder first');

const major = process.env.AI_MAJOR ?? '6';
const needed = Number(/\d+/.exec(JSON.parse(readFileSync(join(here, 'node_modules', `ai${major}`, 'package.json'))).engines.node)[0]);
let node = process.execPath;
if (script !== 'browser' && Number.parseInt(process.versions.node, 10) < needed) {
  node = join(here, 'node_modules', '.bin', 'node');
  if (!existsSync(node)) {
    const installed = spawnSync('npm', ['install', '--no-save', '--no-package-lock', '--ignore-scripts=false', NEWER_NODE], { cwd: here, encoding: 'utf8' });
    if (installed.status !== 0 || !existsSync(node)) exit(`ai ${major} needs node ${needed}, and npm could not bring it: ${installed.stderr ?? installed.error}`);
  }
}
if (script === 'prepare') process.exit(0);
process.exit(spawnSync(node, [join(here, `${script}.mjs`), ...rest], { stdio: 'inherit' }).status ?? 1);

function exit(sentence) {
  console.error(sentence);
  process.exit(1);
}
