// The measures of ../README.md for peers that run on node. A driver hands `measure` an object that
// wraps its library; what is timed, and how, is written here once so that the peers can't differ.
//
// Peer:
//   install()                 the schema and the queue; run twice does no harm
//   enqueueAll(count)         jobs with the payloads { n: 0 } … { n: count - 1 }, by the bulk call
//   producer(connections)     → { enqueue(n), close() }, one job and one transaction a call
//   work(onJob)               one worker that calls onJob(payload) in its handler → { stop() }
//   unfinished                SQL: how many jobs are not completed, as one number

import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";

const [cache, kind, ...rest] = process.argv.slice(2);

/** Loads a package from the cache folder that `prepare` filled. */
export const load = createRequire(`${resolve(cache)}/`);

export const databaseUrl = process.env.DATABASE_URL;

/** What a drain that stalls is given, in seconds. */
const GIVE_UP_SECONDS = 120;

// Standard output carries the result only: whatever a library prints goes to standard error.
console.log = console.info = console.debug = console.error;

/** Runs the measure that the command line names and ends the process. */
export async function measure(peer) {
  try {
    await run(peer);
    // A worker that takes its time to stop must not hold up the next measure.
    process.exit(0);
  } catch (error) {
    console.error(error.stack);
    console.error(error.message);
    process.exit(1);
  }
}

async function run(peer) {
  const { values } = parseArgs({
    args: rest,
    options: {
      jobs: { type: "string" },
      analyze: { type: "boolean" },
      seconds: { type: "string" },
      connections: { type: "string" },
    },
  });
  const measures = {
    drain: () => drain(peer, Number(values.jobs), values.analyze),
    latency: () => latency(peer, Number(values.jobs)),
    steady: () => steady(peer, Number(values.seconds), Number(values.connections)),
    idle: () => idle(peer),
  };
  if (!Object.hasOwn(measures, kind)) throw new Error(`no such measure: ${kind}`);
  await peer.install();
  const result = await measures[kind]();
  if (result) await written(`${JSON.stringify(result)}\n`);
}

async function drain(peer, jobs, analyze) {
  const check = await connect();
  await peer.enqueueAll(jobs);
  if (analyze) await check.query("ANALYZE");
  const queued = await count(check, peer.unfinished);
  if (queued !== jobs) throw new Error(`${queued} of ${jobs} jobs were enqueued`);

  let handled = 0;
  const started = performance.now();
  const seconds = () => (performance.now() - started) / 1000;
  await peer.work(() => handled++);
  // Before every handler has run there is nothing to find in the database: asking sooner would
  // only slow down what is measured.
  let left = jobs;
  while (left > 0 && seconds() < GIVE_UP_SECONDS) {
    if (handled >= jobs) left = await count(check, peer.unfinished);
    if (left > 0) await sleep(5);
  }
  const elapsed = Math.min(seconds(), GIVE_UP_SECONDS);
  if (left > 0) left = await count(check, peer.unfinished);
  return { jobs: jobs - left, seconds: elapsed };
}

async function latency(peer, jobs) {
  const handledAt = new Map();
  await peer.work(({ n }) => handledAt.set(n, performance.now()));
  const producer = await peer.producer(1);
  await producer.enqueue(jobs);
  await until(() => handledAt.has(jobs), "the warm-up job was not handled");

  const enqueuedAt = [];
  const started = performance.now();
  for (let n = 0; n < jobs; n++) {
    await sleep(Math.max(0, started + 20 * n - performance.now()));
    enqueuedAt.push(performance.now());
    await producer.enqueue(n);
  }
  await until(() => handledAt.size > jobs, "not every job was handled");
  return { latencies_ms: enqueuedAt.map((at, n) => handledAt.get(n) - at) };
}

async function steady(peer, seconds, connections) {
  const check = await connect();
  // The worker is a process of its own, so that the producers don't take its event loop.
  const worker = spawn(process.execPath, [process.argv[1], cache, "idle"], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  await Promise.race([
    new Promise((ready) => createInterface({ input: worker.stdout }).once("line", ready)),
    new Promise((_, reject) => worker.once("exit", () => reject(new Error("the worker ended")))),
  ]);

  const producer = await peer.producer(connections);
  const started = performance.now();
  const end = started + seconds * 1000;
  let produced = 0;
  const loop = async () => {
    while (performance.now() < end) await producer.enqueue(produced++);
  };
  await Promise.all(Array.from({ length: connections }, loop));
  await sleep(Math.max(0, end + 1000 - performance.now()));
  const consumed = produced - (await count(check, peer.unfinished));
  worker.stdin.end();
  await producer.close();
  return { produced, consumed, seconds };
}

async function idle(peer) {
  const check = await connect();
  let handled = false;
  const worker = await peer.work(() => (handled = true));
  const producer = await peer.producer(1);
  await producer.enqueue(0);
  await until(() => handled, "the warm-up job was not handled");
  while ((await count(check, peer.unfinished)) > 0) await sleep(20);
  await producer.close();
  await check.end();

  await written("ready\n");
  for await (const _ of process.stdin);
  await Promise.race([worker.stop(), sleep(5000)]);
}

/** Writes to a pipe are asynchronous: an exit before the last one would cut the result. */
function written(text) {
  return new Promise((done) => process.stdout.write(text, done));
}

async function connect() {
  const { Client } = load("pg");
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  return client;
}

async function count(client, sql) {
  const { rows } = await client.query({ text: sql, rowMode: "array" });
  return Number(rows[0][0]);
}

async function until(holds, otherwise) {
  const deadline = performance.now() + GIVE_UP_SECONDS * 1000;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(otherwise);
    await sleep(5);
  }
}
