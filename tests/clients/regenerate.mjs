// An answer is asked for again: a new one takes its place, here and in the transcript.
import { expect, expectAnswers, openChat, QUESTION, succeed } from './client.mjs';

const session = openChat();
await session.chat.sendMessage({ text: QUESTION });
await expectAnswers(session, 1);
const first = session.chat.messages.at(-1).id;
await session.chat.regenerate();
const answer = await expectAnswers(session, 1);
const second = session.chat.messages.at(-1).id;
expect(first !== second, 'the answer has the id of the one that it replaces');
await session.chat.sendMessage({ text: `${QUESTION} And after that?` });
await expectAnswers(session, 2);
succeed({ answer, first, second });
