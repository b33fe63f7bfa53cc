// @vitest-environment node
import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';

const script = readFileSync(new URL('../dist/chat.js', import.meta.url));

describe('the committed build', () => {
  it('is no larger than 25 kB gzipped (07-performance)', () => {
    expect(gzipSync(script, { level: 9 }).length).toBeLessThanOrEqual(25_000);
    expect(script.length).toBeGreaterThan(10_000);
  });

  it('parses no HTML and loads nothing', () => {
    const text = script.toString();
    for (const forbidden of ['innerHTML', 'outerHTML', 'insertAdjacentHTML', 'document.write', 'eval(', 'new Function', 'import(']) {
      expect(text).not.toContain(forbidden);
    }
    expect(text.match(/https?:\/\/[a-z]/g) ?? []).toEqual(['http://w']); // the namespace of SVG
  });
});
