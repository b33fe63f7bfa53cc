// The widget in a real browser, on the demo page: asks, streams, cites, reloads in mid-answer, stops,
// stays inert under hostile text, and survives a network that goes away. `SCREENSHOT=path` keeps a picture.
//
// The stopping and reloading steps need an answer that streams for a second or longer; the questions
// can be replaced to reach such answers: QUESTION, LONG_QUESTION, and HOSTILE_QUESTION, TAKEOVER_QUESTION,
// CONTACT_QUESTION (its answer offers the contact form) and LIMIT_QUESTION (it ends the session), whose
// steps are left out without them. At the takeover STREAMING is printed when the worker may be killed.
// Without BASE_URL it all runs against the stand-in.
import { startFakeServer } from './fake-server.mjs';
import { launch } from './launch.mjs';

const standIn = process.env.BASE_URL ? null : await startFakeServer({ pace: 60 });
const base = (process.env.BASE_URL ?? standIn.url).replace(/\/$/, '');
const QUESTION = process.env.QUESTION ?? 'What services do you offer?';
const LONG_QUESTION = process.env.LONG_QUESTION ?? 'Please describe everything that you do, at length.';
const HOSTILE_QUESTION = process.env.HOSTILE_QUESTION ?? (standIn ? 'Something hostile, please' : '');
const TAKEOVER_QUESTION = process.env.TAKEOVER_QUESTION ?? (standIn ? 'A takeover, please' : '');
const CONTACT_QUESTION = process.env.CONTACT_QUESTION ?? (standIn ? 'May I talk to a person?' : '');
const LIMIT_QUESTION = process.env.LIMIT_QUESTION ?? (standIn ? 'What is the limit?' : '');
const WAIT_MS = Number(process.env.WAIT_MS ?? 20_000);

const browser = await launch();
const steps = [];
const errors = [];
let page;
let answersBefore = 0;
const requests = [];

try {
  await step('a visitor asks and sees a streamed answer with its sources', async () => {
    page = await open();
    await page.getByRole('button', { name: 'Open the chat' }).click();
    await ask(QUESTION);
    await stopButton().waitFor();
    const partial = await someText();
    await whole();
    const text = await lastAnswer().locator('.prose').innerText();
    if (text.length <= partial.length) throw new Error('the answer came in one piece');
    await lastAnswer().locator('.sources li').first().waitFor();
    await stopButton().waitFor({ state: 'hidden' });
    const secret = await page.evaluate(() => Object.values(localStorage).map((value) => JSON.parse(value).secret).find(Boolean));
    if (!secret) throw new Error('no secret is stored');
    if (requests.some((url) => url.includes(secret))) throw new Error('the secret stood in an address');
    if (process.env.SCREENSHOT) await page.screenshot({ path: process.env.SCREENSHOT });
  });

  await step('a reload in mid-answer goes on to one whole answer', async () => {
    await ask(LONG_QUESTION);
    await someText();
    const before = await page.locator('growth-chat .question').count();
    await page.reload();
    await page.locator('growth-chat .question').nth(before - 1).waitFor();
    await whole();
    await expectTranscript();
  });

  await step('a network that goes away in mid-answer costs nothing', async () => {
    const context = page.context();
    await ask(LONG_QUESTION);
    await someText();
    await context.setOffline(true);
    standIn?.cut();
    // Where the browser lets the open stream live, the answer ends without a cut.
    await Promise.race([page.getByText('Connection lost').waitFor(), whole()]);
    await context.setOffline(false);
    await whole();
    await expectTranscript();
  });

  await step('a second tab shows the same conversation', async () => {
    const other = await page.context().newPage();
    await other.goto(`${base}/demo`);
    await other.getByRole('button', { name: 'Open the chat' }).click();
    const count = await page.locator('growth-chat .message').count();
    await other.locator('growth-chat .message').nth(count - 1).waitFor();
    await other.close();
  });

  await step('the stop button keeps the partial text', async () => {
    await ask(LONG_QUESTION);
    await someText();
    await stopButton().click();
    await page.locator('growth-chat .answer[data-status=stopped]').waitFor();
    if ((await lastAnswer().locator('.prose').innerText()) === '') throw new Error('the partial text is gone');
    await expectTranscript();
  });

  if (TAKEOVER_QUESTION) {
    await step('an answer whose worker dies is begun again and shown once', async () => {
      await ask(TAKEOVER_QUESTION);
      await someText();
      console.log('STREAMING');
      await whole();
      await expectTranscript();
    });
  }

  if (HOSTILE_QUESTION) {
    await step('hostile text stays text', async () => {
      await ask(HOSTILE_QUESTION);
      await whole();
      const found = await page.evaluate(() => {
        const root = document.querySelector('growth-chat').shadowRoot;
        return {
          pwned: window.__pwned,
          elements: root.querySelectorAll('.answer .bubble :is(img, script, iframe, svg, object, style, form)').length,
          links: [...root.querySelectorAll('.answer a')].map((link) => link.protocol).filter((protocol) => !/^(https?|mailto):$/.test(protocol)),
        };
      });
      if (found.pwned || found.elements > 0 || found.links.length > 0) throw new Error(JSON.stringify(found));
    });
  }

  await step('an answer is rated, and the rating is there after a reload', async () => {
    await ask(QUESTION);
    await whole();
    const taken = page.waitForResponse((response) => response.url().endsWith('/feedback'));
    await lastAnswer().getByRole('button', { name: 'This answer was helpful' }).click();
    if ((await taken).status() !== 204) throw new Error('the rating was not taken');
    await page.reload();
    await lastAnswer().locator('.thumb.up[aria-pressed=true]').waitFor();
  });

  if (CONTACT_QUESTION) {
    await step('contact details are left with consent, and survive a reload', async () => {
      await ask(CONTACT_QUESTION);
      await whole();
      const form = page.getByRole('form', { name: 'Leave your contact details' });
      await form.waitFor();
      await form.getByLabel('Name').fill('Ada');
      await form.getByLabel('E-mail').fill('ada@visitor.example');
      await form.getByLabel('Message').fill('Call me, please.');
      await form.getByRole('button', { name: 'Send details' }).click();
      if (requests.some((url) => url.endsWith('/contact'))) throw new Error('details were sent without consent');
      await page.reload();
      await form.waitFor();
      if ((await form.getByLabel('E-mail').inputValue()) !== 'ada@visitor.example') throw new Error('what was written is gone');
      await form.getByRole('checkbox').check();
      await form.getByRole('button', { name: 'Send details' }).click();
      await page.locator('growth-chat .handoff').filter({ hasText: 'get back to you' }).waitFor();
      await form.waitFor({ state: 'hidden' });
      await page.reload();
      await page.locator('growth-chat .handoff').filter({ hasText: 'get back to you' }).waitFor();
      if (await form.isVisible()) throw new Error('the form came back');
    });
  }

  await step('the keyboard is enough', async () => {
    await page.getByRole('textbox', { name: 'Your message' }).focus();
    await page.keyboard.press('Escape');
    await page.locator('growth-chat .panel').waitFor({ state: 'hidden' });
    await page.keyboard.press('Enter');
    await page.locator('growth-chat .panel').waitFor();
    const focused = await page.evaluate(() => document.querySelector('growth-chat').shadowRoot.activeElement?.tagName);
    if (focused !== 'TEXTAREA') throw new Error(`the focus is on ${focused}`);
  });

  if (LIMIT_QUESTION) {
    await step('a session whose limit is reached goes on in a new one', async () => {
      await ask(LIMIT_QUESTION);
      await whole();
      await page.reload();
      await page.locator('growth-chat .composer').getByRole('button', { name: 'Start a new conversation' }).click();
      await page.locator('growth-chat .message').first().waitFor({ state: 'detached' });
      await ask(QUESTION);
      await whole();
    });
  }

  if (errors.length > 0) throw new Error(`the page reported: ${errors.join('; ')}`);
  console.log(JSON.stringify({ ok: true, browser: browser.version(), steps }));
} catch (error) {
  console.error(`${error.message}\nsteps done: ${steps.join(', ') || 'none'}`);
  if (process.env.SCREENSHOT) await page?.screenshot({ path: process.env.SCREENSHOT }).catch(() => undefined);
  process.exitCode = 1;
} finally {
  await browser.close();
  standIn?.close();
}

