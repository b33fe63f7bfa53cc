/** The entry of `chat.js`: registers the element, nothing else. */
import { defineGrowthChat } from './element';

declare const __BUILD_ENV__: Readonly<Partial<Record<string, string>>>;

const script = document.currentScript;
defineGrowthChat({ env: __BUILD_ENV__, scriptUrl: script instanceof HTMLScriptElement ? script.src : '' });
