/**
 * The session's id and secret. The client mints both, so that a first message that is posted twice
 * still begins one conversation; tabs of one site share them. The secret goes into the
 * `Authorization` header and into this store, and nowhere else.
 */
import { asString, parseObject } from './json';

export interface Credentials {
  readonly sessionId: string;
  readonly secret: string;
}

/** The part of `Storage` that is used. */
export interface KeyValueStore {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

/** 192 random bits, base64url without padding: 32 characters of `[A-Za-z0-9_-]`. */
export function randomId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(24));
  return btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_');
}

/** A store that works where the browser's own is forbidden or full, then only for as long as the page lives. */
export function forgivingStore(storage: () => KeyValueStore): KeyValueStore {
  const memory = new Map<string, string>();
  const attempt = <T>(use: (store: KeyValueStore) => T): T | undefined => {
    try {
      return use(storage());
    } catch {
      return undefined;
    }
  };
  return {
    getItem: (key) => memory.get(key) ?? attempt((store) => store.getItem(key)) ?? null,
    setItem(key, value) {
      const kept = attempt((store) => (store.setItem(key, value), true));
      // What the browser keeps must not be shadowed: another tab may replace it.
      if (kept) memory.delete(key);
      else memory.set(key, value);
    },
    removeItem(key) {
      memory.delete(key);
      attempt((store) => store.removeItem(key));
    },
  };
}

const ID = /^[A-Za-z0-9_-]{1,64}$/;

/** The credentials for one API. */
export class CredentialStore {
  readonly #store: KeyValueStore;
  readonly key: string;

  constructor(store: KeyValueStore, api: string) {
    this.#store = store;
    this.key = `growth-chat ${api}`;
  }

  /** `null` before the first message. */
  read(): Credentials | null {
    const json = parseObject(this.#store.getItem(this.key) ?? '');
    const sessionId = asString(json?.sessionId);
    const secret = asString(json?.secret);
    if (sessionId === null || secret === null || !ID.test(sessionId) || !/^[\x21-\x7e]{22,}$/.test(secret)) return null;
    return { sessionId, secret };
  }

  readOrMint(): Credentials {
    return this.read() ?? this.#mint();
  }

  /** Takes the credentials of a session that is over out of use, unless another tab has done so. */
  replace(old: Credentials): Credentials {
    const current = this.read();
    return current && current.sessionId !== old.sessionId ? current : this.#mint();
  }

  #mint(): Credentials {
    const minted = { sessionId: randomId(), secret: randomId() };
    this.#store.setItem(this.key, JSON.stringify(minted));
    // Two tabs may mint at once: the one that wrote last wins, and both read it.
    return this.read() ?? minted;
  }
}
