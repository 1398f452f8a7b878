import js from '@eslint/js'
import { defineConfig } from 'eslint/config'
import tseslint from 'typescript-eslint'

export default defineConfig(
  { ignores: ['dist', 'out', 'node_modules'] },
  js.configs.recommended,
  tseslint.configs.recommended,
  {
    rules: {
      // Index and `get` results are asserted where an invariant of the code itself, not the input, guarantees them.
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/consistent-type-imports': 'error',
      eqeqeq: 'error',
      'no-console': 'error',
    },
  },
  {
    files: ['bin/**', 'bench/**', 'tools/**', '*.js'],
    languageOptions: { globals: { process: 'readonly', console: 'readonly', performance: 'readonly' } },
    rules: { 'no-console': 'off' },
  },
  {
    files: ['examples/**'],
    languageOptions: {
      globals: { process: 'readonly', console: 'readonly', URL: 'readonly', AbortController: 'readonly' },
    },
    rules: { 'no-console': 'off' },
  },
  {
    // Part of browser.js runs in a page.
    files: ['test/clients/*.js'],
    languageOptions: { globals: { process: 'readonly', console: 'readonly', navigator: 'readonly', URL: 'readonly' } },
    rules: { 'no-console': 'off' },
  },
)
