/** The HTTP API as the widget uses it. Knows addresses, headers and outcomes; never retries. */
import type { Credentials } from './credentials';
import { formatCursor, type Cursor } from './cursor';
import { asCount, asObject, asString } from './json';
import { decodeHandoff, decodeTranscript, type Details, type Handoff, type Rating, type Transcript } from './protocol';

export interface Outgoing {
  readonly id: string;
  readonly text: string;
  /** The answer that failed and is wanted again. */
  readonly again?: { readonly answerId: string | null };
}

/** Why a request had no good answer. */
export class ApiError extends Error {
  /** `null`: no answer at all. */
  readonly status: number | null;
  /** The problem's stable name, empty when there is none. */
  readonly code: string;
  readonly retryAfter: string | null;

  constructor(status: number | null, code = '', retryAfter: string | null = null) {
    super(status === null ? 'the service could not be reached' : `the service answered ${status} ${code}`.trim());
    this.name = 'ApiError';
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }

  /** Whether the same request may succeed later. */
  get transient(): boolean {
    return this.status === null || this.status >= 500 || this.status === 408 || this.status === 425 || this.status === 429;
  }
}

export interface ApiOptions {
  /** The address of `POST /chat`. */
  readonly url: string;
  readonly widgetToken: string;
  readonly locale: string;
  /** The page that the visitor is on, asked for at each message. */
  readonly pageUrl: () => string;
  readonly fetch: typeof fetch;
}

/** How long the head of a response may take, in milliseconds; the service answers before any model work. */
const HEAD_LIMIT_MS = 15_000;

/** The largest body in bytes that the service takes (01-product, limits). */
const MAX_BODY = 16 * 1024;

/** Longer addresses are not kept by the service. */
const MAX_PAGE_URL = 2048;

export class Api {
  readonly #options: ApiOptions;

  constructor(options: ApiOptions) {
    this.#options = options;
  }

