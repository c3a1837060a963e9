import { useEffect, useRef, useState, useSyncExternalStore } from 'react';

export const useSession = (session) => useSyncExternalStore(session.subscribe, session.snapshot);

// The bar on top: who is signed in, and the box to change that. `wanted` fills in the tenant and the login.
export const Bar = ({ session, wanted }) => {
  const current = useSession(session);
  const dialog = useRef(null);
  const open = () => {
    dialog.current.showModal();
    // Where there is something to fill in, not at the first button.
    [...dialog.current.querySelectorAll('input, textarea')].find((field) => !field.value)?.focus();
  };
  useEffect(() => {
    if (!session.snapshot()) open();
  }, [session]);
  return (
    <header className="isola-bar">
      <a className="isola-brand" href="/">
        <svg viewBox="0 0 32 32" aria-hidden="true">
          <rect x="3" y="3" width="11" height="11" rx="3" />
          <rect x="18" y="3" width="11" height="11" rx="3" />
          <rect x="3" y="18" width="11" height="11" rx="3" />
          <circle cx="23.5" cy="23.5" r="5.5" />
        </svg>
        Isola
      </a>
      <nav>
        <a href="/docs/">Documentation</a>
      </nav>
      <div className="isola-who">
        {current ? (
          <>
            <span className="isola-user" title={`${current.user ?? 'API key'} at ${current.tenant}`}>
              <strong>{current.user ?? 'API key'}</strong> <span>{current.tenant}</span>
            </span>
            <button type="button" onClick={() => session.signOut()}>Sign out</button>
          </>
        ) : (
          <button type="button" className="isola-primary" onClick={open}>Sign in</button>
        )}
      </div>
      <Box dialog={dialog} session={session} wanted={wanted} />
    </header>
  );
};

const Box = ({ dialog, session, wanted }) => {
  const [byToken, setByToken] = useState(false);
  const [failure, setFailure] = useState('');
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    const form = event.currentTarget;
    const { tenant, login, password, token, remembered } = Object.fromEntries(new FormData(form));
    setBusy(true);
    setFailure('');
    try {
      if (byToken) await session.useToken(token.trim().replace(/^Bearer\s+/i, ''), Boolean(remembered));
      else await session.signIn({ tenant: tenant.trim() || null, login: login.trim(), password }, Boolean(remembered));
      form.reset();
      dialog.current.close();
    } catch (error) {
      setFailure(error.message);
    } finally {
      setBusy(false);
    }
  };
  const choice = (value, text) => (
    <button type="button" role="tab" aria-selected={byToken === value} onClick={() => { setByToken(value); setFailure(''); }}>
      {text}
    </button>
  );
  return (
    <dialog ref={dialog} className="isola-box" aria-labelledby="isola-box-title">
      <form onSubmit={submit}>
        <h2 id="isola-box-title">Sign in</h2>
        <div role="tablist" aria-label="How to sign in">
          {choice(false, 'Password')}
          {choice(true, 'Token or API key')}
        </div>
        {byToken ? (
          <label key="token">
            Token
            <textarea name="token" rows="4" required spellCheck="false" autoComplete="off" placeholder="eyJ… or isk_…" />
          </label>
        ) : (
          <>
            <label key="tenant">
              Tenant
              <input name="tenant" defaultValue={wanted.tenant} autoComplete="organization" autoCapitalize="none" spellCheck="false" placeholder="slug or id" />
            </label>
            <label key="login">
              Login
              <input name="login" defaultValue={wanted.login} required autoComplete="username" autoCapitalize="none" spellCheck="false" />
            </label>
            <label key="password">
              Password
              <input name="password" type="password" required autoComplete="current-password" />
            </label>
          </>
        )}
        <label className="isola-check">
          <input name="remembered" type="checkbox" />
          <span>Stay signed in. Stores the session in this browser until you sign out.</span>
        </label>
        <p role="alert" hidden={!failure}>{failure}</p>
        <div className="isola-actions">
          <button type="button" onClick={() => dialog.current.close()}>Close</button>
          <button type="submit" className="isola-primary" disabled={busy}>{byToken ? 'Use token' : 'Sign in'}</button>
        </div>
      </form>
    </dialog>
  );
};
