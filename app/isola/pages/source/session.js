// The credential of the page. It is in memory only, unless the user chooses to stay signed in: then it is in localStorage
// until they sign out. It is never in an address.
const KEY = 'isola:session';
const EARLY = 30_000; // milliseconds before the end of an access token

const SIGN_IN = `mutation SignIn($input: SignInInput!) {
  signIn(input: $input) { session { accessToken accessTokenExpiresAt refreshToken } } }`;
const REFRESH = `mutation RefreshSession($input: RefreshSessionInput!) {
  refreshSession(input: $input) { session { accessToken accessTokenExpiresAt refreshToken } } }`;
const SIGN_OUT = 'mutation SignOut($input: SignOutInput!) { signOut(input: $input) { __typename } }';
const VIEWER = '{ viewer { user { name } tenant { slug name } } }';

export class Session {
  #endpoint;
  #listeners = new Set();
  #renewing = null;

  constructor(endpoint) {
    this.#endpoint = endpoint;
    this.current = this.#stored();
  }

  subscribe = (listener) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  snapshot = () => this.current;

  // The headers of a request, with a token that is still valid.
  headers = async () => {
    const { current } = this;
    if (!current) return {};
    if (current.refreshToken && current.expiresAt - Date.now() < EARLY) {
      this.#renewing ??= this.#renew().finally(() => (this.#renewing = null));
      await this.#renewing;
    }
    return credential(this.current);
  };

  async signIn(input, remembered) {
    const { session } = (await this.#ask(SIGN_IN, { input })).signIn;
    await this.#use(fresh(session), remembered);
  }

  async useToken(token, remembered) {
    await this.#use({ token }, remembered);
  }

  async signOut() {
    const { refreshToken } = this.current ?? {};
    this.#set(null);
    // The server's session should end as well; if it cannot be reached, it ends by itself.
    if (refreshToken) await this.#ask(SIGN_OUT, { input: { refreshToken } }).catch(() => {});
  }

  async #use(session, remembered) {
    const { viewer } = await this.#ask(VIEWER, undefined, session);
    this.#set({ ...session, remembered, user: viewer.user.name, tenant: viewer.tenant.name, slug: viewer.tenant.slug });
  }

  // A refresh token is valid once, and a second use ends the session: tabs that share one take turns.
  async #renew() {
    const renew = async () => {
      const stored = this.current?.remembered ? this.#stored() : this.current;
      if (!stored) return this.#set(null);
      if (stored.expiresAt - Date.now() >= EARLY) return this.#set(stored);
      const { refreshToken } = stored;
      try {
        const { session } = (await this.#ask(REFRESH, { input: { refreshToken } })).refreshSession;
        this.#set({ ...stored, ...fresh(session) });
      } catch (error) {
        // Without an answer the session may still be valid.
        if (error instanceof Refused) this.#set(null);
      }
    };
    await (navigator.locks ? navigator.locks.request(KEY, renew) : renew());
  }

  async #ask(query, variables, session) {
    const response = await fetch(this.#endpoint, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'application/json', ...credential(session) },
      body: JSON.stringify({ query, variables }),
    });
    const { data, errors } = await response.json();
    if (errors) throw new Refused(errors[0].message);
    return data;
  }

  #set(session) {
    this.current = session;
    if (session?.remembered) localStorage.setItem(KEY, JSON.stringify(session));
    else localStorage.removeItem(KEY);
    for (const listener of this.#listeners) listener();
  }

  #stored() {
    try {
      return JSON.parse(localStorage.getItem(KEY));
    } catch {
      return null;
    }
  }
}

class Refused extends Error {}

const fresh = ({ accessToken, accessTokenExpiresAt, refreshToken }) => ({
  token: accessToken,
  expiresAt: Date.parse(accessTokenExpiresAt),
  refreshToken,
});

const credential = (session) => {
  if (!session) return {};
  return session.token.startsWith('isk_') ? { 'X-API-Key': session.token } : { Authorization: `Bearer ${session.token}` };
};
