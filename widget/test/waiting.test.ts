import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Banner } from '../src/banner';
import { LONGEST_ASKED_MS, retryAfterMs } from '../src/backoff';
import type { Cause, Obstacle, Task } from '../src/persistence';
import { waitWordsFor, wordsFor } from '../src/words';
import { json, noContent, openChat, Page, pass, problem, Service, Stream } from './service';

const limited = (seconds: number | string) => problem(429, 'rate_limited', { 'Retry-After': String(seconds) });
const details = { name: 'Ada', email: 'ada@visitor.example', company: '', message: '' };

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] });
});
afterEach(() => {
  document.body.replaceChildren();
  vi.useRealTimers();
});

describe('a message that the service asks to send later', () => {
  it('stays as it is, says until when, and is sent then', async () => {
    const stream = new Stream(1);
    const service = new Service().then(limited(20), stream.response);
    const { chat, outline, snapshot } = openChat(service);
    chat.send('Why?');
    await pass();
    expect(outline()).toEqual(['Why? (sending)']);
    expect(snapshot()).toMatchObject({ held: true, busy: true, obstacle: { task: 'deliver', cause: 'crowd', until: Date.now() + 20_000 } });
    await pass(19_900);
    expect(service.asked).toHaveLength(1);
    await pass(200);
    expect(service.asked).toHaveLength(2);
    expect(service.asked[1]!.body?.message_id).toBe(service.asked[0]!.body?.message_id);
    expect(snapshot()).toMatchObject({ held: false, obstacle: null });
    stream.begin().say('Because').finish();
    await pass();
    expect(outline()).toEqual(['Why? (accepted)', 'done: Because']);
  });

  it('is not sent sooner because the visitor looks at the page again', async () => {
    const service = new Service().then(limited(20), new Stream(1).response);
    const { chat, page } = openChat(service);
    chat.send('Why?');
    await pass(10_000);
    page.wake();
    await pass(9_900);
    expect(service.asked).toHaveLength(1);
    await pass(200);
    expect(service.asked).toHaveLength(2);
  });

  it('is sent although the visitor reads another page meanwhile', async () => {
    const page = new Page();
    const service = new Service().then(limited(20), new Stream(1).response);
    const { chat, outline } = openChat(service, undefined, page);
    chat.send('Why?');
    await pass();
    page.isVisible = false;
    await pass(20_100);
    expect(outline()).toEqual(['Why? (accepted)']);
  });

  it('keeps its place before what is written meanwhile', async () => {
    const service = new Service().then(limited(20), new Stream(1).response, json({ turn: 2 }, 202));
    const { chat, outline } = openChat(service);
    chat.send('One');
    await pass(5_000);
    chat.send('Two');
    await pass(5_000);
    expect(service.asked).toHaveLength(1);
    await pass(11_000);
    expect(service.asked.map(({ body }) => body?.message)).toEqual(['One', 'One', 'Two']);
    expect(outline()).toEqual(['One (accepted)', 'Two (accepted)']);
  });

  it('survives a reload', async () => {
    const before = new Service().then(limited(20));
    const { chat, stores } = openChat(before);
    chat.send('Why?');
    await pass();
    chat.dispose();
    const service = new Service().then(problem(404, 'session_not_found'), limited(10), new Stream(1).response);
    const reloaded = openChat(service, stores);
    void reloaded.chat.refresh();
    await pass();
    expect(reloaded.outline()).toEqual(['Why? (sending)']);
    expect(reloaded.snapshot().obstacle?.cause).toBe('crowd');
    await pass(10_100);
    expect(reloaded.outline()).toEqual(['Why? (accepted)']);
    expect(service.asked.at(-1)!.body?.message_id).toBe(before.asked[0]!.body?.message_id);
  });

  it('is one of too many that wait for an answer, and says so', async () => {
    const first = new Stream(1);
    const service = new Service().then(first.response, problem(429, 'too_many_turns', { 'Retry-After': '2' }), json({ turn: 2 }, 202));
    const { chat, outline, snapshot } = openChat(service);
    chat.send('One');
    await pass();
    first.begin().say('1');
    chat.send('Two');
    await pass();
    expect(snapshot().obstacle).toMatchObject({ task: 'deliver', cause: 'queue' });
    await pass(2_100);
    expect(snapshot().obstacle).toBeNull();
    expect(outline()).toEqual(['One (accepted)', 'streaming: 1', 'Two (accepted)']);
  });

  it('is not sent when the visitor stops it, until told to', async () => {
    const service = new Service().then(limited(20), new Stream(1).response);
    const { chat, outline, snapshot, stores } = openChat(service);
    chat.send('Why?');
    await pass();
    await chat.stop();
    await pass(60_000);
    expect(service.asked).toHaveLength(1);
    expect(outline()).toEqual(['Why? (refused)']);
    expect(snapshot()).toMatchObject({ busy: false, obstacle: null });
    expect(stores.tab.map.size).toBe(0);
    chat.resend(snapshot().conversation.messages[0]!.id!);
    await pass();
    expect(outline()).toEqual(['Why? (accepted)']);
  });

  it('is asked for and cancelled when it may have been taken before', async () => {
    const service = new Service().then('network error', limited(20));
    const { chat, outline } = openChat(service);
    chat.send('Why?');
    await pass(1_000);
    expect(outline()).toEqual(['Why? (sending)']);
    service.then(json({ turn: 1 }, 202), json({}, 202));
    void chat.stop();
    await pass();
    expect(service.paths.slice(2)).toEqual(['POST /chat', expect.stringContaining('/turns/1/cancel')]);
  });
});

