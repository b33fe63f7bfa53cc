// The answering worker dies in mid-answer. Prints STREAMING at the first delta, so that the caller can
// kill it; the service cuts the stream when another worker takes over, the client resumes without a
// cursor, and ends with one answer.
import { expect, expectAnswers, openChat, QUESTION, resumeUntilReady, succeed, textOf } from './client.mjs';

const session = openChat();
let announced = false;
session.state.onWrite = () => {
  if (announced || textOf(session.chat.messages.at(-1)) === '') return;
  announced = true;
  console.log('STREAMING');
};
await session.chat.sendMessage({ text: QUESTION });
const cut = session.chat.status === 'error';
const resumed = await resumeUntilReady(session);
const answer = await expectAnswers(session, 1);
expect(announced, 'no delta was seen before the end');
if (process.env.EXPECT_CUT !== 'no') expect(cut, 'the stream was not cut: nobody took over');
succeed({ answer, cut, resumed });
