// Runs every script against the stand-in, with both majors: what passes here and fails against the
// service is the service's fault. Proves also that `reconnect` and `takeover` did meet a cut.
import { spawn } from 'node:child_process';
import { startFakeServer } from './fake-server.mjs';

const server = await startFakeServer({ pace: 5 });
let failed = 0;
for (const AI_MAJOR of ['6', '7']) {
  for (const script of ['send', 'reconnect', 'takeover', 'regenerate']) {
    const QUESTION = script === 'takeover' ? 'A takeover, please' : 'What services do you offer?';
    const env = { ...process.env, BASE_URL: server.url, WIDGET_TOKEN: server.token, AI_MAJOR, QUESTION, LIMIT_MS: '20000' };
    const child = spawn(process.execPath, [`${import.meta.dirname}/run.mjs`, script], { env, stdio: 'inherit' });
    const code = await new Promise((resolve) => child.on('exit', resolve));
    if (code !== 0) failed++;
    console.log(`${code === 0 ? 'ok' : 'FAILED'} ${script} with ai ${AI_MAJOR}`);
  }
}
server.close();
process.exit(failed === 0 ? 0 : 1);
