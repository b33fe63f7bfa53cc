import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { defineGrowthChat, type GrowthChat } from '../src/element';
import { json, problem, Service, Stream } from './service';

defineGrowthChat({ env: {}, scriptUrl: 'https://api.example/chat.js' });

let service: Service;

beforeEach(() => {
  service = new Service();
  vi.stubGlobal('fetch', service.fetch);
});
afterEach(() => {
  document.body.replaceChildren();
  localStorage.clear();
  sessionStorage.clear();
  vi.unstubAllGlobals();
});

function place(attributes: Record<string, string> = {}) {
  const element = document.createElement('growth-chat') as GrowthChat;
  for (const [name, value] of Object.entries({ 'widget-token': 'site', locale: 'en', ...attributes })) element.setAttribute(name, value);
  document.body.append(element);
  return element;
}

function find<T extends Element = HTMLElement>(element: GrowthChat, selector: string): T {
  const found = element.shadowRoot?.querySelector<T>(selector);
  if (!found) throw new Error(`no ${selector}`);
  return found;
}

function type(element: GrowthChat, text: string, key: KeyboardEventInit = {}) {
  const input = find<HTMLTextAreaElement>(element, '#input');
  input.value = text;
  input.dispatchEvent(new Event('input'));
  input.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', cancelable: true, bubbles: true, ...key }));
}