async function step(name, work) {
  try {
    await work();
  } catch (error) {
    throw new Error(`${name}: ${error.message}`);
  }
  steps.push(name);
}

async function open() {
  const context = await browser.newContext({ viewport: { width: 1280, height: 820 }, locale: 'en-GB' });
  const opened = await context.newPage();
  opened.setDefaultTimeout(WAIT_MS);
  opened.on('pageerror', (error) => errors.push(error.message));
  opened.on('request', (request) => requests.push(request.url()));
  await opened.goto(`${base}/demo`);
  return opened;
}

async function ask(question) {
  answersBefore = await page.locator('growth-chat .answer:not([hidden])').count();
  await page.getByRole('textbox', { name: 'Your message' }).fill(question);
  await page.keyboard.press('Enter');
}

function stopButton() {
  return page.getByRole('button', { name: 'Stop the answer' });
}

function lastAnswer() {
  return page.locator('growth-chat .answer').nth(answersBefore);
}

/** Waits for the first words of the answer, and gives them. */
async function someText() {
  // Found and read in one look: the answer may be whole in the next moment.
  const text = await page.waitForFunction(() => {
    const { shadowRoot } = document.querySelector('growth-chat');
    return shadowRoot?.querySelector('.answer[data-status=streaming] .prose:not(:empty)')?.innerText;
  });
  return text.jsonValue();
}

async function whole() {
  await page.waitForFunction(
    (count) => {
      const answers = document.querySelector('growth-chat').shadowRoot.querySelectorAll('.answer');
      return answers.length > count && answers[count].dataset.status === 'done';
    },
    answersBefore,
  );
}

/** What is on the screen is what the service keeps: each question once, each with one answer. */
async function expectTranscript() {
  const { shown, told } = await page.evaluate(async () => {
    const element = document.querySelector('growth-chat');
    const [key, value] = Object.entries(localStorage).find(([name]) => name.startsWith('growth-chat '));
    const { sessionId, secret } = JSON.parse(value);
    const headers = { Authorization: `Bearer ${secret}`, 'X-Widget-Token': element.getAttribute('widget-token') };
    const transcript = await (await fetch(`${key.slice('growth-chat '.length)}/${sessionId}`, { headers })).json();
    const messages = [...element.shadowRoot.querySelectorAll('.message')];
    const letters = (text) => text.replaceAll('&lt;', '<').replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').replace(/[^\p{L}\p{N}]/gu, '');
    return {
      shown: messages.map((message) => letters(message.querySelector('.prose, .bubble p').textContent)),
      told: transcript.messages.map((message) => letters(message.parts.filter((part) => part.type === 'text').map((part) => part.text).join(''))),
    };
  });
  if (JSON.stringify(shown) !== JSON.stringify(told)) throw new Error(`shown ${JSON.stringify(shown)}, told ${JSON.stringify(told)}`);
}
