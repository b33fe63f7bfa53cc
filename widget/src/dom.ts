/** Elements without HTML strings. */

type Attributes = Readonly<Record<string, string | boolean | null>>;
type Child = Node | string | null;

export function h<K extends keyof HTMLElementTagNameMap>(tag: K, attributes: Attributes = {}, ...children: Child[]): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  set(element, attributes);
  for (const child of children) if (child !== null) element.append(child);
  return element;
}

/** `null` and `false` take an attribute away. Writes only what differs: writing wakes screen readers. */
export function set(element: Element, attributes: Attributes): void {
  for (const [name, value] of Object.entries(attributes)) {
    const text = value === true ? '' : value;
    if (text === null || text === false) element.removeAttribute(name);
    else if (element.getAttribute(name) !== text) element.setAttribute(name, text);
  }
}

export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

const SVG = 'http://www.w3.org/2000/svg';

/** A drawing of one path in a box of 24. */
export function icon(path: string): SVGElement {
  const svg = document.createElementNS(SVG, 'svg');
  set(svg, { viewBox: '0 0 24 24', 'aria-hidden': 'true', focusable: 'false' });
  const shape = document.createElementNS(SVG, 'path');
  set(shape, { d: path });
  svg.append(shape);
  return svg;
}

export const ICONS = {
  chat: 'M12 4c-5 0-9 3.3-9 7.4 0 2.3 1.3 4.4 3.3 5.8L5.5 20.5l4-1.9c.8.2 1.6.3 2.5.3 5 0 9-3.3 9-7.5S17 4 12 4Z',
  close: 'M6 6l12 12M18 6L6 18',
  down: 'M6 9.5l6 6 6-6',
  send: 'M12 19V5M5.5 11.5L12 5l6.5 6.5',
  stop: 'M8 8h8v8H8Z',
  renew: 'M12 5v14M5 12h14',
  thumb: 'M7 11v9H4v-9ZM7 11l4-7c1.4 0 2.3 1.1 2 2.500L12.4 10H18c1.3 0 2.2 1.2 1.9 2.4l-1.4 6c-.2 1-1 1.6-2 1.6H7',
} as const;
