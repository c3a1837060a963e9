// Opens the pages of a server in Chromium, as a person does, and prints what was seen as JSON.
// Usage: node graphiql.mjs CHROMIUM URL TENANT LOGIN PASSWORD TOKEN
import { chromium } from 'playwright-core';

const [program, url, tenant, login, password, token] = process.argv.slice(2);
// Without these Chromium looks for updates and other services of its maker.
const QUIET = ['disable-background-networking', 'disable-component-update', 'disable-sync', 'disable-quic', 'no-first-run'];
const args = [...QUIET, 'no-sandbox', 'disable-gpu'].map((name) => `--${name}`);
const browser = await chromium.launch({ executablePath: program, args });
const seen = { foreign: [], violations: [], errors: [] };

const opened = async (path, options = {}) => {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.on('request', (request) => {
    if (!request.url().startsWith(url) && !request.url().startsWith('data:')) seen.foreign.push(request.url());
  });
  page.on('console', (message) => {
    if (/Content.Security.Policy|Refused to/i.test(message.text())) seen.violations.push(message.text());
  });
  page.on('pageerror', (error) => seen.errors.push(error.message));
  await page.goto(url + path);
  return page;
};
const stored = (page) =>
  page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, location.href, document.cookie]));
const run = (page) => page.click('.graphiql-execute-button');
const answer = (page, text) => page.locator('.graphiql-response', { hasText: text }).waitFor();
// By name: the list has them all.
const open = async (page, name) => {
  await page.click(`.isola-examples button:text-is("${name}")`);
  await page.locator('.graphiql-tab-button[aria-selected=true]', { hasText: name }).or(
    page.locator('.graphiql-tab-active', { hasText: name })).first().waitFor();
};
const mutate = (page, query, variables) =>
  page.evaluate(
    async ([address, body]) => {
      const headers = { 'content-type': 'application/json', 'x-session-cookie': '1' };
      try {
        return await (await fetch(address, { method: 'POST', credentials: 'include', headers, body })).json();
      } catch (error) {
        return error.name;
      }
    },
    [`${url}/graphql`, JSON.stringify({ query, variables })],
  );

try {
  const page = await opened('/');
  await page.click('text=Open GraphiQL');
  // A wrong password first.
  await page.fill('[name=tenant]', tenant);
  await page.fill('[name=login]', login);
  await page.fill('[name=password]', 'not the password');
  await page.click('dialog [type=submit]');
  seen.refused = await page.textContent('dialog [role=alert]:not([hidden])');
  await page.fill('[name=password]', password);
  await page.click('dialog [type=submit]');
  seen.user = await page.textContent('.isola-user');

  await open(page, 'Viewer');
  await run(page);
  await answer(page, tenant);

  await open(page, 'ResourceChanges');
  await run(page);
  await answer(page, 'STARTED');
  seen.unremembered = await stored(page);

  // Another window, of who has a token.
  const other = await opened('/graphql');
  await other.click('role=tab[name="Token or API key"]');
  await other.fill('[name=token]', token);
  await other.check('[name=remembered]');
  await other.click('dialog [type=submit]');
  seen.other = await other.textContent('.isola-user');
  await open(other, 'CreateResource');
  await other.evaluate(() => {
    const [, variables] = document.querySelectorAll('.graphiql-editors .CodeMirror');
    variables.CodeMirror.setValue('{"input": {"name": "seen in a browser"}}');
  });
  await run(other);
  await answer(other, 'seen in a browser');
  await answer(page, 'seen in a browser');
  seen.event = await page.textContent('.graphiql-response .CodeMirror-code');

  // The button stops the subscription first.
  await run(page);
  await open(page, 'LiveResources');
  await run(page);
  await answer(page, '"totalCount": 1');
  await run(other);
  await answer(page, '"totalCount": 2');

  seen.remembered = await stored(other);
  await other.click('text=Sign out');
  await other.waitForSelector('.isola-bar >> text=Sign in');
  seen.signedOut = await stored(other);

  // A page that keeps its refresh token in the cookie, in two tabs, and a page of another site.
  const first = await opened('/');
  const second = await first.context().newPage();
  await second.goto(url + '/');
  const input = { tenant, login, password };
  const signIn = 'mutation ($input: SignInInput!) { signIn(input: $input) { session { refreshToken } } }';
  const renew = 'mutation { refreshSession(input: {}) { session { refreshToken } } }';
  seen.cookieSignedIn = await mutate(first, signIn, { input });
  seen.cookieStored = await stored(first);
  seen.cookieTabs = await Promise.all([first, second].map((tab) => mutate(tab, renew)));
  const evil = await first.context().newPage();
  await evil.route('http://evil.example/', (route) => route.fulfill({ contentType: 'text/html', body: '<p>' }));
  await evil.goto('http://evil.example/');
  seen.cookieElsewhere = await mutate(evil, renew);
  seen.cookieKept = await mutate(second, renew);
  seen.cookieSignedOut = await mutate(first, 'mutation { signOut(input: {}) { signedOut } }');
  seen.cookiesLeft = (await first.context().cookies()).length;
} finally {
  console.log(JSON.stringify(seen));
  await browser.close();
}
