"""Procrastinate 3.10, with the knobs that it documents: `concurrency`
(https://procrastinate.readthedocs.io, "Launch asynchronous jobs concurrently") and a connection pool
to match it. New jobs arrive by LISTEN/NOTIFY; the polling interval stays at its default of 5 s. Each
job is fetched and finished by statements of its own: there are no batches to tune. It runs on uvloop,
as the other peer in Python.
"""

import asyncio
import logging

import asyncpg
import procrastinate

import python as harness

CONCURRENCY = 20

logging.getLogger("procrastinate").setLevel(logging.ERROR)


class Deferrer:
    """An application with one task, on a pool of its own."""

    def __init__(self, connections, on_job=None):
        connector = procrastinate.PsycopgConnector(
            conninfo=harness.DATABASE_URL, min_size=connections, max_size=connections
        )
        self.app = procrastinate.App(connector=connector)

        @self.app.task(name="noop")
        async def noop(n):
            on_job(n)

        self.task = noop

    async def enqueue(self, n):
        await self.task.defer_async(n=n)

    async def close(self):
        await self.app.close_async()


class Worker:
    def __init__(self, deferrer):
        self.deferrer = deferrer
        self.running = asyncio.create_task(
            deferrer.app.run_worker_async(concurrency=CONCURRENCY, install_signal_handlers=False)
        )

    async def stop(self):
        self.running.cancel()
        await asyncio.wait({self.running})
        await self.deferrer.close()


class Peer:
    unfinished = "SELECT count(*) FROM procrastinate_jobs WHERE status <> 'succeeded'"

    async def install(self):
        connection = await asyncpg.connect(harness.DATABASE_URL)
        installed = await connection.fetchval("SELECT to_regclass('procrastinate_jobs')")
        await connection.close()
        if installed is None:
            deferrer = await self.producer(1)
            await deferrer.app.schema_manager.apply_schema_async()
            await deferrer.close()

    async def enqueue_all(self, count):
        deferrer = await self.producer(1)
        await deferrer.task.batch_defer_async(*({"n": n} for n in range(count)))
        await deferrer.close()

    async def producer(self, connections):
        deferrer = Deferrer(connections)
        await deferrer.app.open_async()
        return deferrer

    async def work(self, on_job):
        deferrer = Deferrer(CONCURRENCY + 2, on_job)
        await deferrer.app.open_async()
        return Worker(deferrer)


harness.main(Peer())
