/**
 * Server-sent events out of a `fetch` body. EventSource can't be used: it can't send the session's
 * secret as a header, and the secret must never stand in an address.
 */

/** One dispatched event. */
export interface SseEvent {
  /** The last `id:` seen so far; empty before the first. Set by this event or by an earlier one. */
  readonly lastEventId: string;
  /** Whether this very event carried an `id:`. */
  readonly ownId: boolean;
  readonly data: string;
}

/** The stream holds an event larger than any that the service sends. */
export class SseOverflow extends Error {
  constructor() {
    super('an event of the stream is too large');
    this.name = 'SseOverflow';
  }
}

/** The largest event in UTF-16 units; a delta is some hundred, a long source list some thousand. */
const MAX_EVENT = 1024 * 1024;

/** A parser after the HTML standard's "event stream interpretation"; feed it text cut anywhere. */
export class SseParser {
  #buffer = '';
  #data: string[] = [];
  #size = 0;
  #id: string | null = null;
  #lastEventId = '';
  #atStart = true;

  /** The events that `text` completes. */
  push(text: string): SseEvent[] {
    if (this.#atStart && text.length > 0) {
      this.#atStart = false;
      if (text.charCodeAt(0) === 0xfeff) text = text.slice(1);
    }
    this.#buffer += text;
    const events: SseEvent[] = [];
    let start = 0;
    for (;;) {
      const end = this.#endOfLine(start);
      if (end === null) break;
      const event = this.#line(this.#buffer.slice(start, end.at));
      if (event) events.push(event);
      start = end.next;
    }
    this.#buffer = this.#buffer.slice(start);
    if (this.#buffer.length + this.#size > MAX_EVENT) throw new SseOverflow();
    return events;
  }

  #endOfLine(start: number): { at: number; next: number } | null {
    const buffer = this.#buffer;
    for (let at = start; at < buffer.length; at++) {
      const code = buffer.charCodeAt(at);
      if (code === 10) return { at, next: at + 1 };
      if (code === 13) {
        // A CR at the end may be the first half of a CRLF whose LF has not arrived.
        if (at + 1 === buffer.length) return null;
        return { at, next: buffer.charCodeAt(at + 1) === 10 ? at + 2 : at + 1 };
      }
    }
    return null;
  }

  #line(line: string): SseEvent | null {
    if (line === '') return this.#dispatch();
    const colon = line.indexOf(':');
    if (colon === 0) return null;
    const field = colon === -1 ? line : line.slice(0, colon);
    let value = colon === -1 ? '' : line.slice(colon + 1);
    if (value.startsWith(' ')) value = value.slice(1);
    if (field === 'data') {
      this.#data.push(value);
      this.#size += value.length + 1;
      if (this.#size > MAX_EVENT) throw new SseOverflow();
    } else if (field === 'id' && !value.includes('\0')) {
      this.#id = value;
    }
    return null;
  }

  #dispatch(): SseEvent | null {
    const ownId = this.#id !== null;
    if (this.#id !== null) this.#lastEventId = this.#id;
    this.#id = null;
    if (this.#data.length === 0) return null;
    const event = { lastEventId: this.#lastEventId, ownId, data: this.#data.join('\n') };
    this.#data = [];
    this.#size = 0;
    return event;
  }
}
