"""The measures of ../README.md for peers that run on Python.

A driver hands `main` an object that wraps its library; what is timed, and how, is written here once
so that the peers can't differ.

Peer:
  unfinished                  SQL: how many jobs are not completed, as one number
  install()                   the schema; run twice does no harm
  enqueue_all(count)          jobs with the payloads 0 … count - 1, by the bulk call
  producer(connections)       an object with enqueue(n), one job and one transaction a call, and close()
  work(on_job)                one worker that calls on_job(n) in its handler; an object with stop()
"""

import argparse
import asyncio
import json
import os
import sys
import threading
import time
import traceback

import asyncpg
import uvloop

DATABASE_URL = os.environ["DATABASE_URL"]

# What a drain that stalls is given.
GIVE_UP_SECONDS = 120

# Standard output carries the result only: whatever a library prints goes to standard error.
_result = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def main(peer):
    """Runs the measure that the command line names and ends the process."""
    parser = argparse.ArgumentParser()
    measures = parser.add_subparsers(dest="measure", required=True)
    drain = measures.add_parser("drain")
    drain.add_argument("--jobs", type=int, required=True)
    drain.add_argument("--analyze", action="store_true")
    latency = measures.add_parser("latency")
    latency.add_argument("--jobs", type=int, required=True)
    steady = measures.add_parser("steady")
    steady.add_argument("--seconds", type=float, required=True)
    steady.add_argument("--connections", type=int, required=True)
    measures.add_parser("idle")
    arguments = vars(parser.parse_args())
    measure = globals()[f"_{arguments.pop('measure')}"]
    try:
        result = uvloop.run(_run(peer, measure, arguments))
    except Exception as error:
        traceback.print_exc()
        print(error, file=sys.stderr, flush=True)
        os._exit(1)
    if result is not None:
        _say(json.dumps(result))
    # A worker that takes its time to stop must not hold up the next measure.
    os._exit(0)


async def _run(peer, measure, arguments):
    await peer.install()
    return await measure(peer, **arguments)


async def _drain(peer, jobs, analyze):
    check = await asyncpg.connect(DATABASE_URL)
    await peer.enqueue_all(jobs)
    if analyze:
        await check.execute("ANALYZE")
    queued = await check.fetchval(peer.unfinished)
    if queued != jobs:
        raise RuntimeError(f"{queued} of {jobs} jobs were enqueued")

    handled = 0

    def on_job(_):
        nonlocal handled
        handled += 1

    started = time.perf_counter()
    await peer.work(on_job)
    # Before every handler has run there is nothing to find in the database: asking sooner would
    # only slow down what is measured.
    left = jobs
    while left > 0 and time.perf_counter() - started < GIVE_UP_SECONDS:
        if handled >= jobs:
            left = await check.fetchval(peer.unfinished)
        if left > 0:
            await asyncio.sleep(0.005)
    seconds = min(time.perf_counter() - started, GIVE_UP_SECONDS)
    if left > 0:
        left = await check.fetchval(peer.unfinished)
    return {"jobs": jobs - left, "seconds": seconds}


async def _latency(peer, jobs):
    handled_at = {}
    await peer.work(lambda n: handled_at.setdefault(n, time.perf_counter()))
    producer = await peer.producer(1)
    await producer.enqueue(jobs)
    await _until(lambda: jobs in handled_at, "the warm-up job was not handled")

    enqueued_at = []
    started = time.perf_counter()
    for n in range(jobs):
        await asyncio.sleep(max(0, started + 0.02 * n - time.perf_counter()))
        enqueued_at.append(time.perf_counter())
        await producer.enqueue(n)
    await _until(lambda: len(handled_at) > jobs, "not every job was handled")
    return {"latencies_ms": [(handled_at[n] - at) * 1000 for n, at in enumerate(enqueued_at)]}


async def _steady(peer, seconds, connections):
    check = await asyncpg.connect(DATABASE_URL)
    # The worker is a process of its own, so that the producers don't take its event loop.
    worker = await asyncio.create_subprocess_exec(
        sys.executable,
        sys.argv[0],
        "idle",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    if await worker.stdout.readline() != b"ready\n":
        raise RuntimeError("the worker ended")

    producer = await peer.producer(connections)
    produced = 0
    end = time.perf_counter() + seconds

    async def loop():
        nonlocal produced
        while time.perf_counter() < end:
            produced += 1
            await producer.enqueue(produced)

    await asyncio.gather(*(loop() for _ in range(connections)))
    await asyncio.sleep(max(0, end + 1 - time.perf_counter()))
    consumed = produced - await check.fetchval(peer.unfinished)
    worker.stdin.close()
    await producer.close()
    return {"produced": produced, "consumed": consumed, "seconds": seconds}


async def _idle(peer):
    check = await asyncpg.connect(DATABASE_URL)
    handled = asyncio.Event()
    worker = await peer.work(lambda _: handled.set())
    producer = await peer.producer(1)
    await producer.enqueue(0)
    await _until(handled.is_set, "the warm-up job was not handled")
    while await check.fetchval(peer.unfinished) > 0:
        await asyncio.sleep(0.02)
    await producer.close()
    await check.close()

    _say("ready")
    closed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait_for_close():
        sys.stdin.buffer.read()
        loop.call_soon_threadsafe(closed.set)

    threading.Thread(target=wait_for_close, daemon=True).start()
    await closed.wait()
    await asyncio.wait({asyncio.ensure_future(worker.stop())}, timeout=5)


def _say(line):
    print(line, file=_result, flush=True)


async def _until(holds, otherwise):
    deadline = time.perf_counter() + GIVE_UP_SECONDS
    while not holds():
        if time.perf_counter() > deadline:
            raise RuntimeError(otherwise)
        await asyncio.sleep(0.005)