  /** Posts a message; the response's body is the turn's stream. */
  async post(session: Credentials, message: Outgoing, signal: AbortSignal): Promise<Response> {
    return this.#send(session, '?reset=event', {
      method: 'POST',
      headers: { Accept: 'text/event-stream', 'Content-Type': 'application/json' },
      body: this.#body(session, message),
    }, signal);
  }

  /** Posts a message behind a running turn and gives the number of its own. */
  async enqueue(session: Credentials, message: Outgoing, signal: AbortSignal): Promise<number | null> {
    const response = await this.#send(session, '', {
      method: 'POST',
      headers: { Accept: 'application/json', 'Content-Type': 'application/json' },
      body: this.#body(session, message),
    }, signal);
    return asCount(asObject(await readJson(response))?.turn);
  }

  /** Joins a stream behind `cursor`, or at the current attempt's beginning; `null`: nothing to stream. */
  async stream(session: Credentials, cursor: Cursor | null, signal: AbortSignal): Promise<Response | null> {
    const response = await this.#send(session, `/${encodeURIComponent(session.sessionId)}/stream?reset=event`, {
      headers: { Accept: 'text/event-stream', ...(cursor && { 'Last-Event-ID': formatCursor(cursor) }) },
    }, signal);
    return response.status === 204 ? null : response;
  }

  /** Waits for what comes behind the turn `known`, and is told who speaks; `null`: nobody is expected. */
  async follow(session: Credentials, known: number, signal: AbortSignal): Promise<Response | null> {
    const response = await this.#send(session, `/${encodeURIComponent(session.sessionId)}/stream?reset=event&follow=${known}`, {
      headers: { Accept: 'text/event-stream' },
    }, signal);
    return response.status === 204 ? null : response;
  }

  async transcript(session: Credentials, signal: AbortSignal): Promise<Transcript> {
    const response = await this.#send(session, `/${encodeURIComponent(session.sessionId)}`, {
      headers: { Accept: 'application/json' },
    }, signal);
    const transcript = decodeTranscript(await readJson(response));
    if (!transcript) throw new ApiError(502);
    return transcript;
  }

  async cancel(session: Credentials, turn: number, signal: AbortSignal): Promise<void> {
    const path = `/${encodeURIComponent(session.sessionId)}/turns/${turn}/cancel`;
    await this.#send(session, path, { method: 'POST' }, signal);
  }

  async close(session: Credentials, signal: AbortSignal): Promise<void> {
    const path = `/${encodeURIComponent(session.sessionId)}/close`;
    await this.#send(session, path, { method: 'POST' }, signal);
  }

  /** Leaves contact details, with the visitor's consent. The same again changes nothing. */
  async contact(session: Credentials, details: Details, signal: AbortSignal): Promise<Handoff> {
    const response = await this.#postJson(session, 'contact', { ...details, consent: true }, signal);
    const handoff = decodeHandoff(await readJson(response));
    if (!handoff) throw new ApiError(502);
    return handoff;
  }

  async rate(session: Credentials, turn: number, rating: Rating, comment: string, signal: AbortSignal): Promise<void> {
    await this.#postJson(session, 'feedback', { turn, rating, ...(comment !== '' && { comment }) }, signal);
  }

  #postJson(session: Credentials, action: string, body: object, signal: AbortSignal): Promise<Response> {
    return this.#send(session, `/${encodeURIComponent(session.sessionId)}/${action}`, {
      method: 'POST',
      headers: { Accept: 'application/json', 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
    }, signal);
  }

  #body(session: Credentials, { id, text, again }: Outgoing): string {
    const { locale, pageUrl } = this.#options;
    const context = { page_url: pageUrl().slice(0, MAX_PAGE_URL), locale, on_busy: 'enqueue' };
    if (!again) {
      const body = { session_id: session.sessionId, message: text, message_id: id, ...context };
      const json = JSON.stringify(body);
      // The address is context; a long message is what the visitor wants to say.
      return new Blob([json]).size > MAX_BODY ? JSON.stringify({ ...body, page_url: undefined }) : json;
    }
    // Only the AI SDK's form has a word for "answer this again".
    return JSON.stringify({
      id: session.sessionId,
      messages: [{ id, role: 'user', parts: [{ type: 'text', text }] }],
      trigger: 'regenerate-message',
      ...(again.answerId !== null && { messageId: again.answerId }),
      ...context,
    });
  }

  /** The response, once its head is there; `signal` ends its body as well. */
  async #send(session: Credentials, path: string, request: ApiRequest, signal: AbortSignal): Promise<Response> {
    const { url, widgetToken, fetch } = this.#options;
    // `AbortSignal.any` and `.timeout` would do this, but are missing in browsers that are still about.
    const abort = new AbortController();
    const cancel = () => abort.abort();
    if (signal.aborted) cancel();
    signal.addEventListener('abort', cancel, { once: true });
    const timer = setTimeout(cancel, HEAD_LIMIT_MS);
    let response: Response;
    try {
      response = await fetch(url + path, {
        ...request,
        headers: { ...request.headers, Authorization: `Bearer ${session.secret}`, 'X-Widget-Token': widgetToken },
        // No cookies: the bearer secret is all there is.
        credentials: 'omit',
        cache: 'no-store',
        signal: abort.signal,
      });
    } catch {
      signal.removeEventListener('abort', cancel);
      throw new ApiError(null);
    } finally {
      clearTimeout(timer);
    }
    if (response.ok) return response;
    const problem = asObject(await readJson(response).catch(() => null));
    throw new ApiError(response.status, asString(problem?.code) ?? '', response.headers.get('Retry-After'));
  }
}

interface ApiRequest {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

async function readJson(response: Response): Promise<unknown> {
  try {
    return await response.json();
  } catch {
    // Cut, or something between us and the service that answers with a page of its own.
    throw new ApiError(null);
  }
}
