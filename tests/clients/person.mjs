// A person takes over, and speaks: the SDK gets legal streams, shows no empty answers, and has what was
// said. The caller plays the person, and learns by a line what the client has come to.
import { expect, openChat, QUESTION, succeed, textOf, transcript } from './client.mjs';

const session = openChat();
const { chat, errors } = session;
await chat.sendMessage({ text: QUESTION });
expect(chat.status === 'ready', `the chat is ${chat.status}`, { error: String(errors.at(-1)) });
console.log('ANSWERED');
await until('a person speaks', (told) => told.session.agent !== null);

await chat.sendMessage({ text: 'Is that a person?' });
expect(chat.status === 'ready', `the chat is ${chat.status}`, { error: String(errors.at(-1)) });
const roles = () => chat.messages.map((message) => message.role).join(' ');
expect(roles() === 'user assistant user', `the messages are "${roles()}"`);
console.log('RELAYED');
await until('the person has spoken', (told) => told.messages.length === 4);
await chat.resumeStream();
expect(roles() === 'user assistant user assistant', `the messages are "${roles()}"`);
const [here, there] = [chat.messages.at(-1), (await transcript(session)).messages.at(-1)];
expect(here.id === there.id, `the message is ${here.id} here and ${there.id} in the transcript`);
expect(errors.length === 0, 'there were errors', { error: String(errors.at(-1)) });
succeed({ answer: textOf(here), author: there.metadata.author });

async function until(what, holds) {
  for (let attempt = 0; attempt < 400; attempt++) {
    if (holds(await transcript(session))) return;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  expect(false, `it never came to this: ${what}`);
}
