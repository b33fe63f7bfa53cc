// pg-boss 12, tuned by what https://pgboss.io/api/workers offers for throughput and latency:
// LISTEN/NOTIFY wakes the worker (`useListenNotify`, the queue's `notify`), so that polling is the
// 30 s backstop; large batches; `burstWhenBatchFull` fetches the next batch at once while there is a
// backlog; `localConcurrency` lets one batch be fetched while another is completed. Cron is off
// (`schedule: false`): nothing here needs it, and it would poll. Maintenance (`supervise`) stays on:
// without it an abandoned job is never retried. The version is 12.35, because 12.38 asks for a
// release of rrule-temporal that the registry did not have.

import { databaseUrl, load, measure } from "../harness/node.mjs";

const { PgBoss } = load("pg-boss");

const QUEUE = "noop";
const BATCH = 2000;
const WORKERS = 2;

async function start(options) {
  const boss = new PgBoss({ connectionString: databaseUrl, schedule: false, ...options });
  boss.on("error", (error) => console.error(error));
  boss.on("warning", (warning) => console.error(warning));
  await boss.start();
  return boss;
}

const sender = (connections) => start({ max: connections, supervise: false });

await measure({
  unfinished: `SELECT count(*) FROM pgboss.job WHERE name = '${QUEUE}' AND state <> 'completed'`,

  async install() {
    const boss = await sender(1);
    await boss.createQueue(QUEUE, { notify: true });
    await boss.stop();
  },

  async enqueueAll(count) {
    const boss = await sender(1);
    await boss.insert(
      QUEUE,
      Array.from({ length: count }, (_, n) => ({ data: { n } })),
    );
    await boss.stop();
  },

  async producer(connections) {
    const boss = await sender(connections);
    return {
      enqueue: (n) => boss.send(QUEUE, { n }),
      close: () => boss.stop(),
    };
  },

  async work(onJob) {
    const boss = await start({ max: WORKERS + 1, useListenNotify: true });
    const options = { batchSize: BATCH, burstWhenBatchFull: true, localConcurrency: WORKERS };
    await boss.work(QUEUE, options, async (jobs) => {
      for (const job of jobs) onJob(job.data);
    });
    return boss;
  },
});
