/**
 * What a reload of the tab would lose: the offered contact form with what is written in it, and what
 * the service wants the visitor to be told. Kept for one session; sent to nobody.
 */
import type { Conversation, Keepsake } from './conversation';
import type { KeyValueStore } from './credentials';
import { asObject, asString, parseObject } from './json';

/** What a visitor writes into the contact form, by the fields' names. */
export type Draft = Readonly<Record<string, string>>;

export class Keepsakes {
  readonly #store: KeyValueStore;
  readonly #key: string;
  #written = '';

  constructor(store: KeyValueStore, key: string) {
    this.#store = store;
    this.#key = key;
  }

  /** `null`: nothing was kept of this session. */
  read(sessionId: string): Keepsake | null {
    const kept = parseObject(this.#store.getItem(`${this.#key} kept`) ?? '');
    if (kept?.sessionId !== sessionId) return null;
    const notices = strings(kept.notices);
    const offer = asObject(kept.contactOffer);
    return { notices, contactOffer: offer && { text: asString(offer.text) } };
  }

  write(sessionId: string, { notices, contactOffer }: Conversation): void {
    const isEmpty = contactOffer === null && Object.keys(notices).length === 0;
    const json = isEmpty ? '' : JSON.stringify({ sessionId, notices, contactOffer });
    if (json === this.#written) return;
    this.#written = json;
    if (isEmpty) this.#store.removeItem(`${this.#key} kept`);
    else this.#store.setItem(`${this.#key} kept`, json);
  }

  readDraft(): Draft {
    return strings(parseObject(this.#store.getItem(`${this.#key} draft`) ?? ''));
  }

  writeDraft(draft: Draft): void {
    if (Object.values(draft).every((value) => value === '')) this.#store.removeItem(`${this.#key} draft`);
    else this.#store.setItem(`${this.#key} draft`, JSON.stringify(draft));
  }
}

function strings(value: unknown): Draft {
  return Object.fromEntries(
    Object.entries(asObject(value) ?? {}).filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
  );
}
