import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { blocks, inline, MarkdownView, renderBlock, safeUrl } from '../src/markdown';

const ALLOWED = new Set(['P', 'H4', 'UL', 'OL', 'LI', 'PRE', 'CODE', 'STRONG', 'EM', 'A']);

function render(text: string): HTMLElement {
  const element = document.createElement('div');
  new MarkdownView(element).update(text);
  return element;
}

function html(text: string): string {
  return render(text).innerHTML;
}

function expectInert(element: HTMLElement): void {
  for (const node of element.querySelectorAll('*')) {
    expect(ALLOWED).toContain(node.tagName);
    for (const { name } of node.attributes) expect(['href', 'target', 'rel', 'start']).toContain(name);
    const href = node.getAttribute('href');
    if (href !== null) {
      expect(['http:', 'https:', 'mailto:']).toContain(new URL(href).protocol);
      expect(node.getAttribute('rel')).toContain('noopener');
    }
  }
}

describe('Markdown', () => {
  it('shows paragraphs, lists, emphasis, code and headings', () => {
    expect(html('# Title\nOne **two** *three* `four`\n\n- a\n- b\n  more\n\n3. c\n4. d')).toBe(
      '<h4>Title</h4><p>One <strong>two</strong> <em>three</em> <code>four</code></p><ul><li>a</li><li>b\nmore</li></ul><ol start="3"><li>c</li><li>d</li></ol>',
    );
    expect(html('```js\nlet a = "**b**";\n\n<i>\n```\nend')).toBe('<pre><code>let a = "**b**";\n\n&lt;i&gt;</code></pre><p>end</p>');
  });

  it('links web and mail addresses without giving them the page', () => {
    const anchors = [...render('[a](https://a.example/x) https://b.example/y. [m](mailto:x@y.example)').querySelectorAll('a')];
    expect(anchors.map((anchor) => anchor.getAttribute('href'))).toEqual(['https://a.example/x', 'https://b.example/y', 'mailto:x@y.example']);
    for (const anchor of anchors) expect(anchor.rel).toBe('noopener noreferrer nofollow');
  });

  it.each([
    '<img src=x onerror=alert(1)>',
    '<script>alert(1)</script>',
    '[x](java\tscript:alert(1))',
    '**<svg onload=alert(1)>** `</code><iframe>`',
    '"onmouseover="alert(1)',
    '&gt;b&amp; &#x3c;',
  ])('shows %s as it is written', (text) => {
    const element = render(text);
    expectInert(element);
    expect(element.querySelector('a')).toBeNull();
    expect(element.textContent?.replace(/[*`]/g, '')).toBe(text.replace(/[*`]/g, ''));
  });

  it.each([
    ['[x](javascript:alert(1))', 'x'],
    ['[x](JaVaScRiPt:alert(1))', 'x'],
    ['[x](data:text/html,<script>alert(1)</script>)', 'x'],
    ['[x](vbscript:x) [y](file:///etc/passwd) [z](//evil.example)', 'x y z'],
    ['[bank](https://bank.example@evil.example/)', 'bank'],
    ['[Prices](/pricing#audits)', 'Prices'],
  ])('shows the words of %s, which nobody can follow', (text, words) => {
    const element = render(text);
    expectInert(element);
    expect(element.querySelector('a')).toBeNull();
    expect(element.textContent).toBe(words);
  });

  it('reads the sign that the service sends for the beginning of a tag', () => {
    const view = new MarkdownView(document.createElement('div'));
    view.update('Put `&lt;growth-chat>` there, &lt;img src=x onerror=alert(1)>');
    expectInert(view.element);
    expect(view.element.querySelector('code')?.textContent).toBe('<growth-chat>');
    expect(view.element.textContent).toBe('Put <growth-chat> there, <img src=x onerror=alert(1)>');
  });

  it('is inert and loses no letter whatever the text', () => {
    const piece = fc.constantFrom('**', '*', '__', '`', '```\n', '[', '](', ')', 'https://a.example/', 'javascript:alert(1)', '<b>', '\n', '\n\n', '- ', '1. ', '# ', ' ', 'word', '\u202e', '🙂');
    fc.assert(
      fc.property(fc.array(fc.oneof(piece, fc.string()), { maxLength: 30 }), (pieces) => {
        const element = render(pieces.join(''));
        expectInert(element);
      }),
      { numRuns: 300 },
    );
    fc.assert(
      fc.property(fc.stringMatching(/^[a-z ]{1,40}$/), (text) => {
        expect(inline(text).map((node) => node.textContent).join('')).toBe(text);
      }),
    );
  });

  it('grows to the same whatever the deltas were', () => {
    const text = 'Intro **bold** text\n\n- one\n- two `code`\n\n```\nx\n```\n\nEnd [l](https://a.example/).';
    fc.assert(
      fc.property(fc.array(fc.nat(text.length), { maxLength: 15 }), (cuts) => {
        const element = document.createElement('div');
        const view = new MarkdownView(element);
        for (const end of [...cuts.sort((a, b) => a - b), text.length]) view.update(text.slice(0, end));
        expect(element.innerHTML).toBe(html(text));
      }),
    );
  });

  it('leaves the nodes of finished blocks in place while the text grows', () => {
    const element = document.createElement('div');
    const view = new MarkdownView(element);
    view.update('One\n\nTwo');
    const first = element.firstChild;
    view.update('One\n\nTwo and more');
    expect(element.firstChild).toBe(first);
    expect(element.textContent).toBe('OneTwo and more');
  });

  // Linear work takes some ten milliseconds here; quadratic work would take minutes.
  it('does not take forever over marks without end', { timeout: 5_000 }, () => {
    for (const mark of ['*', '**a', '`', '[', '[a](', '__', 'https://']) {
      const found = blocks(`x${mark.repeat(20_000)}`).map(renderBlock);
      expect(found).toHaveLength(1);
    }
  });

  it('knows which addresses are safe', () => {
    expect(safeUrl(' https://a.example/b ')).toBe('https://a.example/b');
    for (const url of ['pricing.md', '/pricing', 'ftp://a.example', 'blob:https://a.example/1', '']) expect(safeUrl(url)).toBeNull();
  });
});
