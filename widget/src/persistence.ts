/**
 * Doing something until it succeeds: waits that grow, end early when the page or the network wakes
 * up, and pause in a hidden tab. What the service asks for with `Retry-After` is waited for in any case.
 */
import { ApiError } from './api';
import { backoffMs, retryAfterMs } from './backoff';
import type { Surroundings } from './surroundings';

/** `button`: what a press of a button asked for. */
export type Task = 'deliver' | 'follow' | 'refresh' | 'watch' | 'button';

/**
 * Why a task has to be repeated, the most telling first: the service is not reached, it can't answer,
 * it asks to come more slowly, or it wants to answer the visitor's earlier messages first.
 */
const CAUSES = ['connection', 'outage', 'crowd', 'queue'] as const;
export type Cause = (typeof CAUSES)[number];

/** What is in a task's way. */
export interface Obstacle {
  readonly task: Task;
  readonly cause: Cause;
  /** The next attempt, in milliseconds since 1970. */
  readonly until: number;
}

/** How often a button's work is tried. */
const ATTEMPTS = 5;

/** Nobody looks at a button for longer; it can be pressed again. Milliseconds. */
const BUTTON_PATIENCE_MS = 30_000;

interface Pause {
  readonly ms: number;
  /** So much of it the service asked for. */
  readonly askedMs: number;
  /** Goes on in a hidden tab. */
  readonly evenHidden: boolean;
}

export class Persistence {
  readonly #surroundings: Surroundings;
  readonly #onChange: () => void;
  readonly #unsubscribe: () => void;
  readonly #obstacles = new Map<Task, Obstacle>();
  readonly #wakers = new Set<() => void>();
  #disposed = false;

  constructor(surroundings: Surroundings, onChange: () => void) {
    this.#surroundings = surroundings;
    this.#onChange = onChange;
    this.#unsubscribe = surroundings.onWake(() => this.#wake());
  }

  /** What is worth telling of what failed last time and is being repeated. */
  get obstacle(): Obstacle | null {
    const all = [...this.#obstacles.values()];
    return all.sort((one, other) => CAUSES.indexOf(one.cause) - CAUSES.indexOf(other.cause))[0] ?? null;
  }

  /** What is in the way of this task. */
  obstacleOf(task: Task): Obstacle | null {
    return this.#obstacles.get(task) ?? null;
  }

  /**
   * Repeats `work` until it succeeds, can't succeed, or `signal` ends it. `gains` counts what the
   * work brought: as long as that grows, the waits stay short.
   */
  async until(task: Task, signal: AbortSignal, gains: () => number, work: () => Promise<void>): Promise<void> {
    let failures = 0;
    while (!signal.aborted) {
      const before = gains();
      try {
        await work();
        break;
      } catch (error) {
        if (signal.aborted || isFinal(error)) break;
        failures = gains() === before ? failures + 1 : 1;
        const pause = this.#pauseAfter(error, failures, task);
        this.#failed(task, error, pause);
        await this.#wait(pause, signal);
      }
    }
    this.succeeded(task);
  }

  /** Tries what a button asked for a few times, as long as it may succeed soon: it can be pressed again. */
  async insist<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    try {
      for (let attempt = 1; ; attempt++) {
        try {
          return await work();
        } catch (error) {
          const pause = this.#pauseAfter(error, attempt, 'button');
          if (isFinal(error) || attempt === ATTEMPTS || pause.askedMs > BUTTON_PATIENCE_MS || signal.aborted) throw error;
          this.#failed('button', error, pause);
          await this.#wait(pause, signal);
        }
      }
    } finally {
      this.succeeded('button');
    }
  }

  succeeded(task: Task): void {
    if (this.#obstacles.delete(task)) this.#onChange();
  }

  dispose(): void {
    this.#disposed = true;
    this.#unsubscribe();
    this.#wake();
  }

  #failed(task: Task, error: unknown, { ms }: Pause): void {
    this.#obstacles.set(task, { task, cause: causeOf(error), until: Date.now() + ms });
    this.#onChange();
  }

  #pauseAfter(error: unknown, failures: number, task: Task): Pause {
    const { random } = this.#surroundings;
    const header = error instanceof ApiError ? error.retryAfter : null;
    const askedMs = retryAfterMs(header, Date.now(), random());
    // The visitor was told that the message goes out by itself, and may read another page meanwhile.
    const evenHidden = task === 'deliver' && causeOf(error) === 'crowd' && askedMs > 0;
    return { ms: Math.max(askedMs, backoffMs(failures, random())), askedMs, evenHidden };
  }

  async #wait({ ms, askedMs, evenHidden }: Pause, signal: AbortSignal): Promise<void> {
    if (signal.aborted || this.#disposed) return;
    const notBefore = Date.now() + askedMs;
    // The timer counts as well as the clock, which may be set back.
    let isDue = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    await new Promise<void>((resolve) => {
      const end = () => {
        this.#wakers.delete(wake);
        signal.removeEventListener('abort', end);
        resolve();
      };
      const wake = () => {
        if (isDue || this.#disposed || Date.now() >= notBefore) end();
      };
      this.#wakers.add(wake);
      signal.addEventListener('abort', end, { once: true });
      timer = setTimeout(() => {
        isDue = true;
        // In a hidden tab the wait goes on until somebody looks.
        if (evenHidden || this.#surroundings.visible()) end();
      }, ms);
    });
    clearTimeout(timer);
  }

  #wake(): void {
    for (const wake of [...this.#wakers]) wake();
  }
}

function isFinal(error: unknown): boolean {
  return error instanceof ApiError && !error.transient;
}

function causeOf(error: unknown): Cause {
  const { status, code } = error instanceof ApiError ? error : { status: null, code: '' };
  if (status === 429) return code === 'too_many_turns' ? 'queue' : 'crowd';
  return status !== null && status >= 500 ? 'outage' : 'connection';
}
