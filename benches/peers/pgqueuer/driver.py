"""PgQueuer 1.6, tuned as docs/guides/performance-tuning.md of the project says
(https://pgqueuer.readthedocs.io): large batches for short jobs, the recommended autovacuum settings
applied (`pgq autovac`), a connection of its own for the queue manager and a pool for producers, on
uvloop as the project's command line runs it. Durability stays at the default, `durable`: the faster
levels lose jobs. The dequeue time-out stays at its default of 30 s: new jobs arrive by NOTIFY.
"""

import asyncio
import logging

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.queries import Queries

import python as harness

BATCH = 1000

logging.getLogger("pgqueuer").setLevel(logging.WARNING)


class Producer:
    def __init__(self, pool):
        self.pool = pool
        self.queries = Queries(AsyncpgPoolDriver(pool))

    async def enqueue(self, n):
        await self.queries.enqueue("noop", str(n).encode())

    async def close(self):
        await self.pool.close()


class Worker:
    def __init__(self, pgq, task):
        self.pgq = pgq
        self.task = task

    async def stop(self):
        self.pgq.shutdown.set()
        await self.task


class Peer:
    unfinished = "SELECT count(*) FROM pgqueuer"

    async def install(self):
        connection = await asyncpg.connect(harness.DATABASE_URL)
        queries = Queries(AsyncpgDriver(connection))
        if not await queries.schema_is_installed():
            await queries.install()
            await queries.optimize_autovacuum()
        await connection.close()

    async def enqueue_all(self, count):
        producer = await self.producer(1)
        payloads = [str(n).encode() for n in range(count)]
        await producer.queries.enqueue(["noop"] * count, payloads, [0] * count)
        await producer.close()

    async def producer(self, connections):
        return Producer(
            await asyncpg.create_pool(
                harness.DATABASE_URL, min_size=connections, max_size=connections
            )
        )

    async def work(self, on_job):
        pgq = PgQueuer(AsyncpgDriver(await asyncpg.connect(harness.DATABASE_URL)))

        @pgq.entrypoint("noop")
        async def noop(job):
            on_job(int(job.payload))

        return Worker(pgq, asyncio.create_task(pgq.run(batch_size=BATCH)))


harness.main(Peer())
