// A visitor and a person of the company: one in the widget on the demo page, one on the outside-world page,
// where Slack is. The visitor leaves their details, the person takes over, both talk, the person hands back.
//
// BASE_URL and WORLD_URL are the two pages; CONTACT_QUESTION is a message whose answer offers the contact
// form. `SCREENSHOT=path` keeps a picture of the Slack channel.
import { launch } from './launch.mjs';

const base = process.env.BASE_URL.replace(/\/$/, '');
const { WORLD_URL, QUESTION, CONTACT_QUESTION, SCREENSHOT } = process.env;
const WAIT_MS = Number(process.env.WAIT_MS ?? 20_000);
const PERSON = 'Ben Example';

const browser = await launch();
const steps = [];
const errors = [];
let visitor;
let slack;

try {
  visitor = await open(`${base}/demo`);
  slack = await open(WORLD_URL);

  await step('a visitor leaves their details and sees a promise', async () => {
    await visitor.getByRole('button', { name: 'Open the chat' }).click();
    await ask(CONTACT_QUESTION);
    const form = visitor.getByRole('form', { name: 'Leave your contact details' });
    await form.getByLabel('Name').fill('Ada <!channel>');
    await form.getByLabel('E-mail').fill('ada@visitor.example');
    await form.getByLabel('Message').fill('Call me, please.');
    await form.getByRole('checkbox').check();
    const taken = visitor.waitForResponse((response) => response.url().endsWith('/contact'));
    await form.getByRole('button', { name: 'Send details' }).click();
    const { promise } = await (await taken).json();
    if (!promise?.text || Number.isNaN(Date.parse(promise.by))) throw new Error(`no promise: ${JSON.stringify(promise)}`);
    await visitor.getByText(promise.text).waitFor();
  });

  await step('the lead is in Slack and in the CRM, inert', async () => {
    await lead().waitFor();
    await slack.locator('#slack').getByText('Ada <!channel>').first().waitFor();
    await slack.locator('#crm').getByText('ada@visitor.example').first().waitFor();
    if ((await slack.locator('.mention').count()) > 0) throw new Error('somebody is mentioned');
    // The CRM's record is known a moment later.
    await slack.locator('#slack').getByRole('link', { name: 'Open in the CRM' }).first().waitFor();
  });

  await step('a person takes over, and the visitor sees who it is', async () => {
    await slack.getByLabel('You are').selectOption(PERSON);
    await button('Take over').click();
    await presence('You are talking to Ben').waitFor();
  });

  await step('the visitor sees that the person types, and then the reply', async () => {
    await button('Reply…').click();
    const modal = slack.getByRole('dialog');
    await modal.waitFor();
    await presence('Ben').filter({ hasText: 'is typing' }).waitFor();
    await modal.getByRole('textbox').fill('Good day, how can I help?');
    await modal.locator('.primary').click();
    await modal.waitFor({ state: 'detached' });
    await said('Good day, how can I help?').waitFor();
    await presence('is typing').waitFor({ state: 'hidden' });
    const author = await said('Good day, how can I help?').locator('.author').innerText();
    if (!author.includes('Ben')) throw new Error(`it is said by ${author}`);
  });

  await step('what the visitor answers is in the thread, and no assistant speaks', async () => {
    const answers = await visitor.locator('growth-chat .answer:not([hidden])').count();
    await ask('I need a quote by Friday.');
    await thread().getByText('I need a quote by Friday.').waitFor();
    if ((await visitor.locator('growth-chat .answer:not([hidden])').count()) !== answers) throw new Error('somebody else answered');
  });

  await step('a note stays in Slack, and what is being typed there survives news', async () => {
    await write('They are in a hurry.');
    const field = lead().getByLabel('Reply in the thread');
    await field.fill('half a sent');
    await ask('By noon, even.');
    await thread().getByText('By noon, even.').waitFor();
    if ((await field.inputValue()) !== 'half a sent') throw new Error('what was being typed is gone');
    await write('reply: You will have it.');
    await said('You will have it.').waitFor();
    if (await visitor.getByText('They are in a hurry.').isVisible()) throw new Error('a note reached the visitor');
  });

  await step('a reload shows the same conversation', async () => {
    const before = await shown();
    await visitor.reload();
    await said('You will have it.').waitFor();
    await presence('You are talking to Ben').waitFor();
    const after = await shown();
    if (JSON.stringify(before) !== JSON.stringify(after)) throw new Error(`${JSON.stringify(before)} is now ${JSON.stringify(after)}`);
  });

  await step('the conversation is handed back, and the assistant answers', async () => {
    await button('Hand back').click();
    await presence('has left').waitFor();
    const answers = await visitor.locator('growth-chat .answer:not([hidden])').count();
    await ask(QUESTION);
    const answer = visitor.locator('growth-chat .answer').nth(answers);
    await answer.and(visitor.locator('[data-status=done]')).waitFor();
    if (!(await answer.locator('.prose').innerText())) throw new Error('the assistant says nothing');
    if (await answer.locator('.author').isVisible()) throw new Error('it is said by a person');
  });

  if (errors.length > 0) throw new Error(`a page reported: ${errors.join('; ')}`);
  console.log(JSON.stringify({ ok: true, browser: browser.version(), steps }));
} catch (error) {
  console.error(`${error.message}\nsteps done: ${steps.join(', ') || 'none'}`);
  process.exitCode = 1;
} finally {
  if (SCREENSHOT) await slack?.screenshot({ path: SCREENSHOT, fullPage: true }).catch(() => undefined);
  await browser.close();
}

async function step(name, work) {
  try {
    await work();
  } catch (error) {
    throw new Error(`${name}: ${error.message}`);
  }
  steps.push(name);
}

async function open(address) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 820 }, locale: 'en-GB' });
  const opened = await context.newPage();
  opened.setDefaultTimeout(WAIT_MS);
  opened.on('pageerror', (error) => errors.push(error.message));
  opened.on('console', (message) => {
    if (/Content Security Policy/.test(message.text())) errors.push(message.text());
  });
  await opened.goto(address);
  return opened;
}

async function ask(text) {
  await visitor.getByRole('textbox', { name: 'Your message' }).fill(text);
  await visitor.keyboard.press('Enter');
}

/** The message in Slack that began the visitor's thread; what they told later is in the thread. */
function lead() {
  return slack.locator('#slack > .message').filter({ has: slack.locator('.thread') }).first();
}

/** A button of the newest message about the visitor. */
function button(name) {
  return slack.locator('#slack').getByRole('button', { name }).first();
}

function thread() {
  return lead().locator('.thread');
}

/** Writes a reply in the thread. */
async function write(text) {
  await lead().getByLabel('Reply in the thread').fill(text);
  await slack.keyboard.press('Enter');
  await thread().locator('.message').getByText(text).waitFor();
}

/** The line of the widget that says who speaks. */
function presence(text) {
  return visitor.locator('growth-chat .presence').filter({ hasText: text });
}

/** What somebody said to the visitor. */
function said(text) {
  return visitor.locator('growth-chat .answer').filter({ hasText: text });
}

/** The conversation as the visitor sees it. */
async function shown() {
  return visitor.locator('growth-chat .message:not([hidden]) :is(.prose, .bubble p)').allInnerTexts();
}