describe('a service that can not answer', () => {
  it.each([500, 502, 503, 504])('with %i is no lost connection', async (status) => {
    const service = new Service().then(problem(status, ''), 'network error', new Stream(1).response);
    const { chat, snapshot } = openChat(service);
    chat.send('Why?');
    await pass();
    expect(snapshot()).toMatchObject({ held: true, obstacle: { task: 'deliver', cause: 'outage' } });
    await pass(130);
    expect(snapshot()).toMatchObject({ held: false, obstacle: { cause: 'connection' } });
    await pass(1_000);
    expect(snapshot().obstacle).toBeNull();
  });

  it('is given the time that it asks for', async () => {
    const service = new Service().then(problem(503, 'unavailable', { 'Retry-After': '2' }));
    const { chat, page } = openChat(service);
    chat.send('Why?');
    await pass(1_000);
    page.wake();
    await pass(900);
    expect(service.asked).toHaveLength(1);
    await pass(200);
    expect(service.asked).toHaveLength(2);
  });

  it.each([
    ['unavailable', () => problem(503, 'unavailable', { 'Retry-After': '2' })],
    ['too_many_turns', () => problem(429, 'too_many_turns', { 'Retry-After': '2' })],
    ['no time', () => problem(429, '')],
  ])('or names no time for it is not asked from a hidden tab: %s', async (_name, answer) => {
    const page = new Page();
    const service = new Service().then(answer());
    const { chat } = openChat(service, undefined, page);
    chat.send('Why?');
    await pass();
    page.isVisible = false;
    await pass(60_000);
    expect(service.asked).toHaveLength(1);
    page.isVisible = true;
    page.wake();
    await pass();
    expect(service.asked).toHaveLength(2);
  });
});

describe('a refusal for good', () => {
  it.each([
    [401, 'invalid_signature', true],
    [403, 'widget_token', true],
    [403, 'edge_required', true],
    [413, 'body_too_large', false],
    [422, 'message_too_long', false],
  ])('with %i %s is not repeated, and says whether anything would be taken', async (status, code, barred) => {
    const service = new Service().then(problem(status, code, { 'Retry-After': '1' }));
    const { chat, outline, snapshot, page } = openChat(service);
    chat.send('Why?');
    await pass(60_000);
    page.wake();
    await pass(60_000);
    expect(service.asked).toHaveLength(1);
    expect(outline()).toEqual(['Why? (refused)']);
    expect(snapshot()).toMatchObject({ busy: false, held: false, obstacle: null, conversation: { messages: [{ barred }] } });
  });

  it('of what was followed ends in an answer that failed', async () => {
    const stream = new Stream(1);
    const service = new Service().then(stream.response, problem(403, 'widget_token'));
    const { chat, outline } = openChat(service);
    chat.send('Why?');
    await pass();
    stream.begin().say('Be').cut();
    await pass(60_000);
    expect(service.asked).toHaveLength(2);
    expect(outline()[1]).toMatch(/^failed/);
  });
});

describe('contact details that the service asks to send later', () => {
  it('are sent then', async () => {
    const service = new Service().then(limited(20), json({ handoff_id: 'h', status: 'pending', promise: null }, 202), noContent());
    const { chat, snapshot } = openChat(service);
    void chat.leaveContact(details);
    await pass(19_900);
    expect(service.asked).toHaveLength(1);
    expect(snapshot()).toMatchObject({ contact: 'sending', obstacle: { task: 'button', cause: 'crowd' } });
    await pass(200);
    expect(service.paths.filter((path) => path.endsWith('/contact'))).toHaveLength(2);
    expect(snapshot()).toMatchObject({ contact: 'idle', obstacle: null });
  });

  it('are given back when that is too far away', async () => {
    const service = new Service().then(limited(120));
    const { chat, snapshot } = openChat(service);
    void chat.leaveContact(details);
    await pass();
    expect(snapshot()).toMatchObject({ contact: 'failed', obstacle: null });
  });
});

