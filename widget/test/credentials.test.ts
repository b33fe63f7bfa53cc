import { describe, expect, it } from 'vitest';
import { CredentialStore, forgivingStore, randomId } from '../src/credentials';
import { MemoryStore } from './service';

describe('the session', () => {
  it('has an id and a secret of 192 random bits that the service takes', () => {
    const ids = Array.from({ length: 200 }, randomId);
    expect(new Set(ids).size).toBe(200);
    for (const id of ids) expect(id).toMatch(/^[A-Za-z0-9_-]{32}$/);
  });

  it('is the same for every tab, and another for another service', () => {
    const store = new MemoryStore();
    const first = new CredentialStore(store, 'https://a.example/chat').readOrMint();
    expect(new CredentialStore(store, 'https://a.example/chat').readOrMint()).toEqual(first);
    expect(new CredentialStore(store, 'https://b.example/chat').readOrMint()).not.toEqual(first);
  });

  it('is replaced once when two tabs find it closed', () => {
    const store = new MemoryStore();
    const [here, there] = [new CredentialStore(store, 'a'), new CredentialStore(store, 'a')];
    const old = here.readOrMint();
    expect(there.replace(old)).toEqual(here.replace(old));
  });

  it('is minted anew when what is stored is not ours', () => {
    for (const text of ['', '{}', 'null', '[]', '{"sessionId":"a/b","secret":"xxxxxxxxxxxxxxxxxxxxxxxx"}', '{"sessionId":"a","secret":"short"}', '{"sessionId":"a","secret":"xxxxxxxxxxxxxxxxxxxxxxx\\nX: y"}']) {
      const store = new MemoryStore();
      store.setItem('growth-chat a', text);
      expect(new CredentialStore(store, 'a').read()).toBeNull();
    }
  });

  it('lives in memory where the browser forbids to store it', () => {
    const forbidden = forgivingStore(() => {
      throw new DOMException('denied', 'SecurityError');
    });
    const credentials = new CredentialStore(forbidden, 'a');
    expect(credentials.readOrMint()).toEqual(credentials.readOrMint());
  });

  it('lives in memory where the browser has no room', () => {
    const full = new MemoryStore();
    full.setItem = () => {
      throw new DOMException('full', 'QuotaExceededError');
    };
    const credentials = new CredentialStore(forgivingStore(() => full), 'a');
    expect(credentials.readOrMint()).toEqual(credentials.readOrMint());
    expect(full.map.size).toBe(0);
  });
});