describe('<growth-chat>', () => {
  it('speaks to nobody and stores nothing before it is opened', () => {
    const element = place();
    expect(find(element, '.panel').hidden).toBe(true);
    expect(service.asked).toHaveLength(0);
    expect(localStorage.length).toBe(0);
  });

  it('opens with the focus in the field and closes by Escape with the focus on the launcher', () => {
    const element = place();
    const launcher = find(element, '.launcher');
    launcher.click();
    expect(find(element, '.panel').hidden).toBe(false);
    expect(launcher.getAttribute('aria-expanded')).toBe('true');
    expect(element.shadowRoot?.activeElement).toBe(find(element, '#input'));
    find(element, '#input').dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape', bubbles: true }));
    expect(find(element, '.panel').hidden).toBe(true);
    expect(element.shadowRoot?.activeElement).toBe(launcher);
  });

  it('names what it shows to screen readers', () => {
    const element = place({ heading: 'Example Ltd' });
    const log = find(element, '[role=log]');
    expect(log.getAttribute('aria-live')).toBe('polite');
    expect(find(element, '.panel').getAttribute('role')).toBe('dialog');
    expect(find(element, '#heading').textContent).toBe('Example Ltd');
    for (const button of element.shadowRoot!.querySelectorAll('button')) expect(button.getAttribute('aria-label') || button.textContent).toBeTruthy();
  });

  it('sends on Enter, but not on Shift+Enter nor while a character is composed', async () => {
    const stream = new Stream(1);
    service.then(stream.response);
    const element = place();
    element.open();
    type(element, 'One', { shiftKey: true });
    type(element, 'One', { isComposing: true });
    expect(service.asked).toHaveLength(0);
    type(element, ' One\nTwo ');
    await vi.waitFor(() => expect(service.asked).toHaveLength(1));
    expect(service.asked[0]!.body?.message).toBe('One\nTwo');
    expect(find<HTMLTextAreaElement>(element, '#input').value).toBe('');
    stream.begin().say('**Hi** <img src=x onerror=alert(1)>').finish();
    await vi.waitFor(() => expect(find(element, '.answer').dataset.status).toBe('done'));
    expect(find(element, '.answer strong').textContent).toBe('Hi');
    expect(element.shadowRoot?.querySelector('img')).toBeNull();
    expect(find(element, '.question').textContent).toBe('One\nTwo');
  });

  it('counts characters as the service does and refuses more than 4,000', () => {
    const element = place();
    element.open();
    type(element, '🙂'.repeat(4001));
    expect(find(element, '.counter').textContent).toBe('1 characters too many');
    expect(find<HTMLButtonElement>(element, '.send[type=submit]').disabled).toBe(true);
    expect(service.asked).toHaveLength(0);
    const input = find<HTMLTextAreaElement>(element, '#input');
    input.value = '🙂'.repeat(4000);
    input.dispatchEvent(new Event('input'));
    expect(find(element, '.counter').textContent).toBe('0 characters left');
    expect(find<HTMLButtonElement>(element, '.send[type=submit]').disabled).toBe(false);
  });

  it('sends no half surrogate pairs and no NUL', async () => {
    const element = place();
    element.open();
    type(element, 'a\ud800b\udc00c\0d');
    await vi.waitFor(() => expect(service.asked).toHaveLength(1));
    expect(service.asked[0]!.body?.message).toBe('a\ufffdb\ufffdcd');
  });

  it('lists sources under the answer and links only those of the web', async () => {
    const stream = new Stream(1);
    service.then(stream.response);
    const element = place();
    element.ask('Why?');
    stream.begin().say('Because').send(
      { type: 'source-url', sourceId: '1', url: 'https://a.example/x', title: 'A' },
      { type: 'source-url', sourceId: '2', url: 'https://a.example/x', title: 'A again' },
      { type: 'source-url', sourceId: '3', url: 'pricing.md', title: 'Pricing' },
      { type: 'source-url', sourceId: '4', url: 'javascript:alert(1)' },
    ).finish();
    await vi.waitFor(() => expect(element.shadowRoot?.querySelectorAll('.sources li')).toHaveLength(3));
    const [first, second, third] = element.shadowRoot!.querySelectorAll('.sources li');
    expect(first!.querySelector('a')?.getAttribute('href')).toBe('https://a.example/x');
    expect(second!.textContent).toBe('Pricing');
    expect(second!.querySelector('a')).toBeNull();
    expect(third!.querySelector('a')).toBeNull();
  });

  it('offers another way when the service does not answer', async () => {
    const element = place({ 'fallback-url': 'https://www.example/contact', 'stream-timeout-ms': '20' });
    element.ask('Why?');
    await vi.waitFor(() => expect(find(element, '.banner a').getAttribute('href')).toBe('https://www.example/contact'));
    expect(find(element, '.banner').hidden).toBe(false);
  });

  it('holds a message back in sight when the service asks for patience', async () => {
    service.then(problem(429, 'rate_limited', { 'Retry-After': '20' }));
    const element = place();
    element.ask('Why?');
    await vi.waitFor(() => expect(find(element, '.banner').textContent).toContain('There are a lot of messages'));
    expect(find(element, '.panel').textContent).not.toContain('Connection lost');
    expect(find(element, '.question').textContent).toBe('Why?Sending…');
    expect(find(element, '.typing').hidden).toBe(true);
    find(element, '.stop').click();
    await vi.waitFor(() => expect(find(element, '.banner').hidden).toBe(true));
    expect(find(element, '.question .note').textContent).toBe('This message was not sent. Try again');
  });

  it('says that it is not available where the service takes nothing', async () => {
    service.then(problem(403, 'widget_token'));
    const element = place({ 'fallback-url': 'https://www.example/contact' });
    element.ask('Why?');
    await vi.waitFor(() => expect(find(element, '.question .note').textContent).toContain('The chat is not available here.'));
    expect(find(element, '.question .note a').getAttribute('href')).toBe('https://www.example/contact');
  });

  it('shows the stop button only while it answers', async () => {
    const stream = new Stream(1);
    service.then(stream.response);
    const element = place();
    element.open();
    expect(find(element, '.stop').hidden).toBe(true);
    element.ask('Why?');
    await vi.waitFor(() => expect(find(element, '.stop').hidden).toBe(false));
    stream.begin().say('x').finish();
    await vi.waitFor(() => expect(find(element, '.stop').hidden).toBe(true));
  });

  it('asks what an element of the page says', async () => {
    place();
    const button = document.createElement('button');
    button.setAttribute('data-growth-chat-ask', '');
    button.textContent = ' What do you do? ';
    document.body.append(button);
    button.click();
    await vi.waitFor(() => expect(service.asked[0]?.body?.message).toBe('What do you do?'));
  });

  it('is open again after a reload', () => {
    place().open();
    document.body.replaceChildren();
    expect(find(place(), '.panel').hidden).toBe(false);
  });

  async function offer(element: GrowthChat) {
    const stream = new Stream(1);
    service.then(stream.response);
    element.ask('Why?');
    await vi.waitFor(() => expect(service.asked).toHaveLength(1));
    stream.begin().say('Because').send({ type: 'data-contact-form', data: { reason: 'stall', text: 'Talk to us?' } }).finish();
    await vi.waitFor(() => expect(find(element, '.contact').hidden).toBe(false));
  }

  function fill(element: GrowthChat, values: Record<string, string>) {
    for (const [name, value] of Object.entries(values)) {
      const field = find<HTMLInputElement>(element, `.contact [autocomplete=${name}]`);
      field.value = value;
      field.dispatchEvent(new Event('input', { bubbles: true }));
    }
  }

  it('takes contact details with consent only, and says what comes of them', async () => {
    const element = place();
    await offer(element);
    const form = find<HTMLFormElement>(element, '.contact');
    expect(form.textContent).toContain('Talk to us?');
    for (const field of form.querySelectorAll('input, textarea')) expect(field.closest('label')?.textContent).toBeTruthy();
    const required = [...form.querySelectorAll<HTMLInputElement>('[required]')].map((field) => field.type);
    expect(required).toEqual(['email', 'checkbox']);
    fill(element, { name: 'Ada', email: 'ada@visitor.example' });
    service.then(problem(422, 'invalid_email'), json({ handoff_id: 'h', status: 'pending', promise: { text: 'By noon.', by: 'x' } }, 202));
    form.dispatchEvent(new Event('submit', { cancelable: true }));
    await vi.waitFor(() => expect(find(element, '.problem').textContent).toBe('Please check your e-mail address.'));
    form.dispatchEvent(new Event('submit', { cancelable: true }));
    await vi.waitFor(() => expect(find(element, '.handoff').hidden).toBe(false));
    expect(find(element, '.handoff').textContent).toBe('By noon.');
    expect(form.hidden).toBe(true);
    const posts = service.asked.filter(({ path }) => path.endsWith('/contact'));
    expect(posts[1]!.body).toEqual({ name: 'Ada', email: 'ada@visitor.example', company: '', message: '', consent: true });
    expect([...Object.values(sessionStorage)].join()).not.toContain('visitor.example');
  });

  it('keeps the contact form and what is written in it over a reload, for its own session only', async () => {
    const element = place();
    await offer(element);
    fill(element, { email: 'ada@visitor.example' });
    element.remove();
    service.then(json({ session: { id: 's', status: 'open', stage: 2 }, messages: [], active_turn: null }));
    const again = place();
    await vi.waitFor(() => expect(find(again, '.contact').hidden).toBe(false));
    expect(find<HTMLInputElement>(again, '.contact [type=email]').value).toBe('ada@visitor.example');
    expect(find(again, '#contact-text').textContent).toBe('Talk to us?');
    again.remove();
    localStorage.setItem('growth-chat https://api.example/chat', JSON.stringify({ sessionId: 'other', secret: 's'.repeat(32) }));
    service.then(json({ session: { id: 'other', status: 'open', stage: 3 }, messages: [], active_turn: null }));
    const other = place();
    await vi.waitFor(() => expect(find(other, '.panel').dataset.stage).toBe('3'));
    expect(find(other, '.contact').hidden).toBe(true);
  });

  it('rates an answer, asks why when it was bad, and takes back what could not be sent', async () => {
    const stream = new Stream(1);
    service.then(stream.response);
    const element = place();
    element.ask('Why?');
    await vi.waitFor(() => expect(service.asked).toHaveLength(1));
    stream.begin().say('Because');
    await vi.waitFor(() => expect(find(element, '.answer .prose').textContent).toBe('Because'));
    expect(find(element, '.rating').hidden).toBe(true);
    stream.finish();
    await vi.waitFor(() => expect(find(element, '.rating').hidden).toBe(false));
    const down = find(element, '.thumb.down');
    service.then(new Response(null, { status: 204 }), new Response(null, { status: 204 }), problem(404, 'turn_not_found'));
    down.click();
    await vi.waitFor(() => expect(find(element, '.rating-status').textContent).toBe('Thank you for the feedback.'));
    expect(down.getAttribute('aria-pressed')).toBe('true');
    const why = find<HTMLFormElement>(element, '.why');
    expect(why.hidden).toBe(false);
    find<HTMLInputElement>(element, '.why input').value = 'Too short';
    why.dispatchEvent(new Event('submit', { cancelable: true }));
    await vi.waitFor(() => expect(service.asked).toHaveLength(3));
    find(element, '.thumb.up').click();
    await vi.waitFor(() => expect(find(element, '.rating-status').textContent).toBe('Your feedback could not be sent.'));
    await vi.waitFor(() => expect(down.getAttribute('aria-pressed')).toBe('true'));
    expect(service.asked.slice(1).map(({ body }) => body)).toEqual([
      { turn: 1, rating: 'down' },
      { turn: 1, rating: 'down', comment: 'Too short' },
      { turn: 1, rating: 'up' },
    ]);
  });

  it('offers a new conversation when the limit of this one is reached', async () => {
    const stream = new Stream(1);
    service.then(stream.response);
    const element = place();
    element.ask('Why?');
    await vi.waitFor(() => expect(service.asked).toHaveLength(1));
    stream.begin().say('Enough.').send({ type: 'data-limit', data: { scope: 'session', text: 'Enough.' }, transient: true }).finish();
    await vi.waitFor(() => expect(find(element, 'form.composer').hidden).toBe(true));
    expect(find(element, '.banner').textContent).toBe('Enough.');
    service.then(json({ session_id: 's', status: 'closed' }));
    find(element, '.composer .primary').click();
    await vi.waitFor(() => expect(find(element, 'form.composer').hidden).toBe(false));
    expect(find(element, '.banner').hidden).toBe(true);
  });

  it('shows what the service wants told in place of the text that it was built with', async () => {
    const stream = new Stream(1);
    service.then(stream.response);
    const element = place({ 'gdpr-notice': 'Of the build.' });
    element.ask('Why?');
    await vi.waitFor(() => expect(service.asked).toHaveLength(1));
    stream.begin().send({ type: 'data-notice', data: { kind: 'privacy', text: 'Of the <b>service</b>.' } }).say('x').finish();
    await vi.waitFor(() => expect(find(element, '.gdpr').textContent).toBe('Of the <b>service</b>.'));
  });

  it('shows the notices and follows changed attributes', async () => {
    const element = place({ 'gdpr-notice': 'We store <b>this</b>.', 'proactive-message': 'Hello?' });
    expect(find(element, '.gdpr').textContent).toBe('We store <b>this</b>.');
    expect(find(element, '.teaser').textContent).toBe('Hello?');
    element.setAttribute('proactive-message', 'Hi!');
    await vi.waitFor(() => expect(find(element, '.greeting').textContent).toBe('Hi!'));
  });
});
