// Graphile Worker 0.18, tuned as https://worker.graphile.org/docs/performance does for its own
// figures: 24 concurrent jobs on a pool of 25 connections, a local queue of 500 jobs, completions
// and failures batched without a delay. The log line of each successful job is off, as in the
// project's own performance test. The poll interval stays at its default of 2 s: it finds jobs that
// are due later and retries; new jobs arrive by NOTIFY.

import { databaseUrl, load, measure } from "../harness/node.mjs";

process.env.NO_LOG_SUCCESS = "1";
const { Logger, makeWorkerUtils, run, runMigrations } = load("graphile-worker");

const logger = new Logger(() => (level, message) => {
  if (level === "error" || level === "warning") console.error(message);
});

const preset = {
  worker: {
    connectionString: databaseUrl,
    concurrentJobs: 24,
    maxPoolSize: 25,
    localQueue: { size: 500 },
    completeJobBatchDelay: 0,
    failJobBatchDelay: 0,
    logger,
  },
};

await measure({
  unfinished: "SELECT count(*) FROM graphile_worker._private_jobs",

  install: () => runMigrations({ preset }),

  async enqueueAll(count) {
    const utils = await makeWorkerUtils({ preset });
    await utils.addJobs(
      Array.from({ length: count }, (_, n) => ({ identifier: "noop", payload: { n } })),
    );
    await utils.release();
  },

  async producer(connections) {
    const utils = await makeWorkerUtils({ connectionString: databaseUrl, maxPoolSize: connections, logger });
    return {
      enqueue: (n) => utils.addJob("noop", { n }),
      close: () => utils.release(),
    };
  },

  work: (onJob) =>
    run({ preset, noHandleSignals: true, taskList: { noop: async (payload) => onJob(payload) } }),
});
