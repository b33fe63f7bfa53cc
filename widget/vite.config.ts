import { defineConfig, loadEnv } from 'vite';

// The committed build must be reproducible byte for byte, so nothing of the machine may reach it:
// only the VITE_* values below are compiled in, and without them the built-in defaults hold.
const VARIABLES = [
  'VITE_API_URL',
  'VITE_FALLBACK_URL',
  'VITE_STREAM_TIMEOUT_MS',
  'VITE_DEFAULT_PROACTIVE_MESSAGE',
  'VITE_GDPR_NOTICE_TEXT',
];

export default defineConfig(({ mode }) => {
  const env = loadEnv(mode, import.meta.dirname ?? '.', 'VITE_');
  const buildEnv = Object.fromEntries(VARIABLES.flatMap((name) => (env[name] ? [[name, env[name]]] : [])));
  return {
    define: { __BUILD_ENV__: JSON.stringify(buildEnv) },
    build: {
      target: 'es2022',
      outDir: 'dist',
      emptyOutDir: true,
      copyPublicDir: false,
      reportCompressedSize: false,
      lib: {
        entry: 'src/main.ts',
        // A classic script knows its own address (document.currentScript), which is where the API is.
        formats: ['iife'],
        name: 'GrowthChat',
        fileName: () => 'chat.js',
      },
    },
    test: { environment: 'happy-dom', include: ['test/**/*.test.ts'] },
  };
});
