/** Waits between attempts: doubling, with full jitter, so that the clients of a restarted server spread out. */

const FIRST_MS = 250;
const LONGEST_MS = 15_000;

/** `failures` in a row so far, from 1; `random` is in [0, 1). At least half of the planned wait. */
export function backoffMs(failures: number, random: number): number {
  const planned = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(failures - 1, 16));
  return Math.round(planned * (0.5 + random / 2));
}

/** What the server asks for, in milliseconds; bounded, because a typing error there must not end a conversation. */
export function retryAfterMs(header: string | null): number {
  const seconds = header === null ? NaN : Number(header);
  return Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds * 1000, 60_000) : 0;
}
