// Runs the clients of docs/clients.md. Usage: node driver.mjs CLIENT URL TOKEN, in the folder with the code of the page.
// Prints what was seen as JSON.
import { setTimeout as pause } from 'node:timers/promises';
import WebSocket from 'ws';

globalThis.WebSocket ??= WebSocket;
const [client, url, token] = process.argv.slice(2);

// What was sent, and the first request fails.
const sent = [];
const flaky = async (address, options) => {
  sent.push(JSON.parse(options.body));
  if (sent.length === 1) throw new TypeError('fetch failed');
  return fetch(address, options);
};
// As text and hash, by hash only, or as text only.
const forms = () => sent.map(({ query, extensions }) => [query && 'text', extensions?.persistedQuery && 'hash'].filter(Boolean).join());
// A state that never comes ends the test, with what is not there.
const until = async (holds) => {
  const end = Date.now() + 30_000;
  while (!holds()) {
    if (Date.now() > end) throw new Error(`never: ${holds}`);
    await pause(10);
  }
};
// Somebody else.
const change = async (query, input) => {
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  await fetch(url, { method: 'POST', headers, body: JSON.stringify({ query, variables: { input } }) });
};
const RENAME = 'mutation ($input: UpdateResourceInput!) { updateResource(input: $input) { resource { id } } }';
const DELETE = 'mutation ($input: DeleteResourceInput!) { deleteResource(input: $input) { deletedId } }';

// A change that succeeds, one that is refused, and changes by others, as the cache of a client shows them. `shown` has
// all lists that it has shown: an optimistic one may be there for a moment only.
const write = async (seen, names, shown, { rename, follow, id }) => {
  const first = (name) => shown.find((each) => each.includes(name));
  const renaming = rename('renamed');
  await until(() => first('renamed'));
  seen.optimistic = first('renamed');
  await renaming;
  seen.renamed = names();
  // Of a version that is not the newest any more.
  const refused = rename('lost');
  await until(() => first('lost'));
  seen.hoped = first('lost');
  seen.refused = await refused;
  await until(() => !names().includes('lost'));
  seen.restored = names();
  let started = false;
  const following = follow(() => (started = true));
  await until(() => started);
  await change(RENAME, { id, name: 'by others' });
  await until(() => names().includes('by others'));
  await change(DELETE, { id });
  await until(() => names().length === 3);
  seen.live = names();
  for (const each of following) each.unsubscribe();
};

const clients = {
  async apollo() {
    const { apollo } = await import('./apollo.js');
    const { CHANGES, RESOURCES, follow, rename } = await import('./apollo-operations.js');
    const made = apollo({ url, token, fetch: flaky });
    const list = made.watchQuery({ query: RESOURCES });
    const nodes = () => list.getCurrentResult().data?.resources?.edges?.map(({ node }) => node) ?? [];
    const names = () => nodes().map(({ name }) => name);
    const shown = [];
    const watching = list.subscribe(() => shown.push(names()));
    await until(() => names().length === 2);
    const seen = { sent: forms(), first: names() };
    await list.fetchMore({ variables: { after: list.getCurrentResult().data.resources.pageInfo.endCursor } });
    await until(() => names().length === 4);
    seen.pages = names();
    const [before] = nodes();
    await write(seen, names, shown, {
      rename: (name) => rename(made, before, name).catch(({ errors }) => errors[0].extensions.code),
      follow: (began) => [made.subscribe({ query: CHANGES }).subscribe(began), follow(made)],
      id: before.id,
    });
    watching.unsubscribe();
    made.close();
    return seen;
  },

  async urql() {
    const { gql } = await import('@urql/core');
    const { urql } = await import('./urql.js');
    const made = urql({ url, token, fetch: flaky });
    const fields = 'edges { cursor node { id name updatedAt } } pageInfo { hasNextPage endCursor }';
    const RESOURCES = gql`query ($after: String) { resources(first: 2, after: $after) { ${fields} } }`;
    let result;
    const shown = [];
    const watch = (variables) =>
      made.query(RESOURCES, variables).subscribe((each) => {
        result = each;
        shown.push(names());
      });
    const names = () => result?.data?.resources.edges.map(({ node }) => node.name) ?? [];
    const first = watch({});
    await until(() => names().length === 2);
    const seen = { sent: forms(), first: names() };
    const second = watch({ after: result.data.resources.pageInfo.endCursor });
    await until(() => names().length === 4);
    seen.pages = names();
    const [{ node: before }] = result.data.resources.edges;
    const RENAMING = gql`mutation ($input: UpdateResourceInput!) { updateResource(input: $input) { resource { id name updatedAt } } }`;
    const CHANGES = gql`subscription { resourceChanges { kind id node { id name updatedAt } } }`;
    await write(seen, names, shown, {
      rename: async (name) => {
        const input = { id: before.id, name, expectedUpdatedAt: before.updatedAt };
        const { error } = await made.mutation(RENAMING, { input }).toPromise();
        return error?.graphQLErrors[0].extensions.code;
      },
      follow: (began) => [made.subscription(CHANGES).subscribe(began)],
      id: before.id,
    });
    for (const each of [first, second]) each.unsubscribe();
    made.close();
    return seen;
  },

  async relay() {
    const { commitMutation, fetchQuery, requestSubscription } = await import('relay-runtime');
    const { relay } = await import('./relay.js');
    const generated = async (name) => (await import(`./relay/__generated__/operations${name}.graphql.js`)).default;
    const made = relay({ url, token });
    const { resources } = await fetchQuery(made, await generated('ResourcesQuery'), {}).toPromise();
    const names = resources.edges.map(({ node }) => node.name);
    let started = false;
    const events = [];
    const following = requestSubscription(made, {
      subscription: await generated('ChangesSubscription'),
      variables: {},
      onNext: ({ resourceChanges }) => (resourceChanges.kind === 'STARTED' ? (started = true) : events.push(resourceChanges)),
    });
    await until(() => started);
    const [{ node }] = resources.edges;
    const mutation = await generated('RenameMutation');
    await new Promise((onCompleted, onError) =>
      commitMutation(made, { mutation, variables: { input: { id: node.id, name: 'by relay' } }, onCompleted, onError }),
    );
    await until(() => events.length);
    following.dispose();
    made.close();
    return { names, stored: made.getStore().getSource().get(node.id).name, event: [events[0].kind, events[0].node.name] };
  },

  async codegen() {
    const { execute, RESOURCES } = await import('./built/resources.js');
    const { resources } = await execute({ url, token }, RESOURCES, { filter: { name: { startsWith: 'by' } } });
    return { names: resources.nodes.map(({ name }) => name) };
  },

  async manifest() {
    const { apollo } = await import('./apollo.js');
    const { RESOURCES } = await import('./apollo-operations.js');
    const recording = async (address, options) => (sent.push(JSON.parse(options.body)), fetch(address, options));
    const made = apollo({ url, token, fetch: recording });
    const { data } = await made.query({ query: RESOURCES });
    made.close();
    return { sent: forms(), names: data.resources.edges.map(({ node }) => node.name) };
  },
};

console.log(JSON.stringify(await clients[client]()));
