/**
 * The small part of Markdown that answers use, as DOM nodes. Text of the model becomes text nodes
 * and nothing else: no HTML is parsed here, and an address becomes a link only when `safeUrl` says so.
 */

/** The address to link to, `null` when it is not one that a click may follow. */
export function safeUrl(url: string): string | null {
  let parsed: URL;
  try {
    parsed = new URL(url.trim());
  } catch {
    return null;
  }
  if (parsed.protocol === 'mailto:') return parsed.href;
  const isWeb = parsed.protocol === 'https:' || parsed.protocol === 'http:';
  // `https://bank.example@evil.example` shows one name and leads to another.
  return isWeb && parsed.username === '' && parsed.password === '' ? parsed.href : null;
}

export function link(url: string, label: Node | string): HTMLElement {
  const href = safeUrl(url);
  const element = document.createElement(href === null ? 'span' : 'a');
  if (element instanceof HTMLAnchorElement && href !== null) {
    element.href = href;
    element.target = '_blank';
    element.rel = 'noopener noreferrer nofollow';
  }
  element.append(label);
  return element;
}

export interface Block {
  /** The block's own text: as long as it is the same, its nodes are. */
  readonly source: string;
  readonly kind: 'paragraph' | 'heading' | 'code' | 'list' | 'numbers';
}

