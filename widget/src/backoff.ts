/** Waits between attempts: doubling, with full jitter, so that the clients of a restarted server spread out. */

const FIRST_MS = 250;
const LONGEST_MS = 15_000;

/** The longest wait that a server is believed: a typing error there must not end a conversation. */
export const LONGEST_ASKED_MS = 300_000;

/** `failures` in a row so far, from 1; `random` is in [0, 1). At least half of the planned wait. */
export function backoffMs(failures: number, random: number): number {
  const planned = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(failures - 1, 16));
  return Math.round(planned * (0.5 + random / 2));
}

/**
 * What `Retry-After` asks for, in milliseconds: seconds, or a date as proxies send it. 0 without one.
 * `random` spreads those who were told the same, by a quarter and never to an earlier moment.
 */
export function retryAfterMs(header: string | null, now: number, random: number): number {
  if (header === null || header.trim() === '') return 0;
  const seconds = Number(header);
  const asked = Number.isNaN(seconds) ? Date.parse(header) - now : seconds * 1000;
  return asked > 0 ? Math.round(Math.min(asked, LONGEST_ASKED_MS) * (1 + random / 4)) : 0;
}
