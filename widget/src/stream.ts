/** Reads the frames of one response body. */
import { parseCursor } from './cursor';
import { decodeChunk, DONE, type Frame } from './protocol';
import { SseParser } from './sse';

/**
 * The service sends a comment every 15 s; a body that is silent for three of them is dead, even when
 * the browser has not noticed.
 */
export const SILENCE_LIMIT_MS = 45_000;

export interface StreamReader {
  readonly onFrame: (frame: Frame) => void;
  /** The wait until silence counts as a cut, in milliseconds. */
  readonly silenceLimitMs: number;
  /** Calls back when the page comes back to life, see `Surroundings.onWake`. */
  readonly onWake: (callback: () => void) => () => void;
  readonly signal: AbortSignal;
}

/** A page that was asleep missed its timers: a body that owes a keep-alive comment by then is given up. */
const STALE_MS = 20_000;

/** `done`: the service said that nothing follows. `cut`: everything else; resume behind the last frame. */
export async function readStream(response: Response, options: StreamReader): Promise<'done' | 'cut'> {
  const reader = response.body?.getReader();
  if (!reader) return 'cut';
  const parser = new SseParser();
  const decoder = new TextDecoder();
  const cancel = () => void reader.cancel().catch(() => undefined);
  let watchdog = setTimeout(cancel, options.silenceLimitMs);
  let lastRead = Date.now();
  const unsubscribe = options.onWake(() => {
    if (Date.now() - lastRead > STALE_MS) cancel();
  });
  options.signal.addEventListener('abort', cancel, { once: true });
  try {
    while (!options.signal.aborted) {
      const { value, done } = await reader.read();
      if (done) return 'cut';
      lastRead = Date.now();
      clearTimeout(watchdog);
      watchdog = setTimeout(cancel, options.silenceLimitMs);
      for (const event of parser.push(decoder.decode(value, { stream: true }))) {
        if (event.data === DONE) return 'done';
        const chunk = decodeChunk(event.data);
        if (chunk) options.onFrame({ cursor: event.ownId ? parseCursor(event.lastEventId) : null, chunk });
      }
    }
    return 'cut';
  } catch {
    // A network error, or an event that no service of ours sends: both are healed by resuming.
    return 'cut';
  } finally {
    clearTimeout(watchdog);
    unsubscribe();
    options.signal.removeEventListener('abort', cancel);
    cancel();
  }
}
