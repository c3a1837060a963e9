import { useEditorContext, useSchemaStore } from '@graphiql/react';
import { createGraphiQLFetcher } from '@graphiql/toolkit';
import { GraphiQL } from 'graphiql';
import 'graphiql/style.css';
import { createClient } from 'graphql-ws';
import { setNonce } from 'get-nonce';
import { useEffect, useRef } from 'react';
import { createRoot } from 'react-dom/client';
import { EXAMPLES, useOpening, useOperations } from './examples.jsx';
import './graphiql.css';
import { Session } from './session.js';
import { Bar, useSession } from './sign-in.jsx';

const BEGINNING = `# Sign in, choose one of the examples on the left, or write an operation.
# Ctrl-Enter runs it; Ctrl-Space completes.

`;

// Dialogs add a style element while they are open. The policy of the page admits it by its nonce.
setNonce(document.currentScript.nonce);

const endpoint = location.pathname;
const session = new Session(endpoint);
// What the home page asks for is behind the #, which is never sent.
const wanted = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
const query = new URLSearchParams(location.search).get('query');

const address = new URL(endpoint, location.href);
address.protocol = address.protocol.replace('http', 'ws');
let socket = null;
const live = {
  subscribe(...given) {
    socket ??= createClient({ url: address.href, connectionParams: session.headers });
    return socket.subscribe(...given);
  },
};

const send = createGraphiQLFetcher({
  url: endpoint,
  wsClient: live,
  fetch: async (url, options) =>
    fetch(url, { ...options, headers: { ...(await session.headers()), ...options.headers } }),
});

// It sends subscriptions over the socket, and so live queries have to look like some.
const streamed = (definition) =>
  definition.directives?.some(({ name }) => name.value === 'live')
    ? { ...definition, operation: 'subscription' }
    : definition;
const fetcher = (request, options) => {
  const document = options?.documentAST;
  if (!document) return send(request, options);
  return send(request, {
    ...options,
    documentAST: { ...document, definitions: document.definitions.map(streamed) },
  });
};

// What was written is kept until the tab is closed. Variables can hold passwords, which should not stay longer.
const storage = {
  getItem: (name) => sessionStorage.getItem(name),
  setItem: (name, value) => sessionStorage.setItem(name, value),
  removeItem: (name) => sessionStorage.removeItem(name),
  clear: () => sessionStorage.clear(),
  get length() {
    return sessionStorage.length;
  },
};

// GraphiQL handles another array as other plug-ins.
const PLUGINS = [EXAMPLES];

// Opens the examples where there is room for them, and the operation that the address asks for; both once.
const Opening = () => {
  const { queryEditor } = useEditorContext({ nonNull: true });
  const schema = useSchemaStore((store) => store.schema);
  const operations = useOperations();
  const open = useOpening();
  const done = useRef(false);
  useEffect(() => {
    if (!matchMedia('(min-width: 1100px)').matches) return;
    // GraphiQL keeps the pane of a plug-in hidden that is visible from the start, and forgets it in effects of its own.
    setTimeout(() => document.querySelector('[aria-label="Show Examples"]')?.click());
  }, []);
  useEffect(() => {
    const operation = operations?.find(({ name }) => name === wanted.operation);
    // Its variables follow from the schema, which is known after signing in.
    if (done.current || !operation || !queryEditor || !schema) return;
    done.current = true;
    open(operation);
  });
  return null;
};

const Page = () => {
  const current = useSession(session);
  const who = current && `${current.slug} ${current.user}`;
  const before = useRef(who);
  useEffect(() => {
    if (before.current === who) return;
    before.current = who;
    socket?.dispose();
    socket = null;
  }, [who]);
  return (
    <>
      <Bar session={session} wanted={wanted} />
      <main>
        <GraphiQL
          fetcher={fetcher}
          storage={storage}
          schema={current ? undefined : null}
          plugins={PLUGINS}
          defaultQuery={BEGINNING}
          query={query ?? undefined}
          shouldPersistHeaders={false}
          showPersistHeadersSettings={false}
          defaultEditorToolsVisibility="variables"
        >
          <GraphiQL.Logo>
            <Opening />
          </GraphiQL.Logo>
        </GraphiQL>
      </main>
    </>
  );
};

createRoot(document.getElementById('graphiql')).render(<Page />);
