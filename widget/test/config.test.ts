import { describe, expect, it } from 'vitest';
import { readConfig, type BuildEnv } from '../src/config';

function read(attributes: Record<string, string> = {}, env: BuildEnv = {}, scriptUrl = 'https://cdn.example/a/chat.js') {
  return readConfig((name) => attributes[name] ?? null, env, { scriptUrl, baseUrl: 'https://www.example/page', language: 'de-DE' });
}

describe('the configuration', () => {
  it('finds the service where the script is from', () => {
    expect(read().apiUrl).toBe('https://cdn.example/chat');
    expect(read({}, {}, '').apiUrl).toBeNull();
  });

  it('takes the address of the service or of its chat route', () => {
    for (const url of ['https://api.example', 'https://api.example/', 'https://api.example/chat', 'https://api.example/chat/']) {
      expect(read({ 'api-url': url }).apiUrl).toBe('https://api.example/chat');
    }
    expect(read({ 'api-url': 'https://api.example/api/v1' }).apiUrl).toBe('https://api.example/api/v1/chat');
    expect(read({ 'api-url': '/x' }).apiUrl).toBe('https://www.example/x/chat');
    expect(read({ 'api-url': 'javascript:alert(1)' }).apiUrl).toBeNull();
  });

  it('lets attributes win over the build, and the build over the defaults', () => {
    const env = { VITE_API_URL: 'https://build.example/chat', VITE_STREAM_TIMEOUT_MS: '3000', VITE_GDPR_NOTICE_TEXT: 'Built', VITE_FALLBACK_URL: 'https://build.example/contact', VITE_DEFAULT_PROACTIVE_MESSAGE: 'Hi' };
    expect(read({}, env)).toMatchObject({ apiUrl: 'https://build.example/chat', streamTimeoutMs: 3000, gdprNotice: 'Built', fallbackUrl: 'https://build.example/contact', proactiveMessage: 'Hi' });
    const attributes = { 'api-url': 'https://a.example', 'stream-timeout-ms': '500', 'gdpr-notice': 'Ours', 'fallback-url': '/contact', 'proactive-message': 'Hello' };
    expect(read(attributes, env)).toMatchObject({ apiUrl: 'https://a.example/chat', streamTimeoutMs: 500, gdprNotice: 'Ours', fallbackUrl: 'https://www.example/contact', proactiveMessage: 'Hello' });
    expect(read()).toMatchObject({ streamTimeoutMs: 10_000, gdprNotice: null, fallbackUrl: null, proactiveMessage: null, locale: 'de-DE' });
  });

  it('is switched off by an empty attribute', () => {
    const env = { VITE_GDPR_NOTICE_TEXT: 'Built', VITE_FALLBACK_URL: 'https://build.example/contact', VITE_DEFAULT_PROACTIVE_MESSAGE: 'Hi' };
    expect(read({ 'gdpr-notice': '', 'fallback-url': '', 'proactive-message': '' }, env)).toMatchObject({ gdprNotice: null, fallbackUrl: null, proactiveMessage: '' });
  });

  it('does without values that make no sense', () => {
    for (const value of ['0', '-1', 'soon', '1e12', '']) expect(read({ 'stream-timeout-ms': value }).streamTimeoutMs).toBe(10_000);
    expect(read({ 'fallback-url': 'javascript:alert(1)', locale: '<script>' })).toMatchObject({ fallbackUrl: null, locale: 'en' });
  });
});