const BULLET = /^ {0,6}[-*+•]\s+/;
const NUMBER = /^ {0,6}(\d{1,9})[.)]\s+/;
const HEADING = /^ {0,3}#{1,6}\s+/;
const FENCE = /^ {0,3}(```|~~~)/;

function kindOf(line: string): Block['kind'] {
  if (BULLET.test(line)) return 'list';
  if (NUMBER.test(line)) return 'numbers';
  return HEADING.test(line) ? 'heading' : 'paragraph';
}

/** Cuts a text into blocks; works on a text that is still growing. */
export function blocks(text: string): Block[] {
  const found: Block[] = [];
  let lines: string[] = [];
  let kind: Block['kind'] | null = null;
  const flush = () => {
    if (kind !== null && lines.length > 0) found.push({ kind, source: lines.join('\n') });
    lines = [];
    kind = null;
  };
  for (const line of text.replaceAll('\r\n', '\n').split('\n')) {
    const fence = FENCE.exec(line);
    if (kind === 'code') {
      if (fence) flush();
      else lines.push(line);
    } else if (fence) {
      flush();
      kind = 'code';
    } else if (line.trim() === '') {
      flush();
    } else {
      const next = kindOf(line);
      // A line without a mark goes on with the list's last item.
      const continues = kind === next ? next !== 'heading' : next === 'paragraph' && (kind === 'list' || kind === 'numbers');
      if (!continues) flush();
      kind ??= next;
      lines.push(line);
    }
  }
  flush();
  return found;
}

export function renderBlock({ kind, source }: Block): HTMLElement {
  switch (kind) {
    case 'code': {
      const pre = document.createElement('pre');
      const code = document.createElement('code');
      code.textContent = source;
      pre.append(code);
      return pre;
    }
    case 'heading':
      return withInline(document.createElement('h4'), source.replace(HEADING, ''));
    case 'paragraph':
      return withInline(document.createElement('p'), source);
    case 'list':
    case 'numbers': {
      const mark = kind === 'list' ? BULLET : NUMBER;
      const list = document.createElement(kind === 'list' ? 'ul' : 'ol');
      if (list instanceof HTMLOListElement) list.start = Number(NUMBER.exec(source)?.[1] ?? 1);
      for (const item of items(source, mark)) list.append(withInline(document.createElement('li'), item));
      return list;
    }
  }
}

function items(source: string, mark: RegExp): string[] {
  const found: string[] = [];
  for (const line of source.split('\n')) {
    if (mark.test(line)) found.push(line.replace(mark, ''));
    else found.push(`${found.pop() ?? ''}\n${line.trim()}`);
  }
  return found;
}

function withInline(element: HTMLElement, text: string): HTMLElement {
  element.append(...inline(text));
  return element;
}

const MARK = /\*\*|__|\*|`|\[|https?:\/\//g;
const LINK = /^\[([^[\]\n]{1,300})\]\(([^()\s]{1,2000}(?:\([^()\s]{0,200}\)[^()\s]{0,200})?)\)/;
const ADDRESS = /^https?:\/\/[^\s<>"'`|\\^{}*]{1,2000}/;

/** Emphasis, code and links in a line of text. A mark without its partner stays as it is written. */
export function inline(text: string): Node[] {
  const nodes: Node[] = [];
  // A partner that was not found once is not looked for again, so that marks without end cost no square.
  const missing = new Set<string>();
  let plainFrom = 0;
  let at = 0;
  const emit = (node: Node, end: number) => {
    if (at > plainFrom) nodes.push(document.createTextNode(text.slice(plainFrom, at)));
    nodes.push(node);
    plainFrom = at = end;
  };
  const partner = (mark: string): number => {
    if (missing.has(mark)) return -1;
    const end = text.indexOf(mark, at + mark.length);
    if (end === -1) missing.add(mark);
    return end;
  };
  for (;;) {
    MARK.lastIndex = at;
    const match = MARK.exec(text);
    if (!match) break;
    at = match.index;
    const mark = match[0];
    if (mark === '[') {
      const [whole, label = '', url = ''] = LINK.exec(text.slice(at, at + 2600)) ?? [];
      if (whole) {
        // Where it can't be followed, its words are shown.
        emit(safeUrl(url) === null ? document.createTextNode(label) : link(url, label), at + whole.length);
        continue;
      }
    } else if (mark === '`') {
      const end = partner(mark);
      if (end > at + 1) {
        const code = document.createElement('code');
        code.textContent = text.slice(at + 1, end);
        emit(code, end + 1);
        continue;
      }
    } else if (mark.startsWith('http')) {
      const address = (ADDRESS.exec(text.slice(at, at + 2010))?.[0] ?? '').replace(/[.,;:!?)\]]+$/, '');
      if (safeUrl(address) !== null) {
        emit(link(address, address), at + address.length);
        continue;
      }
    } else {
      const end = partner(mark);
      const inner = text.slice(at + mark.length, Math.max(end, at));
      if (end !== -1 && /^\S/.test(inner) && /\S$/.test(inner) && opens(text, at, mark)) {
        emit(withInline(document.createElement(mark.length === 2 ? 'strong' : 'em'), inner), end + mark.length);
        continue;
      }
    }
    at += mark.length;
  }
  if (plainFrom < text.length) nodes.push(document.createTextNode(text.slice(plainFrom)));
  return nodes;
}

/** `snake__case` and `2*3*4` are not emphasis. */
function opens(text: string, at: number, mark: string): boolean {
  return mark === '**' || at === 0 || /[\s([{"'„“«»>–—-]/.test(text.charAt(at - 1));
}

/** Shows `text` in `container`, touching only the blocks that changed. */
export class MarkdownView {
  readonly element: HTMLElement;
  #shown: Block[] = [];

  constructor(element: HTMLElement) {
    this.element = element;
  }

  update(text: string): void {
    // The service sends the sign so, for readers that parse HTML.
    const wanted = blocks(text.replaceAll('&lt;', '<'));
    let same = 0;
    while (same < wanted.length && isSame(wanted[same], this.#shown[same])) same++;
    while (this.element.childNodes.length > same) this.element.lastChild?.remove();
    for (const block of wanted.slice(same)) this.element.append(renderBlock(block));
    this.#shown = wanted;
  }
}

function isSame(a: Block | undefined, b: Block | undefined): boolean {
  return a?.kind === b?.kind && a?.source === b?.source;
}
