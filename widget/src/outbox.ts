/**
 * Messages that the visitor has sent and the service has not taken yet. They survive a reload of the
 * tab and are posted again under the same id; what was taken is not kept in the browser.
 */
import type { Message } from './conversation';
import type { KeyValueStore } from './credentials';
import { asArray, asObject, asString } from './json';

export class Outbox {
  readonly #store: KeyValueStore;
  readonly #key: string;
  #written = '[]';

  constructor(store: KeyValueStore, key: string) {
    this.#store = store;
    this.#key = key;
  }

  read(): { id: string; text: string }[] {
    this.#written = this.#store.getItem(this.#key) ?? '[]';
    let json: unknown = null;
    try {
      json = JSON.parse(this.#written);
    } catch {
      // Not ours: nothing was waiting.
    }
    return asArray(json).flatMap((value) => {
      const id = asString(asObject(value)?.id);
      const text = asString(asObject(value)?.text);
      return id !== null && text !== null ? [{ id, text }] : [];
    });
  }

  write(messages: readonly Message[]): void {
    const waiting = messages.filter((message) => message.role === 'user' && message.delivery === 'sending');
    const json = JSON.stringify(waiting.map(({ id, text }: { id: string | null; text?: string }) => ({ id, text })));
    if (json === this.#written) return;
    this.#written = json;
    if (waiting.length === 0) this.#store.removeItem(this.#key);
    else this.#store.setItem(this.#key, json);
  }
}
