// Keeps the page up to date without losing what is being typed, and sends its forms without leaving it.
// The page works without this script, too: it is loaded again by hand then.
'use strict';

const NAME = 'outside world: person';
document.documentElement.classList.add('with-script');

const person = () => document.querySelector('select[name=person]');
if (person() && localStorage.getItem(NAME)) person().value = localStorage.getItem(NAME);
document.addEventListener('change', (event) => {
  if (event.target.matches('select[name=person]')) localStorage.setItem(NAME, event.target.value);
});

// ---- the page as it is now ----

let running = false;
let again = false;

async function refresh() {
  if (running) {
    again = true;
    return;
  }
  running = true;
  try {
    const response = await fetch(location.pathname + location.search, { cache: 'no-store' });
    const next = new DOMParser().parseFromString(await response.text(), 'text/html');
    become(document.body, next.body);
    offline(false);
  } catch {
    offline(true);
  } finally {
    running = false;
    if (again) {
      again = false;
      refresh();
    }
  }
}

/** Makes `old` what `next` is and keeps what is a person's: typed text, what is open, what is scrolled. */
function become(old, next) {
  if (old.id === 'toast') return;
  for (const { name, value } of [...next.attributes]) {
    const isTheirs = name === 'open' || (name === 'value' && old === document.activeElement);
    if (!isTheirs && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    if (!next.hasAttribute(name) && name !== 'open') old.removeAttribute(name);
  }
  if (old.matches('textarea')) return;
  let child = old.firstChild;
  for (const wanted of [...next.childNodes]) {
    const found = counterpart(child, wanted);
    if (!found) {
      old.insertBefore(document.importNode(wanted, true), child);
      continue;
    }
    if (found !== child) old.insertBefore(found, child);
    else child = child.nextSibling;
    if (found.nodeType !== Node.ELEMENT_NODE) {
      if (found.data !== wanted.data) found.data = wanted.data;
    } else if (found.matches('select')) {
      if (found !== document.activeElement && found.innerHTML !== wanted.innerHTML) {
        found.replaceChildren(...[...wanted.childNodes].map((node) => document.importNode(node, true)));
      }
    } else become(found, wanted);
  }
  while (child) {
    const gone = child;
    child = child.nextSibling;
    gone.remove();
  }
}

/** What stands for `wanted` already, from `child` on: the same key, or the same kind in the same place. */
function counterpart(child, wanted) {
  const keyOf = (node) => node.dataset?.key || node.id;
  const key = keyOf(wanted);
  if (key) {
    for (let node = child; node; node = node.nextSibling) if (keyOf(node) === key) return node;
    return null;
  }
  const fits = child && child.nodeName === wanted.nodeName && !keyOf(child);
  return fits ? child : null;
}

// ---- forms ----

document.addEventListener('submit', async (event) => {
  const form = event.target;
  event.preventDefault();
  const question = event.submitter?.dataset.confirm;
  if (question && !confirm(question)) return;
  const body = new URLSearchParams(new FormData(form, event.submitter));
  if (person()?.value) body.set('person', person().value);
  const buttons = [...form.querySelectorAll('button')];
  for (const button of buttons) button.disabled = true;
  try {
    const response = await fetch(event.submitter?.getAttribute('formaction') ?? form.action, { method: 'POST', body, redirect: 'manual' });
    if (response.type === 'opaqueredirect' || response.ok) {
      for (const field of form.querySelectorAll('textarea, input[type=text]')) field.value = '';
    } else {
      if (form.matches('[data-switch]')) form.reset();
      toast(await response.text());
    }
  } catch {
    toast('This page can’t be reached any more.');
  } finally {
    for (const button of buttons) button.disabled = false;
  }
  refresh();
});

document.addEventListener('change', (event) => {
  const form = event.target.closest('form[data-switch]');
  if (!form) return;
  event.target.blur();
  form.requestSubmit();
});

document.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && !event.shiftKey && event.target.matches('textarea[data-enter]')) {
    event.preventDefault();
    event.target.form.requestSubmit();
  }
});

let hiding;
function toast(text) {
  const element = document.getElementById('toast');
  element.textContent = text;
  element.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => (element.hidden = true), 6000);
}

function offline(is) {
  document.documentElement.classList.toggle('offline', is);
}

// ---- when ----

const changes = new EventSource('/changes');
changes.addEventListener('changed', refresh);
changes.addEventListener('open', refresh);
changes.addEventListener('error', () => offline(true));
// Ages.
setInterval(() => document.visibilityState === 'visible' && refresh(), 5000);
