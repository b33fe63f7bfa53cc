/**
 * The line above the composer: what is not as usual, and what becomes of the visitor's message.
 * Screen readers are told once, when that changes; the time that is left is only shown.
 */
import { h, set, setText } from './dom';
import { link } from './markdown';
import type { Cause, Obstacle } from './persistence';
import type { WaitWords, Words } from './words';

export interface BannerState {
  readonly obstacle: Obstacle | null;
  readonly stalled: boolean;
  /** A limit that was reached, in words. */
  readonly limit: string | null;
}

export interface BannerOptions {
  readonly words: Words;
  readonly waitWords: WaitWords;
  readonly fallbackUrl: string | null;
}

/** Longer waits are not counted down, in seconds. */
const COUNTED = 60;

/** The countdown's step in seconds: calm, and never in the singular. */
const STEP = 5;

/** How often the time that is left is looked at, in milliseconds. */
const TICK_MS = 1000;

export class Banner {
  /** Is there before its text is, or screen readers would miss it. */
  readonly element: HTMLElement;
  readonly #options: BannerOptions;
  readonly #box: HTMLElement;
  readonly #before = h('span');
  readonly #when = h('span', { 'aria-live': 'off' });
  readonly #after = h('span');
  readonly #other = h('span', { 'aria-live': 'off' });
  #state: BannerState = { obstacle: null, stalled: false, limit: null };
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(options: BannerOptions) {
    this.#options = options;
    this.#box = h('div', { class: 'banner', hidden: true }, this.#before, this.#when, this.#after, this.#other);
    this.element = h('div', { role: 'status' }, this.#box);
  }

  show(state: BannerState): void {
    this.#state = state;
    this.#draw();
  }

  #draw(): void {
    clearTimeout(this.#timer);
    const { words, waitWords, fallbackUrl } = this.#options;
    const { obstacle, stalled, limit } = this.#state;
    const text = obstacle ? sentence(obstacle, words, waitWords) : stalled ? words.slow : (limit ?? '');
    // The place of the time in the sentence is the language's.
    const [before = '', after] = obstacle ? text.split('#') : [text];
    setText(this.#before, before);
    setText(this.#when, obstacle && after !== undefined ? timeLeft(obstacle.until - Date.now(), waitWords) : '');
    setText(this.#after, after ?? '');
    const offers = (stalled || limit !== null) && fallbackUrl !== null;
    if (!offers) this.#other.replaceChildren();
    else if (!this.#other.hasChildNodes()) this.#other.append(' ', link(fallbackUrl, words.fallback));
    set(this.#box, { hidden: text === '' });
    if (after !== undefined) this.#timer = setTimeout(() => this.element.isConnected && this.#draw(), TICK_MS);
  }
}

/** `#` stands for the time. */
function sentence({ cause, task }: Obstacle, words: Words, waits: WaitWords): string {
  if (cause === 'connection') return words.reconnecting;
  const becomes = task === 'deliver' ? waits.sends : waits.continues;
  const told: Readonly<Record<Exclude<Cause, 'connection'>, string>> = {
    outage: `${waits.outage} ${becomes}`,
    crowd: `${waits.crowd} ${becomes}`,
    queue: waits.queue,
  };
  return told[cause];
}

/** Rather too long than too short. */
function timeLeft(ms: number, { moments, seconds, soon }: WaitWords): string {
  const left = Math.ceil(ms / 1000 / STEP) * STEP;
  return left > COUNTED ? soon : left > STEP ? seconds(left) : moments;
}
