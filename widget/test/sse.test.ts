import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SseOverflow, SseParser } from '../src/sse';

const STREAM = ': ok\n\nid: 1-1-1\ndata: {"type":"start"}\n\n: keep-alive\n\nid: 1-1-2\r\ndata: a\r\ndata: ä🙂\r\n\r\ndata:no space\rdata\r\rretry: 5\nevent: x\ndata: [DONE]\n\n';

function parse(chunks: string[]) {
  const parser = new SseParser();
  return chunks.flatMap((chunk) => parser.push(chunk));
}

describe('the SSE parser', () => {
  it('reads ids, data of several lines, every line end, and passes over comments', () => {
    expect(parse([STREAM])).toEqual([
      { lastEventId: '1-1-1', ownId: true, data: '{"type":"start"}' },
      { lastEventId: '1-1-2', ownId: true, data: 'a\nä🙂' },
      { lastEventId: '1-1-2', ownId: false, data: 'no space\n' },
      { lastEventId: '1-1-2', ownId: false, data: '[DONE]' },
    ]);
  });

  it('gives the same events wherever the stream is cut', () => {
    const whole = parse([STREAM]);
    fc.assert(
      fc.property(fc.array(fc.nat(STREAM.length), { maxLength: 40 }), (cuts) => {
        const points = [0, ...cuts.sort((a, b) => a - b), STREAM.length];
        const chunks = points.slice(1).map((end, index) => STREAM.slice(points[index], end));
        expect(parse(chunks)).toEqual(whole);
      }),
    );
    expect(parse([...STREAM])).toEqual(whole);
  });

  it('holds an event back until its blank line has come', () => {
    expect(parse(['id: 1-1-1\ndata: x\n'])).toEqual([]);
  });

  it('skips a byte order mark and an id with NUL', () => {
    expect(parse(['\ufeffid: a\0b\ndata: x\n\n'])).toEqual([{ lastEventId: '', ownId: false, data: 'x' }]);
  });

  it('gives up on an event without end instead of keeping it', () => {
    const parser = new SseParser();
    const megabyte = 'x'.repeat(512 * 1024);
    parser.push(`data: ${megabyte}`);
    expect(() => {
      parser.push(megabyte);
      parser.push(megabyte);
    }).toThrow(SseOverflow);
    expect(() => parse(Array(300).fill(`data: ${'x'.repeat(8000)}\n`))).toThrow(SseOverflow);
  });
});
