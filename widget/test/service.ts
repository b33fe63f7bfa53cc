/** A service for one test: answers `fetch` as told, remembers what it was asked. */
import { vi } from 'vitest';
import { Api } from '../src/api';
import { Chat, type Snapshot } from '../src/chat';
import { CredentialStore, type KeyValueStore } from '../src/credentials';
import { Keepsakes } from '../src/keepsakes';
import { Outbox } from '../src/outbox';
import type { Surroundings } from '../src/surroundings';

export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly headers: Headers;
  readonly body: Record<string, unknown> | null;
  readonly signal: AbortSignal | null;
}

type Answer = Response | 'network error' | 'silence';

export class Service {
  readonly asked: Asked[] = [];
  /** What comes next, in order; without one, the request fails as the network does. */
  #answers: ((asked: Asked) => Answer)[] = [];

  then(...answers: (Answer | ((asked: Asked) => Answer))[]): this {
    this.#answers.push(...answers.map((answer) => (typeof answer === 'function' ? answer : () => answer)));
    return this;
  }

  readonly fetch: typeof fetch = (input, init) => {
    const url = new URL(String(input));
    const asked: Asked = {
      method: init?.method ?? 'GET',
      path: url.pathname + url.search,
      headers: new Headers(init?.headers),
      body: typeof init?.body === 'string' ? (JSON.parse(init.body) as Record<string, unknown>) : null,
      signal: init?.signal ?? null,
    };
    this.asked.push(asked);
    const answer = this.#answers.shift()?.(asked) ?? 'network error';
    if (answer === 'network error') return Promise.reject(new TypeError('Failed to fetch'));
    if (answer !== 'silence') return Promise.resolve(answer);
    return new Promise((_resolve, reject) => {
      init?.signal?.addEventListener('abort', () => reject(new DOMException('aborted', 'AbortError')));
    });
  };

  /** The requests as `METHOD /path`, without query. */
  get paths(): string[] {
    return this.asked.map(({ method, path }) => `${method} ${path.replace(/\?.*/, '')}`);
  }
}

export function json(body: unknown, status = 200, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(body), { status, headers: { 'content-type': 'application/json', ...headers } });
}

export function problem(status: number, code: string, headers: Record<string, string> = {}): Response {
  return json({ status, code }, status, headers);
}

export function noContent(): Response {
  return new Response(null, { status: 204 });
}

/** A stream that is written to by hand. */
export class Stream {
  readonly response: Response;
  #controller!: ReadableStreamDefaultController<Uint8Array>;
  #seq = 0;
  #attempt: number;
  readonly #turn: number;
  cancelled = false;

  constructor(turn: number, attempt = 1, seq = 0) {
    this.#turn = turn;
    this.#attempt = attempt;
    this.#seq = seq;
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.#controller = controller;
      },
      cancel: () => {
        this.cancelled = true;
      },
    });
    this.response = new Response(body, { headers: { 'content-type': 'text/event-stream' } });
    this.raw(': ok\n\n');
  }

  raw(text: string): this {
    this.#controller.enqueue(new TextEncoder().encode(text));
    return this;
  }

  send(...chunks: object[]): this {
    for (const chunk of chunks) this.raw(`id: ${this.#turn}-${this.#attempt}-${++this.#seq}\ndata: ${JSON.stringify(chunk)}\n\n`);
    return this;
  }

  begin(): this {
    return this.send({ type: 'start', messageId: `a${this.#turn}` }, { type: 'start-step' }, { type: 'text-start', id: 't' });
  }

  say(delta: string): this {
    return this.send({ type: 'text-delta', id: 't', delta });
  }

  finish(): this {
    this.send({ type: 'text-end', id: 't' }, { type: 'finish-step' }, { type: 'finish', finishReason: 'stop' });
    this.raw('data: [DONE]\n\n');
    this.#controller.close();
    return this;
  }

  cut(): this {
    this.#controller.error(new TypeError('network error'));
    return this;
  }
}

export class MemoryStore implements KeyValueStore {
  readonly map = new Map<string, string>();
  getItem = (key: string) => this.map.get(key) ?? null;
  setItem = (key: string, value: string) => void this.map.set(key, value);
  removeItem = (key: string) => void this.map.delete(key);
}

export class Page implements Surroundings {
  isVisible = true;
  readonly #callbacks = new Set<() => void>();
  visible = () => this.isVisible;
  random = () => 0;
  onWake(callback: () => void): () => void {
    this.#callbacks.add(callback);
    return () => this.#callbacks.delete(callback);
  }
  wake(): void {
    for (const callback of [...this.#callbacks]) callback();
  }
  get listeners(): number {
    return this.#callbacks.size;
  }
}

export const TIMEOUT_MS = 10_000;

export function openChat(service: Service, stores = { site: new MemoryStore(), tab: new MemoryStore() }, page = new Page()) {
  const credentials = new CredentialStore(stores.site, 'https://api.example/chat');
  let snapshot: Snapshot;
  const announce = vi.fn();
  const chat = new Chat({
    api: new Api({ url: 'https://api.example/chat', widgetToken: 'site', locale: 'en', pageUrl: () => 'https://www.example/', fetch: service.fetch }),
    credentials,
    outbox: new Outbox(stores.tab, 'outbox'),
    keepsakes: new Keepsakes(stores.tab, 'kept'),
    surroundings: page,
    streamTimeoutMs: TIMEOUT_MS,
    onChange: (next) => (snapshot = next),
    announce,
  });
  snapshot = chat.snapshot;
  const outline = () =>
    snapshot.conversation.messages.map((message) =>
      message.role === 'user' ? `${message.text} (${message.delivery})` : `${message.status}: ${message.parts.map((part) => part.text).join('')}`,
    );
  return { chat, stores, page, credentials, announce, outline, snapshot: () => snapshot };
}

/** Lets everything happen that is due now or within `ms`. Bodies are read in macrotasks of their own, which are not faked. */
export async function pass(ms = 0): Promise<void> {
  await settle();
  await vi.advanceTimersByTimeAsync(ms);
  await settle();
}

async function settle(): Promise<void> {
  for (let tick = 0; tick < 8; tick++) await new Promise((resolve) => setImmediate(resolve));
}

