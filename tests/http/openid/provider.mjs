// An OpenID Connect provider on loopback, with people who sign in by any password.
// Usage: node provider.mjs REDIRECT_URI. Prints its address and runs until its input ends.
import { createServer } from 'node:http';
import Provider from 'oidc-provider';

const [redirectUri] = process.argv.slice(2);
const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const client = { redirect_uris: [redirectUri], grant_types: ['authorization_code'], response_types: ['code'] };
  const provider = new Provider(issuer, {
    clients: [
      { ...client, client_id: 'isola', client_secret: 'a secret: with/odd+characters' },
      { ...client, client_id: 'isola-public', token_endpoint_auth_method: 'none' },
      { ...client, client_id: 'somebody-else', client_secret: 'another secret' },
    ],
    claims: { openid: ['sub'], profile: ['name'], email: ['email', 'email_verified'] },
    conformIdTokenClaims: false,
    findAccount: (_, id) => ({
      accountId: id,
      claims: () => ({ sub: id, name: `Person ${id}`, email: `${id}@example.org`, email_verified: id !== 'mallory' }),
    }),
    cookies: { keys: ['these cookies are of a test'] },
  });
  server.on('request', provider.callback());
  console.log(issuer);
});
process.stdin.resume().on('end', () => process.exit());