describe('Retry-After', () => {
  const now = Date.parse('2026-01-01T00:00:00Z');

  it('is read as seconds and as a date, and bounded', () => {
    const asked = (header: string | null) => retryAfterMs(header, now, 0);
    expect(asked('7')).toBe(7_000);
    expect(asked('Thu, 01 Jan 2026 00:00:30 GMT')).toBe(30_000);
    expect(asked('86400')).toBe(LONGEST_ASKED_MS);
    for (const none of [null, '', ' ', '0', '-5', 'soon', 'Wed, 31 Dec 2025 00:00:00 GMT']) expect(asked(none)).toBe(0);
  });

  it('is never undercut by the jitter', () => {
    expect(retryAfterMs('20', now, 0)).toBe(20_000);
    expect(retryAfterMs('20', now, 0.999)).toBeGreaterThan(24_900);
    expect(retryAfterMs('20', now, 0.999)).toBeLessThanOrEqual(25_000);
  });
});

describe('the banner', () => {
  function place(locale = 'en') {
    const banner = new Banner({ words: wordsFor(locale), waitWords: waitWordsFor(locale), fallbackUrl: 'https://www.example/contact' });
    document.body.append(banner.element);
    const show = (obstacle: Obstacle | null, stalled = false) => banner.show({ obstacle, stalled, limit: null });
    const box = banner.element.querySelector<HTMLElement>('.banner')!;
    return { show, box, element: banner.element, text: () => box.textContent };
  }

  const crowd = (ms: number, task: Task = 'deliver', cause: Cause = 'crowd'): Obstacle => ({ task, cause, until: Date.now() + ms });

  it('says what becomes of the message, and when, without a lost connection', () => {
    const { show, text, box } = place();
    show(crowd(18_000));
    expect(text()).toBe('There are a lot of messages at the moment. Your message will be sent automatically in about 20 seconds.');
    expect(box.hidden).toBe(false);
    show(crowd(0));
    expect(text()).toMatch(/automatically in a few seconds\.$/);
    show(crowd(61_000));
    expect(text()).toMatch(/automatically as soon as possible\.$/);
    show(crowd(2_000, 'deliver', 'outage'));
    expect(text()).toBe('The chat is briefly unavailable. Your message will be sent automatically in a few seconds.');
    show(crowd(2_000, 'follow', 'outage'));
    expect(text()).toBe('The chat is briefly unavailable. We will try again automatically in a few seconds.');
    show(crowd(2_000, 'deliver', 'queue'));
    expect(text()).toBe('Your earlier messages are being answered first. This one will be sent automatically after that.');
    show(crowd(2_000, 'deliver', 'connection'));
    expect(text()).toBe('Connection lost. Trying again…');
    show(null);
    expect(box.hidden).toBe(true);
  });

  it('counts down in steps, and ends when there is nothing to count', async () => {
    const { show, text } = place();
    show(crowd(20_000));
    const seen = new Set([text()]);
    for (let second = 0; second < 30; second++) {
      await pass(1_000);
      seen.add(text());
    }
    expect([...seen].map((line) => /in (.*)\.$/.exec(line)?.[1])).toEqual(['about 20 seconds', 'about 15 seconds', 'about 10 seconds', 'a few seconds']);
    expect(vi.getTimerCount()).toBe(1);
    show(null);
    expect(vi.getTimerCount()).toBe(0);
    show(crowd(20_000));
    document.body.replaceChildren();
    await pass(1_000);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('tells screen readers once: while it counts and offers another way, nothing changes where they listen', async () => {
    const { show, element } = place();
    expect(element.getAttribute('role')).toBe('status');
    show(crowd(20_000));
    const heard: string[] = [];
    const observer = new MutationObserver((records) => {
      for (const { target } of records) {
        const near = target instanceof Element ? target : target.parentElement;
        if (!near?.closest('[aria-live=off]')) heard.push(near?.outerHTML ?? '');
      }
    });
    observer.observe(element, { subtree: true, childList: true, characterData: true, attributes: true });
    await pass(6_000);
    show(crowd(14_000), true);
    await pass(10_000);
    show(crowd(20_000), true);
    await pass(1_000);
    expect(element.querySelector('a')?.textContent).toBe('Contact us instead');
    expect(heard).toEqual([]);
    show(null);
    await pass();
    expect(heard).not.toEqual([]);
  });

  it.each(['en', 'de-AT', 'es', 'fr'])('has a whole sentence for everything in %s', (locale) => {
    const { show, text } = place(locale);
    const lines = (['crowd', 'outage', 'queue'] as const).flatMap((cause) =>
      (['deliver', 'follow'] as const).flatMap((task) => [3_000, 20_000, 90_000].map((ms) => (show(crowd(ms, task, cause)), text()))),
    );
    // The queue says the same whatever the time and the task.
    expect(new Set(lines).size).toBe(13);
    for (const line of lines) expect(line).toMatch(/^\p{Lu}[^#]*\.$/u);
    expect(lines.some((line) => line.includes('20'))).toBe(true);
    if (locale !== 'en') expect(lines).not.toContain('There are a lot of messages at the moment. Your message will be sent automatically in a few seconds.');
  });
});
