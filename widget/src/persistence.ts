/** Doing something until it succeeds: waits that grow, end early when the page or the network wakes up, and pause in a hidden tab. */
import { ApiError } from './api';
import { backoffMs, retryAfterMs } from './backoff';
import type { Surroundings } from './surroundings';

export type Task = 'deliver' | 'follow' | 'refresh' | 'watch';

/** How often a button's work is tried. */
const ATTEMPTS = 5;

export class Persistence {
  readonly #surroundings: Surroundings;
  readonly #onChange: () => void;
  readonly #unsubscribe: () => void;
  readonly #failing = new Set<Task>();
  readonly #wakers = new Set<() => void>();

  constructor(surroundings: Surroundings, onChange: () => void) {
    this.#surroundings = surroundings;
    this.#onChange = onChange;
    this.#unsubscribe = surroundings.onWake(() => this.#wake());
  }

  /** Whether anything failed last time and is being repeated. */
  get failing(): boolean {
    return this.#failing.size > 0;
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
        if (signal.aborted || (error instanceof ApiError && !error.transient)) break;
        failures = gains() === before ? failures + 1 : 1;
        this.#failing.add(task);
        this.#onChange();
        const asked = error instanceof ApiError ? retryAfterMs(error.retryAfter) : 0;
        await this.wait(Math.max(asked, this.backoff(failures)), signal);
      }
    }
    this.succeeded(task);
  }

  /** Tries what a button asked for a few times, as long as it may succeed: it can be pressed again. */
  async insist<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await work();
      } catch (error) {
        const final = error instanceof ApiError && !error.transient;
        if (final || attempt === ATTEMPTS || signal.aborted) throw error;
        await this.wait(this.backoff(attempt), signal);
      }
    }
  }

  succeeded(task: Task): void {
    if (this.#failing.delete(task)) this.#onChange();
  }

  backoff(failures: number): number {
    return backoffMs(failures, this.#surroundings.random());
  }

  async wait(ms: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    await new Promise<void>((resolve) => {
      const wake = () => {
        this.#wakers.delete(wake);
        signal.removeEventListener('abort', wake);
        resolve();
      };
      this.#wakers.add(wake);
      signal.addEventListener('abort', wake, { once: true });
      // In a hidden tab the wait goes on until somebody looks.
      timer = setTimeout(() => {
        if (this.#surroundings.visible()) wake();
      }, ms);
    });
    clearTimeout(timer);
  }

  dispose(): void {
    this.#unsubscribe();
    this.#wake();
  }

  #wake(): void {
    for (const wake of [...this.#wakers]) wake();
  }
}
